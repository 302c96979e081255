//! The file that says which process is the one to send signals to.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::process::{EXIT_TAKEN, Refusal};

/// A file with the process id, removed at the end.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

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
            _ => Ok(Self(path.to_owned())),
        }
    }

    /// Writes the id of this process into it.
    pub(crate) fn write(self) -> Result<Self, Refusal> {
        let written =
            fs::File::create(&self.0).and_then(|mut file| writeln!(file, "{}", std::process::id()));
        match written {
            Ok(()) => Ok(self),
            Err(error) => Err(Refusal::new(
                &format!("cannot write {}", self.0.display()),
                &error,
            )),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The weir that a pid file names, if that process is there and is one.
pub(crate) fn running(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    let pid = text.trim().parse::<u32>().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (name.trim() == "weir").then_some(pid)
}
