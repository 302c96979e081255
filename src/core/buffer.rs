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
    /// Lent beyond the pool's limit, and freed when it comes back.
    is_extra: bool,
}

impl Buffer {
    fn new(bytes: Box<[u8]>, is_extra: bool) -> Self {
        Self {
            bytes,
            start: 0,
            end: 0,
            is_extra,
        }
    }

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

/// Capacity of the buffers that are lent beyond the limit, in bytes.
pub const SMALL_BYTES: usize = 4 * 1024;

/// Lends buffers of one capacity, and small ones beyond a limit.
///
/// Nobody waits for a buffer: a crowd of stalled readers that holds all large ones makes the
/// others slower, but cannot stop them. All memory is bounded by the limit and by
/// [`SMALL_BYTES`] for each direction of a session.
#[derive(Debug)]
pub struct BufferPool {
    spare: Vec<Box<[u8]>>,
    capacity_bytes: usize,
    lent: usize,
    extra_lent: usize,
    buffers_max: usize,
    spare_max: usize,
}

impl BufferPool {
    /// A pool that lends at most `buffers_max` buffers of `capacity_bytes` at once. It starts
    /// empty and keeps at most `spare_max` returned buffers for reuse; the rest is freed.
    ///
    /// # Panics
    /// When the capacity is below [`SMALL_BYTES`].
    #[must_use]
    pub fn new(capacity_bytes: usize, buffers_max: usize, spare_max: usize) -> Self {
        assert!(
            capacity_bytes >= SMALL_BYTES,
            "no buffer is smaller than a small one"
        );
        Self {
            spare: Vec::new(),
            capacity_bytes,
            lent: 0,
            extra_lent: 0,
            buffers_max,
            spare_max,
        }
    }

    /// The capacity of the buffer that [`BufferPool::take`] would lend now: no more may be read
    /// than would fit if all of it had to wait.
    #[must_use]
    pub fn next_bytes(&self) -> usize {
        if self.lent < self.buffers_max {
            self.capacity_bytes
        } else {
            SMALL_BYTES
        }
    }

    /// Lends an empty buffer of [`BufferPool::next_bytes`].
    pub fn take(&mut self) -> Buffer {
        if self.lent < self.buffers_max {
            self.lent += 1;
            let spare = self.spare.pop();
            let bytes = spare.unwrap_or_else(|| vec![0; self.capacity_bytes].into_boxed_slice());
            Buffer::new(bytes, false)
        } else {
            self.extra(SMALL_BYTES)
        }
    }

    /// Lends a buffer that holds these bytes, all of them, whatever its capacity has to be.
    pub fn hold(&mut self, parts: &[&[u8]]) -> Buffer {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut buffer = if total <= self.next_bytes() {
            self.take()
        } else {
            self.extra(total)
        };
        for part in parts {
            buffer.append(part);
        }
        buffer
    }

    fn extra(&mut self, capacity: usize) -> Buffer {
        self.extra_lent += 1;
        Buffer::new(vec![0; capacity].into_boxed_slice(), true)
    }

    /// Takes a buffer back; what waited in it is gone.
    pub fn give(&mut self, buffer: Buffer) {
        if buffer.is_extra {
            self.extra_lent -= 1;
            return;
        }
        debug_assert_eq!(
            buffer.capacity(),
            self.capacity_bytes,
            "a buffer of another pool"
        );
        self.lent -= 1;
        if self.spare.len() < self.spare_max {
            self.spare.push(buffer.bytes);
        }
    }

    /// How many buffers are lent now, those beyond the limit included.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent + self.extra_lent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let mut buffer = Buffer::new(vec![0; 8].into_boxed_slice(), true);
        assert_eq!(buffer.append(b"abcdef"), 6);
        buffer.consume(4);
        assert_eq!(
            buffer.append(b"ghijklmn"),
            6,
            "consumed space is used again"
        );
        assert_eq!(buffer.filled(), b"efghijkl");
    }

    #[test]
    fn beyond_its_limit_a_pool_lends_small_buffers() {
        let mut pool = BufferPool::new(8192, 1, 1);
        assert_eq!(pool.next_bytes(), 8192);
        let large = pool.take();
        assert_eq!(pool.next_bytes(), SMALL_BYTES);
        let small = pool.take();
        assert_eq!((large.capacity(), small.capacity()), (8192, SMALL_BYTES));
        assert_eq!(pool.lent(), 2);
        pool.give(large);
        assert_eq!(pool.next_bytes(), 8192, "a large one is free again");
        pool.give(small);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn whatever_has_to_be_held_is_held() {
        let mut pool = BufferPool::new(8192, 1, 1);
        let long = vec![b'x'; 9000];
        let buffer = pool.hold(&[b"head", &long]);
        assert_eq!(buffer.len(), 9004);
        assert_eq!(&buffer.filled()[..5], b"headx");
        pool.give(buffer);
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn only_some_returned_buffers_are_kept() {
        let mut pool = BufferPool::new(8192, 4, 1);
        let (one, two) = (pool.take(), pool.take());
        pool.give(one);
        pool.give(two);
        assert_eq!(pool.spare.len(), 1);
    }
}
