//! Software that was not written for these tests: nginx, Python's http.server and curl. Where one
//! is not installed, its test says so and does nothing.

use std::process::Command;

use crate::client::Client;
use crate::config::Config;
use crate::harness::{Scratch, Weir};
use crate::software::{Nginx, is_installed, python};

fn files(scratch: &Scratch) -> Vec<u8> {
    let mut large = vec![0; 3_000_001];
    crate::harness::pattern::Pattern::new(5).fill(&mut large);
    scratch.write("large.bin", &large);
    scratch.write("small.txt", "small\n");
    large
}

const ECHO: &str = "location /echo { return 200 \"$request_method $http_x_forwarded_for $http_via\"; }\n\
    location /length { return 200 \"$request_method $content_length\"; }";

fn directory(scratch: &Scratch) -> std::path::PathBuf {
    let file = scratch.write("index.html", "<p>index</p>\n");
    file.parent()
        .expect("a file lies in a directory")
        .to_owned()
}

#[test]
fn python_serves_through_weir() {
    if !is_installed("python3") {
        return;
    }
    let scratch = Scratch::new();
    let large = files(&scratch);
    let (address, _python) = python(&directory(&scratch));
    let weir = Weir::start(Config::pool([address]));
    let mut client = Client::new(&weir);
    for _ in 0..20 {
        assert_eq!(client.get("/small.txt").text(), "small\n");
    }
    assert!(
        client.get("/large.bin").body.payload == large,
        "the file is another"
    );
    assert_eq!(client.get("/missing").status(), 404);
    client.send("HEAD /large.bin HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.0.head().expect("a response");
    assert_eq!(head.content_length(), Some(large.len()));
    assert_eq!(client.get("/").text(), "<p>index</p>\n");
}

#[test]
fn nginx_serves_through_weir() {
    if !is_installed("nginx") {
        return;
    }
    let scratch = Scratch::new();
    let large = files(&scratch);
    let nginx = Nginx::start(&directory(&scratch), ECHO);
    serves_files(&nginx, &large);
}

#[test]
fn nginx_serves_through_weir_from_a_unix_socket() {
    if !is_installed("nginx") {
        return;
    }
    let scratch = Scratch::new();
    let large = files(&scratch);
    let mut nginx = Nginx::start_unix(&directory(&scratch), ECHO);
    serves_files(&nginx, &large);
    // Its socket file is another after a restart.
    let weir = Weir::start(Config::pool([nginx.name()]).with("passive: off"));
    let mut client = Client::new(&weir);
    for _ in 0..3 {
        assert_eq!(client.get("/small.txt").text(), "small\n");
        client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.receive().text(), "POST 4");
        nginx.kill();
        assert_eq!(client.get("/small.txt").status(), 502);
        nginx.resume();
    }
}

/// What nginx does with files: whole, in part, and not at all.
fn serves_files(nginx: &Nginx, large: &[u8]) {
    let weir = Weir::start(Config::pool([nginx.name()]));
    let mut client = Client::new(&weir);
    for _ in 0..200 {
        assert_eq!(client.get("/small.txt").text(), "small\n");
    }
    assert!(
        client.get("/large.bin").body.payload == large,
        "the file is another"
    );
    let part = client.get_with("/large.bin", "Range: bytes=10-19\r\n");
    assert_eq!(
        (part.status(), &part.body.payload[..]),
        (206, &large[10..20])
    );
    assert_eq!(client.get("/echo").text(), "GET 127.0.0.1 1.1 weir");
    assert_eq!(client.get("/missing").status(), 404);
    let tag = client
        .get("/small.txt")
        .head
        .text("etag")
        .unwrap_or_default();
    let same = client.get_with("/small.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(same.status(), 304);
    assert_eq!(client.get("/small.txt").text(), "small\n");
}

#[test]
fn curl_is_served() {
    if !is_installed("curl") {
        return;
    }
    let web = crate::web::Web::new(|request| {
        crate::web::ok(&format!(
            "{} {}",
            request.head.word(0),
            request.body.payload.len()
        ))
    });
    let weir = Weir::start(Config::pool([web.address()]));
    let url = format!("http://{}/x", weir.address_of("web"));
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["-sS", "--max-time", "20"])
            .args(arguments)
            .output()
            .expect("curl runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl(&[&url]), "GET 0");
    assert_eq!(curl(&["--http1.0", &url]), "GET 0");
    assert_eq!(curl(&["--http2", &url]), "GET 0");
    assert_eq!(curl(&["-d", "hello", &url]), "POST 5");
    assert_eq!(
        curl(&[
            "-T",
            "/etc/hostname",
            "-H",
            "Transfer-Encoding: chunked",
            &url
        ])[..4],
        *"PUT "
    );
    let large = "x".repeat(100_000);
    assert_eq!(
        curl(&["-d", &large, "-H", "Expect: 100-continue", &url]),
        "POST 100000"
    );
    assert!(curl(&["-I", &url]).starts_with("HTTP/1.1 200 OK"));
    assert_eq!(curl(&[&url, &url, &url]), "GET 0GET 0GET 0");
}
