//! Request heads: read strictly, as nothing that has two readings may go to a backend.

use std::mem::MaybeUninit;

use httparse::Status;

use super::fault;
use super::target::{host_length, mask_target, scheme_length};
use super::{
    FIELDS_LIMIT, Fields, HeadError, HeadLimits, Method, Parsed, Span, Version, version,
    version_error, window,
};
use crate::core::http::body::Framing;
use crate::core::http::known::{Known, KnownSet};
use crate::core::http::syntax::decimal;

/// What a request expects before it goes on (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Nothing. So it is for HTTP/1.0, whose expectation of 100 is ignored.
    #[default]
    Nothing,
    /// An interim 100 before it sends its body.
    Continue,
    /// Something that nobody defined: 417.
    Unknown,
}

/// The form of a request target (RFC 9112 section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// A path and perhaps a query.
    #[default]
    Origin,
    /// A whole URI; its authority stands in the place of Host.
    Absolute,
    /// `*`, the server itself; OPTIONS only.
    Asterisk,
}

/// The facts of a request that outlive its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Its method.
    pub method: Method,
    /// Its version.
    pub version: Version,
    /// How its body ends; never until close.
    pub framing: Framing,
    /// Whether the client wants to go on using its connection.
    pub keep_alive: bool,
    /// What it expects before it sends its body.
    pub expect: Expect,
    /// Whether it offers to change to another protocol.
    pub upgrade: bool,
    /// How often OPTIONS or TRACE may be forwarded; at zero weir answers it itself (RFC 9110
    /// section 7.6.2). What is written is one less.
    pub max_forwards: Option<u64>,
}

impl Default for RequestFacts {
    fn default() -> Self {
        Self {
            method: Method::Get,
            version: Version::Http11,
            framing: Framing::None,
            keep_alive: false,
            expect: Expect::Nothing,
            upgrade: false,
            max_forwards: None,
        }
    }
}

/// The head of a request.
#[derive(Debug, Default)]
pub struct RequestHead {
    /// What was derived from it.
    pub facts: RequestFacts,
    /// The form of its target.
    pub form: TargetForm,
    /// Its fields.
    pub fields: Fields,
    method: Span,
    target: Span,
    /// Path and query; empty for an absolute target without them, and for `*`.
    path: Span,
    /// Host and port, of an absolute target or of Host.
    authority: Span,
    host: Span,
    /// For a head whose target is no UTF-8; see [`mask_target`].
    masked: Vec<u8>,
}

impl RequestHead {
    /// Looks for a request head at the beginning of `bytes`, after any empty lines (RFC 9112
    /// section 2.2).
    ///
    /// # Errors
    /// The first rule found broken. More bytes do not mend it.
    pub fn parse(&mut self, bytes: &[u8], limits: HeadLimits) -> Result<Parsed, HeadError> {
        self.fields.clear();
        let (window, is_cut) = window(bytes, limits);
        let mut space = [const { MaybeUninit::uninit() }; FIELDS_LIMIT];
        let space = &mut space[..limits.fields_max.min(FIELDS_LIMIT)];
        let mut found = httparse::Request::new(&mut []);
        match found.parse_with_uninit_headers(window, space) {
            Ok(Status::Complete(length)) => {
                let head = &window[..length];
                self.take(&found, head)
                    .inspect_err(|_| self.fields.clear())?;
                Ok(Parsed::Complete(length))
            }
            Ok(Status::Partial) if !is_cut => Ok(Parsed::Partial),
            Ok(Status::Partial) => Err(too_long(window)),
            Err(error) => {
                let error = request_error(error, &found, window);
                if error == HeadError::Target && mask_target(window, &mut self.masked) {
                    return self.parse_masked(limits);
                }
                Err(error)
            }
        }
    }

    /// Offsets are all that is kept of a head, so those of a copy with other bytes will do.
    fn parse_masked(&mut self, limits: HeadLimits) -> Result<Parsed, HeadError> {
        let masked = std::mem::take(&mut self.masked);
        let found = self.parse(&masked, limits);
        self.masked = masked;
        found
    }

    fn take(&mut self, found: &httparse::Request<'_, '_>, head: &[u8]) -> Result<(), HeadError> {
        let method = found.method.unwrap_or_default().as_bytes();
        self.method = Span::locate(method, head);
        self.target = Span::locate(found.path.unwrap_or_default().as_bytes(), head);
        check_leading_lines(&head[..self.method.start()])?;
        self.fields.fill(found.headers, head)?;
        let version = version(found.version);
        self.read_target(method, head)?;
        self.read_host(version, head)?;
        let framing = self.read_framing(version, head)?;
        let method = Method::recognise(method);
        self.facts = RequestFacts {
            method,
            version,
            framing,
            keep_alive: self.fields.keeps_alive(version),
            expect: self.read_expect(version, head),
            upgrade: self.fields.upgrades(head, version),
            max_forwards: self.read_max_forwards(method, head),
        };
        Ok(())
    }

    /// Other methods may ignore the field, a value that is no number says nothing, and more than
    /// can be counted is as much as can be (RFC 9110 section 7.6.2).
    fn read_max_forwards(&mut self, method: Method, head: &[u8]) -> Option<u64> {
        if !matches!(method, Method::Options | Method::Trace) {
            return None;
        }
        let text = self.fields.first(Known::MaxForwards, head)?;
        let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        let left = is_number.then(|| decimal(text).unwrap_or(i64::MAX as u64))?;
        self.fields.drop_known(KnownSet::of(&[Known::MaxForwards]));
        Some(left)
    }

    fn read_target(&mut self, method: &[u8], head: &[u8]) -> Result<(), HeadError> {
        let target = self.target.of(head);
        if method == b"CONNECT" {
            return Err(HeadError::Connect);
        }
        // A fragment is never sent; readers disagree on where such a path ends. Bytes beyond ASCII
        // are sent, and escaped before anybody else reads them.
        if target.contains(&b'#') {
            return Err(HeadError::Target);
        }
        self.authority = Span::default();
        self.host = Span::default();
        self.path = self.target;
        if target[0] == b'/' {
            self.form = TargetForm::Origin;
            return Ok(());
        }
        if target == b"*" && method == b"OPTIONS" {
            self.form = TargetForm::Asterisk;
            self.path = Span::default();
            return Ok(());
        }
        let scheme = scheme_length(target).ok_or(HeadError::Target)?;
        let rest = &target[scheme..];
        let length = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?'))
            .unwrap_or(rest.len());
        let start = self.target.start() + scheme;
        self.form = TargetForm::Absolute;
        self.authority = Span::new(start, start + length);
        self.path = Span::new(start + length, self.target.end());
        Ok(())
    }

    /// Host is judged even where the target stands in its place (RFC 9112 section 3.2).
    fn read_host(&mut self, version: Version, head: &[u8]) -> Result<(), HeadError> {
        let mut lines = self.fields.spans(Known::Host);
        let line = lines.next();
        if lines.next().is_some() {
            return Err(HeadError::HostRepeated);
        }
        match line {
            Some(value) => {
                let host = host_length(value.of(head)).ok_or(HeadError::HostInvalid)?;
                if self.form != TargetForm::Absolute {
                    self.authority = value;
                    self.host = Span::new(value.start(), value.start() + host);
                }
            }
            None if version == Version::Http11 => return Err(HeadError::HostMissing),
            None => {}
        }
        if self.form == TargetForm::Absolute {
            let host = host_length(self.authority.of(head)).ok_or(HeadError::HostInvalid)?;
            let start = self.authority.start();
            self.host = Span::new(start, start + host);
        }
        Ok(())
    }

    fn read_framing(&mut self, version: Version, head: &[u8]) -> Result<Framing, HeadError> {
        let chunked = self.fields.is_chunked(head, version)?;
        match (self.fields.content_length(head)?, chunked) {
            (Some(_), true) => Err(HeadError::LengthAndCoding),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, true) => Ok(Framing::Chunked),
            (None, false) => Ok(Framing::None),
        }
    }

    /// The expectation of an HTTP/1.0 client is ignored, and so not forwarded either.
    fn read_expect(&mut self, version: Version, head: &[u8]) -> Expect {
        if !self.fields.has(Known::Expect) {
            return Expect::Nothing;
        }
        let mut expect = Expect::Nothing;
        for member in self.fields.members(Known::Expect, head) {
            if !member.eq_ignore_ascii_case(b"100-continue") {
                return Expect::Unknown;
            }
            expect = Expect::Continue;
        }
        if version == Version::Http10 {
            self.fields.drop_known(KnownSet::of(&[Known::Expect]));
            expect = Expect::Nothing;
        }
        expect
    }

    /// The method, as written.
    #[must_use]
    pub fn method<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.method.of(bytes)
    }

    /// The target, as written.
    #[must_use]
    pub(crate) fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.target.of(bytes)
    }

    /// The path with the query, as written; `*` for the server itself. `space` is used, and
    /// cleared before, where an absolute target leaves the path out.
    #[must_use]
    pub fn path_and_query<'a>(&self, bytes: &'a [u8], space: &'a mut Vec<u8>) -> &'a [u8] {
        let path = self.path.of(bytes);
        match (self.form, path.first()) {
            (TargetForm::Asterisk, _) => b"*",
            // RFC 9112 section 3.2.4.
            (TargetForm::Absolute, None) if self.facts.method == Method::Options => b"*",
            (TargetForm::Absolute, None) => b"/",
            (TargetForm::Absolute, Some(b'?')) => {
                space.clear();
                space.push(b'/');
                space.extend_from_slice(path);
                space
            }
            (TargetForm::Origin | TargetForm::Absolute, _) => path,
        }
    }

    /// The authority that the request is for, with its port: of the target if that is absolute,
    /// else of Host. Empty only for HTTP/1.0.
    #[must_use]
    pub fn authority<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.authority.of(bytes)
    }

    /// [`RequestHead::authority`] without its port; an IPv6 address keeps its brackets.
    #[must_use]
    pub(crate) fn host<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.host.of(bytes)
    }
}

fn too_long(window: &[u8]) -> HeadError {
    let blank = window
        .iter()
        .position(|byte| !matches!(byte, b'\r' | b'\n'))
        .unwrap_or(window.len());
    if window[blank..].contains(&b'\n') {
        HeadError::TooLong
    } else {
        HeadError::TargetTooLong
    }
}

fn check_leading_lines(blank: &[u8]) -> Result<(), HeadError> {
    if blank.chunks(2).all(|line| line == b"\r\n") {
        Ok(())
    } else {
        Err(HeadError::LineEnd)
    }
}

fn request_error(
    error: httparse::Error,
    found: &httparse::Request<'_, '_>,
    window: &[u8],
) -> HeadError {
    match error {
        httparse::Error::HeaderName => fault::of_fields(window),
        httparse::Error::HeaderValue => HeadError::FieldValue,
        httparse::Error::NewLine if is_beyond_version(found, window) => HeadError::StartLine,
        httparse::Error::NewLine => HeadError::LineEnd,
        httparse::Error::TooManyHeaders => HeadError::TooManyFields,
        httparse::Error::Status => HeadError::Status,
        httparse::Error::Token if found.method.is_none() => {
            fault::of_request_line(window, HeadError::Method)
        }
        httparse::Error::Token => fault::of_request_line(window, HeadError::Target),
        httparse::Error::Version => match found.path {
            Some(path) => version_error(&window[Span::locate(path.as_bytes(), window).end() + 1..]),
            None => HeadError::StartLine,
        },
    }
}

/// Whether the version of a request line is followed by something else than a line end.
fn is_beyond_version(found: &httparse::Request<'_, '_>, window: &[u8]) -> bool {
    let target = found.path.map(|path| Span::locate(path.as_bytes(), window));
    let behind = target.and_then(|target| window.get(target.end() + " HTTP/1.1".len()));
    behind.is_some_and(|byte| !matches!(byte, b'\r' | b'\n'))
}
