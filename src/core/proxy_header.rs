//! The PROXY protocol, versions 1 and 2: a header before all other bytes of a connection, by which
//! a proxy tells for whom it connects (haproxy.org, "The PROXY protocol").
//!
//! `parse` reads one, to the letter: what the text does not allow is refused, as who may say whose
//! connection this is must not be guessed at. `write` makes one.

pub mod crc32c;
mod parse;
#[cfg(test)]
mod tests;
mod write;

use std::net::SocketAddr;

pub use parse::{HeaderError, Parsed, parse};
pub use write::{ClientCertificate, HEADER_BYTES_MAX, Ssl, TlsFacts, Version, write};

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The sender's own, as for a check of health: the addresses are those of the socket.
    Local,
    /// Somebody's whose addresses are not told, or are none of IP: those of the socket stand for
    /// them.
    Unknown,
    /// A client's.
    Client {
        /// Its own address.
        source: SocketAddr,
        /// The address that it has connected to.
        destination: SocketAddr,
    },
}

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// In bytes: of a header of version 2, what comes before its addresses.
const FIXED_BYTES: usize = 16;

const TYPE_ALPN: u8 = 0x01;
const TYPE_AUTHORITY: u8 = 0x02;
const TYPE_CRC32C: u8 = 0x03;
const TYPE_SSL: u8 = 0x20;
const SUBTYPE_SSL_VERSION: u8 = 0x21;
const SUBTYPE_SSL_CN: u8 = 0x22;
const SUBTYPE_SSL_CIPHER: u8 = 0x23;
/// In bytes: the type and the length before the value of a TLV.
const TLV_HEAD_BYTES: usize = 3;
const CRC32C_BYTES: usize = 4;
