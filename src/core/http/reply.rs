//! Answers that weir makes itself: errors, fixed responses, redirects.
//!
//! All of them have an exact Content-Length, say what becomes of the connection, and carry no
//! body for HEAD. It knows no clock: the Date comes from the caller, as [`imf_fixdate`] bytes.

use super::head::{Method, RequestFacts, Version};
use super::https::STRICT_TRANSPORT_SECURITY;
use super::known::Known;
use super::rewrite::{END, FieldEdits, append_field};
use crate::core::calendar::CivilTime;
use crate::core::text;

/// Whom an answer goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplyTo<'a> {
    /// The version of the request; 1.1 when it could not be read.
    pub(crate) version: Version,
    /// Whether the request was HEAD: the answer has no body then.
    pub(crate) is_head: bool,
    /// Whether the connection is kept.
    pub(crate) keep_alive: bool,
    /// Now.
    pub(crate) date: &'a [u8; 29],
    /// The line for Strict-Transport-Security, unless the answer has its own; empty without one.
    pub(crate) hsts: &'a [u8],
}

impl<'a> ReplyTo<'a> {
    /// The answer to a request, which decides on the connection only together with
    /// `keep_alive`: the caller knows what else speaks against it.
    #[must_use]
    pub(crate) fn request(facts: &RequestFacts, keep_alive: bool, date: &'a [u8; 29]) -> Self {
        Self {
            version: facts.version,
            is_head: facts.method == Method::Head,
            keep_alive: keep_alive && facts.keep_alive,
            date,
            hsts: b"",
        }
    }

    /// The answer to a request that could not be read: the connection ends.
    #[must_use]
    pub(crate) const fn unread(date: &'a [u8; 29]) -> Self {
        Self {
            version: Version::Http11,
            is_head: false,
            keep_alive: false,
            date,
            hsts: b"",
        }
    }
}

/// What an answer says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<'a> {
    /// 200 to 599.
    pub(crate) status: u16,
    /// The media type, if there is a body and `edits` add no other.
    pub(crate) content_type: &'a [u8],
    /// The body.
    pub(crate) body: &'a [u8],
    /// Fields to add, as configured; they win over the usual ones of the same name.
    pub(crate) edits: &'a FieldEdits,
}

/// Media type of weir's own texts.
pub(crate) const TEXT: &[u8] = b"text/plain; charset=utf-8";

/// Writes a whole answer.
pub(crate) fn write_reply(reply: &Reply<'_>, to: &ReplyTo<'_>, out: &mut Vec<u8>) {
    write_with(reply, &[], to, out);
}

/// Writes an answer with fields of its own.
fn write_with(reply: &Reply<'_>, fields: &[(&[u8], &[u8])], to: &ReplyTo<'_>, out: &mut Vec<u8>) {
    let given = reply.edits.added();
    write_status_line(reply.status, out);
    if !given.has(Known::Server) {
        append_field(out, b"Server", b"weir");
    }
    if !given.has(Known::Date) {
        append_field(out, b"Date", to.date);
    }
    // RFC 9110 sections 8.6 and 15.3.5: neither has a body, nor a length that says so.
    let has_content = !matches!(reply.status, 204 | 304);
    if has_content {
        if !reply.body.is_empty() && !given.has(Known::ContentType) {
            append_field(out, b"Content-Type", reply.content_type);
        }
        out.extend_from_slice(b"Content-Length: ");
        text::push_number(out, reply.body.len() as u64);
        out.extend_from_slice(END);
    }
    write_connection(to, out);
    for (name, value) in fields {
        append_field(out, name, value);
    }
    if !to.hsts.is_empty() && !reply.edits.adds(STRICT_TRANSPORT_SECURITY) {
        out.extend_from_slice(to.hsts);
    }
    out.extend_from_slice(reply.edits.lines());
    out.extend_from_slice(END);
    if has_content && !to.is_head {
        out.extend_from_slice(reply.body);
    }
}

fn write_status_line(status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    text::push_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(END);
}

fn write_connection(to: &ReplyTo<'_>, out: &mut Vec<u8>) {
    match (to.keep_alive, to.version) {
        (true, Version::Http11) => {}
        (true, Version::Http10) => append_field(out, b"Connection", b"keep-alive"),
        (false, _) => append_field(out, b"Connection", b"close"),
    }
}

/// A page that stands in the place of weir's own text for an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    /// Its media type.
    pub(crate) content_type: &'a [u8],
    /// Its bytes.
    pub(crate) body: &'a [u8],
}

/// Writes an error, which no cache stores: 503 says when to come back, 405 that
/// it is not for CONNECT and TRACE.
pub(crate) fn write_error(
    status: u16,
    retry_after_s: u32,
    page: Option<Page<'_>>,
    to: &ReplyTo<'_>,
    out: &mut Vec<u8>,
) {
    let mut seconds = Vec::new();
    let mut fields: [(&[u8], &[u8]); 2] = [(b"Cache-Control", b"no-store"), (b"", b"")];
    let count = match status {
        405 => {
            fields[1] = (b"Allow", ALLOWED_METHODS);
            2
        }
        429 | 503 => {
            text::push_number(&mut seconds, u64::from(retry_after_s));
            fields[1] = (b"Retry-After", &seconds);
            2
        }
        _ => 1,
    };
    let mut text = Vec::new();
    let page = page.unwrap_or_else(|| {
        text::push_number(&mut text, u64::from(status));
        text.push(b' ');
        text.extend_from_slice(reason(status).as_bytes());
        text.push(b'\n');
        Page {
            content_type: TEXT,
            body: &text,
        }
    });
    let reply = Reply {
        status,
        content_type: page.content_type,
        body: page.body,
        edits: &FieldEdits::none(),
    };
    write_with(&reply, &fields[..count], to, out);
}

/// What a 405 for CONNECT or TRACE lists (RFC 9110 section 15.5.6).
pub(crate) const ALLOWED_METHODS: &[u8] = b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Writes a redirect to `location`, with a short text that names no address.
pub(crate) fn write_redirect(status: u16, location: &[u8], to: &ReplyTo<'_>, out: &mut Vec<u8>) {
    let mut text = reason(status).as_bytes().to_vec();
    text.push(b'\n');
    let reply = Reply {
        status,
        content_type: TEXT,
        body: &text,
        edits: &FieldEdits::none(),
    };
    write_with(&reply, &[(b"Location", location)], to, out);
}

/// The reason phrase of a status (RFC 9110 section 15); empty where none is registered.
#[must_use]
pub const fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// The moment as HTTP writes it, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7), from
/// the seconds since 1970. The year stops at 9999.
#[must_use]
pub fn imf_fixdate(unix_s: u64) -> [u8; 29] {
    let now = CivilTime::from_unix(unix_s.min(UNIX_S_MAX));
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    date[..3].copy_from_slice(now.weekday_name.as_bytes());
    date[8..11].copy_from_slice(now.month_name.as_bytes());
    for (place, number) in [
        (5..7, now.day),
        (12..16, now.year),
        (17..19, now.hour),
        (20..22, now.minute),
        (23..25, now.second),
    ] {
        write_digits(&mut date[place], number);
    }
    date
}

/// The last second of the year 9999.
const UNIX_S_MAX: u64 = 253_402_300_799;

/// Fills the place with the lowest digits of a number.
fn write_digits(place: &mut [u8], number: u64) {
    let mut left = number;
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789"[usize::try_from(left % 10).unwrap_or(0)];
        left /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::http::body::Framing;
    use crate::core::http::head::{HeadLimits, Parsed, ResponseHead};

    const NOW: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    const TO: ReplyTo<'_> = ReplyTo {
        version: Version::Http11,
        is_head: false,
        keep_alive: true,
        date: NOW,
        hsts: b"",
    };

    #[test]
    fn dates_are_written_as_http_wants_them() {
        for (unix_s, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(imf_fixdate(unix_s), date.as_bytes());
        }
    }

    #[test]
    fn an_error_is_small_complete_and_not_stored() {
        let mut out = Vec::new();
        write_error(503, 7, None, &ReplyTo::unread(NOW), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nServer: weir\r\n\
             Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 24\r\nConnection: close\r\nCache-Control: no-store\r\n\
             Retry-After: 7\r\n\r\n503 Service Unavailable\n"
        );
    }

    #[test]
    fn every_answer_parses_back_with_its_exact_length() {
        let limits = HeadLimits {
            head_bytes_max: 4096,
            fields_max: 32,
        };
        for status in (200..600).filter(|&status| !reason(status).is_empty()) {
            for is_head in [false, true] {
                let mut out = Vec::new();
                write_error(status, 1, None, &ReplyTo { is_head, ..TO }, &mut out);
                let mut head = ResponseHead::default();
                let method = if is_head { Method::Head } else { Method::Get };
                let Ok(Parsed::Complete(length)) = head.parse(&out, method, limits) else {
                    panic!("{status} does not parse");
                };
                assert_eq!(head.facts.status, status);
                assert_eq!(head.reason(&out), reason(status).as_bytes());
                assert!(head.facts.reusable);
                let body = (out.len() - length) as u64;
                match head.facts.framing {
                    Framing::Length(length) => assert_eq!(length, body),
                    Framing::None | Framing::Chunked | Framing::UntilClose => assert_eq!(body, 0),
                }
            }
        }
    }

    #[test]
    fn a_405_lists_what_is_allowed() {
        let mut out = Vec::new();
        write_error(405, 0, None, &TO, &mut out);
        assert!(out.windows(11).any(|part| part == b"Allow: GET,"));
    }

    #[test]
    fn the_connection_field_fits_the_version() {
        for (version, keep_alive, wanted) in [
            (Version::Http11, true, None),
            (Version::Http11, false, Some("close")),
            (Version::Http10, true, Some("keep-alive")),
            (Version::Http10, false, Some("close")),
        ] {
            let mut out = Vec::new();
            write_error(
                404,
                0,
                None,
                &ReplyTo {
                    version,
                    keep_alive,
                    ..TO
                },
                &mut out,
            );
            let text = String::from_utf8(out).unwrap();
            let found = text
                .lines()
                .find_map(|line| line.strip_prefix("Connection: "));
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_fixed_response_wins_over_the_usual_fields() {
        let mut out = Vec::new();
        let mut edits = FieldEdits::none();
        edits.add(b"content-type", b"application/json").unwrap();
        edits.add(b"SERVER", b"mine").unwrap();
        let reply = Reply {
            status: 200,
            content_type: TEXT,
            body: b"{}",
            edits: &edits,
        };
        write_reply(&reply, &TO, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\
             content-type: application/json\r\nSERVER: mine\r\n\r\n{}"
        );
    }

    #[test]
    fn a_status_without_content_has_neither_body_nor_length() {
        for status in [204, 304] {
            let mut out = Vec::new();
            let reply = Reply {
                status,
                content_type: TEXT,
                body: b"x",
                edits: &FieldEdits::none(),
            };
            write_reply(&reply, &TO, &mut out);
            assert!(out.ends_with(b"GMT\r\n\r\n"));
        }
    }

    #[test]
    fn every_answer_over_tls_may_say_to_stay_there() {
        let to = ReplyTo {
            hsts: b"Strict-Transport-Security: max-age=60\r\n",
            ..TO
        };
        let [mut error, mut redirect] = [Vec::new(), Vec::new()];
        write_error(502, 1, None, &to, &mut error);
        write_redirect(302, b"/x", &to, &mut redirect);
        for out in [error, redirect] {
            let text = String::from_utf8(out).unwrap();
            let line = "\r\nStrict-Transport-Security: max-age=60\r\n";
            assert!(text.contains(line), "{text}");
        }
        let mut edits = FieldEdits::none();
        edits
            .add(b"strict-transport-security", b"max-age=0")
            .unwrap();
        let reply = Reply {
            status: 200,
            content_type: TEXT,
            body: b"",
            edits: &edits,
        };
        let mut out = Vec::new();
        write_reply(&reply, &to, &mut out);
        let text = String::from_utf8(out).unwrap().to_lowercase();
        assert_eq!(
            text.matches("strict-transport-security").count(),
            1,
            "{text}"
        );
        assert!(text.contains("max-age=0"), "its own wins");
    }

    #[test]
    fn a_redirect_names_its_location() {
        let mut out = Vec::new();
        write_redirect(308, b"https://a/b?c", &TO, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 308 Permanent Redirect\r\n"));
        assert!(text.contains("\r\nLocation: https://a/b?c\r\n"));
        assert!(text.ends_with("\r\n\r\nPermanent Redirect\n"));
    }
}
