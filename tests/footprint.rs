//! What moving bytes and serving requests may cost: no allocation once warm, and small tables.

#![allow(
    unsafe_code,
    reason = "an allocator can only be counted from within one"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use weir::board::Board;
use weir::config;
use weir::core::backend::{BackendId, Backends, NewBackend, PoolId};
use weir::core::balance::{Algorithm, Ask, Balancer};
use weir::core::health::{Health, Verdict};
use weir::core::time::Tick;
use weir::reactor::Reactor;
use weir::sys::socket;
use weir::worker::{Start, Worker};

/// Counts allocations while it is told to.
struct Counting;

thread_local! {
    /// Of each thread, as tests run beside each other.
    static IS_COUNTING: Cell<bool> = const { Cell::new(false) };
    /// Bytes that this thread has taken and not given back.
    static HELD: Cell<usize> = const { Cell::new(0) };
}
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_COUNTING.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        HELD.set(HELD.get().wrapping_add(layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Longest session that the table may hold, in bytes.
const SESSION_BYTES_MAX: usize = 272;
/// Longest backend connection, in bytes. An idle TCP client takes both.
const CONNECTION_BYTES_MAX: usize = 48;

/// What an upstream may keep of each backend for the sake of its picks, in bytes.
const PICK_BYTES_MAX: usize = 48;
/// What of that stands with the backend (its membership), and where loads of other processes are
/// told.
const PICK_BYTES_ELSEWHERE: usize = 12 + 4;

/// Rounds before counting, and rounds that are counted.
const WARM_UP: usize = 50;
const COUNTED: usize = 200;

/// A worker in front of one backend, and where it listens.
fn worker(mode: &str, backend: SocketAddr) -> (Worker<Reactor>, SocketAddr) {
    let text = format!(
        "stats_interval: 0\nlisteners:\n  - {{name: front, listen: \"127.0.0.1:0\", {mode}}}\n\
         upstreams:\n  pool: {{backends: [\"{backend}\"]}}\n"
    );
    let compiled = config::compile("test", &text, &mut |_| {
        Err(std::io::ErrorKind::NotFound.into())
    });
    let config = compiled.expect("a good configuration").config;
    let settings = &config.listeners[0];
    let listener = socket::listen(&settings.address, settings.backlog, None).expect("a port");
    let address = listener.local_address().expect("an address");
    let net = Reactor::new().expect("an event queue");
    let start = Start {
        now: net.now(),
        net,
        board: Board::private().expect("memory"),
        connections_max_default: 100,
    };
    let worker = Worker::new(start, config, vec![listener]).expect("a worker");
    (worker, address)
}

/// One exchange: the client sends, the backend answers, the worker runs in between.
fn round(worker: &mut Worker<Reactor>, from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let mut space = [0; 4096];
    from.write_all(bytes).expect("room to send");
    to.set_nonblocking(true).expect("an option");
    for _ in 0..10_000 {
        turn(worker);
        match to.read(&mut space) {
            Ok(count) => {
                assert!(count > 0, "the connection goes on");
                return;
            }
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    panic!("nothing arrived");
}

/// A turn in which allocations count. It never waits: there is an event, or the caller looks
/// again.
fn turn(worker: &mut Worker<Reactor>) {
    IS_COUNTING.set(true);
    let turned = worker.turn();
    IS_COUNTING.set(false);
    turned.expect("a turn");
}

/// Accepts the backend connection that the worker makes.
fn backend_side(worker: &mut Worker<Reactor>, origin: &TcpListener) -> TcpStream {
    origin.set_nonblocking(true).expect("an option");
    for _ in 0..10_000 {
        turn(worker);
        if let Ok((stream, _)) = origin.accept() {
            return stream;
        }
    }
    panic!("no connection was made");
}

#[test]
fn a_warm_worker_allocates_nothing() {
    for (mode, ask, answer) in [
        ("mode: tcp, upstream: pool", "x".repeat(128), "y".repeat(128)),
        (
            "routes: [{prefix: /, upstream: pool}]",
            "GET /path?a=b HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n"
                .to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        ),
    ] {
        let origin = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (mut worker, address) = worker(mode, origin.local_addr().expect("an address"));
        let mut client = TcpStream::connect(address).expect("a connection");
        client.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
        client.write_all(ask.as_bytes()).expect("room to send");
        let mut backend = backend_side(&mut worker, &origin);
        let mut is_first = true;
        for n in 0..WARM_UP + COUNTED {
            if n == WARM_UP {
                ALLOCATIONS.store(0, Ordering::Relaxed);
            }
            let sent: &[u8] = if is_first { b"" } else { ask.as_bytes() };
            is_first = false;
            round(&mut worker, &mut client, &mut backend, sent);
            round(&mut worker, &mut backend, &mut client, answer.as_bytes());
        }
        assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), 0, "allocations with {mode}");
        worker.stop();
    }
}

#[test]
fn tables_are_small() {
    let (session, connection) = (
        Worker::<Reactor>::session_bytes(),
        Worker::<Reactor>::connection_bytes(),
    );
    assert!(
        session <= SESSION_BYTES_MAX,
        "a session takes {session} bytes"
    );
    assert!(
        connection <= CONNECTION_BYTES_MAX,
        "a backend connection takes {connection} bytes"
    );
}

/// What a balancer over backends of these weights in turn keeps of each, in bytes, once it has
/// picked some.
fn pick_bytes(algorithm: Algorithm, count: usize, weights: &[u32]) -> usize {
    let mut backends = Backends::new();
    let members: Vec<BackendId> = (0..count)
        .map(|number| {
            backends.insert(NewBackend {
                identity: format!("10.0.0.1:{number}"),
                weight: weights[number % weights.len()],
                connections_max: None,
                health: Health::new(Verdict::Up, Tick::default()),
            })
        })
        .collect();
    let before = HELD.get();
    let mut balancer = Balancer::new(algorithm, 1, PoolId(0));
    balancer.adopt(&members, &mut backends);
    let leases: Vec<_> = (0..100)
        .map(|key| {
            let ask = Ask {
                key,
                is_bound: false,
                tried: &[],
                even_if_down: false,
                turn: Some(key),
            };
            let picked = balancer.pick(&members, &mut backends, &ask);
            backends.take(picked.expect("a backend"))
        })
        .collect();
    let held = HELD.get() - before - leases.capacity() * size_of_val(&leases[0]);
    leases
        .into_iter()
        .for_each(|lease| backends.give_back(lease));
    held.div_ceil(count) + PICK_BYTES_ELSEWHERE
}

#[test]
fn picks_take_little_memory_for_each_backend() {
    let algorithms = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::RandomTwo,
        Algorithm::Hash,
    ];
    let of_many: Vec<u32> = (1..=100).collect();
    for algorithm in algorithms {
        for count in [1000, 1024, 1025, 2049, 4000, 4096, 4097, 10_000] {
            for weights in [&[1][..], &[1, 2, 3], &of_many] {
                let bytes = pick_bytes(algorithm, count, weights);
                println!("{algorithm:?} {count} {} {bytes}", weights.len());
                assert!(
                    bytes <= PICK_BYTES_MAX,
                    "{algorithm:?} of {count} with {} weights: {bytes}",
                    weights.len()
                );
            }
        }
    }
}
