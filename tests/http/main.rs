//! What weir does with HTTP, from the outside: the real binary, real sockets on loopback, scripted
//! backends and real ones.
//!
//! One file per feature. What the protocol itself demands is in `tests/conformance`. `WEIR_BIN`
//! names another binary to test, such as a release build.

#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../conformance/wire.rs"]
mod wire;

mod client;
mod config;
mod software;
mod web;

mod backends_tls;
mod balancing;
mod bodies;
mod connections;
mod demo;
mod drain;
mod edits;
mod errors;
mod forwarded;
mod limits;
mod load;
mod logs;
mod odd;
mod proxy_protocol;
mod real;
mod reload;
mod restarts;
mod retries;
mod routing;
mod secured;
mod slow;
mod sticky;
mod timeouts;
mod transfers;
mod upgrade;
mod websocket;
