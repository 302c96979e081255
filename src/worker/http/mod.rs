//! Drives one HTTP session for a turn: one request after the other, each an exchange with a
//! backend or an answer of weir's own.
//!
//! A client between two requests holds nothing but its slab entry. A head that arrives whole is
//! parsed where it lies in the scratch space; only a head that comes in pieces, or a request that
//! is ahead of its turn, is kept in [`Http::input`].

mod connect;
mod drop;
mod exchange;
mod log;
mod output;
mod reply;
mod request;
mod response;
mod upload;

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use crate::board::ListenerCell;
use crate::config::model::LogFormat;
use crate::core::account::Purpose;
use crate::core::buffer::Buffer;
use crate::core::http::exchange::NO_MEMORY;
use crate::core::http::head::{RequestHead, ResponseHead};
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::attempt::Attempt;
use crate::worker::keys::SessionId;
use crate::worker::session::{Protocol, Session};
use crate::worker::shared::Shared;
use crate::worker::tcp::Relay;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Side, Turn};

pub(crate) use exchange::ActiveExchange;
pub(crate) use log::{AccessLog, PENDING_BYTES_MAX, log_incomplete, log_tcp, log_unfinished};

/// Requests that one session may begin in one turn before others run.
const REQUESTS_PER_TURN: usize = 16;

/// How long an idle client keeps its connection once weir is stopping.
const DRAIN_LINGER_MS: u64 = 250;

/// Request Timeout (RFC 9110 section 15.5.9): the client is too slow with its request.
const REQUEST_TIMEOUT: u16 = 408;

/// The client side of an HTTP session.
pub(crate) struct Http {
    /// Bytes of requests that have not begun: an incomplete head, or what was sent ahead.
    pub(crate) input: Vec<u8>,
    /// Bytes that the client would not take yet.
    pub(crate) output: Option<Buffer>,
    /// How long it may take nothing of the rest of an answer, if the listener does not say so.
    pub(crate) send: Option<Duration>,
    pub(crate) requests: u64,
    pub(crate) phase: Phase,
    pub(crate) exchange: Option<Box<ActiveExchange>>,
}

/// Where the client side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Between two requests, since then.
    Idle(Tick),
    /// A head is incomplete; its first byte came then.
    Head(Tick),
    /// A request was answered before its body had come; so many bytes of it are still to be
    /// dropped, until then at the latest.
    Discard(Tick, u64),
    /// A request is under way.
    Exchange,
    /// The last answer is out or on its way; what comes is dropped, until then at the latest, and
    /// then the connection closes for that reason.
    Linger(Tick, CloseReason),
}

impl Phase {
    /// When the request whose head is whole now began: with its first byte.
    fn began(self, now: Tick) -> Tick {
        match self {
            Self::Head(since) => since,
            Self::Idle(_) | Self::Exchange | Self::Discard(..) | Self::Linger(..) => now,
        }
    }
}

/// Space and caches that all HTTP sessions of a worker use in turn.
pub(crate) struct HttpSpace {
    pub(crate) request_head: RequestHead,
    pub(crate) response_head: ResponseHead,
    /// What is about to be written.
    pub(crate) out: Vec<u8>,
    /// The canonical path of a request.
    pub(crate) path: Vec<u8>,
    /// A target that had to be completed: an absolute one without a path.
    pub(crate) completed: Vec<u8>,
    /// Exchanges that are over.
    #[expect(clippy::vec_box, reason = "a spare box is handed out as it is")]
    pub(crate) spare: Vec<Box<ActiveExchange>>,
    /// The date as of `date_s`, in seconds since the Unix epoch.
    date: [u8; 29],
    date_s: u64,
    pub(crate) log: Option<AccessLog>,
    /// Access log lines that were lost before the log was turned off, if ever.
    lines_lost_before: u64,
}

impl HttpSpace {
    pub(crate) fn new() -> Self {
        Self {
            request_head: RequestHead::default(),
            response_head: ResponseHead::default(),
            out: Vec::new(),
            path: Vec::new(),
            completed: Vec::new(),
            spare: Vec::new(),
            date: crate::core::http::reply::imf_fixdate(0),
            date_s: 0,
            log: None,
            lines_lost_before: 0,
        }
    }

    /// Takes on the form of the access log; lines that wait stay, and are lost when there is to be
    /// none.
    pub(crate) fn adopt_log(&mut self, format: Option<LogFormat>) {
        let earlier = self.log.take();
        self.log = format.map(AccessLog::new);
        match (&mut self.log, earlier) {
            (Some(log), Some(earlier)) => log.inherit(earlier),
            (None, Some(mut earlier)) => {
                earlier.give_up();
                self.lines_lost_before += earlier.lost();
            }
            (_, None) => {}
        }
    }

    /// Access log lines that were lost.
    pub(crate) fn lines_lost(&self) -> u64 {
        self.lines_lost_before + self.log.as_ref().map_or(0, AccessLog::lost)
    }
}

impl<N: Net> Shared<N> {
    /// The present date as HTTP writes it, formatted once a second.
    pub(crate) fn date(&mut self) -> [u8; 29] {
        let unix_s = self.unix_ms() / 1_000;
        if unix_s != self.http.date_s {
            self.http.date_s = unix_s;
            self.http.date = crate::core::http::reply::imf_fixdate(unix_s);
        }
        self.http.date
    }

    /// Wall time in milliseconds since the Unix epoch.
    pub(crate) fn unix_ms(&self) -> u64 {
        let since = self.io.net.wall();
        let since = since.duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
    }
}

impl Http {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            input: Vec::new(),
            output: None,
            send: None,
            requests: 0,
            phase: Phase::Idle(now),
            exchange: None,
        }
    }

    /// Why its session ends, if its client has all that it asked for.
    pub(crate) fn answered<N: Net>(&self, client: &Endpoint<N>) -> Option<CloseReason> {
        let drops_request = |exchange: &ActiveExchange| exchange.drops_until.is_some();
        match self.phase {
            _ if self.is_blocked(client) || !self.input.is_empty() => None,
            Phase::Linger(_, reason) => Some(reason),
            Phase::Discard(..) => Some(CloseReason::Done),
            Phase::Idle(_) => (self.requests > 0).then_some(CloseReason::KeepAliveEnd),
            Phase::Exchange => {
                let exchange = self.exchange.as_deref();
                exchange
                    .is_some_and(drops_request)
                    .then_some(CloseReason::Done)
            }
            Phase::Head(_) => None,
        }
    }

    /// Whether bytes wait for the client to take them.
    pub(crate) fn is_blocked<N: Net>(&self, client: &Endpoint<N>) -> bool {
        self.output.is_some() || client.pending_bytes() > 0
    }

    /// How many buffers and pipes it holds.
    pub(crate) fn held(&self) -> (usize, usize) {
        let exchange = self.exchange.as_deref();
        let (uploads, pipes) = exchange.map_or((0, 0), ActiveExchange::held);
        (usize::from(self.output.is_some()) + uploads, pipes)
    }

    /// Bytes that it has of the account, by [`Purpose`](crate::core::account::Purpose).
    pub(crate) fn waiting(&self) -> [usize; 4] {
        let capacity = |buffer: Option<&Buffer>| buffer.map_or(0, Buffer::capacity);
        let exchange = self.exchange.as_deref();
        let upload = capacity(exchange.and_then(|x| x.upload.as_ref()));
        let (request, response) = exchange.map_or((0, 0), ActiveExchange::charged);
        let transit = capacity(self.output.as_ref()) + upload;
        [transit, self.input.capacity(), request, response]
    }
}

/// What a step of the session asks for.
pub(crate) enum Next {
    /// Go on with the phase that is set now.
    Step,
    /// End the turn.
    Turn(Turn),
    /// Go on in another protocol.
    Switch,
}

/// A session in parts, so that they can be borrowed apart.
pub(crate) struct Parts<'a, N: Net> {
    pub(crate) id: SessionId,
    pub(crate) client: &'a mut Endpoint<N>,
    pub(crate) http: &'a mut Http,
    pub(crate) facts: Facts,
    /// When something last moved; the idle deadlines count from it.
    pub(crate) moved: &'a mut Tick,
}

impl<'a, N: Net> Parts<'a, N> {
    /// The parts of a session that speaks HTTP.
    fn of(key: u32, session: &'a mut Session<N>) -> Option<Self> {
        let id = session.id(key);
        let Protocol::Http(http) = &mut session.protocol else {
            return None;
        };
        Some(Self {
            id,
            client: &mut session.client,
            http,
            facts: Facts {
                peer: session.peer,
                listener: session.listener,
            },
            moved: &mut session.moved,
        })
    }
}

/// What does not change over the life of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) peer: Option<std::net::SocketAddr>,
    pub(crate) listener: u32,
}

/// Runs a session until it has to wait, is over, or has spent its budget.
pub(crate) fn run<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
    let mut begun = 0;
    loop {
        let Some(mut parts) = Parts::of(key, session) else {
            return Turn::Again;
        };
        let is_out = match parts.flush(shared) {
            Ok(is_out) => is_out,
            Err(turn) => return turn,
        };
        let next = match parts.http.phase {
            _ if !is_out => parts.while_blocked(shared),
            Phase::Idle(_) | Phase::Head(_) if begun == REQUESTS_PER_TURN => {
                return Turn::Again;
            }
            Phase::Idle(_) | Phase::Head(_) => {
                begun += 1;
                parts.read_request(shared)
            }
            Phase::Exchange => parts.step_exchange(shared),
            Phase::Discard(until, left) => parts.discard(shared, until, left),
            Phase::Linger(_, reason) => parts.linger(shared, reason),
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
    let attempt = std::mem::replace(&mut exchange.attempt, Attempt::new(0, 0));
    let timeout = exchange.site.routes[exchange.route].timeouts.tunnel;
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
pub(crate) fn feed<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) -> Turn {
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
        _ if http.is_blocked(&session.client) && http.phase != Phase::Exchange => {
            session.moved.after(http.send.unwrap_or(timeouts.send))
        }
        Phase::Idle(since) => {
            let keep_alive = since.after(timeouts.keep_alive);
            match shared.listeners.parts_since(session.listener) {
                // A client that came since then gets its time, too.
                Some(began) => began
                    .max(since)
                    .after_ms(DRAIN_LINGER_MS)
                    .max(shared.timers.now)
                    .min(keep_alive),
                None => keep_alive,
            }
        }
        Phase::Head(since) => since.after(timeouts.header),
        Phase::Discard(until, _) | Phase::Linger(until, _) => drop::deadline(until, session.moved),
        Phase::Exchange => match &http.exchange {
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
        phase if is_stalled && phase != Phase::Exchange => {
            Next::Turn(Turn::Close(CloseReason::Idle))
        }
        Phase::Idle(_) if !parts.http.input.is_empty() || parts.client.may_read() => {
            // What it has sent has waited for memory.
            parts.refuse_head(shared, (503, Some(NO_MEMORY)))
        }
        Phase::Idle(_) => parts.close_idle(shared),
        Phase::Linger(_, reason) => Next::Turn(Turn::Close(reason)),
        Phase::Discard(..) => Next::Turn(Turn::Close(CloseReason::Idle)),
        _ if is_stalled => parts.cut_response(shared),
        Phase::Head(_) => {
            shared.count(parts.facts.listener, ListenerCell::TimedOut, 1);
            parts.refuse_head(shared, (REQUEST_TIMEOUT, None))
        }
        Phase::Exchange => parts.on_exchange_timeout(shared),
    };
    match next {
        Next::Turn(turn) => turn,
        Next::Step => run(key, session, shared),
        Next::Switch => switch(session, shared),
    }
}

impl<N: Net> Parts<'_, N> {
    /// Whether bytes wait for the client to take them.
    fn is_blocked(&self) -> bool {
        self.http.is_blocked(self.client)
    }

    /// The client does not take what is held for it: nothing else goes on, except that the rest of
    /// its request still goes where it is to go. It may be what the client is waiting for.
    fn while_blocked(&mut self, shared: &mut Shared<N>) -> Next {
        let next = match self.http.phase {
            Phase::Exchange => self.upload_while_blocked(shared),
            Phase::Discard(until, left) => self.discard_while_blocked(shared, until, left),
            Phase::Linger(_, reason) => self.linger(shared, reason),
            Phase::Idle(_) | Phase::Head(_) => Next::Step,
        };
        match next {
            Next::Step => Next::Turn(Turn::Sleep),
            Next::Turn(_) | Next::Switch => next,
        }
    }
}
