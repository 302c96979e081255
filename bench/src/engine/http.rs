//! The HTTP backend, and just enough of HTTP/1 for both ends of the load.
//!
//! A request is `GET /BYTES?SEQUENCE`; the answer carries the sequence number back in `X-Seq`, so
//! that an answer that reached the wrong request is seen.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::{Engine, Fate, net};
use crate::pattern::Pattern;

/// Longest head that either end takes.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
/// Digits of a sequence number.
const SEQUENCE_DIGITS: usize = 8;
const BODY_BYTES: [usize; 3] = [128, 64 << 10, 1 << 20];

/// A request with its sequence number.
pub(super) fn request(body_bytes: usize, close: bool, sequence: u64) -> Vec<u8> {
    let connection = if close { "Connection: close\r\n" } else { "" };
    format!(
        "GET /{body_bytes}?{:0SEQUENCE_DIGITS$x} HTTP/1.1\r\nHost: bench.test\r\n\
         User-Agent: bench\r\nAccept: */*\r\n{connection}\r\n",
        sequence & 0xFFFF_FFFF
    )
    .into_bytes()
}

/// Ready-made answers; only the sequence number is written into them per request.
#[derive(Debug)]
pub(super) struct Answers {
    answers: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    sequence_at: usize,
}

impl Answers {
    pub(super) fn new(pattern: &Pattern) -> Self {
        let kinds = BODY_BYTES
            .into_iter()
            .flat_map(|body| [(body, false), (body, true)]);
        let answers = kinds
            .map(|(body, close)| Answer::new(pattern, body, close))
            .collect();
        Self { answers }
    }
}

impl Answer {
    fn new(pattern: &Pattern, body_bytes: usize, close: bool) -> Self {
        let connection = if close { "Connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {body_bytes}\r\n{connection}X-Seq: "
        );
        let sequence_at = head.len();
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(b"00000000\r\n\r\n");
        let mut offset = 0;
        while offset < body_bytes {
            let piece = pattern.piece(offset as u64);
            let take = piece.len().min(body_bytes - offset);
            bytes.extend_from_slice(&piece[..take]);
            offset += take;
        }
        Self { bytes, sequence_at }
    }
}

/// One connection of a backend.
#[derive(Debug)]
pub(super) struct HttpBackend {
    backend: usize,
    /// The beginning of a head whose end has not come yet.
    partial: Vec<u8>,
    answer: usize,
    sequence: [u8; SEQUENCE_DIGITS],
    sent: usize,
    /// An answer is under way.
    answering: bool,
}

impl HttpBackend {
    pub(super) fn new(backend: usize) -> Self {
        Self {
            backend,
            partial: Vec::new(),
            answer: 0,
            sequence: [0; SEQUENCE_DIGITS],
            sent: 0,
            answering: false,
        }
    }
}

impl Engine {
    pub(super) fn on_http_backend(
        &mut self,
        fd: &OwnedFd,
        backend: &mut HttpBackend,
        flags: EventFlags,
    ) -> (EventFlags, Fate) {
        let fate = if backend.answering && !flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            self.send_answer(fd, backend)
        } else {
            self.receive_request(fd, backend)
        };
        (
            if backend.answering {
                EventFlags::OUT
            } else {
                EventFlags::IN
            },
            fate,
        )
    }

    fn receive_request(&mut self, fd: &OwnedFd, backend: &mut HttpBackend) -> Fate {
        let read = match net::recv(fd, &mut self.scratch) {
            Ok(n) if n > 0 => n,
            Err(Errno::AGAIN) => return Fate::Keep,
            Ok(_) | Err(_) => return Fate::Close,
        };
        let parsed = if backend.partial.is_empty() {
            parse_request(&self.scratch[..read])
        } else {
            backend.partial.extend_from_slice(&self.scratch[..read]);
            parse_request(&backend.partial)
        };
        match parsed {
            Parsed::Partial if backend.partial.len() > HEAD_BYTES_MAX => {
                self.error("a backend got a head without end");
                Fate::Close
            }
            Parsed::Partial => {
                if backend.partial.is_empty() {
                    backend.partial.extend_from_slice(&self.scratch[..read]);
                }
                Fate::Keep
            }
            Parsed::Wrong(what) => {
                self.error(what);
                Fate::Close
            }
            Parsed::Request { answer, sequence } => {
                backend.partial.clear();
                backend.answer = answer;
                backend.sequence = sequence;
                backend.sent = 0;
                backend.answering = true;
                self.send_answer(fd, backend)
            }
        }
    }

    fn send_answer(&mut self, fd: &OwnedFd, backend: &mut HttpBackend) -> Fate {
        let answer = &mut self.answers.answers[backend.answer];
        let digits = answer.sequence_at..answer.sequence_at + SEQUENCE_DIGITS;
        answer.bytes[digits].copy_from_slice(&backend.sequence);
        match net::send(fd, &answer.bytes[backend.sent..]) {
            Ok(n) => backend.sent += n,
            Err(Errno::AGAIN) => {}
            Err(_) => return Fate::Close,
        }
        if backend.sent < answer.bytes.len() {
            return Fate::Keep;
        }
        self.served.by_backend[backend.backend] += 1;
        backend.answering = false;
        let close = backend.answer % 2 == 1;
        if close { Fate::Close } else { Fate::Keep }
    }
}

enum Parsed {
    Partial,
    Request {
        answer: usize,
        sequence: [u8; SEQUENCE_DIGITS],
    },
    Wrong(&'static str),
}

/// Reads one request, which must be all that was received: no client of ours pipelines.
fn parse_request(bytes: &[u8]) -> Parsed {
    let Some(head_bytes) = head_end(bytes) else {
        return Parsed::Partial;
    };
    if head_bytes != bytes.len() {
        return Parsed::Wrong("a backend got bytes behind a request");
    }
    let Some((body_bytes, sequence)) = request_target(bytes) else {
        return Parsed::Wrong("a backend got a request that no client sent");
    };
    let Some(size) = BODY_BYTES.iter().position(|bytes| *bytes == body_bytes) else {
        return Parsed::Wrong("a backend got a path that no client sent");
    };
    let (mut host, mut close) = (false, false);
    for line in fields(&bytes[..head_bytes]) {
        host |= field(line, b"host").is_some();
        close |= field(line, b"connection").is_some_and(|v| v.eq_ignore_ascii_case(b"close"));
    }
    if !host {
        return Parsed::Wrong("a backend got a request without Host");
    }
    Parsed::Request {
        answer: size * 2 + usize::from(close),
        sequence,
    }
}

/// `GET /128?0000002a HTTP/1.` as 128 and the digits.
fn request_target(bytes: &[u8]) -> Option<(usize, [u8; SEQUENCE_DIGITS])> {
    let rest = bytes.strip_prefix(b"GET /")?;
    let question = rest.iter().take(8).position(|byte| *byte == b'?')?;
    let (size, rest) = rest.split_at(question);
    let (sequence, rest) = rest[1..].split_first_chunk::<SEQUENCE_DIGITS>()?;
    rest.starts_with(b" HTTP/1.")
        .then_some((number(size)?, *sequence))
}

/// What a client needs to know of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnswerHead {
    pub(super) head_bytes: usize,
    pub(super) status: usize,
    /// None when it has no Content-Length.
    pub(super) body_bytes: Option<u64>,
    /// None when it has no readable X-Seq.
    pub(super) sequence: Option<u64>,
}

/// Reads the head of an answer; none while its end has not come.
pub(super) fn parse_answer(bytes: &[u8]) -> Option<AnswerHead> {
    let head_bytes = head_end(bytes)?;
    let mut head = AnswerHead {
        head_bytes,
        status: bytes.get(9..12).and_then(number).unwrap_or(0),
        body_bytes: None,
        sequence: None,
    };
    for line in fields(&bytes[..head_bytes]) {
        if let Some(value) = field(line, b"content-length") {
            head.body_bytes = number(value).map(|n| n as u64);
        } else if let Some(value) = field(line, b"x-seq") {
            let digits = std::str::from_utf8(value).unwrap_or("");
            head.sequence = u64::from_str_radix(digits, 16).ok();
        }
    }
    Some(head)
}

/// Length of the head that ends in an empty line.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|byte| *byte == b'\r') {
        if bytes[from + at..].starts_with(b"\r\n\r\n") {
            return Some(from + at + 4);
        }
        from += at + 1;
        if from > HEAD_BYTES_MAX {
            return None;
        }
    }
    None
}

/// The lines of a head behind its first.
fn fields(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n').skip(1)
}

/// The value of a field line, if the line has that name.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_back_with_its_sequence_and_its_wish_to_close() {
        for (close, expected) in [(false, 2), (true, 3)] {
            match parse_request(&request(64 << 10, close, 0x2A)) {
                Parsed::Request { answer, sequence } => {
                    assert_eq!((answer, &sequence), (expected, b"0000002a"));
                }
                Parsed::Partial | Parsed::Wrong(_) => panic!("the request was not understood"),
            }
        }
    }

    #[test]
    fn an_answer_is_read_whatever_the_case_of_its_names() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nx-Seq: ff\r\n\r\nhello";
        let expected = AnswerHead {
            head_bytes: head.len() - 5,
            status: 200,
            body_bytes: Some(5),
            sequence: Some(255),
        };
        assert_eq!(parse_answer(head), Some(expected));
    }

    #[test]
    fn a_head_without_its_empty_line_is_incomplete() {
        assert_eq!(parse_answer(b"HTTP/1.1 200 OK\r\nServer: x\r\n"), None);
    }
}
