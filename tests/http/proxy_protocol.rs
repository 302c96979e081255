//! PROXY headers between weir and software that was not written for these tests: HAProxy and nginx,
//! on either side.

use std::net::{IpAddr, SocketAddr};

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Config as TcpConfig, Peer, Port, Scratch, Weir};
use crate::software::{Nginx, Served, haproxy, is_installed, nginx, nginx_module};
use crate::web::Web;
use crate::wire::Conn;

const FROM: &str = "proxy_protocol: {from: [127.0.0.1]}";
const VERSIONS: [&str; 2] = ["v1", "v2"];

/// Clients that are not the proxies.
fn source() -> IpAddr {
    "127.0.0.7".parse().expect("an address")
}

/// What a server says of who has asked it, on a connection of its own and on the next request.
fn asked(to: SocketAddr) -> [String; 2] {
    let peer = Peer::connect_from(source(), to).expect("it listens");
    let mut client = Client(Conn::new(peer));
    [client.get("/who").text(), client.get("/who").text()]
}

/// An HAProxy that says who it was told that its client is.
fn haproxy_tells() -> Served {
    haproxy(|own, _| {
        format!(
            "frontend it\n mode http\n bind {own} accept-proxy\n \
             http-request return status 200 content-type text/plain \
             lf-string \"%[src] %[dst]:%[dst_port]\"\n"
        )
    })
}

#[test]
fn haproxy_is_told_by_weir() {
    if !is_installed("haproxy") {
        return;
    }
    let served = haproxy_tells();
    for version in VERSIONS {
        for check in ["{}", "{path: /up}"] {
            let config = Config::pool([served.address()])
                .with(&format!("send_proxy: {version}"))
                .with(&format!("health_check: {check}"));
            let weir = Weir::start(config);
            let wanted = format!("127.0.0.7 127.0.0.1:{}", weir.address_of("web").port());
            assert_eq!(asked(weir.address_of("web")), [&*wanted, &*wanted]);
        }
        let config = TcpConfig::new()
            .upstream(&format!("send_proxy: {version}"))
            .backend(served.address());
        let weir = Weir::start(config);
        let wanted = format!("127.0.0.7 127.0.0.1:{}", weir.address().port());
        assert_eq!(asked(weir.address()), [&*wanted, &*wanted]);
    }
}

#[test]
fn nginx_is_told_by_weir() {
    if !is_installed("nginx") {
        return;
    }
    let port = Port::reserve();
    let told = "return 200 \"$proxy_protocol_addr $remote_addr $proxy_protocol_server_port\";";
    let server = format!(
        "listen {} proxy_protocol; set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;\n\
         location /who {{ {told} }}",
        port.address()
    );
    let scratch = Scratch::new();
    let root = scratch.file("");
    let _nginx = Nginx::start(&root, &server);
    for version in VERSIONS {
        let config = Config::pool([port.address()])
            .with(&format!("send_proxy: {version}"))
            .with("health_check: {path: /who}");
        let weir = Weir::start(config);
        let wanted = format!("127.0.0.7 127.0.0.7 {}", weir.address_of("web").port());
        assert_eq!(asked(weir.address_of("web")), [&*wanted, &*wanted]);
    }
}

/// What a backend of weir hears of the client, through a proxy that says this of weir.
fn heard_through(proxy: impl FnOnce(SocketAddr) -> Served, is_tcp: bool) {
    let mirror = Web::mirror();
    let web = Weir::start(Config::pool([mirror.address()]).listener(FROM));
    let to_web = web.address_of("web");
    let relay = TcpConfig::new()
        .listener(FROM)
        .upstream("send_proxy: v2")
        .backend(to_web);
    let relay = is_tcp.then(|| Weir::start(relay));
    let served = proxy(relay.as_ref().map_or(to_web, Weir::address));
    for text in asked(served.address()) {
        assert!(text.contains("X-Forwarded-For: 127.0.0.7"), "{text}");
    }
    for weir in relay.iter().chain([&web]) {
        assert_eq!(weir.log.count(&["closed:"]), 0);
    }
}

#[test]
fn weir_is_told_by_haproxy() {
    if !is_installed("haproxy") {
        return;
    }
    for how in [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority",
        "send-proxy check inter 100ms",
        "send-proxy-v2 check inter 100ms",
    ] {
        for is_tcp in [false, true] {
            let proxy = |weir: SocketAddr| {
                haproxy(|own, _| {
                    format!("listen it\n mode tcp\n bind {own}\n server weir {weir} {how}\n")
                })
            };
            heard_through(proxy, is_tcp);
        }
    }
}

#[test]
fn weir_is_told_by_nginx() {
    if !is_installed("nginx") || nginx_module("ngx_stream_module.so").is_none() {
        return;
    }
    let module = nginx_module("ngx_stream_module.so").expect("it was there");
    for is_tcp in [false, true] {
        let proxy = |weir: SocketAddr| {
            nginx(|own, folder| {
                format!(
                    "load_module {module};\ndaemon off; master_process off; pid {folder}/pid;\n\
                     error_log {folder}/error.log; events {{ }}\n\
                     stream {{ server {{ listen {own}; proxy_pass {weir}; proxy_protocol on; }} }}\n"
                )
            })
        };
        heard_through(proxy, is_tcp);
    }
}

#[test]
fn weir_between_two_haproxies_is_not_seen() {
    if !is_installed("haproxy") {
        return;
    }
    let last = haproxy_tells();
    for version in VERSIONS {
        let config = TcpConfig::new()
            .listener(FROM)
            .upstream(&format!("send_proxy: {version}"))
            .backend(last.address());
        let weir = Weir::start(config);
        let weir = weir.address();
        let first = haproxy(|own, _| {
            format!("listen it\n mode tcp\n bind {own}\n server weir {weir} send-proxy-v2\n")
        });
        let wanted = format!("127.0.0.7 {}", first.address());
        assert_eq!(asked(first.address()), [&*wanted, &*wanted]);
    }
}
