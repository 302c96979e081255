//! What names of hosts consist of (RFC 1035 section 2.3.4, RFC 1123 section 2.1), in one place for
//! all who compare them.

/// The longest name without a dot at its end, and the longest label of one, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 253;
pub(crate) const LABEL_BYTES_MAX: usize = 63;

/// Whether a name without a dot at its end is made of labels, of letters, digits, hyphens, and the
/// underscores that container networks use. An address of IPv4 is, too.
#[must_use]
pub fn is_of_labels(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LABEL_BYTES_MAX).contains(&label.len()) && label.bytes().all(is_part)
}

/// Whether its last label has nothing but digits, as an address of IPv4 has and no name of a host.
#[must_use]
pub fn ends_in_digits(name: &str) -> bool {
    last_label(name).bytes().all(|byte| byte.is_ascii_digit())
}

/// What stands behind the last dot.
#[must_use]
pub(crate) fn last_label(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_labels() {
        let label = "x".repeat(LABEL_BYTES_MAX);
        let longest = format!("{label}.{label}.{label}.{}", &label[2..]);
        for name in ["a", "A-b_c.example", "-a-", "127.0.0.1", &label, &longest] {
            assert!(is_of_labels(name), "{name}");
        }
        let long = format!("x{longest}");
        let long_label = format!("x{label}.example");
        for name in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "a b",
            "a:1",
            "*",
            "\u{fc}",
            &long,
            &long_label,
        ] {
            assert!(!is_of_labels(name), "{name}");
        }
    }

    #[test]
    fn addresses_end_in_digits() {
        assert!(ends_in_digits("127.0.0.1") && ends_in_digits("7"));
        assert!(!ends_in_digits("1.example") && !ends_in_digits("a.1b"));
    }
}
