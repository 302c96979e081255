//! A word of 64 bits that processes share.
//!
//! Where the machine has no atomic one, it is two halves. Then one process alone may write, and
//! another that reads may see a number that has just passed a multiple of 2^32 too large once: good
//! enough for what is shown, and the reason why there are no workers on such a machine.

#[cfg(target_has_atomic = "64")]
pub use std::sync::atomic::AtomicU64;

#[cfg(not(target_has_atomic = "64"))]
pub use halves::AtomicU64;

/// Whether several processes may write the same word.
pub const MAY_BE_SHARED: bool = cfg!(target_has_atomic = "64");

#[cfg(any(test, not(target_has_atomic = "64")))]
#[allow(
    unreachable_pub,
    reason = "where the machine has its own it is only tested"
)]
mod halves {
    use std::sync::atomic::Ordering::{self, SeqCst};
    use std::sync::atomic::{AtomicU32, fence};

    /// The part of the standard library's type that is used.
    #[derive(Debug, Default)]
    #[repr(C, align(8))]
    pub struct AtomicU64 {
        low: AtomicU32,
        high: AtomicU32,
    }

    #[allow(missing_docs, reason = "as in the standard library")]
    impl AtomicU64 {
        pub fn load(&self, _: Ordering) -> u64 {
            loop {
                let high = self.high.load(SeqCst);
                let low = self.low.load(SeqCst);
                if self.high.load(SeqCst) == high {
                    return (u64::from(high) << 32) | u64::from(low);
                }
            }
        }

        #[allow(clippy::cast_possible_truncation, reason = "each takes its half")]
        pub fn store(&self, value: u64, _: Ordering) {
            self.high.store((value >> 32) as u32, SeqCst);
            self.low.store(value as u32, SeqCst);
            fence(SeqCst);
        }

        pub fn swap(&self, value: u64, order: Ordering) -> u64 {
            let before = self.load(order);
            self.store(value, order);
            before
        }

        pub fn fetch_add(&self, count: u64, order: Ordering) -> u64 {
            self.swap(self.load(order).wrapping_add(count), order)
        }

        pub fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
            self.swap(self.load(order).max(value), order)
        }

        /// # Errors
        /// What there is, when that is something else than was expected.
        pub fn compare_exchange(
            &self,
            expected: u64,
            value: u64,
            order: Ordering,
            _: Ordering,
        ) -> Result<u64, u64> {
            let found = self.load(order);
            if found == expected {
                self.store(value, order);
                return Ok(found);
            }
            Err(found)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::halves::AtomicU64;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn two_halves_count_as_one_word() {
        assert_eq!((size_of::<AtomicU64>(), align_of::<AtomicU64>()), (8, 8));
        let word = AtomicU64::default();
        word.store(u64::from(u32::MAX), Relaxed);
        assert_eq!(word.fetch_add(1, Relaxed), u64::from(u32::MAX));
        assert_eq!(word.load(Relaxed), 1 << 32);
        assert_eq!(word.fetch_max(7, Relaxed), 1 << 32);
        assert_eq!(word.compare_exchange(7, 8, Relaxed, Relaxed), Err(1 << 32));
        assert_eq!(
            word.compare_exchange(1 << 32, 8, Relaxed, Relaxed),
            Ok(1 << 32)
        );
        assert_eq!(word.fetch_add(u64::MAX, Relaxed), 8);
        assert_eq!(word.swap(0, Relaxed), 7);
    }
}
