//! Files that change while they are served.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::tls::material::Material;

struct Site {
    folder: PathBuf,
    source: Source,
}

impl Site {
    fn new(name: &str) -> Self {
        let own = format!("weir-watch-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(own);
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("certs")).expect("a folder");
        let text = "{listen: ':1', backends: [a:1], tls: {directory: certs, client_ca: ca.pem}}\n";
        let source = Source {
            file_name: "f".to_owned(),
            text: text.to_owned(),
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

    fn start(&self) -> Credentials {
        let compiled = self.source.compile().expect("it is good");
        let outcome = read(&compiled, &self.folder, None, "");
        assert_eq!(outcome.errors, []);
        outcome.credentials
    }

    /// What has changed since, and what is wrong with it.
    fn look(&self, before: &Credentials) -> (Credentials, Vec<String>) {
        let look = look(&self.source, &self.folder, before, "").expect("something has changed");
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

#[test]
fn a_pair_that_is_half_written_stays_as_it_was_while_others_change() {
    let site = Site::new("half");
    let start = site.start();
    assert_eq!(names(&start.material), ["site.example", "two.example"]);
    site.copy("certs/a.crt", "site-rsa.pem");
    site.pair("b", "site-rsa");
    let (half, problems) = site.look(&start);
    assert_eq!(names(&half.material), ["site.example", "site.example"]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].contains("the key is not that"), "{problems:?}");
    let of = |credentials: &Credentials| {
        let listener = credentials.material.listeners[0].clone();
        listener.expect("it has TLS").certificates
    };
    assert_eq!(of(&half)[0], of(&start)[0], "the old one");
    assert_ne!(of(&half)[1], of(&start)[1], "the new one");
    site.copy("certs/a.key", "site-rsa.key");
    let (whole, problems) = site.look(&half);
    assert_eq!(problems, [""; 0]);
    assert_eq!(of(&whole)[0].identity, of(&whole)[1].identity);
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
fn a_certificate_that_goes_is_gone_and_one_that_comes_is_there() {
    let site = Site::new("come");
    let start = site.start();
    fs::remove_file(site.folder.join("certs/a.crt")).expect("removed");
    fs::remove_file(site.folder.join("certs/a.key")).expect("removed");
    site.pair("c", "site");
    let (after, problems) = site.look(&start);
    assert_eq!(problems, [""; 0]);
    assert_eq!(names(&after.material), ["two.example", "site.example"]);
}

#[test]
fn what_is_as_it_was_is_not_read_again() {
    let site = Site::new("same");
    let mut start = site.start();
    // They had just been written.
    assert!(look(&site.source, &site.folder, &start, "").is_some());
    start.seen = start.seen.settled();
    assert!(look(&site.source, &site.folder, &start, "").is_none());
    let left = Credentials::left(start.material.clone());
    let (again, problems) = site.look(&left);
    assert_eq!(problems, [""; 0]);
    assert_eq!(again.material, start.material);
}
