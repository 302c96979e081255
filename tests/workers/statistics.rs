//! The statistics of all workers as one line.

use std::time::Duration;

use crate::harness::{Load, Named, Signal, eventually};
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
