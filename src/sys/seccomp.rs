//! A filter on system calls (seccomp(2)): what a serving process does not need fails with EPERM,
//! and is named in the log once.
//!
//! The lists come from tracing the release binary through its end-to-end tests, plus what the C
//! libraries use for the same on other machines and versions (each group says what it is for).
//!
//! The kernel is asked to send SIGSYS for a refused call, and the handler lets the call fail and
//! writes the line. The alternative, a descriptor on which another process answers for each call
//! (`SECCOMP_RET_USER_NOTIF`), needs that other process alive: weir on its own has none, and
//! workers outlive their supervisor.
//!
//! A call that is allowed whatever its arguments costs no run of the filter: the kernel (since
//! Linux 5.11) finds out when the filter is installed, and keeps a bit for each call. So the
//! calls of the hot path have no conditions. Measured on Linux 6.18: 10 to 20 ns for each of them,
//! of about 90; 75 ns for a call with conditions, such as socket(2).

#![allow(
    unsafe_code,
    reason = "a signal handler with access to the interrupted registers"
)]

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{c_int, c_long, c_void};
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use super::sandbox::Profile;
use super::stderr::write_ready;
use super::syscalls;

/// Installs the filter, for this process and for good; needs a process of one thread, whose
/// later threads inherit it. Sets `no_new_privs`.
///
/// # Errors
/// What the kernel reports when it has no such filters.
pub(super) fn filter(profile: Profile) -> io::Result<()> {
    let programs = [answer_clone3(), allow_list(profile)];
    let [clone3, list] = programs.map(|program| program.map_err(io::Error::other));
    let (clone3, list) = (clone3?, list?);
    handle_refusals()?;
    for program in [clone3, list] {
        seccompiler::apply_filter(&program).map_err(|error| match error {
            Error::Prctl(error) | Error::Seccomp(error) => error,
            Error::Backend(_) | Error::EmptyFilter | Error::ThreadSync(_) => {
                io::Error::other(error)
            }
        })?;
    }
    Ok(())
}

/// Allowed with any arguments, to every process.
const ANY: &[c_long] = &[
    // The data path: sockets, pipes and the event queue.
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_close,
    libc::SYS_shutdown,
    libc::SYS_splice,
    libc::SYS_pipe2,
    libc::SYS_fcntl,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_sendmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    // Signals by descriptor, wake-ups, the log, orders and descriptors from a supervisor.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_ppoll,
    libc::SYS_recvmsg,
    libc::SYS_timerfd_settime,
    // A configuration that is handed over as a descriptor.
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pread64,
    // Memory of the allocator; what makes memory executable is not among them.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Time, where the kernel offers no clock in user space; locks and pauses.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Seeds, of hash tables too.
    libc::SYS_getrandom,
    // What the C library does at the begin and the end of threads and processes. `clone3` is
    // answered by `answer_clone3`.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_sched_getaffinity,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Questions about itself.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    // Only x86_64 has these older forms of the above.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Allowed with any arguments, to a process on its own only.
const ANY_SINGLE: &[c_long] = &[
    // Files: the configuration and what it names, the access log, the pid file, and what the
    // resolver reads.
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_getdents64,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    // Whether a right to read is there.
    libc::SYS_capget,
    libc::SYS_unlinkat,
    libc::SYS_ftruncate,
    // What is changed by hand is kept in a file that is replaced.
    libc::SYS_fsync,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    // Listeners that a reload adds.
    libc::SYS_bind,
    libc::SYS_listen,
    // The resolver: several questions at once, and modules of the C library, whose code is mapped.
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
    libc::SYS_sysinfo,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    // Older forms of the above.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
];

/// The low bits of the second argument of socket(2), beside the flags.
const SOCKET_KIND: u64 = 0xf;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn allow_list(profile: Profile) -> seccompiler::Result<BpfProgram> {
    let mut rules = Rules::new();
    always(&mut rules, ANY);
    let own_pid = u64::from(std::process::id());
    // An abort, which raises a signal in the process itself.
    when(&mut rules, libc::SYS_tgkill, &[is(0, own_pid)])?;
    when(&mut rules, libc::SYS_tkill, &[is(0, own_pid)])?;
    // Limits can be read, not set.
    when(&mut rules, libc::SYS_prlimit64, &[is_null(2)])?;
    // Names of threads and, in newer C libraries, of memory; what the kernel told of itself at
    // the start, which rustix asks for when it first needs the clock.
    const PR_GET_AUXV: c_int = 0x4155_5856;
    for option in [libc::PR_SET_NAME, libc::PR_SET_VMA, PR_GET_AUXV] {
        when(&mut rules, libc::SYS_prctl, &[is(0, flag(option))])?;
    }
    // Keys that a later configuration brings are kept from core dumps.
    let dumpable = flag(libc::PR_SET_DUMPABLE);
    when(&mut rules, libc::SYS_prctl, &[is(0, dumpable), is(1, 0)])?;
    // What a peer has not acknowledged is asked for where a request was lost.
    for request in [
        request(libc::FIONBIO),
        request(libc::FIONREAD),
        request(libc::TIOCOUTQ),
    ] {
        when(&mut rules, libc::SYS_ioctl, &[is(1, request)])?;
    }
    for domain in [libc::AF_INET, libc::AF_INET6, libc::AF_UNIX] {
        let stream = bits(1, SOCKET_KIND, flag(libc::SOCK_STREAM));
        let conditions = [is(0, flag(domain)), stream];
        when(&mut rules, libc::SYS_socket, &conditions)?;
    }
    match profile {
        Profile::Worker => only_worker(&mut rules)?,
        Profile::Single => only_single(&mut rules)?,
    }
    compile(rules, SeccompAction::Trap, SeccompAction::Allow)
}

fn only_worker(rules: &mut Rules) -> seccompiler::Result<()> {
    let not_executable = [bits(2, flag(libc::PROT_EXEC), 0)];
    when(rules, libc::SYS_mmap, &not_executable)?;
    when(rules, libc::SYS_mprotect, &not_executable)?;
    // The length of what an open descriptor holds; newer C libraries ask in this way.
    let at_empty_path = flag(libc::AT_EMPTY_PATH);
    let of_descriptor = |argument| [bits(argument, at_empty_path, at_empty_path)];
    // Whether another worker runs: no signal is sent.
    when(rules, libc::SYS_pidfd_open, &[is(1, 0)])?;
    when(rules, libc::SYS_kill, &[is(1, 0)])?;
    when(rules, libc::SYS_newfstatat, &of_descriptor(3))?;
    when(rules, libc::SYS_statx, &of_descriptor(2))
}

fn only_single(rules: &mut Rules) -> seccompiler::Result<()> {
    always(rules, ANY_SINGLE);
    // Threads, but no processes, and none in a namespace of its own.
    let in_namespaces = flag(
        libc::CLONE_NEWNS
            | libc::CLONE_NEWCGROUP
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNET,
    );
    let as_thread = flag(libc::CLONE_THREAD);
    let thread = [bits(0, as_thread | in_namespaces, as_thread)];
    when(rules, libc::SYS_clone, &thread)?;
    // Questions to name servers, and to the kernel which addresses this host has.
    for domain in [libc::AF_INET, libc::AF_INET6] {
        let datagram = bits(1, SOCKET_KIND, flag(libc::SOCK_DGRAM));
        let conditions = [is(0, flag(domain)), datagram];
        when(rules, libc::SYS_socket, &conditions)?;
    }
    // A name server or a service manager on this host, and who asked for a reload.
    when(rules, libc::SYS_socket, &[is(0, flag(libc::AF_UNIX))])?;
    let routing = is(2, flag(libc::NETLINK_ROUTE));
    let conditions = [is(0, flag(libc::AF_NETLINK)), routing];
    when(rules, libc::SYS_socket, &conditions)
}

/// `clone3` passes its flags in memory, where no filter sees them. Told that the kernel does not
/// have it, the C library falls back to `clone`, whose flags the other filter sees.
fn answer_clone3() -> seccompiler::Result<BpfProgram> {
    let mut rules = Rules::new();
    always(&mut rules, &[libc::SYS_clone3]);
    let unknown = SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or(0));
    compile(rules, SeccompAction::Allow, unknown)
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> seccompiler::Result<BpfProgram> {
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, otherwise, listed, machine)?;
    Ok(filter.try_into()?)
}

/// Allows calls whatever their arguments are. To collect them into a map would sort them first,
/// which is a lot of code for so few.
fn always(rules: &mut Rules, calls: &[c_long]) {
    for &call in calls {
        rules.insert(call, Vec::new());
    }
}

/// Adds one more way in which a call is allowed: when all conditions hold.
fn when(rules: &mut Rules, call: c_long, conditions: &[Condition]) -> seccompiler::Result<()> {
    let made = conditions.iter().map(|condition| {
        SeccompCondition::new(
            condition.argument,
            condition.width.clone(),
            SeccompCmpOp::MaskedEq(condition.mask),
            condition.value,
        )
    });
    let made = made.collect::<Result<Vec<_>, _>>()?;
    rules.entry(call).or_default().push(SeccompRule::new(made)?);
    Ok(())
}

/// Some bits of an argument have these values.
struct Condition {
    argument: u8,
    width: SeccompCmpArgLen,
    mask: u64,
    value: u64,
}

fn bits(argument: u8, mask: u64, value: u64) -> Condition {
    Condition {
        argument,
        width: SeccompCmpArgLen::Dword,
        mask,
        value,
    }
}

fn is(argument: u8, value: u64) -> Condition {
    bits(argument, u64::from(u32::MAX), value)
}

fn is_null(argument: u8) -> Condition {
    Condition {
        argument,
        width: SeccompCmpArgLen::Qword,
        mask: u64::MAX,
        value: 0,
    }
}

/// The constants of the C headers are positive, whatever type they are declared with.
fn flag(constant: c_int) -> u64 {
    u64::from(constant.unsigned_abs())
}

/// The number of an ioctl, whose type differs between the C libraries.
fn request(number: impl TryInto<u32>) -> u64 {
    number.try_into().map_or(u64::MAX, u64::from)
}

/// Calls whose refusal is in the log already: a bit each, the last one for all beyond.
static TOLD: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

/// Whether this is the first refusal of that call.
fn is_news(call: c_int) -> bool {
    let last = TOLD.len() * 64 - 1;
    let bit = usize::try_from(call).map_or(last, |call| call.min(last));
    let mask = 1 << (bit % 64);
    TOLD[bit / 64].fetch_or(mask, Ordering::Relaxed) & mask == 0
}

/// What siginfo_t holds for SIGSYS (sigaction(2)); `libc` does not name these fields.
#[repr(C)]
struct Refused {
    signal: c_int,
    error: c_int,
    code: c_int,
    padding: c_int,
    address: *const c_void,
    call: c_int,
    machine: u32,
}

/// `SYS_SECCOMP`: the signal comes from a filter, not from a process.
const BY_FILTER: c_int = 1;

fn handle_refusals() -> io::Result<()> {
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = on_refused;
    // SAFETY: all fields of sigaction are numbers or nullable pointers.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    let mut mask = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set it is given.
    action.sa_mask = unsafe {
        libc::sigemptyset(mask.as_mut_ptr());
        mask.assume_init()
    };
    // SAFETY: `action` is complete and lives through the call; `on_refused` does only what a
    // signal handler may.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets the refused call fail, and tells of it. Nothing here allocates, locks or sets `errno`,
/// and every call it makes is allowed.
extern "C" fn on_refused(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a siginfo_t, which is larger than `Refused` and
    // begins with the same fields.
    let refused = unsafe { &*info.cast::<Refused>() };
    if refused.code != BY_FILTER {
        return;
    }
    // SAFETY: with SA_SIGINFO the kernel passes the registers of the thread that this handler
    // runs on, and takes them back when it returns.
    fail(unsafe { &mut *context.cast::<libc::ucontext_t>() });
    if is_news(refused.call) {
        tell(refused.call);
    }
}

/// Sets what the interrupted call returns.
#[cfg(target_arch = "x86_64")]
fn fail(context: &mut libc::ucontext_t) {
    const RESULT: usize = 13; // REG_RAX
    context.uc_mcontext.gregs[RESULT] = -i64::from(libc::EPERM);
}

/// Sets what the interrupted call returns.
#[cfg(target_arch = "aarch64")]
fn fail(context: &mut libc::ucontext_t) {
    context.uc_mcontext.regs[0] = (-i64::from(libc::EPERM)).cast_unsigned();
}

fn tell(call: c_int) {
    const LINE_BYTES: usize = 128;
    let mut line = [0; LINE_BYTES];
    let mut rest = &mut line[..];
    // It fits; what did not would be cut off.
    let _ = match syscalls::name(c_long::from(call)) {
        Some(name) => writeln!(rest, "weir: the sandbox refused the system call {name}"),
        None => writeln!(rest, "weir: the sandbox refused system call number {call}"),
    };
    let unused = rest.len();
    write_ready(rustix::stdio::stderr(), &line[..LINE_BYTES - unused]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lists_compile_and_leave_room() {
        for profile in [Profile::Worker, Profile::Single] {
            let program = allow_list(profile).expect("a program");
            // The kernel takes 4,096 instructions.
            assert!(program.len() < 1_000, "{}", program.len());
        }
        assert!(answer_clone3().is_ok());
    }

    #[test]
    fn a_call_is_told_of_once() {
        let all: Vec<bool> = [7, 7, 8, 511, 9_999, -1].map(is_news).into();
        assert_eq!(all, [true, false, true, true, false, false]);
    }
}
