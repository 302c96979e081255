//! Jobs that may block, each on a short-lived thread: name look-ups and reading files.
//!
//! The loop never waits for them. A job leaves its result in a queue and wakes the loop; when
//! all jobs are done no thread is left.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

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
    results: Results<L>,
    /// Tells the present resolver that another has taken over.
    resolver_stop: Arc<AtomicBool>,
}

impl<L: Send + 'static> Background<L> {
    /// Jobs that wake the loop through `waker`.
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            results: Results {
                queue: Arc::default(),
                waker,
            },
            resolver_stop: Arc::default(),
        }
    }

    /// The next result, if there is one.
    pub(crate) fn next(&self) -> Option<Finished<L>> {
        self.results.lock().pop_front()
    }

    /// Wakes the loop once more, as if a job had ended.
    pub(crate) fn come_back(&self) {
        let _ = self.results.waker.wake();
    }

    /// Up to `count` results, waiting for them; only for the time before the loop runs.
    pub(crate) fn wait(&self, count: usize, timeout: Duration) -> Vec<Finished<L>> {
        let (queue, more) = (self.results.lock(), &self.results.queue.1);
        let waited = more.wait_timeout_while(queue, timeout, |queue| queue.len() < count);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let count = count.min(queue.len());
        queue.drain(..count).collect()
    }

    /// Lets `read` read files.
    ///
    /// # Errors
    /// When no thread can be had.
    pub(crate) fn load(&self, read: impl FnOnce() -> L + Send + 'static) -> io::Result<()> {
        let results = self.results.clone();
        spawn("weir-config", move || {
            results.put(Finished::Loaded(read()));
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
        let results = self.results.clone();
        spawn("weir-resolver", move || resolve_all(names, &stop, &results))
    }
}

/// What jobs found and the loop has yet to take.
#[derive(Debug)]
struct Results<L> {
    queue: Arc<(Mutex<VecDeque<Finished<L>>>, Condvar)>,
    waker: Waker,
}

impl<L> Clone for Results<L> {
    fn clone(&self) -> Self {
        Self {
            queue: Arc::clone(&self.queue),
            waker: self.waker.clone(),
        }
    }
}

impl<L> Results<L> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Finished<L>>> {
        self.queue.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a result for the loop. When the loop has gone, nobody needs it.
    fn put(&self, finished: Finished<L>) {
        self.lock().push_back(finished);
        self.queue.1.notify_one();
        let _ = self.waker.wake();
    }
}

fn spawn(name: &str, job: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(job)
        .map(drop)
}

fn resolve_all<L>(mut names: Vec<UnresolvedName>, stop: &AtomicBool, results: &Results<L>) {
    let mut pause = RETRY_FIRST;
    loop {
        names.retain(|name| {
            let outcome = look_up(name);
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            let failed = outcome.is_err();
            results.put(match outcome {
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
