//! What is looked at when somebody with a layer has had a turn.
//!
//! What layers keep is charged to the account of all that waits after it has come, as nobody knows
//! what is in a socket, and each record as a whole as soon as it has begun. So whoever has begun
//! one can end it whatever there is, and where nothing is left no other begins, unless it is there
//! as a whole: it is not kept, but used. At most one record is kept beyond the bound, and nobody
//! waits for memory with a part of what would give some back.

use crate::core::account::{Account, Purpose};
use crate::core::buffer::TINY_BYTES;
use crate::core::layer::{RECORD_BYTES_MAX, Shortages};
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::io_space::IoSpace;
use crate::worker::session::Session;
use crate::worker::shared::Shared;
use crate::worker::turn::Turn;

impl<N: Net> IoSpace<N> {
    /// Whether a layer was used since the last [`IoSpace::settle_layers`].
    #[inline(always)]
    pub(crate) fn has_used_layer(&mut self) -> bool {
        self.net.layer_space().is_used
    }

    /// Charges what layers keep now. Whether one of them has paused.
    #[cold]
    pub(crate) fn settle_layers(&mut self) -> bool {
        self.charge_layers();
        self.net.layer_space().end_turn()
    }

    /// The same as soon as one was read, which does not keep any more what it gave.
    #[inline(always)]
    pub(crate) fn charge_used_layers(&mut self) {
        if self.has_used_layer() {
            self.charge_layers();
        }
    }

    /// Charges what layers keep now, and tells them what there is no memory for.
    #[cold]
    pub(crate) fn charge_layers(&mut self) {
        let kept = self.net.layer_space().kept();
        let before = std::mem::replace(&mut self.layers_kept, kept);
        let account = self.buffers.account_mut();
        charge(account, Purpose::Input, before.ahead, kept.ahead);
        let in_transit = (before.in_transit(), kept.in_transit());
        charge(account, Purpose::Transit, in_transit.0, in_transit.1);
        self.net.layer_space().shortages = Shortages {
            ahead: account.room(Purpose::Input) < RECORD_BYTES_MAX.min(account.most() / 2),
            in_transit: self.buffers.readable(TINY_BYTES) == 0,
        };
    }
}

fn charge(account: &mut Account, purpose: Purpose, before: usize, now: usize) {
    match now.checked_sub(before) {
        Some(more) => account.force(purpose, more),
        None => account.give(purpose, before - now),
    }
}

/// The same after the turn of a session; how that ends.
#[cold]
#[inline(never)]
pub(crate) fn settle<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>, turn: Turn) -> Turn {
    let has_paused = shared.io.settle_layers();
    let connection = session.connection();
    let backend = connection.map(|key| shared.connections.endpoint_mut(key));
    shared.io.is_short |= session.client.is_short() || backend.is_some_and(|it| it.is_short());
    if !has_paused {
        return turn;
    }
    resume(session, shared);
    match turn {
        Turn::Sleep => Turn::Again,
        Turn::Again | Turn::Close(_) => turn,
    }
}

/// Has both ends of a session read on that did not.
pub(crate) fn resume<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>) {
    session.client.resume();
    if let Some(connection) = session.connection() {
        shared.connections.endpoint_mut(connection).resume();
    }
}

impl<N: Net> Worker<N> {
    /// Runs a probe in a turn of its own.
    pub(crate) fn run_queued_probe(&mut self, key: u32) {
        // They are few, and never wait for memory.
        let space = self.shared.io.net.layer_space();
        let shortages = std::mem::take(&mut space.shortages);
        self.run_probe(key);
        self.shared.io.net.layer_space().shortages = shortages;
        if !self.shared.io.has_used_layer() {
            return;
        }
        let has_paused = self.shared.io.settle_layers();
        let connection = self.probes.get(key as usize).and_then(|it| it.connection());
        if let Some(connection) = connection.filter(|_| has_paused) {
            self.shared.connections.endpoint_mut(connection).resume();
            self.runnable_probes.push_back(key);
        }
    }
}
