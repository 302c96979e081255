//! Connections over reloads, upgrades and stops, and certificates that change.

use std::fs;

use crate::edge::{Check, Edge, check, file, pair, readable_pair};
use crate::harness::{Scratch, Signal, Weir};
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
