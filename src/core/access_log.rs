//! One access as one line: the common and combined formats, JSON, and formats of one's own.
//!
//! A line is written onto the end of a byte vector; where it goes and who limits it is not known
//! here. What a line can hold is a table of fields ([`form`]): each has one name, which is its key
//! in JSON and its name in a format, and one meaning for requests and sessions alike. Whatever a
//! client or backend sent is escaped, so that no value can end a line, close a quote, leave its
//! word or reach a terminal as a control sequence, and cut at [`VALUE_BYTES_MAX`], so that a line
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

pub(crate) mod escape;
pub mod form;

use std::net::IpAddr;

use crate::core::layer::Secured;
use crate::core::request_id::RequestId;

pub(crate) use escape::VALUE_BYTES_MAX;
pub use escape::push_rfc3339;

/// Lines that wait for their writer, in bytes; what does not fit is dropped and counted.
pub const PENDING_BYTES_MAX: usize = 1024 * 1024;

/// The status of a request whose client left before an answer had begun, as nginx logs it: it is
/// sent to nobody.
pub(crate) const CLIENT_LEFT: u16 = 499;

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
    /// An administrator has ended it (`weir ctl kick`).
    Kicked,
}

impl Why {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 22] = [
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
        Self::Kicked,
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
            Self::Kicked => ("KI", "kicked by an order"),
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
        | Why::DrainDeadline
        | Why::Kicked => Some(ClosedBy::Weir),
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
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::New => "new",
            Self::Moved => "moved",
        }
    }
}

/// Phases of an access, in microseconds; none where it did not come to the phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the first byte of the request to its whole head.
    pub wait_us: Option<u64>,
    /// Waiting for a backend to become free.
    pub queue_us: Option<u64>,
    /// Until the connection to the backend stood; 0 when a kept one was used.
    pub connect_us: Option<u64>,
    /// From the forwarded request to the first byte of the response.
    pub ttfb_us: Option<u64>,
    /// From the first byte of the request, or the accept, to the end.
    pub duration_us: u64,
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

    pub(crate) fn verify_word(&self) -> Option<&'static str> {
        self.is_verified.map(|it| if it { "ok" } else { "none" })
    }
}

/// One request over HTTP, or one session over TCP, which has no more than its listener, upstream,
/// bytes and times.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When it ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// By which it is known to others.
    pub id: RequestId<'a>,
    /// The number of the worker that has served it.
    pub worker: u32,
    /// The client, through trusted proxies; none over a Unix socket.
    pub client: Option<IpAddr>,
    /// Its port; none where a proxy has told only the address.
    pub client_port: Option<u16>,
    /// The listener's name.
    pub listener: &'a str,
    /// None of a session over TCP.
    pub request: Option<RequestRecord<'a>>,
    /// From the client: heads of requests.
    pub head_bytes_in: u64,
    /// From the client: bodies without their framing, or all of a session.
    pub body_bytes_in: u64,
    /// To the client: heads of responses.
    pub head_bytes_out: u64,
    /// To the client: bodies as they were sent, or all of a session.
    pub body_bytes_out: u64,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
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
    /// The name that the client asked for, where that was read.
    pub sni: Option<&'a str>,
    /// None where weir has decrypted nothing.
    pub tls: Option<TlsRecord<'a>>,
}

/// What a request has besides.
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord<'a> {
    /// The Host as it came; empty when absent, as are the next two when no head was read.
    pub host: &'a [u8],
    /// The method.
    pub method: &'a [u8],
    /// The target as it came, with its query.
    pub path: &'a [u8],
    /// Such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// What the client was answered, or [`CLIENT_LEFT`]; none when it was there and was not.
    pub status: Option<u16>,
    /// The route's name.
    pub route: Option<&'a str>,
    /// What the sticky cookie did; none without one.
    pub sticky: Option<StickyUse>,
    /// Where it stands in a trace, as it came or was made.
    pub traceparent: Option<&'a [u8]>,
    /// The fields of the request that the form of the line names, in its order; nothing where the
    /// head was not read.
    pub request_fields: &'a [Option<Vec<u8>>],
    /// Those of the response; nothing where no backend has answered.
    pub response_fields: &'a [Option<Vec<u8>>],
}

#[cfg(test)]
mod tests;
