//! The admin door: what is asked there and answered, who may act, and what hostile callers cost.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::process::{Finished, binary};
use crate::harness::{
    Config, Gate, Launch, Load, Named, Scratch, Signal, ask, eventually, run, skip,
};
use crate::machine::{Machine, config, descriptors, is_there, own_kib, private_kib, signal};

/// Every way to serve: a process on its own, and workers under a supervisor.
const KINDS: [&str; 2] = ["1", "3"];
/// A check that may be answered late.
const CHECK: &str = "health_check: {path: /up, interval: 1m, timeout: 1m}";
/// How long a caller waits for its answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
const TOKEN: &str = "0123456789abcdef-token";
/// A user who is neither root nor the one that weir becomes.
const STRANGER: u32 = 12_345;
/// Whom weir becomes that is started as root.
const NOBODY: u32 = 65_534;

struct Asked {
    machine: Machine,
    socket: PathBuf,
    scratch: Scratch,
}

fn start(workers: &str, file: impl Display) -> Asked {
    let scratch = Scratch::new();
    let launch = Launch::new(file).open_to_all();
    let launch = launch.argument("--workers").argument(workers);
    let launch = launch.argument("-p").argument(scratch.file("weir.pid"));
    Asked {
        machine: Machine::launch(launch),
        socket: scratch.file("weir.sock"),
        scratch,
    }
}

fn with(backends: &[&Named]) -> Config {
    let names = ["a", "b", "c", "d"];
    let pairs = backends.iter().zip(names);
    pairs.fold(config(), |file, (backend, name)| {
        file.backend_with(backend.address(), &format!("id: {name}"))
    })
}

/// What came back: status, head and body.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// Says that, and reads until the connection ends.
fn exchange(mut stream: impl io::Read + io::Write, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).expect("it is heard");
    let mut bytes = Vec::new();
    // A caller that is turned away may be cut off after its answer.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn request(method: &str, target: &str, fields: &str) -> String {
    let length = if method == "POST" {
        "Content-Length: 0\r\n"
    } else {
        ""
    };
    format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\n{length}{fields}Connection: close\r\n\r\n"
    )
}

fn tcp(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket");
    stream
}

impl Asked {
    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).expect("it listens");
        stream.set_read_timeout(Some(ANSWER_MAX)).expect("a socket");
        stream
    }

    fn get(&self, target: &str) -> Answer {
        exchange(self.connect(), &request("GET", target, ""))
    }

    fn ctl(&self, words: &[&str]) -> Finished {
        ctl(&self.socket, words)
    }

    /// The process that serves the door.
    fn attendant(&self) -> u32 {
        eventually("somebody serves the door", || self.machine.attendant())
    }

    /// Names that so many new clients get.
    fn names(&self, count: usize) -> Vec<String> {
        let asked = (0..count).map(|_| ask(&mut self.machine.connect()));
        asked.collect()
    }
}

pub(crate) fn ctl(socket: &Path, words: &[&str]) -> Finished {
    let mut all = vec![OsStr::new("ctl")];
    all.extend(words.iter().map(OsStr::new));
    all.extend([OsStr::new("--socket"), socket.as_os_str()]);
    run(&all)
}

#[test]
fn it_tells_how_weir_is() {
    for workers in KINDS {
        let a = Named::new("A");
        let asked = start(workers, with(&[&a]));
        assert_eq!(asked.names(5), ["A"; 5]);
        let live = asked.get("/live");
        assert_eq!((live.status, live.body.as_str()), (200, "live\n"));
        assert_eq!(asked.get("/ready").status, 200);
        let metrics = asked.get("/metrics");
        assert_eq!(metrics.status, 200, "{metrics:?}");
        assert!(
            metrics
                .head
                .contains("Content-Type: text/plain; version=0.0.4")
        );
        let status = asked.get("/status.json").body;
        for part in ["\"phase\":\"serving\"", "\"name\":\"a\"", "\"accepted\":5"] {
            assert!(status.contains(part), "{part}: {status}");
        }
        for (words, part) in [
            (&["status"][..], "serving"),
            (&["backends"], "enabled"),
            (&["listeners"], "front"),
            (&["ready"], "ready"),
            (&["status", "--json"], "\"phase\":\"serving\""),
        ] {
            let told = asked.ctl(words);
            assert_eq!(told.code, Some(0), "{told:?}");
            assert!(told.stdout.contains(part), "{part}: {told:?}");
        }
        let mode = fs::metadata(&asked.socket)
            .expect("it is there")
            .permissions();
        assert_eq!(mode.mode() & 0o777, 0o660);
    }
}

#[test]
fn a_backend_whose_name_does_not_resolve_is_told_of_as_that() {
    for workers in KINDS {
        let asked = start(workers, config().backend("no-such-host.invalid:80"));
        let told = asked.ctl(&["backends"]);
        assert!(
            told.stdout.contains("its name does not resolve"),
            "{told:?}"
        );
    }
}

#[test]
fn what_it_cannot_do_it_refuses_with_what_is_allowed() {
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let asked = start(workers, with(&[&a, &b]));
        for (method, target, status, part) in [
            ("GET", "/nothing", 404, "no /nothing here, but /, /live"),
            ("POST", "/status.json", 405, "only looked at, with GET"),
            ("GET", "/drain?target=pool/a", 405, "done with POST"),
            ("DELETE", "/status.json", 405, "GET"),
            ("POST", "/drain", 400, "`target` is missing: UPSTREAM"),
            ("POST", "/drain?target=none", 404, "no upstream none: pool"),
            (
                "POST",
                "/drain?target=pool/x",
                404,
                "no backend x in pool: a, b",
            ),
            (
                "POST",
                "/weight?target=pool/a",
                400,
                "0 to 65535, or `file`",
            ),
            ("POST", "/weight?target=pool/a&weight=-1", 400, "0 to 65535"),
            (
                "POST",
                "/weight?target=pool/a&weight=65536",
                400,
                "0 to 65535",
            ),
            ("POST", "/log-level?level=loud", 400, "one of error, warn"),
            ("POST", "/remove?target=pool", 400, "pool/NAME"),
            ("POST", "/add?upstream=pool", 400, "HOST:PORT or unix:PATH"),
            ("GET", "/sessions?max=0", 400, "1 to "),
            ("POST", "/drain?target=", 400, "`target` is missing"),
            ("POST", "/add?address=c:1", 400, "`upstream` is missing"),
            (
                "POST",
                "/drain?target=pool/a&wait=1",
                400,
                "no parameter `wait` of /drain: target",
            ),
            ("POST", "/reload?rest", 400, "no parameter `rest`"),
            ("GET", "/sessions?listner=front", 400, "listener, backend"),
            (
                "POST",
                "/drain?target=pool/a&target=pool/b",
                400,
                "`target` is said twice",
            ),
        ] {
            let answer = exchange(asked.connect(), &request(method, target, ""));
            assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
            let allowed = match (status, method) {
                (405, "GET") => "Allow: POST\r\n",
                (405, _) => "Allow: GET, HEAD\r\n",
                _ => "",
            };
            assert!(answer.head.contains(allowed), "{answer:?}");
            assert!(answer.body.contains(part), "{method} {target}: {answer:?}");
        }
        let json = request("POST", "/drain", "Accept: application/json\r\n");
        let json = exchange(asked.connect(), &json);
        assert!(
            json.body.contains("\"ok\":false,\"message\":\"`target`"),
            "{json:?}"
        );
        for (words, code) in [
            (&["drain"][..], 2),
            (&["dance"], 2),
            (&["drain", "pool/x"], 1),
            (&["backends", "none"], 1),
        ] {
            let told = asked.ctl(words);
            assert_eq!(told.code, Some(code), "{words:?}: {told:?}");
        }
        let nobody = ctl(&asked.scratch.file("other.sock"), &["status"]);
        assert_eq!(nobody.code, Some(3), "{nobody:?}");
        assert_eq!(asked.names(2).len(), 2);
    }
}

#[test]
fn what_is_steered_counts_from_the_next_pick_on_and_stays() {
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let file = with(&[&a, &b]);
        let asked = start(workers, file.clone());
        let drained = asked.ctl(&["drain", "pool/a"]);
        assert_eq!(drained.code, Some(0), "{drained:?}");
        assert!(drained.stdout.contains("pool/a is draining, was enabled"));
        asked
            .machine
            .log
            .wait(&["admin: pool/a is draining", "by user 0"]);
        assert_eq!(asked.names(10), ["B"; 10]);
        asked.machine.reload(file.clone().top("stats_interval: 5s"));
        assert_eq!(asked.names(10), ["B"; 10], "after a reload");
        if workers != "1" {
            asked.machine.replace_worker(1);
            assert_eq!(asked.names(12), ["B"; 12], "in a worker that is new");
        }
        assert_eq!(asked.ctl(&["enable", "pool/a"]).code, Some(0));
        assert!(asked.names(30).iter().any(|name| name == "A"));
        for (weight, told) in [
            ("7", "pool/b has weight 7, was 1 (file)\n"),
            ("7", "pool/b has weight 7 already\n"),
            ("0", "pool/b has weight 0, was 7\n"),
        ] {
            assert_eq!(asked.ctl(&["weight", "pool/b", weight]).stdout, told);
        }
        assert_eq!(asked.names(10), ["A"; 10]);
        assert_eq!(asked.ctl(&["weight", "pool/b", "file"]).code, Some(0));
        assert_eq!(asked.ctl(&["disable", "pool"]).code, Some(0));
        asked.machine.expect_turned_away();
        assert_eq!(asked.ctl(&["reload", "--reset"]).code, Some(0));
        assert!(asked.names(30).iter().any(|name| name == "A"));
    }
}

#[test]
fn a_log_level_reaches_all_and_stays_until_the_file_is_read_again() {
    /// Logged from debug up, by whoever had the session.
    const ENDED: &str = "session of";
    for workers in KINDS {
        let a = Named::new("A");
        let file = with(&[&a]).to_string();
        let file = file.replace("log_level: debug", "log_level: info");
        let asked = start(workers, &file);
        let log = &asked.machine.log;
        let expect_all = |mark| {
            let who = if workers == "1" { 0..0 } else { 0..3 };
            let mut who: Vec<String> = who.map(|n| format!("worker {n}: ")).collect();
            who.push("weir".to_owned());
            eventually("all log it", || {
                asked.names(1);
                let told = |who: &String| log.count_since(mark, &[who, ENDED]) > 0;
                who.iter().all(told).then_some(())
            });
        };
        asked.names(12);
        assert_eq!(log.count(&[ENDED]), 0);
        let told = asked.ctl(&["log-level", "debug"]);
        assert_eq!(told.code, Some(0), "{told:?}");
        assert_eq!(told.stdout, "logging from debug up, was info\n");
        log.wait(&["admin: logging from debug up, was info, by user 0"]);
        expect_all(log.mark());
        if workers != "1" {
            asked.machine.replace_worker(1);
            expect_all(log.mark());
        }
        let more = Named::new("B");
        let address = more.address().to_string();
        assert_eq!(asked.ctl(&["add", "pool", &address]).code, Some(0));
        expect_all(log.mark());
        asked.machine.reload(&file);
        let mark = log.mark();
        asked.names(12);
        assert_eq!(asked.ctl(&["log-level", "error"]).code, Some(0));
        log.wait_since(mark, &["logging from error up, was info"]);
        assert_eq!(log.count_since(mark, &[ENDED]), 0);
    }
}

#[test]
fn a_log_level_of_the_environment_stays() {
    let a = Named::new("A");
    let scratch = Scratch::new();
    let launch = Launch::new(with(&[&a]))
        .open_to_all()
        .log_filter("weir=info");
    let launch = launch.argument("-p").argument(scratch.file("weir.pid"));
    let asked = Asked {
        machine: Machine::launch(launch),
        socket: scratch.file("weir.sock"),
        scratch,
    };
    let told = asked.ctl(&["log-level", "debug"]);
    assert_eq!(told.code, Some(1), "{told:?}");
    assert!(told.stderr.contains("RUST_LOG is set"), "{told:?}");
}

#[test]
fn a_reload_tells_what_came_of_it() {
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let asked = start(workers, with(&[&a]));
        asked.machine.write_config(with(&[&b]));
        let reload = asked.ctl(&["reload"]);
        assert_eq!(reload.code, Some(0), "{reload:?}");
        assert!(reload.stdout.contains("reload done"), "{reload:?}");
        assert_eq!(asked.names(3), ["B"; 3]);
        asked.machine.write_config("listen: nowhere");
        let reload = asked.ctl(&["reload"]);
        assert_eq!(reload.code, Some(1), "{reload:?}");
        assert!(reload.stderr.contains("weir.yaml:1:"), "{reload:?}");
        let status = asked.get("/status.json").body;
        assert!(
            status.contains("\"reloads_done\":1,\"reloads_refused\":1"),
            "{status}"
        );
    }
}

#[test]
fn it_is_ready_once_every_backend_was_checked() {
    for workers in KINDS {
        let gates = [Gate::new(), Gate::new()];
        let file = config().upstream(CHECK);
        let file = gates
            .iter()
            .fold(file, |file, gate| file.backend(gate.address()));
        let asked = start(workers, file);
        let mut checks = gates.iter().map(Gate::accept);
        for mut check in checks.by_ref() {
            let answer = asked.get("/ready");
            assert_eq!(answer.status, 503, "{answer:?}");
            assert_eq!(answer.body, "not ready: checking\n");
            let told = asked.ctl(&["ready"]);
            assert_eq!(told.code, Some(1), "{told:?}");
            assert!(told.stderr.contains("not ready: checking"), "{told:?}");
            assert!(asked.get("/metrics").body.contains("\nweir_ready 0\n"));
            check.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        eventually("it is ready", || {
            (asked.get("/ready").status == 200).then_some(())
        });
        assert_eq!(asked.ctl(&["ready"]).code, Some(0));
        // What comes later is no first round.
        let more = Gate::new();
        let file = config().upstream(CHECK);
        asked.machine.reload(file.backend(more.address()));
        let _check = more.accept();
        assert_eq!(asked.get("/ready").status, 200);
    }
}

#[test]
fn it_is_not_ready_while_it_ends() {
    for workers in KINDS {
        let a = Named::new("A");
        let file = Config::new().top("timeouts: {drain: 10m, pre_drain: 1s}");
        let mut asked = start(workers, file.backend(a.address()));
        let mut held = asked.machine.connect();
        assert_eq!(ask(&mut held), "A");
        asked.machine.signal(Signal::TERM);
        let answer = eventually("it is not ready any more", || {
            let answer = asked.get("/ready");
            (answer.status != 200).then_some(answer)
        });
        assert_eq!(answer.status, 503);
        assert_eq!(answer.body, "not ready: ending\n");
        assert_eq!(asked.get("/live").status, 200);
        assert_eq!(asked.ctl(&["ready"]).code, Some(1));
        held.finish();
        held.expect_end();
        assert_eq!(asked.machine.wait_exit(), Some(0));
        assert!(!asked.socket.exists(), "it is removed");
    }
}

/// Where the TCP door is, as the log says.
fn tcp_door(asked: &Asked) -> SocketAddr {
    let line = asked.machine.log.wait(&["admin at http://"]);
    let (_, rest) = line.split_once("http://").expect("an address");
    rest.trim_end_matches('/').parse().expect("an address")
}

fn token_file(scratch: &Scratch, mode: u32) -> PathBuf {
    let file = scratch.write("token", format!("{TOKEN}\n"));
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("ours");
    file
}

/// A weir with a door on TCP whose token is in a file, and where that door is.
fn with_token(workers: &str, backend: &Named, scratch: &Scratch) -> (Asked, SocketAddr) {
    let token = token_file(scratch, 0o600);
    let admin = format!(
        "admin: {{listen: \"127.0.0.1:0\", token_file: {}}}",
        token.display()
    );
    let asked = start(workers, with(&[backend]).top(&admin));
    let door = tcp_door(&asked);
    (asked, door)
}

#[test]
fn over_tcp_acting_takes_the_token_and_the_own_page() {
    for workers in KINDS {
        let a = Named::new("A");
        let scratch = Scratch::new();
        let (asked, door) = with_token(workers, &a, &scratch);
        let say = |method, fields: &str| {
            let target = if method == "GET" {
                "/status.json"
            } else {
                "/drain?target=pool"
            };
            exchange(tcp(door), &request(method, target, fields)).status
        };
        let shown = format!("Authorization: Bearer {TOKEN}\r\n");
        assert_eq!(say("GET", ""), 200, "reads are open on loopback");
        assert_eq!(say("POST", ""), 401);
        assert_eq!(say("POST", "Authorization: Bearer wrong\r\n"), 401);
        assert_eq!(say("POST", &format!("{shown}Origin: http://evil\r\n")), 403);
        assert_eq!(say("POST", &format!("{shown}Origin: null\r\n")), 403);
        assert_eq!(
            say("POST", &format!("{shown}Origin: http://localhost\r\n")),
            200
        );
        asked
            .machine
            .log
            .wait(&["pool/a is draining", "by token from 127.0.0.1"]);
    }
}

#[test]
fn a_token_that_only_root_can_read_counts_after_an_upgrade() {
    let a = Named::new("A");
    let scratch = Scratch::new();
    let (asked, door) = with_token("2", &a, &scratch);
    for _ in 0..2 {
        let mark = asked.machine.log.mark();
        asked.machine.signal(Signal::USR2);
        asked.machine.log.wait_since(mark, &["upgrade done: "]);
        let seen = exchange(tcp(door), &request("GET", "/metrics", ""));
        assert_eq!(seen.status, 200, "{seen:?}");
        let shown = format!("Authorization: Bearer {TOKEN}\r\n");
        for (fields, status) in [("", 401), (shown.as_str(), 200)] {
            let told = exchange(tcp(door), &request("POST", "/drain?target=pool", fields));
            assert_eq!(told.status, status, "{told:?}");
        }
    }
    // Of another file another one counts, or none where that cannot be read either.
    let other = scratch.write("other", "another token of so many bytes");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("ours");
    let admin = format!(
        "admin: {{listen: \"127.0.0.1:0\", token_file: {}}}",
        other.display()
    );
    asked.machine.write_config(with(&[&a]).top(&admin));
    let mark = asked.machine.log.mark();
    asked.machine.signal(Signal::USR2);
    asked.machine.log.wait_since(mark, &["upgrade done: "]);
    let shown = format!("Authorization: Bearer {TOKEN}\r\n");
    let told = exchange(tcp(door), &request("POST", "/drain?target=pool", &shown));
    assert!(matches!(told.status, 401 | 403), "{told:?}");
}

#[test]
fn over_tcp_nobody_looks_under_a_name_that_leads_elsewhere_as_well() {
    for workers in KINDS {
        let a = Named::new("A");
        let scratch = Scratch::new();
        let (_asked, door) = with_token(workers, &a, &scratch);
        let say = |target: &str, host: &str, fields: &str| {
            let head = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}");
            exchange(tcp(door), &format!("{head}Connection: close\r\n\r\n"))
        };
        let shown = format!("Authorization: Bearer {TOKEN}\r\n");
        // Who serves the door is told after the log.
        eventually("it is ready", || {
            let answer = say("/ready", "localhost", "");
            (answer.status == 200).then_some(())
        });
        for target in [
            "/",
            "/live",
            "/ready",
            "/metrics",
            "/status.json",
            "/config",
        ] {
            let refused = say(target, "evil.example", "");
            assert_eq!(refused.status, 421, "{target}: {refused:?}");
            assert!(refused.body.contains("127.0.0.1, [::1] or localhost"));
            assert!(!refused.body.contains("pool"), "{refused:?}");
            for host in ["localhost", "127.0.0.1", &door.to_string()] {
                assert_eq!(say(target, host, "").status, 200, "{target} of {host}");
            }
            let known = say(target, "lb1.example:9000", &shown);
            assert_eq!(known.status, 200, "{target}: {known:?}");
        }
    }
}

#[test]
fn over_tcp_nobody_acts_without_a_token_and_nobody_looks_where_it_is_asked_for() {
    let a = Named::new("A");
    let open = start("2", with(&[&a]).top("admin: {listen: \"127.0.0.1:0\"}"));
    let door = tcp_door(&open);
    assert_eq!(
        exchange(tcp(door), &request("GET", "/live", "")).status,
        200
    );
    let acting = exchange(tcp(door), &request("POST", "/drain?target=pool", ""));
    assert_eq!(acting.status, 403, "{acting:?}");
    assert!(acting.body.contains("token_file"), "{acting:?}");
    let scratch = Scratch::new();
    let token = token_file(&scratch, 0o640);
    let admin = format!(
        "admin: {{listen: \"127.0.0.1:0\", read: token, token_file: {}}}",
        token.display()
    );
    let closed = start("1", with(&[&a]).top(&admin));
    let door = tcp_door(&closed);
    let look = |fields: &str| exchange(tcp(door), &request("GET", "/live", fields));
    let refused = look("");
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(
        refused.head.contains("WWW-Authenticate: Bearer"),
        "{refused:?}"
    );
    assert_eq!(
        look(&format!("Authorization: Bearer {TOKEN}\r\n")).status,
        200
    );
}

#[test]
fn a_token_that_others_could_read_or_that_is_short_ends_the_start() {
    let a = Named::new("A");
    let scratch = Scratch::new();
    for (mode, text, part) in [
        (0o604, TOKEN, "its mode 604 lets others"),
        (0o620, TOKEN, "its mode 620 lets others"),
        (0o600, "short", "must be 16 to 1024"),
    ] {
        let token = scratch.write("token", text);
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).expect("ours");
        let admin = format!(
            "admin: {{listen: \"127.0.0.1:0\", token_file: {}}}",
            token.display()
        );
        let mut weir = Launch::new(with(&[&a]).top(&admin)).spawn();
        assert_eq!(weir.wait_exit(), Some(3));
        weir.log.wait(&["token_file", part]);
        let mut tested = Launch::new(with(&[&a]).top(&admin)).argument("-t").spawn();
        assert_eq!(tested.wait_exit(), Some(3));
        tested.log.wait(&["weir.yaml:", "token_file", part]);
    }
}

#[test]
fn a_folder_is_not_taken_for_the_file_of_the_state() {
    let a = Named::new("A");
    let scratch = Scratch::new();
    let folder = scratch.file("state");
    fs::create_dir(&folder).expect("it is new");
    let state = format!("state: {}", folder.display());
    for more in [&[][..], &["-t"]] {
        let launch = Launch::new(with(&[&a]).top(&state));
        let launch = more.iter().fold(launch, |launch, it| launch.argument(it));
        let mut weir = launch.spawn();
        assert_eq!(weir.wait_exit(), Some(3), "{more:?}");
        weir.log
            .wait(&["`state` is", "it is a folder; name a file in it"]);
        assert!(folder.is_dir());
    }
}

/// Runs `weir ctl` as that user and group; only root can.
fn ctl_as(asked: &Asked, user: u32, group: u32, words: &[&str]) -> Option<i32> {
    let program = asked.scratch.file("weir");
    if !program.exists() {
        asked.scratch.program("weir", binary());
        let folder = program.parent().expect("a folder");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let mut command = Command::new(&program);
    command
        .arg("ctl")
        .args(words)
        .arg("--socket")
        .arg(&asked.socket);
    command.uid(user).gid(group).stdin(Stdio::null());
    let output = command.output().expect("it runs");
    output.status.code()
}

#[test]
fn root_and_the_own_user_act_and_its_group_looks() {
    if !rustix::process::geteuid().is_root() {
        return skip("only root can start a process of another user");
    }
    for workers in KINDS {
        let [a, b] = ["A", "B"].map(Named::new);
        let asked = start(workers, with(&[&a, &b]));
        let act = ["drain", "pool/a"];
        assert_eq!(ctl_as(&asked, STRANGER, STRANGER, &["status"]), Some(1));
        assert_eq!(ctl_as(&asked, STRANGER, NOBODY, &["status"]), Some(0));
        assert_eq!(ctl_as(&asked, STRANGER, NOBODY, &act), Some(1));
        assert_eq!(asked.machine.log.count(&["is draining"]), 0);
        assert_eq!(ctl_as(&asked, NOBODY, NOBODY, &act), Some(0));
        asked
            .machine
            .log
            .wait(&["pool/a is draining", "by user 65534"]);
    }
}

#[test]
fn the_socket_of_another_weir_is_left_to_it() {
    let a = Named::new("A");
    let first = start("2", with(&[&a]));
    let admin = format!("admin: {}", first.socket.display());
    let mut second = Launch::new(with(&[&a]).top(&admin)).spawn();
    assert_eq!(second.wait_exit(), Some(4));
    second.log.wait(&["another weir listens there"]);
    let folder = first.scratch.file("other");
    fs::create_dir(&folder).expect("there is room");
    let other = folder.join("weir.pid");
    fs::rename(&first.socket, folder.join("weir.sock")).expect("ours");
    let mut third = Launch::new(with(&[&a]))
        .argument("-p")
        .argument(&other)
        .spawn();
    assert_eq!(third.wait_exit(), Some(4));
    third.log.wait(&["another weir listens there"]);
    assert_eq!(ctl(&folder.join("weir.sock"), &["status"]).code, Some(0));
}

#[test]
fn a_socket_that_nobody_has_any_more_is_replaced() {
    let a = Named::new("A");
    let mut asked = start("1", with(&[&a]));
    asked.machine.signal(Signal::KILL);
    asked.machine.wait_status();
    assert!(asked.socket.exists(), "it is left behind");
    let launch = Launch::new(with(&[&a])).argument("-p");
    let next = Machine::launch(launch.argument(asked.scratch.file("weir.pid")));
    assert_eq!(asked.ctl(&["status"]).code, Some(0));
    drop(next);
}

#[test]
fn a_weir_without_a_door_serves_as_well() {
    for workers in KINDS {
        let a = Named::new("A");
        let asked = start(workers, with(&[&a]).top("admin: off"));
        assert_eq!(asked.names(3), ["A"; 3]);
        assert!(!asked.socket.exists());
        assert_eq!(asked.ctl(&["status"]).code, Some(3));
        let wanted = if workers == "1" { 0 } else { 3 };
        assert_eq!(asked.machine.children().len(), wanted);
        assert_eq!(asked.machine.attendant(), None);
    }
}

#[test]
fn who_serves_the_door_comes_back() {
    let [a, b] = ["A", "B"].map(Named::new);
    let asked = start("2", with(&[&a, &b]));
    let before = asked.attendant();
    assert_eq!(asked.ctl(&["drain", "pool/a"]).code, Some(0));
    signal(before, Signal::KILL);
    let after = eventually("another one serves", || {
        Some(asked.attendant()).filter(|pid| *pid != before)
    });
    let status = asked.get("/status.json").body;
    assert!(status.contains("\"administered\":\"draining\""), "{status}");
    assert_eq!(asked.names(5), ["B"; 5]);
    assert_eq!(asked.attendant(), after);
}

#[test]
fn who_serves_the_door_keeps_nothing_of_many_backends_while_nobody_asks() {
    const COUNT: u16 = 4_000;
    let a = Named::new("A");
    let others = (1..COUNT).fold(with(&[&a]), |file, n| {
        let [high, low] = n.to_be_bytes();
        file.backend_with(format!("127.9.{high}.{low}:9"), "weight: 0")
    });
    let asked = start("2", others);
    for round in 0..3 {
        let status = asked.get("/status.json").body;
        let names = status.matches("\"configured_weight\":").count();
        assert_eq!(names, usize::from(COUNT), "round {round}");
        if round == 1 {
            let mark = asked.machine.log.mark();
            asked.machine.signal(Signal::HUP);
            asked.machine.log.wait_since(mark, &["reload done"]);
        }
        let attendant = asked.attendant();
        eventually("it has given it back", || {
            (own_kib(attendant) <= ATTENDANT_KIB_MAX).then_some(())
        });
    }
}

#[test]
fn an_upgrade_keeps_the_door_and_what_was_steered() {
    let [a, b] = ["A", "B"].map(Named::new);
    let asked = start("2", with(&[&a, &b]));
    let inode = fs::metadata(&asked.socket).expect("it is there");
    assert!(inode.file_type().is_socket());
    assert_eq!(asked.ctl(&["drain", "pool/a"]).code, Some(0));
    for _ in 0..2 {
        let attendant = asked.attendant();
        let mark = asked.machine.log.mark();
        asked.machine.signal(Signal::USR2);
        asked.machine.log.wait_since(mark, &["upgrade done: "]);
        eventually("the one of before ends", || {
            (asked.attendant() != attendant).then_some(())
        });
        asked.machine.wait_children(2);
        assert_eq!(asked.ctl(&["status"]).code, Some(0));
        assert_eq!(asked.names(10), ["B"; 10]);
        let door = door_link(&asked.socket);
        let attendant = asked.attendant();
        for pid in asked.machine.children().into_iter().chain([attendant]) {
            let links = links_of(pid);
            let doors = links.iter().filter(|link| **link == door).count();
            assert_eq!(doors, usize::from(pid == attendant), "{pid}: {links:?}");
            let has_state = links.iter().any(|link| link.contains("weir-left"));
            assert!(!has_state, "{pid}: {links:?}");
            let environment = fs::read(format!("/proc/{pid}/environ")).expect("it runs");
            let text = String::from_utf8_lossy(&environment);
            assert!(!text.contains("WEIR_ADMIN"), "{text}");
        }
        let left = links_of(asked.machine.pid());
        assert!(
            !left.iter().any(|link| link.contains("weir-left")),
            "{left:?}"
        );
    }
}

#[test]
fn who_waits_for_a_supervisor_that_has_gone_is_told_to_ask_again() {
    let a = Named::new("A");
    let mut asked = start("2", with(&[&a]));
    let workers = asked.machine.children();
    let mut waiting = asked.connect();
    asked.machine.freeze();
    let reload = request("POST", "/reload", "");
    waiting.write_all(reload.as_bytes()).expect("it listens");
    // Who comes later is heard later.
    assert_eq!(asked.get("/live").status, 200);
    asked.machine.signal(Signal::KILL);
    asked.machine.wait_status();
    // They are nobody's children any more.
    for worker in &workers {
        signal(*worker, Signal::TERM);
    }
    let told = exchange(waiting, "");
    assert_eq!(told.status, 503, "{told:?}");
    assert!(told.body.contains("ask again"), "{told:?}");
    eventually("they end when told to", || {
        (!workers.iter().any(|it| is_there(*it))).then_some(())
    });
}

/// The listening socket, as the kernel names it among descriptors (proc_net_unix(5)).
fn door_link(socket: &Path) -> String {
    let table = fs::read_to_string("/proc/net/unix").expect("the kernel lists them");
    let path = socket.to_str().expect("text");
    let line = table.lines().find(|line| line.ends_with(path));
    let inode = line.and_then(|line| line.split_whitespace().nth(6));
    format!("socket:[{}]", inode.expect("it listens"))
}

/// What the descriptors of a process are.
fn links_of(pid: u32) -> Vec<String> {
    let folder = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let links = folder.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links
        .map(|link| link.to_string_lossy().into_owned())
        .collect()
}

/// Hostile callers at the door while clients are served.
fn besieged(workers: &str, siege: impl Fn(&Asked)) {
    let a = Named::new("A");
    let mut asked = start(workers, with(&[&a]));
    let load = Load::start(asked.machine.address(), 2);
    load.wait_more(20);
    let pid = match workers {
        "1" => asked.machine.pid(),
        _ => asked.attendant(),
    };
    let before = (descriptors(pid), private_kib(pid));
    siege(&asked);
    load.wait_more(20);
    eventually("it is asked still", || {
        let status = asked.ctl(&["status"]);
        (status.code == Some(0)).then_some(())
    });
    let after = (descriptors(pid), private_kib(pid));
    assert!(
        after.0 <= before.0 + 64,
        "descriptors: {before:?}, then {after:?}"
    );
    assert!(
        after.1 <= before.1 + 4096,
        "KiB: {before:?}, then {after:?}"
    );
    let failures = load.finish();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(asked.machine.terminate(), Some(0));
}

#[test]
fn programs_are_answered_in_json_and_words_of_no_use_are_refused() {
    for workers in KINDS {
        let (a, b) = (Named::new("A"), Named::new("B"));
        let asked = start(workers, with(&[&a, &b]));
        for (words, code) in [
            (&["status"][..], 0),
            (&["backends", "pool"], 0),
            (&["listeners"], 0),
            (&["routes"], 0),
            (&["sessions", "--max", "5"], 0),
            (&["config"], 0),
            (&["ready"], 0),
            (&["why", "--last", "any", "--max", "5"], 0),
            (&["drain", "pool/a", "--wait", "30s"], 0),
            (&["disable", "pool/a"], 0),
            (&["enable", "pool"], 0),
            (&["weight", "pool/a", "2"], 0),
            (&["kick", "pool/a"], 0),
            (&["log-level", "info"], 0),
            (&["reload", "--reset"], 0),
            (&["drain", "pool/z"], 1),
            (&["remove", "pool"], 1),
            (&["backends", "none"], 1),
            (&["why", "00"], 1),
            (&["why", "--last", "6xx"], 1),
            (&["sessions", "--max", "x"], 1),
        ] {
            let all = [words, &["--json"]].concat();
            let told = asked.ctl(&all);
            assert_eq!(told.code, Some(code), "{all:?}: {told:?}");
            let read: Result<serde_yaml::Value, _> = serde_yaml::from_str(&told.stdout);
            let is_json = told.stdout.starts_with('{') && read.is_ok_and(|it| it.is_mapping());
            assert!(is_json && told.stderr.is_empty(), "{all:?}: {told:?}");
        }
        for words in [
            &["status", "more"][..],
            &["backends", "pool", "more"],
            &["drain", "pool/a", "more"],
            &["kick", "session", "1-1", "more"],
            &["reload", "more"],
        ] {
            let told = asked.ctl(words);
            assert_eq!(told.code, Some(2), "{words:?}: {told:?}");
            assert!(told.stderr.contains("takes no `more`"), "{told:?}");
        }
        for words in [
            &["drain", ""][..],
            &["add", "pool", "127.0.0.1:1", "--weight", ""],
            &["sessions", "--listener", ""],
        ] {
            let told = asked.ctl(words);
            assert_eq!(told.code, Some(2), "{words:?}: {told:?}");
            assert!(told.stderr.contains(" is empty"), "{told:?}");
        }
        let told = asked.ctl(&["why", "--last", "any", "--max", "0"]);
        assert!(told.stderr.contains("`max`"), "{told:?}");
        let told = asked.ctl(&["backends", "none"]);
        assert!(told.stderr.contains("no upstream none: pool"), "{told:?}");
    }
}

/// What the process at the door may take for its own while nobody asks it anything, in KiB: with
/// its part of a release's program 500.
const ATTENDANT_KIB_MAX: u64 = 350;

#[test]
fn whoever_serves_the_door_is_small_while_nobody_asks() {
    let a = Named::new("A");
    let asked = start("3", with(&[&a]));
    let pid = asked.attendant();
    let is_small = || (own_kib(pid) <= ATTENDANT_KIB_MAX).then_some(());
    eventually("it is small", is_small);
    // A caller that stays, as those do who ask again and again.
    let mut caller = asked.connect();
    for target in ["/metrics", "/", "/status.json", "/why?last=any"] {
        assert_eq!(asked.get(target).status, 200);
        caller
            .write_all(b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n")
            .expect("it is heard");
    }
    eventually("it is small again", is_small);
}

#[test]
fn a_thousand_callers_that_say_half_a_request_are_bounded() {
    for workers in KINDS {
        besieged(workers, |asked| {
            let mut callers = Vec::new();
            for _ in 0..1000 {
                let mut caller = asked.connect();
                // It may have been sent away again already.
                let _ = caller.write_all(b"GET /status.json HT");
                callers.push(caller);
            }
            assert_eq!(asked.get("/live").status, 200);
        });
    }
}

#[test]
fn a_request_that_comes_in_single_bytes_is_answered() {
    for workers in KINDS {
        besieged(workers, |asked| {
            let mut caller = asked.connect();
            for byte in request("GET", "/live", "").bytes() {
                caller.write_all(&[byte]).expect("it listens");
            }
            let mut text = String::new();
            caller.read_to_string(&mut text).expect("an answer");
            assert!(text.ends_with("live\n"), "{text}");
        });
    }
}

#[test]
fn a_head_without_an_end_is_refused() {
    for workers in KINDS {
        besieged(workers, |asked| {
            let mut caller = asked.connect();
            let _ = caller.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX: ");
            for _ in 0..256 {
                if caller.write_all(&[b'x'; 4096]).is_err() {
                    break;
                }
            }
            let mut bytes = [0; 12];
            caller.read_exact(&mut bytes).expect("an answer");
            assert_eq!(&bytes, b"HTTP/1.1 431");
        });
    }
}

#[test]
fn requests_that_come_together_are_answered_in_turn() {
    for workers in KINDS {
        besieged(workers, |asked| {
            const COUNT: usize = 500;
            let one = "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let all = one.repeat(COUNT) + &request("GET", "/ready", "");
            let mut caller = asked.connect();
            let mut reader = caller.try_clone().expect("a descriptor");
            let reading = std::thread::spawn(move || {
                let mut text = String::new();
                reader.read_to_string(&mut text).expect("answers");
                text
            });
            caller.write_all(all.as_bytes()).expect("it listens");
            let text = reading.join().expect("it ends");
            assert_eq!(text.matches("\r\n\r\nlive\n").count(), COUNT);
            assert!(text.ends_with("ready\n"), "{text}");
        });
    }
}

#[test]
fn callers_over_tcp_do_not_crowd_out_those_at_the_socket() {
    const CROWD: usize = 200;
    let (a, scratch) = (Named::new("A"), Scratch::new());
    for workers in KINDS {
        let (asked, door) = with_token(workers, &a, &scratch);
        let mut early = asked.connect();
        let crowd: Vec<TcpStream> = (0..CROWD).map(|_| tcp(door)).collect();
        // Whoever is served last has come in behind all of them.
        let (ask, live) = (request("GET", "/live", ""), "live\n");
        assert_eq!(exchange(tcp(door), &ask).body, live);
        assert_eq!(exchange(&mut early, &ask).body, live);
        drop(crowd);
    }
}

#[test]
fn callers_that_never_read_their_answers_are_bounded() {
    for workers in KINDS {
        besieged(workers, |asked| {
            let one = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let mut callers = Vec::new();
            for _ in 0..50 {
                let mut caller = asked.connect();
                caller.set_nonblocking(true).expect("a socket");
                let _ = caller.write(one.repeat(2000).as_bytes());
                callers.push(caller);
            }
            assert_eq!(asked.get("/live").status, 200);
        });
    }
}

#[test]
fn a_caller_that_goes_while_a_reload_runs_for_it_costs_nothing() {
    for workers in KINDS {
        besieged(workers, |asked| {
            for _ in 0..20 {
                let mut caller = asked.connect();
                let reload = request("POST", "/reload", "");
                caller.write_all(reload.as_bytes()).expect("it listens");
            }
            asked.machine.log.wait(&["reload done"]);
        });
    }
}
