//! What an administrator has changed by hand: it lies over what the file says, and is kept apart
//! from it.

use std::collections::BTreeMap;

use crate::admin::errand::{Change, Target};
use crate::admin::observed::service_word;
use crate::admin::outline::{Outline, UpstreamOutline};
use crate::board::{Board, CountedBackends};
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
    backends: BTreeMap<(String, String), Steered>,
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

    /// In a log line.
    pub(crate) fn words(self) -> String {
        let service = service_word(self.service);
        match self.weight {
            Some(weight) => format!("{service}, weight {weight}"),
            None => service.to_owned(),
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
}

impl Overlay {
    /// How many backends are not as the file has them.
    pub(crate) fn len(&self) -> usize {
        self.backends.len()
    }

    /// Each of them, by upstream and backend.
    pub(crate) fn steered(&self) -> impl Iterator<Item = (&(String, String), &Steered)> {
        self.backends.iter()
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
        let names = names_of(upstream, target.backend.as_deref());
        let turns = names.map(|backend| self.turn(&upstream.name, backend, change));
        turns.collect()
    }

    fn turn(&mut self, upstream: &str, backend: &str, change: Change) -> Turn {
        let key = (upstream.to_owned(), backend.to_owned());
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
        }
    }

    /// Everything is as the file has it; how many backends were not.
    pub(crate) fn reset(&mut self) -> usize {
        std::mem::take(&mut self.backends).len()
    }

    /// Tells all who serve.
    pub(crate) fn apply(&self, outline: &Outline, board: &Board) {
        for upstream in &outline.upstreams {
            for backend in &upstream.backends {
                let key = (upstream.name.clone(), backend.name.clone());
                let steered = self.backends.get(&key).copied().unwrap_or_default();
                if let Some(column) = board.find::<CountedBackends>(&backend.column) {
                    board.set_service(column, steered.service);
                    board.set_weight(column, steered.weight);
                }
            }
        }
    }
}

fn names_of<'a>(
    upstream: &'a UpstreamOutline,
    backend: Option<&'a str>,
) -> impl Iterator<Item = &'a str> {
    let names = upstream.backends.iter().map(|it| it.name.as_str());
    names.filter(move |name| backend.is_none_or(|backend| backend == *name))
}
