//! Reads of the board while a supervisor moves there what a dead worker has counted.

use std::hint::spin_loop;

use crate::board::Board;

/// Looks at what is being moved, before it is read as it is: a supervisor that has been killed in
/// the midst of it does not go on. Some tens of milliseconds.
const LOOKS_MAX: u32 = 1 << 20;
/// Times that the same is read: each but the first is for a worker that has died meanwhile.
const READS_MAX: u32 = 64;

/// Who reads sums that nothing is missing from, and in which nothing is counted twice.
#[derive(Debug, Default)]
pub(crate) struct Steady {
    /// What was never moved to its end.
    given_up: Option<u64>,
}

impl Steady {
    /// Has something read, again if anything was moved meanwhile.
    pub(crate) fn read(&mut self, board: &Board, mut read: impl FnMut()) {
        for _ in 0..READS_MAX {
            let moves = self.settled(board);
            read();
            if board.is_unmoved(moves) {
                return;
            }
        }
    }

    fn settled(&mut self, board: &Board) -> u64 {
        let mut moves = board.moves();
        for _ in 0..LOOKS_MAX {
            if moves.is_multiple_of(2) || self.given_up == Some(moves) {
                return moves;
            }
            spin_loop();
            moves = board.moves();
        }
        self.given_up = Some(moves);
        moves
    }
}
