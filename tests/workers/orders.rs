//! `weir -s`: an order, and an exit status that tells what came of it.

use std::ffi::OsStr;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use crate::admin::ctl;
use crate::harness::process::Finished;
use crate::harness::{
    Config, Launch, Load, Named, Peer, Scratch, Signal, ask, eventually, run, skip,
};
use crate::machine::{Machine, config, is_there, signal, status};

/// A user who is neither root nor the one that weir becomes.
const STRANGER: u32 = 12_345;
/// Orders that are given at the same moment.
const AT_ONCE: usize = 40;

struct Ordered {
    machine: Machine,
    pid_file: PathBuf,
    _scratch: Scratch,
}

fn start(workers: &str, backend: &Named) -> Ordered {
    let file = config().backend(backend.address());
    start_with(file, &["--workers", workers])
}

fn start_with(file: Config, arguments: &[&str]) -> Ordered {
    let scratch = Scratch::new();
    let pid_file = scratch.file("weir.pid");
    let launch = Launch::new(file).open_to_all();
    let launch = arguments.iter().fold(launch, |it, word| it.argument(word));
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

    /// Gives these orders at the same moment.
    fn order_at_once(&self, words: &[&'static str]) -> Vec<(&'static str, Finished)> {
        std::thread::scope(|scope| {
            let give = |&word| scope.spawn(move || (word, self.order(word)));
            let given: Vec<_> = words.iter().map(give).collect();
            let join = |it: std::thread::ScopedJoinHandle<'_, _>| it.join().expect("it ends");
            given.into_iter().map(join).collect()
        })
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
    // Both came in at the door, and what came of them from where that had ended.
    assert_eq!(ordered.machine.log.count(&["admin: upgrade, by user"]), 2);
    assert_eq!(ask(&mut ordered.machine.connect()), "A");
    assert_eq!(ordered.order("reopen").code, Some(0));
    assert_eq!(ordered.order("quit").code, Some(0));
    assert_eq!(ordered.machine.wait_exit(), Some(0));
    let late = ordered.order("reload");
    assert_eq!(late.code, Some(3), "{late:?}");
}

#[test]
fn a_stopped_process_at_the_door_keeps_nobody_waiting() {
    let a = Named::new("A");
    let ordered = start("2", &a);
    let attendant = eventually("somebody serves the door", || ordered.machine.attendant());
    signal(attendant, Signal::STOP);
    let socket = ordered.pid_file.with_extension("sock");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ctl(&socket, &["status"]));
        // It goes the other way.
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(0), "{reload:?}");
        let asked = asked.join().expect("it ends");
        assert_eq!(asked.code, Some(1), "{asked:?}");
        assert!(asked.stderr.contains("is stopped, or hangs"), "{asked:?}");
    });
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

#[test]
fn a_verdict_tells_all_that_is_wrong_with_a_file_or_counts_it() {
    for workers in ["1", "2"] {
        let a = Named::new("A");
        let ordered = start(workers, &a);
        let bad = "listen: nowhere\nbackends: [a:1]\nsurprise: 1\nother: 2\n";
        ordered.machine.write_config(bad);
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(1), "{reload:?}");
        for part in ["3 problems", "weir.yaml:1:", "weir.yaml:3:", "weir.yaml:4:"] {
            assert!(reload.stderr.contains(part), "{part}: {reload:?}");
        }
        let many: String = (0..50).map(|n| format!("surprise{n}: 1\n")).collect();
        ordered.machine.write_config(many);
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(1), "{reload:?}");
        // The verdict may be here before the last lines of the log.
        ordered.machine.log.wait(&["51 problems found"]);
        let told = reload.stderr.matches("weir.yaml:").count();
        let problems = ordered.machine.log.count(&["weir.yaml:"]) - 3;
        let rest = format!("{} more are in the log", problems - told);
        assert!((5..problems).contains(&told), "{reload:?}");
        assert!(reload.stderr.contains(&rest), "{rest}: {reload:?}");
        assert_eq!(ask(&mut ordered.machine.connect()), "A");
    }
}

#[test]
fn a_reload_does_not_wait_for_who_writes_to_a_pipe() {
    let [a, b] = ["A", "B"].map(Named::new);
    for workers in ["1", "2"] {
        let ordered = start(workers, &a);
        let file = ordered.machine.file().to_path_buf();
        let good = std::fs::read_to_string(&file).expect("it was written");
        std::fs::remove_file(&file).expect("it is there");
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        assert!(made.is_ok_and(|status| status.success()));
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(1), "{reload:?}");
        assert!(reload.stderr.contains("no regular file"), "{reload:?}");
        std::fs::remove_file(&file).expect("it is there");
        let next = good.replace(&a.address().to_string(), &b.address().to_string());
        std::fs::write(&file, next).expect("there is room");
        assert_eq!(ordered.order("reload").code, Some(0));
        assert_eq!(ask(&mut ordered.machine.connect()), "B");
    }
}

#[test]
fn a_verdict_tells_what_has_changed_and_what_has_not_yet() {
    for workers in ["1", "2"] {
        let [a, b] = ["A", "B"].map(Named::new);
        let ordered = start(workers, &a);
        let file = config().top("buffers: {size: 32KiB}").checked("path: /");
        ordered.machine.write_config(file.backend(b.address()));
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(0), "{reload:?}");
        let changes = "1 backend added, 1 removed; 0 listeners added, 0 removed; 1 check added";
        let later = "`buffers` counts from the next start";
        let whose = ["; top level: buffers; upstream ", ": health_check"];
        for part in [changes, later].iter().chain(&whose) {
            assert!(reload.stderr.contains(part), "{part}: {reload:?}");
        }
    }
}

#[test]
fn a_process_on_its_own_says_what_makes_several_of_it() {
    let a = Named::new("A");
    let file = |workers| {
        let file = config().top(&format!("workers: {workers}"));
        file.backend(a.address())
    };
    let ordered = start_with(file(1), &[]);
    for wanted in [file(2), file(1).top("supervisor: on")] {
        ordered.machine.write_config(wanted);
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(0), "{reload:?}");
        assert!(reload.stderr.contains("`supervisor: on`"), "{reload:?}");
    }
    let upgrade = ordered.order("upgrade");
    assert_eq!(upgrade.code, Some(1), "{upgrade:?}");
    assert!(upgrade.stderr.contains("`supervisor: on`"), "{upgrade:?}");
    assert_eq!(ordered.machine.children(), Vec::<u32>::new());
}

#[test]
fn a_supervisor_of_one_worker_makes_way_and_takes_on_more() {
    let a = Named::new("A");
    let file = |workers| {
        let file = config().top(&format!("workers: {workers}"));
        file.top("supervisor: on").backend(a.address())
    };
    let ordered = start_with(file(1), &[]);
    ordered.machine.wait_children(1);
    let load = Load::start(ordered.machine.address(), 2);
    let upgrade = ordered.order("upgrade");
    assert_eq!(upgrade.code, Some(0), "{upgrade:?}");
    ordered.machine.wait_children(1);
    for workers in [3, 1] {
        ordered.machine.write_config(file(workers));
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(0), "{reload:?}");
        ordered.machine.wait_children(workers);
        load.wait_more(20);
    }
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    // One CPU is one process, whatever the file says.
    let alone = start_with(file(1), &["--cpu", "0"]);
    assert_eq!(ask(&mut alone.machine.connect()), "A");
    assert_eq!(alone.machine.children(), Vec::<u32>::new());
}

#[test]
fn of_many_orders_at_once_each_has_a_verdict() {
    for workers in ["1", "3"] {
        let a = Named::new("A");
        let ordered = start(workers, &a);
        for (_, reload) in ordered.order_at_once(&["reload"; AT_ONCE]) {
            assert_eq!(reload.code, Some(0), "{reload:?}");
            assert!(reload.stderr.contains("reload done"), "{reload:?}");
        }
    }
}

#[test]
fn orders_during_an_upgrade_have_a_verdict_too() {
    let a = Named::new("A");
    let ordered = start("2", &a);
    let mark = ordered.machine.log.mark();
    let outcomes = std::thread::scope(|scope| {
        let upgrade = scope.spawn(|| ordered.order("upgrade"));
        ordered.machine.log.wait_since(mark, &["upgrade: trying"]);
        let reloads = ordered.order_at_once(&["reload"; 10]);
        let upgrade = upgrade.join().expect("it ends");
        assert_eq!(upgrade.code, Some(0), "{upgrade:?}");
        reloads
    });
    for (_, reload) in outcomes {
        assert_eq!(reload.code, Some(0), "{reload:?}");
    }
    // Whatever the order in which they arrive.
    for (word, outcome) in ordered.order_at_once(&["upgrade", "reload", "upgrade", "reload"]) {
        let is_told = outcome.stderr.contains(&format!("{word} done"))
            || outcome.stderr.contains(&format!("{word} failed: busy"));
        assert!(is_told, "{outcome:?}");
    }
}

#[test]
fn a_second_order_to_quit_hurries_nobody() {
    for workers in ["1", "3"] {
        let a = Named::new("A");
        let mut ordered = start(workers, &a);
        let mut held = ordered.machine.connect();
        assert_eq!(ask(&mut held), "A");
        let quits = std::thread::scope(|scope| {
            let quits = scope.spawn(|| ordered.order_at_once(&["quit", "quit"]));
            eventually("both have arrived", || {
                let arrived = ordered.machine.log.count(&["admin: quit, by user"]);
                (arrived == 2).then_some(())
            });
            // Whatever came of both has come by the time of this verdict.
            assert_eq!(ordered.order("reload").code, Some(1));
            held.send("still here");
            held.expect("still here");
            held.finish();
            held.expect_end();
            quits.join().expect("they end")
        });
        for (_, quit) in quits {
            assert_eq!(quit.code, Some(0), "{quit:?}");
            assert!(quit.stderr.contains("has ended"), "{quit:?}");
        }
        assert_eq!(ordered.machine.wait_exit(), Some(0));
    }
}

#[test]
fn an_order_to_stop_ends_what_an_order_to_quit_waits_for() {
    for workers in ["1", "3"] {
        let a = Named::new("A");
        let mut ordered = start(workers, &a);
        let mut held = ordered.machine.connect();
        assert_eq!(ask(&mut held), "A");
        std::thread::scope(|scope| {
            let quit = scope.spawn(|| ordered.order("quit"));
            ordered.machine.log.wait(&["admin: quit, by user"]);
            assert_eq!(ordered.order("stop").code, Some(0));
            assert_eq!(quit.join().expect("it ends").code, Some(0));
        });
        assert_eq!(ordered.machine.wait_exit(), Some(1), "a session was cut");
    }
}

#[test]
fn without_a_door_orders_go_to_the_process_itself() {
    for workers in ["1", "3"] {
        let a = Named::new("A");
        let file = config().top("admin: off").backend(a.address());
        let mut ordered = start_with(file, &["--workers", workers]);
        // That of somebody else.
        let socket = ordered.pid_file.with_extension("sock");
        let _other = UnixListener::bind(&socket).expect("the name is free");
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(0), "{reload:?}");
        ordered.machine.log.wait(&["order: reload"]);
        assert_eq!(ordered.order("reopen").code, Some(0));
        ordered.machine.write_config("listen: nowhere");
        assert_eq!(ordered.order("reload").code, Some(1));
        assert_eq!(ordered.order("quit").code, Some(0));
        assert_eq!(ordered.machine.wait_exit(), Some(0));
    }
}

#[test]
fn another_user_is_refused_and_fills_no_log() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can start a process of another user");
    }
    for workers in ["1", "3"] {
        let a = Named::new("A");
        let ordered = start(workers, &a);
        for word in ["reload", "quit", "stop"] {
            let sender = Launch::new(config().backend(a.address())).user(STRANGER);
            let sender = sender.argument("-s").argument(word);
            let mut sender = sender.argument("-p").argument(&ordered.pid_file).spawn();
            assert_eq!(sender.wait_exit(), Some(1));
            sender.log.wait(&["only root and the user"]);
        }
        assert_eq!(ask(&mut ordered.machine.connect()), "A");
        assert_eq!(ordered.order("reload").code, Some(0));
        let lines = &ordered.machine.log;
        lines.wait(&["admin: reload, by user"]);
        assert_eq!(lines.count(&["of another user was refused"]), 1);
        assert_eq!(lines.count(&["admin: reload, by user"]), 1, "ours");
        assert_eq!(lines.count(&["order: "]), 0);
    }
}

#[test]
fn a_worker_that_is_stopped_is_named_and_takes_the_file_on_later() {
    let [a, b] = ["A", "B"].map(Named::new);
    let ordered = start("3", &a);
    ordered.machine.signal_worker(1, Signal::STOP);
    ordered.machine.log.wait(&["worker 1: stopped"]);
    ordered.machine.write_config(config().backend(b.address()));
    let reload = ordered.order("reload");
    assert_eq!(reload.code, Some(1), "{reload:?}");
    let process = ordered.machine.worker(1);
    for part in [
        "reload done by 2 of 3 workers".to_owned(),
        format!("worker 1 (process {process}) is stopped"),
    ] {
        assert!(reload.stderr.contains(&part), "{reload:?}");
    }
    ordered.machine.signal_worker(1, Signal::CONT);
    ordered.machine.log.wait(&["worker 1: goes on"]);
    let reload = ordered.order("reload");
    assert_eq!(reload.code, Some(0), "{reload:?}");
    eventually("the worker has taken the file on", || {
        let all_b = || (0..20).all(|_| ask(&mut ordered.machine.connect()) == "B");
        all_b().then_some(())
    });
}

#[test]
fn the_pid_file_is_whose_lock_it_is_whatever_it_says() {
    let a = Named::new("A");
    let mut ordered = start("2", &a);
    let pid = ordered.machine.pid();
    let worker = ordered.machine.worker(0);
    // In place, not by another file.
    std::fs::write(&ordered.pid_file, format!("{worker}\n")).expect("it may be written");
    assert_eq!(ordered.order("reload").code, Some(0));
    assert_eq!(ordered.order("upgrade").code, Some(0));
    assert_eq!(ordered.machine.pid(), pid);
    // The program that has taken over holds it as well.
    let scratch = Scratch::new();
    let program = scratch.program("balancer", crate::harness::process::binary());
    let second = Launch::new(config().backend(a.address())).program(&program);
    let mut second = second.argument("-p").argument(&ordered.pid_file).spawn();
    assert_eq!(second.wait_exit(), Some(4));
    second
        .log
        .wait(&[&format!("process {pid} is another weir")]);
    assert_eq!(ordered.order("quit").code, Some(0));
    assert_eq!(ordered.machine.wait_exit(), Some(0));
}

#[test]
fn a_pid_file_that_nobody_holds_names_nobody() {
    let a = Named::new("A");
    let ordered = start("2", &a);
    let scratch = Scratch::new();
    for pid in [ordered.machine.pid(), ordered.machine.worker(1)] {
        let path = scratch.write("other.pid", format!("{pid}\n"));
        let words = ["-s", "stop", "-p"].map(OsStr::new);
        let done = run(&[words[0], words[1], words[2], path.as_os_str()]);
        assert_eq!(done.code, Some(3), "{done:?}");
    }
    assert_eq!(ask(&mut ordered.machine.connect()), "A");
}

#[test]
fn the_file_of_a_weir_under_another_name_is_not_taken() {
    let (a, scratch) = (Named::new("A"), Scratch::new());
    let program = scratch.program("balancer", crate::harness::process::binary());
    let pid_file = scratch.file("weir.pid");
    let launch = || {
        let launch = Launch::new(config().backend(a.address())).program(&program);
        launch.argument("-p").argument(&pid_file)
    };
    let first = launch().start();
    let mut second = launch().spawn();
    assert_eq!(second.wait_exit(), Some(4));
    let text = std::fs::read_to_string(&pid_file).expect("it is still there");
    assert_eq!(text.trim(), first.pid().to_string());
}

/// Kills the supervisor and waits until its workers, which are given back, know.
fn orphan(ordered: &mut Ordered) -> Vec<u32> {
    let workers = ordered.machine.children();
    ordered.machine.signal(Signal::KILL);
    ordered.machine.wait_status();
    eventually("all have heard of it", || {
        let told = ordered.machine.log.count(&["serving on without it"]);
        (told == workers.len()).then_some(())
    });
    workers
}

#[test]
fn workers_that_have_lost_their_supervisor_are_found_and_ended() {
    let a = Named::new("A");
    for word in ["quit", "stop"] {
        let mut ordered = start("3", &a);
        let workers = orphan(&mut ordered);
        let reload = ordered.order("reload");
        assert_eq!(reload.code, Some(3), "{reload:?}");
        assert!(reload.stderr.contains("workers of it (3) serve on"));
        assert_eq!(ask(&mut ordered.machine.connect()), "A");
        let ended = ordered.order(word);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("its workers (3) have ended"));
        assert!(!workers.iter().any(|it| is_there(*it)));
        assert_eq!(ordered.order(word).code, Some(3));
    }
}

#[test]
fn a_stopped_worker_that_has_lost_its_supervisor_is_ended_too() {
    let [a, b] = ["A", "B"].map(Named::new);
    for word in ["quit", "stop"] {
        let mut ordered = start("3", &a);
        let workers = orphan(&mut ordered);
        stop_and_wait(workers[1]);
        let ended = ordered.order(word);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(!workers.iter().any(|it| is_there(*it)));
    }
    let mut ordered = start("3", &a);
    let workers = orphan(&mut ordered);
    stop_and_wait(workers[1]);
    let next = successor(&ordered, "2", &b);
    next.log.wait(&["taking over from 3 workers"]);
    eventually("the stopped one ends too", || {
        (!workers.iter().any(|it| is_there(*it))).then_some(())
    });
    assert_eq!(ask(&mut next.connect()), "B");
}

/// Stops a process, and waits until it is.
fn stop_and_wait(pid: u32) {
    signal(pid, Signal::STOP);
    eventually("it stands still", || {
        status(pid, "State:").starts_with('T').then_some(())
    });
}

#[test]
fn workers_are_still_found_after_a_start_that_failed() {
    let a = Named::new("A");
    let mut ordered = start("2", &a);
    let workers = orphan(&mut ordered);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let file = crate::harness::Config::on(&address).backend(a.address());
    let mut failed = Launch::new(file)
        .argument("-p")
        .argument(&ordered.pid_file)
        .spawn();
    assert_eq!(failed.wait_exit(), Some(3));
    let ended = ordered.order("quit");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("its workers (2) have ended"));
    assert!(!workers.iter().any(|it| is_there(*it)));
}

/// Starts another weir on the same address and pid file.
fn successor(ordered: &Ordered, workers: &str, backend: &Named) -> Machine {
    let address = ordered.machine.address();
    let file = crate::harness::Config::on(&address.to_string());
    let launch = Launch::new(file.backend(backend.address())).open_to_all();
    let launch = launch.argument("--workers").argument(workers);
    Machine::launch(launch.argument("-p").argument(&ordered.pid_file))
}

#[test]
fn a_weir_that_starts_takes_over_from_workers_that_lost_their_supervisor() {
    let [a, b] = ["A", "B"].map(Named::new);
    for workers in ["1", "2"] {
        let mut ordered = start("3", &a);
        let orphans = orphan(&mut ordered);
        let address = ordered.machine.address();
        let next = successor(&ordered, workers, &b);
        next.log.wait(&["taking over from 3 workers"]);
        eventually("the old ones end", || {
            orphans.iter().all(|it| !is_there(*it)).then_some(())
        });
        for _ in 0..20 {
            let mut client = Peer::connect(address).expect("it listens");
            assert_eq!(ask(&mut client), "B");
        }
    }
}
