//! Keeping a silent TCP connection under observation.

use std::time::Duration;

/// TCP keepalive probes of the kernel (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe.
    pub(crate) idle: Duration,
    /// Time between probes.
    pub(crate) interval: Duration,
    /// Unanswered probes before the connection is dropped.
    pub(crate) probes: u32,
}
