//! Sessions that go on from an earlier one, wherever the client comes back to.

use crate::edge::{Check, Edge, check, pair, pairs, readable_pair};
use crate::harness::{Launch, Scratch, Signal, Weir};
use crate::machine::Machine;
use crate::web::Web;

#[test]
fn tickets_are_taken_by_whoever_gave_them() {
    let web = Web::named("A");
    let weir = Weir::start(Edge::new().http("front", &pair("site"), web.address()));
    check("resumption", &[&weir.address().port(), &10]);
}

#[test]
fn tickets_are_taken_by_all_workers_and_those_after_them() {
    let web = Web::named("A");
    let edge = Edge::new().http("front", &pair("site"), web.address());
    let machine = Machine::start(&edge, 2);
    let mut clients = Check::start("resumption_over_events", &[&machine.address().port()]);
    clients.expect("ready");
    let mut resume = || {
        clients.say("again");
        clients.expect("resumed");
    };
    resume();
    machine.reload(&edge);
    resume();
    machine.reload(edge.clone().http("other", &pair("two"), web.address()));
    resume();
    for number in 0..2 {
        machine.replace_worker(number);
        resume();
    }
    for _ in 0..2 {
        let mark = machine.log.mark();
        machine.signal(Signal::USR2);
        machine.log.wait_since(mark, &["upgrade done"]);
        resume();
    }
    clients.finish();
}

#[test]
fn tickets_survive_a_reload_of_one_process() {
    let (web, copies) = (Web::named("A"), Scratch::new());
    let edge = Edge::new().http("front", &readable_pair(&copies, "site"), web.address());
    let weir = Launch::new(&edge).start();
    let mut clients = Check::start("resumption_over_events", &[&weir.address().port()]);
    clients.expect("ready");
    weir.reload(&edge);
    clients.say("again");
    clients.expect("resumed");
    clients.finish();
}

#[test]
fn tickets_are_of_no_use_elsewhere() {
    let web = Web::named("A");
    let tls = pairs(&["site", "two"]);
    let edge = Edge::new()
        .http("front", &tls, web.address())
        .http("other", &tls, web.address());
    let weir = Weir::start(edge);
    let ports = (weir.address().port(), weir.address_of("other").port());
    check("foreign_tickets", &[&ports.0, &ports.1]);
}
