//! Metrics as Prometheus reads them: the classic text format 0.0.4, or OpenMetrics 1.0 for who
//! asks for it.
//!
//! They are made family by family and, within one, item by item: so a scrape of thousands of
//! backends holds nobody's turn up.

mod durations;
mod families;

use crate::admin::answer::{Flow, PART_BYTES, Progress};
use crate::admin::steady::Steady;
use crate::admin::view::View;
use crate::core::text;

use families::FAMILIES;

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    Classic,
    OpenMetrics,
}

impl Exposition {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What fits an Accept field best (RFC 9110 section 12.5.1): OpenMetrics for who names it, and
/// likes nothing better.
pub(crate) fn exposition(accept: &str) -> Exposition {
    let liked = |wanted: &[&str]| {
        let types = accept.split(',').filter_map(|it| liking(it, wanted));
        types.max().unwrap_or(0)
    };
    let open = liked(&["application/openmetrics-text"]);
    match open > 0 && open >= liked(&["text/plain", "text/*", "*/*"]) {
        true => Exposition::OpenMetrics,
        false => Exposition::Classic,
    }
}

/// How much a range of types is liked that is one of these, in thousandths.
fn liking(range: &str, wanted: &[&str]) -> Option<u32> {
    let mut parts = range.split(';').map(str::trim);
    let name = parts.next()?;
    let is_wanted = wanted.iter().any(|it| it.eq_ignore_ascii_case(name));
    let mut weights = parts.filter_map(|it| it.strip_prefix(['q', 'Q'])?.strip_prefix('='));
    is_wanted.then(|| weights.next().map_or(1_000, thousandths))
}

/// A weight, which has at most three decimals (RFC 9110 section 12.4.2); what is none is nothing.
fn thousandths(weight: &str) -> u32 {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let is_weight = matches!(whole, "0" | "1")
        && decimals.len() <= 3
        && decimals.bytes().all(|it| it.is_ascii_digit());
    let decimals = format!("{decimals:0<3}").parse().unwrap_or(0);
    match (is_weight, whole) {
        (false, _) => 0,
        (true, "1") => 1_000,
        (true, _) => decimals,
    }
}

/// What a family is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its samples end in `_total`.
    Counter,
    Gauge,
    /// Its samples end in `_bucket`, `_sum` and `_count`.
    Histogram,
    /// The same without buckets.
    Summary,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }
}

/// Samples of one name.
struct Family {
    /// Without what samples end in.
    name: &'static str,
    kind: Kind,
    help: &'static str,
    /// Writes the samples of the item at this place; false where there is none.
    samples: fn(&View<'_>, &mut Item, &mut Sink<'_>) -> bool,
}

/// Which item comes next of a family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Item {
    at: usize,
    /// The place within the item at that place.
    within: usize,
    /// The number of the last column that was found: the next is seldom far from it.
    column: usize,
}

/// Where samples go.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    name: &'static str,
    suffix: &'static str,
    /// Whether counters that are zero are left out.
    is_sparse: bool,
}

impl Sink<'_> {
    /// A sample of what is counted, unless there is nothing and too much else to tell.
    fn count(&mut self, labels: &[(&str, &str)], count: u64) {
        if count > 0 || !self.is_sparse || self.suffix != "_total" {
            self.sample(labels, count);
        }
    }

    /// What all samples up to the next end in.
    fn suffixed(&mut self, suffix: &'static str) -> &mut Self {
        self.suffix = suffix;
        self
    }

    /// One sample with labels, names and values in turn.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.extend_from_slice(self.suffix.as_bytes());
        for (at, (name, value)) in labels.iter().enumerate() {
            self.out.push(if at == 0 { b'{' } else { b',' });
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b"=\"");
            push_escaped(self.out, value);
            self.out.push(b'"');
        }
        if !labels.is_empty() {
            self.out.push(b'}');
        }
        text::push(self.out, format_args!(" {value}\n"));
    }
}

fn push_escaped(out: &mut Vec<u8>, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\n' => out.extend_from_slice(b"\\n"),
            other => out.push(other),
        }
    }
}

/// With more backends than this, counters of backends that are zero are left out.
const FULL_BACKENDS_MAX: usize = 1_000;

/// A scrape that is under way.
#[derive(Debug)]
pub(crate) struct Scrape {
    form: Exposition,
    family: usize,
    item: Item,
    is_sparse: bool,
    steady: Steady,
}

impl Scrape {
    pub(crate) fn new(form: Exposition, view: &View<'_>) -> Self {
        let upstreams = view.outline.upstreams.iter();
        let backends: usize = upstreams.map(|it| it.backends.len()).sum();
        Self {
            form,
            family: 0,
            item: Item::default(),
            is_sparse: backends > FULL_BACKENDS_MAX,
            steady: Steady::default(),
        }
    }

    fn write_head(&self, family: &Family, out: &mut Vec<u8>) {
        let is_counter = family.kind == Kind::Counter;
        let suffix = match (self.form, is_counter) {
            (Exposition::Classic, true) => "_total",
            (_, _) => "",
        };
        let (kind, name, help) = (family.kind.word(), family.name, family.help);
        text::push(
            out,
            format_args!("# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}\n"),
        );
    }

    /// Writes the next samples. False at the end.
    fn step(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> bool {
        let Some(family) = FAMILIES.get(self.family) else {
            if self.form == Exposition::OpenMetrics {
                out.extend_from_slice(b"# EOF\n");
            }
            return false;
        };
        if self.item == Item::default() {
            self.write_head(family, out);
        }
        let suffix = match family.kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Histogram | Kind::Summary => "",
        };
        let (begin, before) = (out.len(), self.item);
        let (item, is_sparse, mut has_more) = (&mut self.item, self.is_sparse, false);
        self.steady.read(view.board, || {
            out.truncate(begin);
            *item = before;
            let name = family.name;
            let mut sink = Sink {
                out,
                name,
                suffix,
                is_sparse,
            };
            has_more = (family.samples)(view, item, &mut sink);
        });
        if !has_more {
            self.family += 1;
            self.item = Item::default();
        }
        true
    }
}

impl Flow for Scrape {
    fn go_on(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> Progress {
        while out.len() < PART_BYTES {
            if !self.step(view, out) {
                return Progress::Done;
            }
        }
        Progress::More
    }
}

#[cfg(test)]
mod tests;
