//! The L4 backend, and the messages it understands.
//!
//! The first byte of a connection says what the client wants of it, so that one listener of a
//! proxy serves every L4 workload.

use std::os::fd::OwnedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::{Engine, Fate, net};
use crate::pattern::Pattern;

/// Length of an echoed message.
pub(super) const MESSAGE_BYTES: usize = 128;
/// Length of what precedes the text of an upload.
pub(super) const PREFACE_BYTES: u64 = 16;
/// One of so many reads is compared with the pattern; the others are only counted.
pub(super) const CHECK_EVERY: u64 = 16;
/// Bytes of one read or write of a bulk stream.
const PIECE_BYTES: usize = 256 << 10;

/// What a client may want of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Echo,
    /// One echo, then the backend closes.
    EchoAndClose,
    /// The client sends the pattern.
    Upload,
    /// The backend sends the pattern.
    Download,
}

impl Wish {
    fn byte(self) -> u8 {
        match self {
            Self::Echo => b'E',
            Self::EchoAndClose => b'C',
            Self::Upload => b'U',
            Self::Download => b'D',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Echo, Self::EchoAndClose, Self::Upload, Self::Download]
            .into_iter()
            .find(|wish| wish.byte() == byte)
    }
}

/// A message: the wish, a number that makes it unique, and text.
pub(super) fn message(pattern: &Pattern, wish: Wish, sequence: u64) -> [u8; MESSAGE_BYTES] {
    let mut message = [0; MESSAGE_BYTES];
    message.copy_from_slice(&pattern.piece(sequence)[..MESSAGE_BYTES]);
    message[0] = wish.byte();
    message[8..16].copy_from_slice(&sequence.to_le_bytes());
    message
}

/// One connection of a backend.
#[derive(Debug)]
pub(super) struct L4Backend {
    backend: usize,
    wish: Option<Wish>,
    /// Bytes of the connection so far, in the direction that matters.
    moved: u64,
    reads: u64,
    /// Echoed bytes that did not fit into the socket.
    unsent: Vec<u8>,
    /// A download that has been ended.
    ended: bool,
}

impl L4Backend {
    pub(super) fn new(backend: usize) -> Self {
        Self {
            backend,
            wish: None,
            moved: 0,
            reads: 0,
            unsent: Vec::new(),
            ended: false,
        }
    }
}

impl Engine {
    pub(super) fn on_l4_backend(
        &mut self,
        fd: &OwnedFd,
        backend: &mut L4Backend,
        flags: EventFlags,
    ) -> (EventFlags, Fate) {
        let fate = match backend.wish {
            Some(Wish::Download) if flags.contains(EventFlags::OUT) && !backend.ended => {
                self.send_download(fd, backend)
            }
            Some(Wish::Upload) => self.receive_upload(fd, backend),
            None | Some(_) => self.echo(fd, backend),
        };
        let wanted = match backend.wish {
            Some(Wish::Download) if !backend.ended => EventFlags::IN | EventFlags::OUT,
            _ if !backend.unsent.is_empty() => EventFlags::IN | EventFlags::OUT,
            _ => EventFlags::IN,
        };
        (wanted, fate)
    }

    /// Reads the wish, if that is not known yet, and echoes.
    fn echo(&mut self, fd: &OwnedFd, backend: &mut L4Backend) -> Fate {
        if !backend.unsent.is_empty() {
            match net::send(fd, &backend.unsent) {
                Ok(n) => drop(backend.unsent.drain(..n)),
                Err(Errno::AGAIN) => return Fate::Keep,
                Err(_) => return Fate::Close,
            }
        }
        let read = match net::recv(fd, &mut self.scratch) {
            Ok(n) if n > 0 => n,
            Err(Errno::AGAIN) => return Fate::Keep,
            Ok(_) | Err(_) => return Fate::Close,
        };
        if backend.wish.is_none() {
            backend.wish = Wish::of(self.scratch[0]);
            self.served.by_backend[backend.backend] += 1;
        }
        match backend.wish {
            Some(Wish::Echo | Wish::EchoAndClose) => {}
            Some(Wish::Download) => return Fate::Keep,
            Some(Wish::Upload) => return self.take_upload(backend, read),
            None => {
                self.error("a backend got bytes that no client sent");
                return Fate::Close;
            }
        }
        let sent = match net::send(fd, &self.scratch[..read]) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(_) => return Fate::Close,
        };
        backend.unsent.extend_from_slice(&self.scratch[sent..read]);
        backend.moved += sent as u64;
        let over = backend.moved >= MESSAGE_BYTES as u64;
        if backend.wish == Some(Wish::EchoAndClose) && over {
            Fate::Close
        } else {
            Fate::Keep
        }
    }

    fn send_download(&mut self, fd: &OwnedFd, backend: &mut L4Backend) -> Fate {
        // Backends without clients of their own serve until their client goes.
        if self.load.workload.is_some() && !self.load.running {
            backend.ended = true;
            return match rustix::net::shutdown(fd, Shutdown::Write) {
                Ok(()) => Fate::Keep,
                Err(_) => Fate::Close,
            };
        }
        match net::send(fd, &self.pattern.piece(backend.moved)[..PIECE_BYTES]) {
            Ok(n) => {
                backend.moved += n as u64;
                self.served.bytes_down += n as u64;
                Fate::Keep
            }
            Err(Errno::AGAIN) => Fate::Keep,
            Err(_) => Fate::Close,
        }
    }

    fn receive_upload(&mut self, fd: &OwnedFd, backend: &mut L4Backend) -> Fate {
        backend.reads += 1;
        let check = backend.reads.is_multiple_of(CHECK_EVERY);
        let read = if check {
            net::recv(fd, &mut self.scratch)
        } else {
            net::discard(fd, &mut self.scratch)
        };
        match read {
            Ok(0) | Err(_) if read != Err(Errno::AGAIN) => Fate::Close,
            Ok(n) if check => self.take_upload(backend, n),
            Ok(n) => {
                backend.moved += n as u64;
                self.served.bytes_up += n as u64;
                Fate::Keep
            }
            Err(_) => Fate::Keep,
        }
    }

    /// Compares and counts bytes of an upload that lie in the scratch space. The preface is the
    /// beginning of a message; the pattern goes on behind it, at the offset it would have.
    fn take_upload(&mut self, backend: &mut L4Backend, read: usize) -> Fate {
        let preface = PREFACE_BYTES.saturating_sub(backend.moved);
        let skip = usize::try_from(preface).unwrap_or(0).min(read);
        if !self
            .pattern
            .matches(backend.moved + skip as u64, &self.scratch[skip..read])
        {
            self.error("wrong bytes in an upload");
        }
        backend.moved += read as u64;
        self.served.bytes_up += read as u64;
        Fate::Keep
    }
}
