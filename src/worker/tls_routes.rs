//! Where connections go that stay encrypted, in the form that sessions use.

use crate::config::model;
use crate::core::client_hello::{BadHello, ClientHello};
use crate::core::opening::Refusal;
use crate::core::tls_route::{TlsRouteTable, TlsRule};
use crate::worker::keys::UpstreamSlot;

/// The oldest version that is decrypted, TLS 1.2.
const VERSION_MIN: u16 = 0x0303;

/// Where a connection goes whose ClientHello was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To this upstream, as it is.
    PassThrough(UpstreamSlot),
    /// Nowhere before it is decrypted, which is done here.
    Terminate,
    /// Nowhere.
    Refuse(Refusal),
}

/// The routes by name and protocol of one listener.
#[derive(Debug, Default)]
pub(crate) struct TlsRoutes {
    table: TlsRouteTable,
    /// Where each of them leads.
    upstreams: Vec<UpstreamSlot>,
}

impl TlsRoutes {
    /// Those of the configuration; `upstreams` gives the slot of each of its upstreams.
    pub(crate) fn new(routes: &[model::TlsRoute], upstreams: &[UpstreamSlot]) -> Self {
        let rule = |route: &model::TlsRoute| TlsRule {
            host: route.host.clone(),
            alpn: route.alpn.clone(),
        };
        let rules: Vec<TlsRule> = routes.iter().map(rule).collect();
        Self {
            table: TlsRouteTable::new(&rules),
            upstreams: routes.iter().map(|it| upstreams[it.upstream]).collect(),
        }
    }

    /// Where a connection goes whose client says this. `terminates` is whether those are decrypted
    /// that no route takes.
    pub(crate) fn destination(&self, hello: &ClientHello, terminates: bool) -> Destination {
        match self.table.find(hello) {
            Ok(route) => Destination::PassThrough(self.upstreams[route]),
            Err(_) if terminates && hello.version < VERSION_MIN => {
                Destination::Refuse(Refusal::Hello(BadHello::Version))
            }
            Err(_) if terminates && hello.renegotiates => {
                Destination::Refuse(Refusal::Hello(BadHello::Renegotiation))
            }
            Err(_) if terminates => Destination::Terminate,
            Err(why) => Destination::Refuse(Refusal::Unrouted(why)),
        }
    }

    /// Whether a route leads to this upstream.
    pub(crate) fn leads_to(&self, upstream: UpstreamSlot) -> bool {
        self.upstreams.contains(&upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::http::route::HostPattern;

    #[test]
    fn a_renegotiation_is_refused_where_it_is_decrypted_and_passed_through_elsewhere() {
        let route = |host: &str| model::TlsRoute {
            host: HostPattern::Exact(host.into()),
            alpn: None,
            upstream: 0,
        };
        let hello = |name: &str, renegotiates| ClientHello {
            server_name: Some(name.into()),
            version: VERSION_MIN,
            renegotiates,
            ..ClientHello::default()
        };
        let routes = TlsRoutes::new(&[route("db.example")], &[7]);
        let refused = Destination::Refuse(Refusal::Hello(BadHello::Renegotiation));
        for (name, renegotiates, wanted) in [
            ("db.example", false, Destination::PassThrough(7)),
            ("db.example", true, Destination::PassThrough(7)),
            ("a.example", false, Destination::Terminate),
            ("a.example", true, refused),
        ] {
            let found = routes.destination(&hello(name, renegotiates), true);
            assert_eq!(found, wanted, "{name} {renegotiates}");
        }
    }
}
