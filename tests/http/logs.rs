//! The access log.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Instant;

use crate::client::Client;
use crate::config::Config;
use crate::harness::{PATIENCE, Port, Scratch, Signal, Weir, eventually};
use crate::web::{Answer, Web};

/// Waits for so many lines.
fn lines(path: &Path, count: usize) -> Vec<String> {
    eventually("the access log is written", || {
        let text = fs::read_to_string(path).unwrap_or_default();
        // A page of what is being written can be read before the next.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let lines: Vec<String> = whole.lines().map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    })
}

/// A line of JSON. YAML holds JSON: who can read the one reads the other.
fn parsed(line: &str) -> serde_yaml::Value {
    serde_yaml::from_str(line).expect("the line is JSON")
}

fn config(backends: Config, path: &Path, format: &str) -> Config {
    backends.top(&format!(
        "access_log: {{path: {}, format: {format}}}",
        path.display()
    ))
}

#[test]
fn a_request_is_a_common_line() {
    let (scratch, web) = (Scratch::new(), Web::named("hello"));
    let path = scratch.write("access.log", "");
    let weir = Weir::start(config(Config::pool([web.address()]), &path, "common"));
    Client::new(&weir).get("/a?b");
    let line = &lines(&path, 1)[0];
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("] \"GET /a?b HTTP/1.1\" 200 "), "{line}");
}

#[test]
fn a_combined_line_has_agent_and_backend_and_no_byte_of_the_client_gets_out() {
    let (scratch, web) = (Scratch::new(), Web::named("hello"));
    let path = scratch.write("access.log", "");
    let weir = Weir::start(config(Config::pool([web.address()]), &path, "combined"));
    let fields = "User-Agent: a\"b\\c\u{e9}\tx\r\nReferer: http://r/\r\n";
    Client::new(&weir).get_with("/", fields);
    let line = &lines(&path, 1)[0];
    assert!(line.contains("\"http://r/\""), "{line}");
    assert!(line.contains("why=--"), "{line}");
    assert!(!line.contains('\t') && !line.contains("a\"b"), "{line}");
    assert!(line.contains(&web.address().to_string()), "{line}");
}

#[test]
fn a_json_line_has_every_fact() {
    let (scratch, web) = (Scratch::new(), Web::named("hello"));
    let path = scratch.write("access.log", "");
    let weir = Weir::start(config(Config::pool([web.address()]), &path, "json"));
    let mut client = Client::new(&weir);
    client.get_with("/a\"b", "User-Agent: \"\\\r\n");
    client.send("POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    client.receive();
    let lines = lines(&path, 2);
    for line in &lines {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
        for key in [
            "ts",
            "id",
            "worker",
            "client",
            "client_port",
            "listener",
            "host",
            "method",
            "path",
            "protocol",
            "status",
            "bytes_in",
            "bytes_out",
            "body_bytes_in",
            "body_bytes_out",
            "route",
            "upstream",
            "backend",
            "attempts",
            "wait_ms",
            "queue_ms",
            "connect_ms",
            "ttfb_ms",
            "duration_ms",
            "why",
            "closed_by",
            "user_agent",
            "referer",
            "sticky",
            "traceparent",
            "sni",
            "tls_version",
            "tls_cipher",
            "tls_resumed",
            "client_verify",
        ] {
            assert!(line.contains(&format!("\"{key}\":")), "{key} in {line}");
        }
        parsed(line);
    }
    let second = parsed(&lines[1]);
    assert_eq!(second["method"].as_str(), Some("POST"));
    assert_eq!(second["status"].as_u64(), Some(200));
    assert_eq!(second["upstream"].as_str(), Some("pool"));
    assert_eq!(second["body_bytes_in"].as_u64(), Some(3));
    let (bytes, body) = (&second["bytes_out"], &second["body_bytes_out"]);
    let head = bytes
        .as_u64()
        .zip(body.as_u64())
        .map(|(all, body)| all - body);
    assert!(head > Some(0) && body.as_u64() > Some(0), "{second:?}");
    assert!(second["client_port"].as_u64() > Some(0), "{second:?}");
    assert_eq!(second["attempts"].as_u64(), Some(1));
}

#[test]
fn a_line_may_be_of_ones_own_form() {
    let scratch = Scratch::new();
    let web = Web::new(|_| {
        let versions = "X-Version: 7\r\nx-version: 8";
        let head = format!("HTTP/1.1 203 Some\r\n{versions}\r\nContent-Length: 2\r\n\r\nhi");
        Answer::Close(head.into_bytes())
    });
    let path = scratch.write("access.log", "");
    let form = "'{client} {method} {status} {duration_ms} {body_bytes_out} {why_code} \
        {response_header:x-version} {header:X-A} \"{header:User-Agent}\" {{{upstream}}}'";
    let weir = Weir::start(config(Config::pool([web.address()]), &path, form));
    let mut client = Client::new(&weir);
    client.get_with(
        "/",
        "User-Agent: a\" 200 b\r\nX-A: 1 2\r\nX-B: 1\r\nx-a: 3\r\n",
    );
    let refused = "POST / HTTP/1.1\r\nHost: h\r\nX-A: 3\r\nContent-Length: 5\r\n\
        Transfer-Encoding: chunked\r\n\r\n";
    let mut other = Client::new(&weir);
    other.send(refused);
    assert_eq!(other.receive().status(), 400);
    let lines = lines(&path, 2);
    let (before, after) = lines[0].split_once(" 203 ").expect("the status");
    assert_eq!(before, "127.0.0.1 GET");
    let (took, after) = after.split_once(' ').expect("a duration");
    let decimals = took.split_once('.').map(|(_, it)| it.len());
    assert_eq!(decimals, Some(3), "{took}");
    assert_eq!(
        after,
        "2 -- 7,\\x208 1\\x202,\\x203 \"a\\x22 200 b\" {pool}"
    );
    assert!(
        lines[1].contains(" 400 ") && lines[1].contains(" PR - "),
        "{}",
        lines[1]
    );
}

#[test]
fn durations_have_microseconds() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.write("access.log", "");
    let form = "'{duration_ms} {wait_ms} {connect_ms} {ttfb_ms}'";
    let weir = Weir::start(config(Config::pool([web.address()]), &path, form));
    for _ in 0..20 {
        Client::new(&weir).get("/");
    }
    let lines = lines(&path, 20);
    let is_whole = |word: &str| word.ends_with(".000");
    let words = lines
        .iter()
        .map(|line| line.split(' ').next().unwrap_or_default());
    assert!(!words.clone().all(is_whole), "{lines:?}");
}

#[test]
fn lines_are_written_where_any_condition_holds() {
    let scratch = Scratch::new();
    let web = Web::new(|request| match request.head.word(1).as_str() {
        "/slow" => {
            std::thread::sleep(std::time::Duration::from_millis(300));
            Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())
        }
        _ => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
    });
    let path = scratch.write("access.log", "");
    let routed = Config::new()
        .route("prefix: /quiet, access_log: false, respond: {status: 500, body: a}")
        .route("prefix: /, upstream: pool")
        .upstream("pool", [web.address()])
        .top(&format!(
            "access_log: {{path: {}, format: '{{path}} {{status}}', \
             when: {{statuses: ['400-599'], slower_than: 200ms}}}}",
            path.display()
        ));
    let weir = Weir::start(routed);
    let mut client = Client::new(&weir);
    for target in ["/quick", "/quiet", "/slow", "/quick"] {
        Client::new(&weir).get(target);
    }
    client.send("BAD\r\n\r\n");
    client.receive();
    assert_eq!(lines(&path, 2), ["/slow 200", "- 400"]);
}

#[test]
fn a_sample_is_about_as_large_as_it_was_asked_to_be() {
    let scratch = Scratch::new();
    let path = scratch.write("access.log", "");
    let routed = Config::new()
        .route("prefix: /, respond: {status: 200, body: a}")
        .top(&format!(
            "access_log: {{path: {}, format: '{{status}}', when: {{sample_percent: 50}}}}",
            path.display()
        ));
    let mut weir = Weir::start(routed);
    let mut client = Client::new(&weir);
    for _ in 0..200 {
        client.get("/");
    }
    drop(client);
    weir.terminate();
    let count = fs::read_to_string(&path)
        .expect("it is there")
        .lines()
        .count();
    assert!((50..150).contains(&count), "{count}");
}

#[test]
fn a_route_is_named_as_a_person_would() {
    let scratch = Scratch::new();
    let path = scratch.write("access.log", "");
    let routed = Config::new()
        .route("prefix: /api, host: h, methods: [GET, PUT], respond: {status: 200, body: a}");
    let weir = Weir::start(config(routed, &path, "'{route}; {worker}; {listener}'"));
    let mut client = Client::new(&weir);
    client.send("GET /api/x HTTP/1.1\r\nHost: h\r\n\r\n");
    client.receive();
    let line = &lines(&path, 1)[0];
    assert!(line.starts_with("GET,PUT\\x20h/api; 0; "), "{line}");
}

#[test]
fn failures_say_why() {
    let (scratch, dead) = (Scratch::new(), Port::reserve());
    let path = scratch.write("access.log", "");
    let routed = Config::new()
        .route("prefix: /dead, upstream: pool")
        .upstream("pool", [dead.address()]);
    let weir = Weir::start(config(routed, &path, "combined"));
    let mut client = Client::new(&weir);
    assert_eq!(client.get("/dead").status(), 502);
    assert_eq!(client.get("/nowhere").status(), 404);
    client.send("BAD\r\n\r\n");
    assert_eq!(client.receive().status(), 400);
    let lines = lines(&path, 3);
    for (line, why) in lines.iter().zip([
        " why=SC reason=\"connection refused\"",
        " why=NR",
        " why=PR reason=\"malformed start line\"",
    ]) {
        assert!(line.ends_with(why), "{why} in {line}");
    }
}

#[test]
fn a_refusal_says_which_rule_was_broken() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.write("access.log", "");
    let routed = Config::new()
        .listener("limits: {max_head: 1KiB, max_fields: 10}")
        .route("prefix: /, methods: [GET, POST, TRACE, OPTIONS], max_body: 10, upstream: pool")
        .upstream("pool", [web.address()]);
    let weir = Weir::start(config(routed, &path, "json"));
    let (long, many) = ("x".repeat(2048), "X: y\r\n".repeat(11));
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    let too_long = "the body is longer than its route allows";
    let table = [
        ("NONSENSE\r\n\r\n".to_owned(), 400, "malformed start line"),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, "no Host"),
        (
            "GET / HTTP/2.0\r\nHost: h\r\n\r\n".into(),
            505,
            "unsupported HTTP version",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n".into(),
            400,
            "more than one Host",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n".into(),
            400,
            "blank before a colon",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n".into(),
            400,
            "field line without a colon",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n".into(),
            400,
            "folded field line",
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n{chunked}"),
            400,
            "both Content-Length and Transfer-Encoding",
        ),
        (
            format!("GET /{long} HTTP/1.1\r\n"),
            414,
            "request line too long",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n"),
            431,
            "head too long",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{many}\r\n"),
            431,
            "too many fields",
        ),
        (
            "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n".into(),
            405,
            "CONNECT is not served",
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            405,
            "TRACE is not served",
        ),
        (
            "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            405,
            "the routes do not take the method",
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n".into(),
            417,
            "unknown Expect",
        ),
        (
            "GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n".into(),
            400,
            "an escaped control byte",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n".into(),
            413,
            too_long,
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: h\r\n{chunked}B\r\nhello world\r\n"),
            413,
            too_long,
        ),
        (
            format!("POST / HTTP/1.1\r\nHost: h\r\n{chunked}5 \r\nhello"),
            400,
            "invalid chunk size",
        ),
    ];
    for (count, (sent, status, reason)) in table.into_iter().enumerate() {
        let mut client = Client::new(&weir);
        client.send(&sent);
        let answer = client.receive();
        drop(client);
        let line = parsed(&lines(&path, count + 1)[count]);
        let why = format!("refused by proxy: {reason}");
        assert_eq!(line["why"].as_str(), Some(why.as_str()), "{sent}");
        assert_eq!(line["status"].as_u64(), Some(status), "{sent}");
        assert_eq!(answer.status(), u16::try_from(status).expect("a status"));
    }
}

#[test]
fn a_request_whose_body_goes_wrong_later_says_how() {
    let scratch = Scratch::new();
    let path = scratch.write("access.log", "");
    let web = Web::named("a");
    let weir = Weir::start(config(Config::pool([web.address()]), &path, "combined"));
    let mut client = Client::new(&weir);
    client.send("POST /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    eventually("the backend has the request", || {
        (web.accepted() > 0).then_some(())
    });
    client.send("nonsense\r\n");
    assert_eq!(client.receive().status(), 400);
    let line = &lines(&path, 1)[0];
    assert!(line.contains("\"POST /p HTTP/1.1\" 400 "), "{line}");
    assert!(
        line.ends_with(" why=PR reason=\"invalid chunk size\""),
        "{line}"
    );
}

#[test]
fn a_bad_response_says_which_rule_which_backend_broke() {
    let (scratch, dead) = (Scratch::new(), Port::reserve());
    let path = scratch.write("access.log", "");
    let web = Web::new(|request| {
        let switch = "HTTP/1.1 101 Switching Protocols\r\n";
        let text = match request.head.word(1).as_str() {
            "/http" => "SSH-2.0-x\r\n".to_owned(),
            "/field" => "HTTP/1.1 200 OK\r\nA B: c\r\n\r\n".into(),
            "/colon" => "HTTP/1.1 200 OK\r\nA\r\n\r\n".into(),
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello".into(),
            "/chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into(),
            "/switch" => format!("{switch}Upgrade: websocket\r\n\r\n"),
            "/unasked" => format!("{switch}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
            _ => return Answer::Reset,
        };
        Answer::Close(text.into_bytes())
    });
    let routed = Config::new()
        .route("prefix: /, upstream: pool")
        .route("prefix: /dead, upstream: dead")
        .upstream("pool", [web.address()])
        .with("passive: {failures: 0}")
        .upstream("dead", [dead.address()]);
    let weir = Weir::start(config(routed, &path, "json"));
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    let table = [
        ("/http", "", "bad response: malformed start line"),
        ("/field", "", "bad response: invalid byte in a field name"),
        ("/colon", "", "bad response: field line without a colon"),
        ("/length", "", "bad response: invalid Content-Length"),
        ("/chunk", "", "bad response: invalid chunk size"),
        (
            "/switch",
            upgrade,
            "bad response: 101 without Connection: upgrade",
        ),
        ("/unasked", "", "bad response: 101 that was not asked for"),
        (
            "/reset",
            "",
            "backend closed before headers: connection reset",
        ),
        ("/dead", "", "connect failed: connection refused"),
    ];
    for (count, (target, fields, why)) in table.into_iter().enumerate() {
        let mut client = Client::new(&weir);
        client.send_get(target, &format!("Connection: close\r\n{fields}"));
        client.end();
        let line = parsed(&lines(&path, count + 1)[count]);
        assert_eq!(line["why"].as_str(), Some(why), "{target}");
        let backend = if target == "/dead" {
            dead.address()
        } else {
            web.address()
        };
        let backend = backend.to_string();
        assert_eq!(line["backend"].as_str(), Some(backend.as_str()), "{target}");
    }
}

#[test]
fn bad_responses_are_a_line_in_a_second_and_upstream_however_many_they_are() {
    let web = Web::new(|_| Answer::Close(b"SSH-2.0-x\r\n".to_vec()));
    let weir = Weir::start(Config::pool([web.address()]).with("passive: {failures: 0}"));
    let begin = Instant::now();
    let mut client = Client::new(&weir);
    eventually("a line that counts what has none", || {
        assert_eq!(client.get("/").status(), 502);
        let told = ["bad response of", "more since the last such line"];
        (weir.log.count(&told) > 0).then_some(())
    });
    let lines = weir.log.count(&["bad response of", "malformed start line"]);
    // The first one, and one for each second that has begun since.
    let seconds = usize::try_from(begin.elapsed().as_secs()).expect("few");
    assert!(lines <= 2 + seconds, "{lines}");
}

#[test]
fn the_file_is_opened_again_when_asked() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.write("access.log", "");
    let weir = Weir::start(config(Config::pool([web.address()]), &path, "common"));
    let mut client = Client::new(&weir);
    client.get("/before");
    lines(&path, 1);
    let moved = path.with_extension("1");
    fs::rename(&path, &moved).expect("the file can be moved");
    weir.signal(Signal::USR1);
    eventually("the file is there again", || path.exists().then_some(()));
    client.get("/after");
    assert!(lines(&path, 1)[0].contains("/after"));
    assert_eq!(lines(&moved, 1).len(), 1);
}

#[test]
fn the_log_is_off_by_default() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]));
    Client::new(&weir).get("/a-path-to-look-for");
    assert_eq!(weir.log.count(&["/a-path-to-look-for"]), 0);
}

#[test]
fn what_weir_answers_itself_is_logged_as_fully_as_the_rest() {
    let scratch = Scratch::new();
    let path = scratch.write("access.log", "");
    let routed = Config::new()
        .listener("trusted_proxies: [127.0.0.1]")
        .route("prefix: /old, redirect: {status: 301, location: /new}")
        .route("prefix: /fixed, respond: {status: 404, body: none}")
        .route("prefix: /small, max_body: 1, respond: {status: 200, body: a}");
    let weir = Weir::start(config(routed, &path, "json"));
    let asked = [
        ("/old", 0, 301, "ok"),
        ("/fixed", 0, 404, "ok"),
        (
            "/small",
            5,
            413,
            "refused by proxy: the body is longer than its route allows",
        ),
        ("/none", 0, 404, "no route"),
    ];
    for (count, (target, length, status, why)) in asked.into_iter().enumerate() {
        let mut client = Client::new(&weir);
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\
             X-Forwarded-For: 192.0.2.7\r\nContent-Length: {length}\r\n\r\n{}",
            "x".repeat(length)
        ));
        let (answer, _) = client.end();
        let line = parsed(&lines(&path, count + 1)[count]);
        assert_eq!(line["status"].as_u64(), Some(status), "{target}");
        assert_eq!(line["bytes_out"].as_u64(), Some(answer.len() as u64));
        assert_eq!(line["client"].as_str(), Some("192.0.2.7"));
        assert!(
            line["client_port"].is_null(),
            "nobody has told it: {line:?}"
        );
        assert!(line["body_bytes_out"].as_u64() < line["bytes_out"].as_u64());
        let route = (why != "no route").then_some(target);
        assert_eq!(line["route"].as_str(), route, "{target}");
        assert_eq!(line["why"].as_str(), Some(why), "{target}");
    }
}

#[test]
fn a_target_beyond_ascii_is_logged_as_it_goes_on() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.write("access.log", "");
    let weir = Weir::start(config(Config::pool([web.address()]), &path, "json"));
    let mut client = Client::new(&weir);
    client.send(b"GET /x/../caf\xc3\xa9?\xe9 HTTP/1.1\r\nHost: h\r\n\r\n");
    client.receive();
    let line = parsed(&lines(&path, 1)[0]);
    assert_eq!(line["path"].as_str(), Some("/x/../caf%C3%A9?%E9"));
}

#[test]
fn a_head_that_never_ends_is_logged_with_its_time() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.write("access.log", "");
    let hasty = Config::pool([web.address()]).listener("timeouts: {header: 200ms}");
    let weir = Weir::start(config(hasty, &path, "json"));
    let mut client = Client::new(&weir);
    client.send("GET / HTTP/1.1\r\n");
    let (answer, _) = client.end();
    let line = parsed(&lines(&path, 1)[0]);
    assert_eq!(line["status"].as_u64(), Some(408));
    assert_eq!(line["bytes_out"].as_u64(), Some(answer.len() as u64));
    // It ends with a tick, and begins within one.
    assert!(line["duration_ms"].as_f64() >= Some(199.0), "{line:?}");
}

#[test]
fn a_value_that_is_cut_shows_it() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.write("access.log", "");
    let weir = Weir::start(config(Config::pool([web.address()]), &path, "json"));
    let mut client = Client::new(&weir);
    for (count, length) in [(0, 4096), (1, 4097)] {
        client.get_with("/", &format!("User-Agent: {}\r\n", "x".repeat(length)));
        let line = parsed(&lines(&path, count + 1)[count]);
        let agent = line["user_agent"].as_str().expect("it is logged");
        assert_eq!(agent.ends_with("xxx..."), length > 4096);
    }
}

const FULL: &str = "/dev/full";
const TROUBLE: &str = "access log: cannot be written: No space left on device";

#[test]
fn a_full_disk_is_told_once_and_its_lines_wait_for_room() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.file("access.log");
    let backends = || Config::pool([web.address()]);
    let weir = Weir::start(config(backends(), Path::new(FULL), "common"));
    let mut client = Client::new(&weir);
    for _ in 0..20 {
        client.get("/waits");
    }
    weir.log.wait(&[TROUBLE]);
    weir.reload(config(backends(), &path, "common"));
    client.get("/is-written");
    assert_eq!(lines(&path, 21).len(), 21);
    weir.log
        .wait(&["access log: all is written again, 0 lines lost meanwhile"]);
    assert_eq!(weir.log.count(&["access log: "]), 2);
}

#[test]
fn what_a_full_disk_takes_no_more_of_is_counted() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.file("access.log");
    let backends = || Config::pool([web.address()]);
    let mut weir = Weir::start(config(backends(), Path::new(FULL), "combined"));
    let mut client = Client::new(&weir);
    let long = "x".repeat(4000);
    let fields = format!("User-Agent: {long}\r\nReferer: {long}\r\n");
    // More than the lines that wait may take.
    let requests = 150;
    for _ in 0..requests {
        client.get_with("/", &fields);
    }
    weir.reload(config(backends(), &path, "combined"));
    let over = weir.log.wait(&["access log: all is written again, "]);
    let lost: usize = between(&over, "again, ", " lines lost meanwhile");
    assert!(lost > 0, "{over}");
    let text = fs::read_to_string(&path).expect("it is written");
    assert_eq!(text.lines().count() + lost, requests);
    weir.terminate();
    let figures = weir.log.wait(&["stats: "]);
    assert!(
        figures.ends_with(&format!("access log: lines lost {lost}")),
        "{figures}"
    );
    assert_eq!(weir.log.count(&["access log: cannot"]), 1);
}

#[test]
fn lines_that_are_lost_at_the_end_are_counted() {
    let web = Web::named("a");
    let mut weir = Weir::start(config(
        Config::pool([web.address()]),
        Path::new(FULL),
        "json",
    ));
    let mut client = Client::new(&weir);
    for _ in 0..3 {
        client.get("/");
    }
    drop(client);
    assert_eq!(weir.terminate(), Some(0));
    weir.log
        .wait(&["access log: 3 lines lost: No space left on device"]);
}

/// The parts of a datagram of syslog: priority, time, process and message.
fn dissected(datagram: &[u8]) -> (String, String, String, String) {
    let text = std::str::from_utf8(datagram).expect("it is text");
    let words: Vec<&str> = text.splitn(8, ' ').collect();
    let [priority, time, _, "weir", process, "access", "-", message] = words[..] else {
        panic!("no header of RFC 5424: {text}");
    };
    let words = [priority, time, process, message].map(str::to_owned);
    words.into()
}

fn to_syslog(backends: Config, daemon: &str) -> Config {
    backends.top(&format!(
        "access_log: {{syslog: \"{daemon}\", facility: local3, format: '{{path}} {{status}}'}}"
    ))
}

#[test]
fn lines_go_to_syslog_by_udp() {
    let (web, daemon) = (Web::named("a"), UdpSocket::bind("127.0.0.1:0"));
    let daemon = daemon.expect("a port is free");
    daemon.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let address = format!("udp://{}", daemon.local_addr().expect("it has one"));
    let weir = Weir::start(to_syslog(Config::pool([web.address()]), &address));
    let mut client = Client::new(&weir);
    for path in ["/a", "/b"] {
        client.get(path);
        let mut datagram = [0; 9000];
        let count = daemon.recv(&mut datagram).expect("a line comes");
        let (priority, time, process, message) = dissected(&datagram[..count]);
        assert_eq!(priority, "<158>1");
        assert!(time.ends_with('Z') && time.contains('T'), "{time}");
        assert_eq!(process, weir.pid().to_string());
        assert_eq!(message, format!("{path} 200"));
    }
}

#[test]
fn lines_for_the_daemon_of_the_machine_are_what_it_reads() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.file("log");
    let daemon = daemon_at(&path);
    let log = format!(
        "access_log: {{syslog: {}, syslog_format: local, format: '{{path}}'}}",
        path.display()
    );
    let weir = Weir::start(Config::pool([web.address()]).top(&log));
    Client::new(&weir).get("/a");
    let mut datagram = [0; 9000];
    let count = daemon.recv(&mut datagram).expect("a line comes");
    let text = std::str::from_utf8(&datagram[..count]).expect("it is text");
    assert_eq!(text, format!("<134>weir[{}]: /a", weir.pid()));
}

/// A daemon at a socket to which everybody may write.
fn daemon_at(path: &Path) -> UnixDatagram {
    let daemon = UnixDatagram::bind(path).expect("the path is free");
    let all = fs::Permissions::from_mode(0o777);
    fs::set_permissions(path, all).expect("it is ours");
    daemon.set_read_timeout(Some(PATIENCE)).expect("a socket");
    daemon
}

#[test]
fn a_syslog_daemon_that_is_started_again_is_found_again() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.file("log");
    let daemon = daemon_at(&path);
    let log = to_syslog(Config::pool([web.address()]), &path.display().to_string());
    let weir = Weir::start(log);
    let mut client = Client::new(&weir);
    let mut datagram = [0; 9000];
    client.get("/before");
    let count = daemon.recv(&mut datagram).expect("a line comes");
    assert_eq!(dissected(&datagram[..count]).3, "/before 200");
    drop(daemon);
    client.get("/meanwhile");
    weir.log.wait(&["access log: cannot be written: "]);
    fs::remove_file(&path).expect("it is there");
    let daemon = daemon_at(&path);
    daemon.set_nonblocking(true).expect("a socket");
    let count = eventually("the daemon is found", || {
        client.get("/after");
        daemon.recv(&mut datagram).ok()
    });
    assert_eq!(dissected(&datagram[..count]).3, "/meanwhile 200");
    let told = ["access log: all is written again, 0 lines lost meanwhile"];
    eventually("all is written again", || {
        client.get("/after");
        while daemon.recv(&mut datagram).is_ok() {}
        (weir.log.count(&told) > 0).then_some(())
    });
}

#[test]
fn lines_that_wait_for_a_daemon_are_sent_though_nothing_happens_any_more() {
    // More than the kernel keeps for it (net.unix.max_dgram_qlen).
    const COUNT: usize = 100;
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.file("log");
    let daemon = daemon_at(&path);
    let log = to_syslog(Config::pool([web.address()]), &path.display().to_string());
    let weir = Weir::start(log);
    let mut client = Client::new(&weir);
    for number in 0..COUNT {
        client.get(&format!("/{number}"));
    }
    let mut datagram = [0; 9000];
    for number in 0..COUNT {
        let count = daemon.recv(&mut datagram).expect("a line comes");
        assert_eq!(dissected(&datagram[..count]).3, format!("/{number} 200"));
    }
}

#[test]
fn what_a_syslog_daemon_does_not_take_is_lost_and_counted() {
    let (scratch, web) = (Scratch::new(), Web::named("a"));
    let path = scratch.file("log");
    let _daemon = daemon_at(&path);
    let text = format!("access_log: {{syslog: {}, format: json}}", path.display());
    let mut weir = Weir::start(Config::pool([web.address()]).top(&text));
    let mut client = Client::new(&weir);
    let fields = format!("User-Agent: {}\r\n", "x".repeat(4000));
    for _ in 0..400 {
        client.get_with("/", &fields);
    }
    drop(client);
    assert_eq!(weir.terminate(), Some(0));
    weir.log.wait(&["access log: ", " lines lost: "]);
}

fn between(line: &str, before: &str, after: &str) -> usize {
    let rest = line.split_once(before).expect("it is there").1;
    let number = rest.split_once(after).expect("it is there").0;
    number.parse().expect("a number")
}
