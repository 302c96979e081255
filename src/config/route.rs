//! Routes, from the file to the model and back.

use super::answers::{REDIRECT, RESPOND, Redirect, redirect, respond};
use super::compile::Compiler;
use super::fields::{edits_tree, headers};
use super::key::{Home, Key, Needs, Shown, key, later, mapping, unwritten, written};
use super::model::{Action, HeaderEdits, HostPattern, Route, TimeoutOverrides};
use super::node::{Entry, Node, describe_text};
use super::problem::{Position, Problems};
use super::section::{Section, read_value};
use super::timeouts::Given;
use super::tree::{self, Tree};
use super::upstream::{self, UPSTREAM};
use super::values::{self, Read};
use crate::core::http::path::canonical;
use crate::core::http::syntax::is_token;
use crate::core::sort::sorted;

/// Beside `backends` a route has the keys of an upstream as well, and `abort_on_close` is theirs.
pub(super) static ROUTE: &[Key<Route>] = &[
    Key::new("prefix", prefix, |it, _| Some(tree::text(&it.prefix))),
    key! { "host", Route.host, values::host_pattern, host_tree },
    Key::new(
        "methods",
        |it, entry, c| it.methods = methods(&entry.value, &mut c.problems),
        |it, _| (!it.methods.is_empty()).then(|| tree::texts(&it.methods)),
    ),
    Key::new("headers", headers, edits_tree),
    Key::new(
        "access_log",
        |it, entry, c| c.set(entry, &mut it.access_log, values::boolean(&entry.value)),
        |it, _| (!it.access_log).then(|| tree::word(false)),
    ),
    key! {
        "max_body", Route.body_bytes_max,
        values::body_size, |it: &Option<u64>| it.map(|_| tree::size_or_unlimited(it)),
    },
    key! {
        "abort_on_close", Route.abort_on_close,
        |node| values::boolean(node).map(Some), |it: &Option<bool>| it.map(tree::word),
    }
    .at(&[Home::Route])
    .needs(Needs::Backends),
    key! { "strip_prefix", Route.strip_prefix, values::boolean, tree::word }.needs(Needs::Backends),
    Key::<Route>::new(
        "timeouts",
        |it, entry, c| it.timeouts = Given::read(entry, Home::Route, c).overrides(),
        |it, shown| {
            let is_given = it.timeouts != TimeoutOverrides::default();
            is_given.then(|| Given::of_overrides(it.timeouts).tree(shown))
        },
    )
    .needs(Needs::Backends),
    Key::new("upstream", later, |it, shown| {
        let Action::Proxy(upstream) = it.action else {
            return None;
        };
        Some(tree::text(&shown.config.upstreams[upstream].name))
    }),
    Key::new("backends", later, unwritten),
    Key::new("respond", later, |it, shown| {
        let Action::Respond(response) = &it.action else {
            return None;
        };
        mapping(RESPOND, response, shown)
    }),
    Key::new("redirect", later, |it, shown| {
        mapping(REDIRECT, &Redirect::of(&it.action)?, shown)
    }),
];

/// What a route does; exactly one of them.
pub(super) const ACTIONS: [&str; 4] = ["upstream", "backends", "respond", "redirect"];

pub(super) fn host_tree(host: &HostPattern) -> Option<Tree> {
    match host {
        HostPattern::Any => None,
        HostPattern::Exact(host) => Some(tree::text(host)),
        HostPattern::Suffix(suffix) => Some(tree::text(format!("*{suffix}"))),
    }
}

pub(super) fn tree(route: &Route, shown: &Shown<'_>) -> Tree {
    let forwards = matches!(route.action, Action::Proxy(_));
    Tree::Map(written(ROUTE, route, &Shown { forwards, ..*shown }))
}

/// A route with every default.
pub(super) fn blank() -> Route {
    Route {
        host: HostPattern::Any,
        prefix: "/".to_owned(),
        methods: Vec::new(),
        access_log: true,
        strip_prefix: false,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        body_bytes_max: None,
        abort_on_close: None,
        timeouts: TimeoutOverrides::default(),
        action: Action::Proxy(0),
    }
}

/// `routes`, a list.
pub(super) fn routes(c: &mut Compiler<'_>, node: &Node) -> Vec<Route> {
    let items = read_value("routes", node, &mut c.problems, values::list);
    let routes: Vec<(Route, Position)> = items
        .unwrap_or_default()
        .iter()
        .filter_map(|item| Some((route(c, item)?, item.at)))
        .collect();
    check_distinct(&routes, &mut c.problems);
    routes.into_iter().map(|(route, _)| route).collect()
}

/// No two routes may want the same requests.
fn check_distinct(routes: &[(Route, Position)], problems: &mut Problems) {
    let place = |at: usize| {
        let (route, _) = &routes[at];
        (host_key(&route.host), route.prefix.as_str())
    };
    // Of one place they stay as they were written.
    let order = sorted(routes.len(), &|a, b| place(a).cmp(&place(b)));
    let mut clashes = vec![None; routes.len()];
    for group in order.chunk_by(|&a, &b| place(a) == place(b)) {
        for (nth, &own) in group.iter().enumerate() {
            let mut earlier = group[..nth].iter();
            clashes[own] = earlier.find(|&&other| overlaps(&routes[other].0, &routes[own].0));
        }
    }
    for ((route, at), clash) in routes.iter().zip(clashes) {
        let Some(&first) = clash else { continue };
        let (_, first) = &routes[first];
        let message = format!(
            "two routes take the same requests (prefix {}); the other is on line {}",
            route.prefix, first.line
        );
        problems.error(*at, message);
    }
}

fn host_key(host: &HostPattern) -> &str {
    match host {
        HostPattern::Any => "",
        HostPattern::Exact(name) | HostPattern::Suffix(name) => name,
    }
}

/// Whether two routes of the same place share a method. A route for every method leaves the ones
/// that other routes name to them.
fn overlaps(a: &Route, b: &Route) -> bool {
    (a.methods.is_empty() && b.methods.is_empty())
        || a.methods.iter().any(|method| b.methods.contains(method))
}

fn route(c: &mut Compiler<'_>, node: &Node) -> Option<Route> {
    let mut section = Section::open("a route", node, &mut c.problems)?;
    section.home = match section.peek("backends") {
        Some(_) => Home::RouteWithBackends,
        None => Home::Route,
    };
    let mut route = blank();
    section.walk(ROUTE, &mut route, c);
    let is_bad = route.prefix.is_empty();
    if is_bad {
        "/".clone_into(&mut route.prefix);
    }
    let action = action(c, &mut section, &generated_name(&route));
    if let Some(Action::Respond(_) | Action::Redirect { .. }) = action {
        refuse_without_backends(&section, &mut c.problems);
    }
    section.close(&mut c.problems);
    route.action = action?;
    // It would seem to take what other routes take.
    (!is_bad).then_some(route)
}

fn refuse_without_backends(section: &Section<'_>, problems: &mut Problems) {
    for key in ROUTE.iter().filter(|key| key.needs == Needs::Backends) {
        if let Some(entry) = section.peek(key.name) {
            let message = format!("`{}` is for routes that forward to backends", key.name);
            problems.error(entry.key_at, message);
        }
    }
}

/// The name of the upstream made of a route's own backends.
fn generated_name(route: &Route) -> String {
    let prefix = &route.prefix;
    let name = match &route.host {
        HostPattern::Any => format!("route:{prefix}"),
        HostPattern::Exact(host) => format!("route:{host}{prefix}"),
        HostPattern::Suffix(suffix) => format!("route:*{suffix}{prefix}"),
    };
    values::name_from(&name)
}

/// A wrong one leaves none, which no good one is.
fn prefix(route: &mut Route, entry: &Entry, c: &mut Compiler<'_>) {
    route.prefix.clear();
    c.set(entry, &mut route.prefix, canonical_path(&entry.value));
    if route.prefix.contains('*') {
        let message = "`*` stands for itself here: a prefix takes all that begins with it";
        c.problems.warning(entry.value.at, message);
    }
}

/// A path as requests are compared with it.
pub(super) fn canonical_path(node: &Node) -> Read<String> {
    let must = "a path that begins with `/`";
    let given = values::text(node).map_err(|_| must.to_owned())?;
    if given.contains('?') {
        return Err(format!("{must}, without a query"));
    }
    let mut space = Vec::new();
    let canonical = match canonical(given.as_bytes(), &mut space) {
        _ if given.is_empty() => return Err(must.to_owned()),
        Ok(canonical) => String::from_utf8_lossy(canonical.path).into_owned(),
        Err(why) => return Err(format!("{must}: {why}")),
    };
    if canonical == given {
        Ok(canonical)
    } else {
        Err(format!(
            "written as requests are compared with it: {}",
            describe_text(&canonical)
        ))
    }
}

fn methods(node: &Node, problems: &mut Problems) -> Vec<String> {
    let must = || "a method in capital letters, such as GET, but not CONNECT".to_owned();
    let method = |node: &Node| {
        let method = values::text(node).map_err(|_| must())?;
        let is_upper = !method.bytes().any(|byte| byte.is_ascii_lowercase());
        let fits = is_token(method.as_bytes()) && is_upper && method != "CONNECT";
        fits.then(|| method.to_owned()).ok_or_else(must)
    };
    let items = read_value("methods", node, problems, values::list).unwrap_or_default();
    let mut methods: Vec<String> = Vec::new();
    for item in items {
        match read_value("methods", item, problems, method) {
            Some(method) if methods.contains(&method) => {
                problems.error(item.at, format!("the method {method} is given twice"));
            }
            Some(method) => methods.push(method),
            None => {}
        }
    }
    methods
}

/// What a route does; exactly one thing.
fn action(c: &mut Compiler<'_>, section: &mut Section<'_>, name: &str) -> Option<Action> {
    let given: Vec<_> = ACTIONS
        .into_iter()
        .filter_map(|key| Some((key, section.entry(key)?)))
        .collect();
    for (key, entry) in given.iter().skip(1) {
        let message = format!(
            "`{key}` and `{}` exclude each other: a route does one thing",
            given[0].0
        );
        c.problems.error(entry.key_at, message);
    }
    let first = given.first().copied();
    if !matches!(first, Some(("backends", _))) {
        refuse_upstream_keys(c, section);
    }
    match first {
        Some(("upstream", entry)) => c.upstream_named(&entry.value).map(Action::Proxy),
        Some(("backends", entry)) => Some(own_upstream(c, section, name, entry.key_at)),
        Some(("respond", entry)) => respond(&entry.value, c),
        Some((_, entry)) => redirect(&entry.value, c),
        None => by_default(c, section),
    }
}

/// The upstream of the route's own backends.
fn own_upstream(
    c: &mut Compiler<'_>,
    section: &mut Section<'_>,
    name: &str,
    at: Position,
) -> Action {
    let name = c.free_upstream_name(name);
    let mut declared = upstream::upstream(c, section, &name);
    declared.at = at;
    c.upstreams.push(declared);
    Action::Proxy(c.upstreams.len() - 1)
}

fn by_default(c: &mut Compiler<'_>, section: &Section<'_>) -> Option<Action> {
    let fallback = c.upstream_fallback();
    if fallback.is_none() {
        let message = "a route has none of `upstream`, `backends`, `respond` and `redirect`, and \
                       there are no top-level `backends`";
        c.problems.error(section.at, message);
    }
    fallback.map(Action::Proxy)
}

fn refuse_upstream_keys(c: &mut Compiler<'_>, section: &mut Section<'_>) {
    let own = |name: &str| ROUTE.iter().any(|key| key.name == name);
    let shared = |key: &&Key<_>| key.may_stand(Home::RouteWithBackends) && !own(key.name);
    for key in UPSTREAM.iter().filter(shared) {
        if let Some(entry) = section.entry(key.name) {
            let message = format!("`{}` needs `backends` in the same route", key.name);
            c.problems.error(entry.key_at, message);
        }
    }
}
