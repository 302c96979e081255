//! What an HTTP health probe says and how its answer is read.
//!
//! It asks once and never follows a redirect; only the status line counts.

use crate::core::http::head::{Limits, Method, Parsed, ResponseHead};

/// Longest answer head that a probe reads, in bytes.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// How large an answer's head may be.
const LIMITS: Limits = Limits {
    head_bytes_max: ANSWER_BYTES_MAX,
    fields_max: 100,
};

/// The request of a probe.
#[must_use]
pub fn request(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir-health\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

/// What is known of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The head is not complete.
    Partial,
    /// Its status.
    Status(u16),
    /// It is no HTTP.
    Malformed,
}

/// Reads the answer as far as it has come. Interim responses are passed over.
#[must_use]
pub fn answer(bytes: &[u8]) -> Answer {
    let mut head = ResponseHead::default();
    let mut rest = bytes;
    loop {
        match head.parse(rest, Method::Get, LIMITS) {
            Ok(Parsed::Complete(length)) if head.facts.is_interim() => rest = &rest[length..],
            Ok(Parsed::Complete(_)) => return Answer::Status(head.facts.status),
            Ok(Parsed::Partial) if bytes.len() < ANSWER_BYTES_MAX => return Answer::Partial,
            Ok(Parsed::Partial) | Err(_) => return Answer::Malformed,
        }
    }
}

/// Whether `status` is in one of the inclusive ranges.
#[must_use]
pub fn accepts(ranges: &[(u16, u16)], status: u16) -> bool {
    ranges
        .iter()
        .any(|&(first, last)| (first..=last).contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_partial_until_its_head_ends() {
        let whole = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(answer(&whole[..end]), Answer::Partial, "after {end} bytes");
        }
        assert_eq!(answer(whole), Answer::Status(204));
    }

    #[test]
    fn other_protocols_are_malformed() {
        for bytes in [&b"SSH-2.0-x\r\n"[..], b"\0\0\0", b"HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(answer(bytes), Answer::Malformed);
        }
        assert_eq!(
            answer(
                &[
                    b"HTTP/1.1 200 OK\r\nA: "[..].to_vec(),
                    vec![b'a'; ANSWER_BYTES_MAX]
                ]
                .concat()
            ),
            Answer::Malformed
        );
    }

    #[test]
    fn statuses_are_accepted_by_range() {
        let ranges = [(200, 299), (401, 401)];
        for (status, accepted) in [
            (199, false),
            (200, true),
            (299, true),
            (300, false),
            (401, true),
        ] {
            assert_eq!(accepts(&ranges, status), accepted, "{status}");
        }
    }
}
