//! A session: one client connection with at most one backend connection.

use std::net::SocketAddr;

use crate::core::account::Purpose;
use crate::core::time::Tick;
use crate::core::timer::TimerKey;
use crate::net::Net;
use crate::worker::http::{self, Facts, Http};
use crate::worker::keys::{ConnectionKey, ListenerSlot, SessionId, UpstreamSlot};
use crate::worker::opening::{self, Opening};
use crate::worker::shared::Shared;
use crate::worker::shortage::Shortage;
use crate::worker::tcp::{self, Relay};
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Turn};

/// One client connection and what belongs to it.
pub(crate) struct Session<N: Net> {
    pub(crate) client: Endpoint<N>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) listener: ListenerSlot,
    pub(crate) opened: Tick,
    /// When a byte last moved.
    pub(crate) moved: Tick,
    pub(crate) timer: Option<(Tick, TimerKey)>,
    /// The timer fired: close at the end of the next turn if nothing moved in it.
    pub(crate) due: bool,
    pub(crate) queued: bool,
    pub(crate) shortage: Shortage,
    pub(crate) protocol: Protocol<N>,
}

/// What is spoken on a session.
pub(crate) enum Protocol<N: Net> {
    /// Bytes, relayed as they come.
    Tcp(Relay<N>),
    /// HTTP/1.
    Http(Http),
    /// Not settled yet.
    Opening(Box<Opening<N>>),
}

impl<N: Net> Session<N> {
    /// Its name, as it has this key in the table.
    pub(crate) fn id(&self, key: u32) -> SessionId {
        SessionId {
            key,
            generation: self.client.generation(),
        }
    }

    /// Whether it holds a lease on a backend.
    pub(crate) fn has_lease(&self) -> bool {
        match &self.protocol {
            Protocol::Opening(_) => false,
            Protocol::Tcp(relay) => relay.attempt.lease.is_some(),
            Protocol::Http(http) => http.exchange.as_ref().is_some_and(|x| x.has_lease()),
        }
    }

    /// Whether it waits for a descriptor.
    pub(crate) fn is_starving(&self) -> bool {
        match &self.protocol {
            Protocol::Opening(_) => false,
            Protocol::Tcp(relay) => relay.is_starving(),
            Protocol::Http(http) => http.exchange.as_ref().is_some_and(|x| x.is_starving()),
        }
    }

    /// The upstream in whose line it waits for a full backend.
    pub(crate) fn line(&self) -> Option<UpstreamSlot> {
        match &self.protocol {
            Protocol::Tcp(_) | Protocol::Opening(_) => None,
            Protocol::Http(http) => http.exchange.as_ref().and_then(|x| x.line()),
        }
    }

    /// Why it ends, if its client has all that it asked for.
    pub(crate) fn answered(&self) -> Option<CloseReason> {
        match &self.protocol {
            Protocol::Tcp(_) | Protocol::Opening(_) => None,
            Protocol::Http(http) => http.answered(&self.client),
        }
    }

    /// How many buffers and pipes it holds.
    pub(crate) fn held(&self) -> (usize, usize) {
        match &self.protocol {
            Protocol::Opening(_) => (0, 0),
            Protocol::Tcp(relay) => relay.held(),
            Protocol::Http(http) => http.held(),
        }
    }

    /// Bytes that it has of the account, by [`Purpose`].
    pub(crate) fn waiting(&self) -> [usize; 4] {
        match &self.protocol {
            Protocol::Tcp(relay) => [relay.buffered(), 0, 0, 0],
            Protocol::Http(http) => http.waiting(),
            Protocol::Opening(opening) => [0, opening.kept(), 0, 0],
        }
    }

    /// Its connection to a backend, if it has one.
    pub(crate) fn connection(&self) -> Option<ConnectionKey> {
        match &self.protocol {
            Protocol::Opening(_) => None,
            Protocol::Tcp(relay) => relay.connection,
            Protocol::Http(http) => http.exchange.as_ref().and_then(|x| x.connection()),
        }
    }
}

/// Runs a session until it has to wait, is over, or has spent its budget.
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    match session.protocol {
        Protocol::Opening(_) => opening::run(key, session, shared),
        Protocol::Tcp(_) => tcp::run(key, session, shared),
        Protocol::Http(_) => http::run(key, session, shared),
    }
}

/// A session that waits for a descriptor tries again to connect.
pub(crate) fn feed<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    match session.protocol {
        Protocol::Opening(_) => Turn::Sleep,
        Protocol::Tcp(_) => tcp::feed(key, session, shared),
        Protocol::Http(_) => http::feed(key, session, shared),
    }
}

/// When something is due on a session if nothing moves until then.
pub(crate) fn deadline<N: Net>(session: &Session<N>, shared: &Shared<N>) -> Tick {
    match &session.protocol {
        Protocol::Opening(_) => opening::deadline(session),
        Protocol::Tcp(relay) => relay.deadline(session, shared),
        Protocol::Http(_) => http::deadline(session, shared),
    }
}

/// Whether its timer fires no later than that.
pub(crate) fn is_timed<N: Net>(session: &Session<N>, shared: &Shared<N>) -> bool {
    let deadline = deadline(session, shared);
    session.timer.is_some_and(|(at, _)| at <= deadline)
}

/// A deadline has passed and nothing moved in the turn that followed.
pub(crate) fn on_timeout<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Turn {
    match session.protocol {
        Protocol::Opening(_) => Turn::Close(CloseReason::Idle),
        Protocol::Tcp(_) => tcp::on_timeout(key, session, shared),
        Protocol::Http(_) => http::on_timeout(key, session, shared),
    }
}

/// What is left of a session once its protocol has given back what it held.
pub(crate) struct Ended {
    pub(crate) connection: Option<ConnectionKey>,
    pub(crate) upstream: Option<UpstreamSlot>,
    /// Some bytes had been read and were not delivered.
    pub(crate) was_undelivered: bool,
}

impl Ended {
    /// It held nothing.
    const fn nothing() -> Self {
        Self {
            connection: None,
            upstream: None,
            was_undelivered: false,
        }
    }
}

impl<N: Net> Shared<N> {
    /// Takes back what a session that ends holds: buffers, pipes, lease and backend connection.
    pub(crate) fn end_protocol(&mut self, session: &mut Session<N>, reason: CloseReason) -> Ended {
        let blank = Protocol::Http(Http::new(self.timers.now));
        match std::mem::replace(&mut session.protocol, blank) {
            Protocol::Opening(opening) => {
                let account = self.io.buffers.account_mut();
                account.give(Purpose::Input, opening.kept());
                Ended::nothing()
            }
            Protocol::Tcp(mut relay) => {
                let backend = relay.connection.map(|key| self.connections.endpoint(key));
                let to_backend = backend.map_or(0, Endpoint::pending_bytes);
                let to_client = session.client.pending_bytes();
                let was_undelivered = relay.held_bytes() + to_backend + to_client > 0;
                http::log_tcp(session, &relay, self, reason);
                relay.up.discard(&mut self.io);
                relay.down.discard(&mut self.io);
                if let Some(lease) = relay.attempt.lease.take() {
                    self.upstreams.give_back(&mut self.board, lease);
                }
                Ended {
                    connection: relay.connection,
                    upstream: Some(relay.attempt.upstream),
                    was_undelivered,
                }
            }
            Protocol::Http(mut http) => {
                let facts = Facts {
                    peer: session.peer,
                    listener: session.listener,
                };
                http::log_incomplete(&http, facts, self, reason);
                let output = http.output.take();
                let was_undelivered = output.is_some()
                    || http.exchange.is_some()
                    || session.client.pending_bytes() > 0;
                let buffers = &mut self.io.buffers;
                if let Some(buffer) = output {
                    buffers.give(buffer);
                }
                buffers.account_mut().free(Purpose::Input, &mut http.input);
                if let Some(mut exchange) = http.exchange.take() {
                    http::log_unfinished(&mut exchange, session.listener, self, reason);
                    self.abandon_exchange(exchange);
                }
                Ended {
                    connection: None,
                    upstream: None,
                    was_undelivered,
                }
            }
        }
    }
}
