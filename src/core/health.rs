//! What is known of a backend's health, from probes and from real traffic.
//!
//! Two judgements that do not mix. Probes give the *verdict*: up or down, changed only by `rise`
//! or `fall` results in a row. Real traffic may *eject* a backend for a while, however good
//! its probes look. A backend is usable when it is up and not ejected. This file knows no
//! clock, no timer and no socket: it is told results and instants, and says what follows.

use std::time::Duration;

use crate::core::time::Tick;

/// What probes say of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It takes traffic.
    Up,
    /// It takes none.
    Down,
}

/// How many results in a row change the verdict. Zero counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Passes that bring a backend up.
    pub rise: u32,
    /// Failures that take it down.
    pub fall: u32,
}

/// When failures of real traffic eject a backend, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectPolicy {
    /// Consecutive failures that eject; 0 turns ejection off.
    pub failures: u32,
    /// The first ejection, in whole milliseconds; every further one lasts twice as long.
    pub eject: Duration,
    /// The longest ejection, in whole milliseconds.
    pub eject_max: Duration,
}

/// A change of the verdict, for the log and the statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    /// The new verdict.
    pub(crate) to: Verdict,
    /// How many results in a row decided it.
    pub(crate) results: u32,
    /// How long the old verdict had stood, in milliseconds.
    pub(crate) previous_ms: u64,
}

/// The begin of an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ejection {
    /// When [`Health::on_eject_end`] ends it.
    pub(crate) until: Tick,
    /// How many failures in a row caused it.
    pub(crate) failures: u32,
}

/// The health of one backend.
#[derive(Clone, Debug)]
pub struct Health {
    verdict: Verdict,
    since: Tick,
    known: bool,
    /// Probe results in a row that speak against the verdict.
    contrary: u32,
    /// Probe results in a row that led to the verdict; 0 where it was assumed.
    grounds: u32,
    /// Failures of real traffic in a row.
    failures: u32,
    ejected_until: Option<Tick>,
    history: EjectHistory,
}

/// What decides how long the next ejection lasts.
#[derive(Clone, Debug, Default)]
struct EjectHistory {
    /// Ejections so far that count for doubling.
    count: u32,
    /// How long the last one lasted in fact, in milliseconds.
    last_ms: u64,
    began_at: Tick,
    ended_at: Tick,
    /// Whether real traffic has worked since the last one ended.
    worked: bool,
}

impl Health {
    /// Nothing is known yet; `assumed` holds until the first probe result, which decides at once.
    #[must_use]
    pub fn new(assumed: Verdict, now: Tick) -> Self {
        Self {
            verdict: assumed,
            since: now,
            known: false,
            contrary: 0,
            grounds: 0,
            failures: 0,
            ejected_until: None,
            history: EjectHistory::default(),
        }
    }

    /// A probe passed or failed. A pass also ends an ejection: the backend was seen to work.
    pub(crate) fn on_probe(
        &mut self,
        passed: bool,
        t: Thresholds,
        now: Tick,
    ) -> Option<Transition> {
        if passed && self.ejected_until.is_some() {
            self.end_ejection(now);
        }
        let first = !self.known;
        self.known = true;
        let (seen, needed) = if passed {
            (Verdict::Up, t.rise)
        } else {
            (Verdict::Down, t.fall)
        };
        if seen == self.verdict {
            self.contrary = 0;
            return None;
        }
        self.contrary = self.contrary.saturating_add(1);
        if self.contrary < needed && !first {
            return None;
        }
        Some(self.turn(seen, now))
    }

    /// Real traffic failed: a connect was refused or timed out, or a connection was reset.
    ///
    /// `may_eject` is the caller's check that another backend takes new clients and that not too
    /// many are ejected; while it is false the failures are remembered. Failures during an
    /// ejection do not count: they come from attempts made before it.
    pub(crate) fn on_failure(
        &mut self,
        p: &EjectPolicy,
        may_eject: bool,
        now: Tick,
    ) -> Option<Ejection> {
        if p.failures == 0 || self.ejected_until.is_some() {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures < p.failures || !may_eject {
            return None;
        }
        let until = now.after_ms(self.history.begin(p, now));
        self.ejected_until = Some(until);
        Some(Ejection {
            until,
            failures: std::mem::take(&mut self.failures),
        })
    }

    /// Whether one failure more ejects, where that may be: only then somebody has to look.
    #[must_use]
    pub(crate) fn is_due(&self, p: &EjectPolicy) -> bool {
        let is_next = self.failures.saturating_add(1) >= p.failures;
        p.failures > 0 && self.ejected_until.is_none() && is_next
    }

    /// Real traffic worked: the run of failures ends.
    pub(crate) fn on_success(&mut self) {
        self.failures = 0;
        if self.ejected_until.is_none() {
            self.history.worked = true;
        }
    }

    /// The timer of an ejection fired. True when that ended an ejection; false when there is
    /// none, or one that lasts longer, whose own timer is still to come.
    pub(crate) fn on_eject_end(&mut self, now: Tick) -> bool {
        let due = self.ejected_until.is_some_and(|until| until <= now);
        if due {
            self.end_ejection(now);
        }
        due
    }

    /// Another process probes the backend: what it has found counts here as if it had been found
    /// here. `contrary` results in a row speak against the verdict, to which `grounds` in a row
    /// have led at `since`.
    pub(crate) fn adopt(&mut self, verdict: Verdict, contrary: u32, grounds: u32, since: Tick) {
        self.verdict = verdict;
        self.since = since;
        self.contrary = contrary;
        self.grounds = grounds;
        self.known = true;
    }

    /// Another process has ejected the backend, as the `count`th time in a row: so it is here.
    pub(crate) fn take_on_ejection(&mut self, until: Tick, count: u32, now: Tick) {
        if self.ejected_until.is_none() {
            self.history.began_at = now;
        }
        self.history.count = count;
        self.ejected_until = Some(until);
        self.failures = 0;
    }

    /// Another process has seen the backend work, or its ejection is over. True when that ended
    /// an ejection.
    pub(crate) fn take_on_eject_end(&mut self, now: Tick) -> bool {
        let was_ejected = self.ejected_until.is_some();
        if was_ejected {
            self.end_ejection(now);
        }
        was_ejected
    }

    /// Until when failures of real traffic keep it out, and how many ejections in a row that
    /// makes.
    #[must_use]
    pub(crate) fn ejection(&self) -> Option<(Tick, u32)> {
        let until = self.ejected_until?;
        Some((until, self.history.count))
    }

    /// What probes say.
    #[must_use]
    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether failures of real traffic keep it out for now.
    #[must_use]
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected_until.is_some()
    }

    /// Whether it is up and not ejected.
    #[must_use]
    pub(crate) fn is_usable(&self) -> bool {
        self.verdict == Verdict::Up && self.ejected_until.is_none()
    }

    /// Probe results in a row that speak against the verdict.
    #[must_use]
    pub(crate) fn contrary(&self) -> u32 {
        self.contrary
    }

    /// Probe results in a row that led to the verdict; 0 where it was assumed.
    #[must_use]
    pub(crate) fn grounds(&self) -> u32 {
        self.grounds
    }

    /// Whether some results speak against the verdict, but not yet enough to change it.
    #[must_use]
    pub(crate) fn is_changing(&self) -> bool {
        self.contrary > 0
    }

    /// Whether some probe has reported.
    #[must_use]
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// When the verdict was first given.
    #[must_use]
    pub(crate) fn since(&self) -> Tick {
        self.since
    }

    fn turn(&mut self, to: Verdict, now: Tick) -> Transition {
        let transition = Transition {
            to,
            results: self.contrary,
            previous_ms: now.since_ms(self.since),
        };
        self.verdict = to;
        self.since = now;
        self.grounds = self.contrary;
        self.contrary = 0;
        transition
    }

    fn end_ejection(&mut self, now: Tick) {
        self.ejected_until = None;
        self.failures = 0;
        self.history.end(now);
    }
}

impl EjectHistory {
    /// Starts another ejection and says how long it is to last, in milliseconds.
    ///
    /// The doubling starts anew when the backend, since it came back, has both worked and stayed
    /// for at least as long as it had been out. Time alone would not do: with little traffic, or
    /// with connects that time out slowly, a dead backend would look well for longer than a short
    /// ejection lasts.
    fn begin(&mut self, p: &EjectPolicy, now: Tick) -> u64 {
        if self.worked && now.since_ms(self.ended_at) >= self.last_ms {
            self.count = 0;
        }
        let factor = 1_u64.checked_shl(self.count).unwrap_or(u64::MAX);
        self.count = self.count.saturating_add(1);
        self.began_at = now;
        whole_ms(p.eject)
            .saturating_mul(factor)
            .min(whole_ms(p.eject_max))
    }

    fn end(&mut self, now: Tick) {
        self.last_ms = now.since_ms(self.began_at);
        self.ended_at = now;
        self.worked = false;
    }
}

fn whole_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Down, Up};
    use super::*;

    const RISE_2_FALL_3: Thresholds = Thresholds { rise: 2, fall: 3 };
    const EJECT: EjectPolicy = EjectPolicy {
        failures: 3,
        eject: Duration::from_secs(1),
        eject_max: Duration::from_secs(5),
    };

    /// The verdict after each probe, `U` or `D`, in lower case while a change is under way.
    fn verdicts(health: &mut Health, probes: &str, t: Thresholds) -> String {
        let verdict = |health: &Health| match (health.verdict(), health.is_changing()) {
            (Up, false) => 'U',
            (Up, true) => 'u',
            (Down, false) => 'D',
            (Down, true) => 'd',
        };
        let probe = |result| {
            health.on_probe(result == '+', t, Tick(0));
            verdict(health)
        };
        probes.chars().map(probe).collect()
    }

    /// Fails until an ejection begins and says how long it is to last, in milliseconds.
    fn eject(health: &mut Health, now: u64) -> u64 {
        let ejection = (0..EJECT.failures)
            .find_map(|_| health.on_failure(&EJECT, true, Tick(now)))
            .expect("an ejection");
        ejection.until.since_ms(Tick(now))
    }

    #[test]
    fn consecutive_results_change_the_verdict() {
        let table = [
            (Up, "+--+--+---", "UuuUuuUuuD"),
            (Up, "+----++-+", "UuuDDdUuU"),
            (Down, "-+-+++-", "DdDdUUu"),
            (Up, "---+-++", "DDDdDdU"),
            (Down, "+---", "UuuD"),
        ];
        for (assumed, probes, expected) in table {
            let mut health = Health::new(assumed, Tick(0));
            assert_eq!(verdicts(&mut health, probes, RISE_2_FALL_3), expected);
        }
    }

    #[test]
    fn the_first_result_decides_at_once() {
        for (assumed, passed, to) in [(Up, false, Some(Down)), (Down, true, Some(Up))] {
            let mut health = Health::new(assumed, Tick(0));
            assert!(!health.is_known());
            let transition = health.on_probe(passed, RISE_2_FALL_3, Tick(9));
            assert_eq!(transition.map(|t| t.to), to);
            assert!(health.is_known());
        }
    }

    #[test]
    fn a_first_result_as_assumed_is_no_transition() {
        let mut health = Health::new(Up, Tick(0));
        assert_eq!(health.on_probe(true, RISE_2_FALL_3, Tick(9)), None);
        assert!(health.is_known());
        assert_eq!(health.since(), Tick(0));
    }

    #[test]
    fn thresholds_of_zero_count_as_one() {
        let zero = Thresholds { rise: 0, fall: 0 };
        let mut health = Health::new(Up, Tick(0));
        assert_eq!(verdicts(&mut health, "+-+", zero), "UDU");
    }

    #[test]
    fn a_transition_tells_the_results_and_the_age_of_the_old_verdict() {
        let mut health = Health::new(Up, Tick(100));
        let probes = [(true, 200), (false, 300), (false, 400), (false, 500)];
        let seen = probes.map(|(passed, at)| health.on_probe(passed, RISE_2_FALL_3, Tick(at)));
        let expected = Transition {
            to: Down,
            results: 3,
            previous_ms: 400,
        };
        assert_eq!(seen, [None, None, None, Some(expected)]);
        assert_eq!(health.since(), Tick(500));
    }

    #[test]
    fn failures_in_a_row_eject() {
        let mut health = Health::new(Up, Tick(0));
        for _ in 0..2 {
            assert_eq!(health.on_failure(&EJECT, true, Tick(7)), None);
        }
        assert!(health.is_usable());
        let expected = Ejection {
            until: Tick(1007),
            failures: 3,
        };
        assert_eq!(health.on_failure(&EJECT, true, Tick(7)), Some(expected));
        assert!(health.is_ejected() && !health.is_usable());
        assert_eq!(health.verdict(), Up);
    }

    #[test]
    fn a_success_ends_the_run_of_failures() {
        let mut health = Health::new(Up, Tick(0));
        for _ in 0..5 {
            assert_eq!(health.on_failure(&EJECT, true, Tick(0)), None);
            assert_eq!(health.on_failure(&EJECT, true, Tick(0)), None);
            health.on_success();
        }
    }

    #[test]
    fn no_number_of_failures_ejects_when_turned_off() {
        let off = EjectPolicy {
            failures: 0,
            ..EJECT
        };
        let mut health = Health::new(Up, Tick(0));
        assert!((0..100).all(|_| health.on_failure(&off, true, Tick(0)).is_none()));
    }

    #[test]
    fn an_ejection_that_is_not_allowed_happens_once_it_is() {
        let mut health = Health::new(Up, Tick(0));
        for _ in 0..9 {
            assert_eq!(health.on_failure(&EJECT, false, Tick(0)), None);
        }
        let ejection = health.on_failure(&EJECT, true, Tick(0));
        assert_eq!(ejection.map(|e| e.failures), Some(10));
    }

    #[test]
    fn failures_during_an_ejection_do_not_count() {
        let mut health = Health::new(Up, Tick(0));
        eject(&mut health, 0);
        for _ in 0..9 {
            assert_eq!(health.on_failure(&EJECT, true, Tick(500)), None);
        }
        assert!(health.on_eject_end(Tick(1000)));
        assert_eq!(health.on_failure(&EJECT, true, Tick(1000)), None);
    }

    #[test]
    fn an_ejection_ends_when_it_is_due_and_not_before() {
        let mut health = Health::new(Up, Tick(0));
        assert!(!health.on_eject_end(Tick(0)));
        eject(&mut health, 0);
        assert!(!health.on_eject_end(Tick(999)));
        assert!(health.is_ejected());
        assert!(health.on_eject_end(Tick(1000)));
        assert!(health.is_usable());
    }

    #[test]
    fn a_passed_probe_ends_an_ejection_and_a_failed_one_does_not() {
        let mut health = Health::new(Up, Tick(0));
        eject(&mut health, 0);
        health.on_probe(false, RISE_2_FALL_3, Tick(1));
        assert!(health.is_ejected());
        health.on_probe(true, RISE_2_FALL_3, Tick(2));
        assert!(!health.is_ejected());
    }

    #[test]
    fn the_timer_of_an_ejection_that_a_probe_ended_does_not_end_the_next() {
        let mut health = Health::new(Up, Tick(0));
        health.on_probe(true, RISE_2_FALL_3, Tick(0));
        eject(&mut health, 0);
        health.on_probe(true, RISE_2_FALL_3, Tick(500));
        eject(&mut health, 600);
        assert!(!health.on_eject_end(Tick(1000)));
        assert!(health.is_ejected());
    }

    #[test]
    fn what_another_process_has_found_is_gone_on_from() {
        let mut health = Health::new(Up, Tick(0));
        health.adopt(Up, 2, 1, Tick(7));
        let change = health.on_probe(false, RISE_2_FALL_3, Tick(10));
        assert_eq!(change.map(|it| (it.results, it.previous_ms)), Some((3, 3)));
        health.adopt(Up, 0, 1, Tick(20));
        assert!(health.is_usable() && health.is_known() && !health.is_changing());
        assert_eq!((health.since(), health.contrary()), (Tick(20), 0));
    }

    #[test]
    fn an_ejection_by_another_process_is_one_here_and_doubles_here() {
        let mut health = Health::new(Up, Tick(0));
        health.take_on_ejection(Tick(2000), 2, Tick(0));
        assert_eq!(health.ejection(), Some((Tick(2000), 2)));
        assert!(!health.on_eject_end(Tick(1999)));
        assert!(health.on_eject_end(Tick(2000)));
        assert_eq!(eject(&mut health, 2000), 4000);
        assert!(health.take_on_eject_end(Tick(2001)) && health.is_usable());
        assert!(!health.take_on_eject_end(Tick(2001)));
    }

    #[test]
    fn ejections_double_up_to_the_longest() {
        let mut health = Health::new(Up, Tick(0));
        let mut now = 0;
        let lengths = [(); 70].map(|()| {
            let length = eject(&mut health, now);
            now += length;
            assert!(health.on_eject_end(Tick(now)));
            length
        });
        assert_eq!(lengths[..5], [1000, 2000, 4000, 5000, 5000]);
        assert!(lengths[5..].iter().all(|&length| length == 5000));
    }

    #[test]
    fn doubling_starts_anew_after_it_worked_for_as_long_as_it_was_out() {
        // Back at 3000 after ejections of 1000 and 2000: whether it worked, when it fails again,
        // how long it is out then.
        let table = [
            (false, 90_000, 4000),
            (true, 4999, 4000),
            (true, 5000, 1000),
        ];
        for (worked, fails_at, expected) in table {
            let mut health = Health::new(Up, Tick(0));
            assert_eq!(eject(&mut health, 0), 1000);
            health.on_eject_end(Tick(1000));
            health.on_success();
            assert_eq!(eject(&mut health, 1000), 2000);
            health.on_eject_end(Tick(3000));
            if worked {
                health.on_success();
            }
            assert_eq!(
                eject(&mut health, fails_at),
                expected,
                "{worked} {fails_at}"
            );
        }
    }
}
