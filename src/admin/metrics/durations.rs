//! Spans of time as Prometheus has them: in seconds, and as histograms.

use std::fmt;

use super::families::{each_backend, find};
use super::{Item, Sink};
use crate::admin::view::View;
use crate::board::{BackendCell, Span};
use crate::core::histogram::{BUCKETS, Histogram, most_ms};

/// Milliseconds that are written as seconds.
pub(super) struct Seconds(pub(super) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// A histogram of each upstream.
pub(super) fn upstream_seconds(
    view: &View<'_>,
    item: &mut Item,
    sink: &mut Sink<'_>,
    span: Span,
) -> bool {
    let Some(outline) = view.outline.upstreams.get(item.at) else {
        return false;
    };
    item.at += 1;
    let histogram = find(view, item, &outline.column);
    let histogram = histogram.map(|column| view.board.histogram(column, span));
    write_histogram(&outline.name, &histogram.unwrap_or(Histogram::EMPTY), sink);
    true
}

/// Buckets are written with what is in those before. So that bounds never change, all are written.
fn write_histogram(upstream: &str, histogram: &Histogram, sink: &mut Sink<'_>) {
    let mut seen = 0_u64;
    sink.suffixed("_bucket");
    for (bucket, count) in histogram.counts.iter().enumerate() {
        seen = seen.wrapping_add(*count);
        // Two buckets to a power of two tell quantiles apart; of longer ones one is enough.
        if let Some(bound) = bound(bucket) {
            sink.sample(&[("upstream", upstream), ("le", &bound)], seen);
        }
    }
    sink.sample(&[("upstream", upstream), ("le", "+Inf")], seen);
    let labels = [("upstream", upstream)];
    let sum = Seconds(histogram.sum_ms);
    sink.suffixed("_sum").sample(&labels, sum);
    sink.suffixed("_count").sample(&labels, seen);
}

/// What a bucket counts at most, in seconds; none for the last one.
fn bound(bucket: usize) -> Option<String> {
    debug_assert!(bucket < BUCKETS, "a bucket");
    most_ms(bucket).map(|ms| Seconds(ms).to_string())
}

/// How long backends took to answer.
pub(super) fn backend_seconds(view: &View<'_>, item: &mut Item, sink: &mut Sink<'_>) -> bool {
    each_backend(view, item, |labels, column, _| {
        let sum_ms = view.board.total(column, BackendCell::ResponseMs);
        sink.suffixed("_sum").sample(&labels, Seconds(sum_ms));
        sink.suffixed("_count")
            .sample(&labels, view.responses(column));
    })
}
