//! New routes and backends for connections that stay.

use std::sync::{Arc, Barrier};

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Signal, Weir, eventually};
use crate::web::{Web, ok};

#[test]
fn a_kept_connection_follows_new_routes() {
    let (a, b) = (Web::named("a"), Web::named("b"));
    let weir = Weir::start(Config::pool([a.address()]));
    let mut client = Client::new(&weir);
    assert_eq!(client.get("/").text(), "a");
    let new = Config::new()
        .route("prefix: /, upstream: pool")
        .route("prefix: /b, upstream: b")
        .upstream("pool", [a.address()])
        .upstream("b", [b.address()]);
    weir.reload(new);
    assert_eq!(client.get("/").text(), "a");
    assert_eq!(client.get("/b").text(), "b");
}

#[test]
fn a_request_in_flight_keeps_the_backend_that_was_removed() {
    let meeting = Arc::new(Barrier::new(2));
    let gate = Arc::clone(&meeting);
    let old = Web::new(move |_| {
        gate.wait();
        ok("old")
    });
    let new = Web::named("new");
    let weir = Weir::start(Config::pool([old.address()]));
    let mut client = Client::new(&weir);
    client.send_get("/", "");
    eventually("the request is under way", || {
        (old.accepted() > 0).then_some(())
    });
    weir.reload(Config::pool([new.address()]));
    assert_eq!(Client::new(&weir).get("/").text(), "new");
    meeting.wait();
    assert_eq!(client.receive().text(), "old");
    assert_eq!(client.get("/").text(), "new");
}

#[test]
fn reloads_under_load_cost_no_request() {
    let (a, b) = (Web::named("x"), Web::named("x"));
    let weir = Weir::start(Config::pool([a.address()]));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::new(&weir);
                for _ in 0..300 {
                    assert_eq!(client.get("/").text(), "x");
                }
            });
        }
        scope.spawn(|| {
            for n in 0..10 {
                let backend = if n % 2 == 0 { &b } else { &a };
                weir.reload(Config::pool([backend.address()]));
            }
        });
    });
}

#[test]
fn a_kept_connection_outlives_a_change_of_its_listener_to_tcp() {
    let a = Web::named("a");
    let weir = Weir::start(Config::pool([a.address()]));
    let mut kept = Client::new(&weir);
    assert_eq!(kept.get("/").text(), "a");
    let name = "web";
    let tcp = format!(
        "listeners: [{{name: {name}, listen: \"127.0.0.1:0\", mode: tcp, upstream: pool}}]\n\
         upstreams: {{pool: {{backends: [\"{}\"]}}}}\n",
        a.address()
    );
    weir.reload(tcp);
    assert_eq!(
        kept.get("/").text(),
        "a",
        "over the connection that spoke HTTP"
    );
    let request = Client::new(&weir).get("/");
    assert_eq!(request.text(), "a", "over a connection that is relayed");
    let relayed = a.requests().pop().expect("a request");
    assert!(
        relayed.head.values("via").is_empty(),
        "bytes are passed on as they come"
    );
}

#[test]
fn a_bad_file_leaves_the_old_routes() {
    let a = Web::named("a");
    let weir = Weir::start(Config::pool([a.address()]));
    let mut client = Client::new(&weir);
    let mark = weir.log.mark();
    weir.write_config("listeners: [{routes: [{prefix: nonsense}]}]\n");
    weir.signal(Signal::HUP);
    weir.log.wait_since(mark, &["reload"]);
    assert_eq!(client.get("/").text(), "a");
}

#[test]
fn a_backend_that_moves_takes_its_kept_connections_along() {
    let (old, new) = (Web::named("old"), Web::named("new"));
    let at = |web: &Web| Config::pool([format!("{{id: b, address: \"{}\"}}", web.address())]);
    let weir = Weir::start(at(&old));
    let mut client = Client::new(&weir);
    assert_eq!(client.get("/").text(), "old");
    weir.reload(at(&new));
    assert_eq!(client.get("/").text(), "new");
}
