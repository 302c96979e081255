//! Clients that a cookie binds to a backend, when that is full: they wait a moment for it.

use weir::core::wait_queue::WAITING_MAX;

use crate::net::PeerId;
use crate::rig::{self, Rig};
use crate::{ANSWER, ASK, ask_and_answer};

/// How long a request waits in these tests, in milliseconds.
const WAIT_MS: u64 = 700;

/// A listener before two backends, the first of which is picked first and takes one request at a
/// time.
fn config(wait: &str, more: &str) -> String {
    with_first(&format!("address: \"{}\"", rig::origin(0)), wait, more)
}

fn with_first(first: &str, wait: &str, more: &str) -> String {
    format!(
        "stats_interval: 0\naccess_log: {{path: ./log, format: json}}\nlisteners:\n  - name: in\n    \
         listen: \"10.9.9.9:80\"\n    routes: [{{prefix: /, upstream: pool}}]\nupstreams:\n  \
         pool:\n    backends: [{{id: first, {first}, max_connections: 1}}, \"{}\"]\n    \
         sticky: {{cookie: weir, wait: {wait}}}\n{more}",
        rig::origin(1)
    )
}

/// A still world in which a client has been bound to the first backend.
struct Bound {
    rig: Rig,
    cookie: String,
    /// The connection to the first backend, parked until somebody asks.
    first: PeerId,
    /// The client whose request is there.
    busy: PeerId,
}

impl Bound {
    fn new(text: &str) -> Self {
        let mut rig = Rig::still(text);
        let client = rig.client();
        let first = ask_and_answer(&mut rig, client);
        let cookie = cookie_in(&text_of(&rig, client)).expect("a cookie is set");
        rig.worker
            .access_lines()
            .expect("accesses are logged")
            .clear();
        Self {
            rig,
            cookie,
            first,
            busy: client,
        }
    }

    /// The same, with a request at the first backend, which is full by that.
    fn full(text: &str) -> Self {
        let mut bound = Self::new(text);
        bound.busy = bound.ask();
        assert_eq!(bound.asked(), 2);
        bound
    }

    /// A client that asks with the cookie.
    fn ask(&mut self) -> PeerId {
        let client = self.rig.client();
        let ask = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nCookie: {}\r\n\r\n",
            self.cookie
        );
        self.rig.world().peer_send(client, ask.as_bytes());
        self.rig.settle();
        client
    }

    /// Requests at the first backend so far.
    fn asked(&self) -> usize {
        text_of(&self.rig, self.first).matches("GET /").count()
    }

    /// The first backend answers.
    fn answer(&mut self) {
        self.rig.world().peer_send(self.first, ANSWER);
        self.rig.settle();
    }

    /// The second backend, which must have been asked for this client, answers it: what the
    /// client received.
    fn answer_by_second(&mut self, client: PeerId) -> String {
        let [second] = self.rig.accepted(1)[..] else {
            panic!("the second backend was asked once");
        };
        self.rig.world().peer_send(second, ANSWER);
        self.rig.settle();
        text_of(&self.rig, client)
    }

    /// The last line of the access log.
    fn log_line(&mut self) -> String {
        let lines = self.rig.worker.access_lines().expect("accesses are logged");
        let text = String::from_utf8_lossy(lines).into_owned();
        text.lines().last().expect("a line").to_owned()
    }
}

fn text_of(rig: &Rig, peer: PeerId) -> String {
    String::from_utf8_lossy(rig.world().peer_received(peer)).into_owned()
}

fn cookie_in(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once("Set-Cookie: ")?;
    Some(rest.split(';').next().unwrap_or(rest).to_owned())
}

#[test]
fn who_waits_is_served_by_its_own_backend_in_the_order_of_coming() {
    let mut bound = Bound::full(&config("700ms", ""));
    let waiting = [bound.ask(), bound.ask()];
    assert_eq!(bound.asked(), 2);
    bound.rig.pass(WAIT_MS / 2, 50);
    for (served, client) in waiting.into_iter().enumerate() {
        bound.answer();
        assert_eq!(bound.asked(), 3 + served);
        assert_eq!(text_of(&bound.rig, client), "");
    }
    bound.answer();
    for client in waiting {
        let answer = text_of(&bound.rig, client);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(cookie_in(&answer), None);
    }
    assert_eq!(bound.rig.accepted(1), []);
    let line = bound.log_line();
    let waited = format!("\"queue_ms\":{}.000,", WAIT_MS / 2);
    assert!(
        line.contains(&waited) && line.contains("\"sticky\":\"hit\""),
        "{line}"
    );
}

#[test]
fn nobody_takes_the_place_for_which_another_waits() {
    let first = format!("address: \"{}\", weight: 100", rig::origin(0));
    let mut bound = Bound::full(&with_first(&first, "700ms", ""));
    let busy = bound.busy;
    bound.ask();
    // It is read, and its backend picked, as soon as the answer to the first one has passed.
    bound.rig.world().peer_send(busy, ASK);
    bound.answer();
    assert_eq!(bound.asked(), 3);
    let answers = bound.answer_by_second(busy);
    assert_eq!(answers.matches("200 OK").count(), 2, "{answers}");
}

#[test]
fn a_wait_that_is_over_ends_at_another_backend_with_its_cookie() {
    let mut bound = Bound::full(&config("700ms", ""));
    let client = bound.ask();
    bound.rig.pass(WAIT_MS - 1, 50);
    assert_eq!(bound.rig.accepted(1), []);
    bound.rig.pass(1, 1);
    let answer = bound.answer_by_second(client);
    let moved = cookie_in(&answer).expect("a new cookie is set");
    assert_ne!(moved, bound.cookie);
    let line = bound.log_line();
    assert!(
        line.contains("\"queue_ms\":700.000,") && line.contains("\"sticky\":\"moved\""),
        "{line}"
    );
    bound.cookie = moved;
    let before = bound.asked();
    bound.ask();
    assert_eq!((bound.asked(), bound.rig.accepted(1).len()), (before, 0));
}

#[test]
fn without_a_wait_another_backend_is_picked_at_once() {
    let mut bound = Bound::full(&config("0", ""));
    let client = bound.ask();
    let answer = bound.answer_by_second(client);
    assert!(cookie_in(&answer).is_some_and(|cookie| cookie != bound.cookie));
    let line = bound.log_line();
    assert!(line.contains("\"queue_ms\":null,"), "{line}");
}

#[test]
fn who_waits_in_vain_and_finds_no_other_backend_is_told_so() {
    let text = config("700ms", "").replace(&format!(", \"{}\"", rig::origin(1)), "");
    let mut bound = Bound::full(&text);
    let client = bound.ask();
    bound.rig.pass(WAIT_MS, 50);
    let answer = text_of(&bound.rig, client);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    let line = bound.log_line();
    assert!(line.contains("queue timeout"), "{line}");
    let again = bound.ask();
    bound.answer();
    bound.answer();
    assert!(text_of(&bound.rig, again).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_line_that_is_full_is_not_joined() {
    let mut bound = Bound::full(&config("700ms", ""));
    for _ in 0..WAITING_MAX {
        bound.ask();
    }
    assert_eq!(bound.rig.accepted(1), []);
    let client = bound.ask();
    assert!(cookie_in(&bound.answer_by_second(client)).is_some());
}

#[test]
fn a_client_that_leaves_makes_room_in_line() {
    for leaves_by_reset in [false, true] {
        let mut bound = Bound::full(&config("700ms", "    abort_on_close: true\n"));
        let (gone, next) = (bound.ask(), bound.ask());
        let sessions = bound.rig.worker.census().sessions;
        if leaves_by_reset {
            bound.rig.world().peer_reset(gone);
        } else {
            bound.rig.world().peer_close(gone);
        }
        bound.rig.settle();
        assert_eq!(bound.rig.worker.census().sessions, sessions - 1);
        bound.answer();
        bound.answer();
        assert!(text_of(&bound.rig, next).starts_with("HTTP/1.1 200 "));
        assert_eq!(bound.asked(), 3);
    }
}

#[test]
fn a_backend_that_goes_or_moves_sends_away_who_waits_for_it() {
    let removed = config("700ms", "").replace("id: first", "id: another");
    let moved = with_first(&format!("address: \"{}\"", rig::origin(2)), "700ms", "");
    for text in [removed, moved] {
        let mut bound = Bound::full(&config("700ms", ""));
        let client = bound.ask();
        bound
            .rig
            .reload(&text.replace("max_connections: 1", "weight: 0"));
        bound.rig.settle();
        let answer = bound.answer_by_second(client);
        assert!(cookie_in(&answer).is_some_and(|cookie| cookie != bound.cookie));
        bound.answer();
    }
}

#[test]
fn a_place_that_a_reload_makes_is_taken() {
    let mut bound = Bound::full(&config("700ms", ""));
    let client = bound.ask();
    let text = config("700ms", "").replace("max_connections: 1", "max_connections: 2");
    bound.rig.reload(&text);
    bound.rig.settle();
    let [another] = bound.rig.accepted(0)[..] else {
        panic!("a second connection to the first backend");
    };
    bound.rig.world().peer_send(another, ANSWER);
    bound.rig.settle();
    assert!(text_of(&bound.rig, client).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_backend_that_fails_sends_away_who_waits_for_it() {
    let mut bound = Bound::full(&config(
        "700ms",
        "    passive: {failures: 1, count_5xx: true}\n",
    ));
    let client = bound.ask();
    bound
        .rig
        .world()
        .peer_send(bound.first, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    bound.rig.settle();
    let answer = bound.answer_by_second(client);
    assert!(cookie_in(&answer).is_some());
}

#[test]
fn a_drain_waits_for_those_who_wait() {
    let mut bound = Bound::full(&config("700ms", ""));
    let client = bound.ask();
    bound.rig.worker.drain();
    bound.rig.settle();
    bound.answer();
    bound.answer();
    assert!(text_of(&bound.rig, client).starts_with("HTTP/1.1 200 "));
}
