//! Handshakes are work like any other: a budget for each turn, and no more of them at once than
//! there is room for.

use std::collections::VecDeque;

use crate::core::handshake::HANDSHAKES_MAX;
use crate::net::{Kind, Target};
use crate::worker::keys::SessionId;

/// Asymmetric cryptography in one turn, in microseconds of one core: sessions that are ready wait
/// no longer for those who only come.
pub(crate) const WORK_US_MAX: u32 = 1_000;

/// The handshakes of clients and with backends.
#[derive(Debug, Default)]
pub(crate) struct Handshakes {
    /// Whether sessions have had their turn, so that work may be done, and how much was.
    is_open: bool,
    spent_us: u32,
    /// Whether somebody waits, for those who only ask that.
    is_awaited: bool,
    /// Those who wait for it, with what they want, in the order in which they came. What is done
    /// with backends is for those whose own handshake is over: it does not wait for a crowd.
    clients: VecDeque<(Target, u32)>,
    backends: VecDeque<(Target, u32)>,
    /// Who was served last, if somebody waited in both lines.
    was_client: bool,
    /// Those among them that have gone.
    gone: usize,
    /// Sessions in their opening on listeners with TLS.
    under_way: usize,
    /// They in the order in which they came, with others that have left it since.
    order: VecDeque<SessionId>,
}

// Work.
impl Handshakes {
    /// Whether somebody waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.is_awaited
    }

    /// How many wait, those that have gone among them.
    pub(crate) fn waiting(&self) -> usize {
        self.clients.len() + self.backends.len()
    }

    /// How many of them have gone.
    pub(crate) fn gone(&self) -> usize {
        self.gone
    }

    /// Sessions have had their turn: it is that of those who wait.
    pub(crate) fn open(&mut self, is_there: impl Fn(&Target) -> bool) {
        self.is_open = true;
        self.spent_us = 0;
        if 2 * self.gone > self.waiting() {
            self.gone = 0;
            self.clients.retain(|(target, _)| is_there(target));
            self.backends.retain(|(target, _)| is_there(target));
        }
    }

    /// The next who may do what it wants; in the end none, until the next turn.
    pub(crate) fn next(&mut self) -> Option<Target> {
        let is_client = match (self.clients.is_empty(), self.backends.is_empty()) {
            (false, false) => !self.was_client,
            (is_empty, _) => !is_empty,
        };
        let line = match is_client {
            true => &mut self.clients,
            false => &mut self.backends,
        };
        let next = line.front().copied();
        match next {
            Some((target, cost_us)) if has_room(self.spent_us, cost_us) => {
                line.pop_front();
                self.was_client = is_client;
                Some(target)
            }
            Some(_) | None => {
                self.is_open = false;
                self.is_awaited = next.is_some();
                None
            }
        }
    }

    /// Whether this much may be done now; if so, it is counted.
    pub(crate) fn may_work(&mut self, cost_us: u32) -> bool {
        let may_work = cost_us == 0 || (self.is_open && has_room(self.spent_us, cost_us));
        if may_work {
            self.spent_us += cost_us;
        }
        may_work
    }

    /// Of what was counted, so much was done.
    pub(crate) fn settle(&mut self, counted_us: u32, done_us: u32) {
        self.spent_us = self.spent_us.saturating_sub(counted_us) + done_us;
    }

    /// Somebody has to wait.
    pub(crate) fn wait(&mut self, target: Target, cost_us: u32) {
        self.is_awaited = true;
        match target.kind {
            Kind::Client => self.clients.push_back((target, cost_us)),
            Kind::Control | Kind::Listener | Kind::Backend | Kind::Probe => {
                self.backends.push_back((target, cost_us));
            }
        }
    }

    /// Somebody who waits has gone.
    pub(crate) fn leave(&mut self) {
        self.gone += 1;
    }

    /// Whose turn it was had gone.
    pub(crate) fn on_gone(&mut self) {
        self.gone -= 1;
    }
}

/// Whoever is the first may, whatever it takes.
const fn has_room(spent_us: u32, cost_us: u32) -> bool {
    spent_us == 0 || spent_us.saturating_add(cost_us) <= WORK_US_MAX
}

// How many.
impl Handshakes {
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

    fn target(kind: Kind, key: u32) -> Target {
        Target {
            kind,
            key,
            generation: 1,
        }
    }

    /// Who does what it has waited for in one turn.
    fn turn(handshakes: &mut Handshakes, cost_us: u32) -> Vec<(Kind, u32)> {
        let mut served = Vec::new();
        handshakes.open(|_| true);
        while let Some(target) = handshakes.next() {
            assert!(handshakes.may_work(cost_us));
            served.push((target.kind, target.key));
        }
        assert!(!handshakes.may_work(1), "not before the next turn");
        served
    }

    #[test]
    fn a_turn_has_a_millisecond_of_work_in_the_order_of_arrival_and_at_least_one() {
        let mut handshakes = Handshakes::default();
        assert!(!handshakes.may_work(100), "sessions come first");
        assert!(handshakes.may_work(0));
        for key in 0..25 {
            handshakes.wait(target(Kind::Client, key), 100);
        }
        let clients = |keys: std::ops::Range<u32>| -> Vec<_> {
            keys.map(|key| (Kind::Client, key)).collect()
        };
        assert_eq!(turn(&mut handshakes, 100), clients(0..10));
        assert_eq!(turn(&mut handshakes, 100), clients(10..20));
        handshakes.wait(target(Kind::Client, 25), 5_000);
        handshakes.wait(target(Kind::Client, 26), 1);
        assert_eq!(turn(&mut handshakes, 100), clients(20..25));
        assert_eq!(turn(&mut handshakes, 5_000), clients(25..26));
        assert_eq!(turn(&mut handshakes, 1), clients(26..27));
        assert!(!handshakes.is_awaited());
    }

    #[test]
    fn what_was_not_done_is_left_for_others() {
        let mut handshakes = Handshakes::default();
        handshakes.open(|_| true);
        assert!(handshakes.may_work(700) && !handshakes.may_work(700));
        handshakes.settle(700, 50);
        assert!(handshakes.may_work(700) && !handshakes.may_work(700));
        handshakes.settle(700, 2_000);
        assert!(!handshakes.may_work(1));
    }

    #[test]
    fn backends_do_not_wait_for_a_crowd_of_clients_nor_clients_for_them() {
        let mut handshakes = Handshakes::default();
        for key in 0..10 {
            handshakes.wait(target(Kind::Client, key), 500);
            handshakes.wait(target(Kind::Backend, key), 500);
        }
        for key in 0..10 {
            let mut served = turn(&mut handshakes, 500);
            served.sort_by_key(|(kind, _)| *kind == Kind::Backend);
            assert_eq!(served, [(Kind::Client, key), (Kind::Backend, key)]);
        }
    }

    #[test]
    fn those_that_have_gone_are_not_kept_for_long() {
        let mut handshakes = Handshakes::default();
        for key in 0..100 {
            handshakes.wait(target(Kind::Client, key), 1_000);
        }
        for _ in 0..60 {
            handshakes.leave();
        }
        handshakes.open(|target| target.key >= 60);
        assert_eq!((handshakes.waiting(), handshakes.gone()), (40, 0));
        assert_eq!(handshakes.next(), Some(target(Kind::Client, 60)));
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
