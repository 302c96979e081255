//! Connections over reloads, upgrades and stops, and certificates that change.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::edge::{Check, Edge, check, file, pair, readable_pair};
use crate::harness::{PATIENCE, Scratch, Signal, Weir};
use crate::machine::Machine;
use crate::web::Web;

#[test]
fn open_connections_go_on_over_a_reload_and_end_marked_at_a_stop() {
    let (web, copies) = (Web::named("A"), Scratch::new());
    let (site, two) = (
        readable_pair(&copies, "site"),
        readable_pair(&copies, "two"),
    );
    let edge = Edge::new().http("front", &site, web.address());
    let mut weir = Weir::start(&edge);
    let mut clients = Check::start("held_open", &[&weir.address().port()]);
    clients.expect("ready");
    for edge in [edge.clone(), edge.http("other", &two, web.address())] {
        weir.reload(&edge);
        clients.say("get");
        clients.expect("done");
    }
    weir.signal(Signal::TERM);
    clients.say("end");
    clients.expect("done");
    clients.finish();
    assert_eq!(weir.wait_exit(), Some(0));
}

#[test]
fn connections_come_and_go_while_it_is_upgraded() {
    let web = Web::named("A");
    let machine = Machine::start(Edge::new().http("front", &pair("site"), web.address()), 2);
    let mut clients = Check::start("requests", &[&machine.address().port(), &200]);
    clients.expect("ready");
    for _ in 0..2 {
        let mark = machine.log.mark();
        machine.signal(Signal::USR2);
        machine.log.wait_since(mark, &["upgrade done"]);
    }
    clients.finish();
}

#[test]
fn a_renewed_certificate_is_served_after_a_reload() {
    let (web, files) = (Web::named("A"), Scratch::new());
    let renew = |name: &str| {
        for kind in ["pem", "key"] {
            let from = file(&format!("{name}.{kind}"));
            let text = fs::read(from).expect("it is there");
            files.write(&format!("own.{kind}"), text);
        }
    };
    renew("site-rsa");
    let (own, key) = (files.file("own.pem"), files.file("own.key"));
    let tls = format!("certificate: {}, key: {}", own.display(), key.display());
    let edge = Edge::new().http("front", &tls, web.address());
    let machine = Machine::start(&edge, 2);
    let port = machine.address().port();
    check("certificate", &[&port, &"site.example", &"localhost"]);
    renew("two");
    check("certificate", &[&port, &"site.example", &"localhost"]);
    machine.reload(&edge);
    check("certificate", &[&port, &"two.example"]);
}

/// What comes from there up to that, or to the end.
fn received(from: &mut TcpStream, wanted: Option<&str>) -> String {
    let mut got = String::new();
    let mut byte = [0];
    while wanted.is_none_or(|wanted| !got.ends_with(wanted))
        && from.read(&mut byte).expect("it goes on") > 0
    {
        got.push(char::from(byte[0]));
    }
    got
}

#[test]
fn clients_in_the_clear_are_sent_away_once_their_listener_has_tls() {
    let (web, copies) = (Web::named("A"), Scratch::new());
    let site = readable_pair(&copies, "site-rsa");
    let config = |tls: &str| {
        format!(
            "listeners: [{{name: front, listen: \"127.0.0.1:0\", mode: http, tls: {tls}, hsts: 1d, \
             upstream: web}}]\nupstreams: {{web: {{backends: [\"{}\"]}}}}\n",
            web.address()
        )
    };
    let weir = Weir::start(config("off"));
    let request = "GET / HTTP/1.1\r\nHost: site.example\r\n\r\n";
    let [mut idle, mut begun] = [(); 2].map(|()| {
        let mut client = TcpStream::connect(weir.address()).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("a time");
        client.write_all(request.as_bytes()).expect("taken");
        assert!(received(&mut client, Some("\r\n\r\nA")).starts_with("HTTP/1.1 200"));
        client
    });
    let (first, rest) = request.split_at(20);
    begun.write_all(first.as_bytes()).expect("taken");
    let seen = web.count();
    weir.reload(config(&format!("{{{site}}}")));
    assert_eq!(received(&mut idle, None), "", "it is closed without a word");
    begun.write_all(rest.as_bytes()).expect("taken");
    let answer = received(&mut begun, None);
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    assert!(!answer.contains("Strict-Transport-Security"), "{answer}");
    assert_eq!(web.count(), seen, "no backend has seen it");
    check(
        "certificate",
        &[&weir.address().port(), &"site.example", &"localhost"],
    );
}
