//! One request and its response: connect, upload, retry, finish.
//!
//! The request stays in [`Exchange::request`] until its answer begins, so that a failure before
//! that can be mended on another connection (behaviour P14). The way down is in `response`.

use std::io::ErrorKind;
use std::sync::Arc;

use log::debug;

use crate::board::{BackendCell, ListenerCell};
use crate::core::access_log::{StickyUse, Why};
use crate::core::buffer::Buffer;
use crate::core::http::body::{Body, Framing, Transfer as BodyTransfer};
use crate::core::http::head::{RequestFacts, Version};
use crate::core::http::rewrite::CONTINUE;
use crate::core::readiness::{Io, Readiness};
use crate::core::time::Tick;
use crate::net::{Kind, Net, Side, Target};
use crate::worker::connect::{self, Attempt, Confirmed, NoBackend};
use crate::worker::http::log::Record;
use crate::worker::http::output::{flush, write, write_or_hold};
use crate::worker::http::{Next, Parts, Phase};
use crate::worker::links::LinkKey;
use crate::worker::session::{CloseReason, Protocol, Session, Turn};
use crate::worker::shared::Shared;
use crate::worker::site::Site;
use crate::worker::tcp::{Relay, TURN_BUDGET_BYTES};

/// Read at once of a body whose end is not known beforehand: what follows it has to be kept.
const CHUNKED_READ_BYTES: usize = 16 * 1024;

/// Spare exchanges kept for reuse, and the longest request that one may keep room for.
const SPARE_EXCHANGES_MAX: usize = 256;
const SPARE_REQUEST_BYTES_MAX: usize = 4 * 1024;

/// Where an exchange stands with its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection is chosen.
    New,
    /// The connection is being made, since then.
    Connecting(Tick),
    /// The connection stands.
    Established,
    /// The backend has changed to another protocol.
    Tunnel,
}

/// A response whose head has gone to the client.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Body,
    pub(super) transfer: BodyTransfer,
    /// Whether the backend connection may be used again.
    pub(super) is_reusable: bool,
    /// Whether the client connection is kept.
    pub(super) keeps_client: bool,
    /// Whether only the end of the connection tells the client that the body is whole.
    pub(super) ends_by_closing: bool,
}

/// One request and its response.
pub(crate) struct Exchange {
    pub(super) site: Arc<Site>,
    pub(super) route: usize,
    pub(super) facts: RequestFacts,
    pub(super) attempt: Attempt,
    pub(super) link: Option<LinkKey>,
    /// The link has served before, and may have ended just now.
    is_reused: bool,
    pub(super) stage: Stage,
    /// The outgoing head and what of the body came with it.
    pub(super) request: Vec<u8>,
    pub(super) head_bytes: usize,
    sent: usize,
    /// `request` is all that was sent: it can be sent again.
    is_replayable: bool,
    /// The backend takes no more; what it says is still read.
    is_upload_dead: bool,
    pub(super) target: Vec<u8>,
    /// The protocols that the client offers to change to.
    pub(super) offered: Vec<u8>,
    pub(super) request_body: Body,
    /// Body bytes that the backend would not take yet.
    upload: Option<Buffer>,
    pub(super) response_head: Vec<u8>,
    pub(super) response: Option<Response>,
    /// The backend sent more than its response.
    pub(super) has_surplus: bool,
    /// When weir answers 100 itself.
    pub(super) continue_at: Option<Tick>,
    /// weir has answered 100 itself.
    pub(super) has_continued: bool,
    pub(super) sticky: Option<StickyUse>,
    pub(super) secure_client: bool,
    pub(super) started: Tick,
    pub(super) connect_ms: Option<u64>,
    pub(super) sent_at: Tick,
    pub(super) ttfb_ms: Option<u64>,
    pub(super) bytes_out: u64,
    pub(super) record: Option<Box<Record>>,
}

impl Exchange {
    fn new(site: Arc<Site>, facts: RequestFacts) -> Self {
        Self {
            site,
            route: 0,
            facts,
            attempt: Attempt::new(0, 0),
            link: None,
            is_reused: false,
            stage: Stage::New,
            request: Vec::new(),
            head_bytes: 0,
            sent: 0,
            is_replayable: true,
            is_upload_dead: false,
            target: Vec::new(),
            offered: Vec::new(),
            request_body: Self::request_framing(facts.framing),
            upload: None,
            response_head: Vec::new(),
            response: None,
            has_surplus: false,
            continue_at: None,
            has_continued: false,
            sticky: None,
            secure_client: false,
            started: Tick(0),
            connect_ms: None,
            sent_at: Tick(0),
            ttfb_ms: None,
            bytes_out: 0,
            record: None,
        }
    }

    /// Whether it holds a lease on a backend.
    pub(crate) fn has_lease(&self) -> bool {
        self.attempt.lease.is_some()
    }

    /// Whether body bytes wait for the backend.
    pub(crate) fn has_upload(&self) -> bool {
        self.upload.is_some()
    }

    /// Whether all of the request has left.
    fn is_sent(&self) -> bool {
        self.sent == self.request.len() && self.request_body.is_done() && self.upload.is_none()
    }

    /// Whether the client has offered to change to all of these protocols.
    pub(super) fn has_offered<'a>(&self, chosen: impl Iterator<Item = &'a [u8]>) -> bool {
        let elements = |list: &'a [u8]| list.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        let offered = |protocol: &[u8]| {
            let mut offers = self.offered.split(|&byte| byte == b',');
            offers.any(|offer| offer.trim_ascii().eq_ignore_ascii_case(protocol))
        };
        chosen
            .flat_map(elements)
            .filter(|protocol| !protocol.is_empty())
            .all(offered)
    }

    /// Whether the client has sent all of its request.
    pub(super) fn is_received(&self) -> bool {
        self.request_body.is_done()
    }

    /// When something is due if nothing moves until then.
    pub(super) fn deadline<N: Net>(&self, session: &Session<N>, shared: &Shared<N>) -> Tick {
        let timeouts = shared.timeouts(session.listener, self.attempt.upstream);
        let end = match self.stage {
            Stage::Connecting(since) => since.after(timeouts.connect),
            Stage::New | Stage::Established | Stage::Tunnel => {
                if self.response.is_some() || !self.is_sent() {
                    session.moved.after(timeouts.body)
                } else {
                    session.moved.after(timeouts.response)
                }
            }
        };
        self.continue_at.map_or(end, |at| at.min(end))
    }
}

impl<N: Net> Shared<N> {
    /// An exchange for a new request, from the spare ones if there is one.
    pub(super) fn spare_exchange(&mut self, site: Arc<Site>, facts: RequestFacts) -> Box<Exchange> {
        let Some(mut spare) = self.http.spare.pop() else {
            return Box::new(Exchange::new(site, facts));
        };
        let empty = |bytes: &mut Vec<u8>| {
            let mut bytes = std::mem::take(bytes);
            bytes.clear();
            bytes
        };
        let request = empty(&mut spare.request);
        let target = empty(&mut spare.target);
        *spare = Exchange {
            request,
            target,
            ..Exchange::new(site, facts)
        };
        spare
    }

    /// Keeps an exchange that is over for the next request.
    pub(super) fn keep_spare(&mut self, exchange: Box<Exchange>) {
        if self.http.spare.len() < SPARE_EXCHANGES_MAX
            && exchange.request.capacity() <= SPARE_REQUEST_BYTES_MAX
        {
            self.http.spare.push(exchange);
        }
    }

    /// Gives back all that an exchange holds of others: link, lease and buffers.
    pub(crate) fn release_exchange(&mut self, mut exchange: Box<Exchange>, park: bool) {
        if let Some(link) = exchange.link.take() {
            if park {
                self.park_link(link);
            } else if exchange.response.is_none() && exchange.stage == Stage::Established {
                // The backend should not go on working for nobody.
                self.reset_link(link);
            } else {
                self.close_link(link);
            }
        }
        if let Some(lease) = exchange.attempt.lease.take() {
            self.give_back(lease);
        }
        if let Some(buffer) = exchange.upload.take() {
            self.transfer.buffers.give(buffer);
        }
        self.keep_spare(exchange);
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The response is with the client, or held for it.
    Complete,
    /// No response has begun: weir answers with this status.
    Fail(u16, Why),
    /// The client has gone.
    ClientGone,
    /// The response cannot be completed: the client must see that.
    Cut(CloseReason, Why),
    /// The connection belongs to another protocol from here on.
    Tunnel,
}

impl<N: Net> Parts<'_, N> {
    /// Moves an exchange on as far as both ends allow.
    pub(super) fn step_exchange(&mut self, shared: &mut Shared<N>, moved: &mut Tick) -> Next {
        let Some(mut exchange) = self.http.exchange.take() else {
            self.http.phase = Phase::Idle(shared.now);
            return Next::Step;
        };
        let mut budget = TURN_BUDGET_BYTES;
        loop {
            let before = budget;
            match self.advance(&mut exchange, shared, &mut budget) {
                Err(end) => {
                    *moved = shared.now;
                    return self.end_exchange(exchange, shared, end);
                }
                Ok(has_moved) => {
                    if has_moved || budget < before {
                        *moved = shared.now;
                    }
                    let turn = match (has_moved, budget) {
                        (false, _) => Turn::Sleep,
                        (true, 0) => Turn::Again,
                        (true, _) => continue,
                    };
                    self.http.exchange = Some(exchange);
                    return Next::Turn(turn);
                }
            }
        }
    }

    /// While the client takes nothing, what it sends still goes up.
    pub(super) fn upload_while_blocked(
        &mut self,
        shared: &mut Shared<N>,
        moved: &mut Tick,
    ) -> Next {
        let Some(mut exchange) = self.http.exchange.take() else {
            return Next::Turn(Turn::Sleep);
        };
        if exchange.stage != Stage::Established {
            self.http.exchange = Some(exchange);
            return Next::Turn(Turn::Sleep);
        }
        let mut budget = TURN_BUDGET_BYTES;
        loop {
            match self.upload(&mut exchange, shared, &mut budget) {
                Err(end) => return self.end_exchange(exchange, shared, end),
                Ok(has_moved) => {
                    if has_moved {
                        *moved = shared.now;
                        if budget > 0 {
                            continue;
                        }
                    }
                    self.http.exchange = Some(exchange);
                    let turn = if has_moved { Turn::Again } else { Turn::Sleep };
                    return Next::Turn(turn);
                }
            }
        }
    }

    /// One round in both directions; whether anything moved.
    fn advance(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Result<bool, End> {
        match exchange.stage {
            Stage::New => {
                self.connect(exchange, shared, true)?;
                return Ok(exchange.stage == Stage::Established);
            }
            Stage::Connecting(since) => {
                let Some(link) = exchange.link else {
                    return Err(End::Fail(502, Why::ConnectFailed));
                };
                let endpoint = &mut shared.links[link as usize].endpoint;
                match connect::confirm(endpoint, &mut shared.transfer.net) {
                    Confirmed::NotYet => return self.watch_client(exchange, shared),
                    Confirmed::Yes => {
                        exchange.stage = Stage::Established;
                        exchange.connect_ms = Some(shared.now.since_ms(since));
                        exchange.sent_at = shared.now;
                    }
                    Confirmed::Failed(kind) => {
                        let why = connect::reason(kind);
                        self.on_connect_failed(exchange, shared, &why, 502)?;
                        return Ok(true);
                    }
                }
            }
            Stage::Established => {}
            Stage::Tunnel => return Err(End::Tunnel),
        }
        let up = self.upload(exchange, shared, budget)?;
        let down = self.download(exchange, shared, budget)?;
        Ok(up || down)
    }

    /// Chooses a connection: a parked one of the picked backend, or a new one.
    fn connect(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        may_reuse: bool,
    ) -> Result<(), End> {
        loop {
            let backend = match &exchange.attempt.lease {
                Some(lease) => lease.backend,
                None => match exchange.attempt.pick(shared) {
                    Ok(backend) => backend,
                    Err(NoBackend) if exchange.attempt.tried.is_empty() => {
                        shared.log_refused(exchange.attempt.upstream, self.facts.listener);
                        return Err(End::Fail(503, Why::NoBackend));
                    }
                    Err(NoBackend) => return Err(End::Fail(502, Why::ConnectFailed)),
                },
            };
            let is_repeatable = exchange.facts.method.is_idempotent();
            if may_reuse && let Some(link) = shared.take_link(backend, self.owner, is_repeatable) {
                exchange.link = Some(link);
                exchange.is_reused = true;
                exchange.stage = Stage::Established;
                exchange.connect_ms = Some(0);
                exchange.sent_at = shared.now;
                return Ok(());
            }
            match exchange.attempt.dial(shared) {
                Ok(stream) => return self.open_link(exchange, shared, stream),
                Err(kind) => exchange.attempt.pass_over(shared, kind),
            }
        }
    }

    fn open_link(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        mut stream: N::Stream,
    ) -> Result<(), End> {
        loop {
            let Some(lease) = &exchange.attempt.lease else {
                shared.transfer.net.close(stream);
                return Err(End::Fail(502, Why::ConnectFailed));
            };
            match shared.open_link(stream, lease.backend, self.owner) {
                Ok(link) => {
                    exchange.link = Some(link);
                    exchange.is_reused = false;
                    exchange.stage = Stage::Connecting(shared.now);
                    return Ok(());
                }
                Err(error) => {
                    let next = exchange.attempt.reopen(shared, &error.to_string());
                    stream = next.map_err(|NoBackend| End::Fail(502, Why::ConnectFailed))?;
                }
            }
        }
    }

    /// A connection could not be made: the next address, or the next backend.
    fn on_connect_failed(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        why: &str,
        status: u16,
    ) -> Result<(), End> {
        if let Some(link) = exchange.link.take() {
            shared.close_link(link);
        }
        exchange.sent = 0;
        let code = if status == 504 {
            Why::ConnectTimeout
        } else {
            Why::ConnectFailed
        };
        match exchange.attempt.reopen(shared, why) {
            Ok(stream) => self.open_link(exchange, shared, stream),
            Err(NoBackend) => Err(End::Fail(status, code)),
        }
    }

    /// The backend failed before its answer began: sends the request again where that is safe.
    pub(super) fn retry_or_fail(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        why: &str,
    ) -> Result<(), End> {
        let was_reused = exchange.is_reused;
        let is_untouched = exchange.sent == 0;
        if let Some(link) = exchange.link.take() {
            shared.close_link(link);
        }
        exchange.response_head.clear();
        exchange.is_upload_dead = false;
        let may_replay =
            exchange.is_replayable && (is_untouched || exchange.facts.method.is_idempotent());
        let failed = Err(End::Fail(502, Why::BackendClosedBeforeHead));
        if was_reused && may_replay {
            // It had ended while it was parked: no fault of the backend's.
            exchange.sent = 0;
            exchange.stage = Stage::New;
            return self.connect(exchange, shared, false);
        }
        if was_reused {
            return failed;
        }
        let upstream = &mut shared.upstreams[exchange.attempt.upstream as usize];
        let has_tries = exchange.attempt.tried.len() + 1 < upstream.settings.tries_max as usize;
        let may_retry =
            may_replay && has_tries && (is_untouched || upstream.budget.try_retry(shared.now));
        exchange.attempt.give_up(shared, why);
        if !may_retry {
            return failed;
        }
        debug!("request sent again: {why}");
        exchange.sent = 0;
        exchange.stage = Stage::New;
        match self.connect(exchange, shared, false) {
            Err(End::Fail(..)) => failed,
            other => other,
        }
    }

    /// Sends what there is of the request; whether anything moved.
    fn upload(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Result<bool, End> {
        let Some(link) = exchange.link else {
            return Ok(false);
        };
        if exchange.is_upload_dead {
            return Ok(false);
        }
        let mut has_moved = false;
        if exchange.sent < exchange.request.len() {
            let endpoint = &mut shared.links[link as usize].endpoint;
            let rest = &exchange.request[exchange.sent..];
            match write(endpoint, &mut shared.transfer.net, rest, &[]) {
                Ok(0) => return self.watch_client(exchange, shared),
                Ok(count) => {
                    exchange.sent += count;
                    count_sent(exchange, shared, count);
                    has_moved = true;
                }
                Err(kind) => return self.on_upload_failed(exchange, shared, kind),
            }
            if exchange.sent < exchange.request.len() {
                return Ok(has_moved);
            }
            exchange.sent_at = shared.now;
        }
        if exchange.upload.is_some() {
            let endpoint = &mut shared.links[link as usize].endpoint;
            match flush(endpoint, &mut exchange.upload, &mut shared.transfer) {
                Ok((done, count)) => {
                    has_moved |= count > 0;
                    if !done {
                        return Ok(has_moved);
                    }
                }
                Err(kind) => return self.on_upload_failed(exchange, shared, kind),
            }
        }
        if exchange.request_body.is_done() {
            return Ok(self.watch_client(exchange, shared)? || has_moved);
        }
        Ok(self.stream_body(exchange, shared, budget)? || has_moved)
    }

    /// The backend takes no more of the request. It may have answered already, so what it sent
    /// is read before it counts as failed.
    fn on_upload_failed(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        kind: ErrorKind,
    ) -> Result<bool, End> {
        debug!("backend takes no more of the request: {kind}");
        exchange.is_upload_dead = true;
        if let Some(buffer) = exchange.upload.take() {
            shared.transfer.buffers.give(buffer);
        }
        if let Some(link) = exchange.link {
            let ready = &mut shared.links[link as usize].endpoint.ready;
            ready.add(Readiness::READ | Readiness::CLOSING);
        }
        Ok(true)
    }

    /// Reads a part of the body from the client and sends it on.
    fn stream_body(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Result<bool, End> {
        if !self.client.ready.has(Readiness::READ) || *budget == 0 {
            return Ok(false);
        }
        let mut scratch = std::mem::take(&mut shared.transfer.scratch);
        let outcome = self.stream_with(exchange, shared, &mut scratch, budget);
        shared.transfer.scratch = scratch;
        outcome
    }

    fn stream_with(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        scratch: &mut [u8],
        budget: &mut usize,
    ) -> Result<bool, End> {
        // No more is read than belongs to the body, as far as that is known.
        let wanted = match exchange.facts.framing {
            Framing::Length(_) => {
                usize::try_from(exchange.request_body.opaque_bytes()).unwrap_or(usize::MAX)
            }
            Framing::None | Framing::Chunked | Framing::UntilClose => CHUNKED_READ_BYTES,
        };
        let room = wanted
            .min(scratch.len())
            .min(shared.transfer.buffers.next_bytes());
        let found = shared
            .transfer
            .net
            .read(&self.client.stream, &mut scratch[..room]);
        let count = match found {
            Io::Ready(count) => count,
            Io::Blocked => {
                self.client.ready.clear(Readiness::READ);
                return Ok(false);
            }
            Io::Closed | Io::Failed(_) => return Err(End::ClientGone),
        };
        if count < room && !self.client.ready.has(Readiness::CLOSING) {
            self.client.ready.clear(Readiness::READ);
        }
        *budget = budget.saturating_sub(count);
        shared.count(self.facts.listener, ListenerCell::BytesIn, count as u64);
        exchange.is_replayable = false;
        exchange.continue_at = None;
        self.send_body(exchange, shared, &scratch[..count])?;
        Ok(true)
    }

    fn send_body(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        bytes: &[u8],
    ) -> Result<(), End> {
        let mut out = std::mem::take(&mut shared.http.out);
        out.clear();
        let relayed = relay(&mut exchange.request_body, bytes, &mut out);
        let outcome = match relayed {
            Err(_) => Err(End::Fail(400, Why::Refused)),
            Ok(Relayed { direct, consumed }) => {
                self.http.input.extend_from_slice(&bytes[consumed..]);
                self.check_body_limit(exchange)
                    .and_then(|()| self.write_body(exchange, shared, &out, &bytes[..direct]))
            }
        };
        shared.http.out = out;
        outcome
    }

    fn check_body_limit(&self, exchange: &Exchange) -> Result<(), End> {
        let route = &exchange.site.routes[exchange.route];
        match route.body_bytes_max {
            Some(max) if exchange.request_body.payload_bytes() > max => {
                Err(End::Fail(413, Why::Refused))
            }
            _ => Ok(()),
        }
    }

    fn write_body(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        first: &[u8],
        second: &[u8],
    ) -> Result<(), End> {
        let Some(link) = exchange.link else {
            return Ok(());
        };
        let endpoint = &mut shared.links[link as usize].endpoint;
        let transfer = &mut shared.transfer;
        match write_or_hold(endpoint, &mut exchange.upload, transfer, first, second) {
            Ok(_) => {
                count_sent(exchange, shared, first.len() + second.len());
                Ok(())
            }
            Err(kind) => self.on_upload_failed(exchange, shared, kind).map(drop),
        }
    }

    /// Nothing is expected of the client now: notices when it leaves, and keeps what it sends
    /// ahead within the size of a head.
    fn watch_client(&mut self, exchange: &Exchange, shared: &mut Shared<N>) -> Result<bool, End> {
        let is_leaving = self.client.ready.has(Readiness::CLOSING);
        let room = exchange
            .site
            .limits
            .head_bytes_max
            .saturating_sub(self.http.input.len());
        if !is_leaving || !self.client.ready.has(Readiness::READ) || room == 0 {
            return Ok(false);
        }
        if exchange.response.is_some() || !exchange.is_received() {
            return Ok(false);
        }
        let transfer = &mut shared.transfer;
        let room = room.min(transfer.scratch.len());
        match transfer
            .net
            .read(&self.client.stream, &mut transfer.scratch[..room])
        {
            Io::Ready(count) => {
                let ahead = &transfer.scratch[..count];
                self.http.input.extend_from_slice(ahead);
                Ok(true)
            }
            Io::Blocked => {
                self.client.ready.clear(Readiness::READ);
                Ok(false)
            }
            // Who said that this request is the last may end its direction and still listen; who
            // could have gone on has left.
            Io::Closed if !exchange.facts.keep_alive => {
                self.client.ready.clear(Readiness::READ);
                Ok(false)
            }
            Io::Closed | Io::Failed(_) => Err(End::ClientGone),
        }
    }

    /// The exchange has stood still for too long, or weir's own 100 is due.
    pub(super) fn on_exchange_timeout(&mut self, shared: &mut Shared<N>, moved: Tick) -> Next {
        let Some(mut exchange) = self.http.exchange.take() else {
            return Next::Turn(Turn::Close(CloseReason::Idle));
        };
        if exchange.continue_at.is_some_and(|at| at <= shared.now) {
            exchange.continue_at = None;
            exchange.has_continued = true;
            let sent = self.send(shared, CONTINUE, &[]);
            self.http.exchange = Some(exchange);
            return sent.map_or_else(Next::Turn, |()| Next::Step);
        }
        let _ = moved;
        let end = match exchange.stage {
            Stage::Connecting(_) => {
                match self.on_connect_failed(&mut exchange, shared, "connect timed out", 504) {
                    Ok(()) => {
                        self.http.exchange = Some(exchange);
                        return Next::Step;
                    }
                    Err(end) => end,
                }
            }
            Stage::New | Stage::Established | Stage::Tunnel => match &exchange.response {
                Some(_) => End::Cut(CloseReason::Idle, Why::BodyIdle),
                None if !exchange.is_received() && exchange.upload.is_none() => {
                    End::Fail(408, Why::BodyIdle)
                }
                None => {
                    self.on_response_timeout(&exchange, shared);
                    End::Fail(504, Why::ResponseTimeout)
                }
            },
        };
        self.end_exchange(exchange, shared, end)
    }

    fn on_response_timeout(&self, exchange: &Exchange, shared: &mut Shared<N>) {
        if let Some(lease) = &exchange.attempt.lease {
            let backend = lease.backend;
            shared.on_connect_failure(backend, "response timed out");
        }
    }

    /// Does what follows from the end of an exchange.
    fn end_exchange(
        &mut self,
        mut exchange: Box<Exchange>,
        shared: &mut Shared<N>,
        end: End,
    ) -> Next {
        match end {
            End::Complete => self.finish(exchange, shared),
            End::Tunnel => {
                exchange.stage = Stage::Tunnel;
                self.log_exchange(&mut exchange, shared, Why::Ok);
                self.http.exchange = Some(exchange);
                Next::Turn(Turn::Again)
            }
            End::Fail(status, why) => self.fail(exchange, shared, status, why),
            End::ClientGone => {
                let why = if exchange.is_received() {
                    Why::ClientLeftInData
                } else {
                    Why::ClientLeftInRequest
                };
                self.log_exchange(&mut exchange, shared, why);
                shared.release_exchange(exchange, false);
                Next::Turn(Turn::Close(CloseReason::Reset(Side::Client)))
            }
            End::Cut(reason, why) => {
                self.log_exchange(&mut exchange, shared, why);
                let is_hidden = exchange
                    .response
                    .as_ref()
                    .is_some_and(|r| r.ends_by_closing);
                shared.release_exchange(exchange, false);
                let reason = if is_hidden {
                    reason
                } else {
                    CloseReason::Truncated
                };
                Next::Turn(Turn::Close(reason))
            }
        }
    }

    /// The client stopped taking a response, or the drain ended.
    pub(super) fn cut_response(&mut self, shared: &mut Shared<N>, reason: CloseReason) -> Next {
        match self.http.exchange.take() {
            Some(exchange) => self.end_exchange(exchange, shared, End::Cut(reason, Why::BodyIdle)),
            None => Next::Turn(Turn::Close(reason)),
        }
    }

    /// The response is complete.
    fn finish(&mut self, mut exchange: Box<Exchange>, shared: &mut Shared<N>) -> Next {
        self.log_exchange(&mut exchange, shared, Why::Ok);
        let Some(response) = &exchange.response else {
            shared.release_exchange(exchange, false);
            return Next::Turn(Turn::Close(CloseReason::Truncated));
        };
        let is_received = exchange.is_received();
        let keeps_client = response.keeps_client && is_received;
        let client_is_done = is_received && !exchange.facts.keep_alive;
        let park = response.is_reusable && exchange.is_sent() && !exchange.has_surplus;
        shared.release_exchange(exchange, park);
        if keeps_client {
            self.http.phase = Phase::Idle(shared.now);
            return Next::Step;
        }
        self.close_after_answer(shared, client_is_done)
    }

    /// No response has begun, and none will: weir answers.
    fn fail(
        &mut self,
        mut exchange: Box<Exchange>,
        shared: &mut Shared<N>,
        status: u16,
        why: Why,
    ) -> Next {
        if exchange.response.is_some() {
            return self.end_exchange(exchange, shared, End::Cut(CloseReason::Truncated, why));
        }
        let facts = exchange.facts;
        let is_received = exchange.is_received();
        let keep = is_received && shared.draining_since.is_none();
        let upstream = Some(exchange.attempt.upstream);
        let sent = self.send_error(
            shared,
            &exchange.site,
            upstream,
            Some(&facts),
            (status, keep),
        );
        if let Some(record) = exchange.record.as_deref_mut() {
            record.status = Some(status);
        }
        self.log_exchange(&mut exchange, shared, why);
        shared.release_exchange(exchange, false);
        match sent {
            Err(turn) => Next::Turn(turn),
            Ok(()) if keep && facts.keep_alive => {
                self.http.phase = Phase::Idle(shared.now);
                Next::Step
            }
            Ok(()) => self.close_after_answer(shared, is_received && !facts.keep_alive),
        }
    }
}

fn count_sent<N: Net>(exchange: &Exchange, shared: &Shared<N>, count: usize) {
    if let Some(lease) = &exchange.attempt.lease {
        let column = shared.place(lease.backend).column;
        shared
            .board
            .add(column, BackendCell::BytesOut, count as u64);
    }
}

/// What of some body bytes goes on.
pub(super) struct Relayed {
    /// So many from the front go on as they are, after what was gathered.
    pub(super) direct: usize,
    /// So many belong to the body.
    pub(super) consumed: usize,
}

/// Judges body bytes. What goes on is the front of `bytes` where it can go as it lies, or else
/// gathered in `out`.
pub(super) fn relay(
    body: &mut Body,
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<Relayed, crate::core::http::body::BodyError> {
    let first = body.feed(bytes)?;
    let is_whole = first.done || first.consumed == bytes.len();
    if is_whole && (!first.done || body.trailers().is_empty()) {
        return Ok(Relayed {
            direct: first.forward,
            consumed: first.consumed,
        });
    }
    out.extend_from_slice(&bytes[..first.forward]);
    let mut consumed = first.consumed;
    while consumed < bytes.len() && !body.is_done() {
        let piece = body.feed(&bytes[consumed..])?;
        out.extend_from_slice(&bytes[consumed..consumed + piece.forward]);
        consumed += piece.consumed;
    }
    if body.is_done() {
        out.extend_from_slice(body.trailers());
    }
    Ok(Relayed {
        direct: 0,
        consumed,
    })
}

/// Whether an interim response may go to such a client (RFC 9110 section 15.2).
pub(super) fn takes_interim(facts: &RequestFacts) -> bool {
    facts.version == Version::Http11
}

/// Turns a session whose backend has changed protocols into a relay of bytes.
pub(super) fn adopt_tunnel<N: Net>(key: u32, session: &mut Session<N>, shared: &mut Shared<N>) {
    let Protocol::Http(http) = &mut session.protocol else {
        return;
    };
    if !http
        .exchange
        .as_ref()
        .is_some_and(|x| x.stage == Stage::Tunnel)
    {
        return;
    }
    let Some(mut exchange) = http.exchange.take() else {
        return;
    };
    let link = exchange
        .link
        .take()
        .and_then(|link| shared.remove_link(link));
    let Some(mut link) = link else {
        return;
    };
    let generation = shared.next_generation();
    let kind = Kind::Session(Side::Backend);
    let target = Target {
        kind,
        key,
        generation,
    };
    if shared
        .transfer
        .net
        .rewatch(&link.endpoint.stream, target)
        .is_err()
    {
        // Without events the relay ends at its idle time at the latest.
        debug!("cannot watch a tunnel");
    }
    link.endpoint.generation = generation;
    let attempt = std::mem::replace(&mut exchange.attempt, Attempt::new(0, 0));
    let mut relay = Relay::tunnel(attempt, link.endpoint);
    if !http.input.is_empty() {
        relay.up.hold(shared.transfer.buffers.hold(&[&http.input]));
    }
    if let Some(buffer) = http.output.take() {
        relay.down.hold(buffer);
    }
    shared.keep_spare(exchange);
    session.protocol = Protocol::Tcp(relay);
}
