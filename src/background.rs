//! Jobs that may block, each on a short-lived thread: name look-ups and reading files.
//!
//! The loop never waits for them. A job leaves its result in a channel and wakes the loop; when
//! all jobs are done no thread is left.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::core::address::UnresolvedName;
use crate::reactor::Waker;

/// The first pause before names that did not resolve are tried again; it doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest such pause.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How finely a pause looks whether it is still wanted.
const PAUSE_STEP: Duration = Duration::from_millis(250);

/// What a job found.
#[derive(Debug)]
pub(crate) enum Finished<L> {
    /// A name has these addresses; never empty.
    Resolved(UnresolvedName, Vec<SocketAddr>),
    /// A name has no address for now, and why.
    Unresolved(UnresolvedName, String),
    /// Files were read, to this end.
    Loaded(L),
}

/// Starts jobs and collects what they found.
#[derive(Debug)]
pub(crate) struct Background<L> {
    waker: Waker,
    sender: Sender<Finished<L>>,
    receiver: Receiver<Finished<L>>,
    /// Tells the present resolver that another has taken over.
    resolver_stop: Arc<AtomicBool>,
}

impl<L: Send + 'static> Background<L> {
    /// Jobs that wake the loop through `waker`.
    pub(crate) fn new(waker: Waker) -> Self {
        let (sender, receiver) = channel();
        Self {
            waker,
            sender,
            receiver,
            resolver_stop: Arc::default(),
        }
    }

    /// The next result, if there is one.
    pub(crate) fn next(&self) -> Option<Finished<L>> {
        self.receiver.try_recv().ok()
    }

    /// Wakes the loop once more, as if a job had ended.
    pub(crate) fn come_back(&self) {
        let _ = self.waker.wake();
    }

    /// Up to `count` results, waiting for them; only for the time before the loop runs.
    pub(crate) fn wait(&self, count: usize, timeout: Duration) -> Vec<Finished<L>> {
        let end = Instant::now() + timeout;
        let left = || end.saturating_duration_since(Instant::now());
        let next = || self.receiver.recv_timeout(left()).ok();
        (0..count).map_while(|_| next()).collect()
    }

    /// Lets `read` read files.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn load(&self, read: impl FnOnce() -> L + Send + 'static) -> io::Result<()> {
        let (sender, waker) = (self.sender.clone(), self.waker.clone());
        spawn("weir-config", move || {
            tell(&sender, &waker, Finished::Loaded(read()));
        })
    }

    /// Resolves names, trying again until each has an address. Takes over from an earlier call.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn resolve(&mut self, names: Vec<UnresolvedName>) -> io::Result<()> {
        self.resolver_stop.store(true, Ordering::Relaxed);
        if names.is_empty() {
            return Ok(());
        }
        self.resolver_stop = Arc::default();
        let stop = Arc::clone(&self.resolver_stop);
        let (sender, waker) = (self.sender.clone(), self.waker.clone());
        spawn("weir-resolver", move || {
            resolve_all(names, &stop, |finished| tell(&sender, &waker, finished));
        })
    }
}

fn spawn(name: &str, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(job)
        .map(drop)
}

/// Leaves a result for the loop. When the loop has gone, nobody needs it.
fn tell<L>(sender: &Sender<Finished<L>>, waker: &Waker, finished: Finished<L>) {
    if sender.send(finished).is_ok() {
        let _ = waker.wake();
    }
}

fn resolve_all<L>(mut names: Vec<UnresolvedName>, stop: &AtomicBool, tell: impl Fn(Finished<L>)) {
    let mut pause = RETRY_FIRST;
    loop {
        names.retain(|name| {
            let outcome = look_up(name);
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            let failed = outcome.is_err();
            tell(match outcome {
                Ok(addresses) => Finished::Resolved(name.clone(), addresses),
                Err(reason) => Finished::Unresolved(name.clone(), reason),
            });
            failed
        });
        if names.is_empty() {
            return;
        }
        let mut left = pause;
        while !left.is_zero() && !stop.load(Ordering::Relaxed) {
            let step = left.min(PAUSE_STEP);
            thread::sleep(step);
            left -= step;
        }
        if stop.load(Ordering::Relaxed) {
            return;
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// All addresses of a name, each once, in the resolver's order of preference.
fn look_up(name: &UnresolvedName) -> Result<Vec<SocketAddr>, String> {
    let found = (name.host.as_str(), name.port).to_socket_addrs();
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.map_err(|error| error.to_string())? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        Err("it has no address".to_owned())
    } else {
        Ok(addresses)
    }
}
