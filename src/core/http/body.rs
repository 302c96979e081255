//! Where a message body ends, and what of it goes to the other side.
//!
//! A body is never stored here. A [`Body`] is shown the bytes as they arrive and answers with a
//! [`Piece`]: forward the first so many, drop the next so many. Every change that weir makes to
//! a body it passes on is a deletion (chunk extensions; all chunk framing towards an HTTP/1.0
//! client), so the bytes themselves can go out from where they lie. Only trailers, which are
//! rare, are gathered, judged and written anew; and a response's line end that is LF alone is
//! replaced.
//!
//! Bodies of responses may be odd where that has one reading (see [`super::oddity`]). A chunk
//! extension that ends in LF alone has two: some take the LF for a part of it.
//!
//! A body that was cut short is never `done`, whatever came before.

use std::fmt;
use std::sync::Arc;

use super::claims::{Claims, is_same_name};
use super::known::{Known, KnownSet};

use super::mend;
use super::oddity::{Oddities, Oddity};
use super::syntax::names;

/// How the end of a body is found (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// This many bytes, which may be zero.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Everything until the sender ends the connection; responses only.
    UntilClose,
}

/// What is done to a body on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reframing {
    /// There is no body.
    None,
    /// Forwarded as it comes: a length, or until close to an HTTP/1.0 client.
    Plain,
    /// Chunked in and out: validated, extensions dropped, trailers filtered.
    Chunked,
    /// Chunked in, bare data out, ended by closing: towards HTTP/1.0.
    Unchunk,
    /// Until close in, chunked out: the caller frames each piece with [`ChunkLine`] and ends with
    /// [`LAST_CHUNK`].
    Enchunk,
}

impl Reframing {
    /// How a body framed as `framing` goes to a receiver that knows chunked coding or not.
    #[must_use]
    pub(crate) const fn towards(framing: Framing, knows_chunked: bool) -> Self {
        match (framing, knows_chunked) {
            (Framing::None, _) => Self::None,
            (Framing::Length(_), _) | (Framing::UntilClose, false) => Self::Plain,
            (Framing::Chunked, true) => Self::Chunked,
            (Framing::Chunked, false) => Self::Unchunk,
            (Framing::UntilClose, true) => Self::Enchunk,
        }
    }
}

/// What takes the place of a line end that was dropped; see [`Piece::ends_line`].
pub(crate) const LINE_END: &[u8] = b"\r\n";

/// What ends a chunked body without trailers.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Longest trailer section, in bytes.
pub(crate) const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// Most fields in a trailer section.
pub(crate) const TRAILER_FIELDS_MAX: usize = 32;
/// Longest extension of one chunk, in bytes.
pub(crate) const EXTENSION_BYTES_MAX: u64 = 1024;
/// How far all extensions of a body may be ahead of its data, in bytes: a sender of tiny chunks
/// with long extensions costs much and says nothing.
pub(crate) const EXTENSION_LEAD_MAX: u64 = 16 * 1024;
/// Most hexadecimal digits of a chunk size.
const SIZE_DIGITS_MAX: u8 = 16;
/// So many leading zeros of a response's chunk size are passed on; the others count as extension.
const SIZE_ZEROS_MAX: u8 = 8;
/// The largest chunk: what every receiver can hold in a signed 64-bit number.
const CHUNK_BYTES_MAX: u64 = i64::MAX as u64;

/// What to do with the bytes a [`Body`] was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// So many from the front go to the other side.
    pub forward: usize,
    /// So many from the front are dealt with; `forward..consumed` are dropped.
    pub consumed: usize,
    /// CRLF goes to the other side after those, in the place of a line end that was dropped.
    pub ends_line: bool,
    /// The body is complete. Bytes after `consumed` belong to the next message.
    pub done: bool,
}

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk size that is missing, has a digit that is none, or is followed by junk.
    ChunkSize,
    /// A chunk size of more than 16 digits or above 2^63 - 1.
    ChunkTooLarge,
    /// A control byte in a chunk extension.
    Extension,
    /// Chunk extensions beyond [`EXTENSION_BYTES_MAX`] or [`EXTENSION_LEAD_MAX`].
    ExtensionTooLong,
    /// A line that ends in anything but CRLF, or chunk data that goes on past its size.
    LineEnd,
    /// A trailer section that is no sequence of fields.
    Trailer,
    /// A trailer section beyond [`TRAILER_BYTES_MAX`] or [`TRAILER_FIELDS_MAX`].
    TrailerTooLong,
    /// The sender ended before the body did.
    Truncated,
}

impl BodyError {
    /// The rule that was broken, for a log line.
    #[must_use]
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::ChunkSize => "invalid chunk size",
            Self::ChunkTooLarge => "chunk size too large",
            Self::Extension => "invalid chunk extension",
            Self::ExtensionTooLong => "chunk extensions too long",
            Self::LineEnd => "invalid line end in chunked body",
            Self::Trailer => "invalid trailer section",
            Self::TrailerTooLong => "trailer section too long",
            Self::Truncated => "body cut short",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BodyError {}

/// One body on its way.
#[derive(Debug)]
pub struct Body {
    state: State,
    /// Data bytes so far, without chunk framing.
    payload_bytes: u64,
    /// Of a chunked body that is done.
    oddities: Oddities,
}

#[derive(Debug)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Chunked(Chunked),
}

impl Body {
    /// A body framed as `framing`; `keep_framing` says whether chunk framing is forwarded
    /// ([`Reframing::Chunked`]) or only the data in it ([`Reframing::Unchunk`]).
    #[must_use]
    pub const fn new(framing: Framing, keep_framing: bool) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::UntilClose => State::UntilClose,
            Framing::Chunked => State::Chunked(Chunked::new(keep_framing)),
        };
        Self {
            state,
            payload_bytes: 0,
            oddities: Oddities::NONE,
        }
    }

    /// The body of a response, of which more is taken than of a request's.
    #[must_use]
    pub const fn of_response(framing: Framing, keep_framing: bool) -> Self {
        let mut body = Self::new(framing, keep_framing);
        if let State::Chunked(chunked) = &mut body.state {
            chunked.is_response = true;
        }
        body
    }

    /// What was odd about it so far and taken all the same.
    #[must_use]
    pub(crate) const fn oddities(&self) -> Oddities {
        match &self.state {
            State::Chunked(chunked) => chunked.oddities,
            State::Done | State::Length(_) | State::UntilClose => self.oddities,
        }
    }

    /// Keeps trailers of these names back: the elements of the message's `Connection` fields, each
    /// value followed by a comma (RFC 9110 section 7.6.1).
    pub(crate) fn drop_trailers<'a>(&mut self, connection: impl Iterator<Item = &'a [u8]>) {
        if let State::Chunked(chunked) = &mut self.state {
            let names: Vec<u8> = connection
                .flat_map(|value| [value, b","].concat())
                .collect();
            chunked.held_back.hop_names = Some(names.into_boxed_slice());
        }
    }

    /// Keeps trailers back that an operator lists.
    pub(crate) fn drop_listed_trailers(&mut self, claims: &Arc<Claims>) {
        if let State::Chunked(chunked) = &mut self.state {
            chunked.held_back.claims = Some(Arc::clone(claims));
        }
    }

    /// Judges the next bytes as far as the body reaches, and appends what of them goes on to
    /// `out`. How many were of the body.
    ///
    /// # Errors
    /// As [`Body::feed`]; `out` has what came before the error.
    pub(crate) fn gather(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_done() {
            let piece = self.feed(&bytes[taken..])?;
            out.extend_from_slice(&bytes[taken..taken + piece.forward]);
            if piece.ends_line {
                out.extend_from_slice(LINE_END);
            }
            taken += piece.consumed;
        }
        if self.is_done() {
            out.extend_from_slice(self.trailers());
        }
        Ok(taken)
    }

    /// Judges the next bytes. Call it again with what follows `consumed`, until it is done or
    /// the bytes are used up; every call makes progress while there are bytes and it is not done.
    ///
    /// # Errors
    /// The first rule of RFC 9112 section 7.1 that a chunked body breaks. The body can not be
    /// continued: both connections end, so that what was forwarded stays visibly incomplete.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Piece, BodyError> {
        let piece = match &mut self.state {
            State::Done => whole(0, true),
            State::UntilClose => {
                self.payload_bytes += bytes.len() as u64;
                whole(bytes.len(), false)
            }
            State::Length(left) => {
                let taken = at_most(*left, bytes.len());
                *left -= taken as u64;
                self.payload_bytes += taken as u64;
                whole(taken, *left == 0)
            }
            State::Chunked(chunked) => chunked.feed(bytes, &mut self.payload_bytes)?,
        };
        if piece.done && self.trailers().is_empty() {
            self.oddities = self.oddities();
            self.state = State::Done;
        }
        Ok(piece)
    }

    /// Whether the whole body has passed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Done => true,
            State::Length(_) | State::UntilClose => false,
            State::Chunked(chunked) => chunked.step == ChunkStep::Done,
        }
    }

    /// What to write after the last piece: the trailers that may pass and the empty line, or
    /// nothing when there were none (the empty line was forwarded like other bytes).
    #[must_use]
    pub fn trailers(&self) -> &[u8] {
        match &self.state {
            State::Chunked(Chunked {
                trailers: Some(trailers),
                step: ChunkStep::Done,
                ..
            }) => trailers,
            State::Done | State::Length(_) | State::UntilClose | State::Chunked(_) => &[],
        }
    }

    /// The sender has ended its direction: done, or cut short.
    ///
    /// # Errors
    /// [`BodyError::Truncated`] when more should have come.
    pub fn on_end(&mut self) -> Result<(), BodyError> {
        if matches!(self.state, State::UntilClose) {
            self.state = State::Done;
        }
        if self.is_done() {
            Ok(())
        } else {
            Err(BodyError::Truncated)
        }
    }

    /// How many of the next bytes are data whatever they are: they may be moved without being
    /// shown, and are then reported to [`Body::skip`]. `u64::MAX` for a body until close.
    #[must_use]
    pub(crate) fn opaque_bytes(&self) -> u64 {
        match &self.state {
            State::Done => 0,
            State::Length(left) => *left,
            State::UntilClose => u64::MAX,
            State::Chunked(Chunked {
                step: ChunkStep::Data(left),
                ..
            }) => *left,
            State::Chunked(_) => 0,
        }
    }

    /// Counts `count` bytes that were moved unseen; at most [`Body::opaque_bytes`].
    pub(crate) fn skip(&mut self, count: u64) {
        debug_assert!(count <= self.opaque_bytes(), "skipped past known data");
        self.payload_bytes += count;
        match &mut self.state {
            State::Done | State::UntilClose => {}
            State::Length(left) => {
                *left -= count;
                if *left == 0 {
                    self.state = State::Done;
                }
            }
            State::Chunked(chunked) => {
                if let ChunkStep::Data(left) = chunked.step {
                    chunked.step = data_left(left - count);
                }
            }
        }
    }

    /// Data bytes that have passed, without chunk framing.
    #[must_use]
    pub(crate) const fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }
}

const fn whole(count: usize, done: bool) -> Piece {
    Piece {
        forward: count,
        consumed: count,
        ends_line: false,
        done,
    }
}

/// The smaller of a count that may be beyond this machine's sizes and a length.
fn at_most(left: u64, length: usize) -> usize {
    usize::try_from(left).map_or(length, |left| left.min(length))
}

/// The cursor of a chunked body (RFC 9112 section 7.1).
#[derive(Debug)]
struct Chunked {
    step: ChunkStep,
    keep_framing: bool,
    /// It is a response's.
    is_response: bool,
    /// What was odd about it.
    oddities: Oddities,
    /// Bytes in the extension of the current chunk.
    extension_bytes: u64,
    /// Bytes in all extensions so far.
    extensions_bytes: u64,
    /// The trailer section as it came, then as it may pass; none when there was none.
    trailers: Option<Vec<u8>>,
    held_back: HeldBack,
}

/// Trailers that are not passed on, besides those that never are.
#[derive(Debug)]
struct HeldBack {
    /// Names that `Connection` lists.
    hop_names: Option<Box<[u8]>>,
    /// What an operator lists.
    claims: Option<Arc<Claims>>,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkStep {
    /// A digit of a chunk size, or what ends it.
    Size { digits: u8, size: u64 },
    /// White space after a chunk size, which in a request only an extension may follow.
    SizeBlank { size: u64 },
    /// Inside a chunk extension.
    Extension { size: u64 },
    /// The LF of a chunk's first line.
    SizeLineFeed { size: u64 },
    /// Data.
    Data(u64),
    /// The CR after data.
    DataReturn,
    /// The LF after data.
    DataLineFeed,
    /// The first byte after the last chunk.
    End,
    /// The LF of the empty line right after the last chunk.
    EndLineFeed,
    /// Inside a trailer section.
    Trailer,
    /// After the body.
    Done,
}

/// What becomes of one byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Forward,
    Drop,
    /// It ends a line, and a whole line end takes its place.
    EndLine,
}

/// What follows the first line of a chunk.
const fn after_size(size: u64) -> ChunkStep {
    if size == 0 {
        ChunkStep::End
    } else {
        ChunkStep::Data(size)
    }
}

const fn data_left(left: u64) -> ChunkStep {
    if left == 0 {
        ChunkStep::DataReturn
    } else {
        ChunkStep::Data(left)
    }
}

impl Chunked {
    const fn new(keep_framing: bool) -> Self {
        Self {
            step: ChunkStep::Size { digits: 0, size: 0 },
            keep_framing,
            is_response: false,
            oddities: Oddities::NONE,
            extension_bytes: 0,
            extensions_bytes: 0,
            trailers: None,
            held_back: HeldBack {
                hop_names: None,
                claims: None,
            },
        }
    }

    /// Goes on while bytes are forwarded, then while they are dropped, and stops where a byte
    /// would be forwarded again: so a body in plain form is one piece.
    fn feed(&mut self, bytes: &[u8], payload_bytes: &mut u64) -> Result<Piece, BodyError> {
        let mut forward = 0;
        let mut consumed = 0;
        while consumed < bytes.len() && self.step != ChunkStep::Done {
            let step = self.step;
            let rest = &bytes[consumed..];
            let (count, fate) = match step {
                ChunkStep::Data(left) => {
                    if forward < consumed {
                        break;
                    }
                    let count = at_most(left, rest.len());
                    self.step = data_left(left - count as u64);
                    *payload_bytes += count as u64;
                    (count, Fate::Forward)
                }
                ChunkStep::Trailer => (self.gather_trailer(rest)?, Fate::Drop),
                ChunkStep::Size { .. }
                | ChunkStep::SizeBlank { .. }
                | ChunkStep::Extension { .. }
                | ChunkStep::SizeLineFeed { .. }
                | ChunkStep::DataReturn
                | ChunkStep::DataLineFeed
                | ChunkStep::End
                | ChunkStep::EndLineFeed
                | ChunkStep::Done => {
                    let fate = self.on_framing(rest[0], *payload_bytes)?;
                    if fate == Fate::EndLine {
                        return Ok(self.end_line(forward, consumed + 1));
                    }
                    if matches!(fate, Fate::Forward) && forward < consumed {
                        // The byte is left for the next call, as if it had not been seen.
                        self.step = step;
                        break;
                    }
                    (1, fate)
                }
            };
            consumed += count;
            if matches!(fate, Fate::Forward) {
                forward = consumed;
            }
        }
        Ok(Piece {
            forward,
            consumed,
            ends_line: false,
            done: self.step == ChunkStep::Done,
        })
    }

    /// A piece that ends with a line end of ours.
    #[cold]
    fn end_line(&mut self, forward: usize, consumed: usize) -> Piece {
        self.oddities.add(Oddity::ChunkLineFeed);
        Piece {
            forward,
            consumed,
            ends_line: self.keep_framing,
            done: self.step == ChunkStep::Done,
        }
    }

    /// One byte outside data and trailers.
    fn on_framing(&mut self, byte: u8, payload_bytes: u64) -> Result<Fate, BodyError> {
        let kept = if self.keep_framing {
            Fate::Forward
        } else {
            Fate::Drop
        };
        match self.step {
            ChunkStep::Size { digits, size } => return self.on_size(byte, digits, size, kept),
            ChunkStep::SizeBlank { size } => {
                match byte {
                    b' ' | b'\t' if self.is_response => return self.pad_size(),
                    b' ' | b'\t' => {}
                    b';' => self.step = ChunkStep::Extension { size },
                    b'\r' | b'\n' if self.is_response => {
                        self.oddities.add(Oddity::PaddedChunkSize);
                        return Ok(self.end_size(byte, size, kept));
                    }
                    _ => return Err(BodyError::ChunkSize),
                }
                self.count_extension(payload_bytes)?;
                return Ok(Fate::Drop);
            }
            ChunkStep::Extension { size } => {
                match byte {
                    b'\r' => {
                        self.step = ChunkStep::SizeLineFeed { size };
                        return Ok(kept);
                    }
                    b'\t' | b' '..=b'~' | 0x80..=0xFF => {}
                    b'\0' | b'\n' => return Err(BodyError::Extension),
                    _ if self.is_response => self.oddities.add(Oddity::ChunkExtension),
                    _ => return Err(BodyError::Extension),
                }
                self.count_extension(payload_bytes)?;
                return Ok(Fate::Drop);
            }
            ChunkStep::SizeLineFeed { size } => {
                self.extension_bytes = 0;
                self.expect(byte, b'\n', after_size(size))?;
            }
            ChunkStep::DataReturn if byte == b'\n' && self.is_response => {
                self.step = ChunkStep::Size { digits: 0, size: 0 };
                return Ok(Fate::EndLine);
            }
            ChunkStep::DataReturn => self.expect(byte, b'\r', ChunkStep::DataLineFeed)?,
            ChunkStep::DataLineFeed => {
                self.expect(byte, b'\n', ChunkStep::Size { digits: 0, size: 0 })?;
            }
            ChunkStep::End if byte == b'\r' => self.step = ChunkStep::EndLineFeed,
            ChunkStep::End if byte == b'\n' && self.is_response => {
                self.step = ChunkStep::Done;
                return Ok(Fate::EndLine);
            }
            ChunkStep::End => {
                // The byte opens a trailer; it is gathered with the others.
                self.gather_trailer(&[byte])?;
                return Ok(Fate::Drop);
            }
            ChunkStep::EndLineFeed => self.expect(byte, b'\n', ChunkStep::Done)?,
            ChunkStep::Data(_) | ChunkStep::Trailer | ChunkStep::Done => {
                unreachable!("these steps are not taken byte by byte")
            }
        }
        Ok(kept)
    }

    fn on_size(&mut self, byte: u8, digits: u8, size: u64, kept: Fate) -> Result<Fate, BodyError> {
        if let Some(digit) = hexadecimal(byte) {
            if self.is_response && size == 0 && digit == 0 && digits == SIZE_ZEROS_MAX {
                self.oddities.add(Oddity::PaddedChunkSize);
                return self.pad_size();
            }
            let size = (size << 4) | u64::from(digit);
            if digits == SIZE_DIGITS_MAX || size > CHUNK_BYTES_MAX {
                return Err(BodyError::ChunkTooLarge);
            }
            self.step = ChunkStep::Size {
                digits: digits + 1,
                size,
            };
            return Ok(kept);
        }
        if digits == 0 {
            return Err(BodyError::ChunkSize);
        }
        match byte {
            b'\r' => Ok(self.end_size(byte, size, kept)),
            b';' => {
                self.step = ChunkStep::Extension { size };
                Ok(Fate::Drop)
            }
            b' ' | b'\t' => {
                self.step = ChunkStep::SizeBlank { size };
                Ok(Fate::Drop)
            }
            b'\n' if self.is_response => Ok(self.end_size(byte, size, kept)),
            b'\n' => Err(BodyError::LineEnd),
            _ => Err(BodyError::ChunkSize),
        }
    }

    /// The CR after a chunk size, or an LF alone.
    fn end_size(&mut self, byte: u8, size: u64, kept: Fate) -> Fate {
        if byte == b'\r' {
            self.step = ChunkStep::SizeLineFeed { size };
            return kept;
        }
        self.extension_bytes = 0;
        self.step = after_size(size);
        Fate::EndLine
    }

    /// One byte more than a chunk size needs. It says nothing, but devices pad every size with a
    /// few: only those of one chunk are limited.
    fn pad_size(&mut self) -> Result<Fate, BodyError> {
        self.extension_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(BodyError::ExtensionTooLong);
        }
        Ok(Fate::Drop)
    }

    fn expect(&mut self, byte: u8, wanted: u8, then: ChunkStep) -> Result<(), BodyError> {
        if byte != wanted {
            return Err(BodyError::LineEnd);
        }
        self.step = then;
        Ok(())
    }

    fn count_extension(&mut self, payload_bytes: u64) -> Result<(), BodyError> {
        self.extension_bytes += 1;
        self.extensions_bytes += 1;
        if self.extension_bytes > EXTENSION_BYTES_MAX
            || self.extensions_bytes > EXTENSION_LEAD_MAX.saturating_add(payload_bytes)
        {
            return Err(BodyError::ExtensionTooLong);
        }
        Ok(())
    }

    /// Gathers the trailer section up to its empty line and says how many bytes that took.
    fn gather_trailer(&mut self, bytes: &[u8]) -> Result<usize, BodyError> {
        self.step = ChunkStep::Trailer;
        let gathered = self.trailers.get_or_insert_default();
        for (at, &byte) in bytes.iter().enumerate() {
            if gathered.len() == TRAILER_BYTES_MAX {
                return Err(BodyError::TrailerTooLong);
            }
            gathered.push(byte);
            if byte == b'\n' && ends_section(gathered, self.is_response) {
                if self.is_response {
                    mend_trailers(gathered, &mut self.oddities)?;
                }
                filter_trailers(gathered, self.keep_framing, &self.held_back)?;
                self.step = ChunkStep::Done;
                return Ok(at + 1);
            }
        }
        Ok(bytes.len())
    }
}

/// Whether the last line of a trailer section is empty.
fn ends_section(section: &[u8], is_response: bool) -> bool {
    section.ends_with(b"\r\n\r\n")
        || (is_response && (section.ends_with(b"\n\n") || section.ends_with(b"\n\r\n")))
}

/// Writes a response's trailer section anew if it is odd.
fn mend_trailers(section: &mut Vec<u8>, oddities: &mut Oddities) -> Result<(), BodyError> {
    let mut mended = Vec::new();
    let found = mend::trailers(section, &mut mended).map_err(|_| BodyError::Trailer)?;
    *oddities = oddities.and(found);
    *section = mended;
    Ok(())
}

const fn hexadecimal(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Puts the trailers that may pass, and the empty line, in the place of the section as it came.
fn filter_trailers(section: &mut Vec<u8>, keep: bool, held: &HeldBack) -> Result<(), BodyError> {
    let is_held_back = |name: &[u8]| {
        let hop_names = held.hop_names.as_deref().unwrap_or_default();
        names(hop_names, name)
            || held
                .claims
                .as_ref()
                .is_some_and(|it| it.drops_trailer(name))
    };
    let mut passed = Vec::new();
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    match httparse::parse_headers(section, &mut fields) {
        Ok(httparse::Status::Complete((end, fields))) if end == section.len() => {
            check_line_ends(section)?;
            for field in fields {
                let name = field.name.as_bytes();
                if !is_forbidden_trailer(name) && !is_held_back(name) {
                    passed.extend_from_slice(name);
                    passed.extend_from_slice(b": ");
                    passed.extend_from_slice(field.value);
                    passed.extend_from_slice(b"\r\n");
                }
            }
        }
        Err(httparse::Error::TooManyHeaders) => return Err(BodyError::TrailerTooLong),
        Ok(_) | Err(_) => return Err(BodyError::Trailer),
    }
    passed.extend_from_slice(b"\r\n");
    if !keep {
        passed.clear();
    }
    *section = passed;
    Ok(())
}

/// httparse takes a bare LF for a line end; weir does not.
fn check_line_ends(section: &[u8]) -> Result<(), BodyError> {
    let mut before = 0;
    for &byte in section {
        if byte == b'\n' && before != b'\r' {
            return Err(BodyError::LineEnd);
        }
        before = byte;
    }
    Ok(())
}

/// Fields that change how a message is framed, routed, authorized or understood, and so have no
/// effect after the content (RFC 9110 section 6.5.1).
const FORBIDDEN_TRAILERS: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];

fn is_forbidden_trailer(name: &[u8]) -> bool {
    let claims = KnownSet::of(&[Known::Claim, Known::ClaimAlias, Known::Proxy]);
    claims.has(Known::recognise(name))
        || FORBIDDEN_TRAILERS
            .iter()
            .any(|forbidden| is_same_name(name, forbidden.as_bytes()))
}

/// The first line of a chunk that weir frames itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkLine {
    bytes: [u8; 18],
    start: usize,
}

impl ChunkLine {
    /// The line of a chunk of `length` bytes, which is not zero: an empty chunk ends the body.
    #[must_use]
    pub(crate) const fn new(length: usize) -> Self {
        debug_assert!(length > 0, "an empty chunk would end the body");
        let mut line = Self {
            bytes: *b"0000000000000000\r\n",
            start: 16,
        };
        let mut left = length;
        while left > 0 {
            line.start -= 1;
            line.bytes[line.start] = b"0123456789abcdef"[left & 15];
            left >>= 4;
        }
        line
    }

    /// Its bytes, CRLF included.
    #[must_use]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests;
