//! Every way to say where weir listens and where a backend is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::harness::log::LISTENING;
use crate::harness::{Config, Gate, Launch, Named, Peer, Scratch, Signal, Weir, ask};

/// A backend on ::1, or none, said aloud, when the host has no IPv6.
fn on_ipv6(name: &str) -> Option<Named> {
    let origin = Named::on_address(Ipv6Addr::LOCALHOST.into(), name);
    if let Err(error) = &origin {
        eprintln!("not tested: no ::1 on this host ({error})");
    }
    origin.ok()
}

#[test]
fn an_address_without_a_host_takes_ipv4_and_ipv6() {
    if on_ipv6("probe").is_none() {
        return;
    }
    let origin = Named::new("A");
    let weir = Weir::start(Config::on(":0").backend(origin.address()));
    let port = weir.address().port();
    for ip in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        let mut client = Peer::connect(SocketAddr::new(ip, port)).expect("weir listens");
        assert_eq!(ask(&mut client), "A", "{ip}");
    }
}

#[test]
fn an_ipv6_listener_serves_an_ipv6_backend() {
    let Some(origin) = on_ipv6("A") else { return };
    let weir = Weir::start(Config::on("[::1]:0").backend(origin.address()));
    assert!(weir.address().is_ipv6());
    assert_eq!(ask(&mut weir.connect()), "A");
}

#[test]
fn a_unix_listener_serves_and_can_be_opened_again_after_a_stop() {
    let origin = Named::new("A");
    let scratch = Scratch::new();
    let path = scratch.file("front.sock");
    let name = format!("unix:{}", path.display());
    for _ in 0..2 {
        let mut weir = Weir::start(Config::on(&name).backend(origin.address()));
        weir.log.wait(&[LISTENING, &name, "(listener front)"]);
        let mut client = Peer::connect_unix(&path).expect("weir listens");
        assert_eq!(ask(&mut client), "A");
        client.finish();
        client.expect_end();
        assert_eq!(weir.terminate(), Some(0));
    }
}

#[test]
fn a_unix_socket_left_by_a_crash_is_replaced() {
    let origin = Named::new("A");
    let scratch = Scratch::new();
    let path = scratch.file("front.sock");
    let config = Config::on(&format!("unix:{}", path.display())).backend(origin.address());
    let mut crashed = Weir::start(&config);
    crashed.signal(Signal::KILL);
    crashed.wait_status();
    assert!(path.exists());
    let _weir = Weir::start(&config);
    let mut client = Peer::connect_unix(&path).expect("weir listens");
    assert_eq!(ask(&mut client), "A");
}

#[test]
fn a_unix_socket_in_use_is_not_taken() {
    let origin = Named::new("A");
    let scratch = Scratch::new();
    let path = scratch.file("front.sock");
    let config = Config::on(&format!("unix:{}", path.display())).backend(origin.address());
    let _first = Weir::start(&config);
    let mut second = Launch::new(&config).spawn();
    assert_eq!(second.wait_exit(), Some(3));
    let mut client = Peer::connect_unix(&path).expect("the first still listens");
    assert_eq!(ask(&mut client), "A");
}

#[test]
fn a_file_that_is_no_socket_is_not_replaced_by_one() {
    let scratch = Scratch::new();
    let path = scratch.write("front.sock", "precious");
    let config = Config::on(&format!("unix:{}", path.display())).backend("127.0.0.1:9001");
    let mut weir = Launch::new(config).spawn();
    assert_eq!(weir.wait_exit(), Some(1));
    let text = std::fs::read_to_string(&path).expect("it is still there");
    assert_eq!(text, "precious");
}

#[test]
fn a_unix_backend_is_served() {
    let scratch = Scratch::new();
    let gate = Gate::unix(&scratch.file("back.sock"));
    let weir = Weir::start(Config::new().backend(gate.name()));
    let mut client = weir.connect();
    let mut backend = gate.accept();
    client.send("request");
    client.finish();
    backend.expect("request");
    backend.expect_end();
    backend.send("response");
    backend.finish();
    client.expect("response");
    client.expect_end();
}

#[test]
fn a_unix_backend_that_is_not_there_is_passed_over() {
    let scratch = Scratch::new();
    let good = Named::new("good");
    let missing = format!("unix:{}", scratch.file("missing.sock").display());
    let weir = Weir::start(Config::new().backend(missing).backend(good.address()));
    for _ in 0..4 {
        assert_eq!(ask(&mut weir.connect()), "good");
    }
}

#[test]
fn a_backend_may_be_a_name_and_a_port() {
    // The name may stand for 127.0.0.1, for ::1 or for both.
    let any = Named::on_address(Ipv6Addr::UNSPECIFIED.into(), "A")
        .or_else(|_| Named::on_address(Ipv4Addr::UNSPECIFIED.into(), "A"))
        .expect("a free port");
    let backend = format!("localhost:{}", any.address().port());
    let weir = Weir::start(Config::new().backend(backend));
    let answer = crate::harness::eventually("the name is resolved", || {
        let mut client = crate::harness::Peer::connect(weir.address()).ok()?;
        crate::harness::try_ask(&mut client).ok()
    });
    assert_eq!(answer, "A");
}

#[test]
fn a_name_that_does_not_resolve_is_logged_and_does_not_stop_weir() {
    let good = Named::new("good");
    let config = Config::new()
        .backend("no-such-host.invalid:80")
        .backend(good.address());
    let mut weir = Weir::start(config);
    weir.log.wait(&["no-such-host.invalid"]);
    for _ in 0..4 {
        assert_eq!(ask(&mut weir.connect()), "good");
    }
    assert!(weir.runs());
}

#[test]
fn a_weir_whose_only_backend_does_not_resolve_starts_and_closes_clients() {
    let mut weir = Weir::start(Config::new().backend("no-such-host.invalid:80"));
    weir.log.wait(&["no-such-host.invalid"]);
    weir.expect_turned_away();
    assert!(weir.runs());
}

#[test]
fn a_socket_that_is_not_there_is_called_that() {
    let scratch = Scratch::new();
    let missing = format!("unix:{}", scratch.file("missing.sock").display());
    let config = Config::new().backend(&missing).checked("rise: 2");
    let mut weir = Weir::start(config);
    weir.expect_turned_away();
    weir.log.wait(&["DOWN after", "there is no such socket"]);
    assert!(weir.runs());
}

#[test]
fn several_listeners_share_an_upstream() {
    let [a, b] = ["A", "B"].map(Named::new);
    let config = Config::new()
        .listen("side", "127.0.0.2:0")
        .backend(a.address())
        .backend(b.address());
    let weir = Weir::start(config);
    let mut first = weir.connect();
    let mut second = Peer::connect(weir.address_of("side")).expect("weir listens");
    assert_eq!(ask(&mut first) + &ask(&mut second), "AB");
}
