//! Heads of responses as old and odd servers write them, written anew as RFC 9112 has them.
//!
//! This runs only where the strict reading has failed, and its result goes through the strict
//! reading: nothing passes that could not have come that way. What is mended can be read in one
//! way only; what some recipients read in another way is refused, as everything in a request is
//! that is mended here:
//!
//! - NUL, and a CR that no LF follows, are a line end to some;
//! - a line without a colon, or of blanks only, is the end of the head to some;
//! - a folded line without a line before it is a field to some;
//! - a name with white space or control bytes in it is another name to some.

use super::head::HeadError;
use super::oddity::{Oddities, Oddity};
use super::syntax::{is_blank, is_token, trim, trim_start};

/// The lines of a head or trailer section, and what was odd about them.
struct Lines<'a> {
    rest: &'a [u8],
    oddities: Oddities,
    /// What is noted about a line that ends in LF alone.
    bare_line_feed: Oddity,
}

impl<'a> Lines<'a> {
    /// The next line without its end; none when that has not come.
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\n')?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(line.strip_suffix(b"\r").unwrap_or_else(|| {
            self.oddities.add(self.bare_line_feed);
            line
        }))
    }
}

/// Writes the head at the beginning of `bytes` into `out`. How many bytes it takes, or none while
/// it is not whole, and what was odd about it.
///
/// # Errors
/// The first rule found broken that has no mending. More bytes do not change it.
pub(super) fn head(
    bytes: &[u8],
    out: &mut Vec<u8>,
) -> Result<Option<(usize, Oddities)>, HeadError> {
    let mut lines = Lines {
        rest: bytes,
        oddities: Oddities::NONE,
        bare_line_feed: Oddity::BareLineFeed,
    };
    out.clear();
    loop {
        match lines.next() {
            Some([]) => lines.oddities.add(Oddity::EmptyLine),
            Some(line) => {
                status_line(line, out, &mut lines.oddities)?;
                break;
            }
            None if may_be_status_line(lines.rest) => return Ok(None),
            None => return Err(HeadError::StartLine),
        }
    }
    let is_whole = fields(&mut lines, out)?;
    Ok(is_whole.then(|| (bytes.len() - lines.rest.len(), lines.oddities)))
}

/// The same for a whole trailer section, whose last line is empty.
///
/// # Errors
/// As [`head`].
pub(super) fn trailers(section: &[u8], out: &mut Vec<u8>) -> Result<Oddities, HeadError> {
    let mut lines = Lines {
        rest: section,
        oddities: Oddities::NONE,
        bare_line_feed: Oddity::ChunkLineFeed,
    };
    out.clear();
    if fields(&mut lines, out)? {
        Ok(lines.oddities)
    } else {
        Err(HeadError::LineEnd)
    }
}

/// Whether the line that begins so, and is not whole, can become a status line: another protocol
/// is told from its first bytes.
fn may_be_status_line(begun: &[u8]) -> bool {
    let begun = begun.strip_prefix(b"\r").unwrap_or(begun);
    let names = [b"HTTP/".as_slice(), b"ICY ", b"ICY\t"];
    names.into_iter().any(|name| {
        let length = begun.len().min(name.len());
        begun[..length].eq_ignore_ascii_case(&name[..length])
    })
}

/// RFC 9112 section 4: a recipient may take any white space between the parts for one SP.
fn status_line(line: &[u8], out: &mut Vec<u8>, oddities: &mut Oddities) -> Result<(), HeadError> {
    let start = out.len();
    let end = line.iter().position(|&byte| is_blank(byte));
    let (protocol, rest) = line.split_at(end.unwrap_or(line.len()));
    out.extend_from_slice(version(protocol)?);
    let rest = trim_start(rest);
    let code = rest.get(..3).ok_or(HeadError::Status)?;
    let (first, reason) = (rest.get(3), &rest[3..]);
    if !code.iter().all(u8::is_ascii_digit) || first.is_some_and(|&byte| !is_blank(byte)) {
        return Err(HeadError::Status);
    }
    out.push(b' ');
    out.extend_from_slice(code);
    out.push(b' ');
    // Where the parts are as they should be, more blanks belong to the reason.
    let as_written = line.strip_prefix(&out[start..]);
    let reason = as_written.unwrap_or_else(|| trim_start(reason));
    let is_mended = append_text(reason, out).ok_or(HeadError::Status)?;
    if is_mended || !line.starts_with(out[start..].trim_ascii_end()) {
        oddities.add(Oddity::StatusLine);
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// What the name and version stand for: 1.x with the features of 1.1 (RFC 9110 section 2.5).
/// `ICY` is the HTTP/1.0 of SHOUTcast servers.
fn version(protocol: &[u8]) -> Result<&'static [u8], HeadError> {
    if protocol == b"ICY" {
        return Ok(b"HTTP/1.0");
    }
    let (name, version) = protocol.split_at_checked(5).ok_or(HeadError::StartLine)?;
    match version {
        _ if !name.eq_ignore_ascii_case(b"HTTP/") => Err(HeadError::StartLine),
        b"1.0" => Ok(b"HTTP/1.0"),
        [b'1', b'.', b'1'..=b'9'] => Ok(b"HTTP/1.1"),
        [b'0'..=b'9', ..] => Err(HeadError::Version),
        _ => Err(HeadError::StartLine),
    }
}

/// Writes the field lines up to the empty one, and that too; whether it has come.
fn fields(lines: &mut Lines<'_>, out: &mut Vec<u8>) -> Result<bool, HeadError> {
    // What a folded line continues: nothing yet, a field that was written, or one left out.
    let mut last = None;
    while let Some(line) = lines.next() {
        match (line, last) {
            ([], _) => {
                out.extend_from_slice(b"\r\n");
                return Ok(true);
            }
            ([b' ' | b'\t', ..], None) if trim(line).is_empty() => {
                return Err(HeadError::BlankLine);
            }
            ([b' ' | b'\t', ..], None) => return Err(HeadError::BlankBeforeFields),
            ([b' ' | b'\t', ..], Some(is_written)) => {
                unfold(line, is_written, out, &mut lines.oddities)?;
            }
            _ => last = Some(field_line(line, out, &mut lines.oddities)?),
        }
    }
    Ok(false)
}

/// Writes a field line; whether it was not left out.
fn field_line(line: &[u8], out: &mut Vec<u8>, oddities: &mut Oddities) -> Result<bool, HeadError> {
    let colon = line.iter().position(|&byte| byte == b':');
    let (name, value) = line.split_at(colon.ok_or(HeadError::ColonMissing)?);
    let value = trim(&value[1..]);
    let bare = trim(name);
    if !is_token(bare) {
        if bare.is_empty() {
            return Err(HeadError::FieldNameEmpty);
        }
        if !bare.iter().all(u8::is_ascii_graphic) {
            return Err(HeadError::FieldName);
        }
        reject_refused(value)?;
        oddities.add(Oddity::FieldName);
        return Ok(false);
    }
    if bare.len() < name.len() {
        oddities.add(Oddity::SpaceBeforeColon);
    }
    out.extend_from_slice(bare);
    out.extend_from_slice(b": ");
    append_value(value, out, oddities)?;
    out.extend_from_slice(b"\r\n");
    Ok(true)
}

/// Appends a folded line to the last field, if that was written, with one SP in the place of the
/// fold (RFC 9112 section 5.2).
fn unfold(
    line: &[u8],
    is_written: bool,
    out: &mut Vec<u8>,
    oddities: &mut Oddities,
) -> Result<(), HeadError> {
    let line = trim(line);
    if line.is_empty() {
        return Err(HeadError::BlankLine);
    }
    oddities.add(Oddity::FoldedLine);
    if !is_written {
        return reject_refused(line);
    }
    out.truncate(out.trim_ascii_end().len());
    out.push(b' ');
    append_value(line, out, oddities)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}

fn append_value(value: &[u8], out: &mut Vec<u8>, oddities: &mut Oddities) -> Result<(), HeadError> {
    if append_text(value, out).ok_or(HeadError::FieldValue)? {
        oddities.add(Oddity::ControlByte);
    }
    Ok(())
}

/// Appends text with SP in the place of control bytes; whether there were any. None where one is
/// no matter of robustness (RFC 9110 section 5.5).
fn append_text(text: &[u8], out: &mut Vec<u8>) -> Option<bool> {
    let mut is_mended = false;
    for &byte in text {
        if is_refused(byte) {
            return None;
        }
        let is_control = byte.is_ascii_control() && byte != b'\t';
        is_mended |= is_control;
        out.push(if is_control { b' ' } else { byte });
    }
    Some(is_mended)
}

/// What is left out is not written, but what has two readings is refused there, too.
fn reject_refused(text: &[u8]) -> Result<(), HeadError> {
    if text.iter().any(|&byte| is_refused(byte)) {
        return Err(HeadError::FieldValue);
    }
    Ok(())
}

/// Whether a byte ends the line, or the text, for some readers.
const fn is_refused(byte: u8) -> bool {
    matches!(byte, b'\0' | b'\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use Oddity::{
        BareLineFeed, ControlByte, EmptyLine, FieldName, FoldedLine, SpaceBeforeColon, StatusLine,
    };

    /// What a head becomes and what was odd about it; the same at any split.
    fn mended(bytes: &[u8]) -> Result<(String, Oddities), HeadError> {
        let mut out = Vec::new();
        let whole = head(bytes, &mut out);
        let text = out.escape_ascii().to_string();
        for end in 0..bytes.len() {
            let part = head(&bytes[..end], &mut Vec::new());
            let is_early = part == Ok(None) || (part.is_err() && part == whole);
            assert!(is_early, "{part:?} after {end} bytes");
        }
        let (length, oddities) = whole?.expect("it is whole");
        assert_eq!(length, bytes.len());
        Ok((text, oddities))
    }

    #[test]
    fn what_has_one_reading_is_written_as_it_should_have_been() {
        let ok = r"HTTP/1.1 200 OK\r\n\r\n";
        let table: &[(&[u8], &str, &[Oddity])] = &[
            (b"HTTP/1.1 200 OK\r\n\r\n", ok, &[]),
            (
                b"\r\n\nHTTP/1.1 200 OK\r\n\r\n",
                ok,
                &[EmptyLine, BareLineFeed],
            ),
            (b"HTTP/1.1 200 OK\n\n", ok, &[BareLineFeed]),
            (b"HTTP/1.1 200 OK\r\n\n", ok, &[BareLineFeed]),
            (b"HTTP/1.1  200 OK\r\n\r\n", ok, &[StatusLine]),
            (b"HTTP/1.1 \t 200\tOK\r\n\r\n", ok, &[StatusLine]),
            (b"HTTP/1.1  200 \t OK\r\n\r\n", ok, &[StatusLine]),
            (
                b"HTTP/1.1 200  OK\n\n",
                r"HTTP/1.1 200  OK\r\n\r\n",
                &[BareLineFeed],
            ),
            (b"http/1.1 200 OK\r\n\r\n", ok, &[StatusLine]),
            (b"HTTP/1.7 200 OK\r\n\r\n", ok, &[StatusLine]),
            (
                b"ICY 200 OK\r\n\r\n",
                r"HTTP/1.0 200 OK\r\n\r\n",
                &[StatusLine],
            ),
            (
                b"HTTP/1.0\t200\r\n\r\n",
                r"HTTP/1.0 200 \r\n\r\n",
                &[StatusLine],
            ),
            (
                b"HTTP/1.1 200 OK\x01\r\n\r\n",
                r"HTTP/1.1 200 OK \r\n\r\n",
                &[StatusLine],
            ),
            (
                b"HTTP/1.1 200 a\x1bb\xfc\r\n\r\n",
                r"HTTP/1.1 200 a b\xfc\r\n\r\n",
                &[StatusLine],
            ),
        ];
        for (bytes, wanted, kinds) in table {
            let found = mended(bytes);
            let wanted = ((*wanted).to_owned(), Oddities::of(kinds));
            assert_eq!(found, Ok(wanted), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn field_lines_are_mended_one_by_one() {
        let table: &[(&[u8], &str, &[Oddity])] = &[
            (b"A:b\r\n", r"A: b\r\n", &[]),
            (
                b"A : b \r\nC\t :d\r\n",
                r"A: b\r\nC: d\r\n",
                &[SpaceBeforeColon],
            ),
            (b"A: b\nC: d\r\n", r"A: b\r\nC: d\r\n", &[BareLineFeed]),
            (
                b"A: b \r\n  c\r\n\td \r\nE: f\r\n",
                r"A: b c d\r\nE: f\r\n",
                &[FoldedLine],
            ),
            (b"A:\r\n b\r\n", r"A: b\r\n", &[FoldedLine]),
            (b"A:\n b\n", r"A: b\r\n", &[FoldedLine, BareLineFeed]),
            (
                b"A: \x01\x7f\r\n \x0b\tx\r\n",
                r"A:  \tx\r\n",
                &[FoldedLine, ControlByte],
            ),
            (
                b"X[y]: z\r\n folded\r\nA: b\r\n",
                r"A: b\r\n",
                &[FieldName, FoldedLine],
            ),
            (
                b"X@ : z\r\nX/: 1\r\n\"X\": 1\r\nA: b\r\n",
                r"A: b\r\n",
                &[FieldName],
            ),
            (b"A: \xfc\xc3\xbc\r\n", r"A: \xfc\xc3\xbc\r\n", &[]),
        ];
        for (lines, wanted, kinds) in table {
            let bytes = [b"HTTP/1.1 200 OK\r\n".as_slice(), lines, b"\r\n"].concat();
            let wanted = format!(r"HTTP/1.1 200 OK\r\n{wanted}\r\n");
            let found = mended(&bytes);
            assert_eq!(
                found,
                Ok((wanted, Oddities::of(kinds))),
                "{}",
                lines.escape_ascii()
            );
        }
    }

    #[test]
    fn what_has_two_readings_is_refused() {
        use HeadError::{
            BlankBeforeFields, BlankLine, ColonMissing, FieldName, FieldNameEmpty, FieldValue,
            StartLine, Status, Version,
        };
        let table: &[(&[u8], HeadError)] = &[
            (b"SSH-2.0-x\r\n", StartLine),
            (b" HTTP/1.1 200 OK\r\n\r\n", StartLine),
            (b"\rHTTP/1.1 200 OK\r\n\r\n", StartLine),
            (b"HTTP 200 OK\r\n\r\n", StartLine),
            (b"HTTP/x 200 OK\r\n\r\n", StartLine),
            (b"icy 200 OK\r\n\r\n", StartLine),
            (b"HTTP/1 200 OK\r\n\r\n", Version),
            (b"HTTP/01.1 200 OK\r\n\r\n", Version),
            (b"HTTP/1.10 200 OK\r\n\r\n", Version),
            (b"HTTP/2.0 200 OK\r\n\r\n", Version),
            (b"HTTP/1.1 20\r\n\r\n", Status),
            (b"HTTP/1.1\r\n\r\n", Status),
            (b"HTTP/1.1 2000 OK\r\n\r\n", Status),
            (b"HTTP/1.1 200OK\r\n\r\n", Status),
            (b"HTTP/1.1 +20 OK\r\n\r\n", Status),
            (b"HTTP/1.1 200 O\0K\r\n\r\n", Status),
            (b"HTTP/1.1 200 O\rK\r\n\r\n", Status),
            (b"HTTP/1.1 200 OK\r\r\n\r\n", Status),
            (b"HTTP/1.1 200 OK\r\n A: b\r\n\r\n", BlankBeforeFields),
            (b"HTTP/1.1 200 OK\r\n \t\r\n\r\n", BlankLine),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n \r\n\r\n", BlankLine),
            (b"HTTP/1.1 200 OK\r\nA\r\n\r\n", ColonMissing),
            (b"HTTP/1.1 200 OK\r\n: b\r\n\r\n", FieldNameEmpty),
            (b"HTTP/1.1 200 OK\r\n : b\r\n\r\n", BlankBeforeFields),
            (b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", FieldName),
            (b"HTTP/1.1 200 OK\r\nA\xa0: c\r\n\r\n", FieldName),
            (b"HTTP/1.1 200 OK\r\nA\x01: c\r\n\r\n", FieldName),
            (b"HTTP/1.1 200 OK\r\nA\0: c\r\n\r\n", FieldName),
            (b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", FieldValue),
            (b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", FieldValue),
            (b"HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n", FieldValue),
            (b"HTTP/1.1 200 OK\r\nA: b\r\n c\0\r\n\r\n", FieldValue),
            (b"HTTP/1.1 200 OK\r\nX[]: b\0\r\n\r\n", FieldValue),
            (b"HTTP/1.1 200 OK\r\nX[]: b\r\n c\rd\r\n\r\n", FieldValue),
        ];
        for (bytes, wanted) in table {
            assert_eq!(mended(bytes), Err(*wanted), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn trailers_are_mended_like_fields() {
        let mut out = Vec::new();
        let found = trailers(b"A : b\n c\r\n\n", &mut out);
        let kinds = [SpaceBeforeColon, FoldedLine, Oddity::ChunkLineFeed];
        assert_eq!(found, Ok(Oddities::of(&kinds)));
        assert_eq!(out, b"A: b c\r\n\r\n");
        assert_eq!(
            trailers(b"A\r\n\r\n", &mut out),
            Err(HeadError::ColonMissing)
        );
        assert_eq!(trailers(b"A: b\r\n", &mut out), Err(HeadError::LineEnd));
    }
}
