//! HTTP as bytes and decisions: nothing here knows a socket, a clock or the configuration file.

pub mod budget;
pub mod forwarded;
pub mod path;
pub mod route;
pub mod sticky;
