//! What all sessions of a worker share: the seam, the clock, buffers, timers, backends, limits
//! and counters. A session runs with two disjoint borrows, itself and this.

use std::time::Duration;

use log::warn;

use crate::board::{Board, Cell, CodeClass, Listeners};
use crate::config::model;
use crate::core::rng::Rng;
use crate::net::Net;
use crate::worker::connections::Connections;
use crate::worker::http::HttpSpace;
use crate::worker::io_space::IoSpace;
use crate::worker::keys::{ListenerSlot, UpstreamSlot};
use crate::worker::listeners::ListenerTable;
use crate::worker::starve::Starving;
use crate::worker::timers::Timers;
use crate::worker::upstreams::UpstreamTable;

/// What all sessions of a worker share.
pub(crate) struct Shared<N: Net> {
    pub(crate) io: IoSpace<N>,
    pub(crate) timers: Timers,
    pub(crate) board: Board,
    pub(crate) listeners: ListenerTable<N>,
    pub(crate) upstreams: UpstreamTable,
    pub(crate) rng: Rng,
    /// Those to backends, whoever has them.
    pub(crate) connections: Connections<N>,
    pub(crate) http: HttpSpace,
    /// Sessions that wait for a descriptor.
    pub(crate) starving: Starving,
}

impl<N: Net> Shared<N> {
    /// One timeout of a session between these two: the upstream's where it has one.
    pub(crate) fn timeout(
        &self,
        listener: ListenerSlot,
        upstream: UpstreamSlot,
        of_upstream: impl Fn(&model::TimeoutOverrides) -> Option<Duration>,
        of_listener: impl Fn(&model::Timeouts) -> Duration,
    ) -> Duration {
        let over = &self.upstreams[upstream].settings.timeouts;
        of_upstream(over).unwrap_or_else(|| of_listener(&self.listeners[listener].timeouts))
    }

    /// No backend could be had: logged at most once a second and upstream.
    pub(crate) fn log_refused(&mut self, upstream: UpstreamSlot, listener: ListenerSlot) {
        let now = self.timers.now;
        let upstream = &mut self.upstreams[upstream];
        if let Some(suppressed) = upstream.refused_log.allow(now) {
            let more = match suppressed {
                0 => String::new(),
                count => format!(" ({count} more since the last such line)"),
            };
            warn!(
                "listener {}: upstream {} has no usable backend{more}",
                self.listeners[listener].name, upstream.name
            );
        }
    }

    /// Counts a response by its status: of a backend once its final head is to pass, of weir's own
    /// when it is sent.
    pub(crate) fn count_code(&self, listener: ListenerSlot, status: u16) {
        self.count(listener, CodeClass::of(status), 1);
    }

    /// Counts for a listener.
    pub(crate) fn count(&self, listener: ListenerSlot, cell: impl Cell<Listeners>, count: u64) {
        self.board.add(self.listeners[listener].column, cell, count);
    }
}
