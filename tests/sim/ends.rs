//! How sessions end: half-close, reset, timeout, failed connects, drain and stop.

use weir::board::{BackendCell, ListenerCell};
use weir::worker::Stage;

use crate::net::{Behaviour, PeerId, Settings};
use crate::rig::{Rig, config_text, origin_address};
use crate::rules::bytes;

#[test]
fn a_request_followed_by_an_end_still_gets_its_full_answer() {
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {half_closed: 10s}"));
    let (client, backend) = rig.session();
    rig.world().peer_send(client, b"request");
    rig.world().peer_close_write(client);
    rig.settle();
    assert_eq!(rig.world().peer_received(backend), b"request");
    assert!(rig.world().peer_saw_end(backend));
    assert!(!rig.world().peer_saw_end(client));
    let answer = bytes(300_000);
    rig.world().peer_send(backend, &answer);
    rig.world().peer_close_write(backend);
    rig.settle();
    assert_eq!(rig.world().peer_received(client), answer);
    assert!(rig.world().peer_saw_end(client));
    assert_eq!(rig.worker.census().sessions, 0);
    assert_eq!(rig.listener_count(ListenerCell::Reset), 0);
}

#[test]
fn a_backend_that_ends_first_still_gets_everything() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    rig.world().peer_send(backend, b"greeting");
    rig.world().peer_close_write(backend);
    rig.settle();
    assert!(rig.world().peer_saw_end(client));
    rig.world().peer_send(client, &bytes(300_000));
    rig.world().peer_close_write(client);
    rig.settle();
    assert_eq!(rig.world().peer_received(backend), bytes(300_000));
    assert!(rig.world().peer_saw_end(backend));
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn a_client_that_resets_before_there_is_a_connection_is_not_waited_for() {
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {connect: 10s}"));
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Blackhole);
    let client = rig.client();
    rig.settle();
    rig.world().peer_close_write(client);
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 1, "an end is no reset");
    rig.world().peer_reset(client);
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 0);
    assert_eq!(rig.listener_count(ListenerCell::Reset), 1);
}

#[test]
fn a_half_closed_session_ends_when_its_other_half_rests_too_long() {
    let text = config_text(&[1], "timeouts: {half_closed: 10s}");
    let mut rig = Rig::still(&text);
    let (client, backend) = rig.session();
    rig.world().peer_close_write(client);
    rig.settle();
    for _ in 0..5 {
        rig.pass(9_000, 1_000);
        rig.world().peer_send(backend, b"x");
        rig.settle();
    }
    assert_eq!(rig.worker.census().sessions, 1, "it moves");
    rig.pass(10_000, 1_000);
    assert_eq!(rig.worker.census().sessions, 0);
    assert_eq!(rig.listener_count(ListenerCell::TimedOut), 1);
}

#[test]
fn a_reset_by_the_backend_in_midstream_is_a_reset_to_the_client() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    rig.world().peer_send(backend, b"half of it");
    rig.settle();
    rig.world().peer_reset(backend);
    rig.settle();
    assert_eq!(rig.world().peer_received(client), b"half of it");
    assert!(rig.world().peer_saw_reset(client));
    assert!(!rig.world().peer_saw_end(client));
    assert_eq!(rig.listener_count(ListenerCell::Reset), 1, "counted once");
}

#[test]
fn a_reset_that_a_write_finds_first_is_a_reset_to_the_client() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    // Both are there in one turn: the client's bytes go first and find the reset.
    rig.world().peer_send(client, b"for nobody");
    rig.world().peer_reset(backend);
    rig.settle();
    assert!(rig.world().peer_saw_reset(client));
    assert!(!rig.world().peer_saw_end(client));
    assert_eq!(rig.listener_count(ListenerCell::Reset), 1, "counted once");
}

#[test]
fn a_client_that_resets_while_its_backend_does_not_read_is_not_kept() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    rig.world().peer_read_enabled(backend, false);
    rig.world().peer_send(client, &bytes(1_000_000));
    rig.settle();
    rig.world().peer_reset(client);
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 0);
    assert!(rig.world().peer_saw_reset(backend));
}

#[test]
fn a_client_that_ends_while_its_backend_does_not_read_is_kept() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    rig.world().peer_read_enabled(backend, false);
    rig.world().peer_send(client, &bytes(300_000));
    rig.world().peer_close_write(client);
    rig.settle();
    rig.world().peer_read_enabled(backend, true);
    rig.settle();
    assert_eq!(rig.world().peer_received(backend), bytes(300_000));
    assert!(rig.world().peer_saw_end(backend));
}

#[test]
fn what_a_backend_sent_before_its_reset_still_arrives() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let (client, backend) = rig.session();
    rig.world().peer_send(backend, b"last words");
    rig.world().settle();
    rig.world().peer_send(client, b"for nobody");
    rig.world().peer_reset(backend);
    rig.settle();
    // A reset follows at once and may overtake them on a real network; here it does not.
    let received = rig.world().peer_received(client).to_vec();
    assert!(b"last words".starts_with(&received));
    assert_eq!(rig.listener_count(ListenerCell::BytesOut), 10);
    assert!(rig.world().peer_saw_reset(client));
}

#[test]
fn what_a_slow_client_has_not_taken_before_a_reset_still_leaves() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    rig.world().settings_mut().window_bytes = 4..=4;
    let client = rig.client();
    rig.world().settings_mut().window_bytes = 100..=100;
    rig.settle();
    let backend = rig.accepted(0)[0];
    rig.world().peer_send(backend, b"last words");
    rig.world().settle();
    rig.world().peer_reset(backend);
    rig.settle();
    assert_eq!(rig.listener_count(ListenerCell::BytesOut), 10);
    assert!(rig.world().peer_saw_reset(client));
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn a_refused_or_unreachable_backend_is_followed_by_the_next() {
    for behaviour in [
        Behaviour::Refuse,
        Behaviour::Unreachable,
        Behaviour::Forbidden,
    ] {
        let mut rig = Rig::still(&config_text(&[9, 1], ""));
        rig.world().origin_listen(&origin_address(0), behaviour);
        let client = rig.client();
        rig.world().peer_send(client, b"all of it");
        rig.settle();
        let backend = rig.accepted(1)[0];
        assert_eq!(rig.world().peer_received(backend), b"all of it");
        assert_eq!(rig.backend_count(0, BackendCell::ConnectFailures), 1);
        assert_eq!(rig.backend_count(0, BackendCell::Active), 0);
        assert_eq!(rig.backend_count(1, BackendCell::Retries), 1);
        assert_eq!(rig.worker.census().leases, 1);
    }
}

#[test]
fn a_backend_that_never_answers_is_followed_by_the_next() {
    let text = config_text(&[9, 1], "timeouts: {connect: 2s}");
    let mut rig = Rig::still(&text);
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Blackhole);
    let client = rig.client();
    rig.world().peer_send(client, b"all of it");
    rig.settle();
    rig.pass(1_999, 1_999);
    assert!(rig.accepted(1).is_empty());
    rig.pass(1, 1);
    let backend = rig.accepted(1)[0];
    assert_eq!(rig.world().peer_received(backend), b"all of it");
    assert_eq!(rig.backend_count(0, BackendCell::ConnectFailures), 1);
}

#[test]
fn without_a_usable_backend_the_client_is_reset_at_once() {
    let mut rig = Rig::still(&config_text(&[1, 1, 1, 1], "retries: {tries: 3}"));
    for k in 0..4 {
        rig.world()
            .origin_listen(&origin_address(k), Behaviour::Refuse);
    }
    let client = rig.client();
    rig.settle();
    assert!(rig.world().peer_saw_reset(client));
    assert_eq!(rig.listener_count(ListenerCell::Refused), 1);
    let failures: u64 = (0..4)
        .map(|k| rig.backend_count(k, BackendCell::ConnectFailures))
        .sum();
    assert_eq!(failures, 3, "as many as may be tried");
    assert_eq!(rig.worker.census().leases, 0);
}

#[test]
fn a_backend_that_takes_and_closes_ends_the_session_cleanly() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::AcceptThenClose);
    let client = rig.client();
    rig.settle();
    assert!(rig.world().peer_saw_end(client));
    rig.world().peer_close_write(client);
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn a_drain_serves_those_who_wait_in_the_queue_and_then_closes() {
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {drain: 30s}"));
    let waiting: Vec<_> = (0..200).map(|_| rig.client()).collect();
    rig.world().settle();
    rig.worker.drain();
    rig.pass(1_000, 10);
    assert_eq!(rig.world().open_listeners(), 0);
    assert_eq!(rig.worker.census().sessions, 200);
    let late = rig.client();
    rig.settle();
    assert!(rig.world().peer_saw_reset(late));
    let backends = rig.accepted(0);
    for peer in waiting.iter().chain(&backends) {
        rig.world().peer_close_write(*peer);
    }
    rig.settle();
    assert_eq!(rig.worker.stage(), Stage::Finished);
    assert_eq!(rig.worker.cut_sessions(), 0);
    assert_eq!(rig.world().open_streams(), 0);
    for client in waiting {
        assert!(rig.world().peer_saw_end(client));
    }
}

#[test]
fn a_client_that_connects_while_a_listener_closes_is_served_or_refused_but_never_lost() {
    const ROUND_TRIP_MS: u64 = 40;
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {drain: 30s}"));
    // Each comes a moment later than the one before, the middle one with the end.
    rig.world().settings_mut().delay_ms = ROUND_TRIP_MS..=ROUND_TRIP_MS;
    let mut clients = Vec::new();
    for moment in 0..200 {
        if moment == 100 {
            rig.worker.drain();
            rig.settle();
        }
        clients.push(rig.client());
        rig.pass(1, 1);
    }
    rig.world().settings_mut().delay_ms = 0..=0;
    rig.pass(2_000, 10);
    let (before, after) = clients.split_at(100);
    for client in before {
        assert!(rig.world().was_accepted(*client), "its handshake had begun");
    }
    for client in after {
        assert!(!rig.world().was_accepted(*client), "it came too late");
        assert!(rig.world().peer_saw_reset(*client), "so it is refused");
    }
}

#[test]
fn a_drain_ends_at_its_timeout_and_cuts_what_still_runs() {
    let text = config_text(&[1], "timeouts: {drain: 30s, pre_drain: 2s}");
    let mut rig = Rig::still(&text);
    let (client, backend) = rig.session();
    rig.worker.drain();
    rig.pass(1_999, 100);
    let late = rig.client();
    rig.settle();
    assert_eq!(rig.accepted(0).len(), 1, "it still accepts for a while");
    rig.pass(29_000, 1_000);
    assert_eq!(rig.worker.stage(), Stage::Draining);
    rig.pass(2_000, 1_000);
    assert_eq!(rig.worker.stage(), Stage::Finished);
    assert_eq!(rig.worker.cut_sessions(), 2);
    assert_eq!(rig.listener_count(ListenerCell::Cut), 2);
    for peer in [client, backend, late] {
        assert!(rig.world().peer_saw_reset(peer), "never a clean end");
    }
    assert_eq!(rig.world().open_streams(), 0);
}

#[test]
fn a_removed_backend_keeps_its_sessions_and_gets_no_new_ones() {
    let mut rig = Rig::still(&config_text(&[1, 1], ""));
    let clients = [rig.client(), rig.client()];
    rig.settle();
    let (kept, removed) = (rig.accepted(0)[0], rig.accepted(1)[0]);
    rig.reload(&config_text(&[1], ""));
    for _ in 0..4 {
        rig.client();
    }
    rig.settle();
    assert_eq!((rig.accepted(0).len(), rig.accepted(1).len()), (4, 0));
    for client in clients {
        rig.world().peer_send(client, b"go on");
        rig.world().peer_close_write(client);
    }
    for backend in [kept, removed] {
        rig.world().peer_close_write(backend);
    }
    rig.settle();
    assert_eq!(rig.world().peer_received(removed), b"go on");
    assert_eq!(rig.world().peer_received(kept), b"go on");
    assert_eq!(rig.worker.census().leases, 4);
    let label = format!("default/{}", crate::rig::origin(1));
    let gone = rig.worker.backend_count(&label, BackendCell::Picks);
    assert_eq!(gone, None, "with its last session it is forgotten");
}

#[test]
fn a_removed_listener_serves_its_queue_and_its_sessions_go_on() {
    let full = |listeners: &[(&str, &str)]| {
        let listeners: String = listeners
            .iter()
            .map(|(name, address)| {
                format!("  - {{name: {name}, listen: \"{address}\", upstream: u}}\n")
            })
            .collect();
        format!("listeners:\n{listeners}upstreams:\n  u: {{backends: [\"10.1.0.1:80\"]}}\n")
    };
    let (one, two) = (("in", "10.9.9.9:80"), ("two", "10.9.9.9:81"));
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..Settings::plain()
    };
    let mut rig = Rig::with(settings, &full(&[one, two]));
    let second = rig.listeners[1].1;
    let client = rig.world().client_connect(second);
    rig.world().settle();
    rig.reload(&full(&[one]));
    rig.pass(1_000, 10);
    assert_eq!(rig.world().open_listeners(), 1);
    let backend = rig.accepted(0)[0];
    rig.world().peer_send(client, b"go on");
    rig.settle();
    assert_eq!(rig.world().peer_received(backend), b"go on");
    rig.reload(&full(&[one, two]));
    let third = rig.listeners[2].1;
    rig.world().client_connect(third);
    rig.settle();
    assert_eq!(rig.accepted(0).len(), 1, "and it may come back");
}

#[test]
fn upstreams_that_come_and_go_leave_no_room_taken() {
    let text = |n: usize| {
        format!(
            "listeners:\n  - {{listen: \"10.9.9.9:80\", upstream: u{n}}}\n\
             upstreams:\n  u{n}: {{backends: [\"10.1.0.1:80\"]}}\n"
        )
    };
    let mut rig = Rig::with(Settings::plain(), &text(0));
    let first = rig.client();
    rig.settle();
    let backend = rig.accepted(0)[0];
    for n in 1..20 {
        rig.reload(&text(n));
        rig.client();
        rig.settle();
        assert_eq!(rig.accepted(0).len(), 1, "the new upstream serves");
    }
    // Each session keeps the one that it began with.
    assert_eq!(rig.worker.census().upstreams, 20);
    rig.world().peer_send(first, b"go on");
    rig.settle();
    assert_eq!(rig.world().peer_received(backend), b"go on");
}

#[test]
fn an_upstream_without_sessions_makes_room_for_another() {
    let text = |n: usize| {
        format!(
            "listeners:\n  - {{listen: \"10.9.9.9:80\", routes: [{{prefix: /, upstream: u{n}}}]}}\n\
             upstreams:\n  u{n}: {{backends: [\"10.1.0.1:80\"]}}\n"
        )
    };
    let mut rig = Rig::with(Settings::plain(), &text(0));
    for n in 1..20 {
        rig.reload(&text(n));
        rig.settle();
    }
    // The one that serves, and the one before it.
    assert_eq!(rig.worker.census().upstreams, 2);
}

#[test]
fn a_client_that_comes_while_weir_still_accepts_has_time_to_ask() {
    let text = config_text(&[1], "mode: http\ntimeouts: {pre_drain: 60s}");
    let mut rig = Rig::still(&text);
    rig.worker.drain();
    // Longer than an idle client may stay.
    rig.pass(1_000, 100);
    let client = rig.client();
    rig.pass(200, 50);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    rig.world().peer_send(client, request);
    rig.settle();
    let backends = rig.accepted(0);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    rig.world().peer_send(backends[0], answer);
    rig.settle();
    assert!(rig.world().peer_received(client).ends_with(b"ok"));
    assert!(rig.world().peer_saw_end(client));
}

#[test]
fn a_client_that_cannot_be_watched_is_refused_and_not_cut() {
    let mut rig = Rig::still(&config_text(&[1], "mode: http"));
    rig.world().fails_next_watch = true;
    let client = rig.client();
    rig.settle();
    assert!(rig.world().peer_saw_reset(client));
    assert_eq!(rig.listener_count(ListenerCell::Refused), 1);
    assert_eq!(rig.listener_count(ListenerCell::Cut), 0);
    assert_eq!(rig.worker.cut_sessions(), 0);
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn a_backend_connection_that_cannot_be_watched_is_closed_and_not_blamed_on_the_backend() {
    for more in ["", "mode: http"] {
        let mut rig = Rig::still(&config_text(&[1, 1], more));
        let client = rig.client();
        if !more.is_empty() {
            rig.settle();
        }
        rig.world().fails_next_watch = true;
        rig.world()
            .peer_send(client, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        rig.settle();
        let backends = [0, 1].map(|k| rig.accepted(k));
        let open = |peer: &&PeerId| !rig.world().peer_saw_end(**peer);
        assert_eq!(backends.iter().flatten().filter(open).count(), 1, "{more}");
        for k in [0, 1] {
            assert_eq!(rig.backend_count(k, BackendCell::ConnectFailures), 0);
        }
        assert_eq!(rig.worker.census().sessions, 1, "it goes on elsewhere");
    }
}

#[test]
fn a_probe_that_cannot_be_watched_has_failed_and_the_next_one_runs() {
    let mut rig = Rig::still(&config_text(&[1], "health_check: {interval: 1s}"));
    rig.world().fails_next_watch = true;
    rig.pass(900, 50);
    let probes = |rig: &Rig, cell| rig.backend_count(0, cell);
    assert_eq!(probes(&rig, BackendCell::ProbesFailed), 1);
    rig.pass(2_000, 50);
    assert_eq!(probes(&rig, BackendCell::ProbesFailed), 1);
    assert!(probes(&rig, BackendCell::ProbesPassed) > 0);
}
