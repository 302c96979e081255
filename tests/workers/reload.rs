//! A new configuration for all workers at once.

use crate::chatter::Chatter;
use crate::harness::log::RELOADED;
use crate::harness::process::wait_closed;
use crate::harness::{Load, Named, Origin, Peer, Signal, ask};
use crate::machine::{Machine, config, descriptors, private_kib};

#[test]
fn all_workers_take_on_a_good_file_with_one_verdict() {
    let [a, b] = ["A", "B"].map(Named::new);
    let machine = Machine::start(config().backend(a.address()), 4);
    let mark = machine.log.mark();
    machine.reload(config().backend(b.address()));
    for _ in 0..40 {
        assert_eq!(ask(&mut machine.connect()), "B");
    }
    let verdicts = machine.log.count_since(mark, &[RELOADED]);
    assert_eq!(verdicts, 1);
    machine.log.wait_since(
        mark,
        &["reload done by all 4 workers: 1 backend added, 1 removed"],
    );
}

#[test]
fn a_bad_file_changes_nothing_in_any_worker() {
    let a = Named::new("A");
    let machine = Machine::start(config().backend(a.address()), 4);
    let mark = machine.log.mark();
    machine.write_config("listen: nowhere");
    machine.signal(Signal::HUP);
    machine
        .log
        .wait_since(mark, &["reload failed, nothing changed"]);
    for _ in 0..40 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
    assert_eq!(machine.log.count_since(mark, &[RELOADED]), 0);
}

#[test]
fn a_listener_that_cannot_be_opened_changes_nothing() {
    let [a, b] = ["A", "B"].map(Named::new);
    let machine = Machine::start(config().backend(a.address()), 2);
    let mark = machine.log.mark();
    let taken = b.address().to_string();
    machine.write_config(config().listen("side", &taken).backend(b.address()));
    machine.signal(Signal::HUP);
    machine.log.wait_since(
        mark,
        &["reload failed, nothing changed", "another program listens"],
    );
    for _ in 0..20 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
}

#[test]
fn listeners_come_and_go() {
    let a = Named::new("A");
    let machine = Machine::start(config().backend(a.address()), 3);
    let both = config().listen("side", "127.0.0.1:0").backend(a.address());
    machine.reload(both);
    let side = machine.address_of("side");
    for _ in 0..30 {
        let mut client = Peer::connect(side).expect("it listens");
        assert_eq!(ask(&mut client), "A");
    }
    machine.reload(config().backend(a.address()));
    wait_closed(side);
    assert_eq!(ask(&mut machine.connect()), "A");
}

#[test]
fn workers_become_fewer_and_more_without_a_failed_connection() {
    let origin = Origin::echo();
    let named = Named::new("A");
    let file = |workers: usize| {
        config()
            .top(&format!("workers: {workers}"))
            .backend(named.address())
    };
    let machine = Machine::launch(crate::harness::Launch::new(file(4)));
    let load = Load::start(machine.address(), 4);
    for workers in [2, 4, 1, 3, 4, 2, 4] {
        machine.reload(file(workers));
        load.wait_more(30);
        machine.wait_children(workers);
        if 4 % workers == 0 {
            machine.wait_shares_of_sockets(4 / workers);
        }
        load.wait_more(30);
    }
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    drop(origin);
}

#[test]
fn sessions_of_a_worker_that_is_no_longer_wanted_go_on() {
    let origin = Origin::echo();
    let file = |workers: usize| {
        config()
            .top(&format!("workers: {workers}"))
            .backend(origin.address())
    };
    let machine = Machine::launch(crate::harness::Launch::new(file(4)));
    let chatter = Chatter::start(machine.address(), 16);
    machine.reload(file(2));
    chatter.wait_more(200);
    machine.reload(file(4));
    chatter.wait_more(200);
    let failures = chatter.finish();
    assert!(failures.is_empty(), "{failures:?}");
    machine.wait_children(4);
}

/// What a machine has of what could leak: of its supervisor and of each of its workers.
#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    private_kib: u64,
}

fn holdings(machine: &Machine) -> Vec<Holdings> {
    let workers = machine.children().into_iter();
    let all = std::iter::once(machine.pid()).chain(workers);
    let look = |pid| Holdings {
        descriptors: descriptors(pid),
        private_kib: private_kib(pid),
    };
    all.map(look).collect()
}

#[test]
fn many_reloads_under_load_fail_nobody_and_leave_nothing_behind() {
    const RELOADS: usize = 100;
    /// Until then everything has been as large as it gets.
    const WARM_UP: usize = 20;
    // Less than two KiB for each reload. Sessions that are about to end have descriptors too.
    const GROWTH_KIB_MAX: u64 = 150;
    const DESCRIPTORS_MORE_MAX: usize = 20;
    let [a, b] = ["A", "B"].map(Named::new);
    let files = [
        config().backend(a.address()).backend(b.address()),
        config()
            .listen("side", "127.0.0.2:0")
            .upstream("algorithm: least_conn")
            .backend_with(b.address(), "weight: 3"),
    ];
    let machine = Machine::start(&files[0], 3);
    let workers = machine.children();
    // Some keep their connection through all of it, others come and go.
    let keepers = Chatter::start(machine.address(), 6);
    let mut before = Vec::new();
    for round in 1..=RELOADS {
        let load = Load::start(machine.address(), 3);
        machine.reload(&files[round % 2]);
        load.wait_more(3);
        keepers.wait_more(6);
        let failures = load.finish();
        assert!(failures.is_empty(), "{failures:?}");
        if round == WARM_UP {
            before = holdings(&machine);
        }
    }
    let after = holdings(&machine);
    assert_eq!(machine.children(), workers, "nobody was replaced");
    for (before, after) in before.iter().zip(&after) {
        let most = before.descriptors + DESCRIPTORS_MORE_MAX;
        assert!(after.descriptors <= most, "{before:?}, then {after:?}");
        let grown = after.private_kib.saturating_sub(before.private_kib);
        assert!(grown <= GROWTH_KIB_MAX, "{before:?}, then {after:?}");
    }
    let failures = keepers.finish();
    assert!(failures.is_empty(), "{failures:?}");
}
