//! Connections to backends that begin with a PROXY header.

use weir::board::{BackendCell, ListenerCell};
use weir::core::proxy_header::{Origin, Parsed, TlsFacts, Version, parse, write};

use crate::net::{Behaviour, PeerId, Settings};
use crate::rig::{LISTENER, Rig, config_text, origin, origin_address};
use crate::rules::bytes;

fn settings() -> Settings {
    Settings {
        sleep_ms_max: Some(0),
        // Records begin behind the header, which a peer of the simulation does not know.
        has_layer: false,
        ..Settings::plain()
    }
}

fn rig(more: &str) -> Rig {
    Rig::with(settings(), &config_text(&[1], more))
}

const BOTH: [&str; 2] = ["send_proxy: v1", "send_proxy: v2"];

/// What a backend was told, and what came behind that.
fn told(rig: &Rig, backend: PeerId) -> (Origin, Vec<u8>) {
    let world = rig.world();
    let received = world.peer_received(backend);
    match parse(received) {
        Ok(Parsed::Whole { bytes, origin }) => (origin, received[bytes..].to_vec()),
        found => panic!("{found:?} of {received:?}"),
    }
}

/// A client with this last byte of its address.
fn client(rig: &Rig, host: u8) -> PeerId {
    let listener = rig.listeners[0].1;
    rig.world()
        .client_connect_from(listener, ([10, 0, 0, host], 7).into())
}

fn named(host: u8) -> Origin {
    Origin::Client {
        source: ([10, 0, 0, host], 7).into(),
        // Where every client of the simulation connects to.
        destination: ([10, 0, 1, 1], 80).into(),
    }
}

#[test]
fn a_backend_is_told_who_the_client_is_before_all_that_it_says() {
    for version in BOTH {
        let mut rig = rig(version);
        let client = client(&rig, 9);
        rig.settle();
        let [backend] = rig.accepted(0)[..] else {
            panic!("one connection");
        };
        assert_eq!(
            told(&rig, backend),
            (named(9), Vec::new()),
            "though it is silent"
        );
        rig.world().peer_send(client, &bytes(100_000));
        rig.world().peer_close_write(client);
        rig.settle();
        assert_eq!(told(&rig, backend), (named(9), bytes(100_000)));
        assert!(rig.world().peer_saw_end(backend));
        assert_eq!(rig.listener_count(ListenerCell::BytesIn), 100_000);
        assert_eq!(rig.backend_count(0, BackendCell::BytesOut), 100_000);
    }
}

#[test]
fn what_the_client_has_said_leaves_with_the_header_in_one_write() {
    for version in BOTH {
        let mut rig = rig(version);
        let client = client(&rig, 9);
        rig.world().peer_send(client, b"first words");
        rig.world().take_calls();
        rig.settle();
        let [backend] = rig.accepted(0)[..] else {
            panic!("one connection");
        };
        assert_eq!(told(&rig, backend), (named(9), b"first words".to_vec()));
        let calls = rig.world().take_calls();
        assert_eq!(calls.write + calls.write_end, 1);
        assert_eq!(calls.local_address, 1);
    }
}

#[test]
fn what_a_header_has_told_is_passed_on() {
    let origin = Origin::Client {
        source: "[2001:db8::1]:7".parse().expect("an address"),
        destination: "[2001:db8::2]:443".parse().expect("an address"),
    };
    for version in BOTH {
        let mut rig = rig(&format!(
            "{version}\nproxy_protocol: {{from: [10.0.0.0/8]}}"
        ));
        for (version, origin, wanted) in [
            (Version::V1, origin, origin),
            (Version::V2, origin, origin),
            (Version::V2, Origin::Local, named(9)),
        ] {
            let client = client(&rig, 9);
            let mut header = Vec::new();
            write(version, origin, TlsFacts::default(), &mut header);
            header.extend(b"first words");
            rig.world().peer_send(client, &header);
            rig.settle();
            let [backend] = rig.accepted(0)[..] else {
                panic!("one connection");
            };
            assert_eq!(told(&rig, backend), (wanted, b"first words".to_vec()));
        }
    }
}

#[test]
fn another_backend_is_told_the_same_when_the_first_one_cannot_be_had() {
    let mut rig = Rig::with(settings(), &config_text(&[1, 1], "send_proxy: v2"));
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    let client = client(&rig, 9);
    rig.world().peer_send(client, b"first words");
    rig.settle();
    let [backend] = rig.accepted(1)[..] else {
        panic!("one connection");
    };
    assert_eq!(told(&rig, backend), (named(9), b"first words".to_vec()));
}

fn http_text(more: &str) -> String {
    format!(
        "listen: \"10.9.9.9:80\"\nname: {LISTENER}\nstats_interval: 0\n\
         routes: [{{prefix: /, backends: [\"{}\"], {more}}}]\n",
        origin(0)
    )
}

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The connections on which a request of this client came, which are answered.
fn ask(rig: &mut Rig, client: PeerId) -> Vec<PeerId> {
    rig.world().peer_send(client, REQUEST);
    rig.settle();
    let backends = rig.accepted(0);
    for backend in &backends {
        rig.world().peer_send(*backend, ANSWER);
    }
    rig.settle();
    backends
}

#[test]
fn an_http_backend_is_never_told_one_client_and_sent_the_requests_of_another() {
    for version in BOTH {
        let mut rig = Rig::with(settings(), &http_text(version));
        let (first, second) = (client(&rig, 1), client(&rig, 2));
        for (host, client) in [(1, first), (2, second), (1, first), (1, first)] {
            let [backend] = ask(&mut rig, client)[..] else {
                panic!("a connection of its own");
            };
            let (origin, request) = told(&rig, backend);
            assert_eq!(origin, named(host));
            assert!(request.starts_with(b"GET /x HTTP/1.1\r\n"));
            assert!(rig.world().peer_saw_end(backend), "it is not kept");
        }
        let answers = rig.world().peer_received(first).to_vec();
        let count = answers.windows(2).filter(|it| it == b"ok").count();
        assert_eq!(count, 3);
    }
}

#[test]
fn an_http_request_leaves_with_its_header_in_one_write() {
    let mut rig = Rig::with(settings(), &http_text("send_proxy: v2"));
    let client = client(&rig, 1);
    rig.world().peer_send(client, REQUEST);
    rig.world().take_calls();
    rig.settle();
    assert_eq!(rig.world().take_calls().write, 1);
}

#[test]
fn a_reload_that_turns_it_on_or_off_uses_no_connection_from_before() {
    let mut rig = Rig::with(settings(), &http_text("send_proxy: off"));
    let client = client(&rig, 1);
    assert_eq!(ask(&mut rig, client).len(), 1);
    rig.reload(&http_text("send_proxy: v2"));
    let [backend] = ask(&mut rig, client)[..] else {
        panic!("a connection that was parked before names nobody");
    };
    assert_eq!(told(&rig, backend).0, named(1));
    // Under way while it is turned off.
    rig.world().peer_send(client, REQUEST);
    rig.settle();
    let [backend] = rig.accepted(0)[..] else {
        panic!("one connection");
    };
    rig.reload(&http_text("send_proxy: off"));
    rig.world().peer_send(backend, ANSWER);
    rig.settle();
    assert!(rig.world().peer_saw_end(backend));
    let [backend] = ask(&mut rig, client)[..] else {
        panic!("one connection");
    };
    assert!(rig.world().peer_received(backend).starts_with(b"GET "));
    assert_eq!(ask(&mut rig, client), [], "it is parked again");
}

/// The first connection that a probe makes.
fn probe(rig: &mut Rig) -> PeerId {
    loop {
        if let Some(probe) = rig.accepted(0).pop() {
            return probe;
        }
        rig.pass(100, 100);
    }
}

#[test]
fn a_tcp_check_says_that_it_is_weirs_own_and_ends_cleanly() {
    let own = Origin::Client {
        source: ([10, 0, 1, 1], 80).into(),
        destination: origin(0).parse().expect("an address"),
    };
    for (version, wanted) in BOTH.into_iter().zip([own, Origin::Local]) {
        for greets in [false, true] {
            let mut rig = rig(&format!("{version}\nhealth_check: {{interval: 10s}}"));
            let probe = probe(&mut rig);
            if greets {
                rig.world()
                    .peer_send(probe, b"220 a server that speaks first\r\n");
            }
            rig.settle();
            assert_eq!(told(&rig, probe), (wanted, Vec::new()));
            assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
            assert!(rig.world().peer_saw_end(probe));
            rig.world().peer_close_write(probe);
            rig.settle();
            assert!(!rig.world().peer_saw_reset(probe));
            let connections = rig.world().open_streams();
            assert_eq!(connections, 0, "{:?}", rig.worker.census());
        }
    }
}

#[test]
fn a_server_that_never_ends_a_check_is_left_soon() {
    let mut rig = rig("send_proxy: v2\nhealth_check: {interval: 10s}");
    let probe = probe(&mut rig);
    rig.pass(200, 50);
    assert_eq!(rig.world().open_streams(), 0);
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
    assert!(!rig.world().peer_saw_reset(probe));
}

#[test]
fn an_http_check_asks_behind_its_header() {
    let mut rig = rig("send_proxy: v2\nhealth_check: {interval: 10s, path: /up}");
    let probe = probe(&mut rig);
    rig.settle();
    let (origin, request) = told(&rig, probe);
    assert_eq!(origin, Origin::Local);
    assert!(request.starts_with(b"GET /up HTTP/1.1\r\n"));
    rig.world().peer_send(probe, ANSWER);
    rig.settle();
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
}

#[test]
fn headers_in_a_hostile_world_are_whole_and_lose_nothing() {
    for seed in 0..100 {
        for version in BOTH {
            relay_some(seed, version);
        }
    }
}

/// Ten clients, whose words and headers go in pieces.
fn relay_some(seed: u64, version: &str) {
    let settings = Settings {
        has_layer: false,
        aborted_percent: 0,
        ..Settings::hostile()
    };
    let text = config_text(&[1], &format!("{version}\nhealth_check: {{interval: 1s}}"));
    let mut rig = Rig::new(seed, settings, &text);
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Accept);
    for host in 1..=10 {
        let client = client(&rig, host);
        rig.world().peer_send(client, &bytes(700));
        rig.world().peer_close_write(client);
    }
    let mut backends: Vec<PeerId> = Vec::new();
    let mut clients = 0;
    while clients < 10 || rig.worker.census().sessions > 0 || !rig.world().is_quiet() {
        rig.turn();
        for backend in rig.accepted(0) {
            rig.world().peer_close_write(backend);
            backends.push(backend);
        }
        let has_all = |backend: &&PeerId| rig.world().peer_received(**backend).len() > 700;
        clients = backends.iter().filter(has_all).count();
    }
    let is_named = |origin| matches!(origin, Origin::Client { source, .. } if source.port() == 7);
    let mut told_of = 0;
    for backend in backends {
        let world = rig.world();
        let received = world.peer_received(backend);
        let Ok(Parsed::Whole { bytes: own, origin }) = parse(received) else {
            // A check that was cut short by a stop of the world.
            continue;
        };
        if is_named(origin) {
            told_of += 1;
            assert_eq!(received[own..], bytes(700), "seed {seed}");
            assert!(world.peer_saw_end(backend), "seed {seed}");
        } else {
            assert!(received[own..].is_empty(), "seed {seed}");
        }
    }
    assert_eq!(told_of, 10, "seed {seed}");
}
