//! What a client says before it is settled who it is, what it speaks and where it goes: a PROXY
//! header, or a ClientHello that names its server.
//!
//! An opening is pure. It is shown all bytes that have come, and says what they settle. They are
//! those of the socket: a layer comes behind it. It has a stage for each thing that its plan asks
//! for, in their order on the wire.

use std::net::SocketAddr;

use crate::core::client_hello::{
    Alert, BadHello, ClientHello, HelloLook, HelloReader, MESSAGE_BYTES_MAX, NotTls,
};
use crate::core::fault::Fault;
use crate::core::proxy_header::{self, HeaderError, Origin, Parsed};
use crate::core::tls_route::NoTlsRoute;

/// The most that an opening may read: a ClientHello with the heads of its records, and what may
/// stand before it.
pub const OPENING_BYTES_MAX: usize = MESSAGE_BYTES_MAX + 4 * 1024;

/// What has to be read of the clients of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// A PROXY header comes first.
    pub proxy_header: bool,
    /// A ClientHello comes, which is not the opening's own: it is looked at, and passed on.
    pub client_hello: bool,
}

impl Plan {
    /// Whether everything is settled with the accept.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.proxy_header && !self.client_hello
    }
}

/// The opening of one connection.
#[derive(Debug)]
pub struct Opening {
    /// What is still to come.
    plan: Plan,
    hello: HelloReader,
    /// What has been settled by what came before.
    settled: Settled,
}

/// What the bytes of an opening settle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing yet.
    More,
    /// All that there is to settle.
    Settled(Settled),
    /// They are no opening: the connection ends.
    Refused(Refusal),
}

/// Why bytes are no opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The PROXY header breaks this rule.
    ProxyHeader(HeaderError),
    /// This comes where TLS is to be.
    NotTls(NotTls),
    /// The ClientHello is wrong in this.
    Hello(BadHello),
    /// It is good, but leads nowhere.
    Unrouted(NoTlsRoute),
    /// No certificate is for the name that it asks for, or it asks for none, where others are
    /// refused.
    Unserved,
    /// The handshake has failed.
    Tls(Fault),
    /// There were too many of them, and it was the oldest.
    Crowded,
    /// The PROXY header is longer than an opening may be.
    TooLong,
    /// There is no memory left for what came.
    NoMemory,
    /// The client has ended within this.
    CutShort(Awaited),
    /// This did not come to its end in time.
    TooSlow(Awaited),
}

/// What an opening waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The header that comes first.
    ProxyHeader,
    /// The first message of TLS.
    ClientHello,
    /// The rest of the handshake.
    Handshake,
}

impl Refusal {
    /// How it reads in a log line.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::ProxyHeader(error) => error.words(),
            Self::NotTls(NotTls::Http) => "HTTP where TLS is spoken",
            Self::NotTls(NotTls::Other) => "something else than TLS",
            Self::Hello(bad) => bad.words(),
            Self::Unrouted(NoTlsRoute::Name) => "no server name that a route is for",
            Self::Unrouted(NoTlsRoute::Protocol) => "no protocol that a route is for",
            Self::Unserved => "no server name that a certificate is for",
            Self::Tls(fault) => fault.words(),
            Self::Crowded => "the oldest of too many handshakes",
            Self::TooLong => "a PROXY header of more than 20480 bytes",
            Self::NoMemory => "no memory for what it has sent",
            Self::CutShort(Awaited::ProxyHeader) => "an end within the PROXY header",
            Self::CutShort(Awaited::ClientHello) => "an end within the ClientHello",
            Self::CutShort(Awaited::Handshake) => "an end within the handshake",
            Self::TooSlow(Awaited::ProxyHeader) => "no PROXY header in time",
            Self::TooSlow(Awaited::ClientHello) => "no ClientHello in time",
            Self::TooSlow(Awaited::Handshake) => "a handshake that took too long",
        }
    }
}

/// What a client is told for whom a [`Refusal`] ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This alert.
    Alert(Alert),
    /// A sentence in HTTP: it was asked for that.
    Http,
}

impl Refusal {
    /// Whether the client was told, so that a reset would overtake that.
    #[must_use]
    pub const fn was_told(self) -> bool {
        matches!(self, Self::Tls(_)) || self.answer().is_some()
    }

    /// What the client is told; nothing where it may not even speak TLS.
    #[must_use]
    pub const fn answer(self) -> Option<Answer> {
        match self {
            Self::NotTls(NotTls::Http) => Some(Answer::Http),
            Self::Hello(bad) => Some(Answer::Alert(bad.alert())),
            Self::Unrouted(NoTlsRoute::Name) | Self::Unserved => {
                Some(Answer::Alert(Alert::UNRECOGNIZED_NAME))
            }
            Self::Unrouted(NoTlsRoute::Protocol) => {
                Some(Answer::Alert(Alert::NO_APPLICATION_PROTOCOL))
            }
            Self::ProxyHeader(_)
            | Self::NotTls(NotTls::Other)
            | Self::Tls(_)
            | Self::Crowded
            | Self::TooLong
            | Self::NoMemory
            | Self::CutShort(_)
            | Self::TooSlow(_) => None,
        }
    }
}

/// What an opening has settled, each where it says something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// So many bytes were the opening's own; the session, or its layer, begins with those behind
    /// them.
    pub own_bytes: usize,
    /// Who the client really is.
    pub peer: Option<SocketAddr>,
    /// Where it has connected to.
    pub destination: Option<SocketAddr>,
    /// A proxy has said that the connection is its own, or not whose it is, as it does when it
    /// looks whether anybody is there.
    pub may_be_check: bool,
    /// What the client says of its connection over TLS, which begins with the bytes of it.
    pub hello: Option<Box<ClientHello>>,
    /// What it speaks, where that is not what its listener says.
    pub speaks: Option<Speaks>,
    /// Where a TCP session goes, as the place of the upstream in the worker.
    pub upstream: Option<u32>,
}

/// What a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Bytes, relayed as they come; [`Settled::upstream`] says where if the listener does not.
    Tcp,
    /// HTTP/1, where the listener has routes.
    Http,
}

impl Opening {
    /// Nothing has come.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            hello: HelloReader::default(),
            settled: Settled::default(),
        }
    }

    /// So many of the bytes that it has looked at have been understood.
    #[must_use]
    pub const fn own_bytes(&self) -> usize {
        self.settled.own_bytes
    }

    /// Who the client is by what has been understood of it so far.
    #[must_use]
    pub const fn peer(&self) -> Option<SocketAddr> {
        self.settled.peer
    }

    /// What it waits for.
    #[must_use]
    pub const fn awaited(&self) -> Awaited {
        match self.plan.proxy_header {
            true => Awaited::ProxyHeader,
            false => Awaited::ClientHello,
        }
    }

    /// What all `bytes` that have come so far settle; at most [`OPENING_BYTES_MAX`].
    pub fn look(&mut self, bytes: &[u8]) -> Look {
        if self.plan.proxy_header {
            match proxy_header::parse(bytes) {
                Ok(Parsed::Partial) => return Look::More,
                Ok(Parsed::Whole { bytes, origin }) => self.on_proxy_header(bytes, origin),
                Err(error) => return Look::Refused(Refusal::ProxyHeader(error)),
            }
        }
        if self.plan.client_hello {
            match self.hello.look(&bytes[self.settled.own_bytes..]) {
                HelloLook::More => return Look::More,
                HelloLook::Hello(hello) => self.settled.hello = Some(Box::new(hello)),
                HelloLook::NotTls(what) => return Look::Refused(Refusal::NotTls(what)),
                HelloLook::Bad(bad) => return Look::Refused(Refusal::Hello(bad)),
            }
        }
        // What it is asked for afterwards is still so.
        let kept = Settled {
            own_bytes: self.settled.own_bytes,
            peer: self.settled.peer,
            ..Settled::default()
        };
        Look::Settled(std::mem::replace(&mut self.settled, kept))
    }

    /// Why it is refused where it goes on beyond what it may have.
    #[must_use]
    pub const fn too_long(&self) -> Refusal {
        match self.plan.proxy_header {
            false if self.plan.client_hello => Refusal::Hello(BadHello::TooLong),
            true | false => Refusal::TooLong,
        }
    }

    fn on_proxy_header(&mut self, bytes: usize, origin: Origin) {
        self.plan.proxy_header = false;
        self.settled.own_bytes = bytes;
        match origin {
            Origin::Local | Origin::Unknown => self.settled.may_be_check = true,
            Origin::Client {
                source,
                destination,
            } => {
                self.settled.peer = Some(source);
                self.settled.destination = Some(destination);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.1 203.0.113.1 5 443\r\n";

    #[test]
    fn what_was_understood_is_known_before_and_after_all_is_settled() {
        let mut opening = Opening::new(Plan {
            proxy_header: true,
            client_hello: true,
        });
        let peer = Some(([192, 0, 2, 1], 5).into());
        assert_eq!(opening.look(&HEADER[..9]), Look::More);
        let told = (opening.own_bytes(), opening.peer(), opening.awaited());
        assert_eq!(told, (0, None, Awaited::ProxyHeader));
        assert_eq!(opening.look(HEADER), Look::More);
        let told = (opening.own_bytes(), opening.peer(), opening.awaited());
        assert_eq!(told, (HEADER.len(), peer, Awaited::ClientHello));

        let mut opening = Opening::new(Plan {
            proxy_header: true,
            client_hello: false,
        });
        let Look::Settled(settled) = opening.look(HEADER) else {
            panic!("it is whole");
        };
        assert_eq!((settled.own_bytes, settled.peer), (HEADER.len(), peer));
        assert_eq!((opening.own_bytes(), opening.peer()), (HEADER.len(), peer));
    }
}
