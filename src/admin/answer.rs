//! Answers, and how they are written.

use std::fmt;

use crate::admin::view::View;
use crate::core::http::reply::{imf_fixdate, reason};
use crate::core::text;

/// Text that people and programs read.
pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";
pub(crate) const JSON: &str = "application/json";
pub(crate) const HTML: &str = "text/html; charset=utf-8";

/// What is answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// Fields besides those that every answer has.
    pub(crate) fields: Vec<(&'static str, String)>,
    pub(crate) body: Body,
}

/// What it says.
pub(crate) enum Body {
    Whole(Vec<u8>),
    /// Made a part at a time, as it is taken.
    Flow(Box<dyn Flow>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Flow(_) => f.write_str("a flow"),
        }
    }
}

/// A body that is made a part at a time: so a long one holds nobody's turn up.
pub(crate) trait Flow {
    /// Adds the next part, about [`PART_BYTES`] of it. The outline is the one it began with.
    fn go_on(&mut self, view: &View<'_>, out: &mut Vec<u8>) -> Progress;
}

/// How much a part of a flow has.
pub(crate) const PART_BYTES: usize = 32 * 1024;

/// What is left of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    More,
    Done,
}

impl Answer {
    pub(crate) fn text(status: u16, text: impl Into<String>) -> Self {
        let mut text = text.into();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        Self::whole(status, PLAIN, text.into_bytes())
    }

    pub(crate) fn whole(status: u16, content_type: &'static str, body: Vec<u8>) -> Self {
        Self {
            status,
            content_type,
            fields: Vec::new(),
            body: Body::Whole(body),
        }
    }

    pub(crate) fn flow(content_type: &'static str, flow: impl Flow + 'static) -> Self {
        Self {
            status: 200,
            content_type,
            fields: Vec::new(),
            body: Body::Flow(Box::new(flow)),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Writes the head. Without a length, the body is in chunks if `chunked`, else it ends with
    /// the connection.
    pub(crate) fn write_head(&self, out: &mut Vec<u8>, unix_s: u64, form: HeadForm) {
        text::push(
            out,
            format_args!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status)),
        );
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(&imf_fixdate(unix_s));
        out.extend_from_slice(b"\r\n");
        text::push(out, format_args!("Content-Type: {}\r\n", self.content_type));
        match (&self.body, form.chunked) {
            (Body::Whole(body), _) => {
                text::push(out, format_args!("Content-Length: {}\r\n", body.len()));
            }
            (Body::Flow(_), true) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            (Body::Flow(_), false) => {}
        }
        for (name, value) in &self.fields {
            text::push(out, format_args!("{name}: {value}\r\n"));
        }
        out.extend_from_slice(b"Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n");
        if !form.keeps_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// What the connection makes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeadForm {
    pub(crate) keeps_alive: bool,
    pub(crate) chunked: bool,
}

/// Writes a part of a body as a chunk (RFC 9112 section 7.1).
pub(crate) fn write_chunk(out: &mut Vec<u8>, part: &[u8]) {
    if part.is_empty() {
        return;
    }
    text::push(out, format_args!("{:x}\r\n", part.len()));
    out.extend_from_slice(part);
    out.extend_from_slice(b"\r\n");
}

/// What ends a body in chunks.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
