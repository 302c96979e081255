//! Health checks and ejection, with the real timers and sockets of the loop.

use weir::board::BackendCell;

use crate::net::{Behaviour, PeerId};
use crate::rig::{Rig, config_text, origin, origin_address};

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

/// Waits for the next HTTP probe, and has the server say this.
fn answered(rig: &mut Rig, words: &[u8]) -> PeerId {
    let probe = loop {
        if let Some(probe) = rig.accepted(0).pop() {
            break probe;
        }
        rig.pass(100, 100);
    };
    say(rig, probe, words);
    probe
}

fn say(rig: &mut Rig, probe: PeerId, words: &[u8]) {
    rig.world().peer_send(probe, words);
    rig.settle();
}

fn answer(rig: &mut Rig, status: &str) -> PeerId {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    answered(rig, answer.as_bytes())
}

#[test]
fn a_drain_acts_in_a_process_on_its_own() {
    let mut rig = Rig::still(&config_text(&[1, 1], ""));
    assert!(!rig.worker.set_draining("default", "nobody", true));
    let mut counts = |drains: bool| {
        assert!(rig.worker.set_draining("default", &origin(0), drains));
        let before = rig.backend_count(0, BackendCell::Picks);
        for _ in 0..4 {
            rig.client();
            rig.settle();
        }
        rig.backend_count(0, BackendCell::Picks) - before
    };
    assert_eq!(counts(false), 2);
    assert_eq!(counts(true), 0);
    assert_eq!(counts(false), 2);
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
fn a_backend_that_a_reload_puts_in_the_place_of_all_others_is_trusted_as_at_a_start() {
    for (initial, is_trusted) in [("up", true), ("down", false)] {
        let check = format!("health_check: {{initial: {initial}}}");
        let mut rig = Rig::still(&config_text(&[1], &check));
        let moved = config_text(&[1], &check).replace(&origin(0), &origin(1));
        rig.world()
            .origin_listen(&origin_address(1), Behaviour::Accept);
        rig.reload(&moved);
        rig.client();
        rig.settle();
        let picks = rig.backend_count(1, BackendCell::Picks);
        assert_eq!(picks, u64::from(is_trusted), "{initial}");
    }
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

/// Whether weir has ended the connection of a probe, which is never by a reset.
fn has_ended(rig: &Rig, probe: PeerId) -> bool {
    let world = rig.world();
    assert!(!world.peer_saw_reset(probe), "a check ends cleanly");
    world.peer_saw_end(probe)
}

const LENGTH_5: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn an_http_check_is_decided_by_the_head_and_goes_on_to_the_end_of_the_answer() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    for (head, rest) in [
        (LENGTH_5, &b"hello"[..]),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let passed = rig.backend_count(0, BackendCell::ProbesPassed);
        let probe = answered(&mut rig, head);
        assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), passed + 1);
        rig.pass(1_000, 100);
        assert!(!has_ended(&rig, probe), "the rest is on its way");
        let (first, last) = rest.split_at(3);
        say(&mut rig, probe, first);
        assert!(!has_ended(&rig, probe));
        say(&mut rig, probe, last);
        // Time to be the first who ends is left to the server.
        assert!(!has_ended(&rig, probe));
        rig.pass(100, 10);
        assert!(has_ended(&rig, probe));
        assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), passed + 1);
    }
}

#[test]
fn an_http_check_ends_as_soon_as_the_server_has() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    for head in [
        LENGTH_5,
        b"HTTP/1.0 200 OK\r\n\r\n",
        CHUNKED,
        b"HTTP/1.1 500 x\r\n\r\n",
    ] {
        let probe = answered(&mut rig, head);
        say(&mut rig, probe, b"5\r\nhe");
        rig.world().peer_close_write(probe);
        rig.settle();
        assert!(has_ended(&rig, probe));
    }
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 3);
    assert_eq!(rig.backend_count(0, BackendCell::ProbesFailed), 1);
}

#[test]
fn an_answer_that_stalls_after_its_head_has_passed_and_ends_with_the_timeout() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    let probe = answered(&mut rig, LENGTH_5);
    rig.pass(1_800, 100);
    assert!(!has_ended(&rig, probe));
    rig.pass(200, 100);
    assert!(has_ended(&rig, probe));
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
    assert_eq!(rig.backend_count(0, BackendCell::ProbesFailed), 0);
    answered(&mut rig, LENGTH_5);
}

#[test]
fn no_more_than_64_kib_of_an_answer_are_read() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    let probe = answered(&mut rig, b"HTTP/1.0 200 OK\r\n\r\n");
    say(&mut rig, probe, &[b'x'; 40_000]);
    assert!(!has_ended(&rig, probe));
    say(&mut rig, probe, &[b'x'; 40_000]);
    assert_eq!(rig.world().open_streams(), 0);
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
}

#[test]
fn interim_responses_do_not_decide() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    let probe = answered(&mut rig, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    assert_eq!(rig.backend_count(0, BackendCell::ProbesFailed), 0);
    say(&mut rig, probe, b"HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
    rig.world().peer_close_write(probe);
    rig.settle();
    assert!(has_ended(&rig, probe));
}

#[test]
fn an_answer_from_before_the_request_counts() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    while rig.world().open_streams() == 0 {
        rig.turn();
        rig.world().advance(1);
    }
    rig.world().settle();
    let probe = rig.accepted(0)[0];
    let all_is_well = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    rig.world().peer_send(probe, all_is_well);
    rig.world().peer_close(probe);
    rig.settle();
    assert_eq!(rig.backend_count(0, BackendCell::ProbesPassed), 1);
    assert_eq!(rig.backend_count(0, BackendCell::ProbesFailed), 0);
    assert_eq!(rig.world().open_streams(), 0);
}

#[test]
fn a_server_that_answers_in_another_protocol_can_end_in_peace() {
    let mut rig = Rig::still(&config_text(&[1], HTTP));
    let probe = answered(&mut rig, b"220 mail ready\r\n");
    assert_eq!(rig.backend_count(0, BackendCell::ProbesFailed), 1);
    say(&mut rig, probe, b"502 unknown command\r\n");
    assert!(!has_ended(&rig, probe));
    rig.pass(100, 10);
    assert!(has_ended(&rig, probe));
}

#[test]
fn a_check_that_is_given_up_ends_cleanly() {
    // It times out, its backend is removed, weir stops.
    let give_ups: [fn(&mut Rig); 3] = [
        |rig| rig.pass(2_500, 100),
        |rig| rig.reload(&config_text(&[1], "")),
        |rig| rig.worker.stop(),
    ];
    for give_up in give_ups {
        let mut rig = Rig::still(&config_text(&[1], HTTP));
        let probe = answered(&mut rig, b"");
        assert!(!has_ended(&rig, probe));
        give_up(&mut rig);
        rig.world().settle();
        assert!(has_ended(&rig, probe));
    }
}
