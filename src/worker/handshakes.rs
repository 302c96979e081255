//! Handshakes are work like any other: a budget for each turn, and no more of them at once than
//! there is room for.

use std::collections::VecDeque;

use crate::worker::keys::SessionId;

/// Signatures in one turn, in microseconds of one core: sessions that are ready wait no longer for
/// those who only come.
pub(crate) const SIGNATURES_US_MAX: u32 = 1_000;

/// Handshakes at once in one worker. Whoever comes then takes the place of the oldest.
pub(crate) const HANDSHAKES_MAX: usize = 4_096;

/// The handshakes of clients.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    /// The turn in which signatures have been spent, and how many microseconds of them.
    turn: u64,
    spent_us: u32,
    /// Sessions in their opening on listeners with TLS.
    under_way: usize,
    /// They in the order in which they came, with others that have left it since.
    order: VecDeque<SessionId>,
}

impl Handshakes {
    /// Whether a signature of this cost may be made in this turn; if so, it is counted. One may
    /// always, whatever it costs.
    pub(crate) fn may_sign(&mut self, turn: u64, cost_us: u32) -> bool {
        if self.turn != turn {
            self.turn = turn;
            self.spent_us = 0;
        }
        if self.spent_us > 0 && self.spent_us + cost_us > SIGNATURES_US_MAX {
            return false;
        }
        self.spent_us += cost_us;
        true
    }

    /// A client has come. Those that have left since are forgotten when they are as many as may be
    /// there.
    pub(crate) fn begin(&mut self, session: SessionId, is_there: impl Fn(SessionId) -> bool) {
        if self.order.len() >= 2 * HANDSHAKES_MAX {
            self.order.retain(|&session| is_there(session));
        }
        self.under_way += 1;
        self.order.push_back(session);
    }

    /// One of them has done its handshake, or has gone.
    pub(crate) fn end(&mut self) {
        self.under_way -= 1;
        if self.under_way == 0 {
            self.order.clear();
        }
    }

    /// The oldest, if there are too many. It may have left.
    pub(crate) fn surplus(&mut self) -> Option<SessionId> {
        if self.under_way <= HANDSHAKES_MAX {
            return None;
        }
        self.order.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_a_millisecond_of_signatures_and_at_least_one() {
        let mut handshakes = Handshakes::default();
        assert!(handshakes.may_sign(1, 700));
        assert!(!handshakes.may_sign(1, 700));
        assert!(handshakes.may_sign(1, 100) && handshakes.may_sign(1, 200));
        assert!(!handshakes.may_sign(1, 100));
        assert!(handshakes.may_sign(2, 5_000));
        assert!(!handshakes.may_sign(2, 1));
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut handshakes = Handshakes::default();
        let id = |key| SessionId { key, generation: 1 };
        for key in 0..4_096 {
            handshakes.begin(id(key), |_| true);
        }
        assert_eq!(handshakes.surplus(), None);
        handshakes.begin(id(9_999), |_| true);
        assert_eq!(handshakes.surplus(), Some(id(0)));
        handshakes.end();
        assert_eq!(handshakes.surplus(), None);
        assert_eq!(handshakes.under_way, 4_096);
    }

    #[test]
    fn those_that_have_left_are_forgotten_though_one_is_always_under_way() {
        let mut handshakes = Handshakes::default();
        let id = |key| SessionId { key, generation: 1 };
        handshakes.begin(id(0), |_| true);
        for key in 1..100_000 {
            handshakes.begin(id(key), |session| session.key == 0);
            handshakes.end();
            assert!(handshakes.order.len() <= 2 * HANDSHAKES_MAX);
        }
        assert_eq!(handshakes.order.front(), Some(&id(0)));
        assert_eq!(handshakes.under_way, 1);
    }
}
