//! Sessions that are not settled before their first bytes have been read.

use weir::board::ListenerCell;
use weir::core::opening::{OPENING_BYTES_MAX, OPENING_MS_MAX};

use crate::net::{Behaviour, PeerId, Settings};
use crate::rig::{Rig, config_text, origin, origin_address};
use crate::rules::bytes;

/// Two upstreams of one backend each; clients go to the first where they say nothing else.
fn two_upstreams() -> String {
    let upstream = |name: &str, k| {
        let address = origin(k);
        format!("  {name}: {{algorithm: ip_hash, backends: [\"{address}\"]}}\n")
    };
    format!(
        "stats_interval: 0\n\
         listeners: [{{name: in, listen: \"10.9.9.9:80\", mode: tcp, upstream: first}}]\n\
         upstreams:\n{}{}",
        upstream("first", 0),
        upstream("second", 1)
    )
}

fn rig(has_layer: bool, text: &str) -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        has_opening: true,
        has_layer,
        ..Settings::plain()
    };
    Rig::with(settings, text)
}

/// A client that has sent these bytes as they are.
fn client(rig: &mut Rig, says: &[u8]) -> PeerId {
    let client = rig.client();
    rig.world().peer_send_raw(client, says);
    rig.settle();
    client
}

/// A client that has sent an opening, and these bytes behind it, which a layer makes records of.
fn client_with(rig: &mut Rig, opening: &[u8], says: &[u8]) -> PeerId {
    let client = rig.client();
    rig.world().peer_send_raw(client, opening);
    rig.world().peer_send(client, says);
    rig.settle();
    client
}

#[test]
fn an_opening_says_where_a_session_goes_and_what_follows_it_gets_there() {
    for has_layer in [false, true] {
        let mut rig = rig(has_layer, &two_upstreams());
        let client = client_with(&mut rig, b"<\x051>", b"first words");
        assert!(rig.accepted(0).is_empty());
        let [backend] = rig.accepted(1)[..] else {
            panic!("one connection to the second upstream");
        };
        assert_eq!(rig.world().peer_received(backend), b"first words");
        rig.world().peer_send(client, &bytes(100_000));
        rig.world().peer_close_write(client);
        rig.settle();
        let received = rig.world().peer_received(backend).to_vec();
        assert_eq!(received[11..], bytes(100_000));
        assert!(rig.world().peer_saw_end(backend));
        assert_eq!(rig.listener_count(ListenerCell::BytesIn), 100_011);
    }
}

#[test]
fn an_opening_may_come_byte_by_byte_and_no_backend_is_asked_before_it_is_whole() {
    let mut rig = rig(false, &two_upstreams());
    let client = rig.client();
    for byte in b"  <\x071" {
        rig.world().peer_send_raw(client, &[*byte]);
        rig.settle();
        assert!(rig.accepted(0).is_empty() && rig.accepted(1).is_empty());
    }
    rig.world().peer_send_raw(client, b">");
    rig.settle();
    assert_eq!(rig.accepted(1).len(), 1);
}

#[test]
fn the_backend_is_chosen_for_the_client_that_the_opening_names() {
    let text = config_text(&[1, 1, 1, 1], "algorithm: ip_hash");
    let chosen = |rig: &mut Rig, opening: &[u8]| {
        client(rig, opening);
        let taken: Vec<usize> = (0..4).filter(|&k| !rig.accepted(k).is_empty()).collect();
        taken[0]
    };
    let mut rig = rig(false, &text);
    let first: Vec<usize> = (1..30)
        .map(|n| chosen(&mut rig, &[b'<', n, b'0', b'>']))
        .collect();
    let again: Vec<usize> = (1..30)
        .map(|n| chosen(&mut rig, &[b'<', n, b'0', b'>']))
        .collect();
    assert_eq!(first, again);
    assert!(first.iter().any(|&k| k != first[0]), "by its address");
}

#[test]
fn what_is_no_opening_is_closed_and_counted() {
    let mut rig = rig(false, &two_upstreams());
    let stranger = client(&mut rig, b"GET / HTTP/1.1\r\n\r\n");
    assert!(rig.world().peer_saw_reset(stranger));
    let endless = client(&mut rig, &vec![b' '; OPENING_BYTES_MAX + 1]);
    assert!(rig.world().peer_saw_reset(endless));
    assert_eq!(rig.listener_count(ListenerCell::Refused), 2);
    assert!(rig.accepted(0).is_empty() && rig.accepted(1).is_empty());
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn an_opening_takes_its_time_in_all_and_not_for_each_byte() {
    let mut rig = rig(false, &two_upstreams());
    let (silent, slow) = (rig.client(), rig.client());
    let step_ms = OPENING_MS_MAX / 4;
    rig.settle();
    for _ in 0..3 {
        rig.world().peer_send_raw(slow, b" ");
        rig.pass(step_ms, step_ms);
        assert_eq!(rig.worker.census().sessions, 2);
    }
    rig.pass(step_ms + 10, 10);
    assert_eq!(rig.worker.census().sessions, 0);
    assert_eq!(rig.listener_count(ListenerCell::TimedOut), 2);
    for client in [silent, slow] {
        assert!(rig.world().peer_saw_end(client) || rig.world().peer_saw_reset(client));
    }
}

#[test]
fn who_leaves_before_anything_is_settled_asked_for_nothing() {
    let mut rig = rig(false, &two_upstreams());
    let (ends, resets) = (rig.client(), rig.client());
    rig.world().peer_send_raw(ends, b"<");
    rig.world().peer_cut_write(ends);
    rig.settle();
    rig.world().peer_reset(resets);
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 0);
    assert!(rig.accepted(0).is_empty());
}

fn one_backend_text() -> String {
    format!(
        "listen: \"10.9.9.9:80\"\nname: in\nstats_interval: 0\n\
         routes: [{{prefix: /, backends: [\"{}\"]}}]\n",
        origin(0)
    )
}

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn http_begins_behind_an_opening() {
    for has_layer in [false, true] {
        let mut rig = rig(has_layer, &one_backend_text());
        client_with(&mut rig, b"<\x090>", REQUEST);
        let [backend] = rig.accepted(0)[..] else {
            panic!("one request");
        };
        let head = String::from_utf8_lossy(rig.world().peer_received(backend)).into_owned();
        assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("X-Forwarded-For: 192.0.2.9\r\n"), "{head}");
    }
}

#[test]
fn an_opening_says_what_is_spoken_whatever_the_listener_does() {
    let mut rig = rig(false, &one_backend_text());
    client_with(&mut rig, b"<\x090|", REQUEST);
    let [backend] = rig.accepted(0)[..] else {
        panic!("one connection");
    };
    assert_eq!(rig.world().peer_received(backend), REQUEST);
}

#[test]
fn sessions_that_open_in_a_hostile_world_lose_nothing() {
    for seed in 0..100 {
        for has_layer in [false, true] {
            open_some(seed, has_layer);
        }
    }
}

/// Ten clients, whose openings and words come in pieces.
fn open_some(seed: u64, has_layer: bool) {
    let settings = Settings {
        has_opening: true,
        has_layer,
        // Who is lost before it is accepted says nothing.
        aborted_percent: 0,
        ..Settings::hostile()
    };
    let mut rig = Rig::new(seed, settings, &two_upstreams());
    for k in 0..2 {
        rig.world()
            .origin_listen(&origin_address(k), Behaviour::Accept);
    }
    for _ in 0..10 {
        let client = rig.client();
        let mut world = rig.world();
        world.peer_send_raw(client, b"  <\x051>");
        world.peer_send(client, &bytes(700));
        world.peer_close_write(client);
    }
    let mut backends = Vec::new();
    while backends.len() < 10 || rig.worker.census().sessions > 0 {
        rig.turn();
        for backend in rig.accepted(1) {
            rig.world().peer_close_write(backend);
            backends.push(backend);
        }
    }
    while !rig.world().is_quiet() {
        rig.turn();
    }
    assert!(rig.accepted(0).is_empty());
    for backend in backends {
        assert_eq!(
            rig.world().peer_received(backend),
            bytes(700),
            "seed {seed}"
        );
        assert!(rig.world().peer_saw_end(backend), "seed {seed}");
    }
}
