//! The statistics of the whole machine: the sums of what all workers count.

use std::time::{Duration, SystemTime};

use log::info;

use crate::board::{CountedHandshakes, ListenerCell};
use crate::core::handshake::Handshake;
use crate::core::time::Tick;
use crate::net::Net as _;
use crate::supervisor::Supervisor;
use crate::worker::stats_text::{self, Said, UpstreamSums};

/// When they are printed, and what was said last.
#[derive(Debug)]
pub(super) struct Stats {
    started: Tick,
    interval: Option<Duration>,
    next: Option<Tick>,
    said: Said,
}

impl Stats {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            started: now,
            interval: None,
            next: None,
            said: Said::nothing(now),
        }
    }

    /// When the first program of this process was started.
    pub(super) fn started(&self) -> Tick {
        self.started
    }

    /// Goes on counting where the program before has ended.
    pub(super) fn go_on_since(&mut self, started: Tick) {
        self.started = started;
    }

    pub(super) fn adopt(&mut self, now: Tick, interval: Option<Duration>) {
        if self.interval != interval {
            self.interval = interval;
            self.next = interval.map(|interval| now.after(interval));
        }
    }

    pub(super) fn deadline(&self) -> Option<Tick> {
        self.next
    }
}

impl Supervisor {
    pub(super) fn print_stats_in_time(&mut self) {
        if self.stats.next.is_some_and(|at| at <= self.now) {
            let interval = self.stats.interval;
            self.stats.next = interval.map(|interval| self.now.after(interval));
            self.print_stats(false);
        }
    }

    /// Prints them, unless nothing has changed since the last time.
    pub(super) fn print_stats(&mut self, at_end: bool) {
        let uptime = stats_text::span(self.now.since_ms(self.stats.started));
        for line in self.stats_lines(at_end, &uptime) {
            info!("stats: {line}");
        }
    }

    fn stats_lines(&mut self, at_end: bool, uptime: &str) -> Vec<String> {
        let workers = self.serving_workers();
        let (board, mut last) = (&self.board, 0);
        let sessions = board.sessions_elsewhere();
        let mut saying = self.stats.said.begin(self.now, sessions, at_end);
        for listener in &self.config.listeners {
            let name = listener.column_name();
            let Some(column) = board.find_next(&name, &mut last) else {
                continue;
            };
            let get = |cell: ListenerCell| board.total(column, cell);
            let handshakes = board.find::<CountedHandshakes>(&name);
            let handshakes = handshakes.filter(|_| listener.expects_hello());
            let ended = handshakes.map(|column| move |ended| board.total(column, ended));
            let ended = ended.as_ref().map(|get| get as &dyn Fn(Handshake) -> u64);
            saying.listener(&listener.name, get, ended);
        }
        for upstream in &self.config.upstreams {
            let mut sums = UpstreamSums::none();
            for backend in &upstream.backends {
                let name = upstream.backend_column_name(&backend.identity);
                if let Some(column) = board.find_next(&name, &mut last) {
                    sums.add(&backend.identity, |cell| board.total(column, cell));
                }
            }
            saying.upstream(&upstream.name, &sums);
        }
        let expiries = stats_text::expiries(&self.config);
        let since = self.reactor.wall().duration_since(SystemTime::UNIX_EPOCH);
        let now_unix_s = since.map_or(0, |since| since.as_secs());
        saying.certificates(expiries, now_unix_s);
        saying.oddities(|kind| board.oddities(kind));
        saying.access_log(board.lines_lost());
        saying.workers(workers);
        saying.finish(uptime)
    }

    fn serving_workers(&self) -> usize {
        self.workers
            .iter()
            .filter(|managed| managed.serves())
            .count()
    }
}
