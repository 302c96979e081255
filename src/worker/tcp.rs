//! Drives one L4 session for one turn: confirm the backend, then relay both directions.
//!
//! No client byte is read before the backend has confirmed, so every attempt starts afresh.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use crate::board::{BackendCell, ListenerCell, Span};
use crate::core::time::{Moment, Tick};
use crate::net::Net;
use crate::worker::connect::{self, Confirmed, Dialed, NoBackend};
use crate::worker::direction::{Pumped, RelayLimits};
use crate::worker::io_space::IoSpace;
use crate::worker::keys::{ConnectionKey, ListenerSlot, SessionId};
use crate::worker::preface::{origin, tls_facts};
use crate::worker::relay::{Content, Relay, RelayPhase};
use crate::worker::session::{Protocol, Session, Told};
use crate::worker::shared::Shared;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Side, TURN_BUDGET_BYTES, Turn};

impl<N: Net> Relay<N> {
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

    /// How it is told that no connection was had, in the words of an HTTP request.
    pub(crate) fn unconnected(&self) -> CloseReason {
        if self.awaits_descriptor() || !self.attempt.has_failed() {
            CloseReason::NoBackend
        } else if self.attempt.has_timed_out() {
            CloseReason::ConnectTimeout
        } else {
            CloseReason::ConnectFailed
        }
    }

    fn on_dialed(&mut self, id: SessionId, shared: &mut Shared<N>, dialed: Dialed) {
        match dialed {
            Dialed::Started(connection) => {
                self.connection = Some(connection);
                self.phase = RelayPhase::Connecting(shared.timers.moment);
            }
            Dialed::NoDescriptor => {
                let is_retry = self.awaits_descriptor();
                if !is_retry {
                    self.phase = RelayPhase::AwaitingDescriptor(shared.timers.now);
                }
                shared
                    .descriptor_queue
                    .join(&mut shared.timers, id, is_retry);
            }
        }
    }
}

/// A client as it is told to a backend.
struct Client<'a, N: Net> {
    endpoint: &'a mut Endpoint<N>,
    peer: Option<SocketAddr>,
    told: Option<&'a Told>,
}

/// Runs a session until it has to wait, is over, or has spent its budget.
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let id = session.id(key);
    let Protocol::Tcp(relay) = &mut session.protocol else {
        return Turn::Sleep;
    };
    let before = relay.progress();
    if !matches!(relay.phase, RelayPhase::Relaying(_)) {
        if let RelayPhase::Settling(_) = relay.phase {
            session.moved = shared.timers.now;
            let turn = relay.settle(&mut session.client, session.listener, shared);
            relay.count_since(before, session.listener, shared);
            return turn;
        }
        let (peer, told) = (session.peer, session.told.as_deref());
        let client = Client {
            endpoint: &mut session.client,
            peer,
            told,
        };
        if let Some(turn) = relay.prepare(id, client, shared) {
            return turn;
        }
        session.moved = shared.timers.now;
    }
    let turn = pump_both(&mut session.client, relay, shared);
    let after = relay.progress();
    if before != after {
        session.moved = shared.timers.now;
        relay.count_since(before, session.listener, shared);
    }
    turn
}

/// Sleeps until there is a connection for the client, unless it is not there any more.
fn unless_reset<N: Net>(client: &Endpoint<N>, io: &mut IoSpace<N>) -> Turn {
    if client.has_failed(&mut io.net) {
        return Turn::Close(CloseReason::Reset(Side::Client));
    }
    Turn::Sleep
}

/// There may be a descriptor now for a session that waits for one.
pub(crate) fn on_descriptor<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Turn {
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
        RelayPhase::AwaitingDescriptor(_) => Turn::Close(CloseReason::NoBackend),
        RelayPhase::Connecting(_) | RelayPhase::Greeting(_) => {
            relay.attempt.note_failure(ErrorKind::TimedOut);
            relay.on_connect_failed(id, shared, "connect timed out")
        }
        // The turn before has looked.
        RelayPhase::Settling(_) => Turn::Sleep,
        RelayPhase::Relaying(_) if relay.is_half_closed() => Turn::Close(CloseReason::HalfClosed),
        RelayPhase::Relaying(Content::Tcp(_)) => Turn::Close(CloseReason::Idle),
        RelayPhase::Relaying(Content::Tunnel(_)) => Turn::Close(CloseReason::TunnelIdle),
    }
}

impl<N: Net> Relay<N> {
    /// When the session ends if nothing moves until then.
    pub(crate) fn deadline(&self, session: &Session<N>, shared: &Shared<N>) -> Tick {
        let (listener, upstream) = (session.listener, self.attempt.upstream);
        match self.phase {
            RelayPhase::AwaitingDescriptor(since) => {
                since.after(shared.timeout(listener, upstream, |o| o.connect, |t| t.connect))
            }
            RelayPhase::Connecting(since) | RelayPhase::Greeting(since) => since
                .tick()
                .after(shared.timeout(listener, upstream, |o| o.connect, |t| t.connect)),
            RelayPhase::Settling(ref settling) => settling.next_look(session.moved),
            RelayPhase::Relaying(content) => session.moved.after(if self.is_half_closed() {
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

    /// How long the connection to the backend took, in microseconds; none while there is none.
    pub(crate) fn connect_us(&self) -> Option<u64> {
        match self.phase {
            RelayPhase::Relaying(content) => content.connect_us(),
            RelayPhase::Settling(ref settling) => settling.content.connect_us(),
            RelayPhase::AwaitingDescriptor(_)
            | RelayPhase::Connecting(_)
            | RelayPhase::Greeting(_) => None,
        }
    }

    /// Whether the backend connection is still to be made, or its preface sent: how the turn ends.
    /// None where bytes are relayed from now on.
    #[inline(never)]
    fn prepare(
        &mut self,
        id: SessionId,
        client: Client<'_, N>,
        shared: &mut Shared<N>,
    ) -> Option<Turn> {
        if self.awaits_descriptor() {
            return Some(unless_reset(client.endpoint, &mut shared.io));
        }
        if let RelayPhase::Connecting(since) = self.phase {
            let Some(connection) = self.connection else {
                return Some(Turn::Close(CloseReason::NoBackend));
            };
            let backend = shared.connections.endpoint_mut(connection);
            match connect::confirm(backend, &mut shared.io.net) {
                Confirmed::NotYet => return Some(unless_reset(client.endpoint, &mut shared.io)),
                Confirmed::Yes => self.on_confirmed(since, connection, &client, shared),
                Confirmed::Failed(kind) => {
                    self.attempt.note_failure(kind);
                    return Some(self.on_connect_failed(id, shared, &connect::reason(kind)));
                }
            }
        }
        match self.phase {
            RelayPhase::Greeting(since) => self.greet(id, since, client.endpoint, shared).err(),
            RelayPhase::AwaitingDescriptor(_)
            | RelayPhase::Connecting(_)
            | RelayPhase::Relaying(_)
            | RelayPhase::Settling(_) => None,
        }
    }

    /// The connection stands: bytes are relayed, behind a preface where its upstream has one sent,
    /// and a handshake where it has TLS.
    fn on_confirmed(
        &mut self,
        since: Moment,
        connection: ConnectionKey,
        client: &Client<'_, N>,
        shared: &mut Shared<N>,
    ) {
        let version = shared.upstreams[self.attempt.upstream].settings.send_proxy;
        let is_ready = shared.connections.endpoint(connection).is_established();
        if version.is_none() && is_ready {
            return self.on_connected(since, shared);
        }
        if let Some(version) = version {
            let destination = client.told.and_then(Told::destination).copied();
            let origin = origin(client.endpoint, client.peer, destination, &shared.io.net);
            let tls = tls_facts(client.endpoint, client.told.and_then(Told::hello));
            shared.prefaces.put(connection, version, origin, tls);
        }
        self.phase = RelayPhase::Greeting(since);
    }

    /// Sends the preface of the connection, with what the client has said so far in the same
    /// write: or says how the turn ends, if it has not left.
    #[cold]
    #[inline(never)]
    fn greet(
        &mut self,
        id: SessionId,
        since: Moment,
        client: &mut Endpoint<N>,
        shared: &mut Shared<N>,
    ) -> Result<(), Turn> {
        let Some(connection) = self.connection else {
            return Err(Turn::Close(CloseReason::NoBackend));
        };
        match shared.shake(connection) {
            Ok(true) => {}
            Ok(false) => {
                return Err(unless_reset(client, &mut shared.io));
            }
            Err(reason) => {
                self.attempt.note(reason);
                return Err(self.on_connect_failed(id, shared, &reason.to_string()));
            }
        }
        if let Err(Pumped::SourceFailed(_)) = self.up.read_ahead(client, &mut shared.io) {
            return Err(Turn::Close(CloseReason::Reset(Side::Client)));
        }
        match shared.write_first(connection, self.up.ahead()) {
            Ok(_) if shared.prefaces.has(connection) => {
                return Err(unless_reset(client, &mut shared.io));
            }
            Ok(count) => self.up.on_ahead_taken(count, &mut shared.io),
            Err(kind) => {
                self.attempt.note_failure(kind);
                return Err(self.on_connect_failed(id, shared, &connect::reason(kind)));
            }
        }
        self.on_connected(since, shared);
        Ok(())
    }

    fn on_connected(&mut self, since: Moment, shared: &mut Shared<N>) {
        let took_us = shared.timers.moment.since_us(since);
        let connect_us = u32::try_from(took_us).unwrap_or(u32::MAX);
        self.phase = RelayPhase::Relaying(Content::Tcp(connect_us));
        let took_ms = shared.timers.now.since_ms(since.tick());
        shared.time(self.attempt.upstream, Span::Connect, took_ms);
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

    fn count_since(&self, before: (u64, u64, bool), listener: ListenerSlot, shared: &Shared<N>) {
        let (up, down, _) = self.progress();
        let (up, down) = (up - before.0, down - before.1);
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
        let limits = RelayLimits {
            budget: &mut budget,
            other_is_over: down.flow.is_done(),
        };
        upward = up.pump(client, backend, io, limits);
        match upward {
            Pumped::SourceFailed(_) => {
                up.flow.on_source_end();
                return relay.cut_off(Side::Client, client, shared.timers.now);
            }
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
    let limits = RelayLimits {
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
        (_, Pumped::SourceFailed(_)) => relay.cut_off(Side::Backend, backend, shared.timers.now),
        (_, Pumped::TargetFailed(_)) => relay.cut_off(Side::Client, client, shared.timers.now),
        (_, Pumped::Spent) => Turn::Again,
        (_, Pumped::Waiting)
            if down.truncated
                && (down.waiting_bytes(client) > 0 || io.is_short || backend.is_paused()) =>
        {
            Turn::Sleep
        }
        _ if down.truncated => relay.cut_off(Side::Backend, backend, shared.timers.now),
        (Pumped::Done, Pumped::Done) => relay.finish(client, backend, io, shared.timers.now),
        (Pumped::Spent, _) => Turn::Again,
        _ => Turn::Sleep,
    }
}
