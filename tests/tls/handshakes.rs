//! What is agreed on in a handshake, and what is refused.

use std::process::Command;

use crate::edge::{Check, Edge, check, file, pair, pairs};
use crate::harness::{Origin, Weir};
use crate::web::Web;

fn port(weir: &Weir, listener: &str) -> u16 {
    weir.address_of(listener).port()
}

#[test]
fn versions_are_those_that_are_allowed() {
    let web = Web::named("A");
    let modern = format!("{}, min_version: 1.3", pair("site"));
    let edge = Edge::new()
        .http("front", &pair("site"), web.address())
        .http("modern", &modern, web.address());
    let weir = Weir::start(edge);
    check("versions", &[&port(&weir, "front"), &port(&weir, "modern")]);
    weir.log.wait(&["no version, cipher suite or signature"]);
}

#[test]
fn cipher_suites_are_those_that_are_given() {
    let web = Web::named("A");
    let suites = "TLS_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
    let tls = format!("{}, cipher_suites: [{suites}]", pair("site"));
    let edge = Edge::new().http("front", &tls, web.address());
    let weir = Weir::start(edge.http("all", &pair("site"), web.address()));
    check("suites", &[&port(&weir, "front"), &port(&weir, "all")]);
}

#[test]
fn a_client_has_the_certificate_that_it_can_use() {
    let web = Web::named("A");
    let tls = pairs(&["site", "site-rsa", "two"]);
    let weir = Weir::start(Edge::new().http("front", &tls, web.address()));
    check("kinds_of_keys", &[&port(&weir, "front")]);
}

#[test]
fn names_lead_to_their_certificates_or_are_refused() {
    let web = Web::named("A");
    let tls = pairs(&["site", "two"]);
    let strict = format!("{tls}, strict_sni: true");
    let edge =
        Edge::new()
            .http("front", &tls, web.address())
            .http("strict", &strict, web.address());
    let weir = Weir::start(edge);
    check("names", &[&port(&weir, "front"), &port(&weir, "strict")]);
}

#[test]
fn protocols_are_agreed_on_or_refused() {
    let (web, echo) = (Web::named("A"), Origin::echo());
    let own = format!("{}, alpn: [postgresql, x-own]", pair("site"));
    let edge = Edge::new()
        .http("front", &pair("site"), web.address())
        .tcp("relay", &pair("site"), echo.address())
        .tcp("own", &own, echo.address());
    let weir = Weir::start(edge);
    let ports = ["front", "relay", "own"].map(|name| port(&weir, name));
    check("protocols", &[&ports[0], &ports[1], &ports[2]]);
    weir.log.wait(&["no application protocol in common"]);
}

#[test]
fn a_hello_that_is_said_again_goes_the_same_way() {
    let mut check = Check::start("hello_retry", &[]);
    let backend = check.line();
    let own = format!("tls: {{{}, alpn: [x]", pair("two"));
    let routes = "[{host: site.example, upstream: raw}]";
    let listener =
        |name: &str, rest: &str| format!("  - {{name: {name}, listen: \"127.0.0.1:0\", {rest}}}\n");
    let weir = Weir::start(format!(
        "stats_interval: 0\nlisteners:\n{}{}{}{}upstreams:\n  raw: {{backends: \
         [\"127.0.0.1:{backend}\"]}}\n  it: {{backends: [\"127.0.0.1:{backend}\"], tls: {{ca: \
         {}, server_name: site.example}}}}\n",
        listener("front", &format!("mode: tcp, {own}}}, upstream: it")),
        listener(
            "strict",
            &format!("mode: tcp, {own}, min_version: 1.3}}, upstream: it")
        ),
        listener(
            "passed",
            &format!("mode: tcp, {own}, passthrough: {routes}}}, upstream: it"),
        ),
        listener("through", &format!("mode: tls, routes: {routes}")),
        file("ca.pem").display(),
    ));
    let ports = ["front", "strict", "passed", "through"].map(|name| port(&weir, name));
    check.say(&ports.map(|port| port.to_string()).join(" "));
    check.finish();
}

#[test]
fn clients_show_certificates_where_they_must_and_where_they_may() {
    let web = Web::named("A");
    let (ca, crl) = (file("ca.pem"), file("crl.pem"));
    let rules = format!("client_ca: {}, crl: {}", ca.display(), crl.display());
    let required = format!("{}, {rules}, client_auth: required", pair("site"));
    let optional = format!("{}, {rules}, client_auth: optional", pair("site"));
    let edge = Edge::new().http("front", &required, web.address()).http(
        "optional",
        &optional,
        web.address(),
    );
    let weir = Weir::start(edge);
    let ports = (port(&weir, "front"), port(&weir, "optional"));
    check("client_certificates", &[&ports.0, &ports.1]);
    for words in [
        "certificate revoked",
        "certificate of an unknown issuer",
        "no certificate was presented",
    ] {
        weir.log.wait(&[words]);
    }
}

#[test]
fn curl_is_served() {
    let web = Web::mirror();
    let weir = Weir::start(Edge::new().http("front", &pair("site"), web.address()));
    for arguments in [&["--tlsv1.3"][..], &["--tls-max", "1.2"], &["--http1.0"]] {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "30", "--cacert"])
            .arg(file("ca.pem"))
            .args(arguments)
            .arg(format!("https://localhost:{}/x?y", port(&weir, "front")))
            .output()
            .expect("curl is installed");
        let told = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(told.starts_with("GET /x?y HTTP/1.1\n"), "{told}{error}");
        assert!(told.contains("\nX-Forwarded-Proto: https"), "{told}");
    }
}
