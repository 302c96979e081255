//! Another program in the place of this one, as far as it is the controller's: who asks for it,
//! what is left to it, and who is told.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use log::{error, info};

use crate::control::controller::{Controller, Doing};
use crate::control::credentials::TicketRing;
use crate::control::pid_file::PidFile;
use crate::control::state_file;
use crate::control::verdict::{Asker, Outcome};
use crate::control::workforce::Legacy;
use crate::core::address::UnresolvedName;
use crate::sys::{child, environment, memory_file};
use crate::wire::handover::keep;

/// What the controller of the program before has left.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) names: Vec<(UnresolvedName, Vec<SocketAddr>)>,
    pub(crate) askers: Vec<Asker>,
    pub(crate) load_again: Option<Vec<Asker>>,
}

/// A file that stays open until the other program has it, and what tells that program which.
pub(super) type Left = (OwnedFd, (&'static str, String));

/// Leaves bytes to the program that takes the place of this one, under a variable of its
/// environment.
pub(super) fn leave(variable: &'static str, bytes: &[u8]) -> io::Result<Left> {
    let fd = memory_file::create("weir-left", bytes)?;
    child::keep_over_exec(&fd, true)?;
    let number = fd.as_raw_fd().to_string();
    Ok((fd, (variable, number)))
}

/// What the program before has left under that variable.
pub(super) fn left(variable: &str, bytes_max: u64) -> Option<Vec<u8>> {
    let number = environment::take(variable)?.parse().ok()?;
    memory_file::read(child::take_inherited(number).ok()?, bytes_max).ok()
}

impl Controller {
    /// Goes on where the program before has ended, which was being replaced by this one.
    pub(crate) fn inheriting(mut self, left: Inheritance) -> Self {
        self.names.inherit(left.names);
        self.doing = Doing::Upgrading(left.askers);
        self.load_again = left.load_again;
        self
    }

    /// Tries to make way for another program, for these processes that want to know the verdict.
    /// That waits until files have been read and what they hold is adopted.
    pub(super) fn upgrade(&mut self, mut askers: Vec<Asker>) {
        let tried = match &self.doing {
            _ if self.workforce.is_ending() => Err("stopping".to_owned()),
            Doing::Upgrading(_) => Err("busy with an upgrade".to_owned()),
            Doing::Loading { .. } | Doing::Looking | Doing::Editing(..) | Doing::Adopting(..) => {
                return self
                    .upgrade_later
                    .get_or_insert_default()
                    .append(&mut askers);
            }
            Doing::Nothing => self.workforce.try_successor(),
        };
        match tried {
            Ok(()) => self.doing = Doing::Upgrading(askers),
            Err(reason) => self.refuse_upgrade(&askers, &reason),
        }
    }

    /// Becomes the program that was tried, unless something else has come up meanwhile.
    pub(super) fn make_way(&mut self) {
        let Doing::Upgrading(askers) = std::mem::take(&mut self.doing) else {
            return;
        };
        let left = self.keep_all(true).and_then(|()| self.leave_all());
        let error = match left {
            // Open until the other program has it.
            Ok(left) => self.workforce.make_way(&Legacy {
                names: &self.names,
                ring: self
                    .watch
                    .as_ref()
                    .map_or_else(TicketRing::default, |it| it.ring.clone()),
                pid_file: self.pid_file_fd().map(|fd| fd.as_raw_fd()),
                inbox: self.inbox.fd().map(|fd| fd.as_raw_fd()),
                askers: &askers,
                load_again: self.load_again.as_deref(),
                environment: self.environment(&left),
            }),
            Err(error) => error,
        };
        if let Err(error) = self.keep_all(false) {
            error!("descriptors may leak into children: {error}");
        }
        self.refuse_upgrade(&askers, &format!("the new binary cannot be run: {error}"));
        self.go_on();
    }

    fn keep_all(&self, kept: bool) -> io::Result<()> {
        for fd in self.pid_file_fd().into_iter().chain(self.inbox.fd()) {
            keep(fd, kept)?;
        }
        let desk = self.desk.as_ref();
        desk.map_or(Ok(()), |it| it.doors().keep_over_exec(kept))
    }

    fn leave_all(&self) -> io::Result<Vec<Left>> {
        let token = self.desk.as_ref().and_then(|it| it.doors().leave_token());
        let state = state_file::leave(&self.overlay);
        [Some(state), token].into_iter().flatten().collect()
    }

    /// What the program must find in its environment that takes the place of this one.
    fn environment(&self, left: &[Left]) -> Vec<(&'static str, String)> {
        let doors = self.desk.as_ref().and_then(|it| it.doors().environment());
        self.service
            .environment()
            .into_iter()
            .chain(doors)
            .chain(left.iter().map(|(_, variable)| variable.clone()))
            .collect()
    }

    fn pid_file_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pid_file.as_ref().and_then(PidFile::fd)
    }

    /// Another program has taken the place of this one, or has not.
    pub(super) fn on_upgraded(&mut self, outcome: Result<String, String>) {
        let Doing::Upgrading(askers) = std::mem::take(&mut self.doing) else {
            return;
        };
        match outcome {
            Ok(line) => {
                info!("{line}");
                self.tell(&askers, &Outcome::Done(line));
            }
            Err(reason) => self.refuse_upgrade(&askers, &reason),
        }
        self.go_on();
    }

    pub(super) fn refuse_upgrade(&mut self, askers: &[Asker], reason: &str) {
        let line = format!("upgrade failed: {reason}");
        error!("{line}");
        self.tell(askers, &Outcome::Refused(line));
    }
}
