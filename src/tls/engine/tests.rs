//! Both ends in memory, without a socket.

use rustls::ClientConfig;

use super::*;
use crate::tls::material::{Certificate, ClientAuth, ListenerMaterial, TicketKey};
use crate::tls::tickets::TicketKeys;
use crate::tls::{Agreement, CIPHER_SUITES, ClientParts, Misdirection, ServerParts};

fn file(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/../tests/certificates/{name}",
        env!("CARGO_MANIFEST_DIR")
    );
    std::fs::read(path).expect("a file of the tests")
}

fn identity(name: &str) -> Identity {
    Identity {
        chain: certificates_in(&file(&format!("{name}.pem"))).expect("a certificate"),
        key: key_in(&file(&format!("{name}.key"))).expect("a key"),
    }
}

pub(super) fn certificate(name: &str, client_auth: Option<usize>) -> Certificate {
    let identity = identity(name);
    Certificate {
        names: facts_of(&identity).expect("a good pair").names,
        identity,
        client_auth,
    }
}

pub(super) fn client_auth(is_required: bool, has_list: bool) -> ClientAuth {
    ClientAuth {
        is_required,
        authorities: certificates_in(&file("ca.pem")).expect("a certificate"),
        revoked: if has_list {
            revocations_in(&file("crl.pem")).expect("a list")
        } else {
            Vec::new()
        },
    }
}

pub(super) fn keys() -> Arc<TicketKeys> {
    let keys = TicketKeys::default();
    keys.set(&[TicketKey {
        name: [7; 16],
        secret: Secret::new(vec![9; 32]),
    }]);
    Arc::new(keys)
}

fn server(material: &ListenerMaterial, protocols: &[&[u8]], is_strict: bool) -> ServerSettings {
    let agreement = Agreement {
        protocols: protocols.iter().map(|name| name.to_vec()).collect(),
        ..Agreement::default()
    };
    let parts = ServerParts {
        listener: "front",
        agreement: &agreement,
        is_strict,
        material: &Arc::new(material.clone()),
    };
    ServerSettings::new(&parts, &keys()).expect("good parts")
}

pub(super) fn listener(names: &[&str]) -> ListenerMaterial {
    ListenerMaterial {
        certificates: names.iter().map(|name| certificate(name, None)).collect(),
        client_auths: Vec::new(),
        ..ListenerMaterial::default()
    }
}

fn client(identity: Option<&Identity>, protocols: &[&[u8]]) -> ClientSettings {
    let authorities = certificates_in(&file("ca.pem")).expect("a certificate");
    let protocols: Vec<Vec<u8>> = protocols.iter().map(|name| name.to_vec()).collect();
    ClientSettings::new(&ClientParts {
        authorities: Some(&authorities),
        identity,
        protocols: &protocols,
    })
    .expect("good parts")
}

/// Moves what one end has for the other, in pieces of at most so many bytes.
fn carry(from: &mut Connection, to: &mut Connection, piece: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut space = vec![0; 66 * 1024];
    while !from.pending().is_empty() {
        let count = from.pending().len().min(piece);
        let carried = to.carry(&mut space);
        space[carried..carried + count].copy_from_slice(&from.pending()[..count]);
        from.on_sent(count);
        let mut into = [0; 1000];
        let Ok(given) = to.on_received(&mut space[..carried + count], &mut into) else {
            break;
        };
        plain.extend_from_slice(&into[..given]);
        while let Io::Ready(count) = to.read(&mut into) {
            plain.extend_from_slice(&into[..count]);
        }
    }
    plain
}

fn shake(client: &mut Connection, server: &mut Connection, piece: usize) {
    for _ in 0..4 {
        carry(client, server, piece);
        carry(server, client, piece);
    }
}

fn send(from: &mut Connection, bytes: &[u8]) -> usize {
    let mut space = vec![0; 66 * 1024];
    let (one, other) = bytes.split_at(bytes.len() / 3);
    let sealed = from.seal(&[IoSlice::new(one), IoSlice::new(other)], 0, &mut space);
    from.keep_pending(&space[..sealed.bytes]);
    sealed.taken
}

#[test]
fn bytes_and_ends_pass_in_any_pieces() {
    let server = server(&listener(&["site"]), &[], false);
    for piece in [1, 7, 1000, 100_000] {
        let mut there = client(None, &[]).connect("site.example").expect("a name");
        let mut here = server.accept(Some("site.example")).expect("a site");
        assert!(!here.is_established() && here.secured().is_none());
        shake(&mut there, &mut here, piece);
        assert!(here.is_established() && there.is_established());
        let secured = here.secured().expect("established");
        assert_eq!(secured.version, "TLSv1.3");
        assert_eq!(secured.name, Some("site.example"));
        for length in [1, 2, 300, 16_384, 40_000] {
            let bytes: Vec<u8> = (0..251).cycle().take(length).collect();
            assert_eq!(send(&mut here, &bytes), length);
            assert!(carry(&mut here, &mut there, piece) == bytes);
            assert_eq!(send(&mut there, &bytes), length);
            assert!(carry(&mut there, &mut here, piece) == bytes);
        }
        assert_eq!(here.kept().total(), 0, "an idle connection keeps nothing");
        there.finish();
        carry(&mut there, &mut here, piece);
        assert!(here.has_ended());
        // It was told while it was carried; the other direction goes on.
        assert_eq!(send(&mut here, b"still"), 5);
        assert_eq!(carry(&mut here, &mut there, piece), b"still");
        here.finish();
        carry(&mut here, &mut there, piece);
        assert!(there.has_ended());
        assert_eq!(here.fault(), None);
    }
}

#[test]
fn an_end_without_its_mark_is_a_cut() {
    let server = server(&listener(&["site"]), &[], false);
    let mut there = client(None, &[]).connect("site.example").expect("a name");
    let mut here = server.accept(None).expect("the first");
    shake(&mut there, &mut here, 1000);
    here.on_end();
    let mut into = [0; 10];
    assert!(here.may_read());
    for _ in 0..2 {
        assert_eq!(here.read(&mut into), Io::Failed(ErrorKind::UnexpectedEof));
        assert!(!here.may_read(), "it is no news any more");
    }
    assert_eq!(here.fault(), Some(Fault::Cut));
}

/// Both ends, after a handshake.
fn established() -> (Connection, Connection) {
    let server = server(&listener(&["site"]), &[], false);
    let mut there = client(None, &[]).connect("site.example").expect("a name");
    let mut here = server.accept(Some("site.example")).expect("a site");
    shake(&mut there, &mut here, 1000);
    (there, here)
}

/// What one end has for the other, at once.
fn take(from: &mut Connection) -> Vec<u8> {
    let bytes = from.pending().to_vec();
    from.on_sent(bytes.len());
    bytes
}

#[test]
fn records_behind_those_that_are_wanted_are_told_of() {
    let (mut there, mut here) = established();
    for part in [b"one", b"two", b"six", b"ten"] {
        send(&mut there, part);
    }
    there.finish();
    let mut into = [0; 4];
    let mut found = Vec::new();
    let given = here.on_received(&mut take(&mut there), &mut into);
    found.extend_from_slice(&into[..given.expect("good records")]);
    while here.may_read() {
        match here.read(&mut into) {
            Io::Ready(count) => found.extend_from_slice(&into[..count]),
            Io::Blocked | Io::Closed | Io::Failed(_) => break,
        }
    }
    assert_eq!(found, b"onetwosixten");
    assert!(here.has_ended());
    assert_eq!(here.kept().total(), 0);
}

#[test]
fn what_has_come_and_is_not_read_keeps_nothing_from_being_sent() {
    let (mut there, mut here) = established();
    for _ in 0..100 {
        send(&mut there, b"not read");
    }
    let given = here.on_received(&mut take(&mut there), &mut [0; 3]);
    assert_eq!(given, Ok(3));
    assert_eq!(send(&mut here, b"answer"), 6);
    assert_eq!(carry(&mut here, &mut there, 1000), b"answer");
    let mut into = [0; 1000];
    assert_eq!(here.read(&mut into), Io::Ready(797));
    assert!(!here.may_read());
}

#[test]
fn what_comes_behind_an_end_is_forgotten() {
    let (mut there, mut here) = established();
    there.finish();
    let mut bytes = take(&mut there);
    bytes.extend_from_slice(&[23; 3000]);
    assert_eq!(here.on_received(&mut bytes, &mut [0; 10]), Ok(0));
    assert_eq!(here.on_received(&mut [23; 3000], &mut [0; 10]), Ok(0));
    assert_eq!(here.kept().total(), 0);
    assert!(here.may_read());
    for _ in 0..2 {
        assert_eq!(here.read(&mut [0; 10]), Io::Closed);
        assert!(!here.may_read(), "it is no news any more");
    }
    assert_eq!(here.fault(), None);
    assert_eq!(send(&mut here, b"still"), 5);
}

#[test]
fn the_suites_that_can_be_configured_are_those_of_the_library() {
    let known = provider::ALL_CIPHER_SUITES.iter().filter_map(suite_name);
    assert_eq!(known.collect::<Vec<_>>(), CIPHER_SUITES);
}

#[test]
fn a_site_is_found_by_its_name() {
    let material = listener(&["site", "two"]);
    let strict = server(&material, &[], true);
    let serves = |of: &ServerSettings, name| of.accept(name).is_some();
    assert!(serves(&strict, Some("x.wild.example")) && serves(&strict, Some("two.example")));
    assert!(!serves(&strict, Some("elsewhere")) && !serves(&strict, None));
    let lax = server(&material, &[], false);
    assert!(serves(&lax, Some("elsewhere")) && serves(&lax, None));
    let mut there = client(None, &[]).connect("two.example").expect("a name");
    let mut here = lax.accept(Some("two.example")).expect("a site");
    shake(&mut there, &mut here, 1000);
    assert!(there.is_established());
}

#[test]
fn a_wrong_name_or_issuer_is_refused_by_the_client() {
    for (name, shown, fault) in [
        ("elsewhere.example", "site", Fault::WrongName),
        ("127.0.0.2", "site", Fault::WrongName),
        ("localhost", "cn-only", Fault::WrongName),
        ("site.example", "site-other", Fault::UnknownIssuer),
    ] {
        let mut material = listener(&[shown]);
        material.certificates[0].names = Vec::new();
        let mut here = server(&material, &[], false)
            .accept(None)
            .expect("the first");
        let mut there = client(None, &[]).connect(name).expect("a name");
        shake(&mut there, &mut here, 1000);
        assert_eq!(there.fault(), Some(fault), "{name}");
        assert!(
            matches!(here.fault(), Some(Fault::Alert(_))),
            "{:?}",
            here.fault()
        );
    }
}

#[test]
fn protocols_without_one_in_common_are_refused() {
    let server = server(&listener(&["site"]), &[b"http/1.1"], false);
    for (offered, agreed) in [
        (&[&b"h2"[..], b"http/1.1"][..], true),
        (&[b"h2"], false),
        (&[], true),
    ] {
        let mut here = server.accept(None).expect("the first");
        let mut there = client(None, offered)
            .connect("site.example")
            .expect("a name");
        shake(&mut there, &mut here, 1000);
        assert_eq!(here.is_established(), agreed);
        if !agreed {
            assert_eq!(here.fault(), Some(Fault::NoProtocol));
            assert_eq!(there.fault(), Some(Fault::Alert(120)));
        }
    }
}

#[test]
fn clients_are_asked_for_certificates() {
    for (is_required, has_list, shown, fault) in [
        (true, false, Some("client"), None),
        (true, true, Some("client"), None),
        (true, false, None, Some(Fault::NoCertificate)),
        (false, false, None, None),
        (true, true, Some("client-revoked"), Some(Fault::Revoked)),
        (
            true,
            false,
            Some("client-other"),
            Some(Fault::UnknownIssuer),
        ),
        (
            false,
            false,
            Some("client-other"),
            Some(Fault::UnknownIssuer),
        ),
    ] {
        let material = ListenerMaterial {
            certificates: vec![certificate("site", Some(0))],
            client_auths: vec![client_auth(is_required, has_list)],
            ..ListenerMaterial::default()
        };
        let server = server(&material, &[], false);
        assert_ne!(server.client_rules(None), 0);
        let identity = shown.map(identity);
        let mut here = server.accept(None).expect("the first");
        let mut there = client(identity.as_ref(), &[])
            .connect("site.example")
            .expect("a name");
        shake(&mut there, &mut here, 1000);
        assert_eq!(here.fault(), fault, "{shown:?}");
        if fault.is_none() {
            let certificate = here.secured().and_then(|it| it.client_certificate);
            let leaf = identity.as_ref().and_then(|it| it.chain.first());
            assert_eq!(certificate, leaf.map(Vec::as_slice));
        }
    }
}

#[test]
fn a_session_is_resumed_where_nothing_is_asked_of_clients() {
    for (auth, is_resumed) in [(None, true), (Some(0), false)] {
        let material = ListenerMaterial {
            certificates: vec![certificate("site", auth)],
            client_auths: vec![client_auth(false, false)],
            ..ListenerMaterial::default()
        };
        // Two workers, which have nothing in common but the keys.
        let workers = [server(&material, &[], false), server(&material, &[], false)];
        let client = client(None, &[]);
        let resumed = workers.each_ref().map(|worker| {
            let mut here = worker.accept(Some("site.example")).expect("a site");
            let mut there = client.connect("site.example").expect("a name");
            shake(&mut there, &mut here, 1000);
            here.secured().expect("established").is_resumed
        });
        assert_eq!(resumed, [false, is_resumed]);
    }
}

#[test]
fn a_session_that_is_resumed_keeps_the_time_of_its_full_handshake() {
    const HOUR_S: i64 = 60 * 60;
    let server = server(&listener(&["site"]), &[], false);
    let client = client(None, &[]);
    let resumed = [0, 8, 11, 13, 14].map(|hour| {
        tickets::AHEAD_S.set(hour * HOUR_S);
        let mut here = server.accept(Some("site.example")).expect("a site");
        let mut there = client.connect("site.example").expect("a name");
        shake(&mut there, &mut here, 1000);
        here.secured().expect("established").is_resumed
    });
    tickets::AHEAD_S.set(0);
    assert_eq!(resumed, [false, true, true, false, true]);
}

#[test]
fn damage_anywhere_ends_in_a_fault_and_never_in_a_panic() {
    let server = server(&listener(&["site"]), &[], false);
    let client = client(None, &[]);
    for at in 0..2000 {
        let mut here = server.accept(None).expect("the first");
        let mut there = client.connect("site.example").expect("a name");
        let mut seen = 0;
        for _ in 0..3 {
            let mut bytes = there.pending().to_vec();
            there.on_sent(bytes.len());
            if (seen..seen + bytes.len()).contains(&at) {
                bytes[at - seen] ^= 0x55;
            }
            seen += bytes.len();
            let mut space = vec![0; 66 * 1024];
            let carried = here.carry(&mut space);
            let count = carried + bytes.len();
            space[carried..count].copy_from_slice(&bytes);
            let _ = here.on_received(&mut space[..count], &mut [0; 100]);
            carry(&mut here, &mut there, 10_000);
        }
        if at > seen {
            return;
        }
    }
}

#[test]
fn a_message_that_does_not_end_fails_and_the_library_is_not_asked_again() {
    let server = server(&listener(&["site"]), &[], false);
    let client = client(None, &[]);
    for kind in [1, 2, 11] {
        for mut end in [
            server.accept(None).expect("the first"),
            client.connect("site.example").expect("a name"),
        ] {
            let head = [kind, 0, 0xea, 0x60];
            let message = head.into_iter().chain(std::iter::repeat_n(0, 30_000));
            let records = message.flat_map(|byte| [22, 3, 3, 0, 1, byte]);
            let records: Vec<u8> = records.collect();
            let mut space = vec![0; 66 * 1024];
            let mut ended = Ok(0);
            for part in records.chunks(1_000) {
                let carried = end.carry(&mut space);
                assert!(
                    carried + part.len() <= space.len(),
                    "there is room for more"
                );
                space[carried..carried + part.len()].copy_from_slice(part);
                let opened = end.on_received(&mut space[..carried + part.len()], &mut [0; 9]);
                ended = ended.and(opened);
            }
            assert!(ended.is_err(), "{kind}");
            assert!(end.fault().is_some());
            assert_eq!(send(&mut end, b"more"), 0);
            end.finish();
            assert!(matches!(end.read(&mut [0; 9]), Io::Failed(_)));
        }
    }
}

#[test]
fn keys_come_in_all_forms() {
    let site = file("site.pem");
    let rsa = file("site-rsa.pem");
    for (pem, key, kind) in [
        (&site, "site.key", KeyKind::Ecdsa),
        (&site, "site-sec1.key", KeyKind::Ecdsa),
        (&rsa, "site-rsa.key", KeyKind::Rsa),
        (&rsa, "site-rsa-pkcs1.key", KeyKind::Rsa),
        (&file("two.pem"), "two.key", KeyKind::Ed25519),
    ] {
        let identity = Identity {
            chain: certificates_in(pem).expect("a certificate"),
            key: key_in(&file(key)).expect("a key"),
        };
        let facts = facts_of(&identity).expect("a good pair");
        assert_eq!(facts.key, kind, "{key}");
        assert!(facts.not_before_unix_s < facts.not_after_unix_s);
    }
    assert_eq!(
        key_in(&file("site-encrypted.key")),
        Err(PemFault::Encrypted)
    );
    assert_eq!(key_in(&site), Err(PemFault::Missing));
    assert_eq!(key_in(b""), Err(PemFault::Missing));
    assert_eq!(
        certificates_in(b"-----BEGIN CERTIFICATE-----\nAAAA"),
        Err(PemFault::Malformed)
    );
    let two = [file("site.key"), file("two.key")].concat();
    assert_eq!(key_in(&two), Err(PemFault::Several));
    let mismatch = Identity {
        chain: certificates_in(&site).expect("a certificate"),
        key: key_in(&file("two.key")).expect("a key"),
    };
    assert_eq!(facts_of(&mismatch), Err(IdentityFault::Mismatch));
    assert_eq!(
        x509::common_name(&identity("client").chain[0]),
        Some("client one")
    );
}

#[test]
fn a_site_has_a_certificate_for_each_kind_of_client() {
    let server = server(&listener(&["site", "site-rsa"]), &[], false);
    assert_eq!(server.handshake_us(Some("localhost")), 750);
    assert_eq!(server.handshake_us(Some("a.wild.example")), 150);
}

/// A site that asks for certificates, and one that does not.
fn unlike_sites() -> ListenerMaterial {
    ListenerMaterial {
        certificates: vec![certificate("site", Some(0)), certificate("two", None)],
        client_auths: vec![client_auth(false, false)],
        ..ListenerMaterial::default()
    }
}

fn over<'a>(settings: &ServerSettings, name: Option<&'a str>) -> Secured<'a> {
    Secured {
        version: "TLSv1.3",
        cipher: "",
        name,
        protocol: None,
        client_certificate: None,
        client_rules: settings.client_rules(name),
        is_resumed: false,
    }
}

#[test]
fn a_host_is_served_over_connections_of_sites_that_ask_the_same_of_clients() {
    let settings = server(&unlike_sites(), &[], false);
    assert!(settings.tells_clients_apart());
    for (name, host, is_misdirected) in [
        (Some("site.example"), "site.example", false),
        (Some("site.example"), "x.wild.example", false),
        (Some("site.example"), "two.example", true),
        (Some("two.example"), "two.example", false),
        (Some("two.example"), "site.example", true),
        // What no certificate is for is what the first one serves.
        (Some("site.example"), "other.example", false),
        (Some("two.example"), "other.example", true),
        (Some("other.example"), "site.example", false),
        (None, "127.0.0.1", false),
        (None, "two.example", true),
    ] {
        let found = settings.misdirection(host, &over(&settings, name));
        let wanted = is_misdirected.then_some(Misdirection::OtherRules);
        assert_eq!(found, wanted, "{host} over {name:?}");
    }
    let alike = server(&listener(&["site", "two"]), &[], false);
    assert!(!alike.tells_clients_apart());
    let found = alike.misdirection("two.example", &over(&alike, Some("site.example")));
    assert_eq!(found, None);
    let strict = server(&listener(&["site", "two"]), &[], true);
    assert!(strict.tells_clients_apart());
    let found = strict.misdirection("two.example", &over(&strict, Some("site.example")));
    assert_eq!(found, None);
    let found = strict.misdirection("other.example", &over(&strict, Some("site.example")));
    assert_eq!(found, Some(Misdirection::Unserved));
}

#[test]
fn a_connection_from_before_the_rules_have_changed_serves_its_own_site_only() {
    let settings = server(&unlike_sites(), &[], false);
    let old = Secured {
        client_rules: 7,
        ..over(&settings, Some("site.example"))
    };
    assert_eq!(settings.misdirection("site.example", &old), None);
    let other_rules = Some(Misdirection::OtherRules);
    assert_eq!(settings.misdirection("two.example", &old), other_rules);
    let none = Secured {
        client_rules: 0,
        ..over(&settings, Some("two.example"))
    };
    assert_eq!(settings.misdirection("site.example", &none), other_rules);
}

/// Both sides of a handshake in pieces of so many bytes: what each has done of asymmetric
/// cryptography, and the most that it did in one step. None of it comes unannounced.
fn work(client: &mut Connection, server: &mut Connection, piece: usize) -> [(u32, u32); 2] {
    let mut found = [(0, 0); 2];
    while !client.pending().is_empty() || !server.pending().is_empty() {
        for to in [1, 0] {
            let (from, into) = match to {
                1 => (&mut *client, &mut *server),
                _ => (&mut *server, &mut *client),
            };
            while !from.pending().is_empty() {
                let count = from.pending().len().min(piece);
                let (bytes, rest) = from.pending().split_at(count);
                let (bytes, rest) = (bytes.to_vec(), rest.len());
                from.on_sent(count);
                let mut space = vec![0; 66 * 1024];
                let carried = into.carry(&mut space);
                space[carried..carried + count].copy_from_slice(&bytes);
                let left = into.work_left_us();
                let opened = into.on_received(&mut space[..carried + count], &mut []);
                let done = into.take_work_us();
                assert!(opened.is_err() || done <= left, "{done} of {left}");
                found[to].0 += done;
                found[to].1 = found[to].1.max(done);
                assert!(from.pending().len() == rest);
            }
        }
    }
    found
}

/// A client of this version, which offers keys of these groups, the first one at once.
fn client_of(
    version: &'static rustls::SupportedProtocolVersion,
    groups: &[&'static dyn rustls::crypto::SupportedKxGroup],
    identity: Option<&Identity>,
) -> ClientSettings {
    let settings = client(identity, &[]);
    let mut crypto = CryptoProvider::clone(settings.config.crypto_provider());
    crypto.kx_groups = groups.to_vec();
    let ca = certificates_in(&file("ca.pem")).expect("a certificate");
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_protocol_versions(&[version])
        .expect("a version");
    let resolver = settings.config.client_auth_cert_resolver.clone();
    let config = builder
        .with_root_certificates(roots(&ca))
        .with_client_cert_resolver(resolver);
    ClientSettings {
        config: Arc::new(config),
        costs: settings.costs,
    }
}

/// All of the work of both sides, in microseconds: of the server once it is known who shows what.
#[test]
fn work_is_announced_before_it_is_done_and_none_of_it_is_missed() {
    use provider::kx_group::{SECP256R1, SECP384R1, X25519};
    use rustls::version::{TLS12, TLS13};
    let plain = server(&listener(&["site"]), &[], false);
    let rsa = server(&listener(&["site-rsa"]), &[], false);
    let mut material = listener(&["site"]);
    material.client_auths = vec![client_auth(true, false)];
    material.certificates[0].client_auth = Some(0);
    let asks = server(&material, &[], false);
    let own = identity("client");
    for (version, groups, identity, server, expected) in [
        (&TLS13, [X25519, SECP256R1], None, &plain, [350, 150]),
        (&TLS13, [SECP384R1, X25519], None, &plain, [350, 150]),
        (&TLS12, [X25519, SECP256R1], None, &plain, [350, 150]),
        (&TLS13, [X25519, SECP256R1], None, &rsa, [350, 750]),
        (&TLS12, [SECP256R1, X25519], None, &rsa, [350, 750]),
        (&TLS13, [X25519, SECP256R1], Some(&own), &asks, [450, 450]),
        (&TLS13, [SECP384R1, X25519], Some(&own), &asks, [450, 450]),
        (&TLS12, [X25519, SECP256R1], Some(&own), &asks, [450, 450]),
    ] {
        for piece in [usize::MAX, 100, 7, 1] {
            let settings = client_of(version, &groups, identity);
            let mut client = settings.connect("localhost").expect("a name");
            let mut server = server.accept(None).expect("a site");
            let [by_client, by_server] = work(&mut client, &mut server, piece);
            assert!(client.is_established() && server.is_established());
            let name = format!("{version:?} {expected:?} in pieces of {piece}");
            assert_eq!(by_client.0, expected[0], "{name}");
            // Which of its messages a client was verified by does not show in between.
            let most = match identity {
                None => expected[1],
                Some(_) => expected[1] + 800,
            };
            assert!(
                (expected[1]..=most).contains(&by_server.0),
                "{by_server:?}: {name}"
            );
            assert!(by_server.1 < 1_000, "{name}");
            assert_eq!((client.work_left_us(), server.work_left_us()), (0, 0));
        }
    }
}

#[test]
fn who_resumes_or_only_says_a_part_costs_little() {
    let server = server(&listener(&["site-rsa"]), &[], false);
    let settings = client(None, &[]);
    for expected in [750, 50] {
        let mut client = settings.connect("localhost").expect("a name");
        let mut connection = server.accept(None).expect("a site");
        let [_, by_server] = work(&mut client, &mut connection, 10);
        assert_eq!(by_server, (expected, expected));
    }
    let mut client = settings.connect("localhost").expect("a name");
    let mut connection = server.accept(None).expect("a site");
    let mut hello = take(&mut client);
    hello.pop();
    assert_eq!(connection.on_received(&mut hello, &mut []), Ok(0));
    assert_eq!(
        (connection.take_work_us(), connection.work_left_us()),
        (0, 750)
    );
}

#[test]
fn who_shows_no_certificate_is_told_so_in_the_words_of_its_version() {
    use provider::kx_group::X25519;
    let mut material = listener(&["site"]);
    material.client_auths = vec![client_auth(true, false)];
    material.certificates[0].client_auth = Some(0);
    let asks = server(&material, &[], false);
    for (version, alert) in [
        (&rustls::version::TLS12, 40),
        (&rustls::version::TLS13, 116),
    ] {
        for piece in [1, usize::MAX] {
            let settings = client_of(version, &[X25519], None);
            let mut client = settings.connect("localhost").expect("a name");
            let mut server = asks.accept(None).expect("a site");
            shake(&mut client, &mut server, piece);
            assert_eq!(server.fault(), Some(Fault::NoCertificate), "{alert}");
            assert_eq!(client.fault(), Some(Fault::Alert(alert)));
        }
    }
}

#[test]
fn what_was_opened_before_a_bad_record_is_read_first() {
    for room in [1000, 3, 0] {
        let (mut there, mut here) = established();
        send(&mut there, b"whole");
        let mut bytes = take(&mut there);
        bytes.extend_from_slice(&[23, 3, 3, 0, 40]);
        bytes.extend_from_slice(&[9; 40]);
        let mut into = [0; 1000];
        let given = here.on_received(&mut bytes, &mut into[..room]);
        let mut found = into[..given.expect("there is something to be read")].to_vec();
        while let Io::Ready(count) = here.read(&mut into) {
            found.extend_from_slice(&into[..count]);
        }
        assert_eq!(found, b"whole");
        assert_eq!(here.read(&mut into), Io::Failed(ErrorKind::InvalidData));
        assert!(here.has_ended() && !here.may_read());
        assert_eq!(here.fault(), Some(Fault::Misbehaved));
        assert!(!here.pending().is_empty(), "the other end is told");
    }
}

/// What a server says to the last of these, which is wrong.
fn told(client: &mut Connection, last: impl Fn(Vec<u8>) -> Vec<u8>) -> (Vec<u8>, Option<Fault>) {
    let server = server(&listener(&["site"]), &[], false);
    let mut server = server.accept(Some("site.example")).expect("a site");
    carry(client, &mut server, usize::MAX);
    carry(&mut server, client, usize::MAX);
    let mut last = last(take(client));
    let opened = server.on_received(&mut last, &mut []);
    assert!(opened.is_err());
    (take(&mut server), server.fault())
}

#[test]
fn a_server_says_what_was_wrong_as_long_as_nothing_is_encrypted() {
    use provider::kx_group::{SECP384R1, X25519};
    const KEY_EXCHANGE: u8 = 16;
    let alert = |alert: Alert| alert.record().to_vec();
    for message in [[KEY_EXCHANGE, 0, 0, 0], [KEY_EXCHANGE, 0xff, 0xff, 0xff]] {
        let settings = client_of(&rustls::version::TLS12, &[X25519], None);
        let mut client = settings.connect("site.example").expect("a name");
        let record = [[22, 3, 3, 0, 4].as_slice(), &message].concat();
        let told = told(&mut client, |_| record.clone());
        assert_eq!(
            told,
            (alert(Alert::DECODE_ERROR), Some(Fault::Malformed)),
            "{message:?}"
        );
    }
    // The other key is asked for first, and the name is another behind that.
    let settings = client_of(&rustls::version::TLS13, &[SECP384R1, X25519], None);
    let mut client = settings.connect("site.example").expect("a name");
    let told = told(&mut client, |mut hello| {
        let name = b"site.example";
        let at = hello.windows(name.len()).position(|it| it == name);
        hello[at.expect("it is named")] = b'x';
        hello
    });
    let wanted = (alert(Alert::ILLEGAL_PARAMETER), Some(Fault::Misbehaved));
    assert_eq!(told, wanted);
}

#[test]
fn what_stands_behind_a_hello_in_its_record_is_refused_aloud() {
    let settings = client(None, &[]);
    let mut client = settings.connect("site.example").expect("a name");
    let mut hello = take(&mut client);
    hello.extend_from_slice(b"xxxx");
    let length = u16::try_from(hello.len() - 5).expect("a record");
    hello[3..5].copy_from_slice(&length.to_be_bytes());
    let server = server(&listener(&["site"]), &[], false);
    let mut server = server.accept(None).expect("the first");
    assert!(server.on_received(&mut hello, &mut []).is_err());
    assert!(server.fault().is_some());
    let alert = take(&mut server);
    let is_named = [Alert::DECODE_ERROR, Alert::UNEXPECTED_MESSAGE].map(|it| it.record().to_vec());
    assert!(is_named.contains(&alert), "{alert:?}");
}
