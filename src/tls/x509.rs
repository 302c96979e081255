//! The few facts of a certificate that verifying it does not give: when it is valid, and the
//! common name of its subject (RFC 5280 section 4.1, X.690).

/// One element: its tag, what it holds, and what follows it.
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    rest: &'a [u8],
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
/// id-at-commonName, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // At most four bytes of length: a certificate is no longer.
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        let length = digits
            .iter()
            .fold(0, |sum, &digit| sum << 8 | usize::from(digit));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some(Element { tag, content, rest })
}

/// The content of the next element, which has this tag, and what follows.
fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let found = element(bytes)?;
    (found.tag == tag).then_some((found.content, found.rest))
}

/// Whether this is a revocation list that says no version, which is the first: RFC 5280 section
/// 5.1.2.1.
#[must_use]
pub fn is_list_of_version_1(list: &[u8]) -> bool {
    let signed = expect(list, SEQUENCE).and_then(|(whole, _)| expect(whole, SEQUENCE));
    signed.is_some_and(|(signed, _)| expect(signed, SEQUENCE).is_some())
}

/// The issuer of a certificate, and what stands behind: validity, subject, and the rest.
fn issuer(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (whole, _) = expect(certificate, SEQUENCE)?;
    let (mut signed, _) = expect(whole, SEQUENCE)?;
    if let Some((_, rest)) = expect(signed, VERSION) {
        signed = rest;
    }
    let (_serial, rest) = expect(signed, INTEGER)?;
    let (_algorithm, rest) = expect(rest, SEQUENCE)?;
    expect(rest, SEQUENCE)
}

/// Who has issued a certificate, and whom it is for, as DER without its header. None where it is
/// no certificate, or something stands behind it.
#[must_use]
pub fn issuer_and_subject(certificate: &[u8]) -> Option<(&[u8], &[u8])> {
    let (whole, behind) = expect(certificate, SEQUENCE)?;
    let (_signed, proof) = expect(whole, SEQUENCE)?;
    let (_algorithm, proof) = expect(proof, SEQUENCE)?;
    let (_signature, behind_proof) = expect(proof, BIT_STRING)?;
    let (issuer, rest) = issuer(certificate)?;
    let (_validity, rest) = expect(rest, SEQUENCE)?;
    let (subject, rest) = expect(rest, SEQUENCE)?;
    let (_key, _) = expect(rest, SEQUENCE)?;
    (behind.is_empty() && behind_proof.is_empty()).then_some((issuer, subject))
}

/// From when until when a certificate is valid, in seconds since 1970.
#[must_use]
pub fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (validity, _) = expect(issuer(certificate)?.1, SEQUENCE)?;
    let from = element(validity)?;
    let until = element(from.rest)?;
    Some((time(&from)?, time(&until)?))
}

/// The common name of the subject, if it is text: in a type of string whose bytes are UTF-8, and
/// without control characters, which would mean something to some reader.
#[must_use]
pub fn common_name(certificate: &[u8]) -> Option<&str> {
    let (_validity, rest) = expect(issuer(certificate)?.1, SEQUENCE)?;
    let (mut names, _) = expect(rest, SEQUENCE)?;
    while let Some((set, rest)) = expect(names, SET) {
        names = rest;
        let (pair, _) = expect(set, SEQUENCE)?;
        let (kind, value) = expect(pair, OBJECT)?;
        if kind == COMMON_NAME {
            return text(&element(value)?);
        }
    }
    None
}

fn text<'a>(element: &Element<'a>) -> Option<&'a str> {
    let is_text = matches!(element.tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING);
    let text = str::from_utf8(element.content).ok()?;
    (is_text && !text.chars().any(char::is_control)).then_some(text)
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the only forms that RFC 5280 section 4.1.2.5 allows.
fn time(element: &Element<'_>) -> Option<i64> {
    let digits = element.content.strip_suffix(b"Z")?;
    let mut pairs = [0_i64; 7];
    let from = match (element.tag, digits.len()) {
        (UTC_TIME, 12) => 1,
        (GENERALIZED_TIME, 14) => 0,
        _ => return None,
    };
    for (pair, text) in pairs[from..].iter_mut().zip(digits.chunks_exact(2)) {
        if !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        *pair = i64::from(text[0] - b'0') * 10 + i64::from(text[1] - b'0');
    }
    let [century, year, month, day, hour, minute, second] = pairs;
    // Two digits are of 1950 to 2049.
    let century = match (from, year) {
        (0, _) => century,
        (_, ..50) => 20,
        _ => 19,
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let days = days_since_1970(century * 100 + year, month, day);
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days of the Gregorian calendar, counted in years that begin in March.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time_of(tag: u8, text: &str) -> Option<i64> {
        time(&Element {
            tag,
            content: text.as_bytes(),
            rest: &[],
        })
    }

    #[test]
    fn times_of_both_forms() {
        assert_eq!(time_of(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(time_of(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(time_of(UTC_TIME, "500101000000Z"), Some(-631_152_000));
        assert_eq!(
            time_of(GENERALIZED_TIME, "20000229120000Z"),
            Some(951_825_600)
        );
        assert_eq!(
            time_of(GENERALIZED_TIME, "99991231235959Z"),
            Some(253_402_300_799)
        );
        for bad in [
            "",
            "Z",
            "700101000000",
            "7001010000Z",
            "70010100000xZ",
            "701301000000Z",
        ] {
            assert_eq!(time_of(UTC_TIME, bad), None, "{bad}");
        }
    }

    fn sealed(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
        let content = parts.concat();
        let length = u8::try_from(content.len()).expect("it is short");
        [&[tag, length], &content[..]].concat()
    }

    /// As much of a certificate as is looked at, with this common name.
    fn named(tag: u8, name: &[u8]) -> Vec<u8> {
        let kind = sealed(OBJECT, &[COMMON_NAME]);
        let pair = sealed(SEQUENCE, &[&kind, &sealed(tag, &[name])]);
        let subject = sealed(SEQUENCE, &[&sealed(SET, &[&pair])]);
        let empty = sealed(SEQUENCE, &[]);
        let number = sealed(INTEGER, &[&[1]]);
        let signed = [&number[..], &empty, &empty, &empty, &subject];
        sealed(SEQUENCE, &[&sealed(SEQUENCE, &signed)])
    }

    #[test]
    fn a_common_name_is_text() {
        const BMP_STRING: u8 = 0x1e;
        const UNIVERSAL_STRING: u8 = 0x1c;
        const TELETEX_STRING: u8 = 0x14;
        for tag in [UTF8_STRING, PRINTABLE_STRING, IA5_STRING] {
            assert_eq!(common_name(&named(tag, b"client one")), Some("client one"));
        }
        let umlaut = "b\u{fc}cher";
        let found = named(UTF8_STRING, umlaut.as_bytes());
        assert_eq!(common_name(&found), Some(umlaut));
        for (tag, name) in [
            (BMP_STRING, &b"\0m\0e"[..]),
            (BMP_STRING, b"me"),
            (UNIVERSAL_STRING, b"\0\0\0m"),
            (TELETEX_STRING, b"me"),
            (OBJECT, b"me"),
            (UTF8_STRING, b"m\0e"),
            (UTF8_STRING, b"m\r\ne"),
            (UTF8_STRING, "m\u{85}e".as_bytes()),
            (IA5_STRING, b"m\x7fe"),
            (UTF8_STRING, b"m\xffe"),
        ] {
            assert_eq!(common_name(&named(tag, name)), None, "{tag} {name:?}");
        }
    }

    #[test]
    fn damage_is_no_certificate() {
        for bad in [
            &b""[..],
            b"\x30",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x80\x00\x00",
            b"\x30\x02\x30\x00",
        ] {
            assert_eq!(validity(bad), None);
            assert_eq!(issuer_and_subject(bad), None);
            assert_eq!(common_name(bad), None);
        }
    }
}
