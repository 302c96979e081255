//! Nobody waits in the accept queue of a worker that does not turn: the others accept for it.
//!
//! That a worker is stopped or has died the kernel tells at once. That it is stuck shows in its
//! heartbeat on the board, which has to be looked at.

use log::{info, warn};

use crate::board::RowState;
use crate::core::slots::{LOOK_ASLEEP_MS, Slots};
use crate::core::time::Tick;
use crate::supervisor::Supervisor;
use crate::supervisor::worker_handle::WorkerPhase;

/// A worker that is awake and has not turned for so long is stuck.
const BEAT_AGE_MAX_MS: u64 = 50;
/// Between two looks while a worker is awake.
const LOOK_AWAKE_MS: u64 = 25;

/// Whether a worker that serves does not turn.
fn is_stuck(row: &RowState, now: Tick) -> bool {
    // Zero is before its first turn.
    row.beat > Tick(0) && !row.asleep && now.since_ms(row.beat) > BEAT_AGE_MAX_MS
}

/// The slots that the worker of that number accepts from: every `n`-th is its own, and it stands in
/// for those that are not well.
fn slots_of(number: usize, well: &[bool], slots: u8) -> Slots {
    let is_ours = |slot: &u8| {
        let owner = usize::from(*slot) % well.len().max(1);
        owner == number || !well.get(owner).copied().unwrap_or(false)
    };
    (0..slots).filter(is_ours).fold(Slots::NONE, Slots::with)
}

impl Supervisor {
    /// Looks at the heartbeats, if it is time to.
    pub(super) fn look_at_beats(&mut self) {
        if self.now < self.next_look {
            return;
        }
        let mut is_anyone_awake = false;
        let mut is_changed = false;
        for managed in &mut self.workers {
            let Some(worker) = &mut managed.handle else {
                continue;
            };
            worker.flush();
            is_anyone_awake |= worker.is_behind();
            let Some(row) = worker.row.filter(|_| worker.phase == WorkerPhase::Serving) else {
                continue;
            };
            let row = self.board.row(row.into());
            is_anyone_awake |= !row.asleep;
            let stuck = is_stuck(&row, self.now);
            if stuck != worker.stuck {
                worker.stuck = stuck;
                is_changed = true;
                if worker.stopped {
                    // It has been said.
                } else if stuck {
                    warn!("worker {}: stuck; the others accept for it", worker.number);
                } else {
                    info!("worker {}: turns again", worker.number);
                }
            }
        }
        self.leaving.iter_mut().for_each(super::WorkerHandle::flush);
        let pause = if is_anyone_awake {
            LOOK_AWAKE_MS
        } else {
            LOOK_ASLEEP_MS
        };
        self.next_look = self.now.after_ms(pause);
        if is_changed {
            self.share_out_slots();
        }
    }

    /// The slots that a worker begins with: its own.
    pub(super) fn slots_at_start(&self, number: usize) -> Slots {
        slots_of(
            number,
            &vec![true; self.workers.len()],
            self.sockets.slots(),
        )
    }

    /// Tells every worker which slots to accept from.
    pub(super) fn share_out_slots(&mut self) {
        let well: Vec<bool> = self
            .workers
            .iter()
            .map(|managed| {
                managed
                    .handle
                    .as_ref()
                    .is_some_and(super::WorkerHandle::is_well)
            })
            .collect();
        let slots = self.sockets.slots();
        for (index, managed) in self.workers.iter_mut().enumerate() {
            if let Some(worker) = &mut managed.handle {
                let is_ill = worker.phase == WorkerPhase::Serving && !worker.is_well();
                let was_ill = std::mem::replace(&mut worker.is_relieved, is_ill);
                self.rescues += u64::from(is_ill && !was_ill);
                worker.accept_from(slots_of(index, &well, slots));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_worker_that_is_awake_and_does_not_turn_is_stuck() {
        let row = |beat, asleep| RowState {
            pid: 1,
            incarnation: 1,
            beat: Tick(beat),
            asleep,
            ..RowState::default()
        };
        assert!(is_stuck(&row(1000, false), Tick(1051)));
        assert!(!is_stuck(&row(1000, false), Tick(1050)));
        assert!(!is_stuck(&row(1000, true), Tick(9000)));
        assert!(!is_stuck(&row(0, false), Tick(9000)));
    }

    #[test]
    fn every_slot_is_accepted_from_whoever_is_not_well() {
        for n in 1..=5_usize {
            for ill in 0..1_u32 << n {
                let well: Vec<bool> = (0..n).map(|number| ill >> number & 1 == 0).collect();
                for slot in 0..6 {
                    let takers: Vec<usize> = (0..n)
                        .filter(|&number| well[number] && slots_of(number, &well, 6).has(slot))
                        .collect();
                    let owner = usize::from(slot) % n;
                    if well[owner] {
                        assert_eq!(takers, [owner]);
                    } else {
                        assert_eq!(takers.len(), well.iter().filter(|it| **it).count());
                    }
                }
            }
        }
    }
}
