//! Counts what a connection, a message and a request cost weir, and fails where that is more than
//! the baseline allows: `make bench-gate`, in the root of the repository.
//!
//! The environment says `BASELINE=write` to write the baseline anew, `UNIT` for only those units
//! that have this in their names, `WEIR_BIN` for a program other than target/release/weir,
//! `GATE_LOG` for a file that gets the proxy's last log.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use weir_bench::certificates::{self, Certificates};
use weir_bench::gate::{self, Cost, Totals};
use weir_bench::workload::{Key, Tls, Version};
use weir_bench::{sys, tls};

const BASELINE: &str = "bench/gate.txt";
const WORK_FOLDER: &str = "bench/target/gate";
const CERTIFICATES_FOLDER: &str = "bench/target/certificates";
/// Units of the shorter run: pools are filled and tables have grown by then.
const UNITS_FEW: usize = 200;
/// Of the crowd, so many backends, each of which is to have a connection by then that is kept.
const CROWD: usize = 4_000;
/// Where chance decides, the last few backends are met late.
const UNITS_FEW_BY_CHANCE: usize = 5 * CROWD;
const ROUTES: usize = 10_000;
/// Keys to hash: what one costs is chance.
const KEYS: usize = 1_000;
/// Units that the longer run does beside these.
const UNITS_MORE: usize = 1_000;
/// The same where a start reads thousands of backends or routes, which does not cost the same each
/// time.
const UNITS_MORE_BY_MANY: usize = 10_000;
/// In which something must come that is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// The proxy sleeps when it was seen to so often in a row, so far apart.
const ASLEEP_LOOKS: usize = 2;
const LOOK_AFTER: Duration = Duration::from_micros(50);
const MESSAGE: [u8; 128] = [b'x'; 128];
const LONG_BODY_BYTES: usize = 64 << 10;
/// What each of the thousands of connections of a backend needs for its own.
const STACK_BYTES: usize = 64 << 10;
/// Lines of the proxy's log that tell why it did not start.
const WORDS_MAX: usize = 5;

/// One kind of work; what a row of the baseline stands for.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    /// What is beside the two listeners and upstreams that all have.
    setting: Setting,
    /// Units of the shorter run.
    units_few: usize,
    /// Units that the longer run does beside these.
    units_more: usize,
    /// Does so many units through the proxy.
    run: fn(&Proxy, usize) -> io::Result<()>,
}

/// What requests are spread over.
#[derive(Clone, Copy)]
enum Setting {
    /// One backend.
    Plain,
    /// [`CROWD`] backends, by this algorithm.
    Crowd(&'static str),
    /// [`ROUTES`] routes to one backend.
    Routes,
    /// One backend, and TLS on the listeners.
    Tls,
}

const WORKS: &[Work] = &[
    Work::plain("tcp-connection", tcp_connections),
    Work::plain("tcp-message", tcp_messages),
    Work::plain("http-request", |proxy, units| {
        http_requests(proxy, units, "/short")
    }),
    Work::plain("http-connection", http_connections),
    Work::plain("http-64k", |proxy, units| {
        http_requests(proxy, units, "/long")
    }),
    Work::tls("tls-connection", tls_connections),
    Work::tls("tls-request", |proxy, units| {
        tls_requests(proxy, units, "/short")
    }),
    Work::tls("tls-64k", |proxy, units| {
        tls_requests(proxy, units, "/long")
    }),
    Work::crowd("http-4000-rr", "round_robin", CROWD),
    Work::crowd("http-4000-least", "least_conn", CROWD),
    Work::crowd("http-4000-hash", "hash\n    hash: uri", CROWD),
    Work::crowd("http-4000-random", "random_two", UNITS_FEW_BY_CHANCE),
    Work {
        name: "http-10000-routes",
        setting: Setting::Routes,
        units_few: UNITS_FEW,
        units_more: UNITS_MORE_BY_MANY,
        run: routed_requests,
    },
];

impl Work {
    const fn plain(name: &'static str, run: fn(&Proxy, usize) -> io::Result<()>) -> Self {
        Self {
            name,
            setting: Setting::Plain,
            units_few: UNITS_FEW,
            units_more: UNITS_MORE,
            run,
        }
    }

    const fn tls(name: &'static str, run: fn(&Proxy, usize) -> io::Result<()>) -> Self {
        Self {
            setting: Setting::Tls,
            ..Self::plain(name, run)
        }
    }

    const fn crowd(name: &'static str, algorithm: &'static str, units_few: usize) -> Self {
        Self {
            name,
            setting: Setting::Crowd(algorithm),
            units_few,
            units_more: UNITS_MORE_BY_MANY,
            run: spread_requests,
        }
    }
}

fn main() -> ExitCode {
    sys::catch_signals();
    let _ = weir_bench::runner::raise_descriptor_limit();
    if let Some(&cpu) = sys::cpus().first()
        && let Err(error) = sys::pin(cpu)
    {
        eprintln!("gate: CPU {cpu}: {error}");
    }
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            println!(
                "worse than the baseline by more than {} %; if that is right: make bench-gate BASELINE=write",
                gate::WORSE_PERCENT_MAX
            );
            ExitCode::FAILURE
        }
        Err(message) => {
            eprintln!("gate: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let program = std::env::var_os("WEIR_BIN").map(PathBuf::from);
    let program = program.unwrap_or_else(|| PathBuf::from("target/release/weir"));
    if !program.is_file() {
        return Err(format!("no {}: run `make build`", program.display()));
    }
    let valgrind = Command::new("valgrind").arg("--version").output();
    if let Err(error) = valgrind {
        return Err(format!(
            "valgrind: {error}; it is in the package of that name"
        ));
    }
    let wanted = std::env::var("UNIT").unwrap_or_default();
    let writes = std::env::var("BASELINE").is_ok_and(|value| value == "write");
    if writes && !wanted.is_empty() {
        return Err("a baseline has all units; leave UNIT out".to_owned());
    }
    fs::create_dir_all(WORK_FOLDER).map_err(|e| format!("{WORK_FOLDER}: {e}"))?;
    let mut costs = Vec::new();
    for work in WORKS.iter().filter(|work| work.name.contains(&wanted)) {
        let cost = measure(&program, *work).map_err(|e| format!("{}: {e}", work.name))?;
        costs.push(cost);
    }
    if writes {
        let text = gate::write_baseline(&costs, &compiler());
        fs::write(BASELINE, &text).map_err(|e| format!("{BASELINE}: {e}"))?;
        print!("{text}");
        return Ok(true);
    }
    let text = fs::read_to_string(BASELINE).map_err(|e| format!("{BASELINE}: {e}"))?;
    if !text.contains(&compiler()) {
        println!("the baseline is of another compiler, so ratios say less");
    }
    let (table, is_good) = gate::compare(&costs, &gate::read_baseline(&text)?);
    print!("{table}");
    Ok(is_good)
}

/// The compiler that is found here, by name and version.
fn compiler() -> String {
    let output = Command::new("rustc").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    let mut words = text.split_whitespace().take(2);
    format!(
        "{} {}",
        words.next().unwrap_or("rustc"),
        words.next().unwrap_or("unknown")
    )
}

fn measure(program: &Path, work: Work) -> io::Result<Cost> {
    let few = count(program, work, work.units_few)?;
    let many = count(program, work, work.units_few + work.units_more)?;
    let (instructions, calls) = many.per_unit(few, work.units_more);
    Ok(Cost {
        name: work.name.to_owned(),
        instructions,
        calls,
    })
}

/// Starts the proxy, does the work, ends it and reads its totals.
fn count(program: &Path, work: Work, units: usize) -> io::Result<Totals> {
    let backends = [backend(echo)?, backend(answer)?];
    let proxy = Proxy::start(program, work.setting, backends)?;
    (work.run)(&proxy, units)?;
    proxy.totals()
}

/// weir, in valgrind.
struct Proxy {
    child: Child,
    log: PathBuf,
    tcp: SocketAddrV4,
    http: SocketAddrV4,
}

impl Proxy {
    fn start(program: &Path, setting: Setting, backends: [u16; 2]) -> io::Result<Self> {
        let [tcp, http] = free_ports()?;
        let config = Path::new(WORK_FOLDER).join("weir.yaml");
        fs::write(&config, configuration(setting, [tcp, http], backends)?)?;
        let log = Path::new(WORK_FOLDER).join("log");
        // On the load's own CPU and of lower rank it runs when the load waits, so that what is sent
        // at once also comes at once.
        let mut command = Command::new("nice");
        command
            .args(["-n", "19", "valgrind"])
            .args(["--tool=cachegrind", "--cache-sim=no", "--branch-sim=no"])
            .args([
                "--cachegrind-out-file=/dev/null",
                "--trace-syscalls=yes",
                "--vgdb=no",
            ])
            .arg(program)
            .arg("-c")
            .arg(&config)
            // Where libc looks its names up depends on the environment.
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        sys::tie_child(&mut command, None);
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("nice: {error}")))?;
        let mut proxy = Self {
            child,
            log,
            tcp: SocketAddrV4::new(Ipv4Addr::LOCALHOST, tcp),
            http: SocketAddrV4::new(Ipv4Addr::LOCALHOST, http),
        };
        proxy.await_listeners()?;
        Ok(proxy)
    }

    fn await_listeners(&mut self) -> io::Result<()> {
        let started = Instant::now();
        for address in [self.tcp, self.http] {
            while TcpStream::connect(address).is_err() {
                if let Some(status) = self.child.try_wait()? {
                    let log = fs::read_to_string(&self.log).unwrap_or_default();
                    let words: Vec<&str> = log
                        .lines()
                        .filter(|line| !line.contains("SYSCALL") && !line.starts_with("=="))
                        .take(WORDS_MAX)
                        .collect();
                    return Err(other(format!(
                        "weir ended with {status}: {}",
                        words.join("; ")
                    )));
                }
                check_patience(started, "no listener")?;
                thread::sleep(Duration::from_millis(10));
            }
        }
        self.settle()
    }

    /// Waits until the proxy has done all that it can and sleeps.
    fn settle(&self) -> io::Result<()> {
        let path = format!("/proc/{}/stat", self.child.id());
        let started = Instant::now();
        let mut looks = 0;
        while looks < ASLEEP_LOOKS {
            let stat = fs::read_to_string(&path)?;
            // The name in brackets may hold anything (proc_pid_stat(5)).
            let state = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.chars().next());
            looks = if state == Some('S') { looks + 1 } else { 0 };
            check_patience(started, "weir does not come to rest")?;
            thread::sleep(LOOK_AFTER);
        }
        Ok(())
    }

    fn totals(mut self) -> io::Result<Totals> {
        self.settle()?;
        if let Ok(pid) = i32::try_from(self.child.id()) {
            sys::signal(pid, Signal::TERM);
        }
        let started = Instant::now();
        while self.child.try_wait()?.is_none() {
            check_patience(started, "weir does not end")?;
            thread::sleep(Duration::from_millis(5));
        }
        let log = fs::read_to_string(&self.log)?;
        if let Some(path) = std::env::var_os("GATE_LOG") {
            fs::write(path, &log)?;
        }
        Totals::read(&log).ok_or_else(|| other("valgrind wrote no count"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn other(message: impl Into<String>) -> io::Error {
    io::Error::other(message.into())
}

fn check_patience(started: Instant, what: &str) -> io::Result<()> {
    if sys::interrupted() {
        return Err(other("interrupted"));
    }
    if started.elapsed() > PATIENCE {
        return Err(other(format!("{what} within {} s", PATIENCE.as_secs())));
    }
    Ok(())
}

/// A configuration with a listener for TCP and one for HTTP.
fn configuration(
    setting: Setting,
    [tcp, http]: [u16; 2],
    [echo, answer]: [u16; 2],
) -> io::Result<String> {
    let mut text = format!(
        "log_level: warn\nstats_interval: off\nlisteners:\n  \
         - {{listen: \"127.0.0.1:{tcp}\", mode: tcp, upstream: tcp}}\n  \
         - listen: \"127.0.0.1:{http}\"\n    mode: http\n"
    );
    if let Setting::Tls = setting {
        let certificates = Certificates::new(Path::new(CERTIFICATES_FOLDER))?;
        let file = certificates.main(Key::Ecdsa)?;
        text.push_str(&format!(
            "    tls: {{certificate: \"{}\"}}\n",
            file.display()
        ));
    }
    let mut line = |arguments: std::fmt::Arguments<'_>| text.push_str(&format!("{arguments}\n"));
    match setting {
        Setting::Plain | Setting::Tls | Setting::Crowd(_) => {
            line(format_args!("    upstream: http"))
        }
        Setting::Routes => {
            line(format_args!("    routes:"));
            for path in (0..ROUTES).map(route) {
                line(format_args!("      - {{prefix: {path}, upstream: http}}"));
            }
        }
    }
    line(format_args!(
        "upstreams:\n  tcp: {{health_check: off, backends: [\"127.0.0.1:{echo}\"]}}\n  \
         http:\n    health_check: off"
    ));
    let addresses = match setting {
        Setting::Plain | Setting::Tls | Setting::Routes => 1,
        Setting::Crowd(algorithm) => {
            line(format_args!("    algorithm: {algorithm}"));
            CROWD
        }
    };
    line(format_args!("    backends:"));
    for (high, low) in (0..addresses).map(|n| (n / 250, n % 250 + 1)) {
        // By its name, and not its port, it is hashed.
        line(format_args!(
            "      - {{address: \"127.0.{high}.{low}:{answer}\", id: b{high}-{low}}}"
        ));
    }
    Ok(text)
}

fn route(number: usize) -> String {
    format!("/shop/{number}/items")
}

/// Two ports that were free just now.
fn free_ports() -> io::Result<[u16; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// Backends that serve each of their connections with `serve`, at all addresses of the loopback on
/// a free port.
fn backend(serve: fn(TcpStream) -> io::Result<()>) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        while let Ok((stream, peer)) = listener.accept() {
            if peer.ip().is_loopback() {
                let thread = thread::Builder::new().stack_size(STACK_BYTES);
                let _ = thread.spawn(move || serve(stream));
            }
        }
    });
    Ok(port)
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&bytes[..count])?;
    }
}

/// Answers requests without a body, one after the other.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    let mut bytes = [0; 4096];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        head.extend_from_slice(&bytes[..count]);
        if head.ends_with(b"\r\n\r\n") {
            let is_long = head.starts_with(b"GET /long ");
            let path = if is_long { "/long" } else { "/short" };
            stream.write_all(&response(body_bytes(path)))?;
            head.clear();
        }
    }
}

fn response(body_bytes: usize) -> Vec<u8> {
    let mut response = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body_bytes}\r\n\r\n"
    );
    response.extend(std::iter::repeat_n('x', body_bytes));
    response.into_bytes()
}

fn connect(address: SocketAddrV4) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends a message and takes its echo.
fn message(proxy: &Proxy, stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&MESSAGE)?;
    let mut echo = [0; MESSAGE.len()];
    stream.read_exact(&mut echo)?;
    if echo != MESSAGE {
        return Err(other("a wrong echo"));
    }
    proxy.settle()
}

/// Reads to the end and gives what came.
fn read_end(stream: &mut impl io::Read) -> io::Result<Vec<u8>> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    Ok(rest)
}

fn tcp_connections(proxy: &Proxy, units: usize) -> io::Result<()> {
    for _ in 0..units {
        let mut stream = connect(proxy.tcp)?;
        proxy.settle()?;
        message(proxy, &mut stream)?;
        stream.shutdown(Shutdown::Write)?;
        if !read_end(&mut stream)?.is_empty() {
            return Err(other("bytes after the echo"));
        }
        proxy.settle()?;
    }
    Ok(())
}

fn tcp_messages(proxy: &Proxy, units: usize) -> io::Result<()> {
    let mut stream = connect(proxy.tcp)?;
    for _ in 0..units {
        message(proxy, &mut stream)?;
    }
    Ok(())
}

fn request(path: &str, connection: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: gate\r\nAccept: */*\r\n\
         {connection}\r\n"
    )
}

fn http_requests(proxy: &Proxy, units: usize, path: &str) -> io::Result<()> {
    let mut stream = connect(proxy.http)?;
    (0..units).try_for_each(|_| exchange(proxy, &mut stream, path, body_bytes(path)))
}

fn body_bytes(path: &str) -> usize {
    if path == "/long" {
        LONG_BODY_BYTES
    } else {
        128
    }
}

/// Requests with many keys to hash.
fn spread_requests(proxy: &Proxy, units: usize) -> io::Result<()> {
    let mut stream = connect(proxy.http)?;
    (0..units).try_for_each(|unit| {
        let path = format!("/short/{:03}", unit % KEYS);
        exchange(proxy, &mut stream, &path, 128)
    })
}

/// Requests along routes all over the table.
fn routed_requests(proxy: &Proxy, units: usize) -> io::Result<()> {
    let mut stream = connect(proxy.http)?;
    (0..units).try_for_each(|unit| {
        let path = route(unit * 7_919 % ROUTES);
        exchange(proxy, &mut stream, &path, 128)
    })
}

fn exchange(
    proxy: &Proxy,
    stream: &mut (impl io::Read + io::Write),
    path: &str,
    bytes: usize,
) -> io::Result<()> {
    stream.write_all(request(path, "").as_bytes())?;
    read_answer(stream, bytes)?;
    proxy.settle()
}

/// Reads an answer with a body of this length.
fn read_answer(stream: &mut impl io::Read, body_bytes: usize) -> io::Result<()> {
    let mut answer = Vec::new();
    let mut bytes = [0; 64 << 10];
    loop {
        let count = stream.read(&mut bytes)?;
        if count == 0 {
            return Err(other("an answer was cut"));
        }
        answer.extend_from_slice(&bytes[..count]);
        let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
        if head.is_some_and(|head| answer.len() == head + 4 + body_bytes) {
            return expect_ok(&answer);
        }
    }
}

fn expect_ok(answer: &[u8]) -> io::Result<()> {
    if answer.starts_with(b"HTTP/1.1 200 ") {
        return Ok(());
    }
    let line = answer.split(|&byte| byte == b'\r').next().unwrap_or(answer);
    Err(other(format!("answered {}", String::from_utf8_lossy(line))))
}

fn http_connections(proxy: &Proxy, units: usize) -> io::Result<()> {
    for _ in 0..units {
        let mut stream = connect(proxy.http)?;
        proxy.settle()?;
        stream.write_all(request("/short", "Connection: close\r\n").as_bytes())?;
        expect_ok(&read_end(&mut stream)?)?;
        drop(stream);
        proxy.settle()?;
    }
    Ok(())
}

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// What its clients offer: a handshake is always a new one.
fn tls_config() -> io::Result<Arc<ClientConfig>> {
    let tls = Tls::new(Key::Ecdsa, Version::V13);
    let (config, _) = tls::client_config(tls).map_err(io::Error::other)?;
    Ok(config)
}

/// Connects and does the handshake, each step of which finds the proxy asleep.
fn connect_tls(proxy: &Proxy, config: &Arc<ClientConfig>) -> io::Result<TlsStream> {
    let mut stream = connect(proxy.http)?;
    proxy.settle()?;
    let name = ServerName::try_from(certificates::NAME).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
    while tls.is_handshaking() || tls.wants_write() {
        while tls.wants_write() {
            tls.write_tls(&mut stream)?;
        }
        proxy.settle()?;
        if tls.is_handshaking() {
            if tls.read_tls(&mut stream)? == 0 {
                return Err(other("a handshake was cut"));
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }
    Ok(StreamOwned::new(tls, stream))
}

fn tls_requests(proxy: &Proxy, units: usize, path: &str) -> io::Result<()> {
    let mut stream = connect_tls(proxy, &tls_config()?)?;
    (0..units).try_for_each(|_| exchange(proxy, &mut stream, path, body_bytes(path)))
}

fn tls_connections(proxy: &Proxy, units: usize) -> io::Result<()> {
    let config = tls_config()?;
    for _ in 0..units {
        let mut stream = connect_tls(proxy, &config)?;
        stream.write_all(request("/short", "Connection: close\r\n").as_bytes())?;
        expect_ok(&read_end(&mut stream)?)?;
        drop(stream);
        proxy.settle()?;
    }
    Ok(())
}
