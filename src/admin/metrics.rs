//! Metrics as Prometheus reads them: the classic text format 0.0.4, or OpenMetrics 1.0 for who
//! asks for it.
//!
//! They are made family by family and, within one, item by item: so a scrape of thousands of
//! backends holds nobody's turn up.

mod families;

use crate::admin::answer::{Flow, PART_BYTES, Progress};
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

/// What fits an Accept field best.
pub(crate) fn exposition(accept: &str) -> Exposition {
    let types = accept.split(',').map(|it| it.trim_start());
    let mut types = types.filter(|it| it.starts_with("application/openmetrics-text"));
    let is_refused = |it: &str| it.split(';').any(|it| matches!(it.trim(), "q=0" | "q=0.0"));
    match types.next() {
        Some(wanted) if !is_refused(wanted) => Exposition::OpenMetrics,
        _ => Exposition::Classic,
    }
}

/// What a family is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its samples end in `_total`.
    Counter,
    Gauge,
}

/// Samples of one name.
struct Family {
    /// Without `_total`.
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
}

impl Sink<'_> {
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

/// A scrape that is under way.
#[derive(Debug)]
pub(crate) struct Scrape {
    form: Exposition,
    /// The outline that it began with.
    round: u64,
    family: usize,
    item: Item,
}

impl Scrape {
    pub(crate) fn new(form: Exposition, view: &View<'_>) -> Self {
        Self {
            form,
            round: view.outline.round,
            family: 0,
            item: Item::default(),
        }
    }

    fn write_head(&self, family: &Family, out: &mut Vec<u8>) {
        let is_counter = family.kind == Kind::Counter;
        let suffix = match (self.form, is_counter) {
            (Exposition::Classic, true) => "_total",
            (_, _) => "",
        };
        let kind = if is_counter { "counter" } else { "gauge" };
        let (name, help) = (family.name, family.help);
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
            Kind::Gauge => "",
        };
        let mut sink = Sink {
            out,
            name: family.name,
            suffix,
        };
        if !(family.samples)(view, &mut self.item, &mut sink) {
            self.family += 1;
            self.item = Item::default();
        }
        true
    }
}

impl Flow for Scrape {
    fn go_on(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> Progress {
        if view.outline.round != self.round {
            return Progress::Broken;
        }
        while out.len() < PART_BYTES {
            if !self.step(view, out) {
                return Progress::Done;
            }
        }
        Progress::More
    }
}
