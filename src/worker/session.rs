//! A session: one client connection with at most one backend connection.

use std::net::SocketAddr;

use crate::core::backend::BackendId;
use crate::core::client_hello::ClientHello;
use crate::core::opening::{self, Plan, Refusal, Settled};
use crate::core::time::{Moment, Tick};
use crate::core::timer::TimerKey;
use crate::net::Net;
use crate::worker::http::client::Http;
use crate::worker::keys::{ConnectionKey, ListenerSlot, SessionId, UpstreamSlot};
use crate::worker::memory_queue::Shortage;
use crate::worker::relay::Relay;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Side};

/// One client connection and what belongs to it.
pub(crate) struct Session<N: Net> {
    pub(crate) client: Endpoint<N>,
    pub(crate) peer: Option<SocketAddr>,
    /// What else an opening has told, where it did.
    pub(crate) told: Option<Box<Told>>,
    pub(crate) listener: ListenerSlot,
    pub(crate) opened: Moment,
    /// When a byte last moved.
    pub(crate) moved: Tick,
    pub(crate) timer: Option<(Tick, TimerKey)>,
    /// The timer fired: close at the end of the next turn if nothing moved in it.
    pub(crate) due: bool,
    pub(crate) queued: bool,
    /// As of [`Settled`].
    pub(crate) may_be_check: bool,
    pub(crate) shortage: Shortage,
    pub(crate) protocol: Protocol<N>,
}

/// What an opening has told of a client, for the life of its session.
pub(crate) struct Told {
    /// Where it connected to, by a PROXY header.
    pub(crate) destination: Option<SocketAddr>,
    /// What it has said of its connection over TLS.
    pub(crate) hello: Option<Box<ClientHello>>,
}

impl Told {
    pub(crate) fn destination(&self) -> Option<&SocketAddr> {
        self.destination.as_ref()
    }

    pub(crate) fn hello(&self) -> Option<&ClientHello> {
        self.hello.as_deref()
    }
}

/// What is spoken on a session.
pub(crate) enum Protocol<N: Net> {
    /// Bytes, relayed as they come.
    Tcp(Relay<N>),
    /// HTTP/1.
    Http(Http),
    /// Not settled yet.
    Opening(Box<Opening>),
}

/// What has come of an opening.
pub(crate) struct Opening {
    pub(crate) state: opening::Opening,
    pub(crate) bytes: Vec<u8>,
    /// Why the client is refused, once it has been told that: what it still sends is dropped, as a
    /// close on it would overtake the answer.
    pub(crate) refused: Option<Refusal>,
    /// What was settled before the client and weir agree on how they encrypt. The bytes that have
    /// come are for that; once it has begun, there are none here.
    pub(crate) settled: Option<Settled>,
    /// Whether it was counted among the [handshakes](crate::worker::handshakes), and is to be
    /// counted out.
    pub(crate) is_handshake: bool,
}

impl Opening {
    /// In a box, as it is large and few sessions have one.
    #[cold]
    pub(crate) fn boxed(plan: Plan) -> Box<Self> {
        Box::new(Self {
            state: opening::Opening::new(plan),
            bytes: Vec::new(),
            refused: None,
            settled: None,
            is_handshake: false,
        })
    }

    /// What is allocated for bytes that have come.
    pub(crate) fn kept(&self) -> usize {
        self.bytes.capacity()
    }
}

impl<N: Net> Session<N> {
    /// Its name, as it has this key in the table.
    pub(crate) fn id(&self, key: u32) -> SessionId {
        SessionId {
            key,
            generation: self.client.generation(),
        }
    }

    /// Takes what an opening has told.
    pub(crate) fn take_told(&mut self, settled: &mut Settled) {
        self.peer = settled.peer.or(self.peer);
        let (destination, hello) = (settled.destination, settled.hello.take());
        if destination.is_some() || hello.is_some() {
            self.told = Some(Box::new(Told { destination, hello }));
        }
    }

    /// Whether it holds a lease on a backend.
    pub(crate) fn has_lease(&self) -> bool {
        match &self.protocol {
            Protocol::Opening(_) => false,
            Protocol::Tcp(relay) => relay.attempt.lease.is_some(),
            Protocol::Http(http) => http.exchange.as_ref().is_some_and(|x| x.has_lease()),
        }
    }

    /// The backend that it uses, or is about to.
    pub(crate) fn backend(&self) -> Option<BackendId> {
        let lease = match &self.protocol {
            Protocol::Opening(_) => None,
            Protocol::Tcp(relay) => relay.attempt.lease.as_ref(),
            Protocol::Http(http) => http.exchange.as_ref().and_then(|x| x.lease()),
        };
        lease.map(|lease| lease.backend)
    }

    /// Whether it waits for a descriptor.
    pub(crate) fn awaits_descriptor(&self) -> bool {
        match &self.protocol {
            Protocol::Opening(_) => false,
            Protocol::Tcp(relay) => relay.awaits_descriptor(),
            Protocol::Http(http) => http
                .exchange
                .as_ref()
                .is_some_and(|x| x.awaits_descriptor()),
        }
    }

    /// The upstream in whose queue it waits for a full backend.
    pub(crate) fn queue(&self) -> Option<UpstreamSlot> {
        match &self.protocol {
            Protocol::Tcp(_) | Protocol::Opening(_) => None,
            Protocol::Http(http) => http.exchange.as_ref().and_then(|x| x.queue()),
        }
    }

    /// Why it ends, if its client has all that it asked for.
    pub(crate) fn answered(&self) -> Option<CloseReason> {
        match &self.protocol {
            Protocol::Tcp(_) => None,
            Protocol::Opening(opening) => opening.refused.map(CloseReason::BadOpening),
            Protocol::Http(http) => http.answered(&self.client),
        }
    }

    /// Why it ends, as it is told: a search without a result by what failed last, and a proxy that
    /// looks whether anybody is there may leave as it likes.
    pub(crate) fn reason_told(&self, reason: CloseReason) -> CloseReason {
        if reason == CloseReason::NoBackend
            && let Protocol::Tcp(relay) = &self.protocol
        {
            return relay.unconnected();
        }
        if !self.may_be_check || reason != CloseReason::Reset(Side::Client) {
            return reason;
        }
        let is_unused = match &self.protocol {
            Protocol::Opening(_) => true,
            Protocol::Tcp(relay) => {
                relay.up.flow.moved_bytes() + relay.down.flow.moved_bytes() == 0
            }
            Protocol::Http(http) => http.requests == 0 && http.input.is_empty(),
        };
        match is_unused {
            true => CloseReason::Done,
            false => reason,
        }
    }

    /// How many buffers and pipes it holds.
    pub(crate) fn held(&self) -> (usize, usize) {
        match &self.protocol {
            Protocol::Opening(_) => (0, 0),
            Protocol::Tcp(relay) => relay.held(),
            Protocol::Http(http) => http.held(),
        }
    }

    /// Bytes that it has of the account, by [`Purpose`](crate::core::account::Purpose).
    pub(crate) fn waiting(&self) -> [usize; 4] {
        match &self.protocol {
            Protocol::Tcp(relay) => [relay.buffered(), 0, 0, 0],
            Protocol::Http(http) => http.waiting(),
            Protocol::Opening(opening) => [0, opening.kept(), 0, 0],
        }
    }

    /// Its connection to a backend, if it has one.
    pub(crate) fn connection(&self) -> Option<ConnectionKey> {
        match &self.protocol {
            Protocol::Opening(_) => None,
            Protocol::Tcp(relay) => relay.connection,
            Protocol::Http(http) => http.exchange.as_ref().and_then(|x| x.connection()),
        }
    }
}
