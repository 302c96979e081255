//! One access as one line: the common and combined formats, and JSON.
//!
//! A line is written onto the end of a byte vector; where it goes and who limits it is not known
//! here. Whatever a client or backend sent is escaped, so that no value can end a line, close a
//! quote or reach a terminal as a control sequence, and cut at [`VALUE_BYTES_MAX`], so that a line
//! has a bound. Absent values are `-` in text and `null` in JSON; the keys of JSON never vary.
//!
//! - Common: `client - - [time] "request" status bytes`, as Apache and nginx write it. A TCP
//!   session has `TCP listener` for a request and `-` for a status.
//! - Combined: the same, then referer and user agent in quotes, then `name=value` facts of the
//!   backend side: `upstream`, `attempts`, `connect_ms`, `ttfb_ms`, `total_ms`, `why`; and where
//!   more is known of the why, `reason` in quotes. Of a client over TLS its `sni` and what was
//!   agreed on follow.
//! - JSON: one object a line, with every fact. The reason follows the why, after a colon.
//!
//! Reasons are texts of weir's own: nothing that was received is in them.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};

use crate::core::calendar::CivilTime;
use crate::core::layer::Secured;
use crate::core::request_id::RequestId;
use crate::core::text;

/// Longest value taken from a request, in bytes before escaping; what is longer ends in `...`.
pub(crate) const VALUE_BYTES_MAX: usize = 4096;

/// The status of a request whose client left before an answer had begun, as nginx logs it: it is
/// sent to nobody.
pub(crate) const CLIENT_LEFT: u16 = 499;

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// The common log format.
    Common,
    /// Common with referer and user agent, then facts of the backend side.
    Combined,
    /// One JSON object.
    Json,
}

/// How an access ended: which phase, which side, what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Completely.
    Ok,
    /// The client left before its request was complete.
    ClientLeftInRequest,
    /// The client left while the response was under way.
    ClientLeftInData,
    /// The client did not send its head in time.
    HeaderTimeout,
    /// weir refused the request: malformed or not allowed.
    Refused,
    /// No route matched.
    NoRoute,
    /// No backend could be used.
    NoBackend,
    /// No backend became free in time.
    QueueTimeout,
    /// The connection to the backend failed.
    ConnectFailed,
    /// The connection to the backend was not made in time.
    ConnectTimeout,
    /// The backend closed before its head was complete.
    BackendClosedBeforeHead,
    /// The backend did not send its head in time.
    ResponseTimeout,
    /// The backend's response was malformed.
    BadResponse,
    /// The backend closed within the body.
    BackendCutBody,
    /// The client sent no more of its request's body.
    UploadTimeout,
    /// The backend sent no more of its response.
    ResponseIdle,
    /// The client did not take its response.
    SendTimeout,
    /// Nothing moved for too long on a TCP session.
    IdleTimeout,
    /// One direction of it, or of a tunnel, had ended, and the other did not move for too long.
    HalfClosedTimeout,
    /// Nothing moved for too long in a tunnel or an event stream.
    TunnelTimeout,
    /// Cut by the end of a graceful stop.
    DrainDeadline,
}

impl Why {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 21] = [
        Self::Ok,
        Self::ClientLeftInRequest,
        Self::ClientLeftInData,
        Self::HeaderTimeout,
        Self::Refused,
        Self::NoRoute,
        Self::NoBackend,
        Self::QueueTimeout,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::BackendClosedBeforeHead,
        Self::ResponseTimeout,
        Self::BadResponse,
        Self::BackendCutBody,
        Self::UploadTimeout,
        Self::ResponseIdle,
        Self::SendTimeout,
        Self::IdleTimeout,
        Self::HalfClosedTimeout,
        Self::TunnelTimeout,
        Self::DrainDeadline,
    ];

    /// Two letters, as text formats have it.
    #[must_use]
    pub(crate) fn code(self) -> &'static str {
        self.both().0
    }

    /// In words, as JSON has it.
    #[must_use]
    pub fn words(self) -> &'static str {
        self.both().1
    }

    fn both(self) -> (&'static str, &'static str) {
        match self {
            Self::Ok => ("--", "ok"),
            Self::ClientLeftInRequest => ("CR", "client left in request"),
            Self::ClientLeftInData => ("CD", "client left in data"),
            Self::HeaderTimeout => ("cR", "header timeout"),
            Self::Refused => ("PR", "refused by proxy"),
            Self::NoRoute => ("NR", "no route"),
            Self::NoBackend => ("NB", "no usable backend"),
            Self::QueueTimeout => ("QT", "queue timeout"),
            Self::ConnectFailed => ("SC", "connect failed"),
            Self::ConnectTimeout => ("sC", "connect timeout"),
            Self::BackendClosedBeforeHead => ("SH", "backend closed before headers"),
            Self::ResponseTimeout => ("sH", "response timeout"),
            Self::BadResponse => ("PH", "bad response"),
            Self::BackendCutBody => ("SD", "backend cut the body"),
            Self::UploadTimeout => ("cU", "upload timeout"),
            Self::ResponseIdle => ("sD", "response idle"),
            Self::SendTimeout => ("cD", "send timeout"),
            Self::IdleTimeout => ("tI", "idle timeout"),
            Self::HalfClosedTimeout => ("tH", "half-closed timeout"),
            Self::TunnelTimeout => ("tT", "tunnel timeout"),
            Self::DrainDeadline => ("DR", "drain deadline"),
        }
    }
}

/// Who closed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// The client.
    Client,
    /// The backend.
    Backend,
    /// weir itself.
    Weir,
}

impl ClosedBy {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Weir => "weir",
        }
    }
}

/// Who has closed first where an HTTP request ends so; none where the client stays.
pub(crate) fn closed_by(why: Why) -> Option<ClosedBy> {
    match why {
        Why::Ok => None,
        Why::ClientLeftInRequest | Why::ClientLeftInData => Some(ClosedBy::Client),
        Why::BackendClosedBeforeHead | Why::BackendCutBody | Why::BadResponse => {
            Some(ClosedBy::Backend)
        }
        Why::HeaderTimeout
        | Why::Refused
        | Why::NoRoute
        | Why::NoBackend
        | Why::QueueTimeout
        | Why::ConnectFailed
        | Why::ConnectTimeout
        | Why::ResponseTimeout
        | Why::UploadTimeout
        | Why::ResponseIdle
        | Why::SendTimeout
        | Why::IdleTimeout
        | Why::HalfClosedTimeout
        | Why::TunnelTimeout
        | Why::DrainDeadline => Some(ClosedBy::Weir),
    }
}

/// What the sticky cookie did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StickyUse {
    /// The client's tag was honoured.
    Hit,
    /// The client had no valid tag and got one.
    New,
    /// The client's backend could not be used; it got another tag.
    Moved,
}

impl StickyUse {
    fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::New => "new",
            Self::Moved => "moved",
        }
    }
}

/// Phases of an access, in milliseconds; none where it did not come to the phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the first byte of the request to its whole head.
    pub wait_ms: Option<u64>,
    /// Waiting for a backend to become free.
    pub queue_ms: Option<u64>,
    /// Until the connection to the backend stood; 0 when a kept one was used.
    pub connect_ms: Option<u64>,
    /// From the forwarded request to the first byte of the response.
    pub ttfb_ms: Option<u64>,
    /// From the first byte of the request, or the accept, to the end.
    pub total_ms: u64,
}

/// The TLS of a client that weir has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsRecord<'a> {
    /// The name that the client asked for.
    pub sni: Option<&'a str>,
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// The IANA name of the cipher suite.
    pub cipher: &'static str,
    /// Whether an earlier session was resumed.
    pub is_resumed: bool,
    /// Whether the client has shown a certificate, which was verified then; none where it was not
    /// asked for one.
    pub is_verified: Option<bool>,
}

impl<'a> TlsRecord<'a> {
    /// Of a connection that is established.
    #[must_use]
    pub fn of(secured: Secured<'a>) -> Self {
        let is_asked = secured.client_rules != 0;
        Self {
            sni: secured.name,
            version: secured.version,
            cipher: secured.cipher,
            is_resumed: secured.is_resumed,
            is_verified: is_asked.then_some(secured.client_certificate.is_some()),
        }
    }

    fn verify_word(&self) -> Option<&'static str> {
        self.is_verified.map(|it| if it { "ok" } else { "none" })
    }

    /// What the combined format has of it, behind all else.
    fn write_facts(&self, out: &mut Vec<u8>) {
        let resumed = if self.is_resumed { "yes" } else { "no" };
        let verify = self.verify_word().unwrap_or("-");
        let (version, cipher) = (self.version, self.cipher);
        text::push(
            out,
            format_args!(
                " tls_version={version} tls_cipher={cipher} tls_resumed={resumed} \
                 client_verify={verify}"
            ),
        );
    }
}

fn write_sni(sni: Option<&str>, out: &mut Vec<u8>) {
    if let Some(sni) = sni {
        out.extend_from_slice(b" sni=");
        push_escaped(sni.as_bytes(), Within::Words, out);
    }
}

/// One HTTP request.
#[derive(Clone, Copy, Debug)]
pub struct HttpRecord<'a> {
    /// When it ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// By which it is known to others.
    pub id: RequestId<'a>,
    /// The client, through trusted proxies; none over a Unix socket.
    pub client: Option<IpAddr>,
    /// The listener's name.
    pub listener: &'a str,
    /// The Host as it came; empty when absent, as are the next two when no head was read.
    pub host: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The target as it came, with its query.
    pub path: &'a [u8],
    /// Such as `HTTP/1.1`.
    pub proto: &'a str,
    /// What the client was answered, or [`CLIENT_LEFT`]; none when it was there and was not.
    pub status: Option<u16>,
    /// From the client, head and body.
    pub bytes_in: u64,
    /// To the client, head and body.
    pub bytes_out: u64,
    /// The route's prefix or name.
    pub route: Option<&'a str>,
    /// The upstream's name.
    pub pool: Option<&'a str>,
    /// The last backend tried.
    pub backend: Option<&'a str>,
    /// Backends tried.
    pub attempts: u32,
    /// How long its phases took.
    pub timings: Timings,
    /// How it ended.
    pub why: Why,
    /// What exactly was wrong, where that is known.
    pub reason: Option<&'static str>,
    /// Who closed first; none while the client connection stays open.
    pub closed_by: Option<ClosedBy>,
    /// User-Agent.
    pub user_agent: Option<&'a [u8]>,
    /// Referer.
    pub referer: Option<&'a [u8]>,
    /// What the sticky cookie did; none without one.
    pub sticky: Option<StickyUse>,
    /// Where it stands in a trace, as it came or was made.
    pub traceparent: Option<&'a [u8]>,
    /// None where the client speaks in the clear.
    pub tls: Option<TlsRecord<'a>>,
}

/// One TCP session.
#[derive(Clone, Copy, Debug)]
pub struct TcpRecord<'a> {
    /// When it ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// By which it is known to others.
    pub id: RequestId<'a>,
    /// The client; none over a Unix socket.
    pub client: Option<SocketAddr>,
    /// The listener's name.
    pub listener: &'a str,
    /// The name that the client asked for, where that was read.
    pub sni: Option<&'a str>,
    /// The upstream's name.
    pub pool: &'a str,
    /// The last backend tried.
    pub backend: Option<&'a str>,
    /// Backends tried.
    pub attempts: u32,
    /// From the client.
    pub bytes_in: u64,
    /// To the client.
    pub bytes_out: u64,
    /// How long its phases took; `wait_ms` and `ttfb_ms` are not written.
    pub timings: Timings,
    /// How it ended.
    pub why: Why,
    /// What exactly was wrong, where that is known.
    pub reason: Option<&'static str>,
    /// Who closed first.
    pub closed_by: Option<ClosedBy>,
    /// None where weir has decrypted nothing.
    pub tls: Option<TlsRecord<'a>>,
}

impl HttpRecord<'_> {
    /// Appends the line and its newline.
    pub fn write(&self, format: LogFormat, out: &mut Vec<u8>) {
        match format {
            LogFormat::Common => self.write_common(out),
            LogFormat::Combined => self.write_combined(out),
            LogFormat::Json => self.write_json(out),
        }
        out.push(b'\n');
    }

    fn write_common(&self, out: &mut Vec<u8>) {
        write_client_and_time(self.client, self.unix_ms, out);
        if self.method.is_empty() {
            out.push(b'-');
        } else {
            push_escaped(self.method, Within::Quotes, out);
            out.push(b' ');
            push_escaped(self.path, Within::Quotes, out);
            out.push(b' ');
            push_escaped(self.proto.as_bytes(), Within::Quotes, out);
        }
        let bytes = self.bytes_out;
        match self.status {
            Some(status) => text::push(out, format_args!("\" {status} {bytes}")),
            None => text::push(out, format_args!("\" - {bytes}")),
        }
    }

    fn write_combined(&self, out: &mut Vec<u8>) {
        self.write_common(out);
        for value in [self.referer, self.user_agent] {
            out.extend_from_slice(b" \"");
            push_escaped(value.unwrap_or(b"-"), Within::Quotes, out);
            out.push(b'"');
        }
        let backend = BackendFacts {
            pool: self.pool,
            backend: self.backend,
            attempts: self.attempts,
            timings: self.timings,
            why: self.why,
            reason: self.reason,
        };
        backend.write(out);
        if let Some(tls) = &self.tls {
            write_sni(tls.sni, out);
            tls.write_facts(out);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        let mut json = Object::begin(out);
        json.opening(self.unix_ms, self.id);
        json.plain("client", self.client);
        json.bytes("listener", Some(self.listener.as_bytes()));
        for (key, value) in [
            ("host", self.host),
            ("method", self.method),
            ("path", self.path),
        ] {
            json.bytes(key, Some(value).filter(|value| !value.is_empty()));
        }
        json.bytes("proto", Some(self.proto.as_bytes()));
        json.number("status", self.status.map(u64::from));
        json.number("bytes_in", Some(self.bytes_in));
        json.number("bytes_out", Some(self.bytes_out));
        json.bytes("route", self.route.map(str::as_bytes));
        json.bytes("pool", self.pool.map(str::as_bytes));
        json.bytes("backend", self.backend.map(str::as_bytes));
        json.number("attempts", Some(u64::from(self.attempts)));
        json.number("t_wait", self.timings.wait_ms);
        json.number("t_queue", self.timings.queue_ms);
        json.number("t_connect", self.timings.connect_ms);
        json.number("t_ttfb", self.timings.ttfb_ms);
        json.number("t_total", Some(self.timings.total_ms));
        json.ending((self.why, self.reason), self.closed_by);
        json.bytes("ua", self.user_agent);
        json.bytes("referer", self.referer);
        json.plain("sticky", self.sticky.map(StickyUse::word));
        json.bytes("traceparent", self.traceparent);
        let sni = self.tls.as_ref().and_then(|tls| tls.sni);
        json.bytes("sni", sni.map(str::as_bytes));
        json.tls(self.tls.as_ref());
        json.end();
    }
}

impl TcpRecord<'_> {
    /// Appends the line and its newline.
    pub fn write(&self, format: LogFormat, out: &mut Vec<u8>) {
        match format {
            LogFormat::Common => self.write_common(out),
            LogFormat::Combined => self.write_combined(out),
            LogFormat::Json => self.write_json(out),
        }
        out.push(b'\n');
    }

    fn write_common(&self, out: &mut Vec<u8>) {
        let client = self.client.map(|client| client.ip());
        write_client_and_time(client, self.unix_ms, out);
        out.extend_from_slice(b"TCP ");
        push_escaped(self.listener.as_bytes(), Within::Quotes, out);
        text::push(out, format_args!("\" - {}", self.bytes_out));
    }

    fn write_combined(&self, out: &mut Vec<u8>) {
        self.write_common(out);
        out.extend_from_slice(b" \"-\" \"-\"");
        let backend = BackendFacts {
            pool: Some(self.pool),
            backend: self.backend,
            attempts: self.attempts,
            timings: self.timings,
            why: self.why,
            reason: self.reason,
        };
        backend.write(out);
        write_sni(self.sni, out);
        if let Some(tls) = &self.tls {
            tls.write_facts(out);
        }
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        let mut json = Object::begin(out);
        json.opening(self.unix_ms, self.id);
        json.plain("client", self.client);
        json.bytes("listener", Some(self.listener.as_bytes()));
        json.bytes("sni", self.sni.map(str::as_bytes));
        json.plain("proto", Some("TCP"));
        json.number("bytes_in", Some(self.bytes_in));
        json.number("bytes_out", Some(self.bytes_out));
        json.bytes("pool", Some(self.pool.as_bytes()));
        json.bytes("backend", self.backend.map(str::as_bytes));
        json.number("attempts", Some(u64::from(self.attempts)));
        json.number("t_queue", self.timings.queue_ms);
        json.number("t_connect", self.timings.connect_ms);
        json.number("t_total", Some(self.timings.total_ms));
        json.ending((self.why, self.reason), self.closed_by);
        json.tls(self.tls.as_ref());
        json.end();
    }
}

/// Appends `client - - [time] "`.
fn write_client_and_time(client: Option<IpAddr>, unix_ms: u64, out: &mut Vec<u8>) {
    match client {
        Some(client) => text::push(out, format_args!("{client} - - [")),
        None => out.extend_from_slice(b"- - - ["),
    }
    push_clf_time(unix_ms, out);
    out.extend_from_slice(b"] \"");
}

/// What the combined format adds.
struct BackendFacts<'a> {
    pool: Option<&'a str>,
    backend: Option<&'a str>,
    attempts: u32,
    timings: Timings,
    why: Why,
    reason: Option<&'static str>,
}

impl BackendFacts<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b" upstream=");
        push_escaped(self.pool.unwrap_or("-").as_bytes(), Within::Words, out);
        out.push(b'/');
        push_escaped(self.backend.unwrap_or("-").as_bytes(), Within::Words, out);
        text::push(out, format_args!(" attempts={}", self.attempts));
        let Timings {
            connect_ms,
            ttfb_ms,
            total_ms,
            ..
        } = self.timings;
        for (name, value) in [("connect_ms", connect_ms), ("ttfb_ms", ttfb_ms)] {
            match value {
                Some(value) => text::push(out, format_args!(" {name}={value}")),
                None => text::push(out, format_args!(" {name}=-")),
            }
        }
        text::push(
            out,
            format_args!(" total_ms={total_ms} why={}", self.why.code()),
        );
        if let Some(reason) = self.reason {
            text::push(out, format_args!(" reason=\"{reason}\""));
        }
    }
}

/// A JSON object being written; keys are our own and need no escape.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            is_empty: true,
        }
    }

    fn end(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        let comma = if self.is_empty { "" } else { "," };
        self.is_empty = false;
        text::push(self.out, format_args!("{comma}\"{key}\":"));
    }

    /// What every line begins with. An id needs no escape, whoever made it.
    fn opening(&mut self, unix_ms: u64, id: RequestId<'_>) {
        self.key("ts");
        self.out.push(b'"');
        push_rfc3339(unix_ms, self.out);
        self.out.push(b'"');
        self.plain("id", Some(id));
    }

    fn ending(&mut self, (why, reason): (Why, Option<&'static str>), closed_by: Option<ClosedBy>) {
        let words = why.words();
        match reason {
            Some(reason) => self.plain("why", Some(format_args!("{words}: {reason}"))),
            None => self.plain("why", Some(words)),
        }
        self.plain("closed_by", closed_by.map(ClosedBy::word));
    }

    fn tls(&mut self, tls: Option<&TlsRecord<'_>>) {
        let Some(tls) = tls else {
            let none = concat!(
                r#","tls_version":null,"tls_cipher":null"#,
                r#","tls_resumed":null,"client_verify":null"#
            );
            return self.out.extend_from_slice(none.as_bytes());
        };
        self.plain("tls_version", Some(tls.version));
        self.plain("tls_cipher", Some(tls.cipher));
        self.key("tls_resumed");
        text::push(self.out, format_args!("{}", tls.is_resumed));
        self.plain("client_verify", tls.verify_word());
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        self.key(key);
        match value {
            Some(value) => text::push(self.out, format_args!("{value}")),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    /// A string that holds nothing to escape: a word, a number, an address.
    fn plain(&mut self, key: &str, value: Option<impl Display>) {
        self.key(key);
        match value {
            Some(value) => text::push(self.out, format_args!("\"{value}\"")),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    /// A string of any bytes. What is not UTF-8 becomes U+FFFD, as JSON has no other bytes.
    fn bytes(&mut self, key: &str, value: Option<&[u8]>) {
        self.key(key);
        let Some(value) = value else {
            return self.out.extend_from_slice(b"null");
        };
        self.out.push(b'"');
        let (value, cut) = clip(value);
        for chunk in value.utf8_chunks() {
            for character in chunk.valid().chars() {
                self.character(character);
            }
            if !chunk.invalid().is_empty() {
                self.character(char::REPLACEMENT_CHARACTER);
            }
        }
        text::push(self.out, format_args!("{cut}\""));
    }

    fn character(&mut self, character: char) {
        match character {
            '"' | '\\' => text::push(self.out, format_args!("\\{character}")),
            // The two Unicode line ends, and all control characters, those of the C1 set too:
            // some readers split lines there, and some terminals obey them.
            '\u{2028}' | '\u{2029}' | '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                text::push(self.out, format_args!("\\u{:04x}", u32::from(character)));
            }
            _ => {
                let mut bytes = [0; 4];
                let encoded = character.encode_utf8(&mut bytes);
                self.out.extend_from_slice(encoded.as_bytes());
            }
        }
    }
}

/// Where an escaped value stands in a text line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Between quotes, where a space is data.
    Quotes,
    /// Between spaces.
    Words,
}

/// Appends a value with `\xHH` for whatever is not printable ASCII, for quotes and backslashes, as
/// nginx does; the escapes can be undone.
fn push_escaped(value: &[u8], within: Within, out: &mut Vec<u8>) {
    let (value, cut) = clip(value);
    for &byte in value {
        match byte {
            b'"' | b'\\' | 0..0x20 | 0x7f.. => text::push(out, format_args!("\\x{byte:02X}")),
            b' ' if within == Within::Words => out.extend_from_slice(b"\\x20"),
            _ => out.push(byte),
        }
    }
    out.extend_from_slice(cut.as_bytes());
}

/// At most the first [`VALUE_BYTES_MAX`] bytes, and what marks the cut.
fn clip(value: &[u8]) -> (&[u8], &'static str) {
    match value.get(..VALUE_BYTES_MAX) {
        Some(start) if start.len() < value.len() => (start, "..."),
        Some(_) | None => (value, ""),
    }
}

/// Appends a time in UTC as RFC 3339 has it, with milliseconds: `2001-09-09T01:46:40.123Z`.
pub fn push_rfc3339(unix_ms: u64, out: &mut Vec<u8>) {
    let CivilTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = CivilTime::from_unix(unix_ms / 1000);
    let ms = unix_ms % 1000;
    text::push(
        out,
        format_args!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z"),
    );
}

/// Appends a time in UTC as the common log format has it: `09/Sep/2001:01:46:40 +0000`.
pub(crate) fn push_clf_time(unix_ms: u64, out: &mut Vec<u8>) {
    let CivilTime {
        year,
        day,
        hour,
        minute,
        second,
        month_name,
        ..
    } = CivilTime::from_unix(unix_ms / 1000);
    text::push(
        out,
        format_args!("{day:02}/{month_name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const BILLION_MS: u64 = 1_000_000_000_123;

    fn http() -> HttpRecord<'static> {
        HttpRecord {
            unix_ms: BILLION_MS,
            id: RequestId::Taken(b"0000000000000abc"),
            client: Some(IpAddr::V4([192, 0, 2, 1].into())),
            listener: "web",
            host: b"a.test",
            method: b"GET",
            path: b"/x?y=1",
            proto: "HTTP/1.1",
            status: Some(200),
            bytes_in: 80,
            bytes_out: 1234,
            route: Some("/"),
            pool: Some("app"),
            backend: Some("10.0.0.1:80"),
            attempts: 2,
            timings: Timings {
                wait_ms: Some(1),
                queue_ms: None,
                connect_ms: Some(2),
                ttfb_ms: Some(3),
                total_ms: 9,
            },
            why: Why::Ok,
            reason: None,
            closed_by: None,
            user_agent: Some(b"curl/8"),
            referer: None,
            sticky: Some(StickyUse::New),
            traceparent: None,
            tls: None,
        }
    }

    fn tcp() -> TcpRecord<'static> {
        TcpRecord {
            unix_ms: BILLION_MS,
            id: RequestId::Taken(b"0000000000000001"),
            client: Some(SocketAddr::from(([192, 0, 2, 1], 4711))),
            listener: "db",
            sni: None,
            pool: "sql",
            backend: None,
            attempts: 3,
            bytes_in: 0,
            bytes_out: 7,
            timings: Timings {
                total_ms: 5000,
                ..Timings::default()
            },
            why: Why::ConnectTimeout,
            reason: None,
            closed_by: Some(ClosedBy::Weir),
            tls: None,
        }
    }

    fn line(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_s, rfc3339, clf) in [
            (0, "1970-01-01T00:00:00.007Z", "01/Jan/1970:00:00:00 +0000"),
            (
                951_782_400,
                "2000-02-29T00:00:00.007Z",
                "29/Feb/2000:00:00:00 +0000",
            ),
            (
                951_868_799,
                "2000-02-29T23:59:59.007Z",
                "29/Feb/2000:23:59:59 +0000",
            ),
            (
                951_868_800,
                "2000-03-01T00:00:00.007Z",
                "01/Mar/2000:00:00:00 +0000",
            ),
            (
                1_000_000_000,
                "2001-09-09T01:46:40.007Z",
                "09/Sep/2001:01:46:40 +0000",
            ),
            (
                1_709_164_800,
                "2024-02-29T00:00:00.007Z",
                "29/Feb/2024:00:00:00 +0000",
            ),
            (
                1_735_689_599,
                "2024-12-31T23:59:59.007Z",
                "31/Dec/2024:23:59:59 +0000",
            ),
            (
                1_735_689_600,
                "2025-01-01T00:00:00.007Z",
                "01/Jan/2025:00:00:00 +0000",
            ),
            (
                4_107_542_400,
                "2100-03-01T00:00:00.007Z",
                "01/Mar/2100:00:00:00 +0000",
            ),
        ] {
            let unix_ms = unix_s * 1000 + 7;
            assert_eq!(line(|out| push_rfc3339(unix_ms, out)), rfc3339);
            assert_eq!(line(|out| push_clf_time(unix_ms, out)), clf);
        }
    }

    #[test]
    fn a_request_has_its_line_in_every_format() {
        let common = "192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] \"GET /x?y=1 HTTP/1.1\" 200 1234";
        for (format, expected) in [
            (LogFormat::Common, format!("{common}\n")),
            (
                LogFormat::Combined,
                format!(
                    "{common} \"-\" \"curl/8\" upstream=app/10.0.0.1:80 attempts=2 \
                     connect_ms=2 ttfb_ms=3 total_ms=9 why=--\n"
                ),
            ),
            (
                LogFormat::Json,
                concat!(
                    r#"{"ts":"2001-09-09T01:46:40.123Z","id":"0000000000000abc","#,
                    r#""client":"192.0.2.1","listener":"web","host":"a.test","method":"GET","#,
                    r#""path":"/x?y=1","proto":"HTTP/1.1","status":200,"bytes_in":80,"#,
                    r#""bytes_out":1234,"route":"/","pool":"app","backend":"10.0.0.1:80","#,
                    r#""attempts":2,"t_wait":1,"t_queue":null,"t_connect":2,"t_ttfb":3,"#,
                    r#""t_total":9,"why":"ok","closed_by":null,"ua":"curl/8","#,
                    r#""referer":null,"sticky":"new","traceparent":null,"#,
                    r#""sni":null,"tls_version":null,"#,
                    r#""tls_cipher":null,"tls_resumed":null,"client_verify":null}"#,
                    "\n",
                )
                .into(),
            ),
        ] {
            assert_eq!(line(|out| http().write(format, out)), expected);
        }
    }

    #[test]
    fn a_session_has_its_line_in_every_format() {
        let common = "192.0.2.1 - - [09/Sep/2001:01:46:40 +0000] \"TCP db\" - 7";
        for (format, expected) in [
            (LogFormat::Common, format!("{common}\n")),
            (
                LogFormat::Combined,
                format!(
                    "{common} \"-\" \"-\" upstream=sql/- attempts=3 connect_ms=- ttfb_ms=- \
                     total_ms=5000 why=sC\n"
                ),
            ),
            (
                LogFormat::Json,
                concat!(
                    r#"{"ts":"2001-09-09T01:46:40.123Z","id":"0000000000000001","#,
                    r#""client":"192.0.2.1:4711","listener":"db","sni":null,"proto":"TCP","#,
                    r#""bytes_in":0,"bytes_out":7,"pool":"sql","backend":null,"attempts":3,"#,
                    r#""t_queue":null,"#,
                    r#""t_connect":null,"t_total":5000,"why":"connect timeout","#,
                    r#""closed_by":"weir","tls_version":null,"tls_cipher":null,"#,
                    r#""tls_resumed":null,"client_verify":null}"#,
                    "\n",
                )
                .into(),
            ),
        ] {
            assert_eq!(line(|out| tcp().write(format, out)), expected);
        }
        let named = TcpRecord {
            sni: Some("a.example"),
            ..tcp()
        };
        let combined = line(|out| named.write(LogFormat::Combined, out));
        assert!(combined.ends_with(" why=sC sni=a.example\n"), "{combined}");
        let json = line(|out| named.write(LogFormat::Json, out));
        assert!(json.contains(r#","sni":"a.example","#), "{json}");
    }

    #[test]
    fn what_tls_has_agreed_on_follows_all_else() {
        let tls = TlsRecord {
            sni: Some("a.example"),
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            is_resumed: false,
            is_verified: Some(true),
        };
        let secured = HttpRecord {
            tls: Some(tls),
            ..http()
        };
        let combined = line(|out| secured.write(LogFormat::Combined, out));
        let facts = " sni=a.example tls_version=TLSv1.3 tls_cipher=TLS_AES_128_GCM_SHA256 \
                     tls_resumed=no client_verify=ok\n";
        assert!(combined.ends_with(facts), "{combined}");
        let json = line(|out| secured.write(LogFormat::Json, out));
        let facts = concat!(
            r#","sni":"a.example","tls_version":"TLSv1.3","tls_cipher":"TLS_AES_128_GCM_SHA256","#,
            r#""tls_resumed":false,"client_verify":"ok"}"#,
            "\n"
        );
        assert!(json.ends_with(facts), "{json}");
        let resumed = TcpRecord {
            tls: Some(TlsRecord {
                is_resumed: true,
                is_verified: None,
                ..tls
            }),
            ..tcp()
        };
        let combined = line(|out| resumed.write(LogFormat::Combined, out));
        let facts = " tls_resumed=yes client_verify=-\n";
        assert!(combined.ends_with(facts), "{combined}");
        let json = line(|out| resumed.write(LogFormat::Json, out));
        let facts = r#""tls_resumed":true,"client_verify":null}"#;
        assert!(json.ends_with(&format!("{facts}\n")), "{json}");
    }

    #[test]
    fn the_reason_follows_the_why() {
        let refused = HttpRecord {
            why: Why::Refused,
            reason: Some("no Host"),
            ..http()
        };
        let failed = TcpRecord {
            why: Why::ConnectFailed,
            reason: Some("connection refused"),
            ..tcp()
        };
        let combined = line(|out| refused.write(LogFormat::Combined, out));
        assert!(
            combined.ends_with(" why=PR reason=\"no Host\"\n"),
            "{combined}"
        );
        let combined = line(|out| failed.write(LogFormat::Combined, out));
        assert!(combined.ends_with(" why=SC reason=\"connection refused\"\n"));
        let json = line(|out| refused.write(LogFormat::Json, out));
        assert!(
            json.contains(r#","why":"refused by proxy: no Host","closed_by":"#),
            "{json}"
        );
        let json = line(|out| failed.write(LogFormat::Json, out));
        assert!(
            json.contains(r#","why":"connect failed: connection refused","#),
            "{json}"
        );
        let common = line(|out| refused.write(LogFormat::Common, out));
        assert_eq!(common, line(|out| http().write(LogFormat::Common, out)));
    }

    #[test]
    fn a_request_that_was_never_read_has_a_line() {
        let record = HttpRecord {
            client: None,
            method: b"",
            path: b"",
            host: b"",
            status: None,
            ..http()
        };
        let common = line(|out| record.write(LogFormat::Common, out));
        assert_eq!(common, "- - - [09/Sep/2001:01:46:40 +0000] \"-\" - 1234\n");
        let json = line(|out| record.write(LogFormat::Json, out));
        assert!(json.contains(r#""client":null,"listener":"web","host":null,"method":null,"#));
        assert!(json.contains(r#""status":null,"#));
    }

    #[test]
    fn what_a_client_sends_stays_within_its_quotes() {
        for (value, text, json) in [
            (&b"a b"[..], "a b", "a b"),
            (b"\"\\", r"\x22\x5C", r#"\"\\"#),
            (
                b"\r\n\x1b[2J\x7f",
                r"\x0D\x0A\x1B[2J\x7F",
                r"\u000d\u000a\u001b[2J\u007f",
            ),
            (b"\xc3\xa9", r"\xC3\xA9", "\u{e9}"),
            (
                b"\xc2\x9b\xe2\x80\xa8",
                r"\xC2\x9B\xE2\x80\xA8",
                r"\u009b\u2028",
            ),
            (b"a\xff\xc3", r"a\xFF\xC3", "a\u{fffd}\u{fffd}"),
        ] {
            let record = HttpRecord {
                user_agent: Some(value),
                ..http()
            };
            let combined = line(|out| record.write(LogFormat::Combined, out));
            assert!(
                combined.contains(&format!("\"-\" \"{text}\" upstream=")),
                "{combined}"
            );
            let written = line(|out| record.write(LogFormat::Json, out));
            assert!(
                written.contains(&format!("\"ua\":\"{json}\",")),
                "{written}"
            );
        }
    }

    #[test]
    fn a_long_value_is_cut() {
        let long = vec![b'x'; VALUE_BYTES_MAX + 1];
        for (value, end) in [(&long[..], "x...\""), (&long[1..], "x\"")] {
            let record = HttpRecord {
                user_agent: Some(value),
                ..http()
            };
            for format in [LogFormat::Combined, LogFormat::Json] {
                let written = line(|out| record.write(format, out));
                assert!(written.contains(end), "{written}");
                assert!(!written.contains(&"x".repeat(VALUE_BYTES_MAX + 1)));
            }
        }
    }

    #[test]
    fn a_name_with_a_space_is_one_word() {
        let record = HttpRecord {
            pool: Some("my pool"),
            backend: Some("unix:/a b"),
            ..http()
        };
        let combined = line(|out| record.write(LogFormat::Combined, out));
        assert!(
            combined.contains(r" upstream=my\x20pool/unix:/a\x20b attempts"),
            "{combined}"
        );
    }
}
