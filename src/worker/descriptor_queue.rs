//! Sessions that were accepted and then found no descriptor for their backend connection.
//!
//! They queue, hold back the listeners, and try again as soon as something was closed, or by a
//! timer: what the machine as a whole has run out of comes back without an event. A session waits
//! for as long as connecting may take.

use std::collections::VecDeque;

use crate::worker::keys::SessionId;
use crate::worker::timers::{Timeout, Timers};

/// How long the first in the queue waits before it tries again unasked.
const RETRY_MS: u64 = 100;

/// The queue. It holds each session once, so it is no longer than the table of sessions.
#[derive(Debug)]
pub(crate) struct DescriptorQueue {
    /// The longest waiting first.
    pub(crate) waiting: VecDeque<SessionId>,
    /// What became free since the queue was last looked at.
    pub(crate) freed: usize,
    pub(crate) has_timer: bool,
}

impl DescriptorQueue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            freed: 0,
            has_timer: false,
        }
    }

    /// A descriptor was closed, or a connection parked that may be taken or closed.
    pub(crate) fn on_freed(&mut self) {
        self.freed += 1;
    }

    /// A session waits no longer.
    pub(crate) fn leave(&mut self, key: u32) {
        if !self.waiting.is_empty() {
            self.waiting.retain(|id| id.key != key);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts a session in the queue; back at its head when it has just tried in vain.
    pub(crate) fn join(&mut self, timers: &mut Timers, id: SessionId, is_retry: bool) {
        let waiting = &mut self.waiting;
        if is_retry {
            waiting.push_front(id);
        } else {
            waiting.push_back(id);
        }
        self.arm(timers);
    }

    /// Sees to it that the first in the queue tries again.
    pub(crate) fn arm(&mut self, timers: &mut Timers) {
        if !self.has_timer {
            self.has_timer = true;
            let at = timers.now.after_ms(RETRY_MS);
            timers.wheel.arm(at, Timeout::DescriptorRetry);
        }
    }
}
