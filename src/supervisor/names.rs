//! What is known of the names of backends. The supervisor looks them up for all workers.

use std::net::SocketAddr;

use log::{info, warn};

use crate::config::model::Config;
use crate::core::address::BackendAddress;
use crate::supervisor::messages::ADDRESSES_MAX;
use crate::worker::UnresolvedName;

/// The names that the configuration has.
#[derive(Debug, Default)]
pub(crate) struct Names {
    wanted: Vec<UnresolvedName>,
    known: Vec<(UnresolvedName, Vec<SocketAddr>)>,
    /// Those whose failure is in the log.
    complained: Vec<UnresolvedName>,
}

impl Names {
    /// Takes over what an earlier supervisor knew.
    pub(crate) fn with(known: Vec<(UnresolvedName, Vec<SocketAddr>)>) -> Self {
        Self {
            known,
            ..Self::default()
        }
    }

    /// Those that `config` has from now on.
    pub(crate) fn adopt(&mut self, config: &Config) {
        let backends = config.upstreams.iter().flat_map(|it| &it.backends);
        self.wanted.clear();
        for backend in backends {
            let BackendAddress::Name { host, port } = &backend.address else {
                continue;
            };
            let name = UnresolvedName {
                host: host.clone(),
                port: *port,
            };
            if !self.wanted.contains(&name) {
                self.wanted.push(name);
            }
        }
        self.known.retain(|(name, _)| self.wanted.contains(name));
        self.complained.retain(|name| self.wanted.contains(name));
    }

    /// Those that have no address yet.
    pub(crate) fn unresolved(&self) -> Vec<UnresolvedName> {
        let is_known = |name: &UnresolvedName| self.known.iter().any(|(known, _)| known == name);
        let unresolved = self.wanted.iter().filter(|name| !is_known(name));
        unresolved.cloned().collect()
    }

    /// Those that have, with their addresses.
    pub(crate) fn known(&self) -> &[(UnresolvedName, Vec<SocketAddr>)] {
        &self.known
    }

    /// A name has these addresses. What workers are to be told.
    pub(crate) fn on_resolved(
        &mut self,
        name: UnresolvedName,
        mut addresses: Vec<SocketAddr>,
    ) -> Option<(UnresolvedName, Vec<SocketAddr>)> {
        addresses.truncate(ADDRESSES_MAX);
        let first = addresses.first()?;
        info!("backend name {} resolved: {}", name.host, first.ip());
        self.complained.retain(|known| *known != name);
        self.known.retain(|(known, _)| *known != name);
        self.known.push((name.clone(), addresses.clone()));
        Some((name, addresses))
    }

    /// A name has no address for now.
    pub(crate) fn on_unresolved(&mut self, name: UnresolvedName, reason: &str) {
        if self.complained.contains(&name) {
            return;
        }
        warn!(
            "backend name {} does not resolve: {reason}; it is down and will be tried again",
            name.host
        );
        self.complained.push(name);
    }
}
