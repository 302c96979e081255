//! What a worker tells whoever runs it, and what it remembers of that.

use std::time::Duration;

use crate::config::model::Config;
use crate::core::time::Tick;
use crate::core::timer::TimerKey;
use crate::worker::stats_text::{self, Said};

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

/// How much of everything a worker holds: what a test compares with what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Sessions.
    pub sessions: usize,
    /// Leases on backends that are out.
    pub leases: usize,
    /// Buffers that are lent.
    pub buffers_lent: usize,
    /// Bytes that the account of all that waits is charged with.
    pub bytes_waiting: usize,
    /// Those of them that layers keep.
    pub records_waiting: usize,
    /// Sessions that wait for memory.
    pub short: usize,
    /// Pipes that are lent.
    pub pipes_lent: usize,
    /// Armed timers.
    pub timers: usize,
    /// Listening sockets that are open.
    pub listeners_open: usize,
    /// Upstreams in the table: those of the configuration, and those that something still uses.
    pub upstreams: usize,
    /// Entries in the run queues.
    pub queued: usize,
    /// Events that were for an owner that had gone.
    pub stale_events: u64,
}

/// The settings and memory of reporting.
#[derive(Debug)]
pub(crate) struct Reporter {
    pub(crate) started: Tick,
    pub(crate) stats_interval: Option<Duration>,
    pub(crate) timer: Option<TimerKey>,
    pub(crate) said: Said,
    /// As [`stats_text::expiries`] has them.
    pub(crate) expiries_unix_s: Vec<(String, i64)>,
}

impl Reporter {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            started: now,
            stats_interval: None,
            timer: None,
            said: Said::nothing(now),
            expiries_unix_s: Vec::new(),
        }
    }

    pub(crate) fn adopt(&mut self, config: &Config) {
        self.stats_interval = config.stats_interval;
        self.expiries_unix_s = stats_text::expiries(config).collect();
    }
}
