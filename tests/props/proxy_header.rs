//! PROXY headers over drawn connections and drawn damage.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use weir::core::proxy_header::{
    ClientCertificate, HEADER_BYTES_MAX, Origin, Parsed, Ssl, TlsFacts, Version, parse, write,
};

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        // Some with zeros, which are written short.
        any::<[bool; 8]>().prop_map(|set| IpAddr::from(set.map(|it| u16::from(it) * 0xdb8))),
        any::<[u8; 4]>().prop_map(|it| IpAddr::from(std::net::Ipv4Addr::from(it).to_ipv6_mapped())),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        1 => Just(Origin::Local),
        1 => Just(Origin::Unknown),
        8 => (address(), address()).prop_map(|(source, destination)| Origin::Client {
            source,
            destination,
        }),
    ]
}

/// What is known of TLS, as it is owned.
#[derive(Clone, Debug, Default)]
struct Told {
    authority: Option<Vec<u8>>,
    alpn: Option<Vec<u8>>,
    ssl: Option<(String, String)>,
    certificate: Option<(bool, bool, Option<String>)>,
}

impl Told {
    fn facts(&self) -> TlsFacts<'_> {
        let certificate = self.certificate.as_ref();
        let certificate = certificate.map(|(on_connection, is_verified, name)| ClientCertificate {
            on_connection: *on_connection,
            is_verified: *is_verified,
            common_name: name.as_deref(),
        });
        let ssl = self.ssl.as_ref().map(|(version, cipher)| Ssl {
            version,
            cipher,
            certificate,
        });
        TlsFacts {
            authority: self.authority.as_deref(),
            alpn: self.alpn.as_deref(),
            ssl,
        }
    }
}

fn told() -> impl Strategy<Value = Told> {
    let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..300));
    let certificate = (
        any::<bool>(),
        any::<bool>(),
        prop::option::of("\\PC{0,300}"),
    );
    let ssl = ("[A-Za-z0-9.]{0,9}", "[A-Z0-9_-]{0,40}");
    (
        bytes(),
        bytes(),
        prop::option::of(ssl),
        prop::option::of(certificate),
    )
        .prop_map(|(authority, alpn, ssl, certificate)| Told {
            authority,
            alpn,
            ssl,
            certificate,
        })
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

fn written(version: Version, origin: Origin, told: &Told) -> Vec<u8> {
    let mut out = Vec::new();
    write(version, origin, told.facts(), &mut out);
    out
}

/// What is understood of a header of this: addresses that are mapped from IPv4 are IPv4.
fn understood(version: Version, origin: Origin) -> Origin {
    let canonical = |it: SocketAddr| SocketAddr::new(it.ip().to_canonical(), it.port());
    match origin {
        Origin::Local if version == Version::V1 => Origin::Unknown,
        Origin::Local | Origin::Unknown => origin,
        Origin::Client {
            source,
            destination,
        } => Origin::Client {
            source: canonical(source),
            destination: canonical(destination),
        },
    }
}

proptest! {
    #[test]
    fn what_is_written_is_understood(
        version in version(),
        origin in origin(),
        told in told(),
        rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let header = written(version, origin, &told);
        prop_assert!(header.len() <= HEADER_BYTES_MAX);
        let bytes = header.len();
        let origin = understood(version, origin);
        let all = [header, rest].concat();
        prop_assert_eq!(parse(&all), Ok(Parsed::Whole { bytes, origin }));
        for cut in 0..bytes {
            prop_assert_eq!(parse(&all[..cut]), Ok(Parsed::Partial), "cut at {}", cut);
        }
    }

    /// With nothing between its addresses and its checksum: a length that is hit can hide that in
    /// the value of another TLV.
    #[test]
    fn every_flipped_bit_of_version_2_is_noticed_or_says_nothing(origin in origin()) {
        let header = written(Version::V2, origin, &Told::default());
        let good = parse(&header);
        for at in 0..header.len() {
            for bit in 0..8 {
                let mut bad = header.clone();
                bad[at] ^= 1 << bit;
                if let found @ Ok(Parsed::Whole { origin, .. }) = parse(&bad) {
                    let says_nothing = matches!(origin, Origin::Local | Origin::Unknown);
                    prop_assert!(found == good || says_nothing, "{} {}", at, bit);
                }
            }
        }
    }

    #[test]
    fn any_bytes_end_as_a_header_or_a_refusal(
        start in prop_oneof![
            Just(&b""[..]),
            Just(&b"PROXY "[..]),
            Just(&b"PROXY TCP4 "[..]),
            Just(&b"PROXY UNKNOWN"[..]),
            Just(&b"\r\n\r\n\0\r\nQUIT\n"[..]),
            Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0"[..]),
        ],
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let all = [start, &rest].concat();
        if let Ok(Parsed::Whole { bytes, .. }) = parse(&all) {
            prop_assert!(bytes <= all.len());
        }
    }
}
