//! Messages as they lie on the wire: read strictly, byte for byte, by code that shares nothing
//! with the program under test.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use super::harness::{End, Peer};

/// Longest wait for bytes that must come.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of what passed is kept for failure messages.
const LOGGED_BYTES_MAX: usize = 4096;

/// What may stand between the bytes of a connection and those of its socket.
pub(crate) trait Wrap: Debug {
    /// Sends all of it.
    fn write_all(&mut self, peer: &mut Peer, bytes: &[u8]) -> io::Result<()>;

    /// Reads once; 0 is the end.
    fn read(&mut self, peer: &mut Peer, into: &mut [u8]) -> io::Result<usize>;

    /// Ends this direction.
    fn finish(&mut self, peer: &mut Peer);
}

/// A connection with the bytes that were read ahead, and all that passed for the failure message.
#[derive(Debug)]
pub(crate) struct Conn {
    peer: Peer,
    wrap: Option<Box<dyn Wrap>>,
    ahead: Vec<u8>,
    received: Vec<u8>,
    sent: Vec<u8>,
}

/// A head: the start line and the field lines, without their line ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) start: Vec<u8>,
    pub(crate) lines: Vec<Vec<u8>>,
}

/// A whole message, or as much of its body as was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: Head,
    pub(crate) body: Body,
}

/// A body without its framing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) payload: Vec<u8>,
    pub(crate) trailers: Vec<Vec<u8>>,
    /// Whether it came in chunks.
    pub(crate) chunked: bool,
    /// Whether it stopped between two chunks, or after the last.
    pub(crate) between_chunks: bool,
    /// Whether its last chunk was there; true for a body that is not chunked.
    pub(crate) complete: bool,
}

impl Head {
    /// Takes a head apart that ends with its empty line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = bytes
            .strip_suffix(b"\r\n\r\n")
            .ok_or("a head without its empty line")?;
        let mut lines = split_lines(text)?;
        if lines.is_empty() {
            return Err("a head without a start line".to_owned());
        }
        let start = lines.remove(0);
        for line in &lines {
            let name = name_of(line);
            let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
            if name.is_empty() || name.len() == line.len() || !name.iter().all(is_token) {
                return Err(format!("no field line: \"{}\"", line.escape_ascii()));
            }
        }
        Ok(Self { start, lines })
    }

    /// The values of all fields of that name.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.lines.iter().map(Vec::as_slice);
        lines
            .filter(|line| name_of(line).eq_ignore_ascii_case(name.as_bytes()))
            .map(|line| line[name.len() + 1..].trim_ascii())
            .collect()
    }

    /// The value of a field that is there at most once.
    pub(crate) fn value(&self, name: &str) -> Option<&[u8]> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} came {} times", values.len());
        values.first().copied()
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let value = self.value(name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    pub(crate) fn is_chunked(&self) -> bool {
        self.values("transfer-encoding") == [b"chunked"]
    }

    /// The length that it states.
    pub(crate) fn content_length(&self) -> Option<usize> {
        let text = self.text("content-length")?;
        Some(text.parse().expect("Content-Length is a number"))
    }

    /// The three digits of a status line.
    pub(crate) fn status(&self) -> u16 {
        let text = String::from_utf8_lossy(&self.start);
        let digits = text.split(' ').nth(1).unwrap_or_default();
        digits.parse().unwrap_or(0)
    }

    /// A word of a request line.
    pub(crate) fn word(&self, index: usize) -> String {
        let text = String::from_utf8_lossy(&self.start);
        text.split(' ').nth(index).unwrap_or_default().to_owned()
    }
}

/// What stands before the colon; the whole line if there is none.
pub(crate) fn name_of(line: &[u8]) -> &[u8] {
    line.split(|&b| b == b':').next().unwrap_or(line)
}

/// Lines that end in CRLF, of which none may stand alone.
fn split_lines(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut lines = vec![Vec::new()];
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'\r', [b'\n', after @ ..]) => {
                lines.push(Vec::new());
                after
            }
            (b'\r' | b'\n', _) => return Err("a bare CR or LF in a head".to_owned()),
            (byte, tail) => {
                lines.last_mut().expect("there is one").push(*byte);
                tail
            }
        };
    }
    Ok(lines)
}

/// Decodes chunked coding of the plainest kind: no extension, no white space, no line end but CRLF.
/// Gives the body and how many bytes it took.
pub(crate) fn decode_chunked(bytes: &[u8]) -> Result<(Body, usize), String> {
    let mut body = Body {
        chunked: true,
        ..Body::default()
    };
    let mut at = 0;
    loop {
        let Some(line) = line_at(bytes, at) else {
            body.between_chunks = true;
            return Ok((body, at));
        };
        let digits = std::str::from_utf8(line).unwrap_or_default();
        let is_plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_plain {
            return Err(format!("no plain chunk size: \"{}\"", line.escape_ascii()));
        }
        let size = usize::from_str_radix(digits, 16).map_err(|e| e.to_string())?;
        let start = at + line.len() + 2;
        if size == 0 {
            return decode_trailers(bytes, start, body);
        }
        let available = bytes.len().saturating_sub(start).min(size);
        body.payload
            .extend_from_slice(&bytes[start..start + available]);
        let end = start + size;
        if bytes.len() < end + 2 {
            // A line end that has come in part is left for the next look.
            return Ok((body, bytes.len().min(end)));
        }
        if &bytes[end..end + 2] != b"\r\n" {
            return Err("chunk data that does not end in CRLF".to_owned());
        }
        at = end + 2;
    }
}

fn decode_trailers(bytes: &[u8], start: usize, mut body: Body) -> Result<(Body, usize), String> {
    let mut at = start;
    while let Some(line) = line_at(bytes, at) {
        at += line.len() + 2;
        if line.is_empty() {
            body.complete = true;
            body.between_chunks = true;
            return Ok((body, at));
        }
        body.trailers.push(line.to_vec());
    }
    body.trailers.clear();
    Ok((body, bytes.len()))
}

fn line_at(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let rest = &bytes[at.min(bytes.len())..];
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some(&rest[..length])
}

impl Conn {
    pub(crate) fn new(peer: Peer) -> Self {
        peer.socket()
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        Self {
            peer,
            wrap: None,
            ahead: Vec::new(),
            received: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// The same with something in between.
    pub(crate) fn wrapped(peer: Peer, wrap: Box<dyn Wrap>) -> Self {
        Self {
            wrap: Some(wrap),
            ..Self::new(peer)
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match &mut self.wrap {
            None => self.peer.read(into),
            Some(wrap) => wrap.read(&mut self.peer, into),
        }
    }

    /// Ends the sending direction; the other stays open.
    pub(crate) fn finish(&mut self) {
        match &mut self.wrap {
            None => self.peer.finish(),
            Some(wrap) => wrap.finish(&mut self.peer),
        }
    }

    /// What was received at first.
    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }

    /// What was sent at first.
    pub(crate) fn sent(&self) -> &[u8] {
        &self.sent
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(crate) fn into_peer(self) -> Peer {
        self.peer
    }

    /// Sends all of it. An error shows that the other side has closed, which it may.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        keep(&mut self.sent, bytes);
        let sent = match &mut self.wrap {
            None => self.peer.write_all(bytes),
            Some(wrap) => wrap.write_all(&mut self.peer, bytes),
        };
        sent.is_ok()
    }

    /// Reads once; false at the end.
    fn fill(&mut self) -> Result<bool, String> {
        let mut chunk = [0; 64 * 1024];
        match self.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(n) => {
                self.take(&chunk[..n]);
                Ok(true)
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err("nothing came".to_owned()),
            Err(e) => Err(e.to_string()),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.ahead.extend_from_slice(bytes);
        keep(&mut self.received, bytes);
    }

    /// Whether bytes have come, without waiting longer than `window`. An end counts as none.
    pub(crate) fn has_bytes_within(&mut self, window: Duration) -> bool {
        if !self.ahead.is_empty() {
            return true;
        }
        let set = |wait| self.peer.socket().set_read_timeout(Some(wait));
        set(window).expect("a timeout");
        let outcome = self.fill();
        let set = |wait| self.peer.socket().set_read_timeout(Some(wait));
        set(PATIENCE).expect("a timeout");
        outcome == Ok(true)
    }

    /// Reads a head.
    pub(crate) fn head(&mut self) -> Result<Head, String> {
        loop {
            let end = self.ahead.windows(4).position(|w| w == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return Head::parse(&head);
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Err("the connection ended where a head was due".to_owned()),
                Err(e) => return Err(format!("{e} where a head was due")),
            }
        }
    }

    /// Reads a line, without its CRLF.
    pub(crate) fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(line) = line_at(&self.ahead, 0) {
                let length = line.len();
                let line: Vec<u8> = self.ahead.drain(..length + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..length]).into_owned());
            }
            if !self.fill()? {
                return Err("the connection ended where a line was due".to_owned());
            }
        }
    }

    /// Reads exactly so many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> Result<Vec<u8>, String> {
        while self.ahead.len() < length {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Err("the connection ended within a body".to_owned()),
                Err(e) => return Err(format!("{e} within a body")),
            }
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// Reads a chunked body to its end, or as far as `expected` goes if that has no end.
    pub(crate) fn chunked(&mut self, expected: Option<&Body>) -> Result<Body, String> {
        loop {
            let (body, used) = decode_chunked(&self.ahead)?;
            let is_enough = expected.is_some_and(|expected| {
                let is_there = body.payload.len() >= expected.payload.len();
                is_there && (body.between_chunks || !expected.between_chunks)
            });
            if body.complete || is_enough {
                self.ahead.drain(..used);
                return Ok(body);
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return Err("the connection ended within a chunked body".to_owned()),
                Err(e) => return Err(format!("{e} within a chunked body")),
            }
        }
    }

    /// Reads a message with the body that its head announces.
    pub(crate) fn message(&mut self) -> Result<Message, String> {
        let head = self.head()?;
        let body = if head.is_chunked() {
            self.chunked(None)?
        } else {
            Body {
                payload: self.exactly(head.content_length().unwrap_or(0))?,
                complete: true,
                ..Body::default()
            }
        };
        Ok(Message { head, body })
    }

    /// Reads to the end: what still came, and how it ended.
    pub(crate) fn end(&mut self) -> Result<(Vec<u8>, End), String> {
        let end = loop {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => break End::Clean,
                Err(e) if e.contains("reset") => break End::Reset,
                Err(e) => return Err(format!("{e} where an end was due")),
            }
        };
        Ok((std::mem::take(&mut self.ahead), end))
    }
}

/// Remembers the first bytes that passed.
fn keep(log: &mut Vec<u8>, bytes: &[u8]) {
    let room = LOGGED_BYTES_MAX.saturating_sub(log.len());
    log.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Bytes that have arrived but that nobody asked for, without waiting.
pub(crate) fn surplus(conn: &mut Conn) -> Vec<u8> {
    conn.peer.socket().set_nonblocking(true).expect("a socket");
    let mut chunk = [0; 4096];
    loop {
        let got: io::Result<usize> = conn.read(&mut chunk);
        match got {
            Ok(n) if n > 0 => conn.take(&chunk[..n]),
            Ok(_) | Err(_) => break,
        }
    }
    conn.peer.socket().set_nonblocking(false).expect("a socket");
    std::mem::take(&mut conn.ahead)
}
