//! The command line: what it takes, what it prints, and the code it ends with.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};

use crate::harness::process::{Finished, run_onto};
use crate::harness::{Config, Gate, Launch, Named, Scratch, Signal, Weir, ask, eventually, run};

const OK: Option<i32> = Some(0);
const BAD_CONFIGURATION: Option<i32> = Some(1);
const USAGE: Option<i32> = Some(2);
const NOT_BOUND: Option<i32> = Some(3);
const TAKEN: Option<i32> = Some(4);

fn weir(arguments: &[&str]) -> Finished {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    run(&arguments)
}

/// Runs with one option and a configuration file.
fn on_file(option: &str, file: &Path) -> Finished {
    let arguments = [option.as_ref(), "-c".as_ref(), file.as_os_str()];
    run(&arguments)
}

fn check(text: impl std::fmt::Display) -> Finished {
    let scratch = Scratch::new();
    on_file("-t", &scratch.write("weir.yaml", text.to_string()))
}

#[test]
fn help_lists_the_options() {
    for option in ["-h", "--help"] {
        let done = weir(&[option]);
        assert_eq!(done.code, OK);
        for part in [
            "-c",
            "--config",
            "-t",
            "--test",
            "-T",
            "--cpu",
            "--pid-file",
        ] {
            assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
        }
    }
}

#[test]
fn the_version_is_told() {
    for option in ["-v", "-V"] {
        let done = weir(&[option]);
        assert_eq!(done.code, OK);
        let version = env!("CARGO_PKG_VERSION");
        assert!(done.stdout.contains(version), "{}", done.stdout);
    }
}

#[test]
fn an_output_that_takes_nothing_is_an_error_and_no_crash() {
    let scratch = Scratch::new();
    let file = scratch.write(
        "weir.yaml",
        Config::new().backend("127.0.0.1:1").to_string(),
    );
    let file = file.to_str().expect("a plain name");
    for arguments in [&["-h"][..], &["-V"], &["-T", "-c", file]] {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        let done = run_onto(Path::new("/dev/full"), &arguments);
        assert_eq!(done.code, Some(1), "{arguments:?}: {}", done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    }
}

#[test]
fn wrong_usage_ends_with_two() {
    for arguments in [
        &["--surprise"][..],
        &["-c"],
        &["-t", "surprise"],
        &["--cpu", "first"],
    ] {
        let done = weir(arguments);
        assert_eq!(done.code, USAGE, "{arguments:?}: {}", done.stderr);
        assert!(!done.stderr.is_empty());
    }
}

#[test]
fn a_good_file_passes_the_test() {
    let done = check(Config::new().backend("127.0.0.1:9001"));
    assert_eq!(done.code, OK, "{}", done.stderr);
}

#[test]
fn names_are_not_resolved_by_the_test() {
    let done = check(Config::new().backend("no-such-host.invalid:80"));
    assert_eq!(done.code, OK, "{}", done.stderr);
}

#[test]
fn a_bad_file_fails_the_test_with_every_error_and_its_place() {
    let config = Config::new()
        .top("surprise: 1")
        .upstream("algorithm: best")
        .backend_with("127.0.0.1:9001", "weight: -1")
        .backend("127.0.0.1");
    let done = check(&config);
    assert_eq!(done.code, BAD_CONFIGURATION);
    let text = config.to_string();
    for wrong in ["surprise", "best", "weight: -1", "\"127.0.0.1\""] {
        let at = text.lines().position(|line| line.contains(wrong));
        let line = at.expect("the file holds it") + 1;
        let place = format!("weir.yaml:{line}:");
        assert!(done.stderr.contains(&place), "{place}: {}", done.stderr);
    }
}

#[test]
fn a_misspelt_key_is_answered_with_the_right_one() {
    let done = check(Config::new().backend_with("127.0.0.1:9001", "wieght: 5"));
    assert_eq!(done.code, BAD_CONFIGURATION);
    assert!(done.stderr.contains("wieght"), "{}", done.stderr);
    assert!(done.stderr.contains("did you mean"), "{}", done.stderr);
    assert!(done.stderr.contains("weight"), "{}", done.stderr);
}

#[test]
fn the_test_of_the_resolved_configuration_prints_the_defaults() {
    let scratch = Scratch::new();
    let text = Config::new().backend("127.0.0.1:9001").to_string();
    let done = on_file("-T", &scratch.write("weir.yaml", text));
    assert_eq!(done.code, OK, "{}", done.stderr);
    for part in ["half_closed", "drain", "127.0.0.1:9001", "front", "pool"] {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
}

#[test]
fn the_resolved_configuration_is_a_good_file_that_resolves_to_itself() {
    let scratch = Scratch::new();
    let text = Config::new()
        .top("timeouts: {idle: 90s, drain: 1m30s}")
        .checked("rise: 3, path: /health")
        .listener("limits: {max_connections: 7}")
        .backend_with("127.0.0.1:9001", "weight: 5, id: one")
        .backend("unix:/tmp/back.sock")
        .backend("[::1]:9002")
        .backend("host.invalid:80");
    let first = on_file("-T", &scratch.write("weir.yaml", text.to_string()));
    assert_eq!(first.code, OK, "{}", first.stderr);
    let second = on_file("-T", &scratch.write("resolved.yaml", &first.stdout));
    assert_eq!(second.code, OK, "{}", second.stderr);
    assert_eq!(second.stdout, first.stdout);
}

#[test]
fn a_bad_file_does_not_start() {
    let mut weir = Launch::new(Config::new()).spawn();
    assert_eq!(weir.wait_exit(), BAD_CONFIGURATION);
    weir.log.wait(&["weir.yaml:"]);
}

#[test]
fn the_test_looks_whether_the_access_log_can_be_opened() {
    let scratch = Scratch::new();
    let log = |path: &Path| {
        let top = format!("access_log:\n  path: {}", path.display());
        Config::new().top(&top).backend("127.0.0.1:9001")
    };
    let file = scratch.file("access.log");
    assert_eq!(check(log(&file)).code, OK);
    assert!(!file.exists(), "a test makes no file");
    let missing = scratch.file("missing").join("access.log");
    let folder = scratch.file("folder");
    std::fs::create_dir(&folder).expect("there is room");
    let within_a_file = scratch.write("file", "").join("access.log");
    for (path, why) in [
        (missing, "No such file"),
        (folder, "is a directory"),
        (within_a_file, "Not a directory"),
    ] {
        let text = log(&path).to_string();
        let line = text.lines().position(|line| line.starts_with("  path:"));
        let at = format!("weir.yaml:{}:9: ", line.expect("it is there") + 1);
        let done = check(text);
        assert_eq!(done.code, BAD_CONFIGURATION, "{}", done.stderr);
        for part in [
            at.as_str(),
            "`access_log`",
            &path.display().to_string(),
            why,
        ] {
            assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
        }
    }
}

#[test]
fn a_file_that_is_not_there_does_not_start() {
    let scratch = Scratch::new();
    for option in ["-t", "-q"] {
        let done = on_file(option, &scratch.file("missing.yaml"));
        assert_eq!(done.code, BAD_CONFIGURATION, "{}", done.stderr);
        assert!(done.stderr.contains("missing.yaml"), "{}", done.stderr);
    }
}

#[test]
fn the_test_does_not_bind() {
    let taken = Gate::new();
    let done = check(Config::on(&taken.name()).backend("127.0.0.1:9001"));
    assert_eq!(done.code, OK, "{}", done.stderr);
}

#[test]
fn the_test_leaves_no_unix_socket() {
    let scratch = Scratch::new();
    let path = scratch.file("front.sock");
    let name = format!("unix:{}", path.display());
    let done = check(Config::on(&name).backend("127.0.0.1:9001"));
    assert_eq!(done.code, OK, "{}", done.stderr);
    assert!(!path.exists());
}

#[test]
fn an_address_in_use_ends_with_three() {
    let taken = Gate::new();
    let config = Config::on(&taken.name()).backend("127.0.0.1:9001");
    let mut weir = Launch::new(config).spawn();
    assert_eq!(weir.wait_exit(), NOT_BOUND);
    weir.log.wait(&[&taken.name()]);
}

#[test]
fn a_socket_in_a_directory_that_is_not_there_is_a_mistake_in_the_file() {
    let scratch = Scratch::new();
    let name = format!("unix:{}", scratch.file("missing/front.sock").display());
    let mut weir = Launch::new(Config::on(&name).backend("127.0.0.1:9001")).spawn();
    assert_eq!(weir.wait_exit(), BAD_CONFIGURATION);
}

#[test]
fn the_pid_file_is_written_and_removed() {
    let (origin, scratch) = (Named::new("A"), Scratch::new());
    let file = scratch.file("weir.pid");
    let config = Config::new().backend(origin.address());
    let mut weir = Launch::new(config).argument("-p").argument(&file).start();
    let text = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(text.trim_end(), weir.pid().to_string());
    assert_eq!(weir.terminate(), OK);
    assert!(!file.exists());
}

#[test]
fn a_port_that_is_shared_without_a_word_is_warned_of() {
    const SHARED: [&str; 2] = ["another process listens on", "`-p`"];
    let origin = Named::new("A");
    let config = |address: &str| Config::on(address).backend(origin.address());
    let first = Weir::start(config("127.0.0.1:0"));
    assert_eq!(first.log.count(&SHARED), 0);
    let address = first.address().to_string();
    let second = Weir::start(config(&address));
    assert_eq!(second.log.count(&SHARED), 1);
    // Both take connections: nobody is turned away by the look.
    ask(&mut first.connect());
    let scratch = Scratch::new();
    let pid_file = scratch.file("pid");
    let meant: [&[&OsStr]; 2] = [
        &["--cpu".as_ref(), "0".as_ref()],
        &["-p".as_ref(), pid_file.as_os_str()],
    ];
    for arguments in meant {
        let launch = Launch::new(config(&address));
        let launch = arguments
            .iter()
            .fold(launch, |launch, it| launch.argument(*it));
        assert_eq!(launch.start().log.count(&SHARED), 0, "{arguments:?}");
    }
}

#[test]
fn a_file_that_is_not_there_names_the_next_step() {
    let missing = on_file("-t", Path::new("/no/such/weir.yaml"));
    assert_eq!(missing.code, BAD_CONFIGURATION);
    assert!(
        missing.stderr.contains("`weir --help example > FILE`"),
        "{}",
        missing.stderr
    );
    let example = weir(&["--help", "example"]);
    assert_eq!(example.code, OK);
    assert_eq!(check(example.stdout).code, OK);
    let unknown = weir(&["--help", "wieght"]);
    assert_eq!(unknown.code, USAGE);
    assert!(unknown.stderr.contains("`weight`"), "{}", unknown.stderr);
}

#[test]
fn the_pid_file_of_a_running_weir_is_not_taken() {
    let (origin, scratch) = (Named::new("A"), Scratch::new());
    let file = scratch.file("weir.pid");
    let config = Config::new().backend(origin.address());
    let first = Launch::new(&config).argument("-p").argument(&file).start();
    let mut second = Launch::new(&config).argument("-p").argument(&file).spawn();
    assert_eq!(second.wait_exit(), TAKEN);
    let text = std::fs::read_to_string(&file).expect("it is still there");
    assert_eq!(text.trim_end(), first.pid().to_string());
}

#[test]
fn the_pid_file_of_a_weir_that_has_gone_is_taken_over() {
    let (origin, scratch) = (Named::new("A"), Scratch::new());
    let gone = weir_that_ended();
    let file = scratch.write("weir.pid", format!("{gone}\n"));
    let config = Config::new().backend(origin.address());
    let weir = Launch::new(&config).argument("-p").argument(&file).start();
    let text = std::fs::read_to_string(&file).expect("it is there");
    assert_eq!(text.trim_end(), weir.pid().to_string());
}

#[test]
fn an_old_pid_file_that_a_reader_has_locked_is_taken_over() {
    let (origin, scratch) = (Named::new("A"), Scratch::new());
    let file = scratch.write("weir.pid", "1\n");
    let reader = std::fs::File::open(&file).expect("it is there");
    fcntl_lock(&reader, FlockOperation::NonBlockingLockShared).expect("nobody else has");
    let order = weir(&["-s", "reload", "-p", &file.display().to_string()]);
    assert_eq!(order.code, Some(3), "{order:?}");
    let config = Config::new().backend(origin.address());
    let weir = Launch::new(&config).argument("-p").argument(&file).start();
    let text = std::fs::read_to_string(&file).expect("all may read it");
    assert_eq!(text.trim_end(), weir.pid().to_string());
    let late = std::fs::File::open(&file).expect("it is there");
    let locked = fcntl_lock(&late, FlockOperation::NonBlockingLockShared);
    locked.expect_err("weir holds it");
}

#[test]
fn a_pid_file_that_cannot_be_looked_into_fails_an_order_and_says_why() {
    let scratch = Scratch::new();
    let link = scratch.file("link.pid");
    std::os::unix::fs::symlink(scratch.write("weir.pid", "1\n"), &link).expect("a link");
    let order = weir(&["-s", "reload", "-p", &link.display().to_string()]);
    assert_eq!(order.code, Some(1), "{order:?}");
    assert!(order.stderr.contains("symbolic links"), "{order:?}");
    let closed = scratch.write("closed.pid", "1\n");
    std::fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("ours");
    let mut sender = Launch::new("not needed").argument("-s").argument("quit");
    // Root may read anything.
    if rustix::process::geteuid().is_root() {
        sender = sender.user(12_345);
    }
    let mut sender = sender.argument("-p").argument(&closed).spawn();
    assert_eq!(sender.wait_exit(), Some(1));
    sender.log.wait(&["closed.pid", "Permission denied"]);
}

/// The id of a process that has ended.
fn weir_that_ended() -> u32 {
    let mut weir = Launch::new("not a configuration").spawn();
    weir.wait_exit();
    weir.pid()
}

#[test]
fn a_pid_file_that_cannot_be_written_stops_the_start() {
    let scratch = Scratch::new();
    let config = Config::new().backend("127.0.0.1:9001");
    let mut weir = Launch::new(config)
        .argument("--pid-file")
        .argument(scratch.file("missing/weir.pid"))
        .spawn();
    assert_eq!(weir.wait_exit(), NOT_BOUND);
}

#[test]
fn a_pid_file_without_an_end_stops_the_start() {
    let config = Config::new().backend("127.0.0.1:9001");
    let endless = Launch::new(config).argument("-p").argument("/dev/zero");
    let mut weir = endless.spawn();
    assert_eq!(weir.wait_exit(), NOT_BOUND);
    weir.log.wait(&["/dev/zero", "not a regular file"]);
}

#[test]
fn the_process_can_be_pinned_to_a_processor() {
    let origin = Named::new("A");
    let config = Config::new().backend(origin.address());
    let weir = Launch::new(config).argument("--cpu").argument("0").start();
    assert_eq!(weir.status("Cpus_allowed_list:"), "0");
    assert_eq!(ask(&mut weir.connect()), "A");
}

#[test]
fn a_processor_that_is_not_there_is_wrong_usage() {
    let config = Config::new().backend("127.0.0.1:9001");
    let mut weir = Launch::new(config)
        .argument("--cpu")
        .argument("9999")
        .spawn();
    assert_eq!(weir.wait_exit(), USAGE);
    weir.log.wait(&["`--cpu 9999`", "allowed are "]);
}

#[test]
fn quiet_says_nothing_of_ordinary_events() {
    let origin = Named::new("A");
    let text = Config::new().backend(origin.address()).to_string();
    let text = text.replace("log_level: debug\n", "");
    let scratch = Scratch::new();
    let file = scratch.file("weir.pid");
    let mut weir = Launch::new(text)
        .argument("-q")
        .argument("-p")
        .argument(&file)
        .spawn();
    // It does not tell its port; the pid file says that start-up is complete.
    eventually("it is ready", || {
        std::fs::read_to_string(&file)
            .is_ok_and(|text| text.ends_with('\n'))
            .then_some(())
    });
    assert_eq!(weir.terminate(), OK);
    assert_eq!(weir.log.lines(), Vec::<String>::new());
}

#[test]
fn the_log_level_of_the_environment_wins_over_that_of_the_file() {
    let origin = Named::new("A");
    let config = Config::new().backend(origin.address());
    let mut weir = Launch::new(config).log_filter("info").start();
    ask(&mut weir.connect());
    assert_eq!(weir.terminate(), OK);
    assert_eq!(weir.log.count(&["DEBUG"]), 0);
    assert!(weir.log.count(&["INFO"]) > 0);
}

/// What the examples name beside themselves, and what of tests/certificates stands for it.
const CREDENTIALS: [(&str, &str); 10] = [
    ("site.pem", "site.pem"),
    ("site.key", "site.key"),
    ("certs/two.crt", "two.pem"),
    ("certs/two.key", "two.key"),
    ("clients.pem", "ca.pem"),
    ("revoked.pem", "crl.pem"),
    ("client.pem", "client.pem"),
    ("client.key", "client.key"),
    // Any bytes of the right number will do.
    ("new.key", ""),
    ("old.key", ""),
];

#[test]
fn the_shipped_examples_pass_the_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch::new();
    let folder = scratch.file("");
    std::fs::create_dir(folder.join("certs")).expect("a folder");
    for (name, source) in CREDENTIALS {
        let bytes = match source {
            "" => vec![b'k'; 80],
            source => std::fs::read(root.join("tests/certificates").join(source)).expect("a file"),
        };
        std::fs::write(folder.join(name), bytes).expect("it can be written");
    }
    for file in std::fs::read_dir(root.join("conf")).expect("conf/ is there") {
        let path = file.expect("it can be listed").path();
        if path.is_file() {
            let name = path.file_name().expect("a name");
            std::fs::copy(&path, folder.join(name)).expect("it can be copied");
        }
    }
    let files = std::fs::read_dir(&folder).expect("it is there");
    let mut checked = 0;
    for file in files {
        let path = file.expect("it can be listed").path();
        if path.extension() == Some(OsStr::new("yaml")) {
            let done = on_file("-t", &path);
            assert_eq!(done.code, OK, "{}: {}", path.display(), done.stderr);
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn the_short_form_serves() {
    let [a, b] = ["A", "B"].map(Named::new);
    let text = format!(
        "listen: \"127.0.0.1:0\"\nalgorithm: round_robin\nbackends:\n  \
         - address: \"{}\"\n    weight: 2\n  - address: \"{}\"\n    weight: 1\n",
        a.address(),
        b.address()
    );
    let weir = Launch::new(text).start();
    let line = weir
        .log
        .wait(&[crate::harness::log::LISTENING, "(listener "]);
    let (_, name) = line.split_once("(listener ").expect("it holds it");
    let address = weir.address_of(name.trim_end_matches(')'));
    let seen: String = (0..6)
        .map(|_| ask(&mut crate::harness::Peer::connect(address).expect("weir listens")))
        .collect();
    assert_eq!(seen.matches('A').count(), 4, "{seen}");
}

#[test]
fn a_stop_during_the_start_is_heeded() {
    let mut weir: Weir = Launch::new(Config::new().backend("no-such-host.invalid:80")).spawn();
    weir.log.wait(&["listening on "]);
    weir.signal(Signal::TERM);
    assert_eq!(weir.wait_exit(), OK);
}
