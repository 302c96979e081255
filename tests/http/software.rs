//! Programs that were not written for these tests: how they are found, started, killed and ended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::harness::{Peer, Port, Scratch, eventually, skip};

/// Whether it can be run; says so where it can not.
pub(crate) fn is_installed(program: &str) -> bool {
    let found = succeeds(Command::new("sh").args(["-c", &format!("command -v {program}")]));
    if !found {
        skip(&format!("{program} is not installed"));
    }
    found
}

/// A Python that has this module, be it the first one found or the system's own.
pub(crate) fn python_with(module: &str) -> Option<&'static str> {
    let import = format!("import {module}");
    let found = ["python3", "/usr/bin/python3"]
        .into_iter()
        .find(|python| succeeds(Command::new(python).args(["-c", &import])));
    if found.is_none() {
        skip(&format!("no Python here has {module}"));
    }
    found
}

/// Whether nginx was built with this, as `http_dav_module`.
pub(crate) fn nginx_has(part: &str) -> bool {
    let output = Command::new("nginx").arg("-V").output();
    let text = output.map(|output| output.stderr).unwrap_or_default();
    let found = String::from_utf8_lossy(&text).contains(part);
    if !found {
        skip(&format!("nginx has no {part}"));
    }
    found
}

fn succeeds(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let outcome = command.stderr(Stdio::null()).status();
    outcome.is_ok_and(|status| status.success())
}

/// A command that is killed if it does not end by itself.
pub(crate) fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "120", program]);
    command.stdin(Stdio::null());
    command
}

/// What a command wrote, which must have ended well.
pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{error}");
    text
}

/// A program that is ended with the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(command: &mut Command) -> Running {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command.stderr(Stdio::null()).spawn();
    Running(child.expect("the program starts"))
}

/// Python's http.server over the files of a directory.
pub(crate) fn python(directory: &Path) -> (SocketAddr, Running) {
    let address = Port::reserve().address();
    let port = address.port().to_string();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", "127.0.0.1", &port]);
    let running = start(command.current_dir(directory));
    eventually("it listens", || Peer::connect(address).ok());
    (address, running)
}

/// Where an nginx listens.
enum Place {
    Port(Port),
    Unix(PathBuf),
}

/// An nginx of one process over the files of a directory, so that killing that one kills it all.
pub(crate) struct Nginx {
    place: Place,
    scratch: Scratch,
    running: Option<Running>,
}

impl Nginx {
    /// On a free port, with these lines in its server.
    pub(crate) fn start(root: &Path, server: &str) -> Self {
        Self::on(Place::Port(Port::reserve()), Scratch::new(), root, server)
    }

    /// On a Unix socket.
    pub(crate) fn start_unix(root: &Path, server: &str) -> Self {
        let scratch = Scratch::new();
        let place = Place::Unix(scratch.file("socket"));
        Self::on(place, scratch, root, server)
    }

    fn on(place: Place, scratch: Scratch, root: &Path, server: &str) -> Self {
        let mut nginx = Self {
            place,
            scratch,
            running: None,
        };
        let (own, root) = (nginx.scratch.file(""), root.display());
        let (own, name) = (own.display(), nginx.name());
        let text = format!(
            "daemon off; master_process off; pid {own}/pid; error_log {own}/error.log;\n\
             events {{ worker_connections 2048; }}\n\
             http {{ access_log off; client_body_temp_path {own}/body; proxy_temp_path {own}/p;\n\
             fastcgi_temp_path {own}/f; uwsgi_temp_path {own}/u; scgi_temp_path {own}/s;\n\
             server {{ listen {name}; root {root};\n{server}\n}} }}\n"
        );
        nginx.scratch.write("nginx.conf", text);
        nginx.resume();
        nginx
    }

    /// As the file of weir names it, and its own.
    pub(crate) fn name(&self) -> String {
        match &self.place {
            Place::Port(port) => port.address().to_string(),
            Place::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// SIGKILL: its connections end as the kernel ends them.
    pub(crate) fn kill(&mut self) {
        self.running = None;
    }

    /// Runs again, and listens when this returns.
    pub(crate) fn resume(&mut self) {
        if let Place::Unix(path) = &self.place {
            // One that was killed leaves its socket behind, and the next can not bind to it.
            let _ = std::fs::remove_file(path);
        }
        let mut command = Command::new("nginx");
        command.arg("-p").arg(self.scratch.file(""));
        command.arg("-c").arg(self.scratch.file("nginx.conf"));
        self.running = Some(start(&mut command));
        eventually("nginx listens", || match &self.place {
            Place::Port(port) => Peer::connect(port.address()).ok(),
            Place::Unix(path) => Peer::connect_unix(path).ok(),
        });
    }
}

/// A program that listens on a port, with a folder of its own, and is ended with the test.
pub(crate) struct Served {
    port: Port,
    _scratch: Scratch,
    _running: Running,
}

impl Served {
    pub(crate) fn address(&self) -> SocketAddr {
        self.port.address()
    }
}

fn serve(
    program: &str,
    text: impl FnOnce(SocketAddr, &str) -> String,
    arguments: &[&str],
) -> Served {
    let (port, scratch) = (Port::reserve(), Scratch::new());
    let folder = scratch.file("").display().to_string();
    let file = scratch.write("its.conf", text(port.address(), &folder));
    let mut command = Command::new(program);
    command.args(arguments).arg(file);
    let running = start(&mut command);
    eventually("it listens", || Peer::connect(port.address()).ok());
    Served {
        port,
        _scratch: scratch,
        _running: running,
    }
}

/// An HAProxy with these sections, made of its address and folder.
pub(crate) fn haproxy(sections: impl FnOnce(SocketAddr, &str) -> String) -> Served {
    let text = |own, folder: &str| {
        let sections = sections(own, folder);
        format!(
            "global\n maxconn 200\ndefaults\n timeout connect 10s\n timeout client 10s\n \
             timeout server 10s\n{sections}"
        )
    };
    serve("haproxy", text, &["-db", "-f"])
}

/// An nginx with this file, made of its address and folder.
pub(crate) fn nginx(text: impl FnOnce(SocketAddr, &str) -> String) -> Served {
    serve("nginx", text, &["-c"])
}

/// Where a module of nginx lies that is loaded by hand.
pub(crate) fn nginx_module(name: &str) -> Option<String> {
    let path = format!("/usr/lib/nginx/modules/{name}");
    let found = Path::new(&path).exists();
    if !found {
        skip(&format!("nginx has no {name}"));
    }
    found.then_some(path)
}
