//! Every fault of every file has its word and its place, and what is good comes through.

use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::config::compile;
use crate::control::credentials::read;

const JUNK: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

/// A folder of its own, with the certificates of all tests in `given`.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let own = format!("weir-certificates-{}-{name}", std::process::id());
        let this = Self(std::env::temp_dir().join(own));
        let _ = fs::remove_dir_all(&this.0);
        fs::create_dir_all(&this.0).expect("a folder");
        let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates");
        symlink(given, this.0.join("given")).expect("a link");
        this
    }

    fn given(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join("given").join(name)).expect("it is there")
    }

    /// PEM of a certificate that ends early.
    fn cut(&self, name: &str) -> Vec<u8> {
        let text = String::from_utf8(self.given(name)).expect("it is text");
        let mut lines: Vec<&str> = text.lines().collect();
        lines.remove(lines.len() - 3);
        (lines.join("\n") + "\n").into_bytes()
    }

    fn write(&self, name: &str, parts: &[&[u8]]) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, parts.concat()).expect("written");
    }

    fn read(&self, text: &str) -> Outcome {
        let compiled = compile("f", text, &mut |_| Ok(Vec::new())).expect("it is good");
        read(&compiled, &self.0, None, "")
    }

    /// What is wrong with the `tls` of a listener, with the column where it is said.
    fn faults(&self, tls: &str) -> Vec<String> {
        let outcome = self.read(&listening(tls));
        let told = |(at, message): &Fault| {
            let at = at.expect("a place");
            assert_eq!(at.line, 1, "{message}");
            message.clone()
        };
        outcome.errors.iter().map(told).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn listening(tls: &str) -> String {
    format!("{{listen: \":1\", backends: [a:1], tls: {tls}}}\n")
}

fn listener(outcome: &Outcome) -> &ListenerMaterial {
    assert_eq!(outcome.errors, [], "it is good");
    let first = &outcome.credentials.material.listeners[0];
    first.as_ref().expect("it has TLS")
}

#[test]
fn what_is_wrong_with_a_file_is_said_of_its_key() {
    let folder = Folder::new("faults");
    let (pem, key) = (folder.given("site.pem"), folder.given("site.key"));
    folder.write("two-keys.pem", &[&pem, &key, &folder.given("two.key")]);
    folder.write("disordered.pem", &[&folder.given("ca.pem"), &pem]);
    folder.write("cut.pem", &[&pem[..300]]);
    folder.write(
        "long.pem",
        &[&vec![
            b'x';
            usize::try_from(FILE_BYTES_MAX).expect("it fits") + 1
        ]],
    );
    folder.write("short.key", &[b"0123"]);
    folder.write("junk-behind.pem", &[&pem, JUNK]);
    folder.write("cut-behind.pem", &[&pem, &folder.cut("ca.pem")]);
    for (tls, expected) in [
        (
            "{certificate: nothing.pem, key: none.key}",
            "`certificate` is \"nothing.pem\", which cannot be read: No such file or directory",
        ),
        (
            "{certificate: given/site.key, key: given/site.key}",
            "`certificate` is \"given/site.key\", which holds no certificate in PEM",
        ),
        (
            "{certificate: given/site.pem}",
            "`certificate` is \"given/site.pem\", which, as there is no `key`, holds no private key",
        ),
        (
            "{certificate: given/site.pem, key: given/ca.pem}",
            "`key` is \"given/ca.pem\", which holds no private key in PEM",
        ),
        (
            "{certificate: given/site.pem, key: given/site-encrypted.key}",
            "`key` is \"given/site-encrypted.key\", which cannot be used: it is encrypted",
        ),
        (
            "{certificate: given/site.pem, key: given/two.key}",
            "`key` is \"given/two.key\", which cannot be used: the key is not that of the",
        ),
        (
            "{certificate: disordered.pem, key: given/site.key}",
            "; it is that of another one in the file, which must stand first",
        ),
        (
            "{certificate: two-keys.pem}",
            "holds more than one private key",
        ),
        (
            "{certificate: cut.pem, key: given/site.key}",
            "cannot be used: malformed PEM",
        ),
        (
            "{certificate: junk-behind.pem, key: given/site.key}",
            "`certificate` is \"junk-behind.pem\", which cannot be used: a certificate behind the",
        ),
        (
            "{certificate: cut-behind.pem, key: given/site.key}",
            "`certificate` is \"cut-behind.pem\", which cannot be used: a certificate behind the",
        ),
        (
            "{certificate: long.pem, key: given/site.key}",
            "and at most 1048576 are read",
        ),
        (
            "{certificate: given, key: given/site.key}",
            "is a directory",
        ),
        (
            "{directory: given/site.pem}",
            "which cannot be read: Not a directory",
        ),
        (
            "{certificate: given/site.pem, key: given/site.key, client_ca: given/site.key}",
            "`client_ca` is \"given/site.key\", which holds no certificate in PEM",
        ),
        (
            "{certificate: given/site.pem, key: given/site.key, client_ca: given/ca.pem, crl: given/ca.pem}",
            "`crl` is \"given/ca.pem\", which holds no revocation list in PEM",
        ),
        (
            "{certificate: given/site.pem, key: given/site.key, client_ca: given/ca.pem, \
             crl: given/crl-v1.pem}",
            "`crl` is \"given/crl-v1.pem\", which cannot be used: it is of version 1",
        ),
        (
            "{certificate: given/site.pem, key: given/site.key, ticket_keys: [short.key]}",
            "`ticket_keys` is \"short.key\", which has 4 bytes; it must have 48 or 80",
        ),
        (
            "{certificates: [{certificate: given/site.pem, key: given/site.key}, \
             {certificate: given/site-rsa.pem, key: given/site-rsa.key, client_ca: given/ca.pem}]}",
            "two certificates are for localhost, and say different things of clients",
        ),
        (
            "{certificates: [{certificate: given/site.pem, key: given/site.key}, \
             {certificate: given/cn-only.pem, key: given/cn-only.key}]}",
            "names no host in its subjectAltName",
        ),
    ] {
        let faults = folder.faults(tls);
        assert!(
            faults.iter().any(|it| it.contains(expected)),
            "{tls}: {faults:?}"
        );
        // Of an absent pair both files are missed.
        assert!(
            faults.len() <= 1 + usize::from(tls.contains("none.key")),
            "{faults:?}"
        );
    }
}

#[test]
fn certificates_that_are_of_no_use_are_warned_of() {
    let folder = Folder::new("useless");
    let (pem, ca) = (folder.given("site.pem"), folder.given("ca.pem"));
    folder.write("chain.pem", &[&pem, &ca]);
    folder.write("disordered.pem", &[&pem, &folder.given("other.pem"), &ca]);
    folder.write("foreign.pem", &[&pem, &folder.given("other.pem")]);
    folder.write("ca-and-junk.pem", &[&ca, JUNK]);
    for (tls, expected) in [
        ("{certificate: chain.pem, key: given/site.key}", None),
        ("{certificate: disordered.pem, key: given/site.key}", None),
        (
            "{certificate: foreign.pem, key: given/site.key}",
            Some("behind the first, but not that of its issuer"),
        ),
        (
            "{certificate: given/site.pem, key: given/site.key, \
             cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}",
            Some("is of an ECDSA key, and `cipher_suites` has none for that"),
        ),
        (
            "{certificate: given/site-rsa.pem, key: given/site-rsa.key, \
             cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}",
            Some("is of an RSA key, and `cipher_suites` has none for that"),
        ),
        (
            "{certificate: given/site.pem, key: given/site.key, \
             cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]}",
            None,
        ),
        (
            "{certificate: chain.pem, key: given/site.key, client_ca: ca-and-junk.pem}",
            Some("holds a certificate that cannot be parsed: it is left out"),
        ),
    ] {
        let outcome = folder.read(&listening(tls));
        listener(&outcome);
        let told: Vec<_> = outcome.warnings.iter().map(|it| it.1.as_str()).collect();
        assert_eq!(
            told.len(),
            usize::from(expected.is_some()),
            "{tls}: {told:?}"
        );
        assert!(
            told.iter()
                .zip(expected)
                .all(|(it, expected)| it.contains(expected)),
            "{told:?}"
        );
    }
}

#[test]
fn one_file_at_several_places_is_told_of_at_each() {
    let folder = Folder::new("places");
    let entry = "{certificate: given/site.pem, key: given/two.key}";
    let text = listening(&format!("{{certificates: [{entry},\n {entry}]}}"));
    let lines: Vec<usize> = folder
        .read(&text)
        .errors
        .iter()
        .map(|(at, _)| at.expect("a place").line)
        .collect();
    assert_eq!(lines, [1, 2]);
}

#[test]
fn names_are_those_of_the_certificate_or_given() {
    let folder = Folder::new("names");
    let outcome = folder.read(&listening(
        "{certificate: given/site.pem, key: given/site.key}",
    ));
    let names = &listener(&outcome).certificates[0].names;
    assert_eq!(names[..], ["site.example", "*.wild.example", "localhost"]);
    assert_eq!(outcome.warnings, []);
    let given = "{certificate: given/site-sec1.pem, key: given/site-sec1.key, names: [A.example]}";
    let outcome = folder.read(&listening(&given.replace("site-sec1.pem", "site.pem")));
    assert_eq!(listener(&outcome).certificates[0].names, ["a.example"]);
    let unnamed = "{certificate: given/cn-only.pem, key: given/cn-only.key}";
    let outcome = folder.read(&listening(unnamed));
    assert_eq!(listener(&outcome).certificates[0].names, [""; 0]);
    assert!(
        outcome.warnings[0].1.contains("give `names`"),
        "{:?}",
        outcome.warnings
    );
}

#[test]
fn a_folder_has_certificates_in_three_forms_and_in_order() {
    let folder = Folder::new("folder");
    let (pem, key) = (folder.given("site.pem"), folder.given("site.key"));
    let (rsa, rsa_key) = (
        folder.given("site-rsa.pem"),
        folder.given("site-rsa-pkcs1.key"),
    );
    let (two, two_key) = (folder.given("two.pem"), folder.given("two.key"));
    folder.write("certs/b.pem", &[&key, &pem]);
    folder.write("certs/a.crt", &[&rsa]);
    folder.write("certs/a.key", &[&rsa_key]);
    folder.write("archive/two/1.pem", &[&two]);
    folder.write("certs/c.example/privkey.pem", &[&two_key]);
    symlink(
        "../../archive/two/1.pem",
        folder.0.join("certs/c.example/fullchain.pem"),
    )
    .expect("a link");
    folder.write("certs/.hidden.pem", &[b"no certificate"]);
    folder.write("certs/README", &[b"no certificate"]);
    folder.write("certs/empty/README", &[b"no certificate"]);
    // As lego leaves them.
    folder.write("certs/a.issuer.crt", &[&folder.given("ca.pem")]);
    folder.write("certs/a.json", &[b"{}"]);
    folder.write("certs/a.pem", &[&rsa, &rsa_key]);
    let outcome = folder.read(&listening("{directory: certs}"));
    let found = listener(&outcome);
    let names = found.certificates.iter().map(|it| it.names[0].as_str());
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["site.example", "site.example", "two.example"]
    );
    assert!(found.expires_unix_s > Some(0));
    folder.write("certs/d.crt", &[&pem]);
    folder.write("certs/e.key", &[&key]);
    folder.write("certs/f/fullchain.pem", &[&pem]);
    let faults = folder.faults("{directory: certs}");
    let expected = [
        "in which \"e.key\" has no certificate beside it",
        "in which \"d.crt\" has no \"d.key\" beside it, and holds no private key",
        "in which \"f/privkey.pem\" cannot be read",
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (fault, expected) in faults.iter().zip(expected) {
        assert!(fault.contains(expected), "{fault}");
    }
}

#[test]
fn a_folder_may_be_empty_until_a_certificate_comes() {
    let folder = Folder::new("empty");
    folder.write("none/README", &[b"no certificate"]);
    let outcome = folder.read(&listening("{directory: none}"));
    assert_eq!(listener(&outcome).certificates, []);
    let warnings: Vec<&str> = outcome.warnings.iter().map(|it| it.1.as_str()).collect();
    assert!(
        warnings[0].contains("in which there is no certificate"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("handshakes are refused"),
        "{warnings:?}"
    );
    let faults = folder.faults("{directory: nowhere}");
    assert!(faults[0].contains("make it, it may be empty"), "{faults:?}");
}

#[test]
fn clients_tickets_and_upstreams_have_what_they_need() {
    let folder = Folder::new("rest");
    folder.write("t48", &[&[b'n'; 16], &[b's'; 32]]);
    folder.write("t80", &[&[b'N'; 16], &[b'x'; 32], &[b'S'; 32]]);
    let text = "
listeners:
  - listen: ':1'
    upstream: a
    tls:
      certificates:
        - {certificate: given/site.pem, key: given/site.key}
        - certificate: given/two.pem
          key: given/two.key
          client_ca: given/other.pem
          client_auth: optional
      client_ca: given/ca.pem
      crl: given/crl.pem
      ticket_keys: [t48, t80]
upstreams:
  a:
    tls: {ca: given/ca.pem, certificate: given/client.pem, key: given/client.key}
    backends: [a:1]
  b: {tls: {ca: given/ca.pem}, backends: [a:1]}
  c: {tls: {ca: nowhere.pem, verify: false}, backends: [a:1]}
  d: {backends: [a:1]}
";
    let outcome = folder.read(text);
    let found = listener(&outcome);
    let auths: Vec<_> = found.certificates.iter().map(|it| it.client_auth).collect();
    assert_eq!(auths, [Some(0), Some(1)]);
    let [first, second] = &found.client_auths[..] else {
        panic!("{} rules", found.client_auths.len())
    };
    assert!(first.is_required && !second.is_required);
    assert_eq!((first.revoked.len(), second.revoked.len()), (1, 0));
    let keys: Vec<_> = found
        .ticket_keys
        .iter()
        .map(|key| (key.name[0], key.secret.bytes()[31]))
        .collect();
    assert_eq!(keys, [(b'n', b's'), (b'N', b'S')]);
    let material = &outcome.credentials.material;
    let sets: Vec<_> = material
        .upstreams
        .iter()
        .map(|it| Some(it.as_ref()?.authorities))
        .collect();
    assert_eq!(sets, [Some(0), Some(0), Some(1), None]);
    let sizes: Vec<_> = material.authorities.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 0]);
    let identities = material
        .upstreams
        .iter()
        .map(|it| it.as_ref()?.identity.as_ref());
    assert_eq!(
        identities.map(|it| it.is_some()).collect::<Vec<_>>(),
        [true, false, false, false]
    );
}
