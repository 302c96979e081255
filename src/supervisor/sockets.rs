//! The listening sockets of all workers: one per TCP listener and slot; one for all per Unix
//! listener, or where a service manager has opened it.
//!
//! The supervisor keeps them for as long as the configuration names the listener, whatever becomes
//! of workers, so that nothing in an accept queue is lost.

use std::os::fd::{AsFd, BorrowedFd};

use crate::config::model::{Config, Listener as Settings};
use crate::control::listen::{announce, listen_at};
use crate::core::address::Address;
use crate::sys::socket::ListenerSocket;
use crate::wire::bundle::SocketRef;

/// An open socket.
#[derive(Debug)]
pub(crate) struct HeldSocket {
    pub(crate) at: SocketRef,
    pub(crate) listener: ListenerSocket,
}

/// The sockets of one listener.
#[derive(Debug)]
pub(crate) struct ListenerEntry {
    /// What the listener is known by: its name on the board.
    pub(crate) key: String,
    /// Where it was asked to be.
    pub(crate) address: Address,
    pub(crate) sockets: Vec<HeldSocket>,
}

/// All sockets.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) entries: Vec<ListenerEntry>,
    pub(crate) next_id: u32,
}

/// Sockets that were opened for a configuration that is not in use yet.
#[derive(Debug)]
pub(crate) struct Fresh(Vec<ListenerEntry>);

impl Sockets {
    /// Opens what `config` needs with so many slots, and is not there. Changes nothing yet.
    ///
    /// # Errors
    /// The first listener that cannot be opened, and why.
    pub(crate) fn open_missing(&mut self, config: &Config, slots: u8) -> Result<Fresh, String> {
        let mut fresh = Vec::new();
        for settings in &config.listeners {
            let entry = self.open_listener(settings, slots)?;
            if !entry.sockets.is_empty() {
                fresh.push(entry);
            }
        }
        Ok(Fresh(fresh))
    }

    fn open_listener(&mut self, settings: &Settings, slots: u8) -> Result<ListenerEntry, String> {
        let key = settings.column_name();
        let known = self.entries.iter().find(|entry| entry.key == key);
        let present = known.map_or(0, |entry| entry.sockets.len());
        let first = known.and_then(|entry| entry.sockets.first());
        // Where the kernel chose the port, the others share it.
        let mut bound = first.and_then(|held| held.listener.local_address());
        let is_shared = first.is_some_and(|held| held.at.slot.is_none());
        let slots = match &settings.address {
            Address::Ip(_) if !is_shared => (0..slots).map(Some).collect(),
            Address::Ip(_) | Address::Unix(_) => vec![None],
        };
        let mut sockets = Vec::new();
        for slot in slots.into_iter().skip(present) {
            let address = bound.map_or_else(|| settings.address.clone(), Address::Ip);
            let opened = listen_at(settings, &address);
            let listener = opened.map_err(|refusal| refusal.message)?;
            if bound.is_none() {
                announce(settings, &listener);
                bound = listener.local_address();
            }
            let id = self.next_id;
            self.next_id = self.next_id.wrapping_add(1);
            let at = SocketRef { slot, id };
            sockets.push(HeldSocket { at, listener });
        }
        Ok(ListenerEntry {
            key,
            address: settings.address.clone(),
            sockets,
        })
    }

    /// Takes a socket over that was opened elsewhere; all workers accept from it.
    pub(crate) fn take(&mut self, settings: &Settings, listener: ListenerSocket) {
        let at = SocketRef {
            slot: None,
            id: self.next_id,
        };
        self.next_id = self.next_id.wrapping_add(1);
        self.entries.push(ListenerEntry {
            key: settings.column_name(),
            address: settings.address.clone(),
            sockets: vec![HeldSocket { at, listener }],
        });
    }

    /// Keeps what was opened, and closes what `config` does not name.
    pub(crate) fn commit(&mut self, config: &Config, fresh: Fresh) {
        self.keep(fresh);
        self.close_unnamed(config);
    }

    /// Keeps what was opened.
    pub(crate) fn keep(&mut self, fresh: Fresh) {
        for mut entry in fresh.0 {
            match self.entries.iter_mut().find(|it| it.key == entry.key) {
                Some(known) => known.sockets.append(&mut entry.sockets),
                None => self.entries.push(entry),
            }
        }
    }

    /// Closes what `config` does not name.
    pub(crate) fn close_unnamed(&mut self, config: &Config) {
        let keys: Vec<String> = config.listeners.iter().map(Settings::column_name).collect();
        for gone in self
            .entries
            .extract_if(.., |entry| !keys.contains(&entry.key))
        {
            close(gone);
        }
    }

    /// The sockets of each listener, in the order of the configuration.
    pub(crate) fn of(&self, config: &Config) -> Vec<Vec<SocketRef>> {
        self.of_with(config, &Fresh(Vec::new()))
    }

    /// The same once those are kept that were opened for it.
    pub(crate) fn of_with(&self, config: &Config, fresh: &Fresh) -> Vec<Vec<SocketRef>> {
        let sockets = |settings: &Settings| {
            let key = settings.column_name();
            let entries = self.entries.iter().chain(&fresh.0);
            let named = entries.filter(|entry| entry.key == key);
            let held = named.flat_map(|entry| &entry.sockets);
            held.map(|held| held.at).collect()
        };
        config.listeners.iter().map(sockets).collect()
    }

    /// Every socket with its number.
    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, BorrowedFd<'_>)> {
        let held = self.entries.iter().flat_map(|entry| &entry.sockets);
        held.map(|held| (held.at.id, held.listener.as_fd()))
    }

    /// Slots for which there are sockets.
    pub(crate) fn slots(&self) -> u8 {
        let held = self.entries.iter().flat_map(|entry| &entry.sockets);
        let slots = held.filter_map(|held| held.at.slot);
        slots.max().map_or(0, |last| last.saturating_add(1))
    }

    /// Closes our copies of those that each belong to one worker, who empties and closes its own.
    pub(crate) fn close_slots(&mut self) {
        for entry in &mut self.entries {
            entry.sockets.retain(|held| held.at.slot.is_none());
        }
    }

    /// Closes all, and removes the files of Unix sockets.
    pub(crate) fn close_all(&mut self) {
        self.entries.drain(..).for_each(close);
    }
}

fn close(entry: ListenerEntry) {
    for held in entry.sockets {
        held.listener.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(text: &str) -> Config {
        let compiled = config::compile("f", text, &mut |_| Ok(Vec::new()));
        compiled.expect("good").config
    }

    fn adopt(sockets: &mut Sockets, config: &Config, slots: u8) {
        let fresh = sockets.open_missing(config, slots).expect("free ports");
        sockets.commit(config, fresh);
    }

    fn ports(sockets: &Sockets) -> Vec<u16> {
        let held = sockets.entries.iter().flat_map(|entry| &entry.sockets);
        let address = |held: &HeldSocket| held.listener.local_address();
        held.filter_map(address).map(|it| it.port()).collect()
    }

    #[test]
    fn every_slot_has_a_socket_on_the_same_port_and_keeps_it() {
        let one = config("listen: 127.0.0.1:0\nname: x\nbackends: [a:1]\n");
        let mut sockets = Sockets::default();
        adopt(&mut sockets, &one, 3);
        let before = sockets.of(&one);
        let slots: Vec<_> = before[0].iter().map(|it| it.slot).collect();
        assert_eq!(slots, [Some(0), Some(1), Some(2)]);
        let first = ports(&sockets)[0];
        adopt(&mut sockets, &one, 4);
        assert_eq!(sockets.of(&one)[0][..3], before[0]);
        assert_eq!(ports(&sockets), [first; 4]);
        assert_eq!(sockets.slots(), 4);
    }

    #[test]
    fn what_is_no_longer_named_is_closed_and_what_cannot_be_opened_changes_nothing() {
        let one = config("listen: 127.0.0.1:0\nname: x\nbackends: [a:1]\n");
        let mut sockets = Sockets::default();
        adopt(&mut sockets, &one, 2);
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("bound");
        let bad = config(&format!("listen: {address}\nname: y\nbackends: [a:1]\n"));
        let error = sockets.open_missing(&bad, 2).expect_err("taken");
        assert!(error.contains("another program listens there"), "{error}");
        assert_eq!(ports(&sockets).len(), 2);
        let other = config("listen: 127.0.0.1:0\nname: z\nbackends: [a:1]\n");
        adopt(&mut sockets, &other, 2);
        assert_eq!(sockets.of(&one), [vec![]]);
        assert_eq!(sockets.of(&other)[0].len(), 2);
    }

    #[test]
    fn a_unix_listener_has_one_socket_for_all() {
        let path = std::env::temp_dir().join(format!("weir-sockets-{}", std::process::id()));
        let unix = config(&format!(
            "listen: unix:{}\nbackends: [a:1]\n",
            path.display()
        ));
        let mut sockets = Sockets::default();
        adopt(&mut sockets, &unix, 4);
        assert_eq!(sockets.of(&unix)[0].len(), 1);
        assert_eq!(sockets.of(&unix)[0][0].slot, None);
        sockets.close_slots();
        assert!(path.exists());
        sockets.close_all();
        assert!(!path.exists());
    }
}
