//! `weir ctl why`: how a request ended and why, also after its worker, its backend or its
//! configuration has gone.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::SocketAddr;

use crate::admin::ctl;
use crate::harness::process::Finished;
use crate::harness::{Launch, Origin, Peer, Scratch, eventually};
use crate::machine::Machine;

const KINDS: [&str; 2] = ["1", "2"];

struct Asked {
    machine: Machine,
    scratch: Scratch,
}

/// An HTTP listener, and a second backend that the first one's failures are tried at again.
fn config(first: impl Display, second: impl Display) -> String {
    format!(
        "stats_interval: 0\naccess_log: {{path: /dev/null, format: json}}\n\
         listeners:\n  \
           - {{name: front, listen: \"127.0.0.1:0\", mode: http, \
              routes: [{{prefix: /, upstream: pool}}]}}\n  \
           - {{name: raw, listen: \"127.0.0.1:0\", upstream: pool}}\n\
         upstreams:\n  \
           pool: {{backends: [{{id: b1, address: \"{first}\"}}, \
              {{id: b2, address: \"{second}\"}}]}}\n"
    )
}

fn start(workers: &str, file: impl Display) -> Asked {
    let scratch = Scratch::new();
    let launch = Launch::new(file).open_to_all();
    let launch = launch.argument("--workers").argument(workers);
    let machine = Machine::launch(launch.argument("-p").argument(scratch.file("weir.pid")));
    Asked { machine, scratch }
}

impl Asked {
    fn why(&self, words: &[&str]) -> Finished {
        let all: Vec<&str> = std::iter::once("why")
            .chain(words.iter().copied())
            .collect();
        ctl(&self.scratch.file("weir.sock"), &all)
    }

    fn told(&self, words: &[&str]) -> String {
        let told = self.why(words);
        assert_eq!(told.code, Some(0), "{words:?}: {told:?}");
        told.stdout
    }

    /// The ids of the requests of a kind, the latest first, when there are so many.
    fn ids(&self, which: &str, count: usize) -> Vec<String> {
        eventually("they are kept", || {
            let told = self.told(&["--last", which, "--json"]);
            let ids = told.split("{\"id\":\"").skip(1);
            let ids: Vec<String> = ids.map(|it| it[..32].to_owned()).collect();
            (ids.len() == count).then_some(ids)
        })
    }

    fn get(&self, path: &str) -> String {
        get(self.machine.address_of("front"), path)
    }
}

/// The status line of the answer.
fn get(to: SocketAddr, path: &str) -> String {
    let mut client = Peer::connect(to).expect("it listens");
    client.send(format!(
        "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    ));
    let line = client.read_line().expect("an answer");
    let _ = client.end();
    line
}

/// But for the wall time, which is read anew each time.
fn untimed(told: &str) -> Vec<&str> {
    let lines = told.lines();
    lines.filter(|line| !line.contains("ended")).collect()
}

/// Ends every connection once it has been asked something.
fn closer() -> Origin {
    Origin::new(|client| {
        while !client.read_line()?.trim().is_empty() {}
        Ok(())
    })
}

#[test]
fn an_error_after_two_attempts_is_explained_for_long() {
    for workers in KINDS {
        let (one, two) = (closer(), closer());
        let asked = start(workers, config(one.address(), two.address()));
        assert!(asked.get("/a/b?secret=7").contains(" 502 "));
        let ids = asked.ids("5xx", 1);
        let told = asked.told(&[&ids[0]]);
        for part in [
            &format!("http {}: GET /a/b\n", ids[0]),
            "  client     127.0.0.1:",
            "502, backend closed before headers; backend closed first",
            "listener front, route /, upstream pool, backend b",
            "weighted round robin, of 2 backends",
            "b1: no answer: closed before it answered",
            "b2: no answer: closed before it answered",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("secret"), "{told}");
        // Neither a crash of who has written it nor a file without its backends takes it away.
        if workers != "1" {
            (0..2).for_each(|number| asked.machine.replace_worker(number));
        }
        let file = config(one.address(), two.address()).replace("id: b", "id: c");
        asked.machine.reload(file);
        assert_eq!(untimed(&asked.told(&[&ids[0]])), untimed(&told));
    }
}

#[test]
fn ids_differ_over_workers_and_restarts() {
    let (one, two) = (closer(), closer());
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let asked = start("2", config(one.address(), two.address()));
        for _ in 0..5 {
            assert!(asked.get("/").contains(" 502 "));
        }
        let before = asked.ids("502", 5);
        for number in 0..2 {
            asked.machine.replace_worker(number);
        }
        for _ in 0..3 {
            assert!(asked.get("/").contains(" 502 "));
        }
        let after = asked.ids("502", 8);
        assert_eq!(after[3..], before);
        assert!(after.into_iter().all(|id| seen.insert(id)));
    }
    assert_eq!(seen.len(), 16);
}

#[test]
fn sessions_and_who_could_not_be_picked_are_told_of() {
    let (echo, two) = (Origin::echo(), closer());
    let asked = start("1", config(echo.address(), two.address()));
    let disabled = ctl(&asked.scratch.file("weir.sock"), &["disable", "pool/b2"]);
    assert_eq!(disabled.code, Some(0), "{disabled:?}");
    echo.refuse();
    let raw = asked.machine.address_of("raw");
    // It may be over before the client knows that it has begun.
    let _ = Peer::connect(raw).map(|mut client| client.end());
    let ids = asked.ids("error", 1);
    let told = asked.told(&[&ids[0]]);
    for part in [
        &format!("tcp {}\n", ids[0]),
        "connect failed: connection refused; weir closed first",
        "left out   b2: disabled by hand",
        "attempts   b1: connect failed: connection refused (ECONNREFUSED), after ",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn whoever_was_taken_out_later_is_not_told_as_left_out() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let asked = start("1", config(one.address(), two.address()));
    let socket = asked.scratch.file("weir.sock");
    let raw = asked.machine.address_of("raw");
    let begin = || {
        let mut client = Peer::connect(raw).expect("it listens");
        client.send("words");
        client.expect("words");
        client
    };
    // Each of them has one, as they take turns.
    let before = [begin(), begin()];
    for verb in ["disable", "drain"] {
        let done = ctl(
            &socket,
            &[
                verb,
                if verb == "drain" {
                    "pool/b1"
                } else {
                    "pool/b2"
                },
            ],
        );
        assert_eq!(done.code, Some(0), "{done:?}");
    }
    before.into_iter().for_each(Peer::reset);
    for id in asked.ids("error", 2) {
        let told = asked.told(&[&id]);
        assert!(told.contains("client left in data"), "{told}");
        assert!(!told.contains("left out"), "{told}");
    }
    // Those who come now find nobody.
    let _ = Peer::connect(raw).map(|mut client| client.end());
    let ids = asked.ids("error", 3);
    let told = asked.told(&[&ids[0]]);
    for part in [
        "picked     none of 2 backends",
        "left out   b1: drained by hand",
        "           b2: disabled by hand",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn connections_that_are_refused_at_their_beginning_are_told_of() {
    let one = Origin::echo();
    let file = config(one.address(), "127.0.0.1:1")
        .replace("front, ", "front, proxy_protocol: {from: [127.0.0.1/32]}, ")
        .replace(", {id: b2, address: \"127.0.0.1:1\"}", "");
    let asked = start("1", file);
    let front = asked.machine.address_of("front");
    let mut client = Peer::connect(front).expect("it listens");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.end();
    let of_header = asked.ids("error", 1)[0].clone();
    // Nobody else may connect there at all.
    let stranger = Peer::connect_from([127, 0, 0, 2].into(), front);
    let _ = stranger.map(|mut client| client.end());
    let of_stranger = asked.ids("error", 2)[0].clone();
    // What a proxy tells is believed from then on.
    let mut client = Peer::connect(front).expect("it listens");
    client.send("PROXY TCP4 192.0.2.1 198.51.100.2 50000 443\r\nGET / HTP\r\n\r\n");
    client.end();
    let of_request = asked.ids("error", 3)[0].clone();
    for (id, parts) in [
        (
            of_header,
            [
                "tcp ",
                "client     127.0.0.1:",
                "refused by proxy: no PROXY header; weir closed first",
                "listener front",
            ],
        ),
        (
            of_stranger,
            [
                "tcp ",
                "client     127.0.0.2:",
                "refused by proxy: not among those of `proxy_protocol`",
                "listener front",
            ],
        ),
        (
            of_request,
            [
                "http ",
                "client     192.0.2.1:50000",
                "400, refused by proxy",
                "listener front",
            ],
        ),
    ] {
        let told = asked.told(&[&id]);
        for part in parts {
            assert!(told.contains(part), "{part}: {told}");
        }
    }
}

#[test]
fn what_cannot_be_told_is_said_in_a_sentence() {
    let (one, two) = (Origin::echo(), Origin::echo());
    let asked = start("1", config(one.address(), two.address()));
    assert!(
        asked
            .told(&["--last", "error"])
            .contains("none of that kind")
    );
    for (words, code, part) in [
        (
            &["0123456789abcdef0123456789abcdef"][..],
            1,
            "nothing is known of this request",
        ),
        (&["\u{e4} &id=7"], 1, "nothing is known of this request"),
        (&["--last", "6xx"], 1, "must be a status such as 502"),
        (&[], 2, "ID or --last WHICH is missing"),
    ] {
        let told = asked.why(words);
        assert_eq!(told.code, Some(code), "{told:?}");
        assert!(told.stderr.contains(part), "{told:?}");
    }
}

/// Answers with the fields that tell which request it was, and closes.
fn echo_of_ids() -> Origin {
    Origin::new(|client| {
        let mut ids = Vec::new();
        loop {
            let line = client.read_line()?;
            let name = line.split(':').next().unwrap_or_default().to_lowercase();
            match name.trim() {
                "" => break,
                "x-request-id" | "x_request_id" | "traceparent" | "tracestate" => ids.push(line),
                _ => {}
            }
        }
        let body = ids.join("\n");
        let length = body.len();
        let head = "HTTP/1.1 500 No\r\nConnection: close\r\nContent-Length:";
        client.send(format!("{head} {length}\r\n\r\n{body}"));
        Ok(())
    })
}

/// The fields of an answer of [`echo_of_ids`] to a request with these.
fn echoed(client: Peer, fields: &str) -> Vec<String> {
    let mut client = client;
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{fields}Connection: close\r\n\r\n"
    ));
    let (answer, _) = client.end();
    let answer = String::from_utf8(answer).expect("text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    body.lines().map(|line| line.trim().to_owned()).collect()
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

#[test]
fn backends_are_told_the_id_and_only_a_trusted_one_is_taken() {
    let origin = echo_of_ids();
    let scratch = Scratch::new();
    let log = scratch.file("access.log");
    let file = config(origin.address(), "127.0.0.1:1")
        .replace("/dev/null", &log.display().to_string())
        .replace(
            "mode: http,",
            "mode: http, request_id: X-Request-ID, trace: true, trusted_proxies: [127.0.0.2/32],",
        )
        .replace(", {id: b2, address: \"127.0.0.1:1\"}", "");
    std::fs::write(&log, "").expect("a file");
    let asked = start("1", file);
    let front = asked.machine.address_of("front");
    let stranger = || Peer::connect(front).expect("it listens");
    let proxy = || Peer::connect_from([127, 0, 0, 2].into(), front).expect("it listens");
    let given = format!("X-Request-ID: abc-1\r\nx_request_id: x\r\ntraceparent: {PARENT}\r\n");
    let parent = format!("traceparent: {PARENT}");

    let told = echoed(proxy(), &given);
    assert_eq!(told, [&parent, "X-Request-ID: abc-1"]);
    assert!(asked.told(&["abc-1"]).starts_with("http abc-1: GET /\n"));

    let told = echoed(stranger(), &given);
    assert_eq!((told.len(), &told[0]), (2, &parent));
    let id = told[1].strip_prefix("X-Request-ID: ").expect("its id");
    assert_eq!(id.len(), 32);
    assert!(asked.told(&[id]).contains(id));

    // What is malformed is as if it had not come, with what belongs to it.
    let bad = "X-Request-ID: a b\r\ntraceparent: 00-1-2-3\r\ntracestate: a=b\r\n";
    let told = echoed(proxy(), bad);
    let id = told[0].strip_prefix("X-Request-ID: ").expect("its id");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[1].starts_with(&format!("traceparent: 00-{id}-")),
        "{told:?}"
    );
    assert!(told[1].ends_with("-01"), "{told:?}");

    let lines = eventually("all are logged", || {
        let text = std::fs::read_to_string(&log).expect("a file");
        (text.lines().count() == 3).then_some(text)
    });
    let lines: Vec<&str> = lines.lines().collect();
    assert!(lines[0].contains("\"id\":\"abc-1\""), "{lines:?}");
    for line in &lines[..2] {
        assert!(
            line.contains(&format!("\"traceparent\":\"{PARENT}\"")),
            "{line}"
        );
    }
    assert!(
        lines[2].contains(&format!("\"traceparent\":\"00-{id}-")),
        "{lines:?}"
    );
}

#[test]
fn nothing_is_added_or_taken_unless_it_is_asked_for() {
    let origin = echo_of_ids();
    let asked = start("1", config(origin.address(), "127.0.0.1:1"));
    let front = asked.machine.address_of("front");
    let client = || Peer::connect(front).expect("it listens");
    assert_eq!(echoed(client(), ""), [""; 0]);
    let given = ["X-Request-ID: abc", "traceparent: 00-1", "tracestate: a=b"];
    let fields = given.map(|it| format!("{it}\r\n")).concat();
    assert_eq!(echoed(client(), &fields), given);
}
