//! Answers that are complete before their requests have ended, of backends and of weir's own.

use crate::net::{PeerId, Settings};
use crate::rig::{Rig, config_text};
use crate::{ANSWER, ASK, still};

/// How long what nobody wants is dropped: in all, and while nothing comes.
const DROP_MS: u64 = 30_000;
const DROP_SILENT_MS: u64 = 5_000;

const OK: &str = "HTTP/1.1 200 OK\r\n";

fn text(rig: &Rig, peer: PeerId) -> String {
    String::from_utf8_lossy(rig.world().peer_received(peer)).into_owned()
}

/// A client that has sent its head and half a body of 8 bytes, and the backend that got them.
fn half_asked(rig: &mut Rig, fields: &str) -> (PeerId, PeerId) {
    let client = rig.client();
    let head = format!("POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n{fields}\r\nhalf");
    rig.world().peer_send(client, head.as_bytes());
    rig.settle();
    let backend = rig.accepted(0)[0];
    (client, backend)
}

fn send(rig: &mut Rig, peer: PeerId, bytes: &[u8]) {
    rig.world().peer_send(peer, bytes);
    rig.settle();
}

#[test]
fn a_request_goes_on_behind_its_answer_and_both_connections_serve_the_next() {
    for framing in [
        "Content-Length: 2\r\n\r\nok",
        "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ] {
        let mut rig = still();
        let (client, backend) = half_asked(&mut rig, "");
        send(&mut rig, backend, format!("{OK}{framing}").as_bytes());
        let answer = text(&rig, client);
        assert!(answer.starts_with(OK) && answer.contains("ok"), "{answer}");
        assert!(!answer.contains("Connection"), "{answer}");
        send(&mut rig, client, b"done");
        assert!(text(&rig, backend).ends_with("\r\n\r\nhalfdone"));
        send(&mut rig, client, ASK);
        send(&mut rig, backend, ANSWER);
        assert_eq!(text(&rig, client).matches(OK).count(), 2);
        assert_eq!(rig.accepted(0), [], "the connection was not used again");
    }
}

#[test]
fn a_request_that_was_sent_ahead_waits_behind_the_body() {
    let mut rig = still();
    let (client, backend) = half_asked(&mut rig, "");
    send(&mut rig, backend, ANSWER);
    send(&mut rig, client, &[b"done", ASK].concat());
    send(&mut rig, backend, ANSWER);
    assert_eq!(text(&rig, client).matches(OK).count(), 2);
}

#[test]
fn the_end_of_the_backend_alone_does_not_end_the_upload() {
    for framing in ["Connection: close\r\nContent-Length: 2\r\n", ""] {
        let mut rig = still();
        let (client, backend) = half_asked(&mut rig, "");
        rig.world()
            .peer_send(backend, format!("{OK}{framing}\r\nok").as_bytes());
        rig.world().peer_close_write(backend);
        rig.settle();
        assert!(text(&rig, client).contains("ok"));
        send(&mut rig, client, b"done");
        assert!(text(&rig, backend).ends_with("\r\n\r\nhalfdone"));
        assert!(rig.world().peer_saw_end(backend), "it is not used again");
        send(&mut rig, client, ASK);
        let other = rig.accepted(0)[0];
        send(&mut rig, other, ANSWER);
        assert_eq!(text(&rig, client).matches(OK).count(), 2);
    }
}

#[test]
fn the_body_of_an_answered_request_still_has_its_limits() {
    let more = "mode: http\nlimits: {max_body: 10}";
    for body in ["b\r\nhello world\r\n0\r\n\r\n", "no chunk\r\n"] {
        let mut rig = Rig::still(&config_text(&[1], more));
        let client = rig.client();
        send(
            &mut rig,
            client,
            b"POST /0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        let backend = rig.accepted(0)[0];
        send(&mut rig, backend, ANSWER);
        let answer = text(&rig, client);
        send(&mut rig, client, body.as_bytes());
        assert_eq!(text(&rig, client), answer, "there is no second answer");
        assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
        assert!(!text(&rig, backend).ends_with("0\r\n\r\n"), "it is cut");
        assert!(rig.world().peer_saw_end(backend));
    }
}

#[test]
fn an_upload_that_stands_still_behind_its_answer_does_not_harm_it() {
    let mut rig = still();
    let (client, backend) = half_asked(&mut rig, "");
    send(&mut rig, backend, ANSWER);
    rig.pass(29_000, 1_000);
    assert!(!rig.world().peer_saw_end(backend));
    rig.pass(2_000, 500);
    assert!(rig.world().peer_saw_end(backend), "it stood still");
    assert!(text(&rig, client).ends_with("ok"));
    assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
    rig.pass(DROP_SILENT_MS + 500, 500);
    assert_eq!(rig.worker.census().sessions, 0);
}

#[test]
fn an_old_client_sees_the_end_of_its_answer_while_it_sends() {
    let mut rig = still();
    let client = rig.client();
    send(
        &mut rig,
        client,
        b"POST /0 HTTP/1.0\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf",
    );
    let backend = rig.accepted(0)[0];
    rig.world()
        .peer_send(backend, format!("{OK}\r\nok").as_bytes());
    rig.world().peer_close_write(backend);
    rig.settle();
    assert!(rig.world().peer_saw_end(client), "nothing else shows it");
    send(&mut rig, client, b"done");
    assert!(text(&rig, backend).ends_with("\r\n\r\nhalfdone"));
}

#[test]
fn a_body_that_was_not_asked_for_may_come_or_not() {
    for comes in [true, false] {
        let mut rig = still();
        let client = rig.client();
        let head = b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\
                     Expect: 100-continue\r\n\r\n";
        send(&mut rig, client, head);
        let backend = rig.accepted(0)[0];
        send(&mut rig, backend, ANSWER);
        assert!(text(&rig, client).contains("Connection: close\r\n"));
        assert!(rig.world().peer_saw_end(client), "there is no other answer");
        if comes {
            send(&mut rig, client, b"body");
            assert!(text(&rig, backend).ends_with("\r\n\r\nbody"));
        }
        // Over records it has its time to mark its end besides.
        let spans = 1 + u64::from(rig.world().has_layer());
        rig.pass(spans * DROP_SILENT_MS + 500, 500);
        assert_eq!(rig.worker.census().sessions, 0);
        assert!(!rig.world().peer_saw_reset(client));
    }
}

/// A client whose request was refused behind an answer; it goes on sending.
fn refused(rig: &mut Rig) -> PeerId {
    let client = rig.client();
    let head = b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n";
    send(rig, client, head);
    let backend = rig.accepted(0)[0];
    send(rig, backend, ANSWER);
    rig.world().peer_reset(backend);
    rig.settle();
    client
}

#[test]
fn what_a_backend_refuses_is_dropped_for_as_long_as_it_comes_and_no_longer() {
    let mut rig = still();
    let client = refused(&mut rig);
    send(&mut rig, client, &vec![b'x'; 2_000_000]);
    assert_eq!(rig.world().peer_unsent(client), 0, "it is not read");
    assert_eq!(rig.worker.census().leases, 0, "the backend is done");
    for _ in 0..9 {
        rig.pass(3_000, 1_000);
        send(&mut rig, client, b"x");
        assert_eq!(rig.worker.census().sessions, 1);
    }
    rig.pass(DROP_MS - 27_000 + 500, 500);
    assert_eq!(rig.worker.census().sessions, 0, "it has had its time");
    assert!(text(&rig, client).ends_with("ok"));

    let silent = refused(&mut rig);
    rig.pass(DROP_SILENT_MS - 500, 500);
    assert_eq!(rig.worker.census().sessions, 1);
    rig.pass(1_000, 500);
    assert_eq!(rig.worker.census().sessions, 0);
    assert!(rig.world().peer_saw_end(silent) && !rig.world().peer_saw_reset(silent));

    let ended = refused(&mut rig);
    rig.world().peer_close(ended);
    rig.settle();
    assert_eq!(rig.worker.census().sessions, 0, "its end is the end");
}

#[test]
fn a_client_that_was_told_that_it_may_go_on_can_do_so_behind_what_is_dropped() {
    let mut rig = still();
    let client = refused(&mut rig);
    let rest = [&vec![b'x'; 9_000_000][..], ASK].concat();
    send(&mut rig, client, &rest);
    let backend = rig.accepted(0)[0];
    send(&mut rig, backend, ANSWER);
    assert_eq!(text(&rig, client).matches(OK).count(), 2);
}

#[test]
fn a_client_that_reads_only_after_it_has_sent_all_still_gets_its_answer() {
    // The second part of the answer waits for the client, and is taken after the backend has gone.
    for parts in [["a", "b"], ["a", ""]] {
        let settings = Settings {
            sleep_ms_max: Some(0),
            window_bytes: 10_000..=10_000,
            ..Settings::plain()
        };
        let mut rig = Rig::with(settings, &config_text(&[1], "mode: http"));
        let client = rig.client();
        rig.world().peer_read_enabled(client, false);
        let head = b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n";
        send(&mut rig, client, head);
        let backend = rig.accepted(0)[0];
        let body = parts.concat().repeat(9_950);
        let answer = format!("{OK}Content-Length: {}\r\n\r\n{body}", body.len());
        send(&mut rig, backend, answer.as_bytes());
        rig.world().peer_reset(backend);
        rig.settle();
        send(&mut rig, client, &vec![b'x'; 300_000]);
        assert_eq!(rig.world().peer_unsent(client), 0, "it is not read");
        rig.world().peer_read_enabled(client, true);
        rig.settle();
        let received = text(&rig, client);
        assert_eq!(
            received.split_once("\r\n\r\n").map(|(_, got)| got.len()),
            Some(body.len())
        );
        assert!(!rig.world().peer_saw_reset(client));
    }
}

#[test]
fn answers_of_weirs_own_are_read_by_whoever_sends_on() {
    let config = "listen: \"10.9.9.9:80\"\nstats_interval: 0\nlimits: {max_body: 100000}\n\
                  routes: [{prefix: /, respond: {status: 200, body: fine}}]\n";
    // Too large, longer than is dropped to go on, an unknown expectation.
    for (framing, status) in [
        ("Content-Length: 9000000\r\n", "413"),
        ("Content-Length: 90000\r\n", "200"),
        ("Transfer-Encoding: chunked\r\n", "200"),
        ("Content-Length: 9000000\r\nExpect: x\r\n", "417"),
    ] {
        let mut rig = Rig::still(config);
        let client = rig.client();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n");
        send(&mut rig, client, head.as_bytes());
        let answer = text(&rig, client);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        send(&mut rig, client, &vec![b'x'; 1_000_000]);
        assert_eq!(rig.world().peer_unsent(client), 0, "it is not read");
        rig.pass(3_000, 1_000);
        send(&mut rig, client, b"x");
        assert!(rig.world().peer_saw_end(client) && !rig.world().peer_saw_reset(client));
        assert_eq!(rig.worker.census().sessions, 1);
        rig.pass(DROP_SILENT_MS + 500, 500);
        assert_eq!(rig.worker.census().sessions, 0);
    }
}

#[test]
fn a_short_rest_that_does_not_come_holds_no_connection() {
    let config = "listen: \"10.9.9.9:80\"\nstats_interval: 0\n\
                  routes: [{prefix: /, respond: {status: 200, body: fine}}]\n";
    let mut rig = Rig::still(config);
    let client = rig.client();
    send(
        &mut rig,
        client,
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n",
    );
    assert!(!text(&rig, client).contains("Connection"), "it may go on");
    for _ in 0..7 {
        rig.pass(4_000, 1_000);
        send(&mut rig, client, b"x");
        assert_eq!(rig.worker.census().sessions, 1);
    }
    rig.pass(DROP_MS - 28_000 + 500, 500);
    assert_eq!(rig.worker.census().sessions, 0, "it has had its time");
}

#[test]
fn an_answer_that_is_cut_does_not_destroy_the_one_before() {
    let mut rig = still();
    let client = rig.client();
    rig.world().peer_read_enabled(client, false);
    let post = b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n";
    send(&mut rig, client, &[ASK, post].concat());
    let backend = rig.accepted(0)[0];
    send(&mut rig, backend, ANSWER);
    let cut = format!("{OK}Content-Length: 9\r\n\r\npart");
    rig.world().peer_send(backend, cut.as_bytes());
    rig.world().peer_close(backend);
    rig.settle();
    send(&mut rig, client, &vec![b'x'; 900_000]);
    rig.world().peer_read_enabled(client, true);
    rig.settle();
    let received = text(&rig, client);
    assert_eq!(received.matches(OK).count(), 2, "{received}");
    assert!(received.ends_with("part"));
    // Over records, an end without its mark says that it is not whole.
    let is_cut = rig.world().has_layer();
    assert_eq!(rig.world().peer_saw_end(client), !is_cut);
    assert_eq!(rig.world().peer_saw_reset(client), is_cut);
    rig.pass(DROP_SILENT_MS + 500, 500);
    assert_eq!(rig.worker.census().sessions, 0);
}
