//! Runs the fuzz checks over their corpora, as plain tests: what a fuzzer once found stays found.

#[path = "fuzz/checks.rs"]
mod checks;
#[allow(dead_code, reason = "shared with the properties, which use more")]
#[path = "fuzz/exchange.rs"]
mod exchange;
#[path = "fuzz/hello.rs"]
mod hello;
#[path = "sim/net.rs"]
mod net;
#[path = "fuzz/proxy.rs"]
mod proxy;
#[allow(dead_code, reason = "shared with the simulations, which use more")]
#[path = "sim/rig.rs"]
mod rig;

use std::fs;
use std::path::Path;

use weir::core::client_hello::{HelloLook, HelloReader, NotTls};

fn run(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(target);
    let mut seeds: Vec<_> = fs::read_dir(&corpus)
        .expect("the corpus is part of the sources")
        .map(|entry| entry.expect("a readable entry").path())
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "{target} has no seed");
    for seed in seeds {
        println!("{}", seed.display());
        check(&fs::read(&seed).expect("a readable seed"));
    }
}

#[test]
fn request_heads_of_the_corpus_keep_their_meaning() {
    run("head_request", checks::head_request);
}

#[test]
fn response_heads_of_the_corpus_keep_their_meaning() {
    run("head_response", checks::head_response);
}

#[test]
fn chunked_bodies_of_the_corpus_keep_their_meaning() {
    run("chunked", checks::chunked);
}

#[test]
fn proxy_headers_of_the_corpus_keep_their_meaning() {
    run("proxy_header", proxy::proxy_header);
}

#[test]
fn exchanges_of_the_corpus_keep_their_meaning() {
    run("exchange", exchange::exchange);
}

#[test]
fn hellos_of_the_corpus_are_the_same_however_they_come() {
    run("client_hello", hello::client_hello);
}

/// What OpenSSL, curl, Python and Node.js send.
#[test]
fn hellos_of_real_clients_are_understood() {
    for (file, name, protocols, version) in [
        ("openssl", Some("api.example.test"), "h2 http/1.1", 0x0304),
        ("openssl_tls12", Some("api.example.test"), "", 0x0303),
        ("openssl_no_name", None, "", 0x0304),
        (
            "openssl_acme",
            Some("acme.example.test"),
            "acme-tls/1",
            0x0304,
        ),
        ("curl", Some("www.example.test"), "h2 http/1.1", 0x0304),
        ("python", Some("db.example.test"), "postgresql", 0x0304),
        ("node", Some("node.example.test"), "h2", 0x0304),
    ] {
        let HelloLook::Hello(hello) = HelloReader::default().look(&recorded(file)) else {
            panic!("{file} is a hello");
        };
        assert_eq!(hello.server_name.as_deref(), name, "{file}");
        let offered = hello.protocols().map(String::from_utf8_lossy);
        assert_eq!(offered.collect::<Vec<_>>().join(" "), protocols, "{file}");
        assert_eq!(hello.version, version, "{file}");
    }
    let request = HelloReader::default().look(&recorded("curl_http"));
    assert_eq!(request, HelloLook::NotTls(NotTls::Http));
}

#[test]
fn hellos_of_real_clients_may_be_spoiled_anywhere() {
    for file in ["openssl", "curl", "python", "node"] {
        let good = recorded(file);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut spoiled = good.clone();
                spoiled[at] ^= 1 << bit;
                // At once: what comes in pieces is the same.
                let _ = HelloReader::default().look(&spoiled);
            }
            hello::client_hello(&[&good[..at], &good[at + 1..]].concat());
        }
    }
}

fn recorded(file: &str) -> Vec<u8> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/client_hello");
    fs::read(corpus.join(file)).expect("it was recorded")
}
