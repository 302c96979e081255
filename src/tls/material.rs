//! What TLS needs of files, as plain data: certificates, keys and revocations in DER.
//!
//! The control loop reads it, the wire carries it, workers use it. It names no library.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroize as _;

/// Bytes that nobody else may see. They are zeroed when dropped and are not shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes over.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, which are no secret after all.
    #[must_use]
    pub fn into_bytes(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }

    /// Puts more behind them. Where they have to move, nothing stays where they were.
    pub fn extend(&mut self, more: &[u8]) {
        if self.0.capacity() - self.0.len() < more.len() {
            let mut wider = Vec::with_capacity(2 * (self.0.len() + more.len()));
            wider.extend_from_slice(&self.0);
            self.0.zeroize();
            self.0 = wider;
        }
        self.0.extend_from_slice(more);
    }

    /// The bytes themselves.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// A certificate with those that lead to its issuer, and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// DER, the leaf first. At least one.
    pub chain: Vec<Vec<u8>>,
    /// DER: PKCS#8, PKCS#1 or SEC1.
    pub key: Secret,
}

/// What a site asks of its clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientAuth {
    /// Whether a client without a certificate is refused.
    pub is_required: bool,
    /// Who may issue their certificates: DER.
    pub authorities: Vec<Vec<u8>>,
    /// Revocation lists: DER. With one, every certificate of a chain needs one that is not
    /// outdated.
    pub revoked: Vec<Vec<u8>>,
}

/// A certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// What is shown and proven.
    pub identity: Identity,
    /// Whom it serves: lower case, or `*.` and the parent of one label.
    pub names: Vec<String>,
    /// Which of [`ListenerMaterial::client_auths`] holds for its names.
    pub client_auth: Option<usize>,
}

/// What a listener needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListenerMaterial {
    /// In the order of the configuration.
    pub certificates: Vec<Certificate>,
    /// What they name.
    pub client_auths: Vec<ClientAuth>,
    /// What seals its tickets, the first one, and opens them; weir's own keys if empty.
    pub ticket_keys: Vec<TicketKey>,
    /// When the first of its certificates expires, in seconds since 1970; none without one.
    pub expires_unix_s: Option<i64>,
}

/// What an upstream needs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamMaterial {
    /// Which of [`Material::authorities`] may issue certificates of its backends.
    pub authorities: usize,
    /// What is shown to backends that ask.
    pub identity: Option<Identity>,
}

/// All that a configuration needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Material {
    /// One for each listener of the configuration; none where it has no TLS.
    pub listeners: Vec<Option<Arc<ListenerMaterial>>>,
    /// One for each upstream of the configuration; none where it has no TLS.
    pub upstreams: Vec<Option<UpstreamMaterial>>,
    /// Sets of authorities, in DER, each kept once.
    pub authorities: Vec<Vec<Vec<u8>>>,
}

/// A key that seals session tickets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TicketKey {
    /// Stands in front of a ticket, so that the key is found again.
    pub name: [u8; TICKET_NAME_BYTES],
    /// Of [`TICKET_SECRET_BYTES`].
    pub secret: Secret,
}

/// The name of a key of tickets, in bytes.
pub const TICKET_NAME_BYTES: usize = 16;
/// What seals tickets, in bytes: a key of AES-256.
pub const TICKET_SECRET_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let identity = Identity {
            chain: Vec::new(),
            key: Secret::new(b"zebra".to_vec()),
        };
        let text = format!("{identity:?}");
        assert!(!text.contains("zebra") && !text.contains("122"), "{text}");
    }
}
