//! The loop around a worker, and what belongs to it in every process: the access log.

use std::io;
use std::time::Duration;

use log::{error, info, warn};

use crate::control::access_sink::{AccessSink, Trouble};
use crate::control::{EXIT_CUT, EXIT_OK};
use crate::core::access_log::PENDING_BYTES_MAX;
use crate::core::text::plural;
use crate::live::LiveWorker;
use crate::worker::Stage;

/// How soon lines of the access log that could not be written are tried again, where nothing else
/// happens.
const ACCESS_RETRY_PERIOD: Duration = Duration::from_millis(50);

/// A worker with its outlets.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) worker: LiveWorker,
    access_log: AccessSink,
    trouble: Trouble,
}

impl Serving {
    pub(crate) fn new(worker: LiveWorker, access_log: AccessSink) -> Self {
        Self {
            worker,
            access_log,
            trouble: Trouble::new(),
        }
    }

    /// Turns until a control descriptor fires, which is true, or lines of the access log wait to be
    /// written. None at the end.
    pub(crate) fn turn(&mut self) -> io::Result<Option<bool>> {
        self.worker.turn()
    }

    /// Whether it was asked to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.worker.stage() != Stage::Serving
    }

    /// Asked to end: gracefully the first time, at once the second.
    pub(crate) fn end(&mut self) {
        if self.is_ending() {
            self.end_at_once();
        } else {
            self.worker.drain();
        }
    }

    /// Asked to end once more.
    pub(crate) fn end_at_once(&mut self) {
        warn!("asked to stop again: stopping at once");
        self.worker.stop();
    }

    /// Writes the access log lines that wait, as far as they do not block.
    pub(crate) fn write_access_log(&mut self) {
        let mut error = None;
        let mut waits = false;
        let mut lost = 0;
        if self.worker.has_access_lines() {
            let now = self.worker.now();
            if let Some(lines) = self.worker.access_lines() {
                let (progress, more_lost) = self.access_log.write(lines, now);
                lines.drain(..progress.bytes);
                waits = !lines.is_empty();
                error = progress.error;
                lost = more_lost;
            }
        }
        if waits {
            self.worker.come_back_after(ACCESS_RETRY_PERIOD);
        }
        if lost > 0 {
            self.worker.lose_access_lines(lost);
        }
        let lost = self.worker.access_lines_lost();
        if self.trouble.concerns(error.as_ref(), lost) {
            self.tell_trouble(error, waits, lost);
        }
    }

    fn tell_trouble(&mut self, error: Option<io::Error>, waits: bool, lost: u64) {
        self.worker.show_lines_lost();
        let now = self.worker.now();
        if self.trouble.begins(now, error, lost) {
            warn!(
                "access log: cannot be written: {}; up to {} KiB of lines wait, more are lost",
                self.trouble.cause(),
                PENDING_BYTES_MAX / 1024
            );
        }
        if !waits && let Some(lost) = self.trouble.ends(lost) {
            let s = plural(lost == 1);
            warn!("access log: all is written again, {lost} line{s} lost meanwhile");
        }
    }

    /// Writes to another file from now on.
    pub(crate) fn set_access_log(&mut self, access_log: AccessSink) {
        self.write_access_log();
        self.access_log = access_log;
        self.trouble.on_other_sink();
    }

    /// Nobody comes back to the lines that cannot be written now.
    fn end_access_log(&mut self) {
        self.write_access_log();
        let cause = self.trouble.cause();
        self.worker.give_up_access_lines();
        self.worker.show_lines_lost();
        let lost = self.trouble.newly_lost(self.worker.access_lines_lost());
        if lost > 0 {
            let s = plural(lost == 1);
            warn!("access log: {lost} line{s} lost: {cause}");
        }
    }

    /// The exit code of a loop that has ended.
    pub(crate) fn finish(&mut self, ended: io::Result<()>) -> u8 {
        self.end_access_log();
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
                warn!("stopped, {count} session{} cut", plural(count == 1));
                EXIT_CUT
            }
        }
    }
}
