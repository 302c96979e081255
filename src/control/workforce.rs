//! Who serves, as the controller sees it: the process itself, or workers under a supervisor.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, RawFd};

use crate::board::Board;
use crate::config::Source;
use crate::config::model::Config;
use crate::control::Refusal;
use crate::control::access_sink::AccessSink;
use crate::control::changes::Changes;
use crate::control::credentials::TicketRing;
use crate::control::names::Names;
use crate::control::verdict::{Asker, Outcome};
use crate::core::address::UnresolvedName;
use crate::core::sessions::{SessionQuery, SessionsPart};
use crate::tls::material::TicketKey;

/// Whoever serves, and what can be asked of them.
pub(crate) trait Workforce {
    /// Whether they are workers that others can take the place of.
    fn is_supervised(&self) -> bool;

    /// What is counted in, and what all who serve look at.
    fn board(&self) -> &Board;

    /// What workers count in.
    fn board_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// How many workers there are to be; 0 where there is no supervisor.
    fn workers_wanted(&self) -> u64 {
        0
    }

    /// How often others began to accept for one that did not turn.
    fn rescues(&self) -> u64 {
        0
    }

    /// Begins to serve.
    fn start(&mut self, names: &Names) -> Result<(), Refusal>;

    /// Does what events ask for until the controller is to look at what it waits for. False at
    /// the end, when nothing is left to do.
    fn turn(&mut self) -> io::Result<bool>;

    /// The rest of a turn, after the controller's part.
    fn settle(&mut self, names: &Names);

    /// What the controller is to know.
    fn news(&mut self) -> Option<News>;

    /// Whether all of them turn.
    fn is_well(&self) -> bool;

    /// Something has become of a child.
    fn on_children(&mut self) {}

    /// A name has these addresses.
    fn on_resolved(&mut self, name: UnresolvedName, addresses: Vec<SocketAddr>);

    /// Access log lines go there from now on.
    fn set_access_log(&mut self, access_log: AccessSink);

    /// Session tickets are sealed with the first of these keys from now on, and opened with all.
    fn set_ticket_keys(&mut self, keys: &[TicketKey]);

    /// Adopts a configuration. Everything that can fail is done before anything changes; what
    /// came of it is [`News::Adopted`].
    fn adopt(&mut self, revision: Revision, names: &Names) -> Result<(), String>;

    /// Tries the program that is to take the place of this one. What comes of it are
    /// [`News::SuccessorFits`] or [`News::Upgraded`].
    fn try_successor(&mut self) -> Result<(), String>;

    /// Becomes that program. Returns only when that fails.
    fn make_way(&mut self, _: &Legacy<'_>) -> io::Error {
        io::ErrorKind::Unsupported.into()
    }

    /// Ends what runs on a backend of an upstream, or on all of them.
    fn kick(&mut self, upstream: &str, backend: Option<&str>);

    /// All log from this level up, until they adopt a configuration.
    fn set_log_level(&mut self, _: log::LevelFilter) {}

    /// The processes that have sessions.
    fn processes(&self) -> Vec<u32>;

    /// Asks one of them. Its answer is [`News::Sessions`], if it comes.
    fn ask_sessions(&mut self, pid: u32, ask: u32, query: SessionQuery);

    /// Whether it was asked to end.
    fn is_ending(&self) -> bool;

    /// Asked to end: gracefully the first time, at once the second.
    fn end(&mut self);

    /// The exit status, after the last turn.
    fn finish(&mut self, ended: io::Result<()>) -> u8;
}

/// A configuration to adopt, with all that the controller has opened for it.
#[derive(Debug)]
pub(crate) struct Revision {
    pub(crate) source: Source,
    pub(crate) config: Config,
    pub(crate) access_log: AccessSink,
    pub(crate) changes: Changes,
}

/// What a workforce tells its controller.
#[derive(Debug)]
pub(crate) enum News {
    /// All serve that are to, for the first time; the rest of the line that says so.
    Serving(String),
    /// A configuration has been adopted by all, or not by all.
    Adopted(Outcome),
    /// What a process tells of its sessions, in answer to that number.
    Sessions {
        pid: u32,
        ask: u32,
        part: SessionsPart,
    },
    /// The program that was tried can take the place of this one.
    SuccessorFits,
    /// Another program has taken the place of this one, with a line that says so, or has not, and
    /// why.
    Upgraded(Result<String, String>),
}

/// What the controller leaves to the program that takes its place.
#[derive(Debug)]
pub(crate) struct Legacy<'a> {
    pub(crate) names: &'a Names,
    /// Where `tls` is configured.
    pub(crate) ring: TicketRing,
    pub(crate) pid_file: Option<RawFd>,
    /// Where orders arrive.
    pub(crate) inbox: Option<RawFd>,
    /// Who waits for the verdict.
    pub(crate) askers: &'a [Asker],
    /// Who has asked for a reload meanwhile, if it was asked for.
    pub(crate) load_again: Option<&'a [Asker]>,
    /// What it must find in its environment.
    pub(crate) environment: Vec<(&'static str, String)>,
}
