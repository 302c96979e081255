//! The first phase of a session whose listener has to read before it knows whom it serves, how
//! and where. Every other session begins settled.

use std::io::IoSlice;
use std::net::SocketAddr;

use crate::board::ListenerCell;
use crate::core::account::{NoMemory, Purpose};
use crate::core::fault::Fault;
use crate::core::handshake::Handshake;
use crate::core::http::https::write_not_tls;
use crate::core::opening::{Answer, Awaited, Look, OPENING_BYTES_MAX, Refusal, Settled, Speaks};
use crate::core::readiness::Io;
use crate::core::time::Tick;
use crate::net::{Kind, Net, Then};
use crate::worker::attempt::Attempt;
use crate::worker::http::client::Http;
use crate::worker::keys::{ListenerSlot, UpstreamSlot};
use crate::worker::relay::Relay;
use crate::worker::session::{Opening, Protocol, Session};
use crate::worker::shared::Shared;
use crate::worker::tls_routes::Destination;
use crate::worker::turn::{CloseReason, Side, TURN_BUDGET_BYTES, Turn};

/// How long what a client still sends is dropped, once it was told that it is refused, in
/// milliseconds.
const FAREWELL_MS: u64 = 5_000;

/// What a session of a listener begins with whose clients have no opening.
#[inline(always)]
pub(crate) fn start<N: Net>(
    shared: &Shared<N>,
    slot: ListenerSlot,
    peer: Option<SocketAddr>,
) -> Protocol<N> {
    let listener = &shared.listeners[slot];
    start_as(shared, listener.is_http, listener.upstream, peer)
}

/// What a session begins with, once its opening has settled that.
fn start_settled<N: Net>(
    shared: &Shared<N>,
    slot: ListenerSlot,
    peer: Option<SocketAddr>,
    settled: &Settled,
) -> Protocol<N> {
    let listener = &shared.listeners[slot];
    let is_http = match settled.speaks {
        None => listener.is_http,
        Some(speaks) => speaks == Speaks::Http && listener.site.is_some(),
    };
    let upstream = settled.upstream.unwrap_or(listener.upstream);
    start_as(shared, is_http, upstream, peer)
}

#[inline(always)]
fn start_as<N: Net>(
    shared: &Shared<N>,
    is_http: bool,
    upstream: UpstreamSlot,
    peer: Option<SocketAddr>,
) -> Protocol<N> {
    if is_http {
        return Protocol::Http(Http::new(shared.timers.now));
    }
    let attempt = Attempt::new(upstream, shared.upstreams[upstream].hash_key(peer));
    Protocol::Tcp(Relay::new(attempt, shared.timers.moment))
}

/// Reads until the opening is settled; then the session begins. Most sessions have none, and pay
/// nothing for what is on this stack.
#[cold]
#[inline(never)]
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    if let Protocol::Opening(opening) = &session.protocol
        && let Some(why) = opening.refused
    {
        return drop_input(session, shared, why);
    }
    if session.client.is_secure() {
        return shake(key, session, shared);
    }
    if let Protocol::Opening(opening) = &mut session.protocol
        && let Some(settled) = opening.settled.take()
    {
        return terminate(key, session, shared, settled);
    }
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
            Look::Settled(settled) => return direct(key, session, shared, settled),
            Look::More if count < OPENING_BYTES_MAX => {}
            Look::More => {
                let why = opening.state.too_long();
                return refuse(session, shared, why);
            }
            Look::Refused(why) => return refuse(session, shared, why),
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
        Io::Closed => return Err(refused(Refusal::CutShort(opening.state.awaited()))),
        Io::Failed(_) => return Err(Turn::Close(CloseReason::Reset(Side::Client))),
    };
    let kept = account.keep(Purpose::Input, &mut opening.bytes, &space[..count]);
    kept.map_err(|NoMemory| refused(Refusal::NoMemory))
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

/// How the turn ends of a client that said something else.
pub(crate) fn refused(why: Refusal) -> Turn {
    Turn::Close(CloseReason::BadOpening(why))
}

/// Decides by the ClientHello, if there was one, where the connection goes.
fn direct<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    mut settled: Settled,
) -> Turn {
    let Some(hello) = &settled.hello else {
        return begin(key, session, shared, settled);
    };
    let listener = &shared.listeners[session.listener];
    match listener
        .tls_routes
        .destination(hello, listener.tls.is_some())
    {
        Destination::PassThrough(upstream) => {
            settled.speaks = Some(Speaks::Tcp);
            settled.upstream = Some(upstream);
            begin(key, session, shared, settled)
        }
        Destination::Terminate => terminate(key, session, shared, settled),
        Destination::Refuse(why) => {
            session.take_told(&mut settled);
            refuse(session, shared, why)
        }
    }
}

/// Begins to decrypt, as soon as there is room for that in a turn.
fn terminate<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    mut settled: Settled,
) -> Turn {
    let Protocol::Opening(opening) = &mut session.protocol else {
        return Turn::Sleep;
    };
    let Some(tls) = &shared.listeners[session.listener].tls else {
        return refuse(session, shared, Refusal::Unserved);
    };
    let hello = settled.hello.as_deref();
    let name = hello.and_then(|hello| hello.server_name.as_deref());
    let cost_us = tls.handshake_us(name);
    let known_as = (Kind::Client, key);
    let client = &mut session.client;
    if !client.may_work(&mut shared.handshakes, known_as, cost_us) {
        opening.settled = Some(settled);
        return match client.has_failed(&mut shared.io.net) {
            true => Turn::Close(CloseReason::Reset(Side::Client)),
            false => Turn::Sleep,
        };
    }
    let Some(connection) = tls.accept(name) else {
        session.take_told(&mut settled);
        return refuse(session, shared, Refusal::Unserved);
    };
    let io = &mut shared.io;
    io.buffers
        .account_mut()
        .give(Purpose::Input, opening.kept());
    let mut bytes = std::mem::take(&mut opening.bytes);
    let came = &mut bytes[settled.own_bytes..];
    opening.settled = Some(settled);
    let begun = session
        .client
        .put_layer(&mut io.net, Some(connection), came);
    session.client.settle_work(&mut shared.handshakes, cost_us);
    match begun {
        Ok(_) => shake(key, session, shared),
        Err(_) => fail(session, shared),
    }
}

/// Goes on with the handshake; once it is done, the session begins.
fn shake<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let Protocol::Opening(opening) = &mut session.protocol else {
        return Turn::Sleep;
    };
    let (net, handshakes) = (&mut shared.io.net, &mut shared.handshakes);
    match session.client.shake(net, handshakes, (Kind::Client, key)) {
        Ok(true) => {}
        Ok(false) => return Turn::Sleep,
        Err(_) if session.client.fault().is_none() => {
            return Turn::Close(CloseReason::Reset(Side::Client));
        }
        Err(_) => return fail(session, shared),
    }
    match opening.settled.take() {
        Some(mut settled) => {
            settled.own_bytes = 0;
            let secured = session.client.secured();
            let ended = match secured.is_some_and(|it| it.is_resumed) {
                true => Handshake::Resumed,
                false => Handshake::Full,
            };
            shared.count_handshake(session.listener, ended);
            begin(key, session, shared, settled)
        }
        None => Turn::Sleep,
    }
}

/// The handshake has failed. The client was told by an alert, which a close on what it still sends
/// would overtake.
#[cold]
fn fail<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let Protocol::Opening(opening) = &mut session.protocol else {
        return Turn::Sleep;
    };
    let why = Refusal::Tls(session.client.fault().unwrap_or(Fault::Cut));
    let settled = opening.settled.take();
    opening.refused = Some(why);
    if let Some(mut settled) = settled {
        session.take_told(&mut settled);
    }
    session.moved = shared.timers.now;
    session.client.abandon_layer(&mut shared.io.net);
    session.client.finish(&mut shared.io.net);
    drop_input(session, shared, why)
}

/// Tells the client why it is refused, as far as it would understand that, and ends.
fn refuse<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>, why: Refusal) -> Turn {
    let Protocol::Opening(opening) = &mut session.protocol else {
        return refused(why);
    };
    let mut text = Vec::new();
    match why.answer() {
        None => return refused(why),
        Some(Answer::Alert(alert)) => text.extend_from_slice(&alert.record()),
        Some(Answer::Http) => write_not_tls(&shared.date(), &mut text),
    }
    let io = &mut shared.io;
    let account = io.buffers.account_mut();
    account.free(Purpose::Input, &mut opening.bytes);
    opening.refused = Some(why);
    session.moved = shared.timers.now;
    // Nothing was sent before it, so that the socket takes it whole or has failed.
    let taken = session
        .client
        .write(&mut io.net, &[IoSlice::new(&text)], Then::End);
    if !matches!(taken, Io::Ready(count) if count == text.len()) {
        return refused(why);
    }
    session.client.finish(&mut io.net);
    drop_input(session, shared, why)
}

/// Reads what still comes of a client that was told that it is refused, and forgets it, until it
/// has ended as well.
fn drop_input<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>, why: Refusal) -> Turn {
    let io = &mut shared.io;
    let mut total = 0;
    while session.client.may_read() {
        if total >= TURN_BUDGET_BYTES {
            return Turn::Again;
        }
        match session.client.read(&mut io.net, &mut io.scratch) {
            Io::Ready(count) => total += count,
            Io::Blocked => {}
            Io::Closed | Io::Failed(_) => return refused(why),
        }
    }
    Turn::Sleep
}

/// The session ends within its opening, for this reason. If that is a handshake, how this has
/// ended; and the session knows whose it was.
#[cold]
#[inline(never)]
pub(crate) fn end<N: Net>(
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    reason: CloseReason,
) -> Option<Handshake> {
    let Protocol::Opening(opening) = &mut session.protocol else {
        return None;
    };
    let account = shared.io.buffers.account_mut();
    account.give(Purpose::Input, opening.kept());
    if !opening.is_handshake {
        return None;
    }
    shared.handshakes.end();
    let has_begun = opening.settled.is_some() || opening.bytes.len() > opening.state.own_bytes();
    let is_cut = matches!(reason, CloseReason::Reset(_)) && opening.refused.is_none();
    let ended = if let CloseReason::BadOpening(why) = reason {
        Handshake::refused(why)
    } else if is_cut {
        has_begun.then_some(Handshake::Cut)
    } else {
        opening.refused.and_then(Handshake::refused)
    };
    let (peer, settled) = (opening.state.peer(), opening.settled.take());
    session.peer = peer.or(session.peer);
    if let Some(mut settled) = settled {
        session.take_told(&mut settled);
    }
    if let Some(ended) = ended {
        shared.count_handshake(session.listener, ended);
    }
    ended
}

/// When an opening has taken too long.
#[cold]
#[inline(never)]
pub(crate) fn deadline<N: Net>(
    session: &Session<N>,
    opening: &Opening,
    shared: &Shared<N>,
) -> Tick {
    match opening.refused {
        Some(_) => session.moved.after_ms(FAREWELL_MS),
        None => {
            let timeouts = &shared.listeners[session.listener].timeouts;
            session.opened.tick().after(timeouts.handshake)
        }
    }
}

/// It has.
#[cold]
pub(crate) fn on_timeout<N: Net>(session: &Session<N>) -> Turn {
    match &session.protocol {
        Protocol::Opening(opening) => refused(opening.refused.unwrap_or_else(|| {
            let shakes = opening.settled.is_some() || session.client.is_secure();
            Refusal::TooSlow(match shakes {
                true => Awaited::Handshake,
                false => opening.state.awaited(),
            })
        })),
        Protocol::Tcp(_) | Protocol::Http(_) => Turn::Sleep,
    }
}

/// The session begins with what came behind its opening, and has its first turn next.
fn begin<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    mut settled: Settled,
) -> Turn {
    let slot = session.listener;
    session.moved = shared.timers.now;
    // What a client has encrypted for somebody else is passed on as it is.
    let is_passed_through = settled.hello.is_some() && settled.speaks == Some(Speaks::Tcp);
    session.take_told(&mut settled);
    session.may_be_check = settled.may_be_check;
    let protocol = start_settled(shared, slot, session.peer, &settled);
    let Protocol::Opening(opening) = std::mem::replace(&mut session.protocol, protocol) else {
        return Turn::Sleep;
    };
    if opening.is_handshake {
        shared.handshakes.end();
    }
    let account = shared.io.buffers.account_mut();
    account.give(Purpose::Input, opening.kept());
    let mut bytes = opening.bytes;
    let came = &mut bytes[settled.own_bytes..];
    let secured = match is_passed_through || session.client.is_secure() {
        true => Ok(false),
        false => session.client.put_layer(&mut shared.io.net, None, came),
    };
    let came = match secured {
        Ok(true) => &[][..],
        Ok(false) => &*came,
        Err(_) => return Turn::Close(CloseReason::Reset(Side::Client)),
    };
    let id = session.id(key);
    match &mut session.protocol {
        Protocol::Tcp(relay) => {
            session.client.set_ahead(false);
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
    Turn::Again
}
