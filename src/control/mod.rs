//! How a running weir is controlled: signals, orders, reloads, names, the service manager and the
//! pid file, whoever serves.
//!
//! There is one loop, of the `controller`, over a `workforce`: the process itself, or workers under
//! a supervisor. What a new configuration changes, whether it can be served here, and what is said
//! of it (`changes`, [`preflight`], `verdict`) is decided there once. Besides, [`order`] talks to a
//! weir that runs.

pub(crate) mod access_sink;
pub(crate) mod basis;
pub mod bill;
pub(crate) mod changes;
pub(crate) mod confine;
pub(crate) mod controller;
pub(crate) mod credentials;
pub(crate) mod desk;
pub(crate) mod doors;
mod errands;
mod fixed_settings;
pub(crate) mod listen;
pub(crate) mod names;
pub mod order;
pub(crate) mod orphans;
pub(crate) mod overlay;
pub(crate) mod pid_file;
pub mod preflight;
mod reload;
pub(crate) mod service;
mod sessions;
pub(crate) mod state_file;
mod state_text;
pub(crate) mod succession;
pub(crate) mod verdict;
pub(crate) mod workforce;

use std::io;
use std::time::SystemTime;

use log::debug;

use crate::board::Board;
use crate::cli::Args;
use crate::config::model::{Config, WORKERS_MAX};
use crate::core::memory_limit::MemoryLimits;
use crate::sys::{memory, process};

/// Keys of control descriptors: these, then those of a workforce of its own.
const SIGNALS_KEY: u32 = 0;
const JOBS_KEY: u32 = 1;
const BEAT_KEY: u32 = 2;
const ORDERS_KEY: u32 = 3;
const MINUTES_KEY: u32 = 4;
const ADMIN_KEY: u32 = 5;
pub(crate) const FIRST_FREE_KEY: u32 = 6;

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

/// Descriptors that weir takes for itself, at the least.
const DESCRIPTORS_OWN: u64 = 16;

/// Descriptors kept for everything but client connections and their backends: so many at most, and
/// few where there are few.
const DESCRIPTORS_RESERVED_MAX: u64 = 64;
const DESCRIPTORS_RESERVED_MIN: u64 = 16;

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

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
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

/// How many workers the command line or else the configuration asks for.
#[must_use]
pub(crate) fn workers_wanted(args: &Args, config: &Config) -> usize {
    if args.cpu.is_some() {
        return 1;
    }
    let wanted = args.workers.unwrap_or(config.workers);
    wanted.unwrap_or_else(one_per_cpu)
}

fn one_per_cpu() -> usize {
    let cpus = process::allowed_cpus().map_or(1, |cpus| cpus.len());
    cpus.clamp(1, WORKERS_MAX)
}

/// Whether the command line or else the configuration asks for a supervisor.
#[must_use]
pub fn is_supervised(args: &Args, config: &Config) -> bool {
    let is_possible = args.cpu.is_none();
    is_possible && (config.always_supervised || workers_wanted(args, config) > 1)
}

/// Whether the workers that command line and configuration ask for can share all that it has; also
/// a single one, where there is a supervisor already.
///
/// # Errors
/// The limit, and what to do.
pub(crate) fn check_names(
    args: &Args,
    config: &Config,
    has_supervisor: bool,
) -> Result<(), String> {
    if !has_supervisor && !is_supervised(args, config) {
        return Ok(());
    }
    Board::check(&config.column_names()).map_err(|full| full.to_string())
}

/// Settles how much of bytes that wait each of so many processes may keep, where the configuration
/// leaves that to the memory that there is.
pub(crate) fn share_memory(config: &mut Config, limits: &MemoryLimits, processes: usize) {
    if config.buffer_memory_bytes.is_none() {
        let bytes = limits.waiting_bytes(processes);
        debug!(
            "buffers.memory: auto is {} KiB in each process, of {limits}",
            bytes / 1024
        );
        config.buffer_memory_bytes = Some(bytes);
    }
}

/// Client connections that leave an eighth of the descriptors for backend connections: kept
/// clients may share few of them, but none would serve nobody.
pub(crate) fn connections_possible(descriptors: u64) -> usize {
    let possible = descriptors.saturating_sub(DESCRIPTORS_OWN) / 8 * 7;
    usize::try_from(possible).unwrap_or(usize::MAX).max(1)
}

/// A relayed connection takes two descriptors, and some of the addresses that there may be. So many
/// sockets are `listening` besides.
pub(crate) fn connections_max(descriptors: u64, listening: usize) -> usize {
    let reserved = (DESCRIPTORS_RESERVED_MIN + descriptors / 8).min(DESCRIPTORS_RESERVED_MAX);
    let reserved = reserved.saturating_add(listening as u64);
    let count = descriptors.saturating_sub(reserved) / 2;
    let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
    count.min(memory::own_limits().connections())
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
