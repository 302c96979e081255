//! What weir makes of TLS once it has ended it: what backends, counters and logs are told.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;

use crate::client::Client;
use crate::config::Config;
use crate::harness::log::STATISTICS;
use crate::harness::{Gate, Peer, Scratch, Weir, eventually};
use crate::software::{haproxy, is_installed};
use crate::web::Web;

/// A file of the certificates that all tests use.
pub(crate) fn file(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/certificates")
        .join(name)
        .display()
        .to_string()
}

pub(crate) fn pair(name: &str) -> String {
    format!(
        "certificate: {}, key: {}",
        file(&format!("{name}.pem")),
        file(&format!("{name}.key"))
    )
}

/// The value of `tls` for a site that knows its clients, or may.
fn with_clients(client_auth: &str) -> String {
    let ca = file("ca.pem");
    let pair = pair("site");
    format!("tls: {{{pair}, client_ca: {ca}, client_auth: {client_auth}}}")
}

const FROM: &str = "proxy_protocol: {from: [127.0.0.1]}";

/// What a program says, to its end, which must not take long.
fn said(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60", program]);
    let output = command.args(arguments).stdin(Stdio::null()).output();
    let output = output.expect("it is installed");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    told + &String::from_utf8_lossy(&output.stderr)
}

/// What `openssl s_client` says of a connection.
fn s_client(to: SocketAddr, arguments: &[&str]) -> String {
    let to = to.to_string();
    let mut all = vec!["s_client", "-connect", &to];
    all.extend_from_slice(arguments);
    said("openssl", &all)
}

/// What `curl` gets from weir under this name.
fn curl(weir: &Weir, name: &str, arguments: &[&str]) -> String {
    let port = weir.address_of("web").port();
    let (resolve, url) = (
        format!("{name}:{port}:127.0.0.1"),
        format!("https://{name}:{port}/"),
    );
    let ca = file("ca.pem");
    let mut all = vec![
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--cacert",
        &ca,
    ];
    all.extend_from_slice(&["--resolve", &resolve, &url]);
    all.extend_from_slice(arguments);
    said("curl", &all)
}

/// A weir with this `tls` and a mirror behind it, and a line of statistics ten times a second.
fn weir(web: &Web, tls: &str) -> Weir {
    let config = Config::pool([web.address()]).listener(tls);
    let config = config.to_string();
    Weir::start(config.replace("stats_interval: 0", "stats_interval: 100ms"))
}

/// The ClientHello of `openssl s_client`.
fn client_hello() -> Vec<u8> {
    let gate = Gate::new();
    let to = gate.address();
    let client = thread::spawn(move || s_client(to, &["-servername", "site.example"]));
    let mut bytes = vec![0; 4096];
    let count = gate.accept().read(&mut bytes).expect("it is sent at once");
    bytes.truncate(count);
    client.join().expect("it does not panic");
    bytes
}

#[test]
fn a_handshake_that_fails_is_counted_and_logged_by_reason() {
    let raw = |says: &'static [u8]| {
        move |to: SocketAddr| {
            let mut peer = Peer::connect(to).expect("it listens");
            peer.send(says);
            drop(peer);
        }
    };
    let openssl = |arguments: &'static [&'static str]| {
        move |to: SocketAddr| {
            s_client(to, arguments);
        }
    };
    let site = format!("tls: {{{}}}", pair("site"));
    let newest = format!("tls: {{{}, min_version: \"1.3\"}}", pair("site"));
    let strict = format!(
        "tls: {{certificates: [{{{}}}], strict_sni: true}}",
        pair("site")
    );
    let required = with_clients("required");
    type Act<'a> = &'a dyn Fn(SocketAddr);
    let hello = client_hello();
    let cases: [(&str, Act<'_>, &str, &[&str]); 12] = [
        (
            &site,
            &raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            "not TLS 1",
            &["HTTP where TLS is spoken"],
        ),
        (
            &site,
            &raw(b"SSH-2.0-x\r\n"),
            "not TLS 1",
            &["something else"],
        ),
        (
            &site,
            &raw(b"\x16\x03\x01\0\x04\x01\0\0\0"),
            "malformed 1",
            &["malformed"],
        ),
        (
            &newest,
            &openssl(&["-tls1_2", "-servername", "site.example"]),
            "nothing in common 1",
            &["which asked for site.example", "no version"],
        ),
        (
            &strict,
            &openssl(&["-servername", "other.example"]),
            "unrecognized name 1",
            &[
                "which asked for other.example",
                "name that a certificate is for",
            ],
        ),
        (
            &site,
            &openssl(&["-alpn", "h3", "-servername", "site.example"]),
            "no protocol 1",
            &["which asked for site.example", "no application protocol"],
        ),
        (
            &required,
            &openssl(&["-tls1_2", "-servername", "site.example"]),
            "client certificate 1",
            &[
                "which asked for site.example",
                "no certificate was presented",
            ],
        ),
        (
            &site,
            &openssl(&[
                "-tls1_3",
                "-verify_return_error",
                "-servername",
                "site.example",
            ]),
            "alert 1",
            &["which asked for site.example", "alert unknown_ca"],
        ),
        (
            &site,
            &raw(b"\x16\x03\x01\x02\0\x01\0\x01\xfc"),
            "cut 1",
            &["closed: "],
        ),
        (
            &format!("{site}\n    timeouts: {{handshake: 200ms}}"),
            &|to: SocketAddr| {
                let mut peer = Peer::connect(to).expect("it listens");
                peer.send(b"\x16\x03\x01\x02\0");
                peer.expect_reset();
            },
            "too slow 1",
            &["no ClientHello in time"],
        ),
        (
            &format!("{site}\n    timeouts: {{handshake: 200ms}}"),
            &|to: SocketAddr| {
                let mut peer = Peer::connect(to).expect("it listens");
                peer.send(&hello);
                peer.end();
            },
            "too slow 1",
            &[
                "which asked for site.example",
                "a handshake that took too long",
            ],
        ),
        (
            &format!("{site}\n    {FROM}\n    timeouts: {{handshake: 200ms}}"),
            &|to: SocketAddr| {
                let mut peer = Peer::connect(to).expect("it listens");
                peer.send(b"PROXY TCP4 ");
                peer.expect_reset();
            },
            "too slow 1",
            &["no PROXY header in time"],
        ),
    ];
    let web = Web::mirror();
    for (tls, act, counted, words) in cases {
        let weir = weir(&web, tls);
        act(weir.address_of("web"));
        let counted = format!("handshakes failed 1 ({counted})");
        weir.log.wait(&[STATISTICS, &counted]);
        let words: Vec<&str> = ["listener web: 127.0.0.1:"]
            .iter()
            .chain(words)
            .copied()
            .collect();
        weir.log.wait(&words);
    }
}

/// What a backend is told of the certificate in that file.
fn client_cert(name: &str) -> String {
    let pem = fs::read_to_string(file(name)).expect("a certificate");
    let lines = pem.lines().filter(|line| !line.starts_with("-----"));
    format!("Client-Cert: :{}:", lines.collect::<String>())
}

/// How often a name stands before a colon, with whatever punctuation.
fn fields(told: &str, name: &str) -> usize {
    let names = told.lines().filter_map(|line| line.split_once(':'));
    let folded = names.map(|(name, _)| name.to_ascii_lowercase().replace(['_', '.'], "-"));
    folded.filter(|it| it == name).count()
}

const SPOOFED: [&str; 8] = [
    "-H",
    "Client-Cert: :c3Bvb2Y=:",
    "-H",
    "Client-Cert-Chain: :c3Bvb2Y=:",
    "-H",
    "client_cert: :c3Bvb2Y=:",
    "-H",
    "CLIENT-CERT: :c3Bvb2Y=:",
];

#[test]
fn backends_are_told_the_certificate_that_was_verified_and_no_other() {
    let web = Web::mirror();
    let (cert, key) = (file("client.pem"), file("client.key"));
    let shown = ["--cert", &cert, "--key", &key];
    let known = [&shown[..], &SPOOFED].concat();
    for more in [
        "",
        "\n    forwarded_fields: {keep: [Client-Cert, Client-Cert-Chain]}",
    ] {
        let weir = weir(&web, &(with_clients("optional") + more));
        for arguments in [&shown[..], &known] {
            let told = curl(&weir, "site.example", arguments);
            assert!(told.contains(&client_cert("client.pem")), "{told}");
            assert_eq!(fields(&told, "client-cert"), 1, "{told}");
            assert_eq!(fields(&told, "client-cert-chain"), 0, "{told}");
        }
        let told = curl(&weir, "site.example", &SPOOFED);
        assert!(told.starts_with("GET / "), "{told}");
        assert_eq!(fields(&told, "client-cert"), 0, "{told}");
        assert_eq!(fields(&told, "client-cert-chain"), 0, "{told}");
    }
}

#[test]
fn what_a_trusted_proxy_says_of_its_client_is_not_mixed_with_its_own_certificate() {
    let web = Web::mirror();
    let (cert, key) = (file("client.pem"), file("client.key"));
    let shown = ["--cert", &cert, "--key", &key];
    let tls = with_clients("required") + "\n    trusted_proxies: [127.0.0.1]";
    let weir = weir(&web, &tls);
    let own = client_cert("client.pem");
    for (more, is_own, of_client) in [
        (&[][..], true, 1),
        (&["-H", "X-Forwarded-For: 192.0.2.1"], false, 0),
        (&["-H", "Client-Cert: :AAAA:"], false, 1),
        (&["-H", "Client-Cert-Chain: :AAAA:"], false, 0),
    ] {
        let told = curl(&weir, "site.example", &[&shown[..], more].concat());
        assert!(told.starts_with("GET / "), "{told}");
        assert_eq!(told.contains(&own), is_own, "{told}");
        assert_eq!(fields(&told, "client-cert"), of_client, "{told}");
    }
}

#[test]
fn a_route_may_keep_the_certificate_to_itself() {
    let web = Web::mirror();
    let (cert, key) = (file("client.pem"), file("client.key"));
    let config = Config::new()
        .route("prefix: /, upstream: pool, headers: {request: {remove: [Client-Cert]}}")
        .upstream("pool", [web.address()])
        .listener(with_clients("required"));
    let weir = Weir::start(config);
    let told = curl(&weir, "site.example", &["--cert", &cert, "--key", &key]);
    assert!(told.starts_with("GET / "), "{told}");
    assert_eq!(fields(&told, "client-cert"), 0, "{told}");
}

/// A client's certificate of about so many bytes, by the CA of all tests, and its key.
fn long_certificate(scratch: &Scratch, bytes: usize) -> (String, String) {
    let name = format!("long-{bytes}");
    let path = |end: &str| scratch.file(&format!("{name}.{end}")).display().to_string();
    let (key, csr, cert) = (path("key"), path("csr"), path("pem"));
    let entries: Vec<String> = (0..bytes / 110)
        .map(|n| format!("DNS:{n:0>50}.{n:0>50}.example"))
        .collect();
    let extensions = scratch.write(
        &format!("{name}.ext"),
        format!("subjectAltName={}", entries.join(",")),
    );
    let extensions = extensions.display().to_string();
    let (ca, ca_key) = (file("ca.pem"), file("ca.key"));
    said(
        "openssl",
        &[
            "req",
            "-new",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-subj",
            "/CN=long",
            "-keyout",
            &key,
            "-out",
            &csr,
        ],
    );
    let told = said(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-days",
            "2",
            "-set_serial",
            "7",
            "-extfile",
            &extensions,
            "-out",
            &cert,
        ],
    );
    assert!(fs::exists(&cert).is_ok_and(|it| it), "{told}");
    (cert, key)
}

#[test]
fn a_long_certificate_is_told_and_one_without_measure_is_refused() {
    let (web, scratch) = (Web::mirror(), Scratch::new());
    let weir = weir(&web, &with_clients("required"));
    for (bytes, is_told) in [(8_000, true), (15_000, true), (18_000, false)] {
        let (cert, key) = long_certificate(&scratch, bytes);
        let arguments = ["--cert", &cert, "--key", &key, "--include"];
        let told = curl(&weir, "site.example", &arguments);
        if is_told {
            assert!(told.starts_with("HTTP/1.1 200"), "{bytes}: {told}");
            assert_eq!(fields(&told, "client-cert"), 1, "{told}");
        } else {
            assert!(told.starts_with("HTTP/1.1 431"), "{bytes}: {told}");
        }
    }
}

#[test]
fn a_host_of_other_rules_than_the_connection_is_misdirected() {
    let web = Web::mirror();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let (site, two) = (pair("site"), pair("two"));
    let tls = format!(
        "tls: {{certificates: [{{{two}}}, {{{site}, client_ca: {ca}, client_auth: required}}]}}"
    );
    let weir = weir(&web, &tls);
    let shown = ["--cert", &cert, "--key", &key];
    for (name, host, status) in [
        ("two.example", "two.example", 200),
        ("two.example", "TWO.example:443", 200),
        ("two.example", "other.example", 200),
        ("two.example", "site.example", 421),
        ("two.example", "SITE.example.:8443", 421),
        ("site.example", "site.example", 200),
        ("site.example", "x.wild.example", 200),
        ("site.example", "two.example", 421),
        ("site.example", "127.0.0.1", 421),
    ] {
        let host_field = format!("Host: {host}");
        let mut arguments = vec!["--include", "-H", &host_field];
        if name == "site.example" {
            arguments.extend_from_slice(&shown);
        }
        let told = curl(&weir, name, &arguments);
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(told.starts_with(&wanted), "{host} over {name}: {told}");
    }
    let plain = Weir::start(Config::pool([web.address()]));
    let told = Client::new(&plain).get_with("/", "Host: site.example\r\n");
    assert_ne!(told.status(), 421);
}

/// A client over TLS, as `openssl s_client` is one, which says one thing after the other.
struct Dialogue {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Dialogue {
    fn with(to: SocketAddr, name: &str) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-quiet", "-connect", &to.to_string()]);
        command.args(["-servername", name]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("openssl is installed");
        let answers = BufReader::new(child.stdout.take().expect("it is piped"));
        Self { child, answers }
    }

    /// The head of the answer to a request for this host, which has a short body.
    fn ask(&mut self, host: &str) -> String {
        let request = format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let input = self.child.stdin.as_mut().expect("it is piped");
        input.write_all(request.as_bytes()).expect("it is read");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let count = self.answers.read_line(&mut head).expect("text");
            assert_ne!(count, 0, "an end within {head:?}");
        }
        head
    }
}

impl Drop for Dialogue {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_connection_ends_behind_its_next_answer_once_other_things_are_asked_of_clients() {
    let web = Web::mirror();
    // Whoever weir becomes has to be able to read them again.
    let scratch = Scratch::new();
    let copy = |name: &str| {
        let bytes = std::fs::read(file(name)).expect("a file of the tests");
        scratch.write(name, bytes).display().to_string()
    };
    let pair = |name: &str| {
        let (certificate, key) = (copy(&format!("{name}.pem")), copy(&format!("{name}.key")));
        format!("certificate: {certificate}, key: {key}")
    };
    let ca = copy("ca.pem");
    let config = |more: &str| {
        let (site, two) = (pair("site"), pair("two"));
        let list = format!("certificates: [{{{site}}}, {{{two}{more}}}]");
        Config::pool([web.address()]).listener(format!("tls: {{{list}}}"))
    };
    let weir = Weir::start(config(""));
    let to = weir.address_of("web");
    let (mut site, mut two) = (
        Dialogue::with(to, "site.example"),
        Dialogue::with(to, "two.example"),
    );
    assert!(site.ask("two.example").starts_with("HTTP/1.1 200"));
    assert!(two.ask("two.example").starts_with("HTTP/1.1 200"));
    weir.reload(config(&format!(", client_ca: {ca}, client_auth: required")));
    let last = two.ask("two.example");
    assert!(last.starts_with("HTTP/1.1 200"), "{last}");
    assert!(last.contains("Connection: close\r\n"), "{last}");
    assert!(site.ask("two.example").starts_with("HTTP/1.1 421"));
    let goes_on = site.ask("site.example");
    assert!(goes_on.starts_with("HTTP/1.1 200"), "{goes_on}");
    assert!(!goes_on.contains("Connection: close"), "{goes_on}");
}

#[test]
fn where_unknown_names_are_refused_their_hosts_are_too() {
    let web = Web::mirror();
    let pair = pair("site");
    let tls = format!("tls: {{certificates: [{{{pair}}}], strict_sni: true}}");
    let weir = weir(&web, &tls);
    for (host, status) in [("x.wild.example", 200), ("other.example", 421)] {
        let field = format!("Host: {host}");
        let told = curl(&weir, "site.example", &["--include", "-H", &field]);
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{told}");
    }
}

#[test]
fn the_access_log_tells_what_was_agreed_on() {
    let (web, scratch) = (Web::mirror(), Scratch::new());
    let path = scratch.write("access.log", "");
    let (cert, key) = (file("client.pem"), file("client.key"));
    let log = format!("access_log: {{path: {}, format: json}}", path.display());
    let config = Config::pool([web.address()])
        .top(&log)
        .listener(with_clients("optional"));
    let weir = Weir::start(config);
    curl(&weir, "site.example", &["--tlsv1.3"]);
    curl(
        &weir,
        "site.example",
        &["--tls-max", "1.2", "--cert", &cert, "--key", &key],
    );
    let lines = eventually("two lines", || {
        let text = fs::read_to_string(&path).ok()?;
        (text.lines().count() == 2).then_some(text)
    });
    let (one, two) = lines.split_once('\n').expect("two lines");
    let facts = r#""sni":"site.example","tls_version":"TLSv1.3","tls_cipher":"TLS_"#;
    assert!(one.contains(facts), "{one}");
    assert!(
        one.ends_with(r#""tls_resumed":false,"client_verify":"none"}"#),
        "{one}"
    );
    assert!(two.contains(r#""tls_version":"TLSv1.2","tls_cipher":"TLS_ECDHE_ECDSA_"#));
    assert!(
        two.trim_end()
            .ends_with(r#""tls_resumed":false,"client_verify":"ok"}"#),
        "{two}"
    );
}

/// The value of a TLV, or of one within it.
fn tlv(mut list: &[u8], wanted: u8) -> Option<&[u8]> {
    while let &[kind, high, low, ref rest @ ..] = list {
        let (value, rest) = rest.split_at(usize::from(high) << 8 | usize::from(low));
        if kind == wanted {
            return Some(value);
        }
        list = rest;
    }
    None
}

/// A backend that answers the first request behind a PROXY header of version 2, and that header.
fn first_header(listener: &TcpListener) -> Vec<u8> {
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut header = vec![0; 16];
    stream.read_exact(&mut header).expect("a header");
    let rest = usize::from(header[14]) << 8 | usize::from(header[15]);
    header.resize(16 + rest, 0);
    stream.read_exact(&mut header[16..]).expect("all of it");
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a request");
        request.push(byte[0]);
    }
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    stream.write_all(answer).expect("it is read");
    header
}

#[test]
fn a_proxy_header_tells_of_the_tls_that_weir_has_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let config = Config::pool([address])
        .with("send_proxy: v2")
        .with("health_check: off")
        .listener(with_clients("optional"));
    let weir = Weir::start(config);
    let (cert, key) = (file("client.pem"), file("client.key"));
    let shown = ["--tlsv1.3", "--cert", &cert, "--key", &key];
    for (arguments, version, client, verify, name) in [
        (&shown[..], "TLSv1.3", 7, 0, Some("client one")),
        (&["--tls-max", "1.2"], "TLSv1.2", 1, 1, None),
    ] {
        let told = thread::scope(|scope| {
            let header = scope.spawn(|| first_header(&listener));
            let told = curl(&weir, "site.example", arguments);
            assert_eq!(told, "ok");
            header.join().expect("it was sent")
        });
        let list = &told[28..];
        assert_eq!(tlv(list, 1), Some(&b"http/1.1"[..]));
        assert_eq!(tlv(list, 2), Some(&b"site.example"[..]));
        let ssl = tlv(list, 0x20).expect("it is TLS");
        assert_eq!((ssl[0], &ssl[1..5]), (client, &[0, 0, 0, verify][..]));
        assert_eq!(tlv(&ssl[5..], 0x21), Some(version.as_bytes()));
        assert_eq!(tlv(&ssl[5..], 0x22), name.map(str::as_bytes));
        let cipher = tlv(&ssl[5..], 0x23).expect("a cipher");
        assert!(cipher.starts_with(b"TLS_"), "{cipher:?}");
    }
}

#[test]
fn haproxy_is_told_the_name_that_the_client_has_asked_for() {
    if !is_installed("haproxy") {
        return;
    }
    let served = haproxy(|own, _| {
        format!(
            "frontend it\n mode http\n bind {own} accept-proxy\n \
             http-request return status 200 content-type text/plain lf-string \
             \"%[fc_pp_authority]\"\n"
        )
    });
    let config = Config::pool([served.address()])
        .with("send_proxy: v2")
        .listener(with_clients("optional"));
    let weir = Weir::start(config);
    assert_eq!(curl(&weir, "site.example", &[]), "site.example");
}

#[test]
fn handshakes_that_are_done_are_counted_full_or_resumed() {
    let web = Web::mirror();
    let weir = weir(&web, &format!("tls: {{{}}}", pair("site")));
    let answer = curl(&weir, "site.example", &[]);
    assert!(answer.contains("X-Forwarded-Proto: https"), "{answer}");
    let session = std::env::temp_dir().join(format!("weir-session-{}", std::process::id()));
    let kept = session.display().to_string();
    let to = weir.address_of("web");
    s_client(to, &["-tls1_2", "-sess_out", &kept]);
    let told = s_client(to, &["-tls1_2", "-sess_in", &kept]);
    assert!(told.contains("Reused, TLSv1.2"), "{told}");
    fs::remove_file(session).expect("it was written");
    weir.log.wait(&[STATISTICS, "handshakes 2, resumed 1"]);
}
