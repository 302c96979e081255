//! Where a listener binds and where a backend is found.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// An address that can be connected to or bound without asking a name service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where a backend is, as the configuration says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BackendAddress {
    /// Known as it stands.
    Fixed(Address),
    /// A host name to resolve, and a port.
    Name {
        /// The host name, as written.
        host: String,
        /// The TCP port.
        port: u16,
    },
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// A backend's name that has no address yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UnresolvedName {
    /// The host name.
    pub host: String,
    /// The port that goes with it.
    pub port: u16,
}

impl UnresolvedName {
    /// The name of such a backend; none when it has a fixed address.
    #[must_use]
    pub fn of(address: &BackendAddress) -> Option<Self> {
        match address {
            BackendAddress::Name { host, port } => Some(Self {
                host: host.clone(),
                port: *port,
            }),
            BackendAddress::Fixed(_) => None,
        }
    }
}
