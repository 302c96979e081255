//! The lowest load for its weight; among equals, smooth weighted round robin.
//!
//! The turn among equals matters most when there is little to do: with all backends idle, the
//! first of the list would otherwise get every request. A member that is not among the equals is
//! neither paid nor does it pay, so its standing is what it was when it is among them again. That
//! is a [`Rotation`](super::round_robin::Rotation) in which loads count.

#[cfg(test)]
mod tests {
    use super::super::Algorithm;
    use super::super::tests::{ASK, Pool};

    fn pool(weights: &[u32]) -> Pool {
        Pool::new(Algorithm::LeastConnections, weights)
    }

    #[test]
    fn the_lowest_load_for_its_weight_is_picked() {
        let table = [
            (&[1, 1, 1], [2, 1, 3], "B"),
            (&[4, 1, 1], [3, 1, 1], "A"),
            (&[4, 1, 2], [9, 3, 4], "C"),
            (&[65535, 65534, 1], [65535, 65534, 0], "C"),
        ];
        for (weights, loads, expected) in table {
            let mut pool = pool(weights);
            for (index, load) in loads.into_iter().enumerate() {
                pool.at(index).load_elsewhere = load;
            }
            assert_eq!(pool.name(&ASK), expected, "{weights:?} {loads:?}");
        }
    }

    #[test]
    fn idle_members_take_turns() {
        assert_eq!(pool(&[1, 1, 1, 1]).names(8), "ABCDABCD");
    }

    #[test]
    fn among_equals_weights_count() {
        assert_eq!(pool(&[5, 3, 2]).names(10), "ABCAABACBA");
    }

    #[test]
    fn connections_are_spread_by_weight() {
        let mut pool = pool(&[5, 3, 2]);
        let leases: Vec<_> = (0..100).map(|_| pool.take()).collect();
        let members = pool.members.iter();
        let active: Vec<_> = members.map(|&id| pool.backends.active(id)).collect();
        assert_eq!(active, [50, 30, 20]);
        leases
            .into_iter()
            .for_each(|lease| pool.backends.give_back(lease));
    }

    #[test]
    fn a_slow_member_holds_no_more_than_its_share() {
        let mut pool = pool(&[1, 1, 1, 1]);
        let mut slow = Vec::new();
        let mut quick = std::collections::VecDeque::new();
        for _ in 0..100 {
            let lease = pool.take();
            match lease.backend == pool.members[0] {
                true => slow.push(lease),
                false => quick.push_back(lease),
            }
            if let Some(done) = quick.pop_front() {
                pool.backends.give_back(done);
            }
        }
        assert_eq!(slow.len(), 1, "the others never have more than one at once");
        let rest = slow.into_iter().chain(quick);
        rest.for_each(|lease| pool.backends.give_back(lease));
    }
}
