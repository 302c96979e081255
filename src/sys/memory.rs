//! What limits the memory of this process: the machine, its control group, `RLIMIT_AS`.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use crate::core::memory_limit::MemoryLimits;

/// Where control groups are mounted (cgroups(7)): version 2 on its own, version 1, and version 2
/// beside that.
const GROUPS: &str = "/sys/fs/cgroup";
/// Version 1 says that there is no limit by one that is higher than any machine has memory: the
/// pages that a signed number can count.
const NO_LIMIT: u64 = 1 << 62;

/// Asks for all of them. What is not told limits nothing.
#[must_use]
pub fn limits() -> MemoryLimits {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    MemoryLimits {
        machine: total(&read("/proc/meminfo")),
        group: group_limit(Path::new(GROUPS), &read("/proc/self/cgroup")),
        ..own_limits()
    }
}

/// Only what this process cannot exceed, without opening a file.
#[must_use]
pub fn own_limits() -> MemoryLimits {
    MemoryLimits {
        addresses: getrlimit(Resource::As).current,
        ..MemoryLimits::default()
    }
}

/// The first line of proc_meminfo(5).
fn total(meminfo: &str) -> Option<u64> {
    let kib = meminfo
        .strip_prefix("MemTotal:")?
        .split_whitespace()
        .next()?;
    kib.parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the groups in `own`, which is as cgroups(7) has it, and of all above them.
/// A container may see its own group as the root, so that some of the path is not there.
fn group_limit(root: &Path, own: &str) -> Option<u64> {
    own.lines().filter_map(|line| line_limit(root, line)).min()
}

fn line_limit(root: &Path, line: &str) -> Option<u64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (controllers, path) = (parts.next()?, parts.next()?);
    if controllers.is_empty() {
        let beside = root.join("unified");
        let limits = [root, &beside].map(|root| least(root, path, "memory.max"));
        return limits.into_iter().flatten().min();
    }
    let is_memory = controllers.split(',').any(|it| it == "memory");
    let root = root.join("memory");
    is_memory.then(|| least(&root, path, "memory.limit_in_bytes"))?
}

/// The least number in files of this name, from this path up to the root. A word, `max`, is no
/// limit; nor is what version 1 has for none.
fn least(root: &Path, path: &str, name: &str) -> Option<u64> {
    let folder: PathBuf = root.join(path.trim_start_matches('/'));
    let above = folder.ancestors().take_while(|it| it.starts_with(root));
    let limit = |folder: &Path| {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        text.trim().parse().ok().filter(|&bytes| bytes < NO_LIMIT)
    };
    above.filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that goes with the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let unique = format!("weir-memory-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(unique);
            for (path, text) in files {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().expect("one above")).expect("a folder");
                fs::write(path, text).expect("a file");
            }
            Self(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_least_limit_up_to_the_root_counts() {
        let one = Folder::new(
            "one",
            &[
                ("memory/a/memory.limit_in_bytes", "50\n"),
                ("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("unified/a/memory.max", "7\n"),
            ],
        );
        let own = "5:cpu,memory:/a/b\n4:cpu:/a\n0::/\n";
        assert_eq!(group_limit(&one.0, own), Some(50));
        assert_eq!(group_limit(&one.0, "5:memory:/a/gone\n"), Some(50));
        assert_eq!(group_limit(&one.0, "0::/a\n"), Some(7));
        let two = Folder::new(
            "two",
            &[
                ("a/memory.max", "300\n"),
                ("a/b/memory.max", "max\n"),
                ("a/b/c/memory.max", "400\n"),
                ("d/memory.max", "max\n"),
            ],
        );
        assert_eq!(group_limit(&two.0, "0::/a/b/c\n"), Some(300));
        for own in [
            "0::/d\n",
            "0::/\n",
            "0::/../../a\n",
            "",
            "nonsense",
            "1:memory",
        ] {
            assert_eq!(group_limit(&two.0, own), None, "{own}");
        }
    }

    #[test]
    fn a_limit_that_nothing_can_reach_is_none() {
        let none = "9223372036854771712\n";
        let one = Folder::new(
            "none",
            &[
                ("memory/memory.limit_in_bytes", none),
                ("memory/a/memory.limit_in_bytes", none),
            ],
        );
        assert_eq!(group_limit(&one.0, "5:memory:/a\n"), None);
    }

    #[test]
    fn the_machine_says_what_it_has() {
        let text = "MemTotal:       24684096 kB\nMemFree:        1 kB\n";
        assert_eq!(total(text), Some(24_684_096 * 1024));
        for text in ["", "MemFree: 1 kB\n", "MemTotal: x\n", "MemTotal:"] {
            assert_eq!(total(text), None);
        }
        assert!(limits().machine.is_some_and(|bytes| bytes > 1 << 20));
    }
}
