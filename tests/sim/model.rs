//! The peers of a drawn scenario and what each may see.
//!
//! Every stream names its sender in its first bytes, and each further byte follows from the
//! sender and its place. So whoever receives it knows whose it is, and that nothing was lost,
//! doubled, reordered or mixed, without being told who was connected to whom.

use weir::net::Kind;

use crate::net::{PeerId, World};
use crate::scenario::Draw;

const TAG_BYTES: usize = 4;

/// Pieces that a stream is sent in, about.
const PIECES_MAX: usize = 200;

/// How a peer ends what it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Ends its direction once all is sent.
    HalfClose,
    /// Ends its direction once the other has ended its own.
    Linger,
    /// Closes once all is sent, whatever may still come.
    Close,
    /// Resets once all is sent.
    Reset,
}

/// What has become of a peer's sending direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Open,
    Ended,
    Reset,
}

/// The far end of a connection and its script.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    is_client: bool,
    /// Bytes to send in all, and sent so far.
    length: usize,
    sent: usize,
    chunk_max: usize,
    gap_ms: u64,
    next_at: u64,
    /// Speaks only after it was spoken to.
    waits: bool,
    ending: Ending,
    sending: Sending,
    /// Stops reading at the first tick, goes on at the second.
    stall: Option<(u64, u64)>,
    is_stalled: bool,
    /// Bytes received that were found good.
    checked: usize,
    source: Option<usize>,
    saw_end: bool,
}

/// All peers, and how much happened that explains what they see.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) peers: Vec<Peer>,
    /// Those that may still send or receive, by their place.
    live: Vec<usize>,
    length_max: usize,
    /// Connections that a peer reset, or closed with the other direction open.
    pub(crate) broken: u64,
    /// Those of them that were closed before anything was said.
    pub(crate) closed_at_once: u64,
    /// Clean ends that a client saw although its stream had no such end.
    pub(crate) early_ends: u64,
    /// Clean ends that a backend saw likewise, after some bytes.
    pub(crate) early_ends_at_backends: u64,
    /// Probes that are to be answered with a failure.
    pub(crate) is_sick: bool,
}

impl Peer {
    fn tag(index: usize, is_client: bool) -> u32 {
        let index = u32::try_from(index).expect("few peers");
        (if is_client { 0x8000_0000 } else { 0xc000_0000 }) | index
    }

    /// Whether it has nothing more to do or to wait for.
    pub(crate) fn is_over(&self, world: &World) -> bool {
        // Who has closed sees nothing of what still comes.
        let has_closed = self.ending == Ending::Close && self.sending == Sending::Ended;
        let has_left = self.sending == Sending::Reset || has_closed;
        has_left || self.saw_end || world.peer_saw_reset(self.id)
    }

    /// Whether nothing more can happen to it.
    fn is_done(&self, world: &World) -> bool {
        let has_ended = self.saw_end && self.sending != Sending::Open && !self.is_stalled;
        has_ended || world.peer_saw_reset(self.id)
    }

    pub(crate) fn is_stalled(&self) -> bool {
        self.is_stalled
    }

    pub(crate) fn is_client(&self) -> bool {
        self.is_client
    }

    /// Whether it received all of a stream that ended.
    fn has_all(&self, peers: &[Self]) -> bool {
        self.source.is_some_and(|source| {
            let source = &peers[source];
            source.sending == Sending::Ended && self.checked == source.length
        })
    }

    /// When it is to act next; none when it only reacts.
    pub(crate) fn next_at(&self) -> Option<u64> {
        let stall = self
            .stall
            .map(|(from, to)| if self.is_stalled { to } else { from });
        let act = (self.sending == Sending::Open && !self.waits).then_some(self.next_at);
        stall.into_iter().chain(act).min()
    }
}

/// The byte of a stream at a place.
fn byte_at(tag: u32, at: usize) -> u8 {
    if at < TAG_BYTES {
        return tag.to_be_bytes()[at];
    }
    let mixed = (u64::from(tag) << 32 | at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

impl Model {
    /// No peers yet; none of them is to send more than `length_max` bytes.
    pub(crate) fn new(length_max: usize) -> Self {
        Self {
            length_max: length_max.max(TAG_BYTES),
            ..Self::default()
        }
    }

    /// A peer joins: a client that connects, or a connection that a backend took.
    pub(crate) fn join(
        &mut self,
        id: PeerId,
        is_client: bool,
        draw: &mut Draw,
        calm: bool,
        now: u64,
    ) {
        let length_max = draw
            .one(&[4, 100, 3_000, 30_000, 250_000])
            .min(self.length_max);
        let endings = [
            Ending::HalfClose,
            Ending::HalfClose,
            Ending::Linger,
            Ending::Close,
            Ending::Reset,
        ];
        let mut ending = draw.one(&endings[..if calm { 2 } else { 5 }]);
        if calm && !is_client && draw.chance(30) {
            // Two that wait for each other would wait for ever; one may.
            ending = Ending::Linger;
        }
        let stall = draw.chance(20).then(|| {
            let from = now + draw.within(0, 50);
            let ms = if calm {
                3_000
            } else {
                draw.one(&[100, 3_000, 100_000])
            };
            (from, from + draw.within(1, ms))
        });
        self.live.push(self.peers.len());
        self.peers.push(Peer {
            id,
            is_client,
            length: draw.size(TAG_BYTES, length_max),
            sent: 0,
            chunk_max: draw.one(&[10, 1_000, 250_000]),
            gap_ms: draw.one(&[0, 0, 5, 100]),
            next_at: now,
            // Backends wait, since they cannot know a probe before it has spoken.
            waits: !is_client,
            ending,
            sending: Sending::Open,
            stall,
            is_stalled: false,
            checked: 0,
            source: None,
            saw_end: false,
        });
    }

    /// A connection that a backend took only to break it at once.
    pub(crate) fn join_broken(&mut self, id: PeerId, was_reset: bool, draw: &mut Draw) {
        self.join(id, false, draw, true, 0);
        let peer = self.peers.last_mut().expect("it has just joined");
        (peer.length, peer.waits, peer.stall) = (0, false, None);
        peer.sending = if was_reset {
            Sending::Reset
        } else {
            Sending::Ended
        };
        self.broken += 1;
        self.closed_at_once += u64::from(!was_reset);
    }

    /// Checks what every peer has received, and lets each go on with its script.
    pub(crate) fn step(&mut self, world: &mut World, draw: &mut Draw) {
        let mut live = std::mem::take(&mut self.live);
        live.retain(|&index| {
            if is_probe(world, self.peers[index].id) {
                self.answer_probe(index, world);
            } else {
                self.check(index, world);
                self.act(index, world, draw);
            }
            !self.peers[index].is_done(world)
        });
        self.live = live;
    }

    fn answer_probe(&mut self, index: usize, world: &mut World) {
        let peer = &mut self.peers[index];
        if peer.sending == Sending::Open && world.peer_received(peer.id).ends_with(b"\r\n\r\n") {
            let status = if self.is_sick { 503 } else { 200 };
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
            world.peer_send(peer.id, answer.as_bytes());
            peer.sending = Sending::Ended;
        }
        peer.waits = true;
        peer.stall = None;
    }

    fn check(&mut self, index: usize, world: &World) {
        let id = self.peers[index].id;
        let received = world.peer_received(id);
        if self.peers[index].source.is_none() && received.len() >= TAG_BYTES {
            self.learn_source(index, received);
        }
        if let Some(source) = self.peers[index].source {
            let tag = Peer::tag(source, self.peers[source].is_client);
            let from = self.peers[index].checked;
            for (at, &byte) in received.iter().enumerate().skip(from) {
                assert_eq!(byte, byte_at(tag, at), "byte {at} that {id:?} received");
            }
            let sent = self.peers[source].sent;
            assert!(received.len() <= sent, "{id:?} received more than was sent");
            self.peers[index].checked = received.len();
            self.peers[index].waits = false;
        }
        if world.peer_saw_end(id) && !self.peers[index].saw_end {
            self.peers[index].saw_end = true;
            if !self.peers[index].has_all(&self.peers) {
                match self.peers[index].is_client {
                    true => self.early_ends += 1,
                    false if received.is_empty() => {}
                    false => self.early_ends_at_backends += 1,
                }
            }
        }
    }

    fn learn_source(&mut self, index: usize, received: &[u8]) {
        let tag = received[..TAG_BYTES].try_into().expect("so many bytes");
        let tag = u32::from_be_bytes(tag);
        let id = self.peers[index].id;
        let known = (0..self.peers.len()).find(|&k| Peer::tag(k, self.peers[k].is_client) == tag);
        let source = known.unwrap_or_else(|| panic!("{id:?} received what nobody sent: {tag:#x}"));
        assert_ne!(
            self.peers[source].is_client, self.peers[index].is_client,
            "a client's bytes go to a backend, and a backend's to a client"
        );
        for (other, peer) in self.peers.iter().enumerate() {
            let is_pair = other == source && peer.source.is_some();
            assert!(
                !is_pair || peer.source == Some(index),
                "two connections were mixed"
            );
            assert_ne!(peer.source, Some(source), "two received the same stream");
        }
        self.peers[index].source = Some(source);
    }

    fn act(&mut self, index: usize, world: &mut World, draw: &mut Draw) {
        let now = world.now().0;
        let tag = Peer::tag(index, self.peers[index].is_client);
        let peer = &mut self.peers[index];
        if let Some((from, to)) = peer.stall {
            let stalls = from <= now && now < to;
            if stalls != peer.is_stalled {
                peer.is_stalled = stalls;
                world.peer_read_enabled(peer.id, !stalls);
            }
            peer.stall = peer.stall.filter(|_| now < to);
        }
        if peer.sending != Sending::Open || peer.waits || now < peer.next_at {
            return;
        }
        if world.peer_saw_reset(peer.id) {
            // The length stays above what was sent: such a stream has no end.
            peer.sending = Sending::Reset;
            return;
        }
        if peer.sent < peer.length {
            // A long stream goes out in so many pieces at the most, or a seed would never end.
            let chunk_max = peer.chunk_max.max(peer.length / PIECES_MAX);
            let count = draw.size(1, chunk_max).min(peer.length - peer.sent);
            let bytes: Vec<u8> = (peer.sent..peer.sent + count)
                .map(|at| byte_at(tag, at))
                .collect();
            world.peer_send(peer.id, &bytes);
            peer.sent += count;
            peer.next_at = now + draw.within(0, peer.gap_ms);
            return;
        }
        peer.next_at = now + 50;
        match peer.ending {
            Ending::HalfClose => {
                world.peer_close_write(peer.id);
                peer.sending = Sending::Ended;
            }
            Ending::Linger if peer.saw_end => {
                world.peer_close_write(peer.id);
                peer.sending = Sending::Ended;
            }
            Ending::Linger => {}
            Ending::Close => {
                world.peer_close(peer.id);
                peer.sending = Sending::Ended;
                self.broken += 1;
            }
            Ending::Reset => {
                world.peer_reset(peer.id);
                peer.sending = Sending::Reset;
                self.broken += 1;
            }
        }
    }

    /// Checks that every accepted client, and every backend it got, received all and an end.
    pub(crate) fn check_all_delivered(&self, world: &World) {
        for (index, peer) in self.peers.iter().enumerate() {
            let takes_part = if peer.is_client {
                world.was_accepted(peer.id)
            } else {
                !is_probe(world, peer.id)
            };
            if takes_part {
                let source = peer.source.map(|source| self.peers[source].length);
                assert!(
                    peer.saw_end && peer.has_all(&self.peers),
                    "{:?} (client {}, stream {index}) received {} of {source:?} bytes, end {}",
                    peer.id,
                    peer.is_client,
                    peer.checked,
                    peer.saw_end
                );
            }
        }
    }

    /// Those that may still send or receive.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Peer> {
        self.live.iter().map(|&index| &self.peers[index])
    }

    /// Bytes that the worker wrote to clients, and to the backends of sessions.
    pub(crate) fn written_bytes(&self, world: &World) -> (u64, u64) {
        let sum = |is_client| {
            let peers = self.peers.iter().filter(|peer| peer.is_client == is_client);
            peers
                .filter(|peer| !is_probe(world, peer.id))
                .map(|peer| world.written_bytes(peer.id))
                .sum()
        };
        (sum(true), sum(false))
    }
}

pub(crate) fn is_probe(world: &World, peer: PeerId) -> bool {
    world.owner(peer) == Some(Kind::Probe)
}
