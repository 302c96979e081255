//! TLS: what stands between the bytes of a socket and those of a session, and what it is made
//! from.
//!
//! `engine` alone names the library (rustls); everything else is plain data or pure. Without the
//! cargo feature `tls` its place is taken by `absent`, which has no connection at all, so that
//! nothing else has to ask for the feature.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enums of the library have hundreds of variants, and grow"
)]
mod engine;
pub mod fault;
pub mod material;
#[cfg(feature = "tls")]
mod pem;
#[cfg(feature = "tls")]
mod records;
#[cfg(feature = "tls")]
mod sealing;
pub mod sites;
#[cfg(feature = "tls")]
mod tickets;
#[cfg(feature = "tls")]
mod work;
pub mod x509;

#[cfg(not(feature = "tls"))]
pub use absent::{
    ClientSettings, Connection, ServerSettings, TicketKeys, certificates_in, facts_of, key_in,
    revocations_in,
};
#[cfg(feature = "tls")]
pub use engine::{
    ClientSettings, Connection, ServerSettings, certificates_in, facts_of, key_in, revocations_in,
};
#[cfg(feature = "tls")]
pub use tickets::TicketKeys;

use std::sync::Arc;

use crate::tls::material::{Identity, ListenerMaterial};

/// The cipher suites that there are, by their IANA names and the best first. Those of TLS 1.3 say
/// nothing of keys.
pub const CIPHER_SUITES: [&str; 9] = [
    "TLS_AES_256_GCM_SHA384",
    "TLS_AES_128_GCM_SHA256",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];

/// What a listener agrees to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Agreement {
    /// Whether TLS 1.2 is refused.
    pub is_tls13_only: bool,
    /// The cipher suites, by their IANA names; all that there are if empty.
    pub cipher_suites: Vec<String>,
    /// The application protocols that are spoken; any if empty.
    pub protocols: Vec<Vec<u8>>,
}

/// Why a request for a host may not come over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdirection {
    /// No certificate is for it, and others are refused.
    Unserved,
    /// Its site asks other things of clients than that of the connection.
    OtherRules,
}

/// From what the TLS of a listener is made.
#[derive(Clone, Copy, Debug)]
pub struct ServerParts<'a> {
    /// The name of the listener: tickets are good for it alone.
    pub listener: &'a str,
    /// What it agrees to.
    pub agreement: &'a Agreement,
    /// Whether names that no certificate has are refused.
    pub is_strict: bool,
    /// Certificates and rules for clients.
    pub material: &'a Arc<ListenerMaterial>,
}

/// From what the TLS of an upstream is made.
#[derive(Clone, Copy, Debug, Hash)]
pub struct ClientParts<'a> {
    /// Who may issue certificates of backends: DER. None where nothing is verified.
    pub authorities: Option<&'a [Vec<u8>]>,
    /// What is shown to backends that ask.
    pub identity: Option<&'a Identity>,
    /// The application protocols that are offered; none if empty.
    pub protocols: &'a [Vec<u8>],
}
