//! A watched stream and what is known of it: every byte of a connection goes through here.
//!
//! Whoever uses an [`Endpoint`] asks for bytes and gives bytes; when a socket is worth another
//! call is known here alone. The kernel tells changes, and only once, so what an event said holds
//! until an operation has found the opposite.

use std::io::{self, IoSlice};

use crate::core::readiness::{Io, Readiness};
use crate::net::{Kind, Net, Target, Then};

/// One end of a connection.
pub(crate) struct Endpoint<N: Net> {
    stream: N::Stream,
    ready: Readiness,
    /// Stamped when it was watched; events of another generation are stale.
    generation: u32,
}

impl<N: Net> Endpoint<N> {
    /// A stream that was just accepted: it takes bytes before any event says so.
    pub(crate) fn accepted(stream: N::Stream, generation: u32) -> Self {
        Self {
            stream,
            ready: Readiness::WRITE,
            generation,
        }
    }

    /// Watches a connection that was just started, or closes it.
    pub(crate) fn watched(stream: N::Stream, target: Target, net: &mut N) -> io::Result<Self> {
        match net.watch(&stream, target) {
            Ok(()) => Ok(Self {
                stream,
                ready: Readiness::NONE,
                generation: target.generation,
            }),
            Err(error) => {
                net.close(stream);
                Err(error)
            }
        }
    }

    /// Starts reporting events for an owner of this kind and key.
    pub(crate) fn watch(&self, net: &mut N, kind: Kind, key: u32) -> io::Result<()> {
        let target = Target {
            kind,
            key,
            generation: self.generation,
        };
        net.watch(&self.stream, target)
    }

    /// Gives it to another owner, to whom the present state is reported again.
    pub(crate) fn rewatch(&mut self, net: &mut N, target: Target) -> io::Result<()> {
        self.generation = target.generation;
        net.rewatch(&self.stream, target)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Notes what an event says, unless it is for another who had the key. Whether it was noted.
    pub(crate) fn mark(&mut self, generation: u32, ready: Readiness) -> bool {
        let is_meant = self.generation == generation;
        if is_meant {
            self.ready.add(ready);
        }
        is_meant
    }

    /// What is known, as hints.
    pub(crate) fn ready(&self) -> Readiness {
        self.ready
    }

    /// Whether a read may find something.
    pub(crate) fn may_read(&self) -> bool {
        self.ready.has(Readiness::READ)
    }

    /// Whether a write may be taken.
    pub(crate) fn may_write(&self) -> bool {
        self.ready.has(Readiness::WRITE)
    }

    /// Whether the peer has ended its direction, hung up, or failed.
    pub(crate) fn is_closing(&self) -> bool {
        self.ready.has(Readiness::CLOSING)
    }

    /// Reads once, into what must not be empty. A read that came back short has emptied the
    /// socket, so nothing more is expected of it; unless the peer is closing: then the end is
    /// still to be read, and no event will come for it. The end is told once.
    pub(crate) fn read(&mut self, net: &mut N, into: &mut [u8]) -> Io<usize> {
        let found = net.read(&self.stream, into);
        let is_empty = match found {
            Io::Ready(count) => count < into.len() && !self.is_closing(),
            Io::Blocked | Io::Closed => true,
            Io::Failed(_) => false,
        };
        if is_empty {
            self.ready.clear(Readiness::READ);
        }
        found
    }

    /// The end of the peer's direction may have been told already: it is asked for again.
    pub(crate) fn expect_end(&mut self) {
        if self.is_closing() {
            self.ready.add(Readiness::READ);
        }
    }

    /// There may be something to be read behind a write that failed, which no event will tell.
    pub(crate) fn expect_input(&mut self) {
        self.ready.add(Readiness::READ | Readiness::CLOSING);
    }

    /// What has come is of no interest; more of it has an event of its own.
    pub(crate) fn expect_no_input(&mut self) {
        self.ready.clear(Readiness::READ);
    }

    /// Writes the slices in order; may take only a part.
    pub(crate) fn write(&mut self, net: &mut N, from: &[IoSlice<'_>], then: Then) -> Io<usize> {
        let found = net.write(&self.stream, from, then);
        self.note_taken(found)
    }

    /// Moves up to `len` bytes into a kernel pipe that is empty.
    pub(crate) fn fill(&mut self, net: &mut N, pipe: &N::Pipe, len: usize) -> Io<usize> {
        let found = net.fill(&self.stream, pipe, len);
        if let Io::Blocked | Io::Closed = found {
            self.ready.clear(Readiness::READ);
        }
        found
    }

    /// Moves up to `len` bytes out of a kernel pipe.
    pub(crate) fn drain(&mut self, net: &mut N, pipe: &N::Pipe, len: usize) -> Io<usize> {
        let found = net.drain(pipe, &self.stream, len);
        self.note_taken(found)
    }

    fn note_taken<T>(&mut self, found: Io<T>) -> Io<T> {
        if let Io::Blocked = found {
            self.ready.clear(Readiness::WRITE);
        }
        found
    }

    /// Whether a connection that was started is established, as [`Net::connected`] says.
    pub(crate) fn connected(&mut self, net: &mut N) -> Io<()> {
        let found = net.connected(&self.stream);
        self.note_taken(found)
    }

    /// Whether a connection that is closing was reset, and not just ended in one direction: for
    /// one that is not read now, where a read would tell.
    pub(crate) fn has_failed(&self, net: &mut N) -> bool {
        self.is_closing() && matches!(net.connected(&self.stream), Io::Failed(_))
    }

    /// Bytes that have not reached the peer's kernel, as [`Net::unacknowledged`] says.
    pub(crate) fn unacknowledged(&self, net: &mut N) -> Option<usize> {
        net.unacknowledged(&self.stream)
    }

    /// Ends this direction: the peer reads the end after the last byte.
    pub(crate) fn finish(&self, net: &mut N) {
        net.shutdown(&self.stream);
    }

    /// Closes; what the kernel holds is still delivered.
    pub(crate) fn close(self, net: &mut N) {
        net.close(self.stream);
    }

    /// Closes without lingering: the peer sees a reset.
    pub(crate) fn reset(self, net: &mut N) {
        net.reset(self.stream);
    }
}
