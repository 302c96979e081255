//! With hardly any memory for what waits: whoever can be served is, the others are told so, and
//! everything is given back.

use crate::net::{PeerId, Settings};
use crate::rig::{self, Rig};
use crate::{ANSWER, ASK};

const MEMORY_BYTES: usize = 32 << 10;

/// What a record of TLS has at most.
const RECORD_BYTES_MAX: usize = 5 + 18 * 1024;

const WITHOUT_REUSE: &str = "reuse: {idle_connections: 0}\n";

/// A worker with so little memory, before one backend with narrow connections.
fn scarce(more: &str) -> Rig {
    scarce_in(Settings::plain(), more)
}

fn scarce_in(settings: Settings, more: &str) -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        window_bytes: 2_000..=2_000,
        ..settings
    };
    let text = format!(
        "listen: \"10.9.9.9:80\"\nmode: http\nstats_interval: 0\nsplice: false\n\
         buffers: {{size: 8KiB, memory: {MEMORY_BYTES}B}}\nbackends: [\"{}\"]\n{more}",
        rig::origin(0)
    );
    Rig::with(settings, &text)
}

fn text(rig: &Rig, peer: PeerId) -> String {
    String::from_utf8_lossy(rig.world().peer_received(peer)).into_owned()
}

fn waiting(rig: &Rig) -> usize {
    let census = rig.worker.census();
    let records = match rig.world().has_layer() {
        // One that has begun is read to its end.
        true => RECORD_BYTES_MAX,
        false => 0,
    };
    let bytes_max = MEMORY_BYTES + records;
    assert!(census.bytes_waiting <= bytes_max, "{census:?}");
    census.bytes_waiting
}

fn count(rig: &Rig, peers: &[PeerId], start: &str) -> usize {
    let starts = |&&peer: &&PeerId| text(rig, peer).starts_with(start);
    peers.iter().filter(starts).count()
}

#[test]
fn heads_that_find_no_memory_wait_for_it_and_all_are_served() {
    let mut rig = scarce(WITHOUT_REUSE);
    let clients = half_heads(&mut rig);
    let refused = count(&rig, &clients, "HTTP/1.1 503 ");
    let other = rig.client();
    rig.world().peer_send(other, ASK);
    rig.settle();
    answer_all(&mut rig, ANSWER);
    assert!(
        text(&rig, other).ends_with("\r\n\r\nok"),
        "its head is whole"
    );
    for &client in &clients {
        rig.world().peer_send(client, b"\r\n");
        rig.settle();
        waiting(&rig);
    }
    answer_all(&mut rig, ANSWER);
    assert_eq!(
        count(&rig, &clients, "HTTP/1.1 200 "),
        clients.len() - refused
    );
    assert_eq!(waiting(&rig), 0);
}

/// Sixty heads whose last line is to come, for a third of which there is room.
fn half_heads(rig: &mut Rig) -> Vec<PeerId> {
    let clients: Vec<_> = (0..60).map(|_| rig.client()).collect();
    let long = format!(
        "GET /0 HTTP/1.1\r\nHost: a\r\nLong: {}\r\n",
        "x".repeat(1_500)
    );
    for &client in &clients {
        rig.world().peer_send(client, long.as_bytes());
        rig.settle();
        waiting(rig);
    }
    // What is in records cannot be looked at before it is taken.
    let has_layer = rig.world().has_layer();
    let refused = count(rig, &clients, "HTTP/1.1 503 ");
    assert!(has_layer || refused == 0, "{refused} are refused");
    assert!(refused < clients.len());
    clients
}

#[test]
fn heads_that_never_end_and_those_behind_them_are_refused_in_time() {
    let mut rig = scarce("");
    let clients = half_heads(&mut rig);
    rig.pass(60_000, 1_000);
    let late = count(&rig, &clients, "HTTP/1.1 408 ");
    let unkept = count(&rig, &clients, "HTTP/1.1 503 ");
    assert!(late > 5, "{late}, {unkept}");
    assert_eq!(late + unkept, clients.len());
    assert_eq!((rig.worker.census().sessions, waiting(&rig)), (0, 0));
}

#[test]
fn records_that_have_begun_are_ended_whatever_memory_there_is() {
    let settings = Settings {
        has_layer: true,
        ..Settings::plain()
    };
    let mut rig = scarce_in(settings, WITHOUT_REUSE);
    let clients: Vec<_> = (0..200).map(|_| rig.client()).collect();
    rig.settle();
    let ask = format!(
        "GET /0 HTTP/1.1\r\nHost: a\r\nLong: {}\r\n\r\n",
        "x".repeat(240)
    );
    let mut rests = Vec::new();
    for &client in &clients {
        rests.push(rig.world().peer_send_half(client, ask.as_bytes()));
        rig.settle();
        assert!(waiting(&rig) <= MEMORY_BYTES);
    }
    assert!(rig.worker.census().records_waiting > 5_000, "some are kept");
    assert!(rig.worker.census().short > 50, "some wait for memory");
    for (&client, rest) in clients.iter().zip(rests) {
        rig.world().peer_send_raw(client, &rest);
    }
    rig.settle();
    answer_all(&mut rig, ANSWER);
    assert_eq!(count(&rig, &clients, "HTTP/1.1 200 "), 200);
    assert_eq!(waiting(&rig), 0);
}

/// Backends answer whatever comes, until nothing does any more.
fn answer_all(rig: &mut Rig, answer: &[u8]) {
    loop {
        let backends = rig.accepted(0);
        if backends.is_empty() {
            return;
        }
        for backend in backends {
            rig.world().peer_send(backend, answer);
        }
        rig.settle();
        waiting(rig);
    }
}

#[test]
fn requests_behind_which_others_are_sent_wait_for_memory() {
    let mut rig = scarce(WITHOUT_REUSE);
    let clients: Vec<_> = (0..40).map(|_| rig.client()).collect();
    let ahead = format!("GET /1 HTTP/1.1\r\nLong: {}", "x".repeat(1_500));
    for &client in &clients {
        rig.world().peer_send(client, ASK);
        rig.world().peer_send(client, ahead.as_bytes());
        rig.settle();
        waiting(&rig);
    }
    answer_all(&mut rig, ANSWER);
    let served = count(&rig, &clients, "HTTP/1.1 200 ");
    let refused = count(&rig, &clients, "HTTP/1.1 503 ");
    assert!(served > 5, "{served}, {refused}");
    // Heads that never end make way for those that have waited.
    for _ in 0..4 {
        rig.pass(15_000, 1_000);
        answer_all(&mut rig, ANSWER);
    }
    rig.pass(60_000, 1_000);
    let served = count(&rig, &clients, "HTTP/1.1 200 ");
    assert!(served + count(&rig, &clients, "HTTP/1.1 503 ") >= clients.len());
    assert_eq!((rig.worker.census().sessions, waiting(&rig)), (0, 0));
}

#[test]
fn requests_that_find_no_memory_in_time_are_503() {
    let mut rig = scarce("timeouts: {connect: 1h}\n");
    rig.world().settings_mut().streams_max = 161;
    let clients: Vec<_> = (0..160).map(|_| rig.client()).collect();
    let ask = format!(
        "GET /0 HTTP/1.1\r\nHost: a\r\nLong: {}\r\n\r\n",
        "x".repeat(900)
    );
    rig.settle();
    for &client in &clients {
        rig.world().peer_send(client, ask.as_bytes());
        rig.settle();
        waiting(&rig);
    }
    assert!(rig.worker.census().sessions > 10, "some wait");
    rig.pass(60_000, 1_000);
    let refused = count(&rig, &clients, "HTTP/1.1 503 ");
    assert!(refused > 60 && refused < 155, "{refused} are refused");
    for &client in &clients {
        rig.world().peer_reset(client);
    }
    rig.settle();
    assert_eq!((rig.worker.census().sessions, waiting(&rig)), (0, 0));
}

#[test]
fn response_heads_that_find_no_memory_are_503() {
    let mut rig = scarce("");
    let clients: Vec<_> = (0..60).map(|_| rig.client()).collect();
    for &client in &clients {
        rig.world().peer_send(client, ASK);
    }
    rig.settle();
    let backends = rig.accepted(0);
    for &backend in &backends {
        let part = format!("HTTP/1.1 200 OK\r\nLong: {}\r\n", "x".repeat(1_500));
        rig.world().peer_send(backend, part.as_bytes());
        rig.settle();
        waiting(&rig);
    }
    let refused = count(&rig, &clients, "HTTP/1.1 503 ");
    assert!(refused > 0 && refused < 60, "{refused} are refused");
    for &backend in &backends {
        rig.world()
            .peer_send(backend, b"Content-Length: 2\r\n\r\nok");
        rig.settle();
    }
    assert_eq!(count(&rig, &clients, "HTTP/1.1 200 "), 60 - refused);
    assert_eq!(waiting(&rig), 0);
}

/// Downloads that stall take all that there is for them; others wait or are refused, and in the end
/// all that were not have everything.
#[test]
fn a_crowd_that_stalls_makes_the_others_wait_and_cuts_nobody() {
    let mut rig = scarce("timeouts: {send: 1h, response_idle: 1h}\nreuse: {idle_connections: 0}\n");
    let body = "x".repeat(30_000);
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n{body}");
    let clients: Vec<_> = (0..80).map(|_| rig.client()).collect();
    for &client in &clients {
        rig.world().peer_read_enabled(client, false);
        rig.world().peer_send(client, ASK);
        rig.settle();
        for backend in rig.accepted(0) {
            rig.world().peer_send(backend, answer.as_bytes());
        }
        rig.settle();
        waiting(&rig);
    }
    assert!(waiting(&rig) > MEMORY_BYTES / 2, "little is left");
    assert!(rig.worker.census().short > 0, "some wait for memory");
    for &client in &clients {
        rig.world().peer_read_enabled(client, true);
    }
    rig.settle();
    // Those that waited for memory go on, and find backends.
    answer_all(&mut rig, answer.as_bytes());
    let refused = count(&rig, &clients, "HTTP/1.1 503 ");
    let has_everything = |&&client: &&PeerId| text(&rig, client).ends_with(&body);
    let served = clients.iter().filter(has_everything).count();
    assert!(
        refused < 40 && served == 80 - refused,
        "{refused}, {served}"
    );
    assert_eq!(waiting(&rig), 0);
}

#[test]
fn uploads_that_stall_make_the_others_wait_and_cut_nobody() {
    for framing in ["Content-Length: 20000", "Transfer-Encoding: chunked"] {
        let mut rig = scarce(&format!(
            "timeouts: {{upload: 1h, response: 1h}}\n{WITHOUT_REUSE}"
        ));
        let body = match framing {
            "Transfer-Encoding: chunked" => format!("4e20\r\n{}\r\n0\r\n\r\n", "x".repeat(20_000)),
            _ => "x".repeat(20_000),
        };
        let ask = format!("POST /0 HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        let clients: Vec<_> = (0..100).map(|_| rig.client()).collect();
        let mut backends = Vec::new();
        rig.settle();
        for &client in &clients {
            rig.world().peer_send(client, ask.as_bytes());
            rig.turn();
            for backend in rig.accepted(0) {
                rig.world().peer_read_enabled(backend, false);
                backends.push(backend);
            }
            rig.settle();
            waiting(&rig);
        }
        assert!(rig.worker.census().short > 10, "some wait");
        while !backends.is_empty() {
            for &backend in &backends {
                rig.world().peer_read_enabled(backend, true);
            }
            rig.settle();
            for backend in backends.drain(..) {
                assert_eq!(text(&rig, backend).matches('x').count(), 20_000);
                rig.world().peer_send(backend, ANSWER);
            }
            rig.settle();
            waiting(&rig);
            backends = rig.accepted(0);
        }
        assert_eq!(count(&rig, &clients, "HTTP/1.1 200 "), 100);
        assert_eq!(waiting(&rig), 0);
    }
}
