//! Smooth weighted round robin among those with the lowest load, as a tournament.
//!
//! In a round, each of those with the lowest load for its weight is paid its weight; the richest
//! wins and pays what all of them were paid. Here nobody is paid one by one. Members sit in
//! blocks, the blocks in a tree, and each node knows the best below it: the lowest load, and of
//! those that have it the richest. That all below a node were paid for so many rounds is written
//! down at the node, and handed down when somebody has to look below. Two who are paid alike stay
//! in their order; of two who are not, the node knows for how many rounds the richer is ahead, and
//! is played anew when these are over (a kinetic tournament: Basch, Guibas and Hershberger, Data
//! structures for mobile data, 1999).
//!
//! So a round costs the way from one member to the top: a logarithm of the members. With unequal
//! weights there are the nodes besides in which somebody has fallen behind: of these an amortized
//! logarithm squared at most, and in a round robin of thousands of different weights only some.

use std::cmp::Ordering;

use super::Ratio;
use crate::core::steps::step;

/// Members of a block: so few that looking at all of them is quick, so many that the nodes take
/// little memory.
const BLOCK: usize = 8;

/// The place of nobody.
const NOBODY: u32 = u32::MAX;

/// The load of a member that takes no part, as it has no room.
pub(super) const FULL: u32 = u32::MAX;

/// Rounds for which it is known at most who stays ahead.
const LEAD_MAX: u32 = u32::MAX - 1;

/// A member.
#[derive(Clone, Copy, Debug, Default)]
struct Entrant {
    /// What it is owed, in units of weight; negative when it had more than its share.
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

/// What a node knows of those below.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// The first of the richest of those with the lowest load for its weight.
    best: u32,
    /// How many take part.
    count: u32,
    /// What the best is owed.
    standing: i64,
    /// The weight of all who have the lowest load for their weight.
    tied: u64,
    /// Added to each below who takes part, but not handed down yet.
    shift: i64,
    /// Rounds in which the tied were paid, but not handed down yet.
    rounds: u32,
    /// Rounds for which the best will be the best, if nothing else happens.
    lead: u32,
}

const NOTHING: Node = Node {
    best: NOBODY,
    count: 0,
    standing: 0,
    tied: 0,
    shift: 0,
    rounds: 0,
    lead: LEAD_MAX,
};

impl Node {
    /// What is known of one.
    fn of(place: u32, entrant: &Entrant) -> Self {
        Self {
            best: place,
            count: 1,
            standing: entrant.standing,
            tied: entrant.weight.into(),
            ..NOTHING
        }
    }
}

/// A node and the blocks below it.
#[derive(Clone, Copy, Debug)]
struct Span {
    node: usize,
    first: usize,
    blocks: usize,
}

impl Span {
    fn is_block(self) -> bool {
        self.blocks == 1
    }

    /// The nodes lie in the order of a walk that takes the left before the right.
    fn halves(self) -> (Self, Self) {
        let blocks = self.blocks / 2;
        let left = Self {
            node: self.node + 1,
            blocks,
            ..self
        };
        let right = Self {
            node: self.node + 2 * blocks,
            first: self.first + blocks,
            blocks: self.blocks - blocks,
        };
        (left, right)
    }

    fn half_with(self, block: usize) -> Self {
        let (left, right) = self.halves();
        if block < right.first { left } else { right }
    }
}

/// The members of an upstream, and who wins next.
#[derive(Clone, Debug, Default)]
pub(super) struct Tournament {
    entrants: Vec<Entrant>,
    nodes: Vec<Node>,
    /// What all who take part are owed together.
    sum: i64,
}

impl Tournament {
    /// Members with their weight, load and standing, as [`Tournament::see`] has them.
    pub(super) fn new(members: impl Iterator<Item = (u32, u32, i64)>) -> Self {
        let entrants = members.map(|(weight, load, standing)| Entrant {
            standing: if load == FULL { 0 } else { standing },
            weight,
            load,
        });
        let mut this = Self {
            entrants: entrants.collect(),
            ..Self::default()
        };
        this.sum = this.entrants.iter().map(|it| it.standing).sum();
        if let Some(top) = this.top() {
            this.nodes = vec![NOTHING; 2 * top.blocks - 1];
            this.visit_all(top, &mut |_| {});
        }
        this
    }

    fn top(&self) -> Option<Span> {
        let blocks = self.entrants.len().div_ceil(BLOCK);
        (blocks > 0).then_some(Span {
            node: 0,
            first: 0,
            blocks,
        })
    }

    /// The weights of the members, in their order; 0 where one has no turns.
    pub(super) fn weights(&self) -> impl Iterator<Item = u32> {
        self.entrants.iter().map(|entrant| entrant.weight)
    }

    /// Whether the member takes part and nobody has a lower load for its weight.
    pub(super) fn is_lowest(&self, place: u32) -> bool {
        let best = self.nodes.first().map_or(NOBODY, |top| top.best);
        let get = |place: u32| self.entrants.get(place as usize);
        match (get(best), get(place)) {
            (Some(best), Some(it)) => it.takes_part() && it.ratio().cmp(best.ratio()).is_eq(),
            _ => false,
        }
    }

    /// Brings a member up to date, and says whether that has changed its weight. One of weight 0
    /// or with the load [`FULL`] takes no part. Who leaves is owed nothing any more, nor does it
    /// owe; who comes begins with that.
    pub(super) fn see(&mut self, place: u32, weight: u32, load: u32) -> bool {
        let before = self.entrants[place as usize];
        if (before.weight, before.load) == (weight, load) {
            return false;
        }
        let mut left_with = 0;
        self.change(place, |entrant| {
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
        let Some(top) = self.top() else { return };
        let count = i64::from(self.nodes[0].count);
        if self.sum == 0 || count == 0 {
            return;
        }
        let sum = std::mem::take(&mut self.sum);
        self.shift(top, -sum.div_euclid(count));
        // It is less than the count, which has 32 bits.
        let rest = u32::try_from(sum.rem_euclid(count)).unwrap_or(0);
        self.shift_first(top, rest);
    }

    /// One round: who wins it, if anybody takes part.
    pub(super) fn play(&mut self) -> Option<u32> {
        let top = self.top()?;
        let tied = self.nodes[0].tied;
        if tied == 0 {
            return None;
        }
        self.round(top);
        let winner = self.nodes[0].best;
        // Weights have 32 bits, as has their number.
        let price = i64::try_from(tied).unwrap_or(i64::MAX);
        self.change(winner, |entrant| entrant.standing -= price);
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
            before = std::mem::replace(&mut entrant.load, load)
        });
        before
    }

    /// What each member is owed.
    pub(super) fn standings(&mut self) -> Vec<i64> {
        let mut standings = Vec::with_capacity(self.entrants.len());
        if let Some(top) = self.top() {
            self.visit_all(top, &mut |entrant| standings.push(entrant.standing));
        }
        standings
    }
}

// The tree.
impl Tournament {
    /// Hands down all there is, and plays every node anew.
    fn visit_all(&mut self, at: Span, visit: &mut impl FnMut(&Entrant)) {
        if at.is_block() {
            self.hand_to_block(at);
            self.block(at).iter().for_each(visit);
            return self.play_block(at);
        }
        self.hand_down(at);
        let (left, right) = at.halves();
        self.visit_all(left, visit);
        self.visit_all(right, visit);
        self.play_node(at);
    }

    /// Changes one member, and plays all nodes above it anew.
    fn change(&mut self, place: u32, change: impl FnOnce(&mut Entrant)) {
        if let Some(top) = self.top() {
            self.change_below(top, place as usize, change);
        }
    }

    fn change_below(&mut self, at: Span, place: usize, change: impl FnOnce(&mut Entrant)) {
        step();
        if at.is_block() {
            self.hand_to_block(at);
            change(&mut self.entrants[place]);
            return self.play_block(at);
        }
        self.hand_down(at);
        self.change_below(at.half_with(place / BLOCK), place, change);
        self.play_node(at);
    }

    /// Pays the tied below a node for a round.
    fn round(&mut self, at: Span) {
        if self.nodes[at.node].lead > 0 {
            return self.pay(at, 1);
        }
        step();
        if at.is_block() {
            self.nodes[at.node].rounds += 1;
            self.hand_to_block(at);
            return self.play_block(at);
        }
        self.hand_down(at);
        let (left, right) = at.halves();
        for half in [left, right] {
            if self.is_tied(at, half) {
                self.round(half);
            }
        }
        self.play_node(at);
    }

    /// Writes down that the tied below a node were paid for so many rounds, for which its best
    /// stays the best.
    fn pay(&mut self, at: Span, rounds: u32) {
        let weight = self.entrants[self.nodes[at.node].best as usize].weight;
        let node = &mut self.nodes[at.node];
        node.standing += i64::from(weight) * i64::from(rounds);
        node.rounds += rounds;
        node.lead -= rounds;
    }

    /// Adds to what all below a node are owed.
    fn shift(&mut self, at: Span, by: i64) {
        let node = &mut self.nodes[at.node];
        node.standing += by;
        node.shift += by;
    }

    /// Takes one from each of the first so many who take part.
    fn shift_first(&mut self, at: Span, first: u32) {
        let count = self.nodes[at.node].count;
        if first == 0 {
            return;
        }
        if first >= count {
            return self.shift(at, -1);
        }
        step();
        if at.is_block() {
            self.hand_to_block(at);
            let entrants = self.block_mut(at).iter_mut();
            let present = entrants.filter(|entrant| entrant.takes_part());
            present
                .take(first as usize)
                .for_each(|entrant| entrant.standing -= 1);
            return self.play_block(at);
        }
        self.hand_down(at);
        let (left, right) = at.halves();
        let of_left = self.nodes[left.node].count;
        self.shift_first(left, first);
        self.shift_first(right, first.saturating_sub(of_left));
        self.play_node(at);
    }

    /// Whether the lowest load below this half is that of the node.
    fn is_tied(&self, at: Span, half: Span) -> bool {
        let best = |span: Span| self.entrants.get(self.nodes[span.node].best as usize);
        match (best(at), best(half)) {
            (Some(one), Some(other)) => one.ratio().cmp(other.ratio()).is_eq(),
            _ => false,
        }
    }

    fn hand_down(&mut self, at: Span) {
        let Node { rounds, shift, .. } = self.nodes[at.node];
        if rounds == 0 && shift == 0 {
            return;
        }
        let (left, right) = at.halves();
        for half in [left, right] {
            if rounds > 0 && self.is_tied(at, half) {
                self.pay(half, rounds);
            }
            self.shift(half, shift);
        }
        let node = &mut self.nodes[at.node];
        (node.rounds, node.shift) = (0, 0);
    }

    fn hand_to_block(&mut self, at: Span) {
        let node = &mut self.nodes[at.node];
        let rounds = i64::from(std::mem::take(&mut node.rounds));
        let shift = std::mem::take(&mut node.shift);
        if rounds == 0 && shift == 0 {
            return;
        }
        let best = node.best;
        let Some(lowest) = self.entrants.get(best as usize).map(Entrant::ratio) else {
            return;
        };
        for entrant in self.block_mut(at).iter_mut().filter(|it| it.takes_part()) {
            if rounds > 0 && entrant.ratio().cmp(lowest).is_eq() {
                entrant.standing += rounds * i64::from(entrant.weight);
            }
            entrant.standing += shift;
        }
    }

    fn block(&self, at: Span) -> &[Entrant] {
        let entrants = &self.entrants[at.first * BLOCK..];
        &entrants[..entrants.len().min(BLOCK)]
    }

    fn block_mut(&mut self, at: Span) -> &mut [Entrant] {
        let entrants = &mut self.entrants[at.first * BLOCK..];
        let count = entrants.len().min(BLOCK);
        &mut entrants[..count]
    }

    fn play_block(&mut self, at: Span) {
        let mut node = NOTHING;
        for (place, entrant) in (at.first * BLOCK..).zip(self.block(at)) {
            if entrant.takes_part() {
                // Places are ids, which have 32 bits.
                let place = u32::try_from(place).unwrap_or(NOBODY);
                node = self.better(&node, &Node::of(place, entrant));
            }
        }
        self.nodes[at.node] = node;
    }

    fn play_node(&mut self, at: Span) {
        let (left, right) = at.halves();
        let (left, right) = (&self.nodes[left.node], &self.nodes[right.node]);
        self.nodes[at.node] = self.better(left, right);
    }

    /// What a node knows whose halves know that.
    fn better(&self, left: &Node, right: &Node) -> Node {
        let best = |node: &Node| self.entrants.get(node.best as usize);
        let order = match (best(left), best(right)) {
            (Some(one), Some(other)) => one.ratio().cmp(other.ratio()),
            (None, _) => Ordering::Greater,
            (_, None) => Ordering::Less,
        };
        let better = match order {
            Ordering::Less => *left,
            Ordering::Greater => *right,
            Ordering::Equal => self.richer(left, right),
        };
        Node {
            count: left.count + right.count,
            shift: 0,
            rounds: 0,
            ..better
        }
    }

    /// Of two whose lowest loads are the same.
    fn richer(&self, left: &Node, right: &Node) -> Node {
        let weight = |node: &Node| i64::from(self.entrants[node.best as usize].weight);
        let is_right = right.standing > left.standing;
        let (ahead, behind) = if is_right {
            (right, left)
        } else {
            (left, right)
        };
        let gains = weight(behind) - weight(ahead);
        // Of equals the first is the best: behind on the right, one has to be richer.
        let distance = ahead.standing - behind.standing - i64::from(is_right);
        let rounds = if gains > 0 {
            distance / gains
        } else {
            i64::MAX
        };
        let lead = u32::try_from(rounds).unwrap_or(LEAD_MAX);
        Node {
            tied: left.tied + right.tied,
            lead: lead.min(left.lead).min(right.lead),
            ..*ahead
        }
    }
}
