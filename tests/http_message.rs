//! Properties of messages drawn from pieces of good and bad ones: most are nearly right, which
//! is where readers disagree.

#[path = "fuzz/checks.rs"]
mod checks;

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

const REQUEST_LINES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b=c HTTP/1.1\r\n",
    "GET http://b:80/c HTTP/1.1\r\n",
    "GET http://b?d HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "HEAD / HTTP/1.0\r\n",
    "\r\nPUT / HTTP/1.1\r\n",
    "GET /a b HTTP/1.1\r\n",
    "GET /\u{e9}?\u{e9} HTTP/1.1\r\n",
    "GET http://\u{e9}/ HTTP/1.1\r\n",
    "GET / HTTP/1.1\n",
];

const STATUS_LINES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 200\r\n",
    "HTTP/1.1 204 No Content\r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "HTTP/1.1 100 Continue\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n",
    "HTTP/1.1 426 Upgrade Required\r\n",
    "HTTP/1.1 503 \r\n",
    "HTTP/1.1 99 X\r\n",
    "HTTP/1.1 \t200\tOK\n",
    "\r\n\nhttp/1.3 206 A\x1bB\r\n",
    "ICY 200 OK\r\n",
    "HTTP/1.1 700 X\r\n",
];

const FIELDS: &[&str] = &[
    "Host: a\r\n",
    "host:b:8080\r\n",
    "Content-Length: 5\r\n",
    "content-length: 5, 5\r\n",
    "Content-Length: 05\r\n",
    "Content-Length: 6\r\n",
    "Content_Length: 6\r\n",
    "Transfer-Encoding: chunked\r\n",
    "transfer-encoding:\tChunked \r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer_Encoding: chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, x-one\r\n",
    "Connection: upgrade, TE, host\r\n",
    "Connection: content-length, transfer-encoding\r\n",
    "Upgrade: websocket\r\n",
    "Upgrade: h2c\r\n",
    "HTTP2-Settings: AA\r\n",
    "TE: trailers, deflate\r\n",
    "Trailer: X-Sum\r\n",
    "Expect: 100-continue\r\n",
    "Max-Forwards: 3\r\n",
    "Keep-Alive: timeout=5\r\n",
    "Proxy-Connection: keep-alive\r\n",
    "X-One:   padded \t\r\n",
    "X-Four: padded \r\n",
    "X-Five:\ttab\r\n",
    "X-Two: plain\r\n",
    "X-Three:\r\n",
    "X_Forwarded_For: 1.2.3.4\r\n",
    "X-Forwarded-Prefix: /a\r\n",
    "Proxy: a\r\n",
    "Date: then\r\n",
    "X-High: \u{e4}\r\n",
    " folded\r\n",
    "\tfolded\n",
    " \r\n",
    "X-Bare: a\n",
    "X-Space : a\r\n",
    "X-Control: \x01a:\x02\r\n",
    "X[odd]: a\r\n",
    "X odd: a\r\n",
    "Content-Length\t:5\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "X-Nul: \0\r\n",
    "X-Return: a\rb\r\n",
];

const CHUNKS: &[&str] = &[
    "1\r\na\r\n",
    "5\r\nhello\r\n",
    "0A\r\n0123456789\r\n",
    "2;x=\"y;\"\r\n\r\n\r\n",
    "1 \t; z\r\nb\r\n",
    "0\r\n\r\n",
    "0;last\r\n",
    "000\r\n",
    "X-Sum: 1\r\n",
    "Content-Length: 5\r\n",
    "Host : x\r\n",
    "\r\n",
    "1\nb\r\n",
    "1\r\nb\n",
    "1 \t\r\nb\r\n",
    "0000000000000000000002 \nbb\n",
    "1;a\nb\r\n",
    "1;\x01\r\nb\r\n",
    "0 \r\n",
    "0\n\n",
    " folded\r\n",
    "X[odd]: 1\n",
    "g\r\n",
    "8000000000000000\r\n",
    "rest",
];

/// Bytes that a failure shows as text.
#[derive(Clone)]
struct Input(Vec<u8>);

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A first line, some lines after it and an end, with perhaps one byte put anywhere.
fn head(starts: &'static [&str]) -> impl Strategy<Value = Input> {
    let lines = vec(select(FIELDS), 0..7);
    let noise = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (select(starts), lines, any::<bool>(), noise).prop_map(|(start, lines, host, noise)| {
        let host = if host { "Host: c\r\n" } else { "" };
        let text = format!("{start}{host}{}\r\nrest", lines.concat());
        Input(disturb(text.into_bytes(), noise))
    })
}

fn body() -> impl Strategy<Value = Input> {
    let noise = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (any::<u8>(), vec(select(CHUNKS), 0..10), noise).prop_map(|(seed, chunks, noise)| {
        let mut bytes = std::vec![seed];
        bytes.extend(disturb(chunks.concat().into_bytes(), noise));
        Input(bytes)
    })
}

fn disturb(mut bytes: Vec<u8>, noise: Option<(prop::sample::Index, u8)>) -> Vec<u8> {
    if let (Some((at, byte)), false) = (noise, bytes.is_empty()) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
    }
    bytes
}

/// So many cases, without files that remember failures.
fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn a_request_means_the_same_on_both_sides_of_weir(bytes in head(REQUEST_LINES)) {
        checks::head_request(&bytes.0);
    }

    #[test]
    fn a_response_means_the_same_on_both_sides_of_weir(bytes in head(STATUS_LINES)) {
        checks::head_response(&bytes.0);
    }

    #[test]
    fn a_chunked_body_means_the_same_on_both_sides_of_weir(bytes in body()) {
        checks::chunked(&bytes.0);
    }

    #[test]
    fn no_bytes_at_all_do_harm(bytes in vec(any::<u8>(), 0..300)) {
        checks::head_request(&bytes);
        checks::head_response(&bytes);
        checks::chunked(&bytes);
    }
}
