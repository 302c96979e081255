//! Which column belongs to whom: a directory of hashes, which only the supervisor writes, before
//! it hands a configuration to anybody. A process on its own is its own supervisor, and lists what
//! it opens.
//!
//! Two names of one board that have the same hash would share a column; with 4,096 names the odds
//! are below 10^-12.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::Ordering;

use super::cells::{CELLS_MAX, Counted, CountedBackends, SHARED_WORDS, UNIT, Width};
use super::layout::Layout;
use super::rows::clear;
use super::{Board, Column};
use crate::core::backend::Service;
use crate::core::key::bytes_key;
use crate::core::table::Table;
use crate::sys::word::AtomicU64;

/// More names than there is room for, those counted that are still in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardFull {
    /// Names that were to have a column.
    pub(crate) wanted: usize,
    /// Those that find no place.
    pub(crate) missing: usize,
    /// Names that there is room for.
    pub(crate) names: usize,
    /// Whether there is too little room even when nothing of before is in use.
    pub(crate) is_for_good: bool,
}

impl fmt::Display for BoardFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            wanted,
            missing,
            names,
            ..
        } = self;
        let possible = wanted - missing;
        if self.is_for_good {
            return write!(
                f,
                "{wanted} listeners, upstreams and backends are more than the {possible} that \
                 several workers can share: use fewer, or start weir with `workers: 1`"
            );
        }
        write!(
            f,
            "several workers can share {names} listeners, upstreams and backends, and those \
             of before count until their sessions have ended: {missing} of the {wanted} wanted \
             find no place; first take out of the file what is to go, reload, and then add what \
             is to come"
        )
    }
}

/// Where a name's column is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    /// The place of its name in the directory.
    pub(super) number: usize,
    pub(super) table: Table,
    /// The first of its cells among those of a row.
    pub(super) at: usize,
}

impl Location {
    fn width(self) -> Width {
        Width::of(self.table)
    }

    /// It and its number, as the directory says it.
    fn word(self) -> u64 {
        (self.table as u64) << 32 | self.at as u64
    }
}

/// What is free of a directory and of the cells of a row.
#[derive(Clone, Debug)]
pub(super) struct Room {
    has_number: Vec<bool>,
    /// By cache line.
    is_taken: Vec<bool>,
    /// No number before it is free.
    next_number: usize,
    /// No place before it is free that is wide enough, by table.
    next_unit: [usize; Table::ALL.len()],
}

impl Room {
    /// All of it, but for what belongs to no name.
    pub(super) fn empty(layout: &Layout) -> Self {
        let mut room = Self {
            has_number: Vec::new(),
            is_taken: Vec::new(),
            next_number: 1,
            next_unit: [CELLS_MAX / UNIT; Table::ALL.len()],
        };
        room.extend(layout);
        room
    }

    /// There is as much as this layout has.
    pub(super) fn extend(&mut self, layout: &Layout) {
        self.has_number.resize(layout.names, false);
        self.is_taken.resize(layout.row_cells / UNIT, false);
    }

    /// A location for a column of that table.
    pub(super) fn take(&mut self, table: Table) -> Option<Location> {
        let free = self.has_number[self.next_number..]
            .iter()
            .position(|it| !it);
        let number = self.next_number + free?;
        let units = Width::of(table).cells / UNIT;
        let from = self.next_unit[table as usize];
        let runs = self.is_taken[from..].windows(units);
        let free = runs.into_iter().position(|run| !run.contains(&true));
        let unit = from + free?;
        let location = Location {
            number,
            table,
            at: unit * UNIT,
        };
        self.next_number = number + 1;
        self.next_unit[table as usize] = unit + units;
        self.mark(location, true);
        Some(location)
    }

    /// Somebody has that location, or nobody any more.
    fn mark(&mut self, location: Location, is_taken: bool) {
        let unit = location.at / UNIT;
        self.has_number[location.number] = is_taken;
        self.is_taken[unit..unit + location.width().cells / UNIT].fill(is_taken);
    }

    /// The location is free again.
    pub(super) fn give(&mut self, location: Location) {
        self.mark(location, false);
        self.next_number = self.next_number.min(location.number);
        for (next, table) in self.next_unit.iter_mut().zip(Table::ALL) {
            // A free location may begin in front of it.
            let before = Width::of(table).cells / UNIT - 1;
            let first = (location.at / UNIT)
                .saturating_sub(before)
                .max(CELLS_MAX / UNIT);
            *next = (*next).min(first);
        }
    }

    /// Places for all of these tables, or how many have none.
    fn take_all(&mut self, tables: impl Iterator<Item = Table>) -> Result<Vec<Location>, usize> {
        let mut missing = 0;
        let mut locations = Vec::new();
        for table in tables {
            match self.take(table) {
                Some(location) => locations.push(location),
                None => missing += 1,
            }
        }
        if missing == 0 {
            Ok(locations)
        } else {
            Err(missing)
        }
    }
}

// To find columns.
impl Board {
    /// The column of that name, to be read; none when the directory does not list it.
    #[must_use]
    pub fn find<K: Counted>(&self, name: &str) -> Option<Column<K>> {
        self.find_from(name, 1)
    }

    /// The same for one name of many, in their order: `last` is the number of the column of the
    /// one before, from which it is seldom far.
    #[must_use]
    pub fn find_next<K: Counted>(&self, name: &str, last: &mut usize) -> Option<Column<K>> {
        let found = self.find_from(name, *last + 1)?;
        *last = found.number();
        Some(found)
    }

    /// The same, looked for from that number on first.
    pub(super) fn find_from<K: Counted>(&self, name: &str, from: usize) -> Option<Column<K>> {
        let hash = hash(K::TABLE, name);
        let hashes = self.hashes();
        let from = from.min(hashes.len());
        let is_it = |number: &usize| hashes[*number].load(Ordering::Acquire) == hash;
        let number = (from..hashes.len()).chain(1..from).find(is_it)?;
        self.listed(number).and_then(Column::of)
    }

    /// The location of what the directory lists under a number, if it lists anything there.
    pub(super) fn listed(&self, number: usize) -> Option<Location> {
        if self.hashes()[number].load(Ordering::Acquire) == 0 {
            return None;
        }
        let word = self.words()[self.layout.locations_at + number].load(Ordering::Relaxed);
        let table = *Table::ALL.get(usize::try_from(word >> 32).ok()?)?;
        let at = usize::try_from(word & u64::from(u32::MAX)).ok()?;
        let is_inside = at + Width::of(table).cells <= self.layout.row_cells;
        is_inside.then_some(Location { number, table, at })
    }

    /// Everything that the directory lists.
    pub(super) fn all_listed(&self) -> impl Iterator<Item = Location> {
        (1..self.layout.names).filter_map(|number| self.listed(number))
    }

    fn hashes(&self) -> &[AtomicU64] {
        &self.words()[self.layout.hashes_at..][..self.layout.names]
    }
}

// To list columns.
impl Board {
    /// Whether these names can all have columns when nobody has any yet.
    ///
    /// # Errors
    /// When there is not enough room.
    pub fn check<S: AsRef<str>>(names: &[(Table, S)]) -> Result<(), BoardFull> {
        check(&Layout::SHARED, names)
    }

    /// Gives every one of these names a column that has none. To be called before a
    /// configuration with these names is handed to anybody. A name that is no longer given keeps
    /// its column, and all that was counted, until the room is needed; and for as long as a
    /// worker uses it. Only a drain ends: whoever comes back does not drain.
    ///
    /// A board that only this process sees lists what is opened, and nothing before.
    ///
    /// # Errors
    /// When there is not enough room; then nothing has changed.
    pub fn publish<S: AsRef<str>>(&self, names: &[(Table, S)]) -> Result<(), BoardFull> {
        if !self.is_shared() {
            return Ok(());
        }
        let wanted: HashSet<u64> = names.iter().map(hash_of).collect();
        let entries = self.hashes().iter().map(|it| it.load(Ordering::Relaxed));
        let mut listed: HashSet<u64> = entries.collect();
        // In the order of the names, in which workers will look them up.
        let hashes = names.iter().map(|name| (name.0, hash_of(name)));
        let fresh: Vec<_> = hashes.filter(|(_, hash)| listed.insert(*hash)).collect();
        let is_wanted = |location: &Location| wanted.contains(&self.hash_at(location.number));
        let (stays, goes): (Vec<Location>, Vec<Location>) = self.all_listed().partition(is_wanted);
        let (open, shut): (Vec<Location>, Vec<Location>) = goes
            .into_iter()
            .partition(|location| self.is_open(*location));
        let room_beside = |more: &[Location]| {
            let mut room = Room::empty(&self.layout);
            let taken = stays.iter().chain(&open).chain(more);
            taken.for_each(|location| room.mark(*location, true));
            room.take_all(fresh.iter().map(|(table, _)| *table))
        };
        let beside_all = room_beside(&shut);
        let needs_all = beside_all.is_err();
        let locations = beside_all.or_else(|_| room_beside(&[]));
        let locations = locations.map_err(|missing| self.full(names, wanted.len(), missing))?;
        open.iter()
            .chain(&shut)
            .for_each(|location| self.end_steering(*location));
        if needs_all {
            shut.iter().for_each(|location| self.unlist(*location));
        }
        for (location, (_, hash)) in locations.into_iter().zip(fresh) {
            self.list(location, hash);
        }
        Ok(())
    }

    fn full<S: AsRef<str>>(
        &self,
        names: &[(Table, S)],
        wanted: usize,
        missing: usize,
    ) -> BoardFull {
        let of_now = BoardFull {
            wanted,
            missing,
            names: self.names(),
            is_for_good: false,
        };
        check(&self.layout, names).err().unwrap_or(of_now)
    }

    pub(super) fn hash_at(&self, number: usize) -> u64 {
        self.hashes()[number].load(Ordering::Relaxed)
    }

    fn end_steering(&self, location: Location) {
        if let Some(column) = Column::<CountedBackends>::of(location) {
            self.set_service(column, Service::Full);
            self.set_weight(column, None);
        }
    }

    /// The location is that of a name from now on.
    pub(super) fn list(&self, location: Location, hash: u64) {
        self.words()[self.layout.locations_at + location.number]
            .store(location.word(), Ordering::Relaxed);
        self.hashes()[location.number].store(hash, Ordering::Release);
    }

    /// Nobody has that location any more: all of it is zero.
    pub(super) fn unlist(&self, location: Location) {
        self.hashes()[location.number].store(0, Ordering::Relaxed);
        let rows = (0..self.rows_used()).flat_map(|row| self.cells_of(row, location));
        let shared = &self.words()[self.shared_at(location.number)..][..SHARED_WORDS];
        rows.chain(shared).for_each(clear);
    }

    fn is_open(&self, location: Location) -> bool {
        let opened = location.width().opened();
        let is_open = |row| self.cells_of(row, location)[opened].load(Ordering::Relaxed) != 0;
        (0..self.rows_used()).any(is_open)
    }
}

fn check<S: AsRef<str>>(layout: &Layout, names: &[(Table, S)]) -> Result<(), BoardFull> {
    // A file with mistakes may name one twice.
    let mut seen = HashSet::new();
    let wanted = names.iter().filter(|name| seen.insert(hash_of(name)));
    let wanted: Vec<Table> = wanted.map(|(table, _)| *table).collect();
    let placed = Room::empty(layout).take_all(wanted.iter().copied());
    placed.map(|_| ()).map_err(|missing| BoardFull {
        wanted: wanted.len(),
        missing,
        names: layout.names - 1,
        is_for_good: true,
    })
}

fn hash_of<S: AsRef<str>>((table, name): &(Table, S)) -> u64 {
    hash(*table, name.as_ref())
}

/// The key by which a name is known. Never 0, which is a free place.
#[inline(never)]
pub fn hash(table: Table, name: &str) -> u64 {
    bytes_key(name.as_bytes()).wrapping_add(table as u64).max(1)
}
