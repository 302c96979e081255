//! A serving process: on its own ([`single`]) or as one of several under a supervisor
//! ([`worker`]). Both turn the same loop. Besides, [`order`] talks to one that runs.

pub(crate) mod access_sink;
pub(crate) mod confine;
pub(crate) mod listen;
pub mod order;
pub(crate) mod orphans;
pub(crate) mod pid_file;
pub mod preflight;
pub(crate) mod service;
mod serving;
pub mod single;
pub(crate) mod verdict;
pub mod worker;

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use log::warn;

use crate::config::model::Config;

/// Ended as asked.
pub(crate) const EXIT_OK: u8 = 0;
/// Some connections were cut, or the loop broke.
pub(crate) const EXIT_CUT: u8 = 1;
/// The configuration is bad.
pub const EXIT_CONFIG: u8 = 1;
/// The command line is bad.
pub const EXIT_USAGE: u8 = 2;
/// Cannot listen, or not permitted.
pub(crate) const EXIT_BIND: u8 = 3;
/// Another weir owns the pid file.
pub(crate) const EXIT_TAKEN: u8 = 4;

/// Descriptors kept for everything but client connections and their backends.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Descriptors that weir takes for itself, at the least.
const DESCRIPTORS_OWN: u64 = 16;

/// Logs from this level up, from now on; only warnings and errors when `quiet`.
/// `RUST_LOG` wins over both.
pub fn set_log_level(level: log::LevelFilter, quiet: bool) {
    if std::env::var_os("RUST_LOG").is_none() {
        log::set_max_level(if quiet {
            level.min(log::LevelFilter::Warn)
        } else {
            level
        });
    }
}

/// Why a process does not start.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The exit status that tells of it.
    pub(crate) code: u8,
    /// For the log.
    pub(crate) message: String,
}

impl Refusal {
    /// What was tried, and why it failed.
    pub(crate) fn new(what: &str, error: &io::Error) -> Self {
        Self {
            code: EXIT_BIND,
            message: format!("{what}: {error}"),
        }
    }
}

/// Client connections that leave an eighth of the descriptors for backend connections: kept
/// clients may share few of them, but none would serve nobody.
pub(crate) fn connections_possible(descriptors: u64) -> usize {
    let possible = descriptors.saturating_sub(DESCRIPTORS_OWN) / 8 * 7;
    usize::try_from(possible).unwrap_or(usize::MAX).max(1)
}

/// Lowers a limit on connections that would let clients take every descriptor.
pub(crate) fn fit_descriptors(config: &mut Config, descriptors: u64) {
    if let Some(excess) = excess_connections(config, descriptors) {
        warn!("{excess}");
        config.connections_max = Some(connections_possible(descriptors));
    }
}

/// Says so when the limit on connections would let clients take every descriptor.
pub(crate) fn excess_connections(config: &Config, descriptors: u64) -> Option<String> {
    let possible = connections_possible(descriptors);
    let wanted = config.connections_max.filter(|&wanted| wanted > possible)?;
    Some(format!(
        "max_connections: {wanted} is more than the limit of {descriptors} descriptors \
         (ulimit -n) allows: {possible}"
    ))
}

/// A relayed connection takes two descriptors. `listening` sockets are open besides.
pub(crate) fn connections_max(descriptors: u64, listening: usize) -> usize {
    let reserved = DESCRIPTORS_RESERVED.saturating_add(listening as u64);
    let count = descriptors.saturating_sub(reserved) / 2;
    usize::try_from(count).unwrap_or(usize::MAX).max(1)
}

/// A seed for what is drawn, different in every process and at every start.
pub(crate) fn seed() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let nanos = u64::try_from(since.as_nanos() & u128::from(u64::MAX)).unwrap_or(0);
    nanos ^ (u64::from(std::process::id()) << 32)
}
