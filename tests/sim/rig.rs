//! The real worker over the fake world, turned by hand and checked after every turn.

use std::cell::RefMut;
use std::path::Path;

use weir::board::{BackendCell, Board, Cell, CountedListeners};
use weir::config;
use weir::config::model::Config;
use weir::config::problem::Problem;
use weir::core::address::{Address, BackendAddress};
use weir::core::handshake::Handshake;
use weir::core::time::Tick;
use weir::worker::{Start, Worker};

use crate::net::{Behaviour, Calls, ListenerId, PeerId, Settings, SimNet, World};

/// Turns after which the worker is taken to spin if neither the clock nor a byte has moved.
const IDLE_TURNS_MAX: u32 = 200;

/// The name of the listener in [`config_text`].
pub(crate) const LISTENER: &str = "in";

/// A configuration with one listener before one backend per weight, and `more` keys.
pub(crate) fn config_text(weights: &[u32], more: &str) -> String {
    let backends: String = weights
        .iter()
        .enumerate()
        .map(|(k, weight)| format!("  - {{address: \"{}\", weight: {weight}}}\n", origin(k)))
        .collect();
    format!(
        "listen: \"10.9.9.9:80\"\nname: {LISTENER}\nstats_interval: 0\nbackends:\n{backends}{more}\n"
    )
}

/// The address of the k-th backend of [`config_text`].
pub(crate) fn origin(k: usize) -> String {
    format!("10.1.0.{}:80", k + 1)
}

/// The same, as an address.
pub(crate) fn origin_address(k: usize) -> Address {
    Address::Ip(origin(k).parse().expect("an address"))
}

/// Compiles the text of a configuration that is good.
pub(crate) fn compile(text: &str) -> Config {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    match compile_with(text, &golden) {
        Ok(config) => config,
        Err(problems) => panic!("{problems:#?}\nin\n{text}"),
    }
}

/// Compiles the text of a configuration whose error pages lie in this folder.
pub(crate) fn compile_with(text: &str, folder: &Path) -> Result<Config, Vec<Problem>> {
    let pages = &mut |page: &Path| std::fs::read(folder.join(page));
    Ok(config::compile("sim.yaml", text, pages)?.config)
}

/// A worker, its world and the names of its listeners.
pub(crate) struct Rig {
    pub(crate) net: SimNet,
    pub(crate) worker: Worker<SimNet>,
    /// Those opened so far, each with its address.
    pub(crate) listeners: Vec<(Address, ListenerId)>,
    /// The clock and the world's progress at the last turn that was not for nothing.
    last: (Tick, u64),
    idle_turns: u32,
}

impl Drop for Rig {
    /// A worker gives back what its sessions hold; one that panicked is let go as it is.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.worker.stop();
        }
    }
}

impl Rig {
    /// A worker with this configuration in a world with these settings.
    pub(crate) fn new(seed: u64, settings: Settings, text: &str) -> Self {
        Self::of(seed, settings, compile(text))
    }

    /// The same for one that has been compiled.
    pub(crate) fn of(seed: u64, settings: Settings, config: Config) -> Self {
        let net = SimNet::new(seed, settings);
        let sockets: Vec<_> = config.listeners.iter().map(|_| net.listen()).collect();
        let listeners = config
            .listeners
            .iter()
            .zip(&sockets)
            .map(|(settings, socket)| (settings.address.clone(), socket.id()))
            .collect();
        let start = Start {
            net: net.clone(),
            now: Tick(0),
            board: Board::private().expect("memory"),
            connections_max_default: 100_000,
        };
        let worker = Worker::new(start, config, sockets).expect("the fake watches everything");
        Self {
            net,
            worker,
            listeners,
            last: (Tick(0), 0),
            idle_turns: 0,
        }
    }

    /// A worker in a world without accidents, in which time stands still between two calls of
    /// [`Rig::pass`] and every backend accepts.
    pub(crate) fn still(text: &str) -> Self {
        let settings = Settings {
            sleep_ms_max: Some(0),
            ..Settings::plain()
        };
        Self::with(settings, text)
    }

    /// As [`Rig::still`], with other settings.
    pub(crate) fn with(settings: Settings, text: &str) -> Self {
        let mut rig = Self::new(1, settings, text);
        for upstream in compile(text).upstreams {
            for backend in upstream.backends {
                if let BackendAddress::Fixed(address) = backend.address {
                    rig.world().origin_listen(&address, Behaviour::Accept);
                }
            }
        }
        rig.settle();
        rig
    }

    /// The world, to be let go before the next turn.
    pub(crate) fn world(&self) -> RefMut<'_, World> {
        self.net.world()
    }

    /// One turn, with everything that must hold after it.
    pub(crate) fn turn(&mut self) {
        self.worker.turn().expect("the fake waits");
        if let Err(broken) = self.worker.check_invariants() {
            panic!("{broken}");
        }
        assert_eq!(self.world().leaked_streams(), 0, "every stream is closed");
        let world = self.net.world();
        let here = (world.now(), world.progress());
        self.idle_turns = if here == self.last {
            self.idle_turns + 1
        } else {
            0
        };
        self.last = here;
        assert!(
            self.idle_turns < IDLE_TURNS_MAX || world.is_asleep(),
            "the worker spins: {:?}",
            self.worker.census()
        );
    }

    /// Turns until a turn finds nothing to do.
    pub(crate) fn settle(&mut self) {
        loop {
            let before = self.world().calls();
            self.turn();
            let after = self.world().calls();
            let only_waited = Calls {
                wait: before.wait + 1,
                ..before
            };
            if after == only_waited && self.worker.census().queued == 0 {
                return;
            }
        }
    }

    /// Lets so much time pass, in steps, with all that happens in it.
    pub(crate) fn pass(&mut self, ms: u64, step_ms: u64) {
        let end = self.world().now().after_ms(ms);
        while self.world().now() < end {
            let left = end.since_ms(self.world().now());
            self.world().advance(left.min(step_ms));
            self.settle();
        }
    }

    /// Takes on another configuration as a reload does.
    pub(crate) fn reload(&mut self, text: &str) {
        let config = compile(text);
        let mut sockets = Vec::new();
        for settings in &config.listeners {
            let is_open = self.worker.listens_for(settings);
            sockets.push((!is_open).then(|| {
                let socket = self.net.listen();
                let name = (settings.address.clone(), socket.id());
                self.listeners.push(name);
                socket
            }));
        }
        self.worker
            .adopt(config, sockets, false)
            .expect("the fake watches everything");
    }

    /// Connects a client to the first listener; it arrives with the next turn.
    pub(crate) fn client(&self) -> PeerId {
        let listener = self.listeners[0].1;
        self.world().client_connect(listener)
    }

    /// The connections that the k-th backend took since the last call.
    pub(crate) fn accepted(&self, k: usize) -> Vec<PeerId> {
        self.world().origin_accepted(&origin_address(k))
    }

    /// A client and the connection that the first backend got for it, established.
    pub(crate) fn session(&mut self) -> (PeerId, PeerId) {
        let client = self.client();
        self.settle();
        let [backend] = self.accepted(0)[..] else {
            panic!("one connection for one client");
        };
        (client, backend)
    }

    pub(crate) fn listener_count(&self, cell: impl Cell<CountedListeners>) -> u64 {
        let count = self.worker.listener_count(LISTENER, cell);
        count.expect("the listener is known")
    }

    pub(crate) fn handshake_count(&self, ended: Handshake) -> u64 {
        let count = self.worker.handshake_count(LISTENER, ended);
        count.expect("the listener expects handshakes")
    }

    /// Of the k-th backend of the short form.
    pub(crate) fn backend_count(&self, k: usize, cell: BackendCell) -> u64 {
        let label = format!("default/{}", origin(k));
        let count = self.worker.backend_count(&label, cell);
        count.expect("the backend is known")
    }
}
