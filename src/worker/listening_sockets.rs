//! The listening sockets of a listener.
//!
//! A process on its own has one for each listener. Several processes have one each for a TCP
//! listener, known by its slot, and hold those of the others too: unwatched, until they are asked
//! to accept from them because nobody else does.

use crate::net::Net;

/// A listening socket for a worker.
#[derive(Debug)]
pub struct Opened<L> {
    /// Its slot; none for one that every worker always accepts from.
    pub slot: Option<u8>,
    /// The socket.
    pub socket: L,
}

/// A listening socket of a listener.
pub(crate) struct ListeningSocket<N: Net> {
    pub(crate) socket: N::Listener,
    pub(crate) slot: Option<u8>,
    /// Of its present or last watch.
    pub(crate) generation: u32,
    pub(crate) watched: bool,
    /// Something may be in its queue.
    pub(crate) ready: bool,
}

/// The sockets of one listener; none once it no longer accepts.
pub(crate) struct ListeningSockets<N: Net>(pub(crate) Vec<ListeningSocket<N>>);

impl<N: Net> ListeningSockets<N> {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.0.iter().any(|socket| socket.ready)
    }

    /// A socket in whose queue there may be something.
    pub(crate) fn ready(&self) -> Option<(usize, &N::Listener)> {
        let at = self.0.iter().position(|socket| socket.ready)?;
        Some((at, &self.0[at].socket))
    }

    /// The queue of a socket is empty.
    pub(crate) fn on_blocked(&mut self, at: usize) {
        self.0[at].ready = false;
    }

    /// Something has arrived; whether a socket is watched under that generation.
    pub(crate) fn mark(&mut self, generation: u32) -> bool {
        let mut sockets = self.0.iter_mut();
        let socket = sockets.find(|socket| socket.watched && socket.generation == generation);
        socket.map(|socket| socket.ready = true).is_some()
    }

    /// Nobody new comes into any queue.
    pub(crate) fn admit_no_more(&mut self, net: &mut N) {
        for socket in &mut self.0 {
            net.admit_no_more(&mut socket.socket);
        }
    }

    /// Every queue that is ours to empty is looked at once more.
    pub(crate) fn mark_all(&mut self) {
        for socket in &mut self.0 {
            socket.ready = socket.watched;
        }
    }
}
