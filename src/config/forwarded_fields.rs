//! `forwarded_fields`: which fields are believed only from trusted proxies, beside those of
//! [`claims`](crate::core::http::claims).

use super::compile::Compiler;
use super::defaults;
use super::key::Key;
use super::model::ForwardedFields;
use super::node::{Entry, Node, Value};
use super::problem::Problems;
use super::section::{read_mapping, read_value};
use super::suggest;
use super::tree;
use super::values::{self, Read};
use crate::core::http::claims::{ClaimError, Claims, FAMILY};

pub(super) static FORWARDED_FIELDS: &[Key<ForwardedFields>] = &[
    Key::new("drop", dropped, |it, _| Some(tree::texts(&it.drop))),
    Key::new("keep", kept, |it, _| Some(tree::texts(&it.keep))),
];

pub(super) fn forwarded_fields(entry: &Entry, c: &mut Compiler<'_>) -> ForwardedFields {
    let mut fields = ForwardedFields::default();
    let what = "`forwarded_fields`";
    read_mapping((what, ""), &entry.value, FORWARDED_FIELDS, &mut fields, c);
    fields
}

fn dropped(fields: &mut ForwardedFields, entry: &Entry, c: &mut Compiler<'_>) {
    let mut claims = Claims::default();
    fields.drop = names(entry, &mut c.problems, |name, _| {
        claims.drop(name.as_bytes())
    });
}

fn kept(fields: &mut ForwardedFields, entry: &Entry, c: &mut Compiler<'_>) {
    let mut claims = Claims::default();
    for name in &fields.drop {
        let taken = claims.drop(name.as_bytes());
        debug_assert!(taken.is_ok(), "it was taken before");
    }
    fields.keep = names(entry, &mut c.problems, |name, warn| {
        let is_dropped = claims.keep(name.as_bytes())?;
        if !is_dropped {
            let known = FAMILY.iter().filter(|known| !known.ends_with('*'));
            let near = suggest::hint(name, known.copied());
            warn(format!("`keep` names {name}, which nothing drops{near}"));
        }
        Ok(())
    });
}

/// The names of a list that `take` takes, which may warn of them.
fn names(
    entry: &Entry,
    problems: &mut Problems,
    mut take: impl FnMut(&str, &mut dyn FnMut(String)) -> Result<(), ClaimError>,
) -> Vec<String> {
    let (key, node) = (entry.key.as_str(), &entry.value);
    // The empty list is the default, written out.
    if node.value == Value::List(Vec::new()) {
        return Vec::new();
    }
    let items = read_value(key, node, problems, list).unwrap_or_default();
    let mut names = Vec::new();
    for item in items {
        let mut warning = None;
        let name = read_value(key, item, problems, |node| {
            let name = values::text(node).map_err(|_| must(ClaimError::Name))?;
            let fits = name.len() <= defaults::NAME_BYTES_MAX;
            let name = fits.then_some(name).ok_or_else(|| must(ClaimError::Name))?;
            let mut warn = |text| warning = Some(text);
            take(name, &mut warn)
                .map_err(must)
                .map(|()| name.to_owned())
        });
        names.extend(name);
        if let Some(warning) = warning {
            problems.warning(item.at, warning);
        }
    }
    names
}

fn list(node: &Node) -> Read<&[Node]> {
    let items = values::list(node)?;
    let fits = items.len() <= defaults::FORWARDED_NAMES_MAX;
    let must = || format!("a list of at most {}", defaults::FORWARDED_NAMES_MAX);
    fits.then_some(items).ok_or_else(must)
}

fn must(error: ClaimError) -> String {
    match error {
        ClaimError::Name => "the name of a field, such as X-Tenant; no pattern",
        ClaimError::Reserved => {
            "another field: weir alone decides on Host and on what frames a message or belongs to \
             one connection"
        }
        ClaimError::Written => {
            "another field: weir writes this one itself; `trusted_proxies` says whose is believed, \
             `headers` of a route sets or removes it"
        }
        ClaimError::Proxy => {
            "another field: Proxy passes from nobody, as CGI programs take it for their own proxy"
        }
        ClaimError::Repeated => {
            "a name that is in neither `drop` nor `keep` yet, whatever its case and punctuation"
        }
    }
    .to_owned()
}
