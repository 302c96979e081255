//! Workers whose supervisor has died, and who serve on (`when_supervisor_dies: serve`).
//!
//! Each was started with the process id of its supervisor among its arguments, which the pid file
//! still names: so they are found, by whoever gives orders and by a weir that starts there.

use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use log::{info, warn};

use crate::cli::{Order, WORKER_WORD};
use crate::control::EXIT_OK;
use crate::control::order::{EXIT_NOT_RUNNING, EXIT_REFUSED};
use crate::core::text::plural;
use crate::sys::child::{self, Handle, Send};
use crate::sys::file_lock;

/// More than a process id and its line end have, in bytes: what is longer is no pid file.
const PID_BYTES_MAX: u64 = 32;

/// What one may take that was told to end at once, before it is killed.
const GRACE_AT_ONCE: Duration = Duration::from_secs(1);

/// A supervisor that may have died, by the id that its process had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Predecessor(pub(crate) u32);

impl Predecessor {
    /// The one that a pid file names. To be called before the file is written anew.
    pub(crate) fn named_in(pid_file: &Path) -> Option<Self> {
        let mut text = String::new();
        let file = file_lock::open(pid_file, false).ok()?;
        file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
        text.trim().parse().ok().map(Self)
    }

    /// Its workers that have lost it and are still there.
    fn orphans(self) -> Vec<u32> {
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|pid| is_orphan_of(*pid, self.0)).collect()
    }

    /// Asks its workers to end, as somebody else serves in their place.
    pub(crate) fn relieve(self) {
        let orphans = self.orphans();
        if orphans.is_empty() {
            return;
        }
        let (count, dead) = (orphans.len(), self.0);
        let s = plural(count == 1);
        info!("taking over from {count} worker{s} of process {dead}, which has died: they drain");
        for pid in orphans {
            if let Err(error) = tell(pid, Send::Terminate) {
                warn!("process {pid}, a worker of process {dead}, cannot be ended: {error}");
            }
        }
    }
}

/// Carries an order out on workers that have lost the supervisor of that pid file. The exit
/// status, and a line to print; none when there are no such workers.
pub(super) fn carry_out(order: Order, pid_file: &Path) -> Option<(ExitCode, String)> {
    let dead = Predecessor::named_in(pid_file)?;
    let orphans = dead.orphans();
    let (count, pid) = (orphans.len(), dead.0);
    let (signals, grace): (&[Send], _) = match order {
        _ if count == 0 => return None,
        Order::Quit => (&[Send::Terminate], None),
        // The second says "at once".
        Order::Stop => (&[Send::Terminate, Send::Interrupt], Some(GRACE_AT_ONCE)),
        Order::Reload | Order::Reopen | Order::Upgrade => {
            let line = format!(
                "process {pid} has died; workers of it ({count}) serve on and take no orders: \
                 start weir with this pid file, which takes over from them, or end them with \
                 `-s quit`"
            );
            return Some((EXIT_NOT_RUNNING.into(), line));
        }
    };
    Some(match end(&orphans, signals, grace) {
        Ok(()) => {
            let line = format!("process {pid} had died; its workers ({count}) have ended");
            (EXIT_OK.into(), line)
        }
        Err(error) => {
            let line = format!("process {pid} has died; workers of it cannot be ended: {error}");
            (EXIT_REFUSED.into(), line)
        }
    })
}

fn end(orphans: &[u32], signals: &[Send], grace: Option<Duration>) -> io::Result<()> {
    // Held before they are told to go: after that an id may be another's.
    let held = orphans.iter().map(|pid| (*pid, Handle::open(*pid)));
    let held: Vec<_> = held.collect();
    // All are told before any is waited for: the last one to go serves what is queued.
    for signal in signals {
        orphans.iter().try_for_each(|pid| tell(*pid, *signal))?;
    }
    for (pid, opened) in held {
        let orphan = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened?,
        };
        if !orphan.wait_end(grace)? {
            tell(pid, Send::Kill)?;
            orphan.wait_end(None)?;
        }
    }
    Ok(())
}

/// Sends a signal to one, which is to go on if it is stopped: nobody else would wake it. To one
/// that has gone it is no failure.
fn tell(pid: u32, signal: Send) -> io::Result<()> {
    [signal, Send::Continue]
        .into_iter()
        .try_for_each(|signal| match child::send(pid, signal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            sent => sent,
        })
}

/// Whether that process was started by that supervisor to be a worker, has lost it, and has not
/// ended itself. Who has lost its parent has another one, whoever has the old one's id by now.
fn is_orphan_of(pid: u32, supervisor: u32) -> bool {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    // One that has ended has no arguments any more.
    let line = read("cmdline");
    let mut words = line.split(|byte| *byte == 0).skip(1);
    let id = supervisor.to_string();
    words.next() == Some(WORKER_WORD.as_bytes())
        && words.next() == Some(id.as_bytes())
        && read("comm").trim_ascii_end() == b"weir"
        && parent(&read("stat")).is_some_and(|parent| parent != id.as_bytes())
}

/// The parent in /proc/pid/stat: the second field after the name, which is in brackets
/// (proc_pid_stat(5)).
fn parent(stat: &[u8]) -> Option<&[u8]> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat[name_end..].split(|byte| *byte == b' ').nth(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_whatever_the_name_of_the_process() {
        assert_eq!(parent(b"7 (we) ir) S 1 2 3"), Some(&b"1"[..]));
        assert_eq!(parent(b""), None);
        let own = fs::read("/proc/self/stat").expect("the kernel tells");
        let expected = std::os::unix::process::parent_id().to_string();
        assert_eq!(parent(&own), Some(expected.as_bytes()));
    }
}
