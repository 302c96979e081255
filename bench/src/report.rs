//! The results as a table for people and as JSON for programs.

use std::fmt::Write as _;

use crate::peers::Peer;
use crate::results::{Figure, Results, figures};
use crate::workload::Workload;

/// The whole table.
#[must_use]
pub fn table(results: &Results) -> String {
    let mut out = String::new();
    for (name, value) in &results.facts {
        let _ = writeln!(out, "{name}: {value}");
    }
    for workload in &results.workloads {
        let _ = write!(out, "\n{}", workload_table(results, workload));
    }
    if !results.syscalls.is_empty() {
        let _ = write!(out, "\n{}", syscall_table(results));
    }
    out
}

/// One workload: a row per peer, the best first, then those with errors.
fn workload_table(results: &Results, workload: &Workload) -> String {
    let columns = figures(workload);
    let unit = workload.unit().name();
    let mut out = format!("{} ({}), unit: {unit}\n", workload.title, workload.name);
    let _ = write!(out, "  {:<15}{:>7}", "", "x weir");
    for (i, column) in columns.iter().enumerate() {
        let title = if column.unit.is_empty() {
            column.title.to_owned()
        } else {
            format!("{} {}", column.title, column.unit)
        };
        let _ = write!(out, "{title:>14}");
        if i == 0 {
            let _ = write!(out, "{:>8}", "spread");
        }
    }
    out.push('\n');
    for peer in ordered(results, workload, columns[0]) {
        out.push_str(&row(results, workload, &peer, &columns));
    }
    out
}

/// The rows of a workload by their first figure; those without one keep their order at the end.
fn ordered(results: &Results, workload: &Workload, first: Figure) -> Vec<Peer> {
    let mut peers: Vec<Peer> = results.peers.iter().map(|(peer, _)| *peer).collect();
    peers.retain(|peer| !results.of(workload, peer).is_empty());
    let value = |peer: &Peer| {
        let summary = results.summary(workload, peer, first.name);
        summary.map_or(f64::INFINITY, |summary| summary.median)
    };
    peers.sort_by(|a, b| value(a).total_cmp(&value(b)));
    peers
}

fn row(results: &Results, workload: &Workload, peer: &Peer, columns: &[Figure]) -> String {
    let mut out = format!("  {:<15}", peer.name);
    let ratio = results.ratio(workload, peer, columns[0].name);
    let _ = write!(
        out,
        "{:>7}",
        ratio.map_or_else(|| "-".to_owned(), |r| format!("{r:.2}"))
    );
    for (i, column) in columns.iter().enumerate() {
        let summary = results.summary(workload, peer, column.name);
        let value = summary.map_or_else(|| "-".to_owned(), |s| number(column.shown(s.median)));
        let _ = write!(out, "{value:>14}");
        if i == 0 {
            let spread = summary.map(|s| format!("±{:.0} %", s.spread_percent()));
            let _ = write!(out, "{:>8}", spread.unwrap_or_default());
        }
    }
    out.push('\n');
    let (errors, log) = results.errors(workload, peer);
    for (what, count) in errors {
        let _ = writeln!(out, "    ERROR: {what} ({count})");
    }
    for line in log
        .lines()
        .rev()
        .take(5)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let _ = writeln!(out, "    it wrote: {line}");
    }
    out
}

fn syscall_table(results: &Results) -> String {
    let mut out = String::from("System calls per unit (a run of their own)\n");
    for workload in &results.workloads {
        for (peer, _) in &results.peers {
            let Some(sample) = results.syscalls.get(&(workload.name, peer.name)) else {
                continue;
            };
            let mut calls: Vec<(&String, &f64)> = sample.figures.iter().collect();
            calls.sort_by(|a, b| b.1.total_cmp(a.1));
            let all = sample.figures.get("all").copied().unwrap_or(f64::NAN);
            let _ = write!(
                out,
                "  {:<18}{:<15}{:>8}  ",
                workload.name,
                peer.name,
                number(all)
            );
            for (name, count) in calls
                .into_iter()
                .filter(|(n, c)| *n != "all" && **c >= 0.005)
            {
                let _ = write!(out, " {name} {count:.2}");
            }
            for (what, count) in &sample.errors {
                let _ = write!(out, " ERROR: {what} ({count})");
            }
            out.push('\n');
        }
    }
    out
}

/// A number with three or four digits that count.
#[must_use]
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if digits == 0 { grouped(&text) } else { text }
}

/// `1234567` as `1,234,567`.
fn grouped(integer: &str) -> String {
    let mut out = String::new();
    for (i, c) in integer.chars().enumerate() {
        let left = integer.len() - i;
        if left.is_multiple_of(3) && i > 0 && !out.ends_with('-') {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Everything as JSON: facts, and per cell every sample as it was taken.
#[must_use]
pub fn json(results: &Results) -> String {
    let facts = object(results.facts.iter().map(|(k, v)| (k.as_str(), string(v))));
    let peers = object(
        results
            .peers
            .iter()
            .map(|(peer, version)| (peer.name, string(version))),
    );
    let cells = results.samples.iter().map(|((workload, peer), samples)| {
        let samples = samples.iter().map(|sample| {
            let figures = sample
                .figures
                .iter()
                .map(|(k, v)| (k.as_str(), json_number(*v)));
            let errors = sample
                .errors
                .iter()
                .map(|(k, v)| (k.as_str(), v.to_string()));
            object([("figures", object(figures)), ("errors", object(errors))])
        });
        let samples = samples.collect::<Vec<_>>().join(",\n  ");
        let parts = [
            ("workload", string(workload)),
            ("peer", string(peer)),
            ("samples", format!("[\n  {samples}]")),
        ];
        object(parts)
    });
    let syscalls = results.syscalls.iter().map(|((workload, peer), sample)| {
        let calls = sample
            .figures
            .iter()
            .map(|(k, v)| (k.as_str(), json_number(*v)));
        let parts = [
            ("workload", string(workload)),
            ("peer", string(peer)),
            ("per_unit", object(calls)),
        ];
        object(parts)
    });
    format!(
        "{{\"facts\": {facts},\n\"peers\": {peers},\n\"cells\": [\n{}],\n\"syscalls\": [\n{}]}}\n",
        cells.collect::<Vec<_>>().join(",\n"),
        syscalls.collect::<Vec<_>>().join(",\n"),
    )
}

fn object<'k>(members: impl IntoIterator<Item = (&'k str, String)>) -> String {
    let members = members
        .into_iter()
        .map(|(key, value)| format!("{}: {value}", string(key)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
}

fn json_number(value: f64) -> String {
    if value.is_finite() {
        format!("{value}")
    } else {
        "null".to_owned()
    }
}

fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_count() {
        let shown = [1_234_567.0, 100.4, 12.34, 1.234, 0.1234].map(number);
        assert_eq!(shown, ["1,234,567", "100", "12.3", "1.23", "0.123"]);
    }

    #[test]
    fn json_strings_escape_quotes_and_control_characters() {
        assert_eq!(string("a\"b\\c\n"), r#""a\"b\\c\u000a""#);
    }
}
