//! Large bodies and clients that do not read them, or send more than was asked for.

use crate::client::Client;
use crate::config::Config;
use crate::harness::pattern::Pattern;
use crate::harness::{Origin, Weir, eventually};
use crate::web::response;
use crate::wire::Conn;

const LENGTH: usize = 24 * 1024 * 1024;

#[test]
fn a_client_that_does_not_read_holds_only_its_own_response_up() {
    let origin = Origin::new(|peer| {
        Conn::new(peer.share())
            .head()
            .map_err(std::io::Error::other)?;
        peer.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"
        ));
        peer.send_pattern(1, LENGTH);
        Ok(())
    });
    let receive = |client: &mut Client| {
        let mut expected = vec![0; LENGTH];
        Pattern::new(1).fill(&mut expected);
        let got = client.0.exactly(LENGTH).expect("the body");
        assert!(got == expected, "the body is not what was sent");
    };
    let weir =
        Weir::start(Config::pool([origin.address()]).top("buffers: {size: 64KiB, memory: 1MiB}"));
    let mut stalled = Client::new(&weir);
    stalled.send_get("/", "");
    let mut client = Client::new(&weir);
    client.send_get("/", "");
    assert!(client.0.head().is_ok());
    receive(&mut client);
    assert!(stalled.0.head().is_ok());
    receive(&mut stalled);
}

#[test]
fn what_follows_a_last_request_does_not_destroy_its_answer() {
    const LENGTH: usize = 2_000_000;
    let origin = Origin::new(|peer| {
        let mut conn = Conn::new(peer.share());
        conn.message().map_err(std::io::Error::other)?;
        conn.send(response("200 OK", "", &"x".repeat(LENGTH)));
        Ok(())
    });
    let weir = Weir::start(Config::pool([origin.address()]));
    let mut client = Client::new(&weir);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\n");
    eventually("the request is under way", || {
        (origin.accepted() > 0).then_some(())
    });
    client.send("hello\r\n");
    assert_eq!(client.receive().body.payload.len(), LENGTH);
    client.expect_end();
}
