//! Sessions that go where their ClientHello says, without being decrypted.

use weir::board::ListenerCell;
use weir::core::handshake::Handshake;

use crate::net::{Behaviour, PeerId, Settings};
use crate::rig::{LISTENER, Rig, origin, origin_address};
use crate::rules::bytes;

/// Nothing is decrypted, so that no layer of weir's own is in these worlds.
fn rig(text: &str) -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        has_layer: false,
        ..Settings::plain()
    };
    Rig::with(settings, text)
}

/// A listener before three backends: of a name, of others like it, and of a protocol.
fn text(more: &str) -> String {
    let upstream = |name: &str, k| {
        let address = origin(k);
        format!("  {name}: {{backends: [\"{address}\"]}}\n")
    };
    format!(
        "stats_interval: 0\nlisteners:\n- name: {LISTENER}\n  listen: \"10.9.9.9:80\"\n  mode: tls\n  \
         routes:\n  - {{host: a.example, upstream: exact}}\n  \
         - {{host: \"*.example\", upstream: wild}}\n  - {{alpn: acme-tls/1, upstream: acme}}\n\
         {more}upstreams:\n{}{}{}",
        upstream("exact", 0),
        upstream("wild", 1),
        upstream("acme", 2)
    )
}

/// A hello that asks for a name and offers a protocol, each if it is not empty.
fn hello(name: &str, alpn: &str) -> Vec<u8> {
    let sized = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("it is short");
        [&length.to_be_bytes(), bytes].concat()
    };
    let mut extensions = Vec::new();
    if !name.is_empty() {
        let entry = [&[0], &sized(name.as_bytes())[..]].concat();
        extensions.extend([&[0, 0], &sized(&sized(&entry))[..]].concat());
    }
    if !alpn.is_empty() {
        // The length of a protocol has one byte.
        let protocol = &sized(alpn.as_bytes())[1..];
        extensions.extend([&[0, 16], &sized(&sized(protocol))[..]].concat());
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(sized(&extensions));
    let message = [&[1, 0], &sized(&body)[..]].concat();
    [&[22, 3, 1], &sized(&message)[..]].concat()
}

/// The same in records of one byte each.
fn in_small_records(hello: &[u8]) -> Vec<u8> {
    let records = hello[5..].iter().map(|byte| [22, 3, 1, 0, 1, *byte]);
    records.flatten().collect()
}

/// A client that has sent these bytes.
fn client(rig: &mut Rig, says: &[u8]) -> PeerId {
    let client = rig.client();
    rig.world().peer_send_raw(client, says);
    rig.settle();
    client
}

/// The backends that got a connection since the last call, each with what came over it.
fn taken(rig: &Rig) -> Vec<(usize, PeerId, Vec<u8>)> {
    let of_one = |k| rig.accepted(k).into_iter().map(move |peer| (k, peer));
    let all = (0..3).flat_map(of_one);
    all.map(|(k, peer)| (k, peer, rig.world().peer_received(peer).to_vec()))
        .collect()
}

fn alert(code: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, code]
}

#[test]
fn a_session_goes_where_its_hello_says_and_begins_with_it() {
    let mut rig = rig(&text(""));
    for (name, alpn, k) in [
        ("a.example", "", 0),
        ("A.EXAMPLE", "h2", 0),
        ("b.example", "", 1),
        ("b.example", "acme-tls/1", 1),
        ("other.test", "acme-tls/1", 2),
        ("", "acme-tls/1", 2),
    ] {
        for says in [hello(name, alpn), in_small_records(&hello(name, alpn))] {
            let client = client(&mut rig, &says);
            let [(taker, backend, received)] = &taken(&rig)[..] else {
                panic!("one connection for {name}");
            };
            assert_eq!((*taker, received), (k, &says), "{name} {alpn}");
            rig.world().peer_send_raw(client, &bytes(100_000));
            rig.world().peer_send_raw(*backend, &bytes(50_000));
            rig.world().peer_close_write(client);
            rig.settle();
            let received = rig.world().peer_received(*backend)[says.len()..].to_vec();
            assert_eq!(received, bytes(100_000));
            assert_eq!(rig.world().peer_received(client), bytes(50_000));
            rig.world().peer_close_write(*backend);
            rig.settle();
            assert!(rig.world().peer_saw_end(client) && rig.world().peer_saw_end(*backend));
        }
    }
    assert_eq!(rig.listener_count(ListenerCell::Refused), 0);
}

#[test]
fn a_hello_may_come_byte_by_byte_and_no_backend_is_asked_before_it_is_whole() {
    for says in [
        hello("a.example", ""),
        in_small_records(&hello("a.example", "")),
    ] {
        let mut rig = rig(&text(""));
        let client = rig.client();
        let (last, first) = says.split_last().expect("some bytes");
        for byte in first {
            rig.world().peer_send_raw(client, &[*byte]);
            rig.settle();
            assert!(taken(&rig).is_empty());
        }
        rig.world().peer_send_raw(client, &[*last]);
        rig.settle();
        let [(0, _, received)] = &taken(&rig)[..] else {
            panic!("one connection");
        };
        assert_eq!(*received, says);
    }
}

#[test]
fn who_is_refused_is_told_so_however_much_it_still_sends() {
    let mut longer = hello("a.example", "");
    longer[5 + 1] = 1;
    let mut rig = rig(&text(""));
    let mut refused = 0;
    for (says, answer) in [
        (hello("other.test", ""), alert(112)),
        (hello("", ""), alert(112)),
        (hello("a.b.example", "h2"), alert(112)),
        (hello("127.0.0.1", ""), alert(112)),
        (hello("127.1", ""), alert(47)),
        (longer, alert(50)),
        (vec![22, 3, 1, 0, 0], alert(10)),
        (vec![22, 3, 1, 0xff, 0xff], alert(22)),
        (vec![23, 3, 3, 0, 1, 0], alert(10)),
    ] {
        for more in [0, 200_000] {
            let says = [&says[..], &bytes(more)].concat();
            let client = client(&mut rig, &says);
            refused += 1;
            assert_eq!(rig.world().peer_received(client), answer);
            assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
            rig.world().peer_send_raw(client, &bytes(1000));
            rig.settle();
            assert_eq!(rig.worker.census().sessions, 1, "it may still send");
            rig.world().peer_close_write(client);
            rig.settle();
            assert_eq!(rig.worker.census().sessions, 0);
            assert!(!rig.world().peer_saw_reset(client));
            assert_eq!(rig.listener_count(ListenerCell::Refused), refused);
        }
    }
    let counted = [
        Handshake::UnrecognizedName,
        Handshake::NoProtocol,
        Handshake::Malformed,
        Handshake::NothingInCommon,
    ];
    let counted = counted.map(|ended| rig.handshake_count(ended));
    assert_eq!(counted.iter().sum::<u64>(), refused, "{counted:?}");
    assert!(taken(&rig).is_empty());
}

#[test]
fn where_every_route_wants_a_protocol_it_is_that_which_is_missing() {
    let text = text("").replace("- {host: a.example,", "- {host: a.example, alpn: h2,");
    let text = text.replace("host: \"*.example\"", "host: \"*.other.example\"");
    let mut rig = rig(&text);
    let client = client(&mut rig, &hello("a.example", "h3"));
    assert_eq!(rig.world().peer_received(client), alert(120));
}

#[test]
fn http_where_tls_is_spoken_gets_a_sentence() {
    let mut rig = rig(&text(""));
    let request = [b"POST /x HTTP/1.1\r\nHost: a\r\n\r\n", &bytes(300_000)[..]].concat();
    let client = client(&mut rig, &request);
    let answer = String::from_utf8_lossy(rig.world().peer_received(client)).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
    assert!(answer.ends_with(" speaks HTTPS, and the request came as plain HTTP.\n"));
    assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
}

#[test]
fn what_is_nothing_that_could_be_answered_is_closed() {
    let mut rig = rig(&text(""));
    for says in [&b"SSH-2.0-x\r\n"[..], &[0x80, 0x2e, 1, 0, 2], b"\0"] {
        let client = client(&mut rig, says);
        assert!(rig.world().peer_received(client).is_empty());
        assert!(rig.world().peer_saw_reset(client));
    }
    assert_eq!(rig.listener_count(ListenerCell::Refused), 3);
    assert_eq!(rig.handshake_count(Handshake::NotTls), 3);
}

#[test]
fn who_was_refused_and_does_not_leave_is_let_go() {
    let mut rig = rig(&text(""));
    let client = client(&mut rig, &hello("other.test", ""));
    for _ in 0..60 {
        rig.world().peer_send_raw(client, &[0]);
        rig.pass(100, 100);
    }
    assert_eq!(rig.worker.census().sessions, 0);
    assert_eq!(rig.listener_count(ListenerCell::Refused), 1);
    assert_eq!(rig.world().peer_received(client), alert(112));
}

#[test]
fn a_thousand_hellos_that_stop_half_way_end_at_their_time() {
    let mut rig = rig(&text("  timeouts: {handshake: 3s}\n"));
    let says = hello("a.example", "");
    let clients: Vec<PeerId> = (0..1000).map(|_| rig.client()).collect();
    for (nth, client) in clients.iter().enumerate() {
        let end = nth % says.len();
        rig.world().peer_send_raw(*client, &says[..end]);
    }
    rig.pass(2_900, 100);
    assert_eq!(rig.worker.census().sessions, 1000);
    // Others are served meanwhile.
    client(&mut rig, &says);
    assert_eq!(taken(&rig).len(), 1);
    rig.pass(300, 100);
    assert_eq!(rig.worker.census().sessions, 1);
    assert_eq!(rig.listener_count(ListenerCell::TimedOut), 1000);
    assert_eq!(rig.handshake_count(Handshake::TooSlow), 1000);
}

#[test]
fn a_hello_may_stand_behind_a_proxy_header() {
    let text = text("  proxy_protocol: {from: [10.0.0.0/24]}\n");
    let header = b"PROXY TCP4 192.0.2.1 203.0.113.1 7 443\r\n";
    let mut rig = rig(&text);
    let says = hello("b.example", "");
    let good = client(&mut rig, &[&header[..], &says].concat());
    let [(1, _, received)] = &taken(&rig)[..] else {
        panic!("one connection");
    };
    assert_eq!(*received, says, "without the header");
    let bad = client(&mut rig, &[&header[..], &hello("other.test", "")].concat());
    assert_eq!(rig.world().peer_received(bad), alert(112));
    let without = client(&mut rig, &says);
    assert!(rig.world().peer_saw_reset(without));
    assert!(!rig.world().peer_saw_reset(good));
}

#[test]
fn strangers_take_no_place_among_the_handshakes() {
    let mut rig = rig(&text("  proxy_protocol: {from: [10.0.0.0/24]}\n"));
    let listener = rig.listeners[0].1;
    for _ in 0..3 {
        let from = ([10, 0, 1, 1], 9).into();
        let stranger = rig.world().client_connect_from(listener, from);
        rig.settle();
        assert!(rig.world().peer_saw_reset(stranger));
    }
    let header = b"PROXY TCP4 192.0.2.1 203.0.113.1 7 443\r\n";
    let says = [&header[..], &hello("a.example", "")].concat();
    for _ in 0..10 {
        client(&mut rig, &says);
    }
    assert_eq!(taken(&rig).len(), 10);
    assert_eq!(rig.handshake_count(Handshake::Crowded), 0);
}

#[test]
fn the_routes_of_now_decide_of_a_hello_that_was_under_way() {
    let mut rig = rig(&text(""));
    let says = hello("other.test", "");
    let slow = client(&mut rig, &says[..20]);
    let old = client(&mut rig, &hello("a.example", ""));
    let [(0, backend, _)] = taken(&rig)[..] else {
        panic!("one connection");
    };
    let text = text("").replace("host: a.example", "host: other.test");
    rig.reload(&text);
    rig.settle();
    rig.world().peer_send_raw(slow, &says[20..]);
    rig.world().peer_send_raw(old, b"more");
    rig.settle();
    assert!(matches!(&taken(&rig)[..], [(0, _, received)] if *received == says));
    assert!(rig.world().peer_received(backend).ends_with(b"more"));
    let gone = client(&mut rig, &hello("a.example", ""));
    assert_eq!(taken(&rig).len(), 1, "the wildcard takes it");
    assert!(!rig.world().peer_saw_reset(gone));
}

#[test]
fn sessions_by_hello_in_a_hostile_world_lose_nothing() {
    for seed in 0..100 {
        route_some(seed);
    }
}

/// Ten clients, whose hellos and words come in pieces.
fn route_some(seed: u64) {
    let settings = Settings {
        has_layer: false,
        // Who is lost before it is accepted says nothing.
        aborted_percent: 0,
        ..Settings::hostile()
    };
    let mut rig = Rig::new(seed, settings, &text(""));
    for k in 0..3 {
        rig.world()
            .origin_listen(&origin_address(k), Behaviour::Accept);
    }
    let says = in_small_records(&hello("b.example", "h2"));
    for _ in 0..10 {
        let client = rig.client();
        let mut world = rig.world();
        world.peer_send_raw(client, &says);
        world.peer_send_raw(client, &bytes(700));
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
    let wanted = [&says[..], &bytes(700)].concat();
    for backend in backends {
        assert_eq!(rig.world().peer_received(backend), wanted, "seed {seed}");
        assert!(rig.world().peer_saw_end(backend), "seed {seed}");
    }
}
