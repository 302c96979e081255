//! The first phase of a session whose listener has to read before it knows whom it serves, how
//! and where. Every other session begins settled.

use std::net::SocketAddr;

use crate::board::ListenerCell;
use crate::core::account::{NoMemory, Purpose};
use crate::core::opening::{Look, OPENING_BYTES_MAX, OPENING_MS_MAX, Refusal, Settled, Speaks};
use crate::core::readiness::Io;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::attempt::Attempt;
use crate::worker::http;
use crate::worker::http::client::Http;
use crate::worker::keys::ListenerSlot;
use crate::worker::relay::Relay;
use crate::worker::session::{Protocol, Session};
use crate::worker::shared::Shared;
use crate::worker::tcp;
use crate::worker::turn::{CloseReason, Side, Turn};

/// What a session of a listener begins with, once it is settled.
pub(crate) fn start<N: Net>(
    shared: &Shared<N>,
    slot: ListenerSlot,
    peer: Option<SocketAddr>,
    settled: Settled,
) -> Protocol<N> {
    let listener = &shared.listeners[slot];
    let is_http = match settled.speaks {
        None => listener.is_http,
        Some(speaks) => speaks == Speaks::Http && listener.site.is_some(),
    };
    if is_http {
        return Protocol::Http(Http::new(shared.timers.now));
    }
    let upstream = settled.upstream.unwrap_or(listener.upstream);
    let attempt = Attempt::new(upstream, shared.upstreams[upstream].hash_key(peer));
    Protocol::Tcp(Relay::new(attempt, shared.timers.now))
}

/// Reads until the opening is settled; then the session begins.
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    loop {
        if let Err(turn) = receive(session, shared) {
            return turn;
        }
        let Protocol::Opening(opening) = &mut session.protocol else {
            return Turn::Sleep;
        };
        let count = opening.bytes.len();
        match opening.state.look(&opening.bytes) {
            Look::Settled(settled) if settled.may_be_check && settled.own_bytes == count => {
                return begin_unless_left(key, session, shared, settled);
            }
            Look::Settled(settled) => return begin(key, session, shared, settled),
            Look::More if count < OPENING_BYTES_MAX => {}
            Look::More => return refused(Refusal::TooLong),
            Look::Refused(why) => return refused(why),
        }
    }
}

/// Reads once, or says how the turn ends.
fn receive<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>) -> Result<(), Turn> {
    let Protocol::Opening(opening) = &mut session.protocol else {
        return Err(Turn::Sleep);
    };
    if !session.client.may_read() {
        return Err(Turn::Sleep);
    }
    let io = &mut shared.io;
    let room = OPENING_BYTES_MAX - opening.bytes.len();
    let account = io.buffers.account_mut();
    let room = room.min(io.scratch.len());
    let room = room.min(account.room(Purpose::Input));
    if room == 0 {
        io.is_short = true;
        return Err(Turn::Sleep);
    }
    let space = &mut io.scratch[..room];
    let count = match session.client.read(&mut io.net, space) {
        Io::Ready(count) => count,
        Io::Blocked => return Err(Turn::Sleep),
        // Before it has said anything of its own, it has asked for nothing.
        Io::Closed if opening.state.own_bytes() == opening.bytes.len() => {
            return Err(Turn::Close(CloseReason::Done));
        }
        Io::Closed => return Err(refused(Refusal::CutShort)),
        Io::Failed(_) => return Err(Turn::Close(CloseReason::Reset(Side::Client))),
    };
    let kept = account.keep(Purpose::Input, &mut opening.bytes, &space[..count]);
    kept.map_err(|NoMemory| refused(Refusal::TooLong))
}

/// A proxy that only looks whether anybody is there has often left with its header: nobody has to
/// be asked for it.
fn begin_unless_left<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    settled: Settled,
) -> Turn {
    let is_leaving = session.client.is_closing();
    match is_leaving.then(|| receive(session, shared)) {
        Some(Err(Turn::Close(_))) => Turn::Close(CloseReason::Done),
        Some(Ok(()) | Err(_)) | None => begin(key, session, shared, settled),
    }
}

fn refused(why: Refusal) -> Turn {
    Turn::Close(CloseReason::BadOpening(why))
}

/// When an opening has taken too long.
pub(crate) fn deadline<N: Net>(session: &Session<N>) -> Tick {
    session.opened.after_ms(OPENING_MS_MAX)
}

/// The session begins with what came behind its opening.
fn begin<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    settled: Settled,
) -> Turn {
    let slot = session.listener;
    session.moved = shared.timers.now;
    session.peer = settled.peer.or(session.peer);
    session.destination = settled.destination.map(Box::new);
    session.may_be_check = settled.may_be_check;
    let protocol = start(shared, slot, session.peer, settled);
    let Protocol::Opening(opening) = std::mem::replace(&mut session.protocol, protocol) else {
        return Turn::Sleep;
    };
    let account = shared.io.buffers.account_mut();
    account.give(Purpose::Input, opening.kept());
    let mut bytes = opening.bytes;
    let came = &mut bytes[settled.own_bytes..];
    let came = match session.client.put_layer(&mut shared.io.net, None, came) {
        Ok(true) => &[][..],
        Ok(false) => &*came,
        Err(_) => return Turn::Close(CloseReason::Reset(Side::Client)),
    };
    let id = session.id(key);
    match &mut session.protocol {
        Protocol::Tcp(relay) => {
            if !came.is_empty() {
                relay.up.hold(shared.io.buffers.hold(&[came]));
            }
            if relay.open(id, shared).is_err() {
                return Turn::Close(CloseReason::NoBackend);
            }
        }
        Protocol::Http(http) => {
            shared.count(slot, ListenerCell::BytesIn, came.len() as u64);
            // There is room, as they had as much until now.
            let account = shared.io.buffers.account_mut();
            let kept = account.keep(Purpose::Input, &mut http.input, came);
            if kept.is_err() {
                return Turn::Close(CloseReason::Reset(Side::Client));
            }
        }
        Protocol::Opening(_) => {}
    }
    match session.protocol {
        Protocol::Tcp(_) => tcp::run(key, session, shared),
        Protocol::Http(_) => http::run(key, session, shared),
        Protocol::Opening(_) => Turn::Sleep,
    }
}
