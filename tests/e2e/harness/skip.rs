//! A test that cannot be run here says so, and is counted: `make test` names all of them at
//! its end.

use std::fs::OpenOptions;
use std::io::Write;
use std::thread;

/// The file that has a line for each, where one is asked for.
const FILE: &str = "WEIR_SKIPPED";

/// Says that the test of this thread is not run, and why.
pub(crate) fn skip(why: &str) {
    let thread = thread::current();
    skip_test(thread.name().unwrap_or("a test"), why);
}

/// The same, of a test that is told by name.
pub(crate) fn skip_test(name: &str, why: &str) {
    eprintln!("skipped: {name}: {why}");
    let Some(path) = std::env::var_os(FILE) else {
        return;
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    // In one piece: others write at the same time.
    let line = format!("{name}: {why}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .expect("who asks for the skipped tests gives a file that can be written");
}
