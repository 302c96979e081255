//! A serving process: on its own ([`single`]), as the workforce of the controller, or as one of
//! several under a supervisor ([`worker`]), by whose orders it goes. Both turn a worker in the
//! same way (`serving`).

pub mod admin;
mod serving;
pub mod single;
pub mod worker;

use log::warn;

use crate::config::model::Config;
use crate::control::{connections_possible, excess_connections};
use crate::sys::memory;

/// Descriptors kept for everything but client connections and their backends.
const DESCRIPTORS_RESERVED: u64 = 64;

/// Lowers a limit on connections that would let clients take every descriptor.
pub(crate) fn fit_descriptors(config: &mut Config, descriptors: u64) {
    if let Some(excess) = excess_connections(config, descriptors) {
        warn!("{excess}");
        config.connections_max = Some(connections_possible(descriptors));
    }
}

/// A relayed connection takes two descriptors, and some of the addresses that there may be. So many
/// sockets are `listening` besides.
pub(crate) fn connections_max(descriptors: u64, listening: usize) -> usize {
    let reserved = DESCRIPTORS_RESERVED.saturating_add(listening as u64);
    let count = descriptors.saturating_sub(reserved) / 2;
    let count = usize::try_from(count).unwrap_or(usize::MAX).max(1);
    count.min(memory::own_limits().connections())
}
