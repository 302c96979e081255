//! All connections to backends, in one table: those that sessions use, those
//! that are parked, and those of probes.
//!
//! A connection is watched once, for life, and stays where it is. Who has it is one word, and
//! changing that touches no descriptor. An event leads by its key to the connection, and from there
//! to its owner.

use std::io::ErrorKind;

use slab::Slab;

use crate::core::address::Address;
use crate::core::backend::BackendId;
use crate::core::timer::TimerKey;
use crate::net::{ConnectError, Fired, Kind, Net, Target};
use crate::worker::Worker;
use crate::worker::keys::{ConnectionKey, key_of};
use crate::worker::probe::Probe;
use crate::worker::session::Session;
use crate::worker::shared::Shared;
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
    /// [`BackendEntry::moves`] when it was opened.
    pub(crate) moves: u32,
    /// Armed while it is parked. It stays for a request that comes in between.
    pub(crate) parked_timer: Option<TimerKey>,
}

/// The table. Those who hold a key close the connection, or hand it on, before they let the key go.
pub(crate) struct Connections<N: Net>(Slab<Connection<N>>);

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

    fn iter(&self) -> impl Iterator<Item = (ConnectionKey, &Connection<N>)> {
        self.0.iter().map(|(key, it)| (key_of(key), it))
    }
}

impl<N: Net> Shared<N> {
    /// Starts a connection to a backend, at the address that is its turn, and watches it for its
    /// owner.
    pub(crate) fn open_connection(
        &mut self,
        backend: BackendId,
        owner: Owner,
        connect: impl FnOnce(&mut N, &Address) -> Result<N::Stream, ConnectError>,
    ) -> Result<ConnectionKey, ConnectError> {
        let generation = self.io.next_generation();
        let net = &mut self.io.net;
        let entry = self.upstreams.entries[backend.0 as usize].as_ref();
        let entry = entry.and_then(|entry| Some((entry, entry.address_now()?)));
        let (entry, address) = entry.ok_or(ConnectError::Failed(ErrorKind::NotFound))?;
        let stream = connect(net, address)?;
        let settings = &self.upstreams[entry.upstream].settings;
        let kind = match owner {
            Owner::Probe(_) => Kind::Probe,
            Owner::Session(_) | Owner::Parked => Kind::Backend,
        };
        if let (Kind::Backend, Some(keepalive)) = (kind, &settings.keepalive) {
            net.set_keepalive(&stream, keepalive);
        }
        let vacant = self.connections.0.vacant_entry();
        let key = key_of(vacant.key());
        let target = Target {
            kind,
            key,
            generation,
        };
        let endpoint = Endpoint::watched(stream, target, net)
            .map_err(|error| ConnectError::Failed(error.kind()))?;
        vacant.insert(Connection {
            endpoint,
            owner,
            backend,
            moves: entry.moves,
            parked_timer: None,
        });
        Ok(key)
    }

    /// Closes a connection that nobody uses any more.
    pub(crate) fn close_connection(&mut self, key: ConnectionKey) {
        if let Some(endpoint) = self.remove_connection(key) {
            endpoint.close(&mut self.io.net);
        }
    }

    /// Closes a connection on which nothing is to be said any more.
    pub(crate) fn cut_connection(&mut self, key: ConnectionKey) {
        if let Some(endpoint) = self.remove_connection(key) {
            endpoint.cut(&mut self.io.net);
        }
    }

    /// Ends a connection so that the backend sees that its answer is not wanted.
    pub(crate) fn reset_connection(&mut self, key: ConnectionKey) {
        if let Some(endpoint) = self.remove_connection(key) {
            endpoint.reset(&mut self.io.net);
        }
    }

    /// Takes a connection out of the table, to be ended.
    pub(crate) fn remove_connection(&mut self, key: ConnectionKey) -> Option<Endpoint<N>> {
        let connection = self.connections.0.try_remove(key as usize)?;
        if let Some(timer) = connection.parked_timer {
            self.timers.wheel.cancel(timer);
        }
        if connection.owner == Owner::Parked {
            self.forget_parked(connection.backend, key);
        }
        self.starving.on_freed();
        Some(connection.endpoint)
    }
}

impl<N: Net> Worker<N> {
    /// Notes an event of a connection, and has its owner look at it.
    pub(crate) fn mark_connection(&mut self, event: &Fired) -> bool {
        let key = event.target.key;
        let Some(connection) = self.shared.connections.find(key) else {
            return false;
        };
        let endpoint = &mut connection.endpoint;
        if !endpoint.mark(event.target.generation, event.ready) {
            return false;
        }
        match connection.owner {
            Owner::Session(session) => self.queue_session(session),
            Owner::Parked => self.fired_parked.push(key),
            Owner::Probe(probe) => self.runnable_probes.push_back(probe),
        }
        true
    }

    /// Every connection has the owner that it names, and nobody else has a key to it.
    pub(crate) fn check_connections(&self) -> Result<(), String> {
        let shared = &self.shared;
        for (key, connection) in shared.connections.iter() {
            let is_held = match connection.owner {
                Owner::Session(session) => {
                    let session = self.sessions.get(session as usize);
                    session.and_then(Session::connection) == Some(key)
                }
                Owner::Parked => shared.is_parked(connection.backend, key),
                Owner::Probe(probe) => {
                    let probe = self.probes.get(probe as usize);
                    probe.and_then(Probe::connection) == Some(key)
                }
            };
            if !is_held {
                let owner = connection.owner;
                return Err(format!("connection {key} is not that of {owner:?}"));
            }
        }
        let in_use = self.sessions.iter().filter_map(|(_, it)| it.connection());
        let parked = shared
            .upstreams
            .entries
            .iter()
            .flatten()
            .map(|it| it.parked.len());
        let probing = self.probes.iter().filter_map(|(_, it)| it.connection());
        let held = in_use.count() + parked.sum::<usize>() + probing.count();
        match shared.connections.0.len() {
            open if open == held => Ok(()),
            open => Err(format!("{open} connections are open, {held} are held")),
        }
    }
}
