//! Sockets whose connection has ended cleanly, kept for the next one.
//!
//! connect(2) with `AF_UNSPEC` takes a TCP socket back to where it can be connected again. That
//! spares the kernel to free a socket, its file and its registration and to make new ones, which
//! is about a tenth of what a short connection costs.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::core::address::Address;

/// Sockets kept: what ends and begins in one busy turn. One occupies some 3 KB of kernel memory.
const SPARES_MAX: usize = 64;

/// How far a stream has come on the way to its next use.
///
/// One that sent its end before it read the peer's gets there: what is left of its connection is a
/// TIME-WAIT record of the kernel's (RFC 9293, section 3.6), of which the socket is free. In the
/// other order the socket still has to wait for the last ACK.
///
/// Sockets of IPv6 are never used again: they remember the interface of a link-local peer, and
/// whether the last one was reached by IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReuseStage {
    /// Accepted, not of IPv4, with options of its own, or the peer ended first.
    Never,
    Open,
    ShutDown,
    Ended,
}

/// The stage of one stream.
#[derive(Debug)]
pub(super) struct Reuse(Cell<ReuseStage>);

impl Reuse {
    pub(super) const fn never() -> Self {
        Self(Cell::new(ReuseStage::Never))
    }

    /// Of a socket that was connected to there.
    pub(super) fn after(to: &Address) -> Self {
        Self(Cell::new(match to {
            Address::Ip(SocketAddr::V4(_)) => ReuseStage::Open,
            Address::Ip(SocketAddr::V6(_)) | Address::Unix(_) => ReuseStage::Never,
        }))
    }

    pub(super) fn on_shutdown(&self) {
        if self.0.get() == ReuseStage::Open {
            self.0.set(ReuseStage::ShutDown);
        }
    }

    pub(super) fn on_end_of_input(&self) {
        self.0.set(match self.0.get() {
            ReuseStage::ShutDown | ReuseStage::Ended => ReuseStage::Ended,
            ReuseStage::Open | ReuseStage::Never => ReuseStage::Never,
        });
    }

    /// An option was set that the next connection may not want.
    pub(super) fn on_option(&self) {
        self.0.set(ReuseStage::Never);
    }

    /// Whether both ends have come, in the right order.
    pub(super) fn has_ended(&self) -> bool {
        self.0.get() == ReuseStage::Ended
    }
}

/// A socket without a connection, still registered, with what it has of `TCP_NODELAY`.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) fd: OwnedFd,
    pub(super) is_nodelay: bool,
}

/// The sockets that wait for their next connection.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<Spare>);

impl Spares {
    /// One that can be connected to there.
    pub(super) fn take(&mut self, to: SocketAddr) -> Option<Spare> {
        if to.is_ipv4() { self.0.pop() } else { None }
    }

    /// Keeps it; one too many is closed.
    pub(super) fn keep(&mut self, spare: Spare) {
        if self.0.len() < SPARES_MAX {
            self.0.push(spare);
        }
    }

    /// Closes them all, and tells whether there were any.
    pub(super) fn clear(&mut self) -> bool {
        !std::mem::take(&mut self.0).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};

    use crate::core::readiness::{Io, Readiness};
    use crate::net::{Fired, Kind, Net, Target, Then};
    use crate::reactor::{Reactor, Stream};

    use super::*;

    /// A reactor and somebody to connect to.
    struct World {
        reactor: Reactor,
        backend: TcpListener,
        generation: u32,
    }

    impl World {
        fn new() -> Self {
            Self {
                reactor: Reactor::new().expect("epoll"),
                backend: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound"),
                generation: 0,
            }
        }

        fn spares(&self) -> usize {
            self.reactor.spares.0.len()
        }

        /// A connection that is established, and the backend's end of it.
        fn connect(&mut self) -> (Stream, TcpStream) {
            let to = Address::Ip(self.backend.local_addr().expect("bound"));
            let stream = self.reactor.connect(&to).expect("connecting");
            self.generation += 1;
            let target = self.target();
            self.reactor.watch(&stream, target).expect("watched");
            let (backend, _) = self.backend.accept().expect("accepted");
            while !self.reactor.connected(&stream).eq(&Io::Ready(())) {}
            (stream, backend)
        }

        fn target(&self) -> Target {
            Target {
                kind: Kind::Backend,
                key: 1,
                generation: self.generation,
            }
        }

        /// Waits for what is still to come of a stream: its end.
        fn read_end(&mut self, stream: &Stream) {
            while self.reactor.read(stream, &mut [0; 16]) == Io::Blocked {
                self.reactor.wait(None, &mut Vec::new()).expect("wait");
            }
        }

        /// A connection from its begin to an end that the reactor's side was first with.
        fn end_first(&mut self, stream: Stream, backend: TcpStream) {
            self.reactor.shutdown(&stream);
            drop(backend);
            self.read_end(&stream);
            self.reactor.close(stream);
        }
    }

    #[test]
    fn a_socket_that_ended_first_is_connected_again() {
        let mut world = World::new();
        let (stream, backend) = world.connect();
        world.end_first(stream, backend);
        assert_eq!(world.spares(), 1);
        let (stream, mut backend) = world.connect();
        assert_eq!(world.spares(), 0, "taken");
        let sent = world
            .reactor
            .write(&stream, &[IoSlice::new(b"to")], Then::More);
        assert_eq!(sent, Io::Ready(2));
        let mut received = [0; 2];
        backend.read_exact(&mut received).expect("bytes");
        assert_eq!(&received, b"to");
        backend.write_all(b"fro").expect("sent");
        let mut fired: Vec<Fired> = Vec::new();
        while !fired.iter().any(|event| event.ready.has(Readiness::READ)) {
            world.reactor.wait(None, &mut fired).expect("wait");
        }
        let target = world.target();
        assert!(
            fired.iter().all(|event| event.target == target),
            "{fired:?}"
        );
        let mut into = [0; 16];
        assert_eq!(world.reactor.read(&stream, &mut into), Io::Ready(3));
        assert_eq!(&into[..3], b"fro");
        world.end_first(stream, backend);
        assert_eq!(world.spares(), 1, "and again");
    }

    #[test]
    fn last_words_wait_for_the_end() {
        let waits_for_end = || {
            let mut world = World::new();
            let (stream, mut backend) = world.connect();
            let words = [IoSlice::new(b"last words")];
            let sent = world.reactor.write(&stream, &words, Then::End);
            assert_eq!(sent, Io::Ready(10));
            backend.set_nonblocking(true).expect("an option");
            let waits = backend.read(&mut [0; 16]).is_err();
            world.reactor.shutdown(&stream);
            waits
        };
        // The kernel waits for 200 ms at most.
        let waits = (0..50).filter(|_| waits_for_end()).count();
        assert!(waits > 25, "{waits} of 50");
    }

    #[test]
    fn a_socket_of_ipv6_is_closed() {
        // Where there is no IPv6 there is nothing to mistake for IPv4.
        let Ok(backend) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            return;
        };
        let mut world = World {
            backend,
            ..World::new()
        };
        let (stream, backend) = world.connect();
        world.end_first(stream, backend);
        assert_eq!(world.spares(), 0);
    }

    #[test]
    fn a_socket_whose_peer_ended_first_is_closed() {
        let mut world = World::new();
        let (stream, backend) = world.connect();
        drop(backend);
        world.read_end(&stream);
        world.reactor.shutdown(&stream);
        world.reactor.close(stream);
        assert_eq!(world.spares(), 0);
    }

    #[test]
    fn a_socket_that_was_reset_is_closed() {
        let mut world = World::new();
        let (stream, backend) = world.connect();
        world.reactor.shutdown(&stream);
        // Bytes that nobody reads make the backend's close a reset.
        let byte = [IoSlice::new(b"x")];
        world.reactor.write(&stream, &byte, Then::More);
        rustix::net::sockopt::set_socket_linger(&backend, Some(std::time::Duration::ZERO))
            .expect("option");
        drop(backend);
        world.read_end(&stream);
        world.reactor.close(stream);
        assert_eq!(world.spares(), 0);
    }

    #[test]
    fn a_socket_with_options_of_its_own_is_closed() {
        let mut world = World::new();
        let (stream, backend) = world.connect();
        let keepalive = crate::core::keepalive::Keepalive {
            idle: std::time::Duration::from_secs(10),
            interval: std::time::Duration::from_secs(1),
            probes: 3,
        };
        world.reactor.set_keepalive(&stream, &keepalive);
        world.end_first(stream, backend);
        assert_eq!(world.spares(), 0);
    }

    #[test]
    fn no_more_sockets_are_kept_than_a_turn_leaves_behind() {
        let mut world = World::new();
        let all: Vec<_> = (0..=SPARES_MAX).map(|_| world.connect()).collect();
        for (stream, backend) in all {
            world.end_first(stream, backend);
        }
        assert_eq!(world.spares(), SPARES_MAX);
        assert!(world.reactor.spares.clear());
        assert!(!world.reactor.spares.clear());
    }

    #[test]
    fn a_spare_that_cannot_be_connected_makes_way_for_a_fresh_socket() {
        let mut world = World::new();
        let (stream, backend) = world.connect();
        world.end_first(stream, backend);
        // The kernel refuses a broadcast address at once, as it would a network without a route.
        let nowhere = Address::Ip("255.255.255.255:9".parse().expect("an address"));
        assert!(world.reactor.connect(&nowhere).is_err());
        assert_eq!(world.spares(), 0);
        world.connect();
    }
}
