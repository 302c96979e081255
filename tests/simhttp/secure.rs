//! What changes where a client speaks over TLS, for which the toy of a layer stands here; and how
//! others are led there.

use crate::net::{PeerId, Settings};
use crate::rig::{LISTENER, Rig, origin};

/// A listener with these keys and routes, before one backend.
fn rig(has_layer: bool, keys: &str) -> Rig {
    let settings = Settings {
        sleep_ms_max: Some(0),
        has_layer,
        ..Settings::plain()
    };
    let text = format!(
        "stats_interval: 0\nlisteners:\n- name: {LISTENER}\n  listen: \"10.9.9.9:80\"\n  \
         trusted_proxies: [192.0.2.0/24]\n  {keys}\nupstreams:\n  \
         pool: {{backends: [\"{}\"], sticky: {{cookie: weir}}}}\n",
        origin(0)
    );
    Rig::with(settings, &text)
}

/// A client asks, the backend answers with these fields if it was asked, and the client has this.
fn told(rig: &mut Rig, request: &str, fields: &str) -> (String, String) {
    let client = rig.client();
    rig.world().peer_send(client, request.as_bytes());
    rig.settle();
    let text = |rig: &Rig, peer: PeerId| {
        String::from_utf8_lossy(rig.world().peer_received(peer)).into_owned()
    };
    let mut asked = String::new();
    for backend in rig.accepted(0) {
        asked = text(rig, backend);
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
        rig.world().peer_send(backend, answer.as_bytes());
        rig.settle();
        rig.world().peer_close(backend);
        rig.settle();
    }
    (asked, text(rig, client))
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n")
}

const HSTS: &str = "Strict-Transport-Security: max-age=86400\r\n";

fn count(text: &str, wanted: &str) -> usize {
    text.to_lowercase().matches(&wanted.to_lowercase()).count()
}

const ROUTES: &str = "\
    routes:\n  - {prefix: /app, upstream: pool}\n  \
    - prefix: /own\n    upstream: pool\n    headers: {response: {set: \
    {strict-transport-security: max-age=5}}}\n  \
    - prefix: /bare\n    upstream: pool\n    headers: {response: {remove: \
    [Strict-Transport-Security]}}\n  \
    - {prefix: /fixed, respond: {body: hi}}\n  \
    - prefix: /fixed/own\n    respond: {body: hi, headers: \
    {STRICT-Transport-Security: max-age=5}}\n  \
    - {prefix: /get, methods: [GET], respond: {body: hi}}\n  \
    - {prefix: /elsewhere, redirect: {location: \"https://b.example/\"}}";

#[test]
fn every_answer_over_tls_says_to_stay_there_and_no_other_does() {
    for has_layer in [false, true] {
        let mut rig = rig(has_layer, &format!("hsts: 1d\n  {ROUTES}"));
        let is_secure = rig.world().has_layer();
        let own = "Strict-Transport-Security: max-age=1; includeSubDomains\r\n";
        for (request, fields) in [
            (get("/app"), ""),
            (get("/app"), own),
            (get("/fixed"), ""),
            (get("/elsewhere"), ""),
            (get("/none"), ""),
            (
                "POST /get HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".into(),
                "",
            ),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".into(), ""),
            (
                "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n".into(),
                "",
            ),
            ("GET / HTTP/1.1\r\n\r\n".into(), ""),
        ] {
            let (_, answer) = told(&mut rig, &request, fields);
            let wanted = if is_secure { HSTS } else { fields };
            assert!(
                answer.starts_with("HTTP/1.1 ") && answer.contains(wanted),
                "{answer}"
            );
            let lines = usize::from(!wanted.is_empty());
            assert_eq!(
                count(&answer, "strict-transport-security"),
                lines,
                "{answer}"
            );
        }
    }
}

#[test]
fn what_the_configuration_says_of_an_answer_wins() {
    for has_layer in [false, true] {
        let mut rig = rig(has_layer, &format!("hsts: 1d\n  {ROUTES}"));
        for path in ["/own", "/fixed/own"] {
            let (_, answer) = told(&mut rig, &get(path), HSTS);
            assert_eq!(count(&answer, "strict-transport-security"), 1, "{answer}");
            assert_eq!(
                count(&answer, "strict-transport-security: max-age=5\r\n"),
                1
            );
        }
        let (_, answer) = told(&mut rig, &get("/bare"), HSTS);
        assert_eq!(count(&answer, "strict-transport-security"), 0, "{answer}");
    }
}

#[test]
fn without_the_key_nothing_is_said_and_a_backend_says_what_it_likes() {
    for has_layer in [false, true] {
        let mut rig = rig(has_layer, ROUTES);
        let (_, answer) = told(&mut rig, &get("/app"), HSTS);
        assert_eq!(count(&answer, HSTS), 1, "{answer}");
        let (_, answer) = told(&mut rig, &get("/none"), "");
        assert_eq!(count(&answer, "strict-transport-security"), 0, "{answer}");
    }
}

#[test]
fn a_backend_learns_that_its_client_came_over_tls_and_the_cookie_is_for_that_alone() {
    for has_layer in [false, true] {
        let mut rig = rig(has_layer, ROUTES);
        let is_secure = rig.world().has_layer();
        let spoofed = "GET /app HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http, https\r\n\r\n";
        for request in [get("/app").as_str(), spoofed] {
            let (asked, answer) = told(&mut rig, request, "");
            let scheme = if is_secure { "https" } else { "http" };
            let line = format!("\r\nX-Forwarded-Proto: {scheme}\r\n");
            assert_eq!(count(&asked, &line), 1, "{asked}");
            assert_eq!(count(&asked, "x-forwarded-proto"), 1, "{asked}");
            assert_eq!(count(&answer, "set-cookie: weir="), 1, "{answer}");
            assert_eq!(
                count(&answer, "; secure"),
                usize::from(is_secure),
                "{answer}"
            );
        }
    }
}

const REDIRECT: &str = "redirect_to_https: true\n  routes:\n  \
    - {prefix: /.well-known/acme-challenge/, respond: {body: token}}\n  \
    - {prefix: /get, methods: [GET], respond: {body: hi}}";

/// The status of an answer, and where it leads.
fn status_and_location(answer: &str) -> (u16, Option<&str>) {
    let status = answer.get(9..12).and_then(|it| it.parse().ok());
    let location = answer.lines().find_map(|it| it.strip_prefix("Location: "));
    (status.unwrap_or_default(), location)
}

#[test]
fn what_no_route_takes_is_led_to_https() {
    let mut rig = rig(false, REDIRECT);
    for (request, status, location) in [
        (
            "GET /x?y=1 HTTP/1.1\r\nHost: a.example\r\n\r\n",
            308,
            "https://a.example/x?y=1",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a.example:8080\r\n\r\n",
            308,
            "https://a.example/",
        ),
        (
            "GET / HTTP/1.1\r\nHost: A.Example:\r\n\r\n",
            308,
            "https://A.Example/",
        ),
        (
            "GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n",
            308,
            "https://[2001:db8::1]/",
        ),
        (
            "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
            308,
            "https://192.0.2.1/",
        ),
        (
            "HEAD /a/../b HTTP/1.1\r\nHost: a\r\n\r\n",
            308,
            "https://a/b",
        ),
        (
            "GET //evil.test/x HTTP/1.1\r\nHost: a\r\n\r\n",
            308,
            "https://a/evil.test/x",
        ),
        ("GET /%0d%0aX HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""),
        (
            "POST /get HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok",
            308,
            "https://a/get",
        ),
        (
            "GET http://b.example:1/p?q HTTP/1.1\r\nHost: a\r\n\r\n",
            308,
            "https://b.example/p?q",
        ),
        (
            "GET http://b.example?q HTTP/1.1\r\nHost: a\r\n\r\n",
            308,
            "https://b.example/?q",
        ),
        ("GET /get HTTP/1.1\r\nHost: a\r\n\r\n", 200, ""),
        (
            "GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a\r\n\r\n",
            200,
            "",
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 200, ""),
        ("GET / HTTP/1.0\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\n\r\n", 400, ""),
        (
            "GET / HTTP/1.1\r\nHost: a.example\\@evil.test\r\n\r\n",
            400,
            "",
        ),
        ("GET / HTTP/1.1\r\nHost: a@evil.test\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nHost: a.example:99999\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nHost: a.example:80:80\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nHost: a%40evil.test\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nHost: a;b\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nHost: a..example\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", 400, ""),
        ("GET / HTTP/1.1\r\nHost: 1.2.3.4.5\r\n\r\n", 400, ""),
        (
            "GET http://u@b.example/ HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            "",
        ),
        (
            "GET http://b.example\\@evil.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
            "",
        ),
    ] {
        let (_, answer) = told(&mut rig, request, "");
        let wanted = (status, Some(location).filter(|it| !it.is_empty()));
        assert_eq!(status_and_location(&answer), wanted, "{request}{answer}");
    }
    let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    let (_, answer) = told(&mut rig, connect, "");
    let (status, location) = status_and_location(&answer);
    assert!(
        (400..=501).contains(&status) && location.is_none(),
        "{answer}"
    );
}

fn what_came_by_https_is_not_led_there_again(mut rig: Rig) {
    let (_, answer) = told(&mut rig, &get("/x"), "");
    assert_eq!(status_and_location(&answer), (404, None), "{answer}");
}

#[test]
fn nobody_is_led_to_where_it_comes_from() {
    what_came_by_https_is_not_led_there_again(rig(true, REDIRECT));
    let keys = REDIRECT.replace("true", "{port: 8443, status: 301}");
    let mut rig = rig(
        false,
        &format!("{keys}\n  proxy_protocol: {{from: [10.0.0.0/24]}}"),
    );
    // From a proxy that is trusted, and from one that is not.
    for (source, wanted) in [
        ("192.0.2.1", (404, None)),
        ("198.51.100.1", (301, Some("https://a:8443/x"))),
    ] {
        let header = format!("PROXY TCP4 {source} 203.0.113.1 7 80\r\n");
        let client = rig.client();
        rig.world().peer_send_raw(client, header.as_bytes());
        let request = "GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n";
        rig.world().peer_send(client, request.as_bytes());
        rig.settle();
        let answer = String::from_utf8_lossy(rig.world().peer_received(client)).into_owned();
        if !rig.world().has_layer() {
            assert_eq!(status_and_location(&answer), wanted, "{answer}");
        }
    }
}
