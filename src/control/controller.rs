//! The loop of a running weir: what signals, orders, jobs and the service manager ask for, and who
//! is told what came of it. Who serves is behind [`Workforce`].

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use log::{error, info};

use crate::admin;
use crate::admin::errand::Reply;
use crate::admin::outline::Phase;
use crate::background::{Background, Finished};
use crate::cli::{Args, Order};
use crate::config::Source;
use crate::config::model::{AccessLog, Config};
use crate::control::Refusal;
use crate::control::access_sink::AccessSink;
use crate::control::basis::Basis;
use crate::control::changes::Inventory;
use crate::control::credentials::Watch;
use crate::control::desk::Desk;
use crate::control::fixed_settings::FixedSettings;
use crate::control::names::{self, Names};
use crate::control::orphans::Predecessor;
use crate::control::overlay::Overlay;
use crate::control::pid_file::PidFile;
use crate::control::reload::Loaded;
use crate::control::service::Service;
use crate::control::sessions::Inquiry;
use crate::control::state_file::StateFile;
use crate::control::verdict::{Asker, Inbox, Outcome};
use crate::control::workforce::{News, Workforce};
use crate::core::address::{Address, UnresolvedName};
use crate::sys::code_pages;
use crate::sys::notify::Beat;
use crate::sys::signal::{Signal, Signals};

/// How long the start waits for the first answers of the name service.
const RESOLVE_AT_START_MAX: Duration = Duration::from_secs(2);

/// What is under way that excludes others of its kind.
#[derive(Debug, Default)]
pub(super) enum Doing {
    #[default]
    Nothing,
    /// The configuration file is being read, for whoever asked.
    Loading {
        askers: Vec<Asker>,
        /// What was changed by hand is forgotten once it is adopted.
        resets: bool,
    },
    /// Files of `tls` are looked at.
    Looking,
    /// A backend is being added or removed, for whoever asked.
    Editing(Asker, String),
    /// A configuration is being adopted, of which there is something to say besides.
    Adopting(Vec<Asker>, Vec<String>),
    /// Another program is to take the place of this one, or is about to have done so.
    Upgrading(Vec<Asker>),
}

/// Controls whoever serves.
pub(crate) struct Controller {
    pub(super) args: Args,
    pub(super) workforce: Box<dyn Workforce>,
    pub(super) signals: Signals,
    pub(super) inbox: Inbox,
    pub(super) jobs: Background<Loaded>,
    pub(super) minutes: Beat,
    /// Of the configuration that runs, as it was read.
    pub(super) running: Option<Source>,
    /// While `tls` is configured.
    pub(super) watch: Option<Box<Watch>>,
    pub(super) service: Service,
    pub(super) pid_file: Option<PidFile>,
    predecessor: Option<Predecessor>,
    /// What was changed by hand, and where that is kept.
    pub(super) overlay: Overlay,
    pub(super) state: StateFile,
    /// Where callers ask and steer.
    pub(super) desk: Option<Desk>,
    pub(super) names: Names,
    /// As the configuration has it.
    pub(super) access_log: Option<AccessLog>,
    /// Where the listeners of the configuration are.
    pub(super) listening: Vec<Address>,
    /// Given by hand: it counts until the file is read again.
    pub(super) log_level: Option<log::LevelFilter>,
    /// Of the configuration.
    pub(super) inventory: Inventory,
    pub(super) fixed: FixedSettings,
    pub(super) doing: Doing,
    /// What processes are asked for callers, and the number of the last.
    pub(super) inquiries: Vec<Inquiry>,
    pub(super) last_inquiry: u32,
    /// A reload was asked for while something else was under way.
    pub(super) load_again: Option<Vec<Asker>>,
    /// So was an upgrade.
    pub(super) upgrade_later: Option<Vec<Asker>>,
    /// The next reload forgets what was changed by hand, if it is done.
    pub(super) resets: bool,
}

/// What a controller keeps of a configuration.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(super) names: Vec<UnresolvedName>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) listening: Vec<Address>,
    pub(super) log_level: log::LevelFilter,
    pub(super) inventory: Inventory,
    pub(super) fixed: FixedSettings,
    pub(super) seen: admin::outline::Outline,
}

impl Outline {
    pub(crate) fn of(config: &Config) -> Self {
        let listeners = config.listeners.iter();
        Self {
            names: names::of(config),
            access_log: config.access_log.clone(),
            listening: listeners.map(|it| it.address.clone()).collect(),
            log_level: config.log_level,
            inventory: Inventory::of(config),
            fixed: FixedSettings::of(config),
            seen: admin::outline::Outline::of(config),
        }
    }
}

/// Serves until a signal or an order ends it, if it has been started.
#[must_use]
pub(crate) fn run(started: Result<Controller, Refusal>) -> ExitCode {
    match started {
        Ok(mut controller) => ExitCode::from(controller.serve()),
        Err(Refusal { code, message }) => {
            error!("{message}");
            ExitCode::from(code)
        }
    }
}

impl Controller {
    pub(crate) fn new(
        args: &Args,
        basis: Basis,
        outline: Outline,
        workforce: impl Workforce + 'static,
    ) -> Self {
        let mut names = Names::default();
        names.want(outline.names);
        Self {
            args: args.clone(),
            workforce: Box::new(workforce),
            signals: basis.signals,
            inbox: basis.inbox,
            jobs: Background::new(basis.waker),
            minutes: basis.minutes,
            running: None,
            watch: None,
            service: basis.service,
            pid_file: basis.pid_file,
            predecessor: basis.predecessor,
            state: basis.state,
            overlay: basis.overlay,
            desk: basis.desk.map(|desk| desk.furnished(outline.seen)),
            names,
            access_log: outline.access_log,
            listening: outline.listening,
            log_level: None,
            inventory: outline.inventory,
            fixed: outline.fixed,
            doing: Doing::Nothing,
            inquiries: Vec::new(),
            last_inquiry: 0,
            load_again: None,
            upgrade_later: None,
            resets: false,
        }
    }

    /// Lets the workforce begin, once names are looked up.
    pub(crate) fn start(mut self) -> Result<Self, Refusal> {
        self.resolve_at_start();
        self.workforce.start(&self.names)?;
        self.apply_overlay();
        self.hear();
        Ok(self)
    }

    /// The loop. Its exit status.
    fn serve(&mut self) -> u8 {
        code_pages::release();
        let ended = loop {
            match self.workforce.turn() {
                Err(error) => break Err(error),
                Ok(false) => break Ok(()),
                Ok(true) => self.finish_turn(),
            }
        };
        if let Some(desk) = self.desk.take() {
            desk.close();
        }
        self.workforce.finish(ended)
    }

    fn finish_turn(&mut self) {
        self.on_signals();
        self.on_orders();
        self.on_jobs();
        self.on_admin();
        self.on_inquiries();
        self.on_minute();
        self.workforce.settle(&self.names);
        self.hear();
        self.tell_callers();
        if self.workforce.is_well() {
            self.service.on_beat();
        }
    }

    fn on_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::Terminate | Signal::Interrupt | Signal::Quit => self.end(),
                Signal::Hangup => self.load(Vec::new()),
                Signal::User1 => self.reopen_access_log(&[]),
                Signal::User2 => self.upgrade(Vec::new()),
                Signal::Child => self.workforce.on_children(),
                Signal::Stop => {}
            }
        }
    }

    fn on_orders(&mut self) {
        for (order, asker) in self.inbox.take(|| self.jobs.come_back()) {
            match order {
                Order::Reload => self.load(vec![asker]),
                Order::Reopen => self.reopen_access_log(&[asker]),
                Order::Upgrade => self.upgrade(vec![asker]),
                Order::Quit | Order::Stop => self.end_for(asker, order == Order::Stop),
            }
        }
    }

    /// Ends gracefully, or at once, and tells who has ordered it that the end has begun. Waiting
    /// for it is theirs.
    pub(super) fn end_for(&mut self, asker: Asker, at_once: bool) {
        if !self.workforce.is_ending() {
            self.end();
        }
        if at_once {
            self.end();
        }
        self.tell(&[asker], &Outcome::Done("stopping".to_owned()));
    }

    fn on_jobs(&mut self) {
        while let Some(finished) = self.jobs.next() {
            self.on_finished(finished);
        }
    }

    fn on_finished(&mut self, finished: Finished<Loaded>) {
        match finished {
            Finished::Loaded(Loaded::File(loaded)) => self.on_loaded(loaded),
            Finished::Loaded(Loaded::Look(look)) => self.on_looked(look),
            Finished::Loaded(Loaded::Edited(edited)) => self.on_edited(edited),
            Finished::Loaded(Loaded::Shown(ticket, text)) => {
                self.reply(&Asker::Caller(ticket), Reply::Done(text));
            }
            Finished::Resolved(name, addresses) => self.on_resolved(name, addresses),
            Finished::Unresolved(name, reason) => self.names.on_unresolved(name, &reason),
        }
    }

    fn on_resolved(&mut self, name: UnresolvedName, addresses: Vec<SocketAddr>) {
        if let Some((name, addresses)) = self.names.on_resolved(name, addresses) {
            self.workforce.on_resolved(name, addresses);
        }
    }

    /// Hears what the workforce has to tell.
    fn hear(&mut self) {
        while let Some(news) = self.workforce.news() {
            match news {
                News::Serving(words) => self.on_serving(&words),
                News::Adopted(outcome) => self.on_adopted(outcome),
                News::Sessions { pid, ask, part } => self.on_sessions(pid, ask, part),
                News::SuccessorFits => self.make_way(),
                News::Upgraded(outcome) => self.on_upgraded(outcome),
            }
        }
    }

    fn on_serving(&mut self, words: &str) {
        info!("weir ready, process {}, {words}", std::process::id());
        self.service.ready("serving");
        self.set_phase(Phase::Serving);
        let predecessor = self.predecessor.take();
        predecessor.into_iter().for_each(Predecessor::relieve);
    }

    /// Asked to end: gracefully the first time, at once the second.
    fn end(&mut self) {
        if !self.workforce.is_ending() {
            match std::mem::take(&mut self.doing) {
                Doing::Upgrading(askers) => self.refuse_upgrade(&askers, "stopping"),
                other @ (Doing::Nothing
                | Doing::Loading { .. }
                | Doing::Looking
                | Doing::Editing(..)
                | Doing::Adopting(..)) => self.doing = other,
            }
            self.service.stopping();
            self.set_phase(Phase::Ending);
        }
        self.workforce.end();
        if let Doing::Nothing = self.doing {
            self.go_on();
        }
    }

    /// Does what was asked for while something else was under way.
    pub(super) fn go_on(&mut self) {
        if let Some(askers) = self.load_again.take() {
            self.load(askers);
        }
        if let Doing::Nothing = self.doing
            && let Some(askers) = self.upgrade_later.take()
        {
            self.upgrade(askers);
        }
    }

    pub(super) fn resolve(&mut self) {
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

    fn set_phase(&mut self, phase: Phase) {
        if let Some(desk) = &mut self.desk {
            desk.facts_mut().phase = phase;
        }
    }

    pub(super) fn reopen_access_log(&mut self, askers: &[Asker]) {
        let outcome = match AccessSink::open(self.access_log.as_ref()) {
            Ok(sink) => {
                self.workforce.set_access_log(sink);
                info!("access log reopened");
                Outcome::Done("access log reopened".to_owned())
            }
            Err(Refusal { message, .. }) => {
                error!("{message}; writing goes on to the old file");
                Outcome::Refused(message)
            }
        };
        self.tell(askers, &outcome);
    }
}
