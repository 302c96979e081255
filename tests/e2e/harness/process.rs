//! The real binary: started on a file of its own, watched through its log, ended by its own pid.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::log::{LISTENING, Log, READY, RELOADED};
use super::port::listens;
use super::{Peer, Scratch, eventually, observe};

const FILE: &str = "weir.yaml";

/// The binary under test.
pub(crate) fn binary() -> OsString {
    std::env::var_os("WEIR_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_weir").into())
}

/// A command that no setting of the caller's environment changes.
fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// What a run that ends by itself printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs weir with these arguments to its end, which must come by itself.
pub(crate) fn run(arguments: &[&OsStr]) -> Finished {
    run_with(Stdio::piped(), arguments)
}

/// The same with its output going to a file.
pub(crate) fn run_onto(file: &Path, arguments: &[&OsStr]) -> Finished {
    let file = fs::File::options().write(true).open(file);
    run_with(file.expect("it can be written").into(), arguments)
}

fn run_with(stdout: Stdio, arguments: &[&OsStr]) -> Finished {
    let child = command("timeout")
        .args(["--signal=KILL", "30"])
        .arg(binary())
        .args(arguments)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn();
    let output = child
        .and_then(Child::wait_with_output)
        .expect("the binary runs");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// How weir is started, when not in the plain way.
#[derive(Debug)]
pub(crate) struct Launch {
    config: String,
    existing: Option<PathBuf>,
    arguments: Vec<OsString>,
    first: Option<String>,
    log_filter: Option<String>,
    program: OsString,
    variables: Vec<(String, OsString)>,
    sockets: Vec<OwnedFd>,
    user: Option<u32>,
    is_open_to_all: bool,
}

impl Launch {
    pub(crate) fn new(config: impl Display) -> Self {
        Self {
            config: config.to_string(),
            existing: None,
            arguments: Vec::new(),
            first: None,
            log_filter: None,
            program: binary(),
            variables: Vec::new(),
            sockets: Vec::new(),
            user: None,
            is_open_to_all: false,
        }
    }

    /// On a file that is there, instead of one of its own.
    #[allow(dead_code, reason = "for tests that look at one file twice")]
    pub(crate) fn on_file(file: &Path) -> Self {
        let existing = Some(file.to_owned());
        Self {
            existing,
            ..Self::new("")
        }
    }

    /// Sets an environment variable.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Hands over a socket as a service manager does; at most two.
    pub(crate) fn socket(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.sockets.push(socket.into());
        self
    }

    /// Starts it as that user and group; only root can.
    pub(crate) fn user(mut self, id: u32) -> Self {
        self.user = Some(id);
        self.open_to_all()
    }

    /// Runs the binary from where every user may: where it was built only its owner might.
    pub(crate) fn open_to_all(mut self) -> Self {
        self.is_open_to_all = true;
        self
    }

    /// Adds an argument.
    pub(crate) fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Runs the shell's `ulimit` with this first, as `-n 40`.
    pub(crate) fn limits(self, limits: &str) -> Self {
        self.first(&format!("ulimit {limits}"))
    }

    /// Runs this command of the shell first, in the same process.
    pub(crate) fn first(mut self, command: &str) -> Self {
        self.first = Some(command.to_owned());
        self
    }

    /// Runs this program instead of the binary under test.
    #[allow(dead_code, reason = "for tests that replace the binary")]
    pub(crate) fn program(mut self, program: &Path) -> Self {
        self.program = program.into();
        self
    }

    /// Sets `RUST_LOG`.
    pub(crate) fn log_filter(mut self, filter: &str) -> Self {
        self.log_filter = Some(filter.to_owned());
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Weir {
        let weir = self.spawn();
        weir.log.wait(&[READY]);
        weir
    }

    /// Starts it, whatever becomes of it.
    pub(crate) fn spawn(self) -> Weir {
        let scratch = Scratch::new();
        let own = || scratch.write(FILE, &self.config);
        let file = self.existing.clone().unwrap_or_else(own);
        let program = if self.is_open_to_all {
            let open = scratch.file("weir");
            match fs::hard_link(&self.program, &open) {
                Ok(()) => open.into_os_string(),
                Err(_) => scratch.program("weir", &self.program).into_os_string(),
            }
        } else {
            self.program
        };
        let mut command = match &self.first {
            None => command(&program),
            Some(first) => {
                let mut shell = command("sh");
                shell.arg("-c");
                shell.arg(format!("{first} && exec \"$0\" \"$@\""));
                shell.arg(&program);
                shell
            }
        };
        if let Some(id) = self.user {
            command.uid(id).gid(id);
        }
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        if !self.sockets.is_empty() {
            command = handing_over(self.sockets, &program);
        }
        command.arg("-c").arg(&file).args(&self.arguments);
        command.envs(self.variables);
        if let Some(filter) = &self.log_filter {
            command.env("RUST_LOG", filter);
        }
        let mut child = command.spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("it is piped");
        let stderr_pipe = stderr_handle(&stderr);
        Weir {
            log: Log::read(stderr),
            stderr_pipe: Some(stderr_pipe),
            child,
            file,
            scratch,
        }
    }
}

/// Runs weir with sockets as descriptors 3 and 4. A shell puts them there: whatever this process
/// let its children inherit would reach those of other tests too.
fn handing_over(sockets: Vec<OwnedFd>, program: &OsStr) -> Command {
    let mut shell = command("sh");
    let count = sockets.len();
    let mut sockets = sockets.into_iter();
    shell.stdin(sockets.next().expect("there is one"));
    shell.stdout(sockets.next().map_or_else(Stdio::null, Stdio::from));
    assert_eq!(sockets.len(), 0, "at most two");
    let script = format!(
        "exec 3<&0 4>&1 </dev/null >/dev/null; \
         LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" \"$@\""
    );
    shell.arg("-c").arg(script).arg(program);
    shell.stderr(Stdio::piped());
    shell
}

/// A second handle on the reading end, to ask the kernel about the pipe.
fn stderr_handle(stderr: &std::process::ChildStderr) -> std::os::fd::OwnedFd {
    use std::os::fd::AsFd;
    stderr
        .as_fd()
        .try_clone_to_owned()
        .expect("a free descriptor")
}

/// A running weir. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Weir {
    child: Child,
    stderr_pipe: Option<std::os::fd::OwnedFd>,
    file: PathBuf,
    scratch: Scratch,
    pub(crate) log: Log,
}

impl Weir {
    /// Starts on this configuration and waits until it is ready.
    pub(crate) fn start(config: impl Display) -> Self {
        Launch::new(config).start()
    }

    /// The configuration file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The pipe that its log goes through.
    pub(crate) fn stderr_pipe(&self) -> &std::os::fd::OwnedFd {
        self.stderr_pipe.as_ref().expect("nobody has hung up")
    }

    /// Whoever reads the log goes away.
    pub(crate) fn hang_up_log(&mut self) {
        self.stderr_pipe = None;
        self.log.leave();
        // It is told of in the log, which is the last line that is read.
        self.signal(Signal::USR1);
        self.log.wait_end();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where that listener is, as a client on this host reaches it.
    pub(crate) fn address_of(&self, listener: &str) -> SocketAddr {
        let suffix = format!("(listener {listener})");
        let line = self.log.wait(&[LISTENING, &suffix]);
        let (_, rest) = line.split_once(LISTENING).expect("the line holds it");
        let text = rest.split(' ').next().expect("split yields at least one");
        let address: SocketAddr = text.parse().expect("an address stands there");
        if !address.ip().is_unspecified() {
            return address;
        }
        if address.is_ipv4() {
            (Ipv4Addr::LOCALHOST, address.port()).into()
        } else {
            (Ipv6Addr::LOCALHOST, address.port()).into()
        }
    }

    /// Where `front` is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address_of("front")
    }

    /// A client connected to `front`.
    pub(crate) fn connect(&self) -> Peer {
        Peer::connect(self.address()).expect("weir listens")
    }

    /// Connects to `front` and is turned away: closed or reset without a byte. A reset may come
    /// so soon that connecting itself reports it.
    pub(crate) fn expect_turned_away(&self) {
        match Peer::connect(self.address()) {
            Ok(mut client) => assert_eq!(client.end().0, b""),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Writes a new configuration file without telling weir.
    pub(crate) fn write_config(&self, config: impl Display) {
        self.scratch.write(FILE, config.to_string());
    }

    /// Puts a new configuration in use.
    pub(crate) fn reload(&self, config: impl Display) {
        let mark = self.log.mark();
        self.write_config(config);
        self.signal(Signal::HUP);
        self.log.wait_since(mark, &[RELOADED]);
    }

    /// Stops the process in its tracks; the kernel goes on accepting connections for it.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        eventually("the process stops", || {
            (self.stat_field(0) == "T").then_some(())
        });
    }

    /// Lets a frozen process go on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it has ended and all of its log is read: its exit code, or none when a signal
    /// ended it.
    pub(crate) fn wait_exit(&mut self) -> Option<i32> {
        let status = self.wait_status();
        self.log.wait_end();
        status.code()
    }

    /// The same for an end by a signal.
    pub(crate) fn wait_status(&mut self) -> ExitStatus {
        eventually("weir exits", || {
            self.child.try_wait().expect("the child is ours")
        })
    }

    /// SIGTERM, then [`Weir::wait_exit`].
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait_exit()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        let ended = self.child.try_wait().expect("the child is ours");
        if let Some(status) = ended {
            eprintln!(
                "ended: code {:?}, signal {:?}",
                status.code(),
                status.signal()
            );
        }
        ended.is_none()
    }

    /// Waits until `front` accepts no more.
    pub(crate) fn wait_listener_closed(&self) {
        wait_closed(self.address());
    }

    /// Resident memory in bytes (proc_pid_status(5)).
    pub(crate) fn resident_bytes(&self) -> u64 {
        let kib: u64 = self.status("VmRSS:").parse().expect("a number of kB");
        kib * 1024
    }

    /// The first word after a key of /proc/pid/status.
    pub(crate) fn status(&self, key: &str) -> String {
        first_word_after(&self.proc_file("status"), key)
    }

    /// Soft and hard limit on open files.
    pub(crate) fn descriptor_limits(&self) -> (u64, u64) {
        let text = self.proc_file("limits");
        let line = text.lines().find(|line| line.starts_with("Max open files"));
        let mut numbers = line
            .expect("the kernel lists it")
            .split_whitespace()
            .skip(3);
        let mut next = || numbers.next().and_then(|n| n.parse().ok());
        (next().expect("soft"), next().expect("hard"))
    }

    /// Open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let path = format!("/proc/{}/fd", self.pid());
        fs::read_dir(path).expect("it runs").count()
    }

    /// Claims that it waits instead of spinning: over one second it uses next to no processor
    /// time.
    pub(crate) fn expect_idle(&self) {
        let before = self.cpu_ticks();
        observe(Duration::from_secs(1));
        let used = self.cpu_ticks() - before;
        assert!(used <= 10, "it used {used} of 100 ticks of processor time");
    }

    /// Processor time used so far, in clock ticks (1/100 s on Linux), both user and system.
    fn cpu_ticks(&self) -> u64 {
        let field = |n| self.stat_field(n).parse::<u64>().expect("a number");
        field(11) + field(12)
    }

    /// A field of /proc/pid/stat, counted from the state, which comes after the name.
    fn stat_field(&self, index: usize) -> String {
        let text = self.proc_file("stat");
        let (_, fields) = text.rsplit_once(") ").expect("the name is in brackets");
        let field = fields.split(' ').nth(index);
        field.expect("the kernel lists it").to_owned()
    }

    /// What the kernel says of it under that key of /proc/pid/status, word by word.
    pub(crate) fn status_words(&self, key: &str) -> Vec<String> {
        let status = self.proc_file("status");
        let key = format!("{key}:");
        let line = status.lines().find_map(|line| line.strip_prefix(&key));
        let words = line.expect("the kernel lists it").split_whitespace();
        words.map(str::to_owned).collect()
    }

    fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid())).expect("it runs")
    }
}

/// Waits until nothing listens there.
pub(crate) fn wait_closed(address: SocketAddr) {
    let closed = || (!listens(address.port())).then_some(());
    eventually("the listener closes", closed);
}

fn first_word_after(text: &str, key: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    word.expect("the kernel lists it").to_owned()
}

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let lines = self.log.lines();
            let start = lines.len().saturating_sub(60);
            eprintln!("--- log of weir, {} lines, the last of them:", lines.len());
            for line in &lines[start..] {
                eprintln!("{line}");
            }
        }
    }
}
