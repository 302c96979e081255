//! One running proxy: its processes, what they cost, and their end.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::sys;

/// How long a proxy may take to end by itself.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
const LOG_TAIL_BYTES: u64 = 2000;

/// A child, its descendants and its log. Ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

/// Memory of a process tree, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Resident: pages that several processes share count once for each.
    pub rss: u64,
    /// Proportional: shared pages are divided among those who share them.
    pub pss: u64,
}

impl Process {
    /// Starts a command on one CPU with its output in `log`.
    ///
    /// # Errors
    ///
    /// The program cannot be run, or the log cannot be written.
    pub fn spawn(mut command: Command, cpu: Option<usize>, log: &Path) -> io::Result<Self> {
        let output = File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        sys::tie_child(&mut command, cpu);
        let child = command.spawn()?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("ended with {status}"))
    }

    /// The process and all its descendants.
    #[must_use]
    pub fn pids(&self) -> Vec<i32> {
        let Ok(pid) = i32::try_from(self.child.id()) else {
            return Vec::new();
        };
        descendants(pid)
    }

    /// The end of what it has written.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut file = File::open(&self.log)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut tail = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut tail)?;
            Ok(tail)
        };
        String::from_utf8_lossy(&read().unwrap_or_default())
            .trim()
            .to_owned()
    }

    /// Asks it to end, waits, and kills what is left of it.
    pub fn stop(&mut self) {
        let pids = self.pids();
        if let Some(pid) = pids.first() {
            sys::signal(*pid, Signal::TERM);
        }
        let started = Instant::now();
        while started.elapsed() < STOP_PATIENCE && pids.iter().any(|pid| self.is_alive(*pid)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        for pid in pids {
            if self.is_alive(pid) {
                sys::signal(pid, Signal::KILL);
            }
        }
        let _ = self.child.wait();
    }

    fn is_alive(&mut self, pid: i32) -> bool {
        if u32::try_from(pid) == Ok(self.child.id()) {
            return matches!(self.child.try_wait(), Ok(None));
        }
        stat_of(pid).is_some_and(|stat| stat.state != 'Z')
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// CPU time of processes so far, in nanoseconds.
#[must_use]
pub fn cpu_ns(pids: &[i32]) -> u64 {
    pids.iter().filter_map(|pid| sys::cpu_time_ns(*pid)).sum()
}

/// Memory of processes.
#[must_use]
pub fn memory(pids: &[i32]) -> Memory {
    let mut memory = Memory::default();
    for pid in pids {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        memory.rss += kib_of(&rollup, "Rss:") * 1024;
        memory.pss += kib_of(&rollup, "Pss:") * 1024;
    }
    memory
}

/// `Rss:    1234 kB` as 1234.
fn kib_of(rollup: &str, key: &str) -> u64 {
    let line = rollup.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

struct Stat {
    state: char,
    parent: i32,
}

/// What proc_pid_stat(5) says; the name in brackets may hold anything, so read behind the last.
fn stat_of(pid: i32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

/// A process and its descendants, parents first.
fn descendants(root: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let parents: Vec<(i32, i32)> = pids
        .filter_map(|pid| Some((pid, stat_of(pid)?.parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(
            parents
                .iter()
                .filter(|(_, p)| *p == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollup_line_is_read_in_kibibytes() {
        let rollup = "00400000-7ff ---p [rollup]\nRss:        1234 kB\nPss:  77 kB\n";
        assert_eq!(kib_of(rollup, "Pss:"), 77);
    }

    #[test]
    fn this_process_is_its_own_descendant() {
        let pid = i32::try_from(std::process::id()).expect("a pid is positive");
        assert_eq!(descendants(pid).first(), Some(&pid));
    }
}
