//! The canonical path of a request target: one form, used to match routes and to forward.
//!
//! Two spellings of one path must never reach two decisions, or a route that protects `/admin`
//! is passed with `/%61dmin` or `/x/../admin`. The form is that of RFC 3986 section 6.2.2: escapes
//! of unreserved characters are decoded, other escapes are in upper case, bytes that no path may
//! hold are escaped, dot segments are gone (section 5.2.4). Beyond the RFC, runs of slashes are
//! one slash, as most servers read them. `%2F` stays what it is: data, not a separator.
//!
//! What some servers would still read as a dot segment (`..;x`, `..%2Fx`, `..%5Cx`) is refused, as
//! is a raw backslash: no spelling of those means the same everywhere.
//!
//! Bytes beyond ASCII are escaped one by one, in the query too, whether they are UTF-8 or not:
//! browsers and curl send them as they are, some servers refuse them, and every server decodes the
//! escapes to the same bytes. Nothing that is escaped there is ever decoded or folded, so that an
//! overlong `.` or `/` (`%C0%AE`) stays data, as it came. The query is not touched otherwise.

use std::fmt;

use crate::core::http::syntax::ByteSet;

/// A target's canonical path, and its query as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canonical<'a> {
    /// Begins with a slash and holds no dot segment.
    pub path: &'a [u8],
    /// What follows the first question mark, byte for byte but for bytes beyond ASCII, which are
    /// escaped; none when there is no question mark.
    pub query: Option<&'a [u8]>,
}

/// Why a target is refused; each is a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with a slash.
    NotAbsolute,
    /// A byte that no target may hold: a control byte, space, `#`, or in the path a backslash.
    ForbiddenByte,
    /// A percent sign without two hexadecimal digits.
    BadEscape,
    /// An escaped control byte, such as `%00`.
    EscapedControl,
    /// A segment that some servers read as a dot segment and others do not.
    AmbiguousDots,
}

impl PathError {
    /// The reason, for a log line.
    #[must_use]
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::NotAbsolute => "the path does not begin with a slash",
            Self::ForbiddenByte => "the target holds a byte that is not allowed in it",
            Self::BadEscape => "a percent sign without two hexadecimal digits",
            Self::EscapedControl => "an escaped control byte",
            Self::AmbiguousDots => "dots that servers read in different ways",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

/// The canonical form of `target`: an origin-form target, or what follows the authority of an
/// absolute-form one, where an empty path stands for `/` (RFC 9112 section 3.2).
///
/// A path or query that is already canonical is borrowed from `target`; any other is written to
/// `space`, whose old content is lost. Neither becomes longer than three times what it was.
///
/// # Errors
/// When no reading of the target is safe; see [`PathError`].
pub fn canonical<'a>(target: &'a [u8], space: &'a mut Vec<u8>) -> Result<Canonical<'a>, PathError> {
    let (path, query) = match target.iter().position(|&byte| byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    };
    if query.is_some_and(|query| query.iter().any(|&byte| is_forbidden(byte))) {
        return Err(PathError::ForbiddenByte);
    }
    let settled = match path.strip_prefix(b"/") {
        None if path.is_empty() => Some(&b"/"[..]),
        None => return Err(PathError::NotAbsolute),
        Some(segments) => is_canonical(segments).then_some(path),
    };
    let raw = query.filter(|query| !query.is_ascii());
    if let (Some(path), None) = (settled, raw) {
        return Ok(Canonical { path, query });
    }
    space.clear();
    if settled.is_none() {
        rebuild(&path[1..], space)?;
    }
    let path_bytes = space.len();
    escape_beyond_ascii(raw.unwrap_or_default(), space);
    let (rebuilt, escaped) = space.split_at(path_bytes);
    Ok(Canonical {
        path: settled.unwrap_or(rebuilt),
        query: raw.map(|_| escaped).or(query),
    })
}

/// Whether `segments`, a path without its first slash, would come out of [`rebuild`] unchanged.
fn is_canonical(segments: &[u8]) -> bool {
    // Only the last segment may be empty: a slash at the end.
    let filled = segments.strip_suffix(b"/").unwrap_or(segments);
    segments.is_empty() || filled.split(|&byte| byte == b'/').all(is_settled)
}

/// Whether a segment is not empty, spelled canonically and free of dots with a meaning.
fn is_settled(segment: &[u8]) -> bool {
    let (mut rest, mut has_dot) = (segment, false);
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (
                b'%',
                [
                    high @ (b'0'..=b'9' | b'A'..=b'F'),
                    low @ (b'0'..=b'9' | b'A'..=b'F'),
                    after @ ..,
                ],
            ) => {
                let value = nibble(*high).unwrap_or(0) << 4 | nibble(*low).unwrap_or(0);
                if is_unreserved(value) || is_control(value) {
                    return false;
                }
                after
            }
            (&byte, tail) if PATH_BYTES.has(byte) => {
                has_dot |= byte == b'.';
                tail
            }
            _ => return false,
        };
    }
    !(segment.is_empty() || has_dot && has_dot_piece(segment))
}

/// Writes `/` and the canonical segments to `space`.
///
/// `space` ends in a slash whenever a segment begins, so that a dot segment only has to cut.
fn rebuild(segments: &[u8], space: &mut Vec<u8>) -> Result<(), PathError> {
    space.push(b'/');
    let mut rest = Some(segments);
    while let Some(now) = rest {
        let (segment, after) = match now.iter().position(|&byte| byte == b'/') {
            Some(slash) => (&now[..slash], Some(&now[slash + 1..])),
            None => (now, None),
        };
        let start = space.len();
        spell(segment, space)?;
        match &space[start..] {
            b"" => {}
            b"." => space.truncate(start),
            b".." => {
                space.truncate(start);
                cut_last_segment(space);
            }
            written if has_dot_piece(written) => return Err(PathError::AmbiguousDots),
            _ if after.is_some() => space.push(b'/'),
            _ => {}
        }
        rest = after;
    }
    Ok(())
}

/// Appends a segment in its canonical spelling.
fn spell(segment: &[u8], space: &mut Vec<u8>) -> Result<(), PathError> {
    let mut rest = segment;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte == b'%' {
            let [high, low, after @ ..] = tail else {
                return Err(PathError::BadEscape);
            };
            let (Some(high), Some(low)) = (nibble(*high), nibble(*low)) else {
                return Err(PathError::BadEscape);
            };
            rest = after;
            let value = high << 4 | low;
            if is_control(value) {
                return Err(PathError::EscapedControl);
            }
            if is_unreserved(value) {
                space.push(value);
            } else {
                escape(value, space);
            }
        } else if is_forbidden(*byte) || *byte == b'\\' {
            return Err(PathError::ForbiddenByte);
        } else if PATH_BYTES.has(*byte) {
            space.push(*byte);
        } else {
            escape(*byte, space);
        }
    }
    Ok(())
}

/// Takes the last segment off a path that ends in a slash; the root stays.
fn cut_last_segment(path: &mut Vec<u8>) {
    let inner = path.len().saturating_sub(1);
    let slash = path[..inner].iter().rposition(|&byte| byte == b'/');
    path.truncate(slash.map_or(1, |slash| slash + 1));
}

/// Whether a canonically spelled segment has a piece of only one or two dots, where servers
/// differ about what ends a piece: an escaped slash or backslash, or a parameter after `;`.
fn has_dot_piece(segment: &[u8]) -> bool {
    let mut start = 0;
    loop {
        let piece = &segment[start..];
        let length = (0..piece.len())
            .find(|&at| piece[at..].starts_with(b"%2F") || piece[at..].starts_with(b"%5C"))
            .unwrap_or(piece.len());
        let name = piece[..length].split(|&byte| byte == b';').next();
        if matches!(name, Some(b"." | b"..")) {
            return true;
        }
        if length == piece.len() {
            return false;
        }
        start += length + b"%2F".len();
    }
}

/// Appends `text` with each byte beyond ASCII escaped, and everything else as it is.
pub(crate) fn escape_beyond_ascii(text: &[u8], space: &mut Vec<u8>) {
    for &byte in text {
        if byte.is_ascii() {
            space.push(byte);
        } else {
            escape(byte, space);
        }
    }
}

fn escape(byte: u8, space: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let (high, low) = (usize::from(byte >> 4), usize::from(byte & 15));
    space.extend_from_slice(&[b'%', DIGITS[high], DIGITS[low]]);
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Never allowed in a target, as one server cuts there and another does not.
fn is_forbidden(byte: u8) -> bool {
    is_control(byte) || matches!(byte, b' ' | b'#')
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `pchar` of RFC 3986 section 3.3, without escapes.
static PATH_BYTES: ByteSet = ByteSet::alphanumeric_and(b"-._~!$&'()*+,;=:@");

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(target: &str) -> Result<String, PathError> {
        let mut space = Vec::new();
        let found = canonical(target.as_bytes(), &mut space)?;
        Ok(String::from_utf8(found.path.to_vec()).unwrap())
    }

    #[test]
    fn every_spelling_comes_to_one_path() {
        for (target, path) in [
            ("/", "/"),
            ("", "/"),
            ("/a", "/a"),
            ("/a/", "/a/"),
            ("/a/b.html", "/a/b.html"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            // Dot segments, RFC 3986 sections 5.2.4 and 5.4.
            ("/.", "/"),
            ("/..", "/"),
            ("/a/.", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/../../x", "/x"),
            ("/a/../../../x", "/x"),
            ("/%2e%2e/x", "/x"),
            ("/a/%2E%2e/x", "/x"),
            ("/a/.%2e/x", "/x"),
            ("/a/%2e/x", "/a/x"),
            // Slashes.
            ("//", "/"),
            ("//a", "/a"),
            ("/a//b", "/a/b"),
            ("/a///", "/a/"),
            ("/a//../b", "/b"),
            // Escapes.
            ("/%61dmin", "/admin"),
            ("/%7euser", "/~user"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%20b", "/a%20b"),
            ("/a%252e%252e", "/a%252e%252e"),
            ("/%3f%23%3b", "/%3F%23%3B"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/{x}|\"<>^`", "/%7Bx%7D%7C%22%3C%3E%5E%60"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/a;..", "/a;.."),
            ("/x..%2Fy", "/x..%2Fy"),
            ("/a:b@c!$&'()*+,=", "/a:b@c!$&'()*+,="),
        ] {
            assert_eq!(path_of(target).as_deref(), Ok(path), "{target}");
        }
    }

    #[test]
    fn what_has_no_safe_reading_is_refused() {
        for (target, error) in [
            ("a", PathError::NotAbsolute),
            ("*", PathError::NotAbsolute),
            ("http://h/", PathError::NotAbsolute),
            ("/a%00", PathError::EscapedControl),
            ("/a%0d%0Ab", PathError::EscapedControl),
            ("/a%7F", PathError::EscapedControl),
            ("/a%", PathError::BadEscape),
            ("/a%4", PathError::BadEscape),
            ("/a%4/", PathError::BadEscape),
            ("/a%zz", PathError::BadEscape),
            ("/a%u0041", PathError::BadEscape),
            ("/a b", PathError::ForbiddenByte),
            ("/a\tb", PathError::ForbiddenByte),
            ("/a\0b", PathError::ForbiddenByte),
            ("/a\u{7f}b", PathError::ForbiddenByte),
            ("/a#b", PathError::ForbiddenByte),
            ("/a?b#c", PathError::ForbiddenByte),
            ("/a?b c", PathError::ForbiddenByte),
            ("/a\\..\\b", PathError::ForbiddenByte),
            ("/a/..;/b", PathError::AmbiguousDots),
            ("/a/.;x=1/b", PathError::AmbiguousDots),
            ("/a/%2e%2e;x/b", PathError::AmbiguousDots),
            ("/a/..%2fb", PathError::AmbiguousDots),
            ("/a/b%2F..", PathError::AmbiguousDots),
            ("/a/b%5c..%5cc", PathError::AmbiguousDots),
        ] {
            assert_eq!(path_of(target), Err(error), "{target:?}");
        }
    }

    #[test]
    fn the_query_stays_as_it_came() {
        for (target, query) in [
            ("/a", None),
            ("/a?", Some("")),
            ("?x", Some("x")),
            (
                "//a?%61=/../%zz&?b\\|{}\"<>^`",
                Some("%61=/../%zz&?b\\|{}\"<>^`"),
            ),
        ] {
            let mut space = Vec::new();
            let found = canonical(target.as_bytes(), &mut space).unwrap();
            assert_eq!(found.query, query.map(str::as_bytes), "{target}");
        }
    }

    #[test]
    fn bytes_beyond_ascii_are_escaped_and_never_read() {
        for (target, path, query) in [
            (&b"/caf\xc3\xa9"[..], "/caf%C3%A9", None),
            (b"/a?\xc3\xa9=%c3%a9|", "/a", Some("%C3%A9=%c3%a9|")),
            (b"//\xe9/?\xe9", "/%E9/", Some("%E9")),
            (b"?\xff", "/", Some("%FF")),
            // Overlong forms of `.` and `/`, and a full-width full stop, twice.
            (b"/a/\xc0\xae\xc0\xae/b", "/a/%C0%AE%C0%AE/b", None),
            (b"/a/..\xc0\xafb", "/a/..%C0%AFb", None),
            (b"/a/%c0%ae%c0%ae/b", "/a/%C0%AE%C0%AE/b", None),
            (
                b"/\xef\xbc\x8e\xef\xbc\x8e/b",
                "/%EF%BC%8E%EF%BC%8E/b",
                None,
            ),
            (b"/\x80/../\x85\xa0", "/%85%A0", None),
        ] {
            let mut space = Vec::new();
            let found = canonical(target, &mut space).unwrap();
            let shown = target.escape_ascii();
            assert_eq!(found.path, path.as_bytes(), "{shown}");
            assert_eq!(found.query, query.map(str::as_bytes), "{shown}");
        }
    }

    #[test]
    fn a_canonical_path_is_borrowed() {
        for target in ["/", "/a/b/", "/a%20b/%2F;x?q", "/.well-known/acme"] {
            let mut space = Vec::new();
            let path = canonical(target.as_bytes(), &mut space).unwrap().path;
            assert_eq!(path.as_ptr(), target.as_ptr(), "{target}");
            assert_eq!(space.capacity(), 0, "{target}");
        }
    }
}
