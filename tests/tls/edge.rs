//! weir with TLS on its listeners, and scripts that are its clients.

use std::fmt::{self, Display, Write as _};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::harness::Scratch;

/// Longer than any script takes, in seconds.
const SCRIPT_S_MAX: &str = "120";

/// One of the certificates of the tests, or its key.
pub(crate) fn file(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/certificates").join(name)
}

/// The certificate of that name with its key, as a configuration has them.
pub(crate) fn pair(name: &str) -> String {
    let certificate = file(&format!("{name}.pem"));
    let key = file(&format!("{name}.key"));
    let (certificate, key) = (certificate.display(), key.display());
    format!("certificate: {certificate}, key: {key}")
}

/// The same from copies that whoever weir becomes can read again, as long as they are kept.
pub(crate) fn readable_pair(copies: &Scratch, name: &str) -> String {
    let copy = |kind: &str| {
        let name = format!("{name}.{kind}");
        let bytes = fs::read(file(&name)).expect("a file of the tests");
        copies.write(&name, bytes)
    };
    let (certificate, key) = (copy("pem"), copy("key"));
    let (certificate, key) = (certificate.display(), key.display());
    format!("certificate: {certificate}, key: {key}")
}

/// The same for several, each an entry of `certificates`.
pub(crate) fn pairs(names: &[&str]) -> String {
    let entries: Vec<String> = names.iter().map(|it| format!("{{{}}}", pair(it))).collect();
    format!("certificates: [{}]", entries.join(", "))
}

/// Listeners with TLS, each before a backend of its own.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    top: String,
    listeners: String,
    upstreams: String,
}

impl Edge {
    pub(crate) fn new() -> Self {
        Self {
            top: String::new(),
            listeners: String::new(),
            upstreams: String::new(),
        }
    }

    /// Adds `key: value` at the top.
    pub(crate) fn top(mut self, line: &str) -> Self {
        writeln!(self.top, "{line}").expect("a string takes all");
        self
    }

    /// Adds a listener that speaks HTTP.
    pub(crate) fn http(self, name: &str, tls: &str, backend: SocketAddr) -> Self {
        self.listener(name, "http", tls, backend)
    }

    /// Adds a listener that relays bytes.
    pub(crate) fn tcp(self, name: &str, tls: &str, backend: SocketAddr) -> Self {
        self.listener(name, "tcp", tls, backend)
    }

    fn listener(mut self, name: &str, mode: &str, tls: &str, backend: SocketAddr) -> Self {
        let Self {
            listeners,
            upstreams,
            ..
        } = &mut self;
        write!(
            listeners,
            "  - name: {name}\n    listen: \"127.0.0.1:0\"\n    mode: {mode}\n    \
             tls: {{{tls}}}\n    upstream: {name}\n"
        )
        .expect("a string takes all");
        writeln!(upstreams, "  {name}: {{backends: [\"{backend}\"]}}").expect("a string takes all");
        self
    }
}

impl Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            top,
            listeners,
            upstreams,
        } = self;
        write!(
            f,
            "stats_interval: 0\nlog_level: debug\n{top}listeners:\n{listeners}upstreams:\n{upstreams}"
        )
    }
}

/// A check that runs, and talks with the test by lines.
#[derive(Debug)]
pub(crate) struct Check {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Check {
    /// Starts a function of `checks.py` with these arguments.
    pub(crate) fn start(name: &str, arguments: &[&dyn Display]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/checks.py");
        // What may hang is killed.
        let mut child = Command::new("timeout")
            .args(["--signal=KILL", SCRIPT_S_MAX, "python3", "-B"])
            .arg(script)
            .arg(name)
            .args(arguments.iter().map(ToString::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        Self {
            name: name.to_owned(),
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("it is piped")),
            child,
        }
    }

    /// Waits for a line of it.
    pub(crate) fn expect(&mut self, wanted: &str) {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it can be read");
        if line.trim_end() != wanted {
            let error = self.error();
            panic!("{}: got {line:?}: {error}", self.name);
        }
    }

    /// The next line of it.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it can be read");
        line.trim_end().to_owned()
    }

    /// Tells it a line.
    pub(crate) fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("it was not finished");
        writeln!(stdin, "{line}").expect("it reads");
    }

    /// It must have found all well.
    pub(crate) fn finish(mut self) {
        self.stdin = None;
        let mut rest = String::new();
        let read = self.stdout.read_to_string(&mut rest);
        read.expect("it can be read");
        let error = self.error();
        let status = self.child.wait().expect("it is ours");
        assert!(status.success(), "{}: {status}: {error}", self.name);
    }

    fn error(&mut self) -> String {
        let mut error = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            let read = stderr.read_to_string(&mut error);
            read.expect("it can be read");
        }
        error
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        // Where a test has failed, it has not ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a function of `checks.py`, which must find all well.
pub(crate) fn check(name: &str, arguments: &[&dyn Display]) {
    Check::start(name, arguments).finish();
}
