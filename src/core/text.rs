//! Formatted text onto the end of a byte vector, without a string in between.

use std::fmt::{self, Write as _};

/// Appends what `format_args!` describes.
pub fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A vector takes every byte, and the formatting of our own types does not fail.
    let _ = Bytes(out).write_fmt(text);
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
