//! Another binary in place of this one, without a failed connection.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::chatter::Chatter;
use crate::harness::process::binary;
use crate::harness::{Launch, Load, Named, Origin, Scratch, Signal, ask, eventually};
use crate::machine::{Machine, config, descriptors, private_kib};

const DONE: &str = "upgrade done: ";
const FAILED: &str = "upgrade failed: ";

#[test]
fn the_binary_is_replaced_again_and_again_under_load() {
    const UPGRADES: usize = 20;
    const WARM_UP: usize = 5;
    // Less than 16 KiB and half a descriptor for each upgrade.
    const GROWTH_KIB_MAX: u64 = 240;
    const DESCRIPTORS_MORE_MAX: usize = 7;
    let backend = Named::new("A");
    let mut machine = Machine::start(config().backend(backend.address()), 3);
    let pid = machine.pid();
    let first = machine.children();
    // They keep workers of the first generation through all of it.
    let keepers = Chatter::start(machine.address(), 6);
    let load = Load::start(machine.address(), 3);
    let mut before = (0, 0);
    for round in 1..=UPGRADES {
        let mark = machine.log.mark();
        machine.signal(Signal::USR2);
        machine.log.wait_since(mark, &[DONE]);
        load.wait_more(6);
        keepers.wait_more(6);
        eventually(
            "the workers between the first and the last have gone",
            || {
                let children = machine.children();
                let fresh = children.iter().filter(|worker| !first.contains(worker));
                (fresh.count() == 3).then_some(())
            },
        );
        if round == WARM_UP {
            before = (descriptors(pid), private_kib(pid));
        }
    }
    let after = (descriptors(pid), private_kib(pid));
    assert_eq!(machine.pid(), pid);
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    let failures = keepers.finish();
    assert!(failures.is_empty(), "{failures:?}");
    let is_same =
        after.0 <= before.0 + DESCRIPTORS_MORE_MAX && after.1 <= before.1 + GROWTH_KIB_MAX;
    assert!(
        is_same,
        "descriptors and memory: {before:?}, then {after:?}"
    );
    machine.wait_children(3);
    assert_eq!(machine.terminate(), Some(0));
}

#[test]
fn an_upgrade_waits_for_a_reload_that_is_under_way() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 2);
    for _ in 0..3 {
        let mark = machine.log.mark();
        machine.signal(Signal::HUP);
        machine.signal(Signal::USR2);
        machine.log.wait_since(mark, &["reload done"]);
        machine.log.wait_since(mark, &[DONE]);
    }
}

#[test]
fn a_bad_file_stops_an_upgrade_before_anything_changes() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 2);
    let before = machine.children();
    machine.write_config("listen: nowhere");
    machine.signal(Signal::USR2);
    machine.log.wait(&[FAILED, "does not accept"]);
    assert_eq!(machine.children(), before);
    for _ in 0..20 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
}

/// Puts something else in the place of a program that runs.
fn replace(scratch: &Scratch, path: &Path, script: &str) {
    fs::rename(scratch.script("new", script), path).expect("renamed");
}

#[test]
fn a_binary_that_does_not_run_changes_nothing() {
    let backend = Named::new("A");
    let scratch = Scratch::new();
    let path = scratch.program("weir", binary());
    let file = config().backend(backend.address());
    let launch = Launch::new(file).program(&path);
    let machine = Machine::launch(launch.argument("--workers").argument("2"));
    let before = machine.children();
    // Not even one that finds everything good.
    for status in [1, 0] {
        replace(&scratch, &path, &format!("exit {status}"));
        let mark = machine.log.mark();
        machine.signal(Signal::USR2);
        machine.log.wait_since(mark, &[FAILED, "does not accept"]);
    }
    fs::remove_file(&path).expect("ours");
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    machine.log.wait_since(mark, &[FAILED, "does not run"]);
    assert_eq!(machine.children(), before);
    machine.replace_worker(0);
    for _ in 0..20 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
}

#[test]
fn workers_of_before_stay_when_the_new_ones_do_not_come_up() {
    let origin = Origin::echo();
    let (mut machine, program) = replaceable(origin.address());
    let before = machine.children();
    let chatter = Chatter::start(machine.address(), 6);
    program.replace_by_one_without_files("");
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    let reason = "the workers of before go on";
    machine.log.wait_since(mark, &[FAILED, reason]);
    chatter.wait_more(100);
    let failures = chatter.finish();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(machine.children(), before);
    let late = Chatter::start(machine.address(), 4);
    allow_files(machine.pid());
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    machine.log.wait_since(mark, &[DONE]);
    drop(late);
    assert_eq!(machine.terminate(), Some(0));
}

#[test]
fn an_upgrade_that_fails_costs_no_worker_that_dies_meanwhile() {
    let backend = Named::new("A");
    let (machine, program) = replaceable(backend.address());
    // The last worker dies as the new program takes over, which can start none.
    let worker = machine.worker(1);
    let kill = format!("kill -9 {worker}");
    let is_dead = "case $it in *') Z '*) break;; esac";
    let wait = format!("while read -r it </proc/{worker}/stat; do {is_dead}; done");
    let first = format!("[ \"$1\" = --succeed ] || {{ {kill}; {wait}; }}");
    program.replace_by_one_without_files(&first);
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    machine
        .log
        .wait_since(mark, &["worker 1 of before: killed by signal 9"]);
    machine
        .log
        .wait_since(mark, &[FAILED, "the workers of before go on"]);
    allow_files(machine.pid());
    machine.wait_children(2);
    assert_eq!(ask(&mut machine.connect()), "A");
}

/// A program that can be replaced while it runs.
struct Program {
    path: PathBuf,
    scratch: Scratch,
}

/// Two workers of such a program.
fn replaceable(backend: SocketAddr) -> (Machine, Program) {
    let scratch = Scratch::new();
    let path = scratch.program("weir", binary());
    let mut file = config().backend(backend);
    if rustix::process::geteuid().is_root() {
        // Only who is the same may change its limits.
        file = file.top("user: root");
    }
    let launch = Launch::new(file).program(&path);
    let machine = Machine::launch(launch.argument("--workers").argument("2"));
    (machine, Program { path, scratch })
}

impl Program {
    /// The one that takes its place runs a line of the shell first, and cannot write a file, not
    /// even one in memory, as workers need.
    fn replace_by_one_without_files(&self, first: &str) {
        let real = self.scratch.program("real", binary());
        let limited = "trap '' XFSZ; ulimit -S -f 0";
        let script = format!("{first}\n{limited}; exec {} \"$@\"", real.display());
        replace(&self.scratch, &self.path, &script);
    }
}

/// Lets a process that runs write files again.
fn allow_files(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("small"));
    let limit = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).expect("ours");
}
