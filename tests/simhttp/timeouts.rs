//! Which time runs while nothing moves, how long, and what comes of it.

use weir::board::ListenerCell;

use crate::ANSWER;
use crate::net::{Behaviour, PeerId, Settings};
use crate::rig::{self, Rig};

const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
/// What buffers on the way hold is far less.
const LONG_BYTES: usize = 1_000_000;

/// A client and its backend's end of the connection, once the request is there.
struct Scene {
    rig: Rig,
    client: PeerId,
    backend: PeerId,
}

impl Scene {
    /// With these timeouts of the route, of the upstream, and at the top level.
    fn with(request: &str, [route, upstream, top]: [&str; 3]) -> Self {
        let config = format!(
            "stats_interval: 0\naccess_log: {{format: json}}\ntimeouts: {{{top}}}\n\
             listeners:\n  - listen: \"10.9.9.9:80\"\n    name: \"in\"\n    \
             routes: [{{prefix: /, upstream: pool, timeouts: {{{route}}}}}]\nupstreams:\n  \
             pool:\n    backends: [\"{}\"]\n    timeouts: {{{upstream}}}\n",
            rig::origin(0)
        );
        let settings = Settings {
            sleep_ms_max: Some(0),
            ..Settings::plain()
        };
        let mut rig = Rig::with(settings, &config);
        let client = rig.client();
        rig.world().peer_send(client, request.as_bytes());
        rig.settle();
        let [backend] = rig.accepted(0)[..] else {
            panic!("one connection for one request");
        };
        Self {
            rig,
            client,
            backend,
        }
    }

    fn new(request: &str) -> Self {
        Self::with(request, ["", "", ""])
    }

    fn answer(&mut self, bytes: &str) {
        self.rig.world().peer_send(self.backend, bytes.as_bytes());
        self.rig.settle();
    }

    fn received(&self) -> String {
        let world = self.rig.world();
        String::from_utf8_lossy(world.peer_received(self.client)).into_owned()
    }

    fn pass_s(&mut self, seconds: u64) {
        self.rig.pass(seconds * 1_000, 500);
    }

    /// Nothing happens before this, and then the log says that.
    fn ends_after_s(&mut self, seconds: u64, why: &str) {
        let before = self.rig.listener_count(ListenerCell::TimedOut);
        self.rig.pass(seconds * 1_000 - 1, 500);
        let lines = |scene: &mut Self| {
            let lines = scene
                .rig
                .worker
                .access_lines()
                .expect("accesses are logged");
            String::from_utf8_lossy(lines).into_owned()
        };
        assert_eq!(lines(self), "", "not yet after {seconds} s");
        self.rig.pass(1, 1);
        let line = lines(self);
        assert!(line.contains(&format!("\"why\":\"{why}\"")), "{line}");
        // Where a backend is slow the client is answered, and may go on.
        let ends = !["connect timeout", "response timeout"].contains(&why);
        let timed_out = self.rig.listener_count(ListenerCell::TimedOut);
        assert_eq!(timed_out - before, u64::from(ends), "{why}");
        assert_eq!(self.rig.listener_count(ListenerCell::Reset), 0, "{why}");
    }
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const PART_OF_POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\npart";
const PART_OF_ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart";

#[test]
fn a_client_that_sends_no_more_of_its_body_has_30_s() {
    let mut scene = Scene::new(PART_OF_POST);
    scene.pass_s(20);
    scene.rig.world().peer_send(scene.client, b"s");
    scene.rig.settle();
    scene.ends_after_s(30, "upload timeout");
    let received = scene.received();
    assert!(received.starts_with("HTTP/1.1 408 "), "{received}");
}

#[test]
fn a_backend_that_does_not_answer_has_60_s() {
    let mut scene = Scene::new(GET);
    scene.ends_after_s(60, "response timeout");
    let received = scene.received();
    assert!(received.starts_with("HTTP/1.1 504 "), "{received}");
}

#[test]
fn a_backend_that_takes_no_more_of_a_request_is_to_blame_and_has_60_s() {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LONG_BYTES}\r\n\r\n");
    let mut scene = Scene::new(&head);
    let backend = scene.backend;
    scene.rig.world().peer_read_enabled(backend, false);
    let body = vec![b'b'; LONG_BYTES];
    scene.rig.world().peer_send(scene.client, &body);
    scene.rig.settle();
    scene.ends_after_s(60, "response timeout");
    let received = scene.received();
    assert!(received.starts_with("HTTP/1.1 504 "), "{received}");
}

#[test]
fn a_backend_that_sends_no_more_of_its_response_has_60_s() {
    let mut scene = Scene::new(GET);
    scene.answer(PART_OF_ANSWER);
    scene.pass_s(40);
    scene.answer("s");
    scene.ends_after_s(60, "response idle");
    assert!(scene.received().ends_with("\r\n\r\nparts"));
}

#[test]
fn an_event_stream_may_be_silent_as_a_tunnel() {
    for head in [
        STREAM,
        "HTTP/1.1 200 OK\r\ncontent-type:\tText/Event-Stream ; charset=utf-8\r\n\r\ndata: 1\n\n",
    ] {
        let mut scene = Scene::new(GET);
        scene.answer(head);
        for event in 2..5 {
            scene.pass_s(3_599);
            scene.answer(&format!("data: {event}\n\n"));
            assert!(scene.received().contains(&format!("data: {event}")));
        }
        scene.ends_after_s(3_600, "tunnel timeout");
    }
    let mut scene = Scene::new(GET);
    scene.answer("HTTP/1.1 200 OK\r\nContent-Type: text/event-streams\r\n\r\n");
    scene.ends_after_s(60, "response idle");
}

#[test]
fn who_does_not_read_for_a_while_gets_the_rest_and_who_never_does_is_cut() {
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {LONG_BYTES}\r\n\r\n{}",
        "x".repeat(LONG_BYTES)
    );
    let mut scene = Scene::new(GET);
    let client = scene.client;
    scene.rig.world().peer_read_enabled(client, false);
    scene.answer(&long);
    scene.pass_s(59);
    scene.rig.world().peer_read_enabled(client, true);
    scene.rig.settle();
    assert_eq!(scene.received().matches('x').count(), LONG_BYTES);

    let mut scene = Scene::new(GET);
    let client = scene.client;
    scene.rig.world().peer_read_enabled(client, false);
    scene.answer(&long);
    scene.ends_after_s(60, "send timeout");
}

#[test]
fn the_rest_of_an_answer_that_weir_holds_has_its_time_as_well() {
    let answer = |bytes: usize| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
        head + &"x".repeat(bytes)
    };
    for (timeouts, send_s) in [
        (["", "", ""], 60),
        (["send: 7s", "send: 90s", "send: 80s"], 7),
        (["", "send: 90s", "send: 8s"], 90),
    ] {
        let mut scene = Scene::with(GET, timeouts);
        let client = scene.client;
        scene.rig.world().peer_read_enabled(client, false);
        // What the client's window takes, and then more than is left of it.
        scene.answer(&answer(60_000));
        scene.rig.world().peer_send(client, GET.as_bytes());
        scene.rig.settle();
        scene.answer(&answer(10_000));
        let open = |scene: &Scene| scene.rig.worker.census().sessions;
        scene.rig.pass(send_s * 1_000 - 1, 500);
        assert_eq!(open(&scene), 1, "{timeouts:?}");
        scene.rig.pass(1, 1);
        assert_eq!(open(&scene), 0, "{timeouts:?}");
    }
}

#[test]
fn while_each_may_wait_for_the_other_the_backend_has_its_time() {
    let mut scene = Scene::new(PART_OF_POST);
    scene.answer(PART_OF_ANSWER);
    scene.ends_after_s(60, "response idle");
    // Events in answer to what comes bit by bit.
    let mut scene = Scene::new(PART_OF_POST);
    scene.answer(STREAM);
    scene.pass_s(3_000);
    scene.rig.world().peer_send(scene.client, b"s");
    scene.rig.settle();
    scene.ends_after_s(3_600, "tunnel timeout");
}

#[test]
fn the_route_wins_over_the_upstream_and_that_over_the_top() {
    type Begin = fn(&mut Scene);
    let table: [(&str, &str, Begin, &str); 5] = [
        ("upload", PART_OF_POST, |_| {}, "upload timeout"),
        ("response", GET, |_| {}, "response timeout"),
        (
            "response_idle",
            GET,
            |s| s.answer(PART_OF_ANSWER),
            "response idle",
        ),
        ("tunnel", GET, |s| s.answer(STREAM), "tunnel timeout"),
        (
            "send",
            GET,
            |scene| {
                let client = scene.client;
                scene.rig.world().peer_read_enabled(client, false);
                let body = "x".repeat(LONG_BYTES);
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG_BYTES}\r\n\r\n");
                scene.answer(&(head + &body));
            },
            "send timeout",
        ),
    ];
    for (key, request, begin, why) in table {
        let [route, upstream, top] = ["2s", "3s", "4s"].map(|span| format!("{key}: {span}"));
        for (timeouts, seconds) in [
            ([route.as_str(), &upstream, &top], 2),
            (["", &upstream, &top], 3),
            (["", "", &top], 4),
        ] {
            let mut scene = Scene::with(request, timeouts);
            begin(&mut scene);
            scene.ends_after_s(seconds, why);
        }
    }
}

#[test]
fn a_route_says_how_long_a_connect_and_a_tunnel_may_take() {
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let mut scene = Scene::with(
        ask,
        ["tunnel: 2s, connect: 3s", "tunnel: 20s, connect: 30s", ""],
    );
    scene.answer("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    scene.rig.worker.access_lines().expect("a log").clear();
    scene.ends_after_s(2, "tunnel timeout");
    let address = rig::origin_address(0);
    scene
        .rig
        .world()
        .origin_listen(&address, Behaviour::Blackhole);
    scene.client = scene.rig.client();
    scene.rig.world().peer_send(scene.client, GET.as_bytes());
    scene.rig.worker.access_lines().expect("a log").clear();
    scene.rig.settle();
    scene.ends_after_s(3, "connect timeout");
}

#[test]
fn an_end_in_a_tunnel_has_the_time_of_half_closed_sessions() {
    let ask = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let mut scene = Scene::new(ask);
    scene.answer("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    scene.rig.worker.access_lines().expect("a log").clear();
    scene.rig.world().peer_close_write(scene.client);
    scene.rig.settle();
    scene.ends_after_s(30, "half-closed timeout");
}

#[test]
fn each_timeout_of_a_session_that_is_relayed_as_it_is_has_its_words() {
    let log = "access_log: {format: json}";
    let scene = || {
        let mut rig = Rig::still(&rig::config_text(&[1], log));
        let (client, backend) = rig.session();
        Scene {
            rig,
            client,
            backend,
        }
    };
    let mut idle = scene();
    idle.ends_after_s(600, "idle timeout");
    let mut half_closed = scene();
    let client = half_closed.client;
    half_closed.rig.world().peer_close_write(client);
    half_closed.rig.settle();
    half_closed.ends_after_s(30, "half-closed timeout");

    let mut rig = Rig::still(&rig::config_text(&[1], log));
    let address = rig::origin_address(0);
    rig.world().origin_listen(&address, Behaviour::Blackhole);
    let client = rig.client();
    rig.settle();
    let mut scene = Scene {
        rig,
        client,
        backend: client,
    };
    scene.ends_after_s(5, "connect timeout");
}

#[test]
fn what_is_relayed_as_it_is_has_none_of_these() {
    let more = "timeouts: {idle: 10m}";
    let mut rig = Rig::still(&rig::config_text(&[1], more));
    let (client, backend) = rig.session();
    rig.world().peer_send(backend, ANSWER);
    rig.settle();
    rig.pass(599_999, 1_000);
    assert!(!rig.world().peer_saw_end(client));
}
