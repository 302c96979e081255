//! The keys of the top level that both forms have.

use std::time::Duration;

use super::access_log::{ACCESS_LOG, access_log};
use super::compile::Compiler;
use super::defaults;
use super::forwarded_fields::forwarded_fields;
use super::key::{Home, Key, key, later, mapping, or_off, unwritten};
use super::model::{Config, IS_ONE_PROCESS, WORKERS_MAX};
use super::node::{Entry, Node};
use super::section::Section;
use super::timeouts::Given;
use super::tree::{self, Tree};
use super::values::{self, Read, integer, on_or_off, one_of, or_word};
use super::{admin, keepalive, listener, upstream};

pub(super) static TOP: &[Key<Config>] = &[
    key! { "workers", Config.workers, workers, tree::or_word("auto") },
    key! { "supervisor", Config.always_supervised, supervisor, tree::one_of(SUPERVISOR) },
    key! {
        "when_supervisor_dies", Config.stops_with_supervisor,
        one_of(WHEN_SUPERVISOR_DIES), tree::one_of(WHEN_SUPERVISOR_DIES),
    },
    key! { "log_level", Config.log_level, one_of(LOG_LEVELS), tree::one_of(LOG_LEVELS) },
    key! {
        "stats_interval", Config.stats_interval,
        stats_interval, |it: &Option<Duration>| tree::duration(&it.unwrap_or_default()),
    },
    Key::new("access_log", access_log, |it, shown| {
        or_off(ACCESS_LOG, it.access_log.as_ref(), shown)
    }),
    Key::new("admin", admin::admin, |it, shown| {
        admin::written(&it.admin, shown)
    }),
    key! { "state", Config.state, admin::state, admin::state_tree },
    key! {
        "max_connections", Config.connections_max,
        or_word("auto", integer(1..=defaults::CONNECTIONS_LIMIT)), tree::or_word("auto"),
    },
    Key::new("buffers", buffers, |it, shown| mapping(BUFFERS, it, shown)),
    key! { "splice", Config.splice, values::boolean, tree::word },
    // Nothing is looked up here: whether such a user exists is a matter of the machine.
    key! {
        "user", Config.privileges.user,
        or_word("auto", values::account), tree::text_or("auto"),
    },
    key! {
        "group", Config.privileges.group,
        or_word("auto", values::account), tree::text_or("auto"),
    },
    key! { "chroot", Config.privileges.chroot, values::root_folder, tree::path_or("off") },
    key! { "sandbox", Config.privileges.sandbox, on_or_off, tree::on_or_off },
    Key::new("timeouts", timeouts, |it, shown| {
        Some(Given::of_process(it).tree(shown))
    }),
    Key::new("keepalive", keepalive, unwritten),
    Key::new("forwarded_fields", fields, unwritten),
    Key::<Config>::new("listeners", later, |it, shown| {
        let trees = it.listeners.iter().map(|it| listener::tree(it, shown));
        Some(Tree::List(trees.collect()))
    })
    .at(&[Home::Top]),
    Key::new("upstreams", later, |it, _| Some(upstream::trees(it))).at(&[Home::Top]),
];

/// `size` bounds `memory`, so that both are read at once.
pub(super) static BUFFERS: &[Key<Config>] = &[
    Key::new("size", later, |it, _| Some(tree::size(&it.buffer_bytes))),
    Key::new("memory", later, |it, _| {
        let memory = it.buffer_memory_bytes.as_ref();
        Some(memory.map_or_else(|| tree::word("auto"), tree::size))
    }),
];

const SUPERVISOR: &[(&str, bool)] = &[("on", true), ("auto", false)];
const WHEN_SUPERVISOR_DIES: &[(&str, bool)] = &[("serve", false), ("stop", true)];
const ONE_PROCESS: &str = "weir is one process on a machine without 64-bit atomics";
const LOG_LEVELS: &[(&str, log::LevelFilter)] = &[
    ("off", log::LevelFilter::Off),
    ("error", log::LevelFilter::Error),
    ("warn", log::LevelFilter::Warn),
    ("info", log::LevelFilter::Info),
    ("debug", log::LevelFilter::Debug),
    ("trace", log::LevelFilter::Trace),
];

fn workers(node: &Node) -> Read<Option<usize>> {
    let read = or_word("auto", integer(1..=WORKERS_MAX as i128))(node);
    read.map_err(|must| {
        if IS_ONE_PROCESS {
            return format!("{must}, as {ONE_PROCESS}");
        }
        must
    })
}

fn supervisor(node: &Node) -> Read<bool> {
    let is_on = or_word("auto", values::on)(node)?.is_some();
    if is_on && IS_ONE_PROCESS {
        return Err(format!("auto, as {ONE_PROCESS}"));
    }
    Ok(is_on)
}

fn stats_interval(node: &Node) -> Read<Option<Duration>> {
    let is_zero = values::duration(Duration::ZERO..=Duration::ZERO);
    if values::is_off(node) || is_zero(node).is_ok() {
        return Ok(None);
    }
    let range = defaults::STATS_INTERVAL_MIN..=defaults::STATS_INTERVAL_MAX;
    values::duration(range)(node)
        .map(Some)
        .map_err(|must| format!("{must}, or 0 for off"))
}

fn timeouts(config: &mut Config, entry: &Entry, c: &mut Compiler<'_>) {
    c.timeouts = Given::read(entry, Home::Top, c);
    config.drain_timeout = c.timeouts.drain.unwrap_or(config.drain_timeout);
    config.pre_drain = c.timeouts.pre_drain.unwrap_or(config.pre_drain);
}

/// Of all connections.
fn keepalive(_: &mut Config, entry: &Entry, c: &mut Compiler<'_>) {
    c.keepalive = keepalive::keepalive(entry, c);
    c.base.keepalive = c.keepalive;
}

fn fields(_: &mut Config, entry: &Entry, c: &mut Compiler<'_>) {
    c.forwarded_fields = forwarded_fields(entry, c);
}

fn buffers(config: &mut Config, entry: &Entry, c: &mut Compiler<'_>) {
    let Some(mut section) = Section::open("`buffers`", &entry.value, &mut c.problems) else {
        return;
    };
    section.walk(BUFFERS, config, c);
    let problems = &mut c.problems;
    let size_range = defaults::BUFFER_BYTES_MIN..=defaults::BUFFER_BYTES_MAX;
    let size = section.read("size", problems, values::size(size_range));
    config.buffer_bytes = size.unwrap_or(config.buffer_bytes);
    // Nothing is said against a memory that some size fits. With `auto` any does.
    let least_size = match (size, section.peek("size")) {
        (None, Some(_)) => defaults::BUFFER_BYTES_MIN,
        (Some(_), _) | (None, None) => config.buffer_bytes as u64,
    };
    let least = least_size * defaults::BUFFERS_MIN;
    let memory = values::size(least..=defaults::BUFFER_MEMORY_BYTES_MAX);
    let memory = |node: &Node| {
        let count = defaults::BUFFERS_MIN;
        memory(node).map_err(|must| format!("{must}, and hold {count} buffers of `size`"))
    };
    let memory = section.read("memory", problems, or_word("auto", memory));
    config.buffer_memory_bytes = memory.flatten();
    section.close(problems);
    c.buffer_bytes = config.buffer_bytes;
}
