//! Drives one HTTP session for a turn: one request after the other, each an exchange with a
//! backend or an answer of weir's own.
//!
//! A client between two requests holds nothing but its slab entry. A head that arrives whole is
//! parsed where it lies in the scratch space; only a head that comes in pieces, or a request that
//! is ahead of its turn, is kept in [`client::Http::input`].

pub(crate) mod access_log;
pub(crate) mod active;
pub(crate) mod client;
mod connect;
pub(crate) mod decision;
mod drop;
pub(crate) mod exchange;
pub(crate) mod log;
mod output;
pub(crate) mod parts;
mod received;
mod reply;
mod request;
mod response;
mod secured;
pub(crate) mod space;
mod upload;

use std::ops::ControlFlow::{Break, Continue};

use crate::board::ListenerCell;
use crate::core::account::Purpose;
use crate::core::http::exchange::NO_MEMORY;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::attempt::Attempt;
use crate::worker::http::client::ClientPhase;
use crate::worker::http::parts::{Next, Parts, REQUEST_TIMEOUT};
use crate::worker::relay::Relay;
use crate::worker::session::{Protocol, Session};
use crate::worker::shared::Shared;
use crate::worker::turn::{CloseReason, Side, Turn};

/// Requests that one session may begin in one turn before others run.
const REQUESTS_PER_TURN: usize = 16;

/// How long an idle client keeps its connection once weir is stopping.
const DRAIN_LINGER_MS: u64 = 250;

/// Runs a session until it has to wait, is over, or has spent its budget.
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let Some(mut parts) = Parts::of(key, session) else {
        return Turn::Again;
    };
    let mut begun = 0;
    loop {
        let is_out = match parts.flush(shared) {
            Ok(is_out) => is_out,
            Err(turn) => return turn,
        };
        let next = match parts.http.phase {
            _ if !is_out => parts.while_blocked(shared),
            ClientPhase::Idle(_) | ClientPhase::Head(_) if begun == REQUESTS_PER_TURN => {
                return Turn::Again;
            }
            ClientPhase::Idle(_) | ClientPhase::Head(_) => {
                begun += 1;
                parts.read_request(shared)
            }
            ClientPhase::Exchange => parts.step_exchange(shared),
            ClientPhase::Discard(until, left) => parts.discard(shared, until, left),
            ClientPhase::Linger(_, reason) => parts.linger(shared, reason),
        };
        match next {
            Next::Step => {}
            Next::Turn(turn) => return turn,
            Next::Switch => return switch(session, shared),
        }
    }
}

/// The backend has changed protocols: from here on the session relays bytes between the connections
/// that it has, after those that have come already.
fn switch<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let Protocol::Http(http) = &mut session.protocol else {
        return Turn::Sleep;
    };
    let exchange = http.exchange.take();
    let Some((mut exchange, connection)) = exchange.and_then(|mut it| {
        let connection = it.connection.take()?;
        Some((it, connection))
    }) else {
        return Turn::Close(CloseReason::Reset(Side::Backend));
    };
    let mut attempt = std::mem::replace(&mut exchange.attempt, Attempt::new(0, 0));
    let route = &exchange.site.routes[exchange.route];
    attempt.is_logged = route.is_logged;
    let timeout = route.timeouts.tunnel;
    let mut relay = Relay::tunnel(attempt, connection, timeout);
    if !http.input.is_empty() {
        let buffers = &mut shared.io.buffers;
        relay.up.hold(buffers.hold(&[&http.input]));
        buffers.account_mut().free(Purpose::Input, &mut http.input);
    }
    if let Some(buffer) = http.output.take() {
        relay.down.hold(buffer);
    }
    shared.keep_spare(exchange);
    // The end of the client's direction may have been told before.
    session.client.expect_end();
    session.protocol = Protocol::Tcp(relay);
    Turn::Again
}

/// There may be a descriptor now for a request that waits for one.
pub(crate) fn on_descriptor<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Turn {
    let Some(mut parts) = Parts::of(key, session) else {
        return Turn::Sleep;
    };
    let Some(mut exchange) = parts.http.exchange.take() else {
        return Turn::Sleep;
    };
    let next = match parts.connect(&mut exchange, shared, true) {
        Continue(()) => {
            parts.http.exchange = Some(exchange);
            Next::Step
        }
        Break(end) => parts.end_exchange(exchange, shared, end),
    };
    match next {
        Next::Turn(turn) => turn,
        Next::Step => run(key, session, shared),
        Next::Switch => switch(session, shared),
    }
}

/// When the session ends, or something else is due, if nothing moves until then.
pub(crate) fn deadline<N: Net>(session: &Session<N>, shared: &Shared<N>) -> Tick {
    let Protocol::Http(http) = &session.protocol else {
        return shared.timers.now;
    };
    let listener = &shared.listeners[session.listener];
    let timeouts = &listener.timeouts;
    match http.phase {
        _ if http.is_blocked(&session.client) && http.phase != ClientPhase::Exchange => {
            session.moved.after(http.send.unwrap_or(timeouts.send))
        }
        ClientPhase::Idle(since) => {
            let keep_alive = since.after(timeouts.keep_alive);
            let parts = shared.listeners.parts_since(session.listener);
            match parts.or_else(|| session.outdated_since(listener)) {
                // A client that came since then gets its time, too.
                Some(began) => began
                    .max(since)
                    .after_ms(DRAIN_LINGER_MS)
                    .max(shared.timers.now)
                    .min(keep_alive),
                None => keep_alive,
            }
        }
        ClientPhase::Head(since) => since.tick().after(timeouts.header),
        ClientPhase::Discard(until, _) | ClientPhase::Linger(until, _) => {
            drop::deadline(until, session.moved)
        }
        ClientPhase::Exchange => match &http.exchange {
            Some(exchange) => exchange.deadline(session, shared),
            None => shared.timers.now,
        },
    }
}

/// A deadline has passed and nothing moved in the turn that followed.
pub(crate) fn on_timeout<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Turn {
    let Some(mut parts) = Parts::of(key, session) else {
        return Turn::Sleep;
    };
    let is_stalled = parts.is_blocked();
    let next = match parts.http.phase {
        // What is held is lost with the connection, so that must not look like a clean end.
        phase if is_stalled && phase != ClientPhase::Exchange => {
            Next::Turn(Turn::Close(CloseReason::Idle))
        }
        // What it has sent has waited for memory.
        ClientPhase::Idle(_) if !parts.http.input.is_empty() || parts.client.may_read() => {
            parts.refuse_head(shared, (503, Some(NO_MEMORY)))
        }
        ClientPhase::Head(_) if parts.client.may_read() && !parts.client.is_secure() => {
            parts.refuse_head(shared, (503, Some(NO_MEMORY)))
        }
        ClientPhase::Idle(_) => parts.close_idle(shared),
        ClientPhase::Linger(_, reason) => Next::Turn(Turn::Close(reason)),
        ClientPhase::Discard(..) => Next::Turn(Turn::Close(CloseReason::Idle)),
        _ if is_stalled => parts.cut_response(shared),
        ClientPhase::Head(_) => {
            shared.count(parts.facts.listener, ListenerCell::TimedOut, 1);
            parts.refuse_head(shared, (REQUEST_TIMEOUT, None))
        }
        ClientPhase::Exchange => parts.on_exchange_timeout(shared),
    };
    match next {
        Next::Turn(turn) => turn,
        Next::Step => run(key, session, shared),
        Next::Switch => switch(session, shared),
    }
}

impl<N: Net> Parts<'_, N> {
    /// Whether bytes wait for the client to take them.
    pub(super) fn is_blocked(&self) -> bool {
        self.http.is_blocked(self.client)
    }

    /// The client does not take what is held for it: nothing else goes on, except that the rest of
    /// its request still goes where it is to go. It may be what the client is waiting for.
    fn while_blocked(&mut self, shared: &mut Shared<N>) -> Next {
        let next = match self.http.phase {
            ClientPhase::Exchange => self.upload_while_blocked(shared),
            ClientPhase::Discard(until, left) => self.discard_while_blocked(shared, until, left),
            ClientPhase::Linger(_, reason) => self.linger(shared, reason),
            ClientPhase::Idle(_) | ClientPhase::Head(_) => Next::Step,
        };
        match next {
            Next::Step => Next::Turn(Turn::Sleep),
            Next::Turn(_) | Next::Switch => next,
        }
    }
}
