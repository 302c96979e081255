//! Who probes a backend: of all processes of a machine one, for a term.
//!
//! The term is one word in memory that all of them see. Whoever finds it free, expired or its own
//! may put a new one in its place, provided that it is still the word it has looked at. A holder
//! renews before its term ends; one that has died or stands still for too long loses it, and
//! finds that out before it does anything in the name of it.

use crate::core::time::Tick;

/// A process that may hold a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its row on the board.
    pub row: u8,
    /// Which of the row's owners in turn it is; never 0.
    pub(crate) incarnation: u16,
}

/// A lease that somebody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Who holds it.
    pub holder: Holder,
    /// When it ends, unless it is renewed. At most 2^40 - 1: a machine that runs for 34 years.
    pub(crate) until: Tick,
}

/// What a process that wants a lease may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Put this word in the place of the one that was read.
    Take(u64),
    /// Somebody else has it, until then.
    Wait(Tick),
}

impl Term {
    /// The term in a word; none when the lease is free.
    #[must_use]
    pub fn read(word: u64) -> Option<Self> {
        let incarnation = u16::try_from(word >> UNTIL_BITS & 0xffff).unwrap_or(0);
        let row = u8::try_from(word >> (UNTIL_BITS + 16)).unwrap_or(0);
        (incarnation != 0).then_some(Self {
            holder: Holder { row, incarnation },
            until: Tick(word & UNTIL_MAX),
        })
    }

    /// The term as a word, which is never [`FREE`].
    #[must_use]
    pub(crate) fn word(self) -> u64 {
        let Holder { row, incarnation } = self.holder;
        let until = self.until.0.min(UNTIL_MAX);
        u64::from(row) << (UNTIL_BITS + 16) | u64::from(incarnation) << UNTIL_BITS | until
    }
}

/// Nobody has the lease.
pub(crate) const FREE: u64 = 0;

/// Asks for the lease in `word` until then, as a new one or to renew it.
#[must_use]
pub(crate) fn claim(word: u64, me: Holder, now: Tick, until: Tick) -> Claim {
    match Term::read(word) {
        Some(term) if term.holder != me && term.until > now => Claim::Wait(term.until),
        _ => Claim::Take(Term { holder: me, until }.word()),
    }
}

/// Whether it is `me` who has the lease. An expired term counts as long as nobody took it.
#[must_use]
pub(crate) fn holds(word: u64, me: Holder) -> bool {
    Term::read(word).is_some_and(|term| term.holder == me)
}

const UNTIL_BITS: u32 = 40;
const UNTIL_MAX: u64 = (1 << UNTIL_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Holder = Holder {
        row: 127,
        incarnation: u16::MAX,
    };
    const OTHER: Holder = Holder {
        row: 127,
        incarnation: 1,
    };

    fn word(holder: Holder, until: u64) -> u64 {
        let until = Tick(until);
        Term { holder, until }.word()
    }

    #[test]
    fn a_term_is_read_as_it_was_written() {
        assert_eq!(Term::read(FREE), None);
        for holder in [ME, OTHER] {
            for until in [0, 1, UNTIL_MAX] {
                let term = Term {
                    holder,
                    until: Tick(until),
                };
                assert_eq!(Term::read(term.word()), Some(term));
            }
        }
        assert_eq!(
            Term::read(word(ME, u64::MAX)).map(|term| term.until),
            Some(Tick(UNTIL_MAX))
        );
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_expired_or_ones_own() {
        let table = [
            (FREE, true),
            (word(OTHER, 10), true),
            (word(OTHER, 11), false),
            (word(ME, 5), true),
            (word(ME, 99), true),
        ];
        for (held, taken) in table {
            let claimed = claim(held, ME, Tick(10), Tick(50));
            let expected = if taken {
                Claim::Take(word(ME, 50))
            } else {
                Claim::Wait(Tick(11))
            };
            assert_eq!(claimed, expected, "{held:x}");
        }
    }

    #[test]
    fn a_successor_in_the_same_row_does_not_hold_what_its_predecessor_held() {
        assert!(holds(word(ME, 1), ME));
        assert!(!holds(word(OTHER, 99), ME));
        assert!(!holds(FREE, ME));
    }
}
