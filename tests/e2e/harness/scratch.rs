//! A directory of its own for each test, gone when the test is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fresh directory, removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-e2e-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a scratch directory can be made");
        // A weir that root starts becomes nobody, and still writes its log here.
        let everyone = fs::Permissions::from_mode(0o777);
        fs::set_permissions(&path, everyone).expect("it is ours");
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("the scratch directory is writable");
        path
    }

    /// Copies a program, which may be run at once. Another process does it: what this one has open
    /// to write is open in a child that another thread forks, for a moment longer, and the kernel
    /// does not run such a file (execve(2), ETXTBSY).
    #[allow(dead_code, reason = "for tests that run copies")]
    pub(crate) fn program(&self, name: &str, from: impl AsRef<Path>) -> PathBuf {
        let path = self.file(name);
        let mut install = Command::new("install");
        install.args(["-m", "755"]).arg(from.as_ref()).arg(&path);
        let status = install.status().expect("coreutils are there");
        assert!(status.success(), "it can be copied");
        path
    }

    /// Writes a script for the shell, which may be run at once.
    #[allow(dead_code, reason = "for tests that run scripts")]
    pub(crate) fn script(&self, name: &str, lines: &str) -> PathBuf {
        let text = self.write(&format!("{name}.text"), format!("#!/bin/sh\n{lines}\n"));
        self.program(name, text)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own clearing of temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
