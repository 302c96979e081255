//! `keepalive`: off, on, or a mapping.

use std::time::Duration;

use super::compile::Compiler;
use super::defaults;
use super::key::{Key, key};
use super::model::Keepalive;
use super::node::{Entry, Node};
use super::section::{OR_SWITCH, read_mapping};
use super::tree;
use super::values::{self, Read};

pub(super) static KEEPALIVE: &[Key<Keepalive>] = &[
    key! { "idle", Keepalive.idle, time, tree::duration },
    key! { "interval", Keepalive.interval, time, tree::duration },
    key! {
        "probes", Keepalive.probes,
        values::integer(1..=defaults::KEEPALIVE_PROBES_MAX), tree::word,
    },
];

fn time(node: &Node) -> Read<Duration> {
    values::whole_seconds(Duration::from_secs(1)..=defaults::KEEPALIVE_MAX)(node)
}

/// What a key says, in whatever place.
pub(super) fn keepalive(entry: &Entry, c: &mut Compiler<'_>) -> Option<Keepalive> {
    let node = &entry.value;
    if values::is_off(node) {
        return None;
    }
    let mut keepalive = defaults::KEEPALIVE;
    read_mapping(
        ("`keepalive`", OR_SWITCH),
        node,
        KEEPALIVE,
        &mut keepalive,
        c,
    )
    .then_some(keepalive)
}
