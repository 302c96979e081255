//! Whoever dies or stands still, clients are served.

use std::io::Read as _;
use std::time::{Duration, Instant};

use crate::chatter::Chatter;
use crate::harness::log::{DOWN, STATISTICS};
use crate::harness::{Load, Named, Origin, PATIENCE, Signal, ask, eventually};
use crate::machine::{Machine, config, descriptors, established, is_there, owner, signal};

#[test]
fn a_killed_worker_is_replaced_and_nobody_is_refused() {
    const CLIENTS: usize = 4;
    const KILLS: usize = 20;
    let backend = Named::new("A");
    let file = config()
        .top("stats_interval: 100ms")
        .backend(backend.address());
    let machine = Machine::start(file, 4);
    let load = Load::start(machine.address(), CLIENTS);
    for kill in 0..KILLS {
        machine.replace_worker(kill % 4);
        load.wait_more(10);
    }
    let failures = load.finish();
    // What was in its hands dies with a worker; what waits in its queue does not.
    assert!(failures.len() <= CLIENTS * KILLS, "{failures:?}");
    let refused = failures.iter().filter(|it| it.error.contains("refused"));
    assert_eq!(refused.count(), 0);
    let healed = machine.log.mark();
    machine
        .log
        .wait_since(healed, &[STATISTICS, "sessions 0; front: ", ", active 0,"]);
}

#[test]
fn gauges_are_what_the_kernel_counts_however_often_workers_are_killed() {
    const CLIENTS: usize = 24;
    const WORKERS: usize = 8;
    const KILLS: usize = 100;
    let origin = Origin::echo();
    let file = config()
        .top("stats_interval: 100ms")
        .backend(origin.address());
    let machine = Machine::start(file, WORKERS);
    let ports = [machine.address(), origin.address()].map(|it| it.port());
    let regulars = Chatter::of_regulars(machine.address(), CLIENTS);
    let mut victims = Victims::new(WORKERS);
    let front = format!("sessions {CLIENTS}; front: ");
    let active = [", bytes in", ", bytes out"].map(|next| format!(", active {CLIENTS}{next}"));
    for _ in 0..KILLS {
        machine.replace_worker(victims.next());
        let mark = machine.log.mark();
        let parts = [STATISTICS, &front, &active[0]];
        machine.log.wait_since(mark, &parts);
        let parts = [STATISTICS, "upstream pool: ", &active[1]];
        machine.log.wait_since(mark, &parts);
        eventually("the kernel counts as many", || {
            (established(ports) == [CLIENTS; 2]).then_some(())
        });
    }
    regulars.wait_more(CLIENTS);
    let failures = regulars.finish();
    assert!(failures.is_empty(), "{failures:?}");
}

/// Numbers of workers in no order, none so soon again that its successor would have to wait for its
/// start.
struct Victims {
    killed: Vec<Option<Instant>>,
    state: usize,
}

impl Victims {
    fn new(workers: usize) -> Self {
        Self {
            killed: vec![None; workers],
            state: 1,
        }
    }

    fn next(&mut self) -> usize {
        let pause = Duration::from_millis(1_200);
        let number = eventually("somebody has served for a while", || {
            // Knuth's generator: the same kills in every run.
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005) | 1;
            self.state = self.state.wrapping_add(1_442_695_040_888_963_406);
            let number = (self.state >> 33) % self.killed.len();
            let is_due = self.killed[number].is_none_or(|at| at.elapsed() > pause);
            is_due.then_some(number)
        });
        self.killed[number] = Some(Instant::now());
        number
    }
}

#[test]
fn a_dead_worker_has_no_sessions_and_what_it_counted_stays() {
    let origin = Origin::echo();
    let file = config()
        .top("stats_interval: 100ms")
        .backend(origin.address());
    let machine = Machine::start(file, 4);
    let mut clients: Vec<_> = (0..40).map(|_| machine.connect()).collect();
    machine.log.wait(&[STATISTICS, "accepted 40, active 40"]);
    // On a busy machine one of them may have had no turn, and no clients.
    let number = (0..4).max_by_key(|&number| descriptors(machine.worker(number)));
    machine.replace_worker(number.expect("there are four"));
    let live = clients
        .iter_mut()
        .filter_map(|client| crate::chatter::say(client).ok())
        .count();
    assert!(live < 40, "the killed worker had clients");
    let active = format!("sessions {live}; front: accepted 40, active {live},");
    machine.log.wait(&[STATISTICS, &active]);
}

#[test]
fn who_waits_in_the_queues_of_the_killed_is_served_by_their_successors() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 2);
    let workers = [0, 1].map(|number| machine.worker(number));
    for number in 0..2 {
        machine.signal_worker(number, Signal::STOP);
        machine.log.wait(&[&format!("worker {number}: stopped")]);
    }
    let mut queued: Vec<_> = (0..20).map(|_| machine.connect()).collect();
    for worker in workers {
        signal(worker, Signal::KILL);
    }
    for client in &mut queued {
        assert_eq!(ask(client), "A");
    }
}

#[test]
fn clients_of_a_stopped_worker_are_served_by_the_others() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 4);
    machine.wait_shares_of_sockets(1);
    let mark = machine.log.mark();
    machine.signal_worker(1, Signal::STOP);
    for _ in 0..60 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
    machine.log.wait_since(mark, &["worker 1: stopped"]);
    machine.signal_worker(1, Signal::CONT);
    machine.log.wait_since(mark, &["worker 1: goes on"]);
    machine.wait_shares_of_sockets(1);
    for _ in 0..60 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
}

#[test]
fn a_worker_that_is_told_to_end_by_itself_is_replaced_without_a_failure() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 3);
    let load = Load::start(machine.address(), 3);
    for number in [0, 1, 2, 0] {
        let mark = machine.log.mark();
        machine.signal_worker(number, Signal::TERM);
        let started = format!("worker {number}: started");
        machine.log.wait_since(mark, &[&started]);
        load.wait_more(20);
    }
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn the_place_of_a_worker_that_drains_for_long_is_filled_at_once() {
    let origin = Origin::echo();
    let machine = Machine::start(config().backend(origin.address()), 2);
    let mut held: Vec<_> = (0..16).map(|_| machine.connect()).collect();
    for client in &mut held {
        crate::chatter::say(client).expect("served");
    }
    let mark = machine.log.mark();
    machine.signal_worker(0, Signal::TERM);
    machine
        .log
        .wait_since(mark, &["worker 0", "asked to end, it drains"]);
    machine.log.wait_since(mark, &["worker 0: started"]);
    // The old one is there beside the new one, with its sessions.
    machine.wait_children(3);
    for client in &mut held {
        crate::chatter::say(client).expect("it goes on");
    }
    for _ in 0..40 {
        crate::chatter::say(&mut machine.connect()).expect("served");
    }
}

#[test]
fn a_prober_that_dies_at_its_work_is_followed_by_another_worker() {
    const KILLS: usize = 10;
    let (tell, probes) = std::sync::mpsc::channel();
    let backend = Origin::new(move |peer| {
        let client = peer.socket().peer_addr()?.as_socket();
        let _ = tell.send(client.expect("it has an address").port());
        // It never answers: who probes is at it until it dies.
        peer.read_to_end(&mut Vec::new()).map(drop)
    });
    // A term so long that only the supervisor's word gives the probes to another in time.
    let file = config()
        .upstream("health_check: {path: /health, interval: 120s, timeout: 120s}")
        .backend(backend.address());
    let machine = Machine::start(file, 4);
    let mut dead = Vec::new();
    while dead.len() < KILLS {
        let port = probes.recv_timeout(PATIENCE).expect("it is probed");
        let workers = machine.children();
        let prober = owner(port, backend.address().port(), &workers);
        let prober = prober.expect("one of the workers probes");
        // Nobody else does at the same time.
        assert!(probes.try_recv().is_err());
        signal(prober, Signal::KILL);
        dead.push(prober);
    }
    assert_eq!(machine.log.count(&[DOWN]), 0);
}

#[test]
fn workers_serve_on_when_their_supervisor_dies() {
    let origin = Named::new("A");
    let mut machine = Machine::start(config().backend(origin.address()), 3);
    let workers = machine.children();
    let address = machine.address();
    let chatter = Chatter::start(address, 8);
    let load = Load::start(address, 3);
    load.wait_more(10);
    machine.signal(Signal::KILL);
    machine.wait_status();
    for _ in 0..3 {
        machine.log.wait(&["the supervisor has gone: serving on"]);
    }
    chatter.wait_more(200);
    load.wait_more(100);
    assert!(chatter.finish().is_empty());
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    for _ in 0..30 {
        let mut client = crate::harness::Peer::connect(address).expect("they listen");
        assert_eq!(ask(&mut client), "A");
    }
    for worker in &workers {
        signal(*worker, Signal::TERM);
    }
    eventually("they end when told to", || {
        workers
            .iter()
            .all(|worker| !is_there(*worker))
            .then_some(())
    });
}

#[test]
fn workers_without_a_supervisor_stand_in_for_one_that_stands_still_or_dies() {
    let backend = Named::new("A");
    let mut machine = Machine::start(config().backend(backend.address()), 3);
    let (workers, address) = (machine.children(), machine.address());
    machine.signal(Signal::KILL);
    machine.wait_status();
    for _ in 0..3 {
        machine.log.wait(&["the supervisor has gone: serving on"]);
    }
    let all_are_served = || {
        for _ in 0..40 {
            let mut client = crate::harness::Peer::connect(address).expect("they listen");
            assert_eq!(ask(&mut client), "A");
        }
    };
    eventually("all have heard of it", || {
        (machine.log.count(&["serving on without it"]) == 3).then_some(())
    });
    signal(workers[0], Signal::STOP);
    all_are_served();
    signal(workers[0], Signal::KILL);
    all_are_served();
    // Told to end by itself, a worker leaves its sockets to the one that is left.
    signal(workers[1], Signal::TERM);
    eventually("it ends", || (!is_there(workers[1])).then_some(()));
    all_are_served();
    let load = Load::start(address, 4);
    load.wait_more(20);
    signal(workers[2], Signal::TERM);
    eventually("the last one ends", || {
        (!is_there(workers[2])).then_some(())
    });
    let failures = load.finish();
    let lost = failures.iter().filter(|it| !it.error.contains("refused"));
    assert_eq!(lost.count(), 0, "{failures:?}");
    // Who asks whether the others run may ask.
    assert_eq!(machine.log.count(&["sandbox refused"]), 0);
}

#[test]
fn workers_end_with_their_supervisor_when_the_configuration_says_so() {
    let origin = Origin::echo();
    let file = config()
        .top("when_supervisor_dies: stop")
        .backend(origin.address());
    let mut machine = Machine::start(file, 3);
    let workers = machine.children();
    machine.signal(Signal::KILL);
    machine.wait_status();
    eventually("they end", || {
        workers
            .iter()
            .all(|worker| !is_there(*worker))
            .then_some(())
    });
}
