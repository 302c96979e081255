//! A configuration as a worker gets it: a file in memory with the text, what the text refers to,
//! the addresses of names, and which socket belongs to which listener. So a worker opens nothing
//! and looks nothing up.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::config::Source;
use crate::core::address::UnresolvedName;
use crate::sys::memory_file;
use crate::wire::codec::{Reader, Writer};

/// The most bytes of a bundle.
const BUNDLE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// A socket of a listener: its slot, if it has one, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SocketRef {
    pub(crate) slot: Option<u8>,
    pub(crate) id: u32,
}

/// What goes with [`super::messages::Order::Adopt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub(crate) source: Source,
    /// Those that have been looked up.
    pub(crate) names: Vec<(UnresolvedName, Vec<SocketAddr>)>,
    /// The sockets of each listener, in the order of the configuration.
    pub(crate) sockets: Vec<Vec<SocketRef>>,
}

impl Bundle {
    /// Puts it into a file in memory.
    ///
    /// # Errors
    /// When it is too long, or there is no memory.
    pub(crate) fn write(&self) -> io::Result<OwnedFd> {
        let bytes = self.encode();
        if bytes.len() as u64 > BUNDLE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        memory_file::create("weir-config", &bytes)
    }

    /// Reads it from such a file.
    ///
    /// # Errors
    /// When it holds no bundle.
    pub(crate) fn read(fd: OwnedFd) -> io::Result<Self> {
        let bytes = memory_file::read(fd, BUNDLE_BYTES_MAX)?;
        Self::decode(&bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn encode(&self) -> Vec<u8> {
        let mut to = Writer::default();
        write_source(&mut to, &self.source);
        to.count(self.names.len());
        for (name, addresses) in &self.names {
            write_name(&mut to, name, addresses);
        }
        to.count(self.sockets.len());
        for sockets in &self.sockets {
            to.count(sockets.len());
            for socket in sockets {
                write_socket(&mut to, *socket);
            }
        }
        to.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        let bundle = Self {
            source: read_source(&mut from)?,
            names: from.list(read_name)?,
            sockets: from.list(|from| from.list(read_socket))?,
        };
        from.end().map(|()| bundle)
    }
}

pub(crate) fn write_source(to: &mut Writer, source: &Source) {
    to.text(&source.file_name);
    to.text(&source.text);
    to.count(source.files.len());
    for (path, bytes) in &source.files {
        to.bytes(path.as_os_str().as_bytes());
        to.bytes(bytes);
    }
}

pub(crate) fn read_source(from: &mut Reader<'_>) -> Option<Source> {
    Some(Source {
        file_name: from.text()?,
        text: from.text()?,
        files: from.list(|from| Some((read_path(from)?, from.bytes()?.to_vec())))?,
    })
}

pub(crate) fn read_path(from: &mut Reader<'_>) -> Option<PathBuf> {
    let bytes = from.bytes()?.to_vec();
    Some(std::ffi::OsString::from_vec(bytes).into())
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
            source: Source {
                file_name: "f".to_owned(),
                text: "listen: \":80\"".to_owned(),
                files: vec![("pages/502".into(), b"\xff\0".to_vec())],
            },
            names: vec![
                (name("a"), vec!["[::1]:80".parse().expect("an address")]),
                (name("b"), Vec::new()),
            ],
            sockets: vec![vec![own, common], Vec::new()],
        }
    }

    #[test]
    fn it_arrives_as_it_was_sent() {
        let fd = bundle().write().expect("memory");
        assert_eq!(Bundle::read(fd).expect("a bundle"), bundle());
    }

    #[test]
    fn a_part_of_it_is_no_bundle() {
        let bytes = bundle().encode();
        for end in 0..bytes.len() {
            assert_eq!(Bundle::decode(&bytes[..end]), None, "{end} bytes");
        }
    }

    #[test]
    fn a_source_compiles_without_its_files() {
        let folder = std::env::temp_dir().join(format!("weir-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let text = "listen: \":80\"\nmode: http\nbackends: [a:1]\nerror_pages: {502: page}\n";
        std::fs::write(folder.join("weir.yaml"), text).expect("written");
        std::fs::write(folder.join("page"), "sorry").expect("written");
        let (source, compiled) = crate::config::read(&folder.join("weir.yaml")).expect("good");
        std::fs::remove_dir_all(&folder).expect("ours");
        assert_eq!(source.files, [("page".into(), b"sorry".to_vec())]);
        assert_eq!(source.compile().expect("still good"), compiled);
    }
}
