//! Writes the head that goes to the other side.
//!
//! What the sender meant for the other side goes out with its own names, order and values, copied
//! in runs as long as the lines allow. What was meant for weir alone is left out, and everything
//! that decides where the message ends is written in one form, so that it is read on the other
//! side as it was read here. The caller appends its own fields and then the empty line.

use super::body::{Framing, Reframing};
use super::claims::{ByName, is_same_name};
use super::head::{Fields, RequestHead, ResponseHead, TargetForm, Version};
use super::known::{Known, KnownSet};
use super::path::Canonical;
use super::syntax::{is_field_value, is_token};
use crate::core::text;

/// Edits of a header as configured, prepared once: fields to leave out and lines to add.
#[derive(Clone, Debug, Default)]
pub struct FieldEdits {
    dropped: KnownSet,
    dropped_names: Vec<Box<[u8]>>,
    lines: Vec<u8>,
    added: KnownSet,
}

/// A configured field that weir can not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// A name that is no token.
    Name,
    /// A value with control bytes.
    Value,
    /// A field that belongs to one connection or frames the message: weir alone decides on it.
    Reserved,
}

impl FieldEdits {
    /// No edits.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            dropped: KnownSet::NONE,
            dropped_names: Vec::new(),
            lines: Vec::new(),
            added: KnownSet::NONE,
        }
    }

    /// Leaves every field of this name out.
    ///
    /// # Errors
    /// When the name is none, or weir's own. Host can be set, but not removed.
    pub fn remove(&mut self, name: &[u8]) -> Result<(), EditError> {
        let known = editable(name)?;
        if known == Known::Host {
            return Err(EditError::Reserved);
        }
        self.leave_out(name, known);
        Ok(())
    }

    /// Puts a field in the place of all of this name.
    ///
    /// # Errors
    /// When the name or the value is none, or the name weir's own.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), EditError> {
        self.add(name, value)?;
        self.leave_out(name, Known::recognise(name));
        Ok(())
    }

    /// Adds a field. A Host takes the place of the one received, and there is only one.
    ///
    /// # Errors
    /// When the name or the value is none, or the name weir's own.
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), EditError> {
        let known = editable(name)?;
        if !is_field_value(value) {
            return Err(EditError::Value);
        }
        if known == Known::Host && self.added.has(Known::Host) {
            return Err(EditError::Reserved);
        }
        self.added = self.added.with(known);
        append_field(&mut self.lines, name, value);
        Ok(())
    }

    /// The fields that are added or set.
    pub(super) const fn added(&self) -> KnownSet {
        self.added
    }

    /// The lines that are added, each with its CRLF.
    pub(super) fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// Whether a field of this name is added or set.
    pub(super) fn adds(&self, name: &str) -> bool {
        let mut lines = self.lines.split(|&byte| byte == b'\n');
        lines.any(|line| {
            let given = line.split(|&byte| byte == b':').next();
            given.is_some_and(|given| given.eq_ignore_ascii_case(name.as_bytes()))
        })
    }

    /// Whether every field of this name is left out, which nobody shall write either then.
    #[must_use]
    pub(crate) const fn leaves_out(&self, known: Known) -> bool {
        self.dropped.has(known)
    }

    /// Whether they say anything of a field of this name.
    #[must_use]
    pub(crate) fn mention(&self, name: &str) -> bool {
        self.adds(name) || self.drops(name.as_bytes())
    }

    /// With all its spellings: a backend may read another one as the same name.
    fn leave_out(&mut self, name: &[u8], known: Known) {
        if !KnownSet::OF_MANY_NAMES.has(known) {
            self.dropped = self.dropped.with(known);
        }
        self.dropped_names.push(name.into());
    }

    pub(super) fn drops(&self, name: &[u8]) -> bool {
        let mut names = self.dropped_names.iter();
        names.any(|dropped| is_same_name(dropped, name))
    }
}

fn editable(name: &[u8]) -> Result<Known, EditError> {
    let known = Known::recognise(name);
    if !is_token(name) {
        Err(EditError::Name)
    } else if KnownSet::HOP_BY_HOP.and(KnownSet::FRAMING).has(known) {
        Err(EditError::Reserved)
    } else {
        Ok(known)
    }
}

/// How a request goes to a backend.
#[derive(Clone, Copy, Debug)]
pub struct RequestRewrite<'a> {
    /// The canonical path and query, in the place of what was received.
    pub target: Option<Canonical<'a>>,
    /// The Host of a request that has none (HTTP/1.0).
    pub host_default: &'a [u8],
    /// Fields to leave out, because the caller appends its own or the client may not send them.
    pub drop: KnownSet,
    /// Tells of others that the client may not send.
    pub drop_by_name: Option<ByName<'a>>,
    /// The edits of the route.
    pub edits: &'a FieldEdits,
    /// Whether the backend connection is closed after the response.
    pub close: bool,
}

/// Writes request line and fields; the caller appends its fields and [`END`]. `bytes` is what
/// `head` was parsed from.
///
/// The version is always 1.1, the target in origin-form (or `*`) and an upgrade is offered if the
/// client offers one.
pub fn write_request(
    head: &RequestHead,
    bytes: &[u8],
    rewrite: &RequestRewrite<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(head.method(bytes));
    out.push(b' ');
    match rewrite.target {
        Some(Canonical { path, query }) => {
            out.extend_from_slice(path);
            if let Some(query) = query {
                out.push(b'?');
                out.extend_from_slice(query);
            }
        }
        None => out.extend_from_slice(head.path_and_query(bytes, &mut Vec::new())),
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let drop = write_host(head, bytes, rewrite, out);
    let (edits, by_name) = (rewrite.edits, rewrite.drop_by_name);
    copy_fields(&head.fields, bytes, drop, edits, by_name, out);
    write_framing(&head.fields, head.facts.framing, out);
    if let Some(left) = head.facts.max_forwards {
        out.extend_from_slice(b"Max-Forwards: ");
        text::push_number(out, left.saturating_sub(1));
        out.extend_from_slice(END);
    }
    write_request_connection(head, bytes, rewrite.close, out);
    out.extend_from_slice(&rewrite.edits.lines);
}

/// Writes Host where it can not be copied, and says which fields not to copy.
fn write_host(
    head: &RequestHead,
    bytes: &[u8],
    rewrite: &RequestRewrite<'_>,
    out: &mut Vec<u8>,
) -> KnownSet {
    if rewrite.edits.added.has(Known::Host) {
        return rewrite.drop.with(Known::Host);
    }
    if head.form == TargetForm::Absolute {
        // RFC 9112 section 3.2.2: what Host says is ignored.
        append_field(out, b"Host", head.authority(bytes));
        return rewrite.drop.with(Known::Host);
    }
    if !head.fields.has(Known::Host) {
        append_field(out, b"Host", rewrite.host_default);
    }
    rewrite.drop
}

/// Writes the framing that no copied line carries.
fn write_framing(fields: &Fields, framing: Framing, out: &mut Vec<u8>) {
    match (framing, fields.rewritten_length()) {
        (Framing::Chunked, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (Framing::None | Framing::Length(_) | Framing::UntilClose, Some(length)) => {
            out.extend_from_slice(b"Content-Length: ");
            text::push_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        (Framing::None | Framing::Length(_) | Framing::UntilClose, None) => {}
    }
}

/// `TE` and `Upgrade` are each named in `Connection` (RFC 9110 sections 7.8 and 10.1.4).
fn write_request_connection(head: &RequestHead, bytes: &[u8], close: bool, out: &mut Vec<u8>) {
    let trailers = head.fields.takes_trailers();
    let options: &[u8] = match (close && !head.facts.upgrade, head.facts.upgrade, trailers) {
        (false, false, false) => return,
        (false, false, true) => b"TE",
        (_, true, false) => b"upgrade",
        (_, true, true) => b"upgrade, TE",
        (true, false, false) => b"close",
        (true, false, true) => b"close, TE",
    };
    append_field(out, b"Connection", options);
    if head.facts.upgrade {
        copy_upgrade(&head.fields, bytes, out);
    }
    if trailers {
        append_field(out, b"TE", b"trailers");
    }
}

/// How a response goes to the client.
#[derive(Clone, Copy, Debug)]
pub struct ResponseRewrite<'a> {
    /// The version of the request it answers.
    pub client: Version,
    /// Whether the client connection is kept after it.
    pub keep_alive: bool,
    /// Fields to leave out, because the caller appends its own.
    pub drop: KnownSet,
    /// The edits of the route.
    pub edits: &'a FieldEdits,
    /// The time of its arrival, for a response without Date (RFC 9110 section 6.6.1).
    pub date: &'a [u8; 29],
}

/// Writes status line and fields, and says how its body goes to the client; the caller appends
/// its fields and [`END`]. `bytes` is what `head` was parsed from.
///
/// The connection is kept only if the body has an end of its own: when the answer is a body that
/// ends by closing, `Connection: close` was written whatever `keep_alive` said (see
/// [`ends_by_closing`]). An interim response goes out without anything that concerns the
/// connection; 101 and 426 keep their `Upgrade`.
pub fn write_response(
    head: &ResponseHead,
    bytes: &[u8],
    rewrite: &ResponseRewrite<'_>,
    out: &mut Vec<u8>,
) -> Reframing {
    let facts = head.facts;
    let reframing = Reframing::towards(facts.framing, rewrite.client == Version::Http11);
    out.extend_from_slice(b"HTTP/1.1 ");
    text::push_number(out, u64::from(facts.status));
    out.push(b' ');
    out.extend_from_slice(head.reason(bytes));
    out.extend_from_slice(b"\r\n");
    let drop = match reframing {
        Reframing::Unchunk => rewrite.drop.with(Known::Trailer),
        Reframing::None | Reframing::Plain | Reframing::Chunked | Reframing::Enchunk => {
            rewrite.drop
        }
    };
    copy_fields(&head.fields, bytes, drop, rewrite.edits, None, out);
    write_framing(&head.fields, framing_out(reframing, facts.framing), out);
    write_response_connection(head, bytes, rewrite, reframing, out);
    if !facts.is_interim() {
        if !has_date(&head.fields, rewrite) {
            append_field(out, b"Date", rewrite.date);
        }
        out.extend_from_slice(&rewrite.edits.lines);
    }
    reframing
}

/// Whether only the end of the connection ends such a body. The client connection can not be
/// kept after it.
#[must_use]
pub(crate) const fn ends_by_closing(reframing: Reframing, framing: Framing) -> bool {
    match reframing {
        Reframing::Unchunk => true,
        Reframing::Plain => matches!(framing, Framing::UntilClose),
        Reframing::None | Reframing::Chunked | Reframing::Enchunk => false,
    }
}

const fn framing_out(reframing: Reframing, framing: Framing) -> Framing {
    match reframing {
        Reframing::None | Reframing::Plain => framing,
        Reframing::Chunked | Reframing::Enchunk => Framing::Chunked,
        Reframing::Unchunk => Framing::UntilClose,
    }
}

fn has_date(fields: &Fields, rewrite: &ResponseRewrite<'_>) -> bool {
    let left_out = rewrite.drop.and(rewrite.edits.dropped).has(Known::Date);
    (fields.has(Known::Date) && !left_out) || rewrite.edits.added.has(Known::Date)
}

fn write_response_connection(
    head: &ResponseHead,
    bytes: &[u8],
    rewrite: &ResponseRewrite<'_>,
    reframing: Reframing,
    out: &mut Vec<u8>,
) {
    let status = head.facts.status;
    let keep = rewrite.keep_alive && !ends_by_closing(reframing, head.facts.framing);
    // RFC 9110 section 15.5.22: 426 says what to upgrade to.
    let upgrade = status == 101 || (status == 426 && head.fields.has(Known::Upgrade));
    let options: &[u8] = match (upgrade, keep, rewrite.client) {
        _ if head.facts.is_interim() => return,
        (true, true, _) => b"upgrade",
        (true, false, _) if status == 101 => b"upgrade",
        (true, false, _) => b"close, upgrade",
        (false, true, Version::Http11) => return,
        (false, true, Version::Http10) => b"keep-alive",
        (false, false, _) => b"close",
    };
    append_field(out, b"Connection", options);
    if upgrade {
        copy_upgrade(&head.fields, bytes, out);
    }
}

fn copy_upgrade(fields: &Fields, bytes: &[u8], out: &mut Vec<u8>) {
    for field in fields
        .iter()
        .filter(|field| field.known() == Known::Upgrade)
    {
        append_field(out, field.name(bytes), field.value(bytes));
    }
}

/// Copies the lines that pass, those that follow each other in one piece.
fn copy_fields(
    fields: &Fields,
    bytes: &[u8],
    drop: KnownSet,
    edits: &FieldEdits,
    by_name: Option<ByName<'_>>,
    out: &mut Vec<u8>,
) {
    // Chunked framing is always written anew.
    let drop = drop.and(edits.dropped).with(Known::TransferEncoding);
    let mut run = 0..0;
    for field in fields.iter() {
        let name = || field.name(bytes);
        if field.is_dropped() || drop.has(field.known()) || edits.drops(name()) {
            continue;
        }
        if by_name.is_some_and(|it| it.drops(field.known(), name())) {
            continue;
        }
        match field.plain_line() {
            Some((start, end)) if start == run.end => run.end = end,
            Some((start, end)) => {
                out.extend_from_slice(&bytes[run]);
                run = start..end;
            }
            None => {
                out.extend_from_slice(&bytes[run]);
                run = 0..0;
                append_field(out, field.name(bytes), field.value(bytes));
            }
        }
    }
    out.extend_from_slice(&bytes[run]);
}

/// The empty line that ends a head.
pub const END: &[u8] = b"\r\n";

/// An interim response to a client that waits for leave to send its body.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Appends `name: value` and CRLF. The bytes come from configuration or from a parsed head, and
/// were judged there.
pub(crate) fn append_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(is_token(name), "not a field name");
    debug_assert!(is_field_value(value), "not a field value");
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
