//! Clients that open one short session after another, and remember what failed.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::{Peer, eventually, try_ask};

/// A failed session.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// How often [`Load::next_phase`] had been called when it began.
    pub(crate) phase: usize,
    /// What it met; read by whoever reads a failed assertion.
    #[allow(dead_code, reason = "for the message of a failed assertion")]
    pub(crate) error: String,
}

/// Running clients. They stop when dropped.
#[derive(Debug)]
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    stop: AtomicBool,
    phase: AtomicUsize,
    done: AtomicUsize,
    failures: Mutex<Vec<Failure>>,
}

impl Load {
    /// Starts this many clients.
    pub(crate) fn start(address: SocketAddr, clients: usize) -> Self {
        let shared = Arc::new(Shared {
            address,
            stop: AtomicBool::new(false),
            phase: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            failures: Mutex::default(),
        });
        let start = |_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.run())
        };
        let clients = (0..clients).map(start).collect();
        Self { shared, clients }
    }

    /// Waits until this many further sessions have ended well.
    pub(crate) fn wait_more(&self, sessions: usize) {
        let goal = self.done() + sessions;
        eventually("the load runs", || (self.done() >= goal).then_some(()));
    }

    fn done(&self) -> usize {
        self.shared.done.load(Ordering::SeqCst)
    }

    /// Failures of sessions that begin from now on are told apart from earlier ones.
    pub(crate) fn next_phase(&self) {
        self.shared.phase.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends all clients: what failed.
    pub(crate) fn finish(mut self) -> Vec<Failure> {
        self.stop();
        let failures = self.shared.failures.lock();
        failures.expect("no holder panics").clone()
    }

    /// The same, and how many sessions there were in all.
    #[allow(dead_code, reason = "for tests that compare what is counted")]
    pub(crate) fn finish_counted(mut self) -> (usize, Vec<Failure>) {
        self.stop();
        let sessions = self.done();
        let failures = self.finish();
        (sessions + failures.len(), failures)
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            client.join().expect("a client does not panic");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            let phase = self.phase.load(Ordering::SeqCst);
            if let Err(error) = self.session() {
                let failure = Failure {
                    phase,
                    error: error.to_string(),
                };
                let mut failures = self.failures.lock().expect("no holder panics");
                failures.push(failure);
            } else {
                self.done.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    /// Asks, ends, and reads the end.
    fn session(&self) -> io::Result<()> {
        let mut client = Peer::connect(self.address)?;
        try_ask(&mut client)?;
        client.socket().shutdown(std::net::Shutdown::Write)?;
        let mut rest = Vec::new();
        client.read_to_end(&mut rest)?;
        if rest.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other("bytes after the answer"))
        }
    }
}
