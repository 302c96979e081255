//! CRC32c (RFC 9260, appendix A), of headers only: a table of one byte is fast enough.

const TABLE: [u32; 256] = table();
/// The polynomial, its bits mirrored.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "below 256, and try_from is not const"
        )]
        let mut rest = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            rest = match rest & 1 {
                0 => rest >> 1,
                _ => (rest >> 1) ^ POLYNOMIAL,
            };
            bit += 1;
        }
        table[byte] = rest;
        byte += 1;
    }
    table
}

/// The checksum of these parts, one behind the other.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut rest = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        let [low, ..] = rest.to_le_bytes();
        rest = TABLE[usize::from(low ^ byte)] ^ (rest >> 8);
    }
    !rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksums_of_rfc_3720_come_out() {
        let ascending: Vec<u8> = (0..32).collect();
        for (bytes, sum) in [
            (&b"123456789"[..], 0xe306_9283),
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (b"", 0),
        ] {
            assert_eq!(crc32c(&[bytes]), sum);
            let (first, second) = bytes.split_at(bytes.len() / 3);
            assert_eq!(crc32c(&[first, second]), sum);
        }
    }
}
