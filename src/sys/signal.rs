//! Signals as a descriptor to read (signalfd(2)): they arrive between two turns of the loop, like
//! everything else, and no code ever runs in a handler.
//!
//! `unsafe` is needed because the calls here have no safe form in the crates weir uses.

#![allow(
    unsafe_code,
    reason = "sigset_t and signalfd are only reachable through libc"
)]

use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use rustix::process::{getpid, kill_process};

/// A signal that weir acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hangup,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGCHLD.
    Child,
    /// SIGTSTP; for who has the terminal.
    Stop,
}

const SIGNALS: [(libc::c_int, Signal); 7] = [
    (libc::SIGTERM, Signal::Terminate),
    (libc::SIGINT, Signal::Interrupt),
    (libc::SIGQUIT, Signal::Quit),
    (libc::SIGHUP, Signal::Hangup),
    (libc::SIGUSR1, Signal::User1),
    (libc::SIGUSR2, Signal::User2),
    (libc::SIGCHLD, Signal::Child),
];

/// Signals that were sent to this process and wait to be read.
#[derive(Debug)]
pub struct Signals(OwnedFd);

/// What who shows something at a terminal acts on besides.
const AT_TERMINAL: (libc::c_int, Signal) = (libc::SIGTSTP, Signal::Stop);

impl Signals {
    /// Holds the signals of [`Signal`] back from the calling thread, and opens the descriptor
    /// they are read from.
    ///
    /// To be called before any thread is started: a thread that does not hold them back would
    /// take them, with their default action. They stay held back when this is dropped, and in
    /// child processes until these decide otherwise.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn open() -> io::Result<Self> {
        Self::of(&signal_set(SIGNALS.iter()))
    }

    /// The same with SIGTSTP, which otherwise stops a process at once.
    ///
    /// # Errors
    /// When the kernel gives no descriptor.
    pub fn open_at_terminal() -> io::Result<Self> {
        Self::of(&signal_set(SIGNALS.iter().chain([&AT_TERMINAL])))
    }

    /// Stops this process until somebody lets it go on, as SIGTSTP does where it is not held back:
    /// the kernel does not stop it where no shell is left that could let it go on.
    ///
    /// # Errors
    /// When the kernel refuses the signal.
    pub fn stop(&self) -> io::Result<()> {
        kill_process(getpid(), rustix::process::Signal::TSTP)?;
        let set = signal_set([&AT_TERMINAL].into_iter());
        for how in [libc::SIG_UNBLOCK, libc::SIG_BLOCK] {
            mask(how, &set)?;
        }
        Ok(())
    }

    fn of(set: &libc::sigset_t) -> io::Result<Self> {
        mask(libc::SIG_BLOCK, set)?;
        // Where whoever started us ignored it, the ends of children would not be told (wait(2)).
        // SAFETY: the default action runs no code of ours.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        // SAFETY: `set` is initialised and lives through the call; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd has just opened `fd`, and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
}

impl Iterator for Signals {
    type Item = Signal;

    /// The next signal, or none when nothing waits. Several of one kind may arrive as one.
    fn next(&mut self) -> Option<Signal> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut record)).ok()?;
        // Whole records are read or none (signalfd(2)).
        let word = |at: usize| {
            let bytes = record[..count].get(at..)?.first_chunk()?;
            Some(u32::from_ne_bytes(*bytes))
        };
        let number = word(mem::offset_of!(libc::signalfd_siginfo, ssi_signo))?;
        let number = libc::c_int::try_from(number).ok()?;
        let mut all = SIGNALS.iter().chain([&AT_TERMINAL]);
        all.find(|(known, _)| *known == number).map(|it| it.1)
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn mask(how: libc::c_int, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised and lives through the call; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn signal_set<'a>(signals: impl Iterator<Item = &'a (libc::c_int, Signal)>) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given, and cannot fail on a valid pointer.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for (number, _) in signals {
        // SAFETY: `set` is initialised, and every number is a signal of this platform.
        unsafe { libc::sigaddset(&raw mut set, *number) };
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_read_once_and_then_nothing_waits() {
        let mut signals = Signals::open().expect("signalfd");
        assert_eq!(signals.next(), None);
        // SAFETY: raise only sends a signal, which this thread holds back since `open`.
        unsafe { libc::raise(libc::SIGUSR1) };
        assert_eq!(signals.next(), Some(Signal::User1));
        assert_eq!(signals.next(), None);
    }
}
