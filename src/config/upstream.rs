//! Upstreams, from the file to the model and back.

use super::answers::{self, error_pages};
use super::backend::{self, backends};
use super::compile::{Compiler, Relayed};
use super::defaults;
use super::health::{HEALTH_CHECK, PASSIVE, health_check, passive};
use super::keepalive::{KEEPALIVE, keepalive};
use super::key::{Home, Key, Needs, Shown, key, later, mapping, or_off, written};
use super::model::{
    Action, AlgorithmSettings, Config, HashKey, IPV6_PREFIX_BITS, Keepalive, Mode, ProxyVersion,
    TimeoutOverrides, Upstream, WhenAllDown,
};
use super::node::{Entry, Node};
use super::problem::{Position, Problems};
use super::section::{OR_SWITCH, Section, read_mapping};
use super::sticky::{self, sticky};
use super::timeouts::Given;
use super::tls::{UPSTREAM_TLS, check_server_name, upstream_tls};
use super::tree::{self, Tree};
use super::values::{self, Read, integer, one_of};
use crate::core::http::syntax::is_token;

/// A route with backends of its own has all of them but `timeouts`, which are its own. The short
/// form has `keepalive`, `timeouts` and `error_pages` for all.
pub(super) static UPSTREAM: &[Key<Upstream>] = &[
    Key::new("algorithm", later, |it, _| {
        Some(tree::one_of(ALGORITHMS)(&AlgorithmWord::of(&it.algorithm)))
    }),
    Key::new("ipv6_prefix", later, |it, _| {
        let AlgorithmSettings::Hash(HashKey::ClientIp { ipv6_prefix_bits }) = &it.algorithm else {
            return None;
        };
        Some(tree::word(ipv6_prefix_bits))
    }),
    Key::new("hash", later, |it, _| {
        let AlgorithmSettings::Hash(key) = &it.algorithm else {
            return None;
        };
        hash_tree(key)
    }),
    Key::new("backends", backends, |it, shown| {
        let trees = it.backends.iter().map(|it| backend::tree(it, shown));
        Some(Tree::List(trees.collect()))
    }),
    Key::new("health_check", health_check, |it, shown| {
        or_off(HEALTH_CHECK, it.health_check.as_ref(), shown)
    }),
    Key::new("passive", passive, |it, shown| {
        mapping(PASSIVE, &it.passive, shown)
    }),
    key! {
        "when_all_down", Upstream.when_all_down,
        one_of(WHEN_ALL_DOWN), tree::one_of(WHEN_ALL_DOWN),
    },
    Key::new("retries", retries, |it, shown| mapping(RETRIES, it, shown)),
    Key::<Upstream>::new(
        "keepalive",
        |it, entry, c| it.keepalive = keepalive(entry, c),
        |it, shown| or_off(KEEPALIVE, it.keepalive.as_ref(), shown),
    )
    .at(NOT_SHORT),
    key! {
        "send_proxy", Upstream.send_proxy,
        one_of(SEND_PROXY), tree::one_of(SEND_PROXY),
    },
    Key::<Upstream>::new(
        "tls",
        |it, entry, c| it.tls = upstream_tls(entry, c),
        |it, shown| or_off(UPSTREAM_TLS, it.tls.as_deref(), shown),
    )
    .at(NOT_SHORT),
    Key::<Upstream>::new(
        "timeouts",
        |it, entry, c| it.timeouts = Given::read(entry, Home::Upstream, c).overrides(),
        |it, shown| Some(Given::of_overrides(it.timeouts).tree(shown)),
    )
    .at(&[Home::Upstream]),
    Key::<Upstream>::new("reuse", reuse, |it, shown| mapping(REUSE, it, shown)).needs(Needs::Http),
    key! {
        "abort_on_close", Upstream.abort_on_close,
        values::boolean, tree::word,
    }
    .needs(Needs::Http),
    Key::<Upstream>::new("sticky", sticky, |it, shown| {
        Some(sticky::tree(it.sticky.as_ref(), shown))
    })
    .needs(Needs::Http),
    Key::<Upstream>::new(
        "error_pages",
        |it, entry, c| it.error_pages = error_pages(&entry.value, c),
        |it, shown| Some(answers::pages_tree(&it.error_pages, shown)),
    )
    .at(NOT_SHORT)
    .needs(Needs::Http),
];

const NOT_SHORT: &[Home] = &[Home::Upstream, Home::RouteWithBackends];

pub(super) static RETRIES: &[Key<Upstream>] = &[
    key! { "tries", Upstream.tries_max, integer(1..=defaults::TRIES_MAX), tree::word },
    key! {
        "budget_percent", Upstream.retry_budget_percent,
        integer(0..=100), tree::word,
    }
    .needs(Needs::Http),
    key! {
        "min_per_second", Upstream.retry_budget_min_per_s,
        integer(0..=1_000_000), tree::word,
    }
    .needs(Needs::Http),
];

pub(super) static REUSE: &[Key<Upstream>] = &[
    key! {
        "idle_connections", Upstream.idle_connections_max,
        integer(0..=defaults::IDLE_CONNECTIONS_MAX), tree::word,
    },
    key! {
        "idle_timeout", Upstream.idle_connection_timeout,
        values::duration(defaults::TIMEOUT_MIN..=defaults::TIMEOUT_MAX), tree::duration,
    },
];

const SEND_PROXY: &[(&str, Option<ProxyVersion>)] = &[
    ("off", None),
    ("v1", Some(ProxyVersion::V1)),
    ("v2", Some(ProxyVersion::V2)),
];

const WHEN_ALL_DOWN: &[(&str, WhenAllDown)] = &[
    ("refuse", WhenAllDown::Refuse),
    ("use_all", WhenAllDown::UseAll),
];

const ALGORITHMS: &[(&str, AlgorithmWord)] = &[
    ("round_robin", AlgorithmWord::RoundRobin),
    ("least_conn", AlgorithmWord::LeastConn),
    ("ip_hash", AlgorithmWord::IpHash),
    ("random_two", AlgorithmWord::RandomTwo),
    ("hash", AlgorithmWord::Hash),
];

/// What `algorithm` says, without the other keys that are part of it.
#[derive(Clone, Copy, PartialEq)]
enum AlgorithmWord {
    RoundRobin,
    LeastConn,
    IpHash,
    RandomTwo,
    Hash,
}

impl AlgorithmWord {
    fn of(algorithm: &AlgorithmSettings) -> Self {
        match algorithm {
            AlgorithmSettings::RoundRobin => Self::RoundRobin,
            AlgorithmSettings::LeastConn => Self::LeastConn,
            AlgorithmSettings::RandomTwo => Self::RandomTwo,
            AlgorithmSettings::Hash(HashKey::ClientIp { .. }) => Self::IpHash,
            AlgorithmSettings::Hash(HashKey::Header(_) | HashKey::Cookie(_) | HashKey::Uri) => {
                Self::Hash
            }
        }
    }
}

fn hash_tree(key: &HashKey) -> Option<Tree> {
    match key {
        HashKey::ClientIp { .. } => None,
        HashKey::Header(name) => Some(tree::text(format!("header {name}"))),
        HashKey::Cookie(name) => Some(tree::text(format!("cookie {name}"))),
        HashKey::Uri => Some(tree::word("uri")),
    }
}

/// All upstreams, by their names.
pub(super) fn trees(config: &Config) -> Tree {
    let tree = |(index, it): (usize, &Upstream)| {
        let shown = Shown {
            http: !is_only_relayed(config, index),
            ..Shown::all_of(config)
        };
        (
            tree::key(&it.name),
            Tree::Map(written(UPSTREAM, it, &shown)),
        )
    };
    Tree::Map(config.upstreams.iter().enumerate().map(tree).collect())
}

/// Whether no listener of mode http uses it, so that keys for HTTP would be errors.
fn is_only_relayed(config: &Config, index: usize) -> bool {
    let mut is_relayed = false;
    for listener in &config.listeners {
        is_relayed |= listener.passed_on().iter().any(|r| r.upstream == index);
        match &listener.mode {
            Mode::Tcp { upstream } => is_relayed |= *upstream == index,
            Mode::Tls { .. } => {}
            Mode::Http(http) => {
                if http.routes.iter().any(|r| r.action == Action::Proxy(index)) {
                    return false;
                }
            }
        }
    }
    is_relayed
}

/// An upstream as compiled, and what is needed to judge its use.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) upstream: Upstream,
    pub(super) at: Position,
    pub(super) http_keys: Vec<HttpKey>,
    /// The first use of it that is not HTTP.
    pub(super) relayed: Option<Relayed>,
    pub(super) by_http: bool,
    /// Whether it is the short form's one upstream.
    pub(super) is_fallback: bool,
}

/// A key that only HTTP has, where it stands, and whether the upstream cannot serve TCP at all
/// with it.
pub(super) type HttpKey = (&'static str, Position, bool);

impl Declared {
    pub(super) fn new(upstream: Upstream, at: Position, http_keys: Vec<HttpKey>) -> Self {
        Self {
            upstream,
            at,
            http_keys,
            relayed: None,
            by_http: false,
            is_fallback: false,
        }
    }
}

/// An upstream with every default and no backend.
pub(super) fn base(keepalive: Option<Keepalive>) -> Upstream {
    Upstream {
        name: String::new(),
        algorithm: AlgorithmSettings::RoundRobin,
        backends: Vec::new(),
        health_check: None,
        passive: defaults::PASSIVE,
        when_all_down: WhenAllDown::Refuse,
        timeouts: TimeoutOverrides::default(),
        tries_max: defaults::TRIES,
        keepalive,
        tls: None,
        send_proxy: None,
        sticky: None,
        idle_connections_max: defaults::IDLE_CONNECTIONS,
        idle_connection_timeout: defaults::IDLE_CONNECTION_TIMEOUT,
        abort_on_close: defaults::ABORT_ON_CLOSE,
        retry_budget_percent: defaults::RETRY_BUDGET_PERCENT,
        retry_budget_min_per_s: defaults::RETRY_BUDGET_MIN_PER_S,
        error_pages: Vec::new(),
    }
}

/// A whole upstream: of the full form, or of a route.
pub(super) fn upstream(c: &mut Compiler<'_>, section: &mut Section<'_>, name: &str) -> Declared {
    let (mut upstream, http_keys) = settings(c, section);
    upstream.name = name.to_owned();
    if section.peek("backends").is_none() {
        let message = format!("the upstream \"{name}\" has no `backends`");
        c.problems.error(section.at, message);
    }
    Declared::new(upstream, section.at, http_keys)
}

/// What an upstream says over what it has without a key of its own.
pub(super) fn settings(
    c: &mut Compiler<'_>,
    section: &mut Section<'_>,
) -> (Upstream, Vec<HttpKey>) {
    let around = std::mem::take(&mut c.http_keys);
    let mut upstream = c.base.clone();
    section.walk(UPSTREAM, &mut upstream, c);
    if section.home != Home::Short {
        check_server_name(section, &upstream, c);
    }
    if let Some(chosen) = algorithm(section, &mut c.problems) {
        if let Some(entry) = section.peek("hash") {
            c.http_keys.push(("hash", entry.key_at, true));
        }
        upstream.algorithm = chosen;
    }
    (upstream, std::mem::replace(&mut c.http_keys, around))
}

/// `algorithm`, with `hash` and `ipv6_prefix` which are part of it. None when none is given.
fn algorithm(section: &mut Section<'_>, problems: &mut Problems) -> Option<AlgorithmSettings> {
    let is_given = section.peek("algorithm").is_some();
    let word = section.read("algorithm", problems, one_of(ALGORITHMS));
    let hash_at = section.peek("hash").map(|entry| entry.key_at);
    let key = section.read("hash", problems, hash_key);
    let bits_at = section.peek("ipv6_prefix").map(|entry| entry.key_at);
    let bits = section.read("ipv6_prefix", problems, integer(1..=128));

    if let Some(at) = bits_at.filter(|_| word != Some(AlgorithmWord::IpHash)) {
        problems.error(at, "`ipv6_prefix` needs `algorithm: ip_hash`");
    }
    if let Some(at) = hash_at.filter(|_| is_given && word.is_some_and(|w| w != AlgorithmWord::Hash))
    {
        problems.error(at, "`hash` needs `algorithm: hash`");
        return None;
    }
    match word {
        Some(AlgorithmWord::RoundRobin) => Some(AlgorithmSettings::RoundRobin),
        Some(AlgorithmWord::LeastConn) => Some(AlgorithmSettings::LeastConn),
        Some(AlgorithmWord::RandomTwo) => Some(AlgorithmSettings::RandomTwo),
        Some(AlgorithmWord::IpHash) => Some(AlgorithmSettings::Hash(HashKey::ClientIp {
            ipv6_prefix_bits: bits.unwrap_or(IPV6_PREFIX_BITS),
        })),
        Some(AlgorithmWord::Hash) if hash_at.is_none() => {
            let at = section.peek("algorithm").map_or(section.at, |e| e.value.at);
            let message = format!("`algorithm: hash` needs `hash`, which is {HASH_KEY_MUST}");
            problems.error(at, message);
            None
        }
        Some(AlgorithmWord::Hash) | None => key.map(AlgorithmSettings::Hash),
    }
}

const HASH_KEY_MUST: &str = "\"header NAME\", \"cookie NAME\" or \"uri\"";

pub(super) fn hash_key(node: &Node) -> Read<HashKey> {
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

fn retries(upstream: &mut Upstream, entry: &Entry, c: &mut Compiler<'_>) {
    if values::is_off(&entry.value) {
        upstream.tries_max = 1;
    } else {
        read_mapping(("`retries`", OR_SWITCH), &entry.value, RETRIES, upstream, c);
    }
}

fn reuse(upstream: &mut Upstream, entry: &Entry, c: &mut Compiler<'_>) {
    if values::is_off(&entry.value) {
        upstream.idle_connections_max = 0;
    } else {
        read_mapping(("`reuse`", OR_SWITCH), &entry.value, REUSE, upstream, c);
    }
}
