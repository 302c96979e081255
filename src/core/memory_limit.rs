//! How much memory may be used for bytes that wait, by what a process and its machine have.

use std::fmt;

/// Bytes that wait take at most this much, whatever a machine has.
pub(crate) const WAITING_BYTES_MAX: usize = 64 << 20;
/// And may take this much on the smallest.
pub(crate) const WAITING_BYTES_MIN: usize = 256 << 10;

/// One part in so many of what there is may be taken by bytes that wait.
const WAITING_PARTS: u64 = 8;
/// Spare buffers may have one part in so many of that, beside it.
pub const SPARE_PARTS: usize = 16;
/// One part in so many may be taken by the tables of connections.
const CONNECTION_PARTS: u64 = 4;
/// What each takes there, in bytes, the growing of the tables included.
pub const CONNECTION_BYTES: u64 = 1024;

/// What limits the memory of a process, in bytes; none where nothing does, or nobody says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryLimits {
    /// What the machine has.
    pub machine: Option<u64>,
    /// What its control group may use, with all that runs there.
    pub group: Option<u64>,
    /// Addresses of each process (`RLIMIT_AS`).
    pub addresses: Option<u64>,
}

impl fmt::Display for MemoryLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [
            (self.machine, "machine"),
            (self.group, "control group"),
            (self.addresses, "addresses"),
        ];
        let known = limits
            .into_iter()
            .filter_map(|(bytes, of)| Some((bytes?, of)));
        for (index, (bytes, of)) in known.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{of} {} KiB", bytes / 1024)?;
        }
        Ok(())
    }
}

impl MemoryLimits {
    /// What all processes together have, and whose limit that is.
    #[must_use]
    pub fn shared(&self) -> Option<(u64, &'static str)> {
        let limits = [(self.machine, "machine"), (self.group, "control group")];
        let known = limits
            .into_iter()
            .filter_map(|(bytes, of)| Some((bytes?, of)));
        known.min_by_key(|(bytes, _)| *bytes)
    }

    /// What bytes that wait may take in each of so many processes.
    #[must_use]
    pub fn waiting_bytes(&self, processes: usize) -> usize {
        let part = |bytes: u64| usize::try_from(bytes / WAITING_PARTS).unwrap_or(usize::MAX);
        let shared = [self.machine, self.group].into_iter().flatten().min();
        let shared = shared.map_or(usize::MAX, part).min(WAITING_BYTES_MAX);
        let own = self.addresses.map_or(usize::MAX, part);
        let share = shared / processes.max(1);
        share.min(own).max(WAITING_BYTES_MIN)
    }

    /// How many connections a process has addresses for.
    #[must_use]
    pub fn connections(&self) -> usize {
        let count = |bytes: u64| bytes / CONNECTION_PARTS / CONNECTION_BYTES;
        let count = self.addresses.map(count);
        count.map_or(usize::MAX, |it| {
            usize::try_from(it.max(1)).unwrap_or(usize::MAX)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn limits(machine: u64, group: Option<u64>, addresses: Option<u64>) -> MemoryLimits {
        MemoryLimits {
            machine: Some(machine * MIB),
            group: group.map(|mib| mib * MIB),
            addresses: addresses.map(|mib| mib * MIB),
        }
    }

    #[test]
    fn an_eighth_of_the_least_is_shared_out() {
        for (limits, processes, expected_kib) in [
            (MemoryLimits::default(), 1, 64 << 10),
            (MemoryLimits::default(), 4, 16 << 10),
            (limits(24_000, None, None), 1, 64 << 10),
            (limits(128, None, None), 1, 16 << 10),
            (limits(128, None, None), 2, 8 << 10),
            (limits(24_000, Some(16), None), 1, 2 << 10),
            (limits(24_000, Some(16), None), 2, 1 << 10),
            (limits(8, Some(16), None), 1, 1 << 10),
            (limits(24_000, None, Some(16)), 1, 2 << 10),
            // Every process has addresses of its own.
            (limits(24_000, None, Some(16)), 2, 2 << 10),
            (limits(24_000, Some(16), Some(16)), 2, 1 << 10),
            (limits(24_000, Some(1), None), 1, 256),
            (limits(24_000, None, None), 1_000, 256),
        ] {
            let bytes = limits.waiting_bytes(processes);
            assert_eq!(bytes, expected_kib << 10, "{limits:?} for {processes}");
        }
    }

    #[test]
    fn connections_are_as_many_as_there_are_addresses_for() {
        assert_eq!(limits(24_000, Some(16), None).connections(), usize::MAX);
        assert_eq!(limits(24_000, None, Some(16)).connections(), 4_096);
        let none = MemoryLimits {
            addresses: Some(0),
            ..MemoryLimits::default()
        };
        assert_eq!(none.connections(), 1);
    }
}
