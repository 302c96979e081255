//! Listeners, from the file to the model.

use super::compile::{Compiler, note_use};
use super::defaults;
use super::forwarded_fields::forwarded_fields;
use super::model::{
    Action, ForwardedFields, Http, Keepalive, Listener, Mode, Route, TimeoutOverrides,
};
use super::node::{Entry, Node};
use super::problem::{Position, Problems};
use super::route;
use super::section::Section;
use super::timeouts::{Given, Place};
use super::values::{self, Read};
use crate::core::http::head::{FIELDS_LIMIT, HEAD_BYTES_LIMIT};

/// The keys of a listener that the short form has at the top level. `timeouts`, `keepalive` and
/// `forwarded_fields` are at the top level of both forms.
pub(super) const SHORT_KEYS: [&str; 10] = [
    "listen",
    "name",
    "mode",
    "routes",
    "limits",
    "backlog",
    "trusted_proxies",
    "via",
    "forwarded",
    "error_pages",
];

/// The keys of a listener that only HTTP has.
const HTTP_KEYS: [&str; 6] = [
    "routes",
    "trusted_proxies",
    "via",
    "forwarded",
    "forwarded_fields",
    "error_pages",
];
/// The keys of `limits` that only HTTP has.
const HTTP_LIMITS: [&str; 4] = ["max_head", "max_fields", "max_body", "max_requests"];

#[derive(Clone, Copy, PartialEq)]
enum Word {
    Tcp,
    Http,
}

/// A listener and the place of its address. The name is empty when none is given, except in the
/// short form, where the listener is alone.
pub(super) fn listener(
    c: &mut Compiler<'_>,
    section: &mut Section<'_>,
    short: bool,
) -> Option<(Listener, Position)> {
    let at = section.peek("listen").map_or(section.at, |e| e.value.at);
    let address = section.require("listen", &mut c.problems, values::listen_address);
    let name = section.read("name", &mut c.problems, values::name);
    let word = mode_word(section, &mut c.problems);
    let is_http = word == Word::Http;
    let mut timeouts = c.timeouts.over(defaults::TIMEOUTS, is_http);
    let mut keepalive = c.keepalive;
    if !short {
        if let Some(node) = section.node("timeouts") {
            let given = Given::read(node, Place::Listener, &mut c.problems);
            for (key, at) in given.http_keys.iter().filter(|_| !is_http) {
                refuse_in_tcp(key, *at, &mut c.problems);
            }
            timeouts = given.over(timeouts, is_http);
        }
        if let Some(node) = section.node("keepalive") {
            keepalive = self::keepalive(node, &mut c.problems);
        }
    }
    let backlog = values::or_word("max", values::integer(1..=i128::from(i32::MAX)));
    let backlog = section.read("backlog", &mut c.problems, backlog).flatten();
    let mut http = blank_http(c.buffer_bytes);
    let connections_max = limits(c, section, &mut http, is_http);
    let upstream = if short {
        None
    } else {
        section.entry("upstream")
    };
    let mode = match word {
        Word::Tcp => tcp(c, section, upstream, short),
        Word::Http => self::http(c, section, upstream, short, http),
    };
    // What is wrong with it was reported; the address can be judged all the same.
    let mode = mode.unwrap_or(Mode::Tcp { upstream: 0 });
    let address = address?;
    let name = name.or_else(|| short.then(|| values::name_from(&address.to_string())));
    let listener = Listener {
        name: name.unwrap_or_default(),
        address,
        backlog: backlog.unwrap_or(defaults::BACKLOG),
        keepalive,
        connections_max,
        timeouts,
        mode,
    };
    Some((listener, at))
}

/// `mode`, or what the other keys say.
fn mode_word(section: &mut Section<'_>, problems: &mut Problems) -> Word {
    let implied = match section.peek("routes") {
        Some(_) => Word::Http,
        None => Word::Tcp,
    };
    let words = [("tcp", Word::Tcp), ("http", Word::Http)];
    let given = section.read("mode", problems, |node| values::choice(node, &words));
    given.unwrap_or(implied)
}

fn refuse_in_tcp(key: &str, at: Position, problems: &mut Problems) {
    problems.error(
        at,
        format!("`{key}` is for HTTP, and this listener is in mode tcp"),
    );
}

fn tcp(
    c: &mut Compiler<'_>,
    section: &mut Section<'_>,
    upstream: Option<&Entry>,
    short: bool,
) -> Option<Mode> {
    for key in HTTP_KEYS {
        if let Some(entry) = section.entry(key) {
            refuse_in_tcp(key, entry.key_at, &mut c.problems);
        }
    }
    let upstream = the_upstream(c, section, upstream, short)?;
    let mode = Mode::Tcp { upstream };
    note_use(&mut c.upstreams, upstream, &mode);
    Some(mode)
}

/// The upstream of a listener without routes.
fn the_upstream(
    c: &mut Compiler<'_>,
    section: &Section<'_>,
    upstream: Option<&Entry>,
    short: bool,
) -> Option<usize> {
    if let Some(entry) = upstream {
        return c.upstream_named(&entry.value);
    }
    let found = c.upstream_fallback();
    if found.is_none() {
        let missing = if short {
            "the file has no `backends`"
        } else {
            "a listener has neither `upstream` nor `routes`"
        };
        c.problems.error(section.at, missing);
    }
    found
}

fn http(
    c: &mut Compiler<'_>,
    section: &mut Section<'_>,
    upstream: Option<&Entry>,
    short: bool,
    mut http: Http,
) -> Option<Mode> {
    http.forwarded_fields.clone_from(&c.forwarded_fields);
    if !short && let Some(node) = section.node("forwarded_fields") {
        http.forwarded_fields = forwarded_fields(node, &mut c.problems);
    }
    read_http(c, section, &mut http);
    let mode = if let Some(routes) = section.entry("routes") {
        if let Some(entry) = upstream {
            let message = "`upstream` and `routes` exclude each other: give a route with prefix / \
                           this upstream";
            c.problems.error(entry.key_at, message);
        }
        http.routes = route::routes(c, &routes.value);
        Mode::Http(Box::new(http))
    } else {
        let upstream = the_upstream(c, section, upstream, short)?;
        http.routes.push(catch_all(upstream));
        Mode::Http(Box::new(http))
    };
    if let Mode::Http(http) = &mode {
        for route in &http.routes {
            if let Action::Proxy(upstream) = route.action {
                note_use(&mut c.upstreams, upstream, &mode);
            }
        }
    }
    Some(mode)
}

fn catch_all(upstream: usize) -> Route {
    Route {
        host: super::model::HostPattern::Any,
        prefix: "/".to_owned(),
        methods: Vec::new(),
        strip_prefix: false,
        request_headers: super::model::HeaderEdits::default(),
        response_headers: super::model::HeaderEdits::default(),
        body_bytes_max: None,
        abort_on_close: None,
        timeouts: TimeoutOverrides::default(),
        action: Action::Proxy(upstream),
    }
}

fn blank_http(buffer_bytes: usize) -> Http {
    Http {
        routes: Vec::new(),
        trusted_proxies: Vec::new(),
        via: Some(defaults::VIA.to_owned()),
        forwarded: false,
        forwarded_fields: ForwardedFields::default(),
        head_bytes_max: defaults::HEAD_BYTES.min(buffer_bytes),
        fields_max: defaults::FIELDS,
        body_bytes_max: None,
        requests_max: None,
        error_pages: Vec::new(),
    }
}

fn read_http(c: &mut Compiler<'_>, section: &mut Section<'_>, http: &mut Http) {
    if let Some(node) = section.node("trusted_proxies") {
        http.trusted_proxies = trusted_proxies(node, &mut c.problems);
    }
    let via = section.read("via", &mut c.problems, |node| {
        match values::switch(node) {
            Some(true) => return Ok(Some(defaults::VIA.to_owned())),
            Some(false) => return Ok(None),
            None => {}
        }
        let must = |_| "a name of letters, digits, `-`, `.` and `_`, or off".to_owned();
        values::token("a name")(node).map(Some).map_err(must)
    });
    if let Some(via) = via {
        http.via = via;
    }
    let forwarded = section.read("forwarded", &mut c.problems, values::boolean);
    http.forwarded = forwarded.unwrap_or(http.forwarded);
    let mut kept = http.forwarded_fields.keep.iter();
    if let Some(entry) = section.peek("forwarded")
        && http.forwarded
        && kept.any(|name| name.eq_ignore_ascii_case("forwarded"))
    {
        let message = "`forwarded` is true, so weir writes Forwarded itself, and \
                       `forwarded_fields` keeps what clients send of it: choose one";
        c.problems.error(entry.key_at, message);
    }
    if let Some(node) = section.node("error_pages") {
        http.error_pages = route::error_pages(c, node);
    }
}

fn trusted_proxies(node: &Node, problems: &mut Problems) -> Vec<super::model::Network> {
    // The empty list is the default, written out.
    if node.value == super::node::Value::List(Vec::new()) {
        return Vec::new();
    }
    let items = super::section::read_value("trusted_proxies", node, problems, values::list);
    let items = items.unwrap_or_default().iter();
    items
        .filter_map(|item| {
            super::section::read_value("trusted_proxies", item, problems, values::network)
        })
        .collect()
}

/// `limits`; gives the limit of connections.
fn limits(
    c: &mut Compiler<'_>,
    section: &mut Section<'_>,
    http: &mut Http,
    is_http: bool,
) -> Option<usize> {
    let node = section.node("limits");
    let problems = &mut c.problems;
    let buffer_bytes = c.buffer_bytes;
    let mut connections_max = None;
    if let Some(mut limits) = node.and_then(|node| Section::open("`limits`", node, problems)) {
        let count = values::integer(1..=defaults::CONNECTIONS_LIMIT);
        let count = values::or_word("unlimited", count);
        connections_max = limits.read("max_connections", problems, count).flatten();
        let head = limits.read("max_head", problems, head_size(buffer_bytes));
        http.head_bytes_max = head.unwrap_or(http.head_bytes_max);
        let most = i128::try_from(FIELDS_LIMIT).unwrap_or(i128::MAX);
        let fields = limits.read("max_fields", problems, values::integer(10..=most));
        http.fields_max = fields.unwrap_or(http.fields_max);
        let body = values::or_word("unlimited", values::size(0..=u64::MAX));
        http.body_bytes_max = limits.read("max_body", problems, body).flatten();
        let count = values::or_word("unlimited", values::integer(1..=i128::from(u32::MAX)));
        http.requests_max = limits.read("max_requests", problems, count).flatten();
        for key in HTTP_LIMITS.into_iter().filter(|_| !is_http) {
            if let Some(entry) = limits.peek(key) {
                refuse_in_tcp(key, entry.key_at, problems);
            }
        }
        limits.close(problems);
    }
    connections_max
}

/// The size of a head, which is read where bodies are.
fn head_size(buffer_bytes: usize) -> impl Fn(&Node) -> Read<usize> {
    let most = HEAD_BYTES_LIMIT.min(buffer_bytes);
    let read = values::size(defaults::HEAD_BYTES_MIN..=most as u64);
    move |node| {
        read(node).map_err(|must| match most < HEAD_BYTES_LIMIT {
            true => format!("{must}, and not above `size` in `buffers`"),
            false => must,
        })
    }
}

/// `keepalive`: off, on, or a mapping.
pub(super) fn keepalive(node: &Node, problems: &mut Problems) -> Option<Keepalive> {
    let mut keepalive = Keepalive {
        idle: defaults::KEEPALIVE_IDLE,
        interval: defaults::KEEPALIVE_INTERVAL,
        probes: defaults::KEEPALIVE_PROBES,
    };
    if values::is_off(node) {
        return None;
    }
    if values::boolean(node) == Ok(true) || values::is_word(node, "on") {
        return Some(keepalive);
    }
    let mut section = Section::open("`keepalive`", node, problems)?;
    let range = || std::time::Duration::from_secs(1)..=defaults::KEEPALIVE_MAX;
    let idle = section.read("idle", problems, values::whole_seconds(range()));
    keepalive.idle = idle.unwrap_or(keepalive.idle);
    let interval = section.read("interval", problems, values::whole_seconds(range()));
    keepalive.interval = interval.unwrap_or(keepalive.interval);
    let probes = values::integer(1..=defaults::KEEPALIVE_PROBES_MAX);
    let probes = section.read("probes", problems, probes);
    keepalive.probes = probes.unwrap_or(keepalive.probes);
    section.close(problems);
    Some(keepalive)
}
