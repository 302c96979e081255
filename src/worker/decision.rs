//! What is kept of requests and sessions that have ended, so that somebody can ask later why they
//! ended so: which of them, see [`kept`](crate::worker::kept).

use std::sync::atomic::Ordering;

use crate::board::{BackendWord, Keep};
use crate::config::model::AlgorithmSettings;
use crate::core::backend::{Backend, BackendId};
use crate::core::decision::{
    DecisionWords, Details, Gist, LEFT_OUT_MAX, LeftOut, LeftOutFor, Rule, TRIES_MAX, Try,
};
use crate::core::finding::Finding;
use crate::core::health::Verdict;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::attempt::Attempt;
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
            // With one attempt, whoever could not be used later was no less a candidate.
            let until = if attempt.has_failed() {
                gist.ended
            } else {
                began
            };
            self.note_left_out(attempt, (until, gist.ended), &mut left_out);
        }
        let tries: Vec<Try> = tries.into_iter().flatten().collect();
        words.add(&Details {
            tries: &tries,
            left_out: &left_out,
            reason: traces.reason.unwrap_or_default(),
            taken: traces.taken.unwrap_or_default(),
        });
    }

    /// Who could not have it, of those who were not tried.
    fn note_left_out(&self, attempt: &Attempt, times: (Tick, Tick), found: &mut Vec<LeftOut>) {
        let upstream = &self.upstreams[attempt.upstream];
        let last = attempt.last();
        for &id in upstream.members.iter().take(LOOKED_AT_MAX) {
            let was_tried = Some(id) == last || attempt.tried().contains(&id);
            let Some(backend) = self.upstreams.backends.try_get(id).filter(|_| !was_tried) else {
                continue;
            };
            if let Some(left_out) = self.left_out(id, backend, times) {
                found.push(left_out);
            }
            if found.len() == LEFT_OUT_MAX {
                return;
            }
        }
    }

    /// Why a backend could not be had by then, as is known now.
    fn left_out(
        &self,
        id: BackendId,
        backend: &Backend,
        (until, now): (Tick, Tick),
    ) -> Option<LeftOut> {
        let column = self.upstreams.entry(id).column;
        let told = |what, span_ms: u64| LeftOut {
            backend: self.board.key_of(column),
            what,
            span_s: span_ms / 1_000,
            checks: 0,
            reason: None,
        };
        if backend.disabled {
            return Some(told(LeftOutFor::Disabled, 0));
        }
        if backend.draining {
            return Some(told(LeftOutFor::Draining, 0));
        }
        let health = &backend.health;
        if health.verdict() == Verdict::Down {
            let since = health.since();
            let word = self.board.word(column, BackendWord::Finding);
            let finding = Finding::read(word.load(Ordering::Acquire));
            return (since <= until).then(|| LeftOut {
                checks: health.grounds(),
                reason: finding.and_then(|it| it.reason),
                ..told(LeftOutFor::Down, now.since_ms(since))
            });
        }
        if let Some((end, _)) = health.ejection() {
            return Some(told(LeftOutFor::Ejected, end.since_ms(now)));
        }
        if backend.weight == 0 {
            return Some(told(LeftOutFor::NoWeight, 0));
        }
        backend.is_full().then(|| told(LeftOutFor::Full, 0))
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
