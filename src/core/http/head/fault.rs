//! What exactly is wrong with a line of a head that could not be read.

use super::HeadError;
use crate::core::http::syntax::{is_blank, is_token, trim_end};

/// What is wrong with a request line whose method or target could not be read, as `error` says:
/// where all that came of it is sound, it is too short.
pub(super) fn of_request_line(head: &[u8], error: HeadError) -> HeadError {
    let mut line = skip_line_ends(head);
    if let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        line = &line[..end];
    }
    let is_target_byte = |byte: &u8| *byte > b' ' && *byte != b'\x7f';
    let is_sound = match line.iter().position(|&byte| byte == b' ') {
        None => is_token(line),
        Some(at) => is_token(&line[..at]) && line[at + 1..].iter().all(is_target_byte),
    };
    if is_sound {
        HeadError::StartLine
    } else {
        error
    }
}

/// What is wrong with the first field line of a request in which no name could be read.
pub(super) fn of_fields(head: &[u8]) -> HeadError {
    let mut is_first = true;
    let lines = skip_line_ends(head).split_inclusive(|&byte| byte == b'\n');
    for line in lines.skip(1) {
        // What is still to come of a line could be its colon.
        let Some(whole) = line.strip_suffix(b"\n") else {
            break;
        };
        let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
        if let Some(error) = of_field(whole, is_first) {
            return error;
        }
        is_first = false;
    }
    HeadError::FieldName
}

/// What is wrong with the name of a field line, given without its end, if anything is.
fn of_field(line: &[u8], is_first: bool) -> Option<HeadError> {
    if line.first().is_some_and(|&byte| is_blank(byte)) {
        return Some(match is_first {
            _ if trim_end(line).is_empty() => HeadError::BlankLine,
            true => HeadError::BlankBeforeFields,
            false => HeadError::FoldedLine,
        });
    }
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return Some(HeadError::ColonMissing);
    };
    let name = &line[..colon];
    if name.is_empty() {
        Some(HeadError::FieldNameEmpty)
    } else if is_token(name) {
        None
    } else if is_token(trim_end(name)) {
        Some(HeadError::BlankBeforeColon)
    } else {
        Some(HeadError::FieldName)
    }
}

fn skip_line_ends(mut head: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] = head {
        head = rest;
    }
    head
}
