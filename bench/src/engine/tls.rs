//! TLS between the clients and their sockets.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::{Errno, Result};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{ClientConfig, Error, HandshakeKind};

use super::net;
use crate::certificates::NAME;
use crate::tls::{Sessions, client_config};
use crate::workload::Tls;

/// Bytes of one read of a socket; what they hold fits into any space of the engine.
const READ_BYTES: usize = 128 << 10;
/// What is kept of a record that has not come whole.
const PARTIAL_BYTES_MAX: usize = 17 << 10;
const PLAIN_BYTES_MAX: usize = 16 << 10;
/// What a record adds at most.
const RECORD_BYTES_ADDED: usize = 64;
/// Text of one write; more would only wait in memory.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// What all clients of a cell have in common.
#[derive(Debug)]
pub(super) struct Clients {
    config: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
    /// Where sockets are read.
    space: Vec<u8>,
}

impl Clients {
    /// They have no session yet.
    pub(super) fn new(tls: Tls) -> std::result::Result<Self, Error> {
        let (config, sessions) = client_config(tls)?;
        Ok(Self {
            config,
            sessions,
            space: vec![0; PARTIAL_BYTES_MAX + READ_BYTES],
        })
    }

    pub(super) fn connection(&self) -> Option<Connection> {
        let name = ServerName::try_from(NAME).ok()?;
        let has_session = self.sessions.has_one();
        let tls = UnbufferedClientConnection::new(self.config.clone(), name).ok()?;
        Some(Connection {
            tls,
            has_session,
            partial: Vec::new(),
            pending: Vec::new(),
            has_ended: false,
        })
    }
}

/// One client's TLS.
pub(super) struct Connection {
    tls: UnbufferedClientConnection,
    /// A session was there that it could resume.
    has_session: bool,
    /// The beginning of a record.
    partial: Vec<u8>,
    /// What the socket has not taken.
    pending: Vec<u8>,
    has_ended: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Connection")
    }
}

impl Connection {
    /// Goes on with the handshake, as far as the socket lets it; whether it is done.
    pub(super) fn shake(&mut self, clients: &mut Clients, fd: &OwnedFd) -> Result<bool> {
        if self.pending.is_empty() && self.tls.is_handshaking() {
            match self.read(clients, fd, &mut []) {
                Ok(_) | Err(Errno::AGAIN) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.flush(fd)?;
        Ok(self.is_shaken())
    }

    /// Whether the handshake is done and all of it has left.
    pub(super) fn is_shaken(&self) -> bool {
        !self.tls.is_handshaking() && self.pending.is_empty()
    }

    /// What was wrong with the handshake, if anything was.
    pub(super) fn objection(&self) -> Option<&'static str> {
        match (self.tls.handshake_kind(), self.has_session) {
            (Some(HandshakeKind::Resumed), true) | (Some(HandshakeKind::Full), false) => None,
            (Some(HandshakeKind::Full), true) => Some("a session was not resumed"),
            _ => Some("a handshake took a round trip more"),
        }
    }

    /// Whether it began without a session that could be resumed.
    pub(super) fn is_new(&self) -> bool {
        !self.has_session
    }

    /// Whether the socket is to take more.
    pub(super) fn wants_write(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether the end has come, which no event of the socket need tell.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Reads the socket once and opens what came, with room for all of it. 0 is the end.
    pub(super) fn read(
        &mut self,
        clients: &mut Clients,
        fd: &OwnedFd,
        into: &mut [u8],
    ) -> Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        let space = &mut clients.space;
        let kept = self.partial.len();
        if kept > PARTIAL_BYTES_MAX {
            return Err(Errno::PROTO);
        }
        space[..kept].copy_from_slice(&self.partial);
        let is_first = kept == 0 && self.tls.is_handshaking();
        let count = match net::recv(fd, &mut space[kept..kept + READ_BYTES]) {
            Ok(0) => return Ok(0),
            Ok(count) => count,
            // Its own hello comes first.
            Err(Errno::AGAIN) if is_first => 0,
            Err(errno) => return Err(errno),
        };
        let (done, given) = self.open(&mut space[..kept + count], into)?;
        self.partial.clear();
        if done < kept + count {
            self.partial.extend_from_slice(&space[done..kept + count]);
        } else {
            self.partial = Vec::new();
        }
        self.flush(fd)?;
        match (given, self.has_ended) {
            (0, false) => Err(Errno::AGAIN),
            (given, _) => Ok(given),
        }
    }

    /// How many bytes are done with, and how many it gave.
    fn open(&mut self, bytes: &mut [u8], into: &mut [u8]) -> Result<(usize, usize)> {
        let (mut done, mut given) = (0, 0);
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.tls.process_tls_records(&mut bytes[done..]);
            let state = state.map_err(|_| Errno::PROTO)?;
            match state {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|_| Errno::PROTO)?;
                        discard += record.discard;
                        let end = given + record.payload.len();
                        let room = into.get_mut(given..end).ok_or(Errno::PROTO)?;
                        room.copy_from_slice(record.payload);
                        given = end;
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = self.pending.len();
                    if let Err(EncodeError::InsufficientSize(needed)) = data.encode(&mut []) {
                        self.pending.resize(start + needed.required_size, 0);
                        let _ = data.encode(&mut self.pending[start..]);
                    }
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => self.has_ended = true,
                _ => return Ok((done + discard, given)),
            }
            done += discard;
        }
    }

    /// Seals the beginning of what is to be sent, as much as the socket may take soon.
    pub(super) fn write(&mut self, fd: &OwnedFd, bytes: &[u8]) -> Result<usize> {
        self.flush(fd)?;
        if self.wants_write() {
            return Err(Errno::AGAIN);
        }
        let bytes = &bytes[..bytes.len().min(WRITE_BYTES_MAX)];
        let records = bytes.len().div_ceil(PLAIN_BYTES_MAX);
        let mut space = vec![0; bytes.len() + records * RECORD_BYTES_ADDED];
        let ConnectionState::WriteTraffic(mut traffic) = self
            .tls
            .process_tls_records(&mut self.partial)
            .state
            .map_err(|_| Errno::PROTO)?
        else {
            return Err(Errno::PROTO);
        };
        let count = traffic
            .encrypt(bytes, &mut space)
            .map_err(|_| Errno::PROTO)?;
        space.truncate(count);
        self.pending = space;
        self.flush(fd)?;
        Ok(bytes.len())
    }

    /// Marks the end, once everything before it has left; whether it has.
    pub(super) fn finish(&mut self, fd: &OwnedFd) -> Result<bool> {
        self.flush(fd)?;
        if self.wants_write() {
            return Ok(false);
        }
        let mut mark = [0; RECORD_BYTES_ADDED];
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) =
            self.tls.process_tls_records(&mut self.partial).state
            && let Ok(count) = traffic.queue_close_notify(&mut mark)
        {
            self.pending.extend_from_slice(&mark[..count]);
        }
        self.flush(fd)?;
        Ok(true)
    }

    /// Hands the socket what waits for it.
    pub(super) fn flush(&mut self, fd: &OwnedFd) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        match net::send(fd, &self.pending) {
            Ok(count) if count == self.pending.len() => self.pending = Vec::new(),
            Ok(count) => drop(self.pending.drain(..count)),
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}
