//! What is known of the names of backends. The supervisor looks them up for all workers.

use std::collections::HashSet;
use std::net::SocketAddr;

use log::{info, warn};

use crate::config::model::Config;
use crate::core::address::UnresolvedName;
use crate::wire::messages::ADDRESSES_MAX;

/// The names that the configuration has.
#[derive(Debug, Default)]
pub(crate) struct Names {
    wanted: Vec<UnresolvedName>,
    known: Vec<(UnresolvedName, Vec<SocketAddr>)>,
    /// Those whose failure is in the log.
    complained: HashSet<UnresolvedName>,
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
        let names = backends.filter_map(|backend| UnresolvedName::of(&backend.address));
        let mut wanted = HashSet::new();
        self.wanted = names.filter(|name| wanted.insert(name.clone())).collect();
        self.known.retain(|(name, _)| wanted.contains(name));
        self.complained.retain(|name| wanted.contains(name));
    }

    /// Those that have no address yet.
    pub(crate) fn unresolved(&self) -> Vec<UnresolvedName> {
        let known: HashSet<_> = self.known.iter().map(|(name, _)| name).collect();
        let unresolved = self.wanted.iter().filter(|name| !known.contains(name));
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
        self.complained.remove(&name);
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
        self.complained.insert(name);
    }
}
