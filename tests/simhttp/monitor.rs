//! The path at which weir tells itself whether it is ready.

use weir::board::ListenerCell;

use crate::net::{PeerId, Settings};
use crate::rig::{self, Rig};

const READY: &str = "ready\n";

/// Before one backend, checked by requests that nobody answers unless the test does.
fn checked() -> Rig {
    let config = format!(
        "stats_interval: 0\naccess_log: {{format: json}}\ntimeouts: {{pre_drain: 5s}}\n\
         listeners:\n  - {{listen: \"10.9.9.9:80\", name: \"in\", mode: http, upstream: pool, \
         monitor_path: /healthz}}\nupstreams:\n  pool:\n    backends: [\"{}\"]\n    \
         health_check: {{path: /up, interval: 60s, timeout: 60s}}\n",
        rig::origin(0)
    );
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..Settings::plain()
    };
    Rig::with(settings, &config)
}

fn asked(rig: &mut Rig, client: PeerId, request: &str) -> String {
    let before = rig.world().peer_received(client).len();
    rig.world().peer_send(client, request.as_bytes());
    rig.settle();
    let world = rig.world();
    String::from_utf8_lossy(&world.peer_received(client)[before..]).into_owned()
}

fn get(rig: &mut Rig, path: &str) -> String {
    let client = rig.client();
    rig.settle();
    asked(
        rig,
        client,
        &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
    )
}

fn expect(answer: &str, status: u16, end: &str) {
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{answer}"
    );
    assert!(answer.contains("Cache-Control: no-store\r\n"), "{answer}");
    assert!(answer.ends_with(&format!("\r\n\r\n{end}")), "{answer}");
}

#[test]
fn it_is_not_ready_before_every_backend_was_checked_once() {
    let mut rig = checked();
    expect(&get(&mut rig, "/healthz"), 503, "not ready: checking\n");
    rig.pass(1_000, 100);
    let [probe] = rig.accepted(0)[..] else {
        panic!("it is checked");
    };
    expect(&get(&mut rig, "/healthz"), 503, "not ready: checking\n");
    let answer = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
    rig.world().peer_send(probe, answer);
    rig.settle();
    expect(&get(&mut rig, "/healthz"), 200, READY);
}

#[test]
fn checks_that_do_not_end_put_it_off_for_ten_seconds() {
    let mut rig = checked();
    rig.pass(9_900, 100);
    expect(&get(&mut rig, "/healthz"), 503, "not ready: checking\n");
    rig.pass(200, 100);
    expect(&get(&mut rig, "/healthz"), 200, READY);
}

#[test]
fn it_is_not_ready_while_it_ends_and_still_accepts() {
    let mut rig = checked();
    rig.pass(10_000, 100);
    rig.worker.drain();
    let answer = get(&mut rig, "/healthz");
    expect(&answer, 503, "not ready: ending\n");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
}

#[test]
fn who_asks_is_no_client() {
    let mut rig = checked();
    rig.pass(10_000, 100);
    let probes = rig.accepted(0).len();
    let client = rig.client();
    rig.settle();
    for path in [
        "/healthz",
        "/healthz?x=1",
        "/%68ealthz",
        "/x/../healthz",
        "http://a/healthz",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
        expect(&asked(&mut rig, client, &request), 200, READY);
    }
    let head = asked(
        &mut rig,
        client,
        "HEAD /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    expect(&head, 200, "");
    assert!(head.contains("Content-Length: 6\r\n"), "{head}");
    assert_eq!(rig.listener_count(ListenerCell::Requests), 0);
    let lines = rig.worker.access_lines().expect("accesses are logged");
    assert_eq!(String::from_utf8_lossy(lines), "");
    assert_eq!((probes, rig.accepted(0).len()), (1, 0));
    // What is not asked there is for a backend.
    for request in [
        "POST /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "GET /healthz/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /HEALTHZ HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let client = rig.client();
        rig.settle();
        assert_eq!(asked(&mut rig, client, request), "");
        assert_eq!(rig.accepted(0).len(), 1, "{request}");
    }
    assert_eq!(rig.listener_count(ListenerCell::Requests), 3);
}
