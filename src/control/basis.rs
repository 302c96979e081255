//! What every weir opens for itself before anybody serves.

use std::os::fd::AsFd as _;

use crate::cli::Args;
use crate::config::Source;
use crate::config::model::Config;
use crate::control::access_sink::AccessSink;
use crate::control::confine::Confinement;
use crate::control::desk::{Desk, DeskPlan};
use crate::control::doors::Doors;
use crate::control::listen::warn_of_others;
use crate::control::orphans::Predecessor;
use crate::control::overlay::Overlay;
use crate::control::pid_file::PidFile;
use crate::control::service::Service;
use crate::control::state_file::StateFile;
use crate::control::verdict::Inbox;
use crate::control::{
    ADMIN_KEY, BEAT_KEY, JOBS_KEY, MINUTES_KEY, ORDERS_KEY, Refusal, SIGNALS_KEY, is_supervised,
};
use crate::reactor::{Reactor, Waker};
use crate::sys::notify::Beat;
use crate::sys::process;
use crate::sys::signal::Signals;

/// All of it but the reactor, which belongs to who serves.
#[derive(Debug)]
pub(crate) struct Basis {
    pub(crate) service: Service,
    pub(crate) confinement: Confinement,
    /// The limit on open descriptors.
    pub(crate) descriptors: u64,
    pub(super) signals: Signals,
    pub(super) inbox: Inbox,
    pub(super) waker: Waker,
    /// Fires when the control loop has something to do every minute.
    pub(super) minutes: Beat,
    pub(super) pid_file: Option<PidFile>,
    /// None when nobody is to ask or steer.
    pub(super) desk: Option<Desk>,
    /// Where changes by hand are kept, and what was changed.
    pub(super) state: StateFile,
    pub(super) overlay: Overlay,
    /// Whose workers may still serve, until ours do.
    pub(super) predecessor: Option<Predecessor>,
}

impl Basis {
    /// Opens it while still root, with the access log. The pid file stays empty for now.
    pub(crate) fn open(
        args: &Args,
        config: &Config,
    ) -> Result<(Self, Reactor, AccessSink), Refusal> {
        let service = Service::from_environment();
        let confinement = Confinement::prepare(&config.privileges)?;
        let pid_file = args.pid_file.as_deref();
        let predecessor = pid_file.and_then(Predecessor::named_in);
        let pid_file = pid_file.map(PidFile::check).transpose()?;
        let owner = confinement.owner();
        let access_log = AccessSink::open_for(owner, config.access_log.as_ref())?;
        let pid_file = pid_file.map(|file| file.create_for(owner)).transpose()?;
        if !service.has_sockets() {
            warn_of_others(args, &config.listeners);
        }
        let doors = Doors::open(args, &config.admin, owner)?;
        let plan = DeskPlan::of(config, is_supervised(args, config), args.quiet);
        let (mut this, reactor) = Self::with(service, confinement, Inbox::open())?;
        this.keep_desk(doors, plan, &reactor)?;
        this.pid_file = pid_file;
        this.predecessor = predecessor;
        Ok((this, reactor, access_log))
    }

    /// The same for a program that takes the place of another, which has left some of it.
    pub(crate) fn inherited(
        args: &Args,
        service: Service,
        config: &Config,
        inbox: Inbox,
        pid_file: Option<PidFile>,
    ) -> Result<(Self, Reactor), Refusal> {
        let confinement = Confinement::of_worker(&config.privileges);
        let doors = Doors::inherited(&config.admin);
        let (state, overlay) = StateFile::inherited(args, &config.state);
        let plan = DeskPlan::of(config, true, args.quiet);
        let (mut this, reactor) = Self::with(service, confinement, inbox)?;
        this.keep_desk(doors, plan, &reactor)?;
        this.pid_file = pid_file;
        (this.state, this.overlay) = (state, overlay);
        Ok((this, reactor))
    }

    fn with(
        mut service: Service,
        confinement: Confinement,
        inbox: Inbox,
    ) -> Result<(Self, Reactor), Refusal> {
        let descriptors = process::raise_descriptor_limit()
            .map_err(|error| Refusal::new("cannot read the descriptor limit", &error))?;
        let signals =
            Signals::open().map_err(|error| Refusal::new("cannot take signals", &error))?;
        let watched = Reactor::new().and_then(|mut reactor| {
            let waker = reactor.waker(JOBS_KEY)?;
            let minutes = Beat::stopped()?;
            reactor.watch_control(minutes.as_fd(), MINUTES_KEY)?;
            reactor.watch_control(signals.as_fd(), SIGNALS_KEY)?;
            let orders = inbox.fd();
            orders.map_or(Ok(()), |fd| reactor.watch_control(fd, ORDERS_KEY))?;
            service.watch(&reactor, BEAT_KEY)?;
            Ok((reactor, waker, minutes))
        });
        let (reactor, waker, minutes) =
            watched.map_err(|error| Refusal::new("no event queue", &error))?;
        let this = Self {
            service,
            confinement,
            descriptors,
            signals,
            inbox,
            waker,
            minutes,
            pid_file: None,
            desk: None,
            state: StateFile::default(),
            overlay: Overlay::default(),
            predecessor: None,
        };
        Ok((this, reactor))
    }

    fn keep_desk(
        &mut self,
        doors: Doors,
        plan: DeskPlan,
        reactor: &Reactor,
    ) -> Result<(), Refusal> {
        let desk = Desk::open(doors, plan).and_then(|desk| {
            reactor.watch_control(desk.fd(), ADMIN_KEY)?;
            Ok(desk)
        });
        self.desk = Some(desk.map_err(|error| Refusal::new("no admin door", &error))?);
        Ok(())
    }

    /// Takes the file that keeps what is changed by hand, and what is in it. To be called as the
    /// user that stays, who is to replace it.
    pub(crate) fn open_state(&mut self, args: &Args, config: &Config) -> Result<(), Refusal> {
        (self.state, self.overlay) = StateFile::open(args, &config.state)?;
        Ok(())
    }

    /// Adds and removes backends as was done by hand.
    pub(crate) fn shape(&self, config: &mut Config, source: &Source) {
        self.overlay.shape_or_warn(config, source);
    }

    /// Writes the id of this process into the pid file.
    pub(crate) fn write_pid_file(&mut self) -> Result<(), Refusal> {
        let pid_file = self.pid_file.take();
        self.pid_file = pid_file.map(PidFile::write).transpose()?;
        Ok(())
    }

    /// Ends workers that have lost the supervisor of before.
    pub(crate) fn relieve_predecessor(&mut self) {
        self.predecessor
            .take()
            .into_iter()
            .for_each(Predecessor::relieve);
    }
}
