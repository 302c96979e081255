//! Whether a configuration can be served here: what a start would find out about this machine once
//! it opens things, found out before it opens any. A test of the file, a start and a reload ask the
//! same questions, so that none of them promises what another breaks.
//!
//! Not known beforehand: whether a port is free and may be bound, and who holds the pid file.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use crate::cli::Args;
use crate::config::model::{Config, Listener};
use crate::config::problem::{Position, Problem, by_place};
use crate::config::{self, Compiled, Source};
use crate::control::credentials::{self, Credentials};
use crate::control::doors::token_problem;
use crate::control::pid_file::PidFile;
use crate::control::state_file;
use crate::control::{
    EXIT_BIND, EXIT_CONFIG, EXIT_USAGE, check_names, excess_connections, is_supervised,
};
use crate::core::address::Address;
use crate::sys::access::{
    Want, barrier, has_room_for_socket, may_append, may_read, require_folder,
};
use crate::sys::privileges::{self, Identity, Unknown};
use crate::sys::{activation, process, syslog};

/// When it is asked, which decides what there is already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A test of the file. Says also what is odd only here and now.
    Test,
    /// Before a start.
    Start,
    /// Before this program takes the place of another that listens.
    Succession,
    /// Before a reload.
    Reload {
        /// Where it listens.
        listening: Vec<Address>,
        /// Whether it serves without a supervisor.
        is_alone: bool,
        /// Whether it has entered its root folder, where neither that folder nor accounts are
        /// found.
        is_inside_root: bool,
    },
}

impl Moment {
    /// Whether the socket of a listener is open.
    fn has(&self, listener: &Listener) -> bool {
        match self {
            Self::Test => false,
            // Which listeners they are for is known once they are taken.
            Self::Start => activation::are_passed(),
            Self::Succession => true,
            Self::Reload { listening, .. } => listening.contains(&listener.address),
        }
    }

    fn is_inside_root(&self) -> bool {
        matches!(
            self,
            Self::Reload {
                is_inside_root: true,
                ..
            }
        )
    }

    /// What is said to who may not read a file of `tls`.
    fn way(&self) -> &'static str {
        match self {
            Self::Test | Self::Start => credentials::way_before_start(),
            Self::Succession => credentials::way(false),
            Self::Reload { is_alone, .. } => credentials::way(*is_alone),
        }
    }

    fn is_before_start(&self) -> bool {
        matches!(self, Self::Test | Self::Start)
    }
}

/// A good configuration, and what was read for it.
#[derive(Debug)]
pub struct Checked {
    /// As it was read.
    pub source: Source,
    /// What it says, with what the files hold that `tls` names.
    pub compiled: Compiled,
    pub(crate) credentials: Credentials,
}

/// Why nothing is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The exit status that tells of it.
    pub code: u8,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// Reads the configuration file of a command line, and looks whether it can be served.
///
/// # Errors
/// Everything that is wrong with the file and the command line, as far as it can be known, with the
/// status of what comes first.
pub fn load(args: &Args, moment: &Moment) -> Result<Checked, Rejection> {
    if matches!(moment, Moment::Reload { .. }) && !may_be_read_again(&args.config) {
        let message = "is no regular file, so it cannot be read again: start weir with a file to \
                       reload from";
        let problem = Problem {
            file: args.config.display().to_string(),
            at: None,
            warning: false,
            message: message.to_owned(),
        };
        let problems = vec![problem];
        let code = EXIT_CONFIG;
        return Err(Rejection { code, problems });
    }
    let (read, errors) = match config::read(&args.config) {
        Ok(read) => (Some(Box::new(read)), Vec::new()),
        Err(flawed) => (flawed.rest, flawed.problems),
    };
    let Some(read) = read else {
        let code = EXIT_CONFIG;
        return Err(Rejection {
            code,
            problems: errors,
        });
    };
    let (source, mut compiled) = *read;
    let folder = args.config.parent().unwrap_or_else(|| Path::new(""));
    let way = moment.way();
    let opened = credentials::read(&compiled, folder, None, way);
    let inspection = Inspection {
        args,
        moment,
        source: &source,
        compiled: &compiled,
        errors: &errors,
        opened: &opened,
    };
    let checks = [
        (EXIT_CONFIG, inspection.problems()),
        (EXIT_USAGE, inspection.problem_of_cpu()),
        (EXIT_BIND, inspection.problem_of_pid_file()),
        (EXIT_BIND, inspection.unfit_admin_files()),
    ];
    if let Some((code, _)) = checks.iter().find(|(_, found)| !found.is_empty()) {
        let code = *code;
        let problems = checks.into_iter().flat_map(|(_, found)| found).collect();
        return Err(Rejection { code, problems });
    }
    let warnings = inspection.warnings();
    compiled.warnings.extend(warnings);
    let credentials = opened.credentials;
    compiled.config.material = credentials.material.clone();
    Ok(Checked {
        source,
        compiled,
        credentials,
    })
}

/// Not of a pipe, which would keep its reader waiting for a writer. What is not there is told of by
/// who reads it.
fn may_be_read_again(path: &Path) -> bool {
    fs::metadata(path).map_or(true, |it| it.is_file() || it.is_dir())
}

/// What is looked at.
struct Inspection<'a> {
    args: &'a Args,
    moment: &'a Moment,
    source: &'a Source,
    /// Where there are errors, what could be understood.
    compiled: &'a Compiled,
    /// Those of the file itself.
    errors: &'a [Problem],
    /// The files that `tls` names.
    opened: &'a credentials::Outcome,
}

impl Inspection<'_> {
    fn config(&self) -> &Config {
        &self.compiled.config
    }

    fn problem(&self, at: Option<Position>, message: String) -> Problem {
        Problem {
            file: self.source.file_name.clone(),
            at,
            warning: false,
            message,
        }
    }

    /// All that is wrong with the file, sorted by place.
    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.errors.to_vec();
        problems.extend(self.too_many_names());
        if !self.moment.is_inside_root() {
            problems.extend(self.unknown_accounts());
            problems.extend(self.missing_root());
        }
        problems.extend(self.closed_access_log());
        problems.extend(self.unfit_sockets());
        problems.extend(self.shared_files());
        let unfit = self.opened.errors.iter().cloned();
        problems.extend(unfit.map(|(at, message)| self.problem(at, message)));
        by_place(&problems)
    }

    fn too_many_names(&self) -> Option<Problem> {
        let reason = check_names(self.args, self.config(), self.is_supervised()).err()?;
        Some(self.problem(self.compiled.positions.names, reason))
    }

    /// Only a supervisor makes way for another program.
    fn is_supervised(&self) -> bool {
        *self.moment == Moment::Succession
    }

    fn unknown_accounts(&self) -> Vec<Problem> {
        let settings = &self.config().privileges;
        let (user, mut group) = (settings.user.as_deref(), settings.group.as_deref());
        let positions = &self.compiled.positions;
        if self.is_wrong(positions.group) {
            // A user who is not listed needs one, and there is to be one.
            group = Some("0");
        }
        let first = privileges::look_up(user, group).err();
        // A group is looked for when its user is found.
        let rest = matches!(first, Some(Unknown::User(_)))
            .then(|| privileges::look_up(None, group).err())
            .flatten();
        let problem = |unknown| {
            let (key, value, at, why) = match unknown {
                Unknown::User(why) => ("user", user, positions.user, why),
                Unknown::Group(why) => ("group", group, positions.group, why),
            };
            let value = value.unwrap_or("auto");
            self.problem(at, format!("`{key}` is {value:?}: {why}"))
        };
        first.into_iter().chain(rest).map(problem).collect()
    }

    /// Whether the value at that place is wrong by itself.
    fn is_wrong(&self, at: Option<Position>) -> bool {
        at.is_some() && self.errors.iter().any(|error| error.at == at)
    }

    fn missing_root(&self) -> Option<Problem> {
        let folder = self.config().privileges.chroot.as_ref()?;
        let reason = match require_folder(folder) {
            Ok(()) => self.closed_root(folder)?,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return None,
            Err(error) => format!("{error}; it must be a folder that is there"),
        };
        let message =
            format!("`chroot` is {folder:?}, which cannot become the root folder: {reason}");
        Some(self.problem(self.compiled.positions.chroot, message))
    }

    /// What keeps workers out of their root folder, which they enter as the user that they become.
    fn closed_root(&self, folder: &Path) -> Option<String> {
        if !self.moment.is_before_start() || !is_supervised(self.args, self.config()) {
            return None;
        }
        let identity = self.identity()?;
        let barrier = barrier(folder, identity.ids(), Want::Search)?;
        let name = identity.name();
        Some(format!(
            "{name} may not enter {barrier:?}; workers must be able to"
        ))
    }

    /// Who root becomes; none where nobody does, or it is not known.
    fn identity(&self) -> Option<Identity> {
        let settings = &self.config().privileges;
        let (user, group) = (settings.user.as_deref(), settings.group.as_deref());
        privileges::identity(user, group).ok()?
    }

    fn closed_access_log(&self) -> Option<Problem> {
        let settings = self.config().access_log.as_ref()?;
        let at = self.compiled.positions.access_log;
        if let Some(daemon) = &settings.syslog {
            let error = syslog::open(daemon).err()?;
            let message = format!(
                "`syslog` is {daemon}, which cannot be reached: {error}; it must be the socket of \
                 a daemon that takes datagrams and may be written to"
            );
            return Some(self.problem(at, message));
        }
        let path = settings.path.as_deref()?;
        // Who is still root follows no link that others may have put there.
        let follows_links = !(self.moment.is_before_start() && privileges::is_root());
        let error = may_append(path, follows_links).err()?;
        let message = format!(
            "`access_log` is {path:?}, which cannot be opened: {error}; it must be a file in a \
             folder that is there and may be written to"
        );
        Some(self.problem(at, message))
    }

    /// Files that a start alone looks at.
    fn unfit_admin_files(&self) -> Vec<Problem> {
        if !self.moment.is_before_start() {
            return Vec::new();
        }
        let (config, positions) = (self.config(), &self.compiled.positions);
        let token = config.admin.token_file.as_deref().and_then(token_problem);
        let state = state_file::problem(&config.state);
        let found = [(positions.token_file, token), (positions.state, state)];
        let problem = |(at, message): (_, Option<String>)| Some(self.problem(at, message?));
        found.into_iter().filter_map(problem).collect()
    }

    fn unfit_sockets(&self) -> Vec<Problem> {
        let missing = self.listeners();
        let missing = missing.filter(|(listener, _)| !self.moment.has(listener));
        let problem = |(listener, at): (&Listener, _)| {
            let Address::Unix(path) = &listener.address else {
                return None;
            };
            let error = has_room_for_socket(path).err()?;
            let message = format!(
                "`listen` is {:?}, where no socket can be made: {error}; it must be in a folder \
                 that is there, and nothing but an old socket may have its name",
                listener.address.to_string()
            );
            Some(self.problem(at, message))
        };
        missing.filter_map(problem).collect()
    }

    fn listeners(&self) -> impl Iterator<Item = (&Listener, Option<Position>)> {
        let positions = self.compiled.positions.listeners.iter().map(|at| Some(*at));
        let positions = positions.chain(std::iter::repeat(None));
        self.config().listeners.iter().zip(positions)
    }

    /// A file that weir writes or makes is for one purpose: it would spoil what is read from it.
    fn shared_files(&self) -> Vec<Problem> {
        let mut seen: HashMap<PathBuf, Use> = HashMap::new();
        let mut problems = Vec::new();
        for own in self.uses() {
            let Some(key) = own.file() else { continue };
            let Some(first) = seen.get(&key) else {
                seen.insert(key, own);
                continue;
            };
            // That two listeners have one address is known by then.
            let is_told = first.path == own.path && self.is_wrong(own.at);
            if !is_told && (first.is_made || own.is_made) {
                let message = format!(
                    "{} and {} are one file, {}; each must have its own",
                    first.what,
                    own.what,
                    key.display()
                );
                problems.push(self.problem(own.at.or(first.at), message));
            }
        }
        problems
    }

    fn uses(&self) -> Vec<Use> {
        let mut uses = vec![Use::new("the configuration", self.args.config.clone())];
        let folder = self.args.config.parent().unwrap_or_else(|| Path::new(""));
        for (page, _) in &self.source.files {
            uses.push(Use::new("an error page", folder.join(page)));
        }
        if let Some(path) = self.args.pid_file.clone() {
            // From inside it is another one than it seems; and a link is replaced.
            if !self.moment.is_inside_root() && !path.is_symlink() {
                uses.push(Use::new("the pid file", path).made(None));
            }
        }
        let settings = self.config().access_log.as_ref();
        if let Some(path) = settings.and_then(|settings| settings.path.clone()) {
            let at = self.compiled.positions.access_log;
            uses.push(Use::new("the access log", path).made(at));
        }
        for (listener, at) in self.listeners() {
            if let Address::Unix(path) = &listener.address {
                let what = format!("the socket of listener {}", listener.name);
                uses.push(Use::new(&what, path.clone()).made(at));
            }
        }
        uses
    }

    fn problem_of_cpu(&self) -> Vec<Problem> {
        let cpu = self.args.cpu.filter(|_| self.moment.is_before_start());
        let error = cpu.and_then(|cpu| Some((cpu, process::may_pin_to_cpu(cpu).err()?)));
        let problem = error.map(|(cpu, error)| {
            let allowed = process::allowed_cpus().unwrap_or_default();
            let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
            of_command_line(format!(
                "cannot run on `--cpu {cpu}`: {error}; allowed are {}",
                allowed.join(", ")
            ))
        });
        problem.into_iter().collect()
    }

    fn problem_of_pid_file(&self) -> Vec<Problem> {
        let path = self.args.pid_file.as_deref();
        let path = path.filter(|_| self.moment.is_before_start());
        let refusal = path.and_then(|path| PidFile::may_write(path).err());
        let problem = refusal.map(|refusal| of_command_line(refusal.message));
        problem.into_iter().collect()
    }

    fn warnings(&self) -> Vec<Problem> {
        let mut found = self.opened.all_warnings();
        found.extend(self.closed_at_reload());
        found.extend(self.closed_at_renewal());
        if *self.moment == Moment::Test {
            found.extend(self.oddities());
        }
        let warning = |(at, message)| {
            let mut problem = self.problem(at, message);
            problem.warning = true;
            problem
        };
        found.into_iter().map(warning).collect()
    }

    /// What root opens at a start, and who it becomes cannot at a reload.
    fn closed_at_reload(&self) -> Vec<(Option<Position>, String)> {
        let Some(identity) = self.identity() else {
            return Vec::new();
        };
        // In another root folder are other files.
        let has_root = self.config().privileges.chroot.is_some();
        let stays_outside = !has_root || is_supervised(self.args, self.config());
        if !self.moment.is_before_start() || !stays_outside {
            return Vec::new();
        }
        let (uid, gid) = identity.ids();
        let name = identity.name();
        let opened = self.opened_at_reload().into_iter();
        let closed = opened.filter_map(|(what, path, at, want)| {
            let barrier = barrier(&path, (uid, gid), want)?;
            let done = match want {
                Want::Write => "written to",
                Want::Read | Want::Search => "read",
            };
            let message = format!(
                "{what} cannot be {done} by user {name} ({uid}:{gid}), whom weir becomes, as {} \
                 is closed to it: a reload will fail",
                barrier.display()
            );
            Some((at, message))
        });
        closed.collect()
    }

    /// What is read for `tls` now, and cannot be once it is renewed.
    fn closed_at_renewal(&self) -> Option<(Option<Position>, String)> {
        let is_alone = !is_supervised(self.args, self.config());
        let has_root = self.config().privileges.chroot.is_some();
        let keeps_all = !is_alone && privileges::may_read_all();
        if !self.moment.is_before_start() || keeps_all || (is_alone && has_root) {
            return None;
        }
        let identity = self.identity();
        let is_closed = |path: &Path| match &identity {
            Some(identity) => barrier(path, identity.ids(), Want::Read).is_some(),
            None => privileges::without_reading(|| may_read(path)).is_err(),
        };
        let closed = self.opened.credentials.closed(is_closed)?;
        let way = credentials::way(is_alone);
        let message = format!("{closed:?} can be read now, but not once it is renewed{way}");
        Some((
            self.compiled.positions.tls.first().map(|file| file.at),
            message,
        ))
    }

    fn opened_at_reload(&self) -> Vec<(String, PathBuf, Option<Position>, Want)> {
        let config = self.args.config.clone();
        let folder = config.parent().unwrap_or_else(|| Path::new(""));
        let positions = &self.compiled.positions;
        let mut seen = HashSet::new();
        let pages = self.source.files.iter().zip(&positions.files);
        let pages = pages.filter(|((page, _), _)| seen.insert(page));
        let pages = pages.map(|((page, _), at)| {
            let what = format!("the error page {page:?}");
            (what, folder.join(page), Some(*at), Want::Read)
        });
        let pages: Vec<_> = pages.collect();
        let settings = self.config().access_log.as_ref();
        let log = settings.and_then(|settings| settings.path.clone());
        let log = log.map(|path| {
            let what = format!("`access_log` is {path:?}, which");
            (what, path, positions.access_log, Want::Write)
        });
        let what = "the file".to_owned();
        let itself = [(what, config, None, Want::Read)];
        itself.into_iter().chain(pages).chain(log).collect()
    }

    /// What a start says itself, by failing or in its log.
    fn oddities(&self) -> Vec<(Option<Position>, String)> {
        let (settings, positions) = (&self.config().privileges, &self.compiled.positions);
        let (user, group) = (settings.user.as_deref(), settings.group.as_deref());
        let other = privileges::identity(user, group).err();
        let is_locked = settings.chroot.is_some() && !privileges::may_enter_root();
        let root = is_locked.then(|| "only root can start with a `chroot`".to_owned());
        let excess = excess_connections(self.config(), process::descriptor_limit());
        let found = [
            (positions.user.or(positions.group), other),
            (positions.chroot, root),
            (positions.connections_max, excess),
        ];
        let found = found.into_iter();
        found
            .filter_map(|(at, message)| Some((at, message?)))
            .collect()
    }
}

fn of_command_line(message: String) -> Problem {
    Problem {
        file: "weir".to_owned(),
        at: None,
        warning: false,
        message,
    }
}

/// What a file is for.
struct Use {
    what: String,
    path: PathBuf,
    /// Whether weir makes it or writes to it.
    is_made: bool,
    at: Option<Position>,
}

impl Use {
    fn new(what: &str, path: PathBuf) -> Self {
        Self {
            what: what.to_owned(),
            path,
            is_made: false,
            at: None,
        }
    }

    fn made(self, at: Option<Position>) -> Self {
        Self {
            is_made: true,
            at,
            ..self
        }
    }

    /// Which file it is, whatever it is called; none for a device, a pipe or what has no folder.
    fn file(&self) -> Option<PathBuf> {
        if let Ok(found) = fs::metadata(&self.path) {
            let kind = found.file_type();
            let is_own = kind.is_file() || kind.is_socket();
            return is_own.then(|| fs::canonicalize(&self.path).ok()).flatten();
        }
        let folder = self.path.parent()?;
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let folder = fs::canonicalize(folder).ok()?;
        Some(folder.join(self.path.file_name()?))
    }
}
