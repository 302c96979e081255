//! Sessions that could not read for want of memory for what they would have read.
//!
//! They wait in line. As soon as somebody has given memory back, as many go on as there is room
//! for, and when one of them did not need it after all, the next. They wait at most as long as
//! anybody may stand still, and hold back nobody but themselves.

use std::collections::VecDeque;

use crate::core::account::Purpose;
use crate::core::buffer::TINY_BYTES;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::io_space::IoSpace;
use crate::worker::keys::SessionId;

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// It has found memory for all that it read.
    No,
    /// It is in line.
    InLine,
    /// It was let on, and has its turn.
    LetOn,
}

/// The line. It holds each session once, so it is no longer than the table of sessions.
#[derive(Debug)]
pub(crate) struct ShortageLine {
    /// The longest waiting first.
    line: VecDeque<SessionId>,
    /// Somebody waits, or was let on.
    is_in_use: bool,
    /// One that was let on needs no more.
    is_free: bool,
}

impl ShortageLine {
    pub(crate) const fn new() -> Self {
        Self {
            line: VecDeque::new(),
            is_in_use: false,
            is_free: false,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }

    /// Whether it may have to be told of a session that ends its turn.
    pub(crate) fn concerns<N: Net>(&self, io: &IoSpace<N>) -> bool {
        io.is_short || self.is_in_use
    }
}

impl<N: Net> Worker<N> {
    /// At the end of a session's turn: puts it in line if it found no memory.
    pub(crate) fn note_shortage(&mut self, key: u32) {
        let short = &mut self.short;
        if !short.concerns(&self.shared.io) {
            return;
        }
        let is_short = std::mem::take(&mut self.shared.io.is_short);
        let Some(session) = self.sessions.get_mut(key as usize) else {
            return;
        };
        short.is_in_use = true;
        short.is_free |= !is_short && session.shortage == Shortage::LetOn;
        match session.shortage {
            Shortage::InLine => {}
            Shortage::No | Shortage::LetOn if is_short => {
                session.shortage = Shortage::InLine;
                short.line.push_back(session.id(key));
            }
            Shortage::No | Shortage::LetOn => session.shortage = Shortage::No,
        }
    }

    /// A session ends that stands there.
    pub(crate) fn end_shortage(&mut self, key: u32, shortage: Shortage) {
        match shortage {
            Shortage::No => {}
            Shortage::InLine => self.short.line.retain(|waiting| waiting.key != key),
            Shortage::LetOn => self.short.is_free = true,
        }
    }

    /// Lets sessions go on that wait for memory, if there may be some.
    pub(crate) fn relieve_shortage(&mut self) {
        if !self.short.is_in_use {
            return;
        }
        let buffers = &mut self.shared.io.buffers;
        let is_free = std::mem::take(&mut self.short.is_free);
        if !buffers.account_mut().take_given() && !is_free {
            return;
        }
        self.short.is_in_use = !self.short.line.is_empty();
        let account = buffers.account();
        let room = account
            .room(Purpose::Transit)
            .max(account.room(Purpose::Request));
        let count = (room / TINY_BYTES).max(1);
        for _ in 0..count {
            let Some(SessionId { key, .. }) = self.short.line.pop_front() else {
                return;
            };
            if let Some(session) = self.sessions.get_mut(key as usize) {
                session.shortage = Shortage::LetOn;
                self.queue_session(key);
            }
        }
    }
}
