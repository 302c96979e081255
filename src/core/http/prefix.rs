//! The prefixes of one host, and those of them that match a path.
//!
//! They stand in an order in which a slash comes before every other byte. So whatever matches at
//! a segment boundary, and all that begins with it, stands together; and every prefix that
//! matches a path matches as well the last one that does not come after that path. That one is
//! found by binary search, and the rest follows from what was found out when the set was made:
//! which prefix is the longest that matches another. The bytes of the path are compared once in
//! all: each comparison begins where the two bounds of the search already agree with the path.

use std::cmp::Ordering;

use super::route::is_prefix;
use crate::core::steps::step;

/// Canonical prefixes, each with what belongs to it.
#[derive(Clone, Debug)]
pub(super) struct Prefixes<T> {
    nodes: Vec<PrefixNode<T>>,
}

#[derive(Clone, Debug)]
struct PrefixNode<T> {
    text: Vec<u8>,
    /// The longest other prefix that matches this one, if any.
    parent: Option<u32>,
    /// One further up, so far that every other is reached in a logarithm of steps (Myers, An
    /// applicative random-access stack, 1983).
    jump: Option<u32>,
    /// How many match this one.
    depth: u32,
    of: T,
}

/// Orders two prefixes as a set has them.
pub(super) fn order(one: &[u8], other: &[u8]) -> Ordering {
    order_after(one, other, common(one, other))
}

/// The same of two that agree in so many bytes and no more.
fn order_after(one: &[u8], other: &[u8], common: usize) -> Ordering {
    let rank = |text: &[u8]| text.get(common).map(|&byte| (byte != b'/', byte));
    rank(one).cmp(&rank(other))
}

/// In how many bytes the two agree. Eight are compared at once.
#[inline]
fn common(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let mut whole = 0;
    for (one, other) in words {
        let differing = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if differing != 0 {
            return whole + differing.trailing_zeros() as usize / 8;
        }
        whole += 8;
    }
    let pairs = one[whole..].iter().zip(&other[whole..]);
    whole + pairs.take_while(|(one, other)| one == other).count()
}

impl<T> Prefixes<T> {
    /// A set of prefixes, which are sorted by [`order`] and differ.
    pub(super) fn new(sorted: impl IntoIterator<Item = (Vec<u8>, T)>) -> Self {
        let mut set = Self { nodes: Vec::new() };
        let mut open: Vec<u32> = Vec::new();
        for (place, (text, of)) in (0..).zip(sorted) {
            while let Some(&last) = open.last()
                && !is_prefix(&set.nodes[last as usize].text, &text)
            {
                open.pop();
            }
            set.push(text, of, open.last().copied());
            open.push(place);
        }
        set
    }

    fn push(&mut self, text: Vec<u8>, of: T, parent: Option<u32>) {
        let (jump, depth) = match parent {
            Some(at) => (self.jump_of_child(at), self.nodes[at as usize].depth + 1),
            None => (None, 0),
        };
        self.nodes.push(PrefixNode {
            text,
            parent,
            jump,
            depth,
            of,
        });
    }

    /// Two jumps in a row that are of one length become one.
    fn jump_of_child(&self, parent: u32) -> Option<u32> {
        let depth = |at: Option<u32>| at.map_or(0, |at| self.nodes[at as usize].depth + 1);
        let first = self.nodes[parent as usize].jump;
        let second = first.and_then(|first| self.nodes[first as usize].jump);
        let span = depth(Some(parent)) - depth(first);
        match depth(first) - depth(second) == span {
            true => second,
            false => Some(parent),
        }
    }

    /// What belongs to the prefixes that match the path, the longest first.
    pub(super) fn matching<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = &'a T> {
        let longest = self.longest(path).map(|at| &self.nodes[at]);
        let up = |node: &&'a PrefixNode<T>| Some(&self.nodes[node.parent? as usize]);
        std::iter::successors(longest, up).map(|node| &node.of)
    }

    /// The longest prefix that matches the path.
    fn longest(&self, path: &[u8]) -> Option<usize> {
        let (mut at, common) = self.last_before(path)?;
        // What is longer than the part in which the two agree cannot match.
        while self.nodes[at].text.len() > common {
            step();
            let node = &self.nodes[at];
            let is_too_long = |up: &u32| self.nodes[*up as usize].text.len() > common;
            at = node.jump.filter(is_too_long).or(node.parent)? as usize;
        }
        match is_prefix(&self.nodes[at].text, path) {
            true => Some(at),
            // It ends where they part, within a segment of the path.
            false => self.nodes[at].parent.map(|parent| parent as usize),
        }
    }

    /// The last prefix that does not come after the path, and in how many bytes they agree.
    fn last_before(&self, path: &[u8]) -> Option<(usize, usize)> {
        let (mut low, mut high) = (0, self.nodes.len());
        let (mut common_low, mut common_high) = (0, 0);
        while low < high {
            step();
            let middle = usize::midpoint(low, high);
            let text = &self.nodes[middle].text;
            // All between the bounds agree with the path as far as both of these do.
            let known = common_low.min(common_high);
            let common = known + common(&text[known..], &path[known..]);
            match order_after(text, path, common) {
                Ordering::Greater => (high, common_high) = (middle, common),
                Ordering::Less | Ordering::Equal => (low, common_low) = (middle + 1, common),
            }
        }
        Some((low.checked_sub(1)?, common_low))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::steps;

    fn set(prefixes: &[&str]) -> Prefixes<String> {
        let mut prefixes = prefixes.to_vec();
        prefixes.sort_by(|one, other| order(one.as_bytes(), other.as_bytes()));
        let pairs = prefixes.iter();
        Prefixes::new(pairs.map(|&prefix| (prefix.as_bytes().to_vec(), prefix.to_owned())))
    }

    #[test]
    fn a_slash_comes_before_every_other_byte() {
        let set = set(&["/a-b", "/a/b", "/a", "/ab", "/a/", "/a.b/c", "/", "/a.b"]);
        let texts: Vec<_> = set.nodes.iter().map(|node| node.of.as_str()).collect();
        let expected = ["/", "/a", "/a/", "/a/b", "/a-b", "/a.b", "/a.b/c", "/ab"];
        assert_eq!(texts, expected);
    }

    #[test]
    fn all_that_match_are_found_the_longest_first() {
        let set = set(&["/a", "/a/", "/a/b", "/a/b/c/d", "/a-", "/ab", "/b/"]);
        for (path, expected) in [
            ("/", ""),
            ("/a", "/a"),
            ("/a/", "/a/ /a"),
            ("/a/b", "/a/b /a/ /a"),
            ("/a/bc", "/a/ /a"),
            ("/a/b/c", "/a/b /a/ /a"),
            ("/a/b/c/d/e", "/a/b/c/d /a/b /a/ /a"),
            ("/a/z", "/a/ /a"),
            ("/a-", "/a-"),
            ("/a-b", ""),
            ("/b", ""),
            ("/b/x", "/b/"),
            ("/z", ""),
        ] {
            let found: Vec<_> = set.matching(path.as_bytes()).map(String::as_str).collect();
            assert_eq!(found.join(" "), expected, "{path}");
        }
    }

    #[test]
    fn nothing_matches_where_there_is_nothing() {
        assert_eq!(set(&[]).matching(b"/").count(), 0);
    }

    /// The most steps that a search takes among so many prefixes.
    fn steps_max(prefixes: &[String], paths: &[String]) -> u64 {
        let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
        let set = set(&prefixes);
        let steps = paths.iter().map(|path| {
            steps::of(|| {
                std::hint::black_box(set.longest(path.as_bytes()));
            })
        });
        steps.max().expect("paths")
    }

    #[test]
    fn a_search_takes_a_logarithm_of_steps() {
        let flat: Vec<_> = (0..10_000).map(|i| format!("/service-{i}/api")).collect();
        let paths: Vec<_> = flat.iter().map(|prefix| format!("{prefix}/x")).collect();
        assert!(steps_max(&flat, &paths) <= 14);
        assert!(steps_max(&flat[..100], &paths[..100]) <= 7);
    }

    #[test]
    fn deeply_nested_prefixes_take_a_logarithm_of_steps_too() {
        let nested: Vec<_> = (1..=2_000).map(|depth| "/b".repeat(depth)).collect();
        let paths: Vec<_> = nested.iter().map(|prefix| format!("{prefix}/c")).collect();
        assert!(steps_max(&nested, &paths) <= 11 + 3 * 11);
    }
}
