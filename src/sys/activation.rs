//! Listening sockets that a service manager has opened (sd_listen_fds(3)).

#![allow(unsafe_code, reason = "descriptors come as numbers in the environment")]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{SocketAddrUnix, SocketType, getsockname, sockopt};

use super::environment::take;
use crate::core::address::Address;

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// The most that are taken.
const SOCKETS_MAX: RawFd = 1024;

/// A listening stream socket that was handed over.
#[derive(Debug)]
pub struct Passed {
    fd: OwnedFd,
    name: String,
    address: Option<Address>,
}

impl Passed {
    /// Its name (`FileDescriptorName=`); empty without one.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is bound; none for an address that weir does not know.
    #[must_use]
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// The socket.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

/// Whether the environment says that sockets were handed over to this process.
#[must_use]
pub fn are_passed() -> bool {
    let pid = std::env::var("LISTEN_PID");
    pid.is_ok_and(|pid| pid == std::process::id().to_string())
}

/// Takes the sockets that were handed over to this process, each one or why it cannot be used.
/// Takes `LISTEN_PID`, `LISTEN_FDS` and `LISTEN_FDNAMES` out of the environment.
///
/// To be called once, before any descriptor is opened and any thread started.
#[must_use]
pub fn take_sockets() -> Vec<Result<Passed, String>> {
    let (pid, count, names) = (
        take("LISTEN_PID"),
        take("LISTEN_FDS"),
        take("LISTEN_FDNAMES"),
    );
    let number = |text: Option<String>| text.and_then(|text| text.parse::<RawFd>().ok());
    let is_ours = pid.is_some_and(|pid| pid == std::process::id().to_string());
    if !is_ours {
        return Vec::new();
    }
    let count = number(count).unwrap_or(0).clamp(0, SOCKETS_MAX);
    let names = names.unwrap_or_default();
    let mut names = names.split(':');
    (FIRST..FIRST + count)
        .map(|number| {
            let name = names.next().unwrap_or_default();
            take_socket(number, name).map_err(|error| {
                format!("descriptor {number} ({name}) that was handed over: {error}")
            })
        })
        .collect()
}

fn take_socket(number: RawFd, name: &str) -> io::Result<Passed> {
    // SAFETY: it is only asked whether it is open, and made not to be inherited.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and the environment says that it is for this process, which has opened
    // nothing itself so far.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    if sockopt::socket_type(&fd)? != SocketType::STREAM || !sockopt::socket_acceptconn(&fd)? {
        return Err(io::Error::other("not a stream socket that listens"));
    }
    Ok(Passed {
        address: bound_to(fd.as_fd()),
        name: name.to_owned(),
        fd,
    })
}

fn bound_to(socket: BorrowedFd<'_>) -> Option<Address> {
    let local = getsockname(socket).ok()?;
    if let Ok(ip) = SocketAddr::try_from(local.clone()) {
        return Some(Address::Ip(ip));
    }
    let unix = SocketAddrUnix::try_from(local).ok()?;
    let path = unix.path_bytes().filter(|path| path.starts_with(b"/"))?;
    let path = std::ffi::OsStr::from_bytes(path);
    Some(Address::Unix(PathBuf::from(path)))
}
