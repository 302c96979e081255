//! What a client still sends when nobody wants it any more.
//!
//! An answer that is out can still be lost: a connection that is closed while the client sends
//! is reset, and the reset destroys what the client has not read (RFC 9112 section 9.6). So what it
//! sends is read and dropped, within bounds, until it has ended or the connection can go on.

use std::io::ErrorKind;

use crate::board::ListenerCell;
use crate::core::account::Purpose;
use crate::core::readiness::Io;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::http::client::ClientPhase;
use crate::worker::http::log::log_incomplete;
use crate::worker::http::parts::{Next, Parts};
use crate::worker::io_space::IoSpace;
use crate::worker::shared::Shared;
use crate::worker::turn::{CloseReason, Side, TURN_BUDGET_BYTES, Turn};

/// How long what a client sends is dropped, in milliseconds: in all, once its answer is out, and
/// while it sends nothing.
pub(super) const DROP_MS: u64 = 30_000;
pub(super) const DROP_SILENT_MS: u64 = 5_000;

/// When dropping ends that ends at `until` at the latest, if nothing comes any more since `moved`.
pub(super) fn deadline(until: Tick, moved: Tick) -> Tick {
    until.min(moved.after_ms(DROP_SILENT_MS))
}

/// Why dropping has stopped.
enum Dropped {
    /// Nothing is there now.
    Waiting,
    /// There may be more, in another turn.
    Spent,
    /// The client has ended its direction.
    Ended,
    /// It was reset.
    Failed,
}

impl Dropped {
    /// How the turn ends where the end of the client's direction ends nothing.
    fn turn(&self) -> Turn {
        match self {
            Self::Waiting | Self::Ended => Turn::Sleep,
            Self::Spent => Turn::Again,
            Self::Failed => Turn::Close(CloseReason::Reset(Side::Client)),
        }
    }
}

impl<N: Net> Parts<'_, N> {
    /// Reads and drops the rest of a body that nobody wants; then the next request may come.
    pub(super) fn discard(&mut self, shared: &mut Shared<N>, until: Tick, left: u64) -> Next {
        let (count, dropped) = self.drop_input(shared, left);
        if count == left {
            self.http.phase = ClientPhase::Idle(shared.timers.now);
            return Next::Step;
        }
        self.http.phase = ClientPhase::Discard(until, left - count);
        Next::Turn(match dropped {
            Dropped::Ended => Turn::Close(CloseReason::Done),
            Dropped::Waiting | Dropped::Spent | Dropped::Failed => dropped.turn(),
        })
    }

    /// The same while the answer waits for the client to take it.
    pub(super) fn discard_while_blocked(
        &mut self,
        shared: &mut Shared<N>,
        until: Tick,
        left: u64,
    ) -> Next {
        let (count, dropped) = self.drop_input(shared, left);
        self.http.phase = ClientPhase::Discard(until, left - count);
        Next::Turn(dropped.turn())
    }

    /// Reads what still comes on a connection that is closing, and forgets it.
    pub(super) fn linger(&mut self, shared: &mut Shared<N>, reason: CloseReason) -> Next {
        let dropped = self.drop_input(shared, u64::MAX).1;
        // It may have ended only its own direction, and still read.
        if matches!(dropped, Dropped::Ended) && !self.is_blocked() {
            return Next::Turn(Turn::Close(reason));
        }
        Next::Turn(dropped.turn())
    }

    /// Reads and forgets up to `bytes_max` bytes; how many, and why it stopped. It counts as
    /// movement only when the answer is out.
    fn drop_input(&mut self, shared: &mut Shared<N>, bytes_max: u64) -> (u64, Dropped) {
        let mut total = 0;
        let dropped = loop {
            let left = bytes_max - total;
            if left == 0 || !self.client.may_read() {
                break Dropped::Waiting;
            }
            if total >= TURN_BUDGET_BYTES as u64 {
                break Dropped::Spent;
            }
            let io = &mut shared.io;
            let room = usize::try_from(left).unwrap_or(usize::MAX);
            let room = room.min(io.scratch.len());
            let space = &mut io.scratch[..room];
            let found = if let ClientPhase::Linger(..) = self.http.phase {
                self.client.read_away(&mut io.net, space)
            } else {
                self.client.read(&mut io.net, space)
            };
            match found {
                Io::Ready(count) => total += count as u64,
                Io::Blocked => {}
                // Where nothing more is to be said, it may be left unmarked: RFC 9112 section 9.8.
                Io::Closed | Io::Failed(ErrorKind::UnexpectedEof) => break Dropped::Ended,
                Io::Failed(_) => break Dropped::Failed,
            }
        };
        shared.count(self.facts.listener, ListenerCell::BytesIn, total);
        if total > 0 && !self.is_blocked() {
            *self.moved = shared.timers.now;
        }
        (total, dropped)
    }

    /// Whether the client has sent more than its last request. Closing on that would reset the
    /// connection, and the reset overtakes the answer.
    fn has_more_input(&mut self, io: &mut IoSpace<N>) -> bool {
        let net = &mut io.net;
        self.client.may_read() && matches!(self.client.read(net, &mut [0; 1]), Io::Ready(_))
    }

    /// The last answer is out: tells the end and drops what still comes, or closes at once when
    /// the client has nothing more to say.
    pub(super) fn close_after_answer(
        &mut self,
        shared: &mut Shared<N>,
        client_is_done: bool,
    ) -> Next {
        self.close_client(shared, client_is_done, CloseReason::Done)
    }

    /// The same for this reason; what has been written, or is held, still reaches the client.
    pub(super) fn close_client(
        &mut self,
        shared: &mut Shared<N>,
        client_is_done: bool,
        reason: CloseReason,
    ) -> Next {
        let is_out = !self.is_blocked() && self.http.input.is_empty();
        // What the client may have sent since would reset the connection before its answer.
        if client_is_done
            && is_out
            && !self.has_more_input(&mut shared.io)
            && self.tell_end(shared, reason)
            && self.client.may_close(&mut shared.io.net)
        {
            return Next::Turn(Turn::Close(reason));
        }
        let account = shared.io.buffers.account_mut();
        account.free(Purpose::Input, &mut self.http.input);
        self.http.phase = ClientPhase::Linger(shared.timers.now.after_ms(DROP_MS), reason);
        if !self.is_blocked() {
            self.begin_linger(shared, reason);
        }
        Next::Step
    }

    /// No further request comes on a connection on which everything was answered.
    pub(super) fn close_idle(&mut self, shared: &mut Shared<N>) -> Next {
        let reason = CloseReason::KeepAliveEnd;
        let net = &mut shared.io.net;
        // Asked before weir's own mark is on its way, which nobody misses.
        let may_lose = self.client.may_lose_output(net);
        if self.client.finish_before_close(net) && !may_lose {
            return Next::Turn(Turn::Close(reason));
        }
        let secured = self.client.secured();
        log_incomplete(self.http, self.facts, secured, shared, reason);
        self.http.phase = ClientPhase::Linger(shared.timers.now.after_ms(DROP_MS), reason);
        Next::Step
    }

    /// The last answer has left: the client is told the end, and has its time from here on.
    pub(super) fn begin_linger(&mut self, shared: &mut Shared<N>, reason: CloseReason) {
        *self.moved = shared.timers.now;
        self.http.phase = ClientPhase::Linger(shared.timers.now.after_ms(DROP_MS), reason);
        self.client.expect_end();
        self.tell_end(shared, reason);
    }

    /// Ends the direction to the client, as what it is; whether all of it has left.
    fn tell_end(&mut self, shared: &mut Shared<N>, reason: CloseReason) -> bool {
        let net = &mut shared.io.net;
        if let CloseReason::Truncated | CloseReason::Stalled = reason {
            return self.client.finish_unmarked(net);
        }
        self.client.finish(net)
    }
}
