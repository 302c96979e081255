//! Golden files: found, compared and written anew.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder of the project, whichever of its packages asks.
pub(crate) fn folder(name: &str) -> PathBuf {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let project = above.find(|it| it.join("tests/golden").is_dir());
    project.expect("the sources are there").join(name)
}

/// The files of a folder that end so, sorted.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder can be read");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|it| it == ending))
        .collect();
    found.sort();
    found
}

/// The configurations of which there are golden files, unless they are bad.
pub(crate) fn configurations() -> Vec<PathBuf> {
    let mut paths = files(&folder("conf"), "yaml");
    paths.extend(files(&folder("tests/golden"), "yaml"));
    paths
}

/// Golden files and what they are compared with.
#[derive(Default)]
pub(crate) struct Comparison {
    changed: Vec<String>,
}

impl Comparison {
    /// Compares, or with `WEIR_BLESS` writes the file.
    pub(crate) fn add(&mut self, golden: &Path, told: &str) {
        if std::env::var_os("WEIR_BLESS").is_some() {
            fs::write(golden, told).expect("it can be written");
        } else if fs::read_to_string(golden).unwrap_or_default() != told {
            let name = golden.display();
            self.changed
                .push(format!("{name}, for which it is now:\n{told}"));
        }
    }

    /// Fails if anything has changed.
    pub(crate) fn finish(self) {
        let changed = self.changed.join("\n");
        assert!(
            changed.is_empty(),
            "with WEIR_BLESS=1 these are written anew: {changed}"
        );
    }
}
