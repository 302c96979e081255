//! One serving process on its own: signals, background jobs and reloads around the loop.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use log::{error, info, warn};

use crate::background::{Background, Finished};
use crate::board::Board;
use crate::cli::{Args, Order};
use crate::config::Compiled;
use crate::config::model::{AccessLog, Config, Listener as ListenerSettings};
use crate::config::problem::Problem;
use crate::control::access_sink::AccessSink;
use crate::control::confine::Confinement;
use crate::control::listen::{is_unix, listen};
use crate::control::orphans::Predecessor;
use crate::control::pid_file::PidFile;
use crate::control::preflight::Moment;
use crate::control::service::Service;
use crate::control::verdict::{Asker, Inbox, Outcome, found, list};
use crate::control::{Refusal, set_log_level, workers_wanted};
use crate::core::address::{Address, UnresolvedName};
use crate::process::serving::Serving;
use crate::process::{connections_max, fit_descriptors, seed};
use crate::reactor::Reactor;
use crate::sys::code_pages;
use crate::sys::privileges::Keep;
use crate::sys::process;
use crate::sys::sandbox::Profile;
use crate::sys::signal::{Signal, Signals};
use crate::sys::socket::Listener;
use crate::worker::{Start, Worker};

/// How long the start waits for the first answers of the name service.
const RESOLVE_AT_START_MAX: Duration = Duration::from_secs(2);

/// Keys of control descriptors.
const SIGNALS_KEY: u32 = 0;
const JOBS_KEY: u32 = 1;
const BEAT_KEY: u32 = 2;
const ORDERS_KEY: u32 = 3;

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

struct Process {
    serving: Serving,
    signals: Signals,
    inbox: Inbox,
    jobs: Background,
    args: Args,
    /// The limit on open descriptors.
    descriptors: u64,
    /// The configuration file is being read, for whoever asked.
    loading: Option<Vec<Asker>>,
    /// It was asked for again meanwhile.
    load_again: Option<Vec<Asker>>,
    /// Names whose failure is already in the log.
    known_unresolved: HashSet<UnresolvedName>,
    pid_file: Option<PidFile>,
    access_log: Option<AccessLog>,
    /// Where the listeners of the configuration are.
    listening: Vec<Address>,
    service: Service,
    confinement: Confinement,
}

impl Process {
    fn start(args: &Args, mut config: Config) -> Result<Self, Refusal> {
        let mut service = Service::from_environment();
        let confinement = Confinement::prepare(&config.privileges)?;
        if let Some(cpu) = args.cpu {
            process::pin_to_cpu(cpu)
                .map_err(|error| Refusal::new(&format!("cannot run on CPU {cpu}"), &error))?;
        }
        let descriptors = process::raise_descriptor_limit()
            .map_err(|error| Refusal::new("cannot read the descriptor limit", &error))?;
        fit_descriptors(&mut config, descriptors);
        let signals =
            Signals::open().map_err(|error| Refusal::new("cannot take signals", &error))?;
        let inbox = Inbox::open();
        let pid_file = args.pid_file.as_deref();
        let predecessor = pid_file.and_then(Predecessor::named_in);
        let pid_file = pid_file.map(PidFile::check).transpose()?;
        let access_settings = config.access_log.clone();
        let listening = addresses(&config);
        let access_log = AccessSink::open_for(confinement.owner(), access_settings.as_ref())?;
        let pid_file = pid_file
            .map(|file| file.create_for(confinement.owner()))
            .transpose()?;
        let mut sockets = service.listeners(&config.listeners)?;
        open_listeners(&config, &mut sockets, is_unix)?;
        confinement.give_up(Keep::BindService)?;
        open_listeners(&config, &mut sockets, |_| true)?;
        let sockets: Vec<Listener> = sockets.into_iter().flatten().collect();
        let mut reactor = Reactor::new().map_err(|error| Refusal::new("no event queue", &error))?;
        let (waker, watched) = (reactor.waker(JOBS_KEY), watch(&reactor, &signals, &inbox));
        let watched = watched.and_then(|()| service.watch(&reactor, BEAT_KEY));
        let waker = waker.and_then(|waker| watched.map(|()| waker));
        let waker = waker.map_err(|error| Refusal::new("no event queue", &error))?;
        let start = Start {
            now: reactor.now(),
            net: reactor,
            board: Board::private(),
            seed: seed(),
            connections_max_default: connections_max(descriptors, 0),
        };
        let worker = Worker::new(start, config, sockets)
            .map_err(|error| Refusal::new("cannot watch the listeners", &error))?;
        let mut this = Self {
            serving: Serving::new(worker, access_log),
            signals,
            inbox,
            jobs: Background::new(waker),
            args: args.clone(),
            descriptors,
            loading: None,
            load_again: None,
            known_unresolved: HashSet::new(),
            pid_file: None,
            access_log: access_settings,
            listening,
            service,
            confinement,
        };
        // Our sockets take connections already, and nobody can be looked for from the sandbox.
        predecessor.into_iter().for_each(Predecessor::relieve);
        this.confinement.enter_sandbox(Profile::Single);
        this.pid_file = pid_file.map(PidFile::write).transpose()?;
        this.resolve_at_start();
        info!(
            "weir ready, process {}, at most {} connections",
            std::process::id(),
            this.serving.worker.connections_max()
        );
        this.service.ready("serving");
        Ok(this)
    }

    /// The loop. Its exit code.
    fn serve(&mut self) -> u8 {
        code_pages::release();
        let ended = loop {
            match self.serving.turn() {
                Err(error) => break Err(error),
                Ok(None) => break Ok(()),
                Ok(Some(is_control)) => {
                    if is_control {
                        self.on_signals();
                        self.on_orders();
                        self.on_jobs();
                        self.service.on_beat();
                    }
                    self.serving.write_access_log();
                }
            }
        };
        self.serving.finish(ended)
    }

    fn reopen_access_log(&mut self, askers: &[Asker]) {
        let outcome = match AccessSink::open(self.access_log.as_ref()) {
            Ok(sink) => {
                self.serving.set_access_log(sink);
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

    fn on_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::Terminate | Signal::Interrupt | Signal::Quit => self.end(),
                Signal::Hangup => self.reload(Vec::new()),
                Signal::User1 => self.reopen_access_log(&[]),
                Signal::User2 => self.refuse_upgrade(&[]),
                Signal::Child => {}
            }
        }
    }

    /// Asked to end: gracefully the first time, at once the second.
    fn end(&mut self) {
        self.service.stopping();
        self.serving.end();
    }

    fn on_orders(&mut self) {
        for (order, asker) in self.inbox.take(|| self.jobs.come_back()) {
            match order {
                Order::Reload => self.reload(vec![asker]),
                Order::Reopen => self.reopen_access_log(&[asker]),
                Order::Upgrade => self.refuse_upgrade(&[asker]),
                Order::Quit | Order::Stop => {
                    if !self.serving.is_ending() {
                        self.end();
                    }
                    if order == Order::Stop {
                        self.end();
                    }
                    self.inbox.tell_end(asker);
                }
            }
        }
    }

    fn refuse_upgrade(&self, askers: &[Asker]) {
        let line = "a process on its own cannot be upgraded in place: that needs `workers`";
        warn!("upgrade refused: {line}");
        self.inbox.tell(askers, &Outcome::Refused(line.to_owned()));
    }

    fn on_jobs(&mut self) {
        while let Some(finished) = self.jobs.next() {
            self.on_finished(finished);
        }
    }

    fn on_finished(&mut self, finished: Finished) {
        match finished {
            Finished::Loaded(outcome) => self.on_loaded(outcome.map(|loaded| loaded.1)),
            Finished::Resolved(name, addresses) => self.on_resolved(name, addresses),
            Finished::Unresolved(name, reason) => self.on_unresolved(name, &reason),
        }
    }

    /// Reads the configuration file, for these processes that want to know the verdict.
    fn reload(&mut self, mut askers: Vec<Asker>) {
        if !self.serving.worker.may_adopt() {
            warn!("reload ignored: stopping");
            let outcome = Outcome::Refused("stopping".to_owned());
            return self.inbox.tell(&askers, &outcome);
        }
        self.service.reloading();
        if self.loading.is_some() {
            self.load_again.get_or_insert_default().append(&mut askers);
            return;
        }
        info!("reload: reading {}", self.args.config.display());
        let moment = Moment::Reload {
            listening: self.listening.clone(),
            is_inside_root: self.confinement.has_root_folder(),
        };
        match self.jobs.load(self.args.clone(), moment) {
            Ok(()) => self.loading = Some(askers),
            Err(error) => {
                error!("reload failed, nothing changed: {error}");
                self.service.reloaded(false);
                let outcome = Outcome::Refused(error.to_string());
                self.inbox.tell(&askers, &outcome);
            }
        }
    }

    fn on_loaded(&mut self, outcome: Result<Compiled, Vec<Problem>>) {
        let askers = self.loading.take().unwrap_or_default();
        let failed = "reload failed, nothing changed";
        let mut listed = None;
        let outcome = match outcome {
            Ok(compiled) => {
                for warning in &compiled.warnings {
                    warn!("{warning}");
                }
                let adopted = self.adopt(compiled.config);
                adopted.map_err(|error| format!("{failed}: {error}"))
            }
            Err(problems) => {
                for problem in &problems {
                    error!("{problem}");
                }
                listed = Some(format!("{failed}: {}", list(&problems)));
                Err(format!("{failed}: {}", found(&problems)))
            }
        };
        let is_done = outcome.is_ok();
        let outcome = match outcome {
            Ok(line) => {
                info!("{line}");
                Outcome::Done(line)
            }
            Err(line) => {
                error!("{line}");
                Outcome::Refused(listed.unwrap_or(line))
            }
        };
        self.inbox.tell(&askers, &outcome);
        code_pages::release();
        if let Some(askers) = self.load_again.take() {
            self.reload(askers);
        } else {
            self.service.reloaded(is_done);
        }
    }

    /// All new sockets are opened before anything changes. What has changed.
    fn adopt(&mut self, mut config: Config) -> Result<String, String> {
        if !self.serving.worker.may_adopt() {
            return Err("stopping".to_owned());
        }
        if workers_wanted(&self.args, &config) > 1 {
            warn!("`workers` counts from the next start on: this process serves on its own");
        }
        fit_descriptors(&mut config, self.descriptors);
        let mut sockets = Vec::new();
        for settings in &config.listeners {
            sockets.push(if self.serving.worker.listens_for(settings) {
                None
            } else {
                Some(listen(settings).map_err(|refusal| refusal.message)?)
            });
        }
        let access_settings = config.access_log.clone();
        let access_log = AccessSink::open(access_settings.as_ref());
        let access_log = access_log.map_err(|refusal| refusal.message)?;
        let level = config.log_level;
        let listening = addresses(&config);
        self.confinement.warn_of_change(&config.privileges);
        // The new configuration may have no access log.
        self.serving.write_access_log();
        let adopted = self
            .serving
            .worker
            .adopt(config, sockets, false)
            .map_err(|error| error.to_string())?;
        self.serving.set_access_log(access_log);
        self.access_log = access_settings;
        self.listening = listening;
        set_log_level(level, self.args.quiet);
        self.resolve();
        Ok(format!(
            "reload done: {} backends added, {} removed; {} listeners added, {} removed",
            adopted.backends_added,
            adopted.backends_removed,
            adopted.listeners_added,
            adopted.listeners_removed
        ))
    }

    fn resolve(&mut self) {
        let names = self.serving.worker.unresolved_names();
        let before = std::mem::take(&mut self.known_unresolved);
        let still = names.iter().filter(|name| before.contains(name));
        self.known_unresolved = still.cloned().collect();
        if let Err(error) = self.jobs.resolve(names) {
            error!("cannot resolve names: {error}");
        }
    }

    /// Gives the name service a moment, so that the first connections find their backends.
    fn resolve_at_start(&mut self) {
        let awaited = self.serving.worker.unresolved_names().len();
        self.resolve();
        for finished in self.jobs.wait(awaited, RESOLVE_AT_START_MAX) {
            self.on_finished(finished);
        }
    }

    fn on_resolved(&mut self, name: UnresolvedName, addresses: Vec<SocketAddr>) {
        info!("backend name {} resolved: {}", name.host, addresses[0].ip());
        self.known_unresolved.remove(&name);
        self.serving.worker.on_resolved(&[(name, addresses)]);
    }

    fn on_unresolved(&mut self, name: UnresolvedName, reason: &str) {
        if self.known_unresolved.contains(&name) {
            return;
        }
        warn!(
            "backend name {} does not resolve: {reason}; it is down and will be tried again",
            name.host
        );
        self.known_unresolved.insert(name);
    }
}

fn addresses(config: &Config) -> Vec<Address> {
    let listeners = config.listeners.iter();
    listeners.map(|it| it.address.clone()).collect()
}

/// Opens those that are not open yet, of the listeners that are meant.
fn open_listeners(
    config: &Config,
    sockets: &mut [Option<Listener>],
    is_meant: impl Fn(&ListenerSettings) -> bool,
) -> Result<(), Refusal> {
    for (settings, socket) in config.listeners.iter().zip(sockets) {
        if socket.is_none() && is_meant(settings) {
            *socket = Some(listen(settings)?);
        }
    }
    Ok(())
}

fn watch(reactor: &Reactor, signals: &Signals, inbox: &Inbox) -> io::Result<()> {
    use std::os::fd::AsFd;
    reactor.watch_control(signals.as_fd(), SIGNALS_KEY)?;
    let orders = inbox.fd();
    orders.map_or(Ok(()), |fd| reactor.watch_control(fd, ORDERS_KEY))
}
