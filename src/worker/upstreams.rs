//! The upstreams of a worker and their backends: who is picked, and who holds a lease on whom.

use std::net::SocketAddr;
use std::ops::{Index, IndexMut};

use crate::board::{BackendCell, Board, UpstreamColumn};
use crate::config::model::{self, AlgorithmSettings, HashKey, IPV6_PREFIX_BITS};
use crate::core::address::{Address, BackendAddress};
use crate::core::backend::{BackendId, Backends, Lease};
use crate::core::balance::{Algorithm, Ask, Balancer, client_key};
use crate::core::http::budget::RetryBudget;
use crate::core::http::sticky::{TagKey, Tags};
use crate::core::limit::RateLimit;
use crate::core::wait_queue::WaitQueue;
use crate::tls::{ClientSettings, Connection};
use crate::worker::attempt::Attempt;
use crate::worker::backend_entry::BackendEntry;
use crate::worker::keys::{SessionId, UpstreamSlot, key_of};
use crate::worker::loads::Loads;
use crate::worker::secure::Made;
use crate::worker::timers::Timers;

/// An upstream as the worker uses it.
pub(crate) struct Upstream {
    pub name: String,
    pub(crate) members: Vec<BackendId>,
    pub(crate) balancer: Balancer,
    pub sticky: Option<StickyTags>,
    /// Requests that wait for the backend they are bound to.
    pub(crate) queue: WaitQueue<SessionId>,
    pub(crate) budget: RetryBudget,
    pub(crate) settings: model::Upstream,
    /// What connections to its backends are secured with; none where they are not.
    pub tls: Option<Made<ClientSettings>>,
    pub(crate) refused_log: RateLimit,
    pub(crate) tls_log: RateLimit,
    pub(crate) start_log: RateLimit,
    pub(crate) response_log: RateLimit,
    pub(crate) column: UpstreamColumn,
    /// Whether a member has a limit of its own.
    pub(crate) has_limits: bool,
    /// The turn at which the loads of other workers were last looked at.
    pub(crate) seen_at: u64,
}

/// The tags of an upstream whose clients are bound by a cookie of weir's own.
pub(crate) struct StickyTags {
    pub(crate) key: TagKey,
    /// Tag to place among the members.
    pub(crate) tags: Tags,
}

impl Upstream {
    /// Leading bits of a client's IPv6 address that are hashed.
    pub(crate) fn ipv6_prefix_bits(&self) -> u8 {
        match self.settings.algorithm {
            AlgorithmSettings::Hash(HashKey::ClientIp { ipv6_prefix_bits }) => ipv6_prefix_bits,
            AlgorithmSettings::Hash(_)
            | AlgorithmSettings::RoundRobin
            | AlgorithmSettings::LeastConn
            | AlgorithmSettings::RandomTwo => IPV6_PREFIX_BITS,
        }
    }

    /// The TLS of a new connection to a backend of this address, if it has any.
    pub(crate) fn connect_tls(&self, address: &BackendAddress) -> Option<Connection> {
        match &self.tls {
            None => None,
            Some(tls) => self.connect_with(tls.settings(), address),
        }
    }

    #[cold]
    fn connect_with(&self, tls: &ClientSettings, address: &BackendAddress) -> Option<Connection> {
        let given = self.settings.tls.as_ref()?.server_name.as_deref();
        match (given, address) {
            (Some(name), _) => tls.connect(name),
            (None, BackendAddress::Name { host, .. }) => tls.connect(host),
            (None, BackendAddress::Fixed(Address::Ip(ip))) => tls.connect(&ip.ip().to_string()),
            (None, BackendAddress::Fixed(Address::Unix(_))) => None,
        }
    }

    /// What its algorithm hashes of a client.
    pub(crate) fn hash_key(&self, peer: Option<SocketAddr>) -> u64 {
        match (self.balancer.algorithm(), peer) {
            (Algorithm::Hash, Some(peer)) => client_key(peer.ip(), self.ipv6_prefix_bits()),
            _ => 0,
        }
    }
}

/// The table of upstreams, and that of all their backends.
pub(crate) struct UpstreamTable {
    pub(crate) list: Vec<Upstream>,
    pub(crate) backends: Backends,
    /// By backend id.
    pub(crate) entries: Vec<Option<BackendEntry>>,
    pub(crate) loads: Loads,
    /// How many changes on the board have been taken on.
    pub(crate) seen_changes: u64,
    /// Whether somebody who waits for a full backend may go on.
    pub(crate) must_check_queues: bool,
    /// The first of the entries that may not have been checked yet; none once all have.
    pub(crate) first_unchecked: Option<usize>,
}

impl Index<UpstreamSlot> for UpstreamTable {
    type Output = Upstream;

    fn index(&self, slot: UpstreamSlot) -> &Upstream {
        &self.list[slot as usize]
    }
}

impl IndexMut<UpstreamSlot> for UpstreamTable {
    fn index_mut(&mut self, slot: UpstreamSlot) -> &mut Upstream {
        &mut self.list[slot as usize]
    }
}

/// Picks that another worker may spoil before a request counts as one that finds no room.
const OVERTAKEN_MAX: usize = 8;

impl UpstreamTable {
    /// The backends that bear these names: all of an upstream, or one. One that was removed and is
    /// back has two entries while it has sessions from before.
    pub(crate) fn named(&self, upstream: &str, backend: Option<&str>) -> Vec<BackendId> {
        let entries = self.entries.iter().enumerate();
        let entries =
            entries.filter_map(|(index, it)| Some((BackendId(key_of(index)), it.as_ref()?)));
        // Both names may have slashes.
        let meant = entries.filter(|(id, entry)| {
            let identity = self.backends.get(*id).identity.as_str();
            let rest = entry.label.strip_suffix(identity);
            rest.and_then(|rest| rest.strip_suffix('/')) == Some(upstream)
                && backend.is_none_or(|it| it == identity)
        });
        meant.map(|(id, _)| id).collect()
    }

    /// None yet.
    pub(crate) fn new() -> Self {
        Self {
            list: Vec::new(),
            backends: Backends::new(),
            entries: Vec::new(),
            loads: Loads::default(),
            seen_changes: 0,
            must_check_queues: false,
            first_unchecked: Some(0),
        }
    }

    /// Picks a backend that was not tried yet and takes a lease on it.
    pub(crate) fn pick(
        &mut self,
        board: &mut Board,
        timers: &Timers,
        attempt: &Attempt,
    ) -> Option<Lease> {
        for _ in 0..OVERTAKEN_MAX {
            let id = self.pick_backend(board, timers, attempt)?;
            let lease = self.take_lease(board, id, !attempt.tried().is_empty());
            if lease.is_some() {
                return lease;
            }
        }
        None
    }

    fn pick_backend(
        &mut self,
        board: &Board,
        timers: &Timers,
        attempt: &Attempt,
    ) -> Option<BackendId> {
        self.see_loads(board, timers, attempt.upstream);
        let turn = self.draw_turn(board, attempt);
        let upstream = &mut self.list[attempt.upstream as usize];
        let balancer = &mut upstream.balancer;
        let mut ask = Ask {
            key: attempt.hash_key,
            is_bound: attempt.is_bound_by_hash,
            tried: attempt.tried(),
            even_if_down: false,
            turn,
        };
        let (members, backends) = (&upstream.members, &mut self.backends);
        let picked = balancer.pick(members, backends, &ask);
        if picked.is_none() && upstream.settings.when_all_down == model::WhenAllDown::UseAll {
            ask.even_if_down = true;
            return balancer.pick(members, backends, &ask);
        }
        picked
    }

    /// Adds to a counter of a live backend.
    pub(crate) fn count_backend(
        &self,
        board: &Board,
        id: BackendId,
        cell: BackendCell,
        count: u64,
    ) {
        board.add(self.entry(id).column, cell, count);
    }

    /// Takes a lease on a backend that was picked, perhaps after others had failed. None when
    /// another worker was there at the same time and its limit does not have room for both.
    pub(crate) fn take_lease(
        &mut self,
        board: &mut Board,
        id: BackendId,
        is_retry: bool,
    ) -> Option<Lease> {
        self.count_backend(board, id, BackendCell::Active, 1);
        board.note_load(self.entry(id).column);
        let lease = self.backends.take(id);
        if self.is_overtaken(board, id) {
            self.give_back(board, lease);
            return None;
        }
        self.count_backend(board, id, BackendCell::Picks, 1);
        if is_retry {
            self.count_backend(board, id, BackendCell::Retries, 1);
        }
        Some(lease)
    }

    /// Gives a lease back. The last one of a backend that a reload removed frees its place.
    pub(crate) fn give_back(&mut self, board: &mut Board, lease: Lease) {
        let id = lease.backend;
        let column = self.entry(id).column;
        board.sub(column, BackendCell::Active, 1);
        board.note_load(column);
        self.backends.give_back(lease);
        // One that a reload removed may have come back, and has this one's column.
        if let Some(owner) = self
            .loads
            .owner(column.number())
            .filter(|&owner| owner != id)
        {
            self.see_load(board, owner);
        }
        match self.backends.try_get(id) {
            Some(backend) => self.must_check_queues |= backend.is_awaited(),
            None => self.free_entry(board, id),
        }
    }

    /// Forgets a backend that has no lease left and is in no upstream.
    pub(crate) fn free_entry(&mut self, board: &mut Board, id: BackendId) {
        if let Some(entry) = self.entries[id.0 as usize].take() {
            self.loads.disown(entry.column, id);
            board.close(entry.column);
        }
    }

    /// What is known of a live backend.
    ///
    /// # Panics
    /// When the backend is gone: ids live as long as a lease or a membership holds them.
    pub(crate) fn entry(&self, id: BackendId) -> &BackendEntry {
        self.entries[id.0 as usize]
            .as_ref()
            .expect("a live backend has an entry")
    }

    /// Whether this worker has a probe for it.
    pub(crate) fn has_probe(&self, id: BackendId) -> bool {
        self.entry(id).probe.is_some()
    }

    /// As [`UpstreamTable::entry`], to change it.
    ///
    /// # Panics
    /// As [`UpstreamTable::entry`].
    pub(crate) fn entry_mut(&mut self, id: BackendId) -> &mut BackendEntry {
        self.entries[id.0 as usize]
            .as_mut()
            .expect("a live backend has an entry")
    }
}
