//! The fields in which a proxy tells a backend of the client: its address, the scheme, host, port
//! and path it asked for, who it is. Frameworks believe them, so only trusted proxies send them.
//!
//! A name is the same in any case, and with any other punctuation for its hyphens: CGI, WSGI, Rack
//! and PHP make one variable of `X-Forwarded-Prefix`, `X_Forwarded_Prefix` and, in old Apache,
//! `X.Forwarded.Prefix`. Which of two spellings a backend then sees is chance. So spellings that no
//! documentation has are passed on for nobody, as a trusted proxy that sets the right one may let
//! the others through.
//!
//! The names are those of the documentation of Django, Rails, Rack, Spring, Tomcat, Jetty, Symfony,
//! Express, Flask, gunicorn, mod_wsgi and ASP.NET, of the clouds and delivery networks, and of the
//! proxies that log users in.

use super::client_cert::is_of_certificate;
use super::known::{Known, KnownSet};
use super::syntax::is_token;

/// The family, in lower case: by the first letter, those with `x-` by the one after it. A name
/// that ends in `*` stands for all that begin so. Where both `-` and `_` are in use, both are here.
pub const FAMILY: &[&str] = &[
    "auth-user",
    "authuser",
    "cert-chain*",
    "cert_chain*",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ipcountry",
    "cf-pseudo-ipv4",
    "cf-visitor",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "cloudfront-*",
    "disguised-host",
    "do-connecting-ip",
    "fastly-client-ip",
    "fastly-ssl",
    "fly-client-ip",
    "fly-forwarded-*",
    "forwarded-*",
    "front-end-https",
    "http-client-ip",
    "http-x-forwarded-*",
    "http_client_ip",
    "http_x_forwarded_*",
    "incap-client-ip",
    "iv-*",
    "iv_*",
    "ms-aspnetcore-*",
    "oidc-*",
    "oidc_*",
    "path-info",
    "path_info",
    "proxy-auth-cert",
    "proxy-client-ip",
    "proxy-ssl-id",
    "remote-*",
    "remote_*",
    "script-name",
    "script_name",
    "sm-user",
    "sm_user",
    "ssl-*",
    "ssl_*",
    "tailscale-user-*",
    "true-client-ip",
    "was-default-hostname",
    "wl-proxy-*",
    "x-accel-mapping",
    "x-amzn-mtls-*",
    "x-amzn-oidc-*",
    "x-appengine-*",
    "x-appservice-proto",
    "x-arr-*",
    "x-auth-request-*",
    "x-authenticated-*",
    "x-authentik-*",
    "x-azure-*",
    "x-client-cert*",
    "x-client-dn",
    "x-client-ip",
    "x-client-verify",
    "x-cluster-client-ip",
    "x-consumer-*",
    "x-envoy-*",
    "x-forwarded",
    "x-forwarded-*",
    "x-goog-authenticated-user-*",
    "x-goog-iap-jwt-assertion",
    "x-host",
    "x-http-host-override",
    "x-https",
    "x-ingress-path",
    "x-ms-client-principal*",
    "x-ms-token-*",
    "x-nf-client-connection-ip",
    "x-original-for",
    "x-original-forwarded-for",
    "x-original-host",
    "x-original-method",
    "x-original-prefix",
    "x-original-proto",
    "x-original-remote-addr",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-pomerium-*",
    "x-proxied-https",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-remote-*",
    "x-replaced-path",
    "x-request-base",
    "x-rewrite-url",
    "x-scheme",
    "x-script-name",
    "x-sendfile-type",
    "x-ssl-*",
    "x-sucuri-clientip",
    "x-tls-client-*",
    "x-true-client-ip",
    "x-url-scheme",
    "x-vercel-forwarded-for",
    "x-vercel-ip-*",
    "x-vercel-proxied-for",
    "x-vouch-*",
    "x-waws-unencoded-url",
    "x-webauth-*",
];

/// Those of the family that weir writes, where the rest of it is only dropped. `Forwarded` is
/// written where that is asked for.
pub(crate) const WRITTEN: KnownSet = KnownSet::of(&[
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedPort,
    Known::XForwardedProto,
    Known::XRealIp,
]);

/// What this name is to the family: [`Known::Claim`], [`Known::ClaimAlias`], or neither.
pub(super) fn recognise(name: &[u8]) -> Known {
    let mut found = Known::Other;
    for pattern in candidates(name) {
        if is_meant(pattern, name) {
            if is_spelled(pattern, name) {
                return Known::Claim;
            }
            found = Known::ClaimAlias;
        }
    }
    found
}

/// Whether a backend may read two names as one.
#[must_use]
pub(crate) fn is_same_name(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && folded(a).eq(folded(b))
}

fn folded(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    name.iter().map(|&byte| fold(byte))
}

fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'-'
    }
}

fn is_meant(pattern: &str, name: &[u8]) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => {
            let begun = name.get(..start.len());
            begun.is_some_and(|begun| is_same_name(begun, start.as_bytes()))
        }
        None => is_same_name(name, pattern.as_bytes()),
    }
}

/// Whether what separates the words of the name is what separates those of the pattern.
fn is_spelled(pattern: &str, name: &[u8]) -> bool {
    let separator = if pattern.contains('_') { b'_' } else { b'-' };
    let mut bytes = name.iter();
    bytes.all(|&byte| byte.is_ascii_alphanumeric() || byte == separator)
}

/// Rows of letters: those that begin a name, then those that follow `x-`.
const ROWS: usize = 64;

/// Of each row, which letters come next in the family; so most names are known to be no claim
/// by two of their bytes. Of names with `x-` it is the letter of the row itself.
const NEXT: [u32; ROWS] = {
    let mut next = [0; ROWS];
    let mut at = 0;
    while at < FAMILY.len() {
        let (row, bit) = place(FAMILY[at].as_bytes());
        next[row] |= bit;
        at += 1;
    }
    next
};

/// Where each row begins in the family.
const STARTS: [usize; ROWS + 1] = {
    let mut starts = [0; ROWS + 1];
    let mut at = 0;
    let mut row = 0;
    while row <= ROWS {
        starts[row] = at;
        while at < FAMILY.len() && place(FAMILY[at].as_bytes()).0 <= row {
            assert!(place(FAMILY[at].as_bytes()).0 == row, "out of order");
            at += 1;
        }
        row += 1;
    }
    assert!(at == FAMILY.len(), "out of order");
    starts
};

/// The row of a name of three bytes or more, and the bit of its next letter.
const fn place(name: &[u8]) -> (usize, u32) {
    if name[0] & !0x20 == b'X' {
        let letter = name[2] & 31;
        (32 + letter as usize, 1 << letter)
    } else {
        ((name[0] & 31) as usize, 1 << (name[1] & 31))
    }
}

fn candidates(name: &[u8]) -> &'static [&'static str] {
    if name.len() < 3 {
        return &[];
    }
    let (row, bit) = place(name);
    if NEXT[row] & bit == 0 {
        return &[];
    }
    &FAMILY[STARTS[row]..STARTS[row + 1]]
}

/// What an operator adds to the family and takes from it.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    drop: FieldNames,
    keep: FieldNames,
    /// Those to drop that are known by themselves.
    dropped: KnownSet,
    keeps_forwarded: bool,
}

/// Why a name can not be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// It is no token, or one with a `*`, which stands for nothing here.
    Name,
    /// It frames the message, belongs to one connection, or is `Host`.
    Reserved,
    /// weir writes it itself.
    Written,
    /// `Proxy` is dropped from everyone: CGI makes `HTTP_PROXY` of it, which programs take for
    /// their own proxy.
    Proxy,
    /// It is listed already, perhaps with other punctuation.
    Repeated,
}

impl Claims {
    /// Drops the fields of this name as those of the family.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn drop(&mut self, name: &[u8]) -> Result<(), ClaimError> {
        let known = self.check(name)?;
        self.dropped = self.dropped.with(known);
        self.drop.insert(name);
        Ok(())
    }

    /// Passes the fields of this name on like any other; whether the family has it at all.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn keep(&mut self, name: &[u8]) -> Result<bool, ClaimError> {
        let known = self.check(name)?;
        if known == Known::Proxy {
            return Err(ClaimError::Proxy);
        }
        self.keeps_forwarded |= known == Known::Forwarded;
        self.keep.insert(name);
        Ok(KnownSet::of(&[Known::Claim, Known::ClaimAlias, Known::Forwarded]).has(known))
    }

    /// The fields of a client that do not go on, as far as [`Claims::by_name`] is not needed.
    #[must_use]
    pub(crate) fn known(&self, is_trusted: bool) -> KnownSet {
        let mut known = KnownSet::of(&[Known::Proxy]);
        if self.keep.is_empty() {
            known = known.with(Known::ClaimAlias);
        }
        if is_trusted {
            return known;
        }
        if self.keep.is_empty() {
            known = known.with(Known::Claim);
        }
        if !self.keeps_forwarded {
            known = known.with(Known::Forwarded);
        }
        known.and(self.dropped)
    }

    /// Tells of the other fields of a client which do not go on; none when all do.
    #[must_use]
    pub(crate) fn by_name(&self, is_trusted: bool) -> Option<ByName<'_>> {
        let needed = !self.drop.is_empty() || !self.keep.is_empty();
        needed.then_some(ByName {
            claims: self,
            is_trusted,
            is_certificate_known: false,
        })
    }

    /// Whether no trailer of this name goes on, whoever sent it.
    pub(super) fn drops_trailer(&self, name: &[u8]) -> bool {
        self.drop.find(name).is_some()
    }

    /// What the name stands for if it can be listed.
    fn check(&self, name: &[u8]) -> Result<Known, ClaimError> {
        if !is_token(name) || name.contains(&b'*') {
            return Err(ClaimError::Name);
        }
        // A list that names another spelling means the same.
        let hyphened: Vec<u8> = folded(name).collect();
        let known = Known::recognise(&hyphened);
        let reserved = KnownSet::HOP_BY_HOP.and(KnownSet::FRAMING);
        if reserved.with(Known::Host).has(known) {
            Err(ClaimError::Reserved)
        } else if WRITTEN.with(Known::Via).has(known) {
            Err(ClaimError::Written)
        } else if self.drop.find(name).is_some() || self.keep.find(name).is_some() {
            Err(ClaimError::Repeated)
        } else {
            Ok(known)
        }
    }
}

/// See [`Claims::by_name`].
#[derive(Clone, Copy, Debug)]
pub struct ByName<'a> {
    claims: &'a Claims,
    is_trusted: bool,
    is_certificate_known: bool,
}

impl ByName<'_> {
    /// Whether weir knows the client's certificate better than the client says it.
    pub(super) const fn with_known_certificate(self, is_certificate_known: bool) -> Self {
        Self {
            is_certificate_known,
            ..self
        }
    }

    /// A listed name of a trusted proxy passes as it is listed; see the module for why.
    pub(super) fn drops(self, known: Known, name: &[u8]) -> bool {
        if self.is_certificate_known && is_of_certificate(name) {
            return true;
        }
        if known == Known::Other {
            let listed = self.claims.drop.find(name);
            listed.is_some_and(|listed| !self.is_trusted || !listed.eq_ignore_ascii_case(name))
        } else {
            let is_claim = known == Known::Claim && !self.is_trusted;
            (is_claim || known == Known::ClaimAlias) && self.claims.keep.find(name).is_none()
        }
    }
}

/// FieldNames in the order of their folded bytes.
#[derive(Clone, Debug, Default)]
struct FieldNames(Vec<Box<[u8]>>);

impl FieldNames {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn insert(&mut self, name: &[u8]) {
        if let Err(at) = self.place_of(name) {
            self.0.insert(at, name.into());
        }
    }

    /// The listed name that a backend may read as the same.
    fn find(&self, name: &[u8]) -> Option<&[u8]> {
        self.place_of(name).ok().map(|at| &*self.0[at])
    }

    fn place_of(&self, name: &[u8]) -> Result<usize, usize> {
        self.0
            .binary_search_by(|listed| folded(listed).cmp(folded(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_is_recognised_in_any_case() {
        for name in [
            "X-Forwarded-Prefix",
            "x-forwarded-ssl",
            "X-FORWARDED-SCHEME",
            "X-Forwarded-",
            "X-Forwarded",
            "Forwarded-For",
            "Client-IP",
            "True-Client-Ip",
            "Front-End-Https",
            "X-Original-URL",
            "X-Rewrite-Url",
            "Proxy-ssl-id",
            "SSL_CLIENT_S_DN",
            "ssl-client-verify",
            "REMOTE_USER",
            "Remote-User",
            "SCRIPT_NAME",
            "SM_USER",
            "X-ARR-SSL",
            "X-Client-Certificate",
            "authuser",
        ] {
            assert_eq!(recognise(name.as_bytes()), Known::Claim, "{name}");
        }
    }

    #[test]
    fn other_punctuation_is_another_spelling() {
        for name in [
            "X_Forwarded_Prefix",
            "X-Forwarded_Prefix",
            "X.Forwarded.Prefix",
            "x|forwarded~ssl",
            "X_FORWARDED",
            "X-Forwarded-Client_Cert",
            "Client_IP",
            "X_Real_IP",
            "X_Forwarded-For",
            "Front_End_Https",
            "SSL_CLIENT-VERIFY",
            "Remote.User",
        ] {
            assert_eq!(recognise(name.as_bytes()), Known::ClaimAlias, "{name}");
        }
    }

    #[test]
    fn what_clients_send_of_themselves_is_no_claim() {
        for name in [
            "",
            "X",
            "X-",
            "X-F",
            "Accept",
            "Accept-Language",
            "X-Requested-With",
            "X-Request-ID",
            "X-CSRF-Token",
            "X-Auth-Token",
            "X-Auth-User",
            "X-HTTP-Method-Override",
            "X-Client-Version",
            "X-ForwardedFor",
            "XxForwarded-For",
            "X-Forwarder",
            "Sec-Fetch-Site",
            "If-None-Match",
            "Priority",
            "Proxy",
            "Traceparent",
            "Via",
            "CF-Ray",
            "Content_Type",
            "Authority",
            "Referer-Policy",
            "Remote",
        ] {
            assert_eq!(recognise(name.as_bytes()), Known::Other, "{name}");
        }
    }

    #[test]
    fn every_name_of_the_family_is_found() {
        for pattern in FAMILY {
            let name = pattern.replace('*', "any");
            assert_eq!(recognise(name.as_bytes()), Known::Claim, "{pattern}");
            let upper = name.to_ascii_uppercase();
            assert_eq!(recognise(upper.as_bytes()), Known::Claim, "{pattern}");
            if name.contains('-') {
                let alias = name.replace('-', ".");
                assert_eq!(recognise(alias.as_bytes()), Known::ClaimAlias, "{alias}");
            }
        }
    }

    fn drops(claims: &Claims, is_trusted: bool, name: &str) -> bool {
        let known = Known::recognise(name.as_bytes());
        let by_name = claims.by_name(is_trusted);
        claims.known(is_trusted).has(known)
            || by_name.is_some_and(|it| it.drops(known, name.as_bytes()))
    }

    #[test]
    fn a_trusted_proxy_is_believed_as_the_documentation_spells_it() {
        // By nobody, by the untrusted alone, or by all.
        let claims = Claims::default();
        assert!(claims.by_name(false).is_none(), "sets tell all");
        for (name, untrusted, trusted) in [
            ("X-Forwarded-Prefix", true, true),
            ("Forwarded", true, true),
            ("X_Forwarded_Prefix", true, false),
            ("Proxy", true, false),
            ("X-Tenant", false, true),
            ("Cookie", false, true),
        ] {
            assert_eq!(drops(&claims, false, name), untrusted, "{name}");
            assert_eq!(drops(&claims, true, name), !trusted, "{name}");
        }
    }

    #[test]
    fn the_lists_add_and_take_away() {
        let mut claims = Claims::default();
        for name in ["X-Tenant", "User-Agent", "x_org"] {
            assert_eq!(claims.drop(name.as_bytes()), Ok(()));
        }
        assert_eq!(claims.keep(b"x_forwarded_prefix"), Ok(true));
        assert_eq!(claims.keep(b"Forwarded"), Ok(true));
        assert_eq!(claims.keep(b"X-Any"), Ok(false));
        for (name, untrusted, trusted) in [
            ("x-tenant", true, true),
            ("X_Tenant", true, false),
            ("User-Agent", true, true),
            ("User_Agent", true, false),
            ("X_Org", true, true),
            ("X-Org", true, false),
            ("X-Forwarded-Prefix", false, true),
            ("X_Forwarded-Prefix", false, true),
            ("Forwarded", false, true),
            ("X-Forwarded-Ssl", true, true),
            ("X_Forwarded_Ssl", true, false),
            ("X-Tenants", false, true),
            ("Proxy", true, false),
        ] {
            assert_eq!(drops(&claims, false, name), untrusted, "{name}");
            assert_eq!(drops(&claims, true, name), !trusted, "{name}");
        }
        assert!(claims.drops_trailer(b"x_tenant"));
        assert!(!claims.drops_trailer(b"X-Any"));
    }

    #[test]
    fn what_can_not_be_listed_is_refused_with_its_reason() {
        use ClaimError::{Name, Proxy, Repeated, Reserved, Written};
        for (name, dropped, kept) in [
            ("", Err(Name), Err(Name)),
            ("a b", Err(Name), Err(Name)),
            ("X-*", Err(Name), Err(Name)),
            ("Host", Err(Reserved), Err(Reserved)),
            ("Connection", Err(Reserved), Err(Reserved)),
            ("content_length", Err(Reserved), Err(Reserved)),
            ("Transfer-Encoding", Err(Reserved), Err(Reserved)),
            ("Keep.Alive", Err(Reserved), Err(Reserved)),
            ("X-Forwarded-For", Err(Written), Err(Written)),
            ("x_real_ip", Err(Written), Err(Written)),
            ("Via", Err(Written), Err(Written)),
            ("Proxy", Ok(()), Err(Proxy)),
            ("X_Listed", Err(Repeated), Err(Repeated)),
            ("X-Kept", Err(Repeated), Err(Repeated)),
        ] {
            let mut claims = Claims::default();
            claims.drop(b"X-Listed").unwrap();
            claims.keep(b"X_Kept").unwrap();
            assert_eq!(claims.clone().drop(name.as_bytes()), dropped, "{name}");
            let found = claims.keep(name.as_bytes()).map(|_| ());
            assert_eq!(found, kept, "{name}");
        }
    }
}
