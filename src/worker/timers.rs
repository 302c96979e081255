//! The clock of a worker and its timers.

use crate::core::backend::BackendId;
use crate::core::time::{Moment, Tick};
use crate::core::timer::TimerWheel;
use crate::worker::keys::{ConnectionKey, ListenerSlot};

/// What a timer stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timeout {
    /// A session's nearest deadline.
    Session { key: u32, generation: u32 },
    /// Whoever waits for a descriptor tries again.
    DescriptorRetry,
    /// A paused listener tries again.
    Listener(ListenerSlot),
    /// No handshake ends any more in the queues of a listener that closes.
    Close(ListenerSlot),
    /// The next probe of a backend, or the end of the one that runs.
    Probe { key: u32, generation: u32 },
    /// A parked connection may have been idle for too long.
    Parked { key: ConnectionKey, generation: u32 },
    /// A limit that all workers share may have room again.
    FullCheck,
    /// The end of an ejection.
    EjectEnd(BackendId),
    /// The statistics line.
    Stats,
    /// The end of accepting before a drain.
    PreDrainEnd,
    /// A drain says how many still run.
    DrainReport,
    /// The end of a drain.
    DrainEnd,
}

/// The instant of the present turn, and what is due later.
pub(crate) struct Timers {
    pub(crate) now: Tick,
    /// The same, for what is told.
    pub(crate) moment: Moment,
    /// Turns of the loop so far.
    pub(crate) turn: u64,
    pub(crate) wheel: TimerWheel<Timeout>,
}

impl Timers {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            now,
            moment: now.into(),
            turn: 0,
            wheel: TimerWheel::new(now),
        }
    }
}
