//! Runs the fuzz checks over their corpora, as plain tests: what a fuzzer once found stays found.
//! Then over what comes of the corpora by spoiling them: `WEIR_FUZZ_RUNS` times as often as usual,
//! 1 by default, which takes about a minute in all; `WEIR_FUZZ_SEED` draws other ones.

#[path = "../fuzz/admin.rs"]
mod admin;
#[path = "../fuzz/checks.rs"]
mod checks;
#[path = "../fuzz/configuration.rs"]
mod configuration;
#[allow(dead_code, reason = "shared with the properties, which use more")]
#[path = "../fuzz/exchange.rs"]
mod exchange;
#[path = "../fuzz/hello.rs"]
mod hello;
#[path = "../sim/net.rs"]
mod net;
#[path = "../fuzz/proxy.rs"]
mod proxy;
#[allow(dead_code, reason = "shared with the simulations, which use more")]
#[path = "../sim/rig.rs"]
mod rig;
#[path = "../fuzz/spoil.rs"]
mod spoil;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::{env, fs};

use weir::core::client_hello::{HelloLook, HelloReader, NotTls};
use weir::core::rng::Rng;

/// Checks all of the corpus of `target`, and `count` times some of it that was spoiled.
fn run(target: &str, check: fn(&[u8]), count: u64) {
    let corpus = seeds(&Path::new("fuzz/corpus").join(target), |_| true);
    run_over(&corpus, check, count);
}

fn run_over(corpus: &[Vec<u8>], check: fn(&[u8]), count: u64) {
    for seed in corpus {
        check(seed);
    }
    let first = setting("WEIR_FUZZ_SEED", 1);
    let last = first + count * setting("WEIR_FUZZ_RUNS", 1);
    for seed in first..last {
        let bytes = spoil::spoiled(corpus, &mut Rng::new(seed));
        let checked = catch_unwind(AssertUnwindSafe(|| check(&bytes)));
        if let Err(cause) = checked {
            println!("WEIR_FUZZ_SEED={seed}: {}", bytes.escape_ascii());
            resume_unwind(cause);
        }
    }
}

/// The files of a folder of the tests, in the order of their names.
fn seeds(folder: &Path, is_seed: fn(&Path) -> bool) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).expect("it is part of the sources");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.is_file() && is_seed(path))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no seed", folder.display());
    let read = |path: &std::path::PathBuf| {
        println!("{}", path.display());
        fs::read(path).expect("a readable seed")
    };
    paths.iter().map(read).collect()
}

fn setting(name: &str, usual: u64) -> u64 {
    env::var(name).map_or(usual, |it| it.parse().expect("a number"))
}

#[test]
fn request_heads_of_the_corpus_keep_their_meaning() {
    run("head_request", checks::head_request, 400_000);
}

#[test]
fn response_heads_of_the_corpus_keep_their_meaning() {
    run("head_response", checks::head_response, 400_000);
}

#[test]
fn chunked_bodies_of_the_corpus_keep_their_meaning() {
    run("chunked", checks::chunked, 400_000);
}

#[test]
fn proxy_headers_of_the_corpus_keep_their_meaning() {
    run("proxy_header", proxy::proxy_header, 400_000);
}

#[test]
fn exchanges_of_the_corpus_keep_their_meaning() {
    run("exchange", exchange::exchange, 40_000);
}

#[test]
fn hellos_of_the_corpus_are_the_same_however_they_come() {
    run("client_hello", hello::client_hello, 40_000);
}

#[test]
fn admin_requests_of_the_corpus_are_the_same_however_they_come() {
    run("admin_request", admin::admin_request, 400_000);
}

#[test]
fn configurations_are_good_or_refused_with_a_place() {
    let is_yaml = |path: &Path| path.extension().is_some_and(|it| it == "yaml");
    let mut corpus = seeds(Path::new("fuzz/corpus/configuration"), |_| true);
    corpus.extend(seeds(Path::new("golden"), is_yaml));
    corpus.extend(seeds(Path::new("../conf"), is_yaml));
    run_over(&corpus, configuration::configuration, 100_000);
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
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/client_hello");
    fs::read(corpus.join(file)).expect("it was recorded")
}
