//! Limits on how often something happens: a token bucket, and a thinner for repeated log lines.

use crate::core::time::Tick;

/// Lets through `rate_per_s` on average and `burst` at once. Exact: the level is counted in
/// thousandths of a token, so a millisecond adds a whole number of them. What does not fit into a
/// full bucket is lost, so one that holds a single token lets through a little less than its rate.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate_per_s: u64,
    capacity_milli: u64,
    level_milli: u64,
    filled_at: Tick,
}

impl TokenBucket {
    /// A full bucket. A `burst` of 0 counts as 1, because a bucket that holds no token would
    /// never let anything through; a rate of 0 never refills.
    #[must_use]
    pub fn new(rate_per_s: u64, burst: u64) -> Self {
        let capacity_milli = burst.max(1).saturating_mul(TOKEN_MILLI);
        Self {
            rate_per_s,
            capacity_milli,
            level_milli: capacity_milli,
            filled_at: Tick(0),
        }
    }

    /// Takes one token if there is one.
    pub fn try_take(&mut self, now: Tick) -> bool {
        self.fill(now);
        match self.level_milli.checked_sub(TOKEN_MILLI) {
            Some(rest) => {
                self.level_milli = rest;
                true
            }
            None => false,
        }
    }

    fn fill(&mut self, now: Tick) {
        let gained_milli = now.since_ms(self.filled_at).saturating_mul(self.rate_per_s);
        self.level_milli = self
            .level_milli
            .saturating_add(gained_milli)
            .min(self.capacity_milli);
        self.filled_at = self.filled_at.max(now);
    }
}

/// Thins out a repeated message: at most one per period, and each tells how many were left out.
#[derive(Clone, Debug)]
pub(crate) struct RateLimit {
    period_ms: u64,
    silent_until: Tick,
    suppressed: u64,
}

impl RateLimit {
    /// Nothing was said yet: the first message passes.
    #[must_use]
    pub(crate) fn new(period_ms: u64) -> Self {
        Self {
            period_ms,
            silent_until: Tick(0),
            suppressed: 0,
        }
    }

    /// Whether the message may be said now, and if so how many were suppressed since the last
    /// one that was.
    pub(crate) fn allow(&mut self, now: Tick) -> Option<u64> {
        if now < self.silent_until {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.silent_until = now.after_ms(self.period_ms);
        Some(std::mem::take(&mut self.suppressed))
    }
}

const TOKEN_MILLI: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_a_burst_through_and_then_the_rate() {
        let mut bucket = TokenBucket::new(10, 3);
        let steps = [
            (0, true),
            (0, true),
            (0, true),
            (0, false),
            (99, false),
            (100, true),
            (199, false),
            (200, true),
            (200, false),
        ];
        for (at, expected) in steps {
            assert_eq!(bucket.try_take(Tick(at)), expected, "at {at}");
        }
    }

    #[test]
    fn a_rest_does_not_fill_a_bucket_beyond_its_burst() {
        let mut bucket = TokenBucket::new(u64::MAX, 2);
        let taken = (0..5).filter(|_| bucket.try_take(Tick(u64::MAX))).count();
        assert_eq!(taken, 2);
    }

    #[test]
    fn a_rate_that_is_no_divisor_of_a_second_is_kept_exactly() {
        let mut bucket = TokenBucket::new(7, 2);
        let taken = (0..=10_000).filter(|&at| bucket.try_take(Tick(at))).count();
        assert_eq!(taken, 2 + 70);
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_tokens_twice() {
        let mut bucket = TokenBucket::new(1000, 1);
        assert!(bucket.try_take(Tick(10)));
        assert!(!bucket.try_take(Tick(9)));
        assert!(!bucket.try_take(Tick(10)));
    }

    #[test]
    fn rate_and_burst_of_zero_let_one_through() {
        let mut bucket = TokenBucket::new(0, 0);
        assert!(bucket.try_take(Tick(0)));
        assert!(!bucket.try_take(Tick(u64::MAX)));
    }

    #[test]
    fn a_message_passes_once_in_a_period_and_tells_what_was_left_out() {
        let mut limit = RateLimit::new(1000);
        let steps = [
            (5, Some(0)),
            (6, None),
            (1004, None),
            (1005, Some(2)),
            (9000, Some(0)),
        ];
        for (at, expected) in steps {
            assert_eq!(limit.allow(Tick(at)), expected, "at {at}");
        }
    }
}
