//! The fields of a head: where each lies, which it is, and what they say about the connection.

use super::{HEAD_BYTES_LIMIT, HeadError, Version};
use crate::core::http::known::{Known, KnownSet};
use crate::core::http::syntax::{decimal, elements, trim};

/// Most options in all `Connection` fields of a message; each is compared with each field.
const CONNECTION_OPTIONS_MAX: usize = 64;

/// A range of the bytes of a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u16,
    length: u16,
}

impl Span {
    /// The bytes in the range.
    #[must_use]
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start()..self.end()]
    }

    /// The offset of its first byte.
    #[must_use]
    pub(crate) const fn start(self) -> usize {
        self.start as usize
    }

    /// The offset after its last byte.
    #[must_use]
    pub(crate) const fn end(self) -> usize {
        self.start as usize + self.length as usize
    }

    /// Both ends lie in a head, which is at most [`HEAD_BYTES_LIMIT`] long.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a head is shorter than 2^16"
    )]
    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= HEAD_BYTES_LIMIT, "outside a head");
        Self {
            start: start as u16,
            length: (end - start) as u16,
        }
    }

    /// Where `part` lies in `bytes`, of which it is a part.
    pub(super) fn locate(part: &[u8], bytes: &[u8]) -> Self {
        let start = part.as_ptr().addr() - bytes.as_ptr().addr();
        Self::new(start, start + part.len())
    }
}

/// One field line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    name: Span,
    value: Span,
    known: Known,
    /// Written as `name: value` CRLF, so that its bytes can be copied as they are.
    plain: bool,
    /// Not forwarded as it came: for this connection only, or framing that is written anew.
    dropped: bool,
}

impl Field {
    /// Its name, as written.
    #[must_use]
    pub(crate) fn name(self, bytes: &[u8]) -> &[u8] {
        self.name.of(bytes)
    }

    /// Its value, without the white space around it.
    #[must_use]
    pub(crate) fn value(self, bytes: &[u8]) -> &[u8] {
        self.value.of(bytes)
    }

    /// Which field it is.
    #[must_use]
    pub(crate) const fn known(self) -> Known {
        self.known
    }

    /// Whether it stays on this side of weir.
    #[must_use]
    pub(crate) const fn is_dropped(self) -> bool {
        self.dropped
    }

    /// The whole line with its CRLF, if copying it gives the one form that weir writes.
    pub(in crate::core::http) const fn plain_line(self) -> Option<(usize, usize)> {
        if self.plain {
            Some((self.name.start(), self.value.end() + 2))
        } else {
            None
        }
    }
}

/// The fields of a head, in their order.
#[derive(Debug, Default)]
pub struct Fields {
    list: Vec<Field>,
    present: KnownSet,
    options: Options,
    /// The body length to write when no Content-Length line can be copied.
    rewritten_length: Option<u64>,
}

/// What the `Connection` fields say, and those that only count together with them.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    upgrade: bool,
    te_trailers: bool,
    /// There are others, which name fields to drop.
    others: bool,
}

impl Fields {
    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Field> + '_ {
        self.list.iter().copied()
    }

    /// Whether one of that name is there.
    #[must_use]
    pub(crate) const fn has(&self, known: Known) -> bool {
        self.present.has(known)
    }

    /// The values of the fields of that name, in their order.
    pub(crate) fn values<'a>(
        &'a self,
        known: Known,
        bytes: &'a [u8],
    ) -> impl DoubleEndedIterator<Item = &'a [u8]> + 'a {
        let list = if self.has(known) {
            self.list.as_slice()
        } else {
            &[]
        };
        list.iter()
            .filter(move |field| field.known == known)
            .map(|field| field.value.of(bytes))
    }

    /// Where these values lie.
    pub(super) fn spans(&self, known: Known) -> impl Iterator<Item = Span> + '_ {
        let fields = self.list.iter();
        fields
            .filter(move |field| field.known == known)
            .map(|field| field.value)
    }

    /// The members of the lists that the fields of that name hold.
    pub(super) fn members<'a>(
        &'a self,
        known: Known,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.values(known, bytes).flat_map(elements)
    }

    /// The first value of the fields of that name.
    #[must_use]
    pub(crate) fn first<'a>(&'a self, known: Known, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.values(known, bytes).next()
    }

    /// The first value of the fields of a name that may not be a known one.
    #[must_use]
    pub fn find<'a>(&self, name: &[u8], bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.list
            .iter()
            .find(|field| field.name.of(bytes).eq_ignore_ascii_case(name))
            .map(|field| field.value.of(bytes))
    }

    /// Whether `Connection` names fields that are for this connection only.
    #[must_use]
    pub(crate) const fn names_hop_fields(&self) -> bool {
        self.options.others
    }

    /// Whether the sender takes trailers (`TE: trailers`, RFC 9110 section 10.1.4).
    #[must_use]
    pub const fn takes_trailers(&self) -> bool {
        self.options.te_trailers
    }

    pub(in crate::core::http) const fn rewritten_length(&self) -> Option<u64> {
        self.rewritten_length
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.present = KnownSet::NONE;
        self.options = Options::default();
        self.rewritten_length = None;
    }

    /// Takes the fields that httparse found; `head` ends with the empty line.
    pub(super) fn fill(
        &mut self,
        found: &[httparse::Header<'_>],
        head: &[u8],
    ) -> Result<(), HeadError> {
        self.clear();
        let mut next_start = head.len() - 2;
        check_line_end(head, next_start)?;
        // From the last to the first, because a line is known to be plain by where the next begins.
        for header in found.iter().rev() {
            let name = Span::locate(header.name.as_bytes(), head);
            check_line_end(head, name.start())?;
            let value = if header.value.is_empty() {
                Span::new(next_start - 2, next_start - 2)
            } else {
                Span::locate(header.value, head)
            };
            let known = Known::recognise(header.name.as_bytes());
            self.present = self.present.with(known);
            self.list.push(Field {
                name,
                value,
                known,
                plain: value.end() + 2 == next_start
                    && value.start() == name.end() + 2
                    && head[name.end() + 1] == b' ',
                dropped: KnownSet::HOP_BY_HOP.has(known),
            });
            next_start = name.start();
        }
        self.list.reverse();
        self.read_options(head)
    }

    fn read_options(&mut self, bytes: &[u8]) -> Result<(), HeadError> {
        if !self.has(Known::Connection) && !self.has(Known::Te) {
            return Ok(());
        }
        let mut options = Options::default();
        let mut count = 0;
        for option in self.members(Known::Connection, bytes) {
            count += 1;
            if option.eq_ignore_ascii_case(b"close") {
                options.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                options.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                options.upgrade = true;
            } else {
                options.others = true;
            }
        }
        if count > CONNECTION_OPTIONS_MAX {
            return Err(HeadError::ConnectionOptions);
        }
        options.te_trailers = self
            .members(Known::Te, bytes)
            .any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
        self.options = options;
        if options.others {
            self.drop_named(bytes);
        }
        Ok(())
    }

    /// Drops the fields that `Connection` names.
    fn drop_named(&mut self, bytes: &[u8]) {
        for at in 0..self.list.len() {
            let field = self.list[at];
            if field.dropped || KnownSet::END_TO_END.has(field.known) {
                continue;
            }
            let name = field.name.of(bytes);
            let is_named = self
                .members(Known::Connection, bytes)
                .any(|option| option.eq_ignore_ascii_case(name));
            self.list[at].dropped = is_named;
        }
    }

    /// The one length that all Content-Length fields agree on. One line of it may be forwarded
    /// if it is written in the plainest form.
    pub(super) fn content_length(&mut self, bytes: &[u8]) -> Result<Option<u64>, HeadError> {
        if !self.has(Known::ContentLength) {
            return Ok(None);
        }
        let (mut agreed, mut is_told) = (None, false);
        for field in &mut self.list {
            if field.known != Known::ContentLength {
                continue;
            }
            let value = field.value.of(bytes);
            let number = decimal(value);
            let length = match number {
                Some(length) => length,
                None => length_of_list(value, agreed)?,
            };
            if agreed.is_some_and(|agreed| agreed != length) {
                return Err(HeadError::LengthConflict);
            }
            agreed = Some(length);
            let is_plainest = number.is_some() && (value.len() == 1 || value[0] != b'0');
            match is_plainest && !is_told {
                true => is_told = true,
                false => field.dropped = true,
            }
        }
        self.rewritten_length = agreed.filter(|_| !is_told);
        Ok(agreed)
    }

    /// Whether the body is chunked, and nothing else.
    pub(super) fn is_chunked(&self, bytes: &[u8], version: Version) -> Result<bool, HeadError> {
        if !self.has(Known::TransferEncoding) {
            return Ok(false);
        }
        if version == Version::Http10 {
            return Err(HeadError::CodingInOldVersion);
        }
        let (mut count, mut chunked, mut last) = (0, 0, false);
        for coding in self.members(Known::TransferEncoding, bytes) {
            last = coding.eq_ignore_ascii_case(b"chunked");
            chunked += usize::from(last);
            count += 1;
        }
        match (last, chunked, count) {
            (true, 1, 1) => Ok(true),
            (true, 1, _) => Err(HeadError::CodingUnknown),
            _ => Err(HeadError::CodingInvalid),
        }
    }

    /// Drops the fields of `names`.
    pub(super) fn drop_known(&mut self, names: KnownSet) {
        for field in &mut self.list {
            field.dropped |= names.has(field.known);
        }
    }

    /// Whether the connection shall be kept (RFC 9112 section 9.3).
    pub(super) const fn keeps_alive(&self, version: Version) -> bool {
        !self.options.close
            && match version {
                Version::Http11 => true,
                Version::Http10 => self.options.keep_alive,
            }
    }

    /// Whether another protocol is named (RFC 9110 section 7.8). HTTP/2 does not count: weir
    /// would have to let requests pass that it could not judge.
    pub(super) fn upgrades(&self, bytes: &[u8], version: Version) -> bool {
        version == Version::Http11
            && self.options.upgrade
            && self.members(Known::Upgrade, bytes).next().is_some()
            && !self.members(Known::Upgrade, bytes).any(is_http2)
    }
}

/// The length that all elements of a list agree on, and with what was agreed on before. An empty
/// element is no number: unlike other lists, this one tolerates none.
#[cold]
fn length_of_list(value: &[u8], mut agreed: Option<u64>) -> Result<u64, HeadError> {
    for element in value.split(|&byte| byte == b',') {
        let length = decimal(trim(element)).ok_or(HeadError::LengthInvalid)?;
        if agreed.is_some_and(|agreed| agreed != length) {
            return Err(HeadError::LengthConflict);
        }
        agreed = Some(length);
    }
    agreed.ok_or(HeadError::LengthInvalid)
}

fn is_http2(protocol: &[u8]) -> bool {
    let name = protocol
        .split(|&byte| byte == b'/')
        .next()
        .unwrap_or(protocol);
    name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
}

/// A line begins at `start`: the one before has to end in CRLF.
fn check_line_end(head: &[u8], start: usize) -> Result<(), HeadError> {
    if head[..start].ends_with(b"\r\n") {
        Ok(())
    } else {
        Err(HeadError::LineEnd)
    }
}
