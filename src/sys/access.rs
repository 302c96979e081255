//! What this process may do with a file, without doing it (access(2)).

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, OFlags, accessat, getxattr};
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

/// Whether a file or a folder may be read.
///
/// # Errors
/// What opening it would report.
pub fn may_read(path: &Path) -> io::Result<()> {
    may(path, Access::READ_OK)
}

/// Opens a file to read it, without waiting for anybody: for who writes to a pipe, or lets go of a
/// lease.
///
/// # Errors
/// What open(2) reports.
pub fn open_at_once(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    File::options().read(true).custom_flags(flags).open(path)
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

/// What somebody may want of a file, as a bit of its mode (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// To read it.
    Read = 0o4,
    /// To write to it.
    Write = 0o2,
    /// To find what is in it, if it is a folder.
    Search = 0o1,
}

/// The first folder on the way to a file, or the file, that keeps somebody from it who has these
/// ids, user and group, and no other group nor capability (path_resolution(7)). None if there is
/// none, or if it cannot be known.
#[must_use]
pub fn barrier(path: &Path, ids: (u32, u32), want: Want) -> Option<PathBuf> {
    const LINKS_MAX: usize = 40;
    let mut links = 0;
    let mut at = start_of(path);
    let mut left = names_of(path);
    while let Some(name) = left.pop() {
        if is_closed(&at, ids, Want::Search) {
            return Some(at);
        }
        let next = at.join(name);
        let Ok(target) = fs::read_link(&next) else {
            at = next;
            continue;
        };
        links += 1;
        if links > LINKS_MAX {
            return None;
        }
        if target.is_absolute() {
            at = start_of(&target);
        }
        left.extend(names_of(&target));
    }
    is_closed(&at, ids, want).then_some(at)
}

fn start_of(path: &Path) -> PathBuf {
    PathBuf::from(if path.is_absolute() { "/" } else { "." })
}

/// The last one first.
fn names_of(path: &Path) -> Vec<OsString> {
    let names = path.components().filter(|part| {
        let is_start = matches!(part, Component::RootDir | Component::CurDir);
        !is_start
    });
    names.rev().map(|part| part.as_os_str().into()).collect()
}

fn is_closed(path: &Path, (uid, gid): (u32, u32), want: Want) -> bool {
    let Ok(found) = fs::metadata(path) else {
        return false;
    };
    let class = |found: &Metadata| match (found.uid() == uid, found.gid() == gid) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    (found.mode() >> class(&found)) & (want as u32) == 0 && !has_list(path)
}

/// Whether a list says more than the mode does (acl(5)).
fn has_list(path: &Path) -> bool {
    let mut list = [0; 1024];
    let read = getxattr(path, "system.posix_acl_access", &mut list[..]);
    matches!(read, Ok(_) | Err(Errno::RANGE))
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
