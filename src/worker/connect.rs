//! Gets a session its backend: pick, connect, confirm, and on failure the next one.
//!
//! No client byte is read before the connection is confirmed, so every attempt starts afresh.

use std::io::ErrorKind;

use crate::core::readiness::{Io, Readiness};
use crate::net::{Kind, Net, Side, Target};
use crate::worker::session::{Endpoint, Session, TcpPhase};
use crate::worker::shared::Shared;

/// No backend is usable, or too many have failed.
#[derive(Debug)]
pub(crate) struct NoBackend;

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

/// Picks backends until an attempt to connect is under way.
pub(crate) fn start<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Result<(), NoBackend> {
    loop {
        let tries_max = shared.upstreams[session.upstream as usize]
            .settings
            .tries_max;
        if session.tried.len() >= tries_max as usize {
            return Err(NoBackend);
        }
        let lease = shared
            .pick(session.upstream, session.hash_key, &session.tried)
            .ok_or(NoBackend)?;
        session.lease = Some(lease);
        session.addresses_failed = 0;
        match attempt(key, session, shared) {
            Ok(()) => return Ok(()),
            Err(kind) => give_up_backend(session, shared, &reason(kind)),
        }
    }
}

/// An attempt failed: the backend's next address, or else the next backend.
pub(crate) fn after_failure<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    why: &str,
) -> Result<(), NoBackend> {
    if let Some(endpoint) = session.backend.take() {
        shared.transfer.net.close(endpoint.stream);
    }
    if let Some(lease) = &session.lease {
        let place = shared.place_mut(lease.backend);
        session.addresses_failed += 1;
        if usize::from(session.addresses_failed) < place.addresses.len() {
            place.rotate();
            if attempt(key, session, shared).is_ok() {
                return Ok(());
            }
        }
        give_up_backend(session, shared, why);
    }
    start(key, session, shared)
}

/// Starts connecting to the leased backend, at the first of its addresses that does not refuse
/// at once.
fn attempt<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
) -> Result<(), ErrorKind> {
    let Some(lease) = &session.lease else {
        return Err(ErrorKind::NotConnected);
    };
    let id = lease.backend;
    loop {
        let place = shared.places[id.0 as usize]
            .as_mut()
            .ok_or(ErrorKind::NotFound)?;
        let address = place.address_now().ok_or(ErrorKind::NotFound)?;
        match shared.transfer.net.connect(address) {
            Ok(stream) => return watch(key, session, shared, stream),
            Err(kind) => {
                session.addresses_failed += 1;
                place.rotate();
                if usize::from(session.addresses_failed) >= place.addresses.len() {
                    return Err(kind);
                }
            }
        }
    }
}

fn watch<N: Net>(
    key: u32,
    session: &mut Session<N>,
    shared: &mut Shared<N>,
    stream: N::Stream,
) -> Result<(), ErrorKind> {
    let upstream = &shared.upstreams[session.upstream as usize];
    if let Some(keepalive) = &upstream.settings.keepalive {
        shared.transfer.net.set_keepalive(&stream, keepalive);
    }
    let generation = shared.next_generation();
    let target = Target {
        kind: Kind::Session(Side::Backend),
        key,
        generation,
    };
    if let Err(error) = shared.transfer.net.watch(&stream, target) {
        shared.transfer.net.close(stream);
        return Err(error.kind());
    }
    session.backend = Some(Endpoint {
        stream,
        ready: Readiness::NONE,
        generation,
    });
    session.phase = TcpPhase::Connecting(shared.now);
    Ok(())
}

fn give_up_backend<N: Net>(session: &mut Session<N>, shared: &mut Shared<N>, why: &str) {
    let Some(lease) = session.lease.take() else {
        return;
    };
    session.tried.push(lease.backend);
    shared.on_connect_failure(lease.backend, why);
    shared.give_back(lease);
}

/// Whether the connection in the making is established.
///
/// A socket that is writable and nothing else is connected; only one that is closing as well has
/// to be asked what happened, which costs system calls.
pub(crate) fn confirm<N: Net>(session: &Session<N>, shared: &mut Shared<N>) -> Confirmed {
    let Some(backend) = &session.backend else {
        return Confirmed::NotYet;
    };
    if !backend.ready.has(Readiness::WRITE) {
        return Confirmed::NotYet;
    }
    if !backend.ready.has(Readiness::CLOSING) {
        return Confirmed::Yes;
    }
    match shared.transfer.net.connected(&backend.stream) {
        Io::Ready(()) => Confirmed::Yes,
        Io::Blocked => Confirmed::NotYet,
        Io::Closed => Confirmed::Failed(ErrorKind::ConnectionReset),
        Io::Failed(kind) => Confirmed::Failed(kind),
    }
}

/// How a failure reads in a log line.
pub(crate) fn reason(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::NotFound => "its name does not resolve".to_owned(),
        other => other.to_string(),
    }
}
