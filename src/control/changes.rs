//! What a new configuration changes, as a verdict tells it: how many of each kind, and of whom
//! which keys.

use std::collections::HashMap;
use std::fmt;

use crate::config::model::{Backend, Config, HostPattern, Listener, Mode, Route, Upstream};
use crate::config::said::{self, MODE, Said};
use crate::core::key::bytes_key;
use crate::wire::value::to_bytes;

/// The parts of a configuration, each by a hash of what it is known by and one of what each of its
/// keys says.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    entries: Vec<InventoryEntry>,
    /// Of all entries, in turn.
    said: Vec<u32>,
}

#[derive(Debug)]
struct InventoryEntry {
    kind: PartKind,
    name: u64,
    keys: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum PartKind {
    Process,
    Listener,
    Upstream,
    Route,
    Backend,
    Check,
}
const KINDS: usize = 6;

impl Inventory {
    pub(crate) fn of(config: &Config) -> Self {
        let mut this = Self::default();
        for part in parts(config) {
            let keys = part.keys(config);
            this.entries.push(InventoryEntry {
                kind: part.kind(),
                name: part.name(),
                keys: keys.len(),
            });
            this.said.extend(keys.into_iter().map(|(_, says)| says));
        }
        this
    }

    fn entries(&self) -> impl Iterator<Item = ((PartKind, u64), &[u32])> {
        let mut said = self.said.as_slice();
        self.entries.iter().map(move |entry| {
            let (own, rest) = said.split_at(entry.keys);
            said = rest;
            ((entry.kind, entry.name), own)
        })
    }

    /// What changes when `after` takes the place of this: that of `config`.
    pub(crate) fn changes_to(&self, after: &Self, config: &Config) -> Changes {
        let mut changes = Changes::default();
        let mut left: HashMap<(PartKind, u64), &[u32]> = self.entries().collect();
        for (part, (known, says)) in parts(config).zip(after.entries()) {
            let count = &mut changes.counts[part.kind() as usize];
            match left.remove(&known) {
                None => count.added += 1,
                Some(said) if said != says => {
                    count.changed += 1;
                    changes.tell(part, config, said, says);
                }
                Some(_) => {}
            }
        }
        for (kind, _) in left.into_keys() {
            changes.counts[kind as usize].removed += 1;
        }
        changes
    }
}

/// A part of a configuration.
#[derive(Clone, Copy)]
enum ConfigPart<'a> {
    /// What is said once.
    Process,
    Listener(&'a Listener),
    Upstream(&'a Upstream),
    Route(&'a Listener, &'a Route),
    Backend(&'a Upstream, &'a Backend),
    Check(&'a Upstream),
}

/// All parts, those first of which there are few.
fn parts(config: &Config) -> impl Iterator<Item = ConfigPart<'_>> {
    let (listeners, upstreams) = (&config.listeners, &config.upstreams);
    let routes = listeners.iter().flat_map(|listener| {
        let routes = match &listener.mode {
            Mode::Http(http) => http.routes.as_slice(),
            Mode::Tcp { .. } | Mode::Tls { .. } => &[],
        };
        routes
            .iter()
            .map(move |route| ConfigPart::Route(listener, route))
    });
    let backends = upstreams.iter().flat_map(|upstream| {
        let backends = upstream.backends.iter();
        backends.map(move |backend| ConfigPart::Backend(upstream, backend))
    });
    let checked = upstreams.iter().filter(|it| it.health_check.is_some());
    std::iter::once(ConfigPart::Process)
        .chain(listeners.iter().map(ConfigPart::Listener))
        .chain(upstreams.iter().map(ConfigPart::Upstream))
        .chain(routes)
        .chain(backends)
        .chain(checked.map(ConfigPart::Check))
}

impl ConfigPart<'_> {
    fn kind(self) -> PartKind {
        match self {
            Self::Process => PartKind::Process,
            Self::Listener(_) => PartKind::Listener,
            Self::Upstream(_) => PartKind::Upstream,
            Self::Route(..) => PartKind::Route,
            Self::Backend(..) => PartKind::Backend,
            Self::Check(_) => PartKind::Check,
        }
    }

    /// What it is known by.
    fn name(self) -> u64 {
        let hash = |text: String| bytes_key(text.as_bytes());
        match self {
            Self::Process => 0,
            Self::Listener(listener) => hash(listener.column_name()),
            Self::Upstream(upstream) | Self::Check(upstream) => hash(upstream.column_name()),
            // By its listener and what it is for.
            Self::Route(listener, route) => {
                let listener = listener.column_name();
                let scope = [
                    listener.as_bytes(),
                    &to_bytes(&route.host),
                    &to_bytes(&route.prefix),
                    &to_bytes(&route.methods),
                ];
                bytes_key(&scope.concat())
            }
            Self::Backend(upstream, backend) => {
                hash(upstream.backend_column_name(&backend.identity))
            }
        }
    }

    /// All that it says. One that is of the same kind and mode has the same keys.
    fn keys(self, config: &Config) -> Vec<Said> {
        match self {
            Self::Process => said::process(config),
            Self::Listener(listener) => said::listener(listener, config),
            Self::Upstream(upstream) => said::upstream(upstream, config),
            Self::Route(_, route) => said::route(route, config),
            Self::Backend(_, backend) => said::backend(backend, config),
            Self::Check(upstream) => said::check(upstream, config),
        }
    }

    fn title(self) -> String {
        match self {
            Self::Process => "top level".to_owned(),
            Self::Listener(listener) => format!("listener {}", short(&listener.name)),
            Self::Upstream(it) | Self::Check(it) => format!("upstream {}", short(&it.name)),
            Self::Route(listener, route) => {
                let host = match &route.host {
                    HostPattern::Any => String::new(),
                    HostPattern::Exact(host) => host.clone(),
                    HostPattern::Suffix(suffix) => format!("*{suffix}"),
                };
                let scope = host + &route.prefix;
                let methods = route.methods.iter().map(|method| format!(" {method}"));
                let scope = scope + &methods.collect::<String>();
                format!("route {} {}", short(&listener.name), short(&scope))
            }
            Self::Backend(upstream, backend) => {
                let (upstream, identity) = (short(&upstream.name), short(&backend.identity));
                format!("backend {upstream}/{identity}")
            }
        }
    }
}

fn short(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// How many parts of each kind come, go and change, and what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    counts: [Count; KINDS],
    /// Parts that change, each with the keys that do.
    told: String,
    /// Those that there is no room for.
    untold: usize,
}

/// Longest list of parts with their keys, in bytes.
const TOLD_BYTES_MAX: usize = 1024;

impl Changes {
    /// Notes that a part says other things than before.
    fn tell(&mut self, part: ConfigPart<'_>, config: &Config, said: &[u32], says: &[u32]) {
        // It is a key of its upstream.
        if let ConfigPart::Check(_) = part {
            return;
        }
        if self.told.len() < TOLD_BYTES_MAX {
            let keys = differing(&part.keys(config), said, says);
            let line = format!("; {}: {}", part.title(), keys.join(", "));
            if self.told.len() + line.len() <= TOLD_BYTES_MAX {
                self.told.push_str(&line);
                return;
            }
        }
        self.untold += 1;
    }
}

/// The keys that say other things.
fn differing(keys: &[Said], said: &[u32], says: &[u32]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for ((name, _), (before, after)) in keys.iter().zip(said.iter().zip(says)) {
        if before != after && !names.contains(name) {
            names.push(name);
            if *name == MODE {
                break;
            }
        }
    }
    names
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |kind: PartKind| self.counts[kind as usize];
        count(PartKind::Backend).write("backends", f)?;
        f.write_str("; ")?;
        count(PartKind::Listener).write("listeners", f)?;
        for (name, kind) in [("routes", PartKind::Route), ("checks", PartKind::Check)] {
            if count(kind) != Count::default() {
                f.write_str("; ")?;
                count(kind).write(name, f)?;
            }
        }
        f.write_str(&self.told)?;
        match self.untold {
            0 => Ok(()),
            untold => write!(f, "; {untold} more changed"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    added: usize,
    removed: usize,
    changed: usize,
}

impl Count {
    fn write(self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (added, removed) = (self.added, self.removed);
        // Of all kinds the plural has one letter more.
        let one = kind.strip_suffix('s').filter(|_| added == 1);
        let kind = one.unwrap_or(kind);
        write!(f, "{added} {kind} added, {removed} removed")?;
        match self.changed {
            0 => Ok(()),
            changed => write!(f, ", {changed} changed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(before: &str, after: &str) -> String {
        let config = |text| {
            let compiled = crate::config::compile("f", text, &mut |_| Ok(Vec::new()));
            compiled.expect("it is good").config
        };
        let (before, after) = (config(before), config(after));
        let changes = Inventory::of(&before).changes_to(&Inventory::of(&after), &after);
        changes.to_string()
    }

    const TCP: &str = "listen: \":1\"\nbackends: [a:1, b:1]\n";

    #[test]
    fn without_a_change_nothing_is_counted() {
        let nothing = "0 backends added, 0 removed; 0 listeners added, 0 removed";
        assert_eq!(changes(TCP, TCP), nothing);
    }

    #[test]
    fn backends_and_listeners_come_go_and_change() {
        let other = "listen: \":2\"\nbackends: [a:1, {address: \"b:1\", weight: 2}, c:1]\n";
        assert_eq!(
            changes(TCP, other),
            "1 backend added, 0 removed, 1 changed; 1 listener added, 1 removed; backend \
             default/b:1: weight"
        );
    }

    #[test]
    fn checks_come_go_and_change() {
        let with = |path| format!("{TCP}health_check: {{path: {path}}}\n");
        let same = "0 backends added, 0 removed; 0 listeners added, 0 removed; ";
        let [one, other] = ["/one", "/other"].map(with);
        for (before, after, counted) in [
            (TCP, one.as_str(), "1 check added, 0 removed"),
            (&one, TCP, "0 checks added, 1 removed"),
            (&one, &other, "0 checks added, 0 removed, 1 changed"),
        ] {
            let whose = "; upstream default: health_check";
            assert_eq!(changes(before, after), format!("{same}{counted}{whose}"));
        }
    }

    #[test]
    fn a_route_is_the_same_wherever_its_upstream_stands() {
        let file = |upstreams, first, more| {
            format!(
                "listeners:\n- listen: \":1\"\n  routes:\n  - {{prefix: /a, upstream: {first}}}\n\
                 {more}upstreams: {upstreams}\n"
            )
        };
        let ab = "{a: {backends: [a:1]}, b: {backends: [b:1]}}";
        let ba = "{b: {backends: [b:1]}, a: {backends: [a:1]}}";
        let b = "  - {prefix: /b, upstream: b}\n";
        let before = file(ab, "a", b);
        let same = "0 backends added, 0 removed; 0 listeners added, 0 removed";
        assert_eq!(changes(&before, &file(ba, "a", b)), same);
        assert_eq!(
            changes(&before, &file(ab, "b", b)),
            format!("{same}; 0 routes added, 0 removed, 1 changed; route [::]:1 /a: upstream")
        );
        assert_eq!(
            changes(&before, &file(ab, "a", "")),
            format!("{same}; 0 routes added, 1 removed")
        );
    }

    /// What changes besides counts, when a key is added to a file.
    fn told(before: &str, more: &str) -> String {
        let text = changes(before, &format!("{before}{more}\n"));
        let told = text.split_once("listeners added, 0 removed");
        let (_, told) = told.expect("no listener comes or goes");
        told.trim_start_matches(", 1 changed").to_owned()
    }

    #[test]
    fn whoever_says_something_else_is_named_with_the_keys() {
        let top = "; top level: ";
        let listener = "; listener [::]:1: ";
        let upstream = "; upstream default: ";
        let http = format!("{TCP}mode: http\n");
        for (more, whose, keys) in [
            ("workers: 2", top, "workers"),
            ("supervisor: on", top, "supervisor"),
            ("when_supervisor_dies: stop", top, "when_supervisor_dies"),
            ("timeouts: {drain: 1s, pre_drain: 1s}", top, "timeouts"),
            ("stats_interval: 1s", top, "stats_interval"),
            ("log_level: warn", top, "log_level"),
            ("max_connections: 7", top, "max_connections"),
            ("buffers: {size: 32KiB, memory: 1MiB}", top, "buffers"),
            ("splice: false", top, "splice"),
            ("access_log: on\nuser: weir", top, "access_log, user"),
            (
                "group: weir\nchroot: /x\nsandbox: off",
                top,
                "group, chroot, sandbox",
            ),
            ("name: web", "; listener web: ", "name"),
            ("backlog: 7", listener, "backlog"),
            ("limits: {max_connections: 7}", listener, "limits"),
            (
                "limits: {max_head: 1KiB, max_fields: 10}",
                listener,
                "limits",
            ),
            (
                "limits: {max_body: 1KiB, max_requests: 1}",
                listener,
                "limits",
            ),
            ("timeouts: {header: 1s}", listener, "timeouts"),
            ("trusted_proxies: [10.0.0.0/8]", listener, "trusted_proxies"),
            ("via: off\nforwarded: true", listener, "via, forwarded"),
            (
                "forwarded_fields: {drop: [X-A]}",
                listener,
                "forwarded_fields",
            ),
            ("error_pages: {502: x}", listener, "error_pages"),
            ("algorithm: least_conn", upstream, "algorithm"),
            ("passive: off", upstream, "passive"),
            ("when_all_down: use_all", upstream, "when_all_down"),
            (
                "retries: {tries: 1, budget_percent: 1}",
                upstream,
                "retries",
            ),
            ("retries: {min_per_second: 7}", upstream, "retries"),
            ("sticky: {cookie: c}", upstream, "sticky"),
            (
                "reuse: {idle_timeout: 1s, idle_connections: 1}",
                upstream,
                "reuse",
            ),
            ("abort_on_close: true", upstream, "abort_on_close"),
        ] {
            assert_eq!(told(&http, more), format!("{whose}{keys}"), "{more}");
        }
        let both = "; listener [::]:1: keepalive; upstream default: keepalive";
        assert_eq!(told(&http, "keepalive: on"), both);
    }

    #[test]
    fn another_mode_says_nothing_of_the_keys_of_either() {
        let route = "; 1 route added, 0 removed";
        assert_eq!(
            told(TCP, "mode: http"),
            format!("{route}; listener [::]:1: mode")
        );
        assert_eq!(
            told(TCP, "mode: http\nbacklog: 7\nvia: off"),
            format!("{route}; listener [::]:1: backlog, mode")
        );
    }

    #[test]
    fn the_keys_of_routes_and_upstreams_in_the_full_form_are_named() {
        let file = |upstream: &str, route: &str| {
            format!(
                "listeners:\n- listen: \":1\"\n  routes:\n  - {{host: \"*.x\", prefix: /a, \
                 methods: [GET], {route}}}\n- {{listen: \":2\", upstream: {upstream}}}\n\
                 upstreams: {{a: {{backends: [a:1], timeouts: {{connect: 1s}}}}, b: {{backends: \
                 [b:1]}}}}\n"
            )
        };
        let before = file("a", "upstream: a");
        let whose = "0 routes added, 0 removed, 1 changed; route [::]:1 *.x/a GET: ";
        for (route, keys) in [
            ("upstream: b", "upstream"),
            ("respond: {status: 200}", "respond"),
            ("redirect: {location: /b}", "redirect"),
            (
                "upstream: a, strip_prefix: true, max_body: 1KiB",
                "max_body, strip_prefix",
            ),
            (
                "upstream: a, headers: {request: {remove: [X]}, response: {remove: [X]}}",
                "headers",
            ),
            (
                "upstream: a, abort_on_close: true, timeouts: {connect: 1s}",
                "abort_on_close, timeouts",
            ),
        ] {
            let text = changes(&before, &file("a", route));
            assert!(text.ends_with(&format!("{whose}{keys}")), "{text}");
        }
        let text = changes(&before, &file("b", "upstream: a"));
        assert!(
            text.ends_with(", 1 changed; listener [::]:2: upstream"),
            "{text}"
        );
        let text = changes(&before, &before.replace("connect: 1s", "connect: 2s"));
        assert!(text.ends_with("; upstream a: timeouts"), "{text}");
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let file = |weight: u32| {
            let name = |number: usize| format!("{0}.{0}{number}", "n".repeat(45));
            let backend =
                |number| format!("{{address: \"{}:1\", weight: {weight}}}, ", name(number));
            let backends: String = (0..100).map(backend).collect();
            format!("listen: \":1\"\nbackends: [{backends}]\n")
        };
        let text = changes(&file(1), &file(2));
        let start = "0 backends added, 0 removed, 100 changed; 0 listeners added, 0 removed; \
                     backend default/nnn";
        assert!(text.starts_with(start), "{text}");
        let told = text.matches(": weight").count();
        assert!((5..20).contains(&told), "{text}");
        assert!(
            text.ends_with(&format!(": weight; {} more changed", 100 - told)),
            "{text}"
        );
        assert!(text.len() < TOLD_BYTES_MAX + 200, "{}", text.len());
    }
}
