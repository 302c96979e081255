//! Metrics as Prometheus reads them: the classic text format 0.0.4, or OpenMetrics 1.0 for who
//! asks for it.
//!
//! They are made family by family and, within one, a few items at a time: so a scrape of thousands
//! of backends holds nobody's turn up.

use crate::admin::answer::{Flow, PART_BYTES, Progress};
use crate::admin::view::View;
use crate::core::text;

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposition {
    Classic,
    OpenMetrics,
}

impl Exposition {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What fits an Accept field best.
pub(crate) fn exposition(accept: &str) -> Exposition {
    match accept.contains("application/openmetrics-text") {
        true => Exposition::OpenMetrics,
        false => Exposition::Classic,
    }
}

/// A scrape that is under way.
#[derive(Debug)]
pub(crate) struct Scrape {
    form: Exposition,
    /// The outline that it began with.
    round: u64,
    family: usize,
}

impl Scrape {
    pub(crate) fn new(form: Exposition, view: &View<'_>) -> Self {
        Self {
            form,
            round: view.outline.round,
            family: 0,
        }
    }
}

impl Flow for Scrape {
    fn go_on(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> Progress {
        if view.outline.round != self.round {
            return Progress::Broken;
        }
        while out.len() < PART_BYTES {
            if self.family > 0 {
                if self.form == Exposition::OpenMetrics {
                    out.extend_from_slice(b"# EOF\n");
                }
                return Progress::Done;
            }
            self.family += 1;
            let version = &view.facts.version;
            text::push(
                out,
                format_args!(
                    "# HELP weir_build_info The version of weir.\n# TYPE weir_build_info gauge\n\
                     weir_build_info{{version=\"{version}\"}} 1\n"
                ),
            );
        }
        Progress::More
    }
}
