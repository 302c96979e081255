//! Lets sessions go on that wait for a descriptor.

use crate::net::Net;
use crate::worker::Worker;
use crate::worker::{layers, protocol};

impl<N: Net> Worker<N> {
    /// The first in the queue tries again, whatever was closed.
    pub(crate) fn on_descriptor_timer(&mut self) {
        self.shared.descriptor_queue.has_timer = false;
        self.retry_first();
        if self.shared.descriptor_queue.len() > 0 {
            let shared = &mut self.shared;
            shared.descriptor_queue.arm(&mut shared.timers);
        }
    }

    /// As many try again as something became free for in this turn.
    pub(crate) fn serve_descriptor_queue(&mut self) {
        for _ in 0..std::mem::take(&mut self.shared.descriptor_queue.freed) {
            if !self.retry_first() {
                return;
            }
        }
    }

    /// Lets the first in the queue connect; whether it could.
    fn retry_first(&mut self) -> bool {
        let Some(id) = self.shared.descriptor_queue.waiting.pop_front() else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(id.key as usize) else {
            return false;
        };
        debug_assert_eq!(
            session.client.generation(),
            id.generation,
            "it left the queue"
        );
        let before = self.shared.descriptor_queue.len();
        let shared = &mut self.shared;
        let turn = protocol::on_descriptor(id.key, session, shared);
        let turn = match shared.io.has_used_layer() {
            true => layers::settle(session, shared, turn),
            false => turn,
        };
        self.end_turn(id.key, turn);
        self.shared.descriptor_queue.len() <= before
    }
}
