//! Where a good file says what only a look at the machine can judge, for messages about it.

use std::path::PathBuf;

use super::problem::Position;
use super::section::Section;

/// Positions of values; none of what the file does not give.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Positions {
    /// The path of the access log.
    pub(crate) access_log: Option<Position>,
    /// The user to become.
    pub(crate) user: Option<Position>,
    /// The group to become.
    pub(crate) group: Option<Position>,
    /// The folder that becomes the root.
    pub(crate) chroot: Option<Position>,
    /// The file of the admin door's token.
    pub(crate) token_file: Option<Position>,
    /// Where changes by hand are kept.
    pub(crate) state: Option<Position>,
    /// The limit on connections of the whole process.
    pub(crate) connections_max: Option<Position>,
    /// What most of the names in the file stand under.
    pub(crate) names: Option<Position>,
    /// The address of each listener, in the order of the file.
    pub(crate) listeners: Vec<Position>,
    /// The path of each file that was read, in that order.
    pub(crate) files: Vec<Position>,
    /// Files that `tls` names, those of one key in the order of the file.
    pub(crate) tls: Vec<NamedFile>,
}

/// A file that is read later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedFile {
    pub(crate) key: String,
    /// As it is written.
    pub(crate) path: PathBuf,
    pub(crate) at: Position,
}

impl Positions {
    /// Notes the keys of the top level.
    pub(super) fn note_keys(&mut self, top: &Section<'_>) {
        let value = |key| top.peek(key).map(|entry| entry.value.at);
        self.user = value("user");
        self.group = value("group");
        self.chroot = value("chroot");
        self.state = value("state");
        self.connections_max = value("max_connections");
        let lists = ["upstreams", "routes", "backends"].into_iter();
        self.names = lists.filter_map(|key| Some(top.peek(key)?.key_at)).next();
    }
}
