//! Charts as plain SVG: one panel per workload, one bar per program, the shortest first.

use std::fmt::Write as _;

use crate::report::number;
use crate::results::{REFERENCE, Results, figures};
use crate::workload::{Kind, Workload};

const PANEL_WIDTH: usize = 380;
const COLUMNS: usize = 2;
const ROW_HEIGHT: usize = 20;
const BAR_LEFT: usize = 108;
const BAR_WIDTH: usize = 190;
const TITLE_HEIGHT: usize = 42;
const HEAD_HEIGHT: usize = 58;
const MARGIN: usize = 16;

/// What a chart shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chart {
    /// CPU time per unit of work.
    Cpu,
    /// p99 at a fixed rate.
    Latency,
    /// Memory per idle connection and start-up time.
    Footprint,
}

impl Chart {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Latency, Self::Footprint];

    /// The name of its file, without ending.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Latency => "latency",
            Self::Footprint => "footprint",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Cpu => "CPU time of the proxy per unit of work: shorter is better",
            Self::Latency => "99th percentile of latency at 2,000 a second: shorter is better",
            Self::Footprint => {
                "Memory per idle connection, time to the first answer: shorter is better"
            }
        }
    }

    fn shows(self, workload: &Workload) -> bool {
        let small = matches!(workload.kind, Kind::Idle { .. } | Kind::Start);
        match self {
            Self::Cpu => !small && workload.rate_per_s.is_none(),
            Self::Latency => workload.rate_per_s.is_some(),
            Self::Footprint => small,
        }
    }
}

struct Bar {
    label: &'static str,
    value: f64,
    text: String,
    class: &'static str,
}

/// A chart as a file; none when the run has nothing to show in it.
#[must_use]
pub fn svg(results: &Results, chart: Chart) -> Option<String> {
    let shown = results.workloads.iter().filter(|w| chart.shows(w));
    let panels: Vec<(&Workload, Vec<Bar>)> = shown
        .map(|workload| (workload, bars(results, workload)))
        .filter(|(_, bars)| bars.len() > 1)
        .collect();
    if panels.is_empty() {
        return None;
    }
    let rows_max = panels.iter().map(|(_, bars)| bars.len()).max().unwrap_or(0);
    let panel_height = TITLE_HEIGHT + rows_max * ROW_HEIGHT + MARGIN;
    let columns = COLUMNS.min(panels.len());
    let width = columns * PANEL_WIDTH + 2 * MARGIN;
    let height = HEAD_HEIGHT + panels.len().div_ceil(columns) * panel_height + MARGIN;
    let mut out = head(width, height, chart, results);
    for (i, (workload, bars)) in panels.iter().enumerate() {
        let x = MARGIN + i % columns * PANEL_WIDTH;
        let y = HEAD_HEIGHT + i / columns * panel_height;
        out.push_str(&panel(workload, bars, x, y));
    }
    out.push_str("</svg>\n");
    Some(out)
}

fn head(width: usize, height: usize, chart: Chart, results: &Results) -> String {
    let about = results.facts.get("machine").map_or("", String::as_str);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">
<style>
text {{ font: 12px system-ui, 'DejaVu Sans', Arial, sans-serif; fill: #24292f; }}
.head {{ font-size: 15px; font-weight: 600; }}
.name {{ font-weight: 600; }}
.note {{ fill: #6e7781; font-size: 11px; }}
.weir {{ fill: #1a7f64; }}
.peer {{ fill: #afb8c1; }}
.yardstick {{ fill: #e6eaee; stroke: #afb8c1; stroke-dasharray: 2 2; }}
.strong {{ font-weight: 700; }}
</style>
<rect width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"#ffffff\"/>
<text class=\"head\" x=\"{MARGIN}\" y=\"26\">{title}</text>
<text class=\"note\" x=\"{MARGIN}\" y=\"44\">{about}</text>
",
        title = escape(chart.title()),
        about = escape(about),
    )
}

fn panel(workload: &Workload, bars: &[Bar], x: usize, y: usize) -> String {
    let figure = figures(workload)[0];
    let unit = match workload.kind {
        Kind::Idle { .. } => "bytes per connection".to_owned(),
        Kind::Start => figure.unit.to_owned(),
        _ if workload.rate_per_s.is_some() => format!("p99, {}", figure.unit),
        _ => format!("{} per {}", figure.unit, workload.unit().name()),
    };
    let mut out = format!(
        "<g transform=\"translate({x} {y})\">\n<text class=\"name\" y=\"14\">{}</text>\n\
         <text class=\"note\" y=\"30\">{unit}</text>\n",
        escape(workload.title)
    );
    let longest = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    for (i, bar) in bars.iter().enumerate() {
        let top = TITLE_HEIGHT + i * ROW_HEIGHT;
        let base = top + 11;
        let length = (bar.value.max(0.0) / longest * BAR_WIDTH as f64).max(1.0);
        let strong = if bar.label == REFERENCE {
            " class=\"strong\""
        } else {
            ""
        };
        let _ = writeln!(
            out,
            "<text{strong} x=\"{}\" y=\"{base}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{}\" x=\"{BAR_LEFT}\" y=\"{top}\" width=\"{length:.1}\" height=\"14\" rx=\"2\"/>\
             <text{strong} x=\"{:.1}\" y=\"{base}\">{}</text>",
            BAR_LEFT - 8,
            bar.label,
            bar.class,
            BAR_LEFT as f64 + length + 6.0,
            escape(&bar.text),
        );
    }
    out.push_str("</g>\n");
    out
}

/// One bar for each peer that has the workload's first figure.
fn bars(results: &Results, workload: &Workload) -> Vec<Bar> {
    let figure = figures(workload)[0];
    let mut bars: Vec<Bar> = results
        .peers
        .iter()
        .filter_map(|(peer, _)| {
            let summary = results.summary(workload, peer, figure.name)?;
            let value = figure.shown(summary.median);
            let class = match peer.name {
                REFERENCE => "weir",
                _ if peer.is_yardstick() => "yardstick",
                _ => "peer",
            };
            let text = number(value);
            Some(Bar {
                label: peer.name,
                value,
                text,
                class,
            })
        })
        .collect();
    bars.sort_by(|a, b| a.value.total_cmp(&b.value));
    bars
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
