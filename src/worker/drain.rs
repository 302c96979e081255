//! Ending without loss: accept what is queued, close the listeners, let sessions finish.

use log::{info, warn};

use crate::core::backend::BackendId;
use crate::core::text::plural;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::keys::{ListenerSlot, key_of};
use crate::worker::session::Session;
use crate::worker::timers::Timeout;
use crate::worker::told::Stage;
use crate::worker::turn::CloseReason;

/// How often a drain says how many sessions still run.
const REPORT_PERIOD_MS: u64 = 1_000;

/// How long a listener that closes waits for handshakes that have begun: the round trip to a client
/// far away. In that time nobody new comes in.
const HANDSHAKE_MS: u64 = 200;

impl<N: Net> Worker<N> {
    /// How far the worker is on its way to the end.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Sessions that were ended before they had finished.
    #[must_use]
    pub fn cut_sessions(&self) -> u64 {
        self.cut
    }

    /// Ends gracefully; a second call changes nothing.
    pub fn drain(&mut self) {
        if self.stage != Stage::Serving {
            return;
        }
        let s = plural(self.sessions.len() == 1);
        info!("stopping: {} session{s} to finish", self.sessions.len());
        self.shared.board.set_leaves();
        self.stage = Stage::PreDrain;
        self.shared.listeners.draining_since = Some(self.shared.timers.now);
        let (pre_drain, drain) = (self.pre_drain, self.drain_timeout);
        let now = self.shared.timers.now;
        self.shared
            .timers
            .wheel
            .arm(now.after(pre_drain), Timeout::PreDrainEnd);
        self.shared
            .timers
            .wheel
            .arm(now.after(pre_drain).after(drain), Timeout::DrainEnd);
    }

    /// Ends gracefully and accepts nothing any more: somebody else holds the same sockets, and
    /// serves what is queued.
    pub fn leave(&mut self) {
        self.drain();
        self.shared.listeners.are_left = true;
        for slot in 0..self.shared.listeners.list.len() {
            self.stop_listening(key_of(slot));
        }
        self.close_listeners();
    }

    /// Ends gracefully where nobody says how: leaves its sockets to workers that hold the same and
    /// go on, or else serves what is queued. `runs` tells whether a process of that id runs.
    pub fn end(&mut self, runs: impl Fn(u32) -> bool) {
        self.shared.board.set_leaves();
        if self.shared.board.is_anyone_staying(runs) {
            self.leave();
        } else {
            self.drain();
        }
    }

    /// Ends at once; what still runs is cut.
    pub fn stop(&mut self) {
        self.cut_all();
    }

    /// Ends what runs on a backend of an upstream, or on all of them. Who has had its last answer
    /// loses nothing.
    pub fn kick(&mut self, upstream: &str, backend: Option<&str>) {
        let members = self.shared.upstreams.named(upstream, backend);
        let is_theirs = |session: &Session<N>| {
            let used = session.backend();
            used.is_some_and(|it| members.contains(&it))
        };
        let sessions = self.sessions.iter();
        let theirs = sessions.filter(|(_, session)| is_theirs(session));
        let keys: Vec<u32> = theirs.map(|(key, _)| key_of(key)).collect();
        for &key in &keys {
            let session = self.sessions.get(key as usize);
            let answered = session.and_then(Session::answered);
            self.close_session(key, answered.unwrap_or(CloseReason::Kicked));
        }
        if !keys.is_empty() {
            let s = plural(keys.len() == 1);
            info!("{} session{s} of {upstream} kicked", keys.len());
            // Between two turns, of which the next may be far away.
            self.settle();
        }
    }

    /// Lets every listener take what is queued and close.
    pub(crate) fn close_listeners(&mut self) {
        if self.stage != Stage::PreDrain {
            return;
        }
        self.stage = Stage::Draining;
        self.shared.listeners.draining_since = Some(self.shared.timers.now);
        for key in self.session_keys() {
            // Clients between two requests have a nearer deadline now.
            self.arm_deadline(key);
        }
        for slot in 0..self.shared.listeners.list.len() {
            self.close_listener(key_of(slot));
        }
        let at = self.shared.timers.now.after_ms(REPORT_PERIOD_MS);
        self.shared.timers.wheel.arm(at, Timeout::DrainReport);
    }

    /// Lets one listener take what is queued and close: nobody new comes in, those whose
    /// handshake has begun are waited for, and then it closes once its queues are empty.
    pub(crate) fn close_listener(&mut self, slot: ListenerSlot) {
        let shared = &mut self.shared;
        let listener = &mut shared.listeners[slot];
        if !listener.sockets.is_open() || listener.closes_at.is_some() {
            return;
        }
        let at = shared.timers.now.after_ms(HANDSHAKE_MS);
        listener.closes_at = Some(at);
        listener.sockets.admit_no_more(&mut shared.io.net);
        shared.listeners.close_unwatched(&mut shared.io, slot);
        if self.shared.listeners[slot].sockets.is_open() {
            self.shared.timers.wheel.arm(at, Timeout::Close(slot));
        } else {
            self.stop_listening(slot);
        }
    }

    /// A listener that closes has waited long enough for handshakes.
    pub(crate) fn empty_listener(&mut self, slot: ListenerSlot) {
        let now = self.shared.timers.now;
        let listener = &mut self.shared.listeners[slot];
        // It may be another one by now, that closes later or not at all.
        if listener.closes_at.is_some_and(|at| at <= now) {
            listener.sockets.mark_all();
            self.queue_listener(slot);
        }
    }

    /// Clients of a listener that are between two requests have a nearer deadline now.
    pub(crate) fn hasten_clients_of(&mut self, slot: ListenerSlot) {
        let sessions = self.sessions.iter();
        let theirs = sessions.filter(|(_, session)| session.listener == slot);
        let keys: Vec<u32> = theirs.map(|(key, _)| key_of(key)).collect();
        keys.into_iter().for_each(|key| self.arm_deadline(key));
    }

    fn session_keys(&self) -> Vec<u32> {
        self.sessions.iter().map(|(key, _)| key_of(key)).collect()
    }

    pub(crate) fn report_drain(&mut self) {
        if self.stage == Stage::Draining && !self.sessions.is_empty() {
            let (s, runs) = (
                plural(self.sessions.len() == 1),
                plural(self.sessions.len() != 1),
            );
            info!(
                "stopping: {} session{s} still run{runs}",
                self.sessions.len()
            );
            let at = self.shared.timers.now.after_ms(REPORT_PERIOD_MS);
            self.shared.timers.wheel.arm(at, Timeout::DrainReport);
        }
    }

    /// The end of a drain: whatever still runs is cut. Who has had its last answer, and only sends
    /// on, loses nothing.
    pub(crate) fn cut_all(&mut self) {
        for slot in 0..self.shared.listeners.list.len() {
            self.stop_listening(key_of(slot));
        }
        let keys = self.session_keys();
        let before = self.cut;
        for key in keys {
            let session = self.sessions.get(key as usize);
            let answered = session.and_then(Session::answered);
            self.close_session(key, answered.unwrap_or(CloseReason::Cut));
        }
        if self.cut > before {
            let cut = self.cut - before;
            warn!("stopping: {cut} session{} cut", plural(cut == 1));
        }
        self.finish();
    }

    /// The last step of a turn: a drain with nothing left is over.
    pub(crate) fn settle_stage(&mut self) {
        if self.stage == Stage::Draining
            && self.sessions.is_empty()
            && self
                .shared
                .listeners
                .list
                .iter()
                .all(|listener| !listener.sockets.is_open())
        {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if self.stage == Stage::Finished {
            return;
        }
        self.stage = Stage::Finished;
        let backends: Vec<_> = self.probes.iter().map(|(_, probe)| probe.backend).collect();
        for backend in backends {
            self.drop_probe(backend);
        }
        for index in 0..self.shared.upstreams.entries.len() {
            if self.shared.upstreams.entries[index].is_some() {
                self.shared.close_parked(BackendId(key_of(index)));
            }
        }
        self.shared.io.settle_layers();
        self.print_stats(true);
    }
}
