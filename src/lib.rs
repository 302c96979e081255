//! weir, a TCP and HTTP load balancer: one single-threaded, edge-triggered event loop.
//!
//! The rooms, in reading order:
//!
//! - [`core`]: protocol and policy. Pure: bytes, instants and outcomes in, decisions out. It
//!   knows no socket, no clock and no log.
//! - [`config`]: from a YAML file to a complete model, or to every error in it.
//! - [`net`]: the one seam to the outside, a trait. Production implements it with mio, tests
//!   with a deterministic fake.

#![deny(unsafe_code)]

pub mod config;
pub mod core;
pub mod net;
