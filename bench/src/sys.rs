//! The corner of the bench that needs `unsafe`: CPU clocks of other processes, signals, and what
//! a child does between fork and exec. It knows nothing of workloads or peers.
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_signal: libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// From now on SIGINT, SIGTERM and SIGHUP only set what [`interrupted`] tells.
pub fn catch_signals() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
    }
}

/// Whether someone asked the bench to stop.
#[must_use]
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// CPU time of a process in nanoseconds: user and system, all its threads, also those that ended
/// (clock_getcpuclockid(3)). None when there is no such process.
#[must_use]
pub fn cpu_time_ns(pid: i32) -> Option<u64> {
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: both pointers are to live locals of the right types.
    let failed = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed {
        return None;
    }
    let seconds = u64::try_from(time.tv_sec).ok()?;
    let nanos = u64::try_from(time.tv_nsec).ok()?;
    Some(seconds * 1_000_000_000 + nanos)
}

/// Makes a child run on one CPU, in a process group of its own (so that Ctrl-C reaches only the
/// bench, which then ends its children), and get SIGTERM when the bench dies.
pub fn tie_child(command: &mut Command, cpu: Option<usize>) {
    command.process_group(0);
    // SAFETY: only two system calls happen between fork and exec; nothing allocates or locks.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            if let Some(cpu) = cpu {
                pin(cpu)?;
            }
            Ok(())
        });
    }
}

/// Makes the calling thread run on one CPU.
///
/// # Errors
///
/// The CPU does not exist or is not allowed (sched_setaffinity(2)).
pub fn pin(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The CPUs that this process may run on, in ascending order.
#[must_use]
pub fn cpus() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect()
}

/// Sends a signal to one process; that it is gone already is no error.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}
