//! `tls` of a listener and of an upstream. What the files hold is read later, by who may.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::compile::{Compiler, Relayed};
use super::defaults;
use super::key::{Key, Shown, key, later, written};
use super::model::{
    CertificateFiles, CertificateSource, ClientAuthSource, HostPattern, IdentityFiles, Listener,
    ListenerTls, Mode, TlsRoute, TlsVersion, Upstream, UpstreamTls,
};
use super::node::{Entry, Node, Value};
use super::problem::Problems;
use super::section::{OR_SWITCH, Section, read_value};
use super::tls_route::{self, protocol, tls_routes};
use super::tree::{self, Tree};
use super::values::{self, Read, one_of};
use crate::core::address::{Address, BackendAddress};
use crate::tls::{CIPHER_SUITES, ClientSettings};

/// A key whose value is the path of a file that is read later.
macro_rules! file {
    { $name:literal, $model:ident . $field:ident } => {
        Key::<$model>::new(
            $name,
            |it, entry, c| it.$field = c.file(entry),
            |it, _| it.$field.as_ref().map(|path| path_tree(path)),
        )
    };
}

/// Of a listener. The short form has the keys of one certificate in the place of `certificates`;
/// those that tell of clients are for all certificates.
pub(super) static TLS: &[Key<ListenerTls>] = &[
    Key::new("certificates", later, |it, shown| {
        let trees = it.certificates.iter().map(|it| certificate_tree(it, shown));
        Some(Tree::List(trees.collect()))
    }),
    key! { "min_version", ListenerTls.min_version, min_version, min_version_tree },
    Key::new("cipher_suites", cipher_suites, |it, _| {
        (!it.cipher_suites.is_empty()).then(|| tree::texts(&it.cipher_suites))
    }),
    key! { "strict_sni", ListenerTls.strict_sni, values::boolean, tree::word },
    Key::new(
        "alpn",
        |it, entry, c| it.alpn = protocols(entry, c),
        |it, _| protocols_tree(&it.alpn),
    ),
    Key::new("ticket_keys", ticket_keys, |it, _| {
        let paths = it.ticket_keys.iter();
        let paths = paths.map(|it| path_tree(it));
        (!it.ticket_keys.is_empty()).then(|| Tree::List(paths.collect()))
    }),
    Key::new(
        "passthrough",
        |it, entry, c| {
            it.passthrough = tls_routes(c, entry, Relayed::Passthrough);
            let takes_all = |it: &TlsRoute| it.host == HostPattern::Any && it.alpn.is_none();
            if it.passthrough.iter().any(takes_all) {
                let told = "a `passthrough` with neither `host` nor `alpn` takes every connection, \
                    and nothing is decrypted: `mode: tls` says so";
                c.problems.warning(entry.key_at, told);
            }
        },
        |it, shown| (!it.passthrough.is_empty()).then(|| tls_route::tree(&it.passthrough, shown)),
    ),
];

/// Of one of several certificates, or of the only one.
pub(super) static CERTIFICATE: &[Key<CertificateGiven>] = &[
    file! { "certificate", CertificateGiven.certificate },
    file! { "key", CertificateGiven.key },
    file! { "directory", CertificateGiven.directory },
    Key::new("names", names, |it, _| {
        (!it.names.is_empty()).then(|| tree::texts(&it.names))
    }),
    file! { "client_ca", CertificateGiven.client_ca },
    key! {
        "client_auth", CertificateGiven.client_auth,
        |node| one_of(CLIENT_AUTH)(node).map(Some),
        |it: &Option<bool>| it.as_ref().map(tree::one_of(CLIENT_AUTH)),
    },
    file! { "crl", CertificateGiven.crl },
];

/// Of an upstream.
pub(super) static UPSTREAM_TLS: &[Key<UpstreamTls>] = &[
    Key::new(
        "ca",
        |it, entry, c| {
            let path = c.file(entry);
            it.authorities = path.unwrap_or_else(|| it.authorities.clone());
        },
        |it, _| Some(path_tree(&it.authorities)),
    ),
    key! {
        "server_name", UpstreamTls.server_name,
        server_name, |it: &Option<String>| it.as_ref().map(tree::text),
    },
    Key::new("certificate", later, |it, _| {
        it.identity.as_ref().map(|it| path_tree(&it.certificate))
    }),
    Key::new("key", later, |it, _| {
        let key = it.identity.as_ref().and_then(|it| it.key.as_ref());
        key.map(|key| path_tree(key))
    }),
    key! { "verify", UpstreamTls.verify, values::boolean, tree::word },
    Key::new(
        "alpn",
        |it, entry, c| it.alpn = protocols(entry, c),
        |it, _| protocols_tree(&it.alpn),
    ),
];

const TWO_PLACES: &str =
    "`certificate` and `directory` exclude each other: give them as two of `certificates`";
const NAMES_OF_MANY: &str = "`names` is for one certificate: those in a `directory` have their own";

const MIN_VERSIONS: &[(&str, TlsVersion)] = &[("1.2", TlsVersion::V12), ("1.3", TlsVersion::V13)];

/// By whether a client must have a certificate.
const CLIENT_AUTH: &[(&str, bool)] = &[("required", true), ("optional", false)];

/// What the keys of a certificate say.
#[derive(Debug, Default)]
pub(super) struct CertificateGiven {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    directory: Option<PathBuf>,
    names: Vec<String>,
    client_ca: Option<PathBuf>,
    client_auth: Option<bool>,
    crl: Option<PathBuf>,
}

impl CertificateGiven {
    fn of(source: &CertificateSource) -> Self {
        let mut this = Self {
            names: source.names.clone(),
            ..Self::default()
        };
        match &source.files {
            CertificateFiles::Pair(IdentityFiles { certificate, key }) => {
                (this.certificate, this.key) = (Some(certificate.clone()), key.clone());
            }
            CertificateFiles::Directory(path) => this.directory = Some(path.clone()),
        }
        if let Some(auth) = &source.client_auth {
            this.client_ca = Some(auth.authorities.clone());
            this.client_auth = Some(auth.is_required);
            this.crl.clone_from(&auth.revocations);
        }
        this
    }

    /// The files of a certificate, of which there must be some.
    fn files(&self, section: &Section<'_>, c: &mut Compiler<'_>) -> Option<CertificateFiles> {
        let has = |key: &str| section.peek(key).is_some();
        let wrong = match (has("certificate"), has("directory")) {
            (true, true) => Some(("directory", TWO_PLACES)),
            (false, true) if has("key") => Some(("key", "`key` needs `certificate`")),
            (false, true) if has("names") => Some(("names", NAMES_OF_MANY)),
            (false, false) if has("key") => Some(("key", "`key` needs `certificate`")),
            (false, false) => Some((
                "",
                "there is neither `certificate` nor `directory`, such as {certificate: site.pem, \
                 key: site.key}",
            )),
            (true, false) | (false, true) => None,
        };
        if let Some((key, message)) = wrong {
            let at = section.peek(key).map_or(section.at, |it| it.key_at);
            c.problems.error(at, message);
            return None;
        }
        let of_folder = self.directory.clone().map(CertificateFiles::Directory);
        let pair = |certificate| IdentityFiles {
            certificate,
            key: self.key.clone(),
        };
        let pair = self.certificate.clone().map(pair);
        of_folder.or_else(|| pair.map(CertificateFiles::Pair))
    }

    fn client_auth(&self, section: &Section<'_>, c: &mut Compiler<'_>) -> Option<ClientAuthSource> {
        if section.peek("client_ca").is_none() {
            for key in ["client_auth", "crl"] {
                if let Some(entry) = section.peek(key) {
                    let message = format!("`{key}` needs `client_ca`");
                    c.problems.error(entry.key_at, message);
                }
            }
        }
        Some(ClientAuthSource {
            authorities: self.client_ca.clone()?,
            is_required: self.client_auth.unwrap_or(true),
            revocations: self.crl.clone(),
        })
    }
}

pub(super) fn listener_tls(entry: &Entry, c: &mut Compiler<'_>) -> Option<Box<ListenerTls>> {
    if values::is_off(&entry.value) {
        return None;
    }
    let mut section = Section::open_or("`tls`", OR_SWITCH, &entry.value, &mut c.problems)?;
    section.at = entry.key_at;
    let mut tls = defaults::LISTENER_TLS;
    section.walk(TLS, &mut tls, c);
    let mut given = CertificateGiven::default();
    section.walk(CERTIFICATE, &mut given, c);
    let client_auth = given.client_auth(&section, c);
    tls.certificates = match section.entry("certificates") {
        Some(listed) => {
            refuse_own(&section, c);
            certificates(listed, client_auth.as_ref(), c)
        }
        None => {
            let files = given.files(&section, c).into_iter();
            let only = files.map(|files| CertificateSource {
                files,
                names: std::mem::take(&mut given.names),
                client_auth: client_auth.clone(),
            });
            only.collect()
        }
    };
    check_suites(&section, &tls, c);
    section.close(&mut c.problems);
    Some(Box::new(tls))
}

/// Beside a list of certificates there is none of its own.
fn refuse_own(section: &Section<'_>, c: &mut Compiler<'_>) {
    for key in ["certificate", "key", "directory", "names"] {
        if let Some(entry) = section.peek(key) {
            let message = format!("`{key}` stands beside `certificates`: move it into that list");
            c.problems.error(entry.key_at, message);
        }
    }
}

/// Each has what is said of clients for all, unless it says that itself.
fn certificates(
    entry: &Entry,
    for_all: Option<&ClientAuthSource>,
    c: &mut Compiler<'_>,
) -> Vec<CertificateSource> {
    let (key, problems) = (&entry.key, &mut c.problems);
    let items = read_value(key, &entry.value, problems, values::list).unwrap_or_default();
    let read = |item| certificate(item, for_all, c);
    items.iter().filter_map(read).collect()
}

fn certificate(
    node: &Node,
    for_all: Option<&ClientAuthSource>,
    c: &mut Compiler<'_>,
) -> Option<CertificateSource> {
    let mut section = Section::open("one of `certificates`", node, &mut c.problems)?;
    let mut given = CertificateGiven::default();
    section.walk(CERTIFICATE, &mut given, c);
    let files = given.files(&section, c);
    let own = given.client_auth(&section, c);
    section.close(&mut c.problems);
    Some(CertificateSource {
        files: files?,
        names: given.names,
        client_auth: own.or_else(|| for_all.cloned()),
    })
}

fn certificate_tree(source: &CertificateSource, shown: &Shown<'_>) -> Tree {
    Tree::Map(written(CERTIFICATE, &CertificateGiven::of(source), shown))
}

fn path_tree(path: &Path) -> Tree {
    tree::text(path.to_string_lossy())
}

/// YAML takes a version without quotes for a number.
fn min_version(node: &Node) -> Read<TlsVersion> {
    let Value::Float(number) = node.value else {
        return one_of(MIN_VERSIONS)(node);
    };
    one_of(MIN_VERSIONS)(&Node {
        at: node.at,
        value: Value::Text(number.to_string()),
    })
}

fn min_version_tree(version: &TlsVersion) -> Tree {
    let found = MIN_VERSIONS.iter().find(|(_, it)| it == version);
    tree::text(found.map_or("", |(word, _)| word))
}

fn cipher_suites(tls: &mut ListenerTls, entry: &Entry, c: &mut Compiler<'_>) {
    let (key, problems) = (&entry.key, &mut c.problems);
    let items = read_value(key, &entry.value, problems, values::list).unwrap_or_default();
    let read = |item| read_value(key, item, problems, cipher_suite);
    tls.cipher_suites = items.iter().filter_map(read).collect();
}

fn cipher_suite(node: &Node) -> Read<String> {
    let given = values::text(node).unwrap_or_default();
    match CIPHER_SUITES.contains(&given) {
        true => Ok(given.to_owned()),
        false => Err(values::one_of_must(given, &CIPHER_SUITES)),
    }
}

/// A version that is allowed must have a suite.
fn check_suites(section: &Section<'_>, tls: &ListenerTls, c: &mut Compiler<'_>) {
    let is_newest = |suite: &str| !suite.contains("_WITH_");
    if let Some(entry) = section.peek("cipher_suites")
        && tls.min_version == TlsVersion::V13
        && !tls.cipher_suites.is_empty()
        && !tls.cipher_suites.iter().any(|suite| is_newest(suite))
    {
        let known = CIPHER_SUITES.into_iter().filter(|suite| is_newest(suite));
        let known: Vec<&str> = known.collect();
        let message = format!(
            "`cipher_suites` has none of TLS 1.3, which `min_version` asks for: {}",
            known.join(", ")
        );
        c.problems.error(entry.key_at, message);
    }
}

fn ticket_keys(tls: &mut ListenerTls, entry: &Entry, c: &mut Compiler<'_>) {
    let (key, problems) = (&entry.key, &mut c.problems);
    let items = read_value(key, &entry.value, problems, values::list).unwrap_or_default();
    let read = |item| c.file_at(key, item);
    tls.ticket_keys = items.iter().filter_map(read).collect();
}

/// Application protocols, in the order in which they are preferred.
fn protocols(entry: &Entry, c: &mut Compiler<'_>) -> Vec<String> {
    let (key, problems) = (&entry.key, &mut c.problems);
    let few = |node| {
        let must = || format!("a list of at most {} protocols", defaults::PROTOCOLS_MAX);
        let items = values::list(node)?;
        let fits = items.len() <= defaults::PROTOCOLS_MAX;
        fits.then_some(items).ok_or_else(must)
    };
    let items = read_value(key, &entry.value, problems, few).unwrap_or_default();
    let mut known: Vec<String> = Vec::new();
    for item in items {
        let Some(name) = read_value(key, item, problems, protocol) else {
            continue;
        };
        if known.contains(&name) {
            let message = format!("`{key}` has {name:?} twice");
            problems.error(item.at, message);
        }
        known.push(name);
    }
    known
}

fn protocols_tree(names: &[String]) -> Option<Tree> {
    (!names.is_empty()).then(|| tree::texts(names))
}

/// HTTP agrees on its own protocols.
pub(super) fn check_alpn(section: &Section<'_>, listener: &Listener, problems: &mut Problems) {
    let tls = section.peek("tls").map(|entry| &entry.value.value);
    if let (Some(Value::Map(said)), Mode::Http(_)) = (tls, &listener.mode)
        && let Some(entry) = said.iter().find(|entry| entry.key == "alpn")
    {
        let message = "`alpn` is for mode tcp: a listener in mode http agrees on http/1.1 itself";
        problems.error(entry.key_at, message);
    }
}

/// The names that a certificate is for: as for the `host` of a route, but none for all.
fn names(given: &mut CertificateGiven, entry: &Entry, c: &mut Compiler<'_>) {
    let (key, problems) = (&entry.key, &mut c.problems);
    let items = read_value(key, &entry.value, problems, values::list).unwrap_or_default();
    let read = |item| read_value(key, item, problems, server_pattern);
    given.names = items.iter().filter_map(read).collect();
}

/// In lower case, without the dot at the end.
fn server_pattern(node: &Node) -> Read<String> {
    let must = || "a host name, such as example.com or *.example.com".to_owned();
    let name = values::text(node).map_err(|_| must())?;
    let lower = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let host = lower.strip_prefix("*.").unwrap_or(&lower);
    values::is_host_name(host).then_some(()).ok_or_else(must)?;
    Ok(lower)
}

pub(super) fn upstream_tls(entry: &Entry, c: &mut Compiler<'_>) -> Option<Box<UpstreamTls>> {
    if values::is_off(&entry.value) {
        return None;
    }
    let mut section = Section::open_or("`tls`", OR_SWITCH, &entry.value, &mut c.problems)?;
    section.at = entry.key_at;
    let mut tls = UpstreamTls {
        authorities: PathBuf::from(defaults::AUTHORITIES),
        server_name: None,
        identity: None,
        verify: true,
        alpn: Vec::new(),
    };
    section.walk(UPSTREAM_TLS, &mut tls, c);
    // What is said of the system's authorities is said of the key that asks for them.
    if section.peek("ca").is_none() {
        c.note_file("ca", &tls.authorities, entry.key_at);
    }
    tls.identity = identity(&mut section, c);
    section.close(&mut c.problems);
    Some(Box::new(tls))
}

fn identity(section: &mut Section<'_>, c: &mut Compiler<'_>) -> Option<IdentityFiles> {
    let certificate = section.entry("certificate").map(|entry| c.file(entry));
    let key = section.entry("key");
    match (certificate, key) {
        (Some(certificate), key) => Some(IdentityFiles {
            certificate: certificate?,
            key: key.and_then(|entry| c.file(entry)),
        }),
        (None, Some(key)) => {
            c.problems.error(key.key_at, "`key` needs `certificate`");
            None
        }
        (None, None) => None,
    }
}

fn server_name(node: &Node) -> Read<Option<String>> {
    let must = || "the host name or IP address in the backends' certificates".to_owned();
    let name = values::text(node).map_err(|_| must())?;
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    can_be_verified(&name)
        .then_some(Some(name))
        .ok_or_else(must)
}

/// Whether a certificate can be checked for that name.
fn can_be_verified(name: &str) -> bool {
    let is_known = values::is_host_name(name) || name.parse::<IpAddr>().is_ok();
    is_known && ClientSettings::is_name(name)
}

/// A certificate is checked for a name, which an address alone does not give.
pub(super) fn check_server_name(section: &Section<'_>, upstream: &Upstream, c: &mut Compiler<'_>) {
    let Some(entry) = section.peek("tls") else {
        return;
    };
    let names = |said: &[Entry]| said.iter().any(|entry| entry.key == "server_name");
    let is_said = matches!(&entry.value.value, Value::Map(said) if names(said));
    let Some(tls) = upstream.tls.as_ref().filter(|_| !is_said) else {
        return;
    };
    let mut backends = upstream.backends.iter().map(|backend| &backend.address);
    let nameless = backends.find(|address| match address {
        BackendAddress::Fixed(Address::Ip(_)) => tls.verify,
        BackendAddress::Fixed(Address::Unix(_)) => true,
        BackendAddress::Name { host, .. } => !can_be_verified(host),
    });
    if let Some(address) = nameless {
        let message = format!(
            "`tls` needs a `server_name`: the backend {address} has no name that its certificate \
             could be for"
        );
        c.problems.error(entry.key_at, message);
    }
}
