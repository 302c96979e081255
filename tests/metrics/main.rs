//! What `/metrics` says of the real binary, read by those it is for, and whether it is true.

#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../workers/machine.rs"]
mod machine;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../http/software.rs"]
mod software;

mod scrape;
mod traffic;

mod exact;
mod readers;
