//! The real worker, speaking HTTP in a fake world: clients and origins that split, stall, cut,
//! reset, pipeline and leave, drawn from a seed.
//!
//! `WEIR_SIM_SEEDS` says how many seeds run, `WEIR_SIM_SEED` replays one.

#[path = "../golden/compare.rs"]
mod compare;
#[path = "../sim/net.rs"]
mod net;
#[path = "../sim/over_records.rs"]
mod over_records;
#[path = "../sim/replay.rs"]
mod replay;
#[allow(
    dead_code,
    reason = "shared with the simulation of TCP, which uses more"
)]
#[path = "../sim/rig.rs"]
mod rig;

mod early;
mod ends;
mod exchange;
mod half_closed;
mod idle;
mod memory;
mod message;
mod monitor;
mod play;
mod secure;
mod sticky;
mod timeouts;
mod told;

use weir::core::rng::Rng;

use crate::net::{Calls, PeerId, Settings};
use crate::play::Play;
use crate::replay::{each_seed, told};
use crate::rig::Rig;

/// Seeds without `WEIR_SIM_SEEDS`.
const SEEDS_DEFAULT: u64 = 500;

#[test]
fn every_seed_keeps_messages_whole_and_apart() {
    each_seed(SEEDS_DEFAULT, 1, |seed| {
        told(seed, || Play::new(seed).run());
    });
}

/// A worker with kept connections in a world in which nothing goes wrong.
fn still() -> Rig {
    still_in(Settings::plain())
}

fn still_in(world: Settings) -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..world
    };
    let mut rig = Rig::with(settings, &play::config_text(&mut Rng::new(1), true));
    rig.settle();
    rig
}

/// They count calls, or need to know what of a request has reached a backend, which is not told of
/// the bytes that records carry, or are about what comes without them.
const LEFT_OUT_OVER_RECORDS: [&str; 5] = [
    "everything_else_passes_over_records_too",
    "everything_else_passes_over_tls_too",
    "idle::a_request_that_never_reached_a_new_connection_goes_to_another_backend",
    "secure::what_no_route_takes_is_led_to_https",
    "the_last_answer_of_a_connection_goes_out_with_its_end",
];

/// And these are about what only the toy has: records that carry nothing, or are of a known size.
const LEFT_OUT_OVER_TLS: [&str; 3] = [
    "a_parked_connection_outlives_records_that_carry_nothing",
    "exchange::protocols_do_not_change_before_the_request_has_left",
    "memory::records_that_have_begun_are_ended_whatever_memory_there_is",
];

#[test]
fn everything_else_passes_over_records_too() {
    over_records::run("toy", &LEFT_OUT_OVER_RECORDS);
}

#[test]
fn everything_else_passes_over_tls_too() {
    let left_out = [&LEFT_OUT_OVER_RECORDS[..], &LEFT_OUT_OVER_TLS];
    over_records::run("tls", &left_out.concat());
}

const ASK: &[u8] = b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The client asks and the first backend answers; the connection to it.
fn ask_and_answer(rig: &mut Rig, client: PeerId) -> PeerId {
    rig.world().peer_send(client, ASK);
    rig.settle();
    let backend = rig.accepted(0)[0];
    rig.world().peer_send(backend, ANSWER);
    rig.settle();
    backend
}

#[test]
fn a_request_over_kept_connections_costs_two_reads_and_two_writes() {
    let mut rig = still();
    let client = rig.client();
    let backend = ask_and_answer(&mut rig, client);
    for _ in 0..3 {
        rig.world().take_calls();
        rig.world().peer_send(client, ASK);
        rig.turn();
        rig.world().peer_send(backend, ANSWER);
        rig.turn();
        let expected = Calls {
            wait: 2,
            read: 2,
            write: 2,
            ..Calls::default()
        };
        assert_eq!(rig.world().take_calls(), expected);
    }
}

#[test]
fn the_last_answer_of_a_connection_goes_out_with_its_end() {
    let mut rig = still();
    let other = rig.client();
    let backend = ask_and_answer(&mut rig, other);
    let client = rig.client();
    rig.settle();
    rig.world().take_calls();
    rig.world().peer_send(
        client,
        b"GET /0 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    rig.turn();
    rig.world().peer_send(backend, ANSWER);
    rig.turn();
    let expected = Calls {
        wait: 2,
        read: 2,
        write: 1,
        write_end: 1,
        shutdown: 1,
        close: 1,
        ..Calls::default()
    };
    assert_eq!(rig.world().take_calls(), expected);
    rig.settle();
    assert!(rig.world().peer_saw_end(client));
}

#[test]
fn without_descriptors_a_request_waits_for_the_connection_of_another() {
    let mut rig = still();
    rig.world().settings_mut().streams_max = 3;
    let [one, other] = [rig.client(), rig.client()];
    rig.settle();
    rig.world().peer_send(one, ASK);
    rig.settle();
    rig.world().peer_send(other, ASK);
    rig.settle();
    let [link] = rig.accepted(0)[..] else {
        panic!("there is one descriptor for both");
    };
    rig.world().peer_send(link, ANSWER);
    rig.settle();
    rig.world().peer_send(link, ANSWER);
    rig.settle();
    for client in [one, other] {
        assert!(rig.world().peer_received(client).ends_with(b"\r\n\r\nok"));
    }
    assert_eq!(rig.accepted(0), []);
}

#[test]
fn without_descriptors_a_parked_connection_gives_up_its_own() {
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..Settings::plain()
    };
    let text = format!(
        "listen: \"10.9.9.9:80\"\nstats_interval: 0\nbackends: [\"{}\", \"{}\"]\nmode: http\n",
        rig::origin(0),
        rig::origin(1)
    );
    let mut rig = Rig::with(settings, &text);
    rig.world().settings_mut().streams_max = 2;
    let client = rig.client();
    for k in [0, 1, 0] {
        rig.world().peer_send(client, ASK);
        rig.settle();
        let [link] = rig.accepted(k)[..] else {
            panic!("each time the one parked is of the other backend");
        };
        rig.world().peer_send(link, ANSWER);
        rig.settle();
    }
    let received = String::from_utf8_lossy(rig.world().peer_received(client)).into_owned();
    assert_eq!(received.matches("200 OK").count(), 3, "{received}");
}

#[test]
fn a_request_that_finds_no_descriptor_for_too_long_is_told_so() {
    let mut rig = still();
    rig.world().settings_mut().streams_max = 1;
    let client = rig.client();
    rig.world().peer_send(client, ASK);
    rig.pass(5_100, 50);
    let received = rig.world().peer_received(client).to_vec();
    assert!(received.starts_with(b"HTTP/1.1 503 "));
}

#[test]
fn a_parked_connection_outlives_records_that_carry_nothing() {
    let mut rig = still_in(Settings {
        has_layer: true,
        ..Settings::plain()
    });
    let client = rig.client();
    let link = ask_and_answer(&mut rig, client);
    rig.world().peer_ask_layer(link);
    rig.settle();
    assert_eq!(rig.world().peer_notes(link), 1, "it is answered");
    rig.world().peer_send(client, ASK);
    rig.settle();
    assert_eq!(rig.accepted(0), []);
    let asked = String::from_utf8_lossy(rig.world().peer_received(link)).into_owned();
    assert_eq!(asked.matches("GET /0 ").count(), 2, "{asked}");
}

#[test]
fn a_parked_connection_that_stirs_is_closed_and_not_used_again() {
    let mut rig = still();
    let client = rig.client();
    let first = ask_and_answer(&mut rig, client);
    rig.world()
        .peer_send(first, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    rig.settle();
    ask_and_answer(&mut rig, client);
    let received = String::from_utf8_lossy(rig.world().peer_received(client)).into_owned();
    assert!(!received.contains("evil"), "{received}");
    assert_eq!(received.matches("200 OK").count(), 2, "{received}");
}
