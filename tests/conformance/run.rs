//! Takes the steps of a case against a running weir, with a scripted origin behind it.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::harness::{End, Gate, Peer};
use super::script::{Act, Case, Step};
use super::wire::{Body, Conn, Head, Message, decode_chunked, name_of, surplus};

/// Longest wait for a request to arrive at the origin.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks at the origin's sockets.
const LOOK: Duration = Duration::from_millis(2);

/// How long nothing may come where nothing should.
const QUIET: Duration = Duration::from_millis(50);

/// Fields that weir adds to a request. They are only compared where a case names them.
const ADDED_TO_REQUESTS: &[&str] = &[
    "x-forwarded-for",
    "x-real-ip",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "via",
];

/// Fields that weir adds to a response.
const ADDED_TO_RESPONSES: &[&str] = &["date"];

/// Fields that weir writes anew, in a place of its own choice.
const PLACED_ANEW: &[&str] = &[
    "connection",
    "content-length",
    "date",
    "host",
    "te",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

/// How bytes are sent, which must make no difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As they stand in the case.
    Whole,
    /// One by one, so that every state that can be reached between two bytes is reached.
    Bytes,
}

/// What clients speak.
#[derive(Clone, Debug)]
pub(crate) enum Speaks {
    /// HTTP as it is.
    Plain,
    /// HTTP over TLS, with these settings.
    #[cfg(feature = "tls")]
    Tls(std::sync::Arc<weir::tls::ClientSettings>),
}

impl Speaks {
    /// Connects to a listener.
    fn connect(&self, to: SocketAddr) -> io::Result<Conn> {
        let peer = Peer::connect(to)?;
        match self {
            Self::Plain => Ok(Conn::new(peer)),
            #[cfg(feature = "tls")]
            Self::Tls(settings) => {
                let mut peer = peer;
                let secure = super::secure::Secure::shake(&mut peer, settings)?;
                Ok(Conn::wrapped(peer, Box::new(secure)))
            }
        }
    }

    /// The scheme of what clients ask for.
    const fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "https",
        }
    }
}

/// What is longer goes in pieces of that many bytes.
const SINGLY_BYTES_MAX: usize = 400;

/// Sends bytes at a pace.
fn send(conn: &mut Conn, bytes: &[u8], pace: Pace) {
    let piece = match pace {
        Pace::Whole => bytes.len(),
        Pace::Bytes if bytes.len() <= SINGLY_BYTES_MAX => 1,
        Pace::Bytes => SINGLY_BYTES_MAX,
    };
    // Once the other side has closed, nothing more is taken, and that is for the case to judge.
    let _ = bytes.chunks(piece.max(1)).all(|piece| conn.send(piece));
    if bytes.is_empty() {
        conn.send(b"");
    }
}

/// One run of one case.
struct Run<'a> {
    address: SocketAddr,
    pace: Pace,
    speaks: &'a Speaks,
    gate: &'a Gate,
    client: Option<Conn>,
    /// Connections that the origin accepted; the last one in use is the current.
    origins: Vec<Conn>,
    current: Option<usize>,
    /// Which connection the next request has to come on: another one, or the same.
    wanted: Option<bool>,
}

/// Runs a case; what went wrong, with everything that passed on both sides.
pub(crate) fn run(
    file: &str,
    case: &Case,
    (pace, speaks): (Pace, &Speaks),
    address: SocketAddr,
    gate: &Gate,
) -> Result<(), String> {
    let mut run = Run {
        address,
        pace,
        speaks,
        gate,
        client: None,
        origins: Vec::new(),
        current: None,
        wanted: None,
    };
    let mut at = case.line;
    let outcome = run.steps(case, &mut at).and_then(|()| run.leftovers(case));
    outcome.map_err(|why| {
        let mut text = format!("{file}:{at}: {}\n    {why}\n", case.name);
        run.describe(&mut text);
        text
    })
}

impl Run<'_> {
    fn steps(&mut self, case: &Case, at: &mut usize) -> Result<(), String> {
        for (n, (line, step)) in case.steps.iter().enumerate() {
            *at = *line;
            let next = case.steps.get(n + 1).map(|(_, step)| step);
            match step {
                Step::Send(bytes) => {
                    let pace = self.pace;
                    send(self.client()?, bytes, pace);
                }
                Step::Request(expected) => self.request(expected)?,
                Step::Respond(bytes) => {
                    let pace = self.pace;
                    send(self.origin()?, bytes, pace);
                }
                Step::Response(expected) => self.response(expected)?,
                Step::RequestRest(bytes) => {
                    same("origin", &self.origin()?.exactly(bytes.len())?, bytes)?
                }
                Step::ResponseRest(bytes) => {
                    same("client", &self.client()?.exactly(bytes.len())?, bytes)?
                }
                Step::Own { status, has_body } => self.own(*status, *has_body, next)?,
                Step::Act(act) => self.act(*act)?,
            }
        }
        Ok(())
    }

    fn client(&mut self) -> Result<&mut Conn, String> {
        if self.client.is_none() {
            let conn = self.speaks.connect(self.address);
            self.client = Some(conn.map_err(|e| format!("client: {e}"))?);
        }
        self.client.as_mut().ok_or_else(|| "no client".to_owned())
    }

    fn origin(&mut self) -> Result<&mut Conn, String> {
        let current = self.current.ok_or("the origin has no connection")?;
        Ok(&mut self.origins[current])
    }

    /// Waits for bytes on any connection of the origin, or for a new one, and makes it the
    /// current one.
    fn await_request(&mut self) -> Result<(), String> {
        let before = self.current;
        let give_up = Instant::now() + PATIENCE;
        let found = loop {
            if let Ok(peer) = self.gate.accept_within(LOOK) {
                self.origins.push(Conn::new(peer));
            }
            let ready = |conn: &mut Conn| conn.has_bytes_within(LOOK);
            if let Some(found) = self.origins.iter_mut().position(ready) {
                break found;
            }
            if Instant::now() >= give_up {
                return Err("no request arrived at the origin".to_owned());
            }
        };
        self.current = Some(found);
        match self.wanted.take() {
            Some(true) if before == Some(found) => Err("it came on the same connection".to_owned()),
            Some(false) if before != Some(found) => Err("it came on a new connection".to_owned()),
            _ => Ok(()),
        }
    }

    fn request(&mut self, expected: &Message) -> Result<(), String> {
        if expected.head.start.is_empty() {
            return Err("an empty expectation".to_owned());
        }
        self.await_request()?;
        let expected = &of_scheme(expected, self.speaks.scheme());
        let conn = self.origin()?;
        receive(conn, expected, ADDED_TO_REQUESTS).map_err(|why| format!("origin: {why}"))
    }

    fn response(&mut self, expected: &Message) -> Result<(), String> {
        let conn = self.client()?;
        receive(conn, expected, ADDED_TO_RESPONSES).map_err(|why| format!("client: {why}"))
    }

    fn own(&mut self, status: u16, has_body: bool, next: Option<&Step>) -> Result<(), String> {
        let conn = self.client()?;
        let head = conn.head().map_err(|why| format!("client: {why}"))?;
        if head.status() != status {
            let start = head.start.escape_ascii();
            return Err(format!("client: {status} expected, got \"{start}\""));
        }
        let length = head.content_length();
        if has_body {
            conn.exactly(length.unwrap_or(0))?;
        }
        let closes = head.values("connection") == [b"close"];
        match next {
            Some(Step::Act(Act::Closed | Act::Cut)) if !closes => {
                return Err("it does not say that it closes".to_owned());
            }
            Some(Step::Act(Act::Kept)) if closes => {
                return Err("it says that it closes".to_owned());
            }
            _ => {}
        }
        check_own(status, &head)
    }

    fn act(&mut self, act: Act) -> Result<(), String> {
        match act {
            Act::Closed => self.ends(&[End::Clean]),
            Act::Cut => self.ends(&[End::Clean, End::Reset]),
            Act::Reset => self.ends(&[End::Reset]),
            Act::CutWithRest => self.cut_with_rest(),
            Act::BadBody => self.bad_body(),
            Act::Kept => self.kept(),
            Act::ClientEnds => {
                self.client()?.finish();
                Ok(())
            }
            Act::ClientResets => {
                let client = self.client.take().ok_or("no client")?;
                client.into_peer().reset();
                Ok(())
            }
            Act::ClientReturns => {
                self.client = None;
                Ok(())
            }
            Act::OriginQuiet => self.quiet(),
            Act::OriginEnds => {
                let got = self.origin()?.end()?;
                self.drop_origin()?;
                nothing("the origin", &got.0)?;
                if got.1 == End::Clean {
                    Ok(())
                } else {
                    Err("origin: reset".to_owned())
                }
            }
            Act::OriginShuts => {
                self.origin()?.peer().finish();
                Ok(())
            }
            Act::OriginCloses => self.drop_origin().map(drop),
            Act::OriginResets => self.drop_origin().map(|conn| conn.into_peer().reset()),
            Act::OriginCut => {
                let (bytes, _) = self.origin()?.end()?;
                self.drop_origin()?;
                nothing("the origin", &bytes)
            }
            Act::OriginGone => {
                self.gate.shut();
                Ok(())
            }
            Act::NewConnection => {
                self.wanted = Some(true);
                Ok(())
            }
            Act::SameConnection => {
                self.wanted = Some(false);
                Ok(())
            }
            Act::Opaque => self.opaque(),
        }
    }

    fn drop_origin(&mut self) -> Result<Conn, String> {
        let current = self.current.take().ok_or("the origin has no connection")?;
        Ok(self.origins.remove(current))
    }

    fn ends(&mut self, allowed: &[End]) -> Result<(), String> {
        let (bytes, end) = self
            .client()?
            .end()
            .map_err(|why| format!("client: {why}"))?;
        nothing("the client", &bytes)?;
        if allowed.contains(&end) {
            Ok(())
        } else {
            Err(format!("client: the connection ended with {end:?}"))
        }
    }

    fn cut_with_rest(&mut self) -> Result<(), String> {
        let (bytes, _) = self
            .client()?
            .end()
            .map_err(|why| format!("client: {why}"))?;
        match decode_chunked(&bytes) {
            Ok((body, _)) if !body.complete => Ok(()),
            Ok(_) => Err(format!(
                "client: the body ended with \"{}\"",
                bytes.escape_ascii()
            )),
            Err(why) => Err(format!("client: {why}")),
        }
    }

    fn bad_body(&mut self) -> Result<(), String> {
        let head = self
            .client()?
            .head()
            .map_err(|why| format!("client: {why}"))?;
        if !matches!(head.status(), 400 | 413 | 431) {
            return Err(format!("client: got \"{}\"", head.start.escape_ascii()));
        }
        let length = head.content_length().unwrap_or(0);
        self.client()?.exactly(length)?;
        self.ends(&[End::Clean])?;
        while let Ok(peer) = self.gate.accept_within(QUIET) {
            self.origins.push(Conn::new(peer));
        }
        for conn in &mut self.origins {
            let (bytes, _) = conn.end().map_err(|why| format!("origin: {why}"))?;
            let end = bytes.windows(4).position(|w| w == b"\r\n\r\n");
            let body = decode_chunked(end.map_or(b"", |end| &bytes[end + 4..]));
            if body.is_ok_and(|(body, _)| body.complete) {
                return Err("origin: the request was completed".to_owned());
            }
        }
        self.origins.clear();
        check_own(head.status(), &head)
    }

    fn quiet(&mut self) -> Result<(), String> {
        let heard = self
            .origins
            .iter_mut()
            .any(|conn| conn.has_bytes_within(QUIET));
        if heard || self.gate.accept_within(LOOK).is_ok() {
            return Err("origin: something came too soon".to_owned());
        }
        Ok(())
    }

    fn kept(&mut self) -> Result<(), String> {
        self.client()?
            .send(b"GET /kept HTTP/1.1\r\nHost: kept\r\n\r\n");
        self.await_request()?;
        let asked = self.origin()?.message()?;
        if asked.head.start != b"GET /kept HTTP/1.1" {
            let start = asked.head.start.escape_ascii();
            return Err(format!("origin: the request after was \"{start}\""));
        }
        self.origin()?
            .send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept");
        let answer = self.client()?.message()?;
        if answer.head.status() == 200 && answer.body.payload == b"kept" {
            Ok(())
        } else {
            let start = answer.head.start.escape_ascii();
            Err(format!("client: the response after was \"{start}\""))
        }
    }

    fn opaque(&mut self) -> Result<(), String> {
        // What would be a request, an answer or a bad one, if anybody still looked.
        const PING: &[u8] = b"GET /evil HTTP/1.1\r\n\r\n\0\x01ping";
        const PONG: &[u8] = b"HTTP/1.1 999\nTransfer-Encoding: x\r\n\r\n\xffpong";
        self.client()?.send(PING);
        let got = self.origin()?.exactly(PING.len())?;
        if got != PING {
            return Err(format!(
                "origin: the tunnel gave \"{}\"",
                got.escape_ascii()
            ));
        }
        self.origin()?.send(PONG);
        let got = self.client()?.exactly(PONG.len())?;
        if got == PONG {
            Ok(())
        } else {
            Err(format!(
                "client: the tunnel gave \"{}\"",
                got.escape_ascii()
            ))
        }
    }

    /// Nothing may be left over on either side.
    fn leftovers(&mut self, case: &Case) -> Result<(), String> {
        while let Ok(peer) = self.gate.accept_within(LOOK) {
            self.origins.push(Conn::new(peer));
        }
        for conn in &mut self.origins {
            nothing("the origin", &surplus(conn))?;
        }
        if let Some(client) = &mut self.client {
            nothing("the client", &surplus(client))?;
        }
        let heard = self.origins.iter().any(|conn| !conn.received().is_empty());
        if heard && !case.reaches_origin() {
            return Err("the origin received something".to_owned());
        }
        Ok(())
    }

    fn describe(&self, out: &mut String) {
        if let Some(client) = &self.client {
            show(out, "client sent    ", client.sent());
            show(out, "client received", client.received());
        }
        for (n, origin) in self.origins.iter().enumerate() {
            show(out, &format!("origin {n} received"), origin.received());
            show(out, &format!("origin {n} sent    "), origin.sent());
        }
    }
}

fn show(out: &mut String, what: &str, bytes: &[u8]) {
    const BYTES_MAX: usize = 1500;
    let shown = bytes[..bytes.len().min(BYTES_MAX)]
        .escape_ascii()
        .to_string();
    let cut = if bytes.len() > BYTES_MAX { "..." } else { "" };
    let _ = writeln!(out, "    {what}: \"{shown}{cut}\"");
}

fn same(who: &str, got: &[u8], expected: &[u8]) -> Result<(), String> {
    if got == expected {
        return Ok(());
    }
    let (expected, got) = (expected.escape_ascii(), got.escape_ascii());
    Err(format!("{who}: \"{expected}\" expected, got \"{got}\""))
}

fn nothing(who: &str, bytes: &[u8]) -> Result<(), String> {
    if bytes.is_empty() {
        Ok(())
    } else {
        let shown = bytes.escape_ascii();
        Err(format!("{who} received besides: \"{shown}\""))
    }
}

/// What a case expects of a request over another scheme than that of the cases. Those that have
/// another one state it themselves.
fn of_scheme(expected: &Message, scheme: &str) -> Message {
    let mut expected = expected.clone();
    for line in &mut expected.head.lines {
        if line == b"X-Forwarded-Proto: http" {
            *line = format!("X-Forwarded-Proto: {scheme}").into_bytes();
        } else if line.starts_with(b"Forwarded: ") {
            let text = String::from_utf8_lossy(line);
            let text = text.replace(";proto=http;", &format!(";proto={scheme};"));
            *line = text.into_bytes();
        }
    }
    expected
}

/// Reads a message as far as it is expected and compares it.
fn receive(conn: &mut Conn, expected: &Message, added: &[&str]) -> Result<(), String> {
    let head = conn.head()?;
    compare_heads(&expected.head, &head, added)?;
    let wanted = &expected.body;
    let body = if head.is_chunked() && wanted.chunked {
        conn.chunked((!wanted.complete).then_some(wanted))?
    } else {
        Body {
            payload: conn.exactly(wanted.payload.len())?,
            ..no_body()
        }
    };
    if body == *wanted {
        Ok(())
    } else {
        Err(format!(
            "body {} expected, got {}",
            shown(wanted),
            shown(&body)
        ))
    }
}

fn no_body() -> Body {
    Body {
        complete: true,
        ..Body::default()
    }
}

fn shown(body: &Body) -> String {
    let payload = body.payload.escape_ascii().to_string();
    let trailers: Vec<String> = body
        .trailers
        .iter()
        .map(|line| line.escape_ascii().to_string())
        .collect();
    let complete = body.complete;
    format!("\"{payload}\" (trailers {trailers:?}, complete {complete})")
}

/// The start line is the same; fields that are copied have their order, their case and their
/// bytes; those that weir writes anew are the same whatever their place.
fn compare_heads(expected: &Head, got: &Head, added: &[&str]) -> Result<(), String> {
    if expected.start != got.start {
        let (a, b) = (expected.start.escape_ascii(), got.start.escape_ascii());
        return Err(format!("\"{a}\" expected, got \"{b}\""));
    }
    for name in added {
        let count = got.values(name).len();
        if count > 1 {
            return Err(format!("{name} came {count} times"));
        }
    }
    let is_extra = |line: &[u8]| {
        is_one_of(line, added)
            && expected
                .values(&String::from_utf8_lossy(name_of(line)))
                .is_empty()
    };
    let got: Vec<&[u8]> = got.lines.iter().map(Vec::as_slice).collect();
    let got: Vec<&[u8]> = got.into_iter().filter(|line| !is_extra(line)).collect();
    let expected: Vec<&[u8]> = expected.lines.iter().map(Vec::as_slice).collect();
    let (expected_copied, mut expected_anew) = split(&expected);
    let (got_copied, mut got_anew) = split(&got);
    expected_anew.sort_by_key(|line| name_of(line).to_ascii_lowercase());
    got_anew.sort_by_key(|line| name_of(line).to_ascii_lowercase());
    for (expected, got) in [(expected_copied, got_copied), (expected_anew, got_anew)] {
        let is_same =
            expected.len() == got.len() && expected.iter().zip(&got).all(|(a, b)| is_line(a, b));
        if !is_same {
            let list = |lines: &[&[u8]]| {
                let lines: Vec<String> = lines
                    .iter()
                    .map(|line| line.escape_ascii().to_string())
                    .collect();
                format!("{lines:?}")
            };
            return Err(format!(
                "fields {} expected, got {}",
                list(&expected),
                list(&got)
            ));
        }
    }
    Ok(())
}

/// Whether a line is the expected one; the value `*` stands for any.
fn is_line(expected: &[u8], got: &[u8]) -> bool {
    match expected.strip_suffix(b": *") {
        Some(name) => name_of(got) == name,
        None => expected == got,
    }
}

/// What is copied, and what is placed anew.
fn split<'a>(lines: &[&'a [u8]]) -> (Vec<&'a [u8]>, Vec<&'a [u8]>) {
    let (anew, copied) = lines.iter().partition(|line| is_one_of(line, PLACED_ANEW));
    (copied, anew)
}

fn is_one_of(line: &[u8], names: &[&str]) -> bool {
    let name = name_of(line);
    names
        .iter()
        .any(|one| name.eq_ignore_ascii_case(one.as_bytes()))
}

/// What every answer of weir's own has.
fn check_own(status: u16, head: &Head) -> Result<(), String> {
    let must = |holds: bool, what: &str| {
        if holds {
            Ok(())
        } else {
            let start = head.start.escape_ascii();
            Err(format!("weir's own \"{start}\" {what}"))
        }
    };
    must(head.start.starts_with(b"HTTP/1.1 "), "has another version")?;
    must(head.values("date").len() == 1, "has not one Date")?;
    let length = head.content_length();
    must(length.is_some(), "has no Content-Length")?;
    must(head.values("transfer-encoding").is_empty(), "is chunked")?;
    must(length < Some(1024), "is not small")?;
    must(
        length == Some(0) || head.values("content-type").len() == 1,
        "has no Content-Type",
    )?;
    if status >= 400 {
        let stored = head.text("cache-control").as_deref() != Some("no-store");
        must(!stored, "may be stored")?;
    }
    must(
        status != 405 || head.values("allow").len() == 1,
        "has no Allow",
    )?;
    let seconds = head
        .text("retry-after")
        .and_then(|text| text.parse::<u32>().ok());
    must(status != 503 || seconds.is_some(), "has no Retry-After")
}
