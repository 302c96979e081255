//! One request and its response: the stages, what each end of it means, and who takes turns.
//!
//! The request stays in [`Exchange::request`] until its answer begins, so that a failure before
//! that can be mended on another connection. `connect` finds that connection, `upload` is the way
//! up, `response` the way down, and `tunnel` what follows a change of protocols.

use std::sync::Arc;

use crate::core::access_log::{StickyUse, Why};
use crate::core::buffer::Buffer;
use crate::core::http::body::{Body, Transfer as BodyTransfer};
use crate::core::http::head::{RequestFacts, Version};
use crate::core::http::rewrite::CONTINUE;
use crate::core::time::Tick;
use crate::net::{Net, Side};
use crate::worker::connect::{self, Attempt, Confirmed};
use crate::worker::http::log::Record;
use crate::worker::http::{Next, Parts, Phase};
use crate::worker::links::LinkKey;
use crate::worker::session::{CloseReason, Session, Turn};
use crate::worker::shared::{FailedAt, Shared};
use crate::worker::site::Site;
use crate::worker::tcp::TURN_BUDGET_BYTES;

/// Spare exchanges kept for reuse, and the longest request that one may keep room for.
const SPARE_EXCHANGES_MAX: usize = 256;
const SPARE_REQUEST_BYTES_MAX: usize = 4 * 1024;

/// Where an exchange stands with its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// No connection is chosen.
    New,
    /// No descriptor is left for a connection, since then.
    Starving(Tick),
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
    /// Its place in the site's routes.
    pub(super) route: usize,
    pub(super) facts: RequestFacts,
    pub(super) attempt: Attempt,
    pub(super) link: Option<LinkKey>,
    /// The link has served before, and may have ended just now.
    pub(super) is_reused: bool,
    pub(super) stage: Stage,
    /// The outgoing head and what of the body came with it.
    pub(super) request: Vec<u8>,
    /// How much of `request` has left on the present connection.
    pub(super) sent: usize,
    /// `request` is all that was sent: it can be sent again.
    pub(super) is_replayable: bool,
    /// The backend takes no more; what it says is still read.
    pub(super) is_upload_dead: bool,
    /// The protocols that the client offers to change to.
    pub(super) offered: Vec<u8>,
    pub(super) request_body: Body,
    /// Body bytes that the backend would not take yet.
    pub(super) upload: Option<Buffer>,
    /// A response head that is incomplete.
    pub(super) response_head: Vec<u8>,
    /// None until the final head has gone to the client.
    pub(super) response: Option<Response>,
    /// The backend sent more than its response.
    pub(super) has_surplus: bool,
    /// When weir answers 100 itself.
    pub(super) continue_at: Option<Tick>,
    /// weir has answered 100 itself.
    pub(super) has_continued: bool,
    pub(super) sticky: Option<StickyUse>,
    /// Whether the client speaks to this entry over TLS, as a trusted proxy says.
    pub(super) secure_client: bool,
    /// When the request's head was whole.
    pub(super) started: Tick,
    /// How long the present connection took to stand; 0 for a parked one.
    pub(super) connect_ms: Option<u64>,
    /// When `request` had left, or before that, when the connection stood.
    pub(super) sent_at: Tick,
    /// From `sent_at` to the first byte of a response.
    pub(super) ttfb_ms: Option<u64>,
    /// Bytes of the response for the client, heads included.
    pub(super) bytes_out: u64,
    /// What the access log will say; none without one.
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
            sent: 0,
            is_replayable: true,
            is_upload_dead: false,
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

    /// Whether it waits for a descriptor.
    pub(crate) fn is_starving(&self) -> bool {
        matches!(self.stage, Stage::Starving(_))
    }

    /// Whether body bytes wait for the backend.
    pub(crate) fn has_upload(&self) -> bool {
        self.upload.is_some()
    }

    /// The connection that was begun at `since` stands.
    pub(super) fn on_connected(&mut self, since: Tick, now: Tick) {
        self.stage = Stage::Established;
        self.connect_ms = Some(now.since_ms(since));
        self.sent_at = now;
    }

    /// Whether all of the request has left.
    pub(super) fn is_sent(&self) -> bool {
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
            Stage::Starving(since) | Stage::Connecting(since) => since.after(timeouts.connect),
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
        let mut request = std::mem::take(&mut spare.request);
        request.clear();
        *spare = Exchange {
            request,
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
    pub(super) fn step_exchange(&mut self, shared: &mut Shared<N>) -> Next {
        let Some(mut exchange) = self.http.exchange.take() else {
            self.http.phase = Phase::Idle(shared.now);
            return Next::Step;
        };
        let mut budget = TURN_BUDGET_BYTES;
        loop {
            let before = budget;
            match self.advance(&mut exchange, shared, &mut budget) {
                Err(end) => {
                    *self.moved = shared.now;
                    return self.end_exchange(exchange, shared, end);
                }
                Ok(has_moved) => {
                    if has_moved || budget < before {
                        *self.moved = shared.now;
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
            Stage::Starving(_) => return self.watch_client(exchange, shared),
            Stage::Connecting(since) => {
                let Some(link) = exchange.link else {
                    return Err(End::Fail(502, Why::ConnectFailed));
                };
                let endpoint = &mut shared.links[link as usize].endpoint;
                match connect::confirm(endpoint, &mut shared.transfer.net) {
                    Confirmed::NotYet => return self.watch_client(exchange, shared),
                    Confirmed::Yes => {
                        exchange.on_connected(since, shared.now);
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

    /// The exchange has stood still for too long, or weir's own 100 is due.
    pub(super) fn on_exchange_timeout(&mut self, shared: &mut Shared<N>) -> Next {
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
            Stage::Starving(_) => End::Fail(503, Why::NoBackend),
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
            shared.on_failure(backend, FailedAt::Answer, "response timed out");
        }
    }

    /// Does what follows from the end of an exchange.
    pub(super) fn end_exchange(
        &mut self,
        mut exchange: Box<Exchange>,
        shared: &mut Shared<N>,
        end: End,
    ) -> Next {
        if exchange.is_starving() {
            shared.starving.leave(self.owner.key);
        }
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
