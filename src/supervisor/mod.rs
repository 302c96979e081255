//! The supervisor of several workers: it opens their sockets, starts them, starts them again,
//! gives them configurations, and moves no byte of anybody's data itself.
//!
//! Workers are this program, started anew, each on a CPU of its own, and get everything through
//! one channel (`wire::messages`). What they count and find out they share on the board. The loop
//! is the controller's, whose workforce they are; in its turns the supervisor hears what workers
//! report and what becomes of their processes, and looks at their heartbeats.
//!
//! A managed worker has a number and, one after the other, processes; a worker handle is one of
//! these. Whoever was told to end is managed no more, but leaves.

mod reload;
mod rescue;
mod shutdown;
mod sockets;
mod spawn;
mod stats;
mod upgrade;
mod worker_handle;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;

use log::{debug, error, warn};

use crate::board::{Board, BoardFull, NAMES_MAX, words_within};
use crate::cli::Args;
use crate::config::Source;
use crate::config::model::{AccessLog, Config, Listener as ListenerSettings};
use crate::control::access_sink::AccessSink;
use crate::control::basis::Basis;
use crate::control::controller::{self, Controller, Outline};
use crate::control::credentials;
use crate::control::listen::is_unix;
use crate::control::names::Names;
use crate::control::preflight::Checked;
use crate::control::workforce::{Legacy, News, Revision, Workforce};
use crate::control::{EXIT_BIND, EXIT_CUT, FIRST_FREE_KEY, Refusal, share_memory, workers_wanted};
use crate::core::address::UnresolvedName;
use crate::core::memory_limit::MemoryLimits;
use crate::core::sessions::SessionQuery;
use crate::core::text::plural;
use crate::core::time::Tick;
use crate::net::Net as _;
use crate::reactor::Reactor;
use crate::supervisor::reload::Round;
use crate::supervisor::shutdown::Shutdown;
use crate::supervisor::sockets::Sockets;
use crate::supervisor::spawn::ManagedWorker;
use crate::supervisor::stats::Stats;
use crate::supervisor::upgrade::Upgrade;
use crate::supervisor::worker_handle::{WorkerHandle, WorkerPhase};
use crate::sys::shm::Mapping;
use crate::sys::socket::ListenerSocket;
use crate::sys::{child, memory, process};
use crate::tls::material::TicketKey;
use crate::wire::messages::{WorkerOrder, WorkerReport};

/// Keys of the channels of workers: this one and those that follow.
const FIRST_CHANNEL_KEY: u32 = FIRST_FREE_KEY;

/// Workers that end before any has served, in a row, after which the start has failed.
const START_TRIES_MAX: u32 = 5;

/// Serves with several workers until a signal ends it.
#[must_use]
pub fn run(args: &Args, checked: Checked) -> ExitCode {
    controller::run(start(args, checked))
}

/// Goes on where an earlier program has ended in this process, which left its state under that
/// descriptor's number. Without a configuration goes on with the one of before.
#[must_use]
pub fn resume(args: &Args, state: RawFd, checked: Option<Checked>) -> ExitCode {
    controller::run(upgrade::resume(args, state, checked))
}

/// From nothing.
fn start(args: &Args, checked: Checked) -> Result<Controller, Refusal> {
    let (source, config) = (checked.source, checked.compiled.config);
    let reads_all = credentials::are_wanted(&config);
    let (mut basis, reactor, access_log) = Basis::open(args, &config)?;
    let (board, board_fd) =
        new_board().map_err(|error| Refusal::new("no memory to share with workers", &error))?;
    let mut plain = config.clone();
    let mut this = Supervisor::assemble(args, reactor, board, board_fd, source.clone(), config)?;
    this.access_log = access_log.into_file();
    this.take_sockets(basis.service.listeners(&this.config.listeners)?);
    // Unix sockets while root, as their folders may be root's; the others as who stays.
    this.open_sockets(0, is_unix)?;
    basis.confinement.give_up_as_supervisor(reads_all)?;
    basis.open_state(args, &this.config)?;
    basis.shape(&mut this.config, &source);
    basis.shape(&mut plain, &source);
    let outline = Outline::of(&plain);
    let count = workers_wanted(args, &this.config);
    this.check_rows(count).map_err(|message| Refusal {
        code: EXIT_BIND,
        message,
    })?;
    this.open_sockets(count, |_| true)?;
    basis.write_pid_file()?;
    let mut controller = Controller::new(args, basis, outline, this);
    controller.guard(source, checked.credentials);
    controller.start()
}

/// A board for all workers that there may be, as far as the address space goes: each of them maps
/// all of it.
fn new_board() -> io::Result<(Board, OwnedFd)> {
    let limit = process::address_space_limit();
    let (memory, fd) = Mapping::create(words_within(limit))?;
    let board = Board::create(memory, std::process::id());
    if let Some(limit) = limit
        && board.names() < NAMES_MAX
    {
        warn!(
            "the limit on addresses (RLIMIT_AS) of {} KiB leaves room for {} listeners, upstreams \
             and backends, and {} workers with those that drain",
            limit / 1024,
            board.names(),
            board.rows() - 1
        );
    }
    Ok((board, fd))
}

/// The supervising process.
#[derive(Debug)]
struct Supervisor {
    args: Args,
    memory: MemoryLimits,
    /// Where this program is, to be run again once it has been replaced.
    program: PathBuf,
    reactor: Reactor,
    now: Tick,
    board: Board,
    board_fd: OwnedFd,
    source: Source,
    config: Config,
    /// The number of the configuration.
    round: u32,
    sockets: Sockets,
    /// None when lines go to standard output.
    access_log: Option<File>,
    /// Given by hand; none is that of the configuration.
    log_level: Option<log::LevelFilter>,
    /// None without TLS.
    ticket_keys: Vec<TicketKey>,
    cpus: Vec<usize>,
    workers: Vec<ManagedWorker>,
    /// Workers that were told to end.
    leaving: Vec<WorkerHandle>,
    reload: Option<Round>,
    upgrade: Upgrade,
    shutdown: Option<Shutdown>,
    /// The exit status, once there is nothing left to do.
    ended: Option<u8>,
    /// Whether a worker that was told to end had to cut sessions.
    was_cut: bool,
    has_served: bool,
    /// How often the others began to accept for a worker that did not turn.
    rescues: u64,
    next_look: Tick,
    stats: Stats,
    /// What the controller is to know.
    news: VecDeque<News>,
}

impl Supervisor {
    fn assemble(
        args: &Args,
        reactor: Reactor,
        board: Board,
        board_fd: OwnedFd,
        source: Source,
        mut config: Config,
    ) -> Result<Self, Refusal> {
        let program = child::program_path();
        let program = program.map_err(|error| Refusal::new("cannot start", &error))?;
        let cpus = process::allowed_cpus().unwrap_or_else(|error| {
            warn!("cannot tell the CPUs, workers run on any: {error}");
            Vec::new()
        });
        let now = reactor.now();
        let memory = memory::limits();
        let count = workers_wanted(args, &config);
        share_memory(&mut config, &memory, count);
        Ok(Self {
            args: args.clone(),
            memory,
            program,
            now,
            reactor,
            board,
            board_fd,
            source,
            config,
            round: 0,
            sockets: Sockets::default(),
            access_log: None,
            log_level: None,
            ticket_keys: Vec::new(),
            cpus,
            workers: Vec::new(),
            leaving: Vec::new(),
            reload: None,
            upgrade: Upgrade::No,
            shutdown: None,
            ended: None,
            was_cut: false,
            has_served: false,
            rescues: 0,
            next_look: now,
            stats: Stats::new(now),
            news: VecDeque::new(),
        })
    }

    /// Takes over sockets that the service manager has opened: each is shared by all workers.
    fn take_sockets(&mut self, passed: Vec<Option<ListenerSocket>>) {
        for (settings, listener) in self.config.listeners.iter().zip(passed) {
            if let Some(listener) = listener {
                self.sockets.take(settings, listener);
            }
        }
    }

    /// Opens and keeps what the wanted listeners need with so many workers, and is not there.
    fn open_sockets(
        &mut self,
        workers: usize,
        wanted: impl Fn(&ListenerSettings) -> bool,
    ) -> Result<(), Refusal> {
        let mut config = self.config.clone();
        config.listeners.retain(wanted);
        let slots = u8::try_from(workers).unwrap_or(u8::MAX);
        let slots = slots.max(self.sockets.slots());
        let fresh = self.sockets.open_missing(&config, slots);
        let fresh = fresh.map_err(|message| Refusal {
            code: EXIT_BIND,
            message,
        })?;
        self.sockets.keep(fresh);
        Ok(())
    }

    /// All that workers need before the first one is started, and how many there are to be.
    fn prepare(&mut self) -> Result<(), Refusal> {
        if self.access_log.is_none() {
            self.access_log = open_access_log(self.config.access_log.as_ref())?;
        }
        let published = self.publish(&self.config);
        published.map_err(|full| Refusal {
            code: EXIT_BIND,
            message: full.to_string(),
        })?;
        self.stats.adopt(self.now, self.config.stats_interval);
        self.set_worker_count(workers_wanted(&self.args, &self.config));
        Ok(())
    }

    /// Lists all that is counted; routes only where that leaves half of the room, so that they keep
    /// nobody out who comes by a reload.
    fn publish(&self, config: &Config) -> Result<(), BoardFull> {
        let names = config.column_names();
        let all = [names.clone(), config.route_column_names()].concat();
        let is_half_free = 2 * all.len() <= self.board.names();
        if is_half_free && self.board.publish(&all).is_ok() {
            return Ok(());
        }
        debug!("routes are not counted one by one, to leave room for names");
        self.board.publish(&names)
    }

    /// So many workers there are to be: those that lack are started at once, and the last leave.
    fn set_worker_count(&mut self, count: usize) {
        while self.workers.len() > count {
            if let Some(managed) = self.workers.pop()
                && let Some(mut worker) = managed.handle
            {
                worker.phase = WorkerPhase::Leaving;
                self.leaving.push(worker);
            }
        }
        while self.workers.len() < count {
            self.workers.push(ManagedWorker {
                start_at: Some(self.now),
                ..ManagedWorker::default()
            });
        }
    }

    fn next_deadline(&self) -> Tick {
        let starts = self
            .workers
            .iter()
            .filter_map(|managed| match managed.handle {
                None => managed.start_at,
                Some(_) => None,
            });
        let shutdown = self.shutdown.as_ref().map(Shutdown::deadline);
        let round = self.reload.as_ref().map(Round::deadline);
        let others = shutdown.into_iter().chain(round);
        let others = others.chain(self.upgrade.deadline());
        let others = others.chain(self.stats.deadline());
        starts.chain(others).fold(self.next_look, Tick::min)
    }

    fn on_time(&mut self, names: &Names) {
        self.look_at_beats();
        self.end_round_in_time();
        self.end_upgrade_in_time();
        self.go_on_shutting_down();
        if self.shutdown.is_none() {
            self.give_up_late_starters();
            self.start_due(names);
            self.print_stats_in_time();
        }
    }

    /// Hears what workers say.
    fn on_reports(&mut self) {
        for index in 0..self.workers.len() {
            while let Some(worker) = &mut self.workers[index].handle
                && let Some(report) = worker.next_report()
            {
                let (key, pid) = (worker.key, worker.pid);
                match report {
                    WorkerReport::Sessions { ask, part } => {
                        self.news.push_back(News::Sessions { pid, ask, part });
                    }
                    WorkerReport::Ready => self.on_ready(index),
                    WorkerReport::Asked => self.on_asked(index),
                    WorkerReport::Left => {}
                    WorkerReport::Adopted { round } => self.on_adopted(key, round, Ok(())),
                    WorkerReport::Refused { round, reason } => {
                        self.on_adopted(key, round, Err(reason))
                    }
                }
            }
        }
        let mut left = Vec::new();
        for worker in self.leaving.iter_mut().chain(self.upgrade.old_mut()) {
            while let Some(report) = worker.next_report() {
                match report {
                    WorkerReport::Left => left.push(worker.key),
                    WorkerReport::Sessions { ask, part } => {
                        let pid = worker.pid;
                        self.news.push_back(News::Sessions { pid, ask, part });
                    }
                    WorkerReport::Ready
                    | WorkerReport::Asked
                    | WorkerReport::Adopted { .. }
                    | WorkerReport::Refused { .. } => {}
                }
            }
        }
        for key in left {
            self.on_accepts_no_more(key);
        }
    }

    fn on_ready(&mut self, index: usize) {
        if let Some(worker) = &mut self.workers[index].handle
            && worker.phase == WorkerPhase::Starting
        {
            worker.phase = WorkerPhase::Serving;
            self.on_started_in_round(index);
        }
        self.share_out_slots();
        if self.workers.iter().all(ManagedWorker::serves) {
            self.on_all_ready();
        }
    }

    fn on_all_ready(&mut self) {
        self.end_upgrade();
        if !self.has_served {
            self.has_served = true;
            let s = plural(self.workers.len() == 1);
            let words = format!("{} worker{s}", self.workers.len());
            self.news.push_back(News::Serving(words));
        }
    }

    /// Tells all workers where access log lines go.
    fn give_access_log(&mut self) {
        let file: Vec<_> = self.access_log.iter().map(AsFd::as_fd).collect();
        let running = self.workers.iter_mut().filter_map(|it| it.handle.as_mut());
        let all = running
            .chain(&mut self.leaving)
            .chain(self.upgrade.old_mut());
        for worker in all {
            worker.send_with(&WorkerOrder::AccessLog, &file);
        }
    }
}

impl Workforce for Supervisor {
    fn is_supervised(&self) -> bool {
        true
    }

    fn board(&self) -> &Board {
        &self.board
    }

    fn board_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.board_fd.as_fd())
    }

    fn workers_wanted(&self) -> u64 {
        self.workers.len() as u64
    }

    fn rescues(&self) -> u64 {
        self.rescues
    }

    fn start(&mut self, names: &Names) -> Result<(), Refusal> {
        if self.is_upgrading() {
            self.begin_relieving(names);
            return Ok(());
        }
        self.prepare()?;
        self.start_due(names);
        Ok(())
    }

    fn turn(&mut self) -> io::Result<bool> {
        self.ended = self.exit_code();
        if self.ended.is_some() {
            return Ok(false);
        }
        // Whatever has come is looked for after every wait.
        let until = self.next_deadline();
        self.now = self.reactor.wait(Some(until), &mut Vec::new())?;
        Ok(true)
    }

    fn settle(&mut self, names: &Names) {
        self.on_reports();
        self.on_time(names);
    }

    fn news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    fn is_well(&self) -> bool {
        self.workers.iter().all(ManagedWorker::is_well)
    }

    fn on_children(&mut self) {
        self.hear_of_children();
    }

    fn on_resolved(&mut self, name: UnresolvedName, addresses: Vec<SocketAddr>) {
        self.tell_all(&WorkerOrder::Resolved(name, addresses));
    }

    fn set_ticket_keys(&mut self, keys: &[TicketKey]) {
        self.ticket_keys = keys.to_vec();
        self.tell_all(&WorkerOrder::TicketKeys(keys.to_vec()));
    }

    fn kick(&mut self, upstream: &str, backend: Option<&str>) {
        let order = WorkerOrder::Kick {
            upstream: upstream.to_owned(),
            backend: backend.map(str::to_owned),
        };
        self.tell_all(&order);
        // They have sessions still.
        self.leaving.iter_mut().for_each(|it| it.send(&order));
    }

    fn set_log_level(&mut self, level: log::LevelFilter) {
        self.log_level = Some(level);
        let order = WorkerOrder::LogLevel(level);
        self.tell_all(&order);
        self.leaving.iter_mut().for_each(|it| it.send(&order));
    }

    fn processes(&self) -> Vec<u32> {
        let begun = |it: &&WorkerHandle| it.phase != WorkerPhase::Starting;
        self.all_workers().filter(begun).map(|it| it.pid).collect()
    }

    fn ask_sessions(&mut self, pid: u32, ask: u32, query: SessionQuery) {
        let running = self.workers.iter_mut().filter_map(|it| it.handle.as_mut());
        let mut all = running
            .chain(&mut self.leaving)
            .chain(self.upgrade.old_mut());
        if let Some(worker) = all.find(|it| it.pid == pid) {
            worker.send(&WorkerOrder::Sessions { ask, query });
        }
    }

    fn set_access_log(&mut self, access_log: AccessSink) {
        self.access_log = access_log.into_file();
        self.give_access_log();
    }

    fn adopt(&mut self, revision: Revision, names: &Names) -> Result<(), String> {
        self.adopt_revision(revision, names)
    }

    fn try_successor(&mut self) -> Result<(), String> {
        self.begin_upgrade()
    }

    fn make_way(&mut self, legacy: &Legacy<'_>) -> io::Error {
        self.become_new(legacy)
    }

    fn is_ending(&self) -> bool {
        self.shutdown.is_some()
    }

    fn end(&mut self) {
        self.begin_or_hasten_shutdown();
    }

    fn finish(&mut self, ended: io::Result<()>) -> u8 {
        if let Err(error) = ended {
            error!("waiting for events failed: {error}");
        }
        self.ended.unwrap_or(EXIT_CUT)
    }
}

fn open_access_log(settings: Option<&AccessLog>) -> Result<Option<File>, Refusal> {
    AccessSink::open(settings).map(AccessSink::into_file)
}
