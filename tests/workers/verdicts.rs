//! A verdict says who has done what was asked, who has not, and what becomes of it.

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::harness::{Config, Launch, Named, Origin, Signal, ask};
use crate::machine::{Machine, config, is_there, signal};

fn file(workers: usize, backend: &Named) -> Config {
    let file = config().top(&format!("workers: {workers}"));
    file.backend(backend.address())
}

/// Stops that worker, and waits until the supervisor knows.
fn stop(machine: &Machine, number: usize) -> u32 {
    let mark = machine.log.mark();
    let pid = machine.worker(number);
    signal(pid, Signal::STOP);
    let line = format!("worker {number}: stopped");
    machine.log.wait_since(mark, &[&line]);
    pid
}

#[test]
fn a_reload_names_the_worker_that_is_stopped_and_takes_it_on_later() {
    let [a, b] = ["A", "B"].map(Named::new);
    let machine = Machine::start(config().backend(a.address()), 4);
    let pid = stop(&machine, 2);
    let mark = machine.log.mark();
    machine.write_config(config().backend(b.address()));
    machine.signal(Signal::HUP);
    let it = format!("worker 2 (process {pid}) is stopped and takes it on when it goes on");
    machine.log.wait_since(
        mark,
        &["reload done by 3 of 4 workers: 1 backend added", &it],
    );
    for _ in 0..20 {
        assert_eq!(ask(&mut machine.connect()), "B");
    }
    let mark = machine.log.mark();
    signal(pid, Signal::CONT);
    machine
        .log
        .wait_since(mark, &["worker 2: has taken the configuration on"]);
    machine.reload(config().backend(b.address()));
    machine
        .log
        .wait_since(mark, &["reload done by all 4 workers"]);
}

#[test]
fn a_worker_no_longer_wanted_that_is_stopped_holds_up_nobody() {
    let a = Named::new("A");
    let machine = Machine::launch(Launch::new(file(3, &a)));
    let pid = stop(&machine, 2);
    let mark = machine.log.mark();
    machine.write_config(file(2, &a));
    machine.signal(Signal::HUP);
    let it = format!("worker 2 (process {pid}), no longer wanted, is stopped");
    machine
        .log
        .wait_since(mark, &["reload done by all 2 workers", &it]);
    signal(pid, Signal::CONT);
    machine.wait_children(2);
}

#[test]
fn an_upgrade_names_the_worker_of_before_that_is_stopped() {
    let origin = Origin::echo();
    let machine = Machine::start(config().backend(origin.address()), 2);
    let pid = stop(&machine, 1);
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    let it = format!("worker 1 (process {pid}) of before is stopped and leaves when it goes on");
    machine.log.wait_since(mark, &["upgrade done", &it]);
    assert!(is_there(pid));
    signal(pid, Signal::CONT);
    machine.wait_children(2);
}

#[test]
fn a_reload_that_cannot_be_handed_over_changes_nothing() {
    let [a, b] = ["A", "B"].map(Named::new);
    let old = of_our_own(config().backend(a.address()));
    let new = of_our_own(config().backend(b.address()));
    let new = new.top("access_log: {path: /dev/null}");
    let machine = Machine::start(old, 2);
    let (_, most) = machine.descriptor_limits();
    // The access log gets the last descriptor, and the configuration none.
    leave_descriptors(machine.pid(), 1, most);
    let mark = machine.log.mark();
    machine.write_config(new);
    machine.signal(Signal::HUP);
    machine
        .log
        .wait_since(mark, &["reload failed, nothing changed", "no memory"]);
    limit_descriptors(machine.pid(), most, most);
    for number in 0..2 {
        machine.replace_worker(number);
    }
    for _ in 0..20 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
}

#[test]
fn a_reload_names_the_worker_that_cannot_be_started() {
    let a = Named::new("A");
    let machine = Machine::launch(Launch::new(of_our_own(file(2, &a))));
    let (_, most) = machine.descriptor_limits();
    // One for the socket of the third worker, one for the configuration, none for the worker.
    leave_descriptors(machine.pid(), 2, most);
    let mark = machine.log.mark();
    machine.write_config(of_our_own(file(3, &a)));
    machine.signal(Signal::HUP);
    let it = "worker 2 does not come up: cannot be started: ";
    machine
        .log
        .wait_since(mark, &["reload done by 2 of 3 workers", it]);
    limit_descriptors(machine.pid(), most, most);
    machine.wait_children(3);
    machine.reload(of_our_own(file(3, &a)));
    machine
        .log
        .wait_since(mark, &["reload done by all 3 workers"]);
}

/// Only who is the same may change the limits of a process.
fn of_our_own(config: Config) -> Config {
    if rustix::process::geteuid().is_root() {
        config.top("user: root")
    } else {
        config
    }
}

/// Lets a process open so many descriptors more.
fn leave_descriptors(pid: u32, count: usize, most: u64) {
    let mut free = (3..).filter(|&fd| !is_open(pid, fd));
    let first_beyond = free.nth(count).expect("there is a number");
    limit_descriptors(pid, first_beyond, most);
}

fn is_open(pid: u32, fd: u64) -> bool {
    std::fs::symlink_metadata(format!("/proc/{pid}/fd/{fd}")).is_ok()
}

fn limit_descriptors(pid: u32, current: u64, most: u64) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("small"));
    let limit = Rlimit {
        current: Some(current),
        maximum: Some(most),
    };
    prlimit(pid, Resource::Nofile, limit).expect("ours");
}
