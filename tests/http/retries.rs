//! When another backend is asked, and when not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::client::{Client, fetch};
use crate::config::Config;
use crate::harness::{Port, Weir};
use crate::web::{Answer, Web, addresses, ok};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

/// A backend that resets a connection at its second request, as if it had given it up.
fn forgetful() -> Web {
    Web::by_turn(|_, turn| if turn == 0 { ok("a") } else { Answer::Reset })
}

#[test]
fn a_refused_connect_goes_to_another_backend_whatever_the_method() {
    let (dead, live) = (Port::reserve(), Web::named("live"));
    let config = Config::pool([dead.address(), live.address()]).with("passive: off");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    for _ in 0..6 {
        assert_eq!(client.get("/").text(), "live");
        client.send(POST);
        assert_eq!(client.receive().text(), "live");
    }
    let bodies = live
        .requests()
        .into_iter()
        .map(|request| request.body.payload);
    assert_eq!(bodies.filter(|body| body == b"body").count(), 6);
}

#[test]
fn a_get_goes_to_another_backend_when_one_resets_it() {
    let (bad, good) = (Web::new(|_| Answer::Reset), Web::named("good"));
    let config = Config::pool(addresses([&bad, &good])).with("passive: off");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(bad.count() > 0, "the bad one was never asked");
}

#[test]
fn a_post_that_reached_a_backend_is_never_sent_again() {
    let total = Arc::new(AtomicUsize::new(0));
    let backend = || {
        let total = Arc::clone(&total);
        Web::new(move |_| {
            total.fetch_add(1, Ordering::SeqCst);
            Answer::Reset
        })
    };
    let (a, b) = (backend(), backend());
    let weir = Weir::start(Config::pool(addresses([&a, &b])).with("passive: off"));
    let mut client = Client::new(&weir);
    for n in 1..=4 {
        client.send(POST);
        assert_eq!(client.receive().status(), 502);
        assert_eq!(total.load(Ordering::SeqCst), n);
    }
}

#[test]
fn a_put_is_sent_again_with_its_body() {
    let (bad, good) = (Web::new(|_| Answer::Reset), Web::named("good"));
    let config = Config::pool(addresses([&bad, &good])).with("passive: off");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    for _ in 0..4 {
        client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.receive().text(), "good");
    }
    assert!(
        good.requests()
            .iter()
            .all(|request| request.body.payload == b"body")
    );
    assert!(bad.count() > 0, "the bad one was never asked");
}

#[test]
fn a_stale_connection_costs_a_get_nothing() {
    let web = forgetful();
    let weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert_eq!(web.connections(), 3);
}

#[test]
fn a_post_is_not_sent_again_when_a_kept_connection_is_reset() {
    let web = forgetful();
    let weir = Weir::start(Config::pool([web.address()]).with("passive: off"));
    let mut client = Client::new(&weir);
    assert_eq!(client.get("/").text(), "a");
    client.send(POST);
    let answer = client.receive();
    // Two ways are right: it is answered 502, or it never used the kept connection at all.
    let posts = web
        .requests()
        .iter()
        .filter(|request| request.head.word(0) == "POST")
        .count();
    assert_eq!(posts, 1, "answered {}", answer.status());
}

#[test]
fn a_response_that_has_begun_is_never_begun_again() {
    let (bad, good) = (
        Web::new(|_| Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec())),
        Web::new(|_| Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec())),
    );
    let weir = Weir::start(Config::pool(addresses([&bad, &good])).with("passive: off"));
    let mut client = Client::new(&weir);
    client.send_get("/", "");
    let (bytes, _) = client.end();
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(text.matches("HTTP/1.1").count(), 1, "{text}");
    assert_eq!(bad.count() + good.count(), 1);
}

#[test]
fn tries_are_limited() {
    let backends: Vec<Web> = (0..5).map(|_| Web::new(|_| Answer::Reset)).collect();
    let config = Config::pool(addresses(&backends))
        .with("passive: off")
        .with("retries: {tries: 2}");
    let weir = Weir::start(config);
    assert_eq!(Client::new(&weir).get("/").status(), 502);
    let asked: usize = backends.iter().map(Web::count).sum();
    assert_eq!(asked, 2);
}

#[test]
fn retries_have_a_budget() {
    let backends: Vec<Web> = (0..2).map(|_| Web::new(|_| Answer::Reset)).collect();
    let config = Config::pool(addresses(&backends))
        .with("passive: off")
        .with("retries: {tries: 2, budget_percent: 0, min_per_second: 0}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    for _ in 0..5 {
        assert_eq!(client.get("/").status(), 502);
    }
    let asked: usize = backends.iter().map(Web::count).sum();
    assert_eq!(asked, 5);
}

#[test]
fn a_connect_beyond_the_budget_is_still_tried_elsewhere() {
    let (dead, live) = (Port::reserve(), Web::named("live"));
    let config = Config::pool([dead.address(), live.address()])
        .with("passive: off")
        .with("retries: {tries: 2, budget_percent: 0, min_per_second: 0}");
    let weir = Weir::start(config);
    for _ in 0..4 {
        assert_eq!(fetch(&weir, "/"), "live");
    }
}

#[test]
fn a_backend_that_dies_and_returns_under_load_costs_no_get_an_error() {
    let backends = [Web::named("x"), Web::named("x"), Web::named("x")];
    let weir = Weir::start(Config::pool(addresses(&backends)));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::new(&weir);
                for _ in 0..300 {
                    assert_eq!(client.get("/").text(), "x");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..5 {
                backends[0].kill();
                assert_eq!(fetch(&weir, "/"), "x");
                backends[0].resume();
                assert_eq!(fetch(&weir, "/"), "x");
            }
        });
    });
}
