//! Ids of requests and sessions: a random part that a worker draws when it starts, and a number.
//!
//! Counting is all that a request costs; nothing is formatted before somebody reads it. As text an
//! id looks random in all its digits, so that whoever samples by some of them samples fairly, and
//! it serves as a trace id, too.

use std::fmt;

use crate::core::key::mix;

/// The longest id that is taken from a trusted proxy, in bytes.
pub const TAKEN_BYTES_MAX: usize = 128;

/// An id that weir has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnId {
    /// Random, the worker's.
    pub start: u64,
    /// Its number there, from 1.
    pub number: u64,
}

impl OwnId {
    /// As two runs of 16 digits.
    const fn halves(self) -> (u64, u64) {
        (self.start, self.number)
    }
}

impl fmt::Display for OwnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (start, number) = self.halves();
        write!(f, "{start:016x}{:016x}", mix(number))
    }
}

/// The id of a request, as it is told to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestId<'a> {
    /// weir's own.
    Own(OwnId),
    /// That of a trusted proxy, see [`is_id`].
    Taken(&'a [u8]),
}

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Own(id) => id.fmt(f),
            Self::Taken(id) => id.iter().try_for_each(|&byte| {
                use fmt::Write as _;
                f.write_char(char::from(byte))
            }),
        }
    }
}

/// Whether a value can be an id that others have made: visible ASCII that needs no escape in a log,
/// at most [`TAKEN_BYTES_MAX`] bytes.
#[must_use]
pub fn is_id(value: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    (1..=TAKEN_BYTES_MAX).contains(&value.len()) && value.iter().all(is_plain)
}

/// The ids of one worker.
#[derive(Debug)]
pub struct Ids {
    start: u64,
    last: u64,
}

impl Ids {
    /// Those of a worker that has drawn this random part.
    pub const fn new(start: u64) -> Self {
        Self { start, last: 0 }
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The id of a number.
    pub const fn id(&self, number: u64) -> OwnId {
        OwnId {
            start: self.start,
            number,
        }
    }
}

/// An id that somebody asks for, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedId {
    /// The halves of one of weir's own.
    own: Option<(u64, u64)>,
    /// The key of one that was taken.
    pub taken_key: u64,
}

impl WantedId {
    /// Of its text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let is_own = text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit());
        let own = is_own.then(|| {
            let half = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            (half(&text[..16]), half(&text[16..]))
        });
        Self {
            own,
            taken_key: taken_key(text.as_bytes()),
        }
    }

    /// Whether it is this one of weir's own.
    #[must_use]
    pub fn is(&self, id: OwnId) -> bool {
        self.own == Some((id.start, mix(id.number)))
    }
}

/// By which an id is known that was taken; 0 is that of none.
#[must_use]
pub fn taken_key(id: &[u8]) -> u64 {
    crate::core::key::bytes_key(id).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_32_digits_and_differ_by_start_and_number() {
        let mut seen = HashSet::new();
        for start in [0, 1, u64::MAX] {
            let mut ids = Ids::new(start);
            for _ in 0..1000 {
                let number = ids.next();
                let text = ids.id(number).to_string();
                assert_eq!(text.len(), 32);
                assert!(WantedId::of(&text).is(ids.id(number)));
                assert!(WantedId::of(&text.to_uppercase()).is(ids.id(number)));
                assert!(!WantedId::of(&text).is(ids.id(number + 1)));
                assert!(seen.insert(text));
            }
        }
    }

    #[test]
    fn what_others_made_is_taken_where_it_can_stand_anywhere() {
        for good in ["a", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "a=b/c+d:e;f,g"] {
            assert!(is_id(good.as_bytes()), "{good}");
        }
        let long = "x".repeat(TAKEN_BYTES_MAX + 1);
        for bad in ["", "a b", "a\"b", "a\\b", "a\tb", "\u{e4}", &long] {
            assert!(!is_id(bad.as_bytes()), "{bad}");
        }
        assert_eq!(RequestId::Taken(b"a-1").to_string(), "a-1");
    }

    #[test]
    fn any_text_may_be_asked_for() {
        let own = OwnId {
            start: 7,
            number: 9,
        };
        for text in ["", "x", "0123456789abcdefg123456789abcdef", "\u{e4}\u{e4}"] {
            assert!(!WantedId::of(text).is(own), "{text}");
        }
        assert_eq!(WantedId::of("a-1").taken_key, taken_key(b"a-1"));
    }
}
