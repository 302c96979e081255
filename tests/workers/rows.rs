//! How many workers there may be at once, those that drain included, and how much they can share.

use std::ffi::OsStr;
use std::fs;

use crate::harness::{Config, Launch, Named, Scratch, Signal, ask, run};
use crate::machine::{Machine, config, signal};

/// Rows that workers may have; those that are kept for emergencies not counted.
const MAY_BE: usize = 247;
/// The most workers that may be asked for.
const MOST: usize = 60;
const FEW: usize = 2;

/// Workers that are stopped leave as slowly as those with long sessions, without any client.
fn stop_all_but_few(machine: &Machine) {
    for number in FEW..MOST {
        let mark = machine.log.mark();
        signal(machine.worker(number), Signal::STOP);
        let line = format!("worker {number}: stopped");
        machine.log.wait_since(mark, &[&line]);
    }
}

#[test]
fn when_too_many_still_drain_a_reload_and_an_upgrade_are_refused() {
    let backend = Named::new("A");
    let file = |workers: usize| {
        let file = config().top(&format!("workers: {workers}"));
        file.backend(backend.address())
    };
    let machine = Machine::launch(Launch::new(file(MOST)));
    let reload = |workers: usize| {
        let mark = machine.log.mark();
        machine.reload(file(workers));
        let verdict = format!("reload done by all {workers} workers");
        machine.log.wait_since(mark, &[&verdict]);
    };
    let mut there = MOST;
    while there + MOST - FEW <= MAY_BE {
        stop_all_but_few(&machine);
        reload(FEW);
        reload(MOST);
        there += MOST - FEW;
    }
    // Now for a reload.
    stop_all_but_few(&machine);
    reload(FEW);
    let mark = machine.log.mark();
    machine.write_config(file(MOST));
    machine.signal(Signal::HUP);
    let reason = format!("of the {MAY_BE} that may be there");
    machine.log.wait_since(
        mark,
        &["reload failed, nothing changed", &reason, "that drain"],
    );
    assert_eq!(machine.children().len(), there);
    // And, with nearly as many as there may be, for an upgrade.
    reload(FEW + MAY_BE - there);
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    machine.log.wait_since(mark, &["upgrade failed: ", &reason]);
    assert_eq!(machine.children().len(), MAY_BE);
    assert_eq!(ask(&mut machine.connect()), "A");
}

/// So many backends that nobody asks, of one kind, besides one that answers.
fn with_idle(backend: &Named, kind: u8, count: usize) -> Config {
    let file = config().top("workers: 2").backend(backend.address());
    (0..count).fold(file, |file, n| {
        let address = format!("127.{kind}.{}.{}:9", n / 250, n % 250 + 1);
        file.backend_with(address, "weight: 0")
    })
}

#[test]
fn more_backends_than_there_are_places_are_replaced_in_two_steps() {
    const MANY: usize = 2_500;
    let a = Named::new("A");
    let machine = Machine::launch(Launch::new(with_idle(&a, 1, MANY)));
    let mark = machine.log.mark();
    machine.write_config(with_idle(&a, 2, MANY));
    machine.signal(Signal::HUP);
    let limit = "can share 4096 listeners, upstreams and backends";
    machine.log.wait_since(
        mark,
        &["reload failed, nothing changed", limit, "first take out"],
    );
    for kind in [(2, 0), (2, MANY)] {
        machine.reload(with_idle(&a, kind.0, kind.1));
        assert_eq!(ask(&mut machine.connect()), "A");
    }
    assert_eq!(machine.log.count(&["reload done by all 2 workers"]), 2);
}

#[test]
fn the_check_names_the_limits() {
    let a = Named::new("A");
    let scratch = Scratch::new();
    let path = scratch.file("weir.yaml");
    let check = |config: &str| {
        fs::write(&path, config).expect("written");
        let checked = run(&[OsStr::new("-t"), OsStr::new("-c"), path.as_os_str()]);
        (checked.code, checked.stderr)
    };
    let many = with_idle(&a, 1, 5_000).to_string();
    let (code, text) = check(&many);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("more than the 4096"), "{text}");
    let (code, text) = check(&many.replace("workers: 2", "workers: 1"));
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check(&many.replace("workers: 2", "workers: 61"));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("from 1 to 60"), "{text}");
}

#[test]
fn where_addresses_are_few_workers_share_less_and_serve_and_make_way() {
    let a = Named::new("A");
    let file = config().top("workers: 2").backend(a.address());
    let machine = Machine::launch(Launch::new(file).open_to_all().limits("-v 40000"));
    let room = "leaves room for 256 listeners, upstreams and backends, and 31 workers";
    machine
        .log
        .wait(&["the limit on addresses (RLIMIT_AS) of 40000 KiB", room]);
    assert_eq!(ask(&mut machine.connect()), "A");
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    machine.log.wait_since(mark, &["upgrade done"]);
    assert_eq!(ask(&mut machine.connect()), "A");
    assert_eq!(machine.log.count(&["counters begin anew"]), 0);
    let mark = machine.log.mark();
    machine.write_config(with_idle(&a, 1, 600));
    machine.signal(Signal::HUP);
    let limit = "more than the 256 that several workers can share";
    machine
        .log
        .wait_since(mark, &["reload failed, nothing changed", limit]);
}
