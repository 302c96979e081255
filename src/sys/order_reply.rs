//! Orders to a process that runs, and the way back: datagrams between Unix sockets without files
//! (unix(7), abstract). The one that takes orders is named after its process id; the kernel says
//! who has sent what, and keeps orders waiting, also while another program takes the process over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, getsockname,
    send, sendto, socket_with, sockopt,
};
use rustix::process::geteuid;

use super::child::Handle;
use super::datagram::{self, Datagram};

/// The longest order or reply, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 4096;
/// How long an order may wait until there is room for it.
const ROOM_MAX: Duration = Duration::from_secs(60);

/// Who has given an order, and is to have the reply: the name of its socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker(pub Vec<u8>);

/// Digits of a name that the kernel has chosen (unix(7), autobind).
const NAME_DIGITS: usize = 5;

impl Asker {
    /// The one with a name that the kernel has chosen; none where it is no such name: replies go
    /// to nobody else's sockets.
    #[must_use]
    pub fn chosen(name: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_chosen = name.len() == NAME_DIGITS && name.bytes().all(is_digit);
        is_chosen.then(|| Self(name.into()))
    }
}

/// An order that has arrived.
#[derive(Debug)]
pub struct Arrived {
    /// What it says.
    pub bytes: Vec<u8>,
    /// Who waits for the reply; none who has no name.
    pub asker: Option<Asker>,
    /// Whether who sent it may give orders here: root may, and our own user.
    pub is_permitted: bool,
}

/// Where orders to this process arrive.
#[derive(Debug)]
pub struct OrderSocket(OwnedFd);

impl OrderSocket {
    /// Takes orders to the process of that id from now on: our own.
    ///
    /// # Errors
    /// `AddrInUse` when another process has taken the name of ours.
    pub fn open(process: u32) -> io::Result<Self> {
        let socket = open(SocketFlags::NONBLOCK)?;
        bind(&socket, &address(process)?)?;
        Ok(Self(socket))
    }

    /// The next order, or none when none waits.
    #[must_use]
    pub fn take(&self) -> Option<Arrived> {
        let message = receive(&self.0).ok()?;
        let own = geteuid().as_raw();
        let may = |user: u32| user == 0 || user == own;
        Some(Arrived {
            bytes: message.bytes,
            asker: message.from.map(Asker),
            is_permitted: message.sender.is_some_and(|sender| may(sender.user)),
        })
    }

    /// Answers, if it is still waited for. Never blocks.
    ///
    /// # Errors
    /// When nobody waits.
    pub fn tell(&self, asker: &Asker, reply: &[u8]) -> io::Result<()> {
        let reply = &reply[..reply.len().min(MESSAGE_BYTES_MAX)];
        let to = SocketAddrUnix::new_abstract_name(&asker.0)?;
        sendto(
            &self.0,
            reply,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            &to,
        )?;
        Ok(())
    }
}

impl AsFd for OrderSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for OrderSocket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// What came of waiting for a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderReply {
    /// It came.
    Bytes(Vec<u8>),
    /// The process has ended, and replied nothing.
    Ended,
    /// Nothing came in time.
    Nothing,
}

/// One process, to be given an order, and its reply to be waited for.
#[derive(Debug)]
pub struct Awaiting {
    socket: OwnedFd,
    process: Handle,
    id: u32,
}

impl Awaiting {
    /// Finds it.
    ///
    /// # Errors
    /// `NotFound` when there is no such process, `ConnectionRefused` when it takes no orders.
    pub fn open(process: u32) -> io::Result<Self> {
        let handle = Handle::open(process)?;
        // It gets a name of its own from the kernel, and hears that process only.
        let socket = open(SocketFlags::empty())?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(ROOM_MAX))?;
        connect(&socket, &address(process)?)?;
        Ok(Self {
            socket,
            process: handle,
            id: process,
        })
    }

    /// The name at which the reply is awaited, for whoever gives the order another way; none where
    /// the kernel has chosen none.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let address = SocketAddrUnix::try_from(getsockname(&self.socket).ok()?).ok()?;
        let name = std::str::from_utf8(address.abstract_name()?).ok()?;
        Asker::chosen(name).map(|_| name.to_owned())
    }

    /// Gives it an order; waits while too many others wait there.
    ///
    /// # Errors
    /// When there is no room for long, or it has gone.
    pub fn ask(&self, order: &[u8]) -> io::Result<()> {
        retry_on_intr(|| send(&self.socket, order, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Waits for the reply, or for the end of the process.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait(&self, limit: Duration) -> io::Result<OrderReply> {
        let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        loop {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&self.process, PollFlags::IN),
            ];
            if retry_on_intr(|| poll(&mut fds, Some(&limit)))? == 0 {
                return Ok(OrderReply::Nothing);
            }
            if !fds[0].revents().is_empty()
                && let Ok(message) = receive(&self.socket)
                && message.sender.is_some_and(|it| it.process == self.id)
            {
                return Ok(OrderReply::Bytes(message.bytes));
            }
            if !fds[1].revents().is_empty() {
                return Ok(OrderReply::Ended);
            }
        }
    }

    /// Waits for the end of the process, for as long as it takes.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait_end(&self) -> io::Result<()> {
        self.process.wait_end(None).map(drop)
    }
}

fn receive(socket: &OwnedFd) -> io::Result<Datagram> {
    datagram::receive(socket.as_fd(), MESSAGE_BYTES_MAX)
}

/// A socket that hears who sends; without a name, it gets one when it connects.
fn open(flags: SocketFlags) -> io::Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_passcred(&socket, true)?;
    Ok(socket)
}

fn address(process: u32) -> io::Result<SocketAddrUnix> {
    let name = format!("weir-orders-{process}");
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_who_asks_gets_one_reply() {
        let own = std::process::id();
        let early = Awaiting::open(own).expect_err("it takes no orders yet");
        assert_eq!(early.kind(), io::ErrorKind::ConnectionRefused);
        let orders = OrderSocket::open(own).expect("the name is free");
        assert!(orders.take().is_none());
        let askers: Vec<_> = (0..3).map(|_| Awaiting::open(own).expect("ours")).collect();
        for (number, asker) in (0..).zip(&askers) {
            let nothing = asker.wait(Duration::ZERO).expect("a look");
            assert_eq!(nothing, OrderReply::Nothing);
            asker.ask(&[number]).expect("there is room");
        }
        for number in 0..3 {
            let order = orders.take().expect("it waits");
            assert_eq!(order.bytes, [number]);
            assert!(order.is_permitted);
            let asker = order.asker.expect("it has a name");
            orders.tell(&asker, &[number]).expect("it is awaited");
        }
        for (number, asker) in (0..).zip(askers) {
            let reply = asker.wait(Duration::from_secs(30)).expect("a wait");
            assert_eq!(reply, OrderReply::Bytes(vec![number]));
        }
        // The order may come another way.
        let asker = Awaiting::open(own).expect("ours");
        let named = Asker::chosen(&asker.name().expect("a name")).expect("the kernel's");
        orders.tell(&named, b"done").expect("it is awaited");
        let reply = asker.wait(Duration::from_secs(30)).expect("a wait");
        assert_eq!(reply, OrderReply::Bytes(b"done".to_vec()));
        for name in ["", "0000", "000000", "0000g", "0000A", "weir-orders-1"] {
            assert_eq!(Asker::chosen(name), None, "{name}");
        }
        let taken = OrderSocket::open(own).expect_err("one for a process");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_process_that_is_not_there_is_not_waited_for() {
        let error = Awaiting::open(u32::MAX).expect_err("no such process");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
