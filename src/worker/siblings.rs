//! What this worker has in common with the others of its machine, through the board: loads, turns
//! of round robin, what probes have found, ejections, drains, and who probes.
//!
//! Nothing here waits for anybody. Each turn looks once whether somebody has changed something
//! that others should know; if so the worker adopts all of it before it does anything else. A
//! worker on its own is a machine of one, and has nobody whose loads it could look at.

use std::sync::atomic::{Ordering, fence};

use crate::board::{AtomicU64, BackendCell, BackendColumn, BackendWord, Board, UpstreamWord};
use crate::core::backend::{BackendId, Service};
use crate::core::balance::Algorithm;
use crate::core::finding::{EjectedUntil, Finding, Reason};
use crate::core::health::Verdict;
use crate::core::lease::{self, Claim, Holder, Term};
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::attempt::Attempt;
use crate::worker::backend_entry::BackendEntry;
use crate::worker::keys::{UpstreamSlot, key_of};
use crate::worker::timers::{Timeout, Timers};
use crate::worker::upstreams::UpstreamTable;

/// Attempts to put a word in the place of another while others do the same. Whoever loses so
/// often has met as many that have won.
const CLAIMS_MAX: usize = 8;

/// Whether loads decide who is picked.
fn goes_by_load(algorithm: Algorithm) -> bool {
    match algorithm {
        Algorithm::LeastConnections | Algorithm::RandomTwo => true,
        Algorithm::RoundRobin | Algorithm::Hash => false,
    }
}

/// How a request for the lease on a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    /// It is ours, as it was before.
    Kept,
    /// It is ours from now on.
    Won,
    /// Another worker has it, until then unless it renews.
    Theirs(Tick),
}

impl<N: Net> Worker<N> {
    /// Takes a backend out of service, or back, in all who see its column; what it has goes on.
    /// Whether there is such a backend.
    pub fn set_draining(&mut self, upstream: &str, identity: &str, drains: bool) -> bool {
        let shared = &self.shared;
        let upstreams = shared
            .upstreams
            .list
            .iter()
            .filter(|it| it.name == upstream);
        let mut members = upstreams.flat_map(|it| it.members.iter().copied());
        let found = members.find(|id| shared.upstreams.backends.get(*id).identity == identity);
        if let Some(id) = found {
            shared
                .board
                .set_draining(shared.upstreams.entry(id).column, drains);
        }
        found.is_some()
    }

    /// Adopts what others have changed since the last turn.
    pub(crate) fn look_again(&mut self) {
        self.shared
            .upstreams
            .adopt_all(&self.shared.board, &mut self.shared.timers);
        // Sessions take on changes as well, and know nothing of probes.
        if self.probes_looked_at != self.shared.upstreams.seen_changes {
            self.probes_looked_at = self.shared.upstreams.seen_changes;
            self.look_at_probes();
        }
    }
}

// Loads and turns.
impl UpstreamTable {
    /// Brings what a pick goes by up to date: the loads of the others, at every pick where a
    /// limit is to hold for the whole machine, otherwise once a turn where the algorithm asks.
    pub(crate) fn see_loads(&mut self, board: &Board, timers: &Timers, slot: UpstreamSlot) {
        if !board.is_shared() {
            return;
        }
        let upstream = &mut self.list[slot as usize];
        let is_first = std::mem::replace(&mut upstream.seen_at, timers.turn) != timers.turn;
        if upstream.has_limits || is_first && goes_by_load(upstream.balancer.algorithm()) {
            self.see_changed_loads(board);
        }
    }

    /// Looks at those whose loads others have changed since the last time; at all of them where
    /// that is not known.
    fn see_changed_loads(&mut self, board: &Board) {
        let mut columns = std::mem::take(&mut self.loads.columns);
        let is_known = board.read_notes(&mut self.loads.read, &mut columns);
        if std::mem::take(&mut self.loads.are_unknown) || !is_known {
            (0..self.entries.len())
                .for_each(|index| self.see_load(board, BackendId(key_of(index))));
        } else {
            for column in &columns {
                if let Some(id) = self.loads.owner(*column) {
                    self.see_load(board, id);
                }
            }
        }
        columns.clear();
        self.loads.columns = columns;
    }

    /// Adds up what others have at a backend, if that counts for anything.
    pub(crate) fn see_load(&mut self, board: &Board, id: BackendId) {
        let Some(entry) = &self.entries[id.0 as usize] else {
            return;
        };
        let upstream = &self.list[entry.upstream as usize];
        if !upstream.has_limits && !goes_by_load(upstream.balancer.algorithm()) {
            return;
        }
        let backend = self.backends.get(id);
        if !entry.column.is_listed() {
            return;
        }
        // What this worker still has there from before a reload removed the backend, and another
        // brought it back, counts as well.
        let load = board.total(entry.column, BackendCell::Active);
        let elsewhere = load.saturating_sub(u64::from(backend.active()));
        let elsewhere = u32::try_from(elsewhere).unwrap_or(u32::MAX);
        if backend.load_elsewhere != elsewhere {
            self.backends.get_mut(id).load_elsewhere = elsewhere;
        }
    }

    /// Whether a backend has more than its limit, now that this worker has added one. Of two that
    /// add one at the same time at least one sees the other: each writes its own load before it
    /// reads the other's, and the fence keeps that order.
    pub(crate) fn is_overtaken(&mut self, board: &Board, id: BackendId) -> bool {
        let Some(max) = self.backends.get(id).connections_max else {
            return false;
        };
        if !board.is_shared() {
            return false;
        }
        fence(Ordering::SeqCst);
        self.see_load(board, id);
        self.backends.get(id).load() > max
    }

    /// The number of this turn of the machine's round robin. A retry draws none: the turn was
    /// that of the backend that failed.
    pub(crate) fn draw_turn(&self, board: &Board, attempt: &Attempt) -> Option<u64> {
        if !board.is_shared() {
            // Alone the balancer keeps the turns, also exactly where members come and go.
            return None;
        }
        let upstream = &self.list[attempt.upstream as usize];
        let takes_turns = match upstream.balancer.algorithm() {
            Algorithm::RoundRobin | Algorithm::LeastConnections => true,
            Algorithm::RandomTwo | Algorithm::Hash => false,
        };
        if !takes_turns || attempt.is_bound_by_hash || !attempt.tried().is_empty() {
            return None;
        }
        let turns = board.word(upstream.column, UpstreamWord::Turns);
        Some(turns.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether what is bound to this backend may go there now.
    pub(crate) fn takes_bound(&mut self, board: &Board, timers: &Timers, id: BackendId) -> bool {
        self.see_loads(board, timers, self.entry(id).upstream);
        self.backends.get(id).takes_bound()
    }
}

// What is known of backends.
impl UpstreamTable {
    /// Adopts what others have changed.
    pub(crate) fn adopt_all(&mut self, board: &Board, timers: &mut Timers) {
        let changes = board.changes();
        if changes == self.seen_changes {
            return;
        }
        self.seen_changes = changes;
        // What a worker that has died had was taken off without a note.
        self.loads.are_unknown = true;
        for index in 0..self.entries.len() {
            if self.entries[index].is_some() {
                self.adopt_backend(board, timers, BackendId(key_of(index)));
            }
        }
    }

    /// Adopts what the machine knows of a backend.
    pub(crate) fn adopt_backend(&mut self, board: &Board, timers: &mut Timers, id: BackendId) {
        let column = self.entry(id).column;
        if self.backends.get(id).is_retired() {
            return;
        }
        if column.is_listed() {
            self.adopt_finding(board, id);
            self.adopt_ejection(board, timers, id);
        }
        self.adopt_steering(board, timers.now, (id, column));
        self.refresh_up(board, id);
    }

    /// What an administrator lets it take.
    fn adopt_steering(
        &mut self,
        board: &Board,
        now: Tick,
        (id, column): (BackendId, BackendColumn),
    ) {
        let service = board.service(column);
        let weight = board.weight(column);
        let weight = weight.unwrap_or_else(|| self.entry(id).weight);
        let backend = self.backends.get_mut(id);
        let was_disabled = backend.disabled;
        let before = (backend.draining, was_disabled, backend.weight);
        backend.draining = service != Service::Full;
        backend.disabled = service == Service::Disabled;
        backend.weight = weight;
        if before != (backend.draining, backend.disabled, weight) {
            self.entry_mut(id).changed_at = now;
        }
        let backend = self.backends.get(id);
        if backend.disabled && !was_disabled {
            self.dismiss_queue(id);
        }
    }

    fn adopt_finding(&mut self, board: &Board, id: BackendId) {
        let entry = self.entry(id);
        let settings = &self.list[entry.upstream as usize].settings;
        let word = read(board, entry.column, BackendWord::Finding);
        let since = Tick(read(board, entry.column, BackendWord::FoundAt));
        let Some(finding) = Finding::read(word) else {
            return;
        };
        // Without an address it cannot be used here, whatever others say of it.
        if settings.health_check.is_none() || entry.addresses.is_empty() {
            return;
        }
        let health = &mut self.backends.get_mut(id).health;
        let is_news = health.verdict() != finding.verdict;
        health.adopt(finding.verdict, finding.contrary, finding.grounds, since);
        if is_news {
            let label = &self.entry(id).label;
            match (finding.verdict, finding.reason) {
                (Verdict::Down, Some(reason)) => {
                    log::debug!("backend {label} is down, says another worker: {reason}");
                }
                (Verdict::Down, None) => log::debug!("backend {label} is down, as others say"),
                (Verdict::Up, _) => log::debug!("backend {label} is up, says another worker"),
            }
        }
    }

    fn adopt_ejection(&mut self, board: &Board, timers: &mut Timers, id: BackendId) {
        let now = timers.now;
        let word = read(board, self.entry(id).column, BackendWord::Ejection);
        let ejected = EjectedUntil::read(word).filter(|it| it.until > now);
        let known = self.backends.get(id).health.ejection();
        let Some(EjectedUntil { until, count }) = ejected else {
            if self.backends.get_mut(id).health.take_on_eject_end(now) {
                self.entry_mut(id).ejected_here = false;
            }
            return;
        };
        // Two workers that eject at the same time must not leave nobody.
        if known.is_some_and(|(at, _)| at == until) || !self.has_others(id) {
            return;
        }
        let health = &mut self.backends.get_mut(id).health;
        health.take_on_ejection(until, count, now);
        self.entry_mut(id).changed_at = now;
        timers.wheel.arm(until, Timeout::EjectEnd(id));
    }

    /// Tells the others what the probes of a backend have found.
    pub(crate) fn tell_finding(&self, board: &Board, id: BackendId, reason: Option<Reason>) {
        let health = &self.backends.get(id).health;
        let finding = Finding {
            verdict: health.verdict(),
            contrary: health.contrary(),
            grounds: health.grounds(),
            reason,
        };
        let column = self.entry(id).column;
        let before = Finding::read(read(board, column, BackendWord::Finding));
        write(board, column, BackendWord::FoundAt, health.since().0);
        write(board, column, BackendWord::Finding, finding.word());
        if before.is_none_or(|before| before.verdict != finding.verdict) {
            board.touch();
        }
    }

    /// Looks whether every backend has been checked once, by whomever, and tells it.
    #[cold]
    pub(crate) fn look_at_first_round(&mut self, board: &Board) {
        let Some(from) = self.first_unchecked else {
            return;
        };
        let is_unchecked = |entry: &Option<BackendEntry>| {
            let checked = entry.as_ref().filter(|it| it.probe.is_some());
            checked.is_some_and(|it| {
                let word = read(board, it.column, BackendWord::Finding);
                it.column.is_listed() && Finding::read(word).is_none()
            })
        };
        let mut left = self.entries.iter().skip(from);
        self.first_unchecked = left.position(is_unchecked).map(|at| from + at);
        if self.first_unchecked.is_none() {
            board.end_first_round();
        }
    }

    /// Forgets what probes have found: nobody probes the backend any more.
    pub(crate) fn forget_finding(&self, board: &Board, id: BackendId) {
        write(board, self.entry(id).column, BackendWord::Finding, 0);
    }

    /// Tells the others that a backend is ejected, or no longer.
    pub(crate) fn tell_ejection(&self, board: &Board, id: BackendId) {
        let ejection = self.backends.get(id).health.ejection();
        let word = ejection.map_or(0, |(until, count)| EjectedUntil { until, count }.word());
        let column = self.entry(id).column;
        if read(board, column, BackendWord::Ejection) != word {
            write(board, column, BackendWord::Ejection, word);
            board.touch();
        }
    }
}

// Who probes.
impl UpstreamTable {
    /// Asks for the lease on the probes of a backend until then, or renews it. Of one that
    /// is not on the board nobody else knows.
    pub(crate) fn claim_probe(
        &self,
        board: &Board,
        timers: &Timers,
        id: BackendId,
        until: Tick,
    ) -> Claimed {
        let Some((word, me)) = self.probe_lease(board, id) else {
            return Claimed::Kept;
        };
        let mut held = word.load(Ordering::Acquire);
        for _ in 0..CLAIMS_MAX {
            let taken = match lease::claim(held, me, timers.now, until) {
                Claim::Wait(until) => return Claimed::Theirs(until),
                Claim::Take(taken) => taken,
            };
            match word.compare_exchange(held, taken, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) if lease::holds(held, me) => return Claimed::Kept,
                Ok(_) => return Claimed::Won,
                Err(now) => held = now,
            }
        }
        Claimed::Theirs(Term::read(held).map_or(until, |term| term.until))
    }

    /// Whether this worker probes the backend.
    pub(crate) fn holds_probe(&self, board: &Board, id: BackendId) -> bool {
        self.probe_lease(board, id)
            .is_none_or(|(word, me)| lease::holds(word.load(Ordering::Acquire), me))
    }

    /// Whether nobody probes the backend.
    pub(crate) fn is_probe_free(&self, board: &Board, id: BackendId) -> bool {
        self.probe_lease(board, id)
            .is_some_and(|(word, _)| word.load(Ordering::Acquire) == lease::FREE)
    }

    /// Gives the lease on the probes of a backend away, if it is ours.
    pub(crate) fn free_probe(&self, board: &Board, id: BackendId) {
        let Some((word, me)) = self.probe_lease(board, id) else {
            return;
        };
        let held = word.load(Ordering::Acquire);
        let is_freed = lease::holds(held, me)
            && word
                .compare_exchange(held, lease::FREE, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok();
        if is_freed {
            board.touch();
        }
    }

    fn probe_lease<'a>(&self, board: &'a Board, id: BackendId) -> Option<(&'a AtomicU64, Holder)> {
        let column = self.entry(id).column;
        let word = board.word(column, BackendWord::ProbeLease);
        column.is_listed().then_some((word, board.holder()))
    }
}

fn read(board: &Board, column: BackendColumn, word: BackendWord) -> u64 {
    board.word(column, word).load(Ordering::Acquire)
}

fn write(board: &Board, column: BackendColumn, word: BackendWord, value: u64) {
    board.word(column, word).store(value, Ordering::Release);
}
