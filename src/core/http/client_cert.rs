//! The certificate of a client, as a backend is told it (RFC 9440).

use super::claims::is_same_name;

/// The longest certificate that fits into a field, in bytes of DER: as many servers take no longer
/// heads than 32 KiB, and base64 adds a third.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// The field of the certificate.
pub(super) const CLIENT_CERT: &[u8] = b"Client-Cert";
const CLIENT_CERT_CHAIN: &[u8] = b"Client-Cert-Chain";

/// Whether a backend may read this name as that of a field about the client's certificate.
pub(super) fn is_of_certificate(name: &[u8]) -> bool {
    is_same_name(name, CLIENT_CERT) || is_same_name(name, CLIENT_CERT_CHAIN)
}

/// Appends the field: a byte sequence (RFC 8941 section 3.3.5).
pub(super) fn write_client_cert(der: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(CLIENT_CERT);
    out.extend_from_slice(b": :");
    write_base64(der, out);
    out.extend_from_slice(b":\r\n");
}

/// RFC 4648 section 4.
fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.reserve(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = (word >> (18 - 6 * place)) & 63;
            out.push(match place > chunk.len() {
                true => b'=',
                false => ALPHABET[digit as usize],
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_any_length_are_written() {
        // RFC 4648 section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let mut out = Vec::new();
            write_client_cert(bytes.as_bytes(), &mut out);
            assert_eq!(out, format!("Client-Cert: :{text}:\r\n").as_bytes());
        }
        let mut out = Vec::new();
        write_base64(&[0xff, 0xef, 0xbe, 0xfb], &mut out);
        assert_eq!(out, b"/++++w==");
    }

    #[test]
    fn names_that_a_backend_may_take_for_it_are_known() {
        for name in ["client-cert", "Client_Cert", "CLIENT.CERT-CHAIN"] {
            assert!(is_of_certificate(name.as_bytes()), "{name}");
        }
        for name in ["Client-Certs", "X-Client-Cert", "Client"] {
            assert!(!is_of_certificate(name.as_bytes()), "{name}");
        }
    }
}
