//! "Did you mean": the nearest of some words.

/// The candidate nearest to `word`, if it is near enough to be a slip; the first of equals.
pub(super) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let near = |candidate: &&str| distance(word, candidate) <= slips_max(candidate);
    candidates
        .into_iter()
        .filter(near)
        .min_by_key(|candidate| distance(word, candidate))
}

/// `; did you mean ...?`, or nothing.
pub(super) fn hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

/// How many slips still make it the same word: one in three letters.
#[inline(never)]
fn slips_max(candidate: &str) -> usize {
    (candidate.chars().count() / 3).clamp(1, 3)
}

/// Letters to insert, delete, replace or swap with their neighbour. Words longer than any key are
/// infinitely far.
fn distance(a: &str, b: &str) -> usize {
    const CHARS_MAX: usize = 64;
    let a: Vec<char> = a.to_ascii_lowercase().chars().take(CHARS_MAX + 1).collect();
    let b: Vec<char> = b.to_ascii_lowercase().chars().take(CHARS_MAX + 1).collect();
    if a.len() > CHARS_MAX || b.len() > CHARS_MAX {
        return usize::MAX;
    }
    // Optimal string alignment over three rows: two above, one above, and the one being filled.
    let mut above2 = vec![0; b.len() + 1];
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(above2[j - 2] + 1);
            }
        }
        above2 = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word() {
        let keys = ["weight", "address", "id", "health_check", "rise"];
        let cases = [
            ("weigth", Some("weight")),
            ("Weight", Some("weight")),
            ("adress", Some("address")),
            ("healthcheck", Some("health_check")),
            ("health-check", Some("health_check")),
            ("ids", Some("id")),
            ("price", None),
            ("banana", None),
            ("", None),
        ];
        for (word, near) in cases {
            assert_eq!(nearest(word, keys), near, "{word}");
        }
    }
}
