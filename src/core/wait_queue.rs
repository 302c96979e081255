//! Who waits for a backend that is full: requests of clients that are bound to it.
//!
//! A queue belongs to an upstream, and each waits in it for one backend, first come, first served.
//! As long as somebody waits for a backend it counts as full for everybody else
//! ([`Backend::is_full`](crate::core::backend::Backend::is_full)), so nobody overtakes.

use std::collections::VecDeque;

use crate::core::backend::{BackendId, Backends};

/// How many may wait in one queue. Each holds a client connection and its request.
pub const WAITING_MAX: usize = 1_024;

/// A queue of those who are named by a `T`, the longest waiting first.
#[derive(Debug)]
pub(crate) struct WaitQueue<T> {
    waiters: VecDeque<Waiter<T>>,
}

#[derive(Debug)]
struct Waiter<T> {
    who: T,
    /// None once it has gone for good: its id may name another one by now.
    backend: Option<BackendId>,
}

impl<T> Default for WaitQueue<T> {
    fn default() -> Self {
        Self {
            waiters: VecDeque::new(),
        }
    }
}

impl<T: Copy + PartialEq> WaitQueue<T> {
    /// Goes to the end of the queue for `backend`, unless that is full; whether it did.
    #[must_use]
    pub(crate) fn join(&mut self, who: T, backend: BackendId, backends: &mut Backends) -> bool {
        if self.waiters.len() >= WAITING_MAX {
            return false;
        }
        backends.start_waiting(backend);
        self.waiters.push_back(Waiter {
            who,
            backend: Some(backend),
        });
        true
    }

    /// Waits no longer. Harmless for who is not in it.
    pub(crate) fn leave(&mut self, who: T, backends: &mut Backends) {
        if let Some(at) = self.waiters.iter().position(|waiter| waiter.who == who) {
            self.remove(at, backends);
        }
    }

    /// The backend is about to go, or is not the same any more: who waits for it waits in vain,
    /// and is [`WaitQueue::next`] to be told so.
    pub(crate) fn forget(&mut self, backend: BackendId, backends: &mut Backends) {
        for waiter in &mut self.waiters {
            if waiter.backend == Some(backend) {
                waiter.backend = None;
                backends.end_waiting(backend);
            }
        }
    }

    /// The next from place `at` on whose wait is over, with the backend that has room for it now,
    /// or none when it cannot be used any more. `at` moves past all who go on waiting.
    pub(crate) fn next(
        &mut self,
        at: &mut usize,
        backends: &mut Backends,
    ) -> Option<(T, Option<BackendId>)> {
        while let Some(waiter) = self.waiters.get(*at) {
            let backend = waiter.backend.map(|id| (id, backends.get(id)));
            let turn = match backend {
                Some((id, backend)) if backend.takes_waiting() => Some(id),
                Some((_, backend)) if backend.is_bindable() => {
                    *at += 1;
                    continue;
                }
                Some(_) | None => None,
            };
            let who = self.remove(*at, backends)?;
            return Some((who, turn));
        }
        None
    }

    /// Whether nobody waits.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Those who wait, the longest waiting first, each with its backend unless that has gone.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (T, Option<BackendId>)> + '_ {
        self.waiters
            .iter()
            .map(|waiter| (waiter.who, waiter.backend))
    }

    fn remove(&mut self, at: usize, backends: &mut Backends) -> Option<T> {
        let waiter = self.waiters.remove(at)?;
        if let Some(id) = waiter.backend {
            backends.end_waiting(id);
        }
        Some(waiter.who)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::backend::{Lease, NewBackend};
    use crate::core::health::{Health, Verdict};
    use crate::core::time::Tick;

    /// Backends that take one request each.
    fn backends(count: u32) -> (Backends, Vec<BackendId>) {
        let mut backends = Backends::new();
        let ids = (0..count)
            .map(|n| backends.insert(new(&n.to_string())))
            .collect();
        (backends, ids)
    }

    fn new(identity: &str) -> NewBackend {
        NewBackend {
            identity: identity.to_owned(),
            weight: 1,
            connections_max: Some(1),
            health: Health::new(Verdict::Up, Tick(0)),
        }
    }

    /// All whose wait is over, each with a lease where there is room.
    fn serve(
        queue: &mut WaitQueue<u32>,
        backends: &mut Backends,
    ) -> (Vec<(u32, bool)>, Vec<Lease>) {
        let (mut served, mut leases, mut at) = (Vec::new(), Vec::new(), 0);
        while let Some((who, backend)) = queue.next(&mut at, backends) {
            served.push((who, backend.is_some()));
            leases.extend(backend.map(|id| backends.take(id)));
        }
        (served, leases)
    }

    fn give_back(leases: Vec<Lease>, backends: &mut Backends) {
        leases
            .into_iter()
            .for_each(|lease| backends.give_back(lease));
    }

    #[test]
    fn each_backend_has_its_own_turns_in_the_order_of_coming() {
        let (mut backends, ids) = backends(2);
        let mut queue = WaitQueue::default();
        let held = [backends.take(ids[0]), backends.take(ids[1])];
        for (who, backend) in [(1, ids[0]), (2, ids[1]), (3, ids[0]), (4, ids[1])] {
            assert!(queue.join(who, backend, &mut backends));
        }
        assert_eq!(serve(&mut queue, &mut backends).0, []);
        let [first, second] = held;
        backends.give_back(second);
        let (served, second) = serve(&mut queue, &mut backends);
        assert_eq!(served, [(2, true)]);
        backends.give_back(first);
        let (served, first) = serve(&mut queue, &mut backends);
        assert_eq!(served, [(1, true)]);
        queue.leave(3, &mut backends);
        queue.leave(3, &mut backends);
        give_back(first, &mut backends);
        give_back(second, &mut backends);
        let (served, last) = serve(&mut queue, &mut backends);
        assert_eq!(served, [(4, true)]);
        give_back(last, &mut backends);
        assert!(queue.is_empty() && backends.waiting() == 0);
    }

    #[test]
    fn nobody_overtakes_those_who_wait() {
        let (mut backends, ids) = backends(1);
        let mut queue = WaitQueue::default();
        let held = backends.take(ids[0]);
        assert!(queue.join(1, ids[0], &mut backends));
        backends.give_back(held);
        let backend = backends.get(ids[0]);
        assert!(!backend.takes_new(false) && !backend.takes_bound() && backend.takes_waiting());
        queue.leave(1, &mut backends);
        let backend = backends.get(ids[0]);
        assert!(backend.takes_new(false) && backend.takes_bound());
    }

    #[test]
    fn a_line_is_bounded() {
        let (mut backends, ids) = backends(1);
        let mut queue = WaitQueue::default();
        for who in 0..WAITING_MAX {
            assert!(queue.join(who, ids[0], &mut backends));
        }
        assert!(!queue.join(WAITING_MAX, ids[0], &mut backends));
        assert_eq!(
            (queue.waiters.len(), backends.waiting()),
            (WAITING_MAX, WAITING_MAX)
        );
    }

    #[test]
    fn a_backend_that_is_down_is_waited_for_no_longer() {
        let (mut backends, ids) = backends(2);
        let mut queue = WaitQueue::default();
        let held = [backends.take(ids[0]), backends.take(ids[1])];
        assert!(queue.join(1, ids[0], &mut backends) && queue.join(2, ids[1], &mut backends));
        backends.get_mut(ids[1]).health = Health::new(Verdict::Down, Tick(0));
        assert_eq!(serve(&mut queue, &mut backends).0, [(2, false)]);
        assert_eq!(queue.iter().collect::<Vec<_>>(), [(1, Some(ids[0]))]);
        give_back(held.into(), &mut backends);
    }

    #[test]
    fn who_waits_for_a_backend_that_goes_does_not_get_the_next_one_of_its_id() {
        let (mut backends, ids) = backends(1);
        let mut queue = WaitQueue::default();
        let held = backends.take(ids[0]);
        assert!(queue.join(1, ids[0], &mut backends));
        queue.forget(ids[0], &mut backends);
        backends.retire(ids[0]);
        backends.give_back(held);
        assert_eq!(backends.insert(new("another")), ids[0]);
        assert_eq!(serve(&mut queue, &mut backends).0, [(1, false)]);
        assert_eq!(backends.waiting(), 0);
    }
}
