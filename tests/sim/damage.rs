//! Bytes of handshakes, damaged at each place: of clients, and of the servers that are backends.
//! However they are, there is an alert or a close, and the worker does not spin.

use std::sync::Arc;

use weir::core::handshake::Handshake;
use weir::core::layer::Layer as _;
use weir::tls::material::ClientAuth;
use weir::tls::{
    Agreement, ClientParts, ClientSettings, Connection, ServerParts, ServerSettings, TicketKeys,
    certificates_in,
};

use crate::handshakes::{IN, OUT, config_of, file, identity, listener, rig, text};
use crate::net::{PeerId, Settings};
use crate::rig::Rig;

/// The only one that a side of TLS 1.2 may have.
const SUITE_OF_TLS12: &str = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";

/// What is done to bytes at a place.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip,
    Zero,
    Most,
    Cut,
    Left,
    Twice,
}

const ALL: [Damage; 6] = [
    Damage::Flip,
    Damage::Zero,
    Damage::Most,
    Damage::Cut,
    Damage::Left,
    Damage::Twice,
];

impl Damage {
    fn act(self, bytes: &mut Vec<u8>, at: usize) {
        match self {
            Self::Flip => bytes[at] ^= 1 << (at % 8),
            Self::Zero => bytes[at] = 0,
            Self::Most => bytes[at] = 0xff,
            Self::Cut => bytes.truncate(at),
            Self::Left => {
                bytes.remove(at);
            }
            Self::Twice => bytes.insert(at, bytes[at]),
        }
    }
}

/// The other side of a handshake, which damages what it says.
struct Side {
    tls: Connection,
    peer: PeerId,
    read: usize,
    space: Vec<u8>,
}

impl Side {
    fn new(tls: Connection, peer: PeerId) -> Self {
        Self {
            tls,
            peer,
            read: 0,
            space: vec![0; 66 * 1024],
        }
    }

    /// Takes what has come, whatever that is, and says what there is to be said.
    fn answer(&mut self, rig: &Rig) -> Vec<u8> {
        let wire = rig.world().peer_received(self.peer)[self.read..].to_vec();
        self.read += wire.len();
        if !wire.is_empty() && self.tls.fault().is_none() {
            let carried = self.tls.carry(&mut self.space);
            let whole = carried + wire.len();
            self.space[carried..whole].copy_from_slice(&wire);
            let _ = self
                .tls
                .on_received(&mut self.space[..whole], &mut [0; 100]);
        }
        let said = self.tls.pending().to_vec();
        self.tls.on_sent(said.len());
        said
    }

    /// Goes through a handshake in which one of its flights is damaged. Whether that has this
    /// place.
    fn play(&mut self, rig: &mut Rig, flight: usize, damage: Damage, at: usize) -> bool {
        let mut is_there = false;
        for nth in 0..4 {
            let mut said = self.answer(rig);
            if nth == flight && at < said.len() {
                is_there = true;
                damage.act(&mut said, at);
            }
            rig.world().peer_send_raw(self.peer, &said);
            if nth >= flight && matches!(damage, Damage::Cut) {
                rig.world().peer_cut_write(self.peer);
            }
            rig.settle();
        }
        is_there
    }
}

fn still(listener: weir::tls::material::ListenerMaterial, suites: &str) -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        ..Settings::plain()
    };
    rig(settings, 1, config_of(&text(suites, ""), listener))
}

fn suites_of(is_tls12: bool) -> Vec<String> {
    let suite = is_tls12.then(|| SUITE_OF_TLS12.to_owned());
    suite.into_iter().collect()
}

/// Handshakes that have ended, however that was.
fn ended(rig: &Rig) -> u64 {
    let counts = Handshake::ALL.map(|ended| rig.handshake_count(ended));
    counts.iter().sum()
}

/// Each place of a flight of clients, with so many kinds of damage.
fn damage_client(is_tls12: bool, flight: usize, kinds: usize) {
    let mut material = listener("site");
    let authorities = certificates_in(&file("ca.pem")).expect("a certificate");
    material.client_auths.push(ClientAuth {
        is_required: true,
        authorities: authorities.clone(),
        revoked: Vec::new(),
    });
    material.certificates[0].client_auth = Some(0);
    let suites = match is_tls12 {
        true => format!(", cipher_suites: [{SUITE_OF_TLS12}]"),
        false => String::new(),
    };
    let mut rig = still(material, &suites);
    let own = identity("client");
    let settings = ClientSettings::new(&ClientParts {
        authorities: Some(&authorities),
        identity: Some(&own),
        protocols: &[],
    });
    let settings = settings.expect("good parts");
    let mut at = 0;
    loop {
        let mut is_there = false;
        for kind in 0..kinds {
            let damage = ALL[(at + kind) % ALL.len()];
            let before = ended(&rig);
            let listener = rig.listeners[IN].1;
            let peer = rig.world().client_connect(listener);
            let tls = settings.connect("localhost").expect("a name");
            let mut side = Side::new(tls, peer);
            is_there |= side.play(&mut rig, flight, damage, at);
            rig.world().peer_cut_write(peer);
            rig.settle();
            let name = format!("{damage:?} at {at}");
            let is_open = rig.worker.census().sessions > 0;
            let (saw_end, saw_reset) = {
                let world = rig.world();
                (world.peer_saw_end(peer), world.peer_saw_reset(peer))
            };
            assert!(is_open != (saw_end || saw_reset), "{name}");
            if is_open {
                // It was no damage, as the end of a session has come through.
                let backend = rig.accepted(0);
                assert_eq!(backend.len(), 1, "{name}");
                assert!(!matches!(damage, Damage::Cut) || !is_there, "{name}");
                rig.world().peer_reset(peer);
                rig.settle();
            }
            rig.accepted(0);
            assert_eq!(rig.worker.census().sessions, 0, "{name}");
            let is_silent = flight == 0 && at == 0 && matches!(damage, Damage::Cut);
            assert_eq!(ended(&rig) - before, u64::from(!is_silent), "{name}");
        }
        if !is_there {
            break;
        }
        at += 1;
    }
    assert!(at > 200, "{at} places");
}

#[test]
fn a_damaged_hello_is_answered_by_an_alert_or_a_close() {
    damage_client(false, 0, ALL.len());
}

#[test]
fn a_damaged_second_flight_is_answered_by_an_alert_or_a_close() {
    damage_client(false, 1, 2);
}

#[test]
fn a_damaged_second_flight_of_an_older_version_is_answered_likewise() {
    damage_client(true, 1, 2);
}

/// Each place of the first flight of backends.
fn damage_server(is_tls12: bool) {
    let mut rig = still(listener("site"), "");
    let agreement = Agreement {
        cipher_suites: suites_of(is_tls12),
        ..Agreement::default()
    };
    let parts = ServerParts {
        listener: "origin",
        agreement: &agreement,
        is_strict: false,
        material: &Arc::new(listener("site")),
    };
    let settings = ServerSettings::new(&parts, &Arc::new(TicketKeys::default()));
    let settings = settings.expect("good parts");
    let mut at = 0;
    loop {
        let mut is_there = false;
        for kind in 0..2 {
            let damage = ALL[(at + kind) % ALL.len()];
            let name = format!("{damage:?} at {at}");
            let listener = rig.listeners[OUT].1;
            let client = rig.world().client_connect(listener);
            rig.world().peer_send_raw(client, b"x");
            rig.settle();
            let [backend] = rig.accepted(1)[..] else {
                panic!("{name}: one connection");
            };
            let tls = settings.accept(None).expect("a site");
            let mut side = Side::new(tls, backend);
            is_there |= side.play(&mut rig, 0, damage, at);
            rig.world().peer_cut_write(backend);
            rig.settle();
            let world = rig.world();
            let has_ended = world.peer_saw_end(client) || world.peer_saw_reset(client);
            drop(world);
            assert!(has_ended, "{name}");
            assert_eq!(rig.worker.census().sessions, 0, "{name}");
        }
        if !is_there {
            break;
        }
        at += 1;
    }
    assert!(at > 500, "{at} places");
}

#[test]
fn a_backend_whose_handshake_is_damaged_is_told_so_and_its_client_is_closed() {
    damage_server(false);
}

#[test]
fn a_backend_of_an_older_version_is_told_likewise() {
    damage_server(true);
}
