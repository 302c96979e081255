//! A graceful stop, as clients see it.

use std::sync::{Arc, Barrier};

use crate::client::{Client, fetch};
use crate::config::Config;
use crate::harness::{Signal, Weir, eventually};
use crate::web::{Web, ok};

#[test]
fn a_request_in_flight_finishes_and_its_connection_is_closed() {
    let meeting = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&meeting);
    let web = Web::new(move |_| {
        gate.wait();
        ok("done")
    });
    let mut weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    client.send_get("/", "");
    eventually("the request is under way", || {
        (web.accepted() > 0).then_some(())
    });
    weir.signal(Signal::TERM);
    weir.log.wait(&["stopping: "]);
    meeting.wait();
    let answer = client.receive();
    assert_eq!(answer.text(), "done");
    assert_eq!(answer.head.values("connection"), [b"close"]);
    client.expect_end();
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn an_idle_client_is_closed_without_a_byte() {
    let web = Web::named("a");
    let mut weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    assert_eq!(client.get("/").text(), "a");
    weir.signal(Signal::TERM);
    client.expect_end();
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn requests_are_served_while_weir_still_accepts() {
    let web = Web::named("a");
    let mut weir = Weir::start(Config::pool([web.address()]).top("timeouts: {pre_drain: 60s}"));
    weir.signal(Signal::TERM);
    weir.log.wait(&["stopping: "]);
    assert_eq!(fetch(&weir, "/"), "a");
    weir.signal(Signal::TERM);
    // The client that was just answered may still be there, and is not cut.
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn a_request_that_never_ends_is_cut_at_the_end_of_the_drain() {
    let never = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&never);
    let web = Web::new(move |_| {
        gate.wait();
        ok("late")
    });
    let mut weir = Weir::start(Config::pool([web.address()]).top("timeouts: {drain: 300ms}"));
    let mut client = Client::new(&weir);
    client.send_get("/", "");
    eventually("the request is under way", || {
        (web.accepted() > 0).then_some(())
    });
    weir.signal(Signal::TERM);
    assert_eq!(weir.wait_exit(), Some(1));
    never.wait();
}

#[test]
fn clients_of_a_removed_listener_are_told_to_close() {
    let meeting = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&meeting);
    let web = Web::new(move |request| {
        if request.head.start.starts_with(b"GET /slow ") {
            gate.wait();
            gate.wait();
        }
        ok("done")
    });
    let file = |listen: &str| Config::pool([web.address()]).on(listen);
    let weir = Weir::start(file("127.0.0.1:0"));
    let mut idle = Client::new(&weir);
    assert_eq!(idle.get("/").text(), "done");
    let mut busy = Client::new(&weir);
    busy.send_get("/slow", "");
    meeting.wait();
    // Another address: the listener of before is gone.
    weir.reload(file("127.0.0.2:0"));
    idle.expect_end();
    meeting.wait();
    let answer = busy.receive();
    assert_eq!(answer.head.values("connection"), [b"close"]);
    busy.expect_end();
}
