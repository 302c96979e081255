//! What backends hear of clients.

use crate::client::{Client, fetch};
use crate::config::Config;
use crate::harness::Weir;
use crate::web::Web;

fn value(text: &str, name: &str) -> Option<String> {
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with(name)).collect();
    assert!(lines.len() <= 1, "{lines:?}");
    let (_, value) = lines.first()?.split_once(": ")?;
    Some(value.to_owned())
}

#[test]
fn an_ipv6_client_is_told_bare() {
    let mirror = Web::mirror();
    let config = Config::pool([mirror.address()])
        .on("[::1]:0")
        .listener("forwarded: true");
    let weir = Weir::start(config);
    let text = fetch(&weir, "/");
    assert_eq!(value(&text, "X-Forwarded-For").as_deref(), Some("::1"));
    assert_eq!(value(&text, "X-Real-IP").as_deref(), Some("::1"));
    let forwarded = value(&text, "Forwarded").unwrap_or_default();
    assert!(
        forwarded.starts_with("for=\"[::1]\";proto=http;host="),
        "{forwarded}"
    );
}

#[test]
fn a_chain_of_proxies_is_kept_only_from_who_is_trusted() {
    let mirror = Web::mirror();
    let config =
        Config::pool([mirror.address()]).listener("trusted_proxies: [127.0.0.2, 10.0.0.0/8]");
    let weir = Weir::start(config);
    let claims = "X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\nX-Forwarded-For: 10.1.1.1\r\n";
    let ask = |source: &str| {
        let mut client = Client::from(source.parse().expect("an address"), &weir);
        client.get_with("/", claims).text()
    };
    let trusted = ask("127.0.0.2");
    let chain = "6.6.6.6, 192.0.2.1, 10.1.1.1, 127.0.0.2";
    assert_eq!(value(&trusted, "X-Forwarded-For").as_deref(), Some(chain));
    assert_eq!(value(&trusted, "X-Real-IP").as_deref(), Some("192.0.2.1"));
    let stranger = ask("127.0.0.3");
    assert_eq!(
        value(&stranger, "X-Forwarded-For").as_deref(),
        Some("127.0.0.3")
    );
    assert_eq!(value(&stranger, "X-Real-IP").as_deref(), Some("127.0.0.3"));
}

#[test]
fn via_can_be_turned_off() {
    let mirror = Web::mirror();
    let weir = Weir::start(Config::pool([mirror.address()]).listener("via: off"));
    assert_eq!(value(&fetch(&weir, "/"), "Via"), None);
}

#[test]
fn the_port_that_the_client_reached_is_told() {
    let mirror = Web::mirror();
    // The kernel chooses the port.
    let weir = Weir::start(Config::pool([mirror.address()]));
    let port = weir.address_of("web").port().to_string();
    let text = Client::new(&weir)
        .get_with(
            "/",
            "X-Forwarded-Port: 666\r\nX-Forwarded-Host: evil:667\r\n",
        )
        .text();
    assert_eq!(value(&text, "X-Forwarded-Port"), Some(port));
}

#[test]
fn what_a_route_removes_is_written_by_nobody() {
    let mirror = Web::mirror();
    let weir = Weir::start(
        Config::new()
            .route(
                "prefix: /, upstream: pool, headers: {request: {remove: [X-Forwarded-For, \
                 X-Forwarded-Host, X-Forwarded-Proto, X-Forwarded-Port, X-Real-IP, Via]}}",
            )
            .upstream("pool", [mirror.address()]),
    );
    let text = Client::new(&weir)
        .get_with("/", "X-Forwarded-For: 6.6.6.6\r\nX_Real_IP: 6.6.6.6\r\n")
        .text();
    assert!(!text.to_ascii_lowercase().contains("x-forwarded"), "{text}");
    assert!(!text.contains("6.6.6.6"), "{text}");
    assert_eq!(value(&text, "X-Real-IP"), None);
    assert_eq!(value(&text, "Via"), None);
}
