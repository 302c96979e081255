//! What an administrator has changed by hand: it lies over what the file says, and is kept apart
//! from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use log::warn;

use crate::admin::errand::{Change, Target};
use crate::admin::observed::service_word;
use crate::admin::outline::{BackendOutline, Outline};
use crate::board::{BackendColumn, Board};
use crate::config::model::{Backend, Config, Upstream};
use crate::config::{self, Source};
use crate::core::backend::Service;

/// What was changed of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Steered {
    pub(crate) service: Service,
    /// None is that of the file.
    pub(crate) weight: Option<u32>,
}

/// All that was changed, by upstream and backend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Overlay {
    backends: BTreeMap<Name, Steered>,
    added: BTreeMap<Name, Added>,
    /// Of the file.
    removed: BTreeSet<Name>,
}

/// An upstream and a backend in it.
type Name = (String, String);

/// A backend that no file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) address: String,
    pub(crate) weight: Option<u32>,
}

/// A change of which backends there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    Add(Name, Added),
    Remove {
        name: Name,
        /// Whether the file has it: else it need not be remembered.
        is_in_file: bool,
    },
}

impl Edit {
    /// Why it would change nothing in that configuration, if it would not.
    pub(crate) fn in_vain(&self, config: &Config) -> Option<String> {
        let Self::Add((upstream, identity), added) = self else {
            return None;
        };
        let backend = config::added_backend(&added.address, identity, added.weight).ok()?;
        let mut upstreams = config.upstreams.iter();
        let found = upstreams.find(|it| it.name == *upstream);
        let Some(found) = found else {
            return Some(format!("no upstream {upstream}"));
        };
        let mut backends = found.backends.iter();
        let is_it = |it: &&Backend| it.identity == *identity || it.address == backend.address;
        let other = backends.find(is_it)?;
        let Backend {
            identity, address, ..
        } = other;
        Some(format!("{upstream} has {address} already, as {identity}"))
    }

    /// The same where that is the file.
    pub(crate) fn of_file(self, config: &Config) -> Self {
        match self {
            Self::Add(..) => self,
            Self::Remove { name, .. } => {
                let mut upstreams = config.upstreams.iter();
                let upstream = upstreams.find(|it| it.name == name.0);
                let is_it = |it: &Backend| it.identity == name.1;
                let is_in_file = upstream.is_some_and(|it| it.backends.iter().any(is_it));
                Self::Remove { name, is_in_file }
            }
        }
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add((upstream, backend), added) if *backend == added.address => {
                write!(f, "{upstream}/{backend} is added")
            }
            Self::Add((upstream, backend), added) => {
                write!(f, "{upstream}/{backend} is added at {}", added.address)
            }
            Self::Remove { name, .. } => write!(f, "{}/{} is removed", name.0, name.1),
        }
    }
}

impl Steered {
    fn after(self, change: Change) -> Self {
        match change {
            Change::Drain => self.serving(Service::Draining),
            Change::Disable => self.serving(Service::Disabled),
            Change::Enable => self.serving(Service::Full),
            Change::Weight { weight } => Self { weight, ..self },
        }
    }

    fn serving(self, service: Service) -> Self {
        Self { service, ..self }
    }

    fn weight_words(self, of_file: u32) -> String {
        match self.weight {
            Some(weight) => weight.to_string(),
            None => format!("{of_file} (file)"),
        }
    }
}

/// A backend before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) upstream: String,
    pub(crate) backend: String,
    pub(crate) before: Steered,
    pub(crate) after: Steered,
    /// Of the file.
    pub(crate) weight: u32,
}

impl Turn {
    /// What has changed, in a line.
    pub(crate) fn line(&self, change: Change) -> String {
        let (verb, words): (_, fn(Steered, u32) -> String) = match change {
            Change::Weight { .. } => ("has weight", Steered::weight_words),
            Change::Drain | Change::Disable | Change::Enable => {
                ("is", |it, _| service_word(it.service).to_owned())
            }
        };
        let [before, after] = [self.before, self.after].map(|it| words(it, self.weight));
        let begun = format!("{}/{} {verb} {after}", self.upstream, self.backend);
        match before == after {
            true => format!("{begun} already"),
            false => format!("{begun}, was {before}"),
        }
    }
}

impl Overlay {
    /// How many changes there are.
    pub(crate) fn len(&self) -> usize {
        self.backends.len() + self.added.len() + self.removed.len()
    }

    /// Backends that take other traffic than the file has it.
    pub(crate) fn steered(&self) -> impl Iterator<Item = (&Name, &Steered)> {
        self.backends.iter()
    }

    pub(crate) fn added(&self) -> impl Iterator<Item = (&Name, &Added)> {
        self.added.iter()
    }

    pub(crate) fn removed(&self) -> impl Iterator<Item = &Name> {
        self.removed.iter()
    }

    /// A backend of the file is not there.
    pub(crate) fn put_removed(&mut self, name: Name) {
        self.removed.insert(name);
    }

    /// Changes which backends there are.
    pub(crate) fn edit(&mut self, edit: Edit) {
        match edit {
            Edit::Add(name, added) => {
                self.added.insert(name, added);
            }
            Edit::Remove { name, is_in_file } => {
                self.backends.remove(&name);
                self.added.remove(&name);
                if is_in_file {
                    self.removed.insert(name);
                }
            }
        }
    }

    /// Adds and removes backends in a configuration as its file has it. What the file has by now
    /// is not added once more.
    ///
    /// # Errors
    /// What is wrong with the result.
    pub(crate) fn shape(&self, config: &mut Config, source: &Source) -> Result<(), String> {
        if self.added.is_empty() && self.removed.is_empty() {
            return Ok(());
        }
        let mut shaped = config.clone();
        for upstream in &mut shaped.upstreams {
            self.shape_upstream(upstream)?;
        }
        config::check_changed(&shaped, source)?;
        *config = shaped;
        Ok(())
    }

    /// The same where it must go on: then that is left out with which it would not.
    pub(crate) fn shape_or_warn(&self, config: &mut Config, source: &Source) {
        if let Err(reason) = self.shape(config, source) {
            warn!(
                "backends that were added or removed by hand are left as the file has them, as \
                   they do not fit it: {reason}"
            );
        }
    }

    fn shape_upstream(&self, upstream: &mut Upstream) -> Result<(), String> {
        let name = upstream.name.clone();
        let is_removed = |it: &Backend| {
            let key = (name.clone(), it.identity.clone());
            self.removed.contains(&key)
        };
        upstream.backends.retain(|it| !is_removed(it));
        for ((_, identity), added) in self.added.iter().filter(|((of, _), _)| *of == name) {
            let backend = config::added_backend(&added.address, identity, added.weight)?;
            let is_it = |it: &Backend| it.identity == *identity || it.address == backend.address;
            if !upstream.backends.iter().any(is_it) {
                upstream.backends.push(backend);
            }
        }
        Ok(())
    }

    /// That was changed of a backend.
    pub(crate) fn put(&mut self, upstream: String, backend: String, steered: Steered) {
        self.backends.insert((upstream, backend), steered);
    }

    /// Changes what is meant; what that was and is.
    pub(crate) fn steer(
        &mut self,
        outline: &Outline,
        target: &Target,
        change: Change,
    ) -> Vec<Turn> {
        let Some(upstream) = outline.upstream(&target.upstream) else {
            return Vec::new();
        };
        let meant = upstream.backends.iter().filter(|it| target.means(&it.name));
        let turns = meant.map(|it| self.turn(&upstream.name, it, change));
        turns.collect()
    }

    fn turn(&mut self, upstream: &str, backend: &BackendOutline, change: Change) -> Turn {
        let key = (upstream.to_owned(), backend.name.clone());
        let weight = backend.weight;
        let before = self.backends.get(&key).copied().unwrap_or_default();
        let after = before.after(change);
        if after == Steered::default() {
            self.backends.remove(&key);
        } else {
            self.backends.insert(key.clone(), after);
        }
        let (upstream, backend) = key;
        Turn {
            upstream,
            backend,
            before,
            after,
            weight,
        }
    }

    /// Everything is as the file has it; how many changes there were.
    pub(crate) fn reset(&mut self) -> usize {
        std::mem::take(self).len()
    }

    /// Tells all who serve.
    pub(crate) fn apply(&self, outline: &Outline, board: &Board) {
        let mut last = 0;
        for upstream in &outline.upstreams {
            for backend in &upstream.backends {
                let key = (upstream.name.clone(), backend.name.clone());
                let steered = self.backends.get(&key).copied().unwrap_or_default();
                let column: Option<BackendColumn> = board.find_next(&backend.column, &mut last);
                if let Some(column) = column {
                    board.set_service(column, steered.service);
                    board.set_weight(column, steered.weight);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "listen: \":1\"\nbackends: [a:1, b:1]\n";

    fn source(text: &str) -> Source {
        Source {
            file_name: "f".to_owned(),
            text: text.to_owned(),
            files: Vec::new(),
        }
    }

    fn name(config: &Config, backend: &str) -> Name {
        (config.upstreams[0].name.clone(), backend.to_owned())
    }

    /// Whom that file has with these changes.
    fn shaped(overlay: &Overlay, text: &str) -> Result<Vec<String>, String> {
        let source = source(text);
        let mut config = source.compile().expect("it is good").config;
        overlay.shape(&mut config, &source)?;
        let backends = config.upstreams[0].backends.iter();
        Ok(backends.map(|it| it.identity.clone()).collect())
    }

    fn edited(edits: &[(&str, Option<&str>)]) -> Overlay {
        let config = source(FILE).compile().expect("it is good").config;
        let mut overlay = Overlay::default();
        for (backend, address) in edits {
            let name = name(&config, backend);
            let edit = match address {
                Some(address) => Edit::Add(
                    name,
                    Added {
                        address: (*address).to_owned(),
                        weight: None,
                    },
                ),
                None => Edit::Remove {
                    name,
                    is_in_file: true,
                },
            };
            overlay.edit(edit.of_file(&config));
        }
        overlay
    }

    #[test]
    fn backends_come_and_go_over_the_file() {
        for (edits, expected) in [
            (&[("c", Some("c:1"))][..], &["a:1", "b:1", "c"][..]),
            (&[("a:1", None)], &["b:1"]),
            (&[("c", Some("c:1")), ("c", None)], &["a:1", "b:1"]),
            (&[("a:1", None), ("a:1", Some("a:2"))], &["b:1", "a:1"]),
        ] {
            assert_eq!(shaped(&edited(edits), FILE).expect("good"), expected);
        }
        assert_eq!(edited(&[("c", Some("c:1")), ("c", None)]).len(), 0);
    }

    #[test]
    fn what_the_file_has_by_now_is_there_once() {
        let overlay = edited(&[("c", Some("c:1"))]);
        let by_now = "listen: \":1\"\nbackends: [a:1, c:1]\n";
        assert_eq!(shaped(&overlay, by_now).expect("good"), ["a:1", "c:1"]);
    }

    #[test]
    fn what_no_file_could_say_is_refused() {
        for edits in [
            &[("c", Some("nowhere"))][..],
            &[("c", Some("0.0.0.0:1"))],
            &[("", Some("c:1"))],
            &[("a:1", None), ("b:1", None)],
        ] {
            assert!(shaped(&edited(edits), FILE).is_err(), "{edits:?}");
        }
    }

    #[test]
    fn what_was_steered_of_a_backend_goes_with_it() {
        let config = source(FILE).compile().expect("it is good").config;
        let mut overlay = edited(&[("c", Some("c:1"))]);
        let (upstream, backend) = name(&config, "c");
        overlay.put(upstream, backend, Steered::default());
        overlay.edit(
            Edit::Remove {
                name: name(&config, "c"),
                is_in_file: true,
            }
            .of_file(&config),
        );
        assert_eq!(overlay, Overlay::default());
    }
}
