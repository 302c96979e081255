//! Random numbers from a seed: the same seed gives the same numbers, so a simulation repeats.
//!
//! splitmix64: fast, small, good enough to draw backends and jitter; not for secrets.

use crate::core::key::mix;

/// A source of random numbers.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// A source whose numbers follow from `seed` alone; every seed is as good as another.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, any `u64` as likely as another.
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        mix(self.state)
    }

    /// A number from 0 to `n - 1`; 0 when `n` is 0.
    ///
    /// The high half of a 128-bit product (Lemire 2019) without its rejection step: for the small
    /// `n` of this program the bias is below `n / 2^64`.
    pub fn below(&mut self, n: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(n);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "the high half of 128 bits is 64 bits"
        )]
        let high = (product >> 64) as u64;
        high
    }
}

/// The odd step that visits every state: 2^64 divided by the golden ratio.
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_splitmix64() {
        // Published with the reference implementation's seed 1234567.
        let mut rng = Rng::new(1_234_567);
        let drawn = [rng.next_u64(), rng.next_u64(), rng.next_u64()];
        assert_eq!(
            drawn,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn below_draws_every_number_below_and_no_other() {
        let mut rng = Rng::new(0);
        let mut drawn = [0_u32; 5];
        for _ in 0..5000 {
            drawn[usize::try_from(rng.below(5)).expect("small")] += 1;
        }
        assert!(
            drawn.iter().all(|count| (900..1100).contains(count)),
            "{drawn:?}"
        );
        assert_eq!((rng.below(1), rng.below(0)), (0, 0));
    }
}
