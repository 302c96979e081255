//! Slow clients beside ordinary ones.

use crate::client::Client;
use crate::config::Config;
use crate::harness::Weir;
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
