//! Which backend the next connection or request goes to.
//!
//! One file per algorithm. Each keeps the members of one upstream in an order of its own, from
//! which a pick takes steps in proportion to the logarithm of their number: nothing walks over all
//! of them. [`Backends`] notes whose weight, health, load or room may have changed, and only those
//! are looked at again before a pick. A reload that keeps a backend keeps its standing.
//!
//! Where several processes balance over the same backends, they share the turns of round robin
//! ([`Ask::turn`]) and know each other's loads
//! ([`load_elsewhere`](crate::core::backend::Backend::load_elsewhere)).

mod hash;
mod least_connections;
#[cfg(test)]
mod naive;
mod random_two;
mod round_robin;
mod sequence;
mod tournament;

use std::cmp::Ordering;

use crate::core::backend::{Backend, BackendId, Backends, PoolId};
use crate::core::rng::Rng;
use hash::Rendezvous;
use random_two::Lots;
use round_robin::Rotation;
use tournament::FULL;

pub use crate::core::key::{bytes_key, client_key};

/// How a backend is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Smooth weighted round robin.
    RoundRobin,
    /// The lowest load for its weight; smooth weighted round robin among equals.
    LeastConnections,
    /// Two drawn by weight, and the one of them with the lower load for its weight.
    RandomTwo,
    /// Weighted rendezvous hashing of a key.
    Hash,
}

impl Algorithm {
    /// Its name in a configuration.
    pub fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "round_robin",
            Self::LeastConnections => "least_conn",
            Self::RandomTwo => "random_two",
            Self::Hash => "hash",
        }
    }
}

/// One question to a [`Balancer`].
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What is hashed, from [`client_key`] or [`bytes_key`]; only [`Algorithm::Hash`] reads it,
    /// but for a key that binds.
    pub key: u64,
    /// The key binds its client: it is hashed, whatever the algorithm.
    pub is_bound: bool,
    /// Backends that were already tried for this connection or request.
    pub tried: &'a [BackendId],
    /// Whether a backend counts even when its health speaks against it.
    pub even_if_down: bool,
    /// Which turn of the machine's round robin this is, where several processes share one. None
    /// goes by this process's own.
    pub turn: Option<u64>,
}

impl Ask<'_> {
    /// Whether this backend may be the answer.
    fn admits(&self, id: BackendId, backend: &Backend) -> bool {
        backend.takes_new(self.even_if_down) && !self.tried.contains(&id)
    }
}

/// What is seen of a member.
#[derive(Clone, Copy, Debug)]
struct Seen {
    /// 0 when it has no turns.
    weight: u32,
    /// 0 where loads do not count, [`FULL`] when it takes nothing new.
    load: u32,
}

/// Picks backends for one upstream.
#[derive(Clone, Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    pool: PoolId,
    rng: Rng,
    /// What is kept of the members where health counts, and where it does not. Made when it is
    /// asked for: few upstreams ever need the second, and some, whose clients are bound by a key,
    /// not even the first.
    kept: [Option<Kept>; 2],
    /// For keys; made when the first comes.
    rendezvous: Option<Rendezvous>,
}

#[derive(Clone, Debug)]
enum Kept {
    Rotation(Rotation),
    Lots(Lots),
}

impl Kept {
    fn see(&mut self, place: u32, seen: Seen) {
        match self {
            Self::Rotation(rotation) => rotation.see(place, seen),
            Self::Lots(lots) => lots.see(place, seen),
        }
    }
}

impl Balancer {
    /// A balancer without members; `seed` decides what [`Algorithm::RandomTwo`] draws and nothing
    /// else. No other balancer that is in use has this pool.
    #[must_use]
    pub fn new(algorithm: Algorithm, seed: u64, pool: PoolId) -> Self {
        Self {
            algorithm,
            pool,
            rng: Rng::new(seed),
            kept: [None, None],
            rendezvous: None,
        }
    }

    /// How it picks.
    #[must_use]
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// These are the members from now on. To be called whenever they are others or in another
    /// order, before the next pick; it costs a walk.
    ///
    /// # Panics
    /// When one of them is not in the table.
    pub fn adopt(&mut self, members: &[BackendId], backends: &mut Backends) {
        let standings = self.standings();
        let standing = |id: &BackendId| {
            let place = backends.place_in(self.pool, *id)?;
            standings.get(place as usize).copied()
        };
        let standings: Vec<_> = members.iter().map(|id| standing(id).unwrap_or(0)).collect();
        backends.enlist(self.pool, members, self.is_by_load());
        let had_turns = self.kept[0].is_some() && self.takes_turns();
        self.kept = [None, None];
        self.rendezvous = None;
        if had_turns {
            self.kept[0] = Some(self.rotation(members, backends, false, standings));
        }
    }

    /// The member to use, or none when no member may be used. Takes no lease: the caller does.
    ///
    /// May be used: not tried, weight above 0, not draining, not retired, not full, and up and
    /// not ejected unless health is not asked. The members are those that were adopted.
    pub fn pick(
        &mut self,
        members: &[BackendId],
        backends: &mut Backends,
        ask: &Ask<'_>,
    ) -> Option<BackendId> {
        self.catch_up(members, backends);
        if ask.is_bound || self.algorithm == Algorithm::Hash {
            let all = || Rendezvous::new(members.iter().map(|&id| backends.try_get(id)));
            let rendezvous = self.rendezvous.get_or_insert_with(all);
            return rendezvous.pick(members, backends, ask);
        }
        let is_new = self.kept[usize::from(ask.even_if_down)].is_none();
        if is_new {
            let made = self.make(members, backends, ask.even_if_down);
            self.kept[usize::from(ask.even_if_down)] = Some(made);
        }
        let tried = ask.tried.iter();
        let tried = tried.filter_map(|&id| backends.place_in(self.pool, id));
        let place = match self.kept[usize::from(ask.even_if_down)].as_mut()? {
            Kept::Rotation(rotation) => rotation.pick(ask, tried)?,
            Kept::Lots(lots) => match lots.draw_two(tried, &mut self.rng) {
                (Some(one), Some(two)) => less_loaded(members, backends, one, two),
                (one, _) => one?,
            },
        };
        Some(members[place as usize])
    }

    /// What each member is owed, where turns are taken.
    fn standings(&self) -> Vec<i64> {
        match &self.kept[0] {
            Some(Kept::Rotation(rotation)) => rotation.standings(),
            _ => Vec::new(),
        }
    }

    fn is_by_load(&self) -> bool {
        self.algorithm == Algorithm::LeastConnections
    }

    fn takes_turns(&self) -> bool {
        match self.algorithm {
            Algorithm::RoundRobin | Algorithm::LeastConnections => true,
            Algorithm::RandomTwo | Algorithm::Hash => false,
        }
    }

    /// Looks at those that may have changed.
    fn catch_up(&mut self, members: &[BackendId], backends: &mut Backends) {
        while let Some(place) = backends.next_changed(self.pool) {
            let Some(&id) = members.get(place as usize) else {
                continue;
            };
            let backend = backends.look(self.pool, place, id);
            if let Some(rendezvous) = &mut self.rendezvous {
                rendezvous.see(place, backend);
            }
            for (even_if_down, kept) in [false, true].into_iter().zip(&mut self.kept) {
                let by_load = self.algorithm == Algorithm::LeastConnections;
                if let Some(kept) = kept {
                    kept.see(place, Seen::of(backend, even_if_down, by_load));
                }
            }
        }
    }

    fn make(&self, members: &[BackendId], backends: &Backends, even_if_down: bool) -> Kept {
        if self.takes_turns() {
            return self.rotation(members, backends, even_if_down, std::iter::repeat(0));
        }
        let seen = |&id| Seen::of(backends.try_get(id), even_if_down, false);
        Kept::Lots(Lots::new(members.iter().map(seen)))
    }

    fn rotation(
        &self,
        members: &[BackendId],
        backends: &Backends,
        even_if_down: bool,
        standings: impl IntoIterator<Item = i64>,
    ) -> Kept {
        let by_load = self.is_by_load();
        let seen = |&id| Seen::of(backends.try_get(id), even_if_down, by_load);
        Kept::Rotation(Rotation::new(members.iter().map(seen).zip(standings)))
    }
}

impl Seen {
    fn of(backend: Option<&Backend>, even_if_down: bool, by_load: bool) -> Self {
        let Some(backend) = backend.filter(|it| it.is_in_turn(even_if_down)) else {
            return Self {
                weight: 0,
                load: FULL,
            };
        };
        let load = if by_load { backend.load() } else { 0 };
        let is_full = backend.is_full();
        Self {
            weight: backend.weight,
            load: if is_full { FULL } else { load.min(FULL - 1) },
        }
    }
}

/// The one of two members with the lower load for its weight, the first of equals.
fn less_loaded(members: &[BackendId], backends: &Backends, one: u32, two: u32) -> u32 {
    let ratio = |place: u32| Ratio::of(backends.get(members[place as usize]));
    if ratio(two) < ratio(one) { two } else { one }
}

/// The members that may be the answer, in the order of the file.
#[cfg(test)]
fn eligible<'a>(
    members: &'a [BackendId],
    backends: &'a Backends,
    ask: &'a Ask<'_>,
) -> impl Iterator<Item = (BackendId, &'a Backend)> {
    let present = members
        .iter()
        .filter_map(|&id| Some((id, backends.try_get(id)?)));
    present.filter(|&(id, backend)| ask.admits(id, backend))
}

/// The load of a backend for its weight, compared exactly by cross-multiplication. No weight is 0.
#[derive(Clone, Copy, Debug)]
struct Ratio {
    load: u32,
    weight: u32,
}

impl Ratio {
    fn of(backend: &Backend) -> Self {
        Self {
            load: backend.load(),
            weight: backend.weight,
        }
    }
}

impl Ord for Ratio {
    fn cmp(&self, other: &Self) -> Ordering {
        let here = u64::from(self.load) * u64::from(other.weight);
        let there = u64::from(other.load) * u64::from(self.weight);
        here.cmp(&there)
    }
}

impl PartialOrd for Ratio {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ratio {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ratio {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::backend::{Lease, NewBackend};
    use crate::core::health::{Health, Verdict};
    use crate::core::time::Tick;

    pub(super) const ALGORITHMS: [Algorithm; 4] = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::RandomTwo,
        Algorithm::Hash,
    ];

    /// Nothing tried yet, health counts.
    pub(super) const ASK: Ask<'static> = Ask {
        key: 0,
        is_bound: false,
        tried: &[],
        even_if_down: false,
        turn: None,
    };

    /// An upstream of backends named A, B, C and so on.
    pub(super) struct Pool {
        pub(super) backends: Backends,
        pub(super) members: Vec<BackendId>,
        pub(super) balancer: Balancer,
    }

    impl Pool {
        pub(super) fn new(algorithm: Algorithm, weights: &[u32]) -> Self {
            let mut pool = Self {
                backends: Backends::new(),
                members: Vec::new(),
                balancer: Balancer::new(algorithm, 1, PoolId(0)),
            };
            for (name, &weight) in ('A'..).zip(weights) {
                pool.add_quietly(&name.to_string(), weight);
            }
            pool.adopt();
            pool
        }

        /// The members are others now.
        pub(super) fn adopt(&mut self) {
            self.balancer.adopt(&self.members, &mut self.backends);
        }

        pub(super) fn standings(&self) -> Vec<i64> {
            self.balancer.standings()
        }

        pub(super) fn add(&mut self, identity: &str, weight: u32) {
            self.add_quietly(identity, weight);
            self.adopt();
        }

        fn add_quietly(&mut self, identity: &str, weight: u32) {
            let id = self.backends.insert(NewBackend {
                identity: identity.to_owned(),
                weight,
                connections_max: None,
                health: Health::new(Verdict::Up, Tick(0)),
            });
            self.members.push(id);
        }

        /// The member at this place.
        pub(super) fn at(&mut self, index: usize) -> &mut Backend {
            self.backends.get_mut(self.members[index])
        }

        pub(super) fn set(&mut self, index: usize, verdict: Verdict) {
            self.at(index).health = Health::new(verdict, Tick(0));
        }

        pub(super) fn pick(&mut self, ask: &Ask<'_>) -> Option<BackendId> {
            self.balancer.pick(&self.members, &mut self.backends, ask)
        }

        /// Picks and takes a lease.
        pub(super) fn take(&mut self) -> Lease {
            let id = self.pick(&ASK).expect("an eligible member");
            self.backends.take(id)
        }

        /// The name of one pick, `-` when there is none.
        pub(super) fn name(&mut self, ask: &Ask<'_>) -> String {
            match self.pick(ask) {
                Some(id) => self.backends.get(id).identity.clone(),
                None => "-".to_owned(),
            }
        }

        /// The names of the next picks.
        pub(super) fn names(&mut self, count: usize) -> String {
            (0..count).map(|_| self.name(&ASK)).collect()
        }
    }

    #[test]
    fn no_algorithm_picks_what_takes_nothing_new() {
        let states: [fn(&mut Backend); 5] = [
            |b| b.weight = 0,
            |b| b.draining = true,
            |b| b.connections_max = Some(0),
            |b| (b.connections_max, b.load_elsewhere) = (Some(7), 7),
            |b| b.health = Health::new(Verdict::Down, Tick(0)),
        ];
        for algorithm in ALGORITHMS {
            for (index, state) in states.into_iter().enumerate() {
                let mut pool = Pool::new(algorithm, &[1, 1]);
                state(pool.at(0));
                assert_eq!(pool.names(9), "BBBBBBBBB", "{algorithm:?}, state {index}");
                state(pool.at(1));
                assert_eq!(pool.names(2), "--", "{algorithm:?}, state {index}");
            }
        }
    }

    #[test]
    fn no_algorithm_picks_a_retired_backend_or_a_free_slot() {
        for algorithm in ALGORITHMS {
            let mut pool = Pool::new(algorithm, &[1, 1, 1]);
            let (retired, gone) = (pool.members[0], pool.members[1]);
            let lease = pool.backends.take(retired);
            pool.backends.retire(retired);
            pool.backends.retire(gone);
            assert_eq!(pool.names(9), "CCCCCCCCC", "{algorithm:?}");
            pool.backends.give_back(lease);
        }
    }

    #[test]
    fn with_health_not_asked_every_algorithm_picks_among_all() {
        for algorithm in ALGORITHMS {
            let mut pool = Pool::new(algorithm, &[1, 1]);
            pool.set(0, Verdict::Down);
            pool.set(1, Verdict::Down);
            pool.at(1).draining = true;
            assert_eq!(pool.name(&ASK), "-", "{algorithm:?}");
            let ask = Ask {
                even_if_down: true,
                ..ASK
            };
            assert_eq!(pool.name(&ask), "A", "{algorithm:?}");
        }
    }

    #[test]
    fn members_that_are_all_down_take_turns_where_health_is_not_asked() {
        for algorithm in [Algorithm::RoundRobin, Algorithm::LeastConnections] {
            let mut pool = Pool::new(algorithm, &[2, 1, 1]);
            (0..3).for_each(|index| pool.set(index, Verdict::Down));
            let ask = Ask {
                even_if_down: true,
                ..ASK
            };
            let names: String = (0..8)
                .map(|_| {
                    assert_eq!(pool.name(&ASK), "-");
                    pool.name(&ask)
                })
                .collect();
            assert_eq!(names, "ABCAABCA", "{algorithm:?}");
        }
    }

    #[test]
    fn every_algorithm_tries_each_member_once_and_then_has_none() {
        for algorithm in ALGORITHMS {
            let mut pool = Pool::new(algorithm, &[5, 3, 2]);
            let mut tried = Vec::new();
            for _ in 0..3 {
                let ask = Ask {
                    tried: &tried,
                    ..ASK
                };
                let id = pool.pick(&ask).expect("one that was not tried");
                assert!(!tried.contains(&id), "{algorithm:?}");
                tried.push(id);
            }
            let ask = Ask {
                tried: &tried,
                ..ASK
            };
            assert_eq!(pool.pick(&ask), None, "{algorithm:?}");
        }
    }

    #[test]
    fn no_algorithm_picks_from_nothing() {
        for algorithm in ALGORITHMS {
            assert_eq!(Pool::new(algorithm, &[]).pick(&ASK), None);
        }
    }

    #[test]
    fn loads_are_compared_exactly() {
        use std::cmp::Ordering::{Equal, Greater, Less};
        let table = [
            ((0, 1), (0, 9), Equal),
            ((2, 3), (4, 6), Equal),
            ((1, 3), (1, 2), Less),
            ((u32::MAX, u32::MAX - 1), (u32::MAX - 1, u32::MAX), Greater),
            ((u32::MAX, 1), (1, u32::MAX), Greater),
        ];
        for (one, two, expected) in table {
            let ratio = |(load, weight)| Ratio { load, weight };
            assert_eq!(ratio(one).cmp(&ratio(two)), expected, "{one:?} {two:?}");
        }
    }

    /// The steps of a pick, on average over so many picks, each of which takes a lease and gives
    /// an older one back.
    fn steps_per_pick(mut pool: Pool, picks: u64) -> f64 {
        let mut leases = std::collections::VecDeque::new();
        let steps = crate::core::steps::of(|| {
            for key in 0..picks {
                let key = bytes_key(&key.to_be_bytes());
                let id = pool.pick(&Ask { key, ..ASK }).expect("some are up");
                leases.push_back(pool.backends.take(id));
                if leases.len() > 40 {
                    let oldest = leases.pop_front().expect("more than 40");
                    pool.backends.give_back(oldest);
                }
            }
        });
        leases
            .into_iter()
            .for_each(|lease| pool.backends.give_back(lease));
        #[allow(clippy::cast_precision_loss, reason = "few steps")]
        let average = steps as f64 / picks as f64;
        average
    }

    #[test]
    fn a_pick_takes_a_logarithm_of_steps() {
        type Change = fn(u32, &mut Backend);
        let states: [(&str, Change); 6] = [
            ("alike", |_, _| {}),
            ("of weights 1 to 7", |i, b| b.weight = 1 + i % 7),
            ("of different weights", |i, b| {
                b.weight = 1 + i * 13 % 65_521
            }),
            ("down in part", |i, b| {
                if i % 3 == 0 {
                    b.health = Health::new(Verdict::Down, Tick(0));
                }
            }),
            ("limited", |_, b| b.connections_max = Some(20)),
            ("loaded by others", |i, b| b.load_elsewhere = i % 11),
        ];
        for (algorithm, factor) in [
            (Algorithm::RoundRobin, 1.5),
            (Algorithm::LeastConnections, 4.0),
            (Algorithm::RandomTwo, 5.0),
            (Algorithm::Hash, 36.0),
        ] {
            for (name, change) in states {
                for count in [64_u32, 500, 4_000] {
                    let mut pool = Pool::new(algorithm, &vec![1; count as usize]);
                    (0..count).for_each(|i| change(i, pool.at(i as usize)));
                    let steps = steps_per_pick(pool, 20_000);
                    let most = factor * f64::from(count).log2();
                    assert!(
                        steps < most,
                        "{algorithm:?} {count} {name}: {steps}, not {most}"
                    );
                }
            }
        }
    }
}
