//! What a worker tells while it serves, for each good configuration of `conf` and `tests/golden`:
//! its log at every level, its access log and its statistics, over the same short story, byte for
//! byte. `WEIR_BLESS=1` writes the golden files anew; what has changed is then to be read in the
//! diff.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Once;

use weir::config::model::{Config, Mode};
use weir::core::address::{Address, BackendAddress, UnresolvedName};
use weir::worker::Stage;

use crate::compare::{Comparison, configurations, folder};
use crate::net::{Behaviour, ListenerId, PeerId, Settings};
use crate::rig::{Rig, compile_with};

thread_local! {
    /// What has been told on this thread, while somebody listens.
    static TOLD: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what is logged on a thread that listens.
struct Listening;

impl log::Log for Listening {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        TOLD.with_borrow(Option::is_some)
    }

    fn log(&self, record: &log::Record<'_>) {
        TOLD.with_borrow_mut(|told| {
            if let Some(told) = told {
                let level = record.level().as_str().to_lowercase();
                writeln!(told, "{level}: {}", record.args()).expect("a string takes all");
            }
        });
    }

    fn flush(&self) {}
}

/// What is told while `story` runs.
fn told_in(story: impl FnOnce()) -> String {
    static SET: Once = Once::new();
    SET.call_once(|| {
        log::set_logger(&Listening).expect("nobody else has set one");
        log::set_max_level(log::LevelFilter::Debug);
    });
    TOLD.set(Some(String::new()));
    story();
    TOLD.take().expect("it was set above")
}

fn note(line: &str) {
    TOLD.with_borrow_mut(|told| {
        if let Some(told) = told {
            *told += line;
        }
    });
}

/// One configuration in a world where every backend accepts.
struct Story {
    rig: Rig,
    config: Config,
    /// By backend.
    addresses: Vec<Address>,
}

impl Story {
    fn new(text: &str, config: Config) -> Self {
        let settings = Settings {
            sleep_ms_max: Some(0),
            // Over records, what happens at once may happen in another order.
            has_layer: false,
            ..Settings::plain()
        };
        let mut rig = Rig::new(1, settings, text);
        let mut names = Vec::new();
        let mut addresses = Vec::new();
        for (number, backend) in config
            .upstreams
            .iter()
            .flat_map(|it| &it.backends)
            .enumerate()
        {
            let address = match &backend.address {
                BackendAddress::Fixed(address) => address.clone(),
                BackendAddress::Name { .. } => {
                    let address = SocketAddr::from(([10, 2, 0, 1], 1000 + port(number)));
                    names.push((
                        UnresolvedName::of(&backend.address).expect("it is a name"),
                        vec![address],
                    ));
                    Address::Ip(address)
                }
            };
            rig.world().origin_listen(&address, Behaviour::Accept);
            addresses.push(address);
        }
        rig.worker.on_resolved(&names);
        rig.settle();
        Self {
            rig,
            config,
            addresses,
        }
    }

    /// Goes on until nothing happens, and notes what the access log has to say.
    fn settle(&mut self) {
        self.rig.pass(40, 20);
        if let Some(lines) = self.rig.worker.access_lines() {
            note(&String::from_utf8_lossy(lines));
            lines.clear();
        }
    }

    /// A client says this.
    fn client(&mut self, listener: ListenerId, bytes: &[u8]) -> PeerId {
        let from = SocketAddr::from(([10, 7, 7, 7], 5000));
        let client = self.rig.world().client_connect_from(listener, from);
        self.settle();
        self.rig.world().peer_send(client, bytes);
        self.settle();
        client
    }

    /// Each backend that was connected to since the last time says this.
    fn answer(&mut self, bytes: &[u8]) -> Vec<PeerId> {
        let mut asked = Vec::new();
        for address in &self.addresses {
            asked.extend(self.rig.world().origin_accepted(address));
        }
        for &peer in &asked {
            self.rig.world().peer_send(peer, bytes);
        }
        self.settle();
        asked
    }

    fn play_http(&mut self, listener: ListenerId) {
        let ask =
            b"GET /hello/there?x=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: story\r\n\r\n";
        let kept = self.client(listener, ask);
        let mut asked = self.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        self.rig.world().peer_send(kept, ask);
        self.settle();
        // Over the same connection, or a new one where that was not kept.
        let missing = b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n";
        for &peer in &asked {
            self.rig.world().peer_send(peer, missing);
        }
        self.settle();
        asked.extend(self.answer(missing));
        self.rig.world().peer_close_write(kept);
        self.settle();
        for &peer in &asked {
            self.rig.world().peer_close(peer);
        }
        self.settle();
        self.client(listener, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n");
        let leaves = self.client(listener, b"GET / HT");
        self.rig.world().peer_reset(leaves);
        self.settle();
        self.client(listener, ask);
        self.answer(b"HTTP/1.1 200 OK\r\nX Y: odd\r\n\r\n");
    }

    fn play_tcp(&mut self, listener: ListenerId) {
        let client = self.client(listener, b"hello");
        let asked = self.answer(b"world");
        self.rig.world().peer_close_write(client);
        self.settle();
        for &peer in &asked {
            self.rig.world().peer_close(peer);
        }
        self.settle();
        let client = self.client(listener, b"hello");
        self.answer(b"world");
        self.rig.world().peer_reset(client);
        self.settle();
    }

    fn play(mut self) {
        let modes = self
            .config
            .listeners
            .iter()
            .map(|it| matches!(it.mode, Mode::Tcp { .. }));
        let modes: Vec<bool> = modes.collect();
        let listeners: Vec<ListenerId> = self.rig.listeners.iter().map(|it| it.1).collect();
        for (is_tcp, listener) in modes.into_iter().zip(listeners) {
            note("-- the next listener\n");
            if is_tcp {
                self.play_tcp(listener);
            } else {
                self.play_http(listener);
            }
        }
        note("-- a backend refuses\n");
        if let Some(first) = self.addresses.first() {
            self.rig.world().origin_listen(first, Behaviour::Refuse);
        }
        self.rig.pass(12_000, 100);
        note("-- the end\n");
        let most = self.config.pre_drain + self.config.drain_timeout;
        self.rig.worker.drain();
        let mut seconds = 0;
        while self.rig.worker.stage() != Stage::Finished && seconds <= most.as_secs() + 10 {
            self.rig.pass(1_000, 1_000);
            seconds += 1;
        }
        self.settle();
        assert_eq!(self.rig.worker.stage(), Stage::Finished);
    }
}

fn port(number: usize) -> u16 {
    u16::try_from(number).expect("few backends")
}

#[test]
fn what_is_told_of_the_same_story_is_as_it_was() {
    let (mut count, mut comparison) = (0, Comparison::default());
    for path in configurations() {
        let text = fs::read_to_string(&path).expect("it is text");
        let home = path.parent().expect("it is in a folder");
        let Ok(config) = compile_with(&text, home) else {
            continue;
        };
        count += 1;
        let told = told_in(|| Story::new(&text, config).play());
        let name = path.file_stem().expect("it is a file");
        let golden = folder("tests/golden/told").join(Path::new(name).with_extension("log"));
        comparison.add(&golden, &told);
    }
    let golden = fs::read_dir(folder("tests/golden/told")).expect("a folder");
    assert_eq!(count, golden.count(), "one for each good configuration");
    comparison.finish();
}
