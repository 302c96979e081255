//! Which requests and sessions that have ended something is kept of, and where.
//!
//! Most are plain, and of these no more are kept than tell how it goes: where there are few, all of
//! them are, and where there are many, one from time to time, so that they cost next to nothing and
//! do not push each other out at once. What failed, was tried again, was slow or was cut is always
//! kept.

use crate::board::Keep;
use crate::core::access_log::Why;
use crate::core::decision::SLOW_MS;
use crate::core::request_id::Ids;
use crate::core::time::Tick;

/// What a worker needs to keep decisions.
pub(crate) struct Decisions {
    pub(crate) ids: Ids,
    /// From when on another plain one is kept, if none was saved up for.
    plain_due: Tick,
}

/// A plain one is kept each so many milliseconds, and as many more as there was time for before,
/// in milliseconds: 15 a second, and 128 at once.
const PLAIN_EVERY_MS: u64 = 64;
const PLAIN_SAVED_MS: u64 = 128 * PLAIN_EVERY_MS;

impl Decisions {
    /// For a worker whose ids begin with this.
    pub(crate) const fn new(start: u64) -> Self {
        Self {
            ids: Ids::new(start),
            plain_due: Tick(0),
        }
    }

    /// Where a decision goes; none for one of many plain ones.
    #[inline]
    pub(crate) fn ring_for(
        &mut self,
        (why, status): (Why, u16),
        is_retried: bool,
        total_ms: u64,
        now: Tick,
    ) -> Option<Keep> {
        if why == Why::Ok && status < 400 && !is_retried && total_ms < SLOW_MS {
            if self.plain_due > now {
                return None;
            }
            let due = self.plain_due.0.max(now.0.saturating_sub(PLAIN_SAVED_MS));
            self.plain_due = Tick(due + PLAIN_EVERY_MS);
            return Some(Keep::Plain);
        }
        Some(ring_of(why, status, is_retried))
    }
}

#[cold]
fn ring_of(why: Why, status: u16, is_retried: bool) -> Keep {
    let has_failed = match why {
        Why::NoBackend
        | Why::QueueTimeout
        | Why::ConnectFailed
        | Why::ConnectTimeout
        | Why::BackendClosedBeforeHead
        | Why::ResponseTimeout
        | Why::BadResponse
        | Why::BackendCutBody
        | Why::ResponseIdle
        | Why::DrainDeadline => true,
        Why::Ok
        | Why::ClientLeftInRequest
        | Why::ClientLeftInData
        | Why::HeaderTimeout
        | Why::Refused
        | Why::NoRoute
        | Why::UploadTimeout
        | Why::SendTimeout
        | Why::IdleTimeout
        | Why::HalfClosedTimeout
        | Why::TunnelTimeout
        | Why::Kicked => false,
    };
    match has_failed || status >= 500 || is_retried {
        true => Keep::Failed,
        false => Keep::Odd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_kept(decisions: &mut Decisions, now: Tick, count: usize) -> usize {
        let rings = (0..count).map(|_| decisions.ring_for((Why::Ok, 200), false, 0, now));
        rings.filter(|ring| *ring == Some(Keep::Plain)).count()
    }

    #[test]
    fn of_plain_ones_all_are_kept_where_there_are_few() {
        let mut decisions = Decisions::new(1);
        let now = Tick(1_000_000);
        assert_eq!(plain_kept(&mut decisions, now, 1_000), 129);
        assert_eq!(plain_kept(&mut decisions, now.after_ms(63), 10), 0);
        assert_eq!(plain_kept(&mut decisions, now.after_ms(64), 10), 1);
        let few = (1..100).map(|n| now.after_ms(1_000 + n * PLAIN_EVERY_MS));
        let kept = few
            .map(|at| plain_kept(&mut decisions, at, 1))
            .sum::<usize>();
        assert_eq!(kept, 99);
        assert_eq!(
            plain_kept(&mut decisions, now.after_ms(1_000_000), 1_000),
            129
        );
    }

    #[test]
    fn what_is_not_plain_is_always_kept() {
        let mut decisions = Decisions::new(1);
        let not_plain = [
            ((Why::Ok, 500), false, 0, Keep::Failed),
            ((Why::Ok, 200), true, 0, Keep::Failed),
            ((Why::BackendCutBody, 200), false, 0, Keep::Failed),
            ((Why::DrainDeadline, 0), false, 0, Keep::Failed),
            ((Why::Ok, 404), false, 0, Keep::Odd),
            ((Why::ClientLeftInData, 200), false, 0, Keep::Odd),
            ((Why::Ok, 200), false, SLOW_MS, Keep::Odd),
        ];
        for (ended, is_retried, total_ms, keep) in not_plain {
            for _ in 0..1_000 {
                let ring = decisions.ring_for(ended, is_retried, total_ms, Tick(7));
                assert_eq!(ring, Some(keep), "{ended:?}");
            }
        }
    }
}
