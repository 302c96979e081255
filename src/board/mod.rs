//! The board: counters, gauges and verdicts in columns of cells.
//!
//! Every listener, backend and upstream owns a column, as wide as what is counted of its kind. The
//! processes of one machine share a mapping in which each has a row: a cell of its own in every
//! column, which it alone writes with plain stores, and which the others add up. Row 0 is the
//! supervisor's: it holds what workers counted that have died. Besides, every column has a few
//! words that belong to the machine (see [`BackendWord`]). Nothing is ever waited for.
//!
//! A process on its own has the same in private memory, with one row, which is row 0, and with
//! room for few names, which is doubled when it is used up.
//!
//! A cell is a 64-bit atomic. A target without these (32-bit MIPS) cannot build this: it needs
//! cells in halves.

mod cells;
mod directory;
mod layout;
mod loads;
mod rings;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::atomic::Ordering;

use crate::core::backend::Service;
use crate::core::histogram::{Histogram, bucket_of};
use crate::core::lease::Holder;
use crate::core::table::Table;
use crate::core::time::Tick;
use crate::sys::shm::Mapping;

use cells::{SHARED_WORDS, Width};
use directory::{Location, Room};
use layout::{
    CHANGES_AT, FIRST_ROUND_AT, Layout, MAGIC, MAGIC_AT, ROUND_OVER, ROWS_USED_AT, VERSION,
    VERSION_AT,
};

pub use cells::{
    BackendCell, BackendWord, Cell, CodeClass, Counted, CountedBackends, CountedHandshakes,
    CountedListeners, CountedRoutes, CountedUpstreams, ListenerCell, RouteCell, Span, Timed,
    UpstreamWord, Word,
};
pub use directory::BoardFull;
pub use directory::hash as name_key;
pub use layout::{NAMES_MAX, ROWS_MAX};
pub use loads::NotesRead;
pub(crate) use rings::Keep;
pub use rings::RINGS_BYTES_MAX;
pub use rows::{Bounds, RowState, Usage};

pub(crate) use crate::sys::word::AtomicU64;

/// Words that a shared board needs in an address space of so many bytes, of which it leaves most
/// to others: fewer than the most of them have fewer names and rows.
#[must_use]
pub fn words_within(bytes: Option<u64>) -> usize {
    words_of(bytes, usize::BITS)
}

/// The same where addresses have so many bits.
fn words_of(bytes: Option<u64>, address_bits: u32) -> usize {
    // The kernel has its part of the few that there are (2 GiB on some machines).
    let bytes = bytes.or_else(|| (address_bits <= 32).then_some(1 << 31));
    let words = bytes.and_then(|bytes| usize::try_from(bytes / SPACE_SHARE / 8).ok());
    Layout::within(words.unwrap_or(usize::MAX)).words()
}

/// Which part of the address space a board takes at most, unless even the smallest takes more.
const SPACE_SHARE: u64 = 4;

/// A column of the board: the cells of one listener, upstream, backend or route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<K: Counted> {
    /// The first of its cells among those of a row.
    at: u32,
    number: u32,
    kind: PhantomData<K>,
}

/// The column of a listener.
pub(crate) type ListenerColumn = Column<CountedListeners>;
/// The column of an upstream.
pub(crate) type UpstreamColumn = Column<CountedUpstreams>;
/// The column of a route.
pub(crate) type RouteColumn = Column<CountedRoutes>;
/// The column of a listener's handshakes.
pub(crate) type HandshakeColumn = Column<CountedHandshakes>;
/// The column of a backend.
pub type BackendColumn = Column<CountedBackends>;

impl<K: Counted> Column<K> {
    /// That of whatever has no name on the board: what is counted there tells nobody anything.
    pub(crate) const UNLISTED: Self = Self {
        at: 0,
        number: 0,
        kind: PhantomData,
    };

    fn of(location: Location) -> Option<Self> {
        (location.table == K::TABLE).then_some(Self {
            at: u32::try_from(location.at).ok()?,
            number: u32::try_from(location.number).ok()?,
            kind: PhantomData,
        })
    }

    fn location(self) -> Location {
        Location {
            number: self.number(),
            table: K::TABLE,
            at: self.at as usize,
        }
    }

    /// Whether it is somebody's own. Otherwise the board was full, or has given the name's column
    /// to another since: then nothing that is read there means anything.
    #[must_use]
    pub(crate) fn is_listed(self) -> bool {
        self.number != 0
    }

    /// Its number, small and its own among the columns of a board; 0 when it is not listed.
    #[must_use]
    pub(crate) fn number(self) -> usize {
        self.number as usize
    }
}

/// A table of cells: a row in it, and a view of the other rows.
#[derive(Debug)]
pub struct Board {
    memory: Mapping,
    layout: Layout,
    row: usize,
    /// Where our row begins, and its cells.
    row_at: usize,
    cells_at: usize,
    holder: Holder,
    /// The number after that of the last column that was opened: names come in the order of a
    /// file.
    next_number: usize,
    /// What is free of a board that only this process sees.
    room: Option<Room>,
}

/// Why a mapping cannot be used as a board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is not the memory of a board.
    NoBoard,
    /// Another version of weir has made it.
    Version(u64),
    /// There is no such row.
    Row,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBoard => f.write_str("the shared memory holds no board"),
            Self::Version(version) => {
                write!(
                    f,
                    "the board has layout {version}, this weir knows {VERSION}"
                )
            }
            Self::Row => write!(f, "a board has rows 0 to {}", ROWS_MAX - 1),
        }
    }
}

// How to come by a board, and what is in its columns.
impl Board {
    /// An empty board that only this process sees.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn private() -> io::Result<Self> {
        let layout = Layout::SMALL;
        let memory = Mapping::private(layout.words())?;
        layout.write(memory.words());
        let room = Some(Room::empty(&layout));
        Ok(Self {
            room,
            ..Self::in_row(memory, layout, 0, 0)
        })
    }

    /// A new board in shared memory that is all zero, as large as the memory. The caller has row 0.
    ///
    /// # Panics
    /// When the mapping has fewer words than [`words_within`] ever asks for.
    #[must_use]
    pub fn create(memory: Mapping, pid: u32) -> Self {
        let layout = Layout::within(memory.words().len());
        assert!(layout.words() <= memory.words().len(), "room for a board");
        layout.write(memory.words());
        Self::in_row(memory, layout, 0, pid)
    }

    /// A board that somebody else created. The caller, process `pid`, has the row from now on:
    /// row 0 for a supervisor that follows another, any other for a worker.
    ///
    /// # Errors
    /// When the memory holds no board that this version knows, or not that row.
    pub fn attach(memory: Mapping, row: usize, pid: u32) -> Result<Self, Unfit> {
        let layout = layout_of(&memory)?;
        if row >= layout.rows {
            return Err(Unfit::Row);
        }
        Ok(Self::in_row(memory, layout, row, pid))
    }

    /// A board that somebody else created, only to be looked at.
    ///
    /// # Errors
    /// When the memory holds no board that this version knows.
    pub fn observe(memory: Mapping) -> Result<Self, Unfit> {
        let layout = layout_of(&memory)?;
        Ok(Self::seen_from(memory, layout, 0, 0))
    }

    /// Gives back what it takes of this process's memory to have looked at a shared one; looking
    /// again takes it again.
    pub fn release(&self) {
        self.memory.release();
    }

    /// Whether other processes may have rows in it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.room.is_none()
    }

    /// Rows that it has; of these row 0 is no worker's.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layout.rows
    }

    /// Names that it has room for.
    #[must_use]
    pub fn names(&self) -> usize {
        self.layout.names - 1
    }

    /// The key of the name that has a column; 0 where it is not listed.
    #[must_use]
    pub(crate) fn key_of<K: Counted>(&self, column: Column<K>) -> u64 {
        match column.number() {
            0 => 0,
            number => self.hash_at(number),
        }
    }

    /// Who we are to the others.
    #[must_use]
    pub(crate) fn holder(&self) -> Holder {
        self.holder
    }

    /// The column of that name, for us to count in. What a shared directory does not list gets a
    /// column that is nobody's own.
    ///
    /// May be opened several times at once, as when a name is removed and comes back while what
    /// it had still runs: a shared column is then the same one, and is counted in together. A
    /// process on its own gets another one, and counts apart.
    pub fn open<K: Counted>(&mut self, name: &str) -> Column<K> {
        let column = match self.is_shared() {
            true => self.find_from(name, self.next_number),
            false => self.list_one(K::TABLE, name).and_then(Column::of),
        };
        let Some(column) = column else {
            return Column::UNLISTED;
        };
        self.next_number = column.number() + 1;
        add(self.opened(column), 1);
        column
    }

    /// Takes a column back from an owner that has gone. When it was the last owner of this row,
    /// our gauges are zeroed; what was counted stays where others may ask for it.
    pub(crate) fn close<K: Counted>(&mut self, column: Column<K>) {
        if !column.is_listed() {
            return;
        }
        let opened = self.opened(column);
        if opened.load(Ordering::Relaxed) > 1 {
            return sub(opened, 1);
        }
        let location = column.location();
        for gauge in &self.cells_of(self.row, location)[Width::of(K::TABLE).first_gauge..] {
            gauge.store(0, Ordering::Relaxed);
        }
        if let Some(mut room) = self.room.take() {
            self.unlist(location);
            room.give(location);
            self.room = Some(room);
        }
    }

    fn opened<K: Counted>(&self, column: Column<K>) -> &AtomicU64 {
        self.own(column, Width::of(K::TABLE).opened())
    }

    /// Lists a name of a board that only we see, whether it is listed already or not. None when
    /// there is no memory for it.
    fn list_one(&mut self, table: Table, name: &str) -> Option<Location> {
        let location = loop {
            if let Some(location) = self.room.as_mut()?.take(table) {
                break location;
            }
            self.grow().ok()?;
        };
        self.list(location, directory::hash(table, name));
        Some(location)
    }

    /// Moves a board that only we see to where there is twice the room. All columns stay valid.
    fn grow(&mut self) -> io::Result<()> {
        let (old, new) = (self.layout, self.layout.doubled());
        let memory = Mapping::private(new.words())?;
        for ((from, count), (to, _)) in old.parts().into_iter().zip(new.parts()) {
            let from = &self.memory.words()[from..from + count];
            for (to, from) in memory.words()[to..].iter().zip(from) {
                let word = from.load(Ordering::Relaxed);
                // What was never written is no memory yet.
                if word != 0 {
                    to.store(word, Ordering::Relaxed);
                }
            }
        }
        new.write(memory.words());
        self.memory = memory;
        self.layout = new;
        self.row_at = new.row_at(self.row);
        self.cells_at = self.row_at + new.cells_at;
        if let Some(room) = &mut self.room {
            room.extend(&new);
        }
        Ok(())
    }
}

// Cells.
impl Board {
    /// Adds to a cell of ours.
    pub fn add<K: Counted>(&self, column: Column<K>, cell: impl Cell<K>, count: u64) {
        add(self.own(column, cell.index()), count);
    }

    /// Takes from a gauge of ours.
    pub(crate) fn sub<K: Counted>(&self, column: Column<K>, cell: impl Cell<K>, count: u64) {
        sub(self.own(column, cell.index()), count);
    }

    /// Sets a gauge of ours.
    pub(crate) fn set<K: Counted>(&self, column: Column<K>, cell: impl Cell<K>, value: u64) {
        self.own(column, cell.index())
            .store(value, Ordering::Relaxed);
    }

    /// Reads a cell of ours.
    #[must_use]
    pub(crate) fn get<K: Counted>(&self, column: Column<K>, cell: impl Cell<K>) -> u64 {
        self.own(column, cell.index()).load(Ordering::Relaxed)
    }

    /// The sum of a cell over all rows.
    #[must_use]
    pub fn total<K: Counted>(&self, column: Column<K>, cell: impl Cell<K>) -> u64 {
        self.get(column, cell)
            .wrapping_add(self.elsewhere(column, cell))
    }

    /// The largest value of a cell in any row.
    #[must_use]
    pub fn largest<K: Counted>(&self, column: Column<K>, cell: impl Cell<K>) -> u64 {
        let values = self
            .rows_of(column)
            .map(|row| row[cell.index()].load(Ordering::Relaxed));
        values.fold(self.get(column, cell), u64::max)
    }

    /// The sum of a cell over the rows of others.
    #[must_use]
    pub(crate) fn elsewhere<K: Counted>(&self, column: Column<K>, cell: impl Cell<K>) -> u64 {
        if !column.is_listed() {
            return 0;
        }
        let at = column.at as usize + cell.index();
        self.sum_of_others(self.layout.cells_at + at)
    }

    /// Counts a span of time in our histogram.
    pub fn record_ms<K: Counted>(&self, column: Column<K>, span: impl Timed<K>, ms: u64) {
        let at = span.histogram_at();
        add(self.own(column, at), ms);
        add(self.own(column, at + 1 + bucket_of(ms)), 1);
    }

    /// The sum of the histograms of all rows.
    #[must_use]
    pub fn histogram<K: Counted>(&self, column: Column<K>, span: impl Timed<K>) -> Histogram {
        let mut all = Histogram::EMPTY;
        let at = span.histogram_at();
        for row in self.rows_of(column) {
            let (sum, counts) = (&row[at], &row[at + 1..]);
            all.sum_ms = all.sum_ms.wrapping_add(sum.load(Ordering::Relaxed));
            for (total, count) in all.counts.iter_mut().zip(counts) {
                *total = total.wrapping_add(count.load(Ordering::Relaxed));
            }
        }
        all
    }

    /// A word that belongs to the machine.
    #[must_use]
    pub fn word<K: Counted>(&self, column: Column<K>, word: impl Word<K>) -> &AtomicU64 {
        &self.words()[self.shared_at(column.number()) + word.index()]
    }

    fn own<K: Counted>(&self, column: Column<K>, index: usize) -> &AtomicU64 {
        &self.words()[self.cells_at + column.at as usize + index]
    }

    /// A column's cells in each row, for one that is listed.
    fn rows_of<K: Counted>(&self, column: Column<K>) -> impl Iterator<Item = &[AtomicU64]> {
        let rows = if column.is_listed() {
            self.rows_used()
        } else {
            0
        };
        (0..rows).map(move |row| self.cells_of(row, column.location()))
    }

    fn cells_of(&self, row: usize, location: Location) -> &[AtomicU64] {
        let at = self.layout.row_at(row) + self.layout.cells_at + location.at;
        &self.words()[at..at + Width::of(location.table).cells]
    }

    fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    /// Where that begins which all rows share of a name.
    fn shared_at(&self, number: usize) -> usize {
        self.layout.shared_at + number * SHARED_WORDS
    }
}

// What all look at.
impl Board {
    /// How often something was changed that others should look at: verdicts, ejections, drains,
    /// leases.
    #[must_use]
    pub(crate) fn changes(&self) -> u64 {
        self.words()[CHANGES_AT].load(Ordering::Acquire)
    }

    /// Asks everybody to look again; they do at their next turn.
    pub fn touch(&self) {
        self.words()[CHANGES_AT].fetch_add(1, Ordering::AcqRel);
    }

    /// The first round of checks begins, unless it has, and is over then at the latest.
    pub(crate) fn begin_first_round(&self, until: Tick) {
        let until = until.0.max(ROUND_OVER);
        let round = &self.words()[FIRST_ROUND_AT];
        // Whoever was first has begun it.
        let _ = round.compare_exchange(0, until, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Every backend with checks has been checked once.
    pub fn end_first_round(&self) {
        self.words()[FIRST_ROUND_AT].store(ROUND_OVER, Ordering::Relaxed);
    }

    /// Whether the first round of checks is over, or has taken too long.
    #[must_use]
    pub fn is_first_round_over(&self, now: Tick) -> bool {
        let until = self.words()[FIRST_ROUND_AT].load(Ordering::Relaxed);
        until == ROUND_OVER || until != 0 && until <= now.0
    }

    /// What an administrator lets a backend take.
    #[must_use]
    pub fn service(&self, column: BackendColumn) -> Service {
        match self.steered(column, BackendWord::Service) {
            0 => Service::Full,
            1 => Service::Draining,
            _ => Service::Disabled,
        }
    }

    /// Says what a backend is to take, to all who see it: what it has goes on.
    pub fn set_service(&self, column: BackendColumn, service: Service) {
        self.steer(column, BackendWord::Service, service as u64);
    }

    /// Whether a backend is out of service.
    #[cfg(test)]
    fn is_draining(&self, column: BackendColumn) -> bool {
        self.service(column) != Service::Full
    }

    /// Takes a backend out of service in all who see it, or back: what it has goes on.
    pub fn set_draining(&self, column: BackendColumn, drains: bool) {
        let service = if drains {
            Service::Draining
        } else {
            Service::Full
        };
        self.set_service(column, service);
    }

    /// The weight that an administrator has given a backend; none while it has its own.
    #[must_use]
    pub fn weight(&self, column: BackendColumn) -> Option<u32> {
        let word = self.steered(column, BackendWord::Weight);
        u32::try_from(word.checked_sub(1)?).ok()
    }

    /// Gives a backend a weight in all who see it, or its own one back.
    pub fn set_weight(&self, column: BackendColumn, weight: Option<u32>) {
        let word = weight.map_or(0, |weight| u64::from(weight) + 1);
        self.steer(column, BackendWord::Weight, word);
    }

    fn steered(&self, column: BackendColumn, word: BackendWord) -> u64 {
        match column.is_listed() {
            true => self.word(column, word).load(Ordering::Acquire),
            false => 0,
        }
    }

    fn steer(&self, column: BackendColumn, word: BackendWord, value: u64) {
        if column.is_listed() && self.word(column, word).swap(value, Ordering::AcqRel) != value {
            self.touch();
        }
    }

    /// One more than the highest row that is in use.
    pub fn rows_used(&self) -> usize {
        let used = self.words()[ROWS_USED_AT].load(Ordering::Relaxed);
        let rows = self.layout.rows;
        usize::try_from(used).map_or(rows, |used| used.min(rows))
    }

    /// The sum of what is at one place of a row over the rows of others.
    fn sum_of_others(&self, at: usize) -> u64 {
        (0..self.rows_used())
            .filter(|&row| row != self.row)
            .map(|row| self.words()[self.layout.row_at(row) + at].load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }
}

/// How the board in that memory is laid out.
fn layout_of(memory: &Mapping) -> Result<Layout, Unfit> {
    let words = memory.words();
    let read = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Acquire));
    if read(MAGIC_AT) != MAGIC {
        return Err(Unfit::NoBoard);
    }
    match read(VERSION_AT) {
        VERSION => Layout::read(words).ok_or(Unfit::NoBoard),
        other => Err(Unfit::Version(other)),
    }
}

/// Adds to a cell that only this process writes, so that no locked instruction is needed.
fn add(cell: &AtomicU64, count: u64) {
    let sum = cell.load(Ordering::Relaxed).wrapping_add(count);
    cell.store(sum, Ordering::Relaxed);
}

fn sub(cell: &AtomicU64, count: u64) {
    add(cell, count.wrapping_neg());
}
