//! How connections end: by a mark, which only a whole one has.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::edge::{Check, Edge, check, file, pair};
use crate::harness::{End, Origin, Weir, eventually};
use crate::web::{Answer, Web, response};
use crate::wire::Conn;

#[test]
fn either_side_of_a_relay_may_end_first() {
    let (echo, (told, heard)) = (Origin::echo(), mpsc::channel());
    let last = Origin::new(|peer| {
        let mut got = Vec::new();
        peer.read_to_end(&mut got)?;
        peer.write_all(format!("{} bytes", got.len()).as_bytes())
    });
    let first = Origin::new(move |peer| {
        peer.write_all(b"bye")?;
        peer.socket().shutdown(Shutdown::Write)?;
        let (got, end) = peer.end();
        told.send((got.len(), end)).expect("the test waits");
        Ok(())
    });
    let edge = Edge::new()
        .tcp("front", &pair("site"), echo.address())
        .tcp("last", &pair("site"), last.address())
        .tcp("first", &pair("site"), first.address());
    let weir = Weir::start(edge);
    let port = |listener| weir.address_of(listener).port();
    check(
        "relay_ends",
        &[&port("front"), &port("last"), &port("first")],
    );
    for _ in 0..2 {
        assert_eq!(heard.recv(), Ok((100_000, End::Clean)));
    }
}

#[test]
fn what_a_client_cuts_is_not_ended_for_the_backend() {
    let (told, heard) = mpsc::channel();
    let backend = Origin::new(move |peer| {
        peer.expect(b"half of it");
        peer.write_all(b"seen")?;
        told.send(peer.end()).expect("the test waits");
        Ok(())
    });
    let weir = Weir::start(Edge::new().tcp("front", &pair("site"), backend.address()));
    check("cut_up", &[&weir.address().port()]);
    for _ in 0..2 {
        assert_eq!(heard.recv(), Ok((Vec::new(), End::Reset)));
    }
}

#[test]
fn what_a_backend_resets_is_not_ended_for_the_client() {
    let backend = Origin::new(|peer| {
        peer.read_line()?;
        peer.write_all(&[b'x'; 100_000])?;
        peer.share().reset();
        Ok(())
    });
    let weir = Weir::start(Edge::new().tcp("front", &pair("site"), backend.address()));
    check("cut_down", &[&weir.address().port()]);
}

/// Of an answer that takes longer than one write.
const LONG_BYTES: usize = 300_000;

/// Answers by the path: whole, or cut in some way.
fn careless() -> Origin {
    Origin::new(|peer| {
        let mut conn = Conn::new(peer.share());
        while let Ok(request) = conn.message() {
            let path = request.head.word(1);
            let head = "HTTP/1.1 200 OK\r\n";
            let text = match path.as_str() {
                "/whole" => format!("{head}\r\nby close"),
                "/closing" => format!("{head}Content-Length: 8\r\n\r\na length"),
                "/reset" => format!("{head}\r\nby close"),
                "/short" | "/short-reset" => format!("{head}Content-Length: 99\r\n\r\nshort"),
                _ => format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"),
            };
            conn.send(text);
            if path.ends_with("reset") {
                conn.into_peer().reset();
                break;
            }
            if path != "/closing" {
                break;
            }
        }
        Ok(())
    })
}

#[test]
fn only_a_whole_answer_is_ended() {
    let backend = careless();
    let weir = Weir::start(Edge::new().http("front", &pair("site"), backend.address()));
    check("answers_by_close", &[&weir.address().port()]);
}

#[test]
fn what_is_behind_the_end_of_a_client_costs_no_answer() {
    let long = "x".repeat(LONG_BYTES);
    let body = long.clone();
    let web = Web::new(move |_| Answer::Send(response("200 OK", "", &body)));
    let backend = Origin::new(move |peer| {
        peer.read_line()?;
        let (_, end) = peer.end();
        assert_eq!(end, End::Clean);
        // What comes meanwhile is there when it ends.
        thread::sleep(Duration::from_millis(50));
        peer.write_all(long.as_bytes())
    });
    let edge = Edge::new().http("http", &pair("site"), web.address()).tcp(
        "tcp",
        &pair("site"),
        backend.address(),
    );
    let weir = Weir::start(edge);
    let port = |listener| weir.address_of(listener).port();
    check("junk_behind_the_end", &[&port("http"), &port("tcp")]);
    weir.expect_idle();
}

#[test]
fn what_is_behind_the_end_of_a_client_costs_no_answer_that_is_on_its_way() {
    // As `LATE_BYTES` of the script.
    let long = "x".repeat(8 * 1024 * 1024);
    let body = long.clone();
    let web = Web::new(move |_| Answer::Send(response("200 OK", "", &body)));
    let backend = Origin::new(move |peer| {
        peer.read_line()?;
        assert_eq!(peer.end().1, End::Clean);
        peer.write_all(long.as_bytes())
    });
    let edge = Edge::new().http("http", &pair("site"), web.address());
    let weir = Weir::start(edge.tcp("tcp", &pair("site"), backend.address()));
    let port = |listener| weir.address_of(listener).port();
    check("late_junk", &[&port("http"), &port("tcp")]);
    weir.expect_idle();
}

/// Weir with these listeners before a backend with TLS on that port.
fn before_tls(backend: &str, listeners: &[(&str, &str, &str)]) -> Weir {
    let listener = |(name, mode, tls): &(&str, &str, &str)| {
        format!("  - {{name: {name}, listen: \"127.0.0.1:0\", mode: {mode}, upstream: it{tls}}}\n")
    };
    let listeners: String = listeners.iter().map(listener).collect();
    Weir::start(format!(
        "stats_interval: 0\nlisteners:\n{listeners}upstreams:\n  it: {{backends: \
         [\"127.0.0.1:{backend}\"], retries: off, passive: off, tls: {{ca: {}, server_name: \
         site.example}}}}\n",
        file("ca.pem").display(),
    ))
}

#[test]
fn what_is_behind_the_end_of_a_backend_is_no_ones() {
    let mut check = Check::start("junk_of_a_backend", &[]);
    let secure = format!(", tls: {{{}}}", pair("site"));
    let listeners = [
        ("plain", "http", ""),
        ("secure", "http", &secure),
        ("tcp", "tcp", &secure),
    ];
    let weir = before_tls(&check.line(), &listeners);
    let port = |listener| weir.address_of(listener).port();
    check.say(&format!(
        "{} {} {}",
        port("plain"),
        port("secure"),
        port("tcp")
    ));
    check.finish();
    weir.expect_idle();
}

#[test]
fn what_is_on_its_way_to_both_sides_reaches_both() {
    let mut check = Check::start("late_both_ways", &[]);
    let secure = format!(", tls: {{{}}}", pair("site"));
    let weir = before_tls(&check.line(), &[("tcp", "tcp", &secure)]);
    check.say(&weir.address_of("tcp").port().to_string());
    check.finish();
    weir.expect_idle();
}

#[test]
fn answers_that_are_cut_at_any_byte_are_not_whole() {
    let mut check = Check::start("cut_answers", &[]);
    let secure = format!(", tls: {{{}}}", pair("site"));
    let listeners = [("plain", "http", ""), ("secure", "http", &secure)];
    let weir = before_tls(&check.line(), &listeners);
    let port = |listener| weir.address_of(listener).port();
    check.say(&format!("{} {}", port("plain"), port("secure")));
    check.finish();
}

#[test]
fn clients_that_leave_without_a_word_between_requests_have_just_left() {
    let web = Web::named("A");
    let weir = Weir::start(Edge::new().http("front", &pair("site"), web.address()));
    check("silent_ends", &[&weir.address().port()]);
    eventually("all four sessions end", || {
        (weir.log.count(&["session of ", " ended: "]) == 4).then_some(())
    });
    assert_eq!(weir.log.count(&["reset by client"]), 0);
}

#[test]
fn connections_are_kept_and_requests_may_come_ahead() {
    let web = Web::new(|request| {
        let start = String::from_utf8_lossy(&request.head.start);
        Answer::Send(response("200 OK", "", &start))
    });
    let weir = Weir::start(Edge::new().http("front", &pair("site"), web.address()));
    check("keep_alive", &[&weir.address().port()]);
    check("ahead_of_bodies", &[&weir.address().port()]);
}
