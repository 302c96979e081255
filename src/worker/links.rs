//! Backend connections of HTTP: in use by one session, or parked for the next request.
//!
//! A link is watched once, for life. Parking and taking it out touch no descriptor; only the
//! owner changes. A parked link must stay silent: whatever arrives on it, data or the end, means
//! that it cannot be used again, and it is closed.
//!
//! An end that the kernel knows of is never missed where it matters: a request that could not be
//! sent again looks once more, right before it is written. One that comes between that look and the
//! write is told by what it acknowledges (`note_reach`). What remains is a backend that closes over
//! a request that it has received, so links are not used when it may be about to ([`IdleLimit`]).

use log::debug;

use crate::board::BackendCell;
use crate::core::backend::BackendId;
use crate::core::idle_limit::IdleLimit;
use crate::core::readiness::Io;
use crate::core::time::Tick;
use crate::core::timer::TimerKey;
use crate::net::{Fired, Kind, Net, Target};
use crate::worker::Worker;
use crate::worker::shared::{Place, Shared, Timeout, key_of};
use crate::worker::transport::Endpoint;

/// What a backend may say before it ends a parked connection, a 408 for example, in bytes. An end
/// behind more than that is not seen to be one.
const LAST_WORDS_BYTES_MAX: usize = 512;

/// Names a link in [`Shared::links`].
pub(crate) type LinkKey = u32;

/// The session that uses a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) key: u32,
    pub(crate) generation: u32,
}

/// One backend connection.
pub(crate) struct Link<N: Net> {
    pub(crate) endpoint: Endpoint<N>,
    pub(crate) backend: BackendId,
    /// [`Place::moves`](crate::worker::shared::Place::moves) when it was opened.
    moves: u32,
    /// None while it is parked.
    owner: Option<Owner>,
    parked_at: Tick,
    /// The turn of the loop in which it was parked.
    parked_turn: u64,
    /// For how much longer than that its backend may have been waiting, in milliseconds.
    unread_ms: u32,
    /// How long it had been parked when it was taken, in milliseconds.
    idle_ms: u32,
    timer: Option<TimerKey>,
}

impl<N: Net> Link<N> {
    pub(crate) fn is_parked(&self) -> bool {
        self.owner.is_none()
    }

    /// For how long its backend may have been waiting for a request, in milliseconds.
    fn waiting_ms(&self, now: Tick) -> u64 {
        now.since_ms(self.parked_at) + u64::from(self.unread_ms)
    }

    /// Whether nothing has come or is on its way, as it has to be on a parked link.
    fn is_unused(&self) -> bool {
        !self.is_stirred() && self.endpoint.pending_bytes() == 0
    }

    /// Whether something has arrived, which nothing may on a parked link.
    fn is_stirred(&self) -> bool {
        self.endpoint.may_read() || self.endpoint.is_closing()
    }
}

impl<N: Net> Shared<N> {
    /// Watches a connection that was just started, for `owner`.
    pub(crate) fn open_link(
        &mut self,
        stream: N::Stream,
        backend: BackendId,
        owner: Owner,
    ) -> Result<LinkKey, std::io::Error> {
        let generation = self.next_generation();
        let moves = self.place(backend).moves;
        let entry = self.links.vacant_entry();
        let key = key_of(entry.key());
        let kind = Kind::Link;
        let target = Target {
            kind,
            key,
            generation,
        };
        let endpoint = Endpoint::watched(stream, target, &mut self.transfer.net)?;
        entry.insert(Link {
            endpoint,
            backend,
            moves,
            owner: Some(owner),
            parked_at: self.now,
            parked_turn: 0,
            unread_ms: 0,
            idle_ms: 0,
            timer: None,
        });
        Ok(key)
    }

    /// Takes a parked link of a backend; none when none is fit. Where a request could not be sent
    /// again, the link is looked at once more: its end may have come without its event having
    /// been read yet. So is one that was parked in this very turn: what followed its response
    /// has had no event, and would be taken for the next answer.
    ///
    /// The request is to be written in the same turn: what comes in between is not seen.
    pub(crate) fn take_link(
        &mut self,
        backend: BackendId,
        owner: Owner,
        is_repeatable: bool,
    ) -> Option<LinkKey> {
        loop {
            let key = self.pop_parked(backend)?;
            let is_fresh = self.links[key as usize].parked_turn == self.turn;
            let must_look = is_fresh || !is_repeatable;
            let is_stirred = self.links[key as usize].is_stirred();
            if is_stirred || (must_look && !self.is_silent(key)) {
                self.close_link(key);
                continue;
            }
            let link = &mut self.links[key as usize];
            let idle_ms = self.now.since_ms(link.parked_at);
            link.owner = Some(owner);
            link.idle_ms = u32::try_from(idle_ms).unwrap_or(u32::MAX);
            self.place_mut(backend).idle_limit.on_survived(idle_ms);
            return Some(key);
        }
    }

    /// The link that was parked last before this turn, which needs no second look, or else one
    /// that was parked in it; and none that its backend may be about to end.
    fn pop_parked(&mut self, backend: BackendId) -> Option<LinkKey> {
        let (links, turn, now) = (&self.links, self.turn, self.now);
        let place = self.places[backend.0 as usize].as_mut()?;
        let reuse_ms = place.idle_limit.reuse_ms();
        let is_young = |&key: &LinkKey| match reuse_ms {
            Some(reuse_ms) => links[key as usize].waiting_ms(now) < reuse_ms,
            None => true,
        };
        let is_earlier = |key: &LinkKey| links[*key as usize].parked_turn != turn && is_young(key);
        let parked = &mut place.parked;
        let earlier = parked.iter().rposition(is_earlier);
        let found = earlier.or_else(|| parked.iter().rposition(is_young));
        found.map(|at| parked.remove(at))
    }

    /// Looks whether anything has arrived on a link that is parked, or was until now. If that is
    /// its end, after perhaps some last words, it speaks for an idle limit.
    fn is_silent(&mut self, key: LinkKey) -> bool {
        let link = &mut self.links[key as usize];
        let (net, mut space) = (&mut self.transfer.net, [0; LAST_WORDS_BYTES_MAX]);
        let mut found = link.endpoint.read(net, &mut space);
        if found == Io::Blocked {
            return true;
        }
        if let Io::Ready(_) = found {
            found = link.endpoint.read(net, &mut space);
        }
        if found == Io::Closed {
            let (backend, now) = (link.backend, self.now);
            let idle_ms = now.since_ms(link.parked_at);
            self.learn_idle_limit(backend, |limit| limit.on_end(idle_ms, now));
        }
        false
    }

    /// A link that had been parked has ended before anything of an answer came: it was about to
    /// when it was taken.
    pub(crate) fn on_stale_end(&mut self, key: LinkKey) {
        let link = &self.links[key as usize];
        // One that is new is none that was idle.
        let (backend, idle_ms, now) = (link.backend, u64::from(link.idle_ms), self.now);
        self.learn_idle_limit(backend, |limit| limit.on_end(idle_ms, now));
    }

    /// Tells what is known of a backend's idle limit something more, and shows what it makes of it.
    pub(crate) fn learn_idle_limit(&mut self, id: BackendId, tell: impl FnOnce(&mut IdleLimit)) {
        let Some(place) = &mut self.places[id.0 as usize] else {
            return;
        };
        let before = place.idle_limit.known_ms();
        tell(&mut place.idle_limit);
        let known = place.idle_limit.known_ms();
        if known == before || !self.backends.is_live(id) {
            return;
        }
        let (column, label) = (place.column, &place.label);
        match known {
            Some(ms) => debug!("backend {label}: ends connections that are idle for {ms} ms"),
            None => debug!("backend {label}: leaves idle connections open"),
        }
        self.board
            .set(column, BackendCell::IdleLimit, known.unwrap_or(0));
    }

    /// Keeps a link for the next request, if it is silent and there is room. Its backend may have
    /// been waiting for one since then.
    pub(crate) fn park_link(&mut self, key: LinkKey, since: Tick) {
        let unread_ms = self.now.since_ms(since);
        let link = &mut self.links[key as usize];
        let backend = link.backend;
        let upstream = self.places[backend.0 as usize]
            .as_ref()
            .filter(|place| place.moves == link.moves)
            .map(|place| &self.upstreams[place.upstream as usize].settings);
        let Some(settings) = upstream.filter(|_| self.backends.is_live(backend)) else {
            return self.close_link(key);
        };
        let (max, timeout) = (
            settings.idle_connections_max,
            settings.idle_connection_timeout,
        );
        if link.endpoint.may_read() {
            let mut byte = [0; 1];
            match link.endpoint.read(&mut self.transfer.net, &mut byte) {
                Io::Blocked => {}
                Io::Ready(_) | Io::Closed | Io::Failed(_) => return self.close_link(key),
            }
        }
        let place = self.place(backend);
        let (reuse_ms, is_full) = (place.idle_limit.reuse_ms(), place.parked.len() >= max);
        let reuse_ms = reuse_ms.unwrap_or(u64::MAX);
        let has_room = unread_ms < reuse_ms && (!is_full || self.make_room(backend));
        let link = &mut self.links[key as usize];
        if !link.is_unused() || !has_room {
            return self.close_link(key);
        }
        link.owner = None;
        link.parked_at = self.now;
        link.parked_turn = self.turn;
        link.unread_ms = u32::try_from(unread_ms).unwrap_or(u32::MAX);
        if link.timer.is_none() {
            let generation = link.endpoint.generation();
            let end = self.now.after(timeout);
            let at = end.min(self.now.after_ms(reuse_ms - unread_ms));
            link.timer = Some(self.wheel.arm(at, Timeout::Link { key, generation }));
        }
        self.place_mut(backend).parked.push(key);
        self.starving.on_freed();
    }

    /// Closes a link of a backend that is parked and will not be used; whether there was one.
    fn make_room(&mut self, backend: BackendId) -> bool {
        let place = self.place(backend);
        let (Some(reuse_ms), Some(&first)) = (place.idle_limit.reuse_ms(), place.parked.first())
        else {
            return false;
        };
        let is_unused = self.links[first as usize].waiting_ms(self.now) >= reuse_ms;
        if is_unused {
            self.close_link(first);
        }
        is_unused
    }

    /// Closes a link that nobody uses any more.
    pub(crate) fn close_link(&mut self, key: LinkKey) {
        if let Some(link) = self.remove_link(key) {
            link.endpoint.close(&mut self.transfer.net);
        }
    }

    /// Ends a link so that the backend sees that its answer is not wanted.
    pub(crate) fn reset_link(&mut self, key: LinkKey) {
        if let Some(link) = self.remove_link(key) {
            link.endpoint.reset(&mut self.transfer.net);
        }
    }

    /// Takes a link out of the table: it is no link any more.
    pub(crate) fn remove_link(&mut self, key: LinkKey) -> Option<Link<N>> {
        let mut link = self.links.try_remove(key as usize)?;
        if let Some(timer) = link.timer.take() {
            self.wheel.cancel(timer);
        }
        self.starving.on_freed();
        if let Some(Some(place)) = self.places.get_mut(link.backend.0 as usize)
            && link.is_parked()
        {
            place.parked.retain(|&parked| parked != key);
        }
        Some(link)
    }

    /// Closes one parked connection, whosever it is, for its descriptor; whether there was one.
    pub(crate) fn close_any_parked(&mut self) -> bool {
        let parked = |place: &Place| place.parked.first().copied();
        let found = self.places.iter().flatten().find_map(parked);
        if let Some(key) = found {
            self.close_link(key);
        }
        found.is_some()
    }

    /// Closes what is parked for a backend.
    pub(crate) fn close_parked(&mut self, backend: BackendId) {
        for key in std::mem::take(&mut self.place_mut(backend).parked) {
            self.close_link(key);
        }
    }

    /// The timer of a link fired: it is closed if it has been parked for long enough, or is not to
    /// be used any more. One of those stays, to show whether its backend still ends it.
    pub(crate) fn on_link_timer(&mut self, key: LinkKey, generation: u32) {
        let Some(link) = self.links.get_mut(key as usize) else {
            return;
        };
        if link.endpoint.generation() != generation {
            return;
        }
        link.timer = None;
        if !link.is_parked() {
            return;
        }
        match self.parked_until(key) {
            None => self.close_link(key),
            Some(at) => {
                let timer = self.wheel.arm(at, Timeout::Link { key, generation });
                self.links[key as usize].timer = Some(timer);
            }
        }
    }

    /// When a parked link is to be looked at again; none when it has been parked for long enough.
    fn parked_until(&mut self, key: LinkKey) -> Option<Tick> {
        let link = &self.links[key as usize];
        let (id, parked_at, waiting_ms) = (link.backend, link.parked_at, link.waiting_ms(self.now));
        let place = self.places[id.0 as usize].as_ref()?;
        let settings = &self.upstreams[place.upstream as usize].settings;
        let end = parked_at.after(settings.idle_connection_timeout);
        let reuse_ms = place.idle_limit.reuse_ms();
        let left_ms = reuse_ms.map_or(u64::MAX, |ms| ms.saturating_sub(waiting_ms));
        let is_witness = place.parked.first() == Some(&key);
        if left_ms > 0 {
            let at = end.min(self.now.after_ms(left_ms));
            return (at > self.now).then_some(at);
        }
        let witness_ms = place.idle_limit.witness_ms().filter(|_| is_witness)?;
        let at = end.min(parked_at.after_ms(witness_ms));
        if at > self.now {
            return Some(at);
        }
        let (idle_ms, is_last) = (self.now.since_ms(parked_at), end <= self.now);
        self.learn_idle_limit(id, |limit| limit.on_outlived(idle_ms, is_last));
        None
    }
}

impl<N: Net> Worker<N> {
    /// Marks what fired for a link; its owner runs, or it is closed in the run phase.
    pub(crate) fn mark_link(&mut self, event: &Fired) -> bool {
        let key = event.target.key;
        let Some(link) = self.shared.links.get_mut(key as usize) else {
            return false;
        };
        if !link.endpoint.mark(event.target.generation, event.ready) {
            return false;
        }
        match link.owner {
            None => self.stirred_links.push(key),
            Some(owner) => {
                let session = self.sessions.get(owner.key as usize);
                if session.is_some_and(|session| session.client.generation() == owner.generation) {
                    self.queue_session(owner.key);
                }
            }
        }
        true
    }

    /// Closes parked links on which something has arrived, unless a session took them since or
    /// there was nothing to be read.
    pub(crate) fn close_stirred_links(&mut self) {
        for key in std::mem::take(&mut self.stirred_links) {
            let link = self.shared.links.get(key as usize);
            if link.is_some_and(|link| link.is_parked() && link.is_stirred())
                && !(self.shared.is_silent(key) && self.shared.links[key as usize].is_unused())
            {
                self.shared.close_link(key);
            }
        }
    }
}
