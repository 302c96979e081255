//! The way of a request to its backend: the head and what came with it, then the rest of the body.
//!
//! What the backend does not take is held in one buffer; while it holds, nothing more is read from
//! the client.

use std::io::ErrorKind;

use log::debug;

use crate::board::{BackendCell, ListenerCell};
use crate::core::access_log::Why;
use crate::core::http::body::Framing;
use crate::core::readiness::{Io, Readiness};
use crate::net::Net;
use crate::worker::http::exchange::{End, Exchange, Relayed, Stage, relay};
use crate::worker::http::output::{flush, write, write_or_hold};
use crate::worker::http::{Next, Parts};
use crate::worker::session::Turn;
use crate::worker::shared::Shared;
use crate::worker::tcp::TURN_BUDGET_BYTES;

/// Read at once of a body whose end is not known beforehand: what follows it has to be kept.
const CHUNKED_READ_BYTES: usize = 16 * 1024;

impl<N: Net> Parts<'_, N> {
    /// Sends what there is of the request; whether anything moved.
    pub(super) fn upload(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Result<bool, End> {
        let Some(link) = exchange.link else {
            return Ok(false);
        };
        if exchange.is_upload_dead {
            return Ok(false);
        }
        let mut has_moved = false;
        if exchange.sent < exchange.request.len() {
            let endpoint = &mut shared.links[link as usize].endpoint;
            let rest = &exchange.request[exchange.sent..];
            match write(endpoint, &mut shared.transfer.net, rest, &[]) {
                Ok(0) => return self.watch_client(exchange, shared),
                Ok(count) => {
                    exchange.sent += count;
                    count_sent(exchange, shared, count);
                    has_moved = true;
                }
                Err(kind) => return self.on_upload_failed(exchange, shared, kind),
            }
            if exchange.sent < exchange.request.len() {
                return Ok(has_moved);
            }
            exchange.sent_at = shared.now;
        }
        if exchange.upload.is_some() {
            let endpoint = &mut shared.links[link as usize].endpoint;
            match flush(endpoint, &mut exchange.upload, &mut shared.transfer) {
                Ok((done, count)) => {
                    has_moved |= count > 0;
                    if !done {
                        return Ok(has_moved);
                    }
                }
                Err(kind) => return self.on_upload_failed(exchange, shared, kind),
            }
        }
        if exchange.request_body.is_done() {
            return Ok(self.watch_client(exchange, shared)? || has_moved);
        }
        Ok(self.stream_body(exchange, shared, budget)? || has_moved)
    }

    /// While the client takes nothing, what it sends still goes up.
    pub(super) fn upload_while_blocked(&mut self, shared: &mut Shared<N>) -> Next {
        let Some(mut exchange) = self.http.exchange.take() else {
            return Next::Turn(Turn::Sleep);
        };
        if exchange.stage != Stage::Established {
            self.http.exchange = Some(exchange);
            return Next::Turn(Turn::Sleep);
        }
        let mut budget = TURN_BUDGET_BYTES;
        loop {
            match self.upload(&mut exchange, shared, &mut budget) {
                Err(end) => return self.end_exchange(exchange, shared, end),
                Ok(has_moved) => {
                    if has_moved {
                        *self.moved = shared.now;
                        if budget > 0 {
                            continue;
                        }
                    }
                    self.http.exchange = Some(exchange);
                    let turn = if has_moved { Turn::Again } else { Turn::Sleep };
                    return Next::Turn(turn);
                }
            }
        }
    }

    /// The backend takes no more of the request. It may have answered already, so what it sent
    /// is read before it counts as failed.
    fn on_upload_failed(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        kind: ErrorKind,
    ) -> Result<bool, End> {
        debug!("backend takes no more of the request: {kind}");
        exchange.is_upload_dead = true;
        if let Some(buffer) = exchange.upload.take() {
            shared.transfer.buffers.give(buffer);
        }
        if let Some(link) = exchange.link {
            let ready = &mut shared.links[link as usize].endpoint.ready;
            ready.add(Readiness::READ | Readiness::CLOSING);
        }
        Ok(true)
    }

    /// Reads a part of the body from the client and sends it on.
    fn stream_body(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Result<bool, End> {
        if !self.client.ready.has(Readiness::READ) || *budget == 0 {
            return Ok(false);
        }
        let mut scratch = std::mem::take(&mut shared.transfer.scratch);
        let outcome = self.stream_with(exchange, shared, &mut scratch, budget);
        shared.transfer.scratch = scratch;
        outcome
    }

    fn stream_with(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        scratch: &mut [u8],
        budget: &mut usize,
    ) -> Result<bool, End> {
        // No more is read than belongs to the body, as far as that is known.
        let wanted = match exchange.facts.framing {
            Framing::Length(_) => {
                usize::try_from(exchange.request_body.opaque_bytes()).unwrap_or(usize::MAX)
            }
            Framing::None | Framing::Chunked | Framing::UntilClose => CHUNKED_READ_BYTES,
        };
        let room = wanted
            .min(scratch.len())
            .min(shared.transfer.buffers.next_bytes());
        let net = &mut shared.transfer.net;
        let count = match self.client.read(net, &mut scratch[..room]) {
            Io::Ready(count) => count,
            Io::Blocked => return Ok(false),
            Io::Closed | Io::Failed(_) => return Err(End::ClientGone),
        };
        *budget = budget.saturating_sub(count);
        shared.count(self.facts.listener, ListenerCell::BytesIn, count as u64);
        exchange.is_replayable = false;
        exchange.continue_at = None;
        self.send_body(exchange, shared, &scratch[..count])?;
        Ok(true)
    }

    fn send_body(
        &mut self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        bytes: &[u8],
    ) -> Result<(), End> {
        let mut out = std::mem::take(&mut shared.http.out);
        out.clear();
        let relayed = relay(&mut exchange.request_body, bytes, &mut out);
        let outcome = match relayed {
            Err(_) => Err(End::Fail(400, Why::Refused)),
            Ok(Relayed { direct, consumed }) => {
                self.http.input.extend_from_slice(&bytes[consumed..]);
                self.check_body_limit(exchange)
                    .and_then(|()| self.write_body(exchange, shared, &out, &bytes[..direct]))
            }
        };
        shared.http.out = out;
        outcome
    }

    fn check_body_limit(&self, exchange: &Exchange) -> Result<(), End> {
        let route = &exchange.site.routes[exchange.route];
        match route.body_bytes_max {
            Some(max) if exchange.request_body.payload_bytes() > max => {
                Err(End::Fail(413, Why::Refused))
            }
            _ => Ok(()),
        }
    }

    fn write_body(
        &self,
        exchange: &mut Exchange,
        shared: &mut Shared<N>,
        first: &[u8],
        second: &[u8],
    ) -> Result<(), End> {
        let Some(link) = exchange.link else {
            return Ok(());
        };
        let endpoint = &mut shared.links[link as usize].endpoint;
        let transfer = &mut shared.transfer;
        match write_or_hold(endpoint, &mut exchange.upload, transfer, first, second) {
            Ok(_) => {
                count_sent(exchange, shared, first.len() + second.len());
                Ok(())
            }
            Err(kind) => self.on_upload_failed(exchange, shared, kind).map(drop),
        }
    }

    /// Nothing is expected of the client now: notices when it leaves, and keeps what it sends
    /// ahead within the size of a head.
    pub(super) fn watch_client(
        &mut self,
        exchange: &Exchange,
        shared: &mut Shared<N>,
    ) -> Result<bool, End> {
        let is_leaving = self.client.ready.has(Readiness::CLOSING);
        let room = exchange
            .site
            .limits
            .head_bytes_max
            .saturating_sub(self.http.input.len());
        if !is_leaving || !self.client.ready.has(Readiness::READ) || room == 0 {
            return Ok(false);
        }
        if exchange.response.is_some() || !exchange.is_received() {
            return Ok(false);
        }
        let transfer = &mut shared.transfer;
        let room = room.min(transfer.scratch.len());
        match transfer
            .net
            .read(&self.client.stream, &mut transfer.scratch[..room])
        {
            Io::Ready(count) => {
                let ahead = &transfer.scratch[..count];
                self.http.input.extend_from_slice(ahead);
                Ok(true)
            }
            Io::Blocked => {
                self.client.ready.clear(Readiness::READ);
                Ok(false)
            }
            // Who said that this request is the last may end its direction and still listen; who
            // could have gone on has left.
            Io::Closed if !exchange.facts.keep_alive => {
                self.client.ready.clear(Readiness::READ);
                Ok(false)
            }
            Io::Closed | Io::Failed(_) => Err(End::ClientGone),
        }
    }
}

fn count_sent<N: Net>(exchange: &Exchange, shared: &Shared<N>, count: usize) {
    if let Some(lease) = &exchange.attempt.lease {
        let column = shared.place(lease.backend).column;
        shared
            .board
            .add(column, BackendCell::BytesOut, count as u64);
    }
}
