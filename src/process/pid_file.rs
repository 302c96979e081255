//! The file that says which process is the one to send signals to.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::process::{EXIT_TAKEN, Refusal};
use crate::sys::privileges::Identity;

/// A file with the process id, removed at the end.
#[derive(Debug)]
pub(crate) struct PidFile {
    path: PathBuf,
    /// Open once it is created.
    file: Option<fs::File>,
}

impl PidFile {
    /// Refuses a file that names another weir that runs.
    pub(crate) fn check(path: &Path) -> Result<Self, Refusal> {
        match running(path) {
            Some(pid) if pid != std::process::id() => Err(Refusal {
                code: EXIT_TAKEN,
                message: format!(
                    "{}: process {pid} is another weir that runs",
                    path.display()
                ),
            }),
            _ => Ok(Self {
                path: path.to_owned(),
                file: None,
            }),
        }
    }

    /// Goes on with the file of the program that this process was before, or writes another one.
    pub(crate) fn take_over(path: &Path) -> Result<Self, Refusal> {
        if running(path) == Some(std::process::id()) {
            let file = fs::File::options().write(true).open(path).ok();
            let path = path.to_owned();
            return Ok(Self { path, file });
        }
        Self::check(path)?.write()
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
        let this = if self.file.is_none() {
            self.create_for(None)?
        } else {
            self
        };
        let id = std::process::id();
        match this.file.as_ref().map(|mut file| writeln!(file, "{id}")) {
            Some(Err(error)) => Err(this.refusal(&error)),
            Some(Ok(())) | None => Ok(this),
        }
    }

    fn refusal(&self, error: &io::Error) -> Refusal {
        Refusal::new(&format!("cannot write {}", self.path.display()), error)
    }

    /// An old file is not written to but replaced: where it lies may be writable to others, who
    /// could have put a link there.
    fn create(&self, owner: Option<&Identity>) -> io::Result<fs::File> {
        match fs::symlink_metadata(&self.path) {
            Ok(old) if old.is_file() || old.is_symlink() => fs::remove_file(&self.path)?,
            Ok(_) => return Err(io::Error::other("it is not a regular file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = fs::File::create_new(&self.path)?;
        if let Some(owner) = owner {
            owner.own(&file)?;
        }
        Ok(file)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let Some(file) = &self.file else {
            return;
        };
        // In a folder that only root may change the file stays, but names nobody.
        if fs::remove_file(&self.path).is_err() {
            let _ = file.set_len(0);
        }
    }
}

/// The weir that a pid file names, if that process is there and is one.
pub(crate) fn running(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    let pid = text.trim().parse::<u32>().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "weir").then_some(pid)
}
