//! The TLS of a listener: which certificate a client is shown, and what it is asked for.
//!
//! There may be thousands of certificates, and most clients ask for few of them. So what the
//! library needs for a site is made when the first client asks for it: neither a start nor the
//! renewal of one certificate takes longer for all those that nobody has met.

use std::sync::{Arc, OnceLock};

use ring::digest;
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::CertificateRevocationListDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    UnbufferedServerConnection, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    ConfigBuilder, ServerConfig, SignatureAlgorithm, SignatureScheme, SupportedCipherSuite,
    WantsVerifier,
};

use crate::core::layer::Secured;
use crate::tls::engine::{Connection, Side, certified, crypto, roots, signature_us};
use crate::tls::material::{Certificate, ClientAuth, Identity, ListenerMaterial};
use crate::tls::sites::SiteTable;
use crate::tls::tickets::{self, TicketKeys, Tickets};
use crate::tls::work::{self, Costs};
use crate::tls::{Agreement, Misdirection, ServerParts};

/// The TLS of a listener.
#[derive(Debug)]
pub struct ServerSettings {
    table: SiteTable,
    /// Those of the table, in its order.
    sites: Vec<Site>,
    basis: Basis,
    is_strict: bool,
    tells_clients_apart: bool,
}

/// What one set of names has.
#[derive(Debug)]
struct Site {
    /// Names the rules for clients; 0 if there are none.
    client_rules: u64,
    /// Since a client has asked for it; none where it cannot be made.
    served: OnceLock<Option<Served>>,
}

/// What serves a site.
#[derive(Clone, Debug)]
struct Served {
    config: Arc<ServerConfig>,
    costs: Costs,
}

/// What the sites of a listener are made from.
#[derive(Debug)]
struct Basis {
    listener: String,
    agreement: Agreement,
    material: Arc<ListenerMaterial>,
    builder: ConfigBuilder<ServerConfig, WantsVerifier>,
    /// Those of the material, in its order.
    verifiers: Vec<Arc<dyn ClientCertVerifier>>,
    tickets: Arc<TicketKeys>,
}

impl ServerSettings {
    /// Made once for each configuration. Its tickets are sealed with these keys, unless the
    /// material has others.
    ///
    /// # Errors
    /// What the reading of the material should have refused, in words.
    pub fn new(parts: &ServerParts<'_>, tickets: &Arc<TicketKeys>) -> Result<Self, String> {
        Self::renewed(None, parts, tickets)
    }

    /// The same where most of it is as it was before, which is kept.
    ///
    /// # Errors
    /// As for [`ServerSettings::new`].
    pub fn renewed(
        before: Option<&Self>,
        parts: &ServerParts<'_>,
        tickets: &Arc<TicketKeys>,
    ) -> Result<Self, String> {
        let tickets = tickets_of(before, parts.material, tickets);
        let basis = Basis::new(parts, tickets)?;
        let ListenerMaterial {
            certificates,
            client_auths,
            ..
        } = &**parts.material;
        let rules: Vec<u64> = client_auths.iter().map(rules).collect();
        let table = SiteTable::new(certificates.iter().map(|it| it.names.as_slice()));
        let site = |members: &Vec<u32>| -> Result<Site, String> {
            let auth = basis.client_auth(members)?;
            Ok(Site {
                client_rules: auth.map_or(0, |at| rules[at]),
                served: OnceLock::new(),
            })
        };
        let sites: Vec<Site> = table.sites().iter().map(site).collect::<Result<_, _>>()?;
        let has_rules = sites.iter().any(|site| site.client_rules != 0);
        let settings = Self {
            tells_clients_apart: has_rules || parts.is_strict,
            sites,
            table,
            basis,
            is_strict: parts.is_strict,
        };
        if let Some(before) = before {
            settings.keep_served(before);
        }
        Ok(settings)
    }

    /// Takes on what is served already, and would be made the same.
    fn keep_served(&self, before: &Self) {
        if !self.basis.is_like(&before.basis) {
            return;
        }
        let has_first = !self.sites.is_empty() && !before.sites.is_empty();
        let first = has_first.then_some((0, 0));
        let named = before.table.names().filter_map(|(name, own)| {
            before.sites[own].served.get()?;
            Some((own, self.table.of_name(name)?))
        });
        for (own, site) in first.into_iter().chain(named) {
            let (members, former) = (&self.table.sites()[site], &before.table.sites()[own]);
            // A site has several names, and is looked at once if it is kept.
            if self.sites[site].served.get().is_none()
                && let Some(served) = before.sites[own].served.get()
                && self.basis.are_alike(members, &before.basis, former)
            {
                let _ = self.sites[site].served.set(served.clone());
            }
        }
    }

    /// Whether it was made from just that.
    #[must_use]
    pub fn is_of(&self, parts: &ServerParts<'_>) -> bool {
        let Basis {
            listener,
            agreement,
            material,
            ..
        } = &self.basis;
        self.is_strict == parts.is_strict
            && listener == parts.listener
            && agreement == parts.agreement
            && material == parts.material
    }

    fn site(&self, name: Option<&str>) -> Option<usize> {
        let found = name.and_then(|name| self.table.find(name));
        match found {
            None if self.is_strict => None,
            None => (!self.sites.is_empty()).then_some(0),
            Some(site) => Some(site),
        }
    }

    fn rules_of(&self, site: Option<usize>) -> u64 {
        site.map_or(0, |at| self.sites[at].client_rules)
    }

    fn served(&self, site: usize) -> Option<&Served> {
        let served = &self.sites[site].served;
        let served = served.get_or_init(|| {
            // Whoever has read the material has tried all of it.
            self.basis.serve(&self.table.sites()[site]).ok()
        });
        served.as_ref()
    }

    /// What the cryptography of a handshake with that site is taken to cost, in microseconds: what
    /// [`Layer::work_left_us`] says of its connections before anything has come.
    ///
    /// [`Layer::work_left_us`]: crate::core::layer::Layer::work_left_us
    #[must_use]
    pub fn handshake_us(&self, name: Option<&str>) -> u32 {
        let served = self.site(name).and_then(|site| self.served(site));
        served.map_or(0, |it| it.costs.total_us())
    }

    /// Names the rules for clients of that site; 0 if there are none. They are compared.
    #[must_use]
    pub fn client_rules(&self, name: Option<&str>) -> u64 {
        self.rules_of(self.site(name))
    }

    /// Whether a client may be welcome at one site and not at another.
    #[must_use]
    pub const fn tells_clients_apart(&self) -> bool {
        self.tells_clients_apart
    }

    /// Why a request for this host, in lower case, may not come over that connection, if so.
    #[must_use]
    pub fn misdirection(&self, host: &str, over: &Secured<'_>) -> Option<Misdirection> {
        let asked = self.site(Some(host));
        if asked.is_none() {
            return Some(Misdirection::Unserved);
        }
        // Its own site is served also over a connection from before the rules have changed.
        let own = self.site(over.name);
        let rules = [over.client_rules, self.rules_of(own)];
        let is_alike = own == asked || rules == [self.rules_of(asked); 2];
        (!is_alike).then_some(Misdirection::OtherRules)
    }

    /// The connection of a client that has named this site, or none. Its ClientHello is still to
    /// be given. None where nobody is served under that name.
    #[must_use]
    pub fn accept(&self, name: Option<&str>) -> Option<Connection> {
        let site = self.site(name)?;
        let served = self.served(site)?;
        let tls = UnbufferedServerConnection::new(served.config.clone()).ok()?;
        let mut connection = Connection::new(Side::Server(tls));
        connection.0.name = name.map(Box::from);
        connection.0.client_rules = self.sites[site].client_rules;
        connection.0.costs = served.costs;
        Some(connection)
    }
}

/// The keys of tickets that are given, or else weir's own. They are the same where they are equal:
/// what was sealed with them is served on.
fn tickets_of(
    before: Option<&ServerSettings>,
    material: &ListenerMaterial,
    own: &Arc<TicketKeys>,
) -> Arc<TicketKeys> {
    let given = &material.ticket_keys;
    if given.is_empty() {
        return own.clone();
    }
    let before = before.map(|it| &it.basis);
    match before.filter(|it| it.material.ticket_keys == *given) {
        Some(before) => before.tickets.clone(),
        None => {
            let keys = TicketKeys::default();
            keys.set(given);
            Arc::new(keys)
        }
    }
}

impl Basis {
    fn new(parts: &ServerParts<'_>, tickets: Arc<TicketKeys>) -> Result<Self, String> {
        let (agreement, material) = (parts.agreement, parts.material);
        let crypto = crypto(&agreement.cipher_suites, &[]);
        let verifiers = material.client_auths.iter();
        let verifiers = verifiers.map(|auth| client_verifier(auth, &crypto));
        let versions: &[_] = if agreement.is_tls13_only {
            &[&rustls::version::TLS13]
        } else {
            &[&rustls::version::TLS13, &rustls::version::TLS12]
        };
        Ok(Self {
            listener: parts.listener.to_owned(),
            agreement: agreement.clone(),
            material: material.clone(),
            verifiers: verifiers.collect::<Result<_, _>>()?,
            builder: ServerConfig::builder_with_provider(crypto)
                .with_protocol_versions(versions)
                .map_err(|error| error.to_string())?,
            tickets,
        })
    }

    /// Whether sites of the same certificates are the same.
    fn is_like(&self, other: &Self) -> bool {
        self.listener == other.listener
            && self.agreement == other.agreement
            && Arc::ptr_eq(&self.tickets, &other.tickets)
    }

    /// Whether these certificates are those of another basis, with the same rules for clients.
    fn are_alike(&self, members: &[u32], other: &Self, of_other: &[u32]) -> bool {
        let own = members.iter().map(|&at| self.facts(at));
        own.eq(of_other.iter().map(|&at| other.facts(at)))
    }

    /// All that a certificate is for a site.
    fn facts(&self, at: u32) -> (&Identity, &[String], Option<&ClientAuth>) {
        let of = self.certificate(at);
        let auth = of.client_auth.map(|at| &self.material.client_auths[at]);
        (&of.identity, &of.names, auth)
    }

    fn certificate(&self, at: u32) -> &Certificate {
        &self.material.certificates[at as usize]
    }

    /// Which rules for clients a site has.
    fn client_auth(&self, members: &[u32]) -> Result<Option<usize>, String> {
        let mut auths = members.iter().map(|&at| self.certificate(at).client_auth);
        let auth = auths.next().flatten();
        match auths.any(|other| other != auth) {
            true => Err("certificates of one site ask different things of clients".to_owned()),
            false => Ok(auth),
        }
    }

    fn serve(&self, members: &[u32]) -> Result<Served, String> {
        let keys = members
            .iter()
            .map(|&at| certified(&self.certificate(at).identity));
        let keys = keys.map(|key| key.map(Arc::new));
        let keys: Vec<_> = keys
            .collect::<Result<_, _>>()
            .map_err(|fault| fault.to_string())?;
        let auth = self.client_auth(members)?;
        let builder = self.builder.clone();
        let builder = match auth {
            None => builder.with_no_client_auth(),
            Some(at) => builder.with_client_cert_verifier(self.verifiers[at].clone()),
        };
        let signatures_us = keys.iter().map(|key| signature_us(key));
        let costs = Costs {
            signature_us: signatures_us.max().unwrap_or(0),
            checks_us: auth.map_or(0, |_| work::checks_us_expected(true)),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByAbility(keys)));
        config.alpn_protocols.clone_from(&self.agreement.protocols);
        // The order is ours, the best first: that of a client may be none.
        config.ignore_client_order = true;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // A session that is resumed is not verified again.
        if auth.is_none() {
            config.send_tls13_tickets = 1;
            let names = members.iter().flat_map(|&at| &self.certificate(at).names);
            let purpose = tickets::purpose(&self.listener, names);
            let tickets = Tickets::new(self.tickets.clone(), purpose);
            config.ticketer = Arc::new(Ticketer(tickets));
        }
        let config = Arc::new(config);
        Ok(Served { config, costs })
    }
}

/// A number for what is asked of clients. Never 0.
fn rules(auth: &ClientAuth) -> u64 {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&[u8::from(auth.is_required)]);
    for der in auth.authorities.iter().chain(&auth.revoked) {
        context.update(der);
    }
    let digest = context.finish();
    let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(first) | 1
}

fn client_verifier(
    auth: &ClientAuth,
    crypto: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let revoked = auth.revoked.iter().cloned();
    let builder =
        WebPkiClientVerifier::builder_with_provider(roots(&auth.authorities), crypto.clone())
            .with_crls(revoked.map(CertificateRevocationListDer::from))
            .enforce_revocation_expiration();
    let builder = if auth.is_required {
        builder
    } else {
        builder.allow_unauthenticated()
    };
    builder
        .build()
        .map_err(|error| format!("client certificates cannot be verified: {error}"))
}

/// Picks the first certificate that the client can use.
#[derive(Debug)]
struct ByAbility(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByAbility {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable = self.0.iter().find(|key| fits(key, &hello)).cloned();
        usable.or_else(|| Some(Arc::new(CertifiedKey::new(Vec::new(), Arc::new(NoKey)))))
    }
}

/// What a client is offered that can use no certificate. The library finds that it cannot sign, and
/// says so as RFC 8446 section 4.4.2.2 asks; without a key it would call that its own fault.
#[derive(Debug)]
struct NoKey;

impl SigningKey for NoKey {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        None
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::Anonymous
    }
}

/// Whether a client can verify a certificate: by its signature, and in TLS 1.2 by a suite of its
/// kind.
fn fits(certified: &CertifiedKey, hello: &ClientHello<'_>) -> bool {
    let signs = certified
        .key
        .choose_scheme(hello.signature_schemes())
        .is_some();
    let is_rsa = certified.key.algorithm() == SignatureAlgorithm::RSA;
    let has_suite = provider::ALL_CIPHER_SUITES.iter().any(|suite| {
        let fits = match suite {
            SupportedCipherSuite::Tls13(_) => true,
            SupportedCipherSuite::Tls12(suite) => {
                suite.sign.iter().any(|scheme| is_rsa == is_of_rsa(*scheme))
            }
        };
        fits && hello.cipher_suites().contains(&suite.suite())
    });
    signs && has_suite
}

const fn is_of_rsa(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::RSA_PSS_SHA256
            | SignatureScheme::RSA_PSS_SHA384
            | SignatureScheme::RSA_PSS_SHA512
    )
}

#[derive(Debug)]
struct Ticketer(Tickets);

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        Tickets::lifetime_s()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.seal(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.0.open(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::engine::tests::{certificate, client_auth, keys, listener};
    use crate::tls::material::{Secret, TicketKey};

    /// From what a listener is made.
    #[derive(Clone)]
    struct Made {
        name: &'static str,
        agreement: Agreement,
        material: ListenerMaterial,
        keys: Arc<TicketKeys>,
    }

    impl Made {
        fn renewed(&self, before: Option<&ServerSettings>) -> ServerSettings {
            let parts = ServerParts {
                listener: self.name,
                agreement: &self.agreement,
                is_strict: false,
                material: &Arc::new(self.material.clone()),
            };
            let made = ServerSettings::renewed(before, &parts, &self.keys).expect("good parts");
            assert!(made.is_of(&parts));
            made
        }

        /// What is kept of one from before, when some changes were made.
        fn kept(&self, change: impl FnOnce(&mut Self)) -> Vec<&'static str> {
            const NAMES: [&str; 3] = ["site.example", "two.example", "localhost"];
            let before = self.renewed(None);
            let config = |of: &ServerSettings, name| {
                let served = of.served(of.site(Some(name)).expect("a site"));
                served.expect("it can be served").config.clone()
            };
            let was = NAMES.map(|name| config(&before, name));
            let mut other = self.clone();
            change(&mut other);
            let after = other.renewed(Some(&before));
            let pairs = NAMES.into_iter().zip(&was);
            let kept = pairs.filter(|(name, was)| Arc::ptr_eq(was, &config(&after, name)));
            kept.map(|(name, _)| name).collect()
        }
    }

    fn made() -> Made {
        Made {
            name: "front",
            agreement: Agreement::default(),
            material: listener(&["site", "two"]),
            keys: keys(),
        }
    }

    #[test]
    fn a_site_is_made_for_the_first_who_asks_for_it() {
        let settings = made().renewed(None);
        let count = || {
            settings
                .sites
                .iter()
                .filter(|it| it.served.get().is_some())
                .count()
        };
        assert_eq!(count(), 0);
        for (name, served) in [("two.example", 1), ("two.example", 1), ("x.example", 2)] {
            assert!(settings.accept(Some(name)).is_some());
            assert_eq!(count(), served, "{name}");
        }
    }

    #[test]
    fn a_renewal_keeps_what_is_served_of_certificates_that_are_the_same() {
        const ALL: [&str; 3] = ["site.example", "two.example", "localhost"];
        let own = made();
        assert_eq!(own.kept(|_| {}), ALL);
        assert_eq!(own.kept(|it| it.material.certificates.reverse()), ALL);
        let others = [certificate("client", None), certificate("expired", None)];
        assert_eq!(
            own.kept(|it| it.material.certificates[0] = others[0].clone()),
            ALL[1..2]
        );
        assert_eq!(
            own.kept(|it| it.material.certificates[1] = others[0].clone()),
            [ALL[0], ALL[2]]
        );
        assert_eq!(
            own.kept(|it| it.material.certificates.insert(0, others[0].clone())),
            ALL
        );
        // Another one that is for some of its names.
        let rsa = certificate("site-rsa", None);
        assert_eq!(own.kept(|it| it.material.certificates.push(rsa)), ALL[1..2]);
        // Other names, another chain, other rules.
        assert_eq!(
            own.kept(|it| it.material.certificates[1].names.push("x".into())),
            [ALL[0], ALL[2]]
        );
        let chain = others[1].identity.chain.clone();
        assert_eq!(
            own.kept(|it| it.material.certificates[0].identity.chain.extend(chain)),
            ALL[1..2]
        );
        let none: [&str; 0] = [];
        let changes: [fn(&mut Made); 3] = [
            |it| it.name = "other",
            |it| it.agreement.is_tls13_only = true,
            |it| it.keys = keys(),
        ];
        for change in changes {
            assert_eq!(own.kept(change), none);
        }
    }

    #[test]
    fn a_renewal_keeps_nothing_that_asks_other_things_of_clients() {
        let mut own = made();
        own.material.client_auths = vec![client_auth(true, false), client_auth(false, false)];
        own.material.certificates[1].client_auth = Some(0);
        assert_eq!(own.kept(|_| {}).len(), 3);
        let site = ["site.example", "localhost"];
        let changes: [fn(&mut Made); 4] = [
            |it| it.material.client_auths[0].is_required = false,
            |it| it.material.client_auths[0] = client_auth(true, true),
            |it| it.material.certificates[1].client_auth = Some(1),
            |it| it.material.certificates[1].client_auth = None,
        ];
        for change in changes {
            assert_eq!(own.kept(change), site);
        }
        let moved = own.kept(|it| {
            it.material.client_auths.reverse();
            it.material.certificates[1].client_auth = Some(1);
        });
        assert_eq!(moved.len(), 3);
    }

    #[test]
    fn given_keys_of_tickets_are_the_same_where_they_are_equal() {
        let key = |byte| TicketKey {
            name: [byte; 16],
            secret: Secret::new(vec![byte; 32]),
        };
        let mut own = made();
        own.material.ticket_keys = vec![key(1)];
        assert_eq!(own.kept(|it| it.keys = keys()).len(), 3);
        assert_eq!(own.kept(|it| it.material.ticket_keys.push(key(2))).len(), 0);
        assert_eq!(own.kept(|it| it.material.ticket_keys.clear()).len(), 0);
    }
}
