//! The board: counters and gauges in columns of cells, one writer per cell.
//!
//! Every listener and every backend owns a column. The worker that owns a row writes it with
//! plain loads and stores; whoever wants totals reads. Today a board is private memory with one
//! row; the same shape can be a mapping that several processes share, a row each.

use std::sync::atomic::{AtomicU64, Ordering};

/// Cells in a column.
const COLUMN_CELLS: usize = 16;

/// A column of the board: one listener's or one backend's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column(usize);

/// What is counted, as a cell of a column.
pub trait Cell: Copy {
    /// Its place in the column, below 16.
    fn index(self) -> usize;
}

/// What is counted of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ListenerCell {
    /// Connections accepted.
    Accepted,
    /// Gauge: sessions now.
    Active,
    /// Bytes received from clients.
    BytesIn,
    /// Bytes sent to clients.
    BytesOut,
    /// Connections refused because no backend was usable.
    Refused,
    /// Sessions ended by a timeout.
    TimedOut,
    /// Sessions ended by a reset from either side.
    Reset,
    /// Sessions cut by the end of a drain.
    Cut,
    /// Times that accepting was paused at a limit.
    Paused,
    /// Requests received (HTTP).
    Requests,
}

impl Cell for ListenerCell {
    fn index(self) -> usize {
        self as usize
    }
}

/// What is counted of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BackendCell {
    /// Times it was picked.
    Picks,
    /// Gauge: connections (TCP) or requests in flight (HTTP) now.
    Active,
    /// Bytes sent to it.
    BytesOut,
    /// Bytes received from it.
    BytesIn,
    /// Connection attempts that failed or timed out.
    ConnectFailures,
    /// Attempts made here after another backend had failed.
    Retries,
    /// Ejections by failures of real traffic.
    Ejections,
    /// Probes passed.
    ProbesPassed,
    /// Probes failed.
    ProbesFailed,
    /// Gauge: whether it takes traffic, 0 or 1.
    Up,
    /// Requests that it took and did not answer, not in time, or with a status that counts as a
    /// failure.
    AnswerFailures,
}

impl Cell for BackendCell {
    fn index(self) -> usize {
        self as usize
    }
}

/// A table of cells with one writer.
#[derive(Debug, Default)]
pub struct Board {
    cells: Vec<[AtomicU64; COLUMN_CELLS]>,
    free: Vec<usize>,
}

impl Board {
    /// An empty board in private memory.
    #[must_use]
    pub fn private() -> Self {
        Self::default()
    }

    /// Gives a zeroed column to a new owner.
    pub fn open(&mut self) -> Column {
        let index = self.free.pop().unwrap_or_else(|| {
            self.cells.push([const { AtomicU64::new(0) }; COLUMN_CELLS]);
            self.cells.len() - 1
        });
        Column(index)
    }

    /// Takes a column back from an owner that has gone.
    pub fn close(&mut self, column: Column) {
        for cell in &self.cells[column.0] {
            cell.store(0, Ordering::Relaxed);
        }
        self.free.push(column.0);
    }

    /// Adds to a cell.
    pub fn add(&self, column: Column, cell: impl Cell, count: u64) {
        let cell = &self.cells[column.0][cell.index()];
        cell.store(
            cell.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    }

    /// Takes from a gauge.
    pub fn sub(&self, column: Column, cell: impl Cell, count: u64) {
        let cell = &self.cells[column.0][cell.index()];
        cell.store(
            cell.load(Ordering::Relaxed).wrapping_sub(count),
            Ordering::Relaxed,
        );
    }

    /// Sets a gauge.
    pub fn set(&self, column: Column, cell: impl Cell, value: u64) {
        self.cells[column.0][cell.index()].store(value, Ordering::Relaxed);
    }

    /// Reads a cell.
    #[must_use]
    pub fn get(&self, column: Column, cell: impl Cell) -> u64 {
        self.cells[column.0][cell.index()].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_given_back_is_zero_for_its_next_owner() {
        let mut board = Board::private();
        let (one, other) = (board.open(), board.open());
        board.add(one, ListenerCell::Accepted, 3);
        board.add(other, ListenerCell::Accepted, 4);
        board.close(one);
        let next = board.open();
        assert_eq!(next, one);
        assert_eq!(board.get(next, ListenerCell::Accepted), 0);
        assert_eq!(board.get(other, ListenerCell::Accepted), 4);
    }

    #[test]
    fn a_gauge_goes_up_and_down() {
        let mut board = Board::private();
        let column = board.open();
        board.add(column, BackendCell::Active, 2);
        board.sub(column, BackendCell::Active, 1);
        assert_eq!(board.get(column, BackendCell::Active), 1);
    }
}
