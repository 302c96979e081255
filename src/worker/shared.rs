//! What all sessions of a worker share, in parts of their own: the seam with its buffers, the
//! clock, the board, the tables of listeners, upstreams and connections, what HTTP sessions use
//! in turn, and the queue for descriptors. What needs one part takes that part; what needs
//! several takes all. A session runs with two disjoint borrows, itself and this.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use log::warn;

use crate::board::{Board, Cell, CodeClass, CountedListeners, Span};
use crate::config::model;
use crate::core::address::Address;
use crate::core::backend::BackendId;
use crate::core::client_hello::ClientHello;
use crate::core::finding::Reason;
use crate::core::handshake::Handshake;
use crate::core::limit::RateLimit;
use crate::core::rng::Rng;
use crate::net::{ConnectError, Kind, Net, Target};
use crate::tls::TicketKeys;
use crate::worker::connections::{Connection, Connections, Owner};
use crate::worker::descriptor_queue::DescriptorQueue;
use crate::worker::handshakes::Handshakes;
use crate::worker::http::space::HttpSpace;
use crate::worker::io_space::IoSpace;
use crate::worker::kept::Decisions;
use crate::worker::keys::{ConnectionKey, ListenerSlot, UpstreamSlot, key_of};
use crate::worker::listeners::ListenerTable;
use crate::worker::preface::Prefaces;
use crate::worker::site::Site;
use crate::worker::timers::Timers;
use crate::worker::transport::Endpoint;
use crate::worker::turn::CloseReason;
use crate::worker::upstreams::{Upstream, UpstreamTable};

/// What a thinned log line says of those that were left out.
pub(crate) fn more(suppressed: u64) -> String {
    match suppressed {
        0 => String::new(),
        count => format!(" ({count} more since the last such line)"),
    }
}

/// What all sessions of a worker share.
pub(crate) struct Shared<N: Net> {
    pub(crate) io: IoSpace<N>,
    pub(crate) timers: Timers,
    pub(crate) board: Board,
    pub(crate) listeners: ListenerTable<N>,
    pub(crate) upstreams: UpstreamTable,
    pub(crate) rng: Rng,
    pub(crate) decisions: Decisions,
    /// Those to backends, whoever has them.
    pub(crate) connections: Connections<N>,
    pub(crate) prefaces: Prefaces,
    pub(crate) http: HttpSpace,
    /// Sessions that wait for a descriptor.
    pub(crate) descriptor_queue: DescriptorQueue,
    pub(crate) handshakes: Handshakes,
    /// What seals session tickets, unless a listener has keys of its own.
    pub(crate) ticket_keys: Arc<TicketKeys>,
}

impl<N: Net> Shared<N> {
    /// One timeout of a session between these two: the upstream's where it has one.
    pub(crate) fn timeout(
        &self,
        listener: ListenerSlot,
        upstream: UpstreamSlot,
        of_upstream: impl Fn(&model::TimeoutOverrides) -> Option<Duration>,
        of_listener: impl Fn(&model::Timeouts) -> Duration,
    ) -> Duration {
        let over = &self.upstreams[upstream].settings.timeouts;
        of_upstream(over).unwrap_or_else(|| of_listener(&self.listeners[listener].timeouts))
    }

    /// No backend could be had, for this reason: logged at most once a second and upstream.
    pub(crate) fn log_refused(
        &mut self,
        upstream: UpstreamSlot,
        listener: ListenerSlot,
        reason: CloseReason,
    ) {
        let now = self.timers.now;
        let upstream = &mut self.upstreams[upstream];
        if let Some(suppressed) = upstream.refused_log.allow(now) {
            let more = more(suppressed);
            let what = match reason == CloseReason::NoBackend {
                true => " has no usable backend".to_owned(),
                false => format!(": {}", reason.words()),
            };
            warn!(
                "listener {}: upstream {}{what}{more}",
                self.listeners[listener].name, upstream.name
            );
        }
    }

    /// TLS with a backend has failed on a session: logged at most once a second and upstream, as
    /// nobody else may tell of it. Probes tell what they find themselves.
    #[cold]
    pub(crate) fn log_tls_failure(&mut self, key: ConnectionKey, reason: Reason) {
        let Connection { owner, backend, .. } = self.connections.get(key);
        if let Owner::Probe(_) = owner {
            return;
        }
        let backend = *backend;
        if let Some((label, more)) = self.may_tell(backend, |it| &mut it.tls_log) {
            warn!("backend {label}: {reason}{more}");
        }
    }

    /// A connection could not be started, which is no fault of its backend: logged at most once a
    /// second and upstream, as all that come meanwhile fail alike.
    #[cold]
    pub(crate) fn log_unstarted(&mut self, backend: BackendId, kind: ErrorKind) {
        if let Some((label, more)) = self.may_tell(backend, |it| &mut it.start_log) {
            warn!("backend {label}: no connection could be started: {kind}{more}");
        }
    }

    /// A backend has sent what is no response, or breaks one off: logged at most once a second and
    /// upstream, as each request may meet the same.
    #[cold]
    pub(crate) fn log_bad_response(&mut self, backend: BackendId, reason: &str) {
        if let Some((label, more)) = self.may_tell(backend, |it| &mut it.response_log) {
            warn!("bad response of {label}: {reason}{more}");
        }
    }

    /// Whether a line of one kind may be written of a backend now: with what it is called, and what
    /// is said of lines left out.
    fn may_tell(
        &mut self,
        backend: BackendId,
        kind: impl Fn(&mut Upstream) -> &mut RateLimit,
    ) -> Option<(&str, String)> {
        let upstream = self.upstreams.entry(backend).upstream;
        let suppressed = kind(&mut self.upstreams[upstream]).allow(self.timers.now)?;
        Some((&self.upstreams.entry(backend).label, more(suppressed)))
    }

    /// A client said who it is not as it has to, or may not be here: logged at most once a second
    /// and listener.
    #[cold]
    pub(crate) fn log_stranger(
        &mut self,
        listener: ListenerSlot,
        peer: Option<SocketAddr>,
        hello: Option<&ClientHello>,
        reason: CloseReason,
    ) {
        let now = self.timers.now;
        let listener = &mut self.listeners[listener];
        if let Some(suppressed) = listener.stranger_log.allow(now) {
            let more = more(suppressed);
            let who = peer.map_or_else(|| "a Unix client".to_owned(), |peer| peer.to_string());
            let (name, words) = (&listener.name, reason.words());
            let wanted = hello.and_then(|hello| hello.server_name.as_deref());
            let wanted = wanted.map_or_else(String::new, |it| format!(", which asked for {it},"));
            warn!("listener {name}: {who}{wanted} closed: {words}{more}");
        }
    }

    /// Counts a response by its status: of a backend once its final head is to pass, of weir's own
    /// when it is sent.
    pub(crate) fn count_code(&self, listener: ListenerSlot, status: u16) {
        self.count(listener, CodeClass::of(status), 1);
    }

    /// The same of a route. What began before a reload counts for the listener alone, as its route
    /// may be another one now.
    pub(crate) fn count_route(
        &self,
        listener: ListenerSlot,
        site: &Site,
        route: usize,
        status: u16,
    ) {
        let current = self.listeners[listener].site.as_deref();
        if current.is_some_and(|it| std::ptr::eq(it, site)) {
            let column = site.routes[route].column;
            self.board.add(column, CodeClass::of(status), 1);
        }
    }

    /// Notes how long something took at an upstream.
    pub(crate) fn time(&self, upstream: UpstreamSlot, span: Span, ms: u64) {
        self.board
            .record_ms(self.upstreams[upstream].column, span, ms);
    }

    /// Counts for a listener.
    pub(crate) fn count(
        &self,
        listener: ListenerSlot,
        cell: impl Cell<CountedListeners>,
        count: u64,
    ) {
        self.board.add(self.listeners[listener].column, cell, count);
    }

    /// The present date as HTTP writes it.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        self.http.date(&self.io.net, self.timers.now)
    }

    /// Counts a handshake of a client, where there are any.
    #[cold]
    pub(crate) fn count_handshake(&self, listener: ListenerSlot, ended: Handshake) {
        if let Some(column) = self.listeners[listener].handshakes {
            self.board.add(column, ended, 1);
        }
    }

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
        let upstream = &self.upstreams[entry.upstream];
        let settings = &upstream.settings;
        let tls = upstream.connect_tls(&entry.address);
        if settings.tls.is_some() && tls.is_none() {
            // Never as if it had none.
            return Err(ConnectError::Failed(ErrorKind::InvalidInput));
        }
        let stream = connect(net, address)?;
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
        let endpoint = Endpoint::watched(stream, target, net, tls)
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

    /// Writes what a new connection begins with, and this behind it: as [`Prefaces::write`].
    pub(crate) fn write_first(
        &mut self,
        key: ConnectionKey,
        more: &[u8],
    ) -> Result<usize, ErrorKind> {
        let endpoint = self.connections.endpoint_mut(key);
        self.prefaces.write(key, endpoint, &mut self.io.net, more)
    }

    /// Goes on with what comes before all else on a connection that stands: its preface and its
    /// handshake, if it has them. `Ready` where bytes of a session can follow, perhaps behind the
    /// preface; the failure in words for a log.
    pub(crate) fn shake(&mut self, key: ConnectionKey) -> Result<bool, Reason> {
        let endpoint = self.connections.endpoint_mut(key);
        match endpoint.is_established() {
            true => Ok(true),
            false => self.shake_secured(key),
        }
    }

    #[cold]
    fn shake_secured(&mut self, key: ConnectionKey) -> Result<bool, Reason> {
        if self.prefaces.has(key) {
            self.write_first(key, &[]).map_err(Reason::of)?;
            if self.prefaces.has(key) {
                return Ok(false);
            }
        }
        let endpoint = self.connections.endpoint_mut(key);
        let known_as = (Kind::Backend, key);
        let shaken = endpoint.shake(&mut self.io.net, &mut self.handshakes, known_as);
        let fault = endpoint.fault();
        shaken.map_err(|kind| match fault {
            Some(fault) => {
                let reason = Reason::Tls(fault);
                self.log_tls_failure(key, reason);
                reason
            }
            None => Reason::of(kind),
        })
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
            self.upstreams.forget_parked(connection.backend, key);
        }
        self.prefaces.forget(key);
        if connection.endpoint.awaits_work() {
            self.handshakes.leave();
        }
        self.descriptor_queue.on_freed();
        Some(connection.endpoint)
    }
}
