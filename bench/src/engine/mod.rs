//! The load: clients and backends in one single-threaded, level-triggered epoll loop.
//!
//! Both ends of every connection through the proxy are here, so counts and bytes of both can be
//! compared exactly, and one wait serves both. It knows nothing of proxies beyond an address.

mod client;
mod http;
mod l4;
mod net;
mod run;
mod tls;

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::{Errno, Result};

use crate::histogram::Histogram;
use crate::pattern::Pattern;
use crate::workload::{Tls, Workload};

use client::Client;
use http::HttpBackend;
use l4::L4Backend;

pub use run::{Cell, IdleProbe, Outcome};

/// Backends of each kind, all behind one proxy.
pub const BACKENDS: usize = 3;
const SCRATCH_BYTES: usize = 256 << 10;
const EVENTS_MAX: usize = 1024;

/// Where the backends listen.
#[derive(Clone, Debug, Default)]
pub struct Backends {
    /// The L4 backends' ports.
    pub l4: Vec<u16>,
    /// The HTTP backends' ports.
    pub http: Vec<u16>,
}

/// What the backends saw since the engine was made; all of it only grows.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Connections or requests that each backend answered.
    pub by_backend: [u64; BACKENDS],
    /// Bytes of uploads.
    pub bytes_up: u64,
    /// Bytes of downloads, as handed to the kernel.
    pub bytes_down: u64,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

#[derive(Debug)]
struct Connection {
    fd: OwnedFd,
    role: Role,
    /// What epoll watches it for.
    interest: EventFlags,
}

#[derive(Debug)]
enum Role {
    /// Accepts for the backend of this number.
    Listener {
        backend: usize,
        http: bool,
    },
    L4Backend(L4Backend),
    HttpBackend(HttpBackend),
    Client(Client),
}

/// What becomes of a connection after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    Close,
}

/// Clients and backends in one loop.
pub struct Engine {
    epoll: OwnedFd,
    events: Vec<Event>,
    slots: Vec<Slot>,
    free: Vec<usize>,
    scratch: Vec<u8>,
    pattern: Pattern,
    answers: http::Answers,
    started: Instant,
    served: Served,
    /// None where clients do not speak TLS.
    tls: Option<tls::Clients>,
    load: Load,
}

/// The clients' side of the load that runs.
#[derive(Debug, Default)]
struct Load {
    workload: Option<Workload>,
    targets: Vec<SocketAddrV4>,
    next_target: usize,
    /// Finished units are followed by new ones.
    running: bool,
    /// Ended early: more load would only fail again.
    failed: bool,
    /// When latencies are recorded, in nanoseconds of the engine's clock.
    window: std::ops::Range<u64>,
    sequence: u64,
    /// Client connections that are open.
    clients: usize,
    /// Connections that are to be opened at the next turn.
    to_open: usize,
    /// With a rate: units whose time has come.
    released: u64,
    in_flight: usize,
    begun: u64,
    completed: u64,
    bytes_sent: u64,
    bytes_received: u64,
    latencies: Histogram,
    errors: BTreeMap<&'static str, u64>,
    /// With a rate: open connections with nothing to do, by slot and generation.
    idle: Vec<(usize, u32)>,
    /// With a rate: units that are due but found no idle connection, by due time.
    overdue: std::collections::VecDeque<u64>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("load", &self.load)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// An engine without connections.
    ///
    /// # Errors
    ///
    /// epoll_create1(2).
    pub fn new() -> Result<Self> {
        let pattern = Pattern::new();
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
            slots: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            answers: http::Answers::new(&pattern),
            pattern,
            started: Instant::now(),
            served: Served::default(),
            tls: None,
            load: Load::default(),
        })
    }

    /// From here on clients speak TLS, or do not; sessions of before are forgotten.
    ///
    /// # Errors
    ///
    /// In words.
    pub fn speak(&mut self, tls: Option<Tls>) -> std::result::Result<(), String> {
        self.tls = tls
            .map(tls::Clients::new)
            .transpose()
            .map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Opens the backends on free ports of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// No socket or port is left.
    pub fn listen(&mut self) -> Result<Backends> {
        let mut backends = Backends::default();
        for http in [false, true] {
            for backend in 0..BACKENDS {
                let (fd, port) = net::listen()?;
                self.insert(fd, Role::Listener { backend, http }, EventFlags::IN)?;
                let ports = if http {
                    &mut backends.http
                } else {
                    &mut backends.l4
                };
                ports.push(port);
            }
        }
        Ok(backends)
    }

    /// Waits up to `wait_ms` for events (0 does not wait) and handles them.
    fn turn(&mut self, wait_ms: u32) {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let timeout = Timespec {
            tv_sec: i64::from(wait_ms / 1000),
            tv_nsec: i64::from(wait_ms % 1000) * 1_000_000,
        };
        let room = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.epoll, room, Some(&timeout)).is_ok() {
            for event in &events {
                self.on_event(event.data.u64(), event.flags);
            }
        }
        self.events = events;
    }

    fn on_event(&mut self, data: u64, flags: EventFlags) {
        let index = usize::try_from(data & u64::from(u32::MAX)).unwrap_or(usize::MAX);
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if u64::from(slot.generation) != data >> 32 {
            return;
        }
        let Some(mut connection) = slot.connection.take() else {
            return;
        };
        if self.dispatch(index, &mut connection, flags) == Fate::Keep {
            self.slots[index].connection = Some(connection);
        } else {
            self.release(index);
        }
    }

    fn dispatch(&mut self, index: usize, connection: &mut Connection, flags: EventFlags) -> Fate {
        let Connection { fd, role, interest } = connection;
        let (wanted, fate) = match role {
            Role::Listener { backend, http } => {
                self.accept(fd, *backend, *http);
                (*interest, Fate::Keep)
            }
            Role::L4Backend(backend) => self.on_l4_backend(fd, backend, flags),
            Role::HttpBackend(backend) => self.on_http_backend(fd, backend, flags),
            Role::Client(client) => self.on_client(index, fd, client, flags),
        };
        if fate == Fate::Keep && wanted != *interest {
            let data = EventData::new_u64(self.token(index));
            if epoll::modify(&self.epoll, fd, data, wanted).is_err() {
                self.error("epoll_ctl failed");
                return Fate::Close;
            }
            *interest = wanted;
        }
        fate
    }

    fn accept(&mut self, listener: &OwnedFd, backend: usize, http: bool) {
        loop {
            match net::accept(listener) {
                Ok(fd) => {
                    let role = if http {
                        Role::HttpBackend(HttpBackend::new(backend))
                    } else {
                        Role::L4Backend(L4Backend::new(backend))
                    };
                    if self.insert(fd, role, EventFlags::IN).is_err() {
                        self.error("a backend could not register a connection");
                    }
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(_) => return self.error("a backend could not accept"),
            }
        }
    }

    /// Puts a connection into a slot and registers it.
    fn insert(&mut self, fd: OwnedFd, role: Role, interest: EventFlags) -> Result<usize> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                connection: None,
            });
            self.slots.len() - 1
        });
        let data = EventData::new_u64(self.token(index));
        if let Err(error) = epoll::add(&self.epoll, &fd, data, interest) {
            self.free.push(index);
            return Err(error);
        }
        self.slots[index].connection = Some(Box::new(Connection { fd, role, interest }));
        Ok(index)
    }

    /// Gives a slot back; the generation makes events for its old connection stale.
    fn release(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.connection = None;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
    }

    fn token(&self, index: usize) -> u64 {
        u64::from(self.slots[index].generation) << 32 | index as u64
    }

    fn error(&mut self, what: &'static str) {
        *self.load.errors.entry(what).or_insert(0) += 1;
    }

    /// Nanoseconds since the engine was made.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
