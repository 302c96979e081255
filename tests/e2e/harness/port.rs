//! Ports that no other test can take: refused, listening, or swallowing connections.
//!
//! A port found by binding to 0 and closing again may be given to the next test that asks. Here
//! a bound socket that never listens keeps it for as long as the test wants.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::peer::uninterrupted;
use super::{PATIENCE, Peer};

const BACKLOG: i32 = 1024;

/// A port of this test alone. Nothing listens on it, so connections are refused.
#[derive(Debug)]
pub(crate) struct Port {
    /// Never listens.
    _holder: Socket,
    address: SocketAddr,
}

impl Port {
    /// A free port of 127.0.0.1.
    pub(crate) fn reserve() -> Self {
        Self::reserve_on(Ipv4Addr::LOCALHOST.into()).expect("loopback has free ports")
    }

    pub(crate) fn reserve_on(ip: IpAddr) -> io::Result<Self> {
        let holder = reusable(SocketAddr::new(ip, 0))?;
        let address = holder
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::Other)?;
        Ok(Self {
            _holder: holder,
            address,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on it until the result is dropped or shut.
    pub(crate) fn listen(&self) -> Gate {
        Gate {
            socket: self.listen_with(BACKLOG),
            path: None,
        }
    }

    fn listen_with(&self, backlog: i32) -> Socket {
        let socket = reusable(self.address).expect("the port is ours");
        socket.listen(backlog).expect("nobody else listens on it");
        socket
    }
}

/// A socket bound with SO_REUSEADDR, which lets a second one listen on the same port as long as
/// only one of them does.
fn reusable(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A listening socket whose connections the test takes one by one.
#[derive(Debug)]
pub(crate) struct Gate {
    socket: Socket,
    path: Option<PathBuf>,
}

impl Gate {
    /// On a free port of 127.0.0.1.
    pub(crate) fn new() -> Self {
        let socket = reusable((Ipv4Addr::LOCALHOST, 0).into()).expect("loopback has free ports");
        socket.listen(BACKLOG).expect("a fresh port can listen");
        Self { socket, path: None }
    }

    /// On a Unix socket.
    pub(crate) fn unix(path: &Path) -> Self {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a Unix socket");
        let address = SockAddr::unix(path).expect("the path is short enough");
        socket.bind(&address).expect("the path is free");
        // Connecting is writing, and a weir that root starts is not root for long.
        let everyone = fs::Permissions::from_mode(0o777);
        fs::set_permissions(path, everyone).expect("it is ours");
        socket.listen(BACKLOG).expect("a fresh socket can listen");
        Self {
            socket,
            path: Some(path.to_owned()),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        let local = self.socket.local_addr().expect("it is bound");
        local.as_socket().expect("it is an IP socket")
    }

    /// As a configuration file names it.
    pub(crate) fn name(&self) -> String {
        match &self.path {
            Some(path) => format!("unix:{}", path.display()),
            None => self.address().to_string(),
        }
    }

    /// The next connection, within [`PATIENCE`].
    pub(crate) fn accept(&self) -> Peer {
        self.accept_within(PATIENCE).expect("a connection arrives")
    }

    /// The next connection, or `WouldBlock` when none came.
    pub(crate) fn accept_within(&self, patience: Duration) -> io::Result<Peer> {
        // accept(2) heeds SO_RCVTIMEO on Linux, socket(7).
        self.socket.set_read_timeout(Some(patience))?;
        let (socket, _) = uninterrupted(|| self.socket.accept())?;
        Ok(Peer::new(socket))
    }

    /// The next connection, or the error once [`Gate::shut`] was called.
    pub(crate) fn accept_until_shut(&self) -> io::Result<Peer> {
        let (socket, _) = uninterrupted(|| self.socket.accept())?;
        Ok(Peer::new(socket))
    }

    /// Refuses everything from now on, and resets what waits in the queue.
    pub(crate) fn shut(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// A port whose accept queue is full, so that the kernel drops every further SYN without a word:
/// to whoever connects it looks like a host that has gone.
#[derive(Debug)]
pub(crate) struct Blackhole {
    port: Port,
    _listening: Socket,
    _filling: Vec<Socket>,
}

impl Blackhole {
    pub(crate) fn new() -> Self {
        let port = Port::reserve();
        let listening = port.listen_with(0);
        let filling = fill_queue(port.address());
        Self {
            port,
            _listening: listening,
            _filling: filling,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

/// Connects until a connection is no longer answered.
fn fill_queue(address: SocketAddr) -> Vec<Socket> {
    let mut filling = Vec::new();
    for _ in 0..16 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let answered = socket.connect_timeout(&address.into(), Duration::from_millis(200));
        filling.push(socket);
        if answered.is_err() {
            return filling;
        }
    }
    panic!("the accept queue of {address} does not fill up");
}

/// Whether anything on this host listens on that TCP port. Unlike connecting, asking the kernel
/// leaves no connection behind that somebody would have to serve.
pub(crate) fn listens(port: u16) -> bool {
    !ss(&["-Htln"], port).is_empty()
}

/// What ss(8) tells of TCP sockets that have that port.
pub(crate) fn ss(arguments: &[&str], port: u16) -> String {
    let mut ss = Command::new("ss");
    let output = ss.args(arguments).arg(format!("sport = :{port}")).output();
    let output = output.expect("`ss` is there, of iproute2");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn only_a_listening_port_listens() {
    let port = Port::reserve();
    assert!(!listens(port.address().port()));
    let gate = port.listen();
    assert!(listens(port.address().port()));
    gate.shut();
    assert!(!listens(port.address().port()));
}
