//! Headers as the text gives them, one rule each.

use std::net::SocketAddr;

use super::crc32c::crc32c;
use super::*;

fn client(source: &str, destination: &str) -> Origin {
    let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
    Origin::Client {
        source: parse(source),
        destination: parse(destination),
    }
}

/// A whole header, and what it says.
fn origin(header: &[u8]) -> Result<Origin, HeaderError> {
    match parse(header)? {
        Parsed::Partial => panic!("{header:?} is partial"),
        Parsed::Whole { bytes, origin } => {
            assert_eq!(bytes, header.len());
            Ok(origin)
        }
    }
}

/// A header of version 2.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

const IPV4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 80];
const TOLD: Origin = Origin::Client {
    source: SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        0x1234,
    ),
    destination: SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 2)),
        80,
    ),
};

#[test]
fn a_line_tells_source_and_destination() {
    for (line, source, destination) in [
        (
            "TCP4 192.0.2.1 198.51.100.2 56324 443",
            "192.0.2.1:56324",
            "198.51.100.2:443",
        ),
        (
            "TCP4 255.255.255.255 0.0.0.0 65535 0",
            "255.255.255.255:65535",
            "0.0.0.0:0",
        ),
        (
            "TCP6 2001:db8::1 ::1 1 65535",
            "[2001:db8::1]:1",
            "[::1]:65535",
        ),
        (
            "TCP6 2001:0DB8:0:0::0001 :: 1 2",
            "[2001:db8::1]:1",
            "[::]:2",
        ),
        (
            "TCP6 ::ffff:c000:201 ::ffff:198.51.100.2 1 2",
            "192.0.2.1:1",
            "198.51.100.2:2",
        ),
    ] {
        let header = format!("PROXY {line}\r\n");
        let told = origin(header.as_bytes());
        assert_eq!(told, Ok(client(source, destination)), "{line}");
    }
}

#[test]
fn a_line_that_is_not_to_the_letter_is_refused() {
    use HeaderError::{Address, LineEnd, LineLength, Missing, Port, Protocol, Words};
    for (header, wanted) in [
        ("PROXYTCP4 1.2.3.4 1.2.3.4 1 2\r\n", Missing),
        ("PROXY\tTCP4 1.2.3.4 1.2.3.4 1 2\r\n", Missing),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n", Missing),
        (" PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", Missing),
        ("POST / HTTP/1.1\r\n", Missing),
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", Protocol),
        ("PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n", Protocol),
        ("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", Protocol),
        ("PROXY TCP 1.2.3.4 1.2.3.4 1 2\r\n", Protocol),
        ("PROXY TCP44 1.2.3.4 1.2.3.4 1 2\r\n", Protocol),
        ("PROXY UNKNOWNS\r\n", Protocol),
        ("PROXY \r\n", Protocol),
        ("PROXY TCP4\r\n", Words),
        ("PROXY TCP4 \r\n", Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", Words),
        ("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", Words),
        ("PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n", Words),
        ("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP4 1.2.3.004 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.00 1 2\r\n", Address),
        ("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP4 1.2.3.4. 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP4 1.2.3.4.5 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP4 0x1.2.3.4 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", Address),
        ("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP6 ::1 1.2.3.4 1 2\r\n", Address),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", Address),
        ("PROXY TCP6 [::1] [::1] 1 2\r\n", Address),
        ("PROXY TCP6 1::2::3 ::1 1 2\r\n", Address),
        ("PROXY TCP6 1:2:3:4:5:6:7 ::1 1 2\r\n", Address),
        ("PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 2\r\n", Address),
        ("PROXY TCP6 1:2:3:4::5:6:7:8 ::1 1 2\r\n", Address),
        ("PROXY TCP6 00001::1 ::1 1 2\r\n", Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n", Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n", Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n", Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1a 2\r\n", Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4  2\r\n", Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", LineEnd),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx\n", LineEnd),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n", LineEnd),
        ("PROXY UNKNOWN\nGET / HTTP/1.1\r\n", LineEnd),
    ] {
        assert_eq!(parse(header.as_bytes()), Err(wanted), "{header:?}");
    }
    let longest = |bytes: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(bytes - 16));
    assert_eq!(origin(longest(107).as_bytes()), Ok(Origin::Unknown));
    assert_eq!(parse(longest(108).as_bytes()), Err(LineLength));
    assert_eq!(parse(&longest(200).as_bytes()[..106]), Ok(Parsed::Partial));
    assert_eq!(parse(&longest(200).as_bytes()[..107]), Err(LineLength));
}

#[test]
fn an_unknown_protocol_is_told_with_or_without_more() {
    for header in [
        &b"PROXY UNKNOWN\r\n"[..],
        b"PROXY UNKNOWN \r\n",
        b"PROXY UNKNOWN ffff:f::f:ffff ffff:f::f:ffff 65535 65535\r\n",
        b"PROXY UNKNOWN anything \xff\xff\0 at all\r\n",
    ] {
        assert_eq!(origin(header), Ok(Origin::Unknown));
    }
}

#[test]
fn what_cannot_become_a_line_is_refused_before_it_ends() {
    for header in [
        "G",
        "PRI",
        "PROXYx",
        "PROXY H",
        "PROXY TCP5",
        "PROXY UNKNOWNx",
    ] {
        assert!(parse(header.as_bytes()).is_err(), "{header}");
    }
}

#[test]
fn version_2_tells_source_and_destination() {
    assert_eq!(origin(&binary(0x21, 0x11, &IPV4)), Ok(TOLD));
    assert_eq!(origin(&binary(0x21, 0x12, &IPV4)), Ok(TOLD), "of datagrams");
    let mut ipv6 = [0; 36];
    ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    ipv6[15] = 1;
    ipv6[31] = 2;
    ipv6[32..].copy_from_slice(&[0, 1, 0xff, 0xff]);
    let told = client("[2001:db8::1]:1", "[::2]:65535");
    assert_eq!(origin(&binary(0x21, 0x21, &ipv6)), Ok(told));
    ipv6[..16].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1]);
    let told = client("192.0.2.1:1", "[::2]:65535");
    assert_eq!(origin(&binary(0x21, 0x21, &ipv6)), Ok(told), "as IPv4");
}

#[test]
fn where_addresses_do_not_count_those_of_the_socket_do() {
    let unix = [b'/'; 216];
    for (command, family, block, wanted) in [
        (0x20, 0x00, &b""[..], Origin::Local),
        (0x20, 0x11, &IPV4, Origin::Local),
        (0x20, 0x11, b"", Origin::Local),
        (0x20, 0x00, b"anything", Origin::Local),
        (0x20, 0x41, b"anything", Origin::Local),
        (0x20, 0x13, &IPV4, Origin::Local),
        (0x20, 0xff, b"", Origin::Local),
        (0x21, 0x00, b"", Origin::Unknown),
        (0x21, 0x00, &IPV4, Origin::Unknown),
        (0x21, 0x10, &IPV4, Origin::Unknown),
        (0x21, 0x01, b"", Origin::Unknown),
        (0x21, 0x31, &unix, Origin::Unknown),
        (0x21, 0x32, &unix, Origin::Unknown),
    ] {
        let header = binary(command, family, block);
        assert_eq!(origin(&header), Ok(wanted), "{command:x} {family:x}");
    }
}

#[test]
fn what_is_unassigned_is_refused() {
    for first in 0..=255_u8 {
        let found = parse(&binary(first, 0x11, &IPV4));
        match first {
            0x20 | 0x21 => assert!(found.is_ok()),
            0x22..=0x2f => assert_eq!(found, Err(HeaderError::Command)),
            _ => assert_eq!(found, Err(HeaderError::Version)),
        }
    }
    for family in 0..=255_u8 {
        let is_known = family >> 4 <= 3 && family & 0xf <= 2;
        for (command, is_good) in [(0x20, true), (0x21, is_known)] {
            let found = parse(&binary(command, family, &[0; 216]));
            assert_eq!(found.is_ok(), is_good, "{command:x} {family:x}");
        }
    }
}

#[test]
fn a_header_is_as_long_as_its_addresses_and_bounded() {
    for (family, bytes) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
        let shorter = binary(0x21, family, &vec![0; bytes - 1]);
        assert_eq!(parse(&shorter), Err(HeaderError::Length));
        assert_eq!(parse(&shorter[..16]), Err(HeaderError::Length), "at once");
        assert!(origin(&binary(0x21, family, &vec![0; bytes])).is_ok());
    }
    let with_noop = |bytes: u16| {
        let length = (bytes - 15).to_be_bytes();
        let noop = [
            &[4, length[0], length[1]][..],
            &vec![0; usize::from(bytes) - 15],
        ]
        .concat();
        binary(0x21, 0x11, &[&IPV4[..], &noop].concat())
    };
    assert_eq!(origin(&with_noop(4096)), Ok(TOLD));
    let longer = with_noop(4097);
    assert_eq!(parse(&longer[..16]), Err(HeaderError::TooLong), "at once");
    assert_eq!(
        parse(&binary(0x20, 0, &[0; 5000])),
        Err(HeaderError::TooLong)
    );
}

/// A header with these TLVs, of which the last is a checksum that is right.
fn with_checksum(tlvs: &[u8]) -> Vec<u8> {
    let block = [&IPV4[..], tlvs, &[3, 0, 4, 0, 0, 0, 0]].concat();
    let mut header = binary(0x21, 0x11, &block);
    let sum = crc32c(&[&header]).to_be_bytes();
    let at = header.len() - 4;
    header[at..].copy_from_slice(&sum);
    header
}

#[test]
fn tlvs_are_passed_over_but_have_to_be_whole() {
    for tlvs in [
        &[0x02, 0, 3, b'a', b'.', b'b'][..],
        &[0x04, 0, 0],
        &[0xe0, 0, 1, 9, 0xee, 0, 0],
        &[0x20, 0, 5, 1, 0, 0, 0, 0],
    ] {
        let header = binary(0x21, 0x11, &[&IPV4[..], tlvs].concat());
        assert_eq!(origin(&header), Ok(TOLD));
    }
    for tlvs in [
        &[0x02][..],
        &[0x02, 0],
        &[0x02, 0, 1],
        &[0x02, 0xff, 0xff, b'a'],
        &[0x04, 0, 0, 0x02],
        &[0x03, 0, 3, 1, 2, 3],
        &[0x03, 0, 5, 1, 2, 3, 4, 5],
    ] {
        let header = binary(0x21, 0x11, &[&IPV4[..], tlvs].concat());
        assert_eq!(parse(&header), Err(HeaderError::Tlv), "{tlvs:?}");
    }
}

#[test]
fn a_checksum_is_checked_where_there_is_one() {
    let good = with_checksum(&[0x02, 0, 1, b'a']);
    assert_eq!(origin(&good), Ok(TOLD));
    for at in FIXED_BYTES..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let is_checksum_gone = parse(&bad).is_ok();
            // Another type makes it another TLV, which says nothing.
            assert!(!is_checksum_gone || bad[good.len() - 7] != 3, "{at} {bit}");
        }
    }
    let twice = with_checksum(&good[FIXED_BYTES + 12..]);
    assert_eq!(parse(&twice), Err(HeaderError::Tlv));
    let local = [0x03, 0, 4, 1, 2, 3, 4];
    assert_eq!(parse(&binary(0x20, 0, &local)), Err(HeaderError::Checksum));
}

fn written(version: Version, origin: Origin, tls: TlsFacts<'_>) -> Vec<u8> {
    let mut out = b"before".to_vec();
    write(version, origin, tls, &mut out);
    out.split_off(b"before".len())
}

#[test]
fn lines_are_written_to_the_letter() {
    for (source, destination, wanted) in [
        (
            "192.0.2.1:5",
            "198.51.100.2:80",
            "TCP4 192.0.2.1 198.51.100.2 5 80",
        ),
        ("[2001:db8::1]:5", "[::1]:80", "TCP6 2001:db8::1 ::1 5 80"),
        (
            "[2001:db8::1]:5",
            "10.0.0.1:80",
            "TCP6 2001:db8::1 ::ffff:a00:1 5 80",
        ),
        (
            "[::ffff:192.0.2.1]:5",
            "10.0.0.1:80",
            "TCP4 192.0.2.1 10.0.0.1 5 80",
        ),
        (
            "[fe80::1%3]:5",
            "[fe80::2%3]:80",
            "TCP6 fe80::1 fe80::2 5 80",
        ),
    ] {
        let line = written(
            Version::V1,
            client(source, destination),
            TlsFacts::default(),
        );
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line, format!("PROXY {wanted}\r\n"));
    }
    for origin in [Origin::Local, Origin::Unknown] {
        let line = written(Version::V1, origin, TlsFacts::default());
        assert_eq!(line, b"PROXY UNKNOWN\r\n");
    }
}

#[test]
fn version_2_is_written_to_the_letter() {
    let local = written(Version::V2, Origin::Local, TlsFacts::default());
    assert_eq!(local, binary(0x20, 0, b""));
    let told = written(Version::V2, TOLD, TlsFacts::default());
    assert_eq!(told, with_checksum(b""));
    let tls = TlsFacts {
        authority: Some(b"a.b"),
        alpn: Some(b"h2"),
        ssl: Some(Ssl {
            version: "TLSv1.3",
            cipher: "X",
            certificate: Some(ClientCertificate {
                on_connection: true,
                is_verified: true,
                common_name: Some("me"),
            }),
        }),
    };
    let wanted = [
        &b"\x01\0\x02h2"[..],
        b"\x02\0\x03a.b",
        b"\x20\0\x18\x07\0\0\0\0",
        b"\x21\0\x07TLSv1.3",
        b"\x22\0\x02me",
        b"\x23\0\x01X",
    ];
    assert_eq!(
        written(Version::V2, TOLD, tls),
        with_checksum(&wanted.concat())
    );
}

#[test]
fn a_client_without_a_good_certificate_is_told_as_such() {
    let told = |certificate| {
        let ssl = Some(Ssl {
            version: "",
            cipher: "",
            certificate,
        });
        let tls = TlsFacts {
            ssl,
            ..TlsFacts::default()
        };
        let header = written(Version::V2, Origin::Unknown, tls);
        header[FIXED_BYTES + 3..FIXED_BYTES + 8].to_vec()
    };
    let certificate = ClientCertificate {
        on_connection: false,
        is_verified: true,
        common_name: None,
    };
    let unverified = ClientCertificate {
        is_verified: false,
        ..certificate
    };
    assert_eq!(told(None), [1, 0, 0, 0, 1]);
    assert_eq!(told(Some(certificate)), [5, 0, 0, 0, 0]);
    assert_eq!(told(Some(unverified)), [5, 0, 0, 0, 1]);
}

#[test]
fn the_longest_header_fits_its_bound_and_values_that_are_longer_are_left_out() {
    let text = "x".repeat(255);
    let longer = "x".repeat(256);
    let tls = |text: &'static str| TlsFacts {
        authority: Some(text.as_bytes()),
        alpn: Some(text.as_bytes()),
        ssl: Some(Ssl {
            version: text,
            cipher: text,
            certificate: Some(ClientCertificate {
                on_connection: true,
                is_verified: true,
                common_name: Some(text),
            }),
        }),
    };
    let origin = client("[2001:db8::1]:1", "[2001:db8::2]:2");
    let longest = written(Version::V2, origin, tls(text.leak()));
    assert_eq!(longest.len(), HEADER_BYTES_MAX);
    assert_eq!(super::tests::origin(&longest), Ok(origin));
    let short = written(Version::V2, origin, tls(longer.leak()));
    assert_eq!(short.len(), FIXED_BYTES + 36 + 8 + 7);
}
