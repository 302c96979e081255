//! Files that change while they are served.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::tls::material::{Certificate, Material};

struct Site {
    folder: PathBuf,
    source: Source,
}

impl Site {
    fn new(name: &str) -> Self {
        Self::of(name, "{directory: certs, client_ca: ca.pem}")
    }

    fn of(name: &str, tls: &str) -> Self {
        let own = format!("weir-watch-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(own);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("certs")).expect("a folder");
        fs::create_dir_all(folder.join("open")).expect("a folder");
        let text = format!("{{listen: ':1', backends: [a:1], tls: {tls}}}\n");
        let source = Source {
            file_name: "f".to_owned(),
            text,
            files: Vec::new(),
        };
        let this = Self { folder, source };
        this.copy("ca.pem", "ca.pem");
        this.pair("a", "site");
        this.pair("b", "two");
        this
    }

    fn copy(&self, name: &str, from: &str) {
        let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        fs::copy(given.join(from), self.folder.join(name)).expect("copied");
    }

    fn pair(&self, name: &str, from: &str) {
        self.copy(&format!("certs/{name}.crt"), &format!("{from}.pem"));
        self.copy(&format!("certs/{name}.key"), &format!("{from}.key"));
    }

    fn remove(&self, name: &str) {
        for ending in ["crt", "key"] {
            let file = self.folder.join(format!("certs/{name}.{ending}"));
            fs::remove_file(file).expect("removed");
        }
    }

    fn start(&self) -> Credentials {
        let compiled = self.source.compile().expect("it is good");
        let outcome = read(&compiled, &self.folder, None, "");
        assert_eq!(outcome.errors, []);
        outcome.credentials
    }

    /// What has changed since, and what is wrong with it.
    fn look(&self, before: &Credentials) -> (Credentials, Vec<String>) {
        let look = look(&self.source, &Overlay::default(), &self.folder, before, "")
            .expect("something has changed");
        let problems = look.problems.iter().map(ToString::to_string);
        (look.loaded.credentials.clone(), problems.collect())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The first name of each certificate.
fn names(material: &Arc<Material>) -> Vec<&str> {
    let listener = material.listeners[0].as_ref().expect("it has TLS");
    let certificates = listener.certificates.iter();
    certificates.map(|it| it.names[0].as_str()).collect()
}

fn certificates(credentials: &Credentials) -> Vec<Certificate> {
    let listener = credentials.material.listeners[0].clone();
    listener.expect("it has TLS").certificates.clone()
}

#[test]
fn a_pair_that_is_half_written_stays_as_it_was_while_others_change() {
    let site = Site::new("half");
    let start = site.start();
    assert_eq!(names(&start.material), ["site.example", "two.example"]);
    site.copy("certs/b.crt", "site-rsa.pem");
    site.pair("a", "site-rsa");
    let (half, problems) = site.look(&start);
    assert_eq!(names(&half.material), ["site.example", "two.example"]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("the key is not that"), "{problems:?}");
    assert_ne!(
        certificates(&half)[0],
        certificates(&start)[0],
        "the new one"
    );
    assert_eq!(
        certificates(&half)[1],
        certificates(&start)[1],
        "the old one"
    );
    site.copy("certs/b.key", "site-rsa.key");
    let (whole, problems) = site.look(&half);
    assert_eq!(problems, [""; 0]);
    let now = certificates(&whole);
    assert_eq!(now[0].identity, now[1].identity);
}

#[test]
fn certificates_that_share_a_name_are_renewed_together_or_not_at_all() {
    let site = Site::new("pair");
    site.pair("c", "site-rsa");
    let start = site.start();
    assert_eq!(certificates(&start).len(), 3);
    // Both kinds are renewed, one of them not wholly yet.
    site.copy("certs/c.crt", "two.pem");
    site.pair("a", "site-other");
    site.pair("b", "site-other");
    let (half, problems) = site.look(&start);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let [was, is] = [&start, &half].map(certificates);
    assert_eq!((&is[0], &is[2]), (&was[0], &was[2]));
    // What has got a name of theirs waits as well.
    assert_eq!(is[1], was[1]);
    let first = |it: &Credentials| it.material.listeners[0].as_ref()?.expires_unix_s;
    assert_eq!(first(&half), first(&start));
    assert_eq!(half.terms, start.terms, "of those that are served");
    site.pair("c", "site-other");
    let (whole, problems) = site.look(&half);
    assert_eq!(problems, [""; 0]);
    assert!(
        certificates(&whole)
            .iter()
            .zip(&was)
            .all(|(is, was)| is != was)
    );
}

#[test]
fn the_last_certificate_is_served_until_another_one_comes() {
    let site = Site::new("last");
    let start = site.start();
    site.remove("a");
    site.remove("b");
    let (missed, problems) = site.look(&start);
    assert_eq!((problems.len(), &missed.material), (2, &start.material));
    let (after, problems) = site.look(&missed);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("has no certificate any more"),
        "{problems:?}"
    );
    assert_eq!(after.material, start.material);
    assert_eq!(after.terms, start.terms, "they are warned of");
    site.pair("c", "two");
    let (with_new, problems) = site.look(&after);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!(certificates(&with_new).len(), 3);
    let (now, problems) = site.look(&with_new);
    assert_eq!(problems, [""; 0]);
    assert_eq!(names(&now.material), ["two.example"]);
}

#[test]
fn a_folder_in_a_folder_that_cannot_be_looked_into_keeps_what_it_had() {
    let site = Site::new("inner");
    let inner = site.folder.join("certs/c");
    fs::create_dir(&inner).expect("a folder");
    site.copy("certs/c/fullchain.pem", "site-rsa.pem");
    site.copy("certs/c/privkey.pem", "site-rsa.key");
    let mut now = site.start();
    let material = now.material.clone();
    fs::remove_dir_all(&inner).expect("removed");
    // Whoever looks, this cannot be opened.
    std::os::unix::fs::symlink("c", &inner).expect("a link");
    for _ in 0..3 {
        let problems;
        (now, problems) = site.look(&now);
        assert!(problems[0].contains("cannot be read"), "{problems:?}");
        assert_eq!(now.material, material);
    }
}

#[test]
fn rules_for_clients_that_cannot_be_read_leave_the_listener_as_it_was() {
    let site = Site::new("rules");
    let start = site.start();
    site.copy("ca.pem", "site.key");
    site.pair("a", "site-rsa");
    let (kept, problems) = site.look(&start);
    assert_eq!(kept.material, start.material);
    assert_eq!(problems.len(), 1, "{problems:?}");
    site.copy("ca.pem", "other.pem");
    let (whole, problems) = site.look(&kept);
    assert_eq!(problems, [""; 0]);
    assert_ne!(whole.material, start.material);
}

#[test]
fn a_certificate_that_goes_is_gone_at_the_second_look_and_one_that_comes_is_there() {
    let site = Site::new("come");
    let mut start = site.start();
    site.remove("a");
    site.pair("c", "site");
    let (mut missed, problems) = site.look(&start);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("in which \"a.crt\" is missing"),
        "{problems:?}"
    );
    let three = ["site.example", "two.example", "site.example"];
    assert_eq!(names(&missed.material), three);
    // Nothing has to change for that.
    missed.seen = missed.seen.settled();
    let (after, problems) = site.look(&missed);
    assert_eq!(problems, [""; 0]);
    assert_eq!(names(&after.material), ["two.example", "site.example"]);
    let gone: Vec<_> = missed.beside(&after).into_iter().collect();
    assert_eq!(gone, [site.folder.join("certs/a.crt")]);
    // One that is back in time was never gone.
    site.pair("a", "site");
    start = site.start();
    site.remove("a");
    let (missed, _) = site.look(&start);
    site.pair("a", "site");
    let (back, problems) = site.look(&missed);
    assert_eq!(problems, [""; 0]);
    assert_eq!(back.material, start.material);
    site.remove("a");
    assert_eq!(site.look(&back).1.len(), 1, "it has its minute again");
}

#[test]
fn what_a_folder_holds_that_cannot_be_read_is_kept() {
    let site = Site::new("folder");
    let mut now = site.start();
    let material = now.material.clone();
    fs::rename(site.folder.join("certs"), site.folder.join("away")).expect("moved");
    for _ in 0..3 {
        let problems;
        (now, problems) = site.look(&now);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains("cannot be read"), "{problems:?}");
        assert_eq!(now.material, material);
    }
    // One that is not of a pair keeps the rest likewise.
    fs::rename(site.folder.join("away"), site.folder.join("certs")).expect("moved");
    fs::remove_file(site.folder.join("certs/a.crt")).expect("removed");
    for _ in 0..3 {
        let problems;
        (now, problems) = site.look(&now);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(now.material, material);
    }
}

#[test]
fn what_the_program_before_has_left_is_kept_while_not_all_can_be_read() {
    let site = Site::new("left");
    let material = site.start().material;
    let mut now = Credentials::left(material.clone());
    site.copy("certs/a.crt", "site-rsa.pem");
    for _ in 0..2 {
        let problems;
        (now, problems) = site.look(&now);
        assert!(problems[0].contains("the key is not that"), "{problems:?}");
        assert_eq!((problems.len(), &now.material), (1, &material));
    }
    site.remove("a");
    let (missed, problems) = site.look(&now);
    assert!(
        problems[0].contains("is for *.wild.example any more"),
        "{problems:?}"
    );
    assert_eq!((problems.len(), &missed.material), (1, &material));
    let (after, problems) = site.look(&missed);
    assert_eq!(problems, [""; 0]);
    assert_eq!(names(&after.material), ["two.example"]);
}

#[test]
fn a_site_keeps_its_rules_for_clients_while_something_else_is_broken() {
    let tls = "{certificates: [{directory: certs, client_ca: ca.pem}, {directory: open}]}";
    let site = Site::of("open", tls);
    let start = site.start();
    // What comes is for a name whose clients are asked for certificates.
    site.pair("../open/x", "site-rsa");
    for breaks in [false, true] {
        if breaks {
            site.copy("certs/b.key", "site.key");
        }
        let (after, problems) = site.look(&start);
        let told = |text: &str| problems.iter().any(|it| it.contains(text));
        assert!(told("two certificates are for localhost"), "{problems:?}");
        assert_eq!(problems.len(), 1 + usize::from(breaks), "{problems:?}");
        assert_eq!(names(&after.material), ["site.example", "two.example"]);
        assert_eq!(after.material, start.material);
    }
}

#[test]
fn what_is_wrong_is_told_once_and_again_after_a_reload() {
    let site = Site::new("told");
    let start = site.start();
    let mut watch = Watch {
        source: site.source.clone(),
        credentials: start.clone(),
        ring: TicketRing::default(),
        told: Vec::new(),
        day: 0,
    };
    site.copy("certs/a.crt", "site-rsa.pem");
    let look =
        look(&site.source, &Overlay::default(), &site.folder, &start, "").expect("it has changed");
    assert_eq!(watch.untold(&look.problems).len(), 1);
    watch.told.clone_from(&look.problems);
    assert_eq!(watch.untold(&look.problems).len(), 0);
    watch.take_on(site.source.clone(), start);
    assert_eq!(watch.untold(&look.problems).len(), 1);
}

#[test]
fn what_is_as_it_was_is_not_read_again() {
    let site = Site::new("same");
    let mut start = site.start();
    // They had just been written.
    assert!(look(&site.source, &Overlay::default(), &site.folder, &start, "").is_some());
    start.seen = start.seen.settled();
    assert!(look(&site.source, &Overlay::default(), &site.folder, &start, "").is_none());
    let left = Credentials::left(start.material.clone());
    let (again, problems) = site.look(&left);
    assert_eq!(problems, [""; 0]);
    assert_eq!(again.material, start.material);
}
