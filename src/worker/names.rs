//! Backends that are known by a name: the addresses that the name service gives them.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::core::address::{Address, UnresolvedName};
use crate::core::backend::BackendId;
use crate::core::health::{Health, Verdict};
use crate::net::Net;
use crate::worker::Worker;
use crate::worker::keys::key_of;
use crate::worker::upstreams::assumed;

impl<N: Net> Worker<N> {
    /// Names have been resolved: their backends are as if they had been added with an address.
    pub fn on_resolved(&mut self, names: &[(UnresolvedName, Vec<SocketAddr>)]) {
        let names = names.iter().filter(|(_, addresses)| !addresses.is_empty());
        let names: HashMap<_, _> = names.map(|(name, addresses)| (name, addresses)).collect();
        if names.is_empty() {
            return;
        }
        for index in 0..self.shared.places.len() {
            let place = self.shared.places[index].as_ref();
            let place = place.filter(|place| place.addresses.is_empty());
            let name = place.and_then(|place| UnresolvedName::of(&place.address));
            if let Some(addresses) = name.and_then(|name| names.get(&name)) {
                self.give_addresses(BackendId(key_of(index)), addresses);
            }
        }
    }

    fn give_addresses(&mut self, id: BackendId, addresses: &[SocketAddr]) {
        let place = self.shared.place_mut(id);
        place.addresses = addresses.iter().copied().map(Address::Ip).collect();
        place.current = 0;
        let (upstream, is_first) = (place.upstream, place.is_first);
        let settings = &self.shared.upstreams[upstream as usize].settings;
        let is_up = assumed(settings, is_first) == Verdict::Up;
        if is_up && !self.shared.backends.get(id).health.is_known() {
            let now = self.shared.timers.now;
            self.shared.backends.get_mut(id).health = Health::new(Verdict::Up, now);
            self.shared.refresh_up(id);
        }
        self.shared.take_on(id);
    }
}
