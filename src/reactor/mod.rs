//! The production [`Net`]: non-blocking sockets under one edge-triggered epoll, through mio.
//!
//! The only room that knows mio and the clock. It decides nothing: each method is one system
//! call, its result sorted into the few outcomes that a worker can act on. A stream is a bare
//! descriptor, registered once for both directions; the kernel drops the registration with the
//! last descriptor, so closing costs one call. A socket that is done with its connection is kept
//! for the next.

mod spare;
mod token;

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags, acceptfrom_with,
};

use self::spare::{Reuse, Spare, Spares};
use crate::core::address::Address;
use crate::core::keepalive::Keepalive;
use crate::core::layer::LayerSpace;
use crate::core::readiness::{Io, Readiness};
use crate::core::time::{Moment, Tick};
use crate::net::{Accept, ConnectError, Fired, Kind, Net, Target, Then};
use crate::sys::clock::monotonic_us;
use crate::sys::pipe::{self, Pipe};
use crate::sys::random;
use crate::sys::socket::{self, ListenerSocket};
use crate::sys::unacknowledged::unacknowledged;
use crate::tls::Connection;

/// Events taken from the kernel by one wait; the rest come with the next.
const EVENTS_MAX: usize = 1024;

/// Sockets, waiting and the clock of one worker.
#[derive(Debug)]
pub struct Reactor {
    poll: Poll,
    events: Events,
    now: Tick,
    /// The same, to the microsecond.
    moment: Moment,
    /// When the last wait began, if that is known.
    waited_since: Option<Tick>,
    /// One of each is kept: a wake-up must outlive the thread that sent it.
    wakers: Vec<Waker>,
    /// Where TLS opens and seals records; empty until the first.
    layer_space: LayerSpace,
    spares: Spares,
}

/// A connected or connecting socket. Dropping it closes it, which [`Net::close`] says by name.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
    nagle: Cell<Nagle>,
    reuse: Reuse,
    /// The socket had a connection before, for which it was registered.
    is_registered: bool,
}

/// Where a stream is on its way to `TCP_NODELAY`.
///
/// Nagle's algorithm never holds back a first write, for nothing is unacknowledged then. So the
/// option is set with the second one, and a connection that carries one message is spared the
/// system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nagle {
    /// On, and nothing was written.
    Fresh,
    /// On, and something was written.
    Written,
    /// Off: set here, inherited from the listener, or no TCP at all.
    Off,
}

impl Stream {
    /// Takes note of the end of its input.
    fn ending(&self, input: Io<usize>) -> Io<usize> {
        if input == Io::Closed {
            self.reuse.on_end_of_input();
        }
        input
    }

    fn write(&self, from: &[IoSlice<'_>], flags: SendFlags) -> Io<usize> {
        self.before_write();
        sort_output(retry_on_intr(|| match from {
            [one] => rustix::net::send(&self.fd, one, flags),
            _ => {
                let mut nothing = SendAncillaryBuffer::default();
                rustix::net::sendmsg(&self.fd, from, &mut nothing, flags)
            }
        }))
    }

    fn before_write(&self) {
        match self.nagle.get() {
            Nagle::Off => {}
            Nagle::Fresh => self.nagle.set(Nagle::Written),
            Nagle::Written => {
                socket::set_nodelay(&self.fd);
                self.nagle.set(Nagle::Off);
            }
        }
    }
}

/// Makes a reactor report a control event, from any thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// Wakes the reactor. Calls before it gets round to it count as one.
    ///
    /// # Errors
    /// When the kernel refuses; a counter that is already full is no error.
    pub fn wake(&self) -> io::Result<()> {
        match retry_on_intr(|| rustix::io::write(&*self.0, &1_u64.to_ne_bytes())) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Reactor {
    /// Opens an empty reactor. Its clock is CLOCK_MONOTONIC (clock_gettime(2)), in milliseconds,
    /// so the ticks of all processes of a machine compare.
    ///
    /// # Errors
    /// When the kernel gives no epoll descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            now: machine_now(),
            moment: Moment::default(),
            waited_since: None,
            wakers: Vec::new(),
            layer_space: LayerSpace::default(),
            spares: Spares::default(),
        })
    }

    /// The instant of the last wait; before the first, that of the start.
    #[must_use]
    pub fn now(&self) -> Tick {
        self.now
    }

    /// Reports when `descriptor` becomes readable, as [`Kind::Control`] with this key and
    /// generation zero. Edge-triggered: whoever is told reads until nothing is left. The owner
    /// keeps the descriptor; closing it ends the reports.
    ///
    /// # Errors
    /// When the kernel has no room for the registration.
    pub fn watch_control(&self, descriptor: BorrowedFd<'_>, key: u32) -> io::Result<()> {
        self.register(descriptor, control(key), Interest::READABLE)
    }

    /// A handle that other threads wake this reactor with; it fires like
    /// [`Reactor::watch_control`]. Clone it rather than ask again: the reactor keeps each one
    /// open for as long as it lives.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn waker(&mut self, key: u32) -> io::Result<Waker> {
        let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        self.watch_control(counter.as_fd(), key)?;
        let waker = Waker(Arc::new(counter));
        self.wakers.push(waker.clone());
        Ok(waker)
    }

    fn register(&self, fd: BorrowedFd<'_>, target: Target, interest: Interest) -> io::Result<()> {
        let raw = fd.as_raw_fd();
        self.poll
            .registry()
            .register(&mut SourceFd(&raw), token::pack(target), interest)
    }

    /// Starts a connection with a fresh socket, for which spare ones make way.
    fn open(
        &mut self,
        start: impl Fn() -> rustix::io::Result<OwnedFd>,
    ) -> Result<OwnedFd, ConnectError> {
        let started = match start() {
            Err(errno) if is_exhausted(errno) && self.spares.clear() => start(),
            result => result,
        };
        started.map_err(sort_connect_error)
    }
}

impl Net for Reactor {
    type Listener = ListenerSocket;
    type Stream = Stream;
    type Pipe = Pipe;
    type Layer = Connection;

    fn layer(&mut self, _: &Stream, tls: Option<Connection>) -> Option<Connection> {
        tls
    }

    fn layer_space(&mut self) -> &mut LayerSpace {
        &mut self.layer_space
    }

    fn wait(&mut self, until: Option<Tick>, fired: &mut Vec<Fired>) -> io::Result<Tick> {
        // The clock is read only when there is something to sleep for.
        let sleeps = until.is_none_or(|until| until > self.now);
        let since = sleeps.then(machine_now);
        // The part of a millisecond that has passed makes the wait longer, never shorter.
        let timeout = until.map(|until| until.since_ms(since.unwrap_or(until)));
        let timeout = timeout.map(Duration::from_millis);
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            // mio emptied the events before it waited: a turn in which nothing fired.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        self.moment = machine_moment();
        self.now = self.moment.tick();
        // Unless it was to sleep, nobody has waited.
        self.waited_since = Some(since.unwrap_or(self.now));
        for event in &self.events {
            if let Some(target) = token::unpack(event.token()) {
                let ready = readiness(event);
                fired.push(Fired { target, ready });
            }
        }
        Ok(self.now)
    }

    fn moment(&self, _: Tick) -> Moment {
        self.moment
    }

    fn waited_since(&self) -> Option<Tick> {
        self.waited_since
    }

    fn watch_listener(&mut self, listener: &ListenerSocket, target: Target) -> io::Result<()> {
        self.register(listener.as_fd(), target, Interest::READABLE)
    }

    fn unwatch_listener(&mut self, listener: &ListenerSocket) {
        // It fails only for what is not registered.
        let raw = listener.as_fd().as_raw_fd();
        let _ = self.poll.registry().deregister(&mut SourceFd(&raw));
    }

    fn admit_no_more(&mut self, listener: &mut ListenerSocket) {
        listener.admit_no_more();
    }

    fn stop_listening(&mut self, listener: ListenerSocket) {
        // A supervisor may hold the same socket open, and an open socket would go on firing.
        self.unwatch_listener(&listener);
        listener.close();
    }

    fn accept(&mut self, listener: &ListenerSocket) -> Accept<Stream> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match acceptfrom_with(listener, flags) {
            Ok((fd, from)) => Accept::Ready(accepted(fd), from.and_then(socket::canonical)),
            Err(errno) if is_exhausted(errno) && self.spares.clear() => Accept::Retry,
            Err(errno) => sort_accept_error(errno),
        }
    }

    fn connect(&mut self, to: &Address) -> Result<Stream, ConnectError> {
        if let Address::Ip(ip) = to
            && let Some(spare) = self.spares.take(*ip)
            && let Ok(()) = socket::connect_again(&spare.fd, *ip)
        {
            return Ok(connected_again(spare, to));
        }
        let fd = self.open(|| socket::connect(to))?;
        Ok(connected(fd, to))
    }

    fn probe(&mut self, to: &Address) -> Result<Stream, ConnectError> {
        // Its options are for nobody else: neither is it a spare nor does it become one.
        let fd = self.open(|| socket::probe(to))?;
        let stream = connected(fd, to);
        stream.reuse.on_option();
        Ok(stream)
    }

    fn watch(&mut self, stream: &Stream, target: Target) -> io::Result<()> {
        if stream.is_registered {
            // EPOLL_CTL_MOD looks at the present state, and so reports it like the first time.
            let raw = stream.fd.as_raw_fd();
            let (registry, token) = (self.poll.registry(), token::pack(target));
            if registry
                .reregister(&mut SourceFd(&raw), token, BOTH)
                .is_ok()
            {
                return Ok(());
            }
        }
        self.register(stream.fd.as_fd(), target, BOTH)
    }

    fn connected(&mut self, stream: &Stream) -> Io<()> {
        match socket::connected(&stream.fd) {
            Ok(()) => Io::Ready(()),
            Err(Errno::NOTCONN) => Io::Blocked,
            Err(errno) => Io::Failed(errno.kind()),
        }
    }

    fn read(&mut self, stream: &Stream, into: &mut [u8]) -> Io<usize> {
        stream.ending(sort_input(retry_on_intr(|| {
            rustix::net::recv(&stream.fd, &mut *into, RecvFlags::empty()).map(|(count, _)| count)
        })))
    }

    fn peek(&mut self, stream: &Stream, into: &mut [u8]) -> Io<usize> {
        sort_input(retry_on_intr(|| {
            rustix::net::recv(&stream.fd, &mut *into, RecvFlags::PEEK).map(|(count, _)| count)
        }))
    }

    fn write(&mut self, stream: &Stream, from: &[IoSlice<'_>], then: Then) -> Io<usize> {
        let flags = match then {
            Then::More => SendFlags::NOSIGNAL,
            Then::End => SendFlags::NOSIGNAL | SendFlags::MORE,
        };
        stream.write(from, flags)
    }

    fn unacknowledged(&mut self, stream: &Stream) -> Option<usize> {
        unacknowledged(stream.fd.as_fd())
    }

    fn pipe(&mut self) -> Option<Pipe> {
        Pipe::open()
    }

    fn fill(&mut self, from: &Stream, to: &Pipe, len: usize) -> Io<usize> {
        from.ending(sort_input(pipe::splice(&from.fd, &to.write_end, len)))
    }

    fn drain(&mut self, from: &Pipe, to: &Stream, len: usize) -> Io<usize> {
        sort_output(pipe::splice(&from.read_end, &to.fd, len))
    }

    fn shutdown(&mut self, stream: &Stream) {
        // It fails only on a connection that is already gone, which the next read reports.
        let _ = rustix::net::shutdown(&stream.fd, Shutdown::Write);
        stream.reuse.on_shutdown();
    }

    fn reset(&mut self, stream: Stream) {
        socket::set_reset_on_close(&stream.fd);
        drop(stream);
    }

    fn close(&mut self, stream: Stream) {
        if stream.reuse.has_ended() && socket::is_unconnected(&stream.fd) {
            let is_nodelay = stream.nagle.get() == Nagle::Off;
            let fd = stream.fd;
            self.spares.keep(Spare { fd, is_nodelay });
        }
    }

    fn set_keepalive(&mut self, stream: &Stream, keepalive: &Keepalive) {
        socket::set_keepalive(&stream.fd, keepalive);
        stream.reuse.on_option();
    }

    fn local_address(&self, stream: &Stream) -> Option<SocketAddr> {
        socket::local_address(&stream.fd)
    }

    fn listening_port(&self, listener: &ListenerSocket) -> Option<u16> {
        listener.local_address().map(|address| address.port())
    }

    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        random::fill(into)
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// The machine's clock, which is the one of [`std::time::Instant`]. That has no number of its own,
/// and the difference of two costs more than the reading.
pub fn machine_now() -> Tick {
    machine_moment().tick()
}

fn machine_moment() -> Moment {
    Moment(monotonic_us())
}

const BOTH: Interest = Interest::READABLE
    .add(Interest::WRITABLE)
    .add(Interest::PRIORITY);

const fn control(key: u32) -> Target {
    Target {
        kind: Kind::Control,
        key,
        generation: 0,
    }
}

/// A stream that inherited its options from its listener.
fn accepted(fd: OwnedFd) -> Stream {
    Stream {
        fd,
        nagle: Cell::new(Nagle::Off),
        reuse: Reuse::never(),
        is_registered: false,
    }
}

/// A stream that was connected there.
fn connected(fd: OwnedFd, to: &Address) -> Stream {
    let nagle = Cell::new(match to {
        Address::Ip(_) => Nagle::Fresh,
        Address::Unix(_) => Nagle::Off,
    });
    Stream {
        fd,
        nagle,
        reuse: Reuse::after(to),
        is_registered: false,
    }
}

/// The same for a socket that had a connection before.
fn connected_again(spare: Spare, to: &Address) -> Stream {
    let mut stream = connected(spare.fd, to);
    stream.is_registered = true;
    if spare.is_nodelay {
        stream.nagle.set(Nagle::Off);
    }
    stream
}

/// What an event says of its descriptor. Error and hang-up set all bits: the operation that
/// follows finds the truth.
fn readiness(event: &mio::event::Event) -> Readiness {
    if event.is_error() || event.is_write_closed() {
        return Readiness::ALL;
    }
    let mut ready = Readiness::NONE;
    if event.is_readable() {
        ready.add(Readiness::READ);
    }
    if event.is_writable() {
        ready.add(Readiness::WRITE);
    }
    // A read stops short at urgent data (tcp(7)) though more lies behind it.
    if event.is_read_closed() || event.is_priority() {
        ready.add(Readiness::READ | Readiness::CLOSING);
    }
    ready
}

fn sort_input(result: rustix::io::Result<usize>) -> Io<usize> {
    match result {
        Ok(0) => Io::Closed,
        Ok(count) => Io::Ready(count),
        Err(Errno::AGAIN) => Io::Blocked,
        Err(errno) => Io::Failed(errno.kind()),
    }
}

fn sort_output(result: rustix::io::Result<usize>) -> Io<usize> {
    match result {
        Ok(count) => Io::Ready(count),
        Err(Errno::AGAIN) => Io::Blocked,
        Err(errno) => Io::Failed(errno.kind()),
    }
}

/// Whether this process or the machine has run out of what every socket takes.
fn is_exhausted(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM
    )
}

fn sort_connect_error(errno: Errno) -> ConnectError {
    if is_exhausted(errno) {
        ConnectError::Exhausted
    } else {
        ConnectError::Failed(errno.kind())
    }
}

/// Sorts the errors of accept(2); see its section "Error handling".
fn sort_accept_error(errno: Errno) -> Accept<Stream> {
    match errno {
        Errno::AGAIN => Accept::Blocked,
        errno if is_exhausted(errno) => Accept::Exhausted,
        // The connection was gone before it was taken, or a firewall rule forbade it.
        Errno::INTR
        | Errno::CONNABORTED
        | Errno::PERM
        | Errno::TIMEDOUT
        // Linux also passes on what the network had already reported for that connection.
        | Errno::NETDOWN
        | Errno::PROTO
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::NONET
        | Errno::HOSTUNREACH
        | Errno::OPNOTSUPP
        | Errno::NETUNREACH => Accept::Retry,
        _ => Accept::Failed(errno.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_accept_error_is_sorted_by_what_can_be_done_about_it() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            assert!(matches!(sort_accept_error(errno), Accept::Exhausted));
        }
        for errno in [Errno::CONNABORTED, Errno::INTR, Errno::PROTO, Errno::PERM] {
            assert!(matches!(sort_accept_error(errno), Accept::Retry));
        }
        assert!(matches!(sort_accept_error(Errno::AGAIN), Accept::Blocked));
        let broken = sort_accept_error(Errno::INVAL);
        assert!(matches!(broken, Accept::Failed(ErrorKind::InvalidInput)));
    }

    #[test]
    fn a_wake_up_arrives_even_when_its_thread_has_ended() {
        let mut reactor = Reactor::new().expect("epoll");
        let waker = reactor.waker(7).expect("eventfd");
        std::thread::spawn(move || waker.wake())
            .join()
            .expect("no panic")
            .expect("woken");
        let mut fired = Vec::new();
        reactor.wait(None, &mut fired).expect("wait");
        assert_eq!(fired.len(), 1);
        assert_eq!(fired[0].target, control(7));
        assert!(fired[0].ready.has(Readiness::READ));
    }

    #[test]
    fn each_wake_up_is_an_event_though_nobody_reads_the_counter() {
        let mut reactor = Reactor::new().expect("epoll");
        let waker = reactor.waker(7).expect("eventfd");
        for _ in 0..3 {
            waker.wake().expect("woken");
            let mut fired = Vec::new();
            reactor.wait(None, &mut fired).expect("wait");
            assert_eq!(fired.len(), 1);
        }
    }

    #[test]
    fn the_clocks_of_two_reactors_compare() {
        let mut fired = Vec::new();
        let mut one = Reactor::new().expect("epoll");
        let at = one.wait(Some(Tick(0)), &mut fired).expect("poll");
        let other = Reactor::new().expect("epoll");
        assert!(at > Tick(0) && other.now() >= at);
        let again = one.wait(Some(Tick(0)), &mut fired).expect("poll");
        // Each rounds the part of a millisecond for itself.
        assert!(again.after_ms(1) >= other.now());
    }

    #[test]
    fn a_wait_ends_no_earlier_than_it_was_told() {
        let mut reactor = Reactor::new().expect("epoll");
        let mut fired = Vec::new();
        let start = reactor.wait(Some(Tick(0)), &mut fired).expect("poll");
        let until = start.after_ms(2);
        assert!(reactor.wait(Some(until), &mut fired).expect("wait") >= until);
        assert_eq!(fired, []);
    }
}
