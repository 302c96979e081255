//! Listeners: a budget per turn, limits, and a pause when descriptors run out.

use std::net::SocketAddr;

use log::{error, warn};
use slab::Slab;

use crate::board::ListenerCell;
use crate::core::opening::Refusal;
use crate::core::slots::Slots;
use crate::core::text::plural;
use crate::net::{Accept, Kind, Net};
use crate::worker::Worker;
use crate::worker::keys::{ListenerSlot, SessionId, key_of};
use crate::worker::listeners::Pause;
use crate::worker::memory_queue::Shortage;
use crate::worker::opening;
use crate::worker::session::{Opening, Protocol, Session};
use crate::worker::shared::more;
use crate::worker::timers::Timeout;
use crate::worker::transport::Endpoint;
use crate::worker::turn::CloseReason;

/// Connections taken from one listener in one turn before sessions run again.
pub(crate) const ACCEPT_BUDGET: usize = 64;

/// How long a listener rests after the process ran out of descriptors or memory. No event comes
/// for what is queued, so a timer has to.
pub(crate) const EXHAUSTED_PAUSE_MS: u64 = 100;

/// How often a listener that a limit of all workers holds back looks whether there is room again.
const FULL_CHECK_MS: u64 = 20;

impl<N: Net> Worker<N> {
    /// Accepts until the queue is empty, a limit is met or the budget is spent.
    pub(crate) fn run_listener(&mut self, slot: ListenerSlot) {
        for _ in 0..ACCEPT_BUDGET {
            if self.is_full(slot) {
                self.pause(slot, Pause::Full);
                return;
            }
            // What they wait for must not go to those who come after them.
            if self.shared.descriptor_queue.len() > 0 {
                self.pause(slot, Pause::Exhausted);
                return;
            }
            let listener = &mut self.shared.listeners[slot];
            let Some((at, socket)) = listener.sockets.ready() else {
                return;
            };
            match self.shared.io.net.accept(socket) {
                Accept::Ready(stream, peer) => self.open_session(slot, stream, peer),
                Accept::Retry => {}
                Accept::Blocked => {
                    listener.sockets.on_blocked(at);
                    if listener.sockets.is_ready() {
                        continue;
                    }
                    if listener
                        .closes_at
                        .is_some_and(|at| at <= self.shared.timers.now)
                    {
                        self.stop_listening(slot);
                    }
                    return;
                }
                Accept::Exhausted => {
                    self.pause(slot, Pause::Exhausted);
                    return;
                }
                Accept::Failed(kind) => {
                    error!("listener {}: cannot accept: {kind}", listener.name);
                    self.pause(slot, Pause::Exhausted);
                    return;
                }
            }
        }
        self.queue_listener(slot);
    }

    fn is_full(&self, slot: ListenerSlot) -> bool {
        let listener = &self.shared.listeners[slot];
        let board = &self.shared.board;
        let sum = |here: usize, elsewhere: u64| {
            here.saturating_add(usize::try_from(elsewhere).unwrap_or(usize::MAX))
        };
        let sessions = self.sessions.len();
        let is_process_full = if self.is_machine_limit {
            sum(sessions, board.sessions_elsewhere()) >= self.connections_max
        } else {
            sessions >= self.connections_max
        };
        is_process_full
            || sessions >= self.connections_possible
            || listener.connections_max.is_some_and(|max| {
                let elsewhere = board.elsewhere(listener.column, ListenerCell::Active);
                sum(listener.active, elsewhere) >= max
            })
    }

    fn pause(&mut self, slot: ListenerSlot, pause: Pause) {
        let now = self.shared.timers.now;
        let listener = &mut self.shared.listeners[slot];
        listener.pause = pause;
        let (column, name) = (listener.column, &listener.name);
        self.shared.board.add(column, ListenerCell::Paused, 1);
        let what = match pause {
            Pause::Exhausted => {
                let at = now.after_ms(EXHAUSTED_PAUSE_MS);
                self.shared.timers.wheel.arm(at, Timeout::Listener(slot));
                "out of descriptors or memory"
            }
            Pause::Full | Pause::No => {
                self.has_full_listener = true;
                "connection limit reached"
            }
        };
        if let Some(suppressed) = self.pause_log.allow(now) {
            warn!(
                "listener {name}: accepting paused, {what}; {} session{} of at most {}{}",
                self.sessions.len(),
                plural(self.sessions.len() == 1),
                self.connections_max,
                if suppressed > 0 {
                    format!(" ({suppressed} more)")
                } else {
                    String::new()
                },
            );
        }
    }

    /// A pause is over, or may be: the queue is tried again.
    pub(crate) fn resume_listener(&mut self, slot: ListenerSlot) {
        self.shared.listeners[slot].pause = Pause::No;
        self.queue_listener(slot);
    }

    /// Sessions have ended: listeners that a limit held back go on.
    pub(crate) fn resume_full_listeners(&mut self) {
        self.has_full_listener = false;
        // Not always the first one first: a place that is free would never reach the last.
        let count = self.shared.listeners.list.len();
        self.first_resumed = (self.first_resumed + 1) % count.max(1);
        for nth in 0..count {
            let slot = key_of((self.first_resumed + nth) % count);
            if self.shared.listeners[slot].pause != Pause::Full {
                continue;
            }
            if self.is_full(slot) {
                self.has_full_listener = true;
            } else {
                self.resume_listener(slot);
            }
        }
    }

    /// No event tells that another worker's session or request has ended.
    pub(crate) fn arm_full_check(&mut self) {
        let waits = self.has_full_listener || self.shared.upstreams.backends.waiting() > 0;
        if waits && self.shared.board.is_shared() && !self.full_check_armed {
            self.full_check_armed = true;
            let at = self.shared.timers.now.after_ms(FULL_CHECK_MS);
            self.shared.timers.wheel.arm(at, Timeout::FullCheck);
        }
    }

    /// A limit that all workers share may have room again. Listeners look at it in every turn.
    pub(crate) fn on_full_check(&mut self) {
        self.full_check_armed = false;
        self.shared.upstreams.must_check_queues |= self.shared.upstreams.backends.waiting() > 0;
    }

    /// Closes the sockets of a listener for good. Its sessions go on.
    pub(crate) fn stop_listening(&mut self, slot: ListenerSlot) {
        self.shared.listeners[slot].closes_at = None;
        let shared = &mut self.shared;
        shared.listeners.close_sockets(&mut shared.io, slot);
    }

    /// Accepts from the sockets in these slots, and no more from others.
    pub fn accept_from(&mut self, slots: Slots) {
        let shared = &mut self.shared;
        shared.listeners.accept_from(&mut shared.io, slots);
    }

    fn open_session(&mut self, slot: ListenerSlot, stream: N::Stream, peer: Option<SocketAddr>) {
        let shared = &mut self.shared;
        let now = shared.timers.now;
        let generation = shared.io.next_generation();
        let listener = &mut shared.listeners[slot];
        listener.active += 1;
        let plan = listener.plan;
        let is_stranger = !plan.is_empty() && !listener.admits(peer);
        shared.count(slot, ListenerCell::Accepted, 1);
        shared.count(slot, ListenerCell::Active, 1);
        let vacant = self.sessions.vacant_entry();
        let key = key_of(vacant.key());
        let mut client = Endpoint::accepted(stream, generation);
        let protocol = if plan.is_empty() {
            // Nothing has come that could be malformed.
            let _ = client.put_layer(&mut shared.io.net, None, &mut []);
            opening::start(shared, slot, peer)
        } else {
            Protocol::Opening(Opening::boxed(plan))
        };
        let session = vacant.insert(Session {
            client,
            peer,
            told: None,
            listener: slot,
            opened: shared.timers.moment,
            moved: now,
            timer: None,
            due: false,
            queued: false,
            may_be_check: false,
            shortage: Shortage::No,
            protocol,
        });
        if is_stranger {
            return self.close_session(key, CloseReason::Stranger);
        }
        if let Protocol::Tcp(relay) = &mut session.protocol
            && relay.open(SessionId { key, generation }, shared).is_err()
        {
            return self.close_session(key, CloseReason::NoBackend);
        }
        let (net, kind) = (&mut shared.io.net, Kind::Client);
        if let Err(error) = session.client.watch(net, kind, key) {
            if let Some(suppressed) = self.watch_log.allow(shared.timers.now) {
                let more = more(suppressed);
                warn!("cannot watch a client connection: {error}{more}");
            }
            return self.close_session(key, CloseReason::Unwatched);
        }
        self.shared.board.set_sessions(self.sessions.len());
        self.arm_deadline(key);
        if plan.client_hello {
            self.begin_handshake(SessionId { key, generation });
        }
    }

    /// If that is one too many, the oldest goes.
    fn begin_handshake(&mut self, session: SessionId) {
        let at = session.key as usize;
        if let Some(Protocol::Opening(opening)) =
            self.sessions.get_mut(at).map(|it| &mut it.protocol)
        {
            opening.is_handshake = true;
        }
        let sessions = &self.sessions;
        let is_there = |id| is_opening(sessions, id);
        self.shared.handshakes.begin(session, is_there);
        while let Some(oldest) = self.shared.handshakes.surplus() {
            if is_opening(&self.sessions, oldest) {
                let reason = CloseReason::BadOpening(Refusal::Crowded);
                self.close_session(oldest.key, reason);
            }
        }
    }
}

/// Whether that session is there and in its opening.
fn is_opening<N: Net>(sessions: &Slab<Session<N>>, id: SessionId) -> bool {
    sessions.get(id.key as usize).is_some_and(|it| {
        it.client.generation() == id.generation && matches!(it.protocol, Protocol::Opening(_))
    })
}
