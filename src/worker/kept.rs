//! Which requests and sessions that have ended something is kept of, and where.
//!
//! Most are plain, and of these no more than one is kept each millisecond: where there are fewer,
//! all of them are, and where there are many, the cost has a bound. What failed, was tried again,
//! was slow or was cut is always kept.

use crate::board::Keep;
use crate::core::access_log::Why;
use crate::core::decision::SLOW_MS;
use crate::core::request_id::Ids;
use crate::core::time::Tick;

/// What a worker needs to keep decisions.
pub(crate) struct Decisions {
    pub(crate) ids: Ids,
    /// When the last plain one was kept.
    plain_kept_at: Tick,
}

impl Decisions {
    /// For a worker whose ids begin with this.
    pub(crate) const fn new(start: u64) -> Self {
        Self {
            ids: Ids::new(start),
            plain_kept_at: Tick(u64::MAX),
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
            let last = std::mem::replace(&mut self.plain_kept_at, now);
            return (last != now).then_some(Keep::Plain);
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
        | Why::TunnelTimeout => false,
    };
    match has_failed || status >= 500 || is_retried {
        true => Keep::Failed,
        false => Keep::Odd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_always_kept_and_what_is_once_a_millisecond() {
        let mut decisions = Decisions::new(1);
        let now = Tick(7);
        let plain = (Why::Ok, 200);
        assert_eq!(decisions.ring_for(plain, false, 0, now), Some(Keep::Plain));
        assert_eq!(decisions.ring_for(plain, false, 0, now), None);
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
            for _ in 0..2 {
                let ring = decisions.ring_for(ended, is_retried, total_ms, now);
                assert_eq!(ring, Some(keep), "{ended:?}");
            }
        }
        assert_eq!(
            decisions.ring_for(plain, false, 0, Tick(8)),
            Some(Keep::Plain)
        );
    }
}
