//! Crowds that make bytes wait, before a weir that has 16 MB: everybody is served, and no process
//! of weir dies or takes much of it.

#[allow(dead_code, unused_imports, reason = "other tests use the rest")]
#[path = "e2e/harness/mod.rs"]
mod harness;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::harness::{Launch, Weir};

const READERS: usize = 400;
const WRITERS: usize = 200;
const HEADS: usize = 2_000;

/// What the readers read, and how.
struct Files {
    bytes: usize,
    /// Of the receive buffer; the kernel has a least one.
    window_bytes: usize,
    /// Each as it comes, or one after the other once all others have been served.
    at_once: bool,
}

/// More than the kernel takes for a client that does not read.
const SHORT: Files = Files {
    bytes: 768 * 1024,
    window_bytes: 1,
    at_once: false,
};
const LONG: Files = Files {
    bytes: 8 << 20,
    window_bytes: 16 * 1024,
    at_once: true,
};
const UPLOAD_BYTES: usize = 20 * 1024;
const UPLOAD_PIECES: usize = 10;

/// The largest that any process of weir may have been, in bytes.
const RESIDENT_BYTES_MAX: u64 = 12_000_000;

/// Descriptors of this process: the crowds', and those of the origin.
const DESCRIPTORS: u64 = 4_096;

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn raise_descriptor_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: Some(DESCRIPTORS.max(getrlimit(Resource::Nofile).current.unwrap_or(0))),
        maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("a hard limit of 4,096 descriptors");
}

/// An origin with a thread for each connection: a long file, or `ok` once it has all of a body.
fn origin(file_bytes: usize) -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).expect("a port");
    // All of a crowd may come at once: who finds no room here tries again only a second later.
    socket.listen(4_096).expect("an address");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let builder = thread::Builder::new().stack_size(64 * 1024);
            let _ = builder.spawn(move || serve(stream, file_bytes));
        }
    });
    address
}

fn serve(stream: TcpStream, file_bytes: usize) -> std::io::Result<()> {
    let mut reader = BufReader::with_capacity(1024, stream.try_clone()?);
    let mut stream = stream;
    let file = vec![b'f'; 16 * 1024];
    loop {
        let (mut first, mut body) = (String::new(), 0);
        if reader.read_line(&mut first)? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if let Some(length) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                body = length.trim().parse().unwrap_or(0);
            }
            if line.trim().is_empty() {
                break;
            }
        }
        std::io::copy(&mut (&mut reader).take(body), &mut std::io::sink())?;
        if first.starts_with("GET /file ") {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {file_bytes}\r\n\r\n"
            )?;
            for _ in 0..file_bytes / file.len() {
                stream.write_all(&file)?;
            }
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
    }
}

fn client(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("weir listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream
}

/// A client with a small receive buffer.
fn narrow_client(address: SocketAddr, window_bytes: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket
        .set_recv_buffer_size(window_bytes)
        .expect("an option");
    socket.connect(&address.into()).expect("weir listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("an option");
    stream
}

/// The answer up to its end, as its length says; its status and how long its body is.
fn receive(stream: &mut TcpStream) -> (String, usize) {
    let mut reader = BufReader::with_capacity(16 * 1024, stream);
    let (mut status, mut length) = (String::new(), 0);
    reader.read_line(&mut status).expect("an answer");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let body = std::io::copy(&mut reader.take(length), &mut std::io::sink()).expect("a body");
    assert_eq!(body, length, "the body is whole");
    let status = status.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, usize::try_from(length).expect("it is short"))
}

/// The most that a process has had in memory, in bytes.
fn resident_bytes_max(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok())
        .expect("a number")
        * 1024
}

/// The process itself and its workers.
fn processes(weir: &Weir) -> Vec<u32> {
    let pid = weir.pid();
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).expect("it runs");
    let children = children
        .split_whitespace()
        .map(|it| it.parse().expect("an id"));
    children.chain([pid]).collect()
}

/// Reads the file from each, all at the same time.
fn read_all(readers: Vec<TcpStream>, bytes: usize) -> Vec<thread::JoinHandle<()>> {
    let read = |mut reader: TcpStream| {
        let builder = thread::Builder::new().stack_size(64 * 1024);
        let reading = move || assert_eq!(receive(&mut reader), ("200".to_owned(), bytes));
        builder.spawn(reading).expect("a thread")
    };
    readers.into_iter().map(read).collect()
}

/// The shell's `first` limits weir. One crowd at a time: several would want more descriptors than
/// this process may have.
fn crowds_are_served(more: &str, first: &str, files: &Files) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    raise_descriptor_limit();
    let origin = origin(files.bytes);
    // A slow machine may take longer than who sends slowly usually has. The log, which is shown
    // when this fails, tells why a request did.
    let config = format!(
        "listeners: [{{name: front, listen: \"127.0.0.1:0\", routes: [{{prefix: /, upstream: pool}}]}}]\n\
         upstreams: {{pool: {{backends: [\"{origin}\"]}}}}\n\
         timeouts: {{connect: 2m, header: 2m, upload: 2m, \
             send: 2m, response: 2m, response_idle: 2m}}\n\
         access_log: {{path: stdout, when: {{statuses: [\"400-599\"]}}}}\n\
         when_supervisor_dies: stop\n{more}"
    );
    let mut weir = Launch::new(config)
        .first(&format!("exec >&2; {first}"))
        .start();
    let address = weir.address();
    let before = processes(&weir);
    let expected = if more.contains("workers: 2") { 3 } else { 1 };
    assert_eq!(before.len(), expected);

    let mut readers: Vec<_> = (0..READERS)
        .map(|_| narrow_client(address, files.window_bytes))
        .collect();
    for reader in &mut readers {
        let ask = b"GET /file HTTP/1.1\r\nHost: a\r\n\r\n";
        reader.write_all(ask).expect("room to send");
    }
    let reading = files
        .at_once
        .then(|| read_all(readers.split_off(0), files.bytes));
    let mut writers: Vec<_> = (0..WRITERS).map(|_| client(address)).collect();
    for writer in &mut writers {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n");
        writer.write_all(head.as_bytes()).expect("room to send");
    }
    let mut heads: Vec<_> = (0..HEADS).map(|_| client(address)).collect();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: slow\r\nAccept: */*\r\n\r\n";
    let (piece, last) = (vec![b'w'; UPLOAD_BYTES / UPLOAD_PIECES], head.len() - 1);
    for part in 0..UPLOAD_PIECES {
        let cut = |part| last * part / UPLOAD_PIECES;
        for stream in &mut heads {
            let bytes = &head[cut(part)..cut(part + 1)];
            stream.write_all(bytes).expect("weir waits for the rest");
        }
        for stream in &mut writers {
            stream.write_all(&piece).expect("weir takes it");
        }
    }
    for stream in &mut heads {
        stream.write_all(&head[last..]).expect("weir waits for it");
    }
    for stream in heads.iter_mut().chain(&mut writers) {
        assert_eq!(receive(stream), ("200".to_owned(), 2));
    }
    for stream in &mut readers {
        // Only now does it read, and then without haste.
        let socket = socket2::SockRef::from(&*stream);
        socket.set_recv_buffer_size(64 * 1024).expect("an option");
    }
    for stream in &mut readers {
        assert_eq!(receive(stream), ("200".to_owned(), files.bytes));
    }
    for reader in reading.into_iter().flatten() {
        reader.join().expect("its file is whole");
    }
    assert_eq!(processes(&weir), before, "nobody has died");
    for pid in before {
        let bytes = resident_bytes_max(pid);
        assert!(bytes <= RESIDENT_BYTES_MAX, "{bytes} bytes");
    }
    assert!(weir.runs());
}

/// 16 MB of addresses, and what a program for tests has more than a release of 4 MB. `ulimit -v`
/// counts kilobytes.
fn addresses() -> String {
    let program = fs::metadata(harness::process::binary()).expect("it was built");
    let more = program.len().saturating_sub(4 << 20) / 1024;
    format!("ulimit -v {}", 16 * 1024 + more)
}

#[test]
fn one_process_with_16_mb_of_addresses() {
    crowds_are_served("", &addresses(), &SHORT);
}

#[test]
fn one_process_with_16_mb_of_addresses_that_copies() {
    crowds_are_served("splice: false\n", &addresses(), &SHORT);
}

#[test]
fn two_workers_with_16_mb_of_addresses_each() {
    crowds_are_served("workers: 2\n", &addresses(), &SHORT);
}

#[test]
fn two_workers_with_16_mb_of_addresses_each_that_copy() {
    crowds_are_served("workers: 2\nsplice: false\n", &addresses(), &SHORT);
}

/// What `auto` gives each of two in a control group of 16 MB: no process outgrows that.
#[test]
fn two_workers_with_a_megabyte_each() {
    let memory = "workers: 2\nbuffers: {memory: 1MiB}\n";
    crowds_are_served(memory, "true", &SHORT);
}

/// A control group (cgroups(7)) of 16 MB of its own, version 1 or 2.
struct Group(PathBuf);

impl Group {
    fn new() -> Self {
        let (home, limit) = [("memory", "memory.limit_in_bytes"), ("", "memory.max")]
            .map(|(home, limit)| (Path::new("/sys/fs/cgroup").join(home), limit))
            .into_iter()
            .find(|(home, _)| home.join("cgroup.procs").exists())
            .expect("control groups are mounted");
        let group = Self(home.join(format!("weir-test-{}", std::process::id())));
        fs::create_dir(&group.0).expect("root may make a group");
        fs::write(group.0.join(limit), "16000000").expect("memory is controlled");
        // Where swap is counted, there is none.
        for (limit, bytes) in [
            ("memory.swap.max", "0"),
            ("memory.memsw.limit_in_bytes", "16000000"),
        ] {
            let file = group.0.join(limit);
            if file.exists() {
                fs::write(file, bytes).expect("swap is controlled");
            }
        }
        group
    }

    fn enter(&self) -> String {
        format!("echo $$ > {}/cgroup.procs", self.0.display())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let gone = || fs::remove_dir(&self.0).ok();
        harness::eventually("the group is empty", gone);
    }
}

#[test]
#[ignore = "takes gigabytes through loopback and root's rights: part of make test-real"]
fn long_files_in_a_control_group_of_16_mb() {
    for more in [
        "",
        "splice: false\n",
        "workers: 2\n",
        "workers: 2\nsplice: false\n",
    ] {
        let group = Group::new();
        crowds_are_served(more, &group.enter(), &LONG);
    }
}

#[test]
#[ignore = "takes gigabytes through loopback: part of make test-real"]
fn long_files_with_16_mb_of_addresses() {
    for more in [
        "",
        "splice: false\n",
        "workers: 2\n",
        "workers: 2\nsplice: false\n",
    ] {
        crowds_are_served(more, &addresses(), &LONG);
    }
}
