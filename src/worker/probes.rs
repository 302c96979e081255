//! Health probes: timer events and ordinary sockets of the same loop.
//!
//! A backend has one probe at most, so probes never overlap. Its timer stands for the next start
//! while it waits, and for the timeout while it runs.
//!
//! Of several workers only the one that has the backend's lease probes it. It renews the lease at
//! every start, until the probe must have ended, and at every end, until just after the next
//! start. The timers of the others stand for the end of its term.

use std::time::Duration;

use crate::core::backend::BackendId;
use crate::core::finding::Reason;
use crate::core::health::Verdict;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::keys::{UpstreamSlot, key_of};
use crate::worker::probe::{Found, Probe, Running, connect_probe, step};
use crate::worker::siblings::Claimed;
use crate::worker::timers::Timeout;
use crate::worker::upstreams::UpstreamTable;

/// The share of the interval by which the start of a probe is drawn earlier or later, in percent.
const JITTER_PERCENT: u64 = 10;

/// How late a worker may be before another takes its probe over, as a share of the interval in
/// percent, and the bounds of that.
const LATE_PERCENT: u64 = 10;
const LATE_MS_MIN: u64 = 20;
const LATE_MS_MAX: u64 = 1_000;

/// Those who wait for a lease to end look again within this time after it, not all at once.
const LOOK_SPREAD_MS: u64 = 10;

/// The first probes of all backends are spread over this time, so that a dead backend is found
/// soon after the start.
const FIRST_ROUND_MS: u64 = 500;

/// How long after its answer a server may take to end the connection, as it was asked to. Who ends
/// first keeps the record of it (TIME-WAIT, RFC 9293 section 3.6), and that is no burden on the
/// side that listens.
const END_MS: u64 = 100;

impl<N: Net> Worker<N> {
    /// Gives a backend its probe, to start soon.
    pub(crate) fn add_probe(&mut self, backend: BackendId) {
        let shared = &mut self.shared;
        let generation = shared.io.next_generation();
        let at = shared.timers.now.after_ms(shared.rng.below(FIRST_ROUND_MS));
        let vacant = self.probes.vacant_entry();
        let key = key_of(vacant.key());
        let timer = shared
            .timers
            .wheel
            .arm(at, Timeout::Probe { key, generation });
        shared.upstreams.entry_mut(backend).probe = Some(key);
        vacant.insert(Probe {
            backend,
            generation,
            timer: Some((at, timer)),
            running: None,
        });
    }

    /// Ends the probe of a backend, if it has one.
    pub(crate) fn drop_probe(&mut self, backend: BackendId) {
        let Some(key) = self.shared.upstreams.entry_mut(backend).probe.take() else {
            return;
        };
        let probe = self.probes.remove(key as usize);
        if let Some((_, timer)) = probe.timer {
            self.shared.timers.wheel.cancel(timer);
        }
        if let Some(running) = probe.running {
            running.close(&mut self.shared);
        }
        self.shared
            .upstreams
            .free_probe(&self.shared.board, backend);
    }

    /// Somebody has changed something: probes that nobody runs any more start.
    pub(crate) fn look_at_probes(&mut self) {
        for index in 0..self.probes.capacity() {
            let Some(probe) = self.probes.get(index) else {
                continue;
            };
            let key = key_of(index);
            if !probe.is_running()
                && self
                    .shared
                    .upstreams
                    .is_probe_free(&self.shared.board, probe.backend)
            {
                // Spread, as whoever died may have left many. Never later than before, or one
                // change after another would put it off for ever.
                let due = probe.timer.map(|(due, _)| due);
                let Some(spans) = check_spans(&self.shared.upstreams, probe.backend) else {
                    continue;
                };
                let interval_ms = spans.interval_ms();
                let spread = self.shared.rng.below(FIRST_ROUND_MS.min(interval_ms / 2));
                let at = self.shared.timers.now.after_ms(spread);
                if due.is_none_or(|due| at < due) {
                    self.arm_probe(key, at);
                }
            }
        }
    }

    /// Whether a running probe still has its lease. One that has lost it ends without a result:
    /// this worker has stood still for so long that another has taken over. By then the timeout
    /// of the probe has passed, so this is asked at the next turn.
    fn check_lease(&mut self, key: u32) -> bool {
        let probe = &mut self.probes[key as usize];
        if self
            .shared
            .upstreams
            .holds_probe(&self.shared.board, probe.backend)
        {
            return true;
        }
        if let Some(running) = probe.running.take() {
            running.close(&mut self.shared);
        }
        self.arm_probe(key, self.shared.timers.now);
        false
    }

    /// The timer of a probe: start, or give up waiting.
    pub(crate) fn on_probe_timer(&mut self, key: u32, generation: u32) {
        let Some(probe) = self.probes.get_mut(key as usize) else {
            return;
        };
        if probe.generation != generation {
            return;
        }
        probe.timer = None;
        if probe.is_running() {
            // An answer that came in this very turn beats the timeout.
            self.run_probe(key);
            self.decide_at_last(key);
            self.end_probe(key);
        } else {
            self.start_probe(key);
        }
    }

    fn start_probe(&mut self, key: u32) {
        let now = self.shared.timers.now;
        let Some(probe) = self.probes.get(key as usize) else {
            return;
        };
        let backend = probe.backend;
        if self.shared.upstreams.entry(backend).addresses.is_empty() {
            return self.schedule_probe(key, now);
        }
        let Some(spans) = check_spans(&self.shared.upstreams, backend) else {
            return;
        };
        let timeout = spans.timeout;
        let until = now.after(timeout).after_ms(spans.late_ms());
        match self.shared.upstreams.claim_probe(
            &self.shared.board,
            &self.shared.timers,
            backend,
            until,
        ) {
            Claimed::Kept => {}
            // Goes on from what the last prober has found.
            Claimed::Won => self.shared.upstreams.adopt_backend(
                &self.shared.board,
                &mut self.shared.timers,
                backend,
            ),
            Claimed::Theirs(until) => return self.await_lease(key, until),
        }
        match connect_probe(key, &mut self.shared, backend, now) {
            Ok(running) => {
                self.probes[key as usize].running = Some(running);
                self.arm_probe(key, now.after(timeout));
            }
            // Out of descriptors. The lease is not renewed: another worker may have some.
            Err(None) => self.arm_probe(key, now.after(spans.interval)),
            Err(Some(reason)) => {
                self.shared.upstreams.on_probe(
                    &self.shared.board,
                    &self.shared.timers,
                    backend,
                    Err(reason),
                    0,
                );
                self.schedule_probe(key, now);
            }
        }
    }

    /// Runs a probe until it has to wait or is over.
    pub(crate) fn run_probe(&mut self, key: u32) {
        let Some(probe) = self.probes.get(key as usize) else {
            return;
        };
        let backend = probe.backend;
        if !probe.is_running() || !self.check_lease(key) {
            return;
        }
        while let Some(running) = &mut self.probes[key as usize].running {
            match step(running, &mut self.shared, backend) {
                Found::Wait => return self.await_end(key),
                Found::Nothing => {}
                Found::Outcome(outcome) => self.decide_probe(key, outcome),
                Found::Unreachable(reason) => return self.try_next_address(key, reason),
                Found::Over => return self.end_probe(key),
            }
        }
    }

    /// Shortens the wait for a server that has answered and not ended the connection.
    fn await_end(&mut self, key: u32) {
        let now = self.shared.timers.now;
        let probe = &self.probes[key as usize];
        if let Some((due, _)) = probe.timer
            && let Some(running) = &probe.running
            && running.has_answer()
        {
            // One that may still be refused waits at least for another way there and back.
            let wait_ms = match running.is_decided {
                true => END_MS,
                false => END_MS.max(now.since_ms(running.started)),
            };
            self.arm_probe(key, due.min(now.after_ms(wait_ms)));
        }
    }

    fn decide_at_last(&mut self, key: u32) {
        let running = self.probes[key as usize].running.as_ref();
        if let Some(outcome) = running.map(Running::outcome_at_last) {
            self.decide_probe(key, outcome);
        }
    }

    /// Takes the outcome of a probe that runs; the first one counts.
    fn decide_probe(&mut self, key: u32, outcome: Result<(), Reason>) {
        let probe = &mut self.probes[key as usize];
        if let Some(running) = &mut probe.running
            && !std::mem::replace(&mut running.is_decided, true)
        {
            self.shared.upstreams.on_probe(
                &self.shared.board,
                &self.shared.timers,
                probe.backend,
                outcome,
                self.shared.timers.now.since_ms(running.started),
            );
        }
    }

    fn try_next_address(&mut self, key: u32, reason: Reason) {
        let probe = &mut self.probes[key as usize];
        let backend = probe.backend;
        let Some(running) = probe.running.take() else {
            return;
        };
        let (started, failed) = (running.started, running.addresses_failed + 1);
        running.close(&mut self.shared);
        let entry = self.shared.upstreams.entry_mut(backend);
        entry.rotate();
        if usize::from(failed) < entry.addresses.len()
            && let Ok(mut next) = connect_probe(key, &mut self.shared, backend, started)
        {
            next.addresses_failed = failed;
            self.probes[key as usize].running = Some(next);
            return;
        }
        self.shared.upstreams.on_probe(
            &self.shared.board,
            &self.shared.timers,
            backend,
            Err(reason),
            self.shared.timers.now.since_ms(started),
        );
        self.schedule_probe(key, started);
    }

    fn end_probe(&mut self, key: u32) {
        if let Some(running) = self.probes[key as usize].running.take() {
            let started = running.started;
            running.close(&mut self.shared);
            self.schedule_probe(key, started);
        }
    }

    /// Arms the next start, counted from the last one.
    fn schedule_probe(&mut self, key: u32, started: Tick) {
        let shared = &mut self.shared;
        let backend = self.probes[key as usize].backend;
        let Some(spans) = check_spans(&shared.upstreams, backend) else {
            return;
        };
        let interval_ms = spans.interval_ms();
        let spread = interval_ms * JITTER_PERCENT / 100;
        let at = started.after_ms(interval_ms - spread + shared.rng.below(2 * spread + 1));
        let at = at.max(shared.timers.now);
        // Without an address it is for somebody else to probe.
        if shared.upstreams.entry(backend).addresses.is_empty() {
            shared.upstreams.free_probe(&shared.board, backend);
            return self.arm_probe(key, at);
        }
        match shared.upstreams.claim_probe(
            &shared.board,
            &shared.timers,
            backend,
            at.after_ms(spans.late_ms()),
        ) {
            Claimed::Kept | Claimed::Won => self.arm_probe(key, at),
            Claimed::Theirs(until) => self.await_lease(key, until),
        }
    }

    /// Another worker probes: look again when its term ends.
    fn await_lease(&mut self, key: u32, until: Tick) {
        let spread = self.shared.rng.below(LOOK_SPREAD_MS);
        self.arm_probe(key, until.after_ms(spread));
    }

    fn arm_probe(&mut self, key: u32, at: Tick) {
        let shared = &mut self.shared;
        let probe = &mut self.probes[key as usize];
        if let Some((_, timer)) = probe.timer.take() {
            shared.timers.wheel.cancel(timer);
        }
        let what = Timeout::Probe {
            key,
            generation: probe.generation,
        };
        probe.timer = Some((at, shared.timers.wheel.arm(at, what)));
    }
}

/// The times that apply to the probes of a backend as things stand.
struct CheckSpans {
    interval: Duration,
    timeout: Duration,
}

impl CheckSpans {
    fn interval_ms(&self) -> u64 {
        u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX)
    }

    /// How late a prober may be before another takes over.
    fn late_ms(&self) -> u64 {
        (self.interval_ms() / 100 * LATE_PERCENT).clamp(LATE_MS_MIN, LATE_MS_MAX)
    }
}

/// None where nothing is checked: such a backend has no probe.
fn check_spans(upstreams: &UpstreamTable, backend: BackendId) -> Option<CheckSpans> {
    let health = &upstreams.backends.get(backend).health;
    let upstream: UpstreamSlot = upstreams.entry(backend).upstream;
    let settings = &upstreams[upstream].settings;
    let check = settings.health_check.as_ref()?;
    let interval = if health.is_changing() {
        check.fast_interval
    } else if health.verdict() == Verdict::Down {
        check.down_interval
    } else {
        check.interval
    };
    Some(CheckSpans {
        interval,
        timeout: check.timeout.min(interval),
    })
}
