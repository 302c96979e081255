//! What a layer between the bytes of a socket and those of a session must not change: nothing of
//! what the other tests say, and what only a layer can get wrong.

use crate::net::{PeerId, Settings};
use crate::over_records;
use crate::rig::{Rig, config_text};
use crate::rules::bytes;

/// They count calls, splices or buffers, of which a layer makes others.
const LEFT_OUT: [&str; 8] = [
    RECORDS,
    TLS,
    "cost::a_short_connection_costs_these_calls",
    "cost::a_thousand_idle_sessions_cost_nothing_until_their_deadline",
    "rules::a_full_pipe_is_not_taken_for_an_empty_socket",
    "rules::an_idle_direction_holds_no_pipe",
    "rules::one_edge_is_enough_for_many_reads",
    "rules::with_hardly_any_buffer_memory_everyone_still_finishes",
];

const RECORDS: &str = "layered::everything_else_passes_over_records_too";
const TLS: &str = "layered::everything_else_passes_over_tls_too";

#[test]
fn everything_else_passes_over_records_too() {
    over_records::run("toy", &LEFT_OUT);
}

/// And these are about what only the toy has: a record that asks, and records of a known size.
const LEFT_OUT_OF_TLS: [&str; 2] = [
    "layered::a_layer_answers_though_its_session_has_nothing_to_say",
    "layered::what_a_layer_still_holds_at_a_timeout_is_not_ended_as_if_it_had_left",
];

#[test]
fn everything_else_passes_over_tls_too() {
    over_records::run("tls", &[&LEFT_OUT[..], &LEFT_OUT_OF_TLS].concat());
}

fn rig(more: &str) -> Rig {
    let settings = Settings {
        has_layer: true,
        ..Settings::plain()
    };
    Rig::with(settings, &config_text(&[1], more))
}

#[test]
fn both_directions_end_by_themselves() {
    let mut rig = rig("");
    let (client, backend) = rig.session();
    rig.world().peer_send(client, &bytes(10_000));
    rig.world().peer_close_write(client);
    rig.settle();
    assert_eq!(rig.world().peer_received(backend), bytes(10_000));
    assert!(rig.world().peer_saw_end(backend));
    rig.world().peer_send(backend, &bytes(20_000));
    rig.settle();
    assert_eq!(rig.world().peer_received(client), bytes(20_000));
    assert!(!rig.world().peer_saw_end(client));
    rig.world().peer_close_write(backend);
    rig.settle();
    assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn a_client_that_marks_its_end_between_requests_is_not_waited_for() {
    let mut rig = rig("mode: http");
    let client = rig.client();
    rig.world()
        .peer_send(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    rig.settle();
    let backend = rig.accepted(0)[0];
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    rig.world().peer_send(backend, answer);
    rig.settle();
    assert!(rig.world().peer_received(client).ends_with(b"ok"));
    rig.world().peer_mark_end(client);
    rig.settle();
    assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn an_end_without_its_mark_is_no_end() {
    let mut rig = rig("");
    let (client, backend) = rig.session();
    rig.world().peer_send(backend, b"half of an answer");
    rig.world().peer_cut_write(backend);
    rig.settle();
    // The reset follows at once and may overtake them.
    let received = rig.world().peer_received(client).to_vec();
    assert!(b"half of an answer".starts_with(&received));
    assert!(rig.world().peer_saw_reset(client) && !rig.world().peer_saw_end(client));
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn bytes_that_are_no_records_end_the_session() {
    let mut rig = rig("");
    let (client, backend) = rig.session();
    rig.world().peer_send_raw(client, b"GET / HTTP/1.1\r\n\r\n");
    rig.settle();
    assert!(rig.world().peer_received(backend).is_empty());
    assert!(rig.world().peer_saw_reset(client) && rig.world().peer_saw_reset(backend));
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn what_a_layer_holds_for_a_slow_target_arrives_with_its_end() {
    let mut rig = rig("");
    let (client, backend) = rig.session();
    rig.world().peer_read_enabled(client, false);
    rig.world().peer_send(backend, &bytes(200_000));
    rig.world().peer_close_write(backend);
    rig.settle();
    assert!(rig.world().peer_received(client).is_empty());
    rig.world().peer_read_enabled(client, true);
    rig.settle();
    assert_eq!(rig.world().peer_received(client), bytes(200_000));
    assert!(rig.world().peer_saw_end(client));
}

#[test]
fn what_a_layer_still_holds_at_a_timeout_is_not_ended_as_if_it_had_left() {
    let mut rig = rig("timeouts: {idle: 10s}");
    let (client, backend) = rig.session();
    rig.world().peer_read_enabled(client, false);
    // The window is full to the byte, and the rest fits the layer.
    rig.world().peer_send(backend, &bytes(65_000));
    rig.settle();
    rig.pass(11_000, 1_000);
    assert_eq!(rig.worker.census().sessions, 0);
    assert!(rig.world().peer_saw_reset(client));
}

#[test]
fn a_timeout_marks_no_end() {
    let mut rig = rig("timeouts: {idle: 10s}");
    let (client, backend) = rig.session();
    rig.world().peer_send(backend, b"half of an answer");
    rig.settle();
    rig.pass(11_000, 1_000);
    assert_eq!(rig.worker.census().sessions, 0);
    for peer in [client, backend] {
        assert!(rig.world().peer_saw_reset(peer) && !rig.world().peer_saw_end(peer));
    }
    assert_eq!(rig.world().peer_received(client), b"half of an answer");
}

#[test]
fn a_layer_answers_though_its_session_has_nothing_to_say() {
    let mut rig = rig("");
    let (client, backend) = rig.session();
    for peer in [client, backend] {
        rig.world().peer_ask_layer(peer);
        rig.settle();
        assert_eq!(rig.world().peer_notes(peer), 1);
    }
    assert_eq!(rig.worker.census().sessions, 1);
}

/// Whole crowds of them, all there at once.
const CROWD: usize = 1_000_000;
/// What a session may ask of the kernel in a turn, whatever comes.
const READS_MAX: u64 = 40;

fn wide_rig(is_tls: bool) -> Rig {
    let settings = Settings {
        has_layer: true,
        is_tls,
        window_bytes: 64 << 20..=64 << 20,
        segment_bytes: 64 << 20..=64 << 20,
        ..Settings::plain()
    };
    Rig::with(settings, &config_text(&[1], ""))
}

/// Turns until nothing is left to be done: how many, of which none may read much.
fn settle_in_small_turns(rig: &mut Rig) -> usize {
    let mut turns = 0;
    loop {
        let before = rig.world().calls();
        rig.turn();
        let reads = rig.world().calls().read - before.read;
        assert!(reads <= READS_MAX, "{reads} reads in one turn");
        turns += usize::from(reads > 0);
        if reads == 0 && rig.worker.census().queued == 0 {
            return turns;
        }
    }
}

#[test]
fn records_that_carry_nothing_hold_up_nobody() {
    let mut rig = wide_rig(false);
    let (client, backend) = rig.session();
    for (from, to) in [(client, backend), (backend, client)] {
        rig.world().peer_send_notes(from, CROWD);
        rig.world().peer_send(from, b"behind them");
        assert!(settle_in_small_turns(&mut rig) > 5);
        assert_eq!(rig.world().peer_received(to), b"behind them");
    }
    assert_eq!(rig.worker.census().sessions, 1);
}

#[test]
fn records_that_carry_little_hold_up_nobody() {
    let mut rig = wide_rig(true);
    let (client, backend) = rig.session();
    let little = bytes(100_000);
    for byte in &little {
        rig.world().peer_send(client, &[*byte]);
    }
    assert!(settle_in_small_turns(&mut rig) > 5);
    assert_eq!(rig.world().peer_received(backend), little);
}

/// Sends through a relay whose target is slow, and cuts the connection behind that.
fn send_and_cut(rig: &mut Rig, from: PeerId, to: PeerId, count: usize) {
    rig.world().peer_read_enabled(to, false);
    rig.world().peer_send(from, &bytes(count));
    rig.world().peer_cut_write(from);
    rig.settle();
}

#[test]
fn what_came_before_a_cut_is_delivered_and_then_its_receiver_is_cut_off() {
    for (is_tls, count) in [
        (false, 20_000),
        (false, 300_000),
        (true, 20_000),
        (true, 300_000),
    ] {
        for is_up in [false, true] {
            let settings = Settings {
                has_layer: true,
                is_tls,
                ..Settings::plain()
            };
            let mut rig = Rig::with(settings, &config_text(&[1], ""));
            let (client, backend) = rig.session();
            let (from, to) = if is_up {
                (client, backend)
            } else {
                (backend, client)
            };
            send_and_cut(&mut rig, from, to, count);
            assert!(
                !rig.world().peer_saw_reset(to),
                "it has not taken everything"
            );
            assert_eq!(rig.worker.census().sessions, 1);
            rig.world().peer_read_pace(to, 10_000, 100);
            rig.world().peer_read_enabled(to, true);
            rig.pass(10_000, 50);
            assert_eq!(rig.world().peer_received(to), bytes(count));
            assert!(rig.world().peer_saw_reset(to) && !rig.world().peer_saw_end(to));
            assert_eq!(rig.worker.census().sessions, 0);
        }
    }
}

#[test]
fn a_receiver_that_takes_nothing_is_not_waited_for_longer_than_a_half_closed_one() {
    let mut rig = rig("timeouts: {half_closed: 10s}");
    let (client, backend) = rig.session();
    send_and_cut(&mut rig, backend, client, 20_000);
    rig.pass(9_000, 100);
    assert_eq!(rig.worker.census().sessions, 1);
    rig.pass(3_000, 100);
    assert_eq!(rig.worker.census().sessions, 0);
    rig.world().peer_read_enabled(client, true);
    rig.settle();
    assert!(rig.world().peer_saw_reset(client) && !rig.world().peer_saw_end(client));
}
