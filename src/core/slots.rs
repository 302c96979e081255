//! The sockets of a TCP listener that several processes share: each has its own, known by its slot.

use std::fmt;

/// Between two looks of a supervisor, while all workers wait for events, whether somebody has to
/// accept from the slots of another.
pub const LOOK_ASLEEP_MS: u64 = 100;

/// A set of slots, of which there may be 128.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Slots(u128);

impl Slots {
    /// No slot.
    pub const NONE: Self = Self(0);
    /// Every slot.
    pub const ALL: Self = Self(u128::MAX);

    /// Adds a slot below 128.
    #[must_use]
    pub fn with(self, slot: u8) -> Self {
        Self(self.0 | Self::bit(slot))
    }

    /// Whether a slot is in it.
    #[must_use]
    pub fn has(self, slot: u8) -> bool {
        self.0 & Self::bit(slot) != 0
    }

    /// One bit a slot, slot 0 the lowest.
    #[must_use]
    pub fn bits(self) -> u128 {
        self.0
    }

    /// The set of [`Slots::bits`].
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    fn bit(slot: u8) -> u128 {
        1_u128.checked_shl(slot.into()).unwrap_or(0)
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slots({:#x})", self.0)
    }
}
