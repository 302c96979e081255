//! Large bodies in both directions, compared byte by byte.

use std::io::Write;
use std::thread;

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Origin, Peer, Weir, eventually};
use crate::web::response;
use crate::wire::Conn;

const LENGTH: usize = 24 * 1024 * 1024;
const CHUNK: usize = 10_007;

/// Answers what it was sent: takes a body of [`LENGTH`] that must be pattern 1, and sends one that
/// is pattern 2, with that framing.
fn origin(chunked: bool) -> Origin {
    Origin::new(move |peer| {
        let mut conn = Conn::new(peer.share());
        let head = conn.head().map_err(std::io::Error::other)?;
        if head.word(0) == "PUT" {
            receive(&mut conn, head.is_chunked());
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        } else {
            send(peer, "HTTP/1.1 200 OK\r\n", chunked);
        }
        Ok(())
    })
}

fn expected(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LENGTH];
    crate::harness::pattern::Pattern::new(seed).fill(&mut bytes);
    bytes
}

fn send(peer: &mut Peer, start: &str, chunked: bool) {
    let bytes = expected(1);
    if !chunked {
        peer.send(format!("{start}Content-Length: {LENGTH}\r\n\r\n"));
        return peer.send(bytes);
    }
    peer.send(format!("{start}Transfer-Encoding: chunked\r\n\r\n"));
    for part in bytes.chunks(CHUNK) {
        let mut chunk = format!("{:x};extension\r\n", part.len()).into_bytes();
        chunk.extend_from_slice(part);
        chunk.extend_from_slice(b"\r\n");
        peer.write_all(&chunk).expect("the bytes are taken");
    }
    peer.send("0\r\n\r\n");
}

/// Reads the body of pattern 1.
fn receive(conn: &mut Conn, chunked: bool) {
    let mut got = Vec::new();
    if chunked {
        loop {
            let size = conn.line().expect("a chunk size");
            let size = usize::from_str_radix(&size, 16).expect("a plain chunk size");
            got.extend_from_slice(&conn.exactly(size).expect("chunk data"));
            assert_eq!(conn.exactly(2).expect("a line end"), b"\r\n");
            if size == 0 {
                break;
            }
        }
    } else {
        got = conn.exactly(LENGTH).expect("the body");
    }
    assert!(got == expected(1), "the body is not what was sent");
}

#[test]
fn large_downloads_arrive_whole() {
    for chunked in [false, true] {
        let origin = origin(chunked);
        let weir = Weir::start(Config::pool([origin.address()]));
        let mut client = Client::new(&weir);
        client.send_get("/", "");
        let head = client.0.head().expect("a response");
        assert_eq!(head.is_chunked(), chunked);
        receive(&mut client.0, chunked);
    }
}

#[test]
fn large_uploads_arrive_whole() {
    for chunked in [false, true] {
        let origin = origin(false);
        let weir = Weir::start(Config::pool([origin.address()]));
        let mut peer = Peer::connect(weir.address_of("web")).expect("weir listens");
        send(&mut peer, "PUT / HTTP/1.1\r\nHost: a\r\n", chunked);
        assert_eq!(Client(Conn::new(peer)).receive().text(), "ok");
    }
}

#[test]
fn a_body_flows_up_and_down_at_once() {
    const PART: usize = 4 * 1024 * 1024;
    // The answer begins with the head of the request, and echoes the body as it comes.
    let origin = Origin::new(|peer| {
        let mut conn = Conn::new(peer.share());
        conn.head().map_err(std::io::Error::other)?;
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {PART}\r\n\r\n"));
        let mut left = PART;
        while left > 0 {
            let part = left.min(64 * 1024);
            let bytes = conn.exactly(part).map_err(std::io::Error::other)?;
            conn.send(bytes);
            left -= part;
        }
        Ok(())
    });
    let weir = Weir::start(Config::pool([origin.address()]));
    let peer = Peer::connect(weir.address_of("web")).expect("weir listens");
    let (mut up, mut down) = (peer.share(), Client(Conn::new(peer)));
    up.send(format!(
        "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {PART}\r\n\r\n"
    ));
    thread::scope(|scope| {
        scope.spawn(|| up.send_pattern(3, PART));
        let answer = down.receive();
        let mut pattern = vec![0; PART];
        crate::harness::pattern::Pattern::new(3).fill(&mut pattern);
        assert!(
            answer.body.payload == pattern,
            "the echo is not what was sent"
        );
    });
}

#[test]
fn a_client_that_does_not_read_holds_only_its_own_response_up() {
    let origin = origin(false);
    let weir =
        Weir::start(Config::pool([origin.address()]).top("buffers: {size: 64KiB, memory: 1MiB}"));
    let mut stalled = Client::new(&weir);
    stalled.send_get("/", "");
    let mut client = Client::new(&weir);
    client.send_get("/", "");
    assert!(client.0.head().is_ok());
    receive(&mut client.0, false);
    assert!(stalled.0.head().is_ok());
    receive(&mut stalled.0, false);
}

#[test]
fn what_follows_a_last_request_does_not_destroy_its_answer() {
    const LENGTH: usize = 2_000_000;
    let origin = Origin::new(|peer| {
        let mut conn = Conn::new(peer.share());
        conn.message().map_err(std::io::Error::other)?;
        conn.send(response("200 OK", "", &"x".repeat(LENGTH)));
        Ok(())
    });
    let weir = Weir::start(Config::pool([origin.address()]));
    let mut client = Client::new(&weir);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\n");
    eventually("the request is under way", || {
        (origin.accepted() > 0).then_some(())
    });
    client.send("hello\r\n");
    assert_eq!(client.receive().body.payload.len(), LENGTH);
    client.expect_end();
}
