//! Child processes: starting them with one descriptor, hearing what becomes of them, and turning
//! this process into another program.

#![allow(
    unsafe_code,
    reason = "execv, getauxval and taking over inherited descriptors have no safe form"
)]

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd, retry_on_intr};
use rustix::process::{
    Pid, PidfdFlags, Signal as KernelSignal, WaitOptions, kill_process, pidfd_open,
    test_kill_process, wait,
};

/// The program that runs, even after its file was replaced.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// By which name to run this program once more: what is at the path that it was started by where
/// /proc is not mounted.
#[must_use]
pub fn own_program() -> PathBuf {
    let own = Path::new(OWN_PROGRAM);
    if own.exists() {
        return own.to_owned();
    }
    // Not by rustix: it looks for getauxval(3) among dynamic symbols; a static program has none.
    // SAFETY: it reads what the kernel has told this process.
    let told = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    if told.is_null() {
        return own.to_owned();
    }
    // SAFETY: the kernel has laid a string there, which stays as long as the process.
    let told = unsafe { CStr::from_ptr(told) };
    let path = Path::new(OsStr::from_bytes(told.to_bytes()));
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// What has become of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitStatus {
    /// It has ended with this status, and is gone.
    Exited(i32),
    /// This signal has ended it, and it is gone.
    Killed(i32),
    /// It is stopped, and there.
    Stopped,
    /// It goes on.
    Continued,
}

/// Starts a program in a process group of its own, so that what is typed at a terminal reaches
/// only us. Its standard input is `input`, or nothing; no other descriptor of ours but standard
/// output and error. The child's id.
///
/// # Errors
/// When it cannot be started.
pub fn spawn(program: &Path, arguments: &[OsString], input: Option<OwnedFd>) -> io::Result<u32> {
    let child = Command::new(program)
        .arg0("weir")
        .args(arguments)
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .process_group(0)
        .spawn()?;
    // Children are waited for by `next_status`.
    Ok(child.id())
}

/// The standard input of this process, for whoever it was started for.
///
/// # Errors
/// When there is none.
pub fn input() -> io::Result<OwnedFd> {
    io::stdin().as_fd().try_clone_to_owned()
}

/// The next change in the life of a child, and whose. None when there is none for now.
#[must_use]
pub fn next_status() -> Option<(u32, WaitStatus)> {
    let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
    loop {
        let (pid, status) = rustix::io::retry_on_intr(|| wait(options)).ok()??;
        let status = if let Some(code) = status.exit_status() {
            WaitStatus::Exited(code)
        } else if let Some(signal) = status.terminating_signal() {
            WaitStatus::Killed(signal)
        } else if status.stopped() {
            WaitStatus::Stopped
        } else if status.continued() {
            WaitStatus::Continued
        } else {
            continue;
        };
        return Some((pid.as_raw_nonzero().get().cast_unsigned(), status));
    }
}

/// Which signal to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the signal of that name")]
pub enum Send {
    Continue,
    Interrupt,
    Kill,
    Terminate,
}

/// Sends a signal.
///
/// # Errors
/// `NotFound` when there is no such process; else when it is not ours to signal.
pub fn send(pid: u32, signal: Send) -> io::Result<()> {
    let signal = match signal {
        Send::Continue => KernelSignal::CONT,
        Send::Interrupt => KernelSignal::INT,
        Send::Kill => KernelSignal::KILL,
        Send::Terminate => KernelSignal::TERM,
    };
    let pid = kernel_id(pid).ok_or(io::ErrorKind::NotFound)?;
    kill_process(pid, signal).map_err(not_found_if_gone)
}

/// Whether a process of that id runs. One that has ended keeps its id until its parent has waited
/// for it, which some never do.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    use io::ErrorKind::{InvalidInput, NotFound};
    match Handle::open(pid) {
        Ok(process) => !process.wait_end(Some(Duration::ZERO)).unwrap_or(false),
        // Nobody's, or that of a thread by now.
        Err(error) if matches!(error.kind(), NotFound | InvalidInput) => false,
        // No descriptor is left, a filter forbids it, or Linux is older than 5.3: whether the id is
        // in use.
        Err(_) => kernel_id(pid).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH)),
    }
}

/// Any process, held by a descriptor: that stays its own when the id goes to another one
/// (pidfd_open(2)).
#[derive(Debug)]
pub struct Handle(OwnedFd);

impl Handle {
    /// Finds it.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let pid = kernel_id(pid).ok_or(io::ErrorKind::NotFound)?;
        let opened = pidfd_open(pid, PidfdFlags::empty());
        opened.map(Self).map_err(not_found_if_gone)
    }

    /// Waits for its end, for as long as it takes or up to a limit; whether it came.
    ///
    /// # Errors
    /// When the kernel cannot wait.
    pub fn wait_end(&self, limit: Option<Duration>) -> io::Result<bool> {
        let limit = limit.map(Timespec::try_from).transpose();
        let limit = limit.map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
        Ok(retry_on_intr(|| poll(&mut fds, limit.as_ref()))? > 0)
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn kernel_id(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn not_found_if_gone(errno: Errno) -> io::Error {
    match errno {
        Errno::SRCH => io::ErrorKind::NotFound.into(),
        other => other.into(),
    }
}

/// Becomes another program, with the same process id, the same signals held back, only those
/// descriptors that [`keep_over_exec`] was called for, and these variables besides the
/// environment.
///
/// # Errors
/// Returns only when that fails; then nothing has changed.
pub fn become_program(
    program: &Path,
    arguments: &[OsString],
    variables: &[(&str, String)],
) -> io::Error {
    let text = |text: &OsStr| CString::new(text.as_bytes());
    let words: Result<Vec<CString>, _> = std::iter::once(text(program.as_os_str()))
        .chain(arguments.iter().map(|argument| text(argument)))
        .collect();
    let variable = |name: &OsStr, value: &OsStr| {
        let line = [name.as_bytes(), b"=", value.as_bytes()].concat();
        CString::new(line)
    };
    let own = std::env::vars_os().map(|(name, value)| variable(&name, &value));
    let added = variables
        .iter()
        .map(|(name, value)| variable(OsStr::new(name), OsStr::new(value)));
    let environment: Result<Vec<CString>, _> = own.chain(added).collect();
    let (Ok(words), Ok(environment)) = (words, environment) else {
        return io::ErrorKind::InvalidInput.into();
    };
    let pointers = |texts: &[CString]| {
        let texts = texts.iter().map(|text| text.as_ptr());
        texts.chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, envp) = (pointers(&words), pointers(&environment));
    // SAFETY: every pointer is to a string that ends with zero and lives through the call, and
    // both lists end with a null pointer.
    unsafe { libc::execve(argv[0], argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Whether the descriptor outlives [`become_program`].
///
/// # Errors
/// When the kernel does not know it.
pub fn keep_over_exec(fd: impl AsFd, keep: bool) -> io::Result<()> {
    let flags = if keep {
        FdFlags::empty()
    } else {
        FdFlags::CLOEXEC
    };
    Ok(fcntl_setfd(fd, flags)?)
}

/// Takes over a descriptor that the program before left open, by its number, and makes it
/// close-on-exec. To be called once for each number, before anything else opens descriptors.
///
/// # Errors
/// When there is none of that number, or it was not left for us: it is close-on-exec.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    if number <= libc::STDERR_FILENO {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the borrow ends before the descriptor gets an owner, and the kernel refuses a
    // number that is not open.
    let flags = fcntl_getfd(unsafe { std::os::fd::BorrowedFd::borrow_raw(number) })?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is open, and whatever this process opens is close-on-exec: so it is not ours
    // but left by the program before, and by contract nobody else takes it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

/// The path of this program, as it is to be run again once its file has been replaced.
///
/// # Errors
/// When the kernel does not say.
pub fn program_path() -> io::Result<PathBuf> {
    const GONE: &[u8] = b" (deleted)";
    let path = match std::fs::read_link(OWN_PROGRAM) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => own_program(),
        told => told?,
    };
    let path = path.into_os_string().into_vec();
    let path = path
        .strip_suffix(GONE)
        .map_or_else(|| path.clone(), <[u8]>::to_vec);
    Ok(OsString::from_vec(path).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn only_a_descriptor_that_was_left_open_is_taken_over() {
        let (read_end, _write_end) = rustix::pipe::pipe().expect("a pipe");
        keep_over_exec(&read_end, false).expect("open");
        assert!(take_inherited(read_end.as_raw_fd()).is_err(), "ours");
        assert!(take_inherited(1_000_000).is_err(), "nobody's");
        assert!(take_inherited(1).is_err(), "standard output");
        let left = read_end.try_clone().expect("a duplicate");
        keep_over_exec(&left, true).expect("open");
        let number = std::os::fd::IntoRawFd::into_raw_fd(left);
        let taken = take_inherited(number).expect("left for us");
        assert!(
            fcntl_getfd(&taken)
                .expect("open")
                .contains(FdFlags::CLOEXEC)
        );
    }

    #[test]
    fn who_has_ended_and_is_not_waited_for_does_not_run() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("it starts");
        let pid = child.id();
        assert!(is_running(pid));
        drop(child.stdin.take());
        let process = Handle::open(pid).expect("nobody has waited for it");
        assert!(process.wait_end(None).expect("it can be waited for"));
        assert!(!is_running(pid), "its id is all that is left");
        child.wait().expect("it has ended");
        assert!(!is_running(pid), "not even that");
        assert!(is_running(std::process::id()));
    }

    #[test]
    fn a_program_that_is_not_there_leaves_us_as_we_are() {
        let error = become_program(Path::new("/nowhere/weir"), &[], &[]);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
