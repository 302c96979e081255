//! At a limit weir waits or picks another way: it never spins and fails nobody.

use std::time::Duration;

use crate::harness::{Config, Launch, Named, Peer, Weir, ask, try_ask};

const WINDOW: Duration = Duration::from_millis(300);

/// Clients that have asked but read nothing yet.
fn asking(weir: &Weir, clients: usize) -> Vec<Peer> {
    let one = |_| {
        let mut client = weir.connect();
        client.send("who\n");
        client
    };
    (0..clients).map(one).collect()
}

/// Reads the answer, then leaves, for each client in turn: each one makes room for the next.
fn serve_all(clients: Vec<Peer>) {
    for mut client in clients {
        assert_eq!(client.read_line().expect("an answer"), "A");
        client.finish();
        client.expect_end();
    }
}

#[test]
fn running_out_of_descriptors_pauses_accepting_and_fails_nobody() {
    out_of_descriptors(Config::new());
}

#[test]
fn running_out_of_descriptors_with_pipes_fails_nobody_either() {
    out_of_descriptors(Config::new().top("splice: true"));
}

/// Under two limits: with one of them the last descriptor goes to a client, and none is left for
/// its backend.
fn out_of_descriptors(config: Config) {
    let origin = Named::new("A");
    let config = config
        .top("max_connections: 1000")
        .backend(origin.address());
    for limit in ["-n 40", "-n 41"] {
        let before = origin.asked();
        let mut weir = Launch::new(config.clone()).limits(limit).start();
        let mut first = weir.connect();
        ask(&mut first);
        let waiting = asking(&weir, 60);
        weir.expect_idle();
        assert!(origin.asked() - before < 61, "the limit was not reached");
        first.send("established");
        first.expect("established");
        serve_all(waiting);
        first.send("still");
        first.expect("still");
        assert!(weir.runs());
    }
}

#[test]
fn the_default_limit_on_connections_stays_within_the_descriptors() {
    let origin = Named::new("A");
    let config = Config::new().backend(origin.address());
    let weir = Launch::new(config).limits("-n 40").start();
    serve_all(asking(&weir, 60));
    assert_eq!(weir.log.count(&["ERROR"]), 0);
}

#[test]
fn forty_eight_clients_are_served_at_a_time_with_128_descriptors() {
    let origin = Named::new("A");
    let config = Config::new().backend(origin.address());
    let weir = Launch::new(config).limits("-n 128").start();
    weir.log.wait(&["at most 48 connections"]);
    let mut clients: Vec<Peer> = (0..48).map(|_| weir.connect()).collect();
    for client in &mut clients {
        ask(client);
    }
    for mut client in clients {
        client.send("still");
        client.expect("still");
    }
    assert_eq!(weir.log.count(&["out of descriptors"]), 0);
}

#[test]
fn the_soft_limit_on_descriptors_is_raised_to_the_hard_one() {
    let origin = Named::new("A");
    let config = Config::new().backend(origin.address());
    let weir = Launch::new(config).limits("-S -n 64").start();
    let (soft, hard) = weir.descriptor_limits();
    assert!(hard > 64);
    assert_eq!(soft, hard);
}

fn paused_at_two(config: Config, origin: &Named) {
    let weir = Weir::start(config);
    let mut one = weir.connect();
    let mut two = weir.connect();
    ask(&mut one);
    ask(&mut two);
    let mut three = weir.connect();
    three.send("who\n");
    weir.expect_idle();
    three.expect_silence(WINDOW);
    assert_eq!(origin.asked(), 2);
    one.send("established");
    one.expect("established");
    drop(two);
    assert_eq!(three.read_line().expect("an answer"), "A");
}

#[test]
fn a_listener_at_its_limit_accepts_again_when_a_session_ends() {
    let origin = Named::new("A");
    let config = Config::new()
        .listener("limits: {max_connections: 2}")
        .backend(origin.address());
    paused_at_two(config, &origin);
}

#[test]
fn the_process_at_its_limit_accepts_again_when_a_session_ends() {
    let origin = Named::new("A");
    let config = Config::new()
        .top("max_connections: 2")
        .backend(origin.address());
    paused_at_two(config, &origin);
}

#[test]
fn the_limit_of_one_listener_does_not_touch_another() {
    let origin = Named::new("A");
    let config = Config::new()
        .listener("limits: {max_connections: 1}")
        .listen("side", "127.0.0.2:0")
        .backend(origin.address());
    let weir = Weir::start(config);
    let mut held = weir.connect();
    ask(&mut held);
    let _waiting = weir.connect();
    for _ in 0..5 {
        let mut client = Peer::connect(weir.address_of("side")).expect("weir listens");
        assert_eq!(ask(&mut client), "A");
    }
}

#[test]
fn five_hundred_clients_at_once_are_all_served() {
    let origin = Named::new("A");
    let weir = Weir::start(Config::new().backend(origin.address()));
    weir.freeze();
    let clients = asking(&weir, 500);
    weir.thaw();
    let mut held = Vec::new();
    for mut client in clients {
        assert_eq!(client.read_line().expect("an answer"), "A");
        held.push(client);
    }
    for client in &mut held {
        client.send("x");
        client.expect("x");
    }
}

#[test]
fn a_log_reader_that_goes_away_does_not_stop_service() {
    let origin = Named::new("A");
    let mut weir = Weir::start(Config::new().backend(origin.address()));
    let address = weir.address();
    weir.hang_up_log();
    for _ in 0..50 {
        let mut client = Peer::connect(address).expect("weir listens");
        assert_eq!(ask(&mut client), "A");
    }
    weir.expect_idle();
    assert_eq!(weir.terminate(), Some(0));
}

#[test]
fn a_full_log_pipe_does_not_stop_service() {
    let origin = Named::new("A");
    let config = Config::new().backend(origin.address());
    let weir = Launch::new(config).log_filter("trace").start();
    weir.log.stop_reading();
    let mut client = weir.connect();
    let twenty_sessions = || {
        for _ in 0..20 {
            assert_eq!(ask(&mut weir.connect()), "A");
        }
        rustix::io::ioctl_fionread(weir.stderr_pipe()).expect("it is a pipe")
    };
    // Each session logs something, so the pipe is full when sessions no longer add to it.
    let mut waiting = twenty_sessions();
    let mut grown = 0;
    for _ in 0..100 {
        let before = std::mem::replace(&mut waiting, twenty_sessions());
        if waiting == before {
            break;
        }
        grown += 1;
    }
    assert!((1..100).contains(&grown), "the log does not fill a pipe");
    assert_eq!(try_ask(&mut client).expect("an answer"), "A");
    weir.log.resume_reading();
}
