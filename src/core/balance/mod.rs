//! Which backend the next connection or request goes to.
//!
//! One file per algorithm. Each is a walk over the members of one upstream: no allocation, no
//! hash map, time in proportion to the members. What an algorithm remembers of a backend is kept
//! in the backend ([`Backends`]), so a reload that keeps the backend keeps that too.

mod hash;
mod least_connections;
mod random_two;
mod round_robin;

use crate::core::backend::{Backend, BackendId, Backends};
use crate::core::rng::Rng;

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
    /// Whether a backend counts even when its health speaks against it (HC7).
    pub even_if_down: bool,
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
}

impl Balancer {
    /// A balancer; `seed` decides what [`Algorithm::RandomTwo`] draws and nothing else.
    #[must_use]
    pub fn new(algorithm: Algorithm, seed: u64) -> Self {
        Self {
            algorithm,
            rng: Rng::new(seed),
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
            Algorithm::RoundRobin => round_robin::pick(members, backends, ask),
            Algorithm::LeastConnections => least_connections::pick(members, backends, ask),
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

/// The load of a backend for its weight, compared exactly by cross-multiplication (LC1).
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
    use crate::core::backend::NewBackend;
    use crate::core::health::{Health, Verdict};
    use crate::core::time::Tick;

    /// An upstream of backends named A, B, C and so on.
    pub(super) struct Pool {
        pub(super) backends: Backends,
        pub(super) members: Vec<BackendId>,
        pub(super) balancer: Balancer,
    }

    impl Pool {
        pub(super) fn new(algorithm: Algorithm, weights: &[u32]) -> Self {
            let mut backends = Backends::new();
            let members = ('A'..)
                .zip(weights)
                .map(|(name, &weight)| {
                    backends.insert(NewBackend {
                        identity: name.to_string(),
                        weight,
                        connections_max: None,
                        health: Health::new(Verdict::Up, Tick(0)),
                    })
                })
                .collect();
            Self {
                backends,
                members,
                balancer: Balancer::new(algorithm, 1),
            }
        }

        pub(super) fn pick(&mut self, ask: &Ask<'_>) -> Option<BackendId> {
            self.balancer.pick(&self.members, &mut self.backends, ask)
        }

        /// The names of the next picks in a row, `-` where there is none.
        pub(super) fn picks(&mut self, count: usize, ask: &Ask<'_>) -> String {
            (0..count)
                .map(|_| match self.pick(ask) {
                    Some(id) => self.backends.get(id).identity.clone(),
                    None => "-".to_owned(),
                })
                .collect()
        }
    }

    /// Nothing tried yet, health counts.
    pub(super) fn ask() -> Ask<'static> {
        Ask {
            key: 0,
            tried: &[],
            even_if_down: false,
        }
    }
}
