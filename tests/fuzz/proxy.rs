//! What must hold for any bytes at all where a PROXY header is expected.

use weir::core::proxy_header::{self, Origin, Parsed as Parts, TlsFacts};

/// Of a PROXY header: it is understood or refused alike however it comes, what has been understood
/// does not change with what follows, and what is written of it is understood as the same.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let whole = proxy_header::parse(bytes);
    if let Ok(Parts::Whole { bytes: own, origin }) = whole {
        assert!(own <= bytes.len());
        assert_eq!(proxy_header::parse(&bytes[..own]), whole);
        for version in [proxy_header::Version::V1, proxy_header::Version::V2] {
            let mut written = Vec::new();
            proxy_header::write(version, origin, TlsFacts::default(), &mut written);
            let again = proxy_header::parse(&written);
            let origin = match (version, origin) {
                (proxy_header::Version::V1, Origin::Local) => Origin::Unknown,
                _ => origin,
            };
            let bytes = written.len();
            assert_eq!(again, Ok(Parts::Whole { bytes, origin }));
        }
    }
    let mut has_ended = false;
    for length in 0..=bytes.len() {
        let found = proxy_header::parse(&bytes[..length]);
        if found == Ok(Parts::Partial) {
            assert!(!has_ended, "what was decided stays so");
        } else {
            // A longer one may have more than one fault, of which the first is told.
            assert_eq!(found.ok(), whole.ok(), "of the first {length} bytes");
            has_ended = true;
        }
    }
    // Nothing is waited for longer than the longest header.
    assert!(has_ended || bytes.len() < 16 + 4096);
}
