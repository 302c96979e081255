//! Where access log lines go: standard output, a file that is appended to, or a syslog daemon.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::config::model::AccessLog;
use crate::control::Refusal;
use crate::core::limit::RateLimit;
use crate::core::time::Tick;
use crate::sys::access::append_options;
use crate::sys::privileges::Identity;
use crate::sys::stderr::{WriteProgress, write_lines};
use crate::sys::syslog::{self, Syslog};

/// An open access log. Several processes may write to one at once: lines are written whole.
#[derive(Debug)]
pub(crate) enum AccessSink {
    /// Standard output.
    Stdout,
    /// A file that is appended to.
    File(File),
    /// A syslog daemon.
    Syslog(Box<Syslog>),
}

impl AccessSink {
    /// Opens what the settings name. Standard output where they name nothing.
    pub(crate) fn open(settings: Option<&AccessLog>) -> Result<Self, Refusal> {
        let Some(settings) = settings else {
            return Ok(Self::Stdout);
        };
        match (&settings.path, &settings.syslog) {
            (Some(path), _) => open_file(path).map(Self::File),
            (None, Some(daemon)) => match syslog::open(daemon) {
                Ok(socket) => Ok(Self::of(socket)),
                Err(error) => Err(Refusal::new(&format!("cannot log to {daemon}"), &error)),
            },
            (None, None) => Ok(Self::Stdout),
        }
    }

    /// A file, or a daemon's socket.
    pub(crate) fn of(descriptor: OwnedFd) -> Self {
        match Syslog::of(descriptor) {
            Ok(syslog) => Self::Syslog(Box::new(syslog)),
            Err(descriptor) => Self::File(descriptor.into()),
        }
    }

    /// The same while still root: a file that is created belongs to `owner`, which opens it again
    /// later.
    pub(crate) fn open_for(
        owner: Option<&Identity>,
        settings: Option<&AccessLog>,
    ) -> Result<Self, Refusal> {
        let path = settings.and_then(|settings| settings.path.as_deref());
        let (Some(owner), Some(path)) = (owner, path) else {
            return Self::open(settings);
        };
        let file = owner.open_to_append(path);
        file.map(Self::File).map_err(|error| refusal(path, &error))
    }

    /// The file, or the socket, if there is one.
    pub(crate) fn into_file(self) -> Option<File> {
        match self {
            Self::Stdout => None,
            Self::File(file) => Some(file),
            Self::Syslog(syslog) => Some(syslog.into_socket().into()),
        }
    }

    /// Writes what does not block; how far that came, and how many lines are lost.
    pub(crate) fn write(&mut self, lines: &[u8], now: Tick) -> (WriteProgress, u64) {
        match self {
            Self::Stdout => (write_lines(io::stdout(), lines), 0),
            Self::File(file) => (write_lines(file, lines), 0),
            Self::Syslog(syslog) => syslog.write(lines, now),
        }
    }
}

/// How often trouble may begin in the log, in milliseconds: a disk that is full every other moment
/// is one trouble.
const TROUBLE_PERIOD_MS: u64 = 10_000;

/// Lines that cannot be written. It is told once when that begins and once when it is over,
/// however many lines and turns it takes.
#[derive(Debug)]
pub(crate) struct Trouble {
    is_told: bool,
    /// What the last write reported; none when it would have blocked.
    error: Option<io::Error>,
    /// The lines go elsewhere since it was told, so that they may fail for another reason.
    is_other_sink: bool,
    /// Lines lost that are already in the log.
    lost_told: u64,
    limit: RateLimit,
}

impl Trouble {
    pub(crate) fn new() -> Self {
        Self {
            is_told: false,
            error: None,
            is_other_sink: false,
            lost_told: 0,
            limit: RateLimit::new(TROUBLE_PERIOD_MS),
        }
    }

    /// Whether a write that reported `error` needs a look, with `lost` lines lost so far.
    pub(crate) fn concerns(&self, error: Option<&io::Error>, lost: u64) -> bool {
        self.is_told || error.is_some() || lost > self.lost_told
    }

    /// Whether trouble begins, and is to be told now.
    pub(crate) fn begins(&mut self, now: Tick, error: Option<io::Error>, lost: u64) -> bool {
        let is_failed = error.is_some();
        if is_failed {
            self.error = error;
        }
        let is_again = self.is_told && !(self.is_other_sink && is_failed);
        let is_trouble = is_failed || lost > self.lost_told;
        if is_again || !is_trouble || self.limit.allow(now).is_none() {
            return false;
        }
        self.is_told = true;
        self.is_other_sink = false;
        true
    }

    /// Whether trouble that was told is over, now that nothing waits any more: how many lines were
    /// lost.
    pub(crate) fn ends(&mut self, lost: u64) -> Option<u64> {
        self.error = None;
        if !std::mem::take(&mut self.is_told) {
            return None;
        }
        Some(self.newly_lost(lost))
    }

    /// Lines lost that are not yet in the log, which they now are.
    pub(crate) fn newly_lost(&mut self, lost: u64) -> u64 {
        lost - std::mem::replace(&mut self.lost_told, lost)
    }

    /// From now on lines go elsewhere.
    pub(crate) fn on_other_sink(&mut self) {
        self.is_other_sink = true;
        self.limit = RateLimit::new(TROUBLE_PERIOD_MS);
    }

    /// Why lines are not written.
    pub(crate) fn cause(&self) -> String {
        match &self.error {
            Some(error) => error.to_string(),
            None => "whoever reads it does not keep up".to_owned(),
        }
    }
}

/// Opens an access log to append to.
pub(crate) fn open_file(path: &Path) -> Result<File, Refusal> {
    let file = append_options(path).create(true).open(path);
    file.map_err(|error| refusal(path, &error))
}

fn refusal(path: &Path, error: &io::Error) -> Refusal {
    let what = format!("cannot open the access log {}", path.display());
    Refusal::new(&what, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Option<io::Error> {
        Some(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn trouble_is_told_when_it_begins_and_when_it_is_over() {
        let mut trouble = Trouble::new();
        assert!(!trouble.concerns(None, 0));
        assert!(trouble.begins(Tick(0), full(), 0));
        for (now, lost) in (1..100).map(|it| (Tick(it * TROUBLE_PERIOD_MS), it)) {
            assert!(!trouble.begins(now, full(), lost));
        }
        assert_eq!(trouble.ends(99), Some(99));
        assert!(!trouble.concerns(None, 99));
        assert_eq!(trouble.ends(99), None);
    }

    #[test]
    fn lost_lines_are_trouble_without_an_error() {
        let mut trouble = Trouble::new();
        assert!(!trouble.begins(Tick(0), None, 0));
        assert!(trouble.begins(Tick(0), None, 1));
        assert_eq!(trouble.ends(3), Some(3));
    }

    #[test]
    fn trouble_that_comes_and_goes_is_told_once_a_period_with_all_that_was_lost() {
        let mut trouble = Trouble::new();
        let (mut told, mut lost) = (Vec::new(), 0);
        for now in 0..=TROUBLE_PERIOD_MS {
            lost += 1;
            trouble.begins(Tick(now), full(), lost);
            told.extend(trouble.ends(lost));
        }
        assert_eq!(told, [1, TROUBLE_PERIOD_MS]);
    }

    #[test]
    fn another_sink_that_fails_too_is_told_at_once() {
        let mut trouble = Trouble::new();
        assert!(trouble.begins(Tick(0), full(), 0));
        trouble.on_other_sink();
        assert!(trouble.begins(Tick(1), full(), 0));
        assert!(!trouble.begins(Tick(2), full(), 0));
    }
}
