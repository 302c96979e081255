//! Counts the system calls of running processes with perf(1), or else with strace(1).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::sys;

const TRACEPOINTS: &str = "/sys/kernel/tracing/events/syscalls";
/// Those that a proxy may make while it serves; the total counts all others as well.
const NAMES: &[&str] = &[
    "accept4",
    "accept",
    "socket",
    "connect",
    "bind",
    "close",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "getsockname",
    "getpeername",
    "fcntl",
    "ioctl",
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "splice",
    "pipe2",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_ctl",
    "timerfd_settime",
    "clock_gettime",
    "futex",
    "nanosleep",
    "sched_yield",
    "mmap",
    "munmap",
    "madvise",
    "brk",
    "getpid",
    "tgkill",
];

/// A tool that counts.
#[derive(Debug)]
pub struct Counter {
    child: Child,
    output: PathBuf,
    tool: Tool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Perf,
    Strace,
}

impl Counter {
    /// What the tools need to attach.
    pub const ATTACH_TIME: Duration = Duration::from_millis(400);

    /// Attaches to processes. None when neither tool is there.
    #[must_use]
    pub fn start(pids: &[i32], folder: &Path) -> Option<Self> {
        let output = folder.join("syscalls");
        let _ = fs::remove_file(&output);
        let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
        let perf = perf_command(&pids.join(","), &output).map(|command| (command, Tool::Perf));
        let strace = (strace_command(&pids, &output), Tool::Strace);
        perf.into_iter()
            .chain([strace])
            .find_map(|(mut command, tool)| {
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                sys::tie_child(&mut command, None);
                let child = command.spawn().ok()?;
                let output = output.clone();
                Some(Self {
                    child,
                    output,
                    tool,
                })
            })
    }

    /// Detaches. Counts by name, `all` among them; none when the tool failed.
    #[must_use]
    pub fn finish(mut self) -> Option<BTreeMap<String, u64>> {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            sys::signal(pid, Signal::INT);
        }
        self.child.wait().ok()?;
        let text = fs::read_to_string(&self.output).ok()?;
        let counts = match self.tool {
            Tool::Perf => perf_counts(&text),
            Tool::Strace => strace_counts(&text),
        };
        (counts.get("all").copied().unwrap_or(0) > 0).then_some(counts)
    }
}

/// Counting in the kernel; the proxy is hardly slowed down.
fn perf_command(pids: &str, output: &Path) -> Option<Command> {
    let exists = |name: &&&str| {
        Path::new(TRACEPOINTS)
            .join(format!("sys_enter_{name}"))
            .exists()
    };
    let events: Vec<String> = NAMES
        .iter()
        .filter(exists)
        .map(|name| format!("syscalls:sys_enter_{name}"))
        .collect();
    if events.is_empty() {
        return None;
    }
    let mut command = Command::new("perf");
    command.args(["stat", "-x", ";", "-e", "raw_syscalls:sys_enter", "-e"]);
    command
        .arg(events.join(","))
        .args(["-p", pids, "-o"])
        .arg(output);
    Some(command)
}

/// Stops the proxy at every call: counts are right, but it waits for events more often.
fn strace_command(pids: &[String], output: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(output);
    for pid in pids {
        command.args(["-p", pid]);
    }
    command
}

/// Lines such as `1234;;syscalls:sys_enter_recvfrom;...`.
fn perf_counts(text: &str) -> BTreeMap<String, u64> {
    let counts = text.lines().filter_map(|line| {
        let mut fields = line.split(';');
        let count = fields.next()?.parse::<u64>().ok()?;
        let name = match fields.nth(1)? {
            "raw_syscalls:sys_enter" => "all",
            event => event.strip_prefix("syscalls:sys_enter_")?,
        };
        (count > 0).then(|| (name.to_owned(), count))
    });
    counts.collect()
}

/// Lines such as ` 12.34  0.001  3  1234  7 recvfrom`, the column of errors often empty.
fn strace_counts(text: &str) -> BTreeMap<String, u64> {
    let counts = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.first()?.parse::<f64>().ok()?;
        let count = fields.get(3)?.parse::<u64>().ok()?;
        let name = if *fields.last()? == "total" {
            "all"
        } else {
            fields.last()?
        };
        Some((name.to_owned(), count))
    });
    counts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_lines_become_counts_without_zeros() {
        let text = "# started\n\n1500;;raw_syscalls:sys_enter;1;100.00;;\n\
                    0;;syscalls:sys_enter_bind;1;100.00;;\n70;;syscalls:sys_enter_close;1;100;;\n";
        let expected = [("all".to_owned(), 1500), ("close".to_owned(), 70)];
        assert_eq!(perf_counts(text), BTreeMap::from(expected));
    }

    #[test]
    fn strace_lines_become_counts_with_and_without_errors() {
        let text = "% time  seconds  usecs/call  calls  errors syscall\n------ ------\n\
                    60.00    0.001     3     100      7 recvfrom\n40.00  0.001  3  50  close\n\
                    100.00  0.002   3   150   7 total\n";
        let expected = [("all", 150), ("close", 50), ("recvfrom", 100)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(strace_counts(text), BTreeMap::from(expected));
    }
}
