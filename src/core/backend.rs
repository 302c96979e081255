//! The backends of a worker, and the counted claims on them.
//!
//! One table holds the backends of all upstreams; an upstream is a list of ids. A backend that a
//! reload removed is *retired*: nothing new goes there, and its slot becomes free for another
//! when the last claim is back. Who is picked is decided in [`balance`](crate::core::balance),
//! which looks at a member again only when something about it may have changed: the table notes
//! whom it has lent out to be changed, upstream by upstream.

use std::collections::VecDeque;

use crate::core::health::Health;
use crate::core::key::bytes_key;

/// Names a backend in [`Backends`]. Not to be kept after the backend was retired, except inside
/// a [`Lease`]: the slot may belong to another then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackendId(pub u32);

/// Names the members of one upstream. A backend is a member of one at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolId(pub u32);

/// A backend to be put into the table.
#[derive(Clone, Debug)]
pub struct NewBackend {
    /// Unique within its upstream; keeps its name, hash share and counters over a reload.
    pub identity: String,
    /// Share of the traffic; 0 takes no new traffic.
    pub weight: u32,
    /// Connections (TCP) or requests in flight (HTTP) at once; none is unlimited.
    pub connections_max: Option<u32>,
    /// What is assumed of its health, or what an earlier life of it has learned.
    pub health: Health,
}

/// What an administrator lets a backend take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Service {
    /// Whatever comes.
    #[default]
    Full = 0,
    /// Nothing new but what is bound to it.
    Draining,
    /// Nothing new.
    Disabled,
}

/// One backend.
#[derive(Debug)]
pub struct Backend {
    /// Unique within its upstream.
    pub identity: String,
    /// A fixed hash of the identity: its place in consistent hashing, on every host.
    pub(crate) seed: u64,
    /// Share of the traffic; 0 takes no new traffic. May change at any time.
    pub weight: u32,
    /// Connections (TCP) or requests in flight (HTTP) at once; none is unlimited.
    pub connections_max: Option<u32>,
    /// What probes and traffic say of it.
    pub(crate) health: Health,
    /// Whether it takes nothing new while what it has goes on.
    pub(crate) draining: bool,
    /// Whether it takes nothing either that is bound to it.
    pub(crate) disabled: bool,
    /// Connections that other processes on this host have there.
    pub load_elsewhere: u32,
    /// Leases that are out.
    active: u32,
    /// Requests that are bound to it and wait until it has room.
    waiting: u32,
    retired: bool,
    membership: Option<Membership>,
}

/// Where a backend is a member.
#[derive(Clone, Copy, Debug)]
struct Membership {
    pool: PoolId,
    /// Its place among the members.
    place: u32,
    /// Whether each lease counts for who is picked.
    by_load: bool,
    /// Whether it is noted as changed.
    is_noted: bool,
}

impl Backend {
    /// Leases of this process that are out.
    #[must_use]
    pub(crate) fn active(&self) -> u32 {
        self.active
    }

    /// Connections of all processes of this host.
    #[must_use]
    pub fn load(&self) -> u32 {
        self.active.saturating_add(self.load_elsewhere)
    }

    /// Whether it has no room: `connections_max` is reached, or what room there is belongs to
    /// those who wait for it.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.waiting > 0 || !self.has_room()
    }

    fn has_room(&self) -> bool {
        self.connections_max.is_none_or(|max| self.load() < max)
    }

    /// Whether a lease more or less changes who is picked.
    fn is_picked_by_load(&self) -> bool {
        self.connections_max.is_some() || self.membership.is_some_and(|it| it.by_load)
    }

    /// Notes that it may have changed.
    fn note(&mut self, changed: &mut [Vec<u32>]) {
        if let Some(membership) = self.membership.as_mut().filter(|it| !it.is_noted) {
            membership.is_noted = true;
            changed[membership.pool.0 as usize].push(membership.place);
        }
    }

    /// Whether requests that are bound to it wait until it has room.
    #[must_use]
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting > 0
    }

    /// Whether a reload removed it.
    #[must_use]
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    /// Whether traffic that is bound to nothing may go there. With `even_if_down`, its health is
    /// not asked.
    #[must_use]
    pub(crate) fn takes_new(&self, even_if_down: bool) -> bool {
        self.is_in_turn(even_if_down) && !self.is_full()
    }

    /// Whether it has turns of a round robin, even if it is too full to take them. With
    /// `even_if_down`, its health is not asked.
    #[must_use]
    pub(crate) fn is_in_turn(&self, even_if_down: bool) -> bool {
        self.weight > 0
            && !self.draining
            && !self.retired
            && (even_if_down || self.health.is_usable())
    }

    /// Whether traffic that is bound to this backend, by a cookie for example, may go there: also
    /// while it drains or has weight 0.
    #[must_use]
    pub(crate) fn takes_bound(&self) -> bool {
        self.is_bindable() && !self.is_full()
    }

    /// Whether the first of those who wait for it may go there.
    #[must_use]
    pub(crate) fn takes_waiting(&self) -> bool {
        self.is_bindable() && self.has_room()
    }

    /// Whether traffic that is bound to this backend may go there once it has room.
    #[must_use]
    pub(crate) fn is_bindable(&self) -> bool {
        !self.retired && !self.disabled && self.health.is_usable()
    }
}

/// A counted claim on a backend: one open connection or one request in flight.
///
/// It goes back to [`Backends::give_back`] exactly once, however its connection ends. Dropping it
/// instead is a defect, and panics in debug builds.
#[derive(Debug)]
#[must_use = "a lease is given back to Backends"]
#[allow(
    clippy::manual_non_exhaustive,
    reason = "the rest of the crate must not make leases either"
)]
pub struct Lease {
    /// The backend it counts for.
    pub backend: BackendId,
    /// Only [`Backends::take`] makes leases.
    _counted: (),
}

impl Drop for Lease {
    fn drop(&mut self) {
        debug_assert!(
            std::thread::panicking(),
            "a lease on {:?} was dropped, not given back",
            self.backend
        );
    }
}

/// All backends of a worker.
#[derive(Debug, Default)]
pub struct Backends {
    slots: Vec<Option<Backend>>,
    /// Oldest first, so that a freed id stays unused for as long as possible.
    free: VecDeque<u32>,
    leases: usize,
    waiting: usize,
    /// By pool: the places of members that may have changed, each once.
    changed: Vec<Vec<u32>>,
}

impl Backends {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a backend into the table.
    ///
    /// # Panics
    /// When there are 2^32 of them.
    pub fn insert(&mut self, new: NewBackend) -> BackendId {
        let backend = Backend {
            seed: bytes_key(new.identity.as_bytes()),
            identity: new.identity,
            weight: new.weight,
            connections_max: new.connections_max,
            health: new.health,
            draining: false,
            disabled: false,
            load_elsewhere: 0,
            active: 0,
            waiting: 0,
            retired: false,
            membership: None,
        };
        if let Some(index) = self.free.pop_front() {
            self.slots[index as usize] = Some(backend);
            return BackendId(index);
        }
        let index = u32::try_from(self.slots.len()).expect("fewer than 2^32 backends");
        self.slots.push(Some(backend));
        BackendId(index)
    }

    /// The backend, retired or not.
    ///
    /// # Panics
    /// When the slot is free: the id was kept longer than the backend.
    #[must_use]
    pub fn get(&self, id: BackendId) -> &Backend {
        self.try_get(id).expect("the id of a backend in the table")
    }

    /// The backend, to change it.
    ///
    /// # Panics
    /// As [`Backends::get`].
    pub fn get_mut(&mut self, id: BackendId) -> &mut Backend {
        self.try_get_mut(id)
            .expect("the id of a backend in the table")
    }

    /// The backend, or none when the slot is free.
    #[must_use]
    pub(crate) fn try_get(&self, id: BackendId) -> Option<&Backend> {
        self.slots.get(id.0 as usize)?.as_ref()
    }

    /// The backend to change it, or none when the slot is free.
    pub(crate) fn try_get_mut(&mut self, id: BackendId) -> Option<&mut Backend> {
        let backend = self.slots.get_mut(id.0 as usize)?.as_mut()?;
        backend.note(&mut self.changed);
        Some(backend)
    }

    /// Real traffic at the backend worked. That makes nobody usable who was not.
    ///
    /// # Panics
    /// As [`Backends::get`].
    pub(crate) fn on_success(&mut self, id: BackendId) {
        self.slot_mut(id).health.on_success();
    }

    fn slot_mut(&mut self, id: BackendId) -> &mut Backend {
        let slot = self.slots.get_mut(id.0 as usize);
        slot.and_then(Option::as_mut)
            .expect("the id of a backend in the table")
    }

    /// Counts one connection or request for the backend.
    ///
    /// # Panics
    /// As [`Backends::get`].
    pub fn take(&mut self, id: BackendId) -> Lease {
        let backend = self.slot_mut(id);
        backend.active += 1;
        if backend.is_picked_by_load() {
            self.note(id);
        }
        self.leases += 1;
        Lease {
            backend: id,
            _counted: (),
        }
    }

    /// Ends a claim; frees the slot when it was the last one on a retired backend.
    ///
    /// # Panics
    /// When the lease is of another table.
    pub fn give_back(&mut self, lease: Lease) {
        let id = lease.backend;
        std::mem::forget(lease);
        let backend = self.slot_mut(id);
        backend.active = backend.active.checked_sub(1).expect("a lease that is out");
        if backend.is_picked_by_load() {
            self.note(id);
        }
        self.leases -= 1;
        self.free_if_idle(id);
    }

    /// A request waits until the backend has room. Whoever counts it in counts it out, before
    /// the backend is retired.
    ///
    /// # Panics
    /// As [`Backends::get`].
    pub(super) fn start_waiting(&mut self, id: BackendId) {
        self.get_mut(id).waiting += 1;
        self.waiting += 1;
    }

    /// A request waits for the backend no longer.
    ///
    /// # Panics
    /// When none did.
    pub(super) fn end_waiting(&mut self, id: BackendId) {
        let backend = self.get_mut(id);
        backend.waiting = backend.waiting.checked_sub(1).expect("one that waits");
        self.waiting -= 1;
    }

    /// All requests that wait until their backend has room.
    #[must_use]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes a backend out of service for good; its slot is freed once no lease on it is out.
    ///
    /// # Panics
    /// As [`Backends::get`].
    pub fn retire(&mut self, id: BackendId) {
        let backend = self.get_mut(id);
        backend.retired = true;
        backend.membership = None;
        self.free_if_idle(id);
    }

    /// Whether the id names a backend that is not retired.
    #[must_use]
    pub fn is_live(&self, id: BackendId) -> bool {
        self.try_get(id).is_some_and(|backend| !backend.retired)
    }

    /// Whether the id names a backend that is retired and still has leases out.
    #[must_use]
    pub fn is_retired(&self, id: BackendId) -> bool {
        self.try_get(id).is_some_and(|backend| backend.retired)
    }

    /// Leases on the backend that are out; none on a free slot.
    #[must_use]
    pub fn active(&self, id: BackendId) -> u32 {
        self.try_get(id).map_or(0, Backend::active)
    }

    /// All leases that are out.
    #[must_use]
    pub fn leases(&self) -> usize {
        self.leases
    }

    /// These are the members of the pool from now on, and nobody else. None of them counts as
    /// changed.
    pub(super) fn enlist(&mut self, pool: PoolId, members: &[BackendId], by_load: bool) {
        let index = pool.0 as usize;
        if self.changed.len() <= index {
            self.changed.resize_with(index + 1, Vec::new);
        }
        self.changed[index].clear();
        for (place, &id) in (0..).zip(members) {
            self.slot_mut(id).membership = Some(Membership {
                pool,
                place,
                by_load,
                is_noted: false,
            });
        }
    }

    /// The place of a backend among the members of a pool.
    pub(super) fn place_in(&self, pool: PoolId, id: BackendId) -> Option<u32> {
        let membership = self.try_get(id)?.membership?;
        (membership.pool == pool).then_some(membership.place)
    }

    /// The place of a member that may have changed since it was last asked for.
    pub(super) fn next_changed(&mut self, pool: PoolId) -> Option<u32> {
        self.changed.get_mut(pool.0 as usize)?.pop()
    }

    /// The member of the pool at this place, which is looked at now; none where it has gone.
    pub(super) fn look(&mut self, pool: PoolId, place: u32, id: BackendId) -> Option<&Backend> {
        let backend = self.slots.get_mut(id.0 as usize)?.as_mut()?;
        let membership = backend.membership.as_mut()?;
        if membership.pool != pool || membership.place != place {
            return None;
        }
        membership.is_noted = false;
        Some(backend)
    }

    fn note(&mut self, id: BackendId) {
        if let Some(Some(backend)) = self.slots.get_mut(id.0 as usize) {
            backend.note(&mut self.changed);
        }
    }

    /// The backends in the table, retired ones included, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BackendId, &Backend)> {
        let slots = (0..).zip(&self.slots);
        slots.filter_map(|(index, slot)| Some((BackendId(index), slot.as_ref()?)))
    }

    /// The ids of the backends in the table, retired ones included, in the order of their slots.
    pub fn ids(&self) -> impl Iterator<Item = BackendId> {
        self.iter().map(|(id, _)| id)
    }

    #[inline]
    fn free_if_idle(&mut self, id: BackendId) {
        let backend = self.get(id);
        if backend.retired && backend.active == 0 {
            self.slots[id.0 as usize] = None;
            self.free.push_back(id.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::health::{EjectPolicy, Verdict};
    use crate::core::time::Tick;

    fn table(identities: &[&str]) -> (Backends, Vec<BackendId>) {
        let mut backends = Backends::new();
        let ids = identities
            .iter()
            .map(|name| backends.insert(new(name)))
            .collect();
        (backends, ids)
    }

    fn new(identity: &str) -> NewBackend {
        NewBackend {
            identity: identity.to_owned(),
            weight: 1,
            connections_max: None,
            health: Health::new(Verdict::Up, Tick(0)),
        }
    }

    /// Part of what picks keep of a backend: tests/footprint.rs counts on it.
    #[test]
    fn a_membership_is_small() {
        assert!(size_of::<Option<Membership>>() <= 12);
    }

    #[test]
    fn leases_are_counted_while_they_are_out() {
        let (mut backends, ids) = table(&["a", "b"]);
        let leases = [ids[0], ids[0], ids[1]].map(|id| backends.take(id));
        assert_eq!((backends.active(ids[0]), backends.leases()), (2, 3));
        leases
            .into_iter()
            .for_each(|lease| backends.give_back(lease));
        assert_eq!((backends.active(ids[0]), backends.leases()), (0, 0));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "not given back")]
    fn a_dropped_lease_is_a_defect() {
        let (mut backends, ids) = table(&["a"]);
        drop(backends.take(ids[0]));
    }

    #[test]
    fn a_retired_backend_stays_until_its_last_lease_is_back() {
        let (mut backends, ids) = table(&["a"]);
        let leases = [(); 2].map(|()| backends.take(ids[0]));
        backends.retire(ids[0]);
        for lease in leases {
            assert!(backends.is_retired(ids[0]) && !backends.is_live(ids[0]));
            backends.give_back(lease);
        }
        assert!(backends.try_get(ids[0]).is_none());
        assert!(!backends.is_retired(ids[0]));
    }

    #[test]
    fn a_slot_is_used_again_only_when_its_backend_is_gone() {
        let (mut backends, ids) = table(&["a", "b"]);
        let lease = backends.take(ids[0]);
        backends.retire(ids[0]);
        assert_eq!(backends.insert(new("c")), BackendId(2));
        backends.give_back(lease);
        assert_eq!(backends.insert(new("d")), ids[0]);
        assert_eq!(backends.get(ids[0]).identity, "d");
        assert!(backends.is_live(ids[0]));
        assert_eq!(backends.active(ids[0]), 0);
    }

    #[test]
    fn backends_are_walked_in_the_order_of_their_slots() {
        let (mut backends, ids) = table(&["a", "b", "c"]);
        backends.retire(ids[1]);
        assert_eq!(backends.ids().collect::<Vec<_>>(), [ids[0], ids[2]]);
    }

    #[test]
    fn connections_of_other_processes_count_towards_the_limit() {
        let (mut backends, ids) = table(&["a"]);
        let lease = backends.take(ids[0]);
        let backend = backends.get_mut(ids[0]);
        backend.connections_max = Some(3);
        backend.load_elsewhere = 1;
        assert!(!backend.is_full());
        backend.load_elsewhere = 2;
        assert!(backend.is_full() && !backend.takes_new(true) && !backend.takes_bound());
        backend.load_elsewhere = u32::MAX;
        assert_eq!(backend.load(), u32::MAX);
        backends.give_back(lease);
    }

    #[test]
    fn a_backend_on_its_way_out_takes_only_what_is_bound_to_it() {
        type Change = fn(&mut Backend);
        let table_of_states: [(Change, bool, bool, bool); 5] = [
            (|_| {}, true, true, true),
            (|b| b.weight = 0, false, false, true),
            (|b| b.draining = true, false, false, true),
            (
                |b| b.health = Health::new(Verdict::Down, Tick(0)),
                false,
                true,
                false,
            ),
            (|b| b.retired = true, false, false, false),
        ];
        for (index, (change, new, new_if_down, bound)) in table_of_states.into_iter().enumerate() {
            let (mut backends, ids) = table(&["a"]);
            let backend = backends.get_mut(ids[0]);
            change(backend);
            let takes = (
                backend.takes_new(false),
                backend.takes_new(true),
                backend.takes_bound(),
            );
            assert_eq!(takes, (new, new_if_down, bound), "row {index}");
        }
    }

    #[test]
    fn an_ejected_backend_takes_nothing_new() {
        let (mut backends, ids) = table(&["a"]);
        let policy = EjectPolicy {
            failures: 1,
            eject: Duration::from_millis(1),
            eject_max: Duration::from_millis(1),
        };
        let backend = backends.get_mut(ids[0]);
        backend.health.on_failure(&policy, true, Tick(0));
        assert!(!backend.takes_new(false) && backend.takes_new(true));
    }
}
