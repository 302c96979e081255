//! Telling the service manager how it goes (sd_notify(3)): datagrams to the Unix socket that the
//! environment names. Without a manager every message goes nowhere.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send, socket_with,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::clock::monotonic_us;
use super::environment::take;

/// The longest text of a status, in bytes.
const STATUS_BYTES_MAX: usize = 512;

/// A line to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<OwnedFd>,
    /// As the environment had it.
    address: Option<String>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// The manager that started this process. Takes `NOTIFY_SOCKET`, `WATCHDOG_USEC` and
    /// `WATCHDOG_PID` out of the environment, so that no child speaks in this one's name; to be
    /// called before any thread is started.
    ///
    /// # Errors
    /// When there should be a manager and it cannot be reached.
    pub fn from_environment() -> io::Result<Self> {
        let address = take("NOTIFY_SOCKET");
        let watchdog = (take("WATCHDOG_USEC"), take("WATCHDOG_PID"));
        let Some(address) = address else {
            return Ok(Self::default());
        };
        Ok(Self {
            socket: Some(open(&address)?),
            address: Some(address),
            watchdog: watchdog_of(watchdog.0.as_deref(), watchdog.1.as_deref()),
        })
    }

    /// What a successor must find in its environment that takes the place of this process.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = Vec::new();
        if let Some(address) = &self.address {
            variables.push(("NOTIFY_SOCKET", address.clone()));
        }
        if let Some(watchdog) = self.watchdog {
            variables.push(("WATCHDOG_USEC", watchdog.as_micros().to_string()));
        }
        variables
    }

    /// How often [`Notify::alive`] must be called: twice as often as the manager asks for. None
    /// when it does not.
    #[must_use]
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|watchdog| watchdog / 2)
    }

    /// Started, or done with a reload, whatever came of it.
    ///
    /// # Errors
    /// The message did not get there; so with the other messages.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        let pid = std::process::id();
        let status = line(status);
        self.send(&format!("READY=1\nMAINPID={pid}\nSTATUS={status}\n"))
    }

    /// A reload has begun. [`Notify::ready`] must follow.
    ///
    /// # Errors
    /// As [`Notify::ready`].
    pub fn reloading(&self) -> io::Result<()> {
        let now_us = monotonic_us();
        self.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reloading\n"
        ))
    }

    /// The end has begun.
    ///
    /// # Errors
    /// As [`Notify::ready`].
    pub fn stopping(&self, status: &str) -> io::Result<()> {
        self.send(&format!("STOPPING=1\nSTATUS={}\n", line(status)))
    }

    /// Feeds the watchdog.
    ///
    /// # Errors
    /// As [`Notify::ready`].
    pub fn alive(&self) -> io::Result<()> {
        self.send("WATCHDOG=1\n")
    }

    /// Never waits: a manager that does not read loses messages.
    fn send(&self, message: &str) -> io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        send(socket, message.as_bytes(), SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// Fires at equal intervals, as a descriptor that can be watched.
#[derive(Debug)]
pub struct Beat(OwnedFd);

impl Beat {
    /// Fires for the first time after one interval.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn every(interval: Duration) -> io::Result<Self> {
        let this = Self::stopped()?;
        this.set(interval)?;
        Ok(this)
    }

    /// Fires once there is an interval.
    ///
    /// # Errors
    /// When the kernel gives no timer.
    pub fn stopped() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Fires at that interval from now on, for the first time after one; at 0 no more.
    ///
    /// # Errors
    /// When the kernel cannot count so far.
    pub fn set(&self, interval: Duration) -> io::Result<()> {
        let interval = Timespec::try_from(interval).map_err(io::Error::other)?;
        let times = Itimerspec {
            it_interval: interval,
            it_value: interval,
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &times)?;
        Ok(())
    }

    /// Whether it has fired since the last call.
    #[must_use]
    pub fn take(&self) -> bool {
        let mut count = [0; 8];
        rustix::io::read(&self.0, &mut count).is_ok()
    }
}

impl AsFd for Beat {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Connected once: in another root folder the path would be gone.
fn open(address: &str) -> io::Result<OwnedFd> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes())?,
        None if address.starts_with('/') => SocketAddrUnix::new(address)?,
        None => return Err(Errno::AFNOSUPPORT.into()),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// The pid is that of the process that must feed the watchdog; without it any may.
fn watchdog_of(microseconds: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let is_ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let microseconds = microseconds?.parse().ok().filter(|time| *time > 0)?;
    is_ours.then(|| Duration::from_micros(microseconds))
}

/// What follows a line feed would be read as another assignment.
fn line(status: &str) -> String {
    let mut line = status.replace(['\n', '\r'], " ");
    let mut end = line.len().min(STATUS_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    line.truncate(end);
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_for_whom_it_names() {
        let own = std::process::id().to_string();
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (time, pid, expected) in [
            (Some("2000000"), Some(own.as_str()), seconds(2)),
            (Some("2000000"), None, seconds(2)),
            (Some("2000000"), Some("1"), None),
            (Some("0"), None, None),
            (Some("soon"), None, None),
            (None, None, None),
        ] {
            assert_eq!(watchdog_of(time, pid), expected, "{time:?} {pid:?}");
        }
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(line("a\nREADY=1"), "a READY=1");
        let long = line(&"\u{e4}".repeat(1_000));
        assert!(long.len() <= STATUS_BYTES_MAX && !long.is_empty());
    }

    #[test]
    fn an_address_that_is_none_is_an_error() {
        assert!(open("vsock:2:1234").is_err());
        assert!(open("/nonexistent/notify").is_err());
    }

    #[test]
    fn without_a_manager_messages_go_nowhere() {
        let notify = Notify::default();
        assert!(notify.ready("x").is_ok() && notify.alive().is_ok());
        assert_eq!(notify.watchdog_interval(), None);
        assert_eq!(notify.environment(), []);
    }
}
