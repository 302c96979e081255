//! Protocol and policy, pure: nothing here opens, reads, waits, logs or asks the time.

pub mod access_log;
pub mod address;
pub mod buffer;
pub mod flow;
pub mod http;
pub mod readiness;
pub mod text;
pub mod time;
