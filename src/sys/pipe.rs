//! Kernel pipes and splice(2): moving bytes between sockets without copying them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

/// The size asked for: what an unprivileged process may have by default
/// (`/proc/sys/fs/pipe-max-size`).
const PIPE_BYTES_WANTED: usize = 1 << 20;

/// Below this a pipe is not worth its system calls. A user with many pipes gets ones of two
/// pages only (pipe(7), `pipe-user-pages-soft`).
const PIPE_BYTES_MIN: usize = 1 << 16;

/// A pipe with both ends in this process, neither of which ever blocks.
#[derive(Debug)]
pub struct Pipe {
    /// Where bytes come out.
    pub(crate) read_end: OwnedFd,
    /// Where bytes go in.
    pub(crate) write_end: OwnedFd,
}

impl Pipe {
    /// Opens an empty pipe, as large as the kernel lets it be; none when there is no descriptor
    /// left, or only a pipe too small to be of use.
    ///
    /// A pipe is counted in segments, not bytes: it may hold several times its size, or a
    /// twentieth of it.
    #[must_use]
    pub(crate) fn open() -> Option<Self> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let size = fcntl_setpipe_size(&write_end, PIPE_BYTES_WANTED)
            .or_else(|_| fcntl_getpipe_size(&write_end))
            .ok()?;
        (size >= PIPE_BYTES_MIN).then_some(Self {
            read_end,
            write_end,
        })
    }
}

/// Moves up to `len` bytes, one end being a pipe, without waiting.
pub(crate) fn splice(from: impl AsFd, to: impl AsFd, len: usize) -> rustix::io::Result<usize> {
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    retry_on_intr(|| rustix::pipe::splice(&from, None, &to, None, len, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_is_opened_is_large_enough_to_be_of_use() {
        let pipe = Pipe::open().expect("a pipe");
        let size = fcntl_getpipe_size(&pipe.read_end).expect("its size");
        assert!(size >= PIPE_BYTES_MIN);
    }
}
