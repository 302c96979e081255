//! What `make install` lays, and takes away again.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Config, Launch, Scratch, process::binary, run, skip};

const KEPT: &str = "listen: 127.0.0.1:1\nbackends: [\"127.0.0.1:2\"]\n";

/// Makes a target for this folder.
fn make(target: &str, folder: &Path, init: &str) {
    let program = Path::new(&binary()).canonicalize().expect("it is built");
    let output = Command::new("make")
        .args([
            "--silent",
            "--directory",
            env!("CARGO_MANIFEST_DIR"),
            target,
        ])
        .arg(format!("PREFIX={}/usr", folder.display()))
        .arg(format!("ETC={}/etc", folder.display()))
        .arg(format!("INIT={init}"))
        .arg(format!("WEIR={}", program.display()))
        .env_remove("DESTDIR")
        .env_remove("MAKEFLAGS")
        .output()
        .expect("make is there");
    assert!(output.status.success(), "{}", text(&output));
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// All files below a folder, as paths in it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inner = path.strip_prefix(folder).expect("below it");
                found.push(inner.display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn an_installation_serves_at_once_and_goes_without_a_trace_but_its_configuration() {
    for init in ["systemd", "procd", "none"] {
        let scratch = Scratch::new();
        let folder = scratch.file("root");
        make("install-files", &folder, init);
        let there = files(&folder);
        for file in [
            "usr/sbin/weir",
            "etc/weir/weir.yaml",
            "usr/share/weir/reference.yaml",
            "usr/share/bash-completion/completions/weir",
            "usr/share/doc/weir/docs/metrics.md",
            // The documents lead to it by this name.
            "usr/share/doc/weir/conf/reference.yaml",
        ] {
            assert!(there.iter().any(|it| it == file), "{file}: {there:?}");
        }
        let file = folder.join("etc/weir/weir.yaml");
        let checked = run(&["-t".as_ref(), "-c".as_ref(), file.as_os_str()]);
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);

        make("uninstall", &folder, init);
        assert_eq!(files(&folder), ["etc/weir/weir.yaml"]);
    }
}

#[test]
fn an_installation_keeps_the_configuration_that_it_finds() {
    let scratch = Scratch::new();
    let folder = scratch.file("root");
    for kept in ["etc/weir/weir.yaml", "etc/logrotate.d/weir"] {
        let kept = folder.join(kept);
        fs::create_dir_all(kept.parent().expect("a folder")).expect("made");
        fs::write(kept, KEPT).expect("written");
    }
    make("install-files", &folder, "systemd");
    for kept in ["etc/weir/weir.yaml", "etc/logrotate.d/weir"] {
        assert_eq!(fs::read_to_string(folder.join(kept)).expect(kept), KEPT);
    }
}

#[test]
fn an_archive_of_a_release_installs_the_program_in_it() {
    let scratch = Scratch::new();
    let archive = scratch.file("archive");
    fs::create_dir(&archive).expect("made");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    // What conf/build/dist.sh packs.
    for name in [
        "Makefile",
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "conf",
        "docs",
    ] {
        symlink(sources.join(name), archive.join(name)).expect("linked");
    }
    let program = Path::new(&binary()).canonicalize().expect("it is built");
    symlink(&program, archive.join("weir")).expect("linked");
    let root = scratch.file("root");
    let output = Command::new("make")
        .args(["--silent", "--directory"].map(OsStr::new))
        .args([archive.as_os_str(), OsStr::new("install")])
        .arg(format!("PREFIX={}/usr", root.display()))
        .arg(format!("ETC={}/etc", root.display()))
        .args(["INIT=systemd", "CARGO=false"])
        .env_remove("DESTDIR")
        .env_remove("MAKEFLAGS")
        .env_remove("WEIR")
        .output()
        .expect("make is there");
    assert!(output.status.success(), "{}", text(&output));
    let told = Command::new(root.join("usr/sbin/weir"))
        .arg("--version")
        .output()
        .expect("it is installed");
    assert!(text(&told).starts_with("weir "), "{}", text(&told));
}

#[test]
fn a_rotation_has_each_process_open_its_log_anew() {
    let rotation = include_str!("../../conf/weir.logrotate");
    let (_, script) = rotation.split_once("postrotate\n").expect("a script");
    let (script, _) = script.split_once("\tendscript").expect("an end");
    let scratch = Scratch::new();
    for (name, content) in [
        ("weir.pid", "1"),
        ("weir@0.pid", "2"),
        ("weir@1.pid", "3"),
        ("weir@2.pid", ""),
    ] {
        fs::write(scratch.file(name), content).expect("written");
    }
    let refused = scratch.script("weir", "echo \"$@\"; exit 1");
    let script = script
        .replace("/usr/local/sbin/weir", &refused.display().to_string())
        .replace("/run/weir/", &format!("{}/", scratch.file("").display()));
    let output = Command::new("sh")
        .args(["-ec", &script])
        .output()
        .expect("there is a shell");
    assert!(output.status.success(), "{}", text(&output));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    for name in ["weir.pid", "weir@0.pid", "weir@1.pid"] {
        let pid_file = scratch.file(name);
        let order = format!("-s reopen -p {}\n", pid_file.display());
        assert!(told.replace("//", "/").contains(&order), "{name}: {told}");
    }
    assert!(!told.contains("weir@2.pid"), "{told}");
}

#[test]
fn installed_files_name_where_they_lie() {
    let scratch = Scratch::new();
    let folder = scratch.file("root");
    make("install-files", &folder, "systemd");
    for file in [
        "usr/lib/systemd/system/weir.service",
        "usr/lib/systemd/system/weir@.service",
        "usr/lib/systemd/system/weir.socket",
        "etc/logrotate.d/weir",
    ] {
        let text = fs::read_to_string(folder.join(file)).expect(file);
        assert!(!text.contains("/usr/local/"), "{file}: {text}");
        let rights = fs::metadata(folder.join(file)).expect(file).permissions();
        assert_eq!(rights.mode() & 0o777, 0o644, "{file}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze").output().is_err() {
        skip("there is no systemd-analyze");
        return;
    }
    let scratch = Scratch::new();
    let folder = scratch.file("root");
    make("install-files", &folder, "systemd");
    let units = folder.join("usr/lib/systemd/system");
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"].map(OsStr::new))
        .args(["weir.service", "weir.socket", "weir@0.service"].map(|unit| units.join(unit)))
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), "");
}

/// Runs a function of the init script as procd would, and tells what is asked of procd.
fn procd(function: &str, config: &Path, pid_file: &Path) -> Output {
    let stubs = "procd_open_instance() { :; }; procd_close_instance() { :; }; \
                 procd_set_param() { echo \"$@\"; }; . \"$1\"; \
                 PROG=$2 CONFIG=$3 PID_FILE=$4; $5";
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/openwrt/weir.init");
    Command::new("sh")
        .args(["-euc", stubs, "sh"].map(OsStr::new))
        .args([script.as_os_str(), &binary(), config.as_os_str()])
        .args([pid_file.as_os_str(), OsStr::new(function)])
        .output()
        .expect("there is a shell")
}

#[test]
fn procd_starts_weir_and_a_reload_tells_the_verdict() {
    let scratch = Scratch::new();
    let (file, pid_file) = (scratch.file("weir.yaml"), scratch.file("weir.pid"));
    let good = Config::new().backend("127.0.0.1:1").to_string();
    fs::write(&file, &good).expect("written");
    let started = procd("start_service", &file, &pid_file);
    let told = text(&started);
    let command = format!("-c {} -p {}\n", file.display(), pid_file.display());
    assert!(told.contains(&command), "{told}");
    assert!(procd("check", &file, &pid_file).status.success());
    assert!(!procd("reload_service", &file, &pid_file).status.success());

    let launch = Launch::on_file(&file).argument("-p").argument(&pid_file);
    let mut weir = launch.start();
    let reloaded = procd("reload_service", &file, &pid_file);
    assert!(reloaded.status.success(), "{}", text(&reloaded));
    fs::write(&file, "listen: nowhere\n").expect("written");
    let refused = procd("reload_service", &file, &pid_file);
    assert!(!refused.status.success());
    assert!(text(&refused).contains("nowhere"), "{}", text(&refused));
    assert!(weir.runs());
    assert_eq!(weir.terminate(), Some(0));
}
