//! Limits: connections, descriptors and the accept budget. Nothing spins and nobody is forgotten.

use weir::board::{BackendCell, ListenerCell};

use crate::net::PeerId;
use crate::rig::{Rig, config_text};

#[test]
fn sessions_run_in_every_turn_while_a_thousand_clients_wait() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (marked, backend) = rig.session();
    for _ in 0..1000 {
        rig.client();
    }
    let accepted = |rig: &Rig| rig.listener_count(ListenerCell::Accepted);
    let mut turns = 0;
    while accepted(&rig) < 1001 {
        turns += 1;
        let before = accepted(&rig);
        rig.world().peer_send(marked, b"x");
        rig.turn();
        rig.world().settle();
        assert!(accepted(&rig) - before <= 64, "not more than the budget");
        assert_eq!(rig.world().peer_received(backend).len(), turns);
    }
    assert_eq!(turns, 1000_usize.div_ceil(64));
}

#[test]
fn out_of_descriptors_the_listener_rests_and_tries_again() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    rig.world().exhaust(true);
    rig.client();
    rig.settle();
    assert_eq!(rig.listener_count(ListenerCell::Paused), 1);
    rig.world().take_calls();
    rig.pass(99, 1);
    assert_eq!(rig.world().take_calls().accept, 0, "it rests");
    rig.pass(1, 1);
    assert_eq!(rig.world().take_calls().accept, 1);
    assert_eq!(rig.listener_count(ListenerCell::Paused), 2);
    rig.world().exhaust(false);
    rig.pass(100, 10);
    assert_eq!(
        rig.listener_count(ListenerCell::Accepted),
        1,
        "no event came"
    );
}

#[test]
fn who_was_accepted_with_the_last_descriptor_gets_the_next_ones() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    rig.world().settings_mut().streams_max = 5;
    let clients: Vec<PeerId> = (0..4).map(|_| rig.client()).collect();
    rig.settle();
    let first = rig.accepted(0);
    assert_eq!(first.len(), 2, "the third found no descriptor");
    assert_eq!(rig.worker.census().sessions, 3);
    assert_eq!(rig.backend_count(0, BackendCell::ConnectFailures), 0);
    rig.pass(1_000, 10);
    assert_eq!(
        rig.listener_count(ListenerCell::Accepted),
        3,
        "nobody is taken in while someone waits"
    );
    rig.world().peer_close_write(clients[0]);
    rig.world().peer_close_write(first[0]);
    rig.settle();
    let [next] = rig.accepted(0)[..] else {
        panic!("the one that waits is connected at once");
    };
    rig.world().peer_send(next, b"hello");
    rig.settle();
    assert_eq!(rig.world().peer_received(clients[2]), b"hello");
    assert_eq!(rig.listener_count(ListenerCell::Refused), 0);
}

#[test]
fn what_the_machine_runs_out_of_comes_back_without_an_event() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    rig.world().settings_mut().streams_max = 1;
    rig.client();
    rig.settle();
    assert_eq!(rig.accepted(0), []);
    rig.world().settings_mut().streams_max = 2;
    rig.pass(100, 10);
    assert_eq!(rig.accepted(0).len(), 1);
}

#[test]
fn waiting_for_a_descriptor_ends_with_the_time_for_connecting() {
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {connect: 3s}"));
    rig.world().settings_mut().streams_max = 1;
    let client = rig.client();
    rig.pass(2_900, 50);
    assert_eq!(rig.worker.census().sessions, 1);
    rig.pass(200, 50);
    assert_eq!(rig.worker.census().sessions, 0);
    assert!(rig.world().peer_saw_reset(client));
    assert_eq!(rig.backend_count(0, BackendCell::ConnectFailures), 0);
}

#[test]
fn sessions_go_on_while_the_listener_rests() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    rig.world().exhaust(true);
    rig.client();
    rig.settle();
    rig.world().peer_send(client, b"go on");
    rig.settle();
    assert_eq!(rig.world().peer_received(backend), b"go on");
}

#[test]
fn connections_that_were_aborted_in_the_queue_are_passed_over() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    rig.world().abort_next_accepts(3);
    for _ in 0..5 {
        rig.client();
    }
    rig.turn();
    assert_eq!(rig.listener_count(ListenerCell::Accepted), 2, "in one turn");
    assert_eq!(rig.listener_count(ListenerCell::Paused), 0);
}

#[test]
fn at_a_limit_the_listener_rests_until_a_session_ends() {
    for limit in ["max_connections: 2", "limits: {max_connections: 2}"] {
        let mut rig = Rig::still(&config_text(&[1], limit));
        let clients: Vec<PeerId> = (0..5).map(|_| rig.client()).collect();
        rig.settle();
        assert_eq!(rig.worker.census().sessions, 2, "{limit}");
        let listener = rig.listeners[0].1;
        assert_eq!(rig.world().queued_clients(listener), 3);
        rig.world().take_calls();
        rig.pass(5_000, 100);
        assert_eq!(rig.world().take_calls().accept, 0, "nobody is asked for");
        for client in clients {
            rig.world().peer_close_write(client);
            for backend in rig.accepted(0) {
                rig.world().peer_close_write(backend);
            }
            rig.settle();
            assert!(rig.worker.census().sessions <= 2);
        }
        for backend in rig.accepted(0) {
            rig.world().peer_close_write(backend);
        }
        rig.settle();
        assert_eq!(rig.listener_count(ListenerCell::Accepted), 5);
        assert_eq!(rig.worker.census().sessions, 0);
    }
}

#[test]
fn one_listener_at_its_limit_does_not_hold_back_another() {
    let text = "listeners:
  - {name: one, listen: \"10.9.9.9:80\", upstream: u, limits: {max_connections: 1}}
  - {name: two, listen: \"10.9.9.9:81\", upstream: u}
upstreams:
  u: {backends: [\"10.1.0.1:80\"]}
";
    let mut rig = Rig::still(text);
    for (_, listener) in rig.listeners.clone() {
        for _ in 0..3 {
            rig.world().client_connect(listener);
        }
    }
    rig.settle();
    let accepted = |name| rig.worker.listener_count(name, ListenerCell::Accepted);
    assert_eq!((accepted("one"), accepted("two")), (Some(1), Some(3)));
}

#[test]
fn a_limit_that_a_reload_raises_lets_those_in_who_wait() {
    let mut rig = Rig::still(&config_text(&[1], "max_connections: 1"));
    for _ in 0..3 {
        rig.client();
    }
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 1);
    // From here on a wait ends only for a reason.
    rig.world().settings_mut().sleep_ms_max = None;
    let before = rig.world().now();
    rig.reload(&config_text(&[1], "max_connections: 3"));
    rig.turn();
    rig.turn();
    assert_eq!(rig.worker.census().sessions, 3);
    assert_eq!(rig.world().now(), before, "at once");
}

#[test]
fn a_full_backend_is_passed_over_and_used_again_when_it_has_room() {
    let text = "listen: \"10.9.9.9:80\"
name: in
stats_interval: 0
backends:
  - {address: \"10.1.0.1:80\", max_connections: 1, weight: 9}
  - {address: \"10.1.0.2:80\", max_connections: 2}
";
    let mut rig = Rig::still(text);
    let clients: Vec<PeerId> = (0..4).map(|_| rig.client()).collect();
    rig.settle();
    let (first, second) = (rig.accepted(0), rig.accepted(1));
    assert_eq!((first.len(), second.len()), (1, 2));
    assert!(rig.world().peer_saw_reset(clients[3]), "all are full");
    assert_eq!(rig.listener_count(ListenerCell::Refused), 1);
    rig.world().peer_reset(first[0]);
    rig.settle();
    rig.client();
    rig.settle();
    assert_eq!(rig.accepted(0).len(), 1);
}
