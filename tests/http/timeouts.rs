//! Times that run out. Each is short here; what is claimed is only that it
//! ends, and how.

use crate::client::{Client, fetch};
use crate::config::Config;
use crate::harness::{Blackhole, End, Origin, Weir};
use crate::web::Web;
use std::io::Read;
use std::time::Duration;

/// Reads and never answers.
fn silent() -> Origin {
    Origin::new(|peer| std::io::copy(&mut peer.by_ref(), &mut std::io::sink()).map(drop))
}

#[test]
fn a_backend_that_is_silent_is_504() {
    let origin = silent();
    let config = Config::pool([origin.address()]).with("timeouts: {response: 200ms}");
    let weir = Weir::start(config);
    assert_eq!(Client::new(&weir).get("/").status(), 504);
}

#[test]
fn a_response_head_that_drips_is_504_although_it_moves() {
    let origin = Origin::new(|peer| {
        let mut conn = crate::wire::Conn::new(peer.share());
        let _ = conn.head();
        conn.send("HTTP/1.1 200 OK\r\n");
        // Each field comes in time by itself; all of them together do not.
        while conn.send("X: 1\r\n") {
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    let config = Config::pool([origin.address()]).with("timeouts: {response: 500ms}");
    let weir = Weir::start(config);
    assert_eq!(Client::new(&weir).get("/").status(), 504);
}

#[test]
fn an_interim_response_gives_the_backend_its_time_anew() {
    let origin = Origin::new(|peer| {
        let mut conn = crate::wire::Conn::new(peer.share());
        let _ = conn.head();
        for _ in 0..15 {
            conn.send("HTTP/1.1 102 Processing\r\n\r\n");
            std::thread::sleep(Duration::from_millis(100));
        }
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        Ok(())
    });
    let config = Config::pool([origin.address()]).with("timeouts: {response: 1s}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    client.send_get("/", "");
    for _ in 0..15 {
        assert_eq!(client.0.head().expect("an interim response").status(), 102);
    }
    assert_eq!(client.receive().status(), 200);
}

#[test]
fn a_backend_that_does_not_answer_a_connect_is_504() {
    let hole = Blackhole::new();
    let config = Config::pool([hole.address()]).with("timeouts: {connect: 200ms}");
    let weir = Weir::start(config);
    assert_eq!(Client::new(&weir).get("/").status(), 504);
}

#[test]
fn a_connect_that_times_out_goes_to_another_backend() {
    let (hole, live) = (Blackhole::new(), Web::named("live"));
    let config = Config::pool([hole.address(), live.address()]).with("timeouts: {connect: 200ms}");
    let weir = Weir::start(config);
    for _ in 0..2 {
        assert_eq!(fetch(&weir, "/"), "live");
    }
}

#[test]
fn a_head_that_drips_is_408_although_it_moves() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]).listener("timeouts: {header: 500ms}"));
    let mut client = Client::new(&weir);
    client.send("GET / HTTP/1.1\r\nHost: a\r\n");
    // Each line comes in time by itself; all of them together do not.
    loop {
        client.0.send("X: 1\r\n");
        if client.0.has_bytes_within(Duration::from_millis(50)) {
            break;
        }
    }
    assert_eq!(client.receive().status(), 408);
    assert_eq!(web.count(), 0);
}

#[test]
fn a_client_without_a_request_is_closed_without_a_byte() {
    let web = Web::named("a");
    let config =
        Config::pool([web.address()]).listener("timeouts: {header: 300ms, keep_alive: 300ms}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    client.expect_end();
    let mut client = Client::new(&weir);
    assert_eq!(client.get("/").text(), "a");
    client.expect_end();
}

#[test]
fn a_tunnel_that_stands_still_is_ended() {
    let origin = Origin::new(|peer| {
        let mut head = crate::wire::Conn::new(peer.share());
        let _ = head.head();
        head.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
        std::io::copy(&mut peer.by_ref(), &mut std::io::sink()).map(drop)
    });
    let config = Config::pool([origin.address()]).with("timeouts: {tunnel: 300ms}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    client.send_get("/", "Connection: upgrade\r\nUpgrade: x\r\n");
    assert_eq!(client.receive().status(), 101);
    let (bytes, end) = client.end();
    assert!(bytes.is_empty());
    assert!(matches!(end, End::Clean | End::Reset));
}

/// Answers with this head and beginning of a body, and then sends nothing more.
fn stalling(beginning: &'static str) -> Origin {
    Origin::new(move |peer| {
        let mut conn = crate::wire::Conn::new(peer.share());
        let _ = conn.head();
        conn.send(beginning);
        std::io::copy(&mut peer.by_ref(), &mut std::io::sink()).map(drop)
    })
}

#[test]
fn a_client_that_sends_no_more_of_its_body_is_408() {
    let origin = silent();
    let config = Config::pool([origin.address()]).with("timeouts: {upload: 200ms}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\npart");
    assert_eq!(client.receive().status(), 408);
    client.expect_end();
}

#[test]
fn a_backend_that_sends_no_more_of_its_response_ends_it() {
    let origin = stalling("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
    let config = Config::pool([origin.address()]).with("timeouts: {response_idle: 200ms}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    client.send_get("/", "");
    assert_eq!(client.0.head().expect("a head").status(), 200);
    assert_eq!(client.end().0, b"part");
}
