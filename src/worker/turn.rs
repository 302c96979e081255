//! How the turn of a session ends, and why a session does.

use crate::core::opening::Refusal;

/// Bytes that one session may move in one turn before the next one runs.
pub(crate) const TURN_BUDGET_BYTES: usize = 512 * 1024;

/// What a session asks for at the end of its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing can be done before another event or timeout.
    Sleep,
    /// The budget ran out with work left.
    Again,
    /// It is over.
    Close(CloseReason),
}

/// One of the two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that connected to weir.
    Client,
    /// The one that weir connected to.
    Backend,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// Both directions ended and everything was delivered.
    Done,
    /// No backend could be had, and none was tried.
    NoBackend,
    /// The last one that was tried could not be connected to, and no other could be had.
    ConnectFailed,
    /// The same, as that took too long.
    ConnectTimeout,
    /// One side was reset or failed.
    Reset(Side),
    /// The client ended before it had been answered, and is taken to have left.
    Left,
    /// Nothing moved for too long.
    Idle,
    /// The same in a tunnel.
    TunnelIdle,
    /// One direction had ended and the other did not move for too long.
    HalfClosed,
    /// A client connection was idle for too long between requests, or ended there.
    KeepAliveEnd,
    /// A response could not be completed; the missing part shows that.
    Truncated,
    /// The same, as nothing moved for too long.
    Stalled,
    /// The client connection could not be watched.
    Unwatched,
    /// The first bytes of a client were not what they had to be.
    BadOpening(Refusal),
    /// A client that is none of those who may connect.
    Stranger,
    /// The end of a drain, or a stop at once.
    Cut,
    /// An administrator has ended what runs on its backend.
    Kicked,
}

impl CloseReason {
    /// How it reads in a log line.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NoBackend => "no usable backend",
            Self::ConnectFailed => "connect failed",
            Self::ConnectTimeout => "connect timeout",
            Self::Reset(Side::Client) => "reset by client",
            Self::Reset(Side::Backend) => "reset by backend",
            Self::Left => "left by client",
            Self::Idle => "idle timeout",
            Self::TunnelIdle => "tunnel timeout",
            Self::HalfClosed => "half-closed timeout",
            Self::KeepAliveEnd => "no further request",
            Self::Truncated => "response cut short",
            Self::Stalled => "response cut short by a timeout",
            Self::Unwatched => "cannot be watched",
            Self::BadOpening(refusal) => refusal.words(),
            Self::Stranger => "not among those of `proxy_protocol`",
            Self::Cut => "cut at the end of the drain",
            Self::Kicked => "kicked",
        }
    }
}
