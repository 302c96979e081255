//! Gets a session its backend: pick, connect, and on failure the next one.

use std::io::ErrorKind;

use crate::core::backend::BackendId;
use crate::core::decision::TriedAt;
use crate::core::finding::Reason;
use crate::core::readiness::Io;
use crate::net::{ConnectError, Net};
use crate::worker::attempt::Attempt;
use crate::worker::connections::Owner;
use crate::worker::health::FailedAt;
use crate::worker::keys::ConnectionKey;
use crate::worker::shared::Shared;
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
    NoDescriptor,
}

impl Attempt {
    /// Picks a backend that was not tried yet and takes a lease on it.
    pub(crate) fn pick<N: Net>(&mut self, shared: &mut Shared<N>) -> Result<BackendId, NoBackend> {
        let settings = &shared.upstreams[self.upstream].settings;
        if self.tried().len() >= settings.tries_max as usize {
            return Err(NoBackend);
        }
        let lease = shared
            .upstreams
            .pick(&mut shared.board, &shared.timers, self)
            .ok_or(NoBackend)?;
        let backend = lease.backend;
        self.begin(lease);
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
                Err(ConnectError::Exhausted) => return Ok(Dialed::NoDescriptor),
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
            let entry = shared.upstreams.entry_mut(backend);
            if failed < entry.addresses.len() {
                entry.rotate();
                match self.dial(shared, session) {
                    Ok(connection) => return Ok(Dialed::Started(connection)),
                    Err(ConnectError::Exhausted) => return Ok(Dialed::NoDescriptor),
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
                    let entry = shared.upstreams.entry_mut(backend);
                    entry.rotate();
                    if count >= entry.addresses.len() {
                        return Err(failed);
                    }
                }
            }
        }
    }

    /// No attempt could be started at the present backend: it is not tried again. That counts as
    /// its failure only where the network says so: a machine that has run out of ports must not
    /// take its backends for dead.
    pub(crate) fn pass_over<N: Net>(&mut self, shared: &mut Shared<N>, kind: ErrorKind) {
        self.note_failure(kind);
        if let Some(lease) = &self.lease
            && shared.upstreams.entry(lease.backend).addresses.is_empty()
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
                // Of its socket, or of a firewall's rule for its address.
                | ErrorKind::PermissionDenied
                | ErrorKind::WouldBlock
        );
        if is_its_fault {
            return self.give_up(shared, FailedAt::Connect, &reason(kind));
        }
        self.note_failed(shared, TriedAt::Connect);
        if let Some(lease) = self.take_tried() {
            shared.log_unstarted(lease.backend, kind);
            shared.upstreams.give_back(&mut shared.board, lease);
        }
    }

    /// The present backend has failed: it is not tried again.
    pub(crate) fn give_up<N: Net>(&mut self, shared: &mut Shared<N>, stage: FailedAt, why: &str) {
        self.note_failed(shared, stage.into());
        let Some(lease) = self.take_tried() else {
            return;
        };
        shared
            .upstreams
            .on_failure(&shared.board, &mut shared.timers, lease.backend, stage, why);
        shared.upstreams.give_back(&mut shared.board, lease);
    }

    /// Notes that the present backend has failed, or that its connection was an old one.
    pub(crate) fn note_failed<N: Net>(&mut self, shared: &Shared<N>, stage: TriedAt) {
        if let Some(lease) = &self.lease {
            let column = shared.upstreams.entry(lease.backend).column;
            let key = shared.board.key_of(column);
            self.note_try(key, stage, shared.timers.now);
            self.note_excluded(shared.excluded(self, None));
        }
    }

    /// The backend has done its part; it stays the last that was tried.
    pub(crate) fn release<N: Net>(&mut self, shared: &mut Shared<N>) {
        if let Some(lease) = self.take_tried() {
            shared.upstreams.give_back(&mut shared.board, lease);
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

impl From<FailedAt> for TriedAt {
    fn from(stage: FailedAt) -> Self {
        match stage {
            FailedAt::Connect => Self::Connect,
            FailedAt::Answer => Self::Answer,
        }
    }
}

impl<N: Net> Shared<N> {
    /// The key of the name of the backend that was tried last; 0 where there is none any more.
    pub(crate) fn backend_key(&self, attempt: &Attempt) -> u64 {
        let entry = attempt
            .last()
            .and_then(|id| self.upstreams.entries[id.0 as usize].as_ref());
        entry.map_or(0, |entry| self.board.key_of(entry.column))
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
