//! What weir does with TLS, from the outside: the real binary, and clients that share nothing with
//! it: `openssl s_client`, curl and Python's `ssl`.
//!
//! What a client does and finds is in `checks.py`; what is around it, here. `WEIR_BIN` names
//! another binary to test, such as a release build.

#![cfg(feature = "tls")]

#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../workers/machine.rs"]
mod machine;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../http/web.rs"]
mod web;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../conformance/wire.rs"]
mod wire;

mod edge;

mod abuse;
mod bill;
mod bulk;
mod ends;
mod handshakes;
mod life;
mod resumption;
