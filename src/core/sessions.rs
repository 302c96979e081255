//! Sessions as they are told to who asks which there are.

use std::fmt;
use std::net::SocketAddr;

/// Names a session among those of its process, for as long as that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionName {
    /// Its place in the table.
    pub key: u32,
    /// That of its client's endpoint.
    pub generation: u32,
}

/// Names a session among those of all processes of a weir.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalName {
    /// The process.
    pub pid: u32,
    /// The session of it.
    pub name: SessionName,
}

impl GlobalName {
    /// That of a text such as `1234-5-6`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-').map(|part| part.parse().ok());
        let mut part = || parts.next().flatten();
        let (pid, key, generation) = (part()?, part()?, part()?);
        let name = SessionName { key, generation };
        parts.next().is_none().then_some(Self { pid, name })
    }
}

impl fmt::Display for GlobalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SessionName { key, generation } = self.name;
        write!(f, "{}-{key}-{generation}", self.pid)
    }
}

/// Which sessions are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// The name of their listener.
    pub listener: Option<String>,
    /// The name of their upstream.
    pub upstream: Option<String>,
    /// The identity of their backend in it.
    pub backend: Option<String>,
}

/// What a process is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionQuery {
    /// To tell some of its sessions: those from this key on.
    List {
        /// Which are meant.
        filter: SessionFilter,
        /// The first key.
        from: u32,
    },
    /// To end one, and to tell it.
    Kick(SessionName),
}

/// A part of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionsPart {
    /// Those that are meant.
    pub rows: Vec<SessionRow>,
    /// From which key on there may be more.
    pub next: Option<u32>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRow {
    /// Its name.
    pub name: SessionName,
    /// The name of its listener.
    pub listener: String,
    /// None where it has no address.
    pub client: Option<SocketAddr>,
    /// `UPSTREAM/BACKEND`, or the upstream while no backend is chosen; empty between requests.
    pub backend: String,
    /// How far it is.
    pub state: SessionState,
    /// Since it was accepted.
    pub age_ms: u64,
    /// From its client: of the connection, or of the request that is under way.
    pub bytes_in: u64,
    /// The same to its client.
    pub bytes_out: u64,
    /// Requests that it has made (HTTP).
    pub requests: u64,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Its first bytes tell who it is and where it goes.
    Opening,
    /// It and weir agree on how they encrypt.
    Handshake,
    /// Between two requests.
    Idle,
    /// The head of a request is incomplete.
    Head,
    /// It waits for a backend that is full, or for a descriptor.
    Waiting,
    /// The connection to a backend is being made.
    Connecting,
    /// A request goes to a backend, or waits for its answer.
    Request,
    /// The answer is on its way.
    Response,
    /// Bytes go to and fro.
    Relaying,
    /// It is over but for what is on its way.
    Closing,
}

impl SessionState {
    /// As people read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Handshake => "handshake",
            Self::Idle => "idle",
            Self::Head => "head",
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Request => "request",
            Self::Response => "response",
            Self::Relaying => "relaying",
            Self::Closing => "closing",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written_and_nothing_else_is_one() {
        let name = SessionName {
            key: 5,
            generation: u32::MAX,
        };
        let global = GlobalName { pid: 7, name };
        assert_eq!(GlobalName::parse(&global.to_string()), Some(global));
        for text in ["", "7", "7-5", "7-5-6-8", "7-5-x", "-7-5", "7-5-4294967296"] {
            assert_eq!(GlobalName::parse(text), None, "{text}");
        }
    }
}
