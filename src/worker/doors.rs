//! The listening sockets of a listener.
//!
//! A process on its own has one for each listener. Several processes have one each for a TCP
//! listener, known by its slot, and hold those of the others too: unwatched, until they are asked
//! to accept from them because nobody else does.

use std::io;

use log::{debug, error};

use crate::core::slots::Slots;
use crate::net::{Kind, Net, Target};
use crate::worker::Worker;
use crate::worker::keys::{ListenerSlot, key_of};
use crate::worker::shared::Listener;

/// A listening socket for a worker.
#[derive(Debug)]
pub struct Opened<L> {
    /// Its slot; none for one that every worker always accepts from.
    pub slot: Option<u8>,
    /// The socket.
    pub socket: L,
}

/// A listening socket of a listener.
pub(crate) struct Door<N: Net> {
    socket: N::Listener,
    slot: Option<u8>,
    /// Of its present or last watch.
    generation: u32,
    watched: bool,
    /// Something may be in its queue.
    ready: bool,
}

/// The sockets of one listener; none once it no longer accepts.
pub(crate) struct Doors<N: Net>(Vec<Door<N>>);

impl<N: Net> Doors<N> {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.0.iter().any(|door| door.ready)
    }

    /// A socket in whose queue there may be something.
    pub(crate) fn ready(&self) -> Option<(usize, &N::Listener)> {
        let at = self.0.iter().position(|door| door.ready)?;
        Some((at, &self.0[at].socket))
    }

    /// The queue of a socket is empty.
    pub(crate) fn on_blocked(&mut self, at: usize) {
        self.0[at].ready = false;
    }

    /// Something has arrived; whether a socket is watched under that generation.
    pub(crate) fn mark(&mut self, generation: u32) -> bool {
        let mut doors = self.0.iter_mut();
        let door = doors.find(|door| door.watched && door.generation == generation);
        door.map(|door| door.ready = true).is_some()
    }

    /// Nobody new comes into any queue.
    pub(crate) fn admit_no_more(&mut self, net: &mut N) {
        for door in &mut self.0 {
            net.admit_no_more(&mut door.socket);
        }
    }

    /// Every queue that is ours to empty is looked at once more.
    pub(crate) fn mark_all(&mut self) {
        for door in &mut self.0 {
            door.ready = door.watched;
        }
    }
}

impl<N: Net> Worker<N> {
    /// Accepts from the sockets in these slots, and no more from others.
    pub fn accept_from(&mut self, slots: Slots) {
        self.shared.slots = slots;
        for key in 0..self.shared.listeners.len() {
            for at in 0..self.shared.listeners[key].doors.0.len() {
                if let Err(error) = self.settle_door(key_of(key), at) {
                    let name = &self.shared.listeners[key].name;
                    error!("listener {name}: cannot watch a socket: {error}");
                }
            }
        }
    }

    /// Gives a listener a socket; the generation by which it can be taken back.
    pub(crate) fn add_door(
        &mut self,
        key: ListenerSlot,
        opened: Opened<N::Listener>,
    ) -> io::Result<u32> {
        let generation = self.shared.io.next_generation();
        let listener = &mut self.shared.listeners[key as usize];
        // Asked here, once, and not for each connection.
        listener.port = self.shared.io.net.listening_port(&opened.socket);
        let doors = &mut listener.doors;
        doors.0.push(Door {
            socket: opened.socket,
            slot: opened.slot,
            generation,
            watched: false,
            ready: false,
        });
        let at = doors.0.len() - 1;
        if let Err(error) = self.settle_door(key, at) {
            self.close_door(key, at);
            return Err(error);
        }
        Ok(self.shared.listeners[key as usize].doors.0[at].generation)
    }

    /// Takes back a socket that was given.
    pub(crate) fn remove_door(&mut self, key: ListenerSlot, generation: u32) {
        let doors = &self.shared.listeners[key as usize].doors.0;
        if let Some(at) = doors.iter().position(|door| door.generation == generation) {
            self.close_door(key, at);
        }
    }

    /// Closes the sockets of a listener that are not ours to empty.
    pub(crate) fn close_unwatched(&mut self, key: ListenerSlot) {
        for at in (0..self.shared.listeners[key as usize].doors.0.len()).rev() {
            if !self.shared.listeners[key as usize].doors.0[at].watched {
                self.close_door(key, at);
            }
        }
    }

    /// Closes all sockets of a listener.
    pub(crate) fn close_doors(&mut self, key: ListenerSlot) {
        while let Some(last) = self.shared.listeners[key as usize]
            .doors
            .0
            .len()
            .checked_sub(1)
        {
            self.close_door(key, last);
        }
    }

    fn close_door(&mut self, key: ListenerSlot, at: usize) {
        let listener = &mut self.shared.listeners[key as usize];
        let door = listener.doors.0.swap_remove(at);
        if !listener.doors.is_open() {
            debug!("listener {} closed", listener.name);
        }
        self.shared.io.net.stop_listening(door.socket);
    }

    /// Watches a socket or not, as its slot asks.
    fn settle_door(&mut self, key: ListenerSlot, at: usize) -> io::Result<()> {
        let slots = self.shared.slots;
        let door = &self.shared.listeners[key as usize].doors.0[at];
        let is_ours = door.slot.is_none_or(|slot| slots.has(slot));
        if is_ours == door.watched {
            return Ok(());
        }
        let generation = self.shared.io.next_generation();
        let Listener { doors, .. } = &mut self.shared.listeners[key as usize];
        let door = &mut doors.0[at];
        let net = &mut self.shared.io.net;
        if is_ours {
            let target = Target {
                kind: Kind::Listener,
                key,
                generation,
            };
            net.watch_listener(&door.socket, target)?;
            door.generation = generation;
        } else {
            net.unwatch_listener(&door.socket);
            door.ready = false;
        }
        door.watched = is_ours;
        Ok(())
    }
}
