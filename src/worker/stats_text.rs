//! The words of the statistics line, for one worker and for the sums of several.

use std::fmt::Write as _;

use crate::board::{BackendCell, ListenerCell};

pub use crate::worker::shared::span;

/// Adds what is counted of a listener.
pub fn listener(line: &mut String, name: &str, is_http: bool, get: impl Fn(ListenerCell) -> u64) {
    let _ = write!(
        line,
        "; {name}: accepted {}, active {}, bytes in {}, out {}, refused {}, reset {}, \
         timed out {}, cut {}",
        get(ListenerCell::Accepted),
        get(ListenerCell::Active),
        get(ListenerCell::BytesIn),
        get(ListenerCell::BytesOut),
        get(ListenerCell::Refused),
        get(ListenerCell::Reset),
        get(ListenerCell::TimedOut),
        get(ListenerCell::Cut),
    );
    if is_http {
        let _ = write!(line, ", requests {}", get(ListenerCell::Requests));
    }
}

/// Adds what is counted of a backend, and whether it is up where that is known.
pub fn backend(
    line: &mut String,
    label: &str,
    is_up: Option<bool>,
    get: impl Fn(BackendCell) -> u64,
) {
    let _ = write!(
        line,
        "; {label}{}: picks {}, active {}, bytes out {}, in {}, connect failures {}, \
         answer failures {}, retries {}",
        match is_up {
            Some(true) => " up",
            Some(false) => " down",
            None => "",
        },
        get(BackendCell::Picks),
        get(BackendCell::Active),
        get(BackendCell::BytesOut),
        get(BackendCell::BytesIn),
        get(BackendCell::ConnectFailures),
        get(BackendCell::AnswerFailures),
        get(BackendCell::Retries),
    );
}

/// Adds how many access log lines were lost, if any were.
pub fn access_log(line: &mut String, lines_lost: u64) {
    if lines_lost > 0 {
        let _ = write!(line, "; access log: lines lost {lines_lost}");
    }
}
