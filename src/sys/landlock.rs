//! Landlock (landlock(7)): a process gives up files and ports, and root cannot get them back
//! either.
//!
//! Only for workers, which open nothing and bind nothing: their rule set allows nothing, so it
//! needs no paths. A process on its own reads and writes wherever a reload may point it to; rules
//! by folder would break the reload, and what it never does is already refused by the filter of
//! [`super::sandbox`]. Three calls and no rule: not worth a crate.

#![allow(
    unsafe_code,
    reason = "the calls have no wrapper in the crates weir uses"
)]

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// The calls have the same numbers on every machine (they were added when numbers had become one
/// table); the C library names them on some only.
const CREATE_RULESET: libc::c_long = 444;
const RESTRICT_SELF: libc::c_long = 446;
/// Asks for the version instead of making a rule set.
const FLAG_VERSION: libc::c_ulong = 1;

/// How much could be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confined {
    /// No file can be opened, made, removed or run, and no TCP port be bound.
    FilesAndPorts,
    /// No file, but TCP ports: the kernel is older than Linux 6.7.
    Files,
}

/// What a rule set takes away unless a rule gives it back: all of it, since there are no rules.
#[repr(C)]
#[derive(Debug, Default, PartialEq, Eq)]
struct Handled {
    /// `LANDLOCK_ACCESS_FS_*`.
    files: u64,
    /// `LANDLOCK_ACCESS_NET_*`; connecting is not in it.
    net: u64,
    /// `LANDLOCK_SCOPE_*`.
    scopes: u64,
}

impl Handled {
    /// Everything that the kernel can take away from a worker.
    fn of_version(version: libc::c_long) -> Self {
        // The first version knew 13 rights on files; 2 added one for links and renames, 3 for
        // truncating, 5 for ioctl on devices.
        let files = match version {
            ..=1 => 13,
            2 => 14,
            3 | 4 => 15,
            5.. => 16,
        };
        Self {
            files: (1 << files) - 1,
            // Bit 0 is binding a TCP port.
            net: u64::from(version >= 4),
            // Abstract Unix sockets and signals of and to processes outside.
            scopes: if version >= 6 { 0b11 } else { 0 },
        }
    }
}

/// Gives up all files and, where the kernel can, all ports, for this process and its children.
/// What is open stays open. `no_new_privs` must be set already (see
/// [`super::privileges::drop_to`]).
///
/// # Errors
/// `Unsupported` when the kernel has no Landlock or it is not turned on.
pub fn confine() -> io::Result<Confined> {
    // SAFETY: with a null pointer of size 0 and this flag the call only returns a number.
    let version = unsafe {
        libc::syscall(
            CREATE_RULESET,
            std::ptr::null::<Handled>(),
            0_usize,
            FLAG_VERSION,
        )
    };
    if version < 1 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let handled = Handled::of_version(version);
    let flags: libc::c_ulong = 0;
    // SAFETY: `handled` lives through the call and has the size that is said. A kernel whose
    // structure is shorter accepts it, since the part it does not know is zero.
    let ruleset = checked(unsafe {
        libc::syscall(
            CREATE_RULESET,
            &raw const handled,
            size_of::<Handled>(),
            flags,
        )
    })?;
    let ruleset = libc::c_int::try_from(ruleset).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it, and nothing else owns it.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    // SAFETY: the descriptor is open; the call takes no pointer.
    checked(unsafe { libc::syscall(RESTRICT_SELF, ruleset.as_raw_fd(), flags) })?;
    Ok(if handled.net == 0 {
        Confined::Files
    } else {
        Confined::FilesAndPorts
    })
}

fn checked(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_takes_away_what_it_knows() {
        let handled = |files, net, scopes| Handled { files, net, scopes };
        for (version, expected) in [
            (1, handled(0x1fff, 0, 0)),
            (2, handled(0x3fff, 0, 0)),
            (3, handled(0x7fff, 0, 0)),
            (4, handled(0x7fff, 1, 0)),
            (5, handled(0xffff, 1, 0)),
            (6, handled(0xffff, 1, 3)),
            (7, handled(0xffff, 1, 3)),
            (99, handled(0xffff, 1, 3)),
        ] {
            assert_eq!(Handled::of_version(version), expected, "{version}");
        }
    }
}
