//! What must hold for any bytes at all. The fuzz targets, the properties and the plain run over
//! the corpora share these checks.
//!
//! The reference readers here are written from RFC 9112 alone, slow and simple, and share no
//! code with weir or httparse: a message that weir forwards has to mean the same to them.

use weir::core::http::body::{Body, BodyError, Framing};
use weir::core::http::head::{
    HeadError, HeadLimits, Method, Parsed, RequestHead, ResponseHead, TargetForm, Version,
};
use weir::core::http::known::KnownSet;
use weir::core::http::oddity::{Oddities, Oddity};
use weir::core::http::rewrite::{
    END, FieldEdits, RequestRewrite, ResponseRewrite, write_request, write_response,
};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    fields_max: 32,
};
/// What weir writes may be a little longer than what it read.
const LIMITS_OUT: HeadLimits = HeadLimits {
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

    /// Reads a response as RFC 9112 lets a recipient read it: LF for a line end, empty lines before
    /// it, white space in its first line and before colons, folded lines, control bytes as
    /// spaces; and no field whose name is printable and no token.
    pub(crate) fn of_response(bytes: &[u8]) -> Result<Self, &'static str> {
        let (lines, length) = loose_lines(bytes)?;
        let mut fields: Vec<Option<Line>> = Vec::new();
        for line in &lines[1..] {
            if line[0] == b' ' || line[0] == b'\t' {
                let more = clean(trim(line));
                match fields.last_mut() {
                    _ if trim(line).is_empty() => return Err("a line of blanks"),
                    None => return Err("nothing to fold"),
                    Some(Some((_, value))) => {
                        *value = [trim(value), &more].join(&b' ');
                    }
                    Some(None) => {}
                }
                continue;
            }
            let colon = line.iter().position(|&byte| byte == b':');
            let (name, value) = line.split_at(colon.ok_or("no colon")?);
            let name = trim(name);
            match field(&[name, b":"].concat()) {
                Ok((name, _)) => fields.push(Some((name, clean(trim(&value[1..]))))),
                Err(_) if !name.is_empty() && name.iter().all(u8::is_ascii_graphic) => {
                    fields.push(None);
                }
                Err(why) => return Err(why),
            }
        }
        let fields = fields.into_iter().flatten();
        Ok(Self {
            start: status_line(lines[0])?,
            fields: fields
                .map(|(name, value)| (name, trim(&value).to_vec()))
                .collect(),
            length,
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

pub(crate) const UNFINISHED: &str = "no end of line";

/// The lines up to the empty one, and where that ends.
fn loose_lines(bytes: &[u8]) -> Result<(Vec<&[u8]>, usize), &'static str> {
    let mut lines = Vec::new();
    let mut at = 0;
    loop {
        let rest = &bytes[at..];
        let end = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(UNFINISHED)?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        at += end + 1;
        if line.contains(&b'\r') || line.contains(&0) {
            return Err("CR or NUL");
        }
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => return Ok((lines, at)),
            (false, _) => lines.push(line),
        }
    }
}

/// The one form of a status line.
fn status_line(line: &[u8]) -> Result<Vec<u8>, &'static str> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = line.iter().position(blank).ok_or("no status")?;
    let rest = &line[end..];
    let rest = &rest[rest
        .iter()
        .position(|byte| !blank(byte))
        .ok_or("no status")?..];
    let (code, reason) = rest.split_at_checked(3).ok_or("a short status")?;
    if !reason.is_empty() && !blank(&reason[0]) {
        return Err("a long status");
    }
    let reason = clean(reason.get(1..).unwrap_or_default());
    Ok([b"HTTP/1.1 ", code, b" ", &reason].concat())
}

/// Where a line had to be mended, blanks before its reason go.
fn status_and_reason(line: &[u8]) -> (&[u8], &[u8]) {
    let (status, reason) = line.split_at(b"HTTP/1.1 200".len());
    (status, trim(reason))
}

fn clean(text: &[u8]) -> Vec<u8> {
    let is_control = |byte: u8| byte.is_ascii_control() && byte != b'\t';
    let cleaned = text
        .iter()
        .map(|&byte| if is_control(byte) { b' ' } else { byte });
    cleaned.collect()
}

fn trim(text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !blank(byte));
    let start = start.unwrap_or(text.len());
    let last = text.iter().rposition(|byte| !blank(byte));
    &text[start..last.map_or(start, |last| last + 1)]
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
    Ok((name.to_ascii_lowercase(), trim(value).to_vec()))
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
                && !is_read_as_framing(name)
        })
        .collect()
}

/// Whether CGI, which makes `_` of all punctuation, would find the framing of the message in it.
fn is_read_as_framing(name: &[u8]) -> bool {
    let fold = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => *byte,
        _ => b'_',
    };
    let folded: Vec<u8> = name.iter().map(fold).collect();
    folded == b"content_length" || folded == b"transfer_encoding"
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
        drop_by_name: None,
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
        let read = Reading::of_response(bytes).expect("weir took what the reference refuses");
        assert_eq!(read.length, length);
        let is_plain = Reading::of(bytes).is_ok_and(|plain| plain.length == length);
        assert!(is_plain || !head.facts.oddities.is_empty(), "not noted");
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
    write_response(head, head.readable(bytes), &rewrite, &mut sent);
    sent.extend_from_slice(END);

    let again = Reading::of(&sent).expect("weir wrote what the reference refuses");
    assert_eq!(again.length, sent.len());
    assert_eq!(kept(&again), kept(read), "end-to-end fields changed");
    assert_eq!(
        status_and_reason(&again.start),
        status_and_reason(&read.start),
        "the status line changed"
    );
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
    let odd = reread
        .facts
        .oddities
        .without(Oddities::of(&[Oddity::StatusCode]));
    assert_eq!(odd, Oddities::NONE, "what goes out is odd");
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

/// Decodes a chunked body that lies there as a whole, as strictly as it must be sent.
pub(crate) fn decode(bytes: &[u8]) -> Decoded {
    decode_as(bytes, false)
}

/// Decodes the chunked body of a response, which may be odd: LF for a line end but for that of an
/// extension, blanks after a size, zeros before it, and odd trailers.
pub(crate) fn decode_response(bytes: &[u8]) -> Decoded {
    decode_as(bytes, true)
}

fn decode_as(bytes: &[u8], may_be_odd: bool) -> Decoded {
    let mut data = Vec::new();
    let mut at = 0;
    loop {
        let Some(line_feed) = bytes[at..].iter().position(|&byte| byte == b'\n') else {
            return Decoded::Partial;
        };
        let line = &bytes[at..at + line_feed];
        let size = match line.strip_suffix(b"\r") {
            Some(line) => chunk_size(line, may_be_odd),
            None if may_be_odd && !line.contains(&b';') => chunk_size(line, true),
            None => None,
        };
        let Some(size) = size else {
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
        at += size
            + match &rest[size..] {
                [b'\r', b'\n', ..] => 2,
                [b'\n', ..] if may_be_odd => 1,
                [b'\r'] => return Decoded::Partial,
                _ => return Decoded::Bad,
            };
        data.extend_from_slice(&rest[..size]);
    }
    match bytes[at..] {
        [b'\r', b'\n', ..] => return Decoded::Whole(data, Vec::new(), at + 2),
        [b'\n', ..] if may_be_odd => return Decoded::Whole(data, Vec::new(), at + 1),
        [] | [b'\r'] => return Decoded::Partial,
        [b'\r', ..] => return Decoded::Bad,
        _ => {}
    }
    let rest = &bytes[at..];
    let is_end = |end: &usize| {
        let section = &rest[..*end];
        section.ends_with(b"\r\n\r\n")
            || (may_be_odd && (section.ends_with(b"\n\n") || section.ends_with(b"\n\r\n")))
    };
    let Some(end) = (0..=rest.len()).find(is_end) else {
        return Decoded::Partial;
    };
    // A trailer section is a head without its first line.
    let section = [b"HTTP/1.1 200 OK\r\n", &rest[..end]].concat();
    let read = if may_be_odd {
        Reading::of_response(&section)
    } else {
        Reading::of(&section)
    };
    match read {
        Ok(read) if read.length == section.len() => Decoded::Whole(data, read.fields, at + end),
        Ok(_) | Err(_) => Decoded::Bad,
    }
}

fn chunk_size(line: &[u8], may_be_odd: bool) -> Option<u64> {
    let (size, extension) = match line.iter().position(|&byte| byte == b';') {
        Some(mark) => (line[..mark].trim_ascii_end(), &line[mark..]),
        None if may_be_odd => (line.trim_ascii_end(), &[][..]),
        None => (line, &[][..]),
    };
    let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let is_odd_text = |byte: &u8| may_be_odd && *byte != 0 && *byte != b'\r';
    let blank = &line[size.len()..line.len() - extension.len()];
    let is_extension = extension
        .iter()
        .all(|byte| is_text(byte) || is_odd_text(byte));
    if !is_extension || !blank.iter().all(is_text) {
        return None;
    }
    let zeros = size.iter().take_while(|&&byte| byte == b'0').count();
    let surplus = if may_be_odd {
        zeros.saturating_sub(8)
    } else {
        0
    };
    let size = &size[surplus..];
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
    check_chunked(bytes, seed, &decode(bytes), Body::new);
    check_chunked(bytes, seed, &decode_response(bytes), Body::of_response);
}

fn check_chunked(bytes: &[u8], seed: u8, expected: &Decoded, body: fn(Framing, bool) -> Body) {
    for keep_framing in [true, false] {
        let framed = relay(bytes, body(Framing::Chunked, keep_framing), seed);
        match (expected, framed) {
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

fn relay(bytes: &[u8], mut body: Body, seed: u8) -> Relayed {
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
        if piece.ends_line {
            out.extend_from_slice(b"\r\n");
        }
        consumed += piece.consumed;
        at += piece.consumed;
    }
    let done = body.is_done();
    assert_eq!(body.on_end().is_ok(), done);
    out.extend_from_slice(body.trailers());
    Ok((out, consumed, done))
}
