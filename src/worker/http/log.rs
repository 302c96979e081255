//! What sessions and requests leave when they end: in the access log, and among what is counted.

use crate::board::Span;
use crate::core::access_log::{
    CLIENT_LEFT, ClosedBy, Record, RequestRecord, Timings, TlsRecord, Why, closed_by,
};
use crate::core::http::exchange::{End, NO_DESCRIPTOR};
use crate::core::layer::Secured;
use crate::core::request_id::RequestId;
use crate::net::Net;
use crate::worker::attempt::Attempt;
use crate::worker::http::access_log::{Kept, TlsKept};
use crate::worker::http::active::ActiveExchange;
use crate::worker::http::client::{ClientPhase, Http};
use crate::worker::http::decision::{Short, keep_exchange, keep_session, keep_short};
use crate::worker::http::output::Sent;
use crate::worker::http::parts::{Facts, Parts, REQUEST_TIMEOUT};
use crate::worker::http::received::OwnAnswer;
use crate::worker::http::request::taken_id;
use crate::worker::http::space::unix_ms;
use crate::worker::keys::ListenerSlot;
use crate::worker::relay::Relay;
use crate::worker::session::{Protocol, Session, Told};
use crate::worker::shared::Shared;
use crate::worker::turn::{CloseReason, Side};

/// Counts and logs an exchange that is over.
pub(super) fn log_exchange<N: Net>(
    exchange: &mut ActiveExchange,
    facts: Facts,
    shared: &mut Shared<N>,
    (why, reason): (Why, Option<&'static str>),
) {
    let listener = facts.listener;
    let status = exchange.state.status().or(exchange.own_status);
    let status = status.or_else(|| left_status(why));
    let reason = reason.or_else(|| failure_behind(why, &exchange.attempt));
    if !std::mem::replace(&mut exchange.has_ended, true) {
        shared.count(listener, why, 1);
        let total_ms = shared.timers.now.since_ms(exchange.started.tick());
        shared.time(exchange.attempt.upstream, Span::Total, total_ms);
        keep_exchange(exchange, facts, shared, (why, reason), status);
    }
    let Some(kept) = exchange.record.take() else {
        return;
    };
    let Some(mut log) = shared.http.log.take() else {
        return;
    };
    let upstream = &shared.upstreams[exchange.attempt.upstream];
    let backend = exchange.attempt.last();
    let backend = backend.and_then(|id| shared.upstreams.backends.try_get(id));
    let line = Record {
        request: Some(RequestRecord {
            status,
            route: Some(&exchange.site.routes[exchange.route].name),
            sticky: exchange.sticky,
            ..request_record(&kept)
        }),
        body_bytes_in: exchange.state.request_payload_bytes(),
        head_bytes_out: exchange.head_bytes_out,
        body_bytes_out: exchange.bytes_out.saturating_sub(exchange.head_bytes_out),
        upstream: Some(&upstream.name),
        backend: backend.map(|backend| backend.identity.as_str()),
        attempts: exchange.attempt.count(),
        timings: Timings {
            wait_us: Some(exchange.started.since_us(kept.began)),
            queue_us: exchange.queue_us,
            connect_us: exchange.connect_us,
            ttfb_us: exchange.ttfb_us,
            duration_us: shared.timers.moment.since_us(kept.began),
        },
        reason,
        ..short_record(shared, listener, &kept, exchange.id(&shared.decisions), why)
    };
    log.line(&line, kept.form.as_deref());
    shared.http.log = Some(log);
}

/// What stands for the status of a client that was answered nothing, if it has left.
fn left_status(why: Why) -> Option<u16> {
    let has_left = matches!(why, Why::ClientLeftInRequest | Why::ClientLeftInData);
    has_left.then_some(CLIENT_LEFT)
}

/// Logs an exchange whose session ends before it, for this reason.
pub(crate) fn log_unfinished<N: Net>(
    exchange: &mut ActiveExchange,
    facts: Facts,
    shared: &mut Shared<N>,
    reason: CloseReason,
) {
    let why = match reason {
        CloseReason::Cut => Why::DrainDeadline,
        CloseReason::Kicked => Why::Kicked,
        // It was answered, and nobody wants the rest of what it sends.
        CloseReason::Done => Why::Ok,
        CloseReason::NoBackend
        | CloseReason::ConnectFailed
        | CloseReason::ConnectTimeout
        | CloseReason::KeepAliveEnd
        | CloseReason::Reset(_)
        | CloseReason::Left
        | CloseReason::Truncated
        | CloseReason::Stalled
        | CloseReason::Idle
        | CloseReason::TunnelIdle
        | CloseReason::HalfClosed
        | CloseReason::Unwatched
        | CloseReason::BadOpening(_)
        | CloseReason::Stranger => exchange.state.end(End::ClientGone, false).why,
    };
    log_exchange(exchange, facts, shared, (why, None));
}

/// Logs a connection that ends within the head of a request, if it does, for this reason.
pub(crate) fn log_incomplete<N: Net>(
    http: &Http,
    facts: Facts,
    secured: Option<Secured<'_>>,
    shared: &mut Shared<N>,
    reason: CloseReason,
) {
    let ClientPhase::Head(began) = http.phase else {
        return;
    };
    let why = if reason == CloseReason::Cut {
        Why::DrainDeadline
    } else if reason == CloseReason::Kicked {
        Why::Kicked
    } else {
        Why::ClientLeftInRequest
    };
    shared.count(facts.listener, why, 1);
    let id = shared.next_id();
    let short = Short {
        status: left_status(why),
        ..Short::unread(id.number, began)
    };
    keep_short(shared, facts, &short, (why, None));
    if shared.http.log.is_none() {
        return;
    }
    let kept = Kept {
        head_bytes: http.input.len() as u64,
        status: left_status(why),
        tls: secured.map(TlsKept::of),
        ..Kept::unread(facts.peer, began)
    };
    let none = Sent::default();
    let told = (&kept, RequestId::Own(id));
    log_short(shared, facts.listener, told, None, none, (why, None));
}

impl<N: Net> Parts<'_, N> {
    /// Logs a request that weir answered itself, with this status and so many bytes.
    pub(super) fn log_own(
        &self,
        shared: &mut Shared<N>,
        own: &OwnAnswer<'_>,
        (status, sent): (u16, Sent),
        (why, reason): (Why, Option<&'static str>),
    ) {
        shared.count(self.facts.listener, why, 1);
        let route = own.route.map(|route| &own.site.routes[route]);
        let id = shared.next_id();
        let taken = taken_id(own.site, self.peer(own.site), own.request);
        let client = self.client_of(own.site, own.request);
        let short = Short {
            status: Some(status),
            taken: taken.as_deref(),
            route: route.map_or(0, |route| route.key),
            head: own.request.bytes,
            client,
            bytes_out: sent.bytes,
            ..Short::unread(id.number, own.began)
        };
        keep_short(shared, self.facts, &short, (why, reason));
        let Some(log) = &shared.http.log else {
            return;
        };
        if route.is_some_and(|route| !route.is_logged) {
            return;
        }
        let clients = (client, self.facts.peer);
        let mut kept = Kept::new(log.form(), own.request, clients, own.began);
        kept.status = Some(status);
        kept.tls = self.client.secured().map(TlsKept::of);
        let route = route.map(|route| route.name.as_str());
        let id = match &taken {
            Some(taken) => RequestId::Taken(taken),
            None => RequestId::Own(id),
        };
        log_short(
            shared,
            self.facts.listener,
            (&kept, id),
            route,
            sent,
            (why, reason),
        );
    }

    /// Logs bytes that were no request, and so many that answered them.
    pub(super) fn log_refused(
        &self,
        shared: &mut Shared<N>,
        (status, reason): (u16, Option<&'static str>),
        sent: Sent,
    ) {
        let why = if status == REQUEST_TIMEOUT {
            Why::HeaderTimeout
        } else {
            Why::Refused
        };
        shared.count(self.facts.listener, why, 1);
        let began = self.http.phase.began(shared.timers.moment);
        let id = shared.next_id();
        let short = Short {
            status: Some(status),
            bytes_out: sent.bytes,
            ..Short::unread(id.number, began)
        };
        keep_short(shared, self.facts, &short, (why, reason));
        if shared.http.log.is_none() {
            return;
        }
        let kept = Kept {
            status: Some(status),
            tls: self.client.secured().map(TlsKept::of),
            ..Kept::unread(self.facts.peer, began)
        };
        let told = (&kept, RequestId::Own(id));
        log_short(shared, self.facts.listener, told, None, sent, (why, reason));
    }
}

/// Logs a request that has come no further than its head.
fn log_short<N: Net>(
    shared: &mut Shared<N>,
    listener: ListenerSlot,
    (kept, id): (&Kept, RequestId<'_>),
    route: Option<&str>,
    sent: Sent,
    (why, reason): (Why, Option<&'static str>),
) {
    let Some(mut log) = shared.http.log.take() else {
        return;
    };
    let line = Record {
        request: Some(RequestRecord {
            route,
            ..request_record(kept)
        }),
        head_bytes_out: sent.head_bytes,
        body_bytes_out: sent.bytes - sent.head_bytes,
        reason,
        ..short_record(shared, listener, kept, id, why)
    };
    log.line(&line, kept.form.as_deref());
    shared.http.log = Some(log);
}

/// What is known of a request as soon as its head is, if it is.
fn request_record(kept: &Kept) -> RequestRecord<'_> {
    RequestRecord {
        host: &kept.host,
        method: &kept.method,
        path: &kept.path,
        protocol: kept.protocol,
        status: kept.status,
        route: None,
        sticky: None,
        traceparent: kept.traceparent.as_deref(),
        request_fields: &kept.request_fields,
        response_fields: &kept.response_fields,
    }
}

/// The line of a request that has come no further than its head.
fn short_record<'a, N: Net>(
    shared: &'a Shared<N>,
    listener: ListenerSlot,
    kept: &'a Kept,
    id: RequestId<'a>,
    why: Why,
) -> Record<'a> {
    let tls = kept.tls.as_ref().map(TlsKept::record);
    Record {
        unix_ms: unix_ms(&shared.io.net),
        id,
        worker: shared.http.worker,
        client: kept.client,
        client_port: kept.client_port,
        listener: &shared.listeners[listener].name,
        request: None,
        head_bytes_in: kept.head_bytes,
        body_bytes_in: 0,
        head_bytes_out: 0,
        body_bytes_out: 0,
        upstream: None,
        backend: None,
        attempts: 0,
        timings: Timings {
            duration_us: shared.timers.moment.since_us(kept.began),
            ..Timings::default()
        },
        why,
        reason: None,
        closed_by: closed_by(why),
        sni: tls.as_ref().and_then(|tls| tls.sni),
        tls,
    }
}

/// Logs an L4 session that is over.
pub(crate) fn log_tcp<N: Net>(session: &Session<N>, shared: &mut Shared<N>, reason: CloseReason) {
    let Protocol::Tcp(relay) = &session.protocol else {
        return;
    };
    let attempt = &relay.attempt;
    let (why, closed_by) = outcome(reason);
    shared.count(session.listener, why, 1);
    let id = shared.next_id();
    let ended = (why, tcp_reason(relay, why, reason), closed_by);
    keep_session(session, relay, shared, id, ended);
    if !attempt.is_logged {
        return;
    }
    let Some(mut log) = shared.http.log.take() else {
        return;
    };
    let backend = attempt.last();
    let backend = backend.and_then(|id| shared.upstreams.backends.try_get(id));
    let tls = session.client.secured().map(TlsRecord::of);
    let hello = session.told.as_deref().and_then(Told::hello);
    let told_name = hello.and_then(|it| it.server_name.as_deref());
    let line = Record {
        unix_ms: unix_ms(&shared.io.net),
        id: RequestId::Own(id),
        worker: shared.http.worker,
        client: session.peer.map(|peer| peer.ip().to_canonical()),
        client_port: session.peer.map(|peer| peer.port()),
        listener: &shared.listeners[session.listener].name,
        request: None,
        head_bytes_in: 0,
        body_bytes_in: relay.up.flow.moved_bytes(),
        head_bytes_out: 0,
        body_bytes_out: relay.down.flow.moved_bytes(),
        upstream: Some(&shared.upstreams[attempt.upstream].name),
        backend: backend.map(|backend| backend.identity.as_str()),
        attempts: attempt.count(),
        timings: Timings {
            connect_us: relay.connect_us(),
            duration_us: shared.timers.moment.since_us(session.opened),
            ..Timings::default()
        },
        why,
        reason: ended.1,
        closed_by,
        sni: told_name.or_else(|| tls.as_ref().and_then(|tls| tls.sni)),
        tls,
    };
    log.line(&line, None);
    shared.http.log = Some(log);
}

/// What exactly was wrong with an L4 session, where that is known.
fn tcp_reason<N: Net>(relay: &Relay<N>, why: Why, reason: CloseReason) -> Option<&'static str> {
    match reason {
        CloseReason::Unwatched => Some("its socket could not be watched"),
        CloseReason::NoBackend if relay.awaits_descriptor() => Some(NO_DESCRIPTOR),
        CloseReason::NoBackend | CloseReason::ConnectFailed => failure_behind(why, &relay.attempt),
        CloseReason::Done
        | CloseReason::ConnectTimeout
        | CloseReason::KeepAliveEnd
        | CloseReason::Reset(_)
        | CloseReason::Left
        | CloseReason::Truncated
        | CloseReason::Stalled
        | CloseReason::BadOpening(_)
        | CloseReason::Stranger
        | CloseReason::Idle
        | CloseReason::TunnelIdle
        | CloseReason::HalfClosed
        | CloseReason::Cut
        | CloseReason::Kicked => None,
    }
}

/// The error of the network that led to an end, if one did.
fn failure_behind(why: Why, attempt: &Attempt) -> Option<&'static str> {
    let is_of_network = matches!(
        why,
        Why::NoBackend | Why::ConnectFailed | Why::BackendClosedBeforeHead | Why::BackendCutBody
    );
    attempt.failure().filter(|_| is_of_network)
}

/// How the end of an L4 session reads in its line.
fn outcome(reason: CloseReason) -> (Why, Option<ClosedBy>) {
    match reason {
        CloseReason::Done | CloseReason::KeepAliveEnd => (Why::Ok, None),
        CloseReason::NoBackend => (Why::NoBackend, Some(ClosedBy::Weir)),
        CloseReason::ConnectFailed => (Why::ConnectFailed, Some(ClosedBy::Weir)),
        CloseReason::ConnectTimeout => (Why::ConnectTimeout, Some(ClosedBy::Weir)),
        CloseReason::Reset(Side::Client) | CloseReason::Left => {
            (Why::ClientLeftInData, Some(ClosedBy::Client))
        }
        CloseReason::Reset(Side::Backend) | CloseReason::Truncated => {
            (Why::BackendCutBody, Some(ClosedBy::Backend))
        }
        CloseReason::Stalled => (Why::ResponseIdle, Some(ClosedBy::Weir)),
        CloseReason::Idle => (Why::IdleTimeout, Some(ClosedBy::Weir)),
        CloseReason::TunnelIdle => (Why::TunnelTimeout, Some(ClosedBy::Weir)),
        CloseReason::HalfClosed => (Why::HalfClosedTimeout, Some(ClosedBy::Weir)),
        CloseReason::Unwatched | CloseReason::BadOpening(_) | CloseReason::Stranger => {
            (Why::Refused, Some(ClosedBy::Weir))
        }
        CloseReason::Kicked => (Why::Kicked, Some(ClosedBy::Weir)),
        CloseReason::Cut => (Why::DrainDeadline, Some(ClosedBy::Weir)),
    }
}
