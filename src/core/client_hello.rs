//! A TLS ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2), read for what says where
//! its connection is to go. Nothing is decrypted, and nothing is needed that decrypts.
//!
//! What does not bear on that is stepped over; whoever takes the connection judges it. Where
//! Encrypted ClientHello is used, the name that is found is the outer one.

use std::borrow::Cow;
use std::iter;
use std::net::IpAddr;

use super::host_name;

/// The longest ClientHello, with the head of its message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// What a record may carry (RFC 8446 section 5.1), in bytes.
const RECORD_BYTES_MAX: usize = 1 << 14;
const RECORD_HEAD_BYTES: usize = 5;
const MESSAGE_HEAD_BYTES: usize = 4;

/// The longest method that is taken for one of HTTP, in bytes.
const METHOD_BYTES_MAX: usize = 20;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const HOST_NAME: u8 = 0;
/// Extensions.
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
const RENEGOTIATION_INFO: u16 = 0xff01;

/// What a client says of where it wants to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// In lower case and without a dot at the end; an address counts as none.
    pub server_name: Option<Box<str>>,
    /// The highest version of TLS that is offered, as on the wire; 0 if that is none.
    pub version: u16,
    /// The protocols as on the wire, each behind its length.
    pub(crate) alpn: Box<[u8]>,
    /// It names a connection that is to be renegotiated, as no first one may (RFC 5746 section
    /// 3.6).
    pub renegotiates: bool,
}

impl ClientHello {
    /// The protocols that are offered, the one liked best first.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Reader(&self.alpn);
        iter::from_fn(move || rest.vector8())
    }
}

/// What the bytes that have come so far are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloLook {
    /// A beginning.
    More,
    /// A whole ClientHello; others of its bytes may follow.
    Hello(ClientHello),
    /// Something else than TLS.
    NotTls(NotTls),
    /// TLS, but no good ClientHello.
    Bad(BadHello),
}

/// What is said where TLS is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTls {
    /// A request of HTTP.
    Http,
    /// Anything else; also the ClientHello of SSLv2 (RFC 6176).
    Other,
}

/// What is wrong with a ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHello {
    /// Another message or record stands in its place.
    Unexpected,
    /// A record is longer than records may be.
    RecordTooLong,
    /// A record carries nothing.
    RecordEmpty,
    /// It is longer than [`MESSAGE_BYTES_MAX`].
    TooLong,
    /// It is of no version of TLS, or of none that is spoken.
    Version,
    /// Its parts do not fit into each other.
    Malformed,
    /// An extension stands there twice.
    Duplicate,
    /// The server's name is none.
    Name,
    /// It is for a connection that has agreed before.
    Renegotiation,
}

impl BadHello {
    /// What is wrong, for a log line.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unexpected => "another message in the place of a ClientHello",
            Self::RecordTooLong => "a record of more than 16384 bytes",
            Self::RecordEmpty => "a handshake record without content",
            Self::TooLong => "a ClientHello of more than 16384 bytes",
            Self::Version => "no version of TLS that is spoken",
            Self::Malformed => "a malformed ClientHello",
            Self::Duplicate => "a ClientHello with an extension twice",
            Self::Name => "a server name that is none",
            Self::Renegotiation => "a renegotiation of nothing",
        }
    }

    /// The alert that says so.
    #[must_use]
    pub const fn alert(self) -> Alert {
        match self {
            Self::Unexpected | Self::RecordEmpty => Alert::UNEXPECTED_MESSAGE,
            Self::RecordTooLong => Alert::RECORD_OVERFLOW,
            Self::TooLong | Self::Malformed => Alert::DECODE_ERROR,
            Self::Version => Alert::PROTOCOL_VERSION,
            Self::Duplicate | Self::Name => Alert::ILLEGAL_PARAMETER,
            Self::Renegotiation => Alert::HANDSHAKE_FAILURE,
        }
    }
}

/// A fatal alert (RFC 8446 section 6), which ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(u8);

#[allow(
    missing_docs,
    reason = "each is the alert of that name in RFC 8446 section 6"
)]
impl Alert {
    pub const UNEXPECTED_MESSAGE: Self = Self(10);
    pub const RECORD_OVERFLOW: Self = Self(22);
    pub const HANDSHAKE_FAILURE: Self = Self(40);
    pub const ILLEGAL_PARAMETER: Self = Self(47);
    pub const DECODE_ERROR: Self = Self(50);
    pub const PROTOCOL_VERSION: Self = Self(70);
    pub const UNRECOGNIZED_NAME: Self = Self(112);
    pub const NO_APPLICATION_PROTOCOL: Self = Self(120);

    /// It as a record, as long as nothing is encrypted.
    #[must_use]
    pub const fn record(self) -> [u8; 7] {
        [21, 3, 3, 0, 2, 2, self.0]
    }
}

/// Reads a ClientHello, however its bytes come.
#[derive(Clone, Copy, Debug, Default)]
pub struct HelloReader {
    /// Where the first record begins that was not whole yet.
    walked: usize,
    /// What those before it carry, in bytes.
    gathered: usize,
}

impl HelloReader {
    /// What all `bytes` that have come so far are; they begin as those before.
    #[must_use]
    pub fn look(&mut self, bytes: &[u8]) -> HelloLook {
        match self.message(bytes).map(|it| it.map(|it| parse(&it))) {
            Ok(None) => HelloLook::More,
            Ok(Some(Ok(hello))) => HelloLook::Hello(hello),
            Ok(Some(Err(bad))) | Err(Refused::Bad(bad)) => HelloLook::Bad(bad),
            Err(Refused::NotTls(what)) => HelloLook::NotTls(what),
        }
    }

    /// The body of the message, if it is whole.
    fn message<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<Cow<'a, [u8]>>, Refused> {
        loop {
            let Some((carried, is_whole)) = record(bytes, self.walked)? else {
                return Ok(None);
            };
            let gathered = self.gathered + carried.len();
            if let Some(length) = message_bytes(bytes)?
                && length <= gathered
            {
                return Ok(Some(body(bytes, length)));
            }
            if !is_whole {
                return Ok(None);
            }
            self.walked += RECORD_HEAD_BYTES + carried.len();
            self.gathered = gathered;
        }
    }
}

/// Why no ClientHello is found.
enum Refused {
    NotTls(NotTls),
    Bad(BadHello),
}

impl From<BadHello> for Refused {
    fn from(bad: BadHello) -> Self {
        Self::Bad(bad)
    }
}

/// What has come of what the record there carries, and whether that is all of it. None while its
/// head is not whole.
fn record(bytes: &[u8], at: usize) -> Result<Option<(&[u8], bool)>, Refused> {
    let found = bytes.get(at..).unwrap_or_default();
    check_kind(found, at == 0)?;
    let Some(([HANDSHAKE, _, _, high, low], rest)) = found.split_first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    match length {
        0 => return Err(BadHello::RecordEmpty.into()),
        1..=RECORD_BYTES_MAX => {}
        _ => return Err(BadHello::RecordTooLong.into()),
    }
    let carried = rest.get(..length);
    Ok(Some((carried.unwrap_or(rest), carried.is_some())))
}

/// Refuses what is no record of a handshake, as early as that is seen.
fn check_kind(found: &[u8], is_first: bool) -> Result<(), Refused> {
    match *found {
        [] | [HANDSHAKE] | [HANDSHAKE, 3, ..] => Ok(()),
        // Those of the other protocols of TLS begin alike.
        [20..=24] if is_first => Ok(()),
        [20..=24, 3, ..] => Err(BadHello::Unexpected.into()),
        _ if !is_first => Err(BadHello::Unexpected.into()),
        _ => match other(found) {
            Some(what) => Err(Refused::NotTls(what)),
            None => Ok(()),
        },
    }
}

/// What it is that is not TLS; none while that is open.
fn other(found: &[u8]) -> Option<NotTls> {
    let method = found.iter().take_while(|byte| byte.is_ascii_uppercase());
    let method = method.take(METHOD_BYTES_MAX).count();
    match &found[method..] {
        [] => None,
        [b' '] if method > 0 => None,
        // All forms of a target (RFC 9112 section 3.2) but that of CONNECT.
        [b' ', b'/' | b'*' | b'h' | b'H', ..] if method > 0 => Some(NotTls::Http),
        [b' ', ..] if found.starts_with(b"CONNECT ") => Some(NotTls::Http),
        _ => Some(NotTls::Other),
    }
}

/// What the records carry, in the order of the bytes, as far as it has come.
fn carried(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    iter::from_fn(move || {
        let (carried, _) = record(bytes, at).ok()??;
        at += RECORD_HEAD_BYTES + carried.len();
        Some(carried)
    })
}

/// The length of the message with its head, once that is whole.
fn message_bytes(bytes: &[u8]) -> Result<Option<usize>, BadHello> {
    let mut head = [0; MESSAGE_HEAD_BYTES];
    let mut count = 0;
    for (place, byte) in head.iter_mut().zip(carried(bytes).flatten()) {
        *place = *byte;
        count += 1;
    }
    let [kind, length @ ..] = head;
    if count > 0 && kind != CLIENT_HELLO {
        return Err(BadHello::Unexpected);
    }
    if count < MESSAGE_HEAD_BYTES {
        return Ok(None);
    }
    let [high, middle, low] = length.map(usize::from);
    let length = MESSAGE_HEAD_BYTES + (high << 16 | middle << 8 | low);
    if length > MESSAGE_BYTES_MAX {
        return Err(BadHello::TooLong);
    }
    Ok(Some(length))
}

/// The body of a message of this length that is whole, copied only if it comes in several records.
fn body(bytes: &[u8], length: usize) -> Cow<'_, [u8]> {
    let first = carried(bytes).next().unwrap_or_default();
    if let Some(body) = first.get(MESSAGE_HEAD_BYTES..length) {
        return Cow::Borrowed(body);
    }
    let mut whole = Vec::with_capacity(length);
    for part in carried(bytes) {
        let wanted = part.len().min(length - whole.len());
        whole.extend_from_slice(&part[..wanted]);
    }
    Cow::Owned(whole.split_off(MESSAGE_HEAD_BYTES))
}

/// The body of a ClientHello.
fn parse(body: &[u8]) -> Result<ClientHello, BadHello> {
    let mut rest = Reader(body);
    let legacy_version = rest.number16().ok_or(BadHello::Malformed)?;
    if legacy_version >> 8 != 3 {
        return Err(BadHello::Version);
    }
    let extensions = rest.skip_to_extensions().ok_or(BadHello::Malformed)?;
    let mut hello = ClientHello {
        version: legacy_version,
        ..ClientHello::default()
    };
    let mut seen = Seen::new();
    let mut rest = Reader(extensions);
    while !rest.0.is_empty() {
        let kind = rest.number16().ok_or(BadHello::Malformed)?;
        let content = rest.vector16().ok_or(BadHello::Malformed)?;
        if !seen.note(kind) {
            return Err(BadHello::Duplicate);
        }
        match kind {
            SERVER_NAME => hello.server_name = server_name(content)?,
            ALPN => hello.alpn = protocols(content).ok_or(BadHello::Malformed)?.into(),
            SUPPORTED_VERSIONS => {
                hello.version = highest_version(content).ok_or(BadHello::Malformed)?;
            }
            RENEGOTIATION_INFO => hello.renegotiates = content != [0],
            _ => {}
        }
    }
    Ok(hello)
}

/// The extensions of a hello, each of which may stand there once (RFC 8446 section 4.2).
struct Seen([u64; 1 << (16 - 6)]);

impl Seen {
    fn new() -> Self {
        Self([0; 1 << (16 - 6)])
    }

    /// Whether it is the first of its kind.
    fn note(&mut self, kind: u16) -> bool {
        let (word, bit) = (&mut self.0[usize::from(kind >> 6)], 1 << (kind & 63));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }
}

/// The one name that a list of them may have (RFC 6066 section 3: one of each kind, and there is
/// but one kind). No address is one, but there are clients who send the one that they connect to:
/// such a client has named nobody.
fn server_name(content: &[u8]) -> Result<Option<Box<str>>, BadHello> {
    let list = whole(content, Reader::vector16).ok_or(BadHello::Malformed)?;
    let name = whole(list, |rest| match rest.number8()? {
        HOST_NAME => rest.vector16(),
        _ => None,
    });
    let name = str::from_utf8(name.ok_or(BadHello::Malformed)?).map_err(|_| BadHello::Name)?;
    match name.parse::<IpAddr>() {
        Ok(_) => Ok(None),
        Err(_) => comparable(name).map(Some).ok_or(BadHello::Name),
    }
}

/// A name as routes are compared with it. What ends as an address does is none; a dot at its end
/// should not be there, and means nothing.
fn comparable(given: &str) -> Option<Box<str>> {
    let name = given.strip_suffix('.').unwrap_or(given);
    let is_name = host_name::is_of_labels(name) && !host_name::ends_in_digits(name);
    is_name.then(|| name.to_ascii_lowercase().into())
}

/// The list of protocols (RFC 7301 section 3.1): at least one, and none of them empty.
fn protocols(content: &[u8]) -> Option<&[u8]> {
    let list = whole(content, Reader::vector16)?;
    let mut rest = Reader(list);
    while !rest.0.is_empty() {
        rest.vector8().filter(|protocol| !protocol.is_empty())?;
    }
    (!list.is_empty()).then_some(list)
}

/// The highest version of TLS in a list; 0 if it has none. The others are GREASE (RFC 8701) and
/// drafts.
fn highest_version(content: &[u8]) -> Option<u16> {
    let list = whole(content, Reader::vector8)?;
    let (versions, rest) = list.as_chunks();
    if versions.is_empty() || !rest.is_empty() {
        return None;
    }
    let versions = versions.iter().copied().map(u16::from_be_bytes);
    Some(
        versions
            .filter(|version| version >> 8 == 3)
            .max()
            .unwrap_or(0),
    )
}

/// What `read` makes of all the bytes; none if it leaves any.
fn whole<'a>(
    bytes: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Option<&'a [u8]>,
) -> Option<&'a [u8]> {
    let mut rest = Reader(bytes);
    let found = read(&mut rest)?;
    rest.0.is_empty().then_some(found)
}

/// What is left of some bytes; vectors stand behind their length (RFC 8446 section 3.4).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(found)
    }

    fn number8(&mut self) -> Option<u8> {
        self.bytes(1).map(|found| found[0])
    }

    fn number16(&mut self) -> Option<u16> {
        self.bytes(2)
            .map(|found| u16::from_be_bytes([found[0], found[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = self.number8()?;
        self.bytes(length.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = self.number16()?;
        self.bytes(length.into())
    }

    /// The extensions behind the version; there may be none at all.
    fn skip_to_extensions(&mut self) -> Option<&'a [u8]> {
        const RANDOM_BYTES: usize = 32;
        const SESSION_ID_BYTES_MAX: usize = 32;
        self.bytes(RANDOM_BYTES)?;
        self.vector8()
            .filter(|id| id.len() <= SESSION_ID_BYTES_MAX)?;
        let ciphers = self.vector16()?;
        let compressions = self.vector8()?;
        let is_good = !ciphers.is_empty() && ciphers.len() % 2 == 0 && compressions.contains(&0);
        match self.0 {
            _ if !is_good => None,
            [] => Some(&[]),
            rest => whole(rest, Reader::vector16),
        }
    }
}

#[cfg(test)]
mod tests;
