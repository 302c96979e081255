//! A hierarchical timing wheel: arming and cancelling cost the same whatever the number of timers.
//!
//! Eleven levels of 64 slots cover every tick. A slot of the lowest level is one millisecond; a
//! slot of each higher level is as long as the whole level below. A timer lies in the level of
//! the highest digit (of 6 bits) in which its deadline differs from the present, so its place
//! follows from the two and need not be stored, and timers with the same deadline always lie in
//! the same list, in the order in which they were armed. When the present reaches a slot of a
//! higher level, its timers move to lower ones: at most ten times in a timer's life.
//!
//! Empty slots are skipped by a bitmap for each level, so a jump of the clock, however far, costs
//! only what the timers on the way cost. Timers lie in one slab; the lists run through it.
//!
//! It knows no clock: the present is what the last [`TimerWheel::expire`] was told.

use std::num::NonZeroU32;

use crate::core::time::Tick;

/// Names an armed timer. Harmless after the timer fired or was cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerKey {
    index: u32,
    /// Never zero, so that an optional key is no larger than a key.
    generation: NonZeroU32,
}

/// Timers that each carry a `T`.
#[derive(Debug)]
pub struct TimerWheel<T> {
    now: u64,
    /// When the earliest slot begins that has a timer; none is as late as [`NEVER`].
    earliest: u64,
    levels: Box<[Level; LEVELS]>,
    entries: Vec<TimerEntry<T>>,
    /// The first free entry; the others follow through `next`.
    free: u32,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// Bit i is set when slot i has a timer.
    occupied: u64,
    slots: [List; SLOTS],
}

/// A list through the slab; both ends are `NONE` when it is empty.
#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

#[derive(Debug)]
struct TimerEntry<T> {
    at: u64,
    previous: u32,
    next: u32,
    /// Counts the timers that have used this entry, from 1; wraps around to 1.
    generation: NonZeroU32,
    /// None while the entry is free.
    what: Option<T>,
}

impl<T> TimerWheel<T> {
    /// An empty wheel at the instant `now`.
    #[must_use]
    pub fn new(now: Tick) -> Self {
        Self {
            now: now.0,
            earliest: NEVER,
            levels: Box::new([Level::EMPTY; LEVELS]),
            entries: Vec::new(),
            free: NONE,
            len: 0,
        }
    }

    /// Arms a timer for the instant `at`. An instant that is past counts as the present: the
    /// timer fires at the next [`TimerWheel::expire`].
    ///
    /// # Panics
    /// When 2^32 - 1 timers are armed.
    pub fn arm(&mut self, at: Tick, what: T) -> TimerKey {
        let index = self.claim(at.0.max(self.now), what);
        self.link(index);
        self.len += 1;
        TimerKey {
            index,
            generation: self.entries[index as usize].generation,
        }
    }

    /// Takes back a timer; none when it already fired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let entry = self.entries.get(key.index as usize)?;
        if entry.generation != key.generation || entry.what.is_none() {
            return None;
        }
        self.unlink(key.index);
        self.release(key.index)
    }

    /// Moves the present to `now` and appends to `due` every timer whose deadline is not later,
    /// in the order of their deadlines, and of arming where these are equal. An instant before
    /// the present changes nothing.
    #[inline]
    pub fn expire(&mut self, now: Tick, due: &mut Vec<T>) {
        if self.earliest <= now.0 {
            self.expire_slots(now, due);
        }
        self.now = self.now.max(now.0);
    }

    #[inline(never)]
    fn expire_slots(&mut self, now: Tick, due: &mut Vec<T>) {
        while let Some((position, start)) = self.earliest_slot() {
            if start > now.0 {
                break;
            }
            self.now = start;
            self.empty_slot(position, due);
        }
        self.look_for_earliest();
    }

    /// When [`TimerWheel::expire`] should next be called: the earliest deadline, or an instant
    /// before it at which timers move to a lower level. None when no timer is armed.
    #[must_use]
    #[inline]
    pub fn next(&self) -> Option<Tick> {
        (self.len != 0).then_some(Tick(self.earliest))
    }

    /// How many timers are armed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The occupied slot with the earliest deadlines, and the instant at which it begins.
    ///
    /// It is the first one of the lowest level that has any: a timer of a higher level differs
    /// from the present in a higher digit, so it is later than all that do not.
    fn earliest_slot(&self) -> Option<(WheelPosition, u64)> {
        let level = self.levels.iter().position(|level| level.occupied != 0)?;
        let slot = self.levels[level].occupied.trailing_zeros() as usize;
        let shift = shift(level);
        let above = self.now >> shift >> DIGIT_BITS << DIGIT_BITS;
        let start = (above | slot as u64) << shift;
        Some((WheelPosition { level, slot }, start))
    }

    fn look_for_earliest(&mut self) {
        self.earliest = self.earliest_slot().map_or(NEVER, |(_, start)| start);
    }

    /// Fires the timers of a slot that the present has reached, or moves them to lower levels.
    fn empty_slot(&mut self, position: WheelPosition, due: &mut Vec<T>) {
        let mut index = self.levels[position.level].take(position.slot).first;
        while index != NONE {
            let next = self.entries[index as usize].next;
            if position.level == 0 {
                due.extend(self.release(index));
            } else {
                self.link(index);
            }
            index = next;
        }
    }

    /// A free entry, filled, in no list yet.
    fn claim(&mut self, at: u64, what: T) -> u32 {
        if self.free == NONE {
            let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 timers");
            assert!(index != NONE, "fewer than 2^32 - 1 timers");
            self.entries.push(TimerEntry {
                at,
                previous: NONE,
                next: NONE,
                generation: NonZeroU32::MIN,
                what: Some(what),
            });
            return index;
        }
        let index = self.free;
        let entry = &mut self.entries[index as usize];
        self.free = entry.next;
        entry.at = at;
        entry.what = Some(what);
        index
    }

    /// Frees an entry that is in no list; its keys are stale from here on.
    fn release(&mut self, index: u32) -> Option<T> {
        let entry = &mut self.entries[index as usize];
        entry.generation = entry.generation.checked_add(1).unwrap_or(NonZeroU32::MIN);
        entry.next = self.free;
        self.free = index;
        self.len -= 1;
        entry.what.take()
    }

    /// Appends an entry to the list where its deadline belongs.
    fn link(&mut self, index: u32) {
        let at = self.entries[index as usize].at;
        let position = WheelPosition::of(at, self.now);
        let shift = shift(position.level);
        self.earliest = self.earliest.min(at >> shift << shift);
        let level = &mut self.levels[position.level];
        level.occupied |= 1 << position.slot;
        let list = &mut level.slots[position.slot];
        let last = list.last;
        list.last = index;
        if last == NONE {
            list.first = index;
        } else {
            self.entries[last as usize].next = index;
        }
        let entry = &mut self.entries[index as usize];
        entry.previous = last;
        entry.next = NONE;
    }

    /// Takes an entry out of its list.
    fn unlink(&mut self, index: u32) {
        let TimerEntry {
            at, previous, next, ..
        } = self.entries[index as usize];
        let position = WheelPosition::of(at, self.now);
        let level = &mut self.levels[position.level];
        let list = &mut level.slots[position.slot];
        match previous {
            NONE => list.first = next,
            _ => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => list.last = previous,
            _ => self.entries[next as usize].previous = previous,
        }
        if list.first == NONE {
            level.occupied &= !(1 << position.slot);
            self.look_for_earliest();
        }
    }
}

impl Level {
    const EMPTY: Self = Self {
        occupied: 0,
        slots: [List::EMPTY; SLOTS],
    };

    fn take(&mut self, slot: usize) -> List {
        self.occupied &= !(1 << slot);
        std::mem::replace(&mut self.slots[slot], List::EMPTY)
    }
}

impl List {
    const EMPTY: Self = Self {
        first: NONE,
        last: NONE,
    };
}

/// One slot of one level.
#[derive(Clone, Copy, Debug)]
struct WheelPosition {
    level: usize,
    slot: usize,
}

impl WheelPosition {
    /// Where a deadline belongs, seen from the present.
    fn of(at: u64, now: u64) -> Self {
        let highest_bit = 63 - ((at ^ now) | 1).leading_zeros();
        let level = (highest_bit / DIGIT_BITS) as usize;
        let digit = (at >> shift(level)) % SLOTS as u64;
        Self {
            level,
            slot: usize::try_from(digit).expect("below 64"),
        }
    }
}

/// How many bits of a tick are below the digit of this level.
fn shift(level: usize) -> u32 {
    u32::try_from(level).expect("below 11") * DIGIT_BITS
}

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = (u64::BITS.div_ceil(DIGIT_BITS)) as usize;
/// Later than any timer can be told to be.
const NEVER: u64 = u64::MAX;
/// No entry.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut TimerWheel<u32>, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(Tick(now), &mut due);
        due
    }

    #[test]
    fn timers_fire_by_deadline_and_then_by_arming() {
        let mut wheel = TimerWheel::new(Tick(0));
        for (at, what) in [(5000, 1), (70, 2), (5000, 3), (3, 4), (u64::MAX, 5)] {
            wheel.arm(Tick(at), what);
        }
        assert_eq!(fired(&mut wheel, 2), []);
        assert_eq!(fired(&mut wheel, 4999), [4, 2]);
        assert_eq!(fired(&mut wheel, 5000), [1, 3]);
        assert_eq!(fired(&mut wheel, u64::MAX - 1), []);
        assert_eq!(fired(&mut wheel, u64::MAX), [5]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn a_timer_armed_late_fires_after_one_armed_early_for_the_same_instant() {
        let mut wheel = TimerWheel::new(Tick(0));
        wheel.arm(Tick(4100), 1);
        assert_eq!(fired(&mut wheel, 4096), []);
        wheel.arm(Tick(4100), 2);
        assert_eq!(fired(&mut wheel, 4100), [1, 2]);
    }

    #[test]
    fn a_timer_in_the_past_or_present_fires_at_the_next_expire() {
        let mut wheel = TimerWheel::new(Tick(1000));
        wheel.arm(Tick(1000), 1);
        wheel.arm(Tick(3), 2);
        assert_eq!(wheel.next(), Some(Tick(1000)));
        assert_eq!(fired(&mut wheel, 1000), [1, 2]);
    }

    #[test]
    fn a_clock_that_goes_back_fires_nothing_and_loses_nothing() {
        let mut wheel = TimerWheel::new(Tick(1000));
        wheel.arm(Tick(1001), 1);
        assert_eq!(fired(&mut wheel, 5), []);
        assert_eq!(fired(&mut wheel, 1001), [1]);
    }

    #[test]
    fn a_cancelled_timer_gives_back_what_it_carried_and_does_not_fire() {
        let mut wheel = TimerWheel::new(Tick(0));
        let keys = [7, 7, 7].map(|at| wheel.arm(Tick(at), 1));
        assert_eq!(wheel.cancel(keys[1]), Some(1));
        assert_eq!(wheel.len(), 2);
        assert_eq!(fired(&mut wheel, 7), [1, 1]);
    }

    #[test]
    fn a_stale_key_cancels_nothing() {
        let mut wheel = TimerWheel::new(Tick(0));
        let cancelled = wheel.arm(Tick(7), 1);
        wheel.cancel(cancelled);
        let fires = wheel.arm(Tick(7), 2);
        assert_eq!(wheel.cancel(cancelled), None);
        assert_eq!(fired(&mut wheel, 7), [2]);
        wheel.arm(Tick(9), 3);
        assert_eq!(wheel.cancel(fires), None);
        assert_eq!(fired(&mut wheel, 9), [3]);
    }

    #[test]
    fn the_generation_of_an_entry_wraps_around() {
        let mut wheel = TimerWheel::new(Tick(0));
        let first = wheel.arm(Tick(7), 1);
        wheel.entries[0].generation = NonZeroU32::MAX;
        assert_eq!(fired(&mut wheel, 7), [1]);
        assert_eq!(wheel.arm(Tick(9), 2), first);
    }

    #[test]
    fn next_is_exact_near_and_a_moving_lower_bound_far() {
        let mut wheel = TimerWheel::new(Tick(10));
        assert_eq!(wheel.next(), None);
        wheel.arm(Tick(600_001), 1);
        let mut wakeups = 0;
        while let Some(next) = wheel.next() {
            assert!(next <= Tick(600_001));
            wheel.expire(next, &mut Vec::new());
            wakeups += 1;
        }
        assert_eq!(wakeups, 4, "600001 has four digits of six bits");
        wheel.arm(Tick(600_002), 2);
        assert_eq!(wheel.next(), Some(Tick(600_002)));
    }

    #[test]
    fn entries_are_used_again() {
        let mut wheel = TimerWheel::new(Tick(0));
        for at in 0..1000 {
            wheel.arm(Tick(at), 1);
            wheel.expire(Tick(at), &mut Vec::new());
        }
        assert_eq!(wheel.entries.len(), 1);
    }

    #[test]
    fn keys_and_entries_are_small() {
        assert_eq!(size_of::<TimerKey>(), 8);
        assert_eq!(size_of::<Option<TimerKey>>(), 8);
        assert!(size_of::<TimerEntry<[u32; 2]>>() <= 32);
    }
}
