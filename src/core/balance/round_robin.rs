//! Smooth weighted round robin, in the order nginx has made known.
//!
//! Every pick pays each candidate its weight; the richest is picked and pays the total. So the
//! standings of the members sum to zero, and weights 5, 3, 2 give A B C A A B A C B A, never
//! five times A first (RR2).

use super::Ask;
use crate::core::backend::{Backend, BackendId, Backends};

/// The next in turn.
pub(super) fn pick(
    members: &[BackendId],
    backends: &mut Backends,
    ask: &Ask<'_>,
) -> Option<BackendId> {
    settle(members, backends, ask);
    turn(members, backends, |id, backend| ask.admits(id, backend))
}

/// Forgets the standing of members that take nothing at present, so that they come back without
/// a burst (RR3), and makes the others sum to zero again.
///
/// Without the second half the zero of a backend that comes back would drift away from the mean
/// of the others: one that leaves after each of its turns, because it is full, leaves them a
/// credit each time, and would starve in the end. All shift by the same amount, so their order
/// stays as it was.
pub(super) fn settle(members: &[BackendId], backends: &mut Backends, ask: &Ask<'_>) {
    let mut sum = 0;
    let mut count = 0;
    for &id in members {
        let Some(backend) = backends.try_get_mut(id) else {
            continue;
        };
        if backend.takes_new(ask.even_if_down) {
            sum += backend.standing;
            count += 1;
        } else {
            backend.standing = 0;
        }
    }
    if sum != 0 && count != 0 {
        spread(members, backends, ask, sum, count);
    }
}

/// Takes `sum` from the `count` members that take new traffic, in equal parts.
fn spread(members: &[BackendId], backends: &mut Backends, ask: &Ask<'_>, sum: i64, count: i64) {
    let part = sum.div_euclid(count);
    let mut remainder = sum.rem_euclid(count);
    for &id in members {
        let Some(backend) = backends.try_get_mut(id) else {
            continue;
        };
        if backend.takes_new(ask.even_if_down) {
            let extra = i64::from(remainder > 0);
            backend.standing -= part + extra;
            remainder -= extra;
        }
    }
}

/// One turn among the members that `admits` lets in; the first of equals is picked.
pub(super) fn turn(
    members: &[BackendId],
    backends: &mut Backends,
    admits: impl Fn(BackendId, &Backend) -> bool,
) -> Option<BackendId> {
    let mut total = 0;
    let mut richest: Option<(BackendId, i64)> = None;
    for &id in members {
        let Some(backend) = backends.try_get_mut(id) else {
            continue;
        };
        if !admits(id, backend) {
            continue;
        }
        let weight = i64::from(backend.weight);
        total += weight;
        backend.standing += weight;
        if richest.is_none_or(|(_, standing)| backend.standing > standing) {
            richest = Some((id, backend.standing));
        }
    }
    let (id, _) = richest?;
    backends.get_mut(id).standing -= total;
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::super::Algorithm;
    use super::super::tests::{Pool, ask};

    #[test]
    fn rr2_weights_5_3_2_give_the_smooth_order() {
        let mut pool = Pool::new(Algorithm::RoundRobin, &[5, 3, 2]);
        assert_eq!(pool.picks(20, &ask()), "ABCAABACBAABCAABACBA");
    }
}
