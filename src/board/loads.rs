//! In which columns loads have changed, so that nobody has to add up those of all columns.
//!
//! Each worker writes the columns in which its load changes into its row, one after the other in a
//! circle, and how many it has written so far. The others follow, each at its own pace: what they
//! have not read yet they look at, and where they were too slow they look at everything once. A
//! load is read after its note, so it is at least as new as that; that it may be newer does no
//! harm, as nobody counts notes.

use std::sync::atomic::Ordering;

use super::cells::RowCell;
use super::layout::{NOTE_WORDS, NOTES_AT};
use super::{BackendColumn, Board};
use crate::sys::word::AtomicU64;

/// Notes that a word has room for: numbers of columns need 13 bits.
const NOTES_PER_WORD: u64 = 4;
/// Notes that a row remembers.
const NOTES: u64 = NOTE_WORDS as u64 * NOTES_PER_WORD;

/// How far somebody has read the notes of each row.
#[derive(Clone, Debug, Default)]
pub struct NotesRead {
    rows: Vec<u64>,
}

impl Board {
    /// Tells the others that our load in a column is another. To be called after it has changed.
    pub(crate) fn note_load(&self, column: BackendColumn) {
        if !self.is_shared() || !column.is_listed() {
            return;
        }
        let written = self.head(self.row, RowCell::LoadNotes);
        let number = written.load(Ordering::Relaxed).max(1);
        let word = self.note_word(self.row, number);
        let at = 16 * (number % NOTES_PER_WORD);
        let others = word.load(Ordering::Relaxed) & !(0xffff << at);
        word.store(others | u64::from(column.number) << at, Ordering::Release);
        written.store(number + 1, Ordering::Release);
    }

    /// Appends the numbers of the columns in which others have noted a change since the last time.
    /// False when it can no longer be told which these are, or never could: then it may be any.
    pub(crate) fn read_notes(&self, read: &mut NotesRead, columns: &mut Vec<usize>) -> bool {
        read.rows.resize(self.layout.rows, 0);
        let mut is_all = true;
        for row in (0..self.rows_used()).filter(|&row| row != self.row) {
            is_all &= self.read_notes_of(row, &mut read.rows[row], columns);
        }
        is_all
    }

    /// The notes of one row.
    fn read_notes_of(&self, row: usize, read: &mut u64, columns: &mut Vec<usize>) -> bool {
        let written = self.head(row, RowCell::LoadNotes);
        let until = written.load(Ordering::Acquire);
        let from = std::mem::replace(read, until);
        if until == 0 {
            // A worker without notes does not know of them.
            return self.head(row, RowCell::Pid).load(Ordering::Relaxed) == 0;
        }
        if until.wrapping_sub(from) >= NOTES {
            return false;
        }
        for number in from..until {
            let word = self.note_word(row, number).load(Ordering::Acquire);
            let column = word >> (16 * (number % NOTES_PER_WORD)) & 0xffff;
            columns.push(usize::try_from(column).unwrap_or(0));
        }
        // What was overwritten meanwhile was not read.
        written.load(Ordering::Acquire).wrapping_sub(from) < NOTES
    }

    fn note_word(&self, row: usize, number: u64) -> &AtomicU64 {
        let at = usize::try_from(number / NOTES_PER_WORD).unwrap_or(0) % NOTE_WORDS;
        &self.words()[self.layout.row_at(row) + NOTES_AT + at]
    }
}
