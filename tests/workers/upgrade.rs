//! Another binary in place of this one, without a failed connection.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::chatter::Chatter;
use crate::harness::process::binary;
use crate::harness::{Launch, Load, Named, Origin, Scratch, Signal, ask, eventually};
use crate::machine::{Machine, config, is_there};

const DONE: &str = "upgrade done: ";
const FAILED: &str = "upgrade failed: ";

#[test]
fn the_binary_is_replaced_under_load_and_the_process_stays_the_same() {
    const UPGRADES: usize = 5;
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 3);
    let pid = machine.pid();
    let load = Load::start(machine.address(), 4);
    for _ in 0..UPGRADES {
        let mark = machine.log.mark();
        let before = machine.children();
        machine.signal(Signal::USR2);
        machine.log.wait_since(mark, &[DONE]);
        load.wait_more(30);
        eventually("the workers of before have gone", || {
            before.iter().all(|worker| !is_there(*worker)).then_some(())
        });
    }
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(machine.pid(), pid);
    assert_eq!(machine.children().len(), 3);
}

#[test]
fn sessions_of_the_workers_of_before_go_on() {
    let origin = Origin::echo();
    let mut machine = Machine::start(config().backend(origin.address()), 2);
    let chatter = Chatter::start(machine.address(), 8);
    for _ in 0..2 {
        let mark = machine.log.mark();
        machine.signal(Signal::USR2);
        machine.log.wait_since(mark, &[DONE]);
        chatter.wait_more(200);
    }
    let failures = chatter.finish();
    assert!(failures.is_empty(), "{failures:?}");
    machine.wait_children(2);
    assert_eq!(machine.terminate(), Some(0));
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

/// A copy of the binary that a test may replace.
fn copy(scratch: &Scratch) -> PathBuf {
    let path = scratch.file("weir");
    fs::copy(binary(), &path).expect("it can be copied");
    path
}

/// Puts something else in the place of a program that runs.
fn replace(path: &Path, script: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, script).expect("written");
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755)).expect("ours");
    fs::rename(&fresh, path).expect("renamed");
}

#[test]
fn a_binary_that_does_not_run_changes_nothing() {
    let backend = Named::new("A");
    let scratch = Scratch::new();
    let path = copy(&scratch);
    let file = config().backend(backend.address());
    let launch = Launch::new(file).program(&path);
    let machine = Machine::launch(launch.argument("--workers").argument("2"));
    let before = machine.children();
    // Not even one that finds everything good.
    for status in [1, 0] {
        replace(&path, &format!("#!/bin/sh\nexit {status}\n"));
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
    let scratch = Scratch::new();
    let path = copy(&scratch);
    let mut file = config().backend(origin.address());
    if rustix::process::geteuid().is_root() {
        // Only who is the same may change its limits.
        file = file.top("user: root");
    }
    let launch = Launch::new(file).program(&path);
    let mut machine = Machine::launch(launch.argument("--workers").argument("2"));
    let before = machine.children();
    let chatter = Chatter::start(machine.address(), 6);
    // The new supervisor cannot write a file, not even one in memory, as workers need.
    let real = scratch.file("real");
    fs::copy(binary(), &real).expect("it can be copied");
    let script = format!(
        "trap '' XFSZ; ulimit -S -f 0; exec {} \"$@\"",
        real.display()
    );
    replace(&path, &format!("#!/bin/sh\n{script}\n"));
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

/// Lets a process that runs write files again.
fn allow_files(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("small"));
    let limit = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, limit).expect("ours");
}
