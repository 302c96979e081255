//! What weir gives up once it listens, and what it can still do afterwards.
//!
//! Nearly all of it needs root; without root these tests say so and check nothing.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::harness::{
    Config, Launch, Named, Peer, Scratch, Signal, Weir, ask, eventually, run, skip,
};

const NOBODY: u32 = 65_534;

/// `CAP_NET_BIND_SERVICE` and nothing else, as /proc shows it.
const ONLY_BIND_SERVICE: &str = "0000000000000400";

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("only root can give up anything");
    }
    is_root
}

/// An address of this host that no other test uses, with a port that not everyone may bind.
fn low_port(number: u32) -> String {
    let pid = std::process::id();
    format!("127.{}.{}.{}:90", 100 + number, pid >> 8 & 0xff, pid & 0xff)
}

fn owner(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").uid()
}

#[test]
fn started_as_root_it_becomes_nobody_and_still_serves_and_listens() {
    if !is_root() {
        return;
    }
    let a = Named::new("A");
    let config = Config::on(&low_port(1)).backend(a.address());
    let weir = Weir::start(&config);
    let nobody = vec![NOBODY.to_string(); 4];
    assert_eq!(weir.status_words("Uid"), nobody);
    assert_eq!(weir.status_words("Gid").len(), 4);
    assert_ne!(weir.status_words("Gid")[0], "0");
    assert_eq!(weir.status_words("Groups"), [""; 0]);
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(weir.status_words(set), [ONLY_BIND_SERVICE], "{set}");
    }
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(weir.status_words(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(weir.status_words("NoNewPrivs"), ["1"]);
    assert_eq!(weir.status_words("Seccomp"), ["2"]);
    assert_eq!(ask(&mut weir.connect()), "A");

    weir.reload(config.listen("late", &low_port(2)));
    let late = weir.address_of("late");
    assert_eq!(ask(&mut Peer::connect(late).expect("weir listens")), "A");
    weir.reload(Config::on(&low_port(1)).backend(a.address()));
    eventually("it is closed", || Peer::connect(late).err());
    assert_eq!(ask(&mut weir.connect()), "A");
}

#[test]
fn a_process_that_comes_later_shares_the_ports_of_one_that_has_given_up_root() {
    if !is_root() {
        return;
    }
    let a = Named::new("A");
    let at_start = Config::on(&low_port(3)).backend(a.address());
    let both = at_start.clone().listen("side", &low_port(4));
    let early = Weir::start(&at_start);
    early.reload(&both);
    let late = Weir::start(&both);
    assert_eq!(early.address_of("side"), late.address_of("side"));
    assert_eq!(ask(&mut late.connect()), "A");
}

#[test]
fn nothing_it_does_is_refused_by_the_sandbox() {
    let a = Named::new("A");
    let config = Config::new()
        .top("stats_interval: 100ms")
        .checked("path: /")
        .backend(a.address())
        .backend("no-such-host.invalid:1")
        .backend("localhost:1");
    let mut weir = Weir::start(&config);
    assert_eq!(ask(&mut weir.connect()), "A");
    weir.reload(config.listen("more", "127.0.0.1:0"));
    assert_eq!(weir.terminate(), Some(0));
    let refused = weir.log.count(&["sandbox refused"]);
    assert_eq!(refused, 0, "{:?}", weir.log.lines());
}

#[test]
fn the_access_log_is_the_users_own_and_can_be_reopened() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let (log, old) = (scratch.file("access.log"), scratch.file("access.log.1"));
    let a = Named::new("A");
    let config = Config::new()
        .top(&format!("access_log: {}", log.display()))
        .backend(a.address());
    let weir = Weir::start(&config);
    let session = || {
        let mut client = weir.connect();
        assert_eq!(ask(&mut client), "A");
        client.finish();
        client.expect_end();
    };
    let lines = |path: &Path| {
        let text = fs::read_to_string(path).unwrap_or_default();
        (!text.is_empty()).then_some(())
    };
    assert_eq!(owner(&log), NOBODY);
    session();
    eventually("a line", || lines(&log));
    fs::rename(&log, &old).expect("it is there");
    weir.signal(Signal::USR1);
    eventually("a new file", || log.exists().then_some(()));
    assert_eq!(owner(&log), NOBODY);
    session();
    eventually("a line in the new file", || lines(&log));
}

#[test]
fn root_follows_no_link_that_the_user_may_have_put_there() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let victim = scratch.write("victim", "precious\n");
    let (log, pid) = (scratch.file("access.log"), scratch.file("weir.pid"));
    symlink(&victim, &log).expect("a link");
    symlink(&victim, &pid).expect("a link");
    let config = Config::new().backend("127.0.0.1:1");
    let logging = config
        .clone()
        .top(&format!("access_log: {}", log.display()));
    let mut refused = Launch::new(&logging).spawn();
    assert_eq!(refused.wait_exit(), Some(1));
    refused.log.wait(&["`access_log` is", "symbolic links"]);

    let weir = Launch::new(&config).argument("-p").argument(&pid).start();
    let text = fs::read_to_string(&pid).expect("it is written");
    assert_eq!(text.trim(), weir.pid().to_string());
    assert!(!fs::symlink_metadata(&pid).expect("there").is_symlink());
    assert_eq!(fs::read_to_string(&victim).expect("there"), "precious\n");
    assert_eq!(owner(&victim), 0);
}

#[test]
fn the_pid_file_goes_or_names_nobody_where_it_cannot_go() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let closed = scratch.file("closed");
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("ours");
    let (removed, emptied) = (scratch.file("weir.pid"), closed.join("weir.pid"));
    let run = |pid: &PathBuf| {
        let config = Config::new().backend("127.0.0.1:1");
        let mut weir = Launch::new(config).argument("-p").argument(pid).start();
        let text = fs::read_to_string(pid).expect("it is written");
        assert_eq!(text.trim(), weir.pid().to_string());
        assert_eq!(weir.terminate(), Some(0));
    };
    run(&removed);
    assert!(!removed.exists());
    run(&emptied);
    assert_eq!(fs::read_to_string(&emptied).expect("it stays"), "");
    // It is in nobody's way.
    run(&emptied);
}

#[test]
fn user_and_group_are_chosen_by_name_or_number() {
    if !is_root() {
        return;
    }
    let config = Config::new().backend("127.0.0.1:1");
    let chosen = config.clone().top("user: 4711").top("group: \"4712\"");
    let weir = Weir::start(chosen);
    assert_eq!(weir.status_words("Uid"), vec!["4711"; 4]);
    assert_eq!(weir.status_words("Gid"), vec!["4712"; 4]);

    let weir = Weir::start(config.clone().top("user: root"));
    assert_eq!(weir.status_words("Uid"), vec!["0"; 4]);
    assert_eq!(weir.status_words("CapEff"), [ONLY_BIND_SERVICE]);

    for (keys, part) in [
        ("user: no-such-user", "there is no user no-such-user"),
        ("group: no-such-group", "there is no group no-such-group"),
        ("user: 4711", "its `group` must be given"),
        (
            "chroot: /no/such/folder",
            "\"/no/such/folder\", which cannot become the root folder",
        ),
    ] {
        let mut weir = Launch::new(config.clone().top(keys)).spawn();
        assert_eq!(weir.wait_exit(), Some(1), "{keys}");
        assert_eq!(weir.log.count(&[part]), 1, "{keys}");
    }
}

#[test]
fn without_root_it_stays_who_it_is_and_says_that_it_cannot_be_another() {
    if !is_root() {
        return;
    }
    let config = Config::new().backend("127.0.0.1:1");
    let weir = Launch::new(&config).user(NOBODY).start();
    assert_eq!(weir.status_words("Uid"), vec![NOBODY.to_string(); 4]);
    assert_eq!(weir.status_words("CapPrm"), ["0000000000000000"]);
    assert_eq!(weir.status_words("NoNewPrivs"), ["1"]);
    assert_eq!(weir.status_words("Seccomp"), ["2"]);

    let other = config.clone().top("user: root");
    let mut weir = Launch::new(other).user(NOBODY).spawn();
    assert_eq!(weir.wait_exit(), Some(3));
    weir.log
        .wait(&["cannot become user root (0:0): only root can"]);
    let itself = config.top(&format!("user: {NOBODY}"));
    let itself = itself.top(&format!("group: {NOBODY}"));
    let weir = Launch::new(itself).user(NOBODY).start();
    assert_eq!(weir.status_words("Uid"), vec![NOBODY.to_string(); 4]);
}

#[test]
fn what_only_root_can_open_is_told_before_a_reload_fails_of_it() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let page = scratch.write("page.html", "x");
    let log = scratch.write("access.log", "");
    let folder = scratch.file("folder");
    fs::create_dir(&folder).expect("made");
    let file = folder.join("weir.yaml");
    let link = scratch.file("link.yaml");
    symlink("folder/weir.yaml", &link).expect("a link");
    let text = format!(
        "listen: \"127.0.0.1:0\"\nmode: http\nbackends: [\"127.0.0.1:1\"]\n\
         error_pages: {{502: \"{}\"}}\naccess_log: {}\n",
        page.display(),
        log.display()
    );
    fs::write(&file, text).expect("written");
    let modes = |modes: [u32; 4]| {
        for (path, mode) in [&file, &folder, &page, &log].into_iter().zip(modes) {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
        }
    };
    let nobody = Some(NOBODY);
    let good = [0o644, 0o755, 0o644, 0o666];
    for (closed, words) in [
        (good, None),
        (
            [0o600, 0o755, 0o644, 0o666],
            Some("the file cannot be read"),
        ),
        ([0o644, 0o700, 0o644, 0o666], Some("folder is closed to it")),
        ([0o644, 0o755, 0o600, 0o666], Some("the error page ")),
        (
            [0o644, 0o755, 0o644, 0o644],
            Some("which cannot be written to"),
        ),
        // Who is in the group is not one of the others.
        (
            [0o644, 0o755, 0o644, 0o606],
            Some("which cannot be written to"),
        ),
    ] {
        modes(closed);
        std::os::unix::fs::chown(&log, None, nobody).expect("ours");
        let tested = run(&["-t".as_ref(), "-c".as_ref(), link.as_os_str()]);
        assert_eq!(tested.code, Some(0), "{tested:?}");
        let told = tested.stderr.matches("a reload will fail").count();
        assert_eq!(told, usize::from(words.is_some()), "{closed:?}: {tested:?}");
        let weir = Launch::on_file(&link).start();
        assert_eq!(weir.log.count(&["a reload will fail"]), told);
        let mark = weir.log.mark();
        weir.signal(Signal::HUP);
        if let Some(words) = words {
            assert!(tested.stderr.contains(words), "{tested:?}");
            weir.log.wait_since(mark, &["reload failed"]);
        } else {
            weir.log.wait_since(mark, &["reload done"]);
        }
    }
}

#[test]
fn in_another_root_folder_it_serves_and_reloads_from_there() {
    if !is_root() {
        return;
    }
    let jail = Scratch::new();
    let a = Named::new("A");
    let config = Config::new()
        .top(&format!("chroot: {}", jail.file("").display()))
        .backend(a.address());
    let weir = Weir::start(&config);
    let root = fs::read_link(format!("/proc/{}/root", weir.pid())).expect("it runs");
    assert_eq!(root, jail.file("").canonicalize().expect("it is there"));
    assert_eq!(ask(&mut weir.connect()), "A");

    let inside = weir.file().strip_prefix("/").expect("an absolute path");
    let folder = jail.file("").join(inside.parent().expect("it is in one"));
    fs::create_dir_all(&folder).expect("made");
    let more = config.listen("late", "127.0.0.1:0").to_string();
    fs::write(jail.file("").join(inside), &more).expect("written");
    let mark = weir.log.mark();
    weir.signal(Signal::HUP);
    weir.log.wait_since(mark, &["reload done"]);
    let late = weir.address_of("late");
    assert_eq!(ask(&mut Peer::connect(late).expect("weir listens")), "A");
}

#[test]
fn the_sandbox_can_be_turned_off_and_a_reload_does_not_turn_it_on() {
    let config = Config::new().backend("127.0.0.1:1");
    let weir = Weir::start(config.clone().top("sandbox: off"));
    assert_eq!(weir.status_words("Seccomp"), ["0"]);
    weir.reload(config);
    weir.log.wait(&["count from the next start"]);
    assert_eq!(weir.status_words("Seccomp"), ["0"]);
}
