//! The terminal that weir is typed at: keys as they are pressed, and how large it is.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};

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
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        // Line ends are still moved to the first column.
        raw.output_modes = before.output_modes;
        raw.special_codes[SpecialCodeIndex::VMIN] = 0;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
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

/// Whether standard input and output are a terminal.
#[must_use]
pub fn is_there() -> bool {
    rustix::termios::isatty(io::stdin()) && rustix::termios::isatty(io::stdout())
}
