//! Spoils good bytes at random, so that the checks of the fuzz targets meet more than their
//! corpora in every run of the tests. What a fuzzer finds that is led by coverage goes deeper.

use weir::core::rng::Rng;

/// The longest bytes that come of it.
const BYTES_MAX: usize = 16 * 1024;
/// How many changes one spoiling has at most.
const CHANGES_MAX: usize = 6;
/// Bytes that mean something to one of the parsers.
const TELLING: &[u8] = b"\0\t\n\r \"#%&'*+,-./0159:;=?@[\\]_{|}~\x7f\x80\xc3\xff";

/// Some of `corpus`, changed in a few places.
pub(crate) fn spoiled(corpus: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = corpus[below(rng, corpus.len())].clone();
    for _ in 0..=below(rng, CHANGES_MAX) {
        change(&mut bytes, corpus, rng);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], rng: &mut Rng) {
    let at = below(rng, bytes.len() + 1);
    let end = (at + 1 + below(rng, 16)).min(bytes.len());
    match below(rng, 8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << below(rng, 8),
        1 if at < bytes.len() => bytes[at] = telling(rng),
        2 => bytes.insert(at, telling(rng)),
        3 if at < end => drop(bytes.drain(at..end)),
        4 => {
            let again = bytes[at..end.max(at)].to_vec();
            bytes.splice(at..at, again);
        }
        5 => bytes.truncate(at),
        6 => {
            let many = vec![telling(rng); 1 << below(rng, 10)];
            bytes.splice(at..at, many);
        }
        _ => {
            let other = &corpus[below(rng, corpus.len())];
            let from = below(rng, other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
    }
}

fn telling(rng: &mut Rng) -> u8 {
    TELLING[below(rng, TELLING.len())]
}

fn below(rng: &mut Rng, count: usize) -> usize {
    let count = u64::try_from(count).expect("it fits");
    usize::try_from(rng.below(count)).expect("it fits")
}
