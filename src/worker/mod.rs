//! The worker: one event loop over everything a process serves.
//!
//! A turn has six steps. Wait for events, which gives the one `now` of the turn. Look whether
//! other workers have changed something. Mark: events only set readiness bits and queue their
//! owners, so nothing is opened or closed while a batch is being read. Expire timers into the
//! same queues. Run the owners that were queued, sessions, then probes, then listeners, each
//! within a budget; whoever has work left goes to the tail. Settle: let those go on who wait for a
//! descriptor, for a full backend or for memory, resume listeners that were full, and end a drain
//! that has nothing left.

mod accept;
mod adopt;
mod adopt_upstreams;
mod attempt;
mod backend_entry;
mod backend_queue;
mod connect;
mod connections;
mod decision;
mod descriptor_queue;
mod descriptors;
mod direction;
mod drain;
mod handshake_turn;
mod handshakes;
mod health;
mod http;
mod io_space;
mod kept;
mod keys;
mod layers;
mod listeners;
mod listening_sockets;
mod listing;
mod loads;
mod memory;
mod memory_queue;
mod names;
mod opening;
mod parked;
mod preface;
mod probe;
mod probes;
mod protocol;
mod relay;
mod report;
mod secure;
mod session;
mod settling;
mod shared;
mod siblings;
mod site;
mod span;
pub mod stats_text;
mod tcp;
mod timers;
mod tls_routes;
mod told;
mod transport;
mod turn;
mod upstreams;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;

use crate::board::{Board, Bounds, ListenerCell, Usage};
use crate::config::model::Config;
use crate::core::buffer::BufferPool;
use crate::core::layer::Kept;
use crate::core::limit::RateLimit;
use crate::core::memory_limit::WAITING_BYTES_MAX;
use crate::core::opening::Refusal;
use crate::core::rng::Rng;
use crate::core::time::Tick;
use crate::net::{Fired, Kind, Net, Target};
use crate::tls::material::TicketKey;
use crate::worker::connections::{Connections, Owner};
use crate::worker::descriptor_queue::DescriptorQueue;
use crate::worker::handshakes::Handshakes;
use crate::worker::http::decision::keep_refused;
use crate::worker::http::parts::Facts;
use crate::worker::http::space::HttpSpace;
use crate::worker::io_space::{IoSpace, PipePool};
use crate::worker::kept::Decisions;
use crate::worker::keys::{ConnectionKey, ListenerSlot, SessionId, UpstreamSlot};
use crate::worker::listeners::ListenerTable;
use crate::worker::memory_queue::MemoryQueue;
use crate::worker::preface::Prefaces;
use crate::worker::probe::Probe;
use crate::worker::session::{Session, Told};
use crate::worker::shared::Shared;
use crate::worker::span::span;
use crate::worker::timers::{Timeout, Timers};
use crate::worker::told::Reporter;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Turn};
use crate::worker::upstreams::UpstreamTable;

pub use crate::core::slots::Slots;
pub use crate::worker::listening_sockets::Opened;
pub use crate::worker::told::{Adopted, Census, Stage};

/// How often at most one kind of warning about single connections is logged.
const LOG_PERIOD_MS: u64 = 1_000;

/// How long the first checks of all backends may put off that weir is ready: a name that has no
/// address is not checked.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(10);

/// Spare buffers kept for reuse, in bytes; what is given back beyond that is freed.
const SPARE_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Scratch space beyond a buffer, so that a response of a buffer's size is read at once with its
/// head.
const HEAD_ROOM_BYTES: usize = 8 * 1024;

/// What an answer of weir's own may take besides.
const PAGE_ROOM_BYTES: usize = 64 * 1024;

/// One event loop: listeners, sessions, probes, timers and counters.
pub struct Worker<N: Net> {
    shared: Shared<N>,
    sessions: Slab<Session<N>>,
    probes: Slab<Probe>,
    connections_max: usize,
    /// Where the configuration says nothing.
    connections_max_default: usize,
    /// Whether `connections_max` is the limit of all workers together.
    is_machine_limit: bool,
    /// What this process cannot exceed, whatever all workers together may.
    connections_possible: usize,
    runnable: VecDeque<SessionId>,
    runnable_listeners: VecDeque<ListenerSlot>,
    runnable_probes: VecDeque<u32>,
    /// Parked connections that have had an event.
    fired_parked: Vec<ConnectionKey>,
    /// Sessions that wait for memory.
    memory_queue: MemoryQueue,
    has_full_listener: bool,
    /// The listener that was the first to get a place that became free.
    first_resumed: usize,
    full_check_armed: bool,
    /// The changes on the board up to which probes have been looked at.
    probes_looked_at: u64,
    pause_log: RateLimit,
    watch_log: RateLimit,
    control_fired: bool,
    /// When the next wait is over at the latest.
    comes_back: Option<Tick>,
    stage: Stage,
    /// How long it goes on accepting once it was asked to stop.
    pre_drain: Duration,
    /// How long it waits for sessions after that.
    drain_timeout: Duration,
    cut: u64,
    report: Reporter,
    /// Kept between turns for their capacity.
    fired: Vec<Fired>,
    due: Vec<Timeout>,
}

impl<N: Net> fmt::Debug for Worker<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("sessions", &self.sessions.len())
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

/// What a worker starts with, besides its configuration.
#[derive(Debug)]
pub struct Start<N: Net> {
    /// The seam to the outside.
    pub net: N,
    /// The instant of the start.
    pub now: Tick,
    /// Where it counts: private memory, or a row of what the processes of a machine share.
    pub board: Board,
    /// Client connections at once, when the configuration does not say.
    pub connections_max_default: usize,
}

impl<N: Net> Worker<N> {
    /// A worker for `config`, with a socket for each of its listeners, in their order.
    ///
    /// # Errors
    /// As of [`Worker::with_slots`].
    pub fn new(start: Start<N>, config: Config, sockets: Vec<N::Listener>) -> io::Result<Self> {
        let alone = |socket| vec![Opened { slot: None, socket }];
        let sockets = sockets.into_iter().map(alone).collect();
        Self::with_slots(start, config, sockets, Slots::ALL)
    }

    /// A worker for `config` that is one of several: with the sockets of each listener, of which
    /// it accepts from those in `slots`.
    ///
    /// # Errors
    /// When a listener cannot be watched, or the kernel gives no random bytes.
    pub fn with_slots(
        mut start: Start<N>,
        config: Config,
        sockets: Vec<Vec<Opened<N::Listener>>>,
        slots: Slots,
    ) -> io::Result<Self> {
        let buffer_bytes = config.buffer_bytes;
        let mut random = [0; 16];
        start.net.random(&mut random)?;
        let [seed, ids] = halves(random);
        let io = IoSpace {
            net: start.net,
            layers_kept: Kept::default(),
            scratch: vec![0; buffer_bytes + HEAD_ROOM_BYTES].into_boxed_slice(),
            scratch_text: Vec::new(),
            buffers: BufferPool::new(
                buffer_bytes,
                config.buffer_memory_bytes.unwrap_or(WAITING_BYTES_MAX),
                2 * (buffer_bytes + HEAD_ROOM_BYTES) + PAGE_ROOM_BYTES,
                SPARE_BUFFER_BYTES_MAX,
            ),
            pipes: PipePool::new(config.splice),
            is_short: false,
            generation: 0,
            stale_events: 0,
        };
        let shared = Shared {
            io,
            timers: Timers::new(start.now),
            board: start.board,
            listeners: ListenerTable::new(slots),
            upstreams: UpstreamTable::new(),
            rng: Rng::new(seed),
            decisions: Decisions::new(ids),
            connections: Connections::new(),
            prefaces: Prefaces::default(),
            http: HttpSpace::new(),
            descriptor_queue: DescriptorQueue::new(),
            handshakes: Handshakes::default(),
            ticket_keys: Arc::default(),
        };
        let mut worker = Self {
            shared,
            sessions: Slab::new(),
            probes: Slab::new(),
            connections_max: start.connections_max_default,
            connections_possible: usize::MAX,
            connections_max_default: start.connections_max_default,
            is_machine_limit: false,
            runnable: VecDeque::new(),
            runnable_listeners: VecDeque::new(),
            runnable_probes: VecDeque::new(),
            fired_parked: Vec::new(),
            memory_queue: MemoryQueue::new(),
            has_full_listener: false,
            first_resumed: 0,
            full_check_armed: false,
            probes_looked_at: 0,
            pause_log: RateLimit::new(LOG_PERIOD_MS),
            watch_log: RateLimit::new(LOG_PERIOD_MS),
            control_fired: false,
            comes_back: None,
            stage: Stage::Serving,
            pre_drain: Duration::ZERO,
            drain_timeout: Duration::ZERO,
            cut: 0,
            report: Reporter::new(start.now),
            fired: Vec::new(),
            due: Vec::new(),
        };
        let round_end = start.now.after(FIRST_ROUND_MAX);
        worker.shared.board.begin_first_round(round_end);
        worker.adopt_sockets(config, sockets, true)?;
        Ok(worker)
    }

    /// Waits for the next event or deadline and does all that follows from it.
    ///
    /// # Errors
    /// Only when waiting itself is broken.
    pub fn turn(&mut self) -> io::Result<()> {
        let until = if self.has_runnable() {
            Some(self.shared.timers.now)
        } else {
            self.shared.timers.wheel.next()
        };
        let until = match self.comes_back.take() {
            None => until,
            Some(at) => Some(until.map_or(at, |it| it.min(at))),
        };
        let began = self.shared.timers.now;
        self.shared.board.rest(began, self.usage());
        let now = self.shared.io.net.wait(until, &mut self.fired)?;
        self.shared.timers.now = now;
        self.shared.timers.moment = self.shared.io.net.moment(now);
        self.shared.timers.turn += 1;
        self.shared.board.wake(self.shared.timers.now);
        self.count_busy(began);
        self.look_again();
        self.mark();
        self.expire();
        self.run();
        self.settle();
        Ok(())
    }

    /// The last step of a turn: those go on who waited for what has become free in it.
    fn settle(&mut self) {
        self.serve_descriptor_queue();
        self.serve_queues();
        if self.shared.io.has_used_layer() {
            self.shared.io.settle_layers();
        }
        self.relieve_shortage();
        if self.has_full_listener {
            self.resume_full_listeners();
        }
        self.arm_full_check();
        self.settle_stage();
    }

    fn usage(&self) -> Usage {
        Usage {
            connections: self.shared.connections.0.len(),
            waiting_bytes: self.shared.io.buffers.account().total(),
        }
    }

    /// Counts for how long the turn that began then was busy. Most take less than the clock tells
    /// apart, and are right on the average.
    fn count_busy(&self, began: Tick) {
        let until = self.shared.io.net.waited_since().unwrap_or(began);
        if until > began {
            self.shared.board.add_busy(until.since_ms(began));
        }
    }

    /// Ends the next wait after `pause`, whatever happens.
    pub fn come_back_after(&mut self, pause: Duration) {
        self.comes_back = Some(self.shared.timers.now.after(pause));
    }

    /// Whether a control descriptor fired since the last call: signals or finished jobs wait.
    pub fn take_control(&mut self) -> bool {
        std::mem::take(&mut self.control_fired)
    }

    /// Client connections at once, as configured or derived.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        self.connections_max
    }

    /// Seals session tickets with the first of these keys from now on, and opens them with all.
    pub fn set_ticket_keys(&mut self, keys: &[TicketKey]) {
        self.shared.ticket_keys.set(keys);
    }

    /// Its number in the access log, if not 0.
    pub(crate) fn set_number(&mut self, number: u32) {
        self.shared.http.worker = number;
    }

    /// Never has more client connections than this at once, whatever limit all workers have.
    pub fn limit_connections(&mut self, connections_possible: usize) {
        self.connections_possible = connections_possible;
    }

    /// Says that the process may have so many descriptors.
    pub fn set_descriptors_max(&self, descriptors: u64) {
        self.shared.board.set_bounds(Bounds {
            waiting_bytes: self.shared.io.buffers.account().bytes_max(),
            descriptors,
        });
    }

    /// The seam to the outside, for whoever built it.
    pub fn net_mut(&mut self) -> &mut N {
        &mut self.shared.io.net
    }

    fn has_runnable(&self) -> bool {
        !self.runnable.is_empty()
            || !self.runnable_listeners.is_empty()
            || !self.runnable_probes.is_empty()
            || self.shared.upstreams.must_check_queues
            || self.shared.handshakes.is_awaited()
    }

    fn mark(&mut self) {
        for at in 0..self.fired.len() {
            let event = self.fired[at];
            self.mark_one(&event);
        }
        self.fired.clear();
    }

    fn mark_one(&mut self, event: &Fired) {
        let known = match event.target.kind {
            Kind::Control => {
                self.control_fired = true;
                true
            }
            Kind::Listener => self.mark_listener(event),
            Kind::Client => self.mark_client(event),
            Kind::Backend | Kind::Probe => self.mark_connection(event),
        };
        if !known {
            self.shared.io.stale_events += 1;
        }
    }

    fn mark_client(&mut self, event: &Fired) -> bool {
        let Target {
            key, generation, ..
        } = event.target;
        let Some(session) = self.sessions.get_mut(key as usize) else {
            return false;
        };
        let is_meant = session.client.mark(generation, event.ready);
        if is_meant && !std::mem::replace(&mut session.queued, true) {
            self.runnable.push_back(SessionId { key, generation });
        }
        is_meant
    }

    /// Notes an event of a connection, and has its owner look at it.
    fn mark_connection(&mut self, event: &Fired) -> bool {
        let key = event.target.key;
        let Some(connection) = self.shared.connections.find(key) else {
            return false;
        };
        let endpoint = &mut connection.endpoint;
        if !endpoint.mark(event.target.generation, event.ready) {
            return false;
        }
        match connection.owner {
            Owner::Session(session) => self.queue_session(session),
            Owner::Parked => self.fired_parked.push(key),
            Owner::Probe(probe) => self.runnable_probes.push_back(probe),
        }
        true
    }

    fn mark_listener(&mut self, event: &Fired) -> bool {
        let Some(listener) = self
            .shared
            .listeners
            .list
            .get_mut(event.target.key as usize)
        else {
            return false;
        };
        if !listener.sockets.mark(event.target.generation) {
            return false;
        }
        self.queue_listener(event.target.key);
        true
    }

    fn queue_session(&mut self, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else {
            return;
        };
        if !session.queued {
            session.queued = true;
            self.runnable.push_back(session.id(key));
        }
    }

    fn queue_listener(&mut self, slot: ListenerSlot) {
        let listener = &mut self.shared.listeners[slot];
        if !listener.queued && listener.may_run() {
            listener.queued = true;
            self.runnable_listeners.push_back(slot);
        }
    }

    fn expire(&mut self) {
        let timers = &mut self.shared.timers;
        timers.wheel.expire(timers.now, &mut self.due);
        for at in 0..self.due.len() {
            let timeout = self.due[at];
            self.on_timeout(timeout);
        }
        self.due.clear();
    }

    fn on_timeout(&mut self, timeout: Timeout) {
        match timeout {
            Timeout::Session { key, generation } => self.on_session_timer(key, generation),
            Timeout::DescriptorRetry => self.on_descriptor_timer(),
            Timeout::Listener(slot) => self.resume_listener(slot),
            Timeout::Close(slot) => self.empty_listener(slot),
            Timeout::Probe { key, generation } => self.on_probe_timer(key, generation),
            Timeout::Parked { key, generation } => self.shared.on_parked_timer(key, generation),
            Timeout::FullCheck => self.on_full_check(),
            Timeout::EjectEnd(id) => {
                self.shared
                    .upstreams
                    .on_eject_end(&self.shared.board, &self.shared.timers, id)
            }
            Timeout::Stats => self.on_stats_timer(),
            Timeout::PreDrainEnd => self.close_listeners(),
            Timeout::DrainReport => self.report_drain(),
            Timeout::DrainEnd => self.cut_all(),
        }
    }

    /// The timer of a session only says that its deadline may have passed: activity moves the
    /// deadline without touching the wheel.
    fn on_session_timer(&mut self, key: u32, generation: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else {
            return;
        };
        if session.client.generation() != generation {
            return;
        }
        session.timer = None;
        if protocol::deadline(session, &self.shared) <= self.shared.timers.now {
            session.due = true;
            self.queue_session(key);
        } else {
            self.arm_deadline(key);
        }
    }

    /// Runs who was queued when the phase began, and nobody twice.
    fn run(&mut self) {
        if !self.fired_parked.is_empty() {
            self.check_fired_parked();
        }
        for _ in 0..self.runnable.len() {
            if let Some(runnable) = self.runnable.pop_front() {
                self.run_session(runnable);
            }
        }
        for _ in 0..self.runnable_probes.len() {
            if let Some(key) = self.runnable_probes.pop_front() {
                self.run_queued_probe(key);
            }
        }
        for _ in 0..self.runnable_listeners.len() {
            if let Some(slot) = self.runnable_listeners.pop_front() {
                self.shared.listeners[slot].queued = false;
                if self.shared.listeners[slot].may_run() {
                    self.run_listener(slot);
                }
            }
        }
        if self.shared.handshakes.is_awaited() {
            self.run_handshakes();
        }
    }

    fn run_session(&mut self, SessionId { key, generation }: SessionId) {
        let Some(session) = self.sessions.get_mut(key as usize) else {
            return;
        };
        if session.client.generation() != generation {
            return;
        }
        session.queued = false;
        let shared = &mut self.shared;
        let mut turn = protocol::run(key, session, shared);
        // What was ready in this very turn beats the timeout.
        if std::mem::take(&mut session.due)
            && !matches!(turn, Turn::Close(_))
            && protocol::deadline(session, shared) <= shared.timers.now
        {
            turn = protocol::on_timeout(key, session, shared);
        }
        if shared.io.has_used_layer() {
            turn = layers::settle(session, shared, turn);
        }
        // Most turns leave nothing to be done.
        if turn != Turn::Sleep
            || self.memory_queue.concerns(&shared.io)
            || !protocol::is_timed(session, shared)
        {
            self.end_turn(key, turn);
        }
    }

    /// Does what a session asks for at the end of its turn.
    fn end_turn(&mut self, key: u32, turn: Turn) {
        match turn {
            Turn::Close(reason) => {
                self.shared.io.is_short = false;
                return self.close_session(key, reason);
            }
            Turn::Again => self.queue_session(key),
            Turn::Sleep => {}
        }
        self.note_shortage(key);
        self.arm_deadline(key);
    }

    /// Makes sure that a timer fires no later than the session's deadline.
    fn arm_deadline(&mut self, key: u32) {
        let Some(session) = self.sessions.get_mut(key as usize) else {
            return;
        };
        let deadline = protocol::deadline(session, &self.shared);
        if let Some((at, timer)) = session.timer {
            if at <= deadline {
                return;
            }
            self.shared.timers.wheel.cancel(timer);
        }
        let what = Timeout::Session {
            key,
            generation: session.client.generation(),
        };
        session.timer = Some((deadline, self.shared.timers.wheel.arm(deadline, what)));
    }

    /// Ends a session: everything it held goes back, and both sides learn how it ended.
    fn close_session(&mut self, key: u32, reason: CloseReason) {
        let Some(mut session) = self.sessions.try_remove(key as usize) else {
            return;
        };
        let reason = session.reason_told(reason);
        self.shared.board.set_sessions(self.sessions.len());
        let shared = &mut self.shared;
        if let Some((_, timer)) = session.timer {
            shared.timers.wheel.cancel(timer);
        }
        if session.client.awaits_work() {
            shared.handshakes.leave();
        }
        shared.descriptor_queue.leave(key);
        shared.descriptor_queue.on_freed();
        if let Some(slot) = session.queue() {
            shared.upstreams.leave_queue(session.id(key), slot);
        }
        let ended = shared.end_protocol(&mut session, reason);
        // A clean end may only follow when everything before it was delivered, or where the
        // framing of HTTP tells the client that it was not.
        let clean = match reason {
            CloseReason::Done
            | CloseReason::KeepAliveEnd
            | CloseReason::Left
            | CloseReason::Truncated
            | CloseReason::Stalled => true,
            CloseReason::Idle | CloseReason::TunnelIdle | CloseReason::HalfClosed => {
                !ended.was_undelivered
            }
            // A reset would overtake it.
            CloseReason::BadOpening(refusal) => refusal.was_told(),
            CloseReason::NoBackend
            | CloseReason::ConnectFailed
            | CloseReason::ConnectTimeout
            | CloseReason::Reset(_)
            | CloseReason::Unwatched
            | CloseReason::Stranger
            | CloseReason::Cut
            | CloseReason::Kicked => false,
        };
        let backend = ended
            .connection
            .and_then(|key| shared.remove_connection(key));
        let net = &mut shared.io.net;
        let is_over_time = matches!(
            reason,
            CloseReason::Idle | CloseReason::TunnelIdle | CloseReason::HalfClosed
        );
        let mut end = |endpoint: Endpoint<N>| {
            if let CloseReason::Truncated | CloseReason::Stalled = reason {
                endpoint.cut(net);
            } else if clean && is_over_time && endpoint.is_secure() {
                // Who was relayed had not ended: a mark would say so.
                endpoint.cut(net);
            } else if clean {
                endpoint.close(net);
            } else {
                endpoint.reset(net);
            }
        };
        if let Some(backend) = backend {
            end(backend);
        }
        end(session.client);
        if shared.io.has_used_layer() {
            shared.io.settle_layers();
        }
        self.end_shortage(key, session.shortage);
        let is_stranger = matches!(reason, CloseReason::BadOpening(_) | CloseReason::Stranger);
        let is_cut = matches!(reason, CloseReason::Reset(_)) && ended.handshake.is_some();
        if is_stranger || is_cut {
            let hello = session.told.as_deref().and_then(Told::hello);
            let (slot, peer) = (session.listener, session.peer);
            let facts = Facts {
                peer,
                listener: slot,
            };
            keep_refused(&mut self.shared, facts, session.opened, hello, reason);
            self.shared.log_stranger(slot, peer, hello, reason);
        }
        self.count_closed(session.listener, ended.upstream, reason);
        log::debug!(
            "listener {}: session of {} ended: {}; {}",
            self.shared.listeners[session.listener].name,
            session
                .peer
                .map_or_else(|| "unix client".to_owned(), |peer| peer.to_string()),
            reason.words(),
            span(self.shared.timers.now.since_ms(session.opened.tick())),
        );
    }

    fn count_closed(
        &mut self,
        slot: ListenerSlot,
        upstream: Option<UpstreamSlot>,
        reason: CloseReason,
    ) {
        let shared = &mut self.shared;
        shared.listeners[slot].active -= 1;
        shared
            .board
            .sub(shared.listeners[slot].column, ListenerCell::Active, 1);
        let cell = match reason {
            // The log has who did it; how many is no fault of anybody's.
            CloseReason::Done
            | CloseReason::KeepAliveEnd
            | CloseReason::Left
            | CloseReason::Kicked => return,
            CloseReason::NoBackend | CloseReason::ConnectFailed | CloseReason::ConnectTimeout => {
                if let Some(upstream) = upstream {
                    shared.log_refused(upstream, slot, reason);
                }
                ListenerCell::Refused
            }
            CloseReason::BadOpening(Refusal::TooSlow(_)) => ListenerCell::TimedOut,
            CloseReason::Unwatched | CloseReason::BadOpening(_) | CloseReason::Stranger => {
                ListenerCell::Refused
            }
            CloseReason::Reset(_) | CloseReason::Truncated => ListenerCell::Reset,
            CloseReason::Idle
            | CloseReason::TunnelIdle
            | CloseReason::HalfClosed
            | CloseReason::Stalled => ListenerCell::TimedOut,
            CloseReason::Cut => {
                self.cut += 1;
                ListenerCell::Cut
            }
        };
        shared.count(slot, cell, 1);
    }
}

/// Two words of random bytes.
fn halves(random: [u8; 16]) -> [u64; 2] {
    let word = |half: &[u8; 8]| u64::from_ne_bytes(*half);
    let (halves, _) = random.as_chunks();
    [word(&halves[0]), word(&halves[1])]
}
