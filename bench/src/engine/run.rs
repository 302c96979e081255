//! Runs one cell: warm-up, measurement, drain, and the comparison of both ends.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use super::{BACKENDS, Engine, Load, Role, Served};
use crate::histogram::Histogram;
use crate::sys;
use crate::workload::{self, Kind, Workload};

/// Nothing moving for so long ends a cell.
const STALL_NS: u64 = 3_000_000_000;
/// Answers under way may take so long after the end of a cell.
const DRAIN_NS: u64 = 2_000_000_000;
/// So many errors end a cell.
const ERRORS_MAX: u64 = 1000;
/// Idle connections that are being opened at once.
const OPENING_MAX: usize = 64;

/// One workload through one address.
#[derive(Clone, Debug)]
pub struct Cell {
    /// What to do.
    pub workload: Workload,
    /// Where clients connect, in turn: one proxy, or all backends when there is none.
    pub targets: Vec<SocketAddrV4>,
    /// Length of the measurement, without warm-up and drain.
    pub duration: Duration,
    /// The proxy has a CPU of its own, so this one may busy-wait for exact send times.
    pub spin: bool,
    /// The backends are this engine's, so both ends can be compared.
    pub own_backends: bool,
}

/// What a cell gave.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Units in the measurement.
    pub units: f64,
    /// Length of the measurement.
    pub seconds: f64,
    /// The proxy's CPU time in the measurement, in nanoseconds.
    pub cpu_ns: u64,
    /// Of units that ended (with a rate: were due) in the measurement, in nanoseconds.
    pub latencies: Histogram,
    /// Units of the whole cell, with warm-up and drain.
    pub units_all: f64,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// Connections or requests by backend, of the whole cell.
    pub by_backend: [u64; BACKENDS],
}

/// Idle connections and what was seen of them.
#[derive(Clone, Debug, Default)]
pub struct IdleProbe {
    /// Open connections.
    pub connections: usize,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
}

struct Mark {
    at_ns: u64,
    units: f64,
    cpu_ns: u64,
}

impl Engine {
    /// Runs a cell. `cpu_ns` gives the proxy's CPU time so far.
    pub fn run(&mut self, cell: &Cell, cpu_ns: &dyn Fn() -> u64) -> Outcome {
        let served_before = self.served.clone();
        let start = self.now_ns();
        let warm_up = nanos(workload::warm_up(cell.duration));
        let window = start + warm_up..start + warm_up + nanos(cell.duration);
        self.load = Load {
            workload: Some(cell.workload),
            targets: cell.targets.clone(),
            running: true,
            to_open: cell.workload.connections,
            window: window.clone(),
            sequence: self.load.sequence,
            ..Load::default()
        };
        let first = self.drive_until(cell, start, window.start, &served_before, cpu_ns);
        let second = self.drive_until(cell, start, window.end, &served_before, cpu_ns);
        self.load.running = false;
        if cell.own_backends || cell.workload.kind != (Kind::Bulk { up: false }) {
            self.drain(cell, &served_before);
        }
        let mut outcome = Outcome {
            units: second.units - first.units,
            seconds: (second.at_ns - first.at_ns) as f64 / 1e9,
            cpu_ns: second.cpu_ns.saturating_sub(first.cpu_ns),
            latencies: std::mem::take(&mut self.load.latencies),
            units_all: self.units(cell, &served_before),
            by_backend: self.served_since(&served_before),
            errors: BTreeMap::new(),
        };
        if cell.own_backends {
            self.compare_ends(cell, &served_before);
        }
        self.close_clients();
        outcome.errors = self.take_errors();
        outcome
    }

    /// Generates load until `until_ns`, or until nothing moves or too much fails.
    fn drive_until(
        &mut self,
        cell: &Cell,
        start_ns: u64,
        until_ns: u64,
        served_before: &Served,
        cpu_ns: &dyn Fn() -> u64,
    ) -> Mark {
        let mut moved = 0;
        let mut moved_at = self.now_ns();
        loop {
            let now = self.now_ns();
            if now >= until_ns || sys::interrupted() || self.has_failed() {
                let units = self.units(cell, served_before);
                return Mark {
                    at_ns: now,
                    units,
                    cpu_ns: cpu_ns(),
                };
            }
            self.open_due(now);
            self.release_due(cell, start_ns, now);
            self.turn(self.wait_ms(cell));
            let moves = self.load.completed + self.load.bytes_received + self.served.bytes_up;
            if moves != moved {
                (moved, moved_at) = (moves, now);
            } else if now - moved_at > STALL_NS {
                self.error("nothing moved for 3 s");
                self.load.failed = true;
            }
        }
    }

    fn has_failed(&self) -> bool {
        self.load.failed || self.load.errors.values().sum::<u64>() > ERRORS_MAX
    }

    fn wait_ms(&self, cell: &Cell) -> u32 {
        if self.load.to_open > 0 {
            return 0;
        }
        match (cell.workload.rate_per_s, cell.spin) {
            (Some(_), true) => 0,
            (Some(_), false) => {
                rustix::thread::sched_yield();
                0
            }
            (None, _) => 10,
        }
    }

    /// Opens the connections that are missing; at most one try for each.
    fn open_due(&mut self, now: u64) {
        let missing = std::mem::take(&mut self.load.to_open);
        for _ in 0..missing {
            self.open_client(now);
        }
    }

    /// With a rate: begins every unit whose time has come.
    fn release_due(&mut self, cell: &Cell, start_ns: u64, now: u64) {
        let Some(rate) = cell.workload.rate_per_s else {
            return;
        };
        loop {
            let due = start_ns + self.load.released * 1_000_000_000 / u64::from(rate);
            if due > now {
                return;
            }
            self.load.released += 1;
            if self.opens_by_rate() {
                self.open_client(due);
            } else if !self.begin_on_idle(due) {
                self.load.overdue.push_back(due);
            }
        }
    }

    /// Waits for what is under way: a proxy may close towards the client before the backend has
    /// read all that it was sent.
    fn drain(&mut self, cell: &Cell, before: &Served) {
        let until = self.now_ns() + DRAIN_NS;
        while self.now_ns() < until && !sys::interrupted() {
            let (sent, got) = self.ends(cell, before);
            let equal = sent == got || !cell.own_backends;
            if self.load.in_flight == 0 && (equal || !self.load.errors.is_empty()) {
                break;
            }
            self.turn(1);
        }
        self.load.overdue.clear();
    }

    fn units(&self, cell: &Cell, served_before: &Served) -> f64 {
        match cell.workload.kind {
            Kind::Bulk { up: true } if cell.own_backends => {
                (self.served.bytes_up - served_before.bytes_up) as f64 / 1e9
            }
            Kind::Bulk { up: true } => self.load.bytes_sent as f64 / 1e9,
            Kind::Bulk { up: false } => self.load.bytes_received as f64 / 1e9,
            _ => self.load.completed as f64,
        }
    }

    fn served_since(&self, before: &Served) -> [u64; BACKENDS] {
        std::array::from_fn(|i| self.served.by_backend[i] - before.by_backend[i])
    }

    /// Checks that every unit was answered, and that the backends saw what the clients sent.
    fn compare_ends(&mut self, cell: &Cell, before: &Served) {
        if self.load.in_flight > 0 {
            let unanswered = self.load.in_flight as u64;
            *self
                .load
                .errors
                .entry("without an answer at the end")
                .or_insert(0) += unanswered;
        }
        let (sent, got) = self.ends(cell, before);
        if sent != got && self.load.errors.is_empty() {
            let difference = sent.abs_diff(got);
            *self.load.errors.entry("the ends differ by").or_insert(0) += difference;
        }
    }

    /// What one end sent and the other got: bytes of bulk streams, or connections or requests.
    fn ends(&self, cell: &Cell, before: &Served) -> (u64, u64) {
        match cell.workload.kind {
            Kind::Bulk { up: true } => {
                (self.load.bytes_sent, self.served.bytes_up - before.bytes_up)
            }
            Kind::Bulk { up: false } => (
                self.served.bytes_down - before.bytes_down,
                self.load.bytes_received,
            ),
            Kind::Churn { .. } | Kind::Http { .. } => {
                (self.load.begun, self.served_since(before).iter().sum())
            }
            Kind::Messages | Kind::Idle { .. } | Kind::Start => (0, 0),
        }
    }

    /// What went wrong since the last call.
    fn take_errors(&mut self) -> BTreeMap<String, u64> {
        let errors = std::mem::take(&mut self.load.errors);
        errors
            .into_iter()
            .map(|(what, count)| (what.to_owned(), count))
            .collect()
    }

    /// Closes every client connection and lets the backends notice.
    pub fn close_clients(&mut self) {
        self.load.running = false;
        for index in 0..self.slots.len() {
            let connection = self.slots[index].connection.as_ref();
            if connection.is_some_and(|c| matches!(c.role, Role::Client(_))) {
                self.release(index);
            }
        }
        self.load.clients = 0;
        self.load.in_flight = 0;
        self.hold(Duration::from_millis(30));
    }

    /// Lets backends answer, without load, for a while.
    pub fn hold(&mut self, duration: Duration) {
        let until = self.now_ns() + nanos(duration);
        while self.now_ns() < until && !sys::interrupted() {
            self.turn(5);
        }
    }

    /// Opens `count` connections, one exchange on each, and leaves them open.
    pub fn open_idle(&mut self, cell: &Cell, count: usize) -> IdleProbe {
        self.load = Load {
            workload: Some(cell.workload),
            targets: cell.targets.clone(),
            sequence: self.load.sequence,
            ..Load::default()
        };
        let mut completed = 0;
        let mut moved_at = self.now_ns();
        let mut opened = 0;
        while self.load.completed < count as u64 && !sys::interrupted() && !self.has_failed() {
            while self.load.in_flight < OPENING_MAX && opened < count {
                self.open_client(self.now_ns());
                opened += 1;
            }
            self.turn(10);
            if self.load.completed != completed {
                completed = self.load.completed;
                moved_at = self.now_ns();
            } else if self.now_ns() - moved_at > STALL_NS {
                self.error("nothing moved for 3 s");
                break;
            }
        }
        IdleProbe {
            connections: self.load.clients,
            errors: self.take_errors(),
        }
    }

    /// What became of idle connections since they were opened.
    pub fn idle_errors(&mut self) -> BTreeMap<String, u64> {
        self.take_errors()
    }

    /// One exchange through an address. None when it fails, as while a proxy starts.
    pub fn try_once(&mut self, cell: &Cell, within: Duration) -> Option<Duration> {
        self.load = Load {
            workload: Some(cell.workload),
            targets: cell.targets.clone(),
            sequence: self.load.sequence,
            ..Load::default()
        };
        let start = self.now_ns();
        self.open_client(start);
        while self.load.in_flight > 0 && self.now_ns() - start < nanos(within) {
            self.turn(0);
        }
        let took = self.now_ns() - start;
        let answered = self.load.completed == 1 && self.load.errors.is_empty();
        self.load.errors.clear();
        if self.load.clients > 0 {
            self.close_clients();
        }
        answered.then(|| Duration::from_nanos(took))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
