//! Reads a header. It is shown all that has come, and whatever cannot become one any more is
//! refused at once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{
    CRC32C_BYTES, FIXED_BYTES, Origin, SIGNATURE, TLV_HEAD_BYTES, TYPE_CRC32C, crc32c::crc32c,
};

/// The longest line of version 1, in bytes, its end included (section 2.1).
const LINE_BYTES_MAX: usize = 107;

/// The most that a header of version 2 may announce, in bytes: its length has room for more than
/// anybody has to say.
const ANNOUNCED_BYTES_MAX: usize = 4096;

/// What has come of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Its beginning, or nothing.
    Partial,
    /// All of it.
    Whole {
        /// How long it is, in bytes; what follows is the client's.
        bytes: usize,
        /// What it tells.
        origin: Origin,
    },
}

/// The rule that a header breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// It begins like neither version.
    Missing,
    /// Version 1: no end within 107 bytes.
    LineLength,
    /// Version 1: a CR or LF by itself.
    LineEnd,
    /// Version 1: something else than `TCP4`, `TCP6` and `UNKNOWN`.
    Protocol,
    /// Version 1: not four words, or more than one space between two.
    Words,
    /// Version 1: no address in its canonical form, or one of the other family.
    Address,
    /// Version 1: no number of 0 to 65535, or one with zeros before it.
    Port,
    /// Version 2: another version.
    Version,
    /// Version 2: neither LOCAL nor PROXY.
    Command,
    /// Version 2: an unassigned family or transport.
    Family,
    /// Version 2: shorter than its addresses.
    Length,
    /// Version 2: longer than weir reads.
    TooLong,
    /// Version 2: a TLV that is cut short, or a checksum of another length or given twice.
    Tlv,
    /// Version 2: a checksum that is not that of the header.
    Checksum,
}

impl HeaderError {
    /// How it reads in a log line.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Missing => "no PROXY header",
            Self::LineLength => "PROXY header without an end",
            Self::LineEnd => "PROXY header with a lone CR or LF",
            Self::Protocol => "PROXY header with an unknown protocol",
            Self::Words => "PROXY header with too few or too many words",
            Self::Address => "PROXY header with a bad address",
            Self::Port => "PROXY header with a bad port",
            Self::Version => "PROXY header of an unknown version",
            Self::Command => "PROXY header with an unknown command",
            Self::Family => "PROXY header with an unknown address family",
            Self::Length => "PROXY header shorter than its addresses",
            Self::TooLong => "PROXY header of more than 4096 bytes",
            Self::Tlv => "PROXY header with a broken TLV",
            Self::Checksum => "PROXY header with a wrong checksum",
        }
    }
}

/// Looks for a header at the beginning of what has come.
///
/// # Errors
/// The first rule that it breaks, as soon as that is certain.
pub fn parse(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    match bytes.first() {
        None => Ok(Parsed::Partial),
        Some(b'P') => line(bytes),
        Some(b'\r') => binary(bytes),
        Some(_) => Err(HeaderError::Missing),
    }
}

/// What follows a fixed beginning; none as long as that is incomplete.
fn behind<'a>(bytes: &'a [u8], beginning: &[u8]) -> Result<Option<&'a [u8]>, HeaderError> {
    match bytes.strip_prefix(beginning) {
        None if !beginning.starts_with(bytes) => Err(HeaderError::Missing),
        rest => Ok(rest),
    }
}

/// Version 1 (section 2.1).
fn line(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    const NAME: &[u8] = b"PROXY ";
    let bytes = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(rest) = behind(bytes, NAME)? else {
        return Ok(Parsed::Partial);
    };
    let Some(text) = whole_line(rest, LINE_BYTES_MAX - NAME.len())? else {
        return may_be_protocol(rest).map(|()| Parsed::Partial);
    };
    let origin = match text.split(|&byte| byte == b' ').next() {
        Some(b"TCP4") => client::<Ipv4Addr>(text)?,
        Some(b"TCP6") => client::<Ipv6Addr>(text)?,
        // Whatever follows it says nothing.
        Some(b"UNKNOWN") => Origin::Unknown,
        _ => return Err(HeaderError::Protocol),
    };
    Ok(Parsed::Whole {
        bytes: NAME.len() + text.len() + 2,
        origin,
    })
}

/// What stands before a CRLF; none as long as there is none.
fn whole_line(bytes: &[u8], bytes_max: usize) -> Result<Option<&[u8]>, HeaderError> {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let end = bytes.iter().position(is_end).unwrap_or(bytes.len());
    match &bytes[end..] {
        [b'\r', b'\n', ..] => Ok(Some(&bytes[..end])),
        [] | [b'\r'] if bytes.len() < bytes_max => Ok(None),
        [] | [b'\r'] => Err(HeaderError::LineLength),
        _ => Err(HeaderError::LineEnd),
    }
}

/// Looks at the protocol of a line whose end has not come.
fn may_be_protocol(rest: &[u8]) -> Result<(), HeaderError> {
    let known: [&[u8]; 4] = [b"TCP4 ", b"TCP6 ", b"UNKNOWN ", b"UNKNOWN\r"];
    let may_be = |word: &&[u8]| word.starts_with(rest) || rest.starts_with(word);
    match known.iter().any(may_be) {
        true => Ok(()),
        false => Err(HeaderError::Protocol),
    }
}

fn client<A: FromStr + Into<IpAddr>>(text: &[u8]) -> Result<Origin, HeaderError> {
    let text = std::str::from_utf8(text).map_err(|_| HeaderError::Address)?;
    let mut words = text.split(' ').skip(1);
    let mut word = || words.next().ok_or(HeaderError::Words);
    let (source, destination) = (word()?, word()?);
    let (source_port, destination_port) = (word()?, word()?);
    if words.next().is_some() {
        return Err(HeaderError::Words);
    }
    Ok(Origin::Client {
        source: socket_address(address::<A>(source)?, port(source_port)?),
        destination: socket_address(address::<A>(destination)?, port(destination_port)?),
    })
}

/// The canonical form has no zeros before numbers of IPv4, and no zone; nor does the parser of std
/// take them.
fn address<A: FromStr + Into<IpAddr>>(word: &str) -> Result<IpAddr, HeaderError> {
    word.parse().map(A::into).map_err(|_| HeaderError::Address)
}

fn port(word: &str) -> Result<u16, HeaderError> {
    let is_canonical =
        word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    let port = word.parse().ok().filter(|_| is_canonical);
    port.ok_or(HeaderError::Port)
}

/// IPv4-mapped addresses count as IPv4 everywhere.
fn socket_address(address: IpAddr, port: u16) -> SocketAddr {
    (address.to_canonical(), port).into()
}

/// Version 2 (section 2.2).
fn binary(bytes: &[u8]) -> Result<Parsed, HeaderError> {
    let Some(rest) = behind(bytes, &SIGNATURE)? else {
        return Ok(Parsed::Partial);
    };
    let Some(&first) = rest.first() else {
        return Ok(Parsed::Partial);
    };
    let is_local = is_local(first)?;
    let Some(&second) = rest.get(1) else {
        return Ok(Parsed::Partial);
    };
    // With LOCAL the family is ignored, whatever it is (section 2.2).
    let family = match Family::of(second) {
        Err(_) if is_local => Family::UNSPECIFIED,
        family => family?,
    };
    let (Some(&high), Some(&low)) = (rest.get(2), rest.get(3)) else {
        return Ok(Parsed::Partial);
    };
    let announced = usize::from(u16::from_be_bytes([high, low]));
    if announced > ANNOUNCED_BYTES_MAX {
        return Err(HeaderError::TooLong);
    }
    let counts = !is_local && family.counts();
    if counts && announced < family.address_bytes() {
        return Err(HeaderError::Length);
    }
    let Some(header) = bytes.get(..FIXED_BYTES + announced) else {
        return Ok(Parsed::Partial);
    };
    check_tlvs(header, family, counts)?;
    let origin = match family.client(&header[FIXED_BYTES..]) {
        _ if is_local => Origin::Local,
        Some(origin) if counts => origin,
        _ => Origin::Unknown,
    };
    Ok(Parsed::Whole {
        bytes: header.len(),
        origin,
    })
}

fn is_local(version_and_command: u8) -> Result<bool, HeaderError> {
    match version_and_command {
        0x20 => Ok(true),
        0x21 => Ok(false),
        byte if byte >> 4 == 2 => Err(HeaderError::Command),
        _ => Err(HeaderError::Version),
    }
}

/// The family of the addresses, and whether a transport is told.
#[derive(Clone, Copy)]
struct Family {
    kind: FamilyKind,
    has_transport: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FamilyKind {
    Unspecified,
    Ipv4,
    Ipv6,
    Unix,
}

impl Family {
    const UNSPECIFIED: Self = Self {
        kind: FamilyKind::Unspecified,
        has_transport: false,
    };

    fn of(byte: u8) -> Result<Self, HeaderError> {
        let kind = match byte >> 4 {
            0 => FamilyKind::Unspecified,
            1 => FamilyKind::Ipv4,
            2 => FamilyKind::Ipv6,
            3 => FamilyKind::Unix,
            _ => return Err(HeaderError::Family),
        };
        // Unspecified, stream and datagram.
        match byte & 0xf {
            transport @ 0..=2 => Ok(Self {
                kind,
                has_transport: transport != 0,
            }),
            _ => Err(HeaderError::Family),
        }
    }

    /// Whether what it says of addresses counts at all.
    fn counts(self) -> bool {
        self.has_transport && self.kind != FamilyKind::Unspecified
    }

    fn address_bytes(self) -> usize {
        match self.kind {
            FamilyKind::Unspecified => 0,
            FamilyKind::Ipv4 => 12,
            FamilyKind::Ipv6 => 36,
            FamilyKind::Unix => 216,
        }
    }

    /// The client, if it has addresses of IP.
    fn client(self, block: &[u8]) -> Option<Origin> {
        let (source, destination, ports) = match self.kind {
            FamilyKind::Unspecified | FamilyKind::Unix => return None,
            FamilyKind::Ipv4 => {
                let (source, rest) = block.split_first_chunk::<4>()?;
                let (destination, ports) = rest.split_first_chunk::<4>()?;
                (IpAddr::from(*source), IpAddr::from(*destination), ports)
            }
            FamilyKind::Ipv6 => {
                let (source, rest) = block.split_first_chunk::<16>()?;
                let (destination, ports) = rest.split_first_chunk::<16>()?;
                (IpAddr::from(*source), IpAddr::from(*destination), ports)
            }
        };
        let [a, b, c, d] = *ports.first_chunk()?;
        Some(Origin::Client {
            source: socket_address(source, u16::from_be_bytes([a, b])),
            destination: socket_address(destination, u16::from_be_bytes([c, d])),
        })
    }
}

/// Looks at what follows the addresses of a whole header. Where they do not count, nothing is known
/// of the form of what comes instead, but a checksum that can be found has to be right.
fn check_tlvs(header: &[u8], family: Family, counts: bool) -> Result<(), HeaderError> {
    let start = FIXED_BYTES + family.address_bytes();
    let found = match find_checksum(header, start) {
        Err(_) if !counts => None,
        found => found?,
    };
    let Some(at) = found else {
        return Ok(());
    };
    let (before, rest) = header.split_at(at);
    let (told, after) = rest.split_at(CRC32C_BYTES);
    let sum = crc32c(&[before, &[0; CRC32C_BYTES], after]);
    match told == sum.to_be_bytes() {
        true => Ok(()),
        false => Err(HeaderError::Checksum),
    }
}

/// Where the value of the checksum begins, if there is one among the TLVs from there on.
fn find_checksum(header: &[u8], start: usize) -> Result<Option<usize>, HeaderError> {
    let mut found = None;
    let mut at = start;
    while at < header.len() {
        let Some([kind, high, low, ..]) = header.get(at..at + TLV_HEAD_BYTES) else {
            return Err(HeaderError::Tlv);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value_at = at + TLV_HEAD_BYTES;
        at = value_at + length;
        let is_checksum = *kind == TYPE_CRC32C;
        let is_wrong = is_checksum && (length != CRC32C_BYTES || found.is_some());
        if is_wrong || at > header.len() {
            return Err(HeaderError::Tlv);
        }
        if is_checksum {
            found = Some(value_at);
        }
    }
    Ok(found)
}
