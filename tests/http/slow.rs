//! Slow clients beside ordinary ones.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::client::Client;
use crate::config::Config;
use crate::harness::{End, Origin, Weir, eventually};
use crate::web::Web;

const SLOW: usize = 500;

#[test]
fn clients_that_drip_their_heads_do_not_keep_others_from_being_served() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]));
    let before = weir.resident_bytes();
    let mut slow: Vec<Client> = (0..SLOW).map(|_| Client::new(&weir)).collect();
    let mut ordinary = Client::new(&weir);
    for part in ["GET / HT", "TP/1.1\r\nHo", "st: a\r\nX: "] {
        for client in &mut slow {
            client.send(part);
        }
        for _ in 0..50 {
            assert_eq!(ordinary.get("/").text(), "a");
        }
    }
    let each = (weir.resident_bytes().saturating_sub(before)) / SLOW as u64;
    assert!(each < 16 * 1024, "{each} bytes for each slow client");
    for client in &mut slow {
        client.send("1\r\n\r\n");
    }
    for client in &mut slow {
        assert_eq!(client.receive().text(), "a");
    }
}

#[test]
fn clients_that_drip_their_bodies_do_not_keep_others_from_being_served() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]));
    let mut slow: Vec<Client> = (0..50).map(|_| Client::new(&weir)).collect();
    let mut ordinary = Client::new(&weir);
    for client in &mut slow {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    }
    for byte in ["h", "e", "l", "l", "o"] {
        for client in &mut slow {
            client.send(byte);
        }
        for _ in 0..20 {
            assert_eq!(ordinary.get("/").text(), "a");
        }
    }
    for client in &mut slow {
        assert_eq!(client.receive().text(), "a");
    }
}

#[test]
fn a_client_that_stops_reading_is_not_shown_a_clean_end() {
    let body = "x".repeat(32 * 1024);
    let route = format!("prefix: /, respond: {{body: {body}}}");
    let config = Config::new()
        .route(&route)
        .listener("timeouts: {body: 300ms}");
    let weir = Weir::start(config);
    let before = weir.descriptors();
    let mut client = Client::new(&weir);
    eventually("it is accepted", || {
        (weir.descriptors() > before).then_some(())
    });
    // Few enough that weir reads them all at once, and answers that no kernel holds.
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500));
    eventually("it is given up", || {
        (weir.descriptors() <= before).then_some(())
    });
    assert_eq!(client.end().1, End::Reset);
}

#[test]
fn an_answer_does_not_overtake_an_interim_one_that_waits_for_the_client() {
    const HINTS: usize = 4_000;
    let hint = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n",
        "l".repeat(8_000)
    );
    let sent = Arc::new(AtomicUsize::new(0));
    let (line, count) = (hint.clone(), Arc::clone(&sent));
    let origin = Origin::new(move |peer| {
        for _ in 0..HINTS {
            peer.write_all(line.as_bytes())?;
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let weir = Weir::start(Config::pool([origin.address()]));
    let mut client = Client::new(&weir);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut last = 0;
    eventually("the client takes no more", || {
        let now = sent.load(Ordering::SeqCst);
        let is_stuck = now > 100 && now == std::mem::replace(&mut last, now);
        is_stuck.then_some(())
    });
    client.send("bad\n");
    let (bytes, _) = client.end();
    let mut rest = &bytes[..];
    while let Some(after) = rest.strip_prefix(hint.as_bytes()) {
        rest = after;
    }
    assert!(rest.starts_with(b"HTTP/1.1 400 "), "{}", rest.len());
}
