//! A machine of several workers: one world, one board, a listening socket for each.
//!
//! The rig is the supervisor as well: it holds the sockets, buries the dead and starts their
//! successors. Time stands still between two calls of [`Machine::pass`].

use std::cell::RefMut;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use weir::board::{
    self, BackendCell, BackendColumn, BackendWord, Board, Cell, Column, Counted, CountedListeners,
    ListenerCell,
};
use weir::config::model::{Config, Mode};
use weir::core::address::{Address, BackendAddress};
use weir::core::lease::Term;
use weir::core::time::Tick;
use weir::net::Kind;
use weir::sys::shm::Mapping;
use weir::worker::{Start, Worker};

use crate::net::{Behaviour, Calls, ListenerId, PeerId, Settings, SimNet, World};
use crate::rig::{compile, origin, origin_address};

/// One place for a worker, and who is in it.
pub(crate) struct Slot {
    pub(crate) listener: ListenerId,
    pub(crate) life: Life,
    /// A reload came while it stood still.
    is_behind: bool,
    /// It has stood still, and had no turn since: it cannot know what it has lost.
    is_late: bool,
}

/// How the worker of a slot is.
pub(crate) enum Life {
    /// It runs.
    Awake(Box<Worker<SimNet>>),
    /// It stands still, as after SIGSTOP.
    Stalled(Box<Worker<SimNet>>),
    /// It was killed, and nobody has noticed yet.
    Dead,
    /// It is buried.
    Gone,
}

pub(crate) struct Machine {
    net: SimNet,
    /// The supervisor's.
    pub(crate) board: Board,
    memory: OwnedFd,
    pub(crate) slots: Vec<Slot>,
    config: Config,
    /// When the last probe of each origin began, and its stream.
    probed: BTreeMap<SocketAddr, (Tick, usize)>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        for slot in &mut self.slots {
            match std::mem::replace(&mut slot.life, Life::Gone) {
                Life::Awake(mut worker) | Life::Stalled(mut worker) => {
                    if std::thread::panicking() {
                        std::mem::forget(worker);
                    } else {
                        worker.stop();
                    }
                }
                Life::Dead | Life::Gone => {}
            }
        }
        if std::thread::panicking() {
            eprintln!("before it failed:\n{}", self.net.world().trace());
        }
    }
}

impl Machine {
    /// So many workers with this configuration, which has one listener. Every backend accepts.
    pub(crate) fn new(seed: u64, workers: usize, settings: Settings, text: &str) -> Self {
        let settings = Settings {
            sleep_ms_max: Some(0),
            ..settings
        };
        let net = SimNet::new(seed, settings);
        // Not zero: an expired term must not look like one that never was.
        net.world().advance(1_000);
        let (memory, fd) = Mapping::create(board::words_within(None)).expect("memory");
        let mut machine = Self {
            board: Board::create(memory, 1),
            memory: fd,
            slots: Vec::new(),
            config: compile(text),
            probed: BTreeMap::new(),
            net,
        };
        let names = machine.config.column_names();
        machine.board.publish(&names).expect("room");
        for backend in &machine.config.upstreams[0].backends {
            if let BackendAddress::Fixed(address) = &backend.address {
                machine.world().origin_listen(address, Behaviour::Accept);
            }
        }
        for slot in 0..workers {
            let listener = machine.net.of_worker(slot).listen().id();
            let life = Life::Gone;
            machine.slots.push(Slot {
                listener,
                life,
                is_behind: false,
                is_late: false,
            });
            machine.start(slot);
        }
        machine
    }

    /// As [`Machine::new`], in a world without accidents.
    pub(crate) fn still(workers: usize, text: &str) -> Self {
        let mut machine = Self::new(1, workers, Settings::plain(), text);
        machine.settle();
        machine
    }

    pub(crate) fn world(&self) -> RefMut<'_, World> {
        self.net.world()
    }

    pub(crate) fn now(&self) -> Tick {
        self.world().now()
    }

    /// The row on the board of a slot's worker.
    fn row(slot: usize) -> usize {
        slot + 1
    }

    /// Starts a worker in an empty slot, on the socket that its predecessor left.
    pub(crate) fn start(&mut self, slot: usize) {
        assert!(matches!(self.slots[slot].life, Life::Gone));
        let net = self.net.of_worker(slot);
        let socket = net.hand_over(self.slots[slot].listener);
        let memory = Mapping::attach(self.memory.as_fd()).expect("memory");
        let pid = 100 + u32::try_from(slot).expect("small");
        let board = Board::attach(memory, Self::row(slot), pid).expect("a board");
        let start = Start {
            net,
            now: self.now(),
            board,
            connections_max_default: 10_000,
        };
        let worker = Worker::new(start, self.config.clone(), vec![socket]);
        let worker = Box::new(worker.expect("the fake watches everything"));
        self.slots[slot].life = Life::Awake(worker);
        self.slots[slot].is_behind = false;
        self.slots[slot].is_late = false;
    }

    /// Kills a slot's worker. Nobody knows of it before it is buried.
    pub(crate) fn kill(&mut self, slot: usize) {
        match std::mem::replace(&mut self.slots[slot].life, Life::Dead) {
            Life::Awake(worker) | Life::Stalled(worker) => {
                self.world().kill_worker(slot);
                // What it held in memory is gone without being given back.
                std::mem::forget(worker);
            }
            Life::Dead | Life::Gone => panic!("there is somebody in slot {slot}"),
        }
    }

    pub(crate) fn bury(&mut self, slot: usize) {
        assert!(matches!(self.slots[slot].life, Life::Dead));
        self.board.bury(Self::row(slot));
        self.slots[slot].life = Life::Gone;
    }

    /// Stops a worker, as SIGSTOP does, or lets it go on.
    pub(crate) fn stall(&mut self, slot: usize, stalled: bool) {
        let life = std::mem::replace(&mut self.slots[slot].life, Life::Gone);
        self.slots[slot].life = match life {
            Life::Awake(worker) | Life::Stalled(worker) if stalled => Life::Stalled(worker),
            Life::Awake(worker) | Life::Stalled(worker) => Life::Awake(worker),
            dead @ (Life::Dead | Life::Gone) => dead,
        };
        self.slots[slot].is_late = true;
        if !stalled && std::mem::take(&mut self.slots[slot].is_behind) {
            self.adopt(slot);
        }
    }

    fn adopt(&mut self, slot: usize) {
        let config = self.config.clone();
        if let Life::Awake(worker) = &mut self.slots[slot].life {
            let adopted = worker.adopt(config, vec![None], false);
            adopted.expect("no new listener");
        }
    }

    /// Lets time pass before anybody has a turn. More of it than `most` is as if all had stood
    /// still.
    pub(crate) fn advance(&mut self, ms: u64, most: u64) {
        self.world().advance(ms);
        for slot in &mut self.slots {
            slot.is_late |= ms > most;
        }
    }

    /// Takes on another configuration, in those who stand still when they go on. It keeps the
    /// listener.
    pub(crate) fn reload(&mut self, text: &str) {
        self.config = compile(text);
        let names = self.config.column_names();
        self.board.publish(&names).expect("room");
        for slot in 0..self.slots.len() {
            self.slots[slot].is_behind = true;
            if self.is_awake(slot) {
                self.slots[slot].is_behind = false;
                self.adopt(slot);
            }
        }
    }

    pub(crate) fn worker(&mut self, slot: usize) -> &mut Worker<SimNet> {
        match &mut self.slots[slot].life {
            Life::Awake(worker) | Life::Stalled(worker) => worker,
            Life::Dead | Life::Gone => panic!("nobody is in slot {slot}"),
        }
    }

    pub(crate) fn is_awake(&self, slot: usize) -> bool {
        matches!(self.slots[slot].life, Life::Awake(_))
    }

    pub(crate) fn awake(&self) -> Vec<usize> {
        let slots = 0..self.slots.len();
        slots.filter(|&slot| self.is_awake(slot)).collect()
    }

    /// One turn of one worker, with everything that must hold after it.
    pub(crate) fn turn(&mut self, slot: usize) {
        let Life::Awake(worker) = &mut self.slots[slot].life else {
            return;
        };
        worker.turn().expect("the fake waits");
        if let Err(broken) = worker.check_invariants() {
            panic!("worker {slot}: {broken}");
        }
        self.slots[slot].is_late = false;
        assert_eq!(self.world().leaked_streams(), 0, "every stream is closed");
        self.check();
    }

    /// Turns of all until nobody finds anything to do.
    pub(crate) fn settle(&mut self) {
        loop {
            let before = self.world().calls();
            let awake = self.awake();
            for &slot in &awake {
                self.turn(slot);
            }
            let turns = awake.len() as u64;
            let only_waited = Calls {
                wait: before.wait + turns,
                ..before
            };
            let queued = awake
                .iter()
                .any(|&slot| self.worker(slot).census().queued > 0);
            if self.world().calls() == only_waited && !queued {
                return;
            }
        }
    }

    /// Lets so much time pass, in steps, with all that happens in it.
    pub(crate) fn pass(&mut self, ms: u64, step_ms: u64) {
        let end = self.now().after_ms(ms);
        while self.now() < end {
            let left = end.since_ms(self.now());
            self.world().advance(left.min(step_ms));
            self.settle();
        }
    }

    /// Connects a client to the worker of a slot, and lets it be served.
    pub(crate) fn client(&mut self, slot: usize) -> PeerId {
        let listener = self.slots[slot].listener;
        let client = self.world().client_connect(listener);
        self.settle();
        client
    }

    /// The connections that the k-th backend took since the last call.
    pub(crate) fn accepted(&self, k: usize) -> Vec<PeerId> {
        self.world().origin_accepted(&origin_address(k))
    }

    fn column<K: Counted>(&self, name: &str) -> Column<K> {
        self.board.find(name).expect("it is published")
    }

    pub(crate) fn backend_column(&self, k: usize) -> BackendColumn {
        self.column(&format!("backend default/{}", origin(k)))
    }

    /// A count of the listener over all rows.
    pub(crate) fn listener_total(&self, cell: impl Cell<CountedListeners>) -> u64 {
        let column = self.column(&self.config.listeners[0].column_name());
        self.board.total(column, cell)
    }

    /// A count of the k-th backend over all rows.
    pub(crate) fn total(&self, k: usize, cell: BackendCell) -> u64 {
        self.board.total(self.backend_column(k), cell)
    }

    /// A count of the k-th backend in the row of one worker.
    pub(crate) fn count(&mut self, slot: usize, k: usize, cell: BackendCell) -> u64 {
        let label = format!("default/{}", origin(k));
        let count = self.worker(slot).backend_count(&label, cell);
        count.expect("the backend is known")
    }

    /// Whether this worker gives the k-th backend traffic.
    pub(crate) fn is_up(&mut self, slot: usize, k: usize) -> bool {
        self.count(slot, k, BackendCell::Up) == 1
    }

    pub(crate) fn probes(&self, k: usize) -> u64 {
        self.total(k, BackendCell::ProbesPassed) + self.total(k, BackendCell::ProbesFailed)
    }

    /// The slot whose worker has the lease on the probes of the k-th backend.
    pub(crate) fn prober(&self, k: usize) -> Option<usize> {
        let term = self.lease(k)?;
        Some(usize::from(term.holder.row) - 1)
    }

    /// The lease on the probes of the k-th backend.
    pub(crate) fn lease(&self, k: usize) -> Option<Term> {
        let lease = self
            .board
            .word(self.backend_column(k), BackendWord::ProbeLease);
        Term::read(lease.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// When a probe of the k-th backend last began.
    pub(crate) fn probed_at(&self, k: usize) -> Tick {
        let probed = self.probed.get(&address_of(k));
        probed.map_or(Tick(1_000), |&(at, _)| at)
    }

    /// What must hold after every turn of any worker.
    pub(crate) fn check(&mut self) {
        self.check_probes();
        self.check_gauges();
        self.check_limits();
    }

    /// One probe of a backend at a time, by the one who holds the lease. A worker that stands
    /// still cannot know that it has lost it.
    fn check_probes(&mut self) {
        let mut open = BTreeMap::<SocketAddr, Vec<(usize, PeerId)>>::new();
        for slot in self.awake() {
            if self.slots[slot].is_late {
                continue;
            }
            for (peer, kind, remote) in self.world().streams_of(slot) {
                if kind == Kind::Probe {
                    open.entry(remote).or_default().push((slot, peer));
                }
            }
        }
        for (remote, streams) in open {
            assert!(streams.len() == 1, "probes of {remote} by {streams:?}");
            let (slot, peer) = streams[0];
            let k = usize::from(remote_octet(remote)) - 1;
            assert_eq!(
                self.prober(k),
                Some(slot),
                "whoever probes {remote} has the lease"
            );
            let now = self.now();
            let probed = self.probed.entry(remote).or_insert((now, usize::MAX));
            if probed.1 != peer.number() {
                *probed = (now, peer.number());
            }
        }
    }

    /// While nobody lies unburied, the rows add up to what the world counts.
    fn check_gauges(&self) {
        if self
            .slots
            .iter()
            .any(|slot| matches!(slot.life, Life::Dead))
        {
            return;
        }
        let (mut clients, mut backends) = (0, BTreeMap::<SocketAddr, u64>::new());
        for slot in 0..self.slots.len() {
            for (_, kind, remote) in self.world().streams_of(slot) {
                match kind {
                    Kind::Client => clients += 1,
                    Kind::Backend => *backends.entry(remote).or_default() += 1,
                    Kind::Control | Kind::Listener | Kind::Probe => {}
                }
            }
        }
        let listener = self.column(&self.config.listeners[0].column_name());
        assert_eq!(self.board.total(listener, ListenerCell::Active), clients);
        assert_eq!(
            self.board.sessions_elsewhere(),
            clients,
            "sessions in the rows"
        );
        if let Mode::Http(_) = self.config.listeners[0].mode {
            // Its backends count requests, and those the world does not know.
            return;
        }
        for (name, address) in self.backends() {
            let active = self.board.total(self.column(&name), BackendCell::Active);
            let open = backends.get(&address).copied().unwrap_or(0);
            assert_eq!(active, open, "connections to {name}");
        }
    }

    /// A limit of the machine is never passed. (Turns do not overlap here. On a real machine
    /// each of the other workers may add one while this one looks.)
    fn check_limits(&self) {
        for backend in &self.config.upstreams[0].backends {
            let Some(max) = backend.connections_max else {
                continue;
            };
            let name = self.config.upstreams[0].backend_column_name(&backend.identity);
            let active = self.board.total(self.column(&name), BackendCell::Active);
            assert!(active <= u64::from(max), "{active} of {max} at {name}");
        }
        let sessions = self.board.sessions_elsewhere();
        if let Some(max) = self.config.connections_max {
            assert!(sessions <= max as u64, "{sessions} sessions of {max}");
        }
    }

    fn backends(&self) -> Vec<(String, SocketAddr)> {
        let upstream = &self.config.upstreams[0];
        let named = upstream.backends.iter().map(|backend| {
            let BackendAddress::Fixed(Address::Ip(address)) = &backend.address else {
                panic!("backends of the simulation have addresses");
            };
            (upstream.backend_column_name(&backend.identity), *address)
        });
        named.collect()
    }
}

/// The address of the k-th backend.
fn address_of(k: usize) -> SocketAddr {
    origin(k).parse().expect("an address")
}

fn remote_octet(remote: SocketAddr) -> u8 {
    match remote {
        SocketAddr::V4(remote) => remote.ip().octets()[3],
        SocketAddr::V6(_) => panic!("backends of the simulation have IPv4 addresses"),
    }
}
