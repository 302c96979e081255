//! Sessions that were accepted and then found no descriptor for their backend connection.
//!
//! They wait in line, hold back the listeners, and try again as soon as something was closed, or
//! by a timer: what the machine as a whole has run out of comes back without an event. A session
//! waits for as long as connecting may take.

use std::collections::VecDeque;

use crate::net::Net;
use crate::worker::Worker;
use crate::worker::keys::SessionId;
use crate::worker::session;
use crate::worker::shared::Shared;
use crate::worker::timers::Timeout;

/// How long the first in line waits before it tries again unasked.
const RETRY_MS: u64 = 100;

/// The line. It holds each session once, so it is no longer than the table of sessions.
#[derive(Debug)]
pub(crate) struct Starving {
    /// The longest waiting first.
    line: VecDeque<SessionId>,
    /// What became free since the line was last looked at.
    freed: usize,
    has_timer: bool,
}

impl Starving {
    pub(crate) fn new() -> Self {
        Self {
            line: VecDeque::new(),
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
        if !self.line.is_empty() {
            self.line.retain(|id| id.key != key);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.line.len()
    }
}

impl<N: Net> Shared<N> {
    /// Puts a session in line; back at its head when it has just been fed in vain.
    pub(crate) fn starve(&mut self, id: SessionId, is_fed: bool) {
        let line = &mut self.starving.line;
        if is_fed {
            line.push_front(id);
        } else {
            line.push_back(id);
        }
        self.arm_starving();
    }

    /// Sees to it that the first in line tries again.
    fn arm_starving(&mut self) {
        if !self.starving.has_timer {
            self.starving.has_timer = true;
            let at = self.timers.now.after_ms(RETRY_MS);
            self.timers.wheel.arm(at, Timeout::Starving);
        }
    }
}

impl<N: Net> Worker<N> {
    /// The first in line tries again, whatever was closed.
    pub(crate) fn on_starving_timer(&mut self) {
        self.shared.starving.has_timer = false;
        self.feed_one();
        if self.shared.starving.len() > 0 {
            self.shared.arm_starving();
        }
    }

    /// As many try again as something became free for in this turn.
    pub(crate) fn feed_starving(&mut self) {
        for _ in 0..std::mem::take(&mut self.shared.starving.freed) {
            if !self.feed_one() {
                return;
            }
        }
    }

    /// Lets the first in line connect; whether it could.
    fn feed_one(&mut self) -> bool {
        let Some(id) = self.shared.starving.line.pop_front() else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(id.key as usize) else {
            return false;
        };
        debug_assert_eq!(
            session.client.generation(),
            id.generation,
            "it left the line"
        );
        let before = self.shared.starving.len();
        let turn = session::feed(id.key, session, &mut self.shared);
        self.end_turn(id.key, turn);
        self.shared.starving.len() <= before
    }
}
