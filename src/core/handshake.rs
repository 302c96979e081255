//! How handshakes of clients end, as they are counted.

use super::client_hello::{BadHello, NotTls};
use super::fault::Fault;
use super::opening::Refusal;
use super::tls_route::NoTlsRoute;

/// Handshakes at once in one worker. Whoever comes then takes the place of the oldest.
pub const HANDSHAKES_MAX: usize = 4_096;

/// How a handshake has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Handshake {
    /// Done, with a signature.
    Full,
    /// Done, by going on with an earlier session.
    Resumed,
    /// What came was not TLS.
    NotTls,
    /// It was TLS, but not as that has to be.
    Malformed,
    /// No version, cipher suite or signature that both can do.
    NothingInCommon,
    /// A name that nobody is served under.
    UnrecognizedName,
    /// No application protocol that is spoken.
    NoProtocol,
    /// No certificate of the client, or none that is accepted.
    ClientCertificate,
    /// The client has refused, and said so by an alert.
    Alert,
    /// The client left within it.
    Cut,
    /// It took too long.
    TooSlow,
    /// It was the oldest of too many.
    Crowded,
    /// For a reason that lies here.
    Internal,
}

impl Handshake {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::Full,
        Self::Resumed,
        Self::NotTls,
        Self::Malformed,
        Self::NothingInCommon,
        Self::UnrecognizedName,
        Self::NoProtocol,
        Self::ClientCertificate,
        Self::Alert,
        Self::Cut,
        Self::TooSlow,
        Self::Crowded,
        Self::Internal,
    ];

    /// Those that have failed.
    pub fn failures() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().skip(Self::Resumed as usize + 1)
    }

    /// As statistics have it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::NotTls => "not TLS",
            Self::Malformed => "malformed",
            Self::NothingInCommon => "nothing in common",
            Self::UnrecognizedName => "unrecognized name",
            Self::NoProtocol => "no protocol",
            Self::ClientCertificate => "client certificate",
            Self::Alert => "alert",
            Self::Cut => "cut",
            Self::TooSlow => "too slow",
            Self::Crowded => "crowded",
            Self::Internal => "internal",
        }
    }

    /// That of a client which was refused; none where that was for what stands before TLS.
    #[must_use]
    pub(crate) const fn refused(why: Refusal) -> Option<Self> {
        Some(match why {
            Refusal::ProxyHeader(_) => return None,
            Refusal::NotTls(NotTls::Http | NotTls::Other) => Self::NotTls,
            Refusal::Hello(BadHello::Version) => Self::NothingInCommon,
            Refusal::Hello(_) | Refusal::TooLong => Self::Malformed,
            Refusal::Unrouted(NoTlsRoute::Name) | Refusal::Unserved => Self::UnrecognizedName,
            Refusal::Unrouted(NoTlsRoute::Protocol) => Self::NoProtocol,
            Refusal::Tls(fault) => Self::failed(fault),
            Refusal::Crowded => Self::Crowded,
            Refusal::CutShort(_) => Self::Cut,
            Refusal::TooSlow(_) => Self::TooSlow,
            Refusal::NoMemory => Self::Internal,
        })
    }

    const fn failed(fault: Fault) -> Self {
        match fault {
            Fault::Malformed | Fault::Misbehaved => Self::Malformed,
            Fault::NothingInCommon => Self::NothingInCommon,
            Fault::NoProtocol => Self::NoProtocol,
            Fault::NoCertificate
            | Fault::UnknownIssuer
            | Fault::Expired
            | Fault::Revoked
            | Fault::WrongName
            | Fault::BadCertificate => Self::ClientCertificate,
            Fault::Alert(_) => Self::Alert,
            Fault::Cut => Self::Cut,
            Fault::Internal => Self::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::opening::Awaited;

    #[test]
    fn each_refusal_has_its_counter() {
        for (why, counted) in [
            (Refusal::NotTls(NotTls::Http), Handshake::NotTls),
            (
                Refusal::Hello(BadHello::Version),
                Handshake::NothingInCommon,
            ),
            (Refusal::Hello(BadHello::Duplicate), Handshake::Malformed),
            (
                Refusal::Unrouted(NoTlsRoute::Name),
                Handshake::UnrecognizedName,
            ),
            (
                Refusal::Unrouted(NoTlsRoute::Protocol),
                Handshake::NoProtocol,
            ),
            (Refusal::Tls(Fault::NoProtocol), Handshake::NoProtocol),
            (Refusal::Tls(Fault::Expired), Handshake::ClientCertificate),
            (Refusal::Tls(Fault::Alert(48)), Handshake::Alert),
            (Refusal::Tls(Fault::Cut), Handshake::Cut),
            (Refusal::CutShort(Awaited::ClientHello), Handshake::Cut),
            (Refusal::TooSlow(Awaited::Handshake), Handshake::TooSlow),
            (Refusal::Unserved, Handshake::UnrecognizedName),
            (Refusal::NoMemory, Handshake::Internal),
            (Refusal::Crowded, Handshake::Crowded),
        ] {
            assert_eq!(Handshake::refused(why), Some(counted), "{why:?}");
        }
    }

    #[test]
    fn they_are_in_the_order_of_their_numbers() {
        for (number, each) in Handshake::ALL.into_iter().enumerate() {
            assert_eq!(each as usize, number, "{each:?}");
        }
        assert_eq!(Handshake::failures().next(), Some(Handshake::NotTls));
    }
}
