//! The statistics line of the whole machine: the sums of what all workers count.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use log::info;

use crate::board::{BackendCell, CountedHandshakes, ListenerCell};
use crate::config::model::Mode;
use crate::core::handshake::Handshake;
use crate::core::time::Tick;
use crate::net::Net as _;
use crate::supervisor::Supervisor;
use crate::worker::stats_text;

/// When the line is printed.
#[derive(Debug)]
pub(super) struct Stats {
    started: Tick,
    interval: Option<Duration>,
    next: Option<Tick>,
    last_line: String,
}

impl Stats {
    pub(super) fn new(now: Tick) -> Self {
        Self {
            started: now,
            interval: None,
            next: None,
            last_line: String::new(),
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

    /// Prints the line, unless nothing has changed since the last one.
    pub(super) fn print_stats(&mut self, at_end: bool) {
        let line = self.stats_line(at_end);
        if !at_end && line == self.stats.last_line {
            return;
        }
        let uptime = stats_text::span(self.now.since_ms(self.stats.started));
        info!("stats: uptime {uptime}; {line}");
        self.stats.last_line = line;
    }

    fn stats_line(&self, at_end: bool) -> String {
        let mut line = format!("sessions {}", self.board.sessions_elsewhere());
        let board = &self.board;
        let mut last = 0;
        for listener in &self.config.listeners {
            let Some(column) = board.find_next(&listener.column_name(), &mut last) else {
                continue;
            };
            let get = |cell: ListenerCell| board.total(column, cell);
            let is_http = matches!(listener.mode, Mode::Http(_));
            stats_text::listener(&mut line, &listener.name, is_http, get);
            if listener.expects_hello()
                && let Some(column) = board.find::<CountedHandshakes>(&listener.column_name())
            {
                let get = |ended: Handshake| board.total(column, ended);
                stats_text::handshakes(&mut line, listener.tls.is_some(), get);
            }
        }
        for upstream in &self.config.upstreams {
            for backend in &upstream.backends {
                let name = upstream.backend_column_name(&backend.identity);
                let Some(column) = board.find_next(&name, &mut last) else {
                    continue;
                };
                let label = format!("{}/{}", upstream.name, backend.identity);
                // Each worker learns it for itself.
                let get = |cell: BackendCell| match cell == BackendCell::IdleLimit {
                    true => board.largest(column, cell),
                    false => board.total(column, cell),
                };
                // At the end nobody is there who would know whether it is up.
                let is_up = (!at_end).then(|| get(BackendCell::Up) > 0);
                stats_text::backend(&mut line, &label, is_up, get);
            }
        }
        let expiries = stats_text::expiries(&self.config);
        let since = self.reactor.wall().duration_since(SystemTime::UNIX_EPOCH);
        let now_unix_s = since.map_or(0, |since| since.as_secs());
        stats_text::certificates(&mut line, expiries, now_unix_s);
        stats_text::oddities(&mut line, |kind| board.oddities(kind));
        stats_text::access_log(&mut line, board.lines_lost());
        let _ = write!(line, "; workers {}", self.serving_workers());
        line
    }

    fn serving_workers(&self) -> usize {
        self.workers
            .iter()
            .filter(|managed| managed.serves())
            .count()
    }
}
