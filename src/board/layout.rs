//! Where things are on a board, in words.
//!
//! A board is a header, a directory of names, the words that all rows share of each name, and
//! rows. A row is what it says of its worker, then the cells of all columns, then the rings of its
//! last decisions; a column has the same place in every row, which the directory tells. The header
//! says where each part begins and how large it is, and what the columns of each table are made
//! of: whoever reads only that can add up the rows of a board that has more or wider columns than
//! its own.

use std::sync::atomic::Ordering;

use super::cells::{CELLS_MAX, SHARED_WORDS, UNIT, Width};
use super::rings::RingSize;
use crate::core::http::oddity::Oddity;
use crate::core::table::Table;
use crate::sys::word::AtomicU64;

/// Names of a shared board, at most.
pub const NAMES_MAX: usize = 4096;
/// Rows of a shared board, at most: the supervisor's and 255 workers'. Of these the largest
/// `workers` serve and as many come up at an upgrade; the rest are for those of before that drain.
pub const ROWS_MAX: usize = 256;
/// Names and rows of shared boards: each has half of the one before of either, down to the rows
/// without which there could hardly be workers.
const SIZES: [(usize, usize); 9] = [
    (NAMES_MAX, ROWS_MAX),
    (NAMES_MAX, 128),
    (2048, 128),
    (2048, 64),
    (1024, 64),
    (1024, 32),
    (512, 32),
    (256, 32),
    (128, 32),
];
/// Cells that a row has room for by name: so many as upstreams need that have one backend each, and
/// some that lie idle between columns in use.
const CELLS_PER_NAME: usize = {
    let both = Width::of(Table::Upstreams).cells + Width::of(Table::Backends).cells;
    (both.div_ceil(2) + 1).next_multiple_of(UNIT)
};
const ROW_CELLS_MAX: usize = CELLS_MAX + NAMES_MAX * CELLS_PER_NAME;

/// Tells a board from other memory: `weir\0brd`.
pub(super) const MAGIC: u64 = u64::from_be_bytes(*b"weir\0brd");
/// Grows with every change of what a header or a cell means.
pub(super) const VERSION: u64 = 8;

// The header.
pub(super) const MAGIC_AT: usize = 0;
pub(super) const VERSION_AT: usize = 1;
pub(super) const ROWS_USED_AT: usize = 2;
/// Odd while what a dead worker has counted is moved, and another number after it.
pub(super) const MOVES_AT: usize = 3;
/// How far the first round of checks is: 0 before it has begun, then when it is over at the latest,
/// and [`ROUND_OVER`].
pub(super) const FIRST_ROUND_AT: usize = 4;
pub(super) const ROUND_OVER: u64 = 1;
/// In a cache line of its own: everybody looks at it all the time.
pub(super) const CHANGES_AT: usize = 8;
const STRIDES_AT: usize = 16;
const TABLES_AT: usize = 32;
/// Words that the header has for a table.
const TABLE_WORDS: usize = 4;
const HEADER_WORDS: usize = TABLES_AT + 8 * TABLE_WORDS;

// What a row begins with.
/// How often each kind of oddity was seen.
pub(super) const ODDITIES_AT: usize = 64;
const ODDITIES: usize = Oddity::ALL.len();
/// In which columns loads have changed.
pub(super) const NOTES_AT: usize = 256;
pub(super) const NOTE_WORDS: usize = 256;
const ROW_HEAD_WORDS: usize = NOTES_AT + NOTE_WORDS;

/// The rows of several processes begin at pages of their own.
const PAGE_WORDS: usize = 512;

/// Where the parts of a board are, and how large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Names that may be listed, and one in front that none has.
    pub(super) names: usize,
    /// Hashes of the names.
    pub(super) hashes_at: usize,
    /// The table and the place in a row of each.
    pub(super) locations_at: usize,
    /// What all rows share of each.
    pub(super) shared_at: usize,
    pub(super) rows: usize,
    pub(super) rows_at: usize,
    /// From one row to the next.
    pub(super) row_words: usize,
    /// From the beginning of a row to its cells, and how many these are.
    pub(super) cells_at: usize,
    pub(super) row_cells: usize,
}

impl Layout {
    /// The largest of a board which several processes share: 768 MiB of addresses. What nobody has
    /// looked at takes no memory.
    pub(super) const SHARED: Self = Self::shared(SIZES[0]);
    /// That which a board has that only one process sees, before it grows.
    pub(super) const SMALL: Self = Self::of(32, 1, CELLS_MAX + 32 * 24);

    /// The largest of a shared board that needs at most so many words; the smallest if there is
    /// none.
    pub(super) fn within(words: usize) -> Self {
        let mut sizes = SIZES.into_iter().map(Self::shared);
        let fits = sizes.find(|layout| layout.words() <= words);
        fits.unwrap_or(Self::shared(SIZES[SIZES.len() - 1]))
    }

    const fn shared((names, rows): (usize, usize)) -> Self {
        Self::of(names, rows, CELLS_MAX + names * CELLS_PER_NAME)
    }

    pub(super) const fn of(names: usize, rows: usize, row_cells: usize) -> Self {
        let names = names + 1;
        let hashes_at = HEADER_WORDS;
        let locations_at = hashes_at + names;
        let shared_at = (locations_at + names).next_multiple_of(UNIT);
        let end = shared_at + names * SHARED_WORDS;
        let page = if rows > 1 { PAGE_WORDS } else { UNIT };
        Self {
            names,
            hashes_at,
            locations_at,
            shared_at,
            rows,
            rows_at: end.next_multiple_of(page),
            row_words: (ROW_HEAD_WORDS + row_cells + RingSize::of(rows).words())
                .next_multiple_of(page),
            cells_at: ROW_HEAD_WORDS,
            row_cells,
        }
    }

    /// One with twice the room.
    pub(super) const fn doubled(self) -> Self {
        Self::of(2 * (self.names - 1), self.rows, 2 * self.row_cells)
    }

    /// The parts of a board with one row that a layout with more room has as well: where each is,
    /// and how many words it has.
    pub(super) fn parts(&self) -> [(usize, usize); 6] {
        [
            (0, HEADER_WORDS),
            (self.hashes_at, self.names),
            (self.locations_at, self.names),
            (self.shared_at, self.names * SHARED_WORDS),
            (self.rows_at, self.cells_at + self.row_cells),
            (self.rows_at + self.rings_at(), self.ring_size().words()),
        ]
    }

    /// Words that a board of this layout has.
    pub(super) const fn words(&self) -> usize {
        self.rows_at + self.rows * self.row_words
    }

    /// Where a row begins.
    pub(super) const fn row_at(&self, row: usize) -> usize {
        self.rows_at + row * self.row_words
    }

    /// From the beginning of a row to the rings of its last decisions.
    pub(super) const fn rings_at(&self) -> usize {
        self.cells_at + self.row_cells
    }

    pub(super) const fn ring_size(&self) -> RingSize {
        RingSize::of(self.rows)
    }

    /// Writes it into the header of a board that is all zero, and what a board is known by.
    pub(super) fn write(&self, words: &[AtomicU64]) {
        let write = |at: usize, values: &[usize]| {
            for (word, &value) in words[at..].iter().zip(values) {
                word.store(value as u64, Ordering::Relaxed);
            }
        };
        write(STRIDES_AT, &self.strides());
        for table in Table::ALL {
            write(table_at(table), &strides_of(table));
        }
        words[VERSION_AT].store(VERSION, Ordering::Relaxed);
        words[MAGIC_AT].store(MAGIC, Ordering::Release);
    }

    /// The layout of a board of this version, as its header says; none when the header cannot be
    /// true.
    pub(super) fn read(words: &[AtomicU64]) -> Option<Self> {
        let read = |at: usize| usize::try_from(words.get(at)?.load(Ordering::Relaxed)).ok();
        let names = read(STRIDES_AT + 3)?.checked_sub(1)?;
        let (rows, row_cells) = (read(STRIDES_AT + 6)?, read(STRIDES_AT + 9)?);
        let is_possible = names <= NAMES_MAX && rows <= ROWS_MAX && row_cells <= ROW_CELLS_MAX;
        let layout = is_possible.then(|| Self::of(names, rows, row_cells))?;
        let agree = |at: usize, expected: &[usize]| {
            (at..)
                .zip(expected)
                .all(|(at, &expected)| read(at) == Some(expected))
        };
        let is_so = agree(STRIDES_AT, &layout.strides())
            && Table::ALL
                .iter()
                .all(|&table| agree(table_at(table), &strides_of(table)));
        (is_so && layout.words() <= words.len()).then_some(layout)
    }

    fn strides(&self) -> [usize; 15] {
        [
            self.hashes_at,
            self.locations_at,
            self.shared_at,
            self.names,
            SHARED_WORDS,
            self.rows_at,
            self.rows,
            self.row_words,
            self.cells_at,
            self.row_cells,
            ODDITIES_AT,
            ODDITIES,
            Table::ALL.len(),
            self.rings_at(),
            self.ring_size().words(),
        ]
    }
}

const fn table_at(table: Table) -> usize {
    TABLES_AT + table as usize * TABLE_WORDS
}

fn strides_of(table: Table) -> [usize; TABLE_WORDS] {
    let width = Width::of(table);
    [
        width.cells,
        width.first_gauge,
        width.histogram_at,
        width.buckets,
    ]
}
