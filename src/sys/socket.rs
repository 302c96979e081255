//! Opening sockets with the options weir wants, and asking them what they know.
//!
//! Everything here is non-blocking and close-on-exec. Options that accepted connections inherit
//! are set on the listening socket, once, instead of on each connection.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, connect_unspec,
    getpeername, getsockname, socket_with, sockopt,
};
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::core::address::Address;
use crate::core::keepalive::Keepalive;

/// A listening socket.
#[derive(Debug)]
pub struct ListenerSocket {
    fd: OwnedFd,
    file: Option<SocketFile>,
    /// Someone else keeps it open and serves who connects after us.
    is_lent: bool,
}

/// The file of a Unix socket, with what tells it from one that came later under the same name.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl ListenerSocket {
    /// Takes over a socket that listens there from the program that ran in this process before,
    /// with the file if it is a Unix socket.
    #[must_use]
    pub fn inherited(fd: OwnedFd, address: &Address) -> Self {
        let file = match address {
            Address::Ip(_) => None,
            Address::Unix(path) => SocketFile::at(path).ok(),
        };
        Self {
            fd,
            file,
            is_lent: false,
        }
    }

    /// Takes a socket that someone else has opened, and keeps open for whoever serves after us.
    #[must_use]
    pub fn lent(fd: OwnedFd) -> Self {
        Self {
            fd,
            file: None,
            is_lent: true,
        }
    }

    /// Lets nobody new into the accept queue, through whichever copy of the socket, while
    /// handshakes that have begun still end there: what comes next is to take what is queued, and
    /// to close. Does nothing to a socket that is [`ListenerSocket::lent`].
    ///
    /// TCP: who connects now is refused, as the socket is bound to an interface that there is not
    /// (`SO_BINDTOIFINDEX`, Linux 5.1), so that it is found for no new connection, unless other
    /// sockets share its port (`SO_REUSEPORT`) of which some admit. Unix: the file is removed, if
    /// that is still its own; without one it is for whoever has it.
    pub(crate) fn admit_no_more(&mut self) {
        if let Some(file) = self.file.take() {
            file.remove();
        }
        if !self.is_lent && self.local_address().is_some() {
            // Where it cannot be, who connects in the last moment is reset. It is the same option
            // for IPv6.
            let _ = SockRef::from(&self.fd).bind_device_by_index_v4(Some(NO_INTERFACE));
        }
    }

    /// The address it is bound to, with the port that the kernel chose; none on Unix sockets.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        local_address(&self.fd)
    }

    /// Closes it and removes the file of a Unix socket, if that is still its own.
    ///
    /// Dropping it instead leaves the file where it is, for whoever else holds the socket.
    pub fn close(self) {
        if let Some(file) = self.file {
            file.remove();
        }
    }
}

impl AsFd for ListenerSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for ListenerSocket {
    /// Takes a socket that already listens, and whose file (if any) belongs to someone else.
    fn from(fd: OwnedFd) -> Self {
        Self {
            fd,
            file: None,
            is_lent: false,
        }
    }
}

/// An interface that no host has: the kernel counts them up from 1.
const NO_INTERFACE: NonZeroU32 = NonZeroU32::new(i32::MAX.cast_unsigned()).expect("not zero");

/// Opens a listening socket.
///
/// TCP: `SO_REUSEADDR` and `SO_REUSEPORT`, so that several processes of one user may share the
/// port; `[::]` takes IPv4 clients too, and becomes `0.0.0.0` on a host without IPv6. Accepted
/// connections inherit `TCP_NODELAY` and keepalive.
///
/// Unix: a socket file that nobody listens on is replaced, a live one is not.
///
/// # Errors
/// What socket(2), bind(2) and listen(2) report; `AddrInUse` for a live Unix socket and
/// `AlreadyExists` for a file that is no socket.
pub fn listen(
    address: &Address,
    backlog: i32,
    keepalive: Option<&Keepalive>,
) -> io::Result<ListenerSocket> {
    match address {
        Address::Ip(ip) => listen_tcp(*ip, backlog, keepalive),
        Address::Unix(path) => listen_unix(path, backlog),
    }
}

/// Takes over a socket that listens already, opened by someone else: makes it non-blocking and
/// sets what accepted connections inherit. Its accept queue stays as long as it is.
///
/// # Errors
/// When it is no socket.
pub fn adopt(fd: OwnedFd, keepalive: Option<&Keepalive>) -> io::Result<ListenerSocket> {
    let socket = SockRef::from(&fd);
    socket.set_nonblocking(true)?;
    if local_address(&fd).is_some() {
        socket.set_tcp_nodelay(true)?;
        if let Some(keepalive) = keepalive {
            socket.set_tcp_keepalive(&kernel_keepalive(keepalive))?;
        }
    }
    Ok(ListenerSocket::lent(fd))
}

fn listen_tcp(
    address: SocketAddr,
    backlog: i32,
    keepalive: Option<&Keepalive>,
) -> io::Result<ListenerSocket> {
    let socket = match bind_tcp(address) {
        Err(error) if is_without_ipv6(address, &error) => {
            bind_tcp((Ipv4Addr::UNSPECIFIED, address.port()).into())?
        }
        bound => bound?,
    };
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = keepalive {
        socket.set_tcp_keepalive(&kernel_keepalive(keepalive))?;
    }
    socket.listen(backlog)?;
    Ok(ListenerSocket::from(OwnedFd::from(socket)))
}

/// Whether somebody listens there already, with whom a socket of ours would share what comes
/// (`SO_REUSEPORT`).
#[must_use]
pub fn is_taken(address: SocketAddr) -> bool {
    let bound = bind_tcp_as(address, false);
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn bind_tcp(address: SocketAddr) -> io::Result<Socket> {
    bind_tcp_as(address, true)
}

fn bind_tcp_as(address: SocketAddr, shares_port: bool) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_port)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Whether binding to `[::]` failed because there is no IPv6: none in the kernel, or turned off.
fn is_without_ipv6(address: SocketAddr, error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    address.is_ipv6()
        && address.ip().is_unspecified()
        && matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn listen_unix(path: &Path, backlog: i32) -> io::Result<ListenerSocket> {
    remove_stale(path)?;
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile::at(path)?;
    socket.listen(backlog)?;
    Ok(ListenerSocket {
        fd: socket.into(),
        file: Some(file),
        is_lent: false,
    })
}

/// Makes way for a new socket file. Only a connection attempt tells a socket that someone listens
/// on from what a killed process left behind.
fn remove_stale(path: &Path) -> io::Result<()> {
    let file_type = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !file_type.is_socket() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match connect_unix(path) {
        Err(Errno::CONNREFUSED) => fs::remove_file(path),
        Err(Errno::NOENT) => Ok(()),
        // Connected, or its queue is full, or it is not ours to try: somebody's live socket.
        Ok(_) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl SocketFile {
    fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }

    fn remove(&self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // A file that cannot be removed is found stale by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Starts a connection; it may still be under way when this returns.
pub(crate) fn connect(to: &Address) -> rustix::io::Result<OwnedFd> {
    match to {
        Address::Ip(ip) => connect_tcp(*ip),
        Address::Unix(path) => connect_unix(path),
    }
}

fn connect_tcp(to: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let fd = tcp_socket(to)?;
    start_connecting(&fd, to)?;
    Ok(fd)
}

/// Starts a connection that is closed as soon as it is established. A TCP server does not get to
/// accept it: the last ACK of the handshake is delayed (`TCP_QUICKACK` off, tcp(7)), by 200 ms at
/// most, and the close is a reset, which overtakes it and takes the half-open connection from the
/// server's queue. That holds however it is closed, be it by the end of the process.
pub(crate) fn probe(to: &Address) -> rustix::io::Result<OwnedFd> {
    let Address::Ip(ip) = to else {
        return connect(to);
    };
    let fd = tcp_socket(*ip)?;
    // Where it is refused the server accepts a connection that is reset.
    let _ = sockopt::set_tcp_quickack(&fd, false);
    set_reset_on_close(&fd);
    start_connecting(&fd, *ip)?;
    Ok(fd)
}

fn tcp_socket(to: SocketAddr) -> rustix::io::Result<OwnedFd> {
    stream_socket(match to {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    })
}

fn start_connecting(fd: impl AsFd, to: SocketAddr) -> rustix::io::Result<()> {
    match rustix::net::connect(fd, &to) {
        // An interrupted connect goes on in the background like any other.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Starts a connection with a TCP socket that had one before: connect(2) with `AF_UNSPEC`
/// dissolves the old one.
pub(crate) fn connect_again(fd: impl AsFd, to: SocketAddr) -> rustix::io::Result<()> {
    connect_unspec(&fd)?;
    start_connecting(fd, to)
}

/// Turns Nagle's algorithm off. A kernel that refuses only makes small writes slower.
pub(crate) fn set_nodelay(fd: impl AsFd) {
    let _ = sockopt::set_tcp_nodelay(fd, true);
}

fn connect_unix(path: &Path) -> rustix::io::Result<OwnedFd> {
    let fd = stream_socket(AddressFamily::UNIX)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(fd)
}

fn stream_socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(family, SocketType::STREAM, flags, None)
}

/// Whether a connection that was started is established: an error tells why not, `NOTCONN` that
/// it is still under way. The kernel tells a failure once.
pub(crate) fn connected(fd: impl AsFd) -> rustix::io::Result<()> {
    sockopt::socket_error(&fd)??;
    getpeername(&fd).map(drop)
}

/// Whether nothing of a TCP connection hangs on its socket any more: there was none, it failed, or
/// both ends have come and this one's was acknowledged.
pub(crate) fn is_unconnected(fd: impl AsFd) -> bool {
    getpeername(fd) == Err(Errno::NOTCONN)
}

/// Makes the coming close a reset (`SO_LINGER` of zero, socket(7)). A Unix socket knows no reset;
/// its peer sees one only when unread bytes are thrown away.
pub(crate) fn set_reset_on_close(fd: impl AsFd) {
    // It can only fail on what is no socket.
    let _ = sockopt::set_socket_linger(&fd, Some(Duration::ZERO));
}

/// Turns keepalive on. A connection without it is no worse than before, so nothing is reported.
pub(crate) fn set_keepalive(fd: impl AsFd, keepalive: &Keepalive) {
    let _ = SockRef::from(&fd).set_tcp_keepalive(&kernel_keepalive(keepalive));
}

fn kernel_keepalive(keepalive: &Keepalive) -> TcpKeepalive {
    TcpKeepalive::new()
        .with_time(keepalive.idle)
        .with_interval(keepalive.interval)
        .with_retries(keepalive.probes)
}

/// The address this end of a socket is bound to; none on Unix sockets.
pub(crate) fn local_address(fd: impl AsFd) -> Option<SocketAddr> {
    getsockname(fd).ok().and_then(canonical)
}

/// The file of a Unix socket; none of others, nor of one without a file.
pub fn unix_path(fd: impl AsFd) -> Option<PathBuf> {
    let address = SocketAddrUnix::try_from(getsockname(fd).ok()?).ok()?;
    let bytes = address.path_bytes().filter(|path| !path.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(bytes)))
}

/// An IP address as it is meant: IPv4 clients of an IPv6 socket are IPv4 clients.
pub(crate) fn canonical(address: SocketAddrAny) -> Option<SocketAddr> {
    let ip = SocketAddr::try_from(address).ok()?;
    match ip.ip().to_canonical() {
        as_meant if as_meant == ip.ip() => Some(ip),
        mapped => Some(SocketAddr::new(mapped, ip.port())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};

    const KEEPALIVE: Keepalive = Keepalive {
        idle: Duration::from_secs(77),
        interval: Duration::from_secs(11),
        probes: 5,
    };

    fn loopback() -> Address {
        Address::Ip((Ipv4Addr::LOCALHOST, 0).into())
    }

    fn scratch_path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("weir-socket-{}-{name}", std::process::id()))
    }

    #[test]
    fn an_accepted_connection_inherits_the_options_of_its_listener() {
        let listener = listen(&loopback(), 16, Some(&KEEPALIVE)).expect("listening");
        let address = listener.local_address().expect("an IP address");
        let _client = TcpStream::connect(address).expect("connected");
        let accepted = rustix::net::accept(&listener).expect("accepted");
        assert!(sockopt::tcp_nodelay(&accepted).expect("option"));
        assert!(sockopt::socket_keepalive(&accepted).expect("option"));
        assert_eq!(sockopt::tcp_keepidle(&accepted), Ok(KEEPALIVE.idle));
        assert_eq!(sockopt::tcp_keepintvl(&accepted), Ok(KEEPALIVE.interval));
        assert_eq!(sockopt::tcp_keepcnt(&accepted), Ok(KEEPALIVE.probes));
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let address = listener.local_addr().expect("bound");
        let ours = TcpStream::connect(address).expect("connected");
        (ours, listener.accept().expect("accepted").0)
    }

    #[test]
    fn a_socket_is_unconnected_when_both_ends_have_come() {
        let (mut ours, theirs) = pair();
        assert!(!is_unconnected(&ours));
        ours.shutdown(std::net::Shutdown::Write).expect("shut down");
        assert!(!is_unconnected(&ours));
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).expect("the end"), 0);
        assert!(is_unconnected(&ours));
    }

    #[test]
    fn a_socket_whose_own_end_is_missing_is_connected() {
        let (mut ours, theirs) = pair();
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).expect("the end"), 0);
        assert!(!is_unconnected(&ours));
    }

    #[test]
    fn two_listeners_share_a_port() {
        let first = listen(&loopback(), 16, None).expect("listening");
        let address = first.local_address().expect("an IP address");
        listen(&Address::Ip(address), 16, None).expect("listening on the same port");
    }

    #[test]
    fn a_port_of_a_listener_that_does_not_share_is_refused() {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let address = other.local_addr().expect("bound");
        let error = listen(&Address::Ip(address), 16, None).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_ipv6_wildcard_takes_ipv4_clients_under_their_own_address() {
        let wildcard = Address::Ip("[::]:0".parse().expect("an address"));
        let listener = listen(&wildcard, 16, None).expect("listening");
        let port = listener.local_address().expect("an IP address").port();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("connected");
        let (_, from) = rustix::net::acceptfrom(&listener).expect("accepted");
        assert_eq!(from.and_then(canonical), client.local_addr().ok());
    }

    #[test]
    fn who_comes_too_late_is_kept_out_of_every_copy_and_who_was_there_is_served() {
        keeps_out(&loopback());
        if TcpListener::bind("[::1]:0").is_ok() {
            keeps_out(&Address::Ip("[::1]:0".parse().expect("an address")));
        }
    }

    fn keeps_out(at: &Address) {
        let mut listener = listen(at, 16, None).expect("listening");
        let address = listener.local_address().expect("an IP address");
        let copy = listener.as_fd().try_clone_to_owned().expect("a copy");
        let mut early = TcpStream::connect(address).expect("connected");
        listener.admit_no_more();
        let late = TcpStream::connect(address).expect_err("too late");
        assert_eq!(late.kind(), io::ErrorKind::ConnectionRefused);
        let accepted = TcpStream::from(rustix::net::accept(&copy).expect("queued"));
        assert_eq!(
            rustix::net::accept(&copy).map(drop),
            Err(Errno::WOULDBLOCK),
            "only who was there"
        );
        io::Write::write_all(&mut &accepted, b"x").expect("written");
        io::Read::read_exact(&mut early, &mut [0]).expect("read");
        drop(accepted);
        assert_eq!(io::Read::read(&mut early, &mut [0]).ok(), Some(0));
    }

    #[test]
    fn a_socket_of_someone_else_goes_on_to_take_connections() {
        let opened = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let address = opened.local_addr().expect("bound");
        let copy = opened.try_clone().expect("a copy");
        let mut listener = adopt(copy.into(), None).expect("adopted");
        listener.admit_no_more();
        listener.close();
        let _client = TcpStream::connect(address).expect("connected");
    }

    #[test]
    fn a_unix_socket_that_admits_no_more_has_no_file_and_keeps_its_queue() {
        let path = scratch_path("no-more");
        let mut listener = listen(&Address::Unix(path.clone()), 16, None).expect("listening");
        let _early = UnixStream::connect(&path).expect("connected");
        listener.admit_no_more();
        assert!(!path.exists());
        rustix::net::accept(&listener).expect("queued");
        listener.close();
    }

    #[test]
    fn a_live_unix_socket_is_not_stolen() {
        let path = scratch_path("live");
        let other = UnixListener::bind(&path).expect("bound");
        let error = listen(&Address::Unix(path.clone()), 16, None).expect_err("taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(other);
        fs::remove_file(&path).expect("still there");
    }

    #[test]
    fn a_stale_unix_socket_is_replaced_and_removed_at_the_end() {
        let path = scratch_path("stale");
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(path.exists(), "a closed socket leaves its file");
        let listener = listen(&Address::Unix(path.clone()), 16, None).expect("listening");
        UnixStream::connect(&path).expect("connected");
        listener.close();
        assert!(!path.exists());
    }

    #[test]
    fn a_unix_socket_of_a_successor_is_left_alone() {
        let path = scratch_path("successor");
        let old = listen(&Address::Unix(path.clone()), 16, None).expect("listening");
        // The new file is made before the old one goes, so that it is surely another one.
        let fresh = scratch_path("successor-fresh");
        let successor = UnixListener::bind(&fresh).expect("bound");
        fs::rename(&fresh, &path).expect("renamed");
        old.close();
        UnixStream::connect(&path).expect("the successor's");
        drop(successor);
        fs::remove_file(&path).expect("still there");
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_replaced() {
        let path = scratch_path("file");
        fs::write(&path, "precious").expect("written");
        let error = listen(&Address::Unix(path.clone()), 16, None).expect_err("no socket");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&path).expect("still there");
    }
}
