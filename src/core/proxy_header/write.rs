//! Writes a header.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{
    CRC32C_BYTES, FIXED_BYTES, Origin, SIGNATURE, SUBTYPE_SSL_CIPHER, SUBTYPE_SSL_CN,
    SUBTYPE_SSL_VERSION, TLV_HEAD_BYTES, TYPE_ALPN, TYPE_AUTHORITY, TYPE_CRC32C, TYPE_SSL,
    crc32c::crc32c,
};
use crate::core::text;

/// The longest value of a TLV that is written, in bytes; longer ones are left out.
const VALUE_BYTES_MAX: usize = 255;

/// What may stand in `client` of the SSL TLV (section 2.2.6).
const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// The longest header that is written, in bytes.
pub const HEADER_BYTES_MAX: usize = FIXED_BYTES
    + 36
    + (TLV_HEAD_BYTES + CRC32C_BYTES)
    + (TLV_HEAD_BYTES + 5)
    + 5 * (TLV_HEAD_BYTES + VALUE_BYTES_MAX);

/// Which form a header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary, with what else is known of the connection.
    V2,
}

/// What is known of the client's TLS, each where it is; version 2 tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TlsFacts<'a> {
    /// The server that the client has named (SNI).
    pub authority: Option<&'a [u8]>,
    /// The protocol that was agreed on (ALPN).
    pub alpn: Option<&'a [u8]>,
    /// None where weir has not ended the client's TLS.
    pub ssl: Option<Ssl<'a>>,
}

/// TLS that weir has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssl<'a> {
    /// Such as `TLSv1.3`.
    pub version: &'a str,
    /// The cipher suite.
    pub cipher: &'a str,
    /// None where the client has shown none.
    pub certificate: Option<ClientCertificate<'a>>,
}

/// The certificate of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientCertificate<'a> {
    /// Whether it came on this connection, and not on one that this one resumes.
    pub on_connection: bool,
    /// Whether it was verified.
    pub is_verified: bool,
    /// The common name of its subject, if that has one.
    pub common_name: Option<&'a str>,
}

/// Appends a header to `out`: at most [`HEADER_BYTES_MAX`]. Version 1 has no form for a connection
/// of the sender's own.
pub fn write(version: Version, origin: Origin, tls: TlsFacts<'_>, out: &mut Vec<u8>) {
    match version {
        Version::V1 => write_line(origin, out),
        Version::V2 => write_binary(origin, tls, out),
    }
}

fn write_line(origin: Origin, out: &mut Vec<u8>) {
    let Origin::Client {
        source,
        destination,
    } = origin
    else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let (ports, pair) = (
        (source.port(), destination.port()),
        pair(source, destination),
    );
    let (protocol, source, destination): (_, &dyn fmt::Display, &dyn fmt::Display) = match &pair {
        Pair::V4(source, destination) => ("TCP4", source, destination),
        Pair::V6(source, destination) => ("TCP6", source, destination),
    };
    text::push(
        out,
        format_args!(
            "PROXY {protocol} {source} {destination} {} {}\r\n",
            ports.0, ports.1
        ),
    );
}

/// Two addresses of one family.
enum Pair {
    V4(std::net::Ipv4Addr, std::net::Ipv4Addr),
    V6(Hexadecimal, Hexadecimal),
}

fn pair(source: SocketAddr, destination: SocketAddr) -> Pair {
    let (source, destination) = (source.ip().to_canonical(), destination.ip().to_canonical());
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Pair::V4(source, destination),
        (source, destination) => Pair::V6(Hexadecimal::of(source), Hexadecimal::of(destination)),
    }
}

/// An IPv6 address that is written without the dots that std gives to those mapped from IPv4,
/// which version 1 does not have.
struct Hexadecimal(Ipv6Addr);

impl Hexadecimal {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped()),
            IpAddr::V6(v6) => Self(v6),
        }
    }
}

impl fmt::Display for Hexadecimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.segments() {
            [0, 0, 0, 0, 0, 0xffff, high, low] => write!(f, "::ffff:{high:x}:{low:x}"),
            _ => write!(f, "{}", self.0),
        }
    }
}

fn write_binary(origin: Origin, tls: TlsFacts<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&SIGNATURE);
    match origin {
        // It says nothing about anybody.
        Origin::Local => return out.extend_from_slice(&[0x20, 0, 0, 0]),
        Origin::Unknown => out.extend_from_slice(&[0x21, 0, 0, 0]),
        Origin::Client {
            source,
            destination,
        } => write_addresses(source, destination, out),
    }
    write_tls(tls, out);
    let sum_at = out.len() + TLV_HEAD_BYTES;
    write_tlv(TYPE_CRC32C, &[&[0; CRC32C_BYTES]], out);
    // Bounded by what is written of each.
    let announced = u16::try_from(out.len() - start - FIXED_BYTES).unwrap_or(u16::MAX);
    out[start + FIXED_BYTES - 2..start + FIXED_BYTES].copy_from_slice(&announced.to_be_bytes());
    let sum = crc32c(&[&out[start..]]);
    out[sum_at..].copy_from_slice(&sum.to_be_bytes());
}

fn write_addresses(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    match pair(source, destination) {
        Pair::V4(first, second) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 0]);
            out.extend_from_slice(&first.octets());
            out.extend_from_slice(&second.octets());
        }
        Pair::V6(Hexadecimal(first), Hexadecimal(second)) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 0]);
            out.extend_from_slice(&first.octets());
            out.extend_from_slice(&second.octets());
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

fn write_tls(tls: TlsFacts<'_>, out: &mut Vec<u8>) {
    write_value(TYPE_ALPN, tls.alpn, out);
    write_value(TYPE_AUTHORITY, tls.authority, out);
    let Some(ssl) = tls.ssl else {
        return;
    };
    let certificate = ssl.certificate;
    let client = match certificate {
        None => CLIENT_SSL,
        Some(it) if it.on_connection => CLIENT_SSL | CLIENT_CERT_CONN | CLIENT_CERT_SESS,
        Some(_) => CLIENT_SSL | CLIENT_CERT_SESS,
    };
    let is_verified = certificate.is_some_and(|it| it.is_verified);
    let common_name = certificate.and_then(|it| it.common_name);
    let mut inner = Vec::new();
    write_value(
        SUBTYPE_SSL_VERSION,
        Some(ssl.version.as_bytes()),
        &mut inner,
    );
    write_value(SUBTYPE_SSL_CN, common_name.map(str::as_bytes), &mut inner);
    write_value(SUBTYPE_SSL_CIPHER, Some(ssl.cipher.as_bytes()), &mut inner);
    let verify = u32::from(!is_verified).to_be_bytes();
    write_tlv(TYPE_SSL, &[&[client], &verify, &inner], out);
}

fn write_value(kind: u8, value: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(value) = value.filter(|value| value.len() <= VALUE_BYTES_MAX) {
        write_tlv(kind, &[value], out);
    }
}

fn write_tlv(kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    out.push(kind);
    out.extend_from_slice(&length.to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
}
