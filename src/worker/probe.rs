//! One health probe: an ordinary socket of the same loop, and the steps from its connection to
//! what the server has answered.

use std::net::SocketAddr;

use crate::config::model::{ProbeKind, ProxyVersion};
use crate::core::address::{Address, BackendAddress};
use crate::core::backend::BackendId;
use crate::core::fault::Fault;
use crate::core::finding::Reason;
use crate::core::probe::{self, Incoming, ProbeAnswer};
use crate::core::proxy_header::{Origin, TlsFacts};
use crate::core::readiness::Io;
use crate::core::time::Tick;
use crate::core::timer::TimerKey;
use crate::net::{ConnectError, Net};
use crate::worker::connections::Owner;
use crate::worker::keys::ConnectionKey;
use crate::worker::shared::Shared;
use crate::worker::upstreams::UpstreamTable;

/// The probe of one backend.
pub(crate) struct Probe {
    pub(crate) backend: BackendId,
    pub(crate) generation: u32,
    /// Its timer, and when that fires.
    pub(crate) timer: Option<(Tick, TimerKey)>,
    pub(crate) running: Option<Running>,
}

/// A probe under way.
pub(crate) struct Running {
    pub(crate) connection: ConnectionKey,
    pub(crate) started: Tick,
    pub(crate) addresses_failed: u8,
    pub(crate) stage: ProbeStage,
    /// Something was said to the server, so that it is told the end, too.
    pub(crate) has_asked: bool,
    /// Its outcome is known.
    pub(crate) is_decided: bool,
    /// The address that it connects to, if that is one of IP.
    pub(crate) destination: Option<SocketAddr>,
}

pub(crate) enum ProbeStage {
    /// Holds the request; none where the connection is all that is tried.
    Connecting(Option<Vec<u8>>),
    /// Connected, in the middle of a handshake; holds the request.
    Securing(Vec<u8>),
    /// The request, and how much of it is sent.
    Asking(Vec<u8>, usize),
    Listening(Incoming),
    /// Everything is said and the server was told the end; so many bytes more are read until it
    /// ends, too. In TLS 1.3 it may refuse only now: it is the last to judge the certificate.
    Leaving(usize),
    /// Nothing more is expected.
    Over,
}

/// What a step of a probe found.
pub(crate) enum Found {
    /// Nothing before another event.
    Wait,
    /// Nothing yet; the next step may.
    Nothing,
    Outcome(Result<(), Reason>),
    /// Not even connected: another address may do.
    Unreachable(Reason),
    Over,
}

impl Probe {
    /// Its connection, while it runs.
    pub(crate) fn connection(&self) -> Option<ConnectionKey> {
        self.running.as_ref().map(|running| running.connection)
    }

    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

/// Starts a probe. Without a reason for the failure there was no descriptor, which says nothing
/// of the backend.
pub(crate) fn connect_probe<N: Net>(
    key: u32,
    shared: &mut Shared<N>,
    backend: BackendId,
    started: Tick,
) -> Result<Running, Option<Reason>> {
    let request = first_words(&shared.upstreams, backend);
    let connect = match request {
        Some(_) => N::connect,
        None => N::probe,
    };
    let destination = match shared.upstreams.entry(backend).address_now() {
        Some(Address::Ip(address)) => Some(*address),
        Some(Address::Unix(_)) | None => None,
    };
    let connection = shared
        .open_connection(backend, Owner::Probe(key), connect)
        .map_err(|error| match error {
            ConnectError::Exhausted => None,
            ConnectError::Failed(kind) => Some(Reason::of(kind)),
        })?;
    Ok(Running {
        connection,
        started,
        addresses_failed: 0,
        stage: ProbeStage::Connecting(request),
        has_asked: false,
        is_decided: false,
        destination,
    })
}

impl Running {
    pub(crate) fn close<N: Net>(self, shared: &mut Shared<N>) {
        match self.has_asked {
            true => shared.close_connection(self.connection),
            false => shared.cut_connection(self.connection),
        }
    }

    /// Its outcome, if nothing decides before its time is over.
    pub(crate) fn outcome_at_last(&self) -> Result<(), Reason> {
        match &self.stage {
            ProbeStage::Leaving(_) => Ok(()),
            ProbeStage::Connecting(_)
            | ProbeStage::Securing(_)
            | ProbeStage::Asking(..)
            | ProbeStage::Listening(_)
            | ProbeStage::Over => Err(Reason::TimedOut),
        }
    }

    /// Whether all that the server has to do is to end the connection.
    pub(crate) fn has_answer(&self) -> bool {
        match &self.stage {
            ProbeStage::Listening(answer) => answer.is_over(),
            ProbeStage::Leaving(_) => true,
            ProbeStage::Connecting(_)
            | ProbeStage::Securing(_)
            | ProbeStage::Asking(..)
            | ProbeStage::Over => false,
        }
    }
}

/// Moves a probe on.
pub(crate) fn step<N: Net>(
    running: &mut Running,
    shared: &mut Shared<N>,
    backend: BackendId,
) -> Found {
    match &running.stage {
        ProbeStage::Connecting(_) => confirm(running, shared, backend),
        ProbeStage::Securing(_) => secure(running, shared),
        ProbeStage::Asking(..) => ask(running, shared, backend),
        ProbeStage::Leaving(left) => {
            let left = *left;
            leave(running, shared, left)
        }
        ProbeStage::Listening(..) => listen(running, shared, backend),
        ProbeStage::Over => Found::Over,
    }
}

fn confirm<N: Net>(running: &mut Running, shared: &mut Shared<N>, backend: BackendId) -> Found {
    let Running {
        connection,
        stage,
        has_asked,
        destination,
        ..
    } = running;
    let endpoint = shared.connections.endpoint_mut(*connection);
    let ProbeStage::Connecting(request) = stage else {
        return Found::Nothing;
    };
    if !endpoint.may_write() {
        return Found::Wait;
    }
    // Asked whatever the event said: this is all that a TCP probe finds out, and an event for
    // nothing must not pass it.
    match endpoint.connected(&mut shared.io.net) {
        Io::Ready(()) => {}
        Io::Blocked => return Found::Wait,
        Io::Closed => return Found::Unreachable(Reason::Closed),
        Io::Failed(kind) => return Found::Unreachable(Reason::of(kind)),
    }
    if let Some(request) = request.take() {
        let local = endpoint.local_address(&shared.io.net);
        if let Some(version) = sends_proxy(&shared.upstreams, backend) {
            let origin = own_origin(version, local, *destination);
            let tls = TlsFacts::default();
            shared.prefaces.put(*connection, version, origin, tls);
        }
        *stage = ProbeStage::Securing(request);
        *has_asked = true;
        Found::Nothing
    } else {
        *stage = ProbeStage::Over;
        Found::Outcome(Ok(()))
    }
}

/// Goes on with the handshake, if there is one.
fn secure<N: Net>(running: &mut Running, shared: &mut Shared<N>) -> Found {
    let ProbeStage::Securing(request) = &mut running.stage else {
        return Found::Nothing;
    };
    match shared.shake(running.connection) {
        Ok(true) => {
            running.stage = ProbeStage::Asking(std::mem::take(request), 0);
            Found::Nothing
        }
        Ok(false) => Found::Wait,
        Err(reason) => {
            running.stage = ProbeStage::Over;
            Found::Outcome(Err(reason))
        }
    }
}

/// Which PROXY header connections to a backend begin with, if any.
fn sends_proxy(upstreams: &UpstreamTable, backend: BackendId) -> Option<ProxyVersion> {
    let upstream = upstreams.entry(backend).upstream;
    upstreams[upstream].settings.send_proxy
}

/// What a probe says of itself. Version 1 has no word for it but UNKNOWN, which servers may refuse:
/// senders are to give the addresses of the connection instead (section 2.1).
fn own_origin(
    version: ProxyVersion,
    local: Option<SocketAddr>,
    destination: Option<SocketAddr>,
) -> Origin {
    match (version, local, destination) {
        (ProxyVersion::V1, Some(source), Some(destination)) => Origin::Client {
            source,
            destination,
        },
        _ => Origin::Local,
    }
}

/// The request of an HTTP probe; for TCP an empty one if it says anything at all.
fn first_words(upstreams: &UpstreamTable, backend: BackendId) -> Option<Vec<u8>> {
    let entry = upstreams.entry(backend);
    let check = upstreams[entry.upstream].settings.health_check.as_ref()?;
    match &check.kind {
        // To say for whom it connects, or to agree on how to encrypt, is all that it says.
        ProbeKind::Tcp => {
            let is_secure = upstreams[entry.upstream].tls.is_some();
            let says_something = is_secure || sends_proxy(upstreams, backend).is_some();
            says_something.then(Vec::new)
        }
        ProbeKind::Http { path, host, .. } => {
            let host = host.clone().unwrap_or_else(|| host_of(entry));
            Some(probe::request(path, &host))
        }
    }
}

/// The Host field for a backend: its address as configured, `localhost` for Unix sockets.
fn host_of(entry: &crate::worker::backend_entry::BackendEntry) -> String {
    match &entry.address {
        BackendAddress::Fixed(Address::Unix(_)) => "localhost".to_owned(),
        BackendAddress::Fixed(Address::Ip(_)) | BackendAddress::Name { .. } => {
            entry.address.to_string()
        }
    }
}

/// Sends what is left of the request.
fn ask<N: Net>(running: &mut Running, shared: &mut Shared<N>, backend: BackendId) -> Found {
    let Running {
        connection, stage, ..
    } = running;
    let ProbeStage::Asking(request, sent) = stage else {
        return Found::Nothing;
    };
    match shared.write_first(*connection, &request[*sent..]) {
        Ok(_) if shared.prefaces.has(*connection) => Found::Wait,
        Ok(count) => {
            *sent += count;
            match request.len() - *sent {
                0 => on_asked(running, shared, backend),
                _ if count == 0 => Found::Wait,
                _ => Found::Nothing,
            }
        }
        Err(kind) => {
            let reason = Reason::of(kind);
            *stage = ProbeStage::Over;
            Found::Outcome(Err(reason))
        }
    }
}

/// All is said: a server that was asked something is listened to, another told the end.
fn on_asked<N: Net>(running: &mut Running, shared: &mut Shared<N>, backend: BackendId) -> Found {
    let upstream = shared.upstreams.entry(backend).upstream;
    let check = shared.upstreams[upstream].settings.health_check.as_ref();
    if check.is_some_and(|check| check.kind != ProbeKind::Tcp) {
        running.stage = ProbeStage::Listening(Incoming::new());
        return Found::Nothing;
    }
    let endpoint = shared.connections.endpoint_mut(running.connection);
    endpoint.finish(&mut shared.io.net);
    running.stage = ProbeStage::Leaving(probe::ANSWER_BYTES_MAX);
    match endpoint.is_secure() {
        true => Found::Nothing,
        false => Found::Outcome(Ok(())),
    }
}

/// Reads once what a server says that was asked nothing, and forgets it: a close over it would be a
/// reset. Whatever it says or however it ends, it has taken the connection, unless TLS fails.
fn leave<N: Net>(running: &mut Running, shared: &mut Shared<N>, left: usize) -> Found {
    let endpoint = shared.connections.endpoint_mut(running.connection);
    // The end may not have left. That it failed is found by reading.
    let _ = endpoint.flush(&mut shared.io.net);
    if !endpoint.may_read() {
        return Found::Wait;
    }
    let io = &mut shared.io;
    let room = left.min(io.scratch.len());
    if room == 0 {
        return Found::Over;
    }
    let found = endpoint.read(&mut io.net, &mut io.scratch[..room]);
    running.stage = match found {
        Io::Ready(count) => ProbeStage::Leaving(left - count),
        Io::Blocked => return Found::Wait,
        Io::Closed | Io::Failed(_) => ProbeStage::Over,
    };
    match endpoint.fault() {
        None | Some(Fault::Cut) => Found::Outcome(Ok(())),
        Some(fault) => Found::Outcome(Err(Reason::Tls(fault))),
    }
}

/// Reads once. The head of the answer decides; the rest is read to its end, and then the end of
/// the connection.
fn listen<N: Net>(running: &mut Running, shared: &mut Shared<N>, backend: BackendId) -> Found {
    let Running {
        connection, stage, ..
    } = running;
    let endpoint = shared.connections.endpoint_mut(*connection);
    let ProbeStage::Listening(answer) = stage else {
        return Found::Nothing;
    };
    if answer.room() == 0 {
        return Found::Over;
    }
    // The request may not have left as a whole. That it failed is found by reading.
    let _ = endpoint.flush(&mut shared.io.net);
    if !endpoint.may_read() {
        return Found::Wait;
    }
    let io = &mut shared.io;
    let room = answer.room().min(io.scratch.len());
    let reason = match endpoint.read(&mut io.net, &mut io.scratch[..room]) {
        Io::Ready(count) => match answer.feed(&io.scratch[..count]) {
            ProbeAnswer::Partial => return Found::Nothing,
            ProbeAnswer::Malformed(error) => {
                return Found::Outcome(Err(Reason::of_head(error)));
            }
            ProbeAnswer::Status(status) => {
                return Found::Outcome(judge(&shared.upstreams, backend, status));
            }
        },
        Io::Blocked => return Found::Wait,
        Io::Closed => Reason::ClosedEarly,
        Io::Failed(kind) => match endpoint.fault() {
            None => Reason::of(kind),
            Some(Fault::Cut) => Reason::ClosedEarly,
            Some(fault) => Reason::Tls(fault),
        },
    };
    *stage = ProbeStage::Over;
    Found::Outcome(Err(reason))
}

fn judge(upstreams: &UpstreamTable, backend: BackendId, status: u16) -> Result<(), Reason> {
    let upstream = upstreams.entry(backend).upstream;
    let check = upstreams[upstream].settings.health_check.as_ref();
    let accepted = check.is_some_and(|check| match &check.kind {
        ProbeKind::Tcp => true,
        ProbeKind::Http { statuses, .. } => probe::accepts(statuses, status),
    });
    if accepted {
        Ok(())
    } else {
        Err(Reason::Status(status))
    }
}
