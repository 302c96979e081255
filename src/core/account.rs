//! One account for all bytes that wait, with one bound, whatever they wait for.
//!
//! Whoever keeps bytes takes as much from the account as it allocates, and gives that back. Each
//! purpose has a part that the others leave to it, so that a crowd of one can make the others
//! slower but does not stop them; all beyond those parts belongs to whoever comes first.

use std::collections::TryReserveError;

/// What bytes wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// On their way: the target has not taken them yet.
    Transit,
    /// Of a client, for their turn: an incomplete head, or what was sent ahead.
    Input,
    /// Of a request that may have to be sent again.
    Request,
    /// Of a response whose head is incomplete.
    Response,
}

const PURPOSES: usize = 4;

/// One part in so many of all is left to each purpose.
const RESERVE_PARTS: usize = 8;

/// Bytes that may be kept, and are.
#[derive(Debug)]
pub(crate) struct Account {
    bytes_max: usize,
    used: [usize; PURPOSES],
    total: usize,
    has_given: bool,
}

/// The account has no room, or the machine no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

impl From<TryReserveError> for NoMemory {
    fn from(_: TryReserveError) -> Self {
        Self
    }
}

/// Allocates for so many more bytes, of which at most `room` are to be kept: at least twice of what
/// there is, or half of the room, so that bytes which come one by one are not moved as often.
///
/// # Errors
/// When the machine has no memory for them.
pub(crate) fn grow(to: &mut Vec<u8>, more: usize, room: usize) -> Result<(), TryReserveError> {
    let before = to.capacity();
    let missing = more.saturating_sub(before - to.len());
    if missing == 0 {
        return Ok(());
    }
    let growth = missing.max(before.min(room / 2));
    to.try_reserve_exact(before + growth - to.len())
}

impl Account {
    /// An account for so many bytes, of which none are kept.
    #[must_use]
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            used: [0; PURPOSES],
            total: 0,
            has_given: false,
        }
    }

    /// How many more bytes of a purpose may be kept now.
    #[must_use]
    pub(crate) fn room(&self, purpose: Purpose) -> usize {
        let reserve = self.bytes_max / RESERVE_PARTS;
        let others = (0..PURPOSES).filter(|&other| other != purpose as usize);
        let left_alone: usize = others
            .map(|other| reserve.saturating_sub(self.used[other]))
            .sum();
        let left = self.bytes_max.saturating_sub(self.total + left_alone);
        // Its part is its own, too, where another had to keep more than there was.
        left.max(reserve.saturating_sub(self.used[purpose as usize]))
    }

    /// The most that one purpose can have.
    #[must_use]
    pub(crate) const fn most(&self) -> usize {
        self.bytes_max - (PURPOSES - 1) * (self.bytes_max / RESERVE_PARTS)
    }

    /// The bytes of a purpose that are kept.
    #[must_use]
    pub(crate) const fn used(&self, purpose: Purpose) -> usize {
        self.used[purpose as usize]
    }

    /// All bytes that are kept.
    #[must_use]
    pub(crate) const fn total(&self) -> usize {
        self.total
    }

    /// The bound.
    #[must_use]
    pub(crate) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What was lifted is given back for good.
    pub(crate) const fn note_given(&mut self) {
        self.has_given = true;
    }

    /// Whether room was given back since the last call.
    pub(crate) const fn take_given(&mut self) -> bool {
        std::mem::replace(&mut self.has_given, false)
    }

    /// Whether more is kept than may be: then nothing is read that might have to be.
    #[must_use]
    pub(crate) const fn is_over(&self) -> bool {
        self.total > self.bytes_max
    }

    /// Takes room for bytes that are to be kept.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn take(&mut self, purpose: Purpose, bytes: usize) -> Result<(), NoMemory> {
        if bytes > self.room(purpose) {
            return Err(NoMemory);
        }
        self.force(purpose, bytes);
        Ok(())
    }

    /// Takes it for bytes that have to be kept whatever there is.
    pub(crate) const fn force(&mut self, purpose: Purpose, bytes: usize) {
        self.used[purpose as usize] += bytes;
        self.total += bytes;
    }

    /// Gives room back.
    pub(crate) const fn give(&mut self, purpose: Purpose, bytes: usize) {
        self.lift(purpose, bytes);
        self.has_given |= bytes > 0;
    }

    /// Gives room back that may be taken again in a moment: [`Account::take_given`] does not count
    /// it.
    pub(crate) const fn lift(&mut self, purpose: Purpose, bytes: usize) {
        debug_assert!(bytes <= self.used[purpose as usize], "more than was taken");
        self.used[purpose as usize] -= bytes;
        self.total -= bytes;
    }

    /// Keeps these bytes behind those that are there. What is allocated [grows](grow) by
    /// more than that.
    ///
    /// # Errors
    /// When there is no room or no memory for them. Then nothing has changed.
    pub(crate) fn keep(
        &mut self,
        purpose: Purpose,
        to: &mut Vec<u8>,
        bytes: &[u8],
    ) -> Result<(), NoMemory> {
        let before = to.capacity();
        let missing = bytes.len().saturating_sub(before - to.len());
        if missing > 0 {
            let room = self.room(purpose);
            if missing > room {
                return Err(NoMemory);
            }
            grow(to, bytes.len(), room)?;
            self.force(purpose, to.capacity() - before);
        }
        to.extend_from_slice(bytes);
        Ok(())
    }

    /// Forgets bytes that were kept, and frees what was allocated for them.
    pub(crate) fn free(&mut self, purpose: Purpose, kept: &mut Vec<u8>) {
        self.give(purpose, kept.capacity());
        *kept = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Rng;

    const ALL: [Purpose; PURPOSES] = [
        Purpose::Transit,
        Purpose::Input,
        Purpose::Request,
        Purpose::Response,
    ];

    fn below(rng: &mut Rng, n: usize) -> usize {
        usize::try_from(rng.below(n as u64)).expect("less than n")
    }

    /// What is kept, drawn at random: the account agrees with it after every step.
    #[test]
    fn the_bound_holds_and_each_kind_has_its_part() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let bytes_max = 1 + below(&mut rng, 5_000);
            let mut account = Account::new(bytes_max);
            let mut kept: Vec<(Purpose, usize)> = Vec::new();
            for _ in 0..300 {
                let purpose = ALL[below(&mut rng, PURPOSES)];
                let bytes = below(&mut rng, bytes_max / 3 + 2);
                let used = account.used(purpose);
                if rng.below(3) == 0 && !kept.is_empty() {
                    let place = below(&mut rng, kept.len());
                    let (purpose, bytes) = kept.swap_remove(place);
                    account.give(purpose, bytes);
                } else if account.take(purpose, bytes).is_ok() {
                    kept.push((purpose, bytes));
                } else {
                    assert!(
                        used + bytes > bytes_max / RESERVE_PARTS,
                        "its part is its own"
                    );
                }
                assert!(account.total() <= bytes_max && !account.is_over());
                let sum: usize = kept.iter().map(|&(_, bytes)| bytes).sum();
                assert_eq!(account.total(), sum);
                assert!(
                    ALL.iter()
                        .all(|&purpose| account.used(purpose) <= account.most())
                );
            }
            kept.drain(..)
                .for_each(|(purpose, bytes)| account.give(purpose, bytes));
            assert_eq!(account.total(), 0);
            assert_eq!(account.room(Purpose::Input), account.most());
        }
    }

    #[test]
    fn what_is_charged_is_what_is_allocated() {
        for seed in 0..200 {
            let mut rng = Rng::new(seed);
            let mut account = Account::new(40_000);
            let mut kept: Vec<_> = (0..8).map(|_| Vec::new()).collect();
            for _ in 0..400 {
                let bytes = vec![b'x'; below(&mut rng, 3_000)];
                let at = below(&mut rng, 8);
                let len = kept[at].len();
                match rng.below(5) {
                    0 => account.free(Purpose::Input, &mut kept[at]),
                    _ => match account.keep(Purpose::Input, &mut kept[at], &bytes) {
                        Ok(()) => assert_eq!(kept[at].len(), len + bytes.len()),
                        Err(NoMemory) => assert_eq!(kept[at].len(), len, "nothing has changed"),
                    },
                }
                let allocated: usize = kept.iter().map(Vec::capacity).sum();
                assert_eq!(account.total(), allocated);
                assert!(!account.is_over());
            }
            for vec in &mut kept {
                account.free(Purpose::Input, vec);
            }
            assert_eq!(account.total(), 0);
        }
    }

    #[test]
    fn one_by_one_bytes_are_moved_a_few_times_only() {
        let mut account = Account::new(1 << 20);
        let (mut kept, mut moves) = (Vec::new(), 0);
        for _ in 0..1 << 16 {
            let before = kept.capacity();
            account.keep(Purpose::Input, &mut kept, b"x").expect("room");
            moves += usize::from(kept.capacity() != before);
        }
        assert!(moves <= 17, "{moves} moves");
    }

    #[test]
    fn what_must_be_kept_is_and_leaves_the_others_their_parts() {
        let mut account = Account::new(1_000);
        account.force(Purpose::Transit, 1_001);
        assert!(account.is_over());
        for purpose in ALL {
            let own = if purpose == Purpose::Transit { 0 } else { 125 };
            assert_eq!(account.room(purpose), own, "{purpose:?}");
        }
        account.give(Purpose::Transit, 1_001);
        assert!(
            ALL.iter()
                .all(|&purpose| account.take(purpose, 125).is_ok())
        );
    }
}
