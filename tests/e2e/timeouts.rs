//! What does not move is ended: a dead client may not hold a session for ever.

use crate::harness::{Config, Gate, Weir};

#[test]
fn an_idle_session_is_ended_on_both_sides() {
    let gate = Gate::new();
    let config = Config::new()
        .top("timeouts: {idle: 1s}")
        .backend(gate.name());
    let weir = Weir::start(config);
    let mut client = weir.connect();
    let mut backend = gate.accept();
    client.send("x");
    backend.expect("x");
    assert_eq!(client.end().0, b"");
    assert_eq!(backend.end().0, b"");
}

#[test]
fn a_half_closed_session_that_does_not_move_is_ended() {
    let gate = Gate::new();
    let config = Config::new()
        .top("timeouts: {half_closed: 1s}")
        .backend(gate.name());
    let weir = Weir::start(config);
    let mut client = weir.connect();
    let mut backend = gate.accept();
    client.send("request");
    client.finish();
    backend.expect("request");
    backend.expect_end();
    // The backend never answers and never ends.
    assert_eq!(client.end().0, b"");
}

#[test]
fn a_session_half_closed_by_the_backend_that_does_not_move_is_ended() {
    let gate = Gate::new();
    let config = Config::new()
        .top("timeouts: {half_closed: 1s}")
        .backend(gate.name());
    let weir = Weir::start(config);
    let mut client = weir.connect();
    let mut backend = gate.accept();
    backend.finish();
    client.expect_end();
    // The client never sends and never ends.
    assert_eq!(backend.end().0, b"");
}

#[test]
fn the_timeout_of_an_upstream_wins_over_that_of_the_listener_and_the_top() {
    let gate = Gate::new();
    let config = Config::new()
        .top("timeouts: {idle: 1h}")
        .listener("timeouts: {idle: 30m}")
        .upstream("timeouts: {idle: 1s}")
        .backend(gate.name());
    let weir = Weir::start(config);
    let mut client = weir.connect();
    let mut backend = gate.accept();
    client.send("x");
    backend.expect("x");
    assert_eq!(client.end().0, b"");
}

#[test]
fn a_listener_has_timeouts_of_its_own() {
    let gate = Gate::new();
    let config = Config::new()
        .top("timeouts: {idle: 1h}")
        .listener("timeouts: {idle: 1s}")
        .backend(gate.name());
    let weir = Weir::start(config);
    let mut client = weir.connect();
    let mut backend = gate.accept();
    client.send("x");
    backend.expect("x");
    assert_eq!(client.end().0, b"");
}

#[test]
fn a_reader_that_stalls_is_idle_however_much_is_waiting() {
    let gate = Gate::new();
    let config = Config::new()
        .top("timeouts: {idle: 1s}")
        .backend(gate.name());
    let weir = Weir::start(config);
    let client = weir.connect();
    let mut sender = client.share();
    let _backend = gate.accept();
    // The sender is blocked until weir gives the session up, then it meets an error.
    let outcome = std::thread::spawn(move || {
        use std::io::Write;
        let chunk = vec![0; 64 * 1024];
        (0..16_384).try_for_each(|_| sender.write_all(&chunk))
    });
    let outcome = outcome.join().expect("it ends");
    let error = outcome.expect_err("not all of 1 GiB is taken");
    assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "weir kept it");
    drop(client);
}
