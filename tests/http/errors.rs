//! Answers that weir makes itself.

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Port, Scratch, Weir};
use crate::web::{Answer, Web, response};

#[test]
fn a_page_stands_in_the_place_of_an_error() {
    let scratch = Scratch::new();
    let file = scratch.write("sorry.html", "<h1>sorry</h1>");
    let dead = Port::reserve();
    let config = Config::pool([dead.address()]).listener(format!(
        "error_pages: {{502: {}, 404: {{content_type: text/plain, body: \"nothing\"}}}}",
        file.display()
    ));
    let weir = Weir::start(config);
    let answer = Client::new(&weir).get("/");
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.text(), "<h1>sorry</h1>");
    let media = answer.head.text("content-type").unwrap_or_default();
    assert!(media.starts_with("text/html"), "{media}");
}

#[test]
fn a_page_of_the_upstream_wins_over_that_of_the_listener() {
    let (dead, other) = (Port::reserve(), Port::reserve());
    let config = Config::new()
        .listener("error_pages: {502: {content_type: text/plain, body: listener}}")
        .route("prefix: /a, upstream: a")
        .route("prefix: /b, upstream: b")
        .upstream("a", [dead.address()])
        .with("error_pages: {502: {content_type: text/plain, body: upstream}}")
        .upstream("b", [other.address()]);
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    assert_eq!(client.get("/a").text(), "upstream");
    assert_eq!(client.get("/b").text(), "listener");
}

#[test]
fn an_error_of_the_backend_is_no_error_of_ours() {
    let web = Web::new(|_| Answer::Send(response("502 Mine", "", "mine")));
    let config = Config::pool([web.address()])
        .listener("error_pages: {502: {content_type: text/plain, body: ours}}");
    let weir = Weir::start(config);
    let answer = Client::new(&weir).get("/");
    assert_eq!((answer.status(), answer.text()), (502, "mine".to_owned()));
}

#[test]
fn no_usable_backend_is_503_with_a_time_to_come_back() {
    let web = Web::named("a");
    let config = Config::pool([web.address()])
        .with("health_check: {interval: 10s, initial: down, path: /never, statuses: [299]}");
    let weir = Weir::start(config);
    let answer = Client::new(&weir).get("/");
    assert_eq!(answer.status(), 503);
    let seconds = answer.head.text("retry-after").unwrap_or_default();
    assert!(seconds.parse::<u32>().is_ok(), "{seconds}");
}

#[test]
fn a_body_beyond_the_limit_of_its_route_is_413() {
    let web = Web::named("a");
    let config = Config::new()
        .listener("limits: {max_body: 4}")
        .route("prefix: /large, max_body: 1KiB, upstream: pool")
        .route("prefix: /, upstream: pool")
        .upstream("pool", [web.address()]);
    let weir = Weir::start(config);
    let post = |path: &str, length: usize| {
        let mut client = Client::new(&weir);
        let body = "x".repeat(length);
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        client.receive().status()
    };
    assert_eq!(post("/", 4), 200);
    assert_eq!(post("/", 5), 413);
    assert_eq!(post("/large", 1024), 200);
    assert_eq!(post("/large", 1025), 413);
    assert_eq!(web.count(), 2);
}

#[test]
fn a_chunked_body_beyond_the_limit_does_not_reach_a_backend_whole() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]).listener("limits: {max_body: 1KiB}"));
    let mut client = Client::new(&weir);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..20 {
        if !client.0.send(format!("64\r\n{}\r\n", "x".repeat(100))) {
            break;
        }
    }
    client.0.send("0\r\n\r\n");
    assert_eq!(client.receive().status(), 413);
    assert_eq!(web.count(), 0);
}
