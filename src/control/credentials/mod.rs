//! What the files hold that `tls` names: certificates, keys and the rest, read and checked before
//! anything is served with them.
//!
//! The control loop reads them, for all who serve; workers get what was read with the
//! configuration, and open no file. Under a supervisor that works with keys that only root can
//! read, at the start and at every later time: it keeps `CAP_DAC_READ_SEARCH`, where `tls` is
//! configured at its start. A process of its own for reading would keep the capability away from
//! what the C library makes of answers of name servers, which it parses in a thread of the
//! supervisor. It would also be one more to start, watch and hand over, could not be started again
//! once root is given up, and would have to understand the configuration itself, or else read any
//! file for whoever owns the supervisor. So the supervisor keeps it, but not in effect: the thread
//! that reads takes it up for as long as it reads
//! ([`privileges::while_reading`]). The supervisor moves no
//! byte of a client; whoever does has no capability at all.

mod certificates;
mod files;
mod ticket_ring;
mod watch;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

pub(crate) use ticket_ring::TicketRing;
pub(super) use watch::{Look, Watch};

use crate::config::Compiled;
use crate::config::model::Config;
use crate::config::problem::{Position, Problem};
use crate::control::credentials::certificates::Reader;
use crate::control::credentials::files::Seen;
use crate::core::text::whole_days;
use crate::sys::{privileges, process};
use crate::tls;
use crate::tls::fault::{ABSENT, PemFault};
use crate::tls::material::Material;

/// Days before the end of a certificate from which on it is warned of.
const WARNING_DAYS: i64 = 14;
const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// What was read for a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    pub(crate) material: Arc<Material>,
    /// Of each listener, the files that its certificates are from.
    origins: Vec<Vec<Origin>>,
    /// What was there before, in folders, and was not when it was looked for.
    missing: BTreeSet<PathBuf>,
    terms: Vec<Term>,
    seen: Seen,
}

/// Where a certificate is from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Origin {
    /// The place of what names it among `certificates`.
    source: usize,
    certificate: PathBuf,
    /// What is said of it begins so, there.
    says: String,
    at: Option<Position>,
}

/// How long a certificate is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    /// What is said of it begins so.
    what: String,
    at: Option<Position>,
    not_before_unix_s: i64,
    not_after_unix_s: i64,
}

/// What is wrong, and where the configuration names it.
type Fault = (Option<Position>, String);

/// What came of reading.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) credentials: Credentials,
    /// With them nothing is served, but where there is something of before.
    pub(super) errors: Vec<Fault>,
    pub(super) warnings: Vec<Fault>,
}

impl Outcome {
    /// Also of how long certificates are valid.
    pub(super) fn all_warnings(&self) -> Vec<Fault> {
        let overdue = self.credentials.overdue(now_unix_s());
        self.warnings.iter().cloned().chain(overdue).collect()
    }
}

/// Whether a configuration has any TLS.
pub(crate) fn are_wanted(config: &Config) -> bool {
    let mut listeners = config.listeners.iter();
    let mut upstreams = config.upstreams.iter();
    listeners.any(|it| it.tls.is_some()) || upstreams.any(|it| it.tls.is_some())
}

/// Reads what a configuration names, relative to that folder. What cannot be used is as it was
/// `before`, if there was anything. Who may not read a file is told the way that there is.
pub(super) fn read(
    compiled: &Compiled,
    folder: &Path,
    before: Option<&Credentials>,
    way: &str,
) -> Outcome {
    let mut outcome = Outcome::default();
    if !are_wanted(&compiled.config) {
        return outcome;
    }
    if tls::certificates_in(&[]) == Err(PemFault::Absent) {
        let places = compiled.positions.tls.iter().map(|file| file.at);
        let at = places.min_by_key(|at| (at.line, at.column));
        outcome.errors.push((at, ABSENT.to_owned()));
        return outcome;
    }
    // Keys are about to be in the memory of this process.
    process::hide_memory();
    privileges::while_reading(|| Reader::new(compiled, folder, before, way).read_all())
}

/// The way for a process that may not read a file any more, whether it is on its own or not.
pub(super) fn way(is_alone: bool) -> &'static str {
    match (is_alone, privileges::may_read_all()) {
        (true, _) => ALONE,
        (false, false) => FROM_START,
        (false, true) => "",
    }
}

/// The way for a process that has given up no right yet.
pub(super) fn way_before_start() -> &'static str {
    match privileges::may_read_all() {
        true => "",
        false => NOT_YET,
    }
}

const NOT_YET: &str = "; weir reads what only root may if it is started as root, or with \
                       `CAP_DAC_READ_SEARCH` (conf/weir.service), or give it a copy that its user \
                       may read";
const ALONE: &str = "; a process on its own reads with the rights of its user: under a supervisor \
                     (`supervisor: on`, or several `workers`) weir can read what only root may, or \
                     give it a copy that its user may read";
const FROM_START: &str = "; weir keeps the right to read what only root may, if it has that right \
                          at its start, with `tls` in its configuration";

impl Credentials {
    /// With what the program before has left, until it is looked at.
    pub(crate) fn left(material: Arc<Material>) -> Self {
        Self {
            material,
            seen: Seen::unknown(),
            ..Self::default()
        }
    }

    fn are_any(&self) -> bool {
        let Material {
            listeners,
            upstreams,
            ..
        } = &*self.material;
        listeners.iter().any(Option::is_some) || upstreams.iter().any(Option::is_some)
    }

    /// Whether files may hold something else by now.
    fn may_differ(&self) -> bool {
        !self.missing.is_empty() || self.seen.have_changed()
    }

    /// The files from which this has certificates, and something else has not.
    fn beside<'a>(&'a self, other: &'a Self) -> BTreeSet<&'a Path> {
        self.paths().difference(&other.paths()).copied().collect()
    }

    fn paths(&self) -> BTreeSet<&Path> {
        let origins = self.origins.iter().flatten();
        origins.map(|it| it.certificate.as_path()).collect()
    }

    /// The first file or folder that was looked at and is closed to somebody.
    pub(super) fn closed(&self, is_closed: impl Fn(&Path) -> bool) -> Option<&Path> {
        self.seen.paths().find(|path| is_closed(path))
    }

    /// What is to be said of certificates that are valid no more, not yet, or not for long.
    fn overdue(&self, now_unix_s: i64) -> Vec<Fault> {
        let terms = self.terms.iter();
        let told = terms.filter_map(|term| Some((term.at, term.told(now_unix_s)?)));
        told.collect()
    }
}

impl Term {
    fn told(&self, now_unix_s: i64) -> Option<String> {
        let Self { what, .. } = self;
        let left_s = self.not_after_unix_s.saturating_sub(now_unix_s);
        if now_unix_s < self.not_before_unix_s {
            let wait = whole_days(self.not_before_unix_s.abs_diff(now_unix_s));
            return Some(format!("{what} is not valid yet, for another {wait}"));
        }
        let days = whole_days(left_s.unsigned_abs());
        match left_s {
            ..0 => Some(format!("{what} has expired, {days} ago")),
            _ if left_s / SECONDS_PER_DAY < WARNING_DAYS => {
                Some(format!("{what} expires in {days}"))
            }
            _ => None,
        }
    }
}

/// Seconds since 1970, by a clock that may be wrong.
fn now_unix_s() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |it| i64::try_from(it.as_secs()).unwrap_or(i64::MAX))
}

/// As messages about the configuration are shown.
fn problems(faults: Vec<Fault>, file_name: &str, warning: bool) -> Vec<Problem> {
    let problem = |(at, message)| Problem {
        file: file_name.to_owned(),
        at,
        warning,
        message,
    };
    faults.into_iter().map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_is_told_of_before_it_begins_near_its_end_and_after_it() {
        const DAY: i64 = SECONDS_PER_DAY;
        let term = Term {
            what: "it".to_owned(),
            at: None,
            not_before_unix_s: 1_000 * DAY,
            not_after_unix_s: 1_100 * DAY,
        };
        for (now, told) in [
            (0, Some("it is not valid yet, for another 1000 days")),
            (1_000 * DAY, None),
            (1_086 * DAY, None),
            (1_086 * DAY + 1, Some("it expires in 13 days")),
            (1_098 * DAY + 1, Some("it expires in 1 day")),
            (1_100 * DAY - 1, Some("it expires in less than a day")),
            (1_100 * DAY, Some("it expires in less than a day")),
            (1_100 * DAY + 1, Some("it has expired, less than a day ago")),
            (1_102 * DAY + 1, Some("it has expired, 2 days ago")),
        ] {
            assert_eq!(term.told(now).as_deref(), told, "{now}");
        }
    }
}
