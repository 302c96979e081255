//! Another binary in place of this one, without a lost connection.
//!
//! The new one is tried first: whether it runs and finds the configuration good. Then it takes
//! the place of this program in the same process, inherits every socket, and starts its own
//! workers on them. The workers of before go on until all of the new ones serve; if these do not
//! come up, those of before stay.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd, RawFd};
use std::sync::Arc;

use log::{error, info, warn};

use crate::board::Board;
use crate::cli::{Args, EXIT_SUCCEEDS, RESUME_WORD, SUCCEED_WORD};
use crate::config::Source;
use crate::config::model::WORKERS_MAX;
use crate::control::basis::Basis;
use crate::control::controller::{Controller, Outline};
use crate::control::credentials::{Credentials, TicketRing};
use crate::control::names::Names;
use crate::control::pid_file::PidFile;
use crate::control::preflight::Checked;
use crate::control::service::Service;
use crate::control::succession::Inheritance;
use crate::control::verdict::{Asker, Inbox, senders, with_notes};
use crate::control::workforce::{Legacy, News};
use crate::control::{EXIT_CUT, Refusal, workers_wanted};
use crate::core::text::plural;
use crate::core::time::Tick;
use crate::supervisor::sockets::{HeldSocket, ListenerEntry};
use crate::supervisor::spawn::ManagedWorker;
use crate::supervisor::worker_handle::{WorkerHandle, WorkerPhase};
use crate::supervisor::{FIRST_CHANNEL_KEY, Supervisor, new_board};
use crate::sys::child::{self, WaitStatus};
use crate::sys::privileges::{self, Heir};
use crate::sys::process;
use crate::sys::shm::Mapping;
use crate::sys::socket::ListenerSocket;
use crate::tls::material::Material;
use crate::wire::handover::{Handover, LeftListener, LeftWorker, keep};
use crate::wire::messages::WorkerOrder;

/// How long the new binary may take to find the configuration good.
const CHECK_MAX_MS: u64 = 10_000;
/// How long its workers may take until all serve.
const COME_UP_MAX_MS: u64 = 30_000;
/// How long those of before may take to accept no more.
const LEAVE_MAX_MS: u64 = 10_000;
/// Quick ends of one of them, in a row, after which they count as not coming up.
const COME_UP_TRIES_MAX: u32 = 3;

/// How far an upgrade is.
#[derive(Debug)]
pub(super) enum Upgrade {
    /// There is none.
    No,
    /// The new binary is being tried.
    Checking { pid: u32, until: Tick },
    /// We are the new binary, and our workers come up beside those of before.
    Relieving {
        old: Vec<WorkerHandle>,
        /// How many of them there were to be.
        wanted: usize,
        until: Tick,
    },
    /// Ours serve, and those of before were told to leave.
    Leaving {
        /// Those who may still accept, by key.
        awaited: Vec<u32>,
        until: Tick,
        line: String,
    },
}

impl Upgrade {
    pub(super) fn deadline(&self) -> Option<Tick> {
        match self {
            Self::No => None,
            Self::Checking { until, .. }
            | Self::Relieving { until, .. }
            | Self::Leaving { until, .. } => Some(*until),
        }
    }

    /// The workers of before.
    pub(super) fn old(&self) -> &[WorkerHandle] {
        match self {
            Self::Relieving { old, .. } => old,
            Self::No | Self::Checking { .. } | Self::Leaving { .. } => &[],
        }
    }

    pub(super) fn old_mut(&mut self) -> &mut [WorkerHandle] {
        match self {
            Self::Relieving { old, .. } => old,
            Self::No | Self::Checking { .. } | Self::Leaving { .. } => &mut [],
        }
    }

    /// A worker of before has ended.
    pub(super) fn take_old(&mut self, pid: u32) -> Option<WorkerHandle> {
        let Self::Relieving { old, .. } = self else {
            return None;
        };
        let index = old.iter().position(|worker| worker.pid == pid)?;
        Some(old.swap_remove(index))
    }

    /// Ends it whatever its state; the workers of before.
    pub(super) fn abandon(&mut self) -> Vec<WorkerHandle> {
        match std::mem::replace(self, Self::No) {
            Self::Relieving { old, .. } => old,
            Self::No | Self::Checking { .. } | Self::Leaving { .. } => Vec::new(),
        }
    }
}

// Of the old binary.
impl Supervisor {
    /// Tries the new binary.
    pub(super) fn begin_upgrade(&mut self) -> Result<(), String> {
        if !self.has_served {
            return Err("busy with a start".to_owned());
        }
        self.check_rows(self.workers.len())?;
        info!("upgrade: trying {}", self.program.display());
        let arguments = [SUCCEED_WORD.into(), self.args.config.clone().into()];
        let pid = privileges::pass_on_exec(Heir::Successor)
            .and_then(|()| child::spawn(&self.program, &arguments, None))
            .map_err(|error| format!("the new binary does not run: {error}"));
        withhold_reading();
        let pid = pid?;
        let until = self.now.after_ms(CHECK_MAX_MS);
        self.upgrade = Upgrade::Checking { pid, until };
        Ok(())
    }

    /// Whether it was the new binary being tried that has ended.
    pub(super) fn on_check_end(&mut self, ended: u32, status: WaitStatus) -> bool {
        let is_it = matches!(self.upgrade, Upgrade::Checking { pid, .. } if pid == ended);
        if is_it {
            self.upgrade = Upgrade::No;
            self.news.push_back(if status == WaitStatus::Exited(EXIT_SUCCEEDS.into()) {
                News::SuccessorFits
            } else {
                let what = "the new binary does not accept the configuration, or is no weir that \
                            can take over";
                let how = if matches!(status, WaitStatus::Exited(_)) {
                    "; the log has what it said".to_owned()
                } else {
                    format!(": {status:?}")
                };
                News::Upgraded(Err(format!("{what}{how}")))
            });
        }
        is_it
    }

    /// Becomes the new binary. Returns only when that fails.
    pub(super) fn become_new(&self, legacy: &Legacy<'_>) -> io::Error {
        let left = self.leave(legacy).and_then(|left| left.write());
        let error = match left {
            Err(error) => error,
            Ok(state) => {
                let mut arguments: Vec<OsString> =
                    vec![RESUME_WORD.into(), state.as_raw_fd().to_string().into()];
                arguments.extend(own_arguments());
                info!("upgrade: becoming the new binary");
                match privileges::pass_on_exec(Heir::Successor) {
                    Ok(()) => child::become_program(&self.program, &arguments, &legacy.environment),
                    Err(error) => error,
                }
            }
        };
        withhold_reading();
        if let Err(error) = self.keep_all(false) {
            error!("descriptors may leak into children: {error}");
        }
        error
    }

    fn keep_all(&self, kept: bool) -> io::Result<()> {
        keep(&self.board_fd, kept)?;
        for (_, fd) in self.sockets.all() {
            keep(fd, kept)?;
        }
        let workers = self
            .workers
            .iter()
            .filter_map(|managed| managed.handle.as_ref());
        for worker in workers.chain(&self.leaving) {
            if let Some(channel) = worker.channel() {
                keep(channel, kept)?;
            }
        }
        Ok(())
    }

    fn leave(&self, legacy: &Legacy<'_>) -> io::Result<Handover> {
        self.keep_all(true)?;
        let listeners = self.sockets.entries.iter().map(|entry| LeftListener {
            key: entry.key.clone(),
            address: entry.address.clone(),
            sockets: entry
                .sockets
                .iter()
                .map(|held| (held.at, held.listener.as_fd().as_raw_fd()))
                .collect(),
        });
        let workers = self
            .workers
            .iter()
            .filter_map(|managed| managed.handle.as_ref());
        Ok(Handover {
            board: self.board_fd.as_raw_fd(),
            round: self.round,
            source: self.source.clone(),
            names: legacy.names.known().to_vec(),
            listeners: listeners.collect(),
            next_id: self.sockets.next_id,
            wanted: u32::try_from(self.workers.len()).unwrap_or(0),
            workers: workers.chain(&self.leaving).filter_map(left).collect(),
            pid_file: legacy.pid_file,
            inbox: legacy.inbox,
            started: self.stats.started(),
            askers: senders(legacy.askers),
            load_again: legacy.load_again.map(senders),
            material: self.config.material.clone(),
            ring: (legacy.ring.keys.clone(), legacy.ring.minutes),
        })
    }
}

/// It is for successors: workers and programs that are tried do without.
fn withhold_reading() {
    if let Err(error) = privileges::withhold_reading() {
        error!("workers may have the right to read every file until they serve: {error}");
    }
}

fn left(worker: &WorkerHandle) -> Option<LeftWorker> {
    Some(LeftWorker {
        pid: worker.pid,
        number: u32::try_from(worker.number).ok()?,
        row: worker.row.unwrap_or(0),
        channel: worker.channel()?.as_raw_fd(),
        leaving: worker.phase == WorkerPhase::Leaving,
        stopped: worker.stopped,
        sockets: worker.sockets_given().collect(),
    })
}

/// The arguments that this program was started with, without what only an upgrade adds.
fn own_arguments() -> Vec<OsString> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first() {
        Some(first) if first == RESUME_WORD => arguments[2.min(arguments.len())..].to_vec(),
        _ => arguments,
    }
}

/// Takes the place of an earlier program, which left `state`. Without a configuration goes on with
/// the one of before.
pub(super) fn resume(
    args: &Args,
    state: RawFd,
    checked: Option<Checked>,
) -> Result<Controller, Refusal> {
    let service = Service::from_environment();
    withhold_reading();
    let left = Handover::read(state).map_err(refuse)?;
    let checked = match checked {
        Some(checked) => checked,
        None => {
            error!("going on with the configuration of before");
            go_on(left.source.clone(), left.material.clone())?
        }
    };
    let (source, mut config) = (checked.source, checked.compiled.config);
    let inherit = |number: Option<RawFd>| number.map(child::take_inherited).transpose();
    let inbox = inherit(left.inbox).map_err(refuse)?;
    let inbox = inbox.map_or_else(Inbox::open, Inbox::inherited);
    let pid_file = take_pid_file(args, inherit(left.pid_file).map_err(refuse)?);
    let (basis, reactor) = Basis::inherited(args, service, &config, inbox, pid_file)?;
    basis.shape(&mut config, &source);
    let (board, fd, is_same_board) = take_board(left.board).map_err(refuse)?;
    let outline = Outline::of(&config);
    let mut this = Supervisor::assemble(args, reactor, board, fd, source.clone(), config)?;
    this.stats.go_on_since(left.started);
    this.round = left.round.wrapping_add(1);
    this.sockets.next_id = left.next_id;
    for listener in left.listeners {
        let entry = take_listener(listener).map_err(refuse)?;
        this.sockets.entries.push(entry);
    }
    let old = this.take_workers(left.workers, is_same_board);
    this.upgrade = Upgrade::Relieving {
        old,
        wanted: usize::try_from(left.wanted).unwrap_or(0).min(WORKERS_MAX),
        until: this.now.after_ms(COME_UP_MAX_MS),
    };
    let inheritance = Inheritance {
        names: left.names,
        askers: left.askers.into_iter().map(Asker::Sender).collect(),
        load_again: left
            .load_again
            .map(|askers| askers.into_iter().map(Asker::Sender).collect()),
    };
    let (keys, minutes) = left.ring;
    let mut controller = Controller::new(args, basis, outline, this);
    controller.guard_with(source, checked.credentials, TicketRing { keys, minutes });
    controller.inheriting(inheritance).start()
}

/// The configuration of before, with what was read for it then.
fn go_on(source: Source, material: Arc<Material>) -> Result<Checked, Refusal> {
    let compiled = source.compile();
    let mut compiled = compiled.map_err(|_| refuse(io::ErrorKind::InvalidData.into()))?;
    process::hide_memory();
    compiled.config.material = material.clone();
    Ok(Checked {
        source,
        compiled,
        credentials: Credentials::left(material),
    })
}

fn refuse(error: io::Error) -> Refusal {
    Refusal {
        code: EXIT_CUT,
        message: format!("cannot go on where the program before has ended: {error}"),
    }
}

/// The pid file is no reason to end what serves.
fn take_pid_file(args: &Args, left: Option<OwnedFd>) -> Option<PidFile> {
    let path = args.pid_file.as_deref()?;
    let taken = PidFile::take_over(path, left);
    taken
        .inspect_err(|refusal| warn!("{}", refusal.message))
        .ok()
}

/// The board of before, or a new one where that cannot be read; and whether it is the same.
fn take_board(left: RawFd) -> io::Result<(Board, OwnedFd, bool)> {
    let fd = child::take_inherited(left)?;
    let same = Mapping::attach(fd.as_fd())
        .map_err(|error| error.to_string())
        .and_then(|memory| {
            Board::attach(memory, 0, std::process::id()).map_err(|unfit| unfit.to_string())
        });
    match same {
        Ok(board) => Ok((board, fd, true)),
        Err(reason) => {
            warn!("counters begin anew: {reason}");
            let (board, fd) = new_board()?;
            Ok((board, fd, false))
        }
    }
}

// Of the new binary.
impl Supervisor {
    /// Starts the new workers. What fails here leaves those of before as they are.
    pub(super) fn begin_relieving(&mut self, names: &Names) {
        let count = workers_wanted(&self.args, &self.config);
        // Sockets that are no longer named stay until those of before have gone.
        let prepared = self.check_rows(count).and_then(|()| {
            let opened = self.open_sockets(count, |_| true);
            let prepared = opened.and_then(|()| self.prepare());
            prepared.map_err(|refusal| refusal.message)
        });
        match prepared {
            Ok(()) => self.start_due(names),
            Err(reason) => self.give_up_upgrade(&reason),
        }
        // Whose end was told to the program before is told to nobody again.
        self.hear_of_children();
    }

    fn take_workers(&mut self, workers: Vec<LeftWorker>, is_same_board: bool) -> Vec<WorkerHandle> {
        let mut old = Vec::new();
        for (key, left) in (0..).zip(workers) {
            let channel = match child::take_inherited(left.channel) {
                Ok(channel) => channel,
                Err(error) => {
                    error!(
                        "worker {} is lost, process {}: {error}",
                        left.number, left.pid
                    );
                    continue;
                }
            };
            let watched = self
                .reactor
                .watch_control(channel.as_fd(), FIRST_CHANNEL_KEY + key);
            if let Err(error) = watched {
                error!("worker {} cannot be heard: {error}", left.number);
            }
            let row = Some(left.row).filter(|row| is_same_board && *row > 0);
            let number = usize::try_from(left.number).unwrap_or(0);
            let mut worker =
                WorkerHandle::new(key, left.pid, number, row, channel.into(), self.now);
            worker.stopped = left.stopped;
            worker.set_sockets_given(left.sockets);
            if left.leaving {
                worker.phase = WorkerPhase::Leaving;
                self.leaving.push(worker);
            } else {
                worker.phase = WorkerPhase::Serving;
                old.push(worker);
            }
        }
        old
    }

    pub(super) fn is_upgrading(&self) -> bool {
        matches!(self.upgrade, Upgrade::Relieving { .. })
    }

    /// All new workers serve: those of before may go.
    pub(super) fn end_upgrade(&mut self) {
        if !self.is_upgrading() {
            return;
        }
        let mut old = self.upgrade.abandon();
        let count = old.len();
        // Their copies of the sockets go with them; ours of what is no longer named go now.
        self.sockets.close_unnamed(&self.config);
        for worker in &mut old {
            worker.phase = WorkerPhase::Leaving;
            worker.send(&WorkerOrder::Leave);
        }
        let awaited = old.iter().map(|worker| worker.key).collect();
        self.leaving.append(&mut old);
        let line = format!(
            "upgrade done: weir {} serves with {} worker{}, {count} of before drain{}",
            env!("CARGO_PKG_VERSION"),
            self.workers.len(),
            plural(self.workers.len() == 1),
            plural(count != 1)
        );
        self.upgrade = Upgrade::Leaving {
            awaited,
            until: self.now.after_ms(LEAVE_MAX_MS),
            line,
        };
        self.end_upgrade_if_complete();
    }

    /// A worker of before accepts no more.
    pub(super) fn forget_in_upgrade(&mut self, key: u32) {
        if let Upgrade::Leaving { awaited, .. } = &mut self.upgrade {
            awaited.retain(|it| *it != key);
            self.end_upgrade_if_complete();
        }
    }

    pub(super) fn end_upgrade_if_complete(&mut self) {
        let Upgrade::Leaving {
            awaited,
            until,
            line,
        } = &self.upgrade
        else {
            return;
        };
        let awaited = self.leaving.iter().filter(|it| awaited.contains(&it.key));
        if awaited.clone().all(|it| it.stopped) || *until <= self.now {
            let notes = awaited.map(|it| {
                let how = if it.stopped {
                    "is stopped"
                } else {
                    "does not answer"
                };
                format!("{} of before {how} and leaves when it goes on", it.name())
            });
            let line = with_notes(line, &notes.collect::<Vec<_>>());
            self.upgrade = Upgrade::No;
            self.news.push_back(News::Upgraded(Ok(line)));
        }
    }

    /// Whether it has taken too long, or failed too often.
    pub(super) fn end_upgrade_in_time(&mut self) {
        match &self.upgrade {
            Upgrade::No => {}
            Upgrade::Leaving { .. } => self.end_upgrade_if_complete(),
            Upgrade::Checking { pid, until } => {
                if *until <= self.now {
                    // Its end is heard of later, and means nothing any more.
                    let _ = child::send(*pid, child::Send::Kill);
                    self.upgrade = Upgrade::No;
                    let reason = "the new binary takes too long to check the file";
                    self.news.push_back(News::Upgraded(Err(reason.to_owned())));
                }
            }
            Upgrade::Relieving { until, .. } => {
                let tries = self.workers.iter().map(|managed| managed.quick_ends).max();
                if *until <= self.now || tries.unwrap_or(0) >= COME_UP_TRIES_MAX {
                    self.give_up_upgrade("the new workers do not come up");
                }
            }
        }
    }

    /// Those of before stay.
    fn give_up_upgrade(&mut self, reason: &str) {
        let Upgrade::Relieving { wanted, .. } = self.upgrade else {
            return;
        };
        let reason = format!("{reason}; the workers of before go on");
        self.news.push_back(News::Upgraded(Err(reason)));
        let new = self.workers.drain(..).filter_map(|managed| managed.handle);
        for mut worker in new {
            worker.phase = WorkerPhase::Leaving;
            worker.send(&WorkerOrder::Stop);
            worker.give_up();
            self.leaving.push(worker);
        }
        let old = self.upgrade.abandon();
        let count = old.iter().map(|worker| worker.number + 1).max();
        let count = count.unwrap_or(0).max(wanted);
        self.workers.resize_with(count, ManagedWorker::default);
        for worker in old {
            let number = worker.number;
            self.workers[number].handle = Some(worker);
        }
        for managed in &mut self.workers {
            managed.start_at = Some(self.now);
        }
        self.has_served = true;
        self.share_out_slots();
    }
}

fn take_listener(left: LeftListener) -> io::Result<ListenerEntry> {
    let sockets = left.sockets.into_iter().map(|(at, number)| {
        let fd = child::take_inherited(number)?;
        let listener = ListenerSocket::inherited(fd, &left.address);
        Ok(HeldSocket { at, listener })
    });
    Ok(ListenerEntry {
        sockets: sockets.collect::<io::Result<_>>()?,
        key: left.key,
        address: left.address,
    })
}
