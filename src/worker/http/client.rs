//! The client side of an HTTP session: what came, what waits, and how it stands.

use std::time::Duration;

use crate::core::buffer::Buffer;
use crate::core::time::{Moment, Tick};
use crate::net::Net;
use crate::worker::http::active::ActiveExchange;
use crate::worker::transport::Endpoint;
use crate::worker::turn::CloseReason;

/// The client side of an HTTP session.
pub(crate) struct Http {
    /// Bytes of requests that have not begun: an incomplete head, or what was sent ahead.
    pub(crate) input: Vec<u8>,
    /// Bytes that the client would not take yet.
    pub(crate) output: Option<Buffer>,
    /// How long it may take nothing of the rest of an answer, if the listener does not say so.
    pub(crate) send: Option<Duration>,
    pub(crate) requests: u64,
    pub(crate) phase: ClientPhase,
    pub(crate) exchange: Option<Box<ActiveExchange>>,
}

/// Where the client side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientPhase {
    /// Between two requests, since then.
    Idle(Tick),
    /// A head is incomplete; its first byte came then.
    Head(Moment),
    /// A request was answered before its body had come; so many bytes of it are still to be
    /// dropped, until then at the latest.
    Discard(Tick, u64),
    /// A request is under way.
    Exchange,
    /// The last answer is out or on its way; what comes is dropped, until then at the latest, and
    /// then the connection closes for that reason.
    Linger(Tick, CloseReason),
}

impl ClientPhase {
    /// When the request whose head is whole now began: with its first byte.
    pub(crate) fn began(self, now: Moment) -> Moment {
        match self {
            Self::Head(since) => since,
            Self::Idle(_) | Self::Exchange | Self::Discard(..) | Self::Linger(..) => now,
        }
    }
}

impl Http {
    pub(crate) fn new(now: Tick) -> Self {
        Self {
            input: Vec::new(),
            output: None,
            send: None,
            requests: 0,
            phase: ClientPhase::Idle(now),
            exchange: None,
        }
    }

    /// Why its session ends, if its client has all that it asked for.
    pub(crate) fn answered<N: Net>(&self, client: &Endpoint<N>) -> Option<CloseReason> {
        let drops_request = |exchange: &ActiveExchange| exchange.drops_until.is_some();
        match self.phase {
            _ if self.is_blocked(client) || !self.input.is_empty() => None,
            ClientPhase::Linger(_, reason) => Some(reason),
            ClientPhase::Discard(..) => Some(CloseReason::Done),
            ClientPhase::Idle(_) => (self.requests > 0).then_some(CloseReason::KeepAliveEnd),
            ClientPhase::Exchange => {
                let exchange = self.exchange.as_deref();
                exchange
                    .is_some_and(drops_request)
                    .then_some(CloseReason::Done)
            }
            ClientPhase::Head(_) => None,
        }
    }

    /// Whether bytes wait for the client to take them.
    pub(crate) fn is_blocked<N: Net>(&self, client: &Endpoint<N>) -> bool {
        self.output.is_some() || client.pending_bytes() > 0
    }

    /// How many buffers and pipes it holds.
    pub(crate) fn held(&self) -> (usize, usize) {
        let exchange = self.exchange.as_deref();
        let (uploads, pipes) = exchange.map_or((0, 0), ActiveExchange::held);
        (usize::from(self.output.is_some()) + uploads, pipes)
    }

    /// Bytes that it has of the account, by [`Purpose`](crate::core::account::Purpose).
    pub(crate) fn waiting(&self) -> [usize; 4] {
        let capacity = |buffer: Option<&Buffer>| buffer.map_or(0, Buffer::capacity);
        let exchange = self.exchange.as_deref();
        let upload = capacity(exchange.and_then(|x| x.upload.as_ref()));
        let (request, response) = exchange.map_or((0, 0), ActiveExchange::charged);
        let transit = capacity(self.output.as_ref()) + upload;
        [transit, self.input.capacity(), request, response]
    }
}
