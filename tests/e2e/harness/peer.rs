//! One end of a connection, driven by a script: the client in front of weir, or the connection
//! that a backend accepted behind it.

use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::PATIENCE;
use super::pattern::Pattern;

const CHUNK_BYTES: usize = 64 * 1024;

/// How a connection ended, as its reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// A clean end after the last byte.
    Clean,
    /// ECONNRESET.
    Reset,
}

/// A connected stream socket, TCP or Unix.
#[derive(Debug)]
pub(crate) struct Peer {
    socket: Arc<Socket>,
}

impl Peer {
    pub(crate) fn new(socket: Socket) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        // Each send is its own segment. Unix sockets do not have the option, nor need it.
        let _ = socket.set_tcp_nodelay(true);
        Self {
            socket: Arc::new(socket),
        }
    }

    /// Connects to an IP address.
    pub(crate) fn connect(to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(Self::new(socket))
    }

    /// Connects from that source address. All of 127/8 belongs to this host.
    pub(crate) fn connect_from(source: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        Ok(Self::new(socket))
    }

    /// Connects to a Unix socket.
    pub(crate) fn connect_unix(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(Self::new(socket))
    }

    /// Another handle on the same connection, for a second thread.
    pub(crate) fn share(&self) -> Self {
        Self {
            socket: Arc::clone(&self.socket),
        }
    }

    pub(crate) fn socket(&self) -> &Arc<Socket> {
        &self.socket
    }

    /// Sends all of it.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.write_all(bytes.as_ref()).expect("the bytes are taken");
    }

    /// Receives exactly these bytes next.
    pub(crate) fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let expected = bytes.as_ref();
        let mut got = vec![0; expected.len()];
        let mut filled = 0;
        while filled < got.len() {
            match self.read(&mut got[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) => panic!("{e} after {}", shown(&got[..filled])),
            }
        }
        assert_eq!(shown(&got[..filled]), shown(expected));
    }

    /// Receives bytes up to and with a line feed, and returns them without it.
    pub(crate) fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            self.read_exact(&mut byte)?;
            if byte[0] == b'\n' {
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            line.push(byte[0]);
        }
    }

    /// Ends the sending direction; the other stays open.
    pub(crate) fn finish(&self) {
        self.socket
            .shutdown(Shutdown::Write)
            .expect("it is connected");
    }

    /// Closes with a reset instead of an end.
    pub(crate) fn reset(self) {
        self.socket
            .set_linger(Some(Duration::ZERO))
            .expect("it is a socket");
    }

    /// Receives the clean end next, and no byte before it.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.end(), (Vec::new(), End::Clean));
    }

    /// Receives a reset next, and no byte before it.
    pub(crate) fn expect_reset(&mut self) {
        assert_eq!(self.end(), (Vec::new(), End::Reset));
    }

    /// Reads on to the end: what came before it, and how it came.
    ///
    /// # Panics
    /// When it does not end within [`PATIENCE`], or ends in another way.
    pub(crate) fn end(&mut self) -> (Vec<u8>, End) {
        let mut got = Vec::new();
        match self.read_to_end(&mut got) {
            Ok(_) => (got, End::Clean),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => (got, End::Reset),
            Err(e) => panic!("{e} instead of an end, after {}", shown(&got)),
        }
    }

    /// Receives nothing, neither a byte nor an end, while `window` passes.
    pub(crate) fn expect_silence(&mut self, window: Duration) {
        self.socket
            .set_read_timeout(Some(window))
            .expect("a timeout");
        let outcome = self.read(&mut [0]);
        self.socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a timeout");
        match outcome {
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            other => panic!("{other:?} instead of silence"),
        }
    }

    /// Sends the first `length` bytes of a pattern.
    pub(crate) fn send_pattern(&mut self, seed: u64, length: usize) {
        let mut pattern = Pattern::new(seed);
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut left = length;
        while left > 0 {
            let part = left.min(chunk.len());
            pattern.fill(&mut chunk[..part]);
            self.send(&chunk[..part]);
            left -= part;
        }
    }

    /// Receives the first `length` bytes of a pattern.
    pub(crate) fn expect_pattern(&mut self, seed: u64, length: usize) {
        let mut pattern = Pattern::new(seed);
        let mut expected = vec![0; CHUNK_BYTES];
        let mut got = vec![0; CHUNK_BYTES];
        let mut at = 0;
        while at < length {
            let room = (length - at).min(got.len());
            let part = match self.read(&mut got[..room]) {
                Ok(0) => panic!("ended after {at} of {length} bytes"),
                Ok(n) => n,
                Err(e) => panic!("{e} after {at} of {length} bytes"),
            };
            pattern.fill(&mut expected[..part]);
            assert!(got[..part] == expected[..part], "wrong bytes after {at}");
            at += part;
        }
    }
}

impl Read for Peer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| (&*self.socket).read(into))
    }
}

impl Write for Peer {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        uninterrupted(|| (&*self.socket).write(from))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Tries again after an interruption: a call with a timeout is interrupted when the process is
/// stopped and goes on, signal(7), even by a debugger or a sleeping machine.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Bytes as an assertion prints them.
fn shown(bytes: &[u8]) -> impl Display + PartialEq + std::fmt::Debug {
    bytes.escape_ascii().to_string()
}
