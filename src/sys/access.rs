//! What this process may do with a file, without doing it (access(2)).

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};

/// Whether a file may be appended to, or made where there is none, as far as that can be known
/// beforehand.
///
/// # Errors
/// What opening it would report.
pub fn may_append(path: &Path) -> io::Result<()> {
    let may = |path: &Path, access| Ok(accessat(CWD, path, access, AtFlags::EACCESS)?);
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(_) => may(path, Access::WRITE_OK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent();
            let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or_else(|| Path::new("."));
            may(folder, Access::WRITE_OK | Access::EXEC_OK)
        }
        Err(error) => Err(error),
    }
}
