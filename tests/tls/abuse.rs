//! Clients that break the rules, or only begin.

use crate::edge::{Check, Edge, check, pair};
use crate::harness::{Origin, Weir, eventually};
use crate::web::Web;

const CROWD: usize = 1_000;

fn served(web: &Web) -> Weir {
    Weir::start(Edge::new().http("front", &pair("site"), web.address()))
}

#[test]
fn what_is_not_tls_is_told_so_or_closed() {
    let web = Web::named("A");
    let weir = served(&web);
    check("not_tls", &[&weir.address().port()]);
    weir.log.wait(&["HTTP where TLS is spoken"]);
    weir.log.wait(&["something else than TLS"]);
}

#[test]
fn handshakes_come_in_any_pieces() {
    let web = Web::named("A");
    let weir = served(&web);
    check("in_pieces", &[&weir.address().port()]);
}

#[test]
fn broken_records_get_an_alert_and_a_close() {
    let web = Web::named("A");
    let weir = served(&web);
    check("broken_records", &[&weir.address().port()]);
    check("flipped", &[&weir.address().port()]);
}

#[test]
fn handshakes_that_are_cut_or_damaged_anywhere_end() {
    let web = Web::named("A");
    let weir = served(&web);
    check("cut_handshakes", &[&weir.address().port()]);
}

#[test]
fn a_crowd_of_handshakes_that_do_not_go_on_is_cleared_and_holds_up_nobody() {
    let web = Web::named("A");
    let edge = Edge::new().top("timeouts: {handshake: 5s}");
    let edge = edge.http("front", &pair("site"), web.address());
    let weir = Weir::start(edge);
    let before = weir.descriptors();
    let mut crowd = Check::start("crowd", &[&weir.address().port(), &CROWD]);
    crowd.expect("ready");
    crowd.finish();
    eventually("their descriptors are free", || {
        (weir.descriptors() <= before + 2).then_some(())
    });
    weir.expect_idle();
}

#[test]
fn keys_are_changed_and_nothing_is_negotiated_anew() {
    let echo = Origin::echo();
    let weir = Weir::start(Edge::new().tcp("front", &pair("site"), echo.address()));
    let port = weir.address().port();
    check("key_update", &[&port]);
    check("renegotiation", &[&port]);
    check("after_the_end", &[&port]);
    weir.expect_idle();
}
