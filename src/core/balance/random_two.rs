//! Two different backends drawn by weight, and the one with the lower load for its weight.
//!
//! Nearly as even as least connections, but without everybody's rush to the same backend when
//! several balancers know the loads a little late.

use super::{Ask, Ratio, eligible};
use crate::core::backend::{BackendId, Backends};
use crate::core::rng::Rng;

/// The better of two.
pub(super) fn pick(
    members: &[BackendId],
    backends: &Backends,
    ask: &Ask<'_>,
    rng: &mut Rng,
) -> Option<BackendId> {
    let one = draw(members, backends, ask, None, rng)?;
    let Some(two) = draw(members, backends, ask, Some(one), rng) else {
        return Some(one);
    };
    let ratio = |id| Ratio::of(backends.get(id));
    let better = if ratio(two).cmp(ratio(one)).is_lt() {
        two
    } else {
        one
    };
    Some(better)
}

/// One eligible member other than `without`, each as likely as its weight.
fn draw(
    members: &[BackendId],
    backends: &Backends,
    ask: &Ask<'_>,
    without: Option<BackendId>,
    rng: &mut Rng,
) -> Option<BackendId> {
    let weights = || {
        eligible(members, backends, ask)
            .filter(|&(id, _)| Some(id) != without)
            .map(|(id, backend)| (id, u64::from(backend.weight)))
    };
    let mut point = rng.below(weights().map(|(_, weight)| weight).sum());
    for (id, weight) in weights() {
        match point.checked_sub(weight) {
            Some(rest) => point = rest,
            None => return Some(id),
        }
    }
    None
}
