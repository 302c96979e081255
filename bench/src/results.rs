//! Everything one run found out, and what is read off it: medians, spreads, ratios.

use std::collections::BTreeMap;

use crate::peers::Peer;
use crate::runner::Sample;
use crate::stats::Summary;
use crate::workload::{Kind, Unit, Workload};

/// The row that the others are compared with.
pub const REFERENCE: &str = "weir";

/// The results of a run.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// What was run where, for people.
    pub facts: BTreeMap<String, String>,
    /// Rows, in the order of the report, with what each says its version is.
    pub peers: Vec<(Peer, String)>,
    /// Workloads, in the order of the report.
    pub workloads: Vec<Workload>,
    /// Samples in the order they were taken; an error leaves figures out.
    pub samples: BTreeMap<(&'static str, &'static str), Vec<Sample>>,
    /// System calls per unit by name.
    pub syscalls: BTreeMap<(&'static str, &'static str), Sample>,
}

impl Results {
    /// The samples of a cell.
    #[must_use]
    pub fn of(&self, workload: &Workload, peer: &Peer) -> &[Sample] {
        self.samples
            .get(&(workload.name, peer.name))
            .map_or(&[], Vec::as_slice)
    }

    /// The samples of a cell that are free of errors, reduced.
    #[must_use]
    pub fn summary(&self, workload: &Workload, peer: &Peer, figure: &str) -> Option<Summary> {
        let good = self
            .of(workload, peer)
            .iter()
            .filter(|s| s.errors.is_empty());
        Summary::of(good.filter_map(|sample| sample.figures.get(figure).copied()))
    }

    /// The median of the ratios to weir, each taken within one repeat, where drift is smallest.
    #[must_use]
    pub fn ratio(&self, workload: &Workload, peer: &Peer, figure: &str) -> Option<f64> {
        let reference = self.peers.iter().find(|(p, _)| p.name == REFERENCE)?.0;
        let pairs = self
            .of(workload, peer)
            .iter()
            .zip(self.of(workload, &reference));
        let ratios = pairs.filter_map(|(theirs, ours)| {
            let good = theirs.errors.is_empty() && ours.errors.is_empty();
            let ratio = theirs.figures.get(figure)? / ours.figures.get(figure)?;
            good.then_some(ratio)
        });
        Summary::of(ratios).map(|summary| summary.median)
    }

    /// What went wrong in a cell, over all repeats, and what the peer wrote.
    #[must_use]
    pub fn errors(&self, workload: &Workload, peer: &Peer) -> (BTreeMap<String, u64>, String) {
        let mut errors = BTreeMap::new();
        let mut log = String::new();
        for sample in self.of(workload, peer) {
            for (what, count) in &sample.errors {
                *errors.entry(what.clone()).or_insert(0) += count;
            }
            if log.is_empty() {
                log.clone_from(&sample.log);
            }
        }
        (errors, log)
    }
}

/// A figure as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Its name in a sample.
    pub name: &'static str,
    /// Its column.
    pub title: &'static str,
    /// Its unit for people.
    pub unit: &'static str,
    divisor: u32,
}

const fn figure(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    divisor: u32,
) -> Figure {
    Figure {
        name,
        title,
        unit,
        divisor,
    }
}

impl Figure {
    /// A value in the unit that is shown.
    #[must_use]
    pub fn shown(&self, value: f64) -> f64 {
        value / f64::from(self.divisor)
    }
}

const P50: Figure = figure("p50_us", "p50", "us", 1);
const P99: Figure = figure("p99_us", "p99", "us", 1);
const P999: Figure = figure("p999_us", "p99.9", "us", 1);
const BUSY: Figure = figure("cpu_percent", "CPU", "%", 1);
const IDLE_CPU: Figure = figure("idle_cpu_percent", "idle CPU", "%", 1);
const PSS: Figure = figure("pss_bytes", "PSS", "KiB", 1024);
const RSS: Figure = figure("rss_bytes", "RSS", "KiB", 1024);

/// The figures of a workload; the first is what rows are compared by, and less of it is better.
#[must_use]
pub fn figures(workload: &Workload) -> Vec<Figure> {
    match (workload.kind, workload.unit(), workload.rate_per_s) {
        (Kind::Start, ..) => vec![
            figure("start_ms", "start", "ms", 1),
            PSS,
            RSS,
            figure("binary_bytes", "binary", "KiB", 1024),
            IDLE_CPU,
        ],
        (Kind::Idle { .. }, ..) => vec![
            figure("pss_bytes_per_connection", "PSS/conn", "B", 1),
            figure("rss_bytes_per_connection", "RSS/conn", "B", 1),
            figure("connections", "conns", "", 1),
            PSS,
            IDLE_CPU,
        ],
        (_, _, Some(_)) => {
            vec![
                P99,
                P50,
                P999,
                figure("cpu_us_per_unit", "CPU/unit", "us", 1),
                BUSY,
            ]
        }
        (_, Unit::Gigabyte, None) => vec![
            figure("cpu_us_per_unit", "CPU/GB", "s", 1_000_000),
            figure("units_per_s", "rate", "GB/s", 1),
            BUSY,
            RSS,
        ],
        (_, _, None) => vec![
            figure("cpu_us_per_unit", "CPU/unit", "us", 1),
            figure("units_per_s", "rate", "/s", 1),
            P50,
            P99,
            P999,
            BUSY,
        ],
    }
}
