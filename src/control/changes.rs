//! What a new configuration changes, as a verdict counts it.

use std::collections::HashMap;
use std::fmt;

use crate::config::model::{Action, Config, Mode, Route, Upstream};
use crate::core::key::bytes_key;
use crate::wire::value::to_bytes;

/// The parts of a configuration that are counted, each by a hash of what it is known by and one of
/// all it says.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    backends: Vec<Part>,
    listeners: Vec<Part>,
    routes: Vec<Part>,
    checks: Vec<Part>,
}

type Part = (u64, u64);

impl Inventory {
    pub(crate) fn of(config: &Config) -> Self {
        let mut this = Self::default();
        for listener in &config.listeners {
            let name = listener.column_name();
            this.listeners.push((bytes_key(name.as_bytes()), 0));
            if let Mode::Http(http) = &listener.mode {
                let part = |route| route_part(&name, route, &config.upstreams);
                this.routes.extend(http.routes.iter().map(part));
            }
        }
        for upstream in &config.upstreams {
            let backends = upstream.backends.iter().map(|backend| {
                let name = upstream.backend_column_name(&backend.identity);
                (bytes_key(name.as_bytes()), bytes_key(&to_bytes(backend)))
            });
            this.backends.extend(backends);
            let name = bytes_key(upstream.name.as_bytes());
            let checks = upstream.health_check.iter();
            let checks = checks.map(|check| (name, bytes_key(&to_bytes(check))));
            this.checks.extend(checks);
        }
        this
    }

    /// What changes when `after` takes the place of this.
    pub(crate) fn changes_to(&self, after: &Self) -> Changes {
        Changes {
            backends: Count::between(&self.backends, &after.backends),
            listeners: Count::between(&self.listeners, &after.listeners),
            routes: Count::between(&self.routes, &after.routes),
            checks: Count::between(&self.checks, &after.checks),
        }
    }
}

/// A route is known by its listener and what it is for. It says the name of its upstream, whose
/// place in the file may change.
fn route_part(listener: &str, route: &Route, upstreams: &[Upstream]) -> Part {
    let scope = [
        listener.as_bytes(),
        &to_bytes(&route.host),
        &to_bytes(&route.prefix),
        &to_bytes(&route.methods),
    ];
    let said = match &route.action {
        Action::Proxy(upstream) => {
            let mut route = route.clone();
            route.action = Action::Proxy(0);
            [to_bytes(&route), upstreams[*upstream].name.clone().into()].concat()
        }
        Action::Respond(_) | Action::Redirect { .. } => to_bytes(route),
    };
    (bytes_key(&scope.concat()), bytes_key(&said))
}

/// How many parts of each kind come, go and change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changes {
    backends: Count,
    listeners: Count,
    routes: Count,
    checks: Count,
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backends.write("backends", f)?;
        f.write_str("; ")?;
        self.listeners.write("listeners", f)?;
        for (kind, count) in [("routes", self.routes), ("checks", self.checks)] {
            if count != Count::default() {
                f.write_str("; ")?;
                count.write(kind, f)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    added: usize,
    removed: usize,
    changed: usize,
}

impl Count {
    fn between(before: &[Part], after: &[Part]) -> Self {
        let mut left: HashMap<u64, u64> = before.iter().copied().collect();
        let mut count = Self::default();
        for (name, says) in after {
            match left.remove(name) {
                None => count.added += 1,
                Some(said) => count.changed += usize::from(said != *says),
            }
        }
        count.removed = left.len();
        count
    }

    fn write(self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (added, removed) = (self.added, self.removed);
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
        let inventory = |text| {
            let compiled = crate::config::compile("f", text, &mut |_| Ok(Vec::new()));
            Inventory::of(&compiled.expect("it is good").config)
        };
        inventory(before).changes_to(&inventory(after)).to_string()
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
            "1 backends added, 0 removed, 1 changed; 1 listeners added, 1 removed"
        );
    }

    #[test]
    fn checks_come_go_and_change() {
        let with = |path| format!("{TCP}health_check: {{path: {path}}}\n");
        let same = "0 backends added, 0 removed; 0 listeners added, 0 removed; ";
        let [one, other] = ["/one", "/other"].map(with);
        for (before, after, counted) in [
            (TCP, one.as_str(), "1 checks added, 0 removed"),
            (&one, TCP, "0 checks added, 1 removed"),
            (&one, &other, "0 checks added, 0 removed, 1 changed"),
        ] {
            assert_eq!(changes(before, after), format!("{same}{counted}"));
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
            format!("{same}; 0 routes added, 0 removed, 1 changed")
        );
        assert_eq!(
            changes(&before, &file(ab, "a", "")),
            format!("{same}; 0 routes added, 1 removed")
        );
    }
}
