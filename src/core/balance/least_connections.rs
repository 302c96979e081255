//! The lowest load for its weight; among equals, smooth weighted round robin (LC1, LC2).
//!
//! The turn among equals matters most when there is little to do: with all backends idle, the
//! first of the list would otherwise get every request.

use super::{Ask, Ratio, eligible, round_robin};
use crate::core::backend::{BackendId, Backends};

/// The least loaded.
pub(super) fn pick(
    members: &[BackendId],
    backends: &mut Backends,
    ask: &Ask<'_>,
) -> Option<BackendId> {
    round_robin::settle(members, backends, ask);
    let lowest = eligible(members, backends, ask)
        .map(|(_, backend)| Ratio::of(backend))
        .min_by(|a, b| a.cmp(*b))?;
    round_robin::turn(members, backends, |id, backend| {
        ask.admits(id, backend) && Ratio::of(backend).cmp(lowest).is_eq()
    })
}
