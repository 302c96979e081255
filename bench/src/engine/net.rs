//! The few socket calls of the load, on 127.0.0.1 only.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use rustix::io::{Errno, Result};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const BACKLOG: i32 = 4096;
const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

fn socket() -> Result<OwnedFd> {
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None)?;
    net::sockopt::set_tcp_nodelay(&socket, true)?;
    Ok(socket)
}

/// A listening socket and its port.
pub(super) fn listen() -> Result<(OwnedFd, u16)> {
    let socket = socket()?;
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    net::listen(&socket, BACKLOG)?;
    let address = SocketAddrV4::try_from(net::getsockname(&socket)?)?;
    Ok((socket, address.port()))
}

pub(super) fn accept(listener: &OwnedFd) -> Result<OwnedFd> {
    net::accept_with(listener, FLAGS)
}

/// Begins to connect. On loopback the handshake is over, or refused, when this returns, and the
/// next send tells which.
pub(super) fn connect(to: SocketAddrV4) -> Result<OwnedFd> {
    let socket = socket()?;
    match net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

pub(super) fn recv(fd: &OwnedFd, buffer: &mut [u8]) -> Result<usize> {
    retry(|| net::recv(fd, &mut *buffer, RecvFlags::empty()).map(|(_, n)| n))
}

/// Takes bytes out of the socket without copying them (MSG_TRUNC, tcp(7)).
pub(super) fn discard(fd: &OwnedFd, buffer: &mut [u8]) -> Result<usize> {
    retry(|| net::recv(fd, &mut *buffer, RecvFlags::TRUNC).map(|(_, n)| n))
}

pub(super) fn send(fd: &OwnedFd, bytes: &[u8]) -> Result<usize> {
    retry(|| net::send(fd, bytes, SendFlags::NOSIGNAL))
}

fn retry(mut call: impl FnMut() -> Result<usize>) -> Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
