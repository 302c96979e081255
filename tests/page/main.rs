//! The page of the admin door. It runs only what is in it: the policy names its style and its
//! script by their hashes, which have to be those of the file. And a real browser steers weir
//! with it.

#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "../e2e/harness/mod.rs"]
mod harness;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../workers/machine.rs"]
mod machine;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../http/software.rs"]
mod software;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::harness::{Launch, Named, Scratch, ask};
use crate::machine::{Machine, config};
use crate::software::{bounded, is_installed, output};

const HASHES: &str = "import base64, hashlib, re, sys
page = open(sys.argv[1], 'rb').read()
for tag in (b'style', b'script'):
    (text,) = re.findall(b'<' + tag + b'>(.*?)</' + tag + b'>', page, re.S)
    name = base64.b64encode(hashlib.sha256(text).digest()).decode()
    print(\"%s-src 'sha256-%s'\" % (tag.decode(), name))
";

#[test]
fn the_policy_names_the_style_and_the_script_that_are_in_the_page() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin");
    let run = Command::new("python3")
        .args(["-c", HASHES])
        .arg(folder.join("page.html"))
        .output()
        .expect("python3 is there");
    assert!(run.status.success(), "{run:?}");
    let policy = std::fs::read_to_string(folder.join("page.rs")).expect("it is there");
    let hashes = String::from_utf8(run.stdout).expect("text");
    assert_eq!(hashes.lines().count(), 2);
    for hash in hashes.lines() {
        assert!(policy.contains(hash), "page.rs is to have {hash}");
    }
}

/// How the upstream `pool` has its backends when the browser has gone: see `browser.py`.
const NAMES: [&str; 2] = ["alpha", "<b>beta</b>"];

fn door_of(machine: &Machine) -> String {
    let line = machine.log.wait(&["admin at http://"]);
    let (_, door) = line.split_once("http://").expect("an address");
    door.trim_end_matches('/').to_owned()
}

#[test]
fn a_browser_steers_weir_by_clicks_and_keys_on_a_desk_and_on_a_phone() {
    if is_installed("chromium") && is_installed("chromedriver") {
        steer();
    }
}

fn steer() {
    let [a, b] = ["A", "B"].map(Named::new);
    let scratch = Scratch::new();
    let token = scratch.write("token", "0123456789abcdef-token\n");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("ours");
    let admin = format!(
        "admin: {{listen: \"127.0.0.1:0\", token_file: {}}}",
        token.display()
    );
    let [alpha, beta] = NAMES.map(|name| format!("id: \"{name}\""));
    let file = config()
        .top(&admin)
        .backend_with(a.address(), &alpha)
        .backend_with(b.address(), &beta);
    let launch = Launch::new(file).open_to_all().argument("--workers");
    let launch = launch.argument("2").argument("-p");
    let machine = Machine::launch(launch.argument(scratch.file("weir.pid")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/browser.py");
    let mut browser = bounded("python3");
    browser.arg(script).arg(door_of(&machine)).arg(&token);
    // What a browser leaves behind goes with it.
    let home = scratch.file("home");
    fs::create_dir(&home).expect("there is room");
    output(browser.env("HOME", &home).env("TMPDIR", &home));
    let names: Vec<String> = (0..12).map(|_| ask(&mut machine.connect())).collect();
    assert_eq!(names, ["B"; 12], "{} is disabled", NAMES[0]);
}
