//! From host, path and method to a route.
//!
//! The order in which routes were written decides nothing, except between two of the same host and
//! prefix, where the first is taken. The most specific comes first: an exact host, then the
//! longest wildcard, then any host; within a host the longest prefix. A host that has routes but
//! none for this path does not end the search: the wildcards and the routes for any host follow.
//! Nor does a route whose methods do not fit; it is only remembered, for the answer to a request
//! that nothing else takes is then 405 and not 404.
//!
//! Hosts are found by binary search, so a thousand of them cost ten comparisons, and so are the
//! prefixes of a host. What a route does is not known here: it is a number, its place in the list
//! the table was made from.

use std::cmp::Ordering;
use std::fmt;

use crate::core::http::path::{PathError, canonical};
use crate::core::http::prefix::{Prefixes, order};
use crate::core::http::syntax::elements;
use crate::core::sort::sorted;

/// Longest host that is looked up by name, in bytes; a longer one is no DNS name (RFC 1035
/// section 2.3.4) and only finds the routes for any host.
pub(crate) const HOST_BYTES_MAX: usize = 255;

/// Which hosts a route is for; names may be written in any case, without port or trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// That host.
    Exact(String),
    /// Every host that ends in this, which begins with a dot; never the bare domain itself.
    Suffix(String),
}

impl HostPattern {
    /// As in the file; empty for every host.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Any => String::new(),
            Self::Exact(host) => host.clone(),
            Self::Suffix(suffix) => format!("*{suffix}"),
        }
    }
}

/// What a request must be for a route to take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which hosts it is for.
    pub host: HostPattern,
    /// Begins with a slash. `/api` takes `/api` and `/api/x`; `/api/` takes only what follows the
    /// slash, so not `/api`; neither takes `/apix`.
    pub prefix: String,
    /// Methods it is for, case-sensitive (RFC 9110 section 9.1); empty is all. `HEAD` is a method
    /// of its own: a rule for `GET` alone does not take it.
    pub methods: Vec<String>,
}

/// A prefix that cannot match any canonical path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixError {
    /// Which rule, by its place in the list.
    pub(crate) rule: usize,
    /// What is wrong with it; none when it holds a question mark.
    pub(crate) why: Option<PathError>,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Some(why) => write!(f, "route {}: {why}", self.rule + 1),
            None => write!(f, "route {}: a prefix has no query", self.rule + 1),
        }
    }
}

/// What the table says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The route, by its place in the list of rules.
    Route(usize),
    /// Host and path have routes, but none for this method: 405, with
    /// [`RouteTable::write_allow`].
    MethodNotAllowed,
    /// 404.
    NotFound,
}

/// All routes of a listener, sorted by what is more specific.
#[derive(Clone, Debug)]
pub struct RouteTable {
    exact: Vec<Host>,
    suffixes: Vec<Host>,
    any: Option<Host>,
    /// The canonical prefix of each rule, in the order of the list.
    prefixes: Vec<Vec<u8>>,
}

/// The routes of one host pattern.
#[derive(Clone, Debug)]
struct Host {
    /// In lower case.
    name: Vec<u8>,
    /// Those of each prefix in the order of the list.
    entries: Prefixes<Vec<RouteEntry>>,
}

#[derive(Clone, Debug)]
struct RouteEntry {
    route: usize,
    methods: Vec<String>,
}

impl RouteTable {
    /// Compiles a list of rules. Prefixes are brought into the canonical form of a path first, as
    /// that is what they are compared with.
    ///
    /// # Errors
    /// When a prefix is no path.
    pub fn new(rules: &[Rule]) -> Result<Self, PrefixError> {
        let prefixes = rules.iter().enumerate().map(canonical_prefix);
        let prefixes = prefixes.collect::<Result<Vec<_>, _>>()?;
        let hosts: Vec<_> = rules.iter().map(|rule| host_key(&rule.host)).collect();
        // Of equal prefixes the first written stays first.
        let routes = sorted(rules.len(), &|a, b| {
            let of_hosts = hosts[a].cmp(&hosts[b]);
            of_hosts.then_with(|| order(&prefixes[a], &prefixes[b]))
        });

        let mut table = Self {
            exact: Vec::new(),
            suffixes: Vec::new(),
            any: None,
            prefixes: Vec::new(),
        };
        for group in routes.chunk_by(|&a, &b| hosts[a] == hosts[b]) {
            let host = Host {
                name: hosts[group[0]].1.clone(),
                entries: entries(rules, &prefixes, group),
            };
            match rules[group[0]].host {
                HostPattern::Any => table.any = Some(host),
                HostPattern::Exact(_) => table.exact.push(host),
                HostPattern::Suffix(_) => table.suffixes.push(host),
            }
        }
        table.prefixes = prefixes;
        Ok(table)
    }

    /// The path without the prefix of a route that [`RouteTable::find`] gave for it.
    ///
    /// # Panics
    /// When there is no such route.
    #[must_use]
    pub(crate) fn strip<'a>(&self, route: usize, path: &'a [u8]) -> &'a [u8] {
        strip_prefix(path, &self.prefixes[route])
    }

    /// The route for a request. `host` is the Host field or the authority of the target, with or
    /// without port; `path` is canonical.
    #[must_use]
    pub fn find(&self, host: &[u8], path: &[u8], method: &[u8]) -> Found {
        let mut otherwise = Found::NotFound;
        let route = self.ask_hosts(host_name(host), |host| {
            for entry in host.entries.matching(path).flatten() {
                if entry.takes(method) {
                    return Some(entry.route);
                }
                otherwise = Found::MethodNotAllowed;
            }
            None
        });
        route.map_or(otherwise, Found::Route)
    }

    /// Appends the methods that host and path have routes for, as the value of an Allow field
    /// (RFC 9110 section 10.2.1), each once.
    pub fn write_allow(&self, host: &[u8], path: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        self.ask_hosts(host_name(host), |host| {
            let entries = host.entries.matching(path).flatten();
            for method in entries.flat_map(|entry| &entry.methods) {
                let written = &out[start..];
                if elements(written).any(|one| one == method.as_bytes()) {
                    continue;
                }
                if !written.is_empty() {
                    out.extend_from_slice(b", ");
                }
                out.extend_from_slice(method.as_bytes());
            }
            None::<()>
        });
    }

    /// Asks those whose pattern a host name matches, the most specific first, until one answers.
    #[inline]
    fn ask_hosts<A>(&self, name: &[u8], ask: impl FnMut(&Host) -> Option<A>) -> Option<A> {
        let named = if name.len() <= HOST_BYTES_MAX {
            name
        } else {
            b""
        };
        let by_name = [&self.exact, &self.suffixes];
        if by_name.iter().all(|hosts| hosts.is_empty()) {
            return self.any.as_ref().and_then(ask);
        }
        let exact = lookup(&self.exact, named).into_iter();
        // From left to right, so that the longest suffix comes first. A dot at the start has no
        // label before it and is no subdomain.
        let suffixes = (1..named.len())
            .filter(|&at| named[at] == b'.' && !self.suffixes.is_empty())
            .filter_map(|at| lookup(&self.suffixes, &named[at..]));
        exact.chain(suffixes).chain(&self.any).find_map(ask)
    }
}

impl RouteEntry {
    fn takes(&self, method: &[u8]) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|one| one.as_bytes() == method)
    }
}

/// The name in a Host field or authority: without port and without one trailing dot. An IPv6
/// literal keeps its brackets.
#[must_use]
pub fn host_name(host: &[u8]) -> &[u8] {
    // Only digits stand behind the colon of a port.
    let name = match host.iter().rposition(|byte| !byte.is_ascii_digit()) {
        Some(colon) if host[colon] == b':' => &host[..colon],
        _ => host,
    };
    // The last colon of a bracketed address without a port lies within the brackets.
    let name = if host.starts_with(b"[") && !name.ends_with(b"]") {
        host
    } else {
        name
    };
    name.strip_suffix(b".").unwrap_or(name)
}

/// Whether `prefix` matches `path` at a segment boundary: `/api` matches `/api` and `/api/x`,
/// `/api/` matches `/api/` and `/api/x`, and neither matches `/apix`.
#[must_use]
pub fn is_prefix(prefix: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || prefix.ends_with(b"/"))
}

/// The path without the prefix that matched it; always begins with a slash. A path that the prefix
/// does not match stays whole. Both are canonical.
#[must_use]
pub fn strip_prefix<'a>(path: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    if !is_prefix(prefix, path) {
        return path;
    }
    let cut = prefix.strip_suffix(b"/").unwrap_or(prefix).len();
    if cut == path.len() {
        b"/"
    } else {
        &path[cut..]
    }
}

/// A prefix as it is compared.
fn canonical_prefix((rule, written): (usize, &Rule)) -> Result<Vec<u8>, PrefixError> {
    let mut space = Vec::new();
    let error = |why| PrefixError { rule, why };
    match canonical(written.prefix.as_bytes(), &mut space) {
        Ok(found) if found.query.is_some() => Err(error(None)),
        Ok(found) => Ok(found.path.to_vec()),
        Err(why) => Err(error(Some(why))),
    }
}

/// Orders host patterns: those of one kind together, by name in lower case.
fn host_key(host: &HostPattern) -> (u8, Vec<u8>) {
    let lower = |name: &str| name.to_ascii_lowercase().into_bytes();
    match host {
        HostPattern::Exact(name) => (0, lower(name)),
        HostPattern::Suffix(name) => (1, lower(name)),
        HostPattern::Any => (2, Vec::new()),
    }
}

/// What a host has of each prefix; `routes` are in the order of the prefixes.
fn entries(rules: &[Rule], prefixes: &[Vec<u8>], routes: &[usize]) -> Prefixes<Vec<RouteEntry>> {
    let groups = routes.chunk_by(|&a, &b| prefixes[a] == prefixes[b]);
    Prefixes::new(groups.map(|group| {
        let entries = group.iter().map(|&route| RouteEntry {
            route,
            methods: rules[route].methods.clone(),
        });
        (prefixes[group[0]].clone(), entries.collect())
    }))
}

/// The host of that name, in any case; `hosts` is sorted.
#[inline]
fn lookup<'a>(hosts: &'a [Host], name: &[u8]) -> Option<&'a Host> {
    let found = hosts.binary_search_by(|host| compare_lower(&host.name, name));
    found.ok().map(|at| &hosts[at])
}

/// Orders `lower`, which is in lower case, against `name` in any case.
fn compare_lower(lower: &[u8], name: &[u8]) -> Ordering {
    let name = name.iter().map(u8::to_ascii_lowercase);
    lower.iter().copied().cmp(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(host: &str, prefix: &str, methods: &str) -> Rule {
        Rule {
            host: match host {
                "" => HostPattern::Any,
                suffix if suffix.starts_with('.') => HostPattern::Suffix(suffix.into()),
                name => HostPattern::Exact(name.into()),
            },
            prefix: prefix.into(),
            methods: methods.split_whitespace().map(String::from).collect(),
        }
    }

    fn table(rules: &[(&str, &str, &str)]) -> RouteTable {
        let rules: Vec<_> = rules.iter().map(|(h, p, m)| rule(h, p, m)).collect();
        RouteTable::new(&rules).unwrap()
    }

    #[test]
    fn the_longest_prefix_wins_whatever_the_order() {
        let prefixes = ["/", "/api", "/api/v1/", "/apix"];
        for turn in 0..prefixes.len() {
            let mut turned = prefixes;
            turned.rotate_left(turn);
            let table = table(&turned.map(|prefix| ("", prefix, "")));
            for (path, prefix) in [
                ("/", "/"),
                ("/other", "/"),
                ("/api", "/api"),
                ("/api/", "/api"),
                ("/api/v1", "/api"),
                ("/api/v1/", "/api/v1/"),
                ("/api/v1/x", "/api/v1/"),
                ("/api/v10", "/api"),
                ("/apix", "/apix"),
                ("/apixy", "/"),
            ] {
                let Found::Route(route) = table.find(b"h", path.as_bytes(), b"GET") else {
                    panic!("{path} has no route");
                };
                assert_eq!(turned[route], prefix, "{path}");
            }
        }
    }

    #[test]
    fn the_most_specific_host_wins() {
        let table = table(&[
            ("", "/", ""),
            (".example.com", "/", ""),
            (".b.example.com", "/", ""),
            ("a.b.example.com", "/", ""),
            ("[::1]", "/", ""),
            ("Upper.test", "/", ""),
        ]);
        for (host, route) in [
            ("other", 0),
            ("", 0),
            ("example.com", 0),
            (".example.com", 0),
            ("notexample.com", 0),
            ("x.example.com", 1),
            ("X.EXAMPLE.com:8080", 1),
            ("x.y.example.com.", 1),
            ("b.example.com", 1),
            ("c.b.example.com", 2),
            ("a.b.example.com", 3),
            ("A.b.Example.Com.:80", 3),
            ("a.b.example.com:", 3),
            ("a.b.example.com:8x", 0),
            ("[::1]", 4),
            ("[::1]:443", 4),
            ("[::2]:443", 0),
            ("upper.test", 5),
            ("uPPER.TEST", 5),
        ] {
            let found = table.find(host.as_bytes(), b"/", b"GET");
            assert_eq!(found, Found::Route(route), "{host}");
        }
        let long = format!("{}.example.com", "x".repeat(HOST_BYTES_MAX));
        let found = table.find(long.as_bytes(), b"/", b"GET");
        assert_eq!(found, Found::Route(0), "no DNS name is that long");
    }

    #[test]
    fn a_host_without_a_fitting_prefix_leaves_the_request_to_the_next() {
        let table = table(&[
            ("a.test", "/only", ""),
            (".test", "/wild", ""),
            ("", "/any", ""),
        ]);
        for (path, found) in [
            ("/only/x", Found::Route(0)),
            ("/wild", Found::Route(1)),
            ("/any", Found::Route(2)),
            ("/none", Found::NotFound),
        ] {
            assert_eq!(table.find(b"a.test", path.as_bytes(), b"GET"), found);
        }
    }

    #[test]
    fn a_route_for_other_methods_is_passed_over() {
        let table = table(&[
            ("a", "/x/y", "PUT"),
            ("a", "/x", "GET HEAD"),
            ("", "/", "POST PUT"),
            ("", "/x", "get"),
        ]);
        for (path, method, found) in [
            ("/x/y", "PUT", Found::Route(0)),
            ("/x/y", "GET", Found::Route(1)),
            ("/x/y", "POST", Found::Route(2)),
            ("/x", "get", Found::Route(3)),
            ("/x/y", "DELETE", Found::MethodNotAllowed),
            ("/", "GET", Found::MethodNotAllowed),
        ] {
            let result = table.find(b"a", path.as_bytes(), method.as_bytes());
            assert_eq!(result, found, "{method} {path}");
        }
        let mut allow = Vec::new();
        table.write_allow(b"a", b"/x/y", &mut allow);
        assert_eq!(allow, b"PUT, GET, HEAD, get, POST");
    }

    #[test]
    fn of_two_equal_routes_the_first_written_is_taken() {
        let table = table(&[("a", "/x", "PUT"), ("A", "/x", ""), ("a", "/x", "")]);
        assert_eq!(table.find(b"a", b"/x", b"PUT"), Found::Route(0));
        assert_eq!(table.find(b"a", b"/x", b"GET"), Found::Route(1));
    }

    #[test]
    fn prefixes_are_compared_in_canonical_form() {
        let table = table(&[("", "/caf%c3%a9/../%7ebar", "")]);
        assert_eq!(table.find(b"", b"/~bar/x", b"GET"), Found::Route(0));
        assert_eq!(table.strip(0, b"/~bar/x"), b"/x");
        for (prefix, why) in [
            ("api", Some(PathError::NotAbsolute)),
            ("/a%zz", Some(PathError::BadEscape)),
            ("/a?b", None),
        ] {
            let error = RouteTable::new(&[rule("", "/", ""), rule("", prefix, "")]).unwrap_err();
            assert_eq!(error, PrefixError { rule: 1, why });
        }
    }

    #[test]
    fn a_stripped_path_begins_with_a_slash() {
        for (path, prefix, stripped) in [
            ("/api", "/api", "/"),
            ("/api/", "/api", "/"),
            ("/api/x", "/api", "/x"),
            ("/api/", "/api/", "/"),
            ("/api/x/", "/api/", "/x/"),
            ("/x", "/", "/x"),
            ("/", "/", "/"),
            ("/apix", "/api", "/apix"),
        ] {
            let result = strip_prefix(path.as_bytes(), prefix.as_bytes());
            assert_eq!(result, stripped.as_bytes(), "{path} without {prefix}");
        }
    }
}
