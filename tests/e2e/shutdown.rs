//! Ending without loss: what runs is finished, what waits is served, and there is a limit to it.

use std::time::Duration;

use crate::harness::log::STOPPING;
use crate::harness::{Config, Gate, Load, Named, Origin, Peer, Signal, Weir, ask, eventually};

#[test]
fn an_idle_weir_ends_at_once_with_code_zero() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let origin = Named::new("A");
        let mut weir = Weir::start(Config::new().backend(origin.address()));
        ask(&mut weir.connect());
        weir.signal(signal);
        assert_eq!(weir.wait_exit(), Some(0), "{signal:?}");
    }
}

#[test]
fn running_sessions_are_finished_first() {
    for signal in [Signal::TERM, Signal::INT] {
        let gate = Gate::new();
        let mut weir = Weir::start(Config::new().backend(gate.name()));
        let mut client = weir.connect();
        let mut backend = gate.accept();
        client.send("request");
        backend.expect("request");
        weir.signal(signal);
        weir.wait_listener_closed();
        weir.expect_idle();
        assert!(weir.runs());
        client.send(" more");
        backend.expect(" more");
        let sender = std::thread::spawn(move || {
            backend.send_pattern(1, 4 * 1024 * 1024);
            backend.finish();
            backend.expect_end();
        });
        client.expect_pattern(1, 4 * 1024 * 1024);
        client.expect_end();
        client.finish();
        sender.join().expect("the response is sent");
        assert_eq!(weir.wait_exit(), Some(0), "{signal:?}");
    }
}

#[test]
fn connections_that_wait_in_the_queue_are_served() {
    let origin = Named::new("A");
    let mut weir = Weir::start(Config::new().backend(origin.address()));
    weir.freeze();
    let mut clients: Vec<Peer> = (0..50).map(|_| weir.connect()).collect();
    for client in &mut clients {
        client.send("who\n");
        client.finish();
    }
    weir.signal(Signal::TERM);
    weir.thaw();
    for client in &mut clients {
        client.expect("A\n");
        client.expect_end();
    }
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn connections_that_wait_for_room_are_served() {
    let origin = Named::new("A");
    let config = Config::new()
        .listener("limits: {max_connections: 1}")
        .backend(origin.address());
    let mut weir = Weir::start(config);
    let mut held = weir.connect();
    ask(&mut held);
    let mut waiting: Vec<Peer> = (0..5).map(|_| weir.connect()).collect();
    weir.signal(Signal::TERM);
    weir.expect_idle();
    held.finish();
    held.expect_end();
    for client in &mut waiting {
        assert_eq!(ask(client), "A");
        client.finish();
        client.expect_end();
    }
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn new_connections_are_served_until_the_end_of_pre_drain() {
    let origin = Named::new("A");
    let config = Config::new()
        .top("timeouts: {pre_drain: 4s}")
        .backend(origin.address());
    let mut weir = Weir::start(config);
    let mark = weir.log.mark();
    weir.signal(Signal::TERM);
    weir.log.wait_since(mark, &[STOPPING]);
    let mut client = weir.connect();
    assert_eq!(ask(&mut client), "A");
    drop(client);
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn nothing_that_runs_is_lost_by_a_stop_under_load() {
    let origin = Named::new("A");
    let mut weir = Weir::start(Config::new().backend(origin.address()));
    let mut held: Vec<Peer> = (0..20).map(|_| weir.connect()).collect();
    for client in &mut held {
        ask(client);
    }
    let load = Load::start(weir.address(), 3);
    load.wait_more(100);
    weir.signal(Signal::TERM);
    weir.wait_listener_closed();
    // Sessions of the load that began after the signal may be refused; those held may not fail.
    drop(load);
    for client in &mut held {
        client.send("one more");
        client.expect("one more");
        client.finish();
        client.expect_end();
    }
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn sessions_that_never_end_are_cut_and_counted() {
    let origin = Named::new("A");
    let config = Config::new()
        .top("timeouts: {drain: 500ms}")
        .backend(origin.address());
    let mut weir = Weir::start(config);
    let mut clients: Vec<Peer> = (0..3).map(|_| weir.connect()).collect();
    for client in &mut clients {
        ask(client);
    }
    let mark = weir.log.mark();
    assert_eq!(weir.terminate(), Some(1));
    for client in &mut clients {
        client.end();
    }
    let told = weir.log.count_since(mark, &[STOPPING, "3 sessions cut"]);
    assert!(told >= 1, "the count is not in the log");
}

#[test]
fn a_waiting_stop_says_how_many_it_waits_for() {
    let origin = Named::new("A");
    let mut weir = Weir::start(Config::new().backend(origin.address()));
    let mut clients: Vec<Peer> = (0..7).map(|_| weir.connect()).collect();
    for client in &mut clients {
        ask(client);
    }
    let mark = weir.log.mark();
    weir.signal(Signal::TERM);
    weir.log
        .wait_since(mark, &[STOPPING, "7 sessions to finish"]);
    weir.log
        .wait_since(mark, &[STOPPING, "7 sessions still run"]);
    for client in &mut clients {
        client.finish();
        client.expect_end();
    }
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    for second in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let origin = Named::new("A");
        let config = Config::new()
            .top("timeouts: {drain: 1h}")
            .backend(origin.address());
        let mut weir = Weir::start(config);
        let mut client = weir.connect();
        ask(&mut client);
        weir.signal(Signal::TERM);
        weir.wait_listener_closed();
        assert!(weir.runs());
        weir.signal(second);
        assert_eq!(weir.wait_exit(), Some(1), "{second:?}");
        client.end();
    }
}

#[test]
fn probes_do_not_keep_a_stop_waiting() {
    // Probes of a backend that accepts and says nothing are under way at nearly all times.
    let mute = Origin::new(|peer| {
        use std::io::Read;
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).map(drop)
    });
    let config = Config::new()
        .top("timeouts: {drain: 1h}")
        .upstream("health_check: {interval: 1h, timeout: 30m, path: /}")
        .backend(mute.address());
    let mut weir = Weir::start(config);
    eventually("a probe is under way", || {
        (mute.accepted() > 0).then_some(())
    });
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn a_session_that_still_connects_at_the_stop_is_served() {
    let (blackhole, good) = (crate::harness::Blackhole::new(), Named::new("good"));
    let config = Config::new()
        .top("timeouts: {connect: 1s}")
        .backend(blackhole.address())
        .backend(good.address());
    let mut weir = Weir::start(config);
    let mut client = weir.connect();
    client.send("who\n");
    client.expect_silence(Duration::from_millis(100));
    weir.signal(Signal::TERM);
    client.expect("good\n");
    client.finish();
    client.expect_end();
    assert_eq!(weir.wait_exit(), Some(0));
}
