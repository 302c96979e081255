//! Drives one exchange: asks [`Exchange`] what is to be done, and does it with the client's
//! endpoint, a backend's connection and the buffers between them.
//!
//! `connect` finds the connection, `upload` is the way up, `response` the way down. What is
//! decided, and why, is in [`Exchange`].

use std::io::ErrorKind;
use std::ops::ControlFlow::{Break, Continue};
use std::sync::Arc;
use std::time::Duration;

use crate::board::{ListenerCell, Span};
use crate::config::model::{TimeoutOverrides, Timeouts};
use crate::core::account::{NoMemory, Purpose};
use crate::core::http::exchange::{
    Awaited, BackendFate, BackendState, ClientFate, Cut, Due, End, Ending, Exchange, Failure, Idle,
    Progress,
};
use crate::core::http::head::RequestFacts;
use crate::core::http::oddity::Oddities;
use crate::core::http::rewrite::CONTINUE;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::connect::{self, Confirmed};
use crate::worker::health::FailedAt;
use crate::worker::http::active::ActiveExchange;
use crate::worker::http::client::{ClientPhase, Http};
use crate::worker::http::drop::{self, DROP_MS, DROP_SILENT_MS};
use crate::worker::http::log::log_exchange;
use crate::worker::http::output::Sent;
use crate::worker::http::parts::{Next, Parts, REQUEST_TIMEOUT};
use crate::worker::http::space::HttpSpace;
use crate::worker::io_space::IoSpace;
use crate::worker::keys::{ConnectionKey, ListenerSlot, UpstreamSlot};
use crate::worker::listeners::ListenerTable;
use crate::worker::preface::{origin, tls_facts};
use crate::worker::session::{Protocol, Session};
use crate::worker::shared::Shared;
use crate::worker::site::Site;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Side, TURN_BUDGET_BYTES, Turn};
use crate::worker::upstreams::UpstreamTable;

/// Spare exchanges kept for reuse, and the longest request that one may keep room for. Together
/// they take no more than one part in so many of the account's bound, besides it.
const SPARE_EXCHANGES_MAX: usize = 256;
const SPARE_REQUEST_BYTES_MAX: usize = 4 * 1024;
const SPARE_PARTS: usize = 64;

/// One read of a request takes one part in so many of the memory that is left for requests, but no
/// less than this, in bytes.
const REQUEST_PARTS: usize = 16;
const REQUEST_READ_BYTES_MIN: usize = 1024;

/// What is added to most heads on their way, in bytes.
const ADDED_BYTES: usize = 256;

/// What one read takes of a response, in bytes.
const SHORT_RESPONSE_BYTES_MAX: u64 = 16 * 1024;

impl ActiveExchange {
    /// Whether the end of the client's direction is taken for an abort.
    pub(super) fn aborts_on_close(&self, upstreams: &UpstreamTable) -> bool {
        let route = self.site.routes[self.route].abort_on_close;
        let upstream = &upstreams[self.attempt.upstream].settings;
        route.unwrap_or(upstream.abort_on_close)
    }

    /// When something is due if nothing moves until then.
    pub(super) fn deadline<N: Net>(&self, session: &Session<N>, shared: &Shared<N>) -> Tick {
        let Protocol::Http(http) = &session.protocol else {
            return shared.timers.now;
        };
        let is_blocked = self.is_client_blocked(http, &session.client, &shared.io);
        let listener = session.listener;
        let end = match self.state.awaited(is_blocked) {
            Awaited::Turn(since) => {
                let upstream = &shared.upstreams[self.attempt.upstream];
                since.after(upstream.settings.sticky_wait())
            }
            Awaited::Connection(since) => {
                since.after(self.timeout(shared, listener, |o| o.connect, |t| t.connect))
            }
            // A head that comes in drips is no answer.
            Awaited::Response => {
                let response = self.timeout(shared, listener, |o| o.response, |t| t.response);
                self.sent_at.tick().after(response)
            }
            Awaited::Upload => {
                let upload = self.timeout(shared, listener, |o| o.upload, |t| t.upload);
                session.moved.after(upload)
            }
            Awaited::ResponseBody => session.moved.after(self.response_idle(shared, listener)),
            Awaited::Taking => session.moved.after(self.send_timeout(shared, listener)),
            Awaited::UnaskedBody => session.moved.after_ms(DROP_SILENT_MS),
            Awaited::DroppedBody => {
                let silent = session.moved.after_ms(DROP_SILENT_MS);
                self.drops_until.map_or(silent, |until| until.min(silent))
            }
        };
        self.state.continue_at().map_or(end, |at| at.min(end))
    }

    /// One timeout: the route's where it has one, or the upstream's, or the listener's.
    fn timeout<N: Net>(
        &self,
        shared: &Shared<N>,
        listener: ListenerSlot,
        of_override: impl Fn(&TimeoutOverrides) -> Option<Duration>,
        of_listener: impl Fn(&Timeouts) -> Duration,
    ) -> Duration {
        of_override(&self.site.routes[self.route].timeouts).unwrap_or_else(|| {
            shared.timeout(listener, self.attempt.upstream, of_override, of_listener)
        })
    }

    /// How long the backend may send nothing of its response. The events of a stream come when
    /// there are any.
    fn response_idle<N: Net>(&self, shared: &Shared<N>, listener: ListenerSlot) -> Duration {
        if self.is_event_stream {
            self.timeout(shared, listener, |o| o.tunnel, |t| t.tunnel)
        } else {
            self.timeout(shared, listener, |o| o.response_idle, |t| t.response_idle)
        }
    }

    /// How long the client may take nothing.
    pub(super) fn send_timeout<N: Net>(
        &self,
        shared: &Shared<N>,
        listener: ListenerSlot,
    ) -> Duration {
        self.timeout(shared, listener, |o| o.send, |t| t.send)
    }

    /// Whether something is there for the client that it does not take.
    pub(super) fn is_client_blocked<N: Net>(
        &self,
        http: &Http,
        client: &Endpoint<N>,
        io: &IoSpace<N>,
    ) -> bool {
        let pipes = &io.pipes;
        http.is_blocked(client) || self.pipe.is_some_and(|pipe| pipes.bytes(pipe) > 0)
    }
}

impl HttpSpace {
    /// An exchange for a new request, from the spare ones if there is one.
    pub(super) fn spare_exchange(
        &mut self,
        site: Arc<Site>,
        facts: RequestFacts,
    ) -> Box<ActiveExchange> {
        let Some(mut spare) = self.spare.pop() else {
            return Box::new(ActiveExchange::new(site, Exchange::new(facts)));
        };
        *spare = ActiveExchange::new(site, spare.state.next(facts));
        spare
    }
}

impl<N: Net> IoSpace<N> {
    /// How much may be read of a request, which has begun to come or not: the less memory is left
    /// to keep it, the less, and 0 when it has to wait for others.
    pub(super) fn request_room(&self, has_begun: bool) -> usize {
        let account = self.buffers.account();
        let left = account
            .room(Purpose::Request)
            .min(account.room(Purpose::Input));
        let others_have_some = account.used(Purpose::Request) > 0;
        if left < REQUEST_READ_BYTES_MIN && others_have_some && !has_begun {
            return 0;
        }
        (left / REQUEST_PARTS).max(REQUEST_READ_BYTES_MIN)
    }

    /// Whether there is room for a request of this length, with what is added on its way; or none
    /// will be given back that others have.
    pub(super) fn may_keep_request(&self, bytes: usize) -> bool {
        let account = self.buffers.account();
        let wanted = 2 * (bytes + ADDED_BYTES);
        wanted <= account.room(Purpose::Request) || account.used(Purpose::Request) == 0
    }

    /// Charges the account for the request of an exchange, which is whole as far as it is kept. Who
    /// `gives_back` what else it keeps must not wait.
    pub(super) fn charge_request(
        &mut self,
        exchange: &mut ActiveExchange,
        gives_back: bool,
    ) -> Result<(), NoMemory> {
        let bytes = exchange.state.space_bytes();
        let account = self.buffers.account_mut();
        match gives_back {
            true => account.force(Purpose::Request, bytes),
            false => account.take(Purpose::Request, bytes)?,
        }
        exchange.charged_bytes = bytes;
        Ok(())
    }
}

impl<N: Net> Shared<N> {
    /// Keeps an exchange that is over for the next request.
    pub(super) fn keep_spare(&mut self, mut exchange: Box<ActiveExchange>) {
        let account = self.io.buffers.account_mut();
        account.give(
            Purpose::Request,
            std::mem::take(&mut exchange.charged_bytes),
        );
        account.free(Purpose::Response, &mut exchange.response_head);
        let spare_max = account.bytes_max() / SPARE_PARTS / SPARE_REQUEST_BYTES_MAX;
        if self.http.spare.len() < spare_max.clamp(1, SPARE_EXCHANGES_MAX)
            && exchange.state.space_bytes() <= SPARE_REQUEST_BYTES_MAX
        {
            self.http.spare.push(exchange);
        }
    }

    /// Gives back all that an exchange holds of others: connection, lease and buffers.
    pub(crate) fn release_exchange(
        &mut self,
        mut exchange: Box<ActiveExchange>,
        fate: BackendFate,
    ) {
        self.io.pipes.return_pipe(&mut exchange.pipe);
        if let Some(connection) = exchange.connection.take() {
            match fate {
                BackendFate::Park => {
                    let since = self.idle_since(&exchange);
                    self.park_connection(connection, since);
                }
                BackendFate::Reset => self.reset_connection(connection),
                BackendFate::Close | BackendFate::Switch => self.close_connection(connection),
            }
        }
        if let Some(lease) = exchange.attempt.lease.take() {
            self.upstreams.give_back(&mut self.board, lease);
        }
        if let Some(buffer) = exchange.upload.take() {
            self.io.buffers.give(buffer);
        }
        self.keep_spare(exchange);
    }

    /// Closes the backend connection of an exchange that goes on without it.
    pub(super) fn close_backend(&mut self, exchange: &mut ActiveExchange) {
        self.io.pipes.return_pipe(&mut exchange.pipe);
        if let Some(connection) = exchange.connection.take() {
            self.close_connection(connection);
        }
    }

    /// Since when the backend may have been waiting for another request. What does not come with
    /// one read may have lain in the kernel's buffers while the client was slow.
    fn idle_since(&self, exchange: &ActiveExchange) -> Tick {
        match exchange.bytes_out <= SHORT_RESPONSE_BYTES_MAX {
            true => self.timers.now,
            false => exchange.answered_at.max(exchange.sent_at.tick()),
        }
    }

    /// Counts what was odd about a response that was taken all the same, and tells once of each
    /// backend and kind.
    fn count_oddities(&mut self, exchange: &ActiveExchange) {
        let found = exchange.state.oddities();
        if !found.is_empty() {
            self.count_these(exchange, found);
        }
    }

    #[cold]
    fn count_these(&mut self, exchange: &ActiveExchange, found: Oddities) {
        let Some(backend) = exchange.attempt.last() else {
            return;
        };
        for kind in found.iter() {
            self.board.count_oddity(kind);
        }
        // A backend that gave its lease back may be gone.
        let Some(entry) = &mut self.upstreams.entries[backend.0 as usize] else {
            return;
        };
        for kind in found.without(entry.oddities).iter() {
            log::info!("backend {} sends odd responses: {kind}", entry.label);
        }
        entry.oddities = entry.oddities.and(found);
    }

    /// Lets go of an exchange whose client goes with it.
    pub(crate) fn abandon_exchange(&mut self, exchange: Box<ActiveExchange>) {
        let fate = exchange.state.end(End::ClientGone, false).backend;
        self.release_exchange(exchange, fate);
    }
}

impl<N: Net> Parts<'_, N> {
    /// Moves an exchange on as far as both ends allow.
    #[inline(never)]
    pub(super) fn step_exchange(&mut self, shared: &mut Shared<N>) -> Next {
        let Some(mut exchange) = self.http.exchange.take() else {
            self.http.phase = ClientPhase::Idle(shared.timers.now);
            return Next::Step;
        };
        let mut budget = TURN_BUDGET_BYTES;
        loop {
            let before = budget;
            match self.advance(&mut exchange, shared, &mut budget) {
                Break(end) => {
                    *self.moved = shared.timers.now;
                    return self.end_exchange(exchange, shared, end);
                }
                Continue(has_moved) => {
                    if has_moved || budget < before {
                        self.note_moved(&exchange, shared);
                    }
                    if has_moved && budget > 0 {
                        continue;
                    }
                    self.http.exchange = Some(exchange);
                    let turn = if has_moved { Turn::Again } else { Turn::Sleep };
                    return Next::Turn(turn);
                }
            }
        }
    }

    /// Notes that something has moved. What is dropped counts only where nothing else can move: a
    /// client that takes no response is not kept by sending.
    pub(super) fn note_moved(&mut self, exchange: &ActiveExchange, shared: &Shared<N>) {
        if !exchange.state.drops_request() || exchange.drops_until.is_some() {
            *self.moved = shared.timers.now;
        }
    }

    /// One round in both directions; whether anything moved.
    #[inline(always)]
    fn advance(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Progress<bool> {
        match exchange.state.backend() {
            BackendState::None => {
                self.connect(exchange, shared, true)?;
                return Continue(matches!(
                    exchange.state.backend(),
                    BackendState::Connected { .. }
                ));
            }
            BackendState::Queued(_) | BackendState::Waiting(_) => {
                return self.watch_client(exchange, shared);
            }
            BackendState::Connecting(since) => {
                let Some(connection) = exchange.connection else {
                    return Break(End::Failed(Failure::Connect));
                };
                let endpoint = shared.connections.endpoint_mut(connection);
                match connect::confirm(endpoint, &mut shared.io.net) {
                    Confirmed::NotYet => return self.watch_client(exchange, shared),
                    Confirmed::Yes => {
                        let is_plain = endpoint.is_established();
                        let settings = &shared.upstreams[exchange.attempt.upstream].settings;
                        if (!is_plain || settings.send_proxy.is_some())
                            && let Some(has_moved) = self.greet(exchange, connection, shared)?
                        {
                            return Continue(has_moved);
                        }
                        let now = shared.timers.now;
                        let (dialed, moment) = (exchange.dialed, shared.timers.moment);
                        exchange.on_connected(false, dialed, moment);
                        let upstream = exchange.attempt.upstream;
                        shared.time(upstream, Span::Connect, now.since_ms(since));
                    }
                    Confirmed::Failed(kind) => {
                        exchange.attempt.note_failure(kind);
                        self.on_connect_failed(exchange, shared, &connect::reason(kind), false)?;
                        return Continue(true);
                    }
                }
            }
            BackendState::Connected { .. } => {}
            BackendState::Switched => return Break(End::Switched),
        }
        let up = self.upload(exchange, shared, budget)?;
        let down = self.download(exchange, shared, budget)?;
        if exchange.state.is_response_whole() {
            self.on_early_response(exchange, shared)?;
        }
        // A silent response is where a client that has left would not be noticed by writing.
        Continue(up || down || self.watch_client(exchange, shared)?)
    }

    /// Goes on with what a new connection begins with before all else; once that is done, None, or
    /// whether anything moved.
    #[cold]
    #[inline(never)]
    fn greet(
        &mut self,
        exchange: &mut ActiveExchange,
        connection: ConnectionKey,
        shared: &mut Shared<N>,
    ) -> Progress<Option<bool>> {
        if shared.connections.endpoint_mut(connection).begin() {
            self.put_preface(exchange.attempt.upstream, connection, shared);
        }
        match shared.shake(connection) {
            Ok(true) => Continue(None),
            Ok(false) => Continue(Some(self.watch_client(exchange, shared)?)),
            Err(reason) => {
                exchange.attempt.note(reason);
                let why = reason.to_string();
                self.on_connect_failed(exchange, shared, &why, false)?;
                Continue(Some(true))
            }
        }
    }

    /// A new connection begins with a PROXY header, where its upstream has one sent.
    fn put_preface(
        &self,
        upstream: UpstreamSlot,
        connection: ConnectionKey,
        shared: &mut Shared<N>,
    ) {
        if let Some(version) = shared.upstreams[upstream].settings.send_proxy {
            let (peer, destination) = (self.facts.peer, self.destination().copied());
            let origin = origin(self.client, peer, destination, &shared.io.net);
            let tls = tls_facts(self.client, None);
            shared.prefaces.put(connection, version, origin, tls);
        }
    }

    /// The response is whole; the exchange is over if its request is.
    fn on_early_response(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
    ) -> Progress {
        exchange.state.progress()?;
        if self.is_blocked() {
            return Continue(());
        }
        if exchange.state.take_early_end() {
            self.client.finish(&mut shared.io.net);
        }
        if exchange.state.drops_request() && exchange.drops_until.is_none() {
            exchange.drops_until = Some(shared.timers.now.after_ms(DROP_MS));
            *self.moved = shared.timers.now;
            shared.close_backend(exchange);
            exchange.attempt.release(shared);
        }
        Continue(())
    }

    /// The exchange has stood still for too long, or weir's own 100 is due.
    pub(super) fn on_exchange_timeout(&mut self, shared: &mut Shared<N>) -> Next {
        let Some(mut exchange) = self.http.exchange.take() else {
            return Next::Turn(Turn::Close(CloseReason::Idle));
        };
        let is_blocked = exchange.is_client_blocked(self.http, self.client, &shared.io);
        let outcome = match exchange.state.on_timeout(shared.timers.now, is_blocked) {
            Due::Continue => {
                let sent = self.send(shared, CONTINUE, &[]);
                self.http.exchange = Some(exchange);
                return sent.map_or_else(Next::Turn, |()| Next::Step);
            }
            Due::OtherBackend => {
                shared
                    .upstreams
                    .leave_queue(self.id, exchange.attempt.upstream);
                exchange.note_wait(shared.timers.moment);
                Continue(())
            }
            Due::ConnectFailed => {
                exchange.attempt.note_failure(ErrorKind::TimedOut);
                self.on_connect_failed(&mut exchange, shared, "connect timed out", true)
            }
            Due::End(End::Cut(Cut::Idle(Idle::Backend))) if exchange.is_event_stream => {
                Break(End::Cut(Cut::Idle(Idle::Stream)))
            }
            Due::End(end) => {
                if let (End::Failed(Failure::ResponseTimeout), Some(lease)) =
                    (end, &exchange.attempt.lease)
                {
                    let backend = lease.backend;
                    shared.upstreams.on_failure(
                        &shared.board,
                        &mut shared.timers,
                        backend,
                        FailedAt::Answer,
                        "response timed out",
                    );
                }
                Break(end)
            }
        };
        match outcome {
            Continue(()) => {
                self.http.exchange = Some(exchange);
                Next::Step
            }
            Break(end) => self.end_exchange(exchange, shared, end),
        }
    }

    /// The client does not take what is held for it.
    pub(super) fn cut_response(&mut self, shared: &mut Shared<N>) -> Next {
        match self.http.exchange.take() {
            Some(exchange) => {
                self.end_exchange(exchange, shared, End::Cut(Cut::Idle(Idle::Client)))
            }
            None => Next::Turn(Turn::Close(CloseReason::Idle)),
        }
    }

    /// Whether the client may send another request after this one.
    pub(super) fn may_go_on(&self, site: &Site, listeners: &ListenerTable<N>) -> bool {
        listeners.parts_since(self.facts.listener).is_none()
            && site.requests_max.is_none_or(|max| self.http.requests < max)
            && match self.client.is_secure() {
                true => !self.has_old_rules(listeners),
                false => !self.is_outdated(listeners),
            }
    }

    /// Does what follows from the end of an exchange.
    pub(super) fn end_exchange(
        &mut self,
        mut exchange: Box<ActiveExchange>,
        shared: &mut Shared<N>,
        end: End,
    ) -> Next {
        if exchange.awaits_descriptor() {
            shared.descriptor_queue.leave(self.id.key);
        }
        if let Some(slot) = exchange.queue() {
            shared.upstreams.leave_queue(self.id, slot);
            exchange.note_wait(shared.timers.moment);
        }
        shared.count_oddities(&exchange);
        let may_go_on = self.may_go_on(&exchange.site, &shared.listeners);
        let is_received = exchange.state.is_received();
        let drops_until = exchange.drops_until;
        let has_had_its_time = drops_until
            .is_some_and(|until| drop::deadline(until, *self.moved) <= shared.timers.now);
        let ending = exchange.state.end(end, may_go_on);
        if ending.answer == Some(REQUEST_TIMEOUT) {
            shared.count(self.facts.listener, ListenerCell::TimedOut, 1);
        }
        let sent = match ending.answer {
            Some(status) => self.answer_in_place(&mut exchange, shared, status, &ending),
            None => Ok(Sent::default()),
        };
        if self.is_blocked() {
            self.http.send = Some(exchange.send_timeout(shared, self.facts.listener));
        }
        let own = sent.unwrap_or_default();
        exchange.bytes_out += own.bytes;
        exchange.head_bytes_out += own.head_bytes;
        let why = (ending.why, ending.reason);
        log_exchange(&mut exchange, self.facts, shared, why);
        // It stays with the session: a reset is for what was not delivered.
        if let ClientFate::Switch | ClientFate::CutByReset(_) = ending.client {
            self.http.exchange = Some(exchange);
        } else {
            shared.release_exchange(exchange, ending.backend);
        }
        if let Err(turn) = sent {
            return Next::Turn(turn);
        }
        match ending.client {
            ClientFate::Next => {
                self.http.phase = ClientPhase::Idle(shared.timers.now);
                self.client.expect_end();
                Next::Step
            }
            ClientFate::Close { .. } if has_had_its_time => {
                self.client.finish(&mut shared.io.net);
                Next::Turn(Turn::Close(CloseReason::Done))
            }
            ClientFate::Close { is_done } => self.close_after_answer(shared, is_done),
            // Nothing has moved for long, so nothing is on its way to be destroyed.
            ClientFate::CutByFraming if matches!(end, End::Cut(Cut::Idle(_))) => {
                Next::Turn(Turn::Close(CloseReason::Stalled))
            }
            // A reset would destroy the answers before this one as well.
            ClientFate::CutByFraming => {
                self.close_client(shared, is_received, CloseReason::Truncated)
            }
            ClientFate::CutByReset(Cut::Idle(_)) => Next::Turn(Turn::Close(CloseReason::Idle)),
            ClientFate::CutByReset(Cut::Backend | Cut::BadBody(_) | Cut::Request(_)) => {
                Next::Turn(Turn::Close(CloseReason::Reset(Side::Backend)))
            }
            ClientFate::Left => Next::Turn(Turn::Close(CloseReason::Left)),
            ClientFate::Gone => Next::Turn(Turn::Close(CloseReason::Reset(Side::Client))),
            ClientFate::Switch => Next::Switch,
        }
    }

    /// No response has begun, and none will: weir answers.
    fn answer_in_place(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        status: u16,
        ending: &Ending,
    ) -> Result<Sent, Turn> {
        let keep = ending.client == ClientFate::Next;
        let facts = *exchange.state.facts();
        let upstream = Some(exchange.attempt.upstream);
        let site = &exchange.site;
        let sent = self.send_error(shared, site, upstream, Some(&facts), status, keep);
        shared.count_code(self.facts.listener, status);
        exchange.own_status = Some(status);
        shared.count_route(self.facts.listener, site, exchange.route, status);
        sent
    }
}
