//! Runs one cell of the comparison: starts a peer, loads it, takes its figures, ends it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::certificates::{self, Certificates};
use crate::engine::{Backends, Cell, Engine, Outcome};
use crate::peers::{Peer, Setup, SetupTls};
use crate::process::{self, Process};
use crate::sys;
use crate::syscalls::Counter;
use crate::workload::{self, Kind, Unit, Workload};

/// How long a peer may take from exec to its first answer.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// One try of a first answer.
const TRY_PATIENCE: Duration = Duration::from_millis(500);
/// What a peer does after its first answer is not its idle state yet.
const SETTLE: Duration = Duration::from_millis(200);
/// Descriptors that are not for idle connections.
const DESCRIPTORS_RESERVED: u64 = 1000;

/// Figures of one cell by name; see README.md for their meanings.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Microseconds, bytes, percent or counts, as the name says.
    pub figures: BTreeMap<String, f64>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// What the peer wrote, when something went wrong.
    pub log: String,
}

impl Sample {
    fn failed(what: impl Into<String>, log: String) -> Self {
        Self {
            figures: BTreeMap::new(),
            errors: BTreeMap::from([(what.into(), 1)]),
            log,
        }
    }

    fn set(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }
}

/// The load, the backends and where things are.
#[derive(Debug)]
pub struct Runner {
    engine: Engine,
    backends: Backends,
    certificates: Certificates,
    folder: PathBuf,
    cpus: usize,
    proxy_cpu: Option<usize>,
    idle_connections: usize,
}

/// A peer that answers.
struct Running {
    process: Process,
    pids: Vec<i32>,
    l4: SocketAddrV4,
    http: SocketAddrV4,
    start: Duration,
}

impl Runner {
    /// Opens the backends and pins this thread: with two CPUs or more, proxies run on the first
    /// and the load on the second.
    ///
    /// # Errors
    ///
    /// No socket, folder or CPU.
    pub fn new(folder: &Path, idle_connections: usize) -> io::Result<Self> {
        let cpus = sys::cpus();
        let proxy_cpu = match cpus[..] {
            [first, second, ..] => {
                sys::pin(second)?;
                Some(first)
            }
            [_] | [] => None,
        };
        fs::create_dir_all(folder)?;
        let descriptors = raise_descriptor_limit();
        let most = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2);
        let mut engine = Engine::new()?;
        Ok(Self {
            backends: engine.listen()?,
            engine,
            certificates: Certificates::new(&folder.with_file_name("certificates"))?,
            folder: folder.canonicalize()?,
            cpus: cpus.len(),
            proxy_cpu,
            idle_connections: idle_connections.min(most.unwrap_or(usize::MAX)),
        })
    }

    /// Whether the proxy has a CPU that the load does not use.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        self.proxy_cpu.is_some()
    }

    /// CPUs that this process was allowed to use when it began.
    #[must_use]
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// Idle connections that the descriptor limit allows.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.idle_connections
    }

    /// Runs one cell and ends the peer.
    pub fn sample(
        &mut self,
        peer: &Peer,
        program: Option<&Path>,
        workload: &Workload,
        duration: Duration,
    ) -> Sample {
        let Some(program) = program else {
            return self.sample_direct(workload, duration);
        };
        let mut running = match self.start(peer, program, workload) {
            Ok(running) => running,
            Err(sample) => return sample,
        };
        let mut sample = match workload.kind {
            Kind::Idle { .. } => self.sample_idle(&running, workload, duration),
            Kind::Start => self.sample_start(&running, program, duration),
            _ => self.sample_load(&running, workload, duration),
        };
        if let Some(how) = running.process.ended() {
            sample.errors.insert(format!("the peer {how}"), 1);
        }
        if !sample.errors.is_empty() {
            sample.log = running.process.log_tail();
        }
        sample
    }

    /// Counts the system calls of one cell. None when no tool for that is found.
    pub fn syscalls(
        &mut self,
        peer: &Peer,
        program: &Path,
        workload: &Workload,
        duration: Duration,
    ) -> Option<Sample> {
        let running = match self.start(peer, program, workload) {
            Ok(running) => running,
            Err(sample) => return Some(sample),
        };
        let counter = Counter::start(&running.pids, &self.folder)?;
        self.engine.hold(Counter::ATTACH_TIME);
        let cell = self.cell(*workload, running.target(workload), duration);
        let outcome = self.engine.run(&cell, &|| 0);
        let mut sample = Sample {
            errors: outcome.errors,
            ..Sample::default()
        };
        for (name, count) in counter.finish()? {
            sample.set(&name, count as f64 / outcome.units_all);
        }
        Some(sample)
    }

    fn cell(&self, workload: Workload, target: SocketAddrV4, duration: Duration) -> Cell {
        Cell {
            workload,
            targets: vec![target],
            duration,
            spin: self.is_pinned(),
            own_backends: true,
        }
    }

    fn start(
        &mut self,
        peer: &Peer,
        program: &Path,
        workload: &Workload,
    ) -> Result<Running, Sample> {
        let failed = |what: &str, error: io::Error| {
            Sample::failed(format!("{what}: {error}"), String::new())
        };
        let folder = self.folder.join(peer.name);
        fs::create_dir_all(&folder).map_err(|e| failed("no folder", e))?;
        let [l4_port, http_port] = free_ports().map_err(|e| failed("no port", e))?;
        let tls = self
            .tls_of(workload)
            .map_err(|e| failed("no certificate", e))?;
        let setup = Setup {
            folder: &folder,
            l4_port,
            http_port,
            backends: &self.backends,
            connections_max: self.idle_connections,
            tls,
        };
        self.engine
            .speak(workload.tls)
            .map_err(|e| failed("no TLS", io::Error::other(e)))?;
        let command = peer
            .command(program, &setup)
            .map_err(|e| failed("no configuration", e))?;
        let started = Instant::now();
        let process = Process::spawn(command, self.proxy_cpu, &folder.join("log"))
            .map_err(|e| failed("cannot be run", e))?;
        let mut running = Running {
            process,
            pids: Vec::new(),
            l4: local(l4_port),
            http: local(http_port),
            start: Duration::ZERO,
        };
        let first = |first: Workload| Workload {
            tls: workload.tls,
            ..first
        };
        self.await_answer(&mut running, &first(FIRST_REQUEST), started)?;
        running.start = started.elapsed();
        if !workload.is_http() {
            self.await_answer(&mut running, &first(FIRST_ECHO), started)?;
        }
        running.pids = running.process.pids();
        Ok(running)
    }

    /// What the proxy needs for the TLS of a workload.
    fn tls_of(&self, workload: &Workload) -> io::Result<Option<SetupTls>> {
        let Some(tls) = workload.tls else {
            return Ok(None);
        };
        let count = tls.more_certificates;
        let others = match count {
            0 => None,
            _ => Some(self.certificates.others(count)?),
        };
        Ok(Some(SetupTls {
            certificate: self.certificates.main(tls.key)?,
            others,
            other_names: (0..count).map(certificates::other_name).collect(),
        }))
    }

    /// Tries until the peer answers.
    fn await_answer(
        &mut self,
        running: &mut Running,
        workload: &Workload,
        started: Instant,
    ) -> Result<(), Sample> {
        let cell = self.cell(*workload, running.target(workload), Duration::ZERO);
        while self.engine.try_once(&cell, TRY_PATIENCE).is_none() {
            if let Some(how) = running.process.ended() {
                return Err(Sample::failed(
                    format!("the peer {how}"),
                    running.process.log_tail(),
                ));
            }
            if started.elapsed() > START_PATIENCE || sys::interrupted() {
                let what = if workload.is_http() { "HTTP" } else { "L4" };
                return Err(Sample::failed(
                    format!(
                        "no {what} answer within {} s of its start",
                        START_PATIENCE.as_secs()
                    ),
                    running.process.log_tail(),
                ));
            }
            if !self.is_pinned() {
                rustix::thread::sched_yield();
            }
        }
        Ok(())
    }

    fn sample_direct(&mut self, workload: &Workload, duration: Duration) -> Sample {
        let ports = if workload.is_http() {
            &self.backends.http
        } else {
            &self.backends.l4
        };
        let cell = Cell {
            targets: ports.iter().map(|port| local(*port)).collect(),
            ..self.cell(*workload, local(0), duration)
        };
        if let Err(what) = self.engine.speak(None) {
            return Sample::failed(what, String::new());
        }
        let outcome = self.engine.run(&cell, &|| 0);
        figures_of(workload, outcome)
    }

    fn sample_load(
        &mut self,
        running: &Running,
        workload: &Workload,
        duration: Duration,
    ) -> Sample {
        let cell = self.cell(*workload, running.target(workload), duration);
        let outcome = self.engine.run(&cell, &|| process::cpu_ns(&running.pids));
        let (cpu_ns, seconds, units) = (outcome.cpu_ns as f64, outcome.seconds, outcome.units);
        let mut sample = figures_of(workload, outcome);
        if units > 0.0 {
            sample.set("cpu_us_per_unit", cpu_ns / 1e3 / units);
            sample.set("cpu_percent", cpu_ns / 1e7 / seconds);
        }
        sample.set("rss_bytes", process::memory(&running.pids).rss as f64);
        sample
    }

    fn sample_start(&mut self, running: &Running, program: &Path, duration: Duration) -> Sample {
        let mut sample = Sample::default();
        sample.set("start_ms", running.start.as_secs_f64() * 1e3);
        self.engine.hold(SETTLE);
        sample.set("idle_cpu_percent", self.idle_cpu_percent(running, duration));
        let memory = process::memory(&running.pids);
        sample.set("rss_bytes", memory.rss as f64);
        sample.set("pss_bytes", memory.pss as f64);
        let length = fs::metadata(program).map_or(0, |metadata| metadata.len());
        sample.set("binary_bytes", length as f64);
        sample
    }

    /// The share of a CPU that the peer uses while nothing is asked of it.
    fn idle_cpu_percent(&mut self, running: &Running, duration: Duration) -> f64 {
        let started = Instant::now();
        let before = process::cpu_ns(&running.pids);
        self.engine.hold(duration);
        let used = process::cpu_ns(&running.pids) - before;
        used as f64 / 1e7 / started.elapsed().as_secs_f64()
    }

    fn sample_idle(
        &mut self,
        running: &Running,
        workload: &Workload,
        duration: Duration,
    ) -> Sample {
        let mut sample = Sample::default();
        self.engine.hold(SETTLE);
        let before = process::memory(&running.pids);
        let cell = self.cell(*workload, running.target(workload), duration);
        let probe = self.engine.open_idle(&cell, self.idle_connections);
        sample.errors = probe.errors;
        self.engine.hold(SETTLE);
        let after = process::memory(&running.pids);
        sample.set("idle_cpu_percent", self.idle_cpu_percent(running, duration));
        sample.errors.extend(self.engine.idle_errors());
        self.engine.close_clients();
        let connections = probe.connections as f64;
        sample.set("connections", connections);
        if probe.connections > 0 {
            let per = |after: u64, before: u64| (after as f64 - before as f64) / connections;
            sample.set("pss_bytes_per_connection", per(after.pss, before.pss));
            sample.set("rss_bytes_per_connection", per(after.rss, before.rss));
        }
        sample.set("pss_bytes", after.pss as f64);
        sample
    }
}

impl Running {
    fn target(&self, workload: &Workload) -> SocketAddrV4 {
        if workload.is_http() {
            self.http
        } else {
            self.l4
        }
    }
}

const FIRST_REQUEST: Workload = Workload {
    name: "first-request",
    title: "",
    kind: Kind::Start,
    connections: 1,
    rate_per_s: None,
    tls: None,
};

const FIRST_ECHO: Workload = Workload {
    name: "first-echo",
    title: "",
    kind: Kind::Churn {
        backend_closes: false,
    },
    connections: 1,
    rate_per_s: None,
    tls: None,
};

fn figures_of(workload: &Workload, outcome: Outcome) -> Sample {
    let mut sample = Sample {
        errors: outcome.errors,
        ..Sample::default()
    };
    if outcome.units > 0.0 {
        sample.set("units_per_s", outcome.units / outcome.seconds);
    }
    if outcome.latencies.count() > 0 && workload.unit() != Unit::Gigabyte {
        for (name, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)] {
            sample.set(name, outcome.latencies.quantile(share) as f64 / 1e3);
        }
        sample.set("max_us", outcome.latencies.max() as f64 / 1e3);
    }
    let all: u64 = outcome.by_backend.iter().sum();
    let most = outcome.by_backend.iter().max().copied().unwrap_or(0);
    if all > 0 && matches!(workload.kind, Kind::Churn { .. } | Kind::Http { .. }) {
        sample.set("busiest_backend_percent", most as f64 / all as f64 * 100.0);
    }
    sample
}

/// How long one sample takes, about.
#[must_use]
pub fn expected_time(workload: &Workload, duration: Duration) -> Duration {
    let around = Duration::from_millis(300);
    match workload.kind {
        Kind::Idle { .. } => duration + Duration::from_secs(2) + around,
        Kind::Start => duration + SETTLE + around,
        _ => duration + workload::warm_up(duration) + around,
    }
}

fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// Two ports that were free a moment ago.
fn free_ports() -> io::Result<[u16; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// Raises the limit of descriptors of this process, which its children inherit, as far as it goes,
/// and gives it.
pub fn raise_descriptor_limit() -> u64 {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20)
}
