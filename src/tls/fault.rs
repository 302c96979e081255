//! What is wrong with files of certificates and keys, and what is right.

use std::fmt;

/// What is wrong with a file of certificates or keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PemFault {
    /// There is no such item in it.
    Missing,
    /// There are several, and one is needed.
    Several,
    /// A private key under a passphrase.
    Encrypted,
    /// A section that does not end, or is not base64.
    Malformed,
    /// A revocation list without extensions, which are needed to tell its scope.
    FirstVersion,
    /// This weir was built without TLS.
    Absent,
}

impl fmt::Display for PemFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "nothing of the kind in it",
            Self::Several => "more than one in it",
            Self::Encrypted => {
                "it is encrypted: nobody is here to type a passphrase \
                 (openssl pkey -in FILE -out FILE.plain removes it)"
            }
            Self::Malformed => "malformed PEM",
            Self::FirstVersion => {
                "it is of version 1, and has to be of version 2 (RFC 5280 section 5.1.2.1): \
                 openssl ca -gencrl makes that with `crl_extensions = SECTION` in its \
                 configuration, or -crlexts SECTION, and `authorityKeyIdentifier = keyid` in \
                 that section"
            }
            Self::Absent => ABSENT,
        })
    }
}

/// What is said where TLS is asked of a weir that has none.
pub const ABSENT: &str = "this weir was built without TLS (cargo feature `tls`), so that `tls` \
                          cannot be had: take a build with it, or leave the key out";

/// What is wrong with a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityFault {
    /// The leaf is no certificate that can be used.
    BadCertificate,
    /// What stands behind the leaf is no certificate, or damaged.
    BadChain,
    /// The key is of a kind that is not supported, or damaged.
    BadKey,
    /// The key is of another certificate.
    Mismatch,
    /// This weir was built without TLS.
    Absent,
}

impl fmt::Display for IdentityFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::BadCertificate => "the certificate cannot be parsed",
            Self::BadChain => {
                "a certificate behind the first cannot be parsed: clients would refuse them all"
            }
            Self::BadKey => {
                "the key cannot be used: RSA of 2048 to 8192 bits, ECDSA P-256 or P-384, \
                 or Ed25519 is allowed"
            }
            Self::Mismatch => "the key is not that of the certificate",
            Self::Absent => ABSENT,
        })
    }
}

/// What an identity says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// DNS names of the leaf, lower case.
    pub names: Vec<String>,
    /// Whether certificates stand behind the leaf, none of which is of its issuer.
    pub is_chain_foreign: bool,
    /// Valid from this second since 1970 on.
    pub not_before_unix_s: i64,
    /// Valid up to this second since 1970.
    pub not_after_unix_s: i64,
    /// What kind of key it is.
    pub key: KeyKind,
}

/// Kinds of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, which is slow to sign with.
    Rsa,
    /// ECDSA over P-256 or P-384.
    Ecdsa,
    /// Ed25519.
    Ed25519,
}
