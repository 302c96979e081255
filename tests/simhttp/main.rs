//! The real worker, speaking HTTP in a fake world: clients and origins that split, stall, cut,
//! reset, pipeline and leave, drawn from a seed.
//!
//! `WEIR_SIM_SEEDS` says how many seeds run, `WEIR_SIM_SEED` replays one.

#[path = "../sim/net.rs"]
mod net;
#[allow(
    dead_code,
    reason = "shared with the simulation of TCP, which uses more"
)]
#[path = "../sim/rig.rs"]
mod rig;

mod message;
mod play;

use weir::core::rng::Rng;

use crate::net::{Calls, Settings};
use crate::play::Play;
use crate::rig::Rig;

/// Seeds without `WEIR_SIM_SEEDS`.
const SEEDS_DEFAULT: u64 = 500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_seed_keeps_messages_whole_and_apart() {
    if let Some(seed) = number("WEIR_SIM_SEED") {
        return play(seed);
    }
    for seed in 0..number("WEIR_SIM_SEEDS").unwrap_or(SEEDS_DEFAULT) {
        play(seed);
    }
}

fn play(seed: u64) {
    let outcome = std::panic::catch_unwind(|| Play::new(seed).run());
    if let Err(panic) = outcome {
        eprintln!("seed {seed}: replay with WEIR_SIM_SEED={seed}");
        std::panic::resume_unwind(panic);
    }
}

/// A worker with kept connections in a world in which nothing goes wrong.
fn still() -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..Settings::plain()
    };
    let mut rig = Rig::with(settings, &play::config_text(&mut Rng::new(1), true));
    rig.settle();
    rig
}

const ASK: &[u8] = b"GET /0 HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_request_over_kept_connections_costs_two_reads_and_two_writes() {
    let mut rig = still();
    let client = rig.client();
    rig.world().peer_send(client, ASK);
    rig.settle();
    let backend = rig.accepted(0)[0];
    rig.world().peer_send(backend, ANSWER);
    rig.settle();
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
fn a_parked_connection_that_stirs_is_closed_and_not_used_again() {
    let mut rig = still();
    let client = rig.client();
    rig.world().peer_send(client, ASK);
    rig.settle();
    let first = rig.accepted(0)[0];
    rig.world().peer_send(first, ANSWER);
    rig.settle();
    rig.world()
        .peer_send(first, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    rig.settle();
    rig.world().peer_send(client, ASK);
    rig.settle();
    let second = rig.accepted(0)[0];
    rig.world().peer_send(second, ANSWER);
    rig.settle();
    let received = String::from_utf8_lossy(rig.world().peer_received(client)).into_owned();
    assert!(!received.contains("evil"), "{received}");
    assert_eq!(received.matches("200 OK").count(), 2, "{received}");
}
