//! Which backend the next connection or request goes to.
//!
//! One file per algorithm. Each is a walk over the members of one upstream: no allocation, no
//! hash map, time in proportion to the members. What an algorithm remembers of a backend is kept
//! in the backend ([`Backends`]), so a reload that keeps the backend keeps that too.
//!
//! Where several processes balance over the same backends, they share the turns of round robin
//! ([`Ask::turn`]) and know each other's loads
//! ([`load_elsewhere`](crate::core::backend::Backend::load_elsewhere)).

mod hash;
mod least_connections;
mod random_two;
mod round_robin;
mod sequence;

use crate::core::backend::{Backend, BackendId, Backends};
use crate::core::rng::Rng;
use sequence::Sequence;

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

/// One question to a [`Balancer`].
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// What is hashed, from [`client_key`] or [`bytes_key`]; only [`Algorithm::Hash`] reads it.
    pub key: u64,
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

/// Picks backends for one upstream.
#[derive(Clone, Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    rng: Rng,
    sequence: Sequence,
}

impl Balancer {
    /// A balancer; `seed` decides what [`Algorithm::RandomTwo`] draws and nothing else.
    #[must_use]
    pub fn new(algorithm: Algorithm, seed: u64) -> Self {
        Self {
            algorithm,
            rng: Rng::new(seed),
            sequence: Sequence::default(),
        }
    }

    /// How it picks.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The member to use, or none when no member may be used. Takes no lease: the caller does.
    ///
    /// May be used: not tried, weight above 0, not draining, not retired, not full, and up and
    /// not ejected unless health is not asked.
    pub fn pick(
        &mut self,
        members: &[BackendId],
        backends: &mut Backends,
        ask: &Ask<'_>,
    ) -> Option<BackendId> {
        match self.algorithm {
            Algorithm::RoundRobin => {
                let shared = self.sequence.pick(members, backends, ask, |_| true);
                shared.or_else(|| round_robin::pick(members, backends, ask))
            }
            Algorithm::LeastConnections => {
                least_connections::pick(members, backends, ask, &mut self.sequence)
            }
            Algorithm::RandomTwo => random_two::pick(members, backends, ask, &mut self.rng),
            Algorithm::Hash => hash::pick(members, backends, ask),
        }
    }
}

/// The members that may be the answer, in the order of the file.
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

/// The load of a backend for its weight, compared exactly by cross-multiplication.
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

    fn cmp(self, other: Self) -> std::cmp::Ordering {
        let here = u64::from(self.load) * u64::from(other.weight);
        let there = u64::from(other.load) * u64::from(self.weight);
        here.cmp(&there)
    }
}

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
                balancer: Balancer::new(algorithm, 1),
            };
            for (name, &weight) in ('A'..).zip(weights) {
                pool.add(&name.to_string(), weight);
            }
            pool
        }

        pub(super) fn add(&mut self, identity: &str, weight: u32) {
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
            assert_eq!(ratio(one).cmp(ratio(two)), expected, "{one:?} {two:?}");
        }
    }
}
