//! Several workers under a supervisor, from the outside: the real binary, real sockets on
//! loopback, scripted backends.
//!
//! Nothing here needs more than one CPU. `WEIR_BIN` names another binary to test.

#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../e2e/harness/mod.rs"]
mod harness;

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../http/software.rs"]
mod software;

mod chatter;
mod machine;

mod admin;
mod crash;
mod edits;
mod keys;
mod orders;
mod reload;
mod root_folder;
mod rows;
mod serve;
mod state;
mod statistics;
mod steered;
mod stop;
#[cfg(target_arch = "x86_64")]
mod takeover;
mod top;
mod upgrade;
mod verdicts;
mod why;
