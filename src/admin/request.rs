//! A request to the admin door, read from its bytes.

use crate::core::http::body::Framing;
use crate::core::http::head::{Expect, HeadLimits, Method, Parsed, RequestHead, TargetForm};

/// The longest head, in bytes.
pub const HEAD_BYTES_MAX: usize = 8 * 1024;
/// The longest body, in bytes.
pub const BODY_BYTES_MAX: usize = 16 * 1024;
const FIELDS_MAX: usize = 64;

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: HEAD_BYTES_MAX,
    fields_max: FIELDS_MAX,
};

/// What somebody asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What is to be done with the path.
    pub verb: Verb,
    /// Without the query, and with nothing escaped.
    pub path: String,
    /// Of the query and, for POST, of a form in the body, in turn.
    pub parameters: Vec<(String, String)>,
    /// Which forms of an answer are wanted (RFC 9110 section 12.5.1); empty for any.
    pub accept: String,
    /// What it connects to, as it says.
    pub authority: String,
    /// Which page a browser has it from.
    pub origin: Option<String>,
    /// What comes with `Authorization: Bearer`.
    pub token: Option<String>,
    /// Whether more may follow on the connection.
    pub keeps_alive: bool,
}

/// The methods that are known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verb {
    /// Looks.
    #[default]
    Get,
    /// Looks, but wants no body.
    Head,
    /// Acts.
    Post,
    /// Is refused.
    Other,
}

impl Request {
    /// The first parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut parameters = self.parameters.iter();
        let found = parameters.find(|(known, _)| known == name)?;
        Some(&found.1)
    }
}

/// Why a request is answered without being understood: a status and a sentence.
pub type Malformed = (u16, String);

/// What bytes are that have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// More must come.
    Part,
    /// So must a body, with which the caller waits until it is told to go on.
    Head,
    /// A request, and how many of them it takes.
    Whole(Request, usize),
}

/// The first request in these bytes.
///
/// # Errors
/// What is wrong with it. Nothing behind it can be understood.
pub fn read(head: &mut RequestHead, bytes: &[u8]) -> Result<Heard, Malformed> {
    let parsed = head.parse(bytes, LIMITS);
    let head_length = match parsed.map_err(|error| (error.status(), error.reason().to_owned()))? {
        Parsed::Partial => return Ok(Heard::Part),
        Parsed::Complete(length) => length,
    };
    let body_length = match head.facts.framing {
        Framing::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
        Framing::Chunked => return Err((411, "a body needs a Content-Length here".to_owned())),
        Framing::None | Framing::UntilClose => 0,
    };
    if body_length > BODY_BYTES_MAX {
        return Err((413, format!("a body has at most {BODY_BYTES_MAX} bytes")));
    }
    if head.facts.expect == Expect::Unknown {
        return Err((417, "only 100-continue can be expected".to_owned()));
    }
    let end = head_length + body_length;
    let Some(body) = bytes.get(head_length..end) else {
        let waits = head.facts.expect == Expect::Continue && bytes.len() == head_length;
        return Ok(if waits { Heard::Head } else { Heard::Part });
    };
    let request = understood(head, &bytes[..head_length], body);
    Ok(Heard::Whole(request, end))
}

fn understood(head: &RequestHead, bytes: &[u8], body: &[u8]) -> Request {
    let mut space = Vec::new();
    let target = head.path_and_query(bytes, &mut space);
    let mut parts = target.splitn(2, |byte| *byte == b'?');
    let path = unescaped(parts.next().unwrap_or_default(), false);
    let verb = match (head.form, head.facts.method) {
        (TargetForm::Asterisk, _) => Verb::Other,
        (_, Method::Get) => Verb::Get,
        (_, Method::Head) => Verb::Head,
        (_, Method::Post) => Verb::Post,
        (_, _) => Verb::Other,
    };
    let mut parameters = form(parts.next().unwrap_or_default());
    if verb == Verb::Post {
        parameters.extend(form(body));
    }
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let field = |name: &[u8]| head.fields.find(name, bytes).map(text);
    Request {
        verb,
        path,
        parameters,
        accept: field(b"accept").unwrap_or_default(),
        authority: text(head.authority(bytes)),
        origin: field(b"origin"),
        token: field(b"authorization").and_then(|it| bearer(&it)),
        keeps_alive: head.facts.keep_alive,
    }
}

/// RFC 6750 section 2.1.
fn bearer(authorization: &str) -> Option<String> {
    let (scheme, token) = authorization.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| token.trim().to_owned())
}

/// Names and values, as forms have them (URL Standard, section 5.1).
fn form(text: &[u8]) -> Vec<(String, String)> {
    let parts = text.split(|byte| *byte == b'&').filter(|it| !it.is_empty());
    let pair = |part: &[u8]| {
        let mut halves = part.splitn(2, |byte| *byte == b'=');
        let mut half = || unescaped(halves.next().unwrap_or_default(), true);
        (half(), half())
    };
    parts.map(pair).collect()
}

fn unescaped(text: &[u8], plus_is_blank: bool) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let escaped = (byte == b'%')
            .then(|| text.get(at + 1..at + 3).and_then(hex))
            .flatten();
        out.push(match (escaped, byte) {
            (Some(byte), _) => byte,
            (None, b'+') if plus_is_blank => b' ',
            (None, byte) => byte,
        });
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok()?;
    let all = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Heard, Malformed> {
        read(&mut RequestHead::default(), text.as_bytes())
    }

    fn one(text: &str) -> Request {
        let Heard::Whole(request, length) = asked(text).expect("well-formed") else {
            panic!("{text} is a part");
        };
        assert_eq!(length, text.len());
        request
    }

    #[test]
    fn a_request_is_read_with_its_parameters() {
        let request = one("GET /why?last=5xx&a=b%20c+d&e HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((request.verb, request.path.as_str()), (Verb::Get, "/why"));
        assert_eq!(request.parameter("last"), Some("5xx"));
        assert_eq!(request.parameter("a"), Some("b c d"));
        assert_eq!(request.parameter("e"), Some(""));
        assert_eq!(request.parameter("f"), None);
        assert!(request.keeps_alive);
    }

    #[test]
    fn a_form_and_a_token_come_with_a_post() {
        let request = one(
            "POST /drain HTTP/1.1\r\nHost: x:9\r\nAuthorization: bearer abc \r\n\
             Origin: http://x:9\r\nConnection: close\r\nContent-Length: 17\r\n\r\n\
             target=app%2Fb1&w",
        );
        assert_eq!(request.verb, Verb::Post);
        assert_eq!(request.parameter("target"), Some("app/b1"));
        assert_eq!(request.token.as_deref(), Some("abc"));
        assert_eq!(request.origin.as_deref(), Some("http://x:9"));
        assert_eq!(request.authority, "x:9");
        assert!(!request.keeps_alive);
    }

    #[test]
    fn more_is_waited_for_at_every_byte() {
        let text = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na=b";
        for end in 0..text.len() {
            assert_eq!(asked(&text[..end]), Ok(Heard::Part), "{end}");
        }
        one(text);
    }

    #[test]
    fn what_is_too_long_or_unclear_is_refused_with_a_status() {
        let status = |text: &str| asked(text).map(|_| 0).unwrap_or_else(|(status, _)| status);
        let post = "POST / HTTP/1.1\r\nHost: x\r\n";
        assert_eq!(status(&format!("{post}Content-Length: 99999\r\n\r\n")), 413);
        assert_eq!(
            status(&format!("{post}Transfer-Encoding: chunked\r\n\r\n")),
            411
        );
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(
            status("GET / HTTP/1.1\r\nHost: x\r\nExpect: tea\r\n\r\n"),
            417
        );
        let long = "x".repeat(HEAD_BYTES_MAX);
        assert_eq!(
            status(&format!("GET / HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n")),
            431
        );
    }

    #[test]
    fn escapes_that_are_none_stay_as_they_are() {
        assert_eq!(unescaped(b"a%2", false), "a%2");
        assert_eq!(unescaped(b"%zz+%+1", false), "%zz+%+1");
        assert_eq!(unescaped(b"%C3%A4", false), "\u{e4}");
    }
}
