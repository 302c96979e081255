//! What leads clients to https, and what keeps them there (RFC 6797).

use std::net::{Ipv4Addr, Ipv6Addr};

use super::path::Canonical;
use super::reply::{Page, ReplyTo, TEXT, write_error};
use super::rewrite::append_field;
use crate::core::{host_name, text};

/// The port that https has without saying so.
pub(crate) const HTTPS_PORT: u16 = 443;

/// The field by which a browser remembers to use https alone.
pub(crate) const STRICT_TRANSPORT_SECURITY: &str = "Strict-Transport-Security";

/// Writes the https URI of a request to `host`, which is without port. Nothing is written, and
/// false returned, where that is no host that every reader takes for the same one: it may be that
/// of an attacker.
#[must_use]
pub(crate) fn write_https_uri(
    host: &[u8],
    port: u16,
    path: Canonical<'_>,
    out: &mut Vec<u8>,
) -> bool {
    if !is_plain_host(host) {
        return false;
    }
    out.extend_from_slice(b"https://");
    out.extend_from_slice(host);
    if port != HTTPS_PORT {
        out.push(b':');
        text::push_number(out, port.into());
    }
    out.extend_from_slice(path.path);
    if let Some(query) = path.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    true
}

/// Writes the answer to a request that came in the clear where TLS is spoken: 400, with a sentence.
pub(crate) fn write_not_tls(date: &[u8; 29], out: &mut Vec<u8>) {
    let page = Page {
        content_type: TEXT,
        body: b"400 Bad Request: this port speaks HTTPS, and the request came as plain HTTP.\n",
    };
    write_error(400, 0, Some(page), &ReplyTo::unread(date), out);
}

/// Whether it is a name as DNS has them, or an address. URIs allow far more in a host (RFC 3986
/// section 3.2.2), which browsers read in their own ways.
fn is_plain_host(host: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(host) else {
        return false;
    };
    if let Some(rest) = text.strip_prefix('[') {
        let address = rest.strip_suffix(']').map(str::parse::<Ipv6Addr>);
        return matches!(address, Some(Ok(_)));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    host_name::is_of_labels(name) && (!ends_in_number(name) || text.parse::<Ipv4Addr>().is_ok())
}

/// Whether browsers read a name as an address of IPv4, be it one or not: by its last label, which
/// is a number in one of their forms (URL Standard, "ends in a number checker").
fn ends_in_number(name: &str) -> bool {
    let last = host_name::last_label(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => host_name::ends_in_digits(name),
    }
}

/// The line that says for how long only https is to be used, in seconds.
pub(crate) fn hsts_line(max_age_s: u64) -> Vec<u8> {
    let mut line = Vec::new();
    append_field(
        &mut line,
        STRICT_TRANSPORT_SECURITY.as_bytes(),
        &hsts_value(max_age_s),
    );
    line
}

/// The value of that field.
pub(crate) fn hsts_value(max_age_s: u64) -> Vec<u8> {
    let mut value = b"max-age=".to_vec();
    text::push_number(&mut value, max_age_s);
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(host: &str, port: u16) -> Option<String> {
        let mut out = Vec::new();
        let path = Canonical {
            path: b"/a",
            query: Some(b"b=c"),
        };
        let is_written = write_https_uri(host.as_bytes(), port, path, &mut out);
        assert!(is_written || out.is_empty());
        is_written.then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_host_is_repeated_with_the_port_of_https() {
        for host in [
            "a.example",
            "A_b-c.Example.",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "[2001:db8::1]",
            "1a.2b",
            "0x7f.example",
            "0x7g",
            "x7f",
            "1.0xyz",
        ] {
            assert_eq!(uri(host, 443), Some(format!("https://{host}/a?b=c")));
            assert_eq!(uri(host, 8443), Some(format!("https://{host}:8443/a?b=c")));
        }
    }

    #[test]
    fn what_is_no_host_is_not_repeated() {
        let long = format!("{}example", "a.".repeat(130));
        for host in [
            "",
            ".",
            "a..example",
            ".example",
            "a.example\\@evil.test",
            "a.example@evil.test",
            "a.example:80",
            "a.example/evil",
            "a.example%40evil",
            "a.example%2f",
            "a example",
            "a\r\nb",
            "a\0b",
            "b\u{fc}cher.example",
            "a,b",
            "a;b",
            "*",
            "127.0.0.1.1",
            "127.1",
            "1.2.3.4.",
            "256.1.1.1",
            "0x7f.1",
            "0x7f000001",
            "0X7F000001",
            "0x7f000001.",
            "127.0.0.0x1",
            "a.example.0xff",
            "0x",
            "1.0x",
            "017700000001",
            "2130706433",
            "[::1",
            "::1",
            "[]",
            "[::1%eth0]",
            "[a.example]",
            &long,
            &"x".repeat(64),
        ] {
            assert_eq!(uri(host, 443), None, "{host:?}");
        }
        assert!(!is_plain_host(b"a\xff.example"));
    }

    #[test]
    fn the_age_is_told_in_seconds() {
        assert_eq!(
            hsts_line(31_536_000),
            b"Strict-Transport-Security: max-age=31536000\r\n"
        );
    }
}
