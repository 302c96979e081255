//! From what a ClientHello says to a route.
//!
//! As with routes of HTTP, the order in which they were written decides nothing but between equals:
//! an exact host comes before the wildcard, and that before any host; within a host those for a
//! protocol that is offered come before the one for all. A host that has routes but none for these
//! protocols leaves the connection to the next. A wildcard stands for one label, as in the
//! certificates (RFC 9525 section 6.3) of those who wait there.

use super::client_hello::ClientHello;
use super::http::route::HostPattern;
use super::sort::sorted;

/// What a ClientHello must say for a route to take its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsRule {
    /// Which hosts it is for. A suffix takes one label before it.
    pub host: HostPattern,
    /// The protocol that must be offered; none is whatever the client offers.
    pub alpn: Option<String>,
}

/// Why no route takes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTlsRoute {
    /// The name that it asks for is that of no route, or it asks for none.
    Name,
    /// There are routes for the name, but none for what it offers.
    Protocol,
}

/// All routes for connections that stay encrypted, sorted by what is more specific.
#[derive(Clone, Debug, Default)]
pub struct TlsRouteTable {
    exact: Vec<Host>,
    suffixes: Vec<Host>,
    any: Vec<Entry>,
}

/// The routes of one host pattern.
#[derive(Clone, Debug)]
struct Host {
    /// In lower case.
    name: Box<str>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    /// Its place in the list.
    route: usize,
    alpn: Option<Box<[u8]>>,
}

impl TlsRouteTable {
    /// Compiles a list of rules.
    #[must_use]
    pub fn new(rules: &[TlsRule]) -> Self {
        let hosts: Vec<_> = rules.iter().map(|rule| host_key(&rule.host)).collect();
        // Of equals the first written stays first.
        let routes = sorted(rules.len(), &|a, b| {
            let is_open = |at: usize| rules[at].alpn.is_none();
            let of_hosts = hosts[a].cmp(&hosts[b]);
            of_hosts.then(is_open(a).cmp(&is_open(b)))
        });
        let mut table = Self::default();
        for group in routes.chunk_by(|&a, &b| hosts[a] == hosts[b]) {
            let entries = group.iter().map(|&route| Entry {
                route,
                alpn: rules[route].alpn.as_ref().map(|it| it.as_bytes().into()),
            });
            let host = Host {
                name: hosts[group[0]].1.as_str().into(),
                entries: entries.collect(),
            };
            match rules[group[0]].host {
                HostPattern::Exact(_) => table.exact.push(host),
                HostPattern::Suffix(_) => table.suffixes.push(host),
                HostPattern::Any => table.any = host.entries,
            }
        }
        table
    }

    /// The route for a connection, by its place in the list of rules.
    ///
    /// # Errors
    /// When none takes it.
    pub fn find(&self, hello: &ClientHello) -> Result<usize, NoTlsRoute> {
        let name = hello.server_name.as_deref().unwrap_or_default();
        // The name is one of a host, so each of its labels has something in it.
        let parent = name.find('.').map_or("", |dot| &name[dot..]);
        let exact = lookup(&self.exact, name);
        let suffix = lookup(&self.suffixes, parent);
        let named = exact.iter().chain(suffix);
        let entry = named.chain(&self.any).find(|entry| entry.takes(hello));
        let names_none = self.exact.is_empty() && self.suffixes.is_empty();
        let is_for_all = names_none && !self.any.is_empty();
        let knows_name = !exact.is_empty() || !suffix.is_empty() || is_for_all;
        match entry {
            Some(entry) => Ok(entry.route),
            None if knows_name => Err(NoTlsRoute::Protocol),
            None => Err(NoTlsRoute::Name),
        }
    }
}

impl Entry {
    fn takes(&self, hello: &ClientHello) -> bool {
        let alpn = self.alpn.as_deref();
        alpn.is_none_or(|wanted| hello.protocols().any(|offered| offered == wanted))
    }
}

/// The routes of the host of that name; `hosts` is sorted.
fn lookup<'a>(hosts: &'a [Host], name: &str) -> &'a [Entry] {
    let found = hosts.binary_search_by(|host| (*host.name).cmp(name));
    found.map_or(&[], |at| &hosts[at].entries)
}

/// Orders host patterns: those of one kind together, by name in lower case.
fn host_key(host: &HostPattern) -> (u8, String) {
    match host {
        HostPattern::Exact(name) => (0, name.to_ascii_lowercase()),
        HostPattern::Suffix(name) => (1, name.to_ascii_lowercase()),
        HostPattern::Any => (2, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of hosts, of which suffixes begin with a dot, and protocols; nothing is any.
    fn table(rules: &[(&str, &str)]) -> TlsRouteTable {
        let rules = rules.iter().map(|(host, alpn)| TlsRule {
            host: match *host {
                "" => HostPattern::Any,
                suffix if suffix.starts_with('.') => HostPattern::Suffix(suffix.into()),
                name => HostPattern::Exact(name.into()),
            },
            alpn: (!alpn.is_empty()).then(|| (*alpn).into()),
        });
        let rules: Vec<_> = rules.collect();
        TlsRouteTable::new(&rules)
    }

    fn hello(name: &str, offers: &[&str]) -> ClientHello {
        let length = |it: &str| u8::try_from(it.len()).unwrap();
        let alpn = offers
            .iter()
            .map(|it| [&[length(it)], it.as_bytes()].concat());
        ClientHello {
            server_name: (!name.is_empty()).then(|| name.into()),
            alpn: alpn.collect::<Vec<_>>().concat().into(),
            ..ClientHello::default()
        }
    }

    #[test]
    fn the_most_specific_host_wins_whatever_the_order() {
        let hosts = ["", ".example", ".b.example", "a.b.example", "Upper.test"];
        for turn in 0..hosts.len() {
            let mut turned = hosts;
            turned.rotate_left(turn);
            let table = table(&turned.map(|host| (host, "")));
            for (name, host) in [
                ("", ""),
                ("other", ""),
                ("example", ""),
                ("x.example", ".example"),
                ("b.example", ".example"),
                ("c.b.example", ".b.example"),
                ("a.b.example", "a.b.example"),
                ("x.a.b.example", ""),
                ("upper.test", "Upper.test"),
            ] {
                let route = table.find(&hello(name, &[])).unwrap();
                assert_eq!(turned[route], host, "{name}");
            }
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let table = table(&[(".example", "")]);
        for (name, found) in [
            ("a.example", Ok(0)),
            ("a.b.example", Err(NoTlsRoute::Name)),
            ("example", Err(NoTlsRoute::Name)),
            ("aexample", Err(NoTlsRoute::Name)),
            ("", Err(NoTlsRoute::Name)),
        ] {
            assert_eq!(table.find(&hello(name, &["h2"])), found, "{name}");
        }
    }

    #[test]
    fn a_protocol_must_be_offered_and_comes_before_all() {
        let table = table(&[
            ("a.test", ""),
            ("a.test", "h2"),
            ("a.test", "acme-tls/1"),
            (".test", "h2"),
            ("", "acme-tls/1"),
        ]);
        for (name, offers, found) in [
            ("a.test", &[][..], Ok(0)),
            ("a.test", &["http/1.1"], Ok(0)),
            ("a.test", &["http/1.1", "h2"], Ok(1)),
            ("a.test", &["acme-tls/1"], Ok(2)),
            // Of several it is the route that was written first.
            ("a.test", &["acme-tls/1", "h2"], Ok(1)),
            ("a.test", &["h2c", "H2"], Ok(0)),
            ("b.test", &["h2"], Ok(3)),
            ("b.test", &["acme-tls/1"], Ok(4)),
            ("b.test", &["http/1.1"], Err(NoTlsRoute::Protocol)),
            ("", &["acme-tls/1"], Ok(4)),
            ("other", &["h2"], Err(NoTlsRoute::Name)),
        ] {
            assert_eq!(table.find(&hello(name, offers)), found, "{name} {offers:?}");
        }
    }

    #[test]
    fn where_no_host_is_named_only_a_protocol_can_be_missing() {
        let found = table(&[("", "h2")]).find(&hello("a.test", &["x"]));
        assert_eq!(found, Err(NoTlsRoute::Protocol));
        let found = TlsRouteTable::default().find(&hello("a.test", &[]));
        assert_eq!(found, Err(NoTlsRoute::Name));
    }

    #[test]
    fn a_thousand_hosts_are_told_apart() {
        let names: Vec<String> = (0..1000)
            .map(|n| format!("h{}.test", n * 7919 % 1000))
            .collect();
        let rules: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let table = table(&rules);
        for (route, name) in names.iter().enumerate() {
            assert_eq!(table.find(&hello(name, &[])), Ok(route));
        }
    }
}
