//! weir, a TCP and HTTP load balancer: one single-threaded, edge-triggered event loop.
//!
//! The rooms, in reading order:
//!
//! - [`core`]: protocol and policy. Pure: bytes, instants and outcomes in, decisions out. It
//!   knows no socket, no clock and no log.
//! - [`config`]: from a YAML file to a complete model, or to every error in it.
//! - [`net`]: the one seam to the outside, a trait. Production implements it with mio, tests
//!   with a deterministic fake.
//! - [`board`]: counters, gauges, histograms and verdicts in tables of columns, with a row for each
//!   process: one in private memory, or as many as share it.
//! - [`worker`]: the event loop: listeners, sessions, probes and timers over any [`net::Net`].
//!   Every byte of a connection goes through one transport, where a layer of records may stand.
//!   Connections to backends are in one table, whether a session, a probe or nobody has them.
//! - `wire`: what processes of weir leave or say to each other, as bytes and descriptors.
//! - `background`: jobs that may block, name look-ups and reading files, beside the loop.
//! - [`control`]: signals, orders, reloads, the service manager and the pid file.
//! - [`process`]: one serving process, on its own or as a worker: the loop around a worker.
//! - [`supervisor`]: several workers: starts them, feeds them, replaces them.
//! - [`cli`]: the command line.
//! - [`sys`]: what is asked of Linux beyond the standard library: sockets, pipes, signals, limits,
//!   privileges, the sandbox.
//! - [`reactor`]: the production [`net`], the only room that knows mio.
//!
//! Public is what the binary, the tests and the benchmarks use. All else is `pub(crate)`, so that
//! the compiler finds what nobody needs any more.

#![deny(unsafe_code)]

mod background;
pub mod board;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod net;
pub mod process;
pub mod reactor;
pub mod supervisor;
pub mod sys;
mod wire;
pub mod worker;
