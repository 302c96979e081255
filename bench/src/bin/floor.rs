//! The smallest forwarder that is still right: what the kernel alone costs.
//!
//! `floor [--splice] LISTEN=BACKEND,BACKEND,.. [LISTEN=..]` accepts on 127.0.0.1:LISTEN and
//! relays to 127.0.0.1:BACKEND, round robin, with half-close. No timeouts, checks, logs, limits
//! or failover: it is a yardstick, not a program to use. One thread, edge-triggered epoll.

use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::{Errno, Result};
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, SpliceFlags};

const SCRATCH_BYTES: usize = 64 << 10;
const PIPE_BYTES: usize = 1 << 20;
const BACKLOG: i32 = 4096;
/// Reads of one direction in a row, so that one busy connection does not starve the others.
const ROUNDS_MAX: usize = 16;
const LISTENER: u64 = 1 << 63;

struct Listener {
    socket: OwnedFd,
    backends: Vec<SocketAddrV4>,
    next: usize,
}

/// One direction of a connection; the index of its source is its own index.
#[derive(Default)]
struct Direction {
    /// Read but not yet written; empty and without memory while nothing is stuck.
    pending: Vec<u8>,
    pipe: Option<Pipe>,
    eof: bool,
    done: bool,
}

struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    held: usize,
}

struct Pair {
    /// Client and backend.
    ends: [OwnedFd; 2],
    directions: [Direction; 2],
}

struct Floor {
    epoll: OwnedFd,
    listeners: Vec<Listener>,
    pairs: Vec<Option<Box<Pair>>>,
    free: Vec<usize>,
    /// Freed in this turn: reused only in the next, so that no stale event meets a new pair.
    freed: Vec<usize>,
    scratch: Vec<u8>,
    splice: bool,
    pipes: Vec<Pipe>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let splice = arguments.iter().any(|a| a == "--splice");
    let specs: Option<Vec<(u16, Vec<u16>)>> = arguments
        .iter()
        .filter(|a| *a != "--splice")
        .map(|a| parse(a))
        .collect();
    let Some(specs) = specs.filter(|specs| !specs.is_empty()) else {
        eprintln!("usage: floor [--splice] LISTEN=BACKEND,BACKEND,.. [LISTEN=..]");
        return ExitCode::from(2);
    };
    match run(splice, specs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `8080=9001,9002` as listening port and backends' ports.
fn parse(spec: &str) -> Option<(u16, Vec<u16>)> {
    let (listen, backends) = spec.split_once('=')?;
    let backends: Option<Vec<u16>> = backends.split(',').map(|p| p.parse().ok()).collect();
    Some((listen.parse().ok()?, backends?))
}

fn run(splice: bool, specs: Vec<(u16, Vec<u16>)>) -> Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut listeners = Vec::new();
    for (port, backends) in specs {
        let socket = listen(port)?;
        let data = EventData::new_u64(LISTENER | listeners.len() as u64);
        epoll::add(&epoll, &socket, data, EventFlags::IN)?;
        let backends = backends.into_iter().map(local).collect();
        listeners.push(Listener {
            socket,
            backends,
            next: 0,
        });
    }
    let mut floor = Floor {
        epoll,
        listeners,
        pairs: Vec::new(),
        free: Vec::new(),
        freed: Vec::new(),
        scratch: vec![0; SCRATCH_BYTES],
        splice,
        pipes: Vec::new(),
    };
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(
            &floor.epoll,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        for event in &events {
            floor.on_event(event.data.u64(), event.flags);
        }
        let mut freed = std::mem::take(&mut floor.freed);
        floor.free.append(&mut freed);
    }
}

fn local(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port)
}

fn listen(port: u16) -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    net::sockopt::set_socket_reuseaddr(&socket, true)?;
    // Accepted connections inherit it.
    net::sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &local(port))?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn connect(to: SocketAddrV4) -> Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    net::sockopt::set_tcp_nodelay(&socket, true)?;
    match net::connect(&socket, &to) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

impl Floor {
    fn on_event(&mut self, data: u64, flags: EventFlags) {
        if data & LISTENER != 0 {
            self.accept(usize::try_from(data & !LISTENER).unwrap_or(usize::MAX));
            return;
        }
        let index = usize::try_from(data >> 1).unwrap_or(usize::MAX);
        let end = usize::from(data & 1 == 1);
        let Some(mut pair) = self.pairs.get_mut(index).and_then(Option::take) else {
            return;
        };
        if self
            .relay(&mut pair, end, flags, data)
            .is_ok_and(|done| !done)
        {
            self.pairs[index] = Some(pair);
        } else {
            self.freed.push(index);
        }
    }

    fn accept(&mut self, index: usize) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(client) = net::accept_with(&self.listeners[index].socket, flags) {
            let listener = &mut self.listeners[index];
            let backend = listener.backends[listener.next % listener.backends.len()];
            listener.next += 1;
            if let Err(error) = self.open(client, backend) {
                eprintln!("floor: cannot connect to {backend}: {error}");
            }
        }
    }

    fn open(&mut self, client: OwnedFd, backend: SocketAddrV4) -> Result<()> {
        let backend = connect(backend)?;
        let index = self.free.pop().unwrap_or(self.pairs.len());
        let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        let data = (index as u64) << 1;
        epoll::add(
            &self.epoll,
            &backend,
            EventData::new_u64(data | 1),
            interest,
        )?;
        epoll::add(&self.epoll, &client, EventData::new_u64(data), interest)?;
        let pair = Some(Box::new(Pair {
            ends: [client, backend],
            directions: Default::default(),
        }));
        if index == self.pairs.len() {
            self.pairs.push(pair);
        } else {
            self.pairs[index] = pair;
        }
        Ok(())
    }

    /// Moves what the event says can be moved. True when both directions have ended.
    fn relay(&mut self, pair: &mut Pair, end: usize, flags: EventFlags, data: u64) -> Result<bool> {
        if flags.contains(EventFlags::ERR) {
            net::sockopt::socket_error(&pair.ends[end])??;
        }
        let mut more = false;
        let inward = EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP;
        if flags.intersects(inward) {
            more |= self.pump(pair, end, flags.contains(EventFlags::RDHUP))?;
        }
        let other = &pair.directions[1 - end];
        let stuck = !other.pending.is_empty() || other.pipe.as_ref().is_some_and(|p| p.held > 0);
        if flags.contains(EventFlags::OUT) && stuck {
            more |= self.pump(pair, 1 - end, true)?;
        }
        if more {
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            for (end, fd) in pair.ends.iter().enumerate() {
                let data = EventData::new_u64(data & !1 | end as u64);
                epoll::modify(&self.epoll, fd, data, interest)?;
            }
        }
        for direction in &mut pair.directions {
            self.pipes
                .extend(direction.pipe.take_if(|pipe| pipe.held == 0));
        }
        Ok(pair.directions.iter().all(|d| d.done))
    }

    /// Moves one direction until it blocks, ends or had its share. True when it had its share.
    fn pump(&mut self, pair: &mut Pair, from: usize, ended: bool) -> Result<bool> {
        for _ in 0..ROUNDS_MAX {
            if !Self::flush(pair, from)? {
                return Ok(false);
            }
            if pair.directions[from].eof {
                return Self::end(pair, from).map(|()| false);
            }
            let read = if self.splice {
                self.fill_pipe(pair, from)
            } else {
                self.copy(pair, from)
            };
            match read {
                Ok(0) => pair.directions[from].eof = true,
                // A short read emptied the socket; more bytes, or the end, give a new event.
                Ok(n) if n < SCRATCH_BYTES && !ended && !self.splice => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn end(pair: &mut Pair, from: usize) -> Result<()> {
        let direction = &mut pair.directions[from];
        if !direction.done {
            direction.done = true;
            if !pair.directions[1 - from].done {
                net::shutdown(&pair.ends[1 - from], Shutdown::Write)?;
            }
        }
        Ok(())
    }

    /// Reads into the scratch space and writes what can be written; the rest becomes pending.
    fn copy(&mut self, pair: &mut Pair, from: usize) -> Result<usize> {
        let (_, read) = net::recv(&pair.ends[from], &mut self.scratch[..], RecvFlags::empty())?;
        let mut written = 0;
        while written < read {
            match net::send(
                &pair.ends[1 - from],
                &self.scratch[written..read],
                SendFlags::NOSIGNAL,
            ) {
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        pair.directions[from]
            .pending
            .extend_from_slice(&self.scratch[written..read]);
        Ok(read)
    }

    fn fill_pipe(&mut self, pair: &mut Pair, from: usize) -> Result<usize> {
        let direction = &mut pair.directions[from];
        if direction.pipe.is_none() {
            direction.pipe = Some(match self.pipes.pop() {
                Some(pipe) => pipe,
                None => new_pipe()?,
            });
        }
        let Some(pipe) = &mut direction.pipe else {
            return Err(Errno::AGAIN);
        };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let read =
            rustix::pipe::splice(&pair.ends[from], None, &pipe.write, None, PIPE_BYTES, flags)?;
        pipe.held += read;
        Ok(read)
    }

    /// Writes what waits. True when nothing waits any more.
    fn flush(pair: &mut Pair, from: usize) -> Result<bool> {
        let target = &pair.ends[1 - from];
        let direction = &mut pair.directions[from];
        while !direction.pending.is_empty() {
            match net::send(target, &direction.pending, SendFlags::NOSIGNAL) {
                Ok(n) => drop(direction.pending.drain(..n)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        direction.pending = Vec::new();
        let Some(pipe) = &mut direction.pipe else {
            return Ok(true);
        };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        while pipe.held > 0 {
            match rustix::pipe::splice(&pipe.read, None, target, None, pipe.held, flags) {
                Ok(n) => pipe.held -= n,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn new_pipe() -> Result<Pipe> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
    // A smaller pipe works as well, only slower; the kernel may refuse a large one.
    let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
    Ok(Pipe {
        read,
        write,
        held: 0,
    })
}
