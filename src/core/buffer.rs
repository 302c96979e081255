//! Byte buffers for what waits for the other side, charged to the account of all that waits.
//!
//! A session holds a buffer only while bytes wait in it. Reads go to the worker's scratch space
//! first, so a relay that keeps up never touches the pool.

use crate::core::account::{Account, Purpose};
use crate::core::memory_limit::SPARE_PARTS;

/// Bytes that wait for the other side: taken from the front.
#[derive(Debug)]
#[must_use = "a buffer goes back to its pool"]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// So many have been taken.
    start: usize,
}

impl Buffer {
    /// The bytes that wait.
    #[must_use]
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// How many bytes wait.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether no byte waits.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is allocated for them.
    #[must_use]
    pub(crate) const fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Drops `count` bytes from the front.
    ///
    /// # Panics
    /// When fewer bytes wait.
    pub(crate) fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consume past the end of a buffer");
        self.start += count;
    }
}

/// What is read at once where memory is scarce, and where it is nearly gone, in bytes.
pub(crate) const SMALL_BYTES: usize = 4 * 1024;
/// See [`SMALL_BYTES`].
pub(crate) const TINY_BYTES: usize = 512;

/// Lends buffers, and says how much may be read that might have to wait in one.
///
/// While less than half of the account is in use, buffers have one capacity and are used again.
/// Beyond that they are as small as what they hold, and less is read at once; the less there is,
/// the less. So a crowd of stalled readers makes the others slower before it has all of it; then
/// who reads waits until something is given back.
#[derive(Debug)]
pub(crate) struct BufferPool {
    account: Account,
    spare: Vec<Vec<u8>>,
    /// For bytes that have been read and find no memory: while it is lent, nobody reads.
    emergency: Option<Vec<u8>>,
    emergency_bytes: usize,
    capacity_bytes: usize,
    lent: usize,
    spare_max: usize,
}

impl BufferPool {
    /// A pool of buffers of `capacity_bytes` that are charged to an account of `memory_bytes`. It
    /// starts empty, but for what one read of at most `read_bytes_max` leads to, and keeps a
    /// sixteenth of the account, at most `spare_bytes_max`, for reuse; the rest is freed.
    ///
    /// # Panics
    /// When the capacity is below [`SMALL_BYTES`].
    #[must_use]
    pub(crate) fn new(
        capacity_bytes: usize,
        memory_bytes: usize,
        read_bytes_max: usize,
        spare_bytes_max: usize,
    ) -> Self {
        assert!(
            capacity_bytes >= SMALL_BYTES,
            "no buffer is smaller than a small one"
        );
        let spare_bytes_max = spare_bytes_max.min(memory_bytes / SPARE_PARTS);
        Self {
            account: Account::new(memory_bytes),
            spare: Vec::new(),
            emergency: Some(Vec::with_capacity(read_bytes_max)),
            emergency_bytes: read_bytes_max,
            capacity_bytes,
            lent: 0,
            spare_max: (spare_bytes_max / capacity_bytes).max(1),
        }
    }

    /// What everything that waits is charged to.
    #[must_use]
    pub(crate) const fn account(&self) -> &Account {
        &self.account
    }

    /// The same, to charge it.
    pub(crate) const fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// The capacity of a buffer while there is plenty.
    #[must_use]
    pub(crate) const fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }

    /// Whether there is memory enough for buffers of full capacity.
    fn is_plenty(&self) -> bool {
        let used = self.account.used(Purpose::Transit) + self.capacity_bytes;
        used <= self.account.most() / 2
            && self.capacity_bytes <= self.account.room(Purpose::Transit)
    }

    /// How much may be read that might have to wait, of at most `wanted` bytes: all of it while
    /// there is plenty, and 0 when the reader has to wait itself.
    #[must_use]
    #[inline]
    pub(crate) fn readable(&self, wanted: usize) -> usize {
        // A quarter is below half of what one purpose can have.
        let total = self.account.total() + self.capacity_bytes;
        if total <= self.account.bytes_max() / 4 && self.emergency.is_some() {
            return wanted;
        }
        self.readable_of_little(wanted)
    }

    #[cold]
    fn readable_of_little(&self, wanted: usize) -> usize {
        let (used, most) = (self.account.used(Purpose::Transit), self.account.most());
        if self.emergency.is_none() {
            return 0;
        }
        if self.is_plenty() {
            return wanted;
        }
        let room = self.account.room(Purpose::Transit);
        let grade = match used + SMALL_BYTES <= most / 8 * 7 && SMALL_BYTES <= room {
            true => SMALL_BYTES,
            false if TINY_BYTES <= room => TINY_BYTES,
            false => 0,
        };
        wanted.min(grade)
    }

    /// Lends a buffer that holds these bytes, all of them, whatever there is.
    pub(crate) fn hold(&mut self, parts: &[&[u8]]) -> Buffer {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = self.allocate(total);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        self.account.force(Purpose::Transit, bytes.capacity());
        self.lent += 1;
        Buffer { bytes, start: 0 }
    }

    /// Room for so many bytes. Only what has been read already comes here, and that is less than
    /// what is set aside.
    fn allocate(&mut self, total: usize) -> Vec<u8> {
        let is_pooled = total <= self.capacity_bytes && self.is_plenty();
        if is_pooled && let Some(spare) = self.spare.pop() {
            return spare;
        }
        let mut bytes = Vec::new();
        let capacity = if is_pooled {
            self.capacity_bytes
        } else {
            total
        };
        if bytes.try_reserve_exact(capacity).is_err()
            && let Some(emergency) = self.emergency.take_if(|it| total <= it.capacity())
        {
            return emergency;
        }
        bytes
    }

    /// Takes a buffer back; what waited in it is gone.
    pub(crate) fn give(&mut self, buffer: Buffer) {
        let mut bytes = buffer.bytes;
        self.account.give(Purpose::Transit, bytes.capacity());
        self.lent -= 1;
        bytes.clear();
        if self.emergency.is_none() && bytes.capacity() >= self.emergency_bytes {
            self.emergency = Some(bytes);
        } else if bytes.capacity() == self.capacity_bytes && self.spare.len() < self.spare_max {
            self.spare.push(bytes);
        }
    }

    /// How many buffers are lent now.
    #[must_use]
    pub(crate) const fn lent(&self) -> usize {
        self.lent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE_BYTES: usize = 8192;

    fn pool(memory_bytes: usize) -> BufferPool {
        BufferPool::new(LARGE_BYTES, memory_bytes, 2 * LARGE_BYTES, memory_bytes)
    }

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let mut pool = pool(1 << 20);
        let mut buffer = pool.hold(&[b"abc", b"", b"defgh"]);
        buffer.consume(4);
        assert_eq!((buffer.filled(), buffer.len()), (&b"efgh"[..], 4));
        buffer.consume(4);
        assert!(buffer.is_empty());
        pool.give(buffer);
        assert_eq!((pool.lent(), pool.account().total()), (0, 0));
    }

    /// Readers that stall, one after the other, each with all that it could read.
    #[test]
    fn the_less_there_is_the_less_is_read_until_who_reads_waits() {
        let mut pool = pool(1 << 20);
        let (mut held, mut reads) = (Vec::new(), Vec::new());
        loop {
            let readable = pool.readable(2 * LARGE_BYTES);
            if readable == 0 {
                break;
            }
            reads.push(readable);
            held.push(pool.hold(&[&vec![b'x'; readable]]));
        }
        assert!(reads.is_sorted_by(|one, next| one >= next), "{reads:?}");
        let count = |bytes| reads.iter().filter(|&&read| read == bytes).count();
        assert!(count(2 * LARGE_BYTES) > 15, "{reads:?}");
        assert!(
            count(SMALL_BYTES) > 50 && count(TINY_BYTES) > 100,
            "{reads:?}"
        );
        let most = pool.account().most();
        let used = pool.account().used(Purpose::Transit);
        assert!(used <= most && used > most - TINY_BYTES, "{used} of {most}");
        let last = held.pop().expect("one");
        pool.give(last);
        assert_eq!(pool.readable(LARGE_BYTES), TINY_BYTES, "one may go on");
        for buffer in held {
            pool.give(buffer);
        }
        assert_eq!((pool.lent(), pool.account().total()), (0, 0));
        assert_eq!(pool.readable(2 * LARGE_BYTES), 2 * LARGE_BYTES);
    }

    #[test]
    fn what_has_been_read_is_held_and_then_nothing_more_is_read() {
        let mut pool = pool(SMALL_BYTES);
        let long = vec![b'x'; 9000];
        let buffer = pool.hold(&[b"head", &long]);
        assert_eq!(buffer.len(), 9004);
        assert_eq!(&buffer.filled()[..5], b"headx");
        assert_eq!(pool.readable(1), 0);
        pool.give(buffer);
        assert_eq!(pool.readable(1), 1);
    }

    #[test]
    fn where_memory_is_gone_one_read_is_held_all_the_same() {
        let mut pool = pool(1 << 20);
        let emergency = pool.emergency.take();
        assert_eq!(pool.readable(1), 0, "while another has what is set aside");
        let bytes = emergency.expect("set aside");
        pool.account.force(Purpose::Transit, bytes.capacity());
        pool.lent += 1;
        pool.give(Buffer { bytes, start: 0 });
        assert_eq!(pool.readable(1), 1, "and after that");
        assert!(pool.spare.is_empty());
    }

    #[test]
    fn only_some_returned_buffers_are_kept() {
        let mut pool = pool(20 * LARGE_BYTES);
        let (one, two) = (pool.hold(&[b"1"]), pool.hold(&[b"2"]));
        let small = pool.hold(&[&vec![b'x'; 2 * LARGE_BYTES]]);
        for buffer in [one, two, small] {
            pool.give(buffer);
        }
        assert_eq!(pool.spare.len(), 1);
        let again = pool.hold(&[b"3"]);
        assert!(pool.spare.is_empty(), "it is used again");
        assert_eq!(again.filled(), b"3");
        pool.give(again);
    }
}
