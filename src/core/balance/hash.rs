//! Weighted rendezvous hashing: every backend draws a lot for the key, the lowest lot wins.
//!
//! A lot depends on the key, the backend's identity and its weight alone, not on the other
//! backends or their order. So all hosts agree, a backend that goes away moves only the
//! keys it had, one that comes back takes exactly those again, and who is second for a key
//! is as fixed as who is first.
//!
//! The lot is the arrival time of an exponential process whose rate is the weight: -log2(u) /
//! weight, with u drawn by hashing; the earliest wins, with a chance of exactly weight / sum of
//! weights. It is computed in integers, because the logarithms of mathematical libraries
//! differ in their last bits between systems, and hosts must not.
//!
//! Lots that are drawn independently can only be found by drawing them all. So that the lowest
//! can be searched for, time passes in *turns*, of which a backend waits for some: drawn is which
//! turn it arrives in, and on which of [`RINGS`] rings. When within that turn is the way on that
//! ring from where the key is to where the backend is. Ways are as evenly spread as what is left
//! of a drawn lot, so shares are by weight as before; and of many backends some arrive in the first
//! turn, which are found by going along the rings from the key until one has arrived that nobody
//! further on can overtake. Who is near whom on a ring is always the same, which makes shares
//! uneven, as in consistent hashing; but the less so the more come into question before one has
//! arrived, and the more rings there are. Of a few backends nobody is near another. Of thousands
//! that are equal about forty come into question, and their shares have a standard deviation of
//! 2.3 %. (Multi-probe consistent hashing, Appleton and O'Reilly 2015, goes that way without lots.)
//!
//! A turn of a backend is as short as the power of two is high that its weight does not exceed,
//! and each such class is searched on its own. So what a pick takes does not depend on how many
//! backends there are, but on how many classes; and on the share of backends that take nothing
//! new, of which a search meets as many as there are. Where few do take new traffic, or there are
//! few, all of those are looked at instead, so that a pick never takes more than a few steps for
//! each.

use std::collections::BTreeMap;

use super::Ask;
use crate::core::backend::{Backend, BackendId, Backends};
use crate::core::key::mix;
use crate::core::steps::step;

/// Rings on which every backend has a place, and every key its start.
const RINGS: usize = 5;
/// Turns in which half of the backends arrive whose weight is a power of two.
const TURNS_HALF: u64 = 5;
/// Draws below this do not arrive in the first turn, which takes u > 2^-(1/5) = 0.8706.
const FIRST_TURN_MIN: u64 = u64::MAX / 100 * 87;
/// By how much of its way a backend can be early at most, in 2^-32: ln(2) / [`TURNS_HALF`] / 2.
const EARLY_MAX: u64 = 297_704_447;
/// So many are rather looked at one by one.
const FEW: usize = 16;
/// The class of nobody who could be picked.
const NEVER: u8 = u8::MAX;
/// Bits of a place that a class writes down of each of its members, once for each ring.
const PLACE_BITS: u32 = 16;

/// The members of an upstream, in search of whom a key belongs to.
#[derive(Clone, Debug)]
pub(super) struct Rendezvous {
    /// Of each: see [`Backend::seed`].
    seeds: Vec<u64>,
    /// Of the weight of each: see [`class`].
    classes: Vec<u8>,
    /// A bit for each member: whether it takes new traffic.
    takers: Vec<u64>,
    count: usize,
    /// The heaviest first. Made when there are many to be searched.
    by_class: Option<Vec<Class>>,
}

/// When a member arrives for a key: turns, and 2^-32 parts of them, of a backend with the highest
/// weight there is. The seed settles a tie, so that the order of the members does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lot {
    at: u128,
    seed: u64,
}

impl Lot {
    fn draw(key: u64, seed: u64, weight: u32) -> Self {
        let drawn = draw(key, seed);
        let ring = ring_of(drawn);
        let way = place(seed, ring).wrapping_sub(start(key, ring));
        let at = turns(drawn, weight) << 32 | within_turn(way, weight);
        Self {
            at: u128::from(at) << (32 - class(weight)),
            seed,
        }
    }
}

/// What decides for a key when a backend arrives, and on which ring: the product of two hashes,
/// whose high bits are as good as theirs. It is drawn for dozens of backends, so it is as short as
/// it can be.
fn draw(key: u64, seed: u64) -> u64 {
    (key ^ seed).wrapping_mul(key | 1)
}

/// How many turns of its own a backend waits before the one in which it arrives.
fn turns(drawn: u64, weight: u32) -> u64 {
    delay(drawn) * TURNS_HALF / (of_class(weight) << (POINT - 32))
}

/// When in its turn a backend arrives, in 2^-32 of it, whose way on the ring is so long in 2^-32 of
/// the ring. Early in a turn a few more have to arrive than late, as of a process they do of which
/// fewer and fewer are left: or else a short turn would be worth more than a long one. This is the
/// beginning of the series of the inverse of their distribution, within 0.04 % of a turn.
fn within_turn(way: u32, weight: u32) -> u64 {
    let way = u64::from(way);
    let bend = (way * ((1 << 32) - way)) >> 32;
    let early_max = (EARLY_MAX * of_class(weight)) >> 32;
    way - ((bend * early_max) >> 32)
}

/// A weight in 2^-32 of the power of two that is not below it: more than a half of them.
fn of_class(weight: u32) -> u64 {
    u64::from(weight) << (32 - class(weight))
}

/// The lowest power of two that is not below the weight.
fn class(weight: u32) -> u32 {
    32 - weight.saturating_sub(1).leading_zeros()
}

/// The class of a weight, but [`NEVER`] of a backend that can never be picked.
#[allow(clippy::cast_possible_truncation, reason = "at most 32")]
fn class_or_never(weight: u32) -> u8 {
    if weight == 0 {
        NEVER
    } else {
        class(weight) as u8
    }
}

/// On which ring a backend arrives, by bits that hardly decide when.
#[allow(clippy::cast_possible_truncation, reason = "of a few bits")]
fn ring_of(drawn: u64) -> usize {
    (drawn >> 24) as usize % RINGS
}

/// Where a backend is on a ring.
fn place(seed: u64, ring: usize) -> u32 {
    high(mix(seed ^ (0x51ed_270b_7a3f_9c01 << ring)))
}

/// From where a key goes along a ring.
fn start(key: u64, ring: usize) -> u32 {
    high(mix(key.wrapping_add(0x9e37_79b9_7f4a_7c15 << ring)))
}

#[allow(clippy::cast_possible_truncation, reason = "the high half of 64 bits")]
fn high(bits: u64) -> u32 {
    (bits >> 32) as u32
}

/// The first place with the same high bits, and how far from it this one is.
#[allow(clippy::cast_possible_truncation, reason = "the low bits")]
fn split(place: u32) -> (u32, u16) {
    (place >> PLACE_BITS << PLACE_BITS, place as u16)
}

impl Rendezvous {
    /// What can be seen of the members.
    pub(super) fn new<'a>(backends: impl ExactSizeIterator<Item = Option<&'a Backend>>) -> Self {
        let count = backends.len();
        let mut this = Self {
            seeds: vec![0; count],
            classes: vec![NEVER; count],
            takers: vec![0; count.div_ceil(64)],
            count: 0,
            by_class: None,
        };
        for (place, backend) in (0..).zip(backends) {
            this.see(place, backend);
        }
        this
    }

    /// Brings a member up to date.
    pub(super) fn see(&mut self, place: u32, backend: Option<&Backend>) {
        let (seed, class) = backend.map_or((0, NEVER), |it| (it.seed, class_or_never(it.weight)));
        let known = (
            &mut self.seeds[place as usize],
            &mut self.classes[place as usize],
        );
        if (*known.0, *known.1) != (seed, class) {
            (*known.0, *known.1) = (seed, class);
            self.by_class = None;
        }
        let bit = 1 << (place % 64);
        let word = &mut self.takers[place as usize / 64];
        let took = *word & bit != 0;
        let takes = backend.is_some_and(|it| it.takes_new(false));
        if took != takes {
            *word ^= bit;
            self.count = if takes {
                self.count + 1
            } else {
                self.count - 1
            };
        }
    }

    /// The one whose lot for the key is the lowest.
    pub(super) fn pick(
        &mut self,
        ids: &[BackendId],
        backends: &Backends,
        ask: &Ask<'_>,
    ) -> Option<BackendId> {
        let key = mix(ask.key);
        let admitted = |place: u32| {
            let id = *ids.get(place as usize)?;
            let backend = backends.try_get(id)?;
            ask.admits(id, backend).then_some(backend.weight)
        };
        let count = if ask.even_if_down {
            ids.len()
        } else {
            self.count
        };
        let found = match count {
            0..=FEW => None,
            _ => self.search(key, count, admitted),
        };
        let place = found.or_else(|| {
            let places = self.places(ask.even_if_down);
            let places = places.filter_map(|place| Some((place, admitted(place)?)));
            self.lowest(key, places).map(|(_, place)| place)
        });
        Some(ids[place? as usize])
    }

    /// The lowest lot of these with their weights, and whose it is.
    fn lowest(&self, key: u64, places: impl Iterator<Item = (u32, u32)>) -> Option<(Lot, u32)> {
        let lot = |(place, weight)| {
            step();
            (Lot::draw(key, self.seeds[place as usize], weight), place)
        };
        places.map(lot).min()
    }

    /// All that may take new traffic.
    fn places(&self, even_if_down: bool) -> impl Iterator<Item = u32> {
        (0..).zip(&self.takers).flat_map(move |(word, &bits)| {
            let all = if even_if_down { u64::MAX } else { bits };
            let left = |bits: &u64| Some(bits & (bits - 1)).filter(|&bits| bits != 0);
            let places = std::iter::successors(Some(all).filter(|&bits| bits != 0), left);
            places.map(move |bits| word * 64 + bits.trailing_zeros())
        })
    }
}

// Many.
impl Rendezvous {
    /// The same as the lowest lot of all, found among those that arrive first. None where that
    /// takes longer than to look at all: few of them take new traffic.
    fn search(
        &mut self,
        key: u64,
        count: usize,
        admitted: impl Fn(u32) -> Option<u32>,
    ) -> Option<u32> {
        let mut search = Search {
            key,
            starts: std::array::from_fn(|ring| start(key, ring)),
            seeds: &self.seeds,
            best: None,
            log2: 0,
            base: 0,
            way_max: u64::MAX,
            steps_left: 4 * count,
        };
        let make = || Class::all(&self.seeds, &self.classes);
        for class in self.by_class.get_or_insert_with(make) {
            search.look_in(class, &admitted)?;
        }
        search.best.map(|(_, place)| place)
    }
}

/// Members whose weights have the same power of two above them, by where they are on the rings.
/// Of more than 65,536 members those that agree in the high bits of their places are together.
#[derive(Clone, Debug)]
struct Class {
    log2: u32,
    /// The place of the first that it could have.
    base: u32,
    /// How many bits of where something is on a ring name its cell.
    cell_bits: u32,
    /// By ring and cell: where its members begin, which end where those of the next begin.
    cells: Vec<u32>,
    /// Their places, from the base on.
    members: Vec<u16>,
}

impl Class {
    /// The heaviest first.
    fn all(seeds: &[u64], classes: &[u8]) -> Vec<Self> {
        let mut by_class: BTreeMap<_, Vec<u16>> = BTreeMap::new();
        for (place, &class) in (0..).zip(classes).filter(|&(_, &class)| class != NEVER) {
            let (base, member) = split(place);
            let members = by_class.entry((u32::from(class), base)).or_default();
            members.push(member);
        }
        let classes = by_class.into_iter().rev();
        let classes = classes
            .map(|((log2, base), members)| Self::new(log2, base, &seeds[base as usize..], members));
        classes.collect()
    }

    /// Few are in one list, which is all that is needed of them.
    fn new(log2: u32, base: u32, seeds: &[u64], places: Vec<u16>) -> Self {
        if places.len() <= FEW {
            return Self {
                log2,
                base,
                cell_bits: 0,
                cells: Vec::new(),
                members: places,
            };
        }
        // Two to four in a cell: fewer would take more memory.
        let cell_bits = places.len().next_power_of_two().ilog2() - 2;
        let mut this = Self {
            log2,
            base,
            cell_bits,
            cells: vec![0; (RINGS << cell_bits) + 1],
            members: vec![0; RINGS * places.len()],
        };
        this.fill(seeds, &places);
        this
    }

    /// Sorts by counting: first each cell says where it ends, then it is filled from there.
    fn fill(&mut self, seeds: &[u64], places: &[u16]) {
        let bits = self.cell_bits;
        let cells = |member: u16| {
            let seed = seeds[usize::from(member)];
            (0..RINGS).map(move |ring| cell(bits, ring, place(seed, ring)))
        };
        for cell in places.iter().flat_map(|&member| cells(member)) {
            self.cells[cell] += 1;
        }
        let mut end = 0;
        for cell in &mut self.cells {
            end += *cell;
            *cell = end;
        }
        for &member in places {
            for cell in cells(member) {
                self.cells[cell] -= 1;
                self.members[self.cells[cell] as usize] = member;
            }
        }
    }

    fn in_cell(&self, cell: usize) -> &[u16] {
        match self.cells[cell..].first_chunk() {
            Some(&[begin, end]) => &self.members[begin as usize..end as usize],
            None => &[],
        }
    }

    /// Where the search of a ring begins.
    fn point(&self, ring: usize, start: u32) -> Point {
        let bits = self.cell_bits;
        let into_cell = u64::from(start) & self.cell_width().wrapping_sub(1);
        Point {
            cell: cell(bits, ring, start),
            way: 0,
            step: self.cell_width() - into_cell,
        }
    }

    /// The next cell on the same ring, after the last the first.
    fn go_on(&self, point: &mut Point) {
        let mask = (1 << self.cell_bits) - 1;
        point.cell = point.cell & !mask | (point.cell + 1) & mask;
        point.way += point.step;
        point.step = self.cell_width();
    }

    fn cell_width(&self) -> u64 {
        1 << (32 - self.cell_bits)
    }
}

/// How far a ring has been searched.
struct Point {
    /// The next cell to be looked at.
    cell: usize,
    /// How far from the start that begins; 0 of the one with the start in it.
    way: u64,
    /// How far it is from there to the cell after it.
    step: u64,
}

/// The cell of a place on a ring.
fn cell(bits: u32, ring: usize, place: u32) -> usize {
    ring << bits | (place >> (32 - bits)) as usize
}

/// Who has arrived first so far.
struct Search<'a> {
    key: u64,
    starts: [u32; RINGS],
    seeds: &'a [u64],
    best: Option<(Lot, u32)>,
    /// The class that is looked at, and the place of the first it could have.
    log2: u32,
    base: u32,
    /// From how far away, in its first turn, a member could still be better.
    way_max: u64,
    /// How many may still be looked at.
    steps_left: usize,
}

impl Search<'_> {
    /// Looks for better ones in a class; none when the best of it cannot be told.
    fn look_in(&mut self, class: &Class, admitted: &impl Fn(u32) -> Option<u32>) -> Option<()> {
        (self.log2, self.base) = (class.log2, class.base);
        self.set_way_max();
        if class.cells.is_empty() {
            let places = class.members.iter().map(|&it| class.base + u32::from(it));
            let with_weight = places.filter_map(|place| Some((place, admitted(place)?)));
            with_weight.for_each(|(place, weight)| self.offer(place, weight));
            return Some(());
        }
        let mut points: [Point; RINGS] =
            std::array::from_fn(|ring| class.point(ring, self.starts[ring]));
        for _ in 0..1_u32 << class.cell_bits {
            let mut is_over = true;
            for (ring, point) in points.iter_mut().enumerate() {
                if point.way <= self.way_max {
                    is_over = false;
                    let members = class.in_cell(point.cell);
                    self.steps_left = self.steps_left.checked_sub(members.len())?;
                    self.look_at(members, ring, admitted);
                    class.go_on(point);
                }
            }
            if is_over {
                return Some(());
            }
        }
        // All of the first turn was looked at.
        self.is_in_first_turn().then_some(())
    }

    /// Looks for those of a cell that arrive in their first turn: most of what a search does.
    fn look_at(&mut self, members: &[u16], ring: usize, admitted: &impl Fn(u32) -> Option<u32>) {
        let (key, base) = (self.key, self.base);
        let seeds = &self.seeds[base as usize..];
        for &member in members {
            step();
            let drawn = draw(key, seeds[usize::from(member)]);
            if drawn >= FIRST_TURN_MIN {
                self.consider(base + u32::from(member), drawn, ring, admitted);
            }
        }
    }

    /// Few come here, so that it does not get in the way of the others.
    #[inline(never)]
    fn consider(
        &mut self,
        place: u32,
        drawn: u64,
        ring: usize,
        admitted: &impl Fn(u32) -> Option<u32>,
    ) {
        if ring_of(drawn) == ring
            && let Some(weight) = admitted(place)
        {
            self.offer(place, weight);
        }
    }

    fn offer(&mut self, place: u32, weight: u32) {
        let lot = Lot::draw(self.key, self.seeds[place as usize], weight);
        if self.best.is_none_or(|(best, _)| lot < best) {
            self.best = Some((lot, place));
            self.set_way_max();
        }
    }

    fn is_in_first_turn(&self) -> bool {
        let best = self.best.map(|(lot, _)| lot.at >> (32 - self.log2));
        best.is_some_and(|at| at < 1 << 32)
    }

    fn set_way_max(&mut self) {
        let at = self.best.map(|(lot, _)| lot.at >> (32 - self.log2));
        let at = at.and_then(|at| u64::try_from(at).ok());
        // A twelfth longer is more than any way can be: see `EARLY_MAX`.
        self.way_max = at.map_or(u64::MAX, |at| at + at / 12 + 1);
    }
}

/// -log2(u) of u = `drawn` / 2^64, in units of 2^-44; at least 1. 0 counts as 1.
///
/// Linear between the 257 points of a table: within 0.2 % of the true value, but for u so close
/// to 1 that the unit itself is coarser than that.
fn delay(drawn: u64) -> u64 {
    let zeros = (drawn | 1).leading_zeros();
    // The bits below the leading one, at the top: u = 2^-(zeros + 1) * (1 + fraction / 2^64).
    let fraction = ((drawn | 1) << zeros) << 1;
    let index = usize::from(fraction.to_be_bytes()[0]);
    let rest = (fraction << 8) >> (64 - REST_BITS);
    let (low, high) = (LOG2[index], LOG2[index + 1]);
    let log2 = low + (((high - low) * rest) >> REST_BITS);
    ((u64::from(zeros) + 1) << POINT) - log2
}

/// Binary digits after the point of a logarithm. With those of a delay before it (64 at most),
/// and a difference of two points times `REST_BITS`, everything fits in 64 bits.
const POINT: u32 = 44;
const REST_BITS: u32 = 24;

/// log2(1 + i / 256) in units of 2^-44, from 0 at 0 to 2^44 at 256.
static LOG2: [u64; 257] = log2_table();

const fn log2_table() -> [u64; 257] {
    let mut table = [0; 257];
    let mut index = 0;
    while index < 256 {
        table[index] = log2_of((1 << 62) + ((index as u64) << 54));
        index += 1;
    }
    table[256] = 1 << POINT;
    table
}

/// log2 of a number from 1 to below 2, given in units of 2^-62, digit by digit: squaring doubles
/// the logarithm, and whether the square reached 2 is the next digit.
#[allow(
    clippy::cast_possible_truncation,
    reason = "halved where it has reached 2^63, the square is below that"
)]
const fn log2_of(mut value: u64) -> u64 {
    let mut log2 = 0;
    let mut digit = 0;
    while digit < POINT {
        let square = (value as u128 * value as u128) >> 62;
        let reached = square >> 63;
        log2 = log2 << 1 | reached as u64;
        value = (square >> reached) as u64;
        digit += 1;
    }
    log2
}

#[cfg(test)]
mod tests {
    use super::super::tests::{ASK, Pool};
    use super::super::{Algorithm, bytes_key};
    use super::*;
    use crate::core::health::Verdict;

    fn pool(weights: &[u32]) -> Pool {
        Pool::new(Algorithm::Hash, weights)
    }

    fn of(key: u64) -> Ask<'static> {
        Ask { key, ..ASK }
    }

    #[test]
    fn a_delay_is_the_binary_logarithm() {
        let one = 1 << POINT;
        let exact = [
            (1 << 63, one),
            (1 << 62, 2 * one),
            (1, 64 * one),
            (0, 64 * one),
        ];
        for (drawn, expected) in exact {
            assert_eq!(delay(drawn), expected, "{drawn}");
        }
        assert_eq!(LOG2[128], 10_290_769_141_693, "log2(1.5) in units of 2^-44");
        assert!(delay(u64::MAX) >= 1);
    }

    #[test]
    fn a_delay_is_within_0_2_percent_of_the_logarithm() {
        let mut rng = crate::core::rng::Rng::new(3);
        for drawn in (0..5000).map(|_| rng.next_u64()) {
            #[allow(clippy::cast_precision_loss, reason = "53 bits are enough to compare")]
            let (expected, got) = {
                let u = drawn as f64 / 2_f64.powi(64);
                (-u.log2(), delay(drawn) as f64 / 2_f64.powi(44))
            };
            assert!(
                (got - expected).abs() <= 0.002 * expected,
                "{drawn}: {got} {expected}"
            );
        }
    }

    #[test]
    fn a_higher_number_never_has_a_longer_delay() {
        let mut rng = crate::core::rng::Rng::new(3);
        let mut drawn: Vec<_> = (0..5000).map(|_| rng.next_u64() >> rng.below(64)).collect();
        drawn.sort_unstable();
        let delays: Vec<_> = drawn.iter().map(|&drawn| delay(drawn)).collect();
        assert!(delays.is_sorted_by(|one, two| one >= two));
    }

    #[test]
    fn keys_are_where_they_always_were() {
        let mut pool = Pool::new(Algorithm::Hash, &[]);
        pool.add("192.0.2.1:80", 1);
        pool.add("192.0.2.2:80", 2);
        pool.add("[2001:db8::1]:80", 3);
        let table = [
            ("a", "192.0.2.1:80"),
            ("b", "[2001:db8::1]:80"),
            ("c", "[2001:db8::1]:80"),
            ("d", "192.0.2.2:80"),
            ("e", "[2001:db8::1]:80"),
            ("f", "[2001:db8::1]:80"),
            ("198.51.100.7", "[2001:db8::1]:80"),
            ("/", "[2001:db8::1]:80"),
            ("/index.html", "[2001:db8::1]:80"),
            ("", "[2001:db8::1]:80"),
        ];
        let found = table.map(|(key, _)| (key, pool.name(&of(bytes_key(key.as_bytes())))));
        let expected = table.map(|(key, name)| (key, name.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_order_of_the_file_does_not_matter() {
        let mut one = pool(&[1, 2, 3, 4]);
        let mut two = Pool::new(Algorithm::Hash, &[]);
        for (name, weight) in [("D", 4), ("B", 2), ("A", 1), ("C", 3)] {
            two.add(name, weight);
        }
        for key in 0..500 {
            assert_eq!(one.name(&of(key)), two.name(&of(key)));
        }
    }

    #[test]
    fn a_member_that_goes_down_moves_only_its_keys_and_gets_them_back() {
        let mut pool = pool(&[1, 2, 3]);
        let before: Vec<_> = (0..500).map(|key| pool.name(&of(key))).collect();
        pool.set(1, Verdict::Down);
        for (key, name) in (0..).zip(&before) {
            let now = pool.name(&of(key));
            assert!(now == *name || name == "B" && now != "B", "{key}");
        }
        pool.set(1, Verdict::Up);
        let after: Vec<_> = (0..500).map(|key| pool.name(&of(key))).collect();
        assert_eq!(before, after);
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let weights = [1, 2, 3, 4, 10];
        let mut pool = pool(&weights);
        let mut counts = [0_u32; 5];
        for key in 0..60_000_u64 {
            let id = pool
                .pick(&of(bytes_key(&key.to_be_bytes())))
                .expect("a member");
            counts[id.0 as usize] += 1;
        }
        for (count, weight) in counts.into_iter().zip(weights) {
            let share = 3000 * weight;
            assert!(count.abs_diff(share) * 20 <= share, "{counts:?}");
        }
    }

    #[test]
    fn clients_with_neighbouring_addresses_are_shared_too() {
        let mut pool = pool(&[1; 4]);
        let mut counts = [0_u32; 4];
        for host in 0..4096_u32 {
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 + host);
            let key = crate::core::balance::client_key(ip.into(), 64);
            counts[pool.pick(&of(key)).expect("a member").0 as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| count.abs_diff(1024) < 120),
            "{counts:?}"
        );
    }

    #[test]
    fn a_retry_goes_where_later_requests_go_while_the_first_choice_is_down() {
        let mut pool = pool(&[1, 2, 3, 4]);
        for key in 0..200 {
            let first = pool.pick(&of(key)).expect("a member");
            let tried = [first];
            let retry = pool.name(&Ask {
                tried: &tried,
                ..of(key)
            });
            let index = first.0 as usize;
            pool.set(index, Verdict::Down);
            assert_eq!(pool.name(&of(key)), retry);
            pool.set(index, Verdict::Up);
        }
    }

    #[test]
    fn the_seed_settles_a_tie() {
        let lot = |seed| Lot { at: 5, seed };
        assert!(lot(1) < lot(2));
    }

    /// So many members of these weights in turn.
    fn many(count: usize, weights: &[u32]) -> Pool {
        let weights = weights.iter().copied().cycle();
        pool(&weights.take(count).collect::<Vec<_>>())
    }

    /// Who has the lowest lot of those that may be picked.
    fn lowest(pool: &Pool, ask: &Ask<'_>) -> Option<BackendId> {
        let all = super::super::eligible(&pool.members, &pool.backends, ask);
        let lot = |backend: &Backend| Lot::draw(mix(ask.key), backend.seed, backend.weight);
        all.min_by_key(|(_, backend)| lot(backend))
            .map(|(id, _)| id)
    }

    #[test]
    fn more_members_than_a_class_has_numbers_for_are_searched_too() {
        let mut pool = many(70_000, &[1]);
        for key in 0..20 {
            assert_eq!(pool.pick(&of(key)), lowest(&pool, &of(key)), "{key}");
        }
        pool.backends.get_mut(pool.members[69_999]).weight = 5;
        let last = pool.members[69_999];
        let found = (0..100_000).find(|&key| pool.pick(&of(key)) == Some(last));
        assert_eq!(found.and_then(|key| lowest(&pool, &of(key))), Some(last));
    }

    #[test]
    fn who_is_found_has_the_lowest_lot() {
        for weights in [
            &[1][..],
            &[100],
            &[1, 2, 3],
            &[1, 1, 1, 9, 300],
            &[0, 65_535, 1],
        ] {
            for (count, down) in [
                (16, 2),
                (17, 9),
                (20, 3),
                (500, 400),
                (500, 2),
                (500, 1),
                (900, 70),
            ] {
                let mut pool = many(count, weights);
                let some: Vec<_> = (0..count).filter(|index| index % down == 1).collect();
                some.iter()
                    .for_each(|&index| pool.set(index, Verdict::Down));
                for key in 0..400 {
                    let tried = [pool.members[count / 2]];
                    let even_if_down = key % 7 == 0;
                    let ask = Ask {
                        even_if_down,
                        tried: &tried,
                        ..of(key)
                    };
                    let found = pool.pick(&ask);
                    assert_eq!(
                        found,
                        lowest(&pool, &ask),
                        "{weights:?} {count} {down} {key}"
                    );
                }
            }
        }
    }

    #[test]
    fn of_many_members_one_that_goes_moves_only_its_keys() {
        let mut pool = many(700, &[1, 1, 4]);
        let before: Vec<_> = (0..20_000).map(|key| pool.pick(&of(key))).collect();
        let gone = pool.members.remove(300);
        pool.adopt();
        let after: Vec<_> = (0..20_000).map(|key| pool.pick(&of(key))).collect();
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(one, other)| one != other);
        let moved: Vec<_> = moved.map(|(before, _)| *before).collect();
        assert!(!moved.is_empty() && moved.iter().all(|&before| before == Some(gone)));
        pool.members.push(gone);
        pool.adopt();
        assert!(
            (0..20_000)
                .zip(before)
                .all(|(key, before)| pool.pick(&of(key)) == before)
        );
    }

    #[test]
    fn a_changed_weight_moves_only_keys_of_that_member() {
        let mut pool = many(300, &[3, 5]);
        let changed = pool.members[7];
        let before: Vec<_> = (0..20_000).map(|key| pool.pick(&of(key))).collect();
        for weight in [1, 2, 4, 9, 1000] {
            pool.at(7).weight = weight;
            for (key, before) in (0..).zip(&before) {
                let now = pool.pick(&of(key));
                let is_its = [now, *before].contains(&Some(changed));
                assert!(now == *before || is_its, "{weight} {key}");
            }
        }
    }

    #[test]
    fn many_members_have_even_shares() {
        let mut pool = many(1_000, &[1]);
        let mut counts = vec![0_i64; 1_000];
        for key in 0..2_000_000_u64 {
            let id = pool.pick(&of(key.wrapping_mul(0x2545_f491_4f6c_dd1d)));
            counts[id.expect("a member").0 as usize] += 1;
        }
        let squares: i64 = counts.iter().map(|count| (count - 2_000).pow(2)).sum();
        let variance = squares / 1_000;
        // Chance alone makes 2,000; and a fortieth of 2,000 keys, squared, 2,500.
        assert!(variance < 2_000 + 2_500, "{variance}");
        eprintln!(
            "VAR {variance} {:?} {:?}",
            counts.iter().min(),
            counts.iter().max()
        );
    }
}
