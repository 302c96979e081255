//! What a worker knows of the loads that others have at its backends.

use crate::board::{BackendColumn, NotesRead};
use crate::core::backend::BackendId;

/// No backend: there are fewer than that.
const NOBODY: BackendId = BackendId(u32::MAX);

/// What this worker knows of the loads of others.
#[derive(Debug, Default)]
pub(crate) struct Loads {
    pub(crate) read: NotesRead,
    /// Anybody's may be another than is known.
    pub(crate) are_unknown: bool,
    /// The backend of each column, by number: the one that came last, if several have it, or
    /// [`NOBODY`].
    owners: Vec<BackendId>,
    /// Room for those that have changed.
    pub(crate) columns: Vec<usize>,
}

impl Loads {
    /// Whose column has that number.
    pub(crate) fn owner(&self, column: usize) -> Option<BackendId> {
        let owner = self.owners.get(column).copied();
        owner.filter(|&id| id != NOBODY)
    }

    /// From now on the column is this backend's.
    pub(crate) fn own(&mut self, column: BackendColumn, id: BackendId) {
        self.are_unknown = true;
        if column.is_listed() {
            let count = self.owners.len().max(column.number() + 1);
            self.owners.resize(count, NOBODY);
            self.owners[column.number()] = id;
        }
    }

    /// The backend has gone; the column may be another's already.
    pub(crate) fn disown(&mut self, column: BackendColumn, id: BackendId) {
        if self.owner(column.number()) == Some(id) {
            self.owners[column.number()] = NOBODY;
        }
    }
}
