//! What a scrape says of a board.

use std::collections::VecDeque;

use super::*;
use crate::admin::outline::{
    BackendOutline, Facts, ListenerOutline, Outline, Phase, UpstreamOutline,
};
use crate::board::{
    BackendCell, Board, CodeClass, Counted, CountedBackends, CountedListeners, CountedUpstreams,
    Span,
};
use crate::core::access_log::Why;
use crate::core::time::Tick;

/// The dashboard that ships with weir.
const DASHBOARD: &str = include_str!("../../../conf/grafana/weir.json");
/// What documents the families.
const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

struct Site {
    board: Board,
    outline: Outline,
    facts: Facts,
    gone: VecDeque<(u64, String)>,
}

impl Site {
    /// An HTTP listener, and an upstream with so many backends.
    fn new(listener: &str, upstream: &str, backends: usize) -> Self {
        let backend = |n: usize| BackendOutline {
            name: format!("10.20.{}.{}:8080", n / 200 + 10, n % 200 + 10),
            address: String::new(),
            column: format!("backend {n}"),
            weight: 1,
        };
        let mut site = Self {
            board: Board::private().expect("memory"),
            outline: Outline {
                round: 1,
                listeners: vec![ListenerOutline {
                    name: listener.to_owned(),
                    address: String::new(),
                    mode: "http".to_owned(),
                    column: "listener".to_owned(),
                    expects_hello: true,
                    expires_unix_s: None,
                    routes: Vec::new(),
                }],
                upstreams: vec![UpstreamOutline {
                    name: upstream.to_owned(),
                    algorithm: "round_robin".to_owned(),
                    column: "upstream".to_owned(),
                    is_checked: true,
                    backends: (0..backends).map(backend).collect(),
                }],
            },
            facts: Facts {
                phase: Phase::Serving,
                ..Facts::default()
            },
            gone: VecDeque::new(),
        };
        site.board.end_first_round();
        site.open::<CountedListeners>("listener");
        site.open::<CountedUpstreams>("upstream");
        for n in 0..backends {
            site.open::<CountedBackends>(&format!("backend {n}"));
        }
        site
    }

    fn open<K: Counted>(&mut self, name: &str) {
        self.board.open::<K>(name);
    }

    fn view(&self) -> View<'_> {
        View {
            board: &self.board,
            outline: &self.outline,
            facts: &self.facts,
            gone: &self.gone,
            now: Tick(5_000),
            unix_ms: 1_000_000,
        }
    }

    /// A whole scrape, and its longest part.
    fn scrape(&self, form: Exposition) -> (String, usize) {
        let mut scrape = Scrape::new(form, &self.view());
        let (mut all, mut longest) = (Vec::new(), 0);
        loop {
            let mut part = Vec::new();
            let progress = scrape.go_on(&self.view(), &mut part);
            longest = longest.max(part.len());
            all.append(&mut part);
            match progress {
                Progress::More => {}
                Progress::Done => return (String::from_utf8(all).expect("text"), longest),
            }
        }
    }

    fn says(&self, line: &str) -> bool {
        self.scrape(Exposition::Classic)
            .0
            .lines()
            .any(|it| it == line)
    }
}

#[test]
fn openmetrics_is_for_who_names_it_and_does_not_refuse_it() {
    let open = "application/openmetrics-text";
    for (accept, expected) in [
        ("", Exposition::Classic),
        ("*/*", Exposition::Classic),
        ("text/plain;version=0.0.4", Exposition::Classic),
        (open, Exposition::OpenMetrics),
        (
            "application/openmetrics-text; version=1.0.0; charset=utf-8,text/plain;q=0.5",
            Exposition::OpenMetrics,
        ),
        (
            "text/plain;q=0.5, application/openmetrics-text;version=1.0.0",
            Exposition::OpenMetrics,
        ),
        (
            "application/openmetrics-text;q=0, text/plain",
            Exposition::Classic,
        ),
        (
            "application/openmetrics-text;q=0.000, */*",
            Exposition::Classic,
        ),
        ("Application/OpenMetrics-Text", Exposition::OpenMetrics),
        ("application/openmetrics-textual", Exposition::Classic),
        (
            "application/openmetrics-text;q=0.2, text/plain;q=0.9",
            Exposition::Classic,
        ),
        (
            "application/openmetrics-text;q=0.3;version=1.0.0, text/plain;version=0.0.4;q=0.2, */*;q=0.1",
            Exposition::OpenMetrics,
        ),
    ] {
        assert_eq!(exposition(accept), expected, "{accept:?}");
    }
}

#[test]
fn what_is_in_labels_cannot_be_taken_for_anything_else() {
    let site = Site::new("we\"b\\\n", "app", 1);
    assert!(site.says(r#"weir_listener_accepted_total{listener="we\"b\\\n"} 0"#));
}

#[test]
fn samples_of_a_family_end_as_its_kind_says() {
    let site = Site::new("web", "app", 2);
    let (classic, _) = site.scrape(Exposition::Classic);
    let (open, _) = site.scrape(Exposition::OpenMetrics);
    assert!(open.ends_with("\n# EOF\n") && !classic.contains("# EOF"));
    assert!(classic.contains("# TYPE weir_listener_accepted_total counter\n"));
    assert!(open.contains("# TYPE weir_listener_accepted counter\n"));
    for text in [&classic, &open] {
        assert!(text.contains("# TYPE weir_request_duration_seconds histogram\n"));
        assert!(text.contains("# TYPE weir_backend_response_seconds summary\n"));
        let mut family = ("", "");
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split_once(' ').expect("a kind");
                continue;
            }
            if line.starts_with('#') {
                continue;
            }
            let name = line.split(['{', ' ']).next().expect("a name");
            let base = family.0.strip_suffix("_total").unwrap_or(family.0);
            let suffixes: &[&str] = match family.1 {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                "summary" => &["_sum", "_count"],
                other => panic!("{other} is no kind"),
            };
            let suffix = name.strip_prefix(base);
            assert!(suffix.is_some_and(|it| suffixes.contains(&it)), "{line}");
        }
    }
}

#[test]
fn families_are_told_apart_and_documented() {
    for (at, family) in FAMILIES.iter().enumerate() {
        let name = family.name;
        assert!(!FAMILIES[..at].iter().any(|it| it.name == name), "{name}");
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        assert!(
            name.starts_with("weir_") && name.bytes().all(is_plain),
            "{name}"
        );
        let suffix = if family.kind == Kind::Counter {
            "_total"
        } else {
            ""
        };
        let heading = format!("`{name}{suffix}`");
        assert!(
            DOCUMENT.contains(&heading),
            "{heading} is not in docs/metrics.md"
        );
    }
}

/// The names of metrics in a text.
fn names_in(text: &str) -> Vec<&str> {
    let is_part = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    words.filter(|word| word.starts_with("weir_")).collect()
}

fn is_sample(name: &str) -> bool {
    FAMILIES.iter().any(|family| {
        let suffixes: &[&str] = match family.kind {
            Kind::Counter => &["_total"],
            Kind::Gauge => &[""],
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Summary => &["_sum", "_count"],
        };
        let suffix = name.strip_prefix(family.name);
        suffix.is_some_and(|it| suffixes.contains(&it))
    })
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let names = names_in(DASHBOARD);
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(is_sample(name), "{name}");
    }
}

#[test]
fn histograms_are_cumulative_and_in_seconds() {
    let site = Site::new("web", "app", 1);
    let column = site.board.find("upstream").expect("listed");
    for ms in [0, 1, 1, 5, 1_500, 10_000_000] {
        site.board
            .record_ms::<CountedUpstreams>(column, Span::Total, ms);
    }
    let name = "weir_request_duration_seconds";
    for (le, count) in [
        ("0.000", 1),
        ("0.001", 3),
        ("0.003", 3),
        ("0.005", 4),
        ("1.535", 5),
        ("+Inf", 6),
    ] {
        let line = format!("{name}_bucket{{upstream=\"app\",le=\"{le}\"}} {count}");
        assert!(site.says(&line), "{line}");
    }
    assert!(site.says(&format!("{name}_sum{{upstream=\"app\"}} 10001.507")));
    assert!(site.says(&format!("{name}_count{{upstream=\"app\"}} 6")));
    assert!(site.says("weir_connect_duration_seconds_count{upstream=\"app\"} 0"));
}

#[test]
fn backends_and_ends_are_counted_by_what_came_of_them() {
    let site = Site::new("web", "app", 1);
    let backend = site
        .board
        .find::<CountedBackends>("backend 0")
        .expect("listed");
    let listener = site
        .board
        .find::<CountedListeners>("listener")
        .expect("listed");
    site.board.add(backend, CodeClass::of(204), 2);
    site.board.add(backend, CodeClass::of(503), 1);
    site.board.add(backend, BackendCell::ResponseMs, 1_250);
    site.board.add(listener, Why::ResponseTimeout, 3);
    let labels = "upstream=\"app\",backend=\"10.20.10.10:8080\"";
    for line in [
        format!("weir_backend_responses_total{{{labels},code_class=\"2xx\"}} 2"),
        format!("weir_backend_responses_total{{{labels},code_class=\"5xx\"}} 1"),
        format!("weir_backend_response_seconds_sum{{{labels}}} 1.250"),
        format!("weir_backend_response_seconds_count{{{labels}}} 3"),
        "weir_listener_ends_total{listener=\"web\",why=\"response timeout\"} 3".to_owned(),
        "weir_listener_ends_total{listener=\"web\",why=\"ok\"} 0".to_owned(),
        "weir_listener_ends_total{listener=\"web\",why=\"connect failed\"} 0".to_owned(),
    ] {
        assert!(site.says(&line), "{line}");
    }
}

#[test]
fn thousands_of_backends_come_in_parts_and_are_not_too_much() {
    let site = Site::new("public-web", "application-servers", 4_000);
    for n in 0..4_000 {
        let name = format!("backend {n}");
        let column = site.board.find::<CountedBackends>(&name).expect("listed");
        for cell in [
            BackendCell::Picks,
            BackendCell::BytesIn,
            BackendCell::BytesOut,
            BackendCell::ProbesPassed,
            BackendCell::ResponseMs,
        ] {
            site.board.add(column, cell, 12_345_678);
        }
        for status in [200, 404, 500] {
            site.board.add(column, CodeClass::of(status), 12_345);
        }
    }
    for form in [Exposition::Classic, Exposition::OpenMetrics] {
        let (text, longest) = site.scrape(form);
        assert!(text.len() <= 6 << 20, "{} bytes", text.len());
        assert!(longest <= 2 * PART_BYTES, "{longest} bytes in one part");
        let picks = text
            .lines()
            .filter(|it| it.starts_with("weir_backend_picks_total{"));
        assert_eq!(picks.count(), 4_000);
    }
}
