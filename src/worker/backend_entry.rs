//! What a worker has of one backend besides its policy state, parked connections among it.

use crate::board::BackendColumn;
use crate::core::address::{Address, BackendAddress};
use crate::core::http::oddity::Oddities;
use crate::core::idle_limit::IdleLimit;
use crate::core::time::Tick;
use crate::worker::keys::{ConnectionKey, UpstreamSlot};

/// A connection that waits for a request, as its backend has it in [`BackendEntry::parked`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parked {
    pub(crate) connection: ConnectionKey,
    /// For how much longer than it is parked its backend may have been waiting, in milliseconds.
    pub(crate) unread_ms: u32,
    pub(crate) since: Tick,
    /// The turn of the loop in which it was parked.
    pub(crate) turn: u64,
}

impl Parked {
    /// For how long its backend may have been waiting for a request, in milliseconds.
    pub(crate) fn waiting_ms(&self, now: Tick) -> u64 {
        now.since_ms(self.since) + u64::from(self.unread_ms)
    }
}

/// What the worker knows of a backend besides its policy state.
pub(crate) struct BackendEntry {
    /// `upstream/identity`, for log lines.
    pub(crate) label: String,
    pub(crate) upstream: UpstreamSlot,
    pub(crate) address: BackendAddress,
    /// As the configuration has it.
    pub(crate) weight: u32,
    /// Where it is now; empty while its name does not resolve.
    pub(crate) addresses: Vec<Address>,
    /// Which address is used; moves on when it fails.
    pub(crate) current: usize,
    /// How often a reload gave it another address, or connections another beginning.
    pub(crate) moves: u32,
    /// HTTP connections that wait for a request, the latest last.
    pub(crate) parked: Vec<Parked>,
    pub(crate) idle_limit: IdleLimit,
    /// The key of its probe, if it has one.
    pub(crate) probe: Option<u32>,
    /// It was there from the start, not added by a reload.
    pub(crate) is_first: bool,
    /// Whether it was this worker that ejected it: then it says when that is over.
    pub(crate) ejected_here: bool,
    /// When it was last ejected, or an administrator or a reload last had a say in what it takes.
    pub(crate) changed_at: Tick,
    /// What was odd about its responses so far.
    pub(crate) oddities: Oddities,
    pub(crate) column: BackendColumn,
}

impl BackendEntry {
    /// The address to connect to.
    pub(crate) fn address_now(&self) -> Option<&Address> {
        self.addresses.get(self.current)
    }

    /// The next address in turn.
    pub(crate) fn rotate(&mut self) {
        self.current = (self.current + 1) % self.addresses.len().max(1);
    }

    pub(crate) fn nth_parked(&self, key: ConnectionKey) -> Option<usize> {
        let mut parked = self.parked.iter();
        parked.position(|parked| parked.connection == key)
    }
}
