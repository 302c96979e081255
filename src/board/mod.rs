//! The board: counters, gauges and verdicts in columns of cells.
//!
//! Every listener, backend and upstream owns a column. A process on its own keeps its columns in
//! private memory. The processes of one machine share a mapping in which each has a row: a cell
//! of its own in every column, which it alone writes with plain stores, and which the others add
//! up. Row 0 is the supervisor's: it holds what workers counted that have died. Besides, every
//! column has a few cells that belong to the machine (see [`SharedCell`]). Nothing is ever waited
//! for.
//!
//! Which column belongs to whom is in a directory of hashes, which only the supervisor writes,
//! before it hands a configuration to anybody. Two names of one board that have the same hash
//! would share a column; with 4,096 names the odds are below 10^-12.
//!
//! A cell is a 64-bit atomic. A target without these (32-bit MIPS) cannot build this: it needs
//! cells in halves.

mod cells;
mod loads;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::http::oddity::Oddity;
use crate::core::key::bytes_key;
use crate::core::lease::{FREE, Holder, Term};
use crate::core::time::Tick;
use crate::sys::shm::Mapping;

pub use cells::{BackendCell, Cell, ListenerCell, SharedCell};
use cells::{COLUMN_CELLS, FIRST_GAUGE, OPENED, PRIVATE_DRAINING, RowCell, SHARED_CELLS};
pub use loads::NotesRead;

/// Columns of a shared board.
pub const COLUMNS_MAX: usize = 4096;
/// Rows of a shared board: the supervisor's and 255 workers'. Of these the largest `workers` serve
/// and as many come up at an upgrade; the rest are for those of before that drain.
pub const ROWS_MAX: usize = 256;

/// Words of the mapping that a shared board needs: 133 MiB of addresses. What nobody has looked at
/// takes no memory.
pub const WORDS: usize = ROWS_AT + ROWS_MAX * ROW_WORDS;

/// Tells a board from other memory: `weir\0brd`.
const MAGIC: u64 = u64::from_be_bytes(*b"weir\0brd");
/// Grows with every change of what is where or of what it means.
const VERSION: u64 = 2;

// Where things are, in words. All but the header's own words begin at a page.
const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 1;
const ROWS_USED_AT: usize = 2;
/// In a cache line of its own: everybody looks at it all the time.
const CHANGES_AT: usize = 8;
const DIRECTORY_AT: usize = PAGE_WORDS;
const SHARED_AT: usize = DIRECTORY_AT + COLUMNS_MAX;
const ROWS_AT: usize = SHARED_AT + COLUMNS_MAX * SHARED_CELLS;
/// A row begins with what it says of its worker.
const ROW_HEAD_WORDS: usize = PAGE_WORDS;
/// In it, behind the cells that have a name: how often each kind of oddity was seen. A weir that
/// does not know these words leaves them alone, so they have not changed the layout.
const ODDITIES_AT: usize = 64;
const ODDITIES: usize = Oddity::ALL.len();
const ROW_WORDS: usize = ROW_HEAD_WORDS + COLUMNS_MAX * COLUMN_CELLS;
const PAGE_WORDS: usize = 512;

/// A column of the board: the cells of one listener, backend or upstream. Those from
/// [`COLUMNS_MAX`] on are in private memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column(usize);

impl Column {
    /// Whether other processes see it.
    #[must_use]
    pub fn is_shared(self) -> bool {
        self.0 < COLUMNS_MAX
    }

    /// Its number, small and its own among the columns of a board.
    #[must_use]
    pub fn number(self) -> usize {
        self.0
    }
}

/// A table of cells: a row in it, and a view of the other rows.
#[derive(Debug, Default)]
pub struct Board {
    shared: Option<Shared>,
    /// Columns that only this process has.
    private: Vec<[AtomicU64; COLUMN_CELLS]>,
    free: Vec<usize>,
    /// Changes in private memory.
    private_changes: AtomicU64,
    /// What a row of a shared board has besides its columns.
    private_oddities: [AtomicU64; ODDITIES],
}

/// The mapping, and which row of it is ours.
#[derive(Debug)]
struct Shared {
    memory: Mapping,
    row: usize,
    holder: Holder,
    /// The column after the last one that was looked up: names come in the order of a file.
    next_column: usize,
}

/// What a row says of its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowState {
    /// The process; 0 when nobody has the row.
    pub pid: u32,
    /// Tells the workers apart that have had the row.
    pub incarnation: u16,
    /// The last sign of life, on the clock that all processes of a machine share.
    pub beat: Tick,
    /// Whether it waits for events: then its beat may be old.
    pub asleep: bool,
    /// Client connections it has.
    pub sessions: u64,
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

/// More names than there are columns, those counted that are still in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardFull {
    /// Names that were to have a column.
    pub wanted: usize,
    /// Columns that are missing.
    pub missing: usize,
}

impl fmt::Display for BoardFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wanted, missing } = self;
        if *wanted > COLUMNS_MAX {
            return write!(
                f,
                "{wanted} listeners, upstreams and backends are more than the {COLUMNS_MAX} that \
                 several workers can share: use fewer, or start weir with `workers: 1`"
            );
        }
        write!(
            f,
            "several workers can share {COLUMNS_MAX} listeners, upstreams and backends, and those \
             of before count until their sessions have ended: {missing} of the {wanted} wanted \
             find no place; first take out of the file what is to go, reload, and then add what \
             is to come"
        )
    }
}

// How to come by a board, and what is in its columns.
impl Board {
    /// An empty board in private memory.
    #[must_use]
    pub fn private() -> Self {
        Self::default()
    }

    /// A new board in shared memory that is all zero. The caller has row 0.
    ///
    /// # Panics
    /// When the mapping has fewer than [`WORDS`] words.
    #[must_use]
    pub fn create(memory: Mapping, pid: u32) -> Self {
        let words = memory.words();
        words[VERSION_AT].store(VERSION, Ordering::Relaxed);
        words[MAGIC_AT].store(MAGIC, Ordering::Release);
        Self::in_row(memory, 0, pid)
    }

    /// A board that somebody else created. The caller, process `pid`, has the row from now on:
    /// row 0 for a supervisor that follows another, any other for a worker.
    ///
    /// # Errors
    /// When the memory holds no board that this version knows, or not that row.
    pub fn attach(memory: Mapping, row: usize, pid: u32) -> Result<Self, Unfit> {
        let words = memory.words();
        if words.len() < WORDS || words[MAGIC_AT].load(Ordering::Acquire) != MAGIC {
            return Err(Unfit::NoBoard);
        }
        match words[VERSION_AT].load(Ordering::Relaxed) {
            VERSION if row < ROWS_MAX => Ok(Self::in_row(memory, row, pid)),
            VERSION => Err(Unfit::Row),
            other => Err(Unfit::Version(other)),
        }
    }

    fn in_row(memory: Mapping, row: usize, pid: u32) -> Self {
        let words = memory.words();
        words[ROWS_USED_AT].fetch_max(row as u64 + 1, Ordering::AcqRel);
        let head = |cell: RowCell| &words[row_at(row) + cell as usize];
        let before = head(RowCell::Incarnation).load(Ordering::Relaxed);
        let incarnation = u16::try_from(before % 0xffff + 1).unwrap_or(1);
        head(RowCell::Incarnation).store(u64::from(incarnation), Ordering::Relaxed);
        head(RowCell::Leaves).store(0, Ordering::Relaxed);
        head(RowCell::LoadNotes).fetch_max(1, Ordering::Relaxed);
        head(RowCell::Pid).store(u64::from(pid), Ordering::Release);
        let shared = Shared {
            memory,
            row,
            holder: Holder {
                row: u8::try_from(row).expect("fewer than 256 rows"),
                incarnation,
            },
            next_column: 0,
        };
        Self {
            shared: Some(shared),
            ..Self::default()
        }
    }

    /// Whether other processes have rows in it.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Who we are to the others. None in private memory.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        self.shared.as_ref().map(|it| it.holder)
    }

    /// The column of that name, for us to count in. What the directory does not list, and
    /// everything in private memory, gets a zeroed column that only this process sees.
    ///
    /// May be opened several times at once, as when a name is removed and comes back while what
    /// it had still runs: a shared column is then the same one, and is counted in together.
    pub fn open(&mut self, name: &str) -> Column {
        if let Some(shared) = &mut self.shared
            && let Some(column) = shared.find(name, shared.next_column)
        {
            shared.next_column = column.0 + 1;
            add(shared.cell(shared.row, column, OPENED), 1);
            return column;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.private
                .push([const { AtomicU64::new(0) }; COLUMN_CELLS]);
            self.private.len() - 1
        });
        Column(COLUMNS_MAX + index)
    }

    /// Takes a column back from an owner that has gone. In a shared one, when it was the last
    /// owner of this row, our gauges are zeroed; what was counted stays.
    pub fn close(&mut self, column: Column) {
        if let Some(shared) = self.shared.as_ref().filter(|_| column.is_shared()) {
            let cell = |index| shared.cell(shared.row, column, index);
            if cell(OPENED).load(Ordering::Relaxed) > 1 {
                return sub(cell(OPENED), 1);
            }
            return (FIRST_GAUGE..COLUMN_CELLS)
                .for_each(|index| cell(index).store(0, Ordering::Relaxed));
        }
        let index = column.0 - COLUMNS_MAX;
        for cell in &self.private[index] {
            cell.store(0, Ordering::Relaxed);
        }
        self.free.push(index);
    }
}

// Cells.
impl Board {
    /// Adds to a cell of ours.
    pub fn add(&self, column: Column, cell: impl Cell, count: u64) {
        add(self.own(column, cell.index()), count);
    }

    /// Takes from a gauge of ours.
    pub fn sub(&self, column: Column, cell: impl Cell, count: u64) {
        sub(self.own(column, cell.index()), count);
    }

    /// Sets a gauge of ours.
    pub fn set(&self, column: Column, cell: impl Cell, value: u64) {
        self.own(column, cell.index())
            .store(value, Ordering::Relaxed);
    }

    /// Reads a cell of ours.
    #[must_use]
    pub fn get(&self, column: Column, cell: impl Cell) -> u64 {
        self.own(column, cell.index()).load(Ordering::Relaxed)
    }

    /// The sum of a cell over all rows.
    #[must_use]
    pub fn total(&self, column: Column, cell: impl Cell) -> u64 {
        self.get(column, cell)
            .wrapping_add(self.elsewhere(column, cell))
    }

    /// The largest value of a cell in any row.
    #[must_use]
    pub fn largest(&self, column: Column, cell: impl Cell) -> u64 {
        let own = self.get(column, cell);
        match &self.shared {
            Some(shared) if column.is_shared() => (0..shared.rows_used())
                .map(|row| shared.cell(row, column, cell.index()))
                .fold(own, |most, cell| most.max(cell.load(Ordering::Relaxed))),
            _ => own,
        }
    }

    /// The sum of a cell over the rows of others.
    #[must_use]
    pub fn elsewhere(&self, column: Column, cell: impl Cell) -> u64 {
        match &self.shared {
            Some(shared) if column.is_shared() => {
                shared.sum_of_others(|row| shared.cell(row, column, cell.index()))
            }
            _ => 0,
        }
    }

    /// A cell that belongs to the machine; none in a private column, where nobody else is.
    #[must_use]
    pub fn word(&self, column: Column, cell: SharedCell) -> Option<&AtomicU64> {
        let shared = self.shared.as_ref().filter(|_| column.is_shared())?;
        let at = SHARED_AT + column.0 * SHARED_CELLS + cell as usize;
        Some(&shared.words()[at])
    }

    fn own(&self, column: Column, index: usize) -> &AtomicU64 {
        match &self.shared {
            Some(shared) if column.is_shared() => shared.cell(shared.row, column, index),
            _ => &self.private[column.0 - COLUMNS_MAX][index],
        }
    }
}

// Signs of life and of change.
impl Board {
    /// Says that we live, before and after every wait.
    pub fn beat(&self, now: Tick, asleep: bool) {
        if let Some(shared) = &self.shared {
            let head = |cell| shared.head(shared.row, cell);
            head(RowCell::Beat).store(now.0, Ordering::Relaxed);
            head(RowCell::Asleep).store(u64::from(asleep), Ordering::Relaxed);
        }
    }

    /// Says how many client connections we have.
    pub fn set_sessions(&self, count: usize) {
        if let Some(shared) = &self.shared {
            shared
                .head(shared.row, RowCell::Sessions)
                .store(count as u64, Ordering::Relaxed);
        }
    }

    /// Says how many access log lines we have lost.
    pub fn set_lines_lost(&self, count: u64) {
        if let Some(shared) = &self.shared {
            let cell = shared.head(shared.row, RowCell::LinesLost);
            cell.store(count, Ordering::Relaxed);
        }
    }

    /// Access log lines that all workers have lost, also those that are gone. Always 0 in private
    /// memory.
    #[must_use]
    pub fn lines_lost(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| {
            let lost = |row| shared.head(row, RowCell::LinesLost);
            let ours = lost(shared.row).load(Ordering::Relaxed);
            ours.wrapping_add(shared.sum_of_others(lost))
        })
    }

    /// Counts a response that was odd in this way.
    pub fn count_oddity(&self, kind: Oddity) {
        let cell = match &self.shared {
            Some(shared) => shared.oddity(shared.row, kind),
            None => &self.private_oddities[kind as usize],
        };
        add(cell, 1);
    }

    /// Responses that were odd in this way, to all workers, also those that are gone.
    #[must_use]
    pub fn oddities(&self, kind: Oddity) -> u64 {
        match &self.shared {
            Some(shared) => {
                let seen = |row| shared.oddity(row, kind);
                let ours = seen(shared.row).load(Ordering::Relaxed);
                ours.wrapping_add(shared.sum_of_others(seen))
            }
            None => self.private_oddities[kind as usize].load(Ordering::Relaxed),
        }
    }

    /// Says that this worker is about to end.
    pub fn set_leaves(&self) {
        if let Some(shared) = &self.shared {
            shared
                .head(shared.row, RowCell::Leaves)
                .store(1, Ordering::SeqCst);
        }
    }

    /// Whether another worker goes on, as far as it has said. `runs` tells whether there is a
    /// process of that id. Of workers that say at the same moment that they are about to end, and
    /// then ask, at least the last finds nobody.
    #[must_use]
    pub fn is_anyone_staying(&self, runs: impl Fn(u32) -> bool) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        let stays = |row: usize| {
            let pid = shared.head(row, RowCell::Pid).load(Ordering::SeqCst);
            let leaves = shared.head(row, RowCell::Leaves).load(Ordering::SeqCst) != 0;
            let pid = u32::try_from(pid).unwrap_or(0);
            row != shared.row && pid != 0 && !leaves && runs(pid)
        };
        // Row 0 is no worker's.
        (1..ROWS_MAX).any(stays)
    }

    /// Client connections of all others.
    #[must_use]
    pub fn sessions_elsewhere(&self) -> u64 {
        self.shared.as_ref().map_or(0, |shared| {
            shared.sum_of_others(|row| shared.head(row, RowCell::Sessions))
        })
    }

    /// How often something was changed that others should look at: verdicts, ejections, drains,
    /// leases. In private memory only drains are.
    #[must_use]
    pub fn changes(&self) -> u64 {
        match &self.shared {
            Some(shared) => shared.words()[CHANGES_AT].load(Ordering::Acquire),
            None => self.private_changes.load(Ordering::Relaxed),
        }
    }

    /// Asks everybody to look again; they do at their next turn.
    pub fn touch(&self) {
        if let Some(shared) = &self.shared {
            shared.words()[CHANGES_AT].fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Whether a backend's column is out of service.
    #[must_use]
    pub fn is_draining(&self, column: Column) -> bool {
        self.draining(column).load(Ordering::Acquire) != 0
    }

    fn draining(&self, column: Column) -> &AtomicU64 {
        self.word(column, SharedCell::Draining)
            .unwrap_or_else(|| self.own(column, PRIVATE_DRAINING))
    }
}

// What the supervisor does.
impl Board {
    /// Takes a backend's column out of service in all who see it, or back: what it has goes on.
    pub fn set_draining(&self, column: Column, drains: bool) {
        let before = self.draining(column).swap(drains.into(), Ordering::AcqRel);
        if before != u64::from(drains) {
            add(&self.private_changes, 1);
            self.touch();
        }
    }

    /// Whether so many names can all have columns when nobody has any yet.
    ///
    /// # Errors
    /// When there are not enough columns.
    pub fn check(wanted: usize) -> Result<(), BoardFull> {
        match wanted.checked_sub(COLUMNS_MAX) {
            None | Some(0) => Ok(()),
            Some(missing) => Err(BoardFull { wanted, missing }),
        }
    }

    /// Gives every one of these names a column that has none. To be called before a
    /// configuration with these names is handed to anybody. A name that is no longer given keeps
    /// its column, and all that was counted, until another name needs the place; and for as long
    /// as a worker uses it. Only a drain ends: whoever comes back does not drain.
    ///
    /// # Errors
    /// When there are not enough columns; then nothing has changed.
    pub fn publish<S: AsRef<str>>(&self, names: &[S]) -> Result<(), BoardFull> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let mut wanted: Vec<u64> = names.iter().map(|name| hash(name.as_ref())).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let entries: Vec<u64> = shared
            .directory()
            .iter()
            .map(|entry| entry.load(Ordering::Relaxed))
            .collect();
        let is_named = |entry: u64| wanted.binary_search(&entry).is_ok();
        let listed: HashSet<u64> = entries.iter().copied().collect();
        let is_listed = |hash: &u64| listed.contains(hash);
        let fresh: Vec<u64> = wanted.iter().copied().filter(|it| !is_listed(it)).collect();
        let empty = (0..COLUMNS_MAX).filter(|&index| entries[index] == 0);
        let given_up = (0..COLUMNS_MAX).filter(|&index| {
            let entry = entries[index];
            entry != 0 && !is_named(entry) && !shared.is_open(Column(index))
        });
        let places: Vec<usize> = empty.chain(given_up).take(fresh.len()).collect();
        if places.len() < fresh.len() {
            return Err(BoardFull {
                wanted: wanted.len(),
                missing: fresh.len() - places.len(),
            });
        }
        for (index, &entry) in entries.iter().enumerate() {
            if entry != 0 && !is_named(entry) {
                self.set_draining(Column(index), false);
            }
        }
        // In the order of the names, in which workers will look them up.
        let mut places = places.into_iter();
        let mut fresh: HashSet<u64> = fresh.into_iter().collect();
        for name in names {
            let hash = hash(name.as_ref());
            if fresh.remove(&hash)
                && let Some(index) = places.next()
            {
                shared.directory()[index].store(0, Ordering::Relaxed);
                shared.clear(Column(index));
                shared.directory()[index].store(hash, Ordering::Release);
            }
        }
        Ok(())
    }

    /// The column of that name, to be read; none when the directory does not list it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<Column> {
        self.shared.as_ref()?.find(name, 0)
    }

    /// The same for one name of many, in their order: `last` is the column of the one before, from
    /// which it is seldom far.
    #[must_use]
    pub fn find_next(&self, name: &str, last: &mut Option<Column>) -> Option<Column> {
        let from = last.map_or(0, |last| last.0 + 1);
        let found = self.shared.as_ref()?.find(name, from)?;
        *last = Some(found);
        Some(found)
    }

    /// What the row says of its worker; all zero where there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> RowState {
        let read = |cell| match &self.shared {
            Some(shared) if row < ROWS_MAX => shared.head(row, cell).load(Ordering::Relaxed),
            _ => 0,
        };
        RowState {
            pid: u32::try_from(read(RowCell::Pid)).unwrap_or(0),
            incarnation: u16::try_from(read(RowCell::Incarnation)).unwrap_or(0),
            beat: Tick(read(RowCell::Beat)),
            asleep: read(RowCell::Asleep) != 0,
            sessions: read(RowCell::Sessions),
        }
    }

    /// No row from this one on belongs to anybody, and nobody needs to add it up.
    pub fn limit_rows(&self, rows: usize) {
        if let Some(shared) = &self.shared {
            shared.words()[ROWS_USED_AT].store(rows as u64, Ordering::Release);
        }
    }

    /// The row's worker has died: what it counted goes to row 0, its gauges are zeroed, its
    /// leases are free, and everybody is asked to look. Only for a row whose process is gone.
    pub fn bury(&self, row: usize) {
        let Some(shared) = &self.shared else { return };
        if row == 0 || row >= ROWS_MAX {
            return;
        }
        for index in 0..COLUMNS_MAX {
            if shared.directory()[index].load(Ordering::Relaxed) != 0 {
                self.bury_column(shared, row, Column(index));
            }
        }
        let lines_lost = shared.head(row, RowCell::LinesLost);
        let before = shared.head(0, RowCell::LinesLost);
        add(before, lines_lost.swap(0, Ordering::Relaxed));
        for kind in Oddity::ALL {
            let count = shared.oddity(row, kind).swap(0, Ordering::Relaxed);
            add(shared.oddity(0, kind), count);
        }
        for cell in [
            RowCell::Pid,
            RowCell::Beat,
            RowCell::Asleep,
            RowCell::Sessions,
            RowCell::Leaves,
            RowCell::LoadNotes,
        ] {
            shared.head(row, cell).store(0, Ordering::Relaxed);
        }
        self.touch();
    }

    fn bury_column(&self, shared: &Shared, row: usize, column: Column) {
        for index in 0..COLUMN_CELLS {
            let cell = shared.cell(row, column, index);
            let count = cell.load(Ordering::Relaxed);
            if count == 0 {
                continue;
            }
            cell.store(0, Ordering::Relaxed);
            if index < FIRST_GAUGE {
                add(shared.cell(0, column, index), count);
            }
        }
        if let Some(lease) = self.word(column, SharedCell::ProbeLease) {
            let word = lease.load(Ordering::Acquire);
            if Term::read(word).is_some_and(|term| usize::from(term.holder.row) == row) {
                // Nobody else writes it before it ends, unless it has just been taken over.
                let _ = lease.compare_exchange(word, FREE, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }
}

impl Shared {
    fn words(&self) -> &[AtomicU64] {
        self.memory.words()
    }

    fn directory(&self) -> &[AtomicU64] {
        &self.words()[DIRECTORY_AT..SHARED_AT]
    }

    fn cell(&self, row: usize, column: Column, index: usize) -> &AtomicU64 {
        let at = row_at(row) + ROW_HEAD_WORDS + column.0 * COLUMN_CELLS + index;
        &self.words()[at]
    }

    fn head(&self, row: usize, cell: RowCell) -> &AtomicU64 {
        &self.words()[row_at(row) + cell as usize]
    }

    fn oddity(&self, row: usize, kind: Oddity) -> &AtomicU64 {
        &self.words()[row_at(row) + ODDITIES_AT + kind as usize]
    }

    /// One more than the highest row that is in use.
    fn rows_used(&self) -> usize {
        let used = self.words()[ROWS_USED_AT].load(Ordering::Relaxed);
        usize::try_from(used).map_or(ROWS_MAX, |used| used.min(ROWS_MAX))
    }

    fn sum_of_others<'a>(&self, cell: impl Fn(usize) -> &'a AtomicU64) -> u64 {
        (0..self.rows_used())
            .filter(|&row| row != self.row)
            .fold(0, |sum: u64, row| {
                sum.wrapping_add(cell(row).load(Ordering::Relaxed))
            })
    }

    fn find(&self, name: &str, from: usize) -> Option<Column> {
        self.find_hash(hash(name), from)
    }

    fn find_hash(&self, hash: u64, from: usize) -> Option<Column> {
        let directory = self.directory();
        let mut places = (from..COLUMNS_MAX).chain(0..from.min(COLUMNS_MAX));
        places
            .find(|&index| directory[index].load(Ordering::Acquire) == hash)
            .map(Column)
    }

    fn is_open(&self, column: Column) -> bool {
        (0..self.rows_used()).any(|row| self.cell(row, column, OPENED).load(Ordering::Relaxed) != 0)
    }

    /// Zeroes a column that nobody has open.
    fn clear(&self, column: Column) {
        let rows = (0..self.rows_used())
            .flat_map(|row| (0..COLUMN_CELLS).map(move |index| self.cell(row, column, index)));
        let at = SHARED_AT + column.0 * SHARED_CELLS;
        for cell in rows.chain(&self.words()[at..at + SHARED_CELLS]) {
            if cell.load(Ordering::Relaxed) != 0 {
                cell.store(0, Ordering::Relaxed);
            }
        }
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

const fn row_at(row: usize) -> usize {
    ROWS_AT + row * ROW_WORDS
}

/// Never 0, which is a free place.
fn hash(name: &str) -> u64 {
    bytes_key(name.as_bytes()).max(1)
}
