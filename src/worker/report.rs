//! What a worker says of itself: the statistics line, and a census for whoever checks it.

use log::info;

use crate::board::{BackendCell, Cell, CountedListeners, ListenerCell};
use crate::core::account::Purpose;
use crate::core::handshake::Handshake;
use crate::core::http::oddity::Oddity;
use crate::core::layer::Kept;
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::connections::Owner;
use crate::worker::http::space::unix_ms;
use crate::worker::keys::key_of;
use crate::worker::memory_queue::Shortage;
use crate::worker::probe::Probe;
use crate::worker::session::Session;
use crate::worker::span::span;
use crate::worker::stats_text::UpstreamSums;
use crate::worker::timers::Timeout;
use crate::worker::told::Census;
use crate::worker::transport::Endpoint;

impl<N: Net> Worker<N> {
    /// Bytes of a session in the table. An idle HTTP one takes only that and its timer, an idle TCP
    /// one its backend connection, too.
    #[must_use]
    pub const fn session_bytes() -> usize {
        size_of::<crate::worker::session::Session<N>>()
    }

    /// Bytes of a backend connection in the table, in use or parked.
    #[must_use]
    pub const fn connection_bytes() -> usize {
        size_of::<crate::worker::connections::Connection<N>>()
    }

    /// What it counts in.
    #[must_use]
    pub fn board(&self) -> &crate::board::Board {
        &self.shared.board
    }

    /// Counts what the worker holds.
    #[must_use]
    pub fn census(&self) -> Census {
        Census {
            sessions: self.sessions.len(),
            leases: self.shared.upstreams.backends.leases(),
            buffers_lent: self.shared.io.buffers.lent(),
            bytes_waiting: self.shared.io.buffers.account().total(),
            records_waiting: self.shared.io.layers_kept.total(),
            short: self.memory_queue.len(),
            pipes_lent: self.shared.io.pipes.lent(),
            timers: self.shared.timers.wheel.len(),
            listeners_open: self
                .shared
                .listeners
                .list
                .iter()
                .filter(|l| l.sockets.is_open())
                .count(),
            upstreams: self.shared.upstreams.list.len(),
            queued: self.runnable.len()
                + self.runnable_probes.len()
                + self.runnable_listeners.len(),
            stale_events: self.shared.io.stale_events,
        }
    }

    /// Access log lines that wait to be written; the caller takes from the front what it has
    /// written. None when accesses are not logged.
    pub fn access_lines(&mut self) -> Option<&mut Vec<u8>> {
        self.shared.http.log.as_mut().map(|log| log.pending())
    }

    /// Whether lines of the access log wait to be written.
    pub(crate) fn has_access_lines(&self) -> bool {
        let log = self.shared.http.log.as_ref();
        log.is_some_and(|log| log.has_pending())
    }

    /// Access log lines that were lost because too many waited, or were given up.
    #[must_use]
    pub fn access_lines_lost(&self) -> u64 {
        self.shared.http.lines_lost()
    }

    /// So many access log lines could not be sent.
    pub(crate) fn lose_access_lines(&mut self, lines: u64) {
        if let Some(log) = &mut self.shared.http.log {
            log.lose(lines);
        }
    }

    /// Gives up the access log lines that wait: they count as lost.
    pub fn give_up_access_lines(&mut self) {
        if let Some(log) = &mut self.shared.http.log {
            log.give_up();
        }
    }

    /// Shows the other processes how many access log lines were lost.
    pub fn show_lines_lost(&self) {
        self.shared.board.set_lines_lost(self.access_lines_lost());
    }

    /// A counter or gauge of the listener of that name.
    #[must_use]
    pub fn listener_count(&self, name: &str, cell: impl Cell<CountedListeners>) -> Option<u64> {
        let listener = self
            .shared
            .listeners
            .list
            .iter()
            .find(|listener| listener.name == name)?;
        Some(self.shared.board.get(listener.column, cell))
    }

    /// How many handshakes of the listener of that name have ended so.
    #[must_use]
    pub fn handshake_count(&self, name: &str, ended: Handshake) -> Option<u64> {
        let mut listeners = self.shared.listeners.list.iter();
        let listener = listeners.find(|listener| listener.name == name)?;
        Some(self.shared.board.get(listener.handshakes?, ended))
    }

    /// A counter or gauge of a backend, named `upstream/identity`.
    #[must_use]
    pub fn backend_count(&self, label: &str, cell: BackendCell) -> Option<u64> {
        let entry = self
            .shared
            .upstreams
            .entries
            .iter()
            .flatten()
            .find(|entry| entry.label == label)?;
        Some(self.shared.board.get(entry.column, cell))
    }

    /// Responses of backends that were odd in this way and taken all the same.
    #[must_use]
    pub fn oddities(&self, kind: Oddity) -> u64 {
        self.shared.board.oddities(kind)
    }

    /// Checks what must hold between two turns.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        let leases = self
            .sessions
            .iter()
            .filter(|(_, session)| session.has_lease())
            .count();
        if leases != self.shared.upstreams.backends.leases() {
            let out = self.shared.upstreams.backends.leases();
            return Err(format!("sessions hold {leases} leases, {out} are out"));
        }
        for (key, session) in &self.sessions {
            if session.timer.is_none() && !session.queued {
                return Err(format!("session {key} has no deadline"));
            }
        }
        let active: usize = self
            .shared
            .listeners
            .list
            .iter()
            .map(|listener| listener.active)
            .sum();
        if active != self.sessions.len() {
            return Err(format!(
                "listeners count {active} of {} sessions",
                self.sessions.len()
            ));
        }
        self.check_connections()?;
        self.check_descriptor_queue()?;
        self.check_queues()?;
        self.check_handshakes()?;
        self.check_buffers()?;
        if self.runnable.len() > self.sessions.len() {
            return Err(format!("{} sessions are queued", self.runnable.len()));
        }
        Ok(())
    }

    fn check_descriptor_queue(&self) -> Result<(), String> {
        let waiting = self.sessions.iter().filter(|(_, s)| s.awaits_descriptor());
        let (waiting, queued) = (waiting.count(), self.shared.descriptor_queue.len());
        if waiting != queued {
            return Err(format!(
                "{waiting} sessions wait for a descriptor, {queued} are queued"
            ));
        }
        Ok(())
    }

    /// Who waits for a full backend is in one queue, once.
    fn check_queues(&self) -> Result<(), String> {
        let mut bound = 0;
        for (slot, upstream) in self.shared.upstreams.list.iter().enumerate() {
            let here = |session: &Session<N>| session.queue() == Some(key_of(slot));
            let waiting = self.sessions.iter().filter(|(_, session)| here(session));
            let waiting = waiting.map(|(key, session)| session.id(key_of(key)));
            let mut queued: Vec<_> = upstream.queue.iter().map(|(id, _)| id).collect();
            queued.sort_by_key(|id| id.key);
            if !waiting.eq(queued.iter().copied()) {
                let name = &upstream.name;
                return Err(format!(
                    "upstream {name}: {queued:?} do not wait as they are queued"
                ));
            }
            bound += upstream.queue.iter().filter(|(_, id)| id.is_some()).count();
        }
        let counted = self.shared.upstreams.backends.waiting();
        if bound != counted {
            return Err(format!("{bound} wait for a backend, {counted} are counted"));
        }
        Ok(())
    }

    /// Who waits for the turn of handshakes is in a line, and nobody else but those who have gone.
    fn check_handshakes(&self) -> Result<(), String> {
        let clients = self.sessions.iter().map(|(_, session)| &session.client);
        let backends = self.shared.connections.iter().map(|(_, it)| &it.endpoint);
        let waiting = clients.chain(backends).filter(|it| it.awaits_work());
        let handshakes = &self.shared.handshakes;
        match (waiting.count(), handshakes.waiting() - handshakes.gone()) {
            (waiting, queued) if waiting == queued => Ok(()),
            (waiting, queued) => Err(format!("{waiting} handshakes wait, {queued} are queued")),
        }
    }

    fn check_buffers(&self) -> Result<(), String> {
        let (mut buffers, mut pipes) = (0, 0);
        for (_, session) in &self.sessions {
            let (more_buffers, more_pipes) = session.held();
            buffers += more_buffers;
            pipes += more_pipes;
        }
        self.check_account()?;
        self.check_shortage()?;
        let io = &self.shared.io;
        if (buffers, pipes) != (io.buffers.lent(), io.pipes.lent()) {
            return Err(format!(
                "sessions hold {buffers} buffers and {pipes} pipes, {} and {} are lent",
                io.buffers.lent(),
                io.pipes.lent()
            ));
        }
        Ok(())
    }

    fn check_shortage(&self) -> Result<(), String> {
        let waiting = self.sessions.iter();
        let waiting = waiting.filter(|(_, session)| session.shortage == Shortage::Queued);
        match (waiting.count(), self.memory_queue.len()) {
            (waiting, queued) if waiting == queued => Ok(()),
            (waiting, queued) => Err(format!("{waiting} wait for memory, {queued} are queued")),
        }
    }

    /// The account is charged with what sessions hold, and with nothing else.
    fn check_account(&self) -> Result<(), String> {
        let mut held = [0; 4];
        for (_, session) in &self.sessions {
            let waiting = session.waiting();
            held.iter_mut()
                .zip(waiting)
                .for_each(|(sum, it)| *sum += it);
        }
        let clients = self.sessions.iter().map(|(_, session)| &session.client);
        let connections = self.shared.connections.iter();
        let backends = connections.map(|(_, connection)| &connection.endpoint);
        let mut kept = Kept::default();
        for one in clients.chain(backends).map(Endpoint::kept) {
            kept.ahead += one.ahead;
            kept.input += one.input;
            kept.output += one.output;
        }
        let noted = self.shared.io.layers_kept;
        if noted != kept {
            return Err(format!("layers keep {kept:?}, not {noted:?}"));
        }
        held[Purpose::Transit as usize] += kept.in_transit();
        held[Purpose::Input as usize] += kept.ahead;
        let account = self.shared.io.buffers.account();
        let purposes = [
            Purpose::Transit,
            Purpose::Input,
            Purpose::Request,
            Purpose::Response,
        ];
        let charged = purposes.map(|purpose| account.used(purpose));
        match held == charged && account.total() == charged.iter().sum::<usize>() {
            true => Ok(()),
            false => Err(format!("{held:?} bytes wait, {charged:?} are charged")),
        }
    }

    /// Arms the next statistics line anew.
    pub(crate) fn arm_stats(&mut self) {
        if let Some(timer) = self.report.timer.take() {
            self.shared.timers.wheel.cancel(timer);
        }
        if self.shared.board.is_shared() {
            // The supervisor prints those of the whole machine.
            return;
        }
        if let Some(interval) = self.report.stats_interval {
            let at = self.shared.timers.now.after(interval);
            self.report.timer = Some(self.shared.timers.wheel.arm(at, Timeout::Stats));
        }
    }

    pub(crate) fn on_stats_timer(&mut self) {
        self.report.timer = None;
        self.print_stats(false);
        self.arm_stats();
    }

    /// Prints the statistics, unless nothing has changed since the last time.
    pub(crate) fn print_stats(&mut self, at_end: bool) {
        if self.shared.board.is_shared() {
            return;
        }
        let uptime = span(self.shared.timers.now.since_ms(self.report.started));
        for line in self.stats_lines(at_end, &uptime) {
            info!("stats: {line}");
        }
    }

    fn stats_lines(&mut self, at_end: bool, uptime: &str) -> Vec<String> {
        let (now, sessions) = (self.shared.timers.now, self.sessions.len() as u64);
        let lines_lost = self.access_lines_lost();
        let mut saying = self.report.said.begin(now, sessions, at_end);
        let board = &self.shared.board;
        for listener in &self.shared.listeners.list {
            let get = |cell: ListenerCell| board.get(listener.column, cell);
            let handshakes = listener.handshakes;
            let ended = handshakes.map(|column| move |ended| board.get(column, ended));
            let ended = ended.as_ref().map(|get| get as &dyn Fn(Handshake) -> u64);
            saying.listener(&listener.name, get, ended);
        }
        let upstreams = &self.shared.upstreams;
        for upstream in &upstreams.list {
            let mut sums = UpstreamSums::none();
            for &member in &upstream.members {
                let column = upstreams.entry(member).column;
                let identity = &upstreams.backends.get(member).identity;
                sums.add(identity, |cell| board.get(column, cell));
            }
            saying.upstream(&upstream.name, &sums);
        }
        let expiries = self.report.expiries_unix_s.iter();
        let expiries = expiries.map(|(name, at)| (name.as_str(), *at));
        saying.certificates(expiries, unix_ms(&self.shared.io.net) / 1000);
        saying.oddities(|kind| board.oddities(kind));
        saying.access_log(lines_lost);
        saying.finish(uptime)
    }

    /// Every connection has the owner that it names, and nobody else has a key to it.
    pub(crate) fn check_connections(&self) -> Result<(), String> {
        let shared = &self.shared;
        for (key, connection) in shared.connections.iter() {
            let is_held = match connection.owner {
                Owner::Session(session) => {
                    let session = self.sessions.get(session as usize);
                    session.and_then(Session::connection) == Some(key)
                }
                Owner::Parked => shared.upstreams.is_parked(connection.backend, key),
                Owner::Probe(probe) => {
                    let probe = self.probes.get(probe as usize);
                    probe.and_then(Probe::connection) == Some(key)
                }
            };
            if !is_held {
                let owner = connection.owner;
                return Err(format!("connection {key} is not that of {owner:?}"));
            }
        }
        let in_use = self.sessions.iter().filter_map(|(_, it)| it.connection());
        let parked = shared
            .upstreams
            .entries
            .iter()
            .flatten()
            .map(|it| it.parked.len());
        let probing = self.probes.iter().filter_map(|(_, it)| it.connection());
        let held = in_use.count() + parked.sum::<usize>() + probing.count();
        match shared.connections.0.len() {
            open if open == held => Ok(()),
            open => Err(format!("{open} connections are open, {held} are held")),
        }
    }
}
