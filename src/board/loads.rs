//! In which columns loads have changed, so that nobody has to add up those of all columns.
//!
//! Each worker writes the columns in which its load changes into its row, one after the other in a
//! circle, and how many it has written so far. The others follow, each at its own pace: what they
//! have not read yet they look at, and where they were too slow they look at everything once. A
//! load is read after its note, so it is at least as new as that; that it may be newer does no
//! harm, as nobody counts notes.

use std::sync::atomic::Ordering;

use super::cells::RowCell;
use super::{Board, Column, PAGE_WORDS, ROWS_MAX, Shared, row_at};

/// Where the notes of a row are in its head, in words. A weir that does not know these leaves them
/// alone, and its number of notes at 0.
const NOTES_AT: usize = PAGE_WORDS / 2;
const NOTE_WORDS: usize = PAGE_WORDS - NOTES_AT;
/// Notes that a word has room for: columns need 12 bits.
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
    pub fn note_load(&self, column: Column) {
        let Some(shared) = self.shared.as_ref().filter(|_| column.is_shared()) else {
            return;
        };
        let written = shared.head(shared.row, RowCell::LoadNotes);
        let number = written.load(Ordering::Relaxed).max(1);
        let word = shared.note_word(shared.row, number);
        let at = 16 * (number % NOTES_PER_WORD);
        let others = word.load(Ordering::Relaxed) & !(0xffff << at);
        word.store(others | (column.0 as u64) << at, Ordering::Release);
        written.store(number + 1, Ordering::Release);
    }

    /// Appends the columns in which others have noted a change since the last time. False when it
    /// can no longer be told which these are, or never could: then it may be any.
    pub fn read_notes(&self, read: &mut NotesRead, columns: &mut Vec<Column>) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        read.rows.resize(ROWS_MAX, 0);
        let mut is_all = true;
        for row in (0..shared.rows_used()).filter(|&row| row != shared.row) {
            is_all &= shared.read_notes(row, &mut read.rows[row], columns);
        }
        is_all
    }
}

impl Shared {
    /// The notes of one row.
    fn read_notes(&self, row: usize, read: &mut u64, columns: &mut Vec<Column>) -> bool {
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
            columns.push(Column(usize::try_from(column).unwrap_or(0)));
        }
        // What was overwritten meanwhile was not read.
        written.load(Ordering::Acquire).wrapping_sub(from) < NOTES
    }

    fn note_word(&self, row: usize, number: u64) -> &std::sync::atomic::AtomicU64 {
        let at = usize::try_from(number / NOTES_PER_WORD).unwrap_or(0) % NOTE_WORDS;
        &self.words()[row_at(row) + NOTES_AT + at]
    }
}
