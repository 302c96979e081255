//! The access log: one line per request or session into a bounded buffer, which whoever runs the
//! worker takes away once per turn and writes where it does not block.

use std::net::{IpAddr, SocketAddr};

use crate::core::access_log::{LogFormat, TlsRecord, VALUE_BYTES_MAX};
use crate::core::http::head::Version;
use crate::core::http::path::escape_beyond_ascii;
use crate::core::http::trace;
use crate::core::layer::Secured;
use crate::core::time::Tick;
use crate::worker::http::received::Request;

/// Lines that wait for their writer, in bytes; what does not fit is dropped and counted.
pub const PENDING_BYTES_MAX: usize = 1024 * 1024;

/// Longest value kept of a request for its line, in bytes: one more than is written, so that the
/// line shows the cut.
const KEPT_BYTES_MAX: usize = VALUE_BYTES_MAX + 1;

/// Lines that wait to be written.
#[derive(Debug)]
pub(crate) struct AccessLog {
    format: LogFormat,
    pending: Vec<u8>,
    lost: u64,
}

impl AccessLog {
    pub(crate) fn new(format: LogFormat) -> Self {
        Self {
            format,
            pending: Vec::new(),
            lost: 0,
        }
    }

    /// The lines that wait; the caller clears what it has written.
    pub(crate) fn pending(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Lines that were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Counts those that wait as lost.
    pub(crate) fn give_up(&mut self) {
        let lines = self.pending.iter().filter(|&&byte| byte == b'\n').count();
        self.pending.clear();
        self.lost += lines as u64;
    }

    /// Keeps the lines of an earlier log.
    pub(crate) fn inherit(&mut self, earlier: Self) {
        self.pending = earlier.pending;
        self.lost = earlier.lost;
    }

    pub(super) fn line(&mut self, write: impl FnOnce(LogFormat, &mut Vec<u8>)) {
        if self.pending.len() >= PENDING_BYTES_MAX {
            self.lost += 1;
        } else {
            write(self.format, &mut self.pending);
        }
    }
}

/// What a line needs of a request after its bytes have gone.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) host: Vec<u8>,
    pub(super) method: Vec<u8>,
    pub(super) path: Vec<u8>,
    pub(super) proto: &'static str,
    pub(super) user_agent: Option<Vec<u8>>,
    pub(super) referer: Option<Vec<u8>>,
    pub(super) traceparent: Option<Vec<u8>>,
    pub(super) client: Option<IpAddr>,
    pub(super) began: Tick,
    pub(super) head_bytes: u64,
    pub(super) status: Option<u16>,
    pub(super) tls: Option<TlsKept>,
}

impl Record {
    pub(super) fn new(request: Request<'_>, client: Option<IpAddr>, began: Tick) -> Self {
        let Request {
            head,
            bytes,
            head_bytes,
        } = request;
        let keep = |value: &[u8]| value[..value.len().min(KEPT_BYTES_MAX)].to_vec();
        // As it came, but bytes beyond ASCII as they go on: JSON holds no others than UTF-8.
        let path = |target: &[u8]| {
            let mut path = Vec::with_capacity(target.len().min(KEPT_BYTES_MAX));
            escape_beyond_ascii(&target[..target.len().min(KEPT_BYTES_MAX)], &mut path);
            path
        };
        Self {
            host: keep(head.authority(bytes)),
            method: keep(head.method(bytes)),
            path: path(head.target(bytes)),
            proto: match head.facts.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
            user_agent: head.fields.find(b"user-agent", bytes).map(keep),
            referer: head.fields.find(b"referer", bytes).map(keep),
            traceparent: trace::traceparent(&head.fields, bytes).map(<[u8]>::to_vec),
            client,
            began,
            head_bytes: head_bytes as u64,
            status: None,
            tls: None,
        }
    }

    /// Of a request that cannot be read, or not wholly.
    pub(super) fn unread(peer: Option<SocketAddr>, began: Tick) -> Self {
        Self {
            host: Vec::new(),
            method: Vec::new(),
            path: Vec::new(),
            proto: "HTTP/1.1",
            user_agent: None,
            referer: None,
            traceparent: None,
            client: peer.map(|peer| peer.ip().to_canonical()),
            began,
            head_bytes: 0,
            status: None,
            tls: None,
        }
    }
}

/// What a line needs of the client's TLS.
#[derive(Debug)]
pub(super) struct TlsKept {
    sni: Option<Box<str>>,
    /// Without the name.
    rest: TlsRecord<'static>,
}

impl TlsKept {
    pub(super) fn of(secured: Secured<'_>) -> Self {
        let record = TlsRecord::of(secured);
        Self {
            sni: record.sni.map(Box::from),
            rest: TlsRecord {
                sni: None,
                version: record.version,
                cipher: record.cipher,
                is_resumed: record.is_resumed,
                is_verified: record.is_verified,
            },
        }
    }

    pub(super) fn record(&self) -> TlsRecord<'_> {
        TlsRecord {
            sni: self.sni.as_deref(),
            ..self.rest
        }
    }
}
