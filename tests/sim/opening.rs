//! Sessions that are not settled before their first bytes have been read: behind a PROXY header.

use weir::board::ListenerCell;
use weir::core::proxy_header::{Origin, TlsFacts, Version, write};

use crate::net::{Behaviour, PeerId, Settings};
use crate::rig::{LISTENER, Rig, config_text, origin, origin_address};
use crate::rules::bytes;

/// `timeouts.handshake` by default.
const HANDSHAKE_MS: u64 = 10_000;

/// Clients of the simulation have addresses of this network.
const PROXY: &str = "proxy_protocol: {from: [10.0.0.0/24]}\n";

fn rig(has_layer: bool, text: &str) -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        has_layer,
        ..Settings::plain()
    };
    Rig::with(settings, text)
}

/// A listener that wants a header, before so many backends.
fn text(backends: usize) -> String {
    config_text(&vec![1; backends], &format!("algorithm: ip_hash\n{PROXY}"))
}

/// What a proxy says before the words of the client that has this last byte of its address.
fn header(version: Version, host: u8) -> Vec<u8> {
    let origin = Origin::Client {
        source: ([192, 0, 2, host], 7).into(),
        destination: ([203, 0, 113, 1], 443).into(),
    };
    header_of(version, origin)
}

fn header_of(version: Version, origin: Origin) -> Vec<u8> {
    let mut out = Vec::new();
    write(version, origin, TlsFacts::default(), &mut out);
    out
}

const BOTH: [Version; 2] = [Version::V1, Version::V2];

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
fn what_follows_a_header_gets_to_the_backend_and_the_header_does_not() {
    for (version, has_layer) in BOTH.into_iter().zip([false, true]) {
        let mut rig = rig(has_layer, &text(1));
        let client = client_with(&mut rig, &header(version, 5), b"first words");
        let [backend] = rig.accepted(0)[..] else {
            panic!("one connection");
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
fn a_header_may_come_byte_by_byte_and_no_backend_is_asked_before_it_is_whole() {
    for version in BOTH {
        let mut rig = rig(false, &text(1));
        let client = rig.client();
        let header = header(version, 7);
        let (last, first) = header.split_last().expect("some bytes");
        for byte in first {
            rig.world().peer_send_raw(client, &[*byte]);
            rig.settle();
            assert!(rig.accepted(0).is_empty());
        }
        rig.world().peer_send_raw(client, &[*last]);
        rig.settle();
        assert_eq!(rig.accepted(0).len(), 1);
    }
}

#[test]
fn the_backend_is_chosen_for_the_client_that_the_header_names() {
    let chosen = |rig: &mut Rig, opening: &[u8]| {
        client(rig, opening);
        let taken: Vec<usize> = (0..4).filter(|&k| !rig.accepted(k).is_empty()).collect();
        taken[0]
    };
    let mut rig = rig(false, &text(4));
    let mut choices = |version| -> Vec<usize> {
        let hosts = 1..30;
        hosts
            .map(|host| chosen(&mut rig, &header(version, host)))
            .collect()
    };
    let (first, again) = (choices(Version::V1), choices(Version::V2));
    assert_eq!(first, again);
    assert!(first.iter().any(|&k| k != first[0]), "by its address");
}

#[test]
fn what_is_no_header_is_closed_and_counted() {
    let mut rig = rig(false, &text(1));
    let long = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    let cases: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x22\x11",
        &long,
    ];
    for (nth, says) in cases.into_iter().enumerate() {
        let stranger = client(&mut rig, says);
        assert!(rig.world().peer_saw_reset(stranger), "{nth}");
        let refused = rig.listener_count(ListenerCell::Refused);
        assert_eq!(refused, nth as u64 + 1);
    }
    assert!(rig.accepted(0).is_empty());
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn nobody_else_may_say_for_whom_it_connects() {
    let mut rig = rig(false, &text(1));
    let listener = rig.listeners[0].1;
    let stranger = rig
        .world()
        .client_connect_from(listener, ([10, 0, 1, 1], 9).into());
    rig.world().peer_send_raw(stranger, &header(Version::V1, 1));
    rig.settle();
    assert!(rig.world().peer_saw_reset(stranger));
    assert!(rig.accepted(0).is_empty());
    assert_eq!(rig.listener_count(ListenerCell::Refused), 1);
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn a_header_takes_its_time_in_all_and_not_for_each_byte() {
    let mut rig = rig(false, &text(1));
    let (silent, slow) = (rig.client(), rig.client());
    let step_ms = HANDSHAKE_MS / 4;
    rig.settle();
    for byte in b"PRO" {
        rig.world().peer_send_raw(slow, &[*byte]);
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
fn who_leaves_before_saying_anything_asked_for_nothing_and_within_a_header_is_refused() {
    let mut rig = rig(false, &text(1));
    let (silent, within, resets) = (rig.client(), rig.client(), rig.client());
    rig.world().peer_cut_write(silent);
    rig.settle();
    assert_eq!(rig.listener_count(ListenerCell::Refused), 0);
    rig.world().peer_send_raw(within, b"PROXY ");
    rig.world().peer_cut_write(within);
    rig.settle();
    assert_eq!(rig.listener_count(ListenerCell::Refused), 1);
    rig.world().peer_reset(resets);
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 0);
    assert!(rig.accepted(0).is_empty());
}

/// The headers of a proxy that only looks whether anybody is there.
fn checks() -> [Vec<u8>; 4] {
    [
        header_of(Version::V2, Origin::Local),
        header_of(Version::V2, Origin::Unknown),
        header_of(Version::V1, Origin::Unknown),
        b"PROXY UNKNOWN ffff::1 - \xff \r\n".to_vec(),
    ]
}

#[test]
fn a_check_that_is_over_asks_no_backend_and_is_no_error() {
    for (nth, check) in checks().iter().enumerate() {
        for is_reset in [false, true] {
            let mut rig = rig(false, &text(1));
            let client = rig.client();
            rig.world().peer_send_raw(client, check);
            if is_reset {
                rig.settle();
                rig.world().peer_reset(client);
            } else {
                rig.world().peer_cut_write(client);
            }
            rig.settle();
            for backend in rig.accepted(0) {
                assert!(is_reset, "{nth}");
                rig.world().peer_close_write(backend);
            }
            rig.settle();
            assert_eq!(rig.worker.census().sessions, 0, "{nth}");
            for cell in [
                ListenerCell::Reset,
                ListenerCell::Refused,
                ListenerCell::TimedOut,
            ] {
                assert_eq!(rig.listener_count(cell), 0, "{nth} {cell:?}");
            }
        }
    }
}

#[test]
fn who_is_not_told_has_the_address_of_the_socket() {
    for check in checks() {
        let mut rig = rig(false, &one_backend_text());
        client_with(&mut rig, &check, REQUEST);
        let [backend] = rig.accepted(0)[..] else {
            panic!("one request");
        };
        let head = String::from_utf8_lossy(rig.world().peer_received(backend)).into_owned();
        assert!(head.contains("X-Forwarded-For: 10.0.0."), "{head}");
    }
}

fn one_backend_text() -> String {
    format!(
        "listen: \"10.9.9.9:80\"\nname: {LISTENER}\nstats_interval: 0\n{PROXY}\
         routes: [{{prefix: /, backends: [\"{}\"]}}]\n",
        origin(0)
    )
}

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn http_begins_behind_a_header() {
    for (version, has_layer) in BOTH.into_iter().zip([false, true]) {
        let mut rig = rig(has_layer, &one_backend_text());
        client_with(&mut rig, &header(version, 9), REQUEST);
        let [backend] = rig.accepted(0)[..] else {
            panic!("one request");
        };
        let head = String::from_utf8_lossy(rig.world().peer_received(backend)).into_owned();
        assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("X-Forwarded-For: 192.0.2.9\r\n"), "{head}");
        assert!(head.contains("X-Forwarded-Port: 443\r\n"), "{head}");
    }
}

#[test]
fn who_is_trusted_is_judged_by_the_address_that_the_header_gives() {
    let text = one_backend_text() + "trusted_proxies: [192.0.2.1]\n";
    for (host, wanted) in [
        (1, "X-Forwarded-For: 198.51.100.3, 192.0.2.1\r\n"),
        (2, "X-Forwarded-For: 192.0.2.2\r\n"),
    ] {
        let mut rig = rig(false, &text);
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.3\r\n\r\n";
        client_with(&mut rig, &header(Version::V2, host), request);
        let [backend] = rig.accepted(0)[..] else {
            panic!("one request");
        };
        let head = String::from_utf8_lossy(rig.world().peer_received(backend)).into_owned();
        assert!(head.contains(wanted), "{head}");
    }
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
        has_layer,
        // Who is lost before it is accepted says nothing.
        aborted_percent: 0,
        ..Settings::hostile()
    };
    let mut rig = Rig::new(seed, settings, &text(1));
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Accept);
    for nth in 0..10 {
        let client = rig.client();
        let mut world = rig.world();
        world.peer_send_raw(client, &header(BOTH[nth % 2], 5));
        world.peer_send(client, &bytes(700));
        world.peer_close_write(client);
    }
    let mut backends = Vec::new();
    while backends.len() < 10 || rig.worker.census().sessions > 0 {
        rig.turn();
        for backend in rig.accepted(0) {
            rig.world().peer_close_write(backend);
            backends.push(backend);
        }
    }
    while !rig.world().is_quiet() {
        rig.turn();
    }
    for backend in backends {
        assert_eq!(
            rig.world().peer_received(backend),
            bytes(700),
            "seed {seed}"
        );
        assert!(rig.world().peer_saw_end(backend), "seed {seed}");
    }
}
