//! `timeouts`, in the four places where it may stand.
//!
//! The nearest place wins: a route over its upstream, that over the listener, that over the top
//! level. Within one place, `upload`, `response_idle` and `send` win over `body`, which stands for
//! all three; so `body` in a listener wins over `send` at the top level.

use std::slice;
use std::time::Duration;

use super::compile::Compiler;
use super::defaults::{DRAIN_MAX, TIMEOUT_MAX, TIMEOUT_MIN};
use super::key::{Home, Key, Needs, Shown, key, unwritten, written};
use super::model::{Config, TimeoutOverrides, Timeouts};
use super::node::{Entry, Node};
use super::section::{Section, read_value};
use super::tree::{self, Tree};
use super::values::{self, Read};

/// What a `timeouts` mapping gives.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    over: TimeoutOverrides,
    handshake: Option<Duration>,
    header: Option<Duration>,
    keep_alive: Option<Duration>,
    pub(super) drain: Option<Duration>,
    pub(super) pre_drain: Option<Duration>,
}

const TOP_AND_LISTENER: &[Home] = &[Home::Top, Home::Listener];
const TOP: &[Home] = &[Home::Top];
const NO_ROUTE: &[Home] = &[Home::Top, Home::Listener, Home::Upstream];

macro_rules! timeout {
    ($name:literal, $($field:ident).+) => {
        key! { $name, Given.$($field).+, timeout, SPAN }
    };
}

pub(super) static TIMEOUTS: &[Key<Given>] = &[
    timeout!("connect", over.connect),
    timeout!("handshake", handshake).at(TOP_AND_LISTENER),
    timeout!("idle", over.idle).at(NO_ROUTE),
    timeout!("half_closed", over.half_closed).at(NO_ROUTE),
    timeout!("header", header)
        .at(TOP_AND_LISTENER)
        .needs(Needs::Http),
    timeout!("keep_alive", keep_alive)
        .at(TOP_AND_LISTENER)
        .needs(Needs::Http),
    Key::new("body", body, unwritten).needs(Needs::Http),
    timeout!("upload", over.upload).needs(Needs::Http),
    timeout!("response", over.response).needs(Needs::Http),
    timeout!("response_idle", over.response_idle).needs(Needs::Http),
    timeout!("send", over.send).needs(Needs::Http),
    timeout!("tunnel", over.tunnel).needs(Needs::Http),
    key! { "drain", Given.drain, drain, SPAN }.at(TOP),
    key! { "pre_drain", Given.pre_drain, drain, SPAN }.at(TOP),
];

const SPAN: fn(&Option<Duration>) -> Option<Tree> = |span| span.as_ref().map(tree::duration);

fn timeout(node: &Node) -> Read<Option<Duration>> {
    values::duration(TIMEOUT_MIN..=TIMEOUT_MAX)(node).map(Some)
}

fn drain(node: &Node) -> Read<Option<Duration>> {
    values::duration(Duration::ZERO..=DRAIN_MAX)(node).map(Some)
}

/// Those that it stands for come after it, so that they win.
fn body(given: &mut Given, entry: &Entry, c: &mut Compiler<'_>) {
    let body = read_value(&entry.key, &entry.value, &mut c.problems, timeout).flatten();
    given.over.upload = body;
    given.over.response_idle = body;
    given.over.send = body;
}

const CLIENT_SIDE: &str = "the `timeouts` of a listener or of the top level: it is about clients";
const BEFORE_ROUTES: &str = "the `timeouts` of a listener or of the top level: it runs while no \
                             route is known";
const OF_TCP: &str = "the `timeouts` of a listener of mode tcp: a route takes requests of HTTP";
const RELAYED: &str = "the `timeouts` of an upstream, of a listener or of the top level: it is \
                       about connections that are relayed as they are";
const PROCESS: &str = "the `timeouts` of the top level: it is about the whole process";

/// Where a key belongs that may not stand here.
fn belongs_in(key: &str, home: Home) -> &'static str {
    match (key, home) {
        ("handshake" | "header" | "keep_alive", Home::Route) => BEFORE_ROUTES,
        ("handshake" | "header" | "keep_alive", _) => CLIENT_SIDE,
        ("idle", _) => OF_TCP,
        ("half_closed", _) => RELAYED,
        _ => PROCESS,
    }
}

/// What a route allows; `body` is short for three of them.
const OF_ROUTES: &str = "a route may have `connect`, `upload`, `response`, `response_idle`, \
                         `send` and `tunnel`, or `body`";

fn refuse(entry: &Entry, home: Home, c: &mut Compiler<'_>) {
    let key = &entry.key;
    let mut message = format!("`{key}` in `timeouts` belongs in {}", belongs_in(key, home));
    if home == Home::Route {
        message = format!("{message}; {OF_ROUTES}");
    }
    c.problems.error(entry.key_at, message);
}

impl Given {
    #[inline(never)]
    pub(super) fn read(entry: &Entry, home: Home, c: &mut Compiler<'_>) -> Self {
        let mut given = Self::default();
        let section = Section::open("`timeouts`", &entry.value, &mut c.problems);
        let Some(mut section) = section else {
            return given;
        };
        section.home = home;
        for key in TIMEOUTS {
            if key.may_stand(home) {
                section.walk(slice::from_ref(key), &mut given, c);
            } else if section.peek(key.name).is_some() {
                // It is known, and so suggested, only where it stands.
                let entry = section.entry(key.name);
                entry.into_iter().for_each(|entry| refuse(entry, home, c));
            }
        }
        section.close(&mut c.problems);
        given
    }

    pub(super) fn tree(&self, shown: &Shown<'_>) -> Tree {
        Tree::Map(written(TIMEOUTS, self, shown))
    }

    /// These over `base`. Without HTTP, its timeouts stay as they are by default.
    pub(super) fn over(&self, base: Timeouts, http: bool) -> Timeouts {
        let base = Timeouts {
            handshake: self.handshake.unwrap_or(base.handshake),
            ..base
        };
        if !http {
            let over = &self.over;
            return Timeouts {
                connect: over.connect.unwrap_or(base.connect),
                idle: over.idle.unwrap_or(base.idle),
                half_closed: over.half_closed.unwrap_or(base.half_closed),
                ..base
            };
        }
        Timeouts {
            header: self.header.unwrap_or(base.header),
            keep_alive: self.keep_alive.unwrap_or(base.keep_alive),
            ..base.with(&self.over)
        }
    }

    pub(super) fn overrides(self) -> TimeoutOverrides {
        self.over
    }

    pub(super) fn of_overrides(over: TimeoutOverrides) -> Self {
        Self {
            over,
            ..Self::default()
        }
    }

    pub(super) fn of_process(config: &Config) -> Self {
        Self {
            drain: Some(config.drain_timeout),
            pre_drain: Some(config.pre_drain),
            ..Self::default()
        }
    }
}

impl From<&Timeouts> for Given {
    fn from(all: &Timeouts) -> Self {
        let over = TimeoutOverrides {
            connect: Some(all.connect),
            idle: Some(all.idle),
            half_closed: Some(all.half_closed),
            upload: Some(all.upload),
            response: Some(all.response),
            response_idle: Some(all.response_idle),
            send: Some(all.send),
            tunnel: Some(all.tunnel),
        };
        Self {
            over,
            handshake: Some(all.handshake),
            header: Some(all.header),
            keep_alive: Some(all.keep_alive),
            ..Self::default()
        }
    }
}
