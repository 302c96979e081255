//! A worker as its supervisor sees it.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::warn;

use crate::core::slots::Slots;
use crate::core::time::Tick;
use crate::sys::channel::{Arrival, Channel, MESSAGE_DESCRIPTORS_MAX};
use crate::tls::material::Secret;
use crate::wire::messages::{WorkerOrder, WorkerReport};

/// Orders that a worker has not read, at most. One that lets so many wait is given up.
const WAITING_MAX: usize = 1024;

/// How far a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkerPhase {
    /// It was started and has not said that it serves.
    Starting,
    /// It serves.
    Serving,
    /// It was told to end.
    Leaving,
}

/// A worker process.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    /// Tells it from others; the key of its channel's events.
    pub(crate) key: u32,
    pub(crate) pid: u32,
    /// Which of the workers it is, from 0: names it in the log.
    pub(crate) number: usize,
    /// Its row on the board; none when it is on another board than ours.
    pub(crate) row: Option<u8>,
    pub(crate) phase: WorkerPhase,
    /// When it was started.
    pub(crate) since: Tick,
    /// The configuration that it was started with.
    pub(crate) round: u32,
    /// The kernel has stopped it.
    pub(crate) stopped: bool,
    /// It does not turn.
    pub(crate) stuck: bool,
    /// Whether the others accept for it, and that has been counted.
    pub(crate) is_relieved: bool,
    channel: Option<Channel>,
    waiting: VecDeque<(Secret, Vec<OwnedFd>)>,
    /// Sockets that it was given.
    sockets: HashSet<u32>,
    accepts: Option<Slots>,
}

impl WorkerHandle {
    pub(crate) fn new(
        key: u32,
        pid: u32,
        number: usize,
        row: Option<u8>,
        channel: Channel,
        now: Tick,
    ) -> Self {
        Self {
            key,
            pid,
            number,
            row,
            phase: WorkerPhase::Starting,
            since: now,
            round: 0,
            stopped: false,
            stuck: false,
            is_relieved: false,
            channel: Some(channel),
            waiting: VecDeque::new(),
            sockets: HashSet::new(),
            accepts: None,
        }
    }

    /// Whether clients in its accept queues are being served.
    pub(crate) fn is_well(&self) -> bool {
        self.phase == WorkerPhase::Serving && !self.stopped && !self.stuck
    }

    /// What it is called in a verdict.
    pub(crate) fn name(&self) -> String {
        format!("worker {} (process {})", self.number, self.pid)
    }

    pub(crate) fn channel(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref().map(AsFd::as_fd)
    }

    /// Sends an order, or keeps it until the worker has read earlier ones.
    pub(crate) fn send(&mut self, order: &WorkerOrder) {
        self.send_with(order, &[]);
    }

    /// The same with descriptors.
    pub(crate) fn send_with(&mut self, order: &WorkerOrder, descriptors: &[BorrowedFd<'_>]) {
        let bytes = order.encode();
        if self.waiting.is_empty() && self.try_send(bytes.bytes(), descriptors) {
            return;
        }
        let owned: io::Result<Vec<OwnedFd>> = descriptors
            .iter()
            .map(BorrowedFd::try_clone_to_owned)
            .collect();
        match owned {
            Ok(owned) if self.waiting.len() < WAITING_MAX => self.waiting.push_back((bytes, owned)),
            Ok(_) | Err(_) => {
                warn!(
                    "worker {}: it does not read its orders; given up",
                    self.number
                );
                self.give_up();
            }
        }
    }

    /// Sends what waits.
    pub(crate) fn flush(&mut self) {
        while let Some((bytes, descriptors)) = self.waiting.pop_front() {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            if !self.try_send(bytes.bytes(), &borrowed) {
                self.waiting.push_front((bytes, descriptors));
                return;
            }
        }
    }

    /// Whether orders wait to be read.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether it is done with: a channel that is closed takes everything.
    fn try_send(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> bool {
        let Some(channel) = &self.channel else {
            return true;
        };
        match channel.send(bytes, descriptors) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // It has gone, which is heard of in another way.
            Err(_) => {
                self.channel = None;
                true
            }
        }
    }

    /// Gives it those of these sockets that it does not have.
    pub(crate) fn give_sockets<'a>(&mut self, all: impl Iterator<Item = (u32, BorrowedFd<'a>)>) {
        let all: Vec<_> = all.collect();
        self.sockets
            .retain(|known| all.iter().any(|(id, _)| id == known));
        let is_new = |(id, _): &(u32, _)| self.sockets.insert(*id);
        let new: Vec<_> = all.into_iter().filter(is_new).collect();
        for chunk in new.chunks(MESSAGE_DESCRIPTORS_MAX) {
            let (ids, fds): (Vec<u32>, Vec<BorrowedFd<'_>>) = chunk.iter().copied().unzip();
            self.send_with(&WorkerOrder::Sockets(ids), &fds);
        }
    }

    /// The sockets that it was given, by number.
    pub(crate) fn sockets_given(&self) -> impl Iterator<Item = u32> {
        self.sockets.iter().copied()
    }

    /// It was given these by an earlier supervisor.
    pub(crate) fn set_sockets_given(&mut self, ids: Vec<u32>) {
        self.sockets.extend(ids);
    }

    /// Tells it which slots to accept from, unless it knows.
    pub(crate) fn accept_from(&mut self, slots: Slots) {
        if self.accepts != Some(slots) {
            self.accepts = Some(slots);
            self.send(&WorkerOrder::Accept(slots));
        }
    }

    /// The next thing that it says.
    pub(crate) fn next_report(&mut self) -> Option<WorkerReport> {
        loop {
            match self.channel.as_ref()?.receive() {
                Arrival::Packet(packet) => match WorkerReport::decode(&packet.bytes) {
                    Some(report) => return Some(report),
                    None => warn!("worker {}: says what cannot be understood", self.number),
                },
                Arrival::Nothing => return None,
                Arrival::Closed => {
                    self.channel = None;
                    return None;
                }
            }
        }
    }

    /// Ends it without mercy; its end is heard of in another way.
    pub(crate) fn give_up(&mut self) {
        self.waiting.clear();
        // It fails only for a process that has already gone.
        let _ = crate::sys::child::send(self.pid, crate::sys::child::Send::Kill);
    }
}
