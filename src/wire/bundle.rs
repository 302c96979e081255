//! A configuration as a worker gets it: a file in memory with the compiled configuration, the
//! addresses of names, and which socket belongs to which listener. So a worker opens nothing, looks
//! nothing up, and has nothing to compile while its clients wait.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use crate::config::model::Config;
use crate::core::address::UnresolvedName;
use crate::sys::memory_file;
use crate::tls::material::Secret;
use crate::wire::codec::{Reader, Writer};
use crate::wire::model::FORM;
use crate::wire::value::WireValue as _;

/// How it begins: a length that is longer than any bundle for those weirs that read another form
/// first, and refuse it.
const MARK: u32 = u32::MAX;
/// The most bytes of a bundle.
const BUNDLE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A socket of a listener: its slot, if it has one, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketRef {
    pub(crate) slot: Option<u8>,
    pub(crate) id: u32,
}

/// What goes with [`super::messages::WorkerOrder::Adopt`].
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bundle {
    pub(crate) config: Config,
    /// Those that have been looked up.
    pub(crate) names: Vec<(UnresolvedName, Vec<SocketAddr>)>,
    /// The sockets of each listener, in the order of the configuration.
    pub(crate) sockets: Vec<Vec<SocketRef>>,
}

impl Bundle {
    /// Puts one into a file in memory.
    ///
    /// # Errors
    /// When it is too long, or there is no memory.
    pub(crate) fn write(
        config: &Config,
        names: &[(UnresolvedName, Vec<SocketAddr>)],
        sockets: &[Vec<SocketRef>],
    ) -> io::Result<OwnedFd> {
        let bytes = encode(config, names, sockets);
        let bytes = bytes.bytes();
        if bytes.len() as u64 > BUNDLE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        memory_file::create("weir-config", bytes)
    }

    /// Reads it from such a file.
    ///
    /// # Errors
    /// When it holds no bundle, or that of another version.
    pub(crate) fn read(fd: OwnedFd) -> io::Result<Self> {
        let bytes = Secret::new(memory_file::read(fd, BUNDLE_BYTES_MAX)?);
        Self::decode(bytes.bytes()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        if (from.u32()?, from.u64()?) != (MARK, FORM) {
            return None;
        }
        let bundle = Self {
            config: Config::read(&mut from)?,
            names: from.list(read_name)?,
            sockets: from.list(|from| from.list(read_socket))?,
        };
        from.end().map(|()| bundle)
    }
}

fn encode(
    config: &Config,
    names: &[(UnresolvedName, Vec<SocketAddr>)],
    sockets: &[Vec<SocketRef>],
) -> Secret {
    let mut to = Writer::default();
    to.u32(MARK);
    to.u64(FORM);
    config.write(&mut to);
    to.count(names.len());
    for (name, addresses) in names {
        write_name(&mut to, name, addresses);
    }
    to.count(sockets.len());
    for sockets in sockets {
        to.count(sockets.len());
        for socket in sockets {
            write_socket(&mut to, *socket);
        }
    }
    to.into_bytes()
}

pub(crate) fn write_name(to: &mut Writer, name: &UnresolvedName, addresses: &[SocketAddr]) {
    to.text(&name.host);
    to.u16(name.port);
    to.addresses(addresses);
}

pub(crate) fn read_name(from: &mut Reader<'_>) -> Option<(UnresolvedName, Vec<SocketAddr>)> {
    let (host, port) = (from.text()?, from.u16()?);
    Some((UnresolvedName { host, port }, from.addresses()?))
}

pub(crate) fn write_socket(to: &mut Writer, socket: SocketRef) {
    to.bool(socket.slot.is_some());
    to.u8(socket.slot.unwrap_or(0));
    to.u32(socket.id);
}

pub(crate) fn read_socket(from: &mut Reader<'_>) -> Option<SocketRef> {
    let has_slot = from.bool()?;
    let slot = from.u8()?;
    Some(SocketRef {
        slot: has_slot.then_some(slot),
        id: from.u32()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that a file can say, in one that says it.
    const TEXT: &str = include_str!("../../conf/reference.yaml");

    fn config() -> Config {
        let compiled = crate::config::compile("f", TEXT, &mut |_| Ok(b"\xff\0".to_vec()));
        compiled.expect("it is good").config
    }

    fn bundle() -> Bundle {
        let name = |host: &str| UnresolvedName {
            host: host.to_owned(),
            port: 80,
        };
        let own = SocketRef {
            slot: Some(3),
            id: 9,
        };
        let common = SocketRef { slot: None, id: 4 };
        Bundle {
            config: config(),
            names: vec![
                (name("a"), vec!["[::1]:80".parse().expect("an address")]),
                (name("b"), Vec::new()),
            ],
            sockets: vec![vec![own, common], Vec::new()],
        }
    }

    fn bytes(of: &Bundle) -> Vec<u8> {
        let bytes = encode(&of.config, &of.names, &of.sockets);
        bytes.bytes().to_vec()
    }

    #[test]
    fn it_arrives_as_it_was_sent() {
        let sent = bundle();
        let fd = Bundle::write(&sent.config, &sent.names, &sent.sockets).expect("memory");
        assert_eq!(Bundle::read(fd).expect("a bundle"), sent);
    }

    #[test]
    fn a_part_of_it_and_another_form_are_no_bundle() {
        let mut bytes = bytes(&bundle());
        for end in 0..bytes.len() {
            assert_eq!(Bundle::decode(&bytes[..end]), None, "{end} bytes");
        }
        bytes[4] ^= 1;
        assert_eq!(Bundle::decode(&bytes), None);
    }
}
