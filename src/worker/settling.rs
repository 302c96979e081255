//! How a relay ends of which one side was cut off: what came of it before still reaches the other
//! side, and only then does that one learn how it ended. So does one of which a side has ended by
//! its mark and can send on, which a close would answer by a reset.
//!
//! A reset discards what the kernel of its receiver has not acknowledged, and no event tells that
//! it has, so it is looked at now and then. A peer with a layer needs no reset: an end without its
//! mark says the same.

use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::direction::{Direction, Pumped, RelayLimits};
use crate::worker::io_space::IoSpace;
use crate::worker::keys::ListenerSlot;
use crate::worker::relay::{Content, Relay, RelayPhase, Settling};
use crate::worker::shared::Shared;
use crate::worker::transport::Endpoint;
use crate::worker::turn::{CloseReason, Side, TURN_BUDGET_BYTES, Turn};

/// What is still to be done for the other side.
enum Rest {
    /// So many bytes are to reach its kernel.
    Left(usize),
    /// More may be moved at once.
    More,
    /// It has failed itself.
    Failed,
}

impl<N: Net> Relay<N> {
    /// One side was cut off; how the turn ends. Without a layer that is a reset, which is passed on
    /// at once.
    pub(crate) fn cut_off(&mut self, side: Side, source: &mut Endpoint<N>, now: Tick) -> Turn {
        match self.phase {
            RelayPhase::Relaying(content) if source.is_secure() => {
                match side {
                    Side::Client => self.up.truncated = true,
                    Side::Backend => self.down.truncated = true,
                }
                self.begin_settling(side, CloseReason::Reset(side), content, now);
                // What had come of it may not all have been read.
                source.expect_input();
                Turn::Again
            }
            RelayPhase::Relaying(_)
            | RelayPhase::AwaitingDescriptor(_)
            | RelayPhase::Connecting(_)
            | RelayPhase::Greeting(_)
            | RelayPhase::Settling(_) => Turn::Close(CloseReason::Reset(side)),
        }
    }

    /// Both sides have ended, and have been told so; how the turn ends.
    pub(crate) fn finish(
        &mut self,
        client: &Endpoint<N>,
        backend: &Endpoint<N>,
        io: &mut IoSpace<N>,
        now: Tick,
    ) -> Turn {
        let side = match (client.is_secure(), backend.is_secure()) {
            (true, _) if client.may_lose_output(&mut io.net) => Side::Backend,
            (_, true) if backend.may_lose_output(&mut io.net) => Side::Client,
            _ => return Turn::Close(CloseReason::Done),
        };
        if let RelayPhase::Relaying(content) = self.phase {
            self.begin_settling(side, CloseReason::Done, content, now);
        }
        Turn::Again
    }

    #[cold]
    fn begin_settling(&mut self, side: Side, reason: CloseReason, content: Content, now: Tick) {
        self.phase = RelayPhase::Settling(Box::new(Settling {
            side,
            reason,
            left: usize::MAX,
            since: now,
            content,
        }));
    }

    /// Delivers what it can, and ends when that is all, or has not become less for too long.
    pub(crate) fn settle(
        &mut self,
        client: &mut Endpoint<N>,
        listener: ListenerSlot,
        shared: &mut Shared<N>,
    ) -> Turn {
        let (RelayPhase::Settling(settling), Some(connection)) = (&mut self.phase, self.connection)
        else {
            return Turn::Close(CloseReason::NoBackend);
        };
        let (side, reason) = (settling.side, settling.reason);
        let backend = shared.connections.endpoint_mut(connection);
        let rest = match side {
            Side::Client => deliver(&mut self.up, client, backend, &mut shared.io),
            Side::Backend => deliver(&mut self.down, backend, client, &mut shared.io),
        };
        let left = match rest {
            Rest::More => return Turn::Again,
            // A close costs the backend, too, what it has not got.
            Rest::Failed | Rest::Left(0)
                if (side, reason) == (Side::Backend, CloseReason::Done)
                    && backend.may_lose_output(&mut shared.io.net) =>
            {
                settling.turn_to(Side::Client, shared.timers.now);
                return Turn::Again;
            }
            Rest::Failed | Rest::Left(0) => return Turn::Close(reason),
            Rest::Left(left) => left,
        };
        let now = shared.timers.now;
        if left < settling.left {
            (settling.left, settling.since) = (left, now);
        }
        let upstream = self.attempt.upstream;
        let limit = shared.timeout(listener, upstream, |o| o.half_closed, |t| t.half_closed);
        match settling.since.after(limit) <= now {
            true => Turn::Close(reason),
            false => Turn::Sleep,
        }
    }
}

fn deliver<N: Net>(
    direction: &mut Direction<N>,
    source: &mut Endpoint<N>,
    target: &mut Endpoint<N>,
    io: &mut IoSpace<N>,
) -> Rest {
    if target.has_failed(&mut io.net) {
        return Rest::Failed;
    }
    let mut budget = TURN_BUDGET_BYTES;
    loop {
        let limits = RelayLimits {
            budget: &mut budget,
            other_is_over: true,
        };
        match direction.pump(source, target, io, limits) {
            Pumped::SourceFailed(_) => direction.flow.on_source_end(),
            Pumped::TargetFailed(_) => return Rest::Failed,
            Pumped::Spent => return Rest::More,
            Pumped::Waiting | Pumped::Done => break,
        }
    }
    let waiting = direction.waiting_bytes(target);
    let may_come = direction.flow.is_open() && source.may_have_more();
    if waiting == 0 && !may_come && target.is_secure() {
        target.finish_unmarked(&mut io.net);
    }
    // What waits in the source counts as one, so that it is waited for.
    Rest::Left(waiting + target.undelivered_bytes(&mut io.net) + usize::from(may_come))
}
