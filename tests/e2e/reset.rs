//! A reset stays a reset: it never turns into a clean end, which would pass for a whole message.

use std::io::Read;
use std::thread;

use crate::harness::{Config, End, Gate, Peer, Weir};

const WAYS: [&str; 2] = ["splice: false", "splice: true"];

/// Runs a script over a fresh connection, once for each way of moving bytes.
fn each_way(script: impl Fn(Peer, Peer)) {
    for way in WAYS {
        let gate = Gate::new();
        let mut weir = Weir::start(Config::new().top(way).backend(gate.name()));
        let client = weir.connect();
        let backend = gate.accept();
        script(client, backend);
        assert!(weir.runs());
    }
}

#[test]
fn a_reset_by_the_backend_reaches_the_client_as_a_reset() {
    each_way(|mut client, mut backend| {
        client.send("request");
        backend.expect("request");
        backend.send("half of the respon");
        client.expect("half of the respon");
        backend.reset();
        client.expect_reset();
    });
}

#[test]
fn a_reset_by_the_client_reaches_the_backend_as_a_reset() {
    each_way(|mut client, mut backend| {
        client.send("half of the requ");
        backend.expect("half of the requ");
        client.reset();
        backend.expect_reset();
    });
}

#[test]
fn a_reset_by_the_backend_in_a_running_stream_never_looks_like_its_end() {
    each_way(|mut client, mut backend| {
        let sender = thread::spawn(move || {
            backend.send_pattern(1, 8 * 1024 * 1024);
            backend.reset();
        });
        let (_, end) = client.end();
        sender.join().expect("all of it was sent");
        assert_eq!(end, End::Reset);
    });
}

#[test]
fn a_reset_by_the_client_in_a_running_stream_never_looks_like_its_end() {
    each_way(|mut client, mut backend| {
        let sender = thread::spawn(move || {
            client.send_pattern(1, 8 * 1024 * 1024);
            client.reset();
        });
        let (_, end) = backend.end();
        sender.join().expect("all of it was sent");
        assert_eq!(end, End::Reset);
    });
}

#[test]
fn a_reset_after_the_backend_got_the_clients_end_reaches_the_client() {
    each_way(|mut client, mut backend| {
        client.send("request");
        client.finish();
        backend.expect("request");
        backend.expect_end();
        backend.send("half");
        client.expect("half");
        backend.reset();
        client.expect_reset();
    });
}

#[test]
fn a_reset_after_the_client_got_the_backends_end_reaches_the_backend() {
    each_way(|mut client, mut backend| {
        backend.send("greeting");
        backend.finish();
        client.expect("greeting");
        client.expect_end();
        client.send("half");
        backend.expect("half");
        client.reset();
        backend.expect_reset();
    });
}

#[test]
fn a_client_that_resets_before_it_is_accepted_harms_nobody() {
    let gate = Gate::new();
    let mut weir = Weir::start(Config::new().backend(gate.name()));
    weir.freeze();
    for _ in 0..10 {
        weir.connect().reset();
    }
    let mut client = weir.connect();
    client.send("still here");
    weir.thaw();
    // weir may have opened a connection for some of the others before it met their reset; those
    // say nothing, and end.
    let served = (0..11).any(|_| {
        let mut first = [0];
        matches!(gate.accept().read(&mut first), Ok(1))
    });
    assert!(served);
    assert!(weir.runs());
}
