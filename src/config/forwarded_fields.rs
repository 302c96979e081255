//! `forwarded_fields`: which fields are believed only from trusted proxies, beside those of
//! [`claims`](crate::core::http::claims).

use super::defaults;
use super::model::ForwardedFields;
use super::node::{Node, Value};
use super::problem::Problems;
use super::section::{Section, read_value};
use super::suggest;
use super::values::{self, Read};
use crate::core::http::claims::{ClaimError, Claims, FAMILY};

pub(super) fn forwarded_fields(node: &Node, problems: &mut Problems) -> ForwardedFields {
    let mut fields = ForwardedFields::default();
    let Some(mut section) = Section::open("`forwarded_fields`", node, problems) else {
        return fields;
    };
    let mut claims = Claims::default();
    fields.drop = names(&mut section, "drop", problems, |name, _| {
        claims.drop(name.as_bytes())
    });
    fields.keep = names(&mut section, "keep", problems, |name, warn| {
        let is_dropped = claims.keep(name.as_bytes())?;
        if !is_dropped {
            let known = FAMILY.iter().filter(|known| !known.ends_with('*'));
            let near = suggest::hint(name, known.copied());
            warn(format!("`keep` names {name}, which nothing drops{near}"));
        }
        Ok(())
    });
    section.close(problems);
    fields
}

/// The names of a list that `take` takes, which may warn of them.
fn names(
    section: &mut Section<'_>,
    key: &'static str,
    problems: &mut Problems,
    mut take: impl FnMut(&str, &mut dyn FnMut(String)) -> Result<(), ClaimError>,
) -> Vec<String> {
    let Some(node) = section.node(key) else {
        return Vec::new();
    };
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
