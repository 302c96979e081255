//! Values as text in which nothing that was received can do harm.

use crate::core::calendar::CivilTime;
use crate::core::json;
use crate::core::text;

/// Longest value taken from a request, in bytes before escaping; what is longer ends in `...`.
pub(crate) const VALUE_BYTES_MAX: usize = 4096;

/// Where an escaped value stands in a text line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// Between quotes, where a space is data.
    Quotes,
    /// In a word that ends with a space or with this byte, so that both are escaped in it.
    Word(u8),
}

/// Appends a value with `\xHH` for whatever is not printable ASCII, for quotes and backslashes, as
/// nginx does; the escapes can be undone.
pub(super) fn push_escaped(value: &[u8], within: Within, out: &mut Vec<u8>) {
    let (value, cut) = clip(value);
    let (space, end) = match within {
        Within::Quotes => (b'"', b'"'),
        Within::Word(end) => (b' ', end),
    };
    for &byte in value {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => push_escape(byte, out),
            _ if byte == space || byte == end => push_escape(byte, out),
            _ => out.push(byte),
        }
    }
    out.extend_from_slice(cut.as_bytes());
}

#[cold]
fn push_escape(byte: u8, out: &mut Vec<u8>) {
    text::push(out, format_args!("\\x{byte:02X}"));
}

/// Appends what stands between the quotes of a JSON string. What is not UTF-8 becomes U+FFFD, as
/// JSON has no other bytes.
pub(super) fn push_json(value: &[u8], out: &mut Vec<u8>) {
    let (value, cut) = clip(value);
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            json::push_character(character, out);
        }
        if !chunk.invalid().is_empty() {
            json::push_character(char::REPLACEMENT_CHARACTER, out);
        }
    }
    out.extend_from_slice(cut.as_bytes());
}

/// At most the first [`VALUE_BYTES_MAX`] bytes, and what marks the cut.
fn clip(value: &[u8]) -> (&[u8], &'static str) {
    match value.get(..VALUE_BYTES_MAX) {
        Some(start) if start.len() < value.len() => (start, "..."),
        Some(_) | None => (value, ""),
    }
}

/// Appends a time in UTC as RFC 3339 has it, with milliseconds: `2001-09-09T01:46:40.123Z`.
pub fn push_rfc3339(unix_ms: u64, out: &mut Vec<u8>) {
    let CivilTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = CivilTime::from_unix(unix_ms / 1000);
    let ms = unix_ms % 1000;
    text::push(
        out,
        format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"),
    );
}

/// Appends a time in UTC as the common log format has it: `09/Sep/2001:01:46:40 +0000`.
pub(crate) fn push_clf_time(unix_ms: u64, out: &mut Vec<u8>) {
    let CivilTime {
        year,
        day,
        hour,
        minute,
        second,
        month_name,
        ..
    } = CivilTime::from_unix(unix_ms / 1000);
    text::push(
        out,
        format_args!("{day:02}/{month_name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"),
    );
}
