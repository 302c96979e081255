//! What must hold for any bytes at all. The fuzz targets, the properties and the plain run over
//! the corpora share these checks.
//!
//! The reference readers here are written from RFC 9112 alone, slow and simple, and share no
//! code with weir or httparse: a message that weir forwards has to mean the same to them.

use weir::core::http::body::{Body, BodyError, Framing};
use weir::core::http::head::{
    HeadError, Limits, Method, Parsed, RequestHead, ResponseHead, TargetForm, Version,
};
use weir::core::http::known::KnownSet;
use weir::core::http::rewrite::{
    END, FieldEdits, RequestRewrite, ResponseRewrite, write_request, write_response,
};

const LIMITS: Limits = Limits {
    head_bytes_max: 4096,
    fields_max: 32,
};
/// What weir writes may be a little longer than what it read.
const LIMITS_OUT: Limits = Limits {
    head_bytes_max: 65_535,
    fields_max: 64,
};
const HOST_DEFAULT: &[u8] = b"backend.example";
const DATE: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

/// A field, its name in lower case.
pub(crate) type Line = (Vec<u8>, Vec<u8>);

/// A head as the reference reader understands it.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The first line.
    pub(crate) start: Vec<u8>,
    pub(crate) fields: Vec<Line>,
    pub(crate) length: usize,
}

impl Reading {
    /// Reads strictly: CRLF only, no folding, tokens for names, no control bytes.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut lines = Vec::new();
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            let end = rest
                .windows(2)
                .position(|pair| pair == b"\r\n")
                .ok_or("no end of line")?;
            let line = &rest[..end];
            at += end + 2;
            if line
                .iter()
                .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
            {
                return Err("control byte");
            }
            if line.is_empty() {
                break;
            }
            lines.push(line.to_vec());
        }
        if lines.is_empty() {
            return Err("no start line");
        }
        let start = lines.remove(0);
        let fields = lines
            .iter()
            .map(|line| field(line))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            start,
            fields,
            length: at,
        })
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        self.fields
            .iter()
            .filter(|(have, _)| have == name.as_bytes())
            .map(|(_, value)| value.as_slice())
            .collect()
    }

    /// The framing, if the fields leave no doubt about it whoever reads them.
    pub(crate) fn framing(&self) -> Result<Framing, &'static str> {
        match (
            self.all("content-length").as_slice(),
            self.all("transfer-encoding").as_slice(),
        ) {
            ([], []) => Ok(Framing::None),
            ([], [b"chunked"]) => Ok(Framing::Chunked),
            ([value], []) => {
                let text = std::str::from_utf8(value).map_err(|_| "length is no text")?;
                let number: u64 = text.parse().map_err(|_| "length is no number")?;
                if number.to_string() == text {
                    Ok(Framing::Length(number))
                } else {
                    Err("length is not plain")
                }
            }
            _ => Err("framing is ambiguous"),
        }
    }
}

fn field(line: &[u8]) -> Result<Line, &'static str> {
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .ok_or("no colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
    if name.is_empty() || !name.iter().all(is_token) {
        return Err("name is no token");
    }
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(start, |last| last + 1);
    Ok((name.to_ascii_lowercase(), value[start..end].to_vec()))
}

/// Fields that weir decides on; all others pass as they are unless `Connection` names them.
const DECIDED: &[&str] = &[
    // Reserved (RFC 9110 section 18.4), because the connection option has that name.
    "close",
    "connection",
    "content-length",
    "content_length",
    "date",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "max-forwards",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "transfer_encoding",
    "upgrade",
];

/// The fields that have to come out as they went in.
fn kept(reading: &Reading) -> Vec<&Line> {
    let named: Vec<Vec<u8>> = reading
        .all("connection")
        .iter()
        .flat_map(|value| value.split(|&byte| byte == b','))
        .map(|option| option.trim_ascii().to_ascii_lowercase())
        .collect();
    reading
        .fields
        .iter()
        .filter(|(name, _)| {
            !DECIDED.iter().any(|decided| name == decided.as_bytes())
                && !named.contains(name)
                && !name.starts_with(b"x_")
                && !name.starts_with(b"x-real_")
                && !name.starts_with(b"x-forwarded_")
        })
        .collect()
}

/// A head is found at the same place whatever was there when it was looked for.
fn check_splits<E>(bytes: &[u8], mut parse: impl FnMut(&[u8]) -> Result<Parsed, E>) {
    let whole = parse(bytes).ok();
    for cut in 0..bytes.len() {
        match (whole, parse(&bytes[..cut])) {
            (Some(Parsed::Complete(end)), Ok(Parsed::Complete(found))) => assert_eq!(end, found),
            (Some(Parsed::Complete(end)), Ok(Parsed::Partial)) => assert!(cut < end),
            (Some(Parsed::Partial), found) => assert!(matches!(found, Ok(Parsed::Partial))),
            (Some(Parsed::Complete(_)), Err(_)) => panic!("refused at {cut} what is whole later"),
            (None, found) => assert!(
                !matches!(found, Ok(Parsed::Complete(_))),
                "taken at {cut} what is refused later"
            ),
        }
    }
}

/// Any bytes as a request head.
pub(crate) fn head_request(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(2048)];
    let mut head = RequestHead::default();
    check_splits(bytes, |part| head.parse(part, LIMITS));
    let Ok(Parsed::Complete(length)) = head.parse(bytes, LIMITS) else {
        return;
    };
    let blank = bytes
        .iter()
        .take_while(|byte| b"\r\n".contains(byte))
        .count();
    let read = Reading::of(&bytes[blank..]).expect("weir took what the reference refuses");
    assert_eq!(blank + read.length, length);

    let sent = write(&head, bytes);
    let again = Reading::of(&sent).expect("weir wrote what the reference refuses");
    assert_eq!(again.length, sent.len());
    assert_eq!(again.framing(), Ok(head.facts.framing), "framing changed");
    assert_eq!(kept(&again), kept(&read), "end-to-end fields changed");
    assert_eq!(again.all("host"), [expected_host(&head, bytes)]);
    let mut space = Vec::new();
    let line = [
        head.method(bytes),
        b" ",
        head.path_and_query(bytes, &mut space),
        b" HTTP/1.1",
    ];
    assert_eq!(again.start, line.concat());
    assert!(again.start.split(|&byte| byte == b' ').count() == 3);
    check_connection(&again, head.facts.upgrade);

    let mut reread = RequestHead::default();
    assert_eq!(
        reread.parse(&sent, LIMITS_OUT),
        Ok(Parsed::Complete(sent.len()))
    );
    assert_eq!(reread.facts.framing, head.facts.framing);
    assert_eq!(reread.facts.expect, head.facts.expect);
    assert_eq!(reread.facts.upgrade, head.facts.upgrade);
    if head.facts.max_forwards.is_none() {
        assert_eq!(write(&reread, &sent), sent, "a second pass changes it");
    }
}

fn expected_host<'a>(head: &RequestHead, bytes: &'a [u8]) -> &'a [u8] {
    match (head.form, head.authority(bytes)) {
        (TargetForm::Origin | TargetForm::Asterisk, []) => HOST_DEFAULT,
        (_, authority) => authority,
    }
}

/// `Connection` holds nothing but what weir puts there.
fn check_connection(reading: &Reading, upgrade: bool) {
    let allowed: &[&[u8]] = if upgrade {
        &[b"upgrade", b"upgrade, TE"]
    } else {
        &[b"TE", b"close", b"keep-alive"]
    };
    let connection = reading.all("connection");
    assert!(connection.len() <= 1);
    assert!(connection.iter().all(|value| allowed.contains(value)));
    assert_eq!(!reading.all("upgrade").is_empty(), upgrade);
    for name in [
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "content_length",
    ] {
        assert!(reading.all(name).is_empty(), "{name} passed");
    }
}

fn write(head: &RequestHead, bytes: &[u8]) -> Vec<u8> {
    let rewrite = RequestRewrite {
        target: None,
        host_default: HOST_DEFAULT,
        drop: KnownSet::NONE,
        edits: &FieldEdits::none(),
        close: false,
    };
    let mut out = Vec::new();
    write_request(head, bytes, &rewrite, &mut out);
    out.extend_from_slice(END);
    out
}

/// Any bytes as the head of a response to GET and HEAD, for old and new clients.
pub(crate) fn head_response(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(2048)];
    let mut head = ResponseHead::default();
    check_splits(bytes, |part| head.parse(part, Method::Get, LIMITS));
    for method in [Method::Get, Method::Head] {
        let found: Result<Parsed, HeadError> = head.parse(bytes, method, LIMITS);
        let Ok(Parsed::Complete(length)) = found else {
            continue;
        };
        let read = Reading::of(bytes).expect("weir took what the reference refuses");
        assert_eq!(read.length, length);
        for client in [Version::Http10, Version::Http11] {
            for keep_alive in [false, true] {
                check_response(&head, bytes, method, &read, (client, keep_alive));
            }
        }
    }
}

fn check_response(
    head: &ResponseHead,
    bytes: &[u8],
    method: Method,
    read: &Reading,
    (client, keep_alive): (Version, bool),
) {
    let rewrite = ResponseRewrite {
        client,
        keep_alive,
        drop: KnownSet::NONE,
        edits: &FieldEdits::none(),
        date: DATE,
    };
    let mut sent = Vec::new();
    write_response(head, bytes, &rewrite, &mut sent);
    sent.extend_from_slice(END);

    let again = Reading::of(&sent).expect("weir wrote what the reference refuses");
    assert_eq!(again.length, sent.len());
    assert_eq!(kept(&again), kept(read), "end-to-end fields changed");
    let framing = again.framing().expect("ambiguous framing");
    let has_body = head.facts.framing != Framing::None;
    match (head.facts.framing, client) {
        (Framing::Length(_), _) => assert_eq!(framing, head.facts.framing),
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => {
            assert_eq!(framing, Framing::Chunked);
        }
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => {
            assert_eq!(framing, Framing::None);
            let connection = again.all("connection");
            assert!(matches!(connection[..], [b"close" | b"close, upgrade"]));
        }
        // A length may stay, to tell what GET would have found.
        (Framing::None, _) => assert_ne!(framing, Framing::Chunked),
    }
    if head.facts.status >= 200 {
        assert!(!again.all("date").is_empty());
    }

    let mut reread = ResponseHead::default();
    let parsed = reread.parse(&sent, method, LIMITS_OUT);
    assert_eq!(parsed, Ok(Parsed::Complete(sent.len())));
    assert_eq!(reread.facts.status, head.facts.status);
    assert_eq!(reread.facts.framing == Framing::None, !has_body);
}

/// What the reference decoder makes of a chunked body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Data, trailers, and the length of it all.
    Whole(Vec<u8>, Vec<Line>, usize),
    /// It goes on.
    Partial,
    /// It is none.
    Bad,
}

/// Decodes a chunked body that lies there as a whole.
pub(crate) fn decode(bytes: &[u8]) -> Decoded {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let Some(line_feed) = bytes[at..].iter().position(|&byte| byte == b'\n') else {
            return Decoded::Partial;
        };
        let line = &bytes[at..at + line_feed];
        let Some(size) = line.strip_suffix(b"\r").and_then(chunk_size) else {
            return Decoded::Bad;
        };
        at += line_feed + 1;
        if size == 0 {
            break;
        }
        let rest = &bytes[at..];
        let Some(size) = usize::try_from(size).ok().filter(|size| *size < rest.len()) else {
            return Decoded::Partial;
        };
        match &rest[size..] {
            [b'\r', b'\n', ..] => {}
            [b'\r'] => return Decoded::Partial,
            _ => return Decoded::Bad,
        }
        data.extend_from_slice(&rest[..size]);
        at += size + 2;
    }
    match bytes[at..] {
        [b'\r', b'\n', ..] => return Decoded::Whole(data, Vec::new(), at + 2),
        [] | [b'\r'] => return Decoded::Partial,
        [b'\r', ..] => return Decoded::Bad,
        _ => {}
    }
    let Some(end) = bytes[at..].windows(4).position(|four| four == b"\r\n\r\n") else {
        return Decoded::Partial;
    };
    // A trailer section is a head without its first line.
    let section = [b"-\r\n", &bytes[at..at + end + 4]].concat();
    match Reading::of(&section) {
        Ok(read) if read.length == section.len() => Decoded::Whole(data, read.fields, at + end + 4),
        Ok(_) | Err(_) => Decoded::Bad,
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let (size, extension) = match line.iter().position(|&byte| byte == b';') {
        Some(mark) => (line[..mark].trim_ascii_end(), &line[mark..]),
        None => (line, &[][..]),
    };
    let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let blank = &line[size.len()..line.len() - extension.len()];
    if !extension.iter().all(is_text) || !blank.iter().all(is_text) {
        return None;
    }
    if size.is_empty() || size.len() > 16 || !size.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(size).ok()?, 16)
        .ok()
        .filter(|size| i64::try_from(*size).is_ok())
}

/// Any bytes as a chunked body, split anywhere; the first byte chooses how.
pub(crate) fn chunked(bytes: &[u8]) {
    let Some((&seed, bytes)) = bytes.split_first() else {
        return;
    };
    let bytes = &bytes[..bytes.len().min(16 * 1024)];
    let expected = decode(bytes);
    for keep_framing in [true, false] {
        let framed = relay(bytes, keep_framing, seed);
        match (&expected, framed) {
            (_, Err(BodyError::ExtensionTooLong | BodyError::TrailerTooLong)) => {}
            (Decoded::Whole(data, trailers, length), Ok((out, consumed, true))) => {
                assert_eq!(consumed, *length);
                if keep_framing {
                    check_framed(&out, data, trailers);
                } else {
                    assert_eq!(&out, data);
                }
            }
            (Decoded::Partial, Ok((_, consumed, false))) => assert_eq!(consumed, bytes.len()),
            // weir finds the fault earlier than one who waits for the end of a line.
            (Decoded::Bad | Decoded::Partial, Err(_)) => {}
            (expected, found) => panic!("expected {expected:?}, found {found:?}"),
        }
    }
}

/// What went out is the same body, without extensions, with no trailer that was not there.
fn check_framed(out: &[u8], data: &[u8], trailers: &[Line]) {
    let Decoded::Whole(sent_data, sent_trailers, length) = decode(out) else {
        panic!("what was relayed does not decode");
    };
    assert_eq!(length, out.len());
    assert_eq!(sent_data, data);
    assert!(
        sent_trailers
            .iter()
            .all(|trailer| trailers.contains(trailer))
    );
    for (name, _) in sent_trailers {
        for forbidden in [
            "content-length",
            "transfer-encoding",
            "host",
            "connection",
            "cookie",
        ] {
            assert_ne!(name, forbidden.as_bytes());
        }
    }
}

type Relayed = Result<(Vec<u8>, usize, bool), BodyError>;

fn relay(bytes: &[u8], keep_framing: bool, seed: u8) -> Relayed {
    let mut body = Body::new(Framing::Chunked, keep_framing);
    let mut out = Vec::new();
    let mut consumed = 0;
    let mut step = usize::from(seed);
    let mut at = 0;
    while at < bytes.len() && !body.is_done() {
        // Slices of changing length, so that one input meets many splits.
        step = (step * 5 + 3) % 61;
        let slice = &bytes[at..(at + step + 1).min(bytes.len())];
        let piece = body.feed(slice)?;
        assert!(piece.forward <= piece.consumed && piece.consumed <= slice.len());
        assert!(piece.consumed > 0, "no progress");
        assert_eq!(piece.done, body.is_done());
        out.extend_from_slice(&slice[..piece.forward]);
        consumed += piece.consumed;
        at += piece.consumed;
    }
    let done = body.is_done();
    assert_eq!(body.on_end().is_ok(), done);
    out.extend_from_slice(body.trailers());
    Ok((out, consumed, done))
}
