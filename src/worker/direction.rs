//! Moves bytes for one direction of a session. It is called once per direction and turn.
//!
//! Bytes are read into the worker's scratch space and written straight on. Only what the target
//! would not take moves into a pooled buffer, so no more is read at once than there is memory for;
//! where there is none, the session waits for some. A direction that has carried
//! [`SPLICE_AFTER_BYTES`], and has more waiting than one read takes, may go on through a pooled
//! kernel pipe instead, without copies.

use std::io::{ErrorKind, IoSlice};

use crate::core::buffer::Buffer;
use crate::core::flow::{Flow, Step};
use crate::core::readiness::Io;
use crate::net::{Net, Then};
use crate::worker::io_space::IoSpace;
use crate::worker::transport::Endpoint;

/// A direction that has carried this much may be spliced. A pipe costs a short flow more than it
/// saves; measured, it breaks even here.
pub(crate) const SPLICE_AFTER_BYTES: u64 = 64 * 1024;

/// A pipe that is filled with less goes back: the source is no longer ahead of the target, and
/// short messages through a pipe cost more than copies of them.
const SPLICE_LEAST_BYTES: usize = 16 * 1024;

/// Asked of the kernel in one splice: more than any pipe holds.
pub(crate) const SPLICE_BYTES_MAX: usize = 1024 * 1024;

/// What waits between the two ends of a direction.
pub(crate) enum Held<N: Net> {
    /// Nothing.
    Nothing,
    /// Bytes that the target would not take. Never empty.
    Bytes(Buffer),
    /// A kernel pipe with so many bytes in it. It is filled only when empty, so a fill that is
    /// `Blocked` always means an empty socket and never a full pipe.
    Pipe { pipe: N::Pipe, bytes: usize },
}

/// One direction of a session.
pub(crate) struct Direction<N: Net> {
    pub(crate) flow: Flow,
    pub(crate) held: Held<N>,
    /// The source had at least as much waiting as the last read could take.
    is_bulk: bool,
    /// The source was reset or cut off: once drained, its end must not be told as a clean one.
    pub(crate) truncated: bool,
}

/// How far one call of [`Direction::pump`] may go.
pub(crate) struct RelayLimits<'a> {
    /// Bytes left to move in this turn.
    pub(crate) budget: &'a mut usize,
    /// Whether the other direction is over already.
    pub(crate) other_is_over: bool,
}

/// Why pumping stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// Nothing can be done before another event.
    Waiting,
    /// The direction is over.
    Done,
    /// The budget is spent and there may be more to do.
    Spent,
    /// The source failed.
    SourceFailed(ErrorKind),
    /// The target failed.
    TargetFailed(ErrorKind),
}

impl<N: Net> Direction<N> {
    pub(crate) fn new() -> Self {
        Self {
            flow: Flow::default(),
            held: Held::Nothing,
            is_bulk: false,
            truncated: false,
        }
    }

    /// Begins with bytes that are there already.
    pub(crate) fn hold(&mut self, buffer: Buffer) {
        self.held = Held::Bytes(buffer);
    }

    /// Reads once, if nothing is held, and holds what comes.
    #[cold]
    pub(crate) fn read_ahead(
        &mut self,
        source: &mut Endpoint<N>,
        io: &mut IoSpace<N>,
    ) -> Result<(), Pumped> {
        if !matches!(self.held, Held::Nothing) || !source.may_read() {
            return Ok(());
        }
        if let Some(count) = self.read(source, io)? {
            self.held = Held::Bytes(io.buffers.hold(&[&io.scratch[..count]]));
        }
        Ok(())
    }

    /// What is held as bytes.
    pub(crate) fn ahead(&self) -> &[u8] {
        match &self.held {
            Held::Bytes(buffer) => buffer.filled(),
            Held::Nothing | Held::Pipe { .. } => &[],
        }
    }

    /// The target has taken so many of them.
    pub(crate) fn on_ahead_taken(&mut self, count: usize, io: &mut IoSpace<N>) {
        if let Held::Bytes(buffer) = &mut self.held {
            buffer.consume(count);
            self.flow.on_moved(count);
        }
        self.rest(io);
    }

    /// Bytes read from the source and not yet taken by the target.
    pub(crate) fn held_bytes(&self) -> usize {
        match &self.held {
            Held::Nothing => 0,
            Held::Bytes(buffer) => buffer.len(),
            Held::Pipe { bytes, .. } => *bytes,
        }
    }

    /// The same, with those that the target has taken and its socket has not.
    pub(crate) fn waiting_bytes(&self, target: &Endpoint<N>) -> usize {
        self.held_bytes() + target.pending_bytes()
    }

    /// Gives back whatever is held; bytes in it are lost.
    pub(crate) fn discard(&mut self, io: &mut IoSpace<N>) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Nothing => {}
            Held::Bytes(buffer) => io.buffers.give(buffer),
            Held::Pipe { pipe, bytes } => io.pipes.give(pipe, bytes),
        }
    }

    /// Moves bytes until an end would block, the direction is over, or `budget` is spent. The
    /// last direction to end leaves telling the end to the close that follows.
    #[inline(always)]
    pub(crate) fn pump(
        &mut self,
        source: &mut Endpoint<N>,
        target: &mut Endpoint<N>,
        io: &mut IoSpace<N>,
        limits: RelayLimits<'_>,
    ) -> Pumped {
        // Mostly so of one direction.
        let holds_nothing = matches!(self.held, Held::Nothing) && target.pending_bytes() == 0;
        if holds_nothing && self.flow.next(source.ready(), target.ready(), 0) == Step::Wait {
            return Pumped::Waiting;
        }
        self.pump_bytes(source, target, io, limits)
    }

    #[inline(never)]
    fn pump_bytes(
        &mut self,
        source: &mut Endpoint<N>,
        target: &mut Endpoint<N>,
        io: &mut IoSpace<N>,
        RelayLimits {
            budget,
            other_is_over,
        }: RelayLimits<'_>,
    ) -> Pumped {
        loop {
            let waiting_bytes = self.waiting_bytes(target);
            let (from, to) = (source.ready(), target.ready());
            let step = self.flow.next(from, to, waiting_bytes);
            let outcome = match step {
                Step::Done => return Pumped::Done,
                Step::Wait => {
                    self.rest(io);
                    return Pumped::Waiting;
                }
                Step::Shutdown if self.truncated => return Pumped::Done,
                Step::Shutdown => {
                    self.discard(io);
                    let net = &mut io.net;
                    let is_told = match other_is_over {
                        true => target.finish_before_close(net),
                        false => target.finish(net),
                    };
                    if !is_told {
                        return Pumped::Waiting;
                    }
                    self.flow.on_shutdown();
                    continue;
                }
                Step::Fill | Step::Drain if *budget == 0 => return Pumped::Spent,
                Step::Fill => self.fill(source, target, io, budget),
                Step::Drain => self.drain(target, io, budget),
            };
            if let Err(failed) = outcome {
                return failed;
            }
        }
    }

    /// An idle direction holds neither buffer nor pipe.
    fn rest(&mut self, io: &mut IoSpace<N>) {
        if !matches!(self.held, Held::Nothing) && self.held_bytes() == 0 {
            self.discard(io);
        }
    }

    fn fill(
        &mut self,
        source: &mut Endpoint<N>,
        target: &mut Endpoint<N>,
        io: &mut IoSpace<N>,
        budget: &mut usize,
    ) -> Result<(), Pumped> {
        if self.is_bulk {
            if matches!(self.held, Held::Nothing)
                && self.flow.moved_bytes() >= SPLICE_AFTER_BYTES
                && source.can_splice()
                && target.can_splice()
                && let Some(pipe) = io.pipes.take(&mut io.net)
            {
                self.held = Held::Pipe { pipe, bytes: 0 };
            }
            if matches!(self.held, Held::Pipe { .. }) {
                return self.fill_pipe(source, io, budget);
            }
        } else {
            self.rest(io);
        }
        let Some(count) = self.read(source, io)? else {
            return Ok(());
        };
        let (count, end) = self.read_end(source, io, count);
        let then = match end {
            Some(Io::Closed) if !self.truncated => Then::End,
            _ => Then::More,
        };
        let slice = [IoSlice::new(&io.scratch[..count])];
        let taken = taken(target.write(&mut io.net, &slice, then))?;
        self.flow.on_moved(taken);
        *budget = budget.saturating_sub(count);
        if taken < count {
            let rest = &io.scratch[taken..count];
            self.held = Held::Bytes(io.buffers.hold(&[rest]));
        }
        end.map_or(Ok(()), |found| self.no_bytes(found))
    }

    /// If the source is closing, reads once more behind the `count` bytes that are there, so that
    /// its end can travel with them. How many bytes there are now, and what was found instead of
    /// more.
    fn read_end(
        &mut self,
        source: &mut Endpoint<N>,
        io: &mut IoSpace<N>,
        count: usize,
    ) -> (usize, Option<Io<usize>>) {
        if self.is_bulk || !source.is_closing() {
            return (count, None);
        }
        let room = room(source, io);
        if room <= count {
            return (count, None);
        }
        let space = &mut io.scratch[count..room];
        match source.read(&mut io.net, space) {
            Io::Ready(more) => {
                self.is_bulk = count + more == room;
                (count + more, None)
            }
            found @ (Io::Blocked | Io::Closed | Io::Failed(_)) => (count, Some(found)),
        }
    }

    /// One read into the scratch space; none when there was nothing, or the end.
    #[inline(always)]
    fn read(
        &mut self,
        source: &mut Endpoint<N>,
        io: &mut IoSpace<N>,
    ) -> Result<Option<usize>, Pumped> {
        let room = room(source, io);
        if room == 0 {
            io.is_short = true;
            return Err(Pumped::Waiting);
        }
        let space = &mut io.scratch[..room];
        match source.read(&mut io.net, space) {
            Io::Ready(count) => {
                self.is_bulk = count == room;
                Ok(Some(count))
            }
            other @ (Io::Blocked | Io::Closed | Io::Failed(_)) => {
                self.no_bytes(other).map(|()| None)
            }
        }
    }

    /// What a read that gave no bytes says of the source.
    fn no_bytes(&mut self, found: Io<usize>) -> Result<(), Pumped> {
        match found {
            Io::Ready(_) | Io::Blocked => {}
            Io::Closed => self.flow.on_source_end(),
            Io::Failed(kind) => return Err(Pumped::SourceFailed(kind)),
        }
        Ok(())
    }

    fn fill_pipe(
        &mut self,
        source: &mut Endpoint<N>,
        io: &mut IoSpace<N>,
        budget: &mut usize,
    ) -> Result<(), Pumped> {
        let Held::Pipe { pipe, bytes } = &mut self.held else {
            return Ok(());
        };
        match source.fill(&mut io.net, pipe, SPLICE_BYTES_MAX) {
            Io::Ready(count) => {
                *bytes += count;
                self.is_bulk = count >= SPLICE_LEAST_BYTES;
                *budget = budget.saturating_sub(count);
                Ok(())
            }
            other @ (Io::Blocked | Io::Closed | Io::Failed(_)) => self.no_bytes(other),
        }
    }

    fn drain(
        &mut self,
        target: &mut Endpoint<N>,
        io: &mut IoSpace<N>,
        budget: &mut usize,
    ) -> Result<(), Pumped> {
        let net = &mut io.net;
        match target.flush(net) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(kind) => return Err(Pumped::TargetFailed(kind)),
        }
        let taken = match &mut self.held {
            Held::Nothing => return Ok(()),
            Held::Bytes(buffer) => {
                let slice = [IoSlice::new(buffer.filled())];
                let taken = taken(target.write(net, &slice, Then::More))?;
                buffer.consume(taken);
                taken
            }
            Held::Pipe { pipe, bytes } => {
                let taken = taken(target.drain(net, pipe, *bytes))?;
                *bytes -= taken;
                taken
            }
        };
        self.flow.on_moved(taken);
        *budget = budget.saturating_sub(taken);
        if matches!(&self.held, Held::Bytes(buffer) if buffer.is_empty()) {
            self.discard(io);
        }
        Ok(())
    }
}

/// What one read may take: no more than may have to wait.
fn room<N: Net>(source: &Endpoint<N>, io: &IoSpace<N>) -> usize {
    let buffers = &io.buffers;
    let wanted = buffers.capacity_bytes().min(io.scratch.len());
    source.readable(buffers.readable(wanted), wanted)
}

/// How many bytes a target took, by what a write found.
fn taken(found: Io<usize>) -> Result<usize, Pumped> {
    match found {
        Io::Ready(count) => Ok(count),
        Io::Blocked => Ok(0),
        Io::Closed => Err(Pumped::TargetFailed(ErrorKind::BrokenPipe)),
        Io::Failed(kind) => Err(Pumped::TargetFailed(kind)),
    }
}
