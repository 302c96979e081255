//! What the rows of a board say of their workers, and what remains of those that have died.

use std::sync::atomic::{Ordering, fence};

use super::cells::{BackendWord, RowCell, Width, Word as _};
use super::directory::Location;
use super::layout::{Layout, MOVES_AT, ODDITIES_AT, ROWS_USED_AT};
use super::{Board, add};
use crate::core::http::oddity::Oddity;
use crate::core::lease::{FREE, Holder, Term};
use crate::core::table::Table;
use crate::core::time::Tick;
use crate::sys::shm::Mapping;
use crate::sys::word::AtomicU64;

/// What a row says of its worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// Connections to backends it has.
    pub connections: u64,
    /// Bytes that wait in it for somebody to take them.
    pub waiting_bytes: u64,
    /// The most that may wait.
    pub waiting_bytes_max: u64,
    /// Descriptors that it may have; 0 while it has not said.
    pub descriptors_max: u64,
    /// Milliseconds for which its loop was busy, all together.
    pub busy_ms: u64,
    /// The same of the longest turn.
    pub longest_turn_ms: u64,
}

/// How much of what it shares a worker uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Connections to backends.
    pub(crate) connections: usize,
    /// Bytes that wait for somebody to take them.
    pub(crate) waiting_bytes: usize,
}

/// What a worker cannot exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub(crate) waiting_bytes: usize,
    pub(crate) descriptors: u64,
}

// What a worker says.
impl Board {
    /// The board for the process that has that row from now on.
    pub(super) fn in_row(memory: Mapping, layout: Layout, row: usize, pid: u32) -> Self {
        let words = memory.words();
        words[ROWS_USED_AT].fetch_max(row as u64 + 1, Ordering::AcqRel);
        let head = |cell: RowCell| &words[layout.row_at(row) + cell as usize];
        let before = head(RowCell::Incarnation).load(Ordering::Relaxed);
        let incarnation = u16::try_from(before % 0xffff + 1).unwrap_or(1);
        head(RowCell::Incarnation).store(u64::from(incarnation), Ordering::Relaxed);
        head(RowCell::Leaves).store(0, Ordering::Relaxed);
        head(RowCell::LoadNotes).fetch_max(1, Ordering::Relaxed);
        head(RowCell::Pid).store(u64::from(pid), Ordering::Release);
        Self::seen_from(memory, layout, row, incarnation)
    }

    /// The board as it is seen from a row.
    pub(super) fn seen_from(memory: Mapping, layout: Layout, row: usize, incarnation: u16) -> Self {
        Self {
            memory,
            layout,
            row,
            row_at: layout.row_at(row),
            cells_at: layout.row_at(row) + layout.cells_at,
            holder: Holder {
                row: u8::try_from(row).expect("fewer than 256 rows"),
                incarnation,
            },
            next_number: 1,
            room: None,
        }
    }

    /// Says that we live and are about to wait, and what we use, once a turn.
    #[inline]
    pub(crate) fn rest(&self, now: Tick, usage: Usage) {
        let (head, bytes) = (self.own_head(), usage.waiting_bytes as u64);
        head[RowCell::Connections as usize].store(usage.connections as u64, Ordering::Relaxed);
        head[RowCell::WaitingBytes as usize].store(bytes, Ordering::Relaxed);
        head[RowCell::Beat as usize].store(now.0, Ordering::Relaxed);
        head[RowCell::Asleep as usize].store(1, Ordering::Relaxed);
    }

    /// Says that we live, and wait no more.
    #[inline]
    pub(crate) fn wake(&self, now: Tick) {
        let head = self.own_head();
        head[RowCell::Beat as usize].store(now.0, Ordering::Relaxed);
        head[RowCell::Asleep as usize].store(0, Ordering::Relaxed);
    }

    /// Says what we cannot exceed.
    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        let head = |cell| self.head(self.row, cell);
        let bytes = bounds.waiting_bytes as u64;
        head(RowCell::WaitingBytesMax).store(bytes, Ordering::Relaxed);
        head(RowCell::DescriptorsMax).store(bounds.descriptors, Ordering::Relaxed);
    }

    /// Says that a turn of our loop has taken so long.
    #[cold]
    pub(crate) fn add_busy(&self, ms: u64) {
        add(self.head(self.row, RowCell::BusyMs), ms);
        let longest = self.head(self.row, RowCell::LongestTurnMs);
        if longest.load(Ordering::Relaxed) < ms {
            longest.store(ms, Ordering::Relaxed);
        }
    }

    /// Says how many client connections we have.
    pub(crate) fn set_sessions(&self, count: usize) {
        let sessions = self.head(self.row, RowCell::Sessions);
        sessions.store(count as u64, Ordering::Relaxed);
    }

    /// Says how many access log lines we have lost.
    pub(crate) fn set_lines_lost(&self, count: u64) {
        let lost = self.head(self.row, RowCell::LinesLost);
        lost.store(count, Ordering::Relaxed);
    }

    /// Counts a response that was odd in this way.
    pub(crate) fn count_oddity(&self, kind: Oddity) {
        add(self.oddity(self.row, kind), 1);
    }

    /// Says that this worker is about to end.
    pub(crate) fn set_leaves(&self) {
        let leaves = self.head(self.row, RowCell::Leaves);
        leaves.store(1, Ordering::SeqCst);
    }
}

// What all have said.
impl Board {
    /// Access log lines that all workers have lost, also those that are gone.
    #[must_use]
    pub fn lines_lost(&self) -> u64 {
        self.sum(RowCell::LinesLost as usize)
    }

    /// Responses that were odd in this way, to all workers, also those that are gone.
    #[must_use]
    pub fn oddities(&self, kind: Oddity) -> u64 {
        self.sum(ODDITIES_AT + kind as usize)
    }

    /// Client connections of all others.
    #[must_use]
    pub fn sessions_elsewhere(&self) -> u64 {
        self.sum_of_others(RowCell::Sessions as usize)
    }

    /// Whether another worker goes on, as far as it has said. `runs` tells whether a process of
    /// that id runs. Of workers that say at the same moment that they are about to end, and then
    /// ask, at least the last finds nobody.
    #[must_use]
    pub(crate) fn is_anyone_staying(&self, runs: impl Fn(u32) -> bool) -> bool {
        let stays = |row: usize| {
            let pid = self.head(row, RowCell::Pid).load(Ordering::SeqCst);
            let leaves = self.head(row, RowCell::Leaves).load(Ordering::SeqCst) != 0;
            let pid = u32::try_from(pid).unwrap_or(0);
            row != self.row && pid != 0 && !leaves && runs(pid)
        };
        // Row 0 is no worker's.
        (1..self.layout.rows).any(stays)
    }

    /// What the row says of its worker; all zero where there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> RowState {
        let read = |cell| {
            let has_row = row < self.layout.rows;
            let head = has_row.then(|| self.head(row, cell));
            head.map_or(0, |cell| cell.load(Ordering::Relaxed))
        };
        RowState {
            pid: u32::try_from(read(RowCell::Pid)).unwrap_or(0),
            incarnation: u16::try_from(read(RowCell::Incarnation)).unwrap_or(0),
            beat: Tick(read(RowCell::Beat)),
            asleep: read(RowCell::Asleep) != 0,
            sessions: read(RowCell::Sessions),
            connections: read(RowCell::Connections),
            waiting_bytes: read(RowCell::WaitingBytes),
            waiting_bytes_max: read(RowCell::WaitingBytesMax),
            descriptors_max: read(RowCell::DescriptorsMax),
            busy_ms: read(RowCell::BusyMs),
            longest_turn_ms: read(RowCell::LongestTurnMs),
        }
    }

    /// How often what a dead worker has counted was moved, twice; odd while it is: then some of it
    /// may be read twice, or not at all.
    #[must_use]
    pub fn moves(&self) -> u64 {
        self.words()[MOVES_AT].load(Ordering::Acquire)
    }

    /// Whether nothing was moved since [`Board::moves`] said so much, which is even.
    #[must_use]
    pub fn is_unmoved(&self, moves: u64) -> bool {
        // What was read before is not read later than this.
        fence(Ordering::Acquire);
        self.words()[MOVES_AT].load(Ordering::Relaxed) == moves
    }

    /// What our row says of us, looked for once for all of its cells.
    fn own_head(&self) -> &[AtomicU64; ODDITIES_AT] {
        let head = self.words()[self.row_at..].first_chunk();
        head.expect("a row begins with its head")
    }

    pub(super) fn head(&self, row: usize, cell: RowCell) -> &AtomicU64 {
        &self.words()[self.layout.row_at(row) + cell as usize]
    }

    fn oddity(&self, row: usize, kind: Oddity) -> &AtomicU64 {
        &self.words()[self.layout.row_at(row) + ODDITIES_AT + kind as usize]
    }

    /// The sum of what is at one place of a row over all rows.
    fn sum(&self, at: usize) -> u64 {
        let own = &self.words()[self.layout.row_at(self.row) + at];
        own.load(Ordering::Relaxed)
            .wrapping_add(self.sum_of_others(at))
    }
}

// What the supervisor does.
impl Board {
    /// No row from this one on belongs to anybody, and nobody needs to add it up.
    pub fn limit_rows(&self, rows: usize) {
        self.words()[ROWS_USED_AT].store(rows as u64, Ordering::Release);
    }

    /// The row's worker has died: what it counted goes to row 0, its gauges are zeroed, its
    /// leases are free, and everybody is asked to look. Only for a row whose process is gone.
    pub fn bury(&self, row: usize) {
        if row == 0 || row >= self.layout.rows {
            return;
        }
        let moves = &self.words()[MOVES_AT];
        // One that has died in the midst of it has left it odd.
        let odd = moves.load(Ordering::Relaxed) | 1;
        moves.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        self.move_counts(row);
        moves.store(odd.wrapping_add(1), Ordering::Release);
        self.touch();
    }

    fn move_counts(&self, row: usize) {
        self.all_listed()
            .for_each(|location| self.bury_column(row, location));
        inherit(
            self.head(row, RowCell::LinesLost),
            self.head(0, RowCell::LinesLost),
        );
        for kind in Oddity::ALL {
            inherit(self.oddity(row, kind), self.oddity(0, kind));
        }
        for cell in [
            RowCell::Pid,
            RowCell::Beat,
            RowCell::Asleep,
            RowCell::Sessions,
            RowCell::Leaves,
            RowCell::LoadNotes,
            RowCell::Connections,
            RowCell::WaitingBytes,
            RowCell::WaitingBytesMax,
            RowCell::DescriptorsMax,
            RowCell::BusyMs,
            RowCell::LongestTurnMs,
        ] {
            self.head(row, cell).store(0, Ordering::Relaxed);
        }
    }

    fn bury_column(&self, row: usize, location: Location) {
        let (dead, kept) = (self.cells_of(row, location), self.cells_of(0, location));
        let (counters, gauges) = dead.split_at(Width::of(location.table).first_gauge);
        counters
            .iter()
            .zip(kept)
            .for_each(|(dead, kept)| inherit(dead, kept));
        gauges.iter().for_each(clear);
        if location.table == Table::Backends {
            self.free_lease(row, location);
        }
    }

    fn free_lease(&self, row: usize, location: Location) {
        let lease =
            &self.words()[self.shared_at(location.number) + BackendWord::ProbeLease.index()];
        let word = lease.load(Ordering::Acquire);
        if Term::read(word).is_some_and(|term| usize::from(term.holder.row) == row) {
            // Nobody else writes it before it ends, unless it has just been taken over.
            let _ = lease.compare_exchange(word, FREE, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

/// What the dead has counted is kept.
fn inherit(dead: &AtomicU64, kept: &AtomicU64) {
    let count = dead.load(Ordering::Relaxed);
    // What was never written is no memory yet.
    if count != 0 {
        dead.store(0, Ordering::Relaxed);
        add(kept, count);
    }
}

/// Zeroes what is not zero: what was never written is no memory yet.
pub(super) fn clear(cell: &AtomicU64) {
    if cell.load(Ordering::Relaxed) != 0 {
        cell.store(0, Ordering::Relaxed);
    }
}
