//! Two different backends drawn by weight, and the one with the lower load for its weight.
//!
//! Nearly as even as least connections, but without everybody's rush to the same backend when
//! several balancers know the loads a little late.

use super::{Ask, Ratio, eligible};
use crate::core::backend::{BackendId, Backends};
use crate::core::rng::Rng;

/// The better of two.
pub(super) fn pick(
    members: &[BackendId],
    backends: &Backends,
    ask: &Ask<'_>,
    rng: &mut Rng,
) -> Option<BackendId> {
    let one = draw(members, backends, ask, None, rng)?;
    let Some(two) = draw(members, backends, ask, Some(one), rng) else {
        return Some(one);
    };
    let ratio = |id| Ratio::of(backends.get(id));
    let better = if ratio(two).cmp(ratio(one)).is_lt() {
        two
    } else {
        one
    };
    Some(better)
}

/// One eligible member other than `without`, each as likely as its weight.
fn draw(
    members: &[BackendId],
    backends: &Backends,
    ask: &Ask<'_>,
    without: Option<BackendId>,
    rng: &mut Rng,
) -> Option<BackendId> {
    let weights = || {
        eligible(members, backends, ask)
            .filter(|&(id, _)| Some(id) != without)
            .map(|(id, backend)| (id, u64::from(backend.weight)))
    };
    let mut point = rng.below(weights().map(|(_, weight)| weight).sum());
    for (id, weight) in weights() {
        match point.checked_sub(weight) {
            Some(rest) => point = rest,
            None => return Some(id),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::Algorithm;
    use super::super::tests::{ASK, Pool};
    use crate::core::balance::Balancer;

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
            pool.balancer = Balancer::new(Algorithm::RandomTwo, seed);
            pool.names(50)
        };
        assert_eq!(names(7), names(7));
        assert_ne!(names(7), names(8));
    }

    #[test]
    fn a_picked_member_is_one_of_the_pool_while_others_are_tried() {
        let mut pool = pool(&[1, 1, 1]);
        let tried = [pool.members[0], pool.members[2]];
        let ask = super::Ask {
            tried: &tried,
            ..ASK
        };
        assert_eq!(pool.name(&ask), "B");
    }
}
