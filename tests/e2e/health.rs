//! Probes decide who takes traffic; a change is logged once, with its reason.

use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::log::{DOWN, NO_BACKEND, UP};
use crate::harness::{
    Config, End, Gate, Named, Origin, Peer, Scratch, Weir, ask, eventually, observe,
};

const HTTP: &str = "rise: 2, fall: 3, path: /health";

/// Waits for so many further probes.
fn wait_probes(origin: &Named, more: usize) {
    let goal = origin.accepted() + more;
    eventually("probes arrive", || {
        (origin.accepted() >= goal).then_some(())
    });
}

#[test]
fn a_refused_probe_takes_a_backend_down_once_and_passed_ones_bring_it_back() {
    let [a, b] = ["A", "B"].map(Named::new);
    let config = Config::new()
        .checked(HTTP)
        .backend(a.address())
        .backend(b.address());
    let weir = Weir::start(config);
    let name = a.address().to_string();
    wait_probes(&a, 1);
    a.kill();
    let line = weir.log.wait(&[DOWN, &name]);
    // A check may have been under way.
    let reasons = ["refused", "closed before it answered"];
    let is_told = reasons.iter().any(|reason| line.contains(reason));
    assert!(is_told, "no reason: {line}");
    for _ in 0..6 {
        assert_eq!(ask(&mut weir.connect()), "B");
    }
    a.resume();
    weir.log.wait(&[UP, &name]);
    wait_probes(&a, 2);
    assert_eq!(weir.log.count(&[DOWN, &name]), 1);
    assert_eq!(weir.log.count(&[UP, &name]), 1);
    let seen: String = (0..6).map(|_| ask(&mut weir.connect())).collect();
    assert_eq!(seen.matches('A').count(), 3, "{seen}");
    assert_eq!(weir.log.count(&[DOWN, &b.address().to_string()]), 0);
}

#[test]
fn a_failing_http_probe_takes_a_backend_down_that_still_accepts() {
    let [a, b] = ["A", "B"].map(Named::new);
    let config = Config::new()
        .checked(HTTP)
        .backend(a.address())
        .backend(b.address());
    let weir = Weir::start(config);
    let name = a.address().to_string();
    wait_probes(&a, 1);
    a.set_status(500);
    let line = weir.log.wait(&[DOWN, &name]);
    assert!(line.contains("500"), "no reason: {line}");
    let asked = a.asked();
    for _ in 0..6 {
        assert_eq!(ask(&mut weir.connect()), "B");
    }
    assert_eq!(a.asked(), asked);
    a.set_status(200);
    weir.log.wait(&[UP, &name]);
    eventually("A takes traffic", || {
        (ask(&mut weir.connect()) == "A").then_some(())
    });
    wait_probes(&a, 2);
    assert_eq!(weir.log.count(&[DOWN, &name]), 1);
    assert_eq!(weir.log.count(&[UP, &name]), 1);
}

#[test]
fn an_http_probe_names_its_host_and_itself() {
    let origin = Named::new("A");
    let weir = Weir::start(Config::new().checked(HTTP).backend(origin.address()));
    let probe = eventually("a probe arrives", || origin.probes().into_iter().next());
    let mut lines = probe.lines();
    let request = lines.next().unwrap_or_default();
    assert!(request.starts_with("GET /health HTTP/1."), "{probe}");
    let fields: Vec<_> = lines.map(str::to_ascii_lowercase).collect();
    let has = |field: &str| fields.iter().any(|line| line.trim_end() == field);
    assert!(has(&format!("host: {}", origin.address())), "{probe}");
    assert!(
        fields
            .iter()
            .any(|line| line.starts_with("user-agent: weir-health")),
        "{probe}"
    );
    assert_eq!(weir.log.count(&[DOWN]), 0);
}

#[test]
fn a_backend_that_answers_probes_too_late_goes_down() {
    // It listens and says nothing to a probe, which waits for its timeout.
    let mute = Origin::new(|peer| {
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).map(drop)
    });
    let good = Named::new("good");
    let config = Config::new()
        .checked(HTTP)
        .backend(mute.address())
        .backend(good.address());
    let weir = Weir::start(config);
    let line = weir.log.wait(&[DOWN, &mute.address().to_string()]);
    assert!(
        line.contains("timed out") || line.contains("timeout"),
        "no reason: {line}"
    );
    for _ in 0..4 {
        assert_eq!(ask(&mut weir.connect()), "good");
    }
}

#[test]
fn the_first_result_decides_at_once() {
    let [a, b] = ["A", "B"].map(Named::new);
    a.set_status(503);
    let config = Config::new()
        .upstream("health_check: {interval: 1h, timeout: 1m, fall: 3, path: /health}")
        .backend(a.address())
        .backend(b.address());
    let weir = Weir::start(config);
    weir.log.wait(&[DOWN, &a.address().to_string()]);
    assert!(a.accepted() <= 1, "{} probes", a.accepted());
    for _ in 0..4 {
        assert_eq!(ask(&mut weir.connect()), "B");
    }
}

#[test]
fn a_backend_that_starts_down_takes_nothing_before_its_first_passed_probe() {
    let origin = Named::new("A");
    origin.set_status(503);
    let check = "rise: 1, initial: down, path: /health";
    let weir = Weir::start(Config::new().checked(check).backend(origin.address()));
    wait_probes(&origin, 2);
    weir.expect_turned_away();
    assert_eq!(origin.asked(), 0);
    origin.set_status(200);
    weir.log.wait(&[UP, &origin.address().to_string()]);
    assert_eq!(ask(&mut weir.connect()), "A");
}

#[test]
fn a_client_is_closed_at_once_when_every_backend_is_down() {
    let origin = Named::new("A");
    let mut weir = Weir::start(Config::new().checked(HTTP).backend(origin.address()));
    origin.set_status(500);
    weir.log.wait(&[DOWN]);
    let asked = origin.asked();
    let mark = weir.log.mark();
    for _ in 0..200 {
        weir.expect_turned_away();
    }
    assert_eq!(origin.asked(), asked);
    assert!(weir.runs());
    let told = weir.log.count_since(mark, &[NO_BACKEND]);
    assert!((1..=20).contains(&told), "{told} lines for 200 connections");
}

#[test]
fn use_all_picks_among_backends_that_are_all_down() {
    let origin = Named::new("A");
    let config = Config::new()
        .checked(HTTP)
        .upstream("when_all_down: use_all")
        .backend(origin.address());
    let weir = Weir::start(config);
    origin.set_status(500);
    weir.log.wait(&[DOWN]);
    assert_eq!(ask(&mut weir.connect()), "A");
}

#[test]
fn a_session_goes_on_when_its_backend_is_marked_down() {
    let origin = Named::new("A");
    let weir = Weir::start(Config::new().checked(HTTP).backend(origin.address()));
    let mut client = weir.connect();
    ask(&mut client);
    origin.set_status(500);
    weir.log.wait(&[DOWN]);
    client.send("still here");
    client.expect("still here");
}

#[test]
fn probes_go_on_while_a_session_moves_bytes() {
    let origin = Named::new("A");
    let weir = Weir::start(Config::new().checked(HTTP).backend(origin.address()));
    let mut client = weir.connect();
    ask(&mut client);
    let mut sender = client.share();
    let length = 32 * 1024 * 1024;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            sender.send_pattern(1, length);
            sender.finish();
        });
        wait_probes(&origin, 2);
        client.expect_pattern(1, length);
        client.expect_end();
    });
    assert_eq!(weir.log.count(&[DOWN]), 0);
}

#[test]
fn a_server_never_gets_to_accept_a_tcp_check() {
    let origin = Named::new("A");
    origin.refuse();
    let config = Config::new()
        .checked("rise: 30, fall: 1")
        .backend(origin.address());
    let weir = Weir::start(config);
    weir.log.wait(&[DOWN, "refused"]);
    origin.resume();
    weir.log.wait(&[UP, "30 passed checks"]);
    // One that weir is kept from ending for 200 ms is accepted after all.
    let accepted = origin.accepted();
    assert!(accepted <= 3, "{accepted} of 30 checks were accepted");
    assert_eq!(ask(&mut weir.connect()), "A");
}

/// What a server says to a check: the head, then piece after piece.
const ANSWERS: [&[&str]; 6] = [
    &["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", "he", "re"],
    &[
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "4\r\nhere\r\n",
        "0\r\n\r\n",
    ],
    &["HTTP/1.0 200 OK\r\n\r\n", "until", "the end"],
    &["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 204 x\r\n\r\n"],
    &["HTTP/1.1 500 x\r\nContent-Length: 4\r\n\r\n", "he", "re"],
    &["220 mail ready\r\n"],
];

/// Reads a check and answers it slowly; tells how the connection ended.
fn answer_slowly(peer: &mut Peer, pieces: &[&str], ends_first: bool) -> io::Result<End> {
    while peer.read_line()? != "\r" {}
    for piece in pieces {
        peer.write_all(piece.as_bytes())?;
        observe(Duration::from_millis(20));
    }
    if ends_first {
        peer.finish();
    }
    Ok(peer.end().1)
}

#[test]
fn an_http_check_lets_the_server_finish_and_ends_without_a_reset() {
    let ends = Arc::new(Mutex::new(Vec::new()));
    let origins: Vec<_> = [true, false]
        .into_iter()
        .flat_map(|ends_first| ANSWERS.map(|pieces| (pieces, ends_first)))
        // What goes on until the end is for the server to end.
        .filter(|(pieces, ends_first)| *ends_first || !pieces[0].contains("/1.0"))
        .map(|(pieces, ends_first)| {
            let ends = Arc::clone(&ends);
            Origin::new(move |peer| {
                let end = answer_slowly(peer, pieces, ends_first);
                let end = end.map_err(|error| error.kind());
                let mut ends = ends.lock().expect("no holder panics");
                ends.push((pieces[0], ends_first, end));
                Ok(())
            })
        })
        .collect();
    let check = "health_check: {interval: 1h, timeout: 20s, path: /}";
    let mut config = Config::new().upstream(check);
    for origin in &origins {
        config = config.backend(origin.address());
    }
    let _weir = Weir::start(config);
    eventually("every check ends", || {
        let ends = ends.lock().expect("no holder panics");
        (ends.len() == origins.len()).then_some(())
    });
    for (head, ends_first, end) in &*ends.lock().expect("no holder panics") {
        assert_eq!(*end, Ok(End::Clean), "{head:?}, server first: {ends_first}");
    }
}

#[test]
fn a_server_on_a_unix_socket_sees_a_check_end_cleanly() {
    for check in ["", "path: /health"] {
        let scratch = Scratch::new();
        let gate = Gate::unix(&scratch.file("backend.sock"));
        let config = Config::new().checked(check).backend(gate.name());
        let weir = Weir::start(config);
        let mut peer = gate.accept();
        let end = match check {
            "" => peer.end().1,
            _ => answer_slowly(&mut peer, ANSWERS[0], false).expect("it takes the answer"),
        };
        assert_eq!(end, End::Clean, "{check}");
        assert_eq!(weir.log.count(&[DOWN]), 0);
    }
}
