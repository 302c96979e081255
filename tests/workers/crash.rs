//! Whoever dies or stands still, clients are served.

use crate::chatter::Chatter;
use crate::harness::log::STATISTICS;
use crate::harness::{Load, Named, Origin, Signal, ask, eventually};
use crate::machine::{Machine, config, is_there, signal};

#[test]
fn a_killed_worker_is_replaced_and_nobody_is_refused() {
    const CLIENTS: usize = 4;
    const KILLS: usize = 20;
    let backend = Named::new("A");
    let file = config()
        .top("stats_interval: 100ms")
        .backend(backend.address());
    let machine = Machine::start(file, 4);
    let load = Load::start(machine.address(), CLIENTS);
    for kill in 0..KILLS {
        machine.replace_worker(kill % 4);
        load.wait_more(10);
    }
    let failures = load.finish();
    // What was in its hands dies with a worker; what waits in its queue does not.
    assert!(failures.len() <= CLIENTS * KILLS, "{failures:?}");
    let refused = failures.iter().filter(|it| it.error.contains("refused"));
    assert_eq!(refused.count(), 0);
    let healed = machine.log.mark();
    machine
        .log
        .wait_since(healed, &[STATISTICS, "sessions 0; front: ", ", active 0,"]);
}

#[test]
fn gauges_heal_while_others_go_on() {
    let origin = Origin::echo();
    let file = config()
        .top("stats_interval: 100ms")
        .backend(origin.address());
    let machine = Machine::start(file, 4);
    let mut clients: Vec<_> = (0..40).map(|_| machine.connect()).collect();
    machine.log.wait(&[STATISTICS, "accepted 40, active 40"]);
    machine.replace_worker(2);
    let live = clients
        .iter_mut()
        .filter_map(|client| crate::chatter::say(client).ok())
        .count();
    assert!(live < 40, "the killed worker had clients");
    let active = format!("sessions {live}; front: accepted 40, active {live},");
    machine.log.wait(&[STATISTICS, &active]);
}

#[test]
fn clients_of_a_stopped_worker_are_served_by_the_others() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 4);
    let mark = machine.log.mark();
    machine.signal_worker(1, Signal::STOP);
    for _ in 0..60 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
    machine.log.wait_since(mark, &["worker 1: stopped"]);
    machine.signal_worker(1, Signal::CONT);
    machine.log.wait_since(mark, &["worker 1: goes on"]);
    for _ in 0..60 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
}

#[test]
fn a_worker_that_is_told_to_end_by_itself_is_replaced_without_a_failure() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 3);
    let load = Load::start(machine.address(), 3);
    for seat in [0, 1, 2, 0] {
        let mark = machine.log.mark();
        machine.signal_worker(seat, Signal::TERM);
        let started = format!("worker {seat}: started");
        machine.log.wait_since(mark, &[&started]);
        load.wait_more(20);
    }
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn the_prober_dies_and_another_worker_probes_on() {
    let backend = Named::new("A");
    let file = config()
        .upstream("health_check: {path: /health, interval: 200ms, timeout: 200ms}")
        .backend(backend.address());
    let machine = Machine::start(file, 4);
    for seat in 0..4 {
        eventually("it is probed", || {
            (backend.probes().len() > seat).then_some(())
        });
        machine.replace_worker(seat);
    }
    let before = backend.probes().len();
    eventually("it is still probed", || {
        (backend.probes().len() > before + 3).then_some(())
    });
    assert_eq!(machine.log.count(&[" DOWN after "]), 0);
}

#[test]
fn workers_serve_on_when_their_supervisor_dies() {
    let origin = Origin::echo();
    let mut machine = Machine::start(config().backend(origin.address()), 3);
    let workers = machine.children();
    let address = machine.address();
    let chatter = Chatter::start(address, 8);
    machine.signal(Signal::KILL);
    machine.wait_status();
    for _ in 0..3 {
        machine.log.wait(&["the supervisor has gone: serving on"]);
    }
    chatter.wait_more(200);
    assert!(chatter.finish().is_empty());
    let load = Load::start(address, 0);
    drop(load);
    for _ in 0..30 {
        let mut client = crate::harness::Peer::connect(address).expect("they listen");
        client.send("hello");
        client.expect("hello");
    }
    for worker in &workers {
        signal(*worker, Signal::TERM);
    }
    eventually("they end when told to", || {
        workers
            .iter()
            .all(|worker| !is_there(*worker))
            .then_some(())
    });
}

#[test]
fn workers_end_with_their_supervisor_when_the_configuration_says_so() {
    let origin = Origin::echo();
    let file = config()
        .top("when_supervisor_dies: stop")
        .backend(origin.address());
    let mut machine = Machine::start(file, 3);
    let workers = machine.children();
    machine.signal(Signal::KILL);
    machine.wait_status();
    eventually("they end", || {
        workers
            .iter()
            .all(|worker| !is_there(*worker))
            .then_some(())
    });
}
