//! How a backend is, as all who serve have found it and as an administrator has it.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use crate::admin::outline::BackendOutline;
use crate::admin::view::View;
use crate::board::{BackendCell, BackendColumn, BackendWord};
use crate::core::backend::Service;
use crate::core::finding::{EjectedUntil, Finding, Reason};
use crate::core::health::Verdict;
use crate::core::time::Tick;

/// Whether a backend can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Up,
    /// Checks say that it is not.
    Down,
    /// Failures of real traffic keep it out for a while.
    Ejected,
}

/// Why a backend with a name is down that no check has found so.
const UNFOUND: &str = "its name does not resolve, or no check has ended yet";

impl Condition {
    pub(crate) const ALL: [Self; 3] = [Self::Up, Self::Down, Self::Ejected];

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
        }
    }
}

/// What there is to know of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) condition: Condition,
    /// Why its last check failed, in words.
    pub(crate) reason: Option<String>,
    /// For how long checks have said the same, in milliseconds.
    pub(crate) since_ms: Option<u64>,
    /// For how much longer it is ejected, in milliseconds.
    pub(crate) ejected_ms: Option<u64>,
    pub(crate) service: Service,
    /// What an administrator has set; none is that of the file.
    pub(crate) weight: Option<u32>,
}

impl Observed {
    /// That of a backend, if the board has it.
    pub(crate) fn of(view: &View<'_>, column: BackendColumn) -> Self {
        let (board, now) = (view.board, view.now);
        let word = |word| board.word(column, word).load(Ordering::Acquire);
        let finding = Finding::read(word(BackendWord::Finding));
        let since = Tick(word(BackendWord::FoundAt));
        let ejected = EjectedUntil::read(word(BackendWord::Ejection));
        let ejected = ejected.filter(|it| it.until > now);
        let is_up = board.total(column, BackendCell::Up) > 0;
        let is_found_down = finding.is_some_and(|it| it.verdict == Verdict::Down);
        let condition = match (is_up, ejected.is_some() && !is_found_down) {
            (_, true) => Condition::Ejected,
            (true, _) => Condition::Up,
            (false, _) => Condition::Down,
        };
        Self {
            condition,
            reason: finding
                .and_then(|it| it.reason)
                .map(|reason| reason.to_string()),
            since_ms: finding.map(|_| now.since_ms(since)),
            ejected_ms: ejected.map(|it| it.until.since_ms(now)),
            service: board.service(column),
            weight: board.weight(column),
        }
    }

    /// Why its last check failed, or else what keeps one down that no check has found so, in words.
    pub(crate) fn reason_of(&self, outline: &BackendOutline, is_checked: bool) -> Option<&str> {
        if self.reason.is_some() || self.condition != Condition::Down {
            return self.reason.as_deref();
        }
        // Its address is as the file has it.
        let address = &outline.address;
        let is_name = address.parse::<SocketAddr>().is_err() && !address.starts_with("unix:");
        match (is_name, is_checked) {
            (true, false) => Reason::Unresolved.words(),
            (true, true) => Some(UNFOUND),
            (false, true) => Some("no check has ended yet"),
            (false, false) => None,
        }
    }

    /// Its share of the traffic, whoever has set it.
    pub(crate) fn weight_now(&self, outline: &BackendOutline) -> u32 {
        self.weight.unwrap_or(outline.weight)
    }
}

/// What an administrator lets a backend take, in a word.
pub(crate) const fn service_word(service: Service) -> &'static str {
    match service {
        Service::Full => "enabled",
        Service::Draining => "draining",
        Service::Disabled => "disabled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_down_without_a_check_has_a_reason() {
        let observed = |condition, reason: Option<&str>| Observed {
            condition,
            reason: reason.map(str::to_owned),
            since_ms: None,
            ejected_ms: None,
            service: Service::Full,
            weight: None,
        };
        let down = observed(Condition::Down, None);
        for (address, is_checked, reason) in [
            ("host.example:80", false, Some("its name does not resolve")),
            (
                "host.example:80",
                true,
                Some("its name does not resolve, or no check has ended yet"),
            ),
            ("[::1]:80", true, Some("no check has ended yet")),
            ("unix:/run/x", true, Some("no check has ended yet")),
            ("127.0.0.1:80", false, None),
        ] {
            let outline = BackendOutline {
                name: address.to_owned(),
                address: address.to_owned(),
                column: String::new(),
                weight: 1,
            };
            assert_eq!(down.reason_of(&outline, is_checked), reason, "{address}");
            let up = observed(Condition::Up, None);
            assert_eq!(up.reason_of(&outline, is_checked), None);
            let found = observed(Condition::Down, Some("timed out"));
            assert_eq!(found.reason_of(&outline, is_checked), Some("timed out"));
        }
    }
}
