//! What things cost in calls of the outside: each is a system call, so a new one fails a test.

use weir::core::time::Tick;

use crate::net::Calls;
use crate::rig::{Rig, config_text};

#[test]
fn a_short_connection_costs_these_calls() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    let client = rig.client();
    rig.world().peer_send(client, b"request");
    rig.world().peer_close_write(client);
    rig.world().take_calls();
    rig.settle();
    let backend = rig.accepted(0)[0];
    rig.world().peer_send(backend, b"answer");
    rig.world().peer_close_write(backend);
    rig.settle();
    assert_eq!(rig.world().peer_received(client), b"answer");
    assert!(rig.world().peer_saw_end(client));
    let calls = rig.world().take_calls();
    let expected = Calls {
        // One finds the queue empty.
        accept: 2,
        connect: 1,
        watch: 2,
        // The bytes and the end, each way.
        read: 4,
        // Both times the end is there with the bytes, and goes on with them.
        write_end: 2,
        // Only the first direction: the close tells the second.
        shutdown: 1,
        close: 2,
        wait: calls.wait,
        ..Calls::default()
    };
    assert_eq!(calls, expected);
}

#[test]
fn a_small_message_over_an_open_connection_costs_a_read_and_a_write() {
    let mut rig = Rig::still(&config_text(&[1], "splice: true"));
    let (client, backend) = rig.session();
    for from in [client, backend] {
        rig.world().peer_send(from, b"a small message");
        rig.world().take_calls();
        rig.turn();
        let expected = Calls {
            wait: 1,
            read: 1,
            write: 1,
            ..Calls::default()
        };
        assert_eq!(rig.world().take_calls(), expected);
    }
}

#[test]
fn a_change_of_protocols_costs_no_more_than_its_response() {
    let mut rig = Rig::still(&config_text(&[1], "mode: http"));
    let client = rig.client();
    let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    rig.world().peer_send(client, ask);
    rig.settle();
    let backend = rig.accepted(0)[0];
    let switch = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    for (from, bytes) in [
        (backend, &switch[..]),
        (client, b"ask"),
        (backend, b"answer"),
    ] {
        rig.world().peer_send(from, bytes);
        rig.world().take_calls();
        rig.settle();
        let calls = rig.world().take_calls();
        let expected = Calls {
            read: 1,
            write: 1,
            wait: calls.wait,
            ..Calls::default()
        };
        assert_eq!(calls, expected);
    }
    assert!(rig.world().peer_received(backend).ends_with(b"ask"));
    assert!(rig.world().peer_received(client).ends_with(b"answer"));
}

#[test]
fn keepalive_costs_one_call_a_connection_and_only_when_it_is_on() {
    let mut rig = Rig::still(&config_text(&[1], "keepalive: on"));
    let (_, backend) = rig.session();
    assert!(rig.world().has_keepalive(backend));
    assert_eq!(rig.world().take_calls().set_keepalive, 1);
}

#[test]
fn a_thousand_idle_sessions_cost_nothing_until_their_deadline() {
    let mut rig = Rig::still(&config_text(&[1], "timeouts: {idle: 10m}"));
    for _ in 0..1000 {
        rig.client();
    }
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 1000);
    rig.world().settings_mut().sleep_ms_max = None;
    rig.world().take_calls();
    while rig.worker.census().sessions > 0 {
        rig.turn();
    }
    assert_eq!(rig.world().now(), Tick(600_000));
    // Each session's timer moves on once from the connect timeout, and down the levels of the
    // wheel, all of them together.
    let calls = rig.world().take_calls();
    assert!(calls.wait <= 10, "it woke {} times", calls.wait);
    let expected = Calls {
        wait: calls.wait,
        // In the end, at the idle timeout.
        close: 2000,
        ..Calls::default()
    };
    assert_eq!(calls, expected);
}

#[test]
fn a_worker_without_sessions_sleeps_for_ever() {
    let mut rig = Rig::still(&config_text(&[1], ""));
    rig.world().settings_mut().sleep_ms_max = None;
    rig.turn();
    assert!(rig.world().is_asleep());
}
