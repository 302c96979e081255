//! What weir makes of TLS once it has ended it: what backends, counters and logs are told.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::config::Config;
use crate::harness::log::STATISTICS;
use crate::harness::{Peer, Weir};
use crate::web::Web;

/// A file of the certificates that all tests use.
fn file(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/certificates")
        .join(name)
        .display()
        .to_string()
}

fn pair(name: &str) -> String {
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
    let cases: [(&str, Act<'_>, &str, &[&str]); 10] = [
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
            &["which asked for other.example"],
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
            &["no opening in time"],
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
    weir.log
        .wait(&[STATISTICS, "handshakes 2, resumed 1, handshakes failed 0"]);
}
