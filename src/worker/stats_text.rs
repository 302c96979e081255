//! The words of the statistics, for one worker and for the sums of several: a line of the process
//! and its listeners, and one of each upstream, of what has changed since the last time.

use std::collections::HashMap;
use std::fmt::{Display, Write as _};

use crate::board::{BackendCell, ListenerCell};
use crate::config::model::Config;
use crate::core::handshake::Handshake;
use crate::core::http::oddity::Oddity;
use crate::core::time::Tick;
use crate::tls::x509::validity;

pub use crate::worker::span::span;

/// What was said last of each thing, so that only what has changed is said again.
#[derive(Debug)]
pub struct Said {
    parts: HashMap<String, Part>,
    at: Tick,
    /// How often all was looked at.
    looks: u64,
}

#[derive(Debug)]
struct Part {
    words: String,
    counts: [u64; 2],
    looked_at: u64,
}

/// What there is to say now.
#[derive(Debug)]
pub struct Saying<'a> {
    said: &'a mut Said,
    /// Since the last time.
    passed_ms: u64,
    at_end: bool,
    first_line: String,
    has_news: bool,
    lines: Vec<String>,
}

impl Said {
    /// Nothing so far.
    #[must_use]
    pub fn nothing(now: Tick) -> Self {
        Self {
            parts: HashMap::new(),
            at: now,
            looks: 0,
        }
    }

    /// Begins to look at everything. At the end all is said once more, and no rate.
    pub fn begin(&mut self, now: Tick, sessions: u64, at_end: bool) -> Saying<'_> {
        let passed_ms = now.since_ms(self.at);
        self.at = now;
        self.looks += 1;
        let mut saying = Saying {
            said: self,
            passed_ms,
            at_end,
            first_line: String::new(),
            has_news: false,
            lines: Vec::new(),
        };
        let words = format!("sessions {sessions}");
        saying.has_news |= saying.news("sessions", &words, [0; 2]).is_some();
        saying.first_line = words;
        saying
    }
}

impl Saying<'_> {
    /// One thing of the first line, by a name of its own.
    fn part(&mut self, key: &str, words: &str, rates: Option<[(u64, &str); 2]>) {
        let counts = rates.map_or([0; 2], |rates| rates.map(|(count, _)| count));
        if let Some(before) = self.news(key, words, counts) {
            self.has_news = true;
            let rates = rates.map(|rates| self.rates(rates, before));
            let _ = write!(self.first_line, "; {words}{}", rates.unwrap_or_default());
        }
    }

    /// What was counted before, unless the same was said of it, or there is nothing to say.
    fn news(&mut self, key: &str, words: &str, counts: [u64; 2]) -> Option<[u64; 2]> {
        let part = Part {
            words: words.to_owned(),
            counts,
            looked_at: self.said.looks,
        };
        let before = self.said.parts.insert(key.to_owned(), part);
        let is_known = before.as_ref().is_some_and(|it| it.words == words);
        let is_news = !words.is_empty() && (self.at_end || !is_known);
        is_news.then(|| before.map_or([0; 2], |it| it.counts))
    }

    /// How fast these have grown.
    fn rates(&self, now: [(u64, &str); 2], before: [u64; 2]) -> String {
        let mut text = String::new();
        for ((count, unit), before) in now.into_iter().zip(before) {
            let more = count.saturating_sub(before);
            let tenths = (more * 10_000).checked_div(self.passed_ms).unwrap_or(0);
            if tenths > 0 && !self.at_end {
                let _ = write!(text, ", {}.{} {unit}/s", tenths / 10, tenths % 10);
            }
        }
        text
    }

    /// What is counted of a listener, and how its handshakes have ended, if there are any.
    pub fn listener(
        &mut self,
        name: &str,
        get: impl Fn(ListenerCell) -> u64,
        handshakes: Option<&dyn Fn(Handshake) -> u64>,
    ) {
        let mut words = String::new();
        let accepted = get(ListenerCell::Accepted);
        let requests = get(ListenerCell::Requests);
        if accepted > 0 {
            let _ = write!(
                words,
                "{name}: accepted {accepted}, active {}",
                get(ListenerCell::Active)
            );
            counted(
                &mut words,
                &[
                    ("bytes in", get(ListenerCell::BytesIn)),
                    ("out", get(ListenerCell::BytesOut)),
                    ("refused", get(ListenerCell::Refused)),
                    ("reset", get(ListenerCell::Reset)),
                    ("timed out", get(ListenerCell::TimedOut)),
                    ("cut", get(ListenerCell::Cut)),
                    ("requests", requests),
                ],
            );
            if let Some(get) = handshakes {
                self::handshakes(&mut words, get);
            }
        }
        let rates = [(accepted, "connections"), (requests, "requests")];
        self.part(&format!("listener {name}"), &words, Some(rates));
    }

    /// What is counted of an upstream: the sums of its backends, and which of them are down.
    pub fn upstream(&mut self, name: &str, sums: &UpstreamSums<'_>) {
        let get = |cell: BackendCell| sums.cells[cell as usize];
        let mut words = String::new();
        if !self.at_end {
            let up = sums.backends - sums.down.len();
            let _ = write!(words, "{up} of {} up", sums.backends);
            let mut separator = " (down: ";
            for label in sums.down.iter().take(DOWN_SHOWN_MAX) {
                let _ = write!(words, "{separator}{label}");
                separator = ", ";
            }
            match sums.down.len().saturating_sub(DOWN_SHOWN_MAX) {
                _ if sums.down.is_empty() => {}
                0 => words.push(')'),
                more => {
                    let _ = write!(words, " and {more} more)");
                }
            }
        }
        let picks = get(BackendCell::Picks);
        if picks > 0 {
            let _ = write!(
                words,
                ", picks {picks}, active {}",
                get(BackendCell::Active)
            );
        }
        counted(
            &mut words,
            &[
                ("bytes out", get(BackendCell::BytesOut)),
                ("in", get(BackendCell::BytesIn)),
                ("connect failures", get(BackendCell::ConnectFailures)),
                ("answer failures", get(BackendCell::AnswerFailures)),
                ("retries", get(BackendCell::Retries)),
                ("ejections", get(BackendCell::Ejections)),
            ],
        );
        let words = words.trim_start_matches(", ");
        if let Some(before) = self.news(&format!("upstream {name}"), words, [picks, 0]) {
            let rates = self.rates([(picks, "picks"), (0, "")], before);
            self.lines.push(format!("upstream {name}: {words}{rates}"));
        }
    }

    /// For how many days the certificates of listeners are valid still.
    pub fn certificates(
        &mut self,
        expiries_unix_s: impl Iterator<Item = (impl Display, i64)>,
        now_unix_s: u64,
    ) {
        let mut words = String::new();
        certificates(&mut words, expiries_unix_s, now_unix_s);
        self.part("certificates", words.trim_start_matches("; "), None);
    }

    /// How many responses were odd and taken all the same.
    pub fn oddities(&mut self, get: impl Fn(Oddity) -> u64) {
        let mut words = String::new();
        oddities(&mut words, get);
        self.part("oddities", words.trim_start_matches("; "), None);
    }

    /// How many access log lines were lost.
    pub fn access_log(&mut self, lines_lost: u64) {
        let mut words = String::new();
        access_log(&mut words, lines_lost);
        self.part("access log", words.trim_start_matches("; "), None);
    }

    /// How many workers serve.
    pub fn workers(&mut self, workers: usize) {
        let _ = write!(self.first_line, "; workers {workers}");
    }

    /// The lines that are to be printed, the first one behind the uptime.
    #[must_use]
    pub fn finish(self, uptime: &str) -> Vec<String> {
        let looks = self.said.looks;
        self.said.parts.retain(|_, part| part.looked_at == looks);
        let first = format!("uptime {uptime}; {}", self.first_line);
        let first = (self.has_news || self.at_end).then_some(first);
        first.into_iter().chain(self.lines).collect()
    }
}

/// Backends that are down and named, at most.
const DOWN_SHOWN_MAX: usize = 5;

/// The sums of an upstream's backends.
#[derive(Debug)]
pub struct UpstreamSums<'a> {
    cells: [u64; BackendCell::IdleLimit as usize + 1],
    backends: usize,
    down: Vec<&'a str>,
}

impl<'a> UpstreamSums<'a> {
    /// Of none yet.
    #[must_use]
    pub fn none() -> Self {
        Self {
            cells: [0; BackendCell::IdleLimit as usize + 1],
            backends: 0,
            down: Vec::new(),
        }
    }

    /// One more backend.
    pub fn add(&mut self, label: &'a str, get: impl Fn(BackendCell) -> u64) {
        for cell in [
            BackendCell::Picks,
            BackendCell::Active,
            BackendCell::BytesOut,
            BackendCell::BytesIn,
            BackendCell::ConnectFailures,
            BackendCell::AnswerFailures,
            BackendCell::Retries,
            BackendCell::Ejections,
        ] {
            let sum = &mut self.cells[cell as usize];
            *sum = sum.wrapping_add(get(cell));
        }
        self.backends += 1;
        if get(BackendCell::Up) == 0 {
            self.down.push(label);
        }
    }
}

/// Adds what is not zero.
fn counted(words: &mut String, counts: &[(&str, u64)]) {
    for (word, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let _ = write!(words, ", {word} {count}");
    }
}

/// Adds how the handshakes of a listener have ended.
fn handshakes(line: &mut String, get: impl Fn(Handshake) -> u64) {
    counted(
        line,
        &[
            ("handshakes", get(Handshake::Full)),
            ("resumed", get(Handshake::Resumed)),
        ],
    );
    let failures = Handshake::failures().map(|each| (each, get(each)));
    let failures: Vec<_> = failures.filter(|(_, count)| *count > 0).collect();
    let all: u64 = failures.iter().map(|(_, count)| count).sum();
    counted(line, &[("handshakes failed", all)]);
    let mut separator = " (";
    for (each, count) in &failures {
        let _ = write!(line, "{separator}{} {count}", each.words());
        separator = ", ";
    }
    if !failures.is_empty() {
        line.push(')');
    }
}

/// Adds for how many days the certificates of listeners are valid still, of each the first that
/// expires, and those that are shown to backends.
fn certificates(
    line: &mut String,
    expiries_unix_s: impl Iterator<Item = (impl Display, i64)>,
    now_unix_s: u64,
) {
    const SECONDS_PER_DAY: i64 = 24 * 60 * 60;
    let now_s = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
    let mut separator = "; certificate days left: ";
    for (name, expiry_s) in expiries_unix_s {
        let days = expiry_s.saturating_sub(now_s).div_euclid(SECONDS_PER_DAY);
        let _ = write!(line, "{separator}{name} {days}");
        separator = ", ";
    }
}

/// When the first certificate of each listener that has one expires, in seconds since 1970, and
/// what each upstream shows to its backends.
pub fn expiries(config: &Config) -> impl Iterator<Item = (String, i64)> {
    let listeners = config.listeners.iter().zip(&config.material.listeners);
    let listeners = listeners.filter_map(|(listener, material)| {
        let expiry_s = material.as_ref()?.expires_unix_s?;
        Some((listener.name.clone(), expiry_s))
    });
    let upstreams = config.upstreams.iter().zip(&config.material.upstreams);
    listeners.chain(upstreams.filter_map(|(upstream, material)| {
        let identity = material.as_ref()?.identity.as_ref()?;
        let (_, expiry_s) = validity(identity.chain.first()?)?;
        Some((format!("upstream {}", upstream.name), expiry_s))
    }))
}

/// Adds how many responses were odd and taken all the same, of each kind that was seen.
fn oddities(line: &mut String, get: impl Fn(Oddity) -> u64) {
    let mut separator = "; odd responses: ";
    for kind in Oddity::ALL {
        let count = get(kind);
        if count > 0 {
            let _ = write!(line, "{separator}{kind} {count}");
            separator = ", ";
        }
    }
}

/// Adds how many access log lines were lost, if any were.
fn access_log(line: &mut String, lines_lost: u64) {
    if lines_lost > 0 {
        let _ = write!(line, "; access log: lines lost {lines_lost}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts<C: PartialEq + Copy>(counts: &[(C, u64)]) -> impl Fn(C) -> u64 {
        |asked| {
            let count = counts.iter().find(|(known, _)| *known == asked);
            count.map_or(0, |(_, count)| *count)
        }
    }

    /// What is said at that second of a listener and an upstream with two backends.
    fn say(said: &mut Said, second: u64, accepted: u64, picks: u64) -> Vec<String> {
        let mut saying = said.begin(Tick(1_000 * second), 1, false);
        let cells = [(ListenerCell::Accepted, accepted), (ListenerCell::Cut, 0)];
        saying.listener("web", counts(&cells), None);
        let mut sums = UpstreamSums::none();
        sums.add(
            "b1",
            counts(&[(BackendCell::Picks, picks), (BackendCell::Up, 1)]),
        );
        sums.add("b2", counts(&[(BackendCell::Retries, 2)]));
        saying.upstream("app", &sums);
        saying.finish("9s")
    }

    #[test]
    fn what_has_not_changed_is_not_said_again() {
        let mut said = Said::nothing(Tick(0));
        assert_eq!(
            say(&mut said, 10, 0, 0),
            [
                "uptime 9s; sessions 1",
                "upstream app: 1 of 2 up (down: b2), retries 2"
            ]
        );
        assert!(say(&mut said, 20, 0, 0).is_empty());
        assert_eq!(
            say(&mut said, 30, 25, 0),
            ["uptime 9s; sessions 1; web: accepted 25, active 0, 2.5 connections/s"]
        );
        assert_eq!(
            say(&mut said, 40, 25, 1_000),
            ["upstream app: 1 of 2 up (down: b2), picks 1000, active 0, retries 2, 100.0 picks/s"]
        );
        assert!(say(&mut said, 40, 25, 1_000).is_empty());
    }

    #[test]
    fn at_the_end_all_is_said_that_is_not_zero() {
        let mut said = Said::nothing(Tick(0));
        say(&mut said, 10, 3, 3);
        let mut saying = said.begin(Tick(20_000), 0, true);
        saying.listener("web", counts(&[(ListenerCell::Accepted, 3)]), None);
        saying.listener("idle", |_| 0, None);
        let mut sums = UpstreamSums::none();
        sums.add("b1", counts(&[(BackendCell::Picks, 3)]));
        saying.upstream("app", &sums);
        saying.workers(2);
        assert_eq!(
            saying.finish("20.0s"),
            [
                "uptime 20.0s; sessions 0; web: accepted 3, active 0; workers 2",
                "upstream app: picks 3, active 0"
            ]
        );
    }

    #[test]
    fn handshakes_that_failed_are_told_by_reason() {
        let said = |seen: &[(Handshake, u64)]| {
            let mut line = String::new();
            handshakes(&mut line, counts(seen));
            line
        };
        assert_eq!(said(&[]), "");
        assert_eq!(
            said(&[
                (Handshake::Full, 7),
                (Handshake::Resumed, 2),
                (Handshake::NotTls, 1),
                (Handshake::TooSlow, 3)
            ]),
            ", handshakes 7, resumed 2, handshakes failed 4 (not TLS 1, too slow 3)"
        );
    }

    #[test]
    fn days_that_are_left_of_certificates_are_said_where_there_are_any() {
        let said = |expiries: &[(&str, i64)]| {
            let mut line = String::new();
            certificates(&mut line, expiries.iter().copied(), 86_400);
            line
        };
        assert_eq!(said(&[]), "");
        assert_eq!(
            said(&[("web", 4 * 86_400 - 1), ("old", 86_399)]),
            "; certificate days left: web 2, old -1"
        );
    }

    #[test]
    fn only_oddities_that_were_seen_are_in_the_line() {
        let line = |get: fn(Oddity) -> u64| {
            let mut line = String::new();
            oddities(&mut line, get);
            line
        };
        assert_eq!(line(|_| 0), "");
        assert_eq!(
            line(|kind| {
                let seen = [(Oddity::SpaceBeforeColon, 3), (Oddity::PaddedChunkSize, 17)];
                let count = seen.iter().find(|(known, _)| *known == kind);
                count.map_or(0, |(_, count)| *count)
            }),
            "; odd responses: blank before a colon 3, padded chunk size 17"
        );
    }
}
