//! Spans of time, counted in buckets that are the same everywhere and always, so that any number
//! of histograms can be added up.
//!
//! The buckets are log-linear: two for each power of two. 0 and 1 have their own, then come 2, 3,
//! 4 to 5, 6 to 7, 8 to 11, 12 to 15 and so on; none is wider than half its lowest value. The last
//! one takes whatever is longer.

/// Buckets of a histogram.
pub const BUCKETS: usize = 2 * OCTAVES;
/// Powers of two that are told apart: the last bucket begins at 3/4 of 2^22 milliseconds, which
/// are 52 minutes.
const OCTAVES: usize = 22;

/// The bucket in which so many milliseconds are counted.
#[must_use]
pub(crate) fn bucket_of(ms: u64) -> usize {
    if ms < 2 {
        return usize::from(ms == 1);
    }
    let power = ms.ilog2();
    let is_upper_half = ms >> (power - 1) & 1 == 1;
    (2 * power as usize + usize::from(is_upper_half)).min(BUCKETS - 1)
}

/// The least that a bucket counts, in milliseconds.
///
/// # Panics
/// When there is no such bucket.
#[must_use]
pub(crate) fn least_ms(bucket: usize) -> u64 {
    assert!(bucket < BUCKETS, "a bucket");
    match bucket {
        0 | 1 => bucket as u64,
        _ => (2 + bucket as u64 % 2) << (bucket / 2 - 1),
    }
}

/// The most that a bucket counts, in milliseconds; none for the last one.
///
/// # Panics
/// When there is no such bucket.
#[must_use]
pub fn most_ms(bucket: usize) -> Option<u64> {
    assert!(bucket < BUCKETS, "a bucket");
    (bucket + 1 < BUCKETS).then(|| least_ms(bucket + 1) - 1)
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// How many spans each bucket has.
    pub counts: [u64; BUCKETS],
    /// All spans together, in milliseconds.
    pub sum_ms: u64,
}

impl Histogram {
    /// Nothing.
    pub const EMPTY: Self = Self {
        counts: [0; BUCKETS],
        sum_ms: 0,
    };

    /// How many spans there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        let mut counts = self.counts.iter();
        counts
            .try_fold(0_u64, |sum, &count| sum.checked_add(count))
            .unwrap_or(u64::MAX)
    }

    /// A span that so many thousandths of all do not exceed, in milliseconds: the most that its
    /// bucket counts, and of the last bucket the least. None where nothing was counted; beyond
    /// 1,000 counts as 1,000.
    #[must_use]
    pub fn quantile_ms(&self, thousandths: u64) -> Option<u64> {
        let count = self.count();
        let wanted = u128::from(count) * u128::from(thousandths.min(1_000));
        // The first of them for 0, the last for 1,000.
        let rank = u64::try_from(wanted.div_ceil(1_000))
            .unwrap_or(u64::MAX)
            .max(1);
        let mut seen = 0_u64;
        let bucket = self.counts.iter().position(|&count| {
            seen = seen.saturating_add(count);
            seen >= rank
        })?;
        Some(most_ms(bucket).unwrap_or_else(|| least_ms(bucket)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram(spans: &[u64]) -> Histogram {
        let mut made = Histogram::EMPTY;
        for &ms in spans {
            made.counts[bucket_of(ms)] += 1;
            made.sum_ms += ms;
        }
        made
    }

    /// Spans of every magnitude.
    fn spans() -> impl Strategy<Value = u64> {
        (0_u32..40, any::<u64>()).prop_map(|(bits, ms)| ms & ((1 << bits) - 1))
    }

    #[test]
    fn buckets_begin_where_they_always_have() {
        let begins: Vec<u64> = (0..12).map(least_ms).collect();
        assert_eq!(begins, [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]);
        assert_eq!(least_ms(BUCKETS - 1), 3 << 20);
        assert_eq!(most_ms(BUCKETS - 1), None);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn buckets_leave_nothing_between_them() {
        assert_eq!(least_ms(0), 0);
        for bucket in 0..BUCKETS - 1 {
            let (least, most) = (least_ms(bucket), most_ms(bucket).expect("not the last"));
            assert!(least <= most && most - least <= least / 2, "{bucket}");
            assert_eq!((bucket_of(least), bucket_of(most)), (bucket, bucket));
            assert_eq!(bucket_of(most + 1), bucket + 1);
        }
    }

    #[test]
    fn of_nothing_there_is_no_quantile() {
        assert_eq!(Histogram::EMPTY.quantile_ms(500), None);
        assert_eq!(histogram(&[7]).quantile_ms(0), Some(7));
        assert_eq!(histogram(&[7]).quantile_ms(u64::MAX), Some(7));
        let mut full = Histogram::EMPTY;
        full.counts = [u64::MAX; BUCKETS];
        assert_eq!(
            full.quantile_ms(1_000),
            Some(0),
            "counts that cannot be are no panic"
        );
    }

    proptest! {
        #[test]
        fn a_span_is_in_the_bucket_between_whose_bounds_it_lies(ms in spans()) {
            let bucket = bucket_of(ms);
            prop_assert!(least_ms(bucket) <= ms);
            prop_assert!(most_ms(bucket).is_none_or(|most| ms <= most));
        }

        #[test]
        fn a_quantile_is_in_the_bucket_of_the_span_that_has_its_rank(
            mut all in prop::collection::vec(spans(), 1..200), thousandths in 0_u64..=1_000,
        ) {
            let made = histogram(&all);
            prop_assert_eq!(made.count(), all.len() as u64);
            all.sort_unstable();
            let rank = (all.len() as u64 * thousandths).div_ceil(1_000).max(1);
            let exact = all[usize::try_from(rank).expect("small") - 1];
            let told = made.quantile_ms(thousandths).expect("there are some");
            prop_assert_eq!(bucket_of(told), bucket_of(exact));
            prop_assert!(bucket_of(exact) == BUCKETS - 1 || told >= exact);
        }
    }
}
