//! `admin`: off, the path of the socket, or a mapping.

use std::path::PathBuf;

use super::compile::Compiler;
use super::key::{Key, key};
use super::model::{Admin, AdminRead, AdminSocket, Config, StatePlace};
use super::node::{Entry, Node, Value};
use super::section::{read_mapping, read_value};
use super::tree::{self, Tree};
use super::values::{self, Read, one_of};
use crate::core::address::Address;

pub(super) static ADMIN: &[Key<Admin>] = &[
    key! { "socket", Admin.socket, socket, socket_tree },
    key! { "listen", Admin.listen, listen, listen_tree },
    key! { "token_file", Admin.token_file, token_file, tree::path_or("off") },
    key! { "read", Admin.read, one_of(READS), tree::one_of(READS) },
];

const READS: &[(&str, AdminRead)] = &[
    ("auto", AdminRead::Auto),
    ("open", AdminRead::Open),
    ("token", AdminRead::Token),
];

pub(super) fn admin(config: &mut Config, entry: &Entry, c: &mut Compiler<'_>) {
    let node = &entry.value;
    let mut admin = Admin::default();
    if let Value::Map(entries) = &node.value {
        read_mapping(("`admin`", ""), node, ADMIN, &mut admin, c);
        let mut entries = entries.iter();
        let file = entries.find(|it| it.key == "token_file");
        c.positions.token_file = file.map(|it| it.value.at);
        if admin.read == AdminRead::Token && admin.token_file.is_none() {
            let words = "`read: token` needs `token_file`";
            c.problems.error(entry.key_at, words);
        }
    } else if let Some(socket) = read_value("admin", node, &mut c.problems, socket) {
        admin.socket = socket;
    }
    config.admin = admin;
}

/// What is shown of it.
pub(super) fn written(admin: &Admin, shown: &super::key::Shown<'_>) -> Option<Tree> {
    super::key::mapping(ADMIN, admin, shown)
}

fn socket(node: &Node) -> Read<AdminSocket> {
    const MUST: &str = "off, auto, or the path of a Unix socket, such as /run/weir/admin.sock";
    if values::is_off(node) {
        return Ok(AdminSocket::Off);
    }
    if values::is_word(node, "auto") || values::switch(node) == Some(true) {
        return Ok(AdminSocket::Auto);
    }
    let path = values::text(node).map_err(|_| MUST.to_owned())?;
    let is_path = path.contains('/') && !path.ends_with('/') && !path.contains('\0');
    match is_path && path.len() <= SOCKET_PATH_BYTES_MAX {
        true => Ok(AdminSocket::At(PathBuf::from(path))),
        false if is_path => Err(format!("{MUST}, of at most {SOCKET_PATH_BYTES_MAX} bytes")),
        false => Err(MUST.to_owned()),
    }
}

/// unix(7).
const SOCKET_PATH_BYTES_MAX: usize = 107;

fn socket_tree(socket: &AdminSocket) -> Tree {
    match socket {
        AdminSocket::Off => tree::word("off"),
        AdminSocket::Auto => tree::word("auto"),
        AdminSocket::At(path) => tree::text(path.to_string_lossy()),
    }
}

fn listen(node: &Node) -> Read<Option<Address>> {
    if values::is_off(node) {
        return Ok(None);
    }
    match values::listen_address(node) {
        Ok(address @ Address::Ip(_)) => Ok(Some(address)),
        Ok(Address::Unix(_)) => Err("an address such as 127.0.0.1:9000; a Unix socket is \
                                     `socket`"
            .to_owned()),
        Err(must) => Err(must),
    }
}

fn listen_tree(address: &Option<Address>) -> Tree {
    match address {
        Some(address) => tree::text(address.to_string()),
        None => tree::word("off"),
    }
}

pub(super) fn state(node: &Node) -> Read<StatePlace> {
    const MUST: &str = "auto, memory, or the path of a file, such as /var/lib/weir/weir.state";
    if values::is_word(node, "auto") {
        return Ok(StatePlace::Auto);
    }
    if values::is_word(node, "memory") || values::is_off(node) {
        return Ok(StatePlace::Memory);
    }
    let path = values::text(node).map_err(|_| MUST.to_owned())?;
    let is_path = path.contains('/') && !path.ends_with('/') && !path.contains('\0');
    match is_path {
        true => Ok(StatePlace::At(PathBuf::from(path))),
        false => Err(MUST.to_owned()),
    }
}

pub(super) fn state_tree(state: &StatePlace) -> Tree {
    match state {
        StatePlace::Auto => tree::word("auto"),
        StatePlace::Memory => tree::word("memory"),
        StatePlace::At(path) => tree::text(path.to_string_lossy()),
    }
}

fn token_file(node: &Node) -> Read<Option<PathBuf>> {
    if values::is_off(node) {
        return Ok(None);
    }
    values::path(node).map(Some)
}
