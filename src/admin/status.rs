//! How everything is, as JSON: what `weir ctl`, `weir top` and the page are made of.

use crate::admin::answer::{Flow, PART_BYTES, Progress};
use crate::admin::json::JsonWriter;
use crate::admin::observed::{Observed, service_word};
use crate::admin::outline::{BackendOutline, ListenerOutline, UpstreamOutline};
use crate::admin::steady::Steady;
use crate::admin::view::View;
use crate::board::{
    BackendCell, BackendColumn, CodeClass, CountedBackends, CountedHandshakes, CountedListeners,
    CountedUpstreams, ListenerCell, RowState, Span,
};
use crate::core::handshake::Handshake;
use crate::core::histogram::Histogram;

/// A status that is being told.
#[derive(Debug, Default)]
pub(crate) struct Status {
    at: Step,
    /// The number of the last column that was found: the next is seldom far from it.
    column: usize,
    steady: Steady,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Head,
    Listener(usize),
    /// An upstream, and the backend in it.
    Upstream(usize),
    Backend(usize, usize),
    Tail,
}

impl Flow for Status {
    fn go_on(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> Progress {
        while out.len() < PART_BYTES {
            let (begin, mut next) = (out.len(), None);
            let (at, column) = (self.at, &mut self.column);
            self.steady.read(view.board, || {
                out.truncate(begin);
                next = write(at, column, view, out);
            });
            match next {
                Some(next) => self.at = next,
                None => return Progress::Done,
            }
        }
        Progress::More
    }
}

/// Writes one part; the next one.
fn write(step: Step, last: &mut usize, view: &View<'_>, out: &mut Vec<u8>) -> Option<Step> {
    let (listeners, upstreams) = (&view.outline.listeners, &view.outline.upstreams);
    match step {
        Step::Head => {
            head(view, out);
            Some(Step::Listener(0))
        }
        Step::Listener(at) => match listeners.get(at) {
            Some(outline) => {
                comma(out, at);
                listener(outline, last, view, out);
                Some(Step::Listener(at + 1))
            }
            None => {
                let mut json = JsonWriter::new(out);
                json.end_list();
                json.key("upstreams");
                json.begin_list();
                Some(Step::Upstream(0))
            }
        },
        Step::Upstream(at) => match upstreams.get(at) {
            Some(outline) => {
                comma(out, at);
                upstream(outline, last, view, out);
                Some(Step::Backend(at, 0))
            }
            None => Some(Step::Tail),
        },
        Step::Backend(upstream, at) => match upstreams[upstream].backends.get(at) {
            Some(outline) => {
                comma(out, at);
                backend(outline, upstreams[upstream].is_checked, last, view, out);
                Some(Step::Backend(upstream, at + 1))
            }
            None => {
                let mut json = JsonWriter::new(out);
                json.end_list();
                json.end_object();
                Some(Step::Upstream(upstream + 1))
            }
        },
        Step::Tail => {
            let mut json = JsonWriter::new(out);
            json.end_list();
            json.end_object();
            out.push(b'\n');
            None
        }
    }
}

fn comma(out: &mut Vec<u8>, at: usize) {
    if at > 0 {
        out.push(b',');
    }
}

fn head(view: &View<'_>, out: &mut Vec<u8>) {
    let facts = view.facts;
    let mut json = JsonWriter::new(out);
    json.begin_object();
    json.text_field("version", &facts.version);
    json.field("pid", facts.pid);
    json.text_field("phase", facts.phase.word());
    json.field("now_unix_ms", view.unix_ms);
    json.field("started_unix_s", facts.started_unix_s);
    json.field("adopted_unix_s", facts.adopted_unix_s);
    json.field("reloads_done", facts.reloads_done);
    json.field("reloads_refused", facts.reloads_refused);
    json.field("workers_wanted", facts.workers_wanted);
    json.field("accept_rescues", facts.rescues);
    let rows = 0..view.board.rows_used();
    let rows = rows.filter_map(|row| Some((row, view.worker(row)?)));
    let rows: Vec<(usize, RowState)> = rows.collect();
    memory(&rows, &mut json);
    json.key("workers");
    json.begin_list();
    for (row, state) in &rows {
        worker(*row, state, view, &mut json);
    }
    json.end_list();
    json.key("listeners");
    json.begin_list();
}

/// What all workers keep together, and may keep.
fn memory(rows: &[(usize, RowState)], json: &mut JsonWriter<'_>) {
    let sum = |get: fn(&RowState) -> u64| rows.iter().map(|(_, row)| get(row)).sum::<u64>();
    json.key("memory");
    json.begin_object();
    json.field("waiting_bytes", sum(|row| row.waiting_bytes));
    json.field("limit_bytes", sum(|row| row.waiting_bytes_max));
    json.end_object();
}

fn worker(row: usize, state: &RowState, view: &View<'_>, json: &mut JsonWriter<'_>) {
    let pid = match state.pid {
        // A process on its own has no name in its row.
        0 => view.facts.pid,
        pid => u64::from(pid),
    };
    json.begin_object();
    json.field("row", row);
    json.field("pid", pid);
    json.field("connections", state.sessions);
    json.field("backend_connections", state.connections);
    json.field("beat_age_ms", view.beat_age_ms(state));
    json.field("busy_ms", state.busy_ms);
    json.field("longest_turn_ms", state.longest_turn_ms);
    json.field("waiting_bytes", state.waiting_bytes);
    json.field("descriptors_max", state.descriptors_max);
    json.end_object();
}

fn listener(outline: &ListenerOutline, last: &mut usize, view: &View<'_>, out: &mut Vec<u8>) {
    let column = view
        .board
        .find_next::<CountedListeners>(&outline.column, last);
    let get = |cell: ListenerCell| column.map_or(0, |column| view.board.total(column, cell));
    let mut json = JsonWriter::new(out);
    json.begin_object();
    json.text_field("name", &outline.name);
    json.text_field("address", &outline.address);
    json.text_field("mode", &outline.mode);
    json.field("accepted", get(ListenerCell::Accepted));
    json.field("active", get(ListenerCell::Active));
    json.field("requests", get(ListenerCell::Requests));
    json.field("bytes_in", get(ListenerCell::BytesIn));
    json.field("bytes_out", get(ListenerCell::BytesOut));
    json.optional_field("expires_unix_s", outline.expires_unix_s);
    if outline.mode == "http" {
        json.key("responses");
        json.begin_object();
        for class in CodeClass::ALL {
            let count = column.map_or(0, |column| view.board.total(column, class));
            json.field(class.word(), count);
        }
        json.end_object();
    }
    if outline.expects_hello {
        handshakes(outline, view, &mut json);
    }
    json.end_object();
}

fn handshakes(outline: &ListenerOutline, view: &View<'_>, json: &mut JsonWriter<'_>) {
    let column = view.board.find::<CountedHandshakes>(&outline.column);
    let get = |ended| column.map_or(0, |column| view.board.total(column, ended));
    json.key("handshakes");
    json.begin_object();
    json.field("full", get(Handshake::Full));
    json.field("resumed", get(Handshake::Resumed));
    json.field("failed", Handshake::failures().map(get).sum::<u64>());
    json.end_object();
}

fn upstream(outline: &UpstreamOutline, last: &mut usize, view: &View<'_>, out: &mut Vec<u8>) {
    let column = view
        .board
        .find_next::<CountedUpstreams>(&outline.column, last);
    let get = |span| column.map_or(Histogram::EMPTY, |it| view.board.histogram(it, span));
    let mut json = JsonWriter::new(out);
    json.begin_object();
    json.text_field("name", &outline.name);
    json.text_field("algorithm", &outline.algorithm);
    json.field("checked", outline.is_checked);
    quantiles("latency_ms", &get(Span::Total), &mut json);
    quantiles("connect_ms", &get(Span::Connect), &mut json);
    json.key("backends");
    json.begin_list();
}

/// Since the start; `null` where nothing was timed.
fn quantiles(key: &str, histogram: &Histogram, json: &mut JsonWriter<'_>) {
    json.key(key);
    if histogram.count() == 0 {
        return json.plain("null");
    }
    json.begin_object();
    for (key, thousandths) in [("p50", 500), ("p90", 900), ("p99", 990)] {
        json.optional_field(key, histogram.quantile_ms(thousandths));
    }
    json.end_object();
}

/// How long it took to answer on the average, in milliseconds; none before its first answer.
fn mean_ms(view: &View<'_>, column: BackendColumn) -> Option<u64> {
    let sum_ms = view.board.total(column, BackendCell::ResponseMs);
    sum_ms.checked_div(view.responses(column))
}

const BACKEND_CELLS: [(&str, BackendCell); 10] = [
    ("active", BackendCell::Active),
    ("picks", BackendCell::Picks),
    ("bytes_in", BackendCell::BytesIn),
    ("bytes_out", BackendCell::BytesOut),
    ("connect_failures", BackendCell::ConnectFailures),
    ("answer_failures", BackendCell::AnswerFailures),
    ("retries", BackendCell::Retries),
    ("ejections", BackendCell::Ejections),
    ("checks_passed", BackendCell::ProbesPassed),
    ("checks_failed", BackendCell::ProbesFailed),
];

fn backend(
    outline: &BackendOutline,
    is_checked: bool,
    last: &mut usize,
    view: &View<'_>,
    out: &mut Vec<u8>,
) {
    let column = view
        .board
        .find_next::<CountedBackends>(&outline.column, last);
    let get = |cell: BackendCell| column.map_or(0, |column| view.board.total(column, cell));
    let observed = column.map(|column| Observed::of(view, column));
    let mut json = JsonWriter::new(out);
    json.begin_object();
    json.text_field("name", &outline.name);
    json.text_field("address", &outline.address);
    json.field("configured_weight", outline.weight);
    if let Some(observed) = &observed {
        json.field("weight", observed.weight_now(outline));
        json.text_field("administered", service_word(observed.service));
        json.text_field("observed", observed.condition.word());
        json.key("reason");
        match observed.reason_of(outline, is_checked) {
            Some(reason) => json.text(reason),
            None => json.plain("null"),
        }
        json.optional_field("since_ms", observed.since_ms);
        json.optional_field("ejected_ms", observed.ejected_ms);
    }
    json.optional_field("mean_ms", column.and_then(|column| mean_ms(view, column)));
    // Each worker learns it for itself.
    let idle_limit = column.map(|column| view.board.largest(column, BackendCell::IdleLimit));
    json.optional_field("idle_limit_ms", idle_limit.filter(|ms| *ms > 0));
    for (name, cell) in BACKEND_CELLS {
        json.field(name, get(cell));
    }
    json.end_object();
}
