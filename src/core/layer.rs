//! What may stand between the bytes of a socket and those of a session: records, such as TLS has.
//!
//! A layer is pure: it is given what came from the socket and what is to be sent, and gives what
//! is to be read and what the socket is to take. What it holds of either is bounded.

use std::convert::Infallible;
use std::io::{ErrorKind, IoSlice};

use crate::core::readiness::Io;

/// One connection's layer.
pub trait Layer {
    /// These bytes of the socket had come before there was a layer: what followed an opening.
    ///
    /// # Errors
    /// As of [`Layer::on_received`].
    fn on_received_before(&mut self, bytes: &[u8]) -> Result<(), ErrorKind>;

    /// Room for bytes of the socket. Never empty while [`Layer::read`] finds nothing.
    fn room(&mut self) -> &mut [u8];

    /// So many bytes of the socket are in the room now.
    ///
    /// # Errors
    /// When they are malformed: the connection is of no use any more.
    fn on_received(&mut self, count: usize) -> Result<(), ErrorKind>;

    /// The socket has ended. Without the layer's own mark before it, that is no end but a cut.
    fn on_end(&mut self);

    /// Reads what has come, which is not empty. `Closed` is the end by the layer's own mark.
    fn read(&mut self, into: &mut [u8]) -> Io<usize>;

    /// Whether [`Layer::read`] would find bytes, or an end or a failure that was not told yet.
    fn may_read(&self) -> bool;

    /// Whether the end has come, marked or not, though bytes before it may not have been read.
    fn has_ended(&self) -> bool;

    /// Takes bytes to be sent, as many as it has room for.
    fn write(&mut self, from: &[IoSlice<'_>]) -> usize;

    /// No more is to be sent: the mark of the end follows. It is called once.
    fn finish(&mut self);

    /// What the socket is to take.
    fn pending(&self) -> &[u8];

    /// The socket has taken so much of it.
    fn on_sent(&mut self, count: usize);
}

/// There is no such layer: bytes are those of the socket.
impl Layer for Infallible {
    fn on_received_before(&mut self, _: &[u8]) -> Result<(), ErrorKind> {
        match *self {}
    }

    fn room(&mut self) -> &mut [u8] {
        match *self {}
    }

    fn on_received(&mut self, _: usize) -> Result<(), ErrorKind> {
        match *self {}
    }

    fn on_end(&mut self) {
        match *self {}
    }

    fn read(&mut self, _: &mut [u8]) -> Io<usize> {
        match *self {}
    }

    fn may_read(&self) -> bool {
        match *self {}
    }

    fn has_ended(&self) -> bool {
        match *self {}
    }

    fn write(&mut self, _: &[IoSlice<'_>]) -> usize {
        match *self {}
    }

    fn finish(&mut self) {
        match *self {}
    }

    fn pending(&self) -> &[u8] {
        match *self {}
    }

    fn on_sent(&mut self, _: usize) {
        match *self {}
    }
}
