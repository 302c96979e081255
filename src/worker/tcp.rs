//! Drives one L4 session for one turn: confirm the backend, then relay both directions.
//!
//! No client byte is read before the backend has confirmed, so every attempt starts afresh.

use std::io::ErrorKind;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::board::{BackendCell, ListenerCell};
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::attempt::Attempt;
use crate::worker::connect::{self, Confirmed, Dialed, NoBackend};
use crate::worker::keys::{ConnectionKey, ListenerSlot, SessionId};
use crate::worker::relay::{Direction, Held, Limits, Pumped};
use crate::worker::session::{Protocol, Session};
use crate::worker::shared::Shared;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Side, TURN_BUDGET_BYTES, Turn};

/// What an L4 session has of its backend, and what is on its way.
pub(crate) struct Relay<N: Net> {
    pub(crate) attempt: Attempt,
    pub(crate) connection: Option<ConnectionKey>,
    /// Client to backend.
    pub(crate) up: Direction<N>,
    /// Backend to client.
    pub(crate) down: Direction<N>,
    phase: Phase,
}

/// What a relay carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Its connection took so long to be made, in milliseconds.
    Tcp(u32),
    /// It began as an HTTP request, whose route may say how long nothing may move, in milliseconds:
    /// at most 49 days, so that sessions stay small.
    Tunnel(Option<NonZeroU32>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No descriptor is left for the backend connection, since then.
    Starving(Tick),
    /// The backend connection is being made, since then.
    Connecting(Tick),
    /// Bytes are relayed.
    Relaying(Content),
}

impl<N: Net> Relay<N> {
    pub(crate) fn new(attempt: Attempt, now: Tick) -> Self {
        Self {
            attempt,
            connection: None,
            up: Direction::new(),
            down: Direction::new(),
            phase: Phase::Connecting(now),
        }
    }

    /// A relay that takes over from HTTP after a change of protocols, on the same connections, with
    /// the timeout of its route if that has one.
    pub(crate) fn tunnel(
        attempt: Attempt,
        connection: ConnectionKey,
        timeout: Option<Duration>,
    ) -> Self {
        let timeout = timeout.map(|timeout| {
            let ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            NonZeroU32::new(ms).unwrap_or(NonZeroU32::MIN)
        });
        Self {
            attempt,
            connection: Some(connection),
            up: Direction::new(),
            down: Direction::new(),
            phase: Phase::Relaying(Content::Tunnel(timeout)),
        }
    }

    /// Starts connecting to a backend.
    pub(crate) fn open(&mut self, id: SessionId, shared: &mut Shared<N>) -> Result<(), NoBackend> {
        let dialed = self.attempt.open(shared, id.key)?;
        self.on_dialed(id, shared, dialed);
        Ok(())
    }

    /// The present attempt failed: starts the next one.
    fn reopen(
        &mut self,
        id: SessionId,
        shared: &mut Shared<N>,
        why: &str,
    ) -> Result<(), NoBackend> {
        if let Some(connection) = self.connection.take() {
            shared.cut_connection(connection);
        }
        let dialed = self.attempt.reopen(shared, id.key, why)?;
        self.on_dialed(id, shared, dialed);
        Ok(())
    }

    fn on_dialed(&mut self, id: SessionId, shared: &mut Shared<N>, dialed: Dialed) {
        match dialed {
            Dialed::Started(connection) => {
                self.connection = Some(connection);
                self.phase = Phase::Connecting(shared.timers.now);
            }
            Dialed::Starved => {
                let is_fed = self.is_starving();
                if !is_fed {
                    self.phase = Phase::Starving(shared.timers.now);
                }
                shared.starve(id, is_fed);
            }
        }
    }

    /// Whether it waits for a descriptor.
    pub(crate) fn is_starving(&self) -> bool {
        matches!(self.phase, Phase::Starving(_))
    }

    /// Whether one direction is over and the other is not.
    fn is_half_closed(&self) -> bool {
        self.up.flow.is_done() != self.down.flow.is_done()
    }

    /// How many buffers and pipes it holds.
    pub(crate) fn held(&self) -> (usize, usize) {
        let count = |wanted: fn(&Held<N>) -> bool| {
            let both = [&self.up.held, &self.down.held];
            both.into_iter().filter(|held| wanted(held)).count()
        };
        (
            count(|held| matches!(held, Held::Bytes(_))),
            count(|held| matches!(held, Held::Pipe { .. })),
        )
    }

    /// What is allocated for bytes that wait.
    pub(crate) fn buffered(&self) -> usize {
        let held = [&self.up.held, &self.down.held].into_iter();
        held.map(|held| match held {
            Held::Bytes(buffer) => buffer.capacity(),
            Held::Nothing | Held::Pipe { .. } => 0,
        })
        .sum()
    }

    /// Bytes that were read and not yet delivered, both ways.
    pub(crate) fn held_bytes(&self) -> usize {
        self.up.held_bytes() + self.down.held_bytes()
    }
}

/// Runs a session until it has to wait, is over, or has spent its budget.
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let id = session.id(key);
    let Protocol::Tcp(relay) = &mut session.protocol else {
        return Turn::Sleep;
    };
    if relay.is_starving() {
        return unless_reset(&session.client, shared);
    }
    if let Phase::Connecting(since) = relay.phase {
        let Some(connection) = relay.connection else {
            return Turn::Close(CloseReason::NoBackend);
        };
        let backend = shared.connections.endpoint_mut(connection);
        match connect::confirm(backend, &mut shared.io.net) {
            Confirmed::NotYet => return unless_reset(&session.client, shared),
            Confirmed::Yes => {
                relay.on_connected(since, shared);
                session.moved = shared.timers.now;
            }
            Confirmed::Failed(kind) => {
                relay.attempt.note_failure(kind);
                return relay.on_connect_failed(id, shared, &connect::reason(kind));
            }
        }
    }
    let before = relay.progress();
    let turn = pump_both(&mut session.client, relay, shared);
    let after = relay.progress();
    if before != after {
        session.moved = shared.timers.now;
        let moved = (after.0 - before.0, after.1 - before.1);
        relay.count_bytes(session.listener, shared, moved);
    }
    turn
}

/// Sleeps until there is a connection for the client, unless it is not there any more.
fn unless_reset<N: Net>(client: &Endpoint<N>, shared: &mut Shared<N>) -> Turn {
    if client.has_failed(&mut shared.io.net) {
        return Turn::Close(CloseReason::Reset(Side::Client));
    }
    Turn::Sleep
}

/// There may be a descriptor now for a session that waits for one.
pub(crate) fn feed<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let id = session.id(key);
    let Protocol::Tcp(relay) = &mut session.protocol else {
        return Turn::Sleep;
    };
    match relay.open(id, shared) {
        Ok(()) => Turn::Sleep,
        Err(NoBackend) => Turn::Close(CloseReason::NoBackend),
    }
}

/// A deadline has passed and nothing moved in the turn that followed.
pub(crate) fn on_timeout<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Turn {
    let id = session.id(key);
    let Protocol::Tcp(relay) = &mut session.protocol else {
        return Turn::Sleep;
    };
    match relay.phase {
        Phase::Starving(_) => Turn::Close(CloseReason::NoBackend),
        Phase::Connecting(_) => {
            relay.attempt.note_failure(ErrorKind::TimedOut);
            relay.on_connect_failed(id, shared, "connect timed out")
        }
        Phase::Relaying(_) if relay.is_half_closed() => Turn::Close(CloseReason::HalfClosed),
        Phase::Relaying(Content::Tcp(_)) => Turn::Close(CloseReason::Idle),
        Phase::Relaying(Content::Tunnel(_)) => Turn::Close(CloseReason::TunnelIdle),
    }
}

impl<N: Net> Relay<N> {
    /// When the session ends if nothing moves until then.
    pub(crate) fn deadline(&self, session: &Session<N>, shared: &Shared<N>) -> Tick {
        let (listener, upstream) = (session.listener, self.attempt.upstream);
        match self.phase {
            Phase::Starving(since) | Phase::Connecting(since) => {
                since.after(shared.timeout(listener, upstream, |o| o.connect, |t| t.connect))
            }
            Phase::Relaying(content) => session.moved.after(if self.is_half_closed() {
                shared.timeout(listener, upstream, |o| o.half_closed, |t| t.half_closed)
            } else {
                match content {
                    Content::Tcp(_) => shared.timeout(listener, upstream, |o| o.idle, |t| t.idle),
                    Content::Tunnel(Some(ms)) => Duration::from_millis(ms.get().into()),
                    Content::Tunnel(None) => {
                        shared.timeout(listener, upstream, |o| o.tunnel, |t| t.tunnel)
                    }
                }
            }),
        }
    }

    /// How long the connection to the backend took; none while there is none.
    pub(crate) fn connect_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Relaying(Content::Tcp(ms)) => Some(ms.into()),
            Phase::Relaying(Content::Tunnel(_)) | Phase::Starving(_) | Phase::Connecting(_) => None,
        }
    }

    fn on_connected(&mut self, since: Tick, shared: &mut Shared<N>) {
        let took = shared.timers.now.since_ms(since);
        let connect_ms = u32::try_from(took).unwrap_or(u32::MAX);
        self.phase = Phase::Relaying(Content::Tcp(connect_ms));
        self.attempt.on_connected();
        if let Some(lease) = &self.attempt.lease {
            shared.upstreams.backends.on_success(lease.backend);
        }
    }

    fn on_connect_failed(&mut self, id: SessionId, shared: &mut Shared<N>, why: &str) -> Turn {
        match self.reopen(id, shared, why) {
            Ok(()) => Turn::Sleep,
            Err(NoBackend) => Turn::Close(CloseReason::NoBackend),
        }
    }

    /// Bytes moved up and down, and whether one direction is over: what counts as movement.
    fn progress(&self) -> (u64, u64, bool) {
        let (up, down) = (self.up.flow.moved_bytes(), self.down.flow.moved_bytes());
        (up, down, self.is_half_closed())
    }

    fn count_bytes(&self, listener: ListenerSlot, shared: &Shared<N>, (up, down): (u64, u64)) {
        shared.count(listener, ListenerCell::BytesIn, up);
        shared.count(listener, ListenerCell::BytesOut, down);
        if let Some(lease) = &self.attempt.lease {
            shared
                .upstreams
                .count_backend(&shared.board, lease.backend, BackendCell::BytesOut, up);
            shared.upstreams.count_backend(
                &shared.board,
                lease.backend,
                BackendCell::BytesIn,
                down,
            );
        }
    }
}

fn pump_both<N: Net>(
    client: &mut Endpoint<N>,
    relay: &mut Relay<N>,
    shared: &mut Shared<N>,
) -> Turn {
    let Relay {
        connection,
        up,
        down,
        ..
    } = relay;
    let Some(connection) = *connection else {
        return Turn::Close(CloseReason::NoBackend);
    };
    let backend = shared.connections.endpoint_mut(connection);
    let io = &mut shared.io;
    let mut budget = TURN_BUDGET_BYTES;
    let mut upward = Pumped::Done;
    if !down.truncated {
        let limits = Limits {
            budget: &mut budget,
            other_is_over: down.flow.is_done(),
        };
        upward = up.pump(client, backend, io, limits);
        match upward {
            Pumped::SourceFailed(_) => return Turn::Close(CloseReason::Reset(Side::Client)),
            Pumped::TargetFailed(_) => {
                // What the backend sent before it failed may still be readable; the failure
                // itself was told just now and will not be told again.
                down.truncated = true;
                backend.expect_input();
            }
            // What is held keeps the client from being read, so its reset has to be asked for.
            Pumped::Waiting if up.waiting_bytes(backend) > 0 && client.has_failed(&mut io.net) => {
                return Turn::Close(CloseReason::Reset(Side::Client));
            }
            Pumped::Waiting | Pumped::Done | Pumped::Spent => {}
        }
    }
    let limits = Limits {
        budget: &mut budget,
        other_is_over: up.flow.is_done(),
    };
    let downward = down.pump(backend, client, io, limits);
    match (upward, downward) {
        // What came before the failure still leaves; the failure will not be told again.
        (_, Pumped::SourceFailed(_)) if down.waiting_bytes(client) > 0 => {
            down.truncated = true;
            Turn::Again
        }
        (_, Pumped::SourceFailed(_)) => Turn::Close(CloseReason::Reset(Side::Backend)),
        (_, Pumped::TargetFailed(_)) => Turn::Close(CloseReason::Reset(Side::Client)),
        (_, Pumped::Spent) => Turn::Again,
        (_, Pumped::Waiting)
            if down.truncated && (down.waiting_bytes(client) > 0 || io.is_short) =>
        {
            Turn::Sleep
        }
        _ if down.truncated => Turn::Close(CloseReason::Reset(Side::Backend)),
        (Pumped::Done, Pumped::Done) => Turn::Close(CloseReason::Done),
        (Pumped::Spent, _) => Turn::Again,
        _ => Turn::Sleep,
    }
}
