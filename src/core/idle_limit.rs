//! How long a backend leaves a connection open on which no request comes, as far as that is known.
//!
//! A request that is sent at the moment in which the backend ends its connection is lost, and one
//! that must not be sent twice fails by that. So a connection is used again only while it is
//! younger than the limit by a safe part.
//!
//! Two things tell the limit. A response may say it: `Keep-Alive: timeout=5` (RFC 2068, section
//! 19.7.1.1). And connections that the backend ends while they wait show it: where several of
//! them, at different times, had been idle for about as long, and none was older. A restart is no
//! such evidence: it ends all connections at once, however old they are.
//!
//! A limit that was learned is never tried out with requests. One connection that has reached it
//! is kept without being used, as a witness. Where the backend ends it elsewhere than was thought,
//! that is evidence as it was at first; where several in turn are not ended at all, the limit is
//! raised by a half. It is no more at once, so that a machine that stood still teaches little, and
//! the next end at the old limit takes it back.

use crate::core::time::Tick;

/// Ends that have to agree, or witnesses that have to outlive the limit.
const EVIDENCE_NEEDED: u8 = 3;
/// Ends within this time of one that was counted are taken for one event.
const APART_MS: u32 = 1_000;
/// What ends earlier ended with its response, not by a limit.
const SHORTEST_MS: u32 = 100;

/// What is known of the idle limit of one backend.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdleLimit {
    /// Zero while it is not known.
    limit_ms: u32,
    /// The shortest idle time of the ends that agree.
    candidate_ms: u32,
    /// When the last of them was counted, modulo 2^32 milliseconds.
    counted_at: u32,
    /// What the latest response announced, in seconds and one more; zero if it announced nothing.
    announced: u16,
    /// How many ends agree.
    ends: u8,
    /// How many witnesses in turn have outlived the limit.
    outlived: u8,
}

impl IdleLimit {
    /// The limit in milliseconds; none while it is not known.
    #[must_use]
    pub fn known_ms(&self) -> Option<u64> {
        (self.limit_ms > 0).then(|| self.limit_ms.into())
    }

    /// A connection is used again only if it has been idle for less than this, in milliseconds:
    /// 80 % of the limit. None while that is not known.
    #[must_use]
    pub fn reuse_ms(&self) -> Option<u64> {
        self.known_ms().map(|limit_ms| limit_ms * 4 / 5)
    }

    /// The age in milliseconds at which a witness has outlived the limit; none where there is
    /// nothing to be found out.
    #[must_use]
    pub(crate) fn witness_ms(&self) -> Option<u64> {
        let is_announced = self.announced_ms() == Some(self.limit_ms);
        let limit_ms = self.known_ms().filter(|_| !is_announced)?;
        Some(limit_ms * 2)
    }

    /// Whether the latest response has announced a limit.
    #[must_use]
    pub(crate) fn is_announced(&self) -> bool {
        self.announced > 0
    }

    /// A response that leaves its connection open has said so many seconds, or nothing.
    pub fn on_response(&mut self, timeout_s: Option<u64>) {
        let announced = timeout_s.map_or(0, |seconds| {
            u16::try_from(seconds.saturating_add(1)).unwrap_or(u16::MAX)
        });
        if announced == self.announced {
            return;
        }
        self.announced = announced;
        // One that is not announced any more is kept like one that was learned.
        if let Some(limit_ms) = self.announced_ms() {
            self.set(limit_ms);
        }
    }

    /// Takes this for the limit, but no more than is announced.
    fn set(&mut self, limit_ms: u32) {
        let most_ms = self.announced_ms().unwrap_or(u32::MAX);
        self.limit_ms = limit_ms.min(most_ms);
        (self.ends, self.outlived) = (0, 0);
    }

    /// Below a second is announced as nothing, which is too short to be used.
    fn announced_ms(&self) -> Option<u32> {
        let seconds = u32::from(self.announced.checked_sub(1)?);
        Some((seconds * 1_000).max(1))
    }

    /// The backend has ended a connection that had been idle for so long.
    pub fn on_end(&mut self, idle_ms: u64, now: Tick) {
        let idle_ms = clamp(idle_ms);
        if idle_ms < SHORTEST_MS {
            return;
        }
        if self.limit_ms > 0 && agree(idle_ms, self.limit_ms) {
            self.limit_ms = self.limit_ms.min(idle_ms);
            self.ends = self.ends.saturating_sub(1);
            self.outlived = 0;
        } else {
            self.count(idle_ms, now);
        }
    }

    /// An end speaks for its idle time, or against that of others. Whichever has the majority wins
    /// in the end (Boyer and Moore).
    fn count(&mut self, idle_ms: u32, now: Tick) {
        let now_ms = low_bits(now);
        let is_apart = now_ms.wrapping_sub(self.counted_at) >= APART_MS;
        if self.ends == 0 {
            (self.candidate_ms, self.ends, self.counted_at) = (idle_ms, 1, now_ms);
        } else if !agree(idle_ms, self.candidate_ms) {
            self.ends -= 1;
        } else {
            self.candidate_ms = self.candidate_ms.min(idle_ms);
            if is_apart {
                self.ends += 1;
                self.counted_at = now_ms;
            }
        }
        if self.ends == EVIDENCE_NEEDED {
            self.set(self.candidate_ms);
        }
    }

    /// A connection that had been idle for so long is still open, and is used.
    pub fn on_survived(&mut self, idle_ms: u64) {
        if self.ends == 0 {
            return;
        }
        let idle_ms = clamp(idle_ms);
        if idle_ms > self.candidate_ms && !agree(idle_ms, self.candidate_ms) {
            self.ends = 0;
        }
    }

    /// A witness was not ended for so long. With `is_last`, it is closed because none is kept for
    /// longer than that: then there is no limit that matters.
    pub(crate) fn on_outlived(&mut self, idle_ms: u64, is_last: bool) {
        let idle_ms = clamp(idle_ms);
        let is_clear = idle_ms > self.limit_ms && !agree(idle_ms, self.limit_ms);
        if self.witness_ms().is_none() || !is_clear {
            return;
        }
        self.outlived += 1;
        if self.outlived == EVIDENCE_NEEDED {
            self.set(match is_last {
                true => self.announced_ms().unwrap_or(0),
                false => self.limit_ms.saturating_add(self.limit_ms / 2),
            });
        }
    }
}

/// Whether two idle times may come of the same limit. A server that looks at its connections now
/// and then ends them up to half as late again.
fn agree(one_ms: u32, other_ms: u32) -> bool {
    let (short, long) = (one_ms.min(other_ms), one_ms.max(other_ms));
    u64::from(long) * 2 <= u64::from(short) * 3
}

fn clamp(ms: u64) -> u32 {
    u32::try_from(ms).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "only differences of them are looked at"
)]
const fn low_bits(at: Tick) -> u32 {
    at.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends at these idle times, one every so many milliseconds.
    fn ends(limit: &mut IdleLimit, from: u64, every_ms: u64, idle_ms: &[u64]) {
        let mut now = Tick(from);
        for &idle_ms in idle_ms {
            limit.on_end(idle_ms, now);
            now = now.after_ms(every_ms);
        }
    }

    fn learned(idle_ms: u64) -> IdleLimit {
        let mut limit = IdleLimit::default();
        ends(&mut limit, 0, 2_000, &[idle_ms; 3]);
        assert_eq!(limit.known_ms(), Some(idle_ms));
        limit
    }

    #[test]
    fn it_is_small() {
        assert!(size_of::<IdleLimit>() <= 16);
    }

    #[test]
    fn what_is_announced_holds_at_once_and_is_followed() {
        let mut limit = IdleLimit::default();
        for (timeout_s, known_ms, reuse_ms) in [
            (None, None, None),
            (Some(5), Some(5_000), Some(4_000)),
            (Some(60), Some(60_000), Some(48_000)),
            (Some(2), Some(2_000), Some(1_600)),
            (None, Some(2_000), Some(1_600)),
            (Some(0), Some(1), Some(0)),
            (Some(u64::MAX), Some(65_534_000), Some(52_427_200)),
        ] {
            limit.on_response(timeout_s);
            let found = (limit.known_ms(), limit.reuse_ms());
            assert_eq!(found, (known_ms, reuse_ms), "{timeout_s:?}");
        }
    }

    #[test]
    fn ends_that_agree_show_the_shortest_of_them() {
        let mut limit = IdleLimit::default();
        ends(&mut limit, 0, 2_000, &[2_900, 2_050]);
        assert_eq!(limit.known_ms(), None);
        limit.on_end(2_600, Tick(9_000));
        assert_eq!(limit.known_ms(), Some(2_050));
        // Another one that agrees corrects it.
        limit.on_end(2_010, Tick(9_001));
        assert_eq!(limit.known_ms(), Some(2_010));
    }

    #[test]
    fn a_restart_is_no_evidence_however_much_it_ends() {
        let mut limit = IdleLimit::default();
        for restart in 0..5 {
            let alike = [30_000; 40].map(|idle_ms| idle_ms >> restart);
            ends(&mut limit, restart * 60_000, 10, &alike);
            ends(
                &mut limit,
                restart * 60_000 + 500,
                1,
                &[900, 7_000, 300, 50_000],
            );
            assert_eq!(limit.known_ms(), None, "restart {restart}");
        }
    }

    #[test]
    fn single_ends_at_other_times_only_delay_it() {
        let mut limit = IdleLimit::default();
        let mixed = [60_000, 60_000, 3_000, 60_000, 60_000, 9_000, 60_000];
        ends(&mut limit, 0, 2_000, &mixed);
        assert_eq!(limit.known_ms(), Some(60_000));
    }

    #[test]
    fn ends_without_a_common_idle_time_show_nothing() {
        let mut limit = IdleLimit::default();
        let drawn = [500, 9_000, 2_000, 30_000, 1_000, 15_000, 4_000, 45_000];
        ends(&mut limit, 0, 2_000, &drawn);
        assert_eq!(limit.known_ms(), None);
    }

    #[test]
    fn connections_that_end_with_their_response_show_nothing() {
        let mut limit = IdleLimit::default();
        ends(&mut limit, 0, 2_000, &[0, 1, 2, 50, 99, 3]);
        assert_eq!(limit.known_ms(), None);
    }

    #[test]
    fn who_survives_disproves_what_is_not_yet_learned() {
        let mut limit = IdleLimit::default();
        ends(&mut limit, 0, 2_000, &[2_000, 2_000]);
        limit.on_survived(2_900);
        limit.on_survived(9_000);
        limit.on_end(2_000, Tick(9_000));
        assert_eq!(limit.known_ms(), None);
    }

    #[test]
    fn a_shorter_limit_is_learned_as_the_first_was() {
        let mut limit = learned(60_000);
        ends(&mut limit, 100_000, 2_000, &[2_000, 2_100]);
        assert_eq!(limit.known_ms(), Some(60_000));
        limit.on_end(2_200, Tick(200_000));
        assert_eq!(limit.known_ms(), Some(2_000));
    }

    #[test]
    fn a_limit_that_several_outlive_is_raised_by_a_half() {
        let mut limit = learned(2_000);
        assert_eq!(limit.witness_ms(), Some(4_000));
        limit.on_outlived(4_100, false);
        limit.on_outlived(4_100, false);
        assert_eq!(limit.known_ms(), Some(2_000));
        limit.on_outlived(4_100, false);
        assert_eq!(limit.known_ms(), Some(3_000));
        // It was for another reason that they were not ended.
        limit.on_end(2_010, Tick(90_000));
        assert_eq!(limit.known_ms(), Some(2_010));
        limit.on_outlived(4_100, false);
        limit.on_outlived(4_100, false);
        limit.on_end(2_010, Tick(99_000));
        limit.on_outlived(4_100, false);
        assert_eq!(limit.known_ms(), Some(2_010), "they have to come in turn");
    }

    #[test]
    fn a_limit_that_the_longest_kept_outlive_is_forgotten() {
        let mut limit = learned(39_000);
        for _ in 0..3 {
            assert_eq!(limit.known_ms(), Some(39_000));
            limit.on_outlived(60_000, true);
        }
        assert_eq!(limit.known_ms(), None);
        // One that would hardly have been met says nothing.
        let mut limit = learned(50_000);
        for _ in 0..5 {
            limit.on_outlived(60_000, true);
        }
        assert_eq!(limit.known_ms(), Some(50_000));
    }

    #[test]
    fn a_longer_limit_is_learned_of_witnesses_that_end_there() {
        let mut limit = learned(2_000);
        ends(&mut limit, 50_000, 4_000, &[3_500, 3_600]);
        assert_eq!(limit.known_ms(), Some(2_000));
        limit.on_end(3_500, Tick(70_000));
        assert_eq!(limit.known_ms(), Some(3_500));
    }

    #[test]
    fn what_comes_late_because_all_stood_still_changes_nothing() {
        let mut limit = learned(2_000);
        for stop in 1..10 {
            ends(
                &mut limit,
                stop * 30_000,
                1,
                &[21_000, 20_200, 14_000, 13_800],
            );
            limit.on_outlived(4_100, false);
            ends(
                &mut limit,
                stop * 30_000 + 5_000,
                4_000,
                &[2_000, 2_010, 2_000],
            );
            assert_eq!(limit.known_ms(), Some(2_000), "stop {stop}");
        }
    }

    #[test]
    fn nothing_raises_what_is_announced() {
        let mut limit = IdleLimit::default();
        limit.on_response(Some(5));
        assert_eq!(limit.witness_ms(), None);
        for _ in 0..5 {
            limit.on_outlived(60_000, true);
        }
        ends(&mut limit, 0, 2_000, &[60_000; 3]);
        assert_eq!(limit.known_ms(), Some(5_000));
        // It ends them sooner than it says, and then as late again.
        ends(&mut limit, 10_000, 2_000, &[2_000; 3]);
        limit.on_response(Some(5));
        assert_eq!(limit.known_ms(), Some(2_000));
        ends(&mut limit, 50_000, 2_000, &[60_000; 3]);
        assert_eq!(limit.known_ms(), Some(5_000));
    }
}
