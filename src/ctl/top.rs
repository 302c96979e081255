//! `weir top`: how everything goes, as it goes.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::ctl::client::{self, Answer, Failure, Method};
use crate::ctl::report::{BackendReport, Report};
use crate::ctl::tables::{Table, bytes, span, weight};
use crate::sys::signal::{Signal, Signals};
use crate::sys::terminal::{self, Heard, Keys};

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// From here on: home, and each line cleared to its end.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";
const BOLD: &str = "\x1b[1m";
const REVERSE: &str = "\x1b[7m";
const PLAIN: &str = "\x1b[0m";

/// By what backends are in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    File,
    Rate,
    Now,
    Failures,
}

impl Order {
    fn next(self) -> Self {
        match self {
            Self::File => Self::Rate,
            Self::Rate => Self::Now,
            Self::Now => Self::Failures,
            Self::Failures => Self::File,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Rate => "rate",
            Self::Now => "connections",
            Self::Failures => "failures",
        }
    }
}

/// What is shown, and how.
#[derive(Debug)]
struct View {
    order: Order,
    filter: String,
    /// Whether keys go into the filter.
    is_filtering: bool,
    is_paused: bool,
    /// The first line of the table that is shown.
    first: usize,
    report: Report,
    before: Option<Report>,
    trouble: Option<String>,
}

/// Shows it until a key, a signal or the end of the terminal ends it.
///
/// # Errors
/// When there is no terminal, or it breaks.
pub(super) fn run(socket: &Path) -> Result<(), String> {
    if !terminal::is_there() {
        return Err(
            "top needs a terminal, and not a dumb one; `weir ctl backends` prints once".to_owned(),
        );
    }
    let report = ask(socket)?;
    let mut signals = Signals::open_at_terminal().map_err(|error| error.to_string())?;
    let keys = Keys::take().map_err(|error| error.to_string())?;
    let shown = show(ENTER).and_then(|()| loop_until_end(socket, &mut signals, &keys, report));
    let left = show(LEAVE);
    drop(keys);
    shown.and(left).map_err(|error| error.to_string())
}

fn loop_until_end(
    socket: &Path,
    signals: &mut Signals,
    keys: &Keys,
    report: Report,
) -> io::Result<()> {
    let mut view = View {
        order: Order::File,
        filter: String::new(),
        is_filtering: false,
        is_paused: false,
        first: 0,
        report,
        before: None,
        trouble: None,
    };
    loop {
        show(&view.screen(terminal::size()))?;
        match terminal::hear(&*signals, INTERVAL)? {
            Heard::Keys(keys) => {
                if view.press(&keys) {
                    return Ok(());
                }
            }
            Heard::Nothing => view.renew(socket),
            Heard::Other if signals.next() == Some(Signal::Stop) => {
                show(LEAVE)?;
                keys.stop(signals)?;
                show(ENTER)?;
            }
            Heard::Other | Heard::End => return Ok(()),
        }
    }
}

fn show(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn ask(socket: &Path) -> Result<Report, String> {
    match client::ask(socket, Method::Get, "/status.json") {
        Ok(Answer { status: 200, body }) => {
            Report::read(&body).ok_or_else(|| "weir says what is no status".to_owned())
        }
        Ok(Answer { body, .. }) => Err(body.trim_end().to_owned()),
        Err(Failure::Late) => Err(client::LATE.to_owned()),
        Err(Failure::NotRunning(words) | Failure::Broken(words)) => Err(words),
    }
}

impl View {
    fn renew(&mut self, socket: &Path) {
        if self.is_paused {
            return;
        }
        match ask(socket) {
            Ok(report) => {
                self.trouble = None;
                self.before = Some(std::mem::replace(&mut self.report, report));
            }
            Err(words) => self.trouble = Some(words),
        }
    }

    /// Does what keys say. True at the end.
    fn press(&mut self, keys: &[u8]) -> bool {
        if let [b'\x1b', b'[', key, ..] = keys {
            match key {
                b'A' => self.first = self.first.saturating_sub(1),
                b'B' => self.first += 1,
                b'5' => self.first = self.first.saturating_sub(10),
                b'6' => self.first += 10,
                _ => {}
            }
            return false;
        }
        keys.iter().any(|key| self.press_one(*key))
    }

    fn press_one(&mut self, key: u8) -> bool {
        match (self.is_filtering, key) {
            (_, 3 | 4) => return true,
            (_, 26) => terminal::ask_to_stop(),
            (true, b'\r' | b'\n') => self.is_filtering = false,
            (true, b'\x1b') => {
                self.is_filtering = false;
                self.filter.clear();
            }
            (true, 8 | 127) => {
                self.filter.pop();
            }
            (true, b' '..=b'~') => self.filter.push(char::from(key)),
            (false, b'q' | b'Q' | b'\x1b') => return true,
            (false, b'p' | b' ') => self.is_paused = !self.is_paused,
            (false, b's') => self.order = self.order.next(),
            (false, b'/') => {
                self.is_filtering = true;
                self.filter.clear();
                self.first = 0;
            }
            (_, _) => {}
        }
        false
    }

    /// Everything, for a terminal of so many columns and rows.
    fn screen(&mut self, (columns, rows): (usize, usize)) -> String {
        let mut lines = self.head();
        let room = rows.saturating_sub(lines.len() + 2).max(1);
        let table = self.backends();
        let (heads, body) = table
            .split_first()
            .map_or((None, &[][..]), |(head, body)| (Some(head.clone()), body));
        self.first = self.first.min(body.len().saturating_sub(room));
        lines.extend(heads.map(|head| (REVERSE, head)));
        let shown = body.iter().skip(self.first).take(room);
        lines.extend(shown.map(|line| ("", line.clone())));
        let below = rows.saturating_sub(lines.len() + 1);
        lines.extend(std::iter::repeat_n(("", String::new()), below));
        lines.truncate(rows.saturating_sub(1));
        lines.push((BOLD, self.foot(body.len(), room)));
        let mut text = HOME.to_owned();
        for (at, (style, line)) in lines.iter().enumerate() {
            let line: String = line.chars().take(columns).collect();
            let end = if at + 1 < lines.len() { "\r\n" } else { "" };
            text += &format!("{style}{line}{PLAIN}{CLEAR_LINE}{end}");
        }
        text + CLEAR_BELOW
    }

    fn head(&self) -> Vec<(&'static str, String)> {
        let report = &self.report;
        let up = span(
            report
                .now_unix_ms
                .saturating_sub(report.started_unix_s * 1000),
        );
        let first = format!(
            "weir {}  process {}  {}  up {up}  workers {}",
            report.version,
            report.pid,
            report.phase,
            // A process on its own is its only one.
            report.workers_wanted.max(1)
        );
        let mut lines = vec![(BOLD, first)];
        for listener in &report.listeners {
            let earlier = self.before.as_ref().and_then(|it| {
                let mut listeners = it.listeners.iter();
                listeners.find(|it| it.name == listener.name)
            });
            let rate = |now: u64, then: Option<u64>| self.rate(now, then);
            lines.push((
                "",
                format!(
                    "{} ({})  now {}  accepted {}/s  requests {}/s  in {}/s  out {}/s",
                    listener.name,
                    listener.mode,
                    listener.active,
                    rate(listener.accepted, earlier.map(|it| it.accepted)),
                    rate(listener.requests, earlier.map(|it| it.requests)),
                    bytes(rate(listener.bytes_in, earlier.map(|it| it.bytes_in))),
                    bytes(rate(listener.bytes_out, earlier.map(|it| it.bytes_out))),
                ),
            ));
        }
        lines.truncate(6);
        lines.push(("", String::new()));
        lines
    }

    fn foot(&self, count: usize, room: usize) -> String {
        if self.is_filtering {
            return format!("filter: {}_", self.filter);
        }
        if let Some(trouble) = &self.trouble {
            return format!("{trouble}; q ends");
        }
        let paused = if self.is_paused { "paused  " } else { "" };
        let last = (self.first + room).min(count);
        let first = (self.first + 1).min(count);
        format!(
            "{paused}{first}-{last} of {count}  by {}  s sort  / filter {}  p pause  q quit",
            self.order.word(),
            self.filter
        )
    }

    /// In a second, as far as something was there before.
    fn rate(&self, now: u64, then: Option<u64>) -> u64 {
        let Some(before) = &self.before else { return 0 };
        let ms = self.report.now_unix_ms.saturating_sub(before.now_unix_ms);
        let grown = then.map_or(0, |then| now.saturating_sub(then));
        grown.saturating_mul(1000) / ms.max(1)
    }

    /// The lines of the table, the heads first.
    fn backends(&self) -> Vec<String> {
        let mut known: HashMap<(&str, &str), &BackendReport> = HashMap::new();
        for upstream in self.before.iter().flat_map(|it| &it.upstreams) {
            for backend in &upstream.backends {
                known.insert((&upstream.name, &backend.name), backend);
            }
        }
        let upstreams = self.report.upstreams.iter();
        let all = upstreams.flat_map(|it| it.backends.iter().map(|b| (it.name.as_str(), b)));
        let is_shown = |(upstream, backend): &(&str, &BackendReport)| {
            let label = format!("{upstream}/{} {}", backend.name, backend.observed);
            label.contains(&self.filter)
        };
        let mut rows: Vec<(&str, &BackendReport, u64)> = Vec::new();
        for (upstream, backend) in all.filter(is_shown) {
            let before = known.get(&(upstream, backend.name.as_str()));
            let rate = self.rate(backend.picks, before.map(|it| it.picks));
            rows.push((upstream, backend, rate));
        }
        match self.order {
            Order::File => {}
            Order::Rate => rows.sort_by_key(|(_, _, rate)| std::cmp::Reverse(*rate)),
            Order::Now => rows.sort_by_key(|(_, it, _)| std::cmp::Reverse(it.active)),
            Order::Failures => rows.sort_by_key(|(_, it, _)| std::cmp::Reverse(it.failures)),
        }
        let mut table = Table::new(&[
            "UPSTREAM", "BACKEND", "STATE", "BY HAND", ">WEIGHT", ">RATE", ">NOW", ">PICKS",
            ">FAILED", "REASON",
        ]);
        for (upstream, backend, rate) in rows {
            table.row(vec![
                upstream.to_owned(),
                backend.name.clone(),
                backend.observed.clone(),
                backend.administered.clone(),
                weight(backend),
                format!("{rate}/s"),
                backend.active.to_string(),
                backend.picks.to_string(),
                backend.failures.to_string(),
                backend.reason.clone().unwrap_or_default(),
            ]);
        }
        table.lines()
    }
}
