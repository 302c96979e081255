//! `sticky` of an upstream.

use std::time::Duration;

use super::compile::Compiler;
use super::defaults;
use super::key::{Key, Shown, key, later, written};
use super::model::{HashKey, Sticky, StickyCookie, Upstream};
use super::node::{Entry, Node};
use super::section::{OR_SWITCH, Section};
use super::tree::{self, Tree};
use super::upstream::hash_key;
use super::values::{self, Read, one_of};

/// Of the cookie that weir sets. `hash` stands alone.
pub(super) static STICKY: &[Key<StickyCookie>] = &[
    Key::new("cookie", later, |it, _| Some(tree::text(&it.name))),
    key! {
        "domain", StickyCookie.domain,
        domain, |it: &Option<String>| it.as_ref().map(tree::text),
    },
    key! {
        "max_age", StickyCookie.max_age,
        max_age, |it: &Option<Duration>| it.as_ref().map(tree::duration),
    },
    key! {
        "same_site", StickyCookie.same_site,
        same_site, |it: &String| tree::word(it.to_ascii_lowercase()),
    },
    key! { "secure", StickyCookie.secure, values::boolean, tree::word },
    key! { "cache_private", StickyCookie.cache_private, values::boolean, tree::word },
    key! { "secret", StickyCookie.secret, secret, tree::text },
    key! {
        "wait", StickyCookie.wait,
        values::duration(Duration::ZERO..=defaults::STICKY_WAIT_MAX), tree::duration,
    },
];

pub(super) fn sticky(upstream: &mut Upstream, entry: &Entry, c: &mut Compiler<'_>) {
    upstream.sticky = read(&entry.value, c);
}

fn read(node: &Node, c: &mut Compiler<'_>) -> Option<Sticky> {
    if values::is_off(node) {
        return None;
    }
    let mut section = Section::open_or("`sticky`", OR_SWITCH, node, &mut c.problems)?;
    let sticky = match section.peek("hash") {
        Some(_) => section
            .read("hash", &mut c.problems, hash)
            .map(Sticky::HashCookie),
        None => insert(&mut section, c).map(Sticky::Insert),
    };
    section.close(&mut c.problems);
    sticky
}

fn hash(node: &Node) -> Read<String> {
    match hash_key(node) {
        Ok(HashKey::Cookie(name)) => Ok(name),
        Ok(HashKey::ClientIp { .. } | HashKey::Header(_) | HashKey::Uri) | Err(_) => {
            Err("\"cookie NAME\"".to_owned())
        }
    }
}

fn insert(section: &mut Section<'_>, c: &mut Compiler<'_>) -> Option<StickyCookie> {
    let name = section.require("cookie", &mut c.problems, values::token("a cookie's name"));
    let mut cookie = StickyCookie {
        name: name.clone().unwrap_or_default(),
        domain: None,
        max_age: None,
        same_site: defaults::SAME_SITE.to_owned(),
        secure: false,
        cache_private: false,
        secret: defaults::STICKY_SECRET.to_owned(),
        wait: defaults::STICKY_WAIT,
    };
    section.walk(STICKY, &mut cookie, c);
    if cookie.same_site == "None" && !cookie.secure {
        let message =
            "`same_site: none` needs `secure: true`: browsers refuse the cookie otherwise";
        let at = section.peek("same_site").map_or(section.at, |e| e.key_at);
        c.problems.error(at, message);
    }
    name.map(|_| cookie)
}

fn domain(node: &Node) -> Read<Option<String>> {
    let must = || "a domain, such as example.com".to_owned();
    let domain = values::text(node).map_err(|_| must())?;
    let fits = values::is_host_name(domain);
    fits.then(|| Some(domain.to_owned())).ok_or_else(must)
}

fn max_age(node: &Node) -> Read<Option<Duration>> {
    values::whole_seconds(Duration::from_secs(1)..=defaults::MAX_AGE_MAX)(node).map(Some)
}

/// As the attribute is written.
fn same_site(node: &Node) -> Read<String> {
    const WORDS: &[(&str, &str)] = &[("lax", "Lax"), ("strict", "Strict"), ("none", "None")];
    one_of(WORDS)(node).map(str::to_owned)
}

fn secret(node: &Node) -> Read<String> {
    let must = || format!("text of 1 to {} bytes", defaults::SECRET_BYTES_MAX);
    let secret = values::text(node)?;
    let fits = (1..=defaults::SECRET_BYTES_MAX).contains(&secret.len());
    fits.then(|| secret.to_owned()).ok_or_else(must)
}

pub(super) fn tree(sticky: Option<&Sticky>, shown: &Shown<'_>) -> Tree {
    match sticky {
        None => tree::word("off"),
        Some(Sticky::HashCookie(name)) => {
            let hash = tree::text(format!("cookie {name}"));
            Tree::Map(vec![("hash".to_owned(), hash)])
        }
        Some(Sticky::Insert(cookie)) => Tree::Map(written(STICKY, cookie, shown)),
    }
}
