//! The turns of a smooth weighted round robin as a list, so that several processes can share it.
//!
//! Processes that keep standings of their own are each exact and together are not: all of them
//! begin with the same member. Here each draws the number of its turn from one counter, and the
//! number says whose turn it is: the place in the sequence that the standings would give from a
//! fresh start (5, 3, 2 give A B C A A B A C B A). So W turns in a row, W being the sum of the
//! weights, hold each member exactly as often as its weight says, whoever drew them.
//!
//! All processes must see the same members for that. When one goes down or a weight changes, each
//! makes the sequence anew as soon as it knows, and the turns between are as good as any.

/// Longest sequence times members: what making one may cost, about a millisecond. Beyond it each
/// process goes by its own standings, and shares may differ by one turn for each process.
const STEPS_MAX: u64 = 1 << 20;

/// Whose turn is when, for the members that have turns at present. Made when a turn is asked for
/// and something has changed, so it costs nothing where turns are not shared.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    turns: Option<Turns>,
}

#[derive(Clone, Debug)]
enum Turns {
    /// Places one after the other.
    Listed(Vec<u32>),
    /// The list would be too long.
    TooMany,
}

impl Sequence {
    /// The members or their weights have changed.
    pub(super) fn forget(&mut self) {
        self.turns = None;
    }

    /// The place of the member whose turn it is; `weights` are those of all members, 0 for those
    /// that have no turns.
    pub(super) fn place(&mut self, turn: u64, weights: impl Iterator<Item = u32>) -> Option<u32> {
        match self.turns.get_or_insert_with(|| turns(weights)) {
            Turns::Listed(list) => Some(list[remainder(turn, list.len())?]),
            Turns::TooMany => None,
        }
    }
}

fn turns(weights: impl Iterator<Item = u32>) -> Turns {
    let with_turns = (0..).zip(weights).filter(|&(_, weight)| weight > 0);
    let (mut places, weights): (Vec<u32>, Vec<u32>) = with_turns.unzip();
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
    if divisor == 0 || weights.iter().all(|&weight| weight == divisor) {
        places.shrink_to_fit();
        return Turns::Listed(places);
    }
    let shares = weights.iter().map(|weight| u64::from(weight / divisor));
    let total: u64 = shares.clone().sum();
    if total.saturating_mul(places.len() as u64) > STEPS_MAX {
        return Turns::TooMany;
    }
    let mut standings = vec![0; places.len()];
    let list = (0..total).map(|_| {
        let mut richest = 0;
        for (place, share) in shares.clone().enumerate() {
            standings[place] += share.cast_signed();
            if standings[place] > standings[richest] {
                richest = place;
            }
        }
        standings[richest] -= total.cast_signed();
        places[richest]
    });
    Turns::Listed(list.collect())
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    if one == 0 {
        other
    } else {
        greatest_common_divisor(other % one, one)
    }
}

fn remainder(turn: u64, length: usize) -> Option<usize> {
    usize::try_from(turn.checked_rem(length as u64)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{ASK, Pool};
    use super::super::{Algorithm, Ask};
    use crate::core::health::Verdict::{Down, Up};

    /// Processes with pools of their own that draw turns from one counter.
    struct Machine {
        pools: Vec<Pool>,
        turns: u64,
    }

    impl Machine {
        fn new(processes: usize, algorithm: Algorithm, weights: &[u32]) -> Self {
            let pools = (0..processes).map(|_| Pool::new(algorithm, weights));
            Self {
                pools: pools.collect(),
                turns: 0,
            }
        }

        fn name(&mut self, process: usize) -> String {
            let ask = Ask {
                turn: Some(self.turns),
                ..ASK
            };
            self.turns += 1;
            self.pools[process].name(&ask)
        }

        /// One pick by each of these processes.
        fn names(&mut self, processes: impl IntoIterator<Item = usize>) -> String {
            processes.into_iter().map(|k| self.name(k)).collect()
        }
    }

    #[test]
    fn processes_take_turns_as_one_would() {
        let order = [0, 1, 2, 3, 3, 3, 1, 0, 0, 2];
        let mut machine = Machine::new(4, Algorithm::RoundRobin, &[5, 3, 2]);
        assert_eq!(machine.names(order), "ABCAABACBA");
        assert_eq!(machine.names([1; 10]), "ABCAABACBA");
        let mut machine = Machine::new(4, Algorithm::RoundRobin, &[7, 7, 7]);
        assert_eq!(machine.names([0, 1, 2, 3, 0, 0]), "ABCABC");
    }

    #[test]
    fn idle_members_take_turns_over_all_processes() {
        let mut machine = Machine::new(4, Algorithm::LeastConnections, &[1, 1, 1, 1]);
        assert_eq!(machine.names(0..4), "ABCD");
    }

    #[test]
    fn a_turn_does_not_go_to_a_member_that_has_more_than_others() {
        let mut machine = Machine::new(1, Algorithm::LeastConnections, &[1, 1, 1]);
        machine.pools[0].at(0).load_elsewhere = 1;
        let names = machine.names([0; 30]);
        assert!(!names.contains('A'), "{names}");
        assert_eq!(names.matches('B').count(), 15);
    }

    #[test]
    fn a_member_that_is_down_has_no_turns_and_comes_back_without_a_burst() {
        let mut machine = Machine::new(2, Algorithm::RoundRobin, &[4, 2, 1]);
        machine.names([0, 1, 0]);
        for pool in &mut machine.pools {
            pool.set(0, Down);
        }
        let names = machine.names((0..12).map(|n| n % 2));
        assert_eq!(
            (names.matches('B').count(), names.matches('C').count()),
            (8, 4)
        );
        for pool in &mut machine.pools {
            pool.set(0, Up);
        }
        let names = machine.names((0..14).map(|n| n % 2));
        assert_eq!(names.matches('A').count(), 8, "{names}");
        assert!(!names.contains("AAA"), "{names}");
    }

    #[test]
    fn the_turns_of_a_full_member_go_to_the_others_in_proportion() {
        let mut machine = Machine::new(1, Algorithm::RoundRobin, &[5, 4, 1]);
        machine.pools[0].at(0).connections_max = Some(0);
        let names = machine.names([0; 100]);
        assert_eq!(names.matches('B').count(), 80, "{names}");
    }

    #[test]
    fn weights_count_from_the_next_turn() {
        let mut machine = Machine::new(1, Algorithm::RoundRobin, &[1, 1]);
        machine.pools[0].at(0).weight = 0;
        assert_eq!(machine.names([0; 3]), "BBB");
        machine.pools[0].at(0).weight = 3;
        assert_eq!(machine.names([0; 8]).matches('A').count(), 6);
    }

    #[test]
    fn a_sequence_that_would_be_too_long_is_left_to_each_process() {
        let mut machine = Machine::new(2, Algorithm::RoundRobin, &[1_048_571, 2]);
        assert_eq!(machine.names([0, 1]), "AA", "each its own");
        let counts = machine.names((0..1000).map(|n| n % 2));
        assert!(counts.matches('B').count() <= 1);
    }

    #[test]
    fn a_tried_member_loses_its_turn_to_another() {
        let mut pool = Pool::new(Algorithm::RoundRobin, &[1, 1, 1]);
        let tried = [pool.members[1]];
        let ask = Ask {
            turn: Some(1),
            tried: &tried,
            ..ASK
        };
        assert_ne!(pool.name(&ask), "B");
    }

    proptest! {
        #[test]
        fn any_run_of_turns_holds_each_member_as_often_as_its_weight_says(
            weights in proptest::collection::vec(0..12_u32, 1..6),
            processes in 1..5_usize,
            first in any::<u32>(),
        ) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let mut machine = Machine::new(processes, Algorithm::RoundRobin, &weights);
            machine.turns = u64::from(first);
            let turns = usize::try_from(total).expect("small");
            let names = machine.names((0..turns).map(|n| n % processes));
            for (name, weight) in ('A'..).zip(&weights) {
                prop_assert_eq!(names.matches(name).count(), *weight as usize, "{}", names);
            }
        }

        #[test]
        fn the_sequence_is_the_one_of_the_standings(
            weights in proptest::collection::vec(0..12_u32, 1..6),
        ) {
            let total = weights.iter().sum::<u32>() as usize;
            let own = Pool::new(Algorithm::RoundRobin, &weights).names(total);
            let shared = Machine::new(1, Algorithm::RoundRobin, &weights).names(vec![0; total]);
            prop_assert_eq!(own, shared);
        }
    }
}
