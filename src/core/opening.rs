//! What a client says before it is settled who it is, what it speaks and where it goes: a PROXY
//! header, or a ClientHello that names its server.
//!
//! An opening is pure. It is shown all bytes that have come, and says what they settle. They are
//! those of the socket: a layer comes behind it.

use std::convert::Infallible;
use std::net::SocketAddr;

/// How the first bytes of a connection are understood.
pub trait Opening {
    /// What all `bytes` that have come so far settle; at most [`OPENING_BYTES_MAX`].
    fn look(&mut self, bytes: &[u8]) -> Look;
}

/// The most that an opening may read: a ClientHello with what a TLS record may carry.
pub const OPENING_BYTES_MAX: usize = 16 * 1024;

/// How long an opening may take in all, in milliseconds.
pub const OPENING_MS_MAX: u64 = 10_000;

/// What the bytes of an opening settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing yet.
    More,
    /// All that there is to settle.
    Settled(Settled),
    /// They are no opening: the connection ends.
    Refused,
}

/// What an opening has settled, each where it says something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// So many bytes were the opening's own; the session, or its layer, begins with those behind
    /// them.
    pub own_bytes: usize,
    /// Who the client really is.
    pub peer: Option<SocketAddr>,
    /// What it speaks, where that is not what its listener says.
    pub speaks: Option<Speaks>,
    /// Where a TCP session goes, as the place of the upstream in the worker.
    pub upstream: Option<u32>,
}

/// What a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Bytes, relayed as they come; [`Settled::upstream`] says where if the listener does not.
    Tcp,
    /// HTTP/1, where the listener has routes.
    Http,
}

/// There is no such opening: everything is settled with the accept.
impl Opening for Infallible {
    fn look(&mut self, _: &[u8]) -> Look {
        match *self {}
    }
}
