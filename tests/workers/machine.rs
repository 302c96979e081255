//! A supervisor with its workers, of whom none outlives the test.

use std::fmt::Display;
use std::fs;
use std::ops::{Deref, DerefMut};

use rustix::process::{Pid, getpid, kill_process, set_child_subreaper};

use crate::harness::port::ss;
use crate::harness::{Config, Launch, Signal, Weir, eventually};

/// Logged for every worker that is started.
const STARTED: &str = ": started, process ";

/// A configuration whose sessions may take as long as they like to drain.
pub(crate) fn config() -> Config {
    Config::new().top("timeouts: {drain: 10m}")
}

/// A running supervisor. Dropped, it takes its workers along.
#[derive(Debug)]
pub(crate) struct Machine(Weir);

impl Machine {
    /// Starts so many workers and waits until all serve.
    pub(crate) fn start(config: impl Display, workers: usize) -> Self {
        // It starts itself again, perhaps as another user.
        let launch = Launch::new(config).open_to_all().argument("--workers");
        Self::launch(launch.argument(workers.to_string()))
    }

    /// Starts as `launch` says.
    pub(crate) fn launch(launch: Launch) -> Self {
        // Who loses its supervisor comes to the test, which waits for nobody: the ids of those that
        // end stay in use, as under a parent that is slow.
        set_child_subreaper(Some(getpid())).expect("Linux has it");
        Self(launch.start())
    }

    /// The process that has that number, as the log tells.
    pub(crate) fn worker(&self, number: usize) -> u32 {
        let begin = format!("worker {number}{STARTED}");
        let lines = self.log.lines();
        let last = lines.iter().rev().find_map(|line| line.split_once(&begin));
        let (_, pid) = last.expect("it was started");
        pid.trim().parse().expect("a process id")
    }

    /// All workers: the children of the supervisor, but for who serves the admin door.
    pub(crate) fn children(&self) -> Vec<u32> {
        let mut children = children_of(self.pid());
        children.retain(|pid| !is_attendant(*pid));
        children
    }

    /// Who serves the admin door, if that is a process of its own.
    pub(crate) fn attendant(&self) -> Option<u32> {
        let children = children_of(self.pid());
        children.into_iter().find(|pid| is_attendant(*pid))
    }

    /// Waits until the supervisor has so many children that run.
    pub(crate) fn wait_children(&self, count: usize) {
        eventually("the workers are as many as they should be", || {
            (self.children().len() == count).then_some(())
        });
    }

    /// Waits until every worker accepts from so many sockets of `front`, no more and no fewer.
    pub(crate) fn wait_shares_of_sockets(&self, count: usize) {
        let port = self.address().port();
        eventually("every worker has its share of the sockets", || {
            let mut children = self.children().into_iter();
            let all = children.all(|pid| watched_listeners(pid, port) == count);
            all.then_some(())
        });
    }

    /// Kills that worker without mercy, and waits until another one has its number and serves.
    pub(crate) fn replace_worker(&self, number: usize) {
        let mark = self.log.mark();
        signal(self.worker(number), Signal::KILL);
        self.log
            .wait_since(mark, &[&format!("worker {number}{STARTED}")]);
    }

    /// Sends a signal to the worker that has that number.
    pub(crate) fn signal_worker(&self, number: usize, which: Signal) {
        signal(self.worker(number), which);
    }
}

impl Deref for Machine {
    type Target = Weir;

    fn deref(&self) -> &Weir {
        &self.0
    }
}

impl DerefMut for Machine {
    fn deref_mut(&mut self) -> &mut Weir {
        &mut self.0
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if !self.runs() {
            return;
        }
        // A stopped supervisor starts no more of them.
        self.freeze();
        for child in children_of(self.pid()) {
            if let Some(pid) = raw(child) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn raw(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Sends a signal to a process that is there.
pub(crate) fn signal(pid: u32, which: Signal) {
    let pid = raw(pid).expect("a process id");
    kill_process(pid, which).expect("it runs");
}

/// Whether a process has not ended. Whoever adopts one that has may not have buried it yet.
pub(crate) fn is_there(pid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut states = text.lines().filter_map(|line| line.strip_prefix("State:"));
    states.next().is_some_and(|it| !it.trim().starts_with('Z'))
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> usize {
    let folder = fs::read_dir(format!("/proc/{pid}/fd"));
    folder.expect("it runs").count()
}

/// What a process has written and shares with nobody, in KiB (proc_pid_smaps(5)). Pages that it has
/// only read, as those of its program, are private or not by who else runs the same.
pub(crate) fn private_kib(pid: u32) -> u64 {
    memory_kib(pid, "Private_Dirty:")
}

/// Memory of a process, of what it shares its part only, without that of its program, in KiB: a
/// program for tests has several times the code of a release.
pub(crate) fn own_kib(pid: u32) -> u64 {
    let program = fs::read_link(format!("/proc/{pid}/exe")).expect("it runs");
    let program = program.to_str().expect("text");
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("it runs");
    let (mut is_own, mut sum) = (true, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Pss:") if is_own => {
                sum += words
                    .next()
                    .map_or(0, |it| it.parse::<u64>().expect("a number"));
            }
            Some(word) if !word.ends_with(':') => is_own = !line.ends_with(program),
            _ => {}
        }
    }
    sum
}

fn memory_kib(pid: u32, kind: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let meant = text.lines().filter(|line| line.starts_with(kind));
    let sizes = meant.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    sizes.sum()
}

/// Connections to each of these ports that the kernel holds open on the side that has it.
pub(crate) fn established<const N: usize>(ports: [u16; N]) -> [usize; N] {
    ports.map(|port| {
        let rows = tcp_rows(port);
        rows.iter().filter(|row| row.is_established).count()
    })
}

/// How many listening sockets of that port a process waits for (proc_pid_fdinfo(5)).
pub(crate) fn watched_listeners(pid: u32, port: u16) -> usize {
    let rows = tcp_rows(port);
    let listening = rows.iter().filter(|row| row.remote == 0);
    let links: Vec<String> = listening.map(TcpRow::link).collect();
    let folder = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("it runs");
    let infos = folder.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let watched = |info: String| {
        let targets = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
        let targets = targets.filter_map(|rest| rest.split_whitespace().next());
        let is_listener = |target: &&str| {
            let link = fs::read_link(format!("/proc/{pid}/fd/{target}"));
            link.is_ok_and(|it| links.iter().any(|link| it.as_os_str() == link.as_str()))
        };
        targets.filter(is_listener).count()
    };
    infos.map(watched).sum()
}

/// Which of these processes has the connection from one port to another.
pub(crate) fn owner(local: u16, remote: u16, among: &[u32]) -> Option<u32> {
    let rows = tcp_rows(local);
    let link = rows.iter().find(|it| it.remote == remote)?.link();
    let has_it = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        links.any(|it| it.as_os_str() == link.as_str())
    };
    among.iter().copied().find(has_it)
}

/// A socket, as ss(8) tells.
struct TcpRow {
    remote: u16,
    is_established: bool,
    /// 0 of what waits in a queue and has no descriptor.
    inode: String,
}

impl TcpRow {
    /// As the kernel names it among the descriptors of a process.
    fn link(&self) -> String {
        format!("socket:[{}]", self.inode)
    }
}

/// Those that have this port, without connections that have ended: of these there may be tens of
/// thousands, which take seconds to read from /proc/net/tcp.
fn tcp_rows(local: u16) -> Vec<TcpRow> {
    let text = ss(&["-Htane4", "exclude", "time-wait"], local);
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (_, remote) = words.get(4)?.rsplit_once(':')?;
        let mut inodes = words.iter().filter_map(|word| word.strip_prefix("ino:"));
        Some(TcpRow {
            // A star for none.
            remote: remote.parse().unwrap_or(0),
            is_established: words[0] == "ESTAB",
            inode: inodes.next()?.to_owned(),
        })
    };
    let rows = text.lines().map(row).collect::<Option<Vec<_>>>();
    rows.unwrap_or_else(|| panic!("a line that `ss` has not: {text}"))
}

/// A field of /proc/pid/status.
pub(crate) fn status(pid: u32, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.expect("the kernel lists it").trim().to_owned()
}

fn is_attendant(pid: u32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).nth(1) == Some(b"--admin")
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("the kernel lists processes");
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid| is_live_child(pid, parent)).collect()
}

fn is_live_child(pid: u32, parent: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let mut fields = match stat.rsplit_once(") ") {
        Some((_, fields)) => fields.split(' '),
        None => return false,
    };
    let is_dead = fields.next() == Some("Z");
    !is_dead && fields.next() == Some(&parent.to_string())
}
