//! What is known of an endpoint between two events, and what one operation on it found.

use std::io::ErrorKind;
use std::ops::BitOr;

/// A set of readiness bits.
///
/// The kernel reports edges, so the set is kept here: an event adds bits, and only an operation
/// that found the opposite takes one away. Every bit is a hint; the operation finds the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing is known to be ready.
    pub const NONE: Self = Self(0);
    /// A read may find bytes, the end, or an error.
    pub const READ: Self = Self(1);
    /// A write may take bytes.
    pub const WRITE: Self = Self(2);
    /// The peer has ended its direction, hung up, or failed: a short read is not the last word.
    pub const CLOSING: Self = Self(4);
    /// What an error or a hang-up says: every operation finds something.
    pub const ALL: Self = Self(7);

    /// Whether every bit of `other` is set here.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Adds the bits of `other`.
    pub fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Takes the bits of `other` away.
    pub fn clear(&mut self, other: Self) {
        self.0 &= !other.0;
    }
}

impl BitOr for Readiness {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The outcome of one non-blocking operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io<T> {
    /// It was done.
    Ready(T),
    /// It would have had to wait: the readiness bit was stale.
    Blocked,
    /// The peer has ended its direction (a read of zero bytes).
    Closed,
    /// The connection failed. The kernel says so once; later operations may report a clean end.
    Failed(ErrorKind),
}
