//! The TLS of upstreams.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring as provider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::tls::ClientParts;
use crate::tls::engine::{Connection, Side, certified, crypto, roots, signature_us};
use crate::tls::work::{self, Costs};

/// Sessions that can be resumed with the backends of an upstream.
const CLIENT_SESSIONS_MAX: usize = 64;

/// The TLS of an upstream.
#[derive(Debug)]
pub struct ClientSettings {
    pub(super) config: Arc<ClientConfig>,
    pub(super) costs: Costs,
}

impl ClientSettings {
    /// Made once for each configuration.
    ///
    /// # Errors
    /// What the reading of the material should have refused, in words.
    pub fn new(parts: &ClientParts<'_>) -> Result<Self, String> {
        // Some backends have a certificate on it, which in TLS 1.2 must be offered here as well
        // (RFC 8422 section 5.1).
        let crypto = crypto(&[], &[provider::kx_group::SECP384R1]);
        let algorithms = crypto.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| error.to_string())?;
        let builder = match parts.authorities {
            Some(authorities) => builder.with_root_certificates(roots(authorities)),
            None => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Unverified(algorithms))),
        };
        let mut costs = Costs {
            signature_us: 0,
            checks_us: work::checks_us_expected(parts.authorities.is_some()),
        };
        let mut config = match parts.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let certified = certified(identity).map_err(|fault| fault.to_string())?;
                costs.signature_us = signature_us(&certified);
                let resolver = rustls::sign::SingleCertAndKey::from(certified);
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
        };
        config.alpn_protocols = parts.protocols.to_vec();
        config.resumption = Resumption::in_memory_sessions(CLIENT_SESSIONS_MAX);
        Ok(Self {
            config: Arc::new(config),
            costs,
        })
    }

    /// A connection to a backend of this name, which is a host name or an IP address.
    #[must_use]
    pub fn connect(&self, name: &str) -> Option<Connection> {
        let server = ServerName::try_from(name).ok()?.to_owned();
        let tls = UnbufferedClientConnection::new(self.config.clone(), server).ok()?;
        let mut connection = Connection::new(Side::Client(tls));
        connection.0.costs = self.costs;
        // Its ClientHello is sent first.
        connection.0.open(&mut [], &mut []).ok()?;
        Some(connection)
    }

    /// Whether a name can be verified.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        ServerName::try_from(name).is_ok()
    }
}

/// Believes every certificate, as the configuration asks for it; that the peer has its key is
/// still checked.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
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
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
