//! The machine's clock that never goes back, `CLOCK_MONOTONIC` (clock_gettime(2)).

#![allow(unsafe_code, reason = "the C library's clock has no safe form")]

use std::mem::MaybeUninit;

/// Microseconds since some moment, for all processes the same.
///
/// By the C library, which needs no system call for it (vdso(7)). rustix makes one in a static
/// program: it looks for getauxval(3) among dynamic symbols, of which there are none.
#[must_use]
#[allow(
    clippy::useless_conversion,
    reason = "seconds and nanoseconds are shorter on some machines"
)]
pub fn monotonic_us() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the time is written there. It does not fail: Linux always has this clock.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    // It begins at 0.
    (i64::from(now.tv_sec) * 1_000_000 + i64::from(now.tv_nsec) / 1_000).cast_unsigned()
}
