//! What a session that relays bytes has of its backend, and how it stands.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::core::time::{Moment, Tick};
use crate::net::Net;
use crate::worker::attempt::Attempt;
use crate::worker::direction::{Direction, Held};
use crate::worker::keys::ConnectionKey;
use crate::worker::turn::{CloseReason, Side};

/// What an L4 session has of its backend, and what is on its way.
pub(crate) struct Relay<N: Net> {
    pub(crate) attempt: Attempt,
    pub(crate) connection: Option<ConnectionKey>,
    /// Client to backend.
    pub(crate) up: Direction<N>,
    /// Backend to client.
    pub(crate) down: Direction<N>,
    pub(crate) phase: RelayPhase,
}

/// How soon a relay that settles is looked at again, in milliseconds: the longer nothing has moved,
/// the later.
const LOOK_MS_MIN: u64 = 5;
const LOOK_MS_MAX: u64 = 1_000;

/// What a relay carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Its connection took so long to be made, in microseconds, up to 71 minutes.
    Tcp(u32),
    /// It began as an HTTP request, whose route may say how long nothing may move, in milliseconds:
    /// at most 49 days, so that sessions stay small.
    Tunnel(Option<NonZeroU32>),
}

impl Content {
    /// How long its connection took to be made, in microseconds, where that is told of it.
    pub(crate) fn connect_us(self) -> Option<u64> {
        match self {
            Self::Tcp(us) => Some(us.into()),
            Self::Tunnel(_) => None,
        }
    }
}

#[derive(Debug)]
pub(crate) enum RelayPhase {
    /// No descriptor is left for the backend connection, since then.
    AwaitingDescriptor(Tick),
    /// The backend connection is being made, since then.
    Connecting(Moment),
    /// It stands, and its preface is on its way; it was begun then.
    Greeting(Moment),
    /// Bytes are relayed.
    Relaying(Content),
    /// It is over: what came before that is on its way to one side.
    Settling(Box<Settling>),
}

/// The last bytes of a relay.
#[derive(Debug)]
pub(crate) struct Settling {
    /// The side from which they came.
    pub(crate) side: Side,
    /// How it ends.
    pub(crate) reason: CloseReason,
    /// How many bytes have not reached the kernel of the other side.
    pub(crate) left: usize,
    /// When these have last become fewer.
    pub(crate) since: Tick,
    /// What was relayed.
    pub(crate) content: Content,
}

impl Settling {
    /// What came from the other side is looked after from now on.
    pub(crate) fn turn_to(&mut self, side: Side, now: Tick) {
        (self.side, self.left, self.since) = (side, usize::MAX, now);
    }

    /// When it is looked next, if it was last looked then.
    pub(crate) fn next_look(&self, last: Tick) -> Tick {
        let waited_ms = last.since_ms(self.since);
        last.after_ms(waited_ms.clamp(LOOK_MS_MIN, LOOK_MS_MAX))
    }
}

impl<N: Net> Relay<N> {
    pub(crate) fn new(attempt: Attempt, now: Moment) -> Self {
        Self {
            attempt,
            connection: None,
            up: Direction::new(),
            down: Direction::new(),
            phase: RelayPhase::Connecting(now),
        }
    }

    /// A relay that takes over from HTTP after a change of protocols, on the same connections, with
    /// the timeout of its route if that has one.
    pub(crate) fn tunnel(
        attempt: Attempt,
        connection: ConnectionKey,
        timeout: Option<Duration>,
    ) -> Self {
        let timeout = timeout.map(|timeout| {
            let ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
            NonZeroU32::new(ms).unwrap_or(NonZeroU32::MIN)
        });
        Self {
            attempt,
            connection: Some(connection),
            up: Direction::new(),
            down: Direction::new(),
            phase: RelayPhase::Relaying(Content::Tunnel(timeout)),
        }
    }

    /// Whether it waits for a descriptor.
    pub(crate) fn awaits_descriptor(&self) -> bool {
        matches!(self.phase, RelayPhase::AwaitingDescriptor(_))
    }

    /// Whether one direction is over and the other is not.
    pub(crate) fn is_half_closed(&self) -> bool {
        self.up.flow.is_done() != self.down.flow.is_done()
    }

    /// How many buffers and pipes it holds.
    pub(crate) fn held(&self) -> (usize, usize) {
        let count = |wanted: fn(&Held<N>) -> bool| {
            let both = [&self.up.held, &self.down.held];
            both.into_iter().filter(|held| wanted(held)).count()
        };
        (
            count(|held| matches!(held, Held::Bytes(_))),
            count(|held| matches!(held, Held::Pipe { .. })),
        )
    }

    /// What is allocated for bytes that wait.
    pub(crate) fn buffered(&self) -> usize {
        let held = [&self.up.held, &self.down.held].into_iter();
        held.map(|held| match held {
            Held::Bytes(buffer) => buffer.capacity(),
            Held::Nothing | Held::Pipe { .. } => 0,
        })
        .sum()
    }

    /// Bytes that were read and not yet delivered, both ways.
    pub(crate) fn held_bytes(&self) -> usize {
        self.up.held_bytes() + self.down.held_bytes()
    }
}
