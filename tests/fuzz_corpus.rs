//! Runs the fuzz checks over their corpora, as plain tests: what a fuzzer once found stays found.

#[path = "fuzz/checks.rs"]
mod checks;
#[allow(dead_code, reason = "shared with the properties, which use more")]
#[path = "fuzz/exchange.rs"]
mod exchange;
#[path = "sim/net.rs"]
mod net;
#[allow(dead_code, reason = "shared with the simulations, which use more")]
#[path = "sim/rig.rs"]
mod rig;

use std::fs;
use std::path::Path;

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
fn exchanges_of_the_corpus_keep_their_meaning() {
    run("exchange", exchange::exchange);
}
