//! The end: all workers drain, and the last one takes the supervisor with it.

use log::{error, info, warn};

use crate::control::{EXIT_CUT, EXIT_OK};
use crate::core::text::plural;
use crate::core::time::Tick;
use crate::supervisor::worker_handle::{WorkerHandle, WorkerPhase};
use crate::supervisor::{START_TRIES_MAX, Supervisor};
use crate::wire::messages::WorkerOrder;

/// What a worker may take longer than its own limit on draining before it is killed.
const GRACE_MS: u64 = 5_000;
/// What it may take when it was told to end at once.
const GRACE_AT_ONCE_MS: u64 = 1_000;

/// How far the end is.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// When workers accept no more, and the files of Unix sockets go. None once they have.
    close_at: Option<Tick>,
    /// When those are killed that are still there.
    kill_at: Tick,
}

impl Shutdown {
    pub(super) fn deadline(&self) -> Tick {
        self.close_at.unwrap_or(self.kill_at).min(self.kill_at)
    }
}

impl Supervisor {
    /// Asked to end: gracefully the first time, at once the second.
    pub(super) fn begin_or_hasten_shutdown(&mut self) {
        if let Some(shutdown) = &mut self.shutdown {
            warn!("asked to stop again: stopping at once");
            shutdown.kill_at = shutdown.kill_at.min(self.now.after_ms(GRACE_AT_ONCE_MS));
            for worker in &mut self.leaving {
                worker.send(&WorkerOrder::Stop);
            }
            return;
        }
        // Those of before have served.
        self.has_served |= self.is_upgrading();
        let running = self.workers.drain(..).filter_map(|managed| managed.handle);
        let mut workers: Vec<WorkerHandle> = running.chain(self.upgrade.abandon()).collect();
        let s = plural(workers.len() == 1);
        info!("stopping: {} worker{s} to finish", workers.len());
        // A worker empties its queues and closes them; who else has them open would let more in.
        self.sockets.close_slots();
        for worker in &mut workers {
            worker.phase = WorkerPhase::Leaving;
            worker.send(&WorkerOrder::Drain);
        }
        self.leaving.append(&mut workers);
        let close_at = self.now.after(self.config.pre_drain);
        let kill_at = close_at.after(self.config.drain_timeout).after_ms(GRACE_MS);
        self.shutdown = Some(Shutdown {
            close_at: Some(close_at),
            kill_at,
        });
    }

    /// Does what is due of the end.
    pub(super) fn go_on_shutting_down(&mut self) {
        let now = self.now;
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        if shutdown.close_at.is_some_and(|at| at <= now) {
            shutdown.close_at = None;
            self.sockets.close_all();
        }
        if shutdown.kill_at <= now {
            shutdown.kill_at = now.after_ms(GRACE_AT_ONCE_MS);
            for worker in &mut self.leaving {
                error!("worker {}: does not end; killed", worker.number);
                worker.give_up();
            }
        }
    }

    /// The exit code, once there is nothing left to do.
    pub(super) fn exit_code(&mut self) -> Option<u8> {
        if self.shutdown.is_none() && !self.has_served && !self.is_upgrading() {
            let tries = self.workers.iter().map(|managed| managed.quick_ends).max();
            if tries.unwrap_or(0) >= START_TRIES_MAX {
                error!("workers do not come up; giving up");
                self.begin_or_hasten_shutdown();
            }
        }
        let shutdown = self.shutdown.as_ref()?;
        if !self.leaving.is_empty() {
            return None;
        }
        if shutdown.close_at.is_some() {
            self.sockets.close_all();
        }
        self.print_stats(true);
        if !self.has_served {
            warn!("stopped before all workers served");
            return Some(EXIT_CUT);
        }
        if self.was_cut {
            warn!("stopped, some sessions cut");
            return Some(EXIT_CUT);
        }
        info!("stopped");
        Some(EXIT_OK)
    }
}
