//! What an HTTP health probe says and how its answer is read.
//!
//! It asks once and never follows a redirect. Only the status counts, as soon as the head is
//! complete. What follows is read so that the server can send it to the end: many a server logs a
//! connection that breaks off before.

use crate::core::http::body::{Body, Framing};
use crate::core::http::head::{HeadError, HeadLimits, Method, Parsed, ResponseHead};

/// Longest answer head that a probe reads, in bytes, interim responses included.
pub(crate) const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How much of an answer a probe reads, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// How large an answer's head may be.
const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: HEAD_BYTES_MAX,
    fields_max: 100,
};

/// The request of a probe.
#[must_use]
pub(crate) fn request(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: weir-health\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes()
}

/// What the next bytes of an answer tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeAnswer {
    /// Nothing that decides.
    Partial,
    /// Its status; told once.
    Status(u16),
    /// Its head breaks this rule; told once.
    Malformed(HeadError),
}

/// An answer on its way in. The head is kept until it is complete, the rest is not.
#[derive(Debug)]
pub(crate) struct Incoming {
    part: Part,
    /// How many bytes may still be read.
    room: usize,
}

#[derive(Debug)]
enum Part {
    /// The head as far as it has come.
    Head(Vec<u8>),
    Body(Body),
    /// The end is here, or cannot be found.
    Over,
}

/// A final head at the beginning of an answer.
struct FinalHead {
    status: u16,
    framing: Framing,
    /// Where it ends, in bytes.
    end: usize,
}

impl Incoming {
    /// An answer of which nothing has come.
    #[must_use]
    pub(crate) const fn new() -> Self {
        Self {
            part: Part::Head(Vec::new()),
            room: ANSWER_BYTES_MAX,
        }
    }

    /// How many more bytes are worth reading; none beyond [`ANSWER_BYTES_MAX`].
    #[must_use]
    pub(crate) const fn room(&self) -> usize {
        self.room
    }

    /// Whether the server has nothing more to say.
    #[must_use]
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.part, Part::Over)
    }

    /// Takes the next bytes, at most [`Incoming::room`].
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> ProbeAnswer {
        self.room = self.room.saturating_sub(bytes.len());
        match &mut self.part {
            Part::Head(so_far) => {
                so_far.extend_from_slice(bytes);
                self.judge()
            }
            Part::Body(_) => {
                self.pass(bytes);
                ProbeAnswer::Partial
            }
            Part::Over => ProbeAnswer::Partial,
        }
    }

    fn judge(&mut self) -> ProbeAnswer {
        let Part::Head(so_far) = &self.part else {
            return ProbeAnswer::Partial;
        };
        let head = match final_head(so_far) {
            Ok(Some(head)) => head,
            Ok(None) => return ProbeAnswer::Partial,
            Err(error) => {
                self.part = Part::Over;
                return ProbeAnswer::Malformed(error);
            }
        };
        let body = Part::Body(Body::of_response(head.framing, false));
        if let Part::Head(bytes) = std::mem::replace(&mut self.part, body) {
            self.pass(&bytes[head.end..]);
        }
        ProbeAnswer::Status(head.status)
    }

    /// Passes over bytes of the body.
    fn pass(&mut self, mut bytes: &[u8]) {
        let Part::Body(body) = &mut self.part else {
            return;
        };
        while !bytes.is_empty() && !body.is_done() {
            match body.feed(bytes) {
                Ok(piece) => bytes = &bytes[piece.consumed..],
                Err(_) => {
                    self.part = Part::Over;
                    return;
                }
            }
        }
        if body.is_done() {
            self.part = Part::Over;
        }
    }
}

impl Default for Incoming {
    fn default() -> Self {
        Self::new()
    }
}

/// Looks for the final head; interim responses are passed over.
fn final_head(bytes: &[u8]) -> Result<Option<FinalHead>, HeadError> {
    let mut head = ResponseHead::default();
    let mut start = 0;
    loop {
        match head.parse(&bytes[start..], Method::Get, LIMITS) {
            Ok(Parsed::Complete(length)) if head.facts.is_interim() => start += length,
            Ok(Parsed::Complete(length)) => {
                return Ok(Some(FinalHead {
                    status: head.facts.status,
                    framing: head.facts.framing,
                    end: start + length,
                }));
            }
            Ok(Parsed::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(Parsed::Partial) => return Err(HeadError::TooLong),
            Err(error) => return Err(error),
        }
    }
}

/// Whether `status` is in one of the inclusive ranges.
#[must_use]
pub(crate) fn accepts(ranges: &[(u16, u16)], status: u16) -> bool {
    ranges
        .iter()
        .any(|&(first, last)| (first..=last).contains(&status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_told(bytes: &[u8]) -> ProbeAnswer {
        Incoming::new().feed(bytes)
    }

    #[test]
    fn an_answer_is_partial_until_its_head_ends() {
        let whole = b"HTTP/1.1 204 No Content\r\nServer: x\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(
                first_told(&whole[..end]),
                ProbeAnswer::Partial,
                "{end} bytes"
            );
        }
        assert_eq!(first_told(whole), ProbeAnswer::Status(204));
    }

    #[test]
    fn other_protocols_are_malformed() {
        for (bytes, wanted) in [
            (&b"SSH-2.0-x\r\n"[..], HeadError::StartLine),
            (b"\0\0\0", HeadError::StartLine),
            (b"HTTP/1.1 abc\r\n\r\n", HeadError::Status),
            (b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", HeadError::FieldName),
        ] {
            let mut answer = Incoming::new();
            assert_eq!(answer.feed(bytes), ProbeAnswer::Malformed(wanted));
            assert!(answer.is_over());
            assert_eq!(answer.feed(bytes), ProbeAnswer::Partial, "told once");
        }
        let long = [&b"HTTP/1.1 200 OK\r\nA: "[..], &[b'a'; HEAD_BYTES_MAX]].concat();
        assert_eq!(
            first_told(&long),
            ProbeAnswer::Malformed(HeadError::TooLong)
        );
        let odd = b"HTTP/1.1  200 OK\nX-Foo : bar\n\n";
        assert_eq!(
            first_told(odd),
            ProbeAnswer::Status(200),
            "as real traffic does"
        );
    }

    #[test]
    fn interim_responses_are_passed_over() {
        let mut answer = Incoming::new();
        let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(answer.feed(interim), ProbeAnswer::Partial);
        let last = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(answer.feed(last), ProbeAnswer::Status(200));
        assert!(answer.is_over());
    }

    /// What follows a status line, and whether the answer ends with it or with the connection.
    const ANSWERS: [(&str, bool); 9] = [
        ("Content-Length: 0\r\n\r\n", true),
        ("Content-Length: 2\r\n\r\nok", true),
        ("Content-Length: 3\r\n\r\nok", false),
        (
            "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nA: b\r\n\r\n",
            true,
        ),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", false),
        ("Transfer-Encoding: chunked\r\n\r\nnonsense", true),
        ("Transfer-Encoding : chunked\n\n2   \r\nok\n0 \n\n", true),
        ("\r\nok", false),
        ("Connection: close\r\n\r\nok", false),
    ];

    #[test]
    fn an_answer_is_over_where_its_framing_says_so() {
        for (rest, is_over) in ANSWERS {
            let whole = format!("HTTP/1.1 503 x\r\n{rest}");
            for cut in 0..whole.len() {
                let mut answer = Incoming::new();
                let (first, second) = whole.as_bytes().split_at(cut);
                let told = [answer.feed(first), answer.feed(second)];
                assert_eq!(answer.is_over(), is_over, "{whole:?} cut at {cut}");
                let decided = told.iter().filter(|&&one| one == ProbeAnswer::Status(503));
                assert_eq!(decided.count(), 1, "{whole:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn no_more_of_an_answer_is_read_than_is_allowed_and_nothing_of_it_is_kept() {
        let mut answer = Incoming::new();
        assert_eq!(
            answer.feed(b"HTTP/1.0 200 OK\r\n\r\n"),
            ProbeAnswer::Status(200)
        );
        while answer.room() > 0 {
            let chunk = vec![b'x'; answer.room().min(10_000)];
            assert_eq!(answer.feed(&chunk), ProbeAnswer::Partial);
            assert!(matches!(answer.part, Part::Body(_)));
        }
        assert!(!answer.is_over());
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
