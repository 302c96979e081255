//! How long records are, by what they begin with.

use crate::core::layer::RECORD_BYTES_MAX;

/// What a record begins with: its type, a version and the length of the rest.
const HEAD_BYTES: usize = 5;

/// How long the record is that begins with these bytes: as long as one can be until they say so.
/// What is no record is not waited for.
pub(crate) fn record_bytes(bytes: &[u8]) -> usize {
    match *bytes {
        [20..=24, 3, _, high, low, ..] => {
            let whole = HEAD_BYTES + usize::from(u16::from_be_bytes([high, low]));
            match whole > RECORD_BYTES_MAX {
                true => bytes.len(),
                false => whole,
            }
        }
        [_, _, _, _, _, ..] => bytes.len(),
        _ => RECORD_BYTES_MAX,
    }
}

/// How many bytes are to come of the last record in these, at most; 0 where all are whole.
pub(crate) fn missing_in(mut bytes: &[u8]) -> usize {
    while !bytes.is_empty() {
        let whole = record_bytes(bytes);
        match bytes.get(whole..) {
            Some(behind) => bytes = behind,
            None => return whole - bytes.len(),
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_at_every_byte() {
        let mut bytes = vec![23, 3, 3, 0, 2, 1, 2];
        bytes.extend([22, 3, 1, 1, 0]);
        bytes.extend([7; 256]);
        for end in 1..bytes.len() {
            let missing = match end {
                0..5 => RECORD_BYTES_MAX - end,
                5..=7 => 7 - end,
                8..12 => RECORD_BYTES_MAX - (end - 7),
                _ => bytes.len() - end,
            };
            assert_eq!(missing_in(&bytes[..end]), missing, "{end} bytes");
        }
        assert_eq!(missing_in(&bytes), 0);
        assert_eq!(missing_in(&[]), 0);
    }

    #[test]
    fn what_is_no_record_is_not_waited_for() {
        for bytes in [
            &b"GET / HTTP/1.1"[..],
            &[23, 3, 3, 72, 1],
            &[23, 2, 0, 0, 9],
            &[25, 3, 3, 0, 9],
        ] {
            assert_eq!(record_bytes(bytes), bytes.len());
            assert_eq!(missing_in(bytes), 0);
        }
        assert_eq!(record_bytes(&[23, 3, 3, 72, 0]), RECORD_BYTES_MAX);
    }
}
