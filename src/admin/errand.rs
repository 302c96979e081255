//! What the control loop is to do for a caller, and its reply.

use crate::core::sessions::{GlobalName, SessionFilter};

/// Who is to have the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(pub(crate) u64);

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Errand {
    pub(crate) ticket: Ticket,
    /// Who asks, for the log: `user 0`, `token from 127.0.0.1`.
    pub(crate) who: String,
    pub(crate) action: Action,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Read the configuration file again; what was changed by hand is forgotten with `resets`.
    Reload { resets: bool },
    /// Open the access log anew.
    Reopen,
    /// Make way for another binary.
    Upgrade {
        /// Where the verdict is awaited, which another program is to tell; else the caller gets
        /// what there is before that.
        verdict_to: Option<String>,
    },
    /// End gracefully.
    Quit,
    /// End at once.
    Stop,
    /// Change what backends take.
    Steer { target: Target, change: Change },
    /// Add a backend to an upstream.
    Add {
        upstream: String,
        backend: NewBackend,
    },
    /// Take a backend out of its upstream.
    Remove { target: Target },
    /// End the sessions of backends.
    Kick { target: Target },
    /// End one session.
    KickSession { id: GlobalName },
    /// Log from this level up: `error`, `warn`, `info`, `debug` or `trace`.
    LogLevel { level: String },
    /// Tell what runs, with every default.
    ShowConfig,
    /// Tell which of these sessions there are, at most so many of them.
    ShowSessions {
        filter: SessionFilter,
        count_max: u32,
    },
}

/// A backend, or all backends of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) upstream: String,
    pub(crate) backend: Option<String>,
}

impl Target {
    /// Whether a backend of its upstream is meant.
    pub(crate) fn means(&self, backend: &str) -> bool {
        self.backend.as_ref().is_none_or(|it| it == backend)
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.upstream)?;
        match &self.backend {
            Some(backend) => write!(f, "/{backend}"),
            None => Ok(()),
        }
    }
}

/// What becomes of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It takes no new sessions but those that stick to it.
    Drain,
    /// It takes nothing new at all.
    Disable,
    /// Undoes both.
    Enable,
    /// Its share of the traffic is this, 0 to 65535; none is that of the file.
    Weight { weight: Option<u32> },
}

/// A backend that no file has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewBackend {
    pub(crate) address: String,
    /// Its identity; none is the address.
    pub(crate) id: Option<String>,
    pub(crate) weight: Option<u32>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It was done; a line, or what was to be told.
    Done(String),
    /// It was not, and why.
    Refused(String),
    /// It was not begun, as too many others are under way; in words.
    Crowded(String),
    /// It was to be told, as JSON.
    Told(String),
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Done(_) | Self::Told(_) => 200,
            Self::Crowded(_) => 503,
            Self::Refused(_) => 409,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Done(text) | Self::Refused(text) | Self::Crowded(text) | Self::Told(text) => text,
        }
    }
}
