//! Lines of figures, only where there is something new, and all at the end.

use std::time::Duration;

use crate::harness::log::STATISTICS;
use crate::harness::{Config, Named, Port, Weir, ask, eventually, observe};

#[test]
fn statistics_are_printed_only_when_something_has_changed() {
    let origin = Named::new("A");
    let config = Config::new()
        .top("stats_interval: 1s")
        .backend(origin.address());
    let weir = Weir::start(config);
    let mut client = weir.connect();
    ask(&mut client);
    client.finish();
    client.expect_end();
    weir.log.wait(&[STATISTICS]);
    // Once it has told of the end of that session there is nothing more to say.
    let mut told = 0;
    eventually("it falls silent", || {
        let before = told;
        observe(Duration::from_millis(2500));
        told = weir.log.count(&[STATISTICS]);
        (told == before).then_some(())
    });
    ask(&mut weir.connect());
    eventually("it speaks again", || {
        (weir.log.count(&[STATISTICS]) > told).then_some(())
    });
}

#[test]
fn statistics_are_printed_at_the_end_even_when_the_interval_is_off() {
    let origin = Named::new("A");
    let config = Config::new()
        .top("stats_interval: 0s")
        .backend(origin.address());
    let mut weir = Weir::start(config);
    for _ in 0..3 {
        let mut client = weir.connect();
        ask(&mut client);
        client.finish();
        client.expect_end();
    }
    assert_eq!(weir.log.count(&[STATISTICS]), 0);
    assert_eq!(weir.terminate(), Some(0));
    weir.log.wait(&[STATISTICS, "front: accepted 3, active 0"]);
    weir.log
        .wait(&[STATISTICS, "upstream pool: picks 3, active 0"]);
    assert_eq!(weir.log.count(&[STATISTICS]), 2);
}

#[test]
fn connect_failures_are_counted() {
    let (refused, good) = (Port::reserve(), Named::new("good"));
    let config = Config::new()
        .backend(refused.address())
        .backend(good.address());
    let mut weir = Weir::start(config);
    ask(&mut weir.connect());
    assert_eq!(weir.terminate(), Some(0));
    weir.log
        .wait(&[STATISTICS, "connect failures 1", "retries 1"]);
}

#[test]
fn bytes_are_counted_by_direction() {
    let origin = Named::new("A");
    let mut weir = Weir::start(Config::new().backend(origin.address()));
    let mut client = weir.connect();
    ask(&mut client);
    client.send_pattern(1, 100_000);
    client.finish();
    client.expect_pattern(1, 100_000);
    client.expect_end();
    assert_eq!(weir.terminate(), Some(0));
    // The question is "who" and a line feed, the answer "A" and one.
    weir.log.wait(&[STATISTICS, "bytes in 100004, out 100002"]);
}

#[test]
fn clients_that_found_no_backend_are_counted() {
    let refused = Port::reserve();
    let mut weir = Weir::start(Config::new().backend(refused.address()));
    for _ in 0..3 {
        weir.expect_turned_away();
    }
    assert_eq!(weir.terminate(), Some(0));
    weir.log.wait(&[STATISTICS, "accepted 3", "refused 3"]);
}
