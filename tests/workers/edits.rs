//! What `weir ctl` does besides: backends that come and go by hand, sessions that are kicked, a
//! drain that is waited for, and what runs.

use std::fmt::Display;
use std::fs;

use crate::admin::ctl;
use crate::harness::process::Finished;
use crate::harness::{Config, Launch, Named, Peer, Scratch, Signal, ask, eventually, try_ask};
use crate::machine::{Machine, config};

const KINDS: [&str; 2] = ["1", "3"];

struct Steered {
    machine: Machine,
    scratch: Scratch,
}

fn start(workers: &str, file: impl Display) -> Steered {
    let scratch = Scratch::new();
    let launch = Launch::new(file).open_to_all();
    let launch = launch.argument("--workers").argument(workers);
    let machine = Machine::launch(launch.argument("-p").argument(scratch.file("weir.pid")));
    Steered { machine, scratch }
}

fn with(a: &Named) -> Config {
    config().backend_with(a.address(), "id: a")
}

impl Steered {
    fn ctl(&self, words: &[&str]) -> Finished {
        ctl(&self.scratch.file("weir.sock"), words)
    }

    fn done(&self, words: &[&str]) -> String {
        let told = self.ctl(words);
        assert_eq!(told.code, Some(0), "{words:?}: {told:?}");
        told.stdout
    }

    fn names(&self, count: usize) -> Vec<String> {
        let asked = (0..count).map(|_| ask(&mut self.machine.connect()));
        let mut names: Vec<String> = asked.collect();
        names.sort();
        names.dedup();
        names
    }
}

#[test]
fn a_backend_is_added_and_removed_as_by_a_reload() {
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let steered = start(workers, with(&a));
        let mut held = steered.machine.connect();
        assert_eq!(ask(&mut held), "A");
        let address = b.address().to_string();
        let told = steered.done(&["add", "pool", &address, "--id", "b", "--weight", "3"]);
        assert!(told.contains("pool/b is added at "), "{told}");
        assert!(told.contains("1 backend added, 0 removed"), "{told}");
        steered
            .machine
            .log
            .wait(&["admin: pool/b is added", "by user 0"]);
        assert_eq!(steered.names(12), ["A", "B"]);
        let status = steered.done(&["status", "--json"]);
        assert!(status.contains("\"name\":\"b\""), "{status}");
        let told = steered.done(&["remove", "pool/a"]);
        assert!(told.contains("0 backends added, 1 removed"), "{told}");
        assert_eq!(steered.names(12), ["B"]);
        assert_eq!(steered.ctl(&["drain", "pool/a"]).code, Some(1));
        steered.machine.reload(with(&a).top("stats_interval: 5s"));
        assert_eq!(steered.names(12), ["B"], "after a reload");
        if workers != "1" {
            let mark = steered.machine.log.mark();
            steered.machine.signal(Signal::USR2);
            steered.machine.log.wait_since(mark, &["upgrade done: "]);
            assert_eq!(steered.names(12), ["B"], "after an upgrade");
        }
        steered.done(&["reload", "--reset"]);
        assert_eq!(steered.names(12), ["A"]);
        held.send("still");
        held.expect("still");
    }
}

#[test]
fn what_fits_no_upstream_is_not_added_and_nothing_changes() {
    for workers in KINDS {
        let a = Named::new("A");
        let steered = start(workers, with(&a));
        let taken = a.address().to_string();
        for (words, part) in [
            (
                &["add", "none", "127.0.0.1:1"][..],
                "no upstream none: pool",
            ),
            (&["add", "pool", "nowhere"], "address"),
            (&["add", "pool", "127.0.0.1:1", "--id", "a"], "already"),
            (&["add", "pool", &taken], "already, as a"),
            (&["remove", "pool/a"], "backends"),
            (&["remove", "pool/x"], "no backend x in pool: a"),
        ] {
            let told = steered.ctl(words);
            assert_eq!(told.code, Some(1), "{words:?}: {told:?}");
            assert!(told.stderr.contains(part), "{part}: {told:?}");
        }
        assert_eq!(steered.names(3), ["A"]);
    }
}

/// Twelve sessions that stay, each with the name of its backend.
fn a_dozen(steered: &Steered) -> Vec<(String, Peer)> {
    let connect = |_| {
        let mut peer = steered.machine.connect();
        (ask(&mut peer), peer)
    };
    (0..12).map(connect).collect()
}

#[test]
fn what_is_kicked_ends_at_once_and_elsewhere_nothing_does() {
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let file = with(&a).backend_with(b.address(), "id: b");
        let steered = start(workers, file);
        let held = a_dozen(&steered);
        let count = held.iter().filter(|(name, _)| name == "A").count();
        let told = steered.done(&["kick", "pool/a"]);
        assert!(count > 1, "{count}");
        assert_eq!(told, format!("{count} sessions of pool/a are kicked\n"));
        for (name, mut peer) in held {
            match name.as_str() {
                "A" => peer.expect_reset(),
                _ => {
                    peer.send("on");
                    peer.expect("on");
                }
            }
        }
        let lines = steered.machine.log.count(&["ended: kicked"]);
        assert_eq!(lines, count);
        let why = steered.done(&["why", "--last", "error"]);
        assert!(why.contains("outcome    kicked by an order"), "{why}");
        assert_eq!(steered.names(12), ["A", "B"], "it takes new ones");
        let mut steered = steered;
        assert_eq!(steered.machine.terminate(), Some(0), "none was cut");
    }
}

/// The value of a key in each session that is told, as JSON has it.
fn told_of(sessions: &str, key: &str) -> Vec<String> {
    let key = format!("\"{key}\":");
    let parts = sessions.split(&key).skip(1);
    let value = |part: &str| part.split([',', '}']).next().unwrap_or_default().to_owned();
    parts.map(value).collect()
}

#[test]
fn sessions_of_all_workers_are_told_and_one_is_kicked() {
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let file = with(&a).backend_with(b.address(), "id: b");
        let steered = start(workers, file);
        let mut held = a_dozen(&steered);
        let count = |name: &str| held.iter().filter(|it| it.0 == name).count();
        let all = steered.done(&["sessions", "--json"]);
        let ids = told_of(&all, "id");
        assert_eq!(ids.len(), 12, "{all}");
        assert_eq!(told_of(&all, "state"), ["\"relaying\""; 12], "{all}");
        assert_eq!(told_of(&all, "bytes_in"), ["4"; 12], "{all}");
        assert_eq!(told_of(&all, "listener"), ["\"front\""; 12], "{all}");
        assert!(all.contains("\"complete\":true"), "{all}");
        for (_, peer) in &held {
            let client = peer.socket().local_addr().expect("an address");
            let client = client.as_socket().expect("of IP").to_string();
            assert!(all.contains(&format!("\"client\":\"{client}\"")), "{all}");
        }
        let of_a = steered.done(&["sessions", "--json", "--backend", "pool/a"]);
        assert_eq!(told_of(&of_a, "id").len(), count("A"), "{of_a}");
        let of_pool = steered.done(&["sessions", "--json", "--backend", "pool"]);
        assert_eq!(told_of(&of_pool, "id").len(), 12);
        let of_front = steered.done(&["sessions", "--json", "--listener", "front"]);
        assert_eq!(told_of(&of_front, "id").len(), 12);
        let some = steered.ctl(&["sessions", "--max", "5"]);
        assert_eq!(some.stdout.lines().count(), 1 + 5, "{some:?}");
        assert!(some.stderr.contains("there are more"), "{some:?}");

        let (name, mut victim) = held.swap_remove(7);
        let client = victim.socket().local_addr().expect("an address");
        let client = client.as_socket().expect("of IP").to_string();
        let table = steered.done(&["sessions", "--backend", "pool"]);
        let line = table.lines().find(|line| line.contains(&client));
        let id = line.and_then(|line| line.split(' ').next()).expect("an id");
        let told = steered.done(&["kick", "session", id]);
        assert_eq!(
            told,
            format!("session {id} of {client} is kicked\n"),
            "{name}"
        );
        victim.expect_reset();
        for (_, peer) in &mut held {
            peer.send("on");
            peer.expect("on");
        }
        let nameless = steered.ctl(&["kick", "session"]);
        assert_eq!(nameless.code, Some(1), "{nameless:?}");
        assert!(nameless.stderr.contains("say `kick session ID`"));
        let again = steered.ctl(&["kick", "session", id]);
        assert_eq!(again.code, Some(1), "{again:?}");
        assert!(again.stderr.contains("no session"), "{again:?}");
        steered.machine.log.wait(&["is kicked, by user 0"]);
        for (words, part) in [
            (
                &["sessions", "--listener", "none"][..],
                "no listener none: front",
            ),
            (
                &["sessions", "--backend", "pool/x"],
                "no backend x in pool: a, b",
            ),
            (&["sessions", "--max", "0"], "1 to 10000"),
            (&["kick", "session", "x"], "must be an id"),
            (&["kick", "session", "1-2-3"], "no session 1-2-3"),
        ] {
            let told = steered.ctl(words);
            assert_eq!(told.code, Some(1), "{words:?}: {told:?}");
            assert!(told.stderr.contains(part), "{part}: {told:?}");
        }
    }
}

#[test]
fn more_sessions_than_a_part_has_room_for_are_told_all_once() {
    for workers in KINDS {
        let a = Named::new("A");
        let steered = start(workers, with(&a));
        let mut held: Vec<Peer> = (0..300).map(|_| steered.machine.connect()).collect();
        for peer in &mut held {
            assert_eq!(ask(peer), "A");
        }
        let told = steered.done(&["sessions", "--json"]);
        let mut ids = told_of(&told, "id");
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 300);
        assert!(told.contains("\"complete\":true,\"silent_pids\":[]"));
    }
}

#[test]
fn a_worker_that_does_not_answer_is_named_and_the_others_tell_theirs() {
    let a = Named::new("A");
    let steered = start("3", with(&a));
    steered.machine.signal_worker(1, Signal::STOP);
    let stopped = steered.machine.worker(1);
    let mut held: Vec<Peer> = (0..6).map(|_| steered.machine.connect()).collect();
    for peer in &mut held {
        assert_eq!(ask(peer), "A");
    }
    let told = steered.done(&["sessions", "--json"]);
    let silent = format!("\"complete\":false,\"silent_pids\":[{stopped}]");
    assert!(told.contains(&silent), "{silent}: {told}");
    assert_eq!(told_of(&told, "id").len(), 6, "{told}");
    let metrics = steered.done(&["metrics"]);
    // On a machine that is slow others may be stuck for a moment, too.
    let mut lines = metrics.lines();
    let rescues = lines.find_map(|it| it.strip_prefix("weir_accept_rescues_total "));
    let rescues = rescues.and_then(|it| it.parse::<u64>().ok());
    assert!(rescues.is_some_and(|it| it >= 1), "{rescues:?}");
    steered.machine.signal_worker(1, Signal::CONT);
    eventually("it tells as well", || {
        let told = steered.done(&["sessions", "--json"]);
        told.contains("\"complete\":true").then_some(())
    });
}

#[test]
fn who_waits_for_a_place_gets_that_of_one_who_was_kicked() {
    let a = Named::new("A");
    let steered = start("1", with(&a).top("max_connections: 2"));
    let mut held = [steered.machine.connect(), steered.machine.connect()];
    for peer in &mut held {
        assert_eq!(ask(peer), "A");
    }
    let mut next = steered.machine.connect();
    next.send("who\n");
    steered.done(&["kick", "pool"]);
    assert_eq!(next.read_line().expect("a place"), "A");
}

#[test]
fn a_drain_is_waited_for() {
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let file = with(&a).backend_with(b.address(), "id: b");
        let steered = start(workers, file);
        let mut held = eventually("a session at A", || {
            let mut peer = steered.machine.connect();
            (try_ask(&mut peer).ok()? == "A").then_some(peer)
        });
        let late = steered.ctl(&["drain", "pool/a", "--wait", "300ms"]);
        assert_eq!(late.code, Some(1), "{late:?}");
        assert!(
            late.stderr.contains("drains still, 1 session runs"),
            "{late:?}"
        );
        assert_eq!(steered.names(6), ["B"]);
        let told = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| steered.done(&["drain", "pool/a", "--wait", "30s"]));
            held.finish();
            held.expect_end();
            waiting.join().expect("it returns")
        });
        assert!(told.contains("pool/a is empty"), "{told}");
        let bad = steered.ctl(&["drain", "pool/a", "--wait", "soon"]);
        assert_eq!(bad.code, Some(2), "{bad:?}");
    }
}

#[test]
fn what_runs_is_shown_without_secrets() {
    for workers in KINDS {
        let a = Named::new("A");
        let file = with(&a).upstream("sticky: {cookie: s, secret: hush-hush}");
        let file = file.to_string().replace("mode: tcp", "mode: http");
        let steered = start(workers, file);
        steered.done(&["add", "pool", "127.0.0.1:9", "--id", "more"]);
        steered.machine.write_config("listen: nowhere");
        let told = steered.done(&["config"]);
        for part in ["more", "(masked)", "workers: ", "max_connections: "] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert!(!told.contains("hush-hush"), "{told}");
    }
}

#[test]
fn completions_know_every_verb() {
    let help = crate::harness::run(&["ctl".as_ref(), "--help".as_ref()]).stdout;
    let lines = help.lines().skip_while(|line| !line.starts_with("Usage"));
    let verbs = lines.skip(2).take_while(|line| !line.is_empty());
    let verbs: Vec<&str> = verbs
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(verbs.len() > 12, "{verbs:?}");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/completions");
    for name in ["weir.bash", "_weir", "weir.fish"] {
        let text = fs::read_to_string(format!("{folder}/{name}")).expect("it is there");
        let words: Vec<&str> = text
            .split(|it: char| !it.is_alphanumeric() && it != '-')
            .collect();
        for verb in &verbs {
            assert!(words.contains(verb), "{name} lacks {verb}");
        }
    }
}

#[test]
fn routes_are_told_with_what_has_come_of_them() {
    for workers in KINDS {
        let respond = |n: usize| {
            format!("      - {{prefix: /r{n}, host: a.example, respond: {{status: 204}}}}\n")
        };
        let routes: String = (0..300).map(respond).collect();
        let file = format!(
            "listeners:\n  - name: front\n    listen: \"127.0.0.1:0\"\n    routes:\n      \
             - {{prefix: /, methods: [GET], upstream: pool}}\n{routes}  \
             - {{name: plain, listen: \"127.0.0.1:0\", mode: tcp, upstream: pool}}\n\
             upstreams:\n  pool:\n    algorithm: least_conn\n    \
             backends: [\"127.0.0.1:9\"]\n"
        );
        let steered = start(workers, file);
        for (path, count) in [("/r0", 3), ("/r299", 2), ("/x", 1)] {
            for _ in 0..count {
                let mut peer = Peer::connect(steered.machine.address_of("front")).expect("a place");
                peer.send(format!("GET {path} HTTP/1.0\r\nHost: a.example\r\n\r\n"));
                let (bytes, _) = peer.end();
                assert!(bytes.starts_with(b"HTTP/1.1 "), "{path}");
            }
        }
        let told = steered.done(&["routes", "--json"]);
        for part in [
            "{\"listener\":\"front\",\"host\":\"\",\"path\":\"/\",\"methods\":\"GET\",\
             \"leads_to\":\"pool\",\"policy\":\"least_conn\",\"responses\":{\"1xx\":0,\"2xx\":0,\
             \"3xx\":0,\"4xx\":0,\"5xx\":1,\"other\":0}}",
            "\"path\":\"/r0\",\"methods\":\"\",\"leads_to\":\"respond\",\"policy\":\"\",\
             \"responses\":{\"1xx\":0,\"2xx\":3,",
            // Too many to be counted one by one.
            "\"path\":\"/r299\",\"methods\":\"\",\"leads_to\":\"respond\",\"policy\":\"\",\
             \"responses\":null}",
            "{\"listener\":\"plain\",\"host\":\"\",\"path\":\"\",",
        ] {
            assert!(told.contains(part), "{part}: {}", &told[..2_000]);
        }
        assert_eq!(told.matches("\"responses\":{").count(), 256);
        let table = steered.done(&["routes"]);
        assert_eq!(table.lines().count(), 1 + 302);
        let metrics = steered.done(&["metrics"]);
        for line in [
            "weir_route_responses_total{listener=\"front\",route=\"GET /\",code_class=\"5xx\"} 1",
            "weir_route_responses_total{listener=\"front\",route=\"a.example/r0\",\
             code_class=\"2xx\"} 3",
        ] {
            assert!(metrics.lines().any(|it| it == line), "{line}");
        }
    }
}

#[test]
fn a_reset_is_refused_with_the_file_that_it_was_to_read() {
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let file = with(&a);
        let steered = start(workers, file.clone());
        let address = b.address().to_string();
        steered.done(&["add", "pool", &address, "--id", "b"]);
        steered.done(&["drain", "pool/a"]);
        assert_eq!(steered.names(6), ["B"]);
        steered
            .machine
            .write_config(file.clone().top("algorithm: none"));
        let told = steered.ctl(&["reload", "--reset"]);
        assert_eq!(told.code, Some(1), "{told:?}");
        assert!(told.stderr.contains("nothing changed"), "{told:?}");
        assert_eq!(steered.names(6), ["B"], "nothing has changed");
        steered
            .machine
            .reload(file.clone().top("stats_interval: 5s"));
        assert_eq!(
            steered.names(6),
            ["B"],
            "nor was anything forgotten for later"
        );
        steered.machine.write_config(file);
        steered.done(&["reload", "--reset"]);
        assert_eq!(steered.names(6), ["A"]);
    }
}

/// Upstreams with the names that the short form with routes gives.
fn with_slashes(a: &Named) -> String {
    let address = a.address();
    config()
        .backend_with(address, "id: a")
        .to_string()
        .replace("upstream: pool", "upstream: \"route:/\"")
        .replace("  pool:", "  \"route:/\":")
        + &format!("  \"route:/api/\":\n    backends: [{{id: x/y, address: \"{address}\"}}]\n")
}

#[test]
fn names_with_slashes_are_steered_as_others() {
    for workers in KINDS {
        let a = Named::new("A");
        let steered = start(workers, with_slashes(&a));
        let mut held = steered.machine.connect();
        assert_eq!(ask(&mut held), "A");
        for (target, meant) in [
            ("route:/", "route://a"),
            ("route://a", "route://a"),
            ("route:/api/", "route:/api//x/y"),
            ("route:/api//x/y", "route:/api//x/y"),
        ] {
            let told = steered.done(&["drain", target]);
            assert_eq!(told, format!("{meant} is draining, was enabled\n"));
            steered.done(&["enable", target]);
        }
        let count = |target: &str| {
            let told = steered.done(&["sessions", "--json", "--backend", target]);
            told_of(&told, "id").len()
        };
        let targets = ["route:/", "route://a", "route:/api/", "route:/api//x/y"];
        assert_eq!(targets.map(count), [1, 1, 0, 0]);
        let told = steered.ctl(&["drain", "route://a", "--wait", "1ms"]);
        assert_eq!(told.code, Some(1), "it has a session: {told:?}");
        drop(held);
        steered.done(&["drain", "route://a", "--wait", "30s"]);
        let told = steered.ctl(&["drain", "route:/api//x"]);
        let there = "no backend x in route:/api/: x/y";
        assert!(told.stderr.contains(there), "{told:?}");
    }
}

#[test]
fn a_name_that_can_be_of_two_is_refused() {
    let a = Named::new("A");
    let address = a.address();
    let file = config().backend_with(address, "id: x/y").to_string()
        + &format!("  pool/x:\n    backends: [{{id: y, address: \"{address}\"}}]\n");
    let steered = start("1", file);
    let told = steered.ctl(&["drain", "pool/x/y"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(
        told.stderr.contains("can be of pool and of pool/x"),
        "{told:?}"
    );
    assert_eq!(steered.names(2), ["A"]);
}
