//! Starting workers, and starting them again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use log::{error, info, warn};

use crate::cli::WORKER_WORD;
use crate::control::names::Names;
use crate::core::time::Tick;
use crate::supervisor::worker_handle::{WorkerHandle, WorkerPhase};
use crate::supervisor::{FIRST_CHANNEL_KEY, Supervisor};
use crate::sys::channel::Channel;
use crate::sys::child::{self, WaitStatus};
use crate::wire::bundle::Bundle;
use crate::wire::messages::WorkerOrder;

/// A worker that ends sooner than this after its start counts as one that does not come up.
const QUICK_END_MS: u64 = 1_000;
/// Quick ends in a row after which there is no pause yet.
const QUICK_ENDS_FREE: u32 = 2;
/// The first pause before another start; it doubles.
const PAUSE_FIRST_MS: u64 = 100;
/// The longest such pause.
const PAUSE_MAX_MS: u64 = 5_000;

/// How long a worker may take from its start until it serves.
const START_MAX_MS: u64 = 30_000;

/// Rows of the board that no reload and no upgrade takes: for successors of workers that drain
/// although they were to stay.
const ROWS_SPARE: usize = 8;
/// What to do where there are too many.
const ROWS_SHORT: &str = "wait until some have drained, or set a shorter `timeouts: {drain}`";

/// One of the workers that there are to be, whichever process it is.
#[derive(Debug, Default)]
pub(super) struct ManagedWorker {
    /// Its process; none until the next one is started.
    pub(super) handle: Option<WorkerHandle>,
    /// Processes in a row that ended soon after their start.
    pub(super) quick_ends: u32,
    /// When the next one is started.
    pub(super) start_at: Option<Tick>,
    /// Why there is no process.
    pub(super) reason: String,
}

impl ManagedWorker {
    /// Whether it serves and turns.
    pub(super) fn is_well(&self) -> bool {
        self.handle.as_ref().is_some_and(WorkerHandle::is_well)
    }

    /// Whether it serves.
    pub(super) fn serves(&self) -> bool {
        let phase = self.handle.as_ref().map(|worker| worker.phase);
        phase == Some(WorkerPhase::Serving)
    }

    /// Whether it does not come up, so that it is started again after a pause only.
    pub(super) fn pauses(&self) -> bool {
        self.handle.is_none() && pause_ms(self.quick_ends) > 0
    }
}

/// How long to wait before a worker is started again.
fn pause_ms(quick_ends: u32) -> u64 {
    match quick_ends.checked_sub(QUICK_ENDS_FREE + 1) {
        None => 0,
        Some(doublings) => (PAUSE_FIRST_MS << doublings.min(16)).min(PAUSE_MAX_MS),
    }
}

impl Supervisor {
    /// Starts those workers that are due.
    pub(super) fn start_due(&mut self, names: &Names) {
        for index in 0..self.workers.len() {
            let managed = &self.workers[index];
            if managed.handle.is_some() || managed.start_at.is_none_or(|at| at > self.now) {
                continue;
            }
            self.workers[index].start_at = None;
            match self.start_worker(index, names) {
                Ok(worker) => {
                    info!("worker {index}: started, process {}", worker.pid);
                    self.workers[index].handle = Some(worker);
                }
                Err(error) => {
                    let reason = format!("cannot be started: {error}");
                    error!("worker {index}: {reason}");
                    self.workers[index].reason = reason;
                    self.start_later(index);
                }
            }
        }
        self.end_round_if_complete();
    }

    /// Gives up workers that do not come to serve: others are started in their place.
    pub(super) fn give_up_late_starters(&mut self) {
        for worker in self.workers.iter_mut().filter_map(|it| it.handle.as_mut()) {
            let is_late = self.now.since_ms(worker.since) >= START_MAX_MS;
            if worker.phase == WorkerPhase::Starting && is_late {
                let number = worker.number;
                error!("worker {number}: does not serve {START_MAX_MS} ms after its start; killed");
                // Once, until its end is heard of.
                worker.since = self.now;
                worker.give_up();
            }
        }
    }

    fn start_later(&mut self, index: usize) {
        let managed = &mut self.workers[index];
        managed.quick_ends = managed.quick_ends.saturating_add(1);
        managed.start_at = Some(self.now.after_ms(pause_ms(managed.quick_ends)));
    }

    fn start_worker(&self, number: usize, names: &Names) -> io::Result<WorkerHandle> {
        let row = self
            .free_row()
            .ok_or_else(|| io::Error::other(ROWS_SHORT))?;
        let bundle = self.bundle(names)?;
        let (ours, theirs) = Channel::pair()?;
        let supervisor = std::process::id().to_string();
        let arguments = [
            WORKER_WORD.into(),
            supervisor.into(),
            number.to_string().into(),
        ];
        let pid = child::spawn(&child::own_program(), &arguments, Some(theirs.into()))?;
        let key = self.free_key();
        let watched = self
            .reactor
            .watch_control(ours.as_fd(), FIRST_CHANNEL_KEY + key);
        let mut worker = WorkerHandle::new(key, pid, number, Some(row), ours, self.now);
        worker.round = self.round;
        if let Err(error) = watched {
            worker.give_up();
            return Err(error);
        }
        let cpu = self.cpus.get(number % self.cpus.len().max(1));
        let begin = WorkerOrder::Begin {
            row,
            cpu: cpu.and_then(|&cpu| u16::try_from(cpu).ok()),
            quiet: self.args.quiet,
        };
        worker.send_with(&begin, &[self.board_fd.as_fd()]);
        worker.give_sockets(self.sockets.all());
        if let Some(file) = &self.access_log {
            worker.send_with(&WorkerOrder::AccessLog, &[file.as_fd()]);
        }
        if !self.ticket_keys.is_empty() {
            worker.send(&WorkerOrder::TicketKeys(self.ticket_keys.clone()));
        }
        let round = self.round;
        // It is told which slots are its own before it begins to accept.
        let slots = self.slots_at_start(number);
        worker.accept_from(slots);
        worker.send_with(&WorkerOrder::Adopt { round }, &[bundle.as_fd()]);
        if let Some(level) = self.log_level {
            worker.send(&WorkerOrder::LogLevel(level));
        }
        Ok(worker)
    }

    /// The configuration as it is now, for a worker.
    fn bundle(&self, names: &Names) -> io::Result<OwnedFd> {
        let sockets = self.sockets.of(&self.config);
        Bundle::write(&self.config, names.known(), &sockets)
    }

    pub(super) fn all_workers(&self) -> impl Iterator<Item = &WorkerHandle> {
        let running = self
            .workers
            .iter()
            .filter_map(|managed| managed.handle.as_ref());
        running.chain(&self.leaving).chain(self.upgrade.old())
    }

    /// How many of those that there are to be have a process.
    pub(super) fn running(&self) -> usize {
        self.workers.iter().filter(|it| it.handle.is_some()).count()
    }

    /// Whether so many workers may be started besides those that are there.
    pub(super) fn check_rows(&self, wanted: usize) -> Result<(), String> {
        let used = self.all_workers().filter(|it| it.row.is_some()).count();
        rows_suffice(wanted, used, self.board.rows())
    }

    fn free_row(&self) -> Option<u8> {
        let mut rows = (1..self.board.rows()).map_while(|row| u8::try_from(row).ok());
        rows.find(|row| self.all_workers().all(|worker| worker.row != Some(*row)))
    }

    fn free_key(&self) -> u32 {
        let is_free = |key: &u32| self.all_workers().all(|worker| worker.key != *key);
        (0..u32::MAX).find(is_free).unwrap_or(u32::MAX)
    }

    /// Hears what has become of children.
    pub(super) fn hear_of_children(&mut self) {
        while let Some((pid, status)) = child::next_status() {
            match status {
                WaitStatus::Exited(_) | WaitStatus::Killed(_) => self.on_end(pid, status),
                WaitStatus::Stopped | WaitStatus::Continued => {
                    self.on_stop(pid, status == WaitStatus::Stopped)
                }
            }
        }
    }

    fn on_stop(&mut self, pid: u32, stopped: bool) {
        let running = self.workers.iter_mut().filter_map(|it| it.handle.as_mut());
        let all = running
            .chain(&mut self.leaving)
            .chain(self.upgrade.old_mut());
        let mut workers = all.filter(|worker| worker.pid == pid);
        let Some(worker) = workers.next() else { return };
        worker.stopped = stopped;
        if stopped && worker.phase == WorkerPhase::Leaving {
            warn!("worker {}: stopped; it drains no further", worker.number);
        } else if stopped {
            warn!(
                "worker {}: stopped; the others accept for it",
                worker.number
            );
        } else {
            // Its heartbeat is old for a moment still.
            worker.stuck = false;
            info!("worker {}: goes on", worker.number);
        }
        self.share_out_slots();
        self.end_round_if_complete();
        self.end_upgrade_if_complete();
    }

    fn on_end(&mut self, pid: u32, status: WaitStatus) {
        if self.on_check_end(pid, status) {
            return;
        }
        let is_it = |worker: &WorkerHandle| worker.pid == pid;
        if let Some(index) = self.leaving.iter().position(is_it) {
            let worker = self.leaving.swap_remove(index);
            self.on_left(&worker, status);
            return self.on_accepts_no_more(worker.key);
        }
        if let Some(worker) = self.upgrade.take_old(pid) {
            self.bury(&worker);
            return warn!("worker {} of before: {}", worker.number, words(status));
        }
        let running = |managed: &ManagedWorker| managed.handle.as_ref().is_some_and(is_it);
        let Some(index) = self.workers.iter().position(running) else {
            return;
        };
        if let Some(worker) = self.workers[index].handle.take() {
            self.on_worker_lost(index, &worker, status);
        }
    }

    /// A worker was asked to end, and no other.
    pub(super) fn on_asked(&mut self, index: usize) {
        let Some(worker) = &self.workers[index].handle else {
            return;
        };
        let (key, number, pid) = (worker.key, worker.number, worker.pid);
        info!("worker {number}, process {pid}: asked to end, it drains; another one is started");
        self.replace(key);
    }

    /// A worker has ended that was told to.
    fn on_left(&mut self, worker: &WorkerHandle, status: WaitStatus) {
        self.bury(worker);
        if status == WaitStatus::Exited(0) {
            info!("worker {}: {}", worker.number, words(status));
        } else {
            self.was_cut |= self.shutdown.is_some();
            warn!("worker {}: {}", worker.number, words(status));
        }
    }

    /// A worker has ended that was to go on.
    fn on_worker_lost(&mut self, index: usize, worker: &WorkerHandle, status: WaitStatus) {
        self.bury(worker);
        let was_quick =
            worker.phase == WorkerPhase::Starting || self.now.since_ms(worker.since) < QUICK_END_MS;
        let managed = &mut self.workers[index];
        managed.quick_ends = if was_quick {
            managed.quick_ends.saturating_add(1)
        } else {
            0
        };
        let pause = pause_ms(managed.quick_ends);
        managed.start_at = Some(self.now.after_ms(pause));
        managed.reason = words(status);
        warn!(
            "worker {index}, process {}: {}; another one is started{}",
            worker.pid,
            words(status),
            if pause > 0 {
                format!(" in {pause} ms")
            } else {
                String::new()
            }
        );
        self.share_out_slots();
    }

    /// What a worker that has gone had on the board heals, and the others look at it.
    fn bury(&mut self, worker: &WorkerHandle) {
        if let Some(row) = worker.row {
            self.board.bury(row.into());
            let last = self.all_workers().filter_map(|worker| worker.row).max();
            self.board.limit_rows(usize::from(last.unwrap_or(0)) + 1);
            self.tell_all(&WorkerOrder::Look);
        }
    }

    /// Sends an order to every worker that serves or is about to.
    pub(super) fn tell_all(&mut self, order: &WorkerOrder) {
        let running = self.workers.iter_mut().filter_map(|it| it.handle.as_mut());
        for worker in running.chain(self.upgrade.old_mut()) {
            worker.send(order);
        }
    }
}

fn rows_suffice(wanted: usize, used: usize, rows: usize) -> Result<(), String> {
    // Those that a reload or an upgrade may lead to, those that drain among them.
    let workers_max = rows.saturating_sub(1 + ROWS_SPARE);
    if wanted <= workers_max.saturating_sub(used) {
        return Ok(());
    }
    Err(format!(
        "{wanted} workers more are wanted, and of the {workers_max} that may be there \
         at a time {used} are, those that drain among them; {ROWS_SHORT}"
    ))
}

fn words(status: WaitStatus) -> String {
    match status {
        WaitStatus::Exited(0) => "ended".to_owned(),
        WaitStatus::Exited(status) => format!("ended with status {status}"),
        WaitStatus::Killed(signal) => format!("killed by signal {signal}"),
        WaitStatus::Stopped | WaitStatus::Continued => "is there".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::ROWS_MAX;
    use crate::config::model::WORKERS_MAX;

    #[test]
    fn the_most_workers_can_be_upgraded_while_as_many_drain() {
        assert_eq!(rows_suffice(WORKERS_MAX, 3 * WORKERS_MAX, ROWS_MAX), Ok(()));
        assert_eq!(rows_suffice(0, ROWS_MAX, ROWS_MAX), Ok(()));
        let refused = rows_suffice(2, ROWS_MAX - 2, ROWS_MAX).expect_err("one is left");
        assert!(refused.contains("drain"), "{refused}");
    }

    #[test]
    fn the_pause_grows_with_quick_ends_and_has_a_limit() {
        let pauses: Vec<u64> = (0..6).map(pause_ms).collect();
        assert_eq!(pauses, [0, 0, 0, 100, 200, 400]);
        assert_eq!(pause_ms(u32::MAX), PAUSE_MAX_MS);
        assert!((0..200).all(|ends| pause_ms(ends) <= pause_ms(ends + 1)));
    }
}
