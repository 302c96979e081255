//! Several workers serve as one.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::log::STATISTICS;
use crate::harness::{
    Launch, Named, Origin, Peer, Scratch, Signal, ask, eventually, observe, skip,
};
use crate::machine::{Machine, config, status};

#[test]
fn shares_are_exact_over_all_workers() {
    let backends = ["A", "B", "C"].map(Named::new);
    let weights = [5, 3, 2];
    let mut file = config();
    for (backend, weight) in backends.iter().zip(weights) {
        file = file.backend_with(backend.address(), &format!("weight: {weight}"));
    }
    let machine = Machine::start(file, 4);
    for round in 1..=8 {
        for _ in 0..10 {
            ask(&mut machine.connect());
        }
        let asked: Vec<usize> = backends.iter().map(Named::asked).collect();
        assert_eq!(asked, weights.map(|weight| weight * round));
    }
}

#[test]
fn every_worker_has_a_cpu_one_thread_and_a_share_of_the_clients() {
    let origin = Origin::echo();
    let machine = Machine::start(config().backend(origin.address()), 4);
    let clients: Vec<_> = (0..200).map(|_| machine.connect()).collect();
    eventually("all clients are relayed", || {
        (origin.accepted() == clients.len()).then_some(())
    });
    assert_eq!(machine.children().len(), 4);
    for number in 0..4 {
        let pid = machine.worker(number);
        assert_eq!(status(pid, "Threads:"), "1");
        assert_eq!(status(pid, "Name:"), "weir");
        assert!(status(pid, "Cpus_allowed_list:").parse::<usize>().is_ok());
        let sockets = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
        // Fewer than the 4 listening sockets and what it starts with would mean no client.
        assert!(sockets.count() > 20, "worker {number} has no clients");
    }
}

#[test]
fn statistics_are_those_of_the_whole_machine() {
    let origin = Origin::echo();
    let file = config()
        .top("stats_interval: 100ms")
        .backend(origin.address());
    let machine = Machine::start(file, 3);
    let clients: Vec<_> = (0..30).map(|_| machine.connect()).collect();
    let line = machine.log.wait(&[STATISTICS, "accepted 30, active 30"]);
    machine.log.wait(&[STATISTICS, "picks 30, active 30"]);
    assert!(line.contains("sessions 30;"), "{line}");
    assert!(line.contains("workers 3"), "{line}");
    drop(clients);
    machine.log.wait(&[STATISTICS, "accepted 30, active 0"]);
}

#[test]
fn one_worker_probes_for_all() {
    let backend = Named::new("A");
    let interval = Duration::from_millis(200);
    let file = config()
        .upstream("health_check: {path: /health, interval: 200ms, timeout: 200ms}")
        .backend(backend.address());
    let begun = Instant::now();
    let machine = Machine::start(file, 4);
    eventually("some probes", || {
        (backend.probes().len() > 10).then_some(())
    });
    let probes = u128::try_from(backend.probes().len()).expect("few");
    let intervals = begun.elapsed().as_millis() / interval.as_millis();
    // Jitter makes an interval up to a quarter shorter.
    assert!(probes <= intervals * 4 / 3 + 3, "{probes} in {intervals}");
    for _ in 0..8 {
        ask(&mut machine.connect());
    }
}

#[test]
fn a_backend_that_is_down_is_down_for_all_workers_and_said_once() {
    let (good, bad) = (Named::new("A"), Named::new("B"));
    bad.set_status(500);
    let file = config()
        .checked("path: /health, rise: 1, fall: 1")
        .backend(good.address())
        .backend(bad.address());
    let machine = Machine::start(file, 4);
    let name = bad.address().to_string();
    machine.log.wait(&[" DOWN after ", &name]);
    observe(Duration::from_millis(300));
    for _ in 0..40 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
    assert_eq!(machine.log.count(&[" DOWN after ", &name]), 1);
}

#[test]
fn unix_listeners_are_served_by_all_and_their_files_go_at_the_end() {
    let origin = Origin::echo();
    let scratch = Scratch::new();
    let path = scratch.file("front.sock");
    let file = config()
        .listen("local", &format!("unix:{}", path.display()))
        .backend(origin.address());
    let mut machine = Machine::start(file, 3);
    for _ in 0..20 {
        let mut client = crate::harness::Peer::connect_unix(&path).expect("weir listens");
        client.send("hello");
        client.expect("hello");
    }
    assert_eq!(machine.terminate(), Some(0));
    assert!(!path.exists());
}

#[test]
fn the_access_log_has_whole_lines_of_all_workers_and_is_reopened() {
    let scratch = Scratch::new();
    let path = scratch.file("access.log");
    let text = format!(
        "access_log: {}\nstats_interval: 0\nlisten: 127.0.0.1:0\nname: front\nmode: http\n\
         routes: [{{prefix: /, respond: {{status: 200, body: ok}}}}]\n",
        path.display()
    );
    let machine = Machine::start(text, 4);
    let request = || {
        let mut client = machine.connect();
        client.send("GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = String::from_utf8(client.end().0).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    };
    let lines = |count| {
        eventually("the lines are written", || {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            (text.lines().count() == count).then_some(text)
        })
    };
    (0..40).for_each(|_| request());
    let text = lines(40);
    assert!(
        text.lines()
            .all(|line| line.contains("\"GET /x HTTP/1.1\" 200"))
    );
    std::fs::rename(&path, scratch.file("access.log.1")).expect("renamed");
    let mark = machine.log.mark();
    machine.signal(crate::harness::Signal::USR1);
    machine.log.wait_since(mark, &["access log reopened"]);
    eventually("all workers write to the new file", || {
        request();
        let old = std::fs::read_to_string(scratch.file("access.log.1")).expect("there");
        let new = std::fs::read_to_string(&path).expect("reopened");
        (new.lines().count() >= 20).then_some(old.lines().count())
    });
}

#[test]
fn lines_that_any_worker_loses_are_in_the_statistics_of_all() {
    let mut machine = Machine::start(
        "access_log: /dev/full\nstats_interval: 0\nlisten: 127.0.0.1:0\nname: front\nmode: http\n\
         routes: [{prefix: /, respond: {status: 200, body: ok}}]\n",
        2,
    );
    for _ in 0..8 {
        let mut client = machine.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.end();
    }
    assert_eq!(machine.terminate(), Some(0));
    machine
        .log
        .wait(&["stats: ", "; access log: lines lost 8;"]);
}

#[test]
fn a_socket_that_is_handed_over_is_served_by_all_workers_and_after_an_upgrade() {
    let a = Named::new("A");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = socket.local_addr().expect("bound");
    let config = crate::harness::Config::on(&address.to_string()).backend(a.address());
    let launch = crate::harness::Launch::new(config).open_to_all();
    let launch = launch.socket(socket).argument("--workers").argument("3");
    let machine = Machine::launch(launch);
    let load = crate::harness::Load::start(address, 4);
    load.wait_more(100);
    let mark = machine.log.mark();
    machine.signal(crate::harness::Signal::USR2);
    machine.log.wait_since(mark, &["upgrade done: "]);
    load.wait_more(100);
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
}

/// Reads a head up to its empty line, and gives its first line.
fn read_head(peer: &mut Peer) -> io::Result<String> {
    let first = peer.read_line()?;
    while peer.read_line()? != "\r" {}
    Ok(first)
}

/// Answers requests, and notes how many it had at once at most.
fn crowded(most: Arc<AtomicUsize>) -> Origin {
    let active = AtomicUsize::new(0);
    Origin::new(move |peer| {
        loop {
            read_head(peer)?;
            let count = 1 + active.fetch_add(1, Ordering::SeqCst);
            most.fetch_max(count, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            // Before the answer, after which weir may send the next.
            active.fetch_sub(1, Ordering::SeqCst);
            peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    })
}

#[test]
fn workers_that_pick_at_the_same_time_pass_no_limit() {
    let most = Arc::new(AtomicUsize::new(0));
    let backends = [(); 16].map(|()| crowded(Arc::clone(&most)));
    let mut file = "stats_interval: 0\nlisten: 127.0.0.1:0\nname: front\nmode: http\n\
         algorithm: random_two\nbackends:\n"
        .to_owned();
    for backend in &backends {
        let address = backend.address();
        file += &format!("  - {{address: \"{address}\", max_connections: 1}}\n");
    }
    let machine = Machine::start(file, 4);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = machine.connect();
                for _ in 0..300 {
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    let status = read_head(&mut client).expect("an answer");
                    assert_eq!(status, "HTTP/1.1 200 OK\r");
                }
            });
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 1);
}

#[test]
fn workers_serve_and_are_upgraded_where_proc_is_not_mounted() {
    if !rustix::process::geteuid().is_root() {
        skip("only root may hide /proc");
        return;
    }
    let hidden =
        "exec unshare -m sh -c 'mount -t tmpfs none /proc && exec \"$0\" \"$@\"' \"$0\" \"$@\"";
    let backend = Named::new("A");
    let launch = Launch::new(config().backend(backend.address())).open_to_all();
    let launch = launch.first(hidden).argument("--workers").argument("2");
    let machine = Machine::launch(launch);
    machine.wait_children(2);
    assert_eq!(ask(&mut machine.connect()), "A");
    machine.replace_worker(1);
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    machine.log.wait_since(mark, &["upgrade done"]);
    assert_eq!(ask(&mut machine.connect()), "A");
}
