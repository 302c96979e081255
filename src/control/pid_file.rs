//! The file that says which process is the one to give orders to. Its process holds a lock on it
//! for as long as it lives: what is written in it may be old, or wrong.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use log::warn;

use crate::control::orphans::Predecessor;
use crate::control::{EXIT_TAKEN, Refusal};
use crate::sys::access::may_create;
use crate::sys::file_lock;
use crate::sys::privileges::Identity;

/// A file with the process id, removed at the end.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// Open once it is created.
    file: Option<fs::File>,
    /// Who is named in the one that it replaces, until our own is written.
    former: Option<Predecessor>,
}

impl PidFile {
    /// Refuses a file that another weir holds.
    pub(crate) fn check(path: &Path) -> Result<Self, Refusal> {
        match holder(path) {
            Ok(Some(pid)) => Err(taken(path, pid)),
            // Nothing can be told of it: creating ours tells why, or puts it right.
            Ok(None) | Err(_) => Ok(Self {
                path: path.to_owned(),
                file: None,
                former: None,
            }),
        }
    }

    /// Whether it can be written, as far as that can be known beforehand; who holds it is not
    /// looked at.
    pub(crate) fn may_write(path: &Path) -> Result<(), Refusal> {
        let found = fs::symlink_metadata(path);
        let is_other = found.is_ok_and(|found| !found.is_file() && !found.is_symlink());
        let may = if is_other {
            Err(not_regular())
        } else {
            may_create(path)
        };
        may.map_err(|error| cannot_write(path, &error))
    }

    /// Goes on with the file that the program has left which this process was before, or writes
    /// another one.
    pub(crate) fn take_over(path: &Path, left: Option<OwnedFd>) -> Result<Self, Refusal> {
        if let Some(file) = left.map(fs::File::from)
            && is_at(path, &file)
        {
            // Before Linux 5.11 the lock was lost when a thread lived at that moment.
            if let Err(error) = file_lock::lock(&file) {
                warn!("{}: cannot be locked again: {error}", path.display());
            }
            return Ok(Self {
                path: path.to_owned(),
                file: Some(file),
                former: None,
            });
        }
        Self::check(path)?.write()
    }

    /// The file, once it is there.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(fs::File::as_fd)
    }

    /// Creates it, still empty, for `owner` to write to and to remove: root's part, where the
    /// folder is root's. Without it, [`PidFile::write`] creates it.
    pub(crate) fn create_for(mut self, owner: Option<&Identity>) -> Result<Self, Refusal> {
        let created = self.create(owner);
        self.file = Some(created.map_err(|error| self.refusal(&error))?);
        Ok(self)
    }

    /// Writes the id of this process into it.
    pub(crate) fn write(self) -> Result<Self, Refusal> {
        let mut this = if self.file.is_none() {
            self.create_for(None)?
        } else {
            self
        };
        let id = std::process::id();
        match this.file.as_ref().map(|mut file| writeln!(file, "{id}")) {
            Some(Err(error)) => Err(this.refusal(&error)),
            Some(Ok(())) | None => {
                this.former = None;
                Ok(this)
            }
        }
    }

    fn refusal(&self, error: &io::Error) -> Refusal {
        match holder(&self.path) {
            Ok(Some(pid)) if error.kind() == io::ErrorKind::WouldBlock => taken(&self.path, pid),
            _ => cannot_write(&self.path, error),
        }
    }

    /// An old file is not written to but replaced: where it lies may be writable to others, who
    /// could have put a link there. It is replaced only by who holds it.
    fn create(&mut self, owner: Option<&Identity>) -> io::Result<fs::File> {
        let mut _held_until_ours_is = None;
        match fs::symlink_metadata(&self.path) {
            Ok(old) if old.is_symlink() => fs::remove_file(&self.path)?,
            Ok(old) if old.is_file() => {
                _held_until_ours_is = self.lock_old()?;
                self.former = Predecessor::named_in(&self.path);
                fs::remove_file(&self.path)?;
            }
            Ok(_) => return Err(not_regular()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // Who may read it could lock it first.
        let mut options = fs::File::options();
        let private = options.write(true).create_new(true).mode(0o600);
        let file = private.open(&self.path)?;
        file_lock::lock(&file)?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
        if let Some(owner) = owner {
            owner.own(&file)?;
        }
        Ok(file)
    }

    /// Locks the file that is there, if it may be written to: else it is none of ours.
    fn lock_old(&self) -> io::Result<Option<fs::File>> {
        let file = match file_lock::open(&self.path, true) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
            opened => opened?,
        };
        match file_lock::lock(&file) {
            // By somebody who may only read it, which is no weir.
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    && file_lock::holder(&file)?.is_none() => {}
            locked => locked?,
        }
        // Another start may have replaced it in between.
        if is_at(&self.path, &file) {
            Ok(Some(file))
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

fn cannot_write(path: &Path, error: &io::Error) -> Refusal {
    Refusal::new(&format!("cannot write {}", path.display()), error)
}

fn taken(path: &Path, pid: u32) -> Refusal {
    Refusal {
        code: EXIT_TAKEN,
        message: format!(
            "{}: process {pid} is another weir that runs",
            path.display()
        ),
    }
}

/// Whether that file lies there.
fn is_at(path: &Path, file: &fs::File) -> bool {
    let id = |of: fs::Metadata| (of.dev(), of.ino());
    let there = fs::symlink_metadata(path).ok().map(id);
    there.is_some() && there == file.metadata().ok().map(id)
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        if !is_at(&self.path, file) {
            return;
        }
        if let (Some(former), mut file) = (self.former, file) {
            // No weir has come of this start. Nobody else could find the workers of the former.
            let _ = writeln!(file, "{}", former.0);
            return;
        }
        // In a folder that only root may change the file stays, but names nobody.
        if fs::remove_file(&self.path).is_err() {
            let _ = file.set_len(0);
        }
    }
}

/// The weir that holds a pid file, or none. What is written in the file does not count.
///
/// # Errors
/// When there is something that may not be read, or is a link.
pub(crate) fn holder(path: &Path) -> io::Result<Option<u32>> {
    match file_lock::open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        opened => file_lock::holder(&opened?),
    }
}
