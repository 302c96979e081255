//! What an administrator does while there is load: a thousand actions drawn from a seed, over
//! several workers. No request is lost but those that are kicked, each goes where it may, and what
//! is counted is exact. `WEIR_SIM_SEEDS` says of how many seeds one in a hundred runs, and
//! `WEIR_SIM_SEED` replays one.

use std::fmt::Write as _;

use weir::board::{BackendCell, CodeClass, ListenerCell};
use weir::core::backend::Service;

use crate::machine::Machine;
use crate::net::{PeerId, Settings};
use crate::replay::{each_seed, told};
use crate::rig::{LISTENER, origin};
use crate::scenario::Draw;

const SEEDS: u64 = 4;
const ACTIONS: usize = 1_000;
const WORKERS: usize = 3;
const BACKENDS: usize = 4;
const CLIENTS_MAX: usize = 30;
const STEP_MS_MAX: u64 = 20;

#[test]
fn a_thousand_actions_under_load_lose_no_request_but_those_that_are_kicked() {
    // Each takes as long as a hundred of other tests.
    each_seed(SEEDS, 100, |seed| told(seed, || Play::new(seed).run()));
}

/// How an administrator has a backend.
#[derive(Clone, Copy, Debug)]
struct Steered {
    is_there: bool,
    service: Service,
    weight: Option<u32>,
}

impl Steered {
    const AS_IN_FILE: Self = Self {
        is_there: true,
        service: Service::Full,
        weight: None,
    };

    fn takes_new(self) -> bool {
        self.is_there && self.service == Service::Full && self.weight != Some(0)
    }
}

/// A client, with the request that it waits for the answer of.
#[derive(Debug)]
struct Client {
    peer: PeerId,
    heard: usize,
    asks: Option<Ask>,
}

#[derive(Clone, Copy, Debug)]
struct Ask {
    number: u64,
    /// The backends that it may go to.
    allowed: [bool; BACKENDS],
    /// The one that has it.
    at: Option<usize>,
}

/// A connection to a backend, and the request on it that is not answered yet.
#[derive(Debug)]
struct Connection {
    backend: usize,
    peer: PeerId,
    heard: usize,
    asked: Option<u64>,
}

struct Play {
    draw: Draw,
    machine: Machine,
    algorithm: &'static str,
    backends: [Steered; BACKENDS],
    clients: Vec<Client>,
    connections: Vec<Connection>,
    asked: u64,
    answered: u64,
    kicked: u64,
}

impl Play {
    fn new(seed: u64) -> Self {
        let mut draw = Draw::new(seed);
        let algorithms = ["round_robin", "least_conn", "random_two", "ip_hash"];
        let algorithm = draw.one(&algorithms);
        let backends = [Steered::AS_IN_FILE; BACKENDS];
        let text = config_text(algorithm, &backends);
        let machine = Machine::new(seed, WORKERS, Settings::plain(), &text);
        Self {
            draw,
            machine,
            algorithm,
            backends,
            clients: Vec::new(),
            connections: Vec::new(),
            asked: 0,
            answered: 0,
            kicked: 0,
        }
    }

    fn run(&mut self) {
        for _ in 0..ACTIONS {
            self.act();
            self.ask();
            self.go_on();
            self.answer(60);
            self.go_on();
        }
        // The last ones are answered, however they were steered.
        self.answer(100);
        self.go_on();
        assert!(self.clients.iter().all(|it| it.asks.is_none()));
        self.check_counts();
        assert!(self.kicked > 0 && self.answered > self.kicked);
    }

    /// Everything that can happen without anybody's doing happens, for a while.
    fn go_on(&mut self) {
        let ms = self.draw.within(0, STEP_MS_MAX);
        self.machine.pass(ms, STEP_MS_MAX);
        self.machine.settle();
        self.hear_at_backends();
        self.hear_at_clients();
    }

    fn act(&mut self) {
        let k = self.draw.size(0, BACKENDS - 1);
        let mut after = self.backends[k];
        match self.draw.within(0, 6) {
            0 => after.service = Service::Draining,
            1 => after.service = Service::Disabled,
            2 => after.service = Service::Full,
            3 => after.weight = self.draw.one(&[None, Some(0), Some(1), Some(5), Some(100)]),
            4 => return self.kick(k),
            // What was changed by hand goes with it.
            _ => {
                after = Steered {
                    is_there: !after.is_there,
                    ..Steered::AS_IN_FILE
                }
            }
        }
        let mut others = (0..BACKENDS).filter(|other| *other != k);
        let is_served = others.any(|other| self.backends[other].takes_new());
        // Somebody has to be left for the others.
        if after.takes_new() || is_served {
            self.steer(k, after);
        }
    }

    fn steer(&mut self, k: usize, after: Steered) {
        let is_edit = self.backends[k].is_there != after.is_there;
        self.backends[k] = after;
        if is_edit {
            let text = config_text(self.algorithm, &self.backends);
            self.machine.reload(&text);
        }
        // As the control loop does after a reload, too.
        for (k, steered) in self.backends.iter().enumerate() {
            if steered.is_there {
                let column = self.machine.backend_column(k);
                self.machine.board.set_service(column, steered.service);
                self.machine.board.set_weight(column, steered.weight);
            }
        }
    }

    /// Ends what runs on a backend: just so many as it has.
    fn kick(&mut self, k: usize) {
        if !self.backends[k].is_there {
            return;
        }
        let active = self.machine.total(k, BackendCell::Active);
        for slot in 0..WORKERS {
            let identity = origin(k);
            self.machine.worker(slot).kick("default", Some(&identity));
        }
        self.machine.settle();
        let world = self.machine.world();
        let before = self.clients.len();
        self.clients.retain(|client| {
            let is_meant = client.asks.is_some_and(|ask| ask.at == Some(k));
            let has_ended = world.peer_saw_reset(client.peer) || world.peer_saw_end(client.peer);
            assert!(is_meant || !has_ended, "{client:?} is no client of {k}");
            !has_ended
        });
        let ended = (before - self.clients.len()) as u64;
        assert_eq!(ended, active, "sessions of backend {k}");
        self.kicked += ended;
    }

    /// New clients come, and those that are there ask once more or leave.
    fn ask(&mut self) {
        if self.clients.len() < CLIENTS_MAX && self.draw.chance(70) {
            let slot = self.draw.size(0, WORKERS - 1);
            let listener = self.machine.slots[slot].listener;
            let peer = self.machine.world().client_connect(listener);
            self.clients.push(Client {
                peer,
                heard: 0,
                asks: None,
            });
        }
        let allowed = self.backends.map(Steered::takes_new);
        let world = &mut self.machine.world();
        let (draw, asked) = (&mut self.draw, &mut self.asked);
        self.clients.retain_mut(|client| {
            if client.asks.is_some() {
                return true;
            }
            if draw.chance(10) {
                world.peer_close(client.peer);
                return false;
            }
            if draw.chance(60) {
                let number = *asked;
                *asked += 1;
                let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n");
                world.peer_send(client.peer, request.as_bytes());
                client.asks = Some(Ask {
                    number,
                    allowed,
                    at: None,
                });
            }
            true
        });
    }

    fn hear_at_backends(&mut self) {
        for backend in 0..BACKENDS {
            let new = self.machine.accepted(backend).into_iter();
            self.connections.extend(new.map(|peer| Connection {
                backend,
                peer,
                heard: 0,
                asked: None,
            }));
        }
        let world = self.machine.world();
        let clients = &mut self.clients;
        self.connections.retain_mut(|it| {
            let received = world.peer_received(it.peer);
            let text = String::from_utf8_lossy(&received[it.heard..]);
            it.heard = received.len();
            if let Some(rest) = text.strip_prefix("GET /") {
                assert!(it.asked.is_none() && text.ends_with("\r\n\r\n"), "{text}");
                let (number, _) = rest.split_once(' ').expect("a version");
                let number = number.parse().expect("a number");
                it.asked = Some(number);
                let mut asks = clients.iter_mut().filter_map(|it| it.asks.as_mut());
                let ask = asks.find(|ask| ask.number == number);
                let ask = ask.expect("somebody asks that");
                assert!(ask.allowed[it.backend], "{} has {ask:?}", it.backend);
                assert_eq!(ask.at, None, "once");
                ask.at = Some(it.backend);
            }
            !world.peer_saw_end(it.peer) && !world.peer_saw_reset(it.peer)
        });
    }

    /// So many percent of the requests that backends have are answered.
    fn answer(&mut self, percent: u64) {
        for it in &mut self.connections {
            if it.asked.is_some() && self.draw.chance(percent) {
                let number = it.asked.take().expect("it was looked at");
                let body = format!("{} {number}", it.backend);
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                self.machine.world().peer_send(it.peer, answer.as_bytes());
            }
        }
    }

    fn hear_at_clients(&mut self) {
        let world = self.machine.world();
        for client in &mut self.clients {
            let received = world.peer_received(client.peer);
            let text = String::from_utf8_lossy(&received[client.heard..]);
            client.heard = received.len();
            if !text.is_empty() {
                let ask = client.asks.take().expect("nobody answers unasked");
                let body = format!("\r\n\r\n{} {}", ask.at.expect("it was heard"), ask.number);
                assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
                assert!(text.ends_with(&body), "{ask:?}: {text}");
                self.answered += 1;
            }
            let has_ended = world.peer_saw_end(client.peer) || world.peer_saw_reset(client.peer);
            assert!(!has_ended, "{client:?} is lost");
        }
    }

    fn check_counts(&self) {
        let machine = &self.machine;
        let requests = machine.listener_total(ListenerCell::Requests);
        assert_eq!(requests, self.asked, "requests");
        assert_eq!(self.asked, self.answered + self.kicked, "answers");
        let answers = machine.listener_total(CodeClass::Successful);
        assert_eq!(answers, self.answered, "answers counted");
        for (k, steered) in self.backends.iter().enumerate() {
            if steered.is_there {
                assert_eq!(machine.total(k, BackendCell::Active), 0, "backend {k}");
            }
        }
    }
}

fn config_text(algorithm: &str, backends: &[Steered; BACKENDS]) -> String {
    let mut text = format!(
        "listen: \"10.9.9.9:80\"\nname: {LISTENER}\nmode: http\nstats_interval: 0\n\
         algorithm: {algorithm}\nbackends:\n"
    );
    for (k, _) in backends.iter().enumerate().filter(|(_, it)| it.is_there) {
        let _ = writeln!(
            text,
            "  - {{address: \"{}\", weight: {}}}",
            origin(k),
            k + 1
        );
    }
    text
}
