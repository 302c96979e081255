//! Why requests and sessions ended as they did, from what workers have kept of them.

use crate::admin::answer::{Answer, JSON};
use crate::admin::json::JsonWriter;
use crate::admin::view::View;
use crate::core::access_log::{Why, push_rfc3339};
use crate::core::decision::{
    DECISION_WORDS, Decision, Gist, Kind, LeftOut, LeftOutFor, SLOW_MS, TriedAt, Try, ended_of,
    id_of, taken_key_of,
};
use crate::core::finding::Reason;
use crate::core::request_id::WantedId;
use crate::core::sort::sorted;
use crate::core::time::Tick;

/// Requests that are told of unless another number is asked for, and at most.
pub(crate) const LAST_DEFAULT: u32 = 10;
pub(crate) const LAST_MAX: u32 = 1_000;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Of one, by its id.
    Of(WantedId),
    /// Of the last of a kind.
    Last { which: Which, count_max: u32 },
}

/// A kind of requests and sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Any,
    /// With an error for an answer, or cut.
    Error,
    Slow,
    Retried,
    /// With a status in this range, hundreds for a class.
    Status(u16, u16),
}

impl Which {
    /// What can be said for one.
    pub(crate) const WORDS: &str = "a status such as 502, a class such as 5xx, `error`, `slow`, \
        `retried` or `any`";

    /// The kind in these words.
    pub(crate) fn read(words: &str) -> Option<Self> {
        Some(match words {
            "any" => Self::Any,
            "error" => Self::Error,
            "slow" => Self::Slow,
            "retried" => Self::Retried,
            _ => {
                let (digits, last) = match words.strip_suffix("xx") {
                    Some(class) => (format!("{class}00"), 99),
                    None => (words.to_owned(), 0),
                };
                let status = digits.parse().ok().filter(|_| digits.len() == 3);
                let status: u16 = status.filter(|it| (100..600).contains(it))?;
                Self::Status(status, status + last)
            }
        })
    }

    fn has(self, decision: &Decision) -> bool {
        let gist = &decision.gist;
        match self {
            Self::Any => true,
            Self::Error => gist.status >= 400 || gist.why != Why::Ok,
            Self::Slow => match gist.kind {
                Kind::Request => gist.total_ms >= SLOW_MS,
                Kind::Session => gist.connect_ms.is_some_and(|ms| ms >= SLOW_MS),
            },
            Self::Retried => !decision.tries.is_empty(),
            Self::Status(first, last) => (first..=last).contains(&gist.status),
        }
    }
}

/// Answers it.
#[cold]
#[inline(never)]
pub(crate) fn answer(question: Question, view: &View<'_>) -> Answer {
    let found = match question {
        Question::Of(id) => {
            let is_it = |words: &[u64; DECISION_WORDS]| {
                let is_taken = taken_key_of(words) == id.taken_key;
                is_taken || id.is(id_of(words))
            };
            find(view, &is_it, Which::Any, LAST_MAX)
        }
        Question::Last { which, count_max } => find(view, &|_| true, which, count_max),
    };
    if found.is_empty() && matches!(question, Question::Of(_)) {
        return Answer::text(404, forgotten(view));
    }
    let mut out = Vec::new();
    Writer::new(view).write(&found, &mut out);
    Answer::whole(200, JSON, out)
}

/// A decision and the row of its worker.
type Found = (usize, Decision);

/// The last ones of a kind that are meant by their words, the latest first.
#[inline(never)]
fn find(
    view: &View<'_>,
    is_meant: &dyn Fn(&[u64; DECISION_WORDS]) -> bool,
    which: Which,
    count_max: u32,
) -> Vec<Found> {
    let count_max = count_max as usize;
    let mut found = Vec::new();
    for row in 0..view.board.rows_used() {
        view.board.each_decision(row, |words| {
            if is_meant(words)
                && let Some(decision) = Decision::read(words)
                && which.has(&decision)
            {
                found.push((row, decision));
            }
            // What is not asked for takes no room.
            if found.len() > 2 * count_max {
                keep_latest(&mut found, count_max);
            }
        });
    }
    keep_latest(&mut found, count_max);
    found
}

#[inline(never)]
fn keep_latest(found: &mut Vec<Found>, count_max: usize) {
    let ended = |at: usize| found[at].1.gist.ended;
    let order = sorted(found.len(), &|a, b| ended(b).cmp(&ended(a)));
    let mut all: Vec<Option<Found>> = found.drain(..).map(Some).collect();
    let latest = order.into_iter().take(count_max);
    found.extend(latest.filter_map(|at| all[at].take()));
}

/// What is said of a request that nobody remembers.
fn forgotten(view: &View<'_>) -> String {
    let mut oldest = None;
    for row in 0..view.board.rows_used() {
        view.board.each_decision(row, |words| {
            let ended = ended_of(words);
            oldest = Some(oldest.map_or(ended, |before: Tick| before.min(ended)));
        });
    }
    let reach = match oldest {
        Some(ended) => format!("what is kept began to end at {}", time(view, ended)),
        None => "nothing is kept yet".to_owned(),
    };
    format!(
        "nothing is known of this request any more, or it has not ended yet, or it was one of many \
         plain ones, of which some are kept; {reach}"
    )
}

/// When it was, as RFC 3339 has it, in UTC.
fn time(view: &View<'_>, at: Tick) -> String {
    let mut text = Vec::new();
    let ago_ms = view.now.since_ms(at);
    push_rfc3339(view.unix_ms.saturating_sub(ago_ms), &mut text);
    String::from_utf8(text).unwrap_or_default()
}

/// The time of day of that, and the day as well where it is another one than that of what is told.
fn beside(time: &str, told: &str) -> String {
    let clock = time.get(11..19).unwrap_or_default();
    match (time.get(..10), told.get(..10)) {
        (Some(day), Some(today)) if day != today => format!("{day} {clock}"),
        _ => clock.to_owned(),
    }
}

/// Tells of decisions.
struct Writer<'a> {
    view: &'a View<'a>,
    names: Vec<(u64, &'a str)>,
}

impl<'a> Writer<'a> {
    fn new(view: &'a View<'a>) -> Self {
        let mut names = view.outline.names();
        // Those that are there come first, and of those that have gone the latest.
        names.extend(
            view.gone
                .iter()
                .rev()
                .map(|(key, name)| (*key, name.as_str())),
        );
        Self { view, names }
    }

    fn write(&self, found: &[Found], out: &mut Vec<u8>) {
        let mut json = JsonWriter::new(out);
        json.begin_object();
        json.key("requests");
        json.begin_list();
        for (row, decision) in found {
            self.one(*row, decision, &mut json);
        }
        json.end_list();
        json.end_object();
        out.push(b'\n');
    }

    #[inline(never)]
    fn one(&self, row: usize, decision: &Decision, json: &mut JsonWriter<'_>) {
        let gist = &decision.gist;
        json.begin_object();
        let own = gist.id.to_string();
        let is_taken = !decision.taken.is_empty();
        json.text_field("id", if is_taken { &decision.taken } else { &own });
        json.text_field("own_id", &own);
        json.text_field("time", &time(self.view, gist.ended));
        json.field("worker", row);
        json.text_field(
            "kind",
            match gist.kind {
                Kind::Request => "http",
                Kind::Session => "tcp",
            },
        );
        let (request, sni) = (decision.request(), decision.server_name());
        let client = gist.client.map(|it| it.to_string());
        for (key, name) in [
            ("client", client.as_deref()),
            ("sni", Some(sni.as_str()).filter(|it| !it.is_empty())),
            (
                "request",
                Some(request.as_str()).filter(|it| !it.is_empty()),
            ),
            ("listener", self.name(gist.listener)),
            ("route", self.name(gist.route)),
            ("upstream", self.name(gist.upstream)),
            ("backend", self.name(gist.backend)),
            ("rule", gist.rule.words()),
            ("why", Some(gist.why.words())),
            (
                "reason",
                Some(decision.reason.as_str()).filter(|it| !it.is_empty()),
            ),
            ("closed_by", gist.closed_by.map(|by| by.word())),
        ] {
            optional_text(key, name, json);
        }
        json.optional_field("status", Some(gist.status).filter(|it| *it != 0));
        json.optional_field("client_port", gist.client_port);
        for (key, value) in [
            ("attempts", Some(u64::from(gist.attempts))),
            ("members", Some(gist.members as u64)),
            ("bytes_in", Some(gist.bytes_in)),
            ("bytes_out", Some(gist.bytes_out)),
            ("wait_ms", gist.wait_ms),
            ("queue_ms", gist.queue_ms),
            ("connect_ms", gist.connect_ms),
            ("ttfb_ms", gist.ttfb_ms),
            ("total_ms", Some(gist.total_ms)),
            ("parked_ms", Some(gist.parked_ms).filter(|ms| *ms > 0)),
        ] {
            json.optional_field(key, value);
        }
        json.key("tries");
        json.begin_list();
        for it in &decision.tries {
            self.tried(it, json);
        }
        json.end_list();
        json.key("left_out");
        json.begin_list();
        for it in &decision.left_out {
            self.left_out(it, gist, json);
        }
        json.end_list();
        json.end_object();
    }

    /// What a key stands for; none for none. A name of long ago is not known any more.
    fn name(&self, key: u64) -> Option<&str> {
        let known = self.names.iter().find(|(known, _)| *known == key);
        (key != 0).then(|| known.map_or("(gone)", |(_, name)| name))
    }

    /// As [`time`], of what may not have come yet.
    fn time_to_come(&self, at: Tick) -> String {
        let mut text = Vec::new();
        let unix_ms = self.view.unix_ms.saturating_add(at.since_ms(self.view.now));
        match at > self.view.now {
            true => push_rfc3339(unix_ms, &mut text),
            false => return time(self.view, at),
        }
        String::from_utf8(text).unwrap_or_default()
    }

    #[inline(never)]
    fn tried(&self, it: &Try, json: &mut JsonWriter<'_>) {
        let (at, words) = match it.at {
            TriedAt::Connect => ("connect", "connect failed"),
            TriedAt::Answer => ("answer", "no answer"),
            TriedAt::Parked => ("parked", "its parked connection had ended"),
        };
        let reason = it.reason.filter(|_| it.at != TriedAt::Parked);
        let errno = reason.and_then(Reason::errno);
        let words = match (reason, errno) {
            (Some(reason), Some(errno)) => format!("{words}: {reason} ({errno})"),
            (Some(reason), None) => format!("{words}: {reason}"),
            (None, _) => words.to_owned(),
        };
        json.begin_object();
        optional_text("backend", self.name(it.backend), json);
        json.field("after_ms", it.after_ms);
        json.text_field("failed_at", at);
        optional_text("errno", errno, json);
        json.text_field("words", &words);
        json.end_object();
    }

    #[inline(never)]
    fn left_out(&self, it: &LeftOut, gist: &Gist, json: &mut JsonWriter<'_>) {
        let ended = time(self.view, gist.ended);
        let began = gist.ended.0.saturating_sub(gist.total_ms);
        let since = Tick(gist.ended.0.saturating_sub(it.span_s * 1_000));
        let until = Tick(began.saturating_add(it.span_s * 1_000));
        let (since, until) = (time(self.view, since), self.time_to_come(until));
        let (state, words) = match it.what {
            LeftOutFor::Down => {
                let words = format!("down since {}: {}", beside(&since, &ended), checks(it));
                ("down", words)
            }
            LeftOutFor::Ejected => {
                let until = beside(&until, &ended);
                let words = format!("ejected until {until}, as requests had failed there");
                ("ejected", words)
            }
            LeftOutFor::Draining => ("draining", "drained by hand".to_owned()),
            LeftOutFor::Disabled => ("disabled", "disabled by hand".to_owned()),
            LeftOutFor::NoWeight => ("no_weight", "its weight is 0".to_owned()),
            LeftOutFor::Full => (
                "full",
                "it has all the connections that it may have".to_owned(),
            ),
        };
        json.begin_object();
        optional_text("backend", self.name(it.backend), json);
        json.text_field("state", state);
        optional_text("since", (state == "down").then_some(&since), json);
        optional_text("until", (state == "ejected").then_some(&until), json);
        json.text_field("words", &words);
        json.end_object();
    }
}

/// What checks have found.
fn checks(it: &LeftOut) -> String {
    if it.checks == 0 && it.reason.is_none() {
        return "no check has found it up yet, or its name does not resolve".to_owned();
    }
    let count = match it.checks {
        0 => "checks".to_owned(),
        1 => "1 check".to_owned(),
        count => format!("{count} checks"),
    };
    match it.reason {
        Some(Reason::TimedOut) => format!("{count} timed out"),
        Some(reason) => format!("{count} failed: {reason}"),
        None => format!("{count} failed"),
    }
}

#[inline(never)]
fn optional_text(key: &str, value: Option<&str>, json: &mut JsonWriter<'_>) {
    match value {
        Some(value) => json.text_field(key, value),
        None => json.optional_field(key, None::<u8>),
    }
}
