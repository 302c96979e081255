//! A mapping of the file, read by the tables of its keys. What is in none of them is unknown.

use std::collections::HashMap;

use super::compile::Compiler;
use super::key::{Home, Key, Needs, home_of};
use super::node::{Entry, Node, Value, describe_text};
use super::problem::{Position, Problems};
use super::{suggest, values};

/// What else is allowed where a mapping can be turned off, or on with its defaults.
pub(super) const OR_SWITCH: &str = ", on or off";

/// The mapping that all others are in.
pub(super) const THE_FILE: &str = "the file";

/// One mapping while it is read. [`Section::close`] reports the keys that are in no table.
#[derive(Debug)]
pub(super) struct Section<'n> {
    /// With its article: `a backend`.
    what: &'static str,
    pub(super) at: Position,
    pub(super) home: Home,
    entries: &'n [Entry],
    known: Vec<&'static str>,
}

impl<'n> Section<'n> {
    /// Opens a mapping and reports duplicate keys. Anything else is reported and read as empty.
    pub(super) fn open(
        what: &'static str,
        node: &'n Node,
        problems: &mut Problems,
    ) -> Option<Self> {
        Self::open_or(what, "", node, problems)
    }

    /// The same where something else is allowed in the place of a mapping: `or` says what.
    #[inline(never)]
    pub(super) fn open_or(
        what: &'static str,
        or: &str,
        node: &'n Node,
        problems: &mut Problems,
    ) -> Option<Self> {
        let entries: &[Entry] = if let Value::Map(entries) = &node.value {
            entries
        } else if or == OR_SWITCH && values::switch(node) == Some(true) {
            &[]
        } else {
            let is_text = what == THE_FILE && matches!(node.value, Value::Text(_));
            let lines = if is_text {
                ", of lines such as `key: value`"
            } else {
                ""
            };
            let example = suggest::example(what);
            let message = format!(
                "{what} is {}; it must be a mapping{lines}{example}{or}",
                node.describe()
            );
            problems.error(node.at, message);
            return None;
        };
        report_duplicates(entries, problems);
        Some(Self {
            what,
            at: node.at,
            home: Home::Top,
            entries,
            known: Vec::new(),
        })
    }

    /// Reads the keys of a table that may stand here.
    pub(super) fn walk<M>(&mut self, keys: &[Key<M>], model: &mut M, c: &mut Compiler<'_>) {
        for key in keys {
            if key.may_stand(self.home)
                && let Some(entry) = self.noted(key.name, key.needs, c)
            {
                (key.read)(model, entry, c);
            }
        }
    }

    /// A key, if it is there, with what it needs noted. What does not depend on the table's type
    /// is compiled once.
    #[inline(never)]
    fn noted(
        &mut self,
        key: &'static str,
        needs: Needs,
        c: &mut Compiler<'_>,
    ) -> Option<&'n Entry> {
        let entry = self.entry(key)?;
        c.note_needs(needs, key, entry.key_at);
        Some(entry)
    }

    /// A key, if it is there, which is known from now on.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<&'n Entry> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.peek(key)
    }

    /// Looks at a key, which need not be known.
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
        let entry = self.entry(key)?;
        read_value(key, &entry.value, problems, read)
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

    /// Whether a key is for the author alone, such as an anchor that others name (as in Compose).
    fn is_extension(&self, key: &str) -> bool {
        self.what == THE_FILE && key.starts_with("x-")
    }

    /// Reports every key that is not known.
    #[inline(never)]
    pub(super) fn close(self, problems: &mut Problems) {
        for entry in self.entries {
            let key = entry.key.as_str();
            if self.known.contains(&key) || self.is_extension(key) {
                continue;
            }
            let shown = describe_text(key);
            let shown = shown.trim_matches('"');
            if let Some((key, _)) = key.split_once(':') {
                let message = format!("a space must stand behind the colon of `{key}`");
                problems.error(entry.key_at, message);
                continue;
            }
            let meant = suggest::meant(key, |known| self.known.contains(&known));
            let near = || suggest::nearest(key, self.known.iter().copied());
            let help = match meant.or_else(near) {
                Some(near) => format!("did you mean `{near}`?"),
                None => match home_of(key).filter(|home| *home != self.what) {
                    Some(home) => format!("it belongs in {home}"),
                    None => format!("allowed are {}", self.known.join(", ")),
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

/// Reads a mapping of one table into a model that has the defaults. False, after it was reported,
/// when it is none; `or` says what else is allowed.
#[inline(never)]
pub(super) fn read_mapping<M>(
    (what, or): (&'static str, &str),
    node: &Node,
    keys: &[Key<M>],
    model: &mut M,
    c: &mut Compiler<'_>,
) -> bool {
    let Some(mut section) = Section::open_or(what, or, node, &mut c.problems) else {
        return false;
    };
    section.walk(keys, model, c);
    section.close(&mut c.problems);
    true
}

/// A value that `read` accepts, or none after its error was reported.
pub(super) fn read_value<'n, T>(
    key: &str,
    node: &'n Node,
    problems: &mut Problems,
    read: impl FnOnce(&'n Node) -> Result<T, String>,
) -> Option<T> {
    let wrong = |must: String| report_wrong(key, node, &must, problems);
    read(node).map_err(wrong).ok()
}

#[inline(never)]
pub(super) fn report_wrong(key: &str, node: &Node, must: &str, problems: &mut Problems) {
    let message = format!("`{key}` is {}; it must be {must}", node.describe());
    problems.error(node.at, message);
}
