//! `health_check` and `passive` of an upstream.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::compile::Compiler;
use super::defaults;
use super::key::{Key, Needs, key};
use super::model::{HealthCheck, InitialState, Passive, ProbeKind, Upstream};
use super::node::{Entry, Node, Value};
use super::section::{OR_SWITCH, read_mapping, read_value};
use super::tree::{self, Tree};
use super::values::{self, Read, integer, one_of};

/// The times after `interval` follow it.
pub(super) static HEALTH_CHECK: &[Key<HealthCheck>] = &[
    Key::new("interval", interval, |it, _| {
        Some(tree::duration(&it.interval))
    }),
    Key::new(
        "timeout",
        |it, entry, c| {
            let range = Duration::from_millis(1)..=it.interval;
            c.set(entry, &mut it.timeout, bounded(&entry.value, range));
        },
        |it, _| Some(tree::duration(&it.timeout)),
    ),
    key! { "rise", HealthCheck.thresholds.rise, count, tree::word },
    key! { "fall", HealthCheck.thresholds.fall, count, tree::word },
    Key::new(
        "fast_interval",
        |it, entry, c| {
            let range = defaults::CHECK_INTERVAL_MIN..=it.interval;
            c.set(entry, &mut it.fast_interval, bounded(&entry.value, range));
        },
        |it, _| Some(tree::duration(&it.fast_interval)),
    ),
    key! { "down_interval", HealthCheck.down_interval, any_interval, tree::duration },
    key! { "initial", HealthCheck.initial, one_of(STATES), tree::one_of(STATES) },
    Key::new("path", path, |it, _| match &it.kind {
        ProbeKind::Http { path, .. } => Some(tree::text(path)),
        ProbeKind::Tcp => None,
    }),
    Key::new(
        "host",
        |it, entry, c| of_http(it, entry, c, host, |(own, _), host| *own = Some(host)),
        |it, _| match &it.kind {
            ProbeKind::Http { host, .. } => host.as_ref().map(tree::text),
            ProbeKind::Tcp => None,
        },
    ),
    Key::new(
        "statuses",
        |it, entry, c| of_http(it, entry, c, statuses, |(_, own), ranges| *own = ranges),
        |it, _| match &it.kind {
            ProbeKind::Http { statuses, .. } => Some(ranges(statuses)),
            ProbeKind::Tcp => None,
        },
    ),
];

pub(super) static PASSIVE: &[Key<Passive>] = &[
    key! { "failures", Passive.policy.failures, integer(0..=1_000), tree::word },
    Key::new(
        "eject",
        |it, entry, c| {
            c.set(entry, &mut it.policy.eject, any_interval(&entry.value));
            it.policy.eject_max = it.policy.eject_max.max(it.policy.eject);
        },
        |it, _| Some(tree::duration(&it.policy.eject)),
    ),
    Key::new(
        "eject_max",
        |it, entry, c| {
            let from = it.policy.eject..=defaults::CHECK_INTERVAL_MAX;
            let read = values::duration(from)(&entry.value);
            let read = read.map_err(|must| format!("{must}, and not below `eject`"));
            c.set(entry, &mut it.policy.eject_max, read);
        },
        |it, _| Some(tree::duration(&it.policy.eject_max)),
    ),
    key! { "eject_percent_max", Passive.eject_percent_max, integer(0..=100), tree::word },
    key! { "count_5xx", Passive.count_5xx, values::boolean, tree::word }.needs(Needs::Http),
];

const STATES: &[(&str, InitialState)] = &[("up", InitialState::Up), ("down", InitialState::Down)];

pub(super) fn health_check(upstream: &mut Upstream, entry: &Entry, c: &mut Compiler<'_>) {
    let (node, mut check) = (&entry.value, defaults::HEALTH_CHECK);
    let is_on = !values::is_off(node)
        && read_mapping(
            ("`health_check`", OR_SWITCH),
            node,
            HEALTH_CHECK,
            &mut check,
            c,
        );
    upstream.health_check = is_on.then_some(check);
}

pub(super) fn passive(upstream: &mut Upstream, entry: &Entry, c: &mut Compiler<'_>) {
    let mut passive = defaults::PASSIVE;
    if values::is_off(&entry.value) {
        passive.policy.failures = 0;
    } else {
        read_mapping(
            ("`passive`", OR_SWITCH),
            &entry.value,
            PASSIVE,
            &mut passive,
            c,
        );
    }
    upstream.passive = passive;
}

fn any_interval(node: &Node) -> Read<Duration> {
    values::duration(defaults::CHECK_INTERVAL_MIN..=defaults::CHECK_INTERVAL_MAX)(node)
}

fn interval(check: &mut HealthCheck, entry: &Entry, c: &mut Compiler<'_>) {
    c.set(entry, &mut check.interval, any_interval(&entry.value));
    check.timeout = check.timeout.min(check.interval);
    check.fast_interval = check.fast_interval.min(check.interval);
    check.down_interval = check.interval;
}

/// A duration that the interval of the same section bounds.
fn bounded(node: &Node, range: RangeInclusive<Duration>) -> Read<Duration> {
    values::duration(range)(node).map_err(|must| format!("{must}, and not above `interval`"))
}

fn count(node: &Node) -> Read<u32> {
    integer(1..=defaults::CHECK_COUNT_MAX)(node)
}

/// Even a wrong one says that the check is of HTTP.
fn path(check: &mut HealthCheck, entry: &Entry, c: &mut Compiler<'_>) {
    let path = read_value(&entry.key, &entry.value, &mut c.problems, |node| {
        let must = "a path that begins with `/`, of visible ASCII characters";
        let path = values::text(node).map_err(|_| must.to_owned())?;
        let fits = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        fits.then(|| path.to_owned()).ok_or_else(|| must.to_owned())
    });
    check.kind = ProbeKind::Http {
        path: path.unwrap_or_default(),
        host: None,
        statuses: vec![defaults::CHECK_STATUSES],
    };
}

/// What only a check of HTTP has beside its path: the host and the statuses.
type OfHttp<'a> = (&'a mut Option<String>, &'a mut Vec<(u16, u16)>);

fn of_http<T>(
    check: &mut HealthCheck,
    entry: &Entry,
    c: &mut Compiler<'_>,
    read: fn(&Node) -> Read<T>,
    keep: fn(OfHttp<'_>, T),
) {
    let value = read_value(&entry.key, &entry.value, &mut c.problems, read);
    match (&mut check.kind, value) {
        (ProbeKind::Http { host, statuses, .. }, Some(value)) => keep((host, statuses), value),
        (ProbeKind::Http { .. }, None) => {}
        (ProbeKind::Tcp, _) => {
            let message = format!("`{}` needs `path`: it is for HTTP checks", entry.key);
            c.problems.error(entry.key_at, message);
        }
    }
}

fn host(node: &Node) -> Read<String> {
    let must = "a host, such as example.com or example.com:8080";
    let host = values::text(node).map_err(|_| must.to_owned())?;
    is_authority(host)
        .then(|| host.to_owned())
        .ok_or_else(|| must.to_owned())
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

pub(super) fn statuses(node: &Node) -> Read<Vec<(u16, u16)>> {
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

pub(super) fn ranges(statuses: &[(u16, u16)]) -> Tree {
    let range = |(first, last): &(u16, u16)| tree::text(format!("{first}-{last}"));
    Tree::List(statuses.iter().map(range).collect())
}
