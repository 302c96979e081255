//! Much, in both directions, and readers that are slow.

use crate::edge::{Edge, check, pair};
use crate::harness::{Origin, Weir};
use crate::web::{Answer, Web, ok};

const LARGE_BYTES: usize = 30 * 1024 * 1024;

#[test]
fn large_bodies_pass_both_ways() {
    let web = Web::new(|request| {
        let length = request.body.payload.len();
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.extend_from_slice(&request.body.payload);
        Answer::Send(answer)
    });
    let weir = Weir::start(Edge::new().http("front", &pair("site"), web.address()));
    check("bulk_http", &[&weir.address().port()]);
}

#[test]
fn a_relay_carries_much_for_a_client_that_writes_before_it_reads() {
    let echo = Origin::echo();
    let weir = Weir::start(Edge::new().tcp("front", &pair("site"), echo.address()));
    check("bulk_tcp", &[&weir.address().port()]);
}

#[test]
fn what_comes_at_once_passes_whole_through_buffers_of_any_size() {
    let echo = Origin::echo();
    for size in ["8KiB", "64KiB", "1MiB"] {
        let edge = Edge::new().top(&format!("buffers: {{size: {size}}}"));
        let weir = Weir::start(edge.tcp("front", &pair("site"), echo.address()));
        check("bursts", &[&weir.address().port()]);
    }
}

#[test]
fn a_slow_reader_gets_all_of_the_last_answer_and_its_end() {
    let web = Web::new(|_| ok(&"x".repeat(LARGE_BYTES)));
    let weir = Weir::start(Edge::new().http("front", &pair("site"), web.address()));
    check("slow_reader", &[&weir.address().port()]);
}
