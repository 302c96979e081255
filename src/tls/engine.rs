//! The only place that names rustls, so that another version or library is a change here alone.
//!
//! Connections are unbuffered: bytes are opened and sealed in the space of the caller, and an idle
//! connection keeps none.

use std::fmt;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring as provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus, WriteTraffic};
use rustls::{
    CipherSuite, Error, HandshakeKind, ProtocolVersion, RootCertStore, SignatureAlgorithm,
    SupportedCipherSuite,
};

use self::faults::{alert_of, fault_of};
pub use self::listeners::ServerSettings;
pub use self::upstreams::ClientSettings;
use crate::core::client_hello::Alert;
use crate::core::fault::Fault;
use crate::core::layer::{Kept, Layer, Sealed, Secured};
use crate::core::readiness::Io;
use crate::tls::fault::{Facts, IdentityFault, KeyKind, PemFault};
use crate::tls::material::{Identity, Secret};
use crate::tls::pem::Sections;
use crate::tls::records::{missing_in, record_bytes};
use crate::tls::sealing::{Traffic, seal_traffic};
use crate::tls::tickets::{self, Since};
use crate::tls::work::{self, Costs, Progress};
use crate::tls::x509;

/// An alert in a record, with room for what may go in front of it.
const ALERT_BYTES_MAX: usize = 256;

// Files.

/// The certificates in a PEM file, in DER and in order.
///
/// # Errors
/// When there is none, or a section is malformed.
pub fn certificates_in(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemFault> {
    sections_in(pem, b"CERTIFICATE")
}

/// The revocation lists in a PEM file, in DER.
///
/// # Errors
/// When there is none, a section is malformed, or a list of version 1.
pub fn revocations_in(pem: &[u8]) -> Result<Vec<Vec<u8>>, PemFault> {
    let lists = sections_in(pem, b"X509 CRL")?;
    match lists.iter().any(|der| x509::is_list_of_version_1(der)) {
        true => Err(PemFault::FirstVersion),
        false => Ok(lists),
    }
}

fn sections_in(pem: &[u8], label: &[u8]) -> Result<Vec<Vec<u8>>, PemFault> {
    let mut found = Vec::new();
    for section in Sections::of(pem) {
        let section = section?;
        if section.label == label {
            found.push(section.decode()?);
        }
    }
    match found.is_empty() {
        true => Err(PemFault::Missing),
        false => Ok(found),
    }
}

/// The private key in a PEM file: PKCS#8, PKCS#1 or SEC1.
///
/// # Errors
/// When there is not just one, or it is encrypted.
pub fn key_in(pem: &[u8]) -> Result<Secret, PemFault> {
    let mut found = Err(PemFault::Missing);
    for section in Sections::of(pem) {
        let section = section?;
        match section.label {
            b"ENCRYPTED PRIVATE KEY" => return Err(PemFault::Encrypted),
            b"PRIVATE KEY" | b"RSA PRIVATE KEY" | b"EC PRIVATE KEY" => {}
            _ => continue,
        }
        // RFC 1421 section 4.6.1.1, as OpenSSL writes it.
        if section
            .text
            .trim_ascii_start()
            .starts_with(b"Proc-Type: 4,ENCRYPTED")
        {
            return Err(PemFault::Encrypted);
        }
        if found.is_ok() {
            return Err(PemFault::Several);
        }
        found = Ok(section.decode_secret()?);
    }
    found
}

/// What an identity says of itself.
///
/// # Errors
/// When its certificate or key cannot be used, or they do not belong together.
pub fn facts_of(identity: &Identity) -> Result<Facts, IdentityFault> {
    let certified = certified(identity)?;
    let leaf = identity
        .chain
        .first()
        .ok_or(IdentityFault::BadCertificate)?;
    let der = CertificateDer::from_slice(leaf);
    let parsed =
        webpki::EndEntityCert::try_from(&der).map_err(|_| IdentityFault::BadCertificate)?;
    let (not_before_unix_s, not_after_unix_s) =
        x509::validity(leaf).ok_or(IdentityFault::BadCertificate)?;
    let (issuer, _) = x509::issuer_and_subject(leaf).ok_or(IdentityFault::BadCertificate)?;
    let mut is_chain_foreign = identity.chain.len() > 1;
    for other in identity.chain.iter().skip(1) {
        is_chain_foreign &= subject_of_other(other)? != issuer;
    }
    Ok(Facts {
        is_chain_foreign,
        names: parsed
            .valid_dns_names()
            .map(str::to_ascii_lowercase)
            .collect(),
        not_before_unix_s,
        not_after_unix_s,
        key: kind_of(&certified),
    })
}

/// Whom a certificate is for that stands behind the leaf, where ones are good that webpki cannot
/// use: of version 1, or with extensions that it does not know.
fn subject_of_other(der: &[u8]) -> Result<&[u8], IdentityFault> {
    let parsed = webpki::EndEntityCert::try_from(&CertificateDer::from_slice(der)).err();
    let is_damaged = matches!(
        parsed,
        Some(webpki::Error::BadDer | webpki::Error::TrailingData(_))
    );
    match x509::issuer_and_subject(der) {
        Some((_, subject)) if !is_damaged => Ok(subject),
        _ => Err(IdentityFault::BadChain),
    }
}

fn certified(identity: &Identity) -> Result<CertifiedKey, IdentityFault> {
    let chain: Vec<_> = identity
        .chain
        .iter()
        .cloned()
        .map(CertificateDer::from)
        .collect();
    let der = PrivateKeyDer::try_from(identity.key.bytes()).map_err(|_| IdentityFault::BadKey)?;
    let key = provider::sign::any_supported_type(&der).map_err(|_| IdentityFault::BadKey)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => Err(IdentityFault::Mismatch),
        Err(_) => Err(IdentityFault::BadCertificate),
    }
}

fn kind_of(certified: &CertifiedKey) -> KeyKind {
    match certified.key.algorithm() {
        SignatureAlgorithm::RSA => KeyKind::Rsa,
        SignatureAlgorithm::ED25519 => KeyKind::Ed25519,
        _ => KeyKind::Ecdsa,
    }
}

/// What a signature with that key is taken to cost.
fn signature_us(certified: &CertifiedKey) -> u32 {
    let public_key = certified.key.public_key();
    let public_bytes = public_key.map_or(0, |info| info.len());
    work::signature_us(kind_of(certified), public_bytes)
}

/// rustls calls those of TLS 1.3 `TLS13_...`, as nobody else does.
fn suite_name(suite: &SupportedCipherSuite) -> Option<&'static str> {
    Some(match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        other => other.as_str()?,
    })
}

fn crypto(
    cipher_suites: &[String],
    more_groups: &[&'static dyn SupportedKxGroup],
) -> Arc<CryptoProvider> {
    let mut crypto = provider::default_provider();
    if !cipher_suites.is_empty() {
        let is_wanted = |suite: &SupportedCipherSuite| {
            suite_name(suite).is_some_and(|name| cipher_suites.iter().any(|it| it == name))
        };
        crypto.cipher_suites.retain(is_wanted);
    }
    crypto.kx_groups = vec![provider::kx_group::X25519, provider::kx_group::SECP256R1];
    crypto.kx_groups.extend_from_slice(more_groups);
    Arc::new(crypto)
}

fn roots(authorities: &[Vec<u8>]) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let ders = authorities
        .iter()
        .map(|der| CertificateDer::from_slice(der));
    roots.add_parsable_certificates(ders);
    Arc::new(roots)
}

// Connections.

/// One connection's TLS.
pub struct Connection(Box<Inner>);

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connection")
    }
}

struct Inner {
    side: Side,
    held: Held,
    /// The name of the site that the client has asked for.
    name: Option<Box<str>>,
    client_rules: u64,
    costs: Costs,
    /// What of it was done and not been asked for.
    done_us: u32,
    /// Of a session that is resumed by a client.
    since: Option<Since>,
}

enum Side {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

/// What a connection keeps between two calls: mostly nothing.
#[derive(Debug, Default)]
struct Held {
    /// The beginning of a record, or of a message of the handshake.
    partial: Vec<u8>,
    /// Whole records may stand there, as what had been opened before was to be read first.
    has_records: bool,
    /// What has been opened and not been read, from here on.
    plain: Vec<u8>,
    plain_read: usize,
    /// What the socket has not taken, from here on.
    pending: Vec<u8>,
    pending_sent: usize,
    kept_noted: Kept,
    end: End,
    is_end_told: bool,
    fault: Option<Fault>,
}

/// What may wait for the rest of a message of the handshake, in bytes: three records, so that there
/// is room for one more in the space of [`Layer::carry`].
const PARTIAL_BYTES_MAX: usize = 3 * (16 * 1024 + 5 + 256);

/// How the peer's direction ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    No,
    /// By its mark.
    Marked,
    /// Without it, or by a failure.
    Cut,
}

/// What a step of the protocol has come to.
enum Step {
    Again,
    /// More is to come from the socket.
    Blocked,
    /// What was opened has to be read first.
    Full,
    Failed(Error),
}

impl Held {
    fn unread(&self) -> &[u8] {
        &self.plain[self.plain_read..]
    }

    /// Puts what was opened where it is wanted, and keeps the rest.
    fn give(&mut self, payload: &[u8], into: &mut [u8], given: &mut usize) {
        let room = &mut into[*given..];
        let (now, later) = payload.split_at(payload.len().min(room.len()));
        room[..now.len()].copy_from_slice(now);
        *given += now.len();
        self.plain.extend_from_slice(later);
    }

    /// A failure is told at once if nothing that was opened before is to be read: `given` bytes
    /// of it, and what is kept. If there is, whoever reads on is told.
    fn told(&self, given: usize, failure: ErrorKind) -> Result<(), ErrorKind> {
        match given > 0 || !self.unread().is_empty() {
            true => Ok(()),
            false => Err(failure),
        }
    }

    /// What a cut is told as.
    const fn failure(&self) -> ErrorKind {
        match self.fault {
            None | Some(Fault::Cut) => ErrorKind::UnexpectedEof,
            Some(Fault::Alert(_)) => ErrorKind::ConnectionReset,
            Some(_) => ErrorKind::InvalidData,
        }
    }

    fn step<D>(
        &mut self,
        status: UnbufferedStatus<'_, '_, D>,
        into: &mut [u8],
        given: &mut usize,
    ) -> (usize, Step) {
        let UnbufferedStatus { discard, state } = status;
        let step = match state {
            Err(error) => Step::Failed(error),
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(Ok(record)) = traffic.next_record() {
                    self.give(record.payload, into, given);
                }
                if self.plain.is_empty() {
                    Step::Again
                } else {
                    Step::Full
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => {
                let start = self.pending.len();
                if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
                    self.pending.resize(start + needed.required_size, 0);
                    let _ = data.encode(&mut self.pending[start..]);
                }
                Step::Again
            }
            Ok(ConnectionState::TransmitTlsData(data)) => {
                data.done();
                Step::Again
            }
            Ok(ConnectionState::PeerClosed) => {
                self.end = End::Marked;
                Step::Again
            }
            Ok(_) => Step::Blocked,
        };
        (discard, step)
    }
}

/// Lets the library look at records, which may have it open and seal tickets.
fn serve<'c, 'i>(
    tls: &'c mut UnbufferedServerConnection,
    bytes: &'i mut [u8],
    since: &mut Option<Since>,
) -> UnbufferedStatus<'c, 'i, ServerConnectionData> {
    match tls.is_handshaking() {
        true => tickets::within(since, || tls.process_tls_records(bytes)),
        false => tls.process_tls_records(bytes),
    }
}

impl Inner {
    fn step(&mut self, bytes: &mut [u8], into: &mut [u8], given: &mut usize) -> (usize, Step) {
        let Self { side, since, .. } = self;
        match side {
            Side::Server(tls) => self.held.step(serve(tls, bytes, since), into, given),
            Side::Client(tls) => self.held.step(tls.process_tls_records(bytes), into, given),
        }
    }

    fn common(&self) -> &rustls::CommonState {
        match &self.side {
            Side::Server(tls) => tls,
            Side::Client(tls) => tls,
        }
    }

    fn is_tls12(&self) -> bool {
        self.common().protocol_version() == Some(ProtocolVersion::TLSv1_2)
    }

    /// How far the handshake has come; none once nothing of it follows.
    fn progress(&self) -> Option<Progress> {
        let common = self.common();
        if !common.is_handshaking() || self.held.fault.is_some() {
            return None;
        }
        Some(self.progress_made())
    }

    #[cold]
    fn progress_made(&self) -> Progress {
        let common = self.common();
        let is_server = matches!(self.side, Side::Server(_));
        let kind = common.handshake_kind();
        let has_agreed = common.negotiated_key_exchange_group().is_some();
        let has_verified = common.peer_certificates().is_some();
        Progress {
            is_server,
            is_resumed: kind == Some(HandshakeKind::Resumed),
            has_agreed,
            has_signed: match (is_server, self.is_tls12()) {
                (true, true) => kind.is_some(),
                (true, false) => has_agreed,
                (false, true) => has_verified,
                // In the same step as the end.
                (false, false) => false,
            },
            has_verified,
        }
    }

    fn work_left_us(&self) -> u32 {
        self.progress().map_or(0, |it| it.left_us(self.costs))
    }

    /// Notes what was done of the work that was left before.
    #[cold]
    fn note_work(&mut self, before: u32, has_taken: bool) {
        let after = self.work_left_us();
        if has_taken || after != before {
            let shown = self.common().peer_certificates().map_or(0, <[_]>::len);
            let done_us = self
                .progress_made()
                .done_us(self.costs, before, after, shown);
            self.done_us += done_us;
        }
    }

    /// Opens the records in `bytes`: how many of them are done with, and how many plain bytes
    /// they gave.
    fn open(&mut self, bytes: &mut [u8], into: &mut [u8]) -> Result<(usize, usize), ErrorKind> {
        let (mut done, mut given) = (0, 0);
        self.held.has_records = false;
        loop {
            // What comes behind an end is no one's: RFC 8446 section 6.1.
            if self.held.end != End::No {
                return Ok((bytes.len(), given));
            }
            let (discard, step) = self.step(&mut bytes[done..], into, &mut given);
            done += discard;
            match step {
                Step::Again => {}
                Step::Blocked => return Ok((done, given)),
                Step::Full => {
                    self.held.has_records = done < bytes.len();
                    return Ok((done, given));
                }
                Step::Failed(error) => {
                    let kind = self.fail(&error, &mut bytes[done..]);
                    return self.held.told(given, kind).map(|()| (bytes.len(), given));
                }
            }
        }
    }

    /// What went wrong is kept, and told to the peer by an alert if that is still possible. After
    /// that the library is not asked again.
    #[cold]
    fn fail(&mut self, error: &Error, rest: &mut [u8]) -> ErrorKind {
        let (mut done, told) = (0, self.held.pending.len());
        loop {
            let (discard, step) = self.step(&mut rest[done..], &mut [], &mut 0);
            done += discard;
            if !matches!(step, Step::Again) {
                break;
            }
        }
        if self.held.pending.len() == told {
            self.tell(alert_of(error));
        }
        if self.is_tls12() && matches!(error, Error::NoCertificatesPresented) {
            // What it has said is of TLS 1.3 alone: RFC 5246 section 7.4.6.
            self.held.pending.truncate(told);
            let alert = Alert::HANDSHAKE_FAILURE.record();
            self.held.pending.extend_from_slice(&alert);
        }
        self.held.fault = Some(fault_of(error));
        if self.held.end == End::No {
            self.held.end = End::Cut;
        }
        match error {
            Error::AlertReceived(_) => ErrorKind::ConnectionReset,
            _ => ErrorKind::InvalidData,
        }
    }

    /// Tells the peer what the library leaves unsaid, as long as a client reads what is not
    /// encrypted: until the server has agreed (RFC 8446 section 6.2).
    fn tell(&mut self, alert: Option<Alert>) {
        let common = self.common();
        let has_agreed = match self.is_tls12() {
            true => common.handshake_kind() == Some(HandshakeKind::Resumed),
            false => common.negotiated_key_exchange_group().is_some(),
        };
        let is_plain = common.is_handshaking() && !has_agreed;
        if let (Side::Server(_), true, Some(alert)) = (&self.side, is_plain, alert) {
            self.held.pending.extend_from_slice(&alert.record());
        }
    }

    /// A message that does not end has filled all the space that there is for the next record. The
    /// library has taken note of where it lies: it is not asked again, and so sees no other bytes.
    fn refuse_the_endless(&mut self, given: usize) -> Result<(), ErrorKind> {
        let held = &self.held;
        if held.has_records || held.end != End::No || held.partial.len() <= PARTIAL_BYTES_MAX {
            return Ok(());
        }
        self.tell(Some(Alert::DECODE_ERROR));
        self.held.fault = Some(Fault::Malformed);
        self.held.end = End::Cut;
        self.held.told(given, ErrorKind::InvalidData)
    }

    /// Lets the library write, once it has said what it has to say itself. It wants to see what
    /// it has not done with. None where it cannot be written.
    fn write<T>(&mut self, act: impl FnOnce(&mut dyn Traffic) -> T) -> Option<T> {
        let mut partial = std::mem::take(&mut self.held.partial);
        self.held.has_records = false;
        let mut done = 0;
        let found = loop {
            if self.held.fault.is_some() {
                break None;
            }
            let Self {
                side, held, since, ..
            } = self;
            let bytes = &mut partial[done..];
            let (discard, step) = match side {
                Side::Server(tls) => match serve(tls, bytes, since) {
                    UnbufferedStatus {
                        state: Ok(ConnectionState::WriteTraffic(mut traffic)),
                        discard,
                    } => {
                        done += discard;
                        break Some(act(&mut traffic));
                    }
                    status => held.step(status, &mut [], &mut 0),
                },
                Side::Client(tls) => match tls.process_tls_records(bytes) {
                    UnbufferedStatus {
                        state: Ok(ConnectionState::WriteTraffic(mut traffic)),
                        discard,
                    } => {
                        done += discard;
                        break Some(act(&mut traffic));
                    }
                    status => held.step(status, &mut [], &mut 0),
                },
            };
            done += discard;
            match step {
                // What came before it is opened first.
                Step::Again | Step::Full => {}
                Step::Blocked => break None,
                Step::Failed(error) => {
                    self.fail(&error, &mut partial[done..]);
                    break None;
                }
            }
        };
        if done > 0 {
            partial = partial[done..].to_vec();
        }
        self.held.partial = partial;
        found
    }
}

impl<D> Traffic for WriteTraffic<'_, D> {
    fn encrypt(&mut self, plain: &[u8], space: &mut [u8]) -> Option<usize> {
        WriteTraffic::encrypt(self, plain, space).ok()
    }

    fn end(&mut self, space: &mut [u8]) -> Option<usize> {
        self.queue_close_notify(space).ok()
    }
}

impl Connection {
    fn new(side: Side) -> Self {
        Self(Box::new(Inner {
            side,
            held: Held::default(),
            name: None,
            client_rules: 0,
            costs: Costs::default(),
            done_us: 0,
            since: None,
        }))
    }
}

impl Layer for Connection {
    fn carry(&mut self, space: &mut [u8]) -> usize {
        let held = &mut self.0.held;
        let partial = std::mem::take(&mut held.partial);
        // There is room, as no more is kept than had been there.
        let count = partial.len().min(space.len());
        space[..count].copy_from_slice(&partial[..count]);
        count
    }

    fn on_received(&mut self, space: &mut [u8], into: &mut [u8]) -> Result<usize, ErrorKind> {
        let inner = &mut *self.0;
        let left_us = inner.work_left_us();
        let opened = inner.open(space, into);
        if left_us > 0 {
            let has_taken = opened.is_ok_and(|(done, _)| done > 0);
            inner.note_work(left_us, has_taken);
        }
        let (done, given) = opened?;
        if done < space.len() {
            inner.held.partial = space[done..].to_vec();
        }
        inner.refuse_the_endless(given)?;
        Ok(given)
    }

    fn on_end(&mut self) {
        let held = &mut self.0.held;
        if held.end == End::No {
            held.end = End::Cut;
            held.fault = Some(Fault::Cut);
        }
    }

    fn read(&mut self, into: &mut [u8]) -> Io<usize> {
        let inner = &mut *self.0;
        if inner.held.plain.is_empty() && !inner.held.partial.is_empty() {
            // Records that came with the last one, when that was as much as was wanted.
            let mut partial = std::mem::take(&mut inner.held.partial);
            match inner.open(&mut partial, into) {
                Ok((done, given)) => {
                    inner.held.partial = partial[done..].to_vec();
                    if let Err(kind) = inner.refuse_the_endless(given) {
                        return Io::Failed(kind);
                    }
                    if given > 0 {
                        return Io::Ready(given);
                    }
                }
                Err(kind) => return Io::Failed(kind),
            }
        }
        let held = &mut inner.held;
        let unread = held.unread();
        if !unread.is_empty() {
            let count = unread.len().min(into.len());
            into[..count].copy_from_slice(&unread[..count]);
            held.plain_read += count;
            if held.unread().is_empty() {
                held.plain = Vec::new();
                held.plain_read = 0;
            }
            return Io::Ready(count);
        }
        // As with a socket, whoever asks again is told again.
        held.is_end_told = held.end != End::No;
        match held.end {
            End::Marked => Io::Closed,
            End::Cut => Io::Failed(held.failure()),
            End::No => Io::Blocked,
        }
    }

    fn may_read(&self) -> bool {
        let held = &self.0.held;
        let has_news = held.end != End::No && !held.is_end_told;
        !held.plain.is_empty() || held.has_records || has_news
    }

    fn has_ended(&self) -> bool {
        self.0.held.end != End::No
    }

    fn seal(&mut self, from: &[IoSlice<'_>], skipped: usize, space: &mut [u8]) -> Sealed {
        let inner = &mut *self.0;
        let mut is_spent = false;
        let seal =
            |traffic: &mut dyn Traffic| seal_traffic(traffic, from, skipped, space, &mut is_spent);
        let sealed = inner.write(seal).unwrap_or_default();
        if is_spent {
            // The key has sealed as many records as it may: TLS 1.2 has no other.
            inner.held.fault = Some(Fault::Internal);
            inner.held.end = End::Cut;
        }
        sealed
    }

    fn finish(&mut self) {
        let inner = &mut *self.0;
        let mut mark = [0; ALERT_BYTES_MAX];
        let count = inner.write(|traffic| traffic.end(&mut mark)).flatten();
        let mark = &mark[..count.unwrap_or(0)];
        inner.held.pending.extend_from_slice(mark);
    }

    fn pending(&self) -> &[u8] {
        &self.0.held.pending[self.0.held.pending_sent..]
    }

    fn on_sent(&mut self, count: usize) {
        let held = &mut self.0.held;
        held.pending_sent += count;
        if held.pending_sent == held.pending.len() {
            held.pending = Vec::new();
            held.pending_sent = 0;
        }
    }

    fn keep_pending(&mut self, sealed: &[u8]) {
        self.0.held.pending.extend_from_slice(sealed);
    }

    fn kept(&self) -> Kept {
        let Held {
            partial,
            plain,
            pending,
            ..
        } = &self.0.held;
        let whole = partial.len() + self.missing();
        Kept {
            ahead: 0,
            input: partial.capacity().max(whole) + plain.capacity(),
            output: pending.capacity(),
        }
    }

    fn kept_noted(&mut self) -> &mut Kept {
        &mut self.0.held.kept_noted
    }

    fn has_partial(&self) -> bool {
        !self.0.held.partial.is_empty()
    }

    fn missing(&self) -> usize {
        missing_in(&self.0.held.partial)
    }

    fn record_bytes(&self, bytes: &[u8]) -> usize {
        record_bytes(bytes)
    }

    fn is_established(&self) -> bool {
        !self.0.common().is_handshaking()
    }

    fn work_left_us(&self) -> u32 {
        self.0.work_left_us()
    }

    fn take_work_us(&mut self) -> u32 {
        std::mem::take(&mut self.0.done_us)
    }

    fn fault(&self) -> Option<Fault> {
        self.0.held.fault
    }

    fn secured(&self) -> Option<Secured<'_>> {
        let common = self.0.common();
        Some(Secured {
            version: match common.protocol_version()? {
                ProtocolVersion::TLSv1_3 => "TLSv1.3",
                _ => "TLSv1.2",
            },
            cipher: common
                .negotiated_cipher_suite()
                .and_then(|it| suite_name(&it))?,
            name: self.0.name.as_deref(),
            protocol: common.alpn_protocol(),
            client_certificate: common
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(AsRef::as_ref),
            client_rules: self.0.client_rules,
            is_resumed: common.handshake_kind() == Some(HandshakeKind::Resumed),
        })
    }
}

mod faults;
mod listeners;
#[cfg(test)]
mod tests;
mod upstreams;
