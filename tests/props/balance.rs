//! Picking: shares, neighbours left alone, and the least loaded.

use proptest::collection::vec;
use proptest::prelude::*;
use weir::core::backend::{BackendId, Backends, NewBackend, PoolId};
use weir::core::balance::{Algorithm, Ask, Balancer, bytes_key};
use weir::core::health::{Health, Verdict};
use weir::core::time::Tick;

const ASK: Ask<'static> = Ask {
    key: 0,
    is_bound: false,
    tried: &[],
    even_if_down: false,
    turn: None,
};

struct Pool {
    backends: Backends,
    members: Vec<BackendId>,
    balancer: Balancer,
}

impl Pool {
    /// Members whose identities follow from `salt` and their place.
    fn new(algorithm: Algorithm, salt: u64, weights: &[u32]) -> Self {
        let mut backends = Backends::new();
        let members = weights.iter().enumerate().map(|(place, &weight)| {
            backends.insert(NewBackend {
                identity: format!("{salt}-{place}"),
                weight,
                connections_max: None,
                health: Health::new(Verdict::Up, Tick(0)),
            })
        });
        let mut pool = Self {
            members: members.collect(),
            backends,
            balancer: Balancer::new(algorithm, salt, PoolId(0)),
        };
        pool.adopt();
        pool
    }

    /// The members are others, or in another order.
    fn adopt(&mut self) {
        self.balancer.adopt(&self.members, &mut self.backends);
    }

    /// The place of the next pick.
    fn pick(&mut self, ask: &Ask<'_>) -> usize {
        let picked = self.balancer.pick(&self.members, &mut self.backends, ask);
        let picked = picked.expect("every member is eligible");
        self.members
            .iter()
            .position(|&id| id == picked)
            .expect("a member")
    }

    fn pick_key(&mut self, key: u64) -> usize {
        let key = bytes_key(&key.to_be_bytes());
        self.pick(&Ask { key, ..ASK })
    }
}

fn count(picks: &[usize], place: usize) -> i64 {
    let times = picks.iter().filter(|&&pick| pick == place).count();
    i64::try_from(times).expect("few picks")
}

/// How far the picks are ahead of a member's share, in units of one pick times `total`.
fn ahead(picks: &[usize], place: usize, weight: u32, total: u32) -> i64 {
    let share = i64::try_from(picks.len()).expect("few picks") * i64::from(weight);
    count(picks, place) * i64::from(total) - share
}

proptest! {
    #[test]
    fn any_window_as_long_as_the_sum_of_weights_holds_exactly_the_weights(
        weights in vec(1..30_u32, 1..10),
        start in 0..100_usize,
    ) {
        let total: u32 = weights.iter().sum();
        let mut pool = Pool::new(Algorithm::RoundRobin, 0, &weights);
        for _ in 0..start {
            pool.pick(&ASK);
        }
        let window: Vec<_> = (0..total).map(|_| pool.pick(&ASK)).collect();
        for (place, &weight) in weights.iter().enumerate() {
            prop_assert_eq!(count(&window, place), i64::from(weight));
        }
    }

    #[test]
    fn no_member_is_ever_a_whole_pick_ahead_of_its_share_or_far_behind(
        weights in vec(1..100_u32, 1..12),
    ) {
        let total: u32 = weights.iter().sum();
        let mut pool = Pool::new(Algorithm::RoundRobin, 0, &weights);
        let picks: Vec<_> = (0..total).map(|_| pool.pick(&ASK)).collect();
        for end in 0..picks.len() {
            for (place, &weight) in weights.iter().enumerate() {
                let ahead = ahead(&picks[..end], place, weight, total);
                prop_assert!(ahead < i64::from(total), "{end} {place}");
                prop_assert!(ahead > -2 * i64::from(total), "{end} {place}");
            }
        }
    }

    #[test]
    fn among_up_to_three_members_every_window_is_within_two_picks_of_the_share(
        weights in vec(1..20_u32, 1..=3),
    ) {
        let total: u32 = weights.iter().sum();
        let mut pool = Pool::new(Algorithm::RoundRobin, 0, &weights);
        let picks: Vec<_> = (0..2 * total).map(|_| pool.pick(&ASK)).collect();
        for start in 0..picks.len() {
            for end in start..picks.len() {
                for (place, &weight) in weights.iter().enumerate() {
                    let ahead = ahead(&picks[start..end], place, weight, total);
                    prop_assert!(ahead.abs() < 2 * i64::from(total), "{start} {end} {place}");
                }
            }
        }
    }

    #[test]
    fn no_other_member_has_a_lower_load_for_its_weight(
        members in vec((1..=u32::MAX, any::<u32>()), 1..10),
        small in any::<bool>(),
        random_two in any::<bool>(),
    ) {
        let scale = if small { 1 << 28 } else { 1 };
        let weights: Vec<_> = members.iter().map(|&(weight, _)| (weight / scale).max(1)).collect();
        // With two members, drawing two of them draws all.
        let algorithm = match random_two && weights.len() <= 2 {
            true => Algorithm::RandomTwo,
            false => Algorithm::LeastConnections,
        };
        let mut pool = Pool::new(algorithm, 0, &weights);
        for (&id, &(_, load)) in pool.members.iter().zip(&members) {
            pool.backends.get_mut(id).load_elsewhere = load / scale;
        }
        let place = pool.pick(&ASK);
        let picked = pool.members[place];
        let picked = pool.backends.get(picked);
        for &id in &pool.members {
            let other = pool.backends.get(id);
            let here = u128::from(picked.load()) * u128::from(other.weight);
            let there = u128::from(other.load()) * u128::from(picked.weight);
            prop_assert!(here <= there);
        }
    }

    #[test]
    fn connections_that_stay_are_shared_by_weight(weights in vec(1..20_u32, 1..6)) {
        let total: u32 = weights.iter().sum();
        let mut pool = Pool::new(Algorithm::LeastConnections, 0, &weights);
        let mut leases = Vec::new();
        for _ in 0..total * 3 {
            let place = pool.pick(&ASK);
            leases.push(pool.backends.take(pool.members[place]));
        }
        let active: Vec<_> = pool.members.iter().map(|&id| pool.backends.active(id)).collect();
        leases.into_iter().for_each(|lease| pool.backends.give_back(lease));
        let expected: Vec<_> = weights.iter().map(|weight| weight * 3).collect();
        prop_assert_eq!(active, expected);
    }

    #[test]
    fn removing_a_member_moves_only_its_keys_and_adding_it_back_only_those(
        salt in any::<u64>(),
        weights in vec(1..100_u32, 2..8),
        removed in any::<prop::sample::Index>(),
    ) {
        let mut all = Pool::new(Algorithm::Hash, salt, &weights);
        let removed = removed.index(weights.len());
        let gone = all.members[removed];
        for key in 0..200 {
            let before = all.pick_key(key);
            let without: Vec<_> = all.members.iter().copied().filter(|&id| id != gone).collect();
            let members = std::mem::replace(&mut all.members, without);
            all.adopt();
            let after = all.pick_key(key);
            let after = all.members[after];
            all.members = members;
            all.adopt();
            if before != removed {
                prop_assert_eq!(after, all.members[before]);
            }
        }
    }

    #[test]
    fn the_order_of_the_members_does_not_matter(
        salt in any::<u64>(),
        weights in vec(1..100_u32, 1..8),
        rotation in any::<prop::sample::Index>(),
    ) {
        let mut pool = Pool::new(Algorithm::Hash, salt, &weights);
        let (mid, len) = (rotation.index(weights.len()), weights.len());
        for key in 0..50 {
            let before = pool.pick_key(key);
            pool.members.rotate_left(mid);
            pool.adopt();
            let after = pool.pick_key(key);
            pool.members.rotate_right(mid);
            pool.adopt();
            prop_assert_eq!((after + mid) % len, before);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn shares_are_within_5_percent_of_the_weights(
        salt in any::<u64>(),
        weights in vec(1..5_u32, 2..5),
    ) {
        let total: u32 = weights.iter().sum();
        let mut pool = Pool::new(Algorithm::Hash, salt, &weights);
        // So many that a deviation of 5 % is more than five standard deviations of chance.
        let keys = 12_000 * u64::from(total);
        let picks: Vec<_> = (0..keys).map(|key| pool.pick_key(key)).collect();
        for (place, &weight) in weights.iter().enumerate() {
            let share = 12_000 * i64::from(weight);
            let off = (count(&picks, place) - share).abs();
            prop_assert!(off * 20 <= share, "{place}: {off} of {share}");
        }
    }
}
