//! The resolved configuration as YAML: the full form with every default, which compiles back to
//! the same model.

use std::fmt::Write as _;
use std::time::Duration;

use super::defaults;
use super::model::{
    AccessLog, Action, Algorithm, Backend, Config, ErrorPage, HashKey, HeaderEdits, HealthCheck,
    HostPattern, Http, InitialState, Keepalive, Listener, LogFormat, Mode, ProbeKind, Route,
    Sticky, TimeoutOverrides, Timeouts, Upstream, WhenAllDown,
};
use super::units::{format_duration, format_size};

/// Renders a configuration. Secrets are part of it.
#[must_use]
pub fn render(config: &Config) -> String {
    let mut out = String::new();
    write_map(&top(config), 0, &mut out);
    out
}

/// What is written: a scalar is as it stands in the file.
enum Tree {
    Scalar(String),
    List(Vec<Self>),
    Map(Map),
}

type Map = Vec<(String, Tree)>;

fn top(config: &Config) -> Map {
    let mut map = Vec::new();
    let timeouts = vec![
        entry("drain", duration(config.drain_timeout)),
        entry("pre_drain", duration(config.pre_drain)),
    ];
    map.push(entry("workers", or_word(config.workers, "auto")));
    let supervisor = if config.always_supervised {
        "on"
    } else {
        "auto"
    };
    map.push(entry("supervisor", word(supervisor)));
    let when_dies = if config.stops_with_supervisor {
        "stop"
    } else {
        "serve"
    };
    map.push(entry("when_supervisor_dies", word(when_dies)));
    map.push(entry(
        "log_level",
        word(config.log_level.as_str().to_ascii_lowercase()),
    ));
    map.push(entry(
        "stats_interval",
        config.stats_interval.map_or_else(|| word("0"), duration),
    ));
    map.push(entry("access_log", access_log(config.access_log.as_ref())));
    map.push(entry(
        "max_connections",
        or_word(config.connections_max, "auto"),
    ));
    let buffers = vec![
        entry("size", size(config.buffer_bytes as u64)),
        entry("memory", size(config.buffer_memory_bytes as u64)),
    ];
    map.push(entry("buffers", Tree::Map(buffers)));
    map.push(entry("splice", word(config.splice)));
    let account = |name: &Option<String>| name.as_ref().map_or_else(|| word("auto"), |n| text(n));
    let privileges = &config.privileges;
    map.push(entry("user", account(&privileges.user)));
    map.push(entry("group", account(&privileges.group)));
    let chroot = privileges.chroot.as_ref();
    let chroot = chroot.map_or_else(|| word("off"), |path| text(&path.to_string_lossy()));
    map.push(entry("chroot", chroot));
    map.push(entry(
        "sandbox",
        word(if privileges.sandbox { "on" } else { "off" }),
    ));
    map.push(entry("timeouts", Tree::Map(timeouts)));
    let listeners = config.listeners.iter().map(|l| listener(l, config));
    map.push(entry("listeners", Tree::List(listeners.collect())));
    let upstreams = config
        .upstreams
        .iter()
        .enumerate()
        .map(|(index, upstream)| {
            let http = !is_only_tcp(config, index);
            (
                key(&upstream.name),
                Tree::Map(self::upstream(upstream, http)),
            )
        });
    map.push(entry("upstreams", Tree::Map(upstreams.collect())));
    map
}

/// Whether only listeners of mode tcp use it, so that keys for HTTP would be errors.
fn is_only_tcp(config: &Config, index: usize) -> bool {
    let mut by_tcp = false;
    for listener in &config.listeners {
        match &listener.mode {
            Mode::Tcp { upstream } => by_tcp |= *upstream == index,
            Mode::Http(http) => {
                if http.routes.iter().any(|r| r.action == Action::Proxy(index)) {
                    return false;
                }
            }
        }
    }
    by_tcp
}

fn access_log(log: Option<&AccessLog>) -> Tree {
    let Some(log) = log else {
        return word("off");
    };
    let format = match log.format {
        LogFormat::Common => "common",
        LogFormat::Combined => "combined",
        LogFormat::Json => "json",
    };
    let path = log.path.as_ref();
    let path = path.map_or_else(|| word("stdout"), |path| text(&path.to_string_lossy()));
    Tree::Map(vec![entry("path", path), entry("format", word(format))])
}

fn listener(listener: &Listener, config: &Config) -> Tree {
    let is_http = matches!(listener.mode, Mode::Http(_));
    let mut limits = vec![entry(
        "max_connections",
        or_word(listener.connections_max, "unlimited"),
    )];
    let mut map = vec![
        entry("name", text(&listener.name)),
        entry("listen", text(&listener.address.to_string())),
        entry("mode", word(if is_http { "http" } else { "tcp" })),
        entry(
            "backlog",
            match listener.backlog {
                defaults::BACKLOG => word("max"),
                backlog => word(backlog),
            },
        ),
        entry("keepalive", keepalive(listener.keepalive)),
        entry("timeouts", timeouts(&listener.timeouts, is_http)),
    ];
    match &listener.mode {
        Mode::Tcp { upstream } => {
            map.push(entry("limits", Tree::Map(limits)));
            map.push(entry("upstream", text(&config.upstreams[*upstream].name)));
        }
        Mode::Http(http) => {
            limits.push(entry("max_head", size(http.head_bytes_max as u64)));
            limits.push(entry("max_fields", word(http.fields_max)));
            limits.push(entry("max_body", body_max(http.body_bytes_max)));
            limits.push(entry(
                "max_requests",
                or_word(http.requests_max, "unlimited"),
            ));
            map.push(entry("limits", Tree::Map(limits)));
            self::http(http, config, &mut map);
        }
    }
    Tree::Map(map)
}

fn http(http: &Http, config: &Config, map: &mut Map) {
    let proxies = http.trusted_proxies.iter();
    let proxies = proxies.map(|n| text(&format!("{}/{}", n.address, n.prefix_bits)));
    map.push(entry("trusted_proxies", Tree::List(proxies.collect())));
    map.push(entry(
        "via",
        match &http.via {
            Some(via) => text(via),
            None => word(false),
        },
    ));
    map.push(entry("forwarded", word(http.forwarded)));
    let fields = &http.forwarded_fields;
    let fields = vec![
        entry("drop", texts(&fields.drop)),
        entry("keep", texts(&fields.keep)),
    ];
    map.push(entry("forwarded_fields", Tree::Map(fields)));
    map.push(entry("error_pages", error_pages(&http.error_pages)));
    let routes = http.routes.iter().map(|r| route(r, config));
    map.push(entry("routes", Tree::List(routes.collect())));
}

fn error_pages(pages: &[ErrorPage]) -> Tree {
    let page = |page: &ErrorPage| {
        let map = vec![
            entry("content_type", text(&page.content_type)),
            entry("body", text(&String::from_utf8_lossy(&page.body))),
        ];
        (page.status.to_string(), Tree::Map(map))
    };
    Tree::Map(pages.iter().map(page).collect())
}

fn route(route: &Route, config: &Config) -> Tree {
    let mut map = vec![entry("prefix", text(&route.prefix))];
    match &route.host {
        HostPattern::Any => {}
        HostPattern::Exact(host) => map.push(entry("host", text(host))),
        HostPattern::Suffix(suffix) => map.push(entry("host", text(&format!("*{suffix}")))),
    }
    if !route.methods.is_empty() {
        map.push(entry("methods", texts(&route.methods)));
    }
    let headers: Map = [
        ("request", &route.request_headers),
        ("response", &route.response_headers),
    ]
    .into_iter()
    .filter_map(|(key, edits)| Some(entry(key, header_edits(edits)?)))
    .collect();
    if !headers.is_empty() {
        map.push(entry("headers", Tree::Map(headers)));
    }
    if route.body_bytes_max.is_some() {
        map.push(entry("max_body", body_max(route.body_bytes_max)));
    }
    if let Some(aborts) = route.abort_on_close {
        map.push(entry("abort_on_close", word(aborts)));
    }
    match &route.action {
        Action::Proxy(upstream) => {
            map.push(entry("strip_prefix", word(route.strip_prefix)));
            if route.timeouts != TimeoutOverrides::default() {
                map.push(entry("timeouts", overrides(&route.timeouts)));
            }
            map.push(entry("upstream", text(&config.upstreams[*upstream].name)));
        }
        Action::Respond(response) => {
            let respond = vec![
                entry("status", word(response.status)),
                entry("headers", fields(&response.headers)),
                entry("body", text(&response.body)),
            ];
            map.push(entry("respond", Tree::Map(respond)));
        }
        Action::Redirect { status, location } => {
            let redirect = vec![
                entry("status", word(status)),
                entry("location", text(location)),
            ];
            map.push(entry("redirect", Tree::Map(redirect)));
        }
    }
    Tree::Map(map)
}

fn header_edits(edits: &HeaderEdits) -> Option<Tree> {
    let mut map = Vec::new();
    if !edits.remove.is_empty() {
        map.push(entry("remove", texts(&edits.remove)));
    }
    if !edits.set.is_empty() {
        map.push(entry("set", fields(&edits.set)));
    }
    if !edits.add.is_empty() {
        map.push(entry("add", fields(&edits.add)));
    }
    (!map.is_empty()).then_some(Tree::Map(map))
}

/// Fields by name: a value, or a list where one name has several in a row.
fn fields(fields: &[(String, String)]) -> Tree {
    let groups = fields.chunk_by(|(a, _), (b, _)| a == b);
    let group = |group: &[(String, String)]| {
        let value = match group {
            [(_, value)] => text(value),
            many => Tree::List(many.iter().map(|(_, value)| text(value)).collect()),
        };
        (key(&group[0].0), value)
    };
    Tree::Map(groups.map(group).collect())
}

fn upstream(upstream: &Upstream, http: bool) -> Map {
    let mut map = Vec::new();
    algorithm(&upstream.algorithm, &mut map);
    let backends = upstream.backends.iter().map(backend);
    map.push(entry("backends", Tree::List(backends.collect())));
    map.push(entry(
        "health_check",
        match &upstream.health_check {
            Some(check) => health_check(check),
            None => word("off"),
        },
    ));
    let mut passive = vec![
        entry("failures", word(upstream.passive.failures)),
        entry("eject", duration(upstream.passive.eject)),
        entry("eject_max", duration(upstream.passive.eject_max)),
        entry(
            "eject_percent_max",
            word(upstream.passive.eject_percent_max),
        ),
    ];
    let when_all_down = match upstream.when_all_down {
        WhenAllDown::Refuse => "refuse",
        WhenAllDown::UseAll => "use_all",
    };
    let mut retries = vec![entry("tries", word(upstream.tries_max))];
    if http {
        passive.push(entry("count_5xx", word(upstream.passive.count_5xx)));
        retries.push(entry("budget_percent", word(upstream.retry_budget_percent)));
        retries.push(entry(
            "min_per_second",
            word(upstream.retry_budget_min_per_s),
        ));
    }
    map.push(entry("passive", Tree::Map(passive)));
    map.push(entry("when_all_down", word(when_all_down)));
    map.push(entry("retries", Tree::Map(retries)));
    map.push(entry("keepalive", keepalive(upstream.keepalive)));
    map.push(entry("timeouts", overrides(&upstream.timeouts)));
    if http {
        let reuse = vec![
            entry("idle_connections", word(upstream.idle_connections_max)),
            entry("idle_timeout", duration(upstream.idle_connection_timeout)),
        ];
        map.push(entry("reuse", Tree::Map(reuse)));
        map.push(entry("abort_on_close", word(upstream.abort_on_close)));
        map.push(entry("sticky", sticky(upstream.sticky.as_ref())));
        map.push(entry("error_pages", error_pages(&upstream.error_pages)));
    }
    map
}

fn algorithm(algorithm: &Algorithm, map: &mut Map) {
    let name = match algorithm {
        Algorithm::RoundRobin => "round_robin",
        Algorithm::LeastConn => "least_conn",
        Algorithm::RandomTwo => "random_two",
        Algorithm::Hash(HashKey::ClientIp { .. }) => "ip_hash",
        Algorithm::Hash(HashKey::Header(_) | HashKey::Cookie(_) | HashKey::Uri) => "hash",
    };
    map.push(entry("algorithm", word(name)));
    let Algorithm::Hash(hash_key) = algorithm else {
        return;
    };
    map.push(match hash_key {
        HashKey::ClientIp { ipv6_prefix_bits } => entry("ipv6_prefix", word(ipv6_prefix_bits)),
        HashKey::Header(name) => entry("hash", text(&format!("header {name}"))),
        HashKey::Cookie(name) => entry("hash", text(&format!("cookie {name}"))),
        HashKey::Uri => entry("hash", word("uri")),
    });
}

fn backend(backend: &Backend) -> Tree {
    let max = or_word(backend.connections_max, "unlimited");
    Tree::Map(vec![
        entry("address", text(&backend.address.to_string())),
        entry("id", text(&backend.identity)),
        entry("weight", word(backend.weight)),
        entry("max_connections", max),
    ])
}

fn health_check(check: &HealthCheck) -> Tree {
    let initial = match check.initial {
        InitialState::Up => "up",
        InitialState::Down => "down",
    };
    let mut map = vec![
        entry("interval", duration(check.interval)),
        entry("timeout", duration(check.timeout)),
        entry("rise", word(check.rise)),
        entry("fall", word(check.fall)),
        entry("fast_interval", duration(check.fast_interval)),
        entry("down_interval", duration(check.down_interval)),
        entry("initial", word(initial)),
    ];
    if let ProbeKind::Http {
        path,
        host,
        statuses,
    } = &check.kind
    {
        map.push(entry("path", text(path)));
        map.extend(host.as_ref().map(|host| entry("host", text(host))));
        let range = |(first, last): &(u16, u16)| text(&format!("{first}-{last}"));
        let statuses = statuses.iter().map(range).collect();
        map.push(entry("statuses", Tree::List(statuses)));
    }
    Tree::Map(map)
}

fn sticky(sticky: Option<&Sticky>) -> Tree {
    let cookie = match sticky {
        None => return word("off"),
        Some(Sticky::HashCookie(name)) => {
            return Tree::Map(vec![entry("hash", text(&format!("cookie {name}")))]);
        }
        Some(Sticky::Insert(cookie)) => cookie,
    };
    let mut map = vec![entry("cookie", text(&cookie.name))];
    map.extend(cookie.domain.as_ref().map(|d| entry("domain", text(d))));
    map.extend(cookie.max_age.map(|age| entry("max_age", duration(age))));
    map.push(entry(
        "same_site",
        word(cookie.same_site.to_ascii_lowercase()),
    ));
    map.push(entry("secure", word(cookie.secure)));
    map.push(entry("cache_private", word(cookie.cache_private)));
    map.push(entry("secret", text(&cookie.secret)));
    map.push(entry("wait", duration(cookie.wait)));
    Tree::Map(map)
}

fn keepalive(keepalive: Option<Keepalive>) -> Tree {
    let Some(keepalive) = keepalive else {
        return word("off");
    };
    Tree::Map(vec![
        entry("idle", duration(keepalive.idle)),
        entry("interval", duration(keepalive.interval)),
        entry("probes", word(keepalive.probes)),
    ])
}

fn timeouts(timeouts: &Timeouts, http: bool) -> Tree {
    let mut map = vec![
        entry("connect", duration(timeouts.connect)),
        entry("idle", duration(timeouts.idle)),
        entry("half_closed", duration(timeouts.half_closed)),
    ];
    if http {
        map.extend([
            entry("header", duration(timeouts.header)),
            entry("keep_alive", duration(timeouts.keep_alive)),
            entry("upload", duration(timeouts.upload)),
            entry("response", duration(timeouts.response)),
            entry("response_idle", duration(timeouts.response_idle)),
            entry("send", duration(timeouts.send)),
            entry("tunnel", duration(timeouts.tunnel)),
        ]);
    }
    Tree::Map(map)
}

fn overrides(over: &TimeoutOverrides) -> Tree {
    let all = [
        ("connect", over.connect),
        ("idle", over.idle),
        ("half_closed", over.half_closed),
        ("upload", over.upload),
        ("response", over.response),
        ("response_idle", over.response_idle),
        ("send", over.send),
        ("tunnel", over.tunnel),
    ];
    let given = all.into_iter();
    let given = given.filter_map(|(key, value)| Some(entry(key, duration(value?))));
    Tree::Map(given.collect())
}

fn entry(key: &str, value: Tree) -> (String, Tree) {
    (key.to_owned(), value)
}

/// A scalar that needs no quotes.
fn word(word: impl ToString) -> Tree {
    Tree::Scalar(word.to_string())
}

fn or_word(value: Option<impl ToString>, otherwise: &str) -> Tree {
    value.map_or_else(|| word(otherwise), word)
}

fn duration(duration: Duration) -> Tree {
    word(format_duration(duration))
}

fn size(bytes: u64) -> Tree {
    word(format_size(bytes))
}

fn body_max(bytes: Option<u64>) -> Tree {
    bytes.map_or_else(|| word("unlimited"), size)
}

fn text(text: &str) -> Tree {
    Tree::Scalar(quoted(text))
}

fn texts(items: &[String]) -> Tree {
    Tree::List(items.iter().map(|item| text(item)).collect())
}

/// A key, bare when that is certain to be read as it stands.
fn key(name: &str) -> String {
    let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    if is_plain {
        name.to_owned()
    } else {
        quoted(name)
    }
}

/// A double-quoted scalar. What YAML may not hold or might fold is escaped.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
        }
    }
    out.push('"');
    out
}

fn write_map(map: &Map, indent: usize, out: &mut String) {
    for (index, (key, value)) in map.iter().enumerate() {
        // The first key of a mapping in a list stands behind the dash.
        if index > 0 || indent == 0 || out.ends_with('\n') {
            out.push_str(&" ".repeat(indent));
        }
        out.push_str(key);
        out.push(':');
        write_value(value, indent, out);
    }
}

fn write_value(value: &Tree, indent: usize, out: &mut String) {
    match value {
        Tree::Scalar(scalar) => {
            out.push(' ');
            out.push_str(scalar);
            out.push('\n');
        }
        Tree::List(items) if items.is_empty() => out.push_str(" []\n"),
        Tree::Map(map) if map.is_empty() => out.push_str(" {}\n"),
        Tree::Map(map) => {
            out.push('\n');
            write_map(map, indent + 2, out);
        }
        Tree::List(items) => {
            out.push('\n');
            for item in items {
                out.push_str(&" ".repeat(indent + 2));
                out.push('-');
                write_item(item, indent + 4, out);
            }
        }
    }
}

fn write_item(item: &Tree, indent: usize, out: &mut String) {
    match item {
        Tree::Map(map) if !map.is_empty() => {
            out.push(' ');
            write_map(map, indent, out);
        }
        Tree::Scalar(_) | Tree::List(_) | Tree::Map(_) => write_value(item, indent, out),
    }
}
