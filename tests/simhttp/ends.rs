//! How requests and sessions end, as counters and the access log tell it.

use weir::board::{CodeClass, ListenerCell};
use weir::worker::Stage;

use crate::net::PeerId;
use crate::rig::{Rig, config_text};
use crate::{ANSWER, ASK, ask_and_answer};

const LOG: &str = "mode: http\naccess_log: {format: json}\n";
const POST: &[u8] = b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n";
/// More than the buffers on the way hold.
const LONG_BYTES: usize = 1_000_000;

fn rig(more: &str) -> Rig {
    Rig::still(&config_text(&[1], &format!("{LOG}{more}")))
}

fn send(rig: &mut Rig, peer: PeerId, bytes: &[u8]) {
    rig.world().peer_send(peer, bytes);
    rig.settle();
}

/// A client whose request is with a backend.
fn asked(rig: &mut Rig, request: &[u8]) -> (PeerId, PeerId) {
    let client = rig.client();
    send(rig, client, request);
    (client, rig.accepted(0)[0])
}

/// Takes the one line that the access log has.
fn line(rig: &mut Rig) -> String {
    let lines = rig.worker.access_lines().expect("accesses are logged");
    let text = String::from_utf8(std::mem::take(lines)).expect("a line is text");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn who_leaves_before_an_answer_has_499() {
    type Leave = fn(&mut Rig, PeerId);
    let reset: Leave = |rig, client| rig.world().peer_reset(client);
    let ends: Leave = |rig, client| rig.world().peer_close_write(client);
    let table: [(&[u8], Leave, &str); 4] = [
        (ASK, reset, "client left in data"),
        (ASK, ends, "client left in data"),
        (POST, reset, "client left in request"),
        (POST, ends, "client left in request"),
    ];
    for (request, leave, why) in table {
        let mut rig = rig("abort_on_close: true");
        let (client, _) = asked(&mut rig, request);
        leave(&mut rig, client);
        rig.settle();
        let line = line(&mut rig);
        let told = format!("\"why\":\"{why}\",\"closed_by\":\"client\"");
        assert!(line.contains(&told), "{line}");
        assert!(line.contains("\"status\":499,"), "{line}");
    }
}

#[test]
fn who_leaves_within_a_head_has_a_line() {
    type Leave = fn(&mut Rig, PeerId);
    let ways: [(Leave, &str, &str); 3] = [
        (
            |rig, client| rig.world().peer_reset(client),
            "client left in request",
            "499",
        ),
        (
            |rig, client| rig.world().peer_close_write(client),
            "client left in request",
            "499",
        ),
        (|rig, _| rig.worker.stop(), "drain deadline", "null"),
    ];
    for (leave, why, status) in ways {
        let mut rig = rig("");
        let client = rig.client();
        send(&mut rig, client, b"GET / HT");
        leave(&mut rig, client);
        rig.settle();
        let line = line(&mut rig);
        assert!(line.contains(&format!("\"why\":\"{why}\"")), "{line}");
        assert!(line.contains(&format!("\"status\":{status},")), "{line}");
        assert!(line.contains("\"bytes_in\":8,"), "{line}");
    }
    // Between two requests there is nothing to tell, and an empty line begins none.
    let mut rig = rig("");
    let client = rig.client();
    send(&mut rig, client, b"\r\n");
    rig.pass(30_000, 1_000);
    send(&mut rig, client, b"\r\n");
    send(&mut rig, client, b"\r");
    send(&mut rig, client, b"\n");
    rig.pass(20_000, 1_000);
    assert_eq!(rig.listener_count(ListenerCell::TimedOut), 0);
    send(&mut rig, client, b"\r\nGET /0 HTTP/1.1\r\nHost: a\r\n\r\n");
    let backend = rig.accepted(0)[0];
    send(&mut rig, backend, ANSWER);
    assert!(rig.world().peer_received(client).ends_with(b"ok"));
    assert!(line(&mut rig).contains("\"why\":\"ok\""));
    send(&mut rig, client, b"\r\n");
    rig.world().peer_close_write(client);
    rig.settle();
    assert!(
        rig.worker
            .access_lines()
            .is_none_or(|lines| lines.is_empty())
    );
}

#[test]
fn who_leaves_in_an_answer_has_its_status() {
    // Held in a pipe, and in a buffer as it is framed anew.
    for framing in [format!("Content-Length: {LONG_BYTES}\r\n"), String::new()] {
        let mut rig = rig("");
        let (client, backend) = asked(&mut rig, ASK);
        rig.world().peer_read_enabled(client, false);
        let head = format!("HTTP/1.1 200 OK\r\n{framing}\r\n");
        send(&mut rig, backend, head.as_bytes());
        send(&mut rig, backend, &vec![b'x'; LONG_BYTES]);
        rig.world().peer_reset(client);
        rig.settle();
        let line = line(&mut rig);
        assert!(line.contains("\"why\":\"client left in data\""), "{line}");
        assert!(line.contains("\"status\":200,"), "{line}");
    }
}

#[test]
fn an_end_that_is_an_abort_is_no_reset() {
    for (is_reset, count) in [(true, 1), (false, 0)] {
        let mut rig = rig("abort_on_close: true");
        let (client, backend) = asked(&mut rig, ASK);
        if is_reset {
            rig.world().peer_reset(client);
        } else {
            rig.world().peer_close_write(client);
        }
        rig.settle();
        assert_eq!(rig.worker.census().sessions, 0);
        assert!(rig.world().peer_saw_reset(backend), "its work is saved");
        assert_eq!(rig.listener_count(ListenerCell::Reset), count);
    }
}

#[test]
fn a_body_that_goes_wrong_behind_its_answer_is_told() {
    let chunked = b"POST /0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, why) in [
        (
            "b\r\nhello world\r\n",
            "the body is longer than its route allows",
        ),
        ("no chunk\r\n", "invalid chunk size"),
    ] {
        let mut rig = rig("limits: {max_body: 10}");
        let (client, backend) = asked(&mut rig, chunked);
        send(&mut rig, backend, ANSWER);
        send(&mut rig, client, body.as_bytes());
        let line = line(&mut rig);
        let told = format!("\"why\":\"refused by proxy: {why}\",\"closed_by\":\"weir\"");
        assert!(line.contains(&told), "{line}");
        assert!(line.contains("\"status\":200,"), "{line}");
    }
}

#[test]
fn every_response_is_counted_once_by_its_class() {
    let heads: [(&str, &str); 6] = [
        ("GET /0", "103 Hints\r\n\r\nHTTP/1.1 204 None"),
        ("GET /0", "304 Not Modified"),
        ("GET /0", "404 No\r\nContent-Length: 0"),
        ("GET /0", "503 No\r\nContent-Length: 0"),
        ("HEAD /0", "700 Odd\r\nContent-Length: 9"),
        ("GET /0", "no HTTP"),
    ];
    let mut rig = rig("");
    let mut backend = None;
    for (asks, head) in heads {
        let request = format!("{asks} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let client = rig.client();
        send(&mut rig, client, request.as_bytes());
        // The one of before goes on unless there is another.
        backend = rig.accepted(0).pop().or(backend);
        let backend = backend.expect("a backend is asked");
        send(
            &mut rig,
            backend,
            format!("HTTP/1.1 {head}\r\n\r\n").as_bytes(),
        );
    }
    // What weir answers itself: to no request, to one that it does not take, and for a backend.
    for request in ["no request\r\n\r\n", "TRACE /0 HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let client = rig.client();
        send(&mut rig, client, request.as_bytes());
    }
    let count = |class| rig.listener_count(class);
    assert_eq!(
        count(CodeClass::Informational),
        0,
        "a response has one final head"
    );
    assert_eq!(count(CodeClass::Successful), 1);
    assert_eq!(count(CodeClass::Redirection), 1);
    assert_eq!(count(CodeClass::ClientError), 3);
    assert_eq!(
        count(CodeClass::ServerError),
        2,
        "503, and 502 for what is no HTTP"
    );
    assert_eq!(count(CodeClass::Other), 1);
}

/// Lets a drain come to its end; how many sessions were cut.
fn drained(rig: &mut Rig) -> u64 {
    rig.worker.drain();
    rig.pass(2_001, 100);
    assert_eq!(rig.worker.stage(), Stage::Finished);
    let cut = rig.worker.cut_sessions();
    assert_eq!(rig.listener_count(ListenerCell::Cut), cut);
    cut
}

#[test]
fn whoever_was_answered_and_sends_on_is_not_cut_at_the_end_of_a_drain() {
    let drain = "timeouts: {drain: 2s}\n";
    // Behind an answer of weir's own: too much to drop, and little enough to go on.
    let own = "listen: \"10.9.9.9:80\"\nstats_interval: 0\nname: web\n\
               routes: [{prefix: /, respond: {status: 200, body: fine}}]\n";
    for length in [9_000_000, 5_000] {
        let mut rig = Rig::still(&format!("{own}{drain}"));
        let client = rig.client();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        send(&mut rig, client, head.as_bytes());
        assert!(rig.world().peer_received(client).ends_with(b"fine"));
        rig.worker.drain();
        rig.pass(2_001, 100);
        assert_eq!(rig.worker.cut_sessions(), 0, "{length}");
    }
    // What a backend has refused behind its answer.
    let mut refused = rig(drain);
    let (client, backend) = asked(&mut refused, POST);
    send(&mut refused, backend, ANSWER);
    refused.world().peer_reset(backend);
    refused.settle();
    assert_eq!(drained(&mut refused), 0);
    assert!(refused.world().peer_received(client).ends_with(b"ok"));
    let line = line(&mut refused);
    assert!(line.contains("\"why\":\"ok\""), "{line}");
}

#[test]
fn whoever_is_kicked_in_an_answer_is_told_of_as_that() {
    let mut rig = rig("");
    let (_, backend) = asked(&mut rig, ASK);
    send(
        &mut rig,
        backend,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    );
    rig.worker.kick("default", None);
    rig.settle();
    let line = line(&mut rig);
    let told = "\"why\":\"kicked by an order\",\"closed_by\":\"weir\"";
    assert!(line.contains(told), "{line}");
    assert!(line.contains("\"status\":200,"), "{line}");
}

#[test]
fn whoever_misses_something_is_cut_at_the_end_of_a_drain() {
    let drain = "timeouts: {drain: 2s}";
    let mut waits = rig(drain);
    asked(&mut waits, ASK);
    assert_eq!(drained(&mut waits), 1);
    let told = line(&mut waits);
    let why = "\"why\":\"drain deadline\",\"closed_by\":\"weir\"";
    assert!(
        told.contains(why) && told.contains("\"status\":null,"),
        "{told}"
    );

    // The backend still takes what nobody else has.
    let mut sends = rig(drain);
    let (_, backend) = asked(&mut sends, POST);
    send(&mut sends, backend, ANSWER);
    assert_eq!(drained(&mut sends), 1);
    let told = line(&mut sends);
    assert!(
        told.contains(why) && told.contains("\"status\":200,"),
        "{told}"
    );

    let mut blocked = rig(drain);
    let (client, backend) = asked(&mut blocked, ASK);
    blocked.world().peer_read_enabled(client, false);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG_BYTES}\r\n\r\n");
    send(&mut blocked, backend, head.as_bytes());
    send(&mut blocked, backend, &vec![b'x'; LONG_BYTES]);
    assert_eq!(drained(&mut blocked), 1);

    let mut half = rig(drain);
    let client = half.client();
    send(&mut half, client, b"GET / HT");
    assert_eq!(drained(&mut half), 1);
}

#[test]
fn a_stop_at_once_cuts_nobody_who_waits_for_nothing() {
    let mut rig = rig("");
    let client = rig.client();
    ask_and_answer(&mut rig, client);
    rig.worker.stop();
    rig.settle();
    assert_eq!(rig.worker.cut_sessions(), 0);
    assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
    let mut fresh = Rig::still(&config_text(&[1], LOG));
    fresh.client();
    fresh.settle();
    fresh.worker.stop();
    assert_eq!(fresh.worker.cut_sessions(), 1, "it may have asked");
}
