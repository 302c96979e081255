//! Tunnels: what a WebSocket needs.

use std::io::{Read, Write};

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Origin, Weir};
use crate::wire::Conn;

/// Accepts an upgrade and echoes what follows.
fn echo() -> Origin {
    Origin::new(|peer| {
        let mut conn = Conn::new(peer.share());
        let head = conn.head().map_err(std::io::Error::other)?;
        let protocol = head.text("upgrade").unwrap_or_default();
        conn.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        ));
        let mut chunk = [0; 4096];
        loop {
            match peer.read(&mut chunk)? {
                0 => return Ok(()),
                n => peer.write_all(&chunk[..n])?,
            }
        }
    })
}

fn upgraded(weir: &Weir) -> Client {
    let mut client = Client::new(weir);
    client.send_get(
        "/chat",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
    );
    let answer = client.receive();
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.head.text("upgrade").as_deref(), Some("websocket"));
    client
}

#[test]
fn bytes_of_a_tunnel_come_back_as_they_went() {
    let origin = echo();
    let weir = Weir::start(Config::pool([origin.address()]));
    let client = upgraded(&weir);
    let mut peer = client.0.into_peer();
    for seed in 0..4 {
        let mut other = peer.share();
        std::thread::scope(|scope| {
            scope.spawn(move || other.send_pattern(seed, 1 << 20));
            peer.expect_pattern(seed, 1 << 20);
        });
    }
    peer.finish();
    peer.expect_end();
}

#[test]
fn a_tunnel_outlives_the_time_of_idle_requests() {
    let origin = echo();
    let config = Config::pool([origin.address()])
        .listener("timeouts: {keep_alive: 100ms, body: 100ms, response: 100ms, header: 100ms}");
    let weir = Weir::start(config);
    let client = upgraded(&weir);
    let mut peer = client.0.into_peer();
    crate::harness::observe(std::time::Duration::from_millis(400));
    peer.send("still here");
    peer.expect("still here");
}

#[test]
fn a_tunnel_survives_a_reload() {
    let origin = echo();
    let weir = Weir::start(Config::pool([origin.address()]));
    let client = upgraded(&weir);
    let mut peer = client.0.into_peer();
    weir.reload(Config::new().route("prefix: /, respond: {body: other}"));
    peer.send("still here");
    peer.expect("still here");
}
