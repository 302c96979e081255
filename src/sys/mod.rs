//! What weir asks of Linux beyond the standard library: socket options, pipes, signals, limits,
//! and to take rights away.
//!
//! It knows nothing of the loop, of sessions or of the configuration file. All `unsafe` of the
//! crate is in [`activation`], [`child`], [`clock`], [`code_pages`], [`environment`], [`heap`],
//! [`landlock`], [`shm`], [`signal`] and `seccomp`.

pub mod access;
pub mod activation;
pub mod channel;
pub mod child;
pub mod clock;
pub mod code_pages;
mod datagram;
pub mod door;
pub mod environment;
pub mod file_lock;
pub mod heap;
pub mod landlock;
pub mod memory;
pub mod memory_file;
pub mod notify;
pub mod order_reply;
pub mod pipe;
pub mod privileges;
pub mod process;
pub mod random;
pub mod sandbox;
#[cfg(all(
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod seccomp;
pub mod shm;
pub mod signal;
pub mod socket;
pub mod stderr;
#[cfg(all(
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod syscalls;
pub mod syslog;
pub mod terminal;
pub mod unacknowledged;
pub mod word;
