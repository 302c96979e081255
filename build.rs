//! Leaves the tables for unwinding out of the program, a twelfth of it: in a release a panic aborts,
//! so that nothing is unwound, and names, which a list of addresses would need, are stripped.

use std::path::PathBuf;
use std::{env, fs, io};

/// Augments what the linker does by itself, be it GNU ld or lld.
const SCRIPT: &str = "SECTIONS {
  /DISCARD/ : { *(.eh_frame) *(.eh_frame.*) *(.gcc_except_table) *(.gcc_except_table.*) }
} INSERT AFTER .data;
";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |variable, value| env::var(variable).is_ok_and(|it| it == value);
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let folder = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
        let script = folder.join("no-unwinding.ld");
        fs::write(&script, SCRIPT)?;
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
    Ok(())
}
