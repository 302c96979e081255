//! What is kept in a board: tables of columns, each as wide as what is counted in it, and what a
//! column has besides.
//!
//! Counters only grow, and outlive the worker that counted; gauges say how things are, and end
//! with it. So each column begins with its counters, and its gauges come last: by that a dead
//! worker's row is sorted.

use crate::core::access_log::Why;
use crate::core::handshake::Handshake;
use crate::core::histogram::BUCKETS;
use crate::core::table::Table;

/// What a table holds, as a type, so that nobody asks a backend for a listener's cell.
pub trait Counted: Copy {
    /// The table.
    const TABLE: Table;
}

/// A cell that the columns of this kind have.
pub trait Cell<K: Counted>: Copy {
    /// Its place in the column.
    fn index(self) -> usize;
}

/// A word of the columns of this kind that all rows share.
pub trait Word<K: Counted>: Copy {
    /// Its place among those of the column.
    fn index(self) -> usize;
}

/// A span of time of which columns of this kind have a histogram.
pub trait Timed<K: Counted>: Copy {
    /// Where the sum of its histogram is, in milliseconds; the buckets follow.
    fn histogram_at(self) -> usize;
}

/// Listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedListeners {}

/// Upstreams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedUpstreams {}

/// Backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedBackends {}

/// Routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedRoutes {}

/// Handshakes of listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedHandshakes {}

impl Counted for CountedListeners {
    const TABLE: Table = Table::Listeners;
}

impl Counted for CountedUpstreams {
    const TABLE: Table = Table::Upstreams;
}

impl Counted for CountedBackends {
    const TABLE: Table = Table::Backends;
}

impl Counted for CountedRoutes {
    const TABLE: Table = Table::Routes;
}

impl Counted for CountedHandshakes {
    const TABLE: Table = Table::Handshakes;
}

/// The cells of a table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Width {
    /// All of them: whole cache lines.
    pub(super) cells: usize,
    /// The first that is a gauge; those before it are counters.
    pub(super) first_gauge: usize,
    /// Where the sum of the first histogram is, and how many buckets follow it; 0 for none. The
    /// others lie behind it.
    pub(super) histogram_at: usize,
    pub(super) buckets: usize,
}

/// Columns begin at multiples of it, in words: a cache line.
pub(super) const UNIT: usize = 8;
/// The widest column.
pub(super) const CELLS_MAX: usize = 136;
/// Words of a column that all rows share.
pub(super) const SHARED_WORDS: usize = 8;

// Listeners: 9 counters, code classes, reasons.
const LISTENER_CODES_AT: usize = 9;
const LISTENER_REASONS_AT: usize = LISTENER_CODES_AT + CODE_CLASSES;
const LISTENER_GAUGES_AT: usize = LISTENER_REASONS_AT + REASONS;
// Upstreams: a histogram for each span.
const UPSTREAM_HISTOGRAM_AT: usize = 0;
const HISTOGRAM_CELLS: usize = 1 + BUCKETS;
const UPSTREAM_GAUGES_AT: usize = UPSTREAM_HISTOGRAM_AT + Span::ALL.len() * HISTOGRAM_CELLS;
// Backends: 11 counters, code classes, and room for 3.
const BACKEND_CODES_AT: usize = 11;
const BACKEND_GAUGES_AT: usize = BACKEND_CODES_AT + CODE_CLASSES + 3;
// Routes: a counter, code classes, reasons.
const ROUTE_CODES_AT: usize = 1;
const ROUTE_REASONS_AT: usize = ROUTE_CODES_AT + CODE_CLASSES;
const ROUTE_GAUGES_AT: usize = ROUTE_REASONS_AT + REASONS;
// Handshakes: a counter for each way to end.
const HANDSHAKE_GAUGES_AT: usize = Handshake::ALL.len();

// The first gauge says how often the column is open.
const _: () = assert!(ListenerCell::Active as usize == LISTENER_GAUGES_AT + 1);
const _: () = assert!(BackendCell::Active as usize == BACKEND_GAUGES_AT + 1);

const CODE_CLASSES: usize = 6;
const REASONS: usize = Why::ALL.len();

impl Width {
    /// That of a table.
    pub(super) const fn of(table: Table) -> Self {
        let (cells, first_gauge, buckets) = match table {
            Table::Listeners => (40, LISTENER_GAUGES_AT, 0),
            Table::Upstreams => (CELLS_MAX, UPSTREAM_GAUGES_AT, BUCKETS),
            Table::Backends => (24, BACKEND_GAUGES_AT, 0),
            Table::Routes => (32, ROUTE_GAUGES_AT, 0),
            Table::Handshakes => (16, HANDSHAKE_GAUGES_AT, 0),
        };
        assert!(first_gauge < cells && cells <= CELLS_MAX && cells.is_multiple_of(UNIT));
        Self {
            cells,
            first_gauge,
            histogram_at: UPSTREAM_HISTOGRAM_AT,
            buckets,
        }
    }

    /// The gauge that says how often the row's worker has the column open.
    pub(super) const fn opened(self) -> usize {
        self.first_gauge
    }
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
    Active = 38,
}

impl Cell<CountedListeners> for ListenerCell {
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
    /// Milliseconds that it took to answer, from the request to the head of its response, all
    /// together; its responses are counted by [`CodeClass`].
    ResponseMs,
    /// Milliseconds that its probes took, all together.
    ProbeMs,
    /// Gauge: connections (TCP) or requests in flight (HTTP) now.
    Active = 21,
    /// Gauge: whether it takes traffic, 0 or 1.
    Up,
    /// Gauge: how long it leaves idle connections open, in milliseconds; 0 while that is not
    /// known.
    IdleLimit,
}

impl Cell<CountedBackends> for BackendCell {
    fn index(self) -> usize {
        self as usize
    }
}

/// What is counted of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RouteCell {
    /// Requests that took it.
    Requests = 0,
}

impl Cell<CountedRoutes> for RouteCell {
    fn index(self) -> usize {
        self as usize
    }
}

/// What the first digit of a response's status says (RFC 9110 section 15): a counter of listeners,
/// backends and routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum CodeClass {
    /// 100 to 199.
    Informational = 0,
    /// 200 to 299.
    Successful,
    /// 300 to 399.
    Redirection,
    /// 400 to 499.
    ClientError,
    /// 500 to 599.
    ServerError,
    /// Any other.
    Other,
}

impl CodeClass {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; CODE_CLASSES] = [
        Self::Informational,
        Self::Successful,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
        Self::Other,
    ];

    /// As people write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Successful => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
            Self::Other => "other",
        }
    }

    /// The class of a status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            100..200 => Self::Informational,
            200..300 => Self::Successful,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500..600 => Self::ServerError,
            _ => Self::Other,
        }
    }
}

impl Cell<CountedListeners> for CodeClass {
    fn index(self) -> usize {
        LISTENER_CODES_AT + self as usize
    }
}

impl Cell<CountedBackends> for CodeClass {
    fn index(self) -> usize {
        BACKEND_CODES_AT + self as usize
    }
}

impl Cell<CountedRoutes> for CodeClass {
    fn index(self) -> usize {
        ROUTE_CODES_AT + self as usize
    }
}

/// How exchanges and sessions have ended.
impl Cell<CountedListeners> for Why {
    fn index(self) -> usize {
        LISTENER_REASONS_AT + self as usize
    }
}

impl Cell<CountedRoutes> for Why {
    fn index(self) -> usize {
        ROUTE_REASONS_AT + self as usize
    }
}

impl Cell<CountedHandshakes> for Handshake {
    fn index(self) -> usize {
        self as usize
    }
}

/// What is timed of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Span {
    /// Until a new connection to a backend stood, with its TLS.
    Connect = 0,
    /// From when a request had left until the first byte of the response (HTTP).
    FirstByte,
    /// From the whole head of a request to its end (HTTP).
    Total,
}

impl Span {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 3] = [Self::Connect, Self::FirstByte, Self::Total];
}

impl Timed<CountedUpstreams> for Span {
    fn histogram_at(self) -> usize {
        UPSTREAM_HISTOGRAM_AT + self as usize * HISTOGRAM_CELLS
    }
}

/// What all workers of a machine share of a backend. It is written by whoever has the right to at
/// the moment, and belongs to no row: it survives every worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendWord {
    /// Who probes it, and until when (`core::lease`).
    ProbeLease = 0,
    /// What its probes have found, and why (`core::finding`). Written by the holder of the lease.
    Finding,
    /// The tick at which its verdict was first given.
    FoundAt,
    /// Until when failures of real traffic keep it out (`core::finding`).
    Ejection,
    /// What an administrator lets it take ([`Service`](crate::core::backend::Service)).
    Service,
    /// The weight that an administrator has given it, and one more; 0 while it has its own.
    Weight,
}

impl Word<CountedBackends> for BackendWord {
    fn index(self) -> usize {
        self as usize
    }
}

/// The same of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum UpstreamWord {
    /// How many turns of its round robin have been taken.
    Turns = 0,
}

impl Word<CountedUpstreams> for UpstreamWord {
    fn index(self) -> usize {
        self as usize
    }
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
    /// Connections to backends that it has.
    Connections,
    /// Bytes that wait in it for somebody to take them, and how many may.
    WaitingBytes,
    WaitingBytesMax,
    /// Descriptors that it may have.
    DescriptorsMax,
    /// Milliseconds for which its loop was busy, all together and at most in one turn.
    BusyMs,
    LongestTurnMs,
}
