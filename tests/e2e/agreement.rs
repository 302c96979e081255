//! What `-t` promises, a start keeps, and a reload says the same: each file here is given to all
//! three, and they have to agree on the verdict, the exit status and the words.
//!
//! Not in the tables: a port that is taken or not permitted, and a pid file that another weir
//! holds, which `-t` cannot know.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::log::READY;
use crate::harness::process::Finished;
use crate::harness::{Launch, Scratch, Weir, run};

/// Good.
const GOOD: i32 = 0;
/// The file is bad.
const BAD: i32 = 1;
/// The command line is bad.
const USAGE: i32 = 2;
/// Not permitted.
const DENIED: i32 = 3;

/// A file, the options it is given with, and the exit status.
#[derive(Clone, Debug)]
struct Case {
    bytes: Vec<u8>,
    options: Vec<OsString>,
    status: i32,
}

impl Case {
    fn new(status: i32, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            bytes: bytes.into(),
            options: Vec::new(),
            status,
        }
    }

    fn with<T: Into<OsString>>(mut self, options: impl IntoIterator<Item = T>) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }
}

/// Runs a test of that file to its end.
fn test(file: &Path, options: &[OsString]) -> Finished {
    let mut arguments: Vec<&OsStr> = vec!["-t".as_ref(), "-c".as_ref(), file.as_os_str()];
    arguments.extend(options.iter().map(OsString::as_os_str));
    run(&arguments)
}

/// The lines of a test that say what is wrong or odd.
fn findings(tested: &Finished) -> Vec<&str> {
    let lines = tested.stderr.lines();
    lines.filter(|line| !line.starts_with("weir: ")).collect()
}

/// A weir that serves, and is given one file after the other to take on.
struct Host {
    weir: Weir,
    options: Vec<OsString>,
    pid_file: PathBuf,
    _scratch: Scratch,
}

impl Host {
    fn start(options: &[&str]) -> Self {
        let scratch = Scratch::new();
        let pid_file = scratch.file("weir.pid");
        let mut options: Vec<OsString> = options.iter().map(OsString::from).collect();
        options.extend(["-p".into(), pid_file.clone().into_os_string()]);
        let launch = Launch::new(plain("")).log_filter("info");
        let launch = options.iter().fold(launch, Launch::argument);
        Self {
            weir: launch.start(),
            options,
            pid_file,
            _scratch: scratch,
        }
    }

    /// Lets it take on the file of a case, and compares its verdict with that of a test.
    fn agrees(&self, case: &Case) -> Result<(), String> {
        fs::write(self.weir.file(), &case.bytes).expect("there is room");
        let tested = test(self.weir.file(), &self.options);
        let order = ["-s", "reload", "-p"].map(OsStr::new);
        let ordered = run(&[order[0], order[1], order[2], self.pid_file.as_os_str()]);
        if tested.code != ordered.code {
            return Err(format!("a test says {tested:?}, a reload {ordered:?}"));
        }
        let is_bad = tested.code != Some(GOOD);
        let lines = ordered.stderr.lines();
        let lines = lines.filter(|line| !line.ends_with(" more are in the log"));
        let listed = lines.count().saturating_sub(1);
        let missing = |line: &&str| is_bad && !ordered.stderr.contains(*line);
        match findings(&tested).into_iter().take(listed).find(missing) {
            Some(line) => Err(format!("a reload does not say {line:?}: {ordered:?}")),
            None => Ok(()),
        }
    }
}

/// Compares a test with a start.
fn starts_as_tested(file: &Path, case: &Case) -> Result<(), String> {
    let tested = test(file, &case.options);
    if tested.code != Some(case.status) {
        let expected = case.status;
        return Err(format!("a test says {tested:?} instead of {expected}"));
    }
    let launch = Launch::on_file(file).log_filter("info");
    let mut weir = case.options.iter().fold(launch, Launch::argument).spawn();
    let words = findings(&tested);
    if case.status == GOOD {
        weir.log.wait(&[READY]);
        let code = weir.terminate();
        let log = weir.log.lines().join("\n");
        let message = |line: &str| line.split("warning: ").last().map(str::to_owned);
        let mut messages = words.into_iter().filter_map(message);
        return match messages.find(|it| !log.contains(it.as_str())) {
            Some(line) => Err(format!("a start does not say {line:?}: {log}")),
            None if code == Some(GOOD) => Ok(()),
            None => Err(format!("it ended with {code:?}: {log}")),
        };
    }
    let code = weir.wait_exit();
    let log = weir.log.lines().join("\n");
    if code == Some(case.status) && log.trim_end() == tested.stderr.trim_end() {
        Ok(())
    } else {
        Err(format!("a test says {tested:?}, a start {code:?}: {log}"))
    }
}

/// Looks at all cases, several at once.
fn all_agree(cases: &[Case]) {
    const AT_ONCE: usize = 2;
    let next = AtomicUsize::new(0);
    let look = || {
        let hosts = [Host::start(&[]), Host::start(&["--workers", "2"])];
        let mut failures = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scratch = Scratch::new();
            let mut outcome = starts_as_tested(&scratch.write("weir.yaml", &case.bytes), case);
            for host in hosts.iter().filter(|_| case.options.is_empty()) {
                outcome = outcome.and_then(|()| host.agrees(case));
            }
            if let Err(failure) = outcome {
                let text = String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(2000)]);
                failures.push(format!("{:?}\n{text}\n{failure}\n", case.options));
            }
        }
        for mut host in hosts {
            // Killed, it would leave its workers.
            assert_eq!(host.weir.terminate(), Some(GOOD));
            assert_eq!(host.weir.log.count(&["sandbox refused"]), 0);
        }
        failures
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(look)).collect();
        let failures = threads.into_iter().map(|it| it.join().expect("no panic"));
        failures.flatten().collect()
    });
    let count = failures.len();
    let text = failures.join("----\n");
    assert!(failures.is_empty(), "{count} of {}:\n{text}", cases.len());
}

/// A listener in mode http on a free port, and what is added at the top level.
fn plain(more: impl Display) -> String {
    format!("listen: \"127.0.0.1:0\"\nmode: http\nbackends: [\"127.0.0.1:1\"]\n{more}\n")
}

/// Cases of one key at the top level: values that it takes, and values that it does not.
fn values(key: &str, good: &[&str], bad: &[&str]) -> Vec<Case> {
    let with = |status| move |value: &&str| Case::new(status, plain(key.replace('$', value)));
    let good = good.iter().map(with(GOOD));
    good.chain(bad.iter().map(with(BAD))).collect()
}

#[test]
fn on_files_with_mistakes() {
    let table = include_str!("../../src/config/bad_files.txt");
    let texts = table.split("====\n").skip(1);
    let texts = texts.map(|case| case.split("----\n").next().expect("a case has a file"));
    all_agree(&texts.map(|text| Case::new(BAD, text)).collect::<Vec<_>>());
}

#[test]
fn on_lists_of_field_names() {
    let lists = |key: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|n| format!("X-Scheme{n}")).collect();
        plain(format!(
            "forwarded_fields: {{{key}: [{}]}}",
            names.join(", ")
        ))
    };
    let mut cases = Vec::new();
    for key in ["drop", "keep"] {
        cases.push(Case::new(GOOD, lists(key, 0)));
        cases.push(Case::new(GOOD, lists(key, 64)));
        cases.push(Case::new(BAD, lists(key, 65)));
    }
    cases.extend(values(
        "forwarded_fields: {drop: [$]}",
        &["X-A", "Proxy", "Cookie", "X-Forwarded-Prefix"],
        &["Host", "\"X-*\"", "~", "[]", "\"\"", "X-A, x_a"],
    ));
    cases.extend(values(
        "forwarded_fields: $",
        &["{}", "{keep: [Forwarded]}"],
        &["", "[]", "off", "X-A", "{drop: ~}"],
    ));
    all_agree(&cases);
}

#[test]
fn on_the_borders_of_sizes_and_numbers() {
    let mut cases = Vec::new();
    for (key, good, bad) in [
        (
            "buffers: {size: $}",
            &["8KiB", "8192", "1MiB"][..],
            &["8191", "0", "8", "1048577", "-1"][..],
        ),
        (
            "buffers: {memory: $}",
            &["256KiB", "64GiB"],
            &["8KiB", "262143", "65GiB"],
        ),
        ("buffers: {size: 8KiB, memory: $}", &["32KiB"], &["32767"]),
        (
            "buffers: {size: 8KiB}\nlimits: {max_head: $}",
            &["8KiB", "1KiB"],
            &["8193", "16KiB"],
        ),
        (
            "limits: {max_head: $}",
            &["1KiB", "65535"],
            &["1023", "64KiB"],
        ),
        ("limits: {max_fields: $}", &["10", "256"], &["9", "257"]),
        (
            "limits: {max_requests: $}",
            &["1", "4294967295", "unlimited"],
            &["0", "4294967296"],
        ),
        (
            "limits: {max_body: $}",
            &["0", "unlimited", "18446744073709551615"],
            &["-1", "18446744073709551616", "17179869184GiB"],
        ),
        (
            "limits: {max_connections: $}",
            &["1", "100000000"],
            &["0", "100000001"],
        ),
        (
            "max_connections: $",
            &["1", "100000000", "auto"],
            &["0", "100000001", "1.5", "\"5\""],
        ),
        ("supervisor: $", &["auto", "on"], &["off", "2"]),
        (
            "workers: $",
            &["1", "2", "auto"],
            &["0", "61", "-1", "two", "1.0"],
        ),
        (
            "backlog: $",
            &["1", "2147483647", "max"],
            &["0", "2147483648"],
        ),
        (
            "ipv6_prefix: $\nalgorithm: ip_hash",
            &["1", "128"],
            &["0", "129"],
        ),
        ("passive: {failures: $}", &["0", "1000"], &["1001", "-1"]),
        ("passive: {eject_percent_max: $}", &["0", "100"], &["101"]),
        ("retries: {tries: $}", &["1", "100"], &["0", "101"]),
        ("retries: {budget_percent: $}", &["0", "100"], &["101"]),
        (
            "retries: {min_per_second: $}",
            &["0", "1000000"],
            &["1000001"],
        ),
        ("reuse: {idle_connections: $}", &["0", "65535"], &["65536"]),
        ("health_check: {rise: $}", &["1", "100"], &["0", "101"]),
        (
            "health_check: {path: /, statuses: [$]}",
            &["100", "599", "100-599"],
            &["99", "600", "5-1"],
        ),
        (
            "error_pages: {$: {body: x}}",
            &["400", "599"],
            &["399", "600"],
        ),
        ("sticky: {cookie: c, secret: $}", &["x"], &["\"\""]),
    ] {
        cases.extend(values(key, good, bad));
    }
    all_agree(&cases);
}

#[test]
fn on_the_borders_of_durations() {
    let mut cases = Vec::new();
    let odd = [
        "5",
        "-1s",
        "1.5s",
        "99999999999999999999s",
        "18446744073709551615s",
        "\"\"",
    ];
    for key in [
        "connect",
        "idle",
        "half_closed",
        "header",
        "keep_alive",
        "body",
        "tunnel",
    ] {
        let key = format!("timeouts: {{{key}: $}}");
        cases.extend(values(&key, &["1ms", "7d"], &["0", "604801s"]));
    }
    for key in ["drain", "pre_drain"] {
        // What waits that long when it is told to end has nothing to wait for, or is not told.
        cases.extend(values(
            &format!("timeouts: {{{key}: $}}"),
            &["0", "1ms"],
            &["86401s"],
        ));
    }
    cases.extend(values("timeouts: {drain: $}", &["1d"], &odd));
    for (key, good, bad) in [
        (
            "stats_interval: $",
            &["0", "off", "100ms", "24h"][..],
            &["99ms", "86401s"][..],
        ),
        (
            "keepalive: {idle: $}",
            &["1s", "32767s"],
            &["0", "32768s", "1500ms"],
        ),
        ("keepalive: {probes: $}", &["1", "127"], &["0", "128"]),
        (
            "health_check: {interval: $}",
            &["100ms", "24h"],
            &["99ms", "86401s"],
        ),
        (
            "health_check: {timeout: $}",
            &["1ms", "5s"],
            &["0", "5001ms"],
        ),
        ("passive: {eject: $}", &["100ms", "24h"], &["99ms"]),
        ("passive: {eject: 2s, eject_max: $}", &["2s"], &["1999ms"]),
        ("reuse: {idle_timeout: $}", &["1ms", "7d"], &["0", "8d"]),
        (
            "sticky: {cookie: c, max_age: $}",
            &["1s", "400d"],
            &["0", "401d"],
        ),
        ("sticky: {cookie: c, wait: $}", &["0", "60s"], &["61s"]),
    ] {
        cases.extend(values(key, good, bad));
    }
    all_agree(&cases);
}

#[test]
fn on_words_that_turn_something_on_or_off() {
    let mut cases = values(
        "access_log: $",
        &[
            "on",
            "yes",
            "true",
            "On",
            "YES",
            "stdout",
            "off",
            "no",
            "false",
            "Off",
            "{}",
            "{format: json}",
            "{path: stdout, format: common}",
            "{path: on}",
            "/dev/null",
            "/dev/stdout",
        ],
        &[
            "stderr",
            "syslog",
            "json",
            "common",
            "combined",
            "Syslog",
            "journald",
            "none",
            "access",
            "\"\"",
            "~",
            "5",
            "[]",
            "/",
            "/dev/",
            "syslog:server=127.0.0.1",
            "{path: json}",
            "{path: stderr}",
            "{path: off}",
            "{format: xml}",
            "{file: x}",
            "/no/such/folder/access.log",
            "/dev/null/access.log",
            "/tmp",
        ],
    );
    for (key, good, bad) in [
        (
            "via: $",
            &["off", "no", "false", "on", "yes", "true", "edge"][..],
            &["a b", "5"][..],
        ),
        (
            "sandbox: $",
            &["on", "off", "true", "false", "yes", "No"],
            &["maybe", "1"],
        ),
        (
            "keepalive: $",
            &["on", "off", "true", "false", "yes", "no", "{}"],
            &["maybe", "5"],
        ),
        ("splice: $", &["true", "false", "on"], &["maybe", "1"]),
        ("forwarded: $", &["true", "false", "no"], &["1"]),
        ("health_check: $", &["off", "{}", "on"], &["maybe", "1"]),
        ("passive: $", &["off", "{}", "yes"], &["1"]),
        ("reuse: $", &["off", "{}", "true"], &["1"]),
        ("retries: $", &["off", "{}", "on"], &["1"]),
        ("sticky: $", &["off", "{cookie: c}"], &["on", "{}"]),
        (
            "log_level: $",
            &["off", "error", "trace", "no"],
            &["on", "ERROR", "verbose", "3"],
        ),
        ("when_supervisor_dies: $", &["serve", "stop"], &["panic"]),
        ("when_all_down: $", &["refuse", "use_all"], &["on"]),
    ] {
        cases.extend(values(key, good, bad));
    }
    all_agree(&cases);
}

#[test]
fn on_addresses_and_names() {
    let mut cases = Vec::new();
    let backends = |status, backends: &str| {
        Case::new(
            status,
            format!("listen: \"127.0.0.1:0\"\nbackends: [{backends}]\n"),
        )
    };
    for good in [
        "\"127.0.0.1:1\"",
        "\"127.0.0.1:65535\"",
        "\"[::1]:1\"",
        "\"unix:/x\"",
        "localhost:1",
        "{address: \"a.invalid:1\", weight: 0}",
        "{address: \"a.invalid:1\", weight: 65535}",
        "{address: \"127.0.0.1:1\", max_connections: 100000000}",
    ] {
        cases.push(backends(GOOD, good));
    }
    for bad in [
        "",
        "\"127.0.0.1:0\"",
        "\"127.0.0.1:65536\"",
        "\"127.0.0.1\"",
        "\":1\"",
        "\"0.0.0.0:1\"",
        "\"127.0.0.1:1\", \"127.0.0.1:1\"",
        "{address: \"a:1\", weight: 65536}",
        "\"unix:x\"",
        "{address: \"a:1\", id: x}, {address: \"b:1\", id: x}",
        "5",
        "~",
    ] {
        cases.push(backends(BAD, bad));
    }
    let named = |length| format!("name: {}", "n".repeat(length));
    cases.push(Case::new(GOOD, plain(named(300))));
    cases.push(Case::new(BAD, plain(named(301))));
    let upstream = |length, status| {
        let name = "u".repeat(length);
        let listeners = format!("[{{listen: \"127.0.0.1:0\", upstream: {name}}}]");
        let upstreams = format!("{{{name}: {{backends: [\"127.0.0.1:1\"]}}}}");
        Case::new(
            status,
            format!("listeners: {listeners}\nupstreams: {upstreams}\n"),
        )
    };
    cases.extend([upstream(300, GOOD), upstream(301, BAD)]);
    for address in [
        "\"127.0.0.1:65536\"",
        "\"localhost:1\"",
        "\"127.0.0.1\"",
        "8080",
        "unix:x",
        "~",
    ] {
        let text = format!("listen: {address}\nbackends: [\"127.0.0.1:1\"]\n");
        cases.push(Case::new(BAD, text));
    }
    // Good ones would take a port that is not free.
    for (one, other) in [
        (":9", "0.0.0.0:9"),
        (":9", "[::]:9"),
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("127.0.0.1:9", "[::ffff:127.0.0.1]:9"),
        (":9", "[::ffff:0.0.0.0]:9"),
        ("unix:/tmp/x.sock", "unix:/tmp/./x.sock"),
        ("unix:/tmp/x.sock", "unix:/tmp/../tmp/x.sock"),
    ] {
        cases.push(Case::new(BAD, listeners(&[one, other])));
    }
    cases.push(Case::new(GOOD, listeners(&["127.0.0.1:0", "127.0.0.1:0"])));
    all_agree(&cases);
}

fn listeners(addresses: &[&str]) -> String {
    let item = |address: &&str| format!("  - {{listen: \"{address}\", upstream: u}}\n");
    let list: String = addresses.iter().map(item).collect();
    format!("listeners:\n{list}upstreams: {{u: {{backends: [\"127.0.0.1:1\"]}}}}\n")
}

#[test]
fn on_files_that_are_hardly_text() {
    let good = plain("");
    let many = |count: usize, text: &str| text.repeat(count);
    let bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n\
                c: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\n\
                e: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e]\n";
    let cases = [
        Case::new(GOOD, format!("\u{feff}{good}")),
        Case::new(GOOD, good.replace('\n', "\r\n")),
        Case::new(GOOD, format!("---\n{good}...\n")),
        Case::new(GOOD, format!("{good}{}", many(10_000, "# a comment\n"))),
        Case::new(BAD, ""),
        Case::new(BAD, "\u{feff}"),
        Case::new(BAD, "# only a comment\n"),
        Case::new(BAD, "\0\0\0"),
        Case::new(BAD, b"listen: \":80\"\nname: \xff\xfe\n"),
        Case::new(BAD, format!("{good}---\n{good}")),
        Case::new(BAD, format!("{good}\tname: x\n")),
        Case::new(BAD, format!("{good}name: x\nname: x\n")),
        Case::new(
            BAD,
            format!("{good}name: {}{}\n", many(40, "["), many(40, "]")),
        ),
        Case::new(BAD, many(200_000, "[")),
        Case::new(BAD, many(1 << 20, "#") + "#"),
        Case::new(BAD, many(10 << 20, "x")),
        Case::new(BAD, format!("{good}{bomb}")),
        Case::new(BAD, format!("{good}name: *x\n")),
        Case::new(BAD, format!("{good}name: !tag x\n")),
        Case::new(BAD, format!("{good}? [a]\n: b\n")),
    ];
    all_agree(&cases);
}

#[test]
fn on_what_the_file_refers_to() {
    let scratch = Scratch::new();
    let name = |file: &str| scratch.file(file).display().to_string();
    let write = |file: &str, bytes: &[u8]| scratch.write(file, bytes).display().to_string();
    let page = |file: String| plain(format!("error_pages: {{502: \"{file}\"}}"));
    let listen = |path: String| listeners(&[&format!("unix:{path}")]);
    let long = name(&"x".repeat(200));
    let pipe = name("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("it runs").success());
    let mut cases = vec![
        Case::new(GOOD, page(write("page.html", b"x"))),
        Case::new(GOOD, page(write("empty.html", b""))),
        Case::new(GOOD, page(write("full.html", &[b'x'; 64 << 10]))),
        Case::new(BAD, page(write("long.html", &[b'x'; (64 << 10) + 1]))),
        Case::new(BAD, page(write("binary.html", b"\xff"))),
        Case::new(BAD, page(name("missing.html"))),
        Case::new(BAD, page(name(""))),
        Case::new(BAD, page(pipe.clone())),
        Case::new(BAD, page("/dev/zero".to_owned())),
        Case::new(BAD, listen(name("missing/front.sock"))),
        Case::new(BAD, listen(write("plain", b""))),
        Case::new(BAD, listen(name("page.html/front.sock"))),
        Case::new(BAD, listen(name(""))),
        Case::new(BAD, listen(long)),
        Case::new(BAD, plain("user: no-such-user")),
        Case::new(BAD, plain("group: no-such-group")),
        Case::new(BAD, plain("user: 70000001")),
        Case::new(BAD, plain("user: 4294967295")),
        Case::new(BAD, plain("chroot: /no/such/folder")),
        Case::new(BAD, plain("chroot: /etc/passwd")),
        Case::new(
            BAD,
            plain("user: no-such-user\nchroot: /no/such/folder\naccess_log: /no/such/file"),
        ),
        Case::new(
            BAD,
            plain(format!("access_log: {}", name("missing/access.log"))),
        ),
        Case::new(
            BAD,
            plain(format!("access_log: {}", name("page.html/access.log"))),
        ),
        Case::new(GOOD, plain(format!("access_log: {}", name("access.log")))),
        // Nobody reads it.
        Case::new(GOOD, plain(format!("access_log: {pipe}"))),
    ];
    if rustix::process::geteuid().is_root() {
        for keys in [
            "user: root",
            "user: 0",
            "user: nobody",
            "user: 70000001\ngroup: 1",
            "chroot: /",
        ] {
            cases.push(Case::new(GOOD, plain(keys)));
        }
        let closed = scratch.file("closed");
        fs::create_dir(&closed).expect("made");
        fs::set_permissions(&closed, mode(0o700)).expect("ours");
        // Workers enter it as nobody; one process does so as root.
        let closed = plain(format!("chroot: {}", closed.display()));
        cases.push(Case::new(BAD, closed.clone()).with(["--workers", "2"]));
        cases.push(Case::new(GOOD, closed).with(["--workers", "1"]));
    }
    fs::set_permissions(&pipe, mode(0o666)).expect("ours");
    all_agree(&cases);
}

fn mode(bits: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(bits)
}

/// How many problems a test of that file is to find.
fn expect_problems(text: &str, options: &[OsString], count: usize, parts: &[&str]) {
    let scratch = Scratch::new();
    let tested = test(&scratch.write("weir.yaml", text), options);
    let said = &tested.stderr;
    let plural = if count == 1 { "" } else { "s" };
    let found = format!("weir: {count} problem{plural} found");
    for part in parts.iter().chain([&found.as_str()]) {
        let start: String = text.chars().take(2000).collect();
        assert!(said.contains(part), "{start}\nhas no {part:?}: {said}");
    }
}

#[test]
fn on_files_with_mistakes_of_both_kinds() {
    let scratch = Scratch::new();
    let name = |file: &str| scratch.file(file).display().to_string();
    let page = scratch.write("page.html", "x").display().to_string();
    let missing = name("missing/it");
    let unix = |more: &str| format!("listen: \"unix:{missing}\"\n{more}\n");
    let twice = listeners(&[&format!("unix:{missing}"), &format!("unix:{missing}")]);
    let many: String = (0..4100).map(|n| format!("a{n}:1, ")).collect();
    let mut cases = Vec::new();
    for (text, count, parts) in [
        (
            plain("user: nosuch\nx: 1"),
            2,
            &["`x`", "no user nosuch"][..],
        ),
        (plain("x: 1\ngroup: nosuch"), 2, &["`x`", "no group nosuch"]),
        (
            plain("user: []\ngroup: nosuch"),
            2,
            &["`user` is", "no group nosuch"],
        ),
        (
            plain("user: nosuch\ngroup: []"),
            2,
            &["no user nosuch", "`group` is"],
        ),
        // It is to have one.
        (plain("user: 70000001\ngroup: -x"), 1, &["`group` is"]),
        (plain("x: 1\nchroot: /no/such"), 2, &["`x`", "`chroot` is"]),
        (
            plain(format!("access_log: {{path: {missing}, format: x}}")),
            2,
            &["`format` is", "`access_log` is"],
        ),
        (
            plain(format!(
                "x: 1\naccess_log: {page}\nerror_pages: {{502: {page}}}"
            )),
            2,
            &["`x`", "are one file"],
        ),
        (
            unix("backends: [5]"),
            2,
            &["a backend", "no socket can be made"],
        ),
        (
            unix("backends: []"),
            2,
            &["`backends` is", "no socket can be made"],
        ),
        (
            unix("x: 1"),
            3,
            &["`x`", "no `backends`", "no socket can be made"],
        ),
        (
            unix("routes: 5"),
            2,
            &["`routes` is", "no socket can be made"],
        ),
        (
            twice,
            3,
            &["two listeners listen on", "no socket can be made"],
        ),
        (
            plain("x: 1\nworkers: 2").replace("\"127.0.0.1:1\"", &many),
            2,
            &["`x`", "several workers can share"],
        ),
        (
            plain("workers: 2").replace("\"127.0.0.1:1\"", &"a:1, ".repeat(4100)),
            4099,
            &[],
        ),
    ] {
        expect_problems(&text, &[], count, parts);
        cases.push(Case::new(BAD, text));
    }
    let options = ["--cpu", "9999", "-p", &missing].map(OsString::from);
    let parts = ["`x`", "no user nosuch", "`--cpu 9999`", "weir: cannot"];
    let text = plain("x: 1\nuser: nosuch");
    expect_problems(&text, &options, 4, &parts);
    cases.push(Case::new(BAD, text).with(options));
    all_agree(&cases);
}

#[test]
fn on_one_file_for_two_purposes() {
    let scratch = Scratch::new();
    let name = |file: &str| scratch.file(file).display().to_string();
    let page = scratch.write("page.html", "x").display().to_string();
    let logging = |to: &str, text: String| format!("{text}access_log: {to}\n");
    let socket = |path: &str| listeners(&[&format!("unix:{path}")]);
    // Each has names of its own: they are looked at at once.
    let [log, pid, one, two] = ["log", "log.pid", "one", "two"].map(name);
    let by_other_way = name("./three");
    let with_page = plain(format!("error_pages: {{502: \"{page}\"}}"));
    let cases = [
        Case::new(BAD, logging(&name("three"), plain(""))).with(["-p", &by_other_way]),
        Case::new(GOOD, logging(&log, plain(""))).with(["-p", &pid]),
        Case::new(BAD, logging(&page, with_page)),
        Case::new(BAD, logging(&one, socket(&one))),
        Case::new(BAD, socket(&two)).with(["-p", &two]),
        // With an option, as two that serve cannot both have it.
        Case::new(GOOD, logging(&name("four"), socket(&name("front.sock")))).with(["-q"]),
    ];
    all_agree(&cases);
    let own = scratch.write("own.yaml", plain(""));
    for text in [plain(""), plain(format!("access_log: {}", own.display()))] {
        scratch.write("own.yaml", &text);
        let case = Case::new(BAD, text.as_str()).with(["-p".into(), own.clone()]);
        starts_as_tested(&own, &case).expect("they agree");
        assert_eq!(fs::read_to_string(&own).expect("it is there"), text);
    }
}

#[test]
fn on_what_the_command_line_says() {
    let scratch = Scratch::new();
    let backend = |number: usize| format!("127.{}.{}.1:1, ", number >> 8, number & 0xff);
    let many = |count: usize| {
        let list: String = (256..256 + count).map(backend).collect();
        format!("listen: \"127.0.0.1:0\"\nstats_interval: 0\nbackends: [{list}]\n")
    };
    let missing = scratch.file("missing/weir.pid").display().to_string();
    let cases = [
        // Besides a listener and an upstream.
        Case::new(GOOD, many(4095)).with(["--workers", "1"]),
        Case::new(BAD, many(4095)).with(["--workers", "2"]),
        Case::new(GOOD, many(4094)).with(["--workers", "2"]),
        Case::new(BAD, many(4095) + "workers: 2\n"),
        Case::new(GOOD, many(4095) + "workers: 2\n").with(["--workers", "1"]),
        Case::new(GOOD, many(4095) + "workers: 2\n").with(["--cpu", "0"]),
        Case::new(GOOD, plain("")).with(["--cpu", "0"]),
        Case::new(USAGE, plain("")).with(["--cpu", "9999"]),
        Case::new(USAGE, plain("")).with(["--cpu", "18446744073709551615"]),
        Case::new(USAGE, plain("")).with(["--cpu", "first"]),
        Case::new(USAGE, plain("")).with(["--workers", "61"]),
        Case::new(USAGE, plain("")).with(["--workers", "2", "--cpu", "0"]),
        Case::new(BAD, plain("surprise: 1")).with(["--cpu", "9999"]),
        Case::new(DENIED, plain("")).with(["-p", &missing]),
        Case::new(DENIED, plain("")).with(["-p", "/dev/zero"]),
        Case::new(DENIED, plain("")).with(["-p", "/"]),
        Case::new(USAGE, plain("")).with(["-p", ""]),
        Case::new(BAD, plain("surprise: 1")).with(["-p", &missing]),
    ];
    all_agree(&cases);
}

#[test]
fn on_what_is_no_file_of_its_own() {
    let scratch = Scratch::new();
    let folder = scratch.file("folder");
    fs::create_dir(&folder).expect("there is room");
    for file in [folder, scratch.file("missing.yaml"), "-".into()] {
        starts_as_tested(&file, &Case::new(BAD, "")).expect("they agree");
    }
    starts_as_tested(Path::new(""), &Case::new(USAGE, "")).expect("they agree");
}
