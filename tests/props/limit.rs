//! A token bucket never lets through more than its rate and burst allow, nor less.

use proptest::collection::vec;
use proptest::prelude::*;
use weir::core::limit::TokenBucket;
use weir::core::time::Tick;

proptest! {
    #[test]
    fn what_passes_in_any_span_is_at_most_the_burst_and_the_rate_times_the_span(
        rate in 1..2000_u64,
        burst in 1..50_u64,
        gaps_ms in vec(0..20_u64, 1..300),
    ) {
        let mut bucket = TokenBucket::new(rate, burst);
        let mut now = 0;
        let mut passed = Vec::new();
        for gap_ms in gaps_ms {
            now += gap_ms;
            if bucket.try_take(Tick(now)) {
                passed.push(now);
            }
        }
        for first in 0..passed.len() {
            for last in first..passed.len() {
                let count = u64::try_from(last - first + 1).expect("small");
                let span_ms = passed[last] - passed[first];
                prop_assert!(count * 1000 <= burst * 1000 + rate * span_ms);
            }
        }
    }

    #[test]
    fn who_asks_every_millisecond_gets_exactly_the_burst_and_the_rate(
        rate in 0..1000_u64,
        burst in 2..50_u64,
        seconds in 1..5_u64,
    ) {
        let mut bucket = TokenBucket::new(rate, burst);
        let asks = 0..=seconds * 1000;
        let asked = seconds * 1000 + 1;
        let passed = asks.filter(|&at| bucket.try_take(Tick(at))).count();
        let expected = asked.min(burst + rate * seconds);
        prop_assert_eq!(u64::try_from(passed), Ok(expected));
    }
}
