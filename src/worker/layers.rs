//! What is looked at when somebody with a layer has had a turn.
//!
//! What layers keep is noted beside the account of all that waits: it is there before anybody could
//! ask for room, and charged it would keep those from reading who alone can make it less.

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

    /// Notes how much layers keep now. Whether one of them has paused.
    #[cold]
    pub(crate) fn settle_layers(&mut self) -> bool {
        let space = self.net.layer_space();
        self.layers_kept = space.kept();
        space.end_turn()
    }
}

/// The same after the turn of a session; how that ends.
#[cold]
#[inline(never)]
pub(crate) fn settle<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>, turn: Turn) -> Turn {
    if !shared.io.settle_layers() {
        return turn;
    }
    session.client.resume();
    if let Some(connection) = session.connection() {
        shared.connections.endpoint_mut(connection).resume();
    }
    match turn {
        Turn::Sleep => Turn::Again,
        Turn::Again | Turn::Close(_) => turn,
    }
}

impl<N: Net> Worker<N> {
    /// Runs a probe in a turn of its own.
    pub(crate) fn run_queued_probe(&mut self, key: u32) {
        self.run_probe(key);
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
