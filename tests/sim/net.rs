//! `SimNet`: a deterministic [`Net`] with a fake clock, and the world of peers around it.
//!
//! It behaves as the kernel does where the loop could notice: events are edges that carry the
//! present state, nothing fires for bytes left unread, room to write is reported only after a
//! write that found none, a reset is told once, a full pipe looks like an empty socket. What the
//! kernel leaves open is drawn from a seed: sizes of windows and segments, delays, the order of
//! events, events for nothing. The same seed gives the same run.
//!
//! Clients and origins are driven by the test through [`World`]; all a peer does arrives at the
//! next wait, after the drawn delay, or (with `interleave_percent`) in the midst of a turn.
//!
//! It is stricter than the kernel in one thing: a write that takes only a part arms no event for
//! more room; only one that was `Blocked` does.

#![allow(dead_code, reason = "each test crate uses a part of it")]

#[path = "tls.rs"]
pub(crate) mod tls;
#[path = "toy.rs"]
mod toy;

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use weir::core::address::Address;
use weir::core::keepalive::Keepalive;
use weir::core::layer::LayerSpace;
use weir::core::readiness::{Io, Readiness};
use weir::core::time::Tick;
use weir::net::{Accept, ConnectError, Fired, Kind, Net, Target, Then};
use weir::tls::Connection;

use tls::{Charged, Records, TlsPeer};
use toy::{Opener, Toy};

/// What the seed may draw, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What each buffer of a connection holds; drawn per connection and direction.
    pub(crate) window_bytes: RangeInclusive<usize>,
    /// What arrives, or is taken by a peer, at once.
    pub(crate) segment_bytes: RangeInclusive<usize>,
    /// From something done at one end to its arrival at the other.
    pub(crate) delay_ms: RangeInclusive<u64>,
    /// How much later than it could have a wait ends.
    pub(crate) jitter_ms: RangeInclusive<u64>,
    /// A wait ends after this even when nothing happened, so that the test can act.
    pub(crate) sleep_ms_max: Option<u64>,
    /// Segments that a pipe holds, whatever their size.
    pub(crate) pipe_slots: usize,
    /// Events that one wait reports.
    pub(crate) events_max: usize,
    /// Streams that may be open before accept, connect and pipe fail for want of descriptors.
    pub(crate) streams_max: usize,
    /// Chance per call that something due happens just before it.
    pub(crate) interleave_percent: u64,
    /// Chance per wait of an event for nothing.
    pub(crate) spurious_percent: u64,
    /// Chance per close that an event of the closed stream is still reported.
    pub(crate) stale_percent: u64,
    /// Chance per write that only a part of what fits is taken.
    pub(crate) short_write_percent: u64,
    /// Chance per read that only a part of what is there is given. The kernel does not do this:
    /// zero when the worker takes a short read as an empty socket.
    pub(crate) short_read_percent: u64,
    /// Chance per accept that the connection is already gone.
    pub(crate) aborted_percent: u64,
    /// Chance per accept that descriptors run out for a while.
    pub(crate) exhausted_percent: u64,
    /// How long that while is.
    pub(crate) exhausted_ms: RangeInclusive<u64>,
    /// Both ends of every connection speak records of a toy layer. By default as the environment
    /// says, so that every scenario can be played over it.
    pub(crate) has_layer: bool,
    /// And these are records of TLS.
    pub(crate) is_tls: bool,
}

impl Settings {
    /// A world without accidents: everything arrives whole, at once and in order.
    pub(crate) fn plain() -> Self {
        Self {
            window_bytes: 65_536..=65_536,
            segment_bytes: 65_536..=65_536,
            delay_ms: 0..=0,
            jitter_ms: 0..=0,
            sleep_ms_max: None,
            pipe_slots: 16,
            events_max: 1024,
            streams_max: usize::MAX,
            interleave_percent: 0,
            spurious_percent: 0,
            stale_percent: 0,
            short_write_percent: 0,
            short_read_percent: 0,
            aborted_percent: 0,
            exhausted_percent: 0,
            exhausted_ms: 1..=50,
            has_layer: std::env::var_os("WEIR_SIM_LAYER").is_some(),
            is_tls: std::env::var_os("WEIR_SIM_LAYER").is_some_and(|it| it == "tls"),
        }
    }

    /// A world in which everything that may happen does.
    pub(crate) fn hostile() -> Self {
        Self {
            window_bytes: 1..=600,
            segment_bytes: 1..=200,
            delay_ms: 0..=20,
            jitter_ms: 0..=3,
            sleep_ms_max: Some(1000),
            pipe_slots: 3,
            events_max: 7,
            interleave_percent: 20,
            spurious_percent: 20,
            stale_percent: 30,
            short_write_percent: 30,
            aborted_percent: 3,
            exhausted_percent: 1,
            ..Self::plain()
        }
    }
}

/// How many calls of each kind were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) wait: u64,
    pub(crate) watch_listener: u64,
    pub(crate) stop_listening: u64,
    pub(crate) accept: u64,
    pub(crate) connect: u64,
    pub(crate) probe: u64,
    pub(crate) watch: u64,
    pub(crate) connected: u64,
    pub(crate) read: u64,
    pub(crate) peek: u64,
    pub(crate) write: u64,
    pub(crate) write_end: u64,
    pub(crate) pipe: u64,
    pub(crate) fill: u64,
    pub(crate) drain: u64,
    pub(crate) shutdown: u64,
    pub(crate) reset: u64,
    pub(crate) close: u64,
    pub(crate) set_keepalive: u64,
    pub(crate) local_address: u64,
    pub(crate) unacknowledged: u64,
}

/// How long the kernel puts off the last ACK of a handshake at most (`TCP_DELACK_MAX`).
const LAST_ACK_MS: u64 = 200;

/// What an origin does with those who connect to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Takes them; see [`World::origin_accepted`].
    Accept,
    /// Takes them and closes at once.
    AcceptThenClose,
    /// Takes them and resets at once.
    AcceptThenReset,
    /// Refuses them.
    Refuse,
    /// Never answers.
    Blackhole,
    /// The attempt fails at once.
    Unreachable,
    /// The machine does not permit the attempt.
    Forbidden,
}

/// The far end of a connection: a client, or an origin's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerId(usize);

impl PeerId {
    /// No other peer has it.
    pub(crate) fn number(self) -> usize {
        self.0
    }
}

/// A listener, for those who connect to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ListenerId(usize);

/// The fake. Clones share one world, so the test keeps one and the worker gets another. Several
/// workers in one world have fakes of different numbers: each is told of its own streams only.
#[derive(Clone)]
pub(crate) struct SimNet {
    shared: Rc<RefCell<World>>,
    worker: usize,
    layer_space: LayerSpace,
}

/// A listening socket of the fake.
pub(crate) struct SimListener(ListenerId);

impl SimListener {
    /// The name that clients connect to.
    pub(crate) fn id(&self) -> ListenerId {
        self.0
    }
}

/// A stream of the fake. Dropping it unclosed is a leak that [`World::leaked_streams`] tells.
pub(crate) struct SimStream {
    id: usize,
    world: Rc<RefCell<World>>,
}

impl SimStream {
    /// The far end.
    pub(crate) fn peer(&self) -> PeerId {
        PeerId(self.id)
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        // A failed test leaves everything open, and while it unwinds it may still hold the world.
        if std::thread::panicking() {
            return;
        }
        let Ok(mut world) = self.world.try_borrow_mut() else {
            return;
        };
        if world.conns[self.id].end == End::Open {
            world.conns[self.id].end = End::Leaked;
            world.note(|| format!("stream {} was dropped unclosed", self.id));
        }
    }
}

/// A pipe of the fake.
pub(crate) struct SimPipe {
    id: usize,
    world: Rc<RefCell<World>>,
}

impl Drop for SimPipe {
    fn drop(&mut self) {
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.pipes.remove(&self.id);
        }
    }
}

impl SimNet {
    pub(crate) fn new(seed: u64, settings: Settings) -> Self {
        Self {
            shared: Rc::new(RefCell::new(World::new(seed, settings))),
            worker: 0,
            layer_space: LayerSpace::default(),
        }
    }

    /// The same world as another worker meets it.
    pub(crate) fn of_worker(&self, worker: usize) -> Self {
        Self {
            shared: Rc::clone(&self.shared),
            worker,
            layer_space: LayerSpace::default(),
        }
    }

    /// The world, to be let go before the worker runs again.
    pub(crate) fn world(&self) -> RefMut<'_, World> {
        self.shared.borrow_mut()
    }

    /// Opens a listener.
    pub(crate) fn listen(&self) -> SimListener {
        let mut world = self.world();
        world.listeners.push(Listening {
            worker: self.worker,
            ..Listening::default()
        });
        SimListener(ListenerId(world.listeners.len() - 1))
    }

    /// The listening socket that a worker left behind, as its successor gets it.
    pub(crate) fn hand_over(&self, id: ListenerId) -> SimListener {
        self.world().listeners[id.0].worker = self.worker;
        SimListener(id)
    }

    fn call(&self) -> RefMut<'_, World> {
        let mut world = self.world();
        world.interleave();
        world
    }

    fn stream(&self, id: usize) -> SimStream {
        SimStream {
            id,
            world: Rc::clone(&self.shared),
        }
    }
}

/// Everything outside the worker.
pub(crate) struct World {
    seed: u64,
    settings: Settings,
    rng: Rng,
    /// What the workers are given, so that a draw of theirs changes nothing of the world's.
    random: Rng,
    now: u64,
    agenda: BTreeMap<(u64, u64), Event>,
    agenda_next: u64,
    conns: Vec<Conn>,
    listeners: Vec<Listening>,
    origins: Vec<Origin>,
    pipes: BTreeMap<usize, Segments>,
    pipe_next: usize,
    ready: Vec<Source>,
    stale: Vec<(usize, Target)>,
    exhausted: bool,
    abort_next: usize,
    asleep: bool,
    progress: u64,
    calls: Calls,
    /// The next stream to be watched cannot be.
    pub(crate) fails_next_watch: bool,
    /// Asymmetric cryptography of the workers so far, in microseconds, which the clock has had.
    work_us: u64,
    /// What happens between two calls of the worker, and after how many from now.
    between: Option<(usize, Script)>,
    trace: VecDeque<String>,
}

/// Something that happens at a tick.
enum Event {
    /// A client's connection is refused.
    Refuse(usize),
    /// A client's connection reaches its listener.
    Arrive(usize, ListenerId),
    /// A connection of the worker reaches its origin.
    Syn(usize, Address),
    /// The put-off end of a probe's handshake reaches its origin, which now accepts it.
    LastAck(usize, Address),
    /// A segment, or the end, from the peer reaches the worker's side.
    Deliver(usize),
    /// The peer takes what the worker's side has sent.
    Take(usize),
    /// The peer's reset reaches the worker's side.
    Reset(usize),
    /// Descriptors are free again.
    Replenish,
    /// Whatever the test wants.
    Script(Script),
}

/// What a test does to the world at a time of its choice.
type Script = Box<dyn FnOnce(&mut World)>;

/// What can fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Conn(usize),
    Listener(usize),
    Control(u32),
}

#[derive(Default)]
struct Listening {
    worker: usize,
    queue: VecDeque<usize>,
    watch: Option<Target>,
    edge: bool,
    /// New connections are refused; handshakes that have begun end in the queue.
    admits_no_more: bool,
    closed: bool,
}

struct Origin {
    address: Address,
    behaviour: Behaviour,
    accepted: Vec<PeerId>,
}

/// Bytes with the places where one arrival ended and the next began.
#[derive(Default)]
struct Segments {
    bytes: VecDeque<u8>,
    lengths: VecDeque<usize>,
}

impl Segments {
    fn push(&mut self, bytes: impl ExactSizeIterator<Item = u8>) {
        self.lengths.push_back(bytes.len());
        self.bytes.extend(bytes);
    }

    fn take(&mut self, mut count: usize) -> Vec<u8> {
        let taken = self.bytes.drain(..count).collect();
        while count > 0 {
            let first = self.lengths[0];
            if first > count {
                self.lengths[0] -= count;
                break;
            }
            self.lengths.pop_front();
            count -= first;
        }
        taken
    }
}

/// The worker's end of a connection, as a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Queued,
    Open,
    Closed,
    Leaked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Established,
    /// Reset, or never established.
    Dead,
}

/// A connection: the worker's socket and the peer at the other end.
struct Conn {
    /// Whose descriptor it is; of a client that waits, nobody's yet.
    worker: usize,
    end: End,
    phase: Phase,
    /// The pending error of the socket, told once.
    error: Option<ErrorKind>,
    watch: Option<Target>,
    edge: bool,
    remote: SocketAddr,
    /// What the worker can read, and how much of it there may be.
    inbound: Segments,
    inbound_max: usize,
    inbound_ended: bool,
    /// What the worker has written and the peer has not taken.
    outbound: VecDeque<u8>,
    outbound_max: usize,
    outbound_shut: bool,
    /// The worker has promised that the end follows what it wrote last.
    awaits_end: bool,
    /// A write was blocked since the last event for room.
    wants_room: bool,
    keepalive: bool,
    /// The last ACK of its handshake is put off.
    owes_ack: bool,
    resets_on_close: bool,
    accepted: bool,
    /// What the worker watched it for.
    owner: Option<Kind>,
    /// All that the worker has written; with a layer, the records that are whole.
    written_bytes: u64,
    /// What of that was written when the peer had closed: nobody acknowledges it.
    unacknowledged: usize,
    written: Opener,
    peer: Peer,
    /// The peer's side of TLS, once the worker has its own.
    tls: Option<TlsPeer>,
    /// What was written over it: up to which byte of the socket, and what that carries.
    carried: VecDeque<(usize, Vec<u8>)>,
    socket_written: usize,
    socket_taken: usize,
    /// [`World::work`] at the last read, and the most between two.
    read_at_us: Option<u64>,
    waited_us_max: u64,
}

/// The far end.
struct Peer {
    unsent: VecDeque<u8>,
    /// What is to be sent over TLS before there is any, and whether the end is to follow.
    unsealed: Vec<u8>,
    ends_later: bool,
    ending: bool,
    closed: bool,
    received: Vec<u8>,
    saw_end: bool,
    saw_reset: bool,
    /// Of its records, with a layer.
    opener: Opener,
    reading: bool,
    /// Overrides the drawn segment size and delay.
    pace: Option<(usize, u64)>,
    deliver_due: bool,
    take_due: bool,
}

impl Conn {
    /// What epoll would report: the present state, whatever the edge was.
    fn state(&self) -> Readiness {
        match self.phase {
            Phase::Connecting => return Readiness::NONE,
            Phase::Dead => return Readiness::ALL,
            Phase::Established if self.inbound_ended && self.outbound_shut => {
                return Readiness::ALL;
            }
            Phase::Established => {}
        }
        let mut ready = Readiness::NONE;
        if !self.inbound.bytes.is_empty() {
            ready.add(Readiness::READ);
        }
        if self.inbound_ended {
            ready.add(Readiness::READ | Readiness::CLOSING);
        }
        if self.outbound_shut || self.has_room() {
            ready.add(Readiness::WRITE);
        }
        ready
    }

    /// Whether so much is free that the kernel speaks of room.
    fn has_room(&self) -> bool {
        self.outbound.len() * 2 <= self.outbound_max && self.outbound.len() < self.outbound_max
    }

    /// What a read finds when no byte is there.
    fn end_of_input(&mut self) -> Io<usize> {
        match (self.phase, self.inbound_ended) {
            (Phase::Connecting, _) => Io::Blocked,
            (_, true) => Io::Closed,
            (Phase::Established, false) => Io::Blocked,
            (Phase::Dead, false) => self.error.take().map_or(Io::Closed, Io::Failed),
        }
    }

    /// How many bytes may be written now, or why none.
    fn room(&mut self) -> Result<usize, Io<usize>> {
        if self.phase == Phase::Connecting {
            return Err(Io::Blocked);
        }
        if self.phase == Phase::Dead || self.outbound_shut {
            let error = self.error.take();
            return Err(Io::Failed(error.unwrap_or(ErrorKind::BrokenPipe)));
        }
        match self.outbound_max - self.outbound.len() {
            0 => {
                self.wants_room = true;
                Err(Io::Blocked)
            }
            room => Ok(room),
        }
    }
}

// What tests do to the world, and ask of it.
impl World {
    fn new(seed: u64, settings: Settings) -> Self {
        Self {
            seed,
            settings,
            rng: Rng(seed),
            random: Rng(!seed),
            now: 0,
            agenda: BTreeMap::new(),
            agenda_next: 0,
            conns: Vec::new(),
            listeners: Vec::new(),
            origins: Vec::new(),
            pipes: BTreeMap::new(),
            pipe_next: 0,
            ready: Vec::new(),
            stale: Vec::new(),
            exhausted: false,
            abort_next: 0,
            asleep: false,
            progress: 0,
            calls: Calls::default(),
            fails_next_watch: false,
            work_us: 0,
            between: None,
            trace: VecDeque::new(),
        }
    }

    pub(crate) fn now(&self) -> Tick {
        Tick(self.now)
    }

    /// Lets time pass as if the worker had been stopped; what is due happens at the next wait.
    pub(crate) fn advance(&mut self, ms: u64) {
        self.now += ms;
    }

    /// A worker does nothing else for so many microseconds.
    pub(crate) fn work(&mut self, us: u64) {
        let before = self.work_us;
        self.work_us += us;
        self.now += self.work_us / 1000 - before / 1000;
    }

    /// How many they were so far.
    pub(crate) fn worked_us(&self) -> u64 {
        self.work_us
    }

    /// The most of it that lay between two reads of what this peer has sent.
    pub(crate) fn peer_waited_us(&self, peer: PeerId) -> u64 {
        self.conns[peer.0].waited_us_max
    }

    /// Lets all that is due happen now, as between two calls of the worker.
    pub(crate) fn settle(&mut self) {
        while self.run_next_due() {}
    }

    /// Whether nothing is on the way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.agenda.is_empty()
    }

    /// How much has happened: grows with whatever a peer does and with every byte that moves. A
    /// worker that goes on calling while it does not is spinning.
    pub(crate) fn progress(&self) -> u64 {
        self.progress
    }

    /// Whether the last wait had nothing to wait for: no timer, and nothing on the way.
    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep
    }

    pub(crate) fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// A draw for the test's own decisions, so that one seed governs all.
    pub(crate) fn draw(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.rng.within(range)
    }

    /// Does something at a tick (at the next wait if that has passed).
    pub(crate) fn schedule(&mut self, at: Tick, script: impl FnOnce(&mut Self) + 'static) {
        self.enter(at.0, Event::Script(Box::new(script)));
    }

    /// Does something after so many more calls of the worker, waits not counted, before the next.
    pub(crate) fn after_calls(&mut self, calls: usize, script: impl FnOnce(&mut Self) + 'static) {
        self.between = Some((calls, Box::new(script)));
    }

    /// Bytes that were written to peers when these had closed.
    pub(crate) fn written_in_vain(&self) -> usize {
        self.conns.iter().map(|conn| conn.unacknowledged).sum()
    }

    /// Connects a client.
    pub(crate) fn client_connect(&mut self, to: ListenerId) -> PeerId {
        let id = self.conns.len();
        let low = u8::try_from(id % 200).expect("below 200") + 1;
        let port = u16::try_from(20_000 + id % 40_000).expect("below 60,000");
        self.client_connect_from(to, (Ipv4Addr::new(10, 0, 0, low), port).into())
    }

    /// Connects a client that has this address.
    pub(crate) fn client_connect_from(&mut self, to: ListenerId, from: SocketAddr) -> PeerId {
        let id = self.open(from, End::Queued);
        let refuses = self.listeners[to.0].admits_no_more;
        self.enter_soon(match refuses {
            true => Event::Refuse(id),
            false => Event::Arrive(id, to),
        });
        PeerId(id)
    }

    /// Connections waiting to be accepted.
    pub(crate) fn queued_clients(&self, listener: ListenerId) -> usize {
        self.listeners[listener.0].queue.len()
    }

    /// Sets what an origin does from now on. An address never named refuses.
    pub(crate) fn origin_listen(&mut self, address: &Address, behaviour: Behaviour) {
        self.origin(address).behaviour = behaviour;
    }

    /// The connections taken by an origin since the last call.
    pub(crate) fn origin_accepted(&mut self, address: &Address) -> Vec<PeerId> {
        std::mem::take(&mut self.origin(address).accepted)
    }

    /// Whether an origin has taken connections since the last [`World::origin_accepted`].
    pub(crate) fn origin_is_asked(&mut self, address: &Address) -> bool {
        !self.origin(address).accepted.is_empty()
    }

    /// Sends bytes; what does not fit the window follows when there is room.
    pub(crate) fn peer_send(&mut self, peer: PeerId, bytes: &[u8]) {
        let mut records = Vec::new();
        let conn = &mut self.conns[peer.0];
        let unsent = &mut conn.peer.unsent;
        if self.settings.is_tls && self.settings.has_layer {
            match &mut conn.tls {
                Some(tls) => tls.seal(bytes, &mut records),
                None => conn.peer.unsealed.extend(bytes),
            }
            unsent.extend(records);
        } else if self.settings.has_layer {
            toy::seal(bytes, &mut records);
            toy::seal_note(&mut records);
            unsent.extend(records);
        } else {
            unsent.extend(bytes);
        }
        self.deliver_soon(peer.0);
    }

    /// Sends bytes as they are, whatever the layer.
    pub(crate) fn peer_send_raw(&mut self, peer: PeerId, bytes: &[u8]) {
        self.conns[peer.0].peer.unsent.extend(bytes);
        self.deliver_soon(peer.0);
    }

    /// Sends half of the records of the toy that carry this; the rest is to be sent as it is.
    pub(crate) fn peer_send_half(&mut self, peer: PeerId, bytes: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        toy::seal(bytes, &mut records);
        let rest = records.split_off(records.len() / 2);
        self.peer_send_raw(peer, &records);
        rest
    }

    /// Sends so many records of the toy that carry nothing.
    pub(crate) fn peer_send_notes(&mut self, peer: PeerId, count: usize) {
        let mut notes = Vec::new();
        for _ in 0..count {
            toy::seal_note(&mut notes);
        }
        self.peer_send_raw(peer, &notes);
    }

    /// Lets the layer at the other end answer something by itself.
    pub(crate) fn peer_ask_layer(&mut self, peer: PeerId) {
        let mut ask = Vec::new();
        toy::seal_ask(&mut ask);
        self.peer_send_raw(peer, &ask);
    }

    /// What the layer at the other end has said by itself, in records.
    pub(crate) fn peer_notes(&self, peer: PeerId) -> usize {
        self.conns[peer.0].peer.opener.notes
    }

    /// Bytes that were sent and have not reached the worker's side.
    pub(crate) fn peer_unsent(&self, peer: PeerId) -> usize {
        let peer = &self.conns[peer.0].peer;
        peer.unsent.len() + peer.unsealed.len()
    }

    /// Ends the sending direction, after what was sent.
    pub(crate) fn peer_close_write(&mut self, peer: PeerId) {
        let conn = &mut self.conns[peer.0];
        if self.settings.has_layer && !conn.peer.ending {
            if self.settings.is_tls && conn.tls.is_none() {
                conn.peer.ends_later = true;
                return;
            }
            self.peer_mark_end(peer);
        }
        self.peer_cut_write(peer);
    }

    /// Marks the end as a layer has it, and can send on.
    pub(crate) fn peer_mark_end(&mut self, peer: PeerId) {
        let mut mark = Vec::new();
        match &mut self.conns[peer.0].tls {
            Some(tls) => tls.seal_end(&mut mark),
            None => toy::seal_end(&mut mark),
        }
        self.peer_send_raw(peer, &mark);
    }

    /// The same, without the mark that a layer has for it.
    pub(crate) fn peer_cut_write(&mut self, peer: PeerId) {
        self.conns[peer.0].peer.ending = true;
        self.deliver_soon(peer.0);
    }

    /// The connection has TLS from here on: what waits for it is sent.
    fn secure(&mut self, id: usize, mut tls: TlsPeer) {
        let conn = &mut self.conns[id];
        let mut records = Vec::new();
        tls.seal(&std::mem::take(&mut conn.peer.unsealed), &mut records);
        if conn.peer.ends_later {
            tls.seal_end(&mut records);
            conn.peer.ending = true;
        }
        conn.peer.unsent.extend(records);
        conn.tls = Some(tls);
        self.deliver_soon(id);
    }

    /// Closes both directions, as close(2) does: a reset if unread bytes are thrown away, else
    /// an end; whatever comes later is answered by a reset.
    pub(crate) fn peer_close(&mut self, peer: PeerId) {
        let conn = &mut self.conns[peer.0];
        conn.peer.closed = true;
        if conn.outbound.is_empty() {
            self.peer_close_write(peer);
        } else {
            self.peer_reset(peer);
        }
    }

    /// Resets; what was sent and has not arrived is lost.
    pub(crate) fn peer_reset(&mut self, peer: PeerId) {
        let it = &mut self.conns[peer.0].peer;
        it.closed = true;
        it.unsent.clear();
        it.unsealed.clear();
        self.enter_soon(Event::Reset(peer.0));
    }

    /// All that was received.
    pub(crate) fn peer_received(&self, peer: PeerId) -> &[u8] {
        &self.conns[peer.0].peer.received
    }

    /// Whether the worker's end of stream was read, after all bytes.
    pub(crate) fn peer_saw_end(&self, peer: PeerId) -> bool {
        self.conns[peer.0].peer.saw_end
    }

    /// Whether the connection was refused or reset by the worker's side.
    pub(crate) fn peer_saw_reset(&self, peer: PeerId) -> bool {
        self.conns[peer.0].peer.saw_reset
    }

    /// Stops or resumes reading. A peer that does not read stalls the worker's writes.
    pub(crate) fn peer_read_enabled(&mut self, peer: PeerId, enabled: bool) {
        self.conns[peer.0].peer.reading = enabled;
        self.take_soon(peer.0);
    }

    /// Reads at most so many bytes every so many milliseconds.
    pub(crate) fn peer_read_pace(&mut self, peer: PeerId, bytes: usize, every_ms: u64) {
        self.conns[peer.0].peer.pace = Some((bytes, every_ms));
    }

    /// Reads exactly so many bytes, at once, and then no more.
    pub(crate) fn peer_read_exactly(&mut self, peer: PeerId, count: usize) {
        let conn = &mut self.conns[peer.0];
        assert!(count <= conn.outbound.len(), "so much was written");
        conn.peer.reading = false;
        self.receive(peer.0, count);
    }

    /// Whether the worker accepted this client.
    pub(crate) fn was_accepted(&self, client: PeerId) -> bool {
        self.conns[client.0].accepted
    }

    /// Clients that were accepted.
    pub(crate) fn accepted_clients(&self) -> usize {
        self.conns.iter().filter(|conn| conn.accepted).count()
    }

    /// What the worker watches, or last watched, its end for.
    pub(crate) fn owner(&self, peer: PeerId) -> Option<Kind> {
        self.conns[peer.0].owner
    }

    /// All that the worker has written to this peer, received or not.
    pub(crate) fn written_bytes(&self, peer: PeerId) -> u64 {
        self.conns[peer.0].written_bytes
    }

    /// Whether every connection has a layer.
    pub(crate) fn has_layer(&self) -> bool {
        self.settings.has_layer
    }

    /// Whether the worker turned keepalive on.
    pub(crate) fn has_keepalive(&self, peer: PeerId) -> bool {
        self.conns[peer.0].keepalive
    }

    /// From now on accept, connect and pipe fail for want of descriptors, or no longer do.
    pub(crate) fn exhaust(&mut self, exhausted: bool) {
        self.exhausted = exhausted;
    }

    /// The next so many accepted connections turn out to be gone.
    pub(crate) fn abort_next_accepts(&mut self, count: usize) {
        self.abort_next = count;
    }

    /// Fires a control event, as a signal does.
    pub(crate) fn fire_control(&mut self, key: u32) {
        self.ready.push(Source::Control(key));
    }

    /// Streams that the worker has open, those it dropped unclosed among them.
    pub(crate) fn open_streams(&self) -> usize {
        let is_open = |conn: &&Conn| matches!(conn.end, End::Open | End::Leaked);
        self.conns.iter().filter(is_open).count()
    }

    /// Streams that the worker dropped without closing or resetting them.
    pub(crate) fn leaked_streams(&self) -> usize {
        let leaked = |conn: &&Conn| conn.end == End::Leaked;
        self.conns.iter().filter(leaked).count()
    }

    /// The open streams of a worker, each with what it is watched for and its other end.
    pub(crate) fn streams_of(
        &self,
        worker: usize,
    ) -> impl Iterator<Item = (PeerId, Kind, SocketAddr)> {
        let conns = self.conns.iter().enumerate();
        conns.filter_map(move |(id, conn)| {
            let is_its_own = conn.worker == worker && conn.end == End::Open;
            let kind = conn.owner.filter(|_| is_its_own)?;
            Some((PeerId(id), kind, conn.remote))
        })
    }

    /// Ends a worker as SIGKILL does: the kernel closes all that it has open but its listeners,
    /// which somebody else holds as well.
    pub(crate) fn kill_worker(&mut self, worker: usize) {
        self.note(|| format!("worker {worker} is killed"));
        let open: Vec<PeerId> = self.streams_of(worker).map(|(peer, ..)| peer).collect();
        for peer in open {
            self.close(peer.0);
        }
        for listener in &mut self.listeners {
            if listener.worker == worker {
                listener.watch = None;
                listener.edge = false;
            }
        }
        self.stale.retain(|&(owner, _)| owner != worker);
        let ready = std::mem::take(&mut self.ready);
        let others = ready.into_iter();
        self.ready = others
            .filter(|&source| self.owner_of(source) != worker)
            .collect();
    }

    pub(crate) fn open_pipes(&self) -> usize {
        self.pipes.len()
    }

    pub(crate) fn open_listeners(&self) -> usize {
        self.listeners.iter().filter(|one| !one.closed).count()
    }

    pub(crate) fn calls(&self) -> Calls {
        self.calls
    }

    /// The counts so far, which then start from zero.
    pub(crate) fn take_calls(&mut self) -> Calls {
        std::mem::take(&mut self.calls)
    }

    /// The last things that happened, oldest first.
    pub(crate) fn trace(&self) -> String {
        self.trace
            .iter()
            .map(|line| format!("  {line}\n"))
            .collect()
    }
}

// How the world goes on.
impl World {
    fn open(&mut self, remote: SocketAddr, end: End) -> usize {
        let window = self.settings.window_bytes.clone();
        self.conns.push(Conn {
            worker: 0,
            end,
            phase: Phase::Connecting,
            error: None,
            watch: None,
            edge: false,
            remote,
            inbound: Segments::default(),
            inbound_max: self.rng.size(window.clone()),
            inbound_ended: false,
            outbound: VecDeque::new(),
            outbound_max: self.rng.size(window),
            outbound_shut: false,
            awaits_end: false,
            wants_room: false,
            keepalive: false,
            owes_ack: false,
            resets_on_close: false,
            accepted: false,
            owner: None,
            written_bytes: 0,
            unacknowledged: 0,
            written: Opener::default(),
            tls: None,
            carried: VecDeque::new(),
            socket_written: 0,
            socket_taken: 0,
            read_at_us: None,
            waited_us_max: 0,
            peer: Peer {
                unsent: VecDeque::new(),
                unsealed: Vec::new(),
                ends_later: false,
                ending: false,
                closed: false,
                received: Vec::new(),
                saw_end: false,
                saw_reset: false,
                opener: Opener::default(),
                reading: true,
                pace: None,
                deliver_due: false,
                take_due: false,
            },
        });
        self.conns.len() - 1
    }

    fn origin(&mut self, address: &Address) -> &mut Origin {
        let known = self.origins.iter().position(|one| one.address == *address);
        let index = known.unwrap_or_else(|| {
            self.origins.push(Origin {
                address: address.clone(),
                behaviour: Behaviour::Refuse,
                accepted: Vec::new(),
            });
            self.origins.len() - 1
        });
        &mut self.origins[index]
    }

    fn enter(&mut self, at: u64, event: Event) {
        self.agenda.insert((at, self.agenda_next), event);
        self.agenda_next += 1;
    }

    fn enter_soon(&mut self, event: Event) {
        let delay = self.rng.within(self.settings.delay_ms.clone());
        self.enter(self.now + delay, event);
    }

    fn deliver_soon(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        let has_more = !conn.peer.unsent.is_empty() || (conn.peer.ending && !conn.inbound_ended);
        if has_more && conn.phase == Phase::Established && !conn.peer.deliver_due {
            conn.peer.deliver_due = true;
            self.enter_soon(Event::Deliver(id));
        }
    }

    fn take_soon(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        if conn.peer.take_due || conn.phase != Phase::Established {
            return;
        }
        conn.peer.take_due = true;
        match conn.peer.pace {
            Some((_, every_ms)) => self.enter(self.now + every_ms, Event::Take(id)),
            None => self.enter_soon(Event::Take(id)),
        }
    }

    /// Happens before a call of the worker: perhaps the next thing that is due.
    fn interleave(&mut self) {
        match self.between.take() {
            Some((0, script)) => script(self),
            Some((calls, script)) => self.between = Some((calls - 1, script)),
            None => {}
        }
        if self.rng.chance(self.settings.interleave_percent) {
            self.run_next_due();
        }
    }

    fn run_next_due(&mut self) -> bool {
        match self.agenda.first_entry() {
            Some(first) if first.key().0 <= self.now => {
                let event = first.remove();
                self.happen(event);
                true
            }
            _ => false,
        }
    }

    fn happen(&mut self, event: Event) {
        self.progress += 1;
        match event {
            Event::Refuse(id) => self.refuse(id),
            Event::Arrive(id, listener) => self.arrive(id, listener),
            Event::Syn(id, address) => self.answer(id, &address),
            Event::LastAck(id, address) => self.acknowledge(id, &address),
            Event::Deliver(id) => self.deliver(id),
            Event::Take(id) => self.take(id),
            Event::Reset(id) => self.reset_by_peer(id),
            Event::Replenish => self.exhausted = false,
            Event::Script(script) => script(self),
        }
    }

    fn arrive(&mut self, id: usize, listener: ListenerId) {
        let conn = &mut self.conns[id];
        if conn.phase == Phase::Dead {
            return;
        }
        if self.listeners[listener.0].closed {
            return self.refuse(id);
        }
        conn.phase = Phase::Established;
        self.listeners[listener.0].queue.push_back(id);
        self.note(|| format!("client {id} arrives"));
        self.deliver_soon(id);
        self.edge(Source::Listener(listener.0));
    }

    fn refuse(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        conn.phase = Phase::Dead;
        conn.end = End::Closed;
        conn.peer.saw_reset = true;
    }

    fn answer(&mut self, id: usize, address: &Address) {
        if self.conns[id].end != End::Open {
            return;
        }
        let behaviour = self.origin(address).behaviour;
        self.note(|| format!("origin {address} to {id}: {behaviour:?}"));
        match behaviour {
            Behaviour::Blackhole | Behaviour::Unreachable | Behaviour::Forbidden => return,
            Behaviour::Refuse => self.kill(id, ErrorKind::ConnectionRefused),
            Behaviour::Accept | Behaviour::AcceptThenClose | Behaviour::AcceptThenReset => {
                self.conns[id].phase = Phase::Established;
            }
        }
        self.edge(Source::Conn(id));
        if self.conns[id].owes_ack {
            let at = self.now + LAST_ACK_MS;
            self.enter(at, Event::LastAck(id, address.clone()));
        } else {
            self.admit(id, address);
        }
    }

    fn acknowledge(&mut self, id: usize, address: &Address) {
        let conn = &mut self.conns[id];
        if conn.phase == Phase::Established && std::mem::take(&mut conn.owes_ack) {
            self.admit(id, address);
        }
    }

    /// The handshake is complete for the origin, too.
    fn admit(&mut self, id: usize, address: &Address) {
        let origin = self.origin(address);
        origin.accepted.push(PeerId(id));
        match origin.behaviour {
            Behaviour::AcceptThenClose => self.peer_close(PeerId(id)),
            Behaviour::AcceptThenReset => self.peer_reset(PeerId(id)),
            Behaviour::Accept
            | Behaviour::Refuse
            | Behaviour::Blackhole
            | Behaviour::Unreachable
            | Behaviour::Forbidden => {}
        }
    }

    fn deliver(&mut self, id: usize) {
        let segment = self.rng.size(self.settings.segment_bytes.clone());
        let end_follows_at_once = self.rng.chance(50);
        let conn = &mut self.conns[id];
        conn.peer.deliver_due = false;
        if conn.phase != Phase::Established {
            return;
        }
        if conn.end == End::Closed {
            // Bytes for nobody are answered by a reset; an end is not.
            if !conn.peer.unsent.is_empty() {
                conn.phase = Phase::Dead;
                conn.outbound.clear();
                conn.peer.saw_reset = true;
            }
            return;
        }
        let room = conn.inbound_max - conn.inbound.bytes.len();
        let count = conn.peer.unsent.len().min(room).min(segment);
        if count > 0 {
            conn.inbound.push(conn.peer.unsent.drain(..count));
        }
        let ends = conn.peer.ending && conn.peer.unsent.is_empty();
        if ends && (count == 0 || end_follows_at_once) {
            conn.inbound_ended = true;
        }
        let (changed, ended) = (count > 0 || ends, conn.inbound_ended);
        self.note(|| format!("{count} bytes reach {id}, ended {ended}"));
        if changed {
            self.edge(Source::Conn(id));
        }
        if room > count {
            self.deliver_soon(id);
        }
    }

    fn take(&mut self, id: usize) {
        let segment = self.rng.size(self.settings.segment_bytes.clone());
        let conn = &mut self.conns[id];
        conn.peer.take_due = false;
        if conn.phase != Phase::Established {
            return;
        }
        if conn.peer.closed && !conn.outbound.is_empty() {
            return self.reset_by_peer(id);
        }
        if !conn.peer.reading {
            return;
        }
        let most = conn.peer.pace.map_or(segment, |(bytes, _)| bytes);
        let count = conn.outbound.len().min(most);
        self.receive(id, count);
        if !self.conns[id].outbound.is_empty() {
            self.take_soon(id);
        }
    }

    fn receive(&mut self, id: usize, count: usize) {
        let conn = &mut self.conns[id];
        let Peer {
            received, opener, ..
        } = &mut conn.peer;
        let mut is_marked = false;
        if let Some(tls) = &conn.tls {
            conn.outbound.drain(..count);
            conn.socket_taken += count;
            while let Some((end, _)) = conn.carried.front()
                && *end <= conn.socket_taken
                && let Some((_, plain)) = conn.carried.pop_front()
            {
                received.extend(plain);
            }
            is_marked = tls.has_ended;
        } else if self.settings.has_layer {
            let wire: Vec<u8> = conn.outbound.drain(..count).collect();
            opener.open(&wire, received).expect("records of the layer");
        } else {
            received.extend(conn.outbound.drain(..count));
        }
        let shut = conn.outbound_shut || conn.end == End::Closed;
        let has_ended = shut && conn.outbound.is_empty();
        // An end without its mark is a cut.
        let is_marked = is_marked || opener.has_ended;
        let is_cut = has_ended && self.settings.has_layer && !is_marked;
        conn.peer.saw_end |= has_ended && !is_cut;
        conn.peer.saw_reset |= is_cut;
        let room_edge = conn.wants_room && conn.has_room();
        self.note(|| format!("peer {id} takes {count} bytes"));
        if room_edge {
            self.conns[id].wants_room = false;
            self.edge(Source::Conn(id));
        }
    }

    fn reset_by_peer(&mut self, id: usize) {
        let conn = &self.conns[id];
        let error = match (conn.phase, conn.inbound_ended) {
            (Phase::Dead, _) => return,
            (Phase::Connecting, _) => ErrorKind::ConnectionRefused,
            // The kernel's choice for a connection whose input has already ended cleanly.
            (Phase::Established, true) => ErrorKind::BrokenPipe,
            (Phase::Established, false) => ErrorKind::ConnectionReset,
        };
        self.note(|| format!("peer resets {id}"));
        self.kill(id, error);
        self.edge(Source::Conn(id));
    }

    fn kill(&mut self, id: usize, error: ErrorKind) {
        let conn = &mut self.conns[id];
        conn.phase = Phase::Dead;
        conn.error = Some(error);
        conn.outbound.clear();
        conn.peer.unsent.clear();
    }

    /// Something changed: whoever watches is told at the next wait, once, of the state then.
    fn edge(&mut self, source: Source) {
        let (watched, edge) = match source {
            Source::Conn(id) => (self.conns[id].watch, &mut self.conns[id].edge),
            Source::Listener(id) => (self.listeners[id].watch, &mut self.listeners[id].edge),
            Source::Control(_) => unreachable!("fired directly"),
        };
        if watched.is_some() && !*edge {
            *edge = true;
            self.ready.push(source);
        }
    }

    fn is_exhausted(&self) -> bool {
        self.exhausted || self.open_streams() >= self.settings.streams_max
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == 50 {
            self.trace.pop_front();
        }
        self.trace
            .push_back(format!("{:>8} ms: {}", self.now, line()));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {}, and before it failed:\n{}",
                self.seed,
                self.trace()
            );
        }
    }
}

// Waiting.
impl World {
    fn wait(&mut self, worker: usize, until: Option<Tick>, fired: &mut Vec<Fired>) -> Tick {
        self.calls.wait += 1;
        let reported = fired.len();
        let until = self.latest_end(until);
        self.asleep = false;
        self.now += self.rng.within(self.settings.jitter_ms.clone());
        loop {
            self.settle();
            self.collect(worker, fired);
            if fired.len() > reported || until.is_some_and(|until| until <= self.now) {
                break;
            }
            let next = self.agenda.keys().next().map(|key| key.0);
            match next.into_iter().chain(until).min() {
                Some(later) => self.now = self.now.max(later),
                // For ever, for the worker; the test may have something in mind.
                None => {
                    self.asleep = true;
                    break;
                }
            }
        }
        Tick(self.now)
    }

    fn latest_end(&self, until: Option<Tick>) -> Option<u64> {
        let cap = self.settings.sleep_ms_max;
        // Sleeping for ever with nothing on the way stays visible as such.
        let cap = cap.filter(|_| until.is_some() || !self.agenda.is_empty());
        let capped = cap.map(|ms| self.now + ms);
        until.map(|tick| tick.0).into_iter().chain(capped).min()
    }

    fn collect(&mut self, worker: usize, fired: &mut Vec<Fired>) {
        let reported = fired.len();
        let ready = std::mem::take(&mut self.ready);
        let (mut batch, others): (Vec<Source>, Vec<Source>) = ready
            .into_iter()
            .partition(|&source| self.owner_of(source) == worker);
        self.rng.shuffle(&mut batch);
        let count = batch.len().min(self.settings.events_max);
        self.ready = batch.split_off(count);
        self.ready.extend(others);
        fired.extend(batch.into_iter().filter_map(|source| self.report(source)));
        if self.rng.chance(self.settings.spurious_percent) {
            fired.extend(self.spurious(worker));
        }
        self.stale.retain(|&(owner, target)| {
            if owner == worker {
                let ready = Readiness::ALL;
                fired.push(Fired { target, ready });
            }
            owner != worker
        });
        for one in &fired[reported..] {
            let (target, ready) = (one.target, one.ready);
            self.note(|| format!("fires {target:?} {ready:?}"));
        }
    }

    fn owner_of(&self, source: Source) -> usize {
        match source {
            Source::Conn(id) => self.conns[id].worker,
            Source::Listener(id) => self.listeners[id].worker,
            Source::Control(_) => 0,
        }
    }

    fn report(&mut self, source: Source) -> Option<Fired> {
        let (target, ready) = match source {
            Source::Conn(id) => {
                let conn = &mut self.conns[id];
                conn.edge = false;
                // Looking for room without finding it counts as asking for it (tcp_poll).
                conn.wants_room |= conn.phase == Phase::Established && !conn.has_room();
                (conn.watch?, conn.state())
            }
            Source::Listener(id) => {
                let listener = &mut self.listeners[id];
                listener.edge = false;
                let has_some = !listener.queue.is_empty();
                (
                    listener.watch?,
                    if has_some {
                        Readiness::READ
                    } else {
                        Readiness::NONE
                    },
                )
            }
            Source::Control(key) => {
                let (kind, generation) = (Kind::Control, 0);
                let target = Target {
                    kind,
                    key,
                    generation,
                };
                (target, Readiness::READ)
            }
        };
        (ready != Readiness::NONE).then_some(Fired { target, ready })
    }

    /// An event for nothing, which only ever promises what reading or writing would refute.
    fn spurious(&mut self, worker: usize) -> Option<Fired> {
        let own = self.conns.iter().filter(|conn| conn.worker == worker);
        let open: Vec<Target> = own.filter_map(|conn| conn.watch).collect();
        if open.is_empty() {
            return None;
        }
        let target = open[self.rng.size(0..=open.len() - 1)];
        let ready = match self.rng.within(0..=2) {
            0 => Readiness::READ,
            1 => Readiness::WRITE,
            _ => Readiness::READ | Readiness::WRITE,
        };
        Some(Fired { target, ready })
    }
}

// The system calls.
impl World {
    fn accept(&mut self, listener: usize) -> Accept<usize> {
        self.calls.accept += 1;
        if self.rng.chance(self.settings.exhausted_percent) {
            self.exhausted = true;
            let ms = self.rng.within(self.settings.exhausted_ms.clone());
            self.enter(self.now + ms, Event::Replenish);
        }
        // The kernel looks for a free descriptor before it looks at the queue.
        if self.is_exhausted() {
            return Accept::Exhausted;
        }
        let Some(id) = self.listeners[listener].queue.pop_front() else {
            return Accept::Blocked;
        };
        if self.abort_next > 0 || self.rng.chance(self.settings.aborted_percent) {
            self.abort_next = self.abort_next.saturating_sub(1);
            self.abandon(id);
            return Accept::Retry;
        }
        self.conns[id].end = End::Open;
        self.conns[id].accepted = true;
        self.note(|| format!("accept gives {id}"));
        Accept::Ready(id, Some(self.conns[id].remote))
    }

    fn connect(&mut self, to: &Address) -> Result<usize, ConnectError> {
        self.calls.connect += 1;
        if self.is_exhausted() {
            return Err(ConnectError::Exhausted);
        }
        match self.origin(to).behaviour {
            Behaviour::Unreachable => {
                return Err(ConnectError::Failed(ErrorKind::NetworkUnreachable));
            }
            Behaviour::Forbidden => {
                return Err(ConnectError::Failed(ErrorKind::PermissionDenied));
            }
            Behaviour::Accept
            | Behaviour::AcceptThenClose
            | Behaviour::AcceptThenReset
            | Behaviour::Refuse
            | Behaviour::Blackhole => {}
        }
        let remote = match to {
            Address::Ip(address) => *address,
            Address::Unix(_) => (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let id = self.open(remote, End::Open);
        self.enter_soon(Event::Syn(id, to.clone()));
        self.note(|| format!("connect gives {id}"));
        Ok(id)
    }

    fn read(&mut self, id: usize, most: usize) -> (Io<usize>, Vec<u8>) {
        let short = self.rng.chance(self.settings.short_read_percent);
        let conn = &mut self.conns[id];
        let waited_us = self.work_us - conn.read_at_us.unwrap_or(self.work_us);
        conn.waited_us_max = conn.waited_us_max.max(waited_us);
        conn.read_at_us = Some(self.work_us);
        let mut count = conn.inbound.bytes.len().min(most);
        if count == 0 {
            return (conn.end_of_input(), Vec::new());
        }
        if short {
            count = self.rng.size(1..=count);
        }
        let bytes = self.conns[id].inbound.take(count);
        self.progress += 1;
        self.deliver_soon(id);
        (Io::Ready(count), bytes)
    }

    fn write(&mut self, id: usize, from: &[IoSlice<'_>]) -> Io<usize> {
        let total: usize = from.iter().map(|slice| slice.len()).sum();
        if total == 0 {
            return Io::Ready(0);
        }
        let room = match self.conns[id].room() {
            Ok(room) => room,
            Err(other) => return other,
        };
        // Bytes carry the ACK.
        if self.conns[id].owes_ack {
            let address = Address::Ip(self.conns[id].remote);
            self.acknowledge(id, &address);
        }
        let count = self.perhaps_less(total.min(room));
        let bytes = from.iter().flat_map(|slice| slice.iter().copied());
        let bytes: Vec<u8> = bytes.take(count).collect();
        let conn = &mut self.conns[id];
        conn.outbound.extend(&bytes);
        let mut carried = count;
        conn.socket_written += count;
        if let Some(tls) = &mut conn.tls {
            let mut plain = Vec::new();
            tls.open(&bytes, &mut plain);
            carried = plain.len();
            conn.carried.push_back((conn.socket_written, plain));
        } else if self.settings.has_layer {
            let mut plain = Vec::new();
            conn.written.open(&bytes, &mut plain).expect("records");
            carried = plain.len();
        }
        conn.written_bytes += carried as u64;
        if conn.peer.closed {
            conn.unacknowledged += carried;
        }
        self.progress += 1;
        self.take_soon(id);
        Io::Ready(count)
    }

    fn perhaps_less(&mut self, count: usize) -> usize {
        if self.rng.chance(self.settings.short_write_percent) {
            self.rng.size(1..=count)
        } else {
            count
        }
    }

    /// Each segment takes a slot of the pipe, however small it is.
    fn fill(&mut self, id: usize, pipe: usize, len: usize) -> Io<usize> {
        let conn = &mut self.conns[id];
        let into = self.pipes.get_mut(&pipe).expect("an open pipe");
        if into.lengths.len() >= self.settings.pipe_slots {
            // Before anything else is looked at: a full pipe hides the end and the error too.
            return Io::Blocked;
        }
        let mut moved = 0;
        while moved < len && into.lengths.len() < self.settings.pipe_slots {
            let Some(&segment) = conn.inbound.lengths.front() else {
                break;
            };
            let count = segment.min(len - moved);
            into.push(conn.inbound.take(count).into_iter());
            moved += count;
        }
        if moved == 0 {
            return conn.end_of_input();
        }
        self.deliver_soon(id);
        Io::Ready(moved)
    }

    fn drain(&mut self, pipe: usize, id: usize, len: usize) -> Io<usize> {
        let held = self.pipes[&pipe].bytes.len();
        if held == 0 {
            return Io::Blocked;
        }
        let room = match self.conns[id].room() {
            Ok(room) => room,
            Err(other) => return other,
        };
        let count = self.perhaps_less(held.min(len).min(room));
        let from = self.pipes.get_mut(&pipe).expect("an open pipe");
        self.conns[id].outbound.extend(from.take(count));
        self.conns[id].written_bytes += count as u64;
        self.progress += 1;
        self.take_soon(id);
        Io::Ready(count)
    }

    fn connected(&mut self, id: usize) -> Io<()> {
        let conn = &mut self.conns[id];
        match (conn.error.take(), conn.phase) {
            (Some(error), _) => Io::Failed(error),
            (None, Phase::Established) => Io::Ready(()),
            (None, Phase::Connecting | Phase::Dead) => Io::Blocked,
        }
    }

    fn watch(&mut self, id: usize, target: Target) {
        self.conns[id].watch = Some(target);
        self.conns[id].owner = Some(target.kind);
        // An edge for the present state, whether or not anything changed.
        self.edge(Source::Conn(id));
    }

    /// A kernel that was told to expect the end holds bytes back until it comes.
    fn check_promised_ends(&self, worker: usize) {
        for (id, conn) in self.conns.iter().enumerate() {
            let is_kept_waiting = conn.awaits_end && !conn.outbound_shut && conn.end == End::Open;
            assert!(
                !is_kept_waiting || conn.worker != worker,
                "the end of stream {id} was promised and has not come"
            );
        }
    }

    fn shutdown(&mut self, id: usize) {
        self.conns[id].outbound_shut = true;
        self.take_soon(id);
        // inet_shutdown wakes whoever polls.
        self.edge(Source::Conn(id));
    }

    fn close(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        assert_eq!(conn.end, End::Open, "stream {id} is closed once");
        let last_target = conn.watch.take();
        conn.end = End::Closed;
        if conn.phase == Phase::Connecting {
            conn.phase = Phase::Dead;
        } else if conn.resets_on_close || !conn.inbound.bytes.is_empty() {
            self.abandon(id);
        } else {
            // What was written is still delivered, then the end.
            self.take_soon(id);
        }
        if self.rng.chance(self.settings.stale_percent) {
            let worker = self.conns[id].worker;
            self.stale
                .extend(last_target.map(|target| (worker, target)));
        }
    }

    fn reset(&mut self, id: usize) {
        self.close(id);
        self.abandon(id);
    }

    /// The worker's side resets: what the peer has not taken is lost.
    fn abandon(&mut self, id: usize) {
        let conn = &mut self.conns[id];
        conn.end = End::Closed;
        conn.outbound.clear();
        if conn.phase != Phase::Dead {
            conn.phase = Phase::Dead;
            conn.peer.saw_reset = true;
        }
    }
}

impl Net for SimNet {
    type Listener = SimListener;
    type Stream = SimStream;
    type Pipe = SimPipe;
    type Layer = Records;

    fn wait(&mut self, until: Option<Tick>, fired: &mut Vec<Fired>) -> io::Result<Tick> {
        let mut world = self.world();
        world.check_promised_ends(self.worker);
        Ok(world.wait(self.worker, until, fired))
    }

    fn watch_listener(&mut self, listener: &SimListener, target: Target) -> io::Result<()> {
        let mut world = self.call();
        world.calls.watch_listener += 1;
        world.listeners[listener.0.0].watch = Some(target);
        world.edge(Source::Listener(listener.0.0));
        Ok(())
    }

    fn unwatch_listener(&mut self, listener: &SimListener) {
        self.call().listeners[listener.0.0].watch = None;
    }

    fn admit_no_more(&mut self, listener: &mut SimListener) {
        self.call().listeners[listener.0.0].admits_no_more = true;
    }

    fn stop_listening(&mut self, listener: SimListener) {
        let mut world = self.call();
        world.calls.stop_listening += 1;
        let closing = &mut world.listeners[listener.0.0];
        closing.watch = None;
        closing.closed = true;
        for id in std::mem::take(&mut closing.queue) {
            world.abandon(id);
        }
    }

    fn accept(&mut self, listener: &SimListener) -> Accept<SimStream> {
        let outcome = self.call().accept(listener.0.0);
        match outcome {
            Accept::Ready(id, from) => {
                self.world().conns[id].worker = self.worker;
                Accept::Ready(self.stream(id), from)
            }
            Accept::Blocked => Accept::Blocked,
            Accept::Retry => Accept::Retry,
            Accept::Exhausted => Accept::Exhausted,
            Accept::Failed(kind) => Accept::Failed(kind),
        }
    }

    fn connect(&mut self, to: &Address) -> Result<SimStream, ConnectError> {
        let id = self.call().connect(to)?;
        self.world().conns[id].worker = self.worker;
        Ok(self.stream(id))
    }

    fn probe(&mut self, to: &Address) -> Result<SimStream, ConnectError> {
        let stream = self.connect(to)?;
        let mut world = self.world();
        world.calls.connect -= 1;
        world.calls.probe += 1;
        let is_tcp = matches!(to, Address::Ip(_));
        world.conns[stream.id].owes_ack = is_tcp;
        world.conns[stream.id].resets_on_close = is_tcp;
        drop(world);
        Ok(stream)
    }

    fn watch(&mut self, stream: &SimStream, target: Target) -> io::Result<()> {
        let mut world = self.call();
        world.calls.watch += 1;
        if std::mem::take(&mut world.fails_next_watch) {
            return Err(ErrorKind::StorageFull.into());
        }
        if world.conns[stream.id].watch.is_some() {
            return Err(ErrorKind::AlreadyExists.into());
        }
        world.watch(stream.id, target);
        Ok(())
    }

    fn connected(&mut self, stream: &SimStream) -> Io<()> {
        let mut world = self.call();
        world.calls.connected += 1;
        world.connected(stream.id)
    }

    fn read(&mut self, stream: &SimStream, into: &mut [u8]) -> Io<usize> {
        assert!(!into.is_empty(), "a read of nothing cannot tell the end");
        let mut world = self.call();
        world.calls.read += 1;
        let (outcome, bytes) = world.read(stream.id, into.len());
        world.note(|| format!("read {} gives {outcome:?}", stream.id));
        into[..bytes.len()].copy_from_slice(&bytes);
        outcome
    }

    fn peek(&mut self, stream: &SimStream, into: &mut [u8]) -> Io<usize> {
        let mut world = self.call();
        world.calls.peek += 1;
        let bytes = world.conns[stream.id].inbound.bytes.iter();
        let mut count = 0;
        for (to, &byte) in into.iter_mut().zip(bytes) {
            *to = byte;
            count += 1;
        }
        let outcome = match count {
            0 => world.conns[stream.id].end_of_input(),
            _ => Io::Ready(count),
        };
        world.note(|| format!("peek {} gives {outcome:?}", stream.id));
        outcome
    }

    fn write(&mut self, stream: &SimStream, from: &[IoSlice<'_>], then: Then) -> Io<usize> {
        let mut world = self.call();
        match then {
            Then::More => world.calls.write += 1,
            Then::End => world.calls.write_end += 1,
        }
        let outcome = world.write(stream.id, from);
        let total = from.iter().map(|slice| slice.len()).sum();
        world.conns[stream.id].awaits_end = then == Then::End && outcome == Io::Ready(total);
        world.note(|| format!("write {} then {then:?} gives {outcome:?}", stream.id));
        outcome
    }

    fn layer(&mut self, stream: &SimStream, tls: Option<Connection>) -> Option<Records> {
        if let Some(tls) = tls {
            let clock = Rc::clone(&self.shared);
            return Some(Records::Charged(Charged::new(tls, clock)));
        }
        let mut world = self.world();
        if !world.settings.has_layer {
            return None;
        }
        if !world.settings.is_tls {
            return Some(Records::Toy(Toy::default()));
        }
        let (here, there) = tls::pair();
        world.secure(stream.id, there);
        Some(Records::Tls(here))
    }

    fn layer_space(&mut self) -> &mut LayerSpace {
        &mut self.layer_space
    }

    fn unacknowledged(&mut self, stream: &SimStream) -> Option<usize> {
        let mut world = self.call();
        world.calls.unacknowledged += 1;
        let conn = &world.conns[stream.id];
        // What was written to a peer that has gone is in both.
        Some(conn.outbound.len().max(conn.unacknowledged))
    }

    fn pipe(&mut self) -> Option<SimPipe> {
        let mut world = self.call();
        world.calls.pipe += 1;
        if world.is_exhausted() {
            return None;
        }
        let id = world.pipe_next;
        world.pipe_next += 1;
        world.pipes.insert(id, Segments::default());
        Some(SimPipe {
            id,
            world: Rc::clone(&self.shared),
        })
    }

    fn fill(&mut self, from: &SimStream, to: &SimPipe, len: usize) -> Io<usize> {
        let mut world = self.call();
        world.calls.fill += 1;
        let outcome = world.fill(from.id, to.id, len);
        world.note(|| format!("fill from {} gives {outcome:?}", from.id));
        outcome
    }

    fn drain(&mut self, from: &SimPipe, to: &SimStream, len: usize) -> Io<usize> {
        let mut world = self.call();
        world.calls.drain += 1;
        let outcome = world.drain(from.id, to.id, len);
        world.note(|| format!("drain to {} gives {outcome:?}", to.id));
        outcome
    }

    fn shutdown(&mut self, stream: &SimStream) {
        let mut world = self.call();
        world.calls.shutdown += 1;
        world.note(|| format!("shutdown {}", stream.id));
        world.shutdown(stream.id);
    }

    fn reset(&mut self, stream: SimStream) {
        let mut world = self.call();
        world.calls.reset += 1;
        world.note(|| format!("reset {}", stream.id));
        world.reset(stream.id);
        // The stream's own drop looks at the world again.
        drop(world);
        drop(stream);
    }

    fn close(&mut self, stream: SimStream) {
        let mut world = self.call();
        world.calls.close += 1;
        world.note(|| format!("close {}", stream.id));
        world.close(stream.id);
        drop(world);
        drop(stream);
    }

    fn set_keepalive(&mut self, stream: &SimStream, _: &Keepalive) {
        let mut world = self.call();
        world.calls.set_keepalive += 1;
        world.conns[stream.id].keepalive = true;
    }

    fn local_address(&self, _: &SimStream) -> Option<SocketAddr> {
        self.world().calls.local_address += 1;
        Some((Ipv4Addr::new(10, 0, 1, 1), 80).into())
    }

    fn listening_port(&self, _: &SimListener) -> Option<u16> {
        Some(80)
    }

    fn random(&mut self, into: &mut [u8]) -> io::Result<()> {
        let mut world = self.world();
        for chunk in into.chunks_mut(8) {
            let drawn = world.random.next().to_ne_bytes();
            chunk.copy_from_slice(&drawn[..chunk.len()]);
        }
        Ok(())
    }

    fn wall(&self) -> SystemTime {
        let start = Duration::from_secs(1_000_000_000);
        SystemTime::UNIX_EPOCH + start + Duration::from_millis(self.world().now)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to draw a schedule from.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = range.into_inner();
        low + self.next() % (high - low + 1)
    }

    fn size(&mut self, range: RangeInclusive<usize>) -> usize {
        let (low, high) = range.into_inner();
        usize::try_from(self.within(low as u64..=high as u64)).expect("within a range of sizes")
    }

    fn chance(&mut self, percent: u64) -> bool {
        percent > 0 && self.next() % 100 < percent
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.size(0..=last));
        }
    }
}
