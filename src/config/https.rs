//! `redirect_to_https` and `hsts`, from the file to the model and back.

use std::time::Duration;

use super::answers::redirect_status;
use super::compile::Compiler;
use super::defaults;
use super::key::{Key, key};
use super::model::{Http, HttpsRedirect, Listener, Mode};
use super::node::{Entry, Node};
use super::problem::Problems;
use super::section::{OR_SWITCH, Section, read_mapping};
use super::tree::{self, Tree};
use super::values::{self, Read, integer};

pub(super) static REDIRECT_TO_HTTPS: &[Key<HttpsRedirect>] = &[
    key! { "port", HttpsRedirect.port, integer(1..=65_535), tree::word },
    key! { "status", HttpsRedirect.status, redirect_status, tree::word },
];

/// `true`, or a mapping.
pub(super) fn redirect_to_https(http: &mut Http, entry: &Entry, c: &mut Compiler<'_>) {
    let mut redirect = defaults::HTTPS_REDIRECT;
    let is_given = values::switch(&entry.value).unwrap_or_else(|| {
        let what = ("`redirect_to_https`", OR_SWITCH);
        read_mapping(what, &entry.value, REDIRECT_TO_HTTPS, &mut redirect, c)
    });
    http.redirect_to_https = is_given.then_some(redirect);
}

pub(super) fn hsts(node: &Node) -> Read<Option<Duration>> {
    if values::is_off(node) {
        return Ok(None);
    }
    // It has browsers forget what they were told before.
    if let Ok(zero) = values::duration(Duration::ZERO..=Duration::ZERO)(node) {
        return Ok(Some(zero));
    }
    let read = values::whole_seconds(defaults::HSTS_MIN..=defaults::HSTS_MAX);
    let read = read(node).map(Some);
    read.map_err(|must| format!("{must}, 0 or off"))
}

pub(super) fn hsts_tree(max_age: &Option<Duration>) -> Tree {
    max_age
        .as_ref()
        .map_or_else(|| tree::word("off"), tree::duration)
}

/// Browsers believe it over TLS alone (RFC 6797 section 8.1), so that it is sent over nothing else.
pub(super) fn check_hsts(section: &Section<'_>, listener: &Listener, problems: &mut Problems) {
    if let (Some(entry), Mode::Http(http), None) =
        (section.peek("hsts"), &listener.mode, &listener.tls)
        && http.hsts.is_some()
    {
        let message = "`hsts` is sent over TLS alone, and this listener has no `tls`: it belongs \
                       on the one that has";
        problems.warning(entry.key_at, message);
    }
}
