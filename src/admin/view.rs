//! What there is to see.

use crate::admin::outline::{Facts, Outline};
use crate::board::Board;
use crate::core::time::Tick;

/// All that an answer is made of, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) board: &'a Board,
    pub(crate) outline: &'a Outline,
    pub(crate) facts: &'a Facts,
    /// On the clock of the machine that ticks come from.
    pub(crate) now: Tick,
    /// Milliseconds since 1970.
    pub(crate) unix_ms: u64,
}
