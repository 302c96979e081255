//! What all sessions of a worker share: the seam, the clock, buffers, timers, backends, limits
//! and counters. A session runs with two disjoint borrows, itself and this.

use std::time::Duration;

use log::{info, warn};

use crate::board::{BackendCell, BackendColumn, Board, Cell, CodeClass, Listeners, UpstreamColumn};
use crate::config::model;
use crate::core::address::{Address, BackendAddress};
use crate::core::backend::{BackendId, Backends, Lease};
use crate::core::balance::{Ask, Balancer};
use crate::core::finding::Reason;
use crate::core::health::{EjectPolicy, Verdict};
use crate::core::http::budget::RetryBudget;
use crate::core::http::oddity::Oddities;
use crate::core::http::sticky::{TagKey, Tags};
use crate::core::idle_limit::IdleLimit;
use crate::core::limit::RateLimit;
use crate::core::line::Line;
use crate::core::rng::Rng;
use crate::net::Net;
use crate::worker::connect::Attempt;
use crate::worker::connections::Connections;
use crate::worker::http::HttpSpace;
use crate::worker::io_space::IoSpace;
use crate::worker::keys::{ListenerSlot, SessionId, UpstreamSlot};
use crate::worker::listeners::ListenerTable;
use crate::worker::machine::Loads;
use crate::worker::parked::Parked;
use crate::worker::starve::Starving;
use crate::worker::timers::{Timeout, Timers};

/// How far real traffic came before its backend failed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedAt {
    /// There was no connection.
    Connect,
    /// There was one, but no answer in time, or none that counts as good.
    Answer,
}

/// An upstream as the worker uses it.
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) members: Vec<BackendId>,
    pub(crate) balancer: Balancer,
    pub(crate) sticky: Option<StickyTags>,
    /// Requests that wait for the backend they are bound to.
    pub(crate) line: Line<SessionId>,
    pub(crate) budget: RetryBudget,
    pub(crate) settings: model::Upstream,
    pub(crate) refused_log: RateLimit,
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

/// What the worker knows of a backend besides its policy state.
pub(crate) struct Place {
    /// `upstream/identity`, for log lines.
    pub(crate) label: String,
    pub(crate) upstream: UpstreamSlot,
    pub(crate) address: BackendAddress,
    /// Where it is now; empty while its name does not resolve.
    pub(crate) addresses: Vec<Address>,
    /// Which address is used; moves on when it fails.
    pub(crate) current: usize,
    /// How often a reload gave it another address.
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
    /// What was odd about its responses so far.
    pub(crate) oddities: Oddities,
    pub(crate) column: BackendColumn,
}

impl Place {
    /// The address to connect to.
    pub(crate) fn address_now(&self) -> Option<&Address> {
        self.addresses.get(self.current)
    }

    /// The next address in turn.
    pub(crate) fn rotate(&mut self) {
        self.current = (self.current + 1) % self.addresses.len().max(1);
    }
}

/// What all sessions of a worker share.
pub(crate) struct Shared<N: Net> {
    pub(crate) io: IoSpace<N>,
    pub(crate) timers: Timers,
    /// How many changes on the board have been taken on.
    pub(crate) seen_changes: u64,
    pub(crate) loads: Loads,
    pub(crate) board: Board,
    pub(crate) listeners: ListenerTable<N>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) backends: Backends,
    /// By backend id.
    pub(crate) places: Vec<Option<Place>>,
    pub(crate) rng: Rng,
    /// Those to backends, whoever has them.
    pub(crate) connections: Connections<N>,
    pub(crate) http: HttpSpace,
    /// Sessions that wait for a descriptor.
    pub(crate) starving: Starving,
    /// Whether somebody who waits for a full backend may go on.
    pub(crate) must_check_lines: bool,
}

/// Picks that another worker may spoil before a request counts as one that finds no room.
const OVERTAKEN_MAX: usize = 8;

impl<N: Net> Shared<N> {
    /// One timeout of a session between these two: the upstream's where it has one.
    pub(crate) fn timeout(
        &self,
        listener: ListenerSlot,
        upstream: UpstreamSlot,
        of_upstream: impl Fn(&model::TimeoutOverrides) -> Option<Duration>,
        of_listener: impl Fn(&model::Timeouts) -> Duration,
    ) -> Duration {
        let over = &self.upstreams[upstream as usize].settings.timeouts;
        of_upstream(over).unwrap_or_else(|| of_listener(&self.listeners[listener].timeouts))
    }

    /// Picks a backend that was not tried yet and takes a lease on it.
    pub(crate) fn pick(&mut self, attempt: &Attempt) -> Option<Lease> {
        for _ in 0..OVERTAKEN_MAX {
            let id = self.pick_backend(attempt)?;
            let lease = self.take_lease(id, !attempt.tried().is_empty());
            if lease.is_some() {
                return lease;
            }
        }
        None
    }

    fn pick_backend(&mut self, attempt: &Attempt) -> Option<BackendId> {
        self.see_loads(attempt.upstream);
        let turn = self.draw_turn(attempt);
        let upstream = &mut self.upstreams[attempt.upstream as usize];
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
    pub(crate) fn count_backend(&self, id: BackendId, cell: BackendCell, count: u64) {
        self.board.add(self.place(id).column, cell, count);
    }

    /// Takes a lease on a backend that was picked, perhaps after others had failed. None when
    /// another worker was there at the same time and its limit does not have room for both.
    pub(crate) fn take_lease(&mut self, id: BackendId, is_retry: bool) -> Option<Lease> {
        self.count_backend(id, BackendCell::Active, 1);
        self.board.note_load(self.place(id).column);
        let lease = self.backends.take(id);
        if self.is_overtaken(id) {
            self.give_back(lease);
            return None;
        }
        self.count_backend(id, BackendCell::Picks, 1);
        if is_retry {
            self.count_backend(id, BackendCell::Retries, 1);
        }
        Some(lease)
    }

    /// Gives a lease back. The last one of a backend that a reload removed frees its place.
    pub(crate) fn give_back(&mut self, lease: Lease) {
        let id = lease.backend;
        let column = self.place(id).column;
        self.board.sub(column, BackendCell::Active, 1);
        self.board.note_load(column);
        self.backends.give_back(lease);
        // One that a reload removed may have come back, and has this one's column.
        if let Some(owner) = self
            .loads
            .owner(column.number())
            .filter(|&owner| owner != id)
        {
            self.see_load(owner);
        }
        match self.backends.try_get(id) {
            Some(backend) => self.must_check_lines |= backend.is_awaited(),
            None => self.free_place(id),
        }
    }

    /// Forgets a backend that has no lease left and is in no upstream.
    pub(crate) fn free_place(&mut self, id: BackendId) {
        if let Some(place) = self.places[id.0 as usize].take() {
            self.loads.disown(place.column, id);
            self.board.close(place.column);
        }
    }

    /// What is known of a live backend.
    ///
    /// # Panics
    /// When the backend is gone: ids live as long as a lease or a membership holds them.
    pub(crate) fn place(&self, id: BackendId) -> &Place {
        self.places[id.0 as usize]
            .as_ref()
            .expect("a live backend has a place")
    }

    /// Whether this worker has a probe for it.
    pub(crate) fn has_probe(&self, id: BackendId) -> bool {
        self.place(id).probe.is_some()
    }

    /// As [`Shared::place`], to change it.
    ///
    /// # Panics
    /// As [`Shared::place`].
    pub(crate) fn place_mut(&mut self, id: BackendId) -> &mut Place {
        self.places[id.0 as usize]
            .as_mut()
            .expect("a live backend has a place")
    }

    /// A backend failed real traffic: counts it, and ejects it when that is too often.
    pub(crate) fn on_failure(&mut self, id: BackendId, stage: FailedAt, reason: &str) {
        // Whom others have ejected meanwhile counts against ejecting this one.
        self.take_on_all();
        let place = self.place(id);
        let (cell, what) = match stage {
            FailedAt::Connect => (BackendCell::ConnectFailures, "connect failed"),
            FailedAt::Answer => (BackendCell::AnswerFailures, "answer failed"),
        };
        self.count_backend(id, cell, 1);
        log::debug!("backend {}: {what}: {reason}", place.label);
        let upstream = &self.upstreams[place.upstream as usize];
        let policy = eject_policy(&upstream.settings.passive);
        let is_due = self.backends.get(id).health.is_due(&policy);
        let may_eject = is_due && self.may_eject(upstream, id);
        let health = &mut self.backends.get_mut(id).health;
        let Some(ejection) = health.on_failure(&policy, may_eject, self.timers.now) else {
            return;
        };
        self.timers.wheel.arm(ejection.until, Timeout::EjectEnd(id));
        self.count_backend(id, BackendCell::Ejections, 1);
        let place = self.place(id);
        warn!(
            "backend {} EJECTED for {} after {} failures: {reason}",
            place.label,
            span(ejection.until.since_ms(self.timers.now)),
            ejection.failures,
        );
        self.place_mut(id).ejected_here = true;
        self.tell_ejection(id);
        self.refresh_up(id);
    }

    /// Never the last usable one, never more than the configured share.
    fn may_eject(&self, upstream: &Upstream, id: BackendId) -> bool {
        let members = || {
            upstream
                .members
                .iter()
                .map(|&member| (member, self.backends.get(member)))
        };
        let ejected = members()
            .filter(|(_, backend)| backend.health.is_ejected())
            .count();
        let share_max = upstream.settings.passive.eject_percent_max as usize;
        self.has_others(id) && (ejected + 1) * 100 <= upstream.members.len() * share_max
    }

    /// Whether another backend of its upstream takes new clients.
    pub(crate) fn has_others(&self, id: BackendId) -> bool {
        let upstream = &self.upstreams[self.place(id).upstream as usize];
        upstream
            .members
            .iter()
            .any(|&member| member != id && self.backends.get(member).is_in_turn(false))
    }

    /// An ejection may have ended.
    pub(crate) fn on_eject_end(&mut self, id: BackendId) {
        if self.places[id.0 as usize].is_none() {
            return;
        }
        if self
            .backends
            .get_mut(id)
            .health
            .on_eject_end(self.timers.now)
        {
            let place = self.place_mut(id);
            if std::mem::take(&mut place.ejected_here) {
                info!(
                    "backend {} takes traffic again after its ejection",
                    place.label
                );
            }
            self.refresh_up(id);
        }
    }

    /// Takes the outcome of a probe: counts it, and logs the change that it made.
    pub(crate) fn on_probe(&mut self, id: BackendId, outcome: Result<(), Reason>) {
        let place = self.place(id);
        let cell = if outcome.is_ok() {
            BackendCell::ProbesPassed
        } else {
            BackendCell::ProbesFailed
        };
        self.count_backend(id, cell, 1);
        let settings = &self.upstreams[place.upstream as usize].settings;
        let Some(check) = &settings.health_check else {
            return;
        };
        let thresholds = crate::core::health::Thresholds {
            rise: check.rise,
            fall: check.fall,
        };
        let health = &mut self.backends.get_mut(id).health;
        let was_ejected = health.is_ejected();
        let transition = health.on_probe(outcome.is_ok(), thresholds, self.timers.now);
        let is_ejected = health.is_ejected();
        let label = &self.place(id).label;
        if let Some(change) = transition {
            let age = span(change.previous_ms);
            match (change.to, outcome) {
                (Verdict::Up, _) => {
                    info!(
                        "backend {label} UP after {} passed checks, down for {age}",
                        change.results
                    );
                }
                (Verdict::Down, reason) => {
                    let reason = reason.err().unwrap_or(Reason::Other);
                    warn!(
                        "backend {label} DOWN after {} failed checks: {reason}; up for {age}",
                        change.results
                    );
                }
            }
        } else if was_ejected && !is_ejected {
            info!("backend {label} takes traffic again: a check passed");
        }
        if outcome.is_ok() {
            self.place_mut(id).ejected_here = false;
            self.tell_ejection(id);
        }
        self.tell_finding(id, outcome.err());
        self.refresh_up(id);
    }

    /// The health of a backend may have changed: brings its gauge up to date, and has those who
    /// wait for it looked at.
    pub(crate) fn refresh_up(&mut self, id: BackendId) {
        self.recheck_line(id);
        let backend = self.backends.get(id);
        let column = self.place(id).column;
        if self.board.is_shared() && backend.is_retired() {
            // The column may belong to one that came back under its name.
            return;
        }
        let up = backend.health.is_usable();
        self.board.set(column, BackendCell::Up, u64::from(up));
    }

    /// No backend could be had: logged at most once a second and upstream.
    pub(crate) fn log_refused(&mut self, upstream: UpstreamSlot, listener: ListenerSlot) {
        let now = self.timers.now;
        let upstream = &mut self.upstreams[upstream as usize];
        if let Some(suppressed) = upstream.refused_log.allow(now) {
            let more = match suppressed {
                0 => String::new(),
                count => format!(" ({count} more since the last such line)"),
            };
            warn!(
                "listener {}: upstream {} has no usable backend{more}",
                self.listeners[listener].name, upstream.name
            );
        }
    }

    /// Counts a response by its status: of a backend once its final head is to pass, of weir's own
    /// when it is sent.
    pub(crate) fn count_code(&self, listener: ListenerSlot, status: u16) {
        self.count(listener, CodeClass::of(status), 1);
    }

    /// Counts for a listener.
    pub(crate) fn count(&self, listener: ListenerSlot, cell: impl Cell<Listeners>, count: u64) {
        self.board.add(self.listeners[listener].column, cell, count);
    }
}

fn eject_policy(passive: &model::Passive) -> EjectPolicy {
    let ms = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    EjectPolicy {
        failures: passive.failures,
        eject_ms: ms(passive.eject),
        eject_max_ms: ms(passive.eject_max),
    }
}

/// A span of time as a person reads it.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h{}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_read_like_the_configuration() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_500, "1.5s"),
            (61_000, "1m1s"),
            (7_260_000, "2h1m"),
        ] {
            assert_eq!(span(ms), text);
        }
    }
}
