//! What is kept of requests and sessions that have ended, so that somebody can ask later why they
//! ended so: which of them, see [`kept`](crate::worker::kept).

use std::sync::atomic::Ordering;

use crate::board::{BackendWord, Keep};
use crate::config::model::AlgorithmSettings;
use crate::core::access_log::Why;
use crate::core::backend::{Backend, BackendId};
use crate::core::decision::{
    DecisionWords, Details, Gist, LEFT_OUT_MAX, LeftOut, LeftOutFor, Rule, TRIES_MAX, Try,
};
use crate::core::finding::Finding;
use crate::core::health::Verdict;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::attempt::{Attempt, Excluded};
use crate::worker::keys::UpstreamSlot;
use crate::worker::shared::Shared;
use crate::worker::upstreams::UpstreamTable;

/// Backends of an upstream that are looked at for why they were left out.
const LOOKED_AT_MAX: usize = 1_024;

/// What a decision is made of besides its gist.
pub(crate) struct Traces<'a> {
    /// The beginning of its head.
    pub(crate) head: &'a [u8],
    /// The search for its backend, and when it began.
    pub(crate) attempt: Option<(&'a Attempt, Tick)>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) taken: Option<&'a [u8]>,
}

impl<N: Net> Shared<N> {
    /// Keeps a decision in that ring.
    #[inline(never)]
    pub(crate) fn keep_decision(&self, keep: Keep, gist: &Gist, traces: &Traces<'_>) {
        let mut words = DecisionWords::new(gist, traces.head);
        if keep != Keep::Plain || traces.taken.is_some() {
            self.add_details(gist, traces, &mut words);
        }
        self.board.keep(keep, &words);
    }

    #[cold]
    fn add_details(&self, gist: &Gist, traces: &Traces<'_>, words: &mut DecisionWords) {
        let mut tries = [None; TRIES_MAX];
        let mut left_out = Vec::new();
        if let Some((attempt, began)) = traces.attempt {
            for (to, failed) in tries.iter_mut().zip(attempt.failed_tries()) {
                *to = Some(Try {
                    backend: failed.backend,
                    after_ms: failed.at.since_ms(began),
                    at: failed.stage,
                    reason: failed.reason,
                });
            }
            left_out = self.left_out(gist, attempt, began);
        }
        let tries: Vec<Try> = tries.into_iter().flatten().collect();
        words.add(&Details {
            tries: &tries,
            left_out: &left_out,
            reason: traces.reason.unwrap_or_default(),
            taken: traces.taken.unwrap_or_default(),
        });
    }

    /// Who could not have it when its last backend was picked, or none was.
    fn left_out(&self, gist: &Gist, attempt: &Attempt, began: Tick) -> Vec<LeftOut> {
        let now;
        let excluded = if let Why::NoBackend | Why::QueueTimeout = gist.why {
            now = self.excluded(attempt, None);
            &now
        } else if attempt.has_failed() {
            attempt.excluded()
        } else {
            now = self.excluded(attempt, Some(began));
            &now
        };
        let began = Tick(gist.ended.0.saturating_sub(gist.total_ms));
        let told = excluded.iter().map(|it| LeftOut {
            backend: it.backend,
            what: it.what,
            span_s: match it.what {
                LeftOutFor::Ejected => it.at.since_ms(began),
                LeftOutFor::Down => gist.ended.since_ms(it.at),
                LeftOutFor::Draining
                | LeftOutFor::Disabled
                | LeftOutFor::NoWeight
                | LeftOutFor::Full => 0,
            } / 1_000,
            checks: it.checks,
            reason: it.reason,
        });
        told.collect()
    }

    /// Who cannot be picked now, of those who were not tried; of these only whoever could not have
    /// been picked at that time either.
    pub(crate) fn excluded(&self, attempt: &Attempt, then: Option<Tick>) -> Vec<Excluded> {
        let upstream = &self.upstreams[attempt.upstream];
        let last = attempt.last();
        let mut found = Vec::new();
        for &id in upstream.members.iter().take(LOOKED_AT_MAX) {
            let was_tried = Some(id) == last || attempt.tried().contains(&id);
            let Some(backend) = self.upstreams.backends.try_get(id).filter(|_| !was_tried) else {
                continue;
            };
            found.extend(self.why_excluded(id, backend, then));
            if found.len() == LEFT_OUT_MAX {
                break;
            }
        }
        found
    }

    /// Why a backend cannot be picked, and could not then.
    fn why_excluded(
        &self,
        id: BackendId,
        backend: &Backend,
        then: Option<Tick>,
    ) -> Option<Excluded> {
        let entry = self.upstreams.entry(id);
        let (column, changed_at) = (entry.column, entry.changed_at);
        let health = &backend.health;
        let told = |what, at| Excluded {
            backend: self.board.key_of(column),
            what,
            at,
            checks: 0,
            reason: None,
        };
        let (since, excluded) = if backend.disabled {
            (changed_at, told(LeftOutFor::Disabled, changed_at))
        } else if backend.draining {
            (changed_at, told(LeftOutFor::Draining, changed_at))
        } else if health.verdict() == Verdict::Down {
            let since = health.since();
            let word = self.board.word(column, BackendWord::Finding);
            let finding = Finding::read(word.load(Ordering::Acquire));
            let down = Excluded {
                checks: health.grounds(),
                reason: finding.and_then(|it| it.reason),
                ..told(LeftOutFor::Down, since)
            };
            (since, down)
        } else if let Some((end, _)) = health.ejection() {
            (changed_at, told(LeftOutFor::Ejected, end))
        } else if backend.weight == 0 {
            (changed_at, told(LeftOutFor::NoWeight, changed_at))
        } else if backend.is_full() {
            // Since when is not known.
            (self.timers.now, told(LeftOutFor::Full, self.timers.now))
        } else {
            return None;
        };
        then.is_none_or(|then| since <= then).then_some(excluded)
    }
}

impl UpstreamTable {
    /// How an upstream picks where nothing binds the client.
    pub(crate) fn rule_of(&self, slot: UpstreamSlot) -> Rule {
        match self[slot].settings.algorithm {
            AlgorithmSettings::RoundRobin => Rule::RoundRobin,
            AlgorithmSettings::LeastConn => Rule::LeastConn,
            AlgorithmSettings::RandomTwo => Rule::RandomTwo,
            AlgorithmSettings::Hash(_) => Rule::Hash,
        }
    }
}
