//! What every end-to-end test stands on: the real binary, scripted peers, and a configuration.
//!
//! It knows nothing of weir's code: only its command line, its file, its log and its sockets.
//! Sockets here block, and every call that blocks gives up after [`PATIENCE`], so that a defect
//! shows as a failed test and never as one that hangs. That bound is the only use of time: what
//! a test claims never depends on how fast the machine is.

pub(crate) mod config;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod origin;
pub(crate) mod pattern;
pub(crate) mod peer;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod scratch;
pub(crate) mod skip;

pub(crate) use config::Config;
pub(crate) use load::Load;
pub(crate) use origin::{Named, Origin, ask, try_ask};
pub(crate) use peer::{End, Peer};
pub(crate) use port::{Blackhole, Gate, Port};
pub(crate) use process::{Launch, Weir, run};
pub(crate) use rustix::process::Signal;
pub(crate) use scratch::Scratch;
pub(crate) use skip::skip;

use std::thread;
use std::time::{Duration, Instant};

/// Longest wait for anything that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at something that cannot be waited for.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Looks again and again until `look` finds something.
///
/// # Panics
/// With `what` when nothing was found for [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < give_up, "never happened: {what}");
        thread::sleep(POLL_INTERVAL);
    }
}

/// Lets time pass where a test claims that something does *not* happen, which only time can
/// show. A slow machine makes such a test weaker, never wrong.
pub(crate) fn observe(window: Duration) {
    thread::sleep(window);
}
