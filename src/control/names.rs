//! What is known of the names of backends, which are looked up here for all who serve.

use std::collections::HashSet;
use std::net::SocketAddr;

use log::{info, warn};

use crate::config::model::Config;
use crate::core::address::UnresolvedName;
use crate::wire::messages::ADDRESSES_MAX;

/// The names that a configuration has, each once.
pub(crate) fn of(config: &Config) -> Vec<UnresolvedName> {
    let backends = config.upstreams.iter().flat_map(|it| &it.backends);
    let names = backends.filter_map(|backend| UnresolvedName::of(&backend.address));
    let mut seen = HashSet::new();
    names.filter(|name| seen.insert(name.clone())).collect()
}

/// The names that are wanted, and their addresses.
#[derive(Debug, Default)]
pub(crate) struct Names {
    wanted: Vec<UnresolvedName>,
    known: Vec<(UnresolvedName, Vec<SocketAddr>)>,
    /// Those whose failure is in the log.
    complained: HashSet<UnresolvedName>,
}

impl Names {
    /// Takes over what is known elsewhere of those that are wanted.
    pub(crate) fn inherit(&mut self, known: Vec<(UnresolvedName, Vec<SocketAddr>)>) {
        let wanted: HashSet<_> = self.wanted.iter().collect();
        let known = known.into_iter().filter(|(name, _)| wanted.contains(name));
        self.known = known.collect();
    }

    /// Those that are wanted from now on, each once.
    pub(crate) fn want(&mut self, wanted: Vec<UnresolvedName>) {
        self.wanted = wanted;
        let wanted: HashSet<_> = self.wanted.iter().collect();
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

    /// A name has these addresses. What those who serve are to be told.
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
