//! The same answers by looking at every member: what the balancers are compared with.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::tests::{ASK, Pool};
use super::{Algorithm, Ask, Ratio};
use crate::core::backend::{Backend, BackendId, Backends, Lease};
use crate::core::health::{Health, Verdict};
use crate::core::rng::Rng;
use crate::core::time::Tick;

/// Smooth weighted round robin as it is told: everybody is paid one by one.
#[derive(Debug, Default)]
struct Naive {
    standings: Vec<i64>,
}

impl Naive {
    fn pick(
        &mut self,
        members: &[BackendId],
        backends: &Backends,
        ask: &Ask<'_>,
        by_load: bool,
    ) -> Option<BackendId> {
        self.standings.resize(members.len(), 0);
        self.settle(members, backends, ask);
        let ratio = |id| Ratio::of(backends.get(id));
        let admitted = |id: &BackendId| ask.admits(*id, backends.get(*id));
        let all = members.iter().copied().filter(admitted);
        let lowest = all.map(ratio).min()?;
        let place = self.turn(members, backends, |id, backend| {
            let is_lowest = Ratio::of(backend) == lowest;
            ask.admits(id, backend) && (is_lowest || !by_load)
        })?;
        Some(members[place])
    }

    fn settle(&mut self, members: &[BackendId], backends: &Backends, ask: &Ask<'_>) {
        let takes_new = |place: &usize| backends.get(members[*place]).takes_new(ask.even_if_down);
        let (takers, others): (Vec<_>, Vec<_>) = (0..members.len()).partition(takes_new);
        others
            .into_iter()
            .for_each(|place| self.standings[place] = 0);
        let sum: i64 = takers.iter().map(|&place| self.standings[place]).sum();
        let count = i64::try_from(takers.len()).expect("few members");
        let Some(part) = sum.checked_div_euclid(count) else {
            return;
        };
        let mut rest = sum - part * count;
        for place in takers {
            let extra = i64::from(rest > 0);
            self.standings[place] -= part + extra;
            rest -= extra;
        }
    }

    fn turn(
        &mut self,
        members: &[BackendId],
        backends: &Backends,
        admits: impl Fn(BackendId, &Backend) -> bool,
    ) -> Option<usize> {
        let mut total = 0;
        let mut richest: Option<usize> = None;
        for (place, &id) in members.iter().enumerate() {
            let backend = backends.get(id);
            if !admits(id, backend) {
                continue;
            }
            total += i64::from(backend.weight);
            self.standings[place] += i64::from(backend.weight);
            if richest.is_none_or(|best| self.standings[place] > self.standings[best]) {
                richest = Some(place);
            }
        }
        self.standings[richest?] -= total;
        richest
    }
}

/// Two drawn by weight, each by adding up weights until the drawn number is reached.
fn random_two(
    members: &[BackendId],
    backends: &Backends,
    ask: &Ask<'_>,
    rng: &mut Rng,
) -> Option<BackendId> {
    let mut draw = |without: Option<BackendId>| {
        let admitted = |id: &BackendId| ask.admits(*id, backends.get(*id)) && Some(*id) != without;
        let weight = |id: BackendId| u64::from(backends.get(id).weight);
        let all = members.iter().copied().filter(admitted);
        let total: u64 = all.clone().map(weight).sum();
        let mut point = if total > 0 { rng.below(total) } else { 0 };
        let mut all = all;
        all.find(|&id| match point.checked_sub(weight(id)) {
            Some(rest) => {
                point = rest;
                false
            }
            None => true,
        })
    };
    let one = draw(None)?;
    let Some(two) = draw(Some(one)) else {
        return Some(one);
    };
    let ratio = |id| Ratio::of(backends.get(id));
    Some(if ratio(two) < ratio(one) { two } else { one })
}

/// What happens to a pool between two picks.
#[derive(Clone, Debug)]
enum Event {
    Weight(Index, u32),
    Draining(Index, bool),
    Health(Index, Verdict),
    Limit(Index, Option<u32>),
    Elsewhere(Index, u32),
    /// Picks so often, and keeps some of the leases.
    Pick {
        tried: Vec<Index>,
        times: u32,
        keeps: bool,
    },
    GiveBack(Index),
    Reload(Index),
}

fn event() -> impl Strategy<Value = Event> {
    let member = any::<Index>;
    let tried = prop_oneof![4 => Just(vec![]), 1 => vec(member(), 1..3)];
    prop_oneof![
        1 => (member(), weight()).prop_map(|(m, weight)| Event::Weight(m, weight)),
        1 => (member(), any::<bool>()).prop_map(|(m, on)| Event::Draining(m, on)),
        1 => member().prop_map(|m| Event::Health(m, Verdict::Down)),
        2 => member().prop_map(|m| Event::Health(m, Verdict::Up)),
        1 => (member(), option::of(0..4_u32)).prop_map(|(m, max)| Event::Limit(m, max)),
        1 => (member(), 0..4_u32).prop_map(|(m, load)| Event::Elsewhere(m, load)),
        8 => (tried, 1..60_u32, any::<bool>())
            .prop_map(|(tried, times, keeps)| Event::Pick { tried, times, keeps }),
        4 => member().prop_map(Event::GiveBack),
        1 => member().prop_map(Event::Reload),
    ]
}

fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 1..4_u32, 2 => 0..100_u32, 1 => Just(65_535_u32)]
}

/// A pool, and what tells what it should answer.
struct Pair {
    pool: Pool,
    naive: Naive,
    rng: Rng,
    leases: Vec<Lease>,
}

impl Pair {
    fn new(algorithm: Algorithm, weights: &[u32]) -> Self {
        let pool = Pool::new(algorithm, weights);
        Self {
            rng: pool.balancer.rng.clone(),
            pool,
            naive: Naive::default(),
            leases: Vec::new(),
        }
    }

    fn at(&mut self, member: Index) -> &mut Backend {
        self.pool.at(member.index(self.pool.members.len()))
    }

    fn apply(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Weight(m, weight) => self.at(m).weight = weight,
            Event::Draining(m, on) => self.at(m).draining = on,
            Event::Health(m, verdict) => self.at(m).health = Health::new(verdict, Tick(0)),
            Event::Limit(m, max) => self.at(m).connections_max = max,
            Event::Elsewhere(m, load) => self.at(m).load_elsewhere = load,
            Event::Reload(m) => self.reload(m),
            Event::GiveBack(m) if !self.leases.is_empty() => {
                let lease = self.leases.swap_remove(m.index(self.leases.len()));
                self.pool.backends.give_back(lease);
            }
            Event::GiveBack(_) => {}
            Event::Pick {
                tried,
                times,
                keeps,
            } => return (0..times).try_for_each(|_| self.pick(&tried, keeps)),
        }
        Ok(())
    }

    /// One member more, and another order.
    fn reload(&mut self, turn: Index) {
        let turn = turn.index(self.pool.members.len());
        let standings = &mut self.naive.standings;
        standings.resize(self.pool.members.len(), 0);
        for (id, standing) in self.pool.members.iter().zip(&mut *standings) {
            // Who takes nothing at a reload is seen to, even if nobody is picked meanwhile.
            if !self.pool.backends.get(*id).takes_new(false) {
                *standing = 0;
            }
        }
        self.pool.members.rotate_left(turn);
        standings.rotate_left(turn);
        let name = self.pool.members.len().to_string();
        self.pool.add(&name, 2);
    }

    fn pick(&mut self, tried: &[Index], keeps: bool) -> Result<(), TestCaseError> {
        let members = &self.pool.members;
        let tried: Vec<_> = tried.iter().map(|m| *m.get(members)).collect();
        let ask = Ask {
            tried: &tried,
            ..ASK
        };
        let (backends, algorithm) = (&self.pool.backends, self.pool.balancer.algorithm());
        let expected = if algorithm == Algorithm::RandomTwo {
            random_two(members, backends, &ask, &mut self.rng)
        } else {
            let by_load = algorithm == Algorithm::LeastConnections;
            self.naive.pick(members, backends, &ask, by_load)
        };
        let picked = self.pool.pick(&ask);
        prop_assert_eq!(picked, expected);
        if algorithm != Algorithm::RandomTwo {
            let standings = self.pool.standings();
            prop_assert_eq!(&standings, &self.naive.standings);
            prop_assert!(picked.is_none() || standings.iter().sum::<i64>() == 0);
        }
        if let Some(id) = picked.filter(|_| keeps) {
            self.leases.push(self.pool.backends.take(id));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn who_is_picked_is_who_a_walk_would_pick(
        algorithm in select(vec![
            Algorithm::RoundRobin,
            Algorithm::LeastConnections,
            Algorithm::RandomTwo,
        ]),
        weights in prop_oneof![vec(weight(), 1..40), vec(Just(1_u32), 1..80)],
        events in vec(event(), 1..40),
    ) {
        let mut pair = Pair::new(algorithm, &weights);
        let outcome = events.into_iter().try_for_each(|event| pair.apply(event));
        while let Some(lease) = pair.leases.pop() {
            pair.pool.backends.give_back(lease);
        }
        outcome?;
    }
}
