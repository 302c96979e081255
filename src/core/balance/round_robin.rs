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

use super::Ask;
use crate::core::backend::{Backend, BackendId, Backends};

/// The next in turn.
pub(super) fn pick(
    members: &[BackendId],
    backends: &mut Backends,
    ask: &Ask<'_>,
) -> Option<BackendId> {
    settle(members, backends, ask);
    turn(members, backends, |id, backend| ask.admits(id, backend))
}

/// Forgets the standing of members that take nothing at present, so that they come back without
/// a burst, and makes the others sum to zero again.
///
/// Without the second half, the zero with which a member comes back would not be the mean of the
/// others: what it left with would be their debt or credit to it, seen as a burst or a famine,
/// and it would add up over members that come and go. All shift by the same amount, so their
/// order stays as it was.
pub(super) fn settle(members: &[BackendId], backends: &mut Backends, ask: &Ask<'_>) {
    let mut sum = 0;
    let mut count = 0;
    for &id in members {
        let Some(backend) = backends.try_get_mut(id) else {
            continue;
        };
        if backend.takes_new(ask.even_if_down) {
            sum += backend.standing;
            count += 1;
        } else {
            backend.standing = 0;
        }
    }
    if sum != 0 && count != 0 {
        spread(members, backends, ask, sum, count);
    }
}

/// Takes `sum` from the `count` members that take new traffic, in equal parts.
fn spread(members: &[BackendId], backends: &mut Backends, ask: &Ask<'_>, sum: i64, count: i64) {
    let part = sum.div_euclid(count);
    let mut remainder = sum.rem_euclid(count);
    for &id in members {
        let Some(backend) = backends.try_get_mut(id) else {
            continue;
        };
        if backend.takes_new(ask.even_if_down) {
            let extra = i64::from(remainder > 0);
            backend.standing -= part + extra;
            remainder -= extra;
        }
    }
}

/// One turn among the members that `admits` lets in; the first of equals is picked.
pub(super) fn turn(
    members: &[BackendId],
    backends: &mut Backends,
    admits: impl Fn(BackendId, &Backend) -> bool,
) -> Option<BackendId> {
    let mut total = 0;
    let mut richest: Option<(BackendId, i64)> = None;
    for &id in members {
        let Some(backend) = backends.try_get_mut(id) else {
            continue;
        };
        if !admits(id, backend) {
            continue;
        }
        let weight = i64::from(backend.weight);
        total += weight;
        backend.standing += weight;
        if richest.is_none_or(|(_, standing)| backend.standing > standing) {
            richest = Some((id, backend.standing));
        }
    }
    let (id, _) = richest?;
    backends.get_mut(id).standing -= total;
    Some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{ASK, Pool};
    use super::super::{Algorithm, Ask};
    use crate::core::health::Verdict::{Down, Up};

    fn pool(weights: &[u32]) -> Pool {
        Pool::new(Algorithm::RoundRobin, weights)
    }

    fn standings(pool: &Pool) -> Vec<i64> {
        let members = pool.members.iter();
        members.map(|&id| pool.backends.get(id).standing).collect()
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
        assert_eq!(standings(&pool), [0, 0]);
    }

    #[test]
    fn a_changed_weight_counts_from_the_next_pick_and_keeps_the_standings() {
        let mut pool = pool(&[1, 1, 1]);
        pool.name(&ASK);
        let before = standings(&pool);
        pool.at(2).weight = 5;
        assert_eq!(standings(&pool), before);
        assert_eq!(pool.name(&ASK), "C");
        let next = pool.names(70);
        assert!((49..=51).contains(&next.matches('C').count()), "{next}");
    }

    #[test]
    fn a_tried_member_is_skipped_but_keeps_its_standing() {
        let mut pool = pool(&[1, 1, 1]);
        assert_eq!(pool.name(&ASK), "A");
        let tried = [pool.members[1]];
        let kept = pool.at(1).standing;
        let ask = Ask {
            tried: &tried,
            ..ASK
        };
        assert_eq!(pool.name(&ask), "C");
        assert_eq!(pool.at(1).standing, kept);
        assert_eq!(pool.name(&ASK), "B");
    }

    /// What happens to a pool between two picks.
    #[derive(Clone, Debug)]
    enum Event {
        Weight(usize, u32),
        Draining(usize, bool),
        Down(usize),
        Up(usize),
        Full(usize, bool),
        Pick { without: Option<usize> },
    }

    fn event() -> impl Strategy<Value = Event> {
        let member = 0..MEMBERS;
        prop_oneof![
            1 => (member.clone(), 0..100_u32).prop_map(|(m, weight)| Event::Weight(m, weight)),
            1 => (member.clone(), any::<bool>()).prop_map(|(m, on)| Event::Draining(m, on)),
            1 => member.clone().prop_map(Event::Down),
            1 => member.clone().prop_map(Event::Up),
            1 => (member.clone(), any::<bool>()).prop_map(|(m, on)| Event::Full(m, on)),
            4 => proptest::option::of(member).prop_map(|without| Event::Pick { without }),
        ]
    }

    const MEMBERS: usize = 5;

    fn apply(pool: &mut Pool, event: &Event) -> bool {
        match *event {
            Event::Weight(m, weight) => pool.at(m).weight = weight,
            Event::Draining(m, on) => pool.at(m).draining = on,
            Event::Down(m) => pool.set(m, Down),
            Event::Up(m) => pool.set(m, Up),
            Event::Full(m, on) => pool.at(m).connections_max = on.then_some(0),
            Event::Pick { without } => {
                let tried: Vec<_> = without.map(|m| pool.members[m]).into_iter().collect();
                let ask = Ask {
                    tried: &tried,
                    ..ASK
                };
                return pool.pick(&ask).is_some();
            }
        }
        false
    }

    proptest! {
        #[test]
        fn standings_sum_to_zero_after_every_pick_whatever_happened(
            least_connections in any::<bool>(),
            weights in proptest::collection::vec(0..100_u32, MEMBERS),
            events in proptest::collection::vec(event(), 1..200),
        ) {
            let algorithm = if least_connections {
                Algorithm::LeastConnections
            } else {
                Algorithm::RoundRobin
            };
            let mut pool = Pool::new(algorithm, &weights);
            for event in &events {
                if apply(&mut pool, event) {
                    let standings = standings(&pool);
                    prop_assert_eq!(standings.iter().sum::<i64>(), 0, "{:?}", standings);
                    let bound = 100 * i64::try_from(MEMBERS).expect("small") * 2;
                    prop_assert!(standings.iter().all(|s| s.abs() <= bound), "{:?}", standings);
                }
            }
        }
    }
}
