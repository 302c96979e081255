//! A weir that runs out of descriptors, or that stays within them: it waits, it never spins, and
//! nobody is told of it.

use std::time::Duration;

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Launch, Weir, observe};
use crate::web::{Web, addresses};

const CLIENTS: usize = 60;

/// Clients on kept connections that have asked, and not read their answers.
fn asking(weir: &Weir) -> Vec<Client> {
    let one = |_| {
        let mut client = Client::new(weir);
        client.send_get("/", "");
        client
    };
    (0..CLIENTS).map(one).collect()
}

/// Under two limits: with one of them the last descriptor goes to a client, and none is left for
/// its backend.
fn all_are_served(max_connections: &str) {
    for limit in ["-n 40", "-n 41"] {
        let web = Web::named("a");
        let config = Config::pool([web.address()]).top(max_connections);
        let mut weir = Launch::new(config).limits(limit).start();
        let waiting = asking(&weir);
        weir.expect_idle();
        assert!(web.count() < CLIENTS, "the limit was not reached");
        // Each makes room for the next when it leaves, and not before.
        for mut client in waiting {
            assert_eq!(client.receive().text(), "a");
            assert_eq!(client.get("/").text(), "a");
        }
        assert!(weir.runs());
    }
}

#[test]
fn clients_beyond_the_descriptors_are_all_served() {
    all_are_served("max_connections: 1000");
}

#[test]
fn clients_beyond_the_default_limit_are_all_served() {
    all_are_served("log_level: info");
}

/// Clients that come and go, and backends whose kept connections are in each other's way.
#[test]
fn load_beyond_the_descriptors_meets_no_error() {
    for limit in ["-n 40", "-n 41"] {
        let backends = ["x"; 3].map(Web::named);
        let config = Config::pool(addresses(&backends)).top("max_connections: 1000");
        let weir = Launch::new(config).limits(limit).start();
        std::thread::scope(|scope| {
            for n in 0..CLIENTS {
                let weir = &weir;
                scope.spawn(move || {
                    for _ in 0..5 {
                        let mut client = Client::new(weir);
                        for _ in 0..1 + n % 5 {
                            assert_eq!(client.get("/").text(), "x");
                        }
                        observe(Duration::from_millis(1));
                    }
                });
            }
        });
    }
}
