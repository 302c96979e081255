//! The way of a request to its backend: the head and what came with it, then the rest of the body.
//!
//! What the backend does not take is held in one buffer; while it holds, nothing more is read from
//! the client.

use std::io::ErrorKind;
use std::ops::ControlFlow::{Break, Continue};

use log::debug;

use crate::board::{BackendCell, ListenerCell};
use crate::core::account::{NoMemory, Purpose};
use crate::core::http::body::Framing;
use crate::core::http::exchange::{BackendState, End, Progress, Relayed, or_end};
use crate::core::readiness::Io;
use crate::net::{Net, Then};
use crate::worker::http::active::ActiveExchange;
use crate::worker::http::output::{flush, write, write_or_hold};
use crate::worker::http::parts::{Next, Parts};
use crate::worker::io_space::IoSpace;
use crate::worker::shared::Shared;
use crate::worker::turn::{TURN_BUDGET_BYTES, Turn};

/// Read at once of a body whose end is not known beforehand: what follows it has to be kept.
const CHUNKED_READ_BYTES: usize = 16 * 1024;

impl<N: Net> Parts<'_, N> {
    /// Sends what there is of the request; whether anything moved.
    pub(super) fn upload(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Progress<bool> {
        if exchange.state.is_refused() {
            let drops = exchange.state.drops_request();
            return Continue(drops && self.stream_body(exchange, shared, budget)?);
        }
        let Some(connection) = exchange.connection else {
            return Continue(false);
        };
        let mut has_moved = false;
        let rest = exchange.state.unsent();
        if !rest.is_empty() {
            let written = match shared.prefaces.is_empty() {
                true => {
                    let endpoint = shared.connections.endpoint_mut(connection);
                    write(endpoint, &mut shared.io.net, (rest, &[]), Then::More)
                }
                false => shared.write_first(connection, rest),
            };
            match written {
                Ok(0) => return Continue(false),
                Ok(count) => {
                    has_moved = true;
                    count_sent(exchange, shared, count);
                    if !exchange.state.on_sent(count) {
                        return Continue(true);
                    }
                }
                Err(kind) => {
                    self.on_upload_failed(exchange, shared, kind);
                    return Continue(true);
                }
            }
            exchange.sent_at = shared.timers.moment;
        }
        let endpoint = shared.connections.endpoint_mut(connection);
        if exchange.upload.is_some() || endpoint.pending_bytes() > 0 {
            match flush(endpoint, &mut exchange.upload, &mut shared.io) {
                Ok((done, count)) => {
                    if count > 0 {
                        has_moved = true;
                        exchange.sent_at = shared.timers.moment;
                    }
                    exchange.state.on_held(!done);
                    if !done {
                        return Continue(has_moved);
                    }
                }
                Err(kind) => {
                    self.on_upload_failed(exchange, shared, kind);
                    return Continue(true);
                }
            }
        }
        if exchange.state.is_received() {
            return Continue(has_moved);
        }
        Continue(self.stream_body(exchange, shared, budget)? || has_moved)
    }

    /// While the client takes nothing, what it sends still goes up.
    pub(super) fn upload_while_blocked(&mut self, shared: &mut Shared<N>) -> Next {
        let Some(mut exchange) = self.http.exchange.take() else {
            return Next::Turn(Turn::Sleep);
        };
        let mut budget = TURN_BUDGET_BYTES;
        loop {
            match self.upload_or_watch(&mut exchange, shared, &mut budget) {
                Break(end) => return self.end_exchange(exchange, shared, end),
                Continue(has_moved) => {
                    if has_moved {
                        self.note_moved(&exchange, shared);
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

    fn upload_or_watch(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Progress<bool> {
        let is_connected = matches!(exchange.state.backend(), BackendState::Connected { .. });
        let has_moved = is_connected && self.upload(exchange, shared, budget)?;
        exchange.state.progress()?;
        // A client that has part of its response shows by taking it whether it is still there.
        if has_moved || exchange.state.has_response() {
            return Continue(has_moved);
        }
        self.watch_client(exchange, shared)
    }

    /// The backend takes no more of the request.
    pub(super) fn on_upload_failed(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        kind: ErrorKind,
    ) {
        debug!("backend takes no more of the request: {kind}");
        exchange.state.on_refused();
        if let Some(buffer) = exchange.upload.take() {
            shared.io.buffers.give(buffer);
        }
        // It may have answered before.
        if let Some(connection) = exchange.connection {
            shared.connections.endpoint_mut(connection).expect_input();
        }
    }

    /// Reads a part of the body from the client and sends it on.
    fn stream_body(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        budget: &mut usize,
    ) -> Progress<bool> {
        if !self.client.may_read() || *budget == 0 {
            return Continue(false);
        }
        let mut scratch = std::mem::take(&mut shared.io.scratch);
        let outcome = self.stream_with(exchange, shared, &mut scratch, budget);
        shared.io.scratch = scratch;
        outcome
    }

    fn stream_with(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        scratch: &mut [u8],
        budget: &mut usize,
    ) -> Progress<bool> {
        // No more is read than belongs to the body, as far as that is known.
        let wanted = match exchange.state.facts().framing {
            Framing::Length(_) => {
                usize::try_from(exchange.state.request_opaque_bytes()).unwrap_or(usize::MAX)
            }
            Framing::None | Framing::Chunked | Framing::UntilClose => {
                let account = shared.io.buffers.account();
                let room = account.room(Purpose::Input);
                CHUNKED_READ_BYTES.min(self.client.readable(room, CHUNKED_READ_BYTES))
            }
        };
        let wanted = wanted.min(scratch.len());
        let room = shared.io.buffers.readable(wanted);
        let room = self.client.readable(room, wanted);
        if room == 0 {
            shared.io.is_short = true;
            return Continue(false);
        }
        let net = &mut shared.io.net;
        let count = match self.client.read(net, &mut scratch[..room]) {
            Io::Ready(count) => count,
            Io::Blocked => return Continue(false),
            Io::Closed => {
                exchange.state.on_client_closed(false)?;
                return Continue(false);
            }
            Io::Failed(_) => return Break(End::ClientGone),
        };
        *budget = budget.saturating_sub(count);
        shared.count(self.facts.listener, ListenerCell::BytesIn, count as u64);
        self.send_body(exchange, shared, &scratch[..count])?;
        Continue(true)
    }

    fn send_body(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        bytes: &[u8],
    ) -> Progress {
        // The limit is for what goes to backends.
        let max = exchange.site.routes[exchange.route].body_bytes_max;
        let max = max.filter(|_| !exchange.state.is_refused());
        let mut out = std::mem::take(&mut shared.http.out);
        out.clear();
        let relayed = exchange.state.on_request_body(bytes, max, &mut out);
        let outcome = relayed.and_then(|Relayed { direct, consumed }| {
            self.write_body(exchange, shared, &out, &bytes[..direct]);
            self.keep_behind(&mut shared.io, &bytes[consumed..])
                .map_err(|NoMemory| End::ClientGone)
        });
        shared.http.out = out;
        or_end(outcome)
    }

    /// Keeps what came behind a body. What came in records was kept before.
    fn keep_behind(&mut self, io: &mut IoSpace<N>, bytes: &[u8]) -> Result<(), NoMemory> {
        let kept = self.keep_ahead(io, bytes);
        if kept.is_ok() || !self.client.is_secure() {
            return kept;
        }
        let (before, input) = (self.http.input.capacity(), &mut self.http.input);
        input.try_reserve_exact(bytes.len())?;
        input.extend_from_slice(bytes);
        let account = io.buffers.account_mut();
        account.force(Purpose::Input, input.capacity() - before);
        Ok(())
    }

    fn write_body(
        &self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
        first: &[u8],
        second: &[u8],
    ) {
        let Some(connection) = exchange.connection.filter(|_| !exchange.state.is_refused()) else {
            return;
        };
        let endpoint = shared.connections.endpoint_mut(connection);
        let (held, io) = (&mut exchange.upload, &mut shared.io);
        match write_or_hold(endpoint, held, io, (first, second), Then::More) {
            Ok(_) => {
                let is_held = exchange.upload.is_some() || endpoint.pending_bytes() > 0;
                exchange.state.on_held(is_held);
                exchange.sent_at = shared.timers.moment;
                count_sent(exchange, shared, first.len() + second.len());
            }
            Err(kind) => self.on_upload_failed(exchange, shared, kind),
        }
    }

    /// Nothing is expected of the client now: notices when it leaves, and keeps what it sends
    /// ahead within the size of a head.
    pub(super) fn watch_client(
        &mut self,
        exchange: &mut ActiveExchange,
        shared: &mut Shared<N>,
    ) -> Progress<bool> {
        let is_leaving = self.client.is_closing();
        let room = exchange
            .site
            .limits
            .head_bytes_max
            .saturating_sub(self.http.input.len())
            .min(shared.io.buffers.account().room(Purpose::Input));
        if !is_leaving || !self.client.may_read() {
            return Continue(false);
        }
        // What it has sent is not read now, so its reset has to be asked for.
        if room == 0 || !exchange.state.is_received() {
            return match self.client.has_failed(&mut shared.io.net) {
                true => Break(End::ClientGone),
                false => Continue(false),
            };
        }
        let io = &mut shared.io;
        let room = room.min(io.scratch.len());
        let space = &mut io.scratch[..room];
        match self.client.read(&mut io.net, space) {
            Io::Ready(count) => {
                let ahead = &io.scratch[..count];
                let account = io.buffers.account_mut();
                let kept = account.keep(Purpose::Input, &mut self.http.input, ahead);
                or_end(kept.map(|()| true).map_err(|NoMemory| End::ClientGone))
            }
            Io::Blocked => Continue(false),
            Io::Closed => {
                // Behind an end, reads do not tell of a reset.
                if self.client.has_failed(&mut io.net) {
                    return Break(End::ClientGone);
                }
                // Requests that it has sent ahead are to be answered, whatever it does now.
                let is_abort =
                    self.http.input.is_empty() && exchange.aborts_on_close(&shared.upstreams);
                exchange.state.on_client_closed(is_abort)?;
                Continue(false)
            }
            Io::Failed(_) => Break(End::ClientGone),
        }
    }
}

fn count_sent<N: Net>(exchange: &ActiveExchange, shared: &Shared<N>, count: usize) {
    if let Some(lease) = &exchange.attempt.lease {
        let column = shared.upstreams.entry(lease.backend).column;
        shared
            .board
            .add(column, BackendCell::BytesOut, count as u64);
    }
}
