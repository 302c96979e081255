//! The last decisions of each worker, in rings in its row: they outlive it, and whoever has the row
//! next goes on behind them.
//!
//! A ring has one writer and no lock. Each entry begins with a word that is odd while the entry is
//! written and afterwards tells its number and length, so that a reader takes whole entries only,
//! and leaves those out that somebody died in.

use std::sync::atomic::{Ordering, fence};

use super::Board;
use crate::core::decision::{DECISION_WORDS, DecisionWords};
use crate::sys::word::AtomicU64;

/// Which ring keeps a decision, so that what there is much of does not push out what is rare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Keep {
    /// It failed on the side of weir or a backend, or had to be tried again.
    Failed = 0,
    /// It failed on the client's side, or was slow.
    Odd,
    /// Nothing is special about it.
    Plain,
}

impl Keep {
    const ALL: [Self; 3] = [Self::Failed, Self::Odd, Self::Plain];

    /// Entries of its ring.
    const fn entries(self, size: RingSize) -> usize {
        match self {
            Self::Failed => 2 * size.0,
            Self::Odd | Self::Plain => size.0,
        }
    }

    /// Where it begins among the words of all rings.
    const fn at(self, size: RingSize) -> usize {
        let mut at = HEAD_WORDS;
        let mut ring = 0;
        while ring < self as usize {
            at += Self::ALL[ring].entries(size) * ENTRY_WORDS;
            ring += 1;
        }
        at
    }
}

/// The most that the rings of a process take, in bytes.
pub const RINGS_BYTES_MAX: usize = RingSize::of(1).words() * 8;

/// Entries of the smallest ring of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RingSize(usize);

impl RingSize {
    /// That of a board with so many rows: boards of few rows are for where addresses are few, and
    /// more of them are needed for sessions.
    pub(super) const fn of(rows: usize) -> Self {
        match rows {
            2..=32 => Self(8),
            33..=64 => Self(40),
            _ => Self(160),
        }
    }

    /// Words of all rings of a row, at most 250 KiB; what was never written takes no memory.
    pub(super) const fn words(self) -> usize {
        Keep::Plain.at(self) + Keep::Plain.entries(self) * ENTRY_WORDS
    }
}

/// How many entries were written so far, by ring.
const HEAD_WORDS: usize = 8;
const ENTRY_WORDS: usize = 1 + DECISION_WORDS;

impl Board {
    /// Keeps a decision, in the place of the oldest one of its ring.
    pub(crate) fn keep(&self, keep: Keep, decision: &DecisionWords) {
        let (ring, size) = (self.rings_of(self.row), self.layout.ring_size());
        let written = &ring[keep as usize];
        let number = written.load(Ordering::Relaxed);
        let slot = usize::try_from(number).unwrap_or(0) % keep.entries(size);
        let entry = &ring[keep.at(size) + slot * ENTRY_WORDS..][..ENTRY_WORDS];
        let words = decision.used();
        entry[0].store(BUSY, Ordering::Relaxed);
        fence(Ordering::Release);
        for (to, &from) in entry[1..].iter().zip(words) {
            to.store(from, Ordering::Relaxed);
        }
        let sequence = number << NUMBER_AT | (words.len() as u64) << LENGTH_AT;
        entry[0].store(sequence, Ordering::Release);
        written.store(number.wrapping_add(1), Ordering::Relaxed);
    }

    /// Looks at each decision that a row has and that is whole.
    pub fn each_decision(&self, row: usize, mut look: impl FnMut(&[u64; DECISION_WORDS])) {
        if row >= self.layout.rows {
            return;
        }
        for entry in self.rings_of(row)[HEAD_WORDS..].chunks_exact(ENTRY_WORDS) {
            if let Some(words) = whole(entry) {
                look(&words);
            }
        }
    }

    fn rings_of(&self, row: usize) -> &[AtomicU64] {
        let at = self.layout.row_at(row) + self.layout.rings_at();
        &self.words()[at..][..self.layout.ring_size().words()]
    }
}

/// What an entry begins with: whether it is being written, how many words it has, its number.
const BUSY: u64 = 1;
const LENGTH_AT: u32 = 1;
const NUMBER_AT: u32 = 8;

/// An entry, unless it is being written, or never was.
fn whole(entry: &[AtomicU64]) -> Option<[u64; DECISION_WORDS]> {
    let sequence = entry[0].load(Ordering::Acquire);
    if sequence == 0 || sequence & BUSY != 0 {
        return None;
    }
    let length = (sequence >> LENGTH_AT & 0x7f) as usize;
    let mut words = [0; DECISION_WORDS];
    for (to, from) in words.iter_mut().zip(&entry[1..]).take(length) {
        *to = from.load(Ordering::Relaxed);
    }
    fence(Ordering::Acquire);
    (entry[0].load(Ordering::Relaxed) == sequence).then_some(words)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::super::words_within;
    use super::*;
    use crate::core::decision::{Decision, GIST_WORDS};
    use crate::sys::shm::Mapping;

    fn filled(value: u64, used: usize) -> DecisionWords {
        DecisionWords {
            words: [value; DECISION_WORDS],
            used,
        }
    }

    fn all(board: &Board, row: usize) -> Vec<[u64; DECISION_WORDS]> {
        let mut found = Vec::new();
        board.each_decision(row, |words| found.push(*words));
        found
    }

    #[test]
    fn a_ring_keeps_its_last_entries_and_leaves_others_alone() {
        let board = Board::private().expect("memory");
        assert!(all(&board, 0).is_empty());
        board.keep(Keep::Failed, &filled(u64::MAX, DECISION_WORDS));
        let entries = Keep::Plain.entries(RingSize::of(1)) as u64;
        for value in 1..=3 * entries + 1 {
            board.keep(Keep::Plain, &filled(value, DECISION_WORDS));
        }
        let mut values: Vec<u64> = all(&board, 0).iter().map(|words| words[0]).collect();
        values.sort_unstable();
        let mut expected: Vec<u64> = (2 * entries + 2..=3 * entries + 1).collect();
        expected.push(u64::MAX);
        assert_eq!(values, expected);
        assert!(all(&board, 1).is_empty() && all(&board, usize::MAX).is_empty());
    }

    #[test]
    fn words_of_the_entry_before_do_not_count() {
        let board = Board::private().expect("memory");
        for _ in 0..Keep::Odd.entries(RingSize::of(1)) {
            board.keep(Keep::Odd, &filled(7, DECISION_WORDS));
        }
        board.keep(Keep::Odd, &filled(8, GIST_WORDS));
        let found = all(&board, 0);
        let short = found.iter().find(|words| words[0] == 8).expect("it");
        assert!(
            short[GIST_WORDS..].iter().all(|&word| word == 0),
            "{short:?}"
        );
    }

    #[test]
    fn a_board_that_grows_keeps_them() {
        let mut board = Board::private().expect("memory");
        board.keep(Keep::Failed, &filled(9, DECISION_WORDS));
        for n in 0..200 {
            let _: super::super::BackendColumn = board.open(&format!("backend a/{n}"));
        }
        assert_eq!(all(&board, 0), [[9; DECISION_WORDS]]);
    }

    #[test]
    fn an_entry_that_somebody_died_in_is_left_out_and_written_again() {
        let (memory, fd) = Mapping::create(words_within(Some(1 << 30))).expect("memory");
        let reader = Board::create(memory, 1);
        let attach = || Mapping::attach(fd.as_fd()).expect("the same");
        let worker = Board::attach(attach(), 1, 2).expect("a row");
        worker.keep(Keep::Failed, &filled(1, DECISION_WORDS));
        worker.keep(Keep::Failed, &filled(2, DECISION_WORDS));
        let second = &worker.rings_of(1)[Keep::Failed.at(worker.layout.ring_size()) + ENTRY_WORDS];
        // As it is after half of a second one, which was not counted.
        second.store(BUSY, Ordering::Relaxed);
        worker.rings_of(1)[Keep::Failed as usize].store(1, Ordering::Relaxed);
        drop(worker);
        reader.bury(1);
        assert_eq!(all(&reader, 1), [[1; DECISION_WORDS]]);
        let next = Board::attach(attach(), 1, 3).expect("a row");
        next.keep(Keep::Failed, &filled(3, DECISION_WORDS));
        assert_eq!(all(&reader, 1), [[1; DECISION_WORDS], [3; DECISION_WORDS]]);
    }

    #[test]
    fn a_reader_beside_a_writer_sees_whole_entries_only() {
        let (memory, fd) = Mapping::create(words_within(Some(1 << 30))).expect("memory");
        let reader = Board::create(memory, 1);
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let memory = Mapping::attach(fd.as_fd()).expect("the same");
                let worker = Board::attach(memory, 1, 2).expect("a row");
                for value in 1..200_000 {
                    worker.keep(Keep::Odd, &filled(value, DECISION_WORDS));
                }
            });
            let mut seen = 0_u64;
            loop {
                let was_over = writer.is_finished();
                for words in all(&reader, 1) {
                    assert!(words.iter().all(|&word| word == words[0]), "{words:?}");
                    let _ = Decision::read(&words);
                    seen += 1;
                }
                if was_over {
                    break;
                }
            }
            assert!(seen >= 40);
        });
    }
}
