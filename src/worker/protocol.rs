//! What a session does in each of its protocols.

use crate::core::account::Purpose;
use crate::core::handshake::Handshake;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::http;
use crate::worker::http::log::{log_incomplete, log_tcp, log_unfinished};
use crate::worker::http::parts::Facts;
use crate::worker::keys::{ConnectionKey, UpstreamSlot};
use crate::worker::opening;
use crate::worker::session::{Protocol, Session};
use crate::worker::shared::Shared;
use crate::worker::tcp;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Turn};

/// Runs a session until it has to wait, is over, or has spent its budget.
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    if let Protocol::Opening(_) = session.protocol {
        let turn = opening::run(key, session, shared);
        let has_begun = !matches!(session.protocol, Protocol::Opening(_));
        // It goes on at once, from here: what is called from one place is no call.
        if !has_begun || turn != Turn::Again {
            return turn;
        }
    }
    match session.protocol {
        Protocol::Opening(_) => Turn::Sleep,
        Protocol::Tcp(_) => tcp::run(key, session, shared),
        Protocol::Http(_) => http::run(key, session, shared),
    }
}

/// A session that waits for a descriptor tries again to connect.
pub(crate) fn on_descriptor<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Turn {
    match session.protocol {
        Protocol::Opening(_) => Turn::Sleep,
        Protocol::Tcp(_) => tcp::on_descriptor(key, session, shared),
        Protocol::Http(_) => http::on_descriptor(key, session, shared),
    }
}

/// When something is due on a session if nothing moves until then.
pub(crate) fn deadline<N: Net>(session: &Session<N>, shared: &Shared<N>) -> Tick {
    match &session.protocol {
        Protocol::Opening(opening) => opening::deadline(session, opening, shared),
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
        Protocol::Opening(_) => opening::on_timeout(session),
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
    /// How the handshake has ended that the session was in.
    pub(crate) handshake: Option<Handshake>,
}

impl Ended {
    /// It held nothing.
    const fn nothing() -> Self {
        Self {
            connection: None,
            upstream: None,
            was_undelivered: false,
            handshake: None,
        }
    }
}

impl<N: Net> Shared<N> {
    /// Takes back what a session that ends holds: buffers, pipes, lease and backend connection.
    /// The session goes next, so what is left of its protocol stays where it is.
    pub(crate) fn end_protocol(&mut self, session: &mut Session<N>, reason: CloseReason) -> Ended {
        match session.protocol {
            Protocol::Opening(_) => Ended {
                handshake: opening::end(session, self, reason),
                ..Ended::nothing()
            },
            Protocol::Tcp(_) => {
                log_tcp(session, self, reason);
                self.end_relay(session)
            }
            Protocol::Http(_) => self.end_http(session, reason),
        }
    }

    fn end_relay(&mut self, session: &mut Session<N>) -> Ended {
        let Protocol::Tcp(relay) = &mut session.protocol else {
            return Ended::nothing();
        };
        let backend = relay.connection.map(|key| self.connections.endpoint(key));
        let to_backend = backend.map_or(0, Endpoint::pending_bytes);
        let to_client = session.client.pending_bytes();
        let was_undelivered = relay.held_bytes() + to_backend + to_client > 0;
        relay.up.discard(&mut self.io);
        relay.down.discard(&mut self.io);
        if let Some(lease) = relay.attempt.lease.take() {
            self.upstreams.give_back(&mut self.board, lease);
        }
        Ended {
            connection: relay.connection,
            upstream: Some(relay.attempt.upstream),
            was_undelivered,
            handshake: None,
        }
    }

    fn end_http(&mut self, session: &mut Session<N>, reason: CloseReason) -> Ended {
        let facts = Facts::of(session);
        let Protocol::Http(http) = &mut session.protocol else {
            return Ended::nothing();
        };
        log_incomplete(http, facts, session.client.secured(), self, reason);
        let output = http.output.take();
        let was_undelivered =
            output.is_some() || http.exchange.is_some() || session.client.pending_bytes() > 0;
        let buffers = &mut self.io.buffers;
        if let Some(buffer) = output {
            buffers.give(buffer);
        }
        buffers.account_mut().free(Purpose::Input, &mut http.input);
        if let Some(mut exchange) = http.exchange.take() {
            log_unfinished(&mut exchange, facts, self, reason);
            self.abandon_exchange(exchange);
        }
        Ended {
            was_undelivered,
            ..Ended::nothing()
        }
    }
}
