//! One sort for whatever is sorted rarely: that of the standard library is 6 to 9 KiB for each kind
//! of element and each order.

use std::cmp::Ordering;

/// The numbers below `count` in that order. Equal ones stay as they are.
#[must_use]
pub fn sorted(count: usize, order: &dyn Fn(usize, usize) -> Ordering) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    numbers.sort_unstable_by(|&a, &b| order(a, b).then(a.cmp(&b)));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ones_stay_as_they_are() {
        let words: Vec<_> = (0..100).map(|i| format!("{}", i * 7 % 10)).collect();
        let places = sorted(words.len(), &|a, b| words[a].cmp(&words[b]));
        let mut expected: Vec<usize> = (0..100).collect();
        expected.sort_by_key(|&place| &words[place]);
        assert_eq!(places, expected);
    }
}
