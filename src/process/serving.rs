//! The loop around a worker, and what belongs to it in every process: the access log.

use std::io;

use log::{error, info, warn};

use crate::process::access_sink::AccessSink;
use crate::process::{EXIT_CUT, EXIT_OK};
use crate::reactor::Reactor;
use crate::worker::{Stage, Worker};

/// A worker with its outlets.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) worker: Worker<Reactor>,
    access_log: AccessSink,
    lines_dropped: u64,
}

impl Serving {
    pub(crate) fn new(worker: Worker<Reactor>, access_log: AccessSink) -> Self {
        Self {
            worker,
            access_log,
            lines_dropped: 0,
        }
    }

    /// One turn, unless there is nothing left to do; whether a control descriptor fired. None at
    /// the end.
    pub(crate) fn turn(&mut self) -> io::Result<Option<bool>> {
        if self.worker.stage() == Stage::Finished {
            return Ok(None);
        }
        self.worker.turn()?;
        Ok(Some(self.worker.take_control()))
    }

    /// Asked to end: gracefully the first time, at once the second.
    pub(crate) fn end(&mut self) {
        if self.worker.stage() == Stage::Serving {
            self.worker.drain();
        } else {
            warn!("asked to stop again: stopping at once");
            self.worker.stop();
        }
    }

    /// Writes the access log lines that wait, as far as they do not block.
    pub(crate) fn write_access_log(&mut self) {
        let Some(lines) = self.worker.access_lines() else {
            return;
        };
        if !lines.is_empty() {
            let written = self.access_log.write(lines);
            lines.drain(..written);
        }
        let dropped = self.worker.access_lines_dropped();
        if dropped > self.lines_dropped {
            warn!(
                "access log: {} lines dropped, they come faster than they can be written",
                dropped - self.lines_dropped
            );
            self.lines_dropped = dropped;
        }
    }

    /// Writes to another file from now on.
    pub(crate) fn set_access_log(&mut self, access_log: AccessSink) {
        self.write_access_log();
        self.access_log = access_log;
    }

    /// The exit code of a loop that has ended.
    pub(crate) fn exit_code(&self, ended: io::Result<()>) -> u8 {
        if let Err(error) = ended {
            error!("waiting for events failed: {error}");
            return EXIT_CUT;
        }
        match self.worker.cut_sessions() {
            0 => {
                info!("stopped");
                EXIT_OK
            }
            count => {
                warn!("stopped, {count} sessions cut");
                EXIT_CUT
            }
        }
    }
}
