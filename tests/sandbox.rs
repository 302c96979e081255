//! What the sandbox refuses, tried in processes of their own: this program runs itself again for
//! each case, and the case confines itself like weir does and then tries.
//!
//! It is its own runner: a case needs a process of one thread.

#![allow(unsafe_code, reason = "calls that weir itself never makes are tried")]

#[allow(dead_code, reason = "other tests use the rest")]
#[path = "e2e/harness/skip.rs"]
mod skip;

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::ptr;

use weir::sys::landlock::{self, Confined};
use weir::sys::privileges::{self, Keep};
use weir::sys::sandbox::{self, Filter, Profile};

/// Names the case to the process that is to run it.
const CASE: &str = "WEIR_SANDBOX_CASE";
/// A case that ends with this has found that the machine lacks what it tests.
const SKIPPED: u8 = 77;

type Outcome = Result<ExitCode, String>;

/// A name, what to run, and the calls whose refusal must then be in the log, once each.
type Case = (&'static str, fn() -> Outcome, &'static [&'static str]);

const CASES: &[Case] = &[
    ("worker_is_refused", worker_is_refused, WORKER_REFUSED),
    ("worker_works", worker_works, &[]),
    ("single_is_refused", single_is_refused, SINGLE_REFUSED),
    ("single_works", single_works, &[]),
    ("landlock", landlock_alone, &[]),
    ("signal_of_another", signal_of_another, &[]),
];

const WORKER_REFUSED: &[&str] = &[
    "openat",
    "execve",
    "clone",
    "bind",
    "listen",
    "socket",
    "ptrace",
    "mount",
    "init_module",
    "kill",
    "unlinkat",
    "mmap",
    "mprotect",
    "setuid",
    "memfd_create",
    "prctl",
    "prlimit64",
    "statx",
    "ioctl",
    "unshare",
    "setns",
    "bpf",
    "io_uring_setup",
    "process_vm_readv",
    "chroot",
];

const SINGLE_REFUSED: &[&str] = &[
    "execve",
    "clone",
    "socket",
    "ptrace",
    "mount",
    "init_module",
    "kill",
    "setuid",
    "unshare",
    "setns",
    "bpf",
    "io_uring_setup",
    "process_vm_readv",
    "chroot",
    "mkdirat",
    "linkat",
    "fchmodat",
];

fn main() -> ExitCode {
    let Ok(case) = std::env::var(CASE) else {
        return run_all();
    };
    let (_, run, _) = CASES
        .iter()
        .find(|(name, _, _)| *name == case)
        .expect("known");
    run().unwrap_or_else(|message| {
        println!("{message}");
        ExitCode::FAILURE
    })
}

/// Runs every case that the arguments ask for.
fn run_all() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mut filter = None;
    while let Some(word) = words.next() {
        // The one option that cargo's own runner takes a value for, and that is given to all.
        if word == "--test-threads" {
            words.next();
        } else if !word.starts_with('-') {
            filter = Some(word);
        }
    }
    let wanted = |name: &str| filter.as_ref().is_none_or(|word| name.contains(word));
    let mut failed = 0;
    for (name, _, told) in CASES.iter().filter(|(name, _, _)| wanted(name)) {
        let verdict = match run_case(name, told) {
            Ok(verdict) => verdict.to_owned(),
            Err(message) => {
                failed += 1;
                format!("FAILED: {message}")
            }
        };
        println!("test {name} ... {verdict}");
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_case(name: &str, told: &[&str]) -> Result<&'static str, String> {
    let output = Command::new(std::env::current_exe().expect("it runs"))
        .env(CASE, name)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => {}
        Some(code) if code == i32::from(SKIPPED) => {
            skip::skip_test(name, "not on this kernel");
            return Ok("skipped");
        }
        _ => return Err(format!("{}: {said}{log}", output.status)),
    }
    let line = |call: &&str| format!("weir: the sandbox refused the system call {call}");
    let mut expected: Vec<String> = told.iter().map(line).collect();
    let mut lines: Vec<String> = log.lines().map(str::to_owned).collect();
    expected.sort();
    lines.sort();
    if lines == expected {
        Ok("ok")
    } else {
        Err(format!(
            "the log should be {expected:#?}, and is {lines:#?}"
        ))
    }
}

/// As weir does it. False where the kernel has no filters.
fn confine(profile: Profile) -> bool {
    let (user, keep) = match profile {
        Profile::Worker => (None, Keep::Nothing),
        Profile::Single => (
            privileges::identity(None, None).expect("known"),
            Keep::BindService,
        ),
    };
    privileges::drop_to(user.as_ref(), keep).expect("given up");
    matches!(sandbox::enter(profile).filter, Filter::On)
}

/// A call with these arguments, twice: the errno of both.
fn attempt(call: libc::c_long, arguments: &[usize]) -> i32 {
    let argument = |n: usize| arguments.get(n).copied().unwrap_or(0);
    let once = || {
        // SAFETY: every pointer passed is null or lives in the caller; the calls are refused, and
        // one that is not fails on its null pointers or does what the test then reports.
        let result = unsafe {
            libc::syscall(
                call,
                argument(0),
                argument(1),
                argument(2),
                argument(3),
                argument(4),
                argument(5),
            )
        };
        if result == -1 {
            io::Error::last_os_error().raw_os_error().unwrap_or(0)
        } else {
            0
        }
    };
    let first = once();
    assert_eq!(first, once(), "call {call}");
    first
}

type Attempt<'a> = (&'a str, libc::c_long, Vec<usize>);

fn expect_refused(attempts: &[Attempt<'_>], told: &[&str]) -> Outcome {
    for (name, call, arguments) in attempts {
        let errno = attempt(*call, arguments);
        if errno != libc::EPERM {
            return Err(format!("{name}: {}", io::Error::from_raw_os_error(errno)));
        }
    }
    if let Some(missing) = told
        .iter()
        .find(|name| !attempts.iter().any(|a| a.0 == **name))
    {
        return Err(format!("{missing} is not tried"));
    }
    // Told that it does not exist, so that the C library tries `clone`.
    match attempt(libc::SYS_clone3, &[0, 88]) {
        libc::ENOSYS => Ok(ExitCode::SUCCESS),
        errno => Err(format!("clone3: {errno}")),
    }
}

fn flag(constant: libc::c_int) -> usize {
    usize::try_from(constant).expect("flags are positive")
}

/// Calls that neither profile may make.
fn refused_to_all(program: &CString) -> Vec<Attempt<'static>> {
    let path = program.as_ptr() as usize;
    let (own, parent) = (std::process::id() as usize, 1);
    let fork = flag(libc::SIGCHLD);
    vec![
        ("execve", libc::SYS_execve, vec![path, 0, 0]),
        ("clone", libc::SYS_clone, vec![fork]),
        (
            "clone",
            libc::SYS_clone,
            vec![flag(libc::CLONE_THREAD | libc::CLONE_NEWNET)],
        ),
        ("ptrace", libc::SYS_ptrace, vec![16, parent]),
        ("mount", libc::SYS_mount, vec![path, path]),
        ("init_module", libc::SYS_init_module, vec![0]),
        ("kill", libc::SYS_kill, vec![own, flag(libc::SIGCONT)]),
        ("setuid", libc::SYS_setuid, vec![0]),
        (
            "unshare",
            libc::SYS_unshare,
            vec![flag(libc::CLONE_NEWUSER)],
        ),
        ("setns", libc::SYS_setns, vec![0]),
        ("bpf", libc::SYS_bpf, vec![0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, vec![1]),
        ("process_vm_readv", libc::SYS_process_vm_readv, vec![own]),
        ("chroot", libc::SYS_chroot, vec![path]),
        socket(libc::AF_PACKET, libc::SOCK_RAW),
        socket(libc::AF_INET, libc::SOCK_RAW),
    ]
}

fn socket(domain: libc::c_int, kind: libc::c_int) -> Attempt<'static> {
    let kind = flag(kind | libc::SOCK_CLOEXEC);
    ("socket", libc::SYS_socket, vec![flag(domain), kind])
}

fn worker_is_refused() -> Outcome {
    let program = CString::new("/bin/true").expect("no zero inside");
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    let fd = flag(listener.as_raw_fd());
    if !confine(Profile::Worker) {
        return Ok(ExitCode::from(SKIPPED));
    }
    let path = program.as_ptr() as usize;
    let cwd = libc::AT_FDCWD.unsigned_abs() as usize;
    let cwd = cwd.wrapping_neg();
    // Its type differs between the C libraries.
    const TIOCSTI: usize = 0x5412;
    let exec = flag(libc::PROT_READ | libc::PROT_EXEC);
    let anonymous = flag(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let mut attempts = refused_to_all(&program);
    attempts.extend([
        ("openat", libc::SYS_openat, vec![cwd, path]),
        ("bind", libc::SYS_bind, vec![fd, 0, 0]),
        ("listen", libc::SYS_listen, vec![fd, 1]),
        ("unlinkat", libc::SYS_unlinkat, vec![cwd, 0]),
        (
            "mmap",
            libc::SYS_mmap,
            vec![0, 4096, exec, anonymous, usize::MAX],
        ),
        ("mprotect", libc::SYS_mprotect, vec![0, 4096, exec]),
        ("memfd_create", libc::SYS_memfd_create, vec![path]),
        (
            "prctl",
            libc::SYS_prctl,
            vec![flag(libc::PR_SET_DUMPABLE), 1],
        ),
        (
            "prlimit64",
            libc::SYS_prlimit64,
            vec![0, libc::RLIMIT_NOFILE as usize, path],
        ),
        ("statx", libc::SYS_statx, vec![cwd, path]),
        ("ioctl", libc::SYS_ioctl, vec![0, TIOCSTI]),
        socket(libc::AF_INET, libc::SOCK_DGRAM),
        socket(libc::AF_UNIX, libc::SOCK_DGRAM),
        socket(libc::AF_NETLINK, libc::SOCK_RAW),
    ]);
    expect_refused(&attempts, WORKER_REFUSED)
}

fn single_is_refused() -> Outcome {
    let program = CString::new("/bin/true").expect("no zero inside");
    if !confine(Profile::Single) {
        return Ok(ExitCode::from(SKIPPED));
    }
    let path = program.as_ptr() as usize;
    let mut attempts = refused_to_all(&program);
    attempts.extend([
        ("mkdirat", libc::SYS_mkdirat, vec![0, path]),
        ("linkat", libc::SYS_linkat, vec![0, path, 0, path, 0]),
        ("fchmodat", libc::SYS_fchmodat, vec![0, path]),
    ]);
    expect_refused(&attempts, SINGLE_REFUSED)
}

/// Echoes a word over a connection that both ends belong to.
fn echo(client: &mut TcpStream, listener: &TcpListener) -> io::Result<()> {
    let (mut server, _) = listener.accept()?;
    client.write_all(b"word")?;
    let mut word = [0; 4];
    server.read_exact(&mut word)?;
    assert_eq!(&word, b"word");
    Ok(())
}

fn worker_works() -> Outcome {
    let failed = |error: io::Error| error.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let mut handed_over = File::open("/proc/self/exe").map_err(failed)?;
    if !confine(Profile::Worker) {
        return Ok(ExitCode::from(SKIPPED));
    }
    let mut client = TcpStream::connect(address).map_err(failed)?;
    client.set_nodelay(true).map_err(failed)?;
    echo(&mut client, &listener).map_err(failed)?;
    let length = handed_over.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    handed_over.read_to_end(&mut bytes).map_err(failed)?;
    assert_eq!(u64::try_from(bytes.len()), Ok(length));
    // Memory, large and small, and seeds.
    let many: HashMap<usize, Vec<u8>> = (1..64).map(|n| (n, vec![1; n << 14])).collect();
    assert_eq!(many[&63].len(), 63 << 14);
    Ok(ExitCode::SUCCESS)
}

fn single_works() -> Outcome {
    let failed = |error: io::Error| error.to_string();
    let path = std::env::temp_dir().join(format!("weir-sandbox-{}", std::process::id()));
    if !confine(Profile::Single) {
        return Ok(ExitCode::from(SKIPPED));
    }
    fs::write(&path, "text").map_err(failed)?;
    assert_eq!(fs::read_to_string(&path).map_err(failed)?, "text");
    fs::remove_file(&path).map_err(failed)?;
    let lookup = || ("localhost", 1).to_socket_addrs().map(Iterator::count);
    let found = std::thread::spawn(lookup).join().expect("no panic");
    assert!(found.map_err(failed)? > 0);
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let mut client = TcpStream::connect(address).map_err(failed)?;
    echo(&mut client, &listener).map_err(failed)?;
    let question = UdpSocket::bind("127.0.0.1:0").map_err(failed)?;
    question.send_to(b"?", address).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// What Landlock holds back by itself, were the filter not there.
fn landlock_alone() -> Outcome {
    let failed = |error: io::Error| error.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let path = std::env::temp_dir().join(format!("weir-landlock-{}", std::process::id()));
    privileges::drop_to(None, Keep::Nothing).expect("given up");
    let ports = match landlock::confine() {
        Ok(Confined::FilesAndPorts) => true,
        Ok(Confined::Files) => false,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            return Ok(ExitCode::from(SKIPPED));
        }
        Err(error) => return Err(error.to_string()),
    };
    let denied = |what: &str, error: Option<io::Error>| match error {
        Some(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => Err(format!("{what}: {other:?}")),
    };
    denied("read", File::open("/etc/passwd").err())?;
    denied("list", fs::read_dir("/").err())?;
    denied("write", File::create(&path).err())?;
    denied("run", Command::new("/bin/true").spawn().err())?;
    if ports {
        denied("bind", TcpListener::bind("127.0.0.1:0").err())?;
    }
    let mut client = TcpStream::connect(address).map_err(failed)?;
    echo(&mut client, &listener).map_err(failed)?;
    UnixStream::pair().map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

/// A SIGSYS that some process sends is none of the filter's, and harms nobody.
fn signal_of_another() -> Outcome {
    if !confine(Profile::Single) {
        return Ok(ExitCode::from(SKIPPED));
    }
    // SAFETY: it sends a signal to this thread, which handles it.
    let sent = unsafe { libc::raise(libc::SIGSYS) };
    // SAFETY: only asks whether there is a handler.
    let asked = unsafe { libc::sigaction(libc::SIGSYS, ptr::null(), ptr::null_mut()) };
    if (sent, asked) == (0, 0) {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(format!("{sent} {asked}"))
    }
}
