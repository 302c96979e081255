//! Slow clients beside ordinary ones.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::Client;
use crate::config::Config;
use crate::harness::{End, Origin, Weir, eventually, observe, skip};
use crate::web::Web;

const SLOW: usize = 1_000;

/// For the slow clients, the ordinary ones and all tests beside this one.
const DESCRIPTORS: u64 = 4_096;

/// Bytes of weir for each slow client, at most.
const EACH_MAX: u64 = 4 * 1024;

/// Whether this process may open so many; says so where it may not.
fn may_open_descriptors() -> bool {
    let limits = getrlimit(Resource::Nofile);
    let hard = limits.maximum.unwrap_or(u64::MAX);
    if hard < DESCRIPTORS {
        skip(&format!(
            "ulimit -n is {hard} here, and {DESCRIPTORS} are needed"
        ));
        return false;
    }
    let current = limits.current.unwrap_or(u64::MAX).max(DESCRIPTORS);
    let raised = Rlimit {
        current: Some(current),
        maximum: limits.maximum,
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
    true
}

/// A client whose request never ends: a field at a time, or a byte at a time.
struct Dripping {
    client: Client,
    by_field: bool,
    sent: usize,
}

impl Dripping {
    fn new(weir: &Weir, by_field: bool) -> Self {
        let mut client = Client::new(weir);
        if by_field {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n");
        }
        Self {
            client,
            by_field,
            sent: 0,
        }
    }

    /// Sends its next piece. It may be answered and closed already.
    fn drip(&mut self) {
        const HEAD: &[u8] = b"GET /a/long/path/that/takes/its/time HTTP/1.1\r\nHost: a\r\nX: ";
        if self.by_field {
            self.client.0.send(format!("X-{}: 1\r\n", self.sent));
        } else {
            self.client.0.send([*HEAD.get(self.sent).unwrap_or(&b'1')]);
        }
        self.sent += 1;
    }

    /// Whether something has come for it.
    fn is_answered(&self) -> bool {
        let mut poll = [PollFd::new(self.client.0.peer().socket(), PollFlags::IN)];
        rustix::event::poll(&mut poll, Some(&Timespec::default())).expect("it is a socket") > 0
    }
}

/// Ordinary clients until they are told to stop: one on a kept connection, or one on a new one for
/// each request. How many answers they had and how long the slowest one took.
fn ask_until(stop: &AtomicBool, weir: &Weir, is_kept: bool) -> (usize, Duration) {
    let mut client = Client::new(weir);
    let (mut served, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::SeqCst) {
        let asked = Instant::now();
        if !is_kept {
            client = Client::new(weir);
        }
        assert_eq!(client.get("/").text(), "a");
        longest = longest.max(asked.elapsed());
        served += 1;
    }
    (served, longest)
}

/// Stops the ordinary clients even when the test fails, as they are waited for.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets them drip until each is answered. The most memory that weir had meanwhile.
fn drip_until_answered(weir: &Weir, mut slow: Vec<Dripping>) -> u64 {
    // Fewer than the fields that a head may have.
    const PIECES: usize = 90;
    let mut resident = 0;
    eventually("all slow clients are answered", || {
        slow.retain_mut(|dripping| {
            if dripping.is_answered() {
                assert_eq!(dripping.client.receive().status(), 408);
                dripping.client.expect_end();
                return false;
            }
            if dripping.sent < PIECES {
                dripping.drip();
            }
            true
        });
        resident = resident.max(weir.resident_bytes());
        observe(Duration::from_millis(25));
        slow.is_empty().then_some(())
    });
    resident
}

#[test]
fn clients_that_drip_their_heads_are_408_and_keep_nobody_from_being_served() {
    if !may_open_descriptors() {
        return;
    }
    let web = Web::named("a");
    let config = Config::pool([web.address()]).listener("timeouts: {header: 3s}");
    let weir = Weir::start(config);
    let before = weir.resident_bytes();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let stopping = Stop(&stop);
        let ordinary: Vec<_> = [true, true, true, false]
            .map(|is_kept| {
                let (stop, weir) = (&stop, &weir);
                scope.spawn(move || ask_until(stop, weir, is_kept))
            })
            .into();
        let slow = (0..SLOW).map(|n| Dripping::new(&weir, n % 2 == 0));
        let resident = drip_until_answered(&weir, slow.collect());
        drop(stopping);
        let (mut served, mut longest) = (0, Duration::ZERO);
        for client in ordinary {
            let (count, time) = client.join().expect("every ordinary client is served");
            served += count;
            longest = longest.max(time);
        }
        let each = resident.saturating_sub(before) / SLOW as u64;
        println!(
            "{SLOW} slow clients, {each} bytes each; {served} ordinary requests, longest {longest:?}"
        );
        assert!(served > 0);
        assert!(each < EACH_MAX, "{each} bytes for each slow client");
    });
}

#[test]
fn clients_that_drip_their_bodies_do_not_keep_others_from_being_served() {
    let web = Web::named("a");
    let weir = Weir::start(Config::pool([web.address()]));
    let mut slow: Vec<Client> = (0..50).map(|_| Client::new(&weir)).collect();
    let mut ordinary = Client::new(&weir);
    for client in &mut slow {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    }
    for byte in ["h", "e", "l", "l", "o"] {
        for client in &mut slow {
            client.send(byte);
        }
        for _ in 0..20 {
            assert_eq!(ordinary.get("/").text(), "a");
        }
    }
    for client in &mut slow {
        assert_eq!(client.receive().text(), "a");
    }
}

#[test]
fn a_client_that_stops_reading_is_not_shown_a_clean_end() {
    let body = "x".repeat(32 * 1024);
    let route = format!("prefix: /, respond: {{body: {body}}}");
    let config = Config::new()
        .route(&route)
        .listener("timeouts: {body: 300ms}");
    let weir = Weir::start(config);
    let before = weir.descriptors();
    let mut client = Client::new(&weir);
    eventually("it is accepted", || {
        (weir.descriptors() > before).then_some(())
    });
    // Few enough that weir reads them all at once, and answers that no kernel holds.
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(500));
    eventually("it is given up", || {
        (weir.descriptors() <= before).then_some(())
    });
    assert_eq!(client.end().1, End::Reset);
}

#[test]
fn an_answer_does_not_overtake_an_interim_one_that_waits_for_the_client() {
    const HINTS: usize = 4_000;
    let hint = format!(
        "HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n",
        "l".repeat(8_000)
    );
    let sent = Arc::new(AtomicUsize::new(0));
    let (line, count) = (hint.clone(), Arc::clone(&sent));
    let origin = Origin::new(move |peer| {
        for _ in 0..HINTS {
            peer.write_all(line.as_bytes())?;
            count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let weir = Weir::start(Config::pool([origin.address()]));
    let mut client = Client::new(&weir);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut last = 0;
    eventually("the client takes no more", || {
        let now = sent.load(Ordering::SeqCst);
        let is_stuck = now > 100 && now == std::mem::replace(&mut last, now);
        is_stuck.then_some(())
    });
    client.send("bad\n");
    let (bytes, _) = client.end();
    let mut rest = &bytes[..];
    while let Some(after) = rest.strip_prefix(hint.as_bytes()) {
        rest = after;
    }
    assert!(rest.starts_with(b"HTTP/1.1 400 "), "{}", rest.len());
}
