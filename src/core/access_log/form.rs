//! The form of a line: what it holds, in which order, and how each value is escaped where it
//! stands.
//!
//! A format of one's own is text with fields in braces: `{client} "{header:User-Agent}"`. `{{` is a
//! brace, and so is `}}` or a `}` alone. How a value is escaped follows from its place: between
//! double quotes whatever could close them, else also a space and the mark behind the field, so
//! that values cannot look like fields. A format that begins with a brace is a JSON object: between
//! quotes values are escaped as JSON has it, elsewhere they are whole JSON values. All forms are
//! lists of such pieces, those that are built in too.

use std::fmt;
use std::net::IpAddr;

use crate::core::access_log::escape::{
    Within, push_clf_time, push_escaped, push_json, push_rfc3339,
};
use crate::core::access_log::{ClosedBy, Record, StickyUse, TlsRecord};
use crate::core::http::syntax::is_token;
use crate::core::request_id::{OwnId, RequestId};
use crate::core::text;

/// Longest format, in bytes.
pub(crate) const FORMAT_BYTES_MAX: usize = 4096;

/// Most fields of a format.
pub(crate) const FIELDS_MAX: usize = 64;

/// What a line can hold besides header fields, by name: first the keys of JSON, in their order.
const FIELDS: &[(&str, Field)] = &[
    ("ts", Field::Ts),
    ("id", Field::Id),
    ("worker", Field::Worker),
    ("client", Field::Client),
    ("client_port", Field::ClientPort),
    ("listener", Field::Listener),
    ("host", Field::Host),
    ("method", Field::Method),
    ("path", Field::Path),
    ("protocol", Field::Protocol),
    ("status", Field::Status),
    ("bytes_in", Field::BytesIn),
    ("bytes_out", Field::BytesOut),
    ("body_bytes_in", Field::BodyBytesIn),
    ("body_bytes_out", Field::BodyBytesOut),
    ("route", Field::Route),
    ("upstream", Field::Upstream),
    ("backend", Field::Backend),
    ("attempts", Field::Attempts),
    ("wait_ms", Field::WaitMs),
    ("queue_ms", Field::QueueMs),
    ("connect_ms", Field::ConnectMs),
    ("ttfb_ms", Field::TtfbMs),
    ("duration_ms", Field::DurationMs),
    ("why", Field::Why),
    ("closed_by", Field::ClosedBy),
    ("user_agent", Field::RequestHeader(0)),
    ("referer", Field::RequestHeader(1)),
    ("sticky", Field::Sticky),
    ("traceparent", Field::Traceparent),
    ("sni", Field::Sni),
    ("tls_version", Field::TlsVersion),
    ("tls_cipher", Field::TlsCipher),
    ("tls_resumed", Field::TlsResumed),
    ("client_verify", Field::ClientVerify),
    ("time", Field::Time),
    ("request", Field::Request),
    ("why_code", Field::WhyCode),
    ("reason", Field::Reason),
];

/// How many of them are in JSON.
const JSON_FIELDS: usize = 35;

/// The header fields of requests that have a name of their own, in the order of their numbers in
/// [`FIELDS`].
const NAMED_HEADERS: [&str; 2] = ["User-Agent", "Referer"];

const COMMON: &str = r#"{client} - - [{time}] "{request}" {status} {bytes_out}"#;

const COMBINED: &str = concat!(
    r#"{client} - - [{time}] "{request}" {status} {bytes_out} "{referer}" "{user_agent}" "#,
    "upstream={upstream}/{backend} attempts={attempts} connect_ms={connect_ms} ",
    "ttfb_ms={ttfb_ms} total_ms={duration_ms} why={why_code}",
);

/// The names that a format may have between braces, besides those of header fields.
pub fn field_names() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(name, _)| *name)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Ts,
    Time,
    Id,
    Worker,
    Client,
    ClientPort,
    Listener,
    Host,
    Method,
    Path,
    Protocol,
    Request,
    Status,
    BytesIn,
    BytesOut,
    BodyBytesIn,
    BodyBytesOut,
    Route,
    Upstream,
    Backend,
    Attempts,
    WaitMs,
    QueueMs,
    ConnectMs,
    TtfbMs,
    DurationMs,
    Why,
    WhyCode,
    Reason,
    ClosedBy,
    Sticky,
    Traceparent,
    Sni,
    TlsVersion,
    TlsCipher,
    TlsResumed,
    ClientVerify,
    RequestHeader(u8),
    ResponseHeader(u8),
}

/// What is wrong with a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// It names a field that there is not.
    UnknownField(String),
    /// What follows `header:` or `response_header:` is no name of a header field.
    BadHeader(String),
    /// A brace is not closed; the rest of the text from there on.
    Unclosed(String),
    /// It has a control character other than a tab.
    Control,
    /// It names no field: each line would be the same.
    NoField,
    /// It is longer than [`FORMAT_BYTES_MAX`].
    TooLong,
    /// It has more than [`FIELDS_MAX`] fields.
    TooManyFields,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Text(Within),
    /// As a whole value of JSON.
    Json,
    /// Between quotes in JSON.
    InJson,
}

#[derive(Debug)]
struct Piece {
    before: String,
    field: Field,
    style: Style,
}

/// What a line begins with on its way to a syslog daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogFormat {
    /// `<PRIORITY>1 TIME HOST weir PROCESS access - ` (RFC 5424 section 6.2).
    Rfc5424,
    /// `<PRIORITY>weir[PROCESS]: `, as programs write to the daemon of their machine by syslog(3),
    /// but for its time, which would be one of a zone that nobody names.
    Local,
}

/// The form of lines.
#[derive(Debug)]
pub struct Form {
    pieces: Vec<Piece>,
    end: String,
    /// Begins as syslog has it, with this priority.
    syslog: Option<(SyslogFormat, u8)>,
    /// Ends with the facts of combined that are not always there.
    has_facts: bool,
    request_fields: Vec<String>,
    response_fields: Vec<String>,
}

impl Form {
    /// The common log format.
    #[must_use]
    pub fn common() -> Self {
        Self::built_in(COMMON)
    }

    /// Common with referer and user agent, then facts of the backend side.
    #[must_use]
    pub fn combined() -> Self {
        Self {
            has_facts: true,
            ..Self::built_in(COMBINED)
        }
    }

    fn built_in(format: &str) -> Self {
        Self::parse(format).unwrap_or_else(|_| Self::empty())
    }

    fn empty() -> Self {
        Self {
            pieces: Vec::new(),
            end: String::new(),
            syslog: None,
            has_facts: false,
            request_fields: Vec::new(),
            response_fields: Vec::new(),
        }
    }

    /// One object of JSON, with every fact.
    #[must_use]
    pub fn json() -> Self {
        let mut form = Self::empty();
        for (name, field) in &FIELDS[..JSON_FIELDS] {
            let opening = if form.pieces.is_empty() { '{' } else { ',' };
            form.pieces.push(Piece {
                before: format!("{opening}\"{name}\":"),
                field: *field,
                style: Style::Json,
            });
        }
        form.end.push('}');
        form.request_fields = NAMED_HEADERS.map(str::to_owned).to_vec();
        form
    }

    /// A format of one's own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(format: &str) -> Result<Self, FormatError> {
        if format.len() > FORMAT_BYTES_MAX {
            return Err(FormatError::TooLong);
        }
        if format.chars().any(|c| c.is_control() && c != '\t') {
            return Err(FormatError::Control);
        }
        let is_json = format.starts_with("{{");
        let mut form = Self::empty();
        let mut rest = format;
        let mut is_quoted = false;
        while let Some(at) = rest.find(['{', '}', '"']) {
            let (before, mark) = rest.split_at(at);
            form.end.push_str(before);
            rest = &mark[1..];
            if let Some(behind) = rest.strip_prefix('{').filter(|_| mark.starts_with('{')) {
                form.end.push('{');
                rest = behind;
            } else if mark.starts_with('{') {
                let (name, behind) = rest
                    .split_once('}')
                    .filter(|(name, _)| !name.contains(['{', '"']))
                    .ok_or_else(|| FormatError::Unclosed(mark.to_owned()))?;
                rest = behind;
                let style = style(is_json, is_quoted, behind);
                form.push(name, style)?;
            } else {
                let brace = mark.starts_with('}');
                is_quoted ^= !brace;
                rest = rest.strip_prefix('}').filter(|_| brace).unwrap_or(rest);
                form.end.push(if brace { '}' } else { '"' });
            }
        }
        form.end.push_str(rest);
        match form.pieces.len() {
            0 => Err(FormatError::NoField),
            1..=FIELDS_MAX => Ok(form),
            _ => Err(FormatError::TooManyFields),
        }
    }

    fn push(&mut self, name: &str, style: Style) -> Result<(), FormatError> {
        let field = self.field(name)?;
        self.pieces.push(Piece {
            before: std::mem::take(&mut self.end),
            field,
            style,
        });
        Ok(())
    }

    fn field(&mut self, name: &str) -> Result<Field, FormatError> {
        if let Some(header) = name.strip_prefix("header:") {
            return numbered(&mut self.request_fields, header).map(Field::RequestHeader);
        }
        if let Some(header) = name.strip_prefix("response_header:") {
            return numbered(&mut self.response_fields, header).map(Field::ResponseHeader);
        }
        let known = FIELDS.iter().find(|(known, _)| *known == name);
        match known.map(|(_, field)| *field) {
            Some(Field::RequestHeader(index)) => {
                let header = NAMED_HEADERS[usize::from(index)];
                numbered(&mut self.request_fields, header).map(Field::RequestHeader)
            }
            Some(field) => Ok(field),
            None => Err(FormatError::UnknownField(name.to_owned())),
        }
    }

    /// The same for syslog, behind what is known here of its header: who sends is put in by who
    /// sends it.
    pub(crate) fn for_syslog(self, format: SyslogFormat, priority: u8) -> Self {
        Self {
            syslog: Some((format, priority)),
            ..self
        }
    }

    /// The header fields of requests that it has.
    pub(crate) fn request_fields(&self) -> &[String] {
        &self.request_fields
    }

    /// The header fields of responses that it has.
    pub(crate) fn response_fields(&self) -> &[String] {
        &self.response_fields
    }
}

/// The number of a header field among those that are kept.
fn numbered(kept: &mut Vec<String>, name: &str) -> Result<u8, FormatError> {
    if !is_token(name.as_bytes()) {
        return Err(FormatError::BadHeader(name.to_owned()));
    }
    let known = kept.iter().position(|it| it.eq_ignore_ascii_case(name));
    let index = known.unwrap_or_else(|| {
        kept.push(name.to_owned());
        kept.len() - 1
    });
    u8::try_from(index).map_err(|_| FormatError::TooManyFields)
}

/// How a value is written before this text.
fn style(is_json: bool, is_quoted: bool, behind: &str) -> Style {
    let mark = behind.bytes().next().filter(u8::is_ascii_punctuation);
    match (is_json, is_quoted) {
        (true, true) => Style::InJson,
        (true, false) => Style::Json,
        (false, true) => Style::Text(Within::Quotes),
        (false, false) => Style::Text(Within::Word(mark.unwrap_or(b' '))),
    }
}

/// What a field comes to.
enum Value<'a> {
    Absent,
    /// Texts in a row, to be escaped.
    Text([&'a [u8]; 5]),
    Number(u64),
    Micros(u64),
    Flag(bool),
    /// What holds nothing to escape but, of some, a space.
    Plain(Plain),
}

enum Plain {
    Ip(IpAddr),
    Id(OwnId),
    Ts(u64),
    Time(u64),
}

impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        match bytes {
            b"" => Value::Absent,
            _ => Value::Text([bytes, b"", b"", b"", b""]),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        text.as_bytes().into()
    }
}

impl<'a, T: Into<Self>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Absent, Into::into)
    }
}

impl Record<'_> {
    /// Appends the line and its newline.
    pub fn write(&self, form: &Form, out: &mut Vec<u8>) {
        match form.syslog {
            Some((SyslogFormat::Rfc5424, priority)) => {
                text::push(out, format_args!("<{priority}>1 "));
                push_rfc3339(self.unix_ms, out);
                out.push(b' ');
            }
            Some((SyslogFormat::Local, priority)) => {
                text::push(out, format_args!("<{priority}>weir: "));
            }
            None => {}
        }
        for piece in &form.pieces {
            out.extend_from_slice(piece.before.as_bytes());
            write(&self.value(piece.field), piece.style, out);
        }
        if form.has_facts {
            self.write_facts(out);
        }
        out.extend_from_slice(form.end.as_bytes());
        out.push(b'\n');
    }

    fn value(&self, field: Field) -> Value<'_> {
        let request = self.request.as_ref();
        let times = &self.timings;
        let micros = |us: Option<u64>| us.map_or(Value::Absent, Value::Micros);
        match field {
            Field::Ts => Value::Plain(Plain::Ts(self.unix_ms)),
            Field::Time => Value::Plain(Plain::Time(self.unix_ms)),
            Field::Id => match self.id {
                RequestId::Own(id) => Value::Plain(Plain::Id(id)),
                RequestId::Taken(id) => id.into(),
            },
            Field::Worker => Value::Number(self.worker.into()),
            Field::Client => self
                .client
                .map_or(Value::Absent, |ip| Value::Plain(Plain::Ip(ip))),
            Field::ClientPort => self
                .client_port
                .map_or(Value::Absent, |port| Value::Number(port.into())),
            Field::Listener => self.listener.into(),
            Field::Host => request.map(|it| it.host).into(),
            Field::Method => request.map(|it| it.method).into(),
            Field::Path => request.map(|it| it.path).into(),
            Field::Protocol => request.map_or("TCP", |it| it.protocol).into(),
            Field::Request => self.request_line(),
            Field::Status => request
                .and_then(|it| it.status)
                .map_or(Value::Absent, |status| Value::Number(status.into())),
            Field::BytesIn => Value::Number(self.head_bytes_in + self.body_bytes_in),
            Field::BytesOut => Value::Number(self.head_bytes_out + self.body_bytes_out),
            Field::BodyBytesIn => Value::Number(self.body_bytes_in),
            Field::BodyBytesOut => Value::Number(self.body_bytes_out),
            Field::Route => request.and_then(|it| it.route).into(),
            Field::Upstream => self.upstream.into(),
            Field::Backend => self.backend.into(),
            Field::Attempts => Value::Number(self.attempts.into()),
            Field::WaitMs => micros(times.wait_us),
            Field::QueueMs => micros(times.queue_us),
            Field::ConnectMs => micros(times.connect_us),
            Field::TtfbMs => micros(times.ttfb_us),
            Field::DurationMs => Value::Micros(times.duration_us),
            Field::Why => self.why_value(),
            Field::WhyCode => self.why.code().into(),
            Field::Reason => self.reason.into(),
            Field::ClosedBy => self.closed_by.map(ClosedBy::word).into(),
            Field::Sticky => request.and_then(|it| it.sticky).map(StickyUse::word).into(),
            Field::Traceparent => request.and_then(|it| it.traceparent).into(),
            Field::Sni => self.sni.into(),
            Field::TlsVersion => self.tls.as_ref().map(|tls| tls.version).into(),
            Field::TlsCipher => self.tls.as_ref().map(|tls| tls.cipher).into(),
            Field::TlsResumed => self
                .tls
                .as_ref()
                .map_or(Value::Absent, |tls| Value::Flag(tls.is_resumed)),
            Field::ClientVerify => self.tls.as_ref().and_then(TlsRecord::verify_word).into(),
            Field::RequestHeader(index) => kept(request.map(|it| it.request_fields), index),
            Field::ResponseHeader(index) => kept(request.map(|it| it.response_fields), index),
        }
    }

    fn request_line(&self) -> Value<'_> {
        let Some(request) = &self.request else {
            return Value::Text([b"TCP ", self.listener.as_bytes(), b"", b"", b""]);
        };
        if request.method.is_empty() {
            return Value::Absent;
        }
        let protocol = request.protocol.as_bytes();
        Value::Text([request.method, b" ", request.path, b" ", protocol])
    }

    fn why_value(&self) -> Value<'_> {
        let words = self.why.words().as_bytes();
        match self.reason {
            Some(reason) => Value::Text([words, b": ", reason.as_bytes(), b"", b""]),
            None => words.into(),
        }
    }

    /// What combined has at its end, of what is known.
    fn write_facts(&self, out: &mut Vec<u8>) {
        const ALWAYS_WITH_TLS: [(&str, Field); 4] = [
            (" tls_version=", Field::TlsVersion),
            (" tls_cipher=", Field::TlsCipher),
            (" tls_resumed=", Field::TlsResumed),
            (" client_verify=", Field::ClientVerify),
        ];
        if let Some(reason) = self.reason {
            text::push(out, format_args!(" reason=\"{reason}\""));
        }
        let word = Style::Text(Within::Word(b' '));
        if self.sni.is_some() {
            out.extend_from_slice(b" sni=");
            write(&self.value(Field::Sni), word, out);
        }
        if self.tls.is_some() {
            for (name, field) in ALWAYS_WITH_TLS {
                out.extend_from_slice(name.as_bytes());
                write(&self.value(field), word, out);
            }
        }
    }
}

/// A header field that was kept.
fn kept(fields: Option<&[Option<Vec<u8>>]>, index: u8) -> Value<'_> {
    let field = fields.and_then(|fields| fields.get(usize::from(index)));
    match field.and_then(Option::as_deref) {
        Some(value) => Value::Text([value, b"", b"", b"", b""]),
        None => Value::Absent,
    }
}

fn write(value: &Value<'_>, style: Style, out: &mut Vec<u8>) {
    match value {
        Value::Absent if style == Style::Json => out.extend_from_slice(b"null"),
        Value::Absent => out.push(b'-'),
        Value::Number(number) => text::push_number(out, *number),
        Value::Micros(us) => push_ms(*us, out),
        Value::Flag(is_set) => {
            let (yes, no) = match style {
                Style::Text(_) => ("yes", "no"),
                Style::Json | Style::InJson => ("true", "false"),
            };
            out.extend_from_slice(if *is_set { yes } else { no }.as_bytes());
        }
        Value::Plain(_) | Value::Text(_) if style == Style::Json => {
            out.push(b'"');
            write(value, Style::InJson, out);
            out.push(b'"');
        }
        Value::Text(parts) => {
            for part in parts.iter().filter(|part| !part.is_empty()) {
                match style {
                    Style::Text(within) => push_escaped(part, within, out),
                    Style::Json | Style::InJson => push_json(part, out),
                }
            }
        }
        Value::Plain(plain) => push_plain(plain, out),
    }
}

fn push_plain(plain: &Plain, out: &mut Vec<u8>) {
    match *plain {
        Plain::Ip(IpAddr::V4(ip)) => text::push_ipv4(out, ip),
        Plain::Ip(ip) => text::push(out, format_args!("{ip}")),
        Plain::Id(id) => text::push(out, format_args!("{id}")),
        Plain::Ts(unix_ms) => push_rfc3339(unix_ms, out),
        Plain::Time(unix_ms) => push_clf_time(unix_ms, out),
    }
}

/// Appends milliseconds with three decimals.
fn push_ms(us: u64, out: &mut Vec<u8>) {
    text::push_number(out, us / 1000);
    let rest = us % 1000;
    let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or(0);
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownField(name) => write!(f, "has no field {name:?}"),
            Self::BadHeader(name) => write!(f, "{name:?} is no name of a header field"),
            Self::Unclosed(rest) => write!(f, "the brace of {rest:?} is not closed"),
            Self::Control => f.write_str("has a control character"),
            Self::NoField => f.write_str("names no field"),
            Self::TooLong => write!(f, "is longer than {FORMAT_BYTES_MAX} bytes"),
            Self::TooManyFields => write!(f, "has more than {FIELDS_MAX} fields"),
        }
    }
}
