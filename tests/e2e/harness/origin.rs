//! Backends that serve by themselves, each connection in a thread of its own.
//!
//! The common one answers `who` with its name, which shows where weir sent a connection, and
//! answers HTTP health probes with a status that the test sets.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::Duration;

use socket2::Socket;

use super::{Gate, Peer, Port};

type Serve = Box<dyn Fn(&mut Peer) -> io::Result<()> + Send + Sync>;

/// A serving backend on a port of its own. It stops when dropped.
pub(crate) struct Origin {
    port: Port,
    inner: Arc<Inner>,
    gate: Mutex<Option<Arc<Gate>>>,
}

struct Inner {
    serve: Serve,
    accepted: AtomicUsize,
    live: Mutex<Vec<Weak<Socket>>>,
}

impl Origin {
    /// Serves each connection with this script, then closes it.
    pub(crate) fn new(serve: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self::on(Port::reserve(), serve)
    }

    pub(crate) fn on(
        port: Port,
        serve: impl Fn(&mut Peer) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let origin = Self {
            port,
            inner: Arc::new(Inner {
                serve: Box::new(serve),
                accepted: AtomicUsize::new(0),
                live: Mutex::default(),
            }),
            gate: Mutex::default(),
        };
        origin.resume();
        origin
    }

    /// Sends everything back, and ends when the other side does.
    pub(crate) fn echo() -> Self {
        Self::new(echo)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Connections accepted, probes and all.
    pub(crate) fn accepted(&self) -> usize {
        self.inner.accepted.load(Ordering::SeqCst)
    }

    /// Dies: refuses new connections and resets those it has.
    pub(crate) fn kill(&self) {
        self.refuse();
        for socket in self.inner.live().drain(..) {
            if let Some(socket) = socket.upgrade() {
                let _ = socket.set_linger(Some(Duration::ZERO));
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// Refuses new connections; those it has go on.
    pub(crate) fn refuse(&self) {
        if let Some(gate) = self.gate().take() {
            gate.shut();
        }
    }

    /// Serves again on the same port.
    pub(crate) fn resume(&self) {
        let gate = Arc::new(self.port.listen());
        *self.gate() = Some(Arc::clone(&gate));
        let inner = Arc::clone(&self.inner);
        thread::spawn(move || {
            while let Ok(peer) = gate.accept_until_shut() {
                inner.start(peer);
            }
        });
    }

    fn gate(&self) -> MutexGuard<'_, Option<Arc<Gate>>> {
        self.gate.lock().expect("no holder panics")
    }
}

impl Inner {
    fn live(&self) -> MutexGuard<'_, Vec<Weak<Socket>>> {
        self.live.lock().expect("no holder panics")
    }

    fn start(self: &Arc<Self>, mut peer: Peer) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let mut live = self.live();
        live.retain(|socket| socket.strong_count() > 0);
        live.push(Arc::downgrade(peer.socket()));
        drop(live);
        let inner = Arc::clone(self);
        thread::spawn(move || {
            // A script that fails has met the end of its connection; the client tells the test.
            let _ = (inner.serve)(&mut peer);
        });
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

fn echo(peer: &mut Peer) -> io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match peer.read(&mut chunk)? {
            0 => return Ok(()),
            n => peer.write_all(&chunk[..n])?,
        }
    }
}

/// A backend that tells its name to whoever asks, and echoes what follows.
pub(crate) struct Named {
    origin: Origin,
    facts: Arc<Facts>,
}

struct Facts {
    name: String,
    asked: AtomicUsize,
    status: AtomicU16,
    probes: Mutex<Vec<String>>,
}

impl Named {
    pub(crate) fn new(name: &str) -> Self {
        Self::on(Port::reserve(), name)
    }

    /// On a free port of that address; an error when the host does not have it.
    pub(crate) fn on_address(ip: IpAddr, name: &str) -> io::Result<Self> {
        Ok(Self::on(Port::reserve_on(ip)?, name))
    }

    fn on(port: Port, name: &str) -> Self {
        let facts = Arc::new(Facts {
            name: name.to_owned(),
            asked: AtomicUsize::new(0),
            status: AtomicU16::new(200),
            probes: Mutex::default(),
        });
        let shared = Arc::clone(&facts);
        let origin = Origin::on(port, move |peer| shared.serve(peer));
        Self { origin, facts }
    }

    /// How often it was asked for its name.
    pub(crate) fn asked(&self) -> usize {
        self.facts.asked.load(Ordering::SeqCst)
    }

    /// The status of every answer to a health probe from now on; 200 at first.
    pub(crate) fn set_status(&self, status: u16) {
        self.facts.status.store(status, Ordering::SeqCst);
    }

    /// The heads of all HTTP health probes so far.
    pub(crate) fn probes(&self) -> Vec<String> {
        self.facts.probes.lock().expect("no holder panics").clone()
    }
}

impl Deref for Named {
    type Target = Origin;

    fn deref(&self) -> &Origin {
        &self.origin
    }
}

impl Facts {
    fn serve(&self, peer: &mut Peer) -> io::Result<()> {
        let first = peer.read_line()?;
        if first.starts_with("GET ") {
            return self.answer_probe(first, peer);
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        peer.write_all(format!("{}\n", self.name).as_bytes())?;
        echo(peer)
    }

    fn answer_probe(&self, first: String, peer: &mut Peer) -> io::Result<()> {
        let mut head = first;
        loop {
            let line = peer.read_line()?;
            head.push('\n');
            head.push_str(&line);
            if line == "\r" {
                break;
            }
        }
        self.probes.lock().expect("no holder panics").push(head);
        let status = self.status.load(Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 2\r\n\r\nok");
        peer.write_all(answer.as_bytes())
    }
}

/// The name of the backend behind this connection.
pub(crate) fn ask(client: &mut Peer) -> String {
    try_ask(client).expect("a backend answers")
}

/// The same where there may be none.
pub(crate) fn try_ask(client: &mut Peer) -> io::Result<String> {
    client.write_all(b"who\n")?;
    client.read_line()
}
