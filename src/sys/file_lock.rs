//! Locks on whole files, held by a process until it ends or closes the file (fcntl(2), advisory
//! record locks). Unlike those of flock(2) they tell who holds them; children do not inherit
//! them, and a program that takes the process over does, with the descriptor.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

/// Opens a file to lock it, or to ask who has. Neither follows a link nor waits for the other end
/// of a pipe.
///
/// # Errors
/// When it is not there, is a link, or must not be read or written to.
pub fn open(path: &Path, to_write: bool) -> io::Result<File> {
    File::options()
        .read(true)
        .write(to_write)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// The same for a file that is made where there is none, for its owner only.
///
/// # Errors
/// When it is a link, or must not be made, read or written to.
pub fn create(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Locks a file that is open for writing, for this process, and does not wait. This process must
/// not open the same file a second time: closing that would end the lock.
///
/// # Errors
/// `WouldBlock` when another process holds it.
pub fn lock(file: &File) -> io::Result<()> {
    match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::AGAIN | Errno::ACCESS) => Err(io::ErrorKind::WouldBlock.into()),
        done => Ok(done?),
    }
}

/// The other process that holds the lock, or none. A shared lock does not count: for that it is
/// enough to be allowed to read the file.
///
/// # Errors
/// When the kernel or the file system does not say, or the process is not seen from here
/// (`pid_namespaces(7)`).
pub fn holder(file: &File) -> io::Result<Option<u32>> {
    let whole = Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: FlockType::ReadLock,
        offset_type: FlockOffsetType::Set,
    };
    let Some(held) = fcntl_getlk(file, &whole)? else {
        return Ok(None);
    };
    let pid = held
        .pid
        .map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    let unseen = || io::Error::other("a process that is not seen from here holds it");
    pid.map(Some).ok_or_else(unseen)
}
