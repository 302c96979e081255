//! Which route takes a request.

use crate::client::{Client, fetch};
use crate::config::Config;
use crate::harness::Weir;
use crate::web::Web;

fn respond(prefix: &str) -> String {
    format!("prefix: {prefix}, respond: {{body: \"{prefix}\"}}")
}

#[test]
fn the_longest_prefix_wins_in_every_process_and_whatever_the_order() {
    let orders = [["/", "/a", "/a/b", "/a/b/c"], ["/a/b", "/", "/a/b/c", "/a"]];
    for order in orders {
        let config = order.iter().fold(Config::new(), |config, prefix| {
            config.route(&respond(prefix))
        });
        let weir = Weir::start(config);
        for (path, route) in [
            ("/", "/"),
            ("/x", "/"),
            ("/ab", "/"),
            ("/a", "/a"),
            ("/a/x", "/a"),
            ("/a/bx", "/a"),
            ("/a/b", "/a/b"),
            ("/a/b/c", "/a/b/c"),
            ("/a/b/c/d", "/a/b/c"),
            ("/a/b/../x", "/a"),
        ] {
            assert_eq!(fetch(&weir, path), route, "{path}");
        }
    }
}

#[test]
fn an_exact_host_wins_over_a_wildcard_and_that_over_any() {
    let weir = Weir::start(
        Config::new()
            .route("prefix: /, respond: {body: any}")
            .route("prefix: /, host: \"*.b.example\", respond: {body: longer}")
            .route("prefix: /, host: a.example, respond: {body: exact}")
            .route("prefix: /, host: \"*.example\", respond: {body: wild}"),
    );
    for (host, body) in [
        ("a.example", "exact"),
        ("A.EXAMPLE:81", "exact"),
        ("a.example.", "exact"),
        ("x.example", "wild"),
        ("x.b.example", "longer"),
        ("example", "any"),
        ("a.example.org", "any"),
    ] {
        let mut client = Client::new(&weir);
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.receive().text(), body, "{host}");
    }
}

#[test]
fn each_route_has_its_own_backends() {
    let (a, b) = (Web::named("a"), Web::named("b"));
    let weir = Weir::start(
        Config::new()
            .route("prefix: /a, upstream: a")
            .route(&format!("prefix: /b, backends: [\"{}\"]", b.address()))
            .upstream("a", [a.address()]),
    );
    let mut client = Client::new(&weir);
    for (path, name) in [("/a/x", "a"), ("/b", "b"), ("/a", "a")] {
        assert_eq!(client.get(path).text(), name);
    }
    assert_eq!(client.get("/c").status(), 404);
}

#[test]
fn a_route_for_some_methods_leaves_the_others_to_the_next() {
    let weir = Weir::start(
        Config::new()
            .route("prefix: /x, methods: [GET], respond: {body: get}")
            .route("prefix: /, methods: [POST], respond: {body: post}"),
    );
    let mut client = Client::new(&weir);
    assert_eq!(client.get("/x").text(), "get");
    client.send("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(client.receive().text(), "post");
    client.send("DELETE /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let refused = client.receive();
    assert_eq!(refused.status(), 405);
    let allow = refused.head.text("allow").expect("a 405 has Allow");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
}

#[test]
fn a_stripped_prefix_does_not_reach_the_backend() {
    let mirror = Web::mirror();
    let weir = Weir::start(
        Config::new()
            .route("prefix: /api, strip_prefix: true, upstream: pool")
            .upstream("pool", [mirror.address()]),
    );
    for (path, seen) in [
        ("/api", "GET / HTTP/1.1"),
        ("/api/", "GET / HTTP/1.1"),
        ("/api/x/y?z", "GET /x/y?z HTTP/1.1"),
        ("/api?z", "GET /?z HTTP/1.1"),
    ] {
        assert_eq!(fetch(&weir, path).lines().next(), Some(seen), "{path}");
    }
}

#[test]
fn a_fixed_answer_knows_the_request() {
    let weir = Weir::start(Config::new().route(
        "prefix: /, respond: {status: 203, headers: {X-A: b}, \
         body: \"{listener} {method} {path} {host} {client} {header:X-C}\"}",
    ));
    let answer = Client::new(&weir).get_with("/p?q", "X-C: d\r\n");
    assert_eq!(answer.status(), 203);
    assert_eq!(answer.head.text("x-a").as_deref(), Some("b"));
    assert_eq!(answer.text(), "web GET /p?q test 127.0.0.1 d");
}

#[test]
fn a_redirect_carries_the_path() {
    let weir = Weir::start(
        Config::new().route("prefix: /old, redirect: {status: 301, location: \"https://b{path}\"}"),
    );
    let answer = Client::new(&weir).get("/old/x?y=1");
    assert_eq!(answer.status(), 301);
    let location = answer.head.text("location");
    assert_eq!(location.as_deref(), Some("https://b/old/x?y=1"));
}

#[test]
fn a_redirect_is_a_uri_whatever_bytes_came() {
    let weir = Weir::start(
        Config::new().route("prefix: /, redirect: {status: 301, location: \"https://b{path}\"}"),
    );
    for (target, location) in [
        (&b"/caf\xc3\xa9?\xe9"[..], "https://b/caf%C3%A9?%E9"),
        (b"http://test/\xff", "https://b/%FF"),
        (b"//x/../<y>", "https://b/%3Cy%3E"),
    ] {
        let mut client = Client::new(&weir);
        client.send([b"GET ", target, b" HTTP/1.1\r\nHost: test\r\n\r\n"].concat());
        let answer = client.receive();
        assert_eq!(answer.head.text("location").as_deref(), Some(location));
    }
}

#[test]
fn a_redirect_can_not_be_split() {
    let weir = Weir::start(
        Config::new().route("prefix: /, redirect: {status: 301, location: \"https://b{path}\"}"),
    );
    let answer = Client::new(&weir).get("/x?a=%0d%0aSet-Cookie:%20evil=1");
    assert_eq!(answer.head.values("set-cookie").len(), 0);
    let location = answer.head.text("location").unwrap_or_default();
    assert_eq!(location, "https://b/x?a=%0d%0aSet-Cookie:%20evil=1");
    assert_eq!(
        Client::new(&weir).get("/x%0d%0aSet-Cookie:evil").status(),
        400
    );
}

#[test]
fn the_short_form_serves_http_too() {
    let a = Web::named("a");
    let weir = Weir::start(format!(
        "listen: \"127.0.0.1:0\"\nname: web\nmode: http\nstats_interval: 0\nbackends: [\"{}\"]\n",
        a.address()
    ));
    assert_eq!(fetch(&weir, "/x"), "a");
}
