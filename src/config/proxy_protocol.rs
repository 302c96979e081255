//! `proxy_protocol` of a listener: off, or whose PROXY headers are believed.

use super::compile::Compiler;
use super::key::Key;
use super::model::{Listener, ProxyProtocol};
use super::node::{Entry, Node};
use super::problem::Problems;
use super::section::{OR_SWITCH, Section, read_value};
use super::tree::{self, Tree};
use super::values::{self, Read};
use crate::core::address::Address;

pub(super) static PROXY_PROTOCOL: &[Key<ProxyProtocol>] = &[Key::new("from", from, |it, _| {
    let networks = it.from.iter().map(tree::network);
    let unix = it.from_unix.then(|| tree::word(UNIX));
    Some(Tree::List(networks.chain(unix).collect()))
})];

/// What stands for peers on Unix sockets.
const UNIX: &str = "unix";

pub(super) fn proxy_protocol(entry: &Entry, c: &mut Compiler<'_>) -> Option<ProxyProtocol> {
    if values::is_off(&entry.value) {
        return None;
    }
    let what = "`proxy_protocol`";
    let mut section = Section::open_or(what, OR_SWITCH, &entry.value, &mut c.problems)?;
    let mut read = ProxyProtocol::default();
    if section.peek("from").is_none() {
        let message = "`proxy_protocol` has no `from`: the networks of the proxies in front, whose \
                       word is believed";
        c.problems.error(section.at, message);
    }
    section.walk(PROXY_PROTOCOL, &mut read, c);
    section.close(&mut c.problems);
    Some(read)
}

fn from(read: &mut ProxyProtocol, entry: &Entry, c: &mut Compiler<'_>) {
    let (key, problems) = (&entry.key, &mut c.problems);
    let items = read_value(key, &entry.value, problems, values::list).unwrap_or_default();
    for item in items {
        if values::is_word(item, UNIX) {
            read.from_unix = true;
        } else {
            read.from.extend(read_value(key, item, problems, network));
        }
    }
}

fn network(node: &Node) -> Read<super::model::Network> {
    values::network(node).map_err(|must| format!("{must}, or `{UNIX}`"))
}

/// Reports headers that could come from nobody: `from` knows either networks or Unix sockets.
pub(super) fn check(section: &Section<'_>, listener: &Listener, problems: &mut Problems) {
    let (Some(entry), Some(read)) = (section.peek("proxy_protocol"), &listener.proxy_protocol)
    else {
        return;
    };
    let is_wrong = match listener.address {
        Address::Unix(_) => !read.from_unix && !read.from.is_empty(),
        Address::Ip(_) => read.from_unix && read.from.is_empty(),
    };
    if is_wrong {
        let message = match listener.address {
            Address::Unix(_) => {
                "`from` of `proxy_protocol` names no `unix`, and this listener is \
                                 on a Unix socket: everybody would be closed"
            }
            Address::Ip(_) => {
                "`from` of `proxy_protocol` names only `unix`, and this listener is \
                               on no Unix socket: everybody would be closed"
            }
        };
        problems.error(entry.key_at, message);
    }
}
