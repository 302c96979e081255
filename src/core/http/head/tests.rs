//! Heads, good and bad, in both directions.

use super::*;
use crate::core::http::body::Framing;
use crate::core::http::known::Known;
use crate::core::http::oddity::{Oddities, Oddity};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 1024,
    fields_max: 16,
};

fn request(bytes: &[u8]) -> Result<(RequestHead, Parsed), HeadError> {
    let mut head = RequestHead::default();
    let parsed = head.parse(bytes, LIMITS)?;
    Ok((head, parsed))
}

fn facts(fields: &str) -> RequestFacts {
    let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let (head, parsed) = request(bytes.as_bytes()).unwrap();
    assert_eq!(parsed, Parsed::Complete(bytes.len()));
    head.facts
}

fn response(bytes: &[u8], method: Method) -> Result<ResponseFacts, HeadError> {
    let mut head = ResponseHead::default();
    let parsed = head.parse(bytes, method, LIMITS)?;
    assert_eq!(parsed, Parsed::Complete(bytes.len()));
    Ok(head.facts)
}

#[test]
fn a_request_is_taken_apart() {
    let bytes = b"GET /a/b?c=d HTTP/1.1\r\nHost: Example.org:8080\r\nX-A:  b \r\n\r\nGET /";
    let (head, parsed) = request(bytes).unwrap();
    assert_eq!(parsed, Parsed::Complete(bytes.len() - 5));
    assert_eq!(head.method(bytes), b"GET");
    assert_eq!(head.facts.method, Method::Get);
    assert_eq!(head.facts.version, Version::Http11);
    assert_eq!(head.path_and_query(bytes, &mut Vec::new()), b"/a/b?c=d");
    assert_eq!(head.authority(bytes), b"Example.org:8080");
    assert_eq!(head.host(bytes), b"Example.org");
    assert_eq!(head.facts.framing, Framing::None);
    assert!(head.facts.keep_alive);
    assert_eq!(head.fields.find(b"x-a", bytes), Some(b"b".as_slice()));
    assert_eq!(head.fields.iter().count(), 2);
    let names: Vec<_> = head.fields.iter().map(|field| field.name(bytes)).collect();
    assert_eq!(names, [b"Host".as_slice(), b"X-A"]);
}

#[test]
fn a_head_is_reused_without_remains_of_the_last() {
    let mut head = RequestHead::default();
    let first = b"POST http://b/ HTTP/1.0\r\nHost: a\r\nContent-Length: 05\r\nConnection: keep-alive, x\r\n\r\n";
    head.parse(first, LIMITS).unwrap();
    let second = b"GET / HTTP/1.0\r\n\r\n";
    head.parse(second, LIMITS).unwrap();
    assert!(head.fields.iter().next().is_none());
    assert!(head.host(second).is_empty());
    assert!(!head.fields.has(Known::Host));
    assert_eq!(head.fields.rewritten_length(), None);
    assert!(!head.facts.keep_alive);
    assert_eq!(head.form, TargetForm::Origin);
    assert_eq!(
        head.parse(b"GET / HTTP/1.1\r\n", LIMITS),
        Ok(Parsed::Partial)
    );
    assert!(head.fields.iter().next().is_none());
}

#[test]
fn requests_that_break_a_rule_are_refused_with_its_reason() {
    use HeadError::{
        BlankBeforeColon, BlankBeforeFields, BlankLine, CodingInOldVersion, CodingInvalid,
        CodingUnknown, ColonMissing, Connect, FieldName, FieldNameEmpty, FieldValue, FoldedLine,
        HostInvalid, HostMissing, HostRepeated, LengthAndCoding, LengthConflict, LengthInvalid,
        LineEnd, StartLine, Target, Version,
    };
    let table: &[(&[u8], HeadError)] = &[
        // Start line.
        (b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
        (b"\x16\x03\x01\x02\x00\x01\x00", HeadError::Method),
        (b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
        (b"(GET) / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
        (b"G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", StartLine),
        (b"GET /\ta HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET \xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET \xe4 HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET /\xe4#b HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET /\xe4\xa0\x01 HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET /\xe4\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET /\xe4\xff\r\nHost: a b\r\n\r\n", StartLine),
        (b"GET /\xe4 HTTP/1.1 \r\nHost: a\r\n\r\n", StartLine),
        (b"GET /\xe4 HTTP/1.\xe4\r\nHost: a\r\n\r\n", Version),
        (b"GET htt\xe4p://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"G\xe4T / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::Method),
        (b"GET http://\xc3\xa4/ HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET http://\xe4/ HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET http://a\xe4 HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET http://a:\xe4/ HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET http://[::1\xe4]/ HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", HostInvalid),
        (b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n", StartLine),
        (b"NONSENSE\r\n\r\n", StartLine),
        (b"GET\r\n\r\n", StartLine),
        (b"GET \r\n\r\n", StartLine),
        (b"GET /\x01\r\n\r\n", Target),
        (b"G@T\r\n\r\n", HeadError::Method),
        (b"GET /\r\n\r\n", StartLine),
        (b"GET a HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        (b"GET //[ HTTP/1.1\r\nHost: [\r\n\r\n", HostInvalid),
        (b"GET http:/// HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET http://?a HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET http://b:x/ HTTP/1.1\r\nHost: a\r\n\r\n", HostInvalid),
        (b"GET http://b/ HTTP/1.1\r\nHost: a/\r\n\r\n", HostInvalid),
        (b"GET http://b/ HTTP/1.1\r\n\r\n", HostMissing),
        (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", Connect),
        (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", Version),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version),
        (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", Version),
        (b"GET / http/1.1\r\nHost: a\r\n\r\n", StartLine),
        (b"GET / HTTP/1,1\r\nHost: a\r\n\r\n", Version),
        (b"GET / HTTX/1.1\r\nHost: a\r\n\r\n", StartLine),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", StartLine),
        (b"GET / HTTP/1.1x\r\nHost: a\r\n\r\n", StartLine),
        (b"GET / HTTP/1.10\r\nHost: a\r\n\r\n", StartLine),
        (b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", StartLine),
        // Lines.
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX:\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", LineEnd),
        (b"GET / HTTP/1.1\n\n", LineEnd),
        (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", LineEnd),
        (b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", LineEnd),
        (b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\rHost: a\r\n\r\n", LineEnd),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\rX", LineEnd),
        // Fields.
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", BlankBeforeColon),
        (b"GET / HTTP/1.1\r\nHost\t: a\r\n\r\n", BlankBeforeColon),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA B: c\r\n\r\n", FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA B\r\n\r\n", ColonMissing),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA\x0b: c\r\n\r\n", FieldName),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", BlankBeforeFields),
        (b"\r\nGET / HTTP/1.1\r\n Host: a\r\n\r\n", BlankBeforeFields),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", FoldedLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\tb\r\n\r\n", FoldedLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\n : b\r\n\r\n", FoldedLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n", BlankLine),
        (b"GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n", ColonMissing),
        (b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", FieldNameEmpty),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\xe4: b\r\n\r\n", FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX[]: b\r\n\r\n", FieldName),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n", FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n", FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x0bc\r\n\r\n", FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\x7fc\r\n\r\n", FieldValue),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \rb\r\n\r\n", FieldValue),
        // Host.
        (b"GET / HTTP/1.1\r\n\r\n", HostMissing),
        (b"GET / HTTP/1.1\r\nX-Host: a\r\n\r\n", HostMissing),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", HostRepeated),
        (b"GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", HostRepeated),
        (b"GET / HTTP/1.1\r\nHost:\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: :80\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a:80:80\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a:+80\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: []\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: [\xff]\r\n\r\n", HostInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\\b\r\n\r\n", HostInvalid),
        // Framing.
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5,\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: ,5\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5;\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775808\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\n", LengthInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\n", LengthConflict),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", LengthConflict),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", LengthAndCoding),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", LengthAndCoding),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked1\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;a=b\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked chunked\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", CodingInvalid),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", CodingUnknown),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n", CodingUnknown),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chu\x0bnked\r\n\r\n", FieldValue),
        (b"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", CodingInOldVersion),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", BlankBeforeColon),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\r\n : chunked\r\n\r\n", ColonMissing),
    ];
    for (bytes, wanted) in table {
        let found = request(bytes).map(|(_, parsed)| parsed);
        assert_eq!(found, Err(*wanted), "{}", bytes.escape_ascii());
        for cut in 0..bytes.len() {
            let part = request(&bytes[..cut]).map(|(_, parsed)| parsed);
            assert!(
                matches!(part, Ok(Parsed::Partial) | Err(_)),
                "complete at {cut}: {}",
                bytes.escape_ascii()
            );
        }
    }
}

#[test]
fn requests_that_look_odd_but_are_right_are_taken() {
    for bytes in [
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
        b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"X-CUSTOM!METHOD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /|{}\"<>^` HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /caf\xc3\xa9?\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET /\x80\xc0\xaf\xff?\xe9 HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n",
        b"GET http://a/\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET //a HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHOST:a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\t a \t\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: my_host.local.\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\xff\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\tb\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: , chunked,\r\n\r\n",
    ] {
        let found = request(bytes).map(|(_, parsed)| parsed);
        assert_eq!(
            found,
            Ok(Parsed::Complete(bytes.len())),
            "{}",
            bytes.escape_ascii()
        );
        for cut in 0..bytes.len() {
            let part = request(&bytes[..cut]).map(|(_, parsed)| parsed);
            assert_eq!(part, Ok(Parsed::Partial), "{cut}: {}", bytes.escape_ascii());
        }
    }
}

#[test]
fn a_target_that_is_no_text_is_kept_as_it_came() {
    let bytes = b"\r\nGET http://b:2/\xe9\xc3?\xff HTTP/1.1\r\nHost: \ta\r\nX: \xe9\r\n\r\n";
    let (head, _) = request(bytes).unwrap();
    assert_eq!(head.target(bytes), b"http://b:2/\xe9\xc3?\xff");
    assert_eq!(
        head.path_and_query(bytes, &mut Vec::new()),
        b"/\xe9\xc3?\xff"
    );
    assert_eq!(head.authority(bytes), b"b:2");
    assert_eq!(head.fields.find(b"x", bytes), Some(&b"\xe9"[..]));
}

#[test]
fn the_target_forms_are_told_apart() {
    // Request line, form, path and query, authority, host; the field is `Host: f:1`.
    let table = [
        ("GET /a?b", TargetForm::Origin, "/a?b", "f:1", "f"),
        ("OPTIONS *", TargetForm::Asterisk, "*", "f:1", "f"),
        ("GET http://b/c?d", TargetForm::Absolute, "/c?d", "b", "b"),
        ("GET HTTPS://b:2", TargetForm::Absolute, "/", "b:2", "b"),
        ("GET http://b?d", TargetForm::Absolute, "/?d", "b", "b"),
        (
            "GET /\u{e9}?\u{e9}",
            TargetForm::Origin,
            "/\u{e9}?\u{e9}",
            "f:1",
            "f",
        ),
        ("OPTIONS http://b", TargetForm::Absolute, "*", "b", "b"),
        ("OPTIONS http://b/", TargetForm::Absolute, "/", "b", "b"),
        (
            "GET http://[::1]:2/",
            TargetForm::Absolute,
            "/",
            "[::1]:2",
            "[::1]",
        ),
    ];
    for (line, form, path, authority, host) in table {
        let bytes = format!("{line} HTTP/1.1\r\nHost: f:1\r\n\r\n");
        let bytes = bytes.as_bytes();
        let (head, _) = request(bytes).unwrap();
        assert_eq!(head.form, form, "{line}");
        assert_eq!(
            head.path_and_query(bytes, &mut Vec::new()),
            path.as_bytes(),
            "{line}"
        );
        assert_eq!(head.authority(bytes), authority.as_bytes(), "{line}");
        assert_eq!(head.host(bytes), host.as_bytes(), "{line}");
    }
}

#[test]
fn the_framing_of_a_request_is_what_its_fields_say() {
    for (fields, framing) in [
        ("", Framing::None),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("content-length: 007\r\n", Framing::Length(7)),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Framing::Length(5),
        ),
        ("Content-Length: 5, 05\r\n", Framing::Length(5)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("transfer-encoding: \tChunked \r\n", Framing::Chunked),
    ] {
        assert_eq!(facts(fields).framing, framing, "{fields}");
    }
}

#[test]
fn the_wish_to_keep_the_connection_depends_on_version_and_options() {
    for (version, options, keep) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: x\r\nConnection: close\r\n", false),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{options}\r\n");
        let (head, _) = request(bytes.as_bytes()).unwrap();
        assert_eq!(head.facts.keep_alive, keep, "{bytes}");
    }
}

#[test]
fn expectations_are_sorted() {
    for (fields, expect) in [
        ("", Expect::Nothing),
        ("Expect: 100-Continue\r\n", Expect::Continue),
        ("Expect: 200-maybe\r\n", Expect::Unknown),
        ("Expect: 100-continue, x\r\n", Expect::Unknown),
        ("Expect: 100-continue;q=1\r\n", Expect::Unknown),
    ] {
        assert_eq!(facts(fields).expect, expect, "{fields}");
    }
    let (head, _) = request(b"PUT / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert_eq!(head.facts.expect, Expect::Nothing);
    assert!(head.fields.iter().all(|field| field.is_dropped()));
}

#[test]
fn forwards_are_counted_for_options_and_trace_only() {
    for (method, value, left) in [
        ("OPTIONS", "0", Some(0)),
        ("TRACE", "7", Some(7)),
        ("OPTIONS", "x", None),
        ("OPTIONS", "-1", None),
        ("OPTIONS", "99999999999999999999", Some(i64::MAX as u64)),
        ("GET", "0", None),
    ] {
        let bytes = format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n");
        assert_eq!(
            request(bytes.as_bytes()).unwrap().0.facts.max_forwards,
            left,
            "{bytes}"
        );
    }
}

#[test]
fn an_upgrade_needs_both_fields_and_is_not_to_http2() {
    for (fields, upgrade) in [
        ("Connection: Upgrade\r\nUpgrade: websocket\r\n", true),
        (
            "Connection: keep-alive, upgrade\r\nUpgrade: a/1, b\r\n",
            true,
        ),
        ("Connection: upgrade\r\n", false),
        ("Connection: upgrade\r\nUpgrade:\r\n", false),
        ("Upgrade: websocket\r\n", false),
        (
            "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n",
            false,
        ),
        ("Connection: upgrade\r\nUpgrade: websocket, H2C\r\n", false),
    ] {
        assert_eq!(facts(fields).upgrade, upgrade, "{fields}");
    }
    let old = b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(!request(old).unwrap().0.facts.upgrade);
}

#[test]
fn connection_names_fields_to_drop_but_none_that_must_stay() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nX-Hop: 1\r\nX-End: 2\r\nX-Forwarded-For: b\r\n\
        Content-Length: 0\r\nCookie: c\r\nKeep-Alive: 3\r\nContent_Length: 4\r\n\
        X-Forwarded-Prefix: d\r\nConnection: x-hop, host, content-length, x-forwarded-for\r\n\
        Connection: cookie, x-forwarded-prefix\r\n\r\n";
    let (head, _) = request(bytes).unwrap();
    let kept: Vec<_> = head
        .fields
        .iter()
        .filter(|field| !field.is_dropped())
        .map(|field| std::str::from_utf8(field.name(bytes)).unwrap())
        .collect();
    assert_eq!(
        kept,
        [
            "Host",
            "X-End",
            "X-Forwarded-For",
            "Content-Length",
            "Cookie",
            "X-Forwarded-Prefix"
        ]
    );
}

#[test]
fn connection_options_have_a_limit() {
    let options = "a,".repeat(65);
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {options}\r\n\r\n");
    assert_eq!(
        request(bytes.as_bytes()).err(),
        Some(HeadError::ConnectionOptions)
    );
}

#[test]
fn sizes_have_limits_of_their_own_status() {
    let line = format!("GET /{} HTTP/1.1\r\n", "a".repeat(1024));
    assert_eq!(
        request(line.as_bytes()).err().map(HeadError::status),
        Some(414)
    );
    let value = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(1024));
    assert_eq!(
        request(value.as_bytes()).err().map(HeadError::status),
        Some(431)
    );
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(16));
    assert_eq!(
        request(many.as_bytes()).err(),
        Some(HeadError::TooManyFields)
    );
    let blank = "\r\n".repeat(512);
    assert!(request(blank.as_bytes()).is_err());
}

#[test]
fn a_head_may_be_as_long_as_the_limit_and_more_may_follow() {
    let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
    let fill = "x".repeat(1024 - start.len() - 4);
    let bytes = format!("{start}{fill}\r\n\r\nbody");
    assert_eq!(request(bytes.as_bytes()).unwrap().1, Parsed::Complete(1024));
    let bytes = format!("{start}{fill}x\r\n\r\n");
    assert_eq!(request(bytes.as_bytes()).err(), Some(HeadError::TooLong));
}

/// How many bytes all attempts look at while a head comes in pieces of this size.
fn bytes_looked_at(head: &[u8], piece: usize) -> usize {
    let limits = HeadLimits {
        head_bytes_max: HEAD_BYTES_LIMIT,
        ..LIMITS
    };
    let mut looked_at = 0;
    let mut before = 0;
    while before < head.len() {
        let len = head.len().min(before + piece);
        if is_worth_parsing(&head[..len], len - before, limits) {
            looked_at += len;
        }
        before = len;
    }
    looked_at
}

#[test]
fn a_head_in_pieces_takes_time_linear_in_its_bytes() {
    let lines = [2, 3, 40, 1_000, 60_000].map(|len| format!("{}\r\n", "x".repeat(len - 2)));
    for line in &lines {
        let whole = line.repeat(65_000 / line.len());
        for piece in [1, 2, 7, 100, 5_000] {
            let looked_at = bytes_looked_at(whole.as_bytes(), piece);
            let most = 3 * whole.len() + SHORT_BYTES * SHORT_BYTES / 2;
            assert!(
                looked_at <= most,
                "{} bytes a line: {looked_at}",
                line.len()
            );
        }
    }
}

#[test]
fn the_end_of_a_long_head_is_found_wherever_it_is_split() {
    let head = format!(
        "\r\nGET / HTTP/1.1\r\nHost: a\r\nLong: {}\r\n\r\n",
        "x".repeat(900)
    );
    let limits = HeadLimits {
        head_bytes_max: 4_000,
        ..LIMITS
    };
    for fresh in 1..head.len() {
        assert!(is_worth_parsing(head.as_bytes(), fresh, limits), "{fresh}");
    }
    let bare = head.replace("\r\n", "\n");
    assert!(is_worth_parsing(bare.as_bytes(), 1, limits));
    assert!(!is_worth_parsing(
        &head.as_bytes()[..head.len() - 2],
        1,
        limits
    ));
}

#[test]
fn only_a_line_end_or_the_limit_is_worth_another_attempt() {
    assert!(is_worth_parsing(b"G", 1, LIMITS));
    assert!(!is_worth_parsing(b"GET /", 4, LIMITS));
    assert!(is_worth_parsing(b"GET / HTTP/1.1\r\n", 1, LIMITS));
    assert!(is_worth_parsing(&[b'a'; 1024], 1, LIMITS));
}

#[test]
fn methods_are_known_by_their_case_and_properties() {
    for (name, method, safe, idempotent) in [
        ("GET", Method::Get, true, true),
        ("HEAD", Method::Head, true, true),
        ("OPTIONS", Method::Options, true, true),
        ("TRACE", Method::Trace, true, true),
        ("PUT", Method::Put, false, true),
        ("DELETE", Method::Delete, false, true),
        ("POST", Method::Post, false, false),
        ("PATCH", Method::Patch, false, false),
        ("PURGE", Method::Other, false, false),
        ("get", Method::Other, false, false),
    ] {
        assert_eq!(Method::recognise(name.as_bytes()), method);
        assert_eq!(
            (method.is_safe(), method.is_idempotent()),
            (safe, idempotent),
            "{name}"
        );
    }
}

#[test]
fn a_response_is_taken_apart() {
    let bytes = b"HTTP/1.1 404 Nicht gef\xfcnden\r\nContent-Length: 3\r\n\r\nabc";
    let mut head = ResponseHead::default();
    let parsed = head.parse(bytes, Method::Get, LIMITS);
    assert_eq!(parsed, Ok(Parsed::Complete(bytes.len() - 3)));
    assert_eq!(head.facts.status, 404);
    assert_eq!(head.reason(bytes), b"Nicht gef\xfcnden");
    assert_eq!(head.facts.framing, Framing::Length(3));
    assert!(head.facts.reusable);
    for cut in 0..bytes.len() - 3 {
        assert_eq!(
            head.parse(&bytes[..cut], Method::Get, LIMITS),
            Ok(Parsed::Partial)
        );
    }
}

#[test]
fn a_reason_may_be_empty_or_left_out() {
    for bytes in [
        b"HTTP/1.1 200\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 \r\n\r\n",
        b"HTTP/1.1 200\r\nA: b\r\n\r\n",
    ] {
        let mut head = ResponseHead::default();
        head.parse(bytes, Method::Get, LIMITS).unwrap();
        assert_eq!(head.reason(bytes), b"", "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_framing_of_a_response_depends_on_status_and_request() {
    use Framing::{Chunked, Length, None, UntilClose};
    // Status line, fields, method, framing, whether the connection can be used again.
    let table = [
        ("HTTP/1.1 200 OK", "", Method::Get, UntilClose, false),
        (
            "HTTP/1.1 200 OK",
            "Content-Length: 4\r\n",
            Method::Get,
            Length(4),
            true,
        ),
        (
            "HTTP/1.1 200 OK",
            "Content-Length: 4, 4\r\n",
            Method::Get,
            Length(4),
            true,
        ),
        (
            "HTTP/1.1 200 OK",
            "Transfer-Encoding: chunked\r\n",
            Method::Get,
            Chunked,
            true,
        ),
        (
            "HTTP/1.1 200 OK",
            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
            Method::Get,
            Chunked,
            false,
        ),
        (
            "HTTP/1.1 200 OK",
            "Content-Length: 4\r\nConnection: close\r\n",
            Method::Get,
            Length(4),
            false,
        ),
        (
            "HTTP/1.0 200 OK",
            "Content-Length: 4\r\n",
            Method::Get,
            Length(4),
            false,
        ),
        (
            "HTTP/1.0 200 OK",
            "Content-Length: 4\r\nConnection: keep-alive\r\n",
            Method::Get,
            Length(4),
            true,
        ),
        (
            "HTTP/1.0 200 OK",
            "Connection: keep-alive\r\n",
            Method::Get,
            UntilClose,
            false,
        ),
        (
            "HTTP/1.1 200 OK",
            "Content-Length: 4\r\n",
            Method::Head,
            None,
            true,
        ),
        ("HTTP/1.1 200 OK", "", Method::Head, None, true),
        (
            "HTTP/1.1 200 OK",
            "Transfer-Encoding: chunked\r\n",
            Method::Head,
            None,
            true,
        ),
        (
            "HTTP/1.1 304 Not Modified",
            "Content-Length: 4\r\n",
            Method::Get,
            None,
            true,
        ),
        ("HTTP/1.1 204 No Content", "", Method::Get, None, true),
        (
            "HTTP/1.1 204 No Content",
            "Content-Length: 0\r\n",
            Method::Get,
            None,
            true,
        ),
        (
            "HTTP/1.1 204 No Content",
            "Content-Length: 4\r\n",
            Method::Get,
            None,
            false,
        ),
        (
            "HTTP/1.1 204 No Content",
            "Transfer-Encoding: chunked\r\n",
            Method::Get,
            None,
            false,
        ),
        ("HTTP/1.1 100 Continue", "", Method::Post, None, true),
        (
            "HTTP/1.1 103 Early Hints",
            "Link: </a>\r\n",
            Method::Get,
            None,
            true,
        ),
        (
            "HTTP/1.1 205 Reset Content",
            "",
            Method::Get,
            UntilClose,
            false,
        ),
        ("HTTP/1.1 500 ", "", Method::Options, UntilClose, false),
    ];
    for (line, fields, method, framing, reusable) in table {
        let bytes = format!("{line}\r\n{fields}\r\n");
        let facts = response(bytes.as_bytes(), method).unwrap();
        assert_eq!(
            (facts.framing, facts.reusable),
            (framing, reusable),
            "{bytes}"
        );
    }
}

#[test]
fn responses_that_break_a_rule_are_refused_with_its_reason() {
    use HeadError::{
        CodingInOldVersion, CodingInvalid, CodingUnknown, FieldName, FieldValue, LengthAndCoding,
        LengthConflict, LengthInvalid, StartLine, Status, TooLong, TooManyFields, Version,
    };
    let many = [
        b"HTTP/1.1 200 OK\n".as_slice(),
        &b"A : b\n".repeat(17),
        b"\n",
    ]
    .concat();
    let long = [b"HTTP/1.1 200 OK\nA: ".as_slice(), &[b'x'; 1024]].concat();
    let table: &[(&[u8], HeadError)] = &[
        (&many, TooManyFields),
        (&long, TooLong),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5 \r\n 0\r\n\r\n",
            LengthInvalid,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length : +5\r\n\r\n",
            LengthInvalid,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", LengthInvalid),
        (
            b"HTTP/1.1 200 OK\nContent-Length: 5\nContent-Length : 6\n\n",
            LengthConflict,
        ),
        (b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n", FieldName),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            CodingInvalid,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked, chunked\r\n\r\n",
            CodingInvalid,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\nA : b\r\n\r\n",
            CodingInvalid,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\nContent-Length: 5\r\n\r\n",
            LengthAndCoding,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n",
            LengthAndCoding,
        ),
        (b"SSH-2.0-x\r\n", StartLine),
        (b"HTTP/2.0 200 OK\r\n\r\n", Version),
        (b"HTTP/1.1 20 OK\r\n\r\n", Status),
        (b"HTTP/1.1 2000 OK\r\n\r\n", Status),
        (b"HTTP/1.1 099 OK\r\n\r\n", Status),
        (b"HTTP/1.1 2x0 OK\r\n\r\n", Status),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", Status),
        (b"HTTP/1.1 200 O\rK\r\n\r\n", Status),
        (b"HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", FieldValue),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            LengthInvalid,
        ),
        (
            b"HTTP/1.1 304 OK\r\nContent-Length: x\r\n\r\n",
            LengthInvalid,
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            LengthConflict,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            CodingInvalid,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            CodingUnknown,
        ),
        (
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            CodingInOldVersion,
        ),
    ];
    for (bytes, wanted) in table {
        let found = response(bytes, Method::Get);
        assert_eq!(found, Err(*wanted), "{}", bytes.escape_ascii());
    }
}

#[test]
fn responses_that_are_odd_in_one_way_are_taken_and_the_way_is_noted() {
    use Framing::{Chunked, Length, UntilClose};
    use Oddity::{
        BareLineFeed, EmptyLine, FoldedLine, IdentityCoding, RepeatedChunked, SpaceBeforeColon,
        StatusCode, StatusLine,
    };
    // Head, framing, whether the connection can be used again, what is noted.
    let table: &[(&str, Framing, bool, &[Oddity])] = &[
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            Length(5),
            true,
            &[],
        ),
        (
            "\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
            Length(5),
            true,
            &[EmptyLine],
        ),
        (
            "HTTP/1.1 200 OK\nContent-Length : 5\n\n",
            Length(5),
            true,
            &[BareLineFeed, SpaceBeforeColon],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
            Chunked,
            true,
            &[FoldedLine],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Chunked,
            false,
            &[RepeatedChunked],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, Chunked\r\n\r\n",
            Chunked,
            false,
            &[RepeatedChunked],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
            UntilClose,
            false,
            &[IdentityCoding],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n",
            UntilClose,
            false,
            &[IdentityCoding],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity, chunked\r\n\r\n",
            Chunked,
            false,
            &[IdentityCoding],
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            Chunked,
            false,
            &[Oddity::LengthAndCoding],
        ),
        (
            "HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n",
            Length(0),
            true,
            &[StatusCode],
        ),
        (
            "ICY 200 OK\r\nicy-name: x\r\n\r\n",
            UntilClose,
            false,
            &[StatusLine],
        ),
    ];
    for (bytes, framing, reusable, kinds) in table {
        let facts = response(bytes.as_bytes(), Method::Get).unwrap();
        let found = (facts.framing, facts.reusable, facts.oddities);
        assert_eq!(found, (*framing, *reusable, Oddities::of(kinds)), "{bytes}");
    }
}

#[test]
fn what_is_mended_in_a_response_is_refused_in_a_request() {
    let fields = [
        "X : a",
        "X\t: a",
        "Content-Length : 5",
        "Transfer-Encoding : chunked",
        "X: a\r\n b",
        "X:\r\n\tb",
        "Transfer-Encoding:\r\n chunked",
        "X: a\nY: b",
        "X: a\x01b",
        "X: a\x7fb",
        "X[]: a",
        "X@: a",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
    ];
    for field in fields {
        let bytes = format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n");
        let facts = response(bytes.as_bytes(), Method::Get).expect(field);
        assert_ne!(facts.oddities, Oddities::NONE, "{field}");
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n");
        assert!(request(bytes.as_bytes()).is_err(), "{field}");
    }
    for line in [
        "POST  / HTTP/1.1",
        "POST\t/\tHTTP/1.1",
        "POST / http/1.1",
        "POST / HTTP/1.2",
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        assert!(request(bytes.as_bytes()).is_err(), "{line}");
    }
}

#[test]
fn an_odd_head_lies_in_other_bytes_and_the_next_one_where_it_came() {
    let mut head = ResponseHead::default();
    let odd = b"HTTP/1.1  200 Fine\nX-A\t: b\n c\n\nbody";
    let parsed = head.parse(odd, Method::Get, LIMITS);
    assert_eq!(parsed, Ok(Parsed::Complete(odd.len() - 4)));
    let lies_in = head.readable(odd);
    assert_eq!(head.reason(lies_in), b"Fine");
    assert_eq!(head.fields.find(b"x-a", lies_in), Some(b"b c".as_slice()));
    for cut in 0..odd.len() - 4 {
        let parsed = head.parse(&odd[..cut], Method::Get, LIMITS);
        assert_eq!(parsed, Ok(Parsed::Partial), "after {cut} bytes");
        assert!(head.fields.iter().next().is_none());
    }
    let plain = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    head.parse(plain, Method::Get, LIMITS).unwrap();
    assert_eq!(head.readable(plain), plain);
    assert_eq!(head.facts.oddities, Oddities::NONE);
}

#[test]
fn interim_responses_are_followed_by_another() {
    for (status, interim) in [
        (100, true),
        (101, false),
        (103, true),
        (199, true),
        (200, false),
    ] {
        let facts = ResponseFacts {
            status,
            ..ResponseFacts::default()
        };
        assert_eq!(facts.is_interim(), interim, "{status}");
    }
}
