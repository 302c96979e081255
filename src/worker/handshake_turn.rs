//! The turn of handshakes, once sessions have had theirs.

use crate::net::{Kind, Net, Target};
use crate::worker::Worker;
use crate::worker::connections::Owner;

impl<N: Net> Worker<N> {
    /// Those who wait for asymmetric cryptography go on, as far as a turn has room for it.
    #[cold]
    #[inline(never)]
    pub(crate) fn run_handshakes(&mut self) {
        let (sessions, connections) = (&self.sessions, &self.shared.connections.0);
        self.shared.handshakes.open(|target| {
            let key = target.key as usize;
            let endpoint = match target.kind == Kind::Client {
                true => sessions.get(key).map(|it| &it.client),
                false => connections.get(key).map(|it| &it.endpoint),
            };
            endpoint.is_some_and(|it| it.generation() == target.generation)
        });
        while let Some(target) = self.shared.handshakes.next() {
            if !self.run_handshake(target) {
                self.shared.handshakes.on_gone();
            }
        }
    }

    /// Whether it is still there.
    fn run_handshake(&mut self, target: Target) -> bool {
        let Target {
            kind,
            key,
            generation,
        } = target;
        if kind == Kind::Client {
            let session = self.sessions.get_mut(key as usize);
            let is_there = session.is_some_and(|it| it.client.take_turn(generation));
            if is_there {
                self.run_in_between(key);
            }
            return is_there;
        }
        let Some(connection) = self.shared.connections.find(key) else {
            return false;
        };
        let is_there = connection.endpoint.take_turn(generation);
        match connection.owner {
            Owner::Session(session) if is_there => self.run_in_between(session),
            Owner::Probe(probe) if is_there => self.run_queued_probe(probe),
            Owner::Session(_) | Owner::Probe(_) | Owner::Parked => {}
        }
        is_there
    }

    /// Runs a session, which may be queued for the next turn and stays so.
    fn run_in_between(&mut self, key: u32) {
        let Some(session) = self.sessions.get(key as usize) else {
            return;
        };
        let (id, was_queued) = (session.id(key), session.queued);
        self.run_session(id);
        let session = self.sessions.get_mut(key as usize);
        if let Some(session) = session.filter(|it| was_queued && it.id(key) == id)
            && std::mem::replace(&mut session.queued, true)
        {
            // It wants another turn, and stands in the queue already.
            self.runnable.pop_back();
        }
    }
}
