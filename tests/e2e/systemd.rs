//! What weir tells the service manager, and the sockets that it takes from it. The manager is
//! the test: it has the socket that `NOTIFY_SOCKET` names, hands over descriptors, and keeps the
//! journal.

use std::fs::{self, File};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{
    Config, Launch, Named, PATIENCE, Peer, Scratch, Signal, ask, eventually, process::binary,
};

/// A service manager's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    address: String,
    _scratch: Scratch,
}

impl Manager {
    fn new() -> Self {
        let scratch = Scratch::new();
        let path = scratch.file("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        Self::with(socket, path.display().to_string(), scratch)
    }

    /// On a name without a file.
    fn on_abstract_name() -> Self {
        let name = format!("weir-test-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("bound");
        Self::with(socket, format!("@{name}"), Scratch::new())
    }

    fn with(socket: UnixDatagram, address: String, scratch: Scratch) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self {
            socket,
            address,
            _scratch: scratch,
        }
    }

    fn launch(&self, config: &Config) -> Launch {
        Launch::new(config).variable("NOTIFY_SOCKET", &self.address)
    }

    /// The assignments of the next message.
    fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let count = self.socket.recv(&mut message).expect("a message comes");
        let text = std::str::from_utf8(&message[..count]).expect("it is text");
        text.lines().map(str::to_owned).collect()
    }
}

fn has(message: &[String], line: &str) -> bool {
    message.iter().any(|assignment| assignment == line)
}

#[test]
fn start_reload_and_end_are_told() {
    for manager in [Manager::new(), Manager::on_abstract_name()] {
        let config = Config::new().backend("127.0.0.1:1");
        let mut weir = manager.launch(&config).start();
        let ready = manager.next();
        assert!(has(&ready, "READY=1"), "{ready:?}");
        assert!(has(&ready, &format!("MAINPID={}", weir.pid())), "{ready:?}");
        assert!(has(&ready, "STATUS=serving"), "{ready:?}");

        for (file, status) in [
            (config.to_string(), "STATUS=serving, reloaded"),
            (
                "nonsense".to_owned(),
                "STATUS=serving, the last reload failed: see the log",
            ),
        ] {
            weir.write_config(file);
            weir.signal(Signal::HUP);
            let reloading = manager.next();
            assert!(has(&reloading, "RELOADING=1"), "{reloading:?}");
            let time = reloading
                .iter()
                .find_map(|a| a.strip_prefix("MONOTONIC_USEC="));
            let time: u64 = time.and_then(|t| t.parse().ok()).expect("a time");
            assert!(time > 0);
            let ready = manager.next();
            assert!(has(&ready, "READY=1") && has(&ready, status), "{ready:?}");
        }

        weir.signal(Signal::TERM);
        let stopping = manager.next();
        assert!(has(&stopping, "STOPPING=1"), "{stopping:?}");
        assert_eq!(weir.wait_exit(), Some(0));
    }
}

#[test]
fn the_watchdog_is_fed_while_the_loop_turns() {
    let manager = Manager::new();
    let config = Config::new().backend("127.0.0.1:1");
    let launch = manager.launch(&config).variable("WATCHDOG_USEC", "200000");
    let _weir = launch.start();
    assert!(has(&manager.next(), "READY=1"));
    for _ in 0..3 {
        assert_eq!(manager.next(), ["WATCHDOG=1"]);
    }
}

#[test]
fn a_watchdog_for_another_process_is_not_fed() {
    let manager = Manager::new();
    let config = Config::new().backend("127.0.0.1:1");
    let launch = manager.launch(&config).variable("WATCHDOG_USEC", "1000");
    let mut weir = launch.variable("WATCHDOG_PID", "1").start();
    assert!(has(&manager.next(), "READY=1"));
    assert_eq!(weir.terminate(), Some(0));
    assert!(has(&manager.next(), "STOPPING=1"));
}

#[test]
fn a_manager_that_is_not_there_keeps_nobody_from_serving() {
    let a = Named::new("A");
    let launch = Launch::new(Config::new().backend(a.address()));
    let weir = launch
        .variable("NOTIFY_SOCKET", "/nonexistent/notify")
        .start();
    weir.log.wait(&["service manager cannot be told"]);
    assert_eq!(ask(&mut weir.connect()), "A");
}

#[test]
fn sockets_that_are_handed_over_are_used_by_address_and_by_name() {
    let a = Named::new("A");
    // They do not share their ports, so weir cannot have opened them itself.
    let [first, second] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("bound"));
    let addresses = [&first, &second].map(|s| s.local_addr().expect("bound"));
    let config = Config::on("127.0.0.1:0")
        .listen("side", &addresses[0].to_string())
        .backend(a.address());
    let launch = Launch::new(&config).socket(first).socket(second);
    let weir = launch.variable("LISTEN_FDNAMES", "front:front").start();
    assert_eq!(weir.address_of("side"), addresses[0]);
    assert_eq!(weir.address(), addresses[1]);
    for address in addresses {
        assert_eq!(ask(&mut Peer::connect(address).expect("it listens")), "A");
    }
    weir.reload(config.listen("late", "127.0.0.1:0"));
    for address in addresses {
        assert_eq!(ask(&mut Peer::connect(address).expect("it listens")), "A");
    }
}

#[test]
fn what_is_handed_over_and_of_no_use_is_named_and_closed() {
    let a = Named::new("A");
    let stray = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = stray.local_addr().expect("bound");
    let other = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let launch = Launch::new(Config::new().backend(a.address()));
    let weir = launch.socket(stray).socket(other).start();
    weir.log
        .wait(&[&address.to_string(), "belongs to no listener"]);
    weir.log
        .wait(&["descriptor 4", "not a stream socket that listens"]);
    assert!(Peer::connect(address).is_err());
    assert_eq!(ask(&mut weir.connect()), "A");
}

/// weir whose standard error is a file, which `JOURNAL_STREAM` names if it is the journal.
fn into_file(config: &Path, file: &Path, is_journal: bool) -> Child {
    let file = File::create(file).expect("there is room");
    let meta = file.metadata().expect("it is there");
    let inode = meta.ino() + u64::from(!is_journal);
    let mut command = Command::new(binary());
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command.env("JOURNAL_STREAM", format!("{}:{inode}", meta.dev()));
    command.arg("-c").arg(config).stderr(file);
    command.spawn().expect("the binary runs")
}

#[test]
fn the_journal_has_priorities_and_no_times() {
    let scratch = Scratch::new();
    let text = "supervisor: on\nlisten: 127.0.0.1:0\nbackends: [127.0.0.1:9]\n";
    let config = scratch.write("weir.yaml", text);
    for is_journal in [true, false] {
        let file = scratch.file(if is_journal { "journal" } else { "file" });
        let mut weir = into_file(&config, &file, is_journal);
        let ready = eventually("it says that it is ready", || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let line = text.lines().find(|line| line.contains("weir ready"));
            line.map(str::to_owned)
        });
        let pid = i32::try_from(weir.id()).expect("a process id");
        let pid = rustix::process::Pid::from_raw(pid).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        assert!(weir.wait().expect("it ends").success());
        let text = fs::read_to_string(&file).expect("it is there");
        let is_marked = |line: &str| line.starts_with("<6>") || line.starts_with("<4>");
        assert!(!is_journal || text.lines().all(is_marked), "{text}");
        assert!(
            is_journal || text.lines().all(|line| line.starts_with('[')),
            "{text}"
        );
        assert_eq!(ready.starts_with("<6>weir ready"), is_journal, "{ready}");
    }
}

#[test]
fn what_is_wrong_with_a_configuration_is_an_error_in_the_journal() {
    let scratch = Scratch::new();
    let config = scratch.write("weir.yaml", "listen: nonsense\nbackends: [127.0.0.1:9]\n");
    let file = scratch.file("journal");
    let mut weir = into_file(&config, &file, true);
    assert_eq!(weir.wait().expect("it ends").code(), Some(1));
    let text = fs::read_to_string(&file).expect("it is there");
    assert!(
        text.lines().count() == 2 && text.lines().all(|line| line.starts_with("<3>")),
        "{text}"
    );
}
