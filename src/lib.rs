//! weir, a TCP and HTTP load balancer: one single-threaded, edge-triggered event loop.
//!
//! The rooms, in reading order:
//!
//! - [`core`]: protocol and policy. Pure: bytes, instants and outcomes in, decisions out. It
//!   knows no socket, no clock and no log.
//! - [`config`]: from a YAML file to a complete model, or to every error in it. Keys stand in
//!   tables, which drive reading, `weir -T` and hints alike.
//! - [`net`]: the one seam to the outside, a trait. Production implements it with mio, tests
//!   with a deterministic fake.
//! - [`board`]: counters, gauges, histograms and verdicts in tables of columns, with a row for each
//!   process: one in private memory, or as many as share it. The storage is the same.
//! - [`worker`]: the event loop: listeners, sessions, probes and timers over any [`net::Net`].
//!   A session may begin with an opening, in which bytes are read before it is settled who the
//!   client is and where it goes. Every byte of a connection goes through one transport, where a
//!   layer of records may stand. Connections to backends are in one table, whether a session, a
//!   probe or nobody has them: those are parked. All bytes that wait are in one account.
//! - `wire`: what processes of weir leave or say to each other, as bytes and descriptors.
//! - `background`: jobs that may block, name look-ups and reading files, beside the loop.
//! - `admin`: what is asked of a running weir at its admin door, and what is answered.
//! - [`control`]: signals, orders, reloads, names, the service manager and the pid file: one loop
//!   over whoever serves, the workforce.
//! - [`process`]: one serving process: on its own, which is a workforce, or as a worker.
//! - [`supervisor`]: the workforce of several workers: starts them, gives them sockets and
//!   configurations, replaces them.
//! - [`cli`]: the command line, and [`ctl`]: what asks a weir that runs.
//! - [`live`]: the worker over the production [`net`].
//! - [`sys`]: what is asked of Linux beyond the standard library: sockets, pipes, signals, limits,
//!   privileges, the sandbox.
//! - [`reactor`]: the production [`net`], the only room that knows mio.
//!
//! What every connection needs is a crate of its own, `src/data_plane.rs`: it is compiled for
//! speed, and all else, which is most of it, for size.
//!
//! Public is what the binary, the tests and the benchmarks use. All else is `pub(crate)`, so that
//! the compiler finds what nobody needs any more.

#![deny(unsafe_code)]

pub mod admin;
mod background;
pub mod cli;
pub mod config;
pub mod control;
pub mod ctl;
pub mod process;
pub mod supervisor;
mod wire;

pub use weir_data_plane::{board, core, live, net, reactor, sys, tls, worker};
