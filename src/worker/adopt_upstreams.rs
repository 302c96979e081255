//! Adopts the upstreams of a configuration, with their backends and probes.
//!
//! One look at each, however many there are: clients wait meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::config::model::{self, Config, InitialState};
use crate::core::address::{Address, BackendAddress};
use crate::core::backend::{BackendId, NewBackend, PoolId};
use crate::core::balance::{Ask, Balancer};
use crate::core::health::{Health, Verdict};
use crate::core::http::budget::RetryBudget;
use crate::core::http::oddity::Oddities;
use crate::core::http::sticky::{TagKey, Tags};
use crate::core::idle_limit::IdleLimit;
use crate::core::limit::RateLimit;
use crate::core::wait_queue::WaitQueue;
use crate::net::Net;
use crate::worker::LOG_PERIOD_MS;
use crate::worker::Worker;
use crate::worker::backend_entry::BackendEntry;
use crate::worker::keys::{UpstreamSlot, key_of};
use crate::worker::listeners::ListenerState;
use crate::worker::secure::{self, Made};
use crate::worker::shared::Shared;
use crate::worker::told::Adopted;
use crate::worker::upstreams::{StickyTags, Upstream};

impl<N: Net> Worker<N> {
    /// Brings every upstream up to date; the slot of each, in the order of the configuration.
    pub(super) fn adopt_upstreams(
        &mut self,
        config: &Config,
        at_start: bool,
        adopted: &mut Adopted,
    ) -> Vec<UpstreamSlot> {
        let slots = self.upstream_slots(config);
        let kept: HashSet<UpstreamSlot> = slots.iter().copied().collect();
        for slot in 0..self.shared.upstreams.list.len() {
            let slot = key_of(slot);
            if !kept.contains(&slot) {
                self.shared.upstreams[slot].settings.backends.clear();
                self.retire_members(slot, &[], adopted);
                self.adopt_members(slot, Vec::new());
            }
        }
        for (place, (slot, settings)) in slots.iter().zip(&config.upstreams).enumerate() {
            let before = self.shared.upstreams[*slot].tls.take();
            let number = before.as_ref().map(Made::number);
            let tls = secure::of_upstream(before, settings, &config.material, place);
            let is_other = number != tls.as_ref().map(Made::number);
            self.shared.upstreams[*slot].tls = tls;
            self.adopt_upstream(*slot, settings, (at_start, is_other), adopted);
        }
        slots
    }

    /// The slots of the upstreams: those that have their names, some that nobody uses any more, and
    /// new ones.
    fn upstream_slots(&mut self, config: &Config) -> Vec<UpstreamSlot> {
        let names = config.upstreams.iter();
        let names: HashSet<&str> = names.map(|settings| settings.name.as_str()).collect();
        let with_members = self.upstreams_with_members();
        let mut known = HashMap::new();
        let mut free = VecDeque::new();
        for (slot, upstream) in (0..).zip(&self.shared.upstreams.list) {
            match names.get(upstream.name.as_str()) {
                Some(&name) => {
                    known.entry(name).or_insert(slot);
                }
                None if with_members.contains(&slot) || self.is_led_to(slot) => {}
                None => free.push_back(slot),
            }
        }
        let slot = |settings: &model::Upstream| match known.get(settings.name.as_str()) {
            Some(slot) => *slot,
            None => self.give_upstream_slot(free.pop_front(), settings),
        };
        config.upstreams.iter().map(slot).collect()
    }

    fn give_upstream_slot(
        &mut self,
        free: Option<UpstreamSlot>,
        settings: &model::Upstream,
    ) -> UpstreamSlot {
        if let Some(slot) = free {
            let column = self.shared.upstreams[slot].column;
            self.shared.board.close(column);
            self.shared.upstreams[slot] = self.blank_upstream(slot, settings);
            return slot;
        }
        let slot = key_of(self.shared.upstreams.list.len());
        let upstream = self.blank_upstream(slot, settings);
        self.shared.upstreams.list.push(upstream);
        slot
    }

    /// The upstreams of which a backend is left, perhaps a retired one with sessions.
    fn upstreams_with_members(&self) -> HashSet<UpstreamSlot> {
        let entries = self.shared.upstreams.entries.iter().flatten();
        entries.map(|entry| entry.upstream).collect()
    }

    /// Whether a listener may still lead to an upstream, perhaps for the sessions that it has.
    fn is_led_to(&self, slot: UpstreamSlot) -> bool {
        let leads_there = |listener: &ListenerState<N>| {
            let is_alive = listener.sockets.is_open() || listener.active > 0;
            is_alive && listener.leads_to(slot)
        };
        // Who waits in its queue has no backend yet.
        let has_waiting = !self.shared.upstreams[slot].queue.is_empty();
        has_waiting || self.shared.listeners.list.iter().any(leads_there)
    }

    fn blank_upstream(&mut self, slot: UpstreamSlot, settings: &model::Upstream) -> Upstream {
        Upstream {
            name: settings.name.clone(),
            members: Vec::new(),
            balancer: self.balancer(slot, settings),
            sticky: None,
            queue: WaitQueue::default(),
            budget: budget(settings),
            settings: settings.clone(),
            tls: None,
            column: self.shared.board.open(&settings.column_name()),
            has_limits: false,
            seen_at: 0,
            refused_log: RateLimit::new(LOG_PERIOD_MS),
            tls_log: RateLimit::new(LOG_PERIOD_MS),
            start_log: RateLimit::new(LOG_PERIOD_MS),
            response_log: RateLimit::new(LOG_PERIOD_MS),
        }
    }

    fn balancer(&mut self, slot: UpstreamSlot, settings: &model::Upstream) -> Balancer {
        let seed = self.shared.rng.next_u64();
        Balancer::new(settings.algorithm.algorithm(), seed, PoolId(slot))
    }

    fn adopt_members(&mut self, slot: UpstreamSlot, members: Vec<BackendId>) {
        self.shared.upstreams.loads.are_unknown = true;
        let table = &mut self.shared.upstreams;
        let upstream = &mut table.list[slot as usize];
        upstream.balancer.adopt(&members, &mut table.backends);
        upstream.members = members;
    }

    fn adopt_upstream(
        &mut self,
        slot: UpstreamSlot,
        settings: &model::Upstream,
        (at_start, has_other_tls): (bool, bool),
        adopted: &mut Adopted,
    ) {
        let had_check = self.shared.upstreams[slot].settings.health_check.clone();
        if self.shared.upstreams[slot].balancer.algorithm() != settings.algorithm.algorithm() {
            self.shared.upstreams[slot].balancer = self.balancer(slot, settings);
        }
        let upstream = &mut self.shared.upstreams[slot];
        let budget_of = |settings: &model::Upstream| {
            (
                settings.retry_budget_percent,
                settings.retry_budget_min_per_s,
            )
        };
        if budget_of(&upstream.settings) != budget_of(settings) {
            upstream.budget = budget(settings);
        }
        let mut limits = settings.backends.iter().map(|it| it.connections_max);
        upstream.has_limits = limits.any(|max| max.is_some());
        let name_of = |settings: &model::Upstream| {
            let tls = settings.tls.as_ref();
            tls.and_then(|tls| tls.server_name.clone())
        };
        let begins_anew = has_other_tls
            || upstream.settings.send_proxy != settings.send_proxy
            || name_of(&upstream.settings) != name_of(settings);
        upstream.settings = settings.clone();
        let known = self.retire_members(slot, &settings.backends, adopted);
        let serves = |id: &BackendId| self.shared.upstreams.backends.get(*id).is_in_turn(false);
        let is_first = at_start || !known.values().any(serves);
        let members = settings
            .backends
            .iter()
            .map(|backend| match known.get(backend.identity.as_str()) {
                Some(&id) => {
                    self.update_backend(id, backend);
                    if begins_anew {
                        self.shared.forget_connections(id);
                    }
                    id
                }
                None => {
                    adopted.backends_added += 1;
                    self.add_backend(slot, settings, backend, is_first)
                }
            })
            .collect::<Vec<_>>();
        let sticky = self.sticky_tags(settings, &members);
        self.shared.upstreams[slot].sticky = sticky;
        self.adopt_members(slot, members.clone());
        for id in members {
            self.adopt_check(id, settings, had_check.is_some());
        }
        if at_start {
            self.stagger(slot);
        }
    }

    /// Where turns are not shared, workers that start together shall not all start with the same
    /// backend: each begins as many turns later as its row says.
    fn stagger(&mut self, slot: UpstreamSlot) {
        let me = self.shared.board.holder();
        let ask = Ask {
            key: 0,
            is_bound: false,
            tried: &[],
            even_if_down: false,
            turn: None,
        };
        let table = &mut self.shared.upstreams;
        let upstream = &mut table.list[slot as usize];
        for _ in 1..me.row {
            upstream
                .balancer
                .pick(&upstream.members, &mut table.backends, &ask);
        }
    }

    fn sticky_tags(&self, settings: &model::Upstream, members: &[BackendId]) -> Option<StickyTags> {
        let Some(model::Sticky::Insert(cookie)) = &settings.sticky else {
            return None;
        };
        let key = TagKey::new(cookie.secret.as_bytes());
        let tags = Tags::new(members.iter().enumerate().map(|(index, &id)| {
            let identity = &self.shared.upstreams.backends.get(id).identity;
            (key.tag(&settings.name, identity), index)
        }));
        Some(StickyTags { key, tags })
    }

    /// Retires the members that are not `named` any more; the others, by identity.
    fn retire_members<'a>(
        &mut self,
        slot: UpstreamSlot,
        named: &'a [model::Backend],
        adopted: &mut Adopted,
    ) -> HashMap<&'a str, BackendId> {
        let named = named.iter().map(|backend| backend.identity.as_str());
        let named: HashSet<&'a str> = named.collect();
        let members = std::mem::take(&mut self.shared.upstreams[slot].members);
        let mut kept = Vec::with_capacity(members.len());
        let mut known = HashMap::with_capacity(members.len());
        for id in members {
            let identity = self.shared.upstreams.backends.get(id).identity.as_str();
            if let Some(identity) = named.get(identity) {
                kept.push(id);
                known.insert(*identity, id);
                continue;
            }
            adopted.backends_removed += 1;
            self.drop_probe(id);
            self.shared.upstreams.forget_finding(&self.shared.board, id);
            self.shared.retire(id);
        }
        self.shared.upstreams[slot].members = kept;
        known
    }

    fn update_backend(&mut self, id: BackendId, settings: &model::Backend) {
        let upstreams = &mut self.shared.upstreams;
        let entry = upstreams.entry_mut(id);
        if entry.weight != settings.weight {
            entry.weight = settings.weight;
            entry.changed_at = self.shared.timers.now;
        }
        let given = self.shared.board.weight(entry.column);
        let backend = upstreams.backends.get_mut(id);
        backend.weight = given.unwrap_or(settings.weight);
        backend.connections_max = settings.connections_max;
        self.shared.upstreams.recheck_queue(id);
        if self.shared.upstreams.entry(id).address == settings.address {
            return;
        }
        // What they wait for is not there any more.
        self.shared.upstreams.dismiss_queue(id);
        let entry = self.shared.upstreams.entry_mut(id);
        entry.address = settings.address.clone();
        entry.addresses = fixed_addresses(&settings.address);
        entry.current = 0;
        self.shared.forget_connections(id);
        let learned = |limit: &mut IdleLimit| *limit = IdleLimit::default();
        self.shared
            .upstreams
            .learn_idle_limit(&self.shared.board, id, learned);
    }

    fn add_backend(
        &mut self,
        slot: UpstreamSlot,
        upstream: &model::Upstream,
        settings: &model::Backend,
        is_first: bool,
    ) -> BackendId {
        let addresses = fixed_addresses(&settings.address);
        let verdict = match addresses.is_empty() {
            true => Verdict::Down,
            false => assumed(upstream, is_first),
        };
        let shared = &mut self.shared;
        let id = shared.upstreams.backends.insert(NewBackend {
            identity: settings.identity.clone(),
            weight: settings.weight,
            connections_max: settings.connections_max,
            health: Health::new(verdict, shared.timers.now),
        });
        let entry = BackendEntry {
            label: format!("{}/{}", upstream.name, settings.identity),
            upstream: slot,
            address: settings.address.clone(),
            weight: settings.weight,
            addresses,
            current: 0,
            moves: 0,
            is_first,
            parked: Vec::new(),
            idle_limit: IdleLimit::default(),
            probe: None,
            ejected_here: false,
            changed_at: shared.timers.now,
            oddities: Oddities::NONE,
            column: shared
                .board
                .open(&upstream.backend_column_name(&settings.identity)),
        };
        let index = id.0 as usize;
        if shared.upstreams.entries.len() <= index {
            shared.upstreams.entries.resize_with(index + 1, || None);
        }
        shared.upstreams.loads.own(entry.column, id);
        shared.upstreams.entries[index] = Some(entry);
        shared.upstreams.refresh_up(&shared.board, id);
        shared
            .upstreams
            .adopt_backend(&shared.board, &mut shared.timers, id);
        id
    }

    /// Starts or ends the probe of a backend as the settings ask. Without checks nothing could
    /// bring a backend up that one had found down, so it is up again.
    fn adopt_check(&mut self, id: BackendId, settings: &model::Upstream, had_check: bool) {
        match (
            settings.health_check.is_some(),
            self.shared.upstreams.has_probe(id),
        ) {
            (true, false) => self.add_probe(id),
            (false, true) => {
                self.drop_probe(id);
                self.shared.upstreams.forget_finding(&self.shared.board, id);
            }
            (true, true) | (false, false) => {}
        }
        let resolved = !self.shared.upstreams.entry(id).addresses.is_empty();
        if had_check && settings.health_check.is_none() && resolved {
            self.shared.upstreams.backends.get_mut(id).health =
                Health::new(Verdict::Up, self.shared.timers.now);
            self.shared.upstreams.refresh_up(&self.shared.board, id);
        }
    }
}

impl<N: Net> Shared<N> {
    /// Takes a backend out of service; what it has goes on.
    fn retire(&mut self, id: BackendId) {
        self.close_parked(id);
        self.upstreams.dismiss_queue(id);
        self.upstreams.backends.retire(id);
        if self.upstreams.backends.try_get(id).is_none() {
            self.upstreams.free_entry(&mut self.board, id);
        }
    }
}

fn budget(settings: &model::Upstream) -> RetryBudget {
    RetryBudget::new(
        settings.retry_budget_percent,
        settings.retry_budget_min_per_s,
    )
}

fn fixed_addresses(address: &BackendAddress) -> Vec<Address> {
    match address {
        BackendAddress::Fixed(address) => vec![address.clone()],
        BackendAddress::Name { .. } => Vec::new(),
    }
}

/// What is assumed of a backend with an address that no probe has reported on. One that a reload
/// adds beside others that serve is proven first, whatever the settings say; one that comes in
/// the place of all of them is not, as nobody else would serve meanwhile.
pub(super) fn assumed(upstream: &model::Upstream, is_first: bool) -> Verdict {
    match &upstream.health_check {
        Some(check) if !is_first || check.initial == InitialState::Down => Verdict::Down,
        Some(_) | None => Verdict::Up,
    }
}
