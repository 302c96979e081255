//! The `Keep-Alive` field of a response: for how long its connection stays open (RFC 2068, section
//! 19.7.1.1).

/// The `timeout` of these field values, in seconds: the shortest, where there are several. What is
/// no whole number says nothing.
pub(crate) fn timeout_s<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    values
        .flat_map(|value| value.split(|&byte| matches!(byte, b',' | b';')))
        .filter_map(timeout_in)
        .min()
}

fn timeout_in(parameter: &[u8]) -> Option<u64> {
    let mut parts = parameter.splitn(2, |&byte| byte == b'=');
    let name = parts.next()?.trim_ascii();
    let value = parts.next()?.trim_ascii();
    if !name.eq_ignore_ascii_case(b"timeout") {
        return None;
    }
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""));
    let digits = unquoted.unwrap_or(value);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // So many digits that they do not fit are as good as for ever.
    let text = std::str::from_utf8(digits).ok()?;
    Some(text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::timeout_s;

    #[test]
    fn the_timeout_is_found_among_other_parameters() {
        for (values, timeout) in [
            (&["timeout=5"][..], Some(5)),
            (&["timeout=5, max=1000"], Some(5)),
            (&["max=100,TimeOut = 15 "], Some(15)),
            (&["timeout=\"60\";max=2"], Some(60)),
            (&["timeout=9", "timeout=7"], Some(7)),
            (&["timeout=0"], Some(0)),
            (&["timeout=99999999999999999999999"], Some(u64::MAX)),
            (&["max=100"], None),
            (&["timeout"], None),
            (&["timeout="], None),
            (&["timeout=-1"], None),
            (&["timeout=2.5"], None),
            (&["xtimeout=5"], None),
            (&[""], None),
            (&[], None),
        ] {
            let bytes = values.iter().map(|value| value.as_bytes());
            assert_eq!(timeout_s(bytes), timeout, "{values:?}");
        }
    }
}
