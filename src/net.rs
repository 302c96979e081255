//! The seam: everything a worker asks of the outside, in one trait.
//!
//! Production implements it over mio (the `reactor` room), tests with a deterministic fake, so
//! that the simulation runs the real worker.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::time::SystemTime;

use crate::core::address::Address;
use crate::core::keepalive::Keepalive;
use crate::core::layer::{Layer, LayerSpace};
use crate::core::readiness::{Io, Readiness};
use crate::core::time::{Moment, Tick};
use crate::tls::Connection;

/// What a watched descriptor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Signals and finished background jobs: the process around the worker, not the worker.
    Control,
    /// A listening socket; the key is its slot.
    Listener,
    /// The client of a session; the key is that of the session.
    Client,
    /// A connection to a backend, in use or parked; the key is its own.
    Backend,
    /// A connection of a health probe; the key is its own, too.
    Probe,
}

/// Names the owner of a watched descriptor.
///
/// The generation is fresh at every `watch`, so an event for a descriptor that has gone can be
/// told from one for whatever took its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// Where the owner is found. At most [`KEY_MAX`].
    pub key: u32,
    /// Which of the key's owners in turn is meant. At most [`GENERATION_MAX`], then it starts
    /// again.
    pub generation: u32,
}

/// The largest [`Target::key`]. A target must fit a machine word, so it depends on the platform.
pub(crate) const KEY_MAX: u32 = if usize::BITS < 64 {
    (1 << 21) - 1
} else {
    (1 << 29) - 1
};

/// The largest [`Target::generation`].
pub(crate) const GENERATION_MAX: u32 = if usize::BITS < 64 { 0xff } else { u32::MAX };

/// One event: a hint that these operations may now find something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fired {
    /// Whose descriptor it is.
    pub target: Target,
    /// What to add to its readiness. Error and hang-up set all bits.
    pub ready: Readiness,
}

/// The outcome of one attempt to accept.
#[derive(Debug)]
pub enum Accept<S> {
    /// A connection and the client's address (none on Unix sockets).
    Ready(S, Option<SocketAddr>),
    /// The queue is empty.
    Blocked,
    /// That one connection was already gone (ECONNABORTED and its kin): try the next.
    Retry,
    /// No descriptor or memory is left (EMFILE, ENFILE, ENOBUFS, ENOMEM). No event will come for
    /// what is queued: pause, then try again.
    Exhausted,
    /// The listener itself is broken.
    Failed(ErrorKind),
}

/// Why a connection could not even be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// No descriptor or memory is left (EMFILE, ENFILE, ENOBUFS, ENOMEM). It says nothing of the
    /// peer; another attempt is for later.
    Exhausted,
    /// The attempt itself failed.
    Failed(ErrorKind),
}

/// What follows the bytes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Perhaps others.
    More,
    /// The end: if all of them are taken, the caller goes on to [`Net::shutdown`] or
    /// [`Net::close`] before it waits. The kernel may keep bytes back until then, and sends them
    /// and the end as one packet. A close over unread bytes loses them.
    End,
}

/// Sockets, waiting and the clock. All operations return at once.
pub trait Net {
    /// A listening socket.
    type Listener;
    /// A connected or connecting stream.
    type Stream;
    /// A kernel pipe that bytes can be moved through without being copied.
    type Pipe;
    /// What may stand between the bytes of a stream and those of its session.
    type Layer: Layer;

    /// Waits until `until` (for ever when none) or the next event, appends what fired, and
    /// returns the one `now` of this turn. An `until` in the past only polls.
    ///
    /// # Errors
    /// Only when waiting itself is broken; an interruption is not an error.
    fn wait(&mut self, until: Option<Tick>, fired: &mut Vec<Fired>) -> io::Result<Tick>;

    /// The instant that the last [`Net::wait`] has returned, to the microsecond where the clock
    /// has them.
    fn moment(&self, now: Tick) -> Moment {
        now.into()
    }

    /// When the last [`Net::wait`] began to wait, as far as the clock was read for it: the turn
    /// before was busy until then. None when that is not known.
    fn waited_since(&self) -> Option<Tick> {
        None
    }

    /// Starts reporting events of a listener.
    ///
    /// # Errors
    /// When the kernel has no room for the registration.
    fn watch_listener(&mut self, listener: &Self::Listener, target: Target) -> io::Result<()>;

    /// Stops reporting events of a listener, which stays open.
    fn unwatch_listener(&mut self, listener: &Self::Listener);

    /// Lets nobody new into the queue of a listener, whoever else has it open, while handshakes
    /// that have begun still end there. It is for those that are to be emptied and closed.
    fn admit_no_more(&mut self, listener: &mut Self::Listener);

    /// Stops reporting events of a listener, then closes it.
    fn stop_listening(&mut self, listener: Self::Listener);

    /// Takes one connection from the queue.
    fn accept(&mut self, listener: &Self::Listener) -> Accept<Self::Stream>;

    /// Starts a connection. It is watched afterwards, and confirmed when it becomes writable: a
    /// fresh unconnected socket would report itself writable and hung up.
    ///
    /// # Errors
    /// When the attempt fails at once.
    fn connect(&mut self, to: &Address) -> Result<Self::Stream, ConnectError>;

    /// Starts a connection that is only to find out whether it comes about. It is watched and
    /// confirmed like any other; closed in the turn that confirms it, a TCP server never gets to
    /// accept it. One to a Unix socket is accepted, and ends cleanly.
    ///
    /// # Errors
    /// When the attempt fails at once.
    fn probe(&mut self, to: &Address) -> Result<Self::Stream, ConnectError>;

    /// Starts reporting events of a stream, with the state it is in now as the first.
    ///
    /// # Errors
    /// When the kernel has no room for the registration.
    fn watch(&mut self, stream: &Self::Stream, target: Target) -> io::Result<()>;

    /// Whether a connection that was started is established: `Ready`, still `Blocked`, or
    /// `Failed` with the reason, which the kernel tells once.
    fn connected(&mut self, stream: &Self::Stream) -> Io<()>;

    /// Reads into `into`, which must not be empty. The end of the stream is `Closed`.
    fn read(&mut self, stream: &Self::Stream, into: &mut [u8]) -> Io<usize>;

    /// The same without taking the bytes from the stream.
    fn peek(&mut self, stream: &Self::Stream, into: &mut [u8]) -> Io<usize>;

    /// Writes the slices in order; may take only a part.
    fn write(&mut self, stream: &Self::Stream, from: &[IoSlice<'_>], then: Then) -> Io<usize>;

    /// What stands between the bytes of a stream and those of its session: TLS, if it has any.
    fn layer(&mut self, stream: &Self::Stream, tls: Option<Connection>) -> Option<Self::Layer>;

    /// What is shared by all layers.
    fn layer_space(&mut self) -> &mut LayerSpace;

    /// Bytes that were written to a stream and have not reached the peer's kernel as far as that
    /// has said. It may be asked after the end, too; none where it cannot be known.
    fn unacknowledged(&mut self, stream: &Self::Stream) -> Option<usize>;

    /// Opens an empty pipe, or none when the kernel refuses one.
    fn pipe(&mut self) -> Option<Self::Pipe>;

    /// Moves up to `len` bytes from a stream into a pipe. `Blocked` may mean that the stream is
    /// empty or that the pipe is full.
    fn fill(&mut self, from: &Self::Stream, to: &Self::Pipe, len: usize) -> Io<usize>;

    /// Moves up to `len` bytes from a pipe into a stream.
    fn drain(&mut self, from: &Self::Pipe, to: &Self::Stream, len: usize) -> Io<usize>;

    /// Shuts down the write half: the peer reads the end after the last byte.
    fn shutdown(&mut self, stream: &Self::Stream);

    /// Closes without lingering: the peer sees a reset.
    fn reset(&mut self, stream: Self::Stream);

    /// Closes; what the kernel holds is still delivered.
    fn close(&mut self, stream: Self::Stream);

    /// Turns on TCP keepalive, which is set per upstream and so after the connect. What the
    /// kernel does not accept is left out: no connection is worse for it.
    fn set_keepalive(&mut self, stream: &Self::Stream, keepalive: &Keepalive);

    /// The address of this end of a stream, for the PROXY header; none on Unix sockets.
    fn local_address(&self, stream: &Self::Stream) -> Option<SocketAddr>;

    /// The port that clients of a listener reach; none on Unix sockets.
    fn listening_port(&self, listener: &Self::Listener) -> Option<u16>;

    /// Fills `into` with bytes that nobody can foretell.
    ///
    /// # Errors
    /// When the kernel has none to give.
    fn random(&mut self, into: &mut [u8]) -> io::Result<()>;

    /// Wall time, for log lines and nothing else.
    fn wall(&self) -> SystemTime;
}
