//! Whole files: good ones by what they compile to, bad ones by every message.

use std::io;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::key::TABLES;
use super::model::{Action, AlgorithmSettings, Config, HashKey, HostPattern, Mode, ProbeKind};
use super::node::{Node, Value, parse};
use super::problem::Position;
use super::{Compiled, compile, render};
use crate::core::access_log::form::SyslogFormat;
use crate::core::address::{Address, BackendAddress};
use crate::core::http::claims::FAMILY;

fn no_files(_: &Path) -> io::Result<Vec<u8>> {
    Err(io::Error::from(io::ErrorKind::NotFound))
}

fn good(text: &str) -> Compiled {
    compile("f", text, &mut no_files).unwrap_or_else(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        panic!("{text}\n{}", lines.join("\n"));
    })
}

#[test]
fn every_example_file_loads_and_renders_to_itself() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    for (file, warnings) in [
        ("weir.yaml", 1),
        ("minimal.yaml", 0),
        ("gateway.yaml", 0),
        ("demo.yaml", 0),
        ("reference.yaml", 1),
    ] {
        let (_, compiled) = super::read(&folder.join(file)).unwrap_or_else(|flawed| {
            panic!(
                "{}",
                flawed
                    .problems
                    .iter()
                    .map(|p| format!("{p}\n"))
                    .collect::<String>()
            )
        });
        assert_eq!(
            compiled.warnings.len(),
            warnings,
            "{file}: {:?}",
            compiled.warnings
        );
        let rendered = render(&compiled.config);
        assert_eq!(
            good(&rendered).config,
            compiled.config,
            "{file}\n{rendered}"
        );
    }
}

#[test]
fn every_bad_file_gives_all_its_messages_with_their_places() {
    let table = include_str!("bad_files.txt");
    let mut files = 0;
    for case in table.split("====\n").skip(1) {
        let (text, expected) = case.split_once("----\n").expect("a case has messages");
        let problems = compile("f", text, &mut no_files).expect_err(text);
        let lines: String = problems.iter().map(|p| format!("{p}\n")).collect();
        assert_eq!(lines, expected, "the file:\n{text}");
        files += 1;
    }
    assert!(files >= 30, "only {files} cases were read");
}

#[test]
fn a_switch_is_turned_by_any_word_for_it_wherever_one_is_meant() {
    let config = |key: &str, value: &str| {
        let text = format!("listen: \":80\"\nmode: http\nbackends: [a:1]\n{key}: {value}\n");
        good(&text).config
    };
    let both = [
        "access_log",
        "abort_on_close",
        "admin",
        "forwarded",
        "health_check",
        "keepalive",
        "passive",
        "redirect_to_https",
        "retries",
        "reuse",
        "sandbox",
        "splice",
        "tls",
        "trace",
        "via",
    ];
    let off = [
        "chroot",
        "hsts",
        "log_level",
        "monitor_path",
        "proxy_protocol",
        "request_id",
        "send_proxy",
        "state",
        "stats_interval",
        "sticky",
    ];
    for key in both.iter().chain(&off) {
        // A listener with TLS has certificates.
        let ons: &[&str] = match *key {
            "tls" => &[],
            _ if both.contains(key) => &["true", "on", "yes", "On", "YES", "\"on\""],
            _ => &[],
        };
        for (first, words) in [
            ("false", &["false", "off", "no", "Off", "NO", "\"off\""][..]),
            ("true", ons),
        ] {
            for word in words {
                assert_eq!(config(key, word), config(key, first), "{key}: {word}");
            }
        }
        if !ons.is_empty() {
            assert_ne!(config(key, "on"), config(key, "off"), "{key}");
        }
    }
    assert!(config("supervisor", "yes").always_supervised);
}

#[test]
fn as_many_errors_as_a_file_has_are_reported_at_once() {
    let mut text = "listen: \":80\"\nbackends:\n".to_owned();
    for line in 0..500 {
        text += &format!("  - {{address: \"b{line}:1\", weight: -{line}1}}\n");
    }
    let problems = compile("f", &text, &mut no_files).expect_err("bad weights");
    let lines: Vec<usize> = problems.iter().filter_map(|p| Some(p.at?.line)).collect();
    assert_eq!(lines, (3..503).collect::<Vec<_>>());
}

/// Where the scalars of a file stand.
fn scalars(node: &Node, found: &mut Vec<Position>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|item| scalars(item, found)),
        Value::Map(entries) => entries.iter().for_each(|it| scalars(&it.value, found)),
        Value::Integer(_) | Value::Text(_) => found.push(node.at),
        Value::Null | Value::Bool(_) | Value::Float(_) => {}
    }
}

/// The text with another value at that place.
fn with_value(text: &str, at: Position, value: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = &mut lines[at.line - 1];
    let start = at.column - 1;
    let length = match line[start..].strip_prefix('"') {
        Some(quoted) => quoted.find('"').map(|length| length + 2),
        None => line[start..].find([',', '}', ']', ' ']),
    };
    let end = length.map_or(line.len(), |length| start + length);
    line.replace_range(start..end, value);
    lines.join("\n") + "\n"
}

/// What a message says that may be given there: the ends of a range and the examples.
fn suggested(message: &str) -> Vec<&str> {
    let words = |after, separator: &'static str| {
        let rest = message.split_once(after).map_or("", |(_, rest)| rest);
        let part = rest.split(',').next().unwrap_or_default();
        part.split(separator).filter(|word| !word.is_empty())
    };
    words(" from ", " to ")
        .chain(words(" such as ", " or "))
        .collect()
}

#[test]
fn every_duration_and_size_that_a_message_suggests_is_accepted_in_its_place() {
    let reference = include_str!("../../conf/reference.yaml");
    let files = [
        reference.to_owned(),
        reference.replace("size: 64KiB ", "size: 8KiB "),
        reference.replace("size: 64KiB ", "size: 1MiB "),
    ];
    assert!(files[0] != files[1]);
    let compile = |text: &str| compile("f", text, &mut |_| Ok(Vec::new()));
    let mut tried = 0;
    for text in &files {
        let mut places = Vec::new();
        scalars(&parse(text).expect("it is good"), &mut places);
        for at in places {
            let Err(problems) = compile(&with_value(text, at, "\"?\"")) else {
                continue;
            };
            let own = problems.iter().find(|problem| problem.at == Some(at));
            let message = own.map_or("", |problem| problem.message.as_str());
            if !message.contains("must be a duration") && !message.contains("must be a size") {
                continue;
            }
            let values = suggested(message);
            // Where there is no end, examples alone.
            let least = if message.contains(" from ") { 3 } else { 2 };
            assert!(values.len() >= least, "{message}");
            for value in values {
                let problems = compile(&with_value(text, at, value))
                    .err()
                    .unwrap_or_default();
                let own = problems.iter().find(|problem| problem.at == Some(at));
                assert_eq!(own, None, "{value} is suggested by {message}");
                tried += 1;
            }
        }
    }
    assert!(tried > 300, "only {tried}");
}

fn http(config: &Config, listener: usize) -> &super::model::Http {
    match &config.listeners[listener].mode {
        Mode::Http(http) => http,
        Mode::Tcp { .. } | Mode::Tls { .. } => panic!("listener {listener} has no HTTP"),
    }
}

#[test]
fn the_short_form_is_a_listener_and_an_upstream() {
    let config = good("listen: \":80\"\nbackends: [a:1, \"10.0.0.1:2\"]").config;
    let [listener] = &config.listeners[..] else {
        panic!("{config:?}");
    };
    assert_eq!(
        listener.address,
        Address::Ip("[::]:80".parse().expect("an address"))
    );
    assert_eq!(listener.name, "[::]:80");
    assert_eq!(listener.mode, Mode::Tcp { upstream: 0 });
    assert_eq!(listener.timeouts, super::model::Timeouts::default());
    let [upstream] = &config.upstreams[..] else {
        panic!("{config:?}");
    };
    assert_eq!(upstream.name, "default");
    assert_eq!(upstream.algorithm, AlgorithmSettings::RoundRobin);
    assert_eq!(upstream.health_check, None);
    let host = "a".to_owned();
    assert_eq!(
        upstream.backends[0].address,
        BackendAddress::Name { host, port: 1 }
    );
    assert_eq!(upstream.backends[1].identity, "10.0.0.1:2");
    assert_eq!(upstream.backends[1].weight, 1);
}

#[test]
fn routes_with_their_own_backends_inherit_from_the_short_form() {
    let text = include_str!("../../conf/weir.yaml");
    let Compiled {
        config, warnings, ..
    } = good(text);
    let names: Vec<&str> = config.upstreams.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, ["route:/api/", "route:/"]);
    for upstream in &config.upstreams {
        let check = upstream.health_check.as_ref().expect("inherited");
        assert_eq!(check.interval, Duration::from_secs(5));
        assert!(matches!(&check.kind, ProbeKind::Http { path, .. } if path == "/health"));
    }
    let prefixes = http(&config, 0).routes.iter().map(|r| r.prefix.as_str());
    assert_eq!(prefixes.collect::<Vec<_>>(), ["/api/", "/"]);
    assert_eq!(
        warnings[0].to_string(),
        "f:3:1: warning: the top-level `backends` are not used: every route says where it goes"
    );
}

#[test]
fn top_level_backends_serve_the_routes_that_name_none() {
    let config = good(
        "listen: \":80\"\nbackends: [a:1]\nroutes:\n  - prefix: /x\n    backends: [b:1]\n    \
         algorithm: ip_hash\n  - prefix: /y\n  - prefix: /z\n",
    )
    .config;
    let names: Vec<&str> = config.upstreams.iter().map(|u| u.name.as_str()).collect();
    assert_eq!(names, ["route:/x", "default"]);
    let actions = http(&config, 0).routes.iter().map(|r| r.action.clone());
    let expected = [Action::Proxy(0), Action::Proxy(1), Action::Proxy(1)];
    assert_eq!(actions.collect::<Vec<_>>(), expected);
    let ip = AlgorithmSettings::Hash(HashKey::ClientIp {
        ipv6_prefix_bits: 64,
    });
    assert_eq!(config.upstreams[0].algorithm, ip);
    assert_eq!(config.upstreams[1].algorithm, AlgorithmSettings::RoundRobin);
}

#[test]
fn the_nearer_timeout_wins() {
    let config = good(
        "timeouts: {connect: 1s, idle: 2s, response: 3s, drain: 9s}\n\
         listeners:\n  - listen: \":80\"\n    mode: http\n    upstream: a\n    \
         timeouts: {idle: 20s, body: 30s}\n\
         upstreams:\n  a:\n    backends: [a:1]\n    timeouts: {idle: 200s}\n",
    )
    .config;
    let timeouts = config.listeners[0].timeouts;
    let seconds = |d: Duration| d.as_secs();
    assert_eq!(seconds(timeouts.connect), 1);
    assert_eq!(seconds(timeouts.idle), 20);
    assert_eq!(seconds(timeouts.response), 3);
    assert_eq!(seconds(timeouts.upload), 30);
    assert_eq!(seconds(timeouts.header), 10);
    let with_upstream = timeouts.with(&config.upstreams[0].timeouts);
    assert_eq!(seconds(with_upstream.idle), 200);
    assert_eq!(seconds(with_upstream.connect), 1);
    assert_eq!(seconds(config.drain_timeout), 9);
}

#[test]
fn body_stands_for_three_timeouts_and_each_of_their_own_keys_wins_over_it_in_its_place() {
    let config = good(
        "timeouts: {body: 1s, send: 2s}\n\
         listeners:\n  - listen: \":80\"\n    timeouts: {body: 10s, response_idle: 11s}\n    \
         routes: [{prefix: /, upstream: a, timeouts: {send: 1000s, connect: 7s, tunnel: 9s}}]\n  \
         - {listen: \":81\", mode: http, upstream: a}\n\
         upstreams:\n  a: {backends: [a:1], timeouts: {body: 100s, upload: 101s}}\n",
    )
    .config;
    let three = |timeouts: &super::model::Timeouts| {
        [timeouts.upload, timeouts.response_idle, timeouts.send].map(|span| span.as_secs())
    };
    let [first, second] = [0, 1].map(|index| config.listeners[index].timeouts);
    assert_eq!(three(&second), [1, 1, 2], "the top level");
    assert_eq!(
        three(&first),
        [10, 11, 10],
        "the listener, whose `body` is nearer than `send`"
    );
    let with_upstream = first.with(&config.upstreams[0].timeouts);
    assert_eq!(three(&with_upstream), [101, 100, 100], "the upstream");
    let Mode::Http(http) = &config.listeners[0].mode else {
        panic!("there are routes");
    };
    let with_route = with_upstream.with(&http.routes[0].timeouts);
    assert_eq!(three(&with_route), [101, 100, 1000], "the route");
    let seconds = [with_route.connect, with_route.tunnel].map(|span| span.as_secs());
    assert_eq!(seconds, [7, 9]);
}

#[test]
fn listeners_without_a_name_get_distinct_ones() {
    let config = good(
        "listeners:\n  - {listen: \"127.0.0.1:0\", upstream: a}\n  \
         - {listen: \"127.0.0.1:0\", upstream: a}\n  \
         - {listen: \"127.0.0.1:80\", name: \"127.0.0.1:0\", upstream: a}\n\
         upstreams: {a: {backends: [a:1]}}\n",
    )
    .config;
    let names: Vec<&str> = config.listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["127.0.0.1:0#2", "127.0.0.1:0#3", "127.0.0.1:0"]);
}

#[test]
fn heads_are_as_long_as_buffers_let_them_be() {
    let listen = "listen: \":80\"\nmode: http\nbackends: [a:1]\n";
    for (more, bytes) in [
        ("", 16 << 10),
        ("buffers: {size: 8KiB}", 8 << 10),
        ("buffers: {size: 1MiB}", 16 << 10),
        ("buffers: {size: 9KiB}\nlimits: {max_head: 9KiB}", 9 << 10),
    ] {
        let config = good(&format!("{listen}{more}")).config;
        assert_eq!(http(&config, 0).head_bytes_max, bytes, "{more}");
        assert_eq!(good(&render(&config)).config, config);
    }
}

#[test]
fn lines_to_the_daemon_of_the_machine_are_what_it_reads() {
    for (value, format) in [
        ("{syslog: /dev/log}", SyslogFormat::Local),
        (
            "{syslog: /dev/log, syslog_format: rfc5424}",
            SyslogFormat::Rfc5424,
        ),
        ("{syslog: /run/log}", SyslogFormat::Rfc5424),
        (
            "{syslog_format: local, syslog: /run/log}",
            SyslogFormat::Local,
        ),
        ("{syslog: \"udp://127.0.0.1:514\"}", SyslogFormat::Rfc5424),
    ] {
        let text = format!("listen: \":80\"\nbackends: [a:1]\naccess_log: {value}\n");
        let log = good(&text).config.access_log.expect("it is on");
        assert_eq!(log.syslog_format, format, "{value}");
    }
}

#[test]
fn an_access_log_that_is_only_turned_on_goes_to_standard_output() {
    let log = |value: &str| {
        let text = format!("listen: \":80\"\nbackends: [a:1]\naccess_log: {value}\n");
        good(&text).config.access_log.map(|log| log.path)
    };
    for on in [
        "on",
        "yes",
        "true",
        "On",
        "stdout",
        "/dev/stdout",
        "{}",
        "{path: yes}",
    ] {
        assert_eq!(log(on), Some(None), "{on}");
    }
    for off in ["off", "no", "false", "OFF"] {
        assert_eq!(log(off), None, "{off}");
    }
    for file in ["./stderr", "a.log", "/var/log/json"] {
        assert_eq!(log(file), Some(Some(file.into())), "{file}");
    }
}

#[test]
fn check_times_follow_the_interval() {
    let cases = [
        ("{}", 5_000, 2_000, 1_000, 5_000),
        ("{interval: 1s}", 1_000, 1_000, 1_000, 1_000),
        ("{interval: 500ms}", 500, 500, 500, 500),
        (
            "{interval: 10s, timeout: 9s, down_interval: 1m}",
            10_000,
            9_000,
            1_000,
            60_000,
        ),
    ];
    for (check, interval, timeout, fast, down) in cases {
        let text = format!("listen: \":80\"\nbackends: [a:1]\nhealth_check: {check}");
        let config = good(&text).config;
        let check = config.upstreams[0].health_check.as_ref().expect("a check");
        let times = [
            check.interval,
            check.timeout,
            check.fast_interval,
            check.down_interval,
        ];
        let expected = [interval, timeout, fast, down].map(Duration::from_millis);
        assert_eq!(times, expected, "{text}");
    }
}

#[test]
fn hosts_are_kept_as_they_are_compared() {
    let cases = [
        ("Example.COM.", HostPattern::Exact("example.com".to_owned())),
        (
            "*.Example.com",
            HostPattern::Suffix(".example.com".to_owned()),
        ),
        ("*", HostPattern::Any),
        ("127.0.0.1", HostPattern::Exact("127.0.0.1".to_owned())),
        ("[::1]", HostPattern::Exact("[::1]".to_owned())),
    ];
    for (host, expected) in cases {
        let text = format!("listen: \":80\"\nroutes: [{{host: \"{host}\", respond: {{}}}}]");
        assert_eq!(
            http(&good(&text).config, 0).routes[0].host,
            expected,
            "{host}"
        );
    }
}

#[test]
fn an_error_page_is_read_from_its_file_and_typed_by_its_ending() {
    let text = "listen: \":80\"\nbackends: [a:1]\nmode: http\nerror_pages: {502: p/x.html, 503: y}";
    let mut asked = Vec::new();
    let compiled = compile("f", text, &mut |path| {
        asked.push(path.display().to_string());
        Ok(b"<p>".to_vec())
    });
    let config = compiled.expect("a good file").config;
    let pages = &http(&config, 0).error_pages;
    assert_eq!(asked, ["p/x.html", "y"]);
    assert_eq!(pages[0].status, 502);
    assert_eq!(pages[0].content_type, "text/html; charset=utf-8");
    assert_eq!(pages[1].content_type, "text/plain; charset=utf-8");
    assert_eq!(pages[1].body, b"<p>");
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let missing = super::read(Path::new("/nonexistent/weir.yaml")).map(|_| ());
    let problems = missing.expect_err("no file").problems;
    let message = problems[0].to_string();
    assert!(
        message.starts_with("/nonexistent/weir.yaml: cannot be read: "),
        "{message}"
    );
}

#[test]
fn warnings_do_not_keep_a_file_from_loading() {
    let text = "listeners: [{listen: \":80\", upstream: a}]\nupstreams:\n  \
                a: {backends: [{address: \"a:1\", weight: 0}]}\n  b: {backends: [a:1]}\n";
    let warnings: Vec<String> = good(text)
        .warnings
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "f:3:7: warning: every backend has weight 0, so none takes new traffic",
        "f:4:3: warning: the upstream \"b\" is not used",
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn hsts_without_tls_is_warned_of() {
    let listeners = "listeners:\n- {listen: \":80\", mode: http, upstream: a, hsts: 1d}\n\
                     - {listen: \":81\", mode: http, upstream: a, hsts: off}\n\
                     - {listen: \":443\", mode: http, upstream: a, hsts: 1d, tls: {certificate: c}}\n\
                     upstreams: {a: {backends: [a:1]}}\n";
    let warnings = good(listeners).warnings;
    let told: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "f:2:44: warning: `hsts` is sent over TLS alone, and this listener has no `tls`: it \
          belongs on the one that has"
        ]
    );
}

#[test]
fn a_passthrough_that_leaves_no_one_to_the_certificates_is_warned_of() {
    let of = |route: &str| {
        let text = format!(
            "upstreams: {{a: {{backends: [a:1]}}, b: {{backends: [b:1]}}}}\n\
             listeners:\n- listen: ':443'\n  mode: http\n  upstream: a\n  tls:\n    \
             certificate: c\n    passthrough: [{{{route}upstream: b}}]\n"
        );
        let warnings = good(&text).warnings;
        let told = warnings.iter().map(ToString::to_string);
        told.collect::<Vec<_>>().join("\n")
    };
    let told = of("");
    assert!(
        told.starts_with("f:8:5: warning: ") && told.contains("every connection"),
        "{told}"
    );
    assert_eq!(of("host: '*.a.example', "), "");
    assert_eq!(of("alpn: h2, "), "");
}

#[cfg(feature = "tls")]
#[test]
fn a_name_that_no_certificate_can_be_checked_for_is_refused() {
    // WHATWG takes what ends in a hexadecimal number for an address.
    for (tls, address) in [
        ("{server_name: api.0x1f}", "a:1"),
        ("{}", "api.0x1f:1"),
        ("{}", "10.0.0.1:1"),
    ] {
        let text = format!(
            "{{listeners: [{{listen: ':80', upstream: a}}],\n upstreams: {{a: {{tls: {tls}, \
             backends: ['{address}']}}}}}}\n"
        );
        let problems = compile("f", &text, &mut no_files).expect_err(tls);
        let told = problems[0].to_string();
        assert!(
            told.starts_with("f:2:") && told.contains("server_name"),
            "{told}"
        );
        assert_eq!(problems.len(), 1, "{problems:?}");
    }
}

#[test]
fn a_fixed_response_without_its_required_field_is_warned_of() {
    for (respond, missing) in [
        ("{status: 401}", Some("WWW-Authenticate")),
        ("{status: 401, headers: {www-authenticate: Basic}}", None),
        ("{status: 407}", Some("Proxy-Authenticate")),
        ("{status: 426}", Some("Upgrade")),
        ("{status: 403}", None),
    ] {
        let text = format!("listen: \":80\"\nroutes: [{{prefix: /, respond: {respond}}}]\n");
        let warnings = good(&text).warnings;
        let warned = warnings.first().map(|warning| warning.message.as_str());
        match missing {
            Some(name) => assert!(warned.is_some_and(|text| text.contains(name)), "{respond}"),
            None => assert_eq!(warned, None, "{respond}"),
        }
    }
}

/// The keys that stand in a file, each behind the key that its mapping stands under.
fn keys_of(node: &Node, under: &str, found: &mut Vec<(String, String)>) {
    match &node.value {
        Value::List(items) => items.iter().for_each(|it| keys_of(it, under, found)),
        Value::Map(entries) => {
            for entry in entries {
                found.push((under.to_owned(), entry.key.clone()));
                // Its keys are names.
                let key = if under == "upstreams" {
                    "an upstream"
                } else {
                    &entry.key
                };
                keys_of(&entry.value, key, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

#[test]
fn the_reference_has_every_key_of_every_table_and_says_what_it_is() {
    let text = include_str!("../../conf/reference.yaml");
    let mut standing = Vec::new();
    keys_of(&parse(text).expect("it is good"), "", &mut standing);
    let comments = || text.lines().filter_map(|line| line.split_once("# "));
    let mut keys = 0;
    for table in TABLES {
        let under = match table.mapping {
            "a listener" | "a listener of the full form" => "listeners",
            "a backend" => "backends",
            "a route" | "a TLS route" => "routes",
            "the top level of the file" => "",
            "`request` or `response`" => "request",
            "one of `certificates`" => "certificates",
            mapping => mapping.trim_matches('`'),
        };
        for name in table.names() {
            keys += 1;
            let stands = standing.contains(&(under.to_owned(), name.to_owned()));
            let key = format!("{name}:");
            let is_told = comments().any(|(_, comment)| comment.contains(&key));
            assert!(
                stands || is_told,
                "`{name}` of {} is missing",
                table.mapping
            );
            let says = comments().any(|(line, _)| line.contains(&key));
            assert!(
                says || is_told,
                "nothing is said of `{name}` of {}",
                table.mapping
            );
        }
    }
    assert!(keys > 120, "only {keys}");
}

#[test]
fn the_reference_has_every_key_with_its_default() {
    let text = include_str!("../../conf/reference.yaml");
    let config = good(text).config;
    let plain = good(
        "listeners: [{listen: \":8080\", name: web, upstream: app, mode: http}]\n\
                      upstreams: {app: {backends: [a:1], health_check: {}}}",
    )
    .config;
    let process = |config: &Config| Config {
        listeners: Vec::new(),
        upstreams: Vec::new(),
        ..config.clone()
    };
    assert_eq!(process(&config), process(&plain));
    let listener = |config: &Config| super::model::Listener {
        mode: Mode::Tcp { upstream: 0 },
        ..config.listeners[0].clone()
    };
    assert_eq!(listener(&config), listener(&plain));
    let http_defaults = |config: &Config| super::model::Http {
        routes: Vec::new(),
        error_pages: Vec::new(),
        ..http(config, 0).clone()
    };
    assert_eq!(http_defaults(&config), http_defaults(&plain));
    let upstream = |config: &Config| {
        let mut upstream = config.upstreams[0].clone();
        upstream.backends.clear();
        // Marked as examples in the file, where the default is none.
        upstream.sticky = None;
        upstream.keepalive = None;
        let check = upstream.health_check.as_mut().expect("a check");
        check.kind = ProbeKind::Tcp;
        upstream
    };
    assert_eq!(upstream(&config), upstream(&plain));
}

#[test]
fn the_reference_lists_the_believed_fields() {
    let text = include_str!("../../conf/reference.yaml");
    let (_, list) = text.rsplit_once("#\n").expect("a list at the end");
    let words = list.split([' ', ',', '\n']);
    let written: Vec<&str> = words.filter(|word| !matches!(*word, "" | "#")).collect();
    let listed: Vec<&str> = written
        .iter()
        .map(|name| name.trim_end_matches('.'))
        .collect();
    assert_eq!(listed, FAMILY);
}

#[test]
fn a_listener_has_the_believed_fields_of_the_top_level_or_its_own() {
    let lists = |text: &str| {
        let config = good(text).config;
        let listeners = 0..config.listeners.len();
        let fields = listeners.map(|at| http(&config, at).forwarded_fields.clone());
        fields.map(|it| (it.drop, it.keep)).collect::<Vec<_>>()
    };
    let top = "forwarded_fields: {drop: [X-Tenant], keep: [X-Real-Path]}";
    let (tenant, path) = (vec!["X-Tenant".to_owned()], vec!["X-Real-Path".to_owned()]);
    assert_eq!(
        lists(&format!(
            "{top}\nlisten: \":80\"\nmode: http\nbackends: [a:1]\n"
        )),
        [(tenant.clone(), path.clone())]
    );
    assert_eq!(
        lists(&format!(
            "{top}\nlisteners:\n- {{listen: \":80\", mode: http, upstream: u}}\n- {{listen: \":81\", \
             mode: http, upstream: u, forwarded_fields: {{keep: [Forwarded]}}}}\n\
             upstreams: {{u: {{backends: [a:1]}}}}\n"
        )),
        [(tenant, path), (vec![], vec!["Forwarded".to_owned()])]
    );
}

#[test]
fn a_kept_field_that_nothing_drops_is_warned_of() {
    let text = "listen: \":80\"\nmode: http\nbackends: [a:1]\n\
                forwarded_fields: {keep: [X-Orignal-URL, X-Forwarded-Prefix]}\n";
    let warnings = good(text).warnings;
    let messages: Vec<&str> = warnings.iter().map(|it| it.message.as_str()).collect();
    assert_eq!(
        messages,
        ["`keep` names X-Orignal-URL, which nothing drops; did you mean `x-original-url`?"]
    );
}

mod drawn;
