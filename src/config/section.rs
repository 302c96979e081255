//! A mapping of the file, read key by key. What was never asked for is unknown.

use std::collections::HashMap;

use super::node::{Entry, Node, Value, describe_text};
use super::problem::{Position, Problems};
use super::suggest;

/// One mapping while it is read. [`Section::close`] reports the keys that nobody asked for.
#[derive(Debug)]
pub(super) struct Section<'n> {
    /// With its article: `a backend`.
    what: &'static str,
    pub(super) at: Position,
    entries: &'n [Entry],
    asked: Vec<&'static str>,
}

impl<'n> Section<'n> {
    /// Opens a mapping and reports duplicate keys. Anything else is reported and read as empty.
    pub(super) fn open(
        what: &'static str,
        node: &'n Node,
        problems: &mut Problems,
    ) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let message = format!("{what} is {}; it must be a mapping", node.describe());
            problems.error(node.at, message);
            return None;
        };
        report_duplicates(entries, problems);
        Some(Self {
            what,
            at: node.at,
            entries,
            asked: Vec::new(),
        })
    }

    /// The node of a key, if it is there.
    pub(super) fn node(&mut self, key: &'static str) -> Option<&'n Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub(super) fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        if !self.asked.contains(&key) {
            self.asked.push(key);
        }
        self.peek(key)
    }

    /// Looks at a key without asking for it.
    pub(super) fn peek(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The value of a key; none when it is missing or was reported as wrong. `read` says of a
    /// wrong value what it must be.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
        read: impl FnOnce(&'n Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(key)?;
        read_value(key, node, problems, read)
    }

    /// As [`Section::read`], of a key that must be there.
    pub(super) fn require<T>(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
        read: impl FnOnce(&'n Node) -> Result<T, String>,
    ) -> Option<T> {
        if self.peek(key).is_none() {
            problems.error(self.at, format!("{} has no `{key}`", self.what));
        }
        self.read(key, problems, read)
    }

    /// Reports every key that was not asked for.
    pub(super) fn close(self, problems: &mut Problems) {
        for entry in self.entries {
            let key = entry.key.as_str();
            if self.asked.contains(&key) {
                continue;
            }
            let shown = describe_text(key);
            let shown = shown.trim_matches('"');
            let help = match suggest::nearest(key, self.asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => match home_of(key) {
                    Some(home) => format!("it belongs in {home}"),
                    None => format!("allowed are {}", self.asked.join(", ")),
                },
            };
            let message = format!("unknown key `{shown}` in {}; {help}", self.what);
            problems.error(entry.key_at, message);
        }
    }
}

fn report_duplicates(entries: &[Entry], problems: &mut Problems) {
    let mut seen: HashMap<&str, Position> = HashMap::new();
    for entry in entries {
        if let Some(first) = seen.get(entry.key.as_str()) {
            let key = describe_text(&entry.key);
            let key = key.trim_matches('"');
            let message = format!("`{key}` is given twice; first on line {}", first.line);
            problems.error(entry.key_at, message);
        } else {
            seen.insert(&entry.key, entry.key_at);
        }
    }
}

/// A value that `read` accepts, or none after its error was reported.
pub(super) fn read_value<'n, T>(
    key: &str,
    node: &'n Node,
    problems: &mut Problems,
    read: impl FnOnce(&'n Node) -> Result<T, String>,
) -> Option<T> {
    match read(node) {
        Ok(value) => Some(value),
        Err(must) => {
            let message = format!("`{key}` is {}; it must be {must}", node.describe());
            problems.error(node.at, message);
            None
        }
    }
}

/// Where a key belongs that stands in the wrong place.
fn home_of(key: &str) -> Option<&'static str> {
    Some(match key {
        "backends" | "algorithm" | "hash" | "health_check" | "passive" | "sticky" | "retries"
        | "reuse" | "when_all_down" | "abort_on_close" => "an upstream",
        "listen" | "mode" | "routes" | "limits" | "trusted_proxies" | "via" | "forwarded"
        | "forwarded_fields" | "backlog" => "a listener",
        "address" | "weight" => "a backend",
        "upstream" => "a listener of the full form",
        "prefix" | "respond" | "redirect" | "strip_prefix" => "a route",
        "connect" | "idle" | "half_closed" | "header" | "keep_alive" | "body" | "upload"
        | "response" | "response_idle" | "send" | "tunnel" | "drain" | "pre_drain" => "`timeouts`",
        "interval" | "rise" | "fall" => "`health_check`",
        "workers"
        | "supervisor"
        | "when_supervisor_dies"
        | "log_level"
        | "stats_interval"
        | "access_log"
        | "buffers"
        | "splice"
        | "user"
        | "group"
        | "chroot"
        | "sandbox" => "the top level of the file",
        _ => return None,
    })
}
