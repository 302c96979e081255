//! What the TLS of a client's connection means for its requests.

use crate::core::http::route::host_name;
use crate::core::http::upstream_request::ClientCertificate;
use crate::core::layer::Secured;
use crate::core::time::Tick;
use crate::net::Net;
use crate::worker::http::parts::Parts;
use crate::worker::http::received::Request;
use crate::worker::listeners::{ListenerState, ListenerTable};
use crate::worker::session::Session;

impl<N: Net> Parts<'_, N> {
    /// Whether the host that is asked for is a site which asks other things of clients than the
    /// one that the connection is for (RFC 9110 section 15.5.20).
    #[cold]
    pub(super) fn is_misdirected(
        &self,
        listeners: &ListenerTable<N>,
        request: Request<'_>,
    ) -> bool {
        let host = host_name(request.host());
        let Some(tls) = &listeners[self.facts.listener].tls else {
            return false;
        };
        if host.is_empty() || !tls.settings().tells_clients_apart() {
            return false;
        }
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        let secured = self.client.secured();
        secured.is_some_and(|secured| tls.settings().is_misdirected(&host, &secured))
    }

    /// Whether other things are asked now of clients that connect than were of this one.
    #[cold]
    pub(super) fn has_old_rules(&self, listeners: &ListenerTable<N>) -> bool {
        let Some(tls) = &listeners[self.facts.listener].tls else {
            return false;
        };
        let tls = tls.settings();
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
