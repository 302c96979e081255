//! How an exchange ends, and what follows from that for the client, its answer and the backend.

use std::ops::ControlFlow;

use crate::core::access_log::Why;
use crate::core::http::body::BodyError;
use crate::core::http::head::HeadError;

/// Why a request is refused whose body is longer than its route allows.
pub const TOO_LARGE: &str = "the body is longer than its route allows";

/// Why a backend that could be used was not connected to.
pub const NO_DESCRIPTOR: &str = "no descriptor was free";

/// Why a request is refused, or its answer, that would have to wait.
pub const NO_MEMORY: &str = "no memory was free to keep it";

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadResponse {
    /// Its head breaks a rule.
    Head(HeadError),
    /// A change of protocols that the client did not ask for.
    SwitchUnasked,
    /// A change of protocols before all of the request was sent.
    SwitchEarly,
    /// A change to a protocol that the client did not offer.
    SwitchNotOffered,
    /// A change of protocols that names none (RFC 9110 section 7.8).
    SwitchWithoutUpgrade,
    /// A change of protocols whose `Connection` does not name `Upgrade`, or in HTTP/1.0.
    SwitchWithoutConnection,
}

impl BadResponse {
    /// The reason, for a log line.
    #[must_use]
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Head(error) => error.reason(),
            Self::SwitchUnasked => "101 that was not asked for",
            Self::SwitchEarly => "101 before the request was complete",
            Self::SwitchNotOffered => "101 to a protocol that was not offered",
            Self::SwitchWithoutUpgrade => "101 without Upgrade",
            Self::SwitchWithoutConnection => "101 without Connection: upgrade",
        }
    }
}

/// Why there is no response, or none that can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No backend could be used.
    NoBackend,
    /// No descriptor was free for a connection in time.
    NoDescriptor,
    /// No memory was free for the head of the response.
    NoMemory,
    /// The backend that the client is bound to stayed full, and no other could be used.
    QueueTimeout,
    /// Every connection that was tried failed.
    Connect,
    /// No connection was made in time.
    ConnectTimeout,
    /// The backend ended the connection before its response had begun.
    ClosedEarly,
    /// The backend did not answer in time.
    ResponseTimeout,
    /// What the backend sent is no response to this request.
    BadResponse(BadResponse),
    /// The body of the request did not come in time.
    RequestTimeout,
    /// The body of the request is malformed.
    BadRequest(BodyError),
    /// The body of the request is longer than it may be.
    TooLarge,
}

impl Failure {
    /// The status that tells the client.
    #[must_use]
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::BadRequest(_) => 400,
            Self::RequestTimeout => 408,
            Self::TooLarge => 413,
            Self::Connect | Self::ClosedEarly | Self::BadResponse(_) => 502,
            Self::NoBackend | Self::NoDescriptor | Self::NoMemory | Self::QueueTimeout => 503,
            Self::ConnectTimeout | Self::ResponseTimeout => 504,
        }
    }

    /// How it reads in the access log.
    #[must_use]
    pub(crate) const fn why(self) -> Why {
        match self {
            Self::BadRequest(_) | Self::TooLarge | Self::NoMemory => Why::Refused,
            Self::RequestTimeout => Why::UploadTimeout,
            Self::Connect => Why::ConnectFailed,
            Self::ClosedEarly => Why::BackendClosedBeforeHead,
            Self::BadResponse(_) => Why::BadResponse,
            Self::NoBackend | Self::NoDescriptor => Why::NoBackend,
            Self::QueueTimeout => Why::QueueTimeout,
            Self::ConnectTimeout => Why::ConnectTimeout,
            Self::ResponseTimeout => Why::ResponseTimeout,
        }
    }

    /// What exactly was wrong, where the above does not say it.
    #[must_use]
    pub(crate) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::BadRequest(error) => Some(error.reason()),
            Self::BadResponse(error) => Some(error.reason()),
            Self::TooLarge => Some(TOO_LARGE),
            Self::NoDescriptor => Some(NO_DESCRIPTOR),
            Self::NoMemory => Some(NO_MEMORY),
            Self::RequestTimeout
            | Self::NoBackend
            | Self::QueueTimeout
            | Self::Connect
            | Self::ConnectTimeout
            | Self::ClosedEarly
            | Self::ResponseTimeout => None,
        }
    }
}

/// Why a response that has begun is not completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The backend ended or reset the connection.
    Backend,
    /// The framing of its body is malformed.
    BadBody(BodyError),
    /// Nothing moved for too long.
    Idle(Idle),
    /// The rest of the request failed.
    Request(Failure),
}

/// Who let a response stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// The backend, which sends no more of it.
    Backend,
    /// The same, where the response is an event stream and so has the time of a tunnel.
    Stream,
    /// The client, which does not take it.
    Client,
}

impl Cut {
    pub(super) const fn why(self) -> Why {
        match self {
            Self::Backend => Why::BackendCutBody,
            Self::BadBody(_) => Why::BadResponse,
            Self::Idle(Idle::Backend) => Why::ResponseIdle,
            Self::Idle(Idle::Stream) => Why::TunnelTimeout,
            Self::Idle(Idle::Client) => Why::SendTimeout,
            Self::Request(failure) => failure.why(),
        }
    }

    pub(super) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::BadBody(error) => Some(error.reason()),
            Self::Request(failure) => failure.reason(),
            Self::Backend | Self::Idle(_) => None,
        }
    }
}

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The response has passed as a whole, and the request was sent, or the backend takes no more
    /// of it.
    Complete,
    /// The response has passed as a whole, and the rest of the request will not: this is why, and
    /// what exactly was wrong, where that is known.
    Answered(Why, Option<&'static str>),
    /// There will be none of a backend's.
    Failed(Failure),
    /// The client has gone.
    ClientGone,
    /// The client has ended its direction, and is taken to have left.
    ClientLeft,
    /// The response has begun and will not be completed: the client must see that.
    Cut(Cut),
    /// The connection belongs to another protocol from here on.
    Switched,
}

impl End {
    /// What exactly was wrong, where that is known.
    #[must_use]
    pub(crate) const fn reason(self) -> Option<&'static str> {
        match self {
            Self::Failed(failure) => failure.reason(),
            Self::Cut(cut) => cut.reason(),
            Self::Answered(_, reason) => reason,
            Self::Complete | Self::ClientGone | Self::ClientLeft | Self::Switched => None,
        }
    }
}

/// An exchange goes on, with what was asked for, or has come to its end, which may be a good one.
pub type Progress<T = ()> = ControlFlow<End, T>;

/// That of a step that does not end an exchange unless it fails.
pub(crate) fn or_end<T>(outcome: Result<T, End>) -> Progress<T> {
    match outcome {
        Ok(found) => Progress::Continue(found),
        Err(end) => Progress::Break(end),
    }
}

/// What becomes of the client when an exchange is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFate {
    /// Its next request may come.
    Next,
    /// That was its last answer; whether all that it has to say is here.
    Close {
        /// It has sent its request as a whole, or will not, and said that no other follows.
        is_done: bool,
    },
    /// The end must come early: by the framing alone, so that a plain end shows it.
    CutByFraming,
    /// The end must come early, and only a reset shows that it does.
    CutByReset(Cut),
    /// It has ended, and is taken to have left before its answer began. What it was sent before
    /// that still reaches it.
    Left,
    /// It is not there any more.
    Gone,
    /// It goes on in another protocol.
    Switch,
}

/// What becomes of the connection to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackendFate {
    /// It waits for the next request.
    Park,
    /// It is closed.
    Close,
    /// It is reset: the backend should not go on working for nobody.
    Reset,
    /// It goes on in another protocol.
    Switch,
}

/// What follows from the end of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// How it reads in the access log.
    pub(crate) why: Why,
    /// What exactly was wrong, where that is known.
    pub(crate) reason: Option<&'static str>,
    /// weir answers with this status first.
    pub answer: Option<u16>,
    /// What becomes of the client.
    pub client: ClientFate,
    /// What becomes of the connection to the backend.
    pub backend: BackendFate,
}
