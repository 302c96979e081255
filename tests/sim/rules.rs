//! What edge-triggered events demand of the loop, as scripts in a world without accidents.

use weir::board::ListenerCell;

use crate::net::{PeerId, Settings};
use crate::rig::{Rig, config_text};

/// Bytes that differ from their neighbours, so that a loss or a doubling shows.
pub(crate) fn bytes(count: usize) -> Vec<u8> {
    (0..count)
        .map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("below 256"))
        .collect()
}

/// A world in which much arrives at once.
fn wide(window_bytes: usize) -> Settings {
    Settings {
        window_bytes: window_bytes..=window_bytes,
        segment_bytes: window_bytes..=window_bytes,
        sleep_ms_max: Some(0),
        ..Settings::plain()
    }
}

/// A world in which little arrives at once, and more only when that was read.
fn narrow() -> Settings {
    Settings {
        window_bytes: 700..=700,
        segment_bytes: 100..=100,
        sleep_ms_max: Some(0),
        ..Settings::plain()
    }
}

fn send(rig: &Rig, from: PeerId, bytes: &[u8]) {
    rig.world().peer_send(from, bytes);
}

fn has_received(rig: &Rig, peer: PeerId, bytes: &[u8]) -> bool {
    rig.world().peer_received(peer) == bytes
}

#[test]
fn one_edge_is_enough_for_many_reads() {
    let text = config_text(&[1], "splice: false\nbuffers: {size: 8KiB}");
    let mut rig = Rig::with(wide(1 << 18), &text);
    let (client, backend) = rig.session();
    let sent = bytes(1 << 18);
    send(&rig, client, &sent);
    rig.world().take_calls();
    rig.turn();
    let reads = rig.world().calls().read;
    assert!(reads >= 32, "{reads} reads of 8 KiB in one turn");
    rig.settle();
    assert!(has_received(&rig, backend, &sent));
}

#[test]
fn bytes_and_an_end_that_came_before_the_accept_are_both_found() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let client = rig.client();
    rig.world().peer_send(client, b"0123456789");
    rig.world().peer_close_write(client);
    rig.world().settle();
    rig.settle();
    let backend = rig.accepted(0)[0];
    assert!(has_received(&rig, backend, b"0123456789"));
    assert!(
        rig.world().peer_saw_end(backend),
        "without any time passing"
    );
}

#[test]
fn a_turn_that_spent_its_budget_goes_on_without_an_event() {
    let mut rig = Rig::with(wide(1 << 22), &config_text(&[1], ""));
    let (client, backend) = rig.session();
    let sent = bytes(1 << 22);
    send(&rig, client, &sent);
    rig.turn();
    assert_eq!(rig.worker.census().queued, 1, "it waits for its next turn");
    rig.settle();
    assert!(has_received(&rig, backend, &sent));
}

#[test]
fn writes_go_on_without_an_edge_for_room() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    for round in 1..=100 {
        send(&rig, client, b"x");
        rig.turn();
        rig.turn();
        assert_eq!(rig.world().peer_received(backend).len(), round);
    }
}

#[test]
fn events_for_nothing_change_nothing() {
    for seed in 0..20 {
        let settings = Settings {
            spurious_percent: 100,
            jitter_ms: 0..=1,
            ..narrow()
        };
        let text = config_text(&[1], "splice: true");
        let mut rig = Rig::new(seed, settings, &text);
        rig.world().origin_listen(
            &crate::rig::origin_address(0),
            crate::net::Behaviour::Accept,
        );
        let client = rig.client();
        let (up, down) = (bytes(90_000), bytes(5_000));
        send(&rig, client, &up);
        let mut backend = None;
        for _ in 0..10_000 {
            rig.turn();
            if backend.is_none() {
                backend = rig.accepted(0).pop();
                if let Some(backend) = backend {
                    send(&rig, backend, &down);
                }
            }
        }
        let backend = backend.expect("a connection");
        assert!(has_received(&rig, backend, &up));
        assert!(has_received(&rig, client, &down));
        assert_eq!(rig.worker.census().sessions, 1);
    }
}

#[test]
fn an_event_for_the_last_owner_of_a_key_is_dropped_and_counted() {
    let settings = Settings {
        stale_percent: 100,
        ..wide(65_536)
    };
    let mut rig = Rig::with(settings, &config_text(&[1], ""));
    let (first, backend) = rig.session();
    rig.world().peer_close_write(first);
    rig.settle();
    // The first session ends and the second takes its key in one turn.
    rig.world().peer_close_write(backend);
    let second = rig.client();
    rig.turn();
    assert_eq!(rig.worker.census().sessions, 1);
    assert_eq!(rig.worker.census().stale_events, 0);
    rig.settle();
    assert_eq!(rig.worker.census().stale_events, 2, "one for each endpoint");
    let backend = rig.accepted(0)[0];
    send(&rig, second, b"still here");
    rig.settle();
    assert!(has_received(&rig, backend, b"still here"));
}

#[test]
fn a_hangup_alone_ends_a_session() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    rig.world().peer_reset(client);
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 0);
    assert!(rig.world().peer_saw_reset(backend));
    assert_eq!(rig.listener_count(ListenerCell::Reset), 1);
}

#[test]
fn a_full_pipe_is_not_taken_for_an_empty_socket() {
    let settings = Settings {
        pipe_slots: 2,
        segment_bytes: 9_000..=9_000,
        ..wide(65_536)
    };
    let mut rig = Rig::with(settings, &config_text(&[1], "splice: true"));
    let (client, backend) = rig.session();
    let sent = bytes(200_000);
    send(&rig, client, &sent);
    rig.world().peer_close_write(client);
    rig.settle();
    assert!(rig.world().calls().fill > 0, "it was spliced");
    assert!(has_received(&rig, backend, &sent));
    assert!(rig.world().peer_saw_end(backend));
}

#[test]
fn short_messages_are_copied_however_many_there_were() {
    let mut rig = Rig::with(wide(65_536), &config_text(&[1], "splice: true"));
    let (client, backend) = rig.session();
    let bulk = bytes(200_000);
    send(&rig, client, &bulk);
    rig.settle();
    assert!(has_received(&rig, backend, &bulk));
    send(&rig, client, b"the end of it");
    rig.settle();
    rig.world().take_calls();
    for _ in 0..10 {
        send(&rig, client, b"message");
        rig.settle();
    }
    let calls = rig.world().take_calls();
    assert_eq!((calls.fill, calls.drain), (0, 0));
    assert_eq!((calls.read, calls.write), (10, 10));
}

#[test]
fn an_idle_direction_holds_no_pipe() {
    let mut rig = Rig::with(wide(65_536), &config_text(&[1], "splice: true"));
    let (client, backend) = rig.session();
    let sent = bytes(200_000);
    send(&rig, client, &sent);
    rig.settle();
    assert!(rig.world().calls().fill > 0, "it was spliced");
    assert!(has_received(&rig, backend, &sent));
    assert_eq!(rig.worker.census().pipes_lent, 0);
}

#[test]
fn a_marked_session_runs_in_every_turn_beside_endless_senders() {
    let mut rig = Rig::with(wide(1 << 23), &config_text(&[1], ""));
    let (marked, backend) = rig.session();
    let greedy: Vec<PeerId> = (0..5).map(|_| rig.session().0).collect();
    for &one in &greedy {
        send(&rig, one, &bytes(1 << 23));
    }
    for round in 1..=10 {
        send(&rig, marked, b"x");
        rig.turn();
        rig.world().settle();
        let received = rig.world().peer_received(backend).len();
        assert_eq!(received, round, "served in the turn in which it arrived");
        assert!(rig.worker.census().queued >= 5, "the others still send");
    }
}

#[test]
fn a_sender_is_not_read_while_its_receiver_stalls() {
    for more in [
        "buffers: {size: 8KiB}",
        "buffers: {size: 8KiB}\nsplice: true",
    ] {
        let mut rig = Rig::with(narrow(), &config_text(&[1], more));
        let (client, backend) = rig.session();
        send(&rig, client, &bytes(100_000));
        rig.settle();
        rig.world().peer_read_enabled(backend, false);
        let sent = bytes(1_000_000);
        send(&rig, client, &sent[100_000..]);
        rig.settle();
        let left = rig.world().peer_unsent(client);
        assert!(left > 850_000, "{left} bytes stay with the sender");
        let census = rig.worker.census();
        assert!(census.buffers_lent + census.pipes_lent <= 1);
        rig.world().take_calls();
        rig.pass(5_000, 100);
        let calls = rig.world().take_calls();
        assert_eq!(
            (calls.read, calls.write, calls.write_end),
            (0, 0, 0),
            "nothing to do"
        );
        rig.world().peer_read_enabled(backend, true);
        rig.settle();
        assert_eq!(rig.world().peer_unsent(client), 0);
        let received = rig.world().peer_received(backend).len();
        assert_eq!(received, 1_000_000);
    }
}

#[test]
fn with_hardly_any_buffer_memory_everyone_still_finishes() {
    let text = config_text(&[1], "buffers: {size: 8KiB, memory: 32KiB}");
    let mut rig = Rig::with(narrow(), &text);
    let sessions: Vec<_> = (0..100).map(|_| rig.session()).collect();
    let sent = bytes(20_000);
    for &(client, backend) in &sessions {
        rig.world().peer_read_enabled(backend, false);
        rig.world().peer_read_enabled(client, false);
        send(&rig, client, &sent);
        send(&rig, backend, &sent);
    }
    rig.settle();
    let census = rig.worker.census();
    assert!(census.buffers_lent > 4, "the pool is empty");
    assert!(census.bytes_waiting <= 32 << 10, "that is the bound");
    assert!(census.short > 10, "some wait for memory");
    for &(client, backend) in &sessions {
        for peer in [client, backend] {
            rig.world().peer_read_enabled(peer, true);
            rig.world().peer_close_write(peer);
        }
    }
    rig.settle();
    for &(client, backend) in &sessions {
        assert!(has_received(&rig, backend, &sent) && has_received(&rig, client, &sent));
        assert!(rig.world().peer_saw_end(backend) && rig.world().peer_saw_end(client));
    }
    let census = rig.worker.census();
    assert_eq!((census.sessions, census.bytes_waiting), (0, 0));
}

#[test]
fn what_is_there_already_beats_a_timeout_that_is_due() {
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {idle: 10s}"));
    let (client, backend) = rig.session();
    rig.world().peer_send(backend, b"in time");
    rig.world().advance(3_600_000);
    rig.settle();
    assert!(has_received(&rig, client, b"in time"));
    assert_eq!(rig.worker.census().sessions, 1);
    rig.pass(10_000, 10_000);
    assert_eq!(rig.worker.census().sessions, 0, "and then it is idle");
    assert_eq!(rig.listener_count(ListenerCell::TimedOut), 1);
}

#[test]
fn a_connection_that_is_there_already_beats_its_timeout() {
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {connect: 1s}"));
    let client = rig.client();
    rig.turn();
    rig.world().advance(60_000);
    rig.settle();
    assert_eq!(rig.accepted(0).len(), 1);
    assert_eq!(rig.worker.census().sessions, 1);
    assert!(!rig.world().peer_saw_reset(client));
}

#[test]
fn activity_moves_the_deadline_without_touching_the_timer() {
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {idle: 10s}"));
    let (client, _) = rig.session();
    for _ in 0..20 {
        rig.pass(6_000, 1_000);
        send(&rig, client, b"x");
        rig.settle();
    }
    assert_eq!(rig.worker.census().sessions, 1);
    assert_eq!(rig.worker.census().timers, 1);
    rig.pass(9_000, 1_000);
    assert_eq!(rig.worker.census().sessions, 1);
    rig.pass(1_000, 1_000);
    assert_eq!(rig.worker.census().sessions, 0);
}
