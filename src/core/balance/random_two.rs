//! Two different backends drawn by weight, and the one with the lower load for its weight.
//!
//! Nearly as even as least connections, but without everybody's rush to the same backend when
//! several balancers know the loads a little late.

use super::Seen;
use super::tournament::FULL;
use crate::core::rng::Rng;
use crate::core::steps::step;

/// The weights of the members, to draw one by weight: sums over ranges whose lengths are powers of
/// two (Fenwick, A new data structure for cumulative frequency tables, 1994).
#[derive(Clone, Debug)]
pub(super) struct Lots {
    /// Of those that may be drawn; 0 of others.
    weights: Vec<u32>,
    /// At `i`, the sum of the weights up to place `i`, of as many as its last one bit says.
    sums: Vec<u64>,
}

impl Lots {
    /// One for each member.
    pub(super) fn new(members: impl Iterator<Item = Seen>) -> Self {
        let weights: Vec<_> = members.map(weight).collect();
        let mut sums = vec![0; weights.len() + 1];
        for (at, &weight) in (1..).zip(&weights) {
            sums[at] += u64::from(weight);
            let (sum, above) = (sums[at], at + last_one(at));
            if let Some(above) = sums.get_mut(above) {
                *above += sum;
            }
        }
        Self { weights, sums }
    }

    /// Brings a member up to date.
    pub(super) fn see(&mut self, place: u32, seen: Seen) {
        let mut at = place as usize + 1;
        let after = weight(seen);
        let before = std::mem::replace(&mut self.weights[place as usize], after);
        if before == after {
            return;
        }
        while let Some(sum) = self.sums.get_mut(at) {
            *sum = *sum - u64::from(before) + u64::from(after);
            at += last_one(at);
        }
    }

    /// Two different members, each as likely as its weight, or as many as there are. None of
    /// `tried` is drawn.
    pub(super) fn draw_two(
        &self,
        tried: impl Iterator<Item = u32>,
        rng: &mut Rng,
    ) -> (Option<u32>, Option<u32>) {
        let mut without = Vec::new();
        tried.for_each(|place| leave_out(&mut without, place));
        let Some(one) = self.draw(&without, rng) else {
            return (None, None);
        };
        leave_out(&mut without, one);
        (Some(one), self.draw(&without, rng))
    }

    /// None of `without`, which is sorted.
    fn draw(&self, without: &[u32], rng: &mut Rng) -> Option<u32> {
        let weight = |&place: &u32| u64::from(self.weights[place as usize]);
        let left_out: u64 = without.iter().map(weight).sum();
        let total = self.sum_before(self.weights.len()) - left_out;
        if total == 0 {
            return None;
        }
        let mut point = rng.below(total);
        for place in without {
            if point >= self.sum_before(*place as usize) {
                point += weight(place);
            }
        }
        Some(self.place_at(point))
    }

    /// The weight of all before a place.
    fn sum_before(&self, place: usize) -> u64 {
        let mut at = place;
        let mut sum = 0;
        while at > 0 {
            step();
            sum += self.sums[at];
            at -= last_one(at);
        }
        sum
    }

    /// The first place up to which there is more weight than that.
    fn place_at(&self, point: u64) -> u32 {
        let mut left = point;
        let mut at = 0;
        let mut span = self.sums.len().next_power_of_two() / 2;
        while span > 0 {
            step();
            if let Some(sum) = self.sums.get(at + span).filter(|&&sum| sum <= left) {
                left -= sum;
                at += span;
            }
            span /= 2;
        }
        // Places are ids, which have 32 bits.
        u32::try_from(at).unwrap_or(u32::MAX)
    }
}

/// Puts a place where it belongs among those, once.
fn leave_out(without: &mut Vec<u32>, place: u32) {
    if let Err(at) = without.binary_search(&place) {
        without.insert(at, place);
    }
}

fn weight(seen: Seen) -> u32 {
    if seen.load == FULL { 0 } else { seen.weight }
}

/// The lowest bit that is set.
fn last_one(at: usize) -> usize {
    at & at.wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::super::Algorithm;
    use super::super::tests::{ASK, Pool};
    use crate::core::backend::PoolId;
    use crate::core::balance::{Ask, Balancer};

    fn pool(weights: &[u32]) -> Pool {
        Pool::new(Algorithm::RandomTwo, weights)
    }

    #[test]
    fn of_two_members_the_one_with_the_lower_load_for_its_weight_is_picked() {
        let mut pool = pool(&[3, 1]);
        pool.at(0).load_elsewhere = 2;
        pool.at(1).load_elsewhere = 1;
        assert_eq!(pool.names(20), "A".repeat(20));
        pool.at(0).load_elsewhere = 4;
        assert_eq!(pool.names(20), "B".repeat(20));
    }

    #[test]
    fn the_most_loaded_member_is_never_picked() {
        let mut pool = pool(&[1, 1, 1, 1]);
        pool.at(2).load_elsewhere = 1;
        let names = pool.names(200);
        assert!(!names.contains('C'), "{names}");
        assert!(
            ["A", "B", "D"].iter().all(|name| names.contains(name)),
            "{names}"
        );
    }

    #[test]
    fn the_only_member_is_picked() {
        assert_eq!(pool(&[1]).names(3), "AAA");
    }

    #[test]
    fn idle_members_are_drawn_by_weight() {
        let names = pool(&[6, 3, 1]).names(10_000);
        let count = |name| names.matches(name).count();
        let counts = [count("A"), count("B"), count("C")];
        assert!((5800..6200).contains(&counts[0]), "{counts:?}");
        assert!((2800..3200).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn the_seed_decides_what_is_drawn() {
        let names = |seed| {
            let mut pool = pool(&[1, 1, 1, 1]);
            pool.balancer = Balancer::new(Algorithm::RandomTwo, seed, PoolId(0));
            pool.adopt();
            pool.names(50)
        };
        assert_eq!(names(7), names(7));
        assert_ne!(names(7), names(8));
    }

    #[test]
    fn a_picked_member_is_one_of_the_pool_while_others_are_tried() {
        let mut pool = pool(&[1, 1, 1]);
        let tried = [pool.members[0], pool.members[2]];
        let ask = Ask {
            tried: &tried,
            ..ASK
        };
        assert_eq!(pool.name(&ask), "B");
    }
}
