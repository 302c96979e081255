//! A histogram of latencies in nanoseconds: logarithmic with 128 linear steps per power of two,
//! so that every value is kept to within 0.8 %. Recording takes a few instructions.

const STEP_BITS: u32 = 7;
const STEPS: usize = 1 << STEP_BITS;
const BUCKETS: usize = STEPS * (64 - STEP_BITS as usize + 1);

/// Counts of values by size.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u32>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            count: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.buckets[bucket_of(value)] += 1;
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// How many values were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The largest value added.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` (0 to 1) of all values do not exceed; 0 when there are none.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= rank {
                return highest_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket_of(value: u64) -> usize {
    let bits = 64 - value.leading_zeros();
    if bits <= STEP_BITS {
        return usize::try_from(value).unwrap_or(0);
    }
    let shift = bits - STEP_BITS - 1;
    let step = usize::try_from(value >> shift).unwrap_or(0) - STEPS;
    (shift as usize + 1) * STEPS + step
}

/// The largest value that falls into a bucket.
fn highest_of(bucket: usize) -> u64 {
    if bucket < STEPS {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    let low = (STEPS + bucket % STEPS) as u64;
    (low << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_its_value_within_a_hundredth() {
        for value in (0..63).flat_map(|bit| [1_u64 << bit, (1 << bit) + (1 << bit) / 3]) {
            let highest = highest_of(bucket_of(value));
            assert!(highest >= value, "{value} lies above {highest}");
            assert!(
                highest - value <= value / 100,
                "{value} is kept as {highest}"
            );
        }
    }

    #[test]
    fn quantiles_of_a_hundred_values_are_their_ranks() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!(histogram.quantile(0.5), 50);
        assert_eq!(histogram.quantile(0.99), 99);
        assert_eq!(histogram.quantile(1.0), 100);
    }

    #[test]
    fn an_empty_histogram_has_quantile_zero() {
        assert_eq!(Histogram::default().quantile(0.99), 0);
    }
}
