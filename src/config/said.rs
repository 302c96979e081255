//! What each key of a part of the configuration says, as a number: equal ones are printed alike.
//! Only what is a part of its own is left out.

use super::backend::BACKEND;
use super::key::{Key, Shown};
use super::listener::{ENCRYPTED, HTTP, LISTENER, WITHOUT_ROUTES};
use super::model::{Backend, Config, Listener, Mode, Route, Upstream};
use super::route::{ACTIONS, ROUTE};
use super::top::TOP;
use super::upstream::UPSTREAM;
use crate::core::key::bytes_key;

/// What a key of the file is called, and what it says; 0 when it is not there.
pub(crate) type Said = (&'static str, u32);

/// Lists of parts.
const PARTS: [&str; 4] = ["listeners", "upstreams", "routes", "backends"];

const CHECK: &str = "health_check";
/// What stands behind it depends on it.
pub(crate) const MODE: &str = "mode";

/// The top level.
pub(crate) fn process(config: &Config) -> Vec<Said> {
    said(TOP, config, config)
}

pub(crate) fn listener(listener: &Listener, config: &Config) -> Vec<Said> {
    let is_last = |(name, _): &Said| matches!(*name, MODE | "timeouts" | "limits");
    let keys = said(LISTENER, listener, config).into_iter();
    let (last, mut keys): (Vec<_>, Vec<_>) = keys.partition(is_last);
    keys.extend(last);
    keys.extend(match &listener.mode {
        Mode::Tcp { .. } => said(WITHOUT_ROUTES, listener, config),
        Mode::Http(http) => said(HTTP, http, config),
        // Its routes are no parts of their own.
        Mode::Tls { .. } => said_all(ENCRYPTED.iter(), listener, config),
    });
    keys
}

pub(crate) fn upstream(upstream: &Upstream, config: &Config) -> Vec<Said> {
    said(UPSTREAM, upstream, config)
}

/// As many for each route: what it does is one key, whichever it is.
pub(crate) fn route(route: &Route, config: &Config) -> Vec<Said> {
    let keys = said(ROUTE, route, config).into_iter();
    let (actions, mut keys): (Vec<_>, Vec<_>) = keys.partition(|(key, _)| ACTIONS.contains(key));
    keys.extend(actions.into_iter().find(|(_, says)| *says != 0));
    keys
}

pub(crate) fn backend(backend: &Backend, config: &Config) -> Vec<Said> {
    said(BACKEND, backend, config)
}

/// The health check of an upstream alone.
pub(crate) fn check(upstream: &Upstream, config: &Config) -> Vec<Said> {
    let mut keys = said(UPSTREAM, upstream, config);
    keys.retain(|(name, _)| *name == CHECK);
    keys
}

fn said<M>(keys: &[Key<M>], model: &M, config: &Config) -> Vec<Said> {
    let keys = keys.iter().filter(|key| !PARTS.contains(&key.name));
    said_all(keys, model, config)
}

fn said_all<'k, M: 'k>(
    keys: impl Iterator<Item = &'k Key<M>>,
    model: &M,
    config: &Config,
) -> Vec<Said> {
    let shown = Shown::all_of(config);
    let says = |key: &Key<M>| {
        let tree = key.written(model, &shown);
        tree.map_or(0, |tree| number(&tree.behind_key()))
    };
    keys.map(|key| (key.name, says(key))).collect()
}

fn number(text: &str) -> u32 {
    let high = bytes_key(text.as_bytes()) >> 32;
    u32::try_from(high).unwrap_or(u32::MAX).max(1)
}
