//! Smooth weighted round robin among those with the lowest load, as a tournament.
//!
//! In a round, each of those with the lowest load for its weight is paid its weight; the richest
//! wins and pays what all of them were paid. Here nobody is paid one by one. All who have the same
//! load for their weight are a group, and the group counts its rounds: what a member is owed is
//! what is written down for it and its weight for each of these. Members sit in blocks, the blocks
//! in a tree, and each node knows the best below it: the lowest load, and of those that have it
//! the richest. Of two whose weights are the same, the richer stays so; of two whose weights are
//! not, the node knows until which round, and is played anew after it (a kinetic tournament: Basch,
//! Guibas and Hershberger, Data structures for mobile data, 1999). What the winner pays is put
//! down only when the next round begins, together with the load that it has by then: it is the
//! same way through the tree.
//!
//! So a round costs the way from one member to the top, a logarithm of the members. With unequal
//! weights there are the nodes besides in which somebody has fallen behind: of these an amortized
//! logarithm squared at most, and in a round robin of thousands of different weights only some.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Ratio;
use crate::core::steps::step;

/// Members of a block: so few that looking at all of them is quick, so many that the nodes take
/// little memory.
const BLOCK: usize = 16;

/// The place of nobody.
const NOBODY: u32 = u32::MAX;

/// The load of a member that takes no part, as it has no room.
pub(super) const FULL: u32 = u32::MAX;

/// A member.
#[derive(Clone, Copy, Debug)]
struct Entrant {
    /// What it is owed, in units of weight; negative when it had more than its share. While it
    /// takes part, that is without the rounds of its group and the shifts of the nodes above. Sums
    /// wrap: what is owed in the end is small.
    standing: i64,
    /// 0 while it has no turns.
    weight: u32,
    load: u32,
}

impl Entrant {
    fn takes_part(&self) -> bool {
        self.weight > 0 && self.load != FULL
    }

    fn ratio(&self) -> Ratio {
        Ratio {
            load: self.load,
            weight: self.weight,
        }
    }
}

/// Those who take part and have the same load for their weight.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// In which they were paid.
    rounds: u64,
    members: u32,
    /// Of all together.
    weight: u64,
}

/// What a node knows of those below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Match {
    /// The first of the richest of those with the lowest load for its weight.
    best: u32,
    /// Its weight.
    weight: u32,
    /// Its load.
    load: u32,
    /// How many take part.
    count: u32,
    /// What the best is owed, without the rounds of its group and the shifts from here upwards.
    standing: i64,
    /// Added to what each below is owed.
    shift: i64,
    /// The last round of its group in which the best is the best, if nothing else happens.
    until: u64,
}

/// Nobody, whose load is higher than any other.
const NOTHING: Match = Match {
    best: NOBODY,
    weight: 1,
    load: FULL,
    count: 0,
    standing: 0,
    shift: 0,
    until: u64::MAX,
};

impl Match {
    fn ratio(&self) -> Ratio {
        Ratio {
            load: self.load,
            weight: self.weight,
        }
    }

    /// Makes this one the best.
    fn take_best(&mut self, place: u32, entrant: &Entrant) {
        self.best = place;
        self.weight = entrant.weight;
        self.load = entrant.load;
        self.standing = entrant.standing;
    }

    /// A node whose best is that of the right half, or else of the left.
    fn of_halves([left, right]: &[Self; 2], is_right: bool, until: u64) -> Self {
        let best = if is_right { right } else { left };
        Self {
            best: best.best,
            weight: best.weight,
            load: best.load,
            count: left.count + right.count,
            standing: best.owed().standing,
            shift: 0,
            until,
        }
    }

    /// The standing and weight of the best, as the node above sees it.
    fn owed(&self) -> Owed {
        Owed {
            standing: self.standing.wrapping_add(self.shift),
            weight: self.weight,
        }
    }
}

/// What somebody is owed at the beginning of its group, and more in each round.
#[derive(Clone, Copy, Debug)]
struct Owed {
    standing: i64,
    weight: u32,
}

impl Owed {
    /// How much more than another after so many rounds of their group.
    fn more_than(self, other: Self, rounds: u64) -> i64 {
        let weights = i64::from(self.weight) - i64::from(other.weight);
        let paid = weights.wrapping_mul(rounds.cast_signed());
        self.standing
            .wrapping_sub(other.standing)
            .wrapping_add(paid)
    }

    /// The last round in which this one, now ahead, is not behind the other. Of equals the first
    /// is ahead, which may be the other.
    fn ahead_until(self, other: Self, rounds: u64, other_is_first: bool) -> u64 {
        if other.weight <= self.weight {
            return u64::MAX;
        }
        let distance = self.more_than(other, rounds) - i64::from(other_is_first);
        let gain = i64::from(other.weight - self.weight);
        rounds.saturating_add_signed(distance / gain)
    }
}

/// The members of an upstream, and who wins next.
#[derive(Clone, Debug)]
pub(super) struct Tournament {
    entrants: Vec<Entrant>,
    groups: BTreeMap<Ratio, Group>,
    /// The halves of the node 1, which is the top, are 2 and 3, those of 2 are 4 and 5, and so on.
    /// At `i` are the halves of the node `i`; at 0 nobody and the top.
    halves: Vec<[Match; 2]>,
    /// Where the nodes of the blocks begin.
    first_block: usize,
    /// What all who take part are owed together.
    sum: i64,
    /// Whether any node has a shift.
    has_shifts: bool,
    /// Who has won the last round, and what it has yet to pay.
    price: Option<(u32, i64)>,
}

impl Tournament {
    /// Members with their weight, load and standing, as [`Tournament::see`] has them.
    pub(super) fn new(members: impl Iterator<Item = (u32, u32, i64)>) -> Self {
        let entrants = members.map(|(weight, load, standing)| Entrant {
            standing: if load == FULL { 0 } else { standing },
            weight,
            load,
        });
        let entrants: Vec<_> = entrants.collect();
        let first_block = entrants.len().div_ceil(BLOCK).next_power_of_two();
        let mut this = Self {
            groups: BTreeMap::new(),
            halves: vec![[NOTHING; 2]; first_block],
            first_block,
            sum: entrants.iter().map(|it| it.standing).sum(),
            entrants,
            has_shifts: false,
            price: None,
        };
        for place in 0..this.entrants.len() {
            this.join(this.entrants[place]);
        }
        for at in (1..2 * first_block).rev() {
            this.play(at);
        }
        this
    }

    /// The weights of the members, in their order; 0 where one has no turns.
    pub(super) fn weights(&self) -> impl Iterator<Item = u32> {
        self.entrants.iter().map(|entrant| entrant.weight)
    }

    /// Whether the member takes part and nobody has a lower load for its weight.
    pub(super) fn is_lowest(&self, place: u32) -> bool {
        let entrant = self.entrants.get(place as usize);
        let lowest = self.node(1).ratio();
        entrant.is_some_and(|it| it.takes_part() && it.ratio() == lowest)
    }

    /// Brings a member up to date, and says whether that has changed its weight. One of weight 0
    /// or with the load [`FULL`] takes no part. Who leaves is owed nothing any more, nor does it
    /// owe; who comes begins with that.
    pub(super) fn see(&mut self, place: u32, weight: u32, load: u32) -> bool {
        let before = self.entrants[place as usize];
        if (before.weight, before.load) == (weight, load) {
            return false;
        }
        let price = self.price.take_if(|&mut (winner, _)| winner == place);
        let mut left_with = 0;
        self.change(place, |entrant| {
            entrant.standing -= price.map_or(0, |(_, price)| price);
            (entrant.weight, entrant.load) = (weight, load);
            if !entrant.takes_part() {
                left_with = std::mem::take(&mut entrant.standing);
            }
        });
        self.sum -= left_with;
        before.weight != weight
    }

    /// Makes the standings sum to zero again after some have left, so that the zero with which one
    /// comes back is the mean of the others. Otherwise what it left with would be their debt or
    /// credit to it, seen as a burst or a famine, and it would add up over members that come and
    /// go. All shift by the same amount, so their order stays as it was.
    pub(super) fn settle(&mut self) {
        if let Some((winner, price)) = self.price.take() {
            self.entrants[winner as usize].standing -= price;
            self.play_up(winner);
        }
        let count = i64::from(self.node(1).count);
        if self.sum == 0 || count == 0 {
            return;
        }
        let sum = std::mem::take(&mut self.sum);
        self.has_shifts = true;
        self.node_mut(1).shift -= sum.div_euclid(count);
        // It is less than the count, which has 32 bits.
        let rest = u32::try_from(sum.rem_euclid(count)).unwrap_or(0);
        self.take_from_first(1, rest);
    }

    /// One round, after [`Tournament::settle`]: who wins it, if anybody takes part.
    pub(super) fn next(&mut self) -> Option<u32> {
        let mut first = self.groups.first_entry()?;
        let group = first.get_mut();
        if group.members == 1 {
            // It would get back what it pays.
            return Some(self.node(1).best);
        }
        group.rounds += 1;
        let (rounds, weight) = (group.rounds, group.weight);
        let lowest = *first.key();
        self.play_late(1, lowest, rounds);
        let winner = self.node(1).best;
        // Weights have 32 bits, as has their number.
        let price = i64::try_from(weight).unwrap_or(i64::MAX);
        self.price = Some((winner, price));
        Some(winner)
    }

    /// What `what` says while these members take no part. They keep their standings.
    pub(super) fn without<T>(
        &mut self,
        hidden: impl Iterator<Item = u32>,
        what: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let loads: Vec<_> = hidden
            .map(|place| (place, self.set_load(place, FULL)))
            .collect();
        let said = what(self);
        for (place, load) in loads.into_iter().rev() {
            self.set_load(place, load);
        }
        said
    }

    fn set_load(&mut self, place: u32, load: u32) -> u32 {
        let mut before = load;
        self.change(place, |entrant| {
            before = std::mem::replace(&mut entrant.load, load);
        });
        before
    }

    /// What each member is owed.
    pub(super) fn standings(&self) -> Vec<i64> {
        let owed = |place: u32, entrant: &Entrant| {
            let price = self.price.filter(|&(winner, _)| winner == place);
            let paid = self.paid(entrant).wrapping_add(self.shift_of(place));
            let owed = entrant.standing.wrapping_add(paid);
            owed - price.map_or(0, |(_, price)| price)
        };
        let places = (0..).zip(&self.entrants);
        let owed = places.map(|(place, entrant)| match entrant.takes_part() {
            true => owed(place, entrant),
            false => entrant.standing,
        });
        owed.collect()
    }
}

// Members.
impl Tournament {
    /// Changes one member, whose standing is all of what it is owed meanwhile.
    fn change(&mut self, place: u32, change: impl FnOnce(&mut Entrant)) {
        let shift = self.shift_of(place);
        let mut entrant = self.entrants[place as usize];
        if entrant.takes_part() {
            let unwritten = self.paid(&entrant).wrapping_add(shift);
            entrant.standing = entrant.standing.wrapping_add(unwritten);
            self.leave(entrant);
        }
        change(&mut entrant);
        if entrant.takes_part() {
            self.join(entrant);
            let unwritten = self.paid(&entrant).wrapping_add(shift);
            entrant.standing = entrant.standing.wrapping_sub(unwritten);
        }
        self.entrants[place as usize] = entrant;
        self.play_up(place);
    }

    /// What a member that takes part was paid in all rounds of its group.
    fn paid(&self, entrant: &Entrant) -> i64 {
        let rounds = self.rounds(entrant.ratio()).cast_signed();
        i64::from(entrant.weight).wrapping_mul(rounds)
    }

    /// The shifts of all nodes above a member.
    fn shift_of(&self, place: u32) -> i64 {
        if !self.has_shifts {
            return 0;
        }
        let up = |&at: &usize| Some(at / 2).filter(|&at| at > 0);
        let nodes = std::iter::successors(Some(self.block_of(place)), up);
        nodes.fold(0, |sum, at| self.node(at).shift.wrapping_add(sum))
    }

    fn rounds(&self, ratio: Ratio) -> u64 {
        self.groups.get(&ratio).map_or(0, |group| group.rounds)
    }

    fn join(&mut self, entrant: Entrant) {
        if entrant.takes_part() {
            let group = self.groups.entry(entrant.ratio()).or_default();
            group.members += 1;
            group.weight += u64::from(entrant.weight);
        }
    }

    fn leave(&mut self, entrant: Entrant) {
        let ratio = entrant.ratio();
        if let Some(group) = self.groups.get_mut(&ratio) {
            group.members -= 1;
            group.weight -= u64::from(entrant.weight);
            if group.members == 0 {
                self.groups.remove(&ratio);
            }
        }
    }

    fn block_of(&self, place: u32) -> usize {
        self.first_block + place as usize / BLOCK
    }

    /// The members of a block, and the place of the first.
    fn block(&self, at: usize) -> (u32, &[Entrant]) {
        let first = BLOCK * (at - self.first_block);
        let end = self.entrants.len();
        let members = &self.entrants[first.min(end)..(first + BLOCK).min(end)];
        // Places are ids, which have 32 bits.
        (u32::try_from(first).unwrap_or(NOBODY), members)
    }
}

// The tree.
impl Tournament {
    fn node(&self, at: usize) -> &Match {
        &self.halves[at / 2][at % 2]
    }

    fn node_mut(&mut self, at: usize) -> &mut Match {
        &mut self.halves[at / 2][at % 2]
    }

    /// Plays the nodes above a member anew, as far as that changes any.
    fn play_up(&mut self, place: u32) {
        let mut at = self.block_of(place);
        while at > 0 && self.play(at) {
            at /= 2;
        }
    }

    /// Plays those nodes anew in which the best may have fallen behind by this round.
    fn play_late(&mut self, at: usize, lowest: Ratio, rounds: u64) {
        if self.node(at).until >= rounds || self.node(at).ratio() != lowest {
            return;
        }
        if at < self.first_block {
            self.play_late(2 * at, lowest, rounds);
            self.play_late(2 * at + 1, lowest, rounds);
        }
        self.play(at);
    }

    /// Takes one from each of the first so many below a node who take part.
    fn take_from_first(&mut self, at: usize, first: u32) {
        if first == 0 {
            return;
        }
        if first >= self.node(at).count {
            self.node_mut(at).shift -= 1;
            return;
        }
        if at < self.first_block {
            let of_left = self.node(2 * at).count;
            self.take_from_first(2 * at, first);
            self.take_from_first(2 * at + 1, first.saturating_sub(of_left));
        } else {
            let start = BLOCK * (at - self.first_block);
            let present = self.entrants[start..]
                .iter_mut()
                .filter(|it| it.takes_part());
            present
                .take(first as usize)
                .for_each(|entrant| entrant.standing = entrant.standing.wrapping_sub(1));
        }
        self.play(at);
    }

    /// Plays a node anew, and says whether that has changed it.
    fn play(&mut self, at: usize) -> bool {
        step();
        let node = match self.halves.get(at) {
            Some(halves) => self.better(halves),
            None => self.best_of_block(at),
        };
        let before = self.node_mut(at);
        let node = Match {
            shift: before.shift,
            ..node
        };
        let is_other = node != *before;
        *before = node;
        is_other
    }

    fn better(&self, halves: &[Match; 2]) -> Match {
        let [left, right] = halves;
        if (left.load, left.weight) == (right.load, right.weight) {
            // They are paid the same, however often that is.
            let is_right = right.owed().more_than(left.owed(), 0) > 0;
            return Match::of_halves(halves, is_right, left.until.min(right.until));
        }
        match left.ratio().cmp(&right.ratio()) {
            Ordering::Less => Match::of_halves(halves, false, left.until),
            Ordering::Greater => Match::of_halves(halves, true, right.until),
            Ordering::Equal => {
                let rounds = self.rounds(left.ratio());
                let is_right = right.owed().more_than(left.owed(), rounds) > 0;
                let (ahead, behind) = if is_right {
                    (right, left)
                } else {
                    (left, right)
                };
                let until = ahead.owed().ahead_until(behind.owed(), rounds, is_right);
                let until = until.min(left.until).min(right.until);
                Match::of_halves(halves, is_right, until)
            }
        }
    }

    fn best_of_block(&self, at: usize) -> Match {
        let (first, members) = self.block(at);
        let members = (first..).zip(members).filter(|(_, it)| it.takes_part());
        let mut node = NOTHING;
        let mut rounds = None;
        let mut is_mixed = false;
        for (place, entrant) in members.clone() {
            node.count += 1;
            if (entrant.load, entrant.weight) == (node.load, node.weight) {
                if entrant.standing.wrapping_sub(node.standing) > 0 {
                    node.take_best(place, entrant);
                }
                continue;
            }
            match entrant.ratio().cmp(&node.ratio()) {
                Ordering::Less => {
                    node.take_best(place, entrant);
                    (rounds, is_mixed) = (None, false);
                }
                Ordering::Equal => {
                    is_mixed = true;
                    let rounds = *rounds.get_or_insert_with(|| self.rounds(node.ratio()));
                    if owed(entrant).more_than(node.owed(), rounds) > 0 {
                        node.take_best(place, entrant);
                    }
                }
                Ordering::Greater => {}
            }
        }
        if is_mixed {
            let (ratio, rounds) = (node.ratio(), rounds.unwrap_or(0));
            let tied = members.filter(|(_, it)| it.ratio() == ratio);
            let untils = tied.map(|(place, it)| {
                let is_first = place < node.best;
                node.owed().ahead_until(owed(it), rounds, is_first)
            });
            node.until = untils.min().unwrap_or(u64::MAX);
        }
        node
    }
}

fn owed(entrant: &Entrant) -> Owed {
    Owed {
        standing: entrant.standing,
        weight: entrant.weight,
    }
}
