//! What is changed by hand is kept in a file: who has it, what outlives what, and what becomes of
//! a file that is broken.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use crate::admin::ctl;
use crate::harness::process::Finished;
use crate::harness::{Launch, Named, Scratch, Signal, ask};
use crate::machine::{Machine, config};

const KINDS: [&str; 2] = ["1", "3"];

/// Two backends, and a folder for the state.
struct Stage {
    scratch: Scratch,
    backends: [Named; 2],
    workers: &'static str,
}

impl Stage {
    fn new(workers: &'static str) -> Self {
        let scratch = Scratch::new();
        let folder = scratch.file("state");
        fs::create_dir(&folder).expect("there is room");
        // It is to become another user, if it is root.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).expect("ours");
        Self {
            scratch,
            backends: ["A", "B"].map(Named::new),
            workers,
        }
    }

    fn file(&self) -> PathBuf {
        self.scratch.file("state/weir.state")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).expect("it is there")
    }

    fn launch(&self, name: &str) -> Launch {
        let [a, b] = &self.backends;
        let file = config().top(&format!("state: {}", self.file().display()));
        let file = file.backend_with(a.address(), "id: a");
        let launch = Launch::new(file.backend_with(b.address(), "id: b")).open_to_all();
        let launch = launch.argument("--workers").argument(self.workers);
        launch.argument("-p").argument(self.scratch.file(name))
    }

    fn start(&self) -> Machine {
        Machine::launch(self.launch("weir.pid"))
    }

    fn ctl(&self, words: &[&str]) -> Finished {
        ctl(&self.scratch.file("weir.sock"), words)
    }
}

fn names(machine: &Machine) -> Vec<String> {
    (0..10).map(|_| ask(&mut machine.connect())).collect()
}

#[test]
fn it_outlives_a_restart_and_a_crash() {
    for workers in KINDS {
        let stage = Stage::new(workers);
        let mut machine = stage.start();
        assert_eq!(stage.ctl(&["drain", "pool/a"]).code, Some(0));
        assert_eq!(stage.ctl(&["weight", "pool/b", "7"]).code, Some(0));
        assert_eq!(machine.terminate(), Some(0));
        let mut machine = stage.start();
        machine
            .log
            .wait(&["weir.state: 2 changes by hand taken from it"]);
        assert_eq!(names(&machine), ["B"; 10]);
        let status = stage.ctl(&["status", "--json"]).stdout;
        assert!(
            status.contains("\"configured_weight\":1,\"weight\":7"),
            "{status}"
        );
        machine.signal(Signal::KILL);
        machine.wait_status();
        let machine = stage.start();
        assert_eq!(names(&machine), ["B"; 10]);
        assert_eq!(stage.ctl(&["reload", "--reset"]).code, Some(0));
        assert!(!stage.text().contains("steer"), "{}", stage.text());
        assert!(names(&machine).iter().any(|name| name == "A"));
        assert_eq!(machine.log.count(&["sandbox refused"]), 0);
    }
}

#[test]
fn an_upgrade_keeps_the_file_and_its_lock() {
    let stage = Stage::new("2");
    let machine = stage.start();
    assert_eq!(stage.ctl(&["drain", "pool/a"]).code, Some(0));
    machine.signal(Signal::USR2);
    machine.log.wait(&["upgrade done: "]);
    assert_eq!(names(&machine), ["B"; 10]);
    assert_eq!(stage.ctl(&["disable", "pool/a"]).code, Some(0));
    assert!(stage.text().contains("steer pool a disabled -"));
    let mut second = stage.launch("second.pid").spawn();
    assert_eq!(second.wait_exit(), Some(4));
}

#[test]
fn one_weir_has_it_and_another_is_told_which() {
    for workers in KINDS {
        let stage = Stage::new(workers);
        let machine = stage.start();
        let mut second = stage.launch("second.pid").spawn();
        assert_eq!(second.wait_exit(), Some(4));
        let holder = format!("process {} is another weir", machine.pid());
        second.log.wait(&["weir.state", &holder]);
        assert_eq!(names(&machine).len(), 10);
    }
}

#[test]
fn a_broken_file_is_put_aside() {
    for workers in KINDS {
        for text in [
            "nonsense",
            "weir state 2\nend 0\n",
            "weir state 1\nend 0\n",
            "",
        ] {
            let stage = Stage::new(workers);
            fs::write(stage.file(), text).expect("there is room");
            // Whoever weir becomes must be able to read it.
            fs::set_permissions(stage.file(), fs::Permissions::from_mode(0o644)).expect("ours");
            let machine = stage.start();
            machine
                .log
                .wait(&["WARN", "weir.state: it ", "put aside as "]);
            let aside = stage.scratch.file("state/weir.state.broken");
            assert_eq!(fs::read_to_string(aside).expect("it is there"), text);
            assert_eq!(stage.ctl(&["drain", "pool/b"]).code, Some(0));
            assert!(stage.text().contains("steer pool b draining -"));
        }
    }
}

#[test]
fn a_file_that_cannot_be_had_ends_the_start_where_it_was_asked_for() {
    let stage = Stage::new("1");
    fs::create_dir(stage.scratch.file("state/weir.state.lock")).expect("there is room");
    let mut weir = stage.launch("weir.pid").spawn();
    assert_eq!(weir.wait_exit(), Some(3));
    weir.log.wait(&["state: ", "`state: memory` does without"]);
}

#[test]
fn what_cannot_be_written_counts_and_says_so() {
    for workers in KINDS {
        let stage = Stage::new(workers);
        let machine = stage.start();
        fs::create_dir_all(stage.scratch.file("state/weir.state.new/x")).expect("there is room");
        let told = stage.ctl(&["drain", "pool/a"]);
        assert_eq!(told.code, Some(0), "{told:?}");
        assert!(
            told.stdout.contains("it counts until weir ends"),
            "{told:?}"
        );
        assert_eq!(names(&machine), ["B"; 10]);
    }
}
