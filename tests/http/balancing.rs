//! Requests, not connections, are balanced.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Weir, eventually};
use crate::web::{Answer, Web, addresses, ok, response};

fn named(names: &[&str]) -> Vec<Web> {
    names.iter().map(|name| Web::named(name)).collect()
}

fn counts(backends: &[Web]) -> Vec<usize> {
    backends.iter().map(Web::count).collect()
}

#[test]
fn requests_of_one_connection_are_shared_out_by_weight() {
    let backends = named(&["a", "b", "c"]);
    let list = backends
        .iter()
        .zip([5, 3, 2])
        .map(|(web, weight)| format!("{{address: \"{}\", weight: {weight}}}", web.address()));
    let weir = Weir::start(Config::pool(list));
    let mut client = Client::new(&weir);
    let order: String = (0..20).map(|_| client.get("/").text()).collect();
    assert_eq!(order, "abcaabacbaabcaabacba");
}

#[test]
fn least_conn_spreads_idle_backends_evenly() {
    let backends = named(&["a", "b", "c", "d"]);
    let weir = Weir::start(Config::pool(addresses(&backends)).with("algorithm: least_conn"));
    let mut client = Client::new(&weir);
    for _ in 0..4 {
        client.get("/");
    }
    assert_eq!(counts(&backends), [1, 1, 1, 1]);
}

#[test]
fn least_conn_counts_requests_in_flight_and_not_idle_connections() {
    let release = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&release);
    let slow = Web::new(move |request| {
        if request.head.word(1) == "/slow" {
            gate.wait();
        }
        ok("slow")
    });
    let fast = Web::named("fast");
    let config = Config::pool(addresses([&slow, &fast])).with("algorithm: least_conn");
    let weir = Weir::start(config);
    let mut held = Client::new(&weir);
    let mut client = Client::new(&weir);
    // Find the turn that leads to the slow one.
    if client.get("/").text() == "slow" {
        client.get("/");
    }
    held.send_get("/slow", "");
    eventually("the slow request is under way", || {
        (slow.accepted() > 0).then_some(())
    });
    // While it is, the other backend has fewer requests in flight.
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "fast");
    }
    release.wait();
    assert_eq!(held.receive().text(), "slow");
    let mut names: Vec<String> = (0..2).map(|_| client.get("/").text()).collect();
    names.sort();
    assert_eq!(names, ["fast", "slow"]);
}

#[test]
fn a_hash_of_a_header_a_cookie_or_the_uri_decides() {
    for (hash, field) in [
        ("header X-User", "X-User: "),
        ("cookie user", "Cookie: a=b; user="),
        ("uri", ""),
    ] {
        let backends = named(&["a", "b", "c", "d"]);
        let config = Config::pool(addresses(&backends))
            .with("algorithm: hash")
            .with(&format!("hash: {hash}"));
        let weir = Weir::start(config);
        let mut client = Client::new(&weir);
        let mut found = BTreeMap::new();
        for round in 0..3 {
            for n in 0..24 {
                let answer = if field.is_empty() {
                    client.get(&format!("/{n}"))
                } else {
                    client.get_with(&format!("/{round}"), &format!("{field}key-{n}\r\n"))
                };
                let name = found.entry(n).or_insert_with(|| answer.text());
                assert_eq!(*name, answer.text(), "{hash}");
            }
        }
        let mut names: Vec<&String> = found.values().collect();
        names.sort();
        names.dedup();
        assert!(names.len() > 1, "{hash}: one backend took all");
    }
}

#[test]
fn ip_hash_takes_the_client_behind_trusted_proxies() {
    let backends = named(&["a", "b", "c", "d"]);
    let config = Config::pool(addresses(&backends))
        .listener("trusted_proxies: [127.0.0.1]")
        .with("algorithm: ip_hash");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    let mut names = Vec::new();
    for n in 0..24 {
        let field = format!("X-Forwarded-For: 192.0.2.{n}\r\n");
        let name = client.get_with("/", &field).text();
        assert_eq!(client.get_with("/", &field).text(), name);
        names.push(name);
    }
    names.sort();
    names.dedup();
    assert!(names.len() > 1, "one backend took all");
}

#[test]
fn ip_hash_leaves_a_dead_backend_and_moves_only_its_clients() {
    let backends = named(&["a", "b", "c", "d"]);
    let config = Config::pool(addresses(&backends))
        .listener("trusted_proxies: [127.0.0.1]")
        .with("algorithm: ip_hash");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    let mut ask = |n: usize| {
        let field = format!("X-Forwarded-For: 192.0.2.{n}\r\n");
        client.get_with("/", &field).text()
    };
    let before: Vec<String> = (0..32).map(&mut ask).collect();
    backends[0].kill();
    for (n, name) in before.iter().enumerate() {
        let now = ask(n);
        if name == "a" {
            assert_ne!(now, "a");
        } else {
            assert_eq!(now, *name);
        }
    }
}

#[test]
fn a_backend_that_fails_its_http_check_gets_no_request() {
    let sick = Web::new(|request| {
        if request.head.word(1) == "/health" {
            Answer::Send(response("503 Sick", "", ""))
        } else {
            ok("sick")
        }
    });
    let well = Web::new(|request| {
        if request.head.word(1) == "/health" {
            ok("fine")
        } else {
            ok("well")
        }
    });
    let config = Config::pool(addresses([&sick, &well]))
        .with("health_check: {interval: 200ms, rise: 1, fall: 1, initial: down, path: /health}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    eventually("the healthy one is up", || {
        (client.get("/").status() == 200).then_some(())
    });
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "well");
    }
    let asked = sick.requests();
    assert!(
        asked
            .iter()
            .all(|request| request.head.word(1) == "/health")
    );
}

#[test]
fn a_5xx_counts_as_failure_only_if_asked_for() {
    for (passive, is_ejected) in [
        ("{failures: 1}", false),
        ("{failures: 1, count_5xx: true}", true),
    ] {
        let bad = Web::new(|_| Answer::Send(response("500 Bad", "", "bad")));
        let good = Web::named("good");
        let config = Config::pool(addresses([&bad, &good])).with(&format!("passive: {passive}"));
        let weir = Weir::start(config);
        let mut client = Client::new(&weir);
        let texts: Vec<String> = (0..10).map(|_| client.get("/").text()).collect();
        let bad_ones = texts.iter().filter(|text| *text == "bad").count();
        assert_eq!(bad_ones, if is_ejected { 1 } else { 5 }, "{passive}");
    }
}

#[test]
fn requests_in_flight_at_a_backend_are_limited() {
    let meeting = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&meeting);
    let web = Web::new(move |request| {
        if request.head.word(1) == "/slow" {
            gate.wait();
        }
        ok("a")
    });
    let backend = format!("{{address: \"{}\", max_connections: 1}}", web.address());
    let weir = Weir::start(Config::pool([backend]));
    let mut first = Client::new(&weir);
    first.send_get("/slow", "");
    eventually("the slow request is under way", || {
        (web.accepted() > 0).then_some(())
    });
    let refused = Client::new(&weir).get("/");
    assert_eq!(refused.status(), 503);
    meeting.wait();
    assert_eq!(first.receive().text(), "a");
    assert_eq!(Client::new(&weir).get("/").text(), "a");
}
