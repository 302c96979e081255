//! One direction of a relay, as a decision: fill, drain, shut down, wait or done.
//!
//! A flow knows no bytes. It is asked for the next step with what is known of both ends, and told
//! what the step found. Its three phases only go forward: while `Open` the source may yet send;
//! `Draining` means the source has ended and what is held must still leave; `Shut` means the
//! target was told the end.

use crate::core::readiness::Readiness;

/// Where a flow stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlowPhase {
    /// The source may send more.
    Open,
    /// The source has ended; held bytes still have to leave.
    Draining,
    /// Everything was delivered and the target's write half is shut down.
    Shut,
}

/// What to do next for a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read from the source.
    Fill,
    /// Write held bytes to the target.
    Drain,
    /// Shut down the target's write half: everything was delivered.
    Shutdown,
    /// Nothing can be done before another event.
    Wait,
    /// This direction is over.
    Done,
}

/// One direction of a relay.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    phase: FlowPhase,
    moved: u64,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            phase: FlowPhase::Open,
            moved: 0,
        }
    }
}

impl Flow {
    /// The next step, given the readiness of both ends and the bytes held between them.
    ///
    /// Held bytes leave before new ones are read: a target that does not take them stops the
    /// reading, which is the back-pressure.
    #[must_use]
    pub fn next(&self, source: Readiness, target: Readiness, held_bytes: usize) -> Step {
        let can_write = target.has(Readiness::WRITE);
        match self.phase {
            FlowPhase::Shut => Step::Done,
            _ if held_bytes > 0 && can_write => Step::Drain,
            _ if held_bytes > 0 => Step::Wait,
            FlowPhase::Draining => Step::Shutdown,
            FlowPhase::Open if source.has(Readiness::READ) && can_write => Step::Fill,
            FlowPhase::Open => Step::Wait,
        }
    }

    /// Bytes left for the target.
    pub(crate) fn on_moved(&mut self, count: usize) {
        self.moved += count as u64;
    }

    /// The source has ended its direction.
    pub fn on_source_end(&mut self) {
        if self.phase == FlowPhase::Open {
            self.phase = FlowPhase::Draining;
        }
    }

    /// The target's write half was shut down.
    pub fn on_shutdown(&mut self) {
        self.phase = FlowPhase::Shut;
    }

    /// Bytes that have left for the target so far.
    #[must_use]
    pub(crate) fn moved_bytes(&self) -> u64 {
        self.moved
    }

    /// Whether the source may send more.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == FlowPhase::Open
    }

    /// Whether this direction is over.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.phase == FlowPhase::Shut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Readiness = Readiness::READ;

    fn step(flow: &Flow, read: bool, write: bool, held: usize) -> Step {
        let source = if read { BOTH } else { Readiness::NONE };
        let target = if write {
            Readiness::WRITE
        } else {
            Readiness::NONE
        };
        flow.next(source, target, held)
    }

    #[test]
    fn an_open_flow_fills_only_when_the_bytes_can_leave() {
        let flow = Flow::default();
        assert_eq!(step(&flow, true, true, 0), Step::Fill);
        assert_eq!(
            step(&flow, true, false, 0),
            Step::Wait,
            "a stalled target stops the reading"
        );
        assert_eq!(step(&flow, false, true, 0), Step::Wait);
    }

    #[test]
    fn held_bytes_leave_before_anything_else() {
        let mut flow = Flow::default();
        assert_eq!(step(&flow, true, true, 9), Step::Drain);
        assert_eq!(step(&flow, true, false, 9), Step::Wait);
        flow.on_source_end();
        assert_eq!(
            step(&flow, false, true, 9),
            Step::Drain,
            "the end does not overtake bytes"
        );
        assert_eq!(
            step(&flow, false, false, 0),
            Step::Shutdown,
            "an end needs no writability"
        );
    }

    #[test]
    fn a_shut_flow_is_done_for_good() {
        let mut flow = Flow::default();
        flow.on_source_end();
        flow.on_shutdown();
        flow.on_source_end();
        assert_eq!(step(&flow, true, true, 0), Step::Done);
    }
}
