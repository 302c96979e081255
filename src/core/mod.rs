//! Protocol and policy, pure: nothing here opens, reads, waits, logs or asks the time.
//!
//! A `layer` of records may lie under a connection, and an `opening` come before its peer, protocol
//! and upstream are settled.

pub mod access_log;
pub(crate) mod account;
pub mod address;
pub mod backend;
pub mod balance;
pub(crate) mod buffer;
mod calendar;
pub mod client_hello;
pub mod decision;
pub mod fault;
pub mod finding;
pub mod flow;
pub mod handshake;
pub mod health;
pub mod histogram;
pub mod host_name;
pub mod http;
pub mod idle_limit;
pub mod json;
pub mod keepalive;
pub mod key;
pub mod layer;
pub mod lease;
pub mod limit;
pub mod memory_limit;
pub mod opening;
pub(crate) mod probe;
pub mod proxy_header;
pub mod readiness;
pub mod request_id;
pub mod rng;
pub mod sessions;
pub mod slots;
pub mod sort;
mod steps;
pub mod table;
pub mod text;
pub mod time;
pub mod timer;
pub mod tls_route;
pub mod wait_queue;
