//! Fixed hash functions: the same bytes give the same key in every process, version and host.
//!
//! They spread, they do not hide: nothing here withstands somebody who wants a collision. What
//! must not be forged needs a keyed hash.

use std::net::IpAddr;

/// The key of a run of bytes: FNV-1a over them (offset basis and prime of 64 bits), then mixed,
/// because the high bits of plain FNV differ too little for short inputs.
#[must_use]
#[inline(never)]
pub fn bytes_key(bytes: &[u8]) -> u64 {
    folded_key(bytes)
}

/// The same, where the number of bytes is known.
#[inline]
fn folded_key(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(FNV_OFFSET, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    });
    mix(folded)
}

/// The key of a client's address: all of an IPv4 address, the leading `ipv6_prefix_bits` of an
/// IPv6 address (more than 128 count as 128). An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2)
/// has the key of the IPv4 address in it.
#[must_use]
pub fn client_key(ip: IpAddr, ipv6_prefix_bits: u8) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => folded_key(&ip.octets()),
        IpAddr::V6(ip) => {
            let host_bits = 128 - u32::from(ipv6_prefix_bits.min(128));
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            bytes_key(&(ip.to_bits() & mask).to_be_bytes())
        }
    }
}

/// A bijection in which every input bit reaches every output bit: the finaliser of splitmix64
/// (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
#[must_use]
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str, ipv6_prefix_bits: u8) -> u64 {
        client_key(ip.parse().expect("an address"), ipv6_prefix_bits)
    }

    #[test]
    fn bytes_are_folded_by_fnv_1a() {
        // Test vectors of draft-eastlake-fnv, 64 bits.
        assert_eq!(bytes_key(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(bytes_key(b"a"), mix(0xaf63_dc4c_8601_ec8c));
        assert_eq!(bytes_key(b"foobar"), mix(0x8594_4171_f739_67e8));
    }

    #[test]
    fn addresses_of_one_client_have_one_key() {
        let same = [
            ("192.0.2.1", "::ffff:192.0.2.1", 64),
            ("192.0.2.1", "::ffff:192.0.2.1", 0),
            ("2001:db8::1", "2001:db8::ffff:0:0:1", 64),
            ("2001:db8::1", "2001:db8:0:1::", 63),
            ("2001:db8::1", "ff02::2", 0),
            ("2001:db8::1", "2001:db8::1", 255),
        ];
        for (one, two, bits) in same {
            assert_eq!(key(one, bits), key(two, bits), "{one} {two} /{bits}");
        }
    }

    #[test]
    fn addresses_of_two_clients_have_two_keys() {
        let different = [
            ("192.0.2.1", "192.0.2.2", 64),
            ("192.0.2.1", "193.0.2.1", 64),
            ("2001:db8::1", "2001:db8:0:1::1", 64),
            ("2001:db8::1", "2001:db8::2", 128),
            ("0.0.0.0", "::", 64),
        ];
        for (one, two, bits) in different {
            assert_ne!(key(one, bits), key(two, bits), "{one} {two} /{bits}");
        }
    }
}
