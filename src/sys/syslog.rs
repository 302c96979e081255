//! Lines as datagrams to a syslog daemon, at a Unix socket or by UDP (RFC 5426).
//!
//! A line comes with the beginning of its header, `<PRIORITY>1 TIME ` (RFC 5424) or
//! `<PRIORITY>weir: `, which whoever wrote it knows; who sends it is put in here. The socket comes
//! connected, as who serves may not open one, but a daemon that was started anew can be found
//! again: the address is asked of the socket, and it is connected again.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, connect,
    getpeername, send, socket_with, sockopt,
};

use crate::core::address::Address;
use crate::core::limit::RateLimit;
use crate::core::time::Tick;
use crate::sys::stderr::WriteProgress;

/// Longest datagram, in bytes: what common daemons take as they come. What is longer is cut.
pub const DATAGRAM_BYTES_MAX: usize = 8192;

/// How often a daemon that has gone is looked for, in milliseconds.
const RETRY_PERIOD_MS: u64 = 1_000;

/// A socket that is connected to such a daemon, for [`Syslog::of`].
///
/// # Errors
/// When nobody listens at a Unix socket, or it may not be written to.
pub fn open(to: &Address) -> io::Result<OwnedFd> {
    let family = match to {
        Address::Ip(ip) if ip.is_ipv4() => AddressFamily::INET,
        Address::Ip(_) => AddressFamily::INET6,
        Address::Unix(_) => AddressFamily::UNIX,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::DGRAM, flags, None)?;
    match to {
        Address::Ip(ip) => connect(&socket, ip)?,
        Address::Unix(path) => connect(&socket, &SocketAddrUnix::new(path)?)?,
    }
    Ok(socket)
}

/// A connected daemon.
#[derive(Debug)]
pub struct Syslog {
    socket: OwnedFd,
    daemon: SocketAddrAny,
    sender: Sender,
    /// What is being sent.
    datagram: Vec<u8>,
    retries: RateLimit,
}

/// What has become of a line.
enum Fate {
    Sent,
    Lost,
    /// It would have blocked.
    Waits,
}

impl Syslog {
    /// The daemon at the other end of a socket.
    ///
    /// # Errors
    /// The descriptor, when it is no connected socket for datagrams.
    pub fn of(socket: OwnedFd) -> Result<Self, OwnedFd> {
        if sockopt::socket_type(&socket) != Ok(SocketType::DGRAM) {
            return Err(socket);
        }
        let Ok(Some(daemon)) = getpeername(&socket) else {
            return Err(socket);
        };
        Ok(Self {
            socket,
            daemon,
            sender: Sender::new(),
            datagram: Vec::new(),
            retries: RateLimit::new(RETRY_PERIOD_MS),
        })
    }

    /// Its socket.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Sends as many whole lines as do not block. How far that came, and how many of these lines,
    /// or of earlier ones, are lost.
    pub fn write(&mut self, lines: &[u8], now: Tick) -> (WriteProgress, u64) {
        let (mut bytes, mut lost, mut error) = (0, 0, None);
        for line in lines.split_inclusive(|&byte| byte == b'\n') {
            fill(&mut self.datagram, line, &self.sender);
            match self.send(now, &mut lost) {
                Ok(Fate::Sent) => {}
                Ok(Fate::Lost) => lost += 1,
                Ok(Fate::Waits) => break,
                Err(errno) => {
                    error = Some(errno.into());
                    break;
                }
            }
            bytes += line.len();
        }
        (WriteProgress { bytes, error }, lost)
    }

    fn send(&mut self, now: Tick, lost: &mut u64) -> Result<Fate, Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        let mut is_told = false;
        loop {
            match send(&self.socket, &self.datagram, flags) {
                Ok(_) => return Ok(Fate::Sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(Fate::Waits),
                Err(Errno::MSGSIZE) => return Ok(Fate::Lost),
                // Told of an earlier datagram, which nobody took (udp(7)).
                Err(Errno::CONNREFUSED) if self.is_udp() && !is_told => {
                    is_told = true;
                    *lost += 1;
                }
                Err(errno) => {
                    let may_try = !self.is_udp() && self.retries.allow(now).is_some();
                    if !may_try || connect(&self.socket, &self.daemon).is_err() {
                        return Err(errno);
                    }
                }
            }
        }
    }

    fn is_udp(&self) -> bool {
        self.daemon.address_family() != AddressFamily::UNIX
    }
}

/// What headers say of who sends.
#[derive(Debug)]
struct Sender {
    /// `HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA ` (RFC 5424 section 6.2).
    rfc5424: String,
    /// `weir[PROCESS]: `.
    local: String,
}

impl Sender {
    fn new() -> Self {
        let system = rustix::system::uname();
        let host = system.nodename().to_str().unwrap_or_default();
        let is_good =
            (1..=255).contains(&host.len()) && host.bytes().all(|it| it.is_ascii_graphic());
        let host = if is_good { host } else { "-" };
        let process = std::process::id();
        Self {
            rfc5424: format!("{host} weir {process} access - "),
            local: format!("weir[{process}]: "),
        }
    }

    /// What a line begins with, and what is to stand between that and the rest; nothing of a line
    /// that was written for another place, which the configuration has named before.
    fn parts<'a>(&self, line: &'a [u8]) -> (&'a [u8], &str, &'a [u8]) {
        let marked = line.starts_with(b"<");
        let end = line.iter().position(|&byte| byte == b'>');
        let Some(end) = end.filter(|_| marked) else {
            return (&[], "", line);
        };
        let (priority, rest) = line.split_at(end + 1);
        if let Some(message) = rest.strip_prefix(b"weir: ") {
            return (priority, &self.local, message);
        }
        let mut blanks = (0..line.len()).filter(|at| line[*at] == b' ');
        match blanks.nth(1) {
            Some(at) if rest.starts_with(b"1 ") => {
                let (begun, message) = line.split_at(at + 1);
                (begun, &self.rfc5424, message)
            }
            Some(_) | None => (&[], "", line),
        }
    }
}

/// Makes a datagram of a line.
fn fill(datagram: &mut Vec<u8>, line: &[u8], sender: &Sender) {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let (begun, sender, message) = sender.parts(line);
    datagram.clear();
    datagram.extend_from_slice(begun);
    datagram.extend_from_slice(sender.as_bytes());
    datagram.extend_from_slice(message);
    if datagram.len() > DATAGRAM_BYTES_MAX {
        let mut end = DATAGRAM_BYTES_MAX - 3;
        // Not within a letter of UTF-8.
        while datagram[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        datagram.truncate(end);
        datagram.extend_from_slice(b"...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    const LINE: &[u8] = b"<134>1 2001-09-09T01:46:40.123Z GET /\n";

    fn filled(line: &[u8]) -> Vec<u8> {
        let mut datagram = b"earlier".to_vec();
        let sender = Sender {
            rfc5424: "host weir 7 access - ".to_owned(),
            local: "weir[7]: ".to_owned(),
        };
        fill(&mut datagram, line, &sender);
        datagram
    }

    #[test]
    fn who_sends_stands_between_time_and_message() {
        let expected = b"<134>1 2001-09-09T01:46:40.123Z host weir 7 access - GET /";
        assert_eq!(filled(LINE), expected);
        let local = b"<134>weir[7]: GET /";
        assert_eq!(filled(b"<134>weir: GET /\n"), local);
        for other in ["of another log", "", "<", "<134>", "<a> b c d", "<7>1 b"] {
            assert_eq!(filled(format!("{other}\n").as_bytes()), other.as_bytes());
        }
    }

    #[test]
    fn the_sender_is_four_words_and_no_data() {
        let sender = Sender::new().rfc5424;
        let words: Vec<&str> = sender.split(' ').collect();
        let process = std::process::id().to_string();
        assert_eq!(words[1..], ["weir", &process, "access", "-", ""]);
    }

    #[test]
    fn a_long_line_is_cut_between_letters() {
        for letters in [0, 1] {
            let mut line = LINE[..LINE.len() - 1].to_vec();
            line.extend(std::iter::repeat_n(b'x', letters));
            line.extend("\u{e9}".repeat(DATAGRAM_BYTES_MAX).bytes());
            let datagram = filled(&line);
            assert!(datagram.len() <= DATAGRAM_BYTES_MAX && datagram.len() > 8186);
            let text = String::from_utf8(datagram).expect("whole letters");
            assert!(text.ends_with("\u{e9}..."));
        }
    }

    #[test]
    fn lines_are_datagrams_and_those_that_nobody_took_are_lost() {
        let daemon = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = Address::Ip(daemon.local_addr().expect("it has one"));
        let socket = open(&to).expect("nobody need listen");
        let mut syslog = Syslog::of(socket).expect("it is connected");
        let (progress, lost) = syslog.write(&LINE.repeat(2), Tick(0));
        assert_eq!((progress.bytes, lost), (2 * LINE.len(), 0));
        for _ in 0..2 {
            let mut bytes = [0; 512];
            let count = daemon.recv(&mut bytes).expect("it was sent");
            assert!(bytes[..count].ends_with(b" access - GET /"));
        }
        drop(daemon);
        let sent: Vec<u64> = (0..4).map(|_| syslog.write(LINE, Tick(0)).1).collect();
        assert_eq!(sent, [0, 1, 1, 1], "each is known with the next one");
    }

    #[test]
    fn what_is_no_such_socket_is_given_back() {
        let (_reader, writer) = rustix::pipe::pipe().expect("a pipe");
        assert!(Syslog::of(writer).is_err());
        let lonely = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        assert!(Syslog::of(lonely.into()).is_err());
    }
}
