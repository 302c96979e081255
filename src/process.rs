//! One serving process: descriptors, signals, background jobs and the loop around the worker.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{error, info, warn};

use crate::background::{Background, Finished};
use crate::board::Board;
use crate::cli::Args;
use crate::config::Compiled;
use crate::config::model::{AccessLog, Config, Listener as ListenerSettings, LogFormat};
use crate::config::problem::Problem;
use crate::core::address::Address;
use crate::reactor::Reactor;
use crate::sys::process;
use crate::sys::signal::{Signal, Signals};
use crate::sys::socket::{self, Listener};
use crate::sys::stderr::write_ready;
use crate::worker::{Stage, Start, UnresolvedName, Worker};

/// Ended as asked.
const EXIT_OK: u8 = 0;
/// Some connections were cut, or the loop broke.
const EXIT_CUT: u8 = 1;
/// Cannot listen, or not permitted.
const EXIT_BIND: u8 = 3;
/// Another weir owns the pid file.
const EXIT_TAKEN: u8 = 4;

/// How long the start waits for the first answers of the name service.
const RESOLVE_AT_START_MAX: Duration = Duration::from_secs(2);

/// Descriptors kept for everything but client connections and their backends.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Descriptors that weir takes for itself, at the least.
const DESCRIPTORS_OWN: u64 = 16;

/// Keys of control descriptors.
const SIGNALS_KEY: u32 = 0;
const JOBS_KEY: u32 = 1;

/// Serves until a signal ends it.
#[must_use]
pub fn run(args: &Args, config: Config) -> ExitCode {
    match Process::start(args, config) {
        Ok(mut process) => ExitCode::from(process.serve()),
        Err(Refusal { code, message }) => {
            error!("{message}");
            ExitCode::from(code)
        }
    }
}

/// Logs from this level up, from now on; only warnings and errors when `quiet`.
/// `RUST_LOG` wins over both.
pub fn set_log_level(level: log::LevelFilter, quiet: bool) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(if quiet {
            level.min(log::LevelFilter::Warn)
        } else {
            level
        });
    }
}

/// Why the process does not start.
struct Refusal {
    code: u8,
    message: String,
}

impl Refusal {
    fn new(what: &str, error: &io::Error) -> Self {
        Self {
            code: EXIT_BIND,
            message: format!("{what}: {error}"),
        }
    }
}

struct Process {
    worker: Worker<Reactor>,
    signals: Signals,
    jobs: Background,
    config_path: PathBuf,
    /// The limit on open descriptors.
    descriptors: u64,
    /// Only warnings and errors are logged, whatever the configuration says.
    quiet: bool,
    loading: bool,
    load_again: bool,
    /// Names whose failure is already in the log.
    known_unresolved: Vec<UnresolvedName>,
    pid_file: Option<PidFile>,
    access_log: AccessSink,
    lines_dropped: u64,
}

impl Process {
    fn start(args: &Args, mut config: Config) -> Result<Self, Refusal> {
        if let Some(cpu) = args.cpu {
            process::pin_to_cpu(cpu)
                .map_err(|error| Refusal::new(&format!("cannot run on CPU {cpu}"), &error))?;
        }
        let descriptors = process::raise_descriptor_limit()
            .map_err(|error| Refusal::new("cannot read the descriptor limit", &error))?;
        fit_descriptors(&mut config, descriptors);
        let signals =
            Signals::open().map_err(|error| Refusal::new("cannot take signals", &error))?;
        let pid_file = args.pid_file.as_deref().map(PidFile::check).transpose()?;
        let access_log = AccessSink::open(config.access_log.as_ref())?;
        let sockets = listen_all(&config)?;
        let mut reactor = Reactor::new().map_err(|error| Refusal::new("no event queue", &error))?;
        let (waker, watched) = (reactor.waker(JOBS_KEY), watch_signals(&reactor, &signals));
        let waker = waker.and_then(|waker| watched.map(|()| waker));
        let waker = waker.map_err(|error| Refusal::new("no event queue", &error))?;
        let start = Start {
            now: reactor.now(),
            net: reactor,
            board: Board::private(),
            seed: seed(),
            connections_max_default: connections_max(descriptors),
        };
        let worker = Worker::new(start, config, sockets)
            .map_err(|error| Refusal::new("cannot watch the listeners", &error))?;
        let mut this = Self {
            worker,
            signals,
            jobs: Background::new(waker),
            config_path: args.config.clone(),
            descriptors,
            quiet: args.quiet,
            loading: false,
            load_again: false,
            known_unresolved: Vec::new(),
            pid_file: None,
            access_log,
            lines_dropped: 0,
        };
        this.resolve_at_start();
        this.pid_file = pid_file.map(PidFile::write).transpose()?;
        info!(
            "weir ready, process {}, at most {} connections",
            std::process::id(),
            this.worker.connections_max()
        );
        Ok(this)
    }

    /// The loop. Its exit code.
    fn serve(&mut self) -> u8 {
        while self.worker.stage() != Stage::Finished {
            if let Err(error) = self.worker.turn() {
                error!("waiting for events failed: {error}");
                return EXIT_CUT;
            }
            if self.worker.take_control() {
                self.on_signals();
                self.on_jobs();
            }
            self.write_access_log();
        }
        match self.worker.cut_sessions() {
            0 => {
                info!("stopped");
                EXIT_OK
            }
            count => {
                warn!("stopped, {count} sessions cut");
                EXIT_CUT
            }
        }
    }

    fn write_access_log(&mut self) {
        let Some(lines) = self.worker.access_lines() else {
            return;
        };
        if !lines.is_empty() {
            let written = self.access_log.write(lines);
            lines.drain(..written);
        }
        let dropped = self.worker.access_lines_dropped();
        if dropped > self.lines_dropped {
            warn!(
                "access log: {} lines dropped, they come faster than they can be written",
                dropped - self.lines_dropped
            );
            self.lines_dropped = dropped;
        }
    }

    fn reopen_access_log(&mut self) {
        self.write_access_log();
        match self.access_log.reopen() {
            Ok(()) => info!("access log reopened"),
            Err(refusal) => error!("{}; writing goes on to the old file", refusal.message),
        }
    }

    fn on_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::Terminate | Signal::Interrupt | Signal::Quit => {
                    if self.worker.stage() == Stage::Serving {
                        self.worker.drain();
                    } else {
                        warn!("asked to stop again: stopping at once");
                        self.worker.stop();
                    }
                }
                Signal::Hangup => self.reload(),
                Signal::User1 => self.reopen_access_log(),
                Signal::User2 => warn!("SIGUSR2 is not used by this version"),
            }
        }
    }

    fn on_jobs(&mut self) {
        while let Some(finished) = self.jobs.next() {
            self.on_finished(finished);
        }
    }

    fn on_finished(&mut self, finished: Finished) {
        match finished {
            Finished::Loaded(outcome) => self.on_loaded(outcome),
            Finished::Resolved(name, addresses) => self.on_resolved(&name, &addresses),
            Finished::Unresolved(name, reason) => self.on_unresolved(name, &reason),
        }
    }

    fn reload(&mut self) {
        if !self.worker.may_adopt() {
            return warn!("reload ignored: stopping");
        }
        if self.loading {
            self.load_again = true;
            return;
        }
        info!("reload: reading {}", self.config_path.display());
        match self.jobs.load(self.config_path.clone()) {
            Ok(()) => self.loading = true,
            Err(error) => error!("reload failed, nothing changed: {error}"),
        }
    }

    fn on_loaded(&mut self, outcome: Result<Compiled, Vec<Problem>>) {
        self.loading = false;
        match outcome {
            Ok(compiled) => {
                for warning in &compiled.warnings {
                    warn!("{warning}");
                }
                if let Err(error) = self.adopt(compiled.config) {
                    error!("reload failed, nothing changed: {error}");
                }
            }
            Err(problems) => {
                for problem in &problems {
                    error!("{problem}");
                }
                error!(
                    "reload failed, nothing changed: {} problems",
                    problems.len()
                );
            }
        }
        if std::mem::take(&mut self.load_again) {
            self.reload();
        }
    }

    /// All new sockets are opened before anything changes.
    fn adopt(&mut self, mut config: Config) -> Result<(), String> {
        if !self.worker.may_adopt() {
            return Err("stopping".to_owned());
        }
        fit_descriptors(&mut config, self.descriptors);
        let mut sockets = Vec::new();
        for settings in &config.listeners {
            sockets.push(if self.worker.listens_for(settings) {
                None
            } else {
                Some(listen(settings).map_err(|refusal| refusal.message)?)
            });
        }
        let access_log = AccessSink::open(config.access_log.as_ref());
        let access_log = access_log.map_err(|refusal| refusal.message)?;
        let level = config.log_level;
        let adopted = self
            .worker
            .adopt(config, sockets, false)
            .map_err(|error| error.to_string())?;
        self.write_access_log();
        self.access_log = access_log;
        set_log_level(level, self.quiet);
        info!(
            "reload done: {} backends added, {} removed; {} listeners added, {} removed",
            adopted.backends_added,
            adopted.backends_removed,
            adopted.listeners_added,
            adopted.listeners_removed
        );
        self.resolve();
        Ok(())
    }

    fn resolve(&mut self) {
        let names = self.worker.unresolved_names();
        self.known_unresolved.retain(|name| names.contains(name));
        if let Err(error) = self.jobs.resolve(names) {
            error!("cannot resolve names: {error}");
        }
    }

    /// Gives the name service a moment, so that the first connections find their backends.
    fn resolve_at_start(&mut self) {
        let awaited = self.worker.unresolved_names().len();
        self.resolve();
        for finished in self.jobs.wait(awaited, RESOLVE_AT_START_MAX) {
            self.on_finished(finished);
        }
    }

    fn on_resolved(&mut self, name: &UnresolvedName, addresses: &[std::net::SocketAddr]) {
        info!("backend name {} resolved: {}", name.host, addresses[0].ip());
        self.known_unresolved.retain(|known| known != name);
        self.worker.on_resolved(name, addresses);
    }

    fn on_unresolved(&mut self, name: UnresolvedName, reason: &str) {
        if self.known_unresolved.contains(&name) {
            return;
        }
        warn!(
            "backend name {} does not resolve: {reason}; it is down and will be tried again",
            name.host
        );
        self.known_unresolved.push(name);
    }
}

fn watch_signals(reactor: &Reactor, signals: &Signals) -> io::Result<()> {
    use std::os::fd::AsFd;
    reactor.watch_control(signals.as_fd(), SIGNALS_KEY)
}

fn listen_all(config: &Config) -> Result<Vec<Listener>, Refusal> {
    config.listeners.iter().map(listen).collect()
}

fn listen(settings: &ListenerSettings) -> Result<Listener, Refusal> {
    let opened = socket::listen(
        &settings.address,
        settings.backlog,
        settings.keepalive.as_ref(),
    );
    let listener = opened.map_err(|error| {
        let hint = if error.kind() == io::ErrorKind::PermissionDenied {
            "; ports below 1024 need CAP_NET_BIND_SERVICE or root"
        } else if error.kind() == io::ErrorKind::AddrInUse {
            "; another program listens there"
        } else {
            ""
        };
        let what = format!(
            "listener {}: cannot listen on {}",
            settings.name, settings.address
        );
        Refusal {
            code: EXIT_BIND,
            message: format!("{what}: {error}{hint}"),
        }
    })?;
    let bound = match (listener.local_address(), &settings.address) {
        (Some(local), _) => local.to_string(),
        (None, address @ (Address::Unix(_) | Address::Ip(_))) => address.to_string(),
    };
    info!("listening on {bound} (listener {})", settings.name);
    Ok(listener)
}

/// Lowers a limit on connections that would let clients take every descriptor. An eighth is left
/// for backend connections: kept clients may share few of them, but none would serve nobody.
fn fit_descriptors(config: &mut Config, descriptors: u64) {
    let possible = descriptors.saturating_sub(DESCRIPTORS_OWN) / 8 * 7;
    let possible = usize::try_from(possible).unwrap_or(usize::MAX).max(1);
    if let Some(wanted) = config.connections_max.filter(|&wanted| wanted > possible) {
        warn!(
            "max_connections: {wanted} is more than the limit of {descriptors} descriptors \
             (ulimit -n) allows: {possible}"
        );
        config.connections_max = Some(possible);
    }
}

/// A relayed connection takes two descriptors.
fn connections_max(descriptors: u64) -> usize {
    let count = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / 2;
    usize::try_from(count).unwrap_or(usize::MAX).max(1)
}

/// A seed for what is drawn, different in every process and at every start.
fn seed() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let nanos = u64::try_from(since.as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
    nanos ^ (u64::from(std::process::id()) << 32)
}

/// Where access log lines go.
enum AccessSink {
    /// Standard output.
    Stdout,
    /// A file that is appended to.
    File(fs::File, PathBuf),
}

impl AccessSink {
    fn open(settings: Option<&AccessLog>) -> Result<Self, Refusal> {
        match settings.and_then(|settings| settings.path.clone()) {
            None => Ok(Self::Stdout),
            Some(path) => {
                let file = fs::File::options().append(true).create(true).open(&path);
                let what = format!("cannot open the access log {}", path.display());
                let file = file.map_err(|error| Refusal::new(&what, &error))?;
                Ok(Self::File(file, path))
            }
        }
    }

    /// Opens the file of that name anew, after someone has moved it away.
    fn reopen(&mut self) -> Result<(), Refusal> {
        if let Self::File(_, path) = self {
            let settings = AccessLog {
                path: Some(path.clone()),
                format: LogFormat::Common,
            };
            *self = Self::open(Some(&settings))?;
        }
        Ok(())
    }

    /// Writes what does not block; how much that was.
    fn write(&mut self, lines: &[u8]) -> usize {
        match self {
            Self::Stdout => write_ready(io::stdout(), lines),
            Self::File(file, _) => write_ready(file, lines),
        }
    }
}

/// A file with the process id, removed at the end.
struct PidFile(PathBuf);

impl PidFile {
    /// Refuses a file that names another weir that runs.
    fn check(path: &Path) -> Result<Self, Refusal> {
        let other = fs::read_to_string(path)
            .ok()
            .and_then(|text| text.trim().parse::<u32>().ok());
        let runs = |pid: u32| {
            pid != std::process::id()
                && fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.trim() == "weir")
        };
        match other {
            Some(pid) if runs(pid) => Err(Refusal {
                code: EXIT_TAKEN,
                message: format!(
                    "{}: process {pid} is another weir that runs",
                    path.display()
                ),
            }),
            _ => Ok(Self(path.to_owned())),
        }
    }

    fn write(self) -> Result<Self, Refusal> {
        let written =
            fs::File::create(&self.0).and_then(|mut file| writeln!(file, "{}", std::process::id()));
        match written {
            Ok(()) => Ok(self),
            Err(error) => Err(Refusal::new(
                &format!("cannot write {}", self.0.display()),
                &error,
            )),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
