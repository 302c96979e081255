//! Bytes go through unchanged, both ways, and each direction ends on its own.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::{Config, Gate, Origin, Peer, Signal, Weir, eventually};

const MIB: usize = 1024 * 1024;

/// The ways of moving bytes, which must not differ in what they deliver.
const WAYS: [&str; 2] = ["splice: false", "splice: true"];

/// Runs a script over a fresh connection, once for each of [`WAYS`].
fn each_way(script: impl Fn(Peer, Peer)) {
    for way in WAYS {
        let gate = Gate::new();
        let weir = Weir::start(Config::new().top(way).backend(gate.name()));
        let client = weir.connect();
        let backend = gate.accept();
        script(client, backend);
    }
}

#[test]
fn bytes_go_both_ways() {
    each_way(|mut client, mut backend| {
        client.send("ping");
        backend.expect("ping");
        backend.send("pong");
        client.expect("pong");
        client.send("again");
        backend.expect("again");
    });
}

#[test]
fn a_backend_may_speak_first() {
    each_way(|mut client, mut backend| {
        backend.send("220 ready");
        client.expect("220 ready");
    });
}

#[test]
fn a_request_that_ends_the_sending_direction_gets_its_full_response() {
    each_way(|mut client, mut backend| {
        client.send("request");
        client.finish();
        backend.expect("request");
        backend.expect_end();
        let sender = thread::spawn(move || backend.send_pattern(1, 3 * MIB));
        client.expect_pattern(1, 3 * MIB);
        sender.join().expect("the response is sent");
        client.expect_end();
    });
}

#[test]
fn a_backend_that_ends_its_sending_direction_still_gets_the_rest() {
    each_way(|mut client, mut backend| {
        backend.send("greeting");
        backend.finish();
        client.expect("greeting");
        client.expect_end();
        let sender = thread::spawn(move || client.send_pattern(2, 3 * MIB));
        backend.expect_pattern(2, 3 * MIB);
        sender.join().expect("the request is sent");
        backend.expect_end();
    });
}

#[test]
fn an_end_without_a_byte_goes_through() {
    each_way(|mut client, mut backend| {
        client.finish();
        backend.expect_end();
        backend.finish();
        client.expect_end();
    });
}

#[test]
fn a_client_that_has_sent_and_ended_before_it_is_accepted_is_served() {
    let gate = Gate::new();
    let weir = Weir::start(Config::new().backend(gate.name()));
    weir.freeze();
    let mut client = weir.connect();
    client.send("0123456789");
    client.finish();
    weir.thaw();
    let mut backend = gate.accept();
    backend.expect("0123456789");
    backend.expect_end();
    backend.send("answer");
    backend.finish();
    client.expect("answer");
    client.expect_end();
}

#[test]
fn a_session_leaves_nothing_open_behind_it() {
    let gate = Gate::new();
    let weir = Weir::start(Config::new().top("splice: true").backend(gate.name()));
    let before = weir.descriptors();
    for _ in 0..20 {
        let mut client = weir.connect();
        let mut backend = gate.accept();
        client.send("bye");
        client.finish();
        backend.expect("bye");
        backend.expect_end();
        backend.finish();
        client.expect_end();
    }
    // One socket waits for its next connection.
    eventually("all other descriptors are closed", || {
        (weir.descriptors() <= before + 1).then_some(())
    });
}

#[test]
fn single_bytes_arrive_in_order() {
    each_way(|mut client, mut backend| {
        for n in 0..=255_u8 {
            client.send([n]);
            backend.send([!n]);
        }
        backend.expect((0..=255_u8).collect::<Vec<_>>());
        client.expect((0..=255_u8).rev().collect::<Vec<_>>());
    });
}

#[test]
fn single_bytes_are_passed_on_one_by_one() {
    each_way(|mut client, mut backend| {
        for n in 0..=255_u8 {
            client.send([n]);
            backend.expect([n]);
            backend.send([n]);
            client.expect([n]);
        }
    });
}

#[test]
fn sixty_four_mib_go_both_ways_at_once_unchanged() {
    each_way(|mut client, mut backend| {
        let length = 64 * MIB;
        let (mut from_client, mut from_backend) = (client.share(), backend.share());
        thread::scope(|scope| {
            scope.spawn(move || {
                from_client.send_pattern(3, length);
                from_client.finish();
            });
            scope.spawn(move || {
                from_backend.send_pattern(4, length);
                from_backend.finish();
            });
            scope.spawn(move || {
                backend.expect_pattern(3, length);
                backend.expect_end();
            });
            client.expect_pattern(4, length);
            client.expect_end();
        });
    });
}

#[test]
fn many_sessions_at_once_do_not_mix() {
    let origin = Origin::echo();
    let weir = Weir::start(Config::new().backend(origin.address()));
    thread::scope(|scope| {
        for seed in 0..24 {
            let mut client = weir.connect();
            let mut sender = client.share();
            scope.spawn(move || {
                sender.send_pattern(seed, MIB);
                sender.finish();
            });
            scope.spawn(move || {
                client.expect_pattern(seed, MIB);
                client.expect_end();
            });
        }
    });
}

/// Sends a pattern and says how far it came.
fn start_sender(mut client: Peer, seed: u64, length: usize) -> Arc<AtomicU64> {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    thread::spawn(move || {
        let mut pattern = crate::harness::pattern::Pattern::new(seed);
        let mut chunk = vec![0; 256 * 1024];
        let mut left = length;
        while left > 0 {
            let part = left.min(chunk.len());
            pattern.fill(&mut chunk[..part]);
            if client.write_all(&chunk[..part]).is_err() {
                return;
            }
            counter.fetch_add(part as u64, Ordering::SeqCst);
            left -= part;
        }
        client.finish();
    });
    sent
}

/// Waits until a counter has not moved for half a second.
fn wait_still(counter: &AtomicU64) -> u64 {
    let mut last = counter.load(Ordering::SeqCst);
    eventually("the sender blocks", || {
        crate::harness::observe(Duration::from_millis(500));
        let now = counter.load(Ordering::SeqCst);
        let still = now == last && now > 0;
        last = now;
        still.then_some(now)
    })
}

#[test]
fn a_reader_that_does_not_read_stops_the_sender_and_costs_no_memory() {
    for way in WAYS {
        let gate = Gate::new();
        let weir = Weir::start(Config::new().top(way).backend(gate.name()));
        let resident = weir.resident_bytes();
        let client = weir.connect();
        let mut backend = gate.accept();
        let length = 256 * MIB;
        let sent = start_sender(client.share(), 5, length);
        let blocked_at = wait_still(&sent);
        assert!(
            blocked_at < 128 * MIB as u64,
            "{blocked_at} bytes were taken"
        );
        let grown = weir.resident_bytes().saturating_sub(resident);
        assert!(grown < 16 * MIB as u64, "memory grew by {grown} bytes");
        weir.expect_idle();
        backend.expect_pattern(5, length);
        backend.expect_end();
    }
}

#[test]
fn a_stalled_session_does_not_hold_up_another() {
    let gate = Gate::new();
    let weir = Weir::start(Config::new().backend(gate.name()));
    let stalled = weir.connect();
    let _stalled_backend = gate.accept();
    let sent = start_sender(stalled.share(), 6, 256 * MIB);
    wait_still(&sent);
    let mut client = weir.connect();
    let mut backend = gate.accept();
    client.send("ping");
    backend.expect("ping");
    backend.send("pong");
    client.expect("pong");
}

#[test]
fn an_endless_sender_does_not_starve_another_session() {
    let gate = Gate::new();
    let weir = Weir::start(Config::new().backend(gate.name()));
    let mut greedy = weir.connect();
    let mut sink = gate.accept();
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stop_sending, stop_reading) = (Arc::clone(&done), Arc::clone(&done));
    let sender = thread::spawn(move || {
        let chunk = vec![7; 256 * 1024];
        while !stop_sending.load(Ordering::SeqCst) && greedy.write_all(&chunk).is_ok() {}
    });
    let reader = thread::spawn(move || {
        use std::io::Read;
        let mut chunk = vec![0; 256 * 1024];
        while !stop_reading.load(Ordering::SeqCst) && sink.read(&mut chunk).is_ok() {}
    });
    let mut client = weir.connect();
    let mut backend = gate.accept();
    for _ in 0..200 {
        client.send("ping");
        backend.expect("ping");
        backend.send("pong");
        client.expect("pong");
    }
    done.store(true, Ordering::SeqCst);
    sender.join().expect("it stops");
    reader.join().expect("it stops");
}

#[test]
fn a_session_that_waits_uses_no_processor_time() {
    let gate = Gate::new();
    let weir = Weir::start(Config::new().backend(gate.name()));
    let mut client = weir.connect();
    let mut backend = gate.accept();
    // One direction has ended and the other waits: the state that a level would report for ever.
    client.send("x");
    client.finish();
    backend.expect("x");
    backend.expect_end();
    weir.expect_idle();
}

#[test]
fn signals_that_mean_nothing_change_nothing() {
    let gate = Gate::new();
    let mut weir = Weir::start(Config::new().backend(gate.name()));
    let mut client = weir.connect();
    let mut backend = gate.accept();
    for signal in [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::WINCH] {
        weir.signal(signal);
        client.send("ping");
        backend.expect("ping");
        backend.send("pong");
        client.expect("pong");
    }
    assert!(weir.runs());
}

#[test]
fn a_write_to_a_backend_that_has_gone_does_not_kill_the_process() {
    let gate = Gate::new();
    let mut weir = Weir::start(Config::new().backend(gate.name()));
    let mut client = weir.connect();
    let backend = gate.accept();
    drop(backend);
    client.expect_end();
    // The first of these meets a closed socket at the backend, which answers with a reset.
    let error = eventually("weir notices", || client.write_all(b"anyone?").err());
    assert!(matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    ));
    assert!(weir.runs());
}

#[test]
fn what_follows_urgent_data_is_not_left_behind() {
    for way in WAYS {
        let gate = Gate::new();
        let weir = Weir::start(Config::new().top(way).backend(gate.name()));
        let mut client = weir.connect();
        let mut backend = gate.accept();
        client.send("one");
        backend.expect("one");
        // All of it is there when weir reads, so that no other event tells of the rest.
        weir.freeze();
        client.send("two");
        client.socket().send_out_of_band(b"!").expect("sent");
        client.send("three");
        weir.thaw();
        // The urgent byte itself is not part of the stream.
        backend.expect("twothree");
    }
}
