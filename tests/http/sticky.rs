//! Sticky sessions: clients that a cookie binds to one backend.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use crate::client::Client;
use crate::config::Config;
use crate::harness::Weir;
use crate::web::{Answer, Web, addresses, ok, response};
use crate::wire::Message;

fn backends() -> Vec<Web> {
    ["a", "b", "c", "d"].into_iter().map(Web::named).collect()
}

fn config(backends: &[Web]) -> Config {
    Config::pool(addresses(backends)).with("sticky: {cookie: weir, secret: s3cret}")
}

/// The cookie that an answer sets, as `name=value`, and its attributes.
fn set_cookie(answer: &Message) -> Option<(String, String)> {
    let value = answer.head.text("set-cookie")?;
    let (pair, attributes) = value.split_once("; ").unwrap_or((&value, ""));
    Some((pair.to_owned(), attributes.to_owned()))
}

fn ask(client: &mut Client, cookie: &str) -> Message {
    client.get_with("/", &format!("Cookie: {cookie}\r\n"))
}

#[test]
fn a_client_is_given_a_cookie_once_and_stays() {
    let backends = backends();
    let weir = Weir::start(config(&backends));
    let mut client = Client::new(&weir);
    let first = client.get("/");
    let (cookie, attributes) = set_cookie(&first).expect("a cookie is set");
    assert!(cookie.starts_with("weir="), "{cookie}");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax");
    for _ in 0..12 {
        let again = ask(&mut client, &cookie);
        assert_eq!(again.text(), first.text());
        assert_eq!(set_cookie(&again), None);
    }
}

#[test]
fn every_process_agrees_on_a_cookie_and_nothing_is_kept() {
    let backends = backends();
    let (one, two) = (
        Weir::start(config(&backends)),
        Weir::start(config(&backends)),
    );
    let mut by_one = Client::new(&one);
    for _ in 0..backends.len() {
        let first = by_one.get("/");
        let (cookie, _) = set_cookie(&first).expect("a cookie is set");
        let other = ask(&mut Client::new(&two), &cookie);
        assert_eq!(other.text(), first.text());
        assert_eq!(set_cookie(&other), None);
    }
    drop(one);
    let restarted = Weir::start(config(&backends));
    let first = Client::new(&two).get("/");
    let (cookie, _) = set_cookie(&first).expect("a cookie is set");
    assert_eq!(
        ask(&mut Client::new(&restarted), &cookie).text(),
        first.text()
    );
}

#[test]
fn a_cookie_shows_no_address_and_a_forged_one_is_as_none() {
    let backends = backends();
    let weir = Weir::start(config(&backends));
    let mut client = Client::new(&weir);
    let (cookie, _) = set_cookie(&client.get("/")).expect("a cookie is set");
    let port = backends[0].address().port().to_string();
    assert!(
        !cookie.contains(&port) && !cookie.contains("127"),
        "{cookie}"
    );
    let long = "f".repeat(4000);
    for forged in [
        "",
        "0000000000000000",
        "zz",
        "../..",
        "\"",
        &long,
        "%00",
        "\u{e9}",
    ] {
        let answer = ask(&mut client, &format!("weir={forged}"));
        assert_eq!(answer.status(), 200, "{forged}");
        assert!(set_cookie(&answer).is_some(), "{forged}");
    }
}

#[test]
fn another_secret_makes_other_cookies() {
    let backends = backends();
    let one = Weir::start(config(&backends));
    let two =
        Weir::start(Config::pool(addresses(&backends)).with("sticky: {cookie: weir, secret: x}"));
    let (cookie, _) = set_cookie(&Client::new(&one).get("/")).expect("a cookie is set");
    assert!(set_cookie(&ask(&mut Client::new(&two), &cookie)).is_some());
}

#[test]
fn a_client_of_a_dead_backend_gets_another_and_its_cookie() {
    let backends = backends();
    let weir = Weir::start(config(&backends));
    let mut client = Client::new(&weir);
    let first = client.get("/");
    let (cookie, _) = set_cookie(&first).expect("a cookie is set");
    let dead = backends
        .iter()
        .position(|web| web.count() > 0)
        .expect("one answered");
    backends[dead].kill();
    let moved = ask(&mut client, &cookie);
    assert_eq!(moved.status(), 200);
    assert_ne!(moved.text(), first.text());
    let (new, _) = set_cookie(&moved).expect("a new cookie is set");
    assert_ne!(new, cookie);
    assert_eq!(ask(&mut client, &new).text(), moved.text());
}

#[test]
fn a_backend_of_weight_zero_is_honoured_but_not_picked() {
    let backends = backends();
    let weir = Weir::start(config(&backends));
    let mut client = Client::new(&weir);
    let first = client.get("/");
    let (cookie, _) = set_cookie(&first).expect("a cookie is set");
    let drained = backends
        .iter()
        .position(|web| web.count() > 0)
        .expect("one answered");
    let list: Vec<String> = backends
        .iter()
        .enumerate()
        .map(|(n, web)| {
            let weight = usize::from(n != drained);
            format!("{{address: \"{}\", weight: {weight}}}", web.address())
        })
        .collect();
    weir.reload(Config::pool(list).with("sticky: {cookie: weir, secret: s3cret}"));
    let mut client = Client::new(&weir);
    for _ in 0..8 {
        let again = ask(&mut client, &cookie);
        assert_eq!(again.text(), first.text());
        assert_eq!(set_cookie(&again), None);
        assert_ne!(client.get("/").text(), first.text());
    }
}

#[test]
fn cookies_of_the_application_pass_and_ours_does_not() {
    let mirror = Web::mirror();
    let config = Config::pool([mirror.address()]).with("sticky: {cookie: weir}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    let (cookie, _) = set_cookie(&client.get("/")).expect("a cookie is set");
    let fields =
        format!("Cookie: a=1; {cookie}; b=\"2;\r\nCookie: {cookie}\r\nCookie: weirder=3\r\n");
    let text = client.get_with("/", &fields).text();
    let seen: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("Cookie"))
        .collect();
    assert_eq!(seen, ["Cookie: a=1; b=\"2;", "Cookie: weirder=3"]);
}

#[test]
fn cookies_that_the_application_sets_pass() {
    let fields = "Set-Cookie: app=1; Path=/\r\nSet-Cookie: other=2\r\n";
    let web = Web::new(move |_| Answer::Send(response("200 OK", fields, "")));
    let weir = Weir::start(Config::pool([web.address()]).with("sticky: {cookie: weir}"));
    let answer = Client::new(&weir).get("/");
    let set = answer.head.values("set-cookie");
    assert_eq!(set[..2], [&b"app=1; Path=/"[..], b"other=2"]);
    assert!(set.len() == 3 && set[2].starts_with(b"weir="));
}

#[test]
fn attributes_are_as_configured_and_secure_follows_a_trusted_proxy() {
    let web = Web::named("a");
    let config = Config::pool([web.address()])
        .listener("trusted_proxies: [127.0.0.1]")
        .with("sticky: {cookie: id, domain: a.example, max_age: 1h, same_site: strict, cache_private: true}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    let plain = client.get("/");
    let (_, attributes) = set_cookie(&plain).expect("a cookie is set");
    assert_eq!(
        attributes,
        "Path=/; HttpOnly; SameSite=Strict; Domain=a.example; Max-Age=3600"
    );
    assert_eq!(plain.head.text("cache-control").as_deref(), Some("private"));
    let secure = client.get_with("/", "X-Forwarded-Proto: https\r\n");
    let (_, attributes) = set_cookie(&secure).expect("a cookie is set");
    assert!(attributes.contains("; Secure"), "{attributes}");
}

#[test]
fn a_session_of_the_application_is_hashed_alike_everywhere() {
    let backends = backends();
    let config = || Config::pool(addresses(&backends)).with("sticky: {hash: cookie SID}");
    let (one, two) = (Weir::start(config()), Weir::start(config()));
    let mut clients = (Client::new(&one), Client::new(&two));
    let mut names = Vec::new();
    for n in 0..32 {
        let cookie = format!("x=y; SID=session-{n}");
        let first = ask(&mut clients.0, &cookie);
        assert_eq!(set_cookie(&first), None);
        for _ in 0..3 {
            assert_eq!(ask(&mut clients.1, &cookie).text(), first.text());
        }
        names.push(first.text());
    }
    names.sort();
    names.dedup();
    assert!(names.len() > 1, "all sessions went to one backend");
}

#[test]
fn a_route_can_be_sticky_while_another_is_not() {
    let web = Web::new(|_| ok("a"));
    let config = Config::new()
        .route("prefix: /shop, upstream: shop")
        .route("prefix: /, upstream: site")
        .upstream("shop", [web.address()])
        .with("sticky: {cookie: weir}")
        .upstream("site", [web.address()]);
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    assert!(set_cookie(&client.get("/shop")).is_some());
    assert!(set_cookie(&client.get("/")).is_none());
}

#[test]
fn a_bound_request_that_is_refused_gives_its_place_back() {
    let web = Web::named("a");
    let backend = format!("{{address: \"{}\", max_connections: 1}}", web.address());
    let config = Config::pool([backend]).with("sticky: {cookie: weir, secret: s3cret}");
    let weir = Weir::start(config);
    let (cookie, _) = set_cookie(&Client::new(&weir).get("/")).expect("a cookie is set");
    let mut bad = Client::new(&weir);
    bad.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\
         Transfer-Encoding: chunked\r\n\r\nx\r\n"
    ));
    assert_eq!(bad.receive().status(), 400);
    assert_eq!(Client::new(&weir).get("/").text(), "a");
}

/// A backend that answers `/slow` only once somebody meets it twice: when it has the request, and
/// when it may answer.
fn slow(name: &'static str) -> (Web, Arc<Barrier>) {
    let meeting = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&meeting);
    let web = Web::new(move |request| {
        if request.head.word(1) == "/slow" {
            gate.wait();
            gate.wait();
        }
        ok(name)
    });
    (web, meeting)
}

/// Two backends, of which the first takes one request at a time, and a client that is bound to
/// that one and has it busy.
fn full(wait: &str) -> (Weir, [Web; 2], Arc<Barrier>, Client, String) {
    let (first, meeting) = slow("a");
    let second = Web::named("b");
    let list = [
        format!("{{address: \"{}\", max_connections: 1}}", first.address()),
        second.address().to_string(),
    ];
    let sticky = format!("sticky: {{cookie: weir, wait: {wait}}}");
    let weir = Weir::start(Config::pool(list).with(&sticky));
    let mut client = Client::new(&weir);
    let answer = client.get("/");
    assert_eq!(answer.text(), "a");
    let (cookie, _) = set_cookie(&answer).expect("a cookie is set");
    client.send_get("/slow", &format!("Cookie: {cookie}\r\n"));
    meeting.wait();
    (weir, [first, second], meeting, client, cookie)
}

#[test]
fn a_client_waits_for_its_full_backend() {
    let (weir, _backends, meeting, mut busy, cookie) = full("1m");
    let mut waiting = Client::new(&weir);
    waiting.send_get("/", &format!("Cookie: {cookie}\r\n"));
    assert!(!waiting.0.has_bytes_within(Duration::from_millis(50)));
    meeting.wait();
    assert_eq!(busy.receive().text(), "a");
    let answer = waiting.receive();
    assert_eq!((answer.text().as_str(), set_cookie(&answer)), ("a", None));
}

#[test]
fn a_client_whose_backend_stays_full_gets_another_and_its_cookie() {
    for wait in ["0", "50ms"] {
        let (weir, _backends, meeting, mut busy, cookie) = full(wait);
        let moved = ask(&mut Client::new(&weir), &cookie);
        assert_eq!(moved.text(), "b");
        let (new, _) = set_cookie(&moved).expect("a new cookie is set");
        assert_ne!(new, cookie);
        meeting.wait();
        assert_eq!(busy.receive().text(), "a");
    }
}
