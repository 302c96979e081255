//! What may stand between the bytes of a socket and those of a session: records, such as TLS has.
//!
//! A layer is pure: it is given what came from the socket and what is to be sent, and gives what
//! is to be read and what the socket is to take. What it holds of either is bounded.

use std::io::{ErrorKind, IoSlice};

use crate::core::fault::Fault;
use crate::core::readiness::Io;

/// What a record takes at most, in bytes: that of TLS, by RFC 5246 section 6.2.3, where it is the
/// longest.
pub(crate) const RECORD_BYTES_MAX: usize = 5 + 16 * 1024 + 2 * 1024;

/// One connection's layer.
pub trait Layer {
    /// Puts what it kept of the socket, an incomplete record, at the beginning of the space. How
    /// many bytes these are.
    fn carry(&mut self, space: &mut [u8]) -> usize;

    /// The space holds what was carried and what has come of the socket behind it. How many bytes
    /// to be read it put `into`; it keeps the rest.
    ///
    /// # Errors
    /// When they are malformed: the connection is of no use any more.
    fn on_received(&mut self, space: &mut [u8], into: &mut [u8]) -> Result<usize, ErrorKind>;

    /// The socket has ended. Without the layer's own mark before it, that is no end but a cut.
    fn on_end(&mut self);

    /// Reads what is kept, into what is not empty. `Closed` is the end by the layer's own mark.
    fn read(&mut self, into: &mut [u8]) -> Io<usize>;

    /// Whether [`Layer::read`] would find bytes, or an end or a failure that was not told yet.
    fn may_read(&self) -> bool;

    /// Whether the end has come, marked or not, though bytes before it may not have been read.
    fn has_ended(&self) -> bool;

    /// Makes records of what is to be sent behind its first bytes, as much as the space has room
    /// for.
    fn seal(&mut self, from: &[IoSlice<'_>], skipped: usize, space: &mut [u8]) -> Sealed;

    /// No more is to be sent: the mark of the end follows. It is called once.
    fn finish(&mut self);

    /// What it keeps for the socket.
    fn pending(&self) -> &[u8];

    /// The socket has taken so much of it.
    fn on_sent(&mut self, count: usize);

    /// Keeps what was sealed and the socket has not taken. Nothing else is pending.
    fn keep_pending(&mut self, sealed: &[u8]);

    /// What it keeps of either direction: none of it as [`Kept::ahead`].
    fn kept(&self) -> Kept;

    /// What that was when it was last noted, kept here for whoever notes it.
    fn kept_noted(&mut self) -> &mut Kept;

    /// Whether it keeps a part of a record, or of a message, whose rest is to come.
    fn has_partial(&self) -> bool;

    /// How many bytes are to come of the record that has begun, at most; 0 where none has.
    fn missing(&self) -> usize;

    /// How long the record is that begins with these bytes, as far as they say. Of what is
    /// malformed, no more than is there.
    fn record_bytes(&self, bytes: &[u8]) -> usize;

    /// Whether both sides have agreed, so that bytes can be sent.
    fn is_established(&self) -> bool;

    /// What asymmetric cryptography may follow before they have, in microseconds of one core: work
    /// that whoever gives it more of what came has to have room for.
    fn work_left_us(&self) -> u32;

    /// What was done of it since this was last asked.
    fn take_work_us(&mut self) -> u32;

    /// Why it failed, if it has.
    fn fault(&self) -> Option<Fault>;

    /// What both sides have agreed on, once they have.
    fn secured(&self) -> Option<Secured<'_>>;
}

/// What became of bytes that are to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// So many of them are in records.
    pub taken: usize,
    /// And these are so many bytes.
    pub bytes: usize,
}

/// What a connection is secured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secured<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The IANA name of the cipher suite.
    pub cipher: &'static str,
    /// The name by which the client asked for the site.
    pub name: Option<&'a str>,
    /// The application protocol (ALPN).
    pub protocol: Option<&'a [u8]>,
    /// The client's certificate, verified: DER.
    pub client_certificate: Option<&'a [u8]>,
    /// Names what is asked of clients; 0 for nothing.
    pub client_rules: u64,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
}

/// What a layer has allocated for bytes, in bytes. A record that has begun counts as a whole, so
/// that it can always be read to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What came of a client, as `input`, while it waits for its turn.
    pub ahead: usize,
    /// What came of the socket: incomplete records, and what was not read.
    pub input: usize,
    /// What the socket has not taken.
    pub output: usize,
}

impl Kept {
    /// All that came.
    #[must_use]
    pub(crate) const fn received(self) -> usize {
        self.ahead + self.input
    }

    /// All that is on its way.
    #[must_use]
    pub(crate) const fn in_transit(self) -> usize {
        self.input + self.output
    }

    /// All of it.
    #[must_use]
    pub const fn total(self) -> usize {
        self.ahead + self.input + self.output
    }
}

/// For what there is no memory, so that no record may begin that is not there as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Shortages {
    /// For what clients send ahead of their turn.
    pub(crate) ahead: bool,
    /// For what is on its way.
    pub(crate) in_transit: bool,
}

/// What the layers of a worker share: space to open and seal records in, how much all of them
/// keep, and what they have done since the end of the last turn of anybody who has one.
#[derive(Clone, Debug, Default)]
pub struct LayerSpace {
    /// Empty until it is needed.
    pub(crate) bytes: Vec<u8>,
    /// Whether there is anything to be looked at.
    pub(crate) is_used: bool,
    /// One of them did not read on, as [`LayerSpace::is_spent`].
    pub(crate) has_paused: bool,
    pub(crate) shortages: Shortages,
    work_bytes: usize,
    kept: Kept,
}

/// What layers may read in one turn, in bytes: twice as much as may be moved in one, so that bulk
/// ends at that.
const WORK_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that carry nothing count as so many: what takes time are records and not bytes, and small
/// records consist of little else.
const OVERHEAD_FACTOR: usize = 8;

impl LayerSpace {
    /// Whether no more may be read in this turn.
    pub(crate) const fn is_spent(&self) -> bool {
        self.work_bytes >= WORK_BYTES_MAX
    }

    /// So many bytes came of a socket, and so many of those that there were carried nothing.
    pub(crate) const fn note_read(&mut self, bytes: usize, overhead_bytes: usize) {
        self.is_used = true;
        self.work_bytes += bytes + OVERHEAD_FACTOR * overhead_bytes;
    }

    /// What a layer keeps has changed.
    pub(crate) fn note_kept(&mut self, before: Kept, now: Kept) {
        if before != now {
            self.is_used = true;
            self.kept.ahead = self.kept.ahead + now.ahead - before.ahead;
            self.kept.input = self.kept.input + now.input - before.input;
            self.kept.output = self.kept.output + now.output - before.output;
        }
    }

    /// What all layers keep.
    pub(crate) const fn kept(&self) -> Kept {
        self.kept
    }

    /// The turn is over: whether one has paused.
    pub(crate) const fn end_turn(&mut self) -> bool {
        self.is_used = false;
        self.work_bytes = 0;
        std::mem::replace(&mut self.has_paused, false)
    }
}
