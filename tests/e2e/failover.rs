//! A backend that cannot be reached costs the client nothing while another one can.

use crate::harness::{
    Blackhole, Config, End, Gate, Load, Named, Origin, Port, Weir, ask, eventually,
};

#[test]
fn a_refused_connection_goes_to_the_next_backend() {
    let (refused, good) = (Port::reserve(), Named::new("good"));
    let config = Config::new()
        .backend(refused.address())
        .backend(good.address());
    let weir = Weir::start(config);
    for _ in 0..10 {
        assert_eq!(ask(&mut weir.connect()), "good");
    }
}

#[test]
fn several_refused_backends_are_all_passed_over() {
    let refused = [Port::reserve(), Port::reserve()];
    let good = Named::new("good");
    let mut config = Config::new();
    for port in &refused {
        config = config.backend(port.address());
    }
    let weir = Weir::start(config.backend(good.address()));
    for _ in 0..10 {
        assert_eq!(ask(&mut weir.connect()), "good");
    }
}

#[test]
fn what_the_client_sent_meanwhile_reaches_the_next_backend_whole() {
    let (blackhole, gate) = (Blackhole::new(), Gate::new());
    let config = Config::new()
        .top("timeouts: {connect: 1s}")
        .backend(blackhole.address())
        .backend(gate.name());
    let weir = Weir::start(config);
    let mut client = weir.connect();
    client.send_pattern(1, 100_000);
    client.finish();
    let mut backend = gate.accept();
    backend.expect_pattern(1, 100_000);
    backend.expect_end();
}

#[test]
fn a_backend_that_swallows_connections_is_given_up_after_the_connect_timeout() {
    let (blackhole, good) = (Blackhole::new(), Named::new("good"));
    let config = Config::new()
        .top("timeouts: {connect: 1s}")
        .backend(blackhole.address())
        .backend(good.address());
    let weir = Weir::start(config);
    for _ in 0..4 {
        assert_eq!(ask(&mut weir.connect()), "good");
    }
}

#[test]
fn a_client_is_closed_when_every_backend_refuses() {
    let refused = [Port::reserve(), Port::reserve()];
    let config = Config::new()
        .backend(refused[0].address())
        .backend(refused[1].address());
    let mut weir = Weir::start(config);
    for _ in 0..20 {
        weir.expect_turned_away();
    }
    assert!(weir.runs());
}

#[test]
fn a_client_is_closed_when_every_backend_swallows_connections() {
    let blackhole = Blackhole::new();
    let config = Config::new()
        .top("timeouts: {connect: 1s}")
        .backend(blackhole.address());
    let weir = Weir::start(config);
    weir.expect_turned_away();
}

#[test]
fn a_client_that_leaves_during_the_connect_leaves_nothing_behind() {
    let blackhole = Blackhole::new();
    let config = Config::new()
        .top("timeouts: {connect: 1s}")
        .backend(blackhole.address());
    let mut weir = Weir::start(config);
    let before = weir.descriptors();
    for _ in 0..5 {
        weir.connect().reset();
    }
    eventually("all descriptors are closed", || {
        (weir.descriptors() <= before).then_some(())
    });
    assert!(weir.runs());
}

#[test]
fn a_single_backend_that_comes_back_is_used_at_once() {
    let origin = Named::new("only");
    let weir = Weir::start(Config::new().backend(origin.address()));
    origin.kill();
    for _ in 0..20 {
        weir.expect_turned_away();
    }
    origin.resume();
    // The only one is never ejected for failures of real traffic.
    assert_eq!(ask(&mut weir.connect()), "only");
}

#[test]
fn a_backend_that_accepts_and_closes_ends_the_client_the_same_way() {
    let gate = Gate::new();
    let weir = Weir::start(Config::new().backend(gate.name()));
    let mut client = weir.connect();
    drop(gate.accept());
    assert_eq!(client.end(), (Vec::new(), End::Clean));
    let mut client = weir.connect();
    gate.accept().reset();
    assert_eq!(client.end(), (Vec::new(), End::Reset));
}

#[test]
fn connections_begun_after_a_backend_died_under_load_all_succeed() {
    let origins = [Named::new("A"), Named::new("B"), Named::new("C")];
    let mut config = Config::new();
    for origin in &origins {
        config = config.backend(origin.address());
    }
    let weir = Weir::start(config);
    let load = Load::start(weir.address(), 4);
    load.wait_more(100);
    origins[0].kill();
    load.next_phase();
    load.wait_more(300);
    // Sessions that ran over the dying backend may have failed with it, and only those.
    let failures = load.finish();
    assert!(
        failures.iter().all(|failure| failure.phase == 0),
        "{failures:?}"
    );
}

#[test]
fn a_load_leaves_no_descriptor_open() {
    let origin = Named::new("A");
    let weir = Weir::start(Config::new().backend(origin.address()));
    let before = weir.descriptors();
    let load = Load::start(weir.address(), 4);
    load.wait_more(500);
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    // Each client may leave one socket behind that waits for its next connection.
    eventually("all other descriptors are closed", || {
        (weir.descriptors() <= before + 4).then_some(())
    });
    weir.expect_idle();
}

#[test]
fn sessions_on_other_backends_go_on_when_one_dies() {
    let (dying, living) = (Origin::echo(), Origin::echo());
    let config = Config::new()
        .backend(dying.address())
        .backend(living.address());
    let weir = Weir::start(config);
    let mut on_dying = weir.connect();
    on_dying.send("one");
    on_dying.expect("one");
    let mut on_living = weir.connect();
    on_living.send("two");
    on_living.expect("two");
    assert_eq!((dying.accepted(), living.accepted()), (1, 1));
    dying.kill();
    on_dying.end();
    on_living.send("three");
    on_living.expect("three");
}
