//! The data plane of weir: everything that a connection needs, and nothing that reads files.
//!
//! It is a crate of its own so that it is compiled for speed and all else for size. The rooms are
//! described where they are put together, in the crate `weir`, which shows them under the same
//! names.
//!
//! Public is what the rest of weir, the tests and the benchmarks use. All else is `pub(crate)`, so
//! that the compiler finds what nobody needs any more.

#![deny(unsafe_code)]

pub mod board;
/// What is configured, as the worker sees it.
pub mod config {
    #[allow(missing_docs, reason = "conf/reference.yaml explains what they are of")]
    pub mod defaults;
    pub mod model;
}
pub mod core;
pub mod live;
pub mod net;
pub mod reactor;
pub mod sys;
pub mod tls;
pub mod worker;
