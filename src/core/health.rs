//! What is known of a backend's health, from probes and from real traffic.
//!
//! Two judgements that do not mix. Probes give the *verdict*: up or down, changed only by `rise`
//! or `fall` results in a row (HC1). Real traffic may *eject* a backend for a while, however good
//! its probes look (HC6). A backend is usable when it is up and not ejected. This file knows no
//! clock, no timer and no socket: it is told results and instants, and says what follows.

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
    /// The first ejection, in milliseconds; every further one lasts twice as long.
    pub eject_ms: u64,
    /// The longest ejection, in milliseconds.
    pub eject_max_ms: u64,
}

/// A change of the verdict, for the log and the statistics (HC5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The new verdict.
    pub to: Verdict,
    /// How many results in a row decided it.
    pub results: u32,
    /// How long the old verdict had stood, in milliseconds.
    pub previous_ms: u64,
}

/// The begin of an ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// When [`Health::on_eject_end`] ends it.
    pub until: Tick,
    /// How many failures in a row caused it.
    pub failures: u32,
}

/// The health of one backend.
#[derive(Clone, Debug)]
pub struct Health {
    verdict: Verdict,
    since: Tick,
    known: bool,
    /// Probe results in a row that speak against the verdict.
    contrary: u32,
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
            failures: 0,
            ejected_until: None,
            history: EjectHistory::default(),
        }
    }

    /// A probe passed or failed. A pass also ends an ejection: the backend was seen to work.
    pub fn on_probe(&mut self, passed: bool, t: Thresholds, now: Tick) -> Option<Transition> {
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
    /// `may_eject` is the caller's check that enough other backends remain; while it is false the
    /// failures are remembered. Failures during an ejection do not count: they come from attempts
    /// made before it.
    pub fn on_failure(&mut self, p: &EjectPolicy, may_eject: bool, now: Tick) -> Option<Ejection> {
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

    /// Real traffic worked: the run of failures ends.
    pub fn on_success(&mut self) {
        self.failures = 0;
        if self.ejected_until.is_none() {
            self.history.worked = true;
        }
    }

    /// The timer of an ejection fired. True when that ended an ejection; false when there is
    /// none, or one that lasts longer, whose own timer is still to come.
    pub fn on_eject_end(&mut self, now: Tick) -> bool {
        let due = self.ejected_until.is_some_and(|until| until <= now);
        if due {
            self.end_ejection(now);
        }
        due
    }

    /// What probes say.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// Whether failures of real traffic keep it out for now.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected_until.is_some()
    }

    /// Whether it is up and not ejected.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.verdict == Verdict::Up && self.ejected_until.is_none()
    }

    /// Whether some results speak against the verdict, but not yet enough to change it.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        self.contrary > 0
    }

    /// Whether some probe has reported.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// When the verdict was first given.
    #[must_use]
    pub fn since(&self) -> Tick {
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
        p.eject_ms.saturating_mul(factor).min(p.eject_max_ms)
    }

    fn end(&mut self, now: Tick) {
        self.last_ms = now.since_ms(self.began_at);
        self.ended_at = now;
        self.worked = false;
    }
}
