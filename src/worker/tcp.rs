//! Drives one L4 session for one turn: confirm the backend, then relay both directions.

use crate::board::{BackendCell, ListenerCell};
use crate::core::readiness::Readiness;
use crate::core::time::Tick;
use crate::net::{Net, Side};
use crate::worker::connect::{self, Confirmed};
use crate::worker::relay::{Limits, Pumped};
use crate::worker::session::{CloseReason, Session, TcpPhase, Turn};
use crate::worker::shared::Shared;

/// Bytes that one session may move in one turn before the next one runs.
pub(crate) const TURN_BUDGET_BYTES: usize = 512 * 1024;

/// Runs a session until it has to wait, is over, or has spent its budget.
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    if let TcpPhase::Connecting(_) = session.phase {
        match connect::confirm(session, shared) {
            Confirmed::NotYet => return Turn::Sleep,
            Confirmed::Yes => on_connected(session, shared),
            Confirmed::Failed(kind) => {
                return on_connect_failed(key, session, shared, &connect::reason(kind));
            }
        }
    }
    relay(session, shared)
}

/// A deadline has passed and nothing moved in the turn that followed.
pub(crate) fn on_timeout<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Turn {
    match session.phase {
        TcpPhase::Connecting(_) => on_connect_failed(key, session, shared, "connect timed out"),
        TcpPhase::Relaying if session.is_half_closed() => Turn::Close(CloseReason::HalfClosed),
        TcpPhase::Relaying => Turn::Close(CloseReason::Idle),
    }
}

/// When the session ends if nothing moves until then.
pub(crate) fn deadline<N: Net>(session: &Session<N>, shared: &Shared<N>) -> Tick {
    let timeouts = shared.timeouts(session.listener, session.upstream);
    match session.phase {
        TcpPhase::Connecting(since) => since.after(timeouts.connect),
        TcpPhase::Relaying if session.is_half_closed() => session.moved.after(timeouts.half_closed),
        TcpPhase::Relaying => session.moved.after(timeouts.idle),
    }
}

fn on_connected<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>) {
    session.phase = TcpPhase::Relaying;
    session.moved = shared.now;
    if let Some(lease) = &session.lease {
        shared.backends.get_mut(lease.backend).health.on_success();
    }
}

fn on_connect_failed<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    why: &str,
) -> Turn {
    match connect::after_failure(key, session, shared, why) {
        Ok(()) => Turn::Sleep,
        Err(connect::NoBackend) => Turn::Close(CloseReason::NoBackend),
    }
}

fn relay<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let before = (
        session.up.flow.moved_bytes(),
        session.down.flow.moved_bytes(),
    );
    let shut_before = session.is_half_closed();
    let turn = pump_both(session, shared);
    let up = session.up.flow.moved_bytes() - before.0;
    let down = session.down.flow.moved_bytes() - before.1;
    if up + down > 0 || session.is_half_closed() != shut_before {
        session.moved = shared.now;
        count_bytes(session, shared, up, down);
    }
    turn
}

fn count_bytes<N: Net>(session: &Session<N>, shared: &Shared<N>, up: u64, down: u64) {
    shared.count(session.listener, ListenerCell::BytesIn, up);
    shared.count(session.listener, ListenerCell::BytesOut, down);
    if let Some(lease) = &session.lease {
        let column = shared.place(lease.backend).column;
        shared.board.add(column, BackendCell::BytesOut, up);
        shared.board.add(column, BackendCell::BytesIn, down);
    }
}

fn pump_both<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let Session {
        client,
        backend,
        up,
        down,
        ..
    } = session;
    let Some(backend) = backend else {
        return Turn::Close(CloseReason::NoBackend);
    };
    let transfer = &mut shared.transfer;
    let mut budget = TURN_BUDGET_BYTES;
    let mut upward = Pumped::Done;
    if !down.truncated {
        let limits = Limits {
            budget: &mut budget,
            is_last: down.flow.is_done(),
        };
        upward = up.pump(client, backend, transfer, limits);
        match upward {
            Pumped::SourceFailed(_) => return Turn::Close(CloseReason::Reset(Side::Client)),
            Pumped::TargetFailed(_) => {
                // What the backend sent before it failed may still be readable; the failure
                // itself was told just now and will not be told again.
                down.truncated = true;
                backend.ready.add(Readiness::READ | Readiness::CLOSING);
            }
            Pumped::Waiting | Pumped::Done | Pumped::Spent => {}
        }
    }
    let limits = Limits {
        budget: &mut budget,
        is_last: up.flow.is_done(),
    };
    let downward = down.pump(backend, client, transfer, limits);
    match (upward, downward) {
        (_, Pumped::SourceFailed(_)) => Turn::Close(CloseReason::Reset(Side::Backend)),
        (_, Pumped::TargetFailed(_)) => Turn::Close(CloseReason::Reset(Side::Client)),
        (_, Pumped::Spent) => Turn::Again,
        (_, Pumped::Waiting) if down.truncated && down.held_bytes() > 0 => Turn::Sleep,
        _ if down.truncated => Turn::Close(CloseReason::Reset(Side::Backend)),
        (Pumped::Done, Pumped::Done) => Turn::Close(CloseReason::Done),
        (Pumped::Spent, _) => Turn::Again,
        _ => Turn::Sleep,
    }
}
