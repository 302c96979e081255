//! The way of a response from the backend's bytes to the client.

use std::io::ErrorKind;
use std::ops::ControlFlow::{Break, Continue};

use crate::board::{BackendCell, CodeClass, ListenerCell, Span};
use crate::config::model;
use crate::core::access_log::StickyUse;
use crate::core::account::{NoMemory, Purpose};
use crate::core::fault::Fault;
use crate::core::finding::Reason;
use crate::core::http::body::LAST_CHUNK;
use crate::core::http::exchange::{End, Progress, Relayed, ResponseKind, Tail, or_end};
use crate::core::http::head::{self, HeadLimits, Parsed, ResponseHead};
use crate::core::http::keep_alive;
use crate::core::http::known::{Known, KnownSet};
use crate::core::http::rewrite::{END, ResponseRewrite, write_response};
use crate::core::http::sticky::{self, CookieAttributes};
use crate::core::readiness::Io;
use crate::net::{Net, Then};
use crate::worker::direction::{SPLICE_AFTER_BYTES, SPLICE_BYTES_MAX};
use crate::worker::health::FailedAt;
use crate::worker::http::active::ActiveExchange;
use crate::worker::http::parts::Parts;
use crate::worker::io_space::{IoSpace, PipeKey};
use crate::worker::keys::ConnectionKey;
use crate::worker::shared::Shared;
use crate::worker::upstreams::UpstreamTable;

/// A body part up to this size is copied behind the head instead of being written from where it
/// lies.
const GATHER_BYTES_MAX: usize = 4 * 1024;

impl<N: Net> Parts<'_, N> {
    /// Reads from the backend once and passes it on; whether anything moved.
    pub(super) fn download(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Progress<bool> {
        let Some(connection) = exchange.connection else {
            return Continue(false);
        };
        if exchange.state.is_response_whole() {
            self.watch_backend(exchange, shared, connection);
            return Continue(false);
        }
        let endpoint = shared.connections.endpoint(connection);
        // What the client does not take stays with the backend: that is the back-pressure.
        if self.is_blocked() || *budget == 0 {
            return Continue(false);
        }
        if exchange.pipe.is_none() && !endpoint.may_read() {
            return Continue(false);
        }
        if let Some(has_moved) = self.splice_body(exchange, shared, budget)? {
            return Continue(has_moved);
        }
        let mut scratch = std::mem::take(&mut shared.io.scratch);
        let outcome = self.download_with(exchange, shared, &mut scratch, budget);
        shared.io.scratch = scratch;
        outcome
    }

    /// The response is whole and the request still goes up: the end of the backend's direction does
    /// not change that, its failure does, and what else it sends is for nobody.
    fn watch_backend(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        connection: ConnectionKey,
    ) {
        let endpoint = shared.connections.endpoint_mut(connection);
        if !endpoint.may_read() {
            return;
        }
        let io = &mut shared.io;
        let failed = match endpoint.read(&mut io.net, &mut io.scratch) {
            Io::Blocked => None,
            Io::Failed(kind) => Some(kind),
            Io::Ready(_) | Io::Closed => {
                exchange.state.on_surplus();
                // More of it has an event of its own. A reset behind the end is not told by reads.
                endpoint.expect_no_input();
                let has_failed = endpoint.has_failed(&mut io.net);
                has_failed.then_some(ErrorKind::ConnectionReset)
            }
        };
        if let Some(kind) = failed {
            self.on_upload_failed(exchange, shared, kind);
        }
    }

    fn download_with(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        scratch: &mut [u8],
        budget: &mut usize,
    ) -> Progress<bool> {
        let Some(connection) = exchange.connection else {
            return Continue(false);
        };
        // With a head before it, a body part of a buffer's size still fits.
        let endpoint = shared.connections.endpoint_mut(connection);
        let room = shared.io.buffers.readable(scratch.len());
        let room = endpoint.readable(room, scratch.len());
        if room == 0 {
            shared.io.is_short = true;
            return Continue(false);
        }
        let net = &mut shared.io.net;
        let count = match endpoint.read(net, &mut scratch[..room]) {
            Io::Ready(count) => count,
            Io::Blocked => return Continue(false),
            Io::Closed => {
                self.on_backend_closed(exchange, shared)?;
                return Continue(true);
            }
            Io::Failed(kind) => {
                let why = note_failure(exchange, shared, connection, kind);
                self.on_backend_lost(exchange, shared, &why)?;
                return Continue(true);
            }
        };
        shared.io.charge_used_layers();
        *budget = budget.saturating_sub(count);
        count_received(exchange, shared, count);
        self.take_response(exchange, shared, &scratch[..count])?;
        Continue(true)
    }

    /// Moves a long body of known length through a kernel pipe; none when it is to be read.
    fn splice_body(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Progress<Option<bool>> {
        let Some(connection) = exchange.connection else {
            return Continue(None);
        };
        if exchange.pipe.is_none() && !self.take_pipe(exchange, shared, connection) {
            return Continue(None);
        }
        let mut has_moved = false;
        while let Some(pipe) = exchange.pipe {
            match self.drain_pipe(exchange, shared, pipe)? {
                0 => {}
                count => {
                    has_moved = true;
                    *budget = budget.saturating_sub(count);
                }
            }
            let is_empty = shared.io.pipes.bytes(pipe) == 0;
            if is_empty && exchange.state.is_response_whole() {
                shared.io.pipes.return_pipe(&mut exchange.pipe);
                exchange.state.progress()?;
                return Continue(Some(true));
            }
            if !is_empty || *budget == 0 {
                return Continue(Some(has_moved));
            }
            if !self.fill_pipe(exchange, shared, pipe)? {
                break;
            }
        }
        Continue(Some(has_moved))
    }

    /// Gets a pipe for the rest of a response, if that is long and the kernel can move it; whether
    /// there is one.
    fn take_pipe(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        connection: ConnectionKey,
    ) -> bool {
        let can_splice =
            self.client.can_splice() && shared.connections.endpoint(connection).can_splice();
        if !can_splice || exchange.state.response_opaque_bytes() < SPLICE_AFTER_BYTES {
            return false;
        }
        let io = &mut shared.io;
        exchange.pipe = io.pipes.fetch(&mut io.net);
        exchange.pipe.is_some()
    }

    /// Writes what is in the pipe to the client; how much it took.
    fn drain_pipe(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        pipe: PipeKey,
    ) -> Progress<usize> {
        let mut total = 0;
        let (pipe, bytes) = shared.io.pipes.get_mut(pipe);
        while *bytes > 0 && self.client.may_write() {
            match self.client.drain(&mut shared.io.net, pipe, *bytes) {
                Io::Ready(count) => {
                    *bytes -= count;
                    total += count;
                }
                Io::Blocked => {}
                Io::Closed | Io::Failed(_) => return Break(End::ClientGone),
            }
        }
        if total > 0 {
            *self.moved = shared.timers.now;
        }
        // What is in the pipe has not passed yet.
        exchange.state.on_response_moved(total as u64);
        exchange.bytes_out += total as u64;
        shared.count(self.facts.listener, ListenerCell::BytesOut, total as u64);
        Continue(total)
    }

    /// Moves body bytes from the backend into the pipe, which is empty; whether there were any.
    fn fill_pipe(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        pipe: PipeKey,
    ) -> Progress<bool> {
        let Some(connection) = exchange.connection else {
            return Continue(false);
        };
        let wanted = exchange.state.response_opaque_bytes();
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        let endpoint = shared.connections.endpoint_mut(connection);
        let IoSpace { net, pipes, .. } = &mut shared.io;
        let found = if endpoint.may_read() {
            let (pipe, bytes) = pipes.get_mut(pipe);
            let found = endpoint.fill(net, pipe, wanted.min(SPLICE_BYTES_MAX));
            if let Io::Ready(count) = found {
                *bytes += count;
            }
            found
        } else {
            Io::Blocked
        };
        match found {
            Io::Ready(count) => {
                count_received(exchange, shared, count);
                Continue(true)
            }
            Io::Blocked => {
                pipes.return_pipe(&mut exchange.pipe);
                Continue(false)
            }
            Io::Closed => {
                self.on_backend_closed(exchange, shared)?;
                Continue(true)
            }
            Io::Failed(kind) => {
                exchange.attempt.note_failure(kind);
                let why = kind.to_string();
                self.on_backend_lost(exchange, shared, &why)?;
                Continue(true)
            }
        }
    }

    /// The backend has ended its direction.
    fn on_backend_closed(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
    ) -> Progress {
        if !exchange.state.has_response() {
            note_reach(exchange, shared);
            return self.on_backend_lost(exchange, shared, "closed before it answered");
        }
        if or_end(exchange.state.on_response_closed())? == Tail::LastChunk {
            exchange.bytes_out += LAST_CHUNK.len() as u64;
            self.pass(shared, (LAST_CHUNK, &[]), Then::More)?;
        }
        exchange.state.progress()
    }

    /// Passes on bytes of the backend: heads first, then the body.
    fn take_response(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        bytes: &[u8],
    ) -> Progress {
        let mut out = std::mem::take(&mut shared.http.out);
        out.clear();
        let outcome = self.take_with(exchange, shared, bytes, &mut out);
        shared.http.out = out;
        outcome
    }

    fn take_with(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Progress {
        if exchange.state.has_response() {
            return self.pass_body(exchange, shared, bytes, out);
        }
        if exchange.ttfb_us.is_none() {
            let ttfb_ms = shared.timers.now.since_ms(exchange.sent_at.tick());
            let ttfb_us = shared.timers.moment.since_us(exchange.sent_at);
            exchange.ttfb_us = Some(ttfb_us);
            shared.time(exchange.attempt.upstream, Span::FirstByte, ttfb_ms);
        }
        let kept;
        let bytes = if exchange.response_head.is_empty() {
            bytes
        } else {
            let Some(whole) = keep_head(exchange, &mut shared.io, bytes)? else {
                return Continue(());
            };
            kept = whole;
            &kept
        };
        let mut head = shared.http.response_head.take().unwrap_or_default();
        let taken = self.take_heads(exchange, shared, &mut head, bytes, out);
        shared.http.response_head = Some(head);
        match taken {
            Break(end) => {
                // Interim responses that came before what is wrong still pass.
                self.pass(shared, (out, &[]), Then::More)?;
                Break(end)
            }
            Continue(None) => {
                exchange.head_bytes_out += out.len() as u64;
                exchange.bytes_out += out.len() as u64;
                self.pass(shared, (out, &[]), Then::More)
            }
            Continue(Some(head_bytes)) => {
                exchange.head_bytes_out += out.len() as u64;
                self.pass_body(exchange, shared, &bytes[head_bytes..], out)
            }
        }
    }

    /// Writes every head that is whole into `out`, interim ones first. Where the body begins, or
    /// none while the final head is incomplete.
    fn take_heads(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        head: &mut ResponseHead,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Progress<Option<usize>> {
        let limits: HeadLimits = exchange.site.limits;
        let mut start = 0;
        loop {
            let rest = &bytes[start..];
            match head.parse(rest, exchange.state.facts().method, limits) {
                Ok(Parsed::Partial) => {
                    let account = shared.io.buffers.account_mut();
                    let kept = account.keep(Purpose::Response, &mut exchange.response_head, rest);
                    return match kept {
                        Ok(()) => Continue(None),
                        Err(NoMemory) => Break(exchange.state.on_no_memory()),
                    };
                }
                Ok(Parsed::Complete(head_bytes)) => {
                    start += head_bytes;
                    let readable = head.readable(rest);
                    if self.take_head(exchange, shared, head, readable, out)? {
                        return Continue(Some(start));
                    }
                }
                Err(error) => {
                    log_bad_response(exchange, shared, &error.to_string());
                    return Break(exchange.state.on_bad_response(error));
                }
            }
        }
    }

    /// Writes one head; whether it was the final one.
    fn take_head(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        head: &ResponseHead,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Progress<bool> {
        let facts = head.facts;
        let protocols = head.fields.values(Known::Upgrade, bytes);
        let may_go_on = self.may_go_on(&exchange.site, &shared.listeners);
        let verdict = exchange.state.on_head(&facts, protocols, may_go_on);
        let verdict = or_end(verdict.inspect_err(|end| {
            log_bad_response(exchange, shared, end.reason().unwrap_or_default());
        }))?;
        if let ResponseKind::Interim | ResponseKind::Dropped = verdict {
            exchange.sent_at = shared.timers.moment;
        }
        let keep_alive = match verdict {
            ResponseKind::Dropped => return Continue(false),
            ResponseKind::Interim => true,
            ResponseKind::Final { keep_alive } => keep_alive,
        };
        let date = shared.date();
        let is_secure = self.client.is_secure();
        let rewrite = ResponseRewrite {
            client: exchange.state.facts().version,
            keep_alive,
            drop: KnownSet::NONE,
            edits: exchange.site.routes[exchange.route].response_edits(is_secure),
            date: &date,
        };
        write_response(head, bytes, &rewrite, out);
        if verdict == ResponseKind::Interim {
            out.extend_from_slice(END);
            return Continue(false);
        }
        write_sticky(exchange, &shared.upstreams, out);
        out.extend_from_slice(END);
        exchange.answered_at = shared.timers.now;
        if let Some(record) = &mut exchange.record {
            record.keep_response_fields(head, bytes);
        }
        let content_type = head.fields.first(Known::ContentType, bytes);
        exchange.is_event_stream = content_type.is_some_and(is_event_stream);
        if facts.reusable {
            note_idle_limit(exchange, shared, head, bytes);
        }
        note_outcome(exchange, shared, facts.status);
        shared.count_code(self.facts.listener, facts.status);
        let (site, route) = (&exchange.site, exchange.route);
        shared.count_route(self.facts.listener, site, route, facts.status);
        count_answer(exchange, shared, facts.status);
        if head.fields.names_hop_fields() {
            let names = head.fields.values(Known::Connection, bytes);
            exchange.state.drop_response_trailers(names);
        }
        Continue(true)
    }

    /// Sends what is there to the client; that is the end where it has gone.
    fn pass(&mut self, shared: &mut Shared<N>, parts: (&[u8], &[u8]), then: Then) -> Progress {
        or_end(
            self.send_with(shared, parts, then)
                .map_err(|_| End::ClientGone),
        )
    }

    /// Passes body bytes on, after what `out` holds already.
    fn pass_body(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Progress {
        let Relayed { direct, .. } = match exchange.state.on_response_body(bytes, out) {
            Ok(relayed) => relayed,
            Err(end) => {
                log_bad_response(exchange, shared, end.reason().unwrap_or_default());
                // What is whole up to here still goes out; the end will be missing.
                let _ = self.send(shared, out, &[]);
                return Break(end);
            }
        };
        // One slice costs the kernel less than two, and a small copy costs next to nothing.
        let direct = if !out.is_empty() && direct <= GATHER_BYTES_MAX {
            out.extend_from_slice(&bytes[..direct]);
            0
        } else {
            direct
        };
        exchange.bytes_out += (out.len() + direct) as u64;
        let then = match exchange.state.is_last_response_whole() {
            true => Then::End,
            false => Then::More,
        };
        self.pass(shared, (out, &bytes[..direct]), then)?;
        exchange.state.progress()
    }
}

/// More of an incomplete head has come. It is taken out of what is kept only when it may be whole
/// now.
fn keep_head<N: Net>(
    exchange: &mut ActiveExchange,
    io: &mut IoSpace<N>,
    fresh: &[u8],
) -> Progress<Option<Vec<u8>>> {
    let account = io.buffers.account_mut();
    let kept = &mut exchange.response_head;
    if account.keep(Purpose::Response, kept, fresh).is_err() {
        return Break(exchange.state.on_no_memory());
    }
    if !head::is_worth_parsing(kept, fresh.len(), exchange.site.limits) {
        return Continue(None);
    }
    account.give(Purpose::Response, kept.capacity());
    Continue(Some(std::mem::take(kept)))
}

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a response of this `Content-Type` sends events as they come (WHATWG HTML, section 9.2).
fn is_event_stream(content_type: &[u8]) -> bool {
    let Some((media_type, rest)) = content_type.split_at_checked(EVENT_STREAM.len()) else {
        return false;
    };
    let is_whole = matches!(rest.trim_ascii_start(), [] | [b';', ..]);
    is_whole && media_type.eq_ignore_ascii_case(EVENT_STREAM)
}

/// A response that leaves its connection open may say for how long.
fn note_idle_limit<N: Net>(
    exchange: &ActiveExchange,
    shared: &mut Shared<N>,
    head: &ResponseHead,
    bytes: &[u8],
) {
    let Some(lease) = &exchange.attempt.lease else {
        return;
    };
    let says_something = head.fields.has(Known::KeepAlive);
    if says_something
        || shared
            .upstreams
            .entry(lease.backend)
            .idle_limit
            .is_announced()
    {
        let timeout_s = keep_alive::timeout_s(head.fields.values(Known::KeepAlive, bytes));
        shared
            .upstreams
            .learn_idle_limit(&shared.board, lease.backend, |limit| {
                limit.on_response(timeout_s)
            });
    }
}

/// The backend has ended its direction before anything of an answer came: that acknowledges what of
/// the request had come before it, which may be nothing.
fn note_reach<N: Net>(exchange: &mut ActiveExchange, shared: &mut Shared<N>) {
    let (Some(connection), None) = (exchange.connection, exchange.ttfb_us) else {
        return;
    };
    let backend = shared.connections.get(connection).backend;
    shared.on_idle_end(backend, exchange.idle_ms);
    let endpoint = shared.connections.endpoint(connection);
    let sent = exchange.state.sent_bytes();
    let unacknowledged = endpoint.unacknowledged(&mut shared.io.net);
    if unacknowledged.is_some_and(|bytes| bytes >= sent) {
        exchange.state.on_never_reached();
    }
}

/// Notes why the connection to the backend has failed, which may be its TLS; in words.
#[cold]
fn note_failure<N: Net>(
    exchange: &mut ActiveExchange,
    shared: &mut Shared<N>,
    connection: ConnectionKey,
    kind: ErrorKind,
) -> String {
    match shared.connections.endpoint(connection).fault() {
        None | Some(Fault::Cut) => {
            exchange.attempt.note_failure(kind);
            kind.to_string()
        }
        Some(fault) => {
            let reason = Reason::Tls(fault);
            exchange.attempt.note(reason);
            shared.log_tls_failure(connection, reason);
            reason.to_string()
        }
    }
}

/// An answer has begun: real traffic worked, unless a 5xx is taken for a failure.
fn note_outcome<N: Net>(exchange: &ActiveExchange, shared: &mut Shared<N>, status: u16) {
    let upstream = &mut shared.upstreams[exchange.attempt.upstream];
    upstream.budget.on_request(shared.timers.now);
    let is_failure = status >= 500 && upstream.settings.passive.count_5xx;
    let Some(lease) = &exchange.attempt.lease else {
        return;
    };
    let backend = lease.backend;
    if is_failure {
        shared.upstreams.on_failure(
            &shared.board,
            &mut shared.timers,
            backend,
            FailedAt::Answer,
            &format!("HTTP status {status}"),
        );
    } else {
        shared.upstreams.backends.on_success(backend);
    }
}

/// Sets the cookie that binds the client to its backend, where it has none or another.
fn write_sticky(exchange: &mut ActiveExchange, upstreams: &UpstreamTable, out: &mut Vec<u8>) {
    let upstream = &upstreams[exchange.attempt.upstream];
    let (Some(model::Sticky::Insert(cookie)), Some(state), Some(lease)) = (
        &upstream.settings.sticky,
        &upstream.sticky,
        &exchange.attempt.lease,
    ) else {
        return;
    };
    // A bound backend may have failed since, and another have answered.
    if exchange.sticky == Some(StickyUse::Hit) && !exchange.attempt.tried().is_empty() {
        exchange.sticky = Some(StickyUse::Moved);
    }
    if exchange.sticky == Some(StickyUse::Hit) {
        return;
    }
    let identity = &upstreams.backends.get(lease.backend).identity;
    let tag = state.key.tag(&upstream.name, identity);
    let attributes = CookieAttributes {
        name: &cookie.name,
        domain: cookie.domain.as_deref(),
        max_age_s: cookie.max_age.map(|age| age.as_secs()),
        same_site: &cookie.same_site,
        secure: cookie.secure || exchange.secure_client,
        cache_private: cookie.cache_private,
    };
    sticky::write_set_cookie(&attributes, tag, out);
}

/// A backend has answered with this status.
fn count_answer<N: Net>(exchange: &ActiveExchange, shared: &Shared<N>, status: u16) {
    let Some(lease) = &exchange.attempt.lease else {
        return;
    };
    let (column, board) = (shared.upstreams.entry(lease.backend).column, &shared.board);
    board.add(column, CodeClass::of(status), 1);
    let took_ms = exchange.answered_at.since_ms(exchange.sent_at.tick());
    board.add(column, BackendCell::ResponseMs, took_ms);
}

fn count_received<N: Net>(exchange: &ActiveExchange, shared: &Shared<N>, count: usize) {
    if let Some(lease) = &exchange.attempt.lease {
        shared.upstreams.count_backend(
            &shared.board,
            lease.backend,
            BackendCell::BytesIn,
            count as u64,
        );
    }
}

fn log_bad_response<N: Net>(exchange: &ActiveExchange, shared: &mut Shared<N>, reason: &str) {
    if let Some(lease) = &exchange.attempt.lease {
        shared.log_bad_response(lease.backend, reason);
    }
}
