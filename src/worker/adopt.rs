//! Adopts a configuration: the first one, and every later one in place.
//!
//! What stays the same keeps everything it has. An upstream is known by its name, a backend by
//! its upstream and identity, a listener by its address. What is gone drains: a removed backend
//! keeps its sessions and gets no new ones, a removed listener takes what is queued and closes.

use std::io;
use std::sync::Arc;

use crate::board::{Board, RouteColumn};
use crate::config::model::{self, Config, Mode};
use crate::core::address::Address;
use crate::core::limit::RateLimit;
use crate::core::opening::Plan;
use crate::net::Net;
use crate::tls::material::ListenerMaterial;
use crate::worker::keys::{ListenerSlot, UpstreamSlot, key_of};
use crate::worker::listeners::{ListenerState, Pause};
use crate::worker::listening_sockets::{ListeningSockets, Opened};
use crate::worker::secure;
use crate::worker::site::Site;
use crate::worker::tls_routes::TlsRoutes;
use crate::worker::told::{Adopted, Stage};
use crate::worker::{LOG_PERIOD_MS, Worker};

impl<N: Net> Worker<N> {
    /// Whether a socket for this listener is open, so that a new configuration need not bring one.
    #[must_use]
    pub fn listens_for(&self, settings: &model::Listener) -> bool {
        self.find_listener(settings).is_some()
    }

    /// Adopts `config`. `sockets` has an entry per listener, in order: a new socket, or none
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
        for (place, (slot, settings)) in slots.iter().zip(&config.listeners).enumerate() {
            let material = config.material.listeners.get(place);
            let material = material.and_then(Option::as_ref);
            let counted = config.routes_counted(place);
            self.set_listener(*slot, (settings, counted), material, &upstreams);
            if self.shared.listeners[*slot].secured_since == Some(self.shared.timers.now) {
                // Those that are there came in the clear.
                self.hasten_clients_of(*slot);
            }
        }
        self.close_missing_listeners(&slots, &mut adopted);
        self.adopt_globals(&config);
        self.shared
            .upstreams
            .look_at_first_round(&self.shared.board);
        Ok(adopted)
    }

    fn adopt_globals(&mut self, config: &Config) {
        self.is_machine_limit = config.connections_max.is_some();
        self.connections_max = config
            .connections_max
            .unwrap_or(self.connections_max_default);
        (self.pre_drain, self.drain_timeout) = (config.pre_drain, config.drain_timeout);
        self.shared.io.pipes.enable(config.splice);
        self.shared.http.adopt_log(config.access_log.as_ref());
        self.report.adopt(config);
        self.arm_stats();
        // A limit may have been raised, and no event would tell those who wait.
        self.has_full_listener = true;
        self.resume_full_listeners();
    }

    fn find_listener(&self, settings: &model::Listener) -> Option<ListenerSlot> {
        let open = |listener: &ListenerState<N>| {
            listener.sockets.is_open() && listener.closes_at.is_none()
        };
        // With port 0 the kernel chooses, so several listeners may have that address.
        let is_any_port = matches!(&settings.address, Address::Ip(ip) if ip.port() == 0);
        let is_same = |listener: &ListenerState<N>| {
            listener.address == settings.address && (!is_any_port || listener.name == settings.name)
        };
        let found = self
            .shared
            .listeners
            .list
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
                match self
                    .shared
                    .listeners
                    .add_socket(&mut self.shared.io, slot, socket)
                {
                    Ok(generation) => added.push((slot, generation)),
                    Err(error) => {
                        for (slot, generation) in added {
                            self.shared.listeners.remove_socket(
                                &mut self.shared.io,
                                slot,
                                generation,
                            );
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
        let free = self.shared.listeners.list.iter().position(|listener| {
            !listener.sockets.is_open() && listener.active == 0 && !listener.queued
        });
        let free = free.and_then(|slot| ListenerSlot::try_from(slot).ok());
        if let Some(slot) = free.filter(|slot| !fresh.contains(slot)) {
            let column = self.shared.listeners[slot].column;
            self.shared.board.close(column);
            let routes = std::mem::take(&mut self.shared.listeners[slot].route_columns);
            for (_, column) in routes {
                self.shared.board.close(column);
            }
            if let Some(column) = self.shared.listeners[slot].handshakes {
                self.shared.board.close(column);
            }
            self.shared.listeners[slot] = self.blank_listener(settings);
            return slot;
        }
        let listener = self.blank_listener(settings);
        self.shared.listeners.list.push(listener);
        key_of(self.shared.listeners.list.len() - 1)
    }

    fn blank_listener(&mut self, settings: &model::Listener) -> ListenerState<N> {
        ListenerState {
            name: settings.name.clone(),
            address: settings.address.clone(),
            port: None,
            sockets: ListeningSockets::none(),
            queued: false,
            pause: Pause::No,
            closes_at: None,
            removed_since: None,
            active: 0,
            connections_max: None,
            timeouts: settings.timeouts,
            upstream: 0,
            is_http: false,
            site: None,
            tls_routes: TlsRoutes::default(),
            tls: None,
            secured_since: None,
            plan: Plan::default(),
            proxies: None,
            stranger_log: RateLimit::new(LOG_PERIOD_MS),
            column: self.shared.board.open(&settings.column_name()),
            route_columns: Vec::new(),
            handshakes: None,
        }
    }

    fn set_listener(
        &mut self,
        slot: ListenerSlot,
        (settings, counted): (&model::Listener, usize),
        material: Option<&Arc<ListenerMaterial>>,
        upstreams: &[UpstreamSlot],
    ) {
        let listener = &mut self.shared.listeners[slot];
        let before = listener.tls.take();
        let had_tls = before.is_some();
        listener.tls = secure::of_listener(before, settings, material, &self.shared.ticket_keys);
        if listener.tls.is_some() != had_tls {
            listener.secured_since = listener.tls.is_some().then_some(self.shared.timers.now);
        }
        listener.name.clone_from(&settings.name);
        listener.connections_max = settings.connections_max;
        listener.timeouts = settings.timeouts;
        listener.proxies.clone_from(&settings.proxy_protocol);
        listener.plan = Plan {
            proxy_header: settings.proxy_protocol.is_some(),
            client_hello: settings.expects_hello(),
        };
        if listener.plan.client_hello && listener.handshakes.is_none() {
            let column = self.shared.board.open(&settings.column_name());
            listener.handshakes = Some(column);
        }
        listener.tls_routes = TlsRoutes::new(settings.passed_on(), upstreams);
        match &settings.mode {
            Mode::Tcp { upstream } => {
                listener.upstream = upstreams[*upstream];
                listener.is_http = false;
            }
            Mode::Tls { .. } => listener.is_http = false,
            Mode::Http(http) => {
                let counted = http.routes[..counted].iter();
                let names = counted.map(|it| settings.route_column_name(it)).collect();
                let board = &mut self.shared.board;
                let columns = columns_of(names, &mut listener.route_columns, board);
                match Site::new(&settings.column_name(), http, upstreams, &columns) {
                    Ok(site) => {
                        listener.is_http = true;
                        listener.site = Some(Arc::new(site));
                    }
                    // The configuration refuses what a site cannot take, so this is ours to mend.
                    Err(error) => log::error!("listener {}: {error}", settings.name),
                }
            }
        }
    }

    fn close_missing_listeners(&mut self, kept: &[ListenerSlot], adopted: &mut Adopted) {
        for slot in 0..self.shared.listeners.list.len() {
            let slot = key_of(slot);
            let listener = &mut self.shared.listeners[slot];
            if !kept.contains(&slot) && listener.sockets.is_open() && listener.closes_at.is_none() {
                adopted.listeners_removed += 1;
                listener.removed_since = Some(self.shared.timers.now);
                self.close_listener(slot);
                self.hasten_clients_of(slot);
            }
        }
    }

    /// Whether a new configuration may be adopted now.
    #[must_use]
    pub fn may_adopt(&self) -> bool {
        self.stage == Stage::Serving
    }
}

/// The columns of routes that are called so: those that they had, or new ones. Those that no route
/// has any more are closed, as nobody counts in them from here on.
fn columns_of(
    names: Vec<String>,
    known: &mut Vec<(String, RouteColumn)>,
    board: &mut Board,
) -> Vec<RouteColumn> {
    let mut before = std::mem::take(known);
    let mut column_of = |name: String| {
        if let Some((_, column)) = known.iter().find(|(it, _)| *it == name) {
            return *column;
        }
        let had = before
            .iter()
            .position(|(it, column)| *it == name && column.is_listed());
        let column = match had {
            Some(at) => before.swap_remove(at).1,
            None => board.open(&name),
        };
        known.push((name, column));
        column
    };
    let columns = names.into_iter().map(&mut column_of).collect();
    for (_, column) in before {
        board.close(column);
    }
    columns
}
