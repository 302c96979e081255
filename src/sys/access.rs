//! What this process may do with a file, without doing it (access(2)).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

/// Whether a file may be appended to, or made where there is none, as far as that can be known
/// beforehand. Links are not followed where it is opened without following any.
///
/// # Errors
/// What opening it would report.
pub fn may_append(path: &Path, follows_links: bool) -> io::Result<()> {
    let found = if follows_links {
        fs::metadata(path)
    } else {
        fs::symlink_metadata(path)
    };
    match found {
        Ok(found) if found.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        Ok(found) if found.is_symlink() => Err(Errno::LOOP.into()),
        Ok(found) if found.file_type().is_socket() => Err(Errno::NXIO.into()),
        Ok(found) if found.file_type().is_fifo() => may(path, Access::READ_OK | Access::WRITE_OK),
        Ok(_) => may(path, Access::WRITE_OK),
        Err(error) if error.kind() == io::ErrorKind::NotFound => may_create(path),
        Err(error) => Err(error),
    }
}

/// How to open a file to append to it without waiting for anybody: a pipe is opened for reading
/// as well, or else opening it would take until somebody reads it (fifo(7)).
#[must_use]
pub fn append_options(path: &Path) -> OpenOptions {
    let is_pipe = fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo());
    let mut options = OpenOptions::new();
    options.append(true).read(is_pipe);
    options
}

/// Whether a file may be made, or replaced, in its folder.
///
/// # Errors
/// What making it would report.
pub fn may_create(path: &Path) -> io::Result<()> {
    let folder = folder_of(path)?;
    require_folder(folder)?;
    may(folder, Access::WRITE_OK | Access::EXEC_OK)
}

/// Whether a Unix socket can be bound there, apart from permissions, and from who listens there
/// already: what is no socket is not replaced by one.
///
/// # Errors
/// What binding it would report.
pub fn has_room_for_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => Ok(()),
        Ok(_) => Err(Errno::EXIST.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => require_folder(folder_of(path)?),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether there is such a folder.
///
/// # Errors
/// `NotADirectory`, or what stat(2) reports.
pub fn require_folder(path: &Path) -> io::Result<()> {
    if fs::metadata(path)?.is_dir() {
        Ok(())
    } else {
        Err(io::ErrorKind::NotADirectory.into())
    }
}

fn may(path: &Path, access: Access) -> io::Result<()> {
    Ok(accessat(CWD, path, access, AtFlags::EACCESS)?)
}

/// No name is in no folder.
fn folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
    Ok(if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    })
}
