//! The table of backends and its leases, against plain counting.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use weir::core::backend::{BackendId, Backends, Lease, NewBackend};
use weir::core::health::{Health, Verdict};
use weir::core::time::Tick;

#[derive(Clone, Debug)]
enum Step {
    Insert,
    Take(Index),
    GiveBack(Index),
    Retire(Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::Insert),
        4 => any::<Index>().prop_map(Step::Take),
        4 => any::<Index>().prop_map(Step::GiveBack),
        1 => any::<Index>().prop_map(Step::Retire),
    ]
}

/// The table, and what it should hold.
#[derive(Default)]
struct Pair {
    table: Backends,
    live: Vec<(BackendId, String)>,
    retired: Vec<(BackendId, String)>,
    leases: Vec<Lease>,
    inserted: usize,
}

impl Pair {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Insert => self.insert(),
            Step::Take(index) if !self.live.is_empty() => {
                let (id, _) = self.live[index.index(self.live.len())];
                self.leases.push(self.table.take(id));
            }
            Step::GiveBack(index) if !self.leases.is_empty() => {
                let lease = self.leases.swap_remove(index.index(self.leases.len()));
                self.table.give_back(lease);
            }
            Step::Retire(index) if !self.live.is_empty() => {
                let gone = self.live.swap_remove(index.index(self.live.len()));
                self.table.retire(gone.0);
                self.retired.push(gone);
            }
            Step::Take(_) | Step::GiveBack(_) | Step::Retire(_) => {}
        }
        let leases = &self.leases;
        self.retired
            .retain(|&(id, _)| leases.iter().any(|lease| lease.backend == id));
    }

    fn insert(&mut self) {
        self.inserted += 1;
        let identity = self.inserted.to_string();
        let id = self.table.insert(NewBackend {
            identity: identity.clone(),
            weight: 1,
            connections_max: None,
            health: Health::new(Verdict::Up, Tick(0)),
        });
        self.live.push((id, identity));
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.table.leases(), self.leases.len());
        for (id, identity) in self.live.iter().chain(&self.retired) {
            prop_assert_eq!(&self.table.get(*id).identity, identity);
            let out = self
                .leases
                .iter()
                .filter(|lease| lease.backend == *id)
                .count();
            prop_assert_eq!(usize::try_from(self.table.active(*id)), Ok(out));
        }
        prop_assert!(self.live.iter().all(|&(id, _)| self.table.is_live(id)));
        prop_assert!(
            self.retired
                .iter()
                .all(|&(id, _)| self.table.is_retired(id))
        );
        prop_assert_eq!(
            self.table.ids().count(),
            self.live.len() + self.retired.len()
        );
        Ok(())
    }
}

proptest! {
    #[test]
    fn leases_balance_and_no_backend_in_use_loses_its_slot(steps in vec(step(), 1..200)) {
        let mut pair = Pair::default();
        let mut outcome = Ok(());
        for step in &steps {
            pair.step(step);
            outcome = outcome.and_then(|()| pair.check());
        }
        while let Some(lease) = pair.leases.pop() {
            pair.table.give_back(lease);
        }
        outcome?;
        prop_assert_eq!(pair.table.leases(), 0);
        prop_assert_eq!(pair.table.ids().count(), pair.live.len());
    }
}
