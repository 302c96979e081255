//! Messages between processes, each whole, with descriptors: a Unix socket of packets (unix(7),
//! `SOCK_SEQPACKET` and `SCM_RIGHTS`).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};

/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// The most descriptors that go with one message; the kernel's own limit is 253 (unix(7)).
pub const MESSAGE_DESCRIPTORS_MAX: usize = 64;

const CONTROL_BYTES: usize = rustix::cmsg_space!(ScmRights(64));

/// One end of a channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message that has arrived.
#[derive(Debug)]
pub struct Packet {
    /// What it says.
    pub bytes: Vec<u8>,
    /// What came with it; close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// What came of looking for a message.
#[derive(Debug)]
pub enum Arrival {
    /// A message.
    Packet(Packet),
    /// There is none now.
    Nothing,
    /// The other end is closed, or the channel is of no more use.
    Closed,
}

impl Channel {
    /// Two ends that are close-on-exec and never block.
    ///
    /// # Errors
    /// When the kernel gives no descriptors.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(one), Self(other)))
    }

    /// Sends a message, whole or not at all.
    ///
    /// # Errors
    /// `WouldBlock` while the other end has too many that it has not read.
    ///
    /// # Panics
    /// When it is longer, or has more descriptors, than is allowed.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        assert!(
            bytes.len() <= MESSAGE_BYTES_MAX && descriptors.len() <= MESSAGE_DESCRIPTORS_MAX,
            "messages are small"
        );
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(fits, "the space is for the most that is allowed");
        }
        let slices = [IoSlice::new(bytes)];
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = retry_on_intr(|| sendmsg(&self.0, &slices, &mut control, flags));
        match sent {
            Ok(_) => Ok(()),
            // Descriptors on their way are limited too; those will arrive.
            Err(Errno::TOOMANYREFS | Errno::NOBUFS) => Err(io::ErrorKind::WouldBlock.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Waits until there is a message, or the other end is closed.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        retry_on_intr(|| poll(&mut fds, None))?;
        Ok(())
    }

    /// Takes the next message.
    #[must_use]
    pub fn receive(&self) -> Arrival {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX + 1];
        let mut space = [MaybeUninit::uninit(); CONTROL_BYTES];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = retry_on_intr(|| {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            recvmsg(&self.0, &mut slices, &mut control, flags)
        });
        let received = match received {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Arrival::Nothing,
            Err(_) => return Arrival::Closed,
        };
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let is_torn = received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        // An empty packet is what the end looks like, so none is ever sent.
        if received.bytes == 0 || is_torn {
            return Arrival::Closed;
        }
        bytes.truncate(received.bytes);
        Arrival::Packet(Packet { bytes, descriptors })
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(arrival: Arrival) -> Packet {
        match arrival {
            Arrival::Packet(packet) => packet,
            other @ (Arrival::Nothing | Arrival::Closed) => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_arrive_whole_in_order_and_with_their_descriptors() {
        let (here, there) = Channel::pair().expect("a channel");
        let (read_end, write_end) = rustix::pipe::pipe().expect("a pipe");
        here.send(b"one", &[]).expect("room");
        here.send(b"two", &[write_end.as_fd()]).expect("room");
        assert_eq!(packet(there.receive()).bytes, b"one");
        let with = packet(there.receive());
        assert_eq!(
            (with.bytes.as_slice(), with.descriptors.len()),
            (&b"two"[..], 1)
        );
        rustix::io::write(&with.descriptors[0], b"x").expect("it is the pipe");
        let mut seen = [0];
        rustix::io::read(&read_end, &mut seen).expect("readable");
        assert_eq!(&seen, b"x");
        assert!(matches!(there.receive(), Arrival::Nothing));
        drop(here);
        assert!(matches!(there.receive(), Arrival::Closed));
    }

    #[test]
    fn the_most_that_is_allowed_arrives() {
        let (here, there) = Channel::pair().expect("a channel");
        let fds = [here.as_fd(); MESSAGE_DESCRIPTORS_MAX];
        here.send(&[7; MESSAGE_BYTES_MAX], &fds).expect("room");
        let got = packet(there.receive());
        assert_eq!(got.bytes, [7; MESSAGE_BYTES_MAX]);
        assert_eq!(got.descriptors.len(), MESSAGE_DESCRIPTORS_MAX);
    }

    #[test]
    fn a_reader_that_does_not_read_never_makes_the_writer_wait() {
        let (here, _there) = Channel::pair().expect("a channel");
        let error = (0..1_000_000).find_map(|_| here.send(&[1; 100], &[]).err());
        let error = error.expect("it fills up");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
