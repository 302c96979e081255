//! Upstreams and their backends, from the file to the model.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::compile::Compiler;
use super::defaults;
use super::listener;
use super::model::{
    Algorithm, Backend, HashKey, HealthCheck, IPV6_PREFIX_BITS, InitialState, Keepalive, Passive,
    ProbeKind, Sticky, StickyCookie, TimeoutOverrides, Upstream, WhenAllDown,
};
use super::node::{Node, Value};
use super::problem::{Position, Problems};
use super::route;
use super::section::{Section, read_value};
use super::timeouts::{Given, Place};
use super::values::{self, Read};
use crate::core::http::rewrite::is_token;

/// The keys that an upstream does not share with a listener or the top level.
pub(super) const KEYS: [&str; 11] = [
    "backends",
    "algorithm",
    "hash",
    "ipv6_prefix",
    "health_check",
    "passive",
    "when_all_down",
    "sticky",
    "retries",
    "reuse",
    "abort_on_close",
];

/// An upstream as compiled, and what is needed to judge its use.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) upstream: Upstream,
    pub(super) at: Position,
    pub(super) http_keys: Vec<HttpKey>,
    pub(super) by_tcp: bool,
    pub(super) by_http: bool,
    /// Whether it is the short form's one upstream.
    pub(super) is_fallback: bool,
}

/// A key that only HTTP has, where it stands, and whether the upstream cannot serve TCP at all
/// with it.
pub(super) type HttpKey = (String, Position, bool);

impl Declared {
    pub(super) fn new(upstream: Upstream, at: Position, http_keys: Vec<HttpKey>) -> Self {
        Self {
            upstream,
            at,
            http_keys,
            by_tcp: false,
            by_http: false,
            is_fallback: false,
        }
    }
}

/// An upstream with every default and no backend.
pub(super) fn base(keepalive: Option<Keepalive>) -> Upstream {
    Upstream {
        name: String::new(),
        algorithm: Algorithm::RoundRobin,
        backends: Vec::new(),
        health_check: None,
        passive: defaults::PASSIVE,
        when_all_down: WhenAllDown::Refuse,
        timeouts: TimeoutOverrides::default(),
        tries_max: defaults::TRIES,
        keepalive,
        sticky: None,
        idle_connections_max: defaults::IDLE_CONNECTIONS,
        idle_connection_timeout: defaults::IDLE_CONNECTION_TIMEOUT,
        abort_on_close: defaults::ABORT_ON_CLOSE,
        retry_budget_percent: defaults::RETRY_BUDGET_PERCENT,
        retry_budget_min_per_s: defaults::RETRY_BUDGET_MIN_PER_S,
        error_pages: Vec::new(),
    }
}

/// An upstream of the full form.
pub(super) fn named(c: &mut Compiler<'_>, section: &mut Section<'_>, name: &str) -> Declared {
    let timeouts = section.node("timeouts");
    let mut declared = upstream(c, section, name);
    if let Some(node) = timeouts {
        let given = Given::read(node, Place::Upstream, &mut c.problems);
        let keys = given.http_keys.iter();
        let keys = keys.map(|(key, at)| ((*key).to_owned(), *at, false));
        declared.http_keys.extend(keys);
        declared.upstream.timeouts = given.overrides();
    }
    declared
}

/// A whole upstream, but for its timeouts: of the full form, or of a route, which has these itself.
pub(super) fn upstream(c: &mut Compiler<'_>, section: &mut Section<'_>, name: &str) -> Declared {
    let (mut upstream, mut http_keys) = settings(section, &c.base, &mut c.problems);
    upstream.name = name.to_owned();
    if let Some(node) = section.node("keepalive") {
        upstream.keepalive = listener::keepalive(node, &mut c.problems);
    }
    if let Some(entry) = section.entry("error_pages") {
        http_keys.push(("error_pages".to_owned(), entry.key_at, false));
        upstream.error_pages = route::error_pages(c, &entry.value);
    }
    if let Some(node) = section.node("backends") {
        upstream.backends = backends(node, &mut c.problems);
    } else {
        let message = format!("the upstream \"{name}\" has no `backends`");
        c.problems.error(section.at, message);
    }
    Declared::new(upstream, section.at, http_keys)
}

/// What an upstream says beside its backends and what it shares with other places.
pub(super) fn settings(
    section: &mut Section<'_>,
    base: &Upstream,
    problems: &mut Problems,
) -> (Upstream, Vec<HttpKey>) {
    let mut upstream = base.clone();
    let mut http_keys = Vec::new();
    for key in ["sticky", "reuse", "abort_on_close"] {
        if let Some(entry) = section.peek(key) {
            http_keys.push((key.to_owned(), entry.key_at, false));
        }
    }
    if let Some(chosen) = algorithm(section, problems) {
        if let Some(entry) = section.peek("hash") {
            http_keys.push(("hash".to_owned(), entry.key_at, true));
        }
        upstream.algorithm = chosen;
    }
    if let Some(node) = section.node("health_check") {
        upstream.health_check = health_check(node, problems);
    }
    if let Some(node) = section.node("passive") {
        upstream.passive = passive(node, &mut http_keys, problems);
    }
    let policies = [
        ("refuse", WhenAllDown::Refuse),
        ("use_all", WhenAllDown::UseAll),
    ];
    let policy = section.read("when_all_down", problems, |n| values::choice(n, &policies));
    upstream.when_all_down = policy.unwrap_or(upstream.when_all_down);
    if let Some(node) = section.node("sticky") {
        upstream.sticky = sticky(node, problems);
    }
    if let Some(node) = section.node("retries") {
        retries(node, &mut upstream, &mut http_keys, problems);
    }
    if let Some(node) = section.node("reuse") {
        reuse(node, &mut upstream, problems);
    }
    let aborts = section.read("abort_on_close", problems, values::boolean);
    upstream.abort_on_close = aborts.unwrap_or(upstream.abort_on_close);
    (upstream, http_keys)
}

/// `algorithm`, with `hash` and `ipv6_prefix` which are part of it. None when none is given.
fn algorithm(section: &mut Section<'_>, problems: &mut Problems) -> Option<Algorithm> {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        RoundRobin,
        LeastConn,
        IpHash,
        RandomTwo,
        Hash,
    }
    let words = [
        ("round_robin", Word::RoundRobin),
        ("least_conn", Word::LeastConn),
        ("ip_hash", Word::IpHash),
        ("random_two", Word::RandomTwo),
        ("hash", Word::Hash),
    ];
    let is_given = section.peek("algorithm").is_some();
    let word = section.read("algorithm", problems, |n| values::choice(n, &words));
    let hash_at = section.peek("hash").map(|entry| entry.key_at);
    let key = section.read("hash", problems, hash_key);
    let bits_at = section.peek("ipv6_prefix").map(|entry| entry.key_at);
    let bits = section.read("ipv6_prefix", problems, values::integer(1..=128));

    if let Some(at) = bits_at.filter(|_| word != Some(Word::IpHash)) {
        problems.error(at, "`ipv6_prefix` needs `algorithm: ip_hash`");
    }
    if let Some(at) = hash_at.filter(|_| is_given && word.is_some_and(|w| w != Word::Hash)) {
        problems.error(at, "`hash` needs `algorithm: hash`");
        return None;
    }
    match word {
        Some(Word::RoundRobin) => Some(Algorithm::RoundRobin),
        Some(Word::LeastConn) => Some(Algorithm::LeastConn),
        Some(Word::RandomTwo) => Some(Algorithm::RandomTwo),
        Some(Word::IpHash) => Some(Algorithm::Hash(HashKey::ClientIp {
            ipv6_prefix_bits: bits.unwrap_or(IPV6_PREFIX_BITS),
        })),
        Some(Word::Hash) if hash_at.is_none() => {
            let at = section.peek("algorithm").map_or(section.at, |e| e.value.at);
            let message = format!("`algorithm: hash` needs `hash`, which is {HASH_KEY_MUST}");
            problems.error(at, message);
            None
        }
        Some(Word::Hash) | None => key.map(Algorithm::Hash),
    }
}

const HASH_KEY_MUST: &str = "\"header NAME\", \"cookie NAME\" or \"uri\"";

fn hash_key(node: &Node) -> Read<HashKey> {
    let must = || HASH_KEY_MUST.to_owned();
    let given = values::text(node).map_err(|_| must())?;
    if given == "uri" {
        return Ok(HashKey::Uri);
    }
    let (kind, name) = given.split_once(' ').ok_or_else(must)?;
    if !is_short_token(name) {
        return Err(must());
    }
    match kind {
        "header" => Ok(HashKey::Header(name.to_owned())),
        "cookie" => Ok(HashKey::Cookie(name.to_owned())),
        _ => Err(must()),
    }
}

fn is_short_token(name: &str) -> bool {
    is_token(name.as_bytes()) && name.len() <= defaults::NAME_BYTES_MAX
}

fn health_check(node: &Node, problems: &mut Problems) -> Option<HealthCheck> {
    if values::is_off(node) {
        return None;
    }
    let mut section = Section::open("`health_check`", node, problems)?;
    let range = || defaults::CHECK_INTERVAL_MIN..=defaults::CHECK_INTERVAL_MAX;
    let interval = section.read("interval", problems, values::duration(range()));
    let interval = interval.unwrap_or(defaults::CHECK_INTERVAL);
    let to_interval = |min: Duration| min..=interval;
    let timeout = bounded(
        &mut section,
        "timeout",
        to_interval(Duration::from_millis(1)),
        problems,
    );
    let fast = bounded(
        &mut section,
        "fast_interval",
        to_interval(defaults::CHECK_INTERVAL_MIN),
        problems,
    );
    let down = section.read("down_interval", problems, values::duration(range()));
    let count = || values::integer(1..=defaults::CHECK_COUNT_MAX);
    let rise = section.read("rise", problems, count());
    let fall = section.read("fall", problems, count());
    let states = [("up", InitialState::Up), ("down", InitialState::Down)];
    let initial = section.read("initial", problems, |n| values::choice(n, &states));
    let kind = probe_kind(&mut section, problems);
    section.close(problems);
    Some(HealthCheck {
        interval,
        timeout: timeout.unwrap_or_else(|| defaults::CHECK_TIMEOUT.min(interval)),
        rise: rise.unwrap_or(defaults::CHECK_RISE),
        fall: fall.unwrap_or(defaults::CHECK_FALL),
        fast_interval: fast.unwrap_or_else(|| defaults::CHECK_FAST_INTERVAL.min(interval)),
        down_interval: down.unwrap_or(interval),
        initial: initial.unwrap_or(InitialState::Up),
        kind,
    })
}

/// A duration that the interval of the same section bounds.
fn bounded(
    section: &mut Section<'_>,
    key: &'static str,
    range: RangeInclusive<Duration>,
    problems: &mut Problems,
) -> Option<Duration> {
    section.read(key, problems, |node| {
        values::duration(range)(node).map_err(|must| format!("{must}, and not above `interval`"))
    })
}

fn probe_kind(section: &mut Section<'_>, problems: &mut Problems) -> ProbeKind {
    let path = section.read("path", problems, |node| {
        let must = "a path that begins with `/`, of visible ASCII characters";
        let path = values::text(node).map_err(|_| must.to_owned())?;
        let fits = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        fits.then(|| path.to_owned()).ok_or_else(|| must.to_owned())
    });
    let host = section.read("host", problems, |node| {
        let must = "a host, such as example.com or example.com:8080";
        let host = values::text(node).map_err(|_| must.to_owned())?;
        is_authority(host)
            .then(|| host.to_owned())
            .ok_or_else(|| must.to_owned())
    });
    let statuses = section.read("statuses", problems, statuses);
    if section.peek("path").is_none() {
        for key in ["host", "statuses"] {
            if let Some(entry) = section.peek(key) {
                problems.error(
                    entry.key_at,
                    format!("`{key}` needs `path`: it is for HTTP checks"),
                );
            }
        }
        return ProbeKind::Tcp;
    }
    ProbeKind::Http {
        path: path.unwrap_or_default(),
        host,
        statuses: statuses.unwrap_or_else(|| vec![defaults::CHECK_STATUSES]),
    }
}

/// A host name or IP address, with or without a port.
fn is_authority(text: &str) -> bool {
    let is_host = |host: &str| {
        values::is_host_name(host)
            || host.parse::<std::net::Ipv4Addr>().is_ok()
            || host
                .strip_prefix('[')
                .and_then(|h| h.strip_suffix(']'))
                .is_some_and(|h| h.parse::<std::net::Ipv6Addr>().is_ok())
    };
    is_host(text)
        || text
            .rsplit_once(':')
            .is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|p| p > 0))
}

fn statuses(node: &Node) -> Read<Vec<(u16, u16)>> {
    let must = || {
        "a list of statuses from 100 to 599 and of ranges, such as [200, \"300-399\"]".to_owned()
    };
    let number = |text: &str| text.parse().ok().filter(|s| (100..=599).contains(s));
    let range = |node: &Node| match &node.value {
        Value::Integer(status) => number(&status.to_string()).map(|status| (status, status)),
        Value::Text(text) => {
            let (first, last) = text.split_once('-')?;
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last))
        }
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
    };
    let items = values::list(node).map_err(|_| must())?;
    let read = |node| range(node).ok_or_else(|| format!("{}, not {}", must(), node.describe()));
    items.iter().map(read).collect()
}

fn passive(node: &Node, http_keys: &mut Vec<HttpKey>, problems: &mut Problems) -> Passive {
    let default = defaults::PASSIVE;
    if values::is_off(node) {
        return Passive {
            failures: 0,
            ..default
        };
    }
    let Some(mut section) = Section::open("`passive`", node, problems) else {
        return default;
    };
    if let Some(entry) = section.peek("count_5xx") {
        http_keys.push(("count_5xx".to_owned(), entry.key_at, false));
    }
    let range = || defaults::CHECK_INTERVAL_MIN..=defaults::CHECK_INTERVAL_MAX;
    let failures = section.read("failures", problems, values::integer(0..=1_000));
    let eject = section.read("eject", problems, values::duration(range()));
    let eject = eject.unwrap_or(default.eject);
    let max = section.read("eject_max", problems, |node| {
        let from = eject..=defaults::CHECK_INTERVAL_MAX;
        values::duration(from)(node).map_err(|must| format!("{must}, and not below `eject`"))
    });
    let percent = section.read("eject_percent_max", problems, values::integer(0..=100));
    let count_5xx = section.read("count_5xx", problems, values::boolean);
    section.close(problems);
    Passive {
        failures: failures.unwrap_or(default.failures),
        eject,
        eject_max: max.unwrap_or_else(|| default.eject_max.max(eject)),
        eject_percent_max: percent.unwrap_or(default.eject_percent_max),
        count_5xx: count_5xx.unwrap_or(default.count_5xx),
    }
}

fn sticky(node: &Node, problems: &mut Problems) -> Option<Sticky> {
    if values::is_off(node) {
        return None;
    }
    let mut section = Section::open("`sticky`", node, problems)?;
    if let Some(hash) = section.node("hash") {
        let key = read_value("hash", hash, problems, |node| match hash_key(node) {
            Ok(HashKey::Cookie(name)) => Ok(name),
            Ok(HashKey::ClientIp { .. } | HashKey::Header(_) | HashKey::Uri) | Err(_) => {
                Err("\"cookie NAME\"".to_owned())
            }
        });
        section.close(problems);
        return key.map(Sticky::HashCookie);
    }
    let name = section.require("cookie", problems, values::token("a cookie's name"));
    let domain = section.read("domain", problems, |node| {
        let must = || "a domain, such as example.com".to_owned();
        let domain = values::text(node).map_err(|_| must())?;
        values::is_host_name(domain)
            .then(|| domain.to_owned())
            .ok_or_else(must)
    });
    let max_age_range = Duration::from_secs(1)..=defaults::MAX_AGE_MAX;
    let max_age = section.read("max_age", problems, values::whole_seconds(max_age_range));
    let same_sites = [("lax", "Lax"), ("strict", "Strict"), ("none", "None")];
    let same_site = section.read("same_site", problems, |n| values::choice(n, &same_sites));
    let same_site = same_site.unwrap_or(defaults::SAME_SITE);
    let secure = section
        .read("secure", problems, values::boolean)
        .unwrap_or(false);
    let cache_private = section.read("cache_private", problems, values::boolean);
    let secret = section.read("secret", problems, |node| {
        let must = || format!("text of 1 to {} bytes", defaults::SECRET_BYTES_MAX);
        let secret = values::text(node)?;
        let fits = (1..=defaults::SECRET_BYTES_MAX).contains(&secret.len());
        fits.then(|| secret.to_owned()).ok_or_else(must)
    });
    let wait_range = Duration::ZERO..=defaults::STICKY_WAIT_MAX;
    let wait = section.read("wait", problems, values::duration(wait_range));
    if same_site == "None" && !secure {
        let message =
            "`same_site: none` needs `secure: true`: browsers refuse the cookie otherwise";
        problems.error(
            section.peek("same_site").map_or(section.at, |e| e.key_at),
            message,
        );
    }
    section.close(problems);
    Some(Sticky::Insert(StickyCookie {
        name: name?,
        domain,
        max_age,
        same_site: same_site.to_owned(),
        secure,
        cache_private: cache_private.unwrap_or(false),
        secret: secret.unwrap_or_else(|| defaults::STICKY_SECRET.to_owned()),
        wait: wait.unwrap_or(defaults::STICKY_WAIT),
    }))
}

fn retries(
    node: &Node,
    upstream: &mut Upstream,
    http_keys: &mut Vec<HttpKey>,
    problems: &mut Problems,
) {
    if values::is_off(node) {
        upstream.tries_max = 1;
        return;
    }
    let Some(mut section) = Section::open("`retries`", node, problems) else {
        return;
    };
    for key in ["budget_percent", "min_per_second"] {
        if let Some(entry) = section.peek(key) {
            http_keys.push((key.to_owned(), entry.key_at, false));
        }
    }
    let tries = section.read("tries", problems, values::integer(1..=defaults::TRIES_MAX));
    upstream.tries_max = tries.unwrap_or(upstream.tries_max);
    let percent = section.read("budget_percent", problems, values::integer(0..=100));
    upstream.retry_budget_percent = percent.unwrap_or(upstream.retry_budget_percent);
    let min = section.read("min_per_second", problems, values::integer(0..=1_000_000));
    upstream.retry_budget_min_per_s = min.unwrap_or(upstream.retry_budget_min_per_s);
    section.close(problems);
}

fn reuse(node: &Node, upstream: &mut Upstream, problems: &mut Problems) {
    if values::is_off(node) {
        upstream.idle_connections_max = 0;
        return;
    }
    let Some(mut section) = Section::open("`reuse`", node, problems) else {
        return;
    };
    let connections = values::integer(0..=defaults::IDLE_CONNECTIONS_MAX);
    let max = section.read("idle_connections", problems, connections);
    upstream.idle_connections_max = max.unwrap_or(upstream.idle_connections_max);
    let range = defaults::TIMEOUT_MIN..=defaults::TIMEOUT_MAX;
    let timeout = section.read("idle_timeout", problems, values::duration(range));
    upstream.idle_connection_timeout = timeout.unwrap_or(upstream.idle_connection_timeout);
    section.close(problems);
}

/// `backends`: a list of addresses and mappings.
pub(super) fn backends(node: &Node, problems: &mut Problems) -> Vec<Backend> {
    let Some(items) = read_value("backends", node, problems, values::list) else {
        return Vec::new();
    };
    let read: Vec<(Backend, Position)> = items
        .iter()
        .filter_map(|item| Some((backend(item, problems)?, item.at)))
        .collect();
    let mut identities: HashMap<&str, Position> = HashMap::new();
    let mut addresses = HashMap::new();
    for (backend, at) in &read {
        if let Some(first) = addresses.insert(&backend.address, *at) {
            let message = format!(
                "two backends have the address {}; the other is on line {}; one with more \
                 `weight` does the same",
                backend.address, first.line
            );
            problems.error(*at, message);
        } else if let Some(first) = identities.insert(&backend.identity, *at) {
            let message = format!(
                "two backends have the id \"{}\"; the other is on line {}",
                backend.identity, first.line
            );
            problems.error(*at, message);
        }
    }
    if read.len() == items.len() && read.iter().all(|(backend, _)| backend.weight == 0) {
        problems.warning(
            node.at,
            "every backend has weight 0, so none takes new traffic",
        );
    }
    read.into_iter().map(|(backend, _)| backend).collect()
}

fn backend(node: &Node, problems: &mut Problems) -> Option<Backend> {
    if let Value::Map(_) = node.value {
        return backend_mapping(node, problems);
    }
    let address = read_value("backends", node, problems, |node| {
        values::backend_address(node).map_err(|must| format!("{must}, or a mapping"))
    })?;
    Some(Backend {
        identity: values::name_from(values::text(node).ok()?),
        address,
        weight: defaults::WEIGHT,
        connections_max: None,
    })
}

fn backend_mapping(node: &Node, problems: &mut Problems) -> Option<Backend> {
    let mut section = Section::open("a backend", node, problems)?;
    let written = section.peek("address").map(|entry| &entry.value);
    let address = section.require("address", problems, values::backend_address);
    let weight = section.read(
        "weight",
        problems,
        values::integer(0..=defaults::WEIGHT_MAX),
    );
    let id = section.read("id", problems, values::name);
    let max = values::integer(1..=defaults::CONNECTIONS_LIMIT);
    let max = section.read(
        "max_connections",
        problems,
        values::or_word("unlimited", max),
    );
    section.close(problems);
    Some(Backend {
        identity: match id {
            Some(id) => id,
            None => values::name_from(values::text(written?).ok()?),
        },
        address: address?,
        weight: weight.unwrap_or(defaults::WEIGHT),
        connections_max: max.flatten(),
    })
}
