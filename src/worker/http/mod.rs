//! Drives one HTTP session for a turn: one request after the other, each an exchange with a
//! backend or an answer of weir's own.
//!
//! A client between two requests holds nothing but its slab entry. A head that arrives whole is
//! parsed where it lies in the scratch space; only a head that comes in pieces, or a request that
//! is ahead of its turn, is kept in [`Http::input`].

mod connect;
mod exchange;
mod log;
mod output;
mod reply;
mod request;
mod response;
mod tunnel;
mod upload;

use crate::config::model::LogFormat;
use crate::core::buffer::Buffer;
use crate::core::http::head::{RequestHead, ResponseHead};
use crate::core::readiness::{Io, Readiness};
use crate::core::time::Tick;
use crate::net::{Net, Side};
use crate::worker::links::Owner;
use crate::worker::session::{CloseReason, Endpoint, Protocol, Session, Turn};
use crate::worker::shared::Shared;

pub(crate) use exchange::ActiveExchange;
pub(crate) use log::{AccessLog, PENDING_BYTES_MAX, log_tcp};

/// Requests that one session may begin in one turn before others run.
const REQUESTS_PER_TURN: usize = 16;

/// How long, and for how much, a closing connection reads on so that its last answer is not
/// destroyed by a reset (RFC 9112 section 9.6).
const LINGER_MS: u64 = 2_000;
const LINGER_BYTES_MAX: usize = 256 * 1024;

/// How long an idle client keeps its connection once weir is stopping.
const DRAIN_LINGER_MS: u64 = 250;

/// The client side of an HTTP session.
pub(crate) struct Http {
    /// Bytes of requests that have not begun: an incomplete head, or what was sent ahead.
    pub(crate) input: Vec<u8>,
    /// Bytes that the client would not take yet.
    pub(crate) output: Option<Buffer>,
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
    /// dropped, and the last of them came then.
    Discard(Tick, u64),
    /// A request is under way.
    Exchange,
    /// The last answer is out or on its way; reads on until then, for so many bytes.
    Linger(Tick, usize),
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
    /// What a backend is asked for: the path that the route leaves, and the query.
    pub(crate) target: Vec<u8>,
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
            target: Vec::new(),
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
        let since = self.transfer.net.wall();
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
            requests: 0,
            phase: Phase::Idle(now),
            exchange: None,
        }
    }

    /// How many buffers and pipes it holds.
    pub(crate) fn held(&self) -> (usize, usize) {
        let upload = self.exchange.as_ref().is_some_and(|x| x.has_upload());
        (usize::from(self.output.is_some()) + usize::from(upload), 0)
    }
}

/// What a step of the session asks for.
pub(crate) enum Next {
    /// Go on with the phase that is set now.
    Step,
    /// End the turn.
    Turn(Turn),
}

/// A session in parts, so that they can be borrowed apart.
pub(crate) struct Parts<'a, N: Net> {
    pub(crate) owner: Owner,
    pub(crate) client: &'a mut Endpoint<N>,
    pub(crate) http: &'a mut Http,
    pub(crate) facts: Facts,
    /// When something last moved; the idle deadlines count from it.
    pub(crate) moved: &'a mut Tick,
}

impl<'a, N: Net> Parts<'a, N> {
    /// The parts of a session that speaks HTTP.
    fn of(key: u32, session: &'a mut Session<N>) -> Option<Self> {
        let owner = session.owner(key);
        let Protocol::Http(http) = &mut session.protocol else {
            return None;
        };
        Some(Self {
            owner,
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
            // The session became a tunnel.
            return Turn::Again;
        };
        match parts.flush(shared) {
            Ok(true) => {}
            Ok(false) => return parts.while_blocked(shared),
            Err(turn) => return turn,
        }
        let next = match parts.http.phase {
            Phase::Idle(_) | Phase::Head(_) if begun == REQUESTS_PER_TURN => {
                return Turn::Again;
            }
            Phase::Idle(_) | Phase::Head(_) => {
                begun += 1;
                parts.read_request(shared)
            }
            Phase::Exchange => parts.step_exchange(shared),
            Phase::Discard(_, left) => parts.discard(shared, left),
            Phase::Linger(..) => parts.linger(shared),
        };
        match next {
            Next::Step => {}
            Next::Turn(turn) => {
                tunnel::adopt(key, session, shared);
                return turn;
            }
        }
    }
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
        Ok(()) => {
            parts.http.exchange = Some(exchange);
            Next::Step
        }
        Err(end) => parts.end_exchange(exchange, shared, end),
    };
    match next {
        Next::Turn(turn) => turn,
        Next::Step => run(key, session, shared),
    }
}

/// When the session ends, or something else is due, if nothing moves until then.
pub(crate) fn deadline<N: Net>(session: &Session<N>, shared: &Shared<N>) -> Tick {
    let Protocol::Http(http) = &session.protocol else {
        return shared.now;
    };
    let listener = &shared.listeners[session.listener as usize];
    let timeouts = &listener.timeouts;
    let body_end = session.moved.after(timeouts.body);
    match http.phase {
        _ if http.output.is_some() && http.phase != Phase::Exchange => body_end,
        Phase::Idle(since) => {
            let keep_alive = since.after(timeouts.keep_alive);
            match shared.parts_since(session.listener) {
                // A client that came since then gets its time, too.
                Some(began) => began
                    .max(since)
                    .after_ms(DRAIN_LINGER_MS)
                    .max(shared.now)
                    .min(keep_alive),
                None => keep_alive,
            }
        }
        Phase::Head(since) => since.after(timeouts.header),
        Phase::Discard(since, _) => since.after(timeouts.body),
        Phase::Linger(until, _) => until,
        Phase::Exchange => match &http.exchange {
            Some(exchange) => exchange.deadline(session, shared),
            None => shared.now,
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
    let is_stalled = parts.http.output.is_some();
    let next = match parts.http.phase {
        // What is held is lost with the connection, so that must not look like a clean end.
        phase if is_stalled && phase != Phase::Exchange => {
            Next::Turn(Turn::Close(CloseReason::Idle))
        }
        Phase::Idle(_) => Next::Turn(Turn::Close(CloseReason::KeepAliveEnd)),
        Phase::Linger(..) => Next::Turn(Turn::Close(CloseReason::Done)),
        Phase::Discard(..) => Next::Turn(Turn::Close(CloseReason::Idle)),
        _ if is_stalled => parts.cut_response(shared),
        Phase::Head(_) => parts.refuse_head(shared, 408),
        Phase::Exchange => parts.on_exchange_timeout(shared),
    };
    match next {
        Next::Turn(turn) => turn,
        Next::Step => run(key, session, shared),
    }
}

impl<N: Net> Parts<'_, N> {
    /// Reads and drops the rest of a body that nobody wants; then the next request may come.
    fn discard(&mut self, shared: &mut Shared<N>, mut left: u64) -> Next {
        while left > 0 {
            if !self.client.ready.has(Readiness::READ) {
                return Next::Turn(Turn::Sleep);
            }
            let transfer = &mut shared.transfer;
            let wanted = usize::try_from(left).unwrap_or(usize::MAX);
            let room = wanted.min(transfer.scratch.len());
            let space = &mut transfer.scratch[..room];
            match self.client.read(&mut transfer.net, space) {
                Io::Ready(count) => {
                    left -= count as u64;
                    self.http.phase = Phase::Discard(shared.now, left);
                }
                Io::Blocked => {}
                Io::Closed => return Next::Turn(Turn::Close(CloseReason::Done)),
                Io::Failed(_) => return Next::Turn(Turn::Close(CloseReason::Reset(Side::Client))),
            }
        }
        self.http.phase = Phase::Idle(shared.now);
        Next::Step
    }

    /// Reads what still comes on a connection that is closing, and forgets it.
    fn linger(&mut self, shared: &mut Shared<N>) -> Next {
        let Phase::Linger(until, mut left) = self.http.phase else {
            return Next::Step;
        };
        while self.client.ready.has(Readiness::READ) && left > 0 {
            let transfer = &mut shared.transfer;
            match self.client.read(&mut transfer.net, &mut transfer.scratch) {
                Io::Ready(count) => left = left.saturating_sub(count),
                Io::Blocked => {}
                Io::Closed => return Next::Turn(Turn::Close(CloseReason::Done)),
                Io::Failed(_) => return Next::Turn(Turn::Close(CloseReason::Reset(Side::Client))),
            }
        }
        if left == 0 {
            return Next::Turn(Turn::Close(CloseReason::Done));
        }
        self.http.phase = Phase::Linger(until, left);
        Next::Turn(Turn::Sleep)
    }

    /// The client does not take what is held for it: nothing else goes on, except that an
    /// exchange may notice that it has lost its client.
    fn while_blocked(&mut self, shared: &mut Shared<N>) -> Turn {
        if self.http.phase == Phase::Exchange
            && let Next::Turn(turn) = self.upload_while_blocked(shared)
        {
            return turn;
        }
        Turn::Sleep
    }

    /// Whether the client has sent more than its last request. Closing on that would reset the
    /// connection, and the reset overtakes the answer.
    fn has_more_input(&self, shared: &mut Shared<N>) -> bool {
        if !self.client.ready.has(Readiness::READ) {
            return false;
        }
        let net = &mut shared.transfer.net;
        match net.read(&self.client.stream, &mut [0; 1]) {
            Io::Ready(_) => true,
            Io::Blocked | Io::Closed | Io::Failed(_) => false,
        }
    }

    /// The last answer is out: tells the end and reads on for a while, or closes at once when
    /// the client has nothing more to say.
    pub(crate) fn close_after_answer(
        &mut self,
        shared: &mut Shared<N>,
        client_is_done: bool,
    ) -> Next {
        let is_out = self.http.output.is_none() && self.http.input.is_empty();
        if client_is_done && is_out && !self.has_more_input(shared) {
            // What the client may have sent since would reset the connection before its answer.
            shared.transfer.net.shutdown(&self.client.stream);
            return Next::Turn(Turn::Close(CloseReason::Done));
        }
        self.http.input = Vec::new();
        self.http.phase = Phase::Linger(shared.now.after_ms(LINGER_MS), LINGER_BYTES_MAX);
        if self.http.output.is_none() {
            shared.transfer.net.shutdown(&self.client.stream);
        }
        Next::Step
    }
}
