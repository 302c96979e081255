//! Fields of a message's header: fixed ones, and the edits of a route.

use std::collections::HashMap;
use std::slice;

use super::compile::Compiler;
use super::defaults;
use super::key::{Key, Shown, written};
use super::model::{HeaderEdits, Route};
use super::node::{Entry, Node, Value, describe_text};
use super::problem::{Position, Problems};
use super::section::{Section, read_mapping, read_value};
use super::tree::{self, Map, Tree};
use super::values::{self, Read};
use crate::core::http::rewrite::{EditError, FieldEdits};

/// `headers` of a route.
pub(super) static HEADERS: &[Key<Route>] = &[
    Key::new(
        "request",
        |it, entry, c| it.request_headers = edits("`request`", &entry.value, c),
        |it, shown| not_empty(written(EDITS, &it.request_headers, shown)),
    ),
    Key::new(
        "response",
        |it, entry, c| it.response_headers = edits("`response`", &entry.value, c),
        |it, shown| not_empty(written(EDITS, &it.response_headers, shown)),
    ),
];

/// In the order in which they are applied.
pub(super) static EDITS: &[Key<HeaderEdits>] = &[
    Key::new("remove", remove, |it, _| {
        (!it.remove.is_empty()).then(|| tree::texts(&it.remove))
    }),
    Key::new(
        "set",
        |it, entry, c| it.set = fields("set", &entry.value, &mut c.problems),
        |it, _| (!it.set.is_empty()).then(|| fields_tree(&it.set)),
    ),
    Key::new(
        "add",
        |it, entry, c| it.add = fields("add", &entry.value, &mut c.problems),
        |it, _| (!it.add.is_empty()).then(|| fields_tree(&it.add)),
    ),
];

fn not_empty(map: Map) -> Option<Tree> {
    (!map.is_empty()).then_some(Tree::Map(map))
}

pub(super) fn headers(route: &mut Route, entry: &Entry, c: &mut Compiler<'_>) {
    let section = Section::open("`headers`", &entry.value, &mut c.problems);
    let Some(mut section) = section else {
        return;
    };
    for key in EDITS.iter().map(|key| key.name) {
        if let Some(entry) = section.entry(key) {
            let message = format!("`{key}` belongs under `request` or `response` in `headers`");
            c.problems.error(entry.key_at, message);
        }
    }
    section.walk(HEADERS, route, c);
    section.close(&mut c.problems);
}

pub(super) fn edits_tree(route: &Route, shown: &Shown<'_>) -> Option<Tree> {
    not_empty(written(HEADERS, route, shown))
}

fn edits(what: &'static str, node: &Node, c: &mut Compiler<'_>) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    read_mapping((what, ""), node, EDITS, &mut edits, c);
    edits
}

fn remove(edits: &mut HeaderEdits, entry: &Entry, c: &mut Compiler<'_>) {
    let (key, problems) = (&entry.key, &mut c.problems);
    let items = read_value(key, &entry.value, problems, values::list).unwrap_or_default();
    let name = |node: &Node| {
        let name = values::text(node).map_err(|_| FIELD_NAME_MUST.to_owned())?;
        let tried = FieldEdits::none().remove(name.as_bytes());
        tried.map_err(edit_must).map(|()| name.to_owned())
    };
    let names = items.iter();
    edits.remove = names
        .filter_map(|item| read_value(key, item, problems, name))
        .collect();
}

const FIELD_NAME_MUST: &str = "the name of a field, such as X-Request-Source";

fn edit_must(error: EditError) -> String {
    match error {
        EditError::Name => FIELD_NAME_MUST.to_owned(),
        EditError::Value => "text without control characters".to_owned(),
        EditError::Reserved => "a field that weir does not decide on itself, as it does on Host, \
                                framing and hop-by-hop fields"
            .to_owned(),
    }
}

/// Fields by name: a value, or a list where one name has several in a row.
pub(super) fn fields_tree(fields: &[(String, String)]) -> Tree {
    let groups = fields.chunk_by(|(a, _), (b, _)| a == b);
    let group = |group: &[(String, String)]| {
        let value = match group {
            [(_, value)] => tree::text(value),
            many => Tree::List(many.iter().map(|(_, value)| tree::text(value)).collect()),
        };
        (tree::key(&group[0].0), value)
    };
    Tree::Map(groups.map(group).collect())
}

/// A mapping of field names to a value or a list of values. `set` takes one value each.
pub(super) fn fields(
    key: &'static str,
    node: &Node,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let Value::Map(entries) = &node.value else {
        let message = format!(
            "`{key}` is {}; it must be a mapping of field names to values",
            node.describe()
        );
        problems.error(node.at, message);
        return Vec::new();
    };
    let mut fields = Vec::new();
    let mut seen = HashMap::<String, Position>::new();
    for entry in entries {
        let folded = entry.key.to_ascii_lowercase();
        if let Some(first) = seen.insert(folded, entry.key_at) {
            let message = format!(
                "the field {} is given twice; first on line {}",
                describe_text(&entry.key),
                first.line
            );
            problems.error(entry.key_at, message);
            continue;
        }
        if let Err(error) = try_field(key, &entry.key, "") {
            let name = describe_text(&entry.key);
            let message = format!("the field {name} in `{key}` must be {}", edit_must(error));
            problems.error(entry.key_at, message);
            continue;
        }
        let mut values = slice::from_ref(&entry.value);
        if let Value::List(items) = &entry.value.value
            && key != "set"
        {
            values = items;
        }
        for value in values {
            let value = read_value(&entry.key, value, problems, |node| field_value(key, node));
            fields.extend(value.map(|value| (entry.key.clone(), value)));
        }
    }
    fields
}

/// Whether the header can be edited so. Only requests have a Host to set, none to add.
fn try_field(key: &str, name: &str, value: &str) -> Result<(), EditError> {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    let is_host = name.eq_ignore_ascii_case(b"host");
    match key {
        "set" => FieldEdits::none().set(name, value),
        _ if is_host => Err(EditError::Reserved),
        _ => FieldEdits::none().add(name, value),
    }
}

pub(super) fn field_value(key: &str, node: &Node) -> Read<String> {
    let value = if let Value::Integer(number) = node.value {
        number.to_string()
    } else {
        values::text(node)?.to_owned()
    };
    try_field(key, "X-Any", &value).map_err(edit_must)?;
    if value.len() > defaults::FIELD_VALUE_BYTES_MAX {
        return Err(format!(
            "at most {} bytes long",
            defaults::FIELD_VALUE_BYTES_MAX
        ));
    }
    if value.trim_matches([' ', '\t']).len() != value.len() {
        return Err("text without blanks around it".to_owned());
    }
    Ok(value)
}
