//! The way of a request from the client's bytes to the head that goes to a backend.

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::board::ListenerCell;
use crate::config::model::{self, AlgorithmSettings, HashKey};
use crate::core::access_log::StickyUse;
use crate::core::account::{NoMemory, Purpose, grow};
use crate::core::backend::BackendId;
use crate::core::balance::client_key;
use crate::core::http::body::Framing;
use crate::core::http::client_cert::CERTIFICATE_BYTES_MAX;
use crate::core::http::exchange::{NO_MEMORY, TOO_LARGE};
use crate::core::http::forwarded::{self, Peer, Scheme};
use crate::core::http::head::{self, Expect, HeadError, HeadLimits, Method, Parsed};
use crate::core::http::known::Known;
use crate::core::http::path::{Canonical, canonical};
use crate::core::http::rewrite::append_field;
use crate::core::http::route::Found;
use crate::core::http::sticky;
use crate::core::http::trace;
use crate::core::http::upstream_request::{ClientCertificate, RequestSource, UpstreamRequest};
use crate::core::key::bytes_key;
use crate::core::readiness::Io;
use crate::core::request_id::{OwnId, RequestId, is_id};
use crate::core::text;
use crate::core::time::Moment;
use crate::net::Net;
use crate::worker::attempt::Attempt;
use crate::worker::http::access_log::{Kept, TlsKept};
use crate::worker::http::active::ActiveExchange;
use crate::worker::http::client::ClientPhase;
use crate::worker::http::parts::{Next, Parts};
use crate::worker::http::received::Request;
use crate::worker::io_space::IoSpace;
use crate::worker::keys::UpstreamSlot;
use crate::worker::listeners::ListenerTable;
use crate::worker::shared::Shared;
use crate::worker::site::{Act, Site};
use crate::worker::turn::{CloseReason, Side, Turn};
use crate::worker::upstreams::UpstreamTable;

/// Why a request is misdirected.
const IN_THE_CLEAR: &str = "connection from before its listener had TLS";

/// Why a client is refused whose certificate no field can tell.
const LONG_CERTIFICATE: &str = "client certificate of more than 16384 bytes";

/// What was found where a head is expected.
enum Looked {
    /// It is incomplete.
    Partial,
    /// It is whole, but there is no memory to keep the request.
    Waits,
    /// It is dealt with.
    Done(Next),
}

/// Whether these are empty lines and nothing else, as some clients send behind a body: no request
/// begins with them (RFC 9112 section 2.2).
fn is_only_empty_lines(bytes: &[u8]) -> bool {
    let (lines, rest) = bytes.as_chunks();
    rest.is_empty() && lines.iter().all(|line| line == b"\r\n")
}

impl<N: Net> Parts<'_, N> {
    /// Looks for the next request head and begins what it asks for.
    pub(super) fn read_request(&mut self, shared: &mut Shared<N>) -> Next {
        let is_ahead =
            matches!(self.http.phase, ClientPhase::Idle(_)) && !self.http.input.is_empty();
        if !is_ahead && !self.client.may_read() {
            return Next::Turn(Turn::Sleep);
        }
        self.client.set_ahead(true);
        if shared.io.buffers.account().is_over() && !self.client.keeps_input() {
            shared.io.is_short = true;
            return Next::Turn(Turn::Sleep);
        }
        // What was sent ahead is looked at before anything is read.
        if is_ahead {
            let input = self.take_input(&mut shared.io);
            // The end may have been found behind it, and counts once it is used up.
            self.client.expect_end();
            let fresh = input.len();
            return self.look_at_kept(shared, input, fresh);
        }
        let mut scratch = std::mem::take(&mut shared.io.scratch);
        let next = self.read_more(shared, &mut scratch);
        shared.io.scratch = scratch;
        next
    }

    fn read_more(&mut self, shared: &mut Shared<N>, scratch: &mut [u8]) -> Next {
        let wanted = self
            .limits(&shared.listeners)
            .head_bytes_max
            .min(scratch.len());
        let room = wanted.min(shared.io.request_room(!self.http.input.is_empty()));
        let room = self.client.readable(room, wanted);
        if room == 0 {
            shared.io.is_short = true;
            return Next::Turn(Turn::Sleep);
        }
        let keepable = shared.io.buffers.account().room(Purpose::Input);
        let room = match keepable < room {
            true => self.takeable(shared, scratch, (room, keepable)),
            false => Some(room),
        };
        let Some(room) = room else {
            shared.io.is_short = true;
            return Next::Turn(Turn::Sleep);
        };
        let net = &mut shared.io.net;
        let count = match self.client.read(net, &mut scratch[..room]) {
            Io::Ready(count) => count,
            Io::Blocked => {
                if self.client.is_secure() {
                    self.note_partial(shared.timers.moment);
                }
                return Next::Turn(Turn::Sleep);
            }
            // Many clients of TLS mark no end between requests: RFC 9112 section 9.8.
            Io::Closed | Io::Failed(ErrorKind::UnexpectedEof) => return self.close_idle(shared),
            Io::Failed(_) => return Next::Turn(Turn::Close(CloseReason::Reset(Side::Client))),
        };
        shared.count(self.facts.listener, ListenerCell::BytesIn, count as u64);
        shared.io.charge_used_layers();
        let fresh = &scratch[..count];
        if self.http.input.is_empty() {
            let found = self.look_at(shared, fresh, count);
            if let Looked::Done(next) = found {
                return next;
            }
            let kept = self.keep_ahead(&mut shared.io, fresh);
            if let (Looked::Waits, ClientPhase::Idle(_)) = (&found, self.http.phase) {
                // Its time to wait for memory begins now.
                self.http.phase = ClientPhase::Idle(shared.timers.now);
            }
            return self.wait(shared, kept, &found);
        }
        let room = shared.io.buffers.account().room(Purpose::Input);
        let mut input = self.take_input(&mut shared.io);
        if grow(&mut input, count, room).is_err() {
            return self.wait(shared, Err(NoMemory), &Looked::Partial);
        }
        input.extend_from_slice(fresh);
        self.look_at_kept(shared, input, count)
    }

    /// How much may be read, up to `room`, where only so many bytes can be kept: all of it if that
    /// can be, or if it ends a head that need not be. Anything else stays with the kernel until
    /// others have given memory back, so that nobody is refused for it. What a layer has cannot be
    /// looked at before.
    #[cold]
    fn takeable(
        &mut self,
        shared: &mut Shared<N>,
        scratch: &mut [u8],
        (room, keepable): (usize, usize),
    ) -> Option<usize> {
        let limits = self.limits(&shared.listeners);
        let before = self.http.input.len();
        let end = limits.head_bytes_max.min(scratch.len());
        if self.client.is_secure() || before >= end {
            return Some(room);
        }
        scratch[..before].copy_from_slice(&self.http.input);
        let Some(count) = self
            .client
            .peek(&mut shared.io.net, &mut scratch[before..end])
        else {
            return Some(room);
        };
        if count <= keepable {
            return Some(count);
        }
        let mut head = shared.http.request_head.take().unwrap_or_default();
        let found = head.parse(&scratch[..before + count], limits);
        shared.http.request_head = Some(head);
        match found {
            // What is behind it has its turn later.
            Ok(Parsed::Complete(head_bytes)) => shared
                .io
                .may_keep_request(before + count)
                .then_some(head_bytes.saturating_sub(before).max(1)),
            Ok(Parsed::Partial) => {
                if let ClientPhase::Idle(_) = self.http.phase {
                    self.http.phase = ClientPhase::Head(shared.timers.moment);
                }
                None
            }
            Err(_) => Some(count),
        }
    }

    /// Half a record is half a head: a client that has sent it is not idle. That it carried nothing
    /// is known when it is whole.
    #[cold]
    fn note_partial(&mut self, now: Moment) {
        match self.http.phase {
            ClientPhase::Idle(_) if self.client.has_partial() || self.client.is_short() => {
                self.http.phase = ClientPhase::Head(now);
            }
            ClientPhase::Head(since)
                if self.http.input.is_empty()
                    && !self.client.has_partial()
                    && !self.client.is_short() =>
            {
                self.http.phase = ClientPhase::Idle(since.tick());
            }
            ClientPhase::Idle(_)
            | ClientPhase::Head(_)
            | ClientPhase::Exchange
            | ClientPhase::Discard(..)
            | ClientPhase::Linger(..) => {}
        }
    }

    /// The same with what is kept, which stays where it is if it is no whole head.
    fn look_at_kept(&mut self, shared: &mut Shared<N>, input: Vec<u8>, fresh: usize) -> Next {
        let found = self.look_at(shared, &input, fresh);
        let account = shared.io.buffers.account_mut();
        if let Looked::Done(next) = found {
            account.note_given();
            return next;
        }
        let kept = account.take(Purpose::Input, input.capacity());
        if kept.is_ok() {
            self.http.input = input;
        }
        self.wait(shared, kept, &found)
    }

    /// What is kept of requests to come, which is not charged to the account any more.
    fn take_input(&mut self, io: &mut IoSpace<N>) -> Vec<u8> {
        let account = io.buffers.account_mut();
        account.lift(Purpose::Input, self.http.input.capacity());
        std::mem::take(&mut self.http.input)
    }

    /// Keeps what comes ahead of its turn.
    pub(super) fn keep_ahead(&mut self, io: &mut IoSpace<N>, bytes: &[u8]) -> Result<(), NoMemory> {
        let account = io.buffers.account_mut();
        account.keep(Purpose::Input, &mut self.http.input, bytes)
    }

    /// Begins what a head asks for, or refuses it, if it is whole and there is memory for it. The
    /// last `fresh` of the bytes are new.
    fn look_at(&mut self, shared: &mut Shared<N>, bytes: &[u8], fresh: usize) -> Looked {
        let limits = self.limits(&shared.listeners);
        if !head::is_worth_parsing(bytes, fresh, limits) {
            return Looked::Partial;
        }
        let mut head = shared.http.request_head.take().unwrap_or_default();
        let found = match head.parse(bytes, limits) {
            Ok(Parsed::Complete(_))
                if !shared.io.may_keep_request(bytes.len()) && !self.client.keeps_input() =>
            {
                Looked::Waits
            }
            Ok(Parsed::Complete(head_bytes)) => {
                let request = Request {
                    head: &head,
                    bytes,
                    head_bytes,
                };
                Looked::Done(self.begin(shared, request))
            }
            Ok(Parsed::Partial) => Looked::Partial,
            Err(error) => Looked::Done(self.refuse_request(shared, error)),
        };
        shared.http.request_head = Some(head);
        found
    }

    /// A head that has to wait, for the rest of it or for memory, was kept or could not be.
    fn wait(&mut self, shared: &mut Shared<N>, kept: Result<(), NoMemory>, found: &Looked) -> Next {
        if kept.is_err() {
            return self.refuse_head(shared, (503, Some(NO_MEMORY)));
        }
        match (found, self.http.phase) {
            (Looked::Waits, ClientPhase::Head(since)) => {
                self.http.phase = ClientPhase::Idle(since.tick());
            }
            (Looked::Partial, phase) if is_only_empty_lines(&self.http.input) => {
                let account = shared.io.buffers.account_mut();
                account.free(Purpose::Input, &mut self.http.input);
                if let ClientPhase::Head(since) = phase {
                    self.http.phase = ClientPhase::Idle(since.tick());
                }
            }
            (Looked::Partial, ClientPhase::Idle(_)) => {
                self.http.phase = ClientPhase::Head(shared.timers.moment)
            }
            _ => {}
        }
        if let Looked::Waits = found {
            shared.io.is_short = true;
            return Next::Turn(Turn::Sleep);
        }
        Next::Step
    }

    fn refuse_request(&mut self, shared: &mut Shared<N>, error: HeadError) -> Next {
        log::debug!(
            "listener {}: bad request of {}: {error}",
            shared.listeners[self.facts.listener].name,
            ClientName(self.facts.peer)
        );
        self.refuse_head(shared, (error.status(), Some(error.reason())))
    }

    /// The site that new requests begin with.
    pub(super) fn site(&self, listeners: &ListenerTable<N>) -> Arc<Site> {
        Arc::clone(self.present_site(listeners))
    }

    fn present_site<'a>(&self, listeners: &'a ListenerTable<N>) -> &'a Arc<Site> {
        let site = listeners[self.facts.listener].site.as_ref();
        site.expect("a listener that takes requests has a site")
    }

    fn limits(&self, listeners: &ListenerTable<N>) -> HeadLimits {
        self.present_site(listeners).limits
    }

    /// A whole head: answers it, or begins an exchange.
    fn begin(&mut self, shared: &mut Shared<N>, request: Request<'_>) -> Next {
        self.http.requests += 1;
        self.http.send = None;
        let site = self.site(&shared.listeners);
        if let Some(path) = &site.monitor_path
            && is_monitor(request, path)
        {
            return self.answer_monitor(shared, &site, request);
        }
        shared.count(self.facts.listener, ListenerCell::Requests, 1);
        if self.client.is_secure()
            && let Some(why) = self.misdirection(&shared.listeners, request)
        {
            return self.answer_error(shared, &site, None, request, (421, Some(why)));
        }
        if self.is_outdated(&shared.listeners) {
            return self.answer_error(shared, &site, None, request, (421, Some(IN_THE_CLEAR)));
        }
        let facts = request.head.facts;
        if facts.method == Method::Trace {
            return self.answer_error(
                shared,
                &site,
                None,
                request,
                (405, Some("TRACE is not served")),
            );
        }
        if facts.expect == Expect::Unknown {
            return self.answer_error(shared, &site, None, request, (417, Some("unknown Expect")));
        }
        if facts.max_forwards == Some(0) {
            return self.answer_options(shared, &site, request);
        }
        let mut space = std::mem::take(&mut shared.http.path);
        let mut completed = std::mem::take(&mut shared.http.completed);
        let target = request.head.path_and_query(request.bytes, &mut completed);
        let next = if target == b"*" {
            let path = Canonical {
                path: b"*",
                query: None,
            };
            self.route(shared, &site, request, path)
        } else {
            match canonical(target, &mut space) {
                Ok(path) => self.route(shared, &site, request, path),
                Err(error) => {
                    let refusal = (400, Some(error.reason()));
                    self.answer_error(shared, &site, None, request, refusal)
                }
            }
        };
        shared.http.path = space;
        shared.http.completed = completed;
        next
    }

    /// The other end of the connection, and whether it is a trusted proxy.
    pub(super) fn peer(&self, site: &Site) -> Peer {
        Peer::new(self.facts.peer.map(|peer| peer.ip()), &site.trusted)
    }

    /// The client's address, through trusted proxies; none over a Unix socket.
    pub(super) fn client_of(&self, site: &Site, request: Request<'_>) -> Option<IpAddr> {
        client_behind(self.peer(site), site, request)
    }

    fn route(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        request: Request<'_>,
        path: Canonical<'_>,
    ) -> Next {
        let routed: &[u8] = if path.path == b"*" { b"/" } else { path.path };
        let method = request.head.method(request.bytes);
        let index = match site.table.find(request.host(), routed, method) {
            Found::Route(index) => index,
            Found::NotFound => {
                return self.answer_error(shared, site, None, request, (404, None));
            }
            Found::MethodNotAllowed => {
                return self.answer_not_allowed(shared, site, request, routed);
            }
        };
        let route = &site.routes[index];
        if let (Some(max), Framing::Length(length)) =
            (route.body_bytes_max, request.head.facts.framing)
            && length > max
        {
            return self.answer_error(shared, site, Some(index), request, (413, Some(TOO_LARGE)));
        }
        match &route.act {
            Act::Proxy(upstream) => self.forward(shared, site, index, *upstream, request, path),
            Act::Respond(response) => {
                self.answer_fixed(shared, site, index, request, path, response)
            }
            Act::Redirect { status, location } => {
                self.answer_redirect(shared, site, index, request, path, (*status, location))
            }
            Act::ToHttps(redirect) => {
                self.answer_to_https(shared, site, index, request, path, *redirect)
            }
        }
    }

    /// Where a request comes from, as far as its peer is believed.
    #[inline(always)]
    pub(super) fn source_of(
        &self,
        listeners: &ListenerTable<N>,
        site: &Site,
        request: Request<'_>,
    ) -> RequestSource {
        let peer = self.peer(site);
        let claims = request
            .head
            .fields
            .values(Known::XForwardedProto, request.bytes);
        let own = match self.client.is_secure() {
            true => Scheme::Https,
            false => Scheme::Http,
        };
        RequestSource {
            peer,
            client: client_behind(peer, site, request),
            scheme: forwarded::scheme(peer, own, claims),
            port: match self.destination() {
                Some(told) => Some(told.port()),
                None => listeners[self.facts.listener].port,
            },
        }
    }

    fn forward(
        &mut self,
        shared: &mut Shared<N>,
        site: &Arc<Site>,
        route: usize,
        upstream: UpstreamSlot,
        request: Request<'_>,
        path: Canonical<'_>,
    ) -> Next {
        let source = self.source_of(&shared.listeners, site, request);
        let RequestSource { peer, client, .. } = source;
        let certificate = self.certificate();
        if certificate
            .shown
            .is_some_and(|der| der.len() > CERTIFICATE_BYTES_MAX)
        {
            let refusal = (431, Some(LONG_CERTIFICATE));
            return self.answer_error(shared, site, Some(route), request, refusal);
        }
        let fields = &request.head.fields;
        let facts = request.head.facts;
        let mut exchange = shared.http.spare_exchange(Arc::clone(site), facts);
        exchange.number = shared.decisions.ids.next();
        exchange.route = route;
        exchange.attempt = Attempt::new(upstream, 0);
        exchange.secure_client = source.scheme == Scheme::Https;
        let full = choose_key(shared, &mut exchange, request, client, path);
        exchange.client = client;
        exchange.taken_id = taken_id(site, peer, request);
        let own = shared.decisions.ids.id(exchange.number);
        let told = (source, certificate);
        let traceparent = write_head(&shared.upstreams, &mut exchange, (request, own), told, path);
        if fields.names_hop_fields() {
            let names = fields.values(Known::Connection, request.bytes);
            exchange.state.drop_trailers(names);
        }
        if site.claims.by_name(peer.is_trusted).is_some() {
            exchange.state.drop_listed_trailers(&site.claims);
        }
        let offers = fields.values(Known::Upgrade, request.bytes);
        exchange.state.on_offers(offers);
        exchange.started = shared.timers.moment;
        exchange.began = self.http.phase.began(shared.timers.moment);
        if let Some(log) = &shared.http.log
            && site.routes[route].is_logged
        {
            let clients = (client, self.facts.peer);
            let mut record = Kept::new(log.form(), request, clients, exchange.began);
            if traceparent.is_some() {
                record.traceparent = traceparent;
            }
            record.tls = self.client.secured().map(TlsKept::of);
            exchange.record = Some(Box::new(record));
        }
        let taken = match exchange.state.on_request(request.rest(), shared.timers.now) {
            Ok(taken) => taken,
            Err(error) => {
                // A bound client's exchange holds a lease already.
                shared.abandon_exchange(exchange);
                let refusal = (400, Some(error.reason()));
                return self.answer_error(shared, site, Some(route), request, refusal);
            }
        };
        let max = site.routes[route].body_bytes_max;
        if max.is_some_and(|max| exchange.state.request_payload_bytes() > max) {
            shared.abandon_exchange(exchange);
            return self.answer_error(shared, site, Some(route), request, (413, Some(TOO_LARGE)));
        }
        let ahead = &request.rest()[taken..];
        let gives_back = self.client.keeps_input();
        let charged = shared.io.charge_request(&mut exchange, gives_back);
        if charged
            .and_then(|()| self.keep_ahead(&mut shared.io, ahead))
            .is_err()
        {
            shared.abandon_exchange(exchange);
            return self.answer_error(shared, site, Some(route), request, (503, Some(NO_MEMORY)));
        }
        if full.is_some_and(|backend| shared.upstreams.join_queue(self.id, upstream, backend)) {
            exchange.state.on_queued(shared.timers.now);
        }
        self.http.phase = ClientPhase::Exchange;
        self.client.set_ahead(false);
        self.http.exchange = Some(exchange);
        Next::Step
    }
}

/// A client in a log line.
struct ClientName(Option<SocketAddr>);

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(peer) => peer.fmt(f),
            None => f.write_str("a Unix socket"),
        }
    }
}

/// Whether a request asks at that path how weir is.
#[cold]
fn is_monitor(request: Request<'_>, path: &str) -> bool {
    let Request { head, bytes, .. } = request;
    let (mut completed, mut space) = (Vec::new(), Vec::new());
    let target = head.path_and_query(bytes, &mut completed);
    let is_path = canonical(target, &mut space).is_ok_and(|it| it.path == path.as_bytes());
    is_path && matches!(head.facts.method, Method::Get | Method::Head)
}

/// The address of the client that is behind this peer.
fn client_behind(peer: Peer, site: &Site, request: Request<'_>) -> Option<IpAddr> {
    let fields = &request.head.fields;
    let chain = fields.values(Known::XForwardedFor, request.bytes);
    forwarded::client_address(peer, &site.trusted, chain)
}

/// Decides what the upstream's algorithm hashes, and whether the client is bound to a backend:
/// it then has its lease, or is to wait for the backend that is returned, which is full.
fn choose_key<N: Net>(
    shared: &mut Shared<N>,
    exchange: &mut ActiveExchange,
    request: Request<'_>,
    client: Option<IpAddr>,
    path: Canonical<'_>,
) -> Option<BackendId> {
    let upstream = &shared.upstreams[exchange.attempt.upstream];
    let fields = &request.head.fields;
    let cookies = || fields.values(Known::Cookie, request.bytes);
    let by_address = || client.map_or(0, |client| client_key(client, upstream.ipv6_prefix_bits()));
    let or_address = |value: Option<&[u8]>| value.map_or_else(by_address, bytes_key);
    exchange.attempt.hash_key = match &upstream.settings.algorithm {
        AlgorithmSettings::Hash(HashKey::ClientIp { .. }) => by_address(),
        AlgorithmSettings::Hash(HashKey::Header(name)) => {
            or_address(fields.find(name.as_bytes(), request.bytes))
        }
        AlgorithmSettings::Hash(HashKey::Cookie(name)) => {
            or_address(sticky::cookie_value(cookies(), name))
        }
        AlgorithmSettings::Hash(HashKey::Uri) => {
            bytes_key(path.path) ^ path.query.map_or(0, bytes_key)
        }
        AlgorithmSettings::RoundRobin
        | AlgorithmSettings::LeastConn
        | AlgorithmSettings::RandomTwo => 0,
    };
    match &upstream.settings.sticky {
        Some(model::Sticky::HashCookie(name)) => {
            if let Some(value) = sticky::cookie_value(cookies(), name) {
                exchange.attempt.hash_key = bytes_key(value);
                exchange.attempt.is_bound_by_hash = true;
            }
        }
        Some(model::Sticky::Insert(cookie)) => {
            let bound = upstream.sticky.as_ref().and_then(|sticky| {
                let member = sticky.tags.find(cookies(), &cookie.name)?;
                upstream.members.get(member).copied()
            });
            let Some(id) = bound else {
                exchange.sticky = Some(StickyUse::New);
                return None;
            };
            if shared
                .upstreams
                .takes_bound(&shared.board, &shared.timers, id)
                && let Some(lease) = shared.upstreams.take_lease(&mut shared.board, id, false)
            {
                exchange.attempt.lease = Some(lease);
                exchange.sticky = Some(StickyUse::Hit);
                return None;
            }
            // Unless it gets its turn there.
            exchange.sticky = Some(StickyUse::Moved);
            return shared
                .upstreams
                .backends
                .get(id)
                .is_bindable()
                .then_some(id);
        }
        None => {}
    }
    None
}

/// The id that a request came with, where that is believed.
pub(super) fn taken_id(site: &Site, peer: Peer, request: Request<'_>) -> Option<Box<[u8]>> {
    let name = site.request_id.as_ref().filter(|_| peer.is_trusted)?;
    let id = trace::only(&request.head.fields, name.as_bytes(), request.bytes)?;
    is_id(id).then(|| id.into())
}

/// What a backend is told of the id and the trace of a request.
#[derive(Default)]
struct Marks {
    lines: Vec<u8>,
    /// The `traceparent` that was made.
    made: Option<Vec<u8>>,
}

impl Marks {
    #[cold]
    fn of(exchange: &ActiveExchange, own: OwnId, makes_trace: bool) -> Self {
        let mut marks = Self::default();
        let (site, route) = (&exchange.site, exchange.route);
        if let Some(name) = &site.request_id
            && site.routes[route].tells_id
        {
            let id = match &exchange.taken_id {
                Some(taken) => RequestId::Taken(taken),
                None => RequestId::Own(own),
            };
            text::push(&mut marks.lines, format_args!("{name}: {id}\r\n"));
        }
        if makes_trace {
            let made = trace::made_traceparent(own);
            append_field(&mut marks.lines, trace::TRACEPARENT.as_bytes(), &made);
            marks.made = Some(made);
        }
        marks
    }
}

/// Writes the head for the backend into the exchange; the `traceparent` that was made for it.
fn write_head(
    upstreams: &UpstreamTable,
    exchange: &mut ActiveExchange,
    (request, own): (Request<'_>, OwnId),
    (source, certificate): (RequestSource, ClientCertificate<'_>),
    path: Canonical<'_>,
) -> Option<Vec<u8>> {
    let has_trace = || trace::traceparent(&request.head.fields, request.bytes).is_some();
    let marked = &exchange.site.routes[exchange.route];
    let is_traced = marked.may_trace() && !has_trace();
    let marks = match is_traced || marked.tells_id {
        true => Marks::of(exchange, own, is_traced),
        false => Marks::default(),
    };
    let ActiveExchange { site, state, .. } = exchange;
    let route = &site.routes[exchange.route];
    let upstream = &upstreams[exchange.attempt.upstream];
    let target = Canonical {
        path: match route.strip_prefix && path.path != b"*" {
            true => site.table.strip(exchange.route, path.path),
            false => path.path,
        },
        query: path.query,
    };
    let own_cookie = match &upstream.settings.sticky {
        Some(model::Sticky::Insert(cookie)) => Some(cookie.name.as_str()),
        Some(model::Sticky::HashCookie(_)) | None => None,
    };
    let upstream_request = UpstreamRequest {
        head: request.head,
        bytes: request.bytes,
        source,
        certificate,
        target,
        host_default: upstream.name.as_bytes(),
        claims: &site.claims,
        edits: route.request_edits(is_traced),
        via: site.via.as_deref(),
        forwarded: site.forwarded,
        own_cookie,
        close: upstream.settings.idle_connections_max == 0,
        more: &marks.lines,
    };
    upstream_request.write(state.head_space());
    marks.made
}
