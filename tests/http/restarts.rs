//! nginx killed without warning and started again under load: who only asks never hears of it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Scratch, Weir, eventually};
use crate::software::{Nginx, is_installed};

const CLIENTS: usize = 8;

/// Clients that ask on kept connections, and which backend answered how often.
struct Load {
    stop: AtomicBool,
    served: [AtomicUsize; 3],
    failed: Mutex<Vec<String>>,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: AtomicBool::new(false),
            served: [const { AtomicUsize::new(0) }; 3],
            failed: Mutex::default(),
        }
    }

    fn run(&self, weir: &Weir) {
        let mut client = Client::new(weir);
        while !self.stop.load(Ordering::SeqCst) {
            client.send_get("/", "");
            match client.0.message() {
                Ok(answer) if answer.status() == 200 => {
                    let name: usize = answer.text().parse().expect("a name");
                    self.served[name].fetch_add(1, Ordering::SeqCst);
                }
                Ok(answer) => return self.fail(format!("{} {}", answer.status(), answer.text())),
                Err(why) => return self.fail(why),
            }
        }
    }

    fn fail(&self, why: String) {
        self.failed.lock().expect("no holder panics").push(why);
    }

    fn served(&self) -> usize {
        (0..3).map(|name| self.served_by(name)).sum()
    }

    fn served_by(&self, name: usize) -> usize {
        self.served[name].load(Ordering::SeqCst)
    }

    /// Waits for more answers. A client that failed has stopped, and ends the wait.
    fn wait_more(&self, count: impl Fn() -> usize, more: usize) {
        let goal = count() + more;
        eventually("the load goes on", || {
            let has_failed = !self.failed.lock().expect("no holder panics").is_empty();
            (has_failed || count() >= goal).then_some(())
        });
    }
}

/// Stops the clients even when the test fails, as they are waited for.
struct Stop<'a>(&'a Load);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }
}

/// Kills each of three backends in turn. Where they `all_return` as soon as they run again, waits
/// for it, so that two are healthy when the next one is killed; where one stays ejected for a
/// while, no other can be.
fn kill_and_restart(upstream: &str, rounds: usize, all_return: bool) {
    if !is_installed("nginx") {
        return;
    }
    let scratch = Scratch::new();
    let mut backends: Vec<Nginx> = (0..3)
        .map(|name| {
            let server = format!("location / {{ return 200 \"{name}\"; }}");
            Nginx::start(&scratch.file(""), &server)
        })
        .collect();
    let weir = Weir::start(Config::pool(backends.iter().map(Nginx::name)).with(upstream));
    let load = Load::new();
    std::thread::scope(|scope| {
        let _stop = Stop(&load);
        for _ in 0..CLIENTS {
            scope.spawn(|| load.run(&weir));
        }
        load.wait_more(|| load.served(), 100);
        for round in 0..rounds {
            let name = round % 3;
            backends[name].kill();
            load.wait_more(|| load.served(), 300);
            backends[name].resume();
            load.wait_more(|| load.served(), 300);
            if all_return {
                load.wait_more(|| load.served_by(name), 10);
            }
        }
    });
    let failed = load.failed.lock().expect("no holder panics");
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_backend_that_is_killed_under_load_costs_no_get_an_error() {
    kill_and_restart("algorithm: round_robin", 9, false);
}

#[test]
fn nor_where_it_is_asked_again_and_again() {
    kill_and_restart("passive: off", 9, true);
}

#[test]
fn nor_where_checks_bring_it_back() {
    let checks = "path: /, interval: 2s, timeout: 2s, fast_interval: 100ms, down_interval: 100ms";
    kill_and_restart(&format!("health_check: {{{checks}}}"), 3, true);
}
