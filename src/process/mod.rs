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

/// Lowers a limit on connections that would let clients take every descriptor.
pub(crate) fn fit_descriptors(config: &mut Config, descriptors: u64) {
    if let Some(excess) = excess_connections(config, descriptors) {
        warn!("{excess}");
        config.connections_max = Some(connections_possible(descriptors));
    }
}
