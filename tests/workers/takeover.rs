//! A worker that somebody has taken over: calls are made from inside it, by its own thread under
//! its own filter, as ptrace(2) allows to who may trace it.

#![allow(unsafe_code, reason = "nothing else makes calls from inside a process")]

use std::io;
use std::ptr;

use crate::harness::{Named, ask, eventually, skip};
use crate::machine::{Machine, config, status};

/// Without pointers: a call that is not refused fails on its arguments instead.
const REFUSED: [(&str, libc::c_long, [u64; 3]); 9] = [
    ("execve", libc::SYS_execve, [0; 3]),
    ("execveat", libc::SYS_execveat, [0; 3]),
    ("openat", libc::SYS_openat, [CWD, 0, 0]),
    ("socket", libc::SYS_socket, [17, 3, 0]),
    ("bind", libc::SYS_bind, [0; 3]),
    ("listen", libc::SYS_listen, [0; 3]),
    ("clone", libc::SYS_clone, [17, 0, 0]),
    ("memfd_create", libc::SYS_memfd_create, [0; 3]),
    ("ptrace", libc::SYS_ptrace, [16, 1, 0]),
];

/// AT_FDCWD, -100.
const CWD: u64 = 100_u64.wrapping_neg();
/// `syscall`, as it stands in memory.
const SYSCALL: libc::c_long = 0x050f;

#[test]
fn every_worker_has_given_up_what_it_does_not_need() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 3);
    for pid in machine.children() {
        assert_eq!(status(pid, "Seccomp:"), "2");
        assert_eq!(status(pid, "NoNewPrivs:"), "1");
        assert_eq!(status(pid, "CapEff:"), "0000000000000000");
        assert_eq!(status(pid, "CapPrm:"), "0000000000000000");
    }
}

#[test]
fn a_worker_that_is_taken_over_can_neither_exec_nor_open_nor_listen() {
    let backend = Named::new("A");
    let machine = Machine::start(config().backend(backend.address()), 2);
    let workers = machine.children();
    match Taken::take(machine.worker(1)) {
        Ok(taken) => {
            for (name, call, arguments) in REFUSED {
                let result = taken.call(call, arguments);
                assert_eq!(result, -i64::from(libc::EPERM), "{name}");
            }
        }
        Err(error) => return skip(&format!("not allowed to trace a process: {error}")),
    }
    for (name, ..) in REFUSED {
        let line = format!("the sandbox refused the system call {name}");
        let is_it = |lines: &[String]| lines.iter().any(|it| it.ends_with(&line));
        eventually("the refusal is told by name", || {
            is_it(&machine.log.lines()).then_some(())
        });
    }
    for _ in 0..20 {
        assert_eq!(ask(&mut machine.connect()), "A");
    }
    assert_eq!(machine.children(), workers, "it serves on");
}

/// A process that waits in a system call and is held there. Dropped, it goes on.
struct Taken {
    pid: libc::pid_t,
    registers: libc::user_regs_struct,
}

impl Taken {
    fn take(pid: u32) -> io::Result<Self> {
        let pid = libc::pid_t::try_from(pid).expect("small");
        // It may have something to do just now.
        eventually("it waits in a system call", || {
            Self::take_if_waiting(pid).transpose()
        })
    }

    /// None where it does not wait in a system call: it has gone on.
    fn take_if_waiting(pid: libc::pid_t) -> io::Result<Option<Self>> {
        trace(libc::PTRACE_ATTACH, pid, 0, 0)?;
        wait(pid);
        let taken = Self {
            pid,
            registers: registers(pid)?,
        };
        trace(
            libc::PTRACE_SETOPTIONS,
            pid,
            0,
            libc::PTRACE_O_TRACESYSGOOD.unsigned_abs().into(),
        )?;
        let code = trace(libc::PTRACE_PEEKTEXT, pid, taken.registers.rip - 2, 0)?;
        Ok((code & 0xffff == SYSCALL).then_some(taken))
    }

    /// Makes a call with these arguments; what comes back, an errno as its negative.
    fn call(&self, number: libc::c_long, arguments: [u64; 3]) -> i64 {
        let mut wanted = self.registers;
        wanted.rip -= 2;
        wanted.rax = number.cast_unsigned();
        // No earlier call is to be begun again.
        wanted.orig_rax = u64::MAX;
        [wanted.rdi, wanted.rsi, wanted.rdx] = arguments;
        set_registers(self.pid, &wanted);
        self.go_on(libc::PTRACE_SYSCALL, 0);
        self.go_on(libc::PTRACE_SYSCALL, 0);
        let result = registers(self.pid).expect("it is held").rax;
        // A refused call ends in a handler, which tells of it and puts the result in place.
        if self.go_on(libc::PTRACE_SINGLESTEP, 0) != libc::SIGSYS {
            return result.cast_signed();
        }
        let mut stop = self.go_on(libc::PTRACE_SYSCALL, libc::SIGSYS);
        loop {
            assert_eq!(stop, libc::SIGTRAP | 0x80, "the handler only makes calls");
            let call = registers(self.pid).expect("it is held").orig_rax;
            self.go_on(libc::PTRACE_SYSCALL, 0);
            if call == libc::SYS_rt_sigreturn.cast_unsigned() {
                return registers(self.pid).expect("it is held").rax.cast_signed();
            }
            stop = self.go_on(libc::PTRACE_SYSCALL, 0);
        }
    }

    /// Lets it go on to its next stop: the signal that stopped it there.
    fn go_on(&self, how: libc::c_uint, signal: libc::c_int) -> libc::c_int {
        let signal = u64::try_from(signal).expect("positive");
        trace(how, self.pid, 0, signal).expect("it is held");
        wait(self.pid)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        set_registers(self.pid, &self.registers);
        let _ = trace(libc::PTRACE_DETACH, self.pid, 0, 0);
    }
}

fn trace(what: libc::c_uint, pid: libc::pid_t, at: u64, with: u64) -> io::Result<libc::c_long> {
    // SAFETY: the requests given here read or write no memory of ours, except that those for
    // registers are given a struct of the right type that outlives the call.
    let result = unsafe {
        *libc::__errno_location() = 0;
        libc::ptrace(what, pid, at, with)
    };
    let error = io::Error::last_os_error();
    if result == -1 && error.raw_os_error() != Some(0) {
        return Err(error);
    }
    Ok(result)
}

fn registers(pid: libc::pid_t) -> io::Result<libc::user_regs_struct> {
    // SAFETY: it is made of integers.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    let at = ptr::from_mut(&mut registers) as u64;
    trace(libc::PTRACE_GETREGS, pid, 0, at)?;
    Ok(registers)
}

fn set_registers(pid: libc::pid_t, registers: &libc::user_regs_struct) {
    let at = ptr::from_ref(registers) as u64;
    let _ = trace(libc::PTRACE_SETREGS, pid, 0, at);
}

/// Waits until it stops: the signal.
fn wait(pid: libc::pid_t) -> libc::c_int {
    eventually("it stops", || {
        let mut status = 0;
        // SAFETY: the status outlives the call.
        let got = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG | libc::__WALL) };
        assert!(got >= 0, "it is ours to wait for");
        let is_stop = got == pid && libc::WIFSTOPPED(status);
        is_stop.then(|| libc::WSTOPSIG(status))
    })
}
