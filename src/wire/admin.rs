//! What the control loop and the process at the admin door say to each other: a packet each, long
//! texts in files in memory.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use crate::admin::errand::{Action, Change, Errand, NewBackend, Reply, Target, Ticket};
use crate::admin::guard::Rules;
use crate::admin::outline::{
    BackendOutline, Facts, ListenerOutline, Outline, Phase, RouteOutline, UpstreamOutline,
};
use crate::core::sessions::GlobalName;
use crate::sys::channel::{Channel, MESSAGE_BYTES_MAX, Packet};
use crate::sys::memory_file;
use crate::wire::codec::Reader;
use crate::wire::value::{WireValue, choices, structures, to_bytes};

/// The most bytes of a text in a file.
const TEXT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// From the control loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminOrder {
    /// The first: the board and then the doors come with it.
    Begin {
        /// Who may do what.
        rules: Rules,
        /// Whether warnings and errors only are logged.
        quiet: bool,
        /// Whether system calls are filtered.
        sandbox: bool,
    },
    /// What is configured, from now on.
    Outline(Outline),
    /// How it goes.
    Facts(Facts),
    /// What came of an errand.
    Reply { ticket: Ticket, reply: Reply },
    /// Log from this level up.
    LogLevel(log::LevelFilter),
}

/// From the process at the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminReport {
    /// Something to do.
    Errand(Errand),
}

structures! {
    Outline { round, listeners, upstreams }
    ListenerOutline { name, address, mode, column, expects_hello, expires_unix_s, routes }
    RouteOutline { name, host, path, methods, is_proxied, leads_to, column }
    UpstreamOutline { name, algorithm, column, is_checked, backends }
    BackendOutline { name, address, column, weight }
    Facts {
        version, started_unix_s, adopted_unix_s, reloads_done, reloads_refused, last_reload_done,
        phase, workers_wanted, rescues, pid,
    }
    Rules { token, reads_are_open, is_loopback }
    Errand { ticket, who, action }
    Target { upstream, backend }
    NewBackend { address, id, weight }
    GlobalName { pid, name }
}

choices! {
    Phase { 0 = Starting, 1 = Serving, 2 = Ending }
    Action {
        0 = Reload { resets }, 1 = Reopen, 2 = Upgrade { verdict_to }, 3 = Quit, 4 = Stop,
        5 = Steer { target, change }, 6 = Add { upstream, backend }, 7 = Remove { target },
        8 = Kick { target }, 9 = KickSession { id }, 10 = LogLevel { level }, 11 = ShowConfig,
        12 = ShowSessions { filter, count_max },
    }
    Change { 0 = Drain, 1 = Disable, 2 = Enable, 3 = Weight { weight } }
    Reply { 0 = Done(text), 1 = Refused(text), 2 = Told(text), 3 = Crowded(text) }
    AdminOrder {
        0 = Begin { rules, quiet, sandbox }, 1 = Outline(outline), 2 = Facts(facts),
        3 = Reply { ticket, reply }, 4 = LogLevel(level),
    }
    AdminReport { 0 = Errand(errand) }
}

impl WireValue for Ticket {
    fn write(&self, to: &mut crate::wire::codec::Writer) {
        to.u64(self.0);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        from.u64().map(Self)
    }
}

/// A packet that says that what is said is in the file that comes with it, last.
const IN_FILE: u8 = 1;
const HERE: u8 = 0;

/// Sends one, with descriptors.
///
/// # Errors
/// When the other end does not read, or has gone.
pub(crate) fn send(
    channel: &Channel,
    said: &impl WireValue,
    descriptors: &[std::os::fd::BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = to_bytes(said);
    if bytes.len() < MESSAGE_BYTES_MAX {
        let packet = [&[HERE], bytes.as_slice()].concat();
        return channel.send(&packet, descriptors);
    }
    let file = memory_file::create("weir-admin", &bytes)?;
    let all: Vec<_> = descriptors.iter().copied().chain([file.as_fd()]).collect();
    channel.send(&[IN_FILE], &all)
}

/// Understands one, and what came with it.
///
/// # Errors
/// When it cannot be understood.
pub(crate) fn understand<T: WireValue>(packet: Packet) -> io::Result<(T, Vec<OwnedFd>)> {
    let (said, descriptors, _) = understand_kept(packet)?;
    Ok((said, descriptors))
}

/// The same, and the file that says it, if it is long: to be understood [`again`].
///
/// # Errors
/// When it cannot be understood.
pub(crate) fn understand_kept<T: WireValue>(
    packet: Packet,
) -> io::Result<(T, Vec<OwnedFd>, Option<File>)> {
    let Packet {
        bytes,
        mut descriptors,
    } = packet;
    match bytes.split_first() {
        Some((&HERE, rest)) => Ok((said(rest)?, descriptors, None)),
        Some((&IN_FILE, [])) => {
            let file = File::from(descriptors.pop().ok_or_else(invalid)?);
            Ok((again(&file)?, descriptors, Some(file)))
        }
        _ => Err(invalid()),
    }
}

/// What a file says.
///
/// # Errors
/// When it cannot be read or understood.
pub(crate) fn again<T: WireValue>(file: &File) -> io::Result<T> {
    said(&memory_file::read_kept(file, TEXT_BYTES_MAX)?)
}

fn said<T: WireValue>(bytes: &[u8]) -> io::Result<T> {
    let mut from = Reader::new(bytes);
    let said = T::read(&mut from).ok_or_else(invalid)?;
    from.end().ok_or_else(invalid)?;
    Ok(said)
}

fn invalid() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::channel::Arrival;

    fn there_and_back(order: &AdminOrder) -> AdminOrder {
        let (ours, theirs) = Channel::pair().expect("descriptors");
        send(&ours, order, &[]).expect("room");
        let Arrival::Packet(packet) = theirs.receive() else {
            panic!("nothing came")
        };
        let (said, _, file) = understand_kept(packet).expect("understood");
        if let Some(file) = file {
            assert_eq!(again::<AdminOrder>(&file).expect("it is kept"), said);
        }
        said
    }

    #[test]
    fn what_is_said_is_understood_short_or_long() {
        for length in [3, 5 * MESSAGE_BYTES_MAX] {
            let order = AdminOrder::Reply {
                ticket: Ticket(7),
                reply: Reply::Refused("x".repeat(length)),
            };
            assert_eq!(there_and_back(&order), order);
        }
        let order = AdminOrder::Begin {
            rules: Rules {
                token: Some(b"abc".to_vec()),
                reads_are_open: true,
                is_loopback: true,
            },
            quiet: false,
            sandbox: true,
        };
        assert_eq!(there_and_back(&order), order);
    }
}
