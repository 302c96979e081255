//! The bill that `weir -t` makes of a file is not passed by clients that cost all they may, and is
//! no fantasy either.

use std::fs;
use std::io::Write as _;

use crate::edge::{Check, file};
use crate::harness::{Launch, Origin, Scratch, eventually};
use crate::machine::{Machine, descriptors, status};

/// More than the kernel takes for a client that does not read.
const ANSWER_BYTES: usize = 2 << 20;
/// What is billed is at most so many times what such clients make of it. A client may hold memory
/// as one that shakes hands or as one that waits, and is billed for both.
const MEMORY_EXCESS_MAX: u64 = 4;
const DESCRIPTORS_EXCESS_MAX: usize = 2;

/// What `weir -t` says that a file costs at most.
#[derive(Debug)]
struct Bill {
    memory_kib: u64,
    processes: usize,
    clients: usize,
    /// Of each worker.
    descriptors: usize,
}

impl Bill {
    fn of(launch: Launch) -> Self {
        let mut told = launch.argument("-t").spawn();
        assert_eq!(told.wait_exit(), Some(0));
        let line = told.log.wait(&["at most ", " of memory"]);
        let words: Vec<&str> = line.split([' ', ',', ';']).collect();
        let before = |unit: &str| {
            let place = words.iter().position(|word| word.starts_with(unit));
            let number = place.and_then(|it| words.get(it - 1)?.parse::<f64>().ok());
            number.unwrap_or_else(|| panic!("{unit}: {line}"))
        };
        let count = |unit: &str| format!("{}", before(unit)).parse().expect("a whole number");
        let kib = format!("{:.0}", before("MiB") * 1024.0);
        Self {
            memory_kib: kib.parse().expect("a whole number"),
            processes: count("process"),
            clients: count("client"),
            descriptors: count("descriptor"),
        }
    }
}

/// Memory of these processes that is their own or shared by them, in KiB, without pages of files,
/// which the kernel can read again: of a program for tests these are many.
fn memory_kib(processes: &[u32]) -> u64 {
    let of = |pid: u32, key: &str| {
        let words = status(pid, key);
        let number = words.trim_end_matches(" kB").parse::<u64>();
        number.expect("a number of KiB")
    };
    let own = processes.iter().map(|pid| of(*pid, "RssAnon:"));
    let shared = processes.iter().map(|pid| of(*pid, "RssShmem:"));
    own.sum::<u64>() + shared.max().unwrap_or_default()
}

/// A tenth of the clients have sent a part of a head, another one of their handshake where there is
/// one, and the others do not read what they have asked for.
///
/// `LISTEN` is where `config` has them.
fn is_kept(config: &str, is_encrypted: bool) {
    let scratch = Scratch::new();
    let path = scratch.file("front.sock").display().to_string();
    let config = config.replace("LISTEN", &format!("unix:{path}"));
    let launch = || {
        let launch = Launch::new(&config).open_to_all().limits("-n 1024");
        // Beside it is the admin door.
        launch.argument("-p").argument(scratch.file("pid"))
    };
    let bill = Bill::of(launch());
    let machine = Machine::launch(launch());
    let children = machine.children();
    let mut processes = children.clone();
    processes.extend(machine.attendant());
    processes.push(machine.pid());
    assert_eq!(processes.len(), bill.processes);
    let workers = match children.as_slice() {
        [] => vec![machine.pid()],
        children => children.to_vec(),
    };

    let (heads, hellos) = (
        bill.clients / 10,
        bill.clients / 10 * usize::from(is_encrypted),
    );
    let readers = bill.clients - heads - hellos;
    let is = usize::from(is_encrypted);
    let mut clients = Check::start("debtors", &[&path, &is, &readers, &heads, &hellos]);
    clients.expect("held");
    let held = |pid: &u32| {
        let is_readable = fs::read_dir(format!("/proc/{pid}/fd")).is_ok();
        is_readable.then(|| descriptors(*pid))
    };
    // Whoever holds keys shows its descriptors to root alone.
    assert!(is_encrypted || workers.iter().all(|pid| held(pid).is_some()));
    let used = eventually("they cost what was billed, nearly", || {
        let memory_kib = memory_kib(&processes);
        assert!(memory_kib <= bill.memory_kib, "{memory_kib} KiB: {bill:?}");
        let descriptors: Vec<usize> = workers.iter().filter_map(held).collect();
        let most = descriptors.iter().copied().max();
        assert!(
            most.unwrap_or_default() <= bill.descriptors,
            "{descriptors:?}: {bill:?}"
        );
        let sum: usize = descriptors.iter().sum();
        let is_dear = memory_kib * MEMORY_EXCESS_MAX >= bill.memory_kib
            && (descriptors.is_empty() || sum * DESCRIPTORS_EXCESS_MAX >= bill.descriptors);
        is_dear.then_some((memory_kib, descriptors))
    });
    println!("{used:?} of {bill:?}");
    clients.say("go");
    clients.finish();
}

/// An origin whose answers are long.
fn files() -> Origin {
    let body = vec![b'f'; ANSWER_BYTES];
    Origin::new(move |peer| {
        loop {
            while !peer.read_line()?.trim_end().is_empty() {}
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {ANSWER_BYTES}\r\n\r\n");
            let mut stream = &**peer.socket();
            stream.write_all(head.as_bytes())?;
            stream.write_all(&body)?;
        }
    })
}

/// Nobody is turned away while it is looked at.
const PATIENT: &str = "timeouts: {header: 2m, handshake: 2m, keep_alive: 2m, send: 2m, drain: 1s}";

#[test]
fn the_gateway_for_32_mb_costs_no_more_than_its_file_says() {
    let origin = files();
    let config = include_str!("../../conf/gateway.yaml");
    let impatient = config.lines().find(|line| line.starts_with("timeouts:"));
    let changes = [
        (impatient.expect("it has some"), PATIENT.to_owned()),
        ("name: https", "name: front".to_owned()),
        ("\":80\"", "127.0.0.1:0".to_owned()),
        ("\":443\"", "LISTEN".to_owned()),
        ("site.pem", file("site.pem").display().to_string()),
        ("site.key", file("site.key").display().to_string()),
        ("192.168.1.10:8123", origin.address().to_string()),
        ("192.168.1.11:80", origin.address().to_string()),
    ];
    let config = changes
        .iter()
        .fold(config.to_owned(), |config, (from, to)| {
            assert!(config.contains(from), "{from}");
            config.replace(from, to)
        });
    is_kept(&config, true);
}

#[test]
fn several_workers_cost_no_more_than_was_said() {
    let origin = files();
    let config = format!(
        "workers: 2\nmax_connections: 300\nbuffers: {{size: 16KiB, memory: 2MiB}}\n{PATIENT}\n\
         listeners: [{{name: front, listen: \"LISTEN\", mode: http, upstream: pool}}]\n\
         upstreams: {{pool: {{backends: [\"{}\"]}}}}\n",
        origin.address()
    );
    is_kept(&config, false);
}
