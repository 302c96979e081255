//! Spans of time in log lines.

/// A span of time as a person reads it.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h{}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn spans_read_like_the_configuration() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1_500, "1.5s"),
            (61_000, "1m1s"),
            (7_260_000, "2h1m"),
        ] {
            assert_eq!(span(ms), text);
        }
    }
}
