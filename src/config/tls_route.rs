//! Routes of connections that stay encrypted, from the file to the model and back.

use super::compile::{Compiler, Relayed};
use super::key::{Key, Shown, key, later, written};
use super::model::{HostPattern, TlsRoute};
use super::node::{Entry, Node};
use super::problem::{Position, Problems};
use super::route::host_tree;
use super::section::{Section, read_value};
use super::tree::{self, Tree};
use super::values::{self, Read};

pub(super) static TLS_ROUTE: &[Key<TlsRoute>] = &[
    key! { "host", TlsRoute.host, server_name, host_tree },
    key! {
        "alpn", TlsRoute.alpn,
        |node| protocol(node).map(Some), |it: &Option<String>| it.as_ref().map(tree::text),
    },
    Key::new("upstream", later, |it, shown| {
        Some(tree::text(&shown.config.upstreams[it.upstream].name))
    }),
];

/// Longest name of a protocol (RFC 7301 section 3.1), in bytes.
const PROTOCOL_BYTES_MAX: usize = 255;

/// A host that a client can ask for: no address (RFC 6066 section 3).
fn server_name(node: &Node) -> Read<HostPattern> {
    let is_name = |host: &HostPattern| match host {
        HostPattern::Exact(name) => values::is_host_name(name),
        HostPattern::Suffix(_) | HostPattern::Any => true,
    };
    let host = values::host_pattern(node)?;
    let must = "a host name, as TLS has no names for addresses";
    is_name(&host)
        .then_some(host)
        .ok_or_else(|| must.to_owned())
}

pub(super) fn protocol(node: &Node) -> Read<String> {
    let must = || "the name of a protocol, such as h2 or acme-tls/1".to_owned();
    let name = values::text(node).map_err(|_| must())?;
    let fits = (1..=PROTOCOL_BYTES_MAX).contains(&name.len());
    let fits = fits && name.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| name.to_owned()).ok_or_else(must)
}

pub(super) fn tree(routes: &[TlsRoute], shown: &Shown<'_>) -> Tree {
    let routes = routes.iter();
    let routes = routes.map(|it| Tree::Map(written(TLS_ROUTE, it, shown)));
    Tree::List(routes.collect())
}

/// The value of a key that has such routes; their upstreams are used in that way.
pub(super) fn tls_routes(c: &mut Compiler<'_>, entry: &Entry, used: Relayed) -> Vec<TlsRoute> {
    let items = read_value(&entry.key, &entry.value, &mut c.problems, values::list);
    let items = items.unwrap_or_default().iter();
    let routes: Vec<(TlsRoute, Position)> = items
        .filter_map(|item| Some((tls_route(c, item, used)?, item.at)))
        .collect();
    check_distinct(&routes, &mut c.problems);
    routes.into_iter().map(|(route, _)| route).collect()
}

fn tls_route(c: &mut Compiler<'_>, node: &Node, used: Relayed) -> Option<TlsRoute> {
    let mut section = Section::open("a TLS route", node, &mut c.problems)?;
    let mut route = TlsRoute {
        host: HostPattern::Any,
        alpn: None,
        upstream: 0,
    };
    section.walk(TLS_ROUTE, &mut route, c);
    let upstream = match section.entry("upstream") {
        Some(entry) => c.upstream_named(&entry.value),
        None => by_default(c, &section),
    };
    let is_wrong = |key, is_wrong: fn(&Node) -> bool| {
        let entry = section.peek(key);
        entry.is_some_and(|entry| is_wrong(&entry.value))
    };
    let is_wrong = is_wrong("host", |it| server_name(it).is_err())
        || is_wrong("alpn", |it| protocol(it).is_err());
    section.close(&mut c.problems);
    route.upstream = upstream?;
    c.upstreams[route.upstream].relayed.get_or_insert(used);
    // It would seem to take what other routes take.
    (!is_wrong).then_some(route)
}

fn by_default(c: &mut Compiler<'_>, section: &Section<'_>) -> Option<usize> {
    let fallback = c.upstream_fallback();
    if fallback.is_none() {
        let message = "a TLS route has no `upstream`, and there are no top-level \
                       `backends`";
        c.problems.error(section.at, message);
    }
    fallback
}

/// No two routes may want the same connections.
fn check_distinct(routes: &[(TlsRoute, Position)], problems: &mut Problems) {
    let mut seen = std::collections::HashMap::new();
    for (route, at) in routes {
        let host = host_tree(&route.host).map(|it| it.behind_key());
        if let Some(first) = seen.insert((host, &route.alpn), at.line) {
            let message = format!(
                "two routes take the same connections (same host and protocol); the other is on \
                 line {first}"
            );
            problems.error(*at, message);
        }
    }
}
