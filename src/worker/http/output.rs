//! Writing to the client, and to a backend, with whatever is not taken held back.

use std::io::{ErrorKind, IoSlice};

use crate::core::buffer::Buffer;
use crate::core::readiness::Io;
use crate::net::{Net, Then};
use crate::worker::http::client::ClientPhase;
use crate::worker::http::parts::Parts;
use crate::worker::io_space::IoSpace;
use crate::worker::shared::Shared;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Side, Turn};

/// An answer of weir's own that was sent, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub(super) bytes: u64,
    /// Those of its head; known only for the access log.
    pub(super) head_bytes: u64,
}

/// Writes two slices in order, after what is in `held` already, and holds there what the endpoint
/// did not take. How many bytes of the two were taken.
pub(super) fn write_or_hold<N: Net>(
    endpoint: &mut Endpoint<N>,
    held: &mut Option<Buffer>,
    io: &mut IoSpace<N>,
    (first, second): (&[u8], &[u8]),
    then: Then,
) -> Result<usize, ErrorKind> {
    if let Some(earlier) = held.take() {
        // They leave first.
        let together = io.buffers.hold(&[earlier.filled(), first, second]);
        io.buffers.give(earlier);
        *held = Some(together);
        return Ok(0);
    }
    let total = first.len() + second.len();
    if total == 0 {
        return Ok(0);
    }
    let taken = write(endpoint, &mut io.net, (first, second), then)?;
    if taken < total {
        let from_first = taken.min(first.len());
        let rest = [&first[from_first..], &second[taken - from_first..]];
        *held = Some(io.buffers.hold(&rest));
    }
    Ok(taken)
}

/// Writes what the endpoint takes of two slices.
#[inline(always)]
pub(super) fn write<N: Net>(
    endpoint: &mut Endpoint<N>,
    net: &mut N,
    (first, second): (&[u8], &[u8]),
    then: Then,
) -> Result<usize, ErrorKind> {
    if !endpoint.may_write() {
        return Ok(0);
    }
    let both = [IoSlice::new(first), IoSlice::new(second)];
    let slices = match (first.is_empty(), second.is_empty()) {
        (false, true) => &both[..1],
        (true, _) => &both[1..],
        (false, false) => &both[..],
    };
    match endpoint.write(net, slices, then) {
        Io::Ready(count) => Ok(count),
        Io::Blocked => Ok(0),
        Io::Closed => Err(ErrorKind::BrokenPipe),
        Io::Failed(kind) => Err(kind),
    }
}

/// Writes what is held. Whether nothing is held any more.
pub(super) fn flush<N: Net>(
    endpoint: &mut Endpoint<N>,
    held: &mut Option<Buffer>,
    io: &mut IoSpace<N>,
) -> Result<(bool, usize), ErrorKind> {
    let mut moved = 0;
    let pending = endpoint.pending_bytes();
    while let Some(buffer) = held {
        let taken = write(endpoint, &mut io.net, (buffer.filled(), &[]), Then::More)?;
        if taken == 0 {
            return Ok((false, moved));
        }
        moved += taken;
        buffer.consume(taken);
        if buffer.is_empty()
            && let Some(buffer) = held.take()
        {
            io.buffers.give(buffer);
        }
    }
    let done = endpoint.flush(&mut io.net)?;
    moved += pending.saturating_sub(endpoint.pending_bytes());
    Ok((done, moved))
}

impl<N: Net> Parts<'_, N> {
    /// Writes what is held for the client; whether all of it left. Notes when any did.
    pub(super) fn flush(&mut self, shared: &mut Shared<N>) -> Result<bool, Turn> {
        if !self.is_blocked() {
            return Ok(true);
        }
        match flush(self.client, &mut self.http.output, &mut shared.io) {
            Ok((done, count)) => {
                if count > 0 {
                    *self.moved = shared.timers.now;
                }
                if done && let ClientPhase::Linger(_, reason) = self.http.phase {
                    self.begin_linger(shared, reason);
                }
                Ok(done)
            }
            Err(_) => Err(Turn::Close(CloseReason::Reset(Side::Client))),
        }
    }

    /// Writes to the client, holding what it does not take. Time to take it begins now.
    pub(super) fn send(
        &mut self,
        shared: &mut Shared<N>,
        first: &[u8],
        second: &[u8],
    ) -> Result<(), Turn> {
        self.send_with(shared, (first, second), Then::More)
    }

    /// The same, and says what follows.
    pub(super) fn send_with(
        &mut self,
        shared: &mut Shared<N>,
        (first, second): (&[u8], &[u8]),
        then: Then,
    ) -> Result<(), Turn> {
        let held = &mut self.http.output;
        let io = &mut shared.io;
        let sent = write_or_hold(self.client, held, io, (first, second), then);
        *self.moved = shared.timers.now;
        let total = (first.len() + second.len()) as u64;
        shared.count(
            self.facts.listener,
            crate::board::ListenerCell::BytesOut,
            total,
        );
        sent.map(drop)
            .map_err(|_| Turn::Close(CloseReason::Reset(Side::Client)))
    }
}
