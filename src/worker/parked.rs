//! Connections that are parked: they wait for the next request to their backend.
//!
//! Parking and taking touch no descriptor. A parked connection must stay silent: whatever arrives
//! on it, data or the end, means that it cannot be used again, and it is closed.
//!
//! An end that the kernel knows of is never missed where it matters: a request that could not be
//! sent again looks once more, right before it is written. One that comes between that look and the
//! write is told by what it acknowledges (`note_reach`). What remains is a backend that closes over
//! a request that it has received, so connections are not used when it may be about to
//! ([`IdleLimit`]).

use log::debug;

use crate::board::{BackendCell, Board};
use crate::core::backend::BackendId;
use crate::core::idle_limit::IdleLimit;
use crate::core::readiness::Io;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::backend_entry::{BackendEntry, Parked};
use crate::worker::connections::Owner;
use crate::worker::keys::ConnectionKey;
use crate::worker::shared::Shared;
use crate::worker::timers::{Timeout, Timers};
use crate::worker::upstreams::UpstreamTable;

/// What a backend may say before it ends a parked connection, a 408 for example, in bytes. An end
/// behind more than that is not seen to be one.
const LAST_WORDS_BYTES_MAX: usize = 512;

/// A connection that was parked until now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) connection: ConnectionKey,
    /// How long it was parked, in milliseconds.
    pub(crate) idle_ms: u64,
}

impl UpstreamTable {
    /// The connection that was parked last before this turn, which needs no second look, or else
    /// one that was parked in it; and none that its backend may be about to end.
    fn pop_parked(&mut self, timers: &Timers, backend: BackendId) -> Option<Parked> {
        let (turn, now) = (timers.turn, timers.now);
        let entry = self.entries[backend.0 as usize].as_mut()?;
        let reuse_ms = entry.idle_limit.reuse_ms();
        let is_young = |parked: &Parked| match reuse_ms {
            Some(reuse_ms) => parked.waiting_ms(now) < reuse_ms,
            None => true,
        };
        let is_earlier = |parked: &Parked| parked.turn != turn && is_young(parked);
        let parked = &mut entry.parked;
        let earlier = parked.iter().rposition(is_earlier);
        let found = earlier.or_else(|| parked.iter().rposition(is_young));
        found.map(|at| parked.remove(at))
    }

    /// A connection that was parked is there no more.
    pub(crate) fn forget_parked(&mut self, backend: BackendId, key: ConnectionKey) {
        if let Some(Some(entry)) = self.entries.get_mut(backend.0 as usize) {
            entry.parked.retain(|parked| parked.connection != key);
        }
    }

    /// Whether a connection is among those that are parked for this backend.
    pub(crate) fn is_parked(&self, backend: BackendId, key: ConnectionKey) -> bool {
        let entry = self.entries[backend.0 as usize].as_ref();
        entry.is_some_and(|entry| entry.nth_parked(key).is_some())
    }

    /// Tells what is known of a backend's idle limit something more, and shows what it makes of it.
    pub(crate) fn learn_idle_limit(
        &mut self,
        board: &Board,
        id: BackendId,
        tell: impl FnOnce(&mut IdleLimit),
    ) {
        let Some(entry) = &mut self.entries[id.0 as usize] else {
            return;
        };
        let before = entry.idle_limit.known_ms();
        tell(&mut entry.idle_limit);
        let known = entry.idle_limit.known_ms();
        if known == before || !self.backends.is_live(id) {
            return;
        }
        let (column, label) = (entry.column, &entry.label);
        match known {
            Some(ms) => debug!("backend {label}: ends connections that are idle for {ms} ms"),
            None => debug!("backend {label}: leaves idle connections open"),
        }
        board.set(column, BackendCell::IdleLimit, known.unwrap_or(0));
    }
}

impl<N: Net> Shared<N> {
    /// Takes a parked connection of a backend for a session; none when none is fit. Where a request
    /// could not be sent again, the connection is looked at once more: its end may have come
    /// without its event having been read yet. So is one that was parked in this very turn: what
    /// followed its response has had no event, and would be taken for the next answer.
    ///
    /// The request is to be written in the same turn: what comes in between is not seen.
    pub(crate) fn take_parked(
        &mut self,
        backend: BackendId,
        session: u32,
        is_repeatable: bool,
    ) -> Option<Taken> {
        loop {
            let parked = self.upstreams.pop_parked(&self.timers, backend)?;
            let key = parked.connection;
            let connection = self.connections.get_mut(key);
            connection.owner = Owner::Session(session);
            let is_at_rest = connection.endpoint.is_at_rest();
            let must_look = parked.turn == self.timers.turn || !is_repeatable;
            if !is_at_rest || (must_look && !self.is_silent(parked)) {
                self.close_connection(key);
                continue;
            }
            let idle_ms = self.timers.now.since_ms(parked.since);
            self.upstreams
                .entry_mut(backend)
                .idle_limit
                .on_survived(idle_ms);
            return Some(Taken {
                connection: key,
                idle_ms,
            });
        }
    }

    /// Looks whether anything has arrived on a connection that is parked, or was until now. If that
    /// is its end, after perhaps some last words, it speaks for an idle limit.
    fn is_silent(&mut self, parked: Parked) -> bool {
        let connection = self.connections.get_mut(parked.connection);
        let (endpoint, backend) = (&mut connection.endpoint, connection.backend);
        let (net, mut space) = (&mut self.io.net, [0; LAST_WORDS_BYTES_MAX]);
        let mut found = endpoint.read(net, &mut space);
        if found == Io::Blocked {
            return endpoint.is_at_rest();
        }
        if let Io::Ready(_) = found {
            found = endpoint.read(net, &mut space);
        }
        if found == Io::Closed {
            self.on_idle_end(backend, self.timers.now.since_ms(parked.since));
        }
        false
    }

    /// A connection has ended that had been idle for so long: while it was parked, or before
    /// anything of an answer came, as it was about to when it was taken. One that is new was not
    /// idle at all.
    pub(crate) fn on_idle_end(&mut self, backend: BackendId, idle_ms: u64) {
        let now = self.timers.now;
        self.upstreams
            .learn_idle_limit(&self.board, backend, |limit| limit.on_end(idle_ms, now));
    }

    /// Keeps a connection for the next request, if it is silent and there is room. Its backend may
    /// have been waiting for one since then.
    pub(crate) fn park_connection(&mut self, key: ConnectionKey, since: Tick) {
        let unread_ms = self.timers.now.since_ms(since);
        let connection = self.connections.get_mut(key);
        let backend = connection.backend;
        let upstream = self.upstreams.entries[backend.0 as usize]
            .as_ref()
            .filter(|entry| entry.moves == connection.moves)
            .map(|entry| &self.upstreams[entry.upstream].settings)
            // It names a client, and what comes next may be another's.
            .filter(|settings| settings.send_proxy.is_none());
        let Some(settings) = upstream.filter(|_| self.upstreams.backends.is_live(backend)) else {
            return self.close_connection(key);
        };
        let (max, timeout) = (
            settings.idle_connections_max,
            settings.idle_connection_timeout,
        );
        if connection.endpoint.may_read() {
            let mut byte = [0; 1];
            match connection.endpoint.read(&mut self.io.net, &mut byte) {
                Io::Blocked => {}
                Io::Ready(_) | Io::Closed | Io::Failed(_) => return self.close_connection(key),
            }
        }
        let entry = self.upstreams.entry(backend);
        let (reuse_ms, is_full) = (entry.idle_limit.reuse_ms(), entry.parked.len() >= max);
        let reuse_ms = reuse_ms.unwrap_or(u64::MAX);
        let has_room = unread_ms < reuse_ms && (!is_full || self.make_room(backend));
        let connection = self.connections.get_mut(key);
        if !connection.endpoint.is_at_rest() || !has_room {
            return self.close_connection(key);
        }
        connection.owner = Owner::Parked;
        if connection.parked_timer.is_none() {
            let end = self.timers.now.after(timeout);
            let at = end.min(self.timers.now.after_ms(reuse_ms - unread_ms));
            let timer = Timeout::Parked {
                key,
                generation: connection.endpoint.generation(),
            };
            connection.parked_timer = Some(self.timers.wheel.arm(at, timer));
        }
        let (since, turn) = (self.timers.now, self.timers.turn);
        self.upstreams.entry_mut(backend).parked.push(Parked {
            connection: key,
            unread_ms: u32::try_from(unread_ms).unwrap_or(u32::MAX),
            since,
            turn,
        });
        self.descriptor_queue.on_freed();
    }

    /// Closes a connection of a backend that is parked and will not be used; whether there was one.
    fn make_room(&mut self, backend: BackendId) -> bool {
        let entry = self.upstreams.entry(backend);
        let (Some(reuse_ms), Some(first)) = (entry.idle_limit.reuse_ms(), entry.parked.first())
        else {
            return false;
        };
        let (key, is_unused) = (
            first.connection,
            first.waiting_ms(self.timers.now) >= reuse_ms,
        );
        if is_unused {
            self.close_connection(key);
        }
        is_unused
    }

    /// Closes one parked connection, whosever it is, for its descriptor; whether there was one.
    pub(crate) fn close_any_parked(&mut self) -> bool {
        let first = |entry: &BackendEntry| entry.parked.first().map(|parked| parked.connection);
        let found = self.upstreams.entries.iter().flatten().find_map(first);
        if let Some(key) = found {
            self.close_connection(key);
        }
        found.is_some()
    }

    /// No connection that a backend has now is used for another request.
    pub(crate) fn forget_connections(&mut self, backend: BackendId) {
        let entry = self.upstreams.entry_mut(backend);
        entry.moves = entry.moves.wrapping_add(1);
        self.close_parked(backend);
    }

    /// Closes what is parked for a backend.
    pub(crate) fn close_parked(&mut self, backend: BackendId) {
        for parked in std::mem::take(&mut self.upstreams.entry_mut(backend).parked) {
            self.close_connection(parked.connection);
        }
    }

    /// The timer of a connection fired that is or was parked: it is closed if it has been for long
    /// enough, or is not to be used any more. One of those stays, to show whether its backend still
    /// ends it.
    pub(crate) fn on_parked_timer(&mut self, key: ConnectionKey, generation: u32) {
        let Some(connection) = self.connections.find(key) else {
            return;
        };
        if connection.endpoint.generation() != generation {
            return;
        }
        connection.parked_timer = None;
        if connection.owner != Owner::Parked {
            return;
        }
        let backend = connection.backend;
        match self.parked_until(backend, key) {
            None => self.close_connection(key),
            Some(at) => {
                let timer = self
                    .timers
                    .wheel
                    .arm(at, Timeout::Parked { key, generation });
                self.connections.get_mut(key).parked_timer = Some(timer);
            }
        }
    }

    /// When a parked connection is to be looked at again; none when it has been parked for long
    /// enough.
    fn parked_until(&mut self, id: BackendId, key: ConnectionKey) -> Option<Tick> {
        let entry = self.upstreams.entries[id.0 as usize].as_ref()?;
        let nth = entry.nth_parked(key)?;
        let parked = entry.parked[nth];
        let settings = &self.upstreams[entry.upstream].settings;
        let end = parked.since.after(settings.idle_connection_timeout);
        let reuse_ms = entry.idle_limit.reuse_ms();
        let waiting_ms = parked.waiting_ms(self.timers.now);
        let left_ms = reuse_ms.map_or(u64::MAX, |ms| ms.saturating_sub(waiting_ms));
        if left_ms > 0 {
            let at = end.min(self.timers.now.after_ms(left_ms));
            return (at > self.timers.now).then_some(at);
        }
        let is_witness = nth == 0;
        let witness_ms = entry.idle_limit.witness_ms().filter(|_| is_witness)?;
        let at = end.min(parked.since.after_ms(witness_ms));
        if at > self.timers.now {
            return Some(at);
        }
        let (idle_ms, is_last) = (
            self.timers.now.since_ms(parked.since),
            end <= self.timers.now,
        );
        self.upstreams
            .learn_idle_limit(&self.board, id, |limit| limit.on_outlived(idle_ms, is_last));
        None
    }

    /// A parked connection has had an event: unless it was taken since, or there was nothing to be
    /// read, it is closed.
    fn check_parked(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.find(key) else {
            return;
        };
        if connection.owner != Owner::Parked || connection.endpoint.is_at_rest() {
            return;
        }
        let entry = self.upstreams.entries[connection.backend.0 as usize].as_ref();
        let parked = entry.and_then(|entry| entry.nth_parked(key).map(|nth| entry.parked[nth]));
        let is_silent = parked.is_some_and(|parked| self.is_silent(parked));
        if !is_silent {
            self.close_connection(key);
        }
    }
}

impl<N: Net> Worker<N> {
    /// Looks at the parked connections that have had an event.
    pub(crate) fn check_fired_parked(&mut self) {
        for key in std::mem::take(&mut self.fired_parked) {
            self.shared.check_parked(key);
        }
    }
}
