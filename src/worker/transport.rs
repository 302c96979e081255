//! A watched stream and what is known of it: every byte of a connection goes through here.
//!
//! Whoever uses an [`Endpoint`] asks for bytes and gives bytes. Whether a [`Layer`] makes records
//! of them, and when a socket is worth another call, is known here alone. The kernel tells
//! changes, and only once, so what an event said holds until an operation has found the opposite.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use crate::core::buffer::TINY_BYTES;
use crate::core::fault::Fault;
use crate::core::layer::{Kept, Layer, RECORD_BYTES_MAX, Secured};
use crate::core::readiness::{Io, Readiness};
use crate::net::{Kind, Net, Target, Then};
use crate::tls::Connection;
use crate::worker::handshakes::Handshakes;

/// What a peer may still have said when its connection is closed, in bytes.
const LAST_WORDS_BYTES_MAX: usize = 512;

/// What is read, in bytes, that stands behind the mark of an end: more than a kernel takes that is
/// not read.
const UNREAD_BYTES_MAX: usize = 1024 * 1024;

/// Where records are opened and sealed: three that are full and what is gathered for one, or the
/// longest message of a handshake that is taken.
const LAYER_SPACE_BYTES: usize = 66 * 1024;

/// The layer has something for the socket.
const HAS_PENDING: u8 = 1;
/// It waits for its turn in the [handshakes](Handshakes).
const AWAITS_WORK: u8 = 2;
/// The socket is not read on before the next turn.
const IS_PAUSED: u8 = 4;
/// What a record may have besides what it carries: room for more than any has.
const RECORD_BYTES_ADDED: usize = 256;

/// The same for want of memory: it is not read on before its session is let on.
const IS_SHORT: u8 = 8;
/// It is a client's.
const IS_CLIENT: u8 = 16;
/// What comes is of a client, and waits for its turn.
const IS_AHEAD: u8 = 32;

/// One end of a connection.
pub(crate) struct Endpoint<N: Net> {
    stream: N::Stream,
    /// None where the bytes are those of the socket.
    layer: Option<N::Layer>,
    /// What is known of it, its layer included, so that nobody without one has to look.
    ready: Readiness,
    /// What is known of the socket alone.
    ready_beneath: Readiness,
    /// [`HAS_PENDING`] and those below it: in one byte, as there are many of these.
    marks: u8,
    ending: Ending,
    /// Stamped when it was watched; events of another generation are stale.
    generation: u32,
}

/// How far the end has come that a layer marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// Nothing was said on a connection that weir has made.
    NotBegun,
    No,
    /// The layer has marked it; the socket follows when it has taken the mark.
    Marked,
    /// It is not to be marked; the socket follows when it has taken what was before.
    Unmarked,
    Told,
    /// Without its mark.
    ToldUnmarked,
}

/// What a layer keeps, by what that waits for: requests of a client may stand behind each other.
fn kept_as(marks: u8, kept: Kept) -> Kept {
    match marks & IS_CLIENT {
        0 => kept,
        _ => Kept {
            ahead: kept.input,
            input: 0,
            ..kept
        },
    }
}

/// Takes the space that layers share, to be put back.
fn take_space<N: Net>(net: &mut N) -> Vec<u8> {
    let mut space = std::mem::take(&mut net.layer_space().bytes);
    if space.is_empty() {
        space.resize(LAYER_SPACE_BYTES, 0);
    }
    space
}

/// The first of what is behind so many bytes: as little as may have to be kept where no memory is
/// left.
#[cold]
fn tiny_piece<'a>(from: &'a [IoSlice<'_>], mut skipped: usize) -> &'a [u8] {
    let mut behind = from.iter().map(|slice| {
        let (before, behind) = slice.split_at(skipped.min(slice.len()));
        skipped -= before.len();
        behind
    });
    let piece = behind.find(|piece| !piece.is_empty()).unwrap_or_default();
    &piece[..piece.len().min(TINY_BYTES)]
}

// From its start to its end.
impl<N: Net> Endpoint<N> {
    /// A stream that was just accepted, so far without a layer. It takes bytes before any event
    /// says so.
    pub(crate) fn accepted(stream: N::Stream, generation: u32) -> Self {
        Self {
            stream,
            layer: None,
            ready: Readiness::WRITE,
            ready_beneath: Readiness::WRITE,
            marks: IS_CLIENT | IS_AHEAD,
            ending: Ending::No,
            generation,
        }
    }

    /// From here on its bytes are those of a layer, if it has one, which is shown what has come
    /// before. Whether it has.
    ///
    /// # Errors
    /// When that is malformed already.
    #[inline]
    pub(crate) fn put_layer(
        &mut self,
        net: &mut N,
        tls: Option<Connection>,
        came: &mut [u8],
    ) -> Result<bool, ErrorKind> {
        self.layer = net.layer(&self.stream, tls);
        match self.layer {
            None => Ok(false),
            Some(_) => self.begin_layer(net, came),
        }
    }

    #[cold]
    fn begin_layer(&mut self, net: &mut N, came: &mut [u8]) -> Result<bool, ErrorKind> {
        let Some(layer) = &mut self.layer else {
            return Ok(false);
        };
        let opened = layer.on_received(came, &mut []);
        self.note_layer(net);
        // What is to be answered, an alert among it; that this failed is found by whoever writes.
        let _ = self.flush(net);
        opened.map(|_| true)
    }

    /// Watches a connection that was just started, or closes it.
    #[inline(always)]
    pub(crate) fn watched(
        stream: N::Stream,
        target: Target,
        net: &mut N,
        tls: Option<Connection>,
    ) -> io::Result<Self> {
        match net.watch(&stream, target) {
            Ok(()) => {
                let mut endpoint = Self {
                    layer: net.layer(&stream, tls),
                    stream,
                    ready: Readiness::NONE,
                    ready_beneath: Readiness::NONE,
                    marks: 0,
                    ending: Ending::NotBegun,
                    generation: target.generation,
                };
                if endpoint.layer.is_some() {
                    endpoint.note_layer(net);
                }
                Ok(endpoint)
            }
            Err(error) => {
                net.close(stream);
                Err(error)
            }
        }
    }

    /// Starts reporting events, as those of this kind and key.
    pub(crate) fn watch(&self, net: &mut N, kind: Kind, key: u32) -> io::Result<()> {
        let target = Target {
            kind,
            key,
            generation: self.generation,
        };
        net.watch(&self.stream, target)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    /// Notes what an event says, unless it is for another who had the key. Whether it was noted.
    pub(crate) fn mark(&mut self, generation: u32, ready: Readiness) -> bool {
        let is_meant = self.generation == generation;
        if is_meant {
            self.add_ready(ready);
        }
        is_meant
    }

    /// Ends this direction: the peer reads the end after the last byte. False while bytes before
    /// it wait for the socket: [`Endpoint::flush`] ends it behind them.
    pub(crate) fn finish(&mut self, net: &mut N) -> bool {
        if self.layer.is_some() {
            return self.finish_layer(net);
        }
        net.shutdown(&self.stream);
        true
    }

    /// The same where [`Endpoint::close`] follows and tells the end itself, once this is true.
    pub(crate) fn finish_before_close(&mut self, net: &mut N) -> bool {
        self.layer.is_none() || self.finish_layer(net)
    }

    #[cold]
    fn finish_layer(&mut self, net: &mut N) -> bool {
        self.mark_end(net);
        // That it failed is found by whoever reads.
        self.flush(net) != Ok(false)
    }

    /// Ends this direction where what was sent is not whole: a layer must not mark that.
    pub(crate) fn finish_unmarked(&mut self, net: &mut N) -> bool {
        if self.layer.is_none() {
            return self.finish(net);
        }
        if let Ending::NotBegun | Ending::No = self.ending {
            self.ending = Ending::Unmarked;
        }
        self.flush(net) != Ok(false)
    }

    fn mark_end(&mut self, net: &mut N) {
        if let (Some(layer), Ending::NotBegun | Ending::No) = (&mut self.layer, self.ending) {
            layer.finish();
            self.ending = Ending::Marked;
            self.note_layer(net);
        }
    }

    /// Closes after everything was sent; what the kernel holds is still delivered.
    pub(crate) fn close(mut self, net: &mut N) {
        if self.layer.is_some() {
            self.leave_layer(net);
            self.drop_unread(net);
            self.drop_layer(net);
        }
        net.close(self.stream);
    }

    /// What comes behind the mark of an end is no one's (RFC 8446 section 6.1), but a close over it
    /// would be a reset, which overtakes what was sent.
    #[cold]
    fn drop_unread(&self, net: &mut N) {
        if !self.layer.as_ref().is_some_and(Layer::has_ended) {
            return;
        }
        let mut space = take_space(net);
        let mut dropped = 0;
        while dropped < UNREAD_BYTES_MAX
            && let Io::Ready(count) = net.read(&self.stream, &mut space)
        {
            dropped += count;
        }
        net.layer_space().bytes = space;
    }

    /// Tells the end as far as the socket takes it at once, and reads the peer's if it is there: a
    /// close over unread bytes resets, and its mark is bytes.
    #[cold]
    fn leave_layer(&mut self, net: &mut N) {
        if self.may_write() {
            self.finish_layer(net);
        }
        if !self.is_established() {
            // There is no work to be done for it any more.
            self.abandon_layer(net);
        }
        let mut space = [0; LAST_WORDS_BYTES_MAX];
        if self.may_read() && matches!(self.read(net, &mut space), Io::Ready(_)) {
            self.read(net, &mut space);
        }
    }

    /// Closes where there is no end to be told, or it must not be: what the kernel holds is still
    /// delivered, but a layer marks nothing.
    pub(crate) fn cut(mut self, net: &mut N) {
        if self.layer.is_some() {
            self.drop_layer(net);
        }
        net.close(self.stream);
    }

    /// Closes without lingering: the peer sees a reset.
    pub(crate) fn reset(mut self, net: &mut N) {
        if self.layer.is_some() {
            self.drop_layer(net);
            if self.ending == Ending::ToldUnmarked {
                // It knows already, and has more of what was before than a reset would leave it.
                return net.close(self.stream);
            }
        }
        net.reset(self.stream);
    }

    /// What the layer kept is lost.
    #[cold]
    fn drop_layer(&mut self, net: &mut N) {
        if let Some(mut layer) = self.layer.take() {
            net.layer_space()
                .note_kept(*layer.kept_noted(), Kept::default());
        }
    }
}

// What is known of it.
impl<N: Net> Endpoint<N> {
    /// Whether a read may find something.
    pub(crate) fn may_read(&self) -> bool {
        self.ready().has(Readiness::READ)
    }

    /// Whether a write may be taken.
    pub(crate) fn may_write(&self) -> bool {
        self.ready.has(Readiness::WRITE)
    }

    /// Whether the peer has ended its direction, hung up, or failed.
    pub(crate) fn is_closing(&self) -> bool {
        self.ready().has(Readiness::CLOSING)
    }

    /// All of it, as hints.
    #[inline]
    pub(crate) fn ready(&self) -> Readiness {
        self.ready
    }

    fn add_ready(&mut self, ready: Readiness) {
        self.ready.add(ready);
        self.ready_beneath.add(ready);
    }

    fn set_mark(&mut self, mark: u8, is_set: bool) {
        match is_set {
            true => self.marks |= mark,
            false => self.marks &= !mark,
        }
    }

    fn clear_ready(&mut self, ready: Readiness) {
        self.ready.clear(ready);
        self.ready_beneath.clear(ready);
    }

    /// Notes what the layer has, after all that may have changed it.
    #[cold]
    fn note_layer(&mut self, net: &mut N) {
        if let Some(layer) = &mut self.layer {
            let now = kept_as(self.marks, layer.kept());
            let before = std::mem::replace(layer.kept_noted(), now);
            net.layer_space().note_kept(before, now);
        }
        self.look_at_layer();
    }

    #[cold]
    fn look_at_layer(&mut self) {
        let Some(layer) = &self.layer else {
            return;
        };
        self.ready = self.ready_beneath;
        if layer.may_read() {
            self.ready.add(Readiness::READ);
        }
        if layer.has_ended() {
            self.ready.add(Readiness::CLOSING);
        }
        let has_pending = !layer.pending().is_empty();
        self.set_mark(HAS_PENDING, has_pending);
    }

    /// Whether nothing of the peer is to come that a close would answer by a reset: the mark of its
    /// end is bytes, which an end by itself is not. What comes behind the mark is no one's, but the
    /// reset would take with it what has not reached the peer.
    pub(crate) fn may_close(&self, net: &mut N) -> bool {
        match &self.layer {
            None => true,
            Some(layer) => layer.has_ended() && !self.may_lose_output(net),
        }
    }

    /// Whether a close may cost the peer what was sent to it: it has marked its end, so that
    /// nothing is read of it any more, and can send on.
    #[cold]
    pub(crate) fn may_lose_output(&self, net: &mut N) -> bool {
        let has_ended = self.layer.as_ref().is_some_and(Layer::has_ended);
        has_ended && !self.ready_beneath.has(Readiness::CLOSING) && self.undelivered_bytes(net) > 0
    }

    /// Whether nobody on the way can read or change what goes over it.
    pub(crate) fn is_secure(&self) -> bool {
        self.layer.is_some()
    }

    /// Whether bytes of a session can be sent: both sides of a layer have agreed.
    pub(crate) fn is_established(&self) -> bool {
        self.layer.as_ref().is_none_or(Layer::is_established)
    }

    /// Whether this is the first time that it is asked, before anything is said.
    pub(crate) fn begin(&mut self) -> bool {
        let is_first = self.ending == Ending::NotBegun;
        if is_first {
            self.ending = Ending::No;
        }
        is_first
    }

    /// Goes on until both sides of a layer have agreed; whether they have. It may wait for the
    /// turn of handshakes, and is known there by its kind and key.
    pub(crate) fn shake(
        &mut self,
        net: &mut N,
        handshakes: &mut Handshakes,
        known_as: (Kind, u32),
    ) -> Result<bool, ErrorKind> {
        match self.is_established() {
            true => Ok(true),
            false => self.shake_layer(net, handshakes, known_as),
        }
    }

    #[cold]
    fn shake_layer(
        &mut self,
        net: &mut N,
        handshakes: &mut Handshakes,
        known_as: (Kind, u32),
    ) -> Result<bool, ErrorKind> {
        let mut space = take_space(net);
        let found = self.shake_in(net, handshakes, known_as, &mut space);
        net.layer_space().bytes = space;
        found
    }

    fn shake_in(
        &mut self,
        net: &mut N,
        handshakes: &mut Handshakes,
        known_as: (Kind, u32),
        space: &mut [u8],
    ) -> Result<bool, ErrorKind> {
        loop {
            if self.may_write() {
                self.flush(net)?;
            }
            let cost_us = match &self.layer {
                Some(layer) if layer.is_established() => return Ok(true),
                Some(layer) if layer.has_ended() => return Err(ErrorKind::UnexpectedEof),
                Some(layer) => layer.work_left_us(),
                None => return Ok(true),
            };
            if !self.ready_beneath.has(Readiness::READ)
                || !self.may_work(handshakes, known_as, cost_us)
            {
                return Ok(false);
            }
            let found = self.receive(net, &mut [], space);
            self.settle_work(handshakes, cost_us);
            if let Io::Failed(kind) = found {
                return Err(kind);
            }
        }
    }

    /// Whether this much work may be done for it now. If not, it waits for its turn.
    pub(crate) fn may_work(
        &mut self,
        handshakes: &mut Handshakes,
        (kind, key): (Kind, u32),
        cost_us: u32,
    ) -> bool {
        let may_work = handshakes.may_work(cost_us);
        if !may_work && !self.awaits_work() {
            self.set_mark(AWAITS_WORK, true);
            let target = Target {
                kind,
                key,
                generation: self.generation,
            };
            handshakes.wait(target, cost_us);
        }
        may_work
    }

    /// Of the work that might have been done, some was.
    pub(crate) fn settle_work(&mut self, handshakes: &mut Handshakes, cost_us: u32) {
        let done_us = self.layer.as_mut().map_or(0, Layer::take_work_us);
        handshakes.settle(cost_us, done_us);
    }

    /// Whether it waits for its turn.
    pub(crate) fn awaits_work(&self) -> bool {
        self.marks & AWAITS_WORK != 0
    }

    /// Its turn has come, if it is the one that has waited. Whether it is.
    pub(crate) fn take_turn(&mut self, generation: u32) -> bool {
        let is_meant = self.generation == generation;
        if is_meant {
            self.set_mark(AWAITS_WORK, false);
        }
        is_meant
    }

    /// What both sides of a layer have agreed on, once they have.
    pub(crate) fn secured(&self) -> Option<Secured<'_>> {
        self.layer.as_ref().and_then(Layer::secured)
    }

    /// Why the layer has failed, if it has.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.layer.as_ref().and_then(Layer::fault)
    }

    /// The layer has failed: what it still has for the peer leaves, and what comes is of no
    /// interest.
    pub(crate) fn abandon_layer(&mut self, net: &mut N) {
        // That this failed is found by whoever reads.
        let _ = self.flush(net);
        self.drop_layer(net);
        self.resume();
        self.ready = self.ready_beneath;
        self.set_mark(HAS_PENDING, false);
        self.ending = Ending::No;
    }

    /// Whether its bytes are those of the socket, which the kernel can move by itself.
    pub(crate) fn can_splice(&self) -> bool {
        self.layer.is_none()
    }

    /// Bytes that a layer has for the socket, which has not taken them yet.
    #[inline]
    pub(crate) fn pending_bytes(&self) -> usize {
        match self.marks & HAS_PENDING {
            0 => 0,
            _ => self.layer.as_ref().map_or(0, |layer| layer.pending().len()),
        }
    }

    /// Whether nothing of the peer has come that is not dealt with, a part of a record among it,
    /// and nothing is there for it.
    pub(crate) fn is_at_rest(&self) -> bool {
        let has_input = self.may_read() || self.is_closing() || self.marks & IS_PAUSED != 0;
        !has_input && self.kept() == Kept::default()
    }

    /// Whether a part of a record has come whose rest is to come.
    pub(crate) fn has_partial(&self) -> bool {
        self.layer.as_ref().is_some_and(Layer::has_partial)
    }

    /// What its layer keeps.
    pub(crate) fn kept(&self) -> Kept {
        let kept = self.layer.as_ref().map(Layer::kept).unwrap_or_default();
        kept_as(self.marks, kept)
    }

    /// Whether its layer keeps something of what came, which is given back when that is read.
    #[inline]
    pub(crate) fn keeps_input(&self) -> bool {
        self.layer.is_some() && self.kept().received() > 0
    }

    /// How much of `wanted` may be read where there is memory for `room`. Without any it is what
    /// its layer keeps of what came, which needs none.
    #[inline]
    pub(crate) fn readable(&self, room: usize, wanted: usize) -> usize {
        match room {
            0 => self.readable_of_kept(wanted),
            room => room,
        }
    }

    #[cold]
    fn readable_of_kept(&self, wanted: usize) -> usize {
        self.kept().received().min(wanted)
    }

    /// Whether what comes next of a client waits for its turn, or is on its way to somebody.
    #[inline]
    pub(crate) fn set_ahead(&mut self, is_ahead: bool) {
        self.set_mark(IS_AHEAD, is_ahead);
    }

    /// Whether a connection that was started is established, as [`Net::connected`] says.
    pub(crate) fn connected(&mut self, net: &mut N) -> Io<()> {
        let found = net.connected(&self.stream);
        self.note_taken(found)
    }

    /// Whether a connection that is closing was reset, and not just ended in one direction: for
    /// one that is not read now, where a read would tell.
    pub(crate) fn has_failed(&self, net: &mut N) -> bool {
        self.is_closing() && matches!(net.connected(&self.stream), Io::Failed(_))
    }

    /// The address of this end, as [`Net::local_address`] says.
    pub(crate) fn local_address(&self, net: &N) -> Option<SocketAddr> {
        net.local_address(&self.stream)
    }

    /// Whether a read may find something now or in the next turn.
    pub(crate) fn may_have_more(&self) -> bool {
        self.may_read() || self.is_paused()
    }

    /// Whether the socket is not read on for want of memory.
    pub(crate) fn is_short(&self) -> bool {
        self.marks & IS_SHORT != 0
    }

    /// Whether the socket is not read on before the next turn, or for want of memory.
    pub(crate) fn is_paused(&self) -> bool {
        self.marks & IS_PAUSED != 0
    }

    /// What its socket has taken and the peer's kernel has not, in bytes of the socket; 0 where
    /// that is not known.
    pub(crate) fn undelivered_bytes(&self, net: &mut N) -> usize {
        net.unacknowledged(&self.stream).unwrap_or(0)
    }

    /// Bytes that have not reached the peer's kernel, as [`Net::unacknowledged`] says. None where
    /// they are records: whose bytes these are is not known.
    pub(crate) fn unacknowledged(&self, net: &mut N) -> Option<usize> {
        match self.layer {
            None => net.unacknowledged(&self.stream),
            Some(_) => None,
        }
    }
}

// What comes.
impl<N: Net> Endpoint<N> {
    /// Reads once, into what must not be empty. The end is told once.
    #[inline(always)]
    pub(crate) fn read(&mut self, net: &mut N, into: &mut [u8]) -> Io<usize> {
        if self.layer.is_some() {
            return self.read_layer(net, into);
        }
        let found = net.read(&self.stream, into);
        self.note_read(found, into.len())
    }

    /// Reads once what nobody wants: behind the end of a layer it is whatever comes.
    pub(crate) fn read_away(&mut self, net: &mut N, into: &mut [u8]) -> Io<usize> {
        if !self.layer.as_ref().is_some_and(Layer::has_ended) {
            return self.read(net, into);
        }
        let found = net.read(&self.stream, into);
        self.note_read(found, into.len())
    }

    /// Copies what a read would find, as far as that is known without one: not of a layer.
    pub(crate) fn peek(&self, net: &mut N, into: &mut [u8]) -> Option<usize> {
        match (&self.layer, net.peek(&self.stream, into)) {
            (None, Io::Ready(count)) => Some(count),
            _ => None,
        }
    }

    /// A read that came back short has emptied the socket, so nothing more is expected of it;
    /// unless the peer is closing: then the end is still to be read, and no event will come for
    /// it.
    fn note_read(&mut self, found: Io<usize>, wanted: usize) -> Io<usize> {
        let is_empty = match found {
            Io::Ready(count) => count < wanted && !self.ready_beneath.has(Readiness::CLOSING),
            Io::Blocked | Io::Closed => true,
            Io::Failed(_) => false,
        };
        if is_empty {
            self.clear_ready(Readiness::READ);
        }
        found
    }

    /// Reads through the layer, from the socket only where that is needed.
    #[cold]
    fn read_layer(&mut self, net: &mut N, into: &mut [u8]) -> Io<usize> {
        let mut space = take_space(net);
        let found = self.read_records(net, into, &mut space);
        self.note_layer(net);
        net.layer_space().bytes = space;
        found
    }

    fn read_records(&mut self, net: &mut N, into: &mut [u8], space: &mut [u8]) -> Io<usize> {
        let mut may_have_more = true;
        while let Some(layer) = &mut self.layer {
            match layer.read(into) {
                Io::Blocked if may_have_more => {}
                Io::Closed => return self.note_read(Io::Closed, into.len()),
                found @ (Io::Ready(_) | Io::Blocked | Io::Failed(_)) => return found,
            }
            match self.receive(net, into, space) {
                // It may have to be read on, and is not for ever.
                Io::Ready(0) | Io::Closed => {}
                found @ (Io::Ready(_) | Io::Blocked | Io::Failed(_)) => return found,
            }
            may_have_more = self.ready_beneath.has(Readiness::READ);
        }
        Io::Blocked
    }

    /// Reads the socket once and lets the layer open what came; how many bytes that put `into`.
    /// No more is read than that and one record, so that little is kept.
    fn receive(&mut self, net: &mut N, into: &mut [u8], space: &mut [u8]) -> Io<usize> {
        if net.layer_space().is_spent() {
            self.pause(net);
            return Io::Blocked;
        }
        let bytes_max = self.receivable(net, into.len(), space);
        if bytes_max == 0 {
            self.wait_for_memory(net);
            return Io::Blocked;
        }
        let Some(layer) = &mut self.layer else {
            return Io::Blocked;
        };
        let carried = layer.carry(space);
        let wanted = (space.len() - carried).min(bytes_max);
        if wanted == 0 {
            // A message of the handshake that is longer than any that is taken.
            return Io::Failed(ErrorKind::InvalidData);
        }
        let room = &mut space[carried..carried + wanted];
        let found = net.read(&self.stream, room);
        let count = if let Io::Ready(count) = found {
            count
        } else {
            0
        };
        self.note_read(found, wanted);
        let Some(layer) = &mut self.layer else {
            return Io::Blocked;
        };
        if found == Io::Closed {
            layer.on_end();
            self.ready_beneath.add(Readiness::CLOSING);
        }
        let opened = layer.on_received(&mut space[..carried + count], into);
        let carrying = opened.unwrap_or(0) + layer.kept().input;
        let overhead = (carried + count).saturating_sub(carrying);
        net.layer_space().note_read(count, overhead);
        self.note_layer(net);
        if self.may_write() {
            // It may have to be answered. That this failed is found by whoever writes.
            let _ = self.flush(net);
        }
        match (opened, found) {
            (Err(kind), _) => Io::Failed(kind),
            (Ok(given), Io::Ready(_)) => Io::Ready(given),
            (Ok(_), found) => found,
        }
    }

    /// Moves up to `len` bytes into a kernel pipe that is empty.
    pub(crate) fn fill(&mut self, net: &mut N, pipe: &N::Pipe, len: usize) -> Io<usize> {
        debug_assert!(self.can_splice(), "records are not moved as they are");
        let found = net.fill(&self.stream, pipe, len);
        if let Io::Blocked | Io::Closed = found {
            self.clear_ready(Readiness::READ);
        }
        found
    }

    /// The end of the peer's direction may have been told already: it is asked for again.
    pub(crate) fn expect_end(&mut self) {
        if self.is_closing() {
            self.add_ready(Readiness::READ);
        }
    }

    /// There may be something to be read behind a write that failed, which no event will tell.
    pub(crate) fn expect_input(&mut self) {
        self.add_ready(Readiness::READ | Readiness::CLOSING);
    }

    /// What has come is of no interest; more of it has an event of its own.
    pub(crate) fn expect_no_input(&mut self) {
        self.clear_ready(Readiness::READ);
        if self.layer.is_some() {
            self.look_at_layer();
        }
    }

    /// How much may be read of the socket now for `wanted` bytes: no more than these and a record.
    /// Where there is no memory for that, it is the rest of a record, for which there is, or one
    /// that is there as a whole, of which nothing is kept; for anything else it is 0.
    fn receivable(&self, net: &mut N, wanted: usize, space: &mut [u8]) -> usize {
        let shortages = net.layer_space().shortages;
        let is_short = match self.marks & IS_AHEAD {
            0 => shortages.in_transit,
            _ => shortages.ahead,
        };
        match is_short {
            false => wanted + RECORD_BYTES_MAX,
            true => self.receivable_of_record(net, wanted, space),
        }
    }

    #[cold]
    fn receivable_of_record(&self, net: &mut N, wanted: usize, space: &mut [u8]) -> usize {
        let missing = self.layer.as_ref().map_or(0, Layer::missing);
        if missing > 0 {
            return missing;
        }
        let room = match self.is_established() {
            true => space.len().min(wanted + RECORD_BYTES_ADDED),
            // What it carries is for the layer alone.
            false => RECORD_BYTES_MAX,
        };
        match net.peek(&self.stream, &mut space[..room]) {
            Io::Ready(count) => {
                let layer = self.layer.as_ref();
                let whole = layer.map_or(count, |layer| layer.record_bytes(&space[..count]));
                // What is behind an end is not waited for.
                let is_there = whole <= count || self.ready_beneath.has(Readiness::CLOSING);
                if is_there { whole } else { 0 }
            }
            // That is found by a read, and kept by nobody.
            Io::Blocked | Io::Closed | Io::Failed(_) => 1,
        }
    }

    /// There is no memory for what would be read, until somebody has given some back.
    fn wait_for_memory(&mut self, net: &mut N) {
        self.set_mark(IS_PAUSED | IS_SHORT, true);
        net.layer_space().is_used = true;
        self.clear_ready(Readiness::READ);
    }

    /// The socket is not read on: there may be more, which no event will tell.
    fn pause(&mut self, net: &mut N) {
        self.set_mark(IS_PAUSED, true);
        net.layer_space().has_paused = true;
        self.clear_ready(Readiness::READ);
    }

    /// The next turn begins, or there may be memory again.
    #[cold]
    pub(crate) fn resume(&mut self) {
        if self.marks & IS_PAUSED != 0 {
            self.set_mark(IS_PAUSED | IS_SHORT, false);
            self.ready_beneath.add(Readiness::READ);
            self.look_at_layer();
        }
    }
}

// What goes.
impl<N: Net> Endpoint<N> {
    /// Writes the slices in order; may take only a part. What a layer has taken and the socket
    /// has not is left for [`Endpoint::flush`].
    pub(crate) fn write(&mut self, net: &mut N, from: &[IoSlice<'_>], then: Then) -> Io<usize> {
        if self.layer.is_some() {
            return self.write_layer(net, from, then);
        }
        let found = net.write(&self.stream, from, then);
        self.note_taken(found)
    }

    /// Writes slices that no layer is for, before everything else.
    #[cold]
    pub(crate) fn write_beneath(&mut self, net: &mut N, from: [&[u8]; 2]) -> Io<usize> {
        let found = net.write(&self.stream, &from.map(IoSlice::new), Then::More);
        self.note_taken(found)
    }

    #[cold]
    fn write_layer(&mut self, net: &mut N, from: &[IoSlice<'_>], then: Then) -> Io<usize> {
        match self.flush(net) {
            Ok(true) => {}
            Ok(false) => return Io::Blocked,
            Err(kind) => return Io::Failed(kind),
        }
        let mut space = take_space(net);
        let found = self.write_records(net, from, then, &mut space);
        self.note_layer(net);
        net.layer_space().bytes = space;
        found
    }

    fn write_records(
        &mut self,
        net: &mut N,
        from: &[IoSlice<'_>],
        then: Then,
        space: &mut [u8],
    ) -> Io<usize> {
        let total: usize = from.iter().map(|slice| slice.len()).sum();
        let mut taken = 0;
        // As with a socket, a part is taken only when there is no room for more.
        while taken < total && self.pending_bytes() == 0 {
            let is_short = net.layer_space().shortages.in_transit;
            let Some(layer) = &mut self.layer else { break };
            let sealed = match is_short {
                false => layer.seal(from, taken, space),
                true => layer.seal(&[IoSlice::new(tiny_piece(from, taken))], 0, space),
            };
            taken += sealed.taken;
            let records = &space[..sealed.bytes];
            let is_last = then == Then::End && taken == total;
            // What the protocol has to say itself, a new key among it, goes in front.
            if is_last || !layer.pending().is_empty() {
                layer.keep_pending(records);
            } else if let Err(found) = self.write_sealed(net, records) {
                return found;
            }
            if is_last {
                self.mark_end(net);
            }
            if let Err(kind) = self.flush(net) {
                return Io::Failed(kind);
            }
            if sealed.taken == 0 {
                break;
            }
        }
        if taken > 0 {
            return Io::Ready(taken);
        }
        // What had come is opened before anything is sealed, and may have failed.
        match self.fault() {
            Some(_) => Io::Failed(ErrorKind::InvalidData),
            None => Io::Blocked,
        }
    }

    /// Writes records, and keeps what the socket does not take.
    fn write_sealed(&mut self, net: &mut N, records: &[u8]) -> Result<(), Io<usize>> {
        let found = net.write(&self.stream, &[IoSlice::new(records)], Then::More);
        let sent = match self.note_taken(found) {
            Io::Ready(count) => count,
            Io::Blocked => 0,
            Io::Closed | Io::Failed(_) => return Err(found),
        };
        if let Some(layer) = &mut self.layer
            && sent < records.len()
        {
            layer.keep_pending(&records[sent..]);
        }
        Ok(())
    }

    /// Writes what a layer has for the socket, and the end behind its mark; whether all of it has
    /// left.
    pub(crate) fn flush(&mut self, net: &mut N) -> Result<bool, ErrorKind> {
        match self.layer {
            None => Ok(true),
            Some(_) => self.flush_layer(net),
        }
    }

    #[cold]
    fn flush_layer(&mut self, net: &mut N) -> Result<bool, ErrorKind> {
        let found = self.flush_pending(net);
        self.note_layer(net);
        found
    }

    fn flush_pending(&mut self, net: &mut N) -> Result<bool, ErrorKind> {
        let then = match self.ending {
            Ending::Marked | Ending::Unmarked => Then::End,
            Ending::NotBegun | Ending::No | Ending::Told | Ending::ToldUnmarked => Then::More,
        };
        while let Some(layer) = &mut self.layer
            && !layer.pending().is_empty()
        {
            let found = net.write(&self.stream, &[IoSlice::new(layer.pending())], then);
            match found {
                Io::Ready(count) => layer.on_sent(count),
                Io::Blocked => {
                    self.note_taken(found);
                    return Ok(false);
                }
                Io::Closed => return Err(ErrorKind::BrokenPipe),
                Io::Failed(kind) => return Err(kind),
            }
        }
        let told = match self.ending {
            Ending::Marked => Ending::Told,
            Ending::Unmarked => Ending::ToldUnmarked,
            Ending::NotBegun | Ending::No | Ending::Told | Ending::ToldUnmarked => return Ok(true),
        };
        net.shutdown(&self.stream);
        self.ending = told;
        Ok(true)
    }

    /// Moves up to `len` bytes out of a kernel pipe.
    pub(crate) fn drain(&mut self, net: &mut N, pipe: &N::Pipe, len: usize) -> Io<usize> {
        debug_assert!(self.can_splice(), "records are not moved as they are");
        let found = net.drain(pipe, &self.stream, len);
        self.note_taken(found)
    }

    fn note_taken<T>(&mut self, found: Io<T>) -> Io<T> {
        if let Io::Blocked = found {
            self.clear_ready(Readiness::WRITE);
        }
        found
    }
}
