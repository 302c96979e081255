//! Several workers on one board: what each knows of the others, and what remains of the dead.

use std::sync::atomic::Ordering;

use weir::board::{BackendCell, BackendWord};
use weir::core::finding::EjectedUntil;

use crate::machine::Machine;
use crate::net::Behaviour;
use crate::rig::{config_text, origin_address};

const TCP: &str =
    "health_check: {interval: 10s, timeout: 2s, fast_interval: 10s, rise: 2, fall: 3}";

/// The backends that clients got who came to these workers, one after the other.
fn picks(machine: &mut Machine, slots: &[usize], backends: usize) -> String {
    let pick = |machine: &mut Machine, slot| {
        machine.client(slot);
        let mut names = ('A'..).zip(0..backends);
        let picked = names.find(|&(_, k)| !machine.accepted(k).is_empty());
        picked.map_or('-', |(name, _)| name)
    };
    slots.iter().map(|&slot| pick(machine, slot)).collect()
}

/// Lets one more probe of the k-th backend run.
fn round(machine: &mut Machine, k: usize) {
    let before = machine.probes(k);
    while machine.probes(k) == before {
        machine.pass(50, 50);
    }
}

#[test]
fn four_workers_share_one_round_robin() {
    let mut machine = Machine::still(4, &config_text(&[5, 3, 2], ""));
    let slots = [0, 1, 2, 3, 3, 1, 2, 0, 1, 0];
    assert_eq!(picks(&mut machine, &slots, 3), "ABCAABACBA");
    machine.kill(2);
    machine.bury(2);
    machine.start(2);
    let slots = [2, 2, 2, 2, 2, 2, 1, 1, 1, 1];
    assert_eq!(picks(&mut machine, &slots, 3), "ABCAABACBA");
    assert_eq!(machine.total(0, BackendCell::Picks), 10);
}

#[test]
fn round_robin_beyond_the_longest_sequence_begins_elsewhere_in_every_worker() {
    let weights = [40_000, 40_001, 40_002];
    let mut machine = Machine::still(3, &config_text(&weights, ""));
    let mut names: Vec<char> = picks(&mut machine, &[0, 1, 2], 3).chars().collect();
    names.sort_unstable();
    assert_eq!(names, ['A', 'B', 'C']);
}

#[test]
fn least_connections_are_those_of_the_machine() {
    let mut machine = Machine::still(4, &config_text(&[1, 1, 1, 1], "algorithm: least_conn"));
    for slots in [[0, 1, 2, 3], [3, 3, 3, 3], [1, 0, 0, 2]] {
        let mut names: Vec<char> = picks(&mut machine, &slots, 4).chars().collect();
        names.sort_unstable();
        assert_eq!(names, ['A', 'B', 'C', 'D']);
    }
}

#[test]
fn the_limit_of_a_backend_is_that_of_the_machine() {
    let text = config_text(&[1, 1], "").replace("weight: 1}", "weight: 1, max_connections: 2}");
    let mut machine = Machine::still(3, &text);
    let names = picks(&mut machine, &[0, 0, 1, 2, 2, 1], 2);
    assert_eq!(
        (names.matches('A').count(), names.matches('B').count()),
        (2, 2)
    );
    assert_eq!(names.matches('-').count(), 2, "{names}");
}

#[test]
fn a_listener_that_others_have_filled_goes_on_when_they_have_room() {
    for limit in ["max_connections: 2", "limits: {max_connections: 2}"] {
        let mut machine = Machine::still(2, &config_text(&[1], limit));
        let first = machine.client(0);
        machine.client(0);
        let waiting = machine.client(1);
        machine.pass(500, 10);
        assert!(!machine.world().was_accepted(waiting), "{limit}");
        machine.world().peer_reset(first);
        machine.pass(30, 10);
        assert!(machine.world().was_accepted(waiting), "{limit}");
    }
}

#[test]
fn one_worker_probes_for_all() {
    let mut alone = Machine::still(1, &config_text(&[1], TCP));
    let mut many = Machine::still(8, &config_text(&[1], TCP));
    for machine in [&mut alone, &mut many] {
        machine.pass(100_500, 50);
    }
    let counts = [alone.probes(0), many.probes(0)];
    assert!(
        counts.iter().all(|count| (9..=12).contains(count)),
        "{counts:?}"
    );
    let of_prober = many.prober(0).expect("somebody probes");
    assert_eq!(
        many.count(of_prober, 0, BackendCell::ProbesPassed),
        counts[1]
    );
}

#[test]
fn what_the_prober_finds_serves_all() {
    let mut machine = Machine::still(4, &config_text(&[1, 1], TCP));
    round(&mut machine, 0);
    machine
        .world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    for up in [true, true, false] {
        round(&mut machine, 0);
        machine.settle();
        for slot in 0..4 {
            assert_eq!(machine.is_up(slot, 0), up);
        }
    }
    machine
        .world()
        .origin_listen(&origin_address(0), Behaviour::Accept);
    for up in [false, true] {
        round(&mut machine, 0);
        machine.settle();
        for slot in 0..4 {
            assert_eq!(machine.is_up(slot, 0), up);
        }
    }
}

#[test]
fn a_prober_that_dies_is_followed_within_an_interval_and_its_count_goes_on() {
    for is_buried in [true, false] {
        let mut machine = Machine::still(4, &config_text(&[1, 1], TCP));
        round(&mut machine, 0);
        machine
            .world()
            .origin_listen(&origin_address(0), Behaviour::Refuse);
        round(&mut machine, 0);
        round(&mut machine, 0);
        let last = machine.probed_at(0);
        let first = machine.prober(0).expect("somebody probes");
        machine.kill(first);
        if is_buried {
            machine.bury(first);
        }
        let before = machine.probes(0);
        machine.pass(if is_buried { 510 } else { 12_100 }, 10);
        assert_eq!(machine.probes(0), before + 1, "buried: {is_buried}");
        assert_ne!(machine.prober(0), Some(first));
        assert!(machine.probed_at(0).since_ms(last) <= 12_100);
        for slot in machine.awake() {
            assert!(!machine.is_up(slot, 0), "the third failure in a row");
        }
    }
}

#[test]
fn a_prober_that_stands_still_is_followed_and_its_late_result_counts_for_nothing() {
    let text = config_text(
        &[1, 1],
        "health_check: {interval: 10s, timeout: 2s, fall: 1, path: /up}",
    );
    let mut machine = Machine::still(2, &text);
    machine.pass(600, 10);
    let probe = machine.accepted(0)[0];
    let first = machine.prober(0).expect("somebody probes");
    machine.stall(first, true);
    machine.pass(3_100, 10);
    let second = machine.prober(0).expect("somebody probes");
    assert_ne!(first, second);
    let answer = |machine: &mut Machine, peer, status: &str| {
        let head = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        machine.world().peer_send(peer, head.as_bytes());
        machine.settle();
    };
    let probes = machine.accepted(0);
    answer(&mut machine, probes[0], "200");
    assert_eq!(machine.probes(0), 1);
    answer(&mut machine, probe, "503");
    machine.stall(first, false);
    machine.settle();
    assert_eq!(machine.probes(0), 1);
    assert!(machine.is_up(first, 0) && machine.is_up(second, 0));
}

#[test]
fn a_successor_knows_at_once_what_was_known() {
    let mut machine = Machine::still(2, &config_text(&[1, 1], TCP));
    machine
        .world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    round(&mut machine, 0);
    machine.settle();
    for slot in 0..2 {
        machine.kill(slot);
        machine.bury(slot);
    }
    machine.start(1);
    machine.accepted(0);
    assert_eq!(picks(&mut machine, &[1, 1, 1], 2), "BBB");
}

#[test]
fn an_ejection_holds_in_every_worker_and_ends_in_every_worker() {
    let text = config_text(&[1, 1, 1], "passive: {failures: 3, eject: 10s}");
    let mut machine = Machine::still(4, &text);
    machine
        .world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    while machine.total(0, BackendCell::Ejections) == 0 {
        machine.client(2);
    }
    for slot in 0..4 {
        assert!(!machine.is_up(slot, 0));
    }
    assert_eq!(machine.total(0, BackendCell::ConnectFailures), 3);
    for slot in [0, 1, 3, 0, 1, 3] {
        machine.client(slot);
    }
    assert_eq!(machine.total(0, BackendCell::ConnectFailures), 3);
    machine.pass(10_000, 500);
    for slot in 0..4 {
        assert!(machine.is_up(slot, 0));
    }
    assert_eq!(machine.total(0, BackendCell::Ejections), 1);
}

#[test]
fn a_passed_check_ends_an_ejection_in_every_worker() {
    let more = format!("{TCP}\npassive: {{failures: 1, eject: 60s}}");
    let mut machine = Machine::still(3, &config_text(&[1, 1], &more));
    // A first check that came while it refuses would find it down.
    round(&mut machine, 0);
    machine
        .world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    while machine.total(0, BackendCell::Ejections) == 0 {
        machine.client(1);
    }
    assert!(!machine.is_up(0, 0) && !machine.is_up(2, 0));
    machine
        .world()
        .origin_listen(&origin_address(0), Behaviour::Accept);
    round(&mut machine, 0);
    machine.settle();
    for slot in 0..3 {
        assert!(machine.is_up(slot, 0));
    }
}

#[test]
fn two_workers_never_eject_everybody() {
    let more = "passive: {failures: 1, eject: 60s, eject_percent_max: 100}";
    let mut machine = Machine::still(2, &config_text(&[1, 1], more));
    for k in 0..2 {
        machine
            .world()
            .origin_listen(&origin_address(k), Behaviour::Refuse);
    }
    for n in 0..20 {
        machine.client(n % 2);
    }
    for slot in 0..2 {
        let up = [machine.is_up(slot, 0), machine.is_up(slot, 1)];
        assert_ne!(up[0], up[1]);
    }
}

#[test]
fn ejections_by_two_workers_at_once_leave_somebody() {
    let more = "passive: {failures: 1, eject: 60s, eject_percent_max: 100}";
    let mut machine = Machine::still(2, &config_text(&[1, 1], more));
    machine
        .world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    while machine.total(0, BackendCell::Ejections) == 0 {
        machine.client(0);
    }
    // What another worker writes that has not seen the first ejection yet.
    let ejected = EjectedUntil {
        until: machine.now().after_ms(60_000),
        count: 1,
    };
    let column = machine.backend_column(1);
    let word = machine.board.word(column, BackendWord::Ejection);
    word.store(ejected.word(), Ordering::Relaxed);
    machine.board.touch();
    machine.settle();
    for slot in 0..2 {
        assert!(machine.is_up(slot, 1), "the last one stays");
    }
}

#[test]
fn a_prober_that_ends_leaves_its_probes_to_others() {
    let mut machine = Machine::still(2, &config_text(&[1], TCP));
    round(&mut machine, 0);
    machine.settle();
    let first = machine.prober(0).expect("somebody probes");
    machine.worker(first).stop();
    let before = machine.probes(0);
    machine.pass(510, 10);
    assert_eq!(machine.prober(0), Some(1 - first));
    assert_eq!(machine.probes(0), before + 1);
}

#[test]
fn a_drain_acts_in_every_worker() {
    let mut machine = Machine::still(3, &config_text(&[1, 1], ""));
    machine.board.set_draining(machine.backend_column(0), true);
    assert_eq!(picks(&mut machine, &[0, 1, 2, 2], 2), "BBBB");
    machine.board.set_draining(machine.backend_column(0), false);
    assert!(picks(&mut machine, &[0, 1], 2).contains('A'));
}

#[test]
fn the_last_backend_that_does_not_drain_is_never_ejected() {
    let text = config_text(&[1, 1], "passive: {failures: 1, eject_percent_max: 100}");
    let mut machine = Machine::still(1, &text);
    machine.board.set_draining(machine.backend_column(1), true);
    machine
        .world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    for _ in 0..5 {
        machine.client(0);
    }
    assert!(machine.total(0, BackendCell::ConnectFailures) > 0);
    assert!(machine.is_up(0, 0));
}

#[test]
fn a_backend_that_is_removed_and_comes_back_waits_for_a_check_again() {
    let mut machine = Machine::still(2, &config_text(&[1, 1], TCP));
    machine.pass(1_000, 50);
    machine.client(0);
    machine.client(0);
    machine.reload(&config_text(&[1], TCP));
    machine.pass(1_000, 50);
    machine.reload(&config_text(&[1, 1], TCP));
    machine.settle();
    assert!(
        (0..2).all(|slot| !machine.is_up(slot, 1)),
        "nobody has checked"
    );
    machine.pass(1_000, 50);
    assert!((0..2).all(|slot| machine.is_up(slot, 1)));
    machine.kill(0);
    machine.bury(0);
    machine.check();
}

#[test]
fn workers_print_no_statistics_and_sleep_while_nothing_happens() {
    let text = config_text(&[1], "").replace("stats_interval: 0", "stats_interval: 1s");
    let mut machine = Machine::still(2, &text);
    assert_eq!(machine.worker(0).census().timers, 0);
    let mut alone = crate::rig::Rig::still(&text);
    assert_eq!(alone.worker.census().timers, 1);
    alone.settle();
}

#[test]
fn a_row_tells_how_long_ago_its_worker_was_seen() {
    let mut machine = Machine::still(2, &config_text(&[1], ""));
    machine.pass(10, 10);
    machine.stall(1, true);
    machine.pass(100, 10);
    let (one, other) = (machine.board.row(1), machine.board.row(2));
    assert_eq!(one.beat.since_ms(other.beat), 100);
    assert!(!one.asleep, "between two turns it is not");
    assert_eq!((one.pid, other.pid), (100, 101));
}

#[test]
fn who_waits_for_a_full_backend_finds_the_room_that_another_worker_leaves() {
    let ask = |more: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{more}\r\n").into_bytes();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let one = config_text(&[1], "mode: http\nsticky: {cookie: weir}");
    let text = one.replace("weight: 1", "max_connections: 1");
    let mut machine = Machine::still(2, &text);
    let first = machine.client(0);
    machine.world().peer_send(first, &ask(""));
    machine.settle();
    let link = machine.accepted(0)[0];
    machine.world().peer_send(link, answer);
    machine.settle();
    let received = String::from_utf8_lossy(machine.world().peer_received(first)).into_owned();
    let (_, cookie) = received
        .split_once("Set-Cookie: ")
        .expect("a cookie is set");
    let bound = ask(&format!(
        "Cookie: {}\r\n",
        cookie.split(';').next().expect("a value")
    ));
    machine.world().peer_send(first, &bound);
    machine.settle();
    let second = machine.client(1);
    machine.world().peer_send(second, &bound);
    machine.settle();
    assert_eq!(machine.accepted(0), []);
    machine.world().peer_send(link, answer);
    machine.pass(20, 20);
    let [link] = machine.accepted(0)[..] else {
        panic!("the second worker connects");
    };
    machine.world().peer_send(link, answer);
    machine.settle();
    let received = machine.world().peer_received(second).to_vec();
    assert!(
        received.starts_with(b"HTTP/1.1 200 "),
        "{}",
        received.escape_ascii()
    );
}
