//! Routes, header edits and error pages, from the file to the model.

use std::path::Path;

use super::compile::Compiler;
use super::defaults;
use super::model::{Action, ErrorPage, FixedResponse, HeaderEdits, HostPattern, Route};
use super::node::{Node, Value, describe_text};
use super::problem::{Position, Problems};
use super::section::{Section, read_value};
use super::timeouts::{Given, Place};
use super::upstream;
use super::values::{self, Read};
use crate::core::http::path::canonical;
use crate::core::http::rewrite::{EditError, FieldEdits, is_token};

/// `routes`, a list.
pub(super) fn routes(c: &mut Compiler<'_>, node: &Node) -> Vec<Route> {
    let items = read_value("routes", node, &mut c.problems, values::list);
    let routes: Vec<(Route, Position)> = items
        .unwrap_or_default()
        .iter()
        .filter_map(|item| Some((route(c, item)?, item.at)))
        .collect();
    check_distinct(&routes, &mut c.problems);
    routes.into_iter().map(|(route, _)| route).collect()
}

/// No two routes may want the same requests.
fn check_distinct(routes: &[(Route, Position)], problems: &mut Problems) {
    let mut by_place: std::collections::HashMap<_, Vec<&(Route, Position)>> =
        std::collections::HashMap::new();
    for own in routes {
        let (route, at) = own;
        let place = (host_key(&route.host), route.prefix.as_str());
        let others = by_place.entry(place).or_default();
        let clash = others.iter().find(|(other, _)| overlaps(other, route));
        if let Some((_, first)) = clash {
            let message = format!(
                "two routes take the same requests (prefix {}); the other is on line {}",
                route.prefix, first.line
            );
            problems.error(*at, message);
        }
        others.push(own);
    }
}

fn host_key(host: &HostPattern) -> &str {
    match host {
        HostPattern::Any => "",
        HostPattern::Exact(name) | HostPattern::Suffix(name) => name,
    }
}

/// Whether two routes of the same place share a method. A route for every method leaves the ones
/// that other routes name to them.
fn overlaps(a: &Route, b: &Route) -> bool {
    (a.methods.is_empty() && b.methods.is_empty())
        || a.methods.iter().any(|method| b.methods.contains(method))
}

fn route(c: &mut Compiler<'_>, node: &Node) -> Option<Route> {
    let mut section = Section::open("a route", node, &mut c.problems)?;
    let problems = &mut c.problems;
    let host = section.read("host", problems, values::host_pattern);
    let host = host.unwrap_or(HostPattern::Any);
    let written = section.peek("prefix").is_some();
    let prefix = section.read("prefix", problems, prefix);
    let is_bad = written && prefix.is_none();
    let prefix = prefix.unwrap_or_else(|| "/".to_owned());
    let methods = section.node("methods");
    let methods = methods.map_or_else(Vec::new, |node| methods_of(node, problems));
    let strip_prefix = section.read("strip_prefix", problems, values::boolean);
    let (request_headers, response_headers) = header_edits(&mut section, problems);
    let max_body = values::or_word("unlimited", values::size(0..=u64::MAX));
    let body_bytes_max = section.read("max_body", problems, max_body).flatten();
    // Beside backends of the route's own it is theirs.
    let abort_on_close = match section.peek("backends") {
        Some(_) => None,
        None => section.read("abort_on_close", problems, values::boolean),
    };
    let timeouts = section.node("timeouts");
    let timeouts = timeouts.map(|node| Given::read(node, Place::Route, problems).overrides());
    let generated_name = generated_name(&host, &prefix);
    let action = action(c, &mut section, &generated_name);
    for key in ["strip_prefix", "abort_on_close", "timeouts"] {
        if let Some(entry) = section.peek(key)
            && !matches!(action, Some(Action::Proxy(_)) | None)
        {
            let message = format!("`{key}` is for routes that forward to backends");
            c.problems.error(entry.key_at, message);
        }
    }
    section.close(&mut c.problems);
    if is_bad {
        // It would seem to take what other routes take.
        return None;
    }
    Some(Route {
        host,
        prefix,
        methods,
        strip_prefix: strip_prefix.unwrap_or(false),
        request_headers,
        response_headers,
        body_bytes_max,
        abort_on_close,
        timeouts: timeouts.unwrap_or_default(),
        action: action?,
    })
}

/// The name of the upstream made of a route's own backends.
fn generated_name(host: &HostPattern, prefix: &str) -> String {
    let name = match host {
        HostPattern::Any => format!("route:{prefix}"),
        HostPattern::Exact(host) => format!("route:{host}{prefix}"),
        HostPattern::Suffix(suffix) => format!("route:*{suffix}{prefix}"),
    };
    values::name_from(&name)
}

fn prefix(node: &Node) -> Read<String> {
    let must = "a path that begins with `/`";
    let given = values::text(node).map_err(|_| must.to_owned())?;
    if given.contains('?') {
        return Err(format!("{must}, without a query"));
    }
    let mut space = Vec::new();
    let canonical = match canonical(given.as_bytes(), &mut space) {
        _ if given.is_empty() => return Err(must.to_owned()),
        Ok(canonical) => String::from_utf8_lossy(canonical.path).into_owned(),
        Err(why) => return Err(format!("{must}: {why}")),
    };
    if canonical == given {
        Ok(canonical)
    } else {
        Err(format!(
            "written as requests are compared with it: {}",
            describe_text(&canonical)
        ))
    }
}

fn methods_of(node: &Node, problems: &mut Problems) -> Vec<String> {
    let must = || "a method in capital letters, such as GET".to_owned();
    let method = |node: &Node| {
        let method = values::text(node).map_err(|_| must())?;
        let is_upper = !method.bytes().any(|byte| byte.is_ascii_lowercase());
        let fits = is_token(method.as_bytes()) && is_upper && method != "CONNECT";
        fits.then(|| method.to_owned()).ok_or_else(must)
    };
    let items = read_value("methods", node, problems, values::list).unwrap_or_default();
    let mut methods: Vec<String> = Vec::new();
    for item in items {
        match read_value("methods", item, problems, method) {
            Some(method) if methods.contains(&method) => {
                problems.error(item.at, format!("the method {method} is given twice"));
            }
            Some(method) => methods.push(method),
            None => {}
        }
    }
    methods
}

/// What a route does; exactly one thing.
fn action(c: &mut Compiler<'_>, section: &mut Section<'_>, name: &str) -> Option<Action> {
    let given: Vec<_> = ["upstream", "backends", "respond", "redirect"]
        .into_iter()
        .filter_map(|key| Some((key, section.entry(key)?)))
        .collect();
    for (key, entry) in given.iter().skip(1) {
        let message = format!(
            "`{key}` and `{}` exclude each other: a route does one thing",
            given[0].0
        );
        c.problems.error(entry.key_at, message);
    }
    let first = given.first().copied();
    if !matches!(first, Some(("backends", _))) {
        refuse_upstream_keys(c, section);
    }
    match first {
        Some(("upstream", entry)) => c.upstream_named(&entry.value).map(Action::Proxy),
        Some(("backends", entry)) => {
            let name = c.free_upstream_name(name);
            let mut declared = upstream::upstream(c, section, &name);
            declared.at = entry.key_at;
            c.upstreams.push(declared);
            Some(Action::Proxy(c.upstreams.len() - 1))
        }
        Some(("respond", entry)) => respond(&entry.value, &mut c.problems),
        Some((_, entry)) => redirect(&entry.value, &mut c.problems),
        None => {
            let fallback = c.upstream_fallback();
            if fallback.is_none() {
                let message = "a route has none of `upstream`, `backends`, `respond` and \
                               `redirect`, and there are no top-level `backends`";
                c.problems.error(section.at, message);
            }
            fallback.map(Action::Proxy)
        }
    }
}

fn refuse_upstream_keys(c: &mut Compiler<'_>, section: &mut Section<'_>) {
    let shared = ["keepalive", "error_pages"];
    for key in upstream::KEYS.into_iter().chain(shared) {
        // A route has these itself.
        if matches!(key, "backends" | "abort_on_close") {
            continue;
        }
        if let Some(entry) = section.entry(key) {
            let message = format!("`{key}` needs `backends` in the same route");
            c.problems.error(entry.key_at, message);
        }
    }
}

/// Fields that must stand in responses with these statuses (RFC 9110 sections 15.5.2, 15.5.8 and
/// 15.5.22).
const REQUIRED_FIELDS: [(u16, &str); 3] = [
    (401, "WWW-Authenticate"),
    (407, "Proxy-Authenticate"),
    (426, "Upgrade"),
];

fn respond(node: &Node, problems: &mut Problems) -> Option<Action> {
    let mut section = Section::open("`respond`", node, problems)?;
    let status = section.read("status", problems, values::status(200..=599));
    let status = status.unwrap_or(defaults::RESPOND_STATUS);
    let body = section.read("body", problems, body).unwrap_or_default();
    let headers = section.node("headers");
    let headers = headers.map_or_else(Vec::new, |node| fields("headers", node, problems));
    if matches!(status, 204 | 205 | 304) && !body.is_empty() {
        let at = section
            .peek("body")
            .map_or(section.at, |entry| entry.key_at);
        problems.error(at, format!("a response with status {status} has no body"));
    }
    let missing = REQUIRED_FIELDS.iter().find(|(of, name)| {
        let has = |field: &(String, String)| field.0.eq_ignore_ascii_case(name);
        *of == status && !headers.iter().any(has)
    });
    if let Some((_, name)) = missing {
        let message =
            format!("a response with status {status} needs the field {name} in `headers`");
        problems.warning(section.at, message);
    }
    section.close(problems);
    Some(Action::Respond(FixedResponse {
        status,
        headers,
        body,
    }))
}

/// The text of an answer; an empty value is the empty text.
fn body(node: &Node) -> Read<String> {
    let body = if node.value == Value::Null {
        ""
    } else {
        values::text(node)?
    };
    if body.len() <= defaults::PAGE_BYTES_MAX {
        Ok(body.to_owned())
    } else {
        Err(format!(
            "text of at most {} bytes",
            defaults::PAGE_BYTES_MAX
        ))
    }
}

fn redirect(node: &Node, problems: &mut Problems) -> Option<Action> {
    let mut section = Section::open("`redirect`", node, problems)?;
    let status = section.read("status", problems, |node| {
        let must = || "301, 302, 303, 307 or 308".to_owned();
        let status = values::status(301..=308)(node).map_err(|_| must())?;
        matches!(status, 301..=303 | 307 | 308)
            .then_some(status)
            .ok_or_else(must)
    });
    let location = section.require("location", problems, |node| {
        let must =
            || "a URL or a path of visible ASCII characters; `{path}` may stand in it".to_owned();
        let location = values::text(node).map_err(|_| must())?;
        let fits = location.bytes().all(|byte| byte.is_ascii_graphic())
            && (1..=defaults::FIELD_VALUE_BYTES_MAX).contains(&location.len());
        fits.then(|| location.to_owned()).ok_or_else(must)
    });
    section.close(problems);
    Some(Action::Redirect {
        status: status.unwrap_or(defaults::REDIRECT_STATUS),
        location: location?,
    })
}

/// `headers` of a route: `request` and `response`, each with `remove`, `set` and `add`.
fn header_edits(section: &mut Section<'_>, problems: &mut Problems) -> (HeaderEdits, HeaderEdits) {
    let Some(node) = section.node("headers") else {
        return Default::default();
    };
    let Some(mut headers) = Section::open("`headers`", node, problems) else {
        return Default::default();
    };
    for key in ["remove", "set", "add"] {
        if let Some(entry) = headers.entry(key) {
            let message = format!("`{key}` belongs under `request` or `response` in `headers`");
            problems.error(entry.key_at, message);
        }
    }
    let mut side = |key, what| {
        let node = headers.node(key);
        node.map_or_else(HeaderEdits::default, |node| edits(what, node, problems))
    };
    let both = (side("request", "`request`"), side("response", "`response`"));
    headers.close(problems);
    both
}

fn edits(what: &'static str, node: &Node, problems: &mut Problems) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    let Some(mut section) = Section::open(what, node, problems) else {
        return edits;
    };
    if let Some(node) = section.node("remove") {
        let items = read_value("remove", node, problems, values::list).unwrap_or_default();
        let names = items.iter().filter_map(|item| {
            read_value("remove", item, problems, |node| {
                let name = values::text(node).map_err(|_| FIELD_NAME_MUST.to_owned())?;
                let tried = FieldEdits::none().remove(name.as_bytes());
                tried.map_err(edit_must).map(|()| name.to_owned())
            })
        });
        edits.remove = names.collect();
    }
    if let Some(node) = section.node("set") {
        edits.set = fields("set", node, problems);
    }
    if let Some(node) = section.node("add") {
        edits.add = fields("add", node, problems);
    }
    section.close(problems);
    edits
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

/// A mapping of field names to a value or a list of values. `set` takes one value each.
fn fields(key: &'static str, node: &Node, problems: &mut Problems) -> Vec<(String, String)> {
    let Value::Map(entries) = &node.value else {
        let message = format!(
            "`{key}` is {}; it must be a mapping of field names to values",
            node.describe()
        );
        problems.error(node.at, message);
        return Vec::new();
    };
    let mut fields = Vec::new();
    let mut seen = std::collections::HashMap::new();
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
        let mut values = std::slice::from_ref(&entry.value);
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

fn field_value(key: &str, node: &Node) -> Read<String> {
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

/// `error_pages`: statuses, each with a file, or with `content_type` and `body`.
pub(super) fn error_pages(c: &mut Compiler<'_>, node: &Node) -> Vec<ErrorPage> {
    let Value::Map(entries) = &node.value else {
        let message = format!(
            "`error_pages` is {}; it must be a mapping of statuses to files",
            node.describe()
        );
        c.problems.error(node.at, message);
        return Vec::new();
    };
    // Opened for its check of duplicate keys.
    let _ = Section::open("`error_pages`", node, &mut c.problems);
    let mut pages = Vec::new();
    for entry in entries {
        let status = entry.key.parse().ok().filter(|s| (400..=599).contains(s));
        let Some(status) = status else {
            let key = describe_text(&entry.key);
            let message =
                format!("a key of `error_pages` is {key}; it must be a status, 400 to 599");
            c.problems.error(entry.key_at, message);
            continue;
        };
        let page = if let Value::Map(_) = entry.value.value {
            inline_page(&entry.value, status, &mut c.problems)
        } else {
            page_file(c, &entry.value, status)
        };
        pages.extend(page);
    }
    pages
}

fn inline_page(node: &Node, status: u16, problems: &mut Problems) -> Option<ErrorPage> {
    let mut section = Section::open("an error page", node, problems)?;
    let content_type = section.read("content_type", problems, |node| field_value("add", node));
    let body = section.require("body", problems, body);
    section.close(problems);
    Some(ErrorPage {
        status,
        content_type: content_type.unwrap_or_else(|| content_type_of("html").to_owned()),
        body: body?.into_bytes(),
    })
}

fn page_file(c: &mut Compiler<'_>, node: &Node, status: u16) -> Option<ErrorPage> {
    let path = read_value("error_pages", node, &mut c.problems, |node| {
        let must = || "the path of a file, or a mapping with `body`".to_owned();
        let path = values::text(node).map_err(|_| must())?;
        let fits = !path.is_empty() && !path.contains('\0');
        fits.then(|| Path::new(path)).ok_or_else(must)
    })?;
    let read = (c.read_file)(path).map_err(|error| format!("cannot be read: {error}"));
    c.places.files.extend(read.is_ok().then_some(node.at));
    let body = read.and_then(|body| match String::from_utf8(body) {
        Ok(body) if body.len() <= defaults::PAGE_BYTES_MAX => Ok(body),
        Ok(_) => Err(format!("is longer than {} bytes", defaults::PAGE_BYTES_MAX)),
        Err(_) => Err("is not UTF-8 text".to_owned()),
    });
    match body {
        Ok(body) => Some(ErrorPage {
            status,
            content_type: content_type(path).to_owned(),
            body: body.into_bytes(),
        }),
        Err(why) => {
            let message = format!("the error page {} {why}", node.describe());
            c.problems.error(node.at, message);
            None
        }
    }
}

fn content_type(path: &Path) -> &'static str {
    content_type_of(path.extension().and_then(|e| e.to_str()).unwrap_or(""))
}

fn content_type_of(ending: &str) -> &'static str {
    match ending {
        "html" | "htm" => "text/html; charset=utf-8",
        "json" => "application/json",
        "xml" => "application/xml",
        _ => "text/plain; charset=utf-8",
    }
}
