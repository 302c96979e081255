//! The sandbox of a serving process: a filter on system calls, and for workers Landlock.
//!
//! Both only take away. What the kernel or the machine does not offer is reported and not missed:
//! the process has given up its privileges before (see [`super::privileges`]).

use std::io;

use super::landlock::{self, Confined};

/// What a process may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Moves bytes over sockets: it opens no file, binds and listens to nothing, starts no thread,
    /// and makes no memory executable. Descriptors are handed to it.
    Worker,
    /// Also reads its configuration, writes its log, opens listeners and resolves names, on
    /// threads. It starts no program either.
    Single,
}

/// Whether system calls are filtered.
#[derive(Debug)]
pub enum Filter {
    /// Refused calls fail with EPERM and are named on standard error, each kind once.
    On,
    /// weir has no list for this machine.
    UnknownMachine,
    /// The kernel has no such filters, or does not let this process have one.
    Refused(io::Error),
}

/// What has become of the sandbox.
#[derive(Debug)]
pub struct Sandbox {
    /// System calls.
    pub filter: Filter,
    /// Files and ports; none for a process that needs both.
    pub landlock: Option<io::Result<Confined>>,
}

/// Confines this process for good.
///
/// To be called while it has one thread, after [`super::privileges::drop_to`]; later threads
/// inherit the filter. A refused call in a thread that holds back SIGSYS ends the process: the C
/// library does that around starting threads and programs.
#[must_use]
pub fn enter(profile: Profile) -> Sandbox {
    // First Landlock: its calls are not on the list.
    let landlock = match profile {
        Profile::Worker => Some(landlock::confine()),
        Profile::Single => None,
    };
    let filter = filter(profile);
    Sandbox { filter, landlock }
}

#[cfg(all(
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
fn filter(profile: Profile) -> Filter {
    match super::seccomp::filter(profile) {
        Ok(()) => Filter::On,
        Err(error) => Filter::Refused(error),
    }
}

#[cfg(not(all(
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
fn filter(_: Profile) -> Filter {
    Filter::UnknownMachine
}
