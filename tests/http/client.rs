//! A client of weir that keeps its connection until it is told otherwise.

use std::net::{IpAddr, SocketAddr};

use super::harness::{End, Peer, Weir};
use super::wire::{Conn, Message};

/// A client connection.
#[derive(Debug)]
pub(crate) struct Client(pub(crate) Conn);

impl Client {
    pub(crate) fn new(weir: &Weir) -> Self {
        Self::to(weir.address_of("web"))
    }

    pub(crate) fn to(address: SocketAddr) -> Self {
        Self(Conn::new(Peer::connect(address).expect("weir listens")))
    }

    pub(crate) fn from(source: IpAddr, weir: &Weir) -> Self {
        let peer = Peer::connect_from(source, weir.address_of("web"));
        Self(Conn::new(peer.expect("weir listens")))
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.0.send(bytes), "weir takes the bytes");
    }

    /// Sends a GET with these field lines.
    pub(crate) fn send_get(&mut self, path: &str, fields: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    }

    /// The next response.
    pub(crate) fn receive(&mut self) -> Message {
        match self.0.message() {
            Ok(message) => message,
            Err(why) => panic!("{why}, after \"{}\"", self.0.received().escape_ascii()),
        }
    }

    /// The response to a GET of that path.
    pub(crate) fn get(&mut self, path: &str) -> Message {
        self.get_with(path, "")
    }

    /// The same with field lines, each with its CRLF.
    pub(crate) fn get_with(&mut self, path: &str, fields: &str) -> Message {
        self.send_get(path, fields);
        self.receive()
    }

    /// Reads to the end: what still came, and how it ended.
    pub(crate) fn end(&mut self) -> (Vec<u8>, End) {
        self.0.end().expect("it ends")
    }

    /// Receives the clean end next, and no byte before it.
    pub(crate) fn expect_end(&mut self) {
        assert_eq!(self.end(), (Vec::new(), End::Clean));
    }
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.payload).into_owned()
    }
}

/// The body of a GET on a connection of its own.
pub(crate) fn fetch(weir: &Weir, path: &str) -> String {
    Client::new(weir).get(path).text()
}
