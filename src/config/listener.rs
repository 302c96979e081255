//! Listeners, from the file to the model and back.

use super::answers::{self, error_pages};
use super::compile::{Compiler, Relayed};
use super::defaults;
use super::forwarded_fields::{FORWARDED_FIELDS, forwarded_fields};
use super::https::{self, REDIRECT_TO_HTTPS, hsts, redirect_to_https};
use super::keepalive::{KEEPALIVE, keepalive};
use super::key::{Home, Key, Needs, Shown, key, later, mapping, or_off, written};
use super::model::{Action, HostPattern, Http, Listener, Mode, Network, Route};
use super::node::{Entry, Node, Value};
use super::problem::{Position, Problems};
use super::proxy_protocol::{self, PROXY_PROTOCOL, proxy_protocol};
use super::route;
use super::section::{Section, read_value};
use super::timeouts::Given;
use super::tls::{TLS, check_alpn, listener_tls};
use super::tls_route::{self, tls_routes};
use super::tree::{self, Tree};
use super::values::{self, Read, integer, one_of, or_word};
use crate::core::address::Address;
use crate::core::http::head::{FIELDS_LIMIT, HEAD_BYTES_LIMIT};
use crate::core::http::trace::may_carry_id;

/// `timeouts`, `keepalive` and `forwarded_fields` are at the top level of both forms.
pub(super) static LISTENER: &[Key<Listener>] = &[
    key! { "name", Listener.name, values::name, tree::text },
    Key::new("listen", later, |it, _| {
        Some(tree::text(it.address.to_string()))
    }),
    Key::new("mode", later, |it, _| {
        Some(tree::one_of(MODES)(&ModeWord::of(&it.mode)))
    }),
    key! { "backlog", Listener.backlog, backlog, backlog_tree },
    Key::new(
        "tls",
        |it, entry, c| it.tls = listener_tls(entry, c),
        |it, shown| or_off(TLS, it.tls.as_deref(), shown),
    ),
    Key::<Listener>::new(
        "keepalive",
        |it, entry, c| it.keepalive = keepalive(entry, c),
        |it, shown| or_off(KEEPALIVE, it.keepalive.as_ref(), shown),
    )
    .at(&[Home::Listener]),
    Key::<Listener>::new(
        "proxy_protocol",
        |it, entry, c| it.proxy_protocol = proxy_protocol(entry, c),
        |it, shown| or_off(PROXY_PROTOCOL, it.proxy_protocol.as_ref(), shown),
    ),
    Key::<Listener>::new("timeouts", timeouts, |it, shown| {
        Some(Given::from(&it.timeouts).tree(shown))
    })
    .at(&[Home::Listener]),
    Key::new("limits", limits, |it, shown| {
        let mut map = written(LIMITS, it, shown);
        if let Mode::Http(http) = &it.mode {
            map.extend(written(HTTP_LIMITS, http, shown));
        }
        Some(Tree::Map(map))
    }),
];

/// What stands in the place of routes.
pub(super) static WITHOUT_ROUTES: &[Key<Listener>] = &[Key::new("upstream", later, |it, shown| {
    let Mode::Tcp { upstream } = it.mode else {
        return None;
    };
    Some(tree::text(&shown.config.upstreams[upstream].name))
})];

/// The keys of mode tls.
pub(super) static ENCRYPTED: &[Key<Listener>] = &[Key::new("routes", later, |it, shown| {
    let Mode::Tls { routes } = &it.mode else {
        return None;
    };
    Some(tls_route::tree(routes, shown))
})];

/// The keys that only HTTP has.
pub(super) static HTTP: &[Key<Http>] = &[
    Key::new("trusted_proxies", trusted_proxies, |it, _| {
        let networks = it.trusted_proxies.iter().map(tree::network);
        Some(Tree::List(networks.collect()))
    }),
    key! { "via", Http.via, via, tree::text_or("false") },
    key! { "forwarded", Http.forwarded, values::boolean, tree::word },
    key! { "request_id", Http.request_id, request_id, tree::text_or("false") },
    key! { "trace", Http.trace, values::boolean, tree::word },
    Key::<Http>::new(
        "forwarded_fields",
        |it, entry, c| it.forwarded_fields = forwarded_fields(entry, c),
        |it, shown| mapping(FORWARDED_FIELDS, &it.forwarded_fields, shown),
    )
    .at(&[Home::Listener]),
    key! { "monitor_path", Http.monitor_path, monitor_path, tree::text_or("off") },
    Key::new(
        "error_pages",
        |it, entry, c| it.error_pages = error_pages(&entry.value, c),
        |it, shown| Some(answers::pages_tree(&it.error_pages, shown)),
    ),
    Key::new("redirect_to_https", redirect_to_https, |it, shown| {
        let off = || Some(tree::word(false));
        let redirect = it.redirect_to_https.as_ref();
        redirect.map_or_else(off, |it| mapping(REDIRECT_TO_HTTPS, it, shown))
    }),
    key! { "hsts", Http.hsts, hsts, https::hsts_tree },
    Key::new("routes", later, |it, shown| {
        // A listener that only sends to https has none.
        let routes = it.routes.iter().map(|it| route::tree(it, shown));
        (!it.routes.is_empty()).then(|| Tree::List(routes.collect()))
    }),
];

pub(super) static LIMITS: &[Key<Listener>] = &[key! {
    "max_connections", Listener.connections_max,
    or_word("unlimited", integer(1..=defaults::CONNECTIONS_LIMIT)), tree::or_word("unlimited"),
}];

pub(super) static HTTP_LIMITS: &[Key<Http>] = &[
    Key::<Http>::new(
        "max_head",
        |it, entry, c| {
            let size = head_size(&entry.value, c.buffer_bytes);
            c.set(entry, &mut it.head_bytes_max, size);
        },
        |it, _| Some(tree::size(&it.head_bytes_max)),
    )
    .needs(Needs::Http),
    key! {
        "max_fields", Http.fields_max,
        integer(10..=FIELDS_LIMIT as i128), tree::word,
    }
    .needs(Needs::Http),
    key! {
        "max_body", Http.body_bytes_max,
        values::body_size, tree::size_or_unlimited,
    }
    .needs(Needs::Http),
    key! {
        "max_requests", Http.requests_max,
        or_word("unlimited", integer(1..=i128::from(u32::MAX))), tree::or_word("unlimited"),
    }
    .needs(Needs::Http),
];

/// A mode without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ModeWord {
    Tcp,
    Http,
    Tls,
}

const MODES: &[(&str, ModeWord)] = &[
    ("tcp", ModeWord::Tcp),
    ("http", ModeWord::Http),
    ("tls", ModeWord::Tls),
];

impl ModeWord {
    const fn of(mode: &Mode) -> Self {
        match mode {
            Mode::Tcp { .. } => Self::Tcp,
            Mode::Http(_) => Self::Http,
            Mode::Tls { .. } => Self::Tls,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Tls => "tls",
        }
    }
}

fn backlog(node: &Node) -> Read<i32> {
    let length = or_word("max", integer(1..=i128::from(i32::MAX)))(node);
    length.map(|length| length.unwrap_or(defaults::BACKLOG))
}

fn backlog_tree(length: &i32) -> Tree {
    match *length {
        defaults::BACKLOG => tree::word("max"),
        length => tree::word(length),
    }
}

fn timeouts(listener: &mut Listener, entry: &Entry, c: &mut Compiler<'_>) {
    let given = Given::read(entry, Home::Listener, c);
    let is_http = matches!(listener.mode, Mode::Http(_));
    listener.timeouts = given.over(listener.timeouts, is_http);
}

fn limits(listener: &mut Listener, entry: &Entry, c: &mut Compiler<'_>) {
    let Some(mut section) = Section::open("`limits`", &entry.value, &mut c.problems) else {
        return;
    };
    section.walk(LIMITS, listener, c);
    let mut unused = blank_http(c);
    let http = match &mut listener.mode {
        Mode::Http(http) => http,
        Mode::Tcp { .. } | Mode::Tls { .. } => &mut unused,
    };
    section.walk(HTTP_LIMITS, http, c);
    section.close(&mut c.problems);
}

/// The size of a head, which is read where bodies are.
fn head_size(node: &Node, buffer_bytes: usize) -> Read<usize> {
    let most = HEAD_BYTES_LIMIT.min(buffer_bytes);
    let read = values::size(defaults::HEAD_BYTES_MIN..=most as u64);
    read(node).map_err(|must| match most < HEAD_BYTES_LIMIT {
        true => format!("{must}, and not above `size` in `buffers`"),
        false => must,
    })
}

fn trusted_proxies(http: &mut Http, entry: &Entry, c: &mut Compiler<'_>) {
    // The empty list is the default, written out.
    if entry.value.value == Value::List(Vec::new()) {
        return;
    }
    let (key, problems) = (&entry.key, &mut c.problems);
    let items = read_value(key, &entry.value, problems, values::list).unwrap_or_default();
    let read = |item| read_value(key, item, problems, values::network);
    http.trusted_proxies = items.iter().filter_map(read).collect::<Vec<Network>>();
}

fn via(node: &Node) -> Read<Option<String>> {
    match values::switch(node) {
        Some(true) => Ok(Some(defaults::VIA.to_owned())),
        Some(false) => Ok(None),
        None => {
            let must = |_| "a name of letters, digits, `-`, `.` and `_`, or off".to_owned();
            values::token("a name")(node).map(Some).map_err(must)
        }
    }
}

fn request_id(node: &Node) -> Read<Option<String>> {
    let must =
        || "the name of a field that weir has no other use for, such as X-Request-ID, or off";
    if values::switch(node) == Some(false) {
        return Ok(None);
    }
    let name = values::token("a name")(node).map_err(|_| must().to_owned())?;
    let fits = values::switch(node).is_none() && may_carry_id(name.as_bytes());
    fits.then_some(Some(name)).ok_or_else(|| must().to_owned())
}

fn monitor_path(node: &Node) -> Read<Option<String>> {
    if values::is_off(node) {
        return Ok(None);
    }
    let read = route::canonical_path(node).map(Some);
    read.map_err(|must| format!("off or {must}"))
}

pub(super) fn tree(listener: &Listener, shown: &Shown<'_>) -> Tree {
    let http = matches!(listener.mode, Mode::Http(_));
    let shown = &Shown { http, ..*shown };
    let mut map = written(LISTENER, listener, shown);
    match &listener.mode {
        Mode::Tcp { .. } => map.extend(written(WITHOUT_ROUTES, listener, shown)),
        Mode::Http(http) => map.extend(written(HTTP, http, shown)),
        Mode::Tls { .. } => map.extend(written(ENCRYPTED, listener, shown)),
    }
    Tree::Map(map)
}

/// A listener and the place of its address. The name is empty when none is given, except in the
/// short form, where the listener is alone.
pub(super) fn listener(
    c: &mut Compiler<'_>,
    section: &mut Section<'_>,
) -> Option<(Listener, Position)> {
    c.http_keys.clear();
    let at = section.peek("listen").map_or(section.at, |e| e.value.at);
    let address = section.require("listen", &mut c.problems, values::listen_address);
    let mode = mode(section, &mut c.problems);
    let mut listener = blank(c, mode);
    section.walk(LISTENER, &mut listener, c);
    for (key, at, _) in std::mem::take(&mut c.http_keys) {
        if mode != ModeWord::Http {
            refuse_without_http(key, at, mode, &mut c.problems);
        }
    }
    // What is wrong with it was reported; the address can be judged all the same.
    let mode = match listener.mode {
        Mode::Tcp { .. } => tcp(c, section),
        Mode::Http(http) => self::http(c, section, http),
        Mode::Tls { .. } => tls(c, section),
    };
    listener.mode = mode.unwrap_or(Mode::Tcp { upstream: 0 });
    listener.address = address?;
    proxy_protocol::check(section, &listener, &mut c.problems);
    check_alpn(section, &listener, &mut c.problems);
    https::check_hsts(section, &listener, &mut c.problems);
    if section.home == Home::Short && listener.name.is_empty() {
        listener.name = values::name_from(&listener.address.to_string());
    }
    Some((listener, at))
}

/// `mode`, or what the other keys say.
fn mode(section: &mut Section<'_>, problems: &mut Problems) -> ModeWord {
    let implied = match section.peek("routes") {
        Some(_) => ModeWord::Http,
        None if redirects(section) => ModeWord::Http,
        None => ModeWord::Tcp,
    };
    let given = section.read("mode", problems, one_of(MODES));
    given.unwrap_or(implied)
}

/// Whether it sends requests to https, which it needs no routes for.
fn redirects(section: &Section<'_>) -> bool {
    let entry = section.peek("redirect_to_https");
    entry.is_some_and(|entry| values::switch(&entry.value) != Some(false))
}

/// A listener with every default.
fn blank(c: &Compiler<'_>, mode: ModeWord) -> Listener {
    Listener {
        name: String::new(),
        address: Address::Unix(std::path::PathBuf::new()),
        backlog: defaults::BACKLOG,
        keepalive: c.keepalive,
        proxy_protocol: None,
        connections_max: None,
        timeouts: c.timeouts.over(defaults::TIMEOUTS, mode == ModeWord::Http),
        tls: None,
        mode: match mode {
            ModeWord::Tcp => Mode::Tcp { upstream: 0 },
            ModeWord::Http => Mode::Http(Box::new(blank_http(c))),
            ModeWord::Tls => Mode::Tls { routes: Vec::new() },
        },
    }
}

fn refuse_without_http(key: &str, at: Position, mode: ModeWord, problems: &mut Problems) {
    let mode = mode.text();
    let message =
        format!("`{key}` is for HTTP, and this listener is in mode {mode}: it needs `mode: http`");
    problems.error(at, message);
}

/// Refuses the keys of HTTP but those that the mode has as well.
fn refuse_http(section: &mut Section<'_>, mode: ModeWord, problems: &mut Problems) {
    for key in HTTP {
        let is_own = mode == ModeWord::Tls && key.name == "routes";
        if let Some(entry) = section.entry(key.name)
            && !is_own
        {
            refuse_without_http(key.name, entry.key_at, mode, problems);
        }
    }
}

fn tcp(c: &mut Compiler<'_>, section: &mut Section<'_>) -> Option<Mode> {
    refuse_http(section, ModeWord::Tcp, &mut c.problems);
    let upstream = named_upstream(section);
    let upstream = the_upstream(c, section, upstream)?;
    c.upstreams[upstream].relayed.get_or_insert(Relayed::Tcp);
    Some(Mode::Tcp { upstream })
}

fn tls(c: &mut Compiler<'_>, section: &mut Section<'_>) -> Option<Mode> {
    refuse_http(section, ModeWord::Tls, &mut c.problems);
    if let Some(entry) = section.peek("tls").filter(|it| !values::is_off(&it.value)) {
        let message = "`tls` decrypts, and a listener of mode tls does not: leave one of them out";
        c.problems.error(entry.key_at, message);
    }
    let upstream = named_upstream(section);
    if let Some(entry) = upstream {
        let message = "a listener of mode tls has `routes`: give one with this upstream alone";
        c.problems.error(entry.key_at, message);
    }
    let Some(entry) = section.entry("routes") else {
        if upstream.is_none() {
            let message = "a listener of mode tls has no `routes`";
            c.problems.error(section.at, message);
        }
        return None;
    };
    let routes = tls_routes(c, entry, Relayed::Tls);
    Some(Mode::Tls { routes })
}

/// `upstream`, which the short form does not have.
fn named_upstream<'n>(section: &mut Section<'n>) -> Option<&'n Entry> {
    if section.home == Home::Short {
        return None;
    }
    section.entry("upstream")
}

/// The upstream of a listener without routes.
fn the_upstream(
    c: &mut Compiler<'_>,
    section: &Section<'_>,
    upstream: Option<&Entry>,
) -> Option<usize> {
    if let Some(entry) = upstream {
        return c.upstream_named(&entry.value);
    }
    let found = c.upstream_fallback();
    if found.is_none() {
        let missing = if section.home == Home::Short {
            "the file has no `backends`"
        } else {
            "a listener has neither `upstream` nor `routes`"
        };
        c.problems.error(section.at, missing);
    }
    found
}

fn http(c: &mut Compiler<'_>, section: &mut Section<'_>, mut http: Box<Http>) -> Option<Mode> {
    section.walk(HTTP, &mut *http, c);
    check_forwarded(section, &http, &mut c.problems);
    let upstream = named_upstream(section);
    if let Some(routes) = section.entry("routes") {
        if let Some(entry) = upstream {
            let message = "`upstream` and `routes` exclude each other: give a route with prefix / \
                           this upstream";
            c.problems.error(entry.key_at, message);
        }
        http.routes = route::routes(c, &routes.value);
    } else if upstream.is_some() || c.has_fallback() || !redirects(section) {
        let upstream = the_upstream(c, section, upstream)?;
        http.routes.push(catch_all(upstream));
    }
    check_redirect(section, &http, &mut c.problems);
    for route in &http.routes {
        if let Action::Proxy(upstream) = route.action {
            c.upstreams[upstream].by_http = true;
        }
    }
    Some(Mode::Http(http))
}

fn check_redirect(section: &Section<'_>, http: &Http, problems: &mut Problems) {
    let takes_all = |route: &Route| {
        route.host == HostPattern::Any && route.prefix == "/" && route.methods.is_empty()
    };
    if let Some(entry) = section.peek("redirect_to_https")
        && http.redirect_to_https.is_some()
        && http.routes.iter().any(takes_all)
    {
        let message = "`redirect_to_https` is for requests that no route takes, and a route takes \
                       all of them";
        problems.warning(entry.key_at, message);
    }
}

fn check_forwarded(section: &Section<'_>, http: &Http, problems: &mut Problems) {
    let mut kept = http.forwarded_fields.keep.iter();
    if let Some(entry) = section.peek("forwarded")
        && http.forwarded
        && kept.any(|name| name.eq_ignore_ascii_case("forwarded"))
    {
        let message = "`forwarded` is true, so weir writes Forwarded itself, and \
                       `forwarded_fields` keeps what clients send of it: choose one";
        problems.error(entry.key_at, message);
    }
}

fn catch_all(upstream: usize) -> Route {
    Route {
        action: Action::Proxy(upstream),
        ..route::blank()
    }
}

fn blank_http(c: &Compiler<'_>) -> Http {
    Http {
        routes: Vec::new(),
        trusted_proxies: Vec::new(),
        via: Some(defaults::VIA.to_owned()),
        forwarded: false,
        request_id: None,
        trace: false,
        forwarded_fields: c.forwarded_fields.clone(),
        head_bytes_max: defaults::HEAD_BYTES.min(c.buffer_bytes),
        fields_max: defaults::FIELDS,
        body_bytes_max: None,
        requests_max: None,
        monitor_path: None,
        error_pages: Vec::new(),
        redirect_to_https: None,
        hsts: None,
    }
}
