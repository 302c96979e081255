//! Which backend a connection goes to, seen from the answers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::harness::log::{DOWN, UP};
use crate::harness::{Config, Named, Origin, Peer, Port, Weir, ask, eventually};

/// The backends that answer so many sequential connections, in order.
fn sequence(weir: &Weir, connections: usize) -> String {
    let one = |_| ask(&mut weir.connect());
    (0..connections).map(one).collect()
}

#[test]
fn round_robin_goes_through_equal_backends_in_the_order_of_the_file() {
    let origins = ["A", "B", "C"].map(Named::new);
    let mut config = Config::new().upstream("algorithm: round_robin");
    for origin in &origins {
        config = config.backend(origin.address());
    }
    assert_eq!(sequence(&Weir::start(config), 9), "ABCABCABC");
}

#[test]
fn weights_five_three_two_are_spread_smoothly() {
    let [a, b, c] = ["A", "B", "C"].map(Named::new);
    let config = Config::new()
        .upstream("algorithm: round_robin")
        .backend_with(a.address(), "weight: 5")
        .backend_with(b.address(), "weight: 3")
        .backend_with(c.address(), "weight: 2");
    let weir = Weir::start(config);
    assert_eq!(sequence(&weir, 30), "ABCAABACBA".repeat(3));
}

#[test]
fn weight_zero_gets_nothing() {
    for algorithm in ["round_robin", "least_conn", "ip_hash", "random_two"] {
        let [a, b] = ["A", "B"].map(Named::new);
        let config = Config::new()
            .upstream(&format!("algorithm: {algorithm}"))
            .backend_with(a.address(), "weight: 0")
            .backend(b.address());
        let weir = Weir::start(config);
        assert_eq!(sequence(&weir, 8), "BBBBBBBB", "{algorithm}");
    }
}

#[test]
fn a_dead_backend_leaves_its_share_to_the_others_in_proportion() {
    let dead = Port::reserve();
    let [b, c] = ["B", "C"].map(Named::new);
    let config = Config::new()
        .backend_with(dead.address(), "weight: 5")
        .backend_with(b.address(), "weight: 2")
        .backend_with(c.address(), "weight: 1")
        .checked("rise: 2, fall: 1");
    let weir = Weir::start(config);
    weir.log.wait(&[DOWN, &dead.address().to_string()]);
    let seen = sequence(&weir, 30);
    assert_eq!(seen.matches('B').count(), 20, "{seen}");
    assert_eq!(seen.matches('C').count(), 10, "{seen}");
}

#[test]
fn least_conn_spreads_connections_that_stay() {
    let origins = ["A", "B", "C"].map(Named::new);
    let mut config = Config::new().upstream("algorithm: least_conn");
    for origin in &origins {
        config = config.backend(origin.address());
    }
    let weir = Weir::start(config);
    let mut held = Vec::new();
    for _ in 0..9 {
        let mut client = weir.connect();
        ask(&mut client);
        held.push(client);
    }
    assert_eq!(origins.each_ref().map(Named::asked), [3, 3, 3]);
}

#[test]
fn least_conn_heeds_weights() {
    let [a, b] = ["A", "B"].map(Named::new);
    let config = Config::new()
        .upstream("algorithm: least_conn")
        .backend_with(a.address(), "weight: 3")
        .backend_with(b.address(), "weight: 1");
    let weir = Weir::start(config);
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut client = weir.connect();
        ask(&mut client);
        held.push(client);
    }
    assert_eq!((a.asked(), b.asked()), (6, 2));
}

#[test]
fn least_conn_breaks_ties_in_turn() {
    let origins = ["A", "B", "C", "D"].map(Named::new);
    let mut config = Config::new().upstream("algorithm: least_conn");
    for origin in &origins {
        config = config.backend(origin.address());
    }
    let weir = Weir::start(config);
    let mut seen: Vec<char> = Vec::new();
    for _ in 0..4 {
        let mut client = weir.connect();
        seen.extend(ask(&mut client).chars());
        client.finish();
        client.expect_end();
    }
    seen.sort_unstable();
    assert_eq!(seen, ['A', 'B', 'C', 'D']);
}

#[test]
fn least_conn_forgets_connections_that_ended() {
    let [a, b] = ["A", "B"].map(Named::new);
    let config = Config::new()
        .upstream("algorithm: least_conn")
        .backend(a.address())
        .backend(b.address());
    let weir = Weir::start(config);
    let (mut on_a, mut on_b) = (Vec::new(), Vec::new());
    for _ in 0..8 {
        let mut client = weir.connect();
        match ask(&mut client).as_str() {
            "A" => on_a.push(client),
            _ => on_b.push(client),
        }
    }
    assert_eq!((on_a.len(), on_b.len()), (4, 4));
    on_a.clear();
    // weir learns of each end in its own time. Once it has, A has room for four before B is next.
    let mut again = Vec::new();
    eventually("four in a row go to A", || {
        again.clear();
        for _ in 0..4 {
            let mut client = weir.connect();
            if ask(&mut client) != "A" {
                return None;
            }
            again.push(client);
        }
        Some(())
    });
}

/// Sources of clients; every address of 127/8 is this host.
fn sources() -> impl Iterator<Item = IpAddr> {
    (1..=60).map(|n| Ipv4Addr::new(127, 0, 1, n).into())
}

/// Which backend each source reaches.
fn map(address: SocketAddr) -> BTreeMap<IpAddr, String> {
    let one = |source| {
        let mut client = Peer::connect_from(source, address).expect("weir listens");
        (source, ask(&mut client))
    };
    sources().map(one).collect()
}

fn hashed<'a>(origins: impl IntoIterator<Item = &'a Named>) -> Config {
    let mut config = Config::new().upstream("algorithm: ip_hash");
    for origin in origins {
        config = config.backend(origin.address());
    }
    config
}

#[test]
fn ip_hash_keeps_a_client_on_its_backend() {
    let origins = ["A", "B", "C"].map(Named::new);
    let weir = Weir::start(hashed(&origins));
    let first = map(weir.address());
    assert_eq!(map(weir.address()), first);
    for origin in &origins {
        assert!(
            origin.asked() > 0,
            "all of the clients share fewer backends"
        );
    }
}

#[test]
fn ip_hash_agrees_between_processes_restarts_and_orders_of_the_file() {
    let origins = ["A", "B", "C"].map(Named::new);
    let first = map(Weir::start(hashed(&origins)).address());
    let one = Weir::start(hashed(&origins));
    let other = Weir::start(hashed(origins.iter().rev()));
    assert_eq!(map(one.address()), first);
    assert_eq!(map(other.address()), first);
}

#[test]
fn ip_hash_moves_only_the_clients_of_a_dead_backend() {
    let origins = ["A", "B", "C"].map(Named::new);
    let check = "rise: 1, fall: 1";
    let weir = Weir::start(hashed(&origins).checked(check));
    let first = map(weir.address());
    origins[1].kill();
    let name = origins[1].address().to_string();
    weir.log.wait(&[DOWN, &name]);
    let second = map(weir.address());
    for (source, backend) in &first {
        if backend == "B" {
            assert_ne!(second[source], "B");
        } else {
            assert_eq!(&second[source], backend, "{source} was moved");
        }
    }
    let mark = weir.log.mark();
    origins[1].resume();
    weir.log.wait_since(mark, &[UP, &name]);
    assert_eq!(map(weir.address()), first);
}

#[test]
fn an_id_keeps_the_share_of_a_backend_that_moves() {
    let origins = ["A", "B", "C"].map(Named::new);
    let config = |origins: &[Named; 3]| {
        let mut config = Config::new().upstream("algorithm: ip_hash");
        for (n, origin) in origins.iter().enumerate() {
            config = config.backend_with(origin.address(), &format!("id: node{n}"));
        }
        config
    };
    let first = map(Weir::start(config(&origins)).address());
    let moved = ["A", "B", "C"].map(Named::new);
    assert_eq!(map(Weir::start(config(&moved)).address()), first);
}

#[test]
fn random_two_reaches_every_backend() {
    let origins = ["A", "B", "C"].map(Named::new);
    let mut config = Config::new().upstream("algorithm: random_two");
    for origin in &origins {
        config = config.backend(origin.address());
    }
    let weir = Weir::start(config);
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut client = weir.connect();
        ask(&mut client);
        held.push(client);
    }
    for origin in &origins {
        assert!(origin.asked() >= 10, "{} of 60", origin.asked());
    }
}

#[test]
fn a_full_backend_leaves_connections_to_the_others() {
    let [a, b] = ["A", "B"].map(Named::new);
    let config = Config::new()
        .backend_with(a.address(), "max_connections: 1")
        .backend(b.address());
    let weir = Weir::start(config);
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut client = weir.connect();
        ask(&mut client);
        held.push(client);
    }
    assert_eq!((a.asked(), b.asked()), (1, 5));
}

#[test]
fn an_origin_that_only_echoes_is_reached_as_well() {
    // The other tests see a backend by its name; this is the check on the harness itself.
    let origin = Origin::echo();
    let weir = Weir::start(Config::new().backend(origin.address()));
    let mut client = weir.connect();
    assert_eq!(ask(&mut client), "who");
}
