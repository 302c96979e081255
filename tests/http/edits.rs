//! Fields that a route sets, adds and removes.

use crate::client::{Client, fetch};
use crate::config::Config;
use crate::harness::Weir;
use crate::web::{Answer, Web, response};

#[test]
fn a_route_edits_the_fields_of_requests() {
    let mirror = Web::mirror();
    let weir = Weir::start(
        Config::new()
            .route(
                "prefix: /, upstream: pool, headers: {request: {remove: [X-Gone], \
                 set: {X-Set: new, Host: inner.example}, add: {X-Added: [one, two]}}}",
            )
            .upstream("pool", [mirror.address()]),
    );
    let seen = Client::new(&weir).get_with(
        "/",
        "X-Gone: 1\r\nX-Set: old\r\nx-set: older\r\nX-Added: zero\r\nX-Stays: 1\r\n",
    );
    let text = seen.text();
    let values = |name: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        lines
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    };
    assert!(values("X-Gone").is_empty());
    assert_eq!(values("X-Set"), ["new"]);
    assert_eq!(values("X-Added"), ["zero", "one", "two"]);
    assert_eq!(values("X-Stays"), ["1"]);
    assert_eq!(values("Host"), ["inner.example"]);
}

#[test]
fn a_route_edits_the_fields_of_responses() {
    let backend =
        Web::new(|_| Answer::Send(response("200 OK", "Server: x\r\nX-A: 1\r\nX-B: 1\r\n", "")));
    let weir = Weir::start(
        Config::new()
            .route(
                "prefix: /, upstream: pool, headers: {response: {remove: [Server], \
                 set: {X-A: two}, add: {X-B: two}}}",
            )
            .upstream("pool", [backend.address()]),
    );
    let answer = Client::new(&weir).get("/");
    assert!(answer.head.values("server").is_empty());
    assert_eq!(answer.head.values("x-a"), [b"two"]);
    assert_eq!(answer.head.values("x-b"), [&b"1"[..], b"two"]);
}

#[test]
fn edits_of_one_route_leave_the_others_alone() {
    let mirror = Web::mirror();
    let weir = Weir::start(
        Config::new()
            .route("prefix: /a, upstream: pool, headers: {request: {set: {X-Set: a}}}")
            .route("prefix: /b, upstream: pool")
            .upstream("pool", [mirror.address()]),
    );
    assert!(fetch(&weir, "/a").contains("X-Set: a"));
    assert!(!fetch(&weir, "/b").contains("X-Set"));
}
