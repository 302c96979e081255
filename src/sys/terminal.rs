//! The terminal that weir is typed at: keys as they are pressed, and how large it is.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Signal, kill_current_process_group};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

use crate::sys::signal::Signals;

/// A terminal that gives keys at once and shows none of them, until this is dropped.
#[derive(Debug)]
pub struct Keys {
    before: Termios,
}

impl Keys {
    /// Takes the terminal at standard input.
    ///
    /// # Errors
    /// When there is none.
    pub fn take() -> io::Result<Self> {
        let this = Self {
            before: tcgetattr(io::stdin())?,
        };
        this.make_raw()?;
        Ok(this)
    }

    fn make_raw(&self) -> io::Result<()> {
        let mut raw = self.before.clone();
        raw.make_raw();
        // Line ends are still moved to the first column.
        raw.output_modes = self.before.output_modes;
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(())
    }

    fn give_back(&self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
    }

    /// Gives the terminal back while this process is stopped ([`Signals::stop`]).
    ///
    /// # Errors
    /// When the terminal has gone meanwhile.
    pub fn stop(&self, signals: &Signals) -> io::Result<()> {
        self.give_back();
        signals.stop()?;
        self.make_raw()
    }
}

/// Does what the key does that stops what runs at a terminal: it stops a script with what it has
/// started.
pub fn ask_to_stop() {
    let _ = kill_current_process_group(Signal::TSTP);
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// What came of waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// These bytes of keys.
    Keys(Vec<u8>),
    /// The other descriptor has something.
    Other,
    /// Nothing in time.
    Nothing,
    /// The terminal has gone.
    End,
}

/// Waits for a key, for another descriptor, or so long.
///
/// # Errors
/// When the kernel cannot wait.
pub fn hear(other: impl AsFd, limit: Duration) -> io::Result<Heard> {
    let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
    let stdin = io::stdin();
    let mut fds = [
        PollFd::new(&stdin, PollFlags::IN),
        PollFd::new(&other, PollFlags::IN),
    ];
    match poll(&mut fds, Some(&limit)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Heard::Nothing),
        Ok(_) => {}
        Err(errno) => return Err(errno.into()),
    }
    if !fds[1].revents().is_empty() {
        return Ok(Heard::Other);
    }
    let mut bytes = [0; 64];
    let count = retry_on_intr(|| rustix::io::read(&stdin, &mut bytes))?;
    match count {
        0 => Ok(Heard::End),
        count => Ok(Heard::Keys(bytes[..count].to_vec())),
    }
}

/// Columns and rows of the terminal at standard output; 80 and 24 where it does not say.
#[must_use]
pub fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Whether standard input and output are a terminal, and not one that can only print.
#[must_use]
pub fn is_there() -> bool {
    let is_dumb = std::env::var_os("TERM").is_some_and(|it| it == "dumb");
    !is_dumb && rustix::termios::isatty(io::stdin()) && rustix::termios::isatty(io::stdout())
}
