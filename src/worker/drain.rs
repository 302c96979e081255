//! Ending without loss: accept what is queued, close the listeners, let sessions finish.

use log::{info, warn};

use crate::core::backend::BackendId;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::session::CloseReason;
use crate::worker::shared::{ListenerSlot, Pause, Timeout, key_of};

/// How often a drain says how many sessions still run.
const REPORT_PERIOD_MS: u64 = 1_000;

/// How far a worker is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It serves.
    Serving,
    /// It was asked to end and still accepts for a while.
    PreDrain,
    /// It accepts no more; sessions finish.
    Draining,
    /// Nothing is left.
    Finished,
}

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
        info!("stopping: {} sessions to finish", self.sessions.len());
        self.stage = Stage::PreDrain;
        self.shared.draining_since = Some(self.shared.now);
        let (pre_drain, drain) = (self.pre_drain, self.drain_timeout);
        let now = self.shared.now;
        self.shared
            .wheel
            .arm(now.after(pre_drain), Timeout::PreDrainEnd);
        self.shared
            .wheel
            .arm(now.after(pre_drain).after(drain), Timeout::DrainEnd);
    }

    /// Ends gracefully and accepts nothing any more: somebody else holds the same sockets, and
    /// serves what is queued.
    pub fn leave(&mut self) {
        self.drain();
        for slot in 0..self.shared.listeners.len() {
            self.stop_listening(key_of(slot));
        }
        self.close_listeners();
    }

    /// Ends at once; what still runs is cut.
    pub fn stop(&mut self) {
        self.cut_all();
    }

    /// Lets every listener take what is queued and close.
    pub(crate) fn close_listeners(&mut self) {
        if self.stage != Stage::PreDrain {
            return;
        }
        self.stage = Stage::Draining;
        self.shared.draining_since = Some(self.shared.now);
        for key in self.session_keys() {
            // Clients between two requests have a nearer deadline now.
            self.arm_deadline(key);
        }
        for slot in 0..self.shared.listeners.len() {
            self.close_listener(key_of(slot));
        }
        let at = self.shared.now.after_ms(REPORT_PERIOD_MS);
        self.shared.wheel.arm(at, Timeout::DrainReport);
    }

    /// Lets one listener take what is queued and close.
    pub(crate) fn close_listener(&mut self, slot: ListenerSlot) {
        let listener = &mut self.shared.listeners[slot as usize];
        if !listener.doors.is_open() {
            return;
        }
        listener.closing = true;
        listener.doors.mark_all();
        self.close_unwatched(slot);
        let listener = &mut self.shared.listeners[slot as usize];
        if !listener.doors.is_open() {
            listener.closing = false;
        } else if listener.pause == Pause::No {
            self.queue_listener(slot);
        }
    }

    fn session_keys(&self) -> Vec<u32> {
        self.sessions.iter().map(|(key, _)| key_of(key)).collect()
    }

    pub(crate) fn report_drain(&mut self) {
        if self.stage == Stage::Draining && !self.sessions.is_empty() {
            info!("stopping: {} sessions still run", self.sessions.len());
            let at = self.shared.now.after_ms(REPORT_PERIOD_MS);
            self.shared.wheel.arm(at, Timeout::DrainReport);
        }
    }

    /// The end of a drain: whatever still runs is cut.
    pub(crate) fn cut_all(&mut self) {
        for slot in 0..self.shared.listeners.len() {
            self.stop_listening(key_of(slot));
        }
        let keys = self.session_keys();
        for key in &keys {
            self.close_session(*key, CloseReason::Cut);
        }
        if !keys.is_empty() {
            warn!("stopping: {} sessions were cut", keys.len());
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
                .iter()
                .all(|listener| !listener.doors.is_open())
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
        for index in 0..self.shared.places.len() {
            if self.shared.places[index].is_some() {
                self.shared.close_parked(BackendId(key_of(index)));
            }
        }
        self.print_stats(true);
    }
}
