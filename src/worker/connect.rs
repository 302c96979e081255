//! Gets a session its backend: pick, connect, and on failure the next one.

use std::io::ErrorKind;

use crate::core::backend::{BackendId, Lease};
use crate::core::finding::Reason;
use crate::core::readiness::Io;
use crate::net::{ConnectError, Net};
use crate::worker::connections::Owner;
use crate::worker::keys::{ConnectionKey, UpstreamSlot};
use crate::worker::shared::{FailedAt, Shared};
use crate::worker::transport::Endpoint;

/// No backend is usable, or too many have failed.
#[derive(Debug)]
pub(crate) struct NoBackend;

/// How the search for a backend stands.
#[derive(Debug)]
pub(crate) enum Dialed {
    /// A connection is being made.
    Started(ConnectionKey),
    /// A backend is picked, but no descriptor is left for it: the session waits for one.
    Starved,
}

/// The search for a backend: which upstream, what has failed, and the lease on the present one.
pub(crate) struct Attempt {
    pub(crate) upstream: UpstreamSlot,
    /// What the upstream's algorithm hashes.
    pub(crate) hash_key: u64,
    pub(crate) lease: Option<Lease>,
    /// The key binds the client: it is hashed whatever the algorithm.
    pub(crate) is_bound_by_hash: bool,
    /// None as long as the first backend will do: that keeps sessions small.
    earlier: Option<Box<Earlier>>,
}

/// What has been tried before.
#[derive(Default)]
struct Earlier {
    /// Backends that are not picked again.
    tried: Vec<BackendId>,
    /// Addresses of the present backend that failed.
    addresses_failed: u8,
    /// The error of the network that failed last.
    failed: Option<Reason>,
}

impl Attempt {
    pub(crate) fn new(upstream: UpstreamSlot, hash_key: u64) -> Self {
        Self {
            upstream,
            hash_key,
            lease: None,
            is_bound_by_hash: false,
            earlier: None,
        }
    }

    /// Notes an error of the network, for the access log.
    pub(crate) fn note_failure(&mut self, kind: ErrorKind) {
        self.note(Reason::of(kind));
    }

    fn note(&mut self, reason: Reason) {
        self.earlier_mut().failed = Some(reason);
    }

    /// A connection stands: what failed before is not its fault.
    pub(crate) fn on_connected(&mut self) {
        if let Some(earlier) = &mut self.earlier {
            earlier.failed = None;
        }
    }

    /// The error of the network that failed last, if nothing has gone well since.
    pub(crate) fn failure(&self) -> Option<&'static str> {
        self.failed().and_then(Reason::words)
    }

    /// Whether that was a connection that was not made in time.
    pub(crate) fn has_timed_out(&self) -> bool {
        self.failed() == Some(Reason::TimedOut)
    }

    fn failed(&self) -> Option<Reason> {
        self.earlier.as_ref().and_then(|earlier| earlier.failed)
    }

    /// Backends that failed or have done their part, so that they are not picked again.
    pub(crate) fn tried(&self) -> &[BackendId] {
        self.earlier.as_ref().map_or(&[], |earlier| &earlier.tried)
    }

    fn earlier_mut(&mut self) -> &mut Earlier {
        self.earlier.get_or_insert_default()
    }

    /// The backend tried last.
    pub(crate) fn last(&self) -> Option<BackendId> {
        let leased = self.lease.as_ref().map(|lease| lease.backend);
        leased.or_else(|| self.tried().last().copied())
    }

    /// How many backends were tried.
    pub(crate) fn count(&self) -> u32 {
        let count = self.tried().len() + usize::from(self.lease.is_some());
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Picks a backend that was not tried yet and takes a lease on it.
    pub(crate) fn pick<N: Net>(&mut self, shared: &mut Shared<N>) -> Result<BackendId, NoBackend> {
        let settings = &shared.upstreams[self.upstream as usize].settings;
        if self.tried().len() >= settings.tries_max as usize {
            return Err(NoBackend);
        }
        let lease = shared.pick(self).ok_or(NoBackend)?;
        let backend = lease.backend;
        self.lease = Some(lease);
        if let Some(earlier) = &mut self.earlier {
            earlier.addresses_failed = 0;
        }
        Ok(backend)
    }

    /// Connects to the leased backend or, without one, picks and connects until an attempt is
    /// under way. The session of this key has the connection.
    pub(crate) fn open<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        session: u32,
    ) -> Result<Dialed, NoBackend> {
        loop {
            if self.lease.is_none() {
                self.pick(shared)?;
            }
            match self.dial(shared, session) {
                Ok(connection) => return Ok(Dialed::Started(connection)),
                Err(ConnectError::Exhausted) => return Ok(Dialed::Starved),
                Err(ConnectError::Failed(kind)) => self.pass_over(shared, kind),
            }
        }
    }

    /// An attempt failed: the backend's next address, or else the next backend.
    pub(crate) fn reopen<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        session: u32,
        why: &str,
    ) -> Result<Dialed, NoBackend> {
        if let Some(lease) = &self.lease {
            let backend = lease.backend;
            let failed = self.count_address();
            let place = shared.place_mut(backend);
            if failed < place.addresses.len() {
                place.rotate();
                match self.dial(shared, session) {
                    Ok(connection) => return Ok(Dialed::Started(connection)),
                    Err(ConnectError::Exhausted) => return Ok(Dialed::Starved),
                    Err(ConnectError::Failed(_)) => {}
                }
            }
        }
        self.give_up(shared, FailedAt::Connect, why);
        self.open(shared, session)
    }

    /// Starts connecting to the leased backend, at the first of its addresses that does not
    /// refuse at once. Without a descriptor for it, a connection that is parked gives up its own.
    pub(crate) fn dial<N: Net>(
        &mut self,
        shared: &mut Shared<N>,
        session: u32,
    ) -> Result<ConnectionKey, ConnectError> {
        let Some(lease) = &self.lease else {
            return Err(ConnectError::Failed(ErrorKind::NotConnected));
        };
        let backend = lease.backend;
        loop {
            match shared.open_connection(backend, Owner::Session(session), N::connect) {
                Ok(connection) => return Ok(connection),
                Err(ConnectError::Exhausted) if shared.close_any_parked() => {}
                Err(ConnectError::Exhausted) => return Err(ConnectError::Exhausted),
                Err(failed) => {
                    let count = self.count_address();
                    let place = shared.place_mut(backend);
                    place.rotate();
                    if count >= place.addresses.len() {
                        return Err(failed);
                    }
                }
            }
        }
    }

    /// Another address of the present backend has failed; how many have.
    fn count_address(&mut self) -> usize {
        let failed = &mut self.earlier_mut().addresses_failed;
        *failed = failed.saturating_add(1);
        usize::from(*failed)
    }

    /// No attempt could be started at the present backend: it is not tried again. That counts as
    /// its failure only where the network says so: a machine that has run out of ports must not
    /// take its backends for dead.
    pub(crate) fn pass_over<N: Net>(&mut self, shared: &mut Shared<N>, kind: ErrorKind) {
        self.note_failure(kind);
        if let Some(lease) = &self.lease
            && shared.place(lease.backend).addresses.is_empty()
        {
            self.note(Reason::Unresolved);
            let why = Reason::Unresolved.to_string();
            return self.give_up(shared, FailedAt::Connect, &why);
        }
        let is_its_fault = matches!(
            kind,
            ErrorKind::ConnectionRefused
                | ErrorKind::ConnectionReset
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::TimedOut
                | ErrorKind::NotFound
                | ErrorKind::WouldBlock
        );
        if is_its_fault {
            return self.give_up(shared, FailedAt::Connect, &reason(kind));
        }
        if let Some(lease) = self.lease.take() {
            self.earlier_mut().tried.push(lease.backend);
            let label = &shared.place(lease.backend).label;
            log::warn!("backend {label}: no connection could be started: {kind}");
            shared.give_back(lease);
        }
    }

    /// The present backend has failed: it is not tried again.
    pub(crate) fn give_up<N: Net>(&mut self, shared: &mut Shared<N>, stage: FailedAt, why: &str) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        self.earlier_mut().tried.push(lease.backend);
        shared.on_failure(lease.backend, stage, why);
        shared.give_back(lease);
    }

    /// The backend has done its part; it stays the last that was tried.
    pub(crate) fn release<N: Net>(&mut self, shared: &mut Shared<N>) {
        if let Some(lease) = self.lease.take() {
            self.earlier_mut().tried.push(lease.backend);
            shared.give_back(lease);
        }
    }
}

/// How a connection in the making stands.
#[derive(Debug)]
pub(crate) enum Confirmed {
    /// It is established.
    Yes,
    /// Not decided yet.
    NotYet,
    /// It failed.
    Failed(ErrorKind),
}

/// Whether the connection in the making is established.
///
/// A socket that is writable and nothing else is connected; only one that is closing as well has
/// to be asked what happened, which costs system calls.
pub(crate) fn confirm<N: Net>(endpoint: &mut Endpoint<N>, net: &mut N) -> Confirmed {
    if !endpoint.may_write() {
        return Confirmed::NotYet;
    }
    if !endpoint.is_closing() {
        return Confirmed::Yes;
    }
    match endpoint.connected(net) {
        Io::Ready(()) => Confirmed::Yes,
        Io::Blocked => Confirmed::NotYet,
        Io::Closed => Confirmed::Failed(ErrorKind::ConnectionReset),
        Io::Failed(kind) => Confirmed::Failed(kind),
    }
}

/// How a failure reads in a log line.
pub(crate) fn reason(kind: ErrorKind) -> String {
    if kind == ErrorKind::NotFound {
        Reason::NotFound.to_string()
    } else {
        kind.to_string()
    }
}
