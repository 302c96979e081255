//! The bytes that bulk streams and bodies carry: a fixed pseudo-random text whose length is a
//! prime, so that a lost, doubled or moved piece shows at the next comparison.

const PERIOD: usize = 65_521;

/// The text, twice and more, so that any piece of up to [`Pattern::PIECE_MAX`] bytes is in one run.
#[derive(Debug)]
pub struct Pattern {
    bytes: Vec<u8>,
}

impl Default for Pattern {
    fn default() -> Self {
        Self::new()
    }
}

impl Pattern {
    /// Longest piece that [`Pattern::piece`] gives.
    pub const PIECE_MAX: usize = 256 << 10;

    /// Makes the text.
    #[must_use]
    pub fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let period: Vec<u8> = (0..PERIOD)
            .map(|_| {
                // xorshift64 (Marsaglia 2003).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[7]
            })
            .collect();
        let bytes = period
            .iter()
            .copied()
            .cycle()
            .take(PERIOD + Self::PIECE_MAX)
            .collect();
        Self { bytes }
    }

    /// The longest piece that begins at `offset` of the endless text.
    #[must_use]
    pub fn piece(&self, offset: u64) -> &[u8] {
        let start = usize::try_from(offset % PERIOD as u64).unwrap_or(0);
        &self.bytes[start..start + Self::PIECE_MAX]
    }

    /// Whether `bytes` stand at `offset` of the endless text.
    #[must_use]
    pub fn matches(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut at = offset;
        bytes.chunks(Self::PIECE_MAX).all(|chunk| {
            let equal = self.piece(at)[..chunk.len()] == *chunk;
            at += chunk.len() as u64;
            equal
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_join_to_one_text() {
        let pattern = Pattern::new();
        let offset = PERIOD as u64 * 3 - 5;
        assert_eq!(pattern.piece(offset)[100], pattern.piece(offset + 100)[0]);
        assert!(pattern.matches(offset, &pattern.piece(offset)[..1000]));
    }

    #[test]
    fn a_moved_piece_does_not_match() {
        let pattern = Pattern::new();
        let piece = pattern.piece(64 << 10)[..64 << 10].to_vec();
        assert!(!pattern.matches(0, &piece));
    }
}
