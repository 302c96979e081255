//! What the processes of a machine tell each other of a backend, each as one word: what its
//! probes have found and why, and how long failures of real traffic keep it out.

use std::fmt;
use std::io::ErrorKind;

use crate::core::fault::Fault;
use crate::core::health::Verdict;
use crate::core::http::head::HeadError;
use crate::core::time::Tick;

/// What probes have found of a backend so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether it takes traffic.
    pub verdict: Verdict,
    /// Probe results in a row that speak against the verdict. At most 65,535.
    pub(crate) contrary: u32,
    /// Probe results in a row that led to the verdict; 0 where it was assumed. At most 255.
    pub(crate) grounds: u32,
    /// Why the last probe failed; none when it passed.
    pub reason: Option<Reason>,
}

/// An ejection by some process, which holds for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EjectedUntil {
    /// When it ends. At most 2^48 - 1.
    pub until: Tick,
    /// How many ejections in a row it makes, for the length of the next. At most 65,535.
    pub count: u32,
}

/// Why a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The kernel's error is none of those below.
    Other,
    /// No such socket.
    NotFound,
    /// No result in time.
    TimedOut,
    /// Nobody listens there.
    Refused,
    /// The connection was reset.
    Reset,
    /// No way to the host.
    HostUnreachable,
    /// No way to the network.
    NetworkUnreachable,
    /// Not allowed to connect.
    NotPermitted,
    /// The connection was closed before it was established, or while the probe asked.
    Closed,
    /// The connection was closed before there was an answer.
    ClosedEarly,
    /// The answer is something else.
    NotHttp,
    /// Its name has no address.
    Unresolved,
    /// No local address or port is free for it.
    NoLocalPort,
    /// As many connections wait to be accepted there as it has room for.
    QueueFull,
    /// The kernel has no memory for it.
    NoMemory,
    /// The network is down.
    NetworkDown,
    /// Its end came without the mark that its layer makes (close_notify).
    Unmarked,
    /// The head of the answer breaks this rule.
    BadHead(HeadError),
    /// TLS has failed.
    Tls(Fault),
    /// The answer has a status that does not count as healthy.
    Status(u16),
}

impl Finding {
    /// What is in a word; none when no probe has ended yet.
    #[must_use]
    pub fn read(word: u64) -> Option<Self> {
        let verdict = match word & 0b11 {
            0b01 => Verdict::Down,
            0b11 => Verdict::Up,
            _ => return None,
        };
        Some(Self {
            verdict,
            contrary: u32::from(bits16(word >> 32)),
            grounds: u32::from(bits16(word >> GROUNDS_AT & 0xff)),
            reason: Reason::read(bits16(word >> 16 & 0xff), bits16(word >> 48)),
        })
    }

    /// The word, which is never 0.
    #[must_use]
    pub(crate) fn word(self) -> u64 {
        let verdict = match self.verdict {
            Verdict::Down => 0b01,
            Verdict::Up => 0b11,
        };
        let (code, status) = Reason::code_of(self.reason);
        let contrary = u64::from(self.contrary.min(0xffff));
        let grounds = u64::from(self.grounds.min(0xff)) << GROUNDS_AT;
        verdict | grounds | u64::from(code) << 16 | contrary << 32 | u64::from(status) << 48
    }
}

impl EjectedUntil {
    /// What is in a word; none when nobody has ejected it.
    #[must_use]
    pub fn read(word: u64) -> Option<Self> {
        (word != 0).then_some(Self {
            until: Tick(word & UNTIL_MAX),
            count: u32::from(bits16(word >> UNTIL_BITS)),
        })
    }

    /// The word.
    #[must_use]
    pub fn word(self) -> u64 {
        u64::from(self.count.min(0xffff)) << UNTIL_BITS | self.until.0.min(UNTIL_MAX)
    }
}

impl Reason {
    /// The reason for an error of the network.
    #[must_use]
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the kinds of errors are not ours"
    )]
    pub(crate) fn of(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::NotFound => Self::NotFound,
            ErrorKind::TimedOut => Self::TimedOut,
            ErrorKind::ConnectionRefused => Self::Refused,
            ErrorKind::ConnectionReset => Self::Reset,
            ErrorKind::HostUnreachable => Self::HostUnreachable,
            ErrorKind::NetworkUnreachable => Self::NetworkUnreachable,
            ErrorKind::PermissionDenied => Self::NotPermitted,
            ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => Self::Closed,
            ErrorKind::AddrNotAvailable => Self::NoLocalPort,
            ErrorKind::WouldBlock => Self::QueueFull,
            ErrorKind::OutOfMemory => Self::NoMemory,
            ErrorKind::NetworkDown => Self::NetworkDown,
            ErrorKind::UnexpectedEof => Self::Unmarked,
            _ => Self::Other,
        }
    }

    /// The number of a reason and a status; 0 where there is none.
    pub(crate) fn code_of(reason: Option<Self>) -> (u8, u16) {
        reason.map_or((0, 0), Self::code)
    }

    /// Its number, and a status.
    fn code(self) -> (u8, u16) {
        if let Self::Status(status) = self {
            return (STATUS_CODE, status);
        }
        if let Self::Tls(fault) = self {
            return (TLS_CODE, fault.number());
        }
        if let Self::BadHead(error) = self {
            let place = HeadError::ALL.iter().position(|&known| known == error);
            let place = place.and_then(|place| u16::try_from(place).ok());
            return (BAD_HEAD_CODE, place.unwrap_or(0));
        }
        let place = REASONS.iter().position(|&reason| reason == self);
        let code = place.and_then(|place| u8::try_from(place + 1).ok());
        (code.unwrap_or(1), 0)
    }

    /// The reason of this number; one that is not known is some other one.
    pub(crate) fn read(code: u16, status: u16) -> Option<Self> {
        match code {
            0 => None,
            code if code == u16::from(STATUS_CODE) => Some(Self::Status(status)),
            code if code == u16::from(TLS_CODE) => Some(Self::Tls(Fault::read(status))),
            code if code == u16::from(BAD_HEAD_CODE) => {
                let known = HeadError::ALL.get(usize::from(status));
                Some(known.map_or(Self::NotHttp, |&error| Self::BadHead(error)))
            }
            code => {
                let known = REASONS.get(usize::from(code) - 1);
                Some(known.copied().unwrap_or(Self::Other))
            }
        }
    }
}

impl Reason {
    /// The reason for an answer whose head breaks a rule. Without a status line it is no HTTP.
    #[must_use]
    pub(crate) const fn of_head(error: HeadError) -> Self {
        if matches!(error, HeadError::StartLine) {
            Self::NotHttp
        } else {
            Self::BadHead(error)
        }
    }

    /// The kernel's error (errno(3)); none where it may have been none, or one of several.
    #[must_use]
    pub const fn errno(self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound => "ENOENT",
            Self::Refused => "ECONNREFUSED",
            Self::Reset => "ECONNRESET",
            Self::HostUnreachable => "EHOSTUNREACH",
            Self::NetworkUnreachable => "ENETUNREACH",
            Self::NetworkDown => "ENETDOWN",
            Self::NoLocalPort => "EADDRNOTAVAIL",
            Self::QueueFull => "EAGAIN",
            Self::NoMemory => "ENOMEM",
            Self::NotPermitted
            | Self::Other
            | Self::Unmarked
            | Self::TimedOut
            | Self::Closed
            | Self::ClosedEarly
            | Self::NotHttp
            | Self::Unresolved
            | Self::BadHead(_)
            | Self::Tls(_)
            | Self::Status(_) => return None,
        })
    }

    /// The reason in words; none where they depend on more than its kind.
    #[must_use]
    pub const fn words(self) -> Option<&'static str> {
        Some(match self {
            Self::Other => "an error of the system",
            Self::NotFound => "there is no such socket",
            Self::TimedOut => "timed out",
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::HostUnreachable => "host unreachable",
            Self::NetworkUnreachable => "network unreachable",
            Self::NotPermitted => "permission denied",
            Self::Closed => "connection closed",
            Self::ClosedEarly => "closed before it answered",
            Self::NotHttp => "the answer is not HTTP",
            Self::Unresolved => "its name does not resolve",
            Self::NoLocalPort => "no local address or port is free",
            Self::QueueFull => "its queue of new connections is full",
            Self::NoMemory => "the kernel has no memory",
            Self::NetworkDown => "network down",
            Self::Unmarked => "ended without close_notify",
            Self::Tls(fault) => fault.words(),
            Self::BadHead(_) | Self::Status(_) => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.words()) {
            (Self::Status(status), _) => write!(f, "HTTP status {status}"),
            (Self::Tls(fault), _) => write!(f, "TLS: {}", fault.words()),
            (Self::BadHead(error), _) => write!(f, "the answer cannot be read: {error}"),
            (_, words) => f.write_str(words.unwrap_or_default()),
        }
    }
}

/// In the order of their numbers, from 1.
const REASONS: [Reason; 17] = [
    Reason::Other,
    Reason::NotFound,
    Reason::TimedOut,
    Reason::Refused,
    Reason::Reset,
    Reason::HostUnreachable,
    Reason::NetworkUnreachable,
    Reason::NotPermitted,
    Reason::Closed,
    Reason::ClosedEarly,
    Reason::NotHttp,
    Reason::Unresolved,
    Reason::NoLocalPort,
    Reason::QueueFull,
    Reason::NoMemory,
    Reason::NetworkDown,
    Reason::Unmarked,
];
const STATUS_CODE: u8 = 0xff;
const BAD_HEAD_CODE: u8 = 0xfe;
const TLS_CODE: u8 = 0xfd;

const GROUNDS_AT: u32 = 2;
const UNTIL_BITS: u32 = 48;
const UNTIL_MAX: u64 = (1 << UNTIL_BITS) - 1;

fn bits16(word: u64) -> u16 {
    u16::try_from(word & 0xffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_read_as_it_was_written() {
        assert_eq!(Finding::read(0), None);
        let reasons = REASONS
            .into_iter()
            .chain([0, 404, u16::MAX].map(Reason::Status))
            .chain(HeadError::ALL.map(Reason::BadHead))
            .chain(Fault::all().map(Reason::Tls));
        for reason in reasons.map(Some).chain([None]) {
            for verdict in [Verdict::Up, Verdict::Down] {
                for (contrary, grounds) in [(0, 0xff), (1, 0), (0xffff, 3)] {
                    let finding = Finding {
                        verdict,
                        contrary,
                        grounds,
                        reason,
                    };
                    assert_ne!(finding.word(), 0);
                    assert_eq!(Finding::read(finding.word()), Some(finding));
                }
            }
        }
    }

    #[test]
    fn a_reason_of_a_later_version_is_some_reason() {
        assert_eq!(Reason::read(200, 0), Some(Reason::Other));
        let unknown = Reason::read(u16::from(BAD_HEAD_CODE), 999);
        assert_eq!(unknown, Some(Reason::NotHttp));
    }

    #[test]
    fn an_ejection_is_read_as_it_was_written() {
        assert_eq!(EjectedUntil::read(0), None);
        for (until, count) in [(1, 1), (UNTIL_MAX, 0xffff), (77, 2)] {
            let until = Tick(until);
            let ejected = EjectedUntil { until, count };
            assert_eq!(EjectedUntil::read(ejected.word()), Some(ejected));
        }
    }

    #[test]
    fn reasons_of_the_network_read_as_the_system_words_them() {
        for kind in [
            ErrorKind::TimedOut,
            ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset,
            ErrorKind::HostUnreachable,
            ErrorKind::NetworkUnreachable,
            ErrorKind::PermissionDenied,
            ErrorKind::NetworkDown,
        ] {
            assert_eq!(Reason::of(kind).to_string(), kind.to_string());
        }
        let unmarked = Reason::of(ErrorKind::UnexpectedEof);
        assert_eq!(unmarked.to_string(), "ended without close_notify");
        assert_eq!(
            Reason::read(u16::from(Reason::code_of(Some(unmarked)).0), 0),
            Some(unmarked)
        );
    }
}
