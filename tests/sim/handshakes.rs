//! Handshakes of TLS through the simulated network: those of clients and those with backends. What
//! they take of the processor, the clock of the world has had.

use std::sync::Arc;

use weir::config::model::Config;
use weir::core::handshake::Handshake;
use weir::core::time::Tick;
use weir::tls::material::{
    Certificate, Identity, ListenerMaterial, Material, TicketKey, UpstreamMaterial,
};
use weir::tls::{
    Agreement, ClientParts, ClientSettings, ServerParts, ServerSettings, TicketKeys,
    certificates_in, key_in,
};

use crate::net::tls::TlsPeer;
use crate::net::{Behaviour, Calls, PeerId, Settings, World};
use crate::rig::{Rig, compile, origin, origin_address};

/// What a turn may do of it, in microseconds.
const WORK_US_MAX: u64 = 1_000;

const HANDSHAKE_MS: u64 = 10_000;

/// Handshakes at once.
const HANDSHAKES_MAX: usize = 4_096;

/// A listener with TLS, of which more may be said, and two without; a backend without, and one with
/// TLS, of which `more` says more.
pub(crate) fn text(of_listener: &str, more: &str) -> String {
    let (plain, secure) = (origin(0), origin(1));
    format!(
        "stats_interval: 0\nlisteners:\n\
         - {{name: in, listen: \"10.9.9.9:443\", mode: tcp, upstream: plain, \
            tls: {{certificate: a.pem{of_listener}}}}}\n\
         - {{name: plain, listen: \"10.9.9.9:80\", mode: tcp, upstream: plain}}\n\
         - {{name: out, listen: \"10.9.9.9:81\", mode: tcp, upstream: secure}}\n\
         upstreams:\n  plain: {{backends: [\"{plain}\"]}}\n  \
         secure: {{backends: [\"{secure}\"], tls: {{ca: b.pem, server_name: localhost}}{more}}}\n"
    )
}

/// Places in [`text`].
pub(crate) const IN: usize = 0;
const PLAIN: usize = 1;
pub(crate) const OUT: usize = 2;

pub(crate) fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/certificates/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).expect("a file of the tests")
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity {
        chain: certificates_in(&file(&format!("{name}.pem"))).expect("a certificate"),
        key: key_in(&file(&format!("{name}.key"))).expect("a key"),
    }
}

pub(crate) fn listener(name: &str) -> ListenerMaterial {
    ListenerMaterial {
        certificates: vec![Certificate {
            identity: identity(name),
            names: Vec::new(),
            client_auth: None,
        }],
        ..ListenerMaterial::default()
    }
}

/// With the key of this certificate on the side of weir.
fn config(certificate: &str, more: &str) -> Config {
    config_of(&text("", more), listener(certificate))
}

/// From what the first listener is made.
pub(crate) fn config_of(text: &str, listener: ListenerMaterial) -> Config {
    let authorities = certificates_in(&file("ca.pem")).expect("a certificate");
    let mut config = compile(text);
    config.material = Arc::new(Material {
        listeners: vec![Some(Arc::new(listener)), None, None],
        upstreams: vec![
            None,
            Some(UpstreamMaterial {
                authorities: 0,
                identity: None,
            }),
        ],
        authorities: vec![authorities],
    });
    config
}

/// The other side of the handshakes of weir.
struct Peers {
    client: ClientSettings,
    server: ServerSettings,
    ends: Vec<End>,
}

struct End {
    peer: PeerId,
    tls: TlsPeer,
    read: usize,
    plain: Vec<u8>,
    is_client: bool,
}

impl Peers {
    fn new() -> Self {
        let authorities = certificates_in(&file("ca.pem")).expect("a certificate");
        let client = ClientSettings::new(&ClientParts {
            authorities: Some(&authorities),
            identity: None,
            protocols: &[],
        });
        let keys = TicketKeys::default();
        let none: [TicketKey; 0] = [];
        keys.set(&none);
        let server = ServerSettings::new(
            &ServerParts {
                listener: "origin",
                agreement: &Agreement::default(),
                is_strict: false,
                material: &Arc::new(listener("site-rsa")),
            },
            &Arc::new(keys),
        );
        Self {
            client: client.expect("good parts"),
            server: server.expect("good parts"),
            ends: Vec::new(),
        }
    }

    /// A client that has TLS; it has said its first words once [`Peers::pump`] is called.
    fn connect(&mut self, rig: &Rig) -> PeerId {
        let listener = rig.listeners[IN].1;
        let peer = rig.world().client_connect(listener);
        self.add(peer, true);
        peer
    }

    fn add(&mut self, peer: PeerId, is_client: bool) {
        let tls = match is_client {
            true => self.client.connect("localhost"),
            false => self.server.accept(None),
        };
        self.ends.push(End {
            peer,
            tls: TlsPeer::new(tls.expect("a side")),
            read: 0,
            plain: Vec::new(),
            is_client,
        });
    }

    /// Lets all of them answer what has come, and takes what the backend with TLS has got.
    fn pump(&mut self, rig: &Rig) {
        for peer in rig.accepted(1) {
            self.add(peer, false);
        }
        let mut world = rig.world();
        for end in &mut self.ends {
            end.pump(&mut world);
        }
    }

    fn established(&self, is_client: bool) -> usize {
        let ends = self.ends.iter();
        ends.filter(|it| it.is_client == is_client && it.tls.is_established())
            .count()
    }
}

impl End {
    fn is_answered(&self, rig: &Rig) -> bool {
        !rig.world().peer_received(self.peer).is_empty()
    }

    fn pump(&mut self, world: &mut World) {
        let wire = world.peer_received(self.peer)[self.read..].to_vec();
        self.read += wire.len();
        self.tls.open(&wire, &mut self.plain);
        let said = self.tls.take_pending();
        if !said.is_empty() {
            world.peer_send_raw(self.peer, &said);
        }
    }
}

pub(crate) fn rig(settings: Settings, seed: u64, config: Config) -> Rig {
    let settings = Settings {
        has_layer: false,
        is_tls: false,
        ..settings
    };
    let mut rig = Rig::of(seed, settings, config);
    for k in 0..2 {
        rig.world()
            .origin_listen(&origin_address(k), Behaviour::Accept);
    }
    rig.turn();
    rig
}

fn still(certificate: &str) -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..Settings::plain()
    };
    rig(settings, 1, config(certificate, ""))
}

/// A session that has something to do in every turn, though nothing of TLS.
struct Ready(PeerId);

impl Ready {
    fn new(rig: &mut Rig) -> Self {
        let listener = rig.listeners[PLAIN].1;
        let client = rig.world().client_connect(listener);
        rig.settle();
        assert_eq!(rig.accepted(0).len(), 1);
        Self(client)
    }

    /// A turn in which it is ready, and all that follows from it outside.
    fn turn(&self, rig: &mut Rig) {
        rig.world().peer_send_raw(self.0, b"x");
        rig.world().settle();
        rig.turn();
        rig.world().settle();
    }

    fn waited_us(&self, rig: &Rig) -> u64 {
        rig.world().peer_waited_us(self.0)
    }
}

#[test]
fn a_crowd_that_shakes_hands_leaves_ready_sessions_a_turn_for_each_millisecond() {
    for (certificate, each_us) in [("site-rsa", 750), ("site", 150)] {
        let mut rig = still(certificate);
        let mut peers = Peers::new();
        let ready = Ready::new(&mut rig);
        for _ in 0..200 {
            peers.connect(&rig);
        }
        let (mut turns, mut served) = (0, 0);
        while served < 200 {
            turns += 1;
            assert!(turns < 1_000, "{served} are done");
            peers.pump(&rig);
            ready.turn(&mut rig);
            let answered = peers.ends.iter().filter(|it| it.is_answered(&rig)).count();
            let at_once = answered - served;
            assert!(at_once <= 1_000 / each_us, "{at_once} in turn {turns}");
            served = answered;
        }
        peers.pump(&rig);
        rig.settle();
        assert_eq!(rig.handshake_count(Handshake::Full), 200);
        assert_eq!(rig.world().worked_us(), 200 * each_us as u64);
        let waited_us = ready.waited_us(&rig);
        assert!((1..=WORK_US_MAX).contains(&waited_us), "{waited_us}");
    }
}

#[test]
fn those_who_wait_for_their_handshake_are_served_in_the_order_of_arrival() {
    let mut rig = still("site-rsa");
    let mut peers = Peers::new();
    for turn in 0..300 {
        // What comes in the same turn has no order.
        for _ in 0..if turn < 40 { 5 } else { 0 } {
            peers.connect(&rig);
        }
        peers.pump(&rig);
        rig.turn();
        rig.world().settle();
        let is_answered = |end: &End| end.is_answered(&rig);
        let last = peers.ends.iter().rposition(is_answered);
        let first = peers.ends.iter().position(|end| !is_answered(end));
        if let (Some(last), Some(first)) = (last, first) {
            assert!(last / 5 <= first / 5, "{last} before {first}");
        }
    }
    assert_eq!(peers.established(true), 200);
}

#[test]
fn handshakes_with_backends_leave_ready_sessions_their_turns_too() {
    let mut rig = still("site");
    let mut peers = Peers::new();
    let ready = Ready::new(&mut rig);
    let listener = rig.listeners[OUT].1;
    for _ in 0..50 {
        let client = rig.world().client_connect(listener);
        rig.world().peer_send_raw(client, b"from a client");
        peers.connect(&rig);
    }
    let is_done = |peers: &Peers| {
        let mut backends = peers.ends.iter().filter(|it| !it.is_client);
        peers.established(true) == 50
            && peers.established(false) == 50
            && backends.all(|it| it.plain == b"from a client")
    };
    let mut turns = 0;
    while !is_done(&peers) {
        turns += 1;
        assert!(turns < 1_000, "{} are done", peers.established(false));
        peers.pump(&rig);
        ready.turn(&mut rig);
    }
    // The exchange of keys, a chain, and that the server has its key.
    assert!(rig.world().worked_us() >= 50 * (150 + 350));
    let waited_us = ready.waited_us(&rig);
    assert!((1..=WORK_US_MAX).contains(&waited_us), "{waited_us}");
}

#[test]
fn a_check_over_tls_waits_for_its_turn_and_passes_beside_a_crowd() {
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..Settings::plain()
    };
    let more = ", health_check: {interval: 1s, timeout: 200ms}";
    let mut rig = rig(settings, 1, config("site-rsa", more));
    let mut peers = Peers::new();
    for _ in 0..1_000 {
        peers.connect(&rig);
    }
    let mut turns = 0;
    while peers.established(true) < 1_000 {
        turns += 1;
        assert!(turns < 10_000, "{} are done", peers.established(true));
        peers.pump(&rig);
        rig.turn();
        rig.world().settle();
    }
    let label = format!("secure/{}", origin(1));
    let count = |cell| rig.worker.backend_count(&label, cell);
    assert_eq!(count(weir::board::BackendCell::ProbesFailed), Some(0));
    assert!(count(weir::board::BackendCell::ProbesPassed) >= Some(1));
}

#[test]
fn a_thousand_that_say_half_a_hello_end_in_time_and_others_are_served_meanwhile() {
    let mut rig = still("site");
    let mut peers = Peers::new();
    let ready = Ready::new(&mut rig);
    let listener = rig.listeners[IN].1;
    let half: Vec<PeerId> = (0..1_000)
        .map(|nth| {
            let peer = rig.world().client_connect(listener);
            let hello = peers.client.connect("localhost").map(TlsPeer::new);
            let hello = hello.expect("a name").take_pending();
            let count = nth * hello.len() / 1_000;
            rig.world().peer_send_raw(peer, &hello[..count]);
            peer
        })
        .collect();
    rig.settle();
    for done in 1..=5 {
        peers.connect(&rig);
        for _ in 0..4 {
            peers.pump(&rig);
            rig.settle();
        }
        assert_eq!(peers.established(true), done);
        ready.turn(&mut rig);
        rig.pass(HANDSHAKE_MS / 5 - 10, 1_000);
    }
    assert_eq!(rig.handshake_count(Handshake::TooSlow), 0);
    rig.pass(100, 10);
    assert_eq!(rig.handshake_count(Handshake::TooSlow), 1_000);
    assert_eq!(rig.worker.census().sessions, 6);
    let world = rig.world();
    assert!(half.iter().all(|&it| world.peer_saw_reset(it)));
}

#[test]
fn who_comes_when_there_are_too_many_takes_the_place_of_the_oldest() {
    let mut rig = still("site");
    let listener = rig.listeners[IN].1;
    let all: Vec<PeerId> = (0..HANDSHAKES_MAX + 2)
        .map(|_| rig.world().client_connect(listener))
        .collect();
    rig.settle();
    assert_eq!(rig.handshake_count(Handshake::Crowded), 2);
    let world = rig.world();
    for (nth, &peer) in all.iter().enumerate() {
        assert_eq!(world.peer_saw_reset(peer), nth < 2, "{nth}");
    }
}

#[test]
fn handshakes_may_come_byte_by_byte() {
    let settings = Settings {
        sleep_ms_max: Some(0),
        segment_bytes: 1..=1,
        window_bytes: 1..=1,
        ..Settings::plain()
    };
    let mut rig = rig(settings, 1, config("site", ""));
    let mut peers = Peers::new();
    peers.connect(&rig);
    let listener = rig.listeners[OUT].1;
    let client = rig.world().client_connect(listener);
    rig.world().peer_send_raw(client, b"x");
    let mut turns = 0;
    while peers.established(true) < 1
        || !peers
            .ends
            .iter()
            .any(|it| !it.is_client && it.plain == b"x")
    {
        turns += 1;
        assert!(turns < 20_000);
        peers.pump(&rig);
        rig.turn();
        rig.world().settle();
    }
    assert_eq!(rig.handshake_count(Handshake::Full), 1);
}

/// Everything that may happen does, to clients and backends with and without TLS. What was said
/// in which turn, and what has come over.
fn play(seed: u64) -> (Vec<(Tick, Calls)>, Vec<Vec<u8>>) {
    let settings = Settings {
        // A signature that takes longer than the world moves on would hide who waits for whom.
        window_bytes: 200..=3_000,
        segment_bytes: 1..=1_500,
        exhausted_percent: 0,
        ..Settings::hostile()
    };
    let mut rig = rig(settings, seed, config("site-rsa", ""));
    let mut peers = Peers::new();
    let mut turns = Vec::new();
    let mut came = 0;
    let mut lasts = 0;
    while came < 30 || lasts < 400 {
        let more = rig.world().draw(0..=3);
        match more {
            0 if came < 30 => {
                came += 1;
                peers.connect(&rig);
            }
            1 if came < 30 => {
                came += 1;
                let listener = rig.listeners[OUT].1;
                let client = rig.world().client_connect(listener);
                rig.world().peer_send_raw(client, b"over TLS to a backend");
            }
            2 if came > 5 && rig.world().draw(0..=19) == 0 => {
                let nth = rig.world().draw(0..=peers.ends.len() as u64 - 1);
                let gone = peers.ends.swap_remove(usize::try_from(nth).expect("few"));
                rig.world().peer_reset(gone.peer);
                if peers.ends.is_empty() {
                    peers.connect(&rig);
                }
            }
            _ => {}
        }
        lasts += usize::from(came >= 30);
        peers.pump(&rig);
        rig.turn();
        let world = rig.world();
        turns.push((world.now(), world.calls()));
    }
    let all = peers.established(true) + peers.established(false);
    assert!(all > 0, "seed {seed}: nobody is done");
    let plain = peers.ends.into_iter().map(|it| it.plain).collect();
    (turns, plain)
}

#[test]
fn schedules_and_what_comes_over_are_the_same_for_the_same_seed() {
    let seeds = std::env::var("WEIR_SIM_SEEDS").ok();
    let seeds = seeds.and_then(|it| it.parse().ok()).unwrap_or(20);
    for seed in 0..std::cmp::min(seeds, 100) {
        let (first, again) = (play(seed), play(seed));
        let differs = first.0.iter().zip(&again.0).position(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}: the turn");
        assert!(first == again, "seed {seed}");
    }
}
