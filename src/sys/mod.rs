//! What weir asks of Linux beyond the standard library: socket options, pipes, signals, limits,
//! and to take rights away.
//!
//! It knows nothing of the loop, of sessions or of the configuration file. All `unsafe` of the
//! crate is in [`activation`], [`child`], [`code_pages`], [`environment`], [`landlock`], [`shm`],
//! [`signal`] and `seccomp`.

pub(crate) mod access;
pub(crate) mod activation;
pub(crate) mod channel;
pub(crate) mod child;
pub(crate) mod code_pages;
mod datagram;
pub(crate) mod door;
pub(crate) mod environment;
pub(crate) mod file_lock;
pub mod landlock;
pub(crate) mod memory;
pub(crate) mod memory_file;
pub(crate) mod notify;
pub(crate) mod order_reply;
pub(crate) mod pipe;
pub mod privileges;
pub(crate) mod process;
pub(crate) mod random;
pub mod sandbox;
#[cfg(all(
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod seccomp;
pub mod shm;
pub(crate) mod signal;
pub mod socket;
pub mod stderr;
#[cfg(all(
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod syscalls;
pub(crate) mod terminal;
pub(crate) mod unacknowledged;
