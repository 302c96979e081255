//! What a connection to a backend begins with, before all that its session has to say and beneath
//! any layer: a PROXY header that names the client.
//!
//! It nearly always leaves with the first write. So those that have not left stand apart, and a
//! connection has no room for one.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice};
use std::net::SocketAddr;

use crate::config::model::ProxyVersion;
use crate::core::client_hello::ClientHello;
use crate::core::proxy_header::{self, ClientCertificate, Origin, Ssl, TlsFacts};
use crate::core::readiness::Io;
use crate::net::{Net, Then};
use crate::tls::x509::common_name;
use crate::worker::keys::ConnectionKey;
use crate::worker::transport::Endpoint;

/// Those that have not left, or not as a whole. Each belongs to a connection that is there.
#[derive(Default)]
pub(crate) struct Prefaces(BTreeMap<ConnectionKey, Vec<u8>>);

impl Prefaces {
    /// Whether none is left of any connection.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something is left of that of a connection.
    pub(crate) fn has(&self, key: ConnectionKey) -> bool {
        self.0.contains_key(&key)
    }

    /// A connection that stands begins with this.
    #[cold]
    pub(crate) fn put(
        &mut self,
        key: ConnectionKey,
        version: ProxyVersion,
        origin: Origin,
        tls: TlsFacts<'_>,
    ) {
        let mut header = Vec::new();
        proxy_header::write(version, origin, tls, &mut header);
        self.0.insert(key, header);
    }

    /// A connection is there no more.
    pub(crate) fn forget(&mut self, key: ConnectionKey) {
        if !self.is_empty() {
            self.0.remove(&key);
        }
    }

    /// Writes what is left of the preface of a connection, and `more` right behind it where no
    /// layer makes something else of that. How many bytes of `more` were taken.
    pub(crate) fn write<N: Net>(
        &mut self,
        key: ConnectionKey,
        endpoint: &mut Endpoint<N>,
        net: &mut N,
        more: &[u8],
    ) -> Result<usize, ErrorKind> {
        loop {
            let preface = self.0.get(&key).map_or(&[][..], |it| it);
            let behind = match preface.is_empty() || endpoint.can_splice() {
                true => more,
                false => &[],
            };
            if !endpoint.may_write() || preface.len() + behind.len() == 0 {
                return Ok(0);
            }
            let found = match preface.is_empty() {
                true => endpoint.write(net, &[IoSlice::new(behind)], Then::More),
                false => endpoint.write_beneath(net, [preface, behind]),
            };
            let count = match found {
                Io::Ready(count) => count,
                Io::Blocked => return Ok(0),
                Io::Closed => return Err(ErrorKind::BrokenPipe),
                Io::Failed(kind) => return Err(kind),
            };
            let of_more = self.on_taken(key, count);
            if of_more > 0 || more.is_empty() && !self.has(key) {
                return Ok(of_more);
            }
        }
    }

    /// So many bytes have left; how many of them were of what follows.
    fn on_taken(&mut self, key: ConnectionKey, count: usize) -> usize {
        let Some(preface) = self.0.get_mut(&key) else {
            return count;
        };
        match count.checked_sub(preface.len()) {
            Some(more) => {
                self.0.remove(&key);
                more
            }
            None => {
                preface.drain(..count);
                0
            }
        }
    }
}

/// For whom a session connects.
pub(crate) fn origin<N: Net>(
    client: &Endpoint<N>,
    peer: Option<SocketAddr>,
    destination: Option<SocketAddr>,
    net: &N,
) -> Origin {
    let destination = destination.or_else(|| client.local_address(net));
    match (peer, destination) {
        (Some(source), Some(destination)) => Origin::Client {
            source,
            destination,
        },
        _ => Origin::Unknown,
    }
}

/// What is known of the TLS of a client, whose ClientHello this was: of a connection that stays
/// encrypted the name alone, as what it agrees on is not seen.
pub(crate) fn tls_facts<'a, N: Net>(
    client: &'a Endpoint<N>,
    hello: Option<&'a ClientHello>,
) -> TlsFacts<'a> {
    let Some(secured) = client.secured() else {
        let name = hello.and_then(|hello| hello.server_name.as_deref());
        return TlsFacts {
            authority: name.map(str::as_bytes),
            ..TlsFacts::default()
        };
    };
    // Sessions with certificates are not resumed.
    let certificate = secured.client_certificate.map(|der| ClientCertificate {
        on_connection: true,
        is_verified: true,
        common_name: common_name(der),
    });
    TlsFacts {
        authority: secured.name.map(str::as_bytes),
        alpn: secured.protocol,
        ssl: Some(Ssl {
            version: secured.version,
            cipher: secured.cipher,
            certificate,
        }),
    }
}
