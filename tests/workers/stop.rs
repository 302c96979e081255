//! The end of all workers: graceful, or at once.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::log::STOPPING;
use crate::harness::pattern::Pattern;
use crate::harness::{Config, Launch, Load, Named, Origin, Signal, ask, eventually};
use crate::machine::{Machine, config, is_there};

#[test]
fn a_stop_waits_for_the_sessions_of_every_worker() {
    let backend = Named::new("A");
    let mut machine = Machine::start(config().backend(backend.address()), 4);
    let mut held: Vec<_> = (0..24).map(|_| machine.connect()).collect();
    for client in &mut held {
        assert_eq!(ask(client), "A");
    }
    machine.signal(Signal::TERM);
    machine.log.wait(&[STOPPING, "4 workers to finish"]);
    machine.wait_listener_closed();
    for client in &mut held {
        client.send("still here");
        client.expect("still here");
    }
    assert!(machine.runs());
    for mut client in held {
        client.finish();
        client.expect_end();
    }
    assert_eq!(machine.wait_exit(), Some(0));
}

#[test]
fn long_downloads_arrive_whole_through_a_reload_an_upgrade_and_the_end() {
    const CLIENTS: usize = 6;
    /// More than all buffers on the way hold.
    const BYTES: usize = 96 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let done = Arc::clone(&sent);
    let origin = Origin::new(move |peer| {
        peer.read_line()?;
        let mut pattern = Pattern::new(7);
        let mut chunk = vec![0; 64 * 1024];
        for _ in 0..BYTES / chunk.len() {
            pattern.fill(&mut chunk);
            peer.write_all(&chunk)?;
        }
        done.fetch_add(1, Ordering::SeqCst);
        Ok(())
    });
    let file = |workers: usize| {
        let top = format!("workers: {workers}");
        config().top(&top).backend(origin.address())
    };
    let mut machine = Machine::launch(Launch::new(file(4)).open_to_all());
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| machine.connect()).collect();
    for client in &mut clients {
        client.send("all of it\n");
    }
    eventually("all downloads have begun", || {
        (origin.accepted() == CLIENTS).then_some(())
    });
    machine.reload(file(2));
    machine.signal(Signal::USR2);
    machine.log.wait(&["upgrade done"]);
    machine.signal(Signal::TERM);
    machine.log.wait(&[STOPPING]);
    machine.wait_listener_closed();
    assert_eq!(sent.load(Ordering::SeqCst), 0, "they take long");
    let read = |mut client: crate::harness::Peer| {
        std::thread::spawn(move || {
            client.expect_pattern(7, BYTES);
            client.expect_end();
        })
    };
    let readers: Vec<_> = clients.into_iter().map(read).collect();
    for reader in readers {
        reader.join().expect("it came whole");
    }
    assert_eq!(machine.wait_exit(), Some(0));
}

#[test]
fn a_second_signal_ends_all_at_once() {
    let backend = Named::new("A");
    let mut machine = Machine::start(config().backend(backend.address()), 3);
    let mut held: Vec<_> = (0..12).map(|_| machine.connect()).collect();
    for client in &mut held {
        assert_eq!(ask(client), "A");
    }
    machine.signal(Signal::TERM);
    machine.log.wait(&[STOPPING, "3 workers to finish"]);
    machine.signal(Signal::TERM);
    assert_eq!(machine.wait_exit(), Some(1));
}

#[test]
fn what_is_queued_when_the_end_begins_is_served() {
    let backend = Named::new("A");
    let mut machine = Machine::start(config().backend(backend.address()), 2);
    let workers = machine.children();
    // With all of them stopped, clients wait in the accept queues.
    for number in 0..2 {
        machine.signal_worker(number, Signal::STOP);
    }
    machine.log.wait(&["worker 0: stopped"]);
    machine.log.wait(&["worker 1: stopped"]);
    let mut queued: Vec<_> = (0..10).map(|_| machine.connect()).collect();
    machine.signal(Signal::TERM);
    machine.log.wait(&[STOPPING, "2 workers to finish"]);
    for number in 0..2 {
        machine.signal_worker(number, Signal::CONT);
    }
    for client in &mut queued {
        assert_eq!(ask(client), "A");
    }
    for mut client in queued {
        client.finish();
        client.expect_end();
    }
    assert_eq!(machine.wait_exit(), Some(0));
    assert!(workers.iter().all(|worker| !is_there(*worker)));
}

#[test]
fn a_worker_that_does_not_end_is_killed_when_the_drain_is_over() {
    let origin = Origin::echo();
    let file = Config::new()
        .top("timeouts: {drain: 100ms}")
        .backend(origin.address());
    let mut machine = Machine::start(file, 2);
    machine.signal_worker(1, Signal::STOP);
    machine.log.wait(&["worker 1: stopped"]);
    machine.signal(Signal::TERM);
    assert_eq!(machine.wait_exit(), Some(1));
    machine.log.wait(&["worker 1: does not end; killed"]);
    eventually("nobody is left", || {
        machine.children().is_empty().then_some(())
    });
}

#[test]
fn an_end_during_an_upgrade_is_a_good_one() {
    let a = Named::new("A");
    let mut machine = Machine::start(config().backend(a.address()), 2);
    machine.signal(Signal::USR2);
    machine.log.wait(&["becoming the new binary"]);
    assert_eq!(machine.terminate(), Some(0));
}

#[test]
fn the_last_statistics_call_no_backend_down() {
    let a = Named::new("A");
    let mut machine = Machine::start(config().backend(a.address()), 2);
    assert_eq!(ask(&mut machine.connect()), "A");
    let mark = machine.log.mark();
    assert_eq!(machine.terminate(), Some(0));
    machine.log.wait_since(mark, &["stats: ", "picks 1"]);
    assert_eq!(machine.log.count_since(mark, &["stats: ", " down: "]), 0);
}

#[test]
fn nobody_whose_connection_was_taken_is_reset_when_all_stop() {
    let backend = Named::new("A");
    for _ in 0..8 {
        let mut machine = Machine::start(config().backend(backend.address()), 8);
        let load = Load::start(machine.address(), 12);
        load.wait_more(50);
        machine.signal(Signal::TERM);
        assert_eq!(machine.wait_exit(), Some(0));
        let failures = load.finish();
        // Who comes after the end is refused when it connects.
        let is_lost = |it: &&crate::harness::load::Failure| !it.error.contains("refused");
        let lost: Vec<_> = failures.iter().filter(is_lost).collect();
        assert!(lost.is_empty(), "{lost:?}");
    }
}
