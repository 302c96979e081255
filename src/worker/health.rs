//! What comes of the failures of a backend, of its probes and of its ejections.

use log::{info, warn};

use crate::board::{BackendCell, Board};
use crate::core::backend::BackendId;
use crate::core::finding::Reason;
use crate::core::health::Verdict;
use crate::core::text::plural;
use crate::worker::span::span;
use crate::worker::timers::{Timeout, Timers};
use crate::worker::upstreams::{Upstream, UpstreamTable};

/// How far real traffic came before its backend failed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedAt {
    /// There was no connection.
    Connect,
    /// There was one, but no answer in time, or none that counts as good.
    Answer,
}

impl UpstreamTable {
    /// A backend failed real traffic: counts it, and ejects it when that is too often.
    pub(crate) fn on_failure(
        &mut self,
        board: &Board,
        timers: &mut Timers,
        id: BackendId,
        stage: FailedAt,
        reason: &str,
    ) {
        // Whom others have ejected meanwhile counts against ejecting this one.
        self.adopt_all(board, timers);
        let entry = self.entry(id);
        let (cell, what) = match stage {
            FailedAt::Connect => (BackendCell::ConnectFailures, "connect failed"),
            FailedAt::Answer => (BackendCell::AnswerFailures, "answer failed"),
        };
        self.count_backend(board, id, cell, 1);
        log::debug!("backend {}: {what}: {reason}", entry.label);
        let upstream = &self.list[entry.upstream as usize];
        let policy = upstream.settings.passive.policy;
        let is_due = self.backends.get(id).health.is_due(&policy);
        let may_eject = is_due && self.may_eject(upstream, id);
        let health = &mut self.backends.get_mut(id).health;
        let Some(ejection) = health.on_failure(&policy, may_eject, timers.now) else {
            return;
        };
        timers.wheel.arm(ejection.until, Timeout::EjectEnd(id));
        self.count_backend(board, id, BackendCell::Ejections, 1);
        let entry = self.entry(id);
        warn!(
            "backend {} EJECTED for {} after {} failure{}: {reason}",
            entry.label,
            span(ejection.until.since_ms(timers.now)),
            ejection.failures,
            plural(ejection.failures == 1),
        );
        let entry = self.entry_mut(id);
        entry.ejected_here = true;
        entry.changed_at = timers.now;
        self.tell_ejection(board, id);
        self.refresh_up(board, id);
    }

    /// Never the last usable one, never more than the configured share.
    fn may_eject(&self, upstream: &Upstream, id: BackendId) -> bool {
        let members = || {
            upstream
                .members
                .iter()
                .map(|&member| (member, self.backends.get(member)))
        };
        let ejected = members()
            .filter(|(_, backend)| backend.health.is_ejected())
            .count();
        let share_max = upstream.settings.passive.eject_percent_max as usize;
        self.has_others(id) && (ejected + 1) * 100 <= upstream.members.len() * share_max
    }

    /// Whether another backend of its upstream takes new clients.
    pub(crate) fn has_others(&self, id: BackendId) -> bool {
        let upstream = &self.list[self.entry(id).upstream as usize];
        upstream
            .members
            .iter()
            .any(|&member| member != id && self.backends.get(member).is_in_turn(false))
    }

    /// An ejection may have ended.
    pub(crate) fn on_eject_end(&mut self, board: &Board, timers: &Timers, id: BackendId) {
        if self.entries[id.0 as usize].is_none() {
            return;
        }
        if self.backends.get_mut(id).health.on_eject_end(timers.now) {
            let entry = self.entry_mut(id);
            if std::mem::take(&mut entry.ejected_here) {
                info!(
                    "backend {} takes traffic again after its ejection",
                    entry.label
                );
            }
            self.refresh_up(board, id);
        }
    }

    /// Takes the outcome of a probe: counts it, and logs the change that it made.
    pub(crate) fn on_probe(
        &mut self,
        board: &Board,
        timers: &Timers,
        id: BackendId,
        outcome: Result<(), Reason>,
        took_ms: u64,
    ) {
        let entry = self.entry(id);
        let cell = if outcome.is_ok() {
            BackendCell::ProbesPassed
        } else {
            BackendCell::ProbesFailed
        };
        self.count_backend(board, id, cell, 1);
        self.count_backend(board, id, BackendCell::ProbeMs, took_ms);
        let settings = &self.list[entry.upstream as usize].settings;
        let Some(check) = &settings.health_check else {
            return;
        };
        let thresholds = check.thresholds;
        let health = &mut self.backends.get_mut(id).health;
        let was_ejected = health.is_ejected();
        let transition = health.on_probe(outcome.is_ok(), thresholds, timers.now);
        let is_ejected = health.is_ejected();
        let label = &self.entry(id).label;
        if let Some(change) = transition {
            let age = span(change.previous_ms);
            let s = plural(change.results == 1);
            match (change.to, outcome) {
                (Verdict::Up, _) => {
                    info!(
                        "backend {label} UP after {} passed check{s}, down for {age}",
                        change.results
                    );
                }
                (Verdict::Down, reason) => {
                    let reason = reason.err().unwrap_or(Reason::Other);
                    warn!(
                        "backend {label} DOWN after {} failed check{s}: {reason}; up for {age}",
                        change.results
                    );
                }
            }
        } else if was_ejected && !is_ejected {
            info!("backend {label} takes traffic again: a check passed");
        }
        if outcome.is_ok() {
            self.entry_mut(id).ejected_here = false;
            self.tell_ejection(board, id);
        }
        self.tell_finding(board, id, outcome.err());
        if self.first_unchecked.is_some() {
            self.look_at_first_round(board);
        }
        self.refresh_up(board, id);
    }

    /// The health of a backend may have changed: brings its gauge up to date, and has those who
    /// wait for it looked at.
    pub(crate) fn refresh_up(&mut self, board: &Board, id: BackendId) {
        self.recheck_queue(id);
        let backend = self.backends.get(id);
        let column = self.entry(id).column;
        if board.is_shared() && backend.is_retired() {
            // The column may belong to one that came back under its name.
            return;
        }
        let up = backend.health.is_usable();
        board.set(column, BackendCell::Up, u64::from(up));
    }
}
