//! Requests of clients that are bound to a backend which is full: they queue for a moment.
//!
//! The queue is looked at once, at the end of a turn in which it may have moved: a lease came
//! back, a backend changed. Who has its turn holds the lease from then on and runs in the next
//! turn, as does who waits in vain; a wait that takes too long ends by the session's own timer. Who
//! waits, and in which order, is in [`WaitQueue`](crate::core::wait_queue::WaitQueue).

use crate::core::backend::{BackendId, Lease};
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::keys::{SessionId, UpstreamSlot, key_of};
use crate::worker::session::Protocol;
use crate::worker::upstreams::UpstreamTable;

impl UpstreamTable {
    /// Puts a request in the queue of a backend that is full, if it may wait at all; whether it
    /// waits.
    pub(crate) fn join_queue(
        &mut self,
        id: SessionId,
        slot: UpstreamSlot,
        backend: BackendId,
    ) -> bool {
        let upstream = &mut self.list[slot as usize];
        !upstream.settings.sticky_wait().is_zero()
            && upstream.queue.join(id, backend, &mut self.backends)
    }

    /// A request waits no longer.
    pub(crate) fn leave_queue(&mut self, id: SessionId, slot: UpstreamSlot) {
        let queue = &mut self.list[slot as usize].queue;
        queue.leave(id, &mut self.backends);
    }

    /// A backend is about to go or to move: nobody waits for it any more.
    pub(crate) fn dismiss_queue(&mut self, backend: BackendId) {
        self.recheck_queue(backend);
        let slot = self.entry(backend).upstream;
        let queue = &mut self.list[slot as usize].queue;
        queue.forget(backend, &mut self.backends);
    }

    /// A backend may have room, or is not what it was: who waits for it is to be looked at.
    pub(crate) fn recheck_queue(&mut self, backend: BackendId) {
        self.must_check_queues |= self.backends.get(backend).is_awaited();
    }
}

impl<N: Net> Worker<N> {
    /// Lets everybody go on whose wait is over.
    pub(crate) fn serve_queues(&mut self) {
        if !std::mem::take(&mut self.shared.upstreams.must_check_queues) {
            return;
        }
        for slot in 0..key_of(self.shared.upstreams.list.len()) {
            if !self.shared.upstreams[slot].queue.is_empty() {
                self.serve_queue(slot);
            }
        }
    }

    fn serve_queue(&mut self, slot: UpstreamSlot) {
        self.shared
            .upstreams
            .see_loads(&self.shared.board, &self.shared.timers, slot);
        let mut at = 0;
        loop {
            let table = &mut self.shared.upstreams;
            let queue = &mut table.list[slot as usize].queue;
            let Some((id, backend)) = queue.next(&mut at, &mut table.backends) else {
                return;
            };
            let lease = backend.and_then(|backend| {
                self.shared
                    .upstreams
                    .take_lease(&mut self.shared.board, backend, false)
            });
            if let Some(lease) = self.end_wait(id, lease) {
                debug_assert!(false, "who ended has left the queue");
                self.shared
                    .upstreams
                    .give_back(&mut self.shared.board, lease);
            }
            self.queue_session(id.key);
        }
    }

    /// Hands a request its turn, or none; gives the lease back when nobody waits for it.
    fn end_wait(&mut self, id: SessionId, lease: Option<Lease>) -> Option<Lease> {
        let session = self.sessions.get_mut(id.key as usize);
        let session = session.filter(|session| session.id(id.key) == id);
        let Some(Protocol::Http(http)) = session.map(|session| &mut session.protocol) else {
            return lease;
        };
        let Some(exchange) = http.exchange.as_mut().filter(|x| x.is_queued()) else {
            return lease;
        };
        exchange.on_wait_over(lease, self.shared.timers.moment);
        None
    }
}
