//! "Did you mean": the nearest of some words.

use super::key::TABLES;

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

/// Words that other programs have for what is a key here.
const FOREIGN: [(&str, &[&str]); 28] = [
    ("backend_servers", &["backends"]),
    ("balance", &["algorithm"]),
    ("bind", &["listen"]),
    ("cert", &["certificate"]),
    ("certs", &["certificates"]),
    ("domain", &["host"]),
    ("endpoints", &["backends"]),
    ("frontend", &["listeners"]),
    ("host", &["address"]),
    ("http", &["listeners"]),
    ("lb_policy", &["algorithm"]),
    ("listener", &["listen"]),
    ("location", &["prefix"]),
    ("log", &["log_level"]),
    ("logging", &["log_level"]),
    ("maxconn", &["max_connections"]),
    ("path", &["prefix"]),
    ("port", &["listen", "address"]),
    ("proxy_pass", &["upstream"]),
    ("server", &["listeners"]),
    ("server_name", &["host"]),
    ("servers", &["backends", "listeners"]),
    ("services", &["upstreams"]),
    ("ssl", &["tls"]),
    ("stream", &["listeners"]),
    ("targets", &["backends"]),
    ("threads", &["workers"]),
    ("upstream", &["backends"]),
];

/// What mappings look like that are often written as a single value.
const EXAMPLES: [(&str, &str); 17] = [
    ("`buffers`", "memory: 16MiB"),
    ("`headers`", "request: {set: {X-Entry: weir}}"),
    ("`health_check`", "path: /health"),
    ("`keepalive`", "idle: 1m"),
    ("`limits`", "max_body: 10MB"),
    ("`passive`", "failures: 3"),
    ("`proxy_protocol`", "from: [10.0.0.0/8]"),
    ("`redirect_to_https`", "port: 443"),
    ("`redirect`", "location: \"https://example.com{path}\""),
    ("`respond`", "body: \"hello\\n\""),
    ("`retries`", "tries: 3"),
    ("`reuse`", "idle_connections: 32"),
    ("`sticky`", "cookie: weir"),
    ("`timeouts`", "connect: 5s"),
    ("a listener", "listen: \":80\", upstream: app"),
    ("an upstream", "backends: [\"10.0.0.1:80\"]"),
    ("one of `certificates`", "certificate: site.pem"),
];

/// `, such as {...}` for a mapping of that name, or nothing.
#[cold]
pub(super) fn example(what: &str) -> String {
    let found = EXAMPLES.iter().find(|(name, _)| *name == what);
    found.map_or_else(String::new, |(_, keys)| format!(", such as {{{keys}}}"))
}

/// The key that is meant by a word of another program, or by one in another case.
#[cold]
pub(super) fn meant(word: &str, is_known: impl Fn(&'static str) -> bool) -> Option<&'static str> {
    let lower = word.to_ascii_lowercase();
    let foreign = FOREIGN.iter().find(|(foreign, _)| *foreign == lower);
    let keys = foreign.map_or(&[][..], |(_, keys)| keys);
    let mut keys = keys.iter().copied();
    keys.find(|key| is_known(key))
        .or_else(|| named(&lower).filter(|_| lower != word))
}

/// A key of any mapping.
fn named(name: &str) -> Option<&'static str> {
    let mut names = TABLES.iter().flat_map(|table| table.names());
    names.find(|it| *it == name)
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
    fn words_of_other_programs_stand_for_keys() {
        for (_, keys) in FOREIGN {
            assert!(keys.iter().all(|key| named(key) == Some(key)), "{keys:?}");
        }
        let in_backend = |key: &'static str| ["address", "weight"].contains(&key);
        assert_eq!(meant("port", in_backend), Some("address"));
        assert_eq!(meant("ssl", in_backend), None);
        assert_eq!(meant("Backends", in_backend), Some("backends"));
    }

    #[test]
    fn examples_are_of_keys_that_there_are() {
        for (what, keys) in EXAMPLES {
            for key in keys.split(", ").filter_map(|entry| entry.split_once(": ")) {
                assert_eq!(named(key.0), Some(key.0), "{what}");
            }
        }
        assert_eq!(example("`timeouts`"), ", such as {connect: 5s}");
        assert_eq!(example("`banana`"), "");
    }

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
