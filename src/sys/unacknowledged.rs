//! What the other end of a TCP connection has not confirmed (`SIOCOUTQ`, tcp(7)).
//!
//! `unsafe` is needed because the crates weir uses have no safe form of this call.

#![allow(unsafe_code, reason = "ioctl with a place for its answer")]

use std::os::fd::{AsRawFd, BorrowedFd};

use libc::c_int;

use crate::sys::socket;

/// Bytes that were written to a TCP connection and that the peer's kernel has not acknowledged,
/// also when the connection has ended. None where that is not known: a Unix socket counts
/// otherwise.
pub(crate) fn unacknowledged(fd: BorrowedFd<'_>) -> Option<usize> {
    socket::local_address(fd)?;
    let mut bytes: c_int = 0;
    // SAFETY: the request writes one int, and `bytes` is one that outlives the call.
    let found = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if found == 0 {
        usize::try_from(bytes).ok()
    } else {
        None
    }
}
