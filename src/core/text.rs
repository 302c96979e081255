//! Formatted text onto the end of a byte vector, without a string in between.

use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;

/// Appends what `format_args!` describes.
pub fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A vector takes every byte, and the formatting of our own types does not fail.
    let _ = Bytes(out).write_fmt(text);
}

/// Appends an IPv4 address in its dotted form. It stands twice in every request that is forwarded,
/// and general formatting costs thirty times as much.
pub fn push_ipv4(out: &mut Vec<u8>, address: Ipv4Addr) {
    // The longest one, with a dot too many at its end.
    let mut text = [b'.'; 16];
    let mut end = 0;
    for octet in address.octets() {
        let digits = 1 + usize::from(octet >= 10) + usize::from(octet >= 100);
        let mut rest = octet;
        for place in text[end..end + digits].iter_mut().rev() {
            *place = b'0' + rest % 10;
            rest /= 10;
        }
        end += digits + 1;
    }
    out.extend_from_slice(&text[..end - 1]);
}

struct Bytes<'a>(&'a mut Vec<u8>);

impl fmt::Write for Bytes<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_addresses_read_as_the_standard_library_writes_them() {
        for octet in 0..=u8::MAX {
            let address = Ipv4Addr::new(octet, 0, 255, octet);
            let mut out = b"> ".to_vec();
            push_ipv4(&mut out, address);
            assert_eq!(out, format!("> {address}").into_bytes());
        }
    }
}
