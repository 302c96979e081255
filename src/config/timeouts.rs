//! `timeouts`, in the four places where it may stand.
//!
//! The nearest place wins: a route over its upstream, that over the listener, that over the top
//! level. Within one place, `upload`, `response_idle` and `send` win over `body`, which stands for
//! all three; so `body` in a listener wins over `send` at the top level.

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
    Route,
}

/// What a `timeouts` mapping gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    connect: Option<Duration>,
    idle: Option<Duration>,
    half_closed: Option<Duration>,
    header: Option<Duration>,
    keep_alive: Option<Duration>,
    upload: Option<Duration>,
    response: Option<Duration>,
    response_idle: Option<Duration>,
    send: Option<Duration>,
    tunnel: Option<Duration>,
    pub(super) drain: Option<Duration>,
    pub(super) pre_drain: Option<Duration>,
    /// The keys that only HTTP has.
    pub(super) http_keys: Vec<(&'static str, Position)>,
}

/// The keys that only HTTP has.
const HTTP_KEYS: [&str; 8] = [
    "header",
    "keep_alive",
    "body",
    "upload",
    "response",
    "response_idle",
    "send",
    "tunnel",
];

const CLIENT_SIDE: &str = "the `timeouts` of a listener or of the top level: it is about clients";
const PROCESS: &str = "the `timeouts` of the top level: it is about the whole process";

/// Where a key belongs that may not stand here.
fn home(key: &str, place: Place) -> Option<&'static str> {
    match (key, place) {
        ("header" | "keep_alive", Place::Upstream) => Some(CLIENT_SIDE),
        ("header" | "keep_alive", Place::Route) => Some(
            "the `timeouts` of a listener or of the top level: it runs while no route is known",
        ),
        ("idle", Place::Route) => {
            Some("the `timeouts` of a listener of mode tcp: a route takes requests of HTTP")
        }
        ("half_closed", Place::Route) => Some(
            "the `timeouts` of an upstream, of a listener or of the top level: it is about \
             connections that are relayed as they are",
        ),
        ("drain" | "pre_drain", Place::Listener | Place::Upstream | Place::Route) => Some(PROCESS),
        _ => None,
    }
}

/// What a route allows; `body` is short for three of them.
const OF_ROUTES: &str = "a route may have `connect`, `upload`, `response`, `response_idle`, \
                         `send` and `tunnel`, or `body`";

impl Given {
    pub(super) fn read(node: &Node, place: Place, problems: &mut Problems) -> Self {
        let mut given = Self::default();
        let Some(mut section) = Section::open("`timeouts`", node, problems) else {
            return given;
        };
        for key in HTTP_KEYS {
            // What is wrong in any mode is reported as that alone.
            if let Some(entry) = section.peek(key).filter(|_| home(key, place).is_none()) {
                given.http_keys.push((key, entry.key_at));
            }
        }
        let mut read = |key, min, max| {
            let Some(home) = home(key, place) else {
                return section.read(key, problems, values::duration(min..=max));
            };
            // What is not allowed here is asked for, and so suggested, only where it stands.
            section.peek(key)?;
            let entry = section.entry(key)?;
            let mut message = format!("`{key}` in `timeouts` belongs in {home}");
            if place == Place::Route {
                message = format!("{message}; {OF_ROUTES}");
            }
            problems.error(entry.key_at, message);
            None
        };
        let mut timeout = |key| read(key, TIMEOUT_MIN, TIMEOUT_MAX);
        given.connect = timeout("connect");
        given.idle = timeout("idle");
        given.half_closed = timeout("half_closed");
        given.header = timeout("header");
        given.keep_alive = timeout("keep_alive");
        let body = timeout("body");
        given.upload = timeout("upload").or(body);
        given.response = timeout("response");
        given.response_idle = timeout("response_idle").or(body);
        given.send = timeout("send").or(body);
        given.tunnel = timeout("tunnel");
        given.drain = read("drain", Duration::ZERO, DRAIN_MAX);
        given.pre_drain = read("pre_drain", Duration::ZERO, DRAIN_MAX);
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
            ..l4.with(&self.overrides())
        }
    }

    pub(super) fn overrides(&self) -> TimeoutOverrides {
        TimeoutOverrides {
            connect: self.connect,
            idle: self.idle,
            half_closed: self.half_closed,
            upload: self.upload,
            response: self.response,
            response_idle: self.response_idle,
            send: self.send,
            tunnel: self.tunnel,
        }
    }
}
