//! Reads every file that `tls` names, and says all that is wrong with them at once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Compiled;
use crate::config::model::{
    CertificateFiles, CertificateSource, ClientAuthSource, IdentityFiles, ListenerTls, TlsVersion,
    UpstreamTls,
};
use crate::config::problem::Position;
use crate::control::credentials::files::{self, FILE_BYTES_MAX, LISTS_BYTES_MAX, Seen};
use crate::control::credentials::{Credentials, Fault, Origin, Outcome, Term};
use crate::tls::fault::{Facts, IdentityFault, KeyKind, PemFault};
use crate::tls::material::{
    Certificate, ClientAuth, Identity, ListenerMaterial, Material, Secret, TICKET_NAME_BYTES,
    TICKET_SECRET_BYTES, TicketKey, UpstreamMaterial,
};
use crate::tls::x509::{issuer_and_subject, validity};
use crate::tls::{self, Agreement, ClientParts, ClientSettings, ServerParts, ServerSettings};

/// Certificates of all listeners, at most.
const CERTIFICATES_MAX: usize = 10_000;
/// Names in a folder of certificates, at most.
const NAMES_MAX: usize = 4 * CERTIFICATES_MAX;

/// Bytes of a file with a key of tickets, as nginx has them: a name, and keys behind it.
const TICKET_FILE_BYTES: [usize; 2] = [48, 80];

/// What is said of what was there before.
const UNLESS_BACK: &str = "; unless it is back in a minute, it counts as removed";

/// Where a certificate and its key are, and how messages begin that tell of them.
struct Place {
    certificate: PathBuf,
    /// None in the same file.
    key: Option<PathBuf>,
    at: Option<Position>,
    key_at: Option<Position>,
    says: String,
    key_says: String,
    /// It was there before.
    is_missing: bool,
}

/// Where a key names a file: in the order of the configuration.
#[derive(Default)]
struct NamedAt {
    places: Vec<Position>,
    /// How many were asked for.
    told: usize,
}

pub(super) struct Reader<'a> {
    compiled: &'a Compiled,
    folder: &'a Path,
    before: Option<&'a Credentials>,
    way: &'a str,
    material: Material,
    /// The paths of `material.authorities`, where they are checked.
    authorities: Vec<Option<PathBuf>>,
    origins: Vec<Vec<Origin>>,
    /// Of the listener that is read, what it had before from which file.
    former: HashMap<&'a Path, &'a Certificate>,
    missing: BTreeSet<PathBuf>,
    terms: Vec<Term>,
    seen: Seen,
    named: HashMap<&'a Path, HashMap<&'a str, NamedAt>>,
    count: usize,
    errors: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl<'a> Reader<'a> {
    /// What is unreadable is told with the way out, if there is one.
    pub(super) fn new(
        compiled: &'a Compiled,
        folder: &'a Path,
        before: Option<&'a Credentials>,
        way: &'a str,
    ) -> Self {
        Self {
            compiled,
            folder,
            before,
            way,
            material: Material::default(),
            authorities: Vec::new(),
            origins: Vec::new(),
            former: HashMap::new(),
            missing: BTreeSet::new(),
            terms: Vec::new(),
            seen: Seen::default(),
            named: named(compiled),
            count: 0,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn read_all(mut self) -> Outcome {
        let config = &self.compiled.config;
        for (index, listener) in config.listeners.iter().enumerate() {
            self.origins.push(Vec::new());
            let tls = listener.tls.as_ref();
            let read = tls.map(|tls| self.listener(index, &listener.name, tls));
            self.material.listeners.push(read);
        }
        for (index, upstream) in config.upstreams.iter().enumerate() {
            let tls = upstream.tls.as_ref();
            let read = tls.and_then(|tls| self.upstream(index, &upstream.name, tls));
            self.material.upstreams.push(read);
        }
        Outcome {
            credentials: Credentials {
                material: Arc::new(self.material),
                origins: self.origins,
                missing: self.missing,
                terms: self.terms,
                seen: self.seen,
            },
            errors: self.errors,
            warnings: self.warnings,
        }
    }

    /// Where a file is named: each time it is asked for, the next time that the file is.
    fn at(&mut self, key: &str, path: &Path) -> Option<Position> {
        let named = self.named.get_mut(path)?.get_mut(key)?;
        let at = named.places.get(named.told).or_else(|| named.places.last());
        named.told += 1;
        at.copied()
    }

    fn refuse(&mut self, at: Option<Position>, message: String) {
        self.errors.push((at, message));
    }

    // Listeners.

    fn listener(&mut self, index: usize, name: &str, tls: &ListenerTls) -> Arc<ListenerMaterial> {
        let told = self.errors.len();
        self.former = self.former(index);
        let (mut found, mut kept) = (ListenerMaterial::default(), BTreeSet::new());
        let rules = self.client_rules(tls);
        for (number, source) in tls.certificates.iter().enumerate() {
            let auth = source.client_auth.as_ref();
            let client_auth = auth.and_then(|auth| rules.iter().position(|(it, _)| *it == auth));
            for place in self.places(index, number, source) {
                let Some((identity, facts, is_kept)) = self.identity_or_before(&place) else {
                    continue;
                };
                self.check_suites(tls, &place, facts.key);
                let is_first = found.certificates.is_empty();
                kept.extend(is_kept.then_some(found.certificates.len()));
                found.certificates.push(Certificate {
                    identity,
                    names: self.names(&place, source, facts, is_first),
                    client_auth,
                });
                self.origins[index].push(Origin {
                    source: number,
                    certificate: place.certificate,
                    says: place.says,
                    at: place.at,
                });
            }
        }
        self.keep_sites(index, kept, &mut found.certificates);
        let ticket_keys = self.ticket_keys(&tls.ticket_keys);
        let is_sound = ticket_keys.is_some() && rules.iter().all(|(_, auth)| auth.is_some());
        found.ticket_keys = ticket_keys.unwrap_or_default();
        found.client_auths = rules.into_iter().filter_map(|(_, auth)| auth).collect();
        let mut found = Arc::new(found);
        let is_whole = self.errors.len() == told;
        let is_good = is_sound
            && self.is_all_of_before(index, tls, &found, is_whole)
            && self.settle(index, name, tls, Arc::make_mut(&mut found))
            && self.is_any_left(index, name, tls, &found, is_whole)
            && self.can_serve(name, tls, &found, is_whole);
        let mut served = match is_good {
            true => found,
            false => self.listener_before(index).unwrap_or(found),
        };
        let expires_unix_s = self.note_terms(index, &served.certificates);
        if served.expires_unix_s != expires_unix_s {
            Arc::make_mut(&mut served).expires_unix_s = expires_unix_s;
        }
        served
    }

    /// Also whether it is one of before, because the one that is there now cannot be used.
    fn identity_or_before(&mut self, place: &Place) -> Option<(Identity, Facts, bool)> {
        if !place.is_missing
            && let Some((identity, facts)) = self.identity(place)
        {
            return Some((identity, facts, false));
        }
        let (identity, facts) = self.identity_before(&place.certificate)?;
        Some((identity, facts, !place.is_missing))
    }

    /// A site is renewed as a whole: where one of its certificates stays as it was, so do those
    /// that share a name with it.
    fn keep_sites(
        &self,
        index: usize,
        mut kept: BTreeSet<usize>,
        certificates: &mut [Certificate],
    ) {
        let mut names: BTreeSet<String> = BTreeSet::new();
        let mut fresh: Vec<usize> = kept.iter().copied().collect();
        while !fresh.is_empty() {
            let more = fresh.drain(..).map(|at| &certificates[at].names);
            names.extend(more.flatten().cloned());
            for (at, certificate) in certificates.iter_mut().enumerate() {
                let origin = &self.origins[index][at].certificate;
                let Some(&before) = self.former.get(origin.as_path()) else {
                    continue;
                };
                let mut own = certificate.names.iter().chain(&before.names);
                if own.any(|name| names.contains(name)) && kept.insert(at) {
                    *certificate = Certificate {
                        client_auth: certificate.client_auth,
                        ..before.clone()
                    };
                    fresh.push(at);
                }
            }
        }
    }

    /// Whether there are certificates, if there were before: handshakes that succeed are not to be
    /// refused from one minute to the next.
    fn is_any_left(
        &mut self,
        index: usize,
        name: &str,
        tls: &ListenerTls,
        found: &ListenerMaterial,
        is_whole: bool,
    ) -> bool {
        let before = self.of_before(index);
        let were_any = before.is_some_and(|(_, listener)| !listener.certificates.is_empty());
        let is_emptied = found.certificates.is_empty() && were_any;
        if is_emptied && is_whole {
            let message = format!("`tls` of listener {name} has no certificate any more");
            self.refuse(self.first_at(tls), message);
        }
        !is_emptied
    }

    /// How long certificates that are served are valid; when the first expires.
    fn note_terms(&mut self, index: usize, certificates: &[Certificate]) -> Option<i64> {
        for (origin, certificate) in self.origins[index].iter().zip(certificates) {
            self.terms
                .extend(term(&origin.says, origin.at, &certificate.identity));
        }
        let leaves = certificates
            .iter()
            .filter_map(|it| it.identity.chain.first());
        let expiries = leaves.filter_map(|leaf| validity(leaf).map(|(_, until)| until));
        expiries.min()
    }

    /// Where the program before has left what it had read, but not from where, nothing of it can be
    /// kept but all; whether it may go.
    fn is_all_of_before(
        &mut self,
        index: usize,
        tls: &ListenerTls,
        found: &ListenerMaterial,
        is_whole: bool,
    ) -> bool {
        let Some((before, listener)) = self.of_before(index) else {
            return true;
        };
        if before.origins.get(index).map_or(0, Vec::len) == listener.certificates.len() {
            return true;
        }
        let names = |material: &ListenerMaterial| -> BTreeSet<String> {
            let certificates = material.certificates.iter();
            certificates.flat_map(|it| it.names.clone()).collect()
        };
        let lost: Vec<String> = names(listener).difference(&names(found)).cloned().collect();
        let mark = PathBuf::from(&self.compiled.config.listeners[index].name);
        let (Some(first), false) = (lost.first(), before.missing.contains(&mark)) else {
            return is_whole;
        };
        if is_whole {
            let message = format!("no certificate is for {first} any more{UNLESS_BACK}");
            self.refuse(self.first_at(tls), message);
            self.missing.insert(mark);
        }
        false
    }

    fn of_before(&self, index: usize) -> Option<(&'a Credentials, &'a Arc<ListenerMaterial>)> {
        let before = self.before?;
        let listener = before.material.listeners.get(index)?.as_ref()?;
        Some((before, listener))
    }

    /// Where certificates of one name say different things of clients, those are as they were
    /// before; whether none do any more.
    fn settle(
        &mut self,
        index: usize,
        name: &str,
        tls: &ListenerTls,
        found: &mut ListenerMaterial,
    ) -> bool {
        let conflicts = conflicts(&found.certificates);
        let Some(of) = conflicts.keys().next() else {
            return true;
        };
        let message = format!(
            "`tls` of listener {name} cannot be served: two certificates are for {of}, and say \
             different things of clients (`client_ca`, `client_auth`, `crl`)"
        );
        let members: BTreeSet<usize> = conflicts.into_values().flatten().collect();
        self.refuse(self.first_at(tls), message);
        if self.of_before(index).is_none() {
            return false;
        }
        self.put_back(index, &members, found);
        self::conflicts(&found.certificates).is_empty()
    }

    /// Those that were not there before go.
    fn put_back(&mut self, index: usize, members: &BTreeSet<usize>, found: &mut ListenerMaterial) {
        let now = std::mem::take(&mut found.certificates);
        let origins = std::mem::take(&mut self.origins[index]);
        for (at, (certificate, origin)) in now.into_iter().zip(origins).enumerate() {
            let kept = match members.contains(&at) {
                false => Some(certificate),
                true => {
                    let before = self.former.get(origin.certificate.as_path());
                    before.map(|before| Certificate {
                        client_auth: certificate.client_auth,
                        ..(*before).clone()
                    })
                }
            };
            if let Some(kept) = kept {
                found.certificates.push(kept);
                self.origins[index].push(origin);
            }
        }
    }

    /// What is asked of clients, each once; none where it cannot be read.
    fn client_rules<'t>(
        &mut self,
        tls: &'t ListenerTls,
    ) -> Vec<(&'t ClientAuthSource, Option<ClientAuth>)> {
        let mut rules: Vec<(&ClientAuthSource, _)> = Vec::new();
        for auth in tls
            .certificates
            .iter()
            .filter_map(|it| it.client_auth.as_ref())
        {
            if rules.iter().all(|(known, _)| *known != auth) {
                rules.push((auth, self.client_auth(auth)));
            }
        }
        rules
    }

    fn client_auth(&mut self, source: &ClientAuthSource) -> Option<ClientAuth> {
        let authorities = self.certificates_of("client_ca", &source.authorities);
        let revoked = match &source.revocations {
            None => Some(Vec::new()),
            Some(path) => {
                let says = format!("`crl` is {path:?}, which");
                let at = self.at("crl", path);
                let pem = self.file(&self.folder.join(path), at, &says, LISTS_BYTES_MAX);
                pem.and_then(|pem| {
                    let found = tls::revocations_in(pem.bytes());
                    self.good(found, at, &says, "revocation list")
                })
            }
        };
        Some(ClientAuth {
            is_required: source.is_required,
            authorities: authorities?,
            revoked: revoked?,
        })
    }

    /// The certificates in a file that has nothing but them.
    fn certificates_of(&mut self, key: &str, path: &Path) -> Option<Vec<Vec<u8>>> {
        let says = format!("`{key}` is {path:?}, which");
        let at = self.at(key, path);
        let pem = self.file(&self.folder.join(path), at, &says, FILE_BYTES_MAX)?;
        let found = tls::certificates_in(pem.bytes());
        let found = self.good(found, at, &says, "certificate")?;
        if found.iter().any(|it| issuer_and_subject(it).is_none()) {
            let message =
                format!("{says} holds a certificate that cannot be parsed: it is left out");
            self.warnings.push((at, message));
        }
        Some(found)
    }

    /// Each certificate of an entry. What is wrong with a folder is told.
    fn places(&mut self, index: usize, number: usize, source: &CertificateSource) -> Vec<Place> {
        let places = match &source.files {
            CertificateFiles::Pair(files) => vec![self.place(files)],
            CertificateFiles::Directory(path) => {
                let told = self.errors.len();
                let found = self.places_in(path);
                let is_all = self.errors.len() == told;
                self.with_missing(index, number, path, found, is_all)
            }
        };
        let room = CERTIFICATES_MAX.saturating_sub(self.count);
        if places.len() > room {
            let at = places.last().and_then(|place| place.at);
            let message = format!("there are more than {CERTIFICATES_MAX} certificates");
            self.refuse(at, message);
        }
        self.count += places.len();
        places.into_iter().take(room).collect()
    }

    /// What was in a folder before and is not is missed at one look, as it may come back at once,
    /// and gone at the next; where the folder cannot be read as a whole it is neither.
    fn with_missing(
        &mut self,
        index: usize,
        number: usize,
        directory: &Path,
        mut places: Vec<Place>,
        is_all: bool,
    ) -> Vec<Place> {
        let origins = self
            .before
            .and_then(|it| Some((it, it.origins.get(index)?)));
        let Some((before, origins)) = origins else {
            return places;
        };
        let known: BTreeSet<PathBuf> = places.iter().map(|it| it.certificate.clone()).collect();
        let of_source = origins.iter().filter(|it| it.source == number);
        for Origin { certificate, .. } in of_source.filter(|it| !known.contains(&it.certificate)) {
            if is_all && before.missing.contains(certificate) {
                continue;
            }
            let place = self.missed(directory, certificate);
            if is_all {
                self.refuse(place.at, format!("{} is missing{UNLESS_BACK}", place.says));
                self.missing.insert(certificate.clone());
            }
            places.push(place);
        }
        places.sort_by(|one, other| one.certificate.cmp(&other.certificate));
        places
    }

    fn missed(&mut self, directory: &Path, certificate: &Path) -> Place {
        let at = self.at("directory", directory);
        let folder = self.folder.join(directory);
        let name = certificate.strip_prefix(folder).unwrap_or(certificate);
        let says = format!("`directory` is {directory:?}, in which {name:?}");
        Place {
            certificate: certificate.to_owned(),
            key: None,
            at,
            key_at: at,
            key_says: says.clone(),
            says,
            is_missing: true,
        }
    }

    fn place(&mut self, files: &IdentityFiles) -> Place {
        let IdentityFiles { certificate, key } = files;
        let at = self.at("certificate", certificate);
        let key_at = key.as_ref().map(|key| self.at("key", key));
        Place {
            says: format!("`certificate` is {certificate:?}, which"),
            at,
            key_says: match key {
                None => format!("`certificate` is {certificate:?}, which, as there is no `key`,"),
                Some(key) => format!("`key` is {key:?}, which"),
            },
            key_at: key_at.unwrap_or(at),
            certificate: self.folder.join(certificate),
            key: key.as_ref().map(|key| self.folder.join(key)),
            is_missing: false,
        }
    }

    /// By name: `NAME.pem` with its key inside, `NAME.crt` and `NAME.key`, and folders with what
    /// ACME clients put there.
    fn places_in(&mut self, directory: &Path) -> Vec<Place> {
        let at = self.at("directory", directory);
        let folder = self.folder.join(directory);
        self.seen.look_at(&folder);
        let names = match files::names_in(&folder, NAMES_MAX) {
            Ok(names) => names,
            Err(error) => {
                let says = format!("`directory` is {directory:?}, which");
                self.refuse_unread(at, &says, &error);
                if let (Some((_, told)), io::ErrorKind::NotFound) =
                    (self.errors.last_mut(), error.kind())
                {
                    told.push_str("; make it, it may be empty until a certificate comes");
                }
                return Vec::new();
            }
        };
        let says = |name: &str| format!("`directory` is {directory:?}, in which {name:?}");
        let mut places = Vec::new();
        let has = |name: &str| names.binary_search_by(|it| it.as_str().cmp(name)).is_ok();
        for name in names.iter().filter(|name| !is_beside(name, has)) {
            let (stem, ending) = name.rsplit_once('.').unwrap_or((name, ""));
            let own_key = format!("{stem}.key");
            let found = match ending {
                "pem" | "crt" => Some((name.clone(), has(&own_key).then(|| own_key.clone()))),
                "key" if !has(&format!("{stem}.crt")) && !has(&format!("{stem}.pem")) => {
                    let message = format!("{} has no certificate beside it", says(name));
                    self.refuse(at, message);
                    None
                }
                _ => self.pair_in(&folder, name),
            };
            let Some((certificate, key)) = found else {
                continue;
            };
            places.push(Place {
                says: says(&certificate),
                key_says: match &key {
                    Some(key) => says(key),
                    None => format!("{} has no {:?} beside it, and", says(name), own_key),
                },
                certificate: folder.join(certificate),
                key: key.map(|key| folder.join(key)),
                at,
                key_at: at,
                is_missing: false,
            });
        }
        if places.is_empty() {
            let message = format!("`directory` is {directory:?}, in which there is no certificate");
            self.warnings.push((at, message));
        }
        places
    }

    /// What a folder in a folder of certificates has, if it is the folder of one.
    fn pair_in(&mut self, folder: &Path, name: &str) -> Option<(String, Option<String>)> {
        let own = folder.join(name);
        if own.metadata().is_ok_and(|found| !found.is_dir()) {
            return None;
        }
        self.seen.look_at(&own);
        let [certificate, key] = ["fullchain.pem", "privkey.pem"].map(|it| own.join(it));
        // What cannot be looked at is told of when it is read.
        let may_be_there = |path: &Path| match path.symlink_metadata() {
            Ok(_) => true,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        let inside = |file: &str| format!("{name}/{file}");
        (may_be_there(&certificate) || may_be_there(&key))
            .then(|| (inside("fullchain.pem"), Some(inside("privkey.pem"))))
    }

    /// A certificate with its key, if they can be used, and what they say of themselves.
    fn identity(&mut self, place: &Place) -> Option<(Identity, Facts)> {
        let Place { says, key_says, .. } = place;
        let pem = self.file(&place.certificate, place.at, says, FILE_BYTES_MAX);
        let own = place.key.as_ref();
        let own = own.map(|path| self.file(path, place.key_at, key_says, FILE_BYTES_MAX));
        let chain = pem.as_ref().and_then(|pem| {
            let found = tls::certificates_in(pem.bytes());
            self.good(found, place.at, says, "certificate")
        });
        let key = own.unwrap_or(pem).and_then(|pem| {
            let found = tls::key_in(pem.bytes());
            self.good(found, place.key_at, key_says, "private key")
        });
        let identity = Identity {
            chain: chain?,
            key: key?,
        };
        match tls::facts_of(&identity) {
            Ok(facts) => {
                if facts.is_chain_foreign {
                    let message = format!(
                        "{says} holds certificates behind the first, but not that of its issuer: \
                         clients that do not know it refuse the first"
                    );
                    self.warnings.push((place.at, message));
                }
                Some((identity, facts))
            }
            Err(fault) => {
                self.refuse_identity(place, &identity, &fault);
                None
            }
        }
    }

    fn refuse_identity(&mut self, place: &Place, identity: &Identity, fault: &IdentityFault) {
        let is_of_certificate = matches!(
            fault,
            IdentityFault::BadCertificate | IdentityFault::BadChain
        );
        let (at, says) = match is_of_certificate {
            true => (place.at, &place.says),
            false => (place.key_at, &place.key_says),
        };
        let others = identity.chain.iter().skip(1).filter(|_| !is_of_certificate);
        let is_disordered = others.into_iter().any(|other| {
            let alone = Identity {
                chain: vec![other.clone()],
                key: identity.key.clone(),
            };
            tls::facts_of(&alone).is_ok()
        });
        let help = match is_disordered {
            true => "; it is that of another one in the file, which must stand first",
            false => "",
        };
        self.refuse(at, format!("{says} cannot be used: {fault}{help}"));
    }

    /// Without a suite of TLS 1.3, which takes any key, one must be for the kind of this.
    fn check_suites(&mut self, tls: &ListenerTls, place: &Place, key: KeyKind) {
        let (kind, part) = match key {
            KeyKind::Rsa => ("RSA", "_RSA_WITH_"),
            KeyKind::Ecdsa => ("ECDSA", "_ECDSA_WITH_"),
            KeyKind::Ed25519 => ("Ed25519", "_ECDSA_WITH_"),
        };
        let suits = |suite: &String| !suite.contains("_WITH_") || suite.contains(part);
        if !tls.cipher_suites.is_empty() && !tls.cipher_suites.iter().any(suits) {
            let says = &place.says;
            let message = format!(
                "{says} is of an {kind} key, and `cipher_suites` has none for that: no client can \
                 be served with it"
            );
            self.warnings.push((place.at, message));
        }
    }

    /// What a certificate is for: what it says, unless the configuration does.
    fn names(
        &mut self,
        place: &Place,
        source: &CertificateSource,
        facts: Facts,
        is_first: bool,
    ) -> Vec<String> {
        if !source.names.is_empty() {
            return source.names.clone();
        }
        if facts.names.is_empty() {
            let says = &place.says;
            let message = format!(
                "{says} names no host in its subjectAltName, where alone clients look: give `names`"
            );
            match is_first {
                true => self.warnings.push((place.at, message)),
                false => self.refuse(place.at, message),
            }
        }
        facts.names
    }

    fn ticket_keys(&mut self, paths: &[PathBuf]) -> Option<Vec<TicketKey>> {
        let keys: Vec<_> = paths.iter().map(|path| self.ticket_key(path)).collect();
        keys.into_iter().collect()
    }

    fn ticket_key(&mut self, path: &Path) -> Option<TicketKey> {
        let says = format!("`ticket_keys` is {path:?}, which");
        let at = self.at("ticket_keys", path);
        let bytes = self.file(&self.folder.join(path), at, &says, FILE_BYTES_MAX)?;
        let key = ticket_key(bytes.bytes());
        if key.is_none() {
            let [short, long] = TICKET_FILE_BYTES;
            let length = bytes.bytes().len();
            let message = format!(
                "{says} has {length} bytes; it must have {short} or {long}, as openssl rand {long} \
                 makes them"
            );
            self.refuse(at, message);
        }
        key
    }

    /// Whether it can be served with what was read; if not, that was told, or why not all was read.
    fn can_serve(
        &mut self,
        name: &str,
        tls: &ListenerTls,
        found: &Arc<ListenerMaterial>,
        is_whole: bool,
    ) -> bool {
        let at = self.first_at(tls);
        let mut sources = tls.certificates.iter();
        let may_come = sources.any(|it| matches!(it.files, CertificateFiles::Directory(_)));
        if found.certificates.is_empty() && is_whole && may_come {
            let message = format!(
                "`tls` of listener {name} has no certificate yet: until there is one in its \
                 `directory`, which is looked at once a minute, handshakes are refused \
                 (unrecognized_name)"
            );
            self.warnings.push((at, message));
            return true;
        }
        if tls.certificates.is_empty() {
            // Whoever has read the configuration has said so, at its place.
            return false;
        }
        let parts = ServerParts {
            listener: name,
            agreement: &Agreement {
                is_tls13_only: tls.min_version == TlsVersion::V13,
                cipher_suites: tls.cipher_suites.clone(),
                protocols: Vec::new(),
            },
            is_strict: tls.strict_sni,
            material: found,
        };
        let problem = match found.certificates.is_empty() {
            true => Some("there is no certificate".to_owned()),
            false => ServerSettings::new(&parts, &Arc::default()).err(),
        };
        if let (Some(problem), true) = (&problem, is_whole) {
            let message = format!("`tls` of listener {name} cannot be served: {problem}");
            self.refuse(at, message);
        }
        problem.is_none()
    }

    /// Where a listener names its first certificate.
    fn first_at(&self, tls: &ListenerTls) -> Option<Position> {
        let (key, path) = match &tls.certificates.first()?.files {
            CertificateFiles::Pair(files) => ("certificate", &files.certificate),
            CertificateFiles::Directory(path) => ("directory", path),
        };
        self.named
            .get(path.as_path())?
            .get(key)?
            .places
            .first()
            .copied()
    }

    /// Of a listener, what it had from which file.
    fn former(&self, index: usize) -> HashMap<&'a Path, &'a Certificate> {
        let mut former = HashMap::new();
        let before = self.of_before(index);
        if let Some((origins, listener)) =
            before.and_then(|(all, listener)| Some((all.origins.get(index)?, listener)))
        {
            for (origin, certificate) in origins.iter().zip(&listener.certificates) {
                former
                    .entry(origin.certificate.as_path())
                    .or_insert(certificate);
            }
        }
        former
    }

    fn identity_before(&self, path: &Path) -> Option<(Identity, Facts)> {
        let identity = self.former.get(path)?.identity.clone();
        let facts = tls::facts_of(&identity).ok()?;
        Some((identity, facts))
    }

    fn listener_before(&mut self, index: usize) -> Option<Arc<ListenerMaterial>> {
        let (before, listener) = self.of_before(index)?;
        self.origins[index] = before.origins.get(index).cloned().unwrap_or_default();
        Some(listener.clone())
    }

    // Upstreams.

    fn upstream(
        &mut self,
        index: usize,
        name: &str,
        tls: &UpstreamTls,
    ) -> Option<UpstreamMaterial> {
        let authorities = self.authorities(tls);
        let identity = tls.identity.as_ref();
        let place = identity.map(|files| self.place(files));
        let identity = place.as_ref();
        let identity = identity.map(|place| self.identity(place).map(|(identity, _)| identity));
        let found = match (authorities, identity) {
            (Some(authorities), None) => Some((authorities, None)),
            (Some(authorities), Some(Some(identity))) => Some((authorities, Some(identity))),
            (None, _) | (_, Some(None)) => None,
        };
        let found = found.map(|(authorities, identity)| UpstreamMaterial {
            authorities,
            identity,
        });
        let found = found.filter(|found| self.can_connect(name, tls, found));
        let used = found.or_else(|| self.upstream_before(index))?;
        if let (Some(identity), Some(place)) = (&used.identity, place) {
            self.terms.extend(term(&place.says, place.at, identity));
        }
        Some(used)
    }

    /// Which set holds those whose certificates are believed.
    fn authorities(&mut self, tls: &UpstreamTls) -> Option<usize> {
        let path = tls.verify.then(|| tls.authorities.clone());
        if let Some(known) = self.authorities.iter().position(|it| *it == path) {
            return Some(known);
        }
        let set = match &path {
            Some(path) => self.certificates_of("ca", path)?,
            None => Vec::new(),
        };
        self.authorities.push(path);
        self.material.authorities.push(set);
        Some(self.authorities.len() - 1)
    }

    fn can_connect(&mut self, name: &str, tls: &UpstreamTls, found: &UpstreamMaterial) -> bool {
        let authorities = &self.material.authorities[found.authorities];
        let parts = ClientParts {
            authorities: tls.verify.then_some(authorities.as_slice()),
            identity: found.identity.as_ref(),
            protocols: &[],
        };
        let problem = ClientSettings::new(&parts).err();
        if let Some(problem) = &problem {
            let at = self.at("ca", &tls.authorities);
            let message = format!("`tls` of upstream {name} cannot be used: {problem}");
            self.refuse(at, message);
        }
        problem.is_none()
    }

    fn upstream_before(&mut self, index: usize) -> Option<UpstreamMaterial> {
        let material = &self.before?.material;
        let upstream = material.upstreams.get(index)?.clone()?;
        let set = material.authorities.get(upstream.authorities)?.clone();
        self.authorities.push(None);
        self.material.authorities.push(set);
        Some(UpstreamMaterial {
            authorities: self.authorities.len() - 1,
            ..upstream
        })
    }

    // Files.

    fn file(
        &mut self,
        path: &Path,
        at: Option<Position>,
        says: &str,
        bytes_max: u64,
    ) -> Option<Secret> {
        self.seen.look_at(path);
        let read = files::read(path, bytes_max);
        read.inspect_err(|error| self.refuse_unread(at, says, error))
            .ok()
    }

    fn refuse_unread(&mut self, at: Option<Position>, says: &str, error: &io::Error) {
        let way = if error.kind() == io::ErrorKind::PermissionDenied {
            self.way
        } else {
            ""
        };
        self.refuse(at, format!("{says} cannot be read: {error}{way}"));
    }

    /// What was found in a file; what is wrong with it is told.
    fn good<T>(
        &mut self,
        found: Result<T, PemFault>,
        at: Option<Position>,
        says: &str,
        kind: &str,
    ) -> Option<T> {
        let wrong = |fault: &PemFault| match fault {
            PemFault::Missing => format!("{says} holds no {kind} in PEM"),
            PemFault::Several => format!("{says} holds more than one {kind}"),
            PemFault::Encrypted
            | PemFault::Malformed
            | PemFault::FirstVersion
            | PemFault::Absent => {
                format!("{says} cannot be used: {fault}")
            }
        };
        found
            .inspect_err(|fault| self.refuse(at, wrong(fault)))
            .ok()
    }
}

fn term(says: &str, at: Option<Position>, identity: &Identity) -> Option<Term> {
    let (not_before_unix_s, not_after_unix_s) = validity(identity.chain.first()?)?;
    Some(Term {
        what: says.to_owned(),
        at,
        not_before_unix_s,
        not_after_unix_s,
    })
}

/// Looked up for each file, of which there may be thousands.
fn named(compiled: &Compiled) -> HashMap<&Path, HashMap<&str, NamedAt>> {
    let mut all: HashMap<&Path, HashMap<&str, NamedAt>> = HashMap::new();
    for file in &compiled.positions.tls {
        let of_file = all.entry(&file.path).or_default();
        let named = of_file.entry(file.key.as_str()).or_default();
        named.places.push(file.at);
    }
    all
}

/// Whether a file only repeats a part of what `NAME.crt` and `NAME.key` beside it are: lego writes
/// `NAME.issuer.crt`, which is in the chain, and may write both into `NAME.pem`.
fn is_beside(file: &str, has: impl Fn(&str) -> bool) -> bool {
    let endings = [".issuer.crt", ".pem"];
    let stem = endings.iter().find_map(|ending| file.strip_suffix(ending));
    stem.is_some_and(|stem| has(&format!("{stem}.crt")) && has(&format!("{stem}.key")))
}

/// Names of several certificates, of which one asks for other clients than another, with all that
/// are for them.
fn conflicts(certificates: &[Certificate]) -> BTreeMap<String, Vec<usize>> {
    let mut of_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, certificate) in certificates.iter().enumerate() {
        for name in &certificate.names {
            of_name.entry(name).or_default().push(at);
        }
    }
    let rules = |at: &usize| certificates[*at].client_auth;
    of_name.retain(|_, members| members.iter().any(|at| rules(at) != rules(&members[0])));
    let names = of_name.into_iter();
    names.map(|(name, at)| (name.to_owned(), at)).collect()
}

/// nginx has the keys of AES and HMAC in one order for 48 bytes and in the other for 80.
fn ticket_key(bytes: &[u8]) -> Option<TicketKey> {
    if !TICKET_FILE_BYTES.contains(&bytes.len()) {
        return None;
    }
    let name = *bytes.first_chunk::<TICKET_NAME_BYTES>()?;
    let secret = bytes.last_chunk::<TICKET_SECRET_BYTES>()?;
    Some(TicketKey {
        name,
        secret: Secret::new(secret.to_vec()),
    })
}

#[cfg(test)]
mod tests;
