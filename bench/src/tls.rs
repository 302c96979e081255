//! What clients offer in TLS: one cipher suite and one group, so that all proxies do the same work.
//! Every certificate is believed, as who signs is not what is measured.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls12Resumption,
    Tls13ClientSessionValue,
};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, Error, NamedGroup, SignatureScheme,
};

use crate::workload::{Tls, Version};

/// Tickets that are kept, the latest.
const TICKETS_MAX: usize = 256;

/// What clients have in common, and their sessions, of which there are none yet.
///
/// # Errors
///
/// The library lacks what is offered.
pub fn client_config(tls: Tls) -> Result<(Arc<ClientConfig>, Arc<Sessions>), Error> {
    let (suites, version) = match tls.version {
        Version::V13 => (
            &[CipherSuite::TLS13_AES_128_GCM_SHA256][..],
            &rustls::version::TLS13,
        ),
        Version::V12 => (
            &[
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            ][..],
            &rustls::version::TLS12,
        ),
    };
    let mut crypto = provider::default_provider();
    crypto
        .cipher_suites
        .retain(|it| suites.contains(&it.suite()));
    crypto.kx_groups = vec![provider::kx_group::X25519];
    if tls.version == Version::V12 {
        // It says there as well which curve a certificate may have (RFC 8422 section 5.1).
        crypto.kx_groups.push(provider::kx_group::SECP256R1);
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto))
        .with_protocol_versions(&[version])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(provider::default_provider())))
        .with_no_client_auth();
    let sessions = Arc::new(Sessions {
        is_used: tls.is_resumed,
        kept: Mutex::default(),
    });
    config.resumption =
        Resumption::store(sessions.clone()).tls12_resumption(Tls12Resumption::SessionIdOrTickets);
    Ok((Arc::new(config), sessions))
}

/// The sessions that can be resumed: each client takes a ticket and brings one. The first clients
/// find none.
#[derive(Debug)]
pub struct Sessions {
    is_used: bool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    of_12: Option<Tls12ClientSessionValue>,
    of_13: VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is one.
    #[must_use]
    pub fn has_one(&self) -> bool {
        let kept = self.kept();
        kept.of_12.is_some() || !kept.of_13.is_empty()
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        if self.is_used {
            self.kept().of_12 = Some(value);
        }
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept().of_12.clone()
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.kept().of_12 = None;
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        if self.is_used {
            let tickets = &mut self.kept().of_13;
            tickets.truncate(TICKETS_MAX - 1);
            tickets.push_front(value);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.kept().of_13.pop_back()
    }
}

/// Believes everything, so that the load has the least to do.
#[derive(Debug)]
struct Believer(CryptoProvider);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
