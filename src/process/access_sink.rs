//! Where access log lines go: standard output or a file that is appended to.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::config::model::AccessLog;
use crate::process::Refusal;
use crate::sys::privileges::Identity;
use crate::sys::stderr::write_lines;

/// An open access log. Several processes may write to one at once: lines are written whole.
#[derive(Debug)]
pub(crate) enum AccessSink {
    /// Standard output.
    Stdout,
    /// A file that is appended to.
    File(File),
}

impl AccessSink {
    /// Opens what the settings name. Standard output where they name nothing.
    pub(crate) fn open(settings: Option<&AccessLog>) -> Result<Self, Refusal> {
        match settings.and_then(|settings| settings.path.as_deref()) {
            None => Ok(Self::Stdout),
            Some(path) => open_file(path).map(Self::File),
        }
    }

    /// The same while still root: a file that is created belongs to `owner`, which opens it again
    /// later.
    pub(crate) fn open_for(
        owner: Option<&Identity>,
        settings: Option<&AccessLog>,
    ) -> Result<Self, Refusal> {
        let path = settings.and_then(|settings| settings.path.as_deref());
        let (Some(owner), Some(path)) = (owner, path) else {
            return Self::open(settings);
        };
        let file = owner.open_to_append(path);
        file.map(Self::File).map_err(|error| refusal(path, &error))
    }

    /// The file, if it is one.
    pub(crate) fn into_file(self) -> Option<File> {
        match self {
            Self::Stdout => None,
            Self::File(file) => Some(file),
        }
    }

    /// Writes what does not block; how much that was.
    pub(crate) fn write(&self, lines: &[u8]) -> usize {
        match self {
            Self::Stdout => write_lines(io::stdout(), lines),
            Self::File(file) => write_lines(file, lines),
        }
    }
}

/// Opens an access log to append to.
pub(crate) fn open_file(path: &Path) -> Result<File, Refusal> {
    let file = File::options().append(true).create(true).open(path);
    file.map_err(|error| refusal(path, &error))
}

fn refusal(path: &Path, error: &io::Error) -> Refusal {
    let what = format!("cannot open the access log {}", path.display());
    Refusal::new(&what, error)
}
