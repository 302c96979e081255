//! Plays all tests of this program once more, with a layer of records under every connection.

use std::env;
use std::process::Command;

/// Says that every world has the layer unless a test says otherwise.
pub(crate) const VARIABLE: &str = "WEIR_SIM_LAYER";

/// Runs everything but the calling test and `left_out`, all of which there must be.
pub(crate) fn run(caller: &str, left_out: &[&str]) {
    let mut again = Command::new(env::current_exe().expect("this program"));
    again.env(VARIABLE, "1").arg("--exact");
    for name in left_out.iter().chain([&caller]) {
        again.args(["--skip", name]);
    }
    let output = again.output().expect("this program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "over records:\n{said}\n{told}");
    let filtered = format!("{} filtered out", left_out.len() + 1);
    assert!(said.contains(&filtered), "a name is stale:\n{said}");
}
