//! The supervisor of several workers: it opens their sockets, starts them, starts them again,
//! gives them configurations, and moves no byte of anybody's data itself.
//!
//! Workers are this program, started anew, each on a CPU of its own, and get everything through
//! one channel (`messages`). What they count and find out they share on the board. The loop of
//! the supervisor waits for signals, for what workers say, and for the next look at their
//! heartbeats.

mod ending;
mod member;
mod reload;
mod rescue;
mod sockets;
mod spawn;
mod stats;
mod upgrade;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use log::{error, info, warn};

use crate::background::{Background, Finished};
use crate::board::{Board, WORDS};
use crate::cli::{self, Args};
use crate::config::Source;
use crate::config::model::{AccessLog, Config, Listener as ListenerSettings};
use crate::control::access_sink::{AccessSink, open_file};
use crate::control::confine::Confinement;
use crate::control::listen::is_unix;
use crate::control::names::Names;
use crate::control::orphans::Predecessor;
use crate::control::pid_file::PidFile;
use crate::control::service::Service;
use crate::control::verdict::{Asker, Inbox, Outcome};
use crate::control::{EXIT_BIND, EXIT_CUT, Refusal, workers_wanted};
use crate::core::time::Tick;
use crate::net::Net as _;
use crate::reactor::{Reactor, Waker};
use crate::supervisor::ending::Ending;
use crate::supervisor::member::{Member, Phase};
use crate::supervisor::reload::Round;
use crate::supervisor::sockets::Sockets;
use crate::supervisor::spawn::Seat;
use crate::supervisor::stats::Stats;
use crate::supervisor::upgrade::Upgrade;
use crate::sys::shm::Mapping;
use crate::sys::signal::{Signal, Signals};
use crate::sys::socket::Listener;
use crate::sys::{child, code_pages, process};
use crate::wire::messages::{Answer, Order};

/// Keys of control descriptors: these, then one for each channel.
const SIGNALS_KEY: u32 = 0;
const JOBS_KEY: u32 = 1;
const BEAT_KEY: u32 = 2;
const ORDERS_KEY: u32 = 3;
const FIRST_CHANNEL_KEY: u32 = 4;

/// How long the start waits for the first answers of the name service.
const RESOLVE_AT_START_MAX: Duration = Duration::from_secs(2);
/// Workers that end before any has served, in a row, after which the start has failed.
const START_TRIES_MAX: u32 = 5;

/// Serves with several workers until a signal ends it.
#[must_use]
pub fn run(args: &Args, source: Source, config: Config) -> ExitCode {
    serve(Supervisor::start(args, source, config))
}

/// Goes on where an earlier program has ended in this process, which left its state under that
/// descriptor's number. Without a configuration goes on with the one of before.
#[must_use]
pub fn resume(args: &Args, state: RawFd, loaded: Option<(Source, Config)>) -> ExitCode {
    serve(Supervisor::resume(args, state, loaded))
}

fn serve(started: Result<Supervisor, Refusal>) -> ExitCode {
    match started {
        Ok(mut supervisor) => ExitCode::from(supervisor.serve()),
        Err(Refusal { code, message }) => {
            error!("{message}");
            ExitCode::from(code)
        }
    }
}

/// The supervising process.
struct Supervisor {
    args: Args,
    /// Where this program is, to be run again once it has been replaced.
    program: PathBuf,
    reactor: Reactor,
    now: Tick,
    signals: Signals,
    inbox: Inbox,
    jobs: Background,
    board: Board,
    board_fd: OwnedFd,
    source: Source,
    config: Config,
    /// The number of the configuration.
    round: u32,
    sockets: Sockets,
    names: Names,
    /// None when lines go to standard output.
    access_log: Option<File>,
    cpus: Vec<usize>,
    seats: Vec<Seat>,
    /// Workers that were told to end.
    others: Vec<Member>,
    /// The configuration file is being read, for whoever asked.
    loading: Option<Vec<Asker>>,
    /// It was asked for again meanwhile.
    load_again: Option<Vec<Asker>>,
    reload: Option<Round>,
    upgrade: Upgrade,
    ending: Option<Ending>,
    /// Whether a worker that was told to end had to cut sessions.
    was_cut: bool,
    has_served: bool,
    next_look: Tick,
    stats: Stats,
    pid_file: Option<PidFile>,
    /// Whose workers may still serve, until ours do.
    predecessor: Option<Predecessor>,
    service: Service,
    confinement: Confinement,
}

impl Supervisor {
    /// From nothing.
    fn start(args: &Args, source: Source, config: Config) -> Result<Self, Refusal> {
        let mut service = Service::from_environment();
        let confinement = Confinement::prepare(&config.privileges)?;
        let pid_file = args.pid_file.as_deref();
        let predecessor = pid_file.and_then(Predecessor::named_in);
        let pid_file = pid_file.map(PidFile::check).transpose()?;
        let owner = confinement.owner();
        let pid_file = pid_file.map(|file| file.create_for(owner)).transpose()?;
        let access_log = AccessSink::open_for(owner, config.access_log.as_ref())?;
        let (memory, board_fd) = Mapping::create(WORDS)
            .map_err(|error| Refusal::new("no memory to share with workers", &error))?;
        let board = Board::create(memory, std::process::id());
        let basis = Basis::open(Inbox::open())?;
        let mut this = Self::assemble(args, basis, board, board_fd, source, config);
        this.predecessor = predecessor;
        this.access_log = access_log.into_file();
        this.take_sockets(service.listeners(&this.config.listeners)?);
        // Unix sockets while root, as their folders may be root's; the others as who stays.
        this.open_sockets(0, is_unix)?;
        confinement.give_up_as_supervisor()?;
        this.open_sockets(workers_wanted(args, &this.config), |_| true)?;
        this.confinement = confinement;
        this.set_service(service)?;
        this.prepare()?;
        this.pid_file = pid_file.map(PidFile::write).transpose()?;
        this.start_due();
        Ok(this)
    }

    fn assemble(
        args: &Args,
        basis: Basis,
        board: Board,
        board_fd: OwnedFd,
        source: Source,
        config: Config,
    ) -> Self {
        let now = basis.reactor.now();
        let confinement = Confinement::of_worker(&config.privileges);
        Self {
            args: args.clone(),
            program: basis.program,
            now,
            reactor: basis.reactor,
            signals: basis.signals,
            inbox: basis.inbox,
            jobs: Background::new(basis.waker),
            board,
            board_fd,
            source,
            config,
            round: 0,
            sockets: Sockets::default(),
            names: Names::default(),
            access_log: None,
            cpus: basis.cpus,
            seats: Vec::new(),
            others: Vec::new(),
            loading: None,
            load_again: None,
            reload: None,
            upgrade: Upgrade::No,
            ending: None,
            was_cut: false,
            has_served: false,
            next_look: now,
            stats: Stats::new(now),
            pid_file: None,
            predecessor: None,
            service: Service::default(),
            confinement,
        }
    }

    /// Speaks to the service manager from now on.
    fn set_service(&mut self, mut service: Service) -> Result<(), Refusal> {
        let watched = service.watch(&self.reactor, BEAT_KEY);
        watched.map_err(|error| Refusal::new("no watchdog timer", &error))?;
        self.service = service;
        Ok(())
    }

    /// Takes over sockets that the service manager has opened: each is shared by all workers.
    fn take_sockets(&mut self, passed: Vec<Option<Listener>>) {
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

    /// All that workers need before the first one is started, and a seat for each.
    fn prepare(&mut self) -> Result<(), Refusal> {
        if self.access_log.is_none() {
            self.access_log = open_access_log(self.config.access_log.as_ref())?;
        }
        let published = self.board.publish(&self.config.column_names());
        published.map_err(|full| Refusal {
            code: EXIT_BIND,
            message: full.to_string(),
        })?;
        self.names.adopt(&self.config);
        self.resolve_at_start();
        self.stats.adopt(self.now, self.config.stats_interval);
        self.set_seats(workers_wanted(&self.args, &self.config));
        Ok(())
    }

    /// Makes so many seats, those that are new to be filled at once. Who sits on others leaves.
    fn set_seats(&mut self, count: usize) {
        while self.seats.len() > count {
            if let Some(seat) = self.seats.pop()
                && let Some(mut member) = seat.member
            {
                member.phase = Phase::Leaving;
                self.others.push(member);
            }
        }
        while self.seats.len() < count {
            self.seats.push(Seat {
                start_at: Some(self.now),
                ..Seat::default()
            });
        }
    }

    /// The loop. Its exit code.
    fn serve(&mut self) -> u8 {
        code_pages::release();
        let mut fired = Vec::new();
        loop {
            if let Some(code) = self.exit_code() {
                return code;
            }
            fired.clear();
            match self.reactor.wait(Some(self.next_deadline()), &mut fired) {
                Ok(now) => self.now = now,
                Err(error) => {
                    error!("waiting for events failed: {error}");
                    return EXIT_CUT;
                }
            }
            self.on_signals();
            self.on_orders();
            while let Some(finished) = self.jobs.next() {
                self.on_finished(finished);
            }
            self.on_answers();
            self.on_time();
            // Only while every worker turns.
            if self.seats.iter().all(Seat::is_well) {
                self.service.on_beat();
            }
        }
    }

    fn next_deadline(&self) -> Tick {
        let starts = self.seats.iter().filter_map(|seat| match seat.member {
            None => seat.start_at,
            Some(_) => None,
        });
        let ending = self.ending.as_ref().map(Ending::deadline);
        let round = self.reload.as_ref().map(Round::deadline);
        let others = ending.into_iter().chain(round);
        let others = others.chain(self.upgrade.deadline());
        let others = others.chain(self.stats.deadline());
        starts.chain(others).fold(self.next_look, Tick::min)
    }

    fn on_time(&mut self) {
        self.look_at_beats();
        self.end_round_in_time();
        self.end_upgrade_in_time();
        self.go_on_ending();
        if self.ending.is_none() {
            self.give_up_late_starters();
            self.start_due();
            self.print_stats_in_time();
        }
    }

    fn on_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::Terminate | Signal::Interrupt | Signal::Quit => self.end(),
                Signal::Hangup => self.load(Vec::new()),
                Signal::User1 => self.reopen_access_log(&[]),
                Signal::User2 => self.check_upgrade(Vec::new()),
                Signal::Child => self.on_children(),
            }
        }
    }

    fn on_orders(&mut self) {
        for (order, asker) in self.inbox.take(|| self.jobs.come_back()) {
            match order {
                cli::Order::Reload => self.load(vec![asker]),
                cli::Order::Reopen => self.reopen_access_log(&[asker]),
                cli::Order::Upgrade => self.check_upgrade(vec![asker]),
                cli::Order::Quit | cli::Order::Stop => {
                    if self.ending.is_none() {
                        self.end();
                    }
                    if order == cli::Order::Stop {
                        self.end();
                    }
                    self.inbox.tell_end(asker);
                }
            }
        }
    }

    fn on_finished(&mut self, finished: Finished) {
        match finished {
            Finished::Loaded(outcome) => self.on_loaded(outcome),
            Finished::Resolved(name, addresses) => {
                if let Some((name, addresses)) = self.names.on_resolved(name, addresses) {
                    self.tell_all(&Order::Resolved(name, addresses));
                }
            }
            Finished::Unresolved(name, reason) => self.names.on_unresolved(name, &reason),
        }
    }

    /// Hears what workers say.
    fn on_answers(&mut self) {
        for index in 0..self.seats.len() {
            while let Some(member) = &mut self.seats[index].member
                && let Some(answer) = member.answer()
            {
                let key = member.key;
                match answer {
                    Answer::Ready => self.on_ready(index),
                    Answer::Asked => self.on_asked(index),
                    Answer::Left => {}
                    Answer::Adopted { round, adopted } => self.on_adopted(key, round, Ok(adopted)),
                    Answer::Refused { round, reason } => self.on_adopted(key, round, Err(reason)),
                }
            }
        }
        let mut left = Vec::new();
        for member in self.others.iter_mut().chain(self.upgrade.old_mut()) {
            while let Some(answer) = member.answer() {
                if answer == Answer::Left {
                    left.push(member.key);
                }
            }
        }
        for key in left {
            self.on_accepts_no_more(key);
        }
    }

    fn on_ready(&mut self, index: usize) {
        if let Some(member) = &mut self.seats[index].member
            && member.phase == Phase::Starting
        {
            member.phase = Phase::Serving;
            self.on_started_in_round(index);
        }
        self.share_out_slots();
        if self.seats.iter().all(Seat::serves) {
            self.on_all_ready();
        }
    }

    fn on_all_ready(&mut self) {
        self.end_upgrade();
        if !self.has_served {
            self.has_served = true;
            info!(
                "weir ready, process {}, {} workers",
                std::process::id(),
                self.seats.len()
            );
            self.service.ready("serving");
            self.predecessor
                .take()
                .into_iter()
                .for_each(Predecessor::relieve);
        }
    }

    fn resolve(&mut self) {
        if let Err(error) = self.jobs.resolve(self.names.unresolved()) {
            error!("cannot resolve names: {error}");
        }
    }

    /// Gives the name service a moment, so that the first connections find their backends.
    fn resolve_at_start(&mut self) {
        let awaited = self.names.unresolved().len();
        self.resolve();
        for finished in self.jobs.wait(awaited, RESOLVE_AT_START_MAX) {
            self.on_finished(finished);
        }
    }

    fn reopen_access_log(&mut self, askers: &[Asker]) {
        let outcome = match open_access_log(self.config.access_log.as_ref()) {
            Ok(file) => {
                self.access_log = file;
                self.give_access_log();
                info!("access log reopened");
                Outcome::Done("access log reopened".to_owned())
            }
            Err(Refusal { message, .. }) => {
                error!("{message}; writing goes on to the old file");
                Outcome::Refused(message)
            }
        };
        self.inbox.tell(askers, &outcome);
    }

    /// Tells all workers where access log lines go.
    fn give_access_log(&mut self) {
        let file: Vec<_> = self.access_log.iter().map(AsFd::as_fd).collect();
        let seated = self.seats.iter_mut().filter_map(|it| it.member.as_mut());
        let all = seated.chain(&mut self.others).chain(self.upgrade.old_mut());
        for member in all {
            member.send_with(&Order::AccessLog, &file);
        }
    }
}

/// What every supervisor opens for itself.
struct Basis {
    program: PathBuf,
    cpus: Vec<usize>,
    signals: Signals,
    inbox: Inbox,
    reactor: Reactor,
    waker: Waker,
}

impl Basis {
    fn open(inbox: Inbox) -> Result<Self, Refusal> {
        process::raise_descriptor_limit()
            .map_err(|error| Refusal::new("cannot read the descriptor limit", &error))?;
        let refuse = |error: io::Error| Refusal::new("cannot start", &error);
        let signals = Signals::open().map_err(refuse)?;
        let mut reactor = Reactor::new().map_err(refuse)?;
        let waker = reactor.waker(JOBS_KEY).map_err(refuse)?;
        let watched = reactor.watch_control(signals.as_fd(), SIGNALS_KEY);
        watched.map_err(refuse)?;
        let orders = inbox.fd();
        let watched = orders.map_or(Ok(()), |fd| reactor.watch_control(fd, ORDERS_KEY));
        watched.map_err(refuse)?;
        let cpus = process::allowed_cpus().unwrap_or_else(|error| {
            warn!("cannot tell the CPUs, workers run on any: {error}");
            Vec::new()
        });
        Ok(Self {
            program: child::program_path().map_err(refuse)?,
            cpus,
            signals,
            inbox,
            reactor,
            waker,
        })
    }
}

fn open_access_log(settings: Option<&AccessLog>) -> Result<Option<File>, Refusal> {
    let path = settings.and_then(|settings| settings.path.as_deref());
    path.map(open_file).transpose()
}
