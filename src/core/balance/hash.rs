//! Weighted rendezvous hashing: every backend draws a lot for the key, the best lot wins.
//!
//! A lot depends on the key, the backend's identity and its weight alone, not on the other
//! backends or their order. So all hosts agree (H1), a backend that goes away moves only the
//! keys it had, one that comes back takes exactly those again (H2), and who is second for a key
//! is as fixed as who is first (H4).
//!
//! The lot is the arrival time of an exponential process whose rate is the weight: -log2(u) /
//! weight, with u drawn by hashing; the earliest wins, with a chance of exactly weight / sum of
//! weights (H3). It is computed in integers, because the logarithms of mathematical libraries
//! differ in their last bits between systems, and hosts must not.

use super::{Ask, eligible};
use crate::core::backend::{BackendId, Backends};
use crate::core::key::mix;

/// The backend whose lot for the key is the earliest.
pub(super) fn pick(members: &[BackendId], backends: &Backends, ask: &Ask<'_>) -> Option<BackendId> {
    let key = mix(ask.key);
    eligible(members, backends, ask)
        .map(|(id, backend)| (id, Lot::draw(key, backend.seed, backend.weight)))
        .reduce(|best, next| if next.1.beats(&best.1) { next } else { best })
        .map(|(id, _)| id)
}

/// What one backend has drawn for one key.
#[derive(Clone, Copy, Debug)]
struct Lot {
    delay: u64,
    weight: u32,
    seed: u64,
}

impl Lot {
    fn draw(key: u64, seed: u64, weight: u32) -> Self {
        Self {
            delay: delay(mix(key ^ seed)),
            weight,
            seed,
        }
    }

    /// Whether `delay / weight` is lower than the other's. The seed settles a tie, so that the
    /// order of the members does not.
    fn beats(&self, other: &Self) -> bool {
        let here = u128::from(self.delay) * u128::from(other.weight);
        let there = u128::from(other.delay) * u128::from(self.weight);
        (here, self.seed) < (there, other.seed)
    }
}

/// -log2(u) of u = `drawn` / 2^64, in units of 2^-44; at least 1. 0 counts as 1.
///
/// Linear between the 257 points of a table: within 0.2 % of the true value.
fn delay(drawn: u64) -> u64 {
    let zeros = (drawn | 1).leading_zeros();
    // The bits below the leading one, at the top: u = 2^-(zeros + 1) * (1 + fraction / 2^64).
    let fraction = ((drawn | 1) << zeros) << 1;
    let index = usize::from(fraction.to_be_bytes()[0]);
    let rest = (fraction << 8) >> (64 - REST_BITS);
    let (low, high) = (LOG2[index], LOG2[index + 1]);
    let log2 = low + (((high - low) * rest) >> REST_BITS);
    ((u64::from(zeros) + 1) << POINT) - log2
}

/// Binary digits after the point of a logarithm. With those of a delay before it (64 at most),
/// and a difference of two points times `REST_BITS`, everything fits in 64 bits.
const POINT: u32 = 44;
const REST_BITS: u32 = 24;

/// log2(1 + i / 256) in units of 2^-44, from 0 at 0 to 2^44 at 256.
static LOG2: [u64; 257] = log2_table();

const fn log2_table() -> [u64; 257] {
    let mut table = [0; 257];
    let mut index = 0;
    while index < 256 {
        table[index] = log2_of((1 << 62) + ((index as u64) << 54));
        index += 1;
    }
    table[256] = 1 << POINT;
    table
}

/// log2 of a number from 1 to below 2, given in units of 2^-62, digit by digit: squaring doubles
/// the logarithm, and whether the square reached 2 is the next digit.
#[allow(
    clippy::cast_possible_truncation,
    reason = "halved where it has reached 2^63, the square is below that"
)]
const fn log2_of(mut value: u64) -> u64 {
    let mut log2 = 0;
    let mut digit = 0;
    while digit < POINT {
        let square = (value as u128 * value as u128) >> 62;
        let reached = square >> 63;
        log2 = log2 << 1 | reached as u64;
        value = (square >> reached) as u64;
        digit += 1;
    }
    log2
}
