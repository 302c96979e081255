//! The field names that weir acts on, recognised once, by length, first letter and comparison.
//!
//! It knows nothing of values: what a field means is decided where heads are parsed and written.

use super::claims;

/// A field name that weir acts on, or [`Known::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Known {
    Authorization,
    CacheControl,
    Connection,
    ContentLength,
    ContentType,
    Cookie,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    Location,
    MaxForwards,
    Proxy,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Referer,
    Server,
    SetCookie,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Via,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    /// Another name by which a proxy tells of its client; see [`claims`].
    Claim,
    /// A name that a backend with CGI-like variables reads as one of those, or as one of the
    /// forwarding fields above, and that nobody writes so.
    ClaimAlias,
    /// A name that such a backend reads as a framing field, so it is never forwarded.
    Lookalike,
    /// Every other name.
    Other,
}

impl Known {
    /// The field that `name` names, in any case.
    #[must_use]
    pub(crate) fn recognise(name: &[u8]) -> Self {
        let found = Self::by_itself(name);
        if found == Self::Other {
            return claims::recognise(name);
        }
        found
    }

    fn by_itself(name: &[u8]) -> Self {
        let Some(first) = name.first() else {
            return Self::Other;
        };
        match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') => one(name, b"te", Self::Te),
            (3, b'v') => one(name, b"via", Self::Via),
            (4, b'd') => one(name, b"date", Self::Date),
            (4, b'h') => one(name, b"host", Self::Host),
            (5, b'p') => one(name, b"proxy", Self::Proxy),
            (6, b'c') => one(name, b"cookie", Self::Cookie),
            (6, b'e') => one(name, b"expect", Self::Expect),
            (6, b's') => one(name, b"server", Self::Server),
            (7, b'r') => one(name, b"referer", Self::Referer),
            (7, b't') => one(name, b"trailer", Self::Trailer),
            (7, b'u') => one(name, b"upgrade", Self::Upgrade),
            (8, b'l') => one(name, b"location", Self::Location),
            (9, b'f') => one(name, b"forwarded", Self::Forwarded),
            (9, b'x') => one(name, b"x-real-ip", Self::XRealIp),
            (10, b'c') => one(name, b"connection", Self::Connection),
            (10, b'k') => one(name, b"keep-alive", Self::KeepAlive),
            (10, b's') => one(name, b"set-cookie", Self::SetCookie),
            (10, b'u') => one(name, b"user-agent", Self::UserAgent),
            (12, b'c') => one(name, b"content-type", Self::ContentType),
            (12, b'm') => one(name, b"max-forwards", Self::MaxForwards),
            (13, b'a') => one(name, b"authorization", Self::Authorization),
            (13, b'c') => one(name, b"cache-control", Self::CacheControl),
            (14, b'c') => spoofable(name, b"content-length", Self::ContentLength),
            (14, b'h') => one(name, b"http2-settings", Self::Http2Settings),
            (15, b'x') => one(name, b"x-forwarded-for", Self::XForwardedFor),
            (16, b'p') => one(name, b"proxy-connection", Self::ProxyConnection),
            (16, b'x') => {
                let found = one(name, b"x-forwarded-host", Self::XForwardedHost);
                if found == Self::Other {
                    one(name, b"x-forwarded-port", Self::XForwardedPort)
                } else {
                    found
                }
            }
            (17, b't') => spoofable(name, b"transfer-encoding", Self::TransferEncoding),
            (17, b'x') => one(name, b"x-forwarded-proto", Self::XForwardedProto),
            (18, b'p') => one(name, b"proxy-authenticate", Self::ProxyAuthenticate),
            (19, b'p') => one(name, b"proxy-authorization", Self::ProxyAuthorization),
            _ => Self::Other,
        }
    }
}

#[inline]
fn one<const N: usize>(name: &[u8], lower: &[u8; N], known: Known) -> Known {
    let Ok(name) = <&[u8; N]>::try_from(name) else {
        return Known::Other;
    };
    let (names, name_rest) = name.as_chunks::<8>();
    let (lowers, lower_rest) = lower.as_chunks::<8>();
    let mut differs = differing(word(name_rest), word(lower_rest));
    for (name, lower) in names.iter().zip(lowers) {
        differs |= differing(u64::from_le_bytes(*name), u64::from_le_bytes(*lower));
    }
    if differs == 0 { known } else { Known::Other }
}

/// Where eight bytes differ from those of a name in lower case, but for their case. All at once,
/// where comparing slices without case would go one by one.
#[inline]
fn differing(name: u64, lower: u64) -> u64 {
    // Letters have this bit, digits and hyphens have not; the one below it is a letter's case.
    let case = (lower & 0x4040_4040_4040_4040) >> 1;
    (name ^ lower) & !case
}

/// Up to eight bytes, and zeros.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// As [`one`], but a name with other punctuation is found out as well.
fn spoofable<const N: usize>(name: &[u8], lower: &[u8; N], known: Known) -> Known {
    let found = one(name, lower, known);
    if found == Known::Other && claims::is_same_name(name, lower) {
        return Known::Lookalike;
    }
    found
}

/// A set of known names. [`Known::Other`] can not be a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KnownSet(u64);

impl KnownSet {
    /// No name.
    pub const NONE: Self = Self(0);

    /// Fields for one connection only, which are never forwarded as they came (RFC 9110 section
    /// 7.6.1); [`Known::Lookalike`] is treated like them.
    pub(crate) const HOP_BY_HOP: Self = Self::of(&[
        Known::Connection,
        Known::Http2Settings,
        Known::KeepAlive,
        Known::Lookalike,
        Known::ProxyConnection,
        Known::Te,
        Known::Upgrade,
    ]);

    /// Fields that stay although `Connection` names them: without them the message would be
    /// framed, routed, attributed or authorized differently behind weir.
    pub(crate) const END_TO_END: Self = Self::of(&[
        Known::Authorization,
        Known::CacheControl,
        Known::Claim,
        Known::ContentLength,
        Known::ContentType,
        Known::Cookie,
        Known::Date,
        Known::Expect,
        Known::Forwarded,
        Known::Host,
        Known::SetCookie,
        Known::TransferEncoding,
        Known::Via,
        Known::XForwardedFor,
        Known::XForwardedHost,
        Known::XForwardedPort,
        Known::XForwardedProto,
        Known::XRealIp,
    ]);

    /// Fields that decide where a message ends.
    pub(crate) const FRAMING: Self = Self::of(&[Known::ContentLength, Known::TransferEncoding]);

    /// Those that stand for many names.
    pub(crate) const OF_MANY_NAMES: Self =
        Self::of(&[Known::Claim, Known::ClaimAlias, Known::Lookalike]);

    /// The set of these names.
    #[must_use]
    pub(crate) const fn of(names: &[Known]) -> Self {
        let mut set = Self(0);
        let mut at = 0;
        while at < names.len() {
            set = set.with(names[at]);
            at += 1;
        }
        set
    }

    /// This set and `name`.
    #[must_use]
    pub(crate) const fn with(self, name: Known) -> Self {
        Self((self.0 | 1 << name as u8) & !(1 << Known::Other as u8))
    }

    /// This set and all of `other`.
    #[must_use]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `name` is a member.
    #[must_use]
    pub(crate) const fn has(self, name: Known) -> bool {
        self.0 & (1 << name as u8) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_in_any_case() {
        for (name, known) in [
            ("Host", Known::Host),
            ("hOST", Known::Host),
            ("TE", Known::Te),
            ("Content-Length", Known::ContentLength),
            ("TRANSFER-ENCODING", Known::TransferEncoding),
            ("X-Forwarded-Host", Known::XForwardedHost),
            ("X-Forwarded-Port", Known::XForwardedPort),
            ("X-Real-IP", Known::XRealIp),
            ("proxy", Known::Proxy),
            ("Http2-Settings", Known::Http2Settings),
            ("Hos", Known::Other),
            ("Hosts", Known::Other),
            ("X-Forwarded-Fox", Known::Claim),
            ("", Known::Other),
        ] {
            assert_eq!(Known::recognise(name.as_bytes()), known, "{name}");
        }
    }

    #[test]
    fn a_name_with_another_byte_anywhere_is_another_name() {
        for (name, known) in [
            ("te", Known::Te),
            ("via", Known::Via),
            ("host", Known::Host),
            ("proxy", Known::Proxy),
            ("cookie", Known::Cookie),
            ("upgrade", Known::Upgrade),
            ("location", Known::Location),
            ("x-real-ip", Known::XRealIp),
            ("connection", Known::Connection),
            ("content-type", Known::ContentType),
            ("cache-control", Known::CacheControl),
            ("http2-settings", Known::Http2Settings),
            ("x-forwarded-for", Known::XForwardedFor),
            ("proxy-connection", Known::ProxyConnection),
            ("transfer-encoding", Known::TransferEncoding),
            ("proxy-authenticate", Known::ProxyAuthenticate),
            ("proxy-authorization", Known::ProxyAuthorization),
        ] {
            for (at, byte) in (0..name.len()).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
                let mut other = name.as_bytes().to_vec();
                other[at] = byte;
                let is_same = other.eq_ignore_ascii_case(name.as_bytes());
                let found = Known::recognise(&other);
                assert_eq!(found == known, is_same, "{name}: {byte} at {at}");
            }
        }
    }

    #[test]
    fn other_punctuation_for_a_hyphen_is_found_out() {
        for (name, known) in [
            ("Content_Length", Known::Lookalike),
            ("transfer_encoding", Known::Lookalike),
            ("Transfer.Encoding", Known::Lookalike),
            ("X_Forwarded-For", Known::ClaimAlias),
            ("X_REAL_IP", Known::ClaimAlias),
            ("X-Forwarded.Port", Known::ClaimAlias),
            ("Set_Cookie", Known::Other),
            ("ContentXLength", Known::Other),
        ] {
            assert_eq!(Known::recognise(name.as_bytes()), known, "{name}");
        }
    }

    #[test]
    fn a_set_holds_its_members_and_never_other() {
        let set = KnownSet::of(&[Known::Host, Known::Other]);
        assert!(set.has(Known::Host));
        assert!(!set.has(Known::Via));
        assert!(!set.has(Known::Other));
    }
}
