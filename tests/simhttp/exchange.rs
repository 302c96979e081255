//! Single exchanges in a still world: what is noticed, and what it must lead to.

use weir::board::BackendCell;

use crate::net::Settings;
use crate::rig::{self, Rig};
use crate::{ANSWER, ASK, ask_and_answer, still};

/// Longest that a response may stand still, by default.
const RESPONSE_IDLE_MS: u64 = 60_000;
/// How long a client may take nothing after a request, by default, when that came late.
const SEND_MS: u64 = 60_000;
/// Less than a client may leave between two requests.
const PAUSE_MS: u64 = 55_000;

fn text(rig: &Rig, peer: crate::net::PeerId) -> String {
    String::from_utf8_lossy(rig.world().peer_received(peer)).into_owned()
}

#[test]
fn an_answer_of_weirs_own_has_its_full_time_after_a_long_wait() {
    let body = "x".repeat(30_000);
    let config = format!(
        "listen: \"10.9.9.9:80\"\nstats_interval: 0\n\
         routes: [{{prefix: /, respond: {{status: 200, body: \"{body}\"}}}}]\n"
    );
    let settings = Settings {
        sleep_ms_max: Some(0),
        window_bytes: 10_000..=10_000,
        ..Settings::plain()
    };
    let mut rig = Rig::with(settings, &config);
    let client = rig.client();
    rig.settle();
    rig.pass(PAUSE_MS, 1_000);
    rig.world().peer_read_enabled(client, false);
    rig.world().peer_send(client, ASK);
    rig.pass(SEND_MS - 1_000, 1_000);
    rig.world().peer_read_enabled(client, true);
    rig.settle();
    assert!(text(&rig, client).ends_with(&body), "it was cut");
}

#[test]
fn a_client_that_leaves_a_silent_response_is_noticed_at_once() {
    for ends_first in [false, true] {
        let mut rig = still();
        let client = rig.client();
        rig.world().peer_send(client, ASK);
        rig.settle();
        let backend = rig.accepted(0)[0];
        rig.world()
            .peer_send(backend, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
        rig.settle();
        assert!(text(&rig, client).ends_with("part"));
        if ends_first {
            rig.world().peer_close_write(client);
            rig.settle();
            assert_eq!(rig.worker.census().sessions, 1, "it may still listen");
        }
        rig.world().peer_reset(client);
        rig.settle();
        assert_eq!(rig.worker.census().sessions, 0, "it was not noticed");
        let world = rig.world();
        assert!(world.peer_saw_end(backend) || world.peer_saw_reset(backend));
    }
}

#[test]
fn who_announced_its_last_request_may_end_and_still_gets_its_response() {
    let mut rig = still();
    let client = rig.client();
    rig.world().peer_send(
        client,
        b"GET /0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    rig.settle();
    let backend = rig.accepted(0)[0];
    rig.world()
        .peer_send(backend, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart");
    rig.settle();
    rig.world().peer_close_write(client);
    rig.settle();
    rig.world().peer_send(backend, b", end");
    rig.settle();
    assert!(text(&rig, client).ends_with("part, end"));
}

#[test]
fn protocols_do_not_change_before_the_request_has_left() {
    let mut rig = still();
    let client = rig.client();
    let length = 65_536 + 10_000;
    let head = format!(
        "POST /0 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    rig.world().peer_send(client, head.as_bytes());
    rig.settle();
    let backend = rig.accepted(0)[0];
    rig.world().peer_read_enabled(backend, false);
    rig.world().peer_send(client, &vec![b'b'; length]);
    rig.settle();
    assert_eq!(rig.worker.census().buffers_lent, 1, "a part is held");
    rig.world().peer_send(
        backend,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    );
    rig.settle();
    let received = text(&rig, client);
    assert!(received.starts_with("HTTP/1.1 502 "), "{received}");
}

#[test]
fn a_stalled_body_without_length_does_not_end_cleanly() {
    let mut rig = still();
    let client = rig.client();
    rig.world()
        .peer_send(client, b"GET /0 HTTP/1.0\r\nHost: a\r\n\r\n");
    rig.settle();
    let backend = rig.accepted(0)[0];
    rig.world()
        .peer_send(backend, b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart");
    rig.settle();
    rig.pass(RESPONSE_IDLE_MS + 1_000, 500);
    assert!(text(&rig, client).ends_with("part"));
    assert!(rig.world().peer_saw_reset(client), "it looks complete");
}

#[test]
fn what_follows_a_response_at_once_is_no_answer_to_the_next_request() {
    let first = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{}",
        "f".repeat(400)
    );
    let settings = Settings {
        sleep_ms_max: Some(0),
        // The surplus arrives between the read of the response and the use of its connection.
        window_bytes: first.len()..=first.len(),
        interleave_percent: 100,
        ..Settings::plain()
    };
    let mut rig = Rig::with(settings, &rig::config_text(&[1], "mode: http"));
    let client = rig.client();
    rig.world().peer_send(client, &[ASK, ASK].concat());
    rig.settle();
    let backend = rig.accepted(0)[0];
    let evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    rig.world()
        .peer_send(backend, &[first.as_bytes(), evil].concat());
    rig.settle();
    assert!(!text(&rig, client).contains("evil"));
    let second = rig.accepted(0)[0];
    rig.world().peer_send(second, ANSWER);
    rig.settle();
    assert!(text(&rig, client).ends_with("\r\n\r\nok"));
}

#[test]
fn the_timer_of_a_closed_connection_goes_with_it() {
    let mut rig = still();
    let client = rig.client();
    rig.settle();
    let before = rig.worker.census().timers;
    for _ in 0..3 {
        let backend = ask_and_answer(&mut rig, client);
        assert_eq!(rig.worker.census().timers, before + 1);
        rig.world().peer_close(backend);
        rig.settle();
        assert_eq!(rig.worker.census().timers, before);
    }
}

#[test]
fn a_response_that_comes_too_late_is_no_connect_failure() {
    let more = "mode: http\npassive: {failures: 0, count_5xx: true}";
    let mut rig = Rig::still(&rig::config_text(&[1], more));
    let client = rig.client();
    rig.world().peer_send(client, ASK);
    rig.settle();
    let backend = rig.accepted(0)[0];
    rig.world()
        .peer_send(backend, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    rig.settle();
    assert_eq!(rig.backend_count(0, BackendCell::AnswerFailures), 1);
    rig.world().peer_send(client, ASK);
    rig.pass(61_000, 1_000);
    assert!(text(&rig, client).contains("HTTP/1.1 504 "));
    assert_eq!(rig.backend_count(0, BackendCell::AnswerFailures), 2);
    assert_eq!(rig.backend_count(0, BackendCell::ConnectFailures), 0);
}
