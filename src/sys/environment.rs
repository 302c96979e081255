//! Environment variables that are for one process: taken once, and not left to children.

#![allow(unsafe_code, reason = "to remove a variable")]

use std::env;

/// The value of a variable, which is removed. None when it is not there or no UTF-8.
///
/// To be called before any thread is started.
#[must_use]
pub fn take(name: &str) -> Option<String> {
    let value = env::var(name).ok();
    // SAFETY: the caller has one thread, so nobody reads the environment meanwhile.
    unsafe { env::remove_var(name) };
    value
}
