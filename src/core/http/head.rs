//! Request and response heads: parsed where they lie, judged once, kept as ranges.
//!
//! httparse finds the parts; what it tolerates and RFC 9112 does not is refused here. Only what a
//! response breaks that can be read in one way is mended first (see [`super::oddity`]). A head
//! borrows nothing: it is a set of offsets into the bytes it was parsed from, so a caller may
//! keep those bytes in any buffer and reuse one head for every message of a worker. Its methods
//! that take `bytes` want exactly the bytes that [`RequestHead::parse`] was given.

mod error;
mod fault;
mod fields;
mod request;
mod response;
mod target;

pub use error::HeadError;
pub(crate) use fields::{Fields, Span};
pub use request::{Expect, RequestFacts, RequestHead, TargetForm};
pub use response::{ResponseFacts, ResponseHead};

/// The longest head that offsets can describe, in bytes.
pub const HEAD_BYTES_LIMIT: usize = 65_535;

/// The most fields that a head can be allowed.
pub const FIELDS_LIMIT: usize = 256;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest head, in bytes; what exceeds [`HEAD_BYTES_LIMIT`] counts as that.
    pub head_bytes_max: usize,
    /// Most fields; what exceeds [`FIELDS_LIMIT`] counts as that.
    pub fields_max: usize,
}

/// The outcome of looking for a head that breaks no rule so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is whole and takes so many bytes, leading empty lines included.
    Complete(usize),
    /// More bytes are needed; the head that was parsed into is empty.
    Partial,
}

/// So much of a head may be parsed at every line.
const SHORT_BYTES: usize = 512;

/// Whether another attempt may find more than the last, which found `Partial` without the last
/// `fresh` bytes. It spares a head that arrives byte by byte from being parsed as often: one that
/// has become long is parsed when it ends, and before that each time when it has doubled, so that
/// all attempts together take time linear in its bytes, and what is wrong with it is still found
/// early.
#[must_use]
pub(crate) fn is_worth_parsing(bytes: &[u8], fresh: usize, limits: HeadLimits) -> bool {
    let len = bytes.len();
    let before = len.saturating_sub(fresh);
    if before == 0 || len >= limits.head_bytes_max {
        return true;
    }
    let may_end = |at: usize| bytes[at] == b'\n' && (len <= SHORT_BYTES || ends_head(bytes, at));
    let has_doubled = len > SHORT_BYTES && len.ilog2() > before.ilog2();
    has_doubled || (before..len).any(may_end)
}

/// Whether the line end at this place follows another one, and that a line with something in it:
/// empty lines before a head do not end it.
fn ends_head(bytes: &[u8], at: usize) -> bool {
    let before_line_end = |at: usize| match bytes[..at] {
        [.., b'\r'] => at - 1,
        _ => at,
    };
    let line = before_line_end(at);
    let above = line.checked_sub(1).filter(|&above| bytes[above] == b'\n');
    above.is_some_and(|above| {
        let text = before_line_end(above);
        text > 0 && bytes[text - 1] != b'\n'
    })
}

/// The version of a message. Others are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// The methods with rules of their own (RFC 9110 section 9). CONNECT is refused while parsing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the method it stands for")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    /// Any other token.
    Other,
}

impl Method {
    /// The method of that name, which is compared with its case.
    #[must_use]
    pub(crate) fn recognise(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    /// Whether it asks for no change (RFC 9110 section 9.2.1).
    #[must_use]
    pub(crate) const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether twice is the same as once (RFC 9110 section 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

/// The bytes that a head may take, and whether there are so many that none may follow.
fn window(bytes: &[u8], limits: HeadLimits) -> (&[u8], bool) {
    let longest = limits.head_bytes_max.min(HEAD_BYTES_LIMIT);
    (&bytes[..bytes.len().min(longest)], bytes.len() >= longest)
}

const fn version(minor: Option<u8>) -> Version {
    match minor {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    }
}

/// A version that nobody here speaks, or none at all. One digit tells, so that the answer does
/// not depend on how much of it has arrived.
fn version_error(rest: &[u8]) -> HeadError {
    match rest {
        [b'H', b'T', b'T', b'P', b'/', digit, ..] if digit.is_ascii_digit() => HeadError::Version,
        _ => HeadError::StartLine,
    }
}

#[cfg(test)]
mod tests;
