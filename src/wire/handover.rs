//! What a supervisor leaves to the program that takes its place: descriptors by their numbers,
//! and what they are, in a file in memory.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use crate::config::Source;
use crate::core::address::Address;
use crate::core::address::UnresolvedName;
use crate::core::time::Tick;
use crate::sys::order_reply::Asker;
use crate::sys::{child, memory_file};
use crate::tls::material::{Material, Secret, TicketKey};
use crate::wire::bundle::{self, SocketRef};
use crate::wire::codec::{Reader, Writer};
use crate::wire::value::WireValue;

/// Of the form of what is left.
const VERSION: u16 = 4;
/// The most bytes that it may have.
const BYTES_MAX: u64 = 256 * 1024 * 1024;

/// All that is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Handover {
    pub(crate) board: RawFd,
    pub(crate) round: u32,
    pub(crate) source: Source,
    pub(crate) names: Vec<(UnresolvedName, Vec<SocketAddr>)>,
    pub(crate) listeners: Vec<LeftListener>,
    pub(crate) next_id: u32,
    /// How many workers there were to be.
    pub(crate) wanted: u32,
    pub(crate) workers: Vec<LeftWorker>,
    pub(crate) pid_file: Option<RawFd>,
    /// Where orders arrive.
    pub(crate) inbox: Option<RawFd>,
    /// When the first program of this process was started.
    pub(crate) started: Tick,
    /// Who waits for the verdict.
    pub(crate) askers: Vec<Asker>,
    /// Who has asked for a reload meanwhile, if it was asked for.
    pub(crate) load_again: Option<Vec<Asker>>,
    /// What was read for the configuration, so that it need not be read again.
    pub(crate) material: Arc<Material>,
    /// The keys of session tickets, and for how many minutes the first has been in use.
    pub(crate) ring: (Vec<TicketKey>, u32),
}

/// A listener that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftListener {
    pub(crate) key: String,
    pub(crate) address: Address,
    pub(crate) sockets: Vec<(SocketRef, RawFd)>,
}

/// A worker that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LeftWorker {
    pub(crate) pid: u32,
    pub(crate) number: u32,
    pub(crate) row: u8,
    pub(crate) channel: RawFd,
    pub(crate) leaving: bool,
    pub(crate) stopped: bool,
    /// The sockets that it has.
    pub(crate) sockets: Vec<u32>,
}

impl Handover {
    /// Puts it into a file in memory that outlives this program.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn write(&self) -> io::Result<OwnedFd> {
        let fd = memory_file::create("weir-handover", self.encode().bytes())?;
        child::keep_over_exec(&fd, true)?;
        Ok(fd)
    }

    /// Reads what the program before has left.
    ///
    /// # Errors
    /// When it has left nothing there, or what another version cannot read.
    pub(crate) fn read(number: RawFd) -> io::Result<Self> {
        let bytes = memory_file::read(child::take_inherited(number)?, BYTES_MAX)?;
        let bytes = Secret::new(bytes);
        Self::decode(bytes.bytes()).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn encode(&self) -> Secret {
        let mut to = Writer::default();
        to.u16(VERSION);
        descriptor(&mut to, self.board);
        to.u32(self.round);
        write_source(&mut to, &self.source);
        to.count(self.names.len());
        for (name, addresses) in &self.names {
            bundle::write_name(&mut to, name, addresses);
        }
        to.count(self.listeners.len());
        for listener in &self.listeners {
            to.text(&listener.key);
            write_address(&mut to, &listener.address);
            to.count(listener.sockets.len());
            for (at, fd) in &listener.sockets {
                bundle::write_socket(&mut to, *at);
                descriptor(&mut to, *fd);
            }
        }
        to.u32(self.next_id);
        to.u32(self.wanted);
        to.count(self.workers.len());
        for worker in &self.workers {
            to.u32(worker.pid);
            to.u32(worker.number);
            to.u8(worker.row);
            descriptor(&mut to, worker.channel);
            to.bool(worker.leaving);
            to.bool(worker.stopped);
            to.count(worker.sockets.len());
            worker.sockets.iter().for_each(|&id| to.u32(id));
        }
        optional_descriptor(&mut to, self.pid_file);
        optional_descriptor(&mut to, self.inbox);
        to.u128(self.started.0.into());
        write_askers(&mut to, &self.askers);
        to.bool(self.load_again.is_some());
        write_askers(&mut to, self.load_again.as_deref().unwrap_or_default());
        self.material.write(&mut to);
        self.ring.write(&mut to);
        to.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        if from.u16()? != VERSION {
            return None;
        }
        let left = Self {
            board: read_descriptor(&mut from)?,
            round: from.u32()?,
            source: read_source(&mut from)?,
            names: from.list(bundle::read_name)?,
            listeners: from.list(read_listener)?,
            next_id: from.u32()?,
            wanted: from.u32()?,
            workers: from.list(read_worker)?,
            pid_file: read_optional_descriptor(&mut from)?,
            inbox: read_optional_descriptor(&mut from)?,
            started: Tick(from.u128()?.try_into().ok()?),
            askers: read_askers(&mut from)?,
            load_again: match (from.bool()?, read_askers(&mut from)?) {
                (true, askers) => Some(askers),
                (false, _) => None,
            },
            material: WireValue::read(&mut from)?,
            ring: WireValue::read(&mut from)?,
        };
        from.end().map(|()| left)
    }
}

fn write_source(to: &mut Writer, source: &Source) {
    to.text(&source.file_name);
    to.text(&source.text);
    to.count(source.files.len());
    for (path, bytes) in &source.files {
        to.path(path);
        to.bytes(bytes);
    }
}

fn read_source(from: &mut Reader<'_>) -> Option<Source> {
    Some(Source {
        file_name: from.text()?,
        text: from.text()?,
        files: from.list(|from| Some((from.path()?, from.bytes()?.to_vec())))?,
    })
}

fn read_listener(from: &mut Reader<'_>) -> Option<LeftListener> {
    Some(LeftListener {
        key: from.text()?,
        address: read_address(from)?,
        sockets: from.list(|from| Some((bundle::read_socket(from)?, read_descriptor(from)?)))?,
    })
}

fn read_worker(from: &mut Reader<'_>) -> Option<LeftWorker> {
    Some(LeftWorker {
        pid: from.u32()?,
        number: from.u32()?,
        row: from.u8()?,
        channel: read_descriptor(from)?,
        leaving: from.bool()?,
        stopped: from.bool()?,
        sockets: from.list(Reader::u32)?,
    })
}

fn write_address(to: &mut Writer, address: &Address) {
    match address {
        Address::Ip(ip) => {
            to.bool(false);
            to.text(&ip.to_string());
        }
        Address::Unix(path) => {
            to.bool(true);
            to.path(path);
        }
    }
}

fn read_address(from: &mut Reader<'_>) -> Option<Address> {
    if from.bool()? {
        Some(Address::Unix(from.path()?))
    } else {
        Some(Address::Ip(from.text()?.parse().ok()?))
    }
}

fn descriptor(to: &mut Writer, fd: RawFd) {
    to.u32(fd.cast_unsigned());
}

fn read_descriptor(from: &mut Reader<'_>) -> Option<RawFd> {
    Some(from.u32()?.cast_signed()).filter(|fd| *fd >= 0)
}

fn optional_descriptor(to: &mut Writer, fd: Option<RawFd>) {
    to.bool(fd.is_some());
    descriptor(to, fd.unwrap_or(0));
}

fn read_optional_descriptor(from: &mut Reader<'_>) -> Option<Option<RawFd>> {
    let is_there = from.bool()?;
    let fd = read_descriptor(from)?;
    Some(is_there.then_some(fd))
}

fn write_askers(to: &mut Writer, askers: &[Asker]) {
    to.count(askers.len());
    askers.iter().for_each(|Asker(name)| to.bytes(name));
}

fn read_askers(from: &mut Reader<'_>) -> Option<Vec<Asker>> {
    from.list(|from| Some(Asker(from.bytes()?.to_vec())))
}

/// Lets a descriptor outlive this program, or not; its number.
pub(crate) fn keep(fd: impl AsFd, keep: bool) -> io::Result<RawFd> {
    child::keep_over_exec(&fd, keep)?;
    Ok(fd.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handover() -> Handover {
        let at = SocketRef {
            slot: Some(1),
            id: 7,
        };
        Handover {
            board: 5,
            round: 3,
            source: Source {
                file_name: "f".to_owned(),
                text: "t".to_owned(),
                files: Vec::new(),
            },
            names: Vec::new(),
            listeners: vec![
                LeftListener {
                    key: "listener a".to_owned(),
                    address: Address::Ip("127.0.0.1:80".parse().expect("an address")),
                    sockets: vec![(at, 9)],
                },
                LeftListener {
                    key: "listener b".to_owned(),
                    address: Address::Unix("/run/b".into()),
                    sockets: Vec::new(),
                },
            ],
            next_id: 8,
            wanted: 3,
            workers: vec![LeftWorker {
                pid: 77,
                number: 1,
                row: 2,
                channel: 11,
                leaving: false,
                stopped: true,
                sockets: vec![7],
            }],
            pid_file: Some(12),
            inbox: None,
            started: Tick(13),
            material: Arc::default(),
            ring: (Vec::new(), 7),
            askers: vec![Asker(b"a".to_vec()), Asker(vec![0xff])],
            load_again: Some(Vec::new()),
        }
    }

    #[test]
    fn it_is_found_as_it_was_left() {
        let fd = handover().write().expect("memory");
        let number = std::os::fd::IntoRawFd::into_raw_fd(fd);
        assert_eq!(Handover::read(number).expect("left for us"), handover());
    }

    #[test]
    fn a_part_of_it_and_another_version_are_refused() {
        let mut bytes = handover().encode().bytes().to_vec();
        for end in 0..bytes.len() {
            assert_eq!(Handover::decode(&bytes[..end]), None, "{end} bytes");
        }
        bytes[0] ^= 1;
        assert_eq!(Handover::decode(&bytes), None);
    }

    #[test]
    fn a_source_compiles_without_its_files() {
        let folder = std::env::temp_dir().join(format!("weir-handover-{}", std::process::id()));
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
