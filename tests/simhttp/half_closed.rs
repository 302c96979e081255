//! Clients that end their direction and wait for their answers.

use crate::net::PeerId;
use crate::rig::{Rig, config_text};
use crate::{ANSWER, ASK, still};

fn answers(rig: &Rig, client: PeerId) -> usize {
    let received = String::from_utf8_lossy(rig.world().peer_received(client)).into_owned();
    received.matches("200 OK").count()
}

/// A client that asks so often, then ends.
fn ended(rig: &mut Rig, request: &[u8], count: usize) -> PeerId {
    let client = rig.client();
    rig.world().peer_send(client, &request.repeat(count));
    rig.world().peer_close_write(client);
    rig.settle();
    client
}

#[test]
fn an_end_is_no_abort() {
    for count in [1, 3] {
        let mut rig = still();
        let client = ended(&mut rig, ASK, count);
        let backend = rig.accepted(0)[0];
        for answered in 0..count {
            rig.pass(20_000, 1_000);
            assert_eq!(answers(&rig, client), answered);
            assert!(!rig.world().peer_saw_end(backend));
            rig.world().peer_send(backend, ANSWER);
            rig.settle();
        }
        assert_eq!(answers(&rig, client), count);
        assert!(rig.world().peer_saw_end(client), "nothing can follow");
        assert!(!rig.world().peer_saw_reset(client));
        assert_eq!(rig.worker.census().sessions, 0);
        assert!(!rig.world().peer_saw_end(backend), "it is kept");
    }
}

#[test]
fn an_end_while_the_backend_is_awaited_is_found_once_and_costs_nothing_more() {
    let mut rig = still();
    let client = rig.client();
    rig.world().peer_send(client, ASK);
    rig.settle();
    rig.world().take_calls();
    rig.world().peer_close_write(client);
    rig.settle();
    let calls = rig.world().take_calls();
    assert_eq!((calls.read, calls.connected), (1, 1));
    for _ in 0..10 {
        rig.turn();
    }
    let calls = rig.world().take_calls();
    assert_eq!((calls.read, calls.connected), (0, 0), "it spins");
}

#[test]
fn a_reset_is_an_abort_behind_an_end_as_well() {
    for ends_first in [true, false] {
        let mut rig = still();
        let client = rig.client();
        rig.world().peer_send(client, ASK);
        rig.settle();
        let backend = rig.accepted(0)[0];
        if ends_first {
            rig.world().peer_close_write(client);
            rig.settle();
        }
        rig.world().peer_reset(client);
        rig.settle();
        assert_eq!(rig.worker.census().sessions, 0);
        assert!(rig.world().peer_saw_reset(backend));
    }
}

#[test]
fn an_end_is_an_abort_where_the_configuration_says_so() {
    // At the upstream, at the route; whether it is one.
    for (upstream, route, is_abort) in [
        ("", "", false),
        (", abort_on_close: true", "", true),
        ("", ", abort_on_close: true", true),
        (", abort_on_close: true", ", abort_on_close: false", false),
    ] {
        let text = format!(
            "stats_interval: 0\nlisteners:\n  - listen: \"10.9.9.9:80\"\n    \
             routes: [{{prefix: /, upstream: pool{route}}}]\nupstreams:\n  \
             pool: {{backends: [\"10.1.0.1:80\"]{upstream}}}\n"
        );
        for has_begun in [false, true] {
            let mut rig = Rig::still(&text);
            let client = rig.client();
            rig.world().peer_send(client, ASK);
            rig.settle();
            let backend = rig.accepted(0)[0];
            let (head, rest) = ANSWER.split_at(ANSWER.len() - 1);
            if has_begun {
                rig.world().peer_send(backend, head);
                rig.settle();
            }
            rig.world().peer_close_write(client);
            rig.settle();
            let was_cut = rig.world().peer_saw_reset(backend);
            assert_eq!(was_cut, is_abort && !has_begun, "{upstream}{route}");
            if !was_cut {
                rig.world()
                    .peer_send(backend, if has_begun { rest } else { ANSWER });
                rig.settle();
                assert_eq!(answers(&rig, client), 1);
            }
        }
    }
}

#[test]
fn requests_before_the_end_are_answered_even_where_it_is_an_abort() {
    let mut rig = Rig::still(&config_text(&[1], "mode: http\nabort_on_close: true"));
    let client = ended(&mut rig, ASK, 2);
    let backend = rig.accepted(0)[0];
    rig.world().peer_send(backend, ANSWER);
    rig.settle();
    assert_eq!(answers(&rig, client), 1);
    assert!(rig.world().peer_saw_reset(backend), "the last is given up");
}

#[test]
fn an_end_inside_a_request_cuts_it() {
    for request in [
        &b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\npart"[..],
        b"POST /0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let mut rig = still();
        ended(&mut rig, request, 1);
        assert_eq!(rig.worker.census().sessions, 0);
        let backend = rig.accepted(0)[0];
        assert!(rig.world().peer_saw_reset(backend));
    }
}

#[test]
fn an_end_before_a_change_of_protocols_reaches_the_backend() {
    let mut rig = still();
    let request = b"GET /0 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly";
    let client = ended(&mut rig, request, 1);
    let backend = rig.accepted(0)[0];
    rig.world().peer_send(
        backend,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    );
    rig.settle();
    assert!(rig.world().peer_received(backend).ends_with(b"early"));
    assert!(rig.world().peer_saw_end(backend));
    rig.world().peer_send(backend, b"late");
    rig.world().peer_close_write(backend);
    rig.settle();
    assert!(rig.world().peer_received(client).ends_with(b"late"));
    assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
}
