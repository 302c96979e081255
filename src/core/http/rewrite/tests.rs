//! Outgoing heads as text, and what they are read as.

use super::*;
use crate::core::http::claims::Claims;
use crate::core::http::head::{HeadLimits, Method, Parsed};

const LIMITS: HeadLimits = HeadLimits {
    head_bytes_max: 4096,
    fields_max: 32,
};
const NOW: &[u8; 29] = b"Sun, 06 Nov 1994 08:49:37 GMT";

fn request(bytes: &str, rewrite: &RequestRewrite<'_>) -> String {
    let mut head = RequestHead::default();
    let parsed = head.parse(bytes.as_bytes(), LIMITS).unwrap();
    assert_eq!(parsed, Parsed::Complete(bytes.len()));
    let mut out = Vec::new();
    write_request(&head, bytes.as_bytes(), rewrite, &mut out);
    out.extend_from_slice(END);
    let mut again = RequestHead::default();
    assert_eq!(again.parse(&out, LIMITS), Ok(Parsed::Complete(out.len())));
    assert_eq!(again.facts.framing, head.facts.framing);
    assert_eq!(again.facts.method, head.facts.method);
    assert_eq!(again.facts.upgrade, head.facts.upgrade);
    String::from_utf8(out).unwrap()
}

fn plain(edits: &FieldEdits) -> RequestRewrite<'_> {
    RequestRewrite {
        target: None,
        host_default: b"backend:1",
        drop: KnownSet::NONE,
        drop_by_name: None,
        edits,
        close: false,
    }
}

fn response(bytes: &str, method: Method, client: Version, keep_alive: bool) -> (String, Reframing) {
    response_edited(bytes, method, client, keep_alive, &FieldEdits::none())
}

fn response_edited(
    bytes: &str,
    method: Method,
    client: Version,
    keep_alive: bool,
    edits: &FieldEdits,
) -> (String, Reframing) {
    let mut head = ResponseHead::default();
    let parsed = head.parse(bytes.as_bytes(), method, LIMITS).unwrap();
    assert_eq!(parsed, Parsed::Complete(bytes.len()));
    let rewrite = ResponseRewrite {
        client,
        keep_alive,
        drop: KnownSet::NONE,
        edits,
        date: NOW,
    };
    let mut out = Vec::new();
    let reframing = write_response(&head, bytes.as_bytes(), &rewrite, &mut out);
    out.extend_from_slice(END);
    let mut again = ResponseHead::default();
    let parsed = again.parse(&out, method, LIMITS);
    assert_eq!(parsed, Ok(Parsed::Complete(out.len())));
    assert_eq!(again.facts.status, head.facts.status);
    (String::from_utf8(out).unwrap(), reframing)
}

#[test]
fn requests_go_out_in_one_form() {
    // Received; sent.
    let table = [
        (
            "GET /a?b HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-TWO: 2\r\n\r\n",
            "GET /a?b HTTP/1.1\r\nHost: a\r\nX-One: 1\r\nx-TWO: 2\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nhost:a\r\nX:   b\t\r\nY: c\r\nZ:\r\n\
             T:\tc\r\nU: d \r\nV: e\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\nX: b\r\nY: c\r\nZ: \r\n\
             T: c\r\nU: d\r\nV: e\r\n\r\n",
        ),
        (
            "GET / HTTP/1.0\r\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: backend:1\r\nA: b\r\n\r\n",
        ),
        (
            "GET http://B:8/c HTTP/1.1\r\nX: 1\r\nHost: a\r\n\r\n",
            "GET /c HTTP/1.1\r\nHost: B:8\r\nX: 1\r\n\r\n",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nA: 1\r\nConnection: keep-alive, x\r\nHost: a\r\nX: 2\r\nB: 3\r\n\
             Keep-Alive: 5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\
             Content_Length: 9\r\nTransfer.Encoding: x\r\nC: 4\r\n\r\n",
            "GET / HTTP/1.1\r\nA: 1\r\nHost: a\r\nB: 3\r\nC: 4\r\n\r\n",
        ),
        (
            "PUT / HTTP/1.1\r\nContent-Length: 5\r\nHost: a\r\nContent-Length: 5\r\nB: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nContent-Length: 5\r\nHost: a\r\nB: 1\r\n\r\n",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\nB: 1\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nB: 1\r\nContent-Length: 5\r\n\r\n",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\ncontent-length: 5\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\ncontent-length: 5\r\n\r\n",
        ),
        (
            "PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: CHUNKED\r\nTrailer: x\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, x\r\nX: 1\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Version: 13\r\nConnection: upgrade\r\n\
             Upgrade: websocket\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip;q=1, trailers\r\nConnection: TE\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nTE: gzip\r\nConnection: TE\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        (
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 10\r\nB: 1\r\n\r\n",
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nB: 1\r\nMax-Forwards: 9\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nMax-Forwards: 10\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nMax-Forwards: 10\r\nHost: a\r\n\r\n",
        ),
        (
            "PUT / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
            "PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
    ];
    for (received, sent) in table {
        assert_eq!(request(received, &plain(&FieldEdits::none())), sent);
    }
}

#[test]
fn the_caller_replaces_target_fields_and_connection() {
    let edits = FieldEdits::none();
    let rewrite = RequestRewrite {
        target: Some(Canonical {
            path: b"/canonical",
            query: Some(b"q"),
        }),
        drop: KnownSet::of(&[Known::XForwardedFor, Known::Cookie]),
        close: true,
        ..plain(&edits)
    };
    let sent = request(
        "GET /x/../canonical?q HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: b\r\nCookie: c\r\nD: e\r\n\r\n",
        &rewrite,
    );
    assert_eq!(
        sent,
        "GET /canonical?q HTTP/1.1\r\nHost: a\r\nD: e\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn what_a_client_may_not_send_does_not_go_out() {
    let (edits, mut claims) = (FieldEdits::none(), Claims::default());
    let received = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Ssl: on\r\nA: 1\r\n\
                    X_Forwarded_Ssl: on\r\nX-Tenant: b\r\nx_tenant: c\r\nProxy: d\r\n\r\n";
    let sent = |claims: &Claims, is_trusted| {
        let rewrite = RequestRewrite {
            drop: claims.known(is_trusted),
            drop_by_name: claims.by_name(is_trusted),
            ..plain(&edits)
        };
        let sent = request(received, &rewrite);
        let sent = sent.strip_prefix("GET / HTTP/1.1\r\nHost: a\r\n");
        sent.unwrap_or_default().replace("\r\n", " ")
    };
    assert_eq!(sent(&claims, false), "A: 1 X-Tenant: b x_tenant: c  ");
    assert_eq!(
        sent(&claims, true),
        "X-Forwarded-Ssl: on A: 1 X-Tenant: b x_tenant: c  "
    );
    claims.drop(b"X-Tenant").unwrap();
    claims.keep(b"X-Forwarded-Ssl").unwrap();
    assert_eq!(
        sent(&claims, false),
        "X-Forwarded-Ssl: on A: 1 X_Forwarded_Ssl: on  "
    );
    assert_eq!(
        sent(&claims, true),
        "X-Forwarded-Ssl: on A: 1 X_Forwarded_Ssl: on X-Tenant: b  "
    );
}

#[test]
fn edits_of_a_route_mean_every_spelling() {
    let mut edits = FieldEdits::none();
    edits.set(b"X-Tenant", b"own").unwrap();
    edits.set(b"User-Agent", b"own").unwrap();
    edits.remove(b"X-Forwarded-Ssl").unwrap();
    let sent = request(
        "GET / HTTP/1.1\r\nHost: a\r\nx_tenant: b\r\nUser_Agent: c\r\nX_Forwarded_Ssl: d\r\n\
         X-Forwarded-Prefix: e\r\n\r\n",
        &plain(&edits),
    );
    assert_eq!(
        sent,
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Prefix: e\r\nX-Tenant: own\r\n\
         User-Agent: own\r\n\r\n"
    );
}

#[test]
fn edits_of_a_route_remove_set_and_add() {
    let mut edits = FieldEdits::none();
    edits.remove(b"x-secret").unwrap();
    edits.remove(b"Cookie").unwrap();
    edits.set(b"X-Env", b"prod").unwrap();
    edits.set(b"Host", b"inner").unwrap();
    edits.add(b"X-Tag", b"1").unwrap();
    let sent = request(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Secret: s\r\nx-env: dev\r\nCookie: c\r\nX-Tag: 0\r\n\r\n",
        &plain(&edits),
    );
    assert_eq!(
        sent,
        "GET / HTTP/1.1\r\nX-Tag: 0\r\nX-Env: prod\r\nHost: inner\r\nX-Tag: 1\r\n\r\n"
    );
}

#[test]
fn edits_that_would_break_a_message_are_refused() {
    let mut edits = FieldEdits::none();
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Connection",
        "Upgrade",
        "TE",
    ] {
        assert_eq!(
            edits.set(name.as_bytes(), b"1"),
            Err(EditError::Reserved),
            "{name}"
        );
        assert_eq!(
            edits.remove(name.as_bytes()),
            Err(EditError::Reserved),
            "{name}"
        );
    }
    assert_eq!(edits.remove(b"Host"), Err(EditError::Reserved));
    assert_eq!(edits.add(b"a b", b"1"), Err(EditError::Name));
    assert_eq!(edits.add(b"", b"1"), Err(EditError::Name));
    assert_eq!(edits.add(b"a", b"1\r\nb: 2"), Err(EditError::Value));
    edits.add(b"Host", b"a").unwrap();
    assert_eq!(edits.add(b"Host", b"b"), Err(EditError::Reserved));
}

#[test]
fn responses_go_out_in_one_form() {
    use Version::{Http10, Http11};
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    // Received, method, client version, kept, sent without Date, how the body goes.
    let table = [
        (
            "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 3\r\nKeep-Alive: 5\r\n\r\n",
            Method::Get,
            Http11,
            true,
            "HTTP/1.1 200 OK\r\nServer: s\r\nContent-Length: 3\r\n",
            Reframing::Plain,
        ),
        (
            "HTTP/1.0 404 No\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
            Method::Get,
            Http11,
            true,
            "HTTP/1.1 404 No\r\nContent-Length: 3\r\n",
            Reframing::Plain,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
            Method::Get,
            Http11,
            false,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n",
            Reframing::Plain,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
            Method::Get,
            Http10,
            true,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n",
            Reframing::Plain,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
            Method::Get,
            Http11,
            true,
            "HTTP/1.1 200 OK\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n",
            Reframing::Chunked,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\n\r\n",
            Method::Get,
            Http10,
            true,
            "HTTP/1.1 200 OK\r\nConnection: close\r\n",
            Reframing::Unchunk,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n",
            Method::Get,
            Http11,
            true,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n",
            Reframing::Chunked,
        ),
        (
            "HTTP/1.0 200 OK\r\nA: b\r\n\r\n",
            Method::Get,
            Http11,
            true,
            "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n",
            Reframing::Enchunk,
        ),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\n\r\n",
            Method::Get,
            Http10,
            true,
            "HTTP/1.1 200 OK\r\nA: b\r\nConnection: close\r\n",
            Reframing::Plain,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
            Method::Head,
            Http11,
            true,
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
            Reframing::None,
        ),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            Method::Get,
            Http11,
            true,
            "HTTP/1.1 204 No Content\r\n",
            Reframing::None,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\nETag: e\r\n\r\n",
            Method::Get,
            Http11,
            true,
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\nETag: e\r\n",
            Reframing::None,
        ),
        (
            "HTTP/1.1 426 Up\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 0\r\n\r\n",
            Method::Get,
            Http11,
            true,
            "HTTP/1.1 426 Up\r\nContent-Length: 0\r\nConnection: upgrade\r\nUpgrade: x\r\n",
            Reframing::Plain,
        ),
        (
            "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\nA: b\r\n\r\n",
            Method::Get,
            Http11,
            false,
            "HTTP/1.1 101 Go\r\nA: b\r\nConnection: upgrade\r\nUpgrade: websocket\r\n",
            Reframing::None,
        ),
    ];
    for (received, method, client, keep_alive, sent, reframing) in table {
        let found = response(received, method, client, keep_alive);
        assert_eq!(found, (format!("{sent}{date}\r\n"), reframing));
    }
}

#[test]
fn interim_responses_carry_nothing_of_the_connection() {
    let received = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\n\r\n";
    let mut edits = FieldEdits::none();
    edits.add(b"X", b"1").unwrap();
    let (sent, reframing) = response_edited(received, Method::Get, Version::Http11, false, &edits);
    assert_eq!(sent, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert_eq!(reframing, Reframing::None);
}

#[test]
fn a_date_is_there_exactly_once() {
    let own = "HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 0\r\n\r\n";
    let mut set = FieldEdits::none();
    set.set(b"Date", b"set").unwrap();
    let mut removed = FieldEdits::none();
    removed.remove(b"Date").unwrap();
    for (edits, wanted) in [
        (FieldEdits::none(), "date: then\r\n"),
        (set, "Date: set\r\n"),
        (removed, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
    ] {
        let (sent, _) = response_edited(own, Method::Get, Version::Http11, true, &edits);
        assert!(sent.contains(wanted), "{sent}");
        assert_eq!(sent.to_ascii_lowercase().matches("date:").count(), 1);
    }
}
