//! A session: one client connection with at most one backend connection.

use std::net::SocketAddr;

use crate::core::readiness::Readiness;
use crate::core::time::Tick;
use crate::core::timer::TimerKey;
use crate::net::{Fired, Net, Side};
use crate::worker::shared::ListenerSlot;
use crate::worker::tcp::Relay;

/// A watched stream and what is known of it.
pub(crate) struct Endpoint<N: Net> {
    pub(crate) stream: N::Stream,
    pub(crate) ready: Readiness,
    /// Stamped when it was watched; events of another generation are stale.
    pub(crate) generation: u32,
}

impl<N: Net> Endpoint<N> {
    /// A stream of which nothing is known yet.
    pub(crate) fn new(stream: N::Stream, generation: u32) -> Self {
        let ready = Readiness::NONE;
        Self {
            stream,
            ready,
            generation,
        }
    }
}

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

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// Both directions ended and everything was delivered.
    Done,
    /// No backend could be had.
    NoBackend,
    /// One side was reset or failed.
    Reset(Side),
    /// Nothing moved for too long.
    Idle,
    /// One direction had ended and the other did not move for too long.
    HalfClosed,
    /// The end of a drain, or a stop at once.
    Cut,
}

impl CloseReason {
    /// How it reads in a log line.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::NoBackend => "no usable backend",
            Self::Reset(Side::Client) => "reset by client",
            Self::Reset(Side::Backend) => "reset by backend",
            Self::Idle => "idle timeout",
            Self::HalfClosed => "half-closed timeout",
            Self::Cut => "cut at the end of the drain",
        }
    }
}

/// One client connection and what belongs to it.
pub(crate) struct Session<N: Net> {
    pub(crate) client: Endpoint<N>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) listener: ListenerSlot,
    pub(crate) opened: Tick,
    /// When a byte last moved.
    pub(crate) moved: Tick,
    pub(crate) timer: Option<(Tick, TimerKey)>,
    /// The timer fired: close at the end of the next turn if nothing moved in it.
    pub(crate) due: bool,
    pub(crate) queued: bool,
    pub(crate) relay: Relay<N>,
}

impl<N: Net> Session<N> {
    /// Adds what fired to the endpoint it is for. False when the event is stale.
    pub(crate) fn mark(&mut self, side: Side, fired: &Fired) -> bool {
        let endpoint = match side {
            Side::Client => Some(&mut self.client),
            Side::Backend => self.relay.backend.as_mut(),
        };
        match endpoint {
            Some(endpoint) if endpoint.generation == fired.target.generation => {
                endpoint.ready.add(fired.ready);
                true
            }
            _ => false,
        }
    }
}
