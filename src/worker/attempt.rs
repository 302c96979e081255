//! How far the search of a session for its backend has come. What is done to find it is in
//! `connect`.

use std::io::ErrorKind;

use crate::core::backend::{BackendId, Lease};
use crate::core::decision::{LeftOutFor, TRIES_MAX, TriedAt};
use crate::core::finding::Reason;
use crate::core::time::Tick;
use crate::worker::keys::UpstreamSlot;

/// The search for a backend: which upstream, what has failed, and the lease on the present one.
pub(crate) struct Attempt {
    pub(crate) upstream: UpstreamSlot,
    /// What the upstream's algorithm hashes.
    pub(crate) hash_key: u64,
    pub(crate) lease: Option<Lease>,
    /// The key binds the client: it is hashed whatever the algorithm.
    pub(crate) is_bound_by_hash: bool,
    /// Whether the access log tells of the session.
    pub(crate) is_logged: bool,
    /// None as long as the first backend will do: that keeps sessions small.
    earlier: Option<Box<Earlier>>,
}

/// What has been tried before.
#[derive(Default)]
struct Earlier {
    /// Backends that are not picked again.
    tried: Vec<BackendId>,
    /// Addresses of the present backend that failed.
    addresses_failed: u8,
    /// The error of the network that failed last.
    failed: Option<Reason>,
    /// The first backends that failed, and why.
    failed_tries: Vec<FailedTry>,
    /// Who could not be had when the last one of them had failed, and the next was picked.
    excluded: Vec<Excluded>,
}

/// A backend that has failed, for whoever asks later.
pub(crate) struct FailedTry {
    /// The key of its name on the board.
    pub(crate) backend: u64,
    pub(crate) at: Tick,
    pub(crate) stage: TriedAt,
    pub(crate) reason: Option<Reason>,
}

/// A backend that could not be had, for whoever asks later.
#[derive(Clone, Copy)]
pub(crate) struct Excluded {
    /// The key of its name on the board.
    pub(crate) backend: u64,
    pub(crate) what: LeftOutFor,
    /// Of one that is down since when, of one that is ejected until when.
    pub(crate) at: Tick,
    /// Checks that failed in a row before it was found down.
    pub(crate) checks: u32,
    pub(crate) reason: Option<Reason>,
}

impl Attempt {
    pub(crate) fn new(upstream: UpstreamSlot, hash_key: u64) -> Self {
        Self {
            upstream,
            hash_key,
            lease: None,
            is_bound_by_hash: false,
            is_logged: true,
            earlier: None,
        }
    }

    /// Notes an error of the network, for the access log.
    pub(crate) fn note_failure(&mut self, kind: ErrorKind) {
        self.note(Reason::of(kind));
    }

    pub(crate) fn note(&mut self, reason: Reason) {
        self.earlier_mut().failed = Some(reason);
    }

    /// A connection stands: what failed before is not its fault.
    pub(crate) fn on_connected(&mut self) {
        if let Some(earlier) = &mut self.earlier {
            earlier.failed = None;
        }
    }

    /// The backend of this key has failed by now, or a connection to it.
    pub(crate) fn note_try(&mut self, backend: u64, stage: TriedAt, at: Tick) {
        let reason = self.failed().or(match stage {
            TriedAt::Answer => Some(Reason::ClosedEarly),
            TriedAt::Connect | TriedAt::Parked => None,
        });
        let tries = &mut self.earlier_mut().failed_tries;
        if tries.len() < TRIES_MAX {
            tries.push(FailedTry {
                backend,
                at,
                stage,
                reason,
            });
        }
    }

    /// Another one is picked next, and these cannot be.
    pub(crate) fn note_excluded(&mut self, excluded: Vec<Excluded>) {
        self.earlier_mut().excluded = excluded;
    }

    /// Who could not be picked when the last one was that was, after a failure.
    pub(crate) fn excluded(&self) -> &[Excluded] {
        let earlier = self.earlier.as_ref();
        earlier.map_or(&[], |earlier| &earlier.excluded)
    }

    /// Those that were noted.
    pub(crate) fn failed_tries(&self) -> &[FailedTry] {
        let earlier = self.earlier.as_ref();
        earlier.map_or(&[], |earlier| &earlier.failed_tries)
    }

    /// Whether anything has failed.
    pub(crate) fn has_failed(&self) -> bool {
        !self.failed_tries().is_empty()
    }

    /// The error of the network that failed last, if nothing has gone well since.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        self.failed().and_then(Reason::words)
    }

    /// Whether that was a connection that was not made in time.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.failed() == Some(Reason::TimedOut)
    }

    fn failed(&self) -> Option<Reason> {
        self.earlier.as_ref().and_then(|earlier| earlier.failed)
    }

    /// Backends that failed or have done their part, so that they are not picked again.
    pub(crate) fn tried(&self) -> &[BackendId] {
        self.earlier.as_ref().map_or(&[], |earlier| &earlier.tried)
    }

    fn earlier_mut(&mut self) -> &mut Earlier {
        self.earlier.get_or_insert_default()
    }

    /// The backend tried last.
    pub(crate) fn last(&self) -> Option<BackendId> {
        let leased = self.lease.as_ref().map(|lease| lease.backend);
        leased.or_else(|| self.tried().last().copied())
    }

    /// How many backends were tried.
    pub(crate) fn count(&self) -> u32 {
        let count = self.tried().len() + usize::from(self.lease.is_some());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// From now on it is this backend that is tried.
    pub(crate) fn begin(&mut self, lease: Lease) {
        self.lease = Some(lease);
        if let Some(earlier) = &mut self.earlier {
            earlier.addresses_failed = 0;
        }
    }

    /// The lease on the present backend, which is not picked again.
    pub(crate) fn take_tried(&mut self) -> Option<Lease> {
        let lease = self.lease.take()?;
        self.earlier_mut().tried.push(lease.backend);
        Some(lease)
    }

    /// Another address of the present backend has failed; how many have.
    pub(crate) fn count_address(&mut self) -> usize {
        let failed = &mut self.earlier_mut().addresses_failed;
        *failed = failed.saturating_add(1);
        usize::from(*failed)
    }
}
