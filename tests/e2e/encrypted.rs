//! Connections that stay encrypted and go where their ClientHello says, between real clients and
//! servers of TLS.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::harness::{Peer, Port, Scratch, Weir, eventually};

/// A server that sends back each line reversed, over TLS.
struct Server {
    child: Child,
    port: Port,
}

impl Server {
    /// One whose certificate has this name, made anew.
    fn start(scratch: &Scratch, name: &str, arguments: &[&str]) -> Self {
        let (certificate, key) = (scratch.file(name), scratch.file(&format!("{name}.key")));
        let subject = format!("/CN={name}");
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
        make.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", &subject]);
        make.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        assert!(output(&make).status.success(), "a certificate is made");
        let port = Port::reserve();
        let mut serve = Command::new("openssl");
        serve.args(["s_server", "-rev", "-quiet", "-accept"]);
        serve.arg(port.address().to_string());
        serve.arg("-cert").arg(&certificate).arg("-key").arg(&key);
        serve.args(arguments).stdin(Stdio::null());
        let serve = serve.stdout(Stdio::null()).stderr(Stdio::null());
        let child = serve.spawn().expect("openssl is installed");
        eventually("the server listens", || Peer::connect(port.address()).ok());
        Self { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end, which must not take long.
fn output(command: &Command) -> Output {
    let mut bounded = Command::new("timeout");
    bounded.args(["--signal=KILL", "60"]);
    bounded.arg(command.get_program()).args(command.get_args());
    bounded.stdin(Stdio::null()).output().expect("it runs")
}

/// What `openssl s_client` says of a connection for this name, if any.
fn s_client(to: SocketAddr, name: &str, arguments: &[&str]) -> String {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &to.to_string()]);
    match name {
        "" => client.arg("-noservername"),
        name => client.args(["-servername", name]),
    };
    let output = output(client.args(arguments));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    write!(text, "{error}").expect("a string takes all");
    text
}

/// weir before two servers: of a name and of others like it, and of a protocol.
struct Entry {
    _servers: [Server; 2],
    weir: Weir,
}

impl Entry {
    fn new() -> Self {
        let scratch = Scratch::new();
        let one = Server::start(&scratch, "one.example", &[]);
        let two = Server::start(&scratch, "two.example", &["-alpn", "acme-tls/1"]);
        let config = format!(
            "stats_interval: 0\nlog_level: debug\nlisteners:\n  - name: front\n    \
             listen: \"127.0.0.1:0\"\n    mode: tls\n    routes:\n      \
             - {{host: one.example, upstream: one}}\n      \
             - {{host: \"*.one.example\", upstream: one}}\n      \
             - {{alpn: acme-tls/1, upstream: two}}\nupstreams:\n  \
             one: {{backends: [\"{}\"]}}\n  two: {{backends: [\"{}\"]}}\n",
            one.port.address(),
            two.port.address()
        );
        Self {
            weir: Weir::start(config),
            _servers: [one, two],
        }
    }
}

#[test]
fn openssl_reaches_the_server_of_the_name_or_protocol() {
    let entry = Entry::new();
    let to = entry.weir.address();
    for (name, arguments, server) in [
        ("one.example", &["-tls1_3"][..], "one.example"),
        ("one.example", &["-tls1_2"], "one.example"),
        ("ONE.example", &[], "one.example"),
        ("x.one.example", &["-alpn", "acme-tls/1"], "one.example"),
        ("other.example", &["-alpn", "acme-tls/1"], "two.example"),
        ("", &["-alpn", "h2,acme-tls/1"], "two.example"),
    ] {
        let told = s_client(to, name, arguments);
        let subject = format!("subject=CN = {server}");
        assert!(told.contains(&subject), "{name} {arguments:?}: {told}");
    }
    for (name, arguments) in [
        ("other.example", &[][..]),
        ("", &["-alpn", "h2"]),
        ("a.b.one.example", &[]),
    ] {
        let told = s_client(to, name, arguments);
        assert!(told.contains("unrecognized name"), "{name}: {told}");
    }
}

#[test]
fn a_hello_in_any_records_and_pieces_reaches_its_server() {
    let entry = Entry::new();
    let port = entry.weir.address().port().to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/split_hello.py");
    for bytes_max in ["1", "4", "100", "16384"] {
        for pace in ["slowly", "at-once"] {
            let mut client = Command::new("python3");
            client
                .arg(&script)
                .args([&port, "x.one.example", bytes_max, pace]);
            let output = output(&client);
            let told = String::from_utf8_lossy(&output.stdout);
            let error = String::from_utf8_lossy(&output.stderr);
            assert_eq!(told, "olleh\n", "{bytes_max} {pace}: {error}");
        }
    }
}

#[test]
fn http_where_tls_is_spoken_gets_a_sentence() {
    let entry = Entry::new();
    let mut client = entry.weir.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.finish();
    let (answer, _) = client.end();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("plain HTTP.\n"), "{answer}");
    entry.weir.log.wait(&["HTTP where TLS is spoken"]);
}
