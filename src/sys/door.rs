//! What an administrator comes in by: a few listening sockets, those who call there, and one place
//! where all of them are waited for.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    connect, getpeername, socket_with, sockopt,
};

use super::socket::canonical;

/// Events that one wait takes from the kernel; the rest come with the next.
const EVENTS_MAX: usize = 32;

/// Where descriptors are waited for, each under a key. Level-triggered: what is not dealt with is
/// told again. It is a descriptor itself, which is readable while anything has happened.
#[derive(Debug)]
pub struct Poller(OwnedFd);

impl Poller {
    /// # Errors
    /// When the kernel gives none.
    pub fn open() -> io::Result<Self> {
        Ok(Self(epoll::create(CreateFlags::CLOEXEC)?))
    }

    /// Tells when it can be read, under that key, until it is closed.
    ///
    /// # Errors
    /// When the kernel has no room.
    pub fn watch(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        Ok(epoll::add(
            &self.0,
            fd,
            EventData::new_u64(key),
            EventFlags::IN,
        )?)
    }

    /// The same from now on when it can be written, and no more when it can be read, or back.
    ///
    /// # Errors
    /// When it is not watched.
    pub fn expect(&self, fd: impl AsFd, key: u64, what: Expected) -> io::Result<()> {
        let flags = match what {
            Expected::Input => EventFlags::IN,
            Expected::Room => EventFlags::OUT,
            Expected::Nothing => EventFlags::empty(),
        };
        Ok(epoll::modify(&self.0, fd, EventData::new_u64(key), flags)?)
    }

    /// Waits at most so long, or for ever, and tells whose time has come.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait(&self, limit: Option<Duration>) -> io::Result<Vec<u64>> {
        let limit = limit.map(Timespec::try_from).transpose();
        let limit = limit.map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut events = Vec::with_capacity(EVENTS_MAX);
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.0, room, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(events.iter().map(|event| event.data.u64()).collect())
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a caller is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// What it says.
    Input,
    /// That it takes what there is for it.
    Room,
    /// Nothing, but that it goes.
    Nothing,
}

/// Who calls, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this user on this machine.
    User(u32),
    /// Somebody at this address.
    Address(SocketAddr),
}

/// Somebody who has come in.
#[derive(Debug)]
pub struct Caller(OwnedFd);

/// Takes the next one who waits at that socket. None when nobody does.
#[must_use]
pub fn accept(door: BorrowedFd<'_>) -> Option<(Caller, Peer)> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    loop {
        let fd = match accept_with(door, flags) {
            Ok(fd) => fd,
            // It has gone again.
            Err(Errno::CONNABORTED | Errno::INTR) => continue,
            Err(_) => return None,
        };
        match peer(fd.as_fd()) {
            Some(peer) => return Some((Caller(fd), peer)),
            None => continue,
        }
    }
}

fn peer(fd: BorrowedFd<'_>) -> Option<Peer> {
    let address = getpeername(fd).ok()?.and_then(canonical);
    match address {
        Some(address) => Some(Peer::Address(address)),
        None => {
            let credentials = sockopt::socket_peercred(fd).ok()?;
            Some(Peer::User(credentials.uid.as_raw()))
        }
    }
}

impl Caller {
    /// Reads what has come: none when nothing has, 0 at the end.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        or_later(retry_on_intr(|| {
            rustix::net::recv(&self.0, &mut *into, RecvFlags::empty()).map(|(_, count)| count)
        }))
    }

    /// Writes what there is room for: none when there is none.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn write(&self, from: &[u8]) -> io::Result<Option<usize>> {
        or_later(retry_on_intr(|| {
            rustix::net::send(&self.0, from, SendFlags::NOSIGNAL)
        }))
    }
}

impl AsFd for Caller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn or_later(moved: rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Ok(count) => Ok(Some(count)),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Goes to the socket at that path, and waits at most so long for room among those who wait there
/// (unix(7): `SO_SNDTIMEO`).
///
/// # Errors
/// `WouldBlock` when there was none in time; else why nobody can be asked there.
pub fn call(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(limit))?;
    let address = SocketAddrUnix::new(path)?;
    retry_on_intr(|| connect(&socket, &address))?;
    Ok(socket.into())
}

/// The process that has opened the Unix socket which this one is connected to.
#[must_use]
pub fn opener(connected: impl AsFd) -> Option<u32> {
    let credentials = sockopt::socket_peercred(connected).ok()?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
}

/// Who this process is to those it asks.
#[must_use]
pub fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
