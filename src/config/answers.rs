//! What weir answers itself: `respond` and `redirect` of routes, and `error_pages`.

use std::path::Path;

use super::compile::Compiler;
use super::defaults;
use super::fields::{field_value, fields, fields_tree};
use super::key::{Key, Shown, key, later, written};
use super::model::{Action, ErrorPage, FixedResponse};
use super::node::{Node, Value, describe_text};
use super::problem::Problems;
use super::section::{Section, read_value};
use super::tree::{self, Tree};
use super::values::{self, Read};

pub(super) static RESPOND: &[Key<FixedResponse>] = &[
    key! { "status", FixedResponse.status, values::integer(200..=599), tree::word },
    Key::new(
        "headers",
        |it, entry, c| it.headers = fields("headers", &entry.value, &mut c.problems),
        |it, _| Some(fields_tree(&it.headers)),
    ),
    key! { "body", FixedResponse.body, body, tree::text },
];

pub(super) static REDIRECT: &[Key<Redirect>] = &[
    key! { "status", Redirect.status, redirect_status, tree::word },
    Key::new("location", later, |it, _| Some(tree::text(&it.location))),
];

/// Of a page that is not a file.
static PAGE: &[Key<ErrorPage>] = &[
    key! { "content_type", ErrorPage.content_type, |node| field_value("add", node), tree::text },
    Key::new("body", later, |it, _| {
        Some(tree::text(String::from_utf8_lossy(&it.body)))
    }),
];

/// As [`Action::Redirect`].
pub(super) struct Redirect {
    status: u16,
    location: String,
}

impl Redirect {
    pub(super) fn of(action: &Action) -> Option<Self> {
        let Action::Redirect { status, location } = action else {
            return None;
        };
        Some(Self {
            status: *status,
            location: location.clone(),
        })
    }
}

/// Fields that must stand in responses with these statuses (RFC 9110 sections 15.5.2, 15.5.8 and
/// 15.5.22).
const REQUIRED_FIELDS: [(u16, &str); 3] = [
    (401, "WWW-Authenticate"),
    (407, "Proxy-Authenticate"),
    (426, "Upgrade"),
];

pub(super) fn respond(node: &Node, c: &mut Compiler<'_>) -> Option<Action> {
    let mut section = Section::open("`respond`", node, &mut c.problems)?;
    let mut response = FixedResponse {
        status: defaults::RESPOND_STATUS,
        headers: Vec::new(),
        body: String::new(),
    };
    section.walk(RESPOND, &mut response, c);
    check_response(&response, &section, &mut c.problems);
    section.close(&mut c.problems);
    Some(Action::Respond(response))
}

fn check_response(response: &FixedResponse, section: &Section<'_>, problems: &mut Problems) {
    let status = response.status;
    if matches!(status, 204 | 205 | 304) && !response.body.is_empty() {
        let at = section
            .peek("body")
            .map_or(section.at, |entry| entry.key_at);
        problems.error(at, format!("a response with status {status} has no body"));
    }
    let missing = REQUIRED_FIELDS.iter().find(|(of, name)| {
        let has = |field: &(String, String)| field.0.eq_ignore_ascii_case(name);
        *of == status && !response.headers.iter().any(has)
    });
    if let Some((_, name)) = missing {
        let message =
            format!("a response with status {status} needs the field {name} in `headers`");
        problems.warning(section.at, message);
    }
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

pub(super) fn redirect(node: &Node, c: &mut Compiler<'_>) -> Option<Action> {
    let mut section = Section::open("`redirect`", node, &mut c.problems)?;
    let mut redirect = Redirect {
        status: defaults::REDIRECT_STATUS,
        location: String::new(),
    };
    section.walk(REDIRECT, &mut redirect, c);
    let location = section.require("location", &mut c.problems, location);
    section.close(&mut c.problems);
    Some(Action::Redirect {
        status: redirect.status,
        location: location?,
    })
}

pub(super) fn redirect_status(node: &Node) -> Read<u16> {
    let must = || "301, 302, 303, 307 or 308".to_owned();
    let status = values::integer(301..=308)(node).map_err(|_| must())?;
    matches!(status, 301..=303 | 307 | 308)
        .then_some(status)
        .ok_or_else(must)
}

fn location(node: &Node) -> Read<String> {
    let must =
        || "a URL or a path of visible ASCII characters; `{path}` may stand in it".to_owned();
    let location = values::text(node).map_err(|_| must())?;
    let fits = location.bytes().all(|byte| byte.is_ascii_graphic())
        && (1..=defaults::FIELD_VALUE_BYTES_MAX).contains(&location.len());
    fits.then(|| location.to_owned()).ok_or_else(must)
}

/// `error_pages`: statuses, each with a file, or with `content_type` and `body`.
pub(super) fn error_pages(node: &Node, c: &mut Compiler<'_>) -> Vec<ErrorPage> {
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
            inline_page(c, &entry.value, status)
        } else {
            page_file(c, &entry.value, status)
        };
        pages.extend(page);
    }
    pages
}

pub(super) fn pages_tree(pages: &[ErrorPage], shown: &Shown<'_>) -> Tree {
    let page = |it: &ErrorPage| (it.status.to_string(), Tree::Map(written(PAGE, it, shown)));
    Tree::Map(pages.iter().map(page).collect())
}

fn inline_page(c: &mut Compiler<'_>, node: &Node, status: u16) -> Option<ErrorPage> {
    let mut section = Section::open("an error page", node, &mut c.problems)?;
    let mut page = ErrorPage {
        status,
        content_type: content_type_of("html").to_owned(),
        body: Vec::new(),
    };
    section.walk(PAGE, &mut page, c);
    let body = section.require("body", &mut c.problems, body);
    section.close(&mut c.problems);
    page.body = body?.into_bytes();
    Some(page)
}

fn page_file(c: &mut Compiler<'_>, node: &Node, status: u16) -> Option<ErrorPage> {
    let path = read_value("error_pages", node, &mut c.problems, |node| {
        let must = || "the path of a file, or a mapping with `body`".to_owned();
        let path = values::text(node).map_err(|_| must())?;
        let fits = !path.is_empty() && !path.contains('\0');
        fits.then(|| Path::new(path)).ok_or_else(must)
    })?;
    let read = (c.read_file)(path).map_err(|error| format!("cannot be read: {error}"));
    c.positions.files.extend(read.is_ok().then_some(node.at));
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
