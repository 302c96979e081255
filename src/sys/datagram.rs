//! Datagrams of Unix sockets with what the kernel says of their sender (`SCM_CREDENTIALS`,
//! unix(7)).
//!
//! `unsafe` is needed because the crates weir uses take the process id of a sender for one that is
//! never zero; it is zero for a sender in a process id namespace that is not seen from here
//! (`pid_namespaces(7)`).

#![allow(
    unsafe_code,
    reason = "credentials with a process id of zero are only reachable through libc"
)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// The longest address of a Unix socket.
#[allow(clippy::cast_possible_truncation, reason = "110 bytes")]
const NAME_BYTES: libc::socklen_t = size_of::<libc::sockaddr_un>() as libc::socklen_t;

/// A datagram that has arrived.
#[derive(Debug)]
pub(super) struct Datagram {
    /// What it says; nothing when it was longer than allowed.
    pub(super) bytes: Vec<u8>,
    /// The abstract name of the socket it came from.
    pub(super) from: Option<Vec<u8>>,
    pub(super) sender: Option<Sender>,
}

/// Who has sent it. The kernel vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sender {
    /// Its process id; 0 when it has none here.
    pub(super) process: u32,
    pub(super) user: u32,
}

/// Room for one record of credentials and no more (cmsg(3)): descriptors that a sender adds find
/// none, and the kernel closes them.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    credentials: libc::ucred,
}

/// The next datagram, of `bytes_max` at most. Does not wait for one. The socket must have
/// `SO_PASSCRED` set.
///
/// # Errors
/// `WouldBlock` when there is none.
pub(super) fn receive(socket: BorrowedFd<'_>, bytes_max: usize) -> io::Result<Datagram> {
    let mut bytes = vec![0; bytes_max];
    // SAFETY: zero is a value of all their fields.
    let (mut control, mut from, mut header): (Control, libc::sockaddr_un, libc::msghdr) =
        unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    header.msg_name = (&raw mut from).cast();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let count = loop {
        header.msg_namelen = NAME_BYTES;
        header.msg_controllen = size_of::<Control>() as _;
        // SAFETY: what `header` points to lives through the call and has the sizes that are said.
        let count = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) };
        if let Ok(count) = usize::try_from(count) {
            break count;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    };
    let is_whole = header.msg_flags & libc::MSG_TRUNC == 0;
    bytes.truncate(if is_whole { count } else { 0 });
    Ok(Datagram {
        bytes,
        from: abstract_name(&from, header.msg_namelen),
        sender: control.sender(),
    })
}

/// The name in an address of that many bytes, if it is an abstract one (unix(7)): all after a
/// leading zero.
fn abstract_name(address: &libc::sockaddr_un, length: libc::socklen_t) -> Option<Vec<u8>> {
    let end = usize::try_from(length).ok()?;
    let path = end.checked_sub(mem::offset_of!(libc::sockaddr_un, sun_path))?;
    match address.sun_path.get(..path)? {
        [0, name @ ..] if !name.is_empty() => {
            Some(name.iter().map(|&c| c.to_ne_bytes()[0]).collect())
        }
        _ => None,
    }
}

impl Control {
    /// Whom it names, if the kernel has written credentials into it.
    fn sender(&self) -> Option<Sender> {
        let is_it = self.header.cmsg_level == libc::SOL_SOCKET
            && self.header.cmsg_type == libc::SCM_CREDENTIALS;
        is_it.then_some(Sender {
            process: self.credentials.pid.cast_unsigned(),
            user: self.credentials.uid,
        })
    }
}
