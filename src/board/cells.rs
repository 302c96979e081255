//! What is kept in a board, as places in a column or a row.
//!
//! Counters only grow, and outlive the worker that counted; gauges say how things are, and end
//! with it. So the two have places of their own, by which a dead worker's row is sorted.

/// Cells that a row has in each column.
pub(super) const COLUMN_CELLS: usize = 16;
/// The first of them that is a gauge; those before it are counters.
pub(super) const FIRST_GAUGE: usize = ListenerCell::Active as usize;
/// The gauge that says how often the row's worker has the column open.
pub(super) const OPENED: usize = 15;
/// The gauge that says whether a column drains that only this process sees, which has no cells that
/// all rows share. Nobody counts who has such a column open, and all other gauges are taken.
pub(super) const PRIVATE_DRAINING: usize = OPENED;
/// Cells of a column that all rows share.
pub(super) const SHARED_CELLS: usize = 8;

/// What is counted, as a cell of a column.
pub trait Cell: Copy {
    /// Its place in the column, below 16.
    fn index(self) -> usize;
}

/// What is counted of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ListenerCell {
    /// Connections accepted.
    Accepted = 0,
    /// Bytes received from clients.
    BytesIn,
    /// Bytes sent to clients.
    BytesOut,
    /// Connections refused because no backend was usable, or because weir could not watch them.
    Refused,
    /// Sessions ended by a timeout.
    TimedOut,
    /// Sessions ended by a reset from either side.
    Reset,
    /// Sessions cut by the end of a drain.
    Cut,
    /// Times that accepting was paused at a limit.
    Paused,
    /// Requests received (HTTP).
    Requests,
    /// Gauge: sessions now.
    Active = 12,
}

impl Cell for ListenerCell {
    fn index(self) -> usize {
        self as usize
    }
}

/// What is counted of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendCell {
    /// Times it was picked.
    Picks = 0,
    /// Bytes sent to it.
    BytesOut,
    /// Bytes received from it.
    BytesIn,
    /// Connection attempts that failed or timed out.
    ConnectFailures,
    /// Attempts made here after another backend had failed.
    Retries,
    /// Ejections by failures of real traffic.
    Ejections,
    /// Probes passed.
    ProbesPassed,
    /// Probes failed.
    ProbesFailed,
    /// Requests that it took and did not answer, not in time, or with a status that counts as a
    /// failure.
    AnswerFailures,
    /// Gauge: connections (TCP) or requests in flight (HTTP) now.
    Active = 12,
    /// Gauge: whether it takes traffic, 0 or 1.
    Up,
    /// Gauge: how long it leaves idle connections open, in milliseconds; 0 while that is not
    /// known.
    IdleLimit,
}

impl Cell for BackendCell {
    fn index(self) -> usize {
        self as usize
    }
}

/// What all workers of a machine share of a column. It is written by whoever has the right to at
/// the moment, and belongs to no row: it survives every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SharedCell {
    /// Of a backend: who probes it, and until when (`core::lease`).
    ProbeLease = 0,
    /// Of a backend: what its probes have found, and why (`core::finding`). Written by the holder
    /// of the lease.
    Finding,
    /// Of a backend: the tick at which its verdict was first given.
    FoundAt,
    /// Of a backend: until when failures of real traffic keep it out (`core::finding`).
    Ejection,
    /// Of a backend: whether it drains, 0 or 1.
    Draining,
    /// Of an upstream: how many turns of its round robin have been taken.
    Turns,
}

/// What a row says of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RowCell {
    /// Its process id; 0 when nobody has the row.
    Pid = 0,
    /// How many workers have had the row, modulo 2^16; never 0 in a row in use.
    Incarnation,
    /// The tick of its last sign of life.
    Beat,
    /// Whether it waits for events, 0 or 1.
    Asleep,
    /// Client connections it has.
    Sessions,
    /// Access log lines that it has lost: a counter.
    LinesLost,
    /// Whether it is about to end, 0 or 1.
    Leaves,
    /// How many notes of changed loads it has written, one more than that; 0 by a weir that writes
    /// none.
    LoadNotes,
}
