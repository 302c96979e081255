//! Plays all tests of this program once more, with a layer of records under every connection.

use std::env;
use std::process::Command;

/// Says that every world has the layer unless a test says otherwise: `toy`, or `tls`.
pub(crate) const VARIABLE: &str = "WEIR_SIM_LAYER";

/// Seeds over TLS, of which each costs many handshakes.
const TLS_SEEDS: &str = "40";

/// Runs everything but `left_out`, all of which there must be, the calling test among it.
pub(crate) fn run(layer: &str, left_out: &[&str]) {
    let mut again = Command::new(env::current_exe().expect("this program"));
    again.env(VARIABLE, layer).arg("--exact");
    if layer == "tls" {
        again.env("WEIR_SIM_SEEDS", TLS_SEEDS);
    }
    for name in left_out {
        again.args(["--skip", name]);
    }
    let output = again.output().expect("this program starts");
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "over records:\n{said}\n{told}");
    let filtered = format!("{} filtered out", left_out.len());
    assert!(said.contains(&filtered), "a name is stale:\n{said}");
}
