//! What the kernel says of the state of a TCP connection.

#![allow(
    unsafe_code,
    reason = "the state alone is asked for, one byte of a long answer"
)]

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd};

/// Where the kernel's enumeration has CLOSE (tcp_states.h); `libc` has no name for it.
const TCP_CLOSE: u8 = 7;

/// Whether nothing of a connection hangs on the socket any more: no connection was made yet, it was
/// reset, or both ends have come and ours was acknowledged (tcp(7), `TCP_INFO`).
pub(crate) fn is_closed(socket: impl AsFd) -> bool {
    // The state is the first byte of `struct tcp_info`; the kernel writes as many as are asked for.
    let mut state = 0_u8;
    let mut len: libc::socklen_t = 1;
    // SAFETY: both pointers are to live local variables, and `len` is the size of the first.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast::<c_void>(),
            &raw mut len,
        )
    };
    result == 0 && len == 1 && state == TCP_CLOSE
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let ours = TcpStream::connect(address).expect("connected");
        (ours, listener.accept().expect("accepted").0)
    }

    #[test]
    fn a_connection_is_closed_when_both_ends_have_come() {
        let (mut ours, theirs) = pair();
        assert!(!is_closed(&ours));
        ours.shutdown(Shutdown::Write).expect("shut down");
        assert!(!is_closed(&ours));
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).expect("the end"), 0);
        assert!(is_closed(&ours));
    }

    #[test]
    fn a_connection_whose_own_end_is_missing_is_open() {
        let (mut ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).expect("the end"), 0);
        assert!(!is_closed(&ours));
    }

    #[test]
    fn what_is_no_tcp_is_never_closed() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        assert!(!is_closed(&one));
    }
}
