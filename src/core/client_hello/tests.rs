//! Hellos as they are built by hand, cut, split and spoiled.

use super::*;

/// The parts of a hello, which tests change before it is put together.
struct Parts {
    legacy_version: u16,
    ciphers: Vec<u8>,
    compressions: Vec<u8>,
    extensions: Option<Vec<(u16, Vec<u8>)>>,
}

fn parts(extensions: &[(u16, Vec<u8>)]) -> Parts {
    Parts {
        legacy_version: 0x0303,
        ciphers: vec![0x13, 0x01],
        compressions: vec![0],
        extensions: Some(extensions.to_vec()),
    }
}

fn vector8(content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    [&[length], content].concat()
}

fn vector16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap();
    [&length.to_be_bytes(), content].concat()
}

fn name_list(names: &[&[u8]]) -> Vec<u8> {
    let entry = |name: &&[u8]| [vec![HOST_NAME], vector16(name)].concat();
    vector16(&names.iter().map(entry).collect::<Vec<_>>().concat())
}

fn named(name: &str) -> (u16, Vec<u8>) {
    (SERVER_NAME, name_list(&[name.as_bytes()]))
}

fn offering(protocols: &[&str]) -> (u16, Vec<u8>) {
    let all = protocols.iter().map(|it| vector8(it.as_bytes()));
    (ALPN, vector16(&all.collect::<Vec<_>>().concat()))
}

fn versions(list: &[u16]) -> (u16, Vec<u8>) {
    let all = list.iter().flat_map(|it| it.to_be_bytes());
    (SUPPORTED_VERSIONS, vector8(&all.collect::<Vec<_>>()))
}

impl Parts {
    fn message(&self) -> Vec<u8> {
        let mut body = self.legacy_version.to_be_bytes().to_vec();
        body.extend([0x5a; 32]);
        body.extend(vector8(&[7; 32]));
        body.extend(vector16(&self.ciphers));
        body.extend(vector8(&self.compressions));
        if let Some(extensions) = &self.extensions {
            let all = extensions.iter();
            let all = all.map(|(kind, it)| [kind.to_be_bytes().to_vec(), vector16(it)].concat());
            body.extend(vector16(&all.collect::<Vec<_>>().concat()));
        }
        message(CLIENT_HELLO, &body)
    }

    fn looked_at(&self) -> HelloLook {
        HelloReader::default().look(&records(&self.message(), RECORD_BYTES_MAX))
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind], &length[1..], body].concat()
}

fn records(message: &[u8], bytes_max: usize) -> Vec<u8> {
    let record = |piece: &[u8]| [vec![HANDSHAKE, 3, 1], vector16(piece)].concat();
    let all: Vec<_> = message.chunks(bytes_max).map(record).collect();
    all.concat()
}

fn hello(server_name: Option<&str>, alpn: &[&str], version: u16) -> HelloLook {
    let alpn = alpn.iter().map(|it| vector8(it.as_bytes()));
    HelloLook::Hello(ClientHello {
        server_name: server_name.map(Box::from),
        version,
        alpn: alpn.collect::<Vec<_>>().concat().into(),
        renegotiates: false,
    })
}

fn look(extensions: &[(u16, Vec<u8>)]) -> HelloLook {
    parts(extensions).looked_at()
}

#[test]
fn name_protocols_and_version_are_found_among_others() {
    let grease = (0x0a0a, vec![]);
    let outer = (0xfe0d, vec![1; 200]);
    let found = look(&[
        grease,
        (10, vec![0, 2, 0, 29]),
        named("Api.Example.TEST"),
        offering(&["h2", "http/1.1"]),
        versions(&[0x7a7a, 0x0304, 0x0303, 0x7f1c]),
        outer,
        (0xfafa, vec![0]),
    ]);
    let wanted = hello(Some("api.example.test"), &["h2", "http/1.1"], 0x0304);
    assert_eq!(found, wanted);
    let HelloLook::Hello(found) = found else {
        panic!("it is one");
    };
    assert!(found.protocols().eq([&b"h2"[..], b"http/1.1"]));
}

#[test]
fn nothing_has_to_be_there() {
    assert_eq!(look(&[]), hello(None, &[], 0x0303));
    let old = Parts {
        legacy_version: 0x0301,
        extensions: None,
        ..parts(&[])
    };
    assert_eq!(old.looked_at(), hello(None, &[], 0x0301));
    assert_eq!(look(&[versions(&[0x2a2a, 0x7f17])]), hello(None, &[], 0));
}

#[test]
fn it_is_found_however_it_is_cut_and_split() {
    let built = parts(&[named("a.example"), offering(&["x"]), (21, vec![0; 300])]);
    let (message, wanted) = (built.message(), hello(Some("a.example"), &["x"], 0x0303));
    for bytes_max in 1..=message.len() {
        let bytes = records(&message, bytes_max);
        let mut slowly = HelloReader::default();
        for end in 0..bytes.len() {
            let found = slowly.look(&bytes[..end]);
            assert_eq!(
                found,
                HelloLook::More,
                "{end} bytes in records of {bytes_max}"
            );
        }
        assert_eq!(slowly.look(&bytes), wanted);
        // What follows is not looked at: it may be encrypted, or of another kind.
        let followed = [&bytes[..], &[23, 3, 3, 0, 0, 9]].concat();
        assert_eq!(HelloReader::default().look(&followed), wanted);
    }
}

#[test]
fn it_may_be_as_long_as_a_record_and_no_longer() {
    let padded = |bytes| parts(&[named("a.example"), (21, vec![0; bytes])]);
    let room = MESSAGE_BYTES_MAX - padded(0).message().len();
    let wanted = hello(Some("a.example"), &[], 0x0303);
    for bytes_max in [1, 100, RECORD_BYTES_MAX] {
        let bytes = records(&padded(room).message(), bytes_max);
        assert_eq!(HelloReader::default().look(&bytes), wanted);
        let bytes = records(&padded(room + 1).message(), bytes_max);
        let bad = HelloLook::Bad(BadHello::TooLong);
        assert_eq!(HelloReader::default().look(&bytes), bad);
        // As soon as it says so.
        let early = bytes.len().min(30);
        assert_eq!(HelloReader::default().look(&bytes[..early]), bad);
    }
}

#[test]
fn names_are_those_of_hosts() {
    let label = "x".repeat(host_name::LABEL_BYTES_MAX);
    let long = format!("{label}.{label}.{label}.{}", &label[2..]);
    for (given, name) in [
        ("A-b_c.Example", "a-b_c.example"),
        ("example.test.", "example.test"),
        ("localhost", "localhost"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        (&format!("{label}.1a"), &format!("{label}.1a")),
        (&long, &long),
    ] {
        assert_eq!(
            look(&[named(given)]),
            hello(Some(name), &[], 0x0303),
            "{given}"
        );
    }
    let too_long = format!("a{long}");
    let too_long_label = format!("x{label}.test");
    for given in [
        ".",
        "a..b",
        ".a",
        "a..",
        "127.0.0.1.",
        "127.0.0.256",
        "127.1",
        "[::1]",
        "fe80::1%eth0",
        "a b",
        "a.example:443",
        "a\0.example",
        "b\u{fc}cher.example",
        "*.example",
        "a/b",
        "a\r\nb",
        &too_long,
        &too_long_label,
    ] {
        assert_eq!(
            look(&[named(given)]),
            HelloLook::Bad(BadHello::Name),
            "{given}"
        );
    }
    let not_utf8 = (SERVER_NAME, name_list(&[b"a\xff.example"]));
    assert_eq!(look(&[not_utf8]), HelloLook::Bad(BadHello::Name));
}

#[test]
fn an_address_is_no_name_and_no_fault() {
    for given in [
        "127.0.0.1",
        "192.0.2.255",
        "::1",
        "2001:DB8::1",
        "::ffff:192.0.2.1",
    ] {
        let found = look(&[named(given), offering(&["h2"])]);
        assert_eq!(found, hello(None, &["h2"], 0x0303), "{given}");
    }
}

#[test]
fn extensions_that_do_not_fit_are_refused() {
    let two_names = name_list(&[b"a.example", b"b.example"]);
    let cut_name = name_list(&[b"a.example"])[..5].to_vec();
    let longer_list = [name_list(&[b"a.example"]), vec![0]].concat();
    for extension in [
        (SERVER_NAME, vec![]),
        (SERVER_NAME, vector16(&[])),
        (SERVER_NAME, two_names),
        (SERVER_NAME, cut_name),
        (SERVER_NAME, longer_list),
        (SERVER_NAME, vector16(&[1, 0, 1, b'a'])),
        (ALPN, vec![]),
        (ALPN, vector16(&[])),
        (ALPN, vector16(&[0])),
        (ALPN, vector16(&[1, b'a', 0])),
        (ALPN, vector16(&[2, b'a'])),
        (ALPN, [vector16(&[1, b'a']), vec![0]].concat()),
        (SUPPORTED_VERSIONS, vec![]),
        (SUPPORTED_VERSIONS, vector8(&[])),
        (SUPPORTED_VERSIONS, vector8(&[3])),
        (SUPPORTED_VERSIONS, vec![4, 3, 4]),
    ] {
        let found = look(std::slice::from_ref(&extension));
        assert_eq!(found, HelloLook::Bad(BadHello::Malformed), "{extension:?}");
    }
    // An empty name has a length that must not be.
    let found = look(&[(SERVER_NAME, name_list(&[b""]))]);
    assert_eq!(found, HelloLook::Bad(BadHello::Name));
}

#[test]
fn no_extension_may_be_there_twice() {
    for extension in [
        named("a.example"),
        offering(&["h2"]),
        (0xffff, vec![]),
        (0x0a0a, vec![]),
    ] {
        let found = look(&[extension.clone(), (35, vec![]), extension]);
        assert_eq!(found, HelloLook::Bad(BadHello::Duplicate));
    }
}

#[test]
fn bodies_that_do_not_fit_are_refused() {
    let blank = || parts(&[]);
    for (built, bad) in [
        (
            Parts {
                ciphers: vec![],
                ..blank()
            },
            BadHello::Malformed,
        ),
        (
            Parts {
                ciphers: vec![0; 3],
                ..blank()
            },
            BadHello::Malformed,
        ),
        (
            Parts {
                compressions: vec![],
                ..blank()
            },
            BadHello::Malformed,
        ),
        (
            Parts {
                compressions: vec![1],
                ..blank()
            },
            BadHello::Malformed,
        ),
        (
            Parts {
                legacy_version: 0x0200,
                ..blank()
            },
            BadHello::Version,
        ),
        (
            Parts {
                legacy_version: 0xfeff,
                ..blank()
            },
            BadHello::Version,
        ),
    ] {
        assert_eq!(built.looked_at(), HelloLook::Bad(bad));
    }
    let whole = parts(&[named("a.example")]).message();
    let behind_extensions = message(CLIENT_HELLO, &[&whole[4..], &[0]].concat());
    let found = HelloReader::default().look(&records(&behind_extensions, 100));
    assert_eq!(found, HelloLook::Bad(BadHello::Malformed));
    for end in 4..whole.len() {
        let cut = message(CLIENT_HELLO, &whole[4..end]);
        let found = HelloReader::default().look(&records(&cut, 100));
        let has_no_extensions = end == 4 + 2 + 32 + 33 + 4 + 2;
        let bad = HelloLook::Bad(BadHello::Malformed);
        assert_eq!(found == bad, !has_no_extensions, "cut at {end}");
    }
}

#[test]
fn other_records_are_refused_as_early_as_they_are_seen() {
    for (bytes, found) in [
        (&b""[..], HelloLook::More),
        (&[22], HelloLook::More),
        (&[22, 3, 9, 0x40, 0], HelloLook::More),
        (&[21], HelloLook::More),
        (&[21, 3], HelloLook::Bad(BadHello::Unexpected)),
        (&[23, 3, 3], HelloLook::Bad(BadHello::Unexpected)),
        (&[22, 3, 1, 0, 0], HelloLook::Bad(BadHello::RecordEmpty)),
        (
            &[22, 3, 1, 0x40, 1],
            HelloLook::Bad(BadHello::RecordTooLong),
        ),
        (&[22, 3, 1, 0, 1, 2], HelloLook::Bad(BadHello::Unexpected)),
        (
            &[22, 3, 1, 0, 1, 1, 23],
            HelloLook::Bad(BadHello::Unexpected),
        ),
        (
            &[22, 3, 1, 0, 1, 1, 22, 2],
            HelloLook::Bad(BadHello::Unexpected),
        ),
        (
            &[22, 3, 1, 0, 1, 1, 22, 3, 1, 0, 0],
            HelloLook::Bad(BadHello::RecordEmpty),
        ),
        (&[22, 2], HelloLook::NotTls(NotTls::Other)),
        (&[23, 2], HelloLook::NotTls(NotTls::Other)),
        // SSLv2.
        (&[0x80, 0x2e, 1, 0, 2], HelloLook::NotTls(NotTls::Other)),
        (b"\0", HelloLook::NotTls(NotTls::Other)),
        (b"\r\n", HelloLook::NotTls(NotTls::Other)),
        (b"SSH-2.0-x", HelloLook::NotTls(NotTls::Other)),
        (b"EHLO me", HelloLook::NotTls(NotTls::Other)),
        (b"get / HTTP/1.1", HelloLook::NotTls(NotTls::Other)),
        (b" / ", HelloLook::NotTls(NotTls::Other)),
        (b"GET", HelloLook::More),
        (b"GET ", HelloLook::More),
        (b"GET /", HelloLook::NotTls(NotTls::Http)),
        (b"OPTIONS *", HelloLook::NotTls(NotTls::Http)),
        (b"POST http://a/", HelloLook::NotTls(NotTls::Http)),
        (b"PRI * HTTP/2.0", HelloLook::NotTls(NotTls::Http)),
        (b"CONNECT a.example:443", HelloLook::NotTls(NotTls::Http)),
        (&[b'A'; METHOD_BYTES_MAX - 1], HelloLook::More),
        (&[b'A'; METHOD_BYTES_MAX], HelloLook::More),
        (
            &[b'A'; METHOD_BYTES_MAX + 1],
            HelloLook::NotTls(NotTls::Other),
        ),
    ] {
        assert_eq!(HelloReader::default().look(bytes), found, "{bytes:?}");
    }
}

#[test]
fn every_refusal_has_an_alert_and_words() {
    for (bad, alert) in [
        (BadHello::Unexpected, 10),
        (BadHello::RecordTooLong, 22),
        (BadHello::RecordEmpty, 10),
        (BadHello::TooLong, 50),
        (BadHello::Version, 70),
        (BadHello::Malformed, 50),
        (BadHello::Duplicate, 47),
        (BadHello::Name, 47),
        (BadHello::Renegotiation, 40),
    ] {
        assert_eq!(bad.alert().record(), [21, 3, 3, 0, 2, 2, alert]);
        assert!(!bad.words().is_empty());
    }
}
