//! Workers in a root folder of their own (`chroot`), under a supervisor that is outside.

use std::fs;
use std::path::PathBuf;

use crate::harness::{Launch, Named, Scratch, Signal, ask, eventually, skip};
use crate::machine::{Machine, config, status};

const WORKERS: usize = 2;
/// `CAP_SYS_CHROOT`.
const MAY_CHROOT: u64 = 1 << 18;

/// Nowhere, of one that has ended meanwhile.
fn root_of(pid: u32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/root")).unwrap_or_default()
}

fn capabilities(pid: u32) -> u64 {
    u64::from_str_radix(&status(pid, "CapPrm:"), 16).expect("a number")
}

#[test]
fn workers_are_in_their_root_folder_through_reloads_deaths_and_upgrades() {
    if !rustix::process::geteuid().is_root() {
        skip("only root may change the root folder");
        return;
    }
    let jail = Scratch::new();
    let folder = jail.file("").canonicalize().expect("it is there");
    let [a, b] = ["A", "B"].map(Named::new);
    let with = |backend: &Named| {
        let top = format!("chroot: {}", folder.display());
        config().top(&top).backend(backend.address())
    };
    let machine = Machine::start(with(&a), WORKERS);
    let wait_until_inside = || {
        eventually("all workers are inside and have given up the rest", || {
            let workers = machine.children();
            let is_inside = |&pid: &u32| root_of(pid) == folder && capabilities(pid) == 0;
            (workers.len() == WORKERS && workers.iter().all(is_inside)).then_some(())
        });
    };
    wait_until_inside();
    assert_eq!(root_of(machine.pid()), PathBuf::from("/"));
    assert_ne!(capabilities(machine.pid()) & MAY_CHROOT, 0);
    assert_eq!(ask(&mut machine.connect()), "A");

    // The file lies outside, where the supervisor reads it.
    machine.reload(with(&b));
    assert_eq!(ask(&mut machine.connect()), "B");
    machine.replace_worker(1);
    wait_until_inside();

    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    machine.log.wait_since(mark, &["upgrade done"]);
    wait_until_inside();
    assert_eq!(ask(&mut machine.connect()), "B");
}

#[test]
fn a_root_folder_counts_from_the_next_start() {
    let backend = Named::new("A");
    let file = config().backend(backend.address());
    let machine = Machine::start(&file, WORKERS);
    let mark = machine.log.mark();
    machine.reload(file.top("chroot: /proc"));
    machine.log.wait_since(mark, &["count from the next start"]);
    machine.replace_worker(0);
    assert_eq!(ask(&mut machine.connect()), "A");
}

#[test]
fn who_is_not_root_is_told_that_workers_cannot_enter_a_folder() {
    let mut launch = Launch::new(config().top("chroot: /").backend("127.0.0.1:1"));
    if rustix::process::geteuid().is_root() {
        launch = launch.user(12_345);
    }
    let mut weir = launch.argument("--workers").argument("2").spawn();
    assert_eq!(weir.wait_exit(), Some(3));
    weir.log.wait(&["cannot make / the root folder"]);
}
