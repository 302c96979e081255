//! The process at the admin door under a supervisor: it parses what callers say, looks at the
//! board, and hands on what is to be done. It has no right that a worker has not.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::Duration;

use log::error;

use crate::admin::errand::{Errand, Reply, Ticket};
use crate::admin::outline::Outline;
use crate::admin::server::Server;
use crate::admin::view::Seen;
use crate::board::Board;
use crate::config::model::Privileges;
use crate::control::confine::Confinement;
use crate::control::{EXIT_BIND, EXIT_OK, set_log_level, unix_ms};
use crate::reactor::machine_now;
use crate::sys::channel::{Arrival, Channel};
use crate::sys::privileges::Keep;
use crate::sys::sandbox::Profile;
use crate::sys::shm::Mapping;
use crate::sys::signal::Signals;
use crate::sys::{child, code_pages, heap, process};
use crate::wire::admin::{AdminOrder, AdminReport, again, send, understand, understand_kept};

/// Serves until its supervisor ends, or ends it.
#[must_use]
pub fn run() -> ExitCode {
    process::name_process();
    match Attendant::begin().and_then(|attendant| attendant.map_or(Ok(()), Attendant::serve)) {
        Ok(()) => ExitCode::from(EXIT_OK),
        Err(error) => {
            error!("the admin door is not served any more: {error}");
            ExitCode::from(EXIT_BIND)
        }
    }
}

/// After so long without anything to say it has no memory for it.
const QUIET_MIN: Duration = Duration::from_secs(1);

struct Attendant {
    channel: Channel,
    /// Held back: the supervisor says when it is over.
    _signals: Signals,
    server: Server,
    board: Board,
    seen: Seen,
    /// What says what is configured, where that is much: while nobody asks, nothing else does.
    said: Option<File>,
    is_put_away: bool,
}

impl Attendant {
    /// None when the supervisor has ended before.
    fn begin() -> io::Result<Option<Self>> {
        let channel = Channel::from(child::input()?);
        channel.wait()?;
        let packet = match channel.receive() {
            Arrival::Packet(packet) => packet,
            Arrival::Nothing | Arrival::Closed => return Ok(None),
        };
        let (order, descriptors) = understand(packet)?;
        let AdminOrder::Begin {
            rules,
            quiet,
            sandbox,
        } = order
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        set_log_level(log::LevelFilter::Info, quiet);
        let mut descriptors = descriptors.into_iter();
        let board = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
        let server = Server::open(descriptors.collect(), rules)?;
        server.watch_other(channel.as_fd())?;
        let this = Self {
            channel,
            _signals: Signals::open()?,
            server,
            board: observed(&board)?,
            seen: Seen::default(),
            said: None,
            is_put_away: false,
        };
        drop(board);
        confine(sandbox)?;
        Ok(Some(this))
    }

    fn serve(mut self) -> io::Result<()> {
        let mut is_rested = false;
        loop {
            let ready = self.server.wait((!is_rested).then_some(QUIET_MIN))?;
            let is_quiet = Server::is_quiet(&ready);
            if !is_quiet {
                self.fetch()?;
            }
            let view = self.seen.view(&self.board, machine_now(), unix_ms());
            let turned = self.server.serve(&ready, &view);
            for errand in turned.errands {
                self.hand_on(errand);
            }
            if turned.is_other && !self.hear() {
                self.take_leave();
                return Ok(());
            }
            if is_quiet && !is_rested {
                self.rest();
            }
            is_rested = is_quiet;
        }
    }

    /// Gives back the memory that only answering takes: it is idle for most of its life.
    fn rest(&mut self) {
        if self.said.is_some() {
            self.seen.outline = Outline::default();
            self.is_put_away = true;
        }
        self.board.release();
        heap::trim();
        code_pages::release();
    }

    /// Knows again what is configured.
    fn fetch(&mut self) -> io::Result<()> {
        if let (true, Some(file)) = (self.is_put_away, &self.said) {
            if let AdminOrder::Outline(outline) = again(file)? {
                self.seen.outline = outline;
            }
            self.is_put_away = false;
        }
        Ok(())
    }

    fn hand_on(&mut self, errand: Errand) {
        let ticket = errand.ticket;
        if send(&self.channel, &AdminReport::Errand(errand), &[]).is_err() {
            let words = "weir has too much to do at the moment; try again".to_owned();
            self.reply(ticket, &Reply::Crowded(words));
        }
    }

    fn reply(&mut self, ticket: Ticket, reply: &Reply) {
        let view = self.seen.view(&self.board, machine_now(), unix_ms());
        self.server.tell(ticket, reply, &view);
    }

    /// The supervisor has become another program, or ended: who waits for it waits in vain.
    fn take_leave(&mut self) {
        let words = "weir has made way for another program, or ended, before it had answered; \
                     ask again";
        let view = self.seen.view(&self.board, machine_now(), unix_ms());
        let reply = Reply::Crowded(words.to_owned());
        self.server.tell_all(&reply, &view);
    }

    /// Hears what the control loop has to say. False when it has gone.
    fn hear(&mut self) -> bool {
        loop {
            let packet = match self.channel.receive() {
                Arrival::Packet(packet) => packet,
                Arrival::Nothing => return true,
                Arrival::Closed => return false,
            };
            match understand_kept(packet) {
                Ok((AdminOrder::Outline(outline), _, file)) => {
                    self.seen.adopt(outline);
                    self.said = file;
                }
                Ok((AdminOrder::Facts(facts), ..)) => self.seen.facts = facts,
                Ok((AdminOrder::Reply { ticket, reply }, ..)) => self.reply(ticket, &reply),
                Ok((AdminOrder::LogLevel(level), ..)) => set_log_level(level, false),
                Ok((AdminOrder::Begin { .. }, ..)) | Err(_) => {
                    error!("the supervisor says what cannot be understood");
                }
            }
        }
    }
}

fn observed(fd: &OwnedFd) -> io::Result<Board> {
    let memory = Mapping::observe(fd.as_fd())?;
    Board::observe(memory).map_err(|unfit| io::Error::other(unfit.to_string()))
}

fn confine(sandbox: bool) -> io::Result<()> {
    let settings = Privileges {
        user: None,
        group: None,
        chroot: None,
        sandbox,
    };
    let confinement = Confinement::of_worker(&settings);
    let given_up = confinement.give_up(Keep::Nothing);
    given_up.map_err(|refusal| io::Error::other(refusal.message))?;
    confinement.enter_sandbox(Profile::Worker);
    Ok(())
}
