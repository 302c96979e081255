//! How often something may be said: a thinner for repeated log lines.

use crate::core::time::Tick;

/// Thins out a repeated message: at most one per period, and each tells how many were left out.
#[derive(Clone, Debug)]
pub struct RateLimit {
    period_ms: u64,
    silent_until: Tick,
    suppressed: u64,
}

impl RateLimit {
    /// Nothing was said yet: the first message passes.
    #[must_use]
    pub fn new(period_ms: u64) -> Self {
        Self {
            period_ms,
            silent_until: Tick(0),
            suppressed: 0,
        }
    }

    /// Whether the message may be said now, and if so how many were suppressed since the last
    /// one that was.
    pub fn allow(&mut self, now: Tick) -> Option<u64> {
        if now < self.silent_until {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.silent_until = now.after_ms(self.period_ms);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
