//! Lets sessions go on that wait for memory.

use crate::core::account::Purpose;
use crate::core::buffer::TINY_BYTES;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::keys::SessionId;
use crate::worker::layers;
use crate::worker::memory_queue::Shortage;

impl<N: Net> Worker<N> {
    /// At the end of a session's turn: puts it in the queue if it found no memory.
    pub(crate) fn note_shortage(&mut self, key: u32) {
        let queue = &mut self.memory_queue;
        if !queue.concerns(&self.shared.io) {
            return;
        }
        let is_short = std::mem::take(&mut self.shared.io.is_short);
        let Some(session) = self.sessions.get_mut(key as usize) else {
            return;
        };
        queue.is_in_use = true;
        queue.is_free |= !is_short && session.shortage == Shortage::LetOn;
        match session.shortage {
            Shortage::Queued => {}
            Shortage::No | Shortage::LetOn if is_short => {
                session.shortage = Shortage::Queued;
                queue.waiting.push_back(session.id(key));
            }
            Shortage::No | Shortage::LetOn => session.shortage = Shortage::No,
        }
    }

    /// A session ends that stands there.
    pub(crate) fn end_shortage(&mut self, key: u32, shortage: Shortage) {
        match shortage {
            Shortage::No => {}
            Shortage::Queued => self
                .memory_queue
                .waiting
                .retain(|waiting| waiting.key != key),
            Shortage::LetOn => self.memory_queue.is_free = true,
        }
    }

    /// Lets sessions go on that wait for memory, if there may be some.
    pub(crate) fn relieve_shortage(&mut self) {
        if !self.memory_queue.is_in_use {
            return;
        }
        let buffers = &mut self.shared.io.buffers;
        let is_free = std::mem::take(&mut self.memory_queue.is_free);
        if !buffers.account_mut().take_given() && !is_free {
            return;
        }
        self.memory_queue.is_in_use = !self.memory_queue.waiting.is_empty();
        self.shared.io.charge_layers();
        let account = self.shared.io.buffers.account();
        let room = account
            .room(Purpose::Transit)
            .max(account.room(Purpose::Request));
        let count = (room / TINY_BYTES).max(1);
        for _ in 0..count {
            let Some(SessionId { key, .. }) = self.memory_queue.waiting.pop_front() else {
                return;
            };
            if let Some(session) = self.sessions.get_mut(key as usize) {
                session.shortage = Shortage::LetOn;
                layers::resume(session, &mut self.shared);
                self.queue_session(key);
            }
        }
    }
}
