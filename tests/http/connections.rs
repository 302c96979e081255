//! Connections on both sides: kept, shared, watched and counted.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::client::{Client, fetch};
use crate::config::Config;
use crate::harness::{Origin, Weir, eventually};
use crate::web::{Answer, Web, ok, response};

#[test]
fn one_client_connection_carries_many_requests_over_one_backend_connection() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    for n in 0..200 {
        assert_eq!(client.get(&format!("/{n}")).text(), "a");
    }
    assert_eq!((web.count(), web.connections()), (200, 1));
}

#[test]
fn clients_one_after_the_other_share_a_backend_connection() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]));
    for _ in 0..20 {
        assert_eq!(fetch(&weir, "/"), "a");
    }
    assert_eq!((web.count(), web.connections()), (20, 1));
}

#[test]
fn reuse_can_be_turned_off() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]).with("reuse: off"));
    let mut client = Client::new(&weir);
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert_eq!(web.connections(), 5);
}

#[test]
fn no_more_idle_backend_connections_are_kept_than_allowed() {
    const CLIENTS: usize = 8;
    // All are in flight at once, so that each needs a backend connection of its own.
    let meeting = Arc::new(Barrier::new(CLIENTS));
    let web = Web::new(move |_| {
        meeting.wait();
        ok("a")
    });
    let weir = Weir::start(Config::pool([web.address()]).with("reuse: {idle_connections: 2}"));
    let before = weir.descriptors();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::new(&weir)).collect();
    for client in &mut clients {
        client.send_get("/", "");
    }
    for client in &mut clients {
        assert_eq!(client.receive().text(), "a");
    }
    assert_eq!(web.connections(), CLIENTS);
    eventually("all but two are closed", || {
        (weir.descriptors() <= before + CLIENTS + 2).then_some(())
    });
}

#[test]
fn an_idle_backend_connection_is_closed_after_its_time() {
    let web = Web::named("a");
    let config = Config::pool([web.address()]).with("reuse: {idle_timeout: 200ms}");
    let weir = Weir::start(config);
    let before = weir.descriptors();
    assert_eq!(fetch(&weir, "/"), "a");
    eventually("the idle connection is closed", || {
        (weir.descriptors() <= before).then_some(())
    });
    assert_eq!(fetch(&weir, "/"), "a");
    assert_eq!(web.connections(), 2);
}

#[test]
fn a_backend_that_closes_after_each_response_costs_no_client_an_error() {
    let web = Web::new(|_| Answer::Close(response("200 OK", "", "a")));
    let weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    for _ in 0..100 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert_eq!(web.count(), 100);
}

#[test]
fn a_backend_that_says_that_it_closes_is_not_used_again() {
    let web = Web::new(|_| Answer::Send(response("200 OK", "Connection: close\r\n", "a")));
    let weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "a");
    }
    assert_eq!(web.connections(), 10);
}

#[test]
fn requests_on_one_connection_may_be_limited() {
    let web = Web::named("a");
    let config = Config::pool([web.address()]).listener("limits: {max_requests: 2}");
    let weir = Weir::start(config);
    let mut client = Client::new(&weir);
    assert!(client.get("/").head.values("connection").is_empty());
    assert_eq!(client.get("/").head.values("connection"), [b"close"]);
    client.expect_end();
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    const CLIENTS: usize = 20;
    const REQUESTS: usize = 50;
    let web = Web::new(|request| ok(&request.head.word(1)));
    let weir = Weir::start(Config::pool([web.address()]));
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            let weir = &weir;
            scope.spawn(move || {
                let mut client = Client::new(weir);
                for m in 0..REQUESTS {
                    let path = format!("/{n}/{m}");
                    assert_eq!(client.get(&path).text(), path);
                }
            });
        }
    });
    assert_eq!(web.count(), CLIENTS * REQUESTS);
}

#[test]
fn many_pipelined_requests_are_answered_in_their_order() {
    let web = Web::new(|request| ok(&request.head.word(1)));
    let weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    let requests: String = (0..300)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"))
        .collect();
    client.send(requests);
    for n in 0..300 {
        assert_eq!(client.receive().text(), format!("/{n}"));
    }
}

#[test]
fn a_client_that_ends_its_direction_after_its_last_request_gets_all_answers() {
    let web = Web::new(|request| {
        thread::sleep(Duration::from_millis(50));
        ok(&request.head.word(1))
    });
    let weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    let more = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let last = "GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    client.send([more, last].concat());
    client.0.peer().finish();
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.receive().text(), path);
    }
    client.expect_end();
}

#[test]
fn a_client_that_is_reset_is_noticed_however_much_it_has_sent_ahead() {
    let silent = Origin::new(|peer| std::io::copy(peer, &mut std::io::sink()).map(drop));
    let weir = Weir::start(Config::pool([silent.address()]));
    let before = weir.descriptors();
    let ahead = "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3000);
    let unfinished = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf".to_owned();
    for sent in [ahead, unfinished] {
        let mut client = Client::new(&weir);
        client.send(sent);
        eventually("the request is under way", || {
            (weir.descriptors() == before + 2).then_some(())
        });
        client.0.into_peer().reset();
        eventually("both sides are closed", || {
            (weir.descriptors() <= before).then_some(())
        });
    }
}

#[test]
fn a_client_that_leaves_is_no_failure_of_the_backend() {
    let web = Web::named("a");
    let config = Config::pool([web.address()]).with("passive: {failures: 1}");
    let weir = Weir::start(config);
    for _ in 0..5 {
        let mut client = Client::new(&weir);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
        client.0.into_peer().reset();
    }
    assert_eq!(fetch(&weir, "/"), "a");
}
