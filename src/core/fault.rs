//! Why a secured connection failed, in words for a log.

/// Why a connection failed. Each is counted and told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// What came is not TLS, or not as its records are.
    Malformed,
    /// Well formed, but not what may come there.
    Misbehaved,
    /// No version, cipher suite, group or kind of signature that both can do.
    NothingInCommon,
    /// The client offers protocols, but none that is spoken here.
    NoProtocol,
    /// A certificate is required.
    NoCertificate,
    /// Nobody who is trusted has issued the peer's certificate.
    UnknownIssuer,
    /// The peer's certificate has expired, or is not valid yet.
    Expired,
    /// The peer's certificate was revoked, or nobody knows.
    Revoked,
    /// The peer's certificate is for another name.
    WrongName,
    /// The peer's certificate is not valid for another reason.
    BadCertificate,
    /// The peer did not like what it saw, and said so by an alert.
    Alert(u8),
    /// The stream ended before its end was marked.
    Cut,
    /// Another reason, which lies here.
    Internal,
}

/// Those that are one thing each, in the order of their numbers.
const KINDS: [Fault; 12] = [
    Fault::Internal,
    Fault::Malformed,
    Fault::Misbehaved,
    Fault::NothingInCommon,
    Fault::NoProtocol,
    Fault::NoCertificate,
    Fault::UnknownIssuer,
    Fault::Expired,
    Fault::Revoked,
    Fault::WrongName,
    Fault::BadCertificate,
    Fault::Cut,
];

/// Alerts are numbered from here.
const ALERT_NUMBER: u16 = 0x100;

impl Fault {
    /// Every fault, for whoever tries them all.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.into_iter().chain((0..=u8::MAX).map(Self::Alert))
    }

    /// Its number, by which another process knows it.
    #[must_use]
    pub fn number(self) -> u16 {
        if let Self::Alert(code) = self {
            return ALERT_NUMBER + u16::from(code);
        }
        let place = KINDS.iter().position(|&kind| kind == self);
        place
            .and_then(|place| u16::try_from(place).ok())
            .unwrap_or(0)
    }

    /// The fault of a number; of one that is not known, something internal.
    #[must_use]
    pub fn read(number: u16) -> Self {
        if let Ok(code) = u8::try_from(number.wrapping_sub(ALERT_NUMBER)) {
            return Self::Alert(code);
        }
        KINDS
            .get(usize::from(number))
            .copied()
            .unwrap_or(Self::Internal)
    }
}

impl Fault {
    /// How it reads in a log line.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Malformed => "malformed TLS",
            Self::Misbehaved => "a breach of the TLS protocol",
            Self::NothingInCommon => "no version, cipher suite or signature in common",
            Self::NoProtocol => "no application protocol in common",
            Self::NoCertificate => "no certificate was presented",
            Self::UnknownIssuer => "certificate of an unknown issuer",
            Self::Expired => "certificate expired or not yet valid",
            Self::Revoked => "certificate revoked, or its revocation list missing or outdated",
            Self::WrongName => "certificate for another name",
            Self::BadCertificate => "invalid certificate",
            Self::Alert(code) => alert(code),
            Self::Cut => "ended within the handshake",
            Self::Internal => "an internal error",
        }
    }
}

/// The name of an alert: RFC 8446 section 6, and RFC 5246 section 7.2 for those before it.
const fn alert(code: u8) -> &'static str {
    match code {
        0 => "alert close_notify",
        10 => "alert unexpected_message",
        20 => "alert bad_record_mac",
        22 => "alert record_overflow",
        40 => "alert handshake_failure",
        42 => "alert bad_certificate",
        43 => "alert unsupported_certificate",
        44 => "alert certificate_revoked",
        45 => "alert certificate_expired",
        46 => "alert certificate_unknown",
        47 => "alert illegal_parameter",
        48 => "alert unknown_ca",
        49 => "alert access_denied",
        50 => "alert decode_error",
        51 => "alert decrypt_error",
        70 => "alert protocol_version",
        71 => "alert insufficient_security",
        80 => "alert internal_error",
        86 => "alert inappropriate_fallback",
        90 => "alert user_canceled",
        109 => "alert missing_extension",
        110 => "alert unsupported_extension",
        112 => "alert unrecognized_name",
        113 => "alert bad_certificate_status_response",
        115 => "alert unknown_psk_identity",
        116 => "alert certificate_required",
        120 => "alert no_application_protocol",
        _ => "an unknown alert",
    }
}
