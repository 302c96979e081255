//! What weir asks of Linux beyond the standard library: socket options, pipes, signals, limits.
//!
//! It knows nothing of the loop, of sessions or of the configuration file. All `unsafe` of the
//! crate is in [`child`], [`shm`] and [`signal`].

pub mod answer;
pub mod channel;
pub mod child;
pub mod memory_file;
pub mod pipe;
pub mod process;
pub mod shm;
pub mod signal;
pub mod socket;
pub mod stderr;
