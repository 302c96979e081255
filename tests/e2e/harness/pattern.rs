//! An endless pseudo-random stream of bytes, the same for the same seed: the receiver draws it
//! again and compares, so that the first byte lost, doubled or out of order is found by place.

/// A position in the stream of one seed.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    state: u64,
    word: [u8; 8],
    used: usize,
}

impl Pattern {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            state: seed,
            word: [0; 8],
            used: 8,
        }
    }

    /// The next bytes of the stream.
    pub(crate) fn fill(&mut self, into: &mut [u8]) {
        let mut rest = into;
        while self.used < 8 && !rest.is_empty() {
            rest[0] = self.word[self.used];
            self.used += 1;
            rest = &mut rest[1..];
        }
        let mut words = rest.chunks_exact_mut(8);
        for word in &mut words {
            word.copy_from_slice(&self.next_word());
        }
        let rest = words.into_remainder();
        if !rest.is_empty() {
            self.word = self.next_word();
            self.used = rest.len();
            rest.copy_from_slice(&self.word[..rest.len()]);
        }
    }

    /// SplitMix64 (Steele, Lea, Flood, 2014).
    fn next_word(&mut self) -> [u8; 8] {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).to_le_bytes()
    }
}

#[test]
fn a_pattern_does_not_depend_on_how_it_is_cut() {
    let mut whole = [0; 100];
    Pattern::new(7).fill(&mut whole);
    let mut cut = [0; 100];
    let mut pattern = Pattern::new(7);
    let mut at = 0;
    for length in [1, 7, 8, 3, 0, 13, 24, 44] {
        pattern.fill(&mut cut[at..at + length]);
        at += length;
    }
    assert_eq!(at, cut.len());
    assert_eq!(cut, whole);
}
