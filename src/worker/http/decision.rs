//! What is kept of requests that have ended: see [`decision`](crate::worker::decision).

use std::net::{IpAddr, SocketAddr};

use crate::core::access_log::{ClosedBy, StickyUse, Why, closed_by};
use crate::core::client_hello::ClientHello;
use crate::core::decision::{Gist, Kind, LINE_BYTES, Rule};
use crate::core::opening::Refusal;
use crate::core::request_id::{OwnId, RequestId, taken_key};
use crate::core::time::Moment;
use crate::net::Net;
use crate::worker::decision::Traces;
use crate::worker::http::active::ActiveExchange;
use crate::worker::http::parts::Facts;
use crate::worker::kept::Decisions;
use crate::worker::relay::Relay;
use crate::worker::session::{Session, Told};
use crate::worker::shared::Shared;
use crate::worker::turn::CloseReason;

impl ActiveExchange {
    /// The id by which it is known to others.
    pub(super) fn id(&self, decisions: &Decisions) -> RequestId<'_> {
        match &self.taken_id {
            Some(taken) => RequestId::Taken(taken),
            None => RequestId::Own(decisions.ids.id(self.number)),
        }
    }

    fn rule<N: Net>(&self, shared: &Shared<N>) -> Rule {
        if self.sticky == Some(StickyUse::Hit) {
            return Rule::Sticky;
        }
        match self.attempt.is_bound_by_hash {
            true => Rule::HashCookie,
            false => shared.upstreams.rule_of(self.attempt.upstream),
        }
    }
}

/// Keeps what came of an exchange.
pub(super) fn keep_exchange<N: Net>(
    exchange: &ActiveExchange,
    facts: Facts,
    shared: &mut Shared<N>,
    (why, reason): (Why, Option<&'static str>),
    status: Option<u16>,
) {
    let now = shared.timers.now;
    let status = status.unwrap_or(0);
    let total_ms = now.since_ms(exchange.began.tick());
    let is_retried = exchange.attempt.has_failed();
    let ring = (shared.decisions).ring_for((why, status), is_retried, total_ms, now);
    let Some(keep) = ring else {
        return;
    };
    let attempt = &exchange.attempt;
    let upstream = &shared.upstreams[attempt.upstream];
    let gist = Gist {
        taken_key: exchange.taken_id.as_deref().map_or(0, taken_key),
        status,
        attempts: attempt.count(),
        rule: exchange.rule(shared),
        members: upstream.members.len(),
        bytes_in: exchange.state.request_payload_bytes(),
        bytes_out: exchange.bytes_out,
        wait_ms: Some(exchange.started.since_us(exchange.began) / 1_000),
        queue_ms: whole_ms(exchange.queue_us),
        connect_ms: whole_ms(exchange.connect_us),
        ttfb_ms: whole_ms(exchange.ttfb_us),
        total_ms,
        parked_ms: exchange.idle_ms,
        route: exchange.site.routes[exchange.route].key,
        upstream: shared.board.key_of(upstream.column),
        backend: shared.backend_key(attempt),
        ..short_gist(shared, facts, exchange.client, (exchange.number, why))
    };
    let head = exchange.state.head();
    let traces = Traces {
        head: &head[..head.len().min(LINE_BYTES)],
        attempt: Some((attempt, exchange.started.tick())),
        reason,
        taken: exchange.taken_id.as_deref(),
    };
    shared.keep_decision(keep, &gist, &traces);
}

fn whole_ms(us: Option<u64>) -> Option<u64> {
    us.map(|us| us / 1_000)
}

/// What is known of a request that weir answered itself, or that was none.
pub(super) struct Short<'a> {
    pub(super) number: u64,
    pub(super) status: Option<u16>,
    pub(super) began: Moment,
    /// The key of the route that matched.
    pub(super) route: u64,
    pub(super) head: &'a [u8],
    /// The id that was taken.
    pub(super) taken: Option<&'a [u8]>,
    /// The address of the client, where that is not for certain the one of its peer.
    pub(super) client: Option<IpAddr>,
    pub(super) bytes_out: u64,
}

impl Short<'_> {
    /// Of what has come no further than this.
    pub(super) const fn unread(number: u64, began: Moment) -> Self {
        Self {
            number,
            status: None,
            began,
            route: 0,
            head: &[],
            taken: None,
            client: None,
            bytes_out: 0,
        }
    }
}

/// Keeps what came of it.
pub(super) fn keep_short<N: Net>(
    shared: &mut Shared<N>,
    facts: Facts,
    short: &Short<'_>,
    (why, reason): (Why, Option<&'static str>),
) {
    let now = shared.timers.now;
    let status = short.status.unwrap_or(0);
    let total_ms = now.since_ms(short.began.tick());
    let ring = (shared.decisions).ring_for((why, status), false, total_ms, now);
    let Some(keep) = ring else {
        return;
    };
    let gist = Gist {
        taken_key: short.taken.map_or(0, taken_key),
        status,
        bytes_out: short.bytes_out,
        total_ms,
        route: short.route,
        ..short_gist(
            shared,
            facts,
            short.client.or_else(|| address_of(facts.peer)),
            (short.number, why),
        )
    };
    let traces = Traces {
        head: &short.head[..short.head.len().min(LINE_BYTES)],
        attempt: None,
        reason,
        taken: short.taken,
    };
    shared.keep_decision(keep, &gist, &traces);
}

/// How an L4 session has ended: why, what exactly was wrong, and who closed first.
pub(super) type SessionEnd = (Why, Option<&'static str>, Option<ClosedBy>);

/// Keeps what came of an L4 session, or of a tunnel.
pub(super) fn keep_session<N: Net>(
    session: &Session<N>,
    relay: &Relay<N>,
    shared: &mut Shared<N>,
    id: OwnId,
    (why, reason, closed_by): SessionEnd,
) {
    let (now, attempt) = (shared.timers.now, &relay.attempt);
    let connect_ms = whole_ms(relay.connect_us());
    // How long a session lasts is its own business, but not how long it waited.
    let slow_ms = connect_ms.unwrap_or(0);
    let is_retried = attempt.has_failed();
    let ring = (shared.decisions).ring_for((why, 0), is_retried, slow_ms, now);
    let Some(keep) = ring else {
        return;
    };
    let facts = Facts::of(session);
    let upstream = &shared.upstreams[attempt.upstream];
    let gist = Gist {
        kind: Kind::Session,
        closed_by,
        attempts: attempt.count(),
        rule: shared.upstreams.rule_of(attempt.upstream),
        members: upstream.members.len(),
        bytes_in: relay.up.flow.moved_bytes(),
        bytes_out: relay.down.flow.moved_bytes(),
        connect_ms,
        total_ms: now.since_ms(session.opened.tick()),
        upstream: shared.board.key_of(upstream.column),
        backend: shared.backend_key(attempt),
        ..short_gist(shared, facts, address_of(facts.peer), (id.number, why))
    };
    let hello = session.told.as_deref().and_then(Told::hello);
    let traces = Traces {
        head: wanted_name(hello),
        attempt: Some((attempt, session.opened.tick())),
        reason,
        taken: None,
    };
    shared.keep_decision(keep, &gist, &traces);
}

/// Keeps what came of a connection that was refused, or ended, before it was settled what it is.
#[cold]
#[inline(never)]
pub(crate) fn keep_refused<N: Net>(
    shared: &mut Shared<N>,
    facts: Facts,
    opened: Moment,
    hello: Option<&ClientHello>,
    reason: CloseReason,
) {
    let has_left = matches!(
        reason,
        CloseReason::Reset(_) | CloseReason::BadOpening(Refusal::CutShort(_))
    );
    let why = match has_left {
        true => Why::ClientLeftInRequest,
        false => Why::Refused,
    };
    let (now, id) = (shared.timers.now, shared.next_id());
    let Some(keep) = (shared.decisions).ring_for((why, 0), false, 0, now) else {
        return;
    };
    let gist = Gist {
        kind: Kind::Session,
        total_ms: now.since_ms(opened.tick()),
        ..short_gist(shared, facts, address_of(facts.peer), (id.number, why))
    };
    let traces = Traces {
        head: wanted_name(hello),
        attempt: None,
        reason: Some(reason.words()),
        taken: None,
    };
    shared.keep_decision(keep, &gist, &traces);
}

/// As much as is kept of the name that a client asks for.
fn wanted_name(hello: Option<&ClientHello>) -> &[u8] {
    let name = hello.and_then(|hello| hello.server_name.as_deref());
    let name = name.unwrap_or_default().as_bytes();
    &name[..name.len().min(LINE_BYTES)]
}

fn address_of(peer: Option<SocketAddr>) -> Option<IpAddr> {
    peer.map(|peer| peer.ip().to_canonical())
}

/// What every request of this client has.
fn short_gist<N: Net>(
    shared: &Shared<N>,
    facts: Facts,
    client: Option<IpAddr>,
    (number, why): (u64, Why),
) -> Gist {
    let own_port = facts.peer.filter(|_| address_of(facts.peer) == client);
    Gist {
        client,
        client_port: own_port.map(|peer| peer.port()),
        id: shared.decisions.ids.id(number),
        taken_key: 0,
        kind: Kind::Request,
        ended: shared.timers.now,
        status: 0,
        why,
        closed_by: closed_by(why),
        attempts: 0,
        rule: Rule::None,
        members: 0,
        bytes_in: 0,
        bytes_out: 0,
        wait_ms: None,
        queue_ms: None,
        connect_ms: None,
        ttfb_ms: None,
        total_ms: 0,
        parked_ms: 0,
        listener: (shared.board).key_of(shared.listeners[facts.listener].column),
        route: 0,
        upstream: 0,
        backend: 0,
    }
}

impl<N: Net> Shared<N> {
    /// The id of a request that has no exchange, or of a session.
    pub(super) fn next_id(&mut self) -> OwnId {
        let number = self.decisions.ids.next();
        self.decisions.ids.id(number)
    }
}
