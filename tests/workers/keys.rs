//! Certificates whose keys only root can read, as ACME clients leave them: read at the start and
//! when they are renewed, by the supervisor alone.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::process::binary;
use crate::harness::{Config, Launch, Named, Scratch, Signal, ask, eventually, observe, skip};
use crate::machine::{Machine, config, status};

const WORKERS: usize = 2;
const NOBODY: &str = "65534";
/// `CAP_DAC_READ_SEARCH`.
const READS_ALL: u64 = 1 << 2;

const SITES: [&str; 2] = ["site.example", "www.example"];

/// What is logged when workers have got other certificates.
const RENEWED: &str = "certificates or keys are other ones than before";

/// As certbot keeps them: links to files of which each renewal writes new ones.
struct Live(Scratch);

impl Live {
    fn new() -> Self {
        let this = Self(Scratch::new());
        for folder in ["live", "archive"] {
            let path = this.0.file(folder);
            for site in SITES {
                fs::create_dir_all(path.join(site)).expect("a folder");
            }
            let closed = fs::Permissions::from_mode(0o700);
            fs::set_permissions(path, closed).expect("it is ours");
        }
        SITES
            .into_iter()
            .for_each(|site| this.renew(site, "site", "site"));
        this
    }

    fn folder(&self) -> PathBuf {
        self.0.file("live")
    }

    fn key(&self) -> PathBuf {
        self.folder().join(SITES[0]).join("privkey.pem")
    }

    /// A certificate and a key of those that tests have.
    fn renew(&self, site: &str, certificate: &str, key: &str) {
        let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        let files = [
            ("fullchain.pem", format!("{certificate}.pem")),
            ("privkey.pem", format!("{key}.key")),
        ];
        for (link, name) in files {
            let file = self.0.file("archive").join(site).join(&name);
            fs::copy(given.join(&name), &file).expect("copied");
            let closed = fs::Permissions::from_mode(0o600);
            fs::set_permissions(&file, closed).expect("it is ours");
            let link = self.folder().join(site).join(link);
            let _ = fs::remove_file(&link);
            symlink(format!("../../archive/{site}/{name}"), link).expect("a link");
        }
    }

    fn config(&self, backend: &Named) -> Config {
        let tls = format!("tls: {{directory: {}}}", self.folder().display());
        let plain = config().listen("secure", "127.0.0.1:0").listener(&tls);
        plain.backend(backend.address())
    }
}

fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        skip("only root has files that nobody else can read");
    }
    is_root
}

fn capabilities(pid: u32, set: &str) -> u64 {
    u64::from_str_radix(&status(pid, set), 16).expect("a number")
}

/// Whether the user that weir becomes can read a file, without any capability, as a worker would.
fn can_nobody_read(path: impl AsRef<Path>) -> bool {
    let run = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .args(["--bounding-set", "-all", "cat"])
        .arg(path.as_ref())
        .output();
    run.expect("setpriv is there").status.success()
}

#[test]
fn who_may_not_read_a_key_at_the_start_is_told_the_way() {
    if !is_root() {
        return;
    }
    let live = Live::new();
    let scratch = Scratch::new();
    let text = format!(
        "{{listen: '127.0.0.1:0', backends: ['127.0.0.1:1'], tls: {{directory: {}}}}}",
        live.folder().display()
    );
    let file = scratch.write("weir.yaml", text);
    let run = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(binary())
        .args(["-t".as_ref(), "-c".as_ref(), file.as_os_str()])
        .output()
        .expect("setpriv is there");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(!run.status.success());
    assert!(said.contains("cannot be read: Permission denied"), "{said}");
    assert!(
        said.contains("started as root, or with `CAP_DAC_READ_SEARCH`"),
        "{said}"
    );
}

/// Both are started as a user that may read no key of root.
#[test]
fn all_units_of_systemd_may_read_keys_at_the_start() {
    let rights = |unit: &'static str| -> Vec<&str> {
        let lines = unit.lines();
        lines.filter(|line| line.contains("CAP_")).collect()
    };
    let one = rights(include_str!("../../conf/weir.service"));
    assert!(one.iter().any(|line| line.contains("CAP_DAC_READ_SEARCH")));
    assert_eq!(rights(include_str!("../../conf/weir@.service")), one);
}

fn check_rights(machine: &Machine, live: &Live) {
    assert!(status(machine.pid(), "Uid:").starts_with(NOBODY));
    assert_eq!(
        capabilities(machine.pid(), "CapPrm:") & READS_ALL,
        READS_ALL
    );
    assert_eq!(capabilities(machine.pid(), "CapEff:") & READS_ALL, 0);
    eventually("all workers have given up everything", || {
        let workers = machine.children();
        let has_none = |&pid: &u32| capabilities(pid, "CapPrm:") == 0;
        (workers.len() == WORKERS && workers.iter().all(has_none)).then_some(())
    });
    assert!(!can_nobody_read(live.key()));
    let all = machine.children().into_iter().chain([machine.pid()]);
    for pid in all {
        assert_eq!(capabilities(pid, "CapAmb:") & READS_ALL, 0);
        // Nor can it be read out of the memory of others.
        assert!(!can_nobody_read(format!("/proc/{pid}/environ")), "{pid}");
    }
}

#[test]
fn keys_of_root_are_read_at_start_renewal_and_upgrade_and_no_worker_can() {
    if !is_root() {
        return;
    }
    let (live, backend) = (Live::new(), Named::new("A"));
    let machine = Machine::start(live.config(&backend), WORKERS);
    check_rights(&machine, &live);

    live.renew(SITES[0], "site-rsa", "site-rsa");
    let mark = machine.log.mark();
    machine.reload(live.config(&backend));
    machine.log.wait_since(mark, &[RENEWED]);
    let mark = machine.log.mark();
    machine.reload(live.config(&backend));
    assert_eq!(machine.log.count_since(mark, &[RENEWED]), 0);

    machine.replace_worker(0);
    check_rights(&machine, &live);
    let mark = machine.log.mark();
    machine.signal(Signal::USR2);
    machine.log.wait_since(mark, &["upgrade done"]);
    check_rights(&machine, &live);

    live.renew(SITES[0], "site", "site-rsa");
    let mark = machine.log.mark();
    machine.signal(Signal::HUP);
    machine
        .log
        .wait_since(mark, &["the key is not that of the certificate"]);
    machine
        .log
        .wait_since(mark, &["reload failed, nothing changed"]);
    live.renew(SITES[0], "site", "site");
    let mark = machine.log.mark();
    machine.reload(live.config(&backend));
    machine.log.wait_since(mark, &[RENEWED]);
    assert_eq!(ask(&mut machine.connect()), "A");
}

#[test]
fn a_renewal_is_seen_within_a_minute_and_half_of_one_leaves_its_site_as_it_was() {
    if !is_root() {
        return;
    }
    let (live, backend) = (Live::new(), Named::new("A"));
    // It has no name in common with the other one.
    live.renew(SITES[1], "two", "two");
    let machine = Machine::start(live.config(&backend), WORKERS);
    let mark = machine.log.mark();
    live.renew(SITES[0], "site-rsa", "site-rsa");
    live.renew(SITES[1], "two", "site");
    observe(Duration::from_secs(45));
    let half = ["www.example", "the key is not that", "what was read before"];
    machine.log.wait_since(mark, &half);
    machine.log.wait_since(mark, &[RENEWED]);
    let done = format!("reload done by all {WORKERS} workers");
    machine.log.wait_since(mark, &[&done]);
}

#[test]
fn a_process_on_its_own_says_that_it_cannot_read_them_again() {
    if !is_root() {
        return;
    }
    let (live, backend) = (Live::new(), Named::new("A"));
    let weir = Launch::new(live.config(&backend)).open_to_all().start();
    let way = "under a supervisor (`supervisor: on`";
    weir.log
        .wait(&["can be read now, but not once it is renewed", way]);
    let mark = weir.log.mark();
    weir.signal(Signal::HUP);
    weir.log.wait_since(mark, &["Permission denied", way]);
    weir.log.wait_since(mark, &["reload failed"]);
    assert_eq!(weir.log.count(&["sandbox refused"]), 0);
    assert_eq!(ask(&mut weir.connect()), "A");
}

#[test]
fn who_has_no_tls_keeps_no_right_to_read_and_hides_nothing() {
    if !is_root() {
        return;
    }
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), WORKERS);
    assert_eq!(capabilities(machine.pid(), "CapPrm:") & READS_ALL, 0);
    machine.wait_children(WORKERS);
    let worker = machine.worker(0);
    assert!(can_nobody_read(format!("/proc/{worker}/environ")));

    // Who has not kept it cannot take it up later, and says so.
    let live = Live::new();
    let mark = machine.log.mark();
    machine.write_config(live.config(&backend));
    machine.signal(Signal::HUP);
    machine
        .log
        .wait_since(mark, &["Permission denied", "at its start"]);
}
