//! An HTTP backend, and clients that count what they got.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::harness::{Origin, PATIENCE};

/// Answers requests without bodies with the status that their path names.
pub(crate) fn origin() -> Origin {
    Origin::new(|peer| {
        while let Some(head) = read_head(peer)? {
            let status = head.split([' ', '/']).nth(2).unwrap_or("500").to_owned();
            let answer = format!("HTTP/1.1 {status} -\r\nContent-Length: 2\r\n\r\nok");
            peer.write_all(answer.as_bytes())?;
        }
        Ok(())
    })
}

/// One head, with its body if that has two bytes; none at the end.
fn read_head(from: &mut impl Read) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if from.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// One request on a connection of its own or one that is there.
fn ask(kept: &mut Option<TcpStream>, to: SocketAddr, status: u16) -> io::Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(to)?,
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("GET /{status} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let head = read_head(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
    stream.read_exact(&mut [0; 2])?;
    *kept = Some(stream);
    Ok(())
}

/// So many requests, each of which is answered.
pub(crate) fn requests(to: SocketAddr, count: u64, status: u16) {
    let mut kept = None;
    for _ in 0..count {
        ask(&mut kept, to, status).expect("an answer");
    }
}

#[derive(Debug, Default)]
struct Counts {
    is_over: AtomicBool,
    begun: AtomicU64,
    answered: AtomicU64,
}

/// Clients that ask until they are told to stop.
pub(crate) struct Clients {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Clients {
    pub(crate) fn start(to: SocketAddr, clients: usize) -> Self {
        let counts = Arc::<Counts>::default();
        let client = || {
            let counts = Arc::clone(&counts);
            std::thread::spawn(move || {
                let mut kept = None;
                while !counts.is_over.load(Ordering::Acquire) {
                    counts.begun.fetch_add(1, Ordering::AcqRel);
                    // A worker may be killed at any moment, with what is in its hands.
                    if ask(&mut kept, to, 200).is_ok() {
                        counts.answered.fetch_add(1, Ordering::AcqRel);
                    }
                }
            })
        };
        let threads = (0..clients).map(|_| client()).collect();
        Self { counts, threads }
    }

    /// Requests begun and answered so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let answered = self.counts.answered.load(Ordering::Acquire);
        (self.counts.begun.load(Ordering::Acquire), answered)
    }

    pub(crate) fn finish(mut self) -> (u64, u64) {
        self.end();
        self.counts()
    }

    fn end(&mut self) {
        self.counts.is_over.store(true, Ordering::Release);
        let threads = self.threads.drain(..);
        let is_well = threads.map(JoinHandle::join).all(|it| it.is_ok());
        if !std::thread::panicking() {
            assert!(is_well, "a client got a wrong answer");
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.end();
    }
}
