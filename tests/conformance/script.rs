//! The cases as text: what is sent and what must arrive, on both sides of weir, line by line.
//!
//! ```text
//! == the name of a case
//! @ listener via: edge        a line for the listener or the upstream of this case
//! @ routes [{...}]             in the place of the one route `/`; POOL stands for the upstream
//! > GET / HTTP/1.1             the client sends this line, with CRLF
//! >> GET / HTTP/1.1            the origin receives it
//! << HTTP/1.1 200 OK           the origin sends it
//! < HTTP/1.1 200 OK            the client receives it
//! < own 400                    the client receives an answer that weir makes itself
//! <+ more                      the client receives just this, after a message; likewise >>+
//! * closed                     something that is not a message: see [`Act`]
//! --                           what follows is another segment, or another message
//! ```
//!
//! Lines of one kind that follow each other are one message. A line that ends in `\` has no CRLF.
//! `\r`, `\n`, `\t`, `\0`, `\\`, `\xHH` are bytes; `\{text*N}` is the text N times. Steps are
//! taken in order, so what stands below waits for what stands above. Lines that begin with `#` are
//! comments; a case ends where the next begins.
//!
//! A case without `>>` claims that its origin receives nothing at all.

use super::wire::{Body, Head, Message, decode_chunked};

/// One case.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The line of its name.
    pub(crate) line: usize,
    pub(crate) listener: Vec<String>,
    pub(crate) upstream: Vec<String>,
    pub(crate) routes: Option<String>,
    pub(crate) steps: Vec<(usize, Step)>,
}

/// One step of a case.
#[derive(Debug)]
pub(crate) enum Step {
    /// The client sends these bytes at once.
    Send(Vec<u8>),
    /// The origin receives this request.
    Request(Message),
    /// The origin sends these bytes at once.
    Respond(Vec<u8>),
    /// The client receives this response.
    Response(Message),
    /// The origin receives these bytes.
    RequestRest(Vec<u8>),
    /// The client receives these bytes.
    ResponseRest(Vec<u8>),
    /// The client receives an answer of weir's own; a body only where one may be.
    Own {
        status: u16,
        has_body: bool,
    },
    Act(Act),
}

/// What is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The client's connection is closed cleanly and nothing came before that.
    Closed,
    /// The client's connection ends, by a close or a reset, and nothing came before that.
    Cut,
    /// The client's connection ends, and what came before that does not end its chunked body.
    CutWithRest,
    /// The client's connection is reset.
    Reset,
    /// The client is answered 400, 413 or 431 and closed; its origin never receives a whole
    /// request, and sees its connection end if there was one.
    BadBody,
    /// The client's connection serves another request.
    Kept,
    /// The client ends its sending direction.
    ClientEnds,
    /// The client resets its connection.
    ClientResets,
    /// The client comes back with a new connection.
    ClientReturns,
    /// The origin receives nothing for a moment.
    OriginQuiet,
    /// The origin receives the clean end of its connection, and closes it.
    OriginEnds,
    /// The origin ends its sending direction, and reads on.
    OriginShuts,
    /// The origin closes its connection.
    OriginCloses,
    /// The origin resets its connection.
    OriginResets,
    /// The origin's connection is ended by weir.
    OriginCut,
    /// The origin listens no more.
    OriginGone,
    /// The next request arrives at the origin on another connection than the last.
    NewConnection,
    /// The next request arrives at the origin on the same connection as the last.
    SameConnection,
    /// The client sends `ping-1` and the origin receives just that; then the other way round.
    Opaque,
}

const ACTS: &[(&str, Act)] = &[
    ("closed", Act::Closed),
    ("cut", Act::Cut),
    ("cut with rest", Act::CutWithRest),
    ("reset", Act::Reset),
    ("bad body", Act::BadBody),
    ("kept", Act::Kept),
    ("client ends", Act::ClientEnds),
    ("client resets", Act::ClientResets),
    ("client returns", Act::ClientReturns),
    ("origin quiet", Act::OriginQuiet),
    ("origin ends", Act::OriginEnds),
    ("origin shuts", Act::OriginShuts),
    ("origin closes", Act::OriginCloses),
    ("origin resets", Act::OriginResets),
    ("origin cut", Act::OriginCut),
    ("origin gone", Act::OriginGone),
    ("new connection", Act::NewConnection),
    ("same connection", Act::SameConnection),
    ("opaque", Act::Opaque),
];

/// Reads a file of cases.
///
/// # Panics
/// With the line when it can not be read.
pub(crate) fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut block: Option<(usize, &str, Vec<u8>)> = None;
    for (n, line) in text.lines().enumerate() {
        let at = n + 1;
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        let is_message =
            matches!(mark, ">" | ">>" | ">>+" | "<<" | "<" | "<+") && !rest.starts_with("own ");
        if let Some((_, open, bytes)) = &mut block
            && is_message
            && *open == mark
        {
            bytes.extend_from_slice(&bytes_of(file, at, rest));
            continue;
        }
        if let (Some(case), Some(done)) = (cases.last_mut(), block.take()) {
            case.close(file, done);
        }
        if is_message {
            block = Some((at, mark, bytes_of(file, at, rest)));
            continue;
        }
        if mark == "==" {
            cases.push(Case::new(rest, at));
            continue;
        }
        let Some(case) = cases.last_mut() else {
            let is_preamble = line.is_empty() || mark == "#";
            assert!(is_preamble, "{file}:{at}: before the first case");
            continue;
        };
        match mark {
            "" | "#" | "--" => {}
            "@" => case.configure(file, at, rest),
            "<" => case.own(file, at, rest),
            "*" => {
                let act = ACTS.iter().find(|(word, _)| *word == rest);
                let act = act.unwrap_or_else(|| panic!("{file}:{at}: no act: {rest}"));
                case.steps.push((at, Step::Act(act.1)));
            }
            _ => panic!("{file}:{at}: what is `{mark}`?"),
        }
    }
    if let (Some(case), Some(done)) = (cases.last_mut(), block.take()) {
        case.close(file, done);
    }
    cases
}

impl Case {
    fn new(name: &str, line: usize) -> Self {
        Self {
            name: name.to_owned(),
            line,
            listener: Vec::new(),
            upstream: Vec::new(),
            routes: None,
            steps: Vec::new(),
        }
    }

    /// Whether any request may arrive at the origin.
    pub(crate) fn reaches_origin(&self) -> bool {
        let reaches = |step: &(usize, Step)| {
            matches!(
                step.1,
                Step::Request(_) | Step::Act(Act::Kept | Act::Opaque | Act::BadBody)
            )
        };
        self.steps.iter().any(reaches)
    }

    fn configure(&mut self, file: &str, at: usize, rest: &str) {
        match rest.split_once(' ') {
            Some(("listener", line)) => self.listener.push(line.to_owned()),
            Some(("upstream", line)) => self.upstream.push(line.to_owned()),
            Some(("routes", line)) => self.routes = Some(line.to_owned()),
            _ => panic!("{file}:{at}: what does it configure?"),
        }
    }

    fn own(&mut self, file: &str, at: usize, rest: &str) {
        let words = rest.strip_prefix("own ").unwrap_or_default();
        let (status, has_body) = match words.strip_suffix(" head") {
            Some(status) => (status, false),
            None => (words, true),
        };
        let status = status.parse();
        let status = status.unwrap_or_else(|_| panic!("{file}:{at}: no status"));
        self.steps.push((at, Step::Own { status, has_body }));
    }

    fn close(&mut self, file: &str, (at, mark, bytes): (usize, &str, Vec<u8>)) {
        let expected = || message(&bytes).unwrap_or_else(|why| panic!("{file}:{at}: {why}"));
        let step = match mark {
            ">" => Step::Send(bytes),
            "<<" => Step::Respond(bytes),
            ">>" => Step::Request(expected()),
            ">>+" => Step::RequestRest(bytes),
            "<+" => Step::ResponseRest(bytes),
            _ => Step::Response(expected()),
        };
        self.steps.push((at, step));
    }
}

/// What is expected, written as it lies on the wire.
fn message(bytes: &[u8]) -> Result<Message, String> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
    let end = end.ok_or("no empty line")? + 4;
    let head = Head::parse(&bytes[..end])?;
    let rest = &bytes[end..];
    let body = if head.is_chunked() && !rest.is_empty() {
        decode_chunked(rest)?.0
    } else {
        Body {
            payload: rest.to_vec(),
            complete: true,
            ..Body::default()
        }
    };
    Ok(Message { head, body })
}

/// The bytes of a line and its CRLF.
fn bytes_of(file: &str, at: usize, line: &str) -> Vec<u8> {
    let (line, end): (&str, &[u8]) = match line.strip_suffix('\\') {
        Some(rest) if !rest.ends_with('\\') => (rest, b""),
        _ => (line, b"\r\n"),
    };
    let mut bytes = unescape(line).unwrap_or_else(|| panic!("{file}:{at}: a bad escape"));
    bytes.extend_from_slice(end);
    bytes
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = rest[at + 1..].chars().next()?;
        rest = &rest[at + 2..];
        match escape {
            'r' => bytes.push(b'\r'),
            'n' => bytes.push(b'\n'),
            't' => bytes.push(b'\t'),
            '0' => bytes.push(0),
            '\\' => bytes.push(b'\\'),
            'x' => {
                bytes.push(u8::from_str_radix(rest.get(..2)?, 16).ok()?);
                rest = &rest[2..];
            }
            '{' => {
                let (inner, after) = rest.split_once('}')?;
                let (text, count) = inner.rsplit_once('*')?;
                bytes.extend_from_slice(&unescape(text)?.repeat(count.parse().ok()?));
                rest = after;
            }
            _ => return None,
        }
    }
    bytes.extend_from_slice(rest.as_bytes());
    Some(bytes)
}

#[test]
fn a_case_is_read_as_it_is_written() {
    let text = "== one\n@ upstream x: 1\n> a\\\n> b\\x41\\{cd*2}\n--\n> \\r\n>> GET / HTTP/1.1\n>> A: b\n\
                >>\n>> xy\\\n< own 404 head\n* closed\n== two\n";
    let cases = parse("here", text);
    assert_eq!(cases.len(), 2);
    assert_eq!(cases[0].upstream, ["x: 1"]);
    let steps = &cases[0].steps;
    assert_eq!(steps.len(), 5);
    assert!(matches!(&steps[0].1, Step::Send(bytes) if bytes == b"abAcdcd\r\n"));
    assert!(matches!(&steps[1].1, Step::Send(bytes) if bytes == b"\r\r\n"));
    assert!(matches!(&steps[2].1, Step::Request(m) if m.body.payload == b"xy"));
    assert!(matches!(
        &steps[3].1,
        Step::Own {
            status: 404,
            has_body: false
        }
    ));
    assert!(matches!(&steps[4].1, Step::Act(Act::Closed)));
}
