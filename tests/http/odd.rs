//! Backends whose responses are odd in a way that has one reading.

use crate::client::Client;
use crate::config::Config;
use crate::harness::Weir;
use crate::harness::log::STATISTICS;
use crate::web::{Answer, Web};

/// Answers with blanks where none belong, and LF for line ends.
fn odd() -> Web {
    Web::new(|_| {
        let head = "HTTP/1.1  200 OK\nX-Foo : bar\n baz\nTransfer-Encoding: chunked\n\n";
        Answer::Send(format!("{head}5   \r\nhello\r\n0   \r\n\r\n").into_bytes())
    })
}

#[test]
fn odd_responses_are_counted_by_kind_and_told_once() {
    let web = odd();
    let mut weir = Weir::start(Config::pool([web.address()]));
    let mut client = Client::new(&weir);
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.status(), answer.text()), (200, "hello".to_owned()));
        assert_eq!(answer.head.text("x-foo").as_deref(), Some("bar baz"));
    }
    assert_eq!(web.connections(), 1, "one reading is no reason to part");
    assert_eq!(weir.terminate(), Some(0));
    let line = weir.log.wait(&[STATISTICS]);
    let kinds = "; odd responses: odd status line 3, blank before a colon 3, folded field line 3, \
                 bare LF in a head 3, padded chunk size 3";
    assert!(line.ends_with(kinds), "{line}");
    let address = web.address().to_string();
    let told = ["sends odd responses: padded chunk size", &address];
    assert_eq!(weir.log.count(&told), 1);
}

#[test]
fn plain_responses_are_not_in_the_statistics_as_odd() {
    let web = Web::named("a");
    let mut weir = Weir::start(Config::pool([web.address()]));
    Client::new(&weir).get("/");
    assert_eq!(weir.terminate(), Some(0));
    weir.log.wait(&[STATISTICS]);
    assert_eq!(weir.log.count(&["odd"]), 0);
}

#[test]
fn a_check_takes_what_real_traffic_takes_and_says_what_it_does_not() {
    let (odd, bad) = (
        odd(),
        Web::new(|_| Answer::Close(b"HTTP/1.1 200 OK\r\nA B: c\r\n\r\n".to_vec())),
    );
    let checked = Config::pool([odd.address(), bad.address()])
        .with("health_check: {interval: 100ms, timeout: 100ms, path: /}");
    let weir = Weir::start(checked);
    let line = weir.log.wait(&["DOWN", &bad.address().to_string()]);
    let why = "the answer cannot be read: invalid byte in a field name";
    assert!(line.contains(why), "{line}");
    let probes = odd.count();
    crate::harness::eventually("more probes pass", || {
        (odd.count() > probes + 2).then_some(())
    });
    assert_eq!(weir.log.count(&["DOWN", &odd.address().to_string()]), 0);
    for _ in 0..4 {
        assert_eq!(Client::new(&weir).get("/").text(), "hello");
    }
}
