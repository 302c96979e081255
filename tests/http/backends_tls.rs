//! TLS to backends: nginx and HAProxy, which have good and bad certificates and ask for some.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::client::Client;
use crate::config::Config;
use crate::harness::log::DOWN;
use crate::harness::{Origin, Peer, Scratch, Weir, eventually};
use crate::secured::{file, pair};
use crate::software::{Served, haproxy, nginx};

/// So long is what a request says of itself, in bytes; a handshake that fails says less.
const REQUEST_BYTES: usize = 4_000;

/// What a check has to be for its first result to come soon.
const SOON: &str = "interval: 500ms, timeout: 500ms";

/// A server that shows this certificate, with more of its own words on that.
type Server = fn(&str, &str) -> Served;

const BOTH: [Server; 2] = [nginx_with, haproxy_with];

/// It answers with the name that it was asked for, the client's certificate and the number of the
/// connection.
fn nginx_with(certificate: &str, more: &str) -> Served {
    let (cert, key) = (
        file(&format!("{certificate}.pem")),
        file(&format!("{certificate}.key")),
    );
    nginx(|own, folder| {
        format!(
            "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; client_body_temp_path {folder}/b;\n\
             proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;\n\
             uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
             server {{ listen {own} ssl; ssl_certificate {cert}; ssl_certificate_key {key};\n\
             {more} location / {{ return 200 \"[$ssl_server_name] $ssl_client_s_dn \
             #$connection\"; }} }} }}\n"
        )
    })
}

/// It answers alike, but for the number.
fn haproxy_with(certificate: &str, more: &str) -> Served {
    haproxy(|own, folder| {
        let bundle = bundle(folder, certificate);
        format!(
            "frontend it\n mode http\n bind {own} ssl crt {bundle} {more}\n http-request return \
             status 200 content-type text/plain lf-string \"[%[ssl_fc_sni]] %[ssl_c_s_dn]\"\n"
        )
    })
}

/// A certificate with its key in one file.
fn bundle(folder: &str, certificate: &str) -> String {
    let read = |kind| fs::read_to_string(file(&format!("{certificate}.{kind}"))).expect("a file");
    let path = format!("{folder}/bundle.pem");
    fs::write(&path, read("pem") + &read("key")).expect("the folder is the test's");
    path
}

/// Stands before a server, and counts what weir sends.
struct Tap {
    origin: Origin,
    sent: Arc<AtomicUsize>,
}

impl Tap {
    fn before(server: SocketAddr) -> Self {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let origin = Origin::new(move |peer| relay(peer, Peer::connect(server)?, &counted));
        Self { origin, sent }
    }

    /// Weir has connected, and sent less than a request.
    fn expect_no_request(&self) {
        let sent = self.sent.load(Ordering::SeqCst);
        assert!((1..REQUEST_BYTES).contains(&sent), "{sent} bytes");
    }
}

fn relay(peer: &mut Peer, mut server: Peer, counted: &AtomicUsize) -> io::Result<()> {
    let (mut from, mut to) = (server.share(), peer.share());
    let back = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.socket().shutdown(Shutdown::Write);
    });
    let mut chunk = [0; 16 * 1024];
    let found = loop {
        match peer.read(&mut chunk) {
            Ok(0) => break server.socket().shutdown(Shutdown::Write),
            Ok(count) => {
                counted.fetch_add(count, Ordering::SeqCst);
                if let Err(error) = server.write_all(&chunk[..count]) {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    if found.is_err() {
        server.socket().shutdown(Shutdown::Both)?;
    }
    back.join().expect("it does not panic");
    found
}

/// Weir before these, secured by this.
fn before(backends: &[SocketAddr], tls: &str) -> Config {
    Config::pool(backends).with(&format!("tls: {{{tls}}}"))
}

fn ca(name: &str) -> String {
    format!("ca: {}", file(&format!("{name}.pem")))
}

/// The status and body of the answer to a request of [`REQUEST_BYTES`].
fn asked(weir: &Weir) -> (u16, String) {
    let field = format!("X-Long: {}\r\n", "x".repeat(REQUEST_BYTES));
    let answer = Client::new(weir).get_with("/", &field);
    (answer.status(), answer.text())
}

#[test]
fn a_backend_is_asked_for_by_name_and_believed_by_its_certificate() {
    let ca = ca("ca");
    for server in BOTH {
        for (certificate, tls, name) in [
            ("site", "server_name: site.example", "site.example"),
            ("site", "server_name: x.wild.example", "x.wild.example"),
            ("site-rsa", "server_name: site.example", "site.example"),
            ("two", "server_name: two.example", "two.example"),
            // An address is not told, but it is in the certificate.
            ("site", "server_name: 127.0.0.1", ""),
            (
                "site-other",
                "server_name: x.example, verify: false",
                "x.example",
            ),
            (
                "expired",
                "server_name: x.example, verify: false",
                "x.example",
            ),
        ] {
            let served = server(certificate, "");
            let weir = Weir::start(before(&[served.address()], &format!("{ca}, {tls}")));
            let (status, text) = asked(&weir);
            assert_eq!(status, 200, "{certificate} {tls}: {text}");
            assert!(text.starts_with(&format!("[{name}] ")), "{tls}: {text}");
        }
        let served = server("site", "");
        let named = format!("localhost:{}", served.address().port());
        let config = Config::pool([named]).with(&format!("tls: {{{ca}}}"));
        let (status, text) = asked(&Weir::start(config));
        assert_eq!(status, 200, "{text}");
        assert!(text.starts_with("[localhost] "), "{text}");
    }
}

#[test]
fn a_backend_that_is_not_believed_gets_no_byte_of_a_request() {
    let (own, other) = (ca("ca"), ca("other"));
    for server in BOTH {
        for (certificate, ca, name, why) in [
            ("site", &other, "site.example", "unknown issuer"),
            ("site-other", &own, "site.example", "unknown issuer"),
            ("site", &own, "two.example", "another name"),
            ("site", &own, "a.b.wild.example", "another name"),
            ("site", &own, "wild.example", "another name"),
            ("site", &own, "127.0.0.2", "another name"),
            ("cn-only", &own, "localhost", "another name"),
            ("expired", &own, "site.example", "expired"),
        ] {
            let served = server(certificate, "");
            let tap = Tap::before(served.address());
            let tls = format!("{ca}, server_name: {name}");
            for check in ["{}", "{path: /}"] {
                let config = before(&[tap.origin.address()], &tls);
                let weir = Weir::start(config.with(&format!("health_check: {check}")));
                weir.log.wait(&[DOWN, "TLS: certificate ", why]);
            }
            let weir = Weir::start(before(&[tap.origin.address()], &tls));
            let (status, text) = asked(&weir);
            assert_eq!(status, 502, "{certificate} for {name}: {text}");
            weir.log.wait(&["backend ", "TLS: certificate ", why]);
            tap.expect_no_request();
        }
    }
}

#[test]
fn another_backend_is_tried_where_one_is_not_believed() {
    for server in BOTH {
        let (bad, good) = (server("site-other", ""), server("site", ""));
        let tap = Tap::before(bad.address());
        let tls = format!("{}, server_name: site.example", ca("ca"));
        let config = before(&[tap.origin.address(), good.address()], &tls);
        let weir = Weir::start(config.with("passive: off"));
        for _ in 0..6 {
            assert_eq!(asked(&weir).0, 200);
        }
        let mut client = Client::new(&weir);
        let body = "x".repeat(REQUEST_BYTES);
        let length = body.len();
        for _ in 0..2 {
            client.send(format!(
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
            assert_eq!(client.receive().status(), 200);
        }
        tap.expect_no_request();
    }
}

#[test]
fn a_backend_that_asks_for_a_certificate_gets_it() {
    let own = format!("{}, server_name: site.example", ca("ca"));
    let (shown, foreign) = (
        format!("{own}, {}", pair("client")),
        format!("{own}, {}", pair("client-other")),
    );
    let asks = format!(
        "ssl_verify_client on; ssl_client_certificate {};",
        file("ca.pem")
    );
    let served = nginx_with("site", &asks);
    let told = |tls| asked(&Weir::start(before(&[served.address()], tls)));
    // It takes the connection, and refuses the request.
    assert_eq!((told(&own).0, told(&foreign).0), (400, 400));
    let (status, text) = told(&shown);
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("CN=client one"), "{text}");
    for version in ["TLSv1.2", "TLSv1.3"] {
        let asks = format!(
            "verify required ca-file {} ssl-min-ver {version} ssl-max-ver {version}",
            file("ca.pem")
        );
        let served = haproxy_with("site", &asks);
        let (status, text) = asked(&Weir::start(before(&[served.address()], &shown)));
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("CN=client one"), "{text}");
        for tls in [&own, &foreign] {
            let weir = Weir::start(before(&[served.address()], tls));
            assert_eq!(asked(&weir).0, 502, "{version}");
            weir.log.wait(&["TLS: alert "]);
        }
    }
}

#[test]
fn a_check_finds_that_a_backend_refuses_the_certificate() {
    let own = format!("{}, server_name: site.example", ca("ca"));
    let (shown, foreign) = (
        format!("{own}, {}", pair("client")),
        format!("{own}, {}", pair("client-other")),
    );
    for version in ["TLSv1.2", "TLSv1.3"] {
        let asks = format!(
            "verify required ca-file {} ssl-min-ver {version} ssl-max-ver {version}",
            file("ca.pem")
        );
        let served = haproxy_with("site", &asks);
        for check in ["", ", path: /"] {
            let start = |to, tls| {
                let check = format!("health_check: {{{SOON}{check}}}");
                Weir::start(before(&[to], tls).with(&check))
            };
            for tls in [&own, &foreign] {
                start(served.address(), tls)
                    .log
                    .wait(&[DOWN, "TLS: alert "]);
            }
            // The first result would decide at once.
            let tap = Tap::before(served.address());
            let weir = start(tap.origin.address(), &shown);
            eventually("two checks are over", || {
                (tap.origin.accepted() > 2).then_some(())
            });
            assert_eq!(weir.log.count(&[DOWN]), 0);
        }
    }
}

#[test]
fn an_answer_that_is_cut_before_its_mark_is_not_whole() {
    for is_cut in [false, true] {
        let origin = Origin::new(move |peer| {
            let mut seen = [0; 1024];
            let _ = peer.read(&mut seen)?;
            peer.write_all(b"HTTP/1.1 200 OK\r\n\r\npart")?;
            // Until the server before it is killed.
            while is_cut && peer.read(&mut seen)? > 0 {}
            Ok(())
        });
        let to = origin.address();
        let served = haproxy(|own, folder| {
            let bundle = bundle(folder, "site");
            format!("listen it\n mode tcp\n bind {own} ssl crt {bundle}\n server it {to}\n")
        });
        let tls = format!("{}, server_name: site.example", ca("ca"));
        let weir = Weir::start(before(&[served.address()], &tls));
        let mut client = Peer::connect(weir.address_of("web")).expect("it listens");
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut seen = Vec::new();
        while !seen.ends_with(b"part\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).expect("the beginning of it");
            seen.push(byte[0]);
        }
        if is_cut {
            drop(served);
            assert_eq!(client.end().0, b"");
        } else {
            client.expect("0\r\n\r\n");
        }
    }
}

#[test]
fn a_connection_is_used_again_only_for_what_it_was_made_for() {
    let served = nginx_with("site", "ssl_verify_client optional_no_ca;");
    let own = format!("{}, server_name: site.example", ca("ca"));
    // Whoever weir becomes reads them again.
    let kept = Scratch::new();
    let names = ["ca.pem", "other.pem", "client.pem", "client.key"];
    let copies = names.map(|name| {
        let bytes = fs::read(file(name)).expect("a file of the tests");
        (file(name), kept.write(name, bytes).display().to_string())
    });
    let config = |tls: &str| {
        let readable = |tls: String, (given, copy): &(String, String)| tls.replace(given, copy);
        before(
            &[served.address()],
            &copies.iter().fold(tls.to_owned(), readable),
        )
    };
    let weir = Weir::start(config(&own));
    let first = asked(&weir).1;
    assert_eq!(asked(&weir).1, first);
    weir.reload(config(&own).top("max_connections: 777"));
    assert_eq!(asked(&weir).1, first);
    let (wild, shown, any) = (
        format!("{}, server_name: x.wild.example", ca("ca")),
        format!("{own}, {}", pair("client")),
        format!("{own}, verify: false"),
    );
    let mut seen = vec![first];
    for tls in [&wild, &shown, &any, &own] {
        weir.reload(config(tls));
        let text = asked(&weir).1;
        assert!(!seen.contains(&text), "{tls}: {text}");
        assert_eq!(asked(&weir).1, text);
        seen.push(text);
    }
    weir.reload(config(&format!(
        "{}, server_name: site.example",
        ca("other")
    )));
    assert_eq!(asked(&weir).0, 502);
}
