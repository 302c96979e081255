//! Backend connections of HTTP: in use by one session, or parked for the next request.
//!
//! A link is watched once, for life. Parking and taking it out touch no descriptor; only the
//! owner changes. A parked link must stay silent: whatever arrives on it, data or the end, means
//! that it cannot be used again, and it is closed.
//!
//! An end that the kernel knows of is never missed where it matters: a request that could not be
//! sent again looks once more, right before it is written. One that comes between that look and the
//! write is told by what it acknowledges (`note_reach`). Only a backend that closes over a request
//! that it has received is answered by 502.

use crate::core::backend::BackendId;
use crate::core::readiness::{Io, Readiness};
use crate::core::time::Tick;
use crate::core::timer::TimerKey;
use crate::net::{Fired, Kind, Net, Target};
use crate::worker::Worker;
use crate::worker::session::Endpoint;
use crate::worker::shared::{Place, Shared, Timeout, key_of};

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
    timer: Option<TimerKey>,
    /// A kernel pipe, with so many bytes of this connection in it that wait for the client.
    pub(crate) piped: Option<(N::Pipe, usize)>,
}

impl<N: Net> Link<N> {
    pub(crate) fn is_parked(&self) -> bool {
        self.owner.is_none()
    }

    /// Whether something has arrived, which nothing may on a parked link.
    fn is_stirred(&self) -> bool {
        self.endpoint.ready.has(Readiness::READ) || self.endpoint.ready.has(Readiness::CLOSING)
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
        if let Err(error) = self.transfer.net.watch(&stream, target) {
            self.transfer.net.close(stream);
            return Err(error);
        }
        entry.insert(Link {
            endpoint: Endpoint::new(stream, generation),
            backend,
            moves,
            owner: Some(owner),
            parked_at: self.now,
            parked_turn: 0,
            timer: None,
            piped: None,
        });
        Ok(key)
    }

    /// Takes a parked link of a backend; none when none is fit. Where a request could not be sent
    /// again, the link is looked at once more: its end may have come without its event having
    /// been read yet. So is one that was parked in this very turn: what followed its response
    /// has had no event, and would be taken for the next answer.
    ///
    /// The request is to be written in the same turn.
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
            let link = &mut self.links[key as usize];
            let has_ended = |link: &Link<N>, net: &mut N| {
                let found = net.read(&link.endpoint.stream, &mut [0; 1]);
                !matches!(found, Io::Blocked)
            };
            if link.is_stirred() || (must_look && has_ended(link, &mut self.transfer.net)) {
                self.close_link(key);
                continue;
            }
            link.owner = Some(owner);
            return Some(key);
        }
    }

    /// The link that was parked last before this turn, which needs no second look, or else one
    /// that was parked in it.
    fn pop_parked(&mut self, backend: BackendId) -> Option<LinkKey> {
        let (links, turn) = (&self.links, self.turn);
        let parked = &mut self.places[backend.0 as usize].as_mut()?.parked;
        let is_earlier = |&key: &LinkKey| links[key as usize].parked_turn != turn;
        match parked.iter().rposition(is_earlier) {
            Some(place) => Some(parked.remove(place)),
            None => parked.pop(),
        }
    }

    /// Keeps a link for the next request, if it is silent and there is room.
    pub(crate) fn park_link(&mut self, key: LinkKey) {
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
        if link.endpoint.ready.has(Readiness::READ) {
            let mut byte = [0; 1];
            match link.endpoint.read(&mut self.transfer.net, &mut byte) {
                Io::Blocked => {}
                Io::Ready(_) | Io::Closed | Io::Failed(_) => return self.close_link(key),
            }
        }
        let is_full = self.place(backend).parked.len() >= max;
        let link = &mut self.links[key as usize];
        if link.is_stirred() || is_full {
            return self.close_link(key);
        }
        link.owner = None;
        link.parked_at = self.now;
        link.parked_turn = self.turn;
        if link.timer.is_none() {
            let generation = link.endpoint.generation;
            let at = self.now.after(timeout);
            link.timer = Some(self.wheel.arm(at, Timeout::Link { key, generation }));
        }
        self.place_mut(backend).parked.push(key);
        self.starving.on_freed();
    }

    /// Closes a link that nobody uses any more.
    pub(crate) fn close_link(&mut self, key: LinkKey) {
        if let Some(link) = self.remove_link(key) {
            self.transfer.net.close(link.endpoint.stream);
        }
    }

    /// Ends a link so that the backend sees that its answer is not wanted.
    pub(crate) fn reset_link(&mut self, key: LinkKey) {
        if let Some(link) = self.remove_link(key) {
            self.transfer.net.reset(link.endpoint.stream);
        }
    }

    /// Takes a link out of the table: it is no link any more.
    pub(crate) fn remove_link(&mut self, key: LinkKey) -> Option<Link<N>> {
        self.give_pipe(key);
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

    /// Gives back the pipe of a link, if it has one; what is in it is lost.
    pub(crate) fn give_pipe(&mut self, key: LinkKey) {
        let piped = self
            .links
            .get_mut(key as usize)
            .and_then(|link| link.piped.take());
        if let Some((pipe, bytes)) = piped {
            self.transfer.pipes.give(pipe, bytes);
        }
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

    /// The timer of a link fired: it is closed if it has been parked for long enough.
    pub(crate) fn on_link_timer(&mut self, key: LinkKey, generation: u32) {
        let Some(link) = self.links.get_mut(key as usize) else {
            return;
        };
        if link.endpoint.generation != generation {
            return;
        }
        link.timer = None;
        if !link.is_parked() {
            return;
        }
        let place = self.places[link.backend.0 as usize].as_ref();
        let timeout = place.map(|place| {
            let settings = &self.upstreams[place.upstream as usize].settings;
            settings.idle_connection_timeout
        });
        let end = link.parked_at.after(timeout.unwrap_or_default());
        if end <= self.now {
            return self.close_link(key);
        }
        link.timer = Some(self.wheel.arm(end, Timeout::Link { key, generation }));
    }
}

impl<N: Net> Worker<N> {
    /// Marks what fired for a link; its owner runs, or it is closed in the run phase.
    pub(crate) fn mark_link(&mut self, event: &Fired) -> bool {
        let key = event.target.key;
        let Some(link) = self.shared.links.get_mut(key as usize) else {
            return false;
        };
        if link.endpoint.generation != event.target.generation {
            return false;
        }
        link.endpoint.ready.add(event.ready);
        match link.owner {
            None => self.stirred_links.push(key),
            Some(owner) => {
                let session = self.sessions.get(owner.key as usize);
                if session.is_some_and(|session| session.client.generation == owner.generation) {
                    self.queue_session(owner.key);
                }
            }
        }
        true
    }

    /// Closes parked links on which something has arrived, unless a session took them since.
    pub(crate) fn close_stirred_links(&mut self) {
        for key in std::mem::take(&mut self.stirred_links) {
            let link = self.shared.links.get(key as usize);
            if link.is_some_and(|link| link.is_parked() && link.is_stirred()) {
                self.shared.close_link(key);
            }
        }
    }
}
