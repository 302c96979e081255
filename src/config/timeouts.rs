//! `timeouts`, in the three places where it may stand.

use std::time::Duration;

use super::defaults::{DRAIN_MAX, TIMEOUT_MAX, TIMEOUT_MIN};
use super::model::{TimeoutOverrides, Timeouts};
use super::node::Node;
use super::problem::{Position, Problems};
use super::section::Section;
use super::values;

/// Where a `timeouts` mapping stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Listener,
    Upstream,
}

/// What a `timeouts` mapping gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    connect: Option<Duration>,
    idle: Option<Duration>,
    half_closed: Option<Duration>,
    header: Option<Duration>,
    keep_alive: Option<Duration>,
    body: Option<Duration>,
    response: Option<Duration>,
    tunnel: Option<Duration>,
    pub(super) drain: Option<Duration>,
    pub(super) pre_drain: Option<Duration>,
    /// The keys that only HTTP has.
    pub(super) http_keys: Vec<(&'static str, Position)>,
}

/// The keys that only HTTP has.
const HTTP_KEYS: [&str; 5] = ["header", "keep_alive", "body", "response", "tunnel"];

impl Given {
    pub(super) fn read(node: &Node, place: Place, problems: &mut Problems) -> Self {
        let mut given = Self::default();
        let Some(mut section) = Section::open("`timeouts`", node, problems) else {
            return given;
        };
        for key in HTTP_KEYS {
            // In an upstream the first two are wrong in any mode.
            let is_refused = place == Place::Upstream && matches!(key, "header" | "keep_alive");
            if let Some(entry) = section.peek(key).filter(|_| !is_refused) {
                given.http_keys.push((key, entry.key_at));
            }
        }
        let mut read = |key, home: Option<&str>, min, max| {
            let entry = section.entry(key)?;
            if let Some(home) = home {
                let message = format!("`{key}` in `timeouts` belongs in {home}");
                problems.error(entry.key_at, message);
                return None;
            }
            section.read(key, problems, values::duration(min..=max))
        };
        let mut timeout = |key, home| read(key, home, TIMEOUT_MIN, TIMEOUT_MAX);
        given.connect = timeout("connect", None);
        given.idle = timeout("idle", None);
        given.half_closed = timeout("half_closed", None);
        let client_side = (place == Place::Upstream)
            .then_some("the `timeouts` of a listener or of the top level: it is about clients");
        given.header = timeout("header", client_side);
        given.keep_alive = timeout("keep_alive", client_side);
        given.body = timeout("body", None);
        given.response = timeout("response", None);
        given.tunnel = timeout("tunnel", None);
        let process = (place != Place::Top)
            .then_some("the `timeouts` of the top level: it is about the whole process");
        given.drain = read("drain", process, Duration::ZERO, DRAIN_MAX);
        given.pre_drain = read("pre_drain", process, Duration::ZERO, DRAIN_MAX);
        section.close(problems);
        given
    }

    /// These over `base`. Without HTTP, its timeouts stay as they are by default.
    pub(super) fn over(&self, base: Timeouts, http: bool) -> Timeouts {
        let l4 = Timeouts {
            connect: self.connect.unwrap_or(base.connect),
            idle: self.idle.unwrap_or(base.idle),
            half_closed: self.half_closed.unwrap_or(base.half_closed),
            ..base
        };
        if !http {
            return l4;
        }
        Timeouts {
            header: self.header.unwrap_or(base.header),
            keep_alive: self.keep_alive.unwrap_or(base.keep_alive),
            body: self.body.unwrap_or(base.body),
            response: self.response.unwrap_or(base.response),
            tunnel: self.tunnel.unwrap_or(base.tunnel),
            ..l4
        }
    }

    pub(super) fn overrides(&self) -> TimeoutOverrides {
        TimeoutOverrides {
            connect: self.connect,
            idle: self.idle,
            half_closed: self.half_closed,
            body: self.body,
            response: self.response,
            tunnel: self.tunnel,
        }
    }
}
