//! The timing wheel against a list that is sorted.

use proptest::collection::vec;
use proptest::prelude::*;
use weir::core::time::Tick;
use weir::core::timer::{TimerKey, TimerWheel};

#[derive(Clone, Debug)]
enum Step {
    /// Arms a timer this far from the present, or this far before it.
    Arm { ahead_ms: u64, past: bool },
    /// Cancels one of the keys handed out so far, stale or not.
    Cancel(prop::sample::Index),
    /// Moves the present this far and fires.
    Expire { ahead_ms: u64 },
    /// Moves the present to where the wheel wants to be woken.
    ExpireNext,
}

/// Distances of every magnitude, the small ones as likely as the large ones.
fn distance_ms() -> impl Strategy<Value = u64> {
    (0..64_u32, any::<u64>()).prop_map(|(bits, drawn)| (drawn | 1 << 63) >> (63 - bits))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (distance_ms(), prop::bool::weighted(0.1))
            .prop_map(|(ahead_ms, past)| Step::Arm { ahead_ms, past }),
        4 => (0..200_u64).prop_map(|ahead_ms| Step::Arm { ahead_ms, past: false }),
        2 => any::<prop::sample::Index>().prop_map(Step::Cancel),
        1 => distance_ms().prop_map(|ahead_ms| Step::Expire { ahead_ms }),
        2 => (0..100_u64).prop_map(|ahead_ms| Step::Expire { ahead_ms }),
        2 => Just(Step::ExpireNext),
    ]
}

/// Armed timers as (deadline, number in the order of arming).
#[derive(Default)]
struct Model {
    now: u64,
    armed: Vec<(u64, usize)>,
}

impl Model {
    fn expire(&mut self, now: u64) -> Vec<usize> {
        self.now = self.now.max(now);
        self.armed.sort_unstable();
        let due = self.armed.partition_point(|&(at, _)| at <= self.now);
        self.armed.drain(..due).map(|(_, number)| number).collect()
    }

    fn earliest(&self) -> Option<u64> {
        self.armed.iter().map(|&(at, _)| at).min()
    }
}

/// The wheel and its model, taking the same steps.
struct Pair {
    wheel: TimerWheel<usize>,
    model: Model,
    keys: Vec<TimerKey>,
}

impl Pair {
    fn new(now: u64) -> Self {
        Self {
            wheel: TimerWheel::new(Tick(now)),
            model: Model {
                now,
                armed: Vec::new(),
            },
            keys: Vec::new(),
        }
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let now = self.model.now;
        match step {
            Step::Arm { ahead_ms, past } => self.arm(match past {
                true => now.saturating_sub(*ahead_ms),
                false => now.saturating_add(*ahead_ms),
            }),
            Step::Cancel(index) if !self.keys.is_empty() => {
                self.cancel(index.index(self.keys.len()))?;
            }
            Step::Cancel(_) => {}
            Step::Expire { ahead_ms } => self.expire(now.saturating_add(*ahead_ms))?,
            Step::ExpireNext => {
                if let Some(next) = self.wheel.next() {
                    self.expire(next.0)?;
                }
            }
        }
        self.check()
    }

    fn arm(&mut self, at: u64) {
        let number = self.keys.len();
        self.keys.push(self.wheel.arm(Tick(at), number));
        self.model.armed.push((at.max(self.model.now), number));
    }

    fn cancel(&mut self, number: usize) -> Result<(), TestCaseError> {
        let place = self.model.armed.iter().position(|&(_, n)| n == number);
        let expected = place.map(|place| self.model.armed.remove(place).1);
        prop_assert_eq!(self.wheel.cancel(self.keys[number]), expected);
        Ok(())
    }

    fn expire(&mut self, now: u64) -> Result<(), TestCaseError> {
        let mut due = Vec::new();
        self.wheel.expire(Tick(now), &mut due);
        prop_assert_eq!(due, self.model.expire(now));
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.wheel.len(), self.model.armed.len());
        prop_assert_eq!(self.wheel.is_empty(), self.model.armed.is_empty());
        let (next, earliest) = (self.wheel.next(), self.model.earliest());
        prop_assert_eq!(next.is_some(), earliest.is_some());
        if let (Some(next), Some(earliest)) = (next, earliest) {
            prop_assert!(next.0 <= earliest);
            prop_assert!(next.0 >= self.model.now);
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_wheel_fires_what_a_sorted_list_fires(
        start in distance_ms(),
        steps in vec(step(), 1..300),
    ) {
        let mut pair = Pair::new(start);
        for step in &steps {
            pair.step(step)?;
        }
        pair.expire(u64::MAX)?;
        prop_assert!(pair.wheel.is_empty());
    }

    #[test]
    fn waking_only_when_the_wheel_asks_fires_every_timer_exactly_on_time(
        start in distance_ms(),
        distances in vec(distance_ms(), 1..50),
    ) {
        let mut wheel = TimerWheel::new(Tick(start));
        for distance in &distances {
            let at = Tick(start).after_ms(*distance);
            wheel.arm(at, at);
        }
        let mut wakeups = 0;
        while let Some(next) = wheel.next() {
            let mut due = Vec::new();
            wheel.expire(next, &mut due);
            prop_assert!(due.iter().all(|&at| at == next));
            wakeups += 1;
            prop_assert!(wakeups <= 11 * distances.len());
        }
        prop_assert!(wheel.is_empty());
    }
}
