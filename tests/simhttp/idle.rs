//! Connections that wait for a request and that their backend ends: when a request is just on its
//! way, and so regularly that it can be learned.

use weir::board::BackendCell;
use weir::core::rng::Rng;
use weir::core::time::Tick;

use crate::net::{Behaviour, PeerId, Settings};
use crate::rig::{self, Rig};
use crate::{ANSWER, ask_and_answer, still};

fn text(rig: &Rig, peer: PeerId) -> String {
    String::from_utf8_lossy(rig.world().peer_received(peer)).into_owned()
}

/// A request, in the parts in which it comes.
type Parts = &'static [&'static [u8]];

const GET: Parts = &[b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"];
const POST: Parts = &[b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"];
const PUT_IN_PARTS: Parts = &[
    b"PUT /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n",
    b"bo",
    b"dy",
];
const POST_IN_PARTS: Parts = &[
    b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n",
    b"body",
];

/// A client whose first request was answered over a connection that is parked since, and that
/// connection.
fn parked() -> (Rig, PeerId, PeerId) {
    let mut rig = still();
    let client = rig.client();
    let link = ask_and_answer(&mut rig, client);
    rig.pass(500, 500);
    (rig, client, link)
}

#[test]
fn an_end_that_has_arrived_is_never_missed() {
    // Before its client is read, before the connection is looked at, before it is written to. A
    // request that can be sent again anyhow does without the look.
    for (parts, calls_until_sent) in [(GET, 2), (POST, 3), (PUT_IN_PARTS, 3), (POST_IN_PARTS, 3)] {
        for calls in 0..calls_until_sent {
            let (mut rig, client, link) = parked();
            // What it acknowledges tells the last of them, but not which bytes of records.
            if calls == 2 && rig.world().has_layer() {
                continue;
            }
            rig.world().after_calls(calls, move |world| {
                world.peer_close(link);
                world.settle();
            });
            for part in parts {
                rig.world().peer_send(client, part);
                rig.settle();
            }
            let at = String::from_utf8_lossy(parts[0]).into_owned();
            let [fresh] = rig.accepted(0)[..] else {
                panic!("{at} ended after {calls} calls: no other connection was made");
            };
            let asked = text(&rig, fresh);
            assert_eq!(asked.matches("/1 HTTP/1.1").count(), 1, "{at}");
            assert!(parts.len() == 1 || asked.ends_with("body"), "{asked}");
            rig.world().peer_send(fresh, ANSWER);
            rig.settle();
            let answers = text(&rig, client);
            assert_eq!(answers.matches("200 OK").count(), 2, "{at}: {answers}");
        }
    }
}

#[test]
fn what_a_backend_may_have_acted_on_is_sent_once() {
    let ends: [fn(&Rig, PeerId); 2] = [
        |rig, link| rig.world().peer_close(link),
        |rig, link| rig.world().peer_reset(link),
    ];
    for end in ends {
        let (mut rig, client, link) = parked();
        rig.world().peer_send(client, POST[0]);
        rig.settle();
        assert!(text(&rig, link).ends_with("body"));
        end(&rig, link);
        rig.settle();
        let answers = text(&rig, client);
        assert!(answers.contains("HTTP/1.1 502 "), "{answers}");
        assert_eq!(rig.accepted(0), []);
    }
}

#[test]
fn a_request_that_never_reached_a_new_connection_goes_to_another_backend() {
    let mut rig = Rig::still(&rig::config_text(&[1, 1], "mode: http"));
    let client = rig.client();
    let first = rig::origin_address(0);
    rig.world()
        .origin_listen(&first, Behaviour::AcceptThenClose);
    rig.world().peer_send(client, POST[0]);
    rig.settle();
    assert!(rig.world().written_in_vain() > 0);
    let [second] = rig.accepted(1)[..] else {
        panic!("the second backend is asked");
    };
    rig.world().peer_send(second, ANSWER);
    rig.settle();
    assert!(text(&rig, client).ends_with("\r\n\r\nok"));
}

/// Ends connections on which no request has come for so long.
const LIMIT_MS: u64 = 2_000;
/// Pairs of a client and a backend, each with an upstream of its own.
const PAIRS: usize = 100;
const POSTS: usize = 10_000;
const STEP_MS: u64 = 5;

/// A backend's end of a connection.
struct Link {
    peer: PeerId,
    /// Bytes of requests that were answered.
    answered: usize,
    idle_since: Tick,
}

/// A client, and the backend that only it asks.
struct Pair {
    client: PeerId,
    links: Vec<Link>,
    /// When it asks again; none while it waits.
    next_at: Option<Tick>,
    asked: usize,
    received: usize,
    failed: usize,
    failed_when_known: usize,
    /// Whether the limit of its backend had been learned when it asked last.
    is_known: bool,
    connections: usize,
}

/// Clients that POST at random times around the idle limit of their backends.
struct Scene {
    rig: Rig,
    rng: Rng,
    pairs: Vec<Pair>,
    answer: &'static [u8],
    /// Bytes that had been written in vain when the last limit was learned.
    in_vain: Option<usize>,
}

impl Scene {
    fn new(answer: &'static [u8]) -> Self {
        let settings = Settings {
            sleep_ms_max: Some(0),
            delay_ms: 0..=10,
            ..Settings::plain()
        };
        let routes: String = (0..PAIRS)
            .map(|k| format!("      - {{prefix: /{k}/, upstream: p{k}}}\n"))
            .collect();
        let upstreams: String = (0..PAIRS)
            .map(|k| format!("  p{k}: {{backends: [\"{}\"]}}\n", rig::origin(k)))
            .collect();
        let config = format!(
            "stats_interval: 0\nlisteners:\n  - name: in\n    listen: \"10.9.9.9:80\"\n    \
             routes:\n{routes}upstreams:\n{upstreams}"
        );
        let rig = Rig::with(settings, &config);
        let pairs = (0..PAIRS).map(|_| Pair {
            client: rig.client(),
            links: Vec::new(),
            next_at: Some(Tick(0)),
            asked: 0,
            received: 0,
            failed: 0,
            failed_when_known: 0,
            is_known: false,
            connections: 0,
        });
        let pairs = pairs.collect();
        Self {
            rig,
            rng: Rng::new(1),
            pairs,
            answer,
            in_vain: None,
        }
    }

    fn play(&mut self) {
        while self.pairs.iter().map(|pair| pair.asked).sum::<usize>() < POSTS {
            self.rig.world().advance(STEP_MS);
            self.rig.settle();
            for k in 0..PAIRS {
                self.drive_backend(k);
                self.drive_client(k);
            }
            if self.in_vain.is_none() && self.pairs.iter().all(|pair| pair.is_known) {
                self.in_vain = Some(self.rig.world().written_in_vain());
            }
        }
    }

    fn drive_backend(&mut self, k: usize) {
        let now = self.rig.world().now();
        let pair = &mut self.pairs[k];
        for peer in self.rig.accepted(k) {
            pair.connections += 1;
            pair.links.push(Link {
                peer,
                answered: 0,
                idle_since: now,
            });
        }
        let (rig, answer) = (&self.rig, self.answer);
        pair.links.retain_mut(|link| {
            let mut world = rig.world();
            let received = world.peer_received(link.peer);
            if received.len() > link.answered && received.ends_with(b"body") {
                link.answered = received.len();
                link.idle_since = now;
                world.peer_send(link.peer, answer);
            } else if now.since_ms(link.idle_since) >= LIMIT_MS {
                world.peer_close(link.peer);
                return false;
            }
            true
        });
    }

    fn drive_client(&mut self, k: usize) {
        let now = self.rig.world().now();
        if self.pairs[k].next_at.is_some_and(|at| at <= now) {
            self.pairs[k].is_known = self.limit_ms(k).is_some();
        }
        let mut world = self.rig.net.world();
        let pair = &mut self.pairs[k];
        if let Some(at) = pair.next_at {
            if at <= now {
                let head =
                    format!("POST /{k}/ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
                world.peer_send(pair.client, head.as_bytes());
                pair.asked += 1;
                pair.next_at = None;
            }
            return;
        }
        let answer = &world.peer_received(pair.client)[pair.received..];
        if answer.is_empty() {
            return;
        }
        pair.received += answer.len();
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            pair.failed += 1;
            pair.failed_when_known += usize::from(pair.is_known);
        }
        let pause_ms = LIMIT_MS / 2 + self.rng.below(LIMIT_MS);
        pair.next_at = Some(now.after_ms(pause_ms));
    }

    /// What the worker takes for the limit of the k-th backend.
    fn limit_ms(&self, k: usize) -> Option<u64> {
        let label = format!("p{k}/{}", rig::origin(k));
        let shown = self
            .rig
            .worker
            .backend_count(&label, BackendCell::IdleLimit);
        shown.filter(|&ms| ms > 0)
    }

    fn sum(&self, of: impl Fn(&Pair) -> usize) -> usize {
        self.pairs.iter().map(of).sum()
    }
}

#[test]
fn posts_around_an_idle_limit_fail_only_until_it_is_learned() {
    let mut scene = Scene::new(ANSWER);
    scene.play();
    for k in 0..PAIRS {
        let limit_ms = scene.limit_ms(k).expect("it is learned");
        assert!(limit_ms.abs_diff(LIMIT_MS) < 100, "{limit_ms} ms");
    }
    assert_eq!(scene.sum(|pair| pair.failed_when_known), 0);
    let in_vain = scene.in_vain.expect("all were learned at some time");
    assert_eq!(scene.rig.world().written_in_vain(), in_vain);
    let met_limit = scene.sum(|pair| pair.failed) > 0 || in_vain > 0;
    assert!(met_limit, "until then they meet it");
    assert!(
        scene.sum(|pair| pair.connections) < POSTS,
        "some are used again"
    );
}

#[test]
fn posts_around_an_idle_limit_that_is_announced_never_fail() {
    let answer = b"HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 2\r\n\r\nok";
    let mut scene = Scene::new(answer);
    scene.play();
    assert_eq!(scene.sum(|pair| pair.failed), 0);
    assert_eq!(
        scene.rig.world().written_in_vain(),
        0,
        "it was a near thing"
    );
    assert!(
        scene.sum(|pair| pair.connections) < POSTS,
        "some are used again"
    );
}

/// A backend without a limit, whose parked connection is to be ended so long after its answer.
fn end_after(rig: &mut Rig, client: PeerId, idle_ms: u64) {
    let link = ask_and_answer(rig, client);
    rig.pass(idle_ms, 100);
    rig.world().peer_close(link);
    rig.settle();
}

fn shown_ms(rig: &Rig) -> u64 {
    let shown = rig.worker.backend_count("pool/b0", BackendCell::IdleLimit);
    shown.expect("the backend is known")
}

#[test]
fn a_connection_is_used_again_only_below_the_limit_that_was_learned() {
    let mut rig = still();
    let client = rig.client();
    for _ in 0..3 {
        assert_eq!(shown_ms(&rig), 0);
        end_after(&mut rig, client, 5_000);
    }
    assert_eq!(shown_ms(&rig), 5_000);
    ask_and_answer(&mut rig, client);
    rig.pass(3_900, 100);
    rig.world().peer_send(client, crate::ASK);
    rig.settle();
    assert_eq!(rig.accepted(0), [], "it is young enough");
}

#[test]
fn one_connection_that_is_not_used_shows_when_the_limit_becomes_longer() {
    let mut rig = still();
    let client = rig.client();
    for _ in 0..3 {
        end_after(&mut rig, client, 5_000);
    }
    for _ in 0..3 {
        assert_eq!(shown_ms(&rig), 5_000);
        let witness = ask_and_answer(&mut rig, client);
        rig.pass(9_900, 100);
        assert!(!rig.world().peer_saw_end(witness));
        rig.pass(100, 100);
        assert!(rig.world().peer_saw_end(witness), "it has done its duty");
    }
    assert_eq!(shown_ms(&rig), 7_500);
    for _ in 0..20 {
        let client = rig.client();
        ask_and_answer(&mut rig, client);
        rig.pass(60_000, 1_000);
    }
    assert_eq!(shown_ms(&rig), 0, "nothing is ended any more");
}

#[test]
fn what_has_reached_the_limit_is_not_used_even_while_it_is_a_witness() {
    let mut rig = still();
    let client = rig.client();
    for _ in 0..3 {
        end_after(&mut rig, client, 5_000);
    }
    let witness = ask_and_answer(&mut rig, client);
    rig.pass(4_000, 100);
    let other = ask_and_answer(&mut rig, client);
    assert_ne!(witness, other);
    assert!(!rig.world().peer_saw_end(witness));
}

#[test]
fn connections_that_have_reached_the_limit_are_closed_but_one() {
    let mut rig = still();
    let [one, other] = [rig.client(), rig.client()];
    for _ in 0..3 {
        end_after(&mut rig, one, 5_000);
    }
    for client in [one, other] {
        rig.world().peer_send(client, crate::ASK);
    }
    rig.settle();
    let links = rig.accepted(0);
    for &link in &links {
        rig.world().peer_send(link, ANSWER);
    }
    rig.settle();
    rig.pass(3_900, 100);
    let ended = |rig: &Rig| {
        let has_ended = |link: &&PeerId| rig.world().peer_saw_end(**link);
        links.iter().filter(has_ended).count()
    };
    assert_eq!((links.len(), ended(&rig)), (2, 0));
    rig.pass(200, 100);
    assert_eq!(ended(&rig), 1);
}

#[test]
fn a_restart_of_the_backend_teaches_nothing() {
    let mut rig = still();
    let clients: Vec<PeerId> = (0..10).map(|_| rig.client()).collect();
    for _ in 0..4 {
        for &client in &clients {
            rig.world().peer_send(client, crate::ASK);
        }
        rig.settle();
        let links = rig.accepted(0);
        for &link in &links {
            rig.world().peer_send(link, ANSWER);
            rig.pass(70, 10);
        }
        rig.pass(10_000, 100);
        for &link in &links {
            rig.world().peer_reset(link);
        }
        rig.settle();
    }
    assert_eq!(shown_ms(&rig), 0);
}

#[test]
fn a_backend_that_moves_has_another_limit() {
    let mut rig = still();
    let client = rig.client();
    for _ in 0..3 {
        end_after(&mut rig, client, 5_000);
    }
    let text = crate::play::config_text(&mut Rng::new(1), true);
    rig.reload(&text.replace(&rig::origin(0), &rig::origin(1)));
    assert_eq!(shown_ms(&rig), 0);
}

#[test]
fn half_a_record_is_half_a_request() {
    let settings = Settings {
        sleep_ms_max: Some(0),
        has_layer: true,
        is_tls: false,
        ..Settings::plain()
    };
    let text = format!(
        "listen: \"10.9.9.9:80\"\nmode: http\nstats_interval: 0\nbackends: [\"{}\"]\n\
         timeouts: {{keep_alive: 10s, header: 10s}}\n",
        rig::origin(0)
    );
    let mut rig = Rig::with(settings, &text);
    let client = rig.client();
    let link = ask_and_answer(&mut rig, client);
    rig.pass(9_000, 1_000);
    let ask = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
    let rest = rig.world().peer_send_half(client, ask);
    rig.settle();
    rig.pass(5_000, 1_000);
    assert!(!rig.world().peer_saw_end(client), "it is not idle");
    rig.world().peer_send_raw(client, &rest);
    rig.settle();
    rig.world().peer_send(link, ANSWER);
    rig.settle();
    let answers = String::from_utf8_lossy(rig.world().peer_received(client)).into_owned();
    assert_eq!(answers.matches("200 OK").count(), 2, "{answers}");
    // And half of an answer that nobody has asked for ends a connection that is kept.
    rig.world().peer_send_half(link, ANSWER);
    rig.settle();
    rig.world().peer_send(client, ask);
    rig.settle();
    assert_eq!(rig.accepted(0).len(), 1, "another connection is made");
}
