//! All connections to backends, in one table: those that sessions use, those
//! that are parked, and those of probes.
//!
//! A connection is watched once, for life, and stays where it is. Who has it is one word, and
//! changing that touches no descriptor. An event leads by its key to the connection, and from there
//! to its owner.

use slab::Slab;

use crate::core::backend::BackendId;
use crate::core::timer::TimerKey;
use crate::net::Net;
use crate::worker::keys::{ConnectionKey, key_of};
use crate::worker::transport::Endpoint;

/// Who has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The session of this key, which closes it before it ends.
    Session(u32),
    /// Nobody: it waits for a request.
    Parked,
    /// The probe of this key, for which it was made.
    Probe(u32),
}

/// A connection to a backend.
pub(crate) struct Connection<N: Net> {
    pub(crate) endpoint: Endpoint<N>,
    pub(crate) owner: Owner,
    pub(crate) backend: BackendId,
    /// [`moves`](crate::worker::backend_entry::BackendEntry::moves) when it was opened.
    pub(crate) moves: u32,
    /// Armed while it is parked. It stays for a request that comes in between.
    pub(crate) parked_timer: Option<TimerKey>,
}

/// The table. Those who hold a key close the connection, or hand it on, before they let the key go.
pub(crate) struct Connections<N: Net>(pub(crate) Slab<Connection<N>>);

impl<N: Net> Connections<N> {
    pub(crate) fn new() -> Self {
        Self(Slab::new())
    }

    pub(crate) fn get(&self, key: ConnectionKey) -> &Connection<N> {
        &self.0[key as usize]
    }

    pub(crate) fn get_mut(&mut self, key: ConnectionKey) -> &mut Connection<N> {
        &mut self.0[key as usize]
    }

    /// The one that a timer or an event is for, if it is still there.
    pub(crate) fn find(&mut self, key: ConnectionKey) -> Option<&mut Connection<N>> {
        self.0.get_mut(key as usize)
    }

    pub(crate) fn endpoint(&self, key: ConnectionKey) -> &Endpoint<N> {
        &self.get(key).endpoint
    }

    pub(crate) fn endpoint_mut(&mut self, key: ConnectionKey) -> &mut Endpoint<N> {
        &mut self.get_mut(key).endpoint
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &Connection<N>)> {
        self.0.iter().map(|(key, it)| (key_of(key), it))
    }
}
