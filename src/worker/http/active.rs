//! An exchange under way, with what it holds of the worker.

use std::net::IpAddr;
use std::sync::Arc;

use crate::core::access_log::StickyUse;
use crate::core::backend::Lease;
use crate::core::buffer::Buffer;
use crate::core::http::exchange::{BackendState, Exchange};
use crate::core::sessions::SessionState;
use crate::core::time::{Moment, Tick};
use crate::worker::attempt::Attempt;
use crate::worker::http::access_log::Kept;
use crate::worker::io_space::PipeKey;
use crate::worker::keys::{ConnectionKey, UpstreamSlot};
use crate::worker::site::Site;

/// An exchange under way, with what it holds of the worker and what its log line will say.
pub(crate) struct ActiveExchange {
    pub(super) state: Exchange,
    pub(super) site: Arc<Site>,
    /// Its place in the site's routes.
    pub(super) route: usize,
    pub(super) attempt: Attempt,
    pub(super) connection: Option<ConnectionKey>,
    /// How long that had been parked, in milliseconds; 0 for a new one.
    pub(super) idle_ms: u64,
    /// Body bytes that the backend would not take yet.
    pub(super) upload: Option<Buffer>,
    /// A kernel pipe that the response goes through, with bytes in it that wait for the client.
    pub(super) pipe: Option<PipeKey>,
    /// A response head that is incomplete.
    pub(super) response_head: Vec<u8>,
    /// Bytes of the account that its request takes.
    pub(super) charged_bytes: usize,
    pub(super) sticky: Option<StickyUse>,
    /// Whether the client speaks over TLS, to this entry or, as a trusted proxy says, to that.
    pub(super) secure_client: bool,
    /// Its number among those of the worker.
    pub(super) number: u64,
    /// Its id, where that of a trusted proxy was taken.
    pub(super) taken_id: Option<Box<[u8]>>,
    /// The address of its client, which may be behind trusted proxies.
    pub(super) client: Option<IpAddr>,
    /// When its first byte came.
    pub(super) began: Moment,
    /// When the request's head was whole.
    pub(super) started: Moment,
    /// How long it waited for the backend that it is bound to, in microseconds; none if it did not.
    pub(super) queue_us: Option<u64>,
    /// When the present connection was begun.
    pub(super) dialed: Moment,
    /// How long the present connection took to stand, in microseconds; 0 for a parked one.
    pub(super) connect_us: Option<u64>,
    /// When the latest part of the request had left or the latest interim response had come, or
    /// before that, when the connection stood.
    pub(super) sent_at: Moment,
    /// From `sent_at` to the first byte of a response, in microseconds.
    pub(super) ttfb_us: Option<u64>,
    /// Whether the response is an event stream: it may be silent for long.
    pub(super) is_event_stream: bool,
    /// When the head of the response was whole.
    pub(super) answered_at: Tick,
    /// The response has left, and the rest of the request is dropped until then at the latest.
    pub(super) drops_until: Option<Tick>,
    /// Bytes of the response for the client, heads included.
    pub(super) bytes_out: u64,
    /// What weir has answered itself, in the place of a response.
    pub(super) own_status: Option<u16>,
    /// Those of its heads.
    pub(super) head_bytes_out: u64,
    /// Whether its end was counted already.
    pub(super) has_ended: bool,
    /// What the access log will say; none without one.
    pub(super) record: Option<Box<Kept>>,
}

impl ActiveExchange {
    pub(super) fn new(site: Arc<Site>, state: Exchange) -> Self {
        Self {
            state,
            site,
            route: 0,
            attempt: Attempt::new(0, 0),
            connection: None,
            idle_ms: 0,
            upload: None,
            pipe: None,
            response_head: Vec::new(),
            charged_bytes: 0,
            sticky: None,
            secure_client: false,
            number: 0,
            taken_id: None,
            client: None,
            began: Moment::default(),
            started: Moment::default(),
            queue_us: None,
            dialed: Moment::default(),
            connect_us: None,
            sent_at: Moment::default(),
            ttfb_us: None,
            is_event_stream: false,
            answered_at: Tick(0),
            drops_until: None,
            bytes_out: 0,
            own_status: None,
            head_bytes_out: 0,
            has_ended: false,
            record: None,
        }
    }

    /// Its connection to a backend, if it has one.
    pub(crate) fn connection(&self) -> Option<ConnectionKey> {
        self.connection
    }

    /// What it holds of a backend.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.attempt.lease.as_ref()
    }

    /// The upstream that it goes to.
    pub(crate) fn upstream(&self) -> UpstreamSlot {
        self.attempt.upstream
    }

    /// Bytes of the request and of the response so far.
    pub(crate) fn moved_bytes(&self) -> (u64, u64) {
        (self.state.request_payload_bytes(), self.bytes_out)
    }

    /// How far it is.
    pub(crate) fn session_state(&self) -> SessionState {
        match self.state.backend() {
            BackendState::Queued(_) | BackendState::Waiting(_) => SessionState::Waiting,
            BackendState::None | BackendState::Connecting(_) => SessionState::Connecting,
            BackendState::Switched => SessionState::Relaying,
            BackendState::Connected { .. } if self.state.status().is_some() => {
                SessionState::Response
            }
            BackendState::Connected { .. } => SessionState::Request,
        }
    }

    /// Whether it holds a lease on a backend.
    pub(crate) fn has_lease(&self) -> bool {
        self.attempt.lease.is_some()
    }

    /// Whether it waits for a descriptor.
    pub(crate) fn awaits_descriptor(&self) -> bool {
        matches!(self.state.backend(), BackendState::Waiting(_))
    }

    /// Whether it waits for a full backend.
    pub(crate) fn is_queued(&self) -> bool {
        matches!(self.state.backend(), BackendState::Queued(_))
    }

    /// The upstream in whose queue it waits for a full backend.
    pub(crate) fn queue(&self) -> Option<UpstreamSlot> {
        self.is_queued().then_some(self.attempt.upstream)
    }

    /// It has its turn at the backend that it waited for; or without a lease it has none, and is
    /// bound to nothing any more.
    pub(crate) fn on_wait_over(&mut self, lease: Option<Lease>, now: Moment) {
        self.state.on_dequeued();
        self.note_wait(now);
        if lease.is_some() {
            self.sticky = Some(StickyUse::Hit);
            self.attempt.lease = lease;
        }
    }

    /// Its wait is over, which began with the exchange itself.
    pub(super) fn note_wait(&mut self, now: Moment) {
        self.queue_us = Some(now.since_us(self.started));
    }

    /// Bytes of the account that its request and an incomplete response head take.
    pub(crate) fn charged(&self) -> (usize, usize) {
        (self.charged_bytes, self.response_head.capacity())
    }

    /// How many buffers and pipes it holds.
    pub(crate) fn held(&self) -> (usize, usize) {
        let (upload, pipe) = (self.upload.is_some(), self.pipe.is_some());
        (usize::from(upload), usize::from(pipe))
    }

    /// The connection that was begun at `since` stands.
    pub(super) fn on_connected(&mut self, is_reused: bool, since: Moment, now: Moment) {
        self.state.on_connected(is_reused);
        self.attempt.on_connected();
        self.connect_us = Some(now.since_us(since));
        self.sent_at = now;
    }
}
