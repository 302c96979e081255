//! The only notion of time below the reactor: milliseconds of a clock that never goes back.

use std::time::Duration;

/// An instant, in milliseconds since the machine started (CLOCK_MONOTONIC), so that the ticks of
/// all processes of a machine compare. The reactor reads the clock once per turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The instant `span` later, rounded up to the next millisecond; saturates.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        let rest_ms = u64::from(span.subsec_nanos().div_ceil(1_000_000));
        let span_ms = span.as_secs().saturating_mul(1_000);
        Self(self.0.saturating_add(span_ms).saturating_add(rest_ms))
    }

    /// The instant `ms` milliseconds later; saturates.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since_ms(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An instant of the same clock in microseconds, for what is told and not acted on: deadlines are
/// ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The tick in which it lies.
    #[must_use]
    pub fn tick(self) -> Tick {
        Tick(self.0 / 1_000)
    }

    /// Microseconds from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub(crate) fn since_us(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl From<Tick> for Moment {
    /// The first of the tick.
    fn from(tick: Tick) -> Self {
        Self(tick.0.saturating_mul(1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_millisecond_counts_as_a_whole_one() {
        assert_eq!(Tick(5).after(Duration::from_micros(1_001)), Tick(7));
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Tick(u64::MAX).after(Duration::from_secs(1)), Tick(u64::MAX));
        assert_eq!(Tick(1).since_ms(Tick(9)), 0);
    }

    #[test]
    fn a_moment_lies_in_its_tick() {
        assert_eq!(Moment(5_999).tick(), Tick(5));
        assert_eq!(Moment::from(Tick(5)), Moment(5_000));
        assert_eq!(Moment(5_999).since_us(Moment(5_001)), 998);
        assert_eq!(Moment(1).since_us(Moment(9)), 0);
    }
}
