//! Tables for people.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use crate::core::text::{plural, whole_days};
use crate::ctl::report::{BackendReport, Report, RouteReport, SessionsReport};
use crate::sys::terminal;

/// A table whose columns are as wide as what is in them; those of numbers are set to the right.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
struct Column {
    head: &'static str,
    is_number: bool,
    /// Whether it may be left out where there is no room.
    is_spare: bool,
}

impl Table {
    /// The heads of its columns; one that begins with `?` may be left out, the first one first,
    /// and one that then begins with `>` is of numbers.
    pub(super) fn new(heads: &[&'static str]) -> Self {
        let columns = heads.iter().map(|head| {
            let spare = head.strip_prefix('?');
            let head = spare.unwrap_or(head);
            let number = head.strip_prefix('>');
            Column {
                head: number.unwrap_or(head),
                is_number: number.is_some(),
                is_spare: spare.is_some(),
            }
        });
        Self {
            columns: columns.collect(),
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// Its lines, the heads first; of a terminal that is too narrow for all columns, as many as it
    /// has room for.
    pub(super) fn text(mut self) -> String {
        if io::stdout().is_terminal() {
            self.fit(terminal::size().0);
        }
        self.lines().join("\n") + "\n"
    }

    fn fit(&mut self, width_max: usize) {
        let width = |it: &Self| {
            let widths = it.widths();
            widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
        };
        while width(self) > width_max
            && let Some(at) = self.columns.iter().position(|it| it.is_spare)
        {
            self.columns.remove(at);
            for row in &mut self.rows {
                row.remove(at);
            }
        }
    }

    /// Its lines, the heads first.
    pub(super) fn lines(&self) -> Vec<String> {
        let widths = self.widths();
        let heads = self.columns.iter().map(|column| column.head.to_owned());
        let heads: Vec<String> = heads.collect();
        let all = std::iter::once(&heads).chain(&self.rows);
        all.map(|row| self.line(row, &widths)).collect()
    }

    fn widths(&self) -> Vec<usize> {
        let width = |(at, column): (usize, &Column)| {
            let cells = self.rows.iter().map(|row| letters(&row[at]));
            cells.fold(letters(column.head), usize::max)
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, column), width) in cells.iter().zip(&self.columns).zip(widths) {
            let blanks = " ".repeat(width - letters(cell));
            let (before, behind) = match column.is_number {
                true => (blanks.as_str(), ""),
                false => ("", blanks.as_str()),
            };
            let _ = write!(line, "{before}{cell}{behind}{GAP}");
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Between two columns.
const GAP: &str = "  ";

fn letters(text: &str) -> usize {
    text.chars().count()
}

/// How weir is, in a few lines.
pub(super) fn status(report: &Report) -> String {
    let now_s = report.now_unix_ms / 1000;
    let ago = |then_s: u64| span(now_s.saturating_sub(then_s) * 1000);
    let mut text = format!(
        "weir {}, process {}, {}, up {}",
        report.version,
        report.pid,
        report.phase,
        ago(report.started_unix_s)
    );
    if report.workers_wanted > 0 {
        let s = plural(report.workers_wanted == 1);
        let _ = write!(text, ", {} worker{s}", report.workers_wanted);
    }
    let _ = write!(
        text,
        "\nconfiguration adopted {} ago; reloads: {} done, {} refused\n",
        ago(report.adopted_unix_s),
        report.reloads_done,
        report.reloads_refused
    );
    for upstream in &report.upstreams {
        let is_up = |it: &&BackendReport| it.observed == "up";
        let up = upstream.backends.iter().filter(is_up).count();
        let all = upstream.backends.len();
        let _ = writeln!(text, "upstream {}: {up} of {all} up", upstream.name);
    }
    let all = report.upstreams.iter();
    let all = all.flat_map(|it| it.backends.iter().map(|backend| (&it.name, backend)));
    for (upstream, backend) in all.clone().filter(|(_, it)| it.observed != "up") {
        let why = backend.reason.as_deref().unwrap_or("no reason is known");
        let _ = writeln!(
            text,
            "  {upstream}/{} {}: {why}",
            backend.name, backend.observed
        );
    }
    for (upstream, backend) in all.filter(|(_, it)| it.is_steered()) {
        let _ = write!(
            text,
            "by hand: {upstream}/{} {}",
            backend.name, backend.administered
        );
        let _ = match backend.weight == backend.configured_weight {
            true => writeln!(text),
            false => writeln!(
                text,
                ", weight {} (file: {})",
                backend.weight, backend.configured_weight
            ),
        };
    }
    text
}

/// Each backend, of one upstream or of all.
pub(super) fn backends(report: &Report, only: Option<&str>) -> Option<String> {
    let mut table = Table::new(&[
        "UPSTREAM",
        "BACKEND",
        "OBSERVED",
        ">SINCE",
        "BY HAND",
        ">WEIGHT",
        ">NOW",
        "?>PICKS",
        ">FAILED",
        "?>RETRIES",
        "?>IN",
        "?>OUT",
        "LAST REASON",
    ]);
    let is_meant = |name: &str| only.is_none_or(|only| only == name);
    if only.is_some() && !report.upstreams.iter().any(|it| is_meant(&it.name)) {
        return None;
    }
    for upstream in report.upstreams.iter().filter(|it| is_meant(&it.name)) {
        for backend in &upstream.backends {
            table.row(vec![
                upstream.name.clone(),
                backend.name.clone(),
                backend.observed.clone(),
                backend.since_ms.map_or_else(|| "-".to_owned(), span),
                backend.administered.clone(),
                weight(backend),
                backend.active.to_string(),
                backend.picks.to_string(),
                backend.failures.to_string(),
                backend.retries.to_string(),
                bytes(backend.bytes_in),
                bytes(backend.bytes_out),
                backend.reason.clone().unwrap_or_default(),
            ]);
        }
    }
    Some(table.text())
}

/// What it is, and what the file says where that differs.
pub(super) fn weight(backend: &BackendReport) -> String {
    match backend.weight == backend.configured_weight {
        true => backend.weight.to_string(),
        false => format!("{} ({})", backend.weight, backend.configured_weight),
    }
}

/// Each listener.
pub(super) fn listeners(report: &Report) -> String {
    let mut table = Table::new(&[
        "LISTENER",
        "ADDRESS",
        "MODE",
        ">NOW",
        "?>ACCEPTED",
        ">REQUESTS",
        "?>IN",
        "?>OUT",
        ">CERTIFICATE",
    ]);
    for listener in &report.listeners {
        let now_s = i64::try_from(report.now_unix_ms / 1000).unwrap_or(i64::MAX);
        let days = |at: i64| {
            let left_s = at.saturating_sub(now_s);
            let left_s = u64::try_from(left_s).ok().filter(|it| *it > 0);
            left_s.map_or_else(|| "expired".to_owned(), whole_days)
        };
        table.row(vec![
            listener.name.clone(),
            listener.address.clone(),
            listener.mode.clone(),
            listener.active.to_string(),
            listener.accepted.to_string(),
            listener.requests.to_string(),
            bytes(listener.bytes_in),
            bytes(listener.bytes_out),
            listener.expires_unix_s.map_or_else(|| "-".to_owned(), days),
        ]);
    }
    table.text()
}

/// Each route.
pub(super) fn routes(told: &str) -> Option<(String, String)> {
    let mut table = Table::new(&[
        "LISTENER", "HOST", "PATH", "METHODS", "LEADS TO", "?POLICY", ">2XX", ">3XX", ">4XX",
        ">5XX",
    ]);
    for it in RouteReport::read_all(told)? {
        let mut row = vec![
            it.listener,
            text_or(it.host, "*"),
            text_or(it.path, "-"),
            text_or(it.methods, "*"),
            it.leads_to,
            text_or(it.policy, "-"),
        ];
        let counts = it.responses.into_iter();
        row.extend(counts.map(|it| it.map_or_else(|| "-".to_owned(), |count| count.to_string())));
        table.row(row);
    }
    Some((table.text(), String::new()))
}

/// Each session, and what there is to say besides.
pub(super) fn sessions(told: &str) -> Option<(String, String)> {
    let told = SessionsReport::read(told)?;
    let mut table = Table::new(&[
        "ID",
        "LISTENER",
        "CLIENT",
        "BACKEND",
        "STATE",
        ">AGE",
        "?>IN",
        "?>OUT",
        "?>REQUESTS",
    ]);
    for it in told.sessions {
        table.row(vec![
            it.id,
            it.listener,
            text_or(it.client, "-"),
            text_or(it.backend, "-"),
            it.state,
            span(it.age_ms),
            bytes(it.bytes_in),
            bytes(it.bytes_out),
            it.requests.to_string(),
        ]);
    }
    let mut more = String::new();
    for pid in &told.silent_pids {
        let _ = writeln!(more, "weir: process {pid} has not told its sessions");
    }
    if !told.is_complete && told.silent_pids.is_empty() {
        more += "weir: there are more; `--max N` has up to 10000 told\n";
    }
    Some((table.text(), more))
}

/// What stands in a cell: the text, or this where it is empty.
fn text_or(text: String, other: &str) -> String {
    match text.is_empty() {
        true => other.to_owned(),
        false => text,
    }
}

/// A number of bytes as a person reads it.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut tenths = u128::from(count) * 10;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    match (unit, tenths) {
        (0, _) | (_, 1_000..) => format!("{} {}", tenths / 10, UNITS[unit]),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

/// A span of time as a person reads it.
pub(super) fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m{:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"version":"1","pid":7,"phase":"serving","now_unix_ms":200000,
        "started_unix_s":100,"adopted_unix_s":140,"reloads_done":2,"reloads_refused":1,
        "workers_wanted":2,"listeners":[{"name":"web","address":"[::]:80","mode":"http",
        "accepted":5,"active":1,"requests":9,"bytes_in":2048,"bytes_out":10,
        "expires_unix_s":864200}],"upstreams":[{"name":"app","algorithm":"round_robin",
        "checked":true,"backends":[{"name":"b1","configured_weight":1,"weight":3,
        "administered":"draining","observed":"up","reason":null,"since_ms":61000,"active":2,
        "picks":7,"bytes_in":1,"bytes_out":1536,"connect_failures":1,"answer_failures":2,
        "retries":4},{"name":"b2","configured_weight":1,"weight":1,"administered":"enabled",
        "observed":"down","reason":"connection \u0072efused","since_ms":1000}]}]}"#;

    #[test]
    fn a_status_says_what_is_not_as_it_should_be() {
        let report = Report::read(STATUS).expect("it is JSON");
        let text = status(&report);
        assert!(
            text.starts_with("weir 1, process 7, serving, up 1m40s, 2 workers\n"),
            "{text}"
        );
        assert!(
            text.contains("adopted 1m00s ago; reloads: 2 done, 1 refused"),
            "{text}"
        );
        assert!(text.contains("upstream app: 1 of 2 up"), "{text}");
        assert!(text.contains("  app/b2 down: connection refused"), "{text}");
        assert!(
            text.contains("by hand: app/b1 draining, weight 3 (file: 1)"),
            "{text}"
        );
    }

    #[test]
    fn columns_are_left_out_where_there_is_no_room() {
        let mut table = Table::new(&["NAME", "?>FIRST", "?SECOND", ">LAST"]);
        table.row(["a", "1", "x", "2"].map(str::to_owned).to_vec());
        for (width, line) in [
            (80, "NAME  FIRST  SECOND  LAST"),
            (25, "NAME  FIRST  SECOND  LAST"),
            (24, "NAME  SECOND  LAST"),
            (17, "NAME  LAST"),
            (0, "NAME  LAST"),
        ] {
            table.fit(width);
            assert_eq!(table.lines()[0], line, "{width}");
        }
        assert_eq!(table.lines()[1], "a        2");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let report = Report::read(STATUS).expect("it is JSON");
        let text = backends(&report, Some("app")).expect("it is there");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        let at = lines[0].find("OBSERVED").expect("a head");
        assert!(lines[1][at..].starts_with("up ") && lines[2][at..].starts_with("down "));
        assert!(lines[1].contains("3 (1)"), "{text}");
        assert_eq!(backends(&report, Some("other")), None);
        assert!(listeners(&report).contains("10 days"));
    }

    #[test]
    fn numbers_read_like_a_person_writes_them() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (1 << 20, "1.0 MiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (ms, text) in [(900, "0s"), (61_000, "1m01s"), (90_000_000, "1d01h")] {
            assert_eq!(span(ms), text);
        }
    }
}
