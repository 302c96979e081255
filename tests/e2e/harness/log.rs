//! The log of a running weir, read line by line in a thread of its own.
//!
//! The wording that tests depend on stands here and nowhere else.

use std::io::{BufRead, BufReader};
use std::process::ChildStderr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use super::PATIENCE;

/// Logged when start-up is complete.
pub(crate) const READY: &str = "weir ready";

/// Begins the line that names a bound address.
pub(crate) const LISTENING: &str = "listening on ";

/// Part of the line that says that a new configuration is in use.
pub(crate) const RELOADED: &str = "reload done";

/// Part of every line of statistics.
pub(crate) const STATISTICS: &str = "stats: ";

/// Part of the line that says that a backend was taken down by checks.
pub(crate) const DOWN: &str = " DOWN after ";

/// Part of the line that says that a backend was brought up by checks.
pub(crate) const UP: &str = " UP after ";

/// Part of the line that says that a client was closed for want of a backend.
pub(crate) const NO_BACKEND: &str = "has no usable backend";

/// Begins every line about a graceful stop.
pub(crate) const STOPPING: &str = "stopping: ";

/// Lines so far, and a way to wait for more.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
    deaf: bool,
    leaving: bool,
}

/// A place in the log: what is logged from here on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

impl Log {
    pub(crate) fn read(stderr: ChildStderr) -> Self {
        let log = Self {
            shared: Arc::default(),
        };
        let reader = log.clone();
        thread::spawn(move || reader.run(stderr));
        log
    }

    fn run(&self, stderr: ChildStderr) {
        let mut stderr = BufReader::new(stderr);
        loop {
            let mut line = Vec::new();
            let got = stderr.read_until(b'\n', &mut line).unwrap_or(0);
            let mut state = self.state();
            if got == 0 {
                state.ended = true;
                self.shared.changed.notify_all();
                return;
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            state.lines.push(line);
            self.shared.changed.notify_all();
            if state.leaving {
                state.ended = true;
                return;
            }
            // The pipe stays open and fills up: this is what a stuck reader of the log does.
            drop(self.shared.changed.wait_while(state, |state| state.deaf));
        }
    }

    /// A test that fails while it looks at the log leaves it whole, and its log is still shown.
    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops reading, so that whoever writes the log finds the pipe full.
    pub(crate) fn stop_reading(&self) {
        self.state().deaf = true;
    }

    /// Closes the pipe after the next line.
    pub(crate) fn leave(&self) {
        self.state().leaving = true;
    }

    /// Reads again.
    pub(crate) fn resume_reading(&self) {
        self.state().deaf = false;
        self.shared.changed.notify_all();
    }

    /// The place that the log has reached.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.state().lines.len())
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.state().lines.clone()
    }

    /// How many lines hold all of these.
    pub(crate) fn count(&self, parts: &[&str]) -> usize {
        let state = self.state();
        state.lines.iter().filter(|line| holds(line, parts)).count()
    }

    /// How many lines since `mark` hold all of these.
    pub(crate) fn count_since(&self, mark: Mark, parts: &[&str]) -> usize {
        let state = self.state();
        let lines = state.lines[mark.0..].iter();
        lines.filter(|line| holds(line, parts)).count()
    }

    /// The first line that holds all of these.
    pub(crate) fn wait(&self, parts: &[&str]) -> String {
        self.wait_since(Mark(0), parts)
    }

    /// The first line since `mark` that holds all of these.
    ///
    /// # Panics
    /// When the log ends or [`PATIENCE`] passes without one.
    pub(crate) fn wait_since(&self, mark: Mark, parts: &[&str]) -> String {
        let give_up = Instant::now() + PATIENCE;
        let mut state = self.state();
        let mut seen = mark.0;
        loop {
            if let Some(line) = state.lines[seen..].iter().find(|line| holds(line, parts)) {
                return line.clone();
            }
            seen = state.lines.len();
            let left = give_up.saturating_duration_since(Instant::now());
            assert!(!state.ended, "the log ended without {parts:?}");
            assert!(!left.is_zero(), "the log never had {parts:?}");
            let (next, _) = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
    }

    /// All of it, once the process has ended.
    pub(crate) fn wait_end(&self) {
        let state = self.state();
        let (state, _) = self
            .shared
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(state.ended, "something still holds the log open");
    }
}

fn holds(line: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| line.contains(part))
}
