//! PROXY headers in and out, as scripted proxies and servers send and see them.

use std::io::Read as _;
use std::time::Duration;

use crate::harness::{Config, Gate, Peer, Scratch, Weir};

const FROM: &str = "proxy_protocol: {from: [127.0.0.0/8]}";
const LINE: &str = "PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\n";
/// Version 2, LOCAL.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// What version 2 tells of the same, in front of other bytes.
fn binary(command_and_family: [u8; 2], block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a short block");
    let fixed = [&LOCAL[..12], &command_and_family, &length.to_be_bytes()].concat();
    [&fixed, block].concat()
}

fn weir(gate: &Gate) -> Weir {
    Weir::start(Config::new().listener(FROM).backend(gate.name()))
}

#[test]
fn a_header_comes_in_pieces_and_what_follows_it_arrives() {
    let gate = Gate::new();
    let weir = weir(&gate);
    let block = [192, 0, 2, 1, 198, 51, 100, 2, 0xc3, 0x50, 1, 0xbb];
    for header in [LINE.into(), binary([0x21, 0x11], &block), LOCAL.to_vec()] {
        let mut client = weir.connect();
        for byte in &header {
            client.send([*byte]);
        }
        let mut backend = gate.accept();
        client.send("words");
        backend.expect("words");
        let mut client = weir.connect();
        client.send([&header, &b"words"[..]].concat());
        gate.accept().expect("words");
    }
}

#[test]
fn what_is_no_header_ends_the_connection_and_is_told() {
    let gate = Gate::new();
    let weir = weir(&gate);
    for (says, told) in [
        (&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..], "no PROXY header"),
        (b"PROXY TCP4 192.0.2.01 1.2.3.4 1 2\r\n", "bad address"),
        (b"PROXY TCP4 192.0.2.1 1.2.3.4 1 65536\r\n", "bad port"),
        (&binary([0x22, 0x11], &[0; 12]), "unknown command"),
        (&binary([0x20, 0], &[3, 0, 4, 1, 2, 3, 4]), "wrong checksum"),
    ] {
        let mark = weir.log.mark();
        let mut client = weir.connect();
        client.send(says);
        client.end();
        weir.log.wait_since(mark, &["session of", told]);
    }
    weir.log
        .wait(&["WARN", "listener front", "closed: no PROXY header"]);
}

#[test]
fn who_is_not_named_is_closed_whatever_it_says() {
    let gate = Gate::new();
    let from = "proxy_protocol: {from: [127.0.0.2]}";
    let weir = Weir::start(Config::new().listener(from).backend(gate.name()));
    let mut stranger = weir.connect();
    // It may be closed before that.
    let _ = std::io::Write::write_all(&mut stranger, LINE.as_bytes());
    stranger.end();
    weir.log
        .wait(&["127.0.0.1", "closed: not among those of `proxy_protocol`"]);
    let proxy = "127.0.0.2".parse().expect("an address");
    let mut proxy = Peer::connect_from(proxy, weir.address()).expect("it listens");
    proxy.send(format!("{LINE}words"));
    gate.accept().expect("words");
}

#[test]
fn a_check_of_a_proxy_in_front_is_no_error() {
    let gate = Gate::new();
    let weir = weir(&gate);
    for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
        let mark = weir.log.mark();
        let mut check = weir.connect();
        check.send(header);
        check.reset();
        weir.log.wait_since(mark, &["session of", "ended: done"]);
    }
    assert_eq!(weir.log.count(&["closed:"]), 0);
}

#[test]
fn a_listener_on_a_unix_socket_takes_them_too() {
    let scratch = Scratch::new();
    let path = scratch.file("socket");
    let gate = Gate::new();
    let config = Config::on(&format!("unix:{}", path.display()))
        .listener("proxy_protocol: {from: [unix]}")
        .upstream("send_proxy: v1")
        .backend(gate.name());
    let _weir = Weir::start(config);
    let mut client = Peer::connect_unix(&path).expect("weir listens");
    client.send(format!("{LINE}words"));
    gate.accept().expect(format!("{LINE}words"));
    let mut client = Peer::connect_unix(&path).expect("weir listens");
    client.send([LOCAL, b"words"].concat());
    gate.accept().expect("PROXY UNKNOWN\r\nwords");
}

#[test]
fn a_backend_is_told_the_client_though_that_is_silent() {
    let gate = Gate::new();
    let config = Config::new()
        .upstream("send_proxy: v1")
        .backend(gate.name());
    let weir = Weir::start(config);
    let client = weir.connect();
    let source = client.socket().local_addr().expect("an address");
    let port = source.as_socket().expect("an IP address").port();
    let mut backend = gate.accept();
    let line = format!(
        "PROXY TCP4 127.0.0.1 127.0.0.1 {port} {}\r\n",
        weir.address().port()
    );
    backend.expect(&line);
    backend.send("220 ready");
    let mut client = client;
    client.expect("220 ready");
    client.send_pattern(1, 300_000);
    client.finish();
    backend.expect_pattern(1, 300_000);
    backend.expect_end();
}

#[test]
fn a_check_says_that_it_is_weirs_own_and_ends_without_a_reset() {
    for version in ["v1", "v2"] {
        let gate = Gate::new();
        let config = Config::new()
            .upstream(&format!("send_proxy: {version}"))
            .checked("rise: 1, fall: 1")
            .backend(gate.name());
        let _weir = Weir::start(config);
        let mut check = gate.accept();
        // One that speaks first, as a mail server does.
        check.send("220 ready\r\n");
        let mut said = Vec::new();
        check.read_to_end(&mut said).expect("a clean end");
        if version == "v2" {
            assert_eq!(said, LOCAL);
        } else {
            let said = String::from_utf8(said).expect("a line");
            assert!(
                said.starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "),
                "{said}"
            );
            assert!(
                said.ends_with(&format!(" {}\r\n", gate.address().port())),
                "{said}"
            );
        }
        check.finish();
        crate::harness::observe(Duration::from_millis(20));
    }
}
