//! The parts that the grammar of HTTP fields is made of (RFC 9110 section 5.6).

/// Whether these bytes are a token, as names and methods are.
#[must_use]
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&byte| is_token_byte(byte))
}

/// Whether a token may hold the byte.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether these bytes can stand as a field value: no control byte but the tab.
#[must_use]
pub(crate) fn is_field_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|&byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..=0xFF))
}

/// A set of bytes, in which one is found by a single look.
pub(super) struct ByteSet([bool; 256]);

impl ByteSet {
    /// ASCII letters and digits, and these.
    pub(super) const fn alphanumeric_and(others: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut byte = 0_u8;
        while byte < 0x80 {
            set[byte as usize] = byte.is_ascii_alphanumeric();
            byte += 1;
        }
        let mut at = 0;
        while at < others.len() {
            set[others[at] as usize] = true;
            at += 1;
        }
        Self(set)
    }

    /// Whether the byte is one of them.
    #[inline]
    pub(super) const fn has(&self, byte: u8) -> bool {
        self.0[byte as usize]
    }
}

/// Whether the byte is white space within a line (OWS): a space or a tab.
pub(super) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Without white space at either end.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    trim_end(trim_start(text))
}

/// Without white space before it.
pub(super) fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_blank(*first)
    {
        text = rest;
    }
    text
}

/// Without white space behind it.
pub(super) fn trim_end(mut text: &[u8]) -> &[u8] {
    while let [rest @ .., last] = text
        && is_blank(*last)
    {
        text = rest;
    }
    text
}

/// The members of a comma-separated list without the white space around them; empty ones do not
/// count (RFC 9110 section 5.6.1.2).
pub(super) fn elements(list: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    list.split(|&byte| byte == b',')
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Whether a name is among the members of such a list, in any case.
pub(super) fn names(list: &[u8], name: &[u8]) -> bool {
    elements(list).any(|element| element.eq_ignore_ascii_case(name))
}

/// A number of digits only, below 2^63.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        let number = number.checked_mul(10)?.checked_add(digit)?;
        (number <= i64::MAX as u64).then_some(number)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_spaces_and_tabs_are_trimmed() {
        for (text, start, end, both) in [
            ("", "", "", ""),
            (" \t ", "", "", ""),
            ("a", "a", "a", "a"),
            (" a\t b \t", "a\t b \t", " a\t b", "a\t b"),
            ("\r\x0ba\n", "\r\x0ba\n", "\r\x0ba\n", "\r\x0ba\n"),
        ] {
            assert_eq!(trim_start(text.as_bytes()), start.as_bytes(), "{text:?}");
            assert_eq!(trim_end(text.as_bytes()), end.as_bytes(), "{text:?}");
            assert_eq!(trim(text.as_bytes()), both.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_list_has_the_members_that_hold_something() {
        let found: Vec<_> = elements(b", a ,,\tb c,\"d\" ,").collect();
        assert_eq!(found, [b"a".as_slice(), b"b c", b"\"d\""]);
        assert!(names(b"x, Keep-Alive", b"keep-alive"));
        assert!(!names(b"x, keep-alive2", b"keep-alive"));
        assert!(!names(b",,", b""));
    }

    #[test]
    fn a_number_is_of_digits_and_below_the_bound() {
        for (text, number) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("99999999999999999999999", None),
            ("", None),
            ("+1", None),
            ("1 ", None),
        ] {
            assert_eq!(decimal(text.as_bytes()), number, "{text:?}");
        }
    }
}
