//! Weighted rendezvous hashing: every backend draws a lot for the key, the best lot wins.
//!
//! A lot depends on the key, the backend's identity and its weight alone, not on the other
//! backends or their order. So all hosts agree, a backend that goes away moves only the
//! keys it had, one that comes back takes exactly those again, and who is second for a key
//! is as fixed as who is first.
//!
//! The lot is the arrival time of an exponential process whose rate is the weight: -log2(u) /
//! weight, with u drawn by hashing; the earliest wins, with a chance of exactly weight / sum of
//! weights. It is computed in integers, because the logarithms of mathematical libraries
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
/// Linear between the 257 points of a table: within 0.2 % of the true value, but for u so close
/// to 1 that the unit itself is coarser than that.
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

#[cfg(test)]
mod tests {
    use super::super::tests::{ASK, Pool};
    use super::super::{Algorithm, bytes_key};
    use super::*;
    use crate::core::health::Verdict;

    fn pool(weights: &[u32]) -> Pool {
        Pool::new(Algorithm::Hash, weights)
    }

    fn of(key: u64) -> Ask<'static> {
        Ask { key, ..ASK }
    }

    #[test]
    fn a_delay_is_the_binary_logarithm() {
        let one = 1 << POINT;
        let exact = [
            (1 << 63, one),
            (1 << 62, 2 * one),
            (1, 64 * one),
            (0, 64 * one),
        ];
        for (drawn, expected) in exact {
            assert_eq!(delay(drawn), expected, "{drawn}");
        }
        assert_eq!(LOG2[128], 10_290_769_141_693, "log2(1.5) in units of 2^-44");
        assert!(delay(u64::MAX) >= 1);
    }

    #[test]
    fn a_delay_is_within_0_2_percent_of_the_logarithm() {
        let mut rng = crate::core::rng::Rng::new(3);
        for drawn in (0..5000).map(|_| rng.next_u64()) {
            #[allow(clippy::cast_precision_loss, reason = "53 bits are enough to compare")]
            let (expected, got) = {
                let u = drawn as f64 / 2_f64.powi(64);
                (-u.log2(), delay(drawn) as f64 / 2_f64.powi(44))
            };
            assert!(
                (got - expected).abs() <= 0.002 * expected,
                "{drawn}: {got} {expected}"
            );
        }
    }

    #[test]
    fn a_higher_number_never_has_a_longer_delay() {
        let mut rng = crate::core::rng::Rng::new(3);
        let mut drawn: Vec<_> = (0..5000).map(|_| rng.next_u64() >> rng.below(64)).collect();
        drawn.sort_unstable();
        let delays: Vec<_> = drawn.iter().map(|&drawn| delay(drawn)).collect();
        assert!(delays.is_sorted_by(|one, two| one >= two));
    }

    #[test]
    fn keys_are_where_they_always_were() {
        let mut pool = Pool::new(Algorithm::Hash, &[]);
        pool.add("192.0.2.1:80", 1);
        pool.add("192.0.2.2:80", 2);
        pool.add("[2001:db8::1]:80", 3);
        let table = [
            ("a", "[2001:db8::1]:80"),
            ("b", "[2001:db8::1]:80"),
            ("c", "192.0.2.1:80"),
            ("d", "192.0.2.2:80"),
            ("e", "192.0.2.2:80"),
            ("f", "[2001:db8::1]:80"),
            ("198.51.100.7", "192.0.2.1:80"),
            ("/", "192.0.2.2:80"),
            ("/index.html", "[2001:db8::1]:80"),
            ("", "192.0.2.2:80"),
        ];
        for (key, expected) in table {
            assert_eq!(
                pool.name(&of(bytes_key(key.as_bytes()))),
                expected,
                "{key:?}"
            );
        }
    }

    #[test]
    fn the_order_of_the_file_does_not_matter() {
        let mut one = pool(&[1, 2, 3, 4]);
        let mut two = Pool::new(Algorithm::Hash, &[]);
        for (name, weight) in [("D", 4), ("B", 2), ("A", 1), ("C", 3)] {
            two.add(name, weight);
        }
        for key in 0..500 {
            assert_eq!(one.name(&of(key)), two.name(&of(key)));
        }
    }

    #[test]
    fn a_member_that_goes_down_moves_only_its_keys_and_gets_them_back() {
        let mut pool = pool(&[1, 2, 3]);
        let before: Vec<_> = (0..500).map(|key| pool.name(&of(key))).collect();
        pool.set(1, Verdict::Down);
        for (key, name) in (0..).zip(&before) {
            let now = pool.name(&of(key));
            assert!(now == *name || name == "B" && now != "B", "{key}");
        }
        pool.set(1, Verdict::Up);
        let after: Vec<_> = (0..500).map(|key| pool.name(&of(key))).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let weights = [1, 2, 3, 4, 10];
        let mut pool = pool(&weights);
        let mut counts = [0_u32; 5];
        for key in 0..60_000_u64 {
            let id = pool
                .pick(&of(bytes_key(&key.to_be_bytes())))
                .expect("a member");
            counts[id.0 as usize] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            let share = 3000 * weight;
            assert!(count.abs_diff(share) * 20 <= share, "{counts:?}");
        }
    }

    #[test]
    fn clients_with_neighbouring_addresses_are_shared_too() {
        let mut pool = pool(&[1; 4]);
        let mut counts = [0_u32; 4];
        for host in 0..4096_u32 {
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 + host);
            let key = crate::core::balance::client_key(ip.into(), 64);
            counts[pool.pick(&of(key)).expect("a member").0 as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| count.abs_diff(1024) < 120),
            "{counts:?}"
        );
    }

    #[test]
    fn a_retry_goes_where_later_requests_go_while_the_first_choice_is_down() {
        let mut pool = pool(&[1, 2, 3, 4]);
        for key in 0..200 {
            let first = pool.pick(&of(key)).expect("a member");
            let tried = [first];
            let retry = pool.name(&Ask {
                tried: &tried,
                ..of(key)
            });
            let index = first.0 as usize;
            pool.set(index, Verdict::Down);
            assert_eq!(pool.name(&of(key)), retry);
            pool.set(index, Verdict::Up);
        }
    }

    #[test]
    fn the_seed_settles_a_tie() {
        let lot = |seed| Lot {
            delay: 5,
            weight: 1,
            seed,
        };
        assert!(lot(1).beats(&lot(2)));
        assert!(!lot(2).beats(&lot(1)));
    }
}
