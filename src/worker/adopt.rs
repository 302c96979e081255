//! Takes on a configuration: the first one, and every later one in place.
//!
//! What stays the same keeps everything it has. An upstream is known by its name, a backend by
//! its upstream and identity, a listener by its address. What is gone drains: a removed backend
//! keeps its sessions and gets no new ones, a removed listener takes what is queued and closes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::model::{self, Config, HashKey, IPV6_PREFIX_BITS, InitialState, Mode};
use crate::core::address::{Address, BackendAddress};
use crate::core::backend::{BackendId, NewBackend};
use crate::core::balance::{Algorithm, Ask, Balancer};
use crate::core::health::{Health, Verdict};
use crate::core::http::budget::RetryBudget;
use crate::core::http::sticky::{TagKey, Tags};
use crate::core::limit::RateLimit;
use crate::core::line::Line;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::doors::{Doors, Opened};
use crate::worker::report::UnresolvedName;
use crate::worker::shared::{
    Listener, ListenerSlot, Pause, Place, StickyTags, Upstream, UpstreamSlot, key_of,
};
use crate::worker::site::Site;
use crate::worker::{LOG_PERIOD_MS, Stage};

/// What a change of configuration changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Backends that are new.
    pub backends_added: usize,
    /// Backends that are gone and drain.
    pub backends_removed: usize,
    /// Listeners that are new.
    pub listeners_added: usize,
    /// Listeners that are gone and close.
    pub listeners_removed: usize,
}

impl<N: Net> Worker<N> {
    /// Whether a socket for this listener is open, so that a new configuration need not bring one.
    #[must_use]
    pub fn listens_for(&self, settings: &model::Listener) -> bool {
        self.find_listener(settings).is_some()
    }

    /// Takes on `config`. `sockets` has an entry per listener, in order: a new socket, or none
    /// where [`Worker::listens_for`] it.
    ///
    /// # Errors
    /// When a new listener cannot be watched; then nothing has changed.
    ///
    /// # Panics
    /// When a listener has neither.
    pub fn adopt(
        &mut self,
        config: Config,
        sockets: Vec<Option<N::Listener>>,
        at_start: bool,
    ) -> io::Result<Adopted> {
        let alone = |socket| Opened { slot: None, socket };
        let sockets = sockets
            .into_iter()
            .map(|it| it.map(alone).into_iter().collect());
        self.adopt_sockets(config, sockets.collect(), at_start)
    }

    /// The same for one of several workers. `sockets` has an entry per listener, in order: those
    /// that are new.
    ///
    /// # Errors
    /// When a new socket cannot be watched; then nothing has changed.
    ///
    /// # Panics
    /// When a listener has no socket, neither old nor new.
    pub fn adopt_sockets(
        &mut self,
        config: Config,
        sockets: Vec<Vec<Opened<N::Listener>>>,
        at_start: bool,
    ) -> io::Result<Adopted> {
        assert_eq!(
            config.listeners.len(),
            sockets.len(),
            "an entry per listener"
        );
        let mut adopted = Adopted::default();
        let slots = self.place_listeners(&config, sockets, &mut adopted)?;
        let upstreams = self.adopt_upstreams(&config, at_start, &mut adopted);
        for (slot, settings) in slots.iter().zip(&config.listeners) {
            self.set_listener(*slot, settings, &upstreams);
        }
        self.close_missing_listeners(&slots, &mut adopted);
        self.adopt_globals(&config);
        Ok(adopted)
    }

    fn adopt_globals(&mut self, config: &Config) {
        self.is_machine_limit = config.connections_max.is_some();
        self.connections_max = config
            .connections_max
            .unwrap_or(self.connections_max_default);
        (self.pre_drain, self.drain_timeout) = (config.pre_drain, config.drain_timeout);
        self.shared.transfer.pipes.enable(config.splice);
        self.shared
            .http
            .adopt_log(config.access_log.as_ref().map(|log| log.format));
        self.report.adopt(config);
        self.arm_stats();
        // A limit may have been raised, and no event would tell those who wait.
        self.has_full_listener = true;
        self.resume_full_listeners();
    }

    fn find_listener(&self, settings: &model::Listener) -> Option<ListenerSlot> {
        let open = |listener: &Listener<N>| listener.doors.is_open() && !listener.closing;
        // With port 0 the kernel chooses, so several listeners may have that address.
        let is_any_port = matches!(&settings.address, Address::Ip(ip) if ip.port() == 0);
        let is_same = |listener: &Listener<N>| {
            listener.address == settings.address && (!is_any_port || listener.name == settings.name)
        };
        let found = self
            .shared
            .listeners
            .iter()
            .position(|listener| open(listener) && is_same(listener))?;
        ListenerSlot::try_from(found).ok()
    }

    /// Finds or makes the slot of every listener. New sockets are watched before anything else
    /// changes, so that a failure leaves everything as it was.
    fn place_listeners(
        &mut self,
        config: &Config,
        sockets: Vec<Vec<Opened<N::Listener>>>,
        adopted: &mut Adopted,
    ) -> io::Result<Vec<ListenerSlot>> {
        let mut slots = Vec::new();
        let mut fresh = Vec::new();
        let mut added = Vec::new();
        for (settings, sockets) in config.listeners.iter().zip(sockets) {
            let slot = self.find_listener(settings).unwrap_or_else(|| {
                assert!(
                    !sockets.is_empty(),
                    "a listener without a new socket is open"
                );
                let slot = self.free_listener_slot(settings, &fresh);
                fresh.push(slot);
                slot
            });
            slots.push(slot);
            for socket in sockets {
                match self.add_door(slot, socket) {
                    Ok(generation) => added.push((slot, generation)),
                    Err(error) => {
                        for (slot, generation) in added {
                            self.remove_door(slot, generation);
                        }
                        return Err(error);
                    }
                }
            }
        }
        adopted.listeners_added = fresh.len();
        Ok(slots)
    }

    /// A slot that nobody uses, or a new one.
    fn free_listener_slot(
        &mut self,
        settings: &model::Listener,
        fresh: &[ListenerSlot],
    ) -> ListenerSlot {
        let free = self.shared.listeners.iter().position(|listener| {
            !listener.doors.is_open() && listener.active == 0 && !listener.queued
        });
        let free = free.and_then(|slot| ListenerSlot::try_from(slot).ok());
        if let Some(slot) = free.filter(|slot| !fresh.contains(slot)) {
            let column = self.shared.listeners[slot as usize].column;
            self.shared.board.close(column);
            self.shared.listeners[slot as usize] = self.blank_listener(settings);
            return slot;
        }
        let listener = self.blank_listener(settings);
        self.shared.listeners.push(listener);
        key_of(self.shared.listeners.len() - 1)
    }

    fn blank_listener(&mut self, settings: &model::Listener) -> Listener<N> {
        Listener {
            name: settings.name.clone(),
            address: settings.address.clone(),
            doors: Doors::none(),
            queued: false,
            pause: Pause::No,
            closing: false,
            active: 0,
            connections_max: None,
            timeouts: settings.timeouts,
            upstream: 0,
            is_http: false,
            site: None,
            column: self.shared.board.open(&settings.column_name()),
        }
    }

    fn set_listener(
        &mut self,
        slot: ListenerSlot,
        settings: &model::Listener,
        upstreams: &[UpstreamSlot],
    ) {
        let listener = &mut self.shared.listeners[slot as usize];
        listener.name.clone_from(&settings.name);
        listener.connections_max = settings.connections_max;
        listener.timeouts = settings.timeouts;
        match &settings.mode {
            Mode::Tcp { upstream } => {
                listener.upstream = upstreams[*upstream];
                listener.is_http = false;
            }
            Mode::Http(http) => match Site::new(http, upstreams) {
                Ok(site) => {
                    listener.is_http = true;
                    listener.site = Some(Arc::new(site));
                }
                // The configuration refuses what a site cannot take, so this is ours to mend.
                Err(error) => log::error!("listener {}: {error}", settings.name),
            },
        }
    }

    fn close_missing_listeners(&mut self, kept: &[ListenerSlot], adopted: &mut Adopted) {
        for slot in 0..self.shared.listeners.len() {
            let slot = key_of(slot);
            let listener = &self.shared.listeners[slot as usize];
            if !kept.contains(&slot) && listener.doors.is_open() && !listener.closing {
                adopted.listeners_removed += 1;
                self.close_listener(slot);
            }
        }
    }

    /// Brings every upstream up to date; the slot of each, in the order of the configuration.
    fn adopt_upstreams(
        &mut self,
        config: &Config,
        at_start: bool,
        adopted: &mut Adopted,
    ) -> Vec<UpstreamSlot> {
        let slots: Vec<UpstreamSlot> = config
            .upstreams
            .iter()
            .map(|settings| self.upstream_slot(settings, config))
            .collect();
        for slot in 0..self.shared.upstreams.len() {
            let slot = key_of(slot);
            if !slots.contains(&slot) {
                self.shared.upstreams[slot as usize]
                    .settings
                    .backends
                    .clear();
                self.retire_members(slot, adopted);
            }
        }
        for (slot, settings) in slots.iter().zip(&config.upstreams) {
            self.adopt_upstream(*slot, settings, at_start, adopted);
        }
        slots
    }

    /// The slot of the upstream of that name, one that nobody uses any more, or a new one.
    fn upstream_slot(&mut self, settings: &model::Upstream, config: &Config) -> UpstreamSlot {
        let mut slots = 0..self.shared.upstreams.len();
        let is_named = |name: &str| config.upstreams.iter().any(|named| named.name == *name);
        let name_of = |slot: usize| &self.shared.upstreams[slot].name;
        if let Some(slot) = slots.clone().find(|&slot| *name_of(slot) == settings.name) {
            return key_of(slot);
        }
        let free = slots.find(|&slot| !is_named(name_of(slot)) && !self.is_used(key_of(slot)));
        if let Some(slot) = free {
            let column = self.shared.upstreams[slot].column;
            self.shared.board.close(column);
            self.shared.upstreams[slot] = self.blank_upstream(settings);
            return key_of(slot);
        }
        let upstream = self.blank_upstream(settings);
        self.shared.upstreams.push(upstream);
        key_of(self.shared.upstreams.len() - 1)
    }

    /// Whether a backend is left of an upstream, perhaps a retired one with sessions, or a listener
    /// may still lead there, perhaps for the sessions that it has.
    fn is_used(&self, slot: UpstreamSlot) -> bool {
        let mut places = self.shared.places.iter().flatten();
        let leads_there = |listener: &Listener<N>| {
            let site = listener.site.as_ref();
            let is_alive = listener.doors.is_open() || listener.active > 0;
            let is_target = !listener.is_http && listener.upstream == slot;
            is_alive && (is_target || site.is_some_and(|site| site.leads_to(slot)))
        };
        // Who waits in its line has no backend yet.
        let has_line = !self.shared.upstreams[slot as usize].line.is_empty();
        has_line
            || places.any(|place| place.upstream == slot)
            || self.shared.listeners.iter().any(leads_there)
    }

    fn blank_upstream(&mut self, settings: &model::Upstream) -> Upstream {
        Upstream {
            name: settings.name.clone(),
            members: Vec::new(),
            balancer: self.balancer(settings),
            hash_balancer: Balancer::new(Algorithm::Hash, 0),
            sticky: None,
            line: Line::default(),
            budget: budget(settings),
            settings: settings.clone(),
            column: self.shared.board.open(&settings.column_name()),
            seen_at: 0,
            refused_log: RateLimit::new(LOG_PERIOD_MS),
        }
    }

    fn balancer(&mut self, settings: &model::Upstream) -> Balancer {
        Balancer::new(algorithm(&settings.algorithm), self.shared.rng.next_u64())
    }

    fn adopt_upstream(
        &mut self,
        slot: UpstreamSlot,
        settings: &model::Upstream,
        at_start: bool,
        adopted: &mut Adopted,
    ) {
        let had_check = self.shared.upstreams[slot as usize]
            .settings
            .health_check
            .clone();
        if self.shared.upstreams[slot as usize].balancer.algorithm()
            != algorithm(&settings.algorithm)
        {
            self.shared.upstreams[slot as usize].balancer = self.balancer(settings);
        }
        let upstream = &mut self.shared.upstreams[slot as usize];
        let budget_of = |settings: &model::Upstream| {
            (
                settings.retry_budget_percent,
                settings.retry_budget_min_per_s,
            )
        };
        if budget_of(&upstream.settings) != budget_of(settings) {
            upstream.budget = budget(settings);
        }
        upstream.settings = settings.clone();
        self.retire_members(slot, adopted);
        let members = settings
            .backends
            .iter()
            .map(|backend| match self.member(slot, &backend.identity) {
                Some(id) => {
                    self.update_backend(id, backend);
                    id
                }
                None => {
                    adopted.backends_added += 1;
                    self.add_backend(slot, settings, backend, at_start)
                }
            })
            .collect::<Vec<_>>();
        let sticky = self.sticky_tags(settings, &members);
        let upstream = &mut self.shared.upstreams[slot as usize];
        upstream.members.clone_from(&members);
        upstream.sticky = sticky;
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
        let Some(me) = self.shared.board.holder() else {
            return;
        };
        let ask = Ask {
            key: 0,
            tried: &[],
            even_if_down: true,
            turn: None,
        };
        let shared = &mut self.shared;
        let upstream = &mut shared.upstreams[slot as usize];
        for _ in 1..me.row {
            upstream
                .balancer
                .pick(&upstream.members, &mut shared.backends, &ask);
        }
    }

    fn sticky_tags(&self, settings: &model::Upstream, members: &[BackendId]) -> Option<StickyTags> {
        let Some(model::Sticky::Insert(cookie)) = &settings.sticky else {
            return None;
        };
        let key = TagKey::new(cookie.secret.as_bytes());
        let tags = Tags::new(members.iter().enumerate().map(|(index, &id)| {
            let identity = &self.shared.backends.get(id).identity;
            (key.tag(&settings.name, identity), index)
        }));
        Some(StickyTags { key, tags })
    }

    fn member(&self, slot: UpstreamSlot, identity: &str) -> Option<BackendId> {
        let members = &self.shared.upstreams[slot as usize].members;
        members
            .iter()
            .copied()
            .find(|&id| self.shared.backends.get(id).identity == identity)
    }

    /// Retires the members that the upstream's settings no longer name.
    fn retire_members(&mut self, slot: UpstreamSlot, adopted: &mut Adopted) {
        let members = std::mem::take(&mut self.shared.upstreams[slot as usize].members);
        let mut kept = Vec::with_capacity(members.len());
        for id in members {
            let identity = &self.shared.backends.get(id).identity;
            let named = &self.shared.upstreams[slot as usize].settings.backends;
            if named.iter().any(|backend| backend.identity == *identity) {
                kept.push(id);
                continue;
            }
            adopted.backends_removed += 1;
            self.drop_probe(id);
            self.shared.forget_finding(id);
            self.shared.retire(id);
        }
        self.shared.upstreams[slot as usize].members = kept;
    }

    fn update_backend(&mut self, id: BackendId, settings: &model::Backend) {
        let backend = self.shared.backends.get_mut(id);
        backend.weight = settings.weight;
        backend.connections_max = settings.connections_max;
        self.shared.stir_line(id);
        if self.shared.place(id).address == settings.address {
            return;
        }
        // What they wait for is not there any more.
        self.shared.send_line_away(id);
        let place = self.shared.place_mut(id);
        place.address = settings.address.clone();
        place.addresses = fixed_addresses(&settings.address);
        place.current = 0;
        place.moves = place.moves.wrapping_add(1);
        self.shared.close_parked(id);
    }

    fn add_backend(
        &mut self,
        slot: UpstreamSlot,
        upstream: &model::Upstream,
        settings: &model::Backend,
        at_start: bool,
    ) -> BackendId {
        let addresses = fixed_addresses(&settings.address);
        let verdict = match addresses.is_empty() {
            true => Verdict::Down,
            false => assumed(upstream, at_start),
        };
        let shared = &mut self.shared;
        let id = shared.backends.insert(NewBackend {
            identity: settings.identity.clone(),
            weight: settings.weight,
            connections_max: settings.connections_max,
            health: Health::new(verdict, shared.now),
        });
        let place = Place {
            label: format!("{}/{}", upstream.name, settings.identity),
            upstream: slot,
            address: settings.address.clone(),
            addresses,
            current: 0,
            moves: 0,
            is_first: at_start,
            parked: Vec::new(),
            ejected_here: false,
            column: shared
                .board
                .open(&upstream.backend_column_name(&settings.identity)),
        };
        let index = id.0 as usize;
        if shared.places.len() <= index {
            shared.places.resize_with(index + 1, || None);
        }
        shared.places[index] = Some(place);
        shared.refresh_up(id);
        shared.take_on(id);
        id
    }

    /// Starts or ends the probe of a backend as the settings ask. Without checks nothing could
    /// bring a backend up that one had found down, so it is up again.
    fn adopt_check(&mut self, id: BackendId, settings: &model::Upstream, had_check: bool) {
        match (settings.health_check.is_some(), self.has_probe(id)) {
            (true, false) => self.add_probe(id),
            (false, true) => {
                self.drop_probe(id);
                self.shared.forget_finding(id);
            }
            (true, true) | (false, false) => {}
        }
        let resolved = !self.shared.place(id).addresses.is_empty();
        if had_check && settings.health_check.is_none() && resolved {
            self.shared.backends.get_mut(id).health = Health::new(Verdict::Up, self.shared.now);
            self.shared.refresh_up(id);
        }
    }

    /// The names of backends that have no address yet, each once.
    #[must_use]
    pub fn unresolved_names(&self) -> Vec<UnresolvedName> {
        let mut names = Vec::new();
        for place in self.shared.places.iter().flatten() {
            let BackendAddress::Name { host, port } = &place.address else {
                continue;
            };
            let name = UnresolvedName {
                host: host.clone(),
                port: *port,
            };
            if place.addresses.is_empty() && !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// A name has been resolved: its backends are as if they had been added with an address.
    pub fn on_resolved(&mut self, name: &UnresolvedName, addresses: &[SocketAddr]) {
        if addresses.is_empty() {
            return;
        }
        for index in 0..self.shared.places.len() {
            let Some(place) = &mut self.shared.places[index] else {
                continue;
            };
            let BackendAddress::Name { host, port } = &place.address else {
                continue;
            };
            if *host != name.host || *port != name.port || !place.addresses.is_empty() {
                continue;
            }
            place.addresses = addresses.iter().copied().map(Address::Ip).collect();
            place.current = 0;
            let settings = &self.shared.upstreams[place.upstream as usize].settings;
            let is_up = assumed(settings, place.is_first) == Verdict::Up;
            let id = BackendId(key_of(index));
            if is_up && !self.shared.backends.get(id).health.is_known() {
                let now = self.shared.now;
                self.shared.backends.get_mut(id).health = Health::new(Verdict::Up, now);
                self.shared.refresh_up(id);
            }
            self.shared.take_on(id);
        }
    }

    /// Whether a new configuration may be adopted now.
    #[must_use]
    pub fn may_adopt(&self) -> bool {
        self.stage == Stage::Serving
    }
}

impl<N: Net> crate::worker::shared::Shared<N> {
    /// Takes a backend out of service; what it has goes on.
    fn retire(&mut self, id: BackendId) {
        self.close_parked(id);
        self.send_line_away(id);
        self.backends.retire(id);
        if self.backends.try_get(id).is_none() {
            self.free_place(id);
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

fn algorithm(settings: &model::Algorithm) -> Algorithm {
    match settings {
        model::Algorithm::RoundRobin => Algorithm::RoundRobin,
        model::Algorithm::LeastConn => Algorithm::LeastConnections,
        model::Algorithm::RandomTwo => Algorithm::RandomTwo,
        model::Algorithm::Hash(_) => Algorithm::Hash,
    }
}

/// What is assumed of a backend with an address that no probe has reported on. One that a reload
/// adds beside others is proven first, whatever the settings say.
fn assumed(upstream: &model::Upstream, at_start: bool) -> Verdict {
    match &upstream.health_check {
        Some(check) if !at_start || check.initial == InitialState::Down => Verdict::Down,
        Some(_) | None => Verdict::Up,
    }
}

impl Upstream {
    /// Leading bits of a client's IPv6 address that are hashed.
    pub(crate) fn ipv6_prefix_bits(&self) -> u8 {
        match self.settings.algorithm {
            model::Algorithm::Hash(HashKey::ClientIp { ipv6_prefix_bits }) => ipv6_prefix_bits,
            model::Algorithm::Hash(_)
            | model::Algorithm::RoundRobin
            | model::Algorithm::LeastConn
            | model::Algorithm::RandomTwo => IPV6_PREFIX_BITS,
        }
    }
}
