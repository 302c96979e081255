//! Protocol and policy, pure: nothing here opens, reads, waits, logs or asks the time.

pub mod access_log;
pub mod address;
pub mod backend;
pub mod balance;
pub mod buffer;
pub mod finding;
pub mod flow;
pub mod health;
pub mod histogram;
pub mod http;
pub mod idle_limit;
pub mod keepalive;
pub mod key;
pub mod layer;
pub mod lease;
pub mod limit;
pub mod line;
pub mod opening;
pub mod probe;
pub mod readiness;
pub mod rng;
pub mod slots;
mod steps;
pub mod table;
pub mod text;
pub mod time;
pub mod timer;
