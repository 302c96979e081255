//! Health checks and ejection, with the real timers and sockets of the loop.

use weir::board::BackendCell;

use crate::net::{Behaviour, PeerId};
use crate::rig::{Rig, config_text, origin_address};

const TCP: &str =
    "health_check: {interval: 10s, timeout: 2s, fast_interval: 10s, rise: 2, fall: 3}";
const HTTP: &str =
    "health_check: {interval: 10s, timeout: 2s, fast_interval: 10s, rise: 2, fall: 3, path: /up}";

/// Lets one probe of every backend run: their starts are drawn around the interval.
fn round(rig: &mut Rig, k: usize) {
    let results = |rig: &Rig| {
        rig.backend_count(k, BackendCell::ProbesPassed)
            + rig.backend_count(k, BackendCell::ProbesFailed)
    };
    let before = results(rig);
    while results(rig) == before {
        rig.pass(100, 100);
    }
}

fn is_up(rig: &Rig, k: usize) -> bool {
    rig.backend_count(k, BackendCell::Up) == 1
}

fn answer(rig: &mut Rig, status: &str) -> PeerId {
    let probe = loop {
        if let Some(probe) = rig.accepted(0).pop() {
            break probe;
        }
        rig.pass(100, 100);
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    rig.world().peer_send(probe, answer.as_bytes());
    rig.settle();
    probe
}

#[test]
fn a_backend_goes_down_after_fall_failures_and_up_after_rise_passes() {
    let mut rig = Rig::still(&config_text(&[1, 1], TCP));
    round(&mut rig, 0);
    assert!(is_up(&rig, 0));
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    for up in [true, true, false] {
        round(&mut rig, 0);
        assert_eq!(is_up(&rig, 0), up);
    }
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Accept);
    for up in [false, true] {
        round(&mut rig, 0);
        assert_eq!(is_up(&rig, 0), up);
    }
}

#[test]
fn the_first_result_decides_at_once() {
    let mut rig = Rig::still(&config_text(&[1, 1], TCP));
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    assert!(is_up(&rig, 0), "as assumed at the start");
    round(&mut rig, 0);
    assert!(!is_up(&rig, 0));
}

#[test]
fn a_dead_backend_gets_no_client() {
    let mut rig = Rig::still(&config_text(&[1, 1], TCP));
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    round(&mut rig, 0);
    for _ in 0..50 {
        rig.client();
    }
    rig.settle();
    assert_eq!(rig.backend_count(0, BackendCell::Picks), 0);
    assert_eq!(rig.backend_count(1, BackendCell::Picks), 50);
}

#[test]
fn a_probe_that_gets_no_answer_fails_at_its_timeout_and_never_overlaps_the_next() {
    let text = config_text(
        &[1],
        "health_check: {interval: 1s, timeout: 1s, fall: 2, path: /up}",
    );
    let mut rig = Rig::still(&text);
    let mut open_most = 0;
    for _ in 0..2_000 {
        rig.pass(10, 10);
        open_most = open_most.max(rig.world().open_streams());
    }
    assert_eq!(open_most, 1, "probes do not overlap");
    let failed = rig.backend_count(0, BackendCell::ProbesFailed);
    assert!((15..=21).contains(&failed), "{failed} in 20 s");
    assert!(!is_up(&rig, 0));
}

#[test]
fn an_answer_that_is_there_already_beats_the_probe_timeout() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    rig.pass(500, 10);
    let probe = rig.accepted(0)[0];
    rig.world()
        .peer_send(probe, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    rig.world().advance(60_000);
    rig.turn();
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
    assert_eq!(rig.backend_count(0, BackendCell::ProbesFailed), 0);
}

#[test]
fn the_status_of_an_http_probe_decides() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    let probe = answer(&mut rig, "200 OK");
    let asked = rig.world().peer_received(probe).to_vec();
    assert!(asked.starts_with(b"GET /up HTTP/1."), "{asked:?}");
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
    for up in [true, true, false] {
        answer(&mut rig, "503 Service Unavailable");
        assert_eq!(is_up(&rig, 0), up);
    }
    answer(&mut rig, "nonsense");
    assert_eq!(rig.backend_count(0, BackendCell::ProbesFailed), 4);
    for up in [false, true] {
        answer(&mut rig, "204 No Content");
        assert_eq!(is_up(&rig, 0), up);
    }
}

#[test]
fn a_backend_added_by_a_reload_waits_for_its_first_passed_check() {
    let mut rig = Rig::still(&config_text(&[1], TCP));
    rig.reload(&config_text(&[1, 1], TCP));
    rig.world()
        .origin_listen(&origin_address(1), Behaviour::Accept);
    assert!(!is_up(&rig, 1));
    for _ in 0..4 {
        rig.client();
    }
    rig.settle();
    assert_eq!(rig.backend_count(1, BackendCell::Picks), 0);
    round(&mut rig, 1);
    assert!(is_up(&rig, 1));
}

#[test]
fn a_reload_without_checks_ends_the_probes_and_trusts_everyone() {
    let mut rig = Rig::still(&config_text(&[1, 1], HTTP));
    rig.pass(2_600, 100);
    rig.pass(9_000, 100);
    assert!(!is_up(&rig, 0), "nobody answers the probes");
    rig.reload(&config_text(&[1, 1], ""));
    rig.settle();
    assert!(is_up(&rig, 0));
    assert_eq!(rig.world().open_streams(), 0);
    assert_eq!(rig.worker.census().timers, 0);
}

#[test]
fn failures_of_real_traffic_eject_a_backend_for_a_while() {
    let text = config_text(&[1, 1], "passive: {failures: 3, eject: 10s}");
    let mut rig = Rig::still(&text);
    rig.world()
        .origin_listen(&origin_address(0), Behaviour::Refuse);
    for _ in 0..20 {
        rig.client();
        rig.settle();
    }
    assert_eq!(rig.backend_count(0, BackendCell::Picks), 3);
    assert_eq!(rig.backend_count(0, BackendCell::Ejections), 1);
    assert_eq!(rig.backend_count(1, BackendCell::Picks), 20);
    rig.pass(9_999, 9_999);
    assert!(!is_up(&rig, 0));
    rig.pass(1, 1);
    assert!(is_up(&rig, 0));
}

#[test]
fn the_last_usable_backend_is_never_ejected() {
    let text = config_text(&[1, 1], "passive: {failures: 1, eject_percent_max: 100}");
    let mut rig = Rig::still(&text);
    for k in 0..2 {
        rig.world()
            .origin_listen(&origin_address(k), Behaviour::Refuse);
    }
    for _ in 0..20 {
        rig.client();
        rig.settle();
    }
    assert_eq!(u32::from(is_up(&rig, 0)) + u32::from(is_up(&rig, 1)), 1);
}

#[test]
fn a_tcp_check_is_over_before_the_server_accepts_it() {
    let mut rig = Rig::still(&config_text(&[1], TCP));
    for _ in 0..20 {
        round(&mut rig, 0);
        rig.pass(1_000, 100);
    }
    assert!(rig.backend_count(0, BackendCell::ProbesPassed) >= 20);
    assert_eq!(rig.accepted(0), []);
    assert_eq!(rig.world().open_streams(), 0);
}

#[test]
fn a_check_that_became_one_of_http_asks_from_its_next_probe_on() {
    let mut rig = Rig::still(&config_text(&[1], TCP));
    // The probe has begun when the file changes.
    rig.world().settings_mut().delay_ms = 50..=50;
    while rig.world().open_streams() == 0 {
        rig.pass(1, 1);
    }
    rig.reload(&config_text(&[1], HTTP));
    rig.pass(200, 10);
    assert_eq!(rig.accepted(0), []);
    rig.pass(12_000, 100);
    let [probe] = rig.accepted(0)[..] else {
        panic!("the next one asks");
    };
    assert!(rig.world().peer_received(probe).starts_with(b"GET /up"));
}
