//! Smooth weighted round robin, in the order nginx has made known.
//!
//! Every pick pays each candidate its weight; the richest is picked and pays the total. So the
//! standings of the members sum to zero, and weights 5, 3, 2 give A B C A A B A C B A, never
//! five times A first.
//!
//! What that promises while nothing changes, W being the sum of the weights: W picks in a row,
//! wherever they begin, hold each member exactly as often as its weight says. No member is ever
//! a whole pick ahead of its share: the richest has at least W / n before it pays W. It may be
//! more than one pick behind for a while when there are many members of very different weights.

use super::sequence::Sequence;
use super::tournament::Tournament;
use super::{Ask, Seen};

/// Whose turn it is among the members of an upstream that have the lowest load for their weight;
/// where loads do not count, all of them have.
#[derive(Clone, Debug)]
pub(super) struct Rotation {
    tournament: Tournament,
    sequence: Sequence,
}

impl Rotation {
    /// Members, each with the standing it has from before.
    pub(super) fn new(members: impl Iterator<Item = (Seen, i64)>) -> Self {
        let members = members.map(|(seen, standing)| (seen.weight, seen.load, standing));
        Self {
            tournament: Tournament::new(members),
            sequence: Sequence::default(),
        }
    }

    /// Brings a member up to date.
    pub(super) fn see(&mut self, place: u32, seen: Seen) {
        if self.tournament.see(place, seen.weight, seen.load) {
            self.sequence.forget();
        }
    }

    /// What each member is owed.
    pub(super) fn standings(&self) -> Vec<i64> {
        self.tournament.standings()
    }

    /// The place of the next in turn that is none of `tried`.
    pub(super) fn pick(&mut self, ask: &Ask<'_>, tried: impl Iterator<Item = u32>) -> Option<u32> {
        self.tournament.settle();
        let sequence = &mut self.sequence;
        self.tournament.without(tried, |tournament| {
            let shared = ask
                .turn
                .and_then(|turn| sequence.place(turn, tournament.weights()));
            shared
                .filter(|&place| tournament.is_lowest(place))
                .or_else(|| tournament.next())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ASK, Pool};
    use super::super::{Algorithm, Ask};
    use crate::core::health::Verdict::{Down, Up};

    fn pool(weights: &[u32]) -> Pool {
        Pool::new(Algorithm::RoundRobin, weights)
    }

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(pool(&[1, 1, 1]).names(9), "ABCABCABC");
        assert_eq!(pool(&[700, 700, 700]).names(9), "ABCABCABC");
    }

    #[test]
    fn weights_5_3_2_give_the_smooth_order() {
        assert_eq!(pool(&[5, 3, 2]).names(20), "ABCAABACBAABCAABACBA");
    }

    #[test]
    fn the_share_of_a_member_that_is_down_goes_to_the_others_in_proportion() {
        let mut pool = pool(&[4, 2, 1]);
        pool.set(0, Down);
        assert_eq!(pool.names(6), "BCBBCB");
    }

    #[test]
    fn a_member_that_comes_back_gets_no_burst() {
        for picks_before in 0..7 {
            for picks_without in 0..7 {
                let mut pool = pool(&[4, 2, 1]);
                pool.names(picks_before);
                pool.set(0, Down);
                pool.names(picks_without);
                pool.set(0, Up);
                let after = pool.names(7);
                let count = after.matches('A').count();
                assert!(
                    (3..=5).contains(&count),
                    "{picks_before} {picks_without} {after}"
                );
                assert!(
                    !after.contains("AAA"),
                    "{picks_before} {picks_without} {after}"
                );
            }
        }
    }

    #[test]
    fn a_member_that_is_full_after_each_of_its_turns_keeps_its_share() {
        let mut pool = pool(&[1, 1, 3]);
        pool.at(0).connections_max = Some(1);
        let mut counts = [0; 3];
        for _ in 0..1000 {
            let first = pool.take();
            let second = pool.take();
            for lease in [first, second] {
                counts[lease.backend.0 as usize] += 1;
                pool.backends.give_back(lease);
            }
        }
        assert!((300..=500).contains(&counts[0]), "{counts:?}");
        assert!((300..=500).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn a_member_that_often_leaves_before_its_turn_saves_nothing_up() {
        let mut pool = pool(&[1, 1, 1]);
        for _ in 0..50 {
            assert_ne!(pool.name(&ASK), "C", "it is not its turn yet");
            pool.set(2, Down);
            pool.names(2);
            pool.set(2, Up);
        }
        let names = pool.names(6);
        assert!((1..=3).contains(&names.matches('C').count()), "{names}");
    }

    #[test]
    fn members_that_come_and_go_leave_no_debt_behind() {
        let mut pool = pool(&[1, 1]);
        for round in 0..50 {
            pool.add(&format!("new {round}"), 9);
            pool.name(&ASK);
            let id = pool.members.pop().expect("the new one");
            pool.backends.retire(id);
            pool.adopt();
        }
        assert!(["ABAB", "BABA"].contains(&&*pool.names(4)));
        pool.add("C", 1);
        let names = pool.names(3);
        assert!(
            ["A", "B", "C"].iter().all(|name| names.contains(name)),
            "{names}"
        );
    }

    #[test]
    fn a_member_of_weight_zero_gets_nothing_and_owes_nothing() {
        let mut pool = pool(&[2, 1]);
        pool.name(&ASK);
        pool.at(0).weight = 0;
        assert_eq!(pool.names(3), "BBB");
        assert_eq!(pool.standings(), [0, 0]);
    }

    #[test]
    fn a_changed_weight_counts_from_the_next_pick_and_keeps_the_standings() {
        let mut pool = pool(&[1, 1, 1]);
        pool.name(&ASK);
        let before = pool.standings();
        pool.at(2).weight = 5;
        assert_eq!(pool.standings(), before);
        assert_eq!(pool.name(&ASK), "C");
        let next = pool.names(70);
        assert!((49..=51).contains(&next.matches('C').count()), "{next}");
    }

    #[test]
    fn a_tried_member_is_skipped_but_keeps_its_standing() {
        let mut pool = pool(&[1, 1, 1]);
        assert_eq!(pool.name(&ASK), "A");
        let tried = [pool.members[1]];
        let kept = pool.standings()[1];
        let ask = Ask {
            tried: &tried,
            ..ASK
        };
        assert_eq!(pool.name(&ask), "C");
        assert_eq!(pool.standings()[1], kept);
        assert_eq!(pool.name(&ASK), "B");
    }
}
