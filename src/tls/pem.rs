//! Sections of PEM files (RFC 7468). What a section holds goes from the file's bytes to where it is
//! wanted, and nowhere else: of a private key, nothing stays behind in memory that was given back.

use crate::tls::fault::PemFault;
use crate::tls::material::Secret;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// A section as it stands in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Section<'a> {
    /// What it says that it is, such as `CERTIFICATE`.
    pub(crate) label: &'a [u8],
    /// Its lines.
    pub(crate) text: &'a [u8],
}

/// The sections of a file in order. What stands between them is not looked at.
pub(crate) struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    pub(crate) const fn of(file: &'a [u8]) -> Self {
        Self(file)
    }

    /// The next line, without its end.
    fn line(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let is_end = |&byte: &u8| byte == b'\n' || byte == b'\r';
        let length = self.0.iter().position(is_end).unwrap_or(self.0.len());
        let (line, rest) = self.0.split_at(length);
        self.0 = rest.get(1..).unwrap_or_default();
        Some(line)
    }

    fn rest_of(&mut self, label: &'a [u8]) -> Result<Section<'a>, PemFault> {
        let file = self.0;
        loop {
            let length = file.len() - self.0.len();
            let line = self.line().ok_or(PemFault::Malformed)?;
            let end = line.strip_prefix(END);
            if end.and_then(labelled).is_some_and(|it| it == label) {
                let text = &file[..length];
                return Ok(Section { label, text });
            }
            // One that has not ended has no end.
            if line.starts_with(BEGIN) {
                return Err(PemFault::Malformed);
            }
        }
    }
}

impl<'a> Iterator for Sections<'a> {
    type Item = Result<Section<'a>, PemFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(begin) = self.line()?.strip_prefix(BEGIN) {
                let label = labelled(begin).ok_or(PemFault::Malformed);
                return Some(label.and_then(|label| self.rest_of(label)));
            }
        }
    }
}

/// What stands in front of the dashes at the end of a line.
fn labelled(line: &[u8]) -> Option<&[u8]> {
    line.trim_ascii_end().strip_suffix(DASHES)
}

impl Section<'_> {
    /// What it holds.
    ///
    /// # Errors
    /// When it is not base64 (RFC 4648 section 4), of whole bytes.
    pub(crate) fn decode(&self) -> Result<Vec<u8>, PemFault> {
        self.decode_secret().map(Secret::into_bytes)
    }

    /// The same of a private key. Where it stands is made once and as large as it may become.
    pub(crate) fn decode_secret(&self) -> Result<Secret, PemFault> {
        let mut bytes = Secret::new(Vec::with_capacity(self.text.len()));
        let (mut bits, mut digits, mut pads) = (0_u32, 0, 0);
        for &byte in self.text.iter().filter(|it| !it.is_ascii_whitespace()) {
            pads += usize::from(byte == b'=');
            // Nothing follows the padding.
            let digit = match byte {
                b'=' => 0,
                _ if pads > 0 => return Err(PemFault::Malformed),
                _ => digit(byte).ok_or(PemFault::Malformed)?,
            };
            bits = bits << 6 | digit;
            digits += 1;
            if digits % 4 == 0 {
                let [_, group @ ..] = bits.to_be_bytes();
                let whole = group.get(..3 - pads.min(3)).unwrap_or_default();
                bytes.extend(whole);
                bits = 0;
            }
        }
        match digits % 4 == 0 && pads <= 2 {
            true => Ok(bytes),
            false => Err(PemFault::Malformed),
        }
    }
}

/// What a digit of base64 stands for, in the same time for each, as it may be of a key: a table
/// would leave traces in the caches.
fn digit(byte: u8) -> Option<u32> {
    let byte = i32::from(byte);
    // All ones from `first` to `last`, nothing elsewhere.
    let within =
        |first: u8, last: u8| ((i32::from(first) - 1 - byte) & (byte - i32::from(last) - 1)) >> 31;
    let value = within(b'A', b'Z') & (byte - 64)
        | within(b'a', b'z') & (byte - 70)
        | within(b'0', b'9') & (byte + 5)
        | within(b'+', b'+') & 63
        | within(b'/', b'/') & 64;
    u32::try_from(value - 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &str) -> Result<Vec<u8>, PemFault> {
        let (label, text) = (&b"X"[..], text.as_bytes());
        Section { label, text }.decode()
    }

    fn labels(file: &str) -> Vec<Result<String, PemFault>> {
        let label = |it: Section<'_>| String::from_utf8_lossy(it.label).into_owned();
        let sections = Sections::of(file.as_bytes());
        sections.map(|section| section.map(label)).collect()
    }

    #[test]
    fn base64_is_decoded() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9v\r\nYmFy\n", b"foobar"),
            ("+/+/\n AAA=", &[0xfb, 0xff, 0xbf, 0, 0]),
        ] {
            assert_eq!(decoded(text).as_deref(), Ok(bytes), "{text}");
        }
        for text in [
            "Z", "Zg", "Zg=", "Zg==Zg==", "Zg=g", "====", "Z===", "Zm9v-", "Zm9_",
        ] {
            assert_eq!(decoded(text), Err(PemFault::Malformed), "{text}");
        }
        let letters = (b'A'..=b'Z').chain(b'a'..=b'z');
        let digits: Vec<u8> = letters.chain(b'0'..=b'9').chain(*b"+/").collect();
        for byte in 0..=u8::MAX {
            let place = digits.iter().position(|it| *it == byte);
            let place = place.map(|it| u32::try_from(it).expect("it is short"));
            assert_eq!(digit(byte), place, "{byte}");
        }
    }

    #[test]
    fn sections_are_found_between_other_lines() {
        let file = "Bag: x\n-----BEGIN A B-----\nZg==\n-----END A B-----\r\n\r\n\
                    -----BEGIN C----- \n-----END A-----\n-----END C-----\nend";
        assert_eq!(labels(file), [Ok("A B".to_owned()), Ok("C".to_owned())]);
        assert_eq!(labels("-----END A-----\nZg==\n"), []);
        for cut in [
            "-----BEGIN A-----\nZg==\n",
            "-----BEGIN A---\nZg==\n-----END A-----",
            "-----BEGIN A-----\nZg==\n-----BEGIN A-----\nZg==\n-----END A-----",
        ] {
            assert_eq!(labels(cut)[0], Err(PemFault::Malformed), "{cut}");
        }
    }
}
