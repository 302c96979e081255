//! Fixed-capacity byte buffers from a pool with a hard limit.
//!
//! A session holds a buffer only while bytes wait in it. Reads go to the worker's scratch space
//! first, so a relay that keeps up never touches the pool.

/// Bytes that wait for the other side: written at the end, taken from the front.
#[derive(Debug)]
#[must_use = "a buffer goes back to its pool"]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// The bytes that wait.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How many bytes wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no byte waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes it holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// How many more bytes fit, counting the space that consumed bytes have left.
    #[must_use]
    pub fn room(&self) -> usize {
        self.bytes.len() - self.len()
    }

    /// The contiguous free space; call [`Buffer::advance`] with how much of it was filled.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.bytes[self.end..]
    }

    /// Takes `count` bytes of the free space as filled.
    ///
    /// # Panics
    /// When more is claimed than there was space for.
    pub fn advance(&mut self, count: usize) {
        assert!(
            self.end + count <= self.bytes.len(),
            "advance past the end of a buffer"
        );
        self.end += count;
    }

    /// Appends as much of `from` as fits and says how much that was.
    pub fn append(&mut self, from: &[u8]) -> usize {
        let space = self.space();
        let count = from.len().min(space.len());
        space[..count].copy_from_slice(&from[..count]);
        self.advance(count);
        count
    }

    /// Drops `count` bytes from the front.
    ///
    /// # Panics
    /// When fewer bytes wait.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consume past the end of a buffer");
        self.start += count;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }
}

/// Lends buffers of one capacity, never more than a limit at once.
#[derive(Debug)]
pub struct BufferPool {
    spare: Vec<Box<[u8]>>,
    capacity_bytes: usize,
    lent: usize,
    buffers_max: usize,
    spare_max: usize,
}

impl BufferPool {
    /// A pool that lends at most `buffers_max` buffers of `capacity_bytes` at once. It starts
    /// empty and keeps at most `spare_max` returned buffers for reuse; the rest is freed.
    #[must_use]
    pub fn new(capacity_bytes: usize, buffers_max: usize, spare_max: usize) -> Self {
        Self {
            spare: Vec::new(),
            capacity_bytes,
            lent: 0,
            buffers_max,
            spare_max,
        }
    }

    /// Lends an empty buffer, or none at the limit.
    pub fn take(&mut self) -> Option<Buffer> {
        if self.lent == self.buffers_max {
            return None;
        }
        self.lent += 1;
        let bytes = self
            .spare
            .pop()
            .unwrap_or_else(|| vec![0; self.capacity_bytes].into_boxed_slice());
        Some(Buffer {
            bytes,
            start: 0,
            end: 0,
        })
    }

    /// Takes a buffer back; what waited in it is gone.
    pub fn give(&mut self, buffer: Buffer) {
        debug_assert_eq!(
            buffer.bytes.len(),
            self.capacity_bytes,
            "a buffer of another pool"
        );
        self.lent -= 1;
        if self.spare.len() < self.spare_max {
            self.spare.push(buffer.bytes);
        }
    }

    /// How many buffers are lent now.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent
    }

    /// Whether [`BufferPool::take`] would lend one now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.lent < self.buffers_max
    }

    /// The capacity of each buffer, in bytes.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.capacity_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let mut pool = BufferPool::new(8, 1, 1);
        let mut buffer = pool.take().unwrap();
        assert_eq!(buffer.append(b"abcdef"), 6);
        buffer.consume(4);
        assert_eq!(
            buffer.append(b"ghijklmn"),
            6,
            "consumed space is used again"
        );
        assert_eq!(buffer.filled(), b"efghijkl");
        pool.give(buffer);
    }

    #[test]
    fn a_pool_never_lends_more_than_its_limit() {
        let mut pool = BufferPool::new(4, 2, 1);
        let (one, two) = (pool.take().unwrap(), pool.take().unwrap());
        assert!(pool.take().is_none());
        assert!(!pool.has_room());
        pool.give(one);
        assert!(pool.has_room());
        pool.give(two);
        assert_eq!(pool.lent(), 0);
        assert_eq!(pool.spare.len(), 1, "only spare_max buffers are kept");
    }
}
