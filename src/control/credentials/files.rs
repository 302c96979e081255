//! Files as they are found: what is in them, and whether they are still the same.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::sys::access::open_at_once;
use crate::tls::material::Secret;

/// Longest file of certificates or keys, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest file of revocation lists, in bytes.
pub(super) const LISTS_BYTES_MAX: u64 = 16 << 20;

/// A change so shortly before it was seen may have another one behind it that leaves no trace.
const SETTLED_NS: i128 = 2_000_000_000;

/// By what a change of a file is seen: links are followed, as renewals turn them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_ns: i128,
    changed_ns: i128,
}

/// The files and folders that were looked at; none where there was nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    stamps: BTreeMap<PathBuf, Option<Stamp>>,
    /// Whether one had just been written.
    is_unsettled: bool,
}

impl Seen {
    /// Whatever it is has changed.
    pub(super) fn unknown() -> Self {
        Self {
            is_unsettled: true,
            ..Self::default()
        }
    }

    /// As they are once some time has passed.
    #[cfg(test)]
    pub(super) fn settled(self) -> Self {
        Self {
            is_unsettled: false,
            ..self
        }
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.stamps.keys().map(PathBuf::as_path)
    }

    /// Looks at a file or a folder, before what it holds is read.
    pub(super) fn look_at(&mut self, path: &Path) {
        let stamp = stamp(path);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now_ns = now.map_or(0, |it| i128::try_from(it.as_nanos()).unwrap_or(0));
        let age = stamp.map(|stamp| now_ns - stamp.modified_ns.max(stamp.changed_ns));
        self.is_unsettled |= age.is_some_and(|age| (0..SETTLED_NS).contains(&age));
        self.stamps.insert(path.to_owned(), stamp);
    }

    /// Whether any of them may be another one by now.
    pub(super) fn have_changed(&self) -> bool {
        self.is_unsettled || self.stamps.iter().any(|(path, was)| stamp(path) != *was)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
    Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        bytes: found.size(),
        modified_ns: ns(found.mtime(), found.mtime_nsec()),
        changed_ns: ns(found.ctime(), found.ctime_nsec()),
    })
}

/// All that is in a file, which is zeroed when it is dropped, and nowhere else.
///
/// # Errors
/// What open(2) and read(2) report; also when it is too long, no file, or grows meanwhile.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Secret> {
    let mut file = open_at_once(path)?;
    let found = file.metadata()?;
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    if found.len() > bytes_max {
        let limit = format!(
            "it has {} bytes, and at most {bytes_max} are read",
            found.len()
        );
        return Err(io::Error::other(limit));
    }
    let length = usize::try_from(found.len()).map_err(io::Error::other)?;
    // Where there is room enough from the beginning, nothing is copied and left behind.
    let mut bytes = vec![0; length + 1];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                drop(Secret::new(bytes));
                return Err(error);
            }
        }
    }
    bytes.truncate(filled);
    let all = Secret::new(bytes);
    match filled > length {
        true => Err(io::Error::other("it is being written to")),
        false => Ok(all),
    }
}

/// The names in a folder in their order, without those that are hidden.
///
/// # Errors
/// What opendir(3) and readdir(3) report; when there are too many.
pub(super) fn names_in(folder: &Path, names_max: usize) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        if names.len() == names_max {
            let limit = format!("there are more than {names_max} files in it");
            return Err(io::Error::other(limit));
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_written_replaced_or_removed_has_changed() {
        let folder = std::env::temp_dir().join(format!("weir-seen-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (file, link) = (folder.join("file"), folder.join("link"));
        let look = || {
            let mut seen = Seen::default();
            seen.look_at(&link);
            seen.settled()
        };
        let _ = fs::remove_file(&link);
        let nothing = look();
        assert!(!nothing.have_changed());
        fs::write(&file, "one").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("a link");
        assert!(nothing.have_changed());
        let one = look();
        assert!(!one.have_changed());
        fs::write(&file, "three").expect("written");
        assert!(one.have_changed());
        let three = look();
        fs::write(folder.join("other"), "three").expect("written");
        fs::remove_file(&link).expect("removed");
        std::os::unix::fs::symlink(folder.join("other"), &link).expect("a link");
        assert!(three.have_changed());
        let mut fresh = Seen::default();
        fresh.look_at(&link);
        assert!(fresh.have_changed(), "it may be written to once more");
        fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn what_is_no_file_or_too_long_is_not_read() {
        let long = std::env::temp_dir().join(format!("weir-long-{}", std::process::id()));
        fs::write(&long, "0123456789").expect("written");
        assert_eq!(read(&long, 10).expect("it fits").bytes(), b"0123456789");
        let error = read(&long, 9).expect_err("too long");
        assert!(error.to_string().contains("at most 9"), "{error}");
        fs::remove_file(&long).expect("removed");
        for path in ["/dev/zero", "/", "/nowhere"] {
            read(Path::new(path), 10).expect_err(path);
        }
    }
}
