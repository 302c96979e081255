//! What is wrong with a configuration file, and where.

use std::fmt::{self, Write as _};

use crate::core::sort::sorted;

/// A place in a file. Both count from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position {
    /// The line.
    pub(crate) line: usize,
    /// The column.
    pub(crate) column: usize,
}

impl Position {
    /// Where a file begins.
    pub(crate) const START: Self = Self { line: 1, column: 1 };

    /// The place of the byte at `index` of `text`, which must be a character boundary.
    pub(super) fn of_byte(text: &str, index: usize) -> Self {
        let before = text.get(..index).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// One error or warning. Displays as `file:line:column: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named.
    pub(crate) file: String,
    /// Where in it; none when it could not be read at all.
    pub(crate) at: Option<Position>,
    /// Whether weir runs in spite of it.
    pub(crate) warning: bool,
    /// Key, value and what is allowed.
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(at) = self.at {
            write!(f, "{}:{}:", at.line, at.column)?;
        }
        let kind = if self.warning { " warning:" } else { "" };
        write!(f, "{kind} ")?;
        // A value that it quotes may have any letter, and a problem is one line.
        for letter in self.message.chars() {
            match letter.is_control() && letter != '\t' {
                true => write!(f, "{}", letter.escape_default())?,
                false => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// Those of one place stay in their order.
#[must_use]
pub(crate) fn by_place(problems: &[Problem]) -> Vec<Problem> {
    let places = sorted(problems.len(), &|a, b| problems[a].at.cmp(&problems[b].at));
    places.into_iter().map(|at| problems[at].clone()).collect()
}

/// Collects problems, so that all of them are reported at once.
#[derive(Debug, Default)]
pub(super) struct Problems {
    file: String,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            ..Self::default()
        }
    }

    pub(super) fn error(&mut self, at: Position, message: impl Into<String>) {
        self.note(at, false, message.into());
    }

    pub(super) fn warning(&mut self, at: Position, message: impl Into<String>) {
        self.note(at, true, message.into());
    }

    /// Whether there is no error so far.
    pub(super) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    #[inline(never)]
    fn note(&mut self, at: Position, warning: bool, message: String) {
        let problem = Problem {
            file: self.file.clone(),
            at: Some(at),
            warning,
            message,
        };
        match warning {
            true => self.warnings.push(problem),
            false => self.errors.push(problem),
        }
    }

    /// Warnings and errors, sorted by place.
    pub(super) fn finish(&self) -> (Vec<Problem>, Vec<Problem>) {
        (by_place(&self.warnings), by_place(&self.errors))
    }
}
