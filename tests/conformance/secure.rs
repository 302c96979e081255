//! The client's side of TLS over a blocking socket. It is that of weir, but what comes and goes is
//! only bytes to it, and a client of another make would be a process for each case.

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::sync::Arc;

use weir::core::layer::Layer as _;
use weir::core::readiness::Io;
use weir::tls::{ClientParts, ClientSettings, Connection, certificates_in};

use super::harness::Peer;
use super::wire::Wrap;

const SPACE_BYTES: usize = 66 * 1024;

/// What listeners have under `tls`.
pub(crate) fn listener_tls() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/certificates");
    format!("{{certificate: {folder}/site.pem, key: {folder}/site.key}}")
}

/// What clients trust.
pub(crate) fn settings() -> Arc<ClientSettings> {
    let pem = include_bytes!("../certificates/ca.pem");
    let authorities = certificates_in(pem).expect("a certificate");
    let settings = ClientSettings::new(&ClientParts {
        authorities: Some(&authorities),
        identity: None,
        protocols: &[b"http/1.1".to_vec()],
    });
    Arc::new(settings.expect("good parts"))
}

/// One connection's TLS, established.
pub(crate) struct Secure {
    layer: Connection,
    space: Vec<u8>,
}

impl fmt::Debug for Secure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secure")
    }
}

impl Secure {
    /// Does the handshake.
    pub(crate) fn shake(peer: &mut Peer, settings: &ClientSettings) -> io::Result<Self> {
        let layer = settings.connect("site.example");
        let mut this = Self {
            layer: layer.expect("a name"),
            space: vec![0; SPACE_BYTES],
        };
        this.flush(peer)?;
        while !this.layer.is_established() {
            this.receive(peer, &mut [])?;
        }
        Ok(this)
    }

    fn flush(&mut self, peer: &mut Peer) -> io::Result<()> {
        let count = self.layer.pending().len();
        let outcome = peer.write_all(self.layer.pending());
        self.layer.on_sent(count);
        outcome
    }

    /// Reads the socket once; how many bytes of it are to be read.
    fn receive(&mut self, peer: &mut Peer, into: &mut [u8]) -> io::Result<usize> {
        let carried = self.layer.carry(&mut self.space);
        let found = peer.read(&mut self.space[carried..]);
        let count = *found.as_ref().unwrap_or(&0);
        if found.is_ok() && count == 0 {
            self.layer.on_end();
        }
        let opened = self
            .layer
            .on_received(&mut self.space[..carried + count], into);
        self.flush(peer)?;
        found?;
        let given = opened?;
        if count == 0 && !self.layer.may_read() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(given)
    }
}

impl Wrap for Secure {
    fn write_all(&mut self, peer: &mut Peer, bytes: &[u8]) -> io::Result<()> {
        let mut taken = 0;
        while taken < bytes.len() {
            let sealed = self
                .layer
                .seal(&[IoSlice::new(bytes)], taken, &mut self.space);
            self.flush(peer)?;
            peer.write_all(&self.space[..sealed.bytes])?;
            if sealed.taken == 0 {
                return Err(ErrorKind::BrokenPipe.into());
            }
            taken += sealed.taken;
        }
        Ok(())
    }

    fn read(&mut self, peer: &mut Peer, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.layer.read(into) {
                Io::Ready(count) => return Ok(count),
                Io::Closed => return Ok(0),
                Io::Failed(ErrorKind::UnexpectedEof) => return Err(cut()),
                Io::Failed(kind) => return Err(kind.into()),
                Io::Blocked => {}
            }
            let given = self.receive(peer, into)?;
            if given > 0 {
                return Ok(given);
            }
        }
    }

    fn finish(&mut self, peer: &mut Peer) {
        self.layer.finish();
        // Whether it is still there is for the case to judge.
        let _ = self.flush(peer);
        peer.finish();
    }
}

/// An end without its mark is as little a clean one as a reset.
fn cut() -> io::Error {
    io::Error::new(
        ErrorKind::ConnectionReset,
        "reset, or cut without close_notify",
    )
}
