//! The rules that a head can break, with their words and what a client is answered.

use std::fmt;

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
    pub(crate) const ALL: [Self; 28] = [
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
    pub(super) const fn may_be_mended(self) -> bool {
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
