//! What old and odd servers do to their responses that can still be read in one way only.
//!
//! Each kind is counted apart, so that an operator sees what a backend should have mended.

use std::fmt;

/// A way in which a response departs from RFC 9112 and was taken all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Oddity {
    /// An empty line before the status line.
    EmptyLine = 0,
    /// A status line with more white space than one SP, a minor version above 1, `ICY` or
    /// lower case for `HTTP`, or control bytes in its reason.
    StatusLine,
    /// A status from 600 to 999 (RFC 9110 section 15).
    StatusCode,
    /// White space between a field name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A field value folded over several lines (RFC 9112 section 5.2).
    FoldedLine,
    /// A line of a head or trailer section that ends in LF alone (RFC 9112 section 2.2).
    BareLineFeed,
    /// A field whose name is printable and no token: the field was left out.
    FieldName,
    /// A control byte in a field value (RFC 9110 section 5.5).
    ControlByte,
    /// Content-Length beside Transfer-Encoding, which wins (RFC 9112 section 6.3).
    LengthAndCoding,
    /// `chunked` named more than once, and applied once (RFC 9112 section 6.1).
    RepeatedChunked,
    /// `identity`, or nothing at all, for a transfer coding (RFC 2616 section 3.6).
    IdentityCoding,
    /// White space after a chunk size, or more zeros before it than it has digits.
    PaddedChunkSize,
    /// A line of chunked framing that ends in LF alone.
    ChunkLineFeed,
    /// A control byte in a chunk extension, which was dropped.
    ChunkExtension,
}

impl Oddity {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 14] = [
        Self::EmptyLine,
        Self::StatusLine,
        Self::StatusCode,
        Self::SpaceBeforeColon,
        Self::FoldedLine,
        Self::BareLineFeed,
        Self::FieldName,
        Self::ControlByte,
        Self::LengthAndCoding,
        Self::RepeatedChunked,
        Self::IdentityCoding,
        Self::PaddedChunkSize,
        Self::ChunkLineFeed,
        Self::ChunkExtension,
    ];

    /// The kind in a few words, for statistics and log lines.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::EmptyLine => "empty line before the status line",
            Self::StatusLine => "odd status line",
            Self::StatusCode => "status above 599",
            Self::SpaceBeforeColon => "blank before a colon",
            Self::FoldedLine => "folded field line",
            Self::BareLineFeed => "bare LF in a head",
            Self::FieldName => "odd field name left out",
            Self::ControlByte => "control byte in a field value",
            Self::LengthAndCoding => "Content-Length beside Transfer-Encoding",
            Self::RepeatedChunked => "repeated chunked",
            Self::IdentityCoding => "identity coding",
            Self::PaddedChunkSize => "padded chunk size",
            Self::ChunkLineFeed => "bare LF in chunked framing",
            Self::ChunkExtension => "control byte in a chunk extension",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u8
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Oddities(u16);

impl Oddities {
    /// None of them: how nearly every response is.
    pub const NONE: Self = Self(0);

    /// The set of these kinds.
    #[must_use]
    pub fn of(kinds: &[Oddity]) -> Self {
        let bits = kinds.iter().fold(0, |bits, kind| bits | kind.bit());
        Self(bits)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this kind is there.
    #[must_use]
    pub(crate) const fn has(self, kind: Oddity) -> bool {
        self.0 & kind.bit() != 0
    }

    /// Adds a kind.
    pub(crate) const fn add(&mut self, kind: Oddity) {
        self.0 |= kind.bit();
    }

    /// Those of both sets.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that the other set has not.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The kinds, in the order of their numbers.
    pub(crate) fn iter(self) -> impl Iterator<Item = Oddity> {
        Oddity::ALL.into_iter().filter(move |&kind| self.has(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_place_and_words_of_its_own() {
        for (place, kind) in Oddity::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            let only = Oddities::of(&[kind]);
            assert_eq!(only.iter().collect::<Vec<_>>(), [kind]);
            assert_eq!(only.without(only), Oddities::NONE);
            let same = Oddity::ALL
                .into_iter()
                .filter(|it| it.words() == kind.words());
            assert_eq!(same.count(), 1, "{kind}");
        }
    }
}
