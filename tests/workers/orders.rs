//! `weir -s`: an order, and an exit status that tells what came of it.

use std::ffi::OsStr;
use std::path::PathBuf;

use crate::harness::process::Finished;
use crate::harness::{Launch, Named, Scratch, ask, run};
use crate::machine::{Machine, config};

struct Ordered {
    machine: Machine,
    pid_file: PathBuf,
    _scratch: Scratch,
}

fn start(workers: &str, backend: &Named) -> Ordered {
    let scratch = Scratch::new();
    let pid_file = scratch.file("weir.pid");
    let launch = Launch::new(config().backend(backend.address())).open_to_all();
    let launch = launch.argument("--workers").argument(workers);
    let launch = launch.argument("-p").argument(&pid_file);
    Ordered {
        machine: Machine::launch(launch),
        pid_file,
        _scratch: scratch,
    }
}

impl Ordered {
    fn order(&self, word: &str) -> Finished {
        let path = self.pid_file.as_os_str();
        run(&[OsStr::new("-s"), OsStr::new(word), OsStr::new("-p"), path])
    }
}

#[test]
fn orders_to_several_workers_tell_what_came_of_them() {
    let [a, b] = ["A", "B"].map(Named::new);
    let mut ordered = start("3", &a);
    ordered.machine.write_config(config().backend(b.address()));
    let reload = ordered.order("reload");
    assert_eq!(reload.code, Some(0), "{reload:?}");
    assert!(reload.stderr.contains("reload done by all 3 workers"));
    assert_eq!(ask(&mut ordered.machine.connect()), "B");
    ordered.machine.write_config("listen: nowhere");
    let reload = ordered.order("reload");
    assert_eq!(reload.code, Some(1), "{reload:?}");
    assert!(reload.stderr.contains("nothing changed"), "{reload:?}");
    let upgrade = ordered.order("upgrade");
    assert_eq!(upgrade.code, Some(1), "{upgrade:?}");
    ordered.machine.write_config(config().backend(a.address()));
    let upgrade = ordered.order("upgrade");
    assert_eq!(upgrade.code, Some(0), "{upgrade:?}");
    assert!(upgrade.stderr.contains("upgrade done"), "{upgrade:?}");
    assert_eq!(ask(&mut ordered.machine.connect()), "A");
    assert_eq!(ordered.order("reopen").code, Some(0));
    assert_eq!(ordered.order("quit").code, Some(0));
    assert_eq!(ordered.machine.wait_exit(), Some(0));
    let late = ordered.order("reload");
    assert_eq!(late.code, Some(3), "{late:?}");
}

#[test]
fn orders_to_a_process_on_its_own_do_too() {
    let [a, b] = ["A", "B"].map(Named::new);
    let mut ordered = start("1", &a);
    assert_eq!(ordered.machine.children(), Vec::<u32>::new());
    ordered.machine.write_config(config().backend(b.address()));
    assert_eq!(ordered.order("reload").code, Some(0));
    assert_eq!(ask(&mut ordered.machine.connect()), "B");
    ordered.machine.write_config("listen: nowhere");
    assert_eq!(ordered.order("reload").code, Some(1));
    assert_eq!(ordered.order("reopen").code, Some(0));
    let upgrade = ordered.order("upgrade");
    assert_eq!(upgrade.code, Some(1), "{upgrade:?}");
    assert!(upgrade.stderr.contains("workers"), "{upgrade:?}");
    let mut held = ordered.machine.connect();
    assert_eq!(ask(&mut held), "B");
    assert_eq!(ordered.order("stop").code, Some(0));
    assert_eq!(ordered.machine.wait_exit(), Some(1), "a session was cut");
}
