//! Golden files: what `weir -T` prints for a configuration, or every message about it, byte for
//! byte. `WEIR_BLESS=1` writes them anew; what has changed is then to be read in the diff.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use weir::config;

use compare::{Comparison, configurations, files, folder};

#[path = "golden/compare.rs"]
mod compare;

/// Warnings, and what is printed of a good file; or errors.
fn told(path: &Path) -> String {
    let name = path.file_name().expect("it is a file").to_string_lossy();
    let text = fs::read_to_string(path).expect("it is text");
    let folder = path.parent().expect("it is in a folder");
    let compiled = config::compile(&name, &text, &mut |page| fs::read(folder.join(page)));
    let mut told = String::new();
    let (problems, printed) = match compiled {
        Ok(compiled) => (compiled.warnings, config::render(&compiled.config)),
        Err(errors) => (errors, String::new()),
    };
    for problem in problems {
        writeln!(told, "{problem}").expect("a string takes all");
    }
    told + "----\n" + &printed
}

/// The golden file of a configuration.
fn golden(path: &Path) -> PathBuf {
    let name = Path::new(path.file_stem().expect("it is a file"));
    folder("tests/golden").join(name.with_extension("txt"))
}

#[test]
fn what_is_printed_and_said_of_each_file_is_as_it_was() {
    let paths = configurations();
    assert!(paths.len() > 23, "only {} files", paths.len());
    let mut comparison = Comparison::default();
    for path in &paths {
        comparison.add(&golden(path), &told(path));
    }
    comparison.finish();
}

#[test]
fn no_golden_file_is_left_over() {
    let paths = configurations();
    let wanted: Vec<PathBuf> = paths.iter().map(|path| golden(path)).collect();
    for file in files(&folder("tests/golden"), "txt") {
        assert!(wanted.contains(&file), "{} is of no file", file.display());
    }
}
