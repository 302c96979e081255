//! Backends that are known by a name: the addresses that the name service gives them.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::core::address::{Address, UnresolvedName};
use crate::core::backend::BackendId;
use crate::core::health::{Health, Verdict};
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::adopt_upstreams::assumed;
use crate::worker::keys::key_of;

impl<N: Net> Worker<N> {
    /// Names have been resolved: their backends are as if they had been added with an address.
    pub fn on_resolved(&mut self, names: &[(UnresolvedName, Vec<SocketAddr>)]) {
        let names = names.iter().filter(|(_, addresses)| !addresses.is_empty());
        let names: HashMap<_, _> = names.map(|(name, addresses)| (name, addresses)).collect();
        if names.is_empty() {
            return;
        }
        for index in 0..self.shared.upstreams.entries.len() {
            let entry = self.shared.upstreams.entries[index].as_ref();
            let entry = entry.filter(|entry| entry.addresses.is_empty());
            let name = entry.and_then(|entry| UnresolvedName::of(&entry.address));
            if let Some(addresses) = name.and_then(|name| names.get(&name)) {
                self.give_addresses(BackendId(key_of(index)), addresses);
            }
        }
    }

    fn give_addresses(&mut self, id: BackendId, addresses: &[SocketAddr]) {
        let entry = self.shared.upstreams.entry_mut(id);
        entry.addresses = addresses.iter().copied().map(Address::Ip).collect();
        entry.current = 0;
        let (upstream, is_first) = (entry.upstream, entry.is_first);
        let settings = &self.shared.upstreams[upstream].settings;
        let is_up = assumed(settings, is_first) == Verdict::Up;
        if is_up && !self.shared.upstreams.backends.get(id).health.is_known() {
            let now = self.shared.timers.now;
            self.shared.upstreams.backends.get_mut(id).health = Health::new(Verdict::Up, now);
            self.shared.upstreams.refresh_up(&self.shared.board, id);
        }
        self.shared
            .upstreams
            .adopt_backend(&self.shared.board, &mut self.shared.timers, id);
    }
}
