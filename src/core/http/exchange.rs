//! One request and its response: every decision and every transition between them.
//!
//! An exchange is told what happened, in `on_*` methods, and says what follows: what is to be
//! sent, what may pass, whether to try again, and, when it is over, what becomes of the client,
//! of its answer and of the backend connection ([`Exchange::end`]). It does no I/O: whoever
//! drives it owns sockets, buffers that wait for room, and backends.
//!
//! The two directions run at once and each in one order only, and neither ends the other: an
//! exchange is over when the response is whole and the request has come to its end as well, sent
//! or refused:
//!
//! ```text
//! request    kept --> streamed --> sent           kept: all of it can be sent again
//!               \         \--> refused            refused: the backend takes no more
//!                \--> sent, or refused
//! response   none --> interim, any number --> body --> whole
//!                                        \--> switched (101)
//! backend    none --> connecting --> connected --> lost --> connecting again, or the end
//!                \--> queued, for its turn at a full one --> none
//! ```
//!
//! The rules are RFC 9110 sections 7.8, 9.2.2, 10.1.1 and 15.2, and RFC 9112 sections 6.3, 7 and
//! 9.

use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;

use crate::core::access_log::Why;
use crate::core::http::body::{Body, BodyError, ChunkLine, LINE_END, Reframing};
use crate::core::http::budget::RetryBudget;
use crate::core::http::claims::Claims;
use crate::core::http::head::{Expect, HeadError, RequestFacts, ResponseFacts, Version};
use crate::core::http::oddity::Oddities;
use crate::core::http::rewrite::ends_by_closing;
use crate::core::http::syntax::{elements, names};
use crate::core::time::Tick;

mod outcome;
#[cfg(test)]
mod tests;

pub(crate) use outcome::or_end;
pub use outcome::{
    BackendFate, BadResponse, ClientFate, Cut, End, Ending, Failure, Idle, NO_DESCRIPTOR,
    NO_MEMORY, Progress, TOO_LARGE,
};

/// How long after forwarding `Expect: 100-continue` weir answers 100 itself, in milliseconds.
pub(crate) const CONTINUE_AFTER_MS: u64 = 1_000;

/// Where the connection to a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendState {
    /// None is chosen.
    None,
    /// The backend that the client is bound to is full: it waits for its turn, since then.
    Queued(Tick),
    /// A backend is chosen, and what a connection takes is not there, since then.
    Waiting(Tick),
    /// It is being made, since then.
    Connecting(Tick),
    /// It stands. One that has served before may have ended just now.
    Connected {
        /// It has served before.
        is_reused: bool,
    },
    /// The backend has changed to another protocol: it carries bytes from here on.
    Switched,
}

/// weir's own 100, where the backend is slow to send one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnContinue {
    /// Not asked for, or not any more.
    No,
    /// Due then.
    Due(Tick),
    /// It went out.
    Said,
}

/// A response whose head has passed.
#[derive(Debug)]
struct Response {
    status: u16,
    body: Body,
    reframing: Reframing,
    /// Whether the backend connection may be used again.
    is_reusable: bool,
    /// Whether the client connection is kept.
    keeps_client: bool,
    /// Whether only the end of the connection tells the client that the body is whole.
    ends_by_closing: bool,
    /// The client has been told that nothing follows, ahead of the end of the exchange.
    is_end_told: bool,
}

/// What a response head means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseKind {
    /// An interim response for the client.
    Interim,
    /// An interim response that is not for this client.
    Dropped,
    /// The response itself; whether the client connection is kept after it, if its framing
    /// allows.
    Final {
        /// What the head says of the connection.
        keep_alive: bool,
    },
}

/// What of some body bytes goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// So many from the front go on as they are, after what was gathered.
    pub(crate) direct: usize,
    /// So many belong to the body.
    pub consumed: usize,
}

/// What to do about a backend that was lost before its response began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// The connection had ended while it was parked, which is nobody's fault: another one to
    /// the same backend.
    SameBackend,
    /// It has failed: another backend.
    OtherBackend,
    /// It has failed, and the request cannot be sent again.
    GiveUp,
    /// The connection had ended while it was parked, but the request cannot be sent again.
    GiveUpStale,
}

/// What a backend's end of its direction means to a response that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing follows for the client.
    Nothing,
    /// The last chunk follows.
    LastChunk,
}

/// What is awaited, and so which time limit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// A turn at the backend that the client is bound to, since then.
    Turn(Tick),
    /// A connection, since then.
    Connection(Tick),
    /// The backend: it is to take what there is of the request, and once it has all, to answer.
    Response,
    /// More of the request, from the client.
    Upload,
    /// More of the response, from the backend. More of the request may be awaited as well: each of
    /// the two may be waiting for the other.
    ResponseBody,
    /// That the client takes what is there for it. Until then nothing more is read for it, so it
    /// alone is to blame.
    Taking,
    /// A body that the client was answered instead of being asked for it.
    UnaskedBody,
    /// The rest of a request that is dropped behind its response.
    DroppedBody,
}

/// What a time that has run out asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// weir answers 100 itself.
    Continue,
    /// The turn does not come in time: another backend.
    OtherBackend,
    /// The connection that is being made has failed.
    ConnectFailed,
    /// The end.
    End(End),
}

/// What else speaks for sending a request again.
#[derive(Debug)]
pub struct Allowance<'a> {
    /// Another backend may be tried.
    pub has_tries: bool,
    /// For requests that a backend may have seen.
    pub budget: &'a mut RetryBudget,
    /// The present.
    pub now: Tick,
}

/// One request and its response.
#[derive(Debug)]
pub struct Exchange {
    facts: RequestFacts,
    backend: BackendState,
    /// The outgoing head and what of the body came with it.
    request: Vec<u8>,
    /// How much of `request` has left on the present connection.
    sent: usize,
    /// `request` is all that was sent: it can be sent again.
    is_kept: bool,
    /// Body bytes wait for the backend to take them.
    is_held: bool,
    /// The backend takes no more; what it says still counts.
    is_refused: bool,
    body: Body,
    /// The protocols that the client offers to change to, each value followed by a comma.
    offered: Vec<u8>,
    own_continue: OwnContinue,
    /// The client waits for a 100 before it sends its body, and has seen none.
    waits_for_100: bool,
    response: Option<Response>,
    /// The latest reason why there is no connection.
    failure: Failure,
    /// What was odd about the heads that came.
    oddities: Oddities,
}

impl Exchange {
    /// The exchange of a request with these facts, of which nothing is there yet.
    #[must_use]
    pub fn new(facts: RequestFacts) -> Self {
        Self::with_space(facts, Vec::new())
    }

    /// The same, in the space of this one, which is over.
    pub(crate) fn next(&mut self, facts: RequestFacts) -> Self {
        let mut space = std::mem::take(&mut self.request);
        space.clear();
        Self::with_space(facts, space)
    }

    fn with_space(facts: RequestFacts, request: Vec<u8>) -> Self {
        Self {
            facts,
            backend: BackendState::None,
            request,
            sent: 0,
            is_kept: true,
            is_held: false,
            is_refused: false,
            body: Body::new(facts.framing, true),
            offered: Vec::new(),
            own_continue: OwnContinue::No,
            waits_for_100: false,
            response: None,
            failure: Failure::NoBackend,
            oddities: Oddities::NONE,
        }
    }

    /// The facts of the request.
    #[must_use]
    pub const fn facts(&self) -> &RequestFacts {
        &self.facts
    }

    /// Where the connection to a backend stands.
    #[must_use]
    pub const fn backend(&self) -> BackendState {
        self.backend
    }

    /// Room kept for a request, in bytes.
    #[must_use]
    pub(crate) const fn space_bytes(&self) -> usize {
        self.request.capacity()
    }
}

/// The request on its way to a backend.
impl Exchange {
    /// Where the outgoing head is written.
    pub const fn head_space(&mut self) -> &mut Vec<u8> {
        &mut self.request
    }

    /// The head as it goes to the backend, and what follows it.
    #[must_use]
    pub(crate) fn head(&self) -> &[u8] {
        &self.request
    }

    /// Keeps trailers of these names back: the values of the request's `Connection` fields.
    pub(crate) fn drop_trailers<'a>(&mut self, connection: impl Iterator<Item = &'a [u8]>) {
        self.body.drop_trailers(connection);
    }

    /// Keeps trailers of the request back that an operator lists.
    pub(crate) fn drop_listed_trailers(&mut self, claims: &Arc<Claims>) {
        self.body.drop_listed_trailers(claims);
    }

    /// Notes the values of the request's `Upgrade` fields.
    pub(crate) fn on_offers<'a>(&mut self, offers: impl Iterator<Item = &'a [u8]>) {
        for offer in offers {
            self.offered.extend_from_slice(offer);
            self.offered.push(b',');
        }
    }

    /// The head is written, and `bytes` came with it: takes what of them is body, and says how
    /// much that was.
    ///
    /// # Errors
    /// When the body is malformed; the request must not be sent.
    pub fn on_request(&mut self, bytes: &[u8], now: Tick) -> Result<usize, BodyError> {
        let taken = self.body.gather(bytes, &mut self.request)?;
        if self.facts.expect == Expect::Continue && !self.body.is_done() {
            self.own_continue = OwnContinue::Due(now.after_ms(CONTINUE_AFTER_MS));
            self.waits_for_100 = taken == 0;
        }
        Ok(taken)
    }

    /// Whether it can be sent again whatever becomes of it: it is here as a whole, and may reach a
    /// backend twice (RFC 9110 section 9.2.2).
    #[must_use]
    pub(crate) fn is_repeatable(&self) -> bool {
        self.is_kept && self.is_received() && self.facts.method.is_idempotent()
    }

    /// What of the kept part of the request is to be sent now.
    #[must_use]
    pub fn unsent(&self) -> &[u8] {
        &self.request[self.sent..]
    }

    /// So much of [`Exchange::unsent`] has left; whether that was all of it.
    pub const fn on_sent(&mut self, count: usize) -> bool {
        self.sent += count;
        self.sent == self.request.len()
    }

    /// How many of the next bytes of the client are body whatever they are.
    #[must_use]
    pub(crate) fn request_opaque_bytes(&self) -> u64 {
        self.body.opaque_bytes()
    }

    /// Data of the request's body so far, in bytes.
    #[must_use]
    pub(crate) fn request_payload_bytes(&self) -> u64 {
        self.body.payload_bytes()
    }

    /// More of the body came: what of it goes to the backend is the front of `bytes`, or is
    /// gathered in `out`. The request cannot be sent again after this.
    ///
    /// # Errors
    /// When the body is malformed or longer than `payload_bytes_max`: that is the end.
    pub fn on_request_body(
        &mut self,
        bytes: &[u8],
        payload_bytes_max: Option<u64>,
        out: &mut Vec<u8>,
    ) -> Result<Relayed, End> {
        self.is_kept = false;
        self.waits_for_100 = false;
        self.cancel_continue();
        let relayed = relay(&mut self.body, bytes, out);
        let relayed = relayed.map_err(|error| self.failed(Failure::BadRequest(error)))?;
        if payload_bytes_max.is_some_and(|max| self.body.payload_bytes() > max) {
            return Err(self.failed(Failure::TooLarge));
        }
        Ok(relayed)
    }

    /// Body bytes were written, and some of them are held until the backend takes them, or none
    /// are any more.
    pub const fn on_held(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// The backend takes no more of the request. It may have answered already, so what it sent
    /// comes before its end. Whatever is held for it is lost.
    pub const fn on_refused(&mut self) {
        self.is_refused = true;
        self.is_held = false;
    }

    /// Whether the backend takes no more of the request.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// Whether the client has sent all of its request.
    #[must_use]
    pub fn is_received(&self) -> bool {
        self.body.is_done()
    }

    /// Whether all of the request has left for the backend.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.unsent().is_empty() && self.is_received() && !self.is_held && !self.is_refused
    }
}

/// The connection to a backend.
impl Exchange {
    /// The backend that the client is bound to is full.
    pub const fn on_queued(&mut self, now: Tick) {
        self.backend = BackendState::Queued(now);
    }

    /// The wait for a turn is over: it has come, or the backend cannot be used any more.
    pub const fn on_dequeued(&mut self) {
        self.backend = BackendState::None;
    }

    /// What a connection takes is not there.
    pub(crate) const fn on_waiting(&mut self, now: Tick) {
        if !matches!(self.backend, BackendState::Waiting(_)) {
            self.backend = BackendState::Waiting(now);
        }
    }

    /// A connection is being made.
    pub const fn on_connecting(&mut self, now: Tick) {
        self.backend = BackendState::Connecting(now);
    }

    /// The connection stands: a new one, or one that has served before.
    pub const fn on_connected(&mut self, is_reused: bool) {
        self.backend = BackendState::Connected { is_reused };
    }

    /// A connection could not be made: another one may be.
    pub const fn on_connect_failed(&mut self, is_timeout: bool) {
        self.failure = if is_timeout {
            Failure::ConnectTimeout
        } else {
            Failure::Connect
        };
        self.on_link_lost();
    }

    /// No backend is left to be tried.
    #[must_use]
    pub fn on_no_backend(&self) -> End {
        self.failed(self.failure)
    }

    /// The backend ended or failed before its response began. A request is sent again only
    /// where the backend cannot have acted on it, or where acting twice does no harm (RFC 9110
    /// section 9.2.2).
    ///
    /// # Errors
    /// When the response has begun: that is the end.
    pub fn on_backend_lost(&mut self, allowance: Allowance<'_>) -> Result<Recovery, End> {
        if self.response.is_some() {
            return Err(End::Cut(Cut::Backend));
        }
        let was_reused = matches!(self.backend, BackendState::Connected { is_reused: true });
        let is_untouched = self.sent == 0;
        let is_harmless = is_untouched || self.facts.method.is_idempotent();
        self.failure = Failure::ClosedEarly;
        self.on_link_lost();
        let may_resend = self.is_kept && is_harmless;
        if was_reused {
            return Ok(if may_resend {
                Recovery::SameBackend
            } else {
                Recovery::GiveUpStale
            });
        }
        let Allowance {
            has_tries,
            budget,
            now,
        } = allowance;
        // Only what a backend may have seen multiplies its work.
        let is_allowed = has_tries && may_resend && (is_untouched || budget.try_retry(now));
        Ok(if is_allowed {
            Recovery::OtherBackend
        } else {
            Recovery::GiveUp
        })
    }

    /// How much of the kept request has left on the present connection, in bytes.
    #[must_use]
    pub(crate) const fn sent_bytes(&self) -> usize {
        self.sent
    }

    /// The backend had ended the connection before anything of the request reached it. It cannot
    /// have acted on it, so it is as if nothing had been sent.
    pub(crate) const fn on_never_reached(&mut self) {
        self.sent = 0;
    }

    const fn on_link_lost(&mut self) {
        self.backend = BackendState::None;
        self.sent = 0;
        self.is_refused = false;
    }

    /// The end for this reason. A response that has begun is not followed by another one, and one
    /// that is whole is not harmed any more.
    fn failed(&self, failure: Failure) -> End {
        match &self.response {
            None => End::Failed(failure),
            Some(response) if response.body.is_done() => {
                End::Answered(failure.why(), failure.reason())
            }
            Some(_) => End::Cut(Cut::Request(failure)),
        }
    }
}

/// The response on its way to the client.
impl Exchange {
    /// The status of the response that has begun.
    #[must_use]
    pub(crate) fn status(&self) -> Option<u16> {
        self.response.as_ref().map(|response| response.status)
    }

    /// What was odd about the responses so far and taken all the same.
    #[must_use]
    pub(crate) fn oddities(&self) -> Oddities {
        let body = self.response.as_ref().map(|it| it.body.oddities());
        self.oddities.and(body.unwrap_or_default())
    }

    /// Whether the final head has passed.
    #[must_use]
    pub const fn has_response(&self) -> bool {
        self.response.is_some()
    }

    /// A head is whole. `protocols` are the values of its `Upgrade` fields; `may_go_on` says
    /// whether the client may send another request.
    ///
    /// # Errors
    /// When it is no answer to this request: a change of protocols that was not asked for, or
    /// before the backend can have seen all of the request (RFC 9110 section 7.8).
    pub fn on_head<'a>(
        &mut self,
        head: &ResponseFacts,
        protocols: impl Iterator<Item = &'a [u8]>,
        may_go_on: bool,
    ) -> Result<ResponseKind, End> {
        self.oddities = self.oddities.and(head.oddities);
        if head.is_interim() {
            return Ok(self.on_interim(head.status));
        }
        self.cancel_continue();
        if head.status == 101 {
            if let Err(error) = self.check_switch(head, protocols) {
                return Err(self.failed(Failure::BadResponse(error)));
            }
            self.backend = BackendState::Switched;
        }
        let knows_chunked = self.facts.version == Version::Http11;
        let reframing = Reframing::towards(head.framing, knows_chunked);
        let ends_by_closing = ends_by_closing(reframing, head.framing);
        let keep_alive = may_go_on && self.keeps_client_after_response();
        self.response = Some(Response {
            status: head.status,
            body: Body::of_response(head.framing, reframing != Reframing::Unchunk),
            reframing,
            is_reusable: head.reusable,
            keeps_client: keep_alive && !ends_by_closing,
            ends_by_closing,
            is_end_told: false,
        });
        Ok(ResponseKind::Final { keep_alive })
    }

    /// Whether a change of protocols answers this request.
    fn check_switch<'a>(
        &self,
        head: &ResponseFacts,
        protocols: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), BadResponse> {
        let mut is_named = false;
        let is_offered = self.has_offered(protocols.inspect(|_| is_named = true));
        if !self.facts.upgrade {
            Err(BadResponse::SwitchUnasked)
        } else if !self.is_sent() {
            Err(BadResponse::SwitchEarly)
        } else if !is_offered {
            Err(BadResponse::SwitchNotOffered)
        } else if !is_named {
            Err(BadResponse::SwitchWithoutUpgrade)
        } else if !head.upgrade {
            Err(BadResponse::SwitchWithoutConnection)
        } else {
            Ok(())
        }
    }

    /// Interim responses are for clients that know them (RFC 9110 section 15.2), and weir's own
    /// 100 is enough.
    fn on_interim(&mut self, status: u16) -> ResponseKind {
        let is_second = status == 100 && self.own_continue == OwnContinue::Said;
        self.cancel_continue();
        if is_second || self.facts.version == Version::Http10 {
            return ResponseKind::Dropped;
        }
        self.waits_for_100 &= status != 100;
        ResponseKind::Interim
    }

    /// Whether the client has offered to change to all of these protocols.
    fn has_offered<'a>(&self, chosen: impl Iterator<Item = &'a [u8]>) -> bool {
        chosen
            .flat_map(elements)
            .all(|protocol| names(&self.offered, protocol))
    }

    /// Keeps trailers of these names back: the values of the response's `Connection` fields.
    pub(crate) fn drop_response_trailers<'a>(
        &mut self,
        connection: impl Iterator<Item = &'a [u8]>,
    ) {
        if let Some(response) = &mut self.response {
            response.body.drop_trailers(connection);
        }
    }

    /// Bytes came after the final head: what of them goes to the client is the front of `bytes`,
    /// or is gathered in `out`. What follows the response goes to nobody.
    ///
    /// # Errors
    /// When the framing is malformed: what was gathered still passes, and that is the end.
    pub fn on_response_body(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Relayed, End> {
        let all = Relayed {
            direct: bytes.len(),
            consumed: bytes.len(),
        };
        let Some(response) = &mut self.response else {
            debug_assert!(false, "a body without a head");
            return Err(End::Failed(Failure::ClosedEarly));
        };
        if self.backend == BackendState::Switched {
            return Ok(all);
        }
        let passed = response
            .pass(bytes, out)
            .map_err(|error| End::Cut(Cut::BadBody(error)))?;
        // What follows a response is out of step with whatever is asked next.
        response.is_reusable &= passed.consumed == bytes.len();
        Ok(passed)
    }

    /// The end that the exchange has come to by itself.
    #[must_use]
    pub fn natural_end(&self) -> Option<End> {
        let response = self.response.as_ref()?;
        match self.backend {
            BackendState::Switched => Some(End::Switched),
            BackendState::None
            | BackendState::Queued(_)
            | BackendState::Waiting(_)
            | BackendState::Connecting(_)
            | BackendState::Connected { .. } => {
                // A client that was told that it may go on can do so where its request ends.
                let is_refused =
                    self.is_refused && !(self.drops_request() && response.keeps_client);
                let is_over = response.body.is_done() && (is_refused || self.is_sent());
                is_over.then_some(End::Complete)
            }
        }
    }

    /// Whether it goes on from here.
    pub(crate) fn progress(&self) -> Progress {
        self.natural_end().map_or(Continue(()), Break)
    }

    /// Whether the response has passed as a whole. The request may still be on its way.
    #[must_use]
    pub fn is_response_whole(&self) -> bool {
        let response = self.response.as_ref();
        response.is_some_and(|response| response.body.is_done())
    }

    /// Whether the client is to be told now that nothing follows, though the exchange goes on:
    /// where its response has no other end, and where it will send no body for which it was not
    /// asked. It is told once.
    pub(crate) fn take_early_end(&mut self) -> bool {
        let waits_for_100 = self.waits_for_100;
        let Some(response) = &mut self.response else {
            return false;
        };
        let is_due = response.body.is_done() && (response.ends_by_closing || waits_for_100);
        is_due && !std::mem::replace(&mut response.is_end_told, true)
    }

    /// Whether nobody wants the rest of the request, which still comes: the client may look for its
    /// response only once it has sent all.
    #[must_use]
    pub fn drops_request(&self) -> bool {
        self.is_refused && self.response.is_some() && !self.is_received()
    }

    /// The backend has ended its direction, or sends more, behind a response that is whole.
    pub(crate) const fn on_surplus(&mut self) {
        if let Some(response) = &mut self.response {
            response.is_reusable = false;
        }
    }

    /// Whether exchange and client connection end with the response, which is whole.
    #[must_use]
    pub(crate) fn is_last_response_whole(&self) -> bool {
        self.natural_end() == Some(End::Complete)
            && self
                .response
                .as_ref()
                .is_some_and(|response| !response.keeps_client)
    }

    /// How many of the next bytes of the backend may go to the client without being shown; they
    /// are reported to [`Exchange::on_response_moved`].
    #[must_use]
    pub(crate) fn response_opaque_bytes(&self) -> u64 {
        match &self.response {
            Some(response) if response.reframing == Reframing::Plain => {
                response.body.opaque_bytes()
            }
            Some(_) | None => 0,
        }
    }

    /// So many bytes of the response's body moved unseen.
    pub(crate) fn on_response_moved(&mut self, count: u64) {
        if let Some(response) = &mut self.response {
            response.body.skip(count);
        }
    }

    /// The backend has ended its direction after the final head.
    ///
    /// # Errors
    /// When its body is not whole: that is the end.
    pub fn on_response_closed(&mut self) -> Result<Tail, End> {
        let Some(response) = &mut self.response else {
            debug_assert!(false, "the end of a response that has not begun");
            return Err(End::Failed(Failure::ClosedEarly));
        };
        response.is_reusable = false;
        if response.body.on_end().is_err() {
            return Err(End::Cut(Cut::Backend));
        }
        Ok(if response.reframing == Reframing::Enchunk {
            Tail::LastChunk
        } else {
            Tail::Nothing
        })
    }

    /// There is no memory for what has come of a response's head.
    #[must_use]
    pub(crate) fn on_no_memory(&self) -> End {
        self.failed(Failure::NoMemory)
    }

    /// What the backend sent is no response.
    #[must_use]
    pub(crate) fn on_bad_response(&self, error: HeadError) -> End {
        self.failed(Failure::BadResponse(BadResponse::Head(error)))
    }
}

/// The client, and time.
impl Exchange {
    /// The client has ended its direction. It may still listen (RFC 9112 section 9.6), so that
    /// alone is no abort, unless `is_abort` says to take it for one before the response has begun.
    /// A request that was cut by it can get no answer that means anything: whoever ends there has
    /// left.
    ///
    /// It is the end when it has left, or has cut its request behind a whole response.
    pub fn on_client_closed(&mut self, is_abort: bool) -> Progress {
        if !self.is_received() && self.is_response_whole() {
            return Break(self.rest_is_missing(Why::ClientLeftInRequest));
        }
        if self.drops_request()
            && let Some(response) = &mut self.response
        {
            // Nobody misses the rest.
            response.keeps_client = false;
            return Continue(());
        }
        if !self.is_received() || (is_abort && self.response.is_none()) {
            return Break(End::ClientLeft);
        }
        Continue(())
    }

    /// The response is whole and the rest of the request does not come. Where the client was
    /// never asked for it, or nobody takes it, that is as it should be.
    const fn rest_is_missing(&self, why: Why) -> End {
        if self.waits_for_100 || self.is_refused {
            End::Complete
        } else {
            End::Answered(why, None)
        }
    }

    /// Whether the client has sent its request as a whole, and said that no other follows.
    fn is_last(&self) -> bool {
        self.is_received() && !self.facts.keep_alive
    }

    /// Whether the client connection can be kept after an answer of weir's own now: the rest of a
    /// request would be taken for the next one.
    fn keeps_client(&self, may_go_on: bool) -> bool {
        may_go_on && self.facts.keep_alive && self.is_received()
    }

    /// Whether the client connection can be kept after a response that begins now: only if all of
    /// the request will be read. A client that was not asked for its body may send it or not, so
    /// what follows could be either (RFC 9110 section 10.1.1).
    fn keeps_client_after_response(&self) -> bool {
        let will_be_read = self.is_received() || !(self.is_refused || self.waits_for_100);
        self.facts.keep_alive && will_be_read
    }

    /// What is awaited now. A client that is blocked does not take what is there for it.
    #[must_use]
    pub(crate) fn awaited(&self, is_client_blocked: bool) -> Awaited {
        match self.backend {
            BackendState::Queued(since) => Awaited::Turn(since),
            BackendState::Waiting(since) | BackendState::Connecting(since) => {
                Awaited::Connection(since)
            }
            BackendState::None | BackendState::Connected { .. } | BackendState::Switched => {
                match self.response {
                    _ if is_client_blocked => Awaited::Taking,
                    None if self.awaits_client() => Awaited::Upload,
                    None => Awaited::Response,
                    Some(_) if !self.is_response_whole() => Awaited::ResponseBody,
                    Some(_) if self.waits_for_100 => Awaited::UnaskedBody,
                    Some(_) if self.drops_request() => Awaited::DroppedBody,
                    Some(_) if self.awaits_client() => Awaited::Upload,
                    Some(_) => Awaited::Response,
                }
            }
        }
    }

    /// Whether the backend has taken all that came of the request, and the rest is still to come.
    fn awaits_client(&self) -> bool {
        let is_behind = || self.is_held || self.is_refused || !self.unsent().is_empty();
        !self.is_received() && !is_behind()
    }

    /// When weir's own 100 is due.
    #[must_use]
    pub(crate) const fn continue_at(&self) -> Option<Tick> {
        match self.own_continue {
            OwnContinue::Due(at) => Some(at),
            OwnContinue::No | OwnContinue::Said => None,
        }
    }

    const fn cancel_continue(&mut self) {
        if let OwnContinue::Due(_) = self.own_continue {
            self.own_continue = OwnContinue::No;
        }
    }

    /// A time has run out: weir's own 100 is due, or what was awaited did not come. The client is
    /// blocked or not, as for [`Exchange::awaited`].
    pub fn on_timeout(&mut self, now: Tick, is_client_blocked: bool) -> Due {
        if self.continue_at().is_some_and(|at| at <= now) {
            self.own_continue = OwnContinue::Said;
            self.waits_for_100 = false;
            return Due::Continue;
        }
        match self.backend {
            BackendState::Queued(_) => {
                self.failure = Failure::QueueTimeout;
                self.on_dequeued();
                Due::OtherBackend
            }
            BackendState::Connecting(_) => Due::ConnectFailed,
            BackendState::Waiting(_) => Due::End(self.failed(Failure::NoDescriptor)),
            BackendState::None | BackendState::Connected { .. } | BackendState::Switched => {
                Due::End(self.on_idle(is_client_blocked))
            }
        }
    }

    fn on_idle(&self, is_client_blocked: bool) -> End {
        let is_whole = self.is_response_whole();
        match self.awaited(is_client_blocked) {
            Awaited::Taking => End::Cut(Cut::Idle(Idle::Client)),
            Awaited::ResponseBody => End::Cut(Cut::Idle(Idle::Backend)),
            Awaited::UnaskedBody | Awaited::DroppedBody => self.rest_is_missing(Why::UploadTimeout),
            Awaited::Upload if is_whole => self.rest_is_missing(Why::UploadTimeout),
            Awaited::Upload => End::Failed(Failure::RequestTimeout),
            Awaited::Response if is_whole => self.rest_is_missing(Why::ResponseTimeout),
            Awaited::Turn(_) | Awaited::Connection(_) | Awaited::Response => {
                End::Failed(Failure::ResponseTimeout)
            }
        }
    }

    /// What follows from the end; `may_go_on` as for [`Exchange::on_head`], when there is no
    /// response yet.
    #[must_use]
    pub fn end(&self, end: End, may_go_on: bool) -> Ending {
        // Who was not asked for its body, and has not sent it, sends nothing.
        let is_unasked = self.waits_for_100 && self.is_response_whole();
        let is_done = self.is_last() || is_unasked;
        let ending = |why, answer, client| Ending {
            why,
            reason: end.reason(),
            answer,
            client,
            backend: self.backend_fate(end),
        };
        let last = ClientFate::Close { is_done };
        match (end, &self.response) {
            (End::Complete, Some(response)) => {
                let client = if response.keeps_client && self.is_received() {
                    ClientFate::Next
                } else {
                    last
                };
                ending(Why::Ok, None, client)
            }
            (End::Answered(why, _), Some(_)) => ending(why, None, last),
            (End::Failed(failure), None) => {
                let client = if self.keeps_client(may_go_on) {
                    ClientFate::Next
                } else {
                    last
                };
                ending(failure.why(), Some(failure.status()), client)
            }
            (End::Cut(cut), Some(response)) if response.ends_by_closing => {
                ending(cut.why(), None, ClientFate::CutByReset(cut))
            }
            (End::Cut(cut), _) => ending(cut.why(), None, ClientFate::CutByFraming),
            (End::Switched, _) => ending(Why::Ok, None, ClientFate::Switch),
            (End::ClientGone | End::ClientLeft, response) => {
                let client = match (end, response) {
                    (End::ClientLeft, None) => ClientFate::Left,
                    _ => ClientFate::Gone,
                };
                let why = match self.is_received() {
                    true => Why::ClientLeftInData,
                    false => Why::ClientLeftInRequest,
                };
                ending(why, None, client)
            }
            (End::Complete | End::Answered(..), None) | (End::Failed(_), Some(_)) => {
                debug_assert!(false, "{end:?} does not fit the response");
                ending(Why::BadResponse, None, ClientFate::CutByFraming)
            }
        }
    }

    fn backend_fate(&self, end: End) -> BackendFate {
        match (end, &self.response) {
            (End::Switched, _) => BackendFate::Switch,
            (End::Complete, Some(response)) => {
                if response.is_reusable && self.is_sent() {
                    BackendFate::Park
                } else {
                    BackendFate::Close
                }
            }
            (_, None) if matches!(self.backend, BackendState::Connected { .. }) => {
                BackendFate::Reset
            }
            (
                End::Complete
                | End::Answered(..)
                | End::Failed(_)
                | End::ClientGone
                | End::ClientLeft
                | End::Cut(_),
                _,
            ) => BackendFate::Close,
        }
    }
}

impl Response {
    /// Judges body bytes and frames them for the client.
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<Relayed, BodyError> {
        if self.body.is_done() {
            return Ok(Relayed {
                direct: 0,
                consumed: 0,
            });
        }
        if self.reframing != Reframing::Enchunk {
            return relay(&mut self.body, bytes, out);
        }
        if !bytes.is_empty() {
            let piece = self.body.feed(bytes)?;
            out.extend_from_slice(ChunkLine::new(piece.forward).as_bytes());
            out.extend_from_slice(&bytes[..piece.forward]);
            out.extend_from_slice(b"\r\n");
        }
        Ok(Relayed {
            direct: 0,
            consumed: bytes.len(),
        })
    }
}

/// Judges body bytes. What goes on is the front of `bytes` where it can go as it lies, or else
/// gathered in `out`.
fn relay(body: &mut Body, bytes: &[u8], out: &mut Vec<u8>) -> Result<Relayed, BodyError> {
    let first = body.feed(bytes)?;
    let is_whole = first.done || first.consumed == bytes.len();
    let is_plain = !first.ends_line && (!first.done || body.trailers().is_empty());
    if is_whole && is_plain {
        return Ok(Relayed {
            direct: first.forward,
            consumed: first.consumed,
        });
    }
    out.extend_from_slice(&bytes[..first.forward]);
    if first.ends_line {
        out.extend_from_slice(LINE_END);
    }
    let rest = body.gather(&bytes[first.consumed..], out)?;
    Ok(Relayed {
        direct: 0,
        consumed: first.consumed + rest,
    })
}
