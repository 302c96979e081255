//! Request and response heads: parsed where they lie, judged once, kept as ranges.
//!
//! httparse finds the parts; what it tolerates and RFC 9112 does not is refused here. Only what a
//! response breaks that can be read in one way is mended first (see [`super::oddity`]). A head
//! borrows nothing: it is a set of offsets into the bytes it was parsed from, so a caller may
//! keep those bytes in any buffer and reuse one head for every message of a worker. Its methods
//! that take `bytes` want exactly the bytes that [`RequestHead::parse`] was given.

mod fault;
mod target;

use std::fmt;
use std::mem::MaybeUninit;

use httparse::Status;

use super::body::Framing;
use super::known::{Known, KnownSet};
use target::{host_length, mask_target, scheme_length};

mod response;

pub use response::{ResponseFacts, ResponseHead};

/// The longest head that offsets can describe, in bytes.
pub const HEAD_BYTES_LIMIT: usize = 65_535;
/// The most fields that a head can be allowed.
pub const FIELDS_LIMIT: usize = 256;
/// Most options in all `Connection` fields of a message; each is compared with each field.
const CONNECTION_OPTIONS_MAX: usize = 64;

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head, in bytes; what exceeds [`HEAD_BYTES_LIMIT`] counts as that.
    pub head_bytes_max: usize,
    /// Most fields; what exceeds [`FIELDS_LIMIT`] counts as that.
    pub fields_max: usize,
}

/// The outcome of looking for a head that breaks no rule so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head is whole and takes so many bytes, leading empty lines included.
    Complete(usize),
    /// More bytes are needed; the head that was parsed into is empty.
    Partial,
}

/// So much of a head may be parsed at every line.
const SHORT_BYTES: usize = 512;

/// Whether another attempt may find more than the last, which found `Partial` without the last
/// `fresh` bytes. It spares a head that arrives byte by byte from being parsed as often: one that
/// has become long is parsed when it ends, and before that each time when it has doubled, so that
/// all attempts together take time linear in its bytes, and what is wrong with it is still found
/// early.
#[must_use]
pub fn is_worth_parsing(bytes: &[u8], fresh: usize, limits: Limits) -> bool {
    let len = bytes.len();
    let before = len.saturating_sub(fresh);
    if before == 0 || len >= limits.head_bytes_max {
        return true;
    }
    let may_end = |at: usize| bytes[at] == b'\n' && (len <= SHORT_BYTES || ends_head(bytes, at));
    let has_doubled = len > SHORT_BYTES && len.ilog2() > before.ilog2();
    has_doubled || (before..len).any(may_end)
}

/// Whether the line end at this place follows another one, and that a line with something in it:
/// empty lines before a head do not end it.
fn ends_head(bytes: &[u8], at: usize) -> bool {
    let before_line_end = |at: usize| match bytes[..at] {
        [.., b'\r'] => at - 1,
        _ => at,
    };
    let line = before_line_end(at);
    let above = line.checked_sub(1).filter(|&above| bytes[above] == b'\n');
    above.is_some_and(|above| {
        let text = before_line_end(above);
        text > 0 && bytes[text - 1] != b'\n'
    })
}

/// Which rule a head breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// A start line that is none.
    StartLine,
    /// A method that is no token.
    Method,
    /// A target that holds a byte it may not, or has no form that the method allows.
    Target,
    /// CONNECT, which asks for a tunnel.
    Connect,
    /// A version other than 1.0 and 1.1.
    Version,
    /// A status that is not three digits from 100 on, or a reason that is no text.
    Status,
    /// A byte in a field name that it may not hold.
    FieldName,
    /// A byte in a field value that it may not hold.
    FieldValue,
    /// A line that ends in anything but CRLF.
    LineEnd,
    /// More fields than allowed.
    TooManyFields,
    /// More bytes than allowed.
    TooLong,
    /// A request line longer than the whole head may be.
    TargetTooLong,
    /// An HTTP/1.1 request without Host.
    HostMissing,
    /// More than one Host.
    HostRepeated,
    /// A Host, or an authority in the target, that is none, or is empty.
    HostInvalid,
    /// A Content-Length that is no number below 2^63.
    LengthInvalid,
    /// Several Content-Length that differ.
    LengthConflict,
    /// Content-Length and Transfer-Encoding in one request.
    LengthAndCoding,
    /// A Transfer-Encoding that does not end in `chunked`, or repeats it.
    CodingInvalid,
    /// A Transfer-Encoding that names a coding besides `chunked`.
    CodingUnknown,
    /// A Transfer-Encoding in HTTP/1.0.
    CodingInOldVersion,
    /// More connection options than anybody needs.
    ConnectionOptions,
    /// A colon with no field name before it.
    FieldNameEmpty,
    /// A field line without a colon.
    ColonMissing,
    /// White space between a field name and its colon.
    BlankBeforeColon,
    /// A field line that goes on the line before it (RFC 9112 section 5.2).
    FoldedLine,
    /// The same, before any field (RFC 9112 section 2.2).
    BlankBeforeFields,
    /// A line of nothing but white space.
    BlankLine,
}

impl HeadError {
    /// All rules; new ones come last, so that processes of two versions understand each other.
    pub const ALL: [Self; 28] = [
        Self::StartLine,
        Self::Method,
        Self::Target,
        Self::Connect,
        Self::Version,
        Self::Status,
        Self::FieldName,
        Self::FieldValue,
        Self::LineEnd,
        Self::TooManyFields,
        Self::TooLong,
        Self::TargetTooLong,
        Self::HostMissing,
        Self::HostRepeated,
        Self::HostInvalid,
        Self::LengthInvalid,
        Self::LengthConflict,
        Self::LengthAndCoding,
        Self::CodingInvalid,
        Self::CodingUnknown,
        Self::CodingInOldVersion,
        Self::ConnectionOptions,
        Self::FieldNameEmpty,
        Self::ColonMissing,
        Self::BlankBeforeColon,
        Self::FoldedLine,
        Self::BlankBeforeFields,
        Self::BlankLine,
    ];

    /// The status to answer a request with that breaks the rule. For a response it is 502.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::StartLine
            | Self::Method
            | Self::Target
            | Self::Status
            | Self::FieldName
            | Self::FieldNameEmpty
            | Self::ColonMissing
            | Self::BlankBeforeColon
            | Self::FoldedLine
            | Self::BlankBeforeFields
            | Self::BlankLine
            | Self::FieldValue
            | Self::LineEnd
            | Self::HostMissing
            | Self::HostRepeated
            | Self::HostInvalid
            | Self::LengthInvalid
            | Self::LengthConflict
            | Self::LengthAndCoding
            | Self::CodingInvalid
            | Self::CodingInOldVersion => 400,
            Self::Connect => 405,
            Self::TargetTooLong => 414,
            Self::TooManyFields | Self::TooLong | Self::ConnectionOptions => 431,
            Self::CodingUnknown => 501,
            Self::Version => 505,
        }
    }

    /// Whether a response may break the rule in a way that has one reading all the same.
    const fn may_be_mended(self) -> bool {
        matches!(
            self,
            Self::StartLine
                | Self::Version
                | Self::Status
                | Self::FieldName
                | Self::FieldValue
                | Self::LineEnd
        )
    }

    /// The rule, for a log line.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::StartLine => "malformed start line",
            Self::Method => "invalid method",
            Self::Target => "invalid request target",
            Self::Connect => "CONNECT is not served",
            Self::Version => "unsupported HTTP version",
            Self::Status => "invalid status line",
            Self::FieldName => "invalid byte in a field name",
            Self::FieldNameEmpty => "empty field name",
            Self::ColonMissing => "field line without a colon",
            Self::BlankBeforeColon => "blank before a colon",
            Self::FoldedLine => "folded field line",
            Self::BlankBeforeFields => "blank before the first field",
            Self::BlankLine => "field line of blanks only",
            Self::FieldValue => "invalid byte in a field value",
            Self::LineEnd => "line does not end in CRLF",
            Self::TooManyFields => "too many fields",
            Self::TooLong => "head too long",
            Self::TargetTooLong => "request line too long",
            Self::HostMissing => "no Host",
            Self::HostRepeated => "more than one Host",
            Self::HostInvalid => "invalid host",
            Self::LengthInvalid => "invalid Content-Length",
            Self::LengthConflict => "conflicting Content-Length",
            Self::LengthAndCoding => "both Content-Length and Transfer-Encoding",
            Self::CodingInvalid => "invalid Transfer-Encoding",
            Self::CodingUnknown => "unknown transfer coding",
            Self::CodingInOldVersion => "Transfer-Encoding in HTTP/1.0",
            Self::ConnectionOptions => "too many connection options",
        }
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for HeadError {}

/// The version of a message. Others are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// The methods with rules of their own (RFC 9110 section 9). CONNECT is refused while parsing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the method it stands for")]
pub enum Method {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Delete,
    Options,
    Patch,
    Trace,
    /// Any other token.
    Other,
}

impl Method {
    /// The method of that name, which is compared with its case.
    #[must_use]
    pub fn recognise(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"PATCH" => Self::Patch,
            b"TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    /// Whether it asks for no change (RFC 9110 section 9.2.1).
    #[must_use]
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether twice is the same as once (RFC 9110 section 9.2.2).
    #[must_use]
    pub const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

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

/// A range of the bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u16,
    length: u16,
}

impl Span {
    /// The bytes in the range.
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start()..self.end()]
    }

    /// The offset of its first byte.
    #[must_use]
    pub const fn start(self) -> usize {
        self.start as usize
    }

    /// The offset after its last byte.
    #[must_use]
    pub const fn end(self) -> usize {
        self.start as usize + self.length as usize
    }

    /// Whether it holds no byte.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Both ends lie in a head, which is at most [`HEAD_BYTES_LIMIT`] long.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a head is shorter than 2^16"
    )]
    fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= HEAD_BYTES_LIMIT, "outside a head");
        Self {
            start: start as u16,
            length: (end - start) as u16,
        }
    }

    /// Where `part` lies in `bytes`, of which it is a part.
    fn locate(part: &[u8], bytes: &[u8]) -> Self {
        let start = part.as_ptr().addr() - bytes.as_ptr().addr();
        Self::new(start, start + part.len())
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: Span,
    value: Span,
    known: Known,
    /// Written as `name: value` CRLF, so that its bytes can be copied as they are.
    plain: bool,
    /// Not forwarded as it came: for this connection only, or framing that is written anew.
    dropped: bool,
}

impl Field {
    /// Its name, as written.
    #[must_use]
    pub fn name(self, bytes: &[u8]) -> &[u8] {
        self.name.of(bytes)
    }

    /// Its value, without the white space around it.
    #[must_use]
    pub fn value(self, bytes: &[u8]) -> &[u8] {
        self.value.of(bytes)
    }

    /// Which field it is.
    #[must_use]
    pub const fn known(self) -> Known {
        self.known
    }

    /// Whether it stays on this side of weir.
    #[must_use]
    pub const fn is_dropped(self) -> bool {
        self.dropped
    }

    /// The whole line with its CRLF, if copying it gives the one form that weir writes.
    pub(super) const fn plain_line(self) -> Option<(usize, usize)> {
        if self.plain {
            Some((self.name.start(), self.value.end() + 2))
        } else {
            None
        }
    }
}

/// The fields of a head, in their order.
#[derive(Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    present: KnownSet,
    options: Options,
    /// The body length to write when no Content-Length line can be copied.
    rewritten_length: Option<u64>,
}

/// What the `Connection` fields say, and those that only count together with them.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    te_trailers: bool,
    /// There are others, which name fields to drop.
    others: bool,
}

impl Fields {
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Field> + '_ {
        self.list.iter().copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of that name is there.
    #[must_use]
    pub const fn has(&self, known: Known) -> bool {
        self.present.has(known)
    }

    /// The values of the fields of that name, in their order.
    pub fn values<'a>(
        &'a self,
        known: Known,
        bytes: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + 'a {
        let list = if self.has(known) {
            self.list.as_slice()
        } else {
            &[]
        };
        list.iter()
            .filter(move |field| field.known == known)
            .map(|field| field.value.of(bytes))
    }

    /// The first value of the fields of that name.
    #[must_use]
    pub fn first<'a>(&'a self, known: Known, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.values(known, bytes).next()
    }

    /// The first value of the fields of a name that may not be a known one.
    #[must_use]
    pub fn find<'a>(&self, name: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.list
            .iter()
            .find(|field| field.name.of(bytes).eq_ignore_ascii_case(name))
            .map(|field| field.value.of(bytes))
    }

    /// Whether `Connection` names fields that are for this connection only.
    #[must_use]
    pub const fn names_hop_fields(&self) -> bool {
        self.options.others
    }

    /// Whether the sender takes trailers (`TE: trailers`, RFC 9110 section 10.1.4).
    #[must_use]
    pub const fn takes_trailers(&self) -> bool {
        self.options.te_trailers
    }

    pub(super) const fn rewritten_length(&self) -> Option<u64> {
        self.rewritten_length
    }

    fn clear(&mut self) {
        self.list.clear();
        self.present = KnownSet::NONE;
        self.options = Options::default();
        self.rewritten_length = None;
    }

    /// Takes the fields that httparse found; `head` ends with the empty line.
    fn fill(&mut self, found: &[httparse::Header<'_>], head: &[u8]) -> Result<(), HeadError> {
        self.clear();
        let mut next_start = head.len() - 2;
        check_line_end(head, next_start)?;
        // From the last to the first, because a line is known to be plain by where the next begins.
        for header in found.iter().rev() {
            let name = Span::locate(header.name.as_bytes(), head);
            check_line_end(head, name.start())?;
            let value = if header.value.is_empty() {
                Span::new(next_start - 2, next_start - 2)
            } else {
                Span::locate(header.value, head)
            };
            let known = Known::recognise(header.name.as_bytes());
            self.present = self.present.with(known);
            self.list.push(Field {
                name,
                value,
                known,
                plain: value.end() + 2 == next_start
                    && value.start() == name.end() + 2
                    && head[name.end() + 1] == b' ',
                dropped: KnownSet::HOP_BY_HOP.has(known),
            });
            next_start = name.start();
        }
        self.list.reverse();
        self.read_options(head)
    }

    fn read_options(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        let mut options = Options::default();
        let mut count = 0;
        for option in elements(self.values(Known::Connection, bytes)) {
            count += 1;
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else {
                options.others = true;
            }
        }
        if count > CONNECTION_OPTIONS_MAX {
            return Err(HeadError::ConnectionOptions);
        }
        options.te_trailers = elements(self.values(Known::Te, bytes))
            .any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
        self.options = options;
        if options.others {
            self.drop_named(bytes);
        }
        Ok(())
    }

    /// Drops the fields that `Connection` names.
    fn drop_named(&mut self, bytes: &[u8]) {
        for at in 0..self.list.len() {
            let field = self.list[at];
            if field.dropped || KnownSet::END_TO_END.has(field.known) {
                continue;
            }
            let name = field.name.of(bytes);
            let is_named = elements(self.values(Known::Connection, bytes))
                .any(|option| option.eq_ignore_ascii_case(name));
            self.list[at].dropped = is_named;
        }
    }

    /// The one length that all Content-Length fields agree on. One line of it may be forwarded
    /// if it is written in the plainest form.
    fn content_length(&mut self, bytes: &[u8]) -> Result<Option<u64>, HeadError> {
        if !self.has(Known::ContentLength) {
            return Ok(None);
        }
        let mut agreed = None;
        for value in self.values(Known::ContentLength, bytes) {
            // An empty element is no number: unlike other lists, this one tolerates none.
            for element in value.split(|&byte| byte == b',') {
                let length = decimal(trim(element)).ok_or(HeadError::LengthInvalid)?;
                if agreed.is_some_and(|agreed| agreed != length) {
                    return Err(HeadError::LengthConflict);
                }
                agreed = Some(length);
            }
        }
        self.rewritten_length = agreed;
        for field in &mut self.list {
            if field.known == Known::ContentLength {
                let value = field.value.of(bytes);
                let plainest = value.len() == 1 || value[0] != b'0';
                if self.rewritten_length.is_some() && plainest && !value.contains(&b',') {
                    self.rewritten_length = None;
                } else {
                    field.dropped = true;
                }
            }
        }
        Ok(agreed)
    }

    /// Whether the body is chunked, and nothing else.
    fn is_chunked(&self, bytes: &[u8], version: Version) -> Result<bool, HeadError> {
        if !self.has(Known::TransferEncoding) {
            return Ok(false);
        }
        if version == Version::Http10 {
            return Err(HeadError::CodingInOldVersion);
        }
        let (mut count, mut chunked, mut last) = (0, 0, false);
        for coding in elements(self.values(Known::TransferEncoding, bytes)) {
            last = coding.eq_ignore_ascii_case(b"chunked");
            chunked += usize::from(last);
            count += 1;
        }
        match (last, chunked, count) {
            (true, 1, 1) => Ok(true),
            (true, 1, _) => Err(HeadError::CodingUnknown),
            _ => Err(HeadError::CodingInvalid),
        }
    }

    /// Drops the fields of `names`.
    fn drop_known(&mut self, names: KnownSet) {
        for field in &mut self.list {
            field.dropped |= names.has(field.known);
        }
    }

    /// Whether the connection shall be kept (RFC 9112 section 9.3).
    const fn keeps_alive(&self, version: Version) -> bool {
        !self.options.close
            && match version {
                Version::Http11 => true,
                Version::Http10 => self.options.keep_alive,
            }
    }

    /// Whether another protocol is named (RFC 9110 section 7.8). HTTP/2 does not count: weir
    /// would have to let requests pass that it could not judge.
    fn upgrades(&self, bytes: &[u8], version: Version) -> bool {
        version == Version::Http11
            && self.options.upgrade
            && elements(self.values(Known::Upgrade, bytes))
                .next()
                .is_some()
            && !elements(self.values(Known::Upgrade, bytes)).any(is_http2)
    }
}

fn is_http2(protocol: &[u8]) -> bool {
    let name = protocol
        .split(|&byte| byte == b'/')
        .next()
        .unwrap_or(protocol);
    name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
}

/// A line begins at `start`: the one before has to end in CRLF.
fn check_line_end(head: &[u8], start: usize) -> Result<(), HeadError> {
    if head[..start].ends_with(b"\r\n") {
        Ok(())
    } else {
        Err(HeadError::LineEnd)
    }
}

/// The members of a comma-separated list, without empty ones (RFC 9110 section 5.6.1).
fn elements<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Without spaces and tabs at either end.
fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// A number of digits only, below 2^63.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        let number = number.checked_mul(10)?.checked_add(digit)?;
        (number <= i64::MAX as u64).then_some(number)
    })
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
    pub fn parse(&mut self, bytes: &[u8], limits: Limits) -> Result<Parsed, HeadError> {
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
    fn parse_masked(&mut self, limits: Limits) -> Result<Parsed, HeadError> {
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
        let mut lines = self
            .fields
            .list
            .iter()
            .filter(|field| field.known == Known::Host);
        let line = lines.next().map(|field| field.value);
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
        let mut expect = Expect::Nothing;
        for member in elements(self.fields.values(Known::Expect, head)) {
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
    pub fn target<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
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
    pub fn host<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.host.of(bytes)
    }
}

/// The bytes that a head may take, and whether there are so many that none may follow.
fn window(bytes: &[u8], limits: Limits) -> (&[u8], bool) {
    let longest = limits.head_bytes_max.min(HEAD_BYTES_LIMIT);
    (&bytes[..bytes.len().min(longest)], bytes.len() >= longest)
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

const fn version(minor: Option<u8>) -> Version {
    match minor {
        Some(0) => Version::Http10,
        _ => Version::Http11,
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

/// A version that nobody here speaks, or none at all. One digit tells, so that the answer does
/// not depend on how much of it has arrived.
fn version_error(rest: &[u8]) -> HeadError {
    match rest {
        [b'H', b'T', b'T', b'P', b'/', digit, ..] if digit.is_ascii_digit() => HeadError::Version,
        _ => HeadError::StartLine,
    }
}

#[cfg(test)]
mod tests;
