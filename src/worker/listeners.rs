//! The listeners of a worker, with those that a reload removed and that still have sessions.

use std::io;
use std::net::SocketAddr;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use log::{debug, error};

use crate::board::{HandshakeColumn, ListenerColumn, RouteColumn};
use crate::config::model;
use crate::core::address::Address;
use crate::core::limit::RateLimit;
use crate::core::opening::Plan;
use crate::core::slots::Slots;
use crate::core::time::Tick;
use crate::net::{Kind, Net, Target};
use crate::tls::ServerSettings;
use crate::worker::io_space::IoSpace;
use crate::worker::keys::{ListenerSlot, UpstreamSlot, key_of};
use crate::worker::listening_sockets::{ListeningSocket, ListeningSockets, Opened};
use crate::worker::site::Site;
use crate::worker::tls_routes::TlsRoutes;

/// A listener as its sessions see it.
pub(crate) struct ListenerState<N: Net> {
    pub(crate) name: String,
    pub(crate) address: Address,
    /// The port of its sockets, which the kernel may have chosen; none of Unix sockets.
    pub(crate) port: Option<u16>,
    pub(crate) sockets: ListeningSockets<N>,
    pub(crate) queued: bool,
    pub(crate) pause: Pause,
    /// Nobody new comes into its queues. Until then handshakes end there, which are waited for;
    /// after that it closes once they are empty.
    pub(crate) closes_at: Option<Tick>,
    /// When a configuration without it came.
    pub(crate) removed_since: Option<Tick>,
    pub(crate) active: usize,
    pub(crate) connections_max: Option<usize>,
    pub(crate) timeouts: model::Timeouts,
    /// TCP: where its connections go.
    pub(crate) upstream: UpstreamSlot,
    /// Whether new connections speak HTTP.
    pub(crate) is_http: bool,
    /// HTTP: what it does with requests. It stays when a reload makes this a TCP listener, for
    /// the sessions that are there.
    pub(crate) site: Option<Arc<Site>>,
    /// Where connections go by what their ClientHello says.
    pub(crate) tls_routes: TlsRoutes,
    /// What others are decrypted with; none where they are not.
    pub(crate) tls: Option<Arc<ServerSettings>>,
    /// When it began to decrypt, after it had not.
    pub(crate) secured_since: Option<Tick>,
    /// What is read of its clients before their sessions are settled.
    pub(crate) plan: Plan,
    /// Who may send a PROXY header; none where nobody has to.
    pub(crate) proxies: Option<model::ProxyProtocol>,
    pub(crate) stranger_log: RateLimit,
    pub(crate) column: ListenerColumn,
    /// Those of its routes that are counted, by what they are called.
    pub(crate) route_columns: Vec<(String, RouteColumn)>,
    /// Once it has expected handshakes.
    pub(crate) handshakes: Option<HandshakeColumn>,
}

/// Why a listener does not accept for the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It does.
    No,
    /// A connection limit is reached; goes on when a session ends.
    Full,
    /// Out of descriptors or memory; a timer goes on.
    Exhausted,
}

impl<N: Net> ListenerState<N> {
    /// Whether an event should run it now.
    pub(crate) fn may_run(&self) -> bool {
        self.pause == Pause::No && self.sockets.is_ready()
    }

    /// Whether new connections may lead to this upstream, or requests of those that it has.
    pub(crate) fn leads_to(&self, upstream: UpstreamSlot) -> bool {
        let site = self.site.as_ref();
        let is_target = self.is_tcp() && self.upstream == upstream;
        is_target
            || self.tls_routes.leads_to(upstream)
            || site.is_some_and(|site| site.leads_to(upstream))
    }

    /// Whether new connections go to one upstream.
    fn is_tcp(&self) -> bool {
        let is_by_hello_alone = self.plan.client_hello && self.tls.is_none();
        !self.is_http && !is_by_hello_alone
    }

    /// Whether this peer may connect: where a PROXY header is expected, not everybody is believed.
    pub(crate) fn admits(&self, peer: Option<SocketAddr>) -> bool {
        let proxies = self.proxies.as_ref();
        proxies.is_none_or(|proxies| proxies.admits(peer.map(|peer| peer.ip())))
    }
}

/// The table of listeners.
pub(crate) struct ListenerTable<N: Net> {
    pub(crate) list: Vec<ListenerState<N>>,
    /// The slots of the listening sockets that are ours to accept from.
    pub(crate) slots: Slots,
    /// When the worker was asked to stop; once it no longer accepts, since then.
    pub(crate) draining_since: Option<Tick>,
    /// Whether others have taken over its sockets, so that weir goes on.
    pub(crate) are_left: bool,
}

impl<N: Net> Index<ListenerSlot> for ListenerTable<N> {
    type Output = ListenerState<N>;

    fn index(&self, slot: ListenerSlot) -> &ListenerState<N> {
        &self.list[slot as usize]
    }
}

impl<N: Net> IndexMut<ListenerSlot> for ListenerTable<N> {
    fn index_mut(&mut self, slot: ListenerSlot) -> &mut ListenerState<N> {
        &mut self.list[slot as usize]
    }
}

impl<N: Net> ListenerTable<N> {
    /// None yet.
    pub(crate) const fn new(slots: Slots) -> Self {
        Self {
            list: Vec::new(),
            slots,
            draining_since: None,
            are_left: false,
        }
    }

    /// Since when clients of a listener are to go once they are between two requests: as the
    /// worker is to stop, or as the listener has been removed.
    pub(crate) fn parts_since(&self, listener: ListenerSlot) -> Option<Tick> {
        let removed = self[listener].removed_since;
        self.draining_since.or(removed)
    }

    /// Whether weir is about to end.
    pub(crate) fn are_ending(&self) -> bool {
        self.draining_since.is_some() && !self.are_left
    }

    /// Accepts from the sockets in these slots, and no more from others.
    pub(crate) fn accept_from(&mut self, io: &mut IoSpace<N>, slots: Slots) {
        self.slots = slots;
        for key in 0..self.list.len() {
            for at in 0..self.list[key].sockets.0.len() {
                if let Err(error) = self.settle_socket(io, key_of(key), at) {
                    let name = &self.list[key].name;
                    error!("listener {name}: cannot watch a socket: {error}");
                }
            }
        }
    }

    /// Gives a listener a socket; the generation by which it can be taken back.
    pub(crate) fn add_socket(
        &mut self,
        io: &mut IoSpace<N>,
        key: ListenerSlot,
        opened: Opened<N::Listener>,
    ) -> io::Result<u32> {
        let generation = io.next_generation();
        let listener = &mut self[key];
        // Asked here, once, and not for each connection.
        listener.port = io.net.listening_port(&opened.socket);
        let sockets = &mut listener.sockets;
        sockets.0.push(ListeningSocket {
            socket: opened.socket,
            slot: opened.slot,
            generation,
            watched: false,
            ready: false,
        });
        let at = sockets.0.len() - 1;
        if let Err(error) = self.settle_socket(io, key, at) {
            self.close_socket(io, key, at);
            return Err(error);
        }
        Ok(self[key].sockets.0[at].generation)
    }

    /// Takes back a socket that was given.
    pub(crate) fn remove_socket(
        &mut self,
        io: &mut IoSpace<N>,
        key: ListenerSlot,
        generation: u32,
    ) {
        let sockets = &self[key].sockets.0;
        if let Some(at) = sockets
            .iter()
            .position(|socket| socket.generation == generation)
        {
            self.close_socket(io, key, at);
        }
    }

    /// Closes the sockets of a listener that are not ours to empty.
    pub(crate) fn close_unwatched(&mut self, io: &mut IoSpace<N>, key: ListenerSlot) {
        for at in (0..self[key].sockets.0.len()).rev() {
            if !self[key].sockets.0[at].watched {
                self.close_socket(io, key, at);
            }
        }
    }

    /// Closes all sockets of a listener.
    pub(crate) fn close_sockets(&mut self, io: &mut IoSpace<N>, key: ListenerSlot) {
        while let Some(last) = self[key].sockets.0.len().checked_sub(1) {
            self.close_socket(io, key, last);
        }
    }

    fn close_socket(&mut self, io: &mut IoSpace<N>, key: ListenerSlot, at: usize) {
        let listener = &mut self[key];
        let socket = listener.sockets.0.swap_remove(at);
        if !listener.sockets.is_open() {
            debug!("listener {} closed", listener.name);
        }
        io.net.stop_listening(socket.socket);
    }

    /// Watches a socket or not, as its slot asks.
    fn settle_socket(
        &mut self,
        io: &mut IoSpace<N>,
        key: ListenerSlot,
        at: usize,
    ) -> io::Result<()> {
        let slots = self.slots;
        let socket = &self[key].sockets.0[at];
        let is_ours = socket.slot.is_none_or(|slot| slots.has(slot));
        if is_ours == socket.watched {
            return Ok(());
        }
        let generation = io.next_generation();
        let ListenerState { sockets, .. } = &mut self[key];
        let socket = &mut sockets.0[at];
        let net = &mut io.net;
        if is_ours {
            let target = Target {
                kind: Kind::Listener,
                key,
                generation,
            };
            net.watch_listener(&socket.socket, target)?;
            socket.generation = generation;
        } else {
            net.unwatch_listener(&socket.socket);
            socket.ready = false;
        }
        socket.watched = is_ours;
        Ok(())
    }
}
