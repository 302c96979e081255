//! One line of figures, only when there is something new, and one at the end.

use std::time::Duration;

use crate::harness::log::STATISTICS;
use crate::harness::{Config, Named, Port, Weir, ask, eventually, observe};

#[test]
fn statistics_are_printed_only_when_something_has_changed() {
    let origin = Named::new("A");
    let config = Config::new()
        .top("stats_interval: 100ms")
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
        observe(Duration::from_millis(400));
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
    let lines = weir.log.lines();
    let last: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(STATISTICS))
        .collect();
    assert!(!last.is_empty(), "none at the end");
    let figures = last.iter().any(|line| line.contains('3'));
    assert!(figures, "three sessions are not in {last:?}");
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
    let lines = weir.log.lines();
    let told = lines.iter().any(|line| {
        line.contains(STATISTICS) && line.contains("connect_failures") && line.contains('1')
    });
    assert!(told, "the failure is not in the figures");
}
