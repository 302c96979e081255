//! What the TLS of a client's connection means for its requests.

use crate::core::http::route::host_name;
use crate::core::http::upstream_request::ClientCertificate;
use crate::core::layer::Secured;
use crate::core::time::Tick;
use crate::net::Net;
use crate::tls::Misdirection;
use crate::worker::http::parts::Parts;
use crate::worker::http::received::Request;
use crate::worker::listeners::{ListenerState, ListenerTable};
use crate::worker::session::Session;

impl<N: Net> Parts<'_, N> {
    /// What is wrong where the host that is asked for may not be asked for over this connection
    /// (RFC 9110 section 15.5.20).
    #[cold]
    pub(super) fn misdirection(
        &self,
        listeners: &ListenerTable<N>,
        request: Request<'_>,
    ) -> Option<&'static str> {
        let host = host_name(request.host());
        let tls = listeners[self.facts.listener].tls.as_ref()?;
        if host.is_empty() || !tls.tells_clients_apart() {
            return None;
        }
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        let found = tls.misdirection(&host, &self.client.secured()?)?;
        Some(match found {
            Misdirection::Unserved => "Host that no certificate is for",
            Misdirection::OtherRules => {
                "Host of a site with other rules for clients than that of the connection"
            }
        })
    }

    /// Whether other things are asked now of clients that connect than were of this one.
    #[cold]
    pub(super) fn has_old_rules(&self, listeners: &ListenerTable<N>) -> bool {
        let Some(tls) = &listeners[self.facts.listener].tls else {
            return false;
        };
        let is_old = |it: Secured<'_>| tls.client_rules(it.name) != it.client_rules;
        tls.tells_clients_apart() && self.client.secured().is_some_and(is_old)
    }

    /// Whether the connection came in the clear, before its listener had TLS.
    #[inline(always)]
    pub(super) fn is_outdated(&self, listeners: &ListenerTable<N>) -> bool {
        listeners[self.facts.listener].tls.is_some() && !self.client.is_secure()
    }

    /// The certificate of the client, if weir knows it.
    pub(super) fn certificate(&self) -> ClientCertificate<'_> {
        match self.client.is_secure() {
            false => ClientCertificate::default(),
            true => self.certificate_of_secured(),
        }
    }

    #[cold]
    fn certificate_of_secured(&self) -> ClientCertificate<'_> {
        let secured = self.client.secured();
        secured.map_or_else(ClientCertificate::default, |it| ClientCertificate {
            is_asked: it.client_rules != 0,
            shown: it.client_certificate,
        })
    }
}

impl<N: Net> Session<N> {
    /// Since when nobody may come as this client does: in the clear, where TLS is asked for now.
    pub(super) fn outdated_since(&self, listener: &ListenerState<N>) -> Option<Tick> {
        let since = listener.secured_since?;
        (!self.client.is_secure()).then_some(since)
    }
}
