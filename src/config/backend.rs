//! `backends` of an upstream.

use std::collections::HashMap;

use super::compile::Compiler;
use super::defaults;
use super::key::{Key, Shown, key, later, written};
use super::model::{Backend, Upstream, WEIGHT_MAX};
use super::node::{Entry, Node, Value};
use super::problem::{Position, Problems};
use super::section::{Section, read_value};
use super::tree::{self, Tree};
use super::values::{self, integer, or_word};
use crate::core::address::BackendAddress;

pub(super) static BACKEND: &[Key<Backend>] = &[
    Key::new("address", later, |it, _| {
        Some(tree::text(it.address.to_string()))
    }),
    key! { "id", Backend.identity, values::name, tree::text },
    key! { "weight", Backend.weight, integer(0..=WEIGHT_MAX as i128), tree::word },
    key! {
        "max_connections", Backend.connections_max,
        or_word("unlimited", integer(1..=defaults::CONNECTIONS_LIMIT)), tree::or_word("unlimited"),
    },
];

pub(super) fn tree(backend: &Backend, shown: &Shown<'_>) -> Tree {
    Tree::Map(written(BACKEND, backend, shown))
}

/// A list of addresses and mappings.
pub(super) fn backends(upstream: &mut Upstream, entry: &Entry, c: &mut Compiler<'_>) {
    let node = &entry.value;
    let Some(items) = read_value(&entry.key, node, &mut c.problems, values::list) else {
        return;
    };
    let read = |item| Some((backend(item, c)?, item.at));
    let read: Vec<(Backend, Position)> = items.iter().filter_map(read).collect();
    check_distinct(&read, &mut c.problems);
    if read.len() == items.len() && read.iter().all(|(backend, _)| backend.weight == 0) {
        c.problems.warning(
            node.at,
            "every backend has weight 0, so none takes new traffic",
        );
    }
    upstream.backends = read.into_iter().map(|(backend, _)| backend).collect();
}

fn check_distinct(backends: &[(Backend, Position)], problems: &mut Problems) {
    let mut identities: HashMap<&str, Position> = HashMap::new();
    let mut addresses: HashMap<String, Position> = HashMap::new();
    for (backend, at) in backends {
        if let Some(first) = addresses.insert(backend.address.to_string(), *at) {
            let message = format!(
                "two backends have the address {}; the other is on line {}; one with more \
                 `weight` does the same",
                backend.address, first.line
            );
            problems.error(*at, message);
        } else if let Some(first) = identities.insert(&backend.identity, *at) {
            let message = format!(
                "two backends have the id \"{}\"; the other is on line {}",
                backend.identity, first.line
            );
            problems.error(*at, message);
        }
    }
}

fn backend(node: &Node, c: &mut Compiler<'_>) -> Option<Backend> {
    if let Value::Map(_) = node.value {
        return mapping(node, c);
    }
    let address = read_value("backends", node, &mut c.problems, |node| {
        values::backend_address(node).map_err(|must| format!("{must}, or a mapping"))
    })?;
    Some(blank(node, address))
}

fn mapping(node: &Node, c: &mut Compiler<'_>) -> Option<Backend> {
    let mut section = Section::open("a backend", node, &mut c.problems)?;
    let written = section.peek("address").map_or(node, |entry| &entry.value);
    let address = section.require("address", &mut c.problems, values::backend_address);
    let is_good = address.is_some();
    let unknown = || BackendAddress::Name {
        host: String::new(),
        port: 0,
    };
    let mut backend = blank(written, address.unwrap_or_else(unknown));
    section.walk(BACKEND, &mut backend, c);
    section.close(&mut c.problems);
    is_good.then_some(backend)
}

/// A backend that no file has, of these parts.
pub(super) fn added(address: &str, identity: &str, weight: Option<u32>) -> Result<Backend, String> {
    let node = Node {
        at: Position { line: 1, column: 1 },
        value: Value::Text(address.to_owned()),
    };
    let address = values::backend_address(&node);
    let address = address.map_err(|must| format!("`address` must be {must}"))?;
    Ok(Backend {
        identity: identity.to_owned(),
        weight: weight.unwrap_or(defaults::WEIGHT),
        ..blank(&node, address)
    })
}

/// A backend with every default.
fn blank(written: &Node, address: BackendAddress) -> Backend {
    Backend {
        identity: values::name_from(values::text(written).unwrap_or_default()),
        address,
        weight: defaults::WEIGHT,
        connections_max: None,
    }
}
