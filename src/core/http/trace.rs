//! The fields by which a request is known on its whole way: its id, and `traceparent` of W3C Trace
//! Context.

use super::head::Fields;
use super::known::Known;
use super::syntax::is_token;
use crate::core::key::mix;
use crate::core::request_id::OwnId;
use crate::core::text;

/// Where a request stands in a trace.
pub const TRACEPARENT: &str = "traceparent";
/// What belongs to it, and is dropped with one that is malformed.
pub const TRACESTATE: &str = "tracestate";

/// A version, a trace id of 32 digits, a parent id of 16, and flags (section 3.2.2 there).
const TRACEPARENT_BYTES: usize = 55;
/// The longest one of a later version that is logged.
const TRACEPARENT_BYTES_MAX: usize = 128;

/// Whether a field of this name can carry an id: weir has no other use for it.
#[must_use]
pub fn may_carry_id(name: &[u8]) -> bool {
    let is_of_trace = [TRACEPARENT, TRACESTATE]
        .iter()
        .any(|it| it.as_bytes().eq_ignore_ascii_case(name));
    is_token(name) && Known::recognise(name) == Known::Other && !is_of_trace
}

/// The value of the one field of this name that came; none where there is none, or several.
#[inline(never)]
pub(crate) fn only<'a>(fields: &Fields, name: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
    let mut all = fields
        .iter()
        .filter(|field| !field.is_dropped() && field.name(bytes).eq_ignore_ascii_case(name));
    let one = all.next()?;
    all.next().is_none().then(|| one.value(bytes))
}

/// The `traceparent` of a request, if it is well-formed (section 3.2 there).
pub(crate) fn traceparent<'a>(fields: &Fields, bytes: &'a [u8]) -> Option<&'a [u8]> {
    only(fields, TRACEPARENT.as_bytes(), bytes).filter(|value| is_traceparent(value))
}

fn is_traceparent(value: &[u8]) -> bool {
    let Some((parts, rest)) = value.split_at_checked(TRACEPARENT_BYTES) else {
        return false;
    };
    let is_formed = parts.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    });
    let is_zero = |part: &[u8]| part.iter().all(|it| *it == b'0');
    // A later version may have more behind another dash, in visible bytes.
    let fits = match rest.first() {
        None => true,
        Some(dash) => *dash == b'-' && &parts[..2] != b"00",
    };
    is_formed
        && &parts[..2] != b"ff"
        && !is_zero(&parts[3..35])
        && !is_zero(&parts[36..52])
        && fits
        && value.len() <= TRACEPARENT_BYTES_MAX
        && rest.iter().all(u8::is_ascii_graphic)
}

/// One for a request that came without: its trace has the request's id, and is to be recorded.
pub(crate) fn made_traceparent(id: OwnId) -> Vec<u8> {
    let parent = mix(id.start ^ id.number).max(1);
    let mut out = Vec::with_capacity(TRACEPARENT_BYTES);
    text::push(&mut out, format_args!("00-{id}-{parent:016x}-01"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_taken_where_it_is_well_formed() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(is_traceparent(good.as_bytes()));
        let later = format!("cc{}-what-comes", &good[2..]);
        assert!(is_traceparent(later.as_bytes()));
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-x"),
            &format!("{good} "),
            &format!("ff{}", &good[2..]),
            &format!("cc{}x", &good[2..]),
            &format!("cc{}-{}", &good[2..], "x".repeat(100)),
            &format!("cc{}-a\"", &good[2..]).replace('"', "\u{7f}"),
            &good.to_uppercase(),
            &good.replace('-', "_"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn one_that_is_made_is_well_formed_and_has_the_id() {
        for (start, number) in [(0, 1), (1, 1), (u64::MAX, u64::MAX)] {
            let id = OwnId { start, number };
            let made = made_traceparent(id);
            assert!(is_traceparent(&made), "{id}");
            assert_eq!(&made[3..35], id.to_string().as_bytes());
        }
    }

    #[test]
    fn an_id_is_carried_by_no_field_that_means_something_else() {
        for good in ["X-Request-ID", "x-correlation-id", "Request-Id"] {
            assert!(may_carry_id(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "a b",
            "Host",
            "Via",
            "X-Forwarded-For",
            "TraceParent",
            "te",
            "Cookie",
        ] {
            assert!(!may_carry_id(bad.as_bytes()), "{bad}");
        }
    }
}
