//! The statistics of all workers as one line.

use std::time::Duration;

use crate::harness::{Load, Named, Origin, Signal, eventually};
use crate::machine::{Machine, config};

#[test]
fn the_uptime_goes_on_over_an_upgrade() {
    let backend = Named::new("A");
    let file = config()
        .top("stats_interval: 100ms")
        .backend(backend.address());
    let machine = Machine::start(file, 2);
    let load = Load::start(machine.address(), 1);
    let uptimes = || -> Vec<Duration> {
        let lines = machine.log.lines();
        lines.iter().filter_map(|line| uptime(line)).collect()
    };
    let old = eventually("it has run for a while", || {
        uptimes().into_iter().find(|it| it.as_secs() >= 1)
    });
    machine.signal(Signal::USR2);
    machine.log.wait(&["upgrade done"]);
    let before = uptimes().len();
    let new = eventually("another line", || uptimes().get(before + 1).copied());
    assert!(new >= old, "{old:?} and then {new:?}");
    drop(load);
}

#[test]
fn odd_responses_are_summed_over_workers_that_live_and_that_have_died() {
    let origin = Origin::new(|peer| {
        while !peer.read_line()?.trim_end().is_empty() {}
        peer.send("HTTP/1.1 200 OK\r\nX-Foo : bar\r\nContent-Length: 2\r\n\r\nok");
        Ok(())
    });
    let file = format!(
        "stats_interval: 100ms\nlisten: 127.0.0.1:0\nname: front\nmode: http\nbackends: [\"{}\"]\n",
        origin.address()
    );
    let mut machine = Machine::start(file, 2);
    let ask = |machine: &Machine| {
        for _ in 0..10 {
            let mut client = machine.connect();
            client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
            let (answer, _) = client.end();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(answer.contains("\r\nX-Foo: bar\r\n"), "{answer}");
        }
    };
    ask(&machine);
    machine
        .log
        .wait(&["odd responses: blank before a colon 10;"]);
    machine.replace_worker(0);
    machine.replace_worker(1);
    ask(&machine);
    machine
        .log
        .wait(&["odd responses: blank before a colon 20;"]);
    assert_eq!(machine.terminate(), Some(0));
}

/// As far as a test runs: below a minute.
fn uptime(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once("stats: uptime ")?;
    let (text, _) = rest.split_once(';')?;
    if let Some(ms) = text.strip_suffix("ms") {
        return Some(Duration::from_millis(ms.parse().ok()?));
    }
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    Some(Duration::from_secs_f64(seconds))
}
