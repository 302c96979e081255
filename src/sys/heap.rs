//! What the allocator keeps of memory that is free.

#![allow(
    unsafe_code,
    reason = "the allocator's own functions have no safe form"
)]

/// Gives free pages back to the kernel, where the allocator can: it keeps many for the next time
/// (malloc_trim(3)).
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number only, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
