//! What there is to see.

use std::collections::{HashSet, VecDeque};

use crate::admin::outline::{Facts, Outline, Phase};
use crate::board::{BackendColumn, Board, CodeClass, RowState};
use crate::core::time::Tick;

/// What is configured, and how it goes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) outline: Outline,
    pub(crate) facts: Facts,
    /// Names that reloads took away, by key, the latest last: requests of before may tell of them.
    gone: VecDeque<(u64, String)>,
}

/// How many names are remembered that have gone.
const GONE_MAX: usize = 1_024;

impl Seen {
    /// That is configured from now on.
    pub(crate) fn adopt(&mut self, outline: Outline) {
        let before = std::mem::replace(&mut self.outline, outline);
        let keys: HashSet<u64> = self.outline.names().iter().map(|(key, _)| *key).collect();
        for (key, name) in before.names() {
            if !keys.contains(&key) {
                self.gone.push_back((key, name.to_owned()));
            }
        }
        self.gone.drain(..self.gone.len().saturating_sub(GONE_MAX));
    }

    /// All that there is to see at this moment, in milliseconds since 1970.
    pub(crate) fn view<'a>(&'a self, board: &'a Board, now: Tick, unix_ms: u64) -> View<'a> {
        View {
            board,
            outline: &self.outline,
            facts: &self.facts,
            gone: &self.gone,
            now,
            unix_ms,
        }
    }
}

/// All that an answer is made of, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) board: &'a Board,
    pub(crate) outline: &'a Outline,
    pub(crate) facts: &'a Facts,
    pub(crate) gone: &'a VecDeque<(u64, String)>,
    /// On the clock of the machine that ticks come from.
    pub(crate) now: Tick,
    /// Milliseconds since 1970.
    pub(crate) unix_ms: u64,
}

impl View<'_> {
    /// Whether weir is to be sent clients.
    ///
    /// # Errors
    /// Why not, in a word.
    pub(crate) fn readiness(&self) -> Result<(), &'static str> {
        match self.facts.phase {
            Phase::Serving if !self.board.is_first_round_over(self.now) => Err("checking"),
            Phase::Serving => Ok(()),
            other @ (Phase::Starting | Phase::Ending) => Err(other.word()),
        }
    }

    /// How often a backend has answered.
    pub(crate) fn responses(&self, column: BackendColumn) -> u64 {
        let classes = CodeClass::ALL.into_iter();
        let counts = classes.map(|class| self.board.total(column, class));
        counts.fold(0, u64::wrapping_add)
    }

    /// What a row says of its worker, if it has one. A process on its own has row 0, which under a
    /// supervisor is no worker's.
    pub(crate) fn worker(&self, row: usize) -> Option<RowState> {
        let state = self.board.row(row);
        let is_alone = !self.board.is_shared() && self.facts.workers_wanted == 0;
        (is_alone || (row > 0 && state.pid != 0)).then_some(state)
    }

    /// For how long a worker has given no sign of life, in milliseconds; 0 while it waits.
    pub(crate) fn beat_age_ms(&self, row: &RowState) -> u64 {
        match row.asleep {
            true => 0,
            false => self.now.since_ms(row.beat),
        }
    }
}
