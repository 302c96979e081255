//! Formatted text onto the end of a byte vector, without a string in between.

use std::fmt::{self, Write as _};
use std::net::Ipv4Addr;

use crate::core::calendar::SECONDS_PER_DAY;

/// What a noun of English ends in, for one or another number of what it names.
#[must_use]
pub const fn plural(is_one: bool) -> &'static str {
    if is_one { "" } else { "s" }
}

/// So many seconds in whole days, in words.
#[must_use]
pub fn whole_days(s: u64) -> String {
    match s / SECONDS_PER_DAY {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// Appends what `format_args!` describes.
pub fn push(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // A vector takes every byte, and the formatting of our own types does not fail.
    let _ = Bytes(out).write_fmt(text);
}

/// Appends an IPv4 address in its dotted form. It stands twice in every request that is forwarded,
/// and general formatting costs thirty times as much.
pub(crate) fn push_ipv4(out: &mut Vec<u8>, address: Ipv4Addr) {
    // The longest one, with a dot too many at its end.
    let (mut text, mut bits) = (0_u128, 0);
    for octet in address.octets() {
        let with_dot = OCTETS[usize::from(octet)];
        text |= u128::from(with_dot) << bits;
        bits += u32::BITS - with_dot.leading_zeros() / 8 * 8;
    }
    push_start(out, text.to_le_bytes(), bits as usize / 8 - 1);
}

/// The digits of each octet with a dot behind them, the first in the lowest byte.
static OCTETS: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let zero = b'0' as u32;
        let mut text = (b'.' as u32) << 8 | (zero + octet % 10);
        if octet >= 10 {
            text = text << 8 | (zero + octet / 10 % 10);
        }
        if octet >= 100 {
            text = text << 8 | (zero + octet / 100);
        }
        table[octet as usize] = text;
        octet += 1;
    }
    table
};

/// Appends a number in decimal digits.
pub(crate) fn push_number(out: &mut Vec<u8>, number: u64) {
    match u32::try_from(number) {
        Ok(number @ 0..1_000) => {
            let (digits, count) = digits::<3>(number);
            push_start(out, digits.to_le_bytes(), count);
        }
        Ok(number @ 1_000..100_000) => {
            let (digits, count) = digits::<5>(number);
            push_start(out, digits.to_le_bytes(), count);
        }
        _ => push(out, format_args!("{number}")),
    }
}

/// The digits of a number of so many places at most, the first in the lowest byte, and how many.
fn digits<const PLACES: usize>(number: u32) -> (u64, usize) {
    let (mut text, mut rest) = (0, number);
    let (mut count, mut power) = (1, 10);
    for place in (0..PLACES).rev() {
        text |= u64::from(u32::from(b'0') + rest % 10) << (8 * place);
        rest /= 10;
    }
    for _ in 1..PLACES {
        count += usize::from(number >= power);
        power *= 10;
    }
    (text >> (8 * (PLACES - count)), count)
}

/// Appends the first so many bytes. To copy all of them is a few instructions, to copy some a call.
fn push_start<const N: usize>(out: &mut Vec<u8>, text: [u8; N], count: usize) {
    let end = out.len() + count;
    out.extend_from_slice(&text);
    out.truncate(end);
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

    #[test]
    fn numbers_read_as_the_standard_library_writes_them() {
        let powers = (0..20).map(|exponent| 10_u64.pow(exponent));
        let numbers = powers.flat_map(|power| [power - 1, power, power + 1, power / 1000 * 1234]);
        for number in numbers.chain([u64::from(u32::MAX), 1 << 32, u64::MAX]) {
            let mut out = b"> ".to_vec();
            push_number(&mut out, number);
            assert_eq!(out, format!("> {number}").into_bytes());
        }
    }
}
