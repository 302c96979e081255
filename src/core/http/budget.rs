//! How many retries are allowed: a share of the requests, with a floor for quiet times.
//!
//! When backends fail, retries multiply the load on those that are left. A budget caps that: over
//! the last [`WINDOW_S`] seconds at most a percentage of the requests may be retried. As a
//! percentage of few requests is nothing, a few retries per second are always allowed.
//!
//! Seconds are counted whole, so the window is ten seconds give or take one, and the memory is
//! fixed whatever the load.

use crate::core::time::Tick;

/// Length of the sliding window, in seconds, the current one included.
pub const WINDOW_S: u64 = 10;

/// Buckets of the ring, one for each second of the window.
const BUCKETS: usize = 10;

/// A budget for retries.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    percent: u32,
    min_per_s: u32,
    /// The counts of second `s` are at `s % BUCKETS`.
    buckets: [Counts; BUCKETS],
    /// The second that was counted last; time before it counts as it.
    second: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// A budget of `percent` of the requests (20 by default), and at least `min_per_s` retries in
    /// every second (3 by default). With both zero there are no retries.
    #[must_use]
    pub fn new(percent: u32, min_per_s: u32) -> Self {
        Self {
            percent,
            min_per_s,
            buckets: [Counts::default(); BUCKETS],
            second: 0,
        }
    }

    /// A request came from a client; its retries do not count as further ones.
    pub fn on_request(&mut self, now: Tick) {
        let current = self.current(now);
        current.requests = current.requests.saturating_add(1);
    }

    /// Whether a retry may be made now; if so, it is counted.
    #[must_use]
    pub fn try_retry(&mut self, now: Tick) -> bool {
        let this_second = self.current(now).retries;
        let sum = |of: fn(&Counts) -> u32| self.buckets.iter().map(|one| u64::from(of(one))).sum();
        let (requests, retries): (u64, u64) = (sum(|one| one.requests), sum(|one| one.retries));
        let is_within_share = (retries + 1) * 100 <= requests * u64::from(self.percent);
        let is_allowed = this_second < self.min_per_s || is_within_share;
        if is_allowed {
            let current = self.current(now);
            current.retries = current.retries.saturating_add(1);
        }
        is_allowed
    }

    /// The counts of the current second, after those that left the window were emptied.
    fn current(&mut self, now: Tick) -> &mut Counts {
        let second = (now.0 / 1000).max(self.second);
        let passed = (second - self.second).min(WINDOW_S);
        for back in 0..passed {
            self.buckets[slot(second - back)] = Counts::default();
        }
        self.second = second;
        &mut self.buckets[slot(second)]
    }
}

/// Where the counts of a second are.
fn slot(second: u64) -> usize {
    usize::try_from(second % WINDOW_S).unwrap_or(0)
}

const _: () = assert!(WINDOW_S == BUCKETS as u64, "a bucket for each second");

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `wanted` retries are allowed at once.
    fn allowed(budget: &mut RetryBudget, now_ms: u64, wanted: usize) -> usize {
        (0..wanted)
            .filter(|_| budget.try_retry(Tick(now_ms)))
            .count()
    }

    fn requests(budget: &mut RetryBudget, now_ms: u64, count: usize) {
        for _ in 0..count {
            budget.on_request(Tick(now_ms));
        }
    }

    #[test]
    fn a_quiet_second_has_the_floor() {
        let mut budget = RetryBudget::new(20, 3);
        assert_eq!(allowed(&mut budget, 0, 10), 3);
        assert_eq!(allowed(&mut budget, 999, 10), 0);
        assert_eq!(allowed(&mut budget, 1000, 10), 3);
    }

    #[test]
    fn a_busy_window_has_its_share() {
        let mut budget = RetryBudget::new(20, 3);
        requests(&mut budget, 0, 500);
        requests(&mut budget, 4000, 500);
        assert_eq!(allowed(&mut budget, 4000, 1000), 200);
        assert_eq!(allowed(&mut budget, 5000, 1000), 3, "the share is used up");
        requests(&mut budget, 5000, 100);
        assert_eq!(
            allowed(&mut budget, 5000, 1000),
            17,
            "20 more, 3 of them gone"
        );
    }

    #[test]
    fn what_left_the_window_counts_no_more() {
        let mut budget = RetryBudget::new(20, 0);
        requests(&mut budget, 0, 100);
        assert_eq!(allowed(&mut budget, 0, 5), 5);
        assert_eq!(allowed(&mut budget, 9_999, 100), 15);
        assert_eq!(
            allowed(&mut budget, 10_000, 100),
            0,
            "the requests have left"
        );
        requests(&mut budget, 10_000, 100);
        assert_eq!(
            allowed(&mut budget, 10_000, 100),
            5,
            "the 15 of the second before still count"
        );
        requests(&mut budget, 1_000_000, 100);
        assert_eq!(allowed(&mut budget, 1_000_000, 100), 20);
    }

    #[test]
    fn without_share_and_floor_there_is_no_retry() {
        let mut budget = RetryBudget::new(0, 0);
        requests(&mut budget, 0, 100);
        assert_eq!(allowed(&mut budget, 0, 10), 0);
    }

    #[test]
    fn time_that_goes_back_stands_still() {
        let mut budget = RetryBudget::new(20, 3);
        assert_eq!(allowed(&mut budget, 50_000, 10), 3);
        assert_eq!(allowed(&mut budget, 20_000, 10), 0);
    }
}
