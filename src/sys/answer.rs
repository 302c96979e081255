//! The way back from a process to whoever has sent it a signal: a socket without a file, named
//! after the sender's process id (unix(7), abstract). Both sides ask the kernel who the other is.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, connect, listen, recv, send, socket_with, sockopt,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The longest answer, in bytes.
const ANSWER_BYTES_MAX: usize = 4096;

/// Sends an answer to a process that waits for one.
///
/// # Errors
/// When it does not wait, or somebody else pretends to be it.
pub fn tell(process: u32, answer: &[u8]) -> io::Result<()> {
    let socket = open()?;
    connect(&socket, &address(process)?)?;
    if !is_peer(&socket, process) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let answer = &answer[..answer.len().min(ANSWER_BYTES_MAX)];
    send(&socket, answer, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// What came of waiting for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It came.
    Bytes(Vec<u8>),
    /// The process has ended, and answered nothing.
    Ended,
    /// Nothing came in time.
    Nothing,
}

/// Waits for the answer of one process.
#[derive(Debug)]
pub struct Awaiting {
    socket: OwnedFd,
    process: OwnedFd,
    id: u32,
}

impl Awaiting {
    /// To be called before the process is asked.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn open(process: u32) -> io::Result<Self> {
        let id = i32::try_from(process).ok().and_then(Pid::from_raw);
        let id = id.ok_or(io::ErrorKind::NotFound)?;
        let handle = pidfd_open(id, PidfdFlags::empty()).map_err(|errno| match errno {
            Errno::SRCH => io::ErrorKind::NotFound.into(),
            other => io::Error::from(other),
        })?;
        let socket = open()?;
        bind(&socket, &address(std::process::id())?)?;
        listen(&socket, 8)?;
        Ok(Self {
            socket,
            process: handle,
            id: process,
        })
    }

    /// Waits for the answer, or for the end of the process.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait(&self, limit: Duration) -> io::Result<Answer> {
        loop {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&self.process, PollFlags::IN),
            ];
            let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
            if retry_on_intr(|| poll(&mut fds, Some(&limit)))? == 0 {
                return Ok(Answer::Nothing);
            }
            if !fds[0].revents().is_empty()
                && let Some(bytes) = self.take()
            {
                return Ok(Answer::Bytes(bytes));
            }
            if !fds[1].revents().is_empty() {
                return Ok(Answer::Ended);
            }
        }
    }

    /// Waits for the end of the process; whether it came.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait_end(&self, limit: Duration) -> io::Result<bool> {
        let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = [PollFd::new(&self.process, PollFlags::IN)];
        Ok(retry_on_intr(|| poll(&mut fds, Some(&limit)))? > 0)
    }

    fn take(&self) -> Option<Vec<u8>> {
        let peer = accept_with(&self.socket, SocketFlags::CLOEXEC).ok()?;
        if !is_peer(&peer, self.id) {
            return None;
        }
        let mut bytes = vec![0; ANSWER_BYTES_MAX];
        let received = retry_on_intr(|| recv(&peer, &mut bytes[..], RecvFlags::empty()));
        let (count, _) = received.ok()?;
        bytes.truncate(count);
        (count > 0).then_some(bytes)
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        flags,
        None,
    )?)
}

fn address(process: u32) -> io::Result<SocketAddrUnix> {
    let name = format!("weir-answer-{process}");
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

fn is_peer(socket: &OwnedFd, process: u32) -> bool {
    let peer = sockopt::socket_peercred(socket);
    peer.is_ok_and(|peer| peer.pid.as_raw_nonzero().get().cast_unsigned() == process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives_and_who_does_not_wait_gets_none() {
        let own = std::process::id();
        assert!(tell(own, b"early").is_err());
        let awaiting = Awaiting::open(own).expect("we run");
        let nothing = awaiting.wait(Duration::ZERO).expect("a look");
        assert_eq!(nothing, Answer::Nothing);
        tell(own, b"done").expect("it is awaited");
        let answer = awaiting.wait(Duration::from_secs(30)).expect("a wait");
        assert_eq!(answer, Answer::Bytes(b"done".to_vec()));
        assert!(!awaiting.wait_end(Duration::ZERO).expect("a look"));
        let taken = Awaiting::open(own).expect_err("one at a time");
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_process_that_is_not_there_is_not_waited_for() {
        let error = Awaiting::open(u32::MAX).expect_err("no such process");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
