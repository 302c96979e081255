//! Who serves the admin door: the loop of this process itself or, under a supervisor, a child of
//! its own, as HTTP is not parsed by who may start programs and read keys.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use log::{debug, warn};

use crate::admin::errand::{Errand, Reply, Ticket};
use crate::admin::outline::{Facts, Outline};
use crate::admin::server::Server;
use crate::admin::view::Seen;
use crate::board::Board;
use crate::cli::ADMIN_WORD;
use crate::config::model::Config;
use crate::control::doors::Doors;
use crate::control::unix_ms;
use crate::core::time::Tick;
use crate::reactor::machine_now;
use crate::sys::channel::{Arrival, Channel};
use crate::sys::child;
use crate::sys::door::Poller;
use crate::wire::admin::{AdminOrder, AdminReport, send, understand};

/// A child that ends sooner after its start is not followed by another one at once.
const QUICK_END_MS: u64 = 1_000;

/// Keys of what is waited for.
const SERVER_KEY: u64 = 0;
const CHANNEL_KEY: u64 = 1;

/// The door, and what is to be seen there.
#[derive(Debug)]
pub(crate) struct Desk {
    doors: Doors,
    who: Who,
    /// What tells the control loop that there is something to do here.
    poller: Poller,
    seen: Seen,
    /// What the child was told of the facts.
    told: Facts,
    /// What came of errands, and is not told yet.
    replies: Vec<(Ticket, Reply)>,
    is_quiet: bool,
    is_sandboxed: bool,
}

#[derive(Debug)]
enum Who {
    Nobody,
    Own(Box<Server>),
    Child(Child),
}

#[derive(Debug, Default)]
struct Child {
    /// None while there is none.
    channel: Option<Channel>,
    started: Tick,
}

/// How a desk is to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeskPlan {
    /// By a child, which gets none of the rights of this process.
    pub(crate) by_child: bool,
    pub(crate) is_quiet: bool,
    pub(crate) is_sandboxed: bool,
}

impl DeskPlan {
    pub(crate) fn of(config: &Config, by_child: bool, is_quiet: bool) -> Self {
        Self {
            by_child,
            is_quiet,
            is_sandboxed: config.privileges.sandbox,
        }
    }
}

impl Desk {
    /// For a process on its own all is opened now: later it may not.
    pub(crate) fn open(doors: Doors, plan: DeskPlan) -> io::Result<Self> {
        let poller = Poller::open()?;
        let who = match (doors.are_there(), plan.by_child) {
            (false, _) => Who::Nobody,
            (true, true) => Who::Child(Child::default()),
            (true, false) => {
                let server = Server::open(doors.copies()?, doors.rules.clone())?;
                poller.watch(server.as_fd(), SERVER_KEY)?;
                Who::Own(Box::new(server))
            }
        };
        Ok(Self {
            doors,
            who,
            poller,
            seen: Seen::default(),
            told: Facts::default(),
            replies: Vec::new(),
            is_quiet: plan.is_quiet,
            is_sandboxed: plan.is_sandboxed,
        })
    }

    /// The same, with what is configured at the start.
    pub(super) fn furnished(mut self, outline: Outline) -> Self {
        self.seen.facts = Facts {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_s: unix_ms() / 1000,
            adopted_unix_s: unix_ms() / 1000,
            last_reload_done: true,
            pid: std::process::id().into(),
            ..Facts::default()
        };
        self.set_outline(outline);
        self
    }

    /// Readable when there is something to do.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }

    pub(super) fn outline(&self) -> &Outline {
        &self.seen.outline
    }

    /// How it goes: told to who serves the door by [`Desk::tell_facts`].
    pub(super) fn facts_mut(&mut self) -> &mut Facts {
        &mut self.seen.facts
    }

    pub(super) fn doors(&self) -> &Doors {
        &self.doors
    }

    /// That is configured from now on.
    pub(super) fn set_outline(&mut self, outline: Outline) {
        let round = self.seen.outline.round + 1;
        self.seen.adopt(Outline { round, ..outline });
        self.order(&AdminOrder::Outline(self.seen.outline.clone()));
    }

    /// Starts the child, if it is to be one and is not there.
    pub(super) fn staff(&mut self, board: Option<BorrowedFd<'_>>) {
        let now = machine_now();
        let Who::Child(child) = &mut self.who else {
            return;
        };
        let is_soon =
            child.started != Tick::default() && now.since_ms(child.started) < QUICK_END_MS;
        let (Some(board), None, false) = (board, &child.channel, is_soon) else {
            return;
        };
        child.started = now;
        match self.start(board) {
            Ok(channel) => {
                if let Who::Child(child) = &mut self.who {
                    child.channel = Some(channel);
                }
                self.told = Facts::default();
                self.order(&AdminOrder::Outline(self.seen.outline.clone()));
                self.tell_facts();
                self.tell_log_level();
            }
            Err(error) => warn!("the admin door is not served: {error}"),
        }
    }

    fn start(&self, board: BorrowedFd<'_>) -> io::Result<Channel> {
        let (ours, theirs) = Channel::pair()?;
        self.poller.watch(&ours, CHANNEL_KEY)?;
        let arguments = [ADMIN_WORD.into(), std::process::id().to_string().into()];
        let pid = child::spawn(&child::own_program(), &arguments, Some(theirs.into()))?;
        debug!("the admin door is served by process {pid}");
        let doors = self.doors.copies()?;
        let begin = AdminOrder::Begin {
            rules: self.doors.rules.clone(),
            quiet: self.is_quiet,
            sandbox: self.is_sandboxed,
        };
        let all: Vec<_> = std::iter::once(board)
            .chain(doors.iter().map(|door| door.as_fd()))
            .collect();
        send(&ours, &begin, &all)?;
        Ok(ours)
    }

    /// Tells what has changed of how it goes.
    pub(super) fn tell_facts(&mut self) {
        if self.told != self.seen.facts {
            self.told.clone_from(&self.seen.facts);
            self.order(&AdminOrder::Facts(self.seen.facts.clone()));
        }
    }

    /// Who serves the door logs what this process logs.
    pub(super) fn tell_log_level(&mut self) {
        self.order(&AdminOrder::LogLevel(log::max_level()));
    }

    fn order(&mut self, order: &AdminOrder) {
        let Who::Child(child) = &mut self.who else {
            return;
        };
        let Some(channel) = &child.channel else {
            return;
        };
        if let Err(error) = send(channel, order, &[]) {
            warn!("who serves the admin door cannot be told anything: {error}; starting anew");
            child.channel = None;
        }
    }

    /// Serves callers as far as it goes without waiting; what is to be done for them. `come_back`
    /// is called when more may be there: of that was told already.
    pub(super) fn turn(&mut self, board: &Board, come_back: impl FnOnce()) -> Vec<Errand> {
        match &mut self.who {
            Who::Nobody => Vec::new(),
            Who::Child(child) => child.errands(),
            Who::Own(server) => {
                let Ok(ready) = server.wait(Some(Duration::ZERO)) else {
                    return Vec::new();
                };
                if ready.is_empty() {
                    return Vec::new();
                }
                let view = self.seen.view(board, machine_now(), unix_ms());
                let turned = server.serve(&ready, &view);
                come_back();
                turned.errands
            }
        }
    }

    /// That came of an errand; told by [`Desk::tell`].
    pub(super) fn note(&mut self, ticket: Ticket, reply: Reply) {
        self.replies.push((ticket, reply));
    }

    /// Tells callers what came of their errands.
    pub(super) fn tell(&mut self, board: &Board) {
        for (ticket, reply) in std::mem::take(&mut self.replies) {
            match &mut self.who {
                Who::Own(server) => {
                    let view = self.seen.view(board, machine_now(), unix_ms());
                    server.tell(ticket, &reply, &view);
                }
                Who::Child(_) => self.order(&AdminOrder::Reply { ticket, reply }),
                Who::Nobody => {}
            }
        }
    }

    /// Closes the doors for good.
    pub(super) fn close(self) {
        self.doors.close();
    }
}

impl Child {
    /// What it has heard of.
    fn errands(&mut self) -> Vec<Errand> {
        let mut errands = Vec::new();
        while let Some(channel) = &self.channel {
            match channel.receive() {
                Arrival::Nothing => break,
                Arrival::Packet(packet) => match understand(packet) {
                    Ok((AdminReport::Errand(errand), _)) => errands.push(errand),
                    Err(error) => warn!("who serves the admin door says what is none: {error}"),
                },
                Arrival::Closed => {
                    warn!("who served the admin door has ended; another one is started");
                    self.channel = None;
                }
            }
        }
        errands
    }
}
