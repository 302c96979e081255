//! Sessions that could not read for want of memory for what they would have read.
//!
//! They queue. As soon as somebody has given memory back, as many go on as there is room
//! for, and when one of them did not need it after all, the next. They wait at most as long as
//! anybody may stand still, and hold back nobody but themselves.

use std::collections::VecDeque;

use crate::net::Net;
use crate::worker::io_space::IoSpace;
use crate::worker::keys::SessionId;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// It has found memory for all that it read.
    No,
    /// It is in the queue.
    Queued,
    /// It was let on, and has its turn.
    LetOn,
}

/// The queue. It holds each session once, so it is no longer than the table of sessions.
#[derive(Debug)]
pub(crate) struct MemoryQueue {
    /// The longest waiting first.
    pub(crate) waiting: VecDeque<SessionId>,
    /// Somebody waits, or was let on.
    pub(crate) is_in_use: bool,
    /// One that was let on needs no more.
    pub(crate) is_free: bool,
}

impl MemoryQueue {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            is_in_use: false,
            is_free: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether it may have to be told of a session that ends its turn.
    pub(crate) fn concerns<N: Net>(&self, io: &IoSpace<N>) -> bool {
        io.is_short || self.is_in_use
    }
}
